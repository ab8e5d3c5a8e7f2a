//! Values of PostgreSQL's types, in text and binary: what text is inside, and how a replacement is
//! written so that a driver still decodes the row.
//!
//! Which value is replaced, and by what, is not said here: an [`Action`] comes from the caller. A
//! value is rewritten by [`rewrite`] alone; NULL has no bytes and is not asked about.
//!
//! What becomes of a value by its type, and what suits a type, is in `docs/masking.md`, "Transforms
//! and types". Wherever a replacement could pass for a value of a person (a number, a date, a
//! UUID), or a driver could fail on it (an enum, a range), it is NULL.
//!
//! Spec: PostgreSQL manual, "Data Types"; the `*_send` and `*_out` functions of each type.

mod decimal;
mod hex;
mod json;
mod kind;
mod nested;
mod network;
mod text;
mod time;

use thiserror::Error;

use decimal::Number;
pub use kind::{Kind, Shape, ValueType};
pub use nested::NESTING_MAX;
pub use text::{BYTES_REDACTED, TEXT_REDACTED, XML_REDACTED};
pub use time::Unit;

use super::frontend::Format;
use crate::wire::Malformed;

/// Why a value can not be rewritten. A caller that must hide it writes NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ValueError {
    /// The bytes contradict the format of the type.
    #[error("a value of type {kind:?} {what}")]
    Malformed { kind: Kind, what: Malformed },
    /// Legal, and deeper than we follow.
    #[error("a value is nested deeper than {NESTING_MAX}")]
    TooDeep,
}

/// What is done to a value.
pub enum Action<'a> {
    /// Nothing of it stays: the constant of its type, or NULL.
    Redact,
    Null,
    /// This text, read as a value of the type.
    Fixed(&'a str),
    /// What the editor makes of it, where the whole value is text.
    Replace(&'a mut dyn TextEditor),
    /// A digest of it, where the type has room for one.
    Digest(&'a dyn Fn(&[u8]) -> [u8; 16]),
    /// The multiple of ten to this power that is nearest.
    Round {
        exponent: u8,
    },
    /// The begin of the unit in which it lies.
    Truncate(Unit),
    /// What the editor makes of each text that is inside, the rest as it is.
    Edit(&'a mut dyn TextEditor),
}

/// Reads text, and says what stands in its place.
pub trait TextEditor {
    /// Appends to `out` what `text` becomes; appends nothing where it stays as it is.
    fn edit(&mut self, text: &[u8], out: &mut Vec<u8>) -> Edited;

    /// The same for a text inside JSON that stands under `key`, of which the escapes are not undone.
    fn edit_member(&mut self, _key: &[u8], text: &[u8], out: &mut Vec<u8>) -> Edited {
        self.edit(text, out)
    }
}

/// What an editor did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edited {
    Unchanged,
    Changed,
}

/// What is written in a value's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Rewritten {
    /// The value as it was: nothing was appended.
    Unchanged,
    /// What was appended.
    Value,
    Null,
}

/// Buffers that are used again for each value.
///
/// Per connection or shard. They grow to the longest text that was decoded, and to one for each
/// level of nesting.
#[derive(Debug, Default)]
pub struct Scratch {
    free: Vec<Vec<u8>>,
}

impl Scratch {
    fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.free.push(buffer);
    }

    /// Bytes that are held.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.free.iter().map(Vec::capacity).sum()
    }

    /// Lets go of buffers that one large value left behind.
    pub fn shrink(&mut self, bytes_max: usize) {
        self.free.retain(|buffer| buffer.capacity() <= bytes_max);
    }
}

/// Appends what a value becomes, without its length.
///
/// Whatever is answered but [`Rewritten::Value`], `out` holds what it held before.
///
/// # Errors
/// The bytes are not a value of the type, or too deep: of a target that is not to be believed.
pub fn rewrite(
    value: &[u8],
    type_: ValueType,
    format: Format,
    action: &mut Action<'_>,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Result<Rewritten, ValueError> {
    let before = out.len();
    let rewritten = dispatch(value, type_, format, action, scratch, out);
    if rewritten != Ok(Rewritten::Value) {
        out.truncate(before);
    }
    rewritten
}

fn dispatch(
    value: &[u8],
    type_: ValueType,
    format: Format,
    action: &mut Action<'_>,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Result<Rewritten, ValueError> {
    if let Action::Edit(editor) = action {
        return nested::edit(
            value,
            type_,
            format,
            &mut nested::Editing {
                editor: &mut **editor,
                scratch,
                depth: 0,
            },
            out,
        );
    }
    if matches!(action, Action::Null) {
        return Ok(Rewritten::Null);
    }
    if !action.suits(type_) {
        return Ok(redact(type_, format, out));
    }
    let kind = type_.kind;
    let malformed = |what| ValueError::Malformed { kind, what };
    match action {
        Action::Fixed(text) => Ok(fixed(text, type_, format, out)),
        Action::Replace(editor) => {
            let text = text::unpadded(value, kind);
            let start = out.len();
            if editor.edit(text, out) == Edited::Unchanged {
                return Ok(redact(type_, format, out));
            }
            text::fit(type_, start, out);
            Ok(Rewritten::Value)
        }
        Action::Digest(digest) => digested(value, type_, format, *digest, out).map_err(malformed),
        Action::Round { exponent } => match Number::of(kind) {
            Some(number) => {
                decimal::round(value, number, format, *exponent, scratch, out).map_err(malformed)
            }
            None => Ok(Rewritten::Null),
        },
        Action::Truncate(unit) => match time::truncate(value, kind, format, *unit, out) {
            // What is not ISO 8601 is another DateStyle, which is legal.
            Err(_) if format == Format::Text => Ok(Rewritten::Null),
            truncated => truncated.map_err(malformed),
        },
        Action::Redact | Action::Null | Action::Edit(_) => Ok(redact(type_, format, out)),
    }
}

