//! Who may do what to which target. So far an empty policy, which admits nobody.

#![forbid(unsafe_code)]

mod principal;
mod target;

pub use principal::{Actor, Principal, Proof};
pub use target::Target;

/// A policy file as read.
#[derive(Debug, Clone)]
pub struct Source {
    pub file: String,
    pub text: String,
}

/// One mistake in a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub message: String,
    pub suggestion: Option<String>,
}

/// The compiled rules in force.
#[derive(Debug)]
pub struct Policy {}

/// A policy and what is odd about it.
#[derive(Debug)]
pub struct Compiled {
    pub policy: Policy,
    pub warnings: Vec<Problem>,
}

impl Policy {
    /// Compiles rules for the targets of these names.
    ///
    /// # Errors
    /// Every source: rules cannot be compiled yet, and must not be ignored.
    pub fn compile(sources: &[Source], _known_targets: &[&str]) -> Result<Compiled, Vec<Problem>> {
        if sources.is_empty() {
            return Ok(Compiled {
                policy: Self {},
                warnings: Vec::new(),
            });
        }
        let refuse = |source: &Source| Problem {
            file: source.file.clone(),
            line: 1,
            column: 1,
            message: "rules cannot be compiled yet".to_owned(),
            suggestion: None,
        };
        Err(sources.iter().map(refuse).collect())
    }
}
