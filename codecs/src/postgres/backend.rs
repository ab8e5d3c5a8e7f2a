//! Messages a server sends.
//!
//! A server is a peer like any other: its lengths and counts are not believed either.

use crate::Limits;
use crate::wire::{EncodeError, Malformed, Reader, Writer};

use super::error::{DecodeError, InMessage};
use super::framing::{Decoded, Fragment, Header, Streaming, announced, check_length, whole};
use super::frontend::{Format, Formats, Oids, Values};
use super::startup::{CANCEL_SECRET_BYTES_MAX, CANCEL_SECRET_BYTES_MIN, ProtocolVersion};

/// A message of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend<'b> {
    Authentication(Authentication<'b>),
    BackendKeyData(BackendKeyData<'b>),
    BindComplete,
    CloseComplete,
    CommandComplete(CommandComplete<'b>),
    CopyBothResponse(CopyResponse<'b>),
    CopyData(&'b [u8]),
    CopyDone,
    CopyInResponse(CopyResponse<'b>),
    CopyOutResponse(CopyResponse<'b>),
    DataRow(DataRow<'b>),
    EmptyQueryResponse,
    ErrorResponse(ErrorFields<'b>),
    FunctionCallResponse(Option<&'b [u8]>),
    NegotiateProtocolVersion(NegotiateProtocolVersion<'b>),
    NoData,
    NoticeResponse(ErrorFields<'b>),
    NotificationResponse(NotificationResponse<'b>),
    ParameterDescription(Oids<'b>),
    ParameterStatus(ParameterStatus<'b>),
    ParseComplete,
    PortalSuspended,
    ReadyForQuery(TransactionStatus),
    RowDescription(RowDescription<'b>),
}

impl Backend<'_> {
    #[inline]
    pub const fn tag(&self) -> BackendTag {
        match self {
            Self::Authentication(_) => BackendTag::Authentication,
            Self::BackendKeyData(_) => BackendTag::BackendKeyData,
            Self::BindComplete => BackendTag::BindComplete,
            Self::CloseComplete => BackendTag::CloseComplete,
            Self::CommandComplete(_) => BackendTag::CommandComplete,
            Self::CopyBothResponse(_) => BackendTag::CopyBothResponse,
            Self::CopyData(_) => BackendTag::CopyData,
            Self::CopyDone => BackendTag::CopyDone,
            Self::CopyInResponse(_) => BackendTag::CopyInResponse,
            Self::CopyOutResponse(_) => BackendTag::CopyOutResponse,
            Self::DataRow(_) => BackendTag::DataRow,
            Self::EmptyQueryResponse => BackendTag::EmptyQueryResponse,
            Self::ErrorResponse(_) => BackendTag::ErrorResponse,
            Self::FunctionCallResponse(_) => BackendTag::FunctionCallResponse,
            Self::NegotiateProtocolVersion(_) => BackendTag::NegotiateProtocolVersion,
            Self::NoData => BackendTag::NoData,
            Self::NoticeResponse(_) => BackendTag::NoticeResponse,
            Self::NotificationResponse(_) => BackendTag::NotificationResponse,
            Self::ParameterDescription(_) => BackendTag::ParameterDescription,
            Self::ParameterStatus(_) => BackendTag::ParameterStatus,
            Self::ParseComplete => BackendTag::ParseComplete,
            Self::PortalSuspended => BackendTag::PortalSuspended,
            Self::ReadyForQuery(_) => BackendTag::ReadyForQuery,
            Self::RowDescription(_) => BackendTag::RowDescription,
        }
    }

    /// What the [pipeline](super::pipeline) needs to know of this message.
    #[inline]
    pub fn event(&self) -> BackendEvent {
        if let Self::ReadyForQuery(status) = self {
            return BackendEvent::ReadyForQuery(*status);
        }
        if let Self::ErrorResponse(fields) = self {
            if fields.is_fatal() {
                return BackendEvent::FatalErrorResponse;
            }
            if matches!(fields.sqlstate(), Some(QUERY_CANCELED | LOCK_NOT_AVAILABLE)) {
                return BackendEvent::InterruptErrorResponse;
            }
        }
        BackendEvent::Tagged(self.tag())
    }
}

const QUERY_CANCELED: &[u8] = b"57014";
const LOCK_NOT_AVAILABLE: &[u8] = b"55P03";

/// What the pipeline needs to know of a message: its name, and the little of its body that changes
/// whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendEvent {
    /// Any message but those below. An ErrorResponse here leaves the connection alive.
    Tagged(BackendTag),
    ReadyForQuery(TransactionStatus),
    /// ErrorResponse that an interrupt may have raised: `query_canceled` or `lock_not_available`.
    /// PostgreSQL holds interrupts while it reads a message and raises them on the next, whatever
    /// that is.
    InterruptErrorResponse,
    /// ErrorResponse of severity FATAL or PANIC: the server closes the connection.
    FatalErrorResponse,
}

/// What one call of [`BackendDecoder::decode`] took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendPiece<'b> {
    Message(Decoded<'b, Backend<'b>>),
    /// Part of a DataRow, CopyData or FunctionCallResponse longer than
    /// [`Limits::stream_above_bytes`].
    Fragment(Fragment<'b, BackendTag>),
}

impl<'b> BackendPiece<'b> {
    /// The bytes taken off the input.
    #[inline]
    pub fn wire(&self) -> &'b [u8] {
        match self {
            Self::Message(decoded) => decoded.wire,
            Self::Fragment(fragment) => fragment.wire,
        }
    }

    #[inline]
    pub fn tag(&self) -> BackendTag {
        match self {
            Self::Message(decoded) => decoded.message.tag(),
            Self::Fragment(fragment) => fragment.tag,
        }
    }

    /// What the pipeline is told: once for each message, so `None` for every fragment but the
    /// first. The answer it gives then holds for the fragments that follow.
    #[inline]
    pub fn event(&self) -> Option<BackendEvent> {
        match self {
            Self::Message(decoded) => Some(decoded.message.event()),
            Self::Fragment(fragment) => {
                fragment.first.then_some(BackendEvent::Tagged(fragment.tag))
            }
        }
    }
}

/// First byte of a server's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackendTag {
    Authentication,
    BackendKeyData,
    BindComplete,
    CloseComplete,
    CommandComplete,
    CopyBothResponse,
    CopyData,
    CopyDone,
    CopyInResponse,
    CopyOutResponse,
    DataRow,
    EmptyQueryResponse,
    ErrorResponse,
    FunctionCallResponse,
    NegotiateProtocolVersion,
    NoData,
    NoticeResponse,
    NotificationResponse,
    ParameterDescription,
    ParameterStatus,
    ParseComplete,
    PortalSuspended,
    ReadyForQuery,
    RowDescription,
}

impl BackendTag {
    /// Every tag there is.
    pub const ALL: [Self; 24] = [
        Self::Authentication,
        Self::BackendKeyData,
        Self::BindComplete,
        Self::CloseComplete,
        Self::CommandComplete,
        Self::CopyBothResponse,
        Self::CopyData,
        Self::CopyDone,
        Self::CopyInResponse,
        Self::CopyOutResponse,
        Self::DataRow,
        Self::EmptyQueryResponse,
        Self::ErrorResponse,
        Self::FunctionCallResponse,
        Self::NegotiateProtocolVersion,
        Self::NoData,
        Self::NoticeResponse,
        Self::NotificationResponse,
        Self::ParameterDescription,
        Self::ParameterStatus,
        Self::ParseComplete,
        Self::PortalSuspended,
        Self::ReadyForQuery,
        Self::RowDescription,
    ];

    #[inline]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Authentication => b'R',
            Self::BackendKeyData => b'K',
            Self::BindComplete => b'2',
            Self::CloseComplete => b'3',
            Self::CommandComplete => b'C',
            Self::CopyBothResponse => b'W',
            Self::CopyData => b'd',
            Self::CopyDone => b'c',
            Self::CopyInResponse => b'G',
            Self::CopyOutResponse => b'H',
            Self::DataRow => b'D',
            Self::EmptyQueryResponse => b'I',
            Self::ErrorResponse => b'E',
            Self::FunctionCallResponse => b'V',
            Self::NegotiateProtocolVersion => b'v',
            Self::NoData => b'n',
            Self::NoticeResponse => b'N',
            Self::NotificationResponse => b'A',
            Self::ParameterDescription => b't',
            Self::ParameterStatus => b'S',
            Self::ParseComplete => b'1',
            Self::PortalSuspended => b's',
            Self::ReadyForQuery => b'Z',
            Self::RowDescription => b'T',
        }
    }

    #[inline]
    pub const fn from_byte(tag: u8) -> Option<Self> {
        Some(match tag {
            b'R' => Self::Authentication,
            b'K' => Self::BackendKeyData,
            b'2' => Self::BindComplete,
            b'3' => Self::CloseComplete,
            b'C' => Self::CommandComplete,
            b'W' => Self::CopyBothResponse,
            b'd' => Self::CopyData,
            b'c' => Self::CopyDone,
            b'G' => Self::CopyInResponse,
            b'H' => Self::CopyOutResponse,
            b'D' => Self::DataRow,
            b'I' => Self::EmptyQueryResponse,
            b'E' => Self::ErrorResponse,
            b'V' => Self::FunctionCallResponse,
            b'v' => Self::NegotiateProtocolVersion,
            b'n' => Self::NoData,
            b'N' => Self::NoticeResponse,
            b'A' => Self::NotificationResponse,
            b't' => Self::ParameterDescription,
            b'S' => Self::ParameterStatus,
            b'1' => Self::ParseComplete,
            b's' => Self::PortalSuspended,
            b'Z' => Self::ReadyForQuery,
            b'T' => Self::RowDescription,
            _ => return None,
        })
    }

    /// The name in the manual.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authentication => "Authentication",
            Self::BackendKeyData => "BackendKeyData",
            Self::BindComplete => "BindComplete",
            Self::CloseComplete => "CloseComplete",
            Self::CommandComplete => "CommandComplete",
            Self::CopyBothResponse => "CopyBothResponse",
            Self::CopyData => "CopyData",
            Self::CopyDone => "CopyDone",
            Self::CopyInResponse => "CopyInResponse",
            Self::CopyOutResponse => "CopyOutResponse",
            Self::DataRow => "DataRow",
            Self::EmptyQueryResponse => "EmptyQueryResponse",
            Self::ErrorResponse => "ErrorResponse",
            Self::FunctionCallResponse => "FunctionCallResponse",
            Self::NegotiateProtocolVersion => "NegotiateProtocolVersion",
            Self::NoData => "NoData",
            Self::NoticeResponse => "NoticeResponse",
            Self::NotificationResponse => "NotificationResponse",
            Self::ParameterDescription => "ParameterDescription",
            Self::ParameterStatus => "ParameterStatus",
            Self::ParseComplete => "ParseComplete",
            Self::PortalSuspended => "PortalSuspended",
            Self::ReadyForQuery => "ReadyForQuery",
            Self::RowDescription => "RowDescription",
        }
    }

    /// Whether a long message of this name is passed on in fragments.
    #[inline]
    const fn is_streamed(self) -> bool {
        matches!(
            self,
            Self::DataRow | Self::CopyData | Self::FunctionCallResponse
        )
    }
}

/// Longest Authentication message: a list of mechanisms, or one SCRAM message.
const AUTHENTICATION_BYTES_MAX: u32 = 8192;

/// Longest ParameterDescription: 65,535 parameters, four bytes each, behind their count.
const PARAMETER_DESCRIPTION_BYTES_MAX: u32 = 4 + 2 + 4 * 65_535;

/// Whole messages, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    pub bytes: usize,
    pub count: u64,
}

/// Decodes what a server sends.
///
/// Per connection. Holds the limits, and how much of a streamed message is to come. Which message
/// may come when is the business of the login and of the pipeline.
#[derive(Debug)]
pub struct BackendDecoder {
    streaming: Option<Streaming<BackendTag>>,
    limits: Limits,
}

impl BackendDecoder {
    pub fn new(limits: Limits) -> Self {
        Self {
            streaming: None,
            limits,
        }
    }

    /// Takes the first message off `input`.
    ///
    /// `Ok(None)` means that `input` holds less than one message. Otherwise the caller drops as many
    /// bytes as [`BackendPiece::wire`] has. The fields of a DataRow are not looked at.
    ///
    /// # Errors
    /// `TooLong` as soon as the length field exceeds its limit, before the body has arrived. All
    /// errors are final for the connection.
    ///
    /// Spec: PostgreSQL manual, "Message Formats".
    #[inline]
    pub fn decode<'b>(&mut self, input: &'b [u8]) -> Result<Option<BackendPiece<'b>>, DecodeError> {
        if let Some(streaming) = self.streaming {
            return Ok(streaming.resume(input).map(|(fragment, rest)| {
                self.streaming = rest;
                BackendPiece::Fragment(fragment)
            }));
        }
        let Some(tag) = input.first() else {
            return Ok(None);
        };
        let tag = BackendTag::from_byte(*tag).ok_or(DecodeError::UnknownTag { tag: *tag })?;
        let Some(announced) = announced(input) else {
            return Ok(None);
        };
        let header = check_length(announced, tag.name(), self.limit(tag))?;
        if tag.is_streamed() && header.length > self.limits.stream_above_bytes {
            let (fragment, rest) = Streaming::begin(tag, header, input);
            self.streaming = rest;
            return Ok(Some(BackendPiece::Fragment(fragment)));
        }
        message(tag, header, input)
    }

    /// The whole messages at the front of `input` that are named `tag`, one of DataRow and CopyData:
    /// those that [`decode`](Self::decode) would take one by one, held whole.
    ///
    /// Their fields are not looked at there either, so that all there is to know of them is how many
    /// there are.
    #[inline]
    pub fn whole_rows(&self, tag: BackendTag, input: &[u8]) -> Rows {
        debug_assert!(matches!(tag, BackendTag::DataRow | BackendTag::CopyData));
        let mut rows = Rows { bytes: 0, count: 0 };
        if self.streaming.is_some() {
            return rows;
        }
        let longest = self.limits.stream_above_bytes.min(self.limit(tag));
        let mut rest = input;
        // Whatever is not a whole row, `decode` has the word for.
        while rest.first() == Some(&tag.byte())
            && let Some(announced) = announced(rest)
            && let Ok(header) = check_length(announced, tag.name(), longest)
            && let Some((_, wire)) = whole(rest, header)
        {
            rows.bytes = rows.bytes.saturating_add(wire.len());
            rows.count = rows.count.saturating_add(1);
            rest = rest.get(wire.len()..).unwrap_or_default();
        }
        rows
    }

    #[inline]
    fn limit(&self, tag: BackendTag) -> u32 {
        match tag {
            BackendTag::DataRow | BackendTag::CopyData | BackendTag::FunctionCallResponse => {
                self.limits.streamed_message_bytes
            }
            BackendTag::ErrorResponse
            | BackendTag::NoticeResponse
            | BackendTag::NotificationResponse
            | BackendTag::RowDescription => self.limits.backend_message_bytes,
            BackendTag::Authentication => AUTHENTICATION_BYTES_MAX,
            BackendTag::ParameterDescription => PARAMETER_DESCRIPTION_BYTES_MAX,
            BackendTag::BackendKeyData
            | BackendTag::BindComplete
            | BackendTag::CloseComplete
            | BackendTag::CommandComplete
            | BackendTag::CopyBothResponse
            | BackendTag::CopyDone
            | BackendTag::CopyInResponse
            | BackendTag::CopyOutResponse
            | BackendTag::EmptyQueryResponse
            | BackendTag::NegotiateProtocolVersion
            | BackendTag::NoData
            | BackendTag::ParameterStatus
            | BackendTag::ParseComplete
            | BackendTag::PortalSuspended
            | BackendTag::ReadyForQuery => self.limits.backend_small_message_bytes,
        }
    }
}

#[inline]
fn message<'b>(
    tag: BackendTag,
    header: Header,
    input: &'b [u8],
) -> Result<Option<BackendPiece<'b>>, DecodeError> {
    let Some((body, wire)) = whole(input, header) else {
        return Ok(None);
    };
    let message = decode_body(tag, body).in_message(tag.name())?;
    Ok(Some(BackendPiece::Message(Decoded { message, wire })))
}

#[inline]
fn decode_body(tag: BackendTag, body: &[u8]) -> Result<Backend<'_>, Malformed> {
    let mut reader = Reader::new(body);
    let message = match tag {
        BackendTag::DataRow => return Ok(Backend::DataRow(DataRow { body })),
        BackendTag::CopyData => return Ok(Backend::CopyData(body)),
        BackendTag::CommandComplete => Backend::CommandComplete(CommandComplete {
            tag: reader.string()?,
        }),
        BackendTag::ReadyForQuery => Backend::ReadyForQuery(TransactionStatus::take(&mut reader)?),
        BackendTag::BindComplete => Backend::BindComplete,
        BackendTag::CloseComplete => Backend::CloseComplete,
        BackendTag::CopyDone => Backend::CopyDone,
        BackendTag::EmptyQueryResponse => Backend::EmptyQueryResponse,
        BackendTag::NoData => Backend::NoData,
        BackendTag::ParseComplete => Backend::ParseComplete,
        BackendTag::PortalSuspended => Backend::PortalSuspended,
        BackendTag::Authentication => Backend::Authentication(Authentication::take(&mut reader)?),
        BackendTag::BackendKeyData => Backend::BackendKeyData(BackendKeyData::take(&mut reader)?),
        BackendTag::CopyBothResponse => Backend::CopyBothResponse(CopyResponse::take(&mut reader)?),
        BackendTag::CopyInResponse => Backend::CopyInResponse(CopyResponse::take(&mut reader)?),
        BackendTag::CopyOutResponse => Backend::CopyOutResponse(CopyResponse::take(&mut reader)?),
        BackendTag::ErrorResponse => Backend::ErrorResponse(ErrorFields::take(&mut reader)?),
        BackendTag::NoticeResponse => Backend::NoticeResponse(ErrorFields::take(&mut reader)?),
        BackendTag::FunctionCallResponse => Backend::FunctionCallResponse(reader.nullable()?),
        BackendTag::NegotiateProtocolVersion => {
            Backend::NegotiateProtocolVersion(NegotiateProtocolVersion::take(&mut reader)?)
        }
        BackendTag::NotificationResponse => {
            Backend::NotificationResponse(NotificationResponse::take(&mut reader)?)
        }
        BackendTag::ParameterDescription => Backend::ParameterDescription(Oids::take(&mut reader)?),
        BackendTag::ParameterStatus => {
            Backend::ParameterStatus(ParameterStatus::take(&mut reader)?)
        }
        BackendTag::RowDescription => Backend::RowDescription(RowDescription::take(&mut reader)?),
    };
    reader.finish()?;
    Ok(message)
}

/// Writes a message without a body: ParseComplete, BindComplete, CloseComplete, NoData,
/// EmptyQueryResponse, PortalSuspended, CopyDone.
fn encode_empty(out: &mut Vec<u8>, tag: BackendTag) -> Result<(), EncodeError> {
    Writer::tagged(out, tag.byte()).finish()
}

/// Writes a ParseComplete.
pub fn encode_parse_complete(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode_empty(out, BackendTag::ParseComplete)
}

/// Writes a BindComplete.
pub fn encode_bind_complete(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode_empty(out, BackendTag::BindComplete)
}

/// Writes a CloseComplete.
pub fn encode_close_complete(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode_empty(out, BackendTag::CloseComplete)
}

/// Writes a NoData.
pub fn encode_no_data(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode_empty(out, BackendTag::NoData)
}

/// Writes an EmptyQueryResponse.
pub fn encode_empty_query_response(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode_empty(out, BackendTag::EmptyQueryResponse)
}

/// Writes a PortalSuspended.
pub fn encode_portal_suspended(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode_empty(out, BackendTag::PortalSuspended)
}

/// Writes a CopyDone.
pub fn encode_copy_done(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode_empty(out, BackendTag::CopyDone)
}

/// Writes a CopyData.
pub fn encode_copy_data(out: &mut Vec<u8>, data: &[u8]) -> Result<(), EncodeError> {
    Writer::tagged(out, BackendTag::CopyData.byte())
        .bytes(data)
        .finish()
}

/// What a server asks of, or tells, a client that logs in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Authentication<'b> {
    Ok,
    CleartextPassword,
    Md5Password {
        salt: [u8; 4],
    },
    Sasl(Mechanisms<'b>),
    SaslContinue(&'b [u8]),
    SaslFinal(&'b [u8]),
    /// A method that exists and that we do not speak (Kerberos V5, SCM credentials, GSSAPI, SSPI).
    Unsupported {
        code: u32,
    },
}

impl std::fmt::Debug for Authentication<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ok => "AuthenticationOk",
            Self::CleartextPassword => "AuthenticationCleartextPassword",
            Self::Md5Password { .. } => "AuthenticationMD5Password",
            Self::Sasl(_) => "AuthenticationSASL",
            Self::SaslContinue(_) => "AuthenticationSASLContinue",
            Self::SaslFinal(_) => "AuthenticationSASLFinal",
            Self::Unsupported { .. } => "Authentication (unsupported)",
        })
    }
}

