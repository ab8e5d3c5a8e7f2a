//! What one run measured, as everything that reports it reads it.
//!
//! Times are nanoseconds. Nothing here is computed from other fields but by methods.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

/// One path under one schedule, from its first to its last sample after the warm-up.
#[derive(Debug)]
pub struct Run {
    /// How the path is called: `direct`, or the name of a `--via`.
    pub path: String,
    /// What was asked for, in a line for readers: schedule, rate, connections, mode, seed.
    pub asked: String,
    pub started: SystemTime,
    /// Of the schedule, without the warm-up; shorter when the run was interrupted.
    pub duration: Duration,
    /// It was ended before its schedule was over, and says what there was until then.
    pub interrupted: bool,
    pub latencies: Latencies,
    pub counts: Counts,
    /// One entry for each second of the schedule, in order.
    pub seconds: Vec<Second>,
    pub verification: Verification,
    pub generator: Generator,
    /// Of the proxy, where it is a process of this machine.
    pub process: Option<ProcessUse>,
    pub company: Company,
}

impl Run {
    /// Requests answered as expected, refusals among them, for each second of the schedule.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let answered = self.counts.answered + self.counts.refused;
        answered as f64 / self.duration.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Requests that failed, of all kinds.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.counts.failed.values().sum()
    }

    /// CPU nanoseconds of the proxy's process for each request that was answered; `None` where
    /// the process was not looked at or nothing was answered.
    #[must_use]
    pub fn cpu_per_request(&self) -> Option<f64> {
        let answered = self.counts.answered + self.counts.refused;
        let process = self.process?;
        (answered > 0).then(|| process.cpu as f64 / answered as f64)
    }
}

/// Each answer is in each histogram once, connects aside.
#[derive(Debug)]
pub struct Latencies {
    /// From when the request was due to the last byte of its answer: what a user waits. Requests
    /// that timed out or were unfinished are in it too, with the time until they were given up:
    /// less than the truth, where leaving them out would be a better figure for a worse path.
    pub corrected: Histogram<u64>,
    /// From when it was sent (for one on a connection of its own, from when that was begun): what
    /// closed-loop tools show.
    pub uncorrected: Histogram<u64>,
    /// From when it was due to the first byte.
    pub first_byte: Histogram<u64>,
    /// From the start of a connection to its first ready-for-query.
    pub connect: Histogram<u64>,
}

/// What became of each request that was due: their sum, but for `due`, is `due`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    pub due: u64,
    /// Answered as expected.
    pub answered: u64,
    /// Refused by policy where the scenario asked for what policy refuses.
    pub refused: u64,
    /// Everything else, by what it was: `sqlstate 57014`, `connect`, `closed`, `timeout`,
    /// `not refused`.
    pub failed: BTreeMap<String, u64>,
    /// Still unanswered, or not even sent, when the run's patience ended.
    pub unfinished: u64,
}

/// One second of the schedule, by when its requests were due.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Second {
    pub due: u64,
    pub failed: u64,
    pub unfinished: u64,
    /// Corrected latency and how many requests had it, ascending; values are those that the
    /// histogram of the run tells apart. A histogram for each second would take a megabyte.
    pub corrected: Vec<(u64, u64)>,
}

impl Second {
    /// What [`Second::corrected`] holds of a histogram.
    #[must_use]
    pub fn counted(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
        histogram
            .iter_recorded()
            .map(|value| (value.value_iterated_to(), value.count_at_value()))
            .collect()
    }

    /// Corrected latency that `quantile` (0 to 1) of this second's answers took at most; `None`
    /// when there were none.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let all: u64 = self.corrected.iter().map(|(_, count)| count).sum();
        let mut below = 0;
        for (value, count) in &self.corrected {
            below += count;
            if below as f64 >= quantile * all as f64 {
                return Some(*value);
            }
        }
        None
    }

    #[must_use]
    pub fn max(&self) -> Option<u64> {
        self.corrected.last().map(|(value, _)| *value)
    }
}

/// What was looked at in the answers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Answers whose rows were compared with what the first direct answer, or the built-in
    /// upstream, says they are.
    pub checked: u64,
    pub mismatches: u64,
    /// Values that a mask should have hidden. Anything but 0 is a leak.
    pub canaries_seen: u64,
    /// Masked places where a canary would have stood: 0 means that the check saw nothing.
    pub canaries_expected: u64,
    /// Of the first answer with rows, for the next path to be compared with.
    pub checksum: Option<u32>,
}

/// Connections beside those that requests are sent on. They are in no latency.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Company {
    /// Silent connections that were open when the schedule began.
    pub idle: u64,
    /// Those of them that had been closed when it ended.
    pub idle_lost: u64,
    /// Connections that read slowly, likewise.
    pub slow: u64,
    pub slow_lost: u64,
    /// Bytes that they read.
    pub slow_bytes: u64,
}

/// How the generator itself did.
#[derive(Debug)]
pub struct Generator {
    /// From when a request could have been sent (it was due and a connection was free) to when
    /// it was.
    pub lag: Histogram<u64>,
    /// CPU nanoseconds of each generator thread, while the schedule lasted.
    pub cpu: Vec<u64>,
    /// Nanoseconds in which each of them could have run and had no CPU.
    pub waited: Vec<u64>,
    /// Requests that were due while every connection was busy. Their wait is in the corrected
    /// latency and not in the lag.
    pub without_connection: u64,
    /// Why the run says nothing about the path; empty when it is valid.
    pub invalid: Vec<String>,
    /// What a reader should know besides, and is no fault of the generator.
    pub notes: Vec<String>,
}

/// What the proxy's process used between the first and the last sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUse {
    pub process_id: u32,
    /// Nanoseconds, of all its threads.
    pub cpu: u64,
    /// Bytes.
    pub resident_before: u64,
    /// Bytes, the most that was seen.
    pub resident_peak: u64,
    /// Bytes at the end, with shared pages divided among those that share them; where this user
    /// may read it.
    pub proportional: Option<u64>,
}
