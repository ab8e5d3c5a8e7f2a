//! Puts other values in the place of some of a message's own; the rest is copied as it stands.

use crate::wire::{EncodeError, Malformed, Reader, Writer};

use super::backend::{BackendTag, ErrorFields};
use super::error::{DecodeError, InMessage};
use super::framing::HEADER_BYTES;

/// Rewrites one DataRow, value by value.
///
/// Nothing is written before a value is replaced, and what lies between two replaced values is
/// copied in one piece. Unless [`Self::finish`] says otherwise, `out` holds what it held before.
#[derive(Debug)]
pub struct RowEdit<'v, 'b> {
    out: &'v mut Vec<u8>,
    /// Where the message begins in `out`.
    start: usize,
    wire: &'b [u8],
    /// Bytes of `wire` that are in `out`, or whose place is taken.
    done: usize,
    reader: Reader<'b>,
    /// Where the value last returned begins, with its length.
    value_at: usize,
    left: u16,
}

impl<'v, 'b> RowEdit<'v, 'b> {
    /// `wire` is one DataRow, header included.
    ///
    /// # Errors
    /// When it has no count.
    #[inline]
    pub fn new(out: &'v mut Vec<u8>, wire: &'b [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(wire);
        reader.bytes(HEADER_BYTES).in_message("DataRow")?;
        let left = reader.u16().in_message("DataRow")?;
        Ok(Self {
            start: out.len(),
            out,
            wire,
            done: 0,
            reader,
            value_at: 0,
            left,
        })
    }

    /// How many values are to come.
    #[inline]
    pub fn left(&self) -> usize {
        usize::from(self.left)
    }

    /// The next value; the inner `None` is NULL, the outer one the end.
    ///
    /// # Errors
    /// When lengths and count do not fill the message exactly.
    #[inline]
    pub fn next_value(&mut self) -> Result<Option<Option<&'b [u8]>>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else {
            self.reader.finish().in_message("DataRow")?;
            return Ok(None);
        };
        self.left = left;
        self.value_at = self.position();
        self.reader.nullable().in_message("DataRow").map(Some)
    }

    /// Puts `value` in the place of the one that was last returned.
    pub fn replace(&mut self, value: Option<&[u8]>) -> Result<(), EncodeError> {
        let before = self.wire.get(self.done..self.value_at).unwrap_or_default();
        self.out.extend_from_slice(before);
        self.done = self.position();
        match value {
            None => self.out.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(value) => {
                let length = i32::try_from(value.len()).map_err(|_| EncodeError::TooLong)?;
                self.out.extend_from_slice(&length.to_be_bytes());
                self.out.extend_from_slice(value);
            }
        }
        Ok(())
    }

    /// Ends the row; whether a value was replaced, so that `out` holds the message.
    ///
    /// # Errors
    /// When the message became longer than a message can be.
    pub fn finish(self) -> Result<bool, EncodeError> {
        if self.done == 0 {
            return Ok(false);
        }
        let rest = self.wire.get(self.done..).unwrap_or_default();
        self.out.extend_from_slice(rest);
        let length_at = self.start.saturating_add(1);
        let length = i32::try_from(self.out.len().saturating_sub(length_at))
            .map_err(|_| EncodeError::TooLong)?;
        let field = length_at..length_at.saturating_add(4);
        let field = self.out.get_mut(field).ok_or(EncodeError::TooLong)?;
        field.copy_from_slice(&length.to_be_bytes());
        Ok(true)
    }

    fn position(&self) -> usize {
        self.wire.len().saturating_sub(self.reader.rest().len())
    }
}

/// Writes an ErrorResponse or NoticeResponse of other texts: `text` appends what becomes of a field,
/// or says by `false` that it stays.
///
/// # Errors
/// [`EncodeError::ContainsNul`] for a text with a NUL; `out` holds what it held before.
pub fn rewrite_fields(
    out: &mut Vec<u8>,
    tag: BackendTag,
    fields: &ErrorFields<'_>,
    mut text: impl FnMut(u8, &[u8], &mut Vec<u8>) -> bool,
) -> Result<(), EncodeError> {
    let mut writer = Writer::tagged(out, tag.byte());
    let mut other = Vec::new();
    for (code, value) in fields.iter() {
        other.clear();
        let is_other = text(code, value, &mut other);
        writer
            .u8(code)
            .string(if is_other { &other } else { value });
    }
    writer.u8(0).finish()
}

/// Appends a copy of the whole DataRows at the front of `input`, byte for byte, but with NUL for
/// whatever is not a value: where one ends can be seen, and the next begins.
///
/// Ends with the first message that is another, not whole, or not well-formed, and before the copy
/// is longer than `bytes_max`; one row is copied however long it is.
pub fn copy_values_of_rows(input: &[u8], bytes_max: usize, out: &mut Vec<u8>) {
    let mut reader = Reader::new(input);
    let before = out.len();
    loop {
        let start = out.len();
        let has_enough = start > before && start.saturating_sub(before) >= bytes_max;
        if has_enough || copy_values_of_row(&mut reader, out).is_err() {
            out.truncate(start);
            return;
        }
    }
}

fn copy_values_of_row(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    if reader.u8()? != BackendTag::DataRow.byte() {
        return Err(Malformed::Truncated);
    }
    let length = usize::try_from(reader.u32()?).map_err(|_| Malformed::Truncated)?;
    let body = reader.bytes(length.checked_sub(4).ok_or(Malformed::Truncated)?)?;
    let mut body = Reader::new(body);
    let count = body.u16()?;
    out.extend_from_slice(&[0; HEADER_BYTES + 2]);
    for _ in 0..count {
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(body.nullable()?.unwrap_or_default());
    }
    body.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::backend::{encode_command_complete, encode_data_row};

    #[test]
    fn what_stands_between_values_is_nul_and_nothing_moves() {
        let mut input = Vec::new();
        encode_data_row(&mut input, &[Some(b"one"), None, Some(b"")]).unwrap();
        encode_data_row(&mut input, &[Some(b"two")]).unwrap();
        let rows = input.len();
        encode_command_complete(&mut input, b"SELECT 2").unwrap();
        let mut out = Vec::new();
        copy_values_of_rows(&input, usize::MAX, &mut out);
        assert_eq!(out.len(), rows);
        let shown: Vec<u8> = out.iter().copied().filter(|byte| *byte != 0).collect();
        assert_eq!(shown, b"onetwo");
        for (copied, byte) in out.iter().zip(&input) {
            assert!(*copied == 0 || copied == byte);
        }
    }

    #[test]
    fn rows_that_are_not_whole_or_not_well_formed_are_left() {
        let mut input = Vec::new();
        encode_data_row(&mut input, &[Some(b"one")]).unwrap();
        let first = input.len();
        encode_data_row(&mut input, &[Some(b"two")]).unwrap();
        let mut out = Vec::new();
        for cut in first..input.len() {
            out.clear();
            copy_values_of_rows(&input[..cut], usize::MAX, &mut out);
            assert_eq!(out.len(), first, "cut at {cut}");
        }
        input[first + 10] += 1;
        out.clear();
        copy_values_of_rows(&input, usize::MAX, &mut out);
        assert_eq!(out.len(), first);
        out.clear();
        copy_values_of_rows(&input, 1, &mut out);
        assert_eq!(out.len(), first);
    }
}