const AUTHENTICATION_OK: u32 = 0;
const AUTHENTICATION_CLEARTEXT_PASSWORD: u32 = 3;
const AUTHENTICATION_MD5_PASSWORD: u32 = 5;
const AUTHENTICATION_SASL: u32 = 10;
const AUTHENTICATION_SASL_CONTINUE: u32 = 11;
const AUTHENTICATION_SASL_FINAL: u32 = 12;

impl<'b> Authentication<'b> {
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        match reader.u32()? {
            AUTHENTICATION_OK => Ok(Self::Ok),
            AUTHENTICATION_CLEARTEXT_PASSWORD => Ok(Self::CleartextPassword),
            AUTHENTICATION_MD5_PASSWORD => {
                let salt = reader.u32()?.to_be_bytes();
                Ok(Self::Md5Password { salt })
            }
            AUTHENTICATION_SASL => Mechanisms::take(reader).map(Self::Sasl),
            AUTHENTICATION_SASL_CONTINUE => {
                reader.bytes(reader.rest().len()).map(Self::SaslContinue)
            }
            AUTHENTICATION_SASL_FINAL => reader.bytes(reader.rest().len()).map(Self::SaslFinal),
            code @ (2 | 6 | 7 | 8 | 9) => {
                reader.bytes(reader.rest().len())?;
                Ok(Self::Unsupported { code })
            }
            code => Err(Malformed::Undefined {
                value: i32::try_from(code).unwrap_or(-1),
            }),
        }
    }
}

