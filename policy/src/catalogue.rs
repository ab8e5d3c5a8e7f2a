//! What one database holds, as far as the meaning of a statement depends on it: plain values.
//!
//! The appliance reads it from the target; nothing here asks anybody. Names in it are as the
//! server keeps them.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use crate::resolve::AllDefinitions;
use crate::sql::Shape;

/// One database, at one moment.
///
/// Scope: per target and database, immutable; a change of the schema makes a new one with another
/// [`Self::generation`]. What is in it depends on the target alone, so it may be shared by all of
/// its sessions.
#[derive(Default)]
pub struct Catalogue {
    generation: u64,
    server_version: u32,
    relations: HashMap<u32, Relation>,
    relations_by_name: HashMap<Box<str>, Vec<u32>>,
    functions: HashMap<Box<str>, Vec<Function>>,
    operators: HashMap<Box<str>, Vec<Operator>>,
    types: HashMap<u32, Type>,
    types_by_name: HashMap<Box<str>, Vec<u32>>,
    casts: Vec<Cast>,
    children: HashMap<u32, Vec<u32>>,
    /// Who has foreign keys to a relation.
    referencing: HashMap<u32, Vec<u32>>,
    /// What the columns of views derive from, each found at first use.
    shapes: HashMap<u32, OnceLock<Arc<Shape>>>,
    definitions: AllDefinitions,
}

/// What a catalogue is made from: everything, in any order.
#[derive(Debug, Default)]
pub struct Parts {
    /// As `server_version_num` says it: 150_004.
    pub server_version: u32,
    pub relations: Vec<Relation>,
    pub functions: Vec<Function>,
    pub operators: Vec<Operator>,
    pub types: Vec<Type>,
    pub casts: Vec<Cast>,
}

/// A name in a schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Qualified {
    pub schema: Box<str>,
    pub name: Box<str>,
}

/// A table or anything else with columns.
#[derive(Debug, Clone)]
pub struct Relation {
    pub oid: u32,
    pub name: Qualified,
    pub kind: RelationKind,
    /// In the order of their numbers, without dropped ones. System columns are implied.
    pub columns: Vec<Column>,
    /// The query of a view or materialised view, with every name qualified
    /// (`pg_get_viewdef` under an empty `search_path`).
    pub definition: Option<Box<str>>,
    pub rules: Vec<Rule>,
    pub triggers: Vec<Trigger>,
    /// What it inherits from, or is a partition of.
    pub parents: Vec<u32>,
    /// What the server does to other tables when rows of this one change.
    pub cascades: Vec<Cascade>,
    /// Foreign keys of this table: what an insert or update looks up.
    pub references: Vec<Reference>,
    /// Expressions that run when rows are written: defaults, generated columns, CHECK constraints,
    /// index expressions and predicates; and those of row-level policies, which run on reading too.
    pub expressions: Vec<Expression>,
    /// Columns in unique or exclusion constraints and indexes.
    pub unique_columns: Vec<i16>,
}

/// What kind of relation it is (`pg_class.relkind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelationKind {
    Table,
    Partitioned,
    View,
    MaterialisedView,
    Foreign,
    Sequence,
    Index,
    Composite,
    Toast,
}

/// A column that is not dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// `attnum`; from 1.
    pub number: i16,
    pub name: Box<str>,
    pub type_oid: u32,
}

/// A rewrite rule that is not a view's own.
#[derive(Debug, Clone)]
pub struct Rule {
    pub event: Event,
    /// As `pg_get_ruledef` says it under an empty `search_path`.
    pub definition: Box<str>,
}

/// A trigger that is enabled and that an operator made.
#[derive(Debug, Clone)]
pub struct Trigger {
    pub events: Vec<Event>,
    pub function: Qualified,
    /// The whole CREATE TRIGGER, if there is a condition in it, as `pg_get_triggerdef` says it.
    pub condition: Option<Box<str>>,
}

/// What sets off a rule, trigger or cascade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
}

/// A referential action on another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cascade {
    pub on: Event,
    pub does: Event,
    /// The table that it is done to.
    pub relation: u32,
}

/// A foreign key: columns of this table, and those that they are looked up in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub columns: Vec<i16>,
    pub relation: u32,
    pub referenced: Vec<i16>,
}

/// An expression that the server runs on its own account.
#[derive(Debug, Clone)]
pub struct Expression {
    pub on: ExpressionOn,
    /// As the server prints it under an empty `search_path`.
    pub text: Box<str>,
}

/// When an [`Expression`] runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpressionOn {
    /// When rows are inserted or updated.
    Write,
    /// Whenever the table is touched: row-level security.
    Any,
}

