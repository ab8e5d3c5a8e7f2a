//! What is done to each column of one answer, settled before its first row.

use codecs::postgres::frontend::Format;
use policy::mask::{ColumnMask, MaskPlan, Outputs, Transform};

use super::Planned;
use super::described::{Field, ResultFormats};

/// The columns of an answer.
pub(super) struct Shape {
    pub(super) columns: Box<[Column]>,
    is_clear: bool,
}

/// One of them.
pub(super) struct Column {
    pub(super) mask: ColumnMask,
    pub(super) type_oid: u32,
    #[expect(dead_code, reason = "values are written in it by the next change")]
    pub(super) format: Format,
}

impl Shape {
    /// `formats` says in which formats the columns come, where `fields` do not.
    pub(super) fn new(
        planned: &Planned,
        fields: &[Field],
        formats: Option<&ResultFormats>,
    ) -> Self {
        let columns: Box<[Column]> = fields
            .iter()
            .enumerate()
            .map(|(index, field)| Column {
                mask: mask(planned, fields.len(), index, field),
                type_oid: field.type_oid,
                format: formats
                    .and_then(|formats| formats.get(index))
                    .unwrap_or(field.format),
            })
            .collect();
        let is_clear = columns.iter().all(|column| column.mask.is_none());
        Self { columns, is_clear }
    }

    /// Rows pass as they are.
    pub(super) fn is_clear(&self) -> bool {
        self.is_clear
    }
}

/// The stricter of what the statement and what the server say of a column.
fn mask(planned: &Planned, columns: usize, index: usize, field: &Field) -> ColumnMask {
    let plan = match planned {
        Planned::Clear => return None,
        Planned::Plan(plan) => plan,
        Planned::Cursor(_) | Planned::Unknown => return Some(Transform::Redact),
    };
    let by_statement = by_statement(plan, columns, index);
    let by_server = field
        .origin
        .and_then(|origin| plan.columns.column(origin))
        .map(|masked| masked.with.clone());
    match (by_statement, by_server) {
        (Some(one), Some(other)) => Some(one.stricter(other)),
        (one, other) => one.or(other),
    }
}

fn by_statement(plan: &MaskPlan, columns: usize, index: usize) -> ColumnMask {
    match &plan.outputs {
        Outputs::All(transform) => Some(transform.clone()),
        // Security: an answer that is not the one that was planned for may show anything.
        Outputs::Each(masks) if masks.len() != columns => Some(Transform::Redact),
        Outputs::Each(masks) => masks.get(index).cloned().flatten(),
    }
}
