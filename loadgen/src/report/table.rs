//! The report for people, as text.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::{QUANTILES, Report, bytes, first_of};
use crate::compare::{Bound, Comparison, Metric, Verdict};
use crate::progress::duration;
use crate::run::Run;
use crate::statistics::Estimate;

/// What is read first stands first: whether the figures may be used.
#[must_use]
pub fn table(report: &Report<'_>) -> String {
    let mut text = String::new();
    let reasons = report.invalid();
    if reasons.is_empty() {
        text.push_str("valid\n");
    } else {
        let _ = writeln!(text, "INVALID: {}", reasons.join("; "));
    }
    for run in report.runs {
        text.push('\n');
        text.push_str(&one(run));
    }
    if let Some(comparison) = report.comparison {
        text.push('\n');
        text.push_str(&comparisons(comparison));
    }
    let _ = writeln!(text, "\n{}", report.environment);
    printable(&text)
}

fn one(run: &Run) -> String {
    let mut text = format!("{}: {}\n\n", run.path, run.asked);
    text.push_str(&percentiles(run));
    text.push('\n');
    for (name, value) in facts(run) {
        let _ = writeln!(text, "  {name:12}  {value}");
    }
    text
}

fn percentiles(run: &Run) -> String {
    let columns = columns(run);
    let mut text = format!("  {:8}", "latency");
    for (name, _) in columns {
        let _ = write!(text, "  {name:>11}");
    }
    text.push('\n');
    for (name, quantile) in QUANTILES.into_iter().chain([("max", 1.0)]) {
        let _ = write!(text, "  {name:8}");
        for (_, histogram) in columns {
            let _ = write!(text, "  {:>11}", value(histogram, quantile));
        }
        text.push('\n');
    }
    text
}

