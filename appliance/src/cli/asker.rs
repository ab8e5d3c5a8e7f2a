//! Who asks the appliance, and which: for commands that take a person and not just the operator.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::person::token_of_login;
use super::{Failure, ProcessEnvironment, client};
use crate::config::{Environment, Secret};
use crate::control::AdminClient;
use crate::identity::TOKEN_BYTES_MAX;

/// Where a person's token is found when no file is named.
const TOKEN_VARIABLE: &str = "SALLYPORT_TOKEN";

/// Longest certificate file that is read, in bytes.
const CERTIFICATES_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct Asker {
    /// Ask as the person whose token is in this file (`-`: standard input) [default: the token in
    /// $SALLYPORT_TOKEN, then, to decide or with --server, that of `sallyport login`; without one the
    /// operator asks]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Ask as whoever has logged in at this issuer, by its name in client.toml [default: the first]
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    issuer: Option<String>,
    /// Ask the appliance at this address, as `https://sallyport.example:7070`, instead of the one
    /// that runs here
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Also trust the certificates in this file when asking at --server
    #[arg(long, value_name = "FILE", requires = "server")]
    server_ca: Option<PathBuf>,
}

impl Asker {
    /// A client that asks as this one. Where `takes_a_person`, the operator would be refused.
    pub(super) fn client(
        &self,
        environment: &Environment,
        process: &ProcessEnvironment,
        takes_a_person: bool,
    ) -> Result<AdminClient, Failure> {
        let client = match &self.server {
            None => client(environment)?,
            Some(server) => {
                let roots = match &self.server_ca {
                    Some(path) => read(path, CERTIFICATES_BYTES_MAX)?,
                    None => Vec::new(),
                };
                AdminClient::remote(server, &roots)?
            }
        };
        let given = match &self.issuer {
            Some(_) => None,
            None => token(self.token_file.as_deref(), environment)?,
        };
        let by_login = takes_a_person || self.server.is_some() || self.issuer.is_some();
        let token = match given {
            None if by_login => token_of_login(process, self.issuer.as_deref())?,
            given => given,
        };
        Ok(match token {
            Some(token) => client.with_token(token),
            None => client,
        })
    }
}

/// The token of the person who asks: from the file, or from the environment.
pub(super) fn token(
    file: Option<&Path>,
    environment: &Environment,
) -> Result<Option<Secret>, Failure> {
    // One more than a token may have, so that a longer one is refused and not cut.
    let limit = u64::try_from(TOKEN_BYTES_MAX).unwrap_or(u64::MAX);
    if let Some(path) = file {
        let bytes = read(path, limit.saturating_add(2))?;
        return Ok(Some(Secret::new(bytes)));
    }
    let given = (environment.variable)(TOKEN_VARIABLE);
    let given = given.filter(|token| !token.is_empty());
    Ok(given.map(|token| Secret::new(token.into_encoded_bytes())))
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|source| Failure::Input {
        path: path.to_owned(),
        source,
    })?;
    Ok(bytes)
}
