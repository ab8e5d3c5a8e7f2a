//! What became of each request, as counts and histograms of one worker.
//!
//! It does not judge. Each request is settled once, and ends up in exactly one of the counts.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hdrhistogram::{Counter, Histogram};

use super::Plan;
use super::desk::Job;
use crate::protocols::{Answered, Failed, Outcome, Reference};
use crate::run::{Company, Counts, Latencies, Second, Verification};
use crate::scenario::{Kind, PATIENCE_MAX};
use crate::schedule::DURATION_MAX;
use crate::validity::ThreadUse;

/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// Digits of those that say how a run goes.
const ROUGH_DIGITS: u8 = 2;

/// And the nanoseconds that make no difference there.
const ROUGH_RESOLUTION: u64 = 1000;

/// Longest time that is told from longer ones, since a histogram grows up to it: a request may wait
/// through all of a schedule, and the patience behind it.
const NANOSECONDS_MAX: u64 = (DURATION_MAX.as_secs() + PATIENCE_MAX.as_secs()) * 1_000_000_000;

/// How a request ended.
#[derive(Debug)]
pub(super) enum End {
    Answered(Answered),
    Failed(Failed),
    /// Nobody waits for the answer any more, or it was never sent.
    Unfinished,
}

/// When what happened to a request that was sent, besides its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// It was due and a connection was free.
    pub(super) could: Instant,
    /// It was sent, or the connection for it was begun.
    pub(super) begun: Instant,
}

/// What one worker measures while it does; requests of the warm-up are in none of it.
#[derive(Debug)]
pub(super) struct Measure {
    start: Instant,
    warm_up: Duration,
    policed: bool,
    verifies: bool,
    reference: Arc<OnceLock<Reference>>,
    pub(super) measured: Measured,
    /// Since the last time that somebody asked.
    pub(super) recent: Glimpse,
}

/// What a worker has measured. Parts of workers add up.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) latencies: Latencies,
    pub(super) lag: Histogram<u64>,
    pub(super) counts: Counts,
    /// Requests that were taken from the schedule, counted apart from what became of them.
    pub(super) taken: u64,
    pub(super) without_connection: u64,
    pub(super) verification: Verification,
    pub(super) company: Company,
    pub(super) usage: ThreadUse,
    /// Where the schedule was cut short.
    pub(super) cut: Option<Duration>,
    seconds: Vec<SecondMeasure>,
}

#[derive(Debug, Default)]
struct SecondMeasure {
    due: u64,
    failed: u64,
    unfinished: u64,
    /// Values that the histogram of the run tells apart, and how often there was each. Seldom more
    /// than there were requests, where a histogram for each second would take a megabyte.
    corrected: BTreeMap<u64, u64>,
}

/// Enough to say how a run goes.
#[derive(Debug)]
pub(super) struct Glimpse {
    pub(super) due: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) corrected: Histogram<u32>,
}

impl Measure {
    pub(super) fn new(plan: &Plan, reference: Arc<OnceLock<Reference>>, start: Instant) -> Self {
        let schedule = &plan.scenario.schedule;
        Self {
            start,
            warm_up: schedule.warm_up(),
            policed: plan.policed,
            verifies: plan.scenario.verifies,
            reference,
            measured: Measured::new(schedule.duration()),
            recent: Glimpse::default(),
        }
    }

    /// Whether a request that is due so long after the start is in the figures.
    pub(super) fn counts(&self, offset: Duration) -> bool {
        offset >= self.warm_up
    }

    /// A connection was opened for a request that is due at `offset`.
    pub(super) fn connected(&mut self, offset: Duration, begun: Instant, ready: Instant) {
        if self.counts(offset) {
            let connect = &mut self.measured.latencies.connect;
            record(connect, between(begun, ready));
        }
    }

    /// A request that was sent, or whose connection could not be opened, has ended at `ended`.
    pub(super) fn settle(&mut self, job: &Job, sent: Sent, end: &End, ended: Instant) {
        if !self.counts(job.due.offset) {
            return;
        }
        let due = self.start + job.due.offset;
        let lag = between(sent.could, sent.begun);
        record(&mut self.measured.lag, lag);
        if sent.could > due {
            self.measured.without_connection += 1;
        }
        match end {
            End::Answered(answered) => self.answered(job, due, sent.begun, answered),
            End::Failed(failed) => {
                if let Failed::TimedOut { .. } = failed {
                    self.waited(job, due, ended);
                }
                self.failed(job, &failed.label());
            }
            End::Unfinished => self.unfinished(job, ended),
        }
    }

