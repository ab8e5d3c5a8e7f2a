//! Paths against each other: ratios over rounds, and the bounds that a pipeline sets for them.
//!
//! It makes no runs; `cli/compare.rs` does.

use std::fmt;
use std::str::FromStr;

use crate::run::Run;
use crate::statistics::{self, Estimate};

/// Answers of a round that must lie beyond a percentile for it to be compared.
///
/// With fewer the percentile is the luck of one or two answers. p99.9 takes 10,000 requests a
/// round.
const BEYOND_MIN: f64 = 10.0;

/// Largest share of requests without an expected answer. Latencies are those of answers: when
/// more than a few are missing, they flatter the path that fails.
const FAILED_SHARE_MAX: f64 = 0.01;

/// What is compared. Latencies are the corrected ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    P50,
    P90,
    P99,
    P999,
    Throughput,
    /// CPU time of the path's process for each request.
    Cpu,
    /// Most resident memory of the path's process.
    Memory,
}

impl Metric {
    pub const ALL: [Self; 7] = [
        Self::P50,
        Self::P90,
        Self::P99,
        Self::P999,
        Self::Throughput,
        Self::Cpu,
        Self::Memory,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Throughput => "throughput",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P99 => Some(0.99),
            Self::P999 => Some(0.999),
            Self::Throughput | Self::Cpu | Self::Memory => None,
        }
    }

    /// Its value in one run: nanoseconds, requests a second, bytes.
    ///
    /// # Errors
    /// [`Missing`] when the run does not tell.
    pub fn of(self, run: &Run) -> Result<f64, Missing> {
        if let Some(quantile) = self.quantile() {
            let corrected = &run.latencies.corrected;
            let beyond = corrected.len() as f64 * (1.0 - quantile);
            // 1 - 0.999 is not quite 0.001.
            return if beyond + 1e-6 < BEYOND_MIN {
                Err(Missing::TooFew)
            } else {
                Ok(corrected.value_at_quantile(quantile) as f64)
            };
        }
        match self {
            Self::Cpu => run.cpu_per_request().ok_or(Missing::NoProcess),
            Self::Memory => run
                .process
                .map(|process| process.resident_peak as f64)
                .ok_or(Missing::NoProcess),
            Self::P50 | Self::P90 | Self::P99 | Self::P999 | Self::Throughput => Ok(run.rate()),
        }
    }
}

/// Why a metric is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    #[error("fewer than 10 answers of a round lie beyond it: more requests are needed")]
    TooFew,
    #[error("the process of one of the two was not looked at")]
    NoProcess,
    #[error("a round has nothing to divide")]
    NoRatio,
}

/// One metric of a path against another's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    pub ratio: Estimate,
    /// In the metric's own unit: nanoseconds, requests a second, bytes.
    pub difference: Estimate,
}

/// A path against another, over the rounds.
#[derive(Debug)]
pub struct Pair {
    pub path: String,
    pub base: String,
    pub metrics: Vec<(Metric, Result<Compared, Missing>)>,
}

/// A path and its runs, one for each round, in the order of the rounds.
#[derive(Debug)]
pub struct Path {
    pub name: String,
    pub rounds: Vec<Run>,
}

/// Everything that was compared.
#[derive(Debug)]
pub struct Comparison {
    pub paths: Vec<Path>,
    pub pairs: Vec<Pair>,
    pub verdicts: Vec<(Bound, Verdict)>,
    /// Of the draws of the intervals, and of the order of the rounds.
    pub seed: u64,
}

impl Comparison {
    /// Compares each path with the first, and those after the first with each other.
    #[must_use]
    pub fn of(paths: Vec<Path>, bounds: &[Bound], seed: u64) -> Self {
        let mut pairs = Vec::new();
        for (index, base) in paths.iter().enumerate() {
            for path in paths.iter().skip(index + 1) {
                // `sallyport` against `pgbouncer`, in the order they were named; but both
                // against the first.
                let (path, base) = if index == 0 {
                    (path, base)
                } else {
                    (base, path)
                };
                pairs.push(Pair {
                    path: path.name.clone(),
                    base: base.name.clone(),
                    metrics: Metric::ALL
                        .into_iter()
                        .map(|metric| (metric, compared(metric, path, base, seed)))
                        .collect(),
                });
            }
        }
        let mut verdicts = Vec::new();
        for bound in bounds {
            let named = |path: &&Path| bound.path.as_ref().is_none_or(|name| *name == path.name);
            for path in paths.iter().skip(1).filter(named) {
                let base = match &bound.base {
                    Some(name) => paths.iter().find(|path| path.name == *name),
                    None => paths.first(),
                };
                let bound = Bound {
                    path: Some(path.name.clone()),
                    ..bound.clone()
                };
                let verdict = base.map_or(Verdict::Unmeasured(Missing::NoRatio), |base| {
                    bound.judge(compared(bound.metric, path, base, seed))
                });
                verdicts.push((bound, verdict));
            }
        }
        Self {
            paths,
            pairs,
            verdicts,
            seed,
        }
    }

    #[must_use]
    pub fn rounds(&self) -> usize {
        self.paths.first().map_or(0, |path| path.rounds.len())
    }

