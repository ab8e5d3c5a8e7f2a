//! What a statement does in one database: its names resolved, and what they set off.
//!
//! Judges nothing; that is `decide`.
//!
//! Written names become the objects that the server will choose. *Beneath* them lies what a
//! definition adds: the tables of a view, the actions of a rule, the functions of triggers,
//! cascades, children and parents, code in defaults, constraints and policies. Such an effect has
//! [`Effect::through`].

mod columns;
mod definitions;

use std::collections::{BTreeSet, HashSet};

pub use columns::column_uses;
pub(crate) use definitions::AllDefinitions;

use crate::catalogue::{
    Catalogue, Event, ExpressionOn, Function, FunctionKind, Qualified, Relation, TypeKind,
};
use crate::class::Class;
use crate::sql::{
    Effect, FunctionName, Name, Object, Reason, Schema, StatementProfile, Through,
    is_catalogue_relation,
};

/// Most effects that a statement may have beneath: a table with so many partitions is rare, and
/// weighing them takes some milliseconds, once.
const BENEATH_MAX: usize = 10_000;

/// `record`, `"any"` and the polymorphic types: an argument of one of these may be a row.
const PSEUDO_ROWS: [u32; 7] = [2249, 2276, 2283, 2776, 5077, 5079, 5080];

/// What the names of a statement are looked up in.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) catalogue: &'a Catalogue,
    /// `None` when the path is not known.
    pub(crate) path: Option<&'a [String]>,
    /// The session may see something else than the catalogue says.
    pub(crate) unsettled: bool,
}

/// The profile as it is in these surroundings, and whether a name was not found in them.
pub(crate) fn resolve(
    profile: &StatementProfile,
    surroundings: Surroundings<'_>,
) -> (StatementProfile, bool) {
    let mut resolver = Resolver::new(surroundings);
    for effect in &profile.effects {
        resolver.written(effect);
    }
    resolver.relied_on(profile);
    let resolved = StatementProfile {
        effects: resolver.effects,
        ..profile.clone()
    };
    (resolved, resolver.missing)
}

/// Whether the catalogue says less than the truth once the statement has run.
pub(crate) fn redefines(statement: &StatementProfile) -> bool {
    statement.effects.iter().any(|effect| {
        matches!(
            effect.class,
            Class::Create
                | Class::Alter
                | Class::Drop
                | Class::SelectInto
                | Class::Do
                | Class::Call
                | Class::Unknown
        )
    })
}

/// Which way a relation was come to from another that it shares rows with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    /// By a name.
    Named,
    /// It is a child.
    Down,
    /// It is a parent: of its rows only those of the child are touched.
    Up,
}

struct Resolver<'a> {
    in_: Surroundings<'a>,
    effects: Vec<Effect>,
    known: HashSet<Effect>,
    visited: HashSet<(Class, u32, Way)>,
    pending: Vec<(Class, &'a Relation, Way)>,
    /// Functions whose bodies are still to be looked at, and those that were.
    bodies: Vec<&'a Function>,
    seen_bodies: HashSet<*const Function>,
    /// Types of the columns of what is touched.
    column_types: BTreeSet<u32>,
    missing: bool,
}

impl<'a> Resolver<'a> {
    fn new(surroundings: Surroundings<'a>) -> Self {
        Self {
            in_: surroundings,
            effects: Vec::new(),
            known: HashSet::new(),
            visited: HashSet::new(),
            pending: Vec::new(),
            bodies: Vec::new(),
            seen_bodies: HashSet::new(),
            column_types: BTreeSet::new(),
            missing: false,
        }
    }

    /// Keeps the effect, once.
    fn add(&mut self, effect: Effect) {
        if self.effects.len() >= BENEATH_MAX {
            let limit = BENEATH_MAX;
            let too_many = Effect::new(
                Class::Unknown,
                Object::Unread(Reason::TooManyEffects { limit }),
            );
            if self.known.insert(too_many.clone()) {
                self.effects.push(too_many);
            }
        } else if self.known.insert(effect.clone()) {
            self.effects.push(effect);
        }
    }

