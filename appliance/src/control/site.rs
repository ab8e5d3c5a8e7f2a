//! What `listen.console` serves beside the API: what only browsers and other software ask for.

use axum::Router;

use super::api::Shared;
use super::{console, issuer};

/// All of it. Each part sees to it that a page is shown to those who may see it.
pub(super) fn pages() -> Router<Shared> {
    console::router()
}

/// What is served before anybody is asked who they are: each of these asks in its own way.
pub(super) fn open() -> Router<Shared> {
    issuer::router()
}
