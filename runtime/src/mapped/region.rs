//! The mapping beneath a ring: bounds, indices, copies. All the unsafe code of rings is here.
//!
//! It does not know frames, and does not decide who may touch which bytes when; that is the
//! invariant of `mapped`, upheld by [`super::RingWriter`] and [`super::RingReader`].

#![expect(
    unsafe_code,
    reason = "a shared mapping cannot be written through safe code; a write(2) per record, \
              the safe way, measured 141-225 ns in batches of 64 against a copy's 77-167 ns, and \
              a system call each if what is recorded must survive a kill at once"
)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

use rustix::fs::FallocateFlags;
use rustix::mm::{MapFlags, ProtFlags};

use super::HeaderDamage;
use super::frame::{FRAME_HEADER_BYTES, widen};

/// Bytes before the data: one page.
pub(super) const HEADER_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"SPORTRNG";
const VERSION: u32 = 1;
/// Bytes of the header page that its checksum covers, after the checksum itself.
const CHECKED: std::ops::Range<usize> = 16..48;
/// Two lines apart, so that prefetching one index does not fetch the other.
const HEAD_OFFSET: usize = 128;
const TAIL_OFFSET: usize = 256;

/// The part of the header page that never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RingHeader {
    pub(super) capacity: u64,
    pub(super) identity: [u8; 16],
    pub(super) label: u16,
}

impl RingHeader {
    fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::with_capacity(CHECKED.len());
        fields.extend_from_slice(&self.capacity.to_le_bytes());
        fields.extend_from_slice(&self.identity);
        fields.extend_from_slice(&self.label.to_le_bytes());
        fields.resize(CHECKED.len(), 0);
        let mut page = Vec::with_capacity(CHECKED.end);
        page.extend_from_slice(&MAGIC);
        page.extend_from_slice(&VERSION.to_le_bytes());
        page.extend_from_slice(&crc32fast::hash(&fields).to_le_bytes());
        page.extend_from_slice(&fields);
        page
    }

    pub(super) fn decode(page: &[u8]) -> Result<Self, HeaderDamage> {
        let short = HeaderDamage::Short;
        if page.get(..8).ok_or(short)? != MAGIC {
            return Err(HeaderDamage::Magic);
        }
        let version = read_array(page, 8).map(u32::from_le_bytes).ok_or(short)?;
        if version != VERSION {
            return Err(HeaderDamage::Version { found: version });
        }
        let checksum = read_array(page, 12).map(u32::from_le_bytes).ok_or(short)?;
        let fields = page.get(CHECKED).ok_or(short)?;
        if crc32fast::hash(fields) != checksum {
            return Err(HeaderDamage::Checksum);
        }
        Ok(Self {
            capacity: read_array(fields, 0).map(u64::from_le_bytes).ok_or(short)?,
            identity: read_array(fields, 8).ok_or(short)?,
            label: read_array(fields, 24)
                .map(u16::from_le_bytes)
                .ok_or(short)?,
        })
    }
}

/// Head and tail as a header page that was read from a file has them.
pub(super) fn indices(page: &[u8]) -> (u64, u64) {
    let read = |offset| read_array(page, offset).map_or(0, u64::from_le_bytes);
    (read(HEAD_OFFSET), read(TAIL_OFFSET))
}

fn read_array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// A whole ring file, mapped shared and writable. Keeps the file open, and with it its lock.
pub(super) struct Region {
    base: NonNull<u8>,
    capacity: usize,
    _file: File,
}

// SAFETY: the pointer is to a mapping that belongs to this value alone and lives as long as it;
// nothing about it is tied to the thread that made it.
unsafe impl Send for Region {}

// SAFETY: through `&Region` there are atomics, reads of published bytes and writes of unpublished
// ones. `mapped` hands the writes to the one `RingWriter` and the reads to the one `RingReader`,
// and the indices, stored and loaded sequentially consistent, order the two.
unsafe impl Sync for Region {}

