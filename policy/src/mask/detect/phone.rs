//! Telephone numbers: E.164 with its `+`, North American, and national forms with a trunk zero.
//!
//! Digits without any sign of it are no telephone number here: too much else is ten digits long.
//! Spec: ITU-T E.164, "The international public telecommunication numbering plan".

use std::ops::Range;

use super::text::{Text, is_digit};

/// Digits of the longest number, its country included.
const DIGITS: usize = 15;

/// Digits of the shortest that has a `+`.
const DIGITS_MIN: usize = 8;

/// Bytes of the longest number as written.
const WRITTEN: usize = 32;

/// `+` at `start`, or the bracket of an area code.
pub(super) fn after_sign(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    if text.at(start) == b'(' {
        bracketed(text, start)
    } else {
        international(text, start)
    }
}

/// `+49 (0)30 123456`.
fn international(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    if !text.opens(start) || text.before(start) == b'+' {
        return None;
    }
    let mut digits = [0; DIGITS];
    let mut count = 0;
    let mut place = start + 1;
    let mut end = None;
    while place < start + WRITTEN {
        let byte = text.at(place);
        if is_digit(byte) {
            let Some(digit) = digits.get_mut(count) else {
                break;
            };
            *digit = byte;
            count += 1;
            place += 1;
            if !text.at(place).is_ascii_alphanumeric() && is_e164(digits.get(..count)?) {
                end = Some(place);
            }
        } else if text.between(place, place + 3) == b"(0)" {
            place += 3;
        } else if text.between(place, place + 4) == b" (0)" {
            place += 4;
        } else {
            let next = text.run(place, 2, |byte| {
                matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'/')
            });
            if next == place || !is_digit(text.at(next)) {
                break;
            }
            place = next;
        }
    }
    end.map(|end| start..end)
}

fn is_e164(digits: &[u8]) -> bool {
    if digits.len() < DIGITS_MIN {
        return false;
    }
    match digits {
        [b'1', national @ ..] => is_north_american(national),
        [b'7', ..] => digits.len() == 11,
        [b'2', b'0' | b'7', ..]
        | [b'3', b'0'..=b'4' | b'6' | b'9', ..]
        | [b'4', b'0' | b'1' | b'3'..=b'9', ..]
        | [b'5', b'1'..=b'8', ..]
        | [b'6', b'0'..=b'6', ..]
        | [b'8', b'1' | b'2' | b'4' | b'6', ..]
        | [b'9', b'0'..=b'5' | b'8', ..] => digits.len() > 9,
        [b'2', b'1'..=b'6' | b'9', ..]
        | [b'3', b'5' | b'7' | b'8', ..]
        | [b'4', b'2', ..]
        | [b'5', b'0' | b'9', ..]
        | [b'6', b'7'..=b'9', ..]
        | [b'8', b'0' | b'5' | b'7' | b'8', ..]
        | [b'9', b'6' | b'7' | b'9', ..] => true,
        _ => false,
    }
}

fn is_north_american(digits: &[u8]) -> bool {
    let [area, second, _, exchange, rest @ ..] = digits else {
        return false;
    };
    rest.len() == 6
        && (b'2'..=b'9').contains(area)
        && *second != b'9'
        && (b'2'..=b'9').contains(exchange)
}

/// `(555) 234-5678`, `(020) 7946 0958`.
fn bracketed(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    let close = text.run(start + 1, 6, is_digit);
    if text.at(close) != b')' || !text.opens(start) {
        return None;
    }
    let begin = close + 1 + usize::from(text.at(close + 1) == b' ');
    let (groups, end) = Groups::read(text, begin);
    let mut digits = [0; DIGITS];
    let area = text.between(start + 1, close);
    let count = copy(&mut digits, area.iter().chain(groups.digits()))?;
    let digits = digits.get(..count)?;
    let north_american = groups.lengths() == [3, 4] && area.len() == 3 && is_north_american(digits);
    let trunk = area.first() == Some(&b'0') && is_trunk(digits);
    (north_american || trunk).then_some(start..end)
}

/// The number whose first digit is at `start`, in groups.
pub(super) fn grouped(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    if !text.opens(start) || text.before(start) == b'+' {
        return None;
    }
    let before = text.before(start);
    if matches!(before, b'-' | b'.' | b'/') && is_digit(text.before(start - 1)) {
        // `1-800-...` begins one group earlier; all else is the tail of something longer.
        return match start.checked_sub(2) {
            Some(one) if text.at(one) == b'1' && text.opens(one) && before == b'-' => {
                north_american(text, start).map(|span| one..span.end)
            }
            _ => None,
        };
    }
    read(text, start)
}

/// As [`grouped`], whatever stands before it.
pub(super) fn read(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    north_american(text, start).or_else(|| national(text, start))
}

fn north_american(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    let (groups, end) = Groups::read(text, start);
    let mut digits = [0; DIGITS];
    let count = copy(&mut digits, groups.digits())?;
    (groups.lengths() == [3, 3, 4] && is_north_american(digits.get(..count)?)).then_some(start..end)
}

/// `020 7946 0958`, `06 12 34 56 78`, `0171/1234567`, `07700900123`.
fn national(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    if text.at(start) != b'0' {
        return None;
    }
    let (groups, end) = Groups::read(text, start);
    let mut digits = [0; DIGITS];
    let count = copy(&mut digits, groups.digits())?;
    let digits = digits.get(..count)?;
    let known = match groups.lengths() {
        [_] => is_mobile(digits),
        [_, _, ..] if digits.starts_with(b"00") => is_e164(digits.get(2..)?),
        lengths => lengths.iter().all(|length| *length > 1) && is_trunk(digits),
    };
    known.then_some(start..end)
}

