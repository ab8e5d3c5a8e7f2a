//! `upstream`: the built-in server, on its own.

use std::process::ExitCode;

use clap::Args;

use super::{Failure, ProcessEnvironment};

#[derive(Debug, Args)]
pub(super) struct UpstreamOptions {}

impl UpstreamOptions {
    pub(super) fn run(self, _process: &ProcessEnvironment) -> Result<ExitCode, Failure> {
        Err(Failure::Absent("upstream"))
    }
}