    /// An effect that the statement's own text shows.
    fn written(&mut self, effect: &Effect) {
        match &effect.object {
            Object::Table(name) if acts_on_rows(effect.class) => self.table(effect, name),
            Object::Function(function) if runs(effect.class) && function.opaque => {
                self.function(effect, function);
            }
            Object::Nothing
            | Object::Table(_)
            | Object::Function(_)
            | Object::Other { .. }
            | Object::Unread(_) => self.add(effect.clone()),
        }
        self.dig();
    }

    fn table(&mut self, effect: &Effect, name: &Name) {
        let relations = self.relations(name);
        match (&name.schema, relations.as_slice()) {
            (Schema::Path, [relation]) if self.is_sure() => {
                self.add(Effect::new(
                    effect.class,
                    Object::Table(named(&relation.name)),
                ));
                let temporary = Name {
                    schema: Schema::Named("pg_temp".to_owned()),
                    name: name.name.clone(),
                };
                let what = "a temporary table of its name".to_owned();
                self.add(beneath(effect.class, Object::Table(temporary), what, false));
            }
            _ => self.add(effect.clone()),
        }
        if relations.is_empty() && !is_temporary(name) && name.name.is_some() {
            self.missing = true;
        }
        for relation in relations {
            self.pending.push((effect.class, relation, Way::Named));
        }
    }

    fn is_sure(&self) -> bool {
        self.in_.path.is_some() && !self.in_.unsettled
    }

    /// The relations that a name may stand for; one where the server's choice is known.
    fn relations(&self, name: &Name) -> Vec<&'a Relation> {
        let catalogue = self.in_.catalogue;
        let Some(word) = name.name.as_deref() else {
            // Any table of a schema, or of all: what is beneath has its own name among them.
            return Vec::new();
        };
        match (&name.schema, self.in_.path) {
            (Schema::Named(schema), _) => catalogue.relation_in(schema, word).into_iter().collect(),
            (Schema::Path, Some(path)) => {
                let implied =
                    (!path.iter().any(|schema| schema == "pg_catalog")).then_some("pg_catalog");
                let schemas = implied.into_iter().chain(path.iter().map(String::as_str));
                let mut found = schemas.filter_map(|schema| catalogue.relation_in(schema, word));
                if self.in_.unsettled {
                    found.collect()
                } else {
                    found.next().into_iter().collect()
                }
            }
            (Schema::Path, None) | (Schema::Any, _) => catalogue.relations_named(word).collect(),
        }
    }

    /// A call of a function that is not built in: of one in each schema that has one of the name.
    fn function(&mut self, effect: &Effect, function: &FunctionName) {
        let found = self.functions(&function.name);
        let operators = self.operators(&function.name);
        let mut schemas: BTreeSet<&str> = found.iter().map(|found| &*found.name.schema).collect();
        schemas.extend(operators.iter().map(|name| &*name.schema));
        if schemas.is_empty() {
            self.missing = true;
        }
        let word = function.name.name.clone();
        // Of a server that is newer than the table of built-ins.
        if word.as_deref().is_some_and(|word| word.starts_with("pg_")) {
            schemas.insert("pg_catalog");
        }
        if schemas.is_empty() || function.name.schema != Schema::Path || self.in_.path.is_none() {
            self.add(effect.clone());
        } else {
            for schema in schemas {
                let name = Name {
                    schema: Schema::Named(schema.to_owned()),
                    name: word.clone(),
                };
                let opaque = true;
                let object = Object::Function(FunctionName { name, opaque });
                self.add(Effect::new(effect.class, object));
            }
        }
        for function in found {
            self.body(function);
        }
    }

    /// Each body once: functions may call each other in a circle.
    fn body(&mut self, function: &'a Function) {
        if self.seen_bodies.insert(std::ptr::from_ref(function)) {
            self.bodies.push(function);
        }
    }

    fn functions(&self, name: &Name) -> Vec<&'a Function> {
        let word = name.name.as_deref().unwrap_or_default();
        let all = self.in_.catalogue.functions_named(word);
        all.filter(|function| self.may_be(name, &function.name.schema))
            .collect()
    }

    fn operators(&self, name: &Name) -> Vec<&'a Qualified> {
        let word = name.name.as_deref().unwrap_or_default();
        let all = self.in_.catalogue.operators_named(word);
        all.filter(|operator| self.may_be(name, &operator.name.schema))
            .map(|operator| &operator.name)
            .collect()
    }

    /// Whether a name may stand for something in that schema.
    fn may_be(&self, name: &Name, schema: &str) -> bool {
        match (&name.schema, self.in_.path) {
            (Schema::Named(named), _) => named == schema,
            (Schema::Path, Some(path)) => {
                schema == "pg_catalog" || path.iter().any(|known| known == schema)
            }
            (Schema::Path, None) | (Schema::Any, _) => true,
        }
    }
}

