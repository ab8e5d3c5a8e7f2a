//! What happens to pools while nobody asks: checks, ageing, connections ahead of need.

use std::rc::{Rc, Weak};
use std::time::Duration;

use runtime::{now, spawn, yield_if_needed};

use super::Shared;
use super::target::TargetPool;

/// Time between two rounds. Bounds how late a target that came back has warm connections again,
/// and how late an idle connection ends by age or because its host's name left it.
const ROUND_EVERY: Duration = Duration::from_secs(1);

/// Goes round until the pools are gone, and in between whenever something happens on an idle
/// connection: one that its server has closed does not keep its place.
pub(super) async fn run(pools: Weak<Shared>) {
    let mut next_round = now() + ROUND_EVERY;
    while let Some(shared) = pools.upgrade() {
        let ground = shared.ground.clone();
        drop(shared);
        ground.watch(next_round).await;
        let Some(shared) = pools.upgrade() else {
            return;
        };
        let is_round = now() >= next_round;
        for (_, pool) in shared.pools() {
            pool.sweep();
            if is_round {
                pool.refresh_names();
                refill(&pool);
            }
            yield_if_needed().await;
        }
        if is_round {
            next_round = now() + ROUND_EVERY;
            let mut targets = shared.targets.borrow_mut();
            targets.retain(|_, pool| !pool.is_over());
        }
    }
}

/// Starts making the connections that are missing, unless that is going on.
pub(super) fn refill(pool: &Rc<TargetPool>) {
    if pool.warming().get() {
        return;
    }
    let Some(mut opening) = pool.next_to_warm() else {
        return;
    };
    let warming = Warming::start(pool);
    spawn(async move {
        let pool = &warming.0;
        loop {
            let deadline = now() + opening.target.pool.connect_deadline;
            // Why it failed is kept by the pool, for whoever needs a connection next.
            let Ok(connection) = pool.open(opening, deadline).await else {
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
