//! From anchors to matches: which validator judges which place, and what becomes of overlaps.

use std::ops::{ControlFlow, Range};

use super::block::Block;
use super::custom::{CELL, Words};
use super::decode::{Decoded, first_escape};
use super::kind::{Kind, KindSet};
use super::literal::Literal;
use super::place::{self, Format, Place};
use super::sieve::{self, Shape};
use super::text::{LEFT, Text, is_digit};
use super::{
    DetectorSet, Masks, REDACTED, address, card, credential, email, iban, key, phone, ssn,
};

/// Bytes of the shortest value that has a form: `a@b.io`.
const SHORTEST: usize = 6;

/// Bytes of a field's header that may look like text: fields of 16 MiB and more are streamed.
pub(super) const HEADER: usize = 3;

/// Digits before an anchor, in the group that it lies in.
const GROUP: usize = 20;

/// A value, or several that overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Where it is, with all that must be replaced with it.
    pub span: Range<usize>,
    pub kinds: KindSet,
    /// The masks that look for it.
    pub masks: Masks,
    pub place: Place,
}

/// Finds the values of a set in whole fields.
///
/// Scope: per shard. It keeps its buffers from one field to the next.
#[derive(Debug, Default)]
pub struct Scanner {
    found: Vec<Match>,
    decoded: Decoded,
}

impl Scanner {
    /// The values in `field`, in order; no two overlap.
    pub fn find(&mut self, set: &DetectorSet, field: &[u8], format: Format) -> &[Match] {
        self.found.clear();
        let custom = !set.patterns.is_empty() || set.words.is_some();
        if set.is_empty() || (field.len() < SHORTEST && !custom) {
            return &self.found;
        }
        let text = Text(field);
        let is_json = format == Format::Json || place::is_document(field) == Some(true);
        let found = &mut self.found;
        set.judge_all(text, |kind, masks, span| {
            let (span, place) = place::settle(text, span, is_json);
            found.push(Match {
                span,
                kinds: KindSet::of(&[kind]),
                masks,
                place,
            });
        });
        if let Some(escape) = first_escape(text, 0) {
            self.find_decoded(set, text, escape);
        }
        merge(&mut self.found);
        &self.found
    }

    /// The second reading, from a little before the first escape.
    fn find_decoded(&mut self, set: &DetectorSet, text: Text<'_>, escape: usize) {
        let begin = escape.saturating_sub(LEFT);
        let Self { found, decoded } = self;
        decoded.clear();
        decoded.extend(text, begin, 0, true);
        let starts = &decoded.starts;
        set.judge_all(Text(&decoded.bytes), |kind, masks, span| {
            // The reading may begin in the middle of a word, and what ends before the escape is the
            // first reading's.
            let source = |offset: usize| starts.get(offset).copied().unwrap_or(text.len());
            let place = source(span.start)..source(span.end);
            if (span.start == 0 && begin > 0) || place.end <= escape {
                return;
            }
            let (span, place) = place::settle_decoded(text, place, span.len());
            found.push(Match {
                span,
                kinds: KindSet::of(&[kind]),
                masks,
                place,
            });
        });
    }
}

/// Pairs of digits with the same byte between them: a time has several.
fn is_evenly_divided(text: Text<'_>, start: usize) -> bool {
    let separator = text.at(start + 2);
    separator == text.at(start + 5) && separator == text.at(start + 8)
}

/// Sorts, and makes one of those that overlap.
pub(super) fn merge(found: &mut Vec<Match>) {
    if found.len() < 2 {
        return;
    }
    found.sort_unstable_by_key(|found| (found.span.start, found.span.end));
    found.dedup_by(|next, kept| {
        let overlaps = next.span.start < kept.span.end;
        if overlaps {
            kept.span.end = kept.span.end.max(next.span.end);
            kept.kinds = kept.kinds.union(next.kinds);
            kept.masks = kept.masks.union(next.masks);
            kept.place = kept.place.max(next.place);
        }
        overlaps
    });
}

