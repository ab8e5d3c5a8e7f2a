//! The load generator against servers that are known.

#![allow(unreachable_pub, reason = "modules of a test binary have no outside")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a failed expectation ends the test"
)]
#![allow(dead_code, reason = "harnesses offer what the next test module needs")]

mod canonical;
mod compare;
mod process;
mod runs;
mod servers;
mod sessions;
mod upstream;

/// What the appliance's harness for PostgreSQL expects of the test that it is part of.
mod appliance {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Fails when it does not come about.
    pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let (_sender, never) = mpsc::channel::<()>();
        while !done() {
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            // Times out: the pause between two looks.
            let _ = never.recv_timeout(Duration::from_millis(10));
        }
    }
}
