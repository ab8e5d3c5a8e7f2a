//! What every page has around its content.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use askama::Template;
use askama::filters::HtmlSafe;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use super::marked::Marked;

/// The style sheet, compiled in.
pub(super) const STYLE: &str = include_str!("assets/console.css");

/// The script, compiled in.
pub(super) const SCRIPT: &str = include_str!("assets/console.js");

/// The picture of the site, compiled in.
pub(super) const ICON: &str = include_str!("assets/icon.svg");

/// The part of the site that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Approvals,
    Sessions,
    Explain,
    Health,
    Revocations,
}

impl Section {
    fn name(self) -> &'static str {
        match self {
            Self::Approvals => "approvals",
            Self::Sessions => "sessions",
            Self::Explain => "explain",
            Self::Health => "health",
            Self::Revocations => "revocations",
        }
    }
}

/// Around the content of a page of somebody who is signed in.
pub(super) struct Frame {
    pub(super) section: Section,
    /// Who looks at it.
    pub(super) who: Marked,
    pub(super) may_admin: bool,
    /// Requests that wait for anybody.
    pub(super) pending: usize,
    pub(super) form_token: String,
    /// What came of the form that led here.
    pub(super) notice: Option<&'static str>,
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
            "<input type=\"hidden\" name=\"csrf_token\" value=\"{}\">",
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
        // A form of a page without any referrer says that it comes from nowhere (`Origin: null`),
        // which is what another site would say.
        Ok(html) => (
            status,
            [(header::REFERRER_POLICY, "same-origin")],
            Html(html),
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "a page of the console could not be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A file that is compiled in.
pub(super) fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, text).into_response()
}
