//! International bank account numbers: a country, its length, and the check digits.
//!
//! Spec: ISO 13616-1, "IBAN Registry"; ISO 7064 for the check digits (MOD 97-10).

use std::ops::Range;

use super::text::Text;

/// Letters and digits of the longest number.
const LONGEST: usize = 34;

/// Countries of the registry, and of the experimental list that banks use, with their lengths; in
/// order.
const COUNTRIES: &[(&[u8; 2], u8)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AO", 25),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BF", 28),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BJ", 28),
    (b"BR", 29),
    (b"BY", 28),
    (b"CF", 27),
    (b"CG", 27),
    (b"CH", 21),
    (b"CI", 28),
    (b"CM", 27),
    (b"CR", 22),
    (b"CV", 25),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"DZ", 26),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GA", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GQ", 27),
    (b"GR", 27),
    (b"GT", 28),
    (b"GW", 25),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IR", 26),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KM", 27),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MA", 28),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MG", 27),
    (b"MK", 19),
    (b"ML", 28),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"MZ", 25),
    (b"NE", 28),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SN", 28),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TD", 27),
    (b"TG", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// The number whose country is at `start`.
pub(super) fn at(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    text.opens(start).then(|| read(text, start)).flatten()
}

/// As [`at`], whatever stands before it.
pub(super) fn read(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    // A UUID looks so as well, but for its dashes.
    let next = text.at(start + 4);
    if next != b' ' && !next.is_ascii_alphanumeric() {
        return None;
    }
    let length = length_of(text.at(start), text.at(start + 1))?;
    let mut letters = [0; LONGEST];
    let mut place = start;
    let grouped = next == b' ';
    for (number, letter) in letters.iter_mut().take(length).enumerate() {
        let may_divide = grouped && number > 0 && number.is_multiple_of(4);
        if may_divide && text.at(place) == b' ' {
            place += 1;
        }
        *letter = text.at(place);
        if !letter.is_ascii_alphanumeric() {
            return None;
        }
        place += 1;
    }
    let valid = !text.at(place).is_ascii_alphanumeric() && checks(letters.get(..length)?);
    valid.then_some(start..place)
}

/// The length of the numbers of a country.
fn length_of(first: u8, second: u8) -> Option<usize> {
    let country = [first.to_ascii_uppercase(), second.to_ascii_uppercase()];
    let place = COUNTRIES.binary_search_by_key(&country, |(code, _)| **code);
    let (_, length) = COUNTRIES.get(place.ok()?)?;
    Some(usize::from(*length))
}

/// The country and check digits move to the end, letters count from 10, and the remainder is 1.
fn checks(letters: &[u8]) -> bool {
    let Some((head, account)) = letters.split_at_checked(4) else {
        return false;
    };
    let remainder = account.iter().chain(head).fold(0, |remainder, byte| {
        let value = u32::from(*byte);
        if byte.is_ascii_digit() {
            (remainder * 10 + (value - u32::from(b'0'))) % 97
        } else {
            (remainder * 100 + (value & 0x1f) + 9) % 97
        }
    });
    remainder == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(
            at(Text(text.as_bytes()), 0).map(|span| &text[span]),
            expected,
            "{text}"
        );
    }

    #[test]
    fn numbers_of_the_registry_are_found() {
        for text in [
            "GB29NWBK60161331926819",
            "GB29 NWBK 6016 1331 9268 19",
            "DE89370400440532013000",
            "de89370400440532013000",
            "NO9386011117947",
            "MT84MALT011000012345MTLCAST001S",
            "FR1420041010050500013M02606",
            "LC55HEMM000100010012001200023015",
            "DE89 370400440532013000",
        ] {
            check(text, Some(text));
        }
        check(
            "DE89 3704 0044 0532 0130 00.",
            Some("DE89 3704 0044 0532 0130 00"),
        );
    }

    #[test]
    fn countries_are_in_order() {
        assert!(COUNTRIES.is_sorted_by_key(|(code, _)| **code));
    }

    #[test]
    fn what_does_not_check_is_left_alone() {
        check("GB29NWBK60161331926818", None);
        check("ad53-4000-8000-000000000000", None);
        check("ZZ29NWBK60161331926819", None);
        check("GB29NWBK6016133192681", None);
        check("GB29NWBK601613319268190", None);
        check("DE89 370 40044 0532 013000", None);
    }
}
