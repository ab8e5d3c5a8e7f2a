//! The untyped first packets: SSLRequest, GSSENCRequest, CancelRequest, StartupMessage.
//!
//! Does not decide what a parameter may be; it only guarantees that the server would read the same
//! pairs.

use crate::Limits;
use crate::wire::{EncodeError, Malformed, Reader, Writer};

use super::error::{DecodeError, InMessage};
use super::framing::{Decoded, LENGTH_BYTES};

/// First byte of a TLS record of type handshake. A client that asks for TLS without SSLRequest
/// (`sslnegotiation=direct`) starts with it; a start-up packet cannot, since its length would be
/// over 300 MB.
pub const DIRECT_TLS_FIRST_BYTE: u8 = 0x16;

/// ALPN protocol that direct TLS must offer and select.
pub const ALPN: &[u8] = b"postgresql";

/// Answer to SSLRequest: the handshake follows.
pub const ENCRYPTION_ACCEPTED: u8 = b'S';
/// Answer to SSLRequest or GSSENCRequest: no.
pub const ENCRYPTION_REFUSED: u8 = b'N';

/// Longest secret of a CancelRequest or BackendKeyData, in bytes (3.2; before it is always 4).
pub const CANCEL_SECRET_BYTES_MAX: usize = 256;
/// Shortest, and the only length before 3.2.
pub const CANCEL_SECRET_BYTES_MIN: usize = 4;

/// Prefix of a start-up parameter that asks for an extension of the protocol.
pub const EXTENSION_PREFIX: &str = "_pq_.";

const MESSAGE: &str = "StartupMessage";
/// Major number of the request codes that share the place of a version.
const REQUEST_MAJOR: u16 = 1234;
const CANCEL_MINOR: u16 = 5678;
const SSL_MINOR: u16 = 5679;
const GSSENC_MINOR: u16 = 5680;

/// Version of the protocol, as in the first field of a StartupMessage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtocolVersion {
    pub major: u16,
    pub minor: u16,
}

impl ProtocolVersion {
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    pub const V3_2: Self = Self { major: 3, minor: 2 };

    /// The version spoken with a client that asked for this one: the newest that is not newer.
    ///
    /// 3.1 never existed (the manual reserves it), so who asks for it gets 3.0.
    pub fn negotiated(self) -> Self {
        if self >= Self::V3_2 {
            Self::V3_2
        } else {
            Self::V3_0
        }
    }

    pub(super) fn wire(self) -> u32 {
        (u32::from(self.major) << 16) | u32::from(self.minor)
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            major: reader.u16()?,
            minor: reader.u16()?,
        })
    }
}

/// What a client may send before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartupPacket<'b> {
    SslRequest,
    GssEncRequest,
    CancelRequest(CancelRequest<'b>),
    Startup(Startup<'b>),
}

/// Asks to cancel what the backend of this key is doing.
///
/// Has no `Debug` of its content on purpose: the secret is enough to cancel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CancelRequest<'b> {
    pub process_id: u32,
    /// `4..=256` bytes. Compare it in constant time.
    pub secret: &'b [u8],
}

impl std::fmt::Debug for CancelRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelRequest").finish_non_exhaustive()
    }
}

/// A StartupMessage.
///
/// *Shape*: names are non-empty and no two are equal, ignoring ASCII case (the server takes the last
/// of two, and settings ignore case); names and values are UTF-8 without NUL; `user` is there and
/// not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Startup<'b> {
    /// As asked for; [`ProtocolVersion::negotiated`] is what is spoken.
    pub version: ProtocolVersion,
    pairs: &'b [u8],
}

impl<'b> Startup<'b> {
    /// All pairs but the protocol extensions, in their order.
    pub fn parameters(&self) -> impl Iterator<Item = (&'b str, &'b str)> + use<'b> {
        Pairs(Reader::new(self.pairs)).filter(|(name, _)| !name.starts_with(EXTENSION_PREFIX))
    }

    /// The protocol extensions (`_pq_.`), for NegotiateProtocolVersion: we support none.
    pub fn extensions(&self) -> impl Iterator<Item = (&'b str, &'b str)> + use<'b> {
        Pairs(Reader::new(self.pairs)).filter(|(name, _)| name.starts_with(EXTENSION_PREFIX))
    }

    /// The value of one parameter; `name` is compared exactly, as the server does for `user`,
    /// `database`, `options` and `replication`.
    pub fn parameter(&self, name: &str) -> Option<&'b str> {
        self.parameters()
            .find_map(|(candidate, value)| (candidate == name).then_some(value))
    }

    /// Whether NegotiateProtocolVersion must be sent before authentication.
    pub fn needs_negotiation(&self) -> bool {
        self.version.negotiated() != self.version || self.extensions().next().is_some()
    }
}

struct Pairs<'b>(Reader<'b>);

impl<'b> Iterator for Pairs<'b> {
    type Item = (&'b str, &'b str);

    fn next(&mut self) -> Option<Self::Item> {
        pair(&mut self.0).ok()
    }
}

fn pair<'b>(reader: &mut Reader<'b>) -> Result<(&'b str, &'b str), Malformed> {
    let name = std::str::from_utf8(reader.string()?).map_err(|_| Malformed::NotText)?;
    let value = std::str::from_utf8(reader.string()?).map_err(|_| Malformed::NotText)?;
    Ok((name, value))
}

