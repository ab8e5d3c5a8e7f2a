//! The walk over queries and data changes: scopes of names, relations, calls, operators.
//!
//! Definitions of objects are in `definition`, settings in `setting`.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use pg_query::protobuf as p;
use pg_query::{Node, NodeEnum, NodeRef};

use super::code;
use super::condition::Rows;
use super::{ProfileLimits, profile_within};
use crate::class::Class;
use crate::sql::children::{append_children, node_ref};
use crate::sql::functions::{self, Call, Shows};
use crate::sql::nodes::{self, Handling};
use crate::sql::profile::{
    By, Change, CopyStream, Effect, FunctionName, Name, NamedStatementEffect, Object, Reason,
    RelyingOn, Schema, Scope, SettingChange, StatementProfile, TransactionControl,
};

/// Deepest nesting of nodes that is walked; the decoder of the tree allows 100 messages.
pub(super) const DEPTH_MAX: u32 = 200;

/// Most effects that one statement may have: a statement beyond it is not worth the memory.
const EFFECTS_MAX: usize = 2000;

/// What a relation that is met on the way counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// It is read.
    Query,
    /// It is part of a definition: of that class, and read, since the definition makes it readable.
    Definition(Class),
}

/// The server's view of its settings.
const SETTINGS: &str = "pg_settings";

/// Types whose values are read by the server's own code alone, as `pg_input_is_valid` is given them.
pub(super) const BASE_TYPES: &[&str] = &[
    "bigint",
    "bool",
    "boolean",
    "bytea",
    "date",
    "double precision",
    "float4",
    "float8",
    "inet",
    "int2",
    "int4",
    "int8",
    "integer",
    "interval",
    "json",
    "jsonb",
    "numeric",
    "real",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "uuid",
    "varchar",
    "xml",
];

/// What a FOR UPDATE or SHARE holds among the relations of a FROM.
enum Locks {
    All,
    Of(HashSet<String>),
}

/// Scope: one statement.
pub(super) struct Walker<'l> {
    limits: &'l ProfileLimits,
    text_depth: u8,
    depth: u32,
    kind: &'static str,
    effects: Vec<Effect>,
    seen: HashSet<Effect>,
    /// How many WITH clauses around here define a name.
    common_tables: HashMap<String, usize>,
    locks: Vec<Locks>,
    /// What the column `name` is in every row of the query at hand, if its text says so.
    pinned_name: Option<String>,
    /// The statement itself is a query, so it reads even when it reads no table.
    queries: bool,
    pub(super) settings: Vec<SettingChange>,
    pub(super) names: NamedStatementEffect,
    /// Where in the text a secret literal is, or the option word before it.
    pub(super) secrets: Vec<usize>,
    pub(super) changes_search_path: bool,
    transaction: Option<TransactionControl>,
    copy: Option<CopyStream>,
    opaque: bool,
    relies_on: RelyingOn,
    /// Another literal might have given another profile, in a place where the walker reads none
    /// otherwise.
    pub(super) looked_at_literal: bool,
}

impl<'l> Walker<'l> {
    pub(super) fn new(limits: &'l ProfileLimits, text_depth: u8) -> Self {
        Self {
            limits,
            text_depth,
            depth: 0,
            kind: "",
            effects: Vec::new(),
            seen: HashSet::new(),
            common_tables: HashMap::new(),
            locks: Vec::new(),
            pinned_name: None,
            queries: false,
            settings: Vec::new(),
            names: NamedStatementEffect::None,
            secrets: Vec::new(),
            changes_search_path: false,
            transaction: None,
            copy: None,
            opaque: false,
            relies_on: RelyingOn::default(),
            looked_at_literal: false,
        }
    }

    pub(super) fn finish(mut self, span: Range<usize>) -> StatementProfile {
        let reads = self
            .effects
            .iter()
            .any(|effect| effect.class == Class::Select);
        if self.queries && !reads {
            self.add(Class::Select, Object::Nothing);
        }
        if self.effects.is_empty() {
            self.unknown(Reason::Part);
        }
        StatementProfile {
            span,
            kind: self.kind,
            effects: self.effects,
            settings: self.settings,
            names: self.names,
            secrets: Vec::new(),
            transaction: self.transaction,
            changes_search_path: self.changes_search_path,
            copy: self.copy,
            opaque: self.opaque,
            relies_on: self.relies_on,
            columns: None,
            parse_error: None,
        }
    }

    /// The statement itself.
    pub(super) fn top(&mut self, node: Option<&Node>) {
        match node.and_then(node_ref) {
            Some(node) => {
                self.kind = nodes::kind(node).0;
                self.runnable(node);
            }
            None => self.unknown(Reason::Part),
        }
    }

    /// A statement that runs for its own sake: the text's own, or one that EXPLAIN, PREPARE,
    /// DECLARE or COPY hold.
    fn runnable(&mut self, node: NodeRef<'_>) {
        if let NodeRef::SelectStmt(_) = node {
            self.queries = true;
        }
        self.visit(node, Via::Query);
    }

    pub(super) fn add(&mut self, class: Class, object: Object) {
        if class == Class::Create && is_named_as_settings(&object) {
            self.unknown(Reason::Shadows);
        }
        let effect = Effect::new(class, object);
        if self.seen.contains(&effect) {
            return;
        }
        if self.effects.len() >= EFFECTS_MAX {
            let limit = EFFECTS_MAX;
            let too_many = Effect::new(
                Class::Unknown,
                Object::Unread(Reason::TooManyEffects { limit }),
            );
            if self.seen.insert(too_many.clone()) {
                self.effects.push(too_many);
            }
            return;
        }
        self.seen.insert(effect.clone());
        self.effects.push(effect);
    }

    pub(super) fn unknown(&mut self, reason: Reason) {
        self.add(Class::Unknown, Object::Unread(reason));
    }

