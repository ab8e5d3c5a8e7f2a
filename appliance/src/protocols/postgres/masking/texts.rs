//! Errors and notices of the server, which may quote what is masked.

use codecs::postgres::backend::{ErrorFields, field};
use codecs::postgres::edit::rewrite_fields;
use codecs::postgres::{BackendTag, EncodeError};

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
    rewrite_fields(out, tag, fields, |code, _| match code {
        field::MESSAGE => Some(WITHHELD),
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
        | field::ROUTINE => None,
        // DETAIL, HINT, CONTEXT, the internal query, and whatever comes to be added.
        _ => Some(WITHHELD_TOO),
    })
}
