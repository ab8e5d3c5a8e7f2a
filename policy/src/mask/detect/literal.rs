//! Words that announce a value: telling keys, first bytes of private keys.
//!
//! Case does not matter to the search: bytes are folded into a small buffer, so that one search for
//! few short heads serves all spellings.

use std::ops::{ControlFlow, Range};

use aho_corasick::{AhoCorasick, BuildError, Input, MatchKind, packed};

use super::kind::{Kind, KindSet};

/// What a head announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Literal {
    Pem,
    Telling,
    Key,
}

/// Bytes that are folded at once: with the search's tables well within the first-level cache. What
/// was just written is slow to read, so more is better.
const PIECE: usize = 8192;

/// The same for short fields, for which clearing the larger buffer would cost most.
const SMALL: usize = 512;

/// Bytes of the longest head, less one: a head that lies across two pieces is in the second.
const OVERLAP: usize = 8;

/// Pieces of the words that are looked for, four bytes and more: with three the vector search is
/// half as fast, and pieces that are rare in text (`ssword`, not `passw`) raise fewer false alarms.
/// No piece begins with another. Their order decides which share a bucket of the search: this one
/// passed rows and prose at 14 GB/s, others at 4 (the best of 400 that were tried).
const HEADS: &[(&str, Literal)] = &[
    ("api-key", Literal::Telling),
    ("pwd:", Literal::Telling),
    ("sphrase", Literal::Telling),
    ("sscode", Literal::Telling),
    ("bearer", Literal::Telling),
    ("sswd", Literal::Telling),
    ("pwd=", Literal::Telling),
    ("glpat-", Literal::Key),
    ("api_key", Literal::Telling),
    ("pwd\"", Literal::Telling),
    ("aiza", Literal::Key),
    ("sig=", Literal::Telling),
    ("sskey", Literal::Telling),
    ("ssword", Literal::Telling),
    ("secret", Literal::Telling),
    ("token", Literal::Telling),
    ("apikey", Literal::Telling),
    ("uthoriz", Literal::Telling),
    ("gocspx", Literal::Key),
    ("-----beg", Literal::Pem),
    ("ss-key", Literal::Telling),
    ("ntkey", Literal::Telling),
    ("ss_key", Literal::Telling),
    ("edential", Literal::Telling),
    ("pwd>", Literal::Telling),
];

#[derive(Debug)]
pub(super) struct Literals {
    search: Search,
    of: Vec<Literal>,
}

impl Literals {
    /// The heads that announce values of `kinds`; `None` when there are none.
    pub(super) fn of(kinds: KindSet) -> Result<Option<Self>, BuildError> {
        let wanted = |literal| match literal {
            Literal::Pem => kinds.contains(Kind::PrivateKey),
            Literal::Telling => kinds.contains(Kind::Credential),
            Literal::Key => kinds.contains(Kind::ApiKey),
        };
        let heads = || HEADS.iter().filter(|(_, literal)| wanted(*literal));
        let of = heads().map(|(_, literal)| *literal).collect::<Vec<_>>();
        if of.is_empty() {
            return Ok(None);
        }
        let folded = heads().map(|(head, _)| head.bytes().map(fold).collect::<Vec<_>>());
        let search = Search::build(folded.collect())?;
        Ok(Some(Self { search, of }))
    }

    /// Calls `on` with the place of every head in `within`, in order.
    pub(super) fn each<B>(
        &self,
        bytes: &[u8],
        within: Range<usize>,
        on: impl FnMut(usize, Literal) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if within.len() <= SMALL - OVERLAP {
            self.each_by::<SMALL, B>(bytes, within, on)
        } else {
            self.each_by::<PIECE, B>(bytes, within, on)
        }
    }

    fn each_by<const SIZE: usize, B>(
        &self,
        bytes: &[u8],
        within: Range<usize>,
        mut on: impl FnMut(usize, Literal) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut folded = [0; SIZE];
        let mut start = within.start;
        while start < within.end {
            let piece = bytes.get(start..).unwrap_or_default();
            let last = piece.len() <= SIZE;
            let size = piece.len().min(SIZE);
            for (to, from) in folded.iter_mut().zip(piece) {
                *to = fold(*from);
            }
            let known = if last { size } else { size - OVERLAP };
            let end = known.min(within.end - start);
            let piece = folded.get(..size).unwrap_or_default();
            let mut from = 0;
            while from < end {
                let Some((at, head)) = self.search.find(piece, from) else {
                    break;
                };
                if at >= end {
                    break;
                }
                if let Some(literal) = self.of.get(head) {
                    on(start + at, *literal)?;
                }
                // Not behind the match: a head may begin inside of another.
                from = at + 1;
            }
            start += known;
            if last {
                break;
            }
        }
        ControlFlow::Continue(())
    }
}

/// The vector search where the machine has one, else the automaton.
#[derive(Debug)]
enum Search {
    Vector(packed::Searcher),
    Automaton(AhoCorasick),
}

impl Search {
    fn build(heads: Vec<Vec<u8>>) -> Result<Self, BuildError> {
        let vector = packed::Config::new()
            .match_kind(packed::MatchKind::LeftmostFirst)
            .builder()
            .extend(&heads)
            .build();
        match vector {
            Some(search) => Ok(Self::Vector(search)),
            None => AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostFirst)
                .build(heads)
                .map(Self::Automaton),
        }
    }

    /// The place of the first head at or after `from`, and which it is.
    #[inline]
    fn find(&self, bytes: &[u8], from: usize) -> Option<(usize, usize)> {
        match self {
            Self::Vector(search) => search
                .find_in(bytes, (from..bytes.len()).into())
                .map(|found| (found.start(), found.pattern().as_usize())),
            Self::Automaton(search) => search
                .find(Input::new(bytes).range(from..))
                .map(|found| (found.start(), found.pattern().as_usize())),
        }
    }
}

/// Upper to lower case, and other bytes to bytes that the folded heads share with nothing likely.
#[inline]
fn fold(byte: u8) -> u8 {
    byte | 0x20
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &[u8], within: Range<usize>) -> Vec<(usize, Literal)> {
        let kinds = Kind::of_name("secret").expect("a group");
        let literals = Literals::of(kinds).expect("it builds").expect("heads");
        let mut places = Vec::new();
        let _ = literals.each(text, within, |at, literal| {
            places.push((at, literal));
            ControlFlow::<()>::Continue(())
        });
        places
    }

    #[test]
    fn heads_are_found_in_any_case_and_inside_of_each_other() {
        let text = b"PassWord secretoken AIza";
        let expected = vec![
            (2, Literal::Telling),
            (9, Literal::Telling),
            (14, Literal::Telling),
            (20, Literal::Key),
        ];
        assert_eq!(places(text, 0..text.len()), expected);
        assert_eq!(places(text, 3..20), expected[1..3]);
    }

    #[test]
    fn a_head_across_pieces_is_found_once() {
        for before in PIECE - 12..PIECE + 3 {
            let mut text = vec![b'.'; before];
            text.extend_from_slice(b"-----BEGIN ");
            text.resize(2 * PIECE + 100, b'.');
            assert_eq!(places(&text, 0..text.len()), [(before, Literal::Pem)]);
        }
    }

    #[test]
    fn no_head_is_longer_than_the_overlap_or_begins_with_another() {
        for (head, _) in HEADS {
            assert!((4..=OVERLAP + 1).contains(&head.len()));
            let others = HEADS.iter().filter(|(other, _)| other != head);
            assert!(others.clone().all(|(other, _)| !head.starts_with(other)));
        }
    }
}
