//! Messages a client sends after start-up.
//!
//! Names and statement texts stay bytes: what they mean is not this file's business.

use crate::Limits;
use crate::wire::{EncodeError, Malformed, Reader, Writer};

use super::error::{DecodeError, InMessage};
use super::framing::{
    Decoded, Fragment, HEADER_BYTES, Header, Streaming, announced, check_length, whole,
};
use super::pipeline::Request;

/// A message of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frontend<'b> {
    Query(Query<'b>),
    Parse(Parse<'b>),
    Bind(Bind<'b>),
    Describe(Describe<'b>),
    Execute(Execute<'b>),
    Close(Close<'b>),
    Sync,
    Flush,
    FunctionCall(FunctionCall<'b>),
    CopyData(&'b [u8]),
    CopyDone,
    CopyFail(CopyFail<'b>),
    Terminate,
    /// PasswordMessage, SASLInitialResponse or SASLResponse; which one only the authentication
    /// under way can tell. Comes in the authentication phase and never after.
    Password(Password<'b>),
}

impl Frontend<'_> {
    /// What the [pipeline](super::pipeline) needs to know; `None` for a password.
    #[inline]
    pub fn request(&self) -> Option<Request> {
        Some(match self {
            Self::Query(_) => Request::Query,
            Self::Parse(_) => Request::Parse,
            Self::Bind(_) => Request::Bind,
            Self::Describe(describe) => Request::Describe(describe.target),
            Self::Execute(_) => Request::Execute,
            Self::Close(_) => Request::Close,
            Self::Sync => Request::Sync,
            Self::Flush => Request::Flush,
            Self::FunctionCall(_) => Request::FunctionCall,
            Self::CopyData(_) => Request::CopyData,
            Self::CopyDone => Request::CopyDone,
            Self::CopyFail(_) => Request::CopyFail,
            Self::Terminate => Request::Terminate,
            Self::Password(_) => return None,
        })
    }
}

/// What one call of [`FrontendDecoder::decode`] took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrontendPiece<'b> {
    Message(Decoded<'b, Frontend<'b>>),
    /// The head of a message that is longer than is held. Nothing is taken off the input, and the
    /// same comes again, until [`FrontendDecoder::take_announced`].
    Announced(Announced<'b>),
    /// Part of such a message, or of a CopyData longer than [`Limits::stream_above_bytes`].
    Fragment(Fragment<'b, FrontendTag>),
}

/// What is known of a message before its body has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced<'b> {
    pub head: Head<'b>,
    /// The whole message, header included.
    pub wire_bytes: usize,
    /// The limit that the message exceeds, if it is not to be passed on at all.
    pub exceeds: Option<u32>,
}

/// The names at the front of a long message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head<'b> {
    Query,
    Parse {
        statement: &'b [u8],
    },
    /// What follows the names is not looked at: the server reads it with the same framing.
    Bind {
        portal: &'b [u8],
        statement: &'b [u8],
    },
    FunctionCall,
}

impl<'b> FrontendPiece<'b> {
    /// The bytes taken off the input.
    #[inline]
    pub fn wire(&self) -> &'b [u8] {
        match self {
            Self::Message(decoded) => decoded.wire,
            Self::Announced(_) => &[],
            Self::Fragment(fragment) => fragment.wire,
        }
    }
}

/// First byte of a client's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrontendTag {
    Bind,
    Close,
    CopyData,
    CopyDone,
    CopyFail,
    Describe,
    Execute,
    Flush,
    FunctionCall,
    Parse,
    Password,
    Query,
    Sync,
    Terminate,
}

impl FrontendTag {
    /// Every tag there is.
    pub const ALL: [Self; 14] = [
        Self::Bind,
        Self::Close,
        Self::CopyData,
        Self::CopyDone,
        Self::CopyFail,
        Self::Describe,
        Self::Execute,
        Self::Flush,
        Self::FunctionCall,
        Self::Parse,
        Self::Password,
        Self::Query,
        Self::Sync,
        Self::Terminate,
    ];

    #[inline]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Bind => b'B',
            Self::Close => b'C',
            Self::CopyData => b'd',
            Self::CopyDone => b'c',
            Self::CopyFail => b'f',
            Self::Describe => b'D',
            Self::Execute => b'E',
            Self::Flush => b'H',
            Self::FunctionCall => b'F',
            Self::Parse => b'P',
            Self::Password => b'p',
            Self::Query => b'Q',
            Self::Sync => b'S',
            Self::Terminate => b'X',
        }
    }

    #[inline]
    pub const fn from_byte(tag: u8) -> Option<Self> {
        Some(match tag {
            b'B' => Self::Bind,
            b'C' => Self::Close,
            b'd' => Self::CopyData,
            b'c' => Self::CopyDone,
            b'f' => Self::CopyFail,
            b'D' => Self::Describe,
            b'E' => Self::Execute,
            b'H' => Self::Flush,
            b'F' => Self::FunctionCall,
            b'P' => Self::Parse,
            b'p' => Self::Password,
            b'Q' => Self::Query,
            b'S' => Self::Sync,
            b'X' => Self::Terminate,
            _ => return None,
        })
    }

    /// The name in the manual.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bind => "Bind",
            Self::Close => "Close",
            Self::CopyData => "CopyData",
            Self::CopyDone => "CopyDone",
            Self::CopyFail => "CopyFail",
            Self::Describe => "Describe",
            Self::Execute => "Execute",
            Self::Flush => "Flush",
            Self::FunctionCall => "FunctionCall",
            Self::Parse => "Parse",
            Self::Password => "PasswordMessage",
            Self::Query => "Query",
            Self::Sync => "Sync",
            Self::Terminate => "Terminate",
        }
    }
}

/// Decodes what a client sends after start-up.
///
/// Per connection. Holds the phase, the limits, and how much of a streamed message is to come.
#[derive(Debug)]
pub struct FrontendDecoder {
    phase: Phase,
    limits: Limits,
    long: Long,
}

/// What becomes of a Query, Parse, Bind or FunctionCall that is longer than is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Long {
    /// An error.
    Refused,
    Announced,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Only passwords, and short ones.
    Authentication,
    Ready,
    /// The message at the front was announced, and comes in fragments.
    Taking,
    /// Inside a message that is not held.
    Streaming(Streaming<FrontendTag>),
}

