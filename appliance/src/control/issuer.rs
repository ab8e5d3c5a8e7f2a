//! The built-in issuer as other software meets it: discovery, keys, and tokens for its clients.
//!
//! Served on `listen.console` to anybody, before anybody is asked who they are: a client proves
//! itself to the issuer in the issuer's own way. What a token may say is decided where it is made.
//!
//! Spec: OpenID Connect Discovery 1.0; RFC 6749, "Client Credentials Grant"; RFC 7517.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::rejection::FormRejection;
use axum::extract::{Extension, Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::api::{Asked, Door, NoToken, Shared, TokenAsker, too_many};
use super::clients::TokenClient;
use super::listener::neighbourhood;
use crate::identity::TokenRequest;
use crate::telemetry::chain;

const DISCOVERY: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/issuer/jwks.json";
const TOKEN: &str = "/issuer/token";

/// How long a token of a client lives, unless `builtin_issuer.token_lifetime_max` is less: it can
/// fetch another at any time.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Longest id or secret that is looked up, in bytes. Ours have 46 at most.
const CREDENTIAL_BYTES_MAX: usize = 128;

/// How long others may keep the keys: as long as a changed key may take to be known.
const KEYS_KEPT: &str = "public, max-age=300";

/// Its routes.
pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route(DISCOVERY, get(discovery))
        .route(JWKS, get(jwks))
        .route(TOKEN, post(token))
}

/// What the issuer says of itself, if it is there.
pub(super) struct Card {
    pub(super) iss: String,
    pub(super) jwks: serde_json::Value,
    pub(super) lifetime_max: Duration,
}

/// Why there is no token, in the words of RFC 6749.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotGranted {
    Request,
    Client,
    GrantType,
    Scope,
    /// What the client may have is not what may be minted now.
    Unauthorized,
    Server,
}

