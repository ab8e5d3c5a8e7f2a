//! What the definitions of a database do: views, rules, triggers' conditions, expressions.
//!
//! Read once, when the catalogue is made; every name in them has its schema, or is PostgreSQL's
//! own.

use std::collections::HashMap;

use pg_query::NodeEnum;

use crate::catalogue::{
    Cast, Event, ExpressionOn, Function, Parts, Qualified, Relation, Type, Volatility,
};
use crate::class::Class;
use crate::sql::postgres::{ProfileLimits, profile};
use crate::sql::{Effect, FunctionName, Name, Object, Schema};

/// Longest definition that is read. Bytes; the server prints them with much white space.
const LIMITS: ProfileLimits = ProfileLimits {
    text_bytes: 4 << 20,
    statements: 100,
};

/// What the definitions around one relation do.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    /// Of its view.
    pub(super) view: Vec<Effect>,
    /// The one relation that a change of the view is a change of.
    pub(super) updates: Option<Name>,
    pub(super) rules: Vec<RuleActions>,
    /// The conditions of triggers.
    pub(super) conditions: Vec<(Vec<Event>, Vec<Effect>)>,
    pub(super) expressions: Vec<(ExpressionOn, Vec<Effect>)>,
}

#[derive(Debug)]
pub(super) struct RuleActions {
    pub(super) event: Event,
    pub(super) effects: Vec<Effect>,
    /// They happen in place of what was asked for.
    pub(super) instead: bool,
}

/// All of one database.
#[derive(Debug, Default)]
pub(crate) struct AllDefinitions {
    relations: HashMap<u32, Definitions>,
    domains: HashMap<u32, Vec<Effect>>,
    /// Casts that run code of users.
    pub(super) casts: Vec<Cast>,
}

impl AllDefinitions {
    pub(crate) fn read(parts: &Parts) -> Self {
        let relations = parts
            .relations
            .iter()
            .filter(|relation| is_defined(relation));
        let domains = parts
            .types
            .iter()
            .filter(|type_| !type_.constraints.is_empty());
        let casts = parts.casts.iter().filter(|cast| {
            cast.function.as_ref().is_some_and(|function| {
                let mut same = parts
                    .functions
                    .iter()
                    .filter(|known| known.name == *function);
                let built_in = *function.schema == *"pg_catalog";
                !built_in && !same.all(is_harmless)
            })
        });
        Self {
            relations: relations
                .map(|relation| (relation.oid, Definitions::of(relation)))
                .collect(),
            domains: domains
                .map(|type_| (type_.oid, constraints(type_)))
                .collect(),
            casts: casts.cloned().collect(),
        }
    }

    pub(super) fn of_relation(&self, oid: u32) -> Option<&Definitions> {
        self.relations.get(&oid)
    }

    /// The functions that are not built in and that the conditions of a domain call.
    pub(crate) fn functions_of_domain(&self, oid: u32) -> impl Iterator<Item = Qualified> {
        let effects = self.of_domain(oid).iter();
        effects.filter_map(|effect| match &effect.object {
            Object::Function(FunctionName {
                name:
                    Name {
                        schema: Schema::Named(schema),
                        name: Some(name),
                    },
                ..
            }) => Some(Qualified {
                schema: schema.as_str().into(),
                name: name.as_str().into(),
            }),
            Object::Function(_)
            | Object::Nothing
            | Object::Table(_)
            | Object::Other { .. }
            | Object::Unread(_) => None,
        })
    }

    pub(super) fn of_domain(&self, oid: u32) -> &[Effect] {
        self.domains.get(&oid).map_or(&[], Vec::as_slice)
    }
}

fn is_defined(relation: &Relation) -> bool {
    relation.definition.is_some()
        || !relation.rules.is_empty()
        || !relation.triggers.is_empty()
        || !relation.expressions.is_empty()
}

