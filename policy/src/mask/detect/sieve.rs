//! Finds the places at which a value may lie, at the speed of memory: everything else is clean.
//!
//! Classes of bytes become bit masks, one bit to a byte, and the forms of values become shifts and
//! ands of those masks; a place is an *anchor*, to be judged by a validator. An anchor depends on
//! its neighbourhood alone, never on where a scan began.

use std::ops::{ControlFlow, Range};

use wide::u8x16;

/// What a place looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Nine digits or more begin here.
    Digits,
    /// Three digits, a byte that is none, three digits; or 3-2-4.
    Groups,
    /// Two letters, two digits and enough behind them for an IBAN.
    Iban,
    /// A digit and a dot, three times in short distance.
    Dotted,
    /// Colons as close together as in an IPv6 address.
    Colons,
    /// `+` or `(` before a digit.
    Plus,
    /// Four times two digits, divided by single bytes that are none.
    Pairs,
    /// Sixteen letters or digits begin here.
    Run,
}

/// Which shapes are looked for; what is not costs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shapes {
    pub(super) digits: bool,
    pub(super) iban: bool,
    pub(super) addresses: bool,
    pub(super) phone: bool,
    pub(super) runs: bool,
}

impl Shapes {
    pub(super) fn any(self) -> bool {
        self.digits || self.iban || self.addresses || self.phone || self.runs
    }
}

/// Bytes that a shape extends to the right of its anchor, at most.
const AHEAD: usize = 16;

/// Bytes that are classified at once: one to a bit.
pub(super) const BLOCK: usize = 64;

/// Anchors of a block are complete in all but its last [`AHEAD`] bytes.
const STEP: usize = BLOCK - AHEAD;

/// Calls `on` with every anchor in `within`, in order of blocks.
///
/// Bytes after `within` are looked at, those before it are not: a run that began before it has an
/// anchor at its start.
pub(super) fn anchors<B>(
    bytes: &[u8],
    within: Range<usize>,
    shapes: Shapes,
    on: impl FnMut(usize, Shape) -> ControlFlow<B>,
) -> ControlFlow<B> {
    // Invariant: the constants follow `shapes`; they are constants so that a set which has no
    // detector of addresses or telephones does not pay for their classes.
    match (shapes.addresses, shapes.phone) {
        (false, false) => sift::<false, false, B>(bytes, within, shapes, on),
        (false, true) => sift::<false, true, B>(bytes, within, shapes, on),
        (true, false) => sift::<true, false, B>(bytes, within, shapes, on),
        (true, true) => sift::<true, true, B>(bytes, within, shapes, on),
    }
}

#[inline(always)]
fn sift<const ADDRESSES: bool, const PHONE: bool, B>(
    bytes: &[u8],
    within: Range<usize>,
    shapes: Shapes,
    mut on: impl FnMut(usize, Shape) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let digits = mask_if(shapes.digits);
    let iban = mask_if(shapes.iban);
    let runs = mask_if(shapes.runs);
    let mut start = within.start;
    let mut before = Edge::default();
    while start < within.end {
        let padded;
        let block = match bytes.get(start..).and_then(|rest| rest.first_chunk()) {
            Some(block) => block,
            None => {
                padded = pad(bytes.get(start..).unwrap_or_default());
                &padded
            }
        };
        let classes = Classes::of::<ADDRESSES, PHONE>(block);
        let found = classes.forms::<ADDRESSES, PHONE>(&before, digits, iban, runs);
        let live = live(within.end - start);
        if found.any() & live != 0 {
            found.each(live, |bit, shape| on(start + bit, shape))?;
        }
        before = Edge {
            digits: found.nine >> (STEP - 1) & 1,
            run: found.sixteen >> (STEP - 1) & 1,
        };
        start += STEP;
    }
    ControlFlow::Continue(())
}

fn mask_if(wanted: bool) -> u64 {
    if wanted { u64::MAX } else { 0 }
}

/// The bits of a block whose anchors are asked for, `left` bytes before the end of the range.
fn live(left: usize) -> u64 {
    let bits = left.min(STEP);
    (1 << bits) - 1
}

#[cold]
fn pad(tail: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    for (to, from) in block.iter_mut().zip(tail) {
        *to = *from;
    }
    block
}

/// What the block before says about the first byte of the next.
#[derive(Default)]
struct Edge {
    digits: u64,
    run: u64,
}

/// One bit to a byte, for each class.
#[derive(Default)]
struct Classes {
    digit: u64,
    letter: u64,
    dot: u64,
    colon: u64,
    plus: u64,
}

