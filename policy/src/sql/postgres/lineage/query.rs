//! Queries: WITH, SELECT, VALUES and set operations, to the columns that they yield.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use pg_query::protobuf as p;
use pg_query::{Node, NodeEnum, NodeRef};

use super::super::walker::string_of;
use super::from::table_of;
use super::scope::{Common, Scope, With, renamed};
use super::sources::{Field, Fields, Sources, Table, Value};
use super::{Analysis, names, string_list};
use crate::sql::children::append_children;
use crate::sql::lineage::{ColumnId, Decides};

/// Most columns of recursive common tables of one statement: [`ColumnId`] numbers them.
const RECURSIVE_MAX: usize = 30_000;

impl Analysis<'_> {
    /// The columns of a query; `outer` is what it may name beside its own FROM.
    pub(super) fn select<'n>(
        &mut self,
        select: &'n p::SelectStmt,
        outer: Option<&Scope<'_, 'n>>,
        tables: Option<&With<'_, 'n>>,
    ) -> Table {
        if !self.enter() {
            return Table::default();
        }
        let table = match &select.with_clause {
            Some(with) => {
                let frame = self.define(with, outer, tables);
                self.select_with(select, outer, Some(&frame))
            }
            None => self.select_with(select, outer, tables),
        };
        self.leave();
        table
    }

    fn select_with<'n>(
        &mut self,
        select: &'n p::SelectStmt,
        outer: Option<&Scope<'_, 'n>>,
        tables: Option<&With<'_, 'n>>,
    ) -> Table {
        if let (Some(left), Some(right)) = (&select.larg, &select.rarg) {
            let left = self.select(left, outer, tables);
            let right = self.select(right, outer, tables);
            let table = self.set_operation(select, left, &right);
            let scope = Scope::empty(outer, tables);
            self.sorts(&select.sort_clause, &table, &scope, Decides::OrderBy);
            self.limits(select, &scope);
            return table;
        }
        if !select.values_lists.is_empty() {
            let scope = Scope::empty(outer, tables);
            let table = self.values(&select.values_lists, &scope);
            self.sorts(&select.sort_clause, &table, &scope, Decides::OrderBy);
            self.limits(select, &scope);
            return table;
        }
        self.plain(select, outer, tables)
    }

    fn plain<'n>(
        &mut self,
        select: &'n p::SelectStmt,
        outer: Option<&Scope<'_, 'n>>,
        tables: Option<&With<'_, 'n>>,
    ) -> Table {
        let mut scope = Scope::empty(outer, tables);
        self.bring_all(&select.from_clause, &mut scope);
        self.predicate(select.where_clause.as_deref(), &scope, Decides::Where);
        let windows = std::mem::take(&mut self.windows);
        self.windows = self.named_windows(&select.window_clause, &scope);
        let table = self.targets(&select.target_list, &scope);
        for node in &select.group_clause {
            self.grouped(node, &table, &scope);
        }
        self.predicate(select.having_clause.as_deref(), &scope, Decides::Having);
        self.sorts(&select.sort_clause, &table, &scope, Decides::OrderBy);
        self.distinct(&select.distinct_clause, &table, &scope);
        self.limits(select, &scope);
        self.windows = windows;
        table
    }

    pub(super) fn predicate<'n>(
        &mut self,
        condition: Option<&'n Node>,
        scope: &Scope<'_, 'n>,
        how: Decides,
    ) {
        if condition.is_some() {
            let value = self.value(condition, scope);
            self.decide(&value.sources, how);
        }
    }

    /// The columns of a list of results.
    pub(super) fn targets<'n>(&mut self, targets: &'n [Node], scope: &Scope<'_, 'n>) -> Table {
        let mut fields = Vec::new();
        let mut open = None;
        for node in targets {
            let Some(NodeEnum::ResTarget(target)) = &node.node else {
                continue;
            };
            let Some(value) = target.val.as_deref() else {
                continue;
            };
            if let Some(table) = self.expanded(value, scope) {
                self.charge_columns(table.fields.list().len());
                if self.exhausted.is_some() {
                    break;
                }
                if targets.len() == 1 {
                    return table;
                }
                fields.extend(table.fields.list().iter().cloned());
                open = self.joined_open(open, table.open.as_ref());
                continue;
            }
            let name = Arc::from(names::output_name(target));
            let value = self.value(Some(value), scope);
            fields.push(Field { name, value });
        }
        Table {
            fields: Arc::new(Fields::from(fields)),
            open,
        }
    }

    /// Values by position; `*` may stand among them.
    pub(super) fn value_list<'n>(&mut self, nodes: &'n [Node], scope: &Scope<'_, 'n>) -> Table {
        let mut fields = Vec::new();
        let mut open = None;
        for node in nodes {
            if let Some(table) = self.expanded(node, scope) {
                self.charge_columns(table.fields.list().len());
                if self.exhausted.is_some() {
                    break;
                }
                fields.extend(table.fields.list().iter().cloned());
                open = self.joined_open(open, table.open.as_ref());
            } else {
                let value = self.value(Some(node), scope);
                let name = Arc::from("");
                fields.push(Field { name, value });
            }
        }
        Table {
            fields: Arc::new(Fields::from(fields)),
            open,
        }
    }

    fn values<'n>(&mut self, lists: &'n [Node], scope: &Scope<'_, 'n>) -> Table {
        let mut columns: Vec<Vec<Sources>> = Vec::new();
        let mut open = None;
        for list in lists {
            let Some(NodeEnum::List(list)) = &list.node else {
                continue;
            };
            let row = self.value_list(&list.items, scope);
            open = self.joined_open(open, row.open.as_ref());
            for (position, field) in row.fields.list().iter().enumerate() {
                if columns.len() <= position {
                    columns.push(Vec::new());
                }
                if let Some(column) = columns.get_mut(position)
                    && !field.value.sources.is_empty()
                {
                    column.push(field.value.sources.clone());
                }
            }
        }
        let mut fields = Vec::with_capacity(columns.len());
        for (position, column) in columns.iter().enumerate() {
            let name = Arc::from(format!("column{}", position + 1));
            let value = Value::derived(self.union(column));
            fields.push(Field { name, value });
        }
        let table = Table {
            fields: Arc::new(Fields::from(fields)),
            open,
        };
        self.mixed_if_open(table)
    }

    /// Where positions are not certain, every column may be any.
    fn mixed_if_open(&mut self, table: Table) -> Table {
        if table.open.is_none() {
            return table;
        }
        let all = self.all_of(&table);
        let names = table.fields.list().iter().map(|field| field.name.clone());
        Table {
            open: Some(all.clone()),
            ..table_of(names.collect(), &all)
        }
    }

    fn set_operation(&mut self, select: &p::SelectStmt, left: Table, right: &Table) -> Table {
        let same_length = left.fields.list().len() == right.fields.list().len();
        let table = if same_length && left.open.is_none() && right.open.is_none() {
            let sides = left.fields.list().iter().zip(right.fields.list());
            let fields = sides.map(|(left, right)| Field {
                name: left.name.clone(),
                value: Value::derived(self.union([&left.value.sources, &right.value.sources])),
            });
            Table::from(fields.collect::<Vec<_>>())
        } else {
            let all = [self.all_of(&left), self.all_of(right)];
            let all = self.union(&all);
            let names = left.fields.list().iter().map(|field| field.name.clone());
            Table {
                open: Some(all.clone()),
                ..table_of(names.collect(), &all)
            }
        };
        let compares = !select.all || select.op() != p::SetOperation::SetopUnion;
        if compares {
            let all = self.all_of(&table);
            self.decide(&all, Decides::SetOperation);
        }
        table
    }

    fn limits<'n>(&mut self, select: &'n p::SelectStmt, scope: &Scope<'_, 'n>) {
        for node in [&select.limit_offset, &select.limit_count] {
            self.predicate(node.as_deref(), scope, Decides::Limit);
        }
    }

    /// ORDER BY: a name is one of a result's, a number its position.
    pub(super) fn sorts<'n>(
        &mut self,
        sorts: &'n [Node],
        table: &Table,
        scope: &Scope<'_, 'n>,
        how: Decides,
    ) {
        for node in sorts {
            let key = match &node.node {
                Some(NodeEnum::SortBy(sort)) => {
                    self.operator_of_sort(sort);
                    sort.node.as_deref()
                }
                _ => Some(node),
            };
            let sources = self.key(key, table, scope);
            self.decide(&sources, how);
        }
    }

    /// What a key of ORDER BY, GROUP BY or DISTINCT ON compares.
    ///
    /// A name may be of a result or of FROM, whichever the server looks at first: both count.
    fn key<'n>(&mut self, node: Option<&'n Node>, table: &Table, scope: &Scope<'_, 'n>) -> Sources {
        let Some(node) = node else {
            return Sources::default();
        };
        if let Some(NodeEnum::AConst(constant)) = &node.node
            && let Some(p::a_const::Val::Ival(number)) = &constant.val
        {
            let position = usize::try_from(number.ival).unwrap_or(0);
            let field = table.fields.list().get(position.wrapping_sub(1));
            return match (field, &table.open) {
                (Some(field), None) => field.value.sources.clone(),
                (_, Some(_)) => self.all_of(table),
                (None, None) => Sources::default(),
            };
        }
        let Some(name) = plain_name(node) else {
            return self.value(Some(node), scope).sources;
        };
        let mut results = Vec::new();
        table
            .fields
            .find(name, |field| results.push(field.value.sources.clone()));
        let is_result = !results.is_empty();
        let of_from = if is_result && !scope.has_column(name) {
            None
        } else {
            Some(self.value(Some(node), scope).sources)
        };
        self.union(results.iter().chain(&of_from))
    }

    fn grouped<'n>(&mut self, node: &'n Node, table: &Table, scope: &Scope<'_, 'n>) {
        if let Some(NodeEnum::GroupingSet(set)) = &node.node {
            if self.enter() {
                for node in &set.content {
                    self.grouped(node, table, scope);
                }
                self.leave();
            }
            return;
        }
        let sources = self.key(Some(node), table, scope);
        self.decide(&sources, Decides::GroupBy);
    }

    fn distinct<'n>(&mut self, clause: &'n [Node], table: &Table, scope: &Scope<'_, 'n>) {
        // Plain DISTINCT is a list of one empty node.
        if clause.iter().any(|node| node.node.is_none()) {
            let all = self.all_of(table);
            self.decide(&all, Decides::Distinct);
            return;
        }
        for node in clause {
            let sources = self.key(Some(node), table, scope);
            self.decide(&sources, Decides::Distinct);
        }
    }

    fn named_windows<'n>(
        &mut self,
        windows: &'n [Node],
        scope: &Scope<'_, 'n>,
    ) -> HashMap<String, Sources> {
        // One may be defined by another that stands before it.
        let around = std::mem::take(&mut self.windows);
        for node in windows {
            if let Some(NodeEnum::WindowDef(window)) = &node.node {
                let sources = self.window(window, scope);
                self.windows.insert(window.name.clone(), sources);
            }
        }
        std::mem::replace(&mut self.windows, around)
    }

    /// What a window compares; it decides.
    pub(super) fn window<'n>(
        &mut self,
        window: &'n p::WindowDef,
        scope: &Scope<'_, 'n>,
    ) -> Sources {
        let named = [&window.refname, &window.name]
            .into_iter()
            .filter_map(|name| self.windows.get(name).cloned());
        let mut parts: Vec<_> = named.collect();
        let mut nodes = Vec::new();
        append_children(NodeRef::WindowDef(window), &mut nodes);
        for node in nodes {
            parts.push(self.value_of(node, scope).sources);
        }
        let all = self.union(&parts);
        self.decide(&all, Decides::Window);
        all
    }

    /// The common tables of a WITH clause, for what stands under it.
    pub(super) fn define<'s, 'n>(
        &mut self,
        with: &'n p::WithClause,
        around: Option<&'s Scope<'s, 'n>>,
        outer: Option<&'s With<'s, 'n>>,
    ) -> With<'s, 'n> {
        let frame = With {
            outer,
            around,
            tables: RefCell::new(HashMap::new()),
        };
        let listed = with.ctes.iter().filter_map(|node| match &node.node {
            Some(NodeEnum::CommonTableExpr(table)) => Some(table.as_ref()),
            _ => None,
        });
        let listed: Vec<&'n p::CommonTableExpr> = listed.collect();
        if with.recursive {
            let mut tables = frame.tables.borrow_mut();
            for table in &listed {
                tables.insert(&table.ctename, Common::Pending(table));
            }
        }
        for table in listed {
            let done = matches!(
                frame.tables.borrow().get(table.ctename.as_str()),
                Some(Common::Done(_))
            );
            if !(with.recursive && done) {
                self.define_one(table, &frame, with.recursive);
            }
        }
        frame
    }

    fn define_one<'n>(
        &mut self,
        table: &'n p::CommonTableExpr,
        frame: &With<'_, 'n>,
        recursive: bool,
    ) -> Table {
        let name = table.ctename.as_str();
        if recursive {
            frame
                .tables
                .borrow_mut()
                .insert(name, Common::Running(None));
        }
        let done = self.common_query(table, frame, recursive);
        frame
            .tables
            .borrow_mut()
            .insert(name, Common::Done(done.clone()));
        done
    }

    fn common_query<'n>(
        &mut self,
        table: &'n p::CommonTableExpr,
        frame: &With<'_, 'n>,
        recursive: bool,
    ) -> Table {
        let names = string_list(&table.aliascolnames);
        let query = table
            .ctequery
            .as_deref()
            .and_then(|node| node.node.as_ref());
        let done = match query {
            Some(NodeEnum::SelectStmt(select)) if recursive => {
                self.recursive_query(table, select, &names, frame)
            }
            Some(NodeEnum::SelectStmt(select)) => {
                let done = self.select(select, frame.around, Some(frame));
                renamed(done, &names)
            }
            Some(change) => {
                let scope = Scope::empty(frame.around, Some(frame));
                let returned = self.change(change.to_ref(), &scope);
                renamed(returned.unwrap_or_default(), &names)
            }
            None => Table::default(),
        };
        self.search_and_cycle(table, done)
    }

    /// A query that may read its own rows: they derive from what the query says in the end.
    fn recursive_query<'n>(
        &mut self,
        table: &'n p::CommonTableExpr,
        select: &'n p::SelectStmt,
        names: &[Arc<str>],
        frame: &With<'_, 'n>,
    ) -> Table {
        let (Some(first), Some(_)) = (&select.larg, &select.rarg) else {
            let done = self.select(select, frame.around, Some(frame));
            return renamed(done, names);
        };
        // The query's own WITH is around both arms; it is defined again for the whole below.
        let first = match &select.with_clause {
            Some(with) => {
                let inner = self.define(with, frame.around, Some(frame));
                self.select(first, frame.around, Some(&inner))
            }
            None => self.select(first, frame.around, Some(frame)),
        };
        let first = renamed(first, names);
        let start = self.recursive.len();
        let count = first.fields.list().len();
        if start + count > RECURSIVE_MAX || first.open.is_some() {
            let reason = format!("the columns of {} are not known; name them", table.ctename);
            let any = self.lose(reason);
            let names = first.fields.list().iter().map(|field| field.name.clone());
            let own = Table {
                open: Some(any.clone()),
                ..table_of(names.collect(), &any)
            };
            let running = Common::Running(Some(own.clone()));
            frame.tables.borrow_mut().insert(&table.ctename, running);
            self.select(select, frame.around, Some(frame));
            return own;
        }
        let mut own = Vec::with_capacity(count);
        for (position, field) in first.fields.list().iter().enumerate() {
            let number = i16::try_from(start + position + 1).map_or(0, |number| -number);
            let id = ColumnId {
                relation: 0,
                number,
            };
            self.recursive.push(Sources::default());
            own.push(Field {
                name: field.name.clone(),
                value: Value {
                    type_oid: field.value.type_oid,
                    ..Value::derived(Sources::one(id))
                },
            });
        }
        let own = Table::from(own);
        let running = Common::Running(Some(own.clone()));
        frame.tables.borrow_mut().insert(&table.ctename, running);
        let whole = self.select(select, frame.around, Some(frame));
        let all = self.all_of(&whole);
        for position in 0..count {
            let field = whole.fields.list().get(position);
            let sources = match field {
                Some(field) if whole.open.is_none() => field.value.sources.clone(),
                Some(_) | None => all.clone(),
            };
            if let Some(place) = self.recursive.get_mut(start + position) {
                *place = sources;
            }
        }
        own
    }

    /// The columns that SEARCH and CYCLE add.
    fn search_and_cycle(&mut self, table: &p::CommonTableExpr, done: Table) -> Table {
        if table.search_clause.is_none() && table.cycle_clause.is_none() {
            return done;
        }
        let mut fields = done.fields.list().to_vec();
        let of_columns = |analysis: &mut Self, nodes: &[Node]| {
            let mut parts = Vec::new();
            for name in nodes.iter().filter_map(string_of) {
                done.fields
                    .find(name, |field| parts.push(field.value.sources.clone()));
            }
            analysis.union(parts.iter().chain(&done.open))
        };
        if let Some(search) = &table.search_clause {
            let sources = of_columns(self, &search.search_col_list);
            fields.push(Field {
                name: Arc::from(search.search_seq_column.as_str()),
                value: Value::derived(sources),
            });
        }
        if let Some(cycle) = &table.cycle_clause {
            let sources = of_columns(self, &cycle.cycle_col_list);
            self.decide(&sources, Decides::Condition);
            for name in [&cycle.cycle_mark_column, &cycle.cycle_path_column] {
                fields.push(Field {
                    name: Arc::from(name.as_str()),
                    value: Value::derived(sources.clone()),
                });
            }
        }
        Table {
            fields: Arc::new(Fields::from(fields)),
            open: done.open,
        }
    }

    /// The common table of that name, if there is one around.
    pub(super) fn common_table<'n>(
        &mut self,
        name: &str,
        tables: Option<&With<'_, 'n>>,
    ) -> Option<Table> {
        let mut frames = std::iter::successors(tables, |frame| frame.outer);
        let (frame, found) = frames.find_map(|frame| {
            let found = frame.tables.borrow().get(name).cloned();
            found.map(|found| (frame, found))
        })?;
        Some(match found {
            Common::Done(table) | Common::Running(Some(table)) => table,
            Common::Pending(table) => self.define_one(table, frame, true),
            // The server allows a table to read itself in the second arm of a UNION alone.
            Common::Running(None) => Table {
                fields: Arc::default(),
                open: Some(self.lose(format!("{name} reads itself"))),
            },
        })
    }
}

/// The name of a column that has nothing before it.
fn plain_name(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::ColumnRef(column)) => match column.fields.as_slice() {
            [field] => string_of(field),
            _ => None,
        },
        _ => None,
    }
}

impl Scope<'_, '_> {
    /// Whether the innermost level may have a column of that name.
    fn has_column(&self, name: &str) -> bool {
        let mut found = Vec::new();
        self.items
            .iter()
            .filter(|item| item.shows_columns)
            .any(|item| {
                item.find(name, &mut found);
                item.table.open.is_some() || !found.is_empty()
            })
    }
}
