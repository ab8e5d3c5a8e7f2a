//! Which servers of targets failed lately, so that they are not tried first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::server::Server;

/// How long a server stands behind the others after its first failure. Each further one doubles it.
const PAUSE_FIRST: Duration = Duration::from_secs(5);

/// Longest time behind the others: how late a server that came back is preferred again. One that
/// does not answer at all costs the login that tries it a part of its deadline, so not often.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Servers that are remembered; the next one takes the place of all.
const SERVERS_MAX: usize = 1024;

/// What is known against servers. Per shard.
///
/// It only changes their order: when no other server serves, one that failed is tried as well.
#[derive(Default)]
pub(super) struct Standings(RefCell<HashMap<Server, Standing>>);

struct Standing {
    failures: u32,
    until: Instant,
}

impl Standings {
    pub(super) fn stands_back(&self, server: &Server, now: Instant) -> bool {
        let standings = self.0.borrow();
        standings
            .get(server)
            .is_some_and(|standing| now < standing.until)
    }

    pub(super) fn handle_failure(&self, server: &Server, now: Instant) {
        let mut standings = self.0.borrow_mut();
        if standings.len() >= SERVERS_MAX && !standings.contains_key(server) {
            standings.clear();
        }
        let standing = standings.entry(server.clone()).or_insert(Standing {
            failures: 0,
            until: now,
        });
        // Attempts that were under way together are one failure.
        if now >= standing.until {
            let pause = PAUSE_FIRST
                .saturating_mul(1 << standing.failures.min(10))
                .min(PAUSE_MAX);
            standing.failures = standing.failures.saturating_add(1);
            standing.until = now + pause;
        }
    }

    pub(super) fn handle_success(&self, server: &Server) {
        self.0.borrow_mut().remove(server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::server::Endpoint;
    use crate::upstream::settings::Address;

    fn server(path: &str) -> Server {
        Server {
            address: Address::Unix(path.into()),
            endpoint: Endpoint::Unix(path.into()),
        }
    }

    #[test]
    fn a_failed_server_stands_back_for_twice_as_long_each_time_and_not_for_ever() {
        let (standings, mut now) = (Standings::default(), Instant::now());
        for seconds in [5, 10, 20, 30, 30] {
            standings.handle_failure(&server("/a"), now);
            standings.handle_failure(&server("/a"), now);
            let end = now + Duration::from_secs(seconds);
            let just_before = end - Duration::from_millis(1);
            assert!(standings.stands_back(&server("/a"), just_before));
            assert!(!standings.stands_back(&server("/a"), end));
            assert!(!standings.stands_back(&server("/b"), now));
            now = end;
        }
        standings.handle_success(&server("/a"));
        standings.handle_failure(&server("/a"), now);
        assert!(!standings.stands_back(&server("/a"), now + PAUSE_FIRST));
    }
}
