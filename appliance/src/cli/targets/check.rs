//! `sallyport targets check`: whether targets take the appliance's accounts.
//!
//! The running appliance looks, which alone holds the unit's credentials; where none runs, a shard of
//! this process does.

use std::io;
use std::num::NonZero;
use std::sync::{Arc, mpsc};

use clap::Args;
use runtime::ShardsConfig;
use serde::Serialize;

use super::TargetsError;
use crate::cli::table::escaped;
use crate::cli::{Failure, client, print};
use crate::config::{self, Environment, Writing};
use crate::control::{AccountChecked, AdminError, TargetShown, checked, paths};
use crate::upstream::{self, AccountCheck, TargetSettings};

#[derive(Debug, Args)]
pub(in crate::cli) struct Check {
    /// The target
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// Every target
    #[arg(long)]
    all: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct TargetChecked<'t> {
    target: &'t str,
    accounts: Vec<AccountChecked>,
}

/// Who looks.
enum Looker {
    Running(crate::control::AdminClient),
    Here(Vec<Arc<TargetSettings>>),
}

impl Check {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let client = client(environment)?;
        let (looker, all) = match client.get::<Vec<TargetShown>>(paths::TARGETS) {
            Ok(targets) => {
                let names = targets.into_iter().map(|target| target.name).collect();
                (Looker::Running(client), names)
            }
            Err(AdminError::NotRunning { .. }) => {
                let targets = here(environment)?;
                let names = targets.iter().map(|target| target.name.clone()).collect();
                (Looker::Here(targets), names)
            }
            Err(error) => return Err(error.into()),
        };
        let names: Vec<String> = self.name.map_or(all, |name| vec![name]);
        let mut is_well = true;
        for name in &names {
            let accounts = looker.look(name)?;
            is_well &= accounts.iter().all(|account| account.problem.is_none());
            if self.json {
                let line = TargetChecked {
                    target: name,
                    accounts,
                };
                let line = serde_json::to_string(&line).map_err(io::Error::from)?;
                print(&format!("{line}\n"))?;
            } else {
                print(&said(name, &accounts))?;
            }
        }
        if is_well {
            Ok(())
        } else {
            Err(TargetsError::Refused.into())
        }
    }
}

/// Checks a target that was just added, by the appliance that took it or by this process.
pub(super) fn one(environment: &Environment, name: &str, is_running: bool) -> Result<(), Failure> {
    let looker = if is_running {
        Looker::Running(client(environment)?)
    } else {
        match here(environment) {
            Ok(targets) => Looker::Here(targets),
            // What was missing here is the unit's; the appliance says so when it starts.
            Err(Failure::Configuration(_)) => {
                let later =
                    "the unit's credentials are not ours: `sallyport targets check` when it runs\n";
                return Ok(print(later)?);
            }
            Err(failure) => return Err(failure),
        }
    };
    let accounts = looker.look(name)?;
    print(&said(name, &accounts))?;
    if accounts.iter().any(|account| account.problem.is_some()) {
        return Err(TargetsError::Refused.into());
    }
    Ok(())
}

fn here(environment: &Environment) -> Result<Vec<Arc<TargetSettings>>, Failure> {
    let loaded = config::load(environment, Writing::Never, 0)?;
    Ok(loaded.snapshot.targets.iter().cloned().collect())
}

impl Looker {
    fn look(&self, name: &str) -> Result<Vec<AccountChecked>, Failure> {
        match self {
            Self::Running(client) => Ok(client.check_target(name)?),
            Self::Here(targets) => {
                let missing = || TargetsError::Missing {
                    name: name.to_owned(),
                };
                let target = targets.iter().find(|target| target.name == name);
                let target = target.ok_or_else(missing)?;
                Ok(checked(target, on_a_shard(Arc::clone(target))?))
            }
        }
    }
}

/// Looks from a shard of this process.
fn on_a_shard(target: Arc<TargetSettings>) -> Result<Vec<AccountCheck>, TargetsError> {
    let (found, looked) = mpsc::channel();
    let config = ShardsConfig {
        count: NonZero::new(1),
    };
    let running = runtime::start_shards(config, move |_| {
        let (target, found) = (Arc::clone(&target), found.clone());
        async move {
            // The receiver lives until the shard has ended.
            drop(found.send(upstream::check(&target).await));
        }
    })?;
    running.join()?;
    Ok(looked.try_recv().unwrap_or_default())
}

fn said(name: &str, accounts: &[AccountChecked]) -> String {
    let mut text = String::new();
    for account in accounts {
        let who = format!(
            "{}: {} at the database {}",
            escaped(name),
            escaped(&account.user),
            escaped(&account.database)
        );
        let tls = if account.tls {
            "with TLS"
        } else {
            "without TLS"
        };
        match (&account.version, &account.problem) {
            (Some(version), None) => {
                text.push_str(&format!("{who}: ok, {tls}: {}\n", escaped(version)));
            }
            (_, problem) => {
                let problem = problem.as_deref().unwrap_or("no answer");
                text.push_str(&format!("{who}: {}\n", escaped(problem)));
                if let Some(advice) = &account.advice {
                    text.push_str(&format!("  {}\n", escaped(advice)));
                }
            }
        }
    }
    text
}
