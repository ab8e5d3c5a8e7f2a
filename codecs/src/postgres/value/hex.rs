//! Bytes as digits: `bytea`, `uuid`.

use crate::wire::Malformed;

use crate::postgres::frontend::Format;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

pub(super) fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 0xf] {
            out.extend(DIGITS.get(usize::from(nibble)));
        }
    }
}

/// Appends the bytes of a `bytea` as a value of the format.
pub(super) fn write_bytea(bytes: &[u8], format: Format, out: &mut Vec<u8>) {
    match format {
        Format::Binary => out.extend_from_slice(bytes),
        Format::Text => {
            out.extend_from_slice(b"\\x");
            write_hex(bytes, out);
        }
    }
}

/// Appends the bytes that a `bytea` is.
///
/// Spec: PostgreSQL manual, "Binary Data Types"; `bytea_output` chooses between hex and escape.
pub(super) fn read_bytea(value: &[u8], format: Format, out: &mut Vec<u8>) -> Result<(), Malformed> {
    if format == Format::Binary {
        out.extend_from_slice(value);
        return Ok(());
    }
    let Some(digits) = value.strip_prefix(b"\\x") else {
        return read_escaped(value, out);
    };
    let (pairs, []) = digits.as_chunks::<2>() else {
        return Err(Malformed::Truncated);
    };
    for [high, low] in pairs {
        out.push(nibble(*high)? << 4 | nibble(*low)?);
    }
    Ok(())
}

fn read_escaped(mut rest: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    loop {
        rest = match rest {
            [] => return Ok(()),
            [b'\\', b'\\', rest @ ..] => {
                out.push(b'\\');
                rest
            }
            [
                b'\\',
                high @ b'0'..=b'3',
                middle @ b'0'..=b'7',
                low @ b'0'..=b'7',
                rest @ ..,
            ] => {
                out.push((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'));
                rest
            }
            [b'\\', ..] => return Err(Malformed::NotText),
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        }
    }
}

fn nibble(digit: u8) -> Result<u8, Malformed> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(Malformed::NotText),
    }
}

const UUID_GROUPS: [usize; 5] = [4, 2, 2, 2, 6];

pub(super) fn read_uuid(value: &[u8], format: Format) -> Result<[u8; 16], Malformed> {
    match format {
        Format::Binary => match value.try_into() {
            Ok(bytes) => Ok(bytes),
            Err(_) if value.len() < 16 => Err(Malformed::Truncated),
            Err(_) => Err(Malformed::Surplus {
                bytes: value.len() - 16,
            }),
        },
        Format::Text => parse_uuid(value).ok_or(Malformed::NotText),
    }
}

/// The bytes of a UUID as PostgreSQL writes it, `None` of any other text.
pub(super) fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut slots = bytes.iter_mut();
    let mut groups = text.split(|byte| *byte == b'-');
    for length in UUID_GROUPS {
        let (pairs, []) = groups.next()?.as_chunks::<2>() else {
            return None;
        };
        if pairs.len() != length {
            return None;
        }
        for [high, low] in pairs {
            *slots.next()? = nibble(*high).ok()? << 4 | nibble(*low).ok()?;
        }
    }
    groups.next().is_none().then_some(bytes)
}

pub(super) fn write_uuid(bytes: [u8; 16], format: Format, out: &mut Vec<u8>) {
    if format == Format::Binary {
        out.extend_from_slice(&bytes);
        return;
    }
    let mut rest = bytes.iter();
    for (position, length) in UUID_GROUPS.into_iter().enumerate() {
        if position > 0 {
            out.push(b'-');
        }
        for byte in rest.by_ref().take(length) {
            write_hex(&[*byte], out);
        }
    }
}

/// A UUID whose bits are a digest's.
///
/// Spec: RFC 9562, "UUID Version 8".
pub(super) fn uuid_of(mut digest: [u8; 16]) -> [u8; 16] {
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut digest;
    *version = *version & 0x0f | 0x80;
    *variant = *variant & 0x3f | 0x80;
    digest
}
