//! A ring of records in a mapped file that outlives the process.
//!
//! It does not interpret records, and it does not move them to disk: the writer half belongs to a
//! shard, the reader half to the thread that drains it.
//!
//! What the writer has published is in the page cache: `kill -9` at any instant loses none of it,
//! [`recover`] finds it. A power failure or a kernel crash does lose it, which is what draining
//! is for. The file is allocated whole, so that a full file system is found when the ring is made
//! and never by a signal in the middle of a copy, and locked for as long as its process lives, so
//! that a successor does not take a living ring for a leftover.
//!
//! ```text
//! page 0: magic, version, checksum, capacity, identity, label | head (byte 128) | tail (byte 256)
//! then:   capacity bytes of frames (see `frame`), which never wrap: a filler closes the gap
//! ```
//!
//! `head` and `tail` count bytes from the birth of the ring and never turn back; a position
//! modulo the capacity is a place in the file. Invariant: `tail <= head <= tail + capacity`.
//! Bytes in `[tail, head)` belong to the reader, all others to the writer.

mod frame;
mod region;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;
use std::time::Duration;

use thiserror::Error;

use frame::{Checksum, filler_header, header_bytes, widen};
pub use frame::{
    Damage, FRAME_ALIGNMENT, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, Frame, FrameError,
    FrameSeed, Frames, Placement, checksum, decode_frame, encode_frame, frame_bytes,
};
use region::{HEADER_BYTES, Region, RingHeader};

/// Smallest ring, in bytes.
pub const RING_BYTES_MIN: usize = 64 * 1024;

/// Largest ring, in bytes. Recovery reads a ring whole, so this bounds its memory too.
pub const RING_BYTES_MAX: usize = 1 << 30;

/// Bytes that are copied before they are summed up: half of a first-level cache.
const CHECKSUM_STRETCH_BYTES: usize = 16 * 1024;

/// Mode of ring files: what they hold is for their owner only.
const FILE_MODE: u32 = 0o600;

/// What a ring is made with.
#[derive(Clone, Copy, Debug)]
pub struct RingSettings {
    /// Capacity in bytes: a multiple of 4096 from [`RING_BYTES_MIN`] to [`RING_BYTES_MAX`].
    pub ring_bytes: usize,
    /// 16 random bytes that no other ring has; seeds the checksums.
    pub identity: [u8; 16],
    /// Whatever the owner wants to find again after a crash, such as the shard number.
    pub label: u16,
}

/// Why a ring could not be made or recovered.
#[derive(Debug, Error)]
pub enum RingError {
    #[error("ring of {ring_bytes} bytes is not a multiple of 4096 from 64 KiB to 1 GiB")]
    Size { ring_bytes: usize },
    #[error("a ring that was not recovered is in the way at {}", path.display())]
    Exists { path: PathBuf },
    #[error("ring {} belongs to a process that runs", path.display())]
    Busy { path: PathBuf },
    #[error("{} is not a ring, or its header is damaged: {reason}", path.display())]
    Header { path: PathBuf, reason: HeaderDamage },
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What is wrong with the header of a ring file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderDamage {
    #[error("the file is too short")]
    Short,
    #[error("wrong magic")]
    Magic,
    #[error("version {found} is not known")]
    Version { found: u32 },
    #[error("wrong checksum")]
    Checksum,
    #[error("capacity {capacity} does not fit the file of {file_bytes} bytes")]
    Capacity { capacity: u64, file_bytes: u64 },
    #[error("head {head} and tail {tail} contradict each other")]
    Bounds { head: u64, tail: u64 },
}

/// Why a record was not appended. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    /// The reader is behind. Wait with [`RingWriter::poll_room`].
    #[error("the ring is full")]
    Full,
    /// The record would not fit an empty ring; the caller has to cut it.
    #[error("record of {body_bytes} bytes is longer than {limit}")]
    TooLong { body_bytes: usize, limit: usize },
}

/// The reader half is gone, so that nothing in the ring will ever be drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the reader of the ring is gone")]
pub struct ReaderGone;

/// The indices say what cannot be: the mapping was overwritten by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("ring head {head} contradicts tail {tail}")]
pub struct RingDamaged {
    pub head: u64,
    pub tail: u64,
}

