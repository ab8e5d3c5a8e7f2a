//! `sallyport revoke`: cutting off, and letting in again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};

use super::table::table;
use super::{Failure, client, print, warn};
use crate::config::Environment;
use crate::control::{AdminClient, RevocationKind, RevocationLine, RevocationWanted, paths};

#[derive(Debug, Subcommand)]
pub(super) enum Revoke {
    /// Refuse one token, and end its sessions
    Token {
        /// The token's id (`jti`)
        id: String,
        #[command(flatten)]
        issuer: Issuer,
        #[command(flatten)]
        with: With,
    },
    /// Refuse whoever tokens name as their subject, and end the sessions
    Subject {
        /// The subject (`sub`)
        subject: String,
        #[command(flatten)]
        issuer: Issuer,
        #[command(flatten)]
        with: With,
    },
    /// Refuse an agent as the subject of a token or anywhere in a delegation chain, and end the
    /// sessions
    Agent {
        /// The agent's subject (`sub`)
        agent: String,
        #[command(flatten)]
        issuer: Issuer,
        #[command(flatten)]
        with: With,
    },
    /// End one session, for good
    Session {
        /// The session's id, or as much of its beginning as is unique
        id: String,
        /// Why; for operators
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// What the agent is told
        #[arg(long, value_name = "TEXT")]
        message: Option<String>,
    },
    /// Let nobody in to a target, and end all sessions there
    Target {
        /// The target's name
        name: String,
        #[command(flatten)]
        with: With,
    },
    /// List what is revoked, the latest first
    List {
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Lift a revocation
    Lift {
        /// Its number, as `list` shows it
        id: i64,
    },
}

#[derive(Debug, Args)]
pub(super) struct Issuer {
    /// Whose tokens: the name of an issuer in the configuration, or an `iss` [default: the
    /// built-in issuer]
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct With {
    /// Why; for operators
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// What whoever is cut off is told
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// When it ends by itself: a time such as 2026-12-01T08:00:00Z, or from now on, such as 8h
    /// [default: when it is lifted]
    #[arg(long, value_name = "TIME", value_parser = until)]
    until: Option<SystemTime>,
}

fn until(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(time);
    }
    let wait: Duration = humantime::parse_duration(text)
        .map_err(|_| "neither a time such as 2026-12-01T08:00:00Z nor one from now, such as 8h")?;
    let then = SystemTime::now().checked_add(wait);
    then.ok_or_else(|| "too far away".to_owned())
}

impl Revoke {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let client = client(environment)?;
        let (kind, issuer, name, with) = match self {
            Self::List { json } => return list(&client, json),
            Self::Lift { id } => return lift(&client, id),
            Self::Token { id, issuer, with } => (RevocationKind::Token, issuer.issuer, id, with),
            Self::Subject {
                subject,
                issuer,
                with,
            } => (RevocationKind::Subject, issuer.issuer, subject, with),
            Self::Agent {
                agent,
                issuer,
                with,
            } => (RevocationKind::Agent, issuer.issuer, agent, with),
            Self::Session {
                id,
                reason,
                message,
            } => {
                let with = With {
                    reason,
                    message,
                    until: None,
                };
                (RevocationKind::Session, None, id, with)
            }
            Self::Target { name, with } => (RevocationKind::Target, None, name, with),
        };
        let wanted = RevocationWanted {
            kind,
            issuer,
            name,
            reason: with.reason,
            message: with.message,
            until: with.until.map(|time| {
                let since = time.duration_since(UNIX_EPOCH);
                since.map_or(0, |since| since.as_secs())
            }),
        };
        let made: RevocationLine = client.post(paths::REVOCATIONS, &wanted)?;
        for warning in &made.warnings {
            warn(warning);
        }
        print(&format!("revocation {} holds\n", made.id))?;
        Ok(())
    }
}

fn list(client: &AdminClient, json: bool) -> Result<(), Failure> {
    let mut all: Vec<RevocationLine> = Vec::new();
    loop {
        let path = match all.last() {
            Some(last) => format!("{}?before={}", paths::REVOCATIONS, last.id),
            None => paths::REVOCATIONS.to_owned(),
        };
        let page: Vec<RevocationLine> = client.get(&path)?;
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    if json {
        for line in &all {
            let line = serde_json::to_string(line).map_err(std::io::Error::from)?;
            print(&format!("{line}\n"))?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = all.into_iter().map(row).collect();
    let header = [
        "id", "kind", "name", "issuer", "at", "until", "by", "reason",
    ];
    print(&table(&header, &rows))?;
    Ok(())
}

fn row(line: RevocationLine) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        line.id.to_string(),
        match line.kind {
            RevocationKind::Token => "token",
            RevocationKind::Subject => "subject",
            RevocationKind::Agent => "agent",
            RevocationKind::Session => "session",
            RevocationKind::Target => "target",
        }
        .to_owned(),
        line.name,
        or_dash(line.issuer),
        super::time(line.at),
        or_dash(line.until.map(super::time)),
        line.by,
        or_dash(line.reason),
    ]
}

fn lift(client: &AdminClient, id: i64) -> Result<(), Failure> {
    let path = paths::REVOCATION.replace("{id}", &id.to_string());
    let lifted: RevocationLine = client.delete(&path)?;
    print(&format!("revocation {} no longer holds\n", lifted.id))?;
    Ok(())
}
