//! Bytes that may be text, read at any offset: what lies outside of them is NUL.
//!
//! Every look to the left is bounded by [`LEFT`], so that what is found depends on the
//! neighbourhood of its place alone: a stream that is cut anywhere gives the same.

/// How far before its anchor a value may begin, its surroundings included.
///
/// Bytes. The longest: the user part of a URL that carries a password.
pub(super) const LEFT: usize = 256;

/// How far after its anchor a value may end.
///
/// Bytes. What a stream holds back for the sake of it; web tokens and private keys, which may be
/// longer, are followed by state ([`super::block`]).
pub(super) const RIGHT: usize = 2048;

#[derive(Clone, Copy)]
pub(super) struct Text<'t>(pub(super) &'t [u8]);

impl<'t> Text<'t> {
    pub(super) fn len(self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn at(self, offset: usize) -> u8 {
        self.0.get(offset).copied().unwrap_or(0)
    }

    #[inline]
    pub(super) fn before(self, offset: usize) -> u8 {
        offset.checked_sub(1).map_or(0, |offset| self.at(offset))
    }

    /// What follows `offset`.
    pub(super) fn from(self, offset: usize) -> &'t [u8] {
        self.0.get(offset..).unwrap_or_default()
    }

    pub(super) fn between(self, start: usize, end: usize) -> &'t [u8] {
        self.0.get(start..end.min(self.0.len())).unwrap_or_default()
    }

    pub(super) fn ends_at(self, end: usize, with: &[u8]) -> bool {
        end.checked_sub(with.len())
            .is_some_and(|start| self.between(start, end) == with)
    }

    /// The end of the run of bytes from `start` that are `of`, at most `most` of them.
    #[inline]
    pub(super) fn run(self, start: usize, most: usize, of: impl Fn(u8) -> bool) -> usize {
        let mut end = start;
        while end - start < most && of(self.at(end)) && end < self.len() {
            end += 1;
        }
        end
    }

    /// The start of the run of bytes up to `end` that are `of`, at most `most` of them.
    #[inline]
    pub(super) fn run_back(self, end: usize, most: usize, of: impl Fn(u8) -> bool) -> usize {
        let mut start = end;
        while end - start < most && start > 0 && of(self.before(start)) {
            start -= 1;
        }
        start
    }

    /// A word may begin at `offset`: no letter or digit stands before it, or only that of an
    /// escape (`\n` in JSON and COPY).
    #[inline]
    pub(super) fn opens(self, offset: usize) -> bool {
        let previous = self.before(offset);
        !previous.is_ascii_alphanumeric()
            || (offset >= 2
                && matches!(previous, b'b' | b'f' | b'n' | b'r' | b't' | b'v')
                && self.before(offset - 1) == b'\\')
    }

    /// As [`Self::opens`]; a word of letters alone may also be glued to what begins here
    /// (`PAN4111...`).
    pub(super) fn opens_after_letters(self, offset: usize) -> bool {
        /// Letters of the longest such word.
        const LETTERS: usize = 12;
        if self.opens(offset) {
            return true;
        }
        let start = self.run_back(offset, LETTERS, |byte| byte.is_ascii_alphabetic());
        start < offset && !self.before(start).is_ascii_alphanumeric() && self.before(start) != b'\\'
    }
}

pub(super) fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}
