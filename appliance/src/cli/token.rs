//! `sallyport token`: credentials for agents.

use std::time::Duration;

use clap::Subcommand;

use super::{Failure, client, print};
use crate::config::Environment;
use crate::control::{TokenMade, TokenWanted, paths};

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
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

impl Token {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let Self::Issue { agent, groups, ttl } = self;
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