    pub(super) fn other(&mut self, class: Class, kind: &'static str, name: &str) {
        let name = name.to_owned();
        self.add(class, Object::Other { kind, name });
    }

    /// An effect on a relation, with what a catalogue relation shows besides.
    pub(super) fn table(&mut self, class: Class, name: &Name) {
        self.add(class, Object::Table(name.clone()));
        let Some(relation) = &name.name else { return };
        let in_catalogue = match &name.schema {
            Schema::Named(schema) => schema == "pg_catalog" || schema == "information_schema",
            Schema::Path => functions::is_catalogue_relation(relation),
            Schema::Any => true,
        };
        // The extension pg_stat_statements may stand in any schema.
        if class == Class::Select && (in_catalogue || relation == "pg_stat_statements") {
            match functions::shows(relation) {
                Some(Shows::Server) => self.add(Class::Admin, Object::Table(name.clone())),
                Some(Shows::Data) => self.add(Class::Select, Object::Table(Name::any())),
                None => {}
            }
        }
        if in_catalogue && class != Class::Select && class != Class::Lock && class.entry().writes {
            self.add(Class::Admin, Object::Table(name.clone()));
        }
    }

    pub(super) fn any_table(&mut self, class: Class) {
        self.add(class, Object::Table(Name::any()));
    }

    pub(super) fn relation(&mut self, class: Class, relation: Option<&p::RangeVar>) {
        match relation {
            Some(relation) => self.table(class, &relation_name(relation)),
            None => self.any_table(class),
        }
    }

    /// Walks `node`: its own effects, then those of everything inside.
    pub(super) fn visit(&mut self, node: NodeRef<'_>, via: Via) {
        if self.depth >= DEPTH_MAX {
            self.unknown(Reason::TooDeep);
            return;
        }
        self.depth += 1;
        self.rely(node);
        let (kind, handling) = nodes::kind(node);
        match handling {
            Handling::Judged => self.judged(node, via),
            Handling::Through => self.children(node, via),
            Handling::Unexpected => self.unknown(Reason::Node(kind)),
        }
        self.depth -= 1;
    }

    pub(super) fn children(&mut self, node: NodeRef<'_>, via: Via) {
        let mut children = Vec::new();
        append_children(node, &mut children);
        for child in children {
            self.visit(child, via);
        }
    }

    pub(super) fn each(&mut self, nodes: &[Node], via: Via) {
        for node in nodes.iter().filter_map(node_ref) {
            self.visit(node, via);
        }
    }

    pub(super) fn maybe(&mut self, node: Option<&Node>, via: Via) {
        if let Some(node) = node.and_then(node_ref) {
            self.visit(node, via);
        }
    }