/// Names of SASL mechanisms, in the server's order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mechanisms<'b> {
    body: &'b [u8],
}

impl<'b> Mechanisms<'b> {
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let body = reader.rest();
        while !reader.string()?.is_empty() {}
        Ok(Self { body })
    }

    pub fn iter(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let mut reader = Reader::new(self.body);
        std::iter::from_fn(move || reader.string().ok().filter(|name| !name.is_empty()))
    }

    pub fn contains(&self, mechanism: &str) -> bool {
        self.iter().any(|name| name == mechanism.as_bytes())
    }
}

/// Writes an Authentication message.
fn encode_authentication(out: &mut Vec<u8>, code: u32, rest: &[u8]) -> Result<(), EncodeError> {
    Writer::tagged(out, BackendTag::Authentication.byte())
        .u32(code)
        .bytes(rest)
        .finish()
}

/// Writes an AuthenticationOk.
pub fn encode_authentication_ok(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode_authentication(out, AUTHENTICATION_OK, &[])
}

/// Writes an AuthenticationCleartextPassword.
pub fn encode_authentication_cleartext_password(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode_authentication(out, AUTHENTICATION_CLEARTEXT_PASSWORD, &[])
}

/// Writes an AuthenticationMD5Password.
pub fn encode_authentication_md5_password(
    out: &mut Vec<u8>,
    salt: [u8; 4],
) -> Result<(), EncodeError> {
    encode_authentication(out, AUTHENTICATION_MD5_PASSWORD, &salt)
}