    /// Why the ratios say nothing, beside what makes a run invalid by itself; empty when they do.
    #[must_use]
    pub fn invalid(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        for path in &self.paths {
            let due: u64 = path.rounds.iter().map(|run| run.counts.due).sum();
            let missed: u64 = path
                .rounds
                .iter()
                .map(|run| run.failures() + run.counts.unfinished)
                .sum();
            if missed as f64 > due as f64 * FAILED_SHARE_MAX {
                reasons.push(format!(
                    "{}: {missed} of {due} requests have no expected answer, and the others' \
                     latency flatters it",
                    path.name
                ));
            }
        }
        for (bound, verdict) in &self.verdicts {
            if let Verdict::Unmeasured(missing) = verdict {
                reasons.push(format!("`{bound}` cannot be judged: {missing}"));
            }
        }
        reasons
    }

    /// Bounds that were crossed.
    pub fn crossed(&self) -> impl Iterator<Item = &Bound> {
        self.verdicts
            .iter()
            .filter(|(_, verdict)| matches!(verdict, Verdict::Crossed(_)))
            .map(|(bound, _)| bound)
    }
}

fn compared(metric: Metric, path: &Path, base: &Path, seed: u64) -> Result<Compared, Missing> {
    let mut ratios = Vec::new();
    let mut differences = Vec::new();
    for (run, other) in path.rounds.iter().zip(&base.rounds) {
        let (value, other) = (metric.of(run)?, metric.of(other)?);
        ratios.push(value / other);
        differences.push(value - other);
    }
    Ok(Compared {
        ratio: statistics::ratio(&ratios, seed).ok_or(Missing::NoRatio)?,
        difference: statistics::mean(&differences, seed).ok_or(Missing::NoRatio)?,
    })
}

/// A condition on a ratio: `p99 > 1.2`, `sallyport: p99 > 1.2`, `sallyport/pgbouncer: cpu > 1`.
///
/// Without a path it is for every path; without a base, against the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    pub path: Option<String>,
    pub base: Option<String>,
    pub metric: Metric,
    pub relation: Relation,
    pub number: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Relation {
    /// Longer signs first: `>=` begins with `>`.
    const SIGNS: [(&'static str, Self); 4] = [
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        (">", Self::Above),
        ("<", Self::Below),
    ];

    fn sign(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
        }
    }

    fn holds(self, value: f64, number: f64) -> bool {
        match self {
            Self::Above => value > number,
            Self::AtLeast => value >= number,
            Self::Below => value < number,
            Self::AtMost => value <= number,
        }
    }
}

/// What came of a bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// The condition holds for every value in the interval.
    Crossed(Estimate),
    /// It holds for none.
    Kept(Estimate),
    /// It holds for some: the rounds do not tell. No failure, since a pipeline that fails by
    /// chance is soon ignored; more rounds decide it.
    Undecided(Estimate),
    Unmeasured(Missing),
}

impl Bound {
    fn judge(&self, compared: Result<Compared, Missing>) -> Verdict {
        let estimate = match compared {
            Ok(compared) => compared.ratio,
            Err(missing) => return Verdict::Unmeasured(missing),
        };
        let (low, high) = estimate
            .interval
            .unwrap_or((estimate.value, estimate.value));
        let holds = |value| self.relation.holds(value, self.number);
        match (holds(low), holds(high)) {
            (true, true) => Verdict::Crossed(estimate),
            (false, false) => Verdict::Kept(estimate),
            (true, false) | (false, true) => Verdict::Undecided(estimate),
        }
    }
}

/// Why a bound could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoundError {
    #[error("no >, >=, < or <= in it")]
    NoRelation,
    #[error(
        "`{0}` is not measured: p50, p90, p99, p99.9, throughput, cpu and memory are, for example \
         `p99 > 1.2`"
    )]
    UnknownMetric(String),
    #[error("`{0}` is no ratio above 0")]
    NoNumber(String),
    #[error("before the colon stands PATH or PATH/BASE")]
    NoPath,
}

impl FromStr for Bound {
    type Err = BoundError;

    fn from_str(text: &str) -> Result<Self, BoundError> {
        let (paths, condition) = match text.split_once(':') {
            Some((paths, condition)) => (Some(paths.trim()), condition),
            None => (None, text),
        };
        let (path, base) = match paths.map(|paths| paths.split_once('/')) {
            None => (None, None),
            Some(None) => (paths, None),
            Some(Some((path, base))) => (Some(path.trim()), Some(base.trim())),
        };
        if path == Some("") || base == Some("") {
            return Err(BoundError::NoPath);
        }
        let (relation, (metric, number)) = Relation::SIGNS
            .into_iter()
            .find_map(|(sign, relation)| Some((relation, condition.split_once(sign)?)))
            .ok_or(BoundError::NoRelation)?;
        let metric = metric.trim();
        let metric = Metric::ALL
            .into_iter()
            .find(|known| known.name() == metric)
            .ok_or_else(|| BoundError::UnknownMetric(metric.to_owned()))?;
        let number = number.trim();
        let number = number
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite() && *number > 0.0)
            .ok_or_else(|| BoundError::NoNumber(number.to_owned()))?;
        Ok(Self {
            path: path.map(str::to_owned),
            base: base.map(str::to_owned),
            metric,
            relation,
            number,
        })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            f.write_str(path)?;
            if let Some(base) = &self.base {
                write!(f, "/{base}")?;
            }
            f.write_str(": ")?;
        }
        write!(
            f,
            "{} {} {}",
            self.metric.name(),
            self.relation.sign(),
            self.number
        )
    }
}

#[cfg(test)]
mod tests;
