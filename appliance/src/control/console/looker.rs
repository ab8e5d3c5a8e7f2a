//! Who looks at a page, and what the page has around it for them.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;

use super::frame::{Frame, Section, script_path, style_path};
use super::marked::Marked;
use super::outside::{Action, Outside};
use crate::control::api::{Caller, Door, Shared, cookie};

/// Somebody who is signed in: `routes` lets nobody else through to a page.
pub(super) struct Looker {
    pub(super) caller: Caller,
    cookie: Option<String>,
    /// What the form that led here came to.
    done: Option<&'static str>,
}

/// What forms come to, as the address of the page that follows says it, and as the page does.
const OUTCOMES: [(&str, &str); 7] = [
    ("approved", "Approved."),
    ("voted", "Your approval counts. Others are missing."),
    ("denied", "Denied."),
    ("killed", "The session was ended."),
    ("revoked", "Revoked."),
    ("lifted", "The revocation was lifted."),
    ("nothing", "There was nothing to do."),
];

impl Looker {
    /// The name, as the page shows it.
    fn name(&self) -> Marked {
        match (self.caller.person(), self.caller.operator()) {
            (Some(person), _) => Marked::of(&person.principal().name),
            (None, Some(operator)) => Marked::of(&format!("operator (uid {})", operator.uid())),
            (None, None) => Marked::of("nobody"),
        }
    }

    /// For the log: identifiers, no display names.
    pub(super) fn log_name(&self) -> String {
        match (self.caller.person(), self.caller.operator()) {
            (Some(person), _) => person.principal().subject.clone(),
            (None, Some(operator)) => format!("operator (uid {})", operator.uid()),
            (None, None) => "nobody".to_owned(),
        }
    }

    /// What stands around a page of that section.
    pub(super) fn frame(&self, section: Section) -> Frame {
        Frame {
            section,
            who: self.name(),
            form_token: self.caller.csrf().unwrap_or_default().to_owned(),
            notice: self.done.map(str::to_owned),
            now: runtime::unix_time().as_secs(),
            style: style_path(),
            script: script_path(),
        }
    }

    /// A page that says why nothing was done.
    pub(super) fn refusal(&self, status: StatusCode, why: &str) -> Response {
        let back = Action::Go {
            to: "/",
            label: "Back",
        };
        Outside::new("Not done", why).action(back).answer(status)
    }

    /// Whether the browser is still signed in.
    pub(super) fn is_still_there(&self, shared: &Shared) -> bool {
        let now = runtime::unix_time().as_secs();
        let visits = shared.console.visits();
        let cookie = self.cookie.as_deref();
        cookie.is_some_and(|cookie| visits.peek(cookie, now).is_some())
    }
}

/// What went wrong is ours; the log has it.
pub(super) fn trouble(looker: &Looker, why: &str) -> Response {
    looker.refusal(StatusCode::INTERNAL_SERVER_ERROR, why)
}

impl<S: Sync> FromRequestParts<S> for Looker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let caller = parts.extensions.get::<Caller>();
        let query = parts.uri.query().unwrap_or_default();
        let done = query.split('&').find_map(|pair| pair.strip_prefix("done="));
        let outcome = OUTCOMES.iter().find(|(code, _)| Some(*code) == done);
        let door = parts.extensions.get::<Door>();
        let cookie = door.and_then(|door| cookie(&parts.headers, door.session_cookie()));
        Ok(Self {
            // Nobody, were the guard of a page ever left out.
            caller: caller.cloned().unwrap_or_default(),
            cookie: cookie.map(str::to_owned),
            done: outcome.map(|(_, text)| *text),
        })
    }
}