/// A function, procedure or aggregate that is not in `pg_catalog`.
#[derive(Debug, Clone)]
pub struct Function {
    pub name: Qualified,
    /// Types of the arguments in order, the variadic one last.
    pub arguments: Vec<u32>,
    /// How many of them, from the end, have defaults.
    pub defaults: u16,
    pub variadic: bool,
    pub returns: u32,
    pub returns_set: bool,
    pub kind: FunctionKind,
    pub language: Box<str>,
    pub volatility: Volatility,
    pub security_definer: bool,
    /// The extension that it is part of.
    pub extension: Option<Box<str>>,
    /// Its body, where that is SQL or PL/pgSQL.
    pub body: Option<Box<str>>,
    /// Names and types of the result's columns, for functions with OUT arguments or RETURNS TABLE.
    pub outputs: Vec<(Box<str>, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FunctionKind {
    Function,
    Procedure,
    Aggregate,
    Window,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Volatility {
    Immutable,
    Stable,
    Volatile,
}

/// An operator that is not in `pg_catalog`.
#[derive(Debug, Clone)]
pub struct Operator {
    pub name: Qualified,
    pub function: Qualified,
}

/// A type that is not in `pg_catalog`, or the row type of a relation.
#[derive(Debug, Clone)]
pub struct Type {
    pub oid: u32,
    pub name: Qualified,
    pub kind: TypeKind,
    /// The conditions of a domain, as the server prints them under an empty `search_path`.
    pub constraints: Vec<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    Base,
    Domain { base: u32 },
    Enum,
    Composite { relation: u32 },
    Array { element: u32 },
    Range { subtype: u32 },
}

/// A cast that is not in `pg_catalog`'s own set.
#[derive(Debug, Clone)]
pub struct Cast {
    pub source: u32,
    pub target: u32,
    pub function: Option<Qualified>,
    /// It runs without being written.
    pub implicit: bool,
}

impl Catalogue {
    /// `generation` is another for every catalogue of the process.
    ///
    /// Reads every definition in it: some 100 microseconds for each view, rule and expression, so
    /// not where sessions are waiting.
    #[must_use]
    pub fn new(generation: u64, parts: Parts) -> Self {
        let definitions = AllDefinitions::read(&parts);
        let mut catalogue = Self {
            generation,
            definitions,
            server_version: parts.server_version,
            casts: parts.casts,
            ..Self::default()
        };
        for relation in parts.relations {
            for parent in &relation.parents {
                catalogue
                    .children
                    .entry(*parent)
                    .or_default()
                    .push(relation.oid);
            }
            for reference in &relation.references {
                let referencing = catalogue.referencing.entry(reference.relation).or_default();
                referencing.push(relation.oid);
            }
            if relation.definition.is_some() {
                catalogue.shapes.insert(relation.oid, OnceLock::new());
            }
            let name = relation.name.name.clone();
            let same = catalogue.relations_by_name.entry(name).or_default();
            same.push(relation.oid);
            catalogue.relations.insert(relation.oid, relation);
        }
        for function in parts.functions {
            let name = function.name.name.clone();
            catalogue.functions.entry(name).or_default().push(function);
        }
        for operator in parts.operators {
            let name = operator.name.name.clone();
            catalogue.operators.entry(name).or_default().push(operator);
        }
        for type_ in parts.types {
            let same = catalogue.types_by_name.entry(type_.name.name.clone());
            same.or_default().push(type_.oid);
            catalogue.types.insert(type_.oid, type_);
        }
        catalogue
    }

    /// Part of the key of any cache of what was made with this catalogue.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    #[must_use]
    pub fn server_version(&self) -> u32 {
        self.server_version
    }

    #[must_use]
    pub fn relation(&self, oid: u32) -> Option<&Relation> {
        self.relations.get(&oid)
    }

    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values()
    }

    /// The relations of that name, in whatever schema.
    pub fn relations_named<'c>(&'c self, name: &str) -> impl Iterator<Item = &'c Relation> {
        let oids = self.relations_by_name.get(name).into_iter().flatten();
        oids.filter_map(|oid| self.relations.get(oid))
    }

    #[must_use]
    pub fn relation_in(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.relations_named(name)
            .find(|relation| *relation.name.schema == *schema)
    }

    /// What inherits from a relation directly.
    #[must_use]
    pub fn children(&self, oid: u32) -> &[u32] {
        self.children.get(&oid).map_or(&[], Vec::as_slice)
    }

    /// The relations whose foreign keys refer to a relation.
    pub fn referencing(&self, oid: u32) -> impl Iterator<Item = &Relation> {
        let oids = self.referencing.get(&oid).into_iter().flatten();
        oids.filter_map(|oid| self.relations.get(oid))
    }

    pub(crate) fn shape(&self, view: u32) -> Option<&Arc<Shape>> {
        self.shapes.get(&view)?.get()
    }

    /// Keeps what was found out about a view; what is already kept stays.
    pub(crate) fn keep_shape(&self, view: u32, shape: Arc<Shape>) {
        if let Some(place) = self.shapes.get(&view) {
            // Somebody else was faster, with the same result.
            let _ = place.set(shape);
        }
    }

    /// The functions of that name that are not built in, in whatever schema.
    pub fn functions_named<'c>(&'c self, name: &str) -> impl Iterator<Item = &'c Function> {
        self.functions.get(name).into_iter().flatten()
    }

    pub fn operators_named<'c>(&'c self, name: &str) -> impl Iterator<Item = &'c Operator> {
        self.operators.get(name).into_iter().flatten()
    }

    #[must_use]
    pub fn type_(&self, oid: u32) -> Option<&Type> {
        self.types.get(&oid)
    }

    pub fn types_named<'c>(&'c self, name: &str) -> impl Iterator<Item = &'c Type> {
        let oids = self.types_by_name.get(name).into_iter().flatten();
        oids.filter_map(|oid| self.types.get(oid))
    }

    pub(crate) fn definitions(&self) -> &AllDefinitions {
        &self.definitions
    }

    #[must_use]
    pub fn casts(&self) -> &[Cast] {
        &self.casts
    }
}

/// One catalogue is another's equal only if it is the same.
impl PartialEq for Catalogue {
    fn eq(&self, other: &Self) -> bool {
        self.generation == other.generation
    }
}

impl Eq for Catalogue {}

impl Hash for Catalogue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.generation.hash(state);
    }
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalogue")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl Relation {
    #[must_use]
    pub fn column(&self, number: i16) -> Option<&Column> {
        self.columns.iter().find(|column| column.number == number)
    }

    #[must_use]
    pub fn column_named(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| *column.name == *name)
    }
}
