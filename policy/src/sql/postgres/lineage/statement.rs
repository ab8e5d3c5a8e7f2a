//! Statements: those that hold queries, and those that define and maintain.

use std::collections::BTreeSet;
use std::sync::Arc;

use pg_query::protobuf as p;
use pg_query::{Node, NodeEnum, NodeRef};

use super::super::walker::string_of;
use super::Analysis;
use super::from::table_of;
use super::scope::{Item, Scope};
use super::sources::{Field, Sources, Table, Value};
use crate::catalogue::Relation;
use crate::sql::children::append_children;
use crate::sql::lineage::{ColumnId, Decides, Escapes, Held};

impl<'c> Analysis<'c> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what is not named reads and answers nothing but what its children call"
    )]
    pub(super) fn statement(&mut self, node: NodeRef<'_>) {
        let scope = Scope::empty(None, None);
        match node {
            NodeRef::SelectStmt(select) => {
                let table = self.select(select, None, None);
                match leftmost(select).into_clause {
                    Some(_) => self.stores(&table),
                    None => self.answers(&table),
                }
            }
            NodeRef::InsertStmt(_)
            | NodeRef::UpdateStmt(_)
            | NodeRef::DeleteStmt(_)
            | NodeRef::MergeStmt(_) => {
                if let Some(table) = self.change(node, &scope) {
                    self.answers(&table);
                }
            }
            NodeRef::CopyStmt(copy) => self.copy(copy),
            NodeRef::ExplainStmt(explain) => self.explain(explain),
            NodeRef::PrepareStmt(prepare) => {
                self.top(prepare.query.as_deref());
                self.held = Some(Held::Prepares(prepare.name.clone()));
            }
            NodeRef::ExecuteStmt(execute) => {
                for parameter in &execute.params {
                    let value = self.value(Some(parameter), &scope).sources;
                    self.decide(&value, Decides::Condition);
                }
                self.held = Some(Held::Executes(execute.name.clone()));
            }
            NodeRef::DeclareCursorStmt(declare) => {
                self.top(declare.query.as_deref());
                self.held = Some(Held::Declares(declare.portalname.clone()));
            }
            NodeRef::FetchStmt(fetch) if !fetch.ismove => {
                self.held = Some(Held::Fetches(fetch.portalname.clone()));
            }
            NodeRef::CreateTableAsStmt(create) => self.create_as(create),
            NodeRef::ViewStmt(view) => {
                self.held_query(view.query.as_deref());
                self.named_in(node);
                self.redefined.extend(&self.relations);
            }
            NodeRef::VariableShowStmt(show) => {
                let names: &[&str] = match show.name.as_str() {
                    "all" => &["name", "setting", "description"],
                    name => &[name],
                };
                self.answers_with(names, &Sources::default());
            }
            NodeRef::CallStmt(call) => {
                if let Some(call) = &call.funccall {
                    let value = self.call(call, &scope);
                    self.answers(&Table {
                        open: Some(value.sources),
                        ..Table::default()
                    });
                }
            }
            NodeRef::DoStmt(_) => {
                let any = self.lose("a block of code is not looked into".to_owned());
                self.escape(&any, Escapes::Sent);
                self.runs_attached_code = true;
            }
            NodeRef::TruncateStmt(truncate) => {
                for relation in self.named_in(node) {
                    self.written.insert(whole(relation));
                    self.written
                        .extend(self.catalogue.descendants(relation.oid).into_iter().map(
                            |relation| ColumnId {
                                relation,
                                number: 0,
                            },
                        ));
                }
                if truncate.behavior() == p::DropBehavior::DropCascade {
                    self.written.insert(ColumnId::ANY);
                }
            }
            NodeRef::CreatePublicationStmt(create) => self.publishes(node, create.for_all_tables),
            NodeRef::AlterPublicationStmt(alter) => self.publishes(node, alter.for_all_tables),
            NodeRef::DropStmt(drop) => self.drop_objects(drop),
            NodeRef::CreateStmt(_)
            | NodeRef::CreateForeignTableStmt(_)
            | NodeRef::IndexStmt(_)
            | NodeRef::RuleStmt(_)
            | NodeRef::CreateTrigStmt(_)
            | NodeRef::CreatePolicyStmt(_)
            | NodeRef::AlterPolicyStmt(_)
            | NodeRef::AlterTableStmt(_)
            | NodeRef::CreateStatsStmt(_)
            | NodeRef::RenameStmt(_)
            | NodeRef::AlterObjectSchemaStmt(_)
            | NodeRef::AlterOwnerStmt(_)
            | NodeRef::AlterObjectDependsStmt(_)
            | NodeRef::CreateSchemaStmt(_)
            | NodeRef::CreateFunctionStmt(_)
            | NodeRef::CreateDomainStmt(_)
            | NodeRef::AlterDomainStmt(_)
            | NodeRef::CreateSeqStmt(_)
            | NodeRef::AlterSeqStmt(_) => self.redefines(node),
            _ => {
                let relations = self.named_in(node);
                self.with_descendants(&relations);
                let value = self.of_children(node, &scope);
                self.escape(&value, Escapes::Sent);
            }
        }
    }

    /// The query of a definition or copy: all that it yields is kept.
    fn stores(&mut self, table: &Table) {
        let all = self.all_of(table);
        self.mention(&all);
        self.escape(&all, Escapes::Stored);
    }

    fn held_query(&mut self, node: Option<&Node>) {
        match node.and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) => {
                let table = self.select(select, None, None);
                self.stores(&table);
            }
            Some(_) | None => {
                let any = self.lose("what is kept was not looked into".to_owned());
                self.escape(&any, Escapes::Stored);
            }
        }
    }

    fn create_as(&mut self, create: &p::CreateTableAsStmt) {
        self.held_query(create.query.as_deref());
        if create.objtype() == p::ObjectType::ObjectMatview {
            self.redefined.extend(&self.relations);
        }
    }

    fn answers_with(&mut self, names: &[&str], sources: &Sources) {
        let names = names.iter().map(|name| Arc::from(*name));
        self.answers(&table_of(names.collect(), sources));
    }

    /// A plan shows no rows. It shows constants, which planning may have made of calls.
    fn explain(&mut self, explain: &p::ExplainStmt) {
        self.top(explain.query.as_deref());
        self.held = None;
        self.open = false;
        let called = (0..self.calls.len()).map(super::call_number).collect();
        self.answers_with(&["QUERY PLAN"], &called);
    }

    fn copy(&mut self, copy: &p::CopyStmt) {
        let table = match (&copy.query, &copy.relation) {
            (Some(query), _) => {
                self.top(Some(query));
                let outputs = self.outputs.take().unwrap_or_default();
                let fields = outputs.into_iter().map(|output| Field {
                    name: output.name.into(),
                    value: Value {
                        untouched: output.untouched,
                        ..Value::derived(output.sources.into_iter().collect())
                    },
                });
                Some(Table::from(fields.collect::<Vec<_>>()))
            }
            (None, Some(relation)) => {
                let item = self.relation_item(relation);
                let table = self.listed(&item, &copy.attlist);
                if copy.is_from {
                    self.copied_in(&item, &table, copy.where_clause.as_deref());
                    None
                } else {
                    let all = self.all_of(&table);
                    self.mention(&all);
                    Some(table)
                }
            }
            (None, None) => None,
        };
        let Some(table) = table else { return };
        if copy.is_program || !copy.filename.is_empty() {
            let all = self.all_of(&table);
            self.escape(&all, Escapes::Sent);
        } else {
            self.answers(&table);
        }
    }

    /// The columns of a list, or all.
    fn listed(&mut self, item: &Item, names: &[Node]) -> Table {
        if names.is_empty() {
            return item.table.clone();
        }
        let mut fields = Vec::new();
        for name in names.iter().filter_map(string_of) {
            let value = self.column_of(item, name).unwrap_or_else(|| item.row());
            fields.push(Field {
                name: name.into(),
                value,
            });
        }
        Table::from(fields)
    }

    fn copied_in(&mut self, item: &Item, table: &Table, condition: Option<&Node>) {
        let all = self.all_of(table);
        self.written.extend(all.as_slice());
        let mut scope = Scope::empty(None, None);
        scope.items.push(item.clone());
        self.predicate(condition, &scope, Decides::Where);
        let mut told = BTreeSet::new();
        for id in all.as_slice() {
            let Some(relation) = self.catalogue.relation(id.relation) else {
                continue;
            };
            self.written.insert(whole(relation));
            self.runs_attached_code |= !relation.triggers.is_empty();
            if relation.unique_columns.contains(&id.number) {
                told.insert(*id);
            }
            for reference in &relation.references {
                if reference.columns.contains(&id.number) {
                    told.extend(reference.referenced.iter().map(|number| ColumnId {
                        relation: reference.relation,
                        number: *number,
                    }));
                    self.relations.insert(reference.relation);
                }
            }
        }
        let told: Sources = told.into_iter().collect();
        self.decide(&told, Decides::Constraint);
    }

    /// Rows of published tables are sent to whoever subscribes.
    fn publishes(&mut self, node: NodeRef<'_>, all_tables: bool) {
        let relations = self.named_in(node);
        for relation in relations {
            let rows = self.whole_of(relation);
            self.escape(&rows, Escapes::Sent);
        }
        let mut has_schema = all_tables;
        let mut pending = vec![node];
        while let Some(node) = pending.pop() {
            if let NodeRef::PublicationObjSpec(object) = node {
                has_schema |= object.pubtable.is_none();
            }
            append_children(node, &mut pending);
        }
        if has_schema {
            self.escape(&Sources::any(), Escapes::Sent);
        }
    }

    /// Removing a rule, trigger or policy changes what its table means; removing a table, its rows.
    fn drop_objects(&mut self, drop: &p::DropStmt) {
        use p::ObjectType as Kind;
        let is_attached = matches!(
            drop.remove_type(),
            Kind::ObjectRule | Kind::ObjectTrigger | Kind::ObjectPolicy
        );
        for object in &drop.objects {
            let Some(NodeEnum::List(names)) = &object.node else {
                continue;
            };
            let names: Vec<_> = names.items.iter().filter_map(string_of).collect();
            let table = match names.split_last() {
                Some((_, table)) if is_attached => table,
                Some(_) | None => &names,
            };
            let relation = p::RangeVar {
                relname: table.last().copied().unwrap_or_default().to_owned(),
                schemaname: match table {
                    [.., schema, _] => (*schema).to_owned(),
                    [_] | [] => String::new(),
                },
                ..p::RangeVar::default()
            };
            for found in self.candidates(&relation) {
                self.relations.insert(found.oid);
                if is_attached {
                    self.redefined.insert(found.oid);
                } else {
                    self.written.insert(whole(found));
                }
            }
        }
    }

    /// A definition: of, or upon, every relation that it names. What it says may be kept.
    fn redefines(&mut self, node: NodeRef<'_>) {
        let relations = self.named_in(node);
        self.redefined
            .extend(relations.iter().map(|found| found.oid));
        let mut scope = Scope::empty(None, None);
        for relation in &relations {
            let item = Item {
                whole: self.whole_of(relation),
                shows_columns: true,
                table: Table {
                    open: Some(Sources::one(whole(relation))),
                    ..Table::default()
                },
                ..Item::default()
            };
            scope.items.push(item);
        }
        let kept = self.of_children(node, &scope);
        self.escape(&kept, Escapes::Stored);
    }

    fn with_descendants(&mut self, relations: &[&'c Relation]) {
        for relation in relations {
            self.relations.insert(relation.oid);
            self.relations
                .extend(self.catalogue.descendants(relation.oid));
        }
    }

    /// Every relation that is named anywhere in a statement, and that there is.
    fn named_in(&mut self, node: NodeRef<'_>) -> Vec<&'c Relation> {
        let mut found: Vec<&Relation> = Vec::new();
        let mut pending = vec![node];
        while let Some(node) = pending.pop() {
            self.charge(1);
            if let NodeRef::RangeVar(name) = node {
                found.extend(self.candidates(name));
            }
            append_children(node, &mut pending);
        }
        found.sort_by_key(|relation| relation.oid);
        found.dedup_by_key(|relation| relation.oid);
        self.relations.extend(found.iter().map(|found| found.oid));
        found
    }
}

fn whole(relation: &Relation) -> ColumnId {
    ColumnId {
        relation: relation.oid,
        number: 0,
    }
}

/// The arm of a set operation that holds its INTO.
fn leftmost(select: &p::SelectStmt) -> &p::SelectStmt {
    let mut select = select;
    while let Some(left) = &select.larg {
        select = left;
    }
    select
}