/// Writes an AuthenticationSASL.
pub fn encode_authentication_sasl(
    out: &mut Vec<u8>,
    mechanisms: &[&str],
) -> Result<(), EncodeError> {
    let mut writer = Writer::tagged(out, BackendTag::Authentication.byte());
    writer.u32(AUTHENTICATION_SASL);
    for mechanism in mechanisms {
        writer.string(mechanism.as_bytes());
    }
    writer.u8(0).finish()
}

/// Writes an AuthenticationSASLContinue.
pub fn encode_authentication_sasl_continue(
    out: &mut Vec<u8>,
    challenge: &[u8],
) -> Result<(), EncodeError> {
    encode_authentication(out, AUTHENTICATION_SASL_CONTINUE, challenge)
}

/// Writes an AuthenticationSASLFinal.
pub fn encode_authentication_sasl_final(
    out: &mut Vec<u8>,
    outcome: &[u8],
) -> Result<(), EncodeError> {
    encode_authentication(out, AUTHENTICATION_SASL_FINAL, outcome)
}

/// What a CancelRequest must show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BackendKeyData<'b> {
    pub process_id: u32,
    /// `4..=256` bytes; 4 before protocol 3.2.
    pub secret: &'b [u8],
}

impl std::fmt::Debug for BackendKeyData<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackendKeyData").finish_non_exhaustive()
    }
}

