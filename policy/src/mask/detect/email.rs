//! E-mail addresses, and the passwords that stand before the same sign in URLs.
//!
//! The forms that people have: no quoted local parts, no addresses in brackets.

use std::ops::Range;

use super::text::{LEFT, Text};

/// Longest local part, and how far to the right a domain reaches.
///
/// Spec: RFC 5321, "Size Limits and Minimums".
const LOCAL: usize = 64;
const DOMAIN: usize = 253;

/// Endings of file names that stand where a domain ends: `icon@2x.png` is no address.
const FILES: &[&[u8]] = &[
    b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"css", b"html", b"json",
];

/// The address whose `@` is at `sign`.
pub(super) fn at(text: Text<'_>, sign: usize) -> Option<Range<usize>> {
    let mut start = text.run_back(sign, LOCAL, is_local);
    // Of an escape (`\nalice@`), the letter is no part of the name.
    if text.before(start) == b'\\' && matches!(text.at(start), b'b' | b'f' | b'n' | b'r' | b't') {
        start += 1;
    }
    while matches!(text.at(start), b'.' | b'-' | b'\'') && start < sign {
        start += 1;
    }
    let end = domain(text, sign + 1)?;
    let local = text.between(start, sign);
    // `git@host:path` names a repository.
    let repository = local == b"git" && text.at(end) == b':';
    let valid = local.last().is_some_and(|byte| *byte != b'.') && !repository;
    valid.then_some(start..end)
}

/// Where the domain from `start` ends.
fn domain(text: Text<'_>, start: usize) -> Option<usize> {
    let mut end = text.run(start, DOMAIN, is_domain);
    while end > start && matches!(text.before(end), b'.' | b'-') {
        end -= 1;
    }
    let name = text.between(start, end);
    let last = name.rsplit(|byte| *byte == b'.').next()?;
    let letters = last.len() >= 2
        && (last.starts_with(b"xn--")
            || last
                .iter()
                .all(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii()));
    let labels = name.split(|byte| *byte == b'.');
    let full = labels.clone().all(|label| !label.is_empty()) && labels.count() > 1;
    let file = FILES.iter().any(|file| last.eq_ignore_ascii_case(file));
    (letters && full && !file).then_some(end)
}

/// The password in front of the `@` at `sign`: `scheme://user:password@host`.
pub(super) fn url_password(text: Text<'_>, sign: usize) -> Option<Range<usize>> {
    let is_user = |byte: u8| byte.is_ascii_graphic() && !b"@/?#\"'<>\\`".contains(&byte);
    let start = text.run_back(sign, LEFT - 8, is_user);
    if !text.ends_at(start, b"://") {
        return None;
    }
    let user = text.between(start, sign);
    let colon = user.iter().position(|byte| *byte == b':')?;
    let password = start + colon + 1..sign;
    (!password.is_empty()).then_some(password)
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._%+-'".contains(&byte) || !byte.is_ascii()
}

fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-".contains(&byte) || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let sign = text.find('@').expect("a sign");
        assert_eq!(
            at(Text(text.as_bytes()), sign).map(|span| &text[span]),
            expected,
            "{text}"
        );
    }

    #[test]
    fn addresses_are_found_in_text() {
        check("alice@example.com", Some("alice@example.com"));
        check(
            "<a.b+c@sub.example.co.uk>,",
            Some("a.b+c@sub.example.co.uk"),
        );
        check("mailto:o'neil@example.org.", Some("o'neil@example.org"));
        check("x=\\nbob@example.com", Some("bob@example.com"));
        check("jürgen@münchen.de", Some("jürgen@münchen.de"));
        check("a@xn--mnchen-3ya.de", Some("a@xn--mnchen-3ya.de"));
    }

    #[test]
    fn other_signs_are_left_alone() {
        for text in [
            "@app.route",
            "user@localhost",
            "react@18.2.0",
            "icon@2x.png",
            "git@github.com:org/repo",
            "a@b..com",
            "a.@b.com",
            "a @ b.com",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_url_shows_its_password() {
        let text = "postgres://app:hunter2@db/orders";
        let found = url_password(Text(text.as_bytes()), text.find('@').expect("a sign"));
        assert_eq!(found.map(|span| &text[span]), Some("hunter2"));
        assert_eq!(url_password(Text(b"https://host/a:b@c"), 16), None);
    }
}
