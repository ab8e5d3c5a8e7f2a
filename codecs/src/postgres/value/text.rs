//! Values that are text as a whole: what they are replaced by, and the lengths of their types.

use std::fmt;

use super::kind::{Kind, ValueType};

/// What stands for a hidden text.
pub const TEXT_REDACTED: &str = "[redacted]";

/// What stands for a hidden `xml`: a document and a content.
pub const XML_REDACTED: &str = "<redacted/>";

/// What stands for a hidden `bytea`, as bytes.
pub const BYTES_REDACTED: &str = "[redacted]";

/// Most bytes of a `name`: `NAMEDATALEN` less the terminator.
const NAME_BYTES_MAX: usize = 63;

/// Appends formatted text.
pub(super) fn append(text: fmt::Arguments<'_>, out: &mut Vec<u8>) {
    struct Bytes<'v>(&'v mut Vec<u8>);
    impl fmt::Write for Bytes<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    let written = fmt::Write::write_fmt(&mut Bytes(out), text);
    debug_assert!(
        written.is_ok(),
        "numbers and addresses always can be written"
    );
}

/// Appends what says that a text is hidden: stars where the type is too short for words.
pub(super) fn redact(type_: ValueType, out: &mut Vec<u8>) {
    let start = out.len();
    let limit = if type_.kind == Kind::Char {
        Some(1)
    } else {
        type_.characters_max()
    };
    match limit {
        Some(limit) if limit < TEXT_REDACTED.len() => out.resize(start + limit, b'*'),
        _ => out.extend_from_slice(TEXT_REDACTED.as_bytes()),
    }
    fit(type_, start, out);
}

/// The text of a value without the spaces that its type adds.
pub(super) fn unpadded(value: &[u8], kind: Kind) -> &[u8] {
    if kind != Kind::BpChar {
        return value;
    }
    let last = value.iter().rposition(|byte| *byte != b' ');
    value
        .get(..last.map_or(0, |last| last + 1))
        .unwrap_or_default()
}

/// Cuts, or pads, what stands in `out` from `start` on to what its type has.
pub(super) fn fit(type_: ValueType, start: usize, out: &mut Vec<u8>) {
    let text = out.get(start..).unwrap_or_default();
    let bytes_max = if type_.kind == Kind::Name {
        NAME_BYTES_MAX
    } else if type_.kind == Kind::Char {
        1
    } else {
        usize::MAX
    };
    let characters_max = type_.characters_max().unwrap_or(usize::MAX);
    let mut characters = 0;
    let mut end = 0;
    for character in characters_of(text) {
        if characters == characters_max || end + character.len() > bytes_max {
            break;
        }
        characters += 1;
        end += character.len();
    }
    out.truncate(start + end);
    if type_.kind == Kind::BpChar && characters_max < usize::MAX {
        let missing = characters_max - characters;
        out.resize(out.len() + missing, b' ');
    }
}

/// A byte and the continuation bytes behind it.
fn characters_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.chunk_by(|_, next| next & 0xc0 == 0x80)
}
