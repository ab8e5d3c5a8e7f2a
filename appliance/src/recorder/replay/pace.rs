//! How long a replay waits between two events, so that it takes the time that the session took.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// Fastest and slowest factors that a person can mean.
const FACTOR_MAX: f64 = 1_000_000.0;
const FACTOR_MIN: f64 = 0.001;

/// How fast a replay goes, in multiples of the recorded time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// Without pauses.
    Instant,
    Times(f64),
}

/// The text is no speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a speed is `instant`, or a factor from {FACTOR_MIN} to {FACTOR_MAX} such as 1, 0.5 or 10")]
pub struct NotASpeed;

impl FromStr for Speed {
    type Err = NotASpeed;

    fn from_str(text: &str) -> Result<Self, NotASpeed> {
        if text == "instant" {
            return Ok(Self::Instant);
        }
        let factor: f64 = text.parse().map_err(|_| NotASpeed)?;
        // Infinity and what is no number are outside of it too.
        if (FACTOR_MIN..=FACTOR_MAX).contains(&factor) {
            Ok(Self::Times(factor))
        } else {
            Err(NotASpeed)
        }
    }
}

/// Says how long to wait before each event. Per replay.
#[derive(Clone, Debug)]
pub struct Pace {
    speed: Speed,
    longest: Duration,
    /// When the event before was recorded, in microseconds since 1970.
    before: Option<u64>,
}

impl Pace {
    /// No single pause is longer than `longest`.
    #[must_use]
    pub fn new(speed: Speed, longest: Duration) -> Self {
        Self {
            speed,
            longest,
            before: None,
        }
    }

    /// The pause before what was recorded `at` that many microseconds since 1970. None before the
    /// first, nor where the clock went backwards.
    pub fn pause(&mut self, at: u64) -> Duration {
        let recorded = self.before.map_or(0, |before| at.saturating_sub(before));
        self.before = Some(at);
        let Speed::Times(factor) = self.speed else {
            return Duration::ZERO;
        };
        // Damage can claim centuries; that is a pause of the longest kind.
        let seconds = Duration::from_micros(recorded).as_secs_f64() / factor;
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(Duration::MAX)
            .min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_factors_or_instant() {
        let cases = [
            ("instant", Ok(Speed::Instant)),
            ("1", Ok(Speed::Times(1.0))),
            ("0.5", Ok(Speed::Times(0.5))),
            ("0.001", Ok(Speed::Times(0.001))),
            ("0.0009", Err(NotASpeed)),
            ("0", Err(NotASpeed)),
            ("-1", Err(NotASpeed)),
            ("1000001", Err(NotASpeed)),
            ("inf", Err(NotASpeed)),
            ("NaN", Err(NotASpeed)),
            ("fast", Err(NotASpeed)),
            ("", Err(NotASpeed)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }

    fn check_pauses(speed: Speed, expected_ms: &[u64]) {
        let mut pace = Pace::new(speed, Duration::from_secs(3));
        let events = [
            1_000_000,
            1_500_000,
            1_500_000,
            1_400_000,
            3_400_000,
            60_000_000,
            u64::MAX,
        ];
        let pauses: Vec<u64> = events
            .into_iter()
            .map(|at| u64::try_from(pace.pause(at).as_millis()).unwrap())
            .collect();
        assert_eq!(pauses, expected_ms, "{speed:?}");
    }

    #[test]
    fn pauses_are_the_recorded_ones_by_the_factor_and_never_longer_than_the_limit() {
        check_pauses(Speed::Times(1.0), &[0, 500, 0, 0, 2000, 3000, 3000]);
        check_pauses(Speed::Times(0.5), &[0, 1000, 0, 0, 3000, 3000, 3000]);
        check_pauses(Speed::Times(100.0), &[0, 5, 0, 0, 20, 566, 3000]);
        check_pauses(Speed::Instant, &[0; 7]);
    }
}
