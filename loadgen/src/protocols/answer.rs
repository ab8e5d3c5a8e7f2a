//! What is known of an answer without keeping it, and what it is compared with.

use std::time::Instant;

/// Five characters that say what kind of error it is: digits and capital letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// `insufficient_privilege`: what a policy refuses with.
    pub const INSUFFICIENT_PRIVILEGE: Self = Self(*b"42501");

    /// Stands for a code that is none.
    pub const UNKNOWN: Self = Self(*b"XX000");

    /// `None` unless it is five digits and capital letters.
    #[must_use]
    pub fn from_wire(code: &[u8]) -> Option<Self> {
        let code: [u8; 5] = code.try_into().ok()?;
        let is_code = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
        code.iter().all(is_code).then_some(Self(code))
    }
}

impl std::fmt::Display for SqlState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| std::fmt::Write::write_char(f, char::from(*byte)))
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every statement of it completed: rows returned, or changed where none were returned.
    Rows(u64),
    /// The first error was SQLSTATE 42501.
    Refused,
    /// The first error was another one.
    Error(SqlState),
}

/// One answer, as it was seen at the socket.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// When the request was handed to the kernel.
    pub sent: Instant,
    /// When its first byte arrived.
    pub first_byte: Instant,
    /// When the bytes arrived that end it.
    pub last_byte: Instant,
    pub outcome: Outcome,
    /// Over the bytes of all rows, in their order; 0 where there were none.
    pub checksum: u32,
    /// How often one of the canaries occurs in the rows.
    pub canaries: u64,
}

/// What an answer should be: taken from one that came without a mask in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    pub rows: u64,
    pub checksum: u32,
    pub canaries: u64,
}

/// What the comparison of one answer comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub matches: bool,
    /// Canaries in the answer.
    pub canaries_seen: u64,
    /// Whether the answer would have shown one if nothing hid it.
    pub canary_expected: bool,
}

impl Answered {
    /// This answer as what others are compared with; `None` unless it has rows or could have.
    #[must_use]
    pub fn reference(&self) -> Option<Reference> {
        match self.outcome {
            Outcome::Rows(rows) => Some(Reference {
                rows,
                checksum: self.checksum,
                canaries: self.canaries,
            }),
            Outcome::Refused | Outcome::Error(_) => None,
        }
    }
}

impl Reference {
    /// Compares an answer with rows; `None` for a refusal or an error.
    ///
    /// Where a canary is expected and none is left, a mask has changed the rows, so only their number
    /// can be compared.
    #[must_use]
    pub fn check(&self, answered: &Answered) -> Option<Verdict> {
        let Outcome::Rows(rows) = answered.outcome else {
            return None;
        };
        let is_masked = self.canaries > 0 && answered.canaries == 0;
        Some(Verdict {
            matches: rows == self.rows && (is_masked || answered.checksum == self.checksum),
            canaries_seen: answered.canaries,
            canary_expected: self.canaries > 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(rows: u64, checksum: u32, canaries: u64) -> Answered {
        let now = runtime::now();
        Answered {
            sent: now,
            first_byte: now,
            last_byte: now,
            outcome: Outcome::Rows(rows),
            checksum,
            canaries,
        }
    }

    #[test]
    fn other_bytes_or_another_number_of_rows_do_not_match() {
        let reference = answered(2, 7, 0).reference().unwrap();
        let matches = |rows, checksum| {
            reference
                .check(&answered(rows, checksum, 0))
                .unwrap()
                .matches
        };
        assert!(matches(2, 7));
        assert!(!matches(2, 8));
        assert!(!matches(1, 7));
    }

    #[test]
    fn a_mask_may_change_bytes_but_not_how_many_rows_there_are() {
        let reference = answered(2, 7, 2).reference().unwrap();
        let masked = reference.check(&answered(2, 9, 0)).unwrap();
        assert!(masked.matches && masked.canary_expected);
        assert_eq!(masked.canaries_seen, 0);
        assert!(!reference.check(&answered(1, 9, 0)).unwrap().matches);
        let half = reference.check(&answered(2, 9, 1)).unwrap();
        assert!(!half.matches);
        assert_eq!(half.canaries_seen, 1);
    }

    #[test]
    fn a_code_is_five_digits_and_capitals() {
        assert_eq!(
            SqlState::from_wire(b"42501"),
            Some(SqlState::INSUFFICIENT_PRIVILEGE)
        );
        assert_eq!(SqlState::from_wire(b"4250"), None);
        assert_eq!(SqlState::from_wire(b"secre"), None);
        assert_eq!(SqlState::from_wire(b"0A000").unwrap().to_string(), "0A000");
    }
}
