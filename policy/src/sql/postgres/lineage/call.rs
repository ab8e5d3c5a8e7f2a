//! Calls of functions, operators and casts: what they do with what they are given.

use std::collections::BTreeSet;
use std::sync::Arc;

use pg_query::protobuf as p;
use pg_query::{Node, NodeEnum};

use super::super::parsed;
use super::super::walker::{Arguments, BASE_TYPES, built_in, name_of, string_of};
use super::expression::SCALAR;
use super::failing;
use super::from::table_of;
use super::returns::{self, Returns};
use super::scope::Scope;
use super::sources::{Sources, Table, Value};
use super::{Analysis, CALLS_MAX, Reason};
use crate::catalogue::{Function, FunctionKind, Volatility};
use crate::sql::functions::{self, Call};
use crate::sql::lineage::{Called, ColumnId, Decides, Escapes, Lineage};
use crate::sql::profile::{Name, Schema};

/// Extensions none of whose functions reads a table, a file or another session, or runs a text.
const PURE_EXTENSIONS: &[&str] = &[
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "ltree",
    "pg_trgm",
    "pgcrypto",
    "seg",
    "unaccent",
    "uuid-ossp",
    "vector",
];

/// Built-in functions that show what any table or session may hold.
const SHOWING: &[&str] = &[
    "cursor_to_xml",
    "lo_get",
    "loread",
    "pg_cursor",
    "pg_logical_slot_get_binary_changes",
    "pg_logical_slot_get_changes",
    "pg_logical_slot_peek_binary_changes",
    "pg_logical_slot_peek_changes",
    "pg_prepared_statement",
    "pg_read_binary_file",
    "pg_read_file",
    "pg_read_file_old",
    "pg_stat_get_activity",
    "pg_stat_get_backend_activity",
];

