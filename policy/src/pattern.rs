//! Patterns over names of tables and functions, as frozen in `docs/policy.md`.
//!
//! Says whether a name matches; which names a statement means is said in `sql` and `decide`.

use std::fmt;

/// Longest name that PostgreSQL keeps.
///
/// Bytes: `NAMEDATALEN` less the terminator. The server cuts longer names, so a longer pattern
/// could never match.
pub const NAME_BYTES: usize = 63;

/// Why a pattern is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the pattern is empty")]
    Empty,
    #[error("a part of the pattern is empty")]
    EmptyPart,
    #[error("the pattern has more than two parts: write NAME or SCHEMA.NAME")]
    TooManyParts,
    #[error("a column is written TABLE.COLUMN or SCHEMA.TABLE.COLUMN")]
    NotAColumn,
    #[error("a quoted part is not closed")]
    Unclosed,
    #[error("quotes must enclose a whole part")]
    PartlyQuoted,
    #[error("`{character}` must be inside quotes")]
    MustBeQuoted { character: char },
    #[error("a part is longer than the {NAME_BYTES} bytes of a PostgreSQL name")]
    TooLong,
}

/// A pattern over (schema, name).
///
/// Shape: `NAME` (in any schema) or `SCHEMA.NAME`; `*` in an unquoted part stands for any run of
/// characters of that part, none included; unquoted parts fold ASCII letters to lower case as
/// PostgreSQL does; a quoted part (`"Orders"`, `""` for a quote) stands for exactly that name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    schema: Part,
    name: Part,
}

/// A pattern over (schema, table, column).
///
/// Shape: `TABLE.COLUMN` (in any schema) or `SCHEMA.TABLE.COLUMN`, with parts as in [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ColumnPattern {
    table: Pattern,
    column: Part,
}

impl ColumnPattern {
    /// Reads a pattern as written in a policy file.
    ///
    /// # Errors
    /// Any [`PatternError`]: the pattern is not well-formed or could never match.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let mut parts = Vec::new();
        let mut rest = Some(text);
        while let Some(text) = rest {
            let (part, next) = Part::parse(text)?;
            parts.push(part);
            rest = next;
        }
        let (schema, name, column) = match <[Part; 2]>::try_from(parts) {
            Ok([name, column]) => (Part::any(), name, column),
            Err(parts) => match <[Part; 3]>::try_from(parts) {
                Ok([schema, name, column]) => (schema, name, column),
                Err(_) => return Err(PatternError::NotAColumn),
            },
        };
        Ok(Self {
            table: Pattern { schema, name },
            column,
        })
    }

    /// The part that names tables.
    pub(crate) fn table(&self) -> &Pattern {
        &self.table
    }

    pub(crate) fn has_column(&self, column: &str) -> bool {
        self.column.matches(column)
    }

    pub(crate) fn has_every_column(&self) -> bool {
        self.column.is_any()
    }

    #[must_use]
    pub fn matches(&self, schema: &str, table: &str, column: &str) -> bool {
        self.table.must_match(Candidate {
            schema: Some(schema),
            name: Some(table),
        }) && self.column.matches(column)
    }
}

impl fmt::Display for ColumnPattern {
    /// In the syntax that [`ColumnPattern::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, self.column)
    }
}

/// What is matched: `None` stands for any schema, or any name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Candidate<'a> {
    pub schema: Option<&'a str>,
    pub name: Option<&'a str>,
}

impl Pattern {
    /// Reads a pattern as written in a policy file.
    ///
    /// # Errors
    /// Any [`PatternError`]: the pattern is not well-formed or could never match.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let (first, rest) = Part::parse(text)?;
        let Some(rest) = rest else {
            return Ok(Self {
                schema: Part::any(),
                name: first,
            });
        };
        match Part::parse(rest)? {
            (name, None) => Ok(Self {
                schema: first,
                name,
            }),
            (_, Some(_)) => Err(PatternError::TooManyParts),
        }
    }

    /// Some name that `candidate` may stand for matches. What a deny asks.
    #[must_use]
    pub fn may_match(&self, candidate: Candidate<'_>) -> bool {
        candidate
            .schema
            .is_none_or(|schema| self.schema.matches(schema))
            && candidate.name.is_none_or(|name| self.name.matches(name))
    }

    /// Every name that `candidate` may stand for matches. What an allow asks.
    #[must_use]
    pub fn must_match(&self, candidate: Candidate<'_>) -> bool {
        let holds = |part: &Part, value: Option<&str>| match value {
            Some(value) => part.matches(value),
            None => part.is_any(),
        };
        holds(&self.schema, candidate.schema) && holds(&self.name, candidate.name)
    }

    /// The one name that the name part stands for, when it has no wildcard.
    pub(crate) fn exact_name(&self) -> Option<&str> {
        match self.name.segments.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}