/// Takes a start-up packet off `input`.
///
/// `Ok(None)` means that it has not arrived in full.
///
/// # Errors
/// As soon as the length field is impossible or over `limits.startup_packet_bytes`, and for
/// whatever PostgreSQL could read in another way. All errors are final for the connection.
///
/// Spec: PostgreSQL manual, "Message Formats", StartupMessage and the requests beside it.
pub fn decode_startup<'b>(
    input: &'b [u8],
    limits: &Limits,
) -> Result<Option<Decoded<'b, StartupPacket<'b>>>, DecodeError> {
    let Some((announced, _)) = input.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let announced = i32::from_be_bytes(*announced);
    let length = u32::try_from(announced)
        .ok()
        .filter(|length| *length >= LENGTH_BYTES + 4)
        .ok_or(DecodeError::ImpossibleLength {
            message: MESSAGE,
            announced,
        })?;
    if length > limits.startup_packet_bytes {
        let limit = limits.startup_packet_bytes;
        return Err(DecodeError::TooLong {
            message: MESSAGE,
            announced: length,
            limit,
        });
    }
    let Some(wire) = usize::try_from(length)
        .ok()
        .and_then(|length| input.get(..length))
    else {
        return Ok(None);
    };
    let message = packet(wire, limits)?;
    Ok(Some(Decoded { message, wire }))
}

fn packet<'b>(wire: &'b [u8], limits: &Limits) -> Result<StartupPacket<'b>, DecodeError> {
    let mut reader = Reader::new(wire);
    reader.u32().in_message(MESSAGE)?;
    let version = ProtocolVersion::take(&mut reader).in_message(MESSAGE)?;
    match (version.major, version.minor) {
        (REQUEST_MAJOR, SSL_MINOR) => {
            reader.finish().in_message("SSLRequest")?;
            Ok(StartupPacket::SslRequest)
        }
        (REQUEST_MAJOR, GSSENC_MINOR) => {
            reader.finish().in_message("GSSENCRequest")?;
            Ok(StartupPacket::GssEncRequest)
        }
        (REQUEST_MAJOR, CANCEL_MINOR) => cancel(reader)
            .in_message("CancelRequest")
            .map(StartupPacket::CancelRequest),
        (3, _) => startup(version, reader.rest(), limits)
            .in_message(MESSAGE)
            .map(StartupPacket::Startup),
        (major, minor) => Err(DecodeError::UnsupportedVersion { major, minor }),
    }
}

fn cancel(mut reader: Reader<'_>) -> Result<CancelRequest<'_>, Malformed> {
    let process_id = reader.u32()?;
    let secret = reader.rest();
    if secret.len() < CANCEL_SECRET_BYTES_MIN {
        return Err(Malformed::Truncated);
    }
    let surplus = secret.len().saturating_sub(CANCEL_SECRET_BYTES_MAX);
    if surplus > 0 {
        return Err(Malformed::Surplus { bytes: surplus });
    }
    Ok(CancelRequest { process_id, secret })
}

fn startup<'b>(
    version: ProtocolVersion,
    rest: &'b [u8],
    limits: &Limits,
) -> Result<Startup<'b>, Malformed> {
    let (terminator, pairs) = rest.split_last().ok_or(Malformed::Missing)?;
    if *terminator != 0 {
        return Err(Malformed::Unterminated);
    }
    let mut reader = Reader::new(pairs);
    let mut seen = 0_usize;
    let mut has_user = false;
    while !reader.is_empty() {
        let before = pairs.len().saturating_sub(reader.rest().len());
        let (name, value) = pair(&mut reader)?;
        if name.is_empty() {
            // The server stops reading here, so what follows would be ours alone.
            return Err(Malformed::Surplus {
                bytes: reader.rest().len(),
            });
        }
        seen = seen.saturating_add(1);
        if seen > limits.startup_parameters {
            return Err(Malformed::TooMany {
                limit: limits.startup_parameters,
            });
        }
        let earlier = Pairs(Reader::new(pairs.get(..before).unwrap_or(pairs)));
        if earlier
            .into_iter()
            .any(|(earlier, _)| earlier.eq_ignore_ascii_case(name))
        {
            return Err(Malformed::Duplicate);
        }
        has_user |= name == "user" && !value.is_empty();
    }
    if !has_user {
        return Err(Malformed::Missing);
    }
    Ok(Startup { version, pairs })
}

/// Writes a StartupMessage.
///
/// # Errors
/// [`EncodeError::ContainsNul`]. An empty name would end the list early; the caller has none.
pub fn encode_startup<'p>(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    parameters: impl IntoIterator<Item = (&'p str, &'p str)>,
) -> Result<(), EncodeError> {
    let mut writer = Writer::untagged(out);
    writer.u32(version.wire());
    for (name, value) in parameters {
        writer.string(name.as_bytes()).string(value.as_bytes());
    }
    writer.u8(0).finish()
}

/// Writes an SSLRequest.
pub fn encode_ssl_request(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    Writer::untagged(out)
        .u16(REQUEST_MAJOR)
        .u16(SSL_MINOR)
        .finish()
}

/// Writes a GSSENCRequest.
pub fn encode_gss_enc_request(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    Writer::untagged(out)
        .u16(REQUEST_MAJOR)
        .u16(GSSENC_MINOR)
        .finish()
}

/// Writes a CancelRequest.
///
/// # Errors
/// [`EncodeError::TooLong`] for a secret that is not `4..=256` bytes.
pub fn encode_cancel_request(
    out: &mut Vec<u8>,
    process_id: u32,
    secret: &[u8],
) -> Result<(), EncodeError> {
    if !(CANCEL_SECRET_BYTES_MIN..=CANCEL_SECRET_BYTES_MAX).contains(&secret.len()) {
        return Err(EncodeError::TooLong);
    }
    let mut writer = Writer::untagged(out);
    writer
        .u16(REQUEST_MAJOR)
        .u16(CANCEL_MINOR)
        .u32(process_id)
        .bytes(secret)
        .finish()
}
