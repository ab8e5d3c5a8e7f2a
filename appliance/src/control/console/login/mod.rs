//! How somebody gets a visit: by a one-time link.
//!
//! ```text
//! sallyport console ──▶ /login/link ── form ──▶ cookie
//! ```

pub(in crate::control) mod links;

use axum::Form;
use axum::extract::{Extension, Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Deserialize;

use super::back::own_page;
use super::looker::Looker;
use super::outside::{Action, Outside};
use super::visits::Guest;
use crate::control::api::{Door, SessionOf, Shared, cookie};
use crate::identity::Proven;

/// Where one-time links lead.
pub(super) const LINK: &str = "/login/link";

#[derive(Deserialize)]
pub(super) struct LinkToken {
    token: String,
}

/// `GET /login`.
pub(super) async fn page() -> Response {
    Outside::new(
        "Sallyport",
        "No identity provider is configured for the console.",
    )
    .and("On the appliance's machine, `sallyport console` prints a link that signs you in.")
    .answer(StatusCode::OK)
}

/// `GET /login/link`: a page with a button, so that nothing that looks ahead uses up the link.
pub(super) async fn link(Query(LinkToken { token }): Query<LinkToken>) -> Response {
    Outside::new("Sallyport", "This link signs this browser in, once.")
        .action(Action::Link { token })
        .answer(StatusCode::OK)
}

/// `POST /login/link`.
pub(super) async fn follow(
    State(shared): State<Shared>,
    Extension(door): Extension<Door>,
    headers: HeaderMap,
    Form(LinkToken { token }): Form<LinkToken>,
) -> Response {
    let now = runtime::unix_time().as_secs();
    let guest = shared.console.visits().follow(&token, now);
    match guest {
        Some(guest) => seat(&shared, door, &headers, guest, "/"),
        None => Outside::new(
            "Not signed in",
            "This link was used already, or is older than a minute.",
        )
        .and("`sallyport console` prints another one.")
        .answer(StatusCode::FORBIDDEN),
    }
}

/// `POST /logout`.
pub(super) async fn logout(
    State(shared): State<Shared>,
    Extension(door): Extension<Door>,
    headers: HeaderMap,
    looker: Looker,
) -> Response {
    if let Some(cookie) = cookie(&headers, door.session_cookie()) {
        shared.console.visits().end(cookie);
    }
    tracing::info!(
        who = looker.log_name(),
        "somebody signed out of the console"
    );
    let action = Action::Go {
        to: "/login",
        label: "Sign in again",
    };
    let mut answer = Outside::new("Signed out", "This browser is signed out of Sallyport.")
        .action(action)
        .answer(StatusCode::OK);
    set_cookie(&mut answer, &session_cookie_line(door, "", Some(0)));
    answer
}

/// Seats somebody in this browser, and sends it on from a page of ours: the cookie does not go
/// along on the way from the provider's (SameSite=Strict).
fn seat(
    shared: &Shared,
    door: Door,
    headers: &HeaderMap,
    guest: Guest<SessionOf>,
    back: &str,
) -> Response {
    let now = runtime::unix_time().as_secs();
    if guest.until <= now {
        return failed("The token has expired.");
    }
    let who = guest.name.clone();
    let begun = {
        let mut visits = shared.console.visits();
        // Another one in this browser is over.
        if let Some(old) = cookie(headers, door.session_cookie()) {
            visits.end(old);
        }
        visits.begin(guest, now)
    };
    let Ok(cookie) = begun else {
        return failed("There is no randomness on the appliance's machine.");
    };
    tracing::info!(who, "somebody signed in to the console");
    let mut answer = Outside::new("Signed in", "")
        .onward(own_page(back))
        .answer(StatusCode::OK);
    set_cookie(&mut answer, &session_cookie_line(door, &cookie, None));
    answer
}

/// The guest that a token proves.
pub(super) fn person(proven: Proven) -> Guest<SessionOf> {
    let principal = proven.principal();
    Guest {
        name: format!("{} of {}", principal.subject, principal.issuer),
        until: principal.expires,
        who: SessionOf::Person(proven),
    }
}

/// The operator of this user id.
pub(super) fn operator(uid: u32) -> Guest<SessionOf> {
    Guest {
        name: format!("operator (uid {uid})"),
        until: u64::MAX,
        who: SessionOf::Operator { uid },
    }
}

fn failed(why: &str) -> Response {
    let action = Action::Go {
        to: "/login",
        label: "Try again",
    };
    Outside::new("Not signed in", why)
        .action(action)
        .answer(StatusCode::FORBIDDEN)
}

fn set_cookie(answer: &mut Response, line: &str) {
    if let Ok(line) = HeaderValue::from_str(line) {
        answer.headers_mut().append(SET_COOKIE, line);
    }
}

/// The visit's cookie. Never sent along from other sites, never shown to scripts, bound to this
/// very host where there is TLS (`__Host-`).
fn session_cookie_line(door: Door, value: &str, seconds: Option<u64>) -> String {
    cookie_line(door, door.session_cookie(), value, "Strict", seconds)
}

fn cookie_line(
    door: Door,
    name: &str,
    value: &str,
    same_site: &str,
    seconds: Option<u64>,
) -> String {
    let secure = if door.is_tls() { "; Secure" } else { "" };
    let age = seconds.map(|seconds| format!("; Max-Age={seconds}"));
    let age = age.unwrap_or_default();
    format!("{name}={value}; Path=/; HttpOnly; SameSite={same_site}{secure}{age}")
}
