//! US social security numbers: three, two and four digits, of ranges that are issued.
//!
//! Spec: Social Security Administration, "Social Security Number Randomization".

use std::ops::Range;

use super::text::{Text, is_digit};

/// Length in groups.
const GROUPED: usize = 11;

/// Length without.
const BARE: usize = 9;

/// The number whose first digit is at `start`, in groups.
pub(super) fn at(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    let tail = text.before(start) == b'-' && text.before(start - 1).is_ascii_alphanumeric();
    (text.opens_after_letters(start) && !tail)
        .then(|| read(text, start))
        .flatten()
}

/// As [`at`], whatever stands before it.
pub(super) fn read(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    let separator = text.at(start + 3);
    if !matches!(separator, b'-' | b' ') || text.at(start + 6) != separator {
        return None;
    }
    let end = start + GROUPED;
    let tail = text.at(end) == b'-' && text.at(end + 1).is_ascii_alphanumeric();
    let alone = !text.at(end).is_ascii_alphanumeric() && !tail;
    let valid = is_issued(
        text.between(start, start + 3),
        text.between(start + 4, start + 6),
        text.between(start + 7, end),
    );
    (alone && valid).then_some(start..end)
}

/// Nine digits at `start`, where a word not far before them says what they are.
pub(super) fn announced(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    text.opens(start).then(|| bare(text, start)).flatten()
}

/// As [`announced`], whatever stands right before them.
pub(super) fn bare(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    let end = text.run(start, BARE + 1, is_digit);
    let valid = end - start == BARE
        && !text.at(end).is_ascii_alphanumeric()
        && is_announced(text, start)
        && is_issued(
            text.between(start, start + 3),
            text.between(start + 3, start + 5),
            text.between(start + 5, end),
        );
    valid.then_some(start..end)
}

fn is_announced(text: Text<'_>, start: usize) -> bool {
    /// Bytes before the number in which the word stands.
    const NEAR: usize = 40;
    let before = text.between(start.saturating_sub(NEAR), start);
    let says = |word: &[u8]| {
        before
            .windows(word.len())
            .any(|window| window.eq_ignore_ascii_case(word))
    };
    says(b"ssn") || says(b"social sec") || says(b"social_sec")
}

fn is_issued(area: &[u8], group: &[u8], serial: &[u8]) -> bool {
    let digits = |part: &[u8], length| part.len() == length && part.iter().all(u8::is_ascii_digit);
    digits(area, 3)
        && digits(group, 2)
        && digits(serial, 4)
        && !matches!(area, b"000" | b"666" | [b'9', ..])
        && group != b"00"
        && serial != b"0000"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, start: usize, found: bool) {
        assert_eq!(at(Text(text.as_bytes()), start).is_some(), found, "{text}");
    }

    #[test]
    fn issued_numbers_are_found() {
        check("123-45-6789", 0, true);
        check("123 45 6789", 0, true);
        check("SSN 899-99-9999.", 4, true);
        assert!(announced(Text(b"ssn: 123456789"), 5).is_some());
        assert!(announced(Text(b"123456789"), 0).is_none());
    }

    #[test]
    fn what_was_never_issued_is_left_alone() {
        for text in [
            "000-12-3456",
            "666-12-3456",
            "900-12-3456",
            "123-00-4567",
            "123-45-0000",
        ] {
            check(text, 0, false);
        }
    }

    #[test]
    fn a_part_of_something_longer_is_left_alone() {
        check("123-45-67890", 0, false);
        check("123-45-6789-1", 0, false);
        check("9-123-45-6789", 2, false);
        check("123-45 6789", 0, false);
        check("a1123-45-6789", 2, false);
        assert!(announced(Text(b"ssn: 1234567890"), 5).is_none());
    }
}