/// Longest that the names at the front of a long message may be together. The server keeps 63 bytes
/// of each.
const HEAD_BYTES_MAX: usize = 4096;

impl FrontendDecoder {
    /// Starts in the authentication phase, where nothing but a password or Terminate is a message.
    pub fn new(limits: Limits) -> Self {
        Self {
            phase: Phase::Authentication,
            limits,
            long: Long::Refused,
        }
    }

    /// Announces from here on what is longer than is held, instead of refusing it.
    pub fn announce_long(&mut self) {
        self.long = Long::Announced;
    }

    /// Has the message that was announced last come in fragments.
    pub fn take_announced(&mut self) {
        if let Phase::Ready = self.phase {
            self.phase = Phase::Taking;
        }
    }

    /// The client is authenticated: from here on everything but a password is a message.
    pub fn authenticated(&mut self) {
        if let Phase::Authentication = self.phase {
            self.phase = Phase::Ready;
        }
    }

    /// Takes the first message off `input`.
    ///
    /// `Ok(None)` means that `input` holds less than one message. Otherwise the caller drops as many
    /// bytes as [`FrontendPiece::wire`] has.
    ///
    /// # Errors
    /// `TooLong` as soon as the length field exceeds its limit, before the body has arrived. All
    /// errors are final for the connection.
    ///
    /// Spec: PostgreSQL manual, "Message Formats".
    #[inline]
    pub fn decode<'b>(
        &mut self,
        input: &'b [u8],
    ) -> Result<Option<FrontendPiece<'b>>, DecodeError> {
        if let Phase::Streaming(streaming) = self.phase {
            return Ok(streaming.resume(input).map(|(fragment, rest)| {
                self.phase = rest.map_or(Phase::Ready, Phase::Streaming);
                FrontendPiece::Fragment(fragment)
            }));
        }
        let Some(tag) = input.first() else {
            return Ok(None);
        };
        let tag = FrontendTag::from_byte(*tag).ok_or(DecodeError::UnknownTag { tag: *tag })?;
        self.check_phase(tag)?;
        let Some(announced) = announced(input) else {
            return Ok(None);
        };
        let header = check_length(announced, tag.name(), self.limit(tag))?;
        let is_taken = matches!(self.phase, Phase::Taking);
        let is_data = tag == FrontendTag::CopyData;
        if is_taken || (is_data && header.length > self.limits.stream_above_bytes) {
            let (fragment, rest) = Streaming::begin(tag, header, input);
            self.phase = rest.map_or(Phase::Ready, Phase::Streaming);
            return Ok(Some(FrontendPiece::Fragment(fragment)));
        }
        if header.length > self.limits.frontend_message_bytes && !is_data {
            let announced = self.announce(tag, header, input)?;
            return Ok(announced.map(FrontendPiece::Announced));
        }
        message(tag, header, input)
    }

    /// `None` while the names at the front have not arrived.
    fn announce<'b>(
        &self,
        tag: FrontendTag,
        header: Header,
        input: &'b [u8],
    ) -> Result<Option<Announced<'b>>, DecodeError> {
        let mut reader = Reader::new(input);
        let head = reader.bytes(HEADER_BYTES).and_then(|_| match tag {
            FrontendTag::Parse => Ok(Head::Parse {
                statement: reader.string()?,
            }),
            FrontendTag::Bind => Ok(Head::Bind {
                portal: reader.string()?,
                statement: reader.string()?,
            }),
            FrontendTag::FunctionCall => Ok(Head::FunctionCall),
            // No other is announced.
            FrontendTag::Query
            | FrontendTag::Close
            | FrontendTag::CopyData
            | FrontendTag::CopyDone
            | FrontendTag::CopyFail
            | FrontendTag::Describe
            | FrontendTag::Execute
            | FrontendTag::Flush
            | FrontendTag::Password
            | FrontendTag::Sync
            | FrontendTag::Terminate => Ok(Head::Query),
        });
        let head = match head {
            Ok(head) => head,
            Err(_) if input.len() < HEAD_BYTES_MAX => return Ok(None),
            Err(malformed) => return Err(malformed).in_message(tag.name()),
        };
        let limit = match tag == FrontendTag::Bind {
            true => self.limits.bind_bytes,
            false => self.limits.frontend_message_bytes,
        };
        Ok(Some(Announced {
            head,
            wire_bytes: usize::try_from(header.length)
                .unwrap_or(usize::MAX)
                .saturating_add(1),
            exceeds: (header.length > limit).then_some(limit),
        }))
    }

    #[inline]
    fn check_phase(&self, tag: FrontendTag) -> Result<(), DecodeError> {
        let legal = match self.phase {
            Phase::Authentication => {
                matches!(tag, FrontendTag::Password | FrontendTag::Terminate)
            }
            Phase::Ready | Phase::Taking | Phase::Streaming(_) => tag != FrontendTag::Password,
        };
        if legal {
            Ok(())
        } else {
            Err(DecodeError::OutOfPhase {
                message: tag.name(),
            })
        }
    }

    #[inline]
    fn limit(&self, tag: FrontendTag) -> u32 {
        match tag {
            FrontendTag::Bind
            | FrontendTag::FunctionCall
            | FrontendTag::Parse
            | FrontendTag::Query => match self.long {
                Long::Refused => self.limits.frontend_message_bytes,
                Long::Announced => self
                    .limits
                    .streamed_message_bytes
                    .max(self.limits.frontend_message_bytes),
            },
            FrontendTag::CopyData => self.limits.streamed_message_bytes,
            FrontendTag::Password => self.limits.password_message_bytes,
            FrontendTag::Close
            | FrontendTag::CopyDone
            | FrontendTag::CopyFail
            | FrontendTag::Describe
            | FrontendTag::Execute
            | FrontendTag::Flush
            | FrontendTag::Sync
            | FrontendTag::Terminate => self.limits.frontend_small_message_bytes,
        }
    }
}

