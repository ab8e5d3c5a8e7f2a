//! `sallyport token`: credentials for agents.

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::table::table;
use super::{Failure, client, print, time};
use crate::config::Environment;
use crate::control::{ClientLine, ClientMade, ClientWanted, TokenMade, TokenWanted, paths};

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token and print it, alone, on standard output
    Issue {
        /// Who the token is for
        #[arg(long, value_name = "NAME")]
        agent: String,
        /// The agent's groups
        #[arg(long, value_name = "GROUP,...", value_delimiter = ',')]
        groups: Vec<String>,
        /// How long it is valid, such as 30m or 8h
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
        ttl: Duration,
    },
    /// Programs that fetch tokens by themselves, by client credentials at `listen.console`
    #[command(subcommand)]
    Client(Client),
}

#[derive(Debug, Subcommand)]
pub(super) enum Client {
    /// Add a client, and print its id and its secret, which is shown here only
    Add {
        /// Who its tokens are for
        #[arg(long, value_name = "NAME")]
        agent: String,
        /// The agent's groups
        #[arg(long, value_name = "GROUP,...", value_delimiter = ',')]
        groups: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the clients
    List {
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Remove a client; the tokens that it has are valid until they expire
    Remove {
        /// Its id
        id: String,
    },
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

impl Token {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let (agent, groups, ttl) = match self {
            Self::Issue { agent, groups, ttl } => (agent, groups, ttl),
            Self::Client(client) => return client.run(environment),
        };
        let wanted = TokenWanted {
            agent,
            groups,
            ttl_seconds: ttl.as_secs(),
        };
        let made: TokenMade = client(environment)?.post(paths::TOKENS, &wanted)?;
        print(&format!("{}\n", made.token))?;
        Ok(())
    }
}

impl Client {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Add {
                agent,
                groups,
                json,
            } => {
                let wanted = ClientWanted { agent, groups };
                let made: ClientMade = client(environment)?.post(paths::TOKEN_CLIENTS, &wanted)?;
                if json {
                    print(&format!("{}\n", json_line(&made)?))?;
                } else {
                    print(&format!(
                        "client_id={}\nclient_secret={}\n",
                        made.client_id, made.client_secret
                    ))?;
                }
            }
            Self::List { json } => {
                let clients: Vec<ClientLine> = client(environment)?.get(paths::TOKEN_CLIENTS)?;
                if json {
                    for client in &clients {
                        print(&format!("{}\n", json_line(client)?))?;
                    }
                    return Ok(());
                }
                let row = |client: ClientLine| {
                    let groups = client.groups.join(",");
                    vec![client.client_id, client.agent, groups, time(client.added)]
                };
                let rows: Vec<Vec<String>> = clients.into_iter().map(row).collect();
                print(&table(&["CLIENT", "AGENT", "GROUPS", "ADDED"], &rows))?;
            }
            Self::Remove { id } => {
                client(environment)?.remove_token_client(&id)?;
            }
        }
        Ok(())
    }
}

fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    Ok(serde_json::to_string(value).map_err(std::io::Error::from)?)
}
