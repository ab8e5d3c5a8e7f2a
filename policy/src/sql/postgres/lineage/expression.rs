//! Expressions: what each derives from.
//!
//! Most derive from all that they are made of; what is said here is about the others.

use std::sync::Arc;

use pg_query::protobuf as p;
use pg_query::{Node, NodeEnum, NodeRef};

use super::super::walker::{name_of, string_of};
use super::Analysis;
use super::column::is_star;
use super::failing;
use super::scope::Scope;
use super::sources::{Field, Fields, Sources, Value};
use crate::catalogue::TypeKind;
use crate::sql::children::{append_children, node_ref};
use crate::sql::functions;
use crate::sql::lineage::Decides;
use crate::sql::profile::Schema;

/// Stands for every built-in type that is no row, and arrays of it: `text`.
pub(super) const SCALAR: u32 = 25;

/// Built-in types have smaller numbers, except for the row types of the server's views.
const BUILT_IN_MAX: u32 = 10_000;

/// The built-in row types that have small numbers, `record` and arrays of them.
const BUILT_IN_ROWS: &[u32] = &[71, 75, 81, 83, 210, 270, 272, 273, 2249, 2287];

impl Analysis<'_> {
    pub(super) fn value<'n>(&mut self, node: Option<&'n Node>, scope: &Scope<'_, 'n>) -> Value {
        match node.and_then(node_ref) {
            Some(node) => self.value_of(node, scope),
            None => Value::default(),
        }
    }

    pub(super) fn value_of<'n>(&mut self, node: NodeRef<'n>, scope: &Scope<'_, 'n>) -> Value {
        if !self.enter() {
            return Value::any();
        }
        let value = self.value_inside(node, scope);
        self.leave();
        value
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what is not named derives from all of its children, whatever it is"
    )]
    fn value_inside<'n>(&mut self, node: NodeRef<'n>, scope: &Scope<'_, 'n>) -> Value {
        match node {
            NodeRef::ColumnRef(column) => self.column(&column.fields, scope),
            NodeRef::FuncCall(call) => self.call(call, scope),
            NodeRef::SubLink(link) => self.link(link, scope),
            NodeRef::SelectStmt(select) => {
                let table = self.select(select, Some(scope), scope.tables);
                Value::derived(self.all_of(&table))
            }
            NodeRef::CaseExpr(case) => self.case(case, scope),
            NodeRef::CaseWhen(when) => self.case_arm(when, scope),
            NodeRef::AIndirection(indirection) => {
                let value = self.value(indirection.arg.as_deref(), scope);
                self.indirect(value, &indirection.indirection, scope)
            }
            NodeRef::TypeCast(cast) => self.cast(cast, scope),
            NodeRef::AExpr(expression) => self.operation(expression, node, scope),
            NodeRef::CollateClause(collate) => self.value(collate.arg.as_deref(), scope),
            NodeRef::RowExpr(row) => self.row(row, scope),
            NodeRef::AConst(_) => Value {
                type_oid: SCALAR,
                ..Value::default()
            },
            NodeRef::AArrayExpr(array) => self.array(array, scope),
            NodeRef::SortBy(sort) => {
                self.operator_of_sort(sort);
                self.value(sort.node.as_deref(), scope)
            }
            NodeRef::WindowDef(window) => Value::derived(self.window(window, scope)),
            NodeRef::JsonAggConstructor(aggregate) => self.json_aggregate(aggregate, node, scope),
            NodeRef::MultiAssignRef(assigned) => self.value(assigned.source.as_deref(), scope),
            NodeRef::TypeName(name) => {
                self.type_used(name);
                Value::default()
            }
            // The condition is one of this statement's own; what it holds was read before.
            NodeRef::CurrentOfExpr(_) => Value::default(),
            _ => Value::derived(self.of_children(node, scope)),
        }
    }

    pub(super) fn of_children<'n>(&mut self, node: NodeRef<'n>, scope: &Scope<'_, 'n>) -> Sources {
        let mut children = Vec::new();
        append_children(node, &mut children);
        let mut parts = Vec::with_capacity(children.len());
        for child in children {
            let value = self.value_of(child, scope);
            if !value.sources.is_empty() {
                parts.push(value.sources);
            }
        }
        self.union(&parts)
    }

    fn case<'n>(&mut self, case: &'n p::CaseExpr, scope: &Scope<'_, 'n>) -> Value {
        let tested = self.value(case.arg.as_deref(), scope).sources;
        self.decide(&tested, Decides::Condition);
        let equality = case
            .arg
            .as_ref()
            .and_then(|_| self.operator_named(None, "="));
        let mut parts = vec![tested];
        parts.extend(equality);
        for node in case.args.iter().chain(case.defresult.as_deref()) {
            parts.push(self.value(Some(node), scope).sources);
        }
        Value::derived(self.union(&parts))
    }

    fn case_arm<'n>(&mut self, when: &'n p::CaseWhen, scope: &Scope<'_, 'n>) -> Value {
        let condition = self.value(when.expr.as_deref(), scope).sources;
        self.decide(&condition, Decides::Condition);
        let result = self.value(when.result.as_deref(), scope).sources;
        // Which result it is tells of the condition.
        Value::derived(self.union([&condition, &result]))
    }

    fn link<'n>(&mut self, link: &'n p::SubLink, scope: &Scope<'_, 'n>) -> Value {
        use p::SubLinkType as Type;
        let select = link
            .subselect
            .as_deref()
            .and_then(|node| node.node.as_ref());
        let Some(NodeEnum::SelectStmt(select)) = select else {
            return Value::derived(self.of_children(NodeRef::SubLink(link), scope));
        };
        let table = self.select(select, Some(scope), scope.tables);
        match link.sub_link_type() {
            // Whether there are rows is decided by what was counted on the way.
            Type::ExistsSublink => Value::default(),
            Type::ExprSublink => match (table.fields.list(), &table.open) {
                ([only], None) => only.value.clone(),
                _ => Value::derived(self.all_of(&table)),
            },
            // One value for each of several assignments.
            Type::MultiexprSublink => Value {
                sources: self.all_of(&table),
                row: table.open.is_none().then(|| table.fields.clone()),
                ..Value::default()
            },
            Type::ArraySublink => Value {
                elements: match (table.fields.list(), &table.open) {
                    ([only], None) => only.value.row.clone(),
                    _ => None,
                },
                ..Value::derived(self.all_of(&table))
            },
            Type::Undefined
            | Type::AllSublink
            | Type::AnySublink
            | Type::RowcompareSublink
            | Type::CteSublink => {
                let called = if link.oper_name.is_empty() {
                    self.operator_named(None, "=")
                } else {
                    self.operator(&link.oper_name)
                };
                let called = called.unwrap_or_default();
                let tested = self.value(link.testexpr.as_deref(), scope).sources;
                let listed = self.all_of(&table);
                Value::derived(self.union([&tested, &listed, &called]))
            }
        }
    }

    /// Subscripts and fields behind a value.
    pub(super) fn indirect<'n>(
        &mut self,
        value: Value,
        indirection: &'n [Node],
        scope: &Scope<'_, 'n>,
    ) -> Value {
        let mut value = value;
        for node in indirection {
            value = match (string_of(node), node_ref(node)) {
                (Some(name), _) => self.field(&value, name),
                // Behind a value, not in a list of results: the row itself.
                _ if is_star(node) => value,
                (None, Some(subscript)) => {
                    let element = self.element(value.type_oid);
                    let is_slice = matches!(subscript, NodeRef::AIndices(part) if part.is_slice);
                    let (row, elements) = match value.elements {
                        Some(fields) if is_slice => (None, Some(fields)),
                        fields => (fields, None),
                    };
                    let by = self.value_of(subscript, scope).sources;
                    self.decide_by_subscript(&by);
                    Value {
                        type_oid: if is_slice { value.type_oid } else { element },
                        row,
                        elements,
                        ..Value::derived(self.union([&value.sources, &by]))
                    }
                }
                (None, None) => value,
            };
        }
        value
    }

    fn decide_by_subscript(&mut self, by: &Sources) {
        if !by.is_empty() {
            self.decide(by, Decides::Condition);
        }
    }

    /// Whether a type is known to be neither a row nor an array of rows.
    pub(super) fn is_scalar(&self, type_oid: u32) -> bool {
        let mut oid = type_oid;
        // A domain or array over another: a few steps.
        for _ in 0..4 {
            if oid != 0 && oid < BUILT_IN_MAX {
                return !BUILT_IN_ROWS.contains(&oid);
            }
            match self.catalogue.type_(oid).map(|found| &found.kind) {
                Some(TypeKind::Domain { base: inner } | TypeKind::Array { element: inner }) => {
                    oid = *inner;
                }
                Some(TypeKind::Base | TypeKind::Enum | TypeKind::Range { .. }) => return true,
                Some(TypeKind::Composite { .. }) | None => return false,
            }
        }
        false
    }

    /// The type of an array's elements.
    pub(super) fn element(&self, type_oid: u32) -> u32 {
        match self.catalogue.type_(type_oid).map(|found| &found.kind) {
            Some(TypeKind::Array { element }) => *element,
            Some(
                TypeKind::Base
                | TypeKind::Domain { .. }
                | TypeKind::Enum
                | TypeKind::Composite { .. }
                | TypeKind::Range { .. },
            )
            | None => 0,
        }
    }

    fn cast<'n>(&mut self, cast: &'n p::TypeCast, scope: &Scope<'_, 'n>) -> Value {
        let value = self.value(cast.arg.as_deref(), scope);
        let Some(name) = &cast.type_name else {
            return Value::derived(value.sources);
        };
        let word = name_of(&name.names).and_then(|name| name.name);
        if word.is_none_or(|word| failing::cast_may_fail(&word)) {
            self.decide(&value.sources, Decides::Failure);
        }
        let type_oid = self.type_used(name);
        // A row that is cast to another type has that type's names for the same fields.
        let sources = match self.cast_function(type_oid) {
            Some(called) => self.union([&value.sources, &called]),
            None => value.sources,
        };
        Value {
            type_oid,
            ..Value::derived(sources)
        }
    }

    /// The type that a name means: of those that are not built in, and where it is only one.
    fn type_used(&mut self, name: &p::TypeName) -> u32 {
        let Some(parts) = name_of(&name.names) else {
            return 0;
        };
        let word = parts.name.as_deref().unwrap_or_default();
        let mut found = self
            .catalogue
            .types_named(word)
            .filter(|known| match &parts.schema {
                Schema::Named(schema) => *known.name.schema == **schema,
                Schema::Path | Schema::Any => self.may_see(&known.name.schema),
            });
        let (only, other) = (found.next(), found.next());
        let Some(only) = only.filter(|_| other.is_none()) else {
            let is_row = word == "record"
                || functions::is_catalogue_relation(word)
                || matches!(&parts.schema, Schema::Named(schema) if schema != "pg_catalog");
            return if other.is_some() || is_row { 0 } else { SCALAR };
        };
        if name.array_bounds.is_empty() {
            return only.oid;
        }
        let array = format!("_{word}");
        let arrays = self
            .catalogue
            .types_named(&array)
            .find(|known| matches!(known.kind, TypeKind::Array { element } if element == only.oid));
        arrays.map_or(0, |array| array.oid)
    }

    fn row<'n>(&mut self, row: &'n p::RowExpr, scope: &Scope<'_, 'n>) -> Value {
        let table = self.value_list(&row.args, scope);
        let sources = self.all_of(&table);
        if table.open.is_some() {
            return Value::derived(sources);
        }
        let fields = table.fields.list().iter().enumerate();
        let fields = fields.map(|(position, field)| Field {
            name: Arc::from(format!("f{}", position + 1)),
            value: field.value.clone(),
        });
        Value {
            sources,
            row: Some(Arc::new(Fields::from(fields.collect::<Vec<_>>()))),
            ..Value::default()
        }
    }

    fn array<'n>(&mut self, array: &'n p::AArrayExpr, scope: &Scope<'_, 'n>) -> Value {
        let elements: Vec<_> = array
            .elements
            .iter()
            .map(|node| self.value(Some(node), scope))
            .collect();
        let scalar = elements.iter().all(|value| self.is_scalar(value.type_oid));
        Value {
            type_oid: if scalar { SCALAR } else { 0 },
            elements: same_row(&elements),
            ..Value::derived(self.union_of_values(&elements))
        }
    }

    fn operation<'n>(
        &mut self,
        expression: &'n p::AExpr,
        node: NodeRef<'n>,
        scope: &Scope<'_, 'n>,
    ) -> Value {
        use p::AExprKind::{AexprBetween, AexprBetweenSym, AexprNotBetween, AexprNotBetweenSym};
        let sources = self.of_children(node, scope);
        // Their name is a keyword of the grammar; the server looks up >= and <=.
        let called = if matches!(
            expression.kind(),
            AexprBetween | AexprBetweenSym | AexprNotBetween | AexprNotBetweenSym
        ) {
            [">=", "<="]
                .iter()
                .filter_map(|name| self.operator_named(None, name))
                .next()
        } else {
            self.operator(&expression.name)
        };
        let is_total = called.is_none() && is_comparison(expression);
        if !is_total {
            self.decide(&sources, Decides::Failure);
        }
        match called {
            Some(called) => Value::derived(self.union([&sources, &called])),
            None => Value::derived(sources),
        }
    }

    pub(super) fn operator_of_sort(&mut self, sort: &p::SortBy) {
        self.operator(&sort.use_op);
    }

    fn json_aggregate<'n>(
        &mut self,
        aggregate: &'n p::JsonAggConstructor,
        node: NodeRef<'n>,
        scope: &Scope<'_, 'n>,
    ) -> Value {
        let sources = self.of_children(node, scope);
        let filter = self.value(aggregate.agg_filter.as_deref(), scope).sources;
        self.decide(&filter, Decides::Condition);
        for sort in &aggregate.agg_order {
            let by = self.value(Some(sort), scope).sources;
            self.decide(&by, Decides::OrderBy);
        }
        Value::derived(sources)
    }
}

/// The row that all values are of.
fn same_row(values: &[Value]) -> Option<Arc<Fields>> {
    let (first, others) = values.split_first()?;
    let row = first.row.as_ref()?;
    let are_same = others.iter().all(|other| {
        other
            .row
            .as_ref()
            .is_some_and(|other| Arc::ptr_eq(row, other))
    });
    are_same.then(|| Arc::clone(row))
}

/// Whether it is an operator that takes any value, by name or by keyword.
fn is_comparison(expression: &p::AExpr) -> bool {
    use p::AExprKind as Kind;
    match expression.kind() {
        Kind::AexprBetween
        | Kind::AexprBetweenSym
        | Kind::AexprNotBetween
        | Kind::AexprNotBetweenSym => true,
        Kind::AexprOp
        | Kind::AexprOpAny
        | Kind::AexprOpAll
        | Kind::AexprDistinct
        | Kind::AexprNotDistinct
        | Kind::AexprNullif
        | Kind::AexprIn => {
            let name = name_of(&expression.name).and_then(|name| name.name);
            name.is_some_and(|name| !failing::operator_may_fail(&name))
        }
        Kind::Undefined | Kind::AexprLike | Kind::AexprIlike | Kind::AexprSimilar => false,
    }
}
