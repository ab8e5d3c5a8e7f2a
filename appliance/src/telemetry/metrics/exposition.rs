//! An observation of the whole process, as Prometheus reads it: names, help and units in one place.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{BUCKETS, Histogram, Phase, ShardCounts};

pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// What is known of the process at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// By number; `None` for one that did not answer in time.
    pub shards: Vec<Option<ShardObservation>>,
    pub journal: JournalObservation,
    /// Of the configuration in force.
    pub generation: u64,
    /// How long it has been in force.
    pub policy_age: Duration,
    pub uptime: Duration,
    pub draining: bool,
    /// Requests for approval that wait for people.
    pub approvals_pending: u64,
    /// Revocations in force.
    pub revocations: u64,
    /// Issuers whose keys could not be fetched, or not for too long.
    pub issuers_refused: u64,
    /// Since the keys of an issuer were fetched, of the one where it is longest ago.
    pub issuer_keys_age: Duration,
}

/// What one shard says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShardObservation {
    pub counts: ShardCounts,
    pub sessions: u64,
    /// Panics that ended one connection each.
    pub panics: u64,
    /// Values that masks have changed: by column, and found by their form.
    pub masked_columns: u64,
    pub masked_values: u64,
    /// Bytes of the journal ring that are not on disk, and how many it holds.
    pub ring_used: u64,
    pub ring_bytes: u64,
    pub pools: Vec<PoolObservation>,
}

/// Connections of one shard to one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolObservation {
    pub target: String,
    pub open: u64,
    pub idle: u64,
    pub waiting: u64,
    /// The last attempt to connect failed.
    pub failing: bool,
}

/// How the journal thread does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalObservation {
    pub in_trouble: bool,
    pub alarms: u64,
    pub commits: u64,
    pub committed_bytes: u64,
}

/// Writes it as text, version 0.0.4.
#[must_use]
pub fn expose(observation: Observation) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(observation));
    let mut text = String::new();
    // Writing to a String does not fail, and our encoding asks for nothing else.
    let written = prometheus_text::encode(&mut text, &registry);
    debug_assert!(written.is_ok());
    text
}

/// Labels of one line.
type Labels<'l> = Vec<(&'static str, &'l str)>;

impl Observation {
    /// What all shards that answered have counted.
    #[must_use]
    pub fn total(&self) -> ShardCounts {
        let mut total = ShardCounts::default();
        for shard in self.shards.iter().flatten() {
            total.add(&shard.counts);
        }
        total
    }
}

impl Collector for Observation {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Exposition(encoder);
        let total = self.total();

        let numbers: Vec<String> = (0..self.shards.len()).map(|n| n.to_string()).collect();
        let shards = || numbers.iter().zip(&self.shards);
        let answering =
            || shards().filter_map(|(number, shard)| Some((number.as_str(), shard.as_ref()?)));

        out.gauges(
            "sallyport_shard_up",
            "Whether the shard answered when it was asked",
            shards().map(|(number, shard)| {
                (
                    vec![("shard", number.as_str())],
                    f64::from(u8::from(shard.is_some())),
                )
            }),
        )?;
        out.gauges(
            "sallyport_sessions",
            "Live sessions",
            answering().map(|(number, shard)| (vec![("shard", number)], float(shard.sessions))),
        )?;
        out.counters(
            "sallyport_sessions_begun",
            "Sessions that began",
            [(vec![], total.sessions_begun)],
        )?;
        out.counters(
            "sallyport_sessions_ended",
            "Sessions that ended, by the reason that is recorded",
            total
                .sessions_ended
                .iter()
                .map(|(reason, count)| (vec![("reason", *reason)], *count)),
        )?;
        out.counters(
            "sallyport_logins_refused",
            "Logins that came to nothing, by reason",
            total
                .refused_logins
                .iter()
                .map(|(reason, count)| (vec![("reason", *reason)], *count)),
        )?;
        out.counters(
            "sallyport_commands",
            "Messages of agents that were recorded, by what they are and what policy said",
            total.commands.iter().map(|((kind, verdict), count)| {
                (vec![("kind", *kind), ("verdict", *verdict)], *count)
            }),
        )?;
        out.counters(
            "sallyport_refusals",
            "Commands that were refused, by reason and rule",
            total.refusals.iter().map(|((reason, rule), count)| {
                let rule = rule.as_deref().unwrap_or_default();
                (vec![("reason", *reason), ("rule", rule)], *count)
            }),
        )?;
        out.counters(
            "sallyport_rows",
            "Rows that agents got, in sessions that have ended",
            [(vec![], total.rows)],
        )?;
        let sum = |of: fn(&ShardObservation) -> u64| answering().map(|(_, shard)| of(shard)).sum();
        out.counters(
            "sallyport_masked_values",
            "Values that masks changed, by what found them",
            [
                (vec![("by", "column")], sum(|shard| shard.masked_columns)),
                (vec![("by", "form")], sum(|shard| shard.masked_values)),
            ],
        )?;
        out.histograms(
            "sallyport_phase_seconds",
            "How long phases of connections took",
            Phase::ALL.map(|phase| {
                (
                    vec![("protocol", "postgres"), ("phase", phase.name())],
                    total.phase(phase),
                )
            }),
        )?;

