//! Words that announce a value: telling keys, first bytes of private keys and web tokens.
//!
//! Case does not matter to the search: bytes are folded into a small buffer, so that one search for
//! few short heads serves all spellings.

use std::ops::{ControlFlow, Range};

use aho_corasick::{AhoCorasick, Anchored, BuildError, Input, MatchKind};

use super::kind::{Kind, KindSet};

/// What a head announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Literal {
    Pem,
    Token,
    Telling,
    Ssn,
    Key,
}

/// Bytes that are folded at once: few enough that clearing the buffer is nothing to a short field.
const PIECE: usize = 1024;

/// Bytes of the longest head, less one: a head that lies across two pieces is in the second.
const OVERLAP: usize = 8;

/// Heads of three bytes and more; the rarer their bytes, the fewer false alarms. No head begins
/// with another.
const HEADS: &[(&str, Literal)] = &[
    ("-----beg", Literal::Pem),
    ("eyj", Literal::Token),
    ("passw", Literal::Telling),
    ("passp", Literal::Telling),
    ("passc", Literal::Telling),
    ("pwd", Literal::Telling),
    ("secret", Literal::Telling),
    ("credent", Literal::Telling),
    ("accountk", Literal::Telling),
    ("accessk", Literal::Telling),
    ("access_k", Literal::Telling),
    ("access-k", Literal::Telling),
    ("token", Literal::Telling),
    ("apike", Literal::Telling),
    ("api_k", Literal::Telling),
    ("api-k", Literal::Telling),
    ("bearer", Literal::Telling),
    ("sig=", Literal::Telling),
    ("authoriz", Literal::Telling),
    ("ssn", Literal::Ssn),
    ("social s", Literal::Ssn),
    ("aiza", Literal::Key),
    ("glpat", Literal::Key),
];

#[derive(Debug)]
pub(super) struct Literals {
    search: AhoCorasick,
    of: Vec<Literal>,
}

impl Literals {
    /// The heads that announce values of `kinds`; `None` when there are none.
    pub(super) fn of(kinds: KindSet) -> Result<Option<Self>, BuildError> {
        let wanted = |literal| match literal {
            Literal::Pem => kinds.contains(Kind::PrivateKey),
            Literal::Token => kinds.contains(Kind::Jwt),
            Literal::Telling => kinds.contains(Kind::Credential),
            Literal::Ssn => kinds.contains(Kind::UsSsn),
            Literal::Key => kinds.contains(Kind::ApiKey),
        };
        let heads = || HEADS.iter().filter(|(_, literal)| wanted(*literal));
        let folded = heads().map(|(head, _)| head.bytes().map(fold).collect::<Vec<_>>());
        let of = heads().map(|(_, literal)| *literal).collect::<Vec<_>>();
        if of.is_empty() {
            return Ok(None);
        }
        // Leftmost-first is what the crate's vector search is for.
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(folded)?;
        Ok(Some(Self { search, of }))
    }

    /// Calls `on` with the place of every head in `within`, in order.
    pub(super) fn each<B>(
        &self,
        bytes: &[u8],
        within: Range<usize>,
        mut on: impl FnMut(usize, Literal) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut folded = [0; PIECE];
        let mut start = within.start;
        while start < within.end {
            let piece = bytes.get(start..).unwrap_or_default();
            let last = piece.len() <= PIECE;
            let size = piece.len().min(PIECE);
            for (to, from) in folded.iter_mut().zip(piece) {
                *to = fold(*from);
            }
            let known = if last { size } else { size - OVERLAP };
            let end = known.min(within.end - start);
            let piece = folded.get(..size).unwrap_or_default();
            let mut from = 0;
            while from < end {
                let input = Input::new(piece).span(from..size).anchored(Anchored::No);
                let Some(found) = self.search.find(input) else {
                    break;
                };
                if found.start() >= end {
                    break;
                }
                if let Some(literal) = self.of.get(found.pattern().as_usize()) {
                    on(start + found.start(), *literal)?;
                }
                // Not behind the match: a head may begin inside of another.
                from = found.start() + 1;
            }
            start += known;
            if last {
                break;
            }
        }
        ControlFlow::Continue(())
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
        let text = b"PassWord secretoken eyJ";
        let expected = vec![
            (0, Literal::Telling),
            (9, Literal::Telling),
            (14, Literal::Telling),
            (20, Literal::Token),
        ];
        assert_eq!(places(text, 0..text.len()), expected);
        assert_eq!(places(text, 1..20), expected[1..3]);
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
            assert!((3..=OVERLAP + 1).contains(&head.len()));
            let others = HEADS.iter().filter(|(other, _)| other != head);
            assert!(others.clone().all(|(other, _)| !head.starts_with(other)));
        }
    }
}
