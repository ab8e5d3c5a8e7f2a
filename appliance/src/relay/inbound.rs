//! Bytes that arrived from one side of a connection and are not yet taken by the decoder.
//!
//! It keeps what the stream handed over as long as it holds whole messages, and
//! copies only the beginning of a message whose end has not arrived.

use runtime::Chunk;

/// Capacity above which an emptied carry buffer is given back to the allocator.
///
/// Bytes. A message that came in parts must not leave its buffer behind for the
/// rest of an idle session. 1 KiB keeps what a session of short messages splits.
const CARRY_KEPT: usize = 1024;

/// Per connection and direction.
#[derive(Default)]
pub(crate) struct Inbound {
    carry: Vec<u8>,
    chunk: Option<Chunk>,
    taken: usize,
}

impl Inbound {
    /// Adds what arrived behind what is still unread.
    pub(crate) fn push(&mut self, chunk: Chunk) {
        if self.unread().is_empty() {
            self.clear();
            self.chunk = Some(chunk);
            return;
        }
        self.settle();
        self.carry.extend_from_slice(&chunk);
    }

    /// What no decoder has taken yet.
    pub(crate) fn unread(&self) -> &[u8] {
        let bytes: &[u8] = self.chunk.as_deref().unwrap_or(&self.carry);
        bytes.get(self.taken..).unwrap_or_default()
    }

    /// Marks the first `bytes` of [`Self::unread`] as taken.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes);
        if self.unread().is_empty() {
            self.clear();
        }
    }

    /// Moves an unfinished message out of the stream's buffer, which goes back to its pool.
    pub(crate) fn settle(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            self.carry.clear();
            self.carry
                .extend_from_slice(chunk.get(self.taken..).unwrap_or_default());
        } else if self.taken > 0 {
            let taken = self.taken.min(self.carry.len());
            self.carry.drain(..taken);
        }
        self.taken = 0;
    }

    fn clear(&mut self) {
        self.chunk = None;
        self.taken = 0;
        self.carry.clear();
        if self.carry.capacity() > CARRY_KEPT {
            self.carry = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cut_in_three_is_whole_again() {
        let mut inbound = Inbound::default();
        inbound.push(Chunk::from_slice(b"abc"));
        inbound.advance(1);
        inbound.settle();
        inbound.push(Chunk::from_slice(b"d"));
        inbound.push(Chunk::from_slice(b"ef"));
        assert_eq!(inbound.unread(), b"bcdef");
        inbound.advance(5);
        assert_eq!(inbound.unread(), b"");
        inbound.push(Chunk::from_slice(b"g"));
        assert_eq!(inbound.unread(), b"g");
    }

    #[test]
    fn a_large_carry_is_given_back_when_empty() {
        let mut inbound = Inbound::default();
        inbound.push(Chunk::from_slice(&[1]));
        inbound.settle();
        inbound.push(Chunk::from_slice(&vec![2; 2 * CARRY_KEPT]));
        inbound.advance(2 * CARRY_KEPT + 1);
        assert_eq!(inbound.carry.capacity(), 0);
    }
}
