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
    pub started: SystemTime,
    /// Of the schedule, without the warm-up.
    pub duration: Duration,
    pub latencies: Latencies,
    pub counts: Counts,
    /// One entry for each second of the schedule, in order.
    pub seconds: Vec<Second>,
    pub verification: Verification,
    pub generator: Generator,
    /// Of the proxy, where it is a process of this machine.
    pub process: Option<ProcessUse>,
}

/// Each sample is in each histogram once, connects aside.
#[derive(Debug)]
pub struct Latencies {
    /// From when the request was due to the last byte of its answer: what a user waits.
    pub corrected: Histogram<u64>,
    /// From when it was sent: what closed-loop tools show.
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
    /// Of the corrected latency.
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
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
}

/// How the generator itself did.
#[derive(Debug)]
pub struct Generator {
    /// From when a request could have been sent (it was due and a connection was free) to when
    /// it was.
    pub lag: Histogram<u64>,
    /// CPU nanoseconds of each generator thread.
    pub cpu: Vec<u64>,
    /// Why the run says nothing about the path; empty when it is valid.
    pub invalid: Vec<String>,
}

/// What the proxy's process used between the first and the last sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUse {
    pub process_id: u32,
    /// Sum of `/proc/PID/task/*/schedstat`.
    pub cpu: u64,
    /// Bytes.
    pub resident_before: u64,
    /// Bytes, the most that was seen.
    pub resident_peak: u64,
}
