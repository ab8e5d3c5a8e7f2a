//! Numbers: their digits, and their nearest multiple of a power of ten.

use std::fmt;

use super::kind::Kind;
use super::text::append;
use super::{Rewritten, Scratch};
use crate::postgres::frontend::Format;
use crate::wire::{Malformed, Reader};

/// Signs of a binary `numeric`.
///
/// Spec: PostgreSQL's `numeric.c`, `numeric_send`.
mod sign {
    pub(super) const POSITIVE: u16 = 0x0000;
    pub(super) const NEGATIVE: u16 = 0x4000;
    pub(super) const NAN: u16 = 0xc000;
    pub(super) const INFINITY: u16 = 0xd000;
    pub(super) const NEGATIVE_INFINITY: u16 = 0xf000;
}

/// Decimal digits in one digit of a binary `numeric`.
const GROUP: usize = 4;

/// Most digits behind the point: `NUMERIC_DSCALE_MASK`.
const SCALE_MAX: u16 = 0x3fff;

/// Largest float that is written with all its digits, as PostgreSQL does.
const PLAIN_FLOAT_MAX: f64 = 1e15;

/// The types that are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Int2,
    Int4,
    Int8,
    Oid,
    Numeric,
    Float4,
    Float8,
}

impl Number {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "numbers are asked for; what is none gets the care of the rest"
    )]
    pub(super) const fn of(kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::Int2 => Self::Int2,
            Kind::Int4 => Self::Int4,
            Kind::Int8 => Self::Int8,
            Kind::Oid => Self::Oid,
            Kind::Numeric => Self::Numeric,
            Kind::Float4 => Self::Float4,
            Kind::Float8 => Self::Float8,
            _ => return None,
        })
    }
}

