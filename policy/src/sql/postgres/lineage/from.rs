//! FROM: what stands in it, and what joins make of that.
//!
//! Spec: PostgreSQL, `parse_clause.c`, `transformFromClauseItem`.

use std::collections::HashSet;
use std::sync::Arc;

use pg_query::protobuf as p;
use pg_query::{Node, NodeEnum};

use super::scope::{Item, Scope, renamed};
use super::sources::{Field, Fields, Sources, Table, Value};
use super::{Analysis, alias_names, string_list};
use crate::sql::lineage::Decides;

impl Analysis<'_> {
    /// Brings all of a FROM clause into `scope`.
    pub(super) fn bring_all<'n>(&mut self, from: &'n [Node], scope: &mut Scope<'_, 'n>) {
        for node in from {
            let items = self.bring(node, scope);
            scope.items.extend(items);
        }
    }

    /// The items that one element brings; the last stands for it as a whole.
    pub(super) fn bring<'n>(&mut self, node: &'n Node, scope: &mut Scope<'_, 'n>) -> Vec<Item> {
        if !self.enter() {
            return vec![Item::default()];
        }
        let items = match &node.node {
            Some(NodeEnum::RangeVar(relation)) => vec![self.range_variable(relation, scope)],
            Some(NodeEnum::RangeSubselect(subselect)) => vec![self.subselect(subselect, scope)],
            Some(NodeEnum::RangeFunction(function)) => vec![self.range_function(function, scope)],
            Some(NodeEnum::RangeTableFunc(table)) => vec![self.xml_table(table, scope)],
            Some(NodeEnum::JsonTable(table)) => vec![self.json_table(table, scope)],
            Some(NodeEnum::RangeTableSample(sample)) => self.sample(sample, scope),
            Some(NodeEnum::JoinExpr(join)) => self.join(join, scope),
            _ => {
                let any = self.lose("an element of FROM that is not known".to_owned());
                let table = Table {
                    open: Some(any.clone()),
                    ..Table::default()
                };
                vec![Item::plain(None, table, any)]
            }
        };
        self.leave();
        items
    }

    fn range_variable<'n>(&mut self, relation: &'n p::RangeVar, scope: &Scope<'_, 'n>) -> Item {
        let unqualified = relation.schemaname.is_empty() && relation.catalogname.is_empty();
        if unqualified && let Some(table) = self.common_table(&relation.relname, scope.tables) {
            let alias = relation.alias.as_ref();
            let name = alias.map_or(&relation.relname, |alias| &alias.aliasname);
            let table = renamed(table, &alias_names(alias));
            return self.named(name, table);
        }
        self.relation_item(relation)
    }

    fn named(&mut self, name: &str, table: Table) -> Item {
        let whole = self.all_of(&table);
        self.charge_columns(table.fields.list().len());
        let name = (!name.is_empty()).then(|| Arc::from(name));
        Item::plain(name, table, whole)
    }

    fn aliased(&mut self, alias: Option<&p::Alias>, table: Table) -> Item {
        let table = renamed(table, &alias_names(alias));
        self.named(alias.map_or("", |alias| &alias.aliasname), table)
    }

    fn subselect<'n>(&mut self, subselect: &'n p::RangeSubselect, scope: &Scope<'_, 'n>) -> Item {
        let table = match subselect
            .subquery
            .as_deref()
            .and_then(|node| node.node.as_ref())
        {
            Some(NodeEnum::SelectStmt(select)) if subselect.lateral => {
                self.select(select, Some(scope), scope.tables)
            }
            Some(NodeEnum::SelectStmt(select)) => self.select(select, scope.outer, scope.tables),
            _ => Table {
                open: Some(self.lose("a sub-query of an unknown kind".to_owned())),
                ..Table::default()
            },
        };
        self.aliased(subselect.alias.as_ref(), table)
    }

    fn sample<'n>(
        &mut self,
        sample: &'n p::RangeTableSample,
        scope: &mut Scope<'_, 'n>,
    ) -> Vec<Item> {
        for argument in sample.args.iter().chain(sample.repeatable.as_deref()) {
            let value = self.value(Some(argument), scope);
            self.decide(&value.sources, Decides::Limit);
        }
        match &sample.relation {
            Some(relation) => self.bring(relation, scope),
            None => vec![Item::default()],
        }
    }

    fn join<'n>(&mut self, join: &'n p::JoinExpr, scope: &mut Scope<'_, 'n>) -> Vec<Item> {
        let side = |analysis: &mut Self, node: Option<&'n Node>, scope: &mut Scope<'_, 'n>| {
            node.map_or_else(|| vec![Item::default()], |node| analysis.bring(node, scope))
        };
        let left = side(self, join.larg.as_deref(), scope);
        let before = scope.items.len();
        scope.items.extend(left.iter().cloned());
        let right = side(self, join.rarg.as_deref(), scope);
        scope.items.truncate(before);
        let (Some(left_whole), Some(right_whole)) = (left.last().cloned(), right.last().cloned())
        else {
            return vec![Item::default()];
        };
        let (table, merged) = self.joined(join, &left_whole, &right_whole);
        let whole = self.union([&left_whole.whole, &right_whole.whole]);
        let mut on = Scope::empty(scope.outer, scope.tables);
        on.items.extend(left);
        on.items.extend(right);
        if let Some(condition) = &join.quals {
            let value = self.value(Some(condition), &on);
            self.decide(&value.sources, Decides::Join);
        }
        self.charge(on.items.len());
        let mut items = match &join.alias {
            Some(_) => Vec::new(),
            None => on.items,
        };
        for item in &mut items {
            item.shows_columns = false;
        }
        if let Some(alias) = &join.join_using_alias {
            let mut item = self.named(&alias.aliasname, Table::from(merged));
            item.shows_columns = false;
            items.push(item);
        }
        let names = alias_names(join.alias.as_ref());
        let name = join
            .alias
            .as_ref()
            .map(|alias| Arc::from(alias.aliasname.as_str()));
        items.push(Item::plain(name, renamed(table, &names), whole));
        items
    }

    /// The columns of a join, and those that it merges.
    fn joined(&mut self, join: &p::JoinExpr, left: &Item, right: &Item) -> (Table, Vec<Field>) {
        let names = if join.is_natural {
            common_names(left, right)
        } else {
            string_list(&join.using_clause)
        };
        // Which names two sides have in common is not known where columns of one are not.
        if join.is_natural && (left.table.open.is_some() || right.table.open.is_some()) {
            let all = self.union([&left.whole, &right.whole]);
            self.decide(&all, Decides::Join);
            let table = Table {
                fields: Arc::default(),
                open: Some(all),
            };
            return (table, Vec::new());
        }
        let mut fields = Vec::new();
        if !names.is_empty() {
            self.operator_named(None, "=");
        }
        for name in &names {
            let sides = [self.column_of(left, name), self.column_of(right, name)];
            let sources = self.union_of_values(sides.iter().flatten());
            self.mention(&sources);
            self.decide(&sources, Decides::Join);
            // Each value may come from either side, and is equal to one of the other.
            fields.push(Field {
                name: name.clone(),
                value: Value::derived(sources),
            });
        }
        let merged = fields.clone();
        let is_merged: HashSet<&str> = names.iter().map(AsRef::as_ref).collect();
        for item in [left, right] {
            self.charge_columns(item.table.fields.list().len());
            if self.exhausted.is_some() {
                break;
            }
            let rest = item.table.fields.list().iter();
            fields.extend(
                rest.filter(|field| !is_merged.contains(&*field.name))
                    .cloned(),
            );
        }
        let open = self.joined_open(left.table.open.clone(), right.table.open.as_ref());
        let table = Table {
            fields: Arc::new(Fields::from(fields)),
            open,
        };
        (table, merged)
    }

    /// XMLTABLE: one row for each node that an expression finds.
    fn xml_table<'n>(&mut self, table: &'n p::RangeTableFunc, scope: &Scope<'_, 'n>) -> Item {
        let namespaces = table.namespaces.iter();
        let inputs = namespaces
            .chain(table.docexpr.as_deref())
            .chain(table.rowexpr.as_deref());
        let mut parts: Vec<_> = inputs
            .map(|node| self.value(Some(node), scope).sources)
            .collect();
        let rows = self.union(&parts);
        self.decide(&rows, Decides::Limit);
        let mut names = Vec::new();
        for column in &table.columns {
            let Some(NodeEnum::RangeTableFuncCol(column)) = &column.node else {
                continue;
            };
            names.push(Arc::from(column.colname.as_str()));
            for node in [&column.colexpr, &column.coldefexpr].into_iter().flatten() {
                parts.push(self.value(Some(node), scope).sources);
            }
        }
        let all = self.union(&parts);
        self.aliased(table.alias.as_ref(), table_of(names, &all))
    }

    fn json_table<'n>(&mut self, table: &'n p::JsonTable, scope: &Scope<'_, 'n>) -> Item {
        let mut nodes = Vec::new();
        if let Some(context) = &table.context_item {
            nodes.push(pg_query::NodeRef::JsonValueExpr(context));
        }
        let refs = table
            .passing
            .iter()
            .filter_map(crate::sql::children::node_ref);
        nodes.extend(refs);
        let mut parts: Vec<_> = nodes
            .into_iter()
            .map(|node| self.value_of(node, scope).sources)
            .collect();
        let rows = self.union(&parts);
        self.decide(&rows, Decides::Limit);
        let mut names = Vec::new();
        let mut pending: Vec<&'n Node> = table.columns.iter().rev().collect();
        while let Some(node) = pending.pop() {
            let Some(NodeEnum::JsonTableColumn(column)) = &node.node else {
                continue;
            };
            if column.coltype() == p::JsonTableColumnType::JtcNested {
                pending.extend(column.columns.iter().rev());
            } else {
                names.push(Arc::from(column.name.as_str()));
            }
            for behavior in [&column.on_empty, &column.on_error].into_iter().flatten() {
                let node = pg_query::NodeRef::JsonBehavior(behavior);
                parts.push(self.value_of(node, scope).sources);
            }
        }
        let all = self.union(&parts);
        self.aliased(table.alias.as_ref(), table_of(names, &all))
    }

    /// Functions in FROM; with ROWS FROM, several side by side.
    fn range_function<'n>(&mut self, range: &'n p::RangeFunction, scope: &Scope<'_, 'n>) -> Item {
        let mut fields = Vec::new();
        let mut open = None;
        let alias = range.alias.as_ref();
        for function in &range.functions {
            let Some(NodeEnum::List(pair)) = &function.node else {
                open = Some(self.lose("a function in FROM of an unknown kind".to_owned()));
                continue;
            };
            let listed = pair.items.get(1).and_then(|node| match &node.node {
                Some(NodeEnum::List(list)) => Some(list.items.as_slice()),
                _ => None,
            });
            let columns = listed.unwrap_or(&range.coldeflist);
            let call = pair.items.first();
            let only = range.functions.len() == 1;
            let table = self.table_function(call, columns, alias.filter(|_| only), scope);
            fields.extend(table.fields.list().iter().cloned());
            open = self.joined_open(open, table.open.as_ref());
        }
        if range.ordinality {
            fields.push(Field {
                name: Arc::from("ordinality"),
                value: Value::default(),
            });
        }
        let table = Table {
            fields: Arc::new(Fields::from(fields)),
            open,
        };
        let mut item = self.aliased(alias, table);
        if alias.is_none() {
            let name = super::names::name_of_value(first_call(range));
            item.name = Some(Arc::from(name));
            item.shows_name = true;
        }
        item
    }
}

impl From<Vec<Field>> for Table {
    fn from(fields: Vec<Field>) -> Self {
        Self {
            fields: Arc::new(Fields::from(fields)),
            open: None,
        }
    }
}

fn first_call(range: &p::RangeFunction) -> Option<&Node> {
    match &range.functions.first()?.node {
        Some(NodeEnum::List(pair)) => pair.items.first(),
        _ => None,
    }
}

/// Columns of these names that all derive from `sources`.
pub(super) fn table_of(names: Vec<Arc<str>>, sources: &Sources) -> Table {
    let fields = names.into_iter().map(|name| Field {
        name,
        value: Value::derived(sources.clone()),
    });
    Table::from(fields.collect::<Vec<_>>())
}

fn common_names(left: &Item, right: &Item) -> Vec<Arc<str>> {
    let fields = left.table.fields.list().iter();
    let common = fields.filter(|field| {
        let mut is_common = false;
        right.table.fields.find(&field.name, |_| is_common = true);
        is_common
    });
    common.map(|field| field.name.clone()).collect()
}