    /// Notes names that the server looks up and that have no effect of their own, the operators
    /// included that it puts in where the text has none.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "other nodes hold no such name, or are looked at where they are judged"
    )]
    fn rely(&mut self, node: NodeRef<'_>) {
        let mut operators: &[&str] = &[];
        match node {
            NodeRef::TypeName(of) => {
                let name = name_of(&of.names);
                self.relies_on.types.extend(name.filter(
                    |name| !matches!(&name.schema, Schema::Named(schema) if schema == "pg_catalog"),
                ));
            }
            NodeRef::ColumnRef(column) if column.fields.len() > 1 => {
                let last = column.fields.last().and_then(string_of);
                self.relies_on.fields.extend(last.map(str::to_owned));
            }
            NodeRef::AIndirection(indirection) => {
                // `(x).f` is also a call of f, whatever the type of x is.
                let fields = indirection.indirection.iter().filter_map(string_of);
                let calls = fields.map(|field| (field.to_owned(), Some(1)));
                self.relies_on.functions.extend(calls);
            }
            NodeRef::AExpr(expression) if expression.kind() != p::AExprKind::AexprOp => {
                operators = &["=", ">=", "<=", "<>"];
            }
            NodeRef::CaseExpr(case) if case.arg.is_some() => operators = &["="],
            NodeRef::SubLink(link) if link.oper_name.is_empty() => operators = &["="],
            NodeRef::JoinExpr(join) if join.is_natural || !join.using_clause.is_empty() => {
                operators = &["="];
            }
            _ => {}
        }
        let operators = operators.iter().map(|name| (*name).to_owned());
        self.relies_on.operators.extend(operators);
    }

    /// The table of node kinds routes exactly the kinds below here; a kind that it routes and
    /// that is missing is `unknown`.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "definition::judged takes what is left and ends in `unknown`; nodes::NODES lists all kinds"
    )]
    fn judged(&mut self, node: NodeRef<'_>, via: Via) {
        match node {
            NodeRef::RangeVar(relation) => self.range(relation, via),
            NodeRef::RangeSubselect(subselect) => self.subselect(subselect, via),
            NodeRef::RangeTableSample(sample) => self.sample(sample, via),
            NodeRef::AExpr(expression) => {
                self.operator(&expression.name, expression.kind());
                self.children(node, via);
            }
            NodeRef::SubLink(link) => {
                self.operator(&link.oper_name, p::AExprKind::AexprOp);
                self.children(node, via);
            }
            NodeRef::SortBy(sort) => {
                self.operator(&sort.use_op, p::AExprKind::AexprOp);
                self.children(node, via);
            }
            NodeRef::FuncCall(call) => self.call(call, via),
            NodeRef::WithClause(with) => {
                let scope = self.enter_with(Some(with));
                self.leave_with(scope);
            }
            NodeRef::SelectStmt(select) => self.select(select),
            NodeRef::InsertStmt(insert) => self.insert(insert),
            NodeRef::UpdateStmt(update) => self.update(update),
            NodeRef::DeleteStmt(delete) => self.delete(delete),
            NodeRef::MergeStmt(merge) => self.merge(merge),
            NodeRef::MergeWhenClause(_) => self.children(node, Via::Query),
            NodeRef::CopyStmt(copy) => self.copy(copy),
            NodeRef::ExplainStmt(explain) => self.explain(explain),
            NodeRef::PrepareStmt(prepare) => {
                self.other(Class::Prepare, "statement", &prepare.name);
                self.names = NamedStatementEffect::Prepares(prepare.name.clone());
                self.held(prepare.query.as_deref());
            }
            NodeRef::ExecuteStmt(execute) => {
                self.other(Class::Prepare, "statement", &execute.name);
                self.names = NamedStatementEffect::Executes(execute.name.clone());
                self.each(&execute.params, Via::Query);
            }
            NodeRef::DeallocateStmt(deallocate) => {
                self.other(Class::Prepare, "statement", &deallocate.name);
                self.names = if deallocate.isall {
                    NamedStatementEffect::DeallocatesAll
                } else {
                    NamedStatementEffect::Deallocates(deallocate.name.clone())
                };
            }
            NodeRef::DeclareCursorStmt(declare) => {
                self.other(Class::Cursor, "cursor", &declare.portalname);
                self.held(declare.query.as_deref());
            }
            NodeRef::FetchStmt(fetch) => self.other(Class::Cursor, "cursor", &fetch.portalname),
            NodeRef::ClosePortalStmt(close) => {
                self.other(Class::Cursor, "cursor", &close.portalname);
            }
            NodeRef::TransactionStmt(transaction) => self.transaction(transaction),
            NodeRef::ConstraintsSetStmt(_) => self.add(Class::Transaction, Object::Nothing),
            NodeRef::ListenStmt(listen) => {
                self.other(Class::Listen, "channel", &listen.conditionname);
            }
            NodeRef::UnlistenStmt(unlisten) => {
                self.other(Class::Listen, "channel", &unlisten.conditionname);
            }
            NodeRef::NotifyStmt(notify) => {
                self.other(Class::Notify, "channel", &notify.conditionname);
            }
            NodeRef::LockStmt(lock) => {
                for relation in lock.relations.iter().filter_map(node_ref) {
                    if let NodeRef::RangeVar(relation) = relation {
                        self.relation(Class::Lock, Some(relation));
                    } else {
                        self.unknown(Reason::Part);
                    }
                }
            }
            NodeRef::DoStmt(block) => {
                self.add(Class::Do, Object::Nothing);
                self.shown_by(&block.args, true);
                self.unknown(Reason::Code);
                self.opaque = true;
                self.changes_search_path = true;
            }
            NodeRef::CallStmt(call) => match &call.funccall {
                Some(call) => {
                    self.function(Class::Call, &call.funcname);
                    self.each(&call.args, Via::Query);
                }
                None => self.unknown(Reason::Part),
            },
            NodeRef::TruncateStmt(truncate) => {
                for relation in truncate.relations.iter().filter_map(node_ref) {
                    if let NodeRef::RangeVar(relation) = relation {
                        self.relation(Class::Truncate, Some(relation));
                    } else {
                        self.unknown(Reason::Part);
                    }
                }
                if truncate.behavior() == p::DropBehavior::DropCascade {
                    self.any_table(Class::Truncate);
                }
            }
            NodeRef::VariableSetStmt(set) => self.set_statement(set, Scope::Session),
            NodeRef::VariableShowStmt(show) => {
                self.other(Class::Show, "setting", &show.name.to_ascii_lowercase());
            }
            NodeRef::DiscardStmt(discard) => self.discard(discard),
            _ => self.definition(node),
        }
    }

    /// The statement inside EXPLAIN, PREPARE, DECLARE, COPY.
    pub(super) fn held(&mut self, node: Option<&Node>) {
        match node.and_then(node_ref) {
            Some(node) => self.runnable(node),
            None => self.unknown(Reason::Part),
        }
    }

    fn range(&mut self, relation: &p::RangeVar, via: Via) {
        let is_common_table = relation.schemaname.is_empty()
            && relation.catalogname.is_empty()
            && self.common_tables.contains_key(&relation.relname);
        if is_common_table && via == Via::Query {
            return;
        }
        let name = relation_name(relation);
        self.table(Class::Select, &name);
        if let Via::Definition(class) = via {
            self.table(class, &name);
        }
        let visible = relation
            .alias
            .as_ref()
            .map_or(&relation.relname, |alias| &alias.aliasname);
        if self.locks.iter().any(|locks| locks.hold(visible)) {
            self.table(Class::Lock, &name);
        }
    }

    fn subselect(&mut self, subselect: &p::RangeSubselect, via: Via) {
        let alias = subselect
            .alias
            .as_ref()
            .map_or("", |alias| alias.aliasname.as_str());
        let held = self.locks.iter().any(|locks| locks.hold(alias));
        if held {
            self.locks.push(Locks::All);
        }
        self.maybe(subselect.subquery.as_deref(), via);
        if held {
            self.locks.pop();
        }
    }

    fn sample(&mut self, sample: &p::RangeTableSample, via: Via) {
        self.function_effects(Class::Function, &sample.method, None);
        self.maybe(sample.relation.as_deref(), via);
        self.each(&sample.args, Via::Query);
        self.maybe(sample.repeatable.as_deref(), Via::Query);
    }

    fn operator(&mut self, name: &[Node], kind: p::AExprKind) {
        use p::AExprKind::{AexprBetween, AexprBetweenSym, AexprNotBetween, AexprNotBetweenSym};
        // Their name is a keyword of the grammar; the server looks up >= and <=.
        if matches!(
            kind,
            AexprBetween | AexprBetweenSym | AexprNotBetween | AexprNotBetweenSym
        ) || name.is_empty()
        {
            return;
        }
        let Some(name) = name_of(name) else {
            self.unknown(Reason::Operator);
            return;
        };
        let built_in = match &name.schema {
            Schema::Named(schema) => schema == "pg_catalog",
            Schema::Path | Schema::Any => true,
        } && name.name.as_deref().is_some_and(functions::is_operator);
        if built_in && name.schema == Schema::Path {
            self.relies_on.operators.extend(name.name);
        } else if !built_in {
            let opaque = true;
            self.opaque = true;
            self.add(
                Class::Function,
                Object::Function(FunctionName { name, opaque }),
            );
        }
    }

    fn call(&mut self, call: &p::FuncCall, via: Via) {
        self.function_effects(Class::Function, &call.funcname, Some(call));
        self.each(&call.args, via);
        self.each(&call.agg_order, via);
        self.maybe(call.agg_filter.as_deref(), via);
        if let Some(window) = &call.over {
            self.visit(NodeRef::WindowDef(window), via);
        }
    }

    /// A use of a function with arguments that are not shown: as a trigger, an operator's code.
    pub(super) fn function(&mut self, class: Class, name: &[Node]) {
        self.function_effects(class, name, None);
    }

    fn function_effects(&mut self, class: Class, name: &[Node], call: Option<&p::FuncCall>) {
        let Some(name) = name_of(name) else {
            self.unknown(Reason::Part);
            return;
        };
        let known = built_in(&name);
        if known.is_some()
            && name.schema == Schema::Path
            && let Some(word) = &name.name
        {
            let count = call
                .filter(|call| !call.func_variadic && call.agg_order.is_empty())
                .map(|call| call.args.len());
            self.relies_on.functions.insert((word.clone(), count));
        }
        match known {
            Some(Call::Read) => {}
            Some(built_in) => self.built_in(built_in, &name, Arguments::of(call)),
            None => {
                let opaque = true;
                self.add(class, Object::Function(FunctionName { name, opaque }));
                self.opaque = true;
            }
        }
    }

    /// A call of the built-in function of that name; it reads at least.
    pub(super) fn called_by_number(&mut self, name: &str) {
        self.kind = "FunctionCall";
        self.queries = true;
        match functions::built_in(name) {
            Some(call) => {
                let name = Name {
                    schema: Schema::Path,
                    name: Some(name.to_owned()),
                };
                self.built_in(call, &name, Arguments::of(None));
            }
            None => self.unknown(Reason::FunctionByNumber),
        }
    }

    fn built_in(&mut self, call: Call, name: &Name, arguments: Arguments<'_>) {
        let function = || {
            Object::Function(FunctionName {
                name: Name {
                    schema: Schema::Named("pg_catalog".to_owned()),
                    name: name.name.clone(),
                },
                opaque: false,
            })
        };
        let large_objects = Name {
            schema: Schema::Named("pg_catalog".to_owned()),
            name: Some("pg_largeobject".to_owned()),
        };
        match call {
            Call::Read => {}
            Call::SetConfig => self.set_config(&arguments),
            Call::SetSeed => self.other(Class::Set, "setting", "seed"),
            Call::SequenceUpdate => self.named_relation(Class::Update, arguments.relation(0)),
            Call::RelationSelect => self.named_relation(Class::Select, arguments.relation(0)),
            Call::SchemaSelect => {
                let schema = arguments
                    .text(0)
                    .map_or(Schema::Any, |schema| Schema::Named(schema.to_owned()));
                self.add(Class::Select, Object::Table(Name { schema, name: None }));
            }
            Call::DatabaseSelect => self.any_table(Class::Select),
            Call::TextFirst => self.text(arguments.text(0)),
            Call::TextSecond if arguments.count() == Some(2) => self.text(arguments.text(1)),
            Call::TextSecond if arguments.count() == Some(3) => {}
            Call::TextSecond => self.unknown(Reason::RunsText),
            Call::TypedInput => {
                if !arguments
                    .text(1)
                    .is_some_and(|name| BASE_TYPES.contains(&name))
                {
                    self.unknown(Reason::RunsCode);
                }
            }
            Call::Cursor => {
                self.other(
                    Class::Cursor,
                    "cursor",
                    arguments.text(0).unwrap_or_default(),
                );
            }
            Call::LargeObjectSelect => self.table(Class::Select, &large_objects),
            Call::LargeObjectInsert => self.table(Class::Insert, &large_objects),
            Call::LargeObjectUpdate => self.table(Class::Update, &large_objects),
            Call::LargeObjectDelete => self.table(Class::Delete, &large_objects),
            Call::LargeObjectImport => {
                self.add(Class::File, function());
                self.table(Class::Insert, &large_objects);
            }
            Call::LargeObjectExport => {
                self.add(Class::File, function());
                self.table(Class::Select, &large_objects);
            }
            Call::Notify => {
                self.other(
                    Class::Notify,
                    "channel",
                    arguments.text(0).unwrap_or_default(),
                );
            }
            Call::Transaction => self.add(Class::Transaction, Object::Nothing),
            Call::Lock => self.add(Class::Lock, function()),
            Call::Maintenance => self.add(Class::Maintenance, function()),
            Call::File => self.add(Class::File, function()),
            Call::Replication => self.add(Class::Replication, function()),
            Call::Admin => self.add(Class::Admin, function()),
        }
    }

    fn named_relation(&mut self, class: Class, name: Option<Name>) {
        match name {
            Some(name) => self.table(class, &name),
            None => self.any_table(class),
        }
    }

    /// SQL text that the server runs inside this statement.
    fn text(&mut self, text: Option<&str>) {
        let Some(text) = text else {
            self.unknown(Reason::RunsText);
            return;
        };
        let inner = profile_within(text, self.limits, self.text_depth + 1);
        for statement in inner.statements {
            for effect in statement.effects {
                self.add(effect.class, effect.object);
            }
            self.changed_by_code(statement.settings);
            self.changes_search_path |= statement.changes_search_path;
            self.relies_on.extend(statement.relies_on);
            self.opaque |= statement.opaque;
            if statement.names != NamedStatementEffect::None || statement.transaction.is_some() {
                self.unknown(Reason::RunsText);
            }
        }
    }

    /// What the statements of a body do, as far as it shows them. Where the body does not run now,
    /// what nobody looked into is judged when it is called.
    pub(super) fn shown_by(&mut self, options: &[Node], runs: bool) {
        let Some((language, body)) = code::body(options) else {
            return;
        };
        for text in code::statements(language, body) {
            for statement in profile_within(&text, self.limits, self.text_depth + 1).statements {
                if statement.parse_error.is_some() {
                    continue;
                }
                for effect in statement.effects {
                    let is_opaque = effect.class == Class::Unknown
                        || matches!(&effect.object, Object::Function(function) if function.opaque);
                    let is_nothing =
                        effect.class == Class::Select && effect.object == Object::Nothing;
                    if !is_nothing && (runs || !is_opaque) {
                        self.add(effect.class, effect.object);
                    }
                }
                self.changed_by_code(statement.settings);
            }
        }
    }

    fn changed_by_code(&mut self, settings: Vec<SettingChange>) {
        let by_code = settings.into_iter().map(|change| SettingChange {
            by: By::Function,
            ..change
        });
        self.settings.extend(by_code);
    }

    /// The definitions of a WITH clause, and the names that [`Walker::leave_with`] takes away.
    fn enter_with(&mut self, with: Option<&p::WithClause>) -> Vec<String> {
        let Some(with) = with else { return Vec::new() };
        let tables: Vec<_> = with
            .ctes
            .iter()
            .filter_map(|cte| match &cte.node {
                Some(NodeEnum::CommonTableExpr(cte)) => Some(cte.as_ref()),
                _ => None,
            })
            .collect();
        if tables.len() != with.ctes.len() {
            self.unknown(Reason::Part);
        }
        if with.recursive {
            for table in &tables {
                self.define(&table.ctename);
            }
        }
        for table in &tables {
            self.visit(NodeRef::CommonTableExpr(table), Via::Query);
            if !with.recursive {
                self.define(&table.ctename);
            }
        }
        tables.iter().map(|table| table.ctename.clone()).collect()
    }

    fn define(&mut self, name: &str) {
        *self.common_tables.entry(name.to_owned()).or_insert(0) += 1;
    }

    fn leave_with(&mut self, scope: Vec<String>) {
        for name in scope {
            if let Some(count) = self.common_tables.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    self.common_tables.remove(&name);
                }
            }
        }
    }

    fn select(&mut self, select: &p::SelectStmt) {
        let p::SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause,
            op: _,
            all: _,
            larg,
            rarg,
        } = select;
        let around_name = self.pinned_name.take();
        let scope = self.enter_with(with_clause.as_ref());
        if !self.common_tables.contains_key(SETTINGS) {
            self.pinned_name = pinned_name(select);
        }
        if let Some(into) = into_clause {
            self.stores(into);
        }
        let outside = self.locks.len();
        self.locks
            .extend(locking_clause.iter().filter_map(locks_of));
        self.each(from_clause, Via::Query);
        // A lock on a set operation is refused by the server; the arms count as locked here.
        for arm in [larg, rarg].into_iter().flatten() {
            self.visit(NodeRef::SelectStmt(arm), Via::Query);
        }
        self.locks.truncate(outside);
        let around = std::mem::take(&mut self.locks);
        for nodes in [
            distinct_clause,
            target_list,
            group_clause,
            window_clause,
            values_lists,
            sort_clause,
        ] {
            self.each(nodes, Via::Query);
        }
        for node in [where_clause, having_clause, limit_offset, limit_count] {
            self.maybe(node.as_deref(), Via::Query);
        }
        self.locks = around;
        self.leave_with(scope);
        self.pinned_name = around_name;
    }

    /// The text of an argument, also where it is a column of which the query says what it is.
    pub(super) fn text_of<'a>(
        &'a self,
        arguments: &Arguments<'a>,
        index: usize,
    ) -> Option<&'a str> {
        arguments.text(index).or_else(|| {
            let column = arguments.at(index)?;
            is_name_column(column).then_some(self.pinned_name.as_deref())?
        })
    }

    /// The target of SELECT INTO and CREATE TABLE AS.
    pub(super) fn stores(&mut self, into: &p::IntoClause) {
        self.relation(Class::Create, into.rel.as_ref());
        self.relation(Class::SelectInto, into.rel.as_ref());
        self.each(&into.options, Via::Query);
    }

    fn insert(&mut self, insert: &p::InsertStmt) {
        let p::InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = insert;
        let scope = self.enter_with(with_clause.as_ref());
        self.relation(Class::Insert, relation.as_ref());
        self.each(cols, Via::Query);
        self.maybe(select_stmt.as_deref(), Via::Query);
        if let Some(conflict) = on_conflict_clause {
            if conflict.action() == p::OnConflictAction::OnconflictUpdate {
                self.relation(Class::Update, relation.as_ref());
            }
            self.visit(NodeRef::OnConflictClause(conflict), Via::Query);
        }
        self.returning(relation.as_ref(), returning_clause.as_ref());
        self.leave_with(scope);
    }

    fn update(&mut self, update: &p::UpdateStmt) {
        let p::UpdateStmt {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        } = update;
        let scope = self.enter_with(with_clause.as_ref());
        self.relation(Class::Update, relation.as_ref());
        let rows = Rows::new(relation.as_ref(), from_clause, with_clause.as_ref());
        if !self.are_limited(&rows, where_clause.as_deref()) {
            self.relation(Class::UpdateWithoutWhere, relation.as_ref());
        }
        self.each(target_list, Via::Query);
        self.each(from_clause, Via::Query);
        self.maybe(where_clause.as_deref(), Via::Query);
        self.returning(relation.as_ref(), returning_clause.as_ref());
        self.leave_with(scope);
    }

    fn delete(&mut self, delete: &p::DeleteStmt) {
        let p::DeleteStmt {
            relation,
            using_clause,
            where_clause,
            returning_clause,
            with_clause,
        } = delete;
        let scope = self.enter_with(with_clause.as_ref());
        self.relation(Class::Delete, relation.as_ref());
        let rows = Rows::new(relation.as_ref(), using_clause, with_clause.as_ref());
        if !self.are_limited(&rows, where_clause.as_deref()) {
            self.relation(Class::DeleteWithoutWhere, relation.as_ref());
        }
        self.each(using_clause, Via::Query);
        self.maybe(where_clause.as_deref(), Via::Query);
        self.returning(relation.as_ref(), returning_clause.as_ref());
        self.leave_with(scope);
    }

    fn are_limited(&mut self, rows: &Rows<'_>, condition: Option<&Node>) -> bool {
        let are_limited = rows.are_limited_by(condition);
        self.looked_at_literal |= rows.looked_at_literal();
        are_limited
    }

    fn merge(&mut self, merge: &p::MergeStmt) {
        let p::MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = merge;
        let scope = self.enter_with(with_clause.as_ref());
        self.relation(Class::Merge, relation.as_ref());
        self.maybe(source_relation.as_deref(), Via::Query);
        self.maybe(join_condition.as_deref(), Via::Query);
        let source = source_relation.as_deref();
        let rows = Rows::new(relation.as_ref(), source, with_clause.as_ref());
        let joins = self.are_limited(&rows, join_condition.as_deref());
        for clause in merge_when_clauses {
            match &clause.node {
                Some(NodeEnum::MergeWhenClause(clause)) => {
                    self.merge_action(relation.as_ref(), clause, &rows, joins);
                }
                _ => self.unknown(Reason::Part),
            }
        }
        self.each(merge_when_clauses, Via::Query);
        self.returning(relation.as_ref(), returning_clause.as_ref());
        self.leave_with(scope);
    }

    /// An action limits its rows by its own condition, or by the join where only matches reach it.
    fn merge_action(
        &mut self,
        relation: Option<&p::RangeVar>,
        clause: &p::MergeWhenClause,
        rows: &Rows<'_>,
        joins: bool,
    ) {
        let matched = clause.match_kind() == p::MergeMatchKind::MergeWhenMatched;
        let limited = (matched && joins) || self.are_limited(rows, clause.condition.as_deref());
        match clause.command_type() {
            p::CmdType::CmdInsert => self.relation(Class::Insert, relation),
            p::CmdType::CmdUpdate => {
                self.relation(Class::Update, relation);
                if !limited {
                    self.relation(Class::UpdateWithoutWhere, relation);
                }
            }
            p::CmdType::CmdDelete => {
                self.relation(Class::Delete, relation);
                if !limited {
                    self.relation(Class::DeleteWithoutWhere, relation);
                }
            }
            p::CmdType::CmdNothing => {}
            p::CmdType::Undefined
            | p::CmdType::CmdUnknown
            | p::CmdType::CmdSelect
            | p::CmdType::CmdMerge
            | p::CmdType::CmdUtility => self.unknown(Reason::Part),
        }
    }

    /// RETURNING shows rows of the target.
    fn returning(&mut self, target: Option<&p::RangeVar>, returning: Option<&p::ReturningClause>) {
        if let Some(returning) = returning {
            self.relation(Class::Select, target);
            self.visit(NodeRef::ReturningClause(returning), Via::Query);
        }
    }

    fn copy(&mut self, copy: &p::CopyStmt) {
        let p::CopyStmt {
            relation,
            query,
            attlist,
            is_from,
            is_program,
            filename,
            options,
            where_clause,
        } = copy;
        if let Some(query) = query {
            self.add(Class::CopyTo, Object::Nothing);
            self.held(Some(query));
        } else if *is_from {
            self.relation(Class::CopyFrom, relation.as_ref());
            self.relation(Class::Insert, relation.as_ref());
        } else {
            self.relation(Class::CopyTo, relation.as_ref());
            self.relation(Class::Select, relation.as_ref());
        }
        if *is_program {
            self.other(Class::CopyProgram, "program", "");
        } else if !filename.is_empty() {
            self.other(Class::File, "file", "");
        } else {
            self.copy = Some(if *is_from {
                CopyStream::FromStdin
            } else {
                CopyStream::ToStdout(super::copy::layout(options))
            });
        }
        self.each(attlist, Via::Query);
        self.each(options, Via::Query);
        self.maybe(where_clause.as_deref(), Via::Query);
    }

    /// Without ANALYZE nothing is changed, and the tables that would be changed are only looked
    /// at; planning still evaluates functions, so every other effect stands.
    fn explain(&mut self, explain: &p::ExplainStmt) {
        let analyze = explain.options.iter().any(|option| match &option.node {
            Some(NodeEnum::DefElem(option)) => {
                option.defname == "analyze" && !is_false(option.arg.as_deref())
            }
            _ => true,
        });
        self.add(Class::Explain, Object::Nothing);
        let before = std::mem::take(&mut self.effects);
        let seen = std::mem::take(&mut self.seen);
        self.held(explain.query.as_deref());
        let inner = std::mem::replace(&mut self.effects, before);
        self.seen = seen;
        for effect in inner {
            let planned_only = !analyze
                && matches!(effect.object, Object::Table(_))
                && matches!(
                    effect.class,
                    Class::Insert
                        | Class::Update
                        | Class::Delete
                        | Class::Merge
                        | Class::UpdateWithoutWhere
                        | Class::DeleteWithoutWhere
                        | Class::Create
                        | Class::SelectInto
                        | Class::Lock
                );
            if planned_only {
                self.add(Class::Explain, effect.object);
            } else {
                self.add(effect.class, effect.object);
            }
        }
    }

    fn transaction(&mut self, statement: &p::TransactionStmt) {
        use p::TransactionStmtKind as Kind;
        self.add(Class::Transaction, Object::Nothing);
        self.transaction = match statement.kind() {
            Kind::TransStmtBegin | Kind::TransStmtStart => Some(TransactionControl::Begin),
            Kind::TransStmtCommit => Some(TransactionControl::Commit),
            Kind::TransStmtRollback => Some(TransactionControl::Rollback),
            Kind::TransStmtSavepoint => Some(TransactionControl::Savepoint),
            Kind::TransStmtRelease => Some(TransactionControl::Release),
            Kind::TransStmtRollbackTo => Some(TransactionControl::RollbackTo),
            Kind::TransStmtPrepare => Some(TransactionControl::Prepare),
            Kind::TransStmtCommitPrepared => Some(TransactionControl::CommitPrepared),
            Kind::TransStmtRollbackPrepared => Some(TransactionControl::RollbackPrepared),
            Kind::Undefined => {
                self.unknown(Reason::Part);
                None
            }
        };
        // Prepared transactions outlive their session and belong to whoever names them.
        if let Some(
            TransactionControl::Prepare
            | TransactionControl::CommitPrepared
            | TransactionControl::RollbackPrepared,
        ) = self.transaction
        {
            self.other(Class::Admin, "prepared transaction", &statement.gid);
        }
        self.transaction_options(&statement.options);
        // What SET did inside the transaction is undone with it, and SET LOCAL ends with it.
        if !matches!(
            self.transaction,
            Some(
                TransactionControl::Begin
                    | TransactionControl::Savepoint
                    | TransactionControl::Release
            )
        ) {
            self.changes_search_path = true;
        }
    }

    fn discard(&mut self, discard: &p::DiscardStmt) {
        self.other(Class::Set, "discard", "");
        if discard.target() == p::DiscardMode::DiscardAll {
            self.names = NamedStatementEffect::DeallocatesAll;
            self.changes_search_path = true;
            self.settings.push(SettingChange {
                name: String::new(),
                change: Change::DiscardAll,
                scope: Scope::Session,
                by: By::Statement,
            });
        }
    }
}

