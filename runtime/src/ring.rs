//! The shard's io_uring: operations in, events out.
//!
//! It knows no socket's state and decides nothing: which operation to start when, and what an event
//! means, is in `sockets`. Sends do not go through it; `stream` says why.
//!
//! One ring per shard. The executor's thread sleeps in [`Ring::wait`] and nowhere else.

#![expect(
    unsafe_code,
    reason = "io_uring has no safe interface; docs/decisions/0004 has what sockets through epoll, \
              the safe way, cost beside it"
)]

mod buffers;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;

use crate::chunk::Chunk;
use crate::slab::Key;
use buffers::ReceiveBuffers;

/// Operations handed to the kernel at once; more are handed over in several calls.
const SUBMISSIONS: u32 = 256;

/// Events that the kernel can hold before the shard looks: 64 KiB of memory.
///
/// Past it the kernel keeps them in a list of its own and ends multishot operations, which are
/// started again: slower, nothing is lost.
const COMPLETIONS: u32 = 4096;

/// How long the end of a ring waits for the kernel to give up its operations.
const CANCEL_SECONDS: u64 = 5;

const POLLOUT: u32 = 0x0004;
const POLLIN: u32 = 0x0001;

/// What the kernel is asked to do.
///
/// Invariant: no variant lends the kernel memory; received bytes go to the ring's own buffers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    /// Everything that arrives, until the end, a failure or a cancellation.
    Receive,
    /// Every connection, likewise.
    Accept,
    /// Once, when a send may succeed.
    AwaitWritable,
    /// Each time that the descriptor has become readable.
    WatchReadable,
}

/// Which operation an event belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    pub(crate) operation: Operation,
    pub(crate) key: Key,
}

/// What became of an operation.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) token: Token,
    pub(crate) outcome: Outcome,
    /// The operation goes on; without it this is its last event.
    pub(crate) more: bool,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Received(Chunk),
    /// The peer will send no more.
    Ended,
    Accepted(OwnedFd),
    Ready,
    Failed(Errno),
}

/// Per shard; made, used and dropped on the shard's thread.
pub(crate) struct Ring {
    ring: IoUring,
    buffers: ReceiveBuffers,
    /// Operations for the next call.
    waiting: VecDeque<squeue::Entry>,
}

/// Marks the cancellation of an operation: its own outcome is of no interest, the cancelled one
/// reports.
const CANCELLATION: u64 = u64::MAX;

impl Token {
    const KIND_SHIFT: u32 = 62;

    fn pack(self) -> u64 {
        let kind: u64 = match self.operation {
            Operation::Receive => 0,
            Operation::Accept => 1,
            Operation::AwaitWritable => 2,
            Operation::WatchReadable => 3,
        };
        kind << Self::KIND_SHIFT | self.key.raw()
    }

    fn unpack(raw: u64) -> Self {
        let operation = match raw >> Self::KIND_SHIFT {
            0 => Operation::Receive,
            1 => Operation::Accept,
            2 => Operation::AwaitWritable,
            _ => Operation::WatchReadable,
        };
        Self {
            operation,
            key: Key::from_raw(raw & !(u64::MAX << Self::KIND_SHIFT)),
        }
    }
}

impl Ring {
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new() -> io::Result<Self> {
        // One thread, which runs completions when it asks for them and not in between.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let buffers = ReceiveBuffers::register(&ring.submitter())?;
        Ok(Self {
            ring,
            buffers,
            waiting: VecDeque::new(),
        })
    }

    /// Starts `operation` on `fd` with the next call.
    ///
    /// `fd` must stay open until the operation's last event: its number may be another socket's by
    /// then.
    pub(crate) fn start(&mut self, fd: BorrowedFd<'_>, token: Token) {
        let fd = Fd(fd.as_raw_fd());
        let entry = match token.operation {
            Operation::Receive => opcode::RecvMulti::new(fd, buffers::GROUP).build(),
            Operation::Accept => opcode::AcceptMulti::new(fd)
                .flags(rustix::net::SocketFlags::CLOEXEC.bits().cast_signed())
                .build(),
            Operation::AwaitWritable => opcode::PollAdd::new(fd, POLLOUT).build(),
            Operation::WatchReadable => opcode::PollAdd::new(fd, POLLIN).multi(true).build(),
        };
        self.waiting.push_back(entry.user_data(token.pack()));
    }

