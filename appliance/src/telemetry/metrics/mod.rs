//! What a shard counts: numbers, and the names of rules. Nothing that came from a peer.
//!
//! A shard counts in memory of its own, without atomics; the control plane asks for a copy when
//! somebody wants to see it. How that is written for Prometheus is in `exposition`.

mod exposition;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

pub use exposition::{
    CONTENT_TYPE, JournalObservation, Observation, PoolObservation, ShardObservation, expose,
};

use crate::recorder::{CommandKind, EndReason, Verdict};

/// Rules that refusals are counted for.
///
/// Count. More than any policy has; what is refused by one more counts as refused by `other`.
const RULES_MAX: usize = 4096;

/// Upper bounds of the buckets of every latency histogram, in seconds: from a cached answer on the
/// same machine to a hold that a person takes an hour for.
pub const BUCKETS: [f64; 20] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
];

/// A stretch of a connection's life that is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// From accept until the session begins: handshake, proof, upstream.
    Login,
    /// Of it: verifying who it is, with the wait for a turn.
    Proof,
    /// Of it: until there is a connection to the target.
    Lease,
    /// From a request that is sent to the target until nothing is left to be answered.
    Answer,
    /// From asking for approval until it is over.
    Hold,
}

impl Phase {
    /// All of them, as they are written.
    pub const ALL: [Self; 5] = [
        Self::Login,
        Self::Proof,
        Self::Lease,
        Self::Answer,
        Self::Hold,
    ];

    /// Its label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Proof => "proof",
            Self::Lease => "lease",
            Self::Answer => "answer",
            Self::Hold => "hold",
        }
    }
}

/// How often something took how long.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// By the bounds of [`BUCKETS`]; the last is for what is above them all. Not cumulative.
    pub buckets: [u64; BUCKETS.len() + 1],
    /// Seconds, over all of them.
    pub sum: f64,
}

impl Histogram {
    fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.sum += seconds;
    }

    /// Adds what another shard saw.
    fn add(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(other.buckets) {
            *count += more;
        }
        self.sum += other.sum;
    }
}

/// Why a command was refused: a word of ours, and the rule, if one did it.
pub type Cause = (&'static str, Option<String>);

/// What one shard has counted since it started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShardCounts {
    /// By kind and verdict.
    pub commands: BTreeMap<(&'static str, &'static str), u64>,
    pub refusals: BTreeMap<Cause, u64>,
    /// Logins that came to nothing, by a word for the reason.
    pub refused_logins: BTreeMap<&'static str, u64>,
    pub sessions_begun: u64,
    /// By the reason.
    pub sessions_ended: BTreeMap<&'static str, u64>,
    /// Of sessions that ended.
    pub rows: u64,
    phases: [Histogram; Phase::ALL.len()],
    /// Commands that run, by verdict: the hot ones, added to `commands` when it is copied.
    hot: [[u64; VERDICTS]; KINDS],
}

/// Codes of [`CommandKind`] and [`Verdict`] stay below these.
const KINDS: usize = 16;
const VERDICTS: usize = 8;

impl ShardCounts {
    /// The histogram of one phase.
    #[must_use]
    pub fn phase(&self, phase: Phase) -> &Histogram {
        let [login, proof, lease, answer, hold] = &self.phases;
        match phase {
            Phase::Login => login,
            Phase::Proof => proof,
            Phase::Lease => lease,
            Phase::Answer => answer,
            Phase::Hold => hold,
        }
    }

    fn phase_mut(&mut self, phase: Phase) -> &mut Histogram {
        let [login, proof, lease, answer, hold] = &mut self.phases;
        match phase {
            Phase::Login => login,
            Phase::Proof => proof,
            Phase::Lease => lease,
            Phase::Answer => answer,
            Phase::Hold => hold,
        }
    }

    /// Adds what another shard counted.
    pub fn add(&mut self, other: &Self) {
        add_all(&mut self.commands, &other.commands);
        add_all(&mut self.refusals, &other.refusals);
        add_all(&mut self.refused_logins, &other.refused_logins);
        add_all(&mut self.sessions_ended, &other.sessions_ended);
        self.sessions_begun += other.sessions_begun;
        self.rows += other.rows;
        for (histogram, more) in self.phases.iter_mut().zip(&other.phases) {
            histogram.add(more);
        }
    }
}