impl Locks {
    fn hold(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Of(names) => names.contains(name),
        }
    }
}

fn locks_of(clause: &Node) -> Option<Locks> {
    let Some(NodeEnum::LockingClause(clause)) = &clause.node else {
        return Some(Locks::All);
    };
    if clause.strength() == p::LockClauseStrength::LcsNone {
        return None;
    }
    if clause.locked_rels.is_empty() {
        return Some(Locks::All);
    }
    let names = clause
        .locked_rels
        .iter()
        .filter_map(|relation| match &relation.node {
            Some(NodeEnum::RangeVar(relation)) => Some(relation.relname.clone()),
            _ => None,
        })
        .collect();
    Some(Locks::Of(names))
}

/// The arguments of a call, as far as the text shows them.
pub(super) struct Arguments<'a> {
    /// `None` where positions say nothing: named or variadic notation, or no call at all.
    positional: Option<&'a [Node]>,
}

impl<'a> Arguments<'a> {
    pub(super) fn of(call: Option<&'a p::FuncCall>) -> Self {
        let positional = call
            .filter(|call| !call.func_variadic)
            .map(|call| call.args.as_slice())
            .filter(|arguments| {
                !arguments
                    .iter()
                    .any(|argument| matches!(argument.node, Some(NodeEnum::NamedArgExpr(_))))
            });
        Self { positional }
    }