#[inline]
fn message<'b>(
    tag: FrontendTag,
    header: Header,
    input: &'b [u8],
) -> Result<Option<FrontendPiece<'b>>, DecodeError> {
    let Some((body, wire)) = whole(input, header) else {
        return Ok(None);
    };
    let message = decode_body(tag, body).in_message(tag.name())?;
    Ok(Some(FrontendPiece::Message(Decoded { message, wire })))
}

#[inline]
fn decode_body(tag: FrontendTag, body: &[u8]) -> Result<Frontend<'_>, Malformed> {
    let mut reader = Reader::new(body);
    let message = match tag {
        FrontendTag::Query => Frontend::Query(Query {
            text: reader.string()?,
        }),
        FrontendTag::Parse => Frontend::Parse(Parse::take(&mut reader)?),
        FrontendTag::Bind => Frontend::Bind(Bind::take(&mut reader)?),
        FrontendTag::Describe => Frontend::Describe(Describe::take(&mut reader)?),
        FrontendTag::Execute => Frontend::Execute(Execute::take(&mut reader)?),
        FrontendTag::Close => Frontend::Close(Close::take(&mut reader)?),
        FrontendTag::FunctionCall => Frontend::FunctionCall(FunctionCall::take(&mut reader)?),
        FrontendTag::Sync => Frontend::Sync,
        FrontendTag::Flush => Frontend::Flush,
        FrontendTag::CopyDone => Frontend::CopyDone,
        FrontendTag::CopyFail => Frontend::CopyFail(CopyFail {
            reason: reader.string()?,
        }),
        FrontendTag::Terminate => Frontend::Terminate,
        FrontendTag::CopyData => return Ok(Frontend::CopyData(body)),
        FrontendTag::Password => return Ok(Frontend::Password(Password { body })),
    };
    reader.finish()?;
    Ok(message)
}

