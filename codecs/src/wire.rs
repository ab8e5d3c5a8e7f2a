//! Reader and writer over byte slices: the only place where offsets are computed.

use std::ffi::CStr;

use thiserror::Error;

/// Why the body of a message is not what its name promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    #[error("ends inside a field")]
    Truncated,
    #[error("has a string without a terminator")]
    Unterminated,
    #[error("has {bytes} bytes after its last field")]
    Surplus { bytes: usize },
    #[error("has a negative length or count {value}")]
    Negative { value: i32 },
    #[error("has the undefined value {value} in a field")]
    Undefined { value: i32 },
    #[error("counts {counted} where {expected} belong")]
    CountMismatch { counted: usize, expected: usize },
    #[error("names a thing twice")]
    Duplicate,
    #[error("has more than {limit} entries")]
    TooMany { limit: usize },
    #[error("lacks a field it must have")]
    Missing,
    #[error("is not text where text belongs")]
    NotText,
}

/// Takes fields off the front of a message body.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    #[inline]
    pub fn new(body: &'b [u8]) -> Self {
        Self { rest: body }
    }

    /// What has not been taken yet.
    #[inline]
    pub fn rest(&self) -> &'b [u8] {
        self.rest
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub fn bytes(&mut self, count: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    /// A string up to its NUL, which is taken and not returned.
    #[inline]
    pub fn string(&mut self) -> Result<&'b [u8], Malformed> {
        let text = CStr::from_bytes_until_nul(self.rest).map_err(|_| Malformed::Unterminated)?;
        let text = text.to_bytes();
        self.bytes(text.len())?;
        self.u8()?;
        Ok(text)
    }

    /// A value behind its Int32 length, where -1 means NULL.
    #[inline]
    pub fn nullable(&mut self) -> Result<Option<&'b [u8]>, Malformed> {
        let announced = self.i32()?;
        if announced == -1 {
            return Ok(None);
        }
        let count =
            usize::try_from(announced).map_err(|_| Malformed::Negative { value: announced })?;
        self.bytes(count).map(Some)
    }

    /// Refuses a count before anything iterates over it: `count` entries of at least `each` bytes
    /// cannot be in what is left.
    #[inline]
    pub fn expect_entries(&self, count: u16, each: usize) -> Result<(), Malformed> {
        if usize::from(count).saturating_mul(each) > self.rest.len() {
            return Err(Malformed::Truncated);
        }
        Ok(())
    }

    /// Ends the reading: nothing may be left.
    #[inline]
    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Surplus {
                bytes: self.rest.len(),
            })
        }
    }
}

/// Why a message of ours cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeError {
    #[error("a string has a NUL byte")]
    ContainsNul,
    #[error("a length or count does not fit its field")]
    TooLong,
}

/// Appends one message to a buffer and fills in its length.
///
/// After an error the buffer holds what it held before [`Writer::tagged`] or [`Writer::untagged`].
#[derive(Debug)]
pub struct Writer<'v> {
    out: &'v mut Vec<u8>,
    start: usize,
    length_at: usize,
    failed: Option<EncodeError>,
}

impl<'v> Writer<'v> {
    /// Starts a message with a tag.
    #[inline]
    pub fn tagged(out: &'v mut Vec<u8>, tag: u8) -> Self {
        let start = out.len();
        out.push(tag);
        Self::with_length(out, start)
    }

    /// Starts a message without a tag (start-up packets).
    #[inline]
    pub fn untagged(out: &'v mut Vec<u8>) -> Self {
        let start = out.len();
        Self::with_length(out, start)
    }

