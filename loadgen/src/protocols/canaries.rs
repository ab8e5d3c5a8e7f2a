//! Texts that an answer must not hold where a mask is in between.

use memchr::memmem::Finder;

/// Most canaries of one run: each is a search over every answer.
pub(super) const CANARIES_MAX: usize = 64;

/// Shortest canary. Fewer bytes occur by chance, in lengths and numbers too.
pub(super) const CANARY_BYTES_MIN: usize = 6;

/// Searched for in the bytes of rows. Shared by the shards of a run.
#[derive(Debug, Clone, Default)]
pub struct Canaries {
    finders: Vec<Finder<'static>>,
    longest: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanaryError {
    #[error("a canary has {bytes} bytes, and must have {CANARY_BYTES_MIN} or more")]
    TooShort { bytes: usize },
    #[error("{count} canaries, more than {CANARIES_MAX}")]
    TooMany { count: usize },
}

/// The search through the rows of one answer, in the pieces in which they arrive.
#[derive(Debug, Default)]
pub(super) struct Search {
    found: u64,
    /// The end of the last piece of a row that is not held whole.
    tail: Vec<u8>,
}

impl Canaries {
    /// # Errors
    /// For one that is too short to be told from chance, and for too many.
    pub fn new<T: AsRef<[u8]>>(texts: &[T]) -> Result<Self, CanaryError> {
        if texts.len() > CANARIES_MAX {
            return Err(CanaryError::TooMany { count: texts.len() });
        }
        let mut canaries = Self::default();
        for text in texts {
            let text = text.as_ref();
            if text.len() < CANARY_BYTES_MIN {
                return Err(CanaryError::TooShort { bytes: text.len() });
            }
            canaries.finders.push(Finder::new(text).into_owned());
            canaries.longest = canaries.longest.max(text.len());
        }
        Ok(canaries)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.finders.is_empty()
    }

    fn count(&self, bytes: &[u8]) -> u64 {
        let found = |finder: &Finder<'_>| finder.find_iter(bytes).count();
        let found: usize = self.finders.iter().map(found).sum();
        u64::try_from(found).unwrap_or(u64::MAX)
    }

    /// Those that begin in the first `boundary` bytes and end behind them.
    fn count_across(&self, bytes: &[u8], boundary: usize) -> u64 {
        let mut found = 0;
        for finder in &self.finders {
            let length = finder.needle().len();
            let crossing = finder
                .find_iter(bytes)
                .filter(|at| *at < boundary && at.saturating_add(length) > boundary);
            found += crossing.map(|_| 1_u64).sum::<u64>();
        }
        found
    }
}

impl Search {
    /// Whole rows.
    pub(super) fn rows(&mut self, canaries: &Canaries, bytes: &[u8]) {
        if !canaries.is_empty() {
            self.found += canaries.count(bytes);
        }
    }

    /// A piece of a row that is not held whole, or of a stream.
    pub(super) fn piece(&mut self, canaries: &Canaries, bytes: &[u8]) {
        if canaries.is_empty() {
            return;
        }
        self.found += canaries.count(bytes);
        let overlap = canaries.longest.saturating_sub(1);
        let boundary = self.tail.len();
        self.tail
            .extend_from_slice(bytes.get(..overlap).unwrap_or(bytes));
        if boundary > 0 {
            self.found += canaries.count_across(&self.tail, boundary);
        }
        if bytes.len() >= overlap {
            self.tail.clear();
            let start = bytes.len().saturating_sub(overlap);
            self.tail
                .extend_from_slice(bytes.get(start..).unwrap_or_default());
        } else {
            let surplus = self.tail.len().saturating_sub(overlap);
            self.tail.drain(..surplus);
        }
    }

    /// The next piece belongs to another row.
    pub(super) fn end_of_row(&mut self) {
        self.tail.clear();
    }

    pub(super) fn found(&self) -> u64 {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_found_once_however_the_row_is_cut() {
        let canaries = Canaries::new(&["4111111111111111", "canary"]).unwrap();
        let row = b"before 4111111111111111 between canary after";
        for first in 0..row.len() {
            for second in first..row.len() {
                let mut search = Search::default();
                search.piece(&canaries, &row[..first]);
                search.piece(&canaries, &row[first..second]);
                search.piece(&canaries, &row[second..]);
                assert_eq!(search.found(), 2, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn two_halves_in_two_rows_are_none() {
        let canaries = Canaries::new(&["canary"]).unwrap();
        let mut search = Search::default();
        search.piece(&canaries, b"can");
        search.end_of_row();
        search.piece(&canaries, b"ary");
        assert_eq!(search.found(), 0);
    }

    #[test]
    fn what_chance_would_find_is_refused() {
        assert!(Canaries::new(&["123456"]).is_ok());
        assert_eq!(
            Canaries::new(&["12345"]).unwrap_err(),
            CanaryError::TooShort { bytes: 5 }
        );
        assert!(Canaries::new(&["a canary"; CANARIES_MAX]).is_ok());
        assert!(Canaries::new(&["a canary"; CANARIES_MAX + 1]).is_err());
    }
}