/// A place in a ring, counted in bytes from its birth. What lies before it comes earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// What both halves share: the mapping, and who waits for whom.
struct Shared {
    region: Region,
    /// The writer wakes the reader when `head` reaches this; `u64::MAX` while the reader is awake.
    wake_at: AtomicU64,
    /// A writer wants a commit now, whatever the interval.
    demanded: AtomicBool,
    /// What the reader last said about itself; zero is well.
    health: AtomicU8,
    reader_gone: AtomicBool,
    writer_gone: AtomicBool,
    reader: Thread,
    /// Cheap hint that `waiters` is not empty.
    has_waiters: AtomicBool,
    /// Tasks that wait for `tail` to move, by the identity of their wakers.
    ///
    /// A mutex although the data path has none: it is touched only by a task that has to wait and
    /// by the reader when such a task exists, and never held across a wake.
    waiters: Mutex<HashMap<(usize, usize), Waker>>,
}

impl Shared {
    fn wait(&self, waker: &Waker) {
        let identity = (
            waker.data().addr(),
            std::ptr::from_ref(waker.vtable()).addr(),
        );
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.insert(identity, waker.clone());
        self.has_waiters.store(true, Ordering::SeqCst);
    }

    fn wake_writers(&self) {
        if !self.has_waiters.swap(false, Ordering::SeqCst) {
            return;
        }
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = std::mem::take(&mut *waiters);
        drop(waiters);
        for waker in woken.into_values() {
            waker.wake();
        }
    }
}

/// Makes rings. The two halves are [`RingWriter`] and [`RingReader`].
pub struct MappedRing;

impl MappedRing {
    /// Makes the ring file at `path`: allocated, touched, locked, and in memory for good where
    /// the memlock limit allows it.
    ///
    /// `reader` is the thread that will drain the ring; the writer unparks it.
    ///
    /// # Errors
    /// `Exists` when a file is there: it may hold records, so it has to be recovered first.
    /// `Io` with `ENOSPC` when the file system cannot hold the ring.
    pub fn create(
        path: &Path,
        settings: &RingSettings,
        reader: Thread,
    ) -> Result<(RingWriter, RingReader), RingError> {
        let is_right_size = (RING_BYTES_MIN..=RING_BYTES_MAX).contains(&settings.ring_bytes)
            && settings.ring_bytes.is_multiple_of(HEADER_BYTES);
        if !is_right_size {
            return Err(RingError::Size {
                ring_bytes: settings.ring_bytes,
            });
        }
        let region = Self::create_file(path, settings)?;
        let shared = Arc::new(Shared {
            region,
            wake_at: AtomicU64::new(u64::MAX),
            demanded: AtomicBool::new(false),
            health: AtomicU8::new(0),
            reader_gone: AtomicBool::new(false),
            writer_gone: AtomicBool::new(false),
            reader,
            has_waiters: AtomicBool::new(false),
            waiters: Mutex::new(HashMap::new()),
        });
        let seed = FrameSeed::new(&settings.identity);
        let writer = RingWriter {
            shared: Arc::clone(&shared),
            head: 0,
            offset: 0,
            tail_seen: 0,
            seed,
            checksum: Checksum::start(seed),
        };
        Ok((
            writer,
            RingReader {
                shared,
                path: path.to_owned(),
                tail: 0,
                seed,
            },
        ))
    }

    /// Builds the file under another name, so that whatever has the final name is whole.
    fn create_file(path: &Path, settings: &RingSettings) -> Result<Region, RingError> {
        let io = |operation, source| RingError::Io {
            operation,
            path: path.to_owned(),
            source,
        };
        let unfinished = unfinished_path(path);
        remove_if_there(&unfinished).map_err(|source| io("clear the way for", source))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&unfinished)
            .map_err(|source| io("create", source))?;
        let made = lock(&file, path).and_then(|()| {
            let header = RingHeader {
                capacity: widen(settings.ring_bytes),
                identity: settings.identity,
                label: settings.label,
            };
            let region =
                Region::create(file, &header).map_err(|source| io("allocate or map", source))?;
            match fs::hard_link(&unfinished, path) {
                Ok(()) => Ok(region),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    Err(RingError::Exists {
                        path: path.to_owned(),
                    })
                }
                Err(source) => Err(io("name", source)),
            }
        });
        remove_if_there(&unfinished).map_err(|source| io("clean up beside", source))?;
        made
    }
}