    #[inline]
    fn with_length(out: &'v mut Vec<u8>, start: usize) -> Self {
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        Self {
            out,
            start,
            length_at,
            failed: None,
        }
    }

    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    #[inline]
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    #[inline]
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    #[inline]
    pub fn i16(&mut self, value: i16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    #[inline]
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    #[inline]
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// A string and its terminator.
    #[inline]
    pub fn string(&mut self, text: &[u8]) -> &mut Self {
        if text.contains(&0) {
            self.failed = self.failed.or(Some(EncodeError::ContainsNul));
        }
        self.bytes(text).u8(0)
    }

    /// An Int16 count.
    #[inline]
    pub fn count16(&mut self, count: usize) -> &mut Self {
        match u16::try_from(count) {
            Ok(count) => self.u16(count),
            Err(_) => {
                self.failed = self.failed.or(Some(EncodeError::TooLong));
                self
            }
        }
    }

    /// A value behind its Int32 length; `None` is written as length -1.
    #[inline]
    pub fn nullable(&mut self, value: Option<&[u8]>) -> &mut Self {
        let Some(value) = value else {
            return self.i32(-1);
        };
        match i32::try_from(value.len()) {
            Ok(length) => self.i32(length).bytes(value),
            Err(_) => {
                self.failed = self.failed.or(Some(EncodeError::TooLong));
                self
            }
        }
    }

    /// Writes the length of the whole.
    ///
    /// # Errors
    /// The first thing that could not be written; nothing of the message stays in the buffer.
    #[inline]
    pub fn finish(&mut self) -> Result<(), EncodeError> {
        let length = i32::try_from(self.out.len().saturating_sub(self.length_at))
            .map_err(|_| EncodeError::TooLong);
        let outcome = match (self.failed, length) {
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok(length)) => {
                let field = self.length_at..self.length_at.saturating_add(4);
                match self.out.get_mut(field) {
                    Some(field) => field.copy_from_slice(&length.to_be_bytes()),
                    None => return Err(EncodeError::TooLong),
                }
                Ok(())
            }
        };
        if outcome.is_err() {
            self.out.truncate(self.start);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_one_byte_short_is_refused() {
        assert_eq!(Reader::new(&[0, 0, 1]).u32(), Err(Malformed::Truncated));
        assert_eq!(Reader::new(&[0, 0, 1, 0]).u32(), Ok(256));
        assert_eq!(Reader::new(&[7]).u16(), Err(Malformed::Truncated));
        assert_eq!(Reader::new(&[]).u8(), Err(Malformed::Truncated));
    }

    #[test]
    fn a_string_needs_its_terminator() {
        assert_eq!(Reader::new(b"abc").string(), Err(Malformed::Unterminated));
        let mut reader = Reader::new(b"abc\0d");
        assert_eq!(reader.string(), Ok(&b"abc"[..]));
        assert_eq!(reader.rest(), b"d");
        assert_eq!(reader.finish(), Err(Malformed::Surplus { bytes: 1 }));
    }

    #[test]
    fn minus_one_is_null_and_minus_two_is_refused() {
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff]).nullable(), Ok(None));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xfe]).nullable(),
            Err(Malformed::Negative { value: -2 })
        );
        assert_eq!(Reader::new(&[0, 0, 0, 0]).nullable(), Ok(Some(&b""[..])));
        assert_eq!(
            Reader::new(&[0, 0, 0, 2, 1]).nullable(),
            Err(Malformed::Truncated)
        );
    }

    #[test]
    fn a_count_is_believed_only_up_to_what_is_there() {
        let reader = Reader::new(&[0; 8]);
        assert_eq!(reader.expect_entries(2, 4), Ok(()));
        assert_eq!(reader.expect_entries(3, 4), Err(Malformed::Truncated));
        assert_eq!(
            reader.expect_entries(u16::MAX, usize::MAX),
            Err(Malformed::Truncated)
        );
    }

    #[test]
    fn a_string_with_nul_leaves_the_buffer_as_it_was() {
        let mut out = b"before".to_vec();
        let outcome = Writer::tagged(&mut out, b'Q').string(b"a\0b").finish();
        assert_eq!(outcome, Err(EncodeError::ContainsNul));
        assert_eq!(out, b"before");
    }

    #[test]
    fn the_length_counts_itself_and_not_the_tag() {
        let mut out = Vec::new();
        Writer::tagged(&mut out, b'Q')
            .string(b"ab")
            .finish()
            .unwrap();
        assert_eq!(out, b"Q\0\0\0\x07ab\0");
        out.clear();
        Writer::untagged(&mut out).u32(1).finish().unwrap();
        assert_eq!(out, [0, 0, 0, 8, 0, 0, 0, 1]);
    }

    #[test]
    fn a_count_past_sixteen_bits_is_refused() {
        let mut out = Vec::new();
        assert_eq!(
            Writer::tagged(&mut out, b'B').count16(65_535).finish(),
            Ok(())
        );
        out.clear();
        let outcome = Writer::tagged(&mut out, b'B').count16(65_536).finish();
        assert_eq!(outcome, Err(EncodeError::TooLong));
        assert!(out.is_empty());
    }
}
