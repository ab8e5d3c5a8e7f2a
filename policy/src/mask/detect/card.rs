//! Payment card numbers: a scheme's prefix and length, the check digit, a layout that is printed.
//!
//! Spec: ISO/IEC 7812-1, "Identification cards"; annex B for the check digit (Luhn).

use std::ops::Range;

use super::text::{Text, is_digit};

/// Digits of the longest number.
const DIGITS: usize = 19;

/// Groups of the layout with the most of them: 4-4-4-4-3.
const GROUPS: usize = 5;

/// How numbers are written in groups. One group is any length that a scheme has.
const LAYOUTS: &[&[usize]] = &[
    &[4, 4, 4, 4],
    &[4, 6, 5],
    &[4, 6, 4],
    &[4, 4, 4, 4, 3],
    &[4, 4, 4, 4, 2],
    &[4, 4, 4, 4, 1],
    &[4, 4, 5],
    &[4, 4, 4, 1],
    &[4, 3, 3, 3],
    &[4, 4, 4],
    &[8, 8],
    &[6, 13],
];

/// Digits of the shortest number.
const DIGITS_MIN: usize = 12;

/// Digits of the longest prefix.
const PREFIX: u32 = 6;

/// A scheme: from the lowest to the highest number that six digits begin with, and the lengths that
/// it issues, one bit to each.
struct Scheme {
    from: u32,
    to: u32,
    lengths: u32,
}

/// The prefixes from and to are of so many digits.
const fn scheme(digits: u32, from: u32, to: u32, lengths: u32) -> Scheme {
    let scale = 10u32.pow(PREFIX - digits);
    Scheme {
        from: from * scale,
        to: (to + 1) * scale - 1,
        lengths,
    }
}

const fn lengths(lengths: &[u32]) -> u32 {
    let (mut bits, mut rest) = (0, lengths);
    while let [length, tail @ ..] = rest {
        bits |= 1 << *length;
        rest = tail;
    }
    bits
}

const SIXTEEN_UP: u32 = lengths(&[16, 17, 18, 19]);
const TWELVE_UP: u32 = lengths(&[12, 13, 14, 15, 16, 17, 18, 19]);

/// The ranges of issuers in use. Left out: UATP (15 digits from 1, too much else looks so), and
/// schemes that ended (Laser, Solo, Switch).
const SCHEMES: &[Scheme] = &[
    scheme(1, 4, 4, lengths(&[13, 16, 19])),             // Visa
    scheme(2, 51, 55, lengths(&[16])),                   // Mastercard
    scheme(4, 2221, 2720, lengths(&[16])),               // Mastercard
    scheme(2, 34, 34, lengths(&[15])),                   // American Express
    scheme(2, 37, 37, lengths(&[15])),                   // American Express
    scheme(4, 6011, 6011, SIXTEEN_UP),                   // Discover
    scheme(3, 644, 649, SIXTEEN_UP),                     // Discover
    scheme(2, 65, 65, SIXTEEN_UP),                       // Discover, RuPay
    scheme(3, 300, 305, lengths(&[14, 16])),             // Diners Club
    scheme(4, 3095, 3095, lengths(&[14, 16])),           // Diners Club
    scheme(2, 36, 36, lengths(&[14, 16])),               // Diners Club
    scheme(2, 38, 39, lengths(&[14, 16])),               // Diners Club
    scheme(4, 3528, 3589, SIXTEEN_UP),                   // JCB
    scheme(2, 62, 62, SIXTEEN_UP),                       // UnionPay
    scheme(4, 8100, 8171, SIXTEEN_UP),                   // UnionPay
    scheme(4, 5018, 5018, TWELVE_UP),                    // Maestro
    scheme(4, 5020, 5020, TWELVE_UP),                    // Maestro
    scheme(4, 5038, 5038, TWELVE_UP),                    // Maestro
    scheme(4, 5893, 5893, TWELVE_UP),                    // Maestro
    scheme(4, 6304, 6304, TWELVE_UP),                    // Maestro
    scheme(4, 6759, 6759, TWELVE_UP),                    // Maestro
    scheme(4, 6761, 6763, TWELVE_UP),                    // Maestro
    scheme(4, 2200, 2204, SIXTEEN_UP),                   // Mir
    scheme(2, 60, 60, lengths(&[16])),                   // RuPay, Hipercard
    scheme(3, 508, 508, lengths(&[16])),                 // RuPay
    scheme(2, 82, 82, lengths(&[16])),                   // RuPay
    scheme(4, 9792, 9792, lengths(&[16])),               // Troy
    scheme(3, 506, 506, lengths(&[16, 18, 19])),         // Verve, Elo
    scheme(3, 509, 509, lengths(&[16])),                 // Elo
    scheme(4, 5041, 5041, lengths(&[16])),               // Elo
    scheme(6, 507_865, 507_964, lengths(&[16, 18, 19])), // Verve
    scheme(4, 5019, 5019, lengths(&[16])),               // Dankort
    scheme(4, 8600, 8600, lengths(&[16])),               // Uzcard
    scheme(4, 9860, 9860, lengths(&[16])),               // Humo
];