    /// A request was not answered, and perhaps not sent, when patience ended.
    pub(super) fn unfinished(&mut self, job: &Job, ended: Instant) {
        if !self.counts(job.due.offset) {
            return;
        }
        self.waited(job, self.start + job.due.offset, ended);
        self.measured.counts.due += 1;
        self.measured.counts.unfinished += 1;
        self.recent.due += 1;
        if let Some(second) = self.second(job) {
            second.due += 1;
            second.unfinished += 1;
        }
    }

    fn answered(&mut self, job: &Job, due: Instant, begun: Instant, answered: &Answered) {
        let denied = job.part.kind == Kind::Denied;
        let counts = &mut self.measured.counts;
        match answered.outcome {
            Outcome::Refused if denied && self.policed => counts.refused += 1,
            Outcome::Rows(_) | Outcome::Refused | Outcome::Error(_) if denied && !self.policed => {
                counts.answered += 1;
            }
            Outcome::Rows(_) if denied => return self.failed(job, "not refused"),
            Outcome::Rows(_) => {
                counts.answered += 1;
                self.verify(answered);
            }
            Outcome::Refused => return self.failed(job, "sqlstate 42501"),
            Outcome::Error(state) => return self.failed(job, &format!("sqlstate {state}")),
        }
        self.measured.counts.due += 1;
        let corrected = between(due, answered.last_byte);
        let latencies = &mut self.measured.latencies;
        record(&mut latencies.corrected, corrected);
        let uncorrected = between(begun, answered.last_byte);
        record(&mut latencies.uncorrected, uncorrected);
        let first_byte = between(due, answered.first_byte);
        record(&mut latencies.first_byte, first_byte);
        let value = latencies.corrected.highest_equivalent(corrected);
        self.recent.due += 1;
        self.recent.answered += 1;
        record(&mut self.recent.corrected, corrected);
        if let Some(second) = self.second(job) {
            second.due += 1;
            second.record(value);
        }
    }

    fn failed(&mut self, job: &Job, label: &str) {
        let counts = &mut self.measured.counts;
        counts.due += 1;
        match counts.failed.get_mut(label) {
            Some(count) => *count += 1,
            None => {
                counts.failed.insert(label.to_owned(), 1);
            }
        }
        self.recent.due += 1;
        self.recent.failed += 1;
        if let Some(second) = self.second(job) {
            second.due += 1;
            second.failed += 1;
        }
    }

    /// A request was given up after it had waited until `ended`: its latency is at least that.
    fn waited(&mut self, job: &Job, due: Instant, ended: Instant) {
        let waited = between(due, ended);
        let corrected = &mut self.measured.latencies.corrected;
        record(corrected, waited);
        let value = corrected.highest_equivalent(waited);
        record(&mut self.recent.corrected, waited);
        if let Some(second) = self.second(job) {
            second.record(value);
        }
    }

    fn verify(&mut self, answered: &Answered) {
        let verification = &mut self.measured.verification;
        if self.policed {
            verification.canaries_seen += answered.canaries;
        }
        if !self.verifies {
            return;
        }
        let reference = match (self.reference.get(), answered.reference()) {
            (Some(reference), _) => *reference,
            (None, Some(first)) => *self.reference.get_or_init(|| first),
            (None, None) => return,
        };
        verification.reference = Some(reference);
        if let Some(verdict) = reference.check(answered) {
            verification.checked += 1;
            verification.mismatches += u64::from(!verdict.matches);
            let is_hidden = self.policed && verdict.canary_expected;
            verification.canaries_expected += u64::from(is_hidden);
        }
    }

    fn second(&mut self, job: &Job) -> Option<&mut SecondMeasure> {
        let offset = job.due.offset.checked_sub(self.warm_up)?;
        let index = usize::try_from(offset.as_secs()).ok()?;
        // A due time that was rounded to the very end belongs to the last second.
        let last = self.measured.seconds.len().checked_sub(1)?;
        self.measured.seconds.get_mut(index.min(last))
    }
}

impl Measured {
    /// Nothing measured yet, of a schedule that lasts so long without its warm-up.
    pub(super) fn new(duration: Duration) -> Self {
        let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
        Self {
            latencies: Latencies {
                corrected: histogram(),
                uncorrected: histogram(),
                first_byte: histogram(),
                connect: histogram(),
            },
            lag: histogram(),
            counts: Counts::default(),
            taken: 0,
            without_connection: 0,
            verification: Verification::default(),
            company: Company::default(),
            usage: ThreadUse::default(),
            cut: None,
            seconds: (0..seconds).map(|_| SecondMeasure::default()).collect(),
        }
    }

