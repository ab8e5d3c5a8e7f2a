//! `compare`: the same schedule through several paths, by turns.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use fastrand::Rng;

use super::interrupt;
use super::measure::{measure, process_at};
use super::output::{Outputs, say};
use super::paths::{self, DIRECT, PathOptions};
use super::{Failure, ProcessEnvironment};
use crate::compare::{Bound, Comparison, Metric, Path};
use crate::engine::{Engine, NoRun, Plan};
use crate::progress::Progress;
use crate::protocols::{Agent, Canaries, Reference, Target};
use crate::report::{Environment, Report};
use crate::run::Run;
use crate::scenario::{Asked, NoScenario, Scenario};
use crate::statistics::ROUNDS_MIN;

/// Most paths: a comparison of more takes so long that the machine is another one at its end.
const PATHS_MAX: usize = 6;

#[derive(Debug, Args)]
#[command(after_help = paths::KEYS)]
pub(super) struct CompareOptions {
    /// Where the database is without anything in between
    #[arg(long, value_name = "ADDRESS[,KEY=VALUE...]", value_parser = PathOptions::direct)]
    direct: PathOptions,
    /// A proxy in front of it; several are compared with each other too
    #[arg(long, value_name = "NAME=ADDRESS[,KEY=VALUE...]", required = true)]
    via: Vec<PathOptions>,
    /// The database, where a path has none of its own
    #[arg(long, default_value = "postgres", value_name = "NAME")]
    database: String,
    /// How often each path is measured; intervals and --fail-if take 6 or more
    #[arg(long, default_value = "8", value_name = "N")]
    rounds: NonZeroU32,
    /// End with status 3 when a ratio is beyond a bound, with its whole interval:
    /// `p99 > 1.2`, `sallyport: throughput < 0.9`, `sallyport/pgbouncer: cpu > 1.1`
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<Bound>,
    /// A proxy's process on this machine, where the port does not tell
    #[arg(long, value_name = "NAME=PID", value_parser = process_named)]
    process: Vec<(String, u32)>,
    /// A text that is in the direct answers and must be masked where agents ask
    #[arg(long, value_name = "TEXT")]
    canary: Vec<String>,
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    outputs: Outputs,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum NoComparison {
    #[error("two paths are called {0}")]
    Name(String),
    #[error("at most {PATHS_MAX} paths are compared")]
    Paths,
    #[error("no path is called {0}")]
    NoSuchPath(String),
    #[error("`{0}`: an interval takes {ROUNDS_MIN} rounds or more")]
    Rounds(Bound),
    #[error(
        "`{0}`: a database without a proxy has no process to compare with: name another proxy, \
         as in `sallyport/pgbouncer: cpu > 1.1`"
    )]
    NoBase(Bound),
    #[error("`{0}`: a path is compared with another one")]
    Itself(Bound),
}

fn process_named(text: &str) -> Result<(String, u32), &'static str> {
    let split = text.split_once('=');
    let parsed = split.and_then(|(name, process)| Some((name.to_owned(), process.parse().ok()?)));
    parsed.ok_or("a process is NAME=PID")
}

/// One path, ready to be measured.
pub(super) struct Ready {
    pub(super) name: String,
    pub(super) target: Arc<Target>,
    pub(super) agents: Arc<[Agent]>,
    pub(super) policed: bool,
    /// Its answers are compared among themselves, and not with the first path's.
    pub(super) alone: bool,
    pub(super) process: Option<u32>,
}

impl CompareOptions {
    pub(super) fn run(
        self,
        arguments: &[OsString],
        process: &ProcessEnvironment,
    ) -> Result<ExitCode, Failure> {
        self.check()?;
        let environment = Environment::read(arguments);
        let paths: Vec<&PathOptions> = std::iter::once(&self.direct).chain(&self.via).collect();
        let each = self.asked.warm_up + self.asked.duration;
        let runs = u32::try_from(paths.len()).unwrap_or(u32::MAX);
        let whole = each * self.rounds.get() * runs;
        if !self.outputs.quiet {
            say(&format!(
                "{} rounds of {runs} paths: about {}",
                self.rounds,
                humantime::format_duration(Duration::from_secs(whole.as_secs()))
            ));
        }
        let canaries = Arc::new(Canaries::new(&self.canary)?);
        let mut ready = Vec::new();
        for path in paths {
            let (target, agents) = path.resolve(&self.database, &canaries, whole, process)?;
            ready.push(Ready {
                name: path.name.clone(),
                target: Arc::new(target),
                agents,
                policed: path.policed(),
                alone: path.masked && canaries.is_empty(),
                process: self.process_of(path),
            });
        }
        let seed = self.asked.seed;
        let paths = measure_all(&self.asked, &ready, self.rounds.get(), self.outputs.quiet)?;
        let comparison = Comparison::of(paths, &self.fail_if, seed);
        let pooled: Vec<Run> = comparison
            .paths
            .iter()
            .filter_map(|path| Run::pooled(&path.rounds))
            .collect();
        self.outputs.write(&Report {
            environment: &environment,
            runs: &pooled,
            comparison: Some(&comparison),
        })
    }

