//! What of the target's answers is changed before it is recorded and before the agent sees it.
//!
//! ```text
//! judged statement ─▶ MaskPlan ─┐
//! RowDescription ───────────────┴─▶ Shape, once per answer ─▶ rows and COPY data rewritten
//! transaction ─▶ whether the server's texts may quote what is masked ─▶ errors, notices
//! ```
//!
//! Which answer is meant is said by the number of its request. A session that no mask is about has
//! none of this.

mod ahead;
mod conceal;
mod copy;
mod described;
mod due;
mod long;
mod plans;
mod rows;
mod session;
mod shape;
mod texts;
mod value;

pub(super) use conceal::Stretch;
pub(super) use described::Described;
pub(super) use due::{Of, Planned};
pub(super) use plans::{Columns, Traced};
pub(super) use session::{MaskSets, SessionMasks};
pub(super) use value::Tools;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use codecs::postgres::backend::{
    CopyResponse, ErrorFields, NotificationResponse, ParameterStatus, RowDescription,
    encode_function_call_response, encode_notification_response, encode_parameter_status,
};
use codecs::postgres::frontend::Format;
use codecs::postgres::pipeline::Answer;
use codecs::postgres::{
    Backend, BackendPiece, BackendTag, DecodeError, EncodeError, Fragment, Request,
    TransactionStatus,
};
use policy::mask::{ColumnMask, MaskPlan};
use policy::sql::{CopyLayout, CopyStream};

use ahead::Ahead;
use conceal::Concealed;
use copy::CopyOut;
use described::Field;
use due::{Due, Role, role};
use long::LongRow;
use shape::{Care, Shape};

/// What is done to the answers of each statement of a text.
pub(super) type Plans = Rc<[Rc<MaskPlan>]>;

/// Most cursors of a session whose queries are known. What FETCH brings from another is redacted.
///
/// Count. A program holds a few at a time.
const CURSORS_MAX: usize = 1024;

/// Why an answer can not be passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unmaskable {
    #[error("the target sent what is not PostgreSQL")]
    Malformed(#[from] DecodeError),
    #[error("a message could not be written")]
    Encode(#[from] EncodeError),
    #[error("the target sent rows that it did not describe")]
    Undescribed,
    #[error("the target sent a row of another number of values than it described")]
    Miscounted,
    #[error("a value is too long to be masked")]
    TooLong,
    #[error("COPY data can not be masked")]
    Copy,
}

/// What the agent gets of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Seen {
    AsItIs,
    /// What was written instead, which may be nothing.
    Rewritten,
}

/// The masks of a session, and what they are about to be applied to. Per connection.
pub(super) struct Masking {
    masks: Rc<SessionMasks>,
    tools: Rc<Tools>,
    /// In the order of their requests. Bounded by the pipeline.
    due: VecDeque<Due>,
    /// The request whose answer is arriving.
    answering: u64,
    rows: Option<Rows>,
    /// The COPY whose data is arriving.
    copy: Option<Box<CopyOut>>,
    /// The row that is arriving in stretches.
    long: Option<Box<LongRow>>,
    /// What the cursors of SQL's DECLARE answer with, by name.
    ///
    /// An entry is put there when the server confirms the DECLARE. A name can not be declared twice
    /// at a time, so that the last confirmed one is what it stands for, if it stands for anything.
    cursors: HashMap<Box<str>, Planned>,
    /// A statement of the open transaction touched what is masked: what the server says until its
    /// end may quote it.
    withholds: bool,
    ahead: Ahead,
    concealed: Concealed,
    /// The server named a table that the catalogue does not have.
    misses_relations: bool,
}

/// The rows that are arriving.
struct Rows {
    statement: u32,
    shape: Rc<Shape>,
}

impl Masking {
    /// Whether what is masked depends on where a value comes from.
    pub(super) fn masks_columns(&self) -> bool {
        self.masks.by_column
    }

