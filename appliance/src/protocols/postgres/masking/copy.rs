//! The data of COPY ... TO STDOUT.
//!
//! The server does not say of which types its columns are. In place of a masked value stands NULL,
//! but for transforms that an operator chose for a text: `fixed`, `last4`, `first`, which are
//! written in text and CSV.

use codecs::postgres::backend::encode_copy_data;
use codecs::postgres::copy::{CopyError, CopyFields, CopyFormat, CopyRewriter};
use codecs::postgres::value::Rewritten;
use codecs::postgres::{BackendTag, Fragment};
use policy::mask::detect::{self, StreamScanner};
use policy::mask::transform::{write_first, write_last4};
use policy::mask::{ColumnMask, Transform};
use policy::sql::CopyLayout;

use super::Unmaskable;
use super::session::SessionMasks;
use super::value::Tools;

/// Longest field that is held to be looked at. Bytes; a longer one ends the session where it is
/// masked, and is looked at in its stretches where only detectors look.
const FIELD_BYTES_MAX: usize = 1 << 20;

/// One COPY. Per statement.
pub(super) struct CopyOut {
    rewriter: CopyRewriter,
    columns: Box<[ColumnMask]>,
    is_binary: bool,
    /// Of a row that is too long to be held, which no column mask is about.
    long: Option<StreamScanner>,
    /// What became of the message that is being looked at.
    data: Vec<u8>,
}

impl CopyOut {
    pub(super) fn new(layout: &CopyLayout, columns: Box<[ColumnMask]>) -> Self {
        let format = format(layout);
        Self {
            is_binary: matches!(format, CopyFormat::Binary),
            rewriter: CopyRewriter::new(format, columns.len(), FIELD_BYTES_MAX),
            columns,
            long: None,
            data: Vec::new(),
        }
    }

    /// Appends what becomes of one message of data.
    pub(super) fn message(
        &mut self,
        data: &[u8],
        masks: &SessionMasks,
        tools: &Tools,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        self.data.clear();
        let mut fields = Fields {
            columns: &self.columns,
            is_binary: self.is_binary,
            masks,
            tools,
        };
        self.rewriter.rewrite(data, &mut fields, &mut self.data)?;
        self.say(out)
    }

    /// The same for a stretch of a message that is too long to be held.
    pub(super) fn stretch(
        &mut self,
        fragment: &Fragment<'_, BackendTag>,
        masks: &SessionMasks,
        tools: &Tools,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        let is_masked = self.columns.iter().any(Option::is_some);
        if fragment.first && !is_masked && !self.is_binary && self.rewriter.is_between_rows() {
            self.long = Some(StreamScanner::new(detect::Format::Text));
        }
        let Some(scanner) = &mut self.long else {
            return self.message(fragment.payload, masks, tools, out);
        };
        self.data.clear();
        scanner.feed(&masks.detectors, fragment.payload, &mut self.data);
        if fragment.last
            && let Some(scanner) = self.long.take()
        {
            let _found = scanner.finish(&masks.detectors, &mut self.data);
        }
        self.say(out)
    }

    /// The server said that there is no more.
    pub(super) fn finish(self) -> Result<(), Unmaskable> {
        Ok(self.rewriter.finish()?)
    }

    /// Rows need not be messages: how many there are is the sender's to choose.
    fn say(&self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        if !self.data.is_empty() {
            encode_copy_data(out, &self.data)?;
        }
        Ok(())
    }
}

impl From<CopyError> for Unmaskable {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Malformed { .. } => Self::Copy,
            CopyError::TooLong { .. } => Self::TooLong,
        }
    }
}

struct Fields<'f> {
    columns: &'f [ColumnMask],
    is_binary: bool,
    masks: &'f SessionMasks,
    tools: &'f Tools,
}

impl CopyFields for Fields<'_> {
    fn looks_at(&self, column: usize) -> bool {
        self.masks.detects() || self.columns.get(column).is_none_or(Option::is_some)
    }

    fn field(&mut self, column: usize, value: &[u8], out: &mut Vec<u8>) -> Rewritten {
        let Some(mask) = self.columns.get(column) else {
            return Rewritten::Null;
        };
        match mask {
            Some(_) if self.is_binary => Rewritten::Null,
            Some(Transform::Fixed(text)) => {
                out.extend_from_slice(text.as_bytes());
                Rewritten::Value
            }
            Some(Transform::Last4) => {
                write_last4(value, out);
                Rewritten::Value
            }
            Some(Transform::First(characters)) => {
                write_first(value, *characters, out);
                Rewritten::Value
            }
            Some(
                Transform::Redact
                | Transform::Null
                | Transform::Hash
                | Transform::Round(_)
                | Transform::Truncate(_),
            ) => Rewritten::Null,
            // Of whatever type it is, what is found in it keeps its length.
            None if self.is_binary => rewritten(self.tools.fill(self.masks, value, out)),
            None => rewritten(self.tools.redact(self.masks, value, out)),
        }
    }
}

fn rewritten(is_changed: bool) -> Rewritten {
    if is_changed {
        Rewritten::Value
    } else {
        Rewritten::Unchanged
    }
}

fn format(layout: &CopyLayout) -> CopyFormat {
    match layout {
        CopyLayout::Text {
            delimiter,
            null,
            header,
        } => CopyFormat::Text {
            delimiter: *delimiter,
            null: null.as_bytes().into(),
            header: *header,
        },
        CopyLayout::Csv {
            delimiter,
            quote,
            escape,
            null,
            header,
        } => CopyFormat::Csv {
            delimiter: *delimiter,
            quote: *quote,
            escape: *escape,
            null: null.as_bytes().into(),
            header: *header,
        },
        CopyLayout::Binary => CopyFormat::Binary,
    }
}
