//! The revocations in force: kept durably first, published then.
//!
//! Not behind the control plane's one task: a revocation does not wait for a reload that reads
//! files. Blocking; handlers call it on threads for that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::Published;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::revocation::{
    REVOCATIONS_MAX, Revocation, RevocationSet, RevocationStore, Revoked, StoreError,
};

/// All revocations of the process.
#[derive(Debug)]
pub struct Revocations {
    /// Held from the change on the disk to its publication, so that both have one order.
    store: Mutex<RevocationStore>,
    published: Published<RevocationSet>,
}

/// Which revocations are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RevocationsWanted {
    /// Only those older than this one.
    pub before: Option<i64>,
    /// At most so many, and at most 1000.
    pub limit: Option<usize>,
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub enum NotRevoked {
    #[error("{REVOCATIONS_MAX} revocations are in force, which is the limit; lift some")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a revocation stays.
#[derive(Debug, thiserror::Error)]
pub enum NotLifted {
    #[error("there is no revocation {id}")]
    NoSuch { id: i64 },
    #[error("a session that was ended does not come back")]
    OfSession,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Revocations {
    /// Reads what is in force at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// When a single one cannot be read: the appliance does not start then.
    pub fn open(store: RevocationStore, now: u64) -> Result<Self, StoreError> {
        let all = store.all()?;
        let published = Published::new(Arc::new(RevocationSet::new(all)));
        let revocations = Self {
            store: Mutex::new(store),
            published,
        };
        revocations.sweep(now)?;
        Ok(revocations)
    }

    /// Where the latest are found.
    #[must_use]
    pub fn published(&self) -> &Published<RevocationSet> {
        &self.published
    }

    /// Revokes. It is on the disk and published when this returns.
    ///
    /// # Errors
    /// Then nothing has changed.
    pub fn revoke(&self, revocation: Revocation) -> Result<Arc<Revocation>, NotRevoked> {
        let mut store = self.store();
        let known = self.published.load();
        if known.len() >= REVOCATIONS_MAX {
            return Err(NotRevoked::TooMany);
        }
        let revocation = store.insert(revocation)?;
        let all = known.iter().cloned().chain([Arc::clone(&revocation)]);
        self.published.publish(Arc::new(RevocationSet::new(all)));
        Ok(revocation)
    }

    /// Lifts a revocation.
    ///
    /// # Errors
    /// Then nothing has changed.
    pub fn lift(&self, id: i64) -> Result<Arc<Revocation>, NotLifted> {
        let mut store = self.store();
        let known = self.published.load();
        let lifted = known.get(id).ok_or(NotLifted::NoSuch { id })?;
        if matches!(lifted.revoked, Revoked::Session { .. }) {
            return Err(NotLifted::OfSession);
        }
        store.remove(&[id])?;
        self.publish_without(&known, &[id]);
        Ok(Arc::clone(lifted))
    }

    /// Forgets those that no longer hold at `now`; how many.
    ///
    /// # Errors
    /// Then they stay, which does no harm.
    pub fn sweep(&self, now: u64) -> Result<usize, StoreError> {
        let mut store = self.store();
        let known = self.published.load();
        let over: Vec<i64> = known
            .iter()
            .filter(|revocation| !revocation.holds(now))
            .map(|revocation| revocation.id)
            .collect();
        if !over.is_empty() {
            store.remove(&over)?;
            self.publish_without(&known, &over);
        }
        Ok(over.len())
    }

    /// `ids` in rising order, as the set has them.
    fn publish_without(&self, known: &RevocationSet, ids: &[i64]) {
        let stay = known
            .iter()
            .filter(|revocation| ids.binary_search(&revocation.id).is_err());
        self.published
            .publish(Arc::new(RevocationSet::new(stay.cloned())));
    }

    fn store(&self) -> MutexGuard<'_, RevocationStore> {
        // Each change is one transaction: a panic in between leaves no half of it.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
