//! The texts inside a value, edited in place: arrays, rows, ranges and what they are made of.
//!
//! What is not text and changes becomes NULL, of the innermost value that can be NULL.

use super::decimal::Number;
use super::kind::{Kind, Shape, ValueType};
use super::{
    Edited, Rewritten, Scratch, TextEditor, ValueError, decimal, hex, json, network, take_version,
    text, write_version,
};
use crate::postgres::frontend::Format;
use crate::wire::{Malformed, Reader};

/// Most levels of arrays and rows in each other.
///
/// Each takes a frame of the stack. PostgreSQL has no limit of its own; schemas that nest deeper
/// than four were not seen.
pub const NESTING_MAX: usize = 16;

/// Most dimensions of an array: PostgreSQL's `MAXDIM`.
const DIMENSIONS_MAX: usize = 6;

/// Who edits, and what is needed for it.
pub(super) struct Editing<'e> {
    pub(super) editor: &'e mut dyn TextEditor,
    pub(super) scratch: &'e mut Scratch,
    pub(super) depth: usize,
}

impl Editing<'_> {
    /// Whether the editor would change a text.
    fn changes(&mut self, text: &[u8]) -> bool {
        let mut edited = self.scratch.take();
        let outcome = self.editor.edit(text, &mut edited);
        self.scratch.give(edited);
        outcome == Edited::Changed
    }

    /// NULL where the editor would change the text that `write` appends.
    fn nulled(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>,
    ) -> Result<Rewritten, Malformed> {
        let mut text = self.scratch.take();
        let outcome = write(&mut text).map(|()| null_if(self.changes(&text)));
        self.scratch.give(text);
        outcome
    }
}

fn null_if(is_changed: bool) -> Rewritten {
    if is_changed {
        Rewritten::Null
    } else {
        Rewritten::Unchanged
    }
}

fn value_if(edited: Edited) -> Rewritten {
    match edited {
        Edited::Changed => Rewritten::Value,
        Edited::Unchanged => Rewritten::Unchanged,
    }
}

/// Appends what a value becomes when each text inside is edited.
pub(super) fn edit(
    value: &[u8],
    type_: ValueType,
    format: Format,
    editing: &mut Editing<'_>,
    out: &mut Vec<u8>,
) -> Result<Rewritten, ValueError> {
    if editing.depth > NESTING_MAX {
        return Err(ValueError::TooDeep);
    }
    let kind = type_.kind;
    let malformed = |what| ValueError::Malformed { kind, what };
    match (type_.shape, kind, format) {
        (Shape::Array, _, Format::Text) => array_text(value, type_, editing, out),
        (Shape::Array, _, Format::Binary) => array_binary(value, type_, editing, out),
        (Shape::Scalar, Kind::Record, Format::Text) => record_text(value, editing, out),
        (Shape::Scalar, Kind::Record, Format::Binary) => record_binary(value, editing, out),
        (Shape::Scalar, _, _) => scalar(value, type_, format, editing, out).map_err(malformed),
        (Shape::Range | Shape::Multirange, _, Format::Text) => Ok(null_if(editing.changes(value))),
        (Shape::Range, _, Format::Binary) => {
            range(&mut Reader::new(value), type_, editing).map_err(malformed)
        }
        (Shape::Multirange, _, Format::Binary) => {
            multirange(value, type_, editing).map_err(malformed)
        }
    }
}

