//! The copy of the agent's own messages that is recorded: what detectors find in it is cut out.
//!
//! What is forwarded stays as it is.

use std::ops::Range;

use codecs::postgres::framing::HEADER_BYTES;
use policy::mask::detect::{self, StreamScanner};

use super::Masking;

/// A message that is too long to be held, as it is recorded. Per message.
#[derive(Default)]
pub(super) struct Concealed {
    scanner: Option<Box<StreamScanner>>,
    /// What is recorded of the stretch at hand, until it is.
    stretch: Option<Vec<u8>>,
}

/// A stretch of a message of the agent.
#[derive(Clone, Copy)]
pub(in crate::protocols::postgres) struct Stretch {
    pub(in crate::protocols::postgres) bytes: usize,
    /// It begins with the header of a message.
    pub(in crate::protocols::postgres) is_headed: bool,
    pub(in crate::protocols::postgres) is_last: bool,
}

impl Masking {
    /// Adds to `cuts` where in `wire` values stand that detectors find in `text`, a part of it.
    pub(in crate::protocols::postgres) fn conceal(
        &self,
        wire: &[u8],
        text: &[u8],
        cuts: &mut Vec<Range<usize>>,
    ) {
        if !self.masks.detects() {
            return;
        }
        let start = text.as_ptr().addr().saturating_sub(wire.as_ptr().addr());
        self.tools.find(&self.masks, text, |span| {
            cuts.push(span.start + start..span.end + start);
        });
    }

    /// The same for a whole message, behind its header.
    pub(in crate::protocols::postgres) fn conceal_all(
        &self,
        wire: &[u8],
        cuts: &mut Vec<Range<usize>>,
    ) {
        self.conceal(wire, wire.get(HEADER_BYTES..).unwrap_or_default(), cuts);
    }

    /// What is recorded of a stretch of a message that is too long to be held; `None` where that is
    /// all of it. The same until [`Self::stretch_recorded`].
    pub(in crate::protocols::postgres) fn conceal_stretch(
        &mut self,
        bytes: &[u8],
        stretch: Stretch,
    ) -> Option<&[u8]> {
        if !self.masks.detects() {
            return None;
        }
        let Concealed {
            scanner,
            stretch: known,
        } = &mut self.concealed;
        let recorded = known.get_or_insert_with(|| {
            let header = if stretch.is_headed { HEADER_BYTES } else { 0 };
            let (header, text) = bytes.split_at(header.min(bytes.len()));
            let mut out = header.to_vec();
            let mut scanning = scanner
                .take()
                .unwrap_or_else(|| Box::new(StreamScanner::new(detect::Format::Text)));
            scanning.feed(&self.masks.detectors, text, &mut out);
            if stretch.is_last {
                let _found = scanning.finish(&self.masks.detectors, &mut out);
            } else {
                *scanner = Some(scanning);
            }
            out
        });
        Some(recorded)
    }

    /// The stretch at hand is in the journal.
    pub(in crate::protocols::postgres) fn stretch_recorded(&mut self) {
        self.concealed.stretch = None;
    }
}
