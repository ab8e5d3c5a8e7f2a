//! What is wrong in a configuration file, and where.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One mistake of the operator, for the operator to read.
///
/// Shape: `line` and `column` count from 1, columns in characters; both are 0 when the problem is
/// not at one place of the file. Never holds a secret: values of secret references are not quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    pub line: usize,
    pub column: usize,
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
    /// A credential that systemd gives the unit and did not give this process: whether it is right,
    /// only the unit finds out.
    pub credential: Option<String>,
}

impl Problem {
    pub(super) fn position(&self) -> (usize, usize) {
        (self.line, self.column)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if self.line > 0 {
            write!(formatter, ":{}:{}", self.line, self.column)?;
        }
        write!(formatter, ": {}", self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(formatter, " (did you mean `{suggestion}`?)")?;
        }
        Ok(())
    }
}

/// A file as read, to turn byte offsets into positions.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) text: String,
}

impl Source {
    pub(super) fn problem(&self, at: Range<usize>, message: impl Into<String>) -> Problem {
        let (line, column) = self.line_and_column(at.start);
        let file = self.file.clone();
        Problem {
            file,
            line,
            column,
            message: message.into(),
            suggestion: None,
            credential: None,
        }
    }

    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        (
            line,
            before
                .get(line_start..)
                .map_or(0, |text| text.chars().count())
                + 1,
        )
    }
}

/// A problem of the file as a whole.
pub(super) fn of_file(file: &Path, message: impl Into<String>) -> Problem {
    let file = file.to_owned();
    Problem {
        file,
        line: 0,
        column: 0,
        message: message.into(),
        suggestion: None,
        credential: None,
    }
}

/// The candidate closest to `word`, when one is close enough to be what was meant.
pub(super) fn closest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let source = Source {
            file: "f".into(),
            text: "a\nbü = 1\n".into(),
        };
        let position = |offset: usize| {
            let problem = source.problem(offset..offset, "");
            (problem.line, problem.column)
        };
        assert_eq!(position(0), (1, 1));
        assert_eq!(position(2), (2, 1));
        assert_eq!(position(6), (2, 4), "after b, ü and a space");
        assert_eq!(position(10), (3, 1), "at the end");
    }

    #[test]
    fn only_close_words_are_suggested() {
        let keys = ["login_deadline", "frontend_message_bytes"];
        assert_eq!(
            closest("login_deadlin", keys).as_deref(),
            Some("login_deadline")
        );
        assert_eq!(
            closest("logindeadline", keys).as_deref(),
            Some("login_deadline")
        );
        assert_eq!(closest("password", keys), None);
    }
}
