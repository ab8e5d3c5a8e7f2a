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
    let separator = text.at(start + 3);
    if !matches!(separator, b'-' | b' ') || text.at(start + 6) != separator {
        return None;
    }
    let end = start + GROUPED;
    let glued = |byte: u8, beyond: u8| byte == b'-' && beyond.is_ascii_alphanumeric();
    let alone = text.opens_after_letters(start)
        && !text.at(end).is_ascii_alphanumeric()
        && !glued(text.at(end), text.at(end + 1))
        && !glued(text.before(start), text.before(start.saturating_sub(1)));
    let valid = is_issued(
        text.between(start, start + 3),
        text.between(start + 4, start + 6),
        text.between(start + 7, end),
    );
    (alone && valid).then_some(start..end)
}

/// Nine digits at `start`, of which a word before them says what they are.
fn bare(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    let end = text.run(start, BARE + 1, is_digit);
    let valid = end - start == BARE
        && !text.at(end).is_ascii_alphanumeric()
        && is_issued(
            text.between(start, start + 3),
            text.between(start + 3, start + 5),
            text.between(start + 5, end),
        );
    valid.then_some(start..end)
}

/// The number that the word at `word` announces: nine digits not far behind it.
pub(super) fn after_word(text: Text<'_>, word: usize) -> Option<Range<usize>> {
    /// Bytes between the word and the number.
    const GAP: usize = 40;
    let start = text.run(word, GAP, |byte| {
        byte.is_ascii_alphabetic() || b" _:=\"'#.-\\>|\t".contains(&byte)
    });
    text.opens(start).then(|| bare(text, start)).flatten()
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
        assert!(bare(Text(b"123456789"), 0).is_some());
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
        assert!(bare(Text(b"1234567890"), 0).is_none());
    }
}
