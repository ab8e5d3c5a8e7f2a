//! `sallyport generate`: manual pages and shell completions, as the packages install them.
//!
//! They come from the commands as they are parsed, and from the table of configuration keys.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Arguments, Failure};
use crate::config;

const MANUAL: &str = "Sallyport";

/// Shells that distributions have a directory of completions for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

#[derive(Debug, Args)]
pub(super) struct Generate {
    /// What to write
    #[arg(value_enum)]
    what: What,
    /// Where to; it is made if it is not there
    directory: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// A manual page for each command, and one for the configuration file
    Man,
    /// Completions for bash, zsh and fish
    Completions,
}

impl Generate {
    pub(super) fn run(&self) -> Result<(), Failure> {
        fs::create_dir_all(&self.directory)?;
        match self.what {
            What::Man => manual(&self.directory)?,
            What::Completions => completions(&self.directory)?,
        }
        Ok(())
    }
}

fn manual(directory: &Path) -> io::Result<()> {
    // `help COMMAND` would have a page for each command once more.
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    pages(&program, directory)?;
    fs::write(directory.join("sallyport.toml.5"), config::manual_page())
}

fn pages(command: &Command, directory: &Path) -> io::Result<()> {
    for inner in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        pages(inner, directory)?;
    }
    Man::new(command.clone())
        .manual(MANUAL)
        .source(concat!("Sallyport ", env!("CARGO_PKG_VERSION")))
        .generate_to(directory)?;
    Ok(())
}

fn completions(directory: &Path) -> io::Result<()> {
    let mut program = Arguments::command();
    for shell in SHELLS {
        let name = clap_complete::Generator::file_name(&shell, "sallyport");
        let mut file = File::create(directory.join(name))?;
        clap_complete::generate(shell, &mut program, "sallyport", &mut file);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(command: &Command, path: &str, found: &mut Vec<String>) {
        found.push(path.to_owned());
        for inner in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            commands(inner, &format!("{path}-{}", inner.get_name()), found);
        }
    }

    #[test]
    fn each_command_that_help_shows_has_a_page_and_no_other_has() {
        let place = tempfile::tempdir().unwrap();
        manual(place.path()).unwrap();
        let mut expected = Vec::new();
        commands(&Arguments::command(), "sallyport", &mut expected);
        assert!(expected.contains(&"sallyport-token-issue".to_owned()));
        let mut expected: Vec<String> = expected.iter().map(|c| format!("{c}.1")).collect();
        expected.push("sallyport.toml.5".to_owned());
        expected.sort();
        let mut written: Vec<String> = fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        written.sort();
        assert_eq!(written, expected);
    }

    #[test]
    fn a_page_names_its_command_as_it_is_typed_and_its_options() {
        let place = tempfile::tempdir().unwrap();
        manual(place.path()).unwrap();
        let page = fs::read_to_string(place.path().join("sallyport-token-issue.1")).unwrap();
        for expected in [
            ".TH sallyport-token-issue 1",
            r"\fBsallyport token issue\fR",
            r"\fB\-\-config\fR",
        ] {
            assert!(page.contains(expected), "{expected} is not in:\n{page}");
        }
    }

    #[test]
    fn completions_are_named_as_shells_look_for_them() {
        let place = tempfile::tempdir().unwrap();
        completions(place.path()).unwrap();
        for name in ["sallyport.bash", "_sallyport", "sallyport.fish"] {
            let text = fs::read_to_string(place.path().join(name)).unwrap();
            assert!(text.contains("approvals"), "{name}");
        }
    }
}
