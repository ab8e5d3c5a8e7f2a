//! A value that comes in pieces, of any length in bounded memory: what is sensitive is filled, byte
//! for byte, since its length was sent before it.
//!
//! What is found is what [`Scanner`](super::Scanner) finds in the whole, wherever the pieces are
//! cut.

use std::ops::Range;

use super::custom::{CELL, MATCH};
use super::decode::{Decoded, first_escape};
use super::kind::{Kind, KindSet};
use super::place::{self, Format, GROWS};
use super::scan::{Blocks, Match, merge};
use super::text::{LEFT, RIGHT, Text};
use super::{DetectorSet, Masks};

/// Bytes that are judged together, at least: what is held is moved once for so many.
const STRIDE: usize = 4096;

/// What lies so far before the next anchor may still be taken into a value.
const BEHIND: usize = LEFT + GROWS;

/// What is looked at after an anchor.
const AHEAD: usize = RIGHT + GROWS;

/// What was released and is still looked at by what follows.
const CONTEXT: usize = 64;

/// What is held back of a value, at most, besides the piece that came last.
///
/// Bytes. The second reading holds the same again in decoded form, with a place for each byte; an
/// escape takes up to six bytes of the source.
pub const HELD_BYTES: usize = 6 * (STRIDE + BEHIND + AHEAD + CELL + MATCH + CONTEXT);

/// Finds and fills the values of a set in one field that comes in pieces.
///
/// Scope: per field.
#[derive(Debug)]
pub struct StreamScanner {
    /// `None` until a byte that is not blank was seen.
    is_json: Option<bool>,
    /// Bytes not released, and [`CONTEXT`] before them.
    held: Vec<u8>,
    /// Where `held` begins in the field.
    base: usize,
    /// How many of `held` are released.
    released: usize,
    /// The first reading.
    direct: Reading,
    /// The second, once an escape was seen.
    escaped: Option<Escaped>,
    /// Not yet released, sorted and apart.
    found: Vec<Match>,
    kinds: KindSet,
    masks: Masks,
}

/// How far a reading was judged; offsets count from the beginning of the field or reading.
#[derive(Debug, Default)]
struct Reading {
    judged: usize,
    cell: usize,
    blocks: Blocks,
}

#[derive(Debug)]
struct Escaped {
    reading: Reading,
    decoded: Decoded,
    /// How many decoded bytes were forgotten.
    base: usize,
    /// Where the next byte is decoded, in the field.
    next: usize,
    /// The reading began with the field.
    is_whole: bool,
    /// Where the first escape is, in the field.
    escape: usize,
}