impl IntoResponse for NotGranted {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::Request => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::Client => (StatusCode::UNAUTHORIZED, "invalid_client"),
            Self::GrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
            Self::Scope => (StatusCode::BAD_REQUEST, "invalid_scope"),
            Self::Unauthorized => (StatusCode::BAD_REQUEST, "unauthorized_client"),
            Self::Server => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
        };
        let mut response = (status, Json(json!({ "error": error }))).into_response();
        if self == Self::Client {
            let challenge = HeaderValue::from_static("Basic realm=\"sallyport\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

async fn card(shared: &Shared) -> Result<Card, Response> {
    match shared.ask(|reply| Asked::Issuer { reply }).await? {
        Some(card) => Ok(card),
        None => Err(StatusCode::NOT_FOUND.into_response()),
    }
}

/// Where the issuer's endpoints are: below `console.url`, or where the request came.
fn base(shared: &Shared, door: Door) -> String {
    match (&shared.snapshot.load().console_url, door) {
        (Some(url), _) => url.origin(),
        (None, Door::Network { local, tls, .. }) => {
            format!("{}://{}", if tls { "https" } else { "http" }, local)
        }
        (None, Door::Socket(_)) => String::new(),
    }
}

async fn discovery(State(shared): State<Shared>, Extension(door): Extension<Door>) -> Response {
    let card = match card(&shared).await {
        Ok(card) => card,
        Err(none) => return none,
    };
    let base = base(&shared, door);
    Json(json!({
        "issuer": card.iss,
        "jwks_uri": format!("{base}{JWKS}"),
        "token_endpoint": format!("{base}{TOKEN}"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "jti", "groups"],
    }))
    .into_response()
}

async fn jwks(State(shared): State<Shared>) -> Response {
    match card(&shared).await {
        Ok(card) => ([(header::CACHE_CONTROL, KEYS_KEPT)], Json(card.jwks)).into_response(),
        Err(none) => none,
    }
}

/// What a client sends. Parameters that are not known are ignored, as the RFC wants.
#[derive(Deserialize)]
struct Wanted {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    scope: Option<String>,
}

async fn token(
    State(shared): State<Shared>,
    Extension(door): Extension<Door>,
    headers: HeaderMap,
    form: Result<Form<Wanted>, FormRejection>,
) -> Response {
    let peer = match door {
        Door::Network { peer, .. } => Some(peer),
        Door::Socket(_) => None,
    };
    if let Some(peer) = peer
        && let Err(limit) = shared
            .rates
            .may_prove(neighbourhood(peer.ip()), runtime::now())
    {
        return too_many(limit);
    }
    let granted = match form {
        Ok(Form(wanted)) => grant(&shared, &headers, wanted, peer).await,
        // Its text may hold what was sent.
        Err(_) => Err(NotGranted::Request),
    };
    granted.unwrap_or_else(IntoResponse::into_response)
}

async fn grant(
    shared: &Shared,
    headers: &HeaderMap,
    wanted: Wanted,
    peer: Option<SocketAddr>,
) -> Result<Response, NotGranted> {
    match wanted.grant_type.as_deref() {
        Some("client_credentials") => {}
        Some(_) => return Err(NotGranted::GrantType),
        None => return Err(NotGranted::Request),
    }
    let (id, secret) = credentials(headers, wanted.client_id, wanted.client_secret)?;
    let client = prove(shared, id, secret, peer).await?;
    let groups = scope(&client, wanted.scope.as_deref())?;
    let lifetime_max = card(shared)
        .await
        .map_err(|_| NotGranted::Server)?
        .lifetime_max;
    let request = TokenRequest {
        agent: client.agent,
        groups,
        lifetime: LIFETIME.min(lifetime_max),
    };
    let (scope, lifetime) = (request.groups.join(" "), request.lifetime.as_secs());
    let by = TokenAsker::Client { id: client.id };
    let asked = shared.ask(|reply| Asked::Token {
        wanted: request,
        by,
        reply,
    });
    match asked.await.map_err(|_| NotGranted::Server)? {
        Ok(made) => Ok(Json(json!({
            // A compact JWT is ASCII.
            "access_token": String::from_utf8_lossy(made.text.expose()),
            "token_type": "Bearer",
            "expires_in": lifetime,
            "scope": scope,
        }))
        .into_response()),
        Err(error @ NoToken::GroupWithRole { .. }) => {
            tracing::warn!(
                error = chain(&error),
                "a client of the built-in issuer gets no token"
            );
            Err(NotGranted::Unauthorized)
        }
        Err(error) => {
            tracing::error!(
                error = chain(&error),
                "a client of the built-in issuer gets no token"
            );
            Err(NotGranted::Server)
        }
    }
}

/// The id and secret of a client, given in one of the two ways and not in both.
fn credentials(
    headers: &HeaderMap,
    id: Option<String>,
    secret: Option<String>,
) -> Result<(String, String), NotGranted> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (id, secret) = match (given.next(), given.next(), id, secret) {
        (None, None, Some(id), Some(secret)) => (id, secret),
        (Some(basic), None, id, None) => {
            let (named, secret) = basic_credentials(basic).ok_or(NotGranted::Client)?;
            if id.is_some_and(|id| id != named) {
                return Err(NotGranted::Request);
            }
            (named, secret)
        }
        (None, None, _, _) => return Err(NotGranted::Client),
        _ => return Err(NotGranted::Request),
    };
    if id.len().max(secret.len()) > CREDENTIAL_BYTES_MAX {
        return Err(NotGranted::Client);
    }
    Ok((id, secret))
}

/// Ids and secrets of ours need no escapes, so those that have some are nobody's.
fn basic_credentials(value: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

async fn prove(
    shared: &Shared,
    id: String,
    secret: String,
    peer: Option<SocketAddr>,
) -> Result<TokenClient, NotGranted> {
    let clients = shared.clients.clone();
    let proving = tokio::task::spawn_blocking(move || clients.prove(&id, secret.as_bytes()));
    match proving.await {
        Ok(Ok(Some(client))) => Ok(client),
        Ok(Ok(None)) => {
            if let Some(peer) = peer {
                tracing::warn!(%peer, "a client of the built-in issuer proved nothing");
                let address = neighbourhood(peer.ip());
                shared.rates.failed(address, runtime::now());
            }
            Err(NotGranted::Client)
        }
        Ok(Err(error)) => {
            tracing::error!(error = chain(&error), "a client cannot be looked up");
            Err(NotGranted::Server)
        }
        Err(_) => Err(NotGranted::Server),
    }
}

/// The client's groups, or those of them that it asks for.
fn scope(client: &TokenClient, asked: Option<&str>) -> Result<Vec<String>, NotGranted> {
    let Some(asked) = asked else {
        return Ok(client.groups.clone());
    };
    let mut groups: Vec<String> = Vec::new();
    for group in asked.split_ascii_whitespace() {
        if !client.groups.iter().any(|has| has == group) {
            return Err(NotGranted::Scope);
        }
        if !groups.iter().any(|taken| taken == group) {
            groups.push(group.to_owned());
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_client_shows_its_secret_in_one_way() {
        let text = |text: &str| Some(text.to_owned());
        let ok = || Ok(("sc-1".to_owned(), "s".to_owned()));
        // "sc-1:s"
        let basic = "Basic c2MtMTpz";
        let cases = [
            (&[basic][..], None, None, ok()),
            (&["basic c2MtMTpz"], text("sc-1"), None, ok()),
            (&[], text("sc-1"), text("s"), ok()),
            (&[], text("sc-1"), None, Err(NotGranted::Client)),
            (&[], None, None, Err(NotGranted::Client)),
            (&[basic], text("sc-2"), None, Err(NotGranted::Request)),
            (&[basic], text("sc-1"), text("s"), Err(NotGranted::Request)),
            (&[basic, basic], None, None, Err(NotGranted::Request)),
            (&["Bearer c2MtMTpz"], None, None, Err(NotGranted::Client)),
            (&["Basic ?"], None, None, Err(NotGranted::Client)),
            (
                &[],
                text("sc-1"),
                Some("s".repeat(129)),
                Err(NotGranted::Client),
            ),
        ];
        for (authorization, id, secret, expected) in cases {
            let found = credentials(&headers(authorization), id.clone(), secret);
            assert_eq!(found, expected, "{authorization:?} {id:?}");
        }
    }

    #[test]
    fn a_scope_is_some_of_the_clients_groups() {
        let client = TokenClient {
            id: "sc-1".into(),
            agent: "a".into(),
            groups: vec!["analysts".into(), "eu".into()],
            by_uid: 0,
            at: 0,
        };
        let granted = |asked| scope(&client, asked).map(|groups| groups.join(" "));
        assert_eq!(granted(None), Ok("analysts eu".to_owned()));
        assert_eq!(granted(Some("eu eu")), Ok("eu".to_owned()));
        assert_eq!(granted(Some("")), Ok(String::new()));
        assert_eq!(granted(Some("eu oncall")), Err(NotGranted::Scope));
    }
}