/// Appends `input` to `out` with [`REDACTED`] in place of every value; what stands around it stays
/// readable as what it was.
pub fn redact_into(
    scanner: &mut Scanner,
    set: &DetectorSet,
    input: &[u8],
    format: Format,
    out: &mut Vec<u8>,
) {
    let text = Text(input);
    let mut copied = 0;
    for found in scanner.find(set, input, format) {
        out.extend_from_slice(text.between(copied, found.span.start));
        match found.place {
            Place::Text => out.extend_from_slice(REDACTED.as_bytes()),
            Place::JsonNumber => out.extend_from_slice(b"null"),
            Place::Hex => {
                let start = out.len();
                out.extend_from_slice(text.between(found.span.start, found.span.end));
                place::fill(out.get_mut(start..).unwrap_or_default(), Place::Hex);
            }
        }
        copied = found.span.end;
    }
    out.extend_from_slice(text.from(copied));
}

/// Blocks that began before, and how far they go.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pem: Reach,
    token: Reach,
}

#[derive(Debug, Default)]
struct Reach {
    /// What lies before belongs to a block already.
    end: usize,
    open: bool,
}

impl Blocks {
    /// After the first `count` bytes of the text were forgotten.
    pub(super) fn shift(&mut self, count: usize) {
        for reach in [&mut self.pem, &mut self.token] {
            reach.end = reach.end.saturating_sub(count);
        }
    }
}

impl Reach {
    /// The block that begins at `start` as `body` says, as far as `end`. One inside of another ends
    /// where that does.
    fn open(
        &mut self,
        block: Block,
        text: Text<'_>,
        start: usize,
        end: usize,
        body: impl FnOnce() -> Option<usize>,
    ) -> Option<Range<usize>> {
        if start < self.end {
            return None;
        }
        let body = body()?;
        let (stop, over) = block.extent(text, body, end.max(body));
        self.end = stop;
        self.open = !over;
        Some(start..stop)
    }
}

impl DetectorSet {
    /// How many of the first bytes of `bytes` certainly end before any value begins: a value that
    /// lies in `bytes`, or in any part of them, ends behind that place.
    ///
    /// For many fields at once, with whatever stands between them (rows as they came off the wire):
    /// clean ones are passed at the speed of memory. 0 when the policy brings patterns, which may
    /// match at the beginning of a field only.
    #[must_use]
    pub fn clean_prefix(&self, bytes: &[u8]) -> usize {
        if !self.patterns.is_empty() {
            return 0;
        }
        /// Bytes that all searches look at before the next are looked at: still in the cache.
        const PIECE: usize = 8192 - 64;
        let text = Text(bytes);
        let mut start = 0;
        while start < bytes.len() {
            let within = start..bytes.len().min(start + PIECE);
            if let Some(suspect) = self.first_suspect(text, within) {
                return suspect;
            }
            start += PIECE;
        }
        bytes.len()
    }

    fn first_suspect(&self, text: Text<'_>, within: Range<usize>) -> Option<usize> {
        let mut first = None;
        let mut note = |at: usize| first = Some(first.map_or(at, |known: usize| known.min(at)));
        let break_at = |at: usize, suspicious: bool| {
            if suspicious {
                ControlFlow::Break(at)
            } else {
                ControlFlow::Continue(())
            }
        };
        if self.shapes.any() {
            let sifted = sieve::anchors(text.0, within.clone(), self.shapes, |at, shape| {
                break_at(at, self.suspects(text, at, shape))
            });
            // Shapes of one block do not come in order; a block is shorter than this.
            if let ControlFlow::Break(at) = sifted {
                note(at.saturating_sub(sieve::BLOCK));
            }
        }
        if let Some(literals) = &self.literals {
            let searched = literals.each(text.0, within.clone(), |at, literal| {
                break_at(at, self.suspects_literal(text, at, literal))
            });
            if let ControlFlow::Break(at) = searched {
                note(at);
            }
        }
        if self.wants_sign() {
            let piece = text.between(within.start, within.end);
            let signs = memchr::memchr_iter(b'@', piece).map(|at| at + within.start);
            for at in signs {
                if email::at(text, at).is_some() || email::url_password(text, at).is_some() {
                    // A password ends where the sign begins.
                    note(at.saturating_sub(1));
                    break;
                }
            }
        }
        let escape = first_escape(Text(text.between(0, within.end + 32)), within.start);
        if let Some(at) = escape
            && at < within.end
        {
            note(at);
        }
        if let Some(words) = &self.words
            && let Some(at) = words.any(text.between(within.start, within.end + super::WORD_BYTES))
        {
            note(at + within.start);
        }
        first
    }