    pub(super) fn new(masks: Rc<SessionMasks>, tools: Rc<Tools>) -> Box<Self> {
        Box::new(Self {
            masks,
            tools,
            due: VecDeque::new(),
            answering: 0,
            rows: None,
            copy: None,
            long: None,
            cursors: HashMap::new(),
            withholds: false,
            ahead: Ahead::default(),
            concealed: Concealed::default(),
            misses_relations: false,
        })
    }

    /// Takes the masks of a new configuration.
    pub(super) fn adopt(&mut self, masks: Rc<SessionMasks>) {
        self.masks = masks;
        self.ahead = Ahead::default();
    }

    /// Whether what the server says of a text with these plans may quote what is masked.
    pub(super) fn withholds(&self, plans: Option<&Plans>) -> bool {
        match plans {
            Some(plans) if !self.masks.is_of_everything => {
                plans.iter().any(|plan| plan.withholds_texts)
            }
            Some(_) => true,
            None => self.masks.by_column,
        }
    }

    /// Notes what the answer to a request is to be masked by.
    pub(super) fn expect(&mut self, request: u64, of: Of, withholds: bool) {
        self.due.push_back(Due {
            request,
            of,
            withholds,
        });
    }

    /// Whether the answer is one to a request of ours that asks for types.
    pub(super) fn learns_by(&self, request: u64) -> bool {
        let mut due = self.due.iter();
        due.find(|due| due.request == request)
            .is_some_and(|due| matches!(due.of, Of::Learning(_)))
    }

    /// Takes note of a message that answers a request, and rewrites it to `out` where it shows what
    /// is masked.
    ///
    /// `statement` is the index of the agent's own statement.
    ///
    /// `piece` is the beginning of `unread`.
    pub(super) fn answer(
        &mut self,
        piece: &BackendPiece<'_>,
        unread: &[u8],
        answer: &Answer<u64>,
        statement: u32,
        out: &mut Vec<u8>,
    ) -> Result<Seen, Unmaskable> {
        self.turn_to(answer.tag);
        let seen = match piece {
            BackendPiece::Message(decoded) => match &decoded.message {
                Backend::DataRow(_) => self.row(decoded.wire, unread, statement, out)?,
                Backend::RowDescription(description) => {
                    self.described(description, answer, statement);
                    Seen::AsItIs
                }
                Backend::NoData => {
                    self.learn(Rc::from([]));
                    Seen::AsItIs
                }
                Backend::BindComplete => {
                    self.bound();
                    Seen::AsItIs
                }
                Backend::CopyOutResponse(response) => self.copy(response, statement)?,
                Backend::CopyData(data) => self.copied(data, out)?,
                Backend::CopyDone => match self.copy.take() {
                    Some(copy) => {
                        copy.finish()?;
                        Seen::AsItIs
                    }
                    None => Seen::AsItIs,
                },
                Backend::FunctionCallResponse(Some(value)) => self.result(value, out)?,
                Backend::ErrorResponse(fields) => {
                    self.says(BackendTag::ErrorResponse, fields, out)?
                }
                Backend::Authentication(_)
                | Backend::BackendKeyData(_)
                | Backend::CloseComplete
                | Backend::CommandComplete(_)
                | Backend::CopyBothResponse(_)
                | Backend::CopyInResponse(_)
                | Backend::EmptyQueryResponse
                | Backend::FunctionCallResponse(_)
                | Backend::NegotiateProtocolVersion(_)
                | Backend::NoticeResponse(_)
                | Backend::NotificationResponse(_)
                | Backend::ParameterDescription(_)
                | Backend::ParameterStatus(_)
                | Backend::ParseComplete
                | Backend::PortalSuspended
                | Backend::ReadyForQuery(_) => Seen::AsItIs,
            },
            BackendPiece::Fragment(fragment) => self.begins(fragment, statement, out)?,
        };
        if answer.completes_statement {
            self.statement_done(statement);
        }
        if answer.completes_request || answer.fails {
            self.rows = None;
            self.copy = None;
            self.turn_to(answer.tag.saturating_add(1));
        }
        Ok(seen)
    }

