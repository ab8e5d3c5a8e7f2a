//! The table of pages: each path with what it takes to see it or to send its form.
//!
//! A page is behind [`guard`] by being in the table.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Request};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{MethodRouter, get, post};
use codecs::postgres::auth::same_secret;

use super::back::{encoded, own_page};
use super::frame::{ICON, SCRIPT, STYLE, asset};
use super::outside::Outside;
use super::{live, login, pages};
use crate::control::api::{Access, Caller, Shared};
use crate::control::roles::Role;

/// Longest form, in bytes. A statement to be explained is the longest.
const FORM_BYTES_MAX: usize = 64 * 1024;

const VIEWER: Access = Access::Role(Role::Viewer);
const ADMIN: Access = Access::Role(Role::Admin);
const APPROVER: Access = Access::Person(Role::Approver);

/// One line of the table.
struct Page {
    path: &'static str,
    access: Access,
    handler: fn() -> MethodRouter<Shared>,
}

fn page(path: &'static str, access: Access, handler: fn() -> MethodRouter<Shared>) -> Page {
    Page {
        path,
        access,
        handler,
    }
}

/// Every page there is.
#[rustfmt::skip]
fn table() -> Vec<Page> {
    use Access::{Known, Open};
    vec![
        page("/", VIEWER, || get(pages::approvals)),
        page("/approvals/{id}", VIEWER, || get(pages::approval)),
        page("/approvals/{id}/approve", APPROVER, || post(pages::approve)),
        page("/approvals/{id}/deny", APPROVER, || post(pages::deny)),
        page("/sessions", VIEWER, || get(pages::sessions)),
        page("/sessions/{id}", VIEWER, || get(pages::session)),
        page("/sessions/{id}/kill", ADMIN, || post(pages::kill)),
        page("/explain", VIEWER, || get(pages::explain)),
        page("/explain", VIEWER, || post(pages::explained)),
        page("/health", VIEWER, || get(pages::health)),
        page("/revocations", ADMIN, || get(pages::revocations)),
        page("/revocations", ADMIN, || post(pages::revoke)),
        page("/revocations/{id}/lift", ADMIN, || post(pages::lift)),
        page("/events", VIEWER, || get(live::events)),
        page("/logout", Known, || post(login::logout)),
        page("/login", Open, || get(login::page)),
        page("/login/start", Open, || get(login::start)),
        page(login::CALLBACK, Open, || get(login::callback)),
        page(login::LINK, Open, || get(login::link)),
        page(login::LINK, Open, || post(login::follow)),
        page("/assets/console.css", Open, || get(async || asset("text/css", STYLE))),
        page("/assets/console.js", Open, || get(async || asset("text/javascript", SCRIPT))),
        page("/assets/icon.svg", Open, || get(async || asset("image/svg+xml", ICON))),
    ]
}

/// Serves the pages of the table. Whoever merges it finds out who calls.
pub(in crate::control) fn router() -> Router<Shared> {
    table().into_iter().fold(Router::new(), |router, page| {
        let handler = (page.handler)().layer(middleware::from_fn(move |caller, request, next| {
            guard(page.access, caller, request, next)
        }));
        router.route(page.path, handler)
    })
}

/// Lets a request on to its page when the caller may see it, and sends its form on when it comes
/// from a page of this visit.
async fn guard(
    access: Access,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    if !caller.may(access) {
        return turned_away(&caller, &request);
    }
    if request.method().is_safe() || access == Access::Open {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(form) = to_bytes(body, FORM_BYTES_MAX).await else {
        return Outside::new("Not done", "The form is too long, or broke off.")
            .answer(StatusCode::PAYLOAD_TOO_LARGE);
    };
    if !is_own(&caller, &form) {
        return Outside::new("Not done", "The form is not from a page of this visit.")
            .answer(StatusCode::FORBIDDEN);
    }
    next.run(Request::from_parts(parts, Body::from(form))).await
}

/// Whether a form has the token of the caller's visit. Without a visit there are no forms.
fn is_own(caller: &Caller, form: &[u8]) -> bool {
    let mut fields = form.split(|byte| *byte == b'&');
    // Tokens are written as they are in a form: letters, digits, `-` and `_`.
    let given = fields.find_map(|field| field.strip_prefix(b"csrf_token="));
    match (caller.csrf(), given) {
        (Some(expected), Some(given)) => same_secret(given, expected.as_bytes()),
        (None, _) | (_, None) => false,
    }
}

fn turned_away(caller: &Caller, request: &Request) -> Response {
    if !caller.is_nobody() {
        return Outside::new(
            "Not for you",
            "Your groups give you no role that may do this.",
        )
        .answer(StatusCode::FORBIDDEN);
    }
    let asked = request
        .uri()
        .path_and_query()
        .map_or("/", |asked| asked.as_str());
    if request.method() != Method::GET {
        return Outside::new(
            "Not signed in",
            "Your visit is over. Sign in and try again.",
        )
        .answer(StatusCode::UNAUTHORIZED);
    }
    // A browser that follows a link from elsewhere keeps its cookie back (SameSite=Strict). Asked
    // again from a page of ours, it shows it.
    if comes_from_elsewhere(request.headers()) {
        return Outside::new("One moment", "")
            .onward(own_page(asked))
            .answer(StatusCode::OK);
    }
    Redirect::to(&format!("/login?back={}", encoded(own_page(asked)))).into_response()
}

/// Spec: Fetch Metadata Request Headers, "The Sec-Fetch-Site HTTP Request Header".
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| site == "cross-site")
}
