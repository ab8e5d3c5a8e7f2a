//! Where a value stands, so that what replaces it leaves the text around it readable.
//!
//! A number of a JSON document becomes `null`, a value inside of hexadecimal stays hexadecimal, and
//! a value that begins in the middle of an escape takes all of the escape with it.

use std::ops::Range;

use super::text::{Text, is_digit};

/// What a text is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// JSON if it begins like it.
    #[default]
    Text,
    /// JSON: of a column of type `json` or `jsonb`.
    Json,
}

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In text, or in a string of a document: anything without quotes and backslashes may replace it.
    Text,
    /// In the hexadecimal digits of binary data, two to a byte.
    Hex,
    /// It is a number of a JSON document, whole.
    JsonNumber,
}

/// Blanks between a number and what stands before and after it. Beyond, it is taken for one.
const BLANKS: usize = 64;

/// Bytes of a number to each side of what was found in it.
const NUMBER: usize = 40;

/// Backslashes of one escape.
const BACKSLASHES: usize = 16;

/// How far to either side a span grows.
pub(super) const GROWS: usize = BLANKS + NUMBER + BACKSLASHES + 16;

/// A document, by its first byte that is not blank.
pub(super) fn is_document(head: &[u8]) -> Option<bool> {
    let first = head.iter().find(|byte| !byte.is_ascii_whitespace())?;
    Some(matches!(first, b'{' | b'['))
}

/// Takes what must be replaced with it into `span`, and says where it stands.
pub(super) fn settle(text: Text<'_>, span: Range<usize>, is_json: bool) -> (Range<usize>, Place) {
    let span = whole_escape(text, span);
    if is_json
        && text
            .between(span.start, span.end)
            .iter()
            .all(u8::is_ascii_digit)
        && let Some(number) = number(text, &span)
    {
        return (number, Place::JsonNumber);
    }
    (span, Place::Text)
}

/// A span of the second reading: hexadecimal when two digits made every byte of it.
pub(super) fn settle_decoded(
    text: Text<'_>,
    span: Range<usize>,
    decoded: usize,
) -> (Range<usize>, Place) {
    let source = text.between(span.start, span.end);
    if source.len() == 2 * decoded && source.iter().all(u8::is_ascii_hexdigit) {
        return (span, Place::Hex);
    }
    (whole_escape(text, span), Place::Text)
}

/// The span with all of the escape, and of the character, that it begins or ends in.
fn whole_escape(text: Text<'_>, span: Range<usize>) -> Range<usize> {
    /// Bytes of a character after its first.
    const MORE: usize = 3;
    let continues = |byte: u8| byte & 0xc0 == 0x80;
    let mut start = span.start;
    while span.start - start < MORE && start > 0 && continues(text.at(start)) {
        start -= 1;
    }
    let span = start..text.run(span.end, MORE, continues);
    let start = escape_around(text, span.start).map_or(span.start, |escape| escape.start);
    let end = escape_around(text, span.end).map_or(span.end, |escape| escape.end);
    start..end
}

/// The escape that `offset` lies inside of, not at either end of it.
fn escape_around(text: Text<'_>, offset: usize) -> Option<Range<usize>> {
    // The last backslash before it, four digits and a letter away at most.
    let slash = (1..=5)
        .map_while(|back| offset.checked_sub(back))
        .find(|at| text.at(*at) == b'\\')?;
    let start = text.run_back(slash + 1, BACKSLASHES, |byte| byte == b'\\');
    if (slash + 1 - start).is_multiple_of(2) {
        // Of an even number, the last is the second half of an escape.
        return (offset <= slash).then_some(start..slash + 1);
    }
    let end = match text.at(slash + 1) {
        b'u' => text.run(slash + 2, 4, |byte| byte.is_ascii_hexdigit()),
        _ => (slash + 2).min(text.len()),
    };
    (offset < end).then_some(start..end)
}

/// The number around `span`, if it stands where a value of a document may.
fn number(text: Text<'_>, span: &Range<usize>) -> Option<Range<usize>> {
    let of = |byte: u8| is_digit(byte) || b"+-.eE".contains(&byte);
    let start = text.run_back(span.start, NUMBER, of);
    let end = text.run(span.end, NUMBER, of);
    let blank = |byte: u8| byte.is_ascii_whitespace();
    let before = text.run_back(start, BLANKS, blank);
    let after = text.run(end, BLANKS, blank);
    let opens = before == 0
        || matches!(text.before(before), b':' | b',' | b'[')
        || start - before == BLANKS;
    let closes = after == text.len()
        || matches!(text.at(after), b',' | b'}' | b']')
        || after - end == BLANKS;
    (opens && closes).then_some(start..end)
}

/// Writes over what is masked, byte for byte.
pub fn fill(span: &mut [u8], place: Place) {
    match place {
        Place::Text => span.fill(b'*'),
        Place::Hex => {
            for pair in span.chunks_mut(2) {
                for (to, from) in pair.iter_mut().zip(*b"2a") {
                    *to = from;
                }
            }
        }
        Place::JsonNumber => {
            let null = b"null".iter().chain(std::iter::repeat(&b' '));
            for (to, from) in span.iter_mut().zip(null) {
                *to = *from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, value: &str, expected: &str, place: Place) {
        let start = text.find(value).expect("it is there");
        let (span, found) = settle(Text(text.as_bytes()), start..start + value.len(), true);
        assert_eq!((&text[span], found), (expected, place), "{text}");
    }

    #[test]
    fn numbers_of_documents_are_taken_whole() {
        check(r#"{"a": 4111, "b":1}"#, "4111", "4111", Place::JsonNumber);
        check("[-4111.0e0]", "4111", "-4111.0e0", Place::JsonNumber);
        check("4111", "4111", "4111", Place::JsonNumber);
        check(r#"{"a": "x 4111 y"}"#, "4111", "4111", Place::Text);
        check(r#"{"a": "4111"}"#, "4111", "4111", Place::Text);
    }

    #[test]
    fn escapes_are_taken_whole() {
        check(r#"["x\u0061lice"]"#, "lice", "lice", Place::Text);
        check(r#"["x\u0061lice"]"#, "061lice", r"\u0061lice", Place::Text);
        check(r#"["x\nalice"]"#, "nalice", r"\nalice", Place::Text);
        check(r#"["x\\alice"]"#, "alice", "alice", Place::Text);
        check(r#"["x\\alice"]"#, r"\alice", r"\\alice", Place::Text);
    }

    #[test]
    fn what_is_filled_keeps_its_length_and_its_form() {
        let filled = |text: &str, place| {
            let mut text = text.as_bytes().to_vec();
            fill(&mut text, place);
            String::from_utf8(text).expect("text")
        };
        assert_eq!(filled("alice", Place::Text), "*****");
        assert_eq!(filled("616c6963", Place::Hex), "2a2a2a2a");
        assert_eq!(filled("4111111", Place::JsonNumber), "null   ");
    }
}
