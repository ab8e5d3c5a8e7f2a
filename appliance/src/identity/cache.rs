//! Tokens that were verified already, so that a reconnecting agent costs a hash and not a signature.
//!
//! Only successes are kept, so a peer without a valid token cannot fill or flush it.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use policy::{Principal, Proof};
use ring::digest::{SHA256, digest};

use super::CLOCK_SKEW_SECONDS;

/// Entries of one shard's cache.
///
/// Count. 4,096 agents per shard before the oldest is verified again; below 8 MiB with the longest
/// group lists seen in practice.
const ENTRIES_MAX: usize = 4096;

/// Of the configuration, and of the remote keys.
type Generation = (u64, u64);

/// SHA-256 of a token, and how it was presented: that is part of the principal.
type CacheKey = ([u8; 32], Proof);

/// The verified tokens of one shard.
///
/// Per shard. Keyed by SHA-256 of the token, never the token. All entries belong to one generation
/// of configuration and of remote keys: the first look-up of another generation empties it.
#[derive(Default)]
pub struct TokenCache {
    entries: RefCell<Entries>,
}

#[derive(Default)]
struct Entries {
    generation: Generation,
    by_key: HashMap<CacheKey, Arc<Principal>>,
    /// Keys in the order they came, oldest first; exactly the keys of `by_key`.
    order: VecDeque<CacheKey>,
}

/// What the cache knows a token by.
pub(super) fn key_of(token: &[u8], proof: Proof) -> CacheKey {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token).as_ref());
    (bytes, proof)
}

impl TokenCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens held now.
    pub fn len(&self) -> usize {
        self.entries.borrow().order.len()
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn find(
        &self,
        key: &CacheKey,
        generation: Generation,
        now: u64,
    ) -> Option<Arc<Principal>> {
        let mut entries = self.entries.borrow_mut();
        if entries.generation != generation {
            *entries = Entries {
                generation,
                ..Entries::default()
            };
            return None;
        }
        let principal = entries.by_key.get(key)?;
        if now >= principal.expires.saturating_add(CLOCK_SKEW_SECONDS) {
            entries.by_key.remove(key);
            entries.order.retain(|kept| kept != key);
            return None;
        }
        Some(Arc::clone(principal))
    }

    pub(super) fn keep(&self, key: CacheKey, generation: Generation, principal: &Arc<Principal>) {
        let mut entries = self.entries.borrow_mut();
        if entries.generation != generation {
            return;
        }
        if entries.by_key.insert(key, Arc::clone(principal)).is_none() {
            entries.order.push_back(key);
        }
        if entries.order.len() > ENTRIES_MAX
            && let Some(oldest) = entries.order.pop_front()
        {
            entries.by_key.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(expires: u64) -> Arc<Principal> {
        Arc::new(Principal {
            issuer: "https://idp".into(),
            subject: "agent".into(),
            name: "agent".into(),
            groups: vec![],
            delegation: vec![],
            token_id: None,
            expires,
            proof: Proof::Password,
        })
    }

    #[test]
    fn an_entry_ends_with_its_token_and_the_allowed_skew() {
        let cache = TokenCache::new();
        let key = key_of(b"token", Proof::Password);
        assert!(cache.find(&key, (0, 0), 0).is_none());
        cache.keep(key, (0, 0), &principal(100));
        assert!(cache.find(&key, (0, 0), 129).is_some());
        assert!(cache.find(&key, (0, 0), 130).is_none());
        assert!(cache.is_empty());
    }

    #[test]
    fn a_token_presented_in_another_way_is_another_entry() {
        let cache = TokenCache::new();
        cache.keep(key_of(b"token", Proof::Password), (0, 0), &principal(100));
        assert!(
            cache
                .find(&key_of(b"token", Proof::OauthBearer), (0, 0), 0)
                .is_none()
        );
    }

    #[test]
    fn another_generation_empties_it() {
        let cache = TokenCache::new();
        let key = key_of(b"token", Proof::Password);
        cache.keep(key, (0, 0), &principal(100));
        for other in [(1, 0), (0, 1)] {
            cache.find(&key, (0, 0), 0);
            cache.keep(key, (0, 0), &principal(100));
            assert!(cache.find(&key, other, 0).is_none());
            assert!(cache.is_empty());
        }
        cache.keep(key, (0, 0), &principal(100));
        assert!(
            cache.is_empty(),
            "verified by keys that are no longer in force"
        );
    }

    #[test]
    fn at_the_limit_the_oldest_makes_room() {
        let cache = TokenCache::new();
        let keys: Vec<CacheKey> = (0..=ENTRIES_MAX)
            .map(|i| key_of(&i.to_be_bytes(), Proof::Password))
            .collect();
        for key in &keys {
            cache.keep(*key, (0, 0), &principal(100));
        }
        assert_eq!(cache.len(), 4096);
        assert!(cache.find(&keys[0], (0, 0), 0).is_none());
        assert!(cache.find(&keys[1], (0, 0), 0).is_some());
        assert!(cache.find(&keys[4096], (0, 0), 0).is_some());
    }
}
