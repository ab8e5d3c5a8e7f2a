//! Descriptors that the process was started with, as a service manager passes them.
//!
//! What they are and what they are for, the caller finds out.

#![expect(
    unsafe_code,
    reason = "a number becomes a descriptor that somebody owns: no safe interface can know that nobody does yet"
)]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// The first number that is passed, after the standard streams: `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

/// Set once they were taken: they have one owner.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes descriptors 3, 4, ..., of which `count` are said to be there, in this order.
///
/// `None` stands for one that is not there. They are not passed on to children of this process.
/// The second call in a process gets nothing.
///
/// Spec: sd_listen_fds(3).
#[must_use]
pub fn take_passed(count: u16) -> Vec<Option<OwnedFd>> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let numbers = FIRST..FIRST + RawFd::from(count);
    numbers.map(take).collect()
}

fn take(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: not -1, and used for two calls that say so when nothing is open there. Whatever is
    // open without "close on exec" is not closed by anybody meanwhile: see below.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = fcntl_getfd(descriptor).ok()?;
    // What came through exec has no such flag, or exec would have closed it, and what this process
    // opens has it: std, rustix, SQLite and the executor set it everywhere.
    if flags.contains(FdFlags::CLOEXEC) {
        return None;
    }
    fcntl_setfd(descriptor, flags | FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is open and came through exec, so nothing in this process has opened it and nothing
    // owns it; and no second call comes as far as this.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
