//! The only clock that the data path reads.
//!
//! It does not wait; that is `timer`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
