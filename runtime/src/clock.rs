//! The only clock that the data path reads.
//!
//! It does not wait; that is `timer`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The monotonic clock: deadlines, durations, ages.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Time since the Unix epoch: token lifetimes and time stamps in records.
///
/// Zero when the machine's clock stands before 1970, so that a comparison with an expiry fails
/// towards "not yet valid" instead of panicking.
#[must_use]
pub fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

/// The monotonic clock as a number, as other processes read it too (`CLOCK_MONOTONIC`).
#[must_use]
pub fn since_boot() -> Duration {
    // Fails only for a time before the boot, which this clock does not show.
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}
