//! What stands in the place of a masked value.

use policy::mask::Transform;
use policy::mask::transform::{write_first, write_last4};

use super::shape::Column;

/// Types of which every run of characters is a value, in both formats: text, varchar, bpchar, name.
const TEXTS: [u32; 4] = [25, 1043, 1042, 19];

/// Writes what stands in the place of `clear`; `false` for NULL.
pub(super) fn write_masked(
    transform: &Transform,
    column: &Column,
    clear: &[u8],
    out: &mut Vec<u8>,
) -> bool {
    if !TEXTS.contains(&column.type_oid) {
        return false;
    }
    match transform {
        Transform::Redact => out.extend_from_slice(b"***"),
        Transform::Fixed(text) => out.extend_from_slice(text.as_bytes()),
        Transform::Last4 => write_last4(clear, out),
        Transform::First(characters) => write_first(clear, *characters, out),
        Transform::Null | Transform::Hash | Transform::Round(_) | Transform::Truncate(_) => {
            return false;
        }
    }
    true
}
