//! From a statement's lineage to what is done to its answer, or why it can not run.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::columns::MaskedColumn;
use super::{MaskedColumns, OnLost, Transform};
use crate::decision::{Refusal, RefusalKind};
use crate::sql::lineage::{Called, ColumnId, Decides, Escapes, Held, Lineage, Lost, Output};

/// What is done to the answer of one statement.
#[derive(Debug, Clone)]
pub struct MaskPlan {
    pub outputs: Outputs,
    /// Texts of the server about this statement may quote a masked value.
    pub withholds_texts: bool,
    /// The second signal: what the server says of where a column of the answer comes from.
    pub columns: Arc<MaskedColumns>,
}

/// What is done to the columns of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outputs {
    /// By position. An answer with another number of columns is redacted whole.
    Each(Vec<ColumnMask>),
    /// Every column there is.
    All(Transform),
}

/// What is done to one column of an answer: `None` where it is shown as it is.
pub type ColumnMask = Option<Transform>;

impl MaskPlan {
    /// What is done to the answer of a statement of this lineage.
    ///
    /// EXECUTE and FETCH answer with the rows of another statement, whose plan the caller has kept;
    /// the plan made here redacts them whole.
    ///
    /// # Errors
    /// Why the statement can not run: it would show, store, send or decide by what is masked in a
    /// way that no change of its answer undoes.
    pub fn make(lineage: &Lineage, columns: &Arc<MaskedColumns>) -> Result<Self, Refusal> {
        let judged = Judged::new(lineage, columns);
        if let Some(refusal) = judged.refused() {
            return Err(refusal);
        }
        // The rows of another statement, of which this plan knows nothing.
        let is_elsewhere = matches!(lineage.held, Some(Held::Executes(_) | Held::Fetches(_)));
        let is_lost = is_elsewhere || judged.lost().is_some();
        let outputs = if is_lost {
            Outputs::All(Transform::Redact)
        } else {
            let each = lineage.outputs.iter().flatten();
            Outputs::Each(each.map(|output| judged.mask_of(output)).collect())
        };
        Ok(Self {
            outputs,
            withholds_texts: is_lost || judged.may_quote(),
            columns: Arc::clone(columns),
        })
    }
}

/// A lineage under the masks of a session.
struct Judged<'l> {
    lineage: &'l Lineage,
    columns: &'l MaskedColumns,
    /// Which of its calls are known to leave alone what is masked.
    clear: Vec<bool>,
}

impl<'l> Judged<'l> {
    fn new(lineage: &'l Lineage, columns: &'l MaskedColumns) -> Self {
        let calls = lineage.calls.iter();
        Self {
            lineage,
            columns,
            clear: calls.map(|call| columns.is_clear(call)).collect(),
        }
    }