impl StreamScanner {
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            is_json: (format == Format::Json).then_some(true),
            held: Vec::new(),
            base: 0,
            released: 0,
            direct: Reading::default(),
            escaped: None,
            found: Vec::new(),
            kinds: KindSet::default(),
            masks: Masks::default(),
        }
    }

    /// Takes a piece of the field; appends to `out` what can be released of all that came.
    pub fn feed(&mut self, set: &DetectorSet, piece: &[u8], out: &mut Vec<u8>) {
        // A piece that is far larger than what is held is taken in parts, so that little is held.
        for part in piece.chunks(4 * STRIDE) {
            self.held.extend_from_slice(part);
            if self.base + self.held.len() >= self.direct.judged + AHEAD + STRIDE {
                self.advance(set, false, out);
            }
        }
    }

    /// The field is over: appends to `out` what was held back. What was found is told.
    pub fn finish(mut self, set: &DetectorSet, out: &mut Vec<u8>) -> (KindSet, Masks) {
        self.advance(set, true, out);
        (self.kinds, self.masks)
    }

    /// How many bytes are held back.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len() - self.released
    }

    fn advance(&mut self, set: &DetectorSet, is_last: bool, out: &mut Vec<u8>) {
        if set.is_empty() {
            out.extend(self.held.drain(self.released..));
            self.held.clear();
            return;
        }
        if self.is_json.is_none() {
            self.is_json = place::is_document(&self.held);
        }
        let safe = self.judge_direct(set, is_last);
        let safe = safe.min(self.judge_escaped(set, is_last));
        merge(&mut self.found);
        let safe = if is_last {
            self.end()
        } else {
            self.whole_places(safe)
        };
        self.release(safe, out);
    }

    /// Where what came ends, in the field.
    fn end(&self) -> usize {
        self.base + self.held.len()
    }

    /// Judges what came; returns up to where nothing more will be found, in the field.
    fn judge_direct(&mut self, set: &DetectorSet, is_last: bool) -> usize {
        let text = Text(&self.held);
        let is_json = self.is_json.unwrap_or(false);
        let base = self.base;
        let found = &mut self.found;
        self.direct
            .judge(set, text, base, is_last, |kind, masks, span| {
                let (span, place) = place::settle(text, span, is_json);
                found.push(Match {
                    span: span.start + base..span.end + base,
                    kinds: KindSet::of(&[kind]),
                    masks,
                    place,
                });
            })
    }

    /// The same for the second reading.
    fn judge_escaped(&mut self, set: &DetectorSet, is_last: bool) -> usize {
        let text = Text(&self.held);
        let base = self.base;
        if self.escaped.is_none() {
            // Up to where the first reading came: a later escape is seen when it is judged.
            let from = self.released.saturating_sub(CONTEXT);
            let escape =
                first_escape(text, from).filter(|at| is_last || base + at < self.direct.judged);
            let Some(escape) = escape else {
                return usize::MAX;
            };
            let begin = (base + escape).saturating_sub(LEFT);
            self.escaped = Some(Escaped {
                reading: Reading::default(),
                decoded: Decoded::default(),
                base: 0,
                next: begin,
                is_whole: begin == 0,
                escape: base + escape,
            });
        }
        let Some(escaped) = &mut self.escaped else {
            return usize::MAX;
        };
        let reached = escaped
            .decoded
            .extend(text, escaped.next - base, base, is_last);
        escaped.next = base + reached;
        let Escaped {
            reading,
            decoded,
            base: decoded_base,
            next,
            is_whole,
            escape,
        } = escaped;
        let starts = &decoded.starts;
        let source = |offset: usize| starts.get(offset).copied().unwrap_or(*next);
        let found = &mut self.found;
        let safe = reading.judge(
            set,
            Text(&decoded.bytes),
            *decoded_base,
            is_last,
            |kind, masks, span| {
                let cut = span.start + *decoded_base == 0 && !*is_whole;
                let place = source(span.start)..source(span.end);
                if cut || place.end <= *escape {
                    return;
                }
                let place = place.start - base..place.end - base;
                let (span, place) = place::settle_decoded(text, place, span.len());
                found.push(Match {
                    span: span.start + base..span.end + base,
                    kinds: KindSet::of(&[kind]),
                    masks,
                    place,
                });
            },
        );
        let safe = safe.saturating_sub(*decoded_base);
        let source = source(safe).saturating_sub(GROWS);
        let forget = safe.saturating_sub(CONTEXT);
        decoded.forget(forget);
        reading.blocks.shift(forget);
        *decoded_base += forget;
        source
    }

    /// `safe`, or the beginning of what lies across it and can only be filled whole.
    fn whole_places(&self, safe: usize) -> usize {
        let across = self.found.iter().find(|found| {
            found.span.start < safe && found.span.end > safe && found.place != place::Place::Text
        });
        across.map_or(safe, |found| {
            found.span.start.max(self.base + self.released)
        })
    }

    fn release(&mut self, safe: usize, out: &mut Vec<u8>) {
        let end = (safe - self.base.min(safe)).clamp(self.released, self.held.len());
        let at = out.len();
        out.extend_from_slice(Text(&self.held).between(self.released, end));
        let first = self.base + self.released;
        let safe = self.base + end;
        for found in &mut self.found {
            let start = found.span.start.max(first);
            let stop = found.span.end.min(safe);
            if start < stop {
                self.kinds = self.kinds.union(found.kinds);
                self.masks = self.masks.union(found.masks);
                let span = at + start - first..at + stop - first;
                place::fill(out.get_mut(span).unwrap_or_default(), found.place);
            }
        }
        self.found.retain(|found| found.span.end > safe);
        self.released = end;
        let forget = end.saturating_sub(CONTEXT);
        self.held.drain(..forget);
        self.direct.blocks.shift(forget);
        self.base += forget;
        self.released -= forget;
    }
}

impl Reading {
    /// Judges what can be judged of `text`, which begins at `base`; returns up to where nothing
    /// more will be found.
    fn judge(
        &mut self,
        set: &DetectorSet,
        text: Text<'_>,
        base: usize,
        is_last: bool,
        mut on: impl FnMut(Kind, Masks, Range<usize>),
    ) -> usize {
        let end = base + text.len();
        let ready = if is_last {
            end
        } else {
            end.saturating_sub(AHEAD)
        };
        if ready > self.judged {
            let within = self.judged - base..ready - base;
            set.judge(text, within, &mut self.blocks, &mut on);
            self.judged = ready;
        }
        let mut safe = self.judged.saturating_sub(BEHIND);
        if !set.patterns.is_empty() {
            while self.cell < end && (is_last || self.cell + CELL + MATCH + GROWS <= end) {
                set.judge_patterns(text, self.cell - base, &mut on);
                self.cell += CELL;
            }
            safe = safe.min(self.cell.saturating_sub(GROWS));
        }
        safe
    }
}
