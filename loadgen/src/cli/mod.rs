//! The command line of the load generator: what can be measured, and how it is said.
//!
//! Each command stands in its own file. Standard output carries the report and nothing else;
//! progress, mistakes and warnings go to standard error.

mod canonical;
mod compare;
mod generate;
mod interrupt;
mod measure;
mod paths;
mod run;
mod upstream;

pub mod output;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use runtime::ShardDied;

use self::canonical::NoCanonical;
use self::compare::NoComparison;
use self::paths::NoPath;
use crate::engine::NoRun;
use crate::protocols::CanaryError;
use crate::report::LogError;
use crate::scenario::NoScenario;
use crate::upstream::UpstreamError;

/// A command could not do what was asked.
pub(crate) const EXIT_FAILED: u8 = 1;

/// A bound of `--fail-if` was crossed.
pub(crate) const EXIT_BOUND: u8 = 3;

/// The measurement says nothing about the path.
pub(crate) const EXIT_INVALID: u8 = 4;

/// An answer was not what it should be; wins over every other.
pub(crate) const EXIT_WRONG: u8 = 5;

/// What of the process environment counts. Only `main` reads it.
#[derive(Debug, Clone)]
pub struct ProcessEnvironment {
    /// Looks up a variable.
    pub variable: fn(&str) -> Option<OsString>,
}

const EXIT_CODES: &str = "\
Exit status:
  0  measured
  1  could not measure
  2  usage
  3  a bound of --fail-if was crossed
  4  INVALID: measured, but the figures say nothing about the path
  5  an answer had other rows than it should have, or a value that a mask should have hidden

Examples:
  How much does the appliance on this machine add?
    sallyport-loadgen

  What does a user wait at 2,000 requests a second, and what does it look like?
    sallyport-loadgen run --to 10.0.0.5:6432 --rate 2000 --html report.html

  Does a pipeline fail when the appliance adds more than a fifth to p99?
    sallyport-loadgen compare --direct db:5432 --via sallyport=proxy:6432 --fail-if 'p99 > 1.2'

docs/loadgen.md says how each figure is made.";

/// Measures what stands between clients and PostgreSQL.
///
/// Requests are sent when they are due, whether or not earlier ones were answered, and latency
/// counts from then: a stall is seen by everybody who would have waited. Without a command it
/// measures the appliance that runs on this machine, for half a minute.
#[derive(Debug, Parser)]
#[command(
    name = "sallyport-loadgen",
    version,
    max_term_width = 100,
    after_long_help = EXIT_CODES,
    after_help = "`--help` shows examples.",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(flatten)]
    canonical: canonical::CanonicalOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure one path
    Run(Box<run::RunOptions>),
    /// Measure several paths by turns, and say how far apart they are
    Compare(Box<compare::CompareOptions>),
    /// Be a PostgreSQL server that answers at once, to take the database out of a measurement
    Upstream(upstream::UpstreamOptions),
    /// Write manual pages or shell completions
    #[command(subcommand, hide = true)]
    Generate(generate::Generate),
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("cannot write the report")]
    Output(#[from] io::Error),
    #[error("cannot write {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    NoCanonical(#[from] NoCanonical),
    #[error(transparent)]
    NoComparison(#[from] NoComparison),
    #[error(transparent)]
    NoPath(#[from] NoPath),
    #[error(transparent)]
    NoScenario(#[from] NoScenario),
    #[error(transparent)]
    NoRun(#[from] NoRun),
    #[error("cannot be made to end with the process that started it")]
    Parent(#[source] io::Error),
    #[error("signals of this process cannot be waited for")]
    Signals(#[source] io::Error),
    #[error("a canary cannot be looked for")]
    Canary(#[from] CanaryError),
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Shards(#[from] ShardDied),
    #[error("these CPUs cannot be used")]
    Cpus(#[source] io::Error),
    #[error("this machine has no randomness")]
    Randomness,
    #[error("`{0}` is not part of this build")]
    Absent(&'static str),
}

/// Runs the command that `arguments` name (the program's own name first).
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    process: &ProcessEnvironment,
) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let parsed = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(usage) => {
            // Nothing is left to say it to when this fails.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match parsed.command {
        Some(Command::Run(options)) => options.run(&arguments, process),
        Some(Command::Compare(options)) => options.run(&arguments, process),
        Some(Command::Upstream(options)) => options.run(process),
        Some(Command::Generate(generate)) => generate.run(),
        None => parsed.canonical.run(&arguments, process),
    };
    match outcome {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            output::say(&chain(&failure));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// An error and what caused it, in a line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(line, ": {error}");
        cause = error.source();
    }
    line
}
