//! A deterministic simulation of sessions: the product's [`Flow`], exchange, policy, recorder and
//! journal ring between a scripted agent, a model of PostgreSQL and a virtual clock.
//!
//! A seed decides everything: what the agent says, how the streams are split, who is slow, when the
//! journal drains and what breaks. `SALLYPORT_SIM_SEED` runs one, `SALLYPORT_SIM_SEEDS` that many.
//!
//! What holds in every one of them:
//!
//! - nothing of the agent's is queued for the target unless it is in the journal as permitted, nor
//!   leaves before it is committed where the durability is strict;
//! - nothing is queued for the agent unless it is in the journal;
//! - the agent sees what it would see of the target directly, in the same order, a refusal in the
//!   place of each refused command, and all of it unless somebody broke off;
//! - nobody waits for good, and nothing goes on unless somebody was woken;
//! - a target is given back only with nothing running, nothing unread and no transaction open;
//! - the recording has an end.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "what a message is not need not be named"
)]

mod links;
mod peers;
#[path = "../../../codecs/tests/it/dialogues/server.rs"]
mod server;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use links::Random;
use world::{Outcome, World};

/// Seeds of an ordinary test run: some seconds.
const SEEDS: u64 = 1000;

/// Runs one seed and says how it ended.
fn run(seed: u64) -> Outcome {
    let outcome = catch_unwind(AssertUnwindSafe(|| World::new(seed).run()));
    outcome.unwrap_or_else(|panic| {
        eprintln!("SALLYPORT_SIM_SEED={seed} shows it again");
        resume_unwind(panic)
    })
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number")),
    )
}

#[test]
fn sessions_keep_their_promises_whatever_the_network_does() {
    if let Some(seed) = setting("SALLYPORT_SIM_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let seeds = setting("SALLYPORT_SIM_SEEDS").unwrap_or(SEEDS);
    let mut clean = 0;
    let mut broken = 0;
    let mut refusals = 0;
    for seed in 0..seeds {
        let outcome = run(seed);
        clean += u64::from(outcome.is_clean);
        broken += u64::from(outcome.is_broken);
        refusals += outcome.refusals;
    }
    println!("{seeds} seeds: {clean} given back clean, {broken} broken off, {refusals} refusals");
    // A simulation in which nothing happens holds every promise.
    assert!(clean > seeds / 10 && broken > seeds / 10 && refusals > seeds / 10);
}

#[test]
fn a_seed_decides_everything() {
    for seed in [3, 77, 1234] {
        assert_eq!(run(seed), run(seed));
    }
}

#[test]
fn randomness_is_spread() {
    let mut random = Random::new(1);
    let mut seen = [0_u32; 8];
    for _ in 0..8000 {
        seen[random.below(8)] += 1;
    }
    assert!(
        seen.iter().all(|count| (800..1200).contains(count)),
        "{seen:?}"
    );
}
