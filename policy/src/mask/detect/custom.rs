//! What a policy brings itself: regular expressions, and words.
//!
//! An expression is searched in windows of a fixed grid, so that a stream gives what the whole
//! gives, and so that no expression costs more than a constant for each byte.

use std::ops::Range;

use aho_corasick::{AhoCorasick, BuildError, MatchKind};
use regex::bytes::{Regex, RegexBuilder};

use super::text::{RIGHT, Text};

/// Memory of one compiled expression.
///
/// Bytes. Counted repetitions of Unicode classes are what takes more.
const REGEX_BYTES: usize = 1 << 20;

/// Bytes of an expression as written.
pub const PATTERN_BYTES: usize = 4096;

/// Expressions of one set. Each is a search of its own over every byte.
pub const PATTERNS: usize = 64;

/// Bytes of one word.
pub const WORD_BYTES: usize = 256;

/// Bytes of all words of one set: the automaton has about so many states, of 8 bytes and more.
pub const WORDS_BYTES: usize = 1 << 20;

/// Matches that begin in a cell of this many bytes are looked for together.
pub(super) const CELL: usize = 2048;

/// Longest match of an expression that is found whole.
pub(super) const MATCH: usize = RIGHT;

#[derive(Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// # Errors
    /// Not an expression of the syntax, too large, or one that matches nothing at all as well.
    pub(super) fn compile(text: &str) -> Result<Self, PatternProblem> {
        if text.len() > PATTERN_BYTES {
            return Err(PatternProblem::TooLong);
        }
        let regex = RegexBuilder::new(text)
            .size_limit(REGEX_BYTES)
            .dfa_size_limit(REGEX_BYTES)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => PatternProblem::TooLarge,
                other @ (regex::Error::Syntax(_) | _) => PatternProblem::Syntax(other.to_string()),
            })?;
        if regex.is_match(b"") {
            return Err(PatternProblem::MatchesNothing);
        }
        Ok(Self(regex))
    }

    /// The matches that begin in the cell from `cell`.
    pub(super) fn each(&self, text: Text<'_>, cell: usize, mut on: impl FnMut(Range<usize>)) {
        // What stands before the cell is seen by `\b` and `^`; one character is enough for them.
        let base = cell.saturating_sub(4);
        let window = text.between(base, cell + CELL + MATCH);
        let mut from = cell - base;
        while let Some(found) = self.0.find_at(window, from) {
            if found.start() + base >= cell + CELL {
                break;
            }
            if !found.is_empty() {
                on(found.start() + base..found.end() + base);
            }
            from = found.end().max(found.start() + 1);
            if from > window.len() {
                break;
            }
        }
    }
}

/// Why an expression is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternProblem {
    #[error("the pattern has more than {PATTERN_BYTES} bytes")]
    TooLong,
    #[error("the pattern compiles to more than {REGEX_BYTES} bytes")]
    TooLarge,
    #[error("the pattern matches the empty text, so it would match everywhere")]
    MatchesNothing,
    /// What the parser of expressions says, over several lines.
    #[error("the pattern is not a regular expression: {0}")]
    Syntax(String),
}

#[derive(Debug)]
pub(super) struct Words(AhoCorasick);

impl Words {
    pub(super) fn build(words: &[&str]) -> Result<Self, BuildError> {
        AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .build(words)
            .map(Self)
    }

    /// The words that begin in `within`, whether they stand alone or not.
    pub(super) fn each(
        &self,
        text: Text<'_>,
        within: Range<usize>,
        mut on: impl FnMut(usize, Range<usize>),
    ) {
        let window = text.between(within.start, within.end.saturating_add(WORD_BYTES));
        for found in self.0.find_overlapping_iter(window) {
            let span = found.start() + within.start..found.end() + within.start;
            if span.start < within.end {
                on(found.pattern().as_usize(), span);
            }
        }
    }

    /// No letter or digit is glued to either end.
    pub(super) fn stands_alone(text: Text<'_>, span: &Range<usize>) -> bool {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
        let glued = |outer: u8, inner: u8| word(outer) && word(inner);
        let head = !text.opens(span.start) && glued(text.before(span.start), text.at(span.start));
        let head = head || (!text.before(span.start).is_ascii() && word(text.at(span.start)));
        !head && !glued(text.at(span.end), text.before(span.end))
    }

    pub(super) fn any(&self, bytes: &[u8]) -> Option<usize> {
        self.0.find(bytes).map(|found| found.start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_must_be_one_and_match_something() {
        assert!(Pattern::compile(r"\bEMP-\d{6}\b").is_ok());
        assert_eq!(
            Pattern::compile("a*").err(),
            Some(PatternProblem::MatchesNothing)
        );
        assert_eq!(
            Pattern::compile(r"(\w{1000}){1000}").err(),
            Some(PatternProblem::TooLarge)
        );
        assert!(matches!(
            Pattern::compile("("),
            Err(PatternProblem::Syntax(_))
        ));
        assert_eq!(
            Pattern::compile(&"a".repeat(PATTERN_BYTES + 1)).err(),
            Some(PatternProblem::TooLong)
        );
    }

    #[test]
    fn words_stand_alone_in_any_case() {
        let words = Words::build(&["bluebird", "orion"]).expect("it builds");
        let text = b"Project BLUEBIRD, bluebirds, x\\norion";
        let mut found = Vec::new();
        words.each(Text(text), 0..text.len(), |word, span| {
            if Words::stands_alone(Text(text), &span) {
                found.push((word, span.start));
            }
        });
        assert_eq!(found, [(0, 8), (1, 32)]);
    }
}
