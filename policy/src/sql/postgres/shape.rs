//! The shape of a text: what it is but for its literals, by a scanner that knows little.
//!
//! It understands a part of PostgreSQL's lexical grammar and says so where it does not: then the
//! text has no shape, and only its own bytes stand for it. Within that part its tokens end where
//! PostgreSQL's do, whatever the version; `policy/tests/it/shapes.rs` holds it against libpg_query's
//! scanner.
//!
//! Left out on purpose, since versions or settings differ or a look at more than the next byte is
//! needed: comments, dollar quotes, prefixed strings (`E''`, `U&""`), doubled quotes, backslashes,
//! strings continued on a next line, numbers with an exponent, a base or an underscore, and
//! whatever is not ASCII outside of quotes.

use std::ops::Range;

use super::scan::is_linear;

/// Stands for an integer literal that fits four bytes. No byte of UTF-8, so no text has a shape's bytes.
const INTEGER: u8 = 0xff;

/// Stands for a longer integer, or one with a decimal point.
const NUMBER: u8 = 0xfe;

/// Stands for a string.
const STRING: u8 = 0xfd;

/// Writes the shape of `text` behind what `out` holds, and returns how many literals it leaves out.
///
/// Two texts of one shape have the same tokens but for the values of literals, and each such pair is
/// of one kind to the grammar. `None`: the text has no shape, and `out` holds rubbish.
///
/// Linear, and allocates only what `out` grows by.
#[must_use]
pub fn write_shape(text: &str, out: &mut Vec<u8>) -> Option<usize> {
    // Such a text is `unknown`, for what may stand in a literal.
    if !is_linear(text) {
        return None;
    }
    let mut literals = 0;
    let mut copied = 0;
    scan(text.as_bytes(), |literal| {
        out.extend_from_slice(
            text.as_bytes()
                .get(copied..literal.range.start)
                .unwrap_or_default(),
        );
        out.push(literal.kind.mark());
        copied = literal.range.end;
        literals += 1;
    })?;
    out.extend_from_slice(text.as_bytes().get(copied..).unwrap_or_default());
    Some(literals)
}

/// Where the literals of `text` stand; `None` when it has no shape.
pub(super) fn literals(text: &str) -> Option<Vec<Range<usize>>> {
    let mut found = Vec::new();
    scan(text.as_bytes(), |literal| found.push(literal.range))?;
    Some(found)
}

struct Literal {
    kind: Kind,
    range: Range<usize>,
}

/// What a literal is to the grammar.
#[derive(Clone, Copy)]
enum Kind {
    Integer,
    Number,
    String,
}

impl Kind {
    fn mark(self) -> u8 {
        match self {
            Self::Integer => INTEGER,
            Self::Number => NUMBER,
            Self::String => STRING,
        }
    }
}

/// What a byte outside of quotes begins or is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Space, or an operator or other character that is taken as it is.
    Plain,
    /// Begins or continues a word.
    Letter,
    Digit,
    Quote,
    DoubleQuote,
    /// Two of them begin a comment.
    Minus,
    /// Begins a comment before an asterisk.
    Slash,
    /// Before a quote it may belong to `U&`.
    Ampersand,
    Dot,
    Dollar,
    Refused,
}

/// By byte, so that one look decides.
const CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut classes = [Class::Refused; 256];
    let mut byte = 0_u8;
    loop {
        #[expect(
            clippy::indexing_slicing,
            reason = "every value of a byte is an index of 256 entries"
        )]
        {
            classes[byte as usize] = class(byte);
        }
        if byte == u8::MAX {
            return classes;
        }
        byte += 1;
    }
}

const fn class(byte: u8) -> Class {
    match byte {
        // The vertical tab is space from PostgreSQL 16 on, so it is none here.
        b' ' | b'\t' | b'\n' | b'\r' | b'\x0c' => Class::Plain,
        b'(' | b')' | b'[' | b']' | b',' | b';' | b':' => Class::Plain,
        b'*' | b'+' | b'%' | b'^' | b'<' | b'>' | b'=' => Class::Plain,
        b'~' | b'!' | b'@' | b'#' | b'|' | b'?' | b'`' => Class::Plain,
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => Class::Letter,
        b'0'..=b'9' => Class::Digit,
        b'\'' => Class::Quote,
        b'"' => Class::DoubleQuote,
        b'-' => Class::Minus,
        b'/' => Class::Slash,
        b'&' => Class::Ampersand,
        b'.' => Class::Dot,
        b'$' => Class::Dollar,
        _ => Class::Refused,
    }
}