impl Pattern {
    /// The one schema that the schema part stands for, when it has no wildcard.
    pub(crate) fn exact_schema(&self) -> Option<&str> {
        match self.schema.segments.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The longest text that every name which fits has in it; `None` where that is nothing.
    pub(crate) fn longest_literal(&self) -> Option<&str> {
        let segments = self.name.segments.iter();
        let longest = segments.max_by_key(|segment| segment.len())?;
        (!longest.is_empty()).then_some(longest)
    }
}

impl fmt::Display for Pattern {
    /// In the syntax that [`Pattern::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema.is_any() {
            write!(f, "{}", self.name)
        } else {
            write!(f, "{}.{}", self.schema, self.name)
        }
    }
}

/// A pattern over one text: `*` stands for any run of characters, all others for themselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wild(Part);

impl Wild {
    pub(crate) fn new(text: &str) -> Self {
        Self(Part {
            segments: text.split('*').map(str::to_owned).collect(),
        })
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.matches(text)
    }
}

/// One part: the literal text between wildcards. One segment means no wildcard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Part {
    segments: Vec<String>,
}

impl Part {
    fn any() -> Self {
        Self {
            segments: vec![String::new(), String::new()],
        }
    }

    fn is_any(&self) -> bool {
        self.segments.len() > 1 && self.segments.iter().all(String::is_empty)
    }

    /// The part at the head of `text`, and what follows its dot if there is one.
    fn parse(text: &str) -> Result<(Self, Option<&str>), PatternError> {
        match text.strip_prefix('"') {
            Some(quoted) => Self::parse_quoted(quoted),
            None => Self::parse_unquoted(text),
        }
    }

    fn parse_quoted(text: &str) -> Result<(Self, Option<&str>), PatternError> {
        let mut name = String::new();
        let mut rest = text;
        loop {
            let (before, after) = rest.split_once('"').ok_or(PatternError::Unclosed)?;
            name.push_str(before);
            match after.strip_prefix('"') {
                Some(doubled) => {
                    name.push('"');
                    rest = doubled;
                }
                None => {
                    let part = Self::of(vec![name])?;
                    return match after.strip_prefix('.') {
                        Some(next) => Ok((part, Some(next))),
                        None if after.is_empty() => Ok((part, None)),
                        None => Err(PatternError::PartlyQuoted),
                    };
                }
            }
        }
    }

    fn parse_unquoted(text: &str) -> Result<(Self, Option<&str>), PatternError> {
        let (part, rest) = match text.split_once('.') {
            Some((part, rest)) => (part, Some(rest)),
            None => (text, None),
        };
        for character in part.chars() {
            match character {
                '"' => return Err(PatternError::PartlyQuoted),
                '*' | '_' | '$' => {}
                _ if character.is_ascii_alphanumeric() || !character.is_ascii() => {}
                _ => return Err(PatternError::MustBeQuoted { character }),
            }
        }
        let segments = part
            .split('*')
            .map(str::to_ascii_lowercase)
            .collect::<Vec<_>>();
        Ok((Self::of(segments)?, rest))
    }

    fn of(segments: Vec<String>) -> Result<Self, PatternError> {
        let bytes: usize = segments.iter().map(String::len).sum();
        if bytes == 0 && segments.len() == 1 {
            return Err(PatternError::EmptyPart);
        }
        if bytes > NAME_BYTES {
            return Err(PatternError::TooLong);
        }
        Ok(Self { segments })
    }

