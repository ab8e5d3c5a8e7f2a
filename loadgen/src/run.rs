//! What one run measured, as everything that reports it reads it.
//!
//! Times are nanoseconds. Nothing here is computed from other fields but by methods.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

use crate::protocols::Reference;

/// One path under one schedule, from its first to its last sample after the warm-up.
#[derive(Debug, Clone)]
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

    /// Several runs of one path, in their order, as if they had been one; `None` without runs.
    ///
    /// CPU adds up; memory is the least before and the most that was seen in any.
    #[must_use]
    pub fn pooled(runs: &[Self]) -> Option<Self> {
        let (first, rest) = runs.split_first()?;
        let mut pooled = first.clone();
        for run in rest {
            pooled.take_in(run);
        }
        Some(pooled)
    }

    fn take_in(&mut self, run: &Self) {
        self.duration += run.duration;
        let ours = &mut self.latencies;
        let theirs = &run.latencies;
        add(&mut ours.corrected, &theirs.corrected);
        add(&mut ours.uncorrected, &theirs.uncorrected);
        add(&mut ours.first_byte, &theirs.first_byte);
        add(&mut ours.connect, &theirs.connect);
        self.interrupted |= run.interrupted;
        self.counts.take_in(&run.counts);
        self.seconds.extend(run.seconds.iter().cloned());
        self.verification.checked += run.verification.checked;
        self.verification.mismatches += run.verification.mismatches;
        self.verification.canaries_seen += run.verification.canaries_seen;
        self.verification.canaries_expected += run.verification.canaries_expected;
        self.company.take_in(&run.company);
        self.generator.take_in(&run.generator);
        self.process = self
            .process
            .zip(run.process)
            .map(|(ours, theirs)| ProcessUse {
                process_id: ours.process_id,
                cpu: ours.cpu + theirs.cpu,
                resident_before: ours.resident_before.min(theirs.resident_before),
                resident_peak: ours.resident_peak.max(theirs.resident_peak),
                proportional: ours.proportional.max(theirs.proportional),
            });
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
#[derive(Debug, Clone)]
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

impl Counts {
    fn take_in(&mut self, counts: &Self) {
        self.due += counts.due;
        self.answered += counts.answered;
        self.refused += counts.refused;
        self.unfinished += counts.unfinished;
        for (kind, count) in &counts.failed {
            *self.failed.entry(kind.clone()).or_default() += count;
        }
    }
}

fn add(ours: &mut Histogram<u64>, theirs: &Histogram<u64>) {
    // Grows where it must; otherwise both have bounds that the other's values fit in.
    ours.auto(true);
    let added = ours.add(theirs);
    debug_assert!(added.is_ok(), "a histogram that grows takes any other");
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
    /// What answers were compared with, for the next path to be compared with it too.
    pub reference: Option<Reference>,
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
    /// Answers that they read to the end.
    pub slow_answers: u64,
}

impl Company {
    fn take_in(&mut self, company: &Self) {
        self.idle = self.idle.max(company.idle);
        self.idle_lost += company.idle_lost;
        self.slow = self.slow.max(company.slow);
        self.slow_lost += company.slow_lost;
        self.slow_answers += company.slow_answers;
    }
}

/// How the generator itself did.
#[derive(Debug, Clone)]
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

impl Generator {
    fn take_in(&mut self, run: &Self) {
        add(&mut self.lag, &run.lag);
        self.without_connection += run.without_connection;
        for (ours, theirs) in [(&mut self.cpu, &run.cpu), (&mut self.waited, &run.waited)] {
            for (ours, theirs) in ours.iter_mut().zip(theirs) {
                *ours += theirs;
            }
        }
        for (ours, theirs) in [
            (&mut self.invalid, &run.invalid),
            (&mut self.notes, &run.notes),
        ] {
            for reason in theirs {
                if !ours.contains(reason) {
                    ours.push(reason.clone());
                }
            }
        }
    }
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

#[cfg(test)]
pub(crate) mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// A run of ten seconds in which nothing was due.
    pub(crate) fn empty(path: &str) -> Run {
        let histogram = || Histogram::new(3).unwrap();
        Run {
            path: path.to_owned(),
            asked: String::new(),
            started: UNIX_EPOCH,
            duration: Duration::from_secs(10),
            interrupted: false,
            latencies: Latencies {
                corrected: histogram(),
                uncorrected: histogram(),
                first_byte: histogram(),
                connect: histogram(),
            },
            counts: Counts::default(),
            seconds: Vec::new(),
            verification: Verification::default(),
            generator: Generator {
                lag: histogram(),
                cpu: Vec::new(),
                waited: Vec::new(),
                without_connection: 0,
                invalid: Vec::new(),
                notes: Vec::new(),
            },
            process: None,
            company: Company::default(),
        }
    }

    #[test]
    fn a_second_keeps_every_percentile_of_its_histogram() {
        let mut histogram = Histogram::new(3).unwrap();
        histogram.record_n(1_000, 99).unwrap();
        histogram.record(2_000_000).unwrap();
        let second = Second {
            corrected: Second::counted(&histogram),
            ..Second::default()
        };
        for quantile in [0.0, 0.5, 0.99, 0.995, 1.0] {
            let value = histogram.value_at_quantile(quantile);
            assert_eq!(second.quantile(quantile), Some(value), "{quantile}");
        }
        assert_eq!(second.max(), Some(histogram.max()));
        assert_eq!(Second::default().quantile(0.5), None);
    }

    #[test]
    fn runs_that_are_pooled_add_up() {
        let mut first = empty("direct");
        first.latencies.corrected.record_n(1_000, 10).unwrap();
        first.counts.due = 11;
        first.counts.answered = 10;
        first.counts.failed.insert("timeout".to_owned(), 1);
        first.process = Some(ProcessUse {
            process_id: 7,
            cpu: 100,
            resident_before: 50,
            resident_peak: 60,
            proportional: None,
        });
        let mut second = first.clone();
        // Of other bounds than the first's.
        second.latencies.corrected = Histogram::new(4).unwrap();
        second.latencies.corrected.record(900_000_000_000).unwrap();
        second.counts.failed.insert("closed".to_owned(), 2);
        second.generator.invalid.push("lag".to_owned());
        second.process.as_mut().unwrap().resident_before = 40;

        let pooled = Run::pooled(&[first.clone(), second.clone()]).unwrap();
        assert_eq!(pooled.latencies.corrected.len(), 11);
        assert_eq!(pooled.counts.due, 22);
        assert_eq!(pooled.failures(), 4);
        assert_eq!(pooled.duration, Duration::from_secs(20));
        assert_eq!(pooled.generator.invalid, ["lag"]);
        assert_eq!(pooled.cpu_per_request(), Some(10.0));
        assert_eq!(pooled.process.unwrap().resident_before, 40);
        second.process = None;
        assert_eq!(Run::pooled(&[first, second]).unwrap().process, None);
        assert!(Run::pooled(&[]).is_none());
    }
}
