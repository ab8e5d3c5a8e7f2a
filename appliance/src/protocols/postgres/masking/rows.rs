//! Rewrites rows value by value.

use codecs::postgres::edit::RowEdit;

use super::shape::Shape;
use super::value::write_masked;
use super::{Seen, Unmaskable};

/// Rewrites one DataRow behind what `out` holds.
pub(super) fn rewrite(
    wire: &[u8],
    shape: &Shape,
    value: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<Seen, Unmaskable> {
    let mut row = RowEdit::new(out, wire)?;
    if row.left() != shape.columns.len() {
        return Err(Unmaskable::Miscounted);
    }
    for column in &shape.columns {
        let Some(Some(clear)) = row.next_value()? else {
            // NULL says nothing; and there is a value for each column, as was counted.
            continue;
        };
        let Some(transform) = &column.mask else {
            continue;
        };
        value.clear();
        let is_value = write_masked(transform, column, clear, value);
        row.replace(is_value.then_some(value.as_slice()))?;
    }
    if row.next_value()?.is_some() {
        return Err(Unmaskable::Miscounted);
    }
    Ok(if row.finish()? {
        Seen::Rewritten
    } else {
        Seen::AsItIs
    })
}
