//! Rows that are too long to be held: their length is sent before them, so that what is masked is
//! filled byte for byte.
//!
//! Text, documents, XML and `bytea` can be filled. What has another form would have to become NULL,
//! which is shorter: such a row can not be passed on.

use std::rc::Rc;

use codecs::postgres::frontend::Format;
use codecs::postgres::value::{self, Kind, ValueType};
use codecs::wire::Malformed;
use policy::mask::detect::{self, DetectorSet, StreamScanner};

use super::Unmaskable;
use super::session::SessionMasks;
use super::shape::{Column, Shape};
use super::value::{Becomes, Tools};

/// Longest value that is held to find out whether it must be hidden, where it can not be filled.
///
/// Bytes. The longest number of PostgreSQL has 147,455 digits; a card number in a longer one than
/// this was not seen.
const HELD_MAX: usize = 4096;

/// One row on its way. Per message.
pub(super) struct LongRow {
    shape: Rc<Shape>,
    /// The column of the next value.
    column: usize,
    part: Part,
    /// Bytes of a number that came in pieces.
    number: Vec<u8>,
}

/// What comes next.
enum Part {
    /// Int16, the number of values.
    Count,
    /// Int32, the length of a value.
    Length,
    Value {
        left: usize,
        way: Way,
    },
    End,
}

/// What is done with a value.
enum Way {
    Pass,
    /// The offset of the next byte is counted from the end.
    Fill {
        length: usize,
        with: Filling,
    },
    Scan(Box<StreamScanner>),
    /// It is passed when nothing in it must be hidden.
    Hold(Vec<u8>),
}

#[derive(Clone, Copy)]
enum Filling {
    Stars,
    /// A string of JSON, behind so many bytes that stay.
    Json {
        version: usize,
    },
    /// `\x` and pairs of digits.
    Hex,
}

impl LongRow {
    pub(super) fn row(shape: Rc<Shape>) -> Self {
        Self {
            shape,
            column: 0,
            part: Part::Count,
            number: Vec::new(),
        }
    }

    /// One value without a count: the result of a function.
    pub(super) fn value(shape: Rc<Shape>) -> Self {
        Self {
            part: Part::Length,
            ..Self::row(shape)
        }
    }

    /// Takes a stretch of the row, and appends to `out` what can be said of it.
    pub(super) fn feed(
        &mut self,
        mut stretch: &[u8],
        masks: &SessionMasks,
        tools: &Tools,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        while !stretch.is_empty() || matches!(self.part, Part::Value { left: 0, .. }) {
            match &mut self.part {
                Part::Count => {
                    let Some(count) = take::<2>(&mut self.number, &mut stretch, out) else {
                        return Ok(());
                    };
                    if usize::from(u16::from_be_bytes(count)) != self.shape.columns.len() {
                        return Err(Unmaskable::Miscounted);
                    }
                    self.part = self.next();
                }
                Part::Length => {
                    let Some(length) = take::<4>(&mut self.number, &mut stretch, out) else {
                        return Ok(());
                    };
                    let length = i32::from_be_bytes(length);
                    if length == -1 {
                        self.column += 1;
                        self.part = self.next();
                        continue;
                    }
                    let left = usize::try_from(length).map_err(|_| malformed())?;
                    let column = self.shape.columns.get(self.column);
                    let column = column.ok_or(Unmaskable::Miscounted)?;
                    let way = way(column, left)?;
                    self.part = Part::Value { left, way };
                }
                Part::Value { left, way } => {
                    let now = (*left).min(stretch.len());
                    let (value, rest) = stretch.split_at(now);
                    stretch = rest;
                    way.take(value, *left, &masks.detectors, out)?;
                    *left -= now;
                    if *left > 0 {
                        return Ok(());
                    }
                    let way = std::mem::replace(way, Way::Pass);
                    let column = self.shape.columns.get(self.column);
                    way.finish(column, masks, tools, out)?;
                    self.column += 1;
                    self.part = self.next();
                }
                Part::End => return Err(malformed()),
            }
        }
        Ok(())
    }

    /// Ends the row.
    pub(super) fn finish(self) -> Result<(), Unmaskable> {
        match self.part {
            Part::End => Ok(()),
            Part::Count | Part::Length | Part::Value { .. } => Err(malformed()),
        }
    }

    fn next(&self) -> Part {
        if self.column < self.shape.columns.len() {
            Part::Length
        } else {
            Part::End
        }
    }
}

