//! INSERT, UPDATE, DELETE and MERGE: what they store, decide by and return.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pg_query::protobuf as p;
use pg_query::{Node, NodeEnum, NodeRef};

use super::scope::{Item, Scope, With};
use super::sources::{Field, Fields, Sources, Table, Value};
use super::{Analysis, string_list};
use crate::catalogue::{Event, Relation, RelationKind};
use crate::sql::lineage::{ColumnId, Decides, Escapes};

/// What a change gives to columns, by position in the target; not where it is their own value.
type Assigned = BTreeMap<usize, Sources>;

/// The relation that is changed.
struct Target<'c> {
    item: Item,
    /// More than one where its name is not certain.
    relations: Vec<&'c Relation>,
    assigned: Assigned,
    /// What it returns is made by a rule, or by a trigger of a view: it is in no table.
    is_replaced: bool,
}

/// What RETURNING may name beside the target, and where `*` shows it.
enum Others {
    /// The source of MERGE.
    Before(Vec<Item>),
    Behind(Vec<Item>),
}

impl<'c> Analysis<'c> {
    /// A change of data; what it returns, if it does.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "nothing else stands where a change may, but a query"
    )]
    pub(super) fn change<'n>(
        &mut self,
        node: NodeRef<'n>,
        around: &Scope<'_, 'n>,
    ) -> Option<Table> {
        let with = match node {
            NodeRef::InsertStmt(insert) => insert.with_clause.as_ref(),
            NodeRef::UpdateStmt(update) => update.with_clause.as_ref(),
            NodeRef::DeleteStmt(delete) => delete.with_clause.as_ref(),
            NodeRef::MergeStmt(merge) => merge.with_clause.as_ref(),
            _ => None,
        };
        match with {
            Some(with) => {
                let frame = self.define(with, around.outer, around.tables);
                self.change_with(node, around.outer, Some(&frame))
            }
            None => self.change_with(node, around.outer, around.tables),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "nothing else stands where a change may, but a query"
    )]
    fn change_with<'n>(
        &mut self,
        node: NodeRef<'n>,
        outer: Option<&Scope<'_, 'n>>,
        tables: Option<&With<'_, 'n>>,
    ) -> Option<Table> {
        match node {
            NodeRef::InsertStmt(insert) => self.insert(insert, outer, tables),
            NodeRef::UpdateStmt(update) => self.update(update, outer, tables),
            NodeRef::DeleteStmt(delete) => self.delete(delete, outer, tables),
            NodeRef::MergeStmt(merge) => self.merge(merge, outer, tables),
            NodeRef::SelectStmt(select) => Some(self.select(select, outer, tables)),
            _ => {
                let reason = "a part of the statement that is not traced".to_owned();
                let open = Some(self.lose(reason));
                Some(Table {
                    open,
                    ..Table::default()
                })
            }
        }
    }

    fn target(&mut self, relation: Option<&p::RangeVar>, events: &[Event]) -> Target<'c> {
        let Some(relation) = relation else {
            return Target {
                item: Item::default(),
                relations: Vec::new(),
                assigned: Assigned::new(),
                is_replaced: false,
            };
        };
        let relations = self.candidates(relation);
        let mut is_replaced = false;
        for relation in &relations {
            let by_trigger = relation.triggers.iter().flat_map(|found| &found.events);
            let by_rule = relation.rules.iter().map(|found| &found.event);
            let has_code = by_trigger
                .chain(by_rule)
                .any(|event| events.contains(event));
            self.runs_attached_code |= has_code;
            is_replaced |= !relation.rules.is_empty()
                || (relation.kind == RelationKind::View && !relation.triggers.is_empty());
        }
        Target {
            item: self.relation_item(relation),
            relations,
            assigned: Assigned::new(),
            is_replaced,
        }
    }

    fn insert<'n>(
        &mut self,
        insert: &'n p::InsertStmt,
        outer: Option<&Scope<'_, 'n>>,
        tables: Option<&With<'_, 'n>>,
    ) -> Option<Table> {
        let events: &[_] = match &insert.on_conflict_clause {
            Some(_) => &[Event::Insert, Event::Update],
            None => &[Event::Insert],
        };
        let mut target = self.target(insert.relation.as_ref(), events);
        let rows = match insert
            .select_stmt
            .as_deref()
            .and_then(|node| node.node.as_ref())
        {
            Some(NodeEnum::SelectStmt(select)) => self.select(select, outer, tables),
            _ => Table::default(),
        };
        let names = target_names(&insert.cols);
        let count = rows.fields.list().len();
        let positions: Vec<usize> = if names.is_empty() && rows.open.is_some() {
            (0..target.item.table.fields.list().len()).collect()
        } else if names.is_empty() {
            (0..target.item.table.fields.list().len().min(count)).collect()
        } else {
            names
                .iter()
                .filter_map(|name| target.position(name))
                .collect()
        };
        let all = self.all_of(&rows);
        for (index, position) in positions.iter().enumerate() {
            let sources = match rows.fields.list().get(index) {
                Some(field) if rows.open.is_none() => field.value.sources.clone(),
                Some(_) | None => all.clone(),
            };
            self.assign(&mut target, *position, &Value::derived(sources));
        }
        // Values that go to columns that are not known.
        if positions.len() != names.len().max(count) || rows.open.is_some() {
            self.escape(&all, Escapes::Stored);
        }
        self.writes_rows(&target);
        self.probes(&target, &positions);
        if let Some(conflict) = &insert.on_conflict_clause {
            self.on_conflict(conflict, &mut target, outer, tables);
        }
        self.returning(
            insert.returning_clause.as_ref(),
            target,
            Others::Behind(Vec::new()),
            outer,
            tables,
        )
    }

    fn on_conflict<'n>(
        &mut self,
        conflict: &'n p::OnConflictClause,
        target: &mut Target<'c>,
        outer: Option<&Scope<'_, 'n>>,
        tables: Option<&With<'_, 'n>>,
    ) {
        let mut scope = Scope::empty(outer, tables);
        scope.items.push(target.item.clone());
        if let Some(infer) = &conflict.infer {
            for node in &infer.index_elems {
                if let Some(NodeEnum::IndexElem(element)) = &node.node {
                    let sources = if element.name.is_empty() {
                        self.value(element.expr.as_deref(), &scope).sources
                    } else {
                        let value = self.column_of(&target.item, &element.name);
                        value.unwrap_or_default().sources
                    };
                    self.decide(&sources, Decides::Constraint);
                }
            }
            self.predicate(infer.where_clause.as_deref(), &scope, Decides::Constraint);
        }
        let excluded = target.excluded();
        scope.items.push(excluded);
        self.predicate(conflict.where_clause.as_deref(), &scope, Decides::Where);
        self.sets(&conflict.target_list, target, &scope);
    }

    fn update<'n>(
        &mut self,
        update: &'n p::UpdateStmt,
        outer: Option<&Scope<'_, 'n>>,
        tables: Option<&With<'_, 'n>>,
    ) -> Option<Table> {
        let mut target = self.target(update.relation.as_ref(), &[Event::Update]);
        let mut scope = Scope::empty(outer, tables);
        self.bring_all(&update.from_clause, &mut scope);
        scope.items.insert(0, target.item.clone());
        self.predicate(update.where_clause.as_deref(), &scope, Decides::Where);
        let positions = self.sets(&update.target_list, &mut target, &scope);
        self.probes(&target, &positions);
        let others = Others::Behind(scope.items.split_off(1));
        self.returning(
            update.returning_clause.as_ref(),
            target,
            others,
            outer,
            tables,
        )
    }

    fn delete<'n>(
        &mut self,
        delete: &'n p::DeleteStmt,
        outer: Option<&Scope<'_, 'n>>,
        tables: Option<&With<'_, 'n>>,
    ) -> Option<Table> {
        let target = self.target(delete.relation.as_ref(), &[Event::Delete]);
        let mut scope = Scope::empty(outer, tables);
        self.bring_all(&delete.using_clause, &mut scope);
        scope.items.insert(0, target.item.clone());
        self.predicate(delete.where_clause.as_deref(), &scope, Decides::Where);
        self.writes_rows(&target);
        self.probes_references(&target, None);
        let others = Others::Behind(scope.items.split_off(1));
        self.returning(
            delete.returning_clause.as_ref(),
            target,
            others,
            outer,
            tables,
        )
    }

    fn merge<'n>(
        &mut self,
        merge: &'n p::MergeStmt,
        outer: Option<&Scope<'_, 'n>>,
        tables: Option<&With<'_, 'n>>,
    ) -> Option<Table> {
        let mut target = self.target(
            merge.relation.as_ref(),
            &[Event::Insert, Event::Update, Event::Delete],
        );
        let mut source = Scope::empty(outer, tables);
        if let Some(node) = &merge.source_relation {
            let items = self.bring(node, &mut source);
            source.items.extend(items);
        }
        let mut both = Scope::empty(outer, tables);
        both.items.push(target.item.clone());
        both.items.extend(source.items.iter().cloned());
        self.predicate(merge.join_condition.as_deref(), &both, Decides::Join);
        for node in &merge.merge_when_clauses {
            if let Some(NodeEnum::MergeWhenClause(clause)) = &node.node {
                self.merge_action(clause, &mut target, &both);
            }
        }
        let source = Others::Before(source.items);
        self.returning(
            merge.returning_clause.as_ref(),
            target,
            source,
            outer,
            tables,
        )
    }

    fn merge_action<'n>(
        &mut self,
        clause: &'n p::MergeWhenClause,
        target: &mut Target<'c>,
        scope: &Scope<'_, 'n>,
    ) {
        self.predicate(clause.condition.as_deref(), scope, Decides::Where);
        match clause.command_type() {
            p::CmdType::CmdInsert => {
                let names = target_names(&clause.target_list);
                let row = self.value_list(&clause.values, scope);
                let fields = row.fields.list();
                let mut positions = Vec::new();
                for (index, field) in fields.iter().enumerate() {
                    let position = if names.is_empty() {
                        Some(index)
                    } else {
                        names.get(index).and_then(|name| target.position(name))
                    };
                    match position {
                        Some(position) => {
                            positions.push(position);
                            self.assign(
                                target,
                                position,
                                &Value::derived(field.value.sources.clone()),
                            );
                        }
                        None => self.escape(&field.value.sources, Escapes::Stored),
                    }
                }
                self.writes_rows(target);
                self.probes(target, &positions);
            }
            p::CmdType::CmdUpdate => {
                let positions = self.sets(&clause.target_list, target, scope);
                self.probes(target, &positions);
            }
            p::CmdType::CmdDelete => {
                self.writes_rows(target);
                self.probes_references(target, None);
            }
            p::CmdType::Undefined
            | p::CmdType::CmdUnknown
            | p::CmdType::CmdSelect
            | p::CmdType::CmdMerge
            | p::CmdType::CmdUtility
            | p::CmdType::CmdNothing => {}
        }
    }

    /// The assignments of a SET; the positions of the columns that they are about.
    fn sets<'n>(
        &mut self,
        targets: &'n [Node],
        target: &mut Target<'c>,
        scope: &Scope<'_, 'n>,
    ) -> Vec<usize> {
        let mut positions = Vec::new();
        for node in targets {
            let Some(NodeEnum::ResTarget(assignment)) = &node.node else {
                continue;
            };
            let value = self.assigned_value(assignment, scope);
            for subscript in &assignment.indirection {
                let by = self.value(Some(subscript), scope).sources;
                self.escape(&by, Escapes::Stored);
            }
            match target.position(&assignment.name) {
                Some(position) => {
                    positions.push(position);
                    self.assign(target, position, &value);
                }
                None => self.escape(&value.sources, Escapes::Stored),
            }
        }
        positions
    }

    fn assigned_value<'n>(&mut self, assignment: &'n p::ResTarget, scope: &Scope<'_, 'n>) -> Value {
        let Some(node) = assignment.val.as_deref() else {
            return Value::default();
        };
        let value = self.value(Some(node), scope);
        let value = match &node.node {
            Some(NodeEnum::MultiAssignRef(several)) => {
                let index = usize::try_from(several.colno).unwrap_or(0).wrapping_sub(1);
                let field = value.row.as_ref().and_then(|row| row.list().get(index));
                field.map_or_else(
                    || Value::derived(value.sources.clone()),
                    |field| field.value.clone(),
                )
            }
            _ => value,
        };
        Value {
            untouched: value.untouched && assignment.indirection.is_empty(),
            ..value
        }
    }

    /// Counts a value as stored, unless it is the column's own.
    fn assign(&mut self, target: &mut Target<'c>, position: usize, value: &Value) {
        let own = target.sources(position);
        self.written.extend(own.as_slice());
        let is_own =
            value.untouched && !value.sources.is_empty() && value.sources.is_subset_of(&own);
        if is_own {
            return;
        }
        self.escape(&value.sources, Escapes::Stored);
        let before = target.assigned.remove(&position).unwrap_or_default();
        let all = self.union([&before, &value.sources]);
        target.assigned.insert(position, all);
    }

    fn writes_rows(&mut self, target: &Target<'_>) {
        let named = target.relations.iter().copied();
        let all = named.chain(self.probed(target)).map(|relation| ColumnId {
            relation: relation.oid,
            number: 0,
        });
        let all: Vec<_> = all.collect();
        self.written.extend(all);
        if target.relations.is_empty() {
            self.written.insert(ColumnId::ANY);
        }
    }

    /// What constraints tell of values that are given to columns.
    fn probes(&mut self, target: &Target<'_>, positions: &[usize]) {
        let given: BTreeSet<ColumnId> = positions
            .iter()
            .flat_map(|position| target.sources(*position).as_slice().to_vec())
            .collect();
        for relation in self.probed(target) {
            let unique = relation.unique_columns.iter().map(|number| ColumnId {
                relation: relation.oid,
                number: *number,
            });
            let told: Sources = unique.filter(|id| given.contains(id)).collect();
            self.decide(&told, Decides::Constraint);
            for reference in &relation.references {
                let is_given = reference.columns.iter().any(|number| {
                    given.contains(&ColumnId {
                        relation: relation.oid,
                        number: *number,
                    })
                });
                if is_given {
                    let told = reference.referenced.iter().map(|number| ColumnId {
                        relation: reference.relation,
                        number: *number,
                    });
                    self.decide(&told.collect(), Decides::Constraint);
                    self.relations.insert(reference.relation);
                }
            }
        }
        self.probes_references(target, Some(&given));
    }

    /// What foreign keys of others tell: that they have the value of a row that goes away.
    fn probes_references(&mut self, target: &Target<'_>, changed: Option<&BTreeSet<ColumnId>>) {
        for relation in self.probed(target) {
            for other in self.catalogue.referencing(relation.oid) {
                for reference in &other.references {
                    let concerns = reference.relation == relation.oid
                        && reference.referenced.iter().any(|number| {
                            let id = ColumnId {
                                relation: relation.oid,
                                number: *number,
                            };
                            changed.is_none_or(|changed| changed.contains(&id))
                        });
                    if concerns {
                        let told = reference.columns.iter().map(|number| ColumnId {
                            relation: other.oid,
                            number: *number,
                        });
                        self.decide(&told.collect(), Decides::Constraint);
                        self.relations.insert(other.oid);
                    }
                }
            }
        }
    }

    /// The tables whose constraints a change of the target meets.
    fn probed(&self, target: &Target<'_>) -> Vec<&'c Relation> {
        let columns = target.item.table.fields.list().iter();
        let ids = columns.flat_map(|field| field.value.sources.as_slice());
        let oids: BTreeSet<u32> = ids.map(|id| id.relation).collect();
        oids.into_iter()
            .filter_map(|oid| self.catalogue.relation(oid))
            .collect()
    }

    /// The rows of RETURNING: those of the target, with what it was just given.
    fn returning<'n>(
        &mut self,
        returning: Option<&'n p::ReturningClause>,
        target: Target<'c>,
        others: Others,
        outer: Option<&Scope<'_, 'n>>,
        tables: Option<&With<'_, 'n>>,
    ) -> Option<Table> {
        let returning = returning?;
        let item = self.returned(&target);
        let mut scope = Scope::empty(outer, tables);
        let hidden = |name: &str| Item {
            name: Some(Arc::from(name)),
            schema: None,
            shows_columns: false,
            ..item.clone()
        };
        let mut names = vec!["old", "new"];
        for option in &returning.options {
            if let Some(NodeEnum::ReturningOption(option)) = &option.node {
                names.push(&option.value);
            }
        }
        let rows: Vec<_> = names.into_iter().map(hidden).collect();
        match others {
            Others::Before(items) => {
                scope.items.extend(items);
                scope.items.push(item);
            }
            Others::Behind(items) => {
                scope.items.push(item);
                scope.items.extend(items);
            }
        }
        scope.items.extend(rows);
        Some(self.targets(&returning.exprs, &scope))
    }

    fn returned(&mut self, target: &Target<'c>) -> Item {
        let mut item = target.item.clone();
        if target.is_replaced {
            let fields = item.table.fields.list().iter().map(|field| Field {
                name: field.name.clone(),
                value: Value::any(),
            });
            let fields: Vec<_> = fields.collect();
            item.table.fields = Arc::new(Fields::from(fields));
            item.whole = Sources::any();
            return item;
        }
        if target.assigned.is_empty() {
            return item;
        }
        let fields: Vec<_> = item.table.fields.list().to_vec();
        let fields = fields.into_iter().enumerate().map(|(position, field)| {
            let Some(given) = target.assigned.get(&position) else {
                return field;
            };
            let sources = self.union([&field.value.sources, given]);
            Field {
                value: Value {
                    sources,
                    // It shows what this statement says, which may be a guess.
                    untouched: false,
                    ..field.value
                },
                ..field
            }
        });
        item.table.fields = Arc::new(Fields::from(fields.collect::<Vec<_>>()));
        let all = self.all_of(&item.table.clone());
        item.whole = self.union([&item.whole.clone(), &all]);
        item
    }
}