    pub(super) fn count(&self) -> Option<usize> {
        self.positional.map(<[Node]>::len)
    }

    fn at(&self, index: usize) -> Option<&'a Node> {
        self.positional.and_then(|arguments| arguments.get(index))
    }

    /// The text of a string literal.
    pub(super) fn text(&self, index: usize) -> Option<&'a str> {
        text_literal(self.at(index)?)
    }

    /// A literal `true` or `false`.
    pub(super) fn boolean(&self, index: usize) -> Option<bool> {
        match &self.at(index)?.node {
            Some(NodeEnum::AConst(constant)) => match &constant.val {
                Some(p::a_const::Val::Boolval(value)) => Some(value.boolval),
                _ => None,
            },
            _ => None,
        }
    }

    /// The relation that a literal names, as `regclass` would read it.
    pub(super) fn relation(&self, index: usize) -> Option<Name> {
        let argument = self.at(index)?;
        let text = match &argument.node {
            Some(NodeEnum::TypeCast(cast)) if type_is(cast, "regclass") => {
                text_literal(cast.arg.as_deref()?)?
            }
            _ => text_literal(argument)?,
        };
        let mut parts = split_identifiers(text, '.')?;
        let name = parts.pop()?;
        // A number is an object id.
        if name.chars().all(|c| c.is_ascii_digit()) {
            return None;
        }
        let schema = match parts.pop() {
            Some(schema) => Schema::Named(schema),
            None => Schema::Path,
        };
        Some(Name {
            schema,
            name: Some(name),
        })
    }
}

