//! Which columns of a database are masked, by the patterns of the rules.
//!
//! Patterns name columns of tables and views; inheritance spreads a mask to parents and children,
//! since the rows of one are read through the other.

use std::collections::{BTreeSet, HashMap};

use super::{MaskRule, OnLost, Transform};
use crate::catalogue::{Catalogue, Relation};
use crate::pattern::{Candidate, Pattern};
use crate::sql::lineage::{Called, ColumnId};

/// The masked columns of one catalogue under one set of masks.
///
/// Scope: per catalogue and set of masks; immutable.
#[derive(Debug, Default)]
pub struct MaskedColumns {
    columns: HashMap<ColumnId, MaskedColumn>,
    relations: BTreeSet<u32>,
    /// Every relation of the catalogue, sorted.
    known: Box<[u32]>,
    unmatched: Vec<(String, String)>,
    /// What is done to a value that may be of any column, if any is masked.
    any: Option<MaskedColumn>,
    /// Of each mask, the functions that may be given what it masks.
    clear: Vec<Vec<Pattern>>,
    /// What becomes of statements that can not be traced: the stricter of all masks.
    pub(super) on_lost: OnLost,
}

/// What is done to one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedColumn {
    pub with: Transform,
    pub deny_predicates: bool,
    /// The first mask that names it.
    pub mask: String,
    /// `schema.table.column`, for messages.
    pub name: String,
}

impl MaskedColumns {
    /// Finds the columns that `masks` name.
    ///
    /// Of several masks on one column the stricter counts.
    pub fn find<'m>(masks: impl Iterator<Item = &'m MaskRule>, catalogue: &Catalogue) -> Self {
        let mut found = Self {
            on_lost: OnLost::Redact,
            ..Self::default()
        };
        for mask in masks.filter(|mask| !mask.columns.is_empty()) {
            if mask.on_lost == OnLost::Deny {
                found.on_lost = OnLost::Deny;
            }
            found.clear.push(mask.clear_functions.clone());
            let mut named = vec![false; mask.columns.len()];
            for relation in catalogue.relations() {
                found.find_in(mask, relation, &mut named);
            }
            for (pattern, named) in mask.columns.iter().zip(named) {
                if !named {
                    let unmatched = (mask.name.clone(), pattern.to_string());
                    found.unmatched.push(unmatched);
                }
            }
        }
        let mut known: Vec<u32> = catalogue.relations().map(|relation| relation.oid).collect();
        known.sort_unstable();
        found.known = known.into();
        found.spread(catalogue);
        found.relations = found.columns.keys().map(|column| column.relation).collect();
        let first = found.columns.iter().min_by_key(|(id, _)| **id);
        found.any = first.map(|(_, first)| MaskedColumn {
            with: Transform::Redact,
            deny_predicates: found.columns.values().any(|masked| masked.deny_predicates),
            mask: first.mask.clone(),
            name: "what may be a value of any table".to_owned(),
        });
        found
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// What is done to a column.
    ///
    /// For a whole row (number 0) one of its masked columns answers, one that may not decide
    /// before others. A value of unknown origin (relation 0) is redacted when anything is masked.
    #[must_use]
    pub fn column(&self, column: ColumnId) -> Option<&MaskedColumn> {
        if column.relation == 0 {
            return self.any.as_ref();
        }
        if column.number == 0 {
            return self
                .columns
                .iter()
                .filter(|(id, _)| id.relation == column.relation)
                .min_by_key(|(id, masked)| (!masked.deny_predicates, **id))
                .map(|(_, masked)| masked);
        }
        self.columns.get(&column)
    }

    /// Whether every mask says that a function leaves alone what it masks.
    #[must_use]
    pub fn is_clear(&self, call: &Called) -> bool {
        let candidate = Candidate {
            schema: call.schema.as_deref(),
            name: Some(&call.name),
        };
        self.clear.iter().all(|patterns| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| pattern.must_match(candidate))
        })
    }

    /// Whether the catalogue has the relation. Of another one nobody knows what is masked.
    #[must_use]
    pub fn knows(&self, relation: u32) -> bool {
        self.known.binary_search(&relation).is_ok()
    }

    /// Whether the relation has a masked column.
    #[must_use]
    pub fn touches(&self, relation: u32) -> bool {
        self.relations.contains(&relation)
    }

    /// Patterns that name no column of the catalogue, with the mask that each is of: a slip of the
    /// pen, a column that was renamed since, or a mask that is about another database.
    #[must_use]
    pub fn unmatched(&self) -> &[(String, String)] {
        &self.unmatched
    }

    /// Notes in `named` which patterns of the mask name something here.
    fn find_in(&mut self, mask: &MaskRule, relation: &Relation, named: &mut [bool]) {
        let (schema, table) = (&relation.name.schema, &relation.name.name);
        for column in &relation.columns {
            let mut is_named = false;
            for (pattern, named) in mask.columns.iter().zip(named.iter_mut()) {
                let matches = pattern.matches(schema, table, &column.name);
                *named |= matches;
                is_named |= matches;
            }
            if is_named {
                let id = ColumnId {
                    relation: relation.oid,
                    number: column.number,
                };
                self.add(
                    id,
                    MaskedColumn {
                        with: mask.with.clone(),
                        deny_predicates: mask.deny_predicates,
                        mask: mask.name.clone(),
                        name: format!("{schema}.{table}.{}", column.name),
                    },
                );
            }
        }
    }

    /// Returns whether anything changed.
    fn add(&mut self, id: ColumnId, masked: MaskedColumn) -> bool {
        match self.columns.get_mut(&id) {
            None => {
                self.columns.insert(id, masked);
                true
            }
            Some(known) => {
                let with = known.with.clone().stricter(masked.with);
                let deny_predicates = known.deny_predicates || masked.deny_predicates;
                let changes = with != known.with || deny_predicates != known.deny_predicates;
                known.with = with;
                known.deny_predicates = deny_predicates;
                changes
            }
        }
    }

    /// Masks columns of children like those of their parents, and the other way round.
    ///
    /// Ends, since a column only ever gets stricter, and there are few degrees.
    fn spread(&mut self, catalogue: &Catalogue) {
        let mut changed = true;
        while changed {
            changed = false;
            for child in catalogue.relations() {
                let parents = child.parents.iter();
                for parent in parents.filter_map(|oid| catalogue.relation(*oid)) {
                    changed |= self.spread_between(parent, child);
                }
            }
        }
    }

    fn spread_between(&mut self, parent: &Relation, child: &Relation) -> bool {
        let mut changed = false;
        for column in &parent.columns {
            let Some(inherited) = child.column_named(&column.name) else {
                continue;
            };
            let above = ColumnId {
                relation: parent.oid,
                number: column.number,
            };
            let below = ColumnId {
                relation: child.oid,
                number: inherited.number,
            };
            if let Some(masked) = self.columns.get(&above).cloned() {
                changed |= self.add(below, masked);
            }
            if let Some(masked) = self.columns.get(&below).cloned() {
                changed |= self.add(above, masked);
            }
        }
        changed
    }
}
