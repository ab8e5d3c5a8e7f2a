//! From what a text does with columns to what is done to its answers, or why it can not run.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use policy::catalogue::Catalogue;
use policy::mask::{MaskPlan, MaskedColumns};
use policy::sql::lineage::Lineage;
use policy::sql::postgres::{ProfileLimits, lineage};
use policy::{Permit, Policy, Refusal, RefusalKind, Version};

use super::Plans;

/// Longest text whose columns are traced.
///
/// Bytes. It happens on the shard; one of this length takes it some 30 ms.
const TRACED_TEXT_MAX: usize = 256 * 1024;

/// Policies and catalogues of which it is kept that they were warned of. Forgetting them costs a
/// few lines of the log.
const WARNED_MAX: usize = 1024;

/// The columns that are masked for who has some permit, in one catalogue.
pub(in crate::protocols::postgres) enum Columns {
    /// No mask names columns.
    None,
    /// Masks name columns, and nobody knows which there are.
    Unknown,
    Known(Arc<MaskedColumns>),
}

/// A text and what is known of its surroundings.
pub(in crate::protocols::postgres) struct Traced<'t> {
    pub(in crate::protocols::postgres) text: &'t str,
    /// How many statements it has.
    pub(in crate::protocols::postgres) statements: usize,
    /// It names something that the database holds.
    pub(in crate::protocols::postgres) names_objects: bool,
    pub(in crate::protocols::postgres) catalogue: Option<&'t Catalogue>,
    /// The session has changed what the database holds.
    pub(in crate::protocols::postgres) unsettled: bool,
    pub(in crate::protocols::postgres) search_path: Option<&'t [String]>,
}

impl Columns {
    pub(in crate::protocols::postgres) fn find(
        policy: &Policy,
        permit: &Permit,
        catalogue: Option<&Catalogue>,
    ) -> Self {
        let by_column = || policy.masks(permit).filter(|mask| !mask.columns.is_empty());
        if by_column().next().is_none() {
            return Self::None;
        }
        match catalogue {
            Some(catalogue) => {
                let columns = MaskedColumns::find(by_column(), catalogue);
                warn_of_unmatched(&columns, policy, catalogue);
                Self::Known(Arc::new(columns))
            }
            None => Self::Unknown,
        }
    }
}

impl Traced<'_> {
    /// What is done to the answer of each statement; `None` where no mask names columns.
    pub(in crate::protocols::postgres) fn plans(
        &self,
        columns: &Columns,
    ) -> Result<Option<Plans>, Refusal> {
        let columns = match columns {
            Columns::None => return Ok(None),
            // Security: without a catalogue nothing is known to be clear. What names nothing runs,
            // and what it answers is redacted.
            Columns::Unknown if self.names_objects => return Err(no_catalogue()),
            Columns::Unknown => return Ok(None),
            Columns::Known(columns) => columns,
        };
        let plans = self.lineages().into_iter().enumerate();
        let plans: Result<Vec<_>, _> = plans
            .map(|(index, lineage)| match MaskPlan::make(&lineage, columns) {
                Ok(plan) => Ok(Rc::new(plan)),
                Err(refusal) => Err(Refusal {
                    statement: index,
                    ..refusal
                }),
            })
            .collect();
        Ok(Some(plans?.into()))
    }

    /// As many as there are statements.
    pub(in crate::protocols::postgres) fn lineages(&self) -> Vec<Lineage> {
        let unknown = |reason: &str| vec![Lineage::unknown(reason.to_owned()); self.statements];
        let Some(catalogue) = self.catalogue else {
            return unknown("the target's catalogue is not known");
        };
        if self.text.len() > TRACED_TEXT_MAX {
            return unknown("the text is too long");
        }
        if self.unsettled && self.names_objects {
            return unknown("this session has changed the schema and has not committed");
        }
        let limits = ProfileLimits::default();
        let found = lineage(self.text, catalogue, self.search_path, &limits);
        if found.len() != self.statements {
            return unknown("its statements can not be told apart");
        }
        found
    }
}

thread_local! {
    /// Per shard: of which policies and catalogues the operator was told.
    static WARNED: RefCell<HashSet<(Version, u64)>> = RefCell::default();
}

/// Tells the operator which masks hide nothing here: a slip of the pen, a column that was renamed
/// since, or a mask that is about another database.
fn warn_of_unmatched(columns: &MaskedColumns, policy: &Policy, catalogue: &Catalogue) {
    let is_new = WARNED.with_borrow_mut(|warned| {
        if warned.len() >= WARNED_MAX {
            warned.clear();
        }
        warned.insert((policy.version(), catalogue.generation()))
    });
    if !is_new {
        return;
    }
    for (mask, pattern) in columns.unmatched() {
        tracing::warn!(mask, pattern, "a mask names no column of the database");
    }
}

fn no_catalogue() -> Refusal {
    Refusal {
        kind: RefusalKind::Masked,
        rule: None,
        message: "columns are masked for you, and which the target has is not known".to_owned(),
        hint: "ask an operator to let Sallyport read the target's catalogue".to_owned(),
        class: None,
        object: String::new(),
        statement: 0,
    }
}
