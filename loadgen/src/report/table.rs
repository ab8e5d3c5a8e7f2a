//! The report for people, as text.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::{QUANTILES, Report, bytes};
use crate::progress::duration;
use crate::run::Run;

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
    let environment = report.environment;
    let _ = writeln!(
        text,
        "\n{}, {} cores, Linux {}, sallyport-loadgen {}",
        environment.cpu, environment.cores, environment.kernel, environment.version
    );
    printable(&text)
}

fn one(run: &Run) -> String {
    let mut text = format!("{}: {}\n\n", run.path, run.asked);
    text.push_str(&percentiles(run));
    let counts = &run.counts;
    let _ = writeln!(
        text,
        "\n  requests      {} due: {} answered, {} refused by policy, {} failed, {} unfinished; {:.1}/s",
        counts.due,
        counts.answered,
        counts.refused,
        run.failures(),
        counts.unfinished,
        run.rate()
    );
    for (kind, count) in &counts.failed {
        let _ = writeln!(text, "    failed      {count} x {kind}");
    }
    let _ = writeln!(text, "  verification  {}", verification(run));
    let lag = &run.generator.lag;
    let _ = writeln!(
        text,
        "  generator     lag p50 {}, p99 {}, max {}; CPU {}",
        value(lag, 0.5),
        value(lag, 0.99),
        value(lag, 1.0),
        cores(run)
    );
    if run.generator.without_connection > 0 {
        let _ = writeln!(
            text,
            "                {} of {} requests were due while every connection was busy",
            run.generator.without_connection, counts.due
        );
    }
    text.push_str(&company(run));
    if let Some(process) = &run.process {
        let _ = writeln!(
            text,
            "  process       {}: CPU {} per request, {} resident before, {} at most{}",
            process.process_id,
            run.cpu_per_request()
                .map_or_else(|| "-".to_owned(), nanoseconds),
            bytes(process.resident_before),
            bytes(process.resident_peak),
            process
                .proportional
                .map(|shared| format!(", {} proportional", bytes(shared)))
                .unwrap_or_default()
        );
    }
    if run.interrupted {
        text.push_str("  note          ended before its schedule was over\n");
    }
    for note in &run.generator.notes {
        let _ = writeln!(text, "  note          {note}");
    }
    text
}

fn company(run: &Run) -> String {
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
            "{} slow readers, {} of them lost, {} read",
            company.slow,
            company.slow_lost,
            bytes(company.slow_bytes)
        ));
    }
    match parts.as_slice() {
        [] => String::new(),
        parts => format!("  beside        {}\n", parts.join("; ")),
    }
}

fn percentiles(run: &Run) -> String {
    let latencies = &run.latencies;
    let columns = [
        ("corrected", &latencies.corrected),
        ("uncorrected", &latencies.uncorrected),
        ("first byte", &latencies.first_byte),
        ("connect", &latencies.connect),
    ];
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

/// How busy the generator's threads were, the busiest last.
fn cores(run: &Run) -> String {
    let mut shares: Vec<f64> = run
        .generator
        .cpu
        .iter()
        .map(|cpu| *cpu as f64 / run.duration.as_nanos().max(1) as f64)
        .collect();
    shares.sort_by(f64::total_cmp);
    match shares.last() {
        None => "unknown".to_owned(),
        Some(most) => format!(
            "{:.2} cores, busiest thread {:.0} %",
            shares.iter().sum::<f64>(),
            most * 100.0
        ),
    }
}

fn value(histogram: &Histogram<u64>, quantile: f64) -> String {
    if histogram.is_empty() {
        "-".to_owned()
    } else {
        duration(histogram.value_at_quantile(quantile))
    }
}

fn nanoseconds(value: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of nanoseconds, rounded for reading; the cast saturates"
    )]
    duration(value.round() as u64)
}

/// Names of paths come from a command line that somebody may have been given: a terminal obeys
/// nothing in them.
fn printable(text: &str) -> String {
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
