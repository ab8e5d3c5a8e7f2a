//! Text from the wire as HTML: escaped, and marked where it does not read as it is.

use std::fmt::{self, Write};

use askama::filters::{Html, HtmlSafe, escape};

use crate::marking::{Piece, pieces};

/// Longest text that is shown whole, in bytes. What people type is far below; a page with some of
/// these stays one that a telephone can show.
const SHOWN_BYTES_MAX: usize = 16 * 1024;

/// A text, safe to stand in a page.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Marked {
    html: String,
}

impl Marked {
    pub(super) fn of(text: &str) -> Self {
        Self::cut_at(text, SHOWN_BYTES_MAX).0
    }

    /// The beginning of it, in at most that many bytes; and whether something is missing.
    pub(super) fn cut_at(text: &str, bytes_max: usize) -> (Self, bool) {
        let mut end = text.len().min(bytes_max);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut html = String::with_capacity(end);
        for piece in pieces(text.get(..end).unwrap_or_default()) {
            // Writing to a string cannot fail.
            let _ = write_piece(&mut html, &piece);
        }
        let is_cut = end < text.len();
        if is_cut {
            let _ = write!(html, "<mark>... {} bytes more</mark>", text.len() - end);
        }
        (Self { html }, is_cut)
    }
}

fn write_piece(html: &mut String, piece: &Piece<'_>) -> fmt::Result {
    match piece {
        Piece::Plain(text) => write_escaped(html, text),
        Piece::Unseen(character) => {
            let code = u32::from(*character);
            write!(
                html,
                "<mark title=\"a character without a picture, or one that hides or reorders others\">U+{code:04X}</mark>"
            )
        }
        Piece::LooksLike(character, look) => {
            let code = u32::from(*character);
            write!(html, "<mark title=\"U+{code:04X}: not what it looks like, ")?;
            write_escaped(html, look)?;
            html.push_str("\">");
            write_escaped(html, character.encode_utf8(&mut [0; 4]))?;
            write!(html, "<small>U+{code:04X}</small></mark>")
        }
    }
}

fn write_escaped(html: &mut String, text: &str) -> fmt::Result {
    match escape(text, Html) {
        Ok(escaped) => write!(html, "{}", escaped.0),
        Err(never) => match never {},
    }
}

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.html)
    }
}

/// Made of escaped text and marks of ours, by `of` alone.
impl HtmlSafe for Marked {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_marked(text: &str, expected: &str) {
        assert_eq!(Marked::of(text).to_string(), expected);
    }

    #[test]
    fn markup_stays_text() {
        check_marked(
            "<script>alert('1')</script> & \"x\"",
            "&#60;script&#62;alert(&#39;1&#39;)&#60;/script&#62; &#38; &#34;x&#34;",
        );
    }

    #[test]
    fn what_does_not_read_as_it_is_stands_out() {
        check_marked(
            "a\u{202e}<",
            "a<mark title=\"a character without a picture, or one that hides or reorders others\">U+202E</mark>&#60;",
        );
        check_marked(
            "it\u{2019}s",
            "it<mark title=\"U+2019: not what it looks like, &#39;\">\u{2019}<small>U+2019</small></mark>s",
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        let whole = "a".repeat(SHOWN_BYTES_MAX);
        assert_eq!(Marked::of(&whole).to_string(), whole);
        let long = format!("{}ü{}", "a".repeat(SHOWN_BYTES_MAX - 1), "b".repeat(9));
        let marked = Marked::of(&long);
        assert!(
            marked
                .to_string()
                .ends_with("a<mark>... 11 bytes more</mark>")
        );
    }
}
