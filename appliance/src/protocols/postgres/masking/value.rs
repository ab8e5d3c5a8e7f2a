//! What stands in the place of a masked value, by its type.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use codecs::postgres::frontend::Format;
use codecs::postgres::value::{
    self, Action, Edited, Kind, Rewritten, Scratch, Shape, TextEditor, Unit,
};
use policy::mask::Transform;
use policy::mask::detect::{self, Scanner};
use policy::mask::transform::{self, write_first, write_last4};

use super::session::SessionMasks;
use super::shape::Column;

/// Capacity above which a buffer is given back to the allocator. Bytes.
const BUFFER_KEPT: usize = 64 * 1024;

/// What rewriting needs and nobody else: buffers, and counts of what it changed. Per shard.
#[derive(Default)]
pub(in crate::protocols::postgres) struct Tools {
    buffers: RefCell<Buffers>,
    by_column: Cell<u64>,
    by_form: Cell<u64>,
}

#[derive(Default)]
struct Buffers {
    scanner: Scanner,
    scratch: Scratch,
    value: Vec<u8>,
}

/// What becomes of a value.
pub(super) enum Becomes<'v> {
    Unchanged,
    Null,
    Value(&'v [u8]),
}

impl Tools {
    /// Tells `then` what a value of a column becomes.
    pub(super) fn rewrite<R>(
        &self,
        masks: &SessionMasks,
        column: &Column,
        clear: &[u8],
        then: impl FnOnce(Becomes<'_>) -> R,
    ) -> R {
        let mut buffers = self.buffers.borrow_mut();
        let Buffers {
            scanner,
            scratch,
            value,
        } = &mut *buffers;
        value.clear();
        let rewritten = match &column.mask {
            Some(transform) => masked(masks, transform, column, clear, scratch, value),
            None => scanned(masks, column, clear, scanner, scratch, value),
        };
        if !matches!(rewritten, Rewritten::Unchanged) {
            let count = match &column.mask {
                Some(_) => &self.by_column,
                None => &self.by_form,
            };
            count.set(count.get() + 1);
        }
        let outcome = then(match rewritten {
            Rewritten::Unchanged => Becomes::Unchanged,
            Rewritten::Null => Becomes::Null,
            Rewritten::Value => Becomes::Value(value),
        });
        if value.capacity() > BUFFER_KEPT {
            *value = Vec::new();
        }
        scratch.shrink(BUFFER_KEPT);
        outcome
    }

    /// How many values were changed: those of masked columns, and those that detectors found.
    pub(in crate::protocols::postgres) fn changed(&self) -> (u64, u64) {
        (self.by_column.get(), self.by_form.get())
    }

    fn found(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.by_form.set(self.by_form.get().saturating_add(count));
    }

    /// Tells `on` where the values stand that detectors find.
    pub(super) fn find(&self, masks: &SessionMasks, text: &[u8], on: impl FnMut(Range<usize>)) {
        let mut buffers = self.buffers.borrow_mut();
        let scanner = &mut buffers.scanner;
        let found = scanner.find(&masks.detectors, text, detect::Format::Text);
        found.iter().map(|found| found.span.clone()).for_each(on);
    }

    /// Appends `text` with every value filled, byte for byte; nothing where there are none.
    pub(super) fn fill(&self, masks: &SessionMasks, text: &[u8], out: &mut Vec<u8>) -> bool {
        let mut buffers = self.buffers.borrow_mut();
        let found = buffers
            .scanner
            .find(&masks.detectors, text, detect::Format::Text);
        if found.is_empty() {
            return false;
        }
        self.found(found.len());
        let start = out.len();
        out.extend_from_slice(text);
        let copied = out.get_mut(start..).unwrap_or_default();
        for found in found {
            let span = copied.get_mut(found.span.clone());
            detect::fill(span.unwrap_or_default(), found.place);
        }
        true
    }

    /// Appends `text` without the values that detectors find; nothing where there are none.
    pub(super) fn redact(&self, masks: &SessionMasks, text: &[u8], out: &mut Vec<u8>) -> bool {
        let mut buffers = self.buffers.borrow_mut();
        let is_redacted = masks.redact(&mut buffers.scanner, text, detect::Format::Text, out);
        self.found(usize::from(is_redacted));
        is_redacted
    }
}

/// A value of a masked column. What is not of its type becomes NULL.
fn masked(
    masks: &SessionMasks,
    transform: &Transform,
    column: &Column,
    clear: &[u8],
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Rewritten {
    let (mut first, digest);
    let mut action = match transform {
        Transform::Redact => Action::Redact,
        Transform::Null => Action::Null,
        Transform::Fixed(text) => Action::Fixed(text),
        Transform::Last4 => Action::Replace(&mut Last4),
        Transform::First(characters) => {
            first = First(*characters);
            Action::Replace(&mut first)
        }
        Transform::Hash => match &masks.key {
            Some(key) => {
                digest = |value: &[u8]| key.digest(value);
                Action::Digest(&digest)
            }
            None => Action::Redact,
        },
        Transform::Round(step) => Action::Round {
            exponent: step.exponent(),
        },
        Transform::Truncate(unit) => Action::Truncate(match unit {
            transform::Unit::Hour => Unit::Hour,
            transform::Unit::Day => Unit::Day,
            transform::Unit::Month => Unit::Month,
            transform::Unit::Year => Unit::Year,
        }),
    };
    let type_ = column.type_;
    let rewritten = value::rewrite(clear, type_, column.format, &mut action, scratch, out);
    // Security: nothing of it is shown, whatever it is.
    match rewritten {
        Ok(Rewritten::Value) => Rewritten::Value,
        Ok(Rewritten::Null | Rewritten::Unchanged) | Err(_) => Rewritten::Null,
    }
}

/// A value in which detectors look. What can not be read becomes NULL.
fn scanned(
    masks: &SessionMasks,
    column: &Column,
    clear: &[u8],
    scanner: &mut Scanner,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Rewritten {
    let type_ = column.type_;
    if type_.shape == Shape::Scalar && matches!(type_.kind, Kind::Json | Kind::Jsonb) {
        // A document is looked at as a whole: what stands beside a value may tell what it is.
        let version = usize::from(type_.kind == Kind::Jsonb && column.format == Format::Binary);
        let Some((version, document)) = clear.split_at_checked(version) else {
            return Rewritten::Unchanged;
        };
        out.extend_from_slice(version);
        if masks.redact(scanner, document, detect::Format::Json, out) {
            return Rewritten::Value;
        }
        return Rewritten::Unchanged;
    }
    let mut editor = Detecting { masks, scanner };
    let mut action = Action::Edit(&mut editor);
    let rewritten = value::rewrite(clear, type_, column.format, &mut action, scratch, out);
    rewritten.unwrap_or(Rewritten::Null)
}

struct Last4;

impl TextEditor for Last4 {
    fn edit(&mut self, text: &[u8], out: &mut Vec<u8>) -> Edited {
        write_last4(text, out);
        Edited::Changed
    }
}

struct First(u16);

impl TextEditor for First {
    fn edit(&mut self, text: &[u8], out: &mut Vec<u8>) -> Edited {
        write_first(text, self.0, out);
        Edited::Changed
    }
}

struct Detecting<'d> {
    masks: &'d SessionMasks,
    scanner: &'d mut Scanner,
}

impl TextEditor for Detecting<'_> {
    fn edit(&mut self, text: &[u8], out: &mut Vec<u8>) -> Edited {
        let format = detect::Format::Text;
        if self.masks.redact(self.scanner, text, format, out) {
            Edited::Changed
        } else {
            Edited::Unchanged
        }
    }
}
