//! How often somebody may ask: token buckets, one for each address and each person.
//!
//! The operator at the socket has none: whoever could end the process needs no flood.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use policy::Principal;

/// Buckets kept at once of each kind; those that are full again make room. Beyond, strangers share
/// one bucket.
const BUCKETS_MAX: usize = 4096;

/// Requests of one address: a reverse proxy may speak for a whole team, and a page is several.
const ADDRESS: Rate = Rate {
    burst: 600,
    every: Duration::from_millis(10),
};

/// Requests of one person.
const PERSON: Rate = Rate {
    burst: 300,
    every: Duration::from_millis(20),
};

/// Failed proofs of one address. Each costs a verification and a line in the log.
const FAILURE: Rate = Rate {
    burst: 20,
    every: Duration::from_secs(5),
};

/// A bucket's size, and how long one drop takes to come back.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// Everybody's buckets. Per process.
pub(super) struct Rates {
    addresses: Mutex<Buckets<IpAddr>>,
    persons: Mutex<Buckets<(String, String)>>,
    failures: Mutex<Buckets<IpAddr>>,
}

/// Not now: after that long it is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany {
    pub(super) retry_after: Duration,
}

impl Rates {
    pub(super) fn new() -> Self {
        Self {
            addresses: Mutex::new(Buckets::new(ADDRESS)),
            persons: Mutex::new(Buckets::new(PERSON)),
            failures: Mutex::new(Buckets::new(FAILURE)),
        }
    }

    /// Counts a request of an address, as `neighbourhood` has it.
    pub(super) fn address(&self, address: IpAddr, now: Instant) -> Result<(), TooMany> {
        locked(&self.addresses).take(address, now)
    }

    /// Counts a request of a person.
    pub(super) fn person(&self, principal: &Principal, now: Instant) -> Result<(), TooMany> {
        let person = (principal.issuer.clone(), principal.subject.clone());
        locked(&self.persons).take(person, now)
    }

    /// Whether an address may try to prove something.
    pub(super) fn may_prove(&self, address: IpAddr, now: Instant) -> Result<(), TooMany> {
        locked(&self.failures).peek(&address, now)
    }

    /// Counts a failed proof.
    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        // The proof that failed is refused anyway; the next is not looked at.
        let _ = locked(&self.failures).take(address, now);
    }
}

fn locked<K>(buckets: &Mutex<Buckets<K>>) -> std::sync::MutexGuard<'_, Buckets<K>> {
    buckets.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The buckets of one kind.
///
/// A bucket is the time at which it will be full again: now or earlier is full, and each request
/// puts it one `every` further off.
struct Buckets<K> {
    rate: Rate,
    full_at: HashMap<K, Instant>,
    /// Of all that the table has no room for.
    strangers: Option<Instant>,
}

impl<K: Hash + Eq> Buckets<K> {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            full_at: HashMap::new(),
            strangers: None,
        }
    }

    fn peek(&self, key: &K, now: Instant) -> Result<(), TooMany> {
        let full_at = match self.full_at.get(key) {
            Some(full_at) => Some(*full_at),
            None if self.full_at.len() >= BUCKETS_MAX => self.strangers,
            None => None,
        };
        self.taken_from(full_at, now).map(drop)
    }

    fn take(&mut self, key: K, now: Instant) -> Result<(), TooMany> {
        if !self.full_at.contains_key(&key) && self.full_at.len() >= BUCKETS_MAX {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        let is_stranger = !self.full_at.contains_key(&key) && self.full_at.len() >= BUCKETS_MAX;
        let before = if is_stranger {
            self.strangers
        } else {
            self.full_at.get(&key).copied()
        };
        let after = self.taken_from(before, now)?;
        if is_stranger {
            self.strangers = Some(after);
        } else {
            self.full_at.insert(key, after);
        }
        Ok(())
    }

    /// When a bucket is full again after one more request.
    fn taken_from(&self, full_at: Option<Instant>, now: Instant) -> Result<Instant, TooMany> {
        let full_at = full_at.map_or(now, |full_at| full_at.max(now));
        let after = full_at + self.rate.every;
        let most = now + self.rate.every * self.rate.burst;
        if after > most {
            return Err(TooMany {
                retry_after: after - most,
            });
        }
        Ok(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        every: Duration::from_secs(10),
    };

    fn start() -> Instant {
        runtime::now()
    }

    #[test]
    fn a_burst_passes_and_then_one_for_each_period() {
        let mut buckets = Buckets::new(RATE);
        let start = start();
        for _ in 0..3 {
            buckets.take("a", start).unwrap();
        }
        let later = start + Duration::from_secs(4);
        let refused = TooMany {
            retry_after: Duration::from_secs(6),
        };
        assert_eq!(buckets.peek(&"a", later), Err(refused));
        assert_eq!(buckets.take("a", later), Err(refused));
        assert_eq!(buckets.take("b", later), Ok(()), "others have their own");
        let period = start + Duration::from_secs(10);
        assert_eq!(buckets.peek(&"a", period), Ok(()));
        assert_eq!(buckets.take("a", period), Ok(()));
        assert!(buckets.take("a", period).is_err());
    }

    #[test]
    fn a_full_table_makes_room_of_full_buckets_and_strangers_share_one() {
        let mut buckets = Buckets::new(RATE);
        let start = start();
        for key in 0..4096 {
            buckets.take(key, start).unwrap();
        }
        for stranger in 5000..5003 {
            buckets.take(stranger, start).unwrap();
        }
        assert!(buckets.take(6000, start).is_err());
        assert!(buckets.peek(&6000, start).is_err());
        assert_eq!(buckets.full_at.len(), 4096);
        let later = start + Duration::from_secs(10);
        buckets.take(6000, later).unwrap();
        assert_eq!(buckets.full_at.len(), 1);
    }
}
