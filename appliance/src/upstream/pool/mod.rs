//! Connections to targets, made ahead of need, leased, reset and used again. Per shard.
//!
//! ```text
//!            ┌──────────── warm ─────────────┐
//!          dial ──▶ leased ──finish(Clean)──▶ reset ──▶ idle ──▶ leased ...
//!                     │ └─finish(Tainted), drop, a failed reset or check, age ──▶ closed
//! ```
//!
//! A connection exists only with a [`Slot`](target::Slot) of its target, so the cap holds whatever
//! happens to it. Slots and connections that become free go to whoever has waited longest.

mod ground;
mod lease;
mod setback;
mod target;
mod ticket;
mod upkeep;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use runtime::now;

use super::attribution::Attribution;
use super::catalogue::{self, Catalogues, Watch};
use super::credentials::Account;
use super::error::UpstreamError;
use super::estimate::{self, Question};
use super::session::SessionSettings;
use super::settings::{ShardPart, TargetSettings};
use ground::Ground;
use target::TargetPool;

pub use lease::{Lease, Outcome};
pub use target::TargetStatus;

/// Estimates that a shard asks for at once. Each is a connection besides those of the pool; a request
/// for approval that finds them all taken goes without.
const ESTIMATES_MAX: usize = 2;

/// The pools of one shard.
///
/// Dropping it ends its upkeep; leases that are out stay usable and are closed when they end.
pub struct Pools(Rc<Shared>);

/// What a session asks for.
pub struct LeaseRequest<'r> {
    pub target: &'r Arc<TargetSettings>,
    /// One of the target's accounts, from [`TargetSettings::account_for`].
    pub account: &'r Arc<Account>,
    /// One of the target's databases.
    pub database: &'r str,
    pub settings: &'r SessionSettings,
    pub attribution: &'r Attribution,
    /// Everything included: waiting, connecting, attribution.
    pub deadline: Instant,
}

struct Shared {
    ground: Rc<Ground>,
    catalogues: Rc<Catalogues>,
    targets: RefCell<HashMap<String, Rc<TargetPool>>>,
    draining: Cell<bool>,
    /// Counts estimates that are being asked for.
    estimating: Rc<()>,
}

impl Pools {
    /// Starts the upkeep on this shard. There is nothing to keep up before
    /// [`retarget`](Self::retarget) or the first lease.
    pub fn new(part: ShardPart) -> Self {
        let shared = Rc::new(Shared {
            ground: Rc::new(Ground::new(part)),
            catalogues: Rc::new(Catalogues::new(part)),
            targets: RefCell::default(),
            draining: Cell::new(false),
            estimating: Rc::default(),
        });
        runtime::spawn(upkeep::run(Rc::downgrade(&shared)));
        Self(shared)
    }

    /// Takes the targets of a new configuration, all of them.
    ///
    /// Connections that it no longer describes are closed: idle ones now, leased ones when they
    /// come back. Connections to each target's own account are made ahead of need from here on.
    pub fn retarget<'t>(&self, targets: impl IntoIterator<Item = &'t Arc<TargetSettings>>) {
        let mut described = HashMap::new();
        for target in targets {
            described.insert(target.name.as_str(), target);
        }
        for (name, pool) in self.0.pools() {
            if !described.contains_key(name.as_str()) {
                pool.retarget(None);
            }
        }
        self.0.catalogues.retarget(&described);
        for target in described.into_values() {
            let pool = self.0.pool(target);
            pool.retarget(Some(target));
            upkeep::refill(&pool);
        }
    }

    /// A connection of one's own, with the session's settings and attribution in force.
    ///
    /// # Errors
    /// The real reason where there is one: while a target turns down connections, sessions that
    /// need a new one fail at once with what it said last.
    pub async fn lease(&self, request: &LeaseRequest<'_>) -> Result<Lease, UpstreamError> {
        let pool = self.0.pool(request.target);
        loop {
            if self.0.draining.get() {
                return Err(UpstreamError::Draining);
            }
            let acquired = pool.acquire(request).await?;
            upkeep::refill(&pool);
            let (mut connection, reused) = match acquired {
                target::Acquired::Used(connection) => (connection, true),
                target::Acquired::New(connection) => (connection, false),
            };
            let deadline = if reused {
                // Time is left for a new connection, perhaps to another server.
                let patience = request.target.pool.connect_deadline / 2;
                request.deadline.min(now() + patience)
            } else {
                request.deadline
            };
            let attribution = request.attribution;
            let attrs = request.target.session_attrs;
            match connection.attribute(attribution, attrs, deadline).await {
                Ok(()) => return Ok(Lease::new(connection)),
                // The server may have gone since the last look, and nothing of the session has
                // reached it yet.
                Err(error) if reused && error.ends_connection() && now() < request.deadline => {
                    pool.handle_loss(connection, &error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What the database holds that the lease is connected to.
    ///
    /// It is read in the background, unless the shard knows it already.
    pub(crate) fn watch(&self, lease: &Lease, target: &Arc<TargetSettings>) -> Watch {
        let dialer = Rc::downgrade(&self.0.ground.dialer);
        let connected = lease.connected(target);
        catalogue::watch(&self.0.catalogues, move || dialer.upgrade(), &connected)
    }

    /// Asks the planner of what is watched, on a connection of its own; `None` when as many as may
    /// ask at once are asking, or the target is no more.
    pub(crate) fn estimate(
        &self,
        watch: &Watch,
        question: Question,
    ) -> Option<impl Future<Output = Vec<Option<u64>>> + use<>> {
        let seen = watch.seen()?;
        let dialer = Rc::clone(&self.0.ground.dialer);
        let asking = Rc::clone(&self.0.estimating);
        // Ours, and one for each that is out.
        (Rc::strong_count(&asking) <= ESTIMATES_MAX + 1).then_some(async move {
            let _asking = asking;
            estimate::estimate(&dialer, &seen, &question).await
        })
    }

    /// Ends all that no session holds, and refuses new leases from here on.
    pub fn drain(&self) {
        self.0.draining.set(true);
        self.0.catalogues.drain();
        for (_, pool) in self.0.pools() {
            pool.drain();
        }
    }

    /// One entry per target that has or had connections.
    pub fn status(&self) -> Vec<TargetStatus> {
        self.0
            .pools()
            .iter()
            .map(|(name, pool)| pool.status(name))
            .collect()
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        self.0.catalogues.drain();
        for (_, pool) in self.0.pools() {
            pool.end_upkeep();
        }
    }
}

impl Shared {
    fn pools(&self) -> Vec<(String, Rc<TargetPool>)> {
        let targets = self.targets.borrow();
        targets
            .iter()
            .map(|(name, pool)| (name.clone(), pool.clone()))
            .collect()
    }

    fn pool(&self, target: &Arc<TargetSettings>) -> Rc<TargetPool> {
        let mut targets = self.targets.borrow_mut();
        if let Some(pool) = targets.get(&target.name) {
            return pool.clone();
        }
        let pool = Rc::new(TargetPool::new(target.clone(), self.ground.clone()));
        targets.insert(target.name.clone(), pool.clone());
        pool
    }
}
