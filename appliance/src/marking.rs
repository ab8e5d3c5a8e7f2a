//! Finds in a text what a reader would not see or would take for something else.
//!
//! It decides nothing, and renders nothing: pages and terminals each show the pieces their way.
//!
//! Spec: Unicode Standard Annex #9 (bidirectional text), Unicode Technical Standard #39
//! ("Confusable Detection").

use unicode_security::skeleton;

/// Part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Reads as it is. May hold line feeds and tabs.
    Plain(&'t str),
    /// Something that has no picture, moves a cursor, or hides, joins or reorders text.
    Unseen(char),
    /// Looks like these ASCII characters.
    LooksLike(char, String),
}

/// The pieces of `text`, in order; together they are all of it.
///
/// A letter of another script is marked where its word also has ASCII letters, or could be mistaken
/// for an ASCII word whole; a word that only another script can spell is left alone.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut plain_from = 0;
    let mut word = Word::default();
    for (at, character) in text.char_indices() {
        if !in_word(character) {
            word = Word::default();
        } else if at >= word.end {
            word = Word::at(text, at);
        }
        let Some(strange) = strange(character, word.is_deceptive) else {
            continue;
        };
        push_plain(&mut found, text, plain_from, at);
        found.push(strange);
        plain_from = at + character.len_utf8();
    }
    push_plain(&mut found, text, plain_from, text.len());
    found
}

/// Control characters, and what Unicode has to reorder, hide or join text.
pub fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// A run of letters, digits and underscores.
#[derive(Default)]
struct Word {
    end: usize,
    /// It has ASCII letters, or each of its letters looks like one.
    is_deceptive: bool,
}

impl Word {
    fn at(text: &str, from: usize) -> Self {
        let rest = text.get(from..).unwrap_or_default();
        let bytes = rest
            .find(|character| !in_word(character))
            .unwrap_or(rest.len());
        let word = rest.get(..bytes).unwrap_or_default();
        let is_deceptive = !word.is_ascii()
            && (word.bytes().any(|byte| byte.is_ascii_alphabetic())
                || word
                    .chars()
                    .all(|character| character.is_ascii() || look_of(character).is_some()));
        Self {
            end: from + bytes,
            is_deceptive,
        }
    }
}

fn in_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn strange<'t>(character: char, in_deceptive_word: bool) -> Option<Piece<'t>> {
    if matches!(character, '\n' | '\t') {
        return None;
    }
    if is_unseen(character) {
        return Some(Piece::Unseen(character));
    }
    if character.is_ascii() || (in_word(character) && !in_deceptive_word) {
        return None;
    }
    Some(Piece::LooksLike(character, look_of(character)?))
}

/// The ASCII that a character beyond ASCII looks like.
fn look_of(character: char) -> Option<String> {
    if character.is_ascii() {
        return None;
    }
    // Spaces of other widths: the tables take them for the plain one, but not all of them.
    if character.is_whitespace() {
        return Some(" ".to_owned());
    }
    let look: String = skeleton(character.encode_utf8(&mut [0; 4])).collect();
    (!look.is_empty() && look.is_ascii()).then_some(look)
}

fn push_plain<'t>(found: &mut Vec<Piece<'t>>, text: &'t str, from: usize, until: usize) {
    match text.get(from..until) {
        Some(plain) if !plain.is_empty() => found.push(Piece::Plain(plain)),
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces on one line: what is marked stands in brackets.
    fn check_pieces(text: &str, expected: &str) {
        let mut shown = String::new();
        for piece in pieces(text) {
            match piece {
                Piece::Plain(plain) => shown.push_str(plain),
                Piece::Unseen(character) => {
                    shown.push_str(&format!("[{:04x}]", u32::from(character)));
                }
                Piece::LooksLike(_, look) => shown.push_str(&format!("[={look}]")),
            }
        }
        assert_eq!(shown, expected);
    }

    #[test]
    fn text_that_reads_as_it_is_stays_whole() {
        for text in [
            "",
            "update orders set total = 1\n\twhere id = 7;",
            "Grüße, Jørgen, 漢字, 😀, привет, שלום",
        ] {
            check_pieces(text, text);
        }
    }

    #[test]
    fn what_reorders_hides_or_has_no_picture_is_marked() {
        check_pieces("a\u{202e}b\u{2066}c", "a[202e]b[2066]c");
        check_pieces("zero\u{200b}width\u{feff}", "zero[200b]width[feff]");
        check_pieces(
            "\0\u{1b}[2J\r\u{7f}\u{9b}",
            "[0000][001b][2J[000d][007f][009b]",
        );
        check_pieces("tag\u{e0041}", "tag[e0041]");
    }

    #[test]
    fn letters_that_pass_for_others_are_marked() {
        // Cyrillic letters in a word of ASCII, and a word made of nothing else.
        check_pieces("\u{440}\u{430}yments", "[=p][=a]yments");
        check_pieces("\u{441}\u{43e}\u{440}\u{443}", "[=c][=o][=p][=y]");
        check_pieces("customers_\u{430}1", "customers_[=a]1");
        check_pieces("\u{ff41}dmin", "[=a]dmin");
    }

    #[test]
    fn punctuation_and_spaces_that_pass_for_others_are_marked() {
        check_pieces("it\u{2019}s", "it[=']s");
        check_pieces("1 \u{2010} 1", "1 [=-] 1");
        check_pieces("a\u{a0}b\u{2003}c", "a[= ]b[= ]c");
        check_pieces("x\u{37e}", "x[=;]");
    }

    #[test]
    fn each_word_is_looked_at_by_itself() {
        check_pieces("привет р\u{430}ss", "привет [=p][=a]ss");
        check_pieces("ok привет", "ok привет");
    }

    #[test]
    fn a_long_word_takes_linear_time() {
        let text = "\u{430}".repeat(200_000);
        assert_eq!(pieces(&text).len(), 200_000);
    }
}
