//! Tokens for agents, made by the built-in issuer.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Operator;
use super::error::refused;
use super::{Asked, Shared, TokenAsker, paths};
use crate::identity::TokenRequest;
use crate::telemetry::chain;

/// What a token shall say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenWanted {
    /// The agent: subject of the token.
    pub agent: String,
    /// Its groups, without the prefix of the built-in issuer. None may have a role.
    pub groups: Vec<String>,
    /// From now until it expires, at most `builtin_issuer.token_lifetime_max`.
    pub ttl_seconds: u64,
}

/// A token. No `Debug`: it holds a credential.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct TokenMade {
    /// The JWT in compact form: a credential.
    pub token: String,
    /// Its `jti`, by which it can be revoked.
    pub id: String,
    /// Seconds since 1970.
    pub expires: u64,
}

/// Make a token for an agent
///
/// Signed by the built-in issuer. It takes the admin socket: no person's token mints another.
#[utoipa::path(
    post,
    path = paths::TOKENS,
    operation_id = "make_token",
    request_body = TokenWanted,
    responses(
        (status = 200, description = "The token", body = TokenMade),
        (status = 422, description = "Not a token that is made", body = super::Refused),
    )
)]
pub(super) async fn make_token(
    State(shared): State<Shared>,
    operator: Operator,
    Json(wanted): Json<TokenWanted>,
) -> Response {
    let wanted = TokenRequest {
        agent: wanted.agent,
        groups: wanted.groups,
        lifetime: Duration::from_secs(wanted.ttl_seconds),
    };
    let by = TokenAsker::Operator {
        uid: operator.uid(),
    };
    match shared.ask(|reply| Asked::Token { wanted, by, reply }).await {
        Ok(Ok(made)) => {
            // A compact JWT is ASCII.
            let token = String::from_utf8_lossy(made.text.expose()).into_owned();
            Json(TokenMade {
                token,
                id: made.id,
                expires: made.expires,
            })
            .into_response()
        }
        Ok(Err(no_token)) => refused(StatusCode::UNPROCESSABLE_ENTITY, &chain(&no_token)),
        Err(gone) => gone,
    }
}
