//! How the appliance does: for people, for load balancers and for Prometheus.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::observe::not_ready;
use super::{Shared, paths};
use crate::telemetry::metrics::{self, BUCKETS, Histogram, Observation, Phase};

/// How the appliance does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// It takes new sessions.
    pub ready: bool,
    /// Why it does not.
    pub problems: Vec<String>,
    /// How long the configuration in force has been.
    pub policy_age_seconds: u64,
    pub uptime_seconds: u64,
    pub shards: Vec<ShardHealth>,
    pub journal: JournalHealth,
    pub pools: Vec<PoolHealth>,
    /// Since the start.
    pub commands: Vec<CommandCount>,
    pub refusals: Vec<RefusalCount>,
    pub phases: Vec<PhaseHealth>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShardHealth {
    /// It answered.
    pub up: bool,
    pub sessions: u64,
    /// Recorded bytes that are not on disk yet.
    pub journal_lag_bytes: u64,
}

/// The journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JournalHealth {
    /// What is recorded cannot reach the disk.
    pub in_trouble: bool,
    pub commits: u64,
    pub committed_bytes: u64,
}

/// Connections to one target, over all shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolHealth {
    pub target: String,
    pub open: u64,
    pub idle: u64,
    /// Logins that wait for one.
    pub waiting: u64,
    /// The last attempt to connect failed, on some shard.
    pub failing: bool,
}

/// Messages of agents, by what they are and what policy said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandCount {
    pub kind: String,
    pub verdict: String,
    pub count: u64,
}

/// Commands that were refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusalCount {
    pub reason: String,
    pub rule: Option<String>,
    pub count: u64,
}

/// How long one phase of connections took since the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PhaseHealth {
    pub phase: String,
    pub count: u64,
    /// Half of them took at most this long. The bound of a bucket; absent where none is that high.
    pub p50_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
}

/// How the appliance does
#[utoipa::path(
    get,
    path = paths::HEALTH,
    operation_id = "health",
    responses((status = 200, description = "Whether it takes new sessions, and how it does", body = Health))
)]
pub(super) async fn health(State(shared): State<Shared>) -> Response {
    let observation = shared.observer.observe().await;
    Json(Health::of(&observation)).into_response()
}

/// Metrics, as Prometheus reads them
#[utoipa::path(
    get,
    path = paths::METRICS,
    operation_id = "metrics",
    responses((status = 200, description = "All metrics", content_type = "text/plain", body = String))
)]
pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    let text = metrics::expose(shared.observer.observe().await);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

impl Health {
    /// Live sessions on all shards.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.shards.iter().map(|shard| shard.sessions).sum()
    }

    /// Recorded bytes of all shards that are not on disk yet.
    #[must_use]
    pub fn journal_lag_bytes(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.journal_lag_bytes)
            .sum()
    }

    fn of(observation: &Observation) -> Self {
        let problems: Vec<String> = not_ready(observation)
            .iter()
            .map(ToString::to_string)
            .collect();
        let total = observation.total();
        let shards = observation.shards.iter().map(|shard| match shard {
            Some(shard) => ShardHealth {
                up: true,
                sessions: shard.sessions,
                journal_lag_bytes: shard.ring_used,
            },
            None => ShardHealth {
                up: false,
                sessions: 0,
                journal_lag_bytes: 0,
            },
        });
        let commands = total
            .commands
            .iter()
            .map(|((kind, verdict), count)| CommandCount {
                kind: (*kind).to_owned(),
                verdict: (*verdict).to_owned(),
                count: *count,
            });
        let refusals = total
            .refusals
            .iter()
            .map(|((reason, rule), count)| RefusalCount {
                reason: (*reason).to_owned(),
                rule: rule.clone(),
                count: *count,
            });
        let phases = Phase::ALL.map(|phase| PhaseHealth::of(phase, total.phase(phase)));
        Self {
            ready: problems.is_empty(),
            problems,
            policy_age_seconds: observation.policy_age.as_secs(),
            uptime_seconds: observation.uptime.as_secs(),
            shards: shards.collect(),
            journal: JournalHealth {
                in_trouble: observation.journal.in_trouble,
                commits: observation.journal.commits,
                committed_bytes: observation.journal.committed_bytes,
            },
            pools: pools(observation),
            commands: commands.collect(),
            refusals: refusals.collect(),
            phases: phases.into(),
        }
    }
}

/// Those of all shards, target by target.
fn pools(observation: &Observation) -> Vec<PoolHealth> {
    let mut pools: Vec<PoolHealth> = Vec::new();
    for pool in observation
        .shards
        .iter()
        .flatten()
        .flat_map(|shard| &shard.pools)
    {
        let known = pools.iter_mut().find(|known| known.target == pool.target);
        match known {
            Some(known) => {
                known.open += pool.open;
                known.idle += pool.idle;
                known.waiting += pool.waiting;
                known.failing |= pool.failing;
            }
            None => pools.push(PoolHealth {
                target: pool.target.clone(),
                open: pool.open,
                idle: pool.idle,
                waiting: pool.waiting,
                failing: pool.failing,
            }),
        }
    }
    pools.sort_by(|one, other| one.target.cmp(&other.target));
    pools
}

impl PhaseHealth {
    fn of(phase: Phase, histogram: &Histogram) -> Self {
        Self {
            phase: phase.name().to_owned(),
            count: histogram.buckets.iter().sum(),
            p50_seconds: quantile(histogram, 50),
            p99_seconds: quantile(histogram, 99),
        }
    }
}

/// The bound of the first bucket up to which `percent` of the times lie.
fn quantile(histogram: &Histogram, percent: u64) -> Option<f64> {
    let count: u64 = histogram.buckets.iter().sum();
    let needed = count.saturating_mul(percent).div_ceil(100);
    let mut seen = 0;
    let bounded = BUCKETS.iter().zip(&histogram.buckets);
    let mut reached = bounded.filter(|(_, times)| {
        seen += **times;
        needed > 0 && seen >= needed
    });
    reached.next().map(|(bound, _)| *bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(quantile(&histogram, 50), None);
        histogram.buckets[3] = 99;
        histogram.buckets[BUCKETS.len()] = 1;
        assert_eq!(quantile(&histogram, 50), Some(BUCKETS[3]));
        assert_eq!(quantile(&histogram, 99), Some(BUCKETS[3]));
        histogram.buckets[BUCKETS.len()] = 2;
        assert_eq!(quantile(&histogram, 99), None, "above every bound");
    }
}
