//! Targets: which there are, and whether they take the appliance's accounts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use runtime::ShardId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::checked::{AccountChecked, checked};
use super::error::{refused, unavailable};
use super::{Shared, paths};
use crate::shard::mailbox::ToShard;
use crate::upstream::{Address, Host};

/// How long a check may take over all accounts of a target. Below what the command line waits.
const CHECK_DEADLINE: Duration = Duration::from_secs(50);

/// Where agents may be let to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetShown {
    /// The database name that agents ask for.
    pub name: String,
    pub protocol: String,
    /// Its servers.
    pub addresses: Vec<String>,
    /// The database that the name stands for.
    pub database: Option<String>,
    /// Other databases that agents ask for by their own names.
    pub databases: Vec<String>,
}

/// Where agents may be let to
#[utoipa::path(
    get,
    path = paths::TARGETS,
    operation_id = "targets",
    responses((status = 200, description = "All targets, by name", body = [TargetShown]))
)]
pub(super) async fn targets(State(shared): State<Shared>) -> Json<Vec<TargetShown>> {
    let snapshot = shared.snapshot.load();
    let targets = snapshot.targets.iter().map(|target| TargetShown {
        name: target.name.clone(),
        protocol: "postgres".to_owned(),
        addresses: target.addresses.iter().map(place).collect(),
        database: target.databases.own.clone(),
        databases: target
            .databases
            .patterns
            .iter()
            .map(ToString::to_string)
            .collect(),
    });
    Json(targets.collect())
}

/// As in the configuration.
fn place(address: &Address) -> String {
    match address {
        Address::Tcp { host, port } => match host {
            Host::Ip(ip) => SocketAddr::new(*ip, *port).to_string(),
            Host::Name(name) => format!("{name}:{port}"),
        },
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// Log in to a target with each of its accounts
///
/// A connection of its own for each, with the credentials that the appliance holds; it is asked for
/// its version and closed.
#[utoipa::path(
    post,
    path = paths::TARGET_CHECK,
    operation_id = "check_target",
    params(("id" = String, Path, description = "The target's name")),
    responses(
        (status = 200, description = "What came of each account", body = [AccountChecked]),
        (status = 404, description = "No such target", body = super::Refused),
        (status = 503, description = "Nothing was found out", body = super::Refused),
    )
)]
pub(super) async fn check(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    let snapshot = shared.snapshot.load();
    let Some(target) = snapshot.targets.iter().find(|target| target.name == name) else {
        return refused(StatusCode::NOT_FOUND, "no such target is in force");
    };
    let (reply, answer) = runtime::reply();
    let question = ToShard::Check {
        target: Arc::clone(target),
        reply,
    };
    // Any shard does: a check uses nothing of its pools.
    if shared.directory.send(ShardId(0), question).is_err() {
        return unavailable("the shard that would look does not take messages");
    }
    match tokio::time::timeout(CHECK_DEADLINE, answer).await {
        Ok(Some(checks)) => Json(checked(target, checks)).into_response(),
        Ok(None) => unavailable("the appliance is stopping"),
        Err(_) => unavailable("the target took too long"),
    }
}
