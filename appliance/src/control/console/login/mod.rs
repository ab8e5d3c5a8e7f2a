//! How somebody gets a visit: by the identity provider, or by a one-time link.
//!
//! ```text
//! /login ── /login/start ──▶ provider ──▶ /login/callback ──▶ cookie
//! sallyport console ───────▶ /login/link ── form ───────────▶ cookie
//! ```

mod departure;
pub(in crate::control) mod links;
mod provider;

use axum::Form;
use axum::extract::{Extension, Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

pub(in crate::control::console) use departure::Seal;

use self::departure::{AWAY_SECONDS_MAX, Departure};
use super::back::{encoded, own_page};
use super::looker::Looker;
use super::outside::{Action, Outside};
use super::visits::Guest;
use crate::control::api::{Door, SessionOf, Shared, cookie};
use crate::identity::Proven;
use crate::telemetry::chain;

const NO_RANDOMNESS: &str = "There is no randomness on the appliance's machine.";

/// Where the provider sends browsers back to, below the console's own address.
pub(super) const CALLBACK: &str = "/login/callback";

/// Where one-time links lead.
pub(super) const LINK: &str = "/login/link";

#[derive(Deserialize)]
pub(super) struct LinkToken {
    token: String,
}

/// Where one comes back to from the page of logins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Back {
    back: String,
}

/// What the provider answers.
///
/// Spec: RFC 6749, "Authorization Response"; RFC 9207 (`iss`).
#[derive(Deserialize)]
pub(super) struct Answered {
    state: Option<String>,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// `GET /login`.
pub(super) async fn page(
    State(shared): State<Shared>,
    Query(Back { back }): Query<Back>,
) -> Response {
    let snapshot = shared.snapshot.load();
    let page = match &snapshot.console_login {
        Some(login) => {
            let issuer = login.issuer.clone();
            let to = format!("/login/start?back={}", encoded(own_page(&back)));
            Outside::new("Sallyport", "Sign in to decide, look or revoke.")
                .action(Action::SignIn { issuer, to })
        }
        None => Outside::new(
            "Sallyport",
            "No identity provider is configured for the console.",
        )
        .and("On the appliance's machine, `sallyport console` prints a link that signs you in."),
    };
    page.answer(StatusCode::OK)
}

/// `GET /login/start`: off to the provider.
pub(super) async fn start(
    State(shared): State<Shared>,
    Extension(door): Extension<Door>,
    Query(Back { back }): Query<Back>,
) -> Response {
    let now = runtime::unix_time().as_secs();
    let departing = Departure::new(&back, now).and_then(|departure| {
        let sealed = shared.console.seal.close(&departure)?;
        Ok((departure, sealed))
    });
    let Ok((departure, sealed)) = departing else {
        return failed(NO_RANDOMNESS);
    };
    let redirect = redirect(&shared);
    let address = match provider::authorization(&shared, &departure, &redirect) {
        Ok(address) => address,
        Err(error) => return not_reached(&error),
    };
    let mut answer = Redirect::to(address.as_str()).into_response();
    set_cookie(&mut answer, &away_cookie(door, &sealed, AWAY_SECONDS_MAX));
    answer
}

/// `GET /login/callback`: back from the provider.
pub(super) async fn callback(
    State(shared): State<Shared>,
    Extension(door): Extension<Door>,
    headers: HeaderMap,
    Query(answered): Query<Answered>,
) -> Response {
    let now = runtime::unix_time().as_secs();
    let sealed = cookie(&headers, away_name(door));
    let departure = sealed.and_then(|sealed| shared.console.seal.open(sealed));
    let state = answered.state.as_deref().unwrap_or_default();
    let Some(departure) = departure.filter(|departure| departure.is_answered_by(state, now)) else {
        return failed("This login was begun in another browser, or too long ago.");
    };
    let mut answer = match (&answered.code, &answered.error) {
        (Some(code), None) => {
            let redirect = redirect(&shared);
            let iss = answered.iss.as_deref();
            match provider::redeem(&shared, &departure, &redirect, code, iss).await {
                Ok(proven) => seat(&shared, door, &headers, person(proven), &departure.back),
                Err(error) => not_reached(&error),
            }
        }
        // What it says is the provider's, or of whoever made the link.
        (_, Some(_)) => failed("The identity provider did not sign you in."),
        (None, None) => failed("The identity provider answered without a code."),
    };
    set_cookie(&mut answer, &away_cookie(door, "", 0));
    answer
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
        return failed(NO_RANDOMNESS);
    };
    tracing::info!(who, "somebody signed in to the console");
    let mut answer = Outside::new("Signed in", "")
        .onward(own_page(back))
        .answer(StatusCode::OK);
    set_cookie(&mut answer, &session_cookie_line(door, &cookie, None));
    answer
}

/// The very address that the provider knows.
fn redirect(shared: &Shared) -> String {
    let url = shared.console.url(&shared.snapshot.load());
    format!("{}{CALLBACK}", url.unwrap_or_default())
}

fn not_reached(error: &provider::LoginError) -> Response {
    tracing::warn!(
        error = chain(error),
        "a login at the console came to nothing"
    );
    failed(&format!("The login came to nothing: {error}."))
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

/// The cookie of somebody who is away: the provider's answer has to bring it along.
fn away_cookie(door: Door, value: &str, seconds: u64) -> String {
    cookie_line(door, away_name(door), value, "Lax", Some(seconds))
}

fn away_name(door: Door) -> &'static str {
    if door.is_tls() {
        "__Host-sallyport-login"
    } else {
        "sallyport-login"
    }
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