/// Corrected and uncorrected stand side by side: their distance is what a closed loop hides.
pub(super) fn columns(run: &Run) -> [(&'static str, &Histogram<u64>); 4] {
    let latencies = &run.latencies;
    [
        ("corrected", &latencies.corrected),
        ("uncorrected", &latencies.uncorrected),
        ("first byte", &latencies.first_byte),
        ("connect", &latencies.connect),
    ]
}

/// Everything but latency, by name.
pub(super) fn facts(run: &Run) -> Vec<(&'static str, String)> {
    let counts = &run.counts;
    let mut facts = vec![(
        "requests",
        format!(
            "{} due: {} answered, {} refused by policy, {} failed, {} unfinished; {:.1}/s",
            counts.due,
            counts.answered,
            counts.refused,
            run.failures(),
            counts.unfinished,
            run.rate()
        ),
    )];
    for (kind, count) in &counts.failed {
        facts.push(("failed", format!("{count} x {kind}")));
    }
    facts.push(("verification", verification(run)));
    facts.push(("generator", generator(run)));
    if run.generator.without_connection > 0 {
        let without = run.generator.without_connection;
        let due = counts.due;
        facts.push((
            "waiting",
            format!("{without} of {due} requests were due while every connection was busy"),
        ));
    }
    facts.extend(company(run).map(|company| ("beside", company)));
    facts.extend(process(run).map(|process| ("process", process)));
    if run.interrupted {
        facts.push(("note", "ended before its schedule was over".to_owned()));
    }
    facts.extend(first_of(&run.generator.notes).map(|note| ("note", note)));
    facts
}

fn verification(run: &Run) -> String {
    let verification = &run.verification;
    let mut text = match (verification.checked, verification.mismatches) {
        (0, _) => "no answer was compared".to_owned(),
        (checked, 0) => format!("{checked} answers compared, all as expected"),
        (checked, wrong) => format!("{checked} answers compared, {wrong} WRONG"),
    };
    match (verification.canaries_expected, verification.canaries_seen) {
        (_, seen) if seen > 0 => {
            let _ = write!(text, "; LEAK: {seen} values that a mask should have hidden");
        }
        (0, _) => text.push_str("; no masks were looked for"),
        (expected, _) => {
            let _ = write!(
                text,
                "; {expected} values looked for behind masks, none seen"
            );
        }
    }
    text
}

fn generator(run: &Run) -> String {
    let lag = &run.generator.lag;
    let mut shares: Vec<f64> = run
        .generator
        .cpu
        .iter()
        .map(|cpu| *cpu as f64 / run.duration.as_nanos().max(1) as f64)
        .collect();
    shares.sort_by(f64::total_cmp);
    let mut text = format!(
        "lag p50 {}, p99 {}, max {}",
        value(lag, 0.5),
        value(lag, 0.99),
        value(lag, 1.0)
    );
    if let Some(most) = shares.last() {
        let _ = write!(
            text,
            "; {:.2} cores, busiest thread {:.0} %",
            shares.iter().sum::<f64>(),
            most * 100.0
        );
    }
    text
}

fn company(run: &Run) -> Option<String> {
    let company = &run.company;
    let mut parts = Vec::new();
    if company.idle > 0 {
        parts.push(format!(
            "{} idle, {} of them lost",
            company.idle, company.idle_lost
        ));
    }
    if company.slow > 0 {
        parts.push(format!(
            "{} slow readers, {} of them lost, {} answers read",
            company.slow, company.slow_lost, company.slow_answers
        ));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn process(run: &Run) -> Option<String> {
    let process = run.process?;
    let mut text = format!(
        "{}: CPU {} per request, {} resident before, {} at most",
        process.process_id,
        run.cpu_per_request()
            .map_or_else(|| "-".to_owned(), nanoseconds),
        bytes(process.resident_before),
        bytes(process.resident_peak)
    );
    if let Some(proportional) = process.proportional {
        let _ = write!(text, ", {} proportional", bytes(proportional));
    }
    Some(text)
}

fn comparisons(comparison: &Comparison) -> String {
    let mut text = format!(
        "Ratios over {} rounds, each path under the same schedule, in changing order; in brackets \
         95 % intervals\n",
        comparison.rounds()
    );
    for pair in &comparison.pairs {
        let _ = writeln!(text, "\n  {} against {}", pair.path, pair.base);
        for (metric, compared) in &pair.metrics {
            text.push_str(&match compared {
                Ok(compared) => format!(
                    "    {:10}  {:>6.3} {:18}  {}\n",
                    metric.name(),
                    compared.ratio.value,
                    interval(&compared.ratio),
                    difference(*metric, &compared.difference)
                ),
                Err(missing) => format!("    {:10}       - {missing}\n", metric.name()),
            });
        }
    }
    if !comparison.verdicts.is_empty() {
        text.push('\n');
    }
    for (bound, said) in &comparison.verdicts {
        let _ = writeln!(text, "  {}", verdict(bound, said));
    }
    text
}

/// `(1.28 to 1.36)`; why there is none is in the documentation.
pub(super) fn interval(estimate: &Estimate) -> String {
    match estimate.interval {
        Some((low, high)) => format!("({low:.3} to {high:.3})"),
        None => "(too few rounds)".to_owned(),
    }
}

/// What a path adds, in the metric's unit.
pub(super) fn difference(metric: Metric, estimate: &Estimate) -> String {
    let write = |value: f64| {
        let sign = if value < 0.0 { "-" } else { "+" };
        let size = value.abs();
        match metric {
            Metric::P50 | Metric::P90 | Metric::P99 | Metric::P999 | Metric::Cpu => {
                format!("{sign}{}", nanoseconds(size))
            }
            Metric::Throughput => format!("{sign}{size:.1}/s"),
            Metric::Memory => format!("{sign}{}", bytes(rounded(size))),
        }
    };
    format!("{}{}", write(estimate.value), interval_of(estimate, &write))
}

/// ` (LOW to HIGH)`, each written as `write` does; nothing where there is no interval.
pub(super) fn interval_of(estimate: &Estimate, write: &dyn Fn(f64) -> String) -> String {
    match estimate.interval {
        Some((low, high)) => format!(" ({} to {})", write(low), write(high)),
        None => String::new(),
    }
}

/// A bound and what came of it, in a line.
pub(super) fn verdict(bound: &Bound, verdict: &Verdict) -> String {
    let ratio = |estimate: &Estimate| format!("{:.3} {}", estimate.value, interval(estimate));
    match verdict {
        Verdict::Crossed(estimate) => format!("FAIL  {bound}: {}", ratio(estimate)),
        Verdict::Kept(estimate) => format!("ok    {bound}: {}", ratio(estimate)),
        Verdict::Undecided(estimate) => format!(
            "?     {bound}: {}: the interval holds both; no failure, and more rounds would tell",
            ratio(estimate)
        ),
        Verdict::Unmeasured(missing) => format!("?     {bound}: {missing}"),
    }
}

pub(super) fn value(histogram: &Histogram<u64>, quantile: f64) -> String {
    if histogram.is_empty() {
        "-".to_owned()
    } else {
        duration(histogram.value_at_quantile(quantile))
    }
}

pub(super) fn nanoseconds(value: f64) -> String {
    duration(rounded(value))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "for reading; the cast saturates"
)]
fn rounded(value: f64) -> u64 {
    value.round() as u64
}

/// Names of paths come from a command line that somebody may have been given: a terminal obeys
/// nothing in them.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '\n' && (character.is_control() || is_invisible(character)) {
            let _ = write!(out, "{}", character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Characters that change how their neighbours are shown.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}
