//! Which databases of its servers a target stands for.

use policy::DatabasePattern;

/// The databases of one target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Databases {
    /// The one that the target's own name stands for.
    pub own: Option<String>,
    /// Others, which agents ask for by their names at the server.
    pub patterns: Vec<DatabasePattern>,
}

impl Databases {
    /// The one database of a target without patterns.
    pub fn one(name: impl Into<String>) -> Self {
        Self {
            own: Some(name.into()),
            patterns: Vec::new(),
        }
    }

    /// Whether a connection to `database` is one of this target's.
    pub(super) fn contains(&self, database: &str) -> bool {
        self.own.as_deref() == Some(database) || self.matches(database)
    }

    /// Whether `asked` is the name of a database that a pattern stands for.
    pub fn matches(&self, asked: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(asked))
    }
}
