//! Where reports go: options that `run` and `compare` share, and the writing.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_INVALID, EXIT_WRONG, Failure};
use crate::report::{self, Report};

#[derive(Debug, Args)]
#[command(next_help_heading = "Reports")]
pub struct Outputs {
    /// Write everything that was measured as JSON; `-` prints it in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write no progress
    #[arg(short, long)]
    pub quiet: bool,
}

impl Outputs {
    /// Prints and writes the report. The status says whether the figures may be used.
    ///
    /// # Errors
    /// When a file or standard output cannot be written.
    pub fn write(&self, report: &Report<'_>) -> Result<ExitCode, Failure> {
        let json_only = self.json.as_deref() == Some(Path::new("-"));
        match self.json.as_deref() {
            Some(_) if json_only => print(&report::json(report))?,
            Some(file) => write(file, report::json(report).as_bytes())?,
            None => {}
        }
        if !json_only {
            print(&report::table(report))?;
        }
        Ok(if report.has_wrong_answers() {
            ExitCode::from(EXIT_WRONG)
        } else if !report.is_valid() {
            ExitCode::from(EXIT_INVALID)
        } else {
            ExitCode::SUCCESS
        })
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(file, bytes).map_err(|source| Failure::File {
        path: file.to_owned(),
        source,
    })
}

/// Writes to standard output.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a line to standard error.
pub fn say(line: &str) {
    let mut out = io::stderr().lock();
    // Nothing is left to say it to when this fails.
    let _ = writeln!(out, "sallyport-loadgen: {line}");
}
