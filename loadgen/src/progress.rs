//! How a run does while it runs: events of the engine, and a line on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// What the engine says while it runs, from the thread that started it.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// Connections are opened and the schedule has begun; nothing counts yet.
    Warming,
    /// From here on requests count.
    Measuring,
    /// Another second of the schedule has passed.
    Second(Snapshot),
    /// The last answer was read, or patience ended.
    Ended,
}

/// Counts since the measurement began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot {
    pub elapsed: Duration,
    /// Of the schedule, without the warm-up.
    pub duration: Duration,
    pub due: u64,
    /// Answered as expected, or refused as expected.
    pub answered: u64,
    pub failed: u64,
    /// Nanoseconds, of the corrected latency so far.
    pub p50: u64,
    pub p99: u64,
}

/// How often a line is written where nobody sees it change.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Writes how a run does, if anybody wants to know.
#[derive(Debug)]
pub struct Progress {
    label: String,
    shown: Shown,
    last_plain: Duration,
    now: Option<Snapshot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    /// One line that is written over, each second.
    Terminal,
    /// A line every [`PLAIN_EVERY`], or one at the end of a run that is shorter.
    Plain,
}

impl Progress {
    /// `label` stands before each line: the path, and the round where there are several.
    #[must_use]
    pub fn new(label: &str, quiet: bool) -> Self {
        let shown = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, true) => Shown::Terminal,
            (false, false) => Shown::Plain,
        };
        Self {
            label: label.to_owned(),
            shown,
            last_plain: Duration::ZERO,
            now: None,
        }
    }

    pub fn on(&mut self, event: Event) {
        if let Event::Second(now) = event {
            self.now = Some(now);
        }
        let text = match (self.shown, event) {
            (Shown::Nothing, _) | (_, Event::Measuring) | (Shown::Plain, Event::Warming) => return,
            (Shown::Terminal, Event::Warming) => format!("\r{}: warming up\x1b[K", self.label),
            (Shown::Terminal, Event::Second(now)) => {
                format!("\r{}\x1b[K", line(&self.label, now))
            }
            (Shown::Terminal, Event::Ended) => "\r\x1b[K".to_owned(),
            (Shown::Plain, Event::Second(now)) => {
                if now.elapsed < self.last_plain + PLAIN_EVERY {
                    return;
                }
                self.last_plain = now.elapsed;
                format!("{}\n", line(&self.label, now))
            }
            (Shown::Plain, Event::Ended) => match self.now {
                Some(now) if self.last_plain.is_zero() => format!("{}\n", line(&self.label, now)),
                Some(_) | None => return,
            },
        };
        let mut out = io::stderr().lock();
        // Progress that nobody can read is no reason to stop measuring.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn line(label: &str, now: Snapshot) -> String {
    let seconds = now.elapsed.as_secs_f64();
    let rate = if seconds > 0.0 {
        now.answered as f64 / seconds
    } else {
        0.0
    };
    let left = now.duration.saturating_sub(now.elapsed).as_secs();
    format!(
        "{label}: {rate:.0}/s, p50 {}, p99 {}, {} failed, {left} s left",
        duration(now.p50),
        duration(now.p99),
        now.failed
    )
}

/// Nanoseconds with three digits and the unit that suits.
#[must_use]
pub fn duration(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    let (scaled, unit) = match nanoseconds {
        0..1_000 => return format!("{nanoseconds} ns"),
        1_000..999_500 => (value / 1e3, "µs"),
        999_500..999_500_000 => (value / 1e6, "ms"),
        _ => (value / 1e9, "s"),
    };
    let digits = if scaled < 9.995 {
        2
    } else if scaled < 99.95 {
        1
    } else {
        0
    };
    format!("{scaled:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        let cases = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (9_996, "10.0 µs"),
            (99_960, "100 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (12_345_678, "12.3 ms"),
            (999_600_000, "1.00 s"),
            (61_000_000_000, "61.0 s"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(duration(nanoseconds), text);
        }
    }

    #[test]
    fn a_line_says_rate_percentiles_failures_and_what_is_left() {
        let now = Snapshot {
            elapsed: Duration::from_secs(4),
            duration: Duration::from_secs(30),
            due: 2_010,
            answered: 2_000,
            failed: 3,
            p50: 310_000,
            p99: 2_400_000,
        };
        assert_eq!(
            line("direct", now),
            "direct: 500/s, p50 310 µs, p99 2.40 ms, 3 failed, 26 s left"
        );
    }
}