impl<'b> BackendKeyData<'b> {
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let process_id = reader.u32()?;
        let length = reader.rest().len();
        if length < CANCEL_SECRET_BYTES_MIN {
            return Err(Malformed::Truncated);
        }
        let secret = reader.bytes(length.min(CANCEL_SECRET_BYTES_MAX))?;
        Ok(Self { process_id, secret })
    }
}

/// Writes a BackendKeyData.
///
/// # Errors
/// [`EncodeError::TooLong`] for a secret that is not `4..=256` bytes.
pub fn encode_backend_key_data(
    out: &mut Vec<u8>,
    process_id: u32,
    secret: &[u8],
) -> Result<(), EncodeError> {
    if !(CANCEL_SECRET_BYTES_MIN..=CANCEL_SECRET_BYTES_MAX).contains(&secret.len()) {
        return Err(EncodeError::TooLong);
    }
    Writer::tagged(out, BackendTag::BackendKeyData.byte())
        .u32(process_id)
        .bytes(secret)
        .finish()
}

/// A statement ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandComplete<'b> {
    /// Such as `SELECT 5` or `INSERT 0 1`.
    pub tag: &'b [u8],
}

impl CommandComplete<'_> {
    /// The number of rows at the end of the tag, where there is one.
    pub fn rows(&self) -> Option<u64> {
        let (_, last) = std::str::from_utf8(self.tag).ok()?.rsplit_once(' ')?;
        last.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| last.parse().ok())
            .flatten()
    }
}

