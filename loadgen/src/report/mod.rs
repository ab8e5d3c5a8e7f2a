//! What a person or a program gets to read of runs that were made.

mod environment;
mod hdr;
mod headline;
mod html;
mod json;
mod plot;
mod table;

pub use environment::Environment;
pub use hdr::{LogError, interval_log, percentile_distribution};
pub use headline::headline;
pub use html::html;
pub use json::json;
pub use table::table;

use crate::compare::Comparison;
use crate::run::Run;

/// Quantiles that are shown, by name. Beyond the last, a run has too few samples to say anything.
pub const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// Everything that a report is made from.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    pub environment: &'a Environment,
    /// One for each path, in the order in which they were named.
    pub runs: &'a [Run],
    /// Where there were several.
    pub comparison: Option<&'a Comparison>,
}

impl<'a> Report<'a> {
    /// Of paths that are not compared.
    #[must_use]
    pub fn of(environment: &'a Environment, runs: &'a [Run]) -> Self {
        Self {
            environment,
            runs,
            comparison: None,
        }
    }

    /// Whether every run says something about its path.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.invalid().is_empty()
    }

    /// Why not, in a line for each path; every reason is in the JSON.
    #[must_use]
    pub fn invalid(&self) -> Vec<String> {
        let reasons = |run: &Run| {
            let reason = first_of(&run.generator.invalid)?;
            Some(format!("{}: {reason}", run.path))
        };
        let compared = self.comparison.map(Comparison::invalid);
        self.runs
            .iter()
            .filter_map(reasons)
            .chain(compared.into_iter().flatten())
            .collect()
    }

    /// Whether an answer was not what it should be: other rows, or a value that a mask should have
    /// hidden.
    #[must_use]
    pub fn has_wrong_answers(&self) -> bool {
        self.runs
            .iter()
            .any(|run| run.verification.mismatches > 0 || run.verification.canaries_seen > 0)
    }
}

/// The first of several lines that say alike things of several rounds, and how many more there are.
fn first_of(lines: &[String]) -> Option<String> {
    let (first, rest) = lines.split_first()?;
    Some(match rest.len() {
        0 => first.clone(),
        more => format!("{first} (and {more} more)"),
    })
}

/// Bytes with the unit that suits.
fn bytes(count: u64) -> String {
    let mebibytes = count as f64 / 1_048_576.0;
    if mebibytes < 10.0 {
        format!("{:.0} KiB", count as f64 / 1024.0)
    } else {
        format!("{mebibytes:.1} MiB")
    }
}
