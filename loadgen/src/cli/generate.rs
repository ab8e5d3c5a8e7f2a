//! Manual pages and completions, made from the commands as they are declared, for packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory, Subcommand};
use clap_complete::Shell;

use super::{Arguments, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum Generate {
    /// Write a manual page for the program and each command
    Man {
        /// Existing folder to write to
        folder: PathBuf,
    },
    /// Write completions for bash, fish and zsh
    Completions {
        /// Existing folder to write to
        folder: PathBuf,
    },
}

impl Generate {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Man { folder } => {
                let mut command = Arguments::command();
                command.build();
                manual_pages(&command, &folder)?;
            }
            Self::Completions { folder } => {
                let mut command = Arguments::command();
                for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
                    clap_complete::generate_to(shell, &mut command, "sallyport-loadgen", &folder)
                        .map_err(at(&folder))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn manual_pages(command: &Command, folder: &Path) -> Result<(), Failure> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    let file = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().display_name(name.to_owned()))
        .render(&mut page)
        .map_err(at(&file))?;
    fs::write(&file, page).map_err(at(&file))?;
    let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    for subcommand in command.get_subcommands().filter(shown) {
        manual_pages(subcommand, folder)?;
    }
    Ok(())
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |source| Failure::File {
        path: path.to_owned(),
        source,
    }
}
