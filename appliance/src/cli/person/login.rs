//! `sallyport login` and `logout`.

use clap::Args;
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use super::PersonError;
use super::flows::Found;
use super::settings::{IssuerSettings, Settings, SettingsError, read_text};
use super::tokens::{Kept, Tokens};
use crate::cli::{Failure, ProcessEnvironment, print, time};

/// A token that expires sooner is replaced before it is used: connecting takes a while.
const FRESH_SECONDS: u64 = 60;

#[derive(Debug, Args)]
pub(in crate::cli) struct Login {
    /// The issuer, by its name in client.toml [default: the first there]
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Come back from a browser on this machine, though the issuer offers codes for other devices
    #[arg(long)]
    browser: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Logout {
    /// The issuer, by its name in client.toml [default: the first there]
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
}

impl Login {
    pub(in crate::cli) fn run(self, process: &ProcessEnvironment) -> Result<(), Failure> {
        let settings = Settings::read(process)?;
        let issuer = settings.issuer(self.issuer.as_deref())?;
        let kept = Kept::open(process, issuer)?;
        let tokens = client()?.block_on(async {
            let found = Found::find(issuer).await?;
            if let Some(secret) = secret(issuer)? {
                found.by_secret(&secret).await
            } else if found.has_device_flow() && !self.browser {
                found.by_device().await
            } else {
                found.by_browser().await
            }
        })?;
        kept.write(&tokens).map_err(PersonError::from)?;
        print(&format!(
            "logged in at {} until {}{}\n",
            issuer.name,
            time(tokens.expires),
            if tokens.refresh_token.is_some() {
                ", and renewed as needed"
            } else {
                ""
            }
        ))?;
        Ok(())
    }
}

impl Logout {
    pub(in crate::cli) fn run(self, process: &ProcessEnvironment) -> Result<(), Failure> {
        let settings = Settings::read(process)?;
        let issuer = settings.issuer(self.issuer.as_deref())?;
        let removed = Kept::open(process, issuer)?.remove();
        print(if removed.map_err(PersonError::from)? {
            "logged out\n"
        } else {
            "was not logged in\n"
        })?;
        Ok(())
    }
}

/// A token that is good for a while yet: the one that is kept, or one had by what is kept.
pub(super) fn fresh(
    process: &ProcessEnvironment,
    issuer: &IssuerSettings,
) -> Result<Tokens, PersonError> {
    let kept = Kept::open(process, issuer)?;
    let before = kept.read(issuer)?;
    let soon = runtime::unix_time().as_secs().saturating_add(FRESH_SECONDS);
    let refresh = match before {
        Some(tokens) if tokens.expires > soon => return Ok(tokens),
        Some(tokens) => tokens.refresh_token,
        None => None,
    };
    let secret = secret(issuer)?;
    if refresh.is_none() && secret.is_none() {
        return Err(not_logged_in(issuer));
    }
    let tokens = client()?.block_on(async {
        let found = Found::find(issuer).await?;
        match (secret, refresh) {
            (Some(secret), _) => found.by_secret(&secret).await.map(Some),
            (None, Some(refresh)) => found.by_refresh(&refresh).await,
            (None, None) => Ok(None),
        }
    })?;
    let Some(tokens) = tokens else {
        kept.remove()?;
        return Err(not_logged_in(issuer));
    };
    kept.write(&tokens)?;
    Ok(tokens)
}

fn not_logged_in(issuer: &IssuerSettings) -> PersonError {
    PersonError::NotLoggedIn {
        issuer: issuer.name.clone(),
    }
}

fn secret(issuer: &IssuerSettings) -> Result<Option<Zeroizing<String>>, PersonError> {
    let Some(path) = &issuer.client_secret_file else {
        return Ok(None);
    };
    let read = read_text(path).map_err(|source| SettingsError::Read {
        path: path.clone(),
        source,
    });
    let text = Zeroizing::new(read?);
    Ok(Some(Zeroizing::new(text.trim().to_owned())))
}

fn client() -> Result<Runtime, PersonError> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(PersonError::Local)
}