/// Shows `found` each literal in turn; `None` as soon as something is not understood.
fn scan(text: &[u8], mut found: impl FnMut(Literal)) -> Option<()> {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match class_of(*byte) {
            Class::Plain => at += 1,
            Class::Letter => {
                at = end_of_word(text, at + 1);
                refuse_before(text, at, &[Class::Quote, Class::DoubleQuote, Class::Dollar])?;
            }
            Class::Digit => {
                let literal = number(text, at)?;
                at = literal.range.end;
                found(literal);
            }
            Class::Quote => {
                let literal = string(text, at)?;
                at = literal.range.end;
                found(literal);
            }
            Class::DoubleQuote => at = end_of_quoted_name(text, at)?,
            Class::Minus if text.get(at + 1) != Some(&b'-') => at += 1,
            Class::Slash if text.get(at + 1) != Some(&b'*') => at += 1,
            Class::Ampersand => {
                at += 1;
                refuse_before(text, at, &[Class::Quote, Class::DoubleQuote])?;
            }
            Class::Dot => {
                at += 1;
                refuse_before(text, at, &[Class::Digit, Class::Dot, Class::Quote])?;
            }
            Class::Dollar => {
                let digits = end_of_digits(text, at + 1);
                if digits == at + 1 {
                    return None;
                }
                at = digits;
                refuse_before(text, at, AFTER_NUMBER)?;
            }
            Class::Minus | Class::Slash | Class::Refused => return None,
        }
    }
    Some(())
}

/// What must not follow the digits of a number: it would be part of it, or junk to some version.
const AFTER_NUMBER: &[Class] = &[
    Class::Letter,
    Class::Digit,
    Class::Dot,
    Class::Dollar,
    Class::Quote,
    Class::DoubleQuote,
    Class::Refused,
];

#[inline]
fn class_of(byte: u8) -> Class {
    CLASSES
        .get(usize::from(byte))
        .copied()
        .unwrap_or(Class::Refused)
}

#[inline]
fn refuse_before(text: &[u8], at: usize, refused: &[Class]) -> Option<()> {
    match text.get(at) {
        Some(byte) if refused.contains(&class_of(*byte)) => None,
        Some(_) | None => Some(()),
    }
}

#[inline]
fn end_of_word(text: &[u8], mut at: usize) -> usize {
    while text
        .get(at)
        .is_some_and(|byte| matches!(class_of(*byte), Class::Letter | Class::Digit))
    {
        at += 1;
    }
    at
}

#[inline]
fn end_of_digits(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

fn number(text: &[u8], start: usize) -> Option<Literal> {
    let whole = end_of_digits(text, start);
    let is_decimal = text.get(whole) == Some(&b'.');
    let end = if is_decimal {
        let end = end_of_digits(text, whole + 1);
        if end == whole + 1 {
            return None;
        }
        end
    } else {
        whole
    };
    refuse_before(text, end, AFTER_NUMBER)?;
    let fits = !is_decimal && fits_four_bytes(text.get(start..whole)?);
    Some(Literal {
        kind: if fits { Kind::Integer } else { Kind::Number },
        range: start..end,
    })
}

/// PostgreSQL's scanner makes an integer of what fits, and a number of text of what does not.
fn fits_four_bytes(digits: &[u8]) -> bool {
    let limit = u64::from(i32::MAX.unsigned_abs());
    let mut value = 0_u64;
    for digit in digits {
        value = 10 * value + u64::from(digit - b'0');
        if value > limit {
            return false;
        }
    }
    true
}

fn string(text: &[u8], start: usize) -> Option<Literal> {
    let mut end = start + 1;
    loop {
        match text.get(end)? {
            b'\'' => break,
            b'\\' | 0 => return None,
            _ => end += 1,
        }
    }
    end += 1;
    refuse_before(
        text,
        end,
        &[
            Class::Quote,
            Class::DoubleQuote,
            Class::Letter,
            Class::Digit,
            Class::Dollar,
        ],
    )?;
    // A string goes on behind a line break: 'a'\n'b' is one literal.
    let behind = text.get(end..)?;
    let next = behind.iter().find(|byte| !byte.is_ascii_whitespace());
    if next == Some(&b'\'') {
        return None;
    }
    Some(Literal {
        kind: Kind::String,
        range: start..end,
    })
}

fn end_of_quoted_name(text: &[u8], start: usize) -> Option<usize> {
    let mut end = start + 1;
    while *text.get(end)? != b'"' {
        if text.get(end) == Some(&0) {
            return None;
        }
        end += 1;
    }
    // PostgreSQL refuses an empty name.
    if end == start + 1 {
        return None;
    }
    end += 1;
    refuse_before(text, end, &[Class::Quote, Class::DoubleQuote])?;
    Some(end)
}

#[cfg(test)]
mod tests;