impl<'c> Analysis<'c> {
    pub(super) fn call<'n>(&mut self, call: &'n p::FuncCall, scope: &Scope<'_, 'n>) -> Value {
        let arguments: Vec<_> = call
            .args
            .iter()
            .map(|node| self.value(Some(node), scope))
            .collect();
        let mut parts: Vec<Sources> = arguments
            .iter()
            .filter(|value| !value.sources.is_empty())
            .map(|value| value.sources.clone())
            .collect();
        if call.agg_distinct {
            let all = self.union(&parts);
            self.decide(&all, Decides::Distinct);
        }
        for sort in &call.agg_order {
            let by = self.value(Some(sort), scope).sources;
            if !call.agg_within_group {
                self.decide(&by, Decides::OrderBy);
            }
            parts.push(by);
        }
        if call.agg_filter.is_some() {
            let filter = self.value(call.agg_filter.as_deref(), scope).sources;
            self.decide(&filter, Decides::Condition);
            parts.push(filter);
        }
        if let Some(window) = &call.over {
            parts.push(self.window(window, scope));
        }
        let given = self.union(&parts);
        let Some(name) = name_of(&call.funcname) else {
            return Value::derived(self.lose("a call of an unknown kind".to_owned()));
        };
        let row = match arguments.as_slice() {
            [only] => Some(only),
            _ => None,
        };
        let scalars = arguments.iter().all(|value| self.is_scalar(value.type_oid));
        let value = self.called(&name, Some(call), row, given, scalars);
        let is_of_first = matches!(
            name.name.as_deref(),
            Some("json_populate_record" | "jsonb_populate_record")
        );
        match arguments.first() {
            // The row that it fills.
            Some(first) if is_of_first && value.type_oid == 0 => Value {
                type_oid: first.type_oid,
                ..value
            },
            Some(_) | None => value,
        }
    }

    /// `row.name`, where `name` is no column of the row: a function of it.
    pub(super) fn called_on_row(&mut self, name: &str, row: Value) -> Value {
        let name = Name {
            schema: Schema::Path,
            name: Some(name.to_owned()),
        };
        let given = row.sources.clone();
        self.called(&name, None, Some(&row), given, false)
    }

    fn called(
        &mut self,
        name: &Name,
        call: Option<&p::FuncCall>,
        only: Option<&Value>,
        given: Sources,
        scalars: bool,
    ) -> Value {
        let word = name.name.as_deref().unwrap_or_default();
        let known = built_in(name);
        let arity = call.map_or(Some(1), |call| {
            (!call.agg_within_group && !call.func_variadic).then_some(call.args.len())
        });
        let others = self.functions(name, arity);
        if known.is_none() && others.is_empty() {
            // `column(row)` is `row.column` where there is no such function.
            if let Some(row) = only
                && let Some(field) = self.projected(row, word)
            {
                return field;
            }
            // `type(value)` is a cast.
            let is_type = self.catalogue.types_named(word).next().is_some();
            if is_type {
                return Value::derived(given);
            }
        }
        let mut parts = vec![given.clone()];
        let mut type_oid = 0;
        match known {
            Some(effect) => {
                parts.extend(self.built_in(effect, word, call, &given));
                let is_scalar = match returns::returns(word) {
                    Returns::Scalar => true,
                    Returns::Arguments => scalars,
                    Returns::Row => false,
                };
                if is_scalar && others.is_empty() {
                    type_oid = SCALAR;
                }
            }
            None if others.is_empty() => {
                let schema = match &name.schema {
                    Schema::Named(schema) => Some(schema.as_str()),
                    Schema::Path | Schema::Any => None,
                };
                parts.push(self.unknown_call(schema, word, &given));
            }
            None => {
                if let [only] = others.as_slice() {
                    type_oid = only.returns;
                }
            }
        }
        if known.is_none() || !others.is_empty() || failing::function_may_fail(word) {
            self.decide(&given, Decides::Failure);
        }
        if returns::is_set(word) || others.iter().any(|function| function.returns_set) {
            self.decide(&given, Decides::Limit);
        }
        for function in others {
            parts.extend(self.user_function(function, &given));
        }
        let elements = match (word, only) {
            ("array_agg", Some(only)) => only.row.clone(),
            _ => None,
        };
        Value {
            type_oid,
            elements,
            ..Value::derived(self.union(&parts))
        }
    }

    fn projected(&mut self, row: &Value, name: &str) -> Option<Value> {
        if let Some(fields) = &row.row {
            return fields.only(name).map(|field| field.value.clone());
        }
        let known = self.fields_of_type(row.type_oid)?;
        let is_field = known.iter().any(|(field, _)| **field == *name);
        is_field.then(|| self.field(row, name))
    }

    /// The functions that are not built in and that a call may mean.
    fn functions(&self, name: &Name, arity: Option<usize>) -> Vec<&'c Function> {
        let word = name.name.as_deref().unwrap_or_default();
        let all = self.catalogue.functions_named(word);
        let visible = all.filter(|function| match &name.schema {
            Schema::Named(schema) => *function.name.schema == **schema,
            Schema::Path | Schema::Any => self.may_see(&function.name.schema),
        });
        let fitting = visible.filter(|function| arity.is_none_or(|count| takes(function, count)));
        fitting.collect()
    }

    /// Whether an unqualified name may be found in a schema.
    pub(super) fn may_see(&self, schema: &str) -> bool {
        schema == "pg_catalog"
            || self
                .path
                .is_none_or(|path| path.iter().any(|listed| listed == schema))
    }

    /// What a function of an operator or extension adds to what it is given.
    fn user_function(&mut self, function: &Function, given: &Sources) -> Option<Sources> {
        if is_pure(function) {
            return None;
        }
        Some(self.unknown_call(Some(&function.name.schema), &function.name.name, given))
    }

    fn unknown_call(&mut self, schema: Option<&str>, name: &str, given: &Sources) -> Sources {
        let id = self.call_id(schema, name);
        if let Some(index) = id.call() {
            self.own_calls.insert(index);
            if let Some(call) = self.calls.get_mut(index) {
                call.given.extend(given.as_slice());
            }
        }
        self.charge(given.len());
        Sources::one(id)
    }

    /// The number of a function among those that are called.
    pub(super) fn call_id(&mut self, schema: Option<&str>, name: &str) -> ColumnId {
        self.charge(self.calls.len());
        let known = self
            .calls
            .iter()
            .position(|call| call.schema.as_deref() == schema && *call.name == *name);
        let index = known.unwrap_or_else(|| {
            self.calls.push(Called {
                schema: schema.map(Box::from),
                name: Box::from(name),
                given: BTreeSet::new(),
            });
            self.calls.len() - 1
        });
        if index >= CALLS_MAX {
            self.exhausted.get_or_insert(Reason::TooMuchWork);
        }
        super::call_number(index)
    }

    pub(super) fn operator(&mut self, names: &[Node]) -> Option<Sources> {
        let name = name_of(names)?;
        let schema = match &name.schema {
            Schema::Named(schema) => Some(schema.as_str()),
            Schema::Path | Schema::Any => None,
        };
        self.operator_named(schema, name.name.as_deref().unwrap_or_default())
    }

    pub(super) fn operator_named(&mut self, schema: Option<&str>, name: &str) -> Option<Sources> {
        let found: Vec<_> = self
            .catalogue
            .operators_named(name)
            .filter(|operator| match schema {
                Some(schema) => *operator.name.schema == *schema,
                None => self.may_see(&operator.name.schema),
            })
            .collect();
        let is_built_in =
            functions::is_operator(name) && schema.is_none_or(|schema| schema == "pg_catalog");
        if found.is_empty() && !is_built_in {
            return Some(self.unknown_call(schema, name, &Sources::default()));
        }
        let mut parts = Vec::new();
        for operator in found {
            parts.extend(self.function_by_name(&operator.function));
        }
        (!parts.is_empty()).then(|| self.union(&parts))
    }

    /// What the server runs by name, as behind an operator or cast.
    fn function_by_name(&mut self, name: &crate::catalogue::Qualified) -> Option<Sources> {
        if &*name.schema == "pg_catalog" {
            return None;
        }
        let named = self.catalogue.functions_named(&name.name);
        let same: Vec<_> = named.filter(|function| function.name == *name).collect();
        if !same.is_empty() && same.iter().all(|function| is_pure(function)) {
            return None;
        }
        Some(self.unknown_call(Some(&name.schema), &name.name, &Sources::default()))
    }

    /// What an explicit cast to a type runs that is not built in.
    pub(super) fn cast_function(&mut self, type_oid: u32) -> Option<Sources> {
        let catalogue = self.catalogue;
        let mut parts = Vec::new();
        for cast in catalogue.casts() {
            // Which built-in type a name means is not looked up: any such cast may be it.
            let fits = cast.target == type_oid
                || (matches!(type_oid, 0 | SCALAR) && catalogue.type_(cast.target).is_none());
            if fits && let Some(function) = &cast.function {
                parts.extend(self.function_by_name(function));
            }
        }
        if !matches!(type_oid, 0 | SCALAR) {
            for function in catalogue.definitions().functions_of_domain(type_oid) {
                parts.extend(self.function_by_name(&function));
            }
        }
        (!parts.is_empty()).then(|| self.union(&parts))
    }

    fn built_in(
        &mut self,
        effect: Call,
        word: &str,
        call: Option<&p::FuncCall>,
        given: &Sources,
    ) -> Option<Sources> {
        let arguments = Arguments::of(call);
        let shown = SHOWING.contains(&word).then(Sources::any);
        match effect {
            Call::Read => {
                if word.starts_with("pg_sleep") {
                    self.decide(given, Decides::Condition);
                }
                return shown;
            }
            Call::RelationSelect => return Some(self.rows_of(arguments.relation(0))),
            Call::SchemaSelect => {
                return Some(match arguments.text(0) {
                    Some(schema) => self.rows_of_schema(schema),
                    None => self.lose(format!("which schema {word}() reads is not a literal")),
                });
            }
            Call::DatabaseSelect => return Some(Sources::any()),
            Call::TextFirst => return Some(self.text(arguments.text(0), word)),
            Call::TextSecond if arguments.count() == Some(2) => {
                return Some(self.text(arguments.text(1), word));
            }
            Call::TextSecond if arguments.count() == Some(3) => return None,
            Call::TextSecond => return Some(self.text(None, word)),
            Call::TypedInput => {
                let type_name = arguments.text(1);
                if type_name.is_some_and(|name| BASE_TYPES.contains(&name)) {
                    return None;
                }
                // What checks a value of another type may be anybody's code.
                return Some(self.unknown_call(None, word, given));
            }
            Call::Cursor => {
                return Some(self.lose(format!("what {word}() reads is not in the statement")));
            }
            Call::SequenceUpdate
            | Call::LargeObjectInsert
            | Call::LargeObjectUpdate
            | Call::LargeObjectDelete
            | Call::LargeObjectImport => self.escape(given, Escapes::Stored),
            Call::SetConfig
            | Call::SetSeed
            | Call::LargeObjectSelect
            | Call::LargeObjectExport
            | Call::Notify
            | Call::Transaction
            | Call::Lock
            | Call::Maintenance
            | Call::File
            | Call::Replication
            | Call::Admin => self.escape(given, Escapes::Sent),
        }
        shown
    }

    /// All of a relation that a literal names.
    fn rows_of(&mut self, name: Option<Name>) -> Sources {
        let Some(name) = name else {
            return self.lose("which relation is read is not a literal".to_owned());
        };
        let relation = p::RangeVar {
            schemaname: match &name.schema {
                Schema::Named(schema) => schema.clone(),
                Schema::Path | Schema::Any => String::new(),
            },
            relname: name.name.unwrap_or_default(),
            inh: true,
            ..p::RangeVar::default()
        };
        let item = self.relation_item(&relation);
        self.mention(&item.whole);
        item.whole
    }

    fn rows_of_schema(&mut self, schema: &str) -> Sources {
        let catalogue = self.catalogue;
        let mut parts = Vec::new();
        let mut relations: Vec<_> = catalogue
            .relations()
            .filter(|relation| *relation.name.schema == *schema)
            .collect();
        relations.sort_by_key(|relation| relation.oid);
        for relation in relations {
            let item = self.whole_of(relation);
            parts.push(item);
        }
        let all = self.union(&parts);
        self.mention(&all);
        all
    }

    /// SQL that the server runs inside this statement: what it shows.
    fn text(&mut self, text: Option<&str>, word: &str) -> Sources {
        let Some(text) = text else {
            return self.lose(format!("the text that {word}() runs is not a literal"));
        };
        let depth = self.text_depth + 1;
        let tree = match parsed(text, self.limits, depth) {
            Ok(tree) => tree,
            Err(unread) => {
                let all = Lineage::unknown(unread.reason.to_string());
                self.escaping.extend(all.escaping);
                return self.lose(format!("the text that {word}() runs is {}", unread.reason));
            }
        };
        self.text_depth = depth;
        let outputs = self.outputs.take();
        let windows = std::mem::take(&mut self.windows);
        let mut parts = Vec::new();
        for statement in &tree.stmts {
            self.top(statement.stmt.as_deref());
            for output in self.outputs.take().into_iter().flatten() {
                parts.push(output.sources.into_iter().collect::<Sources>());
            }
        }
        self.windows = windows;
        self.outputs = outputs;
        self.text_depth = depth - 1;
        self.union(&parts)
    }

    /// The columns of a function in FROM.
    pub(super) fn table_function<'n>(
        &mut self,
        node: Option<&'n Node>,
        listed: &[Node],
        alias: Option<&p::Alias>,
        scope: &Scope<'_, 'n>,
    ) -> Table {
        let call = match node.and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::FuncCall(call)) => Some(call.as_ref()),
            _ => None,
        };
        let value = self.value(node, scope);
        self.decide(&value.sources, Decides::Limit);
        let name = call.and_then(|call| name_of(&call.funcname));
        let word = name.as_ref().and_then(|name| name.name.as_deref());
        let word = word.unwrap_or_default();
        if !listed.is_empty() {
            return table_of(defined_names(listed), &value.sources);
        }
        let scalar = || {
            let own = super::names::name_of_value(node);
            let name = alias.map_or(own, |alias| &alias.aliasname);
            vec![Arc::from(name)]
        };
        let own = name.as_ref().map(|name| {
            let arity = call.map(|call| call.args.len());
            self.functions(name, arity)
        });
        match own.as_deref() {
            Some([function]) => return self.table_of_function(function, scalar(), &value),
            Some([_, ..]) => {
                return Table {
                    open: Some(value.sources),
                    ..Table::default()
                };
            }
            Some([]) | None => {}
        }
        if word == "unnest"
            && let Some(call) = call
        {
            return self.unnested(call, scalar(), &value, scope);
        }
        if let Some(names) = returns::columns(word) {
            let names = names.iter().map(|name| Arc::from(*name)).collect();
            return table_of(names, &value.sources);
        }
        if returns::yields_value(word) {
            let name = alias.map_or("value", |alias| &alias.aliasname);
            return table_of(vec![Arc::from(name)], &value.sources);
        }
        if self.is_scalar(value.type_oid) {
            return table_of(scalar(), &value.sources);
        }
        Table {
            open: Some(value.sources),
            ..Table::default()
        }
    }

    fn table_of_function(
        &mut self,
        function: &Function,
        scalar: Vec<Arc<str>>,
        value: &Value,
    ) -> Table {
        let names: Vec<Arc<str>> = match (function.outputs.as_slice(), function.returns) {
            ([], returns) => match self.fields_of_type(returns) {
                Some(fields) => fields.into_iter().map(|(name, _)| name).collect(),
                None if function.returns == RECORD => {
                    return Table {
                        open: Some(value.sources.clone()),
                        ..Table::default()
                    };
                }
                None => scalar,
            },
            ([_], _) if function.returns != RECORD => scalar,
            (outputs, _) => outputs.iter().map(|(name, _)| Arc::from(&**name)).collect(),
        };
        let shows_texts = &*function.name.name == "pg_stat_statements";
        let mut table = table_of(names, &value.sources);
        if shows_texts {
            table = table_of(
                table
                    .fields
                    .list()
                    .iter()
                    .map(|field| field.name.clone())
                    .collect(),
                &Sources::any(),
            );
        }
        table
    }

    /// One column for each array, or the columns of a row type's array.
    fn unnested<'n>(
        &mut self,
        call: &'n p::FuncCall,
        scalar: Vec<Arc<str>>,
        value: &Value,
        scope: &Scope<'_, 'n>,
    ) -> Table {
        if let [argument] = call.args.as_slice() {
            let array = self.value(Some(argument), scope);
            if let Some(fields) = array.elements {
                return Table { fields, open: None };
            }
            let element = self.element(array.type_oid);
            return match self.fields_of_type(element) {
                Some(fields) => {
                    let names = fields.into_iter().map(|(name, _)| name).collect();
                    table_of(names, &value.sources)
                }
                None if self.is_scalar(array.type_oid) => table_of(scalar, &value.sources),
                // Rows, maybe: of who knows how many columns.
                None => Table {
                    open: Some(value.sources.clone()),
                    ..Table::default()
                },
            };
        }
        let mut fields = Vec::new();
        for argument in &call.args {
            let value = self.value(Some(argument), scope);
            let one = table_of(vec![Arc::from("unnest")], &value.sources);
            fields.extend(one.fields.list().iter().cloned());
        }
        Table::from(fields)
    }
}

/// The type `record`.
const RECORD: u32 = 2249;

/// Depends on its arguments alone, and does nothing but return a value.
fn is_pure(function: &Function) -> bool {
    if &*function.name.schema == "pg_catalog" {
        return true;
    }
    // Security: only of an extension, whose code its makers stand for: anybody may declare a
    // function of their own immutable.
    let Some(extension) = &function.extension else {
        return false;
    };
    PURE_EXTENSIONS.contains(&&**extension)
        || (function.volatility == Volatility::Immutable
            && function.kind != FunctionKind::Procedure)
}

/// Whether a function can be called with that many arguments.
fn takes(function: &Function, count: usize) -> bool {
    let most = function.arguments.len();
    let least = most
        .saturating_sub(usize::from(function.defaults))
        .saturating_sub(usize::from(function.variadic));
    count >= least && (function.variadic || count <= most)
}

fn defined_names(columns: &[Node]) -> Vec<Arc<str>> {
    let names = columns.iter().map(|node| match &node.node {
        Some(NodeEnum::ColumnDef(column)) => Arc::from(column.colname.as_str()),
        _ => Arc::from(string_of(node).unwrap_or_default()),
    });
    names.collect()
}