/// Whether Describe or Close names a prepared statement or a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    Statement,
    Portal,
}

impl Target {
    #[inline]
    const fn byte(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }

    #[inline]
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.u8()? {
            b'S' => Ok(Self::Statement),
            b'P' => Ok(Self::Portal),
            other => Err(Malformed::Undefined {
                value: i32::from(other),
            }),
        }
    }
}

/// Format code of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    Text,
    Binary,
}

impl Format {
    #[inline]
    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.u16()? {
            0 => Ok(Self::Text),
            1 => Ok(Self::Binary),
            other => Err(Malformed::Undefined {
                value: i32::from(other),
            }),
        }
    }

    #[inline]
    pub(super) const fn code(self) -> u16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }
}

/// A list of format codes: none (all text), one (for all), or one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats<'b> {
    codes: &'b [u8],
}

impl<'b> Formats<'b> {
    #[inline]
    pub(super) fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let count = reader.u16()?;
        reader.expect_entries(count, 2)?;
        let mut codes = *reader;
        for _ in 0..count {
            Format::take(reader)?;
        }
        let codes = codes.bytes(usize::from(count).saturating_mul(2))?;
        Ok(Self { codes })
    }

    /// How many codes were sent, which is not how many values there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.codes.len() / 2
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The codes as sent.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Format> + use<'b> {
        let mut reader = Reader::new(self.codes);
        std::iter::from_fn(move || Format::take(&mut reader).ok())
    }

    /// The format of the value at `index`; `None` past the end of a list of several.
    #[inline]
    pub fn of(&self, index: usize) -> Option<Format> {
        match self.len() {
            0 => Some(Format::Text),
            1 => self.iter().next(),
            _ => self.iter().nth(index),
        }
    }

    /// PostgreSQL refuses a list of several codes that is not as long as the list of values.
    fn check(&self, values: u16) -> Result<(), Malformed> {
        let (counted, expected) = (self.len(), usize::from(values));
        if counted > 1 && counted != expected {
            return Err(Malformed::CountMismatch { counted, expected });
        }
        Ok(())
    }
}

