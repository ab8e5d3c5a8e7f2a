//! `sallyport audit`: proving what was recorded, and keeping it.
//!
//! Verifying reads files alone: it works on a copy, on another machine, with public keys.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::table::{escaped, table};
use super::{Failure, client, moment, print, warn};
use crate::archive::{self, Check, Head, Held, Hold, Report};
use crate::config::{self, Environment};
use crate::control::{HoldWanted, SealedNow, paths};

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Check the archive against its signed heads, and name what is wrong
    Verify(Verify),
    /// Print the newest signed head, to be kept elsewhere
    Head(HeadOptions),
    /// Print the public keys that heads are signed with, to be kept elsewhere
    Keys(Place),
    /// Show what people and the operator did to the appliance
    Trail(TrailOptions),
    /// Keep sessions from retention
    #[command(subcommand)]
    Hold(HoldCommand),
}

#[derive(Debug, Args)]
pub(super) struct Place {
    /// The archive, or a copy of it [default: `archive` below `recording.directory`]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    place: Place,
    /// Read the recordings sealed since this time only, such as 2026-11-26T08:00:00Z or 24h; heads
    /// are checked from the first on
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,
    /// Heads that were kept elsewhere: lines of heads.ndjson, of the log in JSON, or bodies of web
    /// hooks; `-` is standard input
    #[arg(long, value_name = "FILE")]
    head: Vec<PathBuf>,
    /// Public keys that were kept elsewhere, as `audit keys` prints them
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct HeadOptions {
    #[command(flatten)]
    place: Place,
    /// Seal what was recorded until now first; takes the running appliance
    #[arg(long, conflicts_with = "directory")]
    seal: bool,
}

#[derive(Debug, Args)]
pub(super) struct TrailOptions {
    #[command(flatten)]
    place: Place,
    /// Only what was done since this time, such as 2026-11-26T08:00:00Z or 24h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum HoldCommand {
    /// Keep something until it is released
    Add {
        #[command(flatten)]
        what: What,
        /// Why, for whoever looks later
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Let retention have it again
    Release {
        #[command(flatten)]
        what: What,
    },
    /// Show what is held
    List {
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct What {
    /// A session, by its whole id
    session: Option<String>,
    /// All sessions of an agent, by subject or name
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

impl What {
    fn held(self) -> Option<Held> {
        self.session
            .map(Held::Session)
            .or_else(|| self.agent.map(Held::Agent))
    }
}

/// Why nothing was checked or shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuditError {
    #[error(transparent)]
    Verify(#[from] archive::VerifyError),
    #[error(transparent)]
    Archive(#[from] archive::ChainedError),
    #[error(transparent)]
    Trail(#[from] archive::TrailError),
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("line {line} of {} holds no head", path.display())]
    NoHeadThere { path: PathBuf, line: usize },
    #[error("{} holds no public key", path.display())]
    NoKeyThere { path: PathBuf },
    #[error("the archive has no head yet")]
    NoHead,
    #[error("the archive is not what was sealed")]
    NotSound,
}

impl Place {
    fn directory(self, environment: &Environment) -> Result<PathBuf, Failure> {
        match self.directory {
            Some(directory) => Ok(directory),
            None => Ok(config::recordings(environment)?.archive_directory),
        }
    }
}

/// The archive in a directory: itself, or below the directory of recordings.
fn archive_in(directory: &Path) -> PathBuf {
    let nested = directory.join("archive");
    if nested.is_dir() {
        nested
    } else {
        directory.to_owned()
    }
}

impl Audit {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Verify(verify) => verify.run(environment),
            Self::Head(options) => options.run(environment),
            Self::Keys(place) => keys(place, environment),
            Self::Trail(options) => options.run(environment),
            Self::Hold(command) => command.run(environment),
        }
    }
}

impl Verify {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let mut anchors = Vec::new();
        for path in &self.head {
            anchors.extend(anchored(path)?);
        }
        let keys = match &self.keys {
            Some(path) => {
                let keys = archive::public_keys(path).map_err(AuditError::from)?;
                if keys.is_empty() {
                    let path = path.clone();
                    return Err(AuditError::NoKeyThere { path }.into());
                }
                Some(keys)
            }
            None => None,
        };
        let check = Check {
            directory: self.place.directory(environment)?,
            since: self.since,
            anchors,
            keys,
        };
        let report = archive::verify(&check).map_err(AuditError::from)?;
        if self.json {
            let json = serde_json::to_string_pretty(&report).map_err(io::Error::from)?;
            print(&format!("{json}\n"))?;
        } else {
            print(&shown(&report, check.anchors.is_empty()))?;
        }
        if report.is_sound() {
            Ok(())
        } else {
            Err(AuditError::NotSound.into())
        }
    }
}

fn shown(report: &Report, is_unanchored: bool) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        text.push_str(&format!("{}\n", escaped(&finding.to_string())));
    }
    if report.is_cut {
        text.push_str("more is wrong than is listed\n");
    }
    for note in &report.notes {
        text.push_str(&format!("note: {}\n", escaped(note)));
    }
    if is_unanchored {
        text.push_str(
            "note: without a head that was kept elsewhere (--head), an older state of the archive \
             looks sound too\n",
        );
    }
    text.push_str(&format!(
        "{} heads, {} packs, {} segments with {} records, {} actions; {} segments removed by \
         retention\n",
        report.heads, report.packs, report.segments, report.records, report.actions, report.removed
    ));
    if let (true, Some((number, at))) = (report.is_sound(), report.newest) {
        let time = super::time(at / 1_000_000);
        text.push_str(&format!("sound up to head {number} of {time}\n"));
    }
    text
}

fn anchored(path: &Path) -> Result<Vec<Head>, AuditError> {
    let unreadable = |source| AuditError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(archive::ANCHOR_BYTES_MAX)
            .read_to_end(&mut text)
    } else {
        File::open(path)
            .and_then(|file| file.take(archive::ANCHOR_BYTES_MAX).read_to_end(&mut text))
    };
    read.map_err(unreadable)?;
    archive::anchored(&text).map_err(|line| AuditError::NoHeadThere {
        path: path.to_owned(),
        line,
    })
}