/// What lies beneath.
impl Resolver<'_> {
    fn dig(&mut self) {
        while self.effects.len() < BENEATH_MAX {
            if let Some(function) = self.bodies.pop() {
                let what = format!("the function {}", text(&function.name));
                for effect in definitions::body(function) {
                    self.defined(&effect, &what);
                }
            } else if let Some((class, relation, way)) = self.pending.pop() {
                if self.visited.insert((class, relation.oid, way)) {
                    self.beneath_relation(class, relation, way);
                }
            } else {
                return;
            }
        }
    }

    fn beneath_relation(&mut self, class: Class, relation: &Relation, way: Way) {
        self.family(class, relation, way);
        if way == Way::Up {
            return;
        }
        let types = relation.columns.iter().map(|column| column.type_oid);
        self.column_types.extend(types);
        let rows = self.in_.catalogue.types_named(&relation.name.name);
        let rows = rows.filter(|type_| {
            type_.kind
                == TypeKind::Composite {
                    relation: relation.oid,
                }
        });
        self.column_types.extend(rows.map(|type_| type_.oid));
        let event = event_of(class);
        self.view(class, relation, event);
        let Some(event) = event else { return };
        self.triggers(event, relation);
        self.rules(event, relation);
        for cascade in &relation.cascades {
            if cascade.on == event
                && let Some(class) = class_of(cascade.does)
            {
                let what = format!("a foreign key to {}", text(&relation.name));
                self.relation_beneath(class, cascade.relation, Way::Named, &what);
            }
        }
        self.expressions(event, relation);
    }

    /// Rows of a parent are rows of its children.
    fn family(&mut self, class: Class, relation: &Relation, way: Way) {
        let what = format!("its place under {}", text(&relation.name));
        if way != Way::Up {
            for child in self.in_.catalogue.children(relation.oid) {
                self.relation_beneath(class, *child, Way::Down, &what);
            }
        }
        if way != Way::Down {
            let what = format!("rows of it in {}", text(&relation.name));
            for parent in &relation.parents {
                self.relation_beneath(class, *parent, Way::Up, &what);
            }
        }
    }

    fn relation_beneath(&mut self, class: Class, oid: u32, way: Way, what: &str) {
        let catalogue = self.in_.catalogue;
        if let Some(relation) = catalogue.relation(oid) {
            let object = Object::Table(named(&relation.name));
            self.add(beneath(class, object, what.to_owned(), false));
            self.pending.push((class, relation, way));
        }
    }

    fn view(&mut self, class: Class, relation: &Relation, event: Option<Event>) {
        let catalogue = self.in_.catalogue;
        let Some(definitions) = catalogue.definitions().of_relation(relation.oid) else {
            return;
        };
        let what = format!("the view {}", text(&relation.name));
        for effect in &definitions.view {
            self.defined(effect, &what);
        }
        let replaces = |event: Event| {
            let by_rule = definitions
                .rules
                .iter()
                .any(|rule| rule.event == event && rule.instead);
            let by_trigger = relation.triggers.iter().any(|t| t.events.contains(&event));
            by_rule || by_trigger
        };
        let reads = matches!(class, Class::Select | Class::CopyTo | Class::Explain);
        if let Some(name) = &definitions.updates
            && !reads
            && !event.is_some_and(replaces)
        {
            self.defined(&Effect::new(class, Object::Table(name.clone())), &what);
        }
    }

    fn triggers(&mut self, event: Event, relation: &Relation) {
        for trigger in relation
            .triggers
            .iter()
            .filter(|t| t.events.contains(&event))
        {
            let built_in = *trigger.function.schema == *"pg_catalog"
                && crate::sql::is_harmless(&trigger.function.name);
            if !built_in {
                let function = FunctionName {
                    name: named(&trigger.function),
                    opaque: true,
                };
                let what = format!("a trigger of {}", text(&relation.name));
                let object = Object::Function(function);
                self.add(beneath(Class::Function, object, what, true));
            }
        }
        let catalogue = self.in_.catalogue;
        let Some(definitions) = catalogue.definitions().of_relation(relation.oid) else {
            return;
        };
        let what = format!("the condition of a trigger of {}", text(&relation.name));
        let conditions = definitions.conditions.iter();
        for (_, effects) in conditions.filter(|(events, _)| events.contains(&event)) {
            // The function itself is among them, and was added above.
            for effect in effects {
                self.defined(effect, &what);
            }
        }
    }

    fn rules(&mut self, event: Event, relation: &Relation) {
        let catalogue = self.in_.catalogue;
        let Some(definitions) = catalogue.definitions().of_relation(relation.oid) else {
            return;
        };
        let what = format!("a rule of {}", text(&relation.name));
        for rule in definitions.rules.iter().filter(|rule| rule.event == event) {
            for effect in &rule.effects {
                self.defined(effect, &what);
            }
        }
    }

    fn expressions(&mut self, event: Event, relation: &Relation) {
        let writes = matches!(event, Event::Insert | Event::Update);
        let catalogue = self.in_.catalogue;
        if let Some(definitions) = catalogue.definitions().of_relation(relation.oid) {
            let what = format!("the definition of {}", text(&relation.name));
            for (on, effects) in &definitions.expressions {
                if writes || *on == ExpressionOn::Any {
                    for effect in effects {
                        self.defined(effect, &what);
                    }
                }
            }
        }
        if writes {
            for column in &relation.columns {
                self.domain(column.type_oid);
            }
        }
    }

    fn domain(&mut self, oid: u32) {
        let catalogue = self.in_.catalogue;
        let mut next = Some(oid);
        // A domain's base was there before it, so that this ends.
        while let Some(type_) = next.and_then(|oid| catalogue.type_(oid)) {
            let what = format!("the domain {}", text(&type_.name));
            for effect in catalogue.definitions().of_domain(type_.oid) {
                self.defined(effect, &what);
            }
            next = match type_.kind {
                TypeKind::Domain { base } => Some(base),
                TypeKind::Array { element } => Some(element),
                TypeKind::Base
                | TypeKind::Enum
                | TypeKind::Composite { .. }
                | TypeKind::Range { .. } => None,
            };
        }
    }

    /// An effect of a definition, with what is beneath it in turn.
    fn defined(&mut self, effect: &Effect, what: &str) {
        // What cannot be read of a definition is not covered by an allow of the object.
        let needs_own = matches!(effect.object, Object::Unread(_));
        let object = effect.object.clone();
        self.add(beneath(effect.class, object, what.to_owned(), needs_own));
        if let Object::Table(name) = &effect.object
            && acts_on_rows(effect.class)
        {
            for relation in self.relations(name) {
                self.pending.push((effect.class, relation, Way::Named));
            }
        }
        if let Object::Function(function) = &effect.object
            && function.opaque
        {
            for function in self.functions(&function.name) {
                self.body(function);
            }
        }
    }
}