/// The literal that `name` is in `SELECT ... FROM pg_settings WHERE name = 'literal'`.
///
/// Since CVE-2024-7348 pg_dump changes a setting so, where the server has it. The text says so
/// only of the catalogue's view, which is why nothing else may be made under its name: a column
/// with a collation of its own can be equal to any literal.
fn pinned_name(select: &p::SelectStmt) -> Option<String> {
    let [
        Node {
            node: Some(NodeEnum::RangeVar(relation)),
        },
    ] = select.from_clause.as_slice()
    else {
        return None;
    };
    let is_catalogue = relation.relname == SETTINGS
        && matches!(relation.schemaname.as_str(), "" | "pg_catalog")
        && relation.catalogname.is_empty()
        && relation.alias.is_none();
    let Some(NodeEnum::AExpr(comparison)) = &select.where_clause.as_deref()?.node else {
        return None;
    };
    let is_equality = comparison.kind() == p::AExprKind::AexprOp
        && matches!(comparison.name.as_slice(), [operator] if string_of(operator) == Some("="));
    if !is_catalogue || !is_equality || !is_name_column(comparison.lexpr.as_deref()?) {
        return None;
    }
    text_literal(comparison.rexpr.as_deref()?).map(str::to_owned)
}

/// Whether something else would have the name of the server's view of its settings.
fn is_named_as_settings(object: &Object) -> bool {
    matches!(object, Object::Table(Name { schema, name: Some(name) })
        if name == SETTINGS && *schema != Schema::Named("pg_catalog".to_owned()))
}

