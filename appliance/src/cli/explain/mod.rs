//! `sallyport explain`: what a policy says about a statement, rule by rule.
//!
//! Reads the files that the appliance would read and asks the same code; needs no running appliance.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use clap::Args;
use policy::{Client, Principal};

use super::{Failure, print, warn};
use crate::config::{self, Environment, Loaded, Secret, Writing};
use crate::control;
use crate::control::explanation::{Question, explain, json, somebody};
use crate::identity::{self, Claim, ProofFailure, TOKEN_BYTES_MAX, TokenCache};

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("who").required(true).multiple(true)))]
pub(super) struct Explain {
    /// Who asks: a token, or a file that holds one
    #[arg(
        long,
        value_name = "TOKEN|FILE",
        group = "who",
        conflicts_with = "groups"
    )]
    principal: Option<String>,
    /// Who asks, by groups as rules name them
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',', group = "who")]
    groups: Option<Vec<String>>,
    /// Where the statement would run: the database name that an agent would ask for
    #[arg(long, value_name = "NAME")]
    target: String,
    /// The session's search_path, where it is known
    #[arg(long, value_name = "SCHEMA,...", value_delimiter = ',')]
    search_path: Option<Vec<String>>,
    /// From where: the address of the client, or `unix`
    #[arg(long, value_name = "ADDRESS", value_parser = client)]
    from: Option<Client>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The statement, or several; `-` reads them from standard input
    sql: String,
}

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExplainError {
    #[error("the token proves nobody")]
    Proof(#[from] ProofFailure),
    #[error("the file of the token cannot be read, or is longer than {TOKEN_BYTES_MAX} bytes")]
    TokenFile(#[source] io::Error),
    #[error("the statement cannot be read from standard input")]
    Statement(#[source] io::Error),
}

impl Explain {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let loaded = config::load(environment, Writing::Never, 0)?;
        let snapshot = &loaded.snapshot;
        let principal = self.principal(&loaded)?;
        let text = statement(self.sql).map_err(ExplainError::Statement)?;
        if snapshot.targets.find(&self.target).is_none() {
            warn(&format!(
                "no target is called {}; nobody is let in there",
                self.target
            ));
        }
        let question = Question {
            principal: &principal,
            target: &self.target,
            from: self.from,
            search_path: self.search_path.as_deref(),
            text: &text,
        };
        let explanation = explain(snapshot, &question);
        let text = if self.json {
            format!("{}\n", json::explanation(&principal, &explanation))
        } else {
            format!("groups: {}\n{explanation}", principal.groups.join(", "))
        };
        print(&text)?;
        Ok(())
    }

    fn principal(&self, loaded: &Loaded) -> Result<Principal, ExplainError> {
        if let Some(text) = &self.principal {
            let token = token(text).map_err(ExplainError::TokenFile)?;
            let now = runtime::unix_time().as_secs();
            let claim = Claim::Password(token.expose());
            let authenticators = &loaded.snapshot.authenticators;
            let remote = control::kept_keys(&loaded.startup.state, authenticators);
            let cache = TokenCache::new();
            let proven = identity::prove(authenticators, &remote, &cache, claim, now)?;
            return Ok(proven.principal().clone());
        }
        Ok(somebody(self.groups.clone().unwrap_or_default()))
    }
}

fn client(text: &str) -> Result<Client, std::net::AddrParseError> {
    if text == "unix" {
        return Ok(Client::Unix);
    }
    text.parse().map(Client::Address)
}

/// The token itself, or the contents of the file of that name.
fn token(text: &str) -> io::Result<Secret> {
    let path = Path::new(text);
    if !path.is_file() {
        return Ok(Secret::new(text.as_bytes().to_vec()));
    }
    let mut bytes = Vec::new();
    // One more than a token may have, so that a longer one is refused and not cut.
    let limit = TOKEN_BYTES_MAX as u64 + 2;
    fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(Secret::new(bytes.trim_ascii().to_vec()))
}

fn statement(sql: String) -> io::Result<String> {
    if sql == "-" {
        io::read_to_string(io::stdin())
    } else {
        Ok(sql)
    }
}