    fn wants_sign(&self) -> bool {
        self.kinds.contains(Kind::Email) || self.kinds.contains(Kind::Credential)
    }

    /// A shape that may belong to a value, whatever stands before it.
    fn suspects(&self, text: Text<'_>, at: usize, shape: Shape) -> bool {
        let wants = |kind| self.kinds.contains(kind);
        match shape {
            Shape::Pairs if !is_evenly_divided(text, at) => false,
            Shape::Digits | Shape::Groups | Shape::Pairs => {
                // The last bytes of a header may be digits, and so glued to the first of a field;
                // its first byte is NUL.
                let group = text.run_back(at, GROUP, is_digit);
                (group..=group + HEADER).any(|start| {
                    (start == group || text.before(start.saturating_sub(HEADER)) == 0)
                        && self.suspects_number(text, start)
                })
            }
            Shape::Iban => iban::read(text, at).is_some(),
            Shape::Dotted | Shape::Colons => true,
            Shape::Plus => {
                let end = text.run(at + 1, 20, |byte| {
                    is_digit(byte) || b" -.()/".contains(&byte)
                });
                let digits = text.between(at, end).iter().filter(|byte| is_digit(**byte));
                digits.count() >= 8
            }
            Shape::Run => {
                (wants(Kind::ApiKey) && key::is_near(text, at))
                    || (wants(Kind::Jwt)
                        && (at..=at + HEADER).any(|at| Block::token_header(text, at).is_some()))
            }
        }
    }

    fn suspects_number(&self, text: Text<'_>, start: usize) -> bool {
        let wants = |kind| self.kinds.contains(kind);
        (wants(Kind::PaymentCard) && card::read(text, start).is_some())
            || (wants(Kind::UsSsn)
                && (ssn::read(text, start).is_some() || ssn::bare(text, start).is_some()))
            || (wants(Kind::Phone) && phone::read(text, start).is_some())
    }

    fn suspects_literal(&self, text: Text<'_>, at: usize, literal: Literal) -> bool {
        match literal {
            Literal::Pem => Block::pem(text, at).is_some(),
            Literal::Telling => credential::after(text, at).is_some(),
            Literal::Key => true,
        }
    }

    /// Every value of `text`, in no order.
    fn judge_all(&self, text: Text<'_>, mut on: impl FnMut(Kind, Masks, Range<usize>)) {
        self.judge(text, 0..text.len(), &mut Blocks::default(), &mut on);
        for cell in (0..text.len()).step_by(CELL) {
            self.judge_patterns(text, cell, &mut on);
        }
    }

    /// The matches of patterns that begin in the cell from `cell`.
    pub(super) fn judge_patterns(
        &self,
        text: Text<'_>,
        cell: usize,
        on: &mut dyn FnMut(Kind, Masks, Range<usize>),
    ) {
        for (pattern, masks) in &self.patterns {
            pattern.each(text, cell, |span| on(Kind::Pattern, *masks, span));
        }
    }

