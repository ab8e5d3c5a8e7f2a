//! What a reference to a column, or to a whole row, means.

use std::sync::Arc;

use pg_query::{Node, NodeEnum};

use super::super::walker::string_of;
use super::Analysis;
use super::scope::{Item, Scope};
use super::sources::{Field, Fields, Sources, Table, Value};

impl Analysis<'_> {
    /// The value of a reference, `*` behind a name meaning the row.
    pub(super) fn column(&mut self, fields: &[Node], scope: &Scope<'_, '_>) -> Value {
        let names: Vec<_> = fields.iter().filter_map(string_of).collect();
        let has_star = names.len() < fields.len();
        let value = match (names.as_slice(), has_star) {
            ([name], false) => self.unqualified(name, scope),
            ([table, column], false) => self.qualified(None, table, column, scope),
            ([schema, table, column], false) | ([_, schema, table, column], false) => {
                self.qualified(Some(schema), table, column, scope)
            }
            ([table], true) => self.row_named(None, table, scope),
            ([schema, table], true) | ([_, schema, table], true) => {
                self.row_named(Some(schema), table, scope)
            }
            _ => self.unresolved(scope),
        };
        self.mention(&value.sources);
        value
    }

    fn unqualified(&mut self, name: &str, scope: &Scope<'_, '_>) -> Value {
        self.charge(scope.width());
        let mut possible = Vec::new();
        for level in scope.levels() {
            let mut found = Vec::new();
            let mut system = Vec::new();
            for item in level.items.iter().filter(|item| item.shows_columns) {
                item.find(name, &mut found);
                system.extend(item.system_column(name));
            }
            if found.is_empty() {
                found.extend(&system);
            }
            match found.as_slice() {
                [] => {}
                [only] if possible.is_empty() => return (*only).clone(),
                several => {
                    let parts = several.iter().map(|value| &value.sources);
                    let sources = self.union(parts.chain(&possible));
                    return Value::derived(sources);
                }
            }
            let columns = level.items.iter().filter(|item| item.shows_columns);
            possible.extend(columns.filter_map(|item| item.table.open.clone()));
        }
        // Security: a relation's name is looked for after all columns, as the server does.
        if let Some(item) = scope.named(None, name) {
            if possible.is_empty() {
                return item.row();
            }
            possible.push(item.whole.clone());
        }
        if possible.is_empty() {
            return self.unresolved(scope);
        }
        let sources = self.union(&possible);
        Value::derived(sources)
    }

    fn qualified(
        &mut self,
        schema: Option<&str>,
        table: &str,
        column: &str,
        scope: &Scope<'_, '_>,
    ) -> Value {
        self.charge(scope.width());
        let Some(item) = scope.named(schema, table) else {
            return self.unresolved(scope);
        };
        if let Some(value) = self.column_of(item, column) {
            return value;
        }
        // `t.f` calls a function f of the row where t has no column f.
        let row = item.row();
        self.called_on_row(column, row)
    }

    pub(super) fn column_of(&mut self, item: &Item, name: &str) -> Option<Value> {
        let mut found = Vec::new();
        item.find(name, &mut found);
        match found.as_slice() {
            [only] => Some((*only).clone()),
            [] => match (item.system_column(name), &item.table.open) {
                (Some(value), None) => Some(value),
                (_, Some(open)) => Some(Value::derived(open.clone())),
                (None, None) => None,
            },
            several => {
                let sources = self.union_of_values(several.iter().copied());
                Some(Value::derived(sources))
            }
        }
    }

    fn row_named(&mut self, schema: Option<&str>, table: &str, scope: &Scope<'_, '_>) -> Value {
        self.charge(scope.width());
        match scope.named(schema, table) {
            Some(item) => item.row(),
            None => self.unresolved(scope),
        }
    }

    /// A name that means nothing here: the server will refuse it, or the catalogue is behind. It
    /// stands for everything that there is around.
    pub(super) fn unresolved(&mut self, scope: &Scope<'_, '_>) -> Value {
        let items = scope.levels().flat_map(|level| &level.items);
        let wholes: Vec<_> = items.map(|item| item.whole.clone()).collect();
        let sources = self.union(&wholes);
        Value::derived(sources)
    }

    /// What `*`, `t.*` or `(row).*` stands for; `None` where `node` is nothing of the kind.
    pub(super) fn expanded<'n>(&mut self, node: &'n Node, scope: &Scope<'_, 'n>) -> Option<Table> {
        match &node.node {
            Some(NodeEnum::ColumnRef(column)) => {
                let is_star = column.fields.last().is_some_and(is_star);
                is_star.then(|| self.star(&column.fields, scope))
            }
            Some(NodeEnum::AIndirection(indirection)) => {
                let (last, before) = indirection.indirection.split_last()?;
                if !is_star(last) {
                    return None;
                }
                let row = self.value(indirection.arg.as_deref(), scope);
                let row = self.indirect(row, before, scope);
                Some(self.fields_of(&row))
            }
            _ => None,
        }
    }

    fn star(&mut self, fields: &[Node], scope: &Scope<'_, '_>) -> Table {
        let names: Vec<_> = fields.iter().filter_map(string_of).collect();
        let table = match names.as_slice() {
            [] => self.star_of_level(scope),
            [.., schema, table] => self.star_of(scope.named(Some(schema), table), scope),
            [table] => self.star_of(scope.named(None, table), scope),
        };
        self.charge_columns(table.fields.list().len());
        let all = self.all_of(&table);
        self.mention(&all);
        table
    }

    fn star_of(&mut self, item: Option<&Item>, scope: &Scope<'_, '_>) -> Table {
        match item {
            Some(item) => item.table.clone(),
            None => Table {
                open: Some(self.unresolved(scope).sources),
                ..Table::default()
            },
        }
    }

    fn star_of_level(&mut self, scope: &Scope<'_, '_>) -> Table {
        let shown: Vec<_> = scope
            .items
            .iter()
            .filter(|item| item.shows_columns)
            .collect();
        if let [only] = shown.as_slice() {
            return only.table.clone();
        }
        let mut fields = Vec::new();
        let mut open = None;
        for item in shown {
            self.charge_columns(item.table.fields.list().len());
            if self.exhausted.is_some() {
                break;
            }
            fields.extend(item.table.fields.list().iter().cloned());
            open = self.joined_open(open, item.table.open.as_ref());
        }
        Table {
            fields: Arc::new(Fields::from(fields)),
            open,
        }
    }

    pub(super) fn joined_open(
        &mut self,
        one: Option<Sources>,
        other: Option<&Sources>,
    ) -> Option<Sources> {
        match (one, other) {
            (Some(one), Some(other)) => Some(self.union([&one, other])),
            (Some(one), None) => Some(one),
            (None, other) => other.cloned(),
        }
    }

    /// The columns that a row has.
    pub(super) fn fields_of(&mut self, row: &Value) -> Table {
        if let Some(fields) = &row.row {
            return Table {
                fields: Arc::clone(fields),
                open: None,
            };
        }
        match self.fields_of_type(row.type_oid) {
            Some(columns) => {
                let fields = columns.iter().map(|(name, type_oid)| Field {
                    name: name.clone(),
                    value: Value {
                        type_oid: *type_oid,
                        ..Value::derived(row.sources.clone())
                    },
                });
                Table {
                    fields: Arc::new(Fields::from(fields.collect::<Vec<_>>())),
                    open: None,
                }
            }
            None => Table {
                fields: Arc::default(),
                open: Some(row.sources.clone()),
            },
        }
    }

    /// Names and types of the columns of a composite type.
    pub(super) fn fields_of_type(&self, type_oid: u32) -> Option<Vec<(Arc<str>, u32)>> {
        use crate::catalogue::TypeKind;
        let mut oid = type_oid;
        // A domain over a domain over a row: a few steps, or a loop that no server has.
        for _ in 0..4 {
            match self.catalogue.type_(oid)?.kind {
                TypeKind::Composite { relation } => {
                    let relation = self.catalogue.relation(relation)?;
                    let columns = relation.columns.iter();
                    return Some(
                        columns
                            .map(|column| (Arc::from(&*column.name), column.type_oid))
                            .collect(),
                    );
                }
                TypeKind::Domain { base } => oid = base,
                TypeKind::Base
                | TypeKind::Enum
                | TypeKind::Array { .. }
                | TypeKind::Range { .. } => return None,
            }
        }
        None
    }

    /// A field of a row.
    pub(super) fn field(&mut self, row: &Value, name: &str) -> Value {
        if let Some(fields) = &row.row
            && let Some(field) = fields.only(name)
        {
            return field.value.clone();
        }
        let types = self.fields_of_type(row.type_oid);
        let known = types.and_then(|fields| {
            let mut same = fields.into_iter().filter(|(field, _)| **field == *name);
            same.next()
        });
        match known {
            Some((_, type_oid)) => Value {
                type_oid,
                ..Value::derived(row.sources.clone())
            },
            // A column that the row does not have is a function of it.
            None => self.called_on_row(name, row.clone()),
        }
    }
}

pub(super) fn is_star(node: &Node) -> bool {
    matches!(node.node, Some(NodeEnum::AStar(_)))
}
