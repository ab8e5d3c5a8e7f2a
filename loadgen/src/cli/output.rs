//! Where reports go: options that `run` and `compare` share, and the writing.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_BOUND, EXIT_INVALID, EXIT_WRONG, Failure};
use crate::compare::Comparison;
use crate::report::{self, Report};
use crate::run::Run;

#[derive(Debug, Args)]
#[command(next_help_heading = "Reports")]
pub struct Outputs {
    /// Write everything that was measured as JSON; `-` prints it in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots, complete in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write files for HdrHistogram's tools there: PATH.hgrm, PATH.uncorrected.hgrm and PATH.hlog
    #[arg(long, value_name = "FOLDER")]
    hdr: Option<PathBuf>,
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
        self.write_as(report, &report::table(report))
    }

    /// The same, with `text` for people.
    ///
    /// # Errors
    /// When a file or standard output cannot be written.
    pub fn write_as(&self, report: &Report<'_>, text: &str) -> Result<ExitCode, Failure> {
        let json_only = self.json.as_deref() == Some(Path::new("-"));
        match self.json.as_deref() {
            Some(_) if json_only => print(&report::json(report))?,
            Some(file) => write(file, report::json(report).as_bytes())?,
            None => {}
        }
        if let Some(file) = &self.html {
            write(file, report::html(report).as_bytes())?;
        }
        if let Some(folder) = &self.hdr {
            for (index, run) in report.runs.iter().enumerate() {
                let rounds = report
                    .comparison
                    .and_then(|comparison| comparison.paths.get(index))
                    .map_or_else(|| std::slice::from_ref(run), |path| &path.rounds);
                histograms(folder, run, rounds)?;
            }
        }
        if !json_only {
            print(text)?;
        }
        let crossed = |comparison: &Comparison| comparison.crossed().next().is_some();
        Ok(if report.has_wrong_answers() {
            ExitCode::from(EXIT_WRONG)
        } else if !report.is_valid() {
            ExitCode::from(EXIT_INVALID)
        } else if report.comparison.is_some_and(crossed) {
            ExitCode::from(EXIT_BOUND)
        } else {
            ExitCode::SUCCESS
        })
    }
}

fn histograms(folder: &Path, run: &Run, rounds: &[Run]) -> Result<(), Failure> {
    // Names of paths are checked where they are typed; nothing else may leave the folder.
    let name = run.path.replace(['/', '\0'], "_");
    let file = |suffix: &str| folder.join(format!("{name}.{suffix}"));
    let latencies = &run.latencies;
    for (suffix, histogram, what) in [
        ("hgrm", &latencies.corrected, "corrected"),
        ("uncorrected.hgrm", &latencies.uncorrected, "uncorrected"),
    ] {
        let label = format!("{} {what}", run.path);
        let text = report::percentile_distribution(histogram, &label);
        write(&file(suffix), text.as_bytes())?;
    }
    write(&file("hlog"), &report::interval_log(rounds)?)
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
