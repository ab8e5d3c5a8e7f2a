//! Makes the wire bytes of a recorded session readable, message by message.
//!
//! PostgreSQL sessions are read with the codec that the data path uses; the bytes of any other
//! protocol are shown as they are. What cannot be decoded is said to be so and shown as bytes:
//! a recording is evidence, and nothing of it may disappear because it is strange.

use std::borrow::Cow;

use codecs::Limits;
use codecs::postgres::backend::{Backend, BackendEvent, ErrorFields, field};
use codecs::postgres::frontend::{Format, FrontendPiece, Target};
use codecs::postgres::pipeline::{Origin, Pipeline, Reply as PipelineReply, Request};
use codecs::postgres::{
    BackendDecoder, BackendPiece, Frontend, FrontendDecoder, TransactionStatus,
};

use super::escape::hex;
use super::{Event, EventKind, RecordedCommand};
use crate::recorder::format::{
    ApprovalNote, CommandKind, RecordError, RecordKind, RecordedDecision, SessionEnd, SessionStart,
};

/// Longest message that is put together to be shown; longer rows and COPY data are shown in the
/// pieces they came in.
const SHOWN_MESSAGE_BYTES_MAX: u32 = 1 << 20;

/// Something to show, with when and where it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Microseconds since 1970.
    pub at: u64,
    pub sequence: u64,
    /// Which message of the agent this is, or answers. A reply that answers none of them, such as
    /// a notice, has the last one that was sent before it.
    pub number: u64,
    pub fact: Fact,
}

/// What there is to show.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    Started(SessionStart),
    Command {
        kind: CommandKind,
        decision: RecordedDecision,
        cuts: u64,
        said: Said,
    },
    Reply(Reply),
    Ended(SessionEnd),
    Approval(ApprovalNote),
    Interrupted,
    Missing {
        records: u64,
    },
    Unreadable {
        kind: u8,
        reason: Option<RecordError>,
    },
}

/// A value that may be text or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShownValue {
    Null,
    Text(String),
    Bytes(Vec<u8>),
}

impl ShownValue {
    fn new(value: Option<&[u8]>) -> Self {
        value.map_or(Self::Null, |bytes| match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Self::Text(text.to_owned()),
            Ok(_) | Err(_) => Self::Bytes(bytes.to_owned()),
        })
    }

    fn of(bytes: &[u8]) -> Self {
        Self::new(Some(bytes))
    }

    /// The bytes as recorded; none for NULL.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Null => &[],
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// Text, with bytes as hexadecimal digits. Not escaped.
    pub(super) fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Null => Cow::Borrowed("NULL"),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Bytes(bytes) => Cow::Owned(format!("\\x{}", hex(bytes))),
        }
    }
}

/// A message of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Query {
        text: ShownValue,
    },
    Parse {
        statement: ShownValue,
        text: ShownValue,
        parameter_types: Vec<u32>,
    },
    Bind {
        portal: ShownValue,
        statement: ShownValue,
        values: Vec<ShownValue>,
        /// None (all are text), one for all, or one for each.
        formats: Vec<Format>,
        /// The same for the columns of the result, as the agent wants them.
        result_formats: Vec<Format>,
    },
    Describe {
        statement: bool,
        name: ShownValue,
    },
    Execute {
        portal: ShownValue,
        row_limit: u32,
    },
    Close {
        statement: bool,
        name: ShownValue,
    },
    FunctionCall {
        function: u32,
        arguments: Vec<ShownValue>,
    },
    CopyData(ShownValue),
    CopyFail {
        reason: ShownValue,
    },
    /// A message that is only its name: Sync, Flush, CopyDone, Terminate.
    Plain(&'static str),
    /// Its end was never recorded, so it was not forwarded.
    Incomplete {
        bytes: Vec<u8>,
        total_bytes: u64,
    },
    /// Bytes of a protocol, or of a message, that is not decoded.
    Raw(Vec<u8>),
}

