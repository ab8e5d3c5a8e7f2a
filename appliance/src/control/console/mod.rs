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
use self::login::Seal;
use self::looker::{Looker, trouble};
use self::visits::Visits;
use super::api::{CookieSession, CookieSessions, SessionOf};
use crate::config::{ConsoleUrl, Snapshot};
use crate::recorder::NoRandomness;

/// What the pages share. Per process.
pub(super) struct Console {
    visits: Mutex<Visits<SessionOf>>,
    seal: Seal,
    pulse: Pulse,
    /// The URL of `listen.console`.
    address: Option<String>,
}

impl Console {
    /// One that nobody has signed in to.
    ///
    /// # Errors
    /// No randomness.
    pub(super) fn new(address: Option<String>) -> Result<Self, NoRandomness> {
        Ok(Self {
            visits: Mutex::new(Visits::new()),
            seal: Seal::new()?,
            pulse: Pulse::new(),
            address,
        })
    }

    /// Where people reach it, if it is served at all.
    fn url(&self, snapshot: &Snapshot) -> Option<String> {
        let address = self.address.as_ref()?;
        let url = snapshot.console_url.as_ref();
        Some(url.map_or_else(|| address.clone(), ConsoleUrl::origin))
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
