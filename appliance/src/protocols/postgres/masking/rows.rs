//! Rewrites rows value by value.

use codecs::postgres::edit::RowEdit;

use super::session::SessionMasks;
use super::shape::Shape;
use super::value::{Becomes, Tools};
use super::{Seen, Unmaskable};

/// Rewrites one DataRow behind what `out` holds.
pub(super) fn rewrite(
    wire: &[u8],
    masks: &SessionMasks,
    shape: &Shape,
    tools: &Tools,
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
        if column.mask.is_none() && !column.is_scanned {
            continue;
        }
        tools.rewrite(masks, column, clear, |becomes| match becomes {
            Becomes::Unchanged => Ok(()),
            Becomes::Null => row.replace(None),
            Becomes::Value(value) => row.replace(Some(value)),
        })?;
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
