//! The data of COPY ... TO STDOUT: fields found in text, CSV and binary, and written back changed.
//!
//! Rows may be cut into chunks anywhere, and a chunk may hold many rows. What becomes of a field is
//! said by [`CopyFields`]; columns that it does not look at pass without being held.
//!
//! Text and CSV are read as UTF-8, or any other encoding in which the bytes of ASCII stand for
//! nothing else: sessions are kept at `client_encoding = UTF8`.
//!
//! Spec: PostgreSQL manual, "COPY", "File Formats".

mod binary;
mod lines;

use thiserror::Error;

use super::value::Rewritten;
use crate::wire::Malformed;

use binary::BinaryRewriter;
use lines::LinesRewriter;

/// How the data is written, from the options of the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFormat {
    Text {
        delimiter: u8,
        null: Box<[u8]>,
        /// The first line has the names of the columns.
        header: bool,
    },
    Csv {
        delimiter: u8,
        quote: u8,
        escape: u8,
        null: Box<[u8]>,
        header: bool,
    },
    Binary,
}

impl CopyFormat {
    /// Text without options.
    #[must_use]
    pub fn text() -> Self {
        Self::Text {
            delimiter: b'\t',
            null: (*b"\\N").into(),
            header: false,
        }
    }

    /// CSV without options.
    #[must_use]
    pub fn csv() -> Self {
        Self::Csv {
            delimiter: b',',
            quote: b'"',
            escape: b'"',
            null: Box::default(),
            header: false,
        }
    }
}

/// What becomes of each field.
pub trait CopyFields {
    /// Whether a column, counted from 0, is looked at.
    fn looks_at(&self, column: usize) -> bool;

    /// Appends to `out` what a value that is not NULL becomes. In text and CSV it is the text format
    /// of its type, without the escapes and quotes of COPY.
    fn field(&mut self, column: usize, value: &[u8], out: &mut Vec<u8>) -> Rewritten;
}

/// Why data can not be rewritten. Final for the COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CopyError {
    #[error("COPY data {what}")]
    Malformed { what: Malformed },
    /// Legal, and longer than a field that is looked at may be.
    #[error("a field of COPY data has more than {limit} bytes")]
    TooLong { limit: usize },
}

/// Rewrites the data of one COPY. Per COPY.
///
/// Memory: it holds the field that is not complete, of at most `field_bytes_max`, and its text.
#[derive(Debug)]
pub struct CopyRewriter(Rewriter);

#[derive(Debug)]
enum Rewriter {
    Lines(LinesRewriter),
    Binary(BinaryRewriter),
}

impl CopyRewriter {
    /// Expects rows of `columns` fields.
    ///
    /// `field_bytes_max` bounds what is held of a field that is looked at, as it is written.
    #[must_use]
    pub fn new(format: CopyFormat, columns: usize, field_bytes_max: usize) -> Self {
        Self(match format {
            CopyFormat::Text {
                delimiter,
                null,
                header,
            } => Rewriter::Lines(LinesRewriter::new(
                lines::Syntax::Text { delimiter },
                null,
                header,
                columns,
                field_bytes_max,
            )),
            CopyFormat::Csv {
                delimiter,
                quote,
                escape,
                null,
                header,
            } => Rewriter::Lines(LinesRewriter::new(
                lines::Syntax::Csv {
                    delimiter,
                    quote,
                    escape,
                },
                null,
                header,
                columns,
                field_bytes_max,
            )),
            CopyFormat::Binary => Rewriter::Binary(BinaryRewriter::new(columns, field_bytes_max)),
        })
    }

    /// Appends what `chunk` becomes, but for the field that does not end in it.
    ///
    /// Where a chunk ends with a row, so does what was appended: a message of one row stays one.
    ///
    /// # Errors
    /// The data is not in the format, or a field is too long. What was appended of the chunk may be
    /// a part of it, and is to be dropped.
    pub fn rewrite(
        &mut self,
        chunk: &[u8],
        fields: &mut dyn CopyFields,
        out: &mut Vec<u8>,
    ) -> Result<(), CopyError> {
        match &mut self.0 {
            Rewriter::Lines(lines) => lines.rewrite(chunk, fields, out),
            Rewriter::Binary(binary) => binary.rewrite(chunk, fields, out),
        }
    }

    /// Whether everything that came belongs to whole rows.
    #[must_use]
    pub fn is_between_rows(&self) -> bool {
        match &self.0 {
            Rewriter::Lines(lines) => lines.is_between_rows(),
            Rewriter::Binary(binary) => binary.is_complete(),
        }
    }

    /// Says that the target sent CopyDone.
    ///
    /// # Errors
    /// A row or a file header is not complete.
    pub fn finish(self) -> Result<(), CopyError> {
        let is_complete = match &self.0 {
            Rewriter::Lines(lines) => lines.is_between_rows(),
            Rewriter::Binary(binary) => binary.is_complete(),
        };
        if is_complete {
            Ok(())
        } else {
            Err(malformed(Malformed::Truncated))
        }
    }
}

const fn malformed(what: Malformed) -> CopyError {
    CopyError::Malformed { what }
}

#[cfg(test)]
mod tests;
