//! Which columns a statement's effects are about, as far as its lineage says.

use std::collections::BTreeSet;

use crate::catalogue::{Catalogue, Relation};
use crate::class::Class;
use crate::sql::lineage::{ColumnId, Lineage};
use crate::sql::{ColumnUse, Name, Object, Schema, StatementProfile};

/// The columns that the effects of class `select`, `insert` and `update` are about; `None` where
/// lineage does not say it all.
///
/// Not fewer than the server would ask rights for, and those of views with what is beneath.
#[must_use]
pub fn column_uses(
    profile: &StatementProfile,
    lineage: &Lineage,
    catalogue: &Catalogue,
) -> Option<Vec<ColumnUse>> {
    if !lineage.lost.is_empty() || lineage.referenced.contains(&ColumnId::ANY) {
        return None;
    }
    let mut found = BTreeSet::new();
    for id in &lineage.referenced {
        found.insert((Class::Select, id.relation, id.number));
    }
    for id in &lineage.written {
        found.insert((Class::Insert, id.relation, id.number));
        found.insert((Class::Update, id.relation, id.number));
    }
    for effect in &profile.effects {
        let Object::Table(name) = &effect.object else {
            continue;
        };
        if matches!(effect.class, Class::Select | Class::Insert | Class::Update) {
            // What the statement names and its lineage does not follow is touched as a whole.
            for relation in named(name, catalogue)? {
                if !lineage.relations.contains(&relation.oid) {
                    found.insert((effect.class, relation.oid, 0));
                }
            }
        }
    }
    // Relation 0 is none, and what system columns say is no value.
    let found = found
        .into_iter()
        .filter(|(_, relation, number)| *relation != 0 && *number >= 0);
    found
        .map(|(class, relation, number)| {
            let relation = catalogue.relation(relation)?;
            let column = relation.column(number);
            Some(ColumnUse {
                class,
                schema: relation.name.schema.to_string(),
                table: relation.name.name.to_string(),
                column: column.map(|column| column.name.to_string()),
            })
        })
        .collect()
}

/// `None` where any table may be meant.
fn named<'c>(name: &Name, catalogue: &'c Catalogue) -> Option<Vec<&'c Relation>> {
    let word = name.name.as_deref()?;
    let same = catalogue.relations_named(word);
    Some(match &name.schema {
        Schema::Named(schema) => same.filter(|r| *r.name.schema == **schema).collect(),
        Schema::Path | Schema::Any => same.collect(),
    })
}