/// Whether it is the column `name`, without a table before it.
fn is_name_column(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::ColumnRef(column)) => {
            matches!(column.fields.as_slice(), [field] if string_of(field) == Some("name"))
        }
        _ => false,
    }
}

/// A string literal, also one that is cast to text: no other type keeps it as it is.
fn text_literal(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(p::a_const::Val::Sval(value)) => Some(&value.sval),
            _ => None,
        },
        Some(NodeEnum::TypeCast(cast)) if type_is(cast, "text") => match &cast.arg {
            Some(inner) if matches!(inner.node, Some(NodeEnum::AConst(_))) => text_literal(inner),
            _ => None,
        },
        _ => None,
    }
}

fn type_is(cast: &p::TypeCast, wanted: &str) -> bool {
    cast.type_name.as_ref().is_some_and(|name| {
        name.array_bounds.is_empty()
            && !name.setof
            && match name
                .names
                .iter()
                .map(string_of)
                .collect::<Option<Vec<_>>>()
                .as_deref()
            {
                Some([only]) => *only == wanted,
                Some([schema, only]) => *schema == "pg_catalog" && *only == wanted,
                _ => false,
            }
    })
}

/// Names separated by dots or commas as PostgreSQL reads them from a string: quotes as in SQL,
/// ASCII folded to lower case outside quotes, space around names ignored.
///
/// Spec: PostgreSQL, `SplitIdentifierString` and `textToQualifiedNameList`.
pub(crate) fn split_identifiers(text: &str, separator: char) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text.trim_matches(is_space);
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let name;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut unquoted = String::new();
            let mut tail = quoted;
            loop {
                let (before, after) = tail.split_once('"')?;
                unquoted.push_str(before);
                match after.strip_prefix('"') {
                    Some(doubled) => {
                        unquoted.push('"');
                        tail = doubled;
                    }
                    None => {
                        tail = after;
                        break;
                    }
                }
            }
            name = unquoted;
            rest = tail;
        } else {
            let end = rest
                .find(|c: char| c == separator || is_space(c))
                .unwrap_or(rest.len());
            let (word, tail) = rest.split_at_checked(end)?;
            if word.is_empty() || word.contains('"') {
                return None;
            }
            name = word.to_ascii_lowercase();
            rest = tail;
        }
        if name.len() > crate::pattern::NAME_BYTES {
            return None;
        }
        names.push(name);
        rest = rest.trim_start_matches(is_space);
        if rest.is_empty() {
            return Some(names);
        }
        rest = rest.strip_prefix(separator)?.trim_start_matches(is_space);
    }
}

