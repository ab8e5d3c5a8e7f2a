//! `sallyport approvals`: what waits for a person, and the person's answer.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::asker::Asker;
use super::table::{escaped, table};
use super::{Failure, ProcessEnvironment, print, time};
use crate::approvals::{Shown, ShownCommand, ShownParameter, ShownText, marked};
use crate::config::Environment;
use crate::control::{AdminClient, Answered, ApprovalsWanted, Denial, paths};

#[derive(Debug, Subcommand)]
pub(super) enum Approvals {
    /// List requests, the latest first; without an option those that are open
    List(List),
    /// Show what a request asks for
    Show(Named),
    /// Let what a request asks for run, once
    Approve(Named),
    /// Refuse what a request asks for
    Deny(Deny),
    /// Print what happens to requests, until it is interrupted
    Watch(Watch),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Those that are over as well
    #[arg(long)]
    all: bool,
    /// Only those in this state, such as denied or expired
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those of this agent, by subject or name
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only those to this target
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    asker: Asker,
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// The request, or the beginning of its id
    #[arg(value_name = "ID")]
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    asker: Asker,
}

#[derive(Debug, Args)]
pub(super) struct Deny {
    /// The request, or the beginning of its id
    #[arg(value_name = "ID")]
    id: String,
    /// What whoever asked is told, in one line
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    asker: Asker,
}

#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    asker: Asker,
}

impl Approvals {
    pub(super) fn run(
        self,
        environment: &Environment,
        process: &ProcessEnvironment,
    ) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(environment, process),
            Self::Show(named) => {
                let shown = found(&named.asker.client(environment, process, false)?, &named.id)?;
                if named.json {
                    print_json(&shown)
                } else {
                    Ok(print(&page(&shown, now()))?)
                }
            }
            Self::Approve(named) => {
                let client = named.asker.client(environment, process, true)?;
                let id = found(&client, &named.id)?.id;
                let answered: Answered = client.post(&paths::APPROVE.replace("{id}", &id), &())?;
                if named.json {
                    print_json(&answered)
                } else {
                    Ok(print(&said(&answered))?)
                }
            }
            Self::Deny(deny) => {
                let client = deny.asker.client(environment, process, true)?;
                let id = found(&client, &deny.id)?.id;
                let reason = deny.reason;
                let answered: Answered =
                    client.post(&paths::DENY.replace("{id}", &id), &Denial { reason })?;
                Ok(print(&said(&answered))?)
            }
            Self::Watch(watch) => watch.run(environment, process),
        }
    }
}

impl List {
    fn run(self, environment: &Environment, process: &ProcessEnvironment) -> Result<(), Failure> {
        let wanted = ApprovalsWanted {
            open: (!self.all && self.state.is_none()).then_some(true),
            state: self.state,
            requester: self.agent,
            target: self.target,
            before: None,
            limit: self.limit,
        };
        let listed = self
            .asker
            .client(environment, process, false)?
            .approvals(&wanted)?;
        if self.json {
            return print_json(&listed);
        }
        let now = now();
        let rows: Vec<Vec<String>> = listed.iter().map(|shown| row(shown, now)).collect();
        let header = [
            "request", "state", "agent", "target", "asked", "left", "what",
        ];
        Ok(print(&table(&header, &rows))?)
    }
}

impl Watch {
    fn run(self, environment: &Environment, process: &ProcessEnvironment) -> Result<(), Failure> {
        let client = self.asker.client(environment, process, false)?;
        let mut out = io::stdout().lock();
        client.follow_approvals(&mut |kind, data| {
            let line = if self.json {
                format!("{{\"event\":\"{kind}\",\"request\":{data}}}\n")
            } else {
                match serde_json::from_str::<Shown>(data) {
                    Ok(shown) => watched(kind, &shown),
                    // Events without a request: so many were missed.
                    Err(_) => format!("{} {}\n", escaped(kind), escaped(data)),
                }
            };
            out.write_all(line.as_bytes())?;
            out.flush()
        })?;
        Ok(())
    }
}

fn found(client: &AdminClient, id: &str) -> Result<Shown, Failure> {
    Ok(client.get_named(paths::APPROVAL, id)?)
}

fn now() -> u64 {
    runtime::unix_time().as_secs()
}

fn print_json(answer: &impl serde::Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(answer).map_err(io::Error::other)?;
    text.push('\n');
    Ok(print(&text)?)
}

fn said(answered: &Answered) -> String {
    match answered.missing {
        0 => format!("{}: {}\n", answered.id, escaped(&answered.state)),
        1 => format!("{}: counted; one more person is needed\n", answered.id),
        missing => format!(
            "{}: counted; {missing} more people are needed\n",
            answered.id
        ),
    }
}