impl Definitions {
    fn of(relation: &Relation) -> Self {
        let view = relation.definition.as_deref();
        let rules = relation.rules.iter().map(|rule| RuleActions {
            event: rule.event,
            effects: acts(effects(&rule.definition)),
            instead: rule.definition.contains(" DO INSTEAD "),
        });
        let conditions = relation.triggers.iter().filter_map(|trigger| {
            let condition = trigger.condition.as_deref()?;
            Some((trigger.events.clone(), acts(effects(condition))))
        });
        let expressions = relation
            .expressions
            .iter()
            .map(|expression| (expression.on, expression_effects(&expression.text)));
        Self {
            view: view.map(effects).unwrap_or_default(),
            updates: view.and_then(updated_through),
            rules: rules.collect(),
            conditions: conditions.collect(),
            expressions: expressions
                .filter(|(_, effects)| !effects.is_empty())
                .collect(),
        }
    }
}

fn constraints(type_: &Type) -> Vec<Effect> {
    let each = type_.constraints.iter();
    each.flat_map(|text| expression_effects(text)).collect()
}

/// Whether a function of the database does nothing that matters, though it is not built in: one
/// that an extension brought and that declares to change nothing, or one that is a built-in under
/// another name.
pub(super) fn is_harmless(function: &Function) -> bool {
    let is_trusted = function.extension.is_some()
        && matches!(&*function.language, "c" | "internal" | "sql")
        && function.volatility != Volatility::Volatile;
    let is_built_in =
        &*function.language == "internal" && function.volatility == Volatility::Immutable;
    is_trusted || is_built_in
}

/// What runs if the function is called, as far as its body shows it.
pub(super) fn body(function: &Function) -> Vec<Effect> {
    let Some(body) = function
        .body
        .as_deref()
        .filter(|_| &*function.language == "sql")
    else {
        return Vec::new();
    };
    let trimmed = body.trim();
    let atomic = trimmed
        .strip_prefix("BEGIN ATOMIC")
        .and_then(|rest| rest.strip_suffix("END"));
    let text = match (atomic, trimmed.strip_prefix("RETURN ")) {
        (Some(inside), _) => inside.to_owned(),
        (None, Some(expression)) => format!("SELECT ({expression})"),
        (None, None) => trimmed.to_owned(),
    };
    // Names in it are looked up in the path of whoever calls it, or in one of its own.
    let statements = profile(&text, &LIMITS).statements.into_iter();
    statements
        .flat_map(|statement| statement.effects)
        .map(|mut effect| {
            place(&mut effect.object, Schema::Any);
            effect
        })
        .collect()
}

/// The effects of a text that the server printed, where a name without a schema is PostgreSQL's
/// own.
fn effects(text: &str) -> Vec<Effect> {
    let statements = profile(text, &LIMITS).statements.into_iter();
    statements
        .flat_map(|statement| statement.effects)
        .filter(|effect| effect.object != Object::Nothing)
        .map(|mut effect| {
            place(&mut effect.object, Schema::Named("pg_catalog".to_owned()));
            effect
        })
        .collect()
}

fn expression_effects(text: &str) -> Vec<Effect> {
    effects(&format!("SELECT ({text})"))
}

/// What a definition does when it acts, of what its CREATE does.
fn acts(effects: Vec<Effect>) -> Vec<Effect> {
    let defines = |effect: &Effect| matches!(effect.class, Class::Create | Class::Alter);
    effects
        .into_iter()
        .filter(|effect| !defines(effect))
        .collect()
}

/// Says where a name is that has no schema.
fn place(object: &mut Object, schema: Schema) {
    let name = match object {
        Object::Table(name) => name,
        Object::Function(function) => &mut function.name,
        Object::Nothing | Object::Other { .. } | Object::Unread(_) => return,
    };
    if name.schema == Schema::Path {
        name.schema = schema;
    }
}

/// The relation that the server changes when a view is changed: that of a FROM with no other.
fn updated_through(view: &str) -> Option<Name> {
    let tree = pg_query::parse(view, 0).ok()?.protobuf;
    let [statement] = tree.stmts.as_slice() else {
        return None;
    };
    let Some(NodeEnum::SelectStmt(select)) = statement.stmt.as_ref()?.node.as_ref() else {
        return None;
    };
    let [from] = select.from_clause.as_slice() else {
        return None;
    };
    match &from.node {
        Some(NodeEnum::RangeVar(relation)) => {
            let schema = if relation.schemaname.is_empty() {
                "pg_catalog".to_owned()
            } else {
                relation.schemaname.clone()
            };
            Some(Name {
                schema: Schema::Named(schema),
                name: Some(relation.relname.clone()),
            })
        }
        _ => None,
    }
}
