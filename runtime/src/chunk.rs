//! Owned bytes that arrived, in buffers that are used again.
//!
//! It does not read or write sockets. Buffers come from a pool of the shard and return to it when
//! the last chunk over them is dropped.

use std::cell::RefCell;
use std::io;
use std::ops::{Deref, Range};
use std::rc::Rc;

/// Size of a pooled buffer, and so the most that one read delivers.
///
/// 16 KiB: larger ones gained nothing in the measurements behind the runtime, and a chunk that is
/// kept for a partial message pins the whole of it.
pub const CHUNK_BYTES: usize = 16 * 1024;

/// Buffers that a shard keeps when nobody uses them: 4 MiB.
const POOLED_BUFFERS_MAX: usize = 256;

thread_local! {
    static POOL: RefCell<Vec<Rc<Buffer>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that arrived, immutable, counted by reference.
///
/// Cloning and slicing copy nothing. A chunk keeps its whole buffer of [`CHUNK_BYTES`] from being
/// used again, so whoever waits for the rest of a message copies the part that it has.
///
/// Per shard.
#[derive(Clone)]
pub struct Chunk {
    buffer: Rc<Buffer>,
    start: usize,
    end: usize,
}

/// A buffer that is being filled, to become a [`Chunk`].
pub struct ChunkWriter {
    buffer: Rc<Buffer>,
    filled: usize,
}

struct Buffer {
    bytes: Box<[u8]>,
}

impl Chunk {
    /// A copy of `bytes`; pooled when it fits [`CHUNK_BYTES`].
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Self {
        let mut writer = ChunkWriter::with_capacity(bytes.len());
        writer.put(bytes);
        writer.freeze()
    }

    /// A copy that holds no more memory than `bytes` needs.
    pub(crate) fn compact(bytes: &[u8]) -> Self {
        Self {
            buffer: Rc::new(Buffer {
                bytes: bytes.into(),
            }),
            start: 0,
            end: bytes.len(),
        }
    }

    /// The same bytes narrowed to `range`, which counts from this chunk's start and is cut to its
    /// length.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        Self {
            buffer: Rc::clone(&self.buffer),
            start: self.start + start,
            end: self.start + end,
        }
    }

    /// Drops the first `count` bytes, or all when there are fewer.
    pub fn advance(&mut self, count: usize) {
        self.start += count.min(self.len());
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer
            .bytes
            .get(self.start..self.end)
            .unwrap_or_default()
    }
}

impl std::fmt::Debug for Chunk {
    /// The length only: what a peer sent does not belong in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        recycle(&self.buffer);
    }
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkWriter {
    /// Room for [`CHUNK_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(CHUNK_BYTES)
    }

    /// Room for `bytes` at least.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            buffer: take_buffer(bytes),
            filled: 0,
        }
    }

    /// The room that is left. Follow with [`filled`](Self::filled).
    pub fn spare(&mut self) -> &mut [u8] {
        let filled = self.filled;
        // The buffer has one owner until it is frozen, so this is never empty by `get_mut`.
        Rc::get_mut(&mut self.buffer)
            .and_then(|buffer| buffer.bytes.get_mut(filled..))
            .unwrap_or_default()
    }

    /// Says that `count` bytes of [`spare`](Self::spare) were written.
    pub fn filled(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.buffer.bytes.len());
    }

    /// Copies as much of `bytes` as there is room for; returns how much.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let count = spare.len().min(bytes.len());
        if let (Some(to), Some(from)) = (spare.get_mut(..count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
        self.filled(count);
        count
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.filled
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The bytes written so far, as a chunk.
    #[must_use]
    pub fn freeze(self) -> Chunk {
        Chunk {
            buffer: Rc::clone(&self.buffer),
            start: 0,
            end: self.filled,
        }
    }

    pub(crate) fn written(&self) -> &[u8] {
        self.buffer.bytes.get(..self.filled).unwrap_or_default()
    }
}

impl io::Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.put(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for ChunkWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChunkWriter({} bytes)", self.filled)
    }
}

impl Drop for ChunkWriter {
    fn drop(&mut self) {
        recycle(&self.buffer);
    }
}

fn take_buffer(bytes: usize) -> Rc<Buffer> {
    if bytes <= CHUNK_BYTES
        && let Some(buffer) = POOL.with(|pool| pool.borrow_mut().pop())
    {
        return buffer;
    }
    Rc::new(Buffer {
        bytes: vec![0; bytes.max(CHUNK_BYTES)].into_boxed_slice(),
    })
}

/// Keeps the buffer of an owner that is being dropped, if that was the last one.
fn recycle(buffer: &Rc<Buffer>) {
    if Rc::strong_count(buffer) == 1 && buffer.bytes.len() == CHUNK_BYTES {
        // Fails only while the thread ends.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < POOLED_BUFFERS_MAX {
                pool.push(Rc::clone(buffer));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_after_its_last_chunk() {
        let first = Chunk::from_slice(b"first");
        let part = first.slice(1..3);
        let address = first.as_ptr();
        drop(first);
        let second = Chunk::from_slice(b"second");
        assert_ne!(second.as_ptr(), address, "`part` still holds the buffer");
        assert_eq!(&*part, b"ir");
        drop(part);
        let third = Chunk::from_slice(b"third");
        assert_eq!(third.as_ptr(), address);
    }

    #[test]
    fn slices_outside_the_chunk_are_cut() {
        let mut chunk = Chunk::from_slice(b"0123456789").slice(2..8);
        assert_eq!(&*chunk.slice(4..100), b"67");
        assert_eq!(&*chunk.slice(7..9), b"");
        chunk.advance(5);
        assert_eq!(&*chunk, b"7");
        chunk.advance(2);
        assert_eq!(&*chunk, b"");
    }

    #[test]
    fn a_writer_takes_up_to_its_capacity() {
        let mut writer = ChunkWriter::new();
        let bytes = vec![7; CHUNK_BYTES + 1];
        assert_eq!(writer.put(&bytes[..CHUNK_BYTES - 1]), CHUNK_BYTES - 1);
        assert_eq!(writer.put(&bytes[..2]), 1);
        assert_eq!(writer.put(&bytes[..1]), 0);
        assert_eq!(writer.freeze().len(), CHUNK_BYTES);
    }

    #[test]
    fn bytes_beyond_a_pooled_buffer_are_held_whole() {
        let bytes = vec![7; 3 * CHUNK_BYTES];
        assert_eq!(Chunk::from_slice(&bytes).len(), bytes.len());
    }
}