fn scalar(
    value: &[u8],
    type_: ValueType,
    format: Format,
    editing: &mut Editing<'_>,
    out: &mut Vec<u8>,
) -> Result<Rewritten, Malformed> {
    let start = out.len();
    match type_.kind {
        Kind::Text | Kind::VarChar | Kind::BpChar | Kind::Name | Kind::Char => {
            let edited = editing.editor.edit(value, out);
            if edited == Edited::Changed {
                text::fit(type_, start, out);
            }
            Ok(value_if(edited))
        }
        Kind::Xml => Ok(value_if(editing.editor.edit(value, out))),
        Kind::Json => json::edit(value, editing, out).map(value_if),
        Kind::Jsonb => {
            let json = take_version(value, format)?;
            write_version(format, out);
            json::edit(json, editing, out).map(value_if)
        }
        Kind::JsonPath => {
            let path = take_version(value, format)?;
            Ok(null_if(editing.changes(path)))
        }
        Kind::Bytea => bytea(value, format, editing, out),
        Kind::Int4 => numeral(value, Number::Int4, format, editing),
        Kind::Int8 => numeral(value, Number::Int8, format, editing),
        Kind::Oid => numeral(value, Number::Oid, format, editing),
        Kind::Numeric => numeral(value, Number::Numeric, format, editing),
        Kind::Float4 => numeral(value, Number::Float4, format, editing),
        Kind::Float8 => numeral(value, Number::Float8, format, editing),
        Kind::Inet | Kind::Cidr => {
            editing.nulled(|address| network::write_text(value, format, address))
        }
        Kind::TsVector if format == Format::Binary => lexemes(value, editing),
        Kind::TsVector | Kind::Enum | Kind::Opaque | Kind::Record => {
            Ok(null_if(editing.changes(value)))
        }
        // None of them has room for what detectors look for.
        Kind::Int2
        | Kind::Money
        | Kind::Bool
        | Kind::Uuid
        | Kind::Date
        | Kind::Time
        | Kind::TimeTz
        | Kind::Timestamp
        | Kind::TimestampTz
        | Kind::Interval
        | Kind::MacAddr
        | Kind::Bit => Ok(Rewritten::Unchanged),
    }
}

fn numeral(
    value: &[u8],
    kind: Number,
    format: Format,
    editing: &mut Editing<'_>,
) -> Result<Rewritten, Malformed> {
    editing.nulled(|digits| decimal::write_text(value, kind, format, digits))
}

fn bytea(
    value: &[u8],
    format: Format,
    editing: &mut Editing<'_>,
    out: &mut Vec<u8>,
) -> Result<Rewritten, Malformed> {
    if format == Format::Binary {
        return Ok(value_if(editing.editor.edit(value, out)));
    }
    let (mut bytes, mut edited) = (editing.scratch.take(), editing.scratch.take());
    let outcome = hex::read_bytea(value, format, &mut bytes)
        .map(|()| editing.editor.edit(&bytes, &mut edited));
    if let Ok(Edited::Changed) = outcome {
        hex::write_bytea(&edited, format, out);
    }
    editing.scratch.give(bytes);
    editing.scratch.give(edited);
    outcome.map(value_if)
}

/// Spec: PostgreSQL's `tsvectorsend`.
fn lexemes(value: &[u8], editing: &mut Editing<'_>) -> Result<Rewritten, Malformed> {
    let mut reader = Reader::new(value);
    let count = reader.u32()?;
    let mut is_changed = false;
    for _ in 0..count {
        let lexeme = reader.string()?;
        let positions = reader.u16()?;
        reader.bytes(usize::from(positions) * 2)?;
        is_changed |= editing.changes(lexeme);
    }
    reader.finish()?;
    Ok(null_if(is_changed))
}

/// What a range has, from its flags.
///
/// Spec: PostgreSQL's `rangetypes.h`.
mod flag {
    pub(super) const EMPTY: u8 = 0x01;
    pub(super) const LOWER_INFINITE: u8 = 0x08;
    pub(super) const UPPER_INFINITE: u8 = 0x10;
    pub(super) const LOWER_NULL: u8 = 0x20;
    pub(super) const UPPER_NULL: u8 = 0x40;
}

fn range(
    reader: &mut Reader<'_>,
    type_: ValueType,
    editing: &mut Editing<'_>,
) -> Result<Rewritten, Malformed> {
    let flags = reader.u8()?;
    let mut is_changed = false;
    for none in [
        flag::EMPTY | flag::LOWER_INFINITE | flag::LOWER_NULL,
        flag::EMPTY | flag::UPPER_INFINITE | flag::UPPER_NULL,
    ] {
        if flags & none != 0 {
            continue;
        }
        let bound = reader.nullable()?.ok_or(Malformed::Missing)?;
        let mut out = editing.scratch.take();
        let outcome = scalar(bound, type_.element(), Format::Binary, editing, &mut out);
        editing.scratch.give(out);
        is_changed |= outcome? != Rewritten::Unchanged;
    }
    reader.finish()?;
    Ok(null_if(is_changed))
}

