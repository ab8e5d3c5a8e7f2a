//! Clients of the built-in issuer: programs that fetch tokens by themselves.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::clients::{ClientsError, TokenClient};
use super::super::trail;
use super::caller::{Caller, Operator};
use super::error::refused;
use super::{Asked, Shared, paths};
use crate::archive::{Action, Verb};
use crate::telemetry::chain;

/// A client that shall be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientWanted {
    /// Whom its tokens are for.
    pub agent: String,
    /// Their groups, without the prefix of the built-in issuer. None may have a role.
    pub groups: Vec<String>,
}

/// A client that was added. No `Debug`: it holds a credential.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ClientMade {
    pub client_id: String,
    /// Shown here and never again.
    pub client_secret: String,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClientLine {
    pub client_id: String,
    pub agent: String,
    pub groups: Vec<String>,
    /// Seconds since 1970.
    pub added: u64,
    /// The user id of the operator who added it.
    pub by_uid: u32,
}

impl From<TokenClient> for ClientLine {
    fn from(client: TokenClient) -> Self {
        Self {
            client_id: client.id,
            agent: client.agent,
            groups: client.groups,
            added: client.at,
            by_uid: client.by_uid,
        }
    }
}

/// Add a client of the built-in issuer
///
/// It fetches tokens for this agent by client credentials. It takes the admin socket, as making a
/// token does.
#[utoipa::path(
    post,
    path = paths::TOKEN_CLIENTS,
    operation_id = "add_token_client",
    request_body = ClientWanted,
    responses(
        (status = 200, description = "The client, with its secret", body = ClientMade),
        (status = 422, description = "Not a client that is added", body = super::Refused),
    )
)]
pub(super) async fn add(
    State(shared): State<Shared>,
    operator: Operator,
    caller: Caller,
    Json(wanted): Json<ClientWanted>,
) -> Response {
    let (agent, groups) = (wanted.agent.clone(), wanted.groups.clone());
    let asked = shared.ask(|reply| Asked::MayMint {
        agent,
        groups,
        reply,
    });
    match asked.await {
        Ok(Ok(())) => {}
        Ok(Err(no_token)) => return refused(StatusCode::UNPROCESSABLE_ENTITY, &chain(&no_token)),
        Err(gone) => return gone,
    }
    let (clients, now) = (shared.clients.clone(), runtime::unix_time().as_secs());
    let (agent, groups) = (wanted.agent.clone(), wanted.groups.clone());
    let added =
        tokio::task::spawn_blocking(move || clients.add(&agent, &groups, operator.uid(), now));
    let (client, secret) = match added.await {
        Ok(Ok(added)) => added,
        Ok(Err(error)) => return not_done(&error),
        Err(_) => return refused(StatusCode::INTERNAL_SERVER_ERROR, "adding it broke off"),
    };
    let action = Action::new(trail::actor(&caller), Verb::TokenClientAdded, &client.id)
        .with("agent", &client.agent)
        .with("groups", client.groups.join(","));
    if let Err(error) = trail::record(&shared.trail, action).await {
        return unrecorded(&shared, &client.id, &error).await;
    }
    Json(ClientMade {
        client_id: client.id,
        // Base64url is ASCII.
        client_secret: String::from_utf8_lossy(secret.expose()).into_owned(),
    })
    .into_response()
}

/// What is not in the trail did not happen.
async fn unrecorded(shared: &Shared, id: &str, error: &crate::archive::TrailError) -> Response {
    let (clients, id) = (shared.clients.clone(), id.to_owned());
    let removed = tokio::task::spawn_blocking(move || clients.remove(&id)).await;
    if !matches!(removed, Ok(Ok(_))) {
        tracing::error!("a client of the built-in issuer that is not in the trail stays");
    }
    refused(StatusCode::SERVICE_UNAVAILABLE, &chain(error))
}

/// List the clients of the built-in issuer
#[utoipa::path(
    get,
    path = paths::TOKEN_CLIENTS,
    operation_id = "list_token_clients",
    responses((status = 200, description = "All of them", body = Vec<ClientLine>))
)]
pub(super) async fn list(State(shared): State<Shared>) -> Response {
    let clients = shared.clients.clone();
    match tokio::task::spawn_blocking(move || clients.all()).await {
        Ok(Ok(all)) => {
            let lines: Vec<ClientLine> = all.into_iter().map(ClientLine::from).collect();
            Json(lines).into_response()
        }
        Ok(Err(error)) => not_done(&error),
        Err(_) => refused(StatusCode::INTERNAL_SERVER_ERROR, "reading them broke off"),
    }
}

/// Remove a client of the built-in issuer
///
/// It gets no more tokens; those that it has are valid until they expire, or are revoked.
#[utoipa::path(
    delete,
    path = paths::TOKEN_CLIENT,
    operation_id = "remove_token_client",
    params(("id" = String, Path, description = "Its `client_id`")),
    responses(
        (status = 200, description = "It is gone"),
        (status = 404, description = "There is none", body = super::Refused),
    )
)]
pub(super) async fn remove(
    State(shared): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Response {
    let clients = shared.clients.clone();
    match tokio::task::spawn_blocking(move || clients.all()).await {
        Ok(Ok(all)) if all.iter().any(|client| client.id == id) => {}
        Ok(Ok(_)) => return refused(StatusCode::NOT_FOUND, "there is no such client"),
        Ok(Err(error)) => return not_done(&error),
        Err(_) => return refused(StatusCode::INTERNAL_SERVER_ERROR, "reading them broke off"),
    }
    let action = Action::new(trail::actor(&caller), Verb::TokenClientRemoved, &id);
    if let Err(error) = trail::record(&shared.trail, action).await {
        return refused(StatusCode::SERVICE_UNAVAILABLE, &chain(&error));
    }
    let clients = shared.clients.clone();
    match tokio::task::spawn_blocking(move || clients.remove(&id)).await {
        // Somebody else may have been faster.
        Ok(Ok(_)) => Json(()).into_response(),
        Ok(Err(error)) => not_done(&error),
        Err(_) => refused(StatusCode::INTERNAL_SERVER_ERROR, "removing it broke off"),
    }
}

fn not_done(error: &ClientsError) -> Response {
    let status = match error {
        ClientsError::TooMany => StatusCode::UNPROCESSABLE_ENTITY,
        ClientsError::Database(_) | ClientsError::Sqlite { .. } | ClientsError::Random => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    refused(status, &chain(error))
}
