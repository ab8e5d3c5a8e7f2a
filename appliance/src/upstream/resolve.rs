//! The addresses of a target, without waiting for a name server on the shard.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use runtime::{now, run_blocking, with_deadline};

use super::error::{Phase, UpstreamError};
use super::settings::Host;

/// How long an answer is used. Short enough that a failover by DNS is followed, long enough that a
/// burst of connections asks once.
const FRESH_FOR: Duration = Duration::from_secs(10);

/// How long an answer stands in for one that cannot be had.
const STALE_FOR: Duration = Duration::from_secs(3600);

/// Names that are remembered. One per target is the need; more come and go with reloads.
const NAMES_MAX: usize = 1024;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Answers of the system's resolver. Per shard.
#[derive(Default)]
pub(super) struct Resolver {
    answers: RefCell<HashMap<(String, u16), Answer>>,
}

struct Answer {
    addresses: Vec<SocketAddr>,
    at: Instant,
}

impl Resolver {
    /// At least one address, in the order in which they should be tried.
    ///
    /// # Errors
    /// `Unresolved`, or `TimedOut` when neither the name server nor an earlier answer serves.
    pub(super) async fn resolve(
        &self,
        host: &Host,
        port: u16,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, UpstreamError> {
        let name = match host {
            Host::Ip(address) => return Ok(vec![SocketAddr::new(*address, port)]),
            Host::Name(name) => name,
        };
        let key = (name.clone(), port);
        if let Some(addresses) = self.remembered(&key, FRESH_FOR) {
            return Ok(addresses);
        }
        let error = match with_deadline(deadline, look_up(name.clone(), port)).await {
            Ok(addresses) if !addresses.is_empty() => {
                self.remember(key, addresses.clone());
                return Ok(addresses);
            }
            Ok(_) => UpstreamError::Unresolved,
            Err(_) => UpstreamError::TimedOut {
                phase: Phase::Resolve,
            },
        };
        self.remembered(&key, STALE_FOR).ok_or(error)
    }

    fn remembered(&self, key: &(String, u16), at_most: Duration) -> Option<Vec<SocketAddr>> {
        let answers = self.answers.borrow();
        let answer = answers.get(key)?;
        (now().duration_since(answer.at) < at_most).then(|| answer.addresses.clone())
    }

    fn remember(&self, key: (String, u16), addresses: Vec<SocketAddr>) {
        let mut answers = self.answers.borrow_mut();
        if answers.len() >= NAMES_MAX {
            answers.clear();
        }
        answers.insert(
            key,
            Answer {
                addresses,
                at: now(),
            },
        );
    }
}

/// No address at all when the name is unknown.
async fn look_up(name: String, port: u16) -> Vec<SocketAddr> {
    run_blocking(move || match (name.as_str(), port).to_socket_addrs() {
        Ok(addresses) => addresses.take(ADDRESSES_MAX).collect(),
        Err(_) => Vec::new(),
    })
    .await
    .unwrap_or_default()
}