fn unfinished_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn lock(file: &File, path: &Path) -> Result<(), RingError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => RingError::Busy {
            path: path.to_owned(),
        },
        TryLockError::Error(source) => RingError::Io {
            operation: "lock",
            path: path.to_owned(),
            source,
        },
    })
}

/// The half that appends. Per shard; the only writer of its ring.
pub struct RingWriter {
    shared: Arc<Shared>,
    head: u64,
    /// Where `head` lies in the data: `head % capacity`, kept since a division takes longer than
    /// copying a small record.
    offset: usize,
    /// The tail when it was last looked at; the real one can only be further.
    tail_seen: u64,
    seed: FrameSeed,
    /// What the checksum of each frame begins as.
    checksum: Checksum,
}

impl RingWriter {
    /// Longest body that one record can have, in bytes: with its filler it fits the empty ring.
    #[must_use]
    pub fn body_bytes_max(&self) -> usize {
        (self.shared.region.capacity() / 2).saturating_sub(FRAME_HEADER_BYTES)
    }

    /// Capacity of the ring in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.region.capacity()
    }

    /// Bytes of the ring that its reader has not given back.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let tail = self.shared.region.tail().load(Ordering::Relaxed);
        self.head.saturating_sub(tail)
    }

    /// Where the next record will start.
    #[must_use]
    pub fn head(&self) -> Position {
        Position(self.head)
    }

    /// Everything before this was committed by the reader.
    #[must_use]
    pub fn committed(&self) -> Position {
        Position(self.shared.region.tail().load(Ordering::SeqCst))
    }

    /// What the reader last said about itself by [`RingReader::set_health`].
    #[must_use]
    pub fn health(&self) -> u8 {
        self.shared.health.load(Ordering::Acquire)
    }

    /// Whether the reader half was dropped.
    #[must_use]
    pub fn is_reader_gone(&self) -> bool {
        self.shared.reader_gone.load(Ordering::SeqCst)
    }

    /// Whether a record of `body_bytes` fits now and leaves `keep_free` bytes behind it.
    pub fn has_room(&mut self, body_bytes: usize, keep_free: usize) -> bool {
        let Some(need) = self.need(body_bytes).checked_add(keep_free) else {
            return false;
        };
        if need <= self.free() {
            return true;
        }
        self.tail_seen = self.shared.region.tail().load(Ordering::SeqCst);
        need <= self.free()
    }

    /// Ring bytes that a record takes at the present head, with the filler before it if the
    /// record would otherwise wrap.
    fn need(&self, body_bytes: usize) -> usize {
        let need = frame_bytes(body_bytes.min(FRAME_BODY_BYTES_MAX));
        let gap = self.bytes_to_end();
        if need > gap {
            need.saturating_add(gap)
        } else {
            need
        }
    }

    fn bytes_to_end(&self) -> usize {
        self.capacity().saturating_sub(self.offset)
    }

    fn free(&self) -> usize {
        let used = usize::try_from(self.head.wrapping_sub(self.tail_seen)).unwrap_or(usize::MAX);
        self.capacity().saturating_sub(used)
    }

    /// Appends one record made of `parts` in their order, and returns the position behind it.
    ///
    /// At least `keep_free` bytes of the ring stay free. No allocation and, unless the reader
    /// sleeps and asked to be woken, no system call. The record is published whole or not at all.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn append(&mut self, parts: &[&[u8]], keep_free: usize) -> Result<Position, AppendError> {
        let body_bytes = parts
            .iter()
            .fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        let limit = self.body_bytes_max();
        let too_long = AppendError::TooLong { body_bytes, limit };
        if body_bytes > limit {
            return Err(too_long);
        }
        let length_field = u32::try_from(body_bytes).map_err(|_| too_long)?;
        if !self.has_room(body_bytes, keep_free) {
            return Err(AppendError::Full);
        }
        let frame_bytes = frame_bytes(body_bytes);
        self.close_gap(frame_bytes);
        self.copy_frame(parts, frame_bytes, length_field);
        self.publish();
        Ok(Position(self.head))
    }

    fn close_gap(&mut self, frame_bytes: usize) {
        let gap = self.bytes_to_end();
        if frame_bytes > gap {
            let header = filler_header(self.head, gap, self.seed);
            self.shared.region.write(self.offset, &header);
            self.advance(gap);
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.head = self.head.wrapping_add(widen(bytes));
        self.offset = self.offset.saturating_add(bytes);
        if self.offset >= self.capacity() {
            self.offset = 0;
        }
    }

    /// Writes the frame, and its checksum last: that is computed over the ring's own bytes, a
    /// stretch at a time while they are still in the nearest cache.
    fn copy_frame(&mut self, parts: &[&[u8]], frame_bytes: usize, length_field: u32) {
        let mut checksum = self.checksum.clone();
        let mut place = self.shared.region.place(self.offset, frame_bytes);
        // The padding, over the end of which the last part is written.
        place.end_with(&[0; FRAME_ALIGNMENT]);
        place.put(&header_bytes(self.head, length_field));
        for part in parts {
            let mut part = *part;
            while let Some((stretch, rest)) = part.split_at_checked(CHECKSUM_STRETCH_BYTES) {
                place.put(stretch);
                checksum.add(place.take_written());
                part = rest;
            }
            place.put(part);
        }
        place.skip_to_end();
        checksum.add(place.take_written());
        let checksum = checksum.finish().to_le_bytes();
        self.shared.region.write(self.offset, &checksum);
        self.advance(frame_bytes);
    }

    fn publish(&self) {
        // Sequentially consistent against `RingReader::arm`: either the reader sees this head
        // before it sleeps, or the load below sees its wish to be woken.
        self.shared.region.head().store(self.head, Ordering::SeqCst);
        if self.head >= self.shared.wake_at.load(Ordering::SeqCst) {
            self.shared.wake_at.store(u64::MAX, Ordering::SeqCst);
            self.shared.reader.unpark();
        }
    }

    /// Asks the reader to commit now.
    fn demand_commit(&self) {
        if !self.shared.demanded.swap(true, Ordering::SeqCst) {
            self.shared.reader.unpark();
        }
    }

    /// Ready when a record of `body_bytes` fits and leaves `keep_free` free; wakes the task when
    /// the reader freed something. The reader is asked to hurry.
    ///
    /// # Errors
    /// [`ReaderGone`]: there will never be room.
    pub fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        body_bytes: usize,
        keep_free: usize,
    ) -> Poll<Result<(), ReaderGone>> {
        if self.has_room(body_bytes, keep_free) {
            return Poll::Ready(Ok(()));
        }
        self.shared.wait(cx.waker());
        // Looked at again: the tail may have moved before the waker was in its place.
        if self.has_room(body_bytes, keep_free) {
            return Poll::Ready(Ok(()));
        }
        self.pending_or_gone()
    }

    /// Ready when the reader committed everything before `position`.
    ///
    /// # Errors
    /// [`ReaderGone`]: it never will.
    pub fn poll_committed(
        &mut self,
        cx: &mut Context<'_>,
        position: Position,
    ) -> Poll<Result<(), ReaderGone>> {
        if self.committed() >= position {
            return Poll::Ready(Ok(()));
        }
        self.shared.wait(cx.waker());
        if self.committed() >= position {
            return Poll::Ready(Ok(()));
        }
        self.pending_or_gone()
    }

    fn pending_or_gone(&self) -> Poll<Result<(), ReaderGone>> {
        if self.is_reader_gone() {
            return Poll::Ready(Err(ReaderGone));
        }
        self.demand_commit();
        Poll::Pending
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        self.shared.writer_gone.store(true, Ordering::SeqCst);
        self.shared.reader.unpark();
    }
}

