//! `run`: one path under one schedule.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::interrupt;
use super::measure::{measure, process_at};
use super::output::Outputs;
use super::paths::{self, PathOptions};
use super::{Failure, ProcessEnvironment};
use crate::engine::{Engine, Plan};
use crate::progress::Progress;
use crate::protocols::Canaries;
use crate::report::{Environment, Report};
use crate::scenario::{Asked, Share};

#[derive(Debug, Args)]
#[command(after_help = paths::KEYS)]
pub(super) struct RunOptions {
    /// What is measured: a proxy, or a database
    #[arg(long, value_name = "ADDRESS[,KEY=VALUE...]", value_parser = PathOptions::direct)]
    to: PathOptions,
    /// The database
    #[arg(long, default_value = "postgres", value_name = "NAME")]
    database: String,
    /// The proxy's process on this machine, where the port does not tell
    #[arg(long, value_name = "PID")]
    process: Option<u32>,
    /// A text that must be masked in every answer
    #[arg(long, value_name = "TEXT")]
    canary: Vec<String>,
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    outputs: Outputs,
}

impl RunOptions {
    pub(super) fn run(
        self,
        arguments: &[OsString],
        process: &ProcessEnvironment,
    ) -> Result<ExitCode, Failure> {
        let environment = Environment::read(arguments);
        let cpus = runtime::allowed_cpus().map_or(1, |cpus| cpus.len());
        let scenario = Arc::new(self.asked.resolve(cpus)?);
        let canaries = Arc::new(Canaries::new(&self.canary)?);
        let whole = self.asked.warm_up + self.asked.duration + self.asked.patience;
        let (target, agents) = self.to.resolve(&self.database, &canaries, whole, process)?;
        // Whoever asks for what is denied, or names what must not be seen, says that somebody polices.
        let asks_for_policy = self.asked.denied != Share::NONE || !canaries.is_empty();
        let name = self.to.address.to_string();
        let plan = Plan {
            path: name.clone(),
            target: Arc::new(target),
            agents,
            policed: self.to.policed() || asks_for_policy,
            reference: None,
            scenario: Arc::clone(&scenario),
        };
        // What answers without agents may be a database, whose many processes this would miss.
        let looked_at = match self.process {
            None if self.to.policed() => process_at(&name, &self.to.address),
            named => named,
        };
        let interrupt = interrupt::on_signals().map_err(Failure::Signals)?;
        let mut engine = Engine::start(scenario.workers, &interrupt)?;
        let progress = Progress::new(&name, self.outputs.quiet);
        let run = measure(&mut engine, plan, looked_at, progress)?;
        let runs = [run];
        self.outputs.write(&Report::of(&environment, &runs))
    }
}