/// What takes the place of something built in.
impl Resolver<'_> {
    fn relied_on(&mut self, profile: &StatementProfile) {
        let relied = &profile.relies_on;
        for (word, count) in &relied.functions {
            let name = on_path(word);
            for function in self.functions(&name) {
                let fits = count.is_none_or(|count| takes(function, count));
                if fits
                    && function.kind != FunctionKind::Procedure
                    && !definitions::is_harmless(function)
                {
                    self.opaque(&function.name);
                    self.body(function);
                }
            }
        }
        for word in &relied.operators {
            let catalogue = self.in_.catalogue;
            let name = on_path(word);
            for operator in catalogue.operators_named(word) {
                if self.may_be(&name, &operator.name.schema)
                    && !is_harmless_function(catalogue, &operator.function)
                {
                    self.opaque(&operator.name);
                }
            }
        }
        for word in &relied.fields {
            let name = on_path(word);
            for function in self.functions(&name) {
                if takes(function, 1)
                    && function
                        .arguments
                        .first()
                        .is_some_and(|type_| self.is_row(*type_))
                {
                    self.opaque(&function.name);
                    self.body(function);
                }
            }
        }
        let catalogue = self.in_.catalogue;
        for name in &relied.types {
            let word = name.name.as_deref().unwrap_or_default();
            for type_ in catalogue.types_named(word) {
                if self.may_be(name, &type_.name.schema) {
                    self.column_types.insert(type_.oid);
                    self.domain(type_.oid);
                }
            }
            // A table's name is that of its rows' type.
            for relation in catalogue.relations_named(word) {
                if self.may_be(name, &relation.name.schema) {
                    for column in &relation.columns {
                        self.domain(column.type_oid);
                    }
                }
            }
        }
        self.casts();
        self.dig();
    }

    /// Casts of a type that is at hand: those that run unasked, and those that may be asked for.
    fn casts(&mut self) {
        let catalogue = self.in_.catalogue;
        for cast in &catalogue.definitions().casts {
            // One of a user's type to or from a built-in one: it needs a value of the user's type,
            // or a place for one.
            let own = if catalogue.type_(cast.source).is_some() {
                cast.source
            } else {
                cast.target
            };
            if self.column_types.contains(&own)
                && let Some(function) = &cast.function
            {
                self.opaque(function);
            }
        }
    }

    fn is_row(&self, type_: u32) -> bool {
        let kind = self.in_.catalogue.type_(type_).map(|type_| &type_.kind);
        PSEUDO_ROWS.contains(&type_) || matches!(kind, Some(TypeKind::Composite { .. }))
    }

    fn opaque(&mut self, name: &Qualified) {
        let function = FunctionName {
            name: named(name),
            opaque: true,
        };
        self.add(Effect::new(Class::Function, Object::Function(function)));
    }
}

