//! The two numbers of the canonical run.

use std::fmt::Write;

use super::table::{difference, interval_of, nanoseconds, printable};
use super::{Report, bytes};
use crate::compare::{Comparison, Metric, Path};
use crate::statistics::{self, Estimate};

/// What the second path adds to the first, and what its process takes for it.
///
/// `what` says in lines what was measured.
#[must_use]
pub fn headline(report: &Report<'_>, what: &str) -> String {
    let mut text = String::new();
    let reasons = report.invalid();
    if reasons.is_empty() {
        text.push_str("valid\n");
    } else {
        let _ = writeln!(text, "INVALID: {}", reasons.join("; "));
    }
    if report.has_wrong_answers() {
        text.push_str("WRONG: answers differ from the direct ones\n");
    }
    if let Some(comparison) = report.comparison {
        let _ = write!(
            text,
            "\n  latency added    {}\n  CPU per request  {}\n",
            added(comparison),
            cpu(comparison)
        );
        if let Some(peak) = peak(comparison) {
            let _ = writeln!(text, "  memory           {} at most", bytes(peak));
        }
    }
    let _ = writeln!(text, "\n{what}\n{}", report.environment);
    printable(&text)
}

fn added(comparison: &Comparison) -> String {
    let of = |metric: Metric| {
        let pair = comparison.pairs.first()?;
        let (_, compared) = pair.metrics.iter().find(|(of, _)| *of == metric)?;
        let said = difference(metric, &compared.as_ref().ok()?.difference);
        Some(format!("{said} at {}", metric.name()))
    };
    let said: Vec<String> = [Metric::P50, Metric::P99]
        .into_iter()
        .filter_map(of)
        .collect();
    if said.is_empty() {
        "not measured".to_owned()
    } else {
        said.join(", ")
    }
}

fn cpu(comparison: &Comparison) -> String {
    let estimate = comparison
        .paths
        .get(1)
        .and_then(|path| cpu_of(path, comparison.seed));
    match estimate {
        None => "not measured".to_owned(),
        Some(estimate) => {
            let value = nanoseconds(estimate.value);
            let interval = interval_of(&estimate, &nanoseconds);
            format!("{value}{interval}")
        }
    }
}

fn cpu_of(path: &Path, seed: u64) -> Option<Estimate> {
    let rounds: Option<Vec<f64>> = path
        .rounds
        .iter()
        .map(|run| run.cpu_per_request())
        .collect();
    statistics::mean(&rounds?, seed)
}

fn peak(comparison: &Comparison) -> Option<u64> {
    let rounds = comparison.paths.get(1)?.rounds.iter();
    rounds
        .filter_map(|run| Some(run.process?.resident_peak))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Environment;
    use crate::run::ProcessUse;
    use crate::run::tests::empty;

    fn path(name: &str, latency: u64, cpu: Option<u64>) -> Path {
        let mut run = empty(name);
        run.latencies.corrected.record_n(latency, 2_000).unwrap();
        run.counts.due = 2_000;
        run.counts.answered = 2_000;
        run.process = cpu.map(|cpu| ProcessUse {
            process_id: 1,
            cpu,
            resident_before: 0,
            resident_peak: 64 << 20,
            proportional: None,
        });
        Path {
            name: name.to_owned(),
            rounds: vec![run; 6],
        }
    }

    fn check(paths: Vec<Path>, expected: &str) {
        let environment = Environment::read(&[]);
        let comparison = Comparison::of(paths, &[], 1);
        let report = Report {
            environment: &environment,
            runs: &[],
            comparison: Some(&comparison),
        };
        let text = headline(&report, "what");
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn two_numbers_say_what_is_added() {
        check(
            vec![
                path("direct", 100_000, None),
                path("sallyport", 200_000, Some(60_000_000)),
            ],
            "valid\n\n  latency added    +100 µs (+100 µs to +100 µs) at p50, \
             +100 µs (+100 µs to +100 µs) at p99\n  \
             CPU per request  30.0 µs (30.0 µs to 30.0 µs)\n  memory           64.0 MiB at most\n\nwhat\n",
        );
    }

    #[test]
    fn what_was_not_measured_is_not_made_up() {
        check(
            vec![path("direct", 100_000, None)],
            "valid\n\n  latency added    not measured\n  CPU per request  not measured\n\nwhat\n",
        );
    }
}
