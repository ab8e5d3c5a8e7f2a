//! The report as JSON. Its fields are a contract: `docs/loadgen.md` says what each means.

use std::time::UNIX_EPOCH;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::{QUANTILES, Report};
use crate::compare::{Bound, Comparison, Metric, Pair, Path, Verdict};
use crate::run::{ProcessUse, Run, Second};
use crate::statistics::{CONFIDENCE, Estimate};

/// Changes when a field changes its meaning or goes; new fields leave it.
const FORMAT: &str = "sallyport-loadgen/1";

/// The report, with a line break at its end.
#[must_use]
pub fn json(report: &Report<'_>) -> String {
    let value = json!({
        "format": FORMAT,
        "valid": report.is_valid(),
        "environment": report.environment,
        "invalid": report.invalid(),
        "runs": report.runs.iter().map(run).collect::<Vec<_>>(),
        "comparison": report.comparison.map(comparison),
    });
    format!("{value:#}\n")
}

fn run(run: &Run) -> Value {
    json!({
        "path": run.path,
        "asked": run.asked,
        "started_unix": run.started.duration_since(UNIX_EPOCH).map_or(0.0, |age| age.as_secs_f64()),
        "duration_seconds": run.duration.as_secs_f64(),
        "interrupted": run.interrupted,
        "valid": run.generator.invalid.is_empty(),
        "invalid": run.generator.invalid,
        "rate": run.rate(),
        "counts": {
            "due": run.counts.due,
            "answered": run.counts.answered,
            "refused": run.counts.refused,
            "failed": run.counts.failed,
            "unfinished": run.counts.unfinished,
        },
        "latency_ns": {
            "corrected": distribution(&run.latencies.corrected),
            "uncorrected": distribution(&run.latencies.uncorrected),
            "first_byte": distribution(&run.latencies.first_byte),
            "connect": distribution(&run.latencies.connect),
        },
        "seconds": run.seconds.iter().map(second).collect::<Vec<_>>(),
        "verification": {
            "checked": run.verification.checked,
            "mismatches": run.verification.mismatches,
            "canaries_seen": run.verification.canaries_seen,
            "canaries_expected": run.verification.canaries_expected,
        },
        "generator": {
            "lag_ns": distribution(&run.generator.lag),
            "cpu_ns": run.generator.cpu,
            "waited_ns": run.generator.waited,
            "without_connection": run.generator.without_connection,
            "notes": run.generator.notes,
        },
        "company": {
            "idle": run.company.idle,
            "idle_lost": run.company.idle_lost,
            "slow": run.company.slow,
            "slow_lost": run.company.slow_lost,
            "slow_answers": run.company.slow_answers,
        },
        "process": run.process.map(|process| used(&process, run)),
    })
}

/// `null` when nothing was recorded.
fn distribution(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let mut fields = Map::new();
    fields.insert("count".to_owned(), histogram.len().into());
    fields.insert("min".to_owned(), histogram.min().into());
    fields.insert("mean".to_owned(), histogram.mean().into());
    for (name, quantile) in QUANTILES {
        let value = histogram.value_at_quantile(quantile);
        fields.insert(name.to_owned(), value.into());
    }
    fields.insert("max".to_owned(), histogram.max().into());
    Value::Object(fields)
}

fn second(second: &Second) -> Value {
    json!({
        "due": second.due,
        "failed": second.failed,
        "unfinished": second.unfinished,
        "p50": second.quantile(0.5),
        "p99": second.quantile(0.99),
        "max": second.max(),
    })
}

fn comparison(comparison: &Comparison) -> Value {
    let rounds = |path: &Path| -> Value {
        json!({ "path": path.name, "rounds": path.rounds.iter().map(round).collect::<Vec<_>>() })
    };
    json!({
        "rounds": comparison.rounds(),
        "confidence": CONFIDENCE,
        "seed": comparison.seed,
        "paths": comparison.paths.iter().map(rounds).collect::<Vec<_>>(),
        "pairs": comparison.pairs.iter().map(pair).collect::<Vec<_>>(),
        "bounds": comparison.verdicts.iter().map(bound).collect::<Vec<_>>(),
    })
}

/// One value of each metric; `null` where it was not measured.
fn round(run: &Run) -> Value {
    let metrics = Metric::ALL.into_iter();
    let values = metrics.map(|metric| (metric.name().to_owned(), metric.of(run).ok().into()));
    Value::Object(values.collect())
}

fn pair(pair: &Pair) -> Value {
    let metrics = pair.metrics.iter().map(|(metric, compared)| {
        let value = match compared {
            Ok(compared) => json!({
                "ratio": estimate(&compared.ratio),
                "difference": estimate(&compared.difference),
            }),
            Err(missing) => json!({ "missing": missing.to_string() }),
        };
        (metric.name().to_owned(), value)
    });
    json!({
        "path": pair.path,
        "base": pair.base,
        "metrics": Value::Object(metrics.collect()),
    })
}

fn estimate(estimate: &Estimate) -> Value {
    json!({
        "value": estimate.value,
        "low": estimate.interval.map(|(low, _)| low),
        "high": estimate.interval.map(|(_, high)| high),
    })
}

fn bound((bound, verdict): &(Bound, Verdict)) -> Value {
    let verdict = match verdict {
        Verdict::Crossed(_) => "crossed",
        Verdict::Kept(_) => "kept",
        Verdict::Undecided(_) => "undecided",
        Verdict::Unmeasured(_) => "unmeasured",
    };
    json!({ "bound": bound.to_string(), "verdict": verdict })
}

fn used(process: &ProcessUse, run: &Run) -> Value {
    json!({
        "process_id": process.process_id,
        "cpu_ns": process.cpu,
        "cpu_ns_per_request": run.cpu_per_request(),
        "resident_bytes_before": process.resident_before,
        "resident_bytes_peak": process.resident_peak,
        "proportional_bytes": process.proportional,
    })
}
