//! Rows as lines: the text format and CSV.

use memchr::{memchr, memchr2, memchr3};

use super::{CopyError, CopyFields, malformed};
use crate::postgres::value::Rewritten;
use crate::wire::Malformed;

/// What separates fields, and what takes away its meaning.
#[derive(Debug, Clone, Copy)]
pub(super) enum Syntax {
    Text {
        delimiter: u8,
    },
    Csv {
        delimiter: u8,
        quote: u8,
        escape: u8,
    },
}

/// Where in a field the last byte was.
///
/// ```text
/// text:  Plain -- \ --> Escaped -- any --> Plain
/// CSV:   Plain -- quote --> Quoted -- quote --> Plain
///                           Quoted -- escape --> QuotedEscaped -- any --> Quoted
///        where quote is escape:  Quoted -- quote --> QuoteOrEnd -- quote --> Quoted
///                                                    QuoteOrEnd -- any --> as Plain
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Plain,
    Escaped,
    Quoted,
    QuotedEscaped,
    QuoteOrEnd,
}

/// What a byte is.
enum Step {
    Inside(Within),
    FieldEnd,
    RowEnd,
}

#[derive(Debug)]
pub(super) struct LinesRewriter {
    syntax: Syntax,
    null: Box<[u8]>,
    columns: usize,
    field_bytes_max: usize,
    within: Within,
    column: usize,
    is_header: bool,
    /// Whether bytes of the row were seen.
    in_row: bool,
    /// The begin of a field that is looked at and does not end in the chunks so far.
    held: Vec<u8>,
    plain: Vec<u8>,
    edited: Vec<u8>,
}

impl LinesRewriter {
    pub(super) fn new(
        syntax: Syntax,
        null: Box<[u8]>,
        is_header: bool,
        columns: usize,
        field_bytes_max: usize,
    ) -> Self {
        Self {
            syntax,
            null,
            // A row without columns is an empty line.
            columns: columns.max(1),
            field_bytes_max,
            within: Within::Plain,
            column: 0,
            is_header,
            in_row: false,
            held: Vec::new(),
            plain: Vec::new(),
            edited: Vec::new(),
        }
    }

    pub(super) fn is_between_rows(&self) -> bool {
        !self.in_row
    }

    pub(super) fn rewrite(
        &mut self,
        chunk: &[u8],
        fields: &mut dyn CopyFields,
        out: &mut Vec<u8>,
    ) -> Result<(), CopyError> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let (length, end) = self.scan(rest);
            let (part, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            self.in_row = true;
            let is_held = !self.is_header && fields.looks_at(self.column);
            match end {
                None if is_held => self.hold(part)?,
                None => out.extend_from_slice(part),
                Some(_) if is_held => self.end_field(part, fields, out)?,
                Some(_) => out.extend_from_slice(part),
            }
            let Some((end, behind)) = end.zip(behind.split_first()) else {
                return Ok(());
            };
            out.push(*behind.0);
            rest = behind.1;
            self.end(&end)?;
        }
        Ok(())
    }

    /// Bytes up to the end of the field, and which end that is where it is in `bytes`.
    fn scan(&mut self, bytes: &[u8]) -> (usize, Option<Step>) {
        let mut position = 0;
        while let Some(rest) = bytes.get(position..)
            && let Some((length, byte)) = self.next_special(rest)
        {
            position += length;
            match self.step(byte) {
                Step::Inside(within) => self.within = within,
                end @ (Step::FieldEnd | Step::RowEnd) => return (position, Some(end)),
            }
            position += 1;
        }
        (bytes.len(), None)
    }

    /// The next byte that may mean something where we are, and how many stand before it.
    fn next_special(&self, bytes: &[u8]) -> Option<(usize, u8)> {
        let length = match (self.within, self.syntax) {
            (Within::Plain, Syntax::Text { delimiter }) => memchr3(b'\\', delimiter, b'\n', bytes),
            (
                Within::Plain,
                Syntax::Csv {
                    delimiter, quote, ..
                },
            ) => memchr3(quote, delimiter, b'\n', bytes),
            (Within::Quoted, Syntax::Csv { quote, escape, .. }) => memchr2(quote, escape, bytes),
            _ => Some(0),
        }?;
        Some((length, *bytes.get(length)?))
    }

    fn step(&self, byte: u8) -> Step {
        match self.syntax {
            Syntax::Text { .. } if self.within == Within::Escaped => Step::Inside(Within::Plain),
            Syntax::Text { .. } if byte == b'\\' => Step::Inside(Within::Escaped),
            Syntax::Text { delimiter } => plain(byte, delimiter),
            Syntax::Csv {
                delimiter,
                quote,
                escape,
            } => match self.within {
                Within::Quoted if byte == quote && quote == escape => {
                    Step::Inside(Within::QuoteOrEnd)
                }
                Within::Quoted if byte == quote => Step::Inside(Within::Plain),
                Within::Quoted if byte == escape => Step::Inside(Within::QuotedEscaped),
                Within::Quoted | Within::QuotedEscaped => Step::Inside(Within::Quoted),
                Within::Plain | Within::QuoteOrEnd | Within::Escaped if byte == quote => {
                    Step::Inside(Within::Quoted)
                }
                Within::Plain | Within::QuoteOrEnd | Within::Escaped => plain(byte, delimiter),
            },
        }
    }

    fn hold(&mut self, part: &[u8]) -> Result<(), CopyError> {
        if self.held.len().saturating_add(part.len()) > self.field_bytes_max {
            return Err(CopyError::TooLong {
                limit: self.field_bytes_max,
            });
        }
        self.held.extend_from_slice(part);
        Ok(())
    }

    /// Takes the delimiter or the end of the line.
    fn end(&mut self, end: &Step) -> Result<(), CopyError> {
        self.within = Within::Plain;
        self.column += 1;
        let is_row = matches!(end, Step::RowEnd);
        if self.column > self.columns || is_row && self.column != self.columns {
            return Err(malformed(Malformed::CountMismatch {
                counted: self.column,
                expected: self.columns,
            }));
        }
        if is_row {
            self.column = 0;
            self.is_header = false;
            self.in_row = false;
        }
        Ok(())
    }

    fn end_field(
        &mut self,
        part: &[u8],
        fields: &mut dyn CopyFields,
        out: &mut Vec<u8>,
    ) -> Result<(), CopyError> {
        if self.held.is_empty() && part.len() <= self.field_bytes_max {
            self.field(part, fields, out);
            return Ok(());
        }
        self.hold(part)?;
        let mut held = std::mem::take(&mut self.held);
        self.field(&held, fields, out);
        held.clear();
        self.held = held;
        Ok(())
    }

    /// Appends what a whole field becomes.
    fn field(&mut self, raw: &[u8], fields: &mut dyn CopyFields, out: &mut Vec<u8>) {
        if *raw == *self.null {
            out.extend_from_slice(raw);
            return;
        }
        self.plain.clear();
        self.edited.clear();
        let value = self.syntax.decode(raw, &mut self.plain);
        match fields.field(self.column, value, &mut self.edited) {
            Rewritten::Unchanged => out.extend_from_slice(raw),
            Rewritten::Null => out.extend_from_slice(&self.null),
            Rewritten::Value => self.syntax.encode(&self.edited, out),
        }
    }
}

