//! The table of routes: each path with what it takes to be answered.
//!
//! The router and the OpenAPI document are made from it, and a test asks every route as every kind
//! of caller.

use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use utoipa::Path;
// Hidden in its documentation, and the only way to the types of a handler: `OpenApi` takes handlers
// by name only, and the table is not known to a macro.
use utoipa::__dev::SchemaReferences;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::{RefOr, Schema};

use super::super::console::links;
use super::super::roles::Role;
use super::caller::Caller;
use super::error::refused;
use super::{
    Shared, appliance, approvals, archive, clients, health, live, openapi, policy, revocations,
    sessions, targets, tokens, whoami,
};

/// Where things are.
pub mod paths {
    pub const TOKENS: &str = "/v1/tokens";
    /// Clients of the built-in issuer.
    pub const TOKEN_CLIENTS: &str = "/v1/token-clients";
    pub const TOKEN_CLIENT: &str = "/v1/token-clients/{id}";
    pub const RELOAD: &str = "/v1/reload";
    pub const STATUS: &str = "/v1/status";
    pub const SESSIONS: &str = "/v1/sessions";
    pub const REFUSED_LOGINS: &str = "/v1/logins/refused";
    /// Events of one session; `{id}` is its id or the beginning of it.
    pub const EVENTS: &str = "/v1/sessions/{id}/events";
    pub const HEALTH: &str = "/v1/health";
    pub const METRICS: &str = "/v1/metrics";
    /// Requests for approval.
    pub const APPROVALS: &str = "/v1/approvals";
    /// What happens to them, as it happens.
    pub const APPROVAL_EVENTS: &str = "/v1/approvals/events";
    pub const APPROVAL: &str = "/v1/approvals/{id}";
    pub const APPROVE: &str = "/v1/approvals/{id}/approve";
    pub const DENY: &str = "/v1/approvals/{id}/deny";
    /// One session: deleted, it is ended.
    pub const SESSION: &str = "/v1/sessions/{id}";
    pub const REVOCATIONS: &str = "/v1/revocations";
    /// `{id}` is its number.
    pub const REVOCATION: &str = "/v1/revocations/{id}";
    /// What runs now.
    pub const LIVE: &str = "/v1/sessions/live";
    pub const TARGETS: &str = "/v1/targets";
    /// `{id}` is its name.
    pub const TARGET_CHECK: &str = "/v1/targets/{id}/check";
    pub const POLICY: &str = "/v1/policy";
    pub const EXPLAIN: &str = "/v1/explain";
    /// Seals what was recorded until now.
    pub const ARCHIVE_SEAL: &str = "/v1/archive/seal";
    /// Legal holds.
    pub const ARCHIVE_HOLDS: &str = "/v1/archive/holds";
    pub const ARCHIVE_RELEASE: &str = "/v1/archive/holds/release";
    /// Who asks, and what they may do.
    pub const WHOAMI: &str = "/v1/whoami";
    /// Links that sign a browser in to the console.
    pub const CONSOLE_LINKS: &str = "/v1/console/links";
    /// The OpenAPI document.
    pub const OPENAPI: &str = "/v1/openapi.json";
}

/// What it takes to be answered at a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control) enum Access {
    /// Nothing.
    Open,
    /// To be somebody: the operator, or a person of whatever groups.
    Known,
    /// A person with the role, or the operator by socket.
    Role(Role),
    /// A person with the role, by their own token or console session. The socket stands for nobody.
    Person(Role),
    /// The operator by socket.
    Operator,
}

/// One line of the table.
pub(in crate::control) struct Route {
    pub(in crate::control) method: HttpMethod,
    pub(in crate::control) path: &'static str,
    pub(in crate::control) access: Access,
    /// The method and what answers it.
    pub(in crate::control) handler: fn() -> MethodRouter<Shared>,
    /// What the OpenAPI document says of it.
    pub(in crate::control) operation: fn() -> Operation,
    /// Adds the types that it refers to, by name.
    pub(in crate::control) schemas: fn(&mut Vec<(String, RefOr<Schema>)>),
    /// The path and methods in the annotation of the handler.
    #[cfg(test)]
    pub(in crate::control) annotated: fn() -> (String, Vec<HttpMethod>),
}

impl Route {
    fn get<D: Path + SchemaReferences>(
        path: &'static str,
        access: Access,
        handler: fn() -> MethodRouter<Shared>,
    ) -> Self {
        Self::of::<D>(HttpMethod::Get, path, access, handler)
    }

    fn post<D: Path + SchemaReferences>(
        path: &'static str,
        access: Access,
        handler: fn() -> MethodRouter<Shared>,
    ) -> Self {
        Self::of::<D>(HttpMethod::Post, path, access, handler)
    }

    fn delete<D: Path + SchemaReferences>(
        path: &'static str,
        access: Access,
        handler: fn() -> MethodRouter<Shared>,
    ) -> Self {
        Self::of::<D>(HttpMethod::Delete, path, access, handler)
    }

    fn of<D: Path + SchemaReferences>(
        method: HttpMethod,
        path: &'static str,
        access: Access,
        handler: fn() -> MethodRouter<Shared>,
    ) -> Self {
        Self {
            method,
            path,
            access,
            handler,
            operation: D::operation,
            schemas: D::schemas,
            #[cfg(test)]
            annotated: || (D::path(), D::methods()),
        }
    }
}

