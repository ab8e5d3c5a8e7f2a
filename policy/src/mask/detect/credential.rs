//! Secrets of any form, told by the key that they stand next to.
//!
//! A value counts when it looks made up by a machine or chosen as a password: placeholders,
//! ordinary words, dates and counts do not.

use std::ops::Range;

use super::text::Text;

/// What a key says about the value next to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    /// A secret, whatever it looks like.
    Secret,
    /// A token or key: long, and not made of words.
    Token,
    /// As `Token`, with the name of a scheme in between.
    Authorization,
}

/// The end of a key, in lower case: of `password`, `passphrase`, `credentials`, `AccountKey`,
/// `access_key`. They are found by their heads ([`super::literal`]).
struct Word {
    word: &'static [u8],
    telling: Telling,
}

const fn word(word: &'static [u8], telling: Telling) -> Word {
    Word { word, telling }
}

const WORDS: &[Word] = &[
    word(b"ssword", Telling::Secret),
    word(b"sswd", Telling::Secret),
    word(b"sphrase", Telling::Secret),
    word(b"sscode", Telling::Secret),
    word(b"pwd", Telling::Secret),
    word(b"secret", Telling::Secret),
    word(b"edential", Telling::Secret),
    word(b"ntkey", Telling::Secret),
    word(b"sskey", Telling::Secret),
    word(b"ss_key", Telling::Secret),
    word(b"ss-key", Telling::Secret),
    word(b"token", Telling::Token),
    word(b"apikey", Telling::Token),
    word(b"api_key", Telling::Token),
    word(b"api-key", Telling::Token),
    word(b"bearer", Telling::Token),
    word(b"sig=", Telling::Token),
    word(b"uthorization", Telling::Authorization),
];

/// Endings of a longer key after which the value is about the secret, not the secret.
const ABOUT: &[&[u8]] = &[
    b"at",
    b"on",
    b"date",
    b"time",
    b"type",
    b"count",
    b"counts",
    b"policy",
    b"expiry",
    b"expires",
    b"expiration",
    b"length",
    b"len",
    b"url",
    b"uri",
    b"name",
    b"hint",
    b"strength",
    b"required",
    b"enabled",
    b"version",
    b"status",
    b"limit",
    b"usage",
    b"used",
    b"size",
    b"ttl",
    b"file",
    b"path",
    b"changed",
    b"updated",
    b"created",
    b"algorithm",
    b"format",
    b"field",
    b"label",
    b"arn",
    b"endpoint",
];

/// Values that stand where a secret would.
const PLACEHOLDERS: &[&[u8]] = &[
    b"changeme",
    b"example",
    b"required",
    b"optional",
    b"undefined",
    b"redacted",
    b"password",
    b"secret",
    b"placeholder",
    b"default",
    b"disabled",
    b"enabled",
    b"invalid",
    b"missing",
    b"expired",
    b"unknown",
    b"encrypted",
    b"reset",
    b"forgot",
];

/// Bytes of the longest key, after the telling word.
const KEY: usize = 40;

/// Bytes of the longest value.
const VALUE: usize = 1024;

/// Bytes of a value by which it is judged.
const JUDGED: usize = 64;

/// The value next to the telling word at `start`.
pub(super) fn after(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    let word = WORDS.iter().find(|known| {
        text.between(start, start + known.word.len())
            .eq_ignore_ascii_case(known.word)
    })?;
    let mut place = start + word.word.len();
    if word.word != b"sig=" {
        let key = rest_of_key(text, place)?;
        place = assigned(text, key, word.telling)?;
    }
    if word.telling == Telling::Authorization {
        place = scheme(text, place)?;
    }
    let (value, quoted) = value(text, place);
    let written = text.between(value.start, value.end.min(value.start + JUDGED));
    tells(written, word.telling, quoted).then_some(value)
}

/// The end of the key whose telling word ends at `place`; `None` when it tells something else
/// (`secretary`, `tokenizer`, `password_changed_at`).
fn rest_of_key(text: Text<'_>, place: usize) -> Option<usize> {
    let end = text.run(place, KEY, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
    });
    let rest = text.between(place, end);
    let plain = rest
        .strip_prefix(b"s")
        .or_else(|| rest.strip_prefix(b"S"))
        .unwrap_or(rest);
    let same_case = |byte: u8| {
        byte.is_ascii_lowercase()
            || (byte.is_ascii_uppercase() && text.before(place).is_ascii_uppercase())
    };
    let key = plain
        .get(..3)
        .is_some_and(|head| head.eq_ignore_ascii_case(b"key"));
    if plain.first().is_some_and(|byte| same_case(*byte)) && !key {
        return None;
    }
    let last = rest
        .rsplit(|byte| matches!(byte, b'_' | b'-' | b'.'))
        .next()
        .unwrap_or_default();
    // `passwordChangedAt`: the last hump.
    let hump = last
        .iter()
        .rposition(u8::is_ascii_uppercase)
        .filter(|_| last.iter().any(u8::is_ascii_lowercase))
        .and_then(|hump| last.get(hump..))
        .unwrap_or(last);
    let about = ABOUT.iter().any(|about| hump.eq_ignore_ascii_case(about));
    (!about).then_some(end)
}

