//! Dates and timestamps: the begin of the unit in which they lie.
//!
//! In text only ISO 8601 is read, which is PostgreSQL's default DateStyle. Timestamps with time zone
//! are truncated in UTC in both formats: the offset in a text would say in which half of the year
//! it was.

use super::Rewritten;
use super::kind::Kind;
use super::text::append;
use crate::postgres::frontend::Format;
use crate::wire::{Malformed, Reader};

/// A unit of time, finest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    Hour,
    Day,
    Month,
    Year,
}

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// Days from 1970-01-01, where the calendar below counts from, to 2000-01-01, where PostgreSQL does.
const EPOCH_DAYS: i64 = 10_957;

/// First day that PostgreSQL has: 4714-11-24 BC.
const FIRST_DAY: i64 = -2_451_545;

/// The day behind the last that we read: 294277-01-01, PostgreSQL's `TIMESTAMP_END_JULIAN`.
///
/// Its dates go on to the year 5,874,897, of which microseconds do not fit 64 bits.
const END_DAY: i64 = 106_751_983;

/// Appends the begin of the unit in which a value lies. What is infinite stays.
///
/// # Errors
/// It is not a value of the type, or a text in another DateStyle.
pub(super) fn truncate(
    value: &[u8],
    kind: Kind,
    format: Format,
    unit: Unit,
    out: &mut Vec<u8>,
) -> Result<Rewritten, Malformed> {
    let Some(instant) = read(value, kind, format)? else {
        return Ok(Rewritten::Unchanged);
    };
    write(begin(instant, unit), kind, format, out)?;
    Ok(Rewritten::Value)
}

/// Appends an operator's date or timestamp; `None` where it is none.
pub(super) fn write_fixed(text: &str, kind: Kind, format: Format, out: &mut Vec<u8>) -> Option<()> {
    let instant = parse(text.as_bytes(), kind)?;
    write(instant, kind, format, out).ok()
}

/// The first microsecond of the unit.
fn begin(instant: i64, unit: Unit) -> i64 {
    let day = instant.div_euclid(DAY);
    match unit {
        Unit::Hour => instant - instant.rem_euclid(HOUR),
        Unit::Day => day * DAY,
        Unit::Month | Unit::Year => {
            let (year, month, _) = civil(day);
            let month = if unit == Unit::Year { 1 } else { month };
            day_of(year, month, 1).max(FIRST_DAY) * DAY
        }
    }
}

/// Microseconds since 2000-01-01, in UTC where the type has a time zone; `None` for infinity.
fn read(value: &[u8], kind: Kind, format: Format) -> Result<Option<i64>, Malformed> {
    if format == Format::Text {
        if matches!(value, b"infinity" | b"-infinity") {
            return Ok(None);
        }
        return parse(value, kind).map(Some).ok_or(Malformed::NotText);
    }
    let mut reader = Reader::new(value);
    let instant = if kind == Kind::Date {
        match reader.i32()? {
            i32::MAX | i32::MIN => None,
            day => Some(i64::from(day).saturating_mul(DAY)),
        }
    } else {
        match i64::from_be_bytes(reader.array()?) {
            i64::MAX | i64::MIN => None,
            instant => Some(instant),
        }
    };
    reader.finish()?;
    match instant {
        Some(instant) if !(FIRST_DAY * DAY..END_DAY * DAY).contains(&instant) => {
            Err(Malformed::NotText)
        }
        instant => Ok(instant),
    }
}