/// A list of values, each behind its length.
///
/// *Shape*: walked through once when decoded, so that iterating cannot fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values<'b> {
    count: u16,
    body: &'b [u8],
}

impl<'b> Values<'b> {
    #[inline]
    pub(super) fn take(reader: &mut Reader<'b>, count: u16) -> Result<Self, Malformed> {
        reader.expect_entries(count, 4)?;
        let mut start = *reader;
        for _ in 0..count {
            reader.nullable()?;
        }
        let taken = start.rest().len().saturating_sub(reader.rest().len());
        Ok(Self {
            count,
            body: start.bytes(taken)?,
        })
    }

    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values in their order; `None` is NULL.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Option<&'b [u8]>> + use<'b> {
        let mut reader = Reader::new(self.body);
        std::iter::from_fn(move || reader.nullable().ok())
    }

    /// Lengths and values as on the wire, without the count.
    #[inline]
    pub fn wire(&self) -> &'b [u8] {
        self.body
    }
}

/// A list of type OIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oids<'b> {
    body: &'b [u8],
}

impl<'b> Oids<'b> {
    #[inline]
    pub(super) fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let count = reader.u16()?;
        Ok(Self {
            body: reader.bytes(usize::from(count).saturating_mul(4))?,
        })
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.body.len() / 4
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'b> {
        let mut reader = Reader::new(self.body);
        std::iter::from_fn(move || reader.u32().ok())
    }
}

/// A simple query: any number of statements in one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'b> {
    pub text: &'b [u8],
}

/// Writes a Query.
pub fn encode_query(out: &mut Vec<u8>, text: &[u8]) -> Result<(), EncodeError> {
    Writer::tagged(out, FrontendTag::Query.byte())
        .string(text)
        .finish()
}

/// Prepares one statement; the empty name is the unnamed statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'b> {
    pub statement: &'b [u8],
    pub text: &'b [u8],
    /// Zero leaves a type to the server; there may be fewer than parameters.
    pub parameter_types: Oids<'b>,
}

impl<'b> Parse<'b> {
    #[inline]
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        Ok(Self {
            statement: reader.string()?,
            text: reader.string()?,
            parameter_types: Oids::take(reader)?,
        })
    }
}

/// Writes a Parse.
pub fn encode_parse(
    out: &mut Vec<u8>,
    statement: &[u8],
    text: &[u8],
    parameter_types: &[u32],
) -> Result<(), EncodeError> {
    let mut writer = Writer::tagged(out, FrontendTag::Parse.byte());
    writer
        .string(statement)
        .string(text)
        .count16(parameter_types.len());
    for oid in parameter_types {
        writer.u32(*oid);
    }
    writer.finish()
}

/// Makes a portal of a prepared statement and its parameters.
///
/// *Shape*: format lists agree with the number of values, as PostgreSQL demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'b> {
    pub portal: &'b [u8],
    pub statement: &'b [u8],
    pub formats: Formats<'b>,
    pub values: Values<'b>,
    pub result_formats: Formats<'b>,
}

impl<'b> Bind<'b> {
    #[inline]
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let portal = reader.string()?;
        let statement = reader.string()?;
        let formats = Formats::take(reader)?;
        let count = reader.u16()?;
        formats.check(count)?;
        let values = Values::take(reader, count)?;
        let result_formats = Formats::take(reader)?;
        Ok(Self {
            portal,
            statement,
            formats,
            values,
            result_formats,
        })
    }

    /// The values with their formats.
    pub fn parameters(&self) -> impl Iterator<Item = (Format, Option<&'b [u8]>)> + use<'b> {
        let formats = self.formats;
        let mut listed = formats.iter();
        let uniform = if formats.len() > 1 {
            None
        } else {
            formats.of(0)
        };
        self.values.iter().map(move |value| {
            (
                uniform.or_else(|| listed.next()).unwrap_or(Format::Text),
                value,
            )
        })
    }
}

