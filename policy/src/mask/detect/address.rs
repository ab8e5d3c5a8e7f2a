//! IP addresses.
//!
//! A version number of four parts looks the same as an IPv4 address. It is taken for a version
//! after `v`, a word that says so or the name of a product and a slash, and for an address otherwise.

use core::net::Ipv6Addr;
use std::ops::Range;

use super::text::{Text, is_digit};

/// Bytes of the longest IPv4 address.
const V4: usize = 15;

/// Bytes of the longest IPv6 address, with an IPv4 tail.
const V6: usize = 45;

/// Words after which four numbers are a version.
const VERSIONS: &[&[u8]] = &[b"version", b"ver", b"v.", b"release", b"build", b"firmware"];

/// The IPv4 address of which a digit before a dot is at `anchor`.
pub(super) fn v4(text: Text<'_>, anchor: usize) -> Option<Range<usize>> {
    let start = text.run_back(anchor, 3, is_digit);
    let mut place = start;
    for part in 0..4 {
        let end = text.run(place, 4, is_digit);
        let number = text
            .between(place, end)
            .iter()
            .fold(0, |number: u32, digit| {
                number * 10 + u32::from(digit - b'0')
            });
        let padded = text.at(place) == b'0' && end - place > 1;
        if end == place || number > 255 || padded {
            return None;
        }
        place = end;
        if part < 3 {
            if text.at(place) != b'.' {
                return None;
            }
            place += 1;
        }
    }
    let next = text.at(place);
    let longer = next.is_ascii_alphanumeric()
        || next == b'_'
        || (matches!(next, b'.' | b'-') && text.at(place + 1).is_ascii_alphanumeric());
    let before = text.before(start);
    let alone = text.opens(start) && !matches!(before, b'.' | b'_') && place - start <= V4;
    (alone && !longer && !says_version(text, start)).then_some(start..place)
}

fn says_version(text: Text<'_>, start: usize) -> bool {
    // `Chrome/1.2.3.4`.
    if start >= 2 && text.before(start) == b'/' && text.before(start - 1).is_ascii_alphabetic() {
        return true;
    }
    let gap = text.run_back(start, 3, |byte| b" :=\"'".contains(&byte));
    VERSIONS.iter().any(|word| {
        gap.checked_sub(word.len())
            .is_some_and(|from| text.between(from, gap).eq_ignore_ascii_case(word))
    })
}

/// The IPv6 address of which a colon is at `anchor`.
pub(super) fn v6(text: Text<'_>, anchor: usize) -> Option<Range<usize>> {
    let of = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let mut start = text.run_back(anchor, V6 + 1, of);
    let mut end = text.run(anchor, V6 + 1, of);
    // Punctuation of the text around it.
    while end > anchor && text.before(end) == b'.' {
        end -= 1;
    }
    if end - anchor > 1 && text.before(end) == b':' && text.at(end - 2) != b':' {
        end -= 1;
    }
    if text.at(start) == b':' && text.at(start + 1) != b':' {
        start += 1;
    }
    if !text.opens(start) || text.at(end).is_ascii_alphanumeric() || end - start > V6 {
        return None;
    }
    let written = text.between(start, end);
    let digits = written
        .iter()
        .filter(|byte| byte.is_ascii_hexdigit())
        .count();
    // `::1`, `a::b`: less than this is more often something else.
    if digits < 4 {
        return None;
    }
    let parsed = std::str::from_utf8(written).ok()?.parse::<Ipv6Addr>();
    parsed.is_ok().then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_v4(text: &str, expected: Option<&str>) {
        let anchor = text.find('.').expect("a dot") - 1;
        assert_eq!(
            v4(Text(text.as_bytes()), anchor).map(|span| &text[span]),
            expected,
            "{text}"
        );
    }

    fn check_v6(text: &str, expected: Option<&str>) {
        let anchor = text.find("::").or_else(|| text.find(':')).expect("a colon");
        assert_eq!(
            v6(Text(text.as_bytes()), anchor).map(|span| &text[span]),
            expected,
            "{text}"
        );
    }

    #[test]
    fn addresses_are_found() {
        check_v4("192.168.1.254", Some("192.168.1.254"));
        check_v4("from 10.0.0.1:5432,", Some("10.0.0.1"));
        check_v4("10.0.0.0/8", Some("10.0.0.0"));
        check_v6("2001:db8::8a2e:370:7334", Some("2001:db8::8a2e:370:7334"));
        check_v6("[fe80::1ff:fe23]:22", Some("fe80::1ff:fe23"));
        check_v6(
            "2001:0db8:85a3:0000:0000:8a2e:0370:7334/64",
            Some("2001:0db8:85a3:0000:0000:8a2e:0370:7334"),
        );
        check_v6("::ffff:192.0.2.128.", Some("::ffff:192.0.2.128"));
    }

    #[test]
    fn versions_times_and_casts_are_left_alone() {
        for text in [
            "v1.2.3.4",
            "version 1.2.3.4",
            "1.2.3.4.5",
            "1.2.3.4-rc1",
            "Chrome/1.2.3.4",
            "256.1.1.1",
            "1.2.3",
            "01.2.3.4",
        ] {
            check_v4(text, None);
        }
        for text in [
            "10:26:19",
            "aa:bb:cc:dd:ee:ff",
            "'a'::text",
            "std::byte",
            "::1",
            "a::b",
            "12:34:56:78:90",
        ] {
            check_v6(text, None);
        }
    }
}