/// PostgreSQL's `scanner_isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

pub(super) fn built_in(name: &Name) -> Option<Call> {
    let word = name.name.as_deref()?;
    // information_schema is on no path, and has functions of this prefix alone.
    let of_information_schema = word.starts_with("_pg_");
    let there = match &name.schema {
        Schema::Path => !of_information_schema,
        Schema::Named(schema) if schema == "pg_catalog" => !of_information_schema,
        Schema::Named(schema) if schema == "information_schema" => of_information_schema,
        Schema::Named(_) | Schema::Any => false,
    };
    if there {
        functions::built_in(word)
    } else {
        None
    }
}

/// PostgreSQL's `defGetBoolean` for what it reads as false.
fn is_false(value: Option<&Node>) -> bool {
    match value.and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::Integer(value)) => value.ival == 0,
        Some(NodeEnum::Boolean(value)) => !value.boolval,
        Some(NodeEnum::String(value)) => {
            value.sval.eq_ignore_ascii_case("false") || value.sval.eq_ignore_ascii_case("off")
        }
        _ => false,
    }
}

/// The name of a relation as written. A database before the schema must be the session's own, or
/// the server refuses.
pub(super) fn relation_name(relation: &p::RangeVar) -> Name {
    let schema = if !relation.schemaname.is_empty() {
        Schema::Named(relation.schemaname.clone())
    } else if relation.relpersistence == "t" {
        Schema::Named("pg_temp".to_owned())
    } else {
        Schema::Path
    };
    Name {
        schema,
        name: Some(relation.relname.clone()),
    }
}

pub(super) fn string_of(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::String(text)) => Some(&text.sval),
        _ => None,
    }
}

/// `name`, `schema.name` or `database.schema.name`.
pub(super) fn name_of(parts: &[Node]) -> Option<Name> {
    let parts = parts.iter().map(string_of).collect::<Option<Vec<_>>>()?;
    let (schema, name) = match parts.as_slice() {
        [name] => (Schema::Path, name),
        [schema, name] | [_, schema, name] => (Schema::Named((*schema).to_owned()), name),
        _ => return None,
    };
    Some(Name {
        schema,
        name: Some((*name).to_owned()),
    })
}