        let pools = || {
            answering().flat_map(|(number, shard)| {
                shard.pools.iter().map(move |pool| {
                    (
                        vec![("shard", number), ("target", pool.target.as_str())],
                        pool,
                    )
                })
            })
        };
        out.gauges(
            "sallyport_pool_connections",
            "Connections to the target, those being made included",
            pools().map(|(labels, pool)| (labels, float(pool.open))),
        )?;
        out.gauges(
            "sallyport_pool_idle_connections",
            "Connections to the target that no session uses",
            pools().map(|(labels, pool)| (labels, float(pool.idle))),
        )?;
        out.gauges(
            "sallyport_pool_waiting",
            "Logins that wait for a connection to the target",
            pools().map(|(labels, pool)| (labels, float(pool.waiting))),
        )?;
        out.gauges(
            "sallyport_pool_failing",
            "Whether the last attempt to connect to the target failed",
            pools().map(|(labels, pool)| (labels, f64::from(u8::from(pool.failing)))),
        )?;

        out.gauges(
            "sallyport_journal_lag_bytes",
            "Recorded bytes that are not on disk yet",
            answering().map(|(number, shard)| (vec![("shard", number)], float(shard.ring_used))),
        )?;
        out.gauges(
            "sallyport_journal_ring_bytes",
            "Bytes that the journal ring holds",
            answering().map(|(number, shard)| (vec![("shard", number)], float(shard.ring_bytes))),
        )?;
        out.gauges(
            "sallyport_journal_in_trouble",
            "Whether what is recorded cannot reach the disk",
            [(vec![], f64::from(u8::from(self.journal.in_trouble)))],
        )?;
        out.counters(
            "sallyport_journal_alarms",
            "How often recording got into trouble",
            [(vec![], self.journal.alarms)],
        )?;
        out.counters(
            "sallyport_journal_commits",
            "Group commits of the journal",
            [(vec![], self.journal.commits)],
        )?;
        out.counters(
            "sallyport_journal_committed_bytes",
            "Bytes of records that were committed",
            [(vec![], self.journal.committed_bytes)],
        )?;

        out.gauges(
            "sallyport_configuration_generation",
            "Number of the configuration in force",
            [(vec![], float(self.generation))],
        )?;
        out.gauges(
            "sallyport_policy_age_seconds",
            "How long the policy has been in force",
            [(vec![], self.policy_age.as_secs_f64())],
        )?;
        out.gauges(
            "sallyport_uptime_seconds",
            "How long the process has been running",
            [(vec![], self.uptime.as_secs_f64())],
        )?;
        out.gauges(
            "sallyport_draining",
            "Whether it was told to stop",
            [(vec![], f64::from(u8::from(self.draining)))],
        )?;
        out.counters(
            "sallyport_panics",
            "Connections that a panic ended",
            [(vec![], sum(|shard| shard.panics))],
        )?;
        out.gauges(
            "sallyport_approvals_pending",
            "Requests for approval that wait for people",
            [(vec![], float(self.approvals_pending))],
        )?;
        out.gauges(
            "sallyport_revocations",
            "Revocations in force",
            [(vec![], float(self.revocations))],
        )?;
        out.gauges(
            "sallyport_issuers_refused",
            "Issuers whose keys could not be fetched, or not for too long",
            [(vec![], float(self.issuers_refused))],
        )?;
        out.gauges(
            "sallyport_issuer_keys_age_seconds",
            "Since the keys of an issuer were fetched, of the one where it is longest ago",
            [(vec![], self.issuer_keys_age.as_secs_f64())],
        )
    }
}

