//! Who looks at a page, and what the page has around it for them.

use std::convert::Infallible;

use axum::body::to_bytes;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};

use super::frame::{Frame, Section, script_path, style_path};
use super::marked::Marked;
use super::outside::{Action, Outside};
use crate::control::api::{Access, Caller, Door, Refused, Shared, cookie};
use crate::control::roles::Role;

/// Longest refusal of the API that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Somebody who is signed in: `routes` lets nobody else through to a page.
pub(super) struct Looker {
    pub(super) caller: Caller,
    cookie: Option<String>,
    /// What the form that led here came to.
    done: Option<Done>,
}

/// What a form came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Approved,
    Denied,
    Killed,
    Revoked,
    Lifted,
}

impl Done {
    const ALL: [Self; 5] = [
        Self::Approved,
        Self::Denied,
        Self::Killed,
        Self::Revoked,
        Self::Lifted,
    ];

    /// In the address of the page that follows.
    fn code(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Killed => "killed",
            Self::Revoked => "revoked",
            Self::Lifted => "lifted",
        }
    }

    /// On that page.
    fn text(self) -> &'static str {
        match self {
            Self::Approved => "Your approval counts.",
            Self::Denied => "Denied.",
            Self::Killed => "The session was told to end.",
            Self::Revoked => "Revoked.",
            Self::Lifted => "The revocation was lifted.",
        }
    }
}

/// What the admin API answered, as a page: on to `to`, or why nothing was done.
pub(super) async fn outcome(looker: &Looker, answer: Response, to: &str, done: Done) -> Response {
    let status = answer.status();
    if status.is_success() {
        let to = format!("{to}?done={}", done.code());
        return Redirect::to(&to).into_response();
    }
    let body = to_bytes(answer.into_body(), REFUSAL_BYTES_MAX).await;
    let refused = body
        .ok()
        .and_then(|body| serde_json::from_slice::<Refused>(&body).ok());
    let why = refused.map_or_else(|| "It was not done.".to_owned(), |refused| refused.error);
    looker.refusal(status, &sentence(&why))
}

/// The words of the API as a sentence.
fn sentence(words: &str) -> String {
    let mut characters = words.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), characters.as_str())
}

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
    pub(super) async fn frame(&self, shared: &Shared, section: Section) -> Frame {
        Frame {
            section,
            who: self.name(),
            may_admin: self.caller.may(Access::Role(Role::Admin)),
            pending: super::pages::pending(shared).await,
            form_token: self.caller.csrf().unwrap_or_default().to_owned(),
            notice: self.done.map(Done::text),
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
        let door = parts.extensions.get::<Door>();
        let cookie = door.and_then(|door| cookie(&parts.headers, door.session_cookie()));
        Ok(Self {
            // Nobody, were the guard of a page ever left out.
            caller: caller.cloned().unwrap_or_default(),
            cookie: cookie.map(str::to_owned),
            done: Done::ALL.into_iter().find(|it| Some(it.code()) == done),
        })
    }
}
