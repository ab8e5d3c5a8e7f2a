//! What can be reached, by name; never how.

/// A configured destination as policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As in the configuration's `[[target]]`; compared with a rule's `targets` byte for byte.
    pub name: String,
}