/// Appends the nearest multiple of ten to the power of `exponent`, halves away from zero.
///
/// Where that is out of the type's range, the next towards zero. What is not finite stays.
pub(super) fn round(
    value: &[u8],
    kind: Number,
    format: Format,
    exponent: u8,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Result<Rewritten, Malformed> {
    match kind {
        Number::Float4 | Number::Float8 => {
            let float = read_float(value, kind, format)?;
            if !float.is_finite() {
                return Ok(Rewritten::Unchanged);
            }
            let step = 10_f64.powi(i32::from(exponent));
            // No negative zero: its sign would be the value's.
            let rounded = (float / step).round() * step + 0.0;
            write_float(rounded, kind, format, out);
        }
        Number::Numeric => {
            let mut digits = scratch.take();
            let rounded = round_numeric(value, format, exponent, &mut digits, out);
            scratch.give(digits);
            return rounded;
        }
        Number::Int2 | Number::Int4 | Number::Int8 | Number::Oid => {
            let integer = read_integer(value, kind, format)?;
            let rounded = round_integer(integer, exponent);
            if write_integer(rounded, kind, format, out).is_none() {
                let nearer = integer - integer % power(exponent);
                write_integer(nearer, kind, format, out).ok_or(Malformed::NotText)?;
            }
        }
    }
    Ok(Rewritten::Value)
}

fn power(exponent: u8) -> i128 {
    10_i128.saturating_pow(u32::from(exponent))
}

fn round_integer(integer: i128, exponent: u8) -> i128 {
    let step = power(exponent);
    let magnitude = (integer.abs() + step / 2) / step * step;
    integer.signum() * magnitude
}

fn round_numeric(
    value: &[u8],
    format: Format,
    exponent: u8,
    digits: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<Rewritten, Malformed> {
    let is_finite = match format {
        Format::Binary => write_numeric_text(value, digits)?,
        Format::Text => {
            digits.extend_from_slice(value);
            !matches!(value, b"NaN" | b"Infinity" | b"-Infinity")
        }
    };
    if !is_finite {
        return Ok(Rewritten::Unchanged);
    }
    let decimal = Decimal::parse(digits).ok_or(Malformed::NotText)?;
    let start = out.len();
    decimal.write_rounded(usize::from(exponent), out);
    if format == Format::Binary {
        digits.clear();
        digits.extend_from_slice(out.get(start..).unwrap_or_default());
        out.truncate(start);
        let rounded = Decimal::parse(digits).ok_or(Malformed::NotText)?;
        rounded
            .write_binary(out)
            .ok_or(Malformed::TooMany { limit: 0x7fff })?;
    }
    Ok(Rewritten::Value)
}

/// A number in decimal digits, none of which is missing.
#[derive(Debug, Clone, Copy)]
struct Decimal<'t> {
    is_negative: bool,
    /// Digits before the point, without leading zeroes.
    whole: &'t [u8],
    /// Digits behind it.
    fraction: &'t [u8],
}

impl<'t> Decimal<'t> {
    /// Reads `-12.5`; no exponent, and at least one digit.
    fn parse(text: &'t [u8]) -> Option<Self> {
        let (is_negative, magnitude) = match text {
            [b'-', magnitude @ ..] => (true, magnitude),
            magnitude => (false, magnitude),
        };
        let point = magnitude.iter().position(|byte| *byte == b'.');
        let (whole, fraction) = match point {
            Some(point) => (magnitude.get(..point)?, magnitude.get(point + 1..)?),
            None => (magnitude, &[][..]),
        };
        let are_digits = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
        if whole.is_empty() && fraction.is_empty() || !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let zeroes = whole.iter().take_while(|digit| **digit == b'0').count();
        Some(Self {
            is_negative,
            whole: whole.get(zeroes..)?,
            fraction,
        })
    }

    /// Appends the multiple of ten to the power of `exponent` that is nearest.
    fn write_rounded(&self, exponent: usize, out: &mut Vec<u8>) {
        let start = out.len();
        if self.is_negative {
            out.push(b'-');
        }
        let first = out.len();
        let kept = self.whole.len().checked_sub(exponent);
        let (kept, rest) = match kept {
            Some(kept) => self.whole.split_at_checked(kept).unwrap_or_default(),
            // Less than a tenth of the step.
            None => (&[][..], &b"0"[..]),
        };
        // Room for the carry.
        out.push(b'0');
        out.extend_from_slice(kept);
        let next = rest.iter().chain(self.fraction).next();
        if next.is_some_and(|digit| *digit >= b'5') {
            let digits = out.get_mut(first..).unwrap_or_default();
            for digit in digits.iter_mut().rev() {
                if *digit < b'9' {
                    *digit += 1;
                    break;
                }
                *digit = b'0';
            }
        }
        if out.get(first) == Some(&b'0') {
            out.remove(first);
        }
        if out.len() == first {
            out.truncate(start);
            out.push(b'0');
            return;
        }
        out.resize(out.len() + exponent, b'0');
    }

    /// Appends it as a binary `numeric`; `None` where it has more digits than that.
    fn write_binary(&self, out: &mut Vec<u8>) -> Option<()> {
        let scale = u16::try_from(self.fraction.len())
            .ok()
            .filter(|scale| *scale <= SCALE_MAX)?;
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        let (head, groups) = self.whole.as_rchunks::<GROUP>();
        let mut weight = i32::try_from(groups.len()).ok()?;
        if head.is_empty() {
            weight -= 1;
        } else {
            write_group(head, 1, out);
        }
        for group in groups {
            write_group(group, 1, out);
        }
        for group in self.fraction.chunks(GROUP) {
            write_group(
                group,
                10_u16.pow(u32::try_from(GROUP - group.len()).ok()?),
                out,
            );
        }
        // Groups of zeroes at both ends are not written.
        while out.len() > start + 8 && out.get(start + 8..start + 10) == Some(&[0, 0]) {
            out.drain(start + 8..start + 10);
            weight -= 1;
        }
        while out.len() > start + 8 && out.ends_with(&[0, 0]) {
            out.truncate(out.len() - 2);
        }
        let groups = (out.len() - start - 8) / 2;
        let (weight, sign) = match (groups, self.is_negative) {
            (0, _) => (0, sign::POSITIVE),
            (_, true) => (weight, sign::NEGATIVE),
            (_, false) => (weight, sign::POSITIVE),
        };
        let header = [
            i16::try_from(groups).ok()?.to_be_bytes(),
            i16::try_from(weight).ok()?.to_be_bytes(),
            sign.to_be_bytes(),
            scale.to_be_bytes(),
        ];
        out.get_mut(start..start + 8)?
            .copy_from_slice(header.as_flattened());
        Some(())
    }
}

fn write_group(digits: &[u8], factor: u16, out: &mut Vec<u8>) {
    let group = digits
        .iter()
        .fold(0_u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    out.extend_from_slice(&(group * factor).to_be_bytes());
}

/// Appends a binary `numeric` in decimal digits; says whether it is finite.
fn write_numeric_text(value: &[u8], out: &mut Vec<u8>) -> Result<bool, Malformed> {
    let mut reader = Reader::new(value);
    let groups = reader.u16()?;
    let weight = reader.i16()?;
    let sign = reader.u16()?;
    let scale = reader.u16()?;
    reader.expect_entries(groups, 2)?;
    match sign {
        sign::POSITIVE => {}
        sign::NEGATIVE => out.push(b'-'),
        sign::NAN | sign::INFINITY | sign::NEGATIVE_INFINITY => return Ok(false),
        other => {
            return Err(Malformed::Undefined {
                value: i32::from(other),
            });
        }
    }
    if scale > SCALE_MAX {
        return Err(Malformed::TooMany {
            limit: usize::from(SCALE_MAX),
        });
    }
    let (digits, []) = reader.rest().as_chunks::<2>() else {
        return Err(Malformed::Surplus { bytes: 1 });
    };
    if digits.len() != usize::from(groups) {
        return Err(Malformed::CountMismatch {
            counted: digits.len(),
            expected: usize::from(groups),
        });
    }
    let group_at = |position: i32| -> Result<u16, Malformed> {
        let index = usize::try_from(i32::from(weight) - position).ok();
        let group = index.and_then(|index| digits.get(index));
        let group = group.map_or(0, |group| u16::from_be_bytes(*group));
        if group > 9999 {
            return Err(Malformed::Undefined {
                value: i32::from(group),
            });
        }
        Ok(group)
    };
    if weight < 0 {
        out.push(b'0');
    }
    for position in (0..=i32::from(weight)).rev() {
        write_decimal(group_at(position)?, out);
    }
    if scale > 0 {
        out.push(b'.');
        let end = out.len() + usize::from(scale);
        let mut position = -1;
        while out.len() < end {
            write_decimal(group_at(position)?, out);
            position -= 1;
        }
        out.truncate(end);
    }
    Ok(true)
}

fn write_decimal(group: u16, out: &mut Vec<u8>) {
    for unit in [1000, 100, 10, 1] {
        let digit = u8::try_from(group / unit % 10).unwrap_or_default();
        out.push(b'0' + digit);
    }
}

fn read_integer(value: &[u8], kind: Number, format: Format) -> Result<i128, Malformed> {
    if format == Format::Text {
        let text = std::str::from_utf8(value).map_err(|_| Malformed::NotText)?;
        let integer: i64 = text.parse().map_err(|_| Malformed::NotText)?;
        return Ok(i128::from(integer));
    }
    let mut reader = Reader::new(value);
    let integer = match kind {
        Number::Int2 => i128::from(reader.i16()?),
        Number::Int4 => i128::from(reader.i32()?),
        Number::Oid => i128::from(reader.u32()?),
        Number::Int8 => i128::from(i64::from_be_bytes(reader.array()?)),
        Number::Numeric | Number::Float4 | Number::Float8 => return Err(Malformed::NotText),
    };
    reader.finish()?;
    Ok(integer)
}

/// Appends an integer; `None` where its type has no such value.
fn write_integer(integer: i128, kind: Number, format: Format, out: &mut Vec<u8>) -> Option<()> {
    let wide = integer.to_be_bytes();
    let bytes = match kind {
        Number::Int2 => i16::try_from(integer).ok().map(|_| 2),
        Number::Int4 => i32::try_from(integer).ok().map(|_| 4),
        Number::Oid => u32::try_from(integer).ok().map(|_| 4),
        Number::Int8 => i64::try_from(integer).ok().map(|_| 8),
        Number::Numeric | Number::Float4 | Number::Float8 => None,
    }?;
    match format {
        Format::Binary => out.extend_from_slice(wide.get(wide.len() - bytes..)?),
        Format::Text => append(format_args!("{integer}"), out),
    }
    Some(())
}

fn read_float(value: &[u8], kind: Number, format: Format) -> Result<f64, Malformed> {
    if format == Format::Text {
        let text = std::str::from_utf8(value).map_err(|_| Malformed::NotText)?;
        return text.parse().map_err(|_| Malformed::NotText);
    }
    let mut reader = Reader::new(value);
    let float = if kind == Number::Float4 {
        f64::from(f32::from_be_bytes(reader.array()?))
    } else {
        f64::from_be_bytes(reader.array()?)
    };
    reader.finish()?;
    Ok(float)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a float4 is the nearest one, and infinite where there is none"
)]
fn write_float(float: f64, kind: Number, format: Format, out: &mut Vec<u8>) {
    match (format, kind) {
        (Format::Binary, Number::Float4) => out.extend_from_slice(&(float as f32).to_be_bytes()),
        (Format::Binary, _) => out.extend_from_slice(&float.to_be_bytes()),
        (Format::Text, _) if float.is_nan() => out.extend_from_slice(b"NaN"),
        (Format::Text, _) if float == f64::INFINITY => out.extend_from_slice(b"Infinity"),
        (Format::Text, _) if float == f64::NEG_INFINITY => out.extend_from_slice(b"-Infinity"),
        (Format::Text, Number::Float4) => write_digits(float as f32, float, out),
        (Format::Text, _) => write_digits(float, float, out),
    }
}

fn write_digits(shortest: impl fmt::Display + fmt::LowerExp, float: f64, out: &mut Vec<u8>) {
    if float.abs() < PLAIN_FLOAT_MAX {
        append(format_args!("{shortest}"), out);
    } else {
        append(format_args!("{shortest:e}"), out);
    }
}

/// Appends an operator's number; `None` where the type has no such value.
pub(super) fn write_fixed(
    text: &str,
    kind: Number,
    format: Format,
    out: &mut Vec<u8>,
) -> Option<()> {
    match kind {
        Number::Float4 | Number::Float8 => {
            let float: f64 = text.parse().ok()?;
            write_float(float, kind, format, out);
            Some(())
        }
        Number::Numeric => {
            let decimal = Decimal::parse(text.as_bytes())?;
            match format {
                Format::Text => {
                    out.extend_from_slice(text.as_bytes());
                    Some(())
                }
                Format::Binary => decimal.write_binary(out),
            }
        }
        Number::Int2 | Number::Int4 | Number::Int8 | Number::Oid => {
            write_integer(text.parse().ok()?, kind, format, out)
        }
    }
}

/// Appends the digits of a number, for whoever looks for a card in them; nothing where it has none.
///
/// A float that is an integer is written as one: the number of a card fits a `float8`.
pub(super) fn write_text(
    value: &[u8],
    kind: Number,
    format: Format,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    match kind {
        Number::Float4 | Number::Float8 => {
            let float = read_float(value, kind, format)?;
            append(format_args!("{float}"), out);
        }
        _ if format == Format::Text => out.extend_from_slice(value),
        Number::Numeric => {
            write_numeric_text(value, out)?;
        }
        Number::Int2 | Number::Int4 | Number::Int8 | Number::Oid => {
            let integer = read_integer(value, kind, format)?;
            append(format_args!("{integer}"), out);
        }
    }
    Ok(())
}