    /// Ends an operation with the next call. It reports once more, without `more`.
    pub(crate) fn cancel(&mut self, token: Token) {
        let entry = opcode::AsyncCancel::new(token.pack()).build();
        self.waiting.push_back(entry.user_data(CANCELLATION));
    }

    /// Hands over what waits and takes what is there, without sleeping.
    ///
    /// # Errors
    /// When the ring is unusable.
    pub(crate) fn poll(&mut self) -> io::Result<()> {
        self.enter(0, Some(Duration::ZERO))
    }

    /// Hands over what waits and sleeps until there is an event or `timeout` has passed.
    ///
    /// # Errors
    /// When the ring is unusable.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.enter(1, timeout)
    }

    /// The events since the last call, in order, moved to the end of `events`.
    pub(crate) fn take_events(&mut self, events: &mut Vec<Event>) {
        for entry in self.ring.completion() {
            if entry.user_data() == CANCELLATION {
                continue;
            }
            let token = Token::unpack(entry.user_data());
            let flags = entry.flags();
            let outcome = match u32::try_from(entry.result()) {
                Err(_) => {
                    let errno = Errno::from_raw_os_error(entry.result().wrapping_neg());
                    Outcome::Failed(errno)
                }
                Ok(count) => match token.operation {
                    Operation::Receive => match cqueue::buffer_select(flags) {
                        Some(buffer) if count > 0 => {
                            Outcome::Received(self.buffers.take(buffer, count))
                        }
                        Some(buffer) => {
                            drop(self.buffers.take(buffer, 0));
                            Outcome::Ended
                        }
                        None => Outcome::Ended,
                    },
                    Operation::Accept => {
                        // SAFETY: the kernel made this descriptor for this operation, tells of it
                        // in this entry alone, and an entry is read once.
                        Outcome::Accepted(unsafe { OwnedFd::from_raw_fd(entry.result()) })
                    }
                    Operation::AwaitWritable | Operation::WatchReadable => Outcome::Ready,
                },
            };
            events.push(Event {
                token,
                outcome,
                more: cqueue::more(flags),
            });
        }
    }

    fn enter(&mut self, events: usize, timeout: Option<Duration>) -> io::Result<()> {
        self.fill()?;
        let timeout = timeout.map(Timespec::from);
        let mut args = SubmitArgs::new();
        if let Some(timeout) = &timeout {
            args = args.timespec(timeout);
        }
        // With no event asked for, the kernel still looks for some when it has marked that there
        // is work for this thread; asking for one with no time to wait makes it look always.
        let entered = self.ring.submitter().submit_with_args(events.max(1), &args);
        match entered.map_err(|error| (error.raw_os_error().map(Errno::from_raw_os_error), error)) {
            // BUSY: events must be taken before more is accepted. AGAIN: the kernel is short of
            // memory; what it did not take is offered again.
            Ok(_) | Err((Some(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN), _)) => {
                Ok(())
            }
            Err((_, error)) => Err(error),
        }
    }

    /// Moves what waits to the submission queue, handing over what does not fit at once.
    fn fill(&mut self) -> io::Result<()> {
        while let Some(entry) = self.waiting.front() {
            // SAFETY: by `Operation`'s invariant no entry refers to memory of ours, except for the
            // receive buffers, which `Drop` keeps until the kernel has let go of them.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                self.waiting.pop_front();
                continue;
            }
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if is_busy(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let within = Timespec::new().sec(CANCEL_SECONDS);
        let cancelled = self
            .ring
            .submitter()
            .register_sync_cancel(Some(within), CancelBuilder::any());
        let is_idle = match cancelled {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(Errno::NOENT.raw_os_error()),
        };
        // Connections that were accepted meanwhile are closed, not forgotten.
        self.take_events(&mut Vec::new());
        self.buffers.give_up(&self.ring.submitter(), is_idle);
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

fn is_busy(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::BUSY | Errno::INTR | Errno::AGAIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_way_through_the_kernel() {
        let mut slab = crate::slab::Slab::new();
        let key = slab.insert(()).unwrap();
        for operation in [
            Operation::Receive,
            Operation::Accept,
            Operation::AwaitWritable,
            Operation::WatchReadable,
        ] {
            let token = Token::unpack(Token { operation, key }.pack());
            assert_eq!(token.key, key);
            assert_eq!(
                std::mem::discriminant(&token.operation),
                std::mem::discriminant(&operation)
            );
        }
    }
}
