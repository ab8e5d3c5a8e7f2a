//! From a statement's lineage to what is done to its answer, or why it can not run.

use std::sync::Arc;

use super::{MaskedColumns, OnLost, Transform};
use crate::decision::{Refusal, RefusalKind};
use crate::sql::lineage::{ColumnId, Decides, Escapes, Lineage, Output};

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
    /// # Errors
    /// Why the statement can not run: it would show, store, send or decide by what is masked in a
    /// way that no change of its answer undoes.
    pub fn make(lineage: &Lineage, columns: &Arc<MaskedColumns>) -> Result<Self, Refusal> {
        if let Some(refusal) = refused(lineage, columns) {
            return Err(refusal);
        }
        let is_lost = lineage.lost.iter().any(|lost| {
            lost.relations
                .as_ref()
                .is_none_or(|some| some.iter().any(|oid| columns.touches(*oid)))
        });
        let outputs = if is_lost && !columns.is_empty() {
            Outputs::All(Transform::Redact)
        } else {
            let each = lineage.outputs.iter().flatten();
            Outputs::Each(each.map(|output| mask_of(output, columns)).collect())
        };
        let touches = |oid: &u32| columns.touches(*oid);
        Ok(Self {
            outputs,
            withholds_texts: (is_lost && !columns.is_empty())
                || lineage.relations.iter().any(touches),
            columns: Arc::clone(columns),
        })
    }
}

fn mask_of(output: &Output, columns: &MaskedColumns) -> ColumnMask {
    let mut masks = output
        .sources
        .iter()
        .filter_map(|source| columns.column(*source))
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

fn refused(lineage: &Lineage, columns: &MaskedColumns) -> Option<Refusal> {
    if columns.is_empty() {
        return None;
    }
    let lost = lineage.lost.iter().find(|lost| {
        lost.relations
            .as_ref()
            .is_none_or(|some| some.iter().any(|oid| columns.touches(*oid)))
    });
    if let Some(lost) = lost
        && columns.on_lost == OnLost::Deny
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
    if let Some((id, how)) = first(&lineage.escaping, columns, |_| true) {
        let what = match how {
            Escapes::Stored => "be stored elsewhere",
            Escapes::Sent => "be sent elsewhere",
            Escapes::Code => "be given to a function that is not built in",
        };
        return Some(about(
            columns,
            id,
            &format!("may not {what}"),
            "leave it out",
        ));
    }
    let redefined = lineage.redefined.iter().find(|oid| columns.touches(**oid));
    if let Some(oid) = redefined {
        let id = ColumnId {
            relation: *oid,
            number: 0,
        };
        return Some(about(
            columns,
            id,
            "may not get another definition",
            "ask an operator whom no mask is about",
        ));
    }
    let by_predicate = first(&lineage.deciding, columns, |id| {
        columns
            .column(id)
            .is_some_and(|masked| masked.deny_predicates)
    });
    by_predicate.map(|(id, how)| {
        about(
            columns,
            id,
            &format!("may not decide ({})", place(how)),
            "use a column that is not masked",
        )
    })
}

fn first<T: Copy>(
    set: &std::collections::BTreeSet<(ColumnId, T)>,
    columns: &MaskedColumns,
    test: impl Fn(ColumnId) -> bool,
) -> Option<(ColumnId, T)> {
    let mut masked = set.iter().filter(|(id, _)| columns.column(*id).is_some());
    masked.find(|(id, _)| test(*id)).copied()
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
    }
}