    /// Linear in the length of `name` for each segment: the leftmost place of each segment in
    /// turn is enough when the wildcard is the only operator.
    fn matches(&self, name: &str) -> bool {
        let [first, middle @ .., last] = self.segments.as_slice() else {
            return self.segments.iter().all(|only| only == name);
        };
        let Some(mut rest) = name
            .strip_prefix(first.as_str())
            .and_then(|rest| rest.strip_suffix(last.as_str()))
        else {
            return false;
        };
        for segment in middle {
            match rest.split_once(segment.as_str()) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        true
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |text: &String| {
            text.chars()
                .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '$') || !c.is_ascii())
        };
        if let [only] = self.segments.as_slice()
            && !plain(only)
        {
            return write!(f, "\"{}\"", only.replace('"', "\"\""));
        }
        f.write_str(&self.segments.join("*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name<'a>(schema: &'a str, name: &'a str) -> Candidate<'a> {
        Candidate {
            schema: Some(schema),
            name: Some(name),
        }
    }

    fn check(pattern: &str, yes: &[(&str, &str)], no: &[(&str, &str)]) {
        let parsed = Pattern::parse(pattern).unwrap();
        for (schema, table) in yes {
            assert!(
                parsed.may_match(name(schema, table)),
                "{pattern} {schema}.{table}"
            );
            assert!(
                parsed.must_match(name(schema, table)),
                "{pattern} {schema}.{table}"
            );
        }
        for (schema, table) in no {
            assert!(
                !parsed.may_match(name(schema, table)),
                "{pattern} {schema}.{table}"
            );
            assert!(
                !parsed.must_match(name(schema, table)),
                "{pattern} {schema}.{table}"
            );
        }
        assert_eq!(
            Pattern::parse(&parsed.to_string()).unwrap(),
            parsed,
            "{pattern}"
        );
    }

    #[test]
    fn a_name_without_a_schema_is_that_name_in_any_schema() {
        check(
            "orders",
            &[("public", "orders"), ("x", "orders")],
            &[("public", "orders2")],
        );
    }

    #[test]
    fn a_wildcard_stays_within_its_part() {
        check(
            "pub*.ord*s",
            &[("public", "orders"), ("pub", "ords"), ("pub", "ord.s")],
            &[("xpublic", "orders"), ("public", "orders2")],
        );
        check("*", &[("a", "b"), ("", "")], &[]);
        check("*.*", &[("a", "b")], &[]);
        check(
            "a*b*a",
            &[("s", "aba"), ("s", "axbxa")],
            &[("s", "ab"), ("s", "aa"), ("s", "aab")],
        );
    }

    #[test]
    fn the_ends_of_a_wildcard_pattern_do_not_overlap() {
        check("ab*ba", &[("s", "abba")], &[("s", "aba")]);
    }

    #[test]
    fn unquoted_parts_fold_to_lower_case_and_quoted_ones_do_not() {
        check(
            "Public.Orders",
            &[("public", "orders")],
            &[("public", "Orders")],
        );
        check(
            "public.\"Orders\"",
            &[("public", "Orders")],
            &[("public", "orders")],
        );
        check("\"a.b\".\"c*\"", &[("a.b", "c*")], &[("a.b", "cd")]);
        check(
            "\"say \"\"hi\"\"\"",
            &[("s", "say \"hi\"")],
            &[("s", "say hi")],
        );
    }

    #[test]
    fn a_part_that_stands_for_anything_may_match_and_must_only_by_a_star() {
        let any_schema = Candidate {
            schema: None,
            name: Some("t"),
        };
        let any_name = Candidate {
            schema: Some("s"),
            name: None,
        };
        for (pattern, candidate, may, must) in [
            ("t", any_schema, true, true),
            ("s.t", any_schema, true, false),
            ("*.t", any_schema, true, true),
            ("s.u", any_schema, false, false),
            ("s.*", any_name, true, true),
            ("s.t", any_name, true, false),
            ("t", any_name, true, false),
            ("x.*", any_name, false, false),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.may_match(candidate), may, "{pattern} {candidate:?}");
            assert_eq!(
                parsed.must_match(candidate),
                must,
                "{pattern} {candidate:?}"
            );
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        use PatternError::*;
        let long = "x".repeat(NAME_BYTES + 1);
        for (pattern, error) in [
            ("", Empty),
            (".", EmptyPart),
            ("a.", EmptyPart),
            (".a", EmptyPart),
            ("\"\"", EmptyPart),
            ("a.b.c", TooManyParts),
            ("\"a", Unclosed),
            ("\"a\"b", PartlyQuoted),
            ("a\"b\"", PartlyQuoted),
            ("a b", MustBeQuoted { character: ' ' }),
            ("a-b", MustBeQuoted { character: '-' }),
            ("a?", MustBeQuoted { character: '?' }),
            (long.as_str(), TooLong),
        ] {
            assert_eq!(Pattern::parse(pattern), Err(error), "{pattern}");
        }
        assert!(Pattern::parse(&"x".repeat(NAME_BYTES)).is_ok());
    }
}