impl Action<'_> {
    /// Whether the action does to this type what it is named after; otherwise the value is
    /// redacted.
    #[must_use]
    pub fn suits(&self, type_: ValueType) -> bool {
        let kind = type_.kind;
        match self {
            Self::Redact | Self::Null | Self::Edit(_) => true,
            _ if type_.shape != Shape::Scalar => false,
            Self::Fixed(text) => {
                fixed(text, type_, Format::Text, &mut Vec::new()) == Rewritten::Value
            }
            Self::Replace(_) => kind.is_text(),
            Self::Digest(_) => {
                kind.is_text()
                    || matches!(kind, Kind::Json | Kind::Jsonb | Kind::Bytea | Kind::Uuid)
            }
            Self::Round { .. } => Number::of(kind).is_some(),
            // Days of a date are all that there is of it.
            Self::Truncate(unit) => {
                matches!(kind, Kind::Timestamp | Kind::TimestampTz)
                    || kind == Kind::Date && *unit > Unit::Day
            }
        }
    }
}

/// Appends the constant that says that something is hidden, for types in which none can pass for a
/// value.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "NULL is right for any type that is not listed"
)]
fn redact(type_: ValueType, format: Format, out: &mut Vec<u8>) -> Rewritten {
    if type_.shape != Shape::Scalar {
        return Rewritten::Null;
    }
    match type_.kind {
        kind if kind.is_text() => text::redact(type_, out),
        Kind::Json => json::write_string(TEXT_REDACTED.as_bytes(), out),
        Kind::Jsonb => {
            write_version(format, out);
            json::write_string(TEXT_REDACTED.as_bytes(), out);
        }
        Kind::Xml => out.extend_from_slice(XML_REDACTED.as_bytes()),
        Kind::Bytea => hex::write_bytea(BYTES_REDACTED.as_bytes(), format, out),
        _ => return Rewritten::Null,
    }
    Rewritten::Value
}

/// Appends an operator's text as a value of the type; NULL where it is none.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "NULL is right for any type that is not listed"
)]
fn fixed(text: &str, type_: ValueType, format: Format, out: &mut Vec<u8>) -> Rewritten {
    let start = out.len();
    let written = match type_.kind {
        kind if kind.is_text() => {
            out.extend_from_slice(text.as_bytes());
            text::fit(type_, start, out);
            Some(())
        }
        Kind::Enum => {
            out.extend_from_slice(text.as_bytes());
            Some(())
        }
        Kind::Json => {
            json::write_string(text.as_bytes(), out);
            Some(())
        }
        Kind::Jsonb => {
            write_version(format, out);
            json::write_string(text.as_bytes(), out);
            Some(())
        }
        Kind::Bytea => {
            hex::write_bytea(text.as_bytes(), format, out);
            Some(())
        }
        Kind::Bool => write_bool(text, format, out),
        Kind::Uuid => {
            hex::parse_uuid(text.as_bytes()).map(|bytes| hex::write_uuid(bytes, format, out))
        }
        Kind::Inet => network::write_fixed(text, format, out),
        Kind::Date | Kind::Timestamp | Kind::TimestampTz => {
            time::write_fixed(text, type_.kind, format, out)
        }
        kind => Number::of(kind).and_then(|number| decimal::write_fixed(text, number, format, out)),
    };
    match written {
        Some(()) => Rewritten::Value,
        None => {
            out.truncate(start);
            Rewritten::Null
        }
    }
}

fn write_bool(text: &str, format: Format, out: &mut Vec<u8>) -> Option<()> {
    let value = match text {
        "t" | "true" => true,
        "f" | "false" => false,
        _ => return None,
    };
    out.push(match (format, value) {
        (Format::Text, true) => b't',
        (Format::Text, false) => b'f',
        (Format::Binary, value) => u8::from(value),
    });
    Some(())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the rest of what a digest suits is text"
)]
fn digested(
    value: &[u8],
    type_: ValueType,
    format: Format,
    digest: &dyn Fn(&[u8]) -> [u8; 16],
    out: &mut Vec<u8>,
) -> Result<Rewritten, Malformed> {
    let start = out.len();
    match type_.kind {
        Kind::Json => json::write_digest(&digest(value), out),
        Kind::Jsonb => {
            let text = take_version(value, format)?;
            write_version(format, out);
            json::write_digest(&digest(text), out);
        }
        // As the bytes, so that both formats give the same.
        Kind::Bytea => {
            hex::read_bytea(value, format, out)?;
            let bytes = digest(out.get(start..).unwrap_or_default());
            out.truncate(start);
            hex::write_bytea(&bytes, format, out);
        }
        Kind::Uuid => {
            let bytes = digest(&hex::read_uuid(value, format)?);
            hex::write_uuid(hex::uuid_of(bytes), format, out);
        }
        kind => {
            hex::write_hex(&digest(text::unpadded(value, kind)), out);
            text::fit(type_, start, out);
        }
    }
    Ok(Rewritten::Value)
}

/// Version byte of `jsonb` and `jsonpath` in binary.
const VERSION: u8 = 1;

fn write_version(format: Format, out: &mut Vec<u8>) {
    if format == Format::Binary {
        out.push(VERSION);
    }
}

fn take_version(value: &[u8], format: Format) -> Result<&[u8], Malformed> {
    match (format, value) {
        (Format::Text, text) | (Format::Binary, [VERSION, text @ ..]) => Ok(text),
        (Format::Binary, []) => Err(Malformed::Truncated),
        (Format::Binary, [other, ..]) => Err(Malformed::Undefined {
            value: i32::from(*other),
        }),
    }
}

#[cfg(test)]
mod tests;