fn add_all<K: Ord + Clone>(counts: &mut BTreeMap<K, u64>, others: &BTreeMap<K, u64>) {
    for (key, more) in others {
        match counts.get_mut(key) {
            Some(count) => *count += more,
            None => {
                counts.insert(key.clone(), *more);
            }
        }
    }
}

/// The counts of one shard. Per shard.
#[derive(Default)]
pub(crate) struct ShardMetrics(RefCell<ShardCounts>);

impl ShardMetrics {
    /// A message of an agent was recorded, with this verdict.
    pub(crate) fn command(&self, kind: CommandKind, verdict: Verdict) {
        let mut counts = self.0.borrow_mut();
        let place = counts.hot.get_mut(usize::from(kind.code()));
        if let Some(count) = place.and_then(|row| row.get_mut(usize::from(verdict.code()))) {
            *count += 1;
        }
    }

    /// A command was refused.
    pub(crate) fn refused(&self, reason: &'static str, rule: Option<&str>) {
        let mut counts = self.0.borrow_mut();
        let refusals = &mut counts.refusals;
        let mut cause = (reason, rule.map(str::to_owned));
        if refusals.len() >= RULES_MAX && !refusals.contains_key(&cause) {
            cause.1 = Some("other".to_owned());
        }
        *refusals.entry(cause).or_default() += 1;
    }

    pub(crate) fn refused_login(&self, reason: &'static str) {
        let mut counts = self.0.borrow_mut();
        *counts.refused_logins.entry(reason).or_default() += 1;
    }

    pub(crate) fn session_begun(&self) {
        self.0.borrow_mut().sessions_begun += 1;
    }

    pub(crate) fn session_ended(&self, reason: EndReason, rows: u64) {
        let mut counts = self.0.borrow_mut();
        *counts.sessions_ended.entry(reason.name()).or_default() += 1;
        counts.rows = counts.rows.saturating_add(rows);
    }

    pub(crate) fn took(&self, phase: Phase, took: Duration) {
        self.0.borrow_mut().phase_mut(phase).observe(took);
    }

    /// A copy of all of it.
    pub(crate) fn counts(&self) -> ShardCounts {
        let mut counts = self.0.borrow().clone();
        for kind in CommandKind::ALL {
            for verdict in Verdict::ALL {
                let row = counts.hot.get(usize::from(kind.code()));
                let count = row.and_then(|row| row.get(usize::from(verdict.code())));
                if let Some(count) = count.copied().filter(|count| *count > 0) {
                    counts.commands.insert((kind.name(), verdict.name()), count);
                }
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_verdict_has_its_place() {
        let metrics = ShardMetrics::default();
        for kind in CommandKind::ALL {
            for verdict in Verdict::ALL {
                metrics.command(*kind, *verdict);
            }
        }
        let counts = metrics.counts();
        assert_eq!(
            counts.commands.len(),
            CommandKind::ALL.len() * Verdict::ALL.len()
        );
        assert!(counts.commands.values().all(|count| *count == 1));
    }

    #[test]
    fn a_time_is_in_the_first_bucket_that_is_not_below_it() {
        let mut histogram = Histogram::default();
        histogram.observe(Duration::ZERO);
        histogram.observe(Duration::from_micros(100));
        histogram.observe(Duration::from_micros(101));
        histogram.observe(Duration::from_secs(3601));
        assert_eq!(histogram.buckets[0], 2);
        assert_eq!(histogram.buckets[1], 1);
        assert_eq!(histogram.buckets[BUCKETS.len()], 1);
        assert!(histogram.sum > 3601.0);
    }

    #[test]
    fn rules_are_bounded() {
        let metrics = ShardMetrics::default();
        for index in 0..RULES_MAX + 3 {
            metrics.refused("denied", Some(&index.to_string()));
        }
        let refusals = metrics.counts().refusals;
        assert_eq!(refusals.len(), RULES_MAX + 1);
        assert_eq!(refusals[&("denied", Some("other".to_owned()))], 3);
    }
}