    /// The values whose anchors are in `within`.
    pub(super) fn judge(
        &self,
        text: Text<'_>,
        within: Range<usize>,
        blocks: &mut Blocks,
        on: &mut dyn FnMut(Kind, Masks, Range<usize>),
    ) {
        let mut on_kind = |kind: Kind, span: Option<Range<usize>>| {
            if let Some(span) = span
                && self.kinds.contains(kind)
            {
                on(kind, self.masks_of(kind), span);
            }
        };
        for (reach, block, kind) in [
            (&mut blocks.pem, Block::Pem, Kind::PrivateKey),
            (&mut blocks.token, Block::Token, Kind::Jwt),
        ] {
            if reach.open {
                let (end, over) = block.extent(text, reach.end, within.end);
                on_kind(kind, Some(reach.end..end).filter(|span| !span.is_empty()));
                reach.end = end;
                reach.open = !over;
            }
        }
        if self.shapes.any() {
            // Nothing breaks off.
            let _ = sieve::anchors(text.0, within.clone(), self.shapes, |at, shape| {
                self.judge_shape(text, at, shape, within.end, blocks, &mut on_kind);
                ControlFlow::<()>::Continue(())
            });
        }
        if let Some(literals) = &self.literals {
            // Nothing breaks off.
            let _ = literals.each(text.0, within.clone(), |at, literal| {
                Self::judge_literal(text, at, literal, within.end, blocks, &mut on_kind);
                ControlFlow::<()>::Continue(())
            });
        }
        if self.wants_sign() {
            let piece = text.between(within.start, within.end);
            for sign in memchr::memchr_iter(b'@', piece) {
                let sign = sign + within.start;
                on_kind(Kind::Email, email::at(text, sign));
                on_kind(Kind::Credential, email::url_password(text, sign));
            }
        }
        if let Some(words) = &self.words {
            words.each(text, within, |word, span| {
                if Words::stands_alone(text, &span)
                    && let Some(masks) = self.by_word.get(word)
                {
                    on(Kind::Word, *masks, span);
                }
            });
        }
    }

    #[inline]
    fn judge_shape(
        &self,
        text: Text<'_>,
        at: usize,
        shape: Shape,
        end: usize,
        blocks: &mut Blocks,
        on: &mut impl FnMut(Kind, Option<Range<usize>>),
    ) {
        match shape {
            Shape::Pairs if !is_evenly_divided(text, at) => {}
            Shape::Digits | Shape::Groups | Shape::Pairs => {
                let start = text.run_back(at, GROUP, is_digit);
                if is_digit(text.before(start)) {
                    return;
                }
                if self.kinds.contains(Kind::PaymentCard) {
                    on(Kind::PaymentCard, card::at(text, start));
                }
                if self.kinds.contains(Kind::UsSsn) {
                    on(Kind::UsSsn, ssn::at(text, start));
                    on(Kind::UsSsn, ssn::announced(text, start));
                }
                if self.kinds.contains(Kind::Phone) {
                    on(Kind::Phone, phone::grouped(text, start));
                }
            }
            Shape::Iban => on(Kind::Iban, iban::at(text, at)),
            Shape::Dotted => {
                if self.kinds.contains(Kind::Ipv4) {
                    on(Kind::Ipv4, address::v4(text, at));
                }
            }
            Shape::Colons => {
                if self.kinds.contains(Kind::Ipv6) {
                    on(Kind::Ipv6, address::v6(text, at));
                }
            }
            Shape::Plus => on(Kind::Phone, phone::after_sign(text, at)),
            Shape::Run => {
                if self.kinds.contains(Kind::ApiKey) {
                    on(Kind::ApiKey, key::around(text, at));
                }
                if self.kinds.contains(Kind::Jwt) {
                    // The letter of an escape is glued to the token.
                    let start = at + usize::from(text.before(at) == b'\\');
                    let body = || Block::token(text, start);
                    let token = &mut blocks.token;
                    on(Kind::Jwt, token.open(Block::Token, text, start, end, body));
                }
            }
        }
    }

    fn judge_literal(
        text: Text<'_>,
        at: usize,
        literal: Literal,
        end: usize,
        blocks: &mut Blocks,
        on: &mut impl FnMut(Kind, Option<Range<usize>>),
    ) {
        match literal {
            Literal::Pem => {
                let body = || Block::pem(text, at);
                let span = blocks.pem.open(Block::Pem, text, at, end, body);
                on(Kind::PrivateKey, span);
            }
            Literal::Telling => on(Kind::Credential, credential::after(text, at)),
            Literal::Key => on(Kind::ApiKey, key::at(text, at)),
        }
    }
}
