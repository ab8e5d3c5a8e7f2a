//! Makes recorded text safe for a terminal: nothing in it moves the cursor, hides or reorders.

use std::fmt::Write;

use crate::marking::is_unseen;

/// What happens to line feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineFeeds {
    /// Written as `\n`.
    Escaped,
    /// Kept, with this in front of the next line: text that spans lines cannot pass for output of
    /// ours.
    Indented(&'static str),
}

/// Appends `text` with every character escaped that a terminal would obey or that lies about the
/// order or presence of others.
pub(super) fn escape(out: &mut String, text: &str, line_feeds: LineFeeds) {
    // Most of what is recorded is plain; it is copied in runs.
    let is_special = |byte: u8| !(b' '..=b'~').contains(&byte) || byte == b'\\';
    let mut rest = text;
    while let Some(at) = rest.bytes().position(is_special) {
        let (plain, special) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(plain);
        let end = special.find(|it: char| matches!(it, ' '..='~') && it != '\\');
        let (special, behind) = special
            .split_at_checked(end.unwrap_or(special.len()))
            .unwrap_or((special, ""));
        escape_each(out, special, line_feeds);
        rest = behind;
    }
    out.push_str(rest);
}

fn escape_each(out: &mut String, text: &str, line_feeds: LineFeeds) {
    for character in text.chars() {
        match (character, line_feeds) {
            ('\n', LineFeeds::Indented(indent)) => {
                out.push('\n');
                out.push_str(indent);
            }
            ('\n', LineFeeds::Escaped) => out.push_str("\\n"),
            ('\t', LineFeeds::Indented(_)) => out.push_str("    "),
            ('\t', LineFeeds::Escaped) => out.push_str("\\t"),
            ('\r', _) => out.push_str("\\r"),
            // Otherwise what is recorded could imitate an escape.
            ('\\', LineFeeds::Escaped) => out.push_str("\\\\"),
            (character, _) if is_unseen(character) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{{{:04x}}}", u32::from(character));
            }
            (character, _) => out.push(character),
        }
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_escape(text: &str, line_feeds: LineFeeds, expected: &str) {
        let mut out = String::new();
        escape(&mut out, text, line_feeds);
        assert_eq!(out, expected);
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        check_escape("a\u{1b}[2Jb", LineFeeds::Escaped, "a\\u{001b}[2Jb");
        check_escape(
            "a\u{9b}31mb\u{7f}",
            LineFeeds::Escaped,
            "a\\u{009b}31mb\\u{007f}",
        );
        check_escape(
            "one\r\ntwo\tthree",
            LineFeeds::Escaped,
            "one\\r\\ntwo\\tthree",
        );
        check_escape("\\n", LineFeeds::Escaped, "\\\\n");
        check_escape("\0", LineFeeds::Escaped, "\\u{0000}");
    }

    #[test]
    fn nothing_that_reorders_or_hides_is_left() {
        check_escape(
            "a\u{202e}b\u{2066}c",
            LineFeeds::Escaped,
            "a\\u{202e}b\\u{2066}c",
        );
        check_escape(
            "zero\u{200b}width\u{feff}",
            LineFeeds::Escaped,
            "zero\\u{200b}width\\u{feff}",
        );
        check_escape("\u{e0041}", LineFeeds::Escaped, "\\u{e0041}");
    }

    #[test]
    fn readable_text_stays_as_it_is() {
        check_escape("grüße 漢字 😀 '\"", LineFeeds::Escaped, "grüße 漢字 😀 '\"");
    }

    #[test]
    fn further_lines_of_a_text_are_indented() {
        check_escape(
            "select\n\t1\r\n;",
            LineFeeds::Indented("| "),
            "select\n|     1\\r\n| ;",
        );
    }
}