/// A trunk zero and an area that does not begin with another.
fn is_trunk(digits: &[u8]) -> bool {
    matches!(digits, [b'0', b'1'..=b'9', ..]) && (10..=11).contains(&digits.len())
}

/// Without a separator only the ranges of mobile telephones are told from other numbers: British
/// (07), French (06, 07), German (015 to 017).
fn is_mobile(digits: &[u8]) -> bool {
    match digits {
        [b'0', b'7', b'1'..=b'9', ..] if digits.len() == 11 => true,
        [b'0', b'6' | b'7', ..] => digits.len() == 10,
        [b'0', b'1', b'5'..=b'7', ..] => (11..=12).contains(&digits.len()),
        _ => false,
    }
}

fn copy<'d>(to: &mut [u8; DIGITS], from: impl Iterator<Item = &'d u8>) -> Option<usize> {
    let mut count = 0;
    for byte in from {
        *to.get_mut(count)? = *byte;
        count += 1;
    }
    Some(count)
}

/// Digits in groups that one separator divides.
struct Groups {
    digits: [u8; DIGITS],
    count: usize,
    lengths: [usize; Self::MOST],
    groups: usize,
}

impl Groups {
    /// French numbers have five.
    const MOST: usize = 5;

    /// The groups from `start`, and where they end; none when they are the head of something
    /// longer.
    fn read(text: Text<'_>, start: usize) -> (Self, usize) {
        let mut groups = Self {
            digits: [0; DIGITS],
            count: 0,
            lengths: [0; Self::MOST],
            groups: 0,
        };
        let none = |mut groups: Self| {
            groups.groups = 0;
            groups.count = 0;
            (groups, start)
        };
        let mut separator = None;
        let mut place = start;
        loop {
            let close = text.run(place, DIGITS, is_digit);
            for byte in text.between(place, close) {
                let Some(digit) = groups.digits.get_mut(groups.count) else {
                    return none(groups);
                };
                *digit = *byte;
                groups.count += 1;
            }
            let Some(length) = groups.lengths.get_mut(groups.groups) else {
                return none(groups);
            };
            *length = close - place;
            groups.groups += 1;
            let next = text.at(close);
            if next.is_ascii_alphanumeric() {
                return none(groups);
            }
            let divides = matches!(next, b' ' | b'-' | b'.' | b'/') && is_digit(text.at(close + 1));
            if !divides {
                return (groups, close);
            }
            // After the slash or dash of an area code, blanks may follow; no other mixture.
            let first = *separator.get_or_insert(next);
            if first != next && !(groups.groups > 1 && next == b' ' && matches!(first, b'/' | b'-'))
            {
                return if next == b' ' {
                    (groups, close)
                } else {
                    none(groups)
                };
            }
            place = close + 1;
        }
    }

    fn digits(&self) -> impl Iterator<Item = &u8> {
        self.digits.iter().take(self.count)
    }

    fn lengths(&self) -> &[usize] {
        self.lengths.get(..self.groups).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let bytes = Text(text.as_bytes());
        let start = text.find(|c: char| c.is_ascii_digit() || "+(".contains(c));
        let start = start.expect("something to begin with");
        let found = match text.as_bytes()[start] {
            b'+' | b'(' => after_sign(bytes, start),
            _ => grouped(bytes, start),
        };
        assert_eq!(found.map(|span| &text[span]), expected, "{text}");
    }

    #[test]
    fn international_numbers_are_found() {
        for text in [
            "+14155552671",
            "+1 (415) 555-2671",
            "+1-415-555-2671",
            "+442079460958",
            "+44 (0)20 7946 0958",
            "+49 30 123456",
            "+33 6 12 34 56 78",
            "+81-3-1234-5678",
            "+351 912 345 678",
        ] {
            check(text, Some(text));
        }
        check("call +14155552671.", Some("+14155552671"));
    }

    #[test]
    fn national_numbers_are_found() {
        for text in [
            "(415) 555-2671",
            "(415)555-2671",
            "415-555-2671",
            "415.555.2671",
            "415 555 2671",
            "020 7946 0958",
            "(020) 7946 0958",
            "07700 900123",
            "07700900123",
            "06 12 34 56 78",
            "06.12.34.56.78",
            "0612345678",
            "0171 1234567",
            "0171/1234567",
            "01711234567",
            "030-12345678",
            "0049 171 1234567",
        ] {
            check(text, Some(text));
        }
    }

    #[test]
    fn other_numbers_are_left_alone() {
        for text in [
            "+00",
            "+1 000",
            "+12345678",
            "4155552671",
            "1700000000",
            "2026-11-26",
            "01.02.2024",
            "115-555-2671",
            "415-155-2671",
            "415-555-26711",
            "415-555-2671-9",
            "0-306-40615-2",
            "192.168.100.200",
            "0123456789",
            "(3 items)",
            "(2024) 100",
        ] {
            check(text, None);
        }
        assert_eq!(grouped(Text(b"9-415-555-2671"), 2), None);
        assert_eq!(grouped(Text(b"1-415-555-2671"), 2), Some(0..14));
    }
}
