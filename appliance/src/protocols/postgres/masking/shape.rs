//! What is done to each column of one answer, settled before its first row.

use codecs::postgres::frontend::Format;
use codecs::postgres::value::{self, Kind, ValueType};
use policy::mask::{ColumnMask, MaskPlan, Outputs, Transform};
use policy::sql::lineage::ColumnId;

use super::Planned;
use super::described::{Field, ResultFormats};
use super::session::SessionMasks;

/// The columns of an answer.
pub(super) struct Shape {
    pub(super) columns: Box<[Column]>,
    pub(super) care: Care,
    /// A column is one of a table that the catalogue does not have.
    pub(super) is_of_unknown: bool,
}

/// What has to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Care {
    /// Nothing: rows pass as they are.
    None,
    /// Rows whose bytes look suspicious.
    Suspects,
    /// Every row.
    Rows,
}

/// One of them.
pub(super) struct Column {
    pub(super) mask: ColumnMask,
    /// Detectors look into it, where it is not masked.
    pub(super) is_scanned: bool,
    pub(super) type_: ValueType,
    pub(super) format: Format,
}

impl Shape {
    /// The one value that a function returned, of any type.
    pub(super) fn of_result() -> Self {
        let column = Column {
            mask: None,
            is_scanned: true,
            type_: ValueType::scalar(Kind::Text),
            format: Format::Binary,
        };
        Self {
            columns: [column].into(),
            care: Care::Rows,
            is_of_unknown: false,
        }
    }

    /// `formats` says in which formats the columns come, where `fields` do not.
    pub(super) fn new(
        masks: &SessionMasks,
        planned: &Planned,
        fields: &[Field],
        formats: Option<&ResultFormats>,
    ) -> Self {
        let columns: Box<[Column]> = fields
            .iter()
            .enumerate()
            .map(|(index, field)| {
                let mask = mask(masks, planned, fields.len(), index, field.origin);
                Column {
                    is_scanned: mask.is_none() && masks.detects() && may_hide(field.type_),
                    mask,
                    type_: field.type_,
                    format: formats
                        .and_then(|formats| formats.get(index))
                        .unwrap_or(field.format),
                }
            })
            .collect();
        let care = columns.iter().map(Column::care).max();
        let is_of_unknown = match planned {
            Planned::Plan(plan) => fields
                .iter()
                .filter_map(|field| field.origin)
                .any(|origin| !plan.columns.knows(origin.relation)),
            Planned::Clear | Planned::Cursor(_) | Planned::Unknown => false,
        };
        Self {
            columns,
            care: care.unwrap_or(Care::None),
            is_of_unknown,
        }
    }
}

impl Column {
    fn care(&self) -> Care {
        if self.mask.is_some() {
            Care::Rows
        } else if !self.is_scanned {
            Care::None
        } else if self.format == Format::Text || is_text_within(self.type_) {
            Care::Suspects
        } else {
            Care::Rows
        }
    }
}

/// Whether a value of the type has room for what detectors look for.
fn may_hide(type_: ValueType) -> bool {
    match type_.kind {
        Kind::Int2
        | Kind::Int4
        | Kind::Oid
        | Kind::Float4
        | Kind::Float8
        | Kind::Money
        | Kind::Bool
        | Kind::Uuid
        | Kind::Date
        | Kind::Time
        | Kind::TimeTz
        | Kind::Timestamp
        | Kind::TimestampTz
        | Kind::Interval
        | Kind::MacAddr
        | Kind::Bit => false,
        Kind::Text
        | Kind::VarChar
        | Kind::BpChar
        | Kind::Name
        | Kind::Char
        | Kind::Json
        | Kind::Jsonb
        | Kind::JsonPath
        | Kind::Xml
        | Kind::Bytea
        | Kind::Int8
        | Kind::Numeric
        | Kind::Inet
        | Kind::Cidr
        | Kind::TsVector
        | Kind::Enum
        | Kind::Record
        | Kind::Opaque => true,
    }
}

/// Whether the binary format shows the texts that are inside as they are.
fn is_text_within(type_: ValueType) -> bool {
    let is_plain = matches!(type_.shape, value::Shape::Scalar | value::Shape::Array);
    is_plain
        && (type_.kind.is_text()
            || matches!(
                type_.kind,
                Kind::Json
                    | Kind::Jsonb
                    | Kind::JsonPath
                    | Kind::Xml
                    | Kind::Bytea
                    | Kind::TsVector
                    | Kind::Enum
            ))
}

/// The stricter of what the statement and what the server say of a column.
pub(super) fn mask(
    masks: &SessionMasks,
    planned: &Planned,
    columns: usize,
    index: usize,
    origin: Option<ColumnId>,
) -> ColumnMask {
    if masks.is_of_everything {
        return Some(Transform::Redact);
    }
    let plan = match planned {
        Planned::Clear => return None,
        Planned::Plan(plan) => plan,
        Planned::Cursor(_) | Planned::Unknown => return Some(Transform::Redact),
    };
    let by_statement = by_statement(plan, columns, index);
    let by_server = origin.and_then(|origin| {
        if !plan.columns.knows(origin.relation) {
            return Some(Transform::Redact);
        }
        let masked = plan.columns.column(origin)?;
        Some(masked.with.clone())
    });
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