/// Writes a CommandComplete.
pub fn encode_command_complete(out: &mut Vec<u8>, tag: &[u8]) -> Result<(), EncodeError> {
    Writer::tagged(out, BackendTag::CommandComplete.byte())
        .string(tag)
        .finish()
}

/// Begins a COPY, in whichever direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyResponse<'b> {
    pub format: Format,
    pub columns: Formats<'b>,
}

impl<'b> CopyResponse<'b> {
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let format = match reader.u8()? {
            0 => Format::Text,
            1 => Format::Binary,
            other => {
                return Err(Malformed::Undefined {
                    value: i32::from(other),
                });
            }
        };
        Ok(Self {
            format,
            columns: Formats::take(reader)?,
        })
    }
}

/// Which way the data of a COPY goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyDirection {
    In,
    Out,
    Both,
}

/// Writes a CopyInResponse, CopyOutResponse or CopyBothResponse.
pub fn encode_copy_response(
    out: &mut Vec<u8>,
    direction: CopyDirection,
    format: Format,
    columns: &[Format],
) -> Result<(), EncodeError> {
    let tag = match direction {
        CopyDirection::In => BackendTag::CopyInResponse,
        CopyDirection::Out => BackendTag::CopyOutResponse,
        CopyDirection::Both => BackendTag::CopyBothResponse,
    };
    let mut writer = Writer::tagged(out, tag.byte());
    writer.u8(match format {
        Format::Text => 0,
        Format::Binary => 1,
    });
    writer.count16(columns.len());
    for column in columns {
        writer.u16(column.code());
    }
    writer.finish()
}

/// One row of a result; its fields are read on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataRow<'b> {
    body: &'b [u8],
}

impl<'b> DataRow<'b> {
    /// The fields.
    ///
    /// # Errors
    /// When count and lengths do not fill the message exactly.
    #[inline]
    pub fn values(&self) -> Result<Values<'b>, DecodeError> {
        let mut reader = Reader::new(self.body);
        let count = reader.u16().in_message("DataRow")?;
        let values = Values::take(&mut reader, count).in_message("DataRow")?;
        reader.finish().in_message("DataRow")?;
        Ok(values)
    }
}

/// Writes a DataRow.
pub fn encode_data_row(out: &mut Vec<u8>, values: &[Option<&[u8]>]) -> Result<(), EncodeError> {
    let mut writer = Writer::tagged(out, BackendTag::DataRow.byte());
    writer.count16(values.len());
    for value in values {
        writer.nullable(*value);
    }
    writer.finish()
}

/// Fields of an ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorFields<'b> {
    /// Pairs of code and string, without the terminator.
    body: &'b [u8],
}

/// Codes of the fields of ErrorResponse and NoticeResponse.
///
/// Spec: PostgreSQL manual, "Error and Notice Message Fields".
pub mod field {
    /// Severity, in the language of the server's messages.
    pub const SEVERITY: u8 = b'S';
    /// Severity, never translated.
    pub const SEVERITY_NONLOCALIZED: u8 = b'V';
    pub const SQLSTATE: u8 = b'C';
    pub const MESSAGE: u8 = b'M';
    pub const DETAIL: u8 = b'D';
    pub const HINT: u8 = b'H';
    pub const POSITION: u8 = b'P';
    pub const INTERNAL_POSITION: u8 = b'p';
    pub const INTERNAL_QUERY: u8 = b'q';
    pub const WHERE: u8 = b'W';
    pub const SCHEMA: u8 = b's';
    pub const TABLE: u8 = b't';
    pub const COLUMN: u8 = b'c';
    pub const DATA_TYPE: u8 = b'd';
    pub const CONSTRAINT: u8 = b'n';
    pub const FILE: u8 = b'F';
    pub const LINE: u8 = b'L';
    pub const ROUTINE: u8 = b'R';
}

impl<'b> ErrorFields<'b> {
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let mut start = *reader;
        loop {
            let left = reader.rest().len();
            if reader.u8()? == 0 {
                let taken = start.rest().len().saturating_sub(left);
                return Ok(Self {
                    body: start.bytes(taken)?,
                });
            }
            reader.string()?;
        }
    }

    /// Codes (see [`field`]) and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'b [u8])> + use<'b> {
        let mut reader = Reader::new(self.body);
        std::iter::from_fn(move || {
            let code = reader.u8().ok()?;
            reader.string().ok().map(|value| (code, value))
        })
    }

    /// The first field of this code.
    pub fn get(&self, code: u8) -> Option<&'b [u8]> {
        self.iter()
            .find_map(|(candidate, value)| (candidate == code).then_some(value))
    }

    pub fn sqlstate(&self) -> Option<&'b [u8]> {
        self.get(field::SQLSTATE)
    }

    pub fn message(&self) -> Option<&'b [u8]> {
        self.get(field::MESSAGE)
    }

    /// Whether the server closes the connection after this.
    pub fn is_fatal(&self) -> bool {
        let severity = self
            .get(field::SEVERITY_NONLOCALIZED)
            .or_else(|| self.get(field::SEVERITY));
        matches!(severity, Some(b"FATAL" | b"PANIC"))
    }
}

