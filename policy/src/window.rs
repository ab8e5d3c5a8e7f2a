//! When a rule is about: days and hours in a time zone.
//!
//! Holds no clock: the time is an argument. The rules of time zones are compiled in.

use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{TimeZone, db};

/// Words of `days`, Monday first.
pub(crate) const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Days beyond which a window has surely changed, when it changes at all.
const DAYS_AHEAD: i64 = 9;

/// Recurring stretches of time: on some days of the week, the same hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// By days since Monday.
    days: [bool; 7],
    /// Minutes of the day: from `start` up to, and without, `end`. Where `end` is not behind
    /// `start`, it is on the next day.
    start: u16,
    end: u16,
    zone: TimeZone,
}

/// Why hours are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HoursProblem {
    #[error("expected hours such as `08:00-18:00`")]
    Unreadable,
    #[error("the hours are empty: they begin when they end")]
    Empty,
}

/// Minutes of the day, start and end; the end may be 24:00.
pub(crate) fn hours(text: &str) -> Result<(u16, u16), HoursProblem> {
    let (start, end) = text.split_once('-').ok_or(HoursProblem::Unreadable)?;
    let start = minute(start).filter(|minute| *minute < DAY);
    let (Some(start), Some(end)) = (start, minute(end)) else {
        return Err(HoursProblem::Unreadable);
    };
    if start == end {
        return Err(HoursProblem::Empty);
    }
    Ok((start, end))
}

/// `HH:MM`, up to 24:00.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    if !two_digits(hour) || !two_digits(minute) {
        return None;
    }
    let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= DAY).then_some(minutes)
}

/// The zone of that name in the database of time zones.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    db().get(name).ok()
}

/// The names of all zones.
pub(crate) fn zones() -> Vec<String> {
    db().available().map(|name| name.to_string()).collect()
}

impl Window {
    /// `hours` as [`hours`] reads them.
    pub(crate) fn new(days: [bool; 7], hours: (u16, u16), zone: TimeZone) -> Self {
        let (start, end) = hours;
        Self {
            days,
            start,
            end,
            zone,
        }
    }

    pub(crate) fn whole_day() -> (u16, u16) {
        (0, DAY)
    }

    /// Whether the time is in it. Seconds since the Unix epoch; one beyond what a calendar says is
    /// in none.
    pub(crate) fn contains(&self, unix_time: u64) -> bool {
        timestamp(unix_time).is_some_and(|time| self.contains_time(time))
    }

    fn contains_time(&self, time: Timestamp) -> bool {
        let local = self.zone.to_datetime(time);
        let minute =
            u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let on = |day: Weekday| {
            let index = usize::from(day.to_monday_zero_offset().unsigned_abs());
            self.days.get(index).copied().unwrap_or(false)
        };
        let today = on(local.weekday());
        if self.start < self.end {
            return today && (self.start..self.end).contains(&minute);
        }
        (today && minute >= self.start) || (on(local.weekday().previous()) && minute < self.end)
    }

    /// When it next opens or closes; `None` for one that never does.
    pub(crate) fn next_change(&self, unix_time: u64) -> Option<u64> {
        let now = timestamp(unix_time)?;
        let is_open = self.contains_time(now);
        let mut candidates = self.candidates(now);
        candidates.retain(|time| *time > now);
        candidates.sort();
        let change = candidates
            .into_iter()
            .find(|time| self.contains_time(*time) != is_open)?;
        u64::try_from(change.as_second()).ok()
    }

    /// Every moment at which it may open or close in the days ahead: its edges as clocks show
    /// them, and where clocks are set forward or back.
    fn candidates(&self, now: Timestamp) -> Vec<Timestamp> {
        let today = self.zone.to_datetime(now).date();
        let mut candidates = Vec::new();
        for day in -1..=DAYS_AHEAD {
            let Ok(date) = today.checked_add(jiff::Span::new().days(day)) else {
                continue;
            };
            for minute in [self.start, self.end] {
                candidates.extend(self.moments(date, minute));
            }
        }
        let ahead = jiff::SignedDuration::from_hours(24 * DAYS_AHEAD);
        let until = now.checked_add(ahead).unwrap_or(Timestamp::MAX);
        let jumps = self.zone.following(now);
        candidates.extend(
            jumps
                .map(|jump| jump.timestamp())
                .take_while(|time| *time <= until),
        );
        candidates
    }

    /// When clocks show that minute of that day: twice, where they are set back over it.
    fn moments(&self, date: Date, minute: u16) -> impl Iterator<Item = Timestamp> {
        let (date, minute) = if minute == DAY {
            (date.tomorrow().unwrap_or(date), 0)
        } else {
            (date, minute)
        };
        let time = i8::try_from(minute / 60)
            .ok()
            .zip(i8::try_from(minute % 60).ok())
            .and_then(|(hour, minute)| Time::new(hour, minute, 0, 0).ok())
            .unwrap_or(Time::MIN);
        let moment = date.to_datetime(time);
        let both = [
            self.zone.to_ambiguous_timestamp(moment).earlier(),
            self.zone.to_ambiguous_timestamp(moment).later(),
        ];
        both.into_iter().filter_map(Result::ok)
    }
}