impl Classes {
    #[inline(always)]
    fn of<const ADDRESSES: bool, const PHONE: bool>(block: &[u8; BLOCK]) -> Self {
        let mut classes = Self::default();
        let (quarters, _) = block.as_chunks::<16>();
        for (quarter, shift) in quarters.iter().zip([0, 16, 32, 48]) {
            let bytes = u8x16::new(*quarter);
            let digit = bytes - u8x16::splat(b'0');
            let letter = (bytes | u8x16::splat(0x20)) - u8x16::splat(b'a');
            classes.digit |= bits(below(digit, 10)) << shift;
            classes.letter |= bits(below(letter, 26)) << shift;
            if ADDRESSES {
                classes.dot |= bits(bytes.simd_eq(u8x16::splat(b'.'))) << shift;
                classes.colon |= bits(bytes.simd_eq(u8x16::splat(b':'))) << shift;
            }
            if PHONE {
                let plus = bytes.simd_eq(u8x16::splat(b'+'));
                let open = bytes.simd_eq(u8x16::splat(b'('));
                classes.plus |= bits(plus | open) << shift;
            }
        }
        classes
    }

    /// Where the shapes begin: bit `i` of `x >> k` is what byte `i + k` is.
    #[inline(always)]
    fn forms<const ADDRESSES: bool, const PHONE: bool>(
        &self,
        before: &Edge,
        digits: u64,
        iban: u64,
        runs: u64,
    ) -> Forms {
        let d = self.digit;
        let two = d & d >> 1;
        let three = two & d >> 2;
        let four = two & two >> 2;
        let nine = four & four >> 4 & d >> 8;
        let other = !d;
        let split = three & other >> 3;
        let groups = split & (three >> 4 | (two >> 4 & other >> 6 & four >> 7));

        let word = d | self.letter;
        let word_two = word & word >> 1;
        let word_four = word_two & word_two >> 2;
        let word_eight = word_four & word_four >> 4;
        let sixteen = word_eight & word_eight >> 8;
        let country = self.letter & self.letter >> 1 & two >> 2;
        let whole = word_eight & word_eight >> 7;
        let grouped =
            !word >> 4 & word_four >> 5 & (word_four >> 9 | (!word >> 9 & word_four >> 10));

        let (mut dotted, mut colons) = (0, 0);
        if ADDRESSES {
            let pair = d & self.dot >> 1 & d >> 2;
            let next = pair & (pair >> 2 | pair >> 3 | pair >> 4);
            dotted = next & (next >> 2 | next >> 3 | next >> 4);
            let near = |x: u64| x >> 2 | x >> 3 | x >> 4 | x >> 5;
            let next = self.colon & near(self.colon);
            colons = (next & near(next)) | (self.colon & self.colon >> 1);
        }
        let (mut plus, mut pairs) = (0, 0);
        if PHONE {
            plus = self.plus & d >> 1;
            let pair = two & other >> 2;
            pairs = pair & pair >> 3 & pair >> 6 & two >> 9;
        }

        Forms {
            nine,
            sixteen,
            digits: nine & !(nine << 1 | before.digits) & digits,
            groups: groups & digits,
            iban: country & (whole | grouped) & iban,
            dotted,
            colons,
            plus,
            pairs,
            run: sixteen & !(sixteen << 1 | before.run) & runs,
        }
    }
}

#[inline(always)]
fn below(bytes: u8x16, bound: u8) -> u8x16 {
    bytes.min(u8x16::splat(bound - 1)).simd_eq(bytes)
}

#[inline(always)]
fn bits(mask: u8x16) -> u64 {
    u64::from(mask.to_bitmask())
}

struct Forms {
    /// Nine digits from here, at every digit of a longer run.
    nine: u64,
    sixteen: u64,
    digits: u64,
    groups: u64,
    iban: u64,
    dotted: u64,
    colons: u64,
    plus: u64,
    pairs: u64,
    run: u64,
}

impl Forms {
    #[inline(always)]
    fn any(&self) -> u64 {
        self.digits
            | self.groups
            | self.iban
            | self.dotted
            | self.colons
            | self.plus
            | self.pairs
            | self.run
    }

    fn each<B>(
        &self,
        live: u64,
        mut on: impl FnMut(usize, Shape) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (mask, shape) in [
            (self.digits, Shape::Digits),
            (self.groups, Shape::Groups),
            (self.iban, Shape::Iban),
            (self.dotted, Shape::Dotted),
            (self.colons, Shape::Colons),
            (self.plus, Shape::Plus),
            (self.pairs, Shape::Pairs),
            (self.run, Shape::Run),
        ] {
            let mut mask = mask & live;
            while mask != 0 {
                // At most 63: a bit of a u64.
                let bit = usize::try_from(mask.trailing_zeros()).unwrap_or(0);
                mask &= mask - 1;
                on(bit, shape)?;
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests;
