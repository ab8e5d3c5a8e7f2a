//! `sallyport console`: a link that signs a browser in.

use std::path::PathBuf;

use clap::Args;

use super::asker::token;
use super::{Failure, client, print};
use crate::config::Environment;
use crate::control::{ConsoleLink, paths};

#[derive(Debug, Args)]
pub(super) struct Console {
    /// Sign in as the person whose token is in this file (`-`: standard input) [default: the token
    /// in $SALLYPORT_TOKEN; without one as the operator, who decides about no request]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Console {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let mut client = client(environment)?;
        if let Some(token) = token(self.token_file.as_deref(), environment)? {
            client = client.with_token(token);
        }
        let made: ConsoleLink = client.post(paths::CONSOLE_LINKS, &())?;
        print(&format!("{}\n", made.link))?;
        Ok(())
    }
}
