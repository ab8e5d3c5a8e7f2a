//! JSON: the texts inside are edited one by one, the rest stays byte for byte.
//!
//! Structure is not checked, only passed on: what is cut out and written back is whole strings and
//! numbers, so that JSON stays JSON.
//!
//! Spec: RFC 8259.

use std::ops::Range;

use super::nested::Editing;
use super::{Edited, hex};
use crate::wire::Malformed;

/// Appends `text` as a JSON string.
pub(super) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                hex::write_hex(&[*byte], out);
            }
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

pub(super) fn write_digest(digest: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    hex::write_hex(digest, out);
    out.push(b'"');
}

/// Appends what `json` becomes when each string, key and number in it is edited.
///
/// A number that changes becomes a string. Where nothing changes, nothing is appended.
pub(super) fn edit(
    json: &[u8],
    editing: &mut Editing<'_>,
    out: &mut Vec<u8>,
) -> Result<Edited, Malformed> {
    let mut copied = 0;
    let mut position = 0;
    // The last key, as it stands there: what it says is true of all values up to the next.
    let mut key: &[u8] = &[];
    while let Some(byte) = json.get(position) {
        let token = match byte {
            b'"' => string_at(json, position)?,
            b'-' | b'0'..=b'9' => number_at(json, position),
            _ => {
                position += 1;
                continue;
            }
        };
        let raw = json.get(token.clone()).unwrap_or_default();
        let is_key = *byte == b'"' && is_before_colon(json, token.end);
        if is_key {
            key = raw.get(1..raw.len() - 1).unwrap_or_default();
        }
        let member_of = if is_key { &[] } else { key };
        let mut edited = editing.scratch.take();
        let outcome = edit_token(raw, member_of, editing, &mut edited);
        if let Ok(Edited::Changed) = outcome {
            out.extend_from_slice(json.get(copied..token.start).unwrap_or_default());
            write_string(&edited, out);
            copied = token.end;
        }
        editing.scratch.give(edited);
        outcome?;
        position = token.end;
    }
    if copied == 0 {
        return Ok(Edited::Unchanged);
    }
    out.extend_from_slice(json.get(copied..).unwrap_or_default());
    Ok(Edited::Changed)
}

/// Edits one string or number, and appends its new text without quotes or escapes.
fn edit_token(
    raw: &[u8],
    key: &[u8],
    editing: &mut Editing<'_>,
    edited: &mut Vec<u8>,
) -> Result<Edited, Malformed> {
    let text = match raw {
        [b'"', text @ .., b'"'] => text,
        number => number,
    };
    if !text.contains(&b'\\') {
        return Ok(editing.editor.edit_member(key, text, edited));
    }
    let mut plain = editing.scratch.take();
    let outcome =
        unescape(text, &mut plain).map(|()| editing.editor.edit_member(key, &plain, edited));
    editing.scratch.give(plain);
    outcome
}

fn string_at(json: &[u8], start: usize) -> Result<Range<usize>, Malformed> {
    let mut position = start + 1;
    loop {
        match json.get(position) {
            None => return Err(Malformed::Unterminated),
            Some(b'"') => return Ok(start..position + 1),
            Some(b'\\') => position += 2,
            Some(_) => position += 1,
        }
    }
}

fn number_at(json: &[u8], start: usize) -> Range<usize> {
    let rest = json.get(start..).unwrap_or_default();
    let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    start..start + rest.iter().take_while(is_part).count()
}

fn is_before_colon(json: &[u8], end: usize) -> bool {
    let rest = json.get(end..).unwrap_or_default();
    let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    rest.iter().find(|byte| !is_space(byte)) == Some(&b':')
}

fn unescape(mut rest: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    loop {
        let plain = rest.iter().take_while(|byte| **byte != b'\\').count();
        out.extend_from_slice(rest.get(..plain).unwrap_or_default());
        rest = match rest.get(plain..).unwrap_or_default() {
            [] => return Ok(()),
            [b'\\', b'u', digits @ ..] => unescape_unicode(digits, out)?,
            [b'\\', escaped, behind @ ..] => {
                out.push(match escaped {
                    b'"' | b'\\' | b'/' => *escaped,
                    b'b' => 0x08,
                    b'f' => 0x0c,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    _ => return Err(Malformed::NotText),
                });
                behind
            }
            _ => return Err(Malformed::NotText),
        };
    }
}

/// Appends the character of an escape; one that is half of a pair becomes U+FFFD, as it is no text.
fn unescape_unicode<'t>(digits: &'t [u8], out: &mut Vec<u8>) -> Result<&'t [u8], Malformed> {
    let (first, rest) = unit(digits)?;
    let mut end = rest;
    let mut units = [first, 0];
    let mut count = 1;
    if (0xd800..0xdc00).contains(&first)
        && let [b'\\', b'u', digits @ ..] = rest
    {
        let (second, behind) = unit(digits)?;
        if (0xdc00..0xe000).contains(&second) {
            units = [first, second];
            count = 2;
            end = behind;
        }
    }
    for character in char::decode_utf16(units.into_iter().take(count)) {
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        let mut bytes = [0; 4];
        out.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
    }
    Ok(end)
}

fn unit(digits: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let (digits, rest) = digits
        .split_first_chunk::<4>()
        .ok_or(Malformed::Truncated)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Malformed::NotText);
    }
    let text = std::str::from_utf8(digits).map_err(|_| Malformed::NotText)?;
    let unit = u16::from_str_radix(text, 16).map_err(|_| Malformed::NotText)?;
    Ok((unit, rest))
}