fn multirange(
    value: &[u8],
    type_: ValueType,
    editing: &mut Editing<'_>,
) -> Result<Rewritten, Malformed> {
    let mut reader = Reader::new(value);
    let count = reader.u32()?;
    let mut is_changed = false;
    for _ in 0..count {
        let one = reader.nullable()?.ok_or(Malformed::Missing)?;
        is_changed |= range(&mut Reader::new(one), type_, editing)? != Rewritten::Unchanged;
    }
    reader.finish()?;
    Ok(null_if(is_changed))
}

/// Copies a value behind its length, with what it becomes in its place; says whether it changed.
fn element_binary(
    value: Option<&[u8]>,
    type_: ValueType,
    editing: &mut Editing<'_>,
    out: &mut Vec<u8>,
) -> Result<Edited, ValueError> {
    let Some(value) = value else {
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        return Ok(Edited::Unchanged);
    };
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let start = out.len();
    editing.depth += 1;
    let rewritten = edit(value, type_, Format::Binary, editing, out);
    editing.depth -= 1;
    let (length, edited) = match rewritten? {
        Rewritten::Unchanged => {
            out.truncate(start);
            out.extend_from_slice(value);
            (i32::try_from(value.len()), Edited::Unchanged)
        }
        Rewritten::Value => (i32::try_from(out.len() - start), Edited::Changed),
        Rewritten::Null => {
            out.truncate(start);
            (Ok(-1), Edited::Changed)
        }
    };
    let length = length.map_err(|_| ValueError::Malformed {
        kind: type_.kind,
        what: Malformed::TooMany { limit: 0x7fff_ffff },
    })?;
    if let Some(field) = out.get_mut(length_at..start) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    Ok(edited)
}

/// Spec: PostgreSQL's `array_send`.
fn array_binary(
    value: &[u8],
    type_: ValueType,
    editing: &mut Editing<'_>,
    out: &mut Vec<u8>,
) -> Result<Rewritten, ValueError> {
    let malformed = |what| ValueError::Malformed {
        kind: type_.kind,
        what,
    };
    let mut reader = Reader::new(value);
    let (elements, oid) = array_header(&mut reader).map_err(malformed)?;
    let header = value.len() - reader.rest().len();
    let of_header = ValueType::of(oid);
    let element = if of_header.kind == Kind::Opaque {
        type_.element()
    } else {
        of_header.with_modifier(type_.modifier)
    };
    let start = out.len();
    out.extend_from_slice(value.get(..header).unwrap_or_default());
    let mut edited = Edited::Unchanged;
    for _ in 0..elements {
        let value = reader.nullable().map_err(malformed)?;
        if element_binary(value, element, editing, out)? == Edited::Changed {
            edited = Edited::Changed;
        }
    }
    reader.finish().map_err(malformed)?;
    // A NULL may have come in.
    if let Some(flags) = out.get_mut(start + 4..start + 8) {
        flags.copy_from_slice(&1_u32.to_be_bytes());
    }
    Ok(value_if(edited))
}

/// Number of elements, and the OID of their type.
fn array_header(reader: &mut Reader<'_>) -> Result<(u32, u32), Malformed> {
    let dimensions = reader.u32()?;
    let _has_null = reader.u32()?;
    let oid = reader.u32()?;
    let limit = DIMENSIONS_MAX;
    if usize::try_from(dimensions).map_or(true, |dimensions| dimensions > limit) {
        return Err(Malformed::TooMany { limit });
    }
    let mut elements = u32::from(dimensions > 0);
    for _ in 0..dimensions {
        let length = reader.u32()?;
        let _lower_bound = reader.i32()?;
        elements = elements.checked_mul(length).ok_or(Malformed::Truncated)?;
    }
    // Each has a length at least.
    let bytes = usize::try_from(elements)
        .ok()
        .and_then(|it| it.checked_mul(4));
    if bytes.is_none_or(|bytes| bytes > reader.rest().len()) {
        return Err(Malformed::Truncated);
    }
    Ok((elements, oid))
}

