//! Whether a run says anything about its path, or about the generator alone.
//!
//! It looks at the generator. That a path is slow, fails or has too few connections is a result.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::progress::duration as shown;
use crate::run::Counts;

/// Lag up to this part of the corrected 99th percentile changes no figure that anybody reads, even
/// where it is more than the greatest lag that was asked for.
const LAG_PART: u64 = 10;

/// Part of the time that a generator thread may run or wait for a CPU.
///
/// Past it there is no slack left: answers are read late, which no other figure shows. 10 % of the
/// time is what a thread needs to have slept for to have been free whenever something happened.
const BUSY_MAX: f64 = 0.9;

/// Part of the requests that may have waited for a connection before it is said.
const WITHOUT_CONNECTION_SAID: f64 = 0.01;

/// What a thread of the generator used while the schedule lasted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadUse {
    /// Nanoseconds on a CPU.
    pub cpu: u64,
    /// Nanoseconds in which it could have run and had none.
    pub waited: u64,
    pub elapsed: Duration,
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub lag_max: Duration,
    pub lag: &'a Histogram<u64>,
    pub corrected: &'a Histogram<u64>,
    pub counts: &'a Counts,
    /// Requests that were taken from the schedule.
    pub taken: u64,
    pub without_connection: u64,
    pub threads: &'a [ThreadUse],
    /// Tasks of the generator that ended by a panic.
    pub panics: u64,
    pub interrupted: bool,
}

/// Empty where there is nothing to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why the run says nothing about the path.
    pub invalid: Vec<String>,
    /// What a reader should know besides.
    pub notes: Vec<String>,
}

impl Counts {
    /// Requests of which it is known what became of them.
    #[must_use]
    pub fn settled(&self) -> u64 {
        let failed: u64 = self.failed.values().sum();
        self.answered + self.refused + failed + self.unfinished
    }
}

/// Looks at what the generator did.
#[must_use]
pub fn judge(facts: &Facts<'_>) -> Verdict {
    let mut invalid = Vec::new();
    invalid.extend(late(facts));
    invalid.extend(busy(facts.threads));
    invalid.extend(unaccounted(facts));
    let mut notes = Vec::new();
    notes.extend(without_connection(facts));
    notes.extend(given_up(facts.counts));
    if facts.interrupted {
        notes.push("it was interrupted: figures are of the schedule until then".to_owned());
    }
    if facts.counts.due == 0 {
        invalid.push("no request was due".to_owned());
    }
    Verdict { invalid, notes }
}

fn late(facts: &Facts<'_>) -> Option<String> {
    let lag = facts.lag.value_at_quantile(0.99);
    let corrected = facts.corrected.value_at_quantile(0.99);
    let lag_max = u64::try_from(facts.lag_max.as_nanos()).unwrap_or(u64::MAX);
    (lag > lag_max && lag > corrected / LAG_PART).then(|| {
        format!(
            "the generator was late by {} at p99, more than {} and a tenth of the p99 that it \
             measured, {}: where it shares CPUs with others, `chrt -r 1` in front of the command \
             lets it go first",
            shown(lag),
            shown(lag_max),
            shown(corrected)
        )
    })
}

fn busy(threads: &[ThreadUse]) -> Option<String> {
    let share = |thread: &ThreadUse| {
        let elapsed = thread.elapsed.as_nanos().max(1) as f64;
        (thread.cpu + thread.waited) as f64 / elapsed
    };
    let busiest = threads.iter().map(share).enumerate();
    let (worker, share) = busiest.max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    (share > BUSY_MAX).then(|| {
        format!(
            "generator thread {worker} ran or waited for a CPU {:.0} % of the time: it can send no \
             more than it did",
            share.min(1.0) * 100.0
        )
    })
}

/// The generator checks its own books.
fn unaccounted(facts: &Facts<'_>) -> Option<String> {
    let settled = facts.counts.settled();
    if facts.panics > 0 {
        return Some(format!(
            "{} parts of the generator ended by a panic",
            facts.panics
        ));
    }
    (facts.taken != settled || facts.counts.due != settled).then(|| {
        format!(
            "the generator lost track: {} requests were due, and of {settled} it is known what \
             became of them",
            facts.taken
        )
    })
}

