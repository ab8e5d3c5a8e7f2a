//! Tag and length framing, the same in both directions.
//!
//! What a tag means, and how long its message may be, is the business of the two decoders.

use crate::wire::Reader;

use super::error::DecodeError;

/// Tag and length field.
pub const HEADER_BYTES: usize = 5;

/// The length field, which counts itself.
pub(super) const LENGTH_BYTES: u32 = 4;

/// A message and the bytes it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded<'b, M> {
    pub message: M,
    /// The whole message as it arrived, header included: the caller drops that many bytes of its
    /// input, and forwards these when the message passes unchanged.
    pub wire: &'b [u8],
}

/// A stretch of a message too long to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment<'b, G> {
    pub tag: G,
    /// Bytes as they arrived; in the first fragment with the header before the payload.
    pub wire: &'b [u8],
    /// `wire` without the header.
    pub payload: &'b [u8],
    pub first: bool,
    pub last: bool,
    /// Bytes of payload in the whole message.
    pub total_bytes: u32,
}

/// What a header announces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// Counts the length field, not the tag; `>= 4`.
    pub(super) length: u32,
}

/// Reads the length field; `None` while it has not arrived.
#[inline]
pub(super) fn announced(input: &[u8]) -> Option<i32> {
    let ([_, length @ ..], _) = input.split_first_chunk::<HEADER_BYTES>()?;
    Some(i32::from_be_bytes(*length))
}

/// Refuses a length that no message of this name can have, or that is over `limit`.
#[inline]
pub(super) fn check_length(
    announced: i32,
    message: &'static str,
    limit: u32,
) -> Result<Header, DecodeError> {
    let length = u32::try_from(announced)
        .ok()
        .filter(|length| *length >= LENGTH_BYTES)
        .ok_or(DecodeError::ImpossibleLength { message, announced })?;
    if length > limit {
        return Err(DecodeError::TooLong {
            message,
            announced: length,
            limit,
        });
    }
    Ok(Header { length })
}

/// A complete message: its body, and all of it. `None` while the rest has not arrived.
#[inline]
pub(super) fn whole(input: &[u8], header: Header) -> Option<(&[u8], &[u8])> {
    let total = usize::try_from(header.length).ok()?.checked_add(1)?;
    let wire = input.get(..total)?;
    let body = wire.get(HEADER_BYTES..)?;
    Some((body, wire))
}

/// The part of a streamed message that is still to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streaming<G> {
    pub(super) tag: G,
    pub(super) total_bytes: u32,
    remaining: usize,
}

impl<G: Copy> Streaming<G> {
    /// Begins to stream the message at the front of `input`, whose header is there in full.
    pub(super) fn begin<'b>(
        tag: G,
        header: Header,
        input: &'b [u8],
    ) -> (Fragment<'b, G>, Option<Self>) {
        let total_bytes = header.length.saturating_sub(LENGTH_BYTES);
        let remaining = usize::try_from(total_bytes).unwrap_or(usize::MAX);
        let mut reader = Reader::new(input);
        let after_header = match reader.bytes(HEADER_BYTES) {
            Ok(_) => reader.rest(),
            Err(_) => &[],
        };
        let taken = after_header.len().min(remaining);
        let wire = input
            .get(..HEADER_BYTES.saturating_add(taken))
            .unwrap_or(input);
        let payload = after_header.get(..taken).unwrap_or(after_header);
        let left = remaining.saturating_sub(taken);
        let fragment = Fragment {
            tag,
            wire,
            payload,
            first: true,
            last: left == 0,
            total_bytes,
        };
        (
            fragment,
            (left > 0).then_some(Self {
                tag,
                total_bytes,
                remaining: left,
            }),
        )
    }

    /// The next stretch; `None` when nothing has arrived.
    pub(super) fn resume<'b>(self, input: &'b [u8]) -> Option<(Fragment<'b, G>, Option<Self>)> {
        if input.is_empty() {
            return None;
        }
        let taken = input.len().min(self.remaining);
        let wire = input.get(..taken)?;
        let left = self.remaining.saturating_sub(taken);
        let fragment = Fragment {
            tag: self.tag,
            wire,
            payload: wire,
            first: false,
            last: left == 0,
            total_bytes: self.total_bytes,
        };
        Some((
            fragment,
            (left > 0).then_some(Self {
                remaining: left,
                ..self
            }),
        ))
    }
}
