//! One-time links, as `sallyport console` asks for them at the admin socket.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{LINK, operator, person};
use crate::control::api::{Caller, Operator, Refused, Shared, paths, refused};

/// A link that signs one browser in. No `Debug`: whoever has it is let in.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ConsoleLink {
    /// The address to open in a browser.
    pub link: String,
}

/// Make a link to the console
///
/// It signs one browser in, once, within a minute: as the person whose token comes along, else as
/// the operator, who looks, ends and revokes but stands for no person.
#[utoipa::path(
    post,
    path = paths::CONSOLE_LINKS,
    operation_id = "make_console_link",
    responses(
        (status = 200, description = "The link", body = ConsoleLink),
        (status = 409, description = "There is no console", body = Refused),
        (status = 503, description = "It cannot be made now", body = Refused),
    )
)]
pub(in crate::control) async fn make_link(
    State(shared): State<Shared>,
    asking: Operator,
    caller: Caller,
) -> Response {
    let Some(url) = shared.console.url(&shared.snapshot.load()) else {
        return refused(
            StatusCode::CONFLICT,
            "there is no console: `listen.console` is `off`, or the log of the start says why",
        );
    };
    let guest = match caller.person() {
        Some(known) => person(known.proven().clone()),
        None => operator(asking.uid()),
    };
    let now = runtime::unix_time().as_secs();
    let who = guest.name.clone();
    let Ok(secret) = shared.console.visits().link(guest, now) else {
        return refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "the system gives no random numbers",
        );
    };
    tracing::info!(who, by_uid = asking.uid(), "a link to the console was made");
    Json(ConsoleLink {
        link: format!("{url}{LINK}?token={secret}"),
    })
    .into_response()
}
