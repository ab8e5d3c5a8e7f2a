//! `sallyport check`: the configuration read and compiled whole, and nothing started or written.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, print, warn};
use crate::config::{self, Environment, Writing};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The file to check, in place of --config
    file: Option<PathBuf>,
}

impl Check {
    pub(super) fn run(self, mut environment: Environment) -> Result<(), Failure> {
        if let Some(file) = self.file {
            environment.file = file;
            environment.file_named = true;
        }
        let loaded = match config::load(&environment, Writing::Never, 0) {
            Ok(loaded) => loaded,
            // systemd gives credentials to the unit alone, so that a person's check has to go without.
            Err(problems) if problems.iter().all(|p| p.credential.is_some()) => {
                for problem in &problems {
                    warn(&problem.to_string());
                }
                print(&format!(
                    "{}: no mistake found, but for credentials that only the unit is given: {}\n",
                    environment.file.display(),
                    problems.len()
                ))?;
                return Ok(());
            }
            Err(problems) => return Err(problems.into()),
        };
        for warning in &loaded.warnings {
            warn(&warning.to_string());
        }
        let targets = loaded.snapshot.targets.iter().count();
        let issuers = loaded.snapshot.authenticators.issuers().len();
        print(&format!(
            "{}: no mistake found; targets: {targets}, issuers: {issuers}, warnings: {}\n",
            environment.file.display(),
            loaded.warnings.len()
        ))?;
        Ok(())
    }
}