/// Spec: PostgreSQL's `record_send`.
fn record_binary(
    value: &[u8],
    editing: &mut Editing<'_>,
    out: &mut Vec<u8>,
) -> Result<Rewritten, ValueError> {
    let malformed = |what| ValueError::Malformed {
        kind: Kind::Record,
        what,
    };
    let mut reader = Reader::new(value);
    let fields = reader.u32().map_err(malformed)?;
    out.extend_from_slice(&fields.to_be_bytes());
    let mut edited = Edited::Unchanged;
    for _ in 0..fields {
        let oid = reader.u32().map_err(malformed)?;
        let value = reader.nullable().map_err(malformed)?;
        out.extend_from_slice(&oid.to_be_bytes());
        if element_binary(value, ValueType::of(oid), editing, out)? == Edited::Changed {
            edited = Edited::Changed;
        }
    }
    reader.finish().map_err(malformed)?;
    Ok(value_if(edited))
}

/// Spec: PostgreSQL manual, "Array Input and Output Syntax".
fn array_text(
    value: &[u8],
    type_: ValueType,
    editing: &mut Editing<'_>,
    out: &mut Vec<u8>,
) -> Result<Rewritten, ValueError> {
    let malformed = |what| ValueError::Malformed {
        kind: type_.kind,
        what,
    };
    // Dimensions that do not begin at 1 stand in front: `[0:1]={a,b}`.
    let begin = value.iter().position(|byte| *byte == b'{');
    let mut position = begin.ok_or_else(|| malformed(Malformed::Missing))?;
    let mut open = 0_usize;
    let mut edit = Splice::new(value);
    while let Some(byte) = value.get(position) {
        match byte {
            b'{' => open += 1,
            b'}' => {
                open = open
                    .checked_sub(1)
                    .ok_or_else(|| malformed(Malformed::NotText))?;
            }
            b',' => {}
            _ => {
                let item = Item::array_element(value, position).map_err(malformed)?;
                position = item.end;
                if !item.is_null() {
                    let element = type_.element();
                    edit_item(&item, element, editing, &mut edit, out, write_element)?;
                }
                continue;
            }
        }
        if open > DIMENSIONS_MAX {
            return Err(malformed(Malformed::TooMany {
                limit: DIMENSIONS_MAX,
            }));
        }
        position += 1;
        if open == 0 {
            break;
        }
    }
    if open > 0 {
        return Err(malformed(Malformed::Unterminated));
    }
    let surplus = value.len() - position;
    if surplus > 0 {
        return Err(malformed(Malformed::Surplus { bytes: surplus }));
    }
    Ok(value_if(edit.finish(out)))
}

/// Spec: PostgreSQL manual, "Composite Type Input and Output Syntax".
fn record_text(
    value: &[u8],
    editing: &mut Editing<'_>,
    out: &mut Vec<u8>,
) -> Result<Rewritten, ValueError> {
    let malformed = |what| ValueError::Malformed {
        kind: Kind::Record,
        what,
    };
    let [b'(', .., b')'] = value else {
        return Err(malformed(Malformed::NotText));
    };
    let end = value.len() - 1;
    let mut position = 1;
    let mut edit = Splice::new(value);
    while position < end {
        if value.get(position) == Some(&b',') {
            position += 1;
            continue;
        }
        let item = Item::record_field(value, position).map_err(malformed)?;
        position = item.end;
        // The types of fields are not in the text. What looks like a number is not replaced by
        // words, on which whoever reads numbers would fail.
        let raw = value.get(item.start..item.end).unwrap_or_default();
        let is_number = raw
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e'));
        let kind = if is_number { Kind::Opaque } else { Kind::Text };
        let field = ValueType::scalar(kind);
        edit_item(&item, field, editing, &mut edit, out, write_field)?;
    }
    if position != end {
        return Err(malformed(Malformed::NotText));
    }
    Ok(value_if(edit.finish(out)))
}

/// Edits one element or field, and splices what it becomes.
fn edit_item(
    item: &Item<'_>,
    type_: ValueType,
    editing: &mut Editing<'_>,
    splice: &mut Splice<'_>,
    out: &mut Vec<u8>,
    write: fn(Option<&[u8]>, &mut Vec<u8>),
) -> Result<(), ValueError> {
    let (mut plain, mut edited) = (editing.scratch.take(), editing.scratch.take());
    let text = item.text(&mut plain);
    editing.depth += 1;
    let outcome = edit(text, type_, Format::Text, editing, &mut edited);
    editing.depth -= 1;
    if let Ok(Rewritten::Value | Rewritten::Null) = outcome {
        splice.copy_to(item.start, item.end, out);
        let value = (outcome == Ok(Rewritten::Value)).then_some(edited.as_slice());
        write(value, out);
    }
    editing.scratch.give(plain);
    editing.scratch.give(edited);
    outcome.map(|_| ())
}