const VIEWER: Access = Access::Role(Role::Viewer);
const ADMIN: Access = Access::Role(Role::Admin);
const APPROVER: Access = Access::Person(Role::Approver);

/// Every route of the API. The type in front of each is what `#[utoipa::path]` makes of its handler.
#[rustfmt::skip]
pub(in crate::control) fn table() -> Vec<Route> {
    vec![
        Route::get::<openapi::__path_openapi>(paths::OPENAPI, VIEWER, || get(openapi::openapi)),
        Route::get::<whoami::__path_whoami>(paths::WHOAMI, Access::Known, || get(whoami::whoami)),
        Route::get::<appliance::__path_status>(paths::STATUS, VIEWER, || get(appliance::status)),
        Route::get::<health::__path_health>(paths::HEALTH, VIEWER, || get(health::health)),
        Route::get::<health::__path_metrics>(paths::METRICS, VIEWER, || get(health::metrics)),
        Route::post::<appliance::__path_reload>(paths::RELOAD, ADMIN, || post(appliance::reload)),
        Route::post::<links::__path_make_link>(paths::CONSOLE_LINKS, Access::Operator, || post(links::make_link)),
        Route::post::<tokens::__path_make_token>(paths::TOKENS, Access::Operator, || post(tokens::make_token)),
        Route::post::<clients::__path_add>(paths::TOKEN_CLIENTS, Access::Operator, || post(clients::add)),
        Route::get::<clients::__path_list>(paths::TOKEN_CLIENTS, Access::Operator, || get(clients::list)),
        Route::delete::<clients::__path_remove>(paths::TOKEN_CLIENT, Access::Operator, || delete(clients::remove)),
        Route::get::<policy::__path_policy>(paths::POLICY, VIEWER, || get(policy::policy)),
        Route::get::<targets::__path_targets>(paths::TARGETS, VIEWER, || get(targets::targets)),
        Route::post::<targets::__path_check>(paths::TARGET_CHECK, ADMIN, || post(targets::check)),
        Route::post::<policy::__path_explain>(paths::EXPLAIN, VIEWER, || post(policy::explain)),
        Route::get::<live::__path_live>(paths::LIVE, VIEWER, || get(live::live)),
        Route::get::<sessions::__path_list>(paths::SESSIONS, VIEWER, || get(sessions::list)),
        Route::get::<sessions::__path_refused_logins>(paths::REFUSED_LOGINS, VIEWER, || get(sessions::refused_logins)),
        Route::post::<archive::__path_seal>(paths::ARCHIVE_SEAL, ADMIN, || post(archive::seal)),
        Route::get::<archive::__path_holds>(paths::ARCHIVE_HOLDS, ADMIN, || get(archive::holds)),
        Route::post::<archive::__path_hold>(paths::ARCHIVE_HOLDS, ADMIN, || post(archive::hold)),
        Route::post::<archive::__path_release>(paths::ARCHIVE_RELEASE, ADMIN, || post(archive::release)),
        Route::get::<sessions::__path_events>(paths::EVENTS, VIEWER, || get(sessions::events)),
        Route::get::<approvals::__path_list>(paths::APPROVALS, VIEWER, || get(approvals::list)),
        Route::get::<approvals::__path_follow>(paths::APPROVAL_EVENTS, VIEWER, || get(approvals::follow)),
        Route::get::<approvals::__path_show>(paths::APPROVAL, VIEWER, || get(approvals::show)),
        Route::post::<approvals::__path_approve>(paths::APPROVE, APPROVER, || post(approvals::approve)),
        Route::post::<approvals::__path_deny>(paths::DENY, APPROVER, || post(approvals::deny)),
        Route::delete::<revocations::__path_end_session>(paths::SESSION, ADMIN, || delete(revocations::end_session)),
        Route::get::<revocations::__path_list>(paths::REVOCATIONS, VIEWER, || get(revocations::list)),
        Route::post::<revocations::__path_revoke>(paths::REVOCATIONS, ADMIN, || post(revocations::revoke)),
        Route::delete::<revocations::__path_lift>(paths::REVOCATION, ADMIN, || delete(revocations::lift)),
    ]
}

/// Answers where there is nothing, to callers who are somebody.
pub(super) async fn no_such_path(caller: Caller) -> Response {
    caller.known_or(refused(StatusCode::NOT_FOUND, "no such path"))
}

/// The same for a path that has other methods.
pub(super) async fn no_such_method(caller: Caller) -> Response {
    let refusal = refused(StatusCode::METHOD_NOT_ALLOWED, "no such method here");
    caller.known_or(refusal)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What each route answers to each kind of caller; the end-to-end tests ask.
    const EXPECTED: &str = include_str!("../../../tests/it/access.txt");

    #[test]
    fn what_each_route_answers_to_each_caller_is_written_down() {
        let lines = EXPECTED.lines().filter(|line| line.contains('|'));
        let mut written: Vec<(String, String)> = lines
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                Some((words.next()?.to_owned(), words.next()?.to_owned()))
            })
            .collect();
        assert_eq!(written.remove(0).0, "method");
        let lines = written.len();
        let written: BTreeSet<_> = written.into_iter().collect();
        assert_eq!(lines, written.len(), "a route is there twice");
        let routes: BTreeSet<_> = table()
            .iter()
            .map(|route| {
                let method = serde_json::to_value(&route.method).unwrap();
                let method = method.as_str().unwrap().to_uppercase();
                (method, route.path.to_owned())
            })
            .collect();
        assert_eq!(written, routes);
    }
}
