//! What `listen.console` serves beside the API: what only browsers and other software ask for.

use axum::Router;

use super::api::Shared;
use super::console;

/// All of it. Each part sees to it that a page is shown to those who may see it.
pub(super) fn pages() -> Router<Shared> {
    console::router()
}