impl Region {
    /// Allocates, maps, touches and locks the file, and writes its header.
    pub(super) fn create(file: File, header: &RingHeader) -> io::Result<Self> {
        let capacity = usize::try_from(header.capacity).map_err(io::Error::other)?;
        let mapped_bytes = HEADER_BYTES.saturating_add(capacity);
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, widen(mapped_bytes))?;
        // SAFETY: a new shared mapping at an address of the kernel's choice overlaps no Rust
        // object; the file was allocated to the full length above, and the lock and the mode of
        // the file keep other programs from cutting it.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                mapped_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
                &file,
                0,
            )
        }?;
        let base = NonNull::new(base.cast::<u8>())
            .ok_or_else(|| io::Error::other("mapping at address zero"))?;
        let region = Self {
            base,
            capacity,
            _file: file,
        };
        region.touch_all();
        region.lock_in_memory();
        region.copy_in(0, &header.encode());
        Ok(region)
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn head(&self) -> &AtomicU64 {
        self.index(HEAD_OFFSET)
    }

    pub(super) fn tail(&self) -> &AtomicU64 {
        self.index(TAIL_OFFSET)
    }

    /// Copies `bytes` to `offset` of the data; what would pass its end is dropped.
    ///
    /// For the writer only, and only outside `[tail, head)`.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        let room = self.capacity.saturating_sub(offset);
        let bytes = bytes.get(..bytes.len().min(room)).unwrap_or_default();
        self.copy_in(
            HEADER_BYTES.saturating_add(offset.min(self.capacity)),
            bytes,
        );
    }

    /// The `bytes` of the data from `offset` on, to be written; none, when they would pass its end.
    ///
    /// For the writer only, and only outside `[tail, head)`.
    pub(super) fn place(&self, offset: usize, bytes: usize) -> Place<'_> {
        let start = offset.min(self.capacity);
        let is_inside = bytes <= self.capacity - start;
        debug_assert!(is_inside);
        Place {
            region: self,
            taken: start,
            written: start,
            end: if is_inside { start + bytes } else { start },
        }
    }

    /// The `length` bytes from `position` on, in up to two runs.
    ///
    /// For the reader only, and only inside `[tail, head)`, for as long as it does not commit.
    pub(super) fn published(&self, position: u64, length: usize) -> (&[u8], &[u8]) {
        let offset = self.offset(position);
        let length = length.min(self.capacity);
        let first_bytes = length.min(self.capacity.saturating_sub(offset));
        let second_bytes = length.saturating_sub(first_bytes);
        (self.run(offset, first_bytes), self.run(0, second_bytes))
    }

    fn offset(&self, position: u64) -> usize {
        let offset = position.checked_rem(widen(self.capacity)).unwrap_or(0);
        usize::try_from(offset).unwrap_or(0)
    }

    fn index(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset == HEAD_OFFSET || offset == TAIL_OFFSET);
        // SAFETY: both offsets are inside the first page of the mapping, which is page-aligned,
        // and multiples of 8; the bytes there are only ever touched through atomics, after the
        // header was written before `self` was shared. They live as long as the mapping.
        let pointer = unsafe { self.base.add(offset) }.cast::<u64>();
        // SAFETY: as above; the lifetime is that of `&self`.
        unsafe { AtomicU64::from_ptr(pointer.as_ptr()) }
    }

    /// Copies to `offset` of the file. Bytes that would leave the mapping are refused whole.
    #[inline]
    fn copy_in(&self, offset: usize, bytes: &[u8]) {
        let mapped_bytes = HEADER_BYTES.saturating_add(self.capacity);
        let is_inside = offset
            .checked_add(bytes.len())
            .is_some_and(|end| end <= mapped_bytes);
        debug_assert!(is_inside);
        if !is_inside {
            return;
        }
        // SAFETY: `offset` is inside the mapping, by the check above.
        let target = unsafe { self.base.add(offset) };
        // SAFETY: `target` has room for `bytes`, by the check above; `bytes` cannot overlap it,
        // since shared slices of the mapping are only given to the reader, which does not write.
        unsafe { target.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }

    fn run(&self, offset: usize, length: usize) -> &[u8] {
        let is_inside = offset
            .checked_add(length)
            .is_some_and(|end| end <= self.capacity);
        debug_assert!(is_inside);
        if !is_inside {
            return &[];
        }
        // SAFETY: the start is inside the data part of the mapping, by the check above.
        let start = unsafe { self.base.add(HEADER_BYTES.saturating_add(offset)) };
        // SAFETY: `length` bytes from there are mapped, initialised (the file was allocated as
        // zeroes), and not written while somebody holds them: the reader's are in `[tail, head)`,
        // and the writer stays out of that until the reader commits, which takes `&mut RingReader`;
        // the writer's own are outside, and borrow the `Place` that is written through.
        unsafe { slice::from_raw_parts(start.as_ptr(), length) }
    }

    /// Writes to every page once, so that no append meets a page fault.
    ///
    /// `fallocate` reserves pages on tmpfs and leaves zeroing them to the first touch, which
    /// measured 216-363 ns with stalls of 3-10 ms.
    fn touch_all(&self) {
        let zeroes = [0; FRAME_HEADER_BYTES];
        for offset in (0..HEADER_BYTES.saturating_add(self.capacity)).step_by(HEADER_BYTES) {
            self.copy_in(offset, &zeroes);
        }
    }

    /// Keeps the pages from being swapped out, where the limit allows it.
    fn lock_in_memory(&self) {
        let mapped_bytes = HEADER_BYTES.saturating_add(self.capacity);
        // SAFETY: the range is the mapping made in `create`, whole.
        let locked =
            unsafe { rustix::mm::mlock(self.base.as_ptr().cast::<c_void>(), mapped_bytes) };
        if let Err(error) = locked {
            tracing::warn!(bytes = mapped_bytes, %error, "ring is not locked in memory: raise LimitMEMLOCK");
        }
    }
}

