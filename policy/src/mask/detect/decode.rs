//! A second reading of text that has escapes: JSON's (`\u0034`, `\/`), and `bytea` in hexadecimal.
//!
//! One decoded byte remembers where it was read, so that what is found in the second reading is
//! masked in the first. Escapes that are escaped themselves (a document inside of another) are read
//! as if they were not; that can only find more.
//! Spec: RFC 8259, "Strings"; PostgreSQL manual, "Binary Data Types", "bytea Hex Format".

use super::text::Text;

/// Backslashes in a row that belong to one escape. Four levels of nesting need fifteen.
const BACKSLASHES: usize = 16;

/// Bytes of the longest escape.
pub(super) const ESCAPE: usize = BACKSLASHES + 8;

/// Place and end of the first escape at or after `from` that hides a character.
pub(super) fn first_escape(text: Text<'_>, from: usize) -> Option<usize> {
    let mut from = from;
    loop {
        let start = from + memchr::memchr(b'\\', text.from(from))?;
        let kind = text.run(start, BACKSLASHES, |byte| byte == b'\\');
        let hides = match text.at(kind) {
            b'/' => true,
            b'u' => hex(text.between(kind + 1, kind + 5), 4).is_some(),
            b'x' => hex(text.between(kind + 1, kind + 3), 2).is_some(),
            _ => false,
        };
        if hides {
            return Some(start);
        }
        from = kind;
    }
}

/// What was decoded, and where.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) bytes: Vec<u8>,
    /// Where each byte began in the source.
    pub(super) starts: Vec<usize>,
    in_hex: bool,
}

impl Decoded {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
        self.in_hex = false;
    }

    /// Forgets the first `count` bytes.
    pub(super) fn forget(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
        self.starts.drain(..count.min(self.starts.len()));
    }

    /// Decodes `text` from `from` on to the end, or, when more is to come, to where an escape could
    /// be cut. `base` is where `text` begins in the source. Returns how far it came.
    pub(super) fn extend(
        &mut self,
        text: Text<'_>,
        from: usize,
        base: usize,
        is_last: bool,
    ) -> usize {
        let end = if is_last {
            text.len()
        } else {
            text.len().saturating_sub(ESCAPE)
        };
        let mut place = from;
        while place < end {
            if self.in_hex {
                let pair = hex(text.between(place, place + 2), 2);
                match pair.and_then(|pair| u8::try_from(pair).ok()) {
                    Some(byte) => {
                        self.push(byte, base, place);
                        place += 2;
                    }
                    None => self.in_hex = false,
                }
                continue;
            }
            let plain =
                memchr::memchr(b'\\', text.between(place, end)).map_or(end, |at| place + at);
            for offset in place..plain {
                self.push(text.at(offset), base, offset);
            }
            place = plain;
            if place < end {
                place = self.escape(text, place, base);
            }
        }
        place
    }

    /// Decodes the escape at `start`; returns where it ends.
    fn escape(&mut self, text: Text<'_>, start: usize, base: usize) -> usize {
        let kind = text.run(start, BACKSLASHES, |byte| byte == b'\\');
        let simple = match text.at(kind) {
            b'u' => {
                let Some(unit) = hex(text.between(kind + 1, kind + 5), 4) else {
                    return self.verbatim(text, start, kind, base);
                };
                // Half of a pair, and what no character is, is only known not to be ASCII.
                let character = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
                let mut utf8 = [0; 4];
                for byte in character.encode_utf8(&mut utf8).bytes() {
                    self.push(byte, base, start);
                }
                return kind + 5;
            }
            b'x' if hex(text.between(kind + 1, kind + 3), 2).is_some() => {
                self.in_hex = true;
                return kind + 1;
            }
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' | b'f' => b' ',
            other @ (b'/' | b'"') => other,
            _ => return self.verbatim(text, start, kind, base),
        };
        self.push(simple, base, start);
        kind + 1
    }

    fn verbatim(&mut self, text: Text<'_>, start: usize, end: usize, base: usize) -> usize {
        for offset in start..end {
            self.push(text.at(offset), base, offset);
        }
        end
    }

    #[inline]
    fn push(&mut self, byte: u8, base: usize, offset: usize) {
        self.bytes.push(byte);
        self.starts.push(base + offset);
    }
}

/// `text` as a number, if it is so many hexadecimal digits.
fn hex(text: &[u8], digits: usize) -> Option<u32> {
    if text.len() != digits {
        return None;
    }
    text.iter().try_fold(0, |number, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(number << 4 | digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let bytes = Text(text.as_bytes());
        let mut decoded = Decoded::default();
        decoded.extend(bytes, 0, 0, true);
        assert_eq!(String::from_utf8_lossy(&decoded.bytes), expected, "{text}");
        assert!(decoded.starts.is_sorted());
        // In two pieces.
        for cut in 0..text.len() {
            let mut pieces = Decoded::default();
            let reached = pieces.extend(Text(&text.as_bytes()[..cut]), 0, 0, false);
            pieces.extend(bytes, reached, 0, true);
            assert_eq!(
                (pieces.bytes, pieces.starts),
                (decoded.bytes.clone(), decoded.starts.clone())
            );
        }
    }

    #[test]
    fn escapes_are_seen_through() {
        check(r"a\u0034\u0031b\/c\n", "a41b/c\n");
        check(r"\\u0034\\\\u0031", "41");
        check(r"\x616c696365 616c", "alice 616c");
        check(r"\x6 \u00g0 \q", r"\x6 \u00g0 \q");
        check(r"\ud83d\u00e9", "\u{fffd}é");
        check(r#"{"a": "\"x\""}"#, r#"{"a": ""x""}"#);
    }

    #[test]
    fn the_first_escape_that_hides_is_found() {
        assert_eq!(first_escape(Text(br#"{"a":"\n\"\\ \u0034"}"#), 0), Some(13));
        assert_eq!(first_escape(Text(br"\x4"), 0), None);
        assert_eq!(first_escape(Text(br"\x41"), 0), Some(0));
    }
}
