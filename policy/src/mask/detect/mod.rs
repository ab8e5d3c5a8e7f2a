//! Sensitive values inside of text: which there are, and where ([`DetectorSet`], [`Scanner`]).
//!
//! A [`sieve`] over bit masks and a search for few [`literal`]s reject clean bytes at the speed of
//! memory; what is left is judged by a validator for each kind. Bytes need not be UTF-8. Work is
//! linear in the length of the input whatever it is, and nothing is allocated for each field.
//!
//! Not looked for: values that are encoded (base64, percent signs, hexadecimal other than `bytea`),
//! spelled out, reversed or cut into pieces. A query can do all of that to a column that it may
//! read; a column that is known to hold such values is masked by name.

mod kind;
mod text;

mod sieve;

mod literal;

mod address;
mod block;
mod card;
mod credential;
mod custom;
mod email;
mod iban;
mod key;
mod phone;
mod ssn;

mod decode;
mod place;
mod scan;
mod stream;

pub use custom::{PATTERN_BYTES, PATTERNS, PatternProblem, WORD_BYTES, WORDS_BYTES};
pub use kind::{GROUPS, KINDS, Kind, KindSet, Named};
pub use place::{Format, Place, fill};
pub use scan::{Match, Scanner, redact_into};
pub use stream::{HELD_BYTES, StreamScanner};

use custom::{Pattern, Words};
use literal::Literals;
use sieve::Shapes;

/// Masks of one set.
///
/// One bit to a mask.
pub const MASKS: usize = 64;

/// What replaces a value whose length may change.
pub const REDACTED: &str = "[redacted]";

/// What one mask looks for, as written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'w> {
    /// Names of kinds and of groups of them.
    pub detect: &'w [&'w str],
    /// Regular expressions.
    pub patterns: &'w [&'w str],
    /// Words, in any case, that stand alone.
    pub words: &'w [&'w str],
}

/// Some of the masks of a set, by their place in what it was compiled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Masks(u64);

impl Masks {
    fn of(mask: usize) -> Self {
        Self(1 << mask)
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their places, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MASKS).filter(move |mask| self.0 & 1 << mask != 0)
    }
}

/// An entry of [`Wanted`] that is not accepted, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DetectError {
    /// The closest valid word is found among [`Kind::names`].
    #[error("no detector is called so")]
    UnknownName { mask: usize, entry: usize },
    #[error("{problem}")]
    Pattern {
        mask: usize,
        entry: usize,
        problem: PatternProblem,
    },
    #[error("there are more than {PATTERNS} patterns")]
    TooManyPatterns { mask: usize, entry: usize },
    #[error("a word has 1 to {WORD_BYTES} bytes")]
    WordLength { mask: usize, entry: usize },
    #[error("the words have more than {WORDS_BYTES} bytes")]
    TooManyWords { mask: usize, entry: usize },
    #[error("more than {MASKS} masks look for values")]
    TooManyMasks,
    /// The search could not be built: too many states.
    #[error("the words are too many to search for")]
    Search,
}

/// What several masks look for, compiled into one search.
///
/// Scope: immutable, shared. A scanner of the shard's own is what it is used with.
#[derive(Debug, Default)]
pub struct DetectorSet {
    kinds: KindSet,
    /// By kind, in the order of [`Kind`].
    by_kind: [Masks; Kind::COUNT],
    shapes: Shapes,
    literals: Option<Literals>,
    patterns: Vec<(Pattern, Masks)>,
    words: Option<Words>,
    by_word: Vec<Masks>,
}

impl DetectorSet {
    /// Compiles what `masks` look for; a match names them by their index.
    ///
    /// # Errors
    /// Every entry that is not accepted, in their order. There is no partial set.
    pub fn compile(masks: &[Wanted<'_>]) -> Result<Self, Vec<DetectError>> {
        if masks.len() > MASKS {
            return Err(vec![DetectError::TooManyMasks]);
        }
        let mut errors = Vec::new();
        let mut set = Self::default();
        let mut words = Vec::new();
        let mut words_bytes = 0;
        for (mask, wanted) in masks.iter().enumerate() {
            for (entry, name) in wanted.detect.iter().enumerate() {
                match Kind::of_name(name) {
                    Some(kinds) => set.want(kinds, Masks::of(mask)),
                    None => errors.push(DetectError::UnknownName { mask, entry }),
                }
            }
            for (entry, pattern) in wanted.patterns.iter().enumerate() {
                if set.patterns.len() == PATTERNS {
                    errors.push(DetectError::TooManyPatterns { mask, entry });
                    break;
                }
                match Pattern::compile(pattern) {
                    Ok(pattern) => set.patterns.push((pattern, Masks::of(mask))),
                    Err(problem) => errors.push(DetectError::Pattern {
                        mask,
                        entry,
                        problem,
                    }),
                }
            }
            for (entry, word) in wanted.words.iter().enumerate() {
                words_bytes += word.len();
                if word.is_empty() || word.len() > WORD_BYTES {
                    errors.push(DetectError::WordLength { mask, entry });
                } else if words_bytes > WORDS_BYTES {
                    errors.push(DetectError::TooManyWords { mask, entry });
                    break;
                } else {
                    words.push(*word);
                    set.by_word.push(Masks::of(mask));
                }
            }
        }
        if errors.is_empty() && set.finish(&words).is_err() {
            errors.push(DetectError::Search);
        }
        if errors.is_empty() {
            Ok(set)
        } else {
            Err(errors)
        }
    }

    /// It looks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.patterns.is_empty() && self.words.is_none()
    }

    fn want(&mut self, kinds: KindSet, mask: Masks) {
        self.kinds = self.kinds.union(kinds);
        for named in KINDS {
            if kinds.contains(named.kind)
                && let Some(masks) = self.by_kind.get_mut(named.kind.index())
            {
                *masks = masks.union(mask);
            }
        }
    }

    fn finish(&mut self, words: &[&str]) -> Result<(), aho_corasick::BuildError> {
        let wants = |kinds: &[Kind]| kinds.iter().any(|kind| self.kinds.contains(*kind));
        self.shapes = Shapes {
            digits: wants(&[Kind::PaymentCard, Kind::UsSsn, Kind::Phone]),
            iban: wants(&[Kind::Iban]),
            addresses: wants(&[Kind::Ipv4, Kind::Ipv6]),
            phone: wants(&[Kind::Phone]),
            runs: wants(&[Kind::ApiKey, Kind::Jwt]),
        };
        self.literals = Literals::of(self.kinds)?;
        if !words.is_empty() {
            self.words = Some(Words::build(words)?);
        }
        Ok(())
    }

    fn masks_of(&self, kind: Kind) -> Masks {
        self.by_kind.get(kind.index()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