/// The number whose first digit is at `start`.
pub(super) fn at(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    begins(text, start).then(|| read(text, start)).flatten()
}

/// As [`at`], whatever stands before it.
pub(super) fn read(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    let first = text.run(start, DIGITS + 1, is_digit);
    let divided = is_separator(text.at(first)) && is_digit(text.at(first + 1));
    if first - start < DIGITS_MIN && !(divided && matches!(first - start, 4 | 6 | 8)) {
        return None;
    }
    let mut digits = [0; DIGITS];
    let mut count = 0;
    let mut groups = [0; GROUPS];
    let mut separator = None;
    let mut place = start;
    let mut end = None;
    for number in 0..GROUPS {
        let close = text.run(place, DIGITS + 1 - count, is_digit);
        if is_digit(text.at(close)) || close - place > DIGITS - count {
            break;
        }
        for byte in text.between(place, close) {
            *digits.get_mut(count)? = byte - b'0';
            count += 1;
        }
        *groups.get_mut(number)? = close - place;
        let groups = groups.get(..=number)?;
        let digits = digits.get(..count)?;
        if digits.len() >= DIGITS_MIN
            && luhn(digits)
            && issued(digits)
            && (number == 0 || LAYOUTS.contains(&groups))
            && ends(text, close)
        {
            end = Some(close);
        }
        let next = text.at(close);
        if !is_separator(next)
            || *separator.get_or_insert(next) != next
            || !is_digit(text.at(close + 1))
        {
            break;
        }
        place = close + 1;
    }
    end.map(|end| start..end)
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.')
}

/// Not inside of a word, and not the fraction of a number.
fn begins(text: Text<'_>, start: usize) -> bool {
    let fraction = matches!(text.before(start), b'.' | b',')
        && start
            .checked_sub(1)
            .is_some_and(|dot| is_digit(text.before(dot)));
    !fraction && text.opens_after_letters(start)
}

/// Not inside of a word; a fraction of zeros may follow (`numeric` shows its scale).
fn ends(text: Text<'_>, end: usize) -> bool {
    let next = text.at(end);
    if next == b'.' && is_digit(text.at(end + 1)) {
        let zeros = text.run(end + 1, DIGITS, |byte| byte == b'0');
        return zeros > end + 1 && !text.at(zeros).is_ascii_alphanumeric();
    }
    !next.is_ascii_alphanumeric()
}

fn issued(digits: &[u8]) -> bool {
    let head = digits.iter().take(usize::try_from(PREFIX).unwrap_or(0));
    let prefix = head.fold(0, |prefix, digit| prefix * 10 + u32::from(*digit));
    SCHEMES.iter().any(|scheme| {
        (scheme.from..=scheme.to).contains(&prefix) && scheme.lengths >> digits.len() & 1 == 1
    })
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(*digit) << (place & 1);
            if digit > 9 { digit - 9 } else { digit }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let start = text.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
        let found = at(Text(text.as_bytes()), start).map(|span| &text[span]);
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn numbers_of_every_scheme_are_found() {
        for number in [
            "4111111111111111",
            "4222222222222",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "6011111111111117",
            "30569309025904",
            "36227206271667",
            "3530111333300000",
            "6200000000000005",
            "6304000000000000",
            "2200000000000004",
            "6521111111111110",
            "9792000000000003",
        ] {
            check(number, Some(number));
        }
    }

    #[test]
    fn groups_are_read_as_printed() {
        check("4111 1111 1111 1111", Some("4111 1111 1111 1111"));
        check("4111-1111-1111-1111 12/27", Some("4111-1111-1111-1111"));
        check("3782 822463 10005", Some("3782 822463 10005"));
        check("4111.1111.1111.1111", Some("4111.1111.1111.1111"));
        check("4111 1111 1111 1111 123", Some("4111 1111 1111 1111"));
        check("4111 1111-1111 1111", None);
        check("41 11 11 11 11 11 11 11", None);
    }

    #[test]
    fn a_wrong_check_digit_prefix_or_length_is_left_alone() {
        check("4111111111111112", None);
        check("1111111111111117", None);
        check("411111111111111", None);
        check("411111111111111111111", None);
        check("1700000000000", None);
    }

    #[test]
    fn a_part_of_a_word_or_number_is_left_alone() {
        check("4111111111111111a", None);
        check("4111111111111111.25", None);
        check("4111111111111111.00", Some("4111111111111111"));
        check("PAN4111111111111111", Some("4111111111111111"));
        check("\\n4111111111111111", Some("4111111111111111"));
        let fraction = Text(b"0.4111111111111111");
        assert_eq!(at(fraction, 2), None);
        assert_eq!(at(Text(b"a14111111111111111"), 2), None);
    }
}
