//! Rules as the operator wrote them, with source positions.
//!
//! Knows the shape of policy files; what their words mean is found out in `compile`.

mod keys;
mod read;

use std::fmt;
use std::ops::Range;

pub use keys::{KEYS, Key, TABLES, Value, Within, documentation};
pub(crate) use keys::{NEVER, REDACT, REQUIRED, SESSION};
pub(crate) use read::{Table, Words, read};

/// One policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As it is to be named in messages.
    pub file: String,
    pub text: String,
}

/// Something in a policy file that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
    /// The closest valid word.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    /// `FILE:LINE:COLUMN: message (did you mean ...?)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
            suggestion,
        } = self;
        write!(f, "{file}:{line}:{column}: {message}")?;
        match suggestion {
            Some(word) => write!(f, " (did you mean `{word}`?)"),
            None => Ok(()),
        }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// Collects problems of one file.
pub(crate) struct Reporter<'a> {
    source: &'a Source,
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(source: &'a Source) -> Self {
        Self {
            source,
            problems: Vec::new(),
        }
    }

    pub(crate) fn report(&mut self, span: &Range<usize>, message: String) {
        self.report_with(span, message, None);
    }

    /// With the word of `valid` that is closest to `word`, if one is close.
    pub(crate) fn report_word<'w>(
        &mut self,
        span: &Range<usize>,
        message: String,
        word: &str,
        valid: impl IntoIterator<Item = &'w str>,
    ) {
        self.report_with(span, message, closest(word, valid));
    }

    pub(crate) fn report_with(
        &mut self,
        span: &Range<usize>,
        message: String,
        suggestion: Option<String>,
    ) {
        let problem = self.problem(span, message, suggestion);
        self.problems.push(problem);
    }

    pub(crate) fn problem(
        &self,
        span: &Range<usize>,
        message: String,
        suggestion: Option<String>,
    ) -> Problem {
        let (line, column) = position(&self.source.text, span.start);
        Problem {
            file: self.source.file.clone(),
            line,
            column,
            message,
            suggestion,
        }
    }
}

/// The word of `valid` closest to `word`, if it is close enough to be meant.
fn closest<'w>(word: &str, valid: impl IntoIterator<Item = &'w str>) -> Option<String> {
    valid
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 1 + candidate.chars().count().min(word.chars().count()) / 3
        })
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Line and column of a byte of `text`, both from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    let before = text.get(..byte).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}
