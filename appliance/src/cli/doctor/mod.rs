//! `sallyport doctor`: what is in the way, in the order in which it would be met, and what helps.
//!
//! Each check is a small function over a [`View`] of the machine. Nothing is changed, and nothing here
//! needs the appliance to run, or ever to have run.

mod kernel;
mod network;
mod places;
mod service;
mod settings;
mod view;

use std::io;

use clap::Args;
use serde::Serialize;

use self::view::View;
use super::table::escaped;
use super::{Failure, print};
use crate::config::{self, Environment};

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// Looked at, and nothing is wrong.
    Ok,
    /// Worth knowing, and in nobody's way.
    Note,
    /// Will be in the way, or is in somebody's.
    Warning,
    /// In the way.
    Problem,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    state: State,
    said: String,
    /// What helps: a command, mostly.
    fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, said: impl Into<String>) -> Self {
        Self::new(check, State::Ok, said.into(), None)
    }

    fn note(check: &'static str, said: impl Into<String>) -> Self {
        Self::new(check, State::Note, said.into(), None)
    }

    fn warning(check: &'static str, said: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, State::Warning, said.into(), Some(fix.into()))
    }

    fn problem(check: &'static str, said: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, State::Problem, said.into(), Some(fix.into()))
    }

    fn new(check: &'static str, state: State, said: String, fix: Option<String>) -> Self {
        Self {
            check,
            state,
            said,
            fix,
        }
    }
}

/// Something is in the way.
#[derive(Debug, thiserror::Error)]
#[error("{problems} in the way; what helps is above")]
pub(super) struct InTheWay {
    problems: usize,
}

impl Doctor {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let examined = config::examine(environment);
        let named = config::named_files(environment);
        let running = service::running(environment);
        let view = View::of_this_machine(environment, running.status());
        let shown = |findings: &[Finding]| -> Result<usize, Failure> {
            for finding in findings {
                print(&self.line(finding)?)?;
            }
            let problems = findings.iter().filter(|f| f.state == State::Problem);
            Ok(problems.count())
        };
        let mut problems = 0;
        problems += shown(&kernel::all(&view, &examined))?;
        problems += shown(&settings::all(&view, &examined, &named))?;
        problems += shown(&places::all(&view, &examined))?;
        // What waits for others comes last.
        problems += shown(&service::all(&view, &running))?;
        problems += shown(&network::ports(&view, &examined, running.status()))?;
        problems += shown(&network::clock())?;
        problems += shown(&network::issuers(&examined))?;
        problems += shown(&network::targets(&examined))?;
        if problems > 0 {
            return Err(InTheWay { problems }.into());
        }
        Ok(())
    }

    fn line(&self, finding: &Finding) -> Result<String, Failure> {
        if self.json {
            let line = serde_json::to_string(finding).map_err(io::Error::from)?;
            return Ok(format!("{line}\n"));
        }
        let word = match finding.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Warning => "warning",
            State::Problem => "PROBLEM",
        };
        let mut text = format!("{word:7}  {}: {}\n", finding.check, escaped(&finding.said));
        for line in finding.fix.iter().flat_map(|fix| fix.lines()) {
            text.push_str(&format!("           {}\n", escaped(line)));
        }
        Ok(text)
    }
}