impl HeadOptions {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        if self.seal {
            let sealed: SealedNow = client(environment)?.post(paths::ARCHIVE_SEAL, &())?;
            let head = sealed.head.ok_or(AuditError::NoHead)?;
            return print_line(&head);
        }
        let directory = archive_in(&self.place.directory(environment)?);
        let head = archive::newest_head(&directory).map_err(AuditError::from)?;
        print_line(&head.ok_or(AuditError::NoHead)?)
    }
}

fn print_line(value: &impl serde::Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value).map_err(io::Error::from)?;
    print(&format!("{line}\n"))?;
    Ok(())
}

fn keys(place: Place, environment: &Environment) -> Result<(), Failure> {
    let directory = archive_in(&place.directory(environment)?);
    for key in archive::public_keys(&directory).map_err(AuditError::from)? {
        print_line(&key)?;
    }
    Ok(())
}

impl TrailOptions {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let directory = archive_in(&self.place.directory(environment)?);
        let entries = archive::entries(&directory, self.since.unwrap_or(0));
        let entries = entries.map_err(AuditError::from)?;
        if self.json {
            let mut out = io::stdout().lock();
            for entry in &entries {
                let line = serde_json::to_string(entry).map_err(io::Error::from)?;
                writeln!(out, "{line}")?;
            }
            out.flush()?;
            return Ok(());
        }
        let rows: Vec<Vec<String>> = entries
            .iter()
            .map(|entry| {
                let details: Vec<String> = entry
                    .details
                    .iter()
                    .map(|(name, value)| {
                        let text = value
                            .as_str()
                            .map_or_else(|| value.to_string(), str::to_owned);
                        format!("{name}={text}")
                    })
                    .collect();
                vec![
                    super::time(entry.at / 1_000_000),
                    entry.by.to_string(),
                    entry.action.name().to_owned(),
                    entry.object.clone(),
                    details.join(" "),
                ]
            })
            .collect();
        print(&table(
            &["time", "by", "action", "object", "details"],
            &rows,
        ))?;
        Ok(())
    }
}

impl HoldCommand {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let client = client(environment)?;
        match self {
            Self::Add { what, reason } => {
                let Some(held) = what.held() else {
                    return Ok(());
                };
                let _: Vec<Hold> =
                    client.post(paths::ARCHIVE_HOLDS, &HoldWanted { held, reason })?;
            }
            Self::Release { what } => {
                let Some(held) = what.held() else {
                    return Ok(());
                };
                let _: Vec<Hold> = client.post(paths::ARCHIVE_RELEASE, &held)?;
            }
            Self::List { json } => {
                let holds: Vec<Hold> = client.get(paths::ARCHIVE_HOLDS)?;
                if json {
                    for hold in &holds {
                        print_line(hold)?;
                    }
                    return Ok(());
                }
                if holds.is_empty() {
                    warn("nothing is held");
                }
                let rows: Vec<Vec<String>> = holds
                    .iter()
                    .map(|hold| {
                        vec![
                            hold.held.to_string(),
                            super::time(hold.at / 1_000_000),
                            hold.by.to_string(),
                            hold.reason.clone(),
                        ]
                    })
                    .collect();
                print(&table(&["held", "since", "by", "reason"], &rows))?;
            }
        }
        Ok(())
    }
}
