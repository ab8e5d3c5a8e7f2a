//! Who the appliance takes its caller for.

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Caller;
use super::paths;

/// Who asks, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// The user id of the operator, at the admin socket or by a link made there.
    pub operator_uid: Option<u32>,
    /// The person, if a token or a login names one.
    pub person: Option<PersonShown>,
}

/// A person and their roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PersonShown {
    pub issuer: String,
    pub subject: String,
    pub name: String,
    /// As mapped from the claims of the token.
    pub groups: Vec<String>,
    /// Of `viewer`, `approver`, `admin`.
    pub roles: Vec<String>,
    /// When the token expires, in seconds since 1970.
    pub expires: u64,
}

/// Who asks, and what they may do
#[utoipa::path(
    get,
    path = paths::WHOAMI,
    operation_id = "whoami",
    responses((status = 200, description = "The caller", body = Whoami))
)]
pub(super) async fn whoami(caller: Caller) -> Json<Whoami> {
    let person = caller.person().map(|person| {
        let principal = person.principal();
        PersonShown {
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            name: principal.name.clone(),
            groups: principal.groups.clone(),
            roles: person
                .roles()
                .iter()
                .map(|role| role.name().to_owned())
                .collect(),
            expires: principal.expires,
        }
    });
    Json(Whoami {
        operator_uid: caller.operator().map(|operator| operator.uid()),
        person,
    })
}
