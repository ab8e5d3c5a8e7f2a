//! How many peers may stand between accept and proof at one time.
//!
//! Nothing here authenticates anybody. The place a peer takes is given back
//! when its [`Place`] is dropped: at proof, or when the connection ends before it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

/// Per shard.
pub(crate) struct Entrance {
    taken: Cell<usize>,
    by_address: RefCell<HashMap<IpAddr, usize>>,
    /// Refusals since the last line in the log; a flood is one line, not ten thousand.
    turned_away: Cell<u64>,
}

/// One unauthenticated peer's place.
#[must_use]
pub(crate) struct Place {
    entrance: Rc<Entrance>,
    address: Option<IpAddr>,
}

/// Why a peer is turned away before a byte of it is read.
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
            by_address: RefCell::new(HashMap::new()),
            turned_away: Cell::new(0),
        })
    }

    /// Takes a place for a peer; `address` is absent for Unix sockets.
    ///
    /// # Errors
    /// `TurnedAway` when `limit` peers, or `limit_per_address` from this address, are inside.
    pub(crate) fn enter(
        self: &Rc<Self>,
        address: Option<IpAddr>,
        limit: usize,
        limit_per_address: usize,
    ) -> Result<Place, TurnedAway> {
        if self.taken.get() >= limit {
            return Err(self.turn_away(TurnedAway::Full { limit }));
        }
        if let Some(address) = address {
            let mut by_address = self.by_address.borrow_mut();
            let count = by_address.entry(address).or_insert(0);
            if *count >= limit_per_address {
                return Err(self.turn_away(TurnedAway::AddressFull {
                    limit: limit_per_address,
                }));
            }
            *count += 1;
        }
        self.taken.set(self.taken.get() + 1);
        Ok(Place {
            entrance: Rc::clone(self),
            address,
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

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            let mut by_address = self.entrance.by_address.borrow_mut();
            if let Some(count) = by_address.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&address);
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

    #[test]
    fn the_limit_holds_and_a_place_comes_back() {
        let entrance = Entrance::new();
        let first = entrance.enter(None, 2, 1).unwrap();
        let _second = entrance.enter(None, 2, 1).unwrap();
        assert_eq!(
            entrance.enter(None, 2, 1).err(),
            Some(TurnedAway::Full { limit: 2 })
        );
        drop(first);
        assert!(entrance.enter(None, 2, 1).is_ok());
    }

    #[test]
    fn one_address_can_not_take_every_place() {
        let entrance = Entrance::new();
        let greedy = Some(IpAddr::from([127, 0, 0, 1]));
        let _held = entrance.enter(greedy, 10, 1).unwrap();
        assert_eq!(
            entrance.enter(greedy, 10, 1).err(),
            Some(TurnedAway::AddressFull { limit: 1 })
        );
        assert!(
            entrance
                .enter(Some(IpAddr::from([127, 0, 0, 2])), 10, 1)
                .is_ok()
        );
    }
}