fn row(shown: &Shown, now: u64) -> Vec<String> {
    let is_open = shown.finished.is_none();
    let left = if is_open {
        humantime::format_duration(shown.remaining(now)).to_string()
    } else {
        String::new()
    };
    vec![
        shown.id.clone(),
        shown.state.clone(),
        shown.requester.name.clone(),
        shown.target.clone(),
        time(shown.asked),
        left,
        first_line(shown),
    ]
}

fn first_line(shown: &Shown) -> String {
    let text = shown
        .commands
        .first()
        .map(|command| command.text.readable());
    let line = text.unwrap_or_default().lines().next().unwrap_or_default();
    let short: String = line.chars().take(60).collect();
    if short.len() < line.len() || shown.commands.len() > 1 {
        format!("{short} ...")
    } else {
        short
    }
}

fn watched(kind: &str, shown: &Shown) -> String {
    let what = if kind == "asked" {
        "asks"
    } else {
        &shown.state
    };
    format!(
        "{} {}: {} at {}: {}\n",
        shown.id,
        escaped(what),
        escaped(&marked(&shown.requester.name)),
        escaped(&shown.target),
        escaped(&first_line(shown))
    )
}

/// The request as a person reads it before deciding.
fn page(shown: &Shown, now: u64) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(out, "{name:12} {}", escaped(&marked(value)));
    };
    line("request", &shown.id);
    let state = if shown.finished.is_none() {
        let left: Duration = shown.remaining(now);
        let awaited = if shown.is_awaited {
            ""
        } else {
            ", nobody waits at the moment"
        };
        format!(
            "{}, {} left{awaited}",
            shown.state,
            humantime::format_duration(left)
        )
    } else {
        shown.state.clone()
    };
    line("state", &state);
    if let Some(by) = &shown.denied_by {
        line(
            "denied by",
            &format!("{} ({} of {})", by.name, by.subject, by.issuer),
        );
    }
    if let Some(reason) = &shown.reason {
        line("reason", reason);
    }
    line("asked", &time(shown.asked));
    let who = &shown.requester;
    line(
        "agent",
        &format!("{} ({} of {})", who.name, who.subject, who.issuer),
    );
    line("groups", &who.groups.join(", "));
    for actor in &who.chain {
        line("through", &format!("{} of {}", actor.subject, actor.issuer));
    }
    line("target", &shown.target);
    line("session", &shown.session);
    if shown.in_transaction {
        line("transaction", "it waits inside a transaction");
    }
    if let Some(role) = &shown.role {
        line("role", role);
    }
    match &shown.search_path {
        Some(path) => line("search path", &path.join(", ")),
        None => line("search path", "not known"),
    }
    for rule in &shown.rules {
        let approvers = rule.approvers.join(" or ");
        let said = format!(
            "{}: {} of {} by {approvers}",
            rule.name, rule.given, rule.needed
        );
        line("rule", &said);
    }
    for vote in &shown.approvals {
        let by = &vote.by;
        line(
            "approved by",
            &format!("{} ({} of {})", by.name, by.subject, by.issuer),
        );
    }
    if shown.is_deceptive() {
        line("careful", "what is in braces does not read as it is");
    }
    for (index, command) in shown.commands.iter().enumerate() {
        write_command(&mut out, index + 1, command);
    }
    out
}

fn write_command(out: &mut String, number: usize, command: &ShownCommand) {
    let rows = match command.estimated_rows {
        Some(rows) => format!("about {rows} rows, by the planner's estimate"),
        None => "no estimate".to_owned(),
    };
    let effects: Vec<String> = command
        .effects
        .iter()
        .map(|effect| {
            format!("{} {}", effect.class, effect.object)
                .trim_end()
                .to_owned()
        })
        .collect();
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "\ncommand {number}: {}; {rows}",
        escaped(&marked(&effects.join(", ")))
    );
    write_text(out, &command.text);
    for (place, ShownParameter { kind, value }) in command.parameters.iter().enumerate() {
        let _ = write!(out, "  ${} {}: ", place + 1, escaped(kind));
        match value {
            None => out.push_str("NULL\n"),
            Some(value) => {
                let _ = writeln!(out, "\"{}\"", escaped(value.readable()));
            }
        }
    }
}

/// Each line behind a bar, so that no text passes for what is said about it.
fn write_text(out: &mut String, text: &ShownText) {
    for line in text.readable().split('\n') {
        // Writing to a String does not fail.
        let _ = writeln!(out, "  | {}", escaped(&line.replace('\t', "    ")));
    }
}