struct Exposition<'e>(DescriptorEncoder<'e>);

impl Exposition<'_> {
    fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in lines {
            let value = ConstCounter::new(value);
            if labels.is_empty() {
                value.encode(family)?;
                return Ok(());
            }
            value.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in lines {
            let value = ConstGauge::new(value);
            if labels.is_empty() {
                value.encode(family)?;
                return Ok(());
            }
            value.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn histograms<'l, 'h>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Labels<'l>, &'h Histogram)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in lines {
            let bounds = BUCKETS.iter().copied().chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = bounds.zip(histogram.buckets).collect();
            let count = histogram.buckets.iter().sum();
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(histogram.sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

/// Counts are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "a count of bytes or sessions")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{CommandKind, Verdict};
    use crate::telemetry::metrics::ShardMetrics;

    fn observation() -> Observation {
        let metrics = ShardMetrics::default();
        metrics.command(CommandKind::Query, Verdict::Refused);
        metrics.refused("denied", Some("no \"drop\"\n"));
        metrics.took(Phase::Answer, Duration::from_millis(3));
        let shard = ShardObservation {
            counts: metrics.counts(),
            sessions: 2,
            pools: vec![PoolObservation {
                target: "orders".to_owned(),
                open: 3,
                idle: 1,
                waiting: 0,
                failing: false,
            }],
            ..ShardObservation::default()
        };
        Observation {
            shards: vec![Some(shard), None],
            journal: JournalObservation::default(),
            generation: 7,
            policy_age: Duration::from_secs(90),
            uptime: Duration::from_secs(91),
            draining: false,
            approvals_pending: 4,
            revocations: 0,
            issuers_refused: 0,
            issuer_keys_age: Duration::ZERO,
        }
    }

    #[test]
    fn an_observation_reads_as_prometheus_wants_it() {
        let text = expose(observation());
        for line in [
            "sallyport_shard_up{shard=\"0\"} 1.0",
            "sallyport_shard_up{shard=\"1\"} 0.0",
            "sallyport_commands_total{kind=\"query\",verdict=\"refused\"} 1",
            "sallyport_refusals_total{reason=\"denied\",rule=\"no \\\"drop\\\"\\n\"} 1",
            "sallyport_phase_seconds_bucket{protocol=\"postgres\",phase=\"answer\",le=\"0.0025\"} 0",
            "sallyport_phase_seconds_bucket{protocol=\"postgres\",phase=\"answer\",le=\"0.005\"} 1",
            "sallyport_phase_seconds_bucket{protocol=\"postgres\",phase=\"answer\",le=\"+Inf\"} 1",
            "sallyport_pool_connections{shard=\"0\",target=\"orders\"} 3.0",
            "sallyport_configuration_generation 7.0",
            "sallyport_approvals_pending 4.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_document_has_every_metric_and_no_other() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring.md");
        let document = std::fs::read_to_string(path).unwrap();
        let rows = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `sallyport_"));
        let mut documented: Vec<String> = rows
            .filter_map(|row| row.split_once("` |"))
            .filter(|(name, _)| !name.contains(' '))
            .map(|(name, _)| format!("sallyport_{name}"))
            .collect();
        let text = expose(observation());
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut exposed: Vec<String> = types
            .filter_map(|line| line.split(' ').next().map(str::to_owned))
            .collect();
        documented.sort();
        exposed.sort();
        assert_eq!(documented, exposed);
    }

    #[test]
    fn every_family_has_help_and_a_type_and_none_comes_twice() {
        let text = expose(observation());
        let types: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        let mut names: Vec<&str> = types
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert!(names.len() > 20);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), types.len());
        assert_eq!(text.matches("# HELP ").count(), types.len());
    }
}
