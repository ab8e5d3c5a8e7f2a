//! The pages of the console, one file for each part of the site.

mod approvals;
mod explain;
mod health;
mod moments;
mod revocations;
mod sessions;

use std::time::{Duration, UNIX_EPOCH};

pub(super) use approvals::{approval, approvals, approve, deny, pending, pulse};
pub(super) use explain::{explain, explained};
pub(super) use health::health;
pub(super) use revocations::{kill, lift, revocations, revoke};
pub(super) use sessions::{session, sessions};

/// The last second that has a form, in microseconds since 1970: of the year 9999.
const LAST_MICROS: u64 = 253_402_300_799_000_000;

/// Microseconds since 1970 as date and time.
fn date(unix_micros: u64) -> String {
    let text = rfc3339(unix_micros);
    let seconds = text.get(..19).unwrap_or(&text);
    format!("{} UTC", seconds.replace('T', " "))
}

/// Microseconds since 1970 as time of day, to the millisecond.
fn clock(unix_micros: u64) -> String {
    rfc3339(unix_micros)
        .get(11..23)
        .unwrap_or_default()
        .to_owned()
}

fn rfc3339(unix_micros: u64) -> String {
    let time = Duration::from_micros(unix_micros.min(LAST_MICROS));
    humantime::format_rfc3339_micros(UNIX_EPOCH + time).to_string()
}

/// A number of seconds as people say it.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        86400.. => format!("{} d {:02} h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        let at = 1_800_000_000_123_456;
        assert_eq!(date(at), "2027-01-15 08:00:00 UTC");
        assert_eq!(clock(at), "08:00:00.123");
        assert_eq!(date(u64::MAX), "9999-12-31 23:59:59 UTC");
    }

    #[test]
    fn spans_have_two_units_at_most() {
        let spans = [0, 59, 60, 3599, 3600, 86399, 86400, 1_000_000].map(span);
        assert_eq!(
            spans,
            [
                "0 s",
                "59 s",
                "1 min 00 s",
                "59 min 59 s",
                "1 h 00 min",
                "23 h 59 min",
                "1 d 00 h",
                "11 d 13 h"
            ]
        );
    }
}
