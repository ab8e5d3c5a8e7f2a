//! What a thread of the generator took of its CPU, and for how long it waited for it.

use std::time::Instant;

use runtime::now;

use crate::validity::ThreadUse;

/// The calling thread's own; two numbers of nanoseconds come first in it.
const SCHEDSTAT: &str = "/proc/thread-self/schedstat";

/// One reading of the calling thread's counters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    at: Instant,
    cpu: u64,
    waited: u64,
}

impl Reading {
    /// Zero where the kernel does not say: nothing is held against such a run.
    pub(super) fn take() -> Self {
        // Blocks for microseconds: the file is made up as it is read.
        let text = std::fs::read_to_string(SCHEDSTAT).unwrap_or_default();
        let mut numbers = text
            .split_whitespace()
            .map(|number| number.parse().unwrap_or(0));
        Self {
            at: now(),
            cpu: numbers.next().unwrap_or(0),
            waited: numbers.next().unwrap_or(0),
        }
    }

    /// What happened between this reading and a later one.
    pub(super) fn until(&self, later: &Self) -> ThreadUse {
        ThreadUse {
            cpu: later.cpu.saturating_sub(self.cpu),
            waited: later.waited.saturating_sub(self.waited),
            elapsed: later.at.saturating_duration_since(self.at),
        }
    }
}