/// Where the value begins that is assigned to the key that ends at `place`: after `=`, `:`, `=>`,
/// `:=`, `is`, the tag of an element, or a blank and a quote.
fn assigned(text: Text<'_>, place: usize, telling: Telling) -> Option<usize> {
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\t');
    let quoted = skip_quote(text, place);
    let sign = text.run(quoted, 4, is_blank);
    let value = match (text.at(sign), text.at(sign + 1)) {
        (b'=', b'>') | (b':', b'=') => sign + 2,
        (b'=' | b':', _) => sign + 1,
        (b'>', _) if sign == place => sign + 1,
        (b'\'' | b'"', _) if sign > quoted => sign,
        // Of what is said only what looks chosen is taken: a digit in it.
        (b'i', b's') if sign > quoted && is_blank(text.at(sign + 2)) => sign + 2,
        _ if sign > quoted && (is_scheme(text, place) || telling == Telling::Authorization) => sign,
        _ => return None,
    };
    Some(text.run(value, 8, |byte| {
        is_blank(byte) || matches!(byte, b'\n' | b'\r')
    }))
}

/// `Bearer TOKEN` needs no sign.
fn is_scheme(text: Text<'_>, end: usize) -> bool {
    end.checked_sub(6)
        .is_some_and(|start| text.between(start, end).eq_ignore_ascii_case(b"bearer"))
}

/// Past a quote at `place`, which may be escaped (a document inside of another).
fn skip_quote(text: Text<'_>, place: usize) -> usize {
    let quote = text.run(place, 4, |byte| byte == b'\\');
    if matches!(text.at(quote), b'"' | b'\'') {
        quote + 1
    } else {
        place
    }
}

/// Past the name of a scheme, if there is one: `Bearer`, `Basic`, `token`.
fn scheme(text: Text<'_>, place: usize) -> Option<usize> {
    let quoted = skip_quote(text, place);
    let end = text.run(quoted, 16, |byte| {
        byte.is_ascii_alphabetic() || byte == b'-'
    });
    (text.at(end) == b' ').then_some(end + 1).or(Some(place))
}

/// The value at `place`, without its quotes, and whether it has any.
fn value(text: Text<'_>, place: usize) -> (Range<usize>, bool) {
    let start = skip_quote(text, place);
    let quote = text.before(start);
    if start == place {
        return (start..unquoted_end(text, start), false);
    }
    let nested = start - place > 1;
    let mut end = start;
    while end - start < VALUE && end < text.len() {
        match text.at(end) {
            byte if byte == quote => break,
            // The end of a document's string, in which single quotes are only text.
            b'"' => break,
            b'\\' if nested => break,
            b'\\' => end += 2,
            b'\n' | 0 => break,
            _ => end += 1,
        }
    }
    (start..end.min(text.len()), true)
}

/// What ends a value that has no quotes around it.
fn stops(byte: u8) -> bool {
    matches!(byte, 0 | b'\t'..=b'\r' | b' ')
        || matches!(
            byte,
            b'"' | b'\'' | b'`' | b'<' | b'>' | b',' | b';' | b'|' | b'\\'
        )
        || matches!(byte, b'(' | b')' | b'[' | b']' | b'{' | b'}')
}

/// The end of a value that has no quotes around it. `&` ends it before the next field of a form.
fn unquoted_end(text: Text<'_>, start: usize) -> usize {
    let mut end = start;
    while end - start < VALUE && !stops(text.at(end)) {
        if text.at(end) == b'&' {
            let name = text.run(end + 1, KEY, |byte| {
                byte.is_ascii_alphanumeric() || byte == b'_'
            });
            if text.at(name) == b'=' {
                break;
            }
        }
        end += 1;
    }
    end
}

