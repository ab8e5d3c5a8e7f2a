//! What can be reached, by name; never how.

use std::fmt;

use crate::pattern::NAME_BYTES;

/// Stands between a target and one of its databases. No name of a target contains it.
pub const DATABASE_SEPARATOR: char = '/';

/// A configured destination as policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As in the configuration's `[[target]]`; compared with a rule's `targets` byte for byte.
    pub name: String,
    /// Which of a target's many databases; `None` where it has one.
    pub database: Option<String>,
}

/// A configured target, as rules may name it.
#[derive(Debug, Clone, Copy)]
pub struct KnownTarget<'k> {
    pub name: &'k str,
    /// Databases that a rule may name one of, as `TARGET/DATABASE`.
    pub databases: &'k [DatabasePattern],
}

/// A pattern for names of databases.
///
/// Shape: `*` stands for any run of characters, none included; everything else for itself, with
/// its case, as the server compares names of databases. It matches no name that is longer than
/// the server keeps: that would be cut there, to one that was never compared with the pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabasePattern(String);

impl Target {
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            database: None,
        }
    }

    /// One of the databases of a target that has many.
    #[must_use]
    pub fn database(self, database: impl Into<String>) -> Self {
        Self {
            database: Some(database.into()),
            ..self
        }
    }

    /// What a rule calls just this database, where the target has many.
    pub(crate) fn with_database(&self) -> Option<String> {
        self.database.as_ref().map(|_| self.to_string())
    }
}

impl fmt::Display for DatabasePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Target {
    /// `TARGET`, or `TARGET/DATABASE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.database {
            None => f.write_str(&self.name),
            Some(database) => write!(f, "{}{DATABASE_SEPARATOR}{database}", self.name),
        }
    }
}

impl DatabasePattern {
    /// `None` for what could never be the name of a database.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        is_name(text).then(|| Self(text.to_owned()))
    }

    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if !is_name(name) {
            return false;
        }
        let Some((prefix, rest)) = self.0.split_once('*') else {
            return self.0 == name;
        };
        let Some(mut name) = name.strip_prefix(prefix) else {
            return false;
        };
        let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
        // The first place is as good as any: what follows may begin with anything.
        for part in middle.split('*') {
            match name.find(part) {
                Some(at) => name = name.get(at + part.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        name.ends_with(suffix)
    }
}

/// Control characters are legal in names of databases, and would forge lines of our own output.
fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        let cases = [
            ("app", "app", true),
            ("app", "apps", false),
            ("app", "App", false),
            ("app_*", "app_", true),
            ("app_*", "app_eu", true),
            ("app_*", "xapp_eu", false),
            ("*_eu", "app_eu", true),
            ("*_eu", "app_eu_", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("*b*", "b", true),
            ("a**b", "ab", true),
            ("*", "quote\"s and = 'blanks'", true),
            ("*", "é", true),
            ("app_*", "app_/../x", true),
        ];
        for (pattern, name, expected) in cases {
            let matched = DatabasePattern::new(pattern).unwrap().matches(name);
            assert_eq!(matched, expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_the_server_would_cut_or_a_log_could_not_show_is_no_name() {
        let everything = DatabasePattern::new("*").unwrap();
        assert!(everything.matches(&"d".repeat(63)));
        for name in ["", &"d".repeat(64), &"é".repeat(32), "a\nb", "a\u{85}b"] {
            assert!(!everything.matches(name), "{name:?}");
            assert_eq!(DatabasePattern::new(name), None, "{name:?}");
        }
    }
}