/// Severity of an ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Fatal,
    Panic,
    Warning,
    Notice,
    Debug,
    Info,
    Log,
}

impl Severity {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Log => "LOG",
        }
    }
}

/// Five characters that say what kind of error it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    pub const fn new(code: &[u8; 5]) -> Self {
        Self(*code)
    }

    pub const fn as_bytes(&self) -> &[u8; 5] {
        &self.0
    }
}

/// An error or notice of our own, to be written with [`Report::encode_error`] or
/// [`Report::encode_notice`].
#[derive(Debug, Clone, Copy)]
pub struct Report<'m> {
    severity: Severity,
    sqlstate: SqlState,
    message: &'m str,
    detail: Option<&'m str>,
    hint: Option<&'m str>,
    context: Option<&'m str>,
    schema: Option<&'m str>,
    table: Option<&'m str>,
    column: Option<&'m str>,
    constraint: Option<&'m str>,
    routine: Option<&'m str>,
}

impl<'m> Report<'m> {
    pub const fn new(severity: Severity, sqlstate: SqlState, message: &'m str) -> Self {
        Self {
            severity,
            sqlstate,
            message,
            detail: None,
            hint: None,
            context: None,
            schema: None,
            table: None,
            column: None,
            constraint: None,
            routine: None,
        }
    }

    /// An error that leaves the connection usable.
    pub const fn error(sqlstate: SqlState, message: &'m str) -> Self {
        Self::new(Severity::Error, sqlstate, message)
    }

    /// An error after which the connection is closed.
    pub const fn fatal(sqlstate: SqlState, message: &'m str) -> Self {
        Self::new(Severity::Fatal, sqlstate, message)
    }

    #[must_use]
    pub const fn detail(self, detail: &'m str) -> Self {
        Self {
            detail: Some(detail),
            ..self
        }
    }

    #[must_use]
    pub const fn hint(self, hint: &'m str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    /// The field `W` (WHERE), which psql prints as CONTEXT.
    #[must_use]
    pub const fn context(self, context: &'m str) -> Self {
        Self {
            context: Some(context),
            ..self
        }
    }

    #[must_use]
    pub const fn schema(self, schema: &'m str) -> Self {
        Self {
            schema: Some(schema),
            ..self
        }
    }

    #[must_use]
    pub const fn table(self, table: &'m str) -> Self {
        Self {
            table: Some(table),
            ..self
        }
    }

    #[must_use]
    pub const fn column(self, column: &'m str) -> Self {
        Self {
            column: Some(column),
            ..self
        }
    }

    #[must_use]
    pub const fn constraint(self, constraint: &'m str) -> Self {
        Self {
            constraint: Some(constraint),
            ..self
        }
    }

    #[must_use]
    pub const fn routine(self, routine: &'m str) -> Self {
        Self {
            routine: Some(routine),
            ..self
        }
    }

    /// Writes an ErrorResponse.
    ///
    /// # Errors
    /// [`EncodeError::ContainsNul`] for a text with a NUL.
    pub fn encode_error(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.encode(out, BackendTag::ErrorResponse)
    }

    /// Writes a NoticeResponse.
    ///
    /// # Errors
    /// [`EncodeError::ContainsNul`] for a text with a NUL.
    pub fn encode_notice(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.encode(out, BackendTag::NoticeResponse)
    }

    fn encode(&self, out: &mut Vec<u8>, tag: BackendTag) -> Result<(), EncodeError> {
        let severity = self.severity.name().as_bytes();
        let mut writer = Writer::tagged(out, tag.byte());
        writer.u8(field::SEVERITY).string(severity);
        writer.u8(field::SEVERITY_NONLOCALIZED).string(severity);
        writer.u8(field::SQLSTATE).string(self.sqlstate.as_bytes());
        writer.u8(field::MESSAGE).string(self.message.as_bytes());
        let optional = [
            (field::DETAIL, self.detail),
            (field::HINT, self.hint),
            (field::WHERE, self.context),
            (field::SCHEMA, self.schema),
            (field::TABLE, self.table),
            (field::COLUMN, self.column),
            (field::CONSTRAINT, self.constraint),
            (field::ROUTINE, self.routine),
        ];
        for (code, text) in optional {
            if let Some(text) = text {
                writer.u8(code).string(text.as_bytes());
            }
        }
        writer.u8(0).finish()
    }
}

/// Writes a FunctionCallResponse.
pub fn encode_function_call_response(
    out: &mut Vec<u8>,
    value: Option<&[u8]>,
) -> Result<(), EncodeError> {
    Writer::tagged(out, BackendTag::FunctionCallResponse.byte())
        .nullable(value)
        .finish()
}

/// The server speaks an older minor version, or does not know some extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NegotiateProtocolVersion<'b> {
    /// The manual says "minor version"; servers send both numbers.
    pub newest: ProtocolVersion,
    count: u32,
    body: &'b [u8],
}

impl<'b> NegotiateProtocolVersion<'b> {
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let newest = ProtocolVersion::take(reader)?;
        let announced = reader.i32()?;
        let count =
            u32::try_from(announced).map_err(|_| Malformed::Negative { value: announced })?;
        let body = reader.rest();
        // Each name takes a byte at least, so the loop ends with the message.
        for _ in 0..count {
            reader.string()?;
        }
        Ok(Self {
            newest,
            count,
            body,
        })
    }

    /// The extensions that the server does not know.
    pub fn unknown_extensions(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let mut reader = Reader::new(self.body);
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        std::iter::from_fn(move || reader.string().ok()).take(count)
    }
}