fn write(instant: i64, kind: Kind, format: Format, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let day = instant.div_euclid(DAY);
    if format == Format::Binary {
        if kind == Kind::Date {
            let day = i32::try_from(day).map_err(|_| Malformed::NotText)?;
            out.extend_from_slice(&day.to_be_bytes());
        } else {
            out.extend_from_slice(&instant.to_be_bytes());
        }
        return Ok(());
    }
    let (year, month, date) = civil(day);
    let (year, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    let time = instant.rem_euclid(DAY);
    let (seconds, fraction) = (time / 1_000_000, time % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let zone = if kind == Kind::TimestampTz { "+00" } else { "" };
    append(format_args!("{year:04}-{month:02}-{date:02}"), out);
    if kind != Kind::Date {
        append(format_args!(" {hour:02}:{minute:02}:{second:02}"), out);
        if fraction > 0 {
            append(format_args!(".{fraction:06}"), out);
        }
        out.extend_from_slice(zone.as_bytes());
    }
    out.extend_from_slice(era.as_bytes());
    Ok(())
}

/// Reads `2024-05-06[ 07:08:09[.123][+02[:30[:15]]]][ BC]`.
fn parse(text: &[u8], kind: Kind) -> Option<i64> {
    let (text, is_bc) = match text.strip_suffix(b" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let mut rest = text;
    let year = number(&mut rest, 4..=6)?;
    separator(&mut rest, b'-')?;
    let month = number(&mut rest, 2..=2)?;
    separator(&mut rest, b'-')?;
    let date = number(&mut rest, 2..=2)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&date) {
        return None;
    }
    let year = if is_bc { 1 - year } else { year };
    let day = day_of(year, month, date);
    if !(FIRST_DAY..END_DAY).contains(&day) || civil(day) != (year, month, date) {
        return None;
    }
    if kind == Kind::Date {
        return rest.is_empty().then_some(day * DAY);
    }
    let time = if rest.is_empty() {
        0
    } else {
        separator(&mut rest, b' ')?;
        time(&mut rest)?
    };
    let offset = match (kind, rest) {
        (_, []) => 0,
        (Kind::TimestampTz, _) => offset(&mut rest)?,
        _ => return None,
    };
    rest.is_empty().then_some(day * DAY + time - offset)
}

fn time(rest: &mut &[u8]) -> Option<i64> {
    let hour = number(rest, 2..=2)?;
    separator(rest, b':')?;
    let minute = number(rest, 2..=2)?;
    separator(rest, b':')?;
    let second = number(rest, 2..=2)?;
    let mut time = ((hour * 60 + minute) * 60 + second) * 1_000_000;
    if separator(rest, b'.').is_some() {
        let before = rest.len();
        let fraction = number(rest, 1..=6)?;
        let missing = 6_usize.checked_sub(before - rest.len())?;
        time += fraction * 10_i64.pow(u32::try_from(missing).ok()?);
    }
    (hour <= 24 && minute < 60 && second <= 60).then_some(time)
}

/// Microseconds east of UTC.
fn offset(rest: &mut &[u8]) -> Option<i64> {
    let sign = match rest.split_first()? {
        (b'+', behind) => {
            *rest = behind;
            1
        }
        (b'-', behind) => {
            *rest = behind;
            -1
        }
        _ => return None,
    };
    let mut offset = number(rest, 2..=2)? * 3600;
    for unit in [60, 1] {
        if separator(rest, b':').is_none() {
            break;
        }
        offset += number(rest, 2..=2)? * unit;
    }
    Some(sign * offset * 1_000_000)
}

fn separator(rest: &mut &[u8], expected: u8) -> Option<()> {
    let (first, behind) = rest.split_first()?;
    (*first == expected).then(|| *rest = behind)
}

/// Takes a number of so many digits off the front.
fn number(rest: &mut &[u8], digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !digits.contains(&count) {
        return None;
    }
    let (number, behind) = rest.split_at_checked(count)?;
    *rest = behind;
    let digit = |sum: i64, byte: &u8| sum * 10 + i64::from(byte - b'0');
    Some(number.iter().fold(0, digit))
}

/// Days since 2000-01-01 of a date of the proleptic Gregorian calendar; year 0 is 1 BC.
///
/// The algorithm is `days_from_civil` of Howard Hinnant's "chrono-Compatible Low-Level Date
/// Algorithms".
fn day_of(year: i64, month: i64, date: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + date - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468 - EPOCH_DAYS
}

/// Year, month and date of a day; `civil_from_days` of the same document.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + EPOCH_DAYS + 719_468;
    let era = day.div_euclid(146_097);
    let day_of_era = day.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let date = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, date)
}