fn plain(byte: u8, delimiter: u8) -> Step {
    if byte == delimiter {
        Step::FieldEnd
    } else if byte == b'\n' {
        Step::RowEnd
    } else {
        Step::Inside(Within::Plain)
    }
}

impl Syntax {
    /// The value that is written as `raw`.
    fn decode<'v>(self, raw: &'v [u8], plain: &'v mut Vec<u8>) -> &'v [u8] {
        let is_plain = match self {
            Self::Text { .. } => memchr(b'\\', raw).is_none(),
            Self::Csv { quote, .. } => memchr(quote, raw).is_none(),
        };
        if is_plain {
            return raw;
        }
        match self {
            Self::Text { .. } => unescape(raw, plain),
            Self::Csv { quote, escape, .. } => unquote(raw, quote, escape, plain),
        }
        plain
    }

    fn encode(self, value: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Text { delimiter } => escape(value, delimiter, out),
            // Always in quotes, so that it is not what stands for NULL.
            Self::Csv { quote, escape, .. } => {
                out.push(quote);
                for byte in value {
                    if *byte == quote || *byte == escape {
                        out.push(escape);
                    }
                    out.push(*byte);
                }
                out.push(quote);
            }
        }
    }
}

/// Letters that stand for control characters behind a backslash.
const ESCAPES: [(u8, u8); 6] = [
    (b'b', 0x08),
    (b'f', 0x0c),
    (b'n', b'\n'),
    (b'r', b'\r'),
    (b't', b'\t'),
    (b'v', 0x0b),
];

/// Digits in an octal and in a hexadecimal escape at most.
const OCTAL_DIGITS_MAX: usize = 3;
const HEX_DIGITS_MAX: usize = 2;

fn unescape(mut rest: &[u8], out: &mut Vec<u8>) {
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        rest = match behind {
            [] => {
                out.push(b'\\');
                &[]
            }
            [b'0'..=b'7', ..] => number(behind, 8, OCTAL_DIGITS_MAX, out),
            [b'x', digit, ..] if digit.is_ascii_hexdigit() => {
                number(behind.get(1..).unwrap_or_default(), 16, HEX_DIGITS_MAX, out)
            }
            [letter, behind @ ..] => {
                let control = ESCAPES.iter().find(|(known, _)| known == letter);
                out.push(control.map_or(*letter, |(_, control)| *control));
                behind
            }
        };
    }
}

/// Appends the byte of an octal or hexadecimal escape, and returns what follows it.
fn number<'r>(bytes: &'r [u8], radix: u32, digits_max: usize, out: &mut Vec<u8>) -> &'r [u8] {
    let digits = bytes.iter().take(digits_max);
    let values = digits.map_while(|byte| char::from(*byte).to_digit(radix));
    let (mut value, mut count) = (0, 0);
    for digit in values {
        value = value * radix + digit;
        count += 1;
    }
    // As PostgreSQL does: the low eight bits of `\777`.
    out.push(u8::try_from(value & 0xff).unwrap_or_default());
    bytes.get(count..).unwrap_or_default()
}

fn escape(value: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    for byte in value {
        if let Some((letter, _)) = ESCAPES.iter().find(|(_, control)| control == byte) {
            out.extend_from_slice(&[b'\\', *letter]);
        } else if *byte == b'\\' || *byte == delimiter {
            out.extend_from_slice(&[b'\\', *byte]);
        } else {
            out.push(*byte);
        }
    }
}

fn unquote(raw: &[u8], quote: u8, escape: u8, out: &mut Vec<u8>) {
    let mut in_quotes = false;
    let mut bytes = raw.iter().peekable();
    while let Some(byte) = bytes.next() {
        let escaped = bytes
            .next_if(|next| in_quotes && *byte == escape && (**next == quote || **next == escape));
        match escaped {
            Some(escaped) => out.push(*escaped),
            None if *byte == quote => in_quotes = !in_quotes,
            None => out.push(*byte),
        }
    }
}