/// Writes a Bind.
pub fn encode_bind(
    out: &mut Vec<u8>,
    portal: &[u8],
    statement: &[u8],
    formats: &[Format],
    values: &[Option<&[u8]>],
    result_formats: &[Format],
) -> Result<(), EncodeError> {
    let mut writer = Writer::tagged(out, FrontendTag::Bind.byte());
    writer.string(portal).string(statement);
    encode_formats(&mut writer, formats);
    writer.count16(values.len());
    for value in values {
        writer.nullable(*value);
    }
    encode_formats(&mut writer, result_formats);
    writer.finish()
}

fn encode_formats(writer: &mut Writer<'_>, formats: &[Format]) {
    writer.count16(formats.len());
    for format in formats {
        writer.u16(format.code());
    }
}

/// Asks for the shape of a statement or portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Describe<'b> {
    pub target: Target,
    pub name: &'b [u8],
}

impl<'b> Describe<'b> {
    #[inline]
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        Ok(Self {
            target: Target::take(reader)?,
            name: reader.string()?,
        })
    }
}

/// Writes a Describe.
pub fn encode_describe(out: &mut Vec<u8>, target: Target, name: &[u8]) -> Result<(), EncodeError> {
    Writer::tagged(out, FrontendTag::Describe.byte())
        .u8(target.byte())
        .string(name)
        .finish()
}

/// Runs a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execute<'b> {
    pub portal: &'b [u8],
    /// Zero means all rows. Negative values, which the manual does not define, are refused.
    pub row_limit: u32,
}

impl<'b> Execute<'b> {
    #[inline]
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let portal = reader.string()?;
        let limit = reader.i32()?;
        let row_limit = u32::try_from(limit).map_err(|_| Malformed::Negative { value: limit })?;
        Ok(Self { portal, row_limit })
    }
}

/// Writes an Execute.
///
/// # Errors
/// [`EncodeError::TooLong`] for a row limit that is no Int32.
pub fn encode_execute(out: &mut Vec<u8>, portal: &[u8], row_limit: u32) -> Result<(), EncodeError> {
    let row_limit = i32::try_from(row_limit).map_err(|_| EncodeError::TooLong)?;
    Writer::tagged(out, FrontendTag::Execute.byte())
        .string(portal)
        .i32(row_limit)
        .finish()
}

/// Drops a statement or portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close<'b> {
    pub target: Target,
    pub name: &'b [u8],
}

impl<'b> Close<'b> {
    #[inline]
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        Ok(Self {
            target: Target::take(reader)?,
            name: reader.string()?,
        })
    }
}

/// Writes a Close.
pub fn encode_close(out: &mut Vec<u8>, target: Target, name: &[u8]) -> Result<(), EncodeError> {
    Writer::tagged(out, FrontendTag::Close.byte())
        .u8(target.byte())
        .string(name)
        .finish()
}

/// Calls a function by its OID, outside of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionCall<'b> {
    pub function: u32,
    pub formats: Formats<'b>,
    pub arguments: Values<'b>,
    pub result_format: Format,
}

impl<'b> FunctionCall<'b> {
    #[inline]
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let function = reader.u32()?;
        let formats = Formats::take(reader)?;
        let count = reader.u16()?;
        formats.check(count)?;
        let arguments = Values::take(reader, count)?;
        let result_format = Format::take(reader)?;
        Ok(Self {
            function,
            formats,
            arguments,
            result_format,
        })
    }
}

/// Writes a FunctionCall.
pub fn encode_function_call(
    out: &mut Vec<u8>,
    function: u32,
    formats: &[Format],
    arguments: &[Option<&[u8]>],
    result_format: Format,
) -> Result<(), EncodeError> {
    let mut writer = Writer::tagged(out, FrontendTag::FunctionCall.byte());
    writer.u32(function);
    encode_formats(&mut writer, formats);
    writer.count16(arguments.len());
    for argument in arguments {
        writer.nullable(*argument);
    }
    writer.u16(result_format.code()).finish()
}