fn without_connection(facts: &Facts<'_>) -> Option<String> {
    let share = facts.without_connection as f64 / facts.counts.due.max(1) as f64;
    (share > WITHOUT_CONNECTION_SAID).then(|| {
        format!(
            "{:.0} % of the requests waited for a connection, which is in the corrected latency: \
             the path is too slow for so few connections",
            share * 100.0
        )
    })
}

fn given_up(counts: &Counts) -> Option<String> {
    let timed_out = counts.failed.get("timeout").copied().unwrap_or(0);
    let given_up = timed_out + counts.unfinished;
    (given_up > 0).then(|| {
        format!(
            "{given_up} requests were given up: the corrected latency holds how long they had \
             waited, which is less than they would have"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        values.into_iter().for_each(|value| histogram += value);
        histogram
    }

    /// Facts that nothing can be held against, until a test changes them.
    struct Case {
        lag: Histogram<u64>,
        corrected: Histogram<u64>,
        lag_max: Duration,
        counts: Counts,
        taken: u64,
        without_connection: u64,
        threads: Vec<ThreadUse>,
        panics: u64,
        interrupted: bool,
    }

    fn check(change: impl FnOnce(&mut Case)) -> Verdict {
        let mut case = Case {
            lag: histogram([10_000; 100]),
            corrected: histogram([300_000; 100]),
            lag_max: Duration::from_millis(1),
            counts: Counts {
                due: 100,
                answered: 100,
                ..Counts::default()
            },
            taken: 100,
            without_connection: 1,
            threads: vec![thread(300_000_000, 100_000_000)],
            panics: 0,
            interrupted: false,
        };
        change(&mut case);
        judge(&Facts {
            lag_max: case.lag_max,
            lag: &case.lag,
            corrected: &case.corrected,
            counts: &case.counts,
            taken: case.taken,
            without_connection: case.without_connection,
            threads: &case.threads,
            panics: case.panics,
            interrupted: case.interrupted,
        })
    }

    fn thread(cpu: u64, waited: u64) -> ThreadUse {
        ThreadUse {
            cpu,
            waited,
            elapsed: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_run_with_slack_is_valid() {
        assert_eq!(check(|_| {}), Verdict::default());
    }

    #[test]
    fn lag_is_held_against_a_run_where_it_is_long_and_no_small_part_of_the_latency() {
        let late = |case: &mut Case| case.lag = histogram([2_000_000; 100]);
        let verdict = check(late);
        assert!(verdict.invalid[0].starts_with("the generator was late by 2.00 ms"));
        let on_a_slow_path = check(|case| {
            late(case);
            case.corrected = histogram([21_000_000; 100]);
        });
        assert_eq!(on_a_slow_path, Verdict::default());
        let with_a_wider_bound = check(|case| {
            late(case);
            case.lag_max = Duration::from_millis(3);
        });
        assert_eq!(with_a_wider_bound, Verdict::default());
    }

    #[test]
    fn a_thread_that_never_sleeps_makes_a_run_invalid_and_so_does_one_that_waits_for_a_cpu() {
        let with = |cpu, waited| check(|case| case.threads.push(thread(cpu, waited))).invalid;
        assert!(with(890_000_000, 0).is_empty());
        for reasons in [with(910_000_000, 0), with(200_000_000, 710_000_000)] {
            assert!(reasons[0].starts_with("generator thread 1 ran or waited"));
        }
    }

    #[test]
    fn a_request_that_is_lost_makes_a_run_invalid() {
        assert_eq!(check(|case| case.taken = 101).invalid.len(), 1);
        assert_eq!(check(|case| case.counts.answered = 99).invalid.len(), 1);
        assert_eq!(check(|case| case.panics = 1).invalid.len(), 1);
    }

    #[test]
    fn too_few_connections_are_said_and_are_no_fault_of_the_generator() {
        let verdict = check(|case| case.without_connection = 12);
        assert!(verdict.invalid.is_empty());
        assert!(verdict.notes[0].starts_with("12 % of the requests waited for a connection"));
    }

    #[test]
    fn requests_that_were_given_up_are_said() {
        let verdict = check(|case| {
            case.counts = Counts {
                due: 100,
                answered: 90,
                failed: [("timeout".to_owned(), 4), ("closed".to_owned(), 1)].into(),
                unfinished: 5,
                ..Counts::default()
            };
            case.interrupted = true;
        });
        assert!(verdict.invalid.is_empty());
        assert!(verdict.notes[0].starts_with("9 requests were given up"));
        assert!(verdict.notes[1].starts_with("it was interrupted"));
    }
}
