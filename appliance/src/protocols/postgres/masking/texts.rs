//! Errors and notices of the server, which may quote what is masked.

use codecs::postgres::backend::{ErrorFields, field};
use codecs::postgres::edit::rewrite_fields;
use codecs::postgres::{BackendTag, EncodeError};

use super::session::SessionMasks;
use super::value::Tools;

/// Stands for a message of the server.
const WITHHELD: &[u8] = b"the target's words are withheld: they may quote a masked value";

/// Stands for every other text of it.
const WITHHELD_TOO: &[u8] = b"withheld";

/// Stands for the payload of a NOTIFY.
pub(super) const WITHHELD_PAYLOAD: &[u8] = b"withheld: it may quote a masked value";

/// Writes an error or notice with its code and names, and none of its texts.
pub(super) fn withhold(
    out: &mut Vec<u8>,
    tag: BackendTag,
    fields: &ErrorFields<'_>,
) -> Result<(), EncodeError> {
    rewrite_fields(out, tag, fields, |code, _, other| {
        if is_name(code) {
            return false;
        }
        // DETAIL, HINT, CONTEXT, the internal query, and whatever comes to be added.
        other.extend_from_slice(match code {
            field::MESSAGE => WITHHELD,
            _ => WITHHELD_TOO,
        });
        true
    })
}

/// Writes an error or notice without the values that detectors find in it; whether there are any.
pub(super) fn redact(
    out: &mut Vec<u8>,
    tag: BackendTag,
    fields: &ErrorFields<'_>,
    masks: &SessionMasks,
    tools: &Tools,
) -> Result<bool, EncodeError> {
    let start = out.len();
    let mut is_changed = false;
    rewrite_fields(out, tag, fields, |code, text, other| {
        let is_other = !is_name(code) && tools.redact(masks, text, other);
        is_changed |= is_other;
        is_other
    })?;
    if !is_changed {
        out.truncate(start);
    }
    Ok(is_changed)
}

/// Fields that hold a code, a place or a name, and no text.
fn is_name(code: u8) -> bool {
    matches!(
        code,
        field::SEVERITY
            | field::SEVERITY_NONLOCALIZED
            | field::SQLSTATE
            | field::POSITION
            | field::INTERNAL_POSITION
            | field::SCHEMA
            | field::TABLE
            | field::COLUMN
            | field::DATA_TYPE
            | field::CONSTRAINT
            | field::FILE
            | field::LINE
            | field::ROUTINE
    )
}
