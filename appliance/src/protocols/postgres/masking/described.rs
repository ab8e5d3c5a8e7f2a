//! What the server says of the rows of a prepared statement or portal.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use codecs::postgres::backend::Column;
use codecs::postgres::frontend::{Format, Formats};
use codecs::postgres::value::ValueType;
use policy::sql::lineage::ColumnId;

use super::Planned;
use super::session::SessionMasks;
use super::shape::Shape;

/// A column of an answer, as RowDescription has it.
#[derive(Clone, Copy)]
pub(super) struct Field {
    /// The column of a table that it is nothing but.
    pub(super) origin: Option<ColumnId>,
    pub(super) type_: ValueType,
    pub(super) format: Format,
}

impl Field {
    pub(super) fn of(column: &Column<'_>) -> Self {
        let origin = ColumnId {
            relation: column.table,
            number: column.attribute,
        };
        Self {
            origin: (column.table != 0).then_some(origin),
            type_: ValueType::of(column.type_oid).with_modifier(column.type_modifier),
            format: column.format,
        }
    }
}

/// Per prepared statement or portal of a session that masks are about.
pub(in crate::protocols::postgres) struct Described {
    fields: RefCell<Option<Rc<[Field]>>>,
    /// The last epoch in which it was asked for.
    asked: Cell<Option<u64>>,
    /// Of a prepared statement: the server never answers with other columns than it described,
    /// since its text says them itself.
    is_fixed: bool,
    binding: Option<Binding>,
    shape: RefCell<Option<Known>>,
}

/// How the rows of a portal are made, and what that follows from.
struct Known {
    planned: Planned,
    masks: Rc<SessionMasks>,
    shape: Rc<Shape>,
}

/// What makes a portal of a prepared statement.
struct Binding {
    statement: Rc<Described>,
    /// `None` when they were not held.
    formats: Option<ResultFormats>,
}

/// The formats of results that Bind asks for.
pub(super) enum ResultFormats {
    All(Format),
    Each(Box<[Format]>),
}

impl ResultFormats {
    fn of(formats: &Formats<'_>) -> Self {
        if formats.len() > 1 {
            return Self::Each(formats.iter().collect());
        }
        Self::All(formats.of(0).unwrap_or(Format::Text))
    }

    /// `None` for a column that Bind did not speak of: the server refuses such a Bind.
    pub(super) fn get(&self, index: usize) -> Option<Format> {
        match self {
            Self::All(format) => Some(*format),
            Self::Each(formats) => formats.get(index).copied(),
        }
    }
}

impl Described {
    pub(in crate::protocols::postgres) fn statement(is_fixed: bool) -> Rc<Self> {
        Rc::new(Self {
            fields: RefCell::default(),
            asked: Cell::new(None),
            is_fixed,
            binding: None,
            shape: RefCell::default(),
        })
    }

    /// A portal of `statement`; `formats` as in its Bind, `None` when that was too long to be held.
    pub(in crate::protocols::postgres) fn portal(
        statement: &Rc<Self>,
        formats: Option<&Formats<'_>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            fields: RefCell::default(),
            asked: Cell::new(None),
            is_fixed: false,
            binding: Some(Binding {
                statement: Rc::clone(statement),
                formats: formats.map(ResultFormats::of),
            }),
            shape: RefCell::default(),
        })
    }

    /// Notes that a Describe of it was sent.
    pub(in crate::protocols::postgres) fn asked(&self, epoch: u64) {
        self.asked.set(Some(epoch));
    }

    /// Whether its columns are known when an Execute that is sent now is answered.
    ///
    /// What was asked in the same epoch is answered before, or the Execute is not carried out.
    pub(in crate::protocols::postgres) fn is_known(&self, epoch: u64) -> bool {
        if self.fields.borrow().is_some() || self.asked.get() == Some(epoch) {
            return true;
        }
        self.binding.as_ref().is_some_and(|binding| {
            let Binding { statement, formats } = binding;
            formats.is_some() && statement.is_fixed && statement.is_known(epoch)
        })
    }

    pub(super) fn learn(&self, fields: Rc<[Field]>) {
        *self.fields.borrow_mut() = Some(fields);
    }

    /// How the rows of a portal are made; `None` when nobody described them.
    pub(super) fn shape(&self, masks: &Rc<SessionMasks>, planned: &Planned) -> Option<Rc<Shape>> {
        let mut known = self.shape.borrow_mut();
        let planned = match &*known {
            Some(known) if known.planned.is_same(planned) && Rc::ptr_eq(&known.masks, masks) => {
                return Some(Rc::clone(&known.shape));
            }
            Some(known) if known.planned.is_same(planned) => planned,
            // The rows are those of the first Execute, whatever its names stand for by now.
            Some(_) => &Planned::Unknown,
            None => planned,
        };
        let own = self.fields.borrow();
        let shape = match (&*own, &self.binding) {
            (Some(fields), _) => Shape::new(masks, planned, fields, None),
            (None, Some(binding)) if binding.statement.is_fixed => {
                let fields = binding.statement.fields.borrow();
                Shape::new(masks, planned, fields.as_ref()?, binding.formats.as_ref())
            }
            (None, _) => return None,
        };
        let shape = Rc::new(shape);
        *known = Some(Known {
            planned: planned.clone(),
            masks: Rc::clone(masks),
            shape: Rc::clone(&shape),
        });
        Some(shape)
    }
}
