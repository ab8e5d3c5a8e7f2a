//! From the rows that describe a database to its [`Catalogue`]. Runs on a worker.

use std::collections::HashMap;
use std::str::FromStr;

use policy::catalogue::{
    Cascade, Cast, Catalogue, Column, Event, Expression, ExpressionOn, Function, FunctionKind,
    Operator, Parts, Qualified, Reference, Relation, RelationKind, Rule, Trigger, Type, TypeKind,
    Volatility,
};

use super::load::{Answers, Section};

/// An answer that is not what the query asks for, or a name that is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Bits of `pg_trigger.tgtype`.
const TRIGGER_EVENTS: [(i16, Event); 4] = [
    (1 << 2, Event::Insert),
    (1 << 3, Event::Delete),
    (1 << 4, Event::Update),
    (1 << 5, Event::Truncate),
];

/// # Errors
/// When one row cannot be read: what it says might have been what matters.
pub(super) fn build(generation: u64, answers: &Answers) -> Result<Catalogue, Malformed> {
    let version = answers.fingerprint().ok_or(Malformed)?;
    let version = version.split(',').next().ok_or(Malformed)?;
    let mut relations = relations(answers)?;
    add_to_relations(answers, &mut relations)?;
    let parts = Parts {
        server_version: number(Some(version))?,
        relations: relations.into_values().collect(),
        functions: each(answers, Section::Functions, function)?,
        operators: each(answers, Section::Operators, |row| {
            Ok(Operator {
                name: row.name(0)?,
                function: row.name(2)?,
            })
        })?,
        types: types(answers)?,
        casts: each(answers, Section::Casts, |row| {
            Ok(Cast {
                source: row.number(0)?,
                target: row.number(1)?,
                function: row.text(2).map(|_| row.name(2)).transpose()?,
                implicit: row.required(4)? != "e",
            })
        })?,
    };
    Ok(Catalogue::new(generation, parts))
}

fn relations(answers: &Answers) -> Result<HashMap<u32, Relation>, Malformed> {
    let relations = each(answers, Section::Relations, |row| {
        let oid = row.number(0)?;
        let relation = Relation {
            oid,
            name: row.name(1)?,
            kind: relation_kind(row.required(3)?)?,
            columns: Vec::new(),
            definition: row.text(4).map(Into::into),
            rules: Vec::new(),
            triggers: Vec::new(),
            parents: Vec::new(),
            cascades: Vec::new(),
            references: Vec::new(),
            expressions: Vec::new(),
            unique_columns: Vec::new(),
        };
        Ok((oid, relation))
    })?;
    Ok(relations.into_iter().collect())
}

/// What is said of a relation that is not there is of one that was dropped meanwhile, or of a kind
/// that has no columns.
fn add_to_relations(
    answers: &Answers,
    relations: &mut HashMap<u32, Relation>,
) -> Result<(), Malformed> {
    let mut add =
        |section, add: &mut dyn FnMut(&mut Relation, &Row<'_>) -> Result<(), Malformed>| {
            for row in answers.rows(section) {
                let row = Row(row.ok_or(Malformed)?);
                if let Some(relation) = relations.get_mut(&row.number(0)?) {
                    add(relation, &row)?;
                }
            }
            Ok(())
        };
    add(Section::Columns, &mut |relation, row| {
        relation.columns.push(Column {
            number: row.number(1)?,
            name: row.required(2)?.into(),
            type_oid: row.number(3)?,
        });
        Ok(())
    })?;
    add(Section::Parents, &mut |relation, row| {
        relation.parents.push(row.number(1)?);
        Ok(())
    })?;
    add(Section::Rules, &mut |relation, row| {
        relation.rules.push(Rule {
            event: match row.required(1)? {
                "1" => Event::Select,
                "2" => Event::Update,
                "3" => Event::Insert,
                "4" => Event::Delete,
                _ => return Err(Malformed),
            },
            definition: row.required(2)?.into(),
        });
        Ok(())
    })?;
    add(Section::Triggers, &mut |relation, row| {
        let bits: i16 = row.number(1)?;
        relation.triggers.push(Trigger {
            events: TRIGGER_EVENTS
                .iter()
                .filter(|(bit, _)| bits & bit != 0)
                .map(|(_, event)| *event)
                .collect(),
            function: row.name(2)?,
            condition: row.text(4).map(Into::into),
        });
        Ok(())
    })?;
    add(Section::Expressions, &mut |relation, row| {
        relation.expressions.push(Expression {
            on: match row.required(1)? {
                "a" => ExpressionOn::Any,
                _ => ExpressionOn::Write,
            },
            text: row.required(2)?.into(),
        });
        Ok(())
    })?;
    add(Section::UniqueColumns, &mut |relation, row| {
        // 0 is an expression.
        let columns: Vec<i16> = list(row.required(1)?, ' ')?;
        let columns = columns.into_iter().filter(|column| *column != 0);
        relation.unique_columns.extend(columns);
        Ok(())
    })?;
    for row in answers.rows(Section::ForeignKeys) {
        foreign_key(&Row(row.ok_or(Malformed)?), relations)?;
    }
    for relation in relations.values_mut() {
        relation.unique_columns.sort_unstable();
        relation.unique_columns.dedup();
    }
    Ok(())
}