/// Writes a NegotiateProtocolVersion.
pub fn encode_negotiate_protocol_version<'e>(
    out: &mut Vec<u8>,
    newest: ProtocolVersion,
    unknown_extensions: impl IntoIterator<Item = &'e str, IntoIter: Clone>,
) -> Result<(), EncodeError> {
    let extensions = unknown_extensions.into_iter();
    let count = u32::try_from(extensions.clone().count()).map_err(|_| EncodeError::TooLong)?;
    let mut writer = Writer::tagged(out, BackendTag::NegotiateProtocolVersion.byte());
    writer.u32(newest.wire()).u32(count);
    for extension in extensions {
        writer.string(extension.as_bytes());
    }
    writer.finish()
}

/// A NOTIFY of some session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotificationResponse<'b> {
    pub process_id: u32,
    pub channel: &'b [u8],
    pub payload: &'b [u8],
}

impl<'b> NotificationResponse<'b> {
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        Ok(Self {
            process_id: reader.u32()?,
            channel: reader.string()?,
            payload: reader.string()?,
        })
    }
}

/// Writes a NotificationResponse.
pub fn encode_notification_response(
    out: &mut Vec<u8>,
    process_id: u32,
    channel: &[u8],
    payload: &[u8],
) -> Result<(), EncodeError> {
    let mut writer = Writer::tagged(out, BackendTag::NotificationResponse.byte());
    writer
        .u32(process_id)
        .string(channel)
        .string(payload)
        .finish()
}

/// Writes a ParameterDescription.
pub fn encode_parameter_description(out: &mut Vec<u8>, types: &[u32]) -> Result<(), EncodeError> {
    let mut writer = Writer::tagged(out, BackendTag::ParameterDescription.byte());
    writer.count16(types.len());
    for oid in types {
        writer.u32(*oid);
    }
    writer.finish()
}

/// The value of a setting that the server reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterStatus<'b> {
    pub name: &'b [u8],
    pub value: &'b [u8],
}

impl<'b> ParameterStatus<'b> {
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        Ok(Self {
            name: reader.string()?,
            value: reader.string()?,
        })
    }
}

/// Writes a ParameterStatus.
pub fn encode_parameter_status(
    out: &mut Vec<u8>,
    name: &[u8],
    value: &[u8],
) -> Result<(), EncodeError> {
    let mut writer = Writer::tagged(out, BackendTag::ParameterStatus.byte());
    writer.string(name).string(value).finish()
}

/// Where the session stands between requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    Idle,
    InTransaction,
    Failed,
}

impl TransactionStatus {
    #[inline]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }

    #[inline]
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.u8()? {
            b'I' => Ok(Self::Idle),
            b'T' => Ok(Self::InTransaction),
            b'E' => Ok(Self::Failed),
            other => Err(Malformed::Undefined {
                value: i32::from(other),
            }),
        }
    }
}

/// Writes a ReadyForQuery.
pub fn encode_ready_for_query(
    out: &mut Vec<u8>,
    status: TransactionStatus,
) -> Result<(), EncodeError> {
    Writer::tagged(out, BackendTag::ReadyForQuery.byte())
        .u8(status.byte())
        .finish()
}

/// The columns of the rows that follow.
///
/// *Shape*: walked through once when decoded, so that iterating cannot fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowDescription<'b> {
    count: u16,
    body: &'b [u8],
}

/// A column of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'b> {
    pub name: &'b [u8],
    /// Zero unless the column is an untouched column of a table.
    pub table: u32,
    /// Number of the column in that table, or zero.
    pub attribute: i16,
    pub type_oid: u32,
    /// Negative for types of variable width.
    pub type_size: i16,
    pub type_modifier: i32,
    pub format: Format,
}

/// Bytes of a column whose name is empty.
const COLUMN_BYTES_MIN: usize = 1 + 4 + 2 + 4 + 2 + 4 + 2;

impl<'b> Column<'b> {
    #[inline]
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        Ok(Self {
            name: reader.string()?,
            table: reader.u32()?,
            attribute: reader.i16()?,
            type_oid: reader.u32()?,
            type_size: reader.i16()?,
            type_modifier: reader.i32()?,
            format: Format::take(reader)?,
        })
    }
}

impl<'b> RowDescription<'b> {
    #[inline]
    fn take(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let count = reader.u16()?;
        reader.expect_entries(count, COLUMN_BYTES_MIN)?;
        let body = reader.rest();
        for _ in 0..count {
            Column::take(reader)?;
        }
        Ok(Self { count, body })
    }

    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = Column<'b>> + use<'b> {
        let mut reader = Reader::new(self.body);
        std::iter::from_fn(move || Column::take(&mut reader).ok()).take(self.len())
    }
}

/// Writes a RowDescription.
pub fn encode_row_description(
    out: &mut Vec<u8>,
    columns: &[Column<'_>],
) -> Result<(), EncodeError> {
    let mut writer = Writer::tagged(out, BackendTag::RowDescription.byte());
    writer.count16(columns.len());
    for column in columns {
        writer
            .string(column.name)
            .u32(column.table)
            .i16(column.attribute)
            .u32(column.type_oid)
            .i16(column.type_size)
            .i32(column.type_modifier)
            .u16(column.format.code());
    }
    writer.finish()
}