    fn check(&self) -> Result<(), NoComparison> {
        let names: Vec<&str> = self.via.iter().map(|path| path.name.as_str()).collect();
        if names.len() + 1 > PATHS_MAX {
            return Err(NoComparison::Paths);
        }
        for (index, name) in names.iter().enumerate() {
            if names.iter().skip(index + 1).any(|other| other == name) {
                return Err(NoComparison::Name((*name).to_owned()));
            }
        }
        let known = |name: &str| match names.contains(&name) || name == DIRECT {
            true => Ok(()),
            false => Err(NoComparison::NoSuchPath(name.to_owned())),
        };
        for (name, _) in &self.process {
            known(name)?;
        }
        for bound in &self.fail_if {
            self.check_bound(bound, &known)?;
        }
        Ok(())
    }

    fn check_bound(
        &self,
        bound: &Bound,
        known: &dyn Fn(&str) -> Result<(), NoComparison>,
    ) -> Result<(), NoComparison> {
        for name in [&bound.path, &bound.base].into_iter().flatten() {
            known(name)?;
        }
        let base = bound.base.as_deref().unwrap_or(DIRECT);
        if bound.path.as_deref() == Some(base) {
            return Err(NoComparison::Itself(bound.clone()));
        }
        let of_processes = matches!(bound.metric, Metric::Cpu | Metric::Memory);
        let has_process = self.process.iter().any(|(name, _)| name == base);
        if of_processes && base == DIRECT && !has_process {
            return Err(NoComparison::NoBase(bound.clone()));
        }
        if usize::try_from(self.rounds.get()).is_ok_and(|rounds| rounds < ROUNDS_MIN) {
            return Err(NoComparison::Rounds(bound.clone()));
        }
        Ok(())
    }

    fn process_of(&self, path: &PathOptions) -> Option<u32> {
        let named = self.process.iter().find(|(name, _)| *name == path.name);
        match named {
            Some((_, process)) => Some(*process),
            // What answers there is the database, and it is not what is compared.
            None if path.name == DIRECT => None,
            None => process_at(&path.name, &path.address),
        }
    }
}

/// Measures each path once in each round, in an order that is drawn for the round, under a schedule
/// that the paths of a round share and rounds do not. The first round begins with the first path,
/// since its answers are what the others' are compared with.
///
/// Ends early when it is interrupted, with the rounds that are complete.
pub(super) fn measure_all(
    asked: &Asked,
    ready: &[Ready],
    rounds: u32,
    quiet: bool,
) -> Result<Vec<Path>, Failure> {
    let cpus = runtime::allowed_cpus().map_or(1, |cpus| cpus.len());
    let interrupt = interrupt::on_signals().map_err(Failure::Signals)?;
    let mut engine = Engine::start(asked.resolve(cpus)?.workers, &interrupt)?;
    let mut rng = Rng::with_seed(asked.seed);
    let mut paths: Vec<Path> = ready
        .iter()
        .map(|path| Path {
            name: path.name.clone(),
            rounds: Vec::new(),
        })
        .collect();
    let mut references: Vec<Option<Reference>> = vec![None; ready.len()];
    for round in 0..rounds {
        let scenario = Arc::new(of_round(asked, round, cpus)?);
        let mut order: Vec<usize> = (0..ready.len()).collect();
        let drawn = if round == 0 { 1.. } else { 0.. };
        rng.shuffle(order.get_mut(drawn).unwrap_or_default());
        let mut runs = Vec::new();
        for index in order {
            let Some(path) = ready.get(index) else {
                continue;
            };
            let label = format!("{} {}/{rounds}", path.name, round + 1);
            let of = if path.alone { index } else { 0 };
            let plan = Plan {
                path: path.name.clone(),
                target: Arc::clone(&path.target),
                agents: Arc::clone(&path.agents),
                scenario: Arc::clone(&scenario),
                policed: path.policed,
                reference: references.get(of).copied().flatten(),
            };
            let progress = Progress::new(&label, quiet);
            let run = match measure(&mut engine, plan, path.process, progress) {
                Ok(run) if !run.interrupted => run,
                Ok(_) | Err(NoRun::Interrupted) if round > 0 => return Ok(paths),
                Ok(_) => return Err(NoRun::Interrupted.into()),
                Err(error) => return Err(error.into()),
            };
            if let Some(reference) = references.get_mut(index) {
                *reference = reference.or(run.verification.reference);
            }
            runs.push((index, run));
        }
        for (index, run) in runs {
            if let Some(path) = paths.get_mut(index) {
                path.rounds.push(run);
            }
        }
    }
    Ok(paths)
}

/// The scenario of a round: what was asked, with a seed of its own.
fn of_round(asked: &Asked, round: u32, cpus: usize) -> Result<Scenario, NoScenario> {
    let seed = asked.seed.wrapping_add(u64::from(round));
    Asked {
        seed,
        ..asked.clone()
    }
    .resolve(cpus)
}