impl Target<'_> {
    fn position(&self, name: &str) -> Option<usize> {
        let fields = self.item.table.fields.list();
        fields.iter().position(|field| *field.name == *name)
    }

    /// The column at a position, with what is beneath.
    fn sources(&self, position: usize) -> Sources {
        let field = self.item.table.fields.list().get(position);
        field.map_or_else(Sources::any, |field| field.value.sources.clone())
    }

    /// The row that met a conflict: what was to be inserted.
    fn excluded(&self) -> Item {
        let fields = self.item.table.fields.list().iter().enumerate();
        let fields = fields.map(|(position, field)| Field {
            name: field.name.clone(),
            value: Value {
                type_oid: field.value.type_oid,
                ..Value::derived(self.assigned.get(&position).cloned().unwrap_or_default())
            },
        });
        let table = Table {
            fields: Arc::new(Fields::from(fields.collect::<Vec<_>>())),
            open: self.item.table.open.clone(),
        };
        let parts = self.assigned.values().flat_map(Sources::as_slice).copied();
        let open = table.open.iter().flat_map(Sources::as_slice).copied();
        let whole = parts.chain(open).collect();
        Item {
            shows_columns: false,
            ..Item::plain(Some(Arc::from("excluded")), table, whole)
        }
    }
}

fn target_names(targets: &[Node]) -> Vec<Arc<str>> {
    let names = targets.iter().filter_map(|node| match &node.node {
        Some(NodeEnum::ResTarget(target)) => Some(Arc::from(target.name.as_str())),
        _ => None,
    });
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        string_list(targets)
    } else {
        names
    }
}