/// A run of the data that is being written, front to back.
///
/// Invariant: `taken <= written <= end <= capacity`.
pub(super) struct Place<'r> {
    region: &'r Region,
    /// Up to here it was handed out by [`Self::take_written`].
    taken: usize,
    written: usize,
    end: usize,
}

impl Place<'_> {
    /// Writes `bytes` behind what was written; nothing, where they would pass the end.
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if bytes.len() > self.end - self.written {
            return;
        }
        // SAFETY: `written` is inside the data, whose first byte is behind the header.
        let target = unsafe { self.region.base.add(HEADER_BYTES + self.written) };
        // SAFETY: from there to `end`, which is inside the data, is room for `bytes`, by the check
        // above; they cannot overlap it, as in `Region::copy_in`.
        unsafe { target.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        self.written += bytes.len();
    }

    /// Writes `bytes` at the very end; nothing, where the place is shorter than that.
    #[inline]
    pub(super) fn end_with(&mut self, bytes: &[u8]) {
        if bytes.len() <= self.end - self.written {
            let offset = HEADER_BYTES.saturating_add(self.end - bytes.len());
            self.region.copy_in(offset, bytes);
        }
    }

    /// Takes what is there up to the end for written.
    pub(super) fn skip_to_end(&mut self) {
        self.written = self.end;
    }

    /// What was written since this was called last.
    pub(super) fn take_written(&mut self) -> &[u8] {
        let taken = std::mem::replace(&mut self.taken, self.written);
        self.region.run(taken, self.written - taken)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let mapped_bytes = HEADER_BYTES.saturating_add(self.capacity);
        // SAFETY: the range is the mapping made in `create`, whole, and no reference into it can
        // outlive `self`.
        let unmapped =
            unsafe { rustix::mm::munmap(self.base.as_ptr().cast::<c_void>(), mapped_bytes) };
        debug_assert!(unmapped.is_ok());
    }
}
