//! `run`: one path under one schedule.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::output::Outputs;
use super::{Failure, ProcessEnvironment};

#[derive(Debug, Args)]
pub(super) struct RunOptions {
    #[command(flatten)]
    outputs: Outputs,
}

impl RunOptions {
    pub(super) fn run(
        self,
        _arguments: &[OsString],
        _process: &ProcessEnvironment,
    ) -> Result<ExitCode, Failure> {
        Err(Failure::Absent("run"))
    }
}