fn foreign_key(row: &Row<'_>, relations: &mut HashMap<u32, Relation>) -> Result<(), Malformed> {
    let (child, parent) = (row.number(0)?, row.number(1)?);
    let does = |action: &str, set: Event, cascade: Event| match action {
        "c" => Ok(Some(cascade)),
        "n" | "d" => Ok(Some(set)),
        "a" | "r" => Ok(None),
        _ => Err(Malformed),
    };
    let on_update = does(row.required(2)?, Event::Update, Event::Update)?;
    let on_delete = does(row.required(3)?, Event::Update, Event::Delete)?;
    let columns = list(row.required(4)?.trim_matches(['{', '}']), ',')?;
    let referenced = list(row.required(5)?.trim_matches(['{', '}']), ',')?;
    if let Some(child) = relations.get_mut(&child) {
        child.references.push(Reference {
            columns,
            relation: parent,
            referenced,
        });
    }
    if let Some(parent) = relations.get_mut(&parent) {
        let actions = [(Event::Update, on_update), (Event::Delete, on_delete)];
        for (on, does) in actions {
            parent.cascades.extend(does.map(|does| Cascade {
                on,
                does,
                relation: child,
            }));
        }
    }
    Ok(())
}

fn function(row: &Row<'_>) -> Result<Function, Malformed> {
    let variadic: u32 = row.number(4)?;
    let kind = match row.required(7)? {
        "f" => FunctionKind::Function,
        "p" => FunctionKind::Procedure,
        "a" => FunctionKind::Aggregate,
        "w" => FunctionKind::Window,
        _ => return Err(Malformed),
    };
    let volatility = match row.required(9)? {
        "i" => Volatility::Immutable,
        "s" => Volatility::Stable,
        "v" => Volatility::Volatile,
        _ => return Err(Malformed),
    };
    Ok(Function {
        name: row.name(0)?,
        arguments: list(row.required(2)?, ' ')?,
        defaults: row.number(3)?,
        variadic: variadic != 0,
        returns: row.number(5)?,
        returns_set: row.required(6)? == "t",
        kind,
        language: row.required(8)?.into(),
        volatility,
        security_definer: row.required(10)? == "t",
        extension: row.text(11).map(Into::into),
        body: row.text(12).map(Into::into),
        outputs: outputs(row)?,
    })
}

/// Names and types of OUT, INOUT and TABLE arguments.
fn outputs(row: &Row<'_>) -> Result<Vec<(Box<str>, u32)>, Malformed> {
    let array = |column: usize| -> Result<Vec<String>, Malformed> {
        let text = row.text(column).unwrap_or("[]");
        serde_json::from_str(text).map_err(|_| Malformed)
    };
    let (types, modes, names) = (array(13)?, array(14)?, array(15)?);
    let mut outputs = Vec::new();
    for (index, (type_, mode)) in types.iter().zip(&modes).enumerate() {
        if matches!(mode.as_str(), "o" | "b" | "t") {
            let name = names.get(index).map_or("", String::as_str);
            outputs.push((name.into(), number(Some(type_))?));
        }
    }
    Ok(outputs)
}

fn types(answers: &Answers) -> Result<Vec<Type>, Malformed> {
    let mut constraints: HashMap<u32, Vec<Box<str>>> = HashMap::new();
    for row in answers.rows(Section::DomainConstraints) {
        let row = Row(row.ok_or(Malformed)?);
        let of = constraints.entry(row.number(0)?).or_default();
        of.push(row.required(1)?.into());
    }
    each(answers, Section::Types, |row| {
        let oid = row.number(0)?;
        let element: u32 = row.number(5)?;
        let kind = match row.required(3)? {
            "d" => TypeKind::Domain {
                base: row.number(7)?,
            },
            "e" => TypeKind::Enum,
            "c" => TypeKind::Composite {
                relation: row.number(4)?,
            },
            "r" => TypeKind::Range {
                subtype: row.number(8)?,
            },
            "b" if row.required(6)? == "A" && element != 0 => TypeKind::Array { element },
            _ => TypeKind::Base,
        };
        Ok(Type {
            oid,
            name: row.name(1)?,
            kind,
            constraints: constraints.remove(&oid).unwrap_or_default(),
        })
    })
}

fn relation_kind(code: &str) -> Result<RelationKind, Malformed> {
    Ok(match code {
        "r" => RelationKind::Table,
        "p" => RelationKind::Partitioned,
        "v" => RelationKind::View,
        "m" => RelationKind::MaterialisedView,
        "f" => RelationKind::Foreign,
        "S" => RelationKind::Sequence,
        "c" => RelationKind::Composite,
        _ => return Err(Malformed),
    })
}

/// One row of a section.
struct Row<'a>(Vec<Option<&'a str>>);

impl<'a> Row<'a> {
    fn text(&self, column: usize) -> Option<&'a str> {
        self.0.get(column).copied().flatten()
    }

    fn required(&self, column: usize) -> Result<&'a str, Malformed> {
        self.text(column).ok_or(Malformed)
    }

    fn number<N: FromStr>(&self, column: usize) -> Result<N, Malformed> {
        number(self.text(column))
    }

    /// The schema in `column` and the name after it.
    fn name(&self, column: usize) -> Result<Qualified, Malformed> {
        Ok(Qualified {
            schema: self.required(column)?.into(),
            name: self.required(column + 1)?.into(),
        })
    }
}

fn each<T>(
    answers: &Answers,
    section: Section,
    mut make: impl FnMut(&Row<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let rows = answers.rows(section);
    rows.map(|row| make(&Row(row.ok_or(Malformed)?))).collect()
}

fn number<N: FromStr>(text: Option<&str>) -> Result<N, Malformed> {
    text.and_then(|text| text.parse().ok()).ok_or(Malformed)
}

fn list<N: FromStr>(text: &str, separator: char) -> Result<Vec<N>, Malformed> {
    let parts = text.split(separator).filter(|part| !part.is_empty());
    parts.map(|part| number(Some(part))).collect()
}