impl Way {
    fn take(
        &mut self,
        value: &[u8],
        left: usize,
        detectors: &DetectorSet,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        match self {
            Self::Pass => out.extend_from_slice(value),
            Self::Fill { length, with } => {
                let offset = *length - left;
                with.write(*length, offset, value, out);
            }
            Self::Scan(scanner) => scanner.feed(detectors, value, out),
            Self::Hold(held) => {
                if held.len() + value.len() > HELD_MAX {
                    return Err(Unmaskable::TooLong);
                }
                held.extend_from_slice(value);
            }
        }
        Ok(())
    }

    fn finish(
        self,
        column: Option<&Column>,
        masks: &SessionMasks,
        tools: &Tools,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        match self {
            Self::Pass | Self::Fill { .. } => {}
            Self::Scan(scanner) => {
                let _found = scanner.finish(&masks.detectors, out);
            }
            Self::Hold(held) => {
                let column = column.ok_or(Unmaskable::Miscounted)?;
                let is_clean = tools.rewrite(masks, column, &held, |becomes| {
                    matches!(becomes, Becomes::Unchanged)
                });
                if !is_clean {
                    return Err(Unmaskable::TooLong);
                }
                out.extend_from_slice(&held);
            }
        }
        Ok(())
    }
}

impl Filling {
    /// Appends what stands in the place of `value`, which begins at `offset` of `length` bytes.
    fn write(self, length: usize, offset: usize, value: &[u8], out: &mut Vec<u8>) {
        let positions = offset..offset.saturating_add(value.len());
        match self {
            Self::Stars => out.resize(out.len().saturating_add(value.len()), b'*'),
            Self::Json { version } => {
                out.extend(positions.zip(value).map(|(at, byte)| match at {
                    at if at < version => *byte,
                    // Too short for a string.
                    _ if length.saturating_sub(version) == 1 => b'0',
                    at if at == version || at + 1 == length => b'"',
                    _ => b'*',
                }));
            }
            Self::Hex => out.extend(positions.map(|at| match at {
                0 => b'\\',
                1 => b'x',
                at if at.is_multiple_of(2) => b'2',
                _ => b'a',
            })),
        }
    }
}

fn way(column: &Column, length: usize) -> Result<Way, Unmaskable> {
    let type_ = column.type_;
    if column.mask.is_some() {
        let with = filling(type_, column.format, length).ok_or(Unmaskable::TooLong)?;
        return Ok(Way::Fill { length, with });
    }
    if !column.is_scanned {
        return Ok(Way::Pass);
    }
    let kinds_held = [Kind::Int8, Kind::Numeric, Kind::Inet, Kind::Cidr];
    if kinds_held.contains(&type_.kind) {
        return Ok(Way::Hold(Vec::new()));
    }
    let is_document = matches!(type_.kind, Kind::Json | Kind::Jsonb);
    // A value of several others is looked at as it stands: what is found in it is filled.
    let format = if is_document && type_.shape == value::Shape::Scalar {
        detect::Format::Json
    } else {
        detect::Format::Text
    };
    Ok(Way::Scan(Box::new(StreamScanner::new(format))))
}

/// How a value is filled; `None` where it would not be of its type.
fn filling(type_: ValueType, format: Format, length: usize) -> Option<Filling> {
    if type_.shape != value::Shape::Scalar {
        return None;
    }
    match (type_.kind, format) {
        (Kind::Bytea, Format::Text) if length.is_multiple_of(2) && length > 0 => Some(Filling::Hex),
        (Kind::Bytea | Kind::Xml, _) => Some(Filling::Stars),
        (kind, _) if kind.is_text() => Some(Filling::Stars),
        (Kind::Json, _) | (Kind::Jsonb, Format::Text) => Some(Filling::Json { version: 0 }),
        (Kind::Jsonb, Format::Binary) => Some(Filling::Json { version: 1 }),
        _ => None,
    }
}

/// Takes a number off the front, which passes; `None` while it is not whole.
fn take<const N: usize>(
    number: &mut Vec<u8>,
    stretch: &mut &[u8],
    out: &mut Vec<u8>,
) -> Option<[u8; N]> {
    let missing = N.saturating_sub(number.len()).min(stretch.len());
    let (taken, rest) = stretch.split_at(missing);
    *stretch = rest;
    number.extend_from_slice(taken);
    let whole = number.first_chunk::<N>().copied()?;
    number.clear();
    out.extend_from_slice(&whole);
    Some(whole)
}

fn malformed() -> Unmaskable {
    Unmaskable::Malformed(codecs::postgres::DecodeError::Malformed {
        message: "DataRow",
        what: Malformed::Truncated,
    })
}
