//! What the process is like at one moment: asked of every shard, the journal and the control plane.

use std::time::{Duration, Instant};

use runtime::{Published, ReplySender, ShardId};

use crate::approvals::Broker;
use crate::config::Snapshot;
use crate::identity::RemoteKeys;
use crate::recorder::JournalHandle;
use crate::revocation::RevocationSet;
use crate::shard::LiveSession;
use crate::shard::mailbox::{Directory, ToShard};
use crate::telemetry::metrics::{JournalObservation, Observation, ShardObservation};

/// How long a shard may take to say how it is. It answers between two turns, in microseconds; one
/// that does not is stuck, and whoever asks wants to know that and not to wait.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// Asks. Clones ask the same process.
#[derive(Clone)]
pub(super) struct Observer {
    pub(super) directory: Directory,
    pub(super) snapshot: Published<Snapshot>,
    pub(super) keys: Published<RemoteKeys>,
    pub(super) approvals: Broker,
    pub(super) revocations: Published<RevocationSet>,
    pub(super) recorder: JournalHandle,
    pub(super) started: Instant,
}

/// Why the process should get no new sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotReady {
    #[error("shard {number} does not answer")]
    ShardSilent { number: usize },
    #[error("what is recorded cannot reach the disk")]
    Journal,
    #[error("it was told to stop")]
    Draining,
}

impl Observer {
    /// What there is to be seen. Takes as long as the slowest shard, and [`ANSWER_DEADLINE`] at most.
    pub(super) async fn observe(&self) -> Observation {
        let shards = self.shards().await;
        let keys = self.keys.load();
        let refused = keys.sources.iter().filter(|known| known.keys.is_none());
        let now = runtime::unix_time().as_secs();
        let ages = keys.sources.iter().filter_map(|known| known.age(now));
        let journal = self.recorder.status();
        let snapshot = self.snapshot.load();
        Observation {
            shards,
            journal: JournalObservation {
                in_trouble: journal.trouble.is_some(),
                alarms: journal.alarms,
                commits: journal.commits,
                committed_bytes: journal.committed_bytes,
            },
            generation: snapshot.generation,
            policy_age: snapshot.in_force_since.elapsed(),
            uptime: self.started.elapsed(),
            draining: self.directory.is_draining(),
            approvals_pending: wide(self.approvals.count().await.unwrap_or_default()),
            revocations: wide(self.revocations.load().len()),
            issuers_refused: wide(refused.count()),
            issuer_keys_age: ages.max().unwrap_or_default(),
        }
    }

    /// What each shard says of itself; `None` for one that did not answer in time.
    pub(super) async fn shards(&self) -> Vec<Option<ShardObservation>> {
        self.ask(|reply| ToShard::Observe { reply }).await
    }

    /// The live sessions of each shard; `None` for one that did not answer in time.
    pub(super) async fn sessions(&self) -> Vec<Option<Vec<LiveSession>>> {
        self.ask(|reply| ToShard::List { reply }).await
    }

    /// Asks every shard and waits for [`ANSWER_DEADLINE`] at most, for all of them together.
    async fn ask<T: Send>(&self, question: impl Fn(ReplySender<T>) -> ToShard) -> Vec<Option<T>> {
        // All are asked before the first is waited for.
        let asked: Vec<_> = (0..self.directory.shards())
            .map(|number| {
                let (reply, answer) = runtime::reply();
                let shard = u16::try_from(number).map(ShardId).ok()?;
                let told = self.directory.send(shard, question(reply));
                told.ok().map(|()| answer)
            })
            .collect();
        let deadline = tokio::time::Instant::now() + ANSWER_DEADLINE;
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            let answered = match answer {
                Some(answer) => tokio::time::timeout_at(deadline, answer).await.ok(),
                None => None,
            };
            answers.push(answered.flatten());
        }
        answers
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// All that stands against new sessions.
pub(super) fn not_ready(observation: &Observation) -> Vec<NotReady> {
    // While it stops, a shard without sessions has ended.
    if observation.draining {
        return vec![NotReady::Draining];
    }
    let silent = observation.shards.iter().enumerate();
    let silent = silent
        .filter(|(_, shard)| shard.is_none())
        .map(|(number, _)| NotReady::ShardSilent { number });
    let journal = observation.journal.in_trouble.then_some(NotReady::Journal);
    silent.chain(journal).collect()
}
