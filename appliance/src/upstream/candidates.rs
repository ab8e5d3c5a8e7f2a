//! The servers of a target in the order in which they are tried.
//!
//! Names are looked up as late as possible, so that one that cannot be resolved does not keep the
//! others waiting.

use std::collections::VecDeque;
use std::time::Instant;

use ring::rand::{SecureRandom, SystemRandom};
use runtime::now;

use super::error::UpstreamError;
use super::resolve::{Name, Resolver};
use super::server::{Endpoint, Server};
use super::settings::{Address, Balance, Host, TargetSettings};
use super::standing::Standings;

/// Yields each server once: those that nothing is known against, then those that failed lately,
/// then those that names have meanwhile.
pub(super) struct Candidates<'c> {
    resolver: &'c Resolver,
    standings: &'c Standings,
    target: &'c TargetSettings,
    addresses: VecDeque<&'c Address>,
    servers: VecDeque<Server>,
    standing_back: VecDeque<Server>,
    /// Names whose addresses were known from before, to be asked for again if none of them serves.
    remembered: Vec<&'c Address>,
    given: Vec<Server>,
}

impl<'c> Candidates<'c> {
    pub(super) fn new(
        resolver: &'c Resolver,
        standings: &'c Standings,
        target: &'c TargetSettings,
    ) -> Self {
        let mut addresses: VecDeque<&Address> = target.addresses.iter().collect();
        target.balance.order(addresses.make_contiguous());
        Self {
            resolver,
            standings,
            target,
            addresses,
            servers: VecDeque::new(),
            standing_back: VecDeque::new(),
            remembered: Vec::new(),
            given: Vec::new(),
        }
    }

    /// How many are to share the time that is left, the one that was given last included.
    pub(super) fn left_with_this_one(&self) -> u32 {
        let left = self.addresses.len() + self.servers.len() + self.standing_back.len();
        u32::try_from(left).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The next server, `None` after the last.
    ///
    /// # Errors
    /// A name cannot be resolved; there may be more servers all the same.
    pub(super) async fn next(
        &mut self,
        deadline: Instant,
    ) -> Result<Option<Server>, UpstreamError> {
        loop {
            if let Some(server) = self.servers.pop_front() {
                if self.given.contains(&server) {
                    continue;
                }
                if self.standings.stands_back(&server, now()) {
                    self.standing_back.push_back(server);
                    continue;
                }
                return Ok(Some(self.give(server)));
            }
            if let Some(address) = self.addresses.pop_front() {
                // A silent name server must not take the time that the other hosts need.
                let left = self.left_with_this_one().saturating_add(1);
                let share = deadline.saturating_duration_since(now()) / left;
                if self.look_up(address, now() + share).await? {
                    self.remembered.push(address);
                }
                continue;
            }
            if let Some(server) = self.standing_back.pop_front() {
                return Ok(Some(self.give(server)));
            }
            let Some(address) = self.remembered.pop() else {
                return Ok(None);
            };
            self.look_up(address, deadline).await?;
        }
    }

    fn give(&mut self, server: Server) -> Server {
        self.given.push(server.clone());
        server
    }

    /// Whether the servers were known from before.
    async fn look_up(
        &mut self,
        address: &'c Address,
        deadline: Instant,
    ) -> Result<bool, UpstreamError> {
        let server = |endpoint| Server {
            address: address.clone(),
            endpoint,
        };
        let name = match address.endpoint() {
            Ok(endpoint) => {
                self.servers.push_back(server(endpoint));
                return Ok(false);
            }
            Err(name) => name,
        };
        let fresh_for = self.target.names_fresh_for;
        let mut answer = self.resolver.resolve(&name, fresh_for, deadline).await?;
        self.target.balance.order(&mut answer.list);
        let endpoints = answer.list.into_iter().map(Endpoint::Tcp);
        self.servers.extend(endpoints.map(server));
        Ok(answer.remembered)
    }
}

impl Address {
    /// Where it is, or the name that has to be looked up for that.
    pub(super) fn endpoint(&self) -> Result<Endpoint, Name> {
        match self {
            Self::Unix(path) => Ok(Endpoint::Unix(path.clone())),
            Self::Tcp {
                host: Host::Ip(address),
                port,
            } => Ok(Endpoint::Tcp((*address, *port).into())),
            Self::Tcp {
                host: Host::Name(host),
                port,
            } => Err(Name {
                host: host.clone(),
                port: *port,
            }),
        }
    }
}

impl Balance {
    fn order<T>(self, items: &mut [T]) {
        match self {
            Self::InOrder => {}
            Self::Random => shuffle(items),
        }
    }
}

/// Fisher and Yates. Without randomness the order stays: no server is lost by it.
fn shuffle<T>(items: &mut [T]) {
    let random = SystemRandom::new();
    for end in (2..=items.len()).rev() {
        let mut bytes = [0; size_of::<u64>()];
        if random.fill(&mut bytes).is_err() {
            return;
        }
        // The remainder is biased by less than 2^-50 for any list of servers.
        let chosen = u64::from_ne_bytes(bytes) % u64::try_from(end).unwrap_or(u64::MAX);
        let chosen = usize::try_from(chosen).unwrap_or_default();
        items.swap(chosen, end - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_loses_nobody_and_puts_everybody_first_in_time() {
        let mut first = [false; 4];
        for _ in 0..200 {
            let mut items = [0, 1, 2, 3];
            shuffle(&mut items);
            first[items[0]] = true;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3]);
        }
        assert_eq!(first, [true; 4]);
    }
}
