//! The console: pages for people who approve, look and revoke.
//!
//! Rendered here, whole; the script beside it only keeps lists fresh. `routes` has every page with
//! what it takes to see it. A page does what the admin API does, by the same functions.

mod back;
mod frame;
mod live;
mod login;
mod looker;
mod marked;
mod outside;
mod pages;
mod routes;
mod visits;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) use live::attend;
pub(super) use login::links;
pub use login::links::ConsoleLink;
pub(super) use routes::router;

use self::live::Pulse;
use self::looker::{Looker, trouble};
use self::visits::Visits;
use super::api::{CookieSession, CookieSessions, SessionOf};

/// What the pages share. Per process.
pub(super) struct Console {
    visits: Mutex<Visits<SessionOf>>,
    pulse: Pulse,
}

impl Console {
    /// One that nobody has signed in to.
    pub(super) fn new() -> Self {
        Self {
            visits: Mutex::new(Visits::new()),
            pulse: Pulse::new(),
        }
    }

    fn visits(&self) -> MutexGuard<'_, Visits<SessionOf>> {
        // Each change is one call, which leaves nothing half done.
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CookieSessions for Console {
    fn find(&self, cookie: &str, is_used: bool, now: u64) -> Option<CookieSession> {
        let mut visits = self.visits();
        let visit = if is_used {
            visits.find(cookie, now)
        } else {
            visits.peek(cookie, now)
        }?;
        Some(CookieSession {
            csrf: visit.form_token,
            of: visit.guest.who,
        })
    }
}
