//! Commands that ask the running appliance about itself.

use std::time::Duration;

use clap::Args;

use super::table::table;
use super::{Failure, client, print, time, warn};
use crate::config::Environment;
use crate::control::{Health, IssuerStatus, ReloadReport, Status, paths};

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
    let client = client(environment)?;
    let status: Status = client.get(paths::STATUS)?;
    let health: Health = client.get(paths::HEALTH)?;
    if options.json {
        let both = serde_json::json!({ "status": status, "health": health });
        let json = serde_json::to_string_pretty(&both).map_err(std::io::Error::from)?;
        print(&format!("{json}\n"))?;
        return Ok(());
    }
    let policy_age = Duration::from_secs(health.policy_age_seconds);
    let pools = health.pools.iter().filter(|pool| pool.failing);
    let failing: Vec<&str> = pools.map(|pool| pool.target.as_str()).collect();
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let next: Option<Vec<String>> = status.next_step.map(|step| row("next", step));
    let issuers = status.issuers.iter().map(issuer);
    let issuers: Vec<Vec<String>> = issuers.map(|said| row("issuer", said)).collect();
    let rows = [
        row("version", status.version),
        row("process", status.pid.to_string()),
        row("started", time(status.started)),
        row("configuration", status.generation.to_string()),
        row("shards", status.shards.to_string()),
        row("listeners", status.listeners.join(", ")),
        row(
            "console",
            status.console.unwrap_or_else(|| "none".to_owned()),
        ),
        row(
            "metrics",
            status.metrics.unwrap_or_else(|| "none".to_owned()),
        ),
        row("state", status.state_directory.display().to_string()),
        row(
            "certificate",
            format!("SHA-256 {}", status.certificate_fingerprint),
        ),
        row(
            "draining",
            if status.draining { "yes" } else { "no" }.to_owned(),
        ),
        row(
            "ready",
            if health.ready {
                "yes".to_owned()
            } else {
                format!("no: {}", health.problems.join("; "))
            },
        ),
        row("sessions", health.sessions().to_string()),
        row(
            "journal lag",
            format!("{} bytes", health.journal_lag_bytes()),
        ),
        row(
            "policy",
            format!("in force for {}", humantime::format_duration(policy_age)),
        ),
        row(
            "failing",
            if failing.is_empty() {
                "none".to_owned()
            } else {
                failing.join(", ")
            },
        ),
    ];
    print(&table(
        &[],
        &[rows.as_slice(), &issuers, next.as_slice()].concat(),
    ))?;
    Ok(())
}

/// How an issuer does whose keys are fetched, in a line.
fn issuer(status: &IssuerStatus) -> String {
    let mut line = status.name.clone();
    line.push_str(if status.accepted {
        ": accepted"
    } else {
        ": its tokens are refused"
    });
    if let Some(seconds) = status.keys_age_seconds {
        let age = humantime::format_duration(Duration::from_secs(seconds));
        line.push_str(&format!("; keys fetched {age} ago"));
    }
    if let Some(trouble) = &status.trouble {
        line.push_str(&format!("; {trouble}"));
    }
    line
}
