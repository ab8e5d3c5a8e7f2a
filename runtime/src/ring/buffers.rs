//! The buffers that the kernel receives into: it picks one when bytes have arrived.
//!
//! An idle connection so holds none. A buffer that was filled leaves as a [`Chunk`] and another one
//! takes its place at once, so the kernel is never short of them for longer than one call.

#![expect(
    unsafe_code,
    reason = "the queue of buffers is memory shared with the kernel; receiving into a buffer per \
              socket, the other way, costs 16 KiB for each idle connection"
)]

use std::ffi::c_void;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags};

use crate::chunk::{Chunk, ChunkWriter};

/// The number that receive operations name these buffers by.
pub(super) const GROUP: u16 = 0;

/// Buffers that the kernel can fill before the shard looks; a power of two.
///
/// 256: as many connections can have something to say within one turn of a shard before a receive
/// operation ends with `ENOBUFS` and is started again. 4 MiB per shard, touched as used.
const BUFFERS: u16 = 256;

/// The queue's memory: exactly one page.
const QUEUE_BYTES: usize = BUFFERS as usize * size_of::<BufRingEntry>();

/// Per ring.
pub(super) struct ReceiveBuffers {
    queue: NonNull<BufRingEntry>,
    /// By buffer number, what the kernel may write to. `None` only once they were given up.
    lent: Vec<Option<ChunkWriter>>,
    /// How many were ever queued, modulo 2^16.
    tail: u16,
}

impl ReceiveBuffers {
    /// Makes the queue known to the kernel, full.
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        // SAFETY: a new private mapping, which touches no memory that exists.
        let queue = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                QUEUE_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let queue = NonNull::new(queue.cast::<BufRingEntry>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut buffers = Self {
            queue,
            lent: (0..BUFFERS).map(|_| None).collect(),
            tail: 0,
        };
        // SAFETY: the mapping above is page-aligned, has BUFFERS entries and is unmapped only in
        // `drop`, which comes after the ring was closed or `give_up` unregistered the queue.
        unsafe {
            submitter.register_buf_ring_with_flags(
                queue.as_ptr().expose_provenance() as u64,
                BUFFERS,
                GROUP,
                0,
            )
        }?;
        for number in 0..BUFFERS {
            buffers.lend(number);
        }
        Ok(buffers)
    }

    /// The first `count` bytes of buffer `number`, which the kernel has filled and let go of.
    pub(super) fn take(&mut self, number: u16, count: u32) -> Chunk {
        let filled = self
            .lent
            .get_mut(usize::from(number))
            .and_then(Option::take);
        self.lend(number);
        // Invariant: the kernel returns numbers that it was given, each once per lending.
        let mut writer = filled.unwrap_or_default();
        writer.filled(usize::try_from(count).unwrap_or(usize::MAX));
        writer.freeze()
    }

    /// Unregisters the queue; lets the buffers go if the kernel `is_idle`, and forgets them
    /// otherwise: memory that may still be written to must not be used for anything else.
    pub(super) fn give_up(&mut self, submitter: &Submitter<'_>, is_idle: bool) {
        let unregistered = submitter.unregister_buf_ring(GROUP);
        if !is_idle || unregistered.is_err() {
            self.lent.drain(..).for_each(std::mem::forget);
        }
    }

    /// Puts a fresh buffer in the place of `number`.
    fn lend(&mut self, number: u16) {
        let Some(lent) = self.lent.get_mut(usize::from(number)) else {
            return;
        };
        let room = lent.insert(ChunkWriter::new()).spare();
        let address = room.as_mut_ptr().expose_provenance() as u64;
        let length = u32::try_from(room.len()).unwrap_or(0);
        let slot = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: the slot is below BUFFERS, so inside the mapping.
        let place = unsafe { self.queue.add(slot) };
        // SAFETY: inside the mapping and aligned, zero pages at first. The kernel reads an entry
        // only below the tail, which is moved past this one afterwards; the tail itself lies in a
        // field of the first entry that is not written here.
        let entry = unsafe { &mut *place.as_ptr() };
        entry.set_addr(address);
        entry.set_len(length);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
        self.publish();
    }

    fn publish(&self) {
        // SAFETY: the pointer is the first entry of the mapping, initialised (zero pages).
        let tail = unsafe { BufRingEntry::tail(self.queue.as_ptr()) };
        // SAFETY: two aligned bytes of the mapping, which outlives this call and which nothing
        // else in this process writes.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for ReceiveBuffers {
    fn drop(&mut self) {
        // It fails only for a range that is not mapped.
        // SAFETY: the mapping made in `register`, of this size, to which no reference is left. The
        // kernel unregistered the queue in `give_up` or holds the pages itself.
        let _ = unsafe { rustix::mm::munmap(self.queue.as_ptr().cast::<c_void>(), QUEUE_BYTES) };
    }
}
