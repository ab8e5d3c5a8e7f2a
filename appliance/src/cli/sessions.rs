//! `sallyport sessions` and `sallyport replay`: what agents did and saw.
//!
//! Asks the running appliance, which knows what happened a moment ago; when none runs, the files are
//! read as it left them.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;

use super::table::table;
use super::{Failure, client, print};
use crate::config::{self, Environment};
use crate::control::{
    self, AdminError, RecordingsError, RefusedLoginLine, RefusedLoginsWanted, SessionLine,
    SessionsWanted,
};
use crate::recorder::replay::{Pace, Rendering, ReplayForm, Speed};

#[derive(Debug, Args)]
pub(super) struct Sessions {
    /// Only those of this agent (subject or name)
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only those at this target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Only those that are live, ended or interrupted
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those that started at this time or later: 24h ago, or 2026-11-26T13:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those that started before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only those that did, or tried, something of this class: drop, write, ddl, ... (commas between
    /// several)
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Only those that touched, or tried to, a table of this name: orders, sales.*, ...
    #[arg(long, value_name = "PATTERN")]
    table: Option<String>,
    /// Only those in which something was refused
    #[arg(long)]
    denied: bool,
    /// Only those in which a person was asked
    #[arg(long)]
    held: bool,
    /// Only those that ended for this reason: finished, revoked, ...
    #[arg(long, value_name = "REASON")]
    ended: Option<String>,
    /// Only those older than this session
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// At most this many [default: 100]
    #[arg(long, value_name = "COUNT")]
    limit: Option<u32>,
    /// List logins that were refused instead; --since, --limit and --json go with it
    #[arg(long, conflicts_with_all = ["agent", "target", "state", "until", "class", "table", "denied",
        "held", "ended", "before"])]
    refused_logins: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The session's id, or as much of its beginning as is unique
    id: String,
    /// Print JSON, one object a line
    #[arg(long, conflicts_with = "sql")]
    json: bool,
    /// Print each statement with its values, and its rows as a table
    #[arg(long)]
    sql: bool,
    /// Print events of the Open Cybersecurity Schema Framework, one a line
    #[arg(long, conflicts_with_all = ["json", "sql"])]
    ocsf: bool,
    /// Take the time that the session took, times a factor: 1, 0.5, 10; or `instant`
    #[arg(long, value_name = "FACTOR", default_value = "instant")]
    speed: Speed,
    /// Longest single pause
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    max_pause: Duration,
}

impl Sessions {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        if self.refused_logins {
            return self.refused(environment);
        }
        let wanted = SessionsWanted {
            agent: self.agent,
            target: self.target,
            state: self.state,
            since: self.since,
            until: self.until,
            class: self.class,
            table: self.table,
            denied: self.denied,
            held: self.held,
            ended: self.ended,
            before: self.before,
            limit: self.limit,
        };
        let sessions = match client(environment)?.sessions(&wanted) {
            Err(AdminError::NotRunning { .. }) => {
                control::sessions(&config::recordings(environment)?, &wanted)?
            }
            answer => answer?,
        };
        if self.json {
            for session in &sessions {
                let line = serde_json::to_string(session).map_err(io::Error::from)?;
                print(&format!("{line}\n"))?;
            }
            return Ok(());
        }
        let rows: Vec<Vec<String>> = sessions.iter().map(row).collect();
        let header = [
            "session", "started", "state", "agent", "target", "commands", "denied", "held", "rows",
            "peer", "ended",
        ];
        print(&table(&header, &rows))?;
        Ok(())
    }
}

impl Sessions {
    fn refused(self, environment: &Environment) -> Result<(), Failure> {
        let wanted = RefusedLoginsWanted {
            since: self.since,
            limit: self.limit,
        };
        let refused = match client(environment)?.refused_logins(&wanted) {
            Err(AdminError::NotRunning { .. }) => {
                control::refused_logins(&config::recordings(environment)?, &wanted)?
            }
            answer => answer?,
        };
        if self.json {
            for login in &refused {
                let line = serde_json::to_string(login).map_err(io::Error::from)?;
                print(&format!("{line}\n"))?;
            }
            return Ok(());
        }
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let row = |login: &RefusedLoginLine| {
            vec![
                super::time(login.at / 1_000_000),
                login.reason.clone(),
                text(&login.name),
                text(&login.user),
                text(&login.target),
                login.peer.clone(),
                text(&login.application),
            ]
        };
        let rows: Vec<Vec<String>> = refused.iter().map(row).collect();
        let header = [
            "at",
            "reason",
            "agent",
            "user",
            "target",
            "peer",
            "application",
        ];
        print(&table(&header, &rows))?;
        Ok(())
    }
}

fn row(session: &SessionLine) -> Vec<String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        session.id.clone(),
        super::time(session.started / 1_000_000),
        session.state.clone(),
        text(&session.name),
        text(&session.target),
        session.commands.to_string(),
        session.denials.to_string(),
        session.holds.to_string(),
        session.rows.to_string(),
        text(&session.peer),
        text(&session.end_reason),
    ]
}

impl Replay {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let form = match (self.json, self.sql, self.ocsf) {
            (true, _, _) => ReplayForm::Json,
            (_, true, _) => ReplayForm::Sql,
            (_, _, true) => ReplayForm::Ocsf,
            (false, false, false) => ReplayForm::Text,
        };
        match self.speed {
            Speed::Instant => self.print(environment, form),
            speed @ Speed::Times(_) => self.play(environment, form, speed),
        }
    }

    fn print(&self, environment: &Environment, form: ReplayForm) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match client(environment)?.replay(&self.id, form, &mut out) {
            Err(AdminError::NotRunning { .. }) => {
                let mut replay = control::replay(&config::recordings(environment)?, &self.id)?;
                let mut out = io::BufWriter::new(out);
                control::write(&mut replay, form, &mut out)?;
                out.flush()?;
            }
            Err(AdminError::Output(error)) => return Err(error.into()),
            answer => {
                answer?;
                out.flush()?;
            }
        }
        Ok(())
    }

    /// Reads the files itself: the appliance does not keep an answer open for as long as a session
    /// may have taken.
    fn play(
        &self,
        environment: &Environment,
        form: ReplayForm,
        speed: Speed,
    ) -> Result<(), Failure> {
        // Asking for a list brings what was recorded just now within reach.
        let newest = SessionsWanted {
            limit: Some(1),
            ..SessionsWanted::default()
        };
        match client(environment)?.sessions(&newest) {
            Ok(_) | Err(AdminError::NotRunning { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let mut replay = control::replay(&config::recordings(environment)?, &self.id)?;
        let mut pace = Pace::new(speed, self.max_pause);
        let mut out = io::stdout().lock();
        for shown in Rendering::new(&mut replay, form) {
            let shown = shown.map_err(RecordingsError::from)?;
            wait(pace.pause(shown.at));
            out.write_all(shown.text.as_bytes())?;
            out.flush()?;
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause is what was asked for; an interrupt ends the process"
)]
fn wait(pause: Duration) {
    if !pause.is_zero() {
        std::thread::sleep(pause);
    }
}