/// Ends COPY FROM STDIN with an error of the client's making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyFail<'b> {
    pub reason: &'b [u8],
}

/// Writes a CopyFail.
pub fn encode_copy_fail(out: &mut Vec<u8>, reason: &[u8]) -> Result<(), EncodeError> {
    Writer::tagged(out, FrontendTag::CopyFail.byte())
        .string(reason)
        .finish()
}

/// Writes a CopyData.
pub fn encode_copy_data(out: &mut Vec<u8>, data: &[u8]) -> Result<(), EncodeError> {
    Writer::tagged(out, FrontendTag::CopyData.byte())
        .bytes(data)
        .finish()
}

/// Writes a CopyDone.
pub fn encode_copy_done(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    Writer::tagged(out, FrontendTag::CopyDone.byte()).finish()
}

/// Writes a Sync.
pub fn encode_sync(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    Writer::tagged(out, FrontendTag::Sync.byte()).finish()
}

/// Writes a Flush.
pub fn encode_flush(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    Writer::tagged(out, FrontendTag::Flush.byte()).finish()
}

/// Writes a Terminate.
pub fn encode_terminate(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    Writer::tagged(out, FrontendTag::Terminate.byte()).finish()
}

/// The body of an authentication response.
///
/// Its bytes lie in the caller's buffer, which the caller wipes; `Debug` does not show them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password<'b> {
    body: &'b [u8],
}

impl<'b> Password<'b> {
    /// As PasswordMessage, the answer to a request for a cleartext or MD5 password.
    ///
    /// # Errors
    /// When the string does not end exactly where the message does.
    pub fn text(&self) -> Result<&'b [u8], DecodeError> {
        let mut reader = Reader::new(self.body);
        let text = reader.string().in_message("PasswordMessage")?;
        reader.finish().in_message("PasswordMessage")?;
        Ok(text)
    }

    /// As SASLInitialResponse, the answer to AuthenticationSASL.
    ///
    /// # Errors
    /// When the fields do not fill the message exactly.
    pub fn sasl_initial_response(&self) -> Result<SaslInitialResponse<'b>, DecodeError> {
        let mut reader = Reader::new(self.body);
        let mut take = || -> Result<SaslInitialResponse<'b>, Malformed> {
            Ok(SaslInitialResponse {
                mechanism: reader.string()?,
                response: reader.nullable()?,
            })
        };
        let response = take().in_message("SASLInitialResponse")?;
        reader.finish().in_message("SASLInitialResponse")?;
        Ok(response)
    }

    /// As SASLResponse: all of it is the mechanism's.
    pub fn sasl_response(&self) -> &'b [u8] {
        self.body
    }
}

impl std::fmt::Debug for Password<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Password").finish_non_exhaustive()
    }
}

/// A chosen SASL mechanism and its first message, if the mechanism starts with the client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaslInitialResponse<'b> {
    pub mechanism: &'b [u8],
    pub response: Option<&'b [u8]>,
}

/// Writes a PasswordMessage. The caller wipes the buffer.
pub fn encode_password(out: &mut Vec<u8>, password: &[u8]) -> Result<(), EncodeError> {
    Writer::tagged(out, FrontendTag::Password.byte())
        .string(password)
        .finish()
}

/// Writes a SASLInitialResponse.
pub fn encode_sasl_initial_response(
    out: &mut Vec<u8>,
    mechanism: &[u8],
    response: Option<&[u8]>,
) -> Result<(), EncodeError> {
    Writer::tagged(out, FrontendTag::Password.byte())
        .string(mechanism)
        .nullable(response)
        .finish()
}

/// Writes a SASLResponse.
pub fn encode_sasl_response(out: &mut Vec<u8>, response: &[u8]) -> Result<(), EncodeError> {
    Writer::tagged(out, FrontendTag::Password.byte())
        .bytes(response)
        .finish()
}
