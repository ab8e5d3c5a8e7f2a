//! `sallyport export`: recordings copied to a directory or to S3-compatible storage.
//!
//! Reads the files itself, as the appliance does: whoever may read the recordings may export them.

use std::io;

use clap::{Args, ValueEnum};

use super::{Failure, client, print};
use crate::config::{self, Environment};
use crate::control::{
    self, AdminError, ExportForm, ExportTarget, ExportWanted, RecordingsError, SessionsWanted,
    find_session, time_named,
};

#[derive(Debug, Args)]
pub(super) struct Export {
    /// A directory, or s3://BUCKET/PREFIX [default: export.to]
    #[arg(long, value_name = "PLACE")]
    to: Option<String>,
    /// Events of OCSF, or every event as `replay --json` prints it [default: export.format]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Sessions that started at this time or later [default: where the last export stopped]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Sessions that started before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only this session: its id, or as much of its beginning as is unique
    #[arg(long, value_name = "ID", conflicts_with_all = ["since", "until"])]
    session: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Ocsf,
    Jsonl,
}

impl Export {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let mut settings = config::exports(environment)?;
        if let Some(to) = &self.to {
            let here = std::env::current_dir()?;
            settings.to = Some(ExportTarget::parse(to, &here)?);
        }
        if let Some(format) = self.format {
            settings.form = match format {
                Format::Ocsf => ExportForm::Ocsf,
                Format::Jsonl => ExportForm::Jsonl,
            };
        }
        // Asking for a list brings what was recorded just now within reach.
        let newest = SessionsWanted {
            limit: Some(1),
            ..SessionsWanted::default()
        };
        match client(environment)?.sessions(&newest) {
            Ok(_) | Err(AdminError::NotRunning { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let recording = config::recordings(environment)?;
        let time = |text: &Option<String>| -> Result<Option<u64>, RecordingsError> {
            text.as_deref().map(time_named).transpose()
        };
        let wanted = ExportWanted {
            since: time(&self.since)?,
            until: time(&self.until)?,
            session: match &self.session {
                Some(name) => Some(find_session(&recording, name)?),
                None => None,
            },
        };
        let exported = control::export(&settings, &recording, &wanted)?;
        if self.json {
            let line = serde_json::to_string(&exported).map_err(io::Error::from)?;
            print(&format!("{line}\n"))?;
            return Ok(());
        }
        print(&format!(
            "{} exported, {} were before, {} sessions are live; {} objects, {} bytes written\n",
            exported.units, exported.known, exported.live, exported.objects, exported.bytes
        ))?;
        Ok(())
    }
}
