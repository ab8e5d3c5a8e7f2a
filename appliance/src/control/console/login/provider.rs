//! The identity provider, as a login at the console uses it.
//!
//! Spec: OpenID Connect Core 1.0, "Authentication using the Authorization Code Flow".

use std::sync::Arc;

use reqwest::Url;
use serde::Deserialize;

use super::departure::Departure;
use crate::config::{ConsoleLogin, Snapshot};
use crate::control::api::Shared;
use crate::control::console::back::encoded;
use crate::control::issuers::{FetchError, post_form};
use crate::identity::remote::{Endpoints, NEWER_KEYS, RemoteSource};
use crate::identity::{IssuerKeys, Login, ProofFailure, Proven, prove_login};

/// Longest code that is sent on, in bytes. Real ones are below 2 KiB.
const CODE_BYTES_MAX: usize = 8 * 1024;

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    #[error("no identity provider is configured for the console")]
    NotConfigured,
    #[error("the identity provider has not been reached yet")]
    NotReached,
    #[error("the identity provider offers no such login")]
    NotOffered,
    #[error("the answer is of another identity provider")]
    OtherIssuer,
    #[error("the code is too long")]
    CodeTooLong,
    #[error("the identity provider did not take the code")]
    Exchange(#[from] FetchError),
    #[error("the identity provider's answer is not understood")]
    NotUnderstood,
    #[error("the identity provider's token proves nobody")]
    Proof(#[from] ProofFailure),
    #[error("the client's secret is no text")]
    Secret,
}

/// Spec: OpenID Connect Core 1.0, "Successful Token Response".
#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

/// The provider of the console, as configured and as its discovery document says.
struct Provider {
    snapshot: Arc<Snapshot>,
    /// The exact `iss`.
    issuer: String,
    source: Arc<RemoteSource>,
    endpoints: Arc<Endpoints>,
}

impl Provider {
    fn of(shared: &Shared) -> Result<Self, LoginError> {
        let snapshot = shared.snapshot.load();
        let login = snapshot.console_login.as_ref();
        let login = login.ok_or(LoginError::NotConfigured)?;
        let issuer = snapshot.authenticators.named(&login.issuer);
        let issuer = issuer.ok_or(LoginError::NotConfigured)?;
        let IssuerKeys::Remote(id, source) = &issuer.keys else {
            return Err(LoginError::NotConfigured);
        };
        let keys = shared.keys.load();
        let known = keys.find(*id);
        let endpoints = known.and_then(|known| known.endpoints.clone());
        Ok(Self {
            issuer: issuer.issuer.clone(),
            source: Arc::clone(source),
            endpoints: endpoints.ok_or(LoginError::NotReached)?,
            snapshot,
        })
    }

    fn login(&self) -> Result<&ConsoleLogin, LoginError> {
        let login = self.snapshot.console_login.as_ref();
        login.ok_or(LoginError::NotConfigured)
    }
}

/// Where a browser goes to sign in. `redirect` is where it comes back to.
pub(super) fn authorization(
    shared: &Shared,
    departure: &Departure,
    redirect: &str,
) -> Result<Url, LoginError> {
    let provider = Provider::of(shared)?;
    let login = provider.login()?;
    let endpoint = provider.endpoints.authorization.clone();
    let mut url = endpoint.ok_or(LoginError::NotOffered)?;
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &login.client_id)
        .append_pair("redirect_uri", redirect)
        .append_pair("scope", &login.scopes.join(" "))
        .append_pair("state", departure.state())
        .append_pair("nonce", &departure.nonce)
        .append_pair("code_challenge", &departure.challenge())
        .append_pair("code_challenge_method", "S256");
    Ok(url)
}

/// Turns the code into the person that the provider's ID token proves.
pub(super) async fn redeem(
    shared: &Shared,
    departure: &Departure,
    redirect: &str,
    code: &str,
    iss: Option<&str>,
) -> Result<Proven, LoginError> {
    let provider = Provider::of(shared)?;
    if code.len() > CODE_BYTES_MAX {
        return Err(LoginError::CodeTooLong);
    }
    // Spec: RFC 9207: an answer that another provider gave is not sent to this one.
    if iss.is_some_and(|iss| iss != provider.issuer) {
        return Err(LoginError::OtherIssuer);
    }
    let endpoint = provider.endpoints.token.clone();
    let endpoint = endpoint.ok_or(LoginError::NotOffered)?;
    let login = provider.login()?;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", redirect),
        ("client_id", login.client_id.as_str()),
        ("code_verifier", departure.verifier.as_str()),
    ];
    let body = post_form(&provider.source, endpoint, &form, basic(login)?).await?;
    let tokens: Tokens = serde_json::from_slice(&body).map_err(|_| LoginError::NotUnderstood)?;
    let meant = Login {
        issuer: &provider.issuer,
        client_id: &login.client_id,
        nonce: &departure.nonce,
    };
    let prove = || {
        let authenticators = &provider.snapshot.authenticators;
        let now = runtime::unix_time().as_secs();
        prove_login(
            authenticators,
            &shared.keys.load(),
            &meant,
            tokens.id_token.as_bytes(),
            now,
        )
    };
    let proven = prove();
    let newer = proven.as_ref().err().and_then(ProofFailure::newer_keys_of);
    if let Some(answer) = newer.and_then(|source| shared.key_refresh.ask(source)) {
        // Which keys are in force afterwards is what counts.
        let _ = tokio::time::timeout(NEWER_KEYS, answer).await;
        return Ok(prove()?);
    }
    Ok(proven?)
}

/// Id and secret of a client that has one, as the header carries them.
///
/// Spec: RFC 6749, "Client Password".
fn basic(login: &ConsoleLogin) -> Result<Option<(String, String)>, LoginError> {
    let Some(secret) = &login.client_secret else {
        return Ok(None);
    };
    let secret = std::str::from_utf8(secret.expose()).map_err(|_| LoginError::Secret)?;
    Ok(Some((
        encoded(&login.client_id),
        encoded(secret.trim_end()),
    )))
}