    fn column(&self, id: ColumnId) -> Option<&'l MaskedColumn> {
        let is_clear = id
            .call()
            .is_some_and(|index| self.clear.get(index) == Some(&true));
        if is_clear {
            return None;
        }
        self.columns.column(id)
    }

    fn opaque_calls(&self) -> impl Iterator<Item = &'l Called> {
        let calls = self.lineage.calls.iter().zip(&self.clear);
        calls.filter(|(_, clear)| !**clear).map(|(call, _)| call)
    }

    /// Why it may show more than its lineage says, if what is masked may be behind that.
    fn lost(&self) -> Option<&'l Lost> {
        if self.columns.is_empty() {
            return None;
        }
        self.lineage.lost.iter().find(|lost| {
            lost.relations.as_ref().is_none_or(|some| {
                let mut some = some.iter();
                some.any(|oid| self.columns.touches(*oid))
            })
        })
    }

    /// Whether texts of the server about it may quote what is masked.
    fn may_quote(&self) -> bool {
        if self.columns.is_empty() {
            return false;
        }
        self.lineage.runs_attached_code
            || self.opaque_calls().next().is_some()
            || self.lineage.referenced.contains(&ColumnId::ANY)
            || self
                .lineage
                .relations
                .iter()
                .any(|oid| self.columns.touches(*oid))
    }

    fn mask_of(&self, output: &Output) -> ColumnMask {
        let mut masks = output
            .sources
            .iter()
            .filter_map(|source| self.column(*source))
            .map(|masked| masked.with.clone());
        let first = masks.next()?;
        let strictest = masks.fold(first, Transform::stricter);
        // Security: what shows a part of a value shows another part of each value derived from it.
        let is_one_column = output.untouched && output.sources.iter().all(|id| id.number != 0);
        if strictest.is_revealing() && !is_one_column {
            return Some(Transform::Redact);
        }
        Some(strictest)
    }

    fn refused(&self) -> Option<Refusal> {
        if self.columns.is_empty() {
            return None;
        }
        if let Some(lost) = self.lost()
            && self.columns.on_lost == OnLost::Deny
        {
            return Some(refusal(
                None,
                format!(
                    "what this would show can not be traced to columns: {}",
                    lost.reason
                ),
                "name the columns that you need in a plain SELECT".to_owned(),
            ));
        }
        if let Some(refusal) = self.refused_for_call() {
            return Some(refusal);
        }
        if let Some((id, how)) = self.first(&self.lineage.escaping, |_| true) {
            let what = match how {
                Escapes::Stored => "may not be stored elsewhere",
                Escapes::Sent => "may not be sent elsewhere",
            };
            return Some(about(self.columns, id, what, "leave it out"));
        }
        let redefined = self.lineage.redefined.iter();
        if let Some(oid) = redefined.copied().find(|oid| self.columns.touches(*oid)) {
            let id = ColumnId {
                relation: oid,
                number: 0,
            };
            return Some(about(
                self.columns,
                id,
                "may not get another definition",
                "ask an operator whom no mask is about",
            ));
        }
        let by_predicate = self.first(&self.lineage.deciding, |masked| masked.deny_predicates);
        by_predicate.map(|(id, how)| {
            about(
                self.columns,
                id,
                &format!("may not decide ({})", place(how)),
                "use a column that is not masked",
            )
        })
    }

    /// A function that nobody looked into may show, keep and send what it is given, and what it
    /// reads by itself.
    fn refused_for_call(&self) -> Option<Refusal> {
        for call in self.opaque_calls() {
            let name = match &call.schema {
                Some(schema) => format!("{schema}.{}", call.name),
                None => call.name.to_string(),
            };
            let given = call.given.iter().find(|id| self.column(**id).is_some());
            if let Some(id) = given {
                let what = format!("may not be given to {name}(), which is not built in");
                return Some(about(self.columns, *id, &what, "leave it out"));
            }
            if self.columns.on_lost == OnLost::Deny {
                return Some(refusal(
                    None,
                    format!(
                        "what this would show can not be traced to columns: {name}() is not built in"
                    ),
                    format!("leave it out, or ask for {name} in the mask's clear_functions"),
                ));
            }
        }
        None
    }

    fn first<T: Copy>(
        &self,
        set: &'l BTreeSet<(ColumnId, T)>,
        test: impl Fn(&MaskedColumn) -> bool,
    ) -> Option<(ColumnId, T)> {
        let mut all = set.iter();
        all.find(|(id, _)| self.column(*id).is_some_and(&test))
            .copied()
    }
}

fn about(columns: &MaskedColumns, id: ColumnId, what: &str, hint: &str) -> Refusal {
    let (mask, name) = match columns.column(id) {
        Some(masked) => (Some(masked.mask.clone()), masked.name.as_str()),
        None => (None, "a column"),
    };
    refusal(
        mask,
        format!("{name} is masked for you and {what}"),
        hint.to_owned(),
    )
}

fn refusal(mask: Option<String>, message: String, hint: String) -> Refusal {
    Refusal {
        kind: RefusalKind::Masked,
        rule: mask,
        message,
        hint,
        class: None,
        object: String::new(),
        statement: 0,
    }
}

fn place(how: Decides) -> &'static str {
    match how {
        Decides::Where => "WHERE",
        Decides::Join => "JOIN",
        Decides::GroupBy => "GROUP BY",
        Decides::OrderBy => "ORDER BY",
        Decides::Having => "HAVING",
        Decides::Distinct => "DISTINCT",
        Decides::Window => "a window",
        Decides::Condition => "a condition",
        Decides::Limit => "LIMIT",
        Decides::SetOperation => "UNION, INTERSECT or EXCEPT",
        Decides::Constraint => "a constraint",
        Decides::Failure => "a computation that may fail",
    }
}