    /// What the server says in words: an error, or a notice, which comes at any time.
    pub(super) fn says(
        &self,
        tag: BackendTag,
        fields: &ErrorFields<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Seen, Unmaskable> {
        let withholds = self.withholds || self.due.front().is_some_and(|due| due.withholds);
        if withholds {
            texts::withhold(out, tag, fields)?;
            return Ok(Seen::Rewritten);
        }
        if self.masks.detects() && texts::redact(out, tag, fields, &self.masks, &self.tools)? {
            return Ok(Seen::Rewritten);
        }
        Ok(Seen::AsItIs)
    }

    /// A setting that the server reports.
    pub(super) fn reported(
        &self,
        status: &ParameterStatus<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Seen, Unmaskable> {
        let mut value = Vec::new();
        if !self.masks.detects() || !self.tools.redact(&self.masks, status.value, &mut value) {
            return Ok(Seen::AsItIs);
        }
        encode_parameter_status(out, status.name, &value)?;
        Ok(Seen::Rewritten)
    }

    /// Whether the server named a table that the catalogue does not have, since this was asked.
    pub(super) fn takes_missed_relations(&mut self) -> bool {
        std::mem::take(&mut self.misses_relations)
    }

    /// The first bytes of what is unread were taken.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.ahead.taken(bytes);
    }

    /// Another session's NOTIFY. Nobody knows what its payload derives from.
    pub(super) fn notified(
        &self,
        notification: &NotificationResponse<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Seen, Unmaskable> {
        let NotificationResponse {
            process_id,
            channel,
            payload,
        } = *notification;
        let mut other = Vec::new();
        let payload = if payload.is_empty() {
            return Ok(Seen::AsItIs);
        } else if self.masks.by_column {
            texts::WITHHELD_PAYLOAD
        } else if self.masks.detects() && self.tools.redact(&self.masks, payload, &mut other) {
            &other
        } else {
            return Ok(Seen::AsItIs);
        };
        encode_notification_response(out, process_id, channel, payload)?;
        Ok(Seen::Rewritten)
    }

    /// The server said ReadyForQuery: outside of a transaction nothing is left that it may quote.
    pub(super) fn ready(&mut self, status: TransactionStatus) {
        self.withholds &= status != TransactionStatus::Idle;
        self.ahead = Ahead::default();
    }

    /// Drops what was due before `request`: it was answered, or the server discarded it.
    fn turn_to(&mut self, request: u64) {
        while let Some(due) = self.due.pop_front_if(|due| due.request < request) {
            self.withholds |= due.withholds;
        }
        self.answering = request;
    }

    /// What is noted of the request whose answer is arriving.
    fn front(&self) -> Option<&Due> {
        let front = self.due.front();
        front.filter(|due| due.request == self.answering)
    }
}

/// What the messages of an answer do.
impl Masking {
    fn described(
        &mut self,
        description: &RowDescription<'_>,
        answer: &Answer<u64>,
        statement: u32,
    ) {
        let fields: Rc<[Field]> = description
            .iter()
            .map(|column| Field::of(&column))
            .collect();
        if answer.request != Request::Query {
            return self.learn(fields);
        }
        // A rule of the server may add a second query to a statement: no plan speaks of it.
        let is_second = self
            .rows
            .as_ref()
            .is_some_and(|rows| rows.statement == statement);
        let planned = if is_second {
            Planned::Unknown
        } else {
            self.planned(statement)
        };
        let shape = Rc::new(Shape::new(&self.masks, &planned, &fields, None));
        self.misses_relations |= shape.is_of_unknown;
        self.rows = Some(Rows { statement, shape });
    }

    /// Keeps the answer to a Describe.
    fn learn(&self, fields: Rc<[Field]>) {
        if let Some(Due {
            of: Of::Describe(described) | Of::Learning(described),
            ..
        }) = self.front()
        {
            described.learn(fields);
        }
    }

    fn row(
        &mut self,
        wire: &[u8],
        unread: &[u8],
        statement: u32,
        out: &mut Vec<u8>,
    ) -> Result<Seen, Unmaskable> {
        if self.front().is_none() {
            return Ok(Seen::AsItIs);
        }
        let shape = self.shape(statement)?;
        let is_clean = match shape.care {
            Care::None => true,
            Care::Rows => false,
            Care::Suspects => self
                .ahead
                .is_clean(wire.len(), unread, &self.masks.detectors),
        };
        if is_clean {
            return Ok(Seen::AsItIs);
        }
        rows::rewrite(wire, &self.masks, &shape, &self.tools, out)
    }

    /// How the rows are made that are arriving.
    fn shape(&mut self, statement: u32) -> Result<Rc<Shape>, Unmaskable> {
        if let Some(rows) = &self.rows
            && rows.statement == statement
        {
            return Ok(Rc::clone(&rows.shape));
        }
        let Some(Due {
            of: Of::Execute { portal, .. },
            ..
        }) = self.front()
        else {
            return Err(Unmaskable::Undescribed);
        };
        let shape = portal
            .shape(&self.masks, &self.planned(statement))
            .ok_or(Unmaskable::Undescribed)?;
        self.misses_relations |= shape.is_of_unknown;
        self.rows = Some(Rows {
            statement,
            shape: Rc::clone(&shape),
        });
        Ok(shape)
    }

    /// The first stretch of a row, result or COPY data that is too long to be held.
    fn begins(
        &mut self,
        fragment: &Fragment<'_, BackendTag>,
        statement: u32,
        out: &mut Vec<u8>,
    ) -> Result<Seen, Unmaskable> {
        self.long = None;
        let Some(due) = self.front() else {
            return Ok(Seen::AsItIs);
        };
        let long = match (&due.of, fragment.tag) {
            (_, BackendTag::CopyData) if self.copy.is_none() => return Ok(Seen::AsItIs),
            (_, BackendTag::CopyData) => return self.goes_on(fragment, out),
            (Of::Function { is_known: true }, _) if !self.masks.detects() => {
                return Ok(Seen::AsItIs);
            }
            (Of::Function { is_known: true }, _) => LongRow::value(Rc::new(Shape::of_result())),
            (Of::Query { .. } | Of::Execute { .. }, BackendTag::DataRow) => {
                let shape = self.shape(statement)?;
                if shape.care == Care::None {
                    return Ok(Seen::AsItIs);
                }
                LongRow::row(shape)
            }
            _ => return Err(Unmaskable::TooLong),
        };
        self.long = Some(Box::new(long));
        let header = fragment.wire.len().saturating_sub(fragment.payload.len());
        out.extend_from_slice(fragment.wire.get(..header).unwrap_or_default());
        self.goes_on(fragment, out)
    }

    /// Any stretch, the first one included.
    pub(super) fn goes_on(
        &mut self,
        fragment: &Fragment<'_, BackendTag>,
        out: &mut Vec<u8>,
    ) -> Result<Seen, Unmaskable> {
        let (masks, tools) = (&self.masks, &self.tools);
        if let Some(long) = &mut self.long {
            long.feed(fragment.payload, masks, tools, out)?;
            if fragment.last
                && let Some(long) = self.long.take()
            {
                long.finish()?;
            }
            return Ok(Seen::Rewritten);
        }
        match &mut self.copy {
            Some(copy) if fragment.tag == BackendTag::CopyData => {
                copy.stretch(fragment, masks, tools, out)?;
                Ok(Seen::Rewritten)
            }
            Some(_) | None => Ok(Seen::AsItIs),
        }
    }

    fn copy(&mut self, response: &CopyResponse<'_>, statement: u32) -> Result<Seen, Unmaskable> {
        let Some(due) = self.front() else {
            return Ok(Seen::AsItIs);
        };
        let count = response.columns.len();
        let planned = self.planned(statement);
        let columns: Box<[ColumnMask]> = (0..count)
            .map(|index| shape::mask(&self.masks, &planned, count, index, None))
            .collect();
        if !self.masks.detects() && columns.iter().all(Option::is_none) {
            return Ok(Seen::AsItIs);
        }
        let Some(CopyStream::ToStdout(Some(layout))) = due
            .of
            .profile(statement)
            .and_then(|profile| profile.copy.as_ref())
        else {
            return Err(Unmaskable::Copy);
        };
        if (*layout == CopyLayout::Binary) != (response.format == Format::Binary) {
            return Err(Unmaskable::Copy);
        }
        self.copy = Some(Box::new(CopyOut::new(layout, columns)));
        Ok(Seen::AsItIs)
    }

    fn copied(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<Seen, Unmaskable> {
        let Some(copy) = &mut self.copy else {
            return Ok(Seen::AsItIs);
        };
        copy.message(data, &self.masks, &self.tools, out)?;
        Ok(Seen::Rewritten)
    }

    /// The result of a function that was called by its number.
    fn result(&self, value: &[u8], out: &mut Vec<u8>) -> Result<Seen, Unmaskable> {
        let mut other = Vec::new();
        match self.front().map(|due| &due.of) {
            Some(Of::Function { is_known: false }) if self.masks.by_column => {
                encode_function_call_response(out, None)?;
            }
            Some(Of::Function { .. })
                if self.masks.detects() && self.tools.redact(&self.masks, value, &mut other) =>
            {
                encode_function_call_response(out, Some(&other))?;
            }
            _ => return Ok(Seen::AsItIs),
        }
        Ok(Seen::Rewritten)
    }

    /// What the statement whose answer is arriving is masked by.
    fn planned(&self, statement: u32) -> Planned {
        // A request that is not noted was judged before any mask was about the session.
        let planned = self.front().map(|due| due.of.planned(statement));
        match planned.unwrap_or(Planned::Clear) {
            Planned::Cursor(name) => {
                let cursor = self.cursors.get(&name).cloned();
                cursor.unwrap_or(Planned::Unknown)
            }
            // Nobody looked where its rows come from.
            Planned::Clear if self.masks.by_column && self.front().is_some() => Planned::Unknown,
            planned @ (Planned::Clear | Planned::Plan(_) | Planned::Unknown) => planned,
        }
    }

    /// A statement ran to its end: cursors are what it made them.
    fn statement_done(&mut self, statement: u32) {
        self.rows = None;
        let front = self.due.front();
        let Some(due) = front.filter(|due| due.request == self.answering) else {
            return;
        };
        let Some(profile) = due.of.profile(statement) else {
            return;
        };
        match role(profile) {
            Role::Declares(name) => {
                let planned = due.of.planned(statement);
                if self.cursors.len() < CURSORS_MAX || self.cursors.contains_key(name) {
                    self.cursors.insert(name.into(), planned);
                }
            }
            Role::Closes("") => self.cursors.clear(),
            Role::Closes(name) => drop(self.cursors.remove(name)),
            // Code that nobody looked into may have opened one under any name.
            Role::Plain | Role::Fetches(_) if profile.opaque => self.cursors.clear(),
            Role::Plain | Role::Fetches(_) => {}
        }
    }

    /// The server made a portal, which FETCH can name like a cursor.
    fn bound(&mut self) {
        let Some(Due {
            of: Of::Bind(portal),
            ..
        }) = self.front()
        else {
            return;
        };
        if let Ok(name) = std::str::from_utf8(portal) {
            let name: Box<str> = name.into();
            self.cursors.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests;
