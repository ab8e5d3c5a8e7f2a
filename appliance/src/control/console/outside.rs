//! Pages without a frame: for those who are not signed in, or not let in.

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::frame::{page, style_path};

/// What there is to do.
pub(super) enum Action {
    None,
    /// Sign in at the provider.
    SignIn {
        issuer: String,
        to: String,
    },
    /// Take a one-time link.
    Link {
        token: String,
    },
    Go {
        to: &'static str,
        label: &'static str,
    },
}

/// One such page.
#[derive(Template)]
#[template(path = "console/outside.html")]
pub(super) struct Outside {
    title: &'static str,
    lines: Vec<String>,
    action: Action,
    /// Where the browser goes by itself.
    onward: Option<String>,
    style: String,
}

impl Outside {
    pub(super) fn new(title: &'static str, line: &str) -> Self {
        Self {
            title,
            lines: vec![line.to_owned()],
            action: Action::None,
            onward: None,
            style: style_path(),
        }
    }

    pub(super) fn and(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    pub(super) fn action(mut self, action: Action) -> Self {
        self.action = action;
        self
    }

    pub(super) fn onward(mut self, to: &str) -> Self {
        self.onward = Some(to.to_owned());
        self
    }

    pub(super) fn answer(&self, status: StatusCode) -> Response {
        page(status, self)
    }
}
