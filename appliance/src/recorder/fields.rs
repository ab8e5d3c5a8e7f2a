//! Tagged fields: the encoding inside a record.
//!
//! Knows no record kinds. A field is a tag byte, a length and that many bytes, so that a reader
//! steps over tags that it does not know; a list is a tag that repeats. Lengths and numbers are
//! LEB128: seven bits a byte, lowest first, the top bit set on all but the last.

use thiserror::Error;

/// Longest encoding of a number: ten times seven bits hold 64.
pub(super) const VARINT_BYTES_MAX: usize = 10;

/// Why bytes are not a list of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FieldError {
    #[error("a field is cut off")]
    Truncated,
    #[error("a number is longer than 64 bits")]
    Number,
    #[error("field {tag} is not text")]
    NotText { tag: u8 },
    #[error("field {tag} is missing")]
    Missing { tag: u8 },
    #[error("field {tag} has a value that is not known")]
    UnknownValue { tag: u8 },
}

/// Appends a field of bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    put_varint(out, u64::try_from(value.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(value);
}

/// Appends a text field of at most `bytes_max` bytes, cut between characters.
pub(super) fn put_text(out: &mut Vec<u8>, tag: u8, value: &str, bytes_max: usize) {
    let end = value.floor_char_boundary(bytes_max);
    put_bytes(out, tag, value.get(..end).unwrap_or_default().as_bytes());
}

/// Appends a text field unless there is none.
pub(super) fn put_optional(out: &mut Vec<u8>, tag: u8, value: Option<&str>, bytes_max: usize) {
    if let Some(value) = value {
        put_text(out, tag, value, bytes_max);
    }
}

/// Appends a number field.
pub(super) fn put_number(out: &mut Vec<u8>, tag: u8, value: u64) {
    out.push(tag);
    put_varint(out, varint(value).fold(0, |count, _| count + 1));
    put_varint(out, value);
}

fn put_varint(out: &mut Vec<u8>, value: u64) {
    out.extend(varint(value));
}

/// A number as it is encoded.
#[inline]
pub(super) fn varint(value: u64) -> impl Iterator<Item = u8> {
    let mut left = Some(value);
    std::iter::from_fn(move || {
        let value = left?;
        let [low, ..] = (value & 0x7f).to_le_bytes();
        left = (value > 0x7f).then_some(value >> 7);
        Some(low | if left.is_some() { 0x80 } else { 0 })
    })
}

/// One field, borrowed from the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'b> {
    pub(super) tag: u8,
    pub(super) value: &'b [u8],
}

impl<'b> Field<'b> {
    pub(super) fn text(&self) -> Result<&'b str, FieldError> {
        std::str::from_utf8(self.value).map_err(|_| FieldError::NotText { tag: self.tag })
    }

    pub(super) fn string(&self) -> Result<String, FieldError> {
        self.text().map(str::to_owned)
    }

    pub(super) fn number(&self) -> Result<u64, FieldError> {
        let (value, rest) = take_varint(self.value)?;
        if rest.is_empty() {
            Ok(value)
        } else {
            Err(FieldError::Number)
        }
    }
}

/// Walks the fields of a record. Ends after the first error.
pub(super) struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self) -> Result<Field<'b>, FieldError> {
        let (tag, rest) = self.rest.split_first().ok_or(FieldError::Truncated)?;
        let (length, rest) = take_varint(rest)?;
        let length = usize::try_from(length).map_err(|_| FieldError::Truncated)?;
        let (value, rest) = rest.split_at_checked(length).ok_or(FieldError::Truncated)?;
        self.rest = rest;
        Ok(Field { tag: *tag, value })
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<Field<'b>, FieldError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = self.take();
        if taken.is_err() {
            self.rest = &[];
        }
        Some(taken)
    }
}

fn take_varint(bytes: &[u8]) -> Result<(u64, &[u8]), FieldError> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(VARINT_BYTES_MAX) {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * index;
        // The tenth byte has room for one bit only.
        if shift == 63 && bits > 1 {
            return Err(FieldError::Number);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok((value, bytes.get(index + 1..).unwrap_or_default()));
        }
    }
    Err(if bytes.len() < VARINT_BYTES_MAX {
        FieldError::Truncated
    } else {
        FieldError::Number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_at_the_edges_of_each_length() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            u64::from(u32::MAX),
            u64::MAX - 1,
            u64::MAX,
        ] {
            let mut out = Vec::new();
            put_number(&mut out, 9, value);
            let field = Fields::new(&out).next().unwrap().unwrap();
            assert_eq!((field.tag, field.number()), (9, Ok(value)));
        }
    }

    #[test]
    fn a_number_of_65_bits_is_refused() {
        let sixty_five_bits = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(take_varint(&sixty_five_bits), Err(FieldError::Number));
        assert_eq!(take_varint(&[0x80; 11]), Err(FieldError::Number));
        assert_eq!(take_varint(&[0x80; 9]), Err(FieldError::Truncated));
        assert_eq!(take_varint(&[]), Err(FieldError::Truncated));
    }

    #[test]
    fn no_prefix_of_fields_reads_as_more_than_it_is() {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, b"abc");
        put_text(&mut out, 2, "grüße", 4);
        let whole: Vec<_> = Fields::new(&out).collect::<Result<_, _>>().unwrap();
        let expected = [
            Field {
                tag: 1,
                value: b"abc",
            },
            Field {
                tag: 2,
                value: "grü".as_bytes(),
            },
        ];
        assert_eq!(whole, expected);
        for end in 0..out.len() {
            let read: Vec<_> = Fields::new(&out[..end]).collect();
            let is_boundary = end == 0 || end == 5;
            assert_eq!(
                read.iter().all(Result::is_ok),
                is_boundary,
                "prefix of {end} bytes"
            );
        }
    }

    #[test]
    fn a_length_beyond_the_record_is_refused() {
        let mut bytes = vec![1];
        put_varint(&mut bytes, u64::MAX);
        bytes.push(0);
        assert_eq!(Fields::new(&bytes).next(), Some(Err(FieldError::Truncated)));
    }
}
