//! What names mean where they stand: the items of FROM, level by level, and common tables.
//!
//! Spec: PostgreSQL, `parse_relation.c` (`colNameToVar`, `refnameNamespaceItem`) and
//! `parse_expr.c` (`transformColumnRef`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use pg_query::protobuf as p;

use super::sources::{Field, Fields, Sources, Table, Value};
use crate::sql::lineage::ColumnId;

/// One level of names; sub-queries stand in a level of their own, with this one around.
pub(super) struct Scope<'s, 'n> {
    pub(super) outer: Option<&'s Self>,
    pub(super) tables: Option<&'s With<'s, 'n>>,
    pub(super) items: Vec<Item>,
}

/// The common tables of one WITH clause.
pub(super) struct With<'s, 'n> {
    pub(super) outer: Option<&'s Self>,
    /// What its queries may name besides.
    pub(super) around: Option<&'s Scope<'s, 'n>>,
    pub(super) tables: RefCell<HashMap<&'n str, Common<'n>>>,
}

/// How far a common table has come: in WITH RECURSIVE, one may name those behind it.
#[derive(Clone)]
pub(super) enum Common<'n> {
    Pending(&'n p::CommonTableExpr),
    /// Being looked at; what its own query may read of it, once that is known.
    Running(Option<Table>),
    Done(Table),
}

/// Something that FROM brings into a level.
#[derive(Debug, Clone, Default)]
pub(super) struct Item {
    pub(super) name: Option<Arc<str>>,
    /// Where it is a relation without an alias.
    pub(super) schema: Option<Arc<str>>,
    pub(super) table: Table,
    /// All of it, as its name alone means.
    pub(super) whole: Sources,
    /// Relations have system columns.
    pub(super) relation: Option<u32>,
    /// Its columns can be named without it, and `*` shows them.
    pub(super) shows_columns: bool,
    /// It can be named.
    pub(super) shows_name: bool,
}

impl<'s, 'n> Scope<'s, 'n> {
    pub(super) fn empty(outer: Option<&'s Self>, tables: Option<&'s With<'s, 'n>>) -> Self {
        Self {
            outer,
            tables,
            items: Vec::new(),
        }
    }

    pub(super) fn levels(&self) -> impl Iterator<Item = &Scope<'s, 'n>> {
        std::iter::successors(Some(self), |scope| scope.outer)
    }

    /// The item that a name means: of the innermost level that has one.
    pub(super) fn named(&self, schema: Option<&str>, name: &str) -> Option<&Item> {
        self.levels().find_map(|level| {
            level.items.iter().find(|item| {
                item.shows_name
                    && item.name.as_deref() == Some(name)
                    && schema.is_none_or(|schema| item.schema.as_deref() == Some(schema))
            })
        })
    }

    /// How many items a search may have to look at.
    pub(super) fn width(&self) -> usize {
        self.levels().map(|level| level.items.len() + 1).sum()
    }
}

impl Item {
    /// Its columns and its name, both to be seen.
    pub(super) fn plain(name: Option<Arc<str>>, table: Table, whole: Sources) -> Self {
        Self {
            shows_name: name.is_some(),
            name,
            schema: None,
            table,
            whole,
            relation: None,
            shows_columns: true,
        }
    }

    /// The row itself.
    pub(super) fn row(&self) -> Value {
        Value {
            sources: self.whole.clone(),
            row: (self.table.open.is_none()).then(|| Arc::clone(&self.table.fields)),
            ..Value::default()
        }
    }

    /// The columns of that name.
    pub(super) fn find<'i>(&'i self, name: &str, found: &mut Vec<&'i Value>) {
        self.table
            .fields
            .find(name, |field| found.push(&field.value));
    }

    pub(super) fn system_column(&self, name: &str) -> Option<Value> {
        let relation = self.relation?;
        let number = match name {
            "ctid" => -1,
            "xmin" => -2,
            "cmin" => -3,
            "xmax" => -4,
            "cmax" => -5,
            "tableoid" => -6,
            _ => return None,
        };
        Some(Value {
            sources: Sources::one(ColumnId { relation, number }),
            untouched: true,
            ..Value::default()
        })
    }
}

/// `table` under other names of columns.
pub(super) fn renamed(table: Table, names: &[Arc<str>]) -> Table {
    if names.is_empty() {
        return table;
    }
    let known = table.fields.list();
    let fields: Vec<Field> = match &table.open {
        None => {
            let names = names.iter().map(Some).chain(std::iter::repeat(None));
            known
                .iter()
                .zip(names)
                .map(|(field, name)| Field {
                    name: name.unwrap_or(&field.name).clone(),
                    value: field.value.clone(),
                })
                .collect()
        }
        // Which column gets which name is not known.
        Some(open) => {
            let known = known
                .iter()
                .flat_map(|field| field.value.sources.as_slice());
            let all: Sources = known.chain(open.as_slice()).copied().collect();
            names
                .iter()
                .map(|name| Field {
                    name: name.clone(),
                    value: Value::derived(all.clone()),
                })
                .chain(table.fields.list().iter().cloned())
                .collect()
        }
    };
    Table {
        fields: Arc::new(Fields::from(fields)),
        open: table.open,
    }
}
