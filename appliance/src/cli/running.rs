//! Commands that ask the running appliance about itself.

use clap::Args;

use super::table::table;
use super::{Failure, client, print, time, warn};
use crate::config::Environment;
use crate::control::{ReloadReport, Status, paths};

#[derive(Debug, Args)]
pub(super) struct StatusOptions {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn reload(environment: &Environment) -> Result<(), Failure> {
    let report: ReloadReport = client(environment)?.post(paths::RELOAD, &())?;
    for warning in &report.warnings {
        warn(warning);
    }
    print(&format!(
        "configuration {} is in force\n",
        report.generation
    ))?;
    Ok(())
}

pub(super) fn status(environment: &Environment, options: &StatusOptions) -> Result<(), Failure> {
    let status: Status = client(environment)?.get(paths::STATUS)?;
    if options.json {
        let json = serde_json::to_string_pretty(&status).map_err(std::io::Error::from)?;
        print(&format!("{json}\n"))?;
        return Ok(());
    }
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let rows = [
        row("version", status.version),
        row("process", status.pid.to_string()),
        row("started", time(status.started)),
        row("configuration", status.generation.to_string()),
        row("shards", status.shards.to_string()),
        row("listeners", status.listeners.join(", ")),
        row("state", status.state_directory.display().to_string()),
        row(
            "certificate",
            format!("SHA-256 {}", status.certificate_fingerprint),
        ),
        row(
            "draining",
            if status.draining { "yes" } else { "no" }.to_owned(),
        ),
    ];
    print(&table(&[], &rows))?;
    Ok(())
}