/// The half that drains. Lives on the thread that was named when the ring was made.
pub struct RingReader {
    shared: Arc<Shared>,
    path: PathBuf,
    tail: u64,
    seed: FrameSeed,
}

/// What a ring holds: raw frames, in order, in at most two runs of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Pending<'r> {
    /// Position of the first byte of `first`.
    pub start: Position,
    pub first: &'r [u8],
    /// What lies behind the wrap; its first byte follows the last of `first`.
    pub second: &'r [u8],
    /// Position behind the last frame; hand it to [`RingReader::commit`].
    pub end: Position,
}

impl RingReader {
    /// What the checksums of this ring start from.
    #[must_use]
    pub fn seed(&self) -> FrameSeed {
        self.seed
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything that was published and not yet committed.
    ///
    /// # Errors
    /// [`RingDamaged`] when the indices contradict each other; nothing is read then.
    pub fn pending(&self) -> Result<Pending<'_>, RingDamaged> {
        let head = self.shared.region.head().load(Ordering::SeqCst);
        let bytes = self.pending_bytes_at(head)?;
        let (first, second) = self.shared.region.published(self.tail, bytes);
        Ok(Pending {
            start: Position(self.tail),
            first,
            second,
            end: Position(head),
        })
    }

    fn pending_bytes_at(&self, head: u64) -> Result<usize, RingDamaged> {
        let damaged = RingDamaged {
            head,
            tail: self.tail,
        };
        let bytes = usize::try_from(head.wrapping_sub(self.tail)).map_err(|_| damaged)?;
        let is_whole = bytes <= self.shared.region.capacity();
        let is_aligned = head.is_multiple_of(widen(FRAME_ALIGNMENT));
        if is_whole && is_aligned {
            Ok(bytes)
        } else {
            Err(damaged)
        }
    }

