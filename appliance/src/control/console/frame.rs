//! What every page has around its content, and the headers that every answer has.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use askama::Template;
use askama::filters::HtmlSafe;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use super::marked::Marked;

/// The style sheet, compiled in.
pub(super) const STYLE: &str = include_str!("assets/console.css");

/// The script, compiled in.
pub(super) const SCRIPT: &str = include_str!("assets/console.js");

/// Nothing but what the appliance itself serves, nothing inline, no frames.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
    connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// The part of the site that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Sessions,
    Explain,
    Health,
}

impl Section {
    fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Explain => "explain",
            Self::Health => "health",
        }
    }
}

/// Around the content of a page of somebody who is signed in.
pub(super) struct Frame {
    pub(super) section: Section,
    /// Who looks at it.
    pub(super) who: Marked,
    pub(super) form_token: String,
    /// What came of the form that led here.
    pub(super) notice: Option<String>,
    /// Seconds since 1970, for browsers whose clock is another.
    pub(super) now: u64,
    pub(super) style: String,
    pub(super) script: String,
}

/// HTML of ours without anything from outside.
pub(super) struct Markup(String);

impl fmt::Display for Markup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Markup {}

impl Frame {
    /// The attribute of the link to the section that is shown.
    pub(super) fn current(&self, section: &str) -> Markup {
        let mark = if self.section.name() == section {
            " aria-current=\"page\""
        } else {
            ""
        };
        Markup(mark.to_owned())
    }

    /// What each form brings back.
    pub(super) fn token(&self) -> Markup {
        // Made here, of letters, digits, `-` and `_`.
        Markup(format!(
            "<input type=\"hidden\" name=\"token\" value=\"{}\">",
            self.form_token
        ))
    }
}

/// Where the style sheet is: under another name when it is another one, so that browsers may keep
/// it.
pub(super) fn style_path() -> String {
    format!("/assets/console.css?v={:x}", version(STYLE))
}

/// Where the script is.
pub(super) fn script_path() -> String {
    format!("/assets/console.js?v={:x}", version(SCRIPT))
}

/// Differs where the content does.
pub(super) fn version(content: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// A page as an answer.
pub(super) fn page(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => secured((status, Html(html)).into_response()),
        Err(error) => {
            tracing::error!(%error, "a page of the console could not be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The same answer with the headers of every answer of the console.
pub(super) fn secured(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    answer
}

/// A file that is compiled in.
pub(super) fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    secured((headers, text).into_response())
}