    /// `usage` and `cut` are each worker's own and are not added.
    pub(super) fn add(&mut self, part: Self) {
        let Latencies {
            corrected,
            uncorrected,
            first_byte,
            connect,
        } = part.latencies;
        add(&mut self.latencies.corrected, &corrected);
        add(&mut self.latencies.uncorrected, &uncorrected);
        add(&mut self.latencies.first_byte, &first_byte);
        add(&mut self.latencies.connect, &connect);
        add(&mut self.lag, &part.lag);
        self.counts.due += part.counts.due;
        self.counts.answered += part.counts.answered;
        self.counts.refused += part.counts.refused;
        self.counts.unfinished += part.counts.unfinished;
        for (label, count) in part.counts.failed {
            *self.counts.failed.entry(label).or_insert(0) += count;
        }
        self.taken += part.taken;
        self.without_connection += part.without_connection;
        self.verification.checked += part.verification.checked;
        self.verification.mismatches += part.verification.mismatches;
        self.verification.canaries_seen += part.verification.canaries_seen;
        self.verification.canaries_expected += part.verification.canaries_expected;
        // The workers of a run share one.
        let reference = part.verification.reference;
        self.verification.reference = self.verification.reference.or(reference);
        self.company.idle += part.company.idle;
        self.company.idle_lost += part.company.idle_lost;
        self.company.slow += part.company.slow;
        self.company.slow_lost += part.company.slow_lost;
        self.company.slow_answers += part.company.slow_answers;
        for (second, part) in self.seconds.iter_mut().zip(part.seconds) {
            second.due += part.due;
            second.failed += part.failed;
            second.unfinished += part.unfinished;
            for (value, count) in part.corrected {
                *second.corrected.entry(value).or_insert(0) += count;
            }
        }
    }

    /// Of the first `duration`.
    pub(super) fn seconds(&self, duration: Duration) -> Vec<Second> {
        let count = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let seconds = self.seconds.iter().take(count);
        seconds.map(SecondMeasure::summary).collect()
    }
}

impl SecondMeasure {
    fn record(&mut self, corrected: u64) {
        *self.corrected.entry(corrected).or_insert(0) += 1;
    }

    fn summary(&self) -> Second {
        Second {
            due: self.due,
            failed: self.failed,
            unfinished: self.unfinished,
            corrected: self.corrected.clone().into_iter().collect(),
        }
    }
}

impl Default for Glimpse {
    fn default() -> Self {
        Self {
            due: 0,
            answered: 0,
            failed: 0,
            corrected: rough_histogram(),
        }
    }
}

impl Glimpse {
    pub(super) fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.answered += other.answered;
        self.failed += other.failed;
        add(&mut self.corrected, &other.corrected);
    }
}

/// Nanoseconds from one moment to a later one.
fn between(from: Instant, to: Instant) -> u64 {
    let nanoseconds = to.saturating_duration_since(from).as_nanos();
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

fn histogram() -> Histogram<u64> {
    bounded(1, DIGITS)
}

fn rough_histogram() -> Histogram<u32> {
    bounded(ROUGH_RESOLUTION, ROUGH_DIGITS)
}

/// Starts small, and grows with what it is given.
#[expect(
    clippy::expect_used,
    reason = "refused for bounds and digits alone, and those are constants that every run uses"
)]
fn bounded<T: Counter>(resolution: u64, digits: u8) -> Histogram<T> {
    let mut histogram = Histogram::new_with_bounds(resolution, 2 * resolution, digits)
        .expect("bounds are in order");
    histogram.auto(true);
    histogram
}

#[expect(
    clippy::expect_used,
    reason = "fails where a histogram may not grow, or by more than memory can hold"
)]
fn record<T: Counter>(histogram: &mut Histogram<T>, nanoseconds: u64) {
    histogram
        .record(nanoseconds.min(NANOSECONDS_MAX))
        .expect("it grows up to the bound");
}

#[expect(clippy::expect_used, reason = "as in `record`")]
fn add<T: Counter>(into: &mut Histogram<T>, from: &Histogram<T>) {
    into.add(from).expect("it grows up to the bound");
}