    /// Gives everything before `end` back to the writer and wakes the tasks that wait for it.
    ///
    /// `end` comes from [`Self::pending`]; a position outside what is pending is ignored.
    pub fn commit(&mut self, end: Position) {
        let head = self.shared.region.head().load(Ordering::SeqCst);
        if end.0 < self.tail || end.0 > head {
            return;
        }
        self.tail = end.0;
        self.shared.region.tail().store(end.0, Ordering::SeqCst);
        self.shared.wake_writers();
    }

    /// Tells the writer how draining goes; zero is well, the rest is the owner's vocabulary.
    pub fn set_health(&self, health: u8) {
        if self.shared.health.swap(health, Ordering::AcqRel) != health {
            self.shared.wake_writers();
        }
    }

    /// Whether the writer half was dropped, so that nothing will follow what is pending.
    #[must_use]
    pub fn is_writer_gone(&self) -> bool {
        self.shared.writer_gone.load(Ordering::SeqCst)
    }

    /// Asks to be woken once `bytes` are pending. `false` when that is so already, when a commit
    /// was demanded, or when the writer left: then the caller must not sleep.
    #[must_use]
    pub fn arm(&self, bytes: usize) -> bool {
        let wake_at = self.tail.saturating_add(widen(bytes).max(1));
        self.shared.wake_at.store(wake_at, Ordering::SeqCst);
        // The other half of the agreement described in `RingWriter::publish`.
        let head = self.shared.region.head().load(Ordering::SeqCst);
        head < wake_at && !self.shared.demanded.load(Ordering::SeqCst)
    }

    /// Takes the wish of [`Self::arm`] back.
    pub fn disarm(&self) {
        self.shared.wake_at.store(u64::MAX, Ordering::SeqCst);
    }

    /// Whether somebody waits for a commit or for room. The caller now drains: what was appended
    /// before the demand is in [`Self::pending`] when this returns.
    pub fn take_demand(&self) -> bool {
        self.shared.demanded.swap(false, Ordering::SeqCst)
    }

    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.region.capacity()
    }

    /// Removes the file of a ring whose writer is gone and whose records are all committed.
    ///
    /// # Errors
    /// When it cannot be removed; the next start then recovers an empty ring.
    pub fn remove(self) -> Result<(), RingError> {
        fs::remove_file(&self.path).map_err(|source| RingError::Io {
            operation: "remove",
            path: self.path.clone(),
            source,
        })
    }
}

impl Drop for RingReader {
    fn drop(&mut self) {
        self.shared.reader_gone.store(true, Ordering::SeqCst);
        self.shared.has_waiters.store(true, Ordering::SeqCst);
        self.shared.wake_writers();
    }
}