/// Classes whose object is a relation of which rows are touched.
fn acts_on_rows(class: Class) -> bool {
    matches!(
        class,
        Class::Select
            | Class::Insert
            | Class::Update
            | Class::Delete
            | Class::Merge
            | Class::Truncate
            | Class::CopyFrom
            | Class::CopyTo
            | Class::Lock
            | Class::Explain
            | Class::UpdateWithoutWhere
            | Class::DeleteWithoutWhere
    )
}

fn runs(class: Class) -> bool {
    matches!(class, Class::Function | Class::Call)
}

/// What sets off a table's triggers, rules and cascades.
///
/// Classes that come together with one of these set off nothing by themselves.
fn event_of(class: Class) -> Option<Event> {
    const EVENTS: [(Class, Event); 5] = [
        (Class::Select, Event::Select),
        (Class::Insert, Event::Insert),
        (Class::Update, Event::Update),
        (Class::Delete, Event::Delete),
        (Class::Truncate, Event::Truncate),
    ];
    let mut events = EVENTS.into_iter();
    events.find_map(|(of, event)| (of == class).then_some(event))
}

fn class_of(event: Event) -> Option<Class> {
    match event {
        Event::Update => Some(Class::Update),
        Event::Delete => Some(Class::Delete),
        Event::Select | Event::Insert | Event::Truncate => None,
    }
}

/// Whether a call with so many arguments may be one of the function.
fn takes(function: &Function, count: usize) -> bool {
    let most = function.arguments.len();
    let least = most.saturating_sub(usize::from(function.defaults));
    if function.variadic {
        return count + 1 >= least;
    }
    (least..=most).contains(&count)
}

fn is_harmless_function(catalogue: &Catalogue, name: &Qualified) -> bool {
    if *name.schema == *"pg_catalog" && crate::sql::is_harmless(&name.name) {
        return true;
    }
    let mut same = catalogue
        .functions_named(&name.name)
        .filter(|function| function.name == *name)
        .peekable();
    same.peek().is_some() && same.all(definitions::is_harmless)
}

fn is_temporary(name: &Name) -> bool {
    match &name.schema {
        Schema::Named(schema) => schema.starts_with("pg_temp"),
        Schema::Path => name.name.as_deref().is_some_and(is_catalogue_relation),
        Schema::Any => true,
    }
}

fn beneath(class: Class, object: Object, what: String, needs_own: bool) -> Effect {
    Effect {
        class,
        object,
        through: Some(Through { what, needs_own }),
    }
}

fn named(name: &Qualified) -> Name {
    Name {
        schema: Schema::Named(name.schema.to_string()),
        name: Some(name.name.to_string()),
    }
}

fn on_path(word: &str) -> Name {
    Name {
        schema: Schema::Path,
        name: Some(word.to_owned()),
    }
}

fn text(name: &Qualified) -> String {
    format!("{}.{}", name.schema, name.name)
}