/// A message to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Columns(Vec<ShownColumn>),
    Row(Vec<ShownValue>),
    /// Part of a row too long to be shown whole.
    RowPart {
        bytes: Vec<u8>,
        total_bytes: u32,
    },
    Complete {
        tag: ShownValue,
    },
    Error(Vec<(&'static str, ShownValue)>),
    Notice(Vec<(&'static str, ShownValue)>),
    Notification {
        channel: ShownValue,
        payload: ShownValue,
    },
    Parameter {
        name: ShownValue,
        value: ShownValue,
    },
    ParameterTypes(Vec<u32>),
    CopyData(ShownValue),
    FunctionResult(ShownValue),
    Ready {
        status: &'static str,
    },
    /// A message that is only its name. Keys and authentication data are not shown.
    Plain(&'static str),
    /// Bytes that are no message of the protocol, or are cut off by the end of the recording.
    Raw(Vec<u8>),
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownColumn {
    pub name: ShownValue,
    pub type_oid: u32,
    pub table: u32,
    pub attribute: i16,
    pub format: Format,
}

/// Turns the events of one session into what there is to show. Per replay.
pub struct Transcript {
    codec: Codec,
}

enum Codec {
    /// Before the start record said which protocol it is, or for one that is not decoded.
    Raw,
    Postgres(Box<PostgresCodec>),
}

struct PostgresCodec {
    limits: Limits,
    /// Knows where in a long CopyData the stream is.
    copy_in: FrontendDecoder,
    backend: BackendDecoder,
    /// Which message a reply answers. None once that is lost.
    pairing: Option<Pipeline<u64>>,
    /// What the last piece of a reply in pieces answers.
    answers: Option<u64>,
    /// Replies that are not complete yet.
    unread: Vec<u8>,
    /// A reply did not decode: the rest of the stream has no known boundaries.
    is_lost: bool,
}

impl Default for Transcript {
    fn default() -> Self {
        Self::new()
    }
}

impl Transcript {
    #[must_use]
    pub fn new() -> Self {
        Self { codec: Codec::Raw }
    }

    /// What `event` has to show: nothing, while a message is incomplete, or several messages.
    pub fn tell(&mut self, event: Event) -> Vec<Told> {
        let Event {
            at,
            sequence,
            number,
            what,
        } = event;
        let facts = match what {
            EventKind::Response { wire, .. } => {
                let replies = self.replies(&wire).into_iter();
                return replies
                    .map(|(answers, reply)| Told {
                        at,
                        sequence,
                        number: answers.unwrap_or(number),
                        fact: Fact::Reply(reply),
                    })
                    .collect();
            }
            EventKind::Command(command) => vec![self.command(number, command)],
            EventKind::Started(start) => {
                if start.protocol == "postgres" {
                    self.codec = Codec::Postgres(Box::new(PostgresCodec::new()));
                }
                vec![Fact::Started(start)]
            }
            EventKind::Ended(end) => self.cut_off(false, Fact::Ended(end)),
            EventKind::Approval(note) => vec![Fact::Approval(note)],
            EventKind::Interrupted => self.cut_off(false, Fact::Interrupted),
            EventKind::Missing { records } => self.cut_off(true, Fact::Missing { records }),
            // A kind that a later version brought is stepped over: it holds no bytes of the wire.
            EventKind::Unreadable { kind, reason } if RecordKind::from_code(kind).is_none() => {
                vec![Fact::Unreadable { kind, reason }]
            }
            EventKind::Unreadable { kind, reason } => {
                self.cut_off(true, Fact::Unreadable { kind, reason })
            }
        };
        facts
            .into_iter()
            .map(|fact| Told {
                at,
                sequence,
                number,
                fact,
            })
            .collect()
    }

    /// `fact`, after the replies that the end of the recording, or a hole in it, leaves
    /// incomplete.
    fn cut_off(&mut self, is_hole: bool, fact: Fact) -> Vec<Fact> {
        let mut facts = Vec::new();
        if let Codec::Postgres(codec) = &mut self.codec {
            if is_hole {
                codec.is_lost = true;
                codec.pairing = None;
                codec.copy_in = ready_decoder(codec.limits);
            }
            let unread = std::mem::take(&mut codec.unread);
            if !unread.is_empty() {
                facts.push(Fact::Reply(Reply::Raw(unread)));
            }
        }
        facts.push(fact);
        facts
    }

    fn command(&mut self, number: u64, command: RecordedCommand) -> Fact {
        let is_whole = command.is_whole();
        let RecordedCommand {
            kind,
            decision,
            cuts,
            total_bytes,
            mut wire,
        } = command;
        let said = if is_whole {
            match &mut self.codec {
                Codec::Postgres(codec) if kind != CommandKind::Cancel => {
                    if cuts > 0 {
                        repair_length(&mut wire);
                    }
                    codec.said(kind, number, &wire)
                }
                Codec::Postgres(_) | Codec::Raw => Said::Raw(wire),
            }
        } else {
            Said::Incomplete {
                bytes: wire,
                total_bytes,
            }
        };
        Fact::Command {
            kind,
            decision,
            cuts,
            said,
        }
    }

    /// What was replied, and to which message, where that is known.
    fn replies(&mut self, wire: &[u8]) -> Vec<(Option<u64>, Reply)> {
        match &mut self.codec {
            Codec::Raw => vec![(None, Reply::Raw(wire.to_vec()))],
            Codec::Postgres(codec) => codec.replies(wire),
        }
    }
}

/// Cutting a secret out of a text changed the length of its message; the header is made to agree.
fn repair_length(wire: &mut [u8]) {
    let length = u32::try_from(wire.len().saturating_sub(1)).unwrap_or(u32::MAX);
    if let Some(field) = wire.get_mut(1..5) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

impl PostgresCodec {
    fn new() -> Self {
        // What was recorded had passed the limits of its day; these only bound memory.
        let limits = Limits {
            frontend_message_bytes: 1 << 30,
            frontend_small_message_bytes: 1 << 30,
            backend_message_bytes: 1 << 30,
            backend_small_message_bytes: 1 << 30,
            stream_above_bytes: SHOWN_MESSAGE_BYTES_MAX,
            ..Limits::default()
        };
        Self {
            limits,
            copy_in: ready_decoder(limits),
            backend: BackendDecoder::new(limits),
            pairing: Some(Pipeline::new(TransactionStatus::Idle)),
            answers: None,
            unread: Vec::new(),
            is_lost: false,
        }
    }

    /// Every message but COPY data is read on its own, so that confusion about one cannot hide
    /// another.
    fn said(&mut self, kind: CommandKind, number: u64, wire: &[u8]) -> Said {
        let mut fresh;
        let decoder = if kind == CommandKind::CopyData {
            &mut self.copy_in
        } else {
            fresh = ready_decoder(self.limits);
            &mut fresh
        };
        match decoder.decode(wire) {
            Ok(Some(piece)) if piece.wire().len() == wire.len() => {
                let request = match &piece {
                    FrontendPiece::Message(decoded) => decoded.message.request(),
                    FrontendPiece::Announced(_) => None,
                    FrontendPiece::Fragment(_) => Some(Request::CopyData),
                };
                if let Some(request) = request {
                    let pairing = self.pairing.as_mut();
                    let noted =
                        pairing.map(|it| it.handle_frontend(request, Origin::Client, number));
                    if matches!(noted, Some(Err(_))) {
                        self.pairing = None;
                    }
                }
                said(&piece)
            }
            Ok(_) | Err(_) => Said::Raw(wire.to_vec()),
        }
    }

    fn replies(&mut self, wire: &[u8]) -> Vec<(Option<u64>, Reply)> {
        if self.is_lost {
            return vec![(None, Reply::Raw(wire.to_vec()))];
        }
        let mut replies = Vec::new();
        let mut input = std::mem::take(&mut self.unread);
        input.extend_from_slice(wire);
        let mut rest = input.as_slice();
        while !rest.is_empty() {
            match self.backend.decode(rest) {
                Ok(Some(piece)) => {
                    rest = rest.get(piece.wire().len()..).unwrap_or_default();
                    if let Some(event) = piece.event() {
                        self.answers = answered(&mut self.pairing, event);
                    }
                    replies.push((self.answers, reply(&piece)));
                }
                Ok(None) => break,
                Err(_) => {
                    self.is_lost = true;
                    replies.push((None, Reply::Raw(rest.to_vec())));
                    rest = &[];
                }
            }
        }
        self.unread = rest.to_vec();
        replies
    }
}

/// The message that a reply with this `event` answers.
///
/// The last words of a login answer nothing that is recorded. Where a reply is unexplained there is
/// no telling, until the server is ready for the next command.
fn answered(pairing: &mut Option<Pipeline<u64>>, event: BackendEvent) -> Option<u64> {
    let answer = pairing.as_mut().map(|it| it.handle_backend(event));
    match (answer, event) {
        (Some(Ok(PipelineReply::Answer(answer))), _) => Some(answer.tag),
        (Some(Ok(PipelineReply::Asynchronous | PipelineReply::Fatal(_))), _) => None,
        (Some(Err(_)) | None, BackendEvent::ReadyForQuery(status)) => {
            *pairing = Some(Pipeline::new(status));
            None
        }
        (Some(Err(_)), _) => {
            *pairing = None;
            None
        }
        (None, _) => None,
    }
}

fn ready_decoder(limits: Limits) -> FrontendDecoder {
    let mut decoder = FrontendDecoder::new(limits);
    decoder.authenticated();
    decoder
}

fn said(piece: &FrontendPiece<'_>) -> Said {
    let message = match piece {
        FrontendPiece::Message(decoded) => decoded.message,
        // Not asked for: what was recorded whole is read whole.
        FrontendPiece::Announced(_) => return Said::Raw(Vec::new()),
        FrontendPiece::Fragment(fragment) => {
            return Said::CopyData(ShownValue::of(fragment.payload));
        }
    };
    match message {
        Frontend::Query(query) => Said::Query {
            text: ShownValue::of(query.text),
        },
        Frontend::Parse(parse) => Said::Parse {
            statement: ShownValue::of(parse.statement),
            text: ShownValue::of(parse.text),
            parameter_types: parse.parameter_types.iter().collect(),
        },
        Frontend::Bind(bind) => Said::Bind {
            portal: ShownValue::of(bind.portal),
            statement: ShownValue::of(bind.statement),
            values: bind.values.iter().map(ShownValue::new).collect(),
            formats: bind.formats.iter().collect(),
            result_formats: bind.result_formats.iter().collect(),
        },
        Frontend::Describe(describe) => Said::Describe {
            statement: describe.target == Target::Statement,
            name: ShownValue::of(describe.name),
        },
        Frontend::Execute(execute) => Said::Execute {
            portal: ShownValue::of(execute.portal),
            row_limit: execute.row_limit,
        },
        Frontend::Close(close) => Said::Close {
            statement: close.target == Target::Statement,
            name: ShownValue::of(close.name),
        },
        Frontend::FunctionCall(call) => Said::FunctionCall {
            function: call.function,
            arguments: call.arguments.iter().map(ShownValue::new).collect(),
        },
        Frontend::CopyData(data) => Said::CopyData(ShownValue::of(data)),
        Frontend::CopyFail(fail) => Said::CopyFail {
            reason: ShownValue::of(fail.reason),
        },
        Frontend::Sync => Said::Plain("Sync"),
        Frontend::Flush => Said::Plain("Flush"),
        Frontend::CopyDone => Said::Plain("CopyDone"),
        Frontend::Terminate => Said::Plain("Terminate"),
        Frontend::Password(_) => Said::Plain("Password"),
    }
}

fn reply(piece: &BackendPiece<'_>) -> Reply {
    let message = match piece {
        BackendPiece::Message(decoded) => decoded.message,
        BackendPiece::Fragment(fragment) => {
            return Reply::RowPart {
                bytes: fragment.payload.to_vec(),
                total_bytes: fragment.total_bytes,
            };
        }
    };
    match message {
        Backend::RowDescription(columns) => Reply::Columns(
            columns
                .iter()
                .map(|column| ShownColumn {
                    name: ShownValue::of(column.name),
                    type_oid: column.type_oid,
                    table: column.table,
                    attribute: column.attribute,
                    format: column.format,
                })
                .collect(),
        ),
        Backend::DataRow(row) => match row.values() {
            Ok(values) => Reply::Row(values.iter().map(ShownValue::new).collect()),
            Err(_) => Reply::Raw(piece.wire().to_vec()),
        },
        Backend::CommandComplete(complete) => Reply::Complete {
            tag: ShownValue::of(complete.tag),
        },
        Backend::ErrorResponse(fields) => Reply::Error(error_fields(fields)),
        Backend::NoticeResponse(fields) => Reply::Notice(error_fields(fields)),
        Backend::NotificationResponse(notification) => Reply::Notification {
            channel: ShownValue::of(notification.channel),
            payload: ShownValue::of(notification.payload),
        },
        Backend::ParameterStatus(parameter) => Reply::Parameter {
            name: ShownValue::of(parameter.name),
            value: ShownValue::of(parameter.value),
        },
        Backend::ParameterDescription(types) => Reply::ParameterTypes(types.iter().collect()),
        Backend::CopyData(data) => Reply::CopyData(ShownValue::of(data)),
        Backend::FunctionCallResponse(value) => Reply::FunctionResult(ShownValue::new(value)),
        Backend::ReadyForQuery(status) => Reply::Ready {
            status: match status {
                TransactionStatus::Idle => "idle",
                TransactionStatus::InTransaction => "in transaction",
                TransactionStatus::Failed => "in failed transaction",
            },
        },
        Backend::Authentication(_) => Reply::Plain("Authentication"),
        Backend::BackendKeyData(_) => Reply::Plain("BackendKeyData"),
        Backend::BindComplete => Reply::Plain("BindComplete"),
        Backend::CloseComplete => Reply::Plain("CloseComplete"),
        Backend::CopyBothResponse(_) => Reply::Plain("CopyBothResponse"),
        Backend::CopyDone => Reply::Plain("CopyDone"),
        Backend::CopyInResponse(_) => Reply::Plain("CopyInResponse"),
        Backend::CopyOutResponse(_) => Reply::Plain("CopyOutResponse"),
        Backend::EmptyQueryResponse => Reply::Plain("EmptyQueryResponse"),
        Backend::NegotiateProtocolVersion(_) => Reply::Plain("NegotiateProtocolVersion"),
        Backend::NoData => Reply::Plain("NoData"),
        Backend::ParseComplete => Reply::Plain("ParseComplete"),
        Backend::PortalSuspended => Reply::Plain("PortalSuspended"),
    }
}

/// Names of error fields in output; fields that are about the server's source code are left out.
const FIELD_NAMES: [(u8, &str); 14] = [
    (field::SEVERITY_NONLOCALIZED, "severity"),
    (field::SQLSTATE, "sqlstate"),
    (field::MESSAGE, "message"),
    (field::DETAIL, "detail"),
    (field::HINT, "hint"),
    (field::POSITION, "position"),
    (field::INTERNAL_POSITION, "internal_position"),
    (field::INTERNAL_QUERY, "internal_query"),
    (field::WHERE, "where"),
    (field::SCHEMA, "schema"),
    (field::TABLE, "table"),
    (field::COLUMN, "column"),
    (field::DATA_TYPE, "data_type"),
    (field::CONSTRAINT, "constraint"),
];

fn error_fields(fields: ErrorFields<'_>) -> Vec<(&'static str, ShownValue)> {
    FIELD_NAMES
        .into_iter()
        .filter_map(|(code, name)| fields.get(code).map(|value| (name, ShownValue::of(value))))
        .collect()
}
