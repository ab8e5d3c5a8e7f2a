//! What happens to pools while nobody asks: checks, ageing, connections ahead of need.

use std::rc::{Rc, Weak};
use std::time::Duration;

use runtime::{Timer, now, spawn, yield_if_needed};

use super::Shared;
use super::target::TargetPool;

/// Time between two rounds. Bounds how long a dead idle connection keeps its slot, and how late
/// a target that came back has warm connections again.
const ROUND_EVERY: Duration = Duration::from_secs(1);

/// Goes round until the pools are gone.
pub(super) async fn run(pools: Weak<Shared>) {
    let mut timer = Timer::at(now());
    loop {
        timer.reset(now() + ROUND_EVERY);
        timer.expired().await;
        let Some(shared) = pools.upgrade() else {
            return;
        };
        for (_, pool) in shared.pools() {
            pool.sweep();
            refill(&shared, &pool);
            yield_if_needed().await;
        }
        shared
            .targets
            .borrow_mut()
            .retain(|_, pool| !pool.is_over());
    }
}

/// Starts making the connections that are missing, unless that is going on.
pub(super) fn refill(shared: &Rc<Shared>, pool: &Rc<TargetPool>) {
    if pool.warming().get() {
        return;
    }
    let Some(mut opening) = pool.next_to_warm() else {
        return;
    };
    let (shared, warming) = (Rc::downgrade(shared), Warming::start(pool));
    spawn(async move {
        let pool = &warming.0;
        loop {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            let deadline = now() + opening.target.pool.connect_deadline;
            // Why it failed is kept by the pool, for whoever needs a connection next.
            let Ok(connection) = pool.open(&shared, opening, deadline).await else {
                return;
            };
            pool.take_back(connection);
            match pool.next_to_warm() {
                Some(next) => opening = next,
                None => return,
            }
        }
    });
}

/// Marks the one task of a target that makes connections ahead of need.
struct Warming(Rc<TargetPool>);

impl Warming {
    fn start(pool: &Rc<TargetPool>) -> Self {
        pool.warming().set(true);
        Self(pool.clone())
    }
}

impl Drop for Warming {
    fn drop(&mut self) {
        self.0.warming().set(false);
    }
}