fn timestamp(unix_time: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(unix_time).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> u64 {
        let time: Timestamp = text.parse().unwrap();
        u64::try_from(time.as_second()).unwrap()
    }

    fn window(days: &[&str], hours_of: &str, zone_of: &str) -> Window {
        Window::new(
            DAYS.map(|day| days.is_empty() || days.contains(&day)),
            hours(hours_of).unwrap(),
            zone(zone_of).unwrap(),
        )
    }

    #[test]
    fn hours_are_from_one_minute_up_to_another() {
        assert_eq!(hours("08:00-18:30"), Ok((480, 1110)));
        assert_eq!(hours("22:00-06:00"), Ok((1320, 360)));
        assert_eq!(hours("00:00-24:00"), Ok((0, 1440)));
        assert_eq!(hours("08:00-08:00"), Err(HoursProblem::Empty));
        for text in [
            "",
            "8-18",
            "8:00-18:00",
            "08:00",
            "08:60-09:00",
            "24:00-01:00",
            "08:00-24:01",
            "+8:00-18:00",
            "08:00-18:00-20:00",
        ] {
            assert_eq!(hours(text), Err(HoursProblem::Unreadable), "{text}");
        }
    }

    #[test]
    fn a_window_is_open_from_its_start_to_before_its_end_on_its_days() {
        let office = window(&["mon", "fri"], "08:00-18:00", "UTC");
        // 2026-11-23 is a Monday.
        for (at, expected) in [
            ("2026-11-23T07:59:59Z", false),
            ("2026-11-23T08:00:00Z", true),
            ("2026-11-23T17:59:59Z", true),
            ("2026-11-23T18:00:00Z", false),
            ("2026-11-24T12:00:00Z", false),
            ("2026-11-27T12:00:00Z", true),
        ] {
            assert_eq!(office.contains(time(at)), expected, "{at}");
        }
        assert!(!office.contains(u64::MAX));
    }

    #[test]
    fn hours_over_midnight_belong_to_the_day_that_they_begin_on() {
        let night = window(&["fri"], "22:00-06:00", "UTC");
        for (at, expected) in [
            ("2026-11-27T05:00:00Z", false),
            ("2026-11-27T21:59:59Z", false),
            ("2026-11-27T22:00:00Z", true),
            ("2026-11-28T05:59:59Z", true),
            ("2026-11-28T06:00:00Z", false),
            ("2026-11-28T22:00:00Z", false),
        ] {
            assert_eq!(night.contains(time(at)), expected, "{at}");
        }
    }

    /// From a moment through the changes that follow it.
    fn check_changes(window: &Window, from: &str, expected: &[&str]) {
        let mut at = time(from);
        for change in expected {
            let next = window.next_change(at).unwrap();
            assert_eq!(next, time(change), "after {at}: expected {change}");
            assert_ne!(window.contains(at), window.contains(next));
            assert_eq!(window.contains(at), window.contains(next - 1));
            at = next;
        }
    }

    #[test]
    fn the_next_change_is_when_it_opens_or_closes() {
        check_changes(
            &window(&["mon"], "08:00-18:00", "UTC"),
            "2026-11-23T09:00:00Z",
            &[
                "2026-11-23T18:00:00Z",
                "2026-11-30T08:00:00Z",
                "2026-11-30T18:00:00Z",
            ],
        );
        let workdays = ["mon", "tue", "wed", "thu", "fri"];
        check_changes(
            &window(&workdays, "00:00-24:00", "UTC"),
            "2026-11-23T09:00:00Z",
            &["2026-11-28T00:00:00Z", "2026-11-30T00:00:00Z"],
        );
        let always = window(&[], "00:00-24:00", "Europe/Berlin");
        assert_eq!(always.next_change(time("2026-11-23T09:00:00Z")), None);
    }

    #[test]
    fn clocks_that_are_set_move_a_window_with_them() {
        let berlin = window(&[], "08:00-18:00", "Europe/Berlin");
        check_changes(
            &berlin,
            "2026-03-28T12:00:00Z",
            &[
                "2026-03-28T17:00:00Z",
                // Summer time from 2026-03-29.
                "2026-03-29T06:00:00Z",
                "2026-03-29T16:00:00Z",
            ],
        );
        // 02:15 to 02:45 does not exist on that day.
        check_changes(
            &window(&[], "02:15-02:45", "Europe/Berlin"),
            "2026-03-28T12:00:00Z",
            &["2026-03-30T00:15:00Z"],
        );
        // 02:00 to 02:30 comes twice when clocks are set back.
        check_changes(
            &window(&[], "02:00-02:30", "Europe/Berlin"),
            "2026-10-24T12:00:00Z",
            &[
                "2026-10-25T00:00:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T01:30:00Z",
            ],
        );
    }
}
