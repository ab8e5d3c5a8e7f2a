//! What must happen to data before it leaves: masks by column and by value.
//!
//! Rules say which columns ([`MaskRule`]); [`columns`] finds them in a catalogue; [`plan`] turns a
//! statement's lineage into what is done to its answer ([`MaskPlan`]). Bytes of answers are the
//! appliance's.

pub mod columns;
pub mod detect;
pub mod plan;
pub mod transform;

pub use columns::MaskedColumns;
pub use plan::{ColumnMask, MaskPlan, Outputs};
pub use transform::{Transform, TransformProblem};

use crate::pattern::{ColumnPattern, Pattern};

/// One `[[mask]]` of the policy files, as it applies.
#[derive(Debug)]
pub struct MaskRule {
    pub name: String,
    /// Columns whose values are masked whoever's statement shows them.
    pub columns: Vec<ColumnPattern>,
    /// Values that are masked in whatever column they show.
    pub detect: Detect,
    /// What is done to a value.
    pub with: Transform,
    /// A masked column may not decide what is answered either.
    pub deny_predicates: bool,
    /// Functions that are not built in and are known not to read what is masked.
    pub clear_functions: Vec<Pattern>,
    /// What becomes of a statement whose output can not be traced to columns.
    pub on_lost: OnLost,
}

/// The words that say which values are masked wherever they show.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Detect {
    /// Names of detectors.
    pub names: Vec<String>,
    /// Regular expressions.
    pub patterns: Vec<String>,
    pub words: Vec<String>,
}

impl Detect {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.patterns.is_empty() && self.words.is_empty()
    }
}

/// What becomes of a statement whose output can not be traced to columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnLost {
    #[default]
    Deny,
    /// It runs, and all that it answers is redacted.
    Redact,
}
