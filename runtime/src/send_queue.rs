//! Bytes that wait to be sent, small ones copied together, large ones by reference.
//!
//! It does not send, and does not bound itself: the caller stops reading the other side when
//! `bytes()` is high.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::chunk::{Chunk, ChunkWriter};

/// Shortest run that is sent from the buffer that it arrived in.
///
/// Below it a copy of at most 1 KiB is cheaper than one more element in the vectored write and a
/// receive buffer that stays busy until the peer has read.
const BY_REFERENCE_FROM: usize = 1024;

/// What one vectored write takes at most.
pub(crate) const SLICES_MAX: usize = 32;

/// Per stream.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    chunks: VecDeque<Chunk>,
    /// Comes after `chunks`; absent while nothing small waits, so an idle stream holds no buffer.
    staged: Option<ChunkWriter>,
    bytes: usize,
}

impl SendQueue {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn append(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            let staged = self.staged.get_or_insert_with(ChunkWriter::new);
            let taken = staged.put(bytes);
            if taken == 0 {
                self.freeze_staged();
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    pub(crate) fn append_chunk(&mut self, chunk: Chunk) {
        if chunk.len() < BY_REFERENCE_FROM {
            self.append(&chunk);
        } else {
            self.freeze_staged();
            self.bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Fills `slices` with what comes first; returns how many are filled.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let staged = self.staged.as_ref().map(ChunkWriter::written);
        let waiting = self.chunks.iter().map(|chunk| &**chunk).chain(staged);
        slices
            .iter_mut()
            .zip(waiting)
            .map(|(slice, bytes)| *slice = IoSlice::new(bytes))
            .count()
    }

    /// Takes `count` bytes off the front.
    pub(crate) fn advance(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        if self.bytes == 0 {
            self.clear();
            return;
        }
        loop {
            if self.chunks.is_empty() {
                self.freeze_staged();
            }
            let Some(first) = self.chunks.front_mut() else {
                return;
            };
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.chunks.pop_front();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.chunks.clear();
        self.staged = None;
        self.bytes = 0;
    }

    fn freeze_staged(&mut self) {
        if let Some(staged) = self.staged.take()
            && !staged.is_empty()
        {
            self.chunks.push_back(staged.freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::CHUNK_BYTES;

    fn sent(queue: &mut SendQueue, at_most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while queue.bytes() > 0 {
            let taken = {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = queue.slices(&mut slices);
                let waiting = slices[..count].iter().flat_map(|slice| slice.iter());
                let before = all.len();
                all.extend(waiting.take(at_most));
                all.len() - before
            };
            assert!(taken > 0);
            queue.advance(taken);
        }
        all
    }

    #[test]
    fn bytes_leave_in_the_order_they_came_however_they_are_cut() {
        let small = vec![1; BY_REFERENCE_FROM - 1];
        let large = Chunk::from_slice(&vec![2; BY_REFERENCE_FROM]);
        let huge = vec![3; 3 * CHUNK_BYTES + 1];
        let mut expected = small.clone();
        expected.extend_from_slice(&large);
        expected.extend_from_slice(b"tail");
        expected.extend_from_slice(&huge);
        for at_most in [1, 7, 1023, 1024, 100_000] {
            let mut queue = SendQueue::default();
            queue.append_chunk(Chunk::from_slice(&small));
            queue.append_chunk(large.clone());
            queue.append(b"tail");
            queue.append(&huge);
            assert_eq!(queue.bytes(), expected.len());
            assert_eq!(sent(&mut queue, at_most), expected);
        }
    }

    #[test]
    fn small_runs_share_one_buffer_and_large_ones_are_not_copied() {
        let mut queue = SendQueue::default();
        let large = Chunk::from_slice(&vec![2; BY_REFERENCE_FROM]);
        for _ in 0..100 {
            queue.append(b"message");
        }
        queue.append_chunk(large.clone());
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        assert_eq!(queue.slices(&mut slices), 2);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
    }

    #[test]
    fn more_pieces_than_one_write_takes_leave_in_several() {
        let mut queue = SendQueue::default();
        let large = Chunk::from_slice(&vec![2; BY_REFERENCE_FROM]);
        for _ in 0..SLICES_MAX + 1 {
            queue.append_chunk(large.clone());
        }
        let total = queue.bytes();
        assert_eq!(sent(&mut queue, usize::MAX).len(), total);
    }
}