/// Sleeps until a writer unparks this thread or `timeout` is over. May return early.
pub fn park(timeout: Duration) {
    std::thread::park_timeout(timeout);
}

/// What a dead run left in a ring. Holds the lock of its file.
pub struct Leftover {
    path: PathBuf,
    _lock: File,
    header: RingHeader,
    tail: u64,
    /// `[tail, head)`, laid out straight.
    bytes: Vec<u8>,
}

impl Leftover {
    #[must_use]
    pub fn identity(&self) -> [u8; 16] {
        self.header.identity
    }

    #[must_use]
    pub fn label(&self) -> u16 {
        self.header.label
    }

    /// The position of the first byte of [`Self::bytes`].
    #[must_use]
    pub fn start(&self) -> Position {
        Position(self.tail)
    }

    /// The raw frames that were not committed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The records that were not committed, in order. What does not pass its checksum comes as
    /// [`Damage`]; a process that was killed leaves none.
    #[must_use]
    pub fn frames(&self) -> Frames<'_> {
        let seed = FrameSeed::new(&self.header.identity);
        Frames::new(&self.bytes, Placement::Ring { start: self.tail }, seed)
    }

    /// Removes the file. Only when its records are safe elsewhere.
    ///
    /// # Errors
    /// When the file cannot be removed; recovering it again is harmless if positions are compared.
    pub fn remove(self) -> Result<(), RingError> {
        fs::remove_file(&self.path).map_err(|source| RingError::Io {
            operation: "remove",
            path: self.path.clone(),
            source,
        })
    }
}

/// Reads what a dead process left in the ring file at `path`.
///
/// The file is read, not mapped: a file that is cut short meanwhile is an error, not a signal.
///
/// # Errors
/// `Busy` while the process that made the ring lives. `Header` when the file is not a ring or its
/// first page is damaged: it should be kept for a person to look at.
pub fn recover(path: &Path) -> Result<Leftover, RingError> {
    let io = |operation, source| RingError::Io {
        operation,
        path: path.to_owned(),
        source,
    };
    let damaged = |reason| RingError::Header {
        path: path.to_owned(),
        reason,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|source| io("open", source))?;
    lock(&file, path)?;
    let file_bytes = file
        .metadata()
        .map_err(|source| io("measure", source))?
        .len();
    if file_bytes > widen(RING_BYTES_MAX.saturating_add(HEADER_BYTES)) {
        return Err(damaged(HeaderDamage::Capacity {
            capacity: 0,
            file_bytes,
        }));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|source| io("read", source))?;
    let (page, data) = bytes
        .split_at_checked(HEADER_BYTES)
        .ok_or_else(|| damaged(HeaderDamage::Short))?;
    let header = RingHeader::decode(page).map_err(damaged)?;
    if header.capacity != widen(data.len()) || data.is_empty() {
        let capacity = header.capacity;
        return Err(damaged(HeaderDamage::Capacity {
            capacity,
            file_bytes,
        }));
    }
    let (head, tail) = region::indices(page);
    let bytes =
        straighten(data, tail, head).ok_or_else(|| damaged(HeaderDamage::Bounds { head, tail }))?;
    Ok(Leftover {
        path: path.to_owned(),
        _lock: file,
        header,
        tail,
        bytes,
    })
}

/// Copies `[tail, head)` out of the ring's data so that it does not wrap.
fn straighten(data: &[u8], tail: u64, head: u64) -> Option<Vec<u8>> {
    let alignment = widen(FRAME_ALIGNMENT);
    let length = usize::try_from(head.checked_sub(tail)?).ok()?;
    let is_sound =
        length <= data.len() && head.is_multiple_of(alignment) && tail.is_multiple_of(alignment);
    if !is_sound {
        return None;
    }
    let start = usize::try_from(tail.checked_rem(widen(data.len()))?).ok()?;
    let (front, back) = data.split_at_checked(start)?;
    let first = back.get(..length.min(back.len()))?;
    let second = front.get(..length.checked_sub(first.len())?)?;
    Some([first, second].concat())
}
