//! The queries that describe a database, and what the server answers to them, as it came.
//!
//! Makes nothing of the answers; that is `build`, on a worker.

use std::ops::{ControlFlow, Range};

use codecs::postgres::backend::DataRow;
use codecs::postgres::{Backend, TransactionStatus};

use crate::upstream::conversation::{Conversation, Exchange};
use crate::upstream::error::{UpstreamError, Violation};

/// Longest row. Bytes: the text of one view or function, with room to spare.
const ROW_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// Most rows. PostgreSQL's own catalogue has some 3,000; a database of ten thousand tables with
/// twenty columns each comes to a quarter of this.
const ROWS_MAX: usize = 1_000_000;

/// Most bytes of values. A shard keeps about twice as much for as long as the database is in use.
const BYTES_MAX: usize = 128 * 1024 * 1024;

/// One moment of the database; names without a schema are PostgreSQL's own, and what the server
/// prints has a schema with every other name.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL search_path = ''; SET LOCAL statement_timeout = 0; SET LOCAL client_min_messages = error";

/// How many of the statements of [`BEGIN`] and COMMIT answer without rows.
const SILENT: usize = 5;

/// Sums of what tells one state of the catalogue from another. Temporary objects are left out:
/// they come and go, and no other session sees them.
const FINGERPRINT: &str = include_str!("fingerprint.sql");

/// One query for each [`Section`] but the first, separated by semicolons.
const DESCRIPTION: &str = include_str!("load.sql");

/// What a query is about, in the order of the queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Section {
    Fingerprint,
    Relations,
    Columns,
    Parents,
    Rules,
    Triggers,
    ForeignKeys,
    Expressions,
    UniqueColumns,
    Functions,
    Operators,
    Types,
    DomainConstraints,
    Casts,
}

const SECTIONS: usize = Section::Casts as usize + 1;

/// The rows of the answers, as text.
#[derive(Debug, Default)]
pub(super) struct Answers {
    values: Vec<u8>,
    sections: Vec<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    width: usize,
    /// Of [`Answers::values`]; row by row.
    fields: Vec<Option<Range<usize>>>,
}

impl Answers {
    /// Each row of the section; `None` for what is not UTF-8.
    pub(super) fn rows(
        &self,
        section: Section,
    ) -> impl Iterator<Item = Option<Vec<Option<&str>>>> + '_ {
        let rows = self.sections.get(section as usize);
        let width = rows.map_or(1, |rows| rows.width.max(1));
        let fields = rows.map(|rows| rows.fields.as_slice()).unwrap_or_default();
        fields.chunks(width).map(|row| {
            row.iter()
                .map(|field| match field {
                    None => Some(None),
                    Some(range) => {
                        let value = self.values.get(range.clone())?;
                        std::str::from_utf8(value).ok().map(Some)
                    }
                })
                .collect()
        })
    }

    /// What this state of the catalogue is told from others by.
    pub(super) fn fingerprint(&self) -> Option<Box<str>> {
        let mut rows = self.rows(Section::Fingerprint);
        let row = rows.next()??;
        row.first().copied().flatten().map(Into::into)
    }

    fn begin(&mut self) {
        self.sections.push(Rows::default());
    }

    /// `None` when a bound is passed.
    fn add(&mut self, row: &DataRow<'_>) -> Option<()> {
        let rows = self.sections.last_mut()?;
        let before = rows.fields.len();
        for value in row.values().ok()?.iter() {
            let start = self.values.len();
            rows.fields.push(value.map(|value| {
                self.values.extend_from_slice(value);
                start..start + value.len()
            }));
        }
        rows.width = rows.fields.len() - before;
        (self.values.len() <= BYTES_MAX).then_some(())
    }
}

/// Readies a connection for the answers to [`read`] and [`fingerprint`].
pub(super) fn prepare(conversation: &mut Conversation) {
    conversation.expect_rows(ROW_BYTES_MAX, ROWS_MAX);
}

/// Reads everything.
///
/// # Errors
/// As [`Conversation::read`]; `TooLong` for a catalogue that is larger than the limits.
pub(super) async fn read(
    conversation: &mut Conversation,
    exchange: Exchange,
) -> Result<Answers, UpstreamError> {
    ask(conversation, exchange, DESCRIPTION).await
}

/// Reads what tells this state of the catalogue from others.
///
/// # Errors
/// As [`read`].
pub(super) async fn fingerprint(
    conversation: &mut Conversation,
    exchange: Exchange,
) -> Result<Answers, UpstreamError> {
    ask(conversation, exchange, "").await
}

async fn ask(
    conversation: &mut Conversation,
    exchange: Exchange,
    queries: &str,
) -> Result<Answers, UpstreamError> {
    let phase = exchange.phase;
    let violated = |violation| UpstreamError::protocol(phase, violation);
    let text = format!("{BEGIN}; {FINGERPRINT}; {queries}; COMMIT");
    let mut message = Vec::new();
    codecs::postgres::frontend::encode_query(&mut message, text.as_bytes())
        .map_err(|_| violated(Violation::TooLong))?;
    conversation.send(exchange, &message).await?;
    let expected = if queries.is_empty() { 1 } else { SECTIONS };
    let mut answers = Answers::default();
    let mut completed = 0;
    conversation
        .read(exchange, |message| {
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "nothing else answers a query"
            )]
            match message {
                Backend::RowDescription(_) if answers.sections.len() < expected => answers.begin(),
                Backend::DataRow(row) => {
                    answers
                        .add(&row)
                        .ok_or_else(|| violated(Violation::TooLong))?;
                }
                Backend::CommandComplete(_) => completed += 1,
                Backend::ReadyForQuery(TransactionStatus::Idle)
                    if completed == expected + SILENT && answers.sections.len() == expected =>
                {
                    return Ok(ControlFlow::Break(()));
                }
                _ => return Err(violated(Violation::OutOfSequence)),
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    conversation.settle(exchange).await?;
    Ok(answers)
}
