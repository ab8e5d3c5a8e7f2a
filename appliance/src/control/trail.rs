//! How the control plane writes its trail: beside its one thread, since it waits for the disk.

use super::api::Caller;
use crate::archive::{Action, Actor, Trail, TrailError};

/// Writes an action down before it takes effect.
///
/// # Errors
/// When it is not durable. The action must not happen then.
pub(super) async fn record(trail: &Trail, action: Action) -> Result<(), TrailError> {
    let trail = trail.clone();
    tokio::task::spawn_blocking(move || trail.record(&action))
        .await
        .map_err(|_| TrailError::Panicked)?
}

/// Who a caller is in the trail: the person, where one shows who they are, even at the socket.
pub(super) fn actor(caller: &Caller) -> Actor {
    match (caller.person(), caller.operator()) {
        (Some(person), _) => {
            let principal = person.principal();
            Actor::Person {
                issuer: principal.issuer.clone(),
                subject: principal.subject.clone(),
                name: principal.name.clone(),
            }
        }
        (None, Some(operator)) => Actor::Operator {
            uid: operator.uid(),
        },
        (None, None) => Actor::Nobody,
    }
}
