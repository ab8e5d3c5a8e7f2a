//! How many peers may stand between accept and proof at one time.
//!
//! Nothing here authenticates anybody. The place a peer takes is given back
//! when its [`Place`] is dropped: at proof, or when the connection ends before it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use runtime::PeerAddress;

/// Per shard.
pub(crate) struct Entrance {
    taken: Cell<usize>,
    by_source: RefCell<HashMap<Source, usize>>,
    /// Refusals since the last line in the log; a flood is one line, not ten thousand.
    turned_away: Cell<u64>,
}

/// Whom the bound per address counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Ipv4(Ipv4Addr),
    /// The first 64 bits: a single machine has all the addresses of such a network.
    Ipv6(u64),
    /// All users of this machine that come by a Unix socket.
    Unix,
}

/// One unauthenticated peer's place.
#[must_use]
pub(crate) struct Place {
    entrance: Rc<Entrance>,
    /// `None` for a load balancer that has not said yet for whom it connects.
    source: Option<Source>,
}

/// Why a peer is turned away before a byte of its own is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TurnedAway {
    #[error("{limit} unauthenticated connections are open on this shard")]
    Full { limit: usize },
    #[error("{limit} unauthenticated connections are open from this address")]
    AddressFull { limit: usize },
}

impl Entrance {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            taken: Cell::new(0),
            by_source: RefCell::new(HashMap::new()),
            turned_away: Cell::new(0),
        })
    }

    /// Takes a place.
    ///
    /// # Errors
    /// `TurnedAway` when `limit` peers are inside.
    pub(crate) fn enter(self: &Rc<Self>, limit: usize) -> Result<Place, TurnedAway> {
        if self.taken.get() >= limit {
            return Err(self.turn_away(TurnedAway::Full { limit }));
        }
        self.taken.set(self.taken.get() + 1);
        Ok(Place {
            entrance: Rc::clone(self),
            source: None,
        })
    }

    fn turn_away(&self, reason: TurnedAway) -> TurnedAway {
        let earlier = self.turned_away.get();
        self.turned_away.set(earlier + 1);
        if earlier == 0 {
            tracing::warn!(%reason, "connections are turned away before login");
        }
        reason
    }
}

impl Place {
    /// Counts the place as one of `peer`'s; the first peer it is counted for stays.
    ///
    /// # Errors
    /// `TurnedAway` when `limit` of its places are taken.
    pub(crate) fn belongs_to(&mut self, peer: PeerAddress, limit: usize) -> Result<(), TurnedAway> {
        if self.source.is_some() {
            return Ok(());
        }
        let source = Source::of(peer);
        let mut by_source = self.entrance.by_source.borrow_mut();
        let count = by_source.entry(source).or_insert(0);
        if *count >= limit {
            return Err(self.entrance.turn_away(TurnedAway::AddressFull { limit }));
        }
        *count += 1;
        self.source = Some(source);
        Ok(())
    }
}

impl Source {
    pub(crate) fn of(peer: PeerAddress) -> Self {
        match peer {
            PeerAddress::Unix => Self::Unix,
            PeerAddress::Tcp(address) => match address.ip().to_canonical() {
                IpAddr::V4(address) => Self::Ipv4(address),
                IpAddr::V6(address) => {
                    let [a, b, c, d, e, f, g, h, ..] = address.octets();
                    Self::Ipv6(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
                }
            },
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(source) = self.source {
            let mut by_source = self.entrance.by_source.borrow_mut();
            if let Some(count) = by_source.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    by_source.remove(&source);
                }
            }
        }
        let taken = self.entrance.taken.get() - 1;
        self.entrance.taken.set(taken);
        let turned_away = self.entrance.turned_away.get();
        if taken == 0 && turned_away > 0 {
            self.entrance.turned_away.set(0);
            tracing::warn!(turned_away, "the entrance is clear again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> PeerAddress {
        PeerAddress::Tcp((address.parse::<IpAddr>().unwrap(), 5000).into())
    }

    #[test]
    fn the_limit_holds_and_a_place_comes_back() {
        let entrance = Entrance::new();
        let first = entrance.enter(2).unwrap();
        let _second = entrance.enter(2).unwrap();
        assert_eq!(entrance.enter(2).err(), Some(TurnedAway::Full { limit: 2 }));
        drop(first);
        assert!(entrance.enter(2).is_ok());
    }

    #[test]
    fn one_source_can_not_take_every_place() {
        let cases = [
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("127.0.0.1", "::ffff:127.0.0.1", "::1"),
            ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
        ];
        for (first, same, other) in cases {
            let entrance = Entrance::new();
            let mut held = entrance.enter(10).unwrap();
            held.belongs_to(peer(first), 1).unwrap();
            let mut next = entrance.enter(10).unwrap();
            assert_eq!(
                next.belongs_to(peer(same), 1),
                Err(TurnedAway::AddressFull { limit: 1 }),
                "{first} {same}"
            );
            assert_eq!(next.belongs_to(peer(other), 1), Ok(()), "{first} {other}");
            drop(held);
            let mut again = entrance.enter(10).unwrap();
            assert_eq!(again.belongs_to(peer(same), 1), Ok(()), "{first} {same}");
        }
    }

    #[test]
    fn whoever_is_turned_away_leaves_no_trace() {
        let entrance = Entrance::new();
        let mut held = entrance.enter(10).unwrap();
        held.belongs_to(PeerAddress::Unix, 1).unwrap();
        let mut refused = entrance.enter(10).unwrap();
        assert!(refused.belongs_to(PeerAddress::Unix, 1).is_err());
        drop(refused);
        drop(held);
        assert_eq!(entrance.taken.get(), 0);
        assert!(entrance.by_source.borrow().is_empty());
    }

    #[test]
    fn a_place_counts_once() {
        let entrance = Entrance::new();
        let mut place = entrance.enter(10).unwrap();
        place.belongs_to(peer("127.0.0.1"), 1).unwrap();
        assert_eq!(place.belongs_to(peer("127.0.0.1"), 1), Ok(()));
        drop(place);
        assert!(entrance.by_source.borrow().is_empty());
    }
}