fn write_element(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        Some(value) => write_quoted(value, b'\\', out),
        None => out.extend_from_slice(b"NULL"),
    }
}

fn write_field(value: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        write_quoted(value, b'"', out);
    }
}

/// Appends a value in quotes; `before_quote` stands before a quote inside.
fn write_quoted(value: &[u8], before_quote: u8, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in value {
        match byte {
            b'"' => out.extend_from_slice(&[before_quote, b'"']),
            b'\\' => out.extend_from_slice(b"\\\\"),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// An element of an array or a field of a row, as it is written.
struct Item<'t> {
    raw: &'t [u8],
    is_quoted: bool,
    start: usize,
    end: usize,
}

impl<'t> Item<'t> {
    fn array_element(value: &'t [u8], start: usize) -> Result<Self, Malformed> {
        Self::take(value, start, [b'{', b'}'], false)
    }

    fn record_field(value: &'t [u8], start: usize) -> Result<Self, Malformed> {
        Self::take(value, start, [b'(', b')'], true)
    }

    fn take(
        value: &'t [u8],
        start: usize,
        [open, close]: [u8; 2],
        quotes_double: bool,
    ) -> Result<Self, Malformed> {
        let is_quoted = value.get(start) == Some(&b'"');
        let mut position = start + usize::from(is_quoted);
        loop {
            let byte = value.get(position).ok_or(Malformed::Unterminated)?;
            match byte {
                b'"' if is_quoted => {
                    if quotes_double && value.get(position + 1) == Some(&b'"') {
                        position += 2;
                        continue;
                    }
                    position += 1;
                    break;
                }
                b'\\' if is_quoted => {
                    position += 2;
                    continue;
                }
                _ if is_quoted => {}
                b',' => break,
                byte if *byte == close => break,
                // The server quotes what has them.
                b'"' | b'\\' => return Err(Malformed::NotText),
                byte if *byte == open => return Err(Malformed::NotText),
                _ => {}
            }
            position += 1;
        }
        let behind = value.get(position).ok_or(Malformed::Unterminated)?;
        if *behind != b',' && *behind != close {
            return Err(Malformed::NotText);
        }
        // What is not there has no bytes: the loops over items go on by them.
        if position == start {
            return Err(Malformed::NotText);
        }
        let raw = value.get(start..position).ok_or(Malformed::Unterminated)?;
        Ok(Self {
            raw,
            is_quoted,
            start,
            end: position,
        })
    }

    fn is_null(&self) -> bool {
        !self.is_quoted && self.raw.eq_ignore_ascii_case(b"NULL")
    }

    /// The text without quotes and escapes.
    fn text<'p>(&self, plain: &'p mut Vec<u8>) -> &'p [u8]
    where
        't: 'p,
    {
        let raw = self.raw;
        let [b'"', quoted @ .., b'"'] = raw else {
            return raw;
        };
        let mut bytes = quoted.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                // Doubled, or escaped by a backslash: what follows stands for itself.
                b'"' | b'\\' => plain.extend(bytes.next()),
                _ => plain.push(*byte),
            }
        }
        plain
    }
}

/// A text of which parts are replaced.
struct Splice<'t> {
    text: &'t [u8],
    copied: usize,
}

impl<'t> Splice<'t> {
    fn new(text: &'t [u8]) -> Self {
        Self { text, copied: 0 }
    }

    /// Appends what stands before `start`, and leaves out what stands before `end`.
    fn copy_to(&mut self, start: usize, end: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text.get(self.copied..start).unwrap_or_default());
        self.copied = end;
    }

    /// Appends the rest, unless nothing was replaced.
    fn finish(self, out: &mut Vec<u8>) -> Edited {
        if self.copied == 0 {
            return Edited::Unchanged;
        }
        out.extend_from_slice(self.text.get(self.copied..).unwrap_or_default());
        Edited::Changed
    }
}