fn tells(value: &[u8], telling: Telling, quoted: bool) -> bool {
    let [has_lower, has_upper, has_digit, has_other] = [
        value.iter().any(u8::is_ascii_lowercase),
        value.iter().any(u8::is_ascii_uppercase),
        value.iter().any(u8::is_ascii_digit),
        value.iter().any(|byte| !byte.is_ascii_alphanumeric()),
    ];
    let kinds = [has_lower, has_upper, has_digit, has_other]
        .iter()
        .filter(|has| **has)
        .count();
    let blank = value.iter().any(u8::is_ascii_whitespace);
    // What closes a document's string is no opening quote: the next member would be the value.
    let between = quoted && value.first().is_some_and(|byte| b",:}] \t".contains(byte));
    if between || is_placeholder(value) {
        return false;
    }
    match telling {
        Telling::Secret => {
            value.len() >= 6
                && spread(value) >= 4
                && (!blank || (quoted && has_digit))
                && (has_digit
                    || (has_upper && has_lower && kinds > 2)
                    || value.len() >= 12
                    || (kinds > 1 && has_other && !ends_sentence(value)))
        }
        Telling::Token | Telling::Authorization => {
            value.len() >= 16
                && !blank
                && spread(value) >= 8
                && (has_lower || has_upper)
                && (has_digit || kinds > 1)
        }
    }
}

fn ends_sentence(value: &[u8]) -> bool {
    let words = value
        .strip_suffix(b".")
        .or_else(|| value.strip_suffix(b"!"))
        .or_else(|| value.strip_suffix(b"?"))
        .unwrap_or(value);
    words.iter().all(u8::is_ascii_alphabetic)
}

/// How many different bytes there are.
fn spread(value: &[u8]) -> u32 {
    let seen = value
        .iter()
        .fold(0u128, |seen, byte| seen | 1 << (byte & 0x7f));
    seen.count_ones()
}

fn is_placeholder(value: &[u8]) -> bool {
    let opens = value.first().is_some_and(|byte| b"$<{[%*".contains(byte))
        && value.iter().any(|byte| b"{}<>()[]*".contains(byte));
    opens
        || PLACEHOLDERS
            .iter()
            .any(|known| value.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The telling word is the first of the text that has one.
    fn check(text: &str, expected: Option<&str>) {
        let bytes = Text(text.as_bytes());
        let found = (0..text.len()).find_map(|at| after(bytes, at));
        assert_eq!(found.map(|span| &text[span]), expected, "{text}");
    }

    #[test]
    fn values_next_to_telling_keys_are_found() {
        for (text, value) in [
            ("password=hunter2", "hunter2"),
            ("{\"password\": \"hunter2hunter2\"}", "hunter2hunter2"),
            (
                "{\\\"password\\\":\\\"hunter2hunter2\\\"}",
                "hunter2hunter2",
            ),
            ("PGPASSWORD=correct-horse psql", "correct-horse"),
            ("DB_PASSWORD: S3cr3t!x", "S3cr3t!x"),
            ("Server=x;Pwd=Tr0ub4dor&3;", "Tr0ub4dor&3"),
            ("https://h/?password=hunter2&user=x", "hunter2"),
            ("clientSecret='abc123def456'", "abc123def456"),
            ("<password>hunter2</password>", "hunter2"),
            ("ALTER ROLE a PASSWORD 'hunter22'", "hunter22"),
            (
                "\"api_key\": \"f81d4fae7dec11d0a765\"",
                "f81d4fae7dec11d0a765",
            ),
            (
                "Authorization: Bearer f81d4fae7dec11d0a765",
                "f81d4fae7dec11d0a765",
            ),
            (
                "authorization=Basic YWxpY2U6aHVudGVyMmh1bnRlcjI=",
                "YWxpY2U6aHVudGVyMmh1bnRlcjI=",
            ),
            (
                "curl -H 'x: Bearer f81d4fae7dec11d0a765'",
                "f81d4fae7dec11d0a765",
            ),
            (
                "AccountKey=Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4==;",
                "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4==",
            ),
            (
                "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG",
                "wJalrXUtnFEMI/K7MDENG",
            ),
            ("\"password\"=>\"hunter2\"", "hunter2"),
            ("my password is hunter2", "hunter2"),
        ] {
            check(text, Some(value));
        }
    }

    #[test]
    fn talk_of_secrets_is_left_alone() {
        for text in [
            "password: must be changed",
            "the password is wrong",
            "{\"password\": null}",
            "password=${DB_PASSWORD}",
            "password=<password>",
            "password=********",
            "secretary: Alice2000",
            "tokenizer=cl100k_base_model_v2",
            "password_changed_at: 2026-11-26T10:26:19Z",
            "passwordUpdatedAt: 2026-11-26T10:26:19Z",
            "token_count: 1234567890123456",
            "tokens: 1234567890123456",
            "token_type: bearer",
            "bearer of good news arrived yesterday",
            "\"password\": \"required\"",
        ] {
            check(text, None);
        }
    }
}
