//! What a person or agent does on their own machine: log in, and connect with what came of it.
//!
//! Nothing here needs the appliance's configuration or its admin socket.

mod connect;
mod flows;
mod login;
mod settings;
mod tokens;

use crate::config::Secret;
use crate::control::FetchError;

use super::ProcessEnvironment;

pub(super) use connect::{Connect, Env};
pub(super) use login::{Login, Logout};

/// Why somebody is not logged in, or not connected.
#[derive(Debug, thiserror::Error)]
pub(super) enum PersonError {
    #[error(transparent)]
    Settings(#[from] settings::SettingsError),
    #[error(transparent)]
    Tokens(#[from] tokens::TokensError),
    #[error("this process could not start a client")]
    Local(#[source] std::io::Error),
    #[error("the issuer")]
    Issuer(#[from] FetchError),
    #[error("the issuer offers no {what}")]
    NotOffered { what: &'static str },
    #[error("the issuer could not be asked for a token")]
    Asking(#[source] reqwest::Error),
    #[error("the issuer gives no token: {error}")]
    Refused { error: String },
    #[error("the answer of the issuer is not understood")]
    NotUnderstood,
    #[error("nobody confirmed the login in time")]
    TimedOut,
    #[error("what the browser brought back is not the answer to this login")]
    OtherLogin,
    #[error("not logged in at {issuer}: run `sallyport login --issuer {issuer}`")]
    NotLoggedIn { issuer: String },
    #[error("no server: give --server HOST:PORT, or `server` in {file}")]
    NoServer { file: String },
    #[error("a server is written HOST:PORT or unix:DIRECTORY:PORT")]
    Server,
    #[error("a target is a name without control characters")]
    Target,
    #[error("cannot run {program}")]
    Run {
        program: String,
        source: std::io::Error,
    },
}

/// The token of whoever has logged in at that issuer, or at the first of `client.toml`; nothing where
/// `client.toml` names no issuer at all.
pub(super) fn token_of_login(
    process: &ProcessEnvironment,
    issuer: Option<&str>,
) -> Result<Option<Secret>, PersonError> {
    let settings = match settings::Settings::read(process) {
        // Nobody's home has nobody's login.
        Err(settings::SettingsError::NoHome { .. }) if issuer.is_none() => return Ok(None),
        settings => settings?,
    };
    if issuer.is_none() && settings.issuer.is_empty() {
        return Ok(None);
    }
    let tokens = login::fresh(process, settings.issuer(issuer)?)?;
    Ok(Some(Secret::new(tokens.access_token.as_bytes().to_vec())))
}
