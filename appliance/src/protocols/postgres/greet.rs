//! From the first byte of a connection to the moment its session is welcomed.
//!
//! ```text
//! accept ─┬─ SSLRequest ──► 'S' ──► TLS ─┐
//!         ├─ GSSENCRequest ► 'N' ──┐     │
//!         ├─ TLS record (ALPN) ────┼─TLS─┤
//!         └────────────────────────┴─────┴─► CancelRequest ──► routed, closed
//!                                        └─► StartupMessage ─► ask ─► claim ─► welcome | refuse
//! ```
//!
//! It proves nothing and decides nothing: it reads what the peer wants and says
//! what it is told to say.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use codecs::postgres::auth::{self, BearerClaim, OAUTHBEARER};
use codecs::postgres::backend;
use codecs::postgres::frontend::Password;
use codecs::postgres::startup::{
    self, DIRECT_TLS_FIRST_BYTE, ENCRYPTION_ACCEPTED, ENCRYPTION_REFUSED,
};
use codecs::postgres::{
    DecodeError, Decoded, EncodeError, Frontend, FrontendDecoder, FrontendPiece, ProtocolVersion,
    StartupPacket, TransactionStatus,
};
use runtime::{Chunk, Stream};
use rustls::ServerConfig;
use zeroize::Zeroizing;

use super::refuse::LoginRefusal;
use super::settings::{self, WishRefused, Wishes};
use crate::config::{ListenerProof, Snapshot};
use crate::connection::Ended;
use crate::downstream::origin::{Origin, OriginError};
use crate::relay::inbound::Inbound;
use crate::shard::NoRandomness;
use crate::shard::entrance::{Source, TurnedAway};
use crate::shard::turnstile::{Step, Turnstile};
use runtime::transport::{self, HandshakeError, Transport};

/// Bytes of the secret in `BackendKeyData` for protocol 3.2; 3.0 has room for four.
const SECRET_BYTES: usize = 32;
const SECRET_BYTES_V3_0: usize = 4;

/// A peer that has asked for a session.
pub(crate) struct Greeting {
    transport: Transport,
    inbound: Inbound,
    decoder: FrontendDecoder,
    version: ProtocolVersion,
    origin: Origin,
    /// A token may cross: TLS, loopback or a Unix socket.
    private: bool,
    /// A SASL exchange is open: a failed proof has to end it before the error is said.
    sasl: bool,
    /// Where a client that speaks SASL may find how to get a token.
    discovery: Option<String>,
    scratch: Vec<u8>,
}

/// How a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenProof {
    Password,
    OauthBearer,
}

/// What an agent presents, wiped when dropped.
pub(crate) type Token = Zeroizing<Vec<u8>>;

/// What a connection turned out to be.
pub(crate) enum Opening {
    Session(Box<Greeting>, Result<Wishes, WishRefused>),
    Cancel(CancelKey, Transport),
    /// It closed before it asked for anything (health checks, port scans).
    Left,
}

/// What a `CancelRequest` carries.
pub(crate) struct CancelKey {
    pub(crate) process_id: u32,
    pub(crate) secret: Vec<u8>,
}

/// Why there was no session, short of a refusal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error("turned away: {0}")]
    TurnedAway(#[from] TurnedAway),
    #[error("the peer sent what is not PostgreSQL: {0}")]
    Malformed(#[from] DecodeError),
    #[error("the peer asked twice for encryption")]
    EncryptionAskedTwice,
    #[error("no TLS: {0}")]
    Handshake(#[from] HandshakeError),
    #[error("the peer closed the connection during login")]
    Left,
    #[error("login took too long")]
    TooSlow,
    #[error("the connection failed during login: {0}")]
    Connection(std::io::ErrorKind),
    #[error("an answer could not be written")]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Ends a connection in order: over TLS with its goodbye, without which libpq reports an error.
pub(crate) async fn close(mut transport: Transport, deadline: Instant) {
    transport.close_send();
    // The peer may be gone already; there is nobody else to tell.
    drop(transport.flush(deadline).await);
}

/// Reads up to the request that says what the peer wants. `inbound` has what arrived already.
///
/// # Errors
/// `GreetError`; nothing was promised to the peer yet, so the connection is just closed.
pub(crate) async fn open(
    stream: Stream,
    mut inbound: Inbound,
    origin: Origin,
    snapshot: &Snapshot,
    proof: ListenerProof,
    turnstile: &Rc<Turnstile>,
    deadline: Instant,
) -> Result<Opening, GreetError> {
    let tls = || Arc::clone(snapshot.tls_for(proof));
    let source = Source::of(origin.client());
    let turn = async || turnstile.pass(source, Step::Handshake).await;
    let mut transport = Transport::Plain(stream);
    let mut asked = Asked::default();
    loop {
        if inbound.unread().is_empty() {
            match receive(&mut transport, deadline).await {
                Ok(chunk) => inbound.push(chunk),
                Err(GreetError::Left) if asked == Asked::default() => return Ok(Opening::Left),
                Err(error) => return Err(error),
            }
        }
        if inbound.unread().first() == Some(&DIRECT_TLS_FIRST_BYTE) && asked == Asked::default() {
            asked.tls = true;
            let preread = Chunk::from_slice(inbound.unread());
            inbound = Inbound::default();
            let opening = transport::Opening::Direct { preread };
            transport = secure(transport, tls(), opening, &turn, deadline).await?;
            continue;
        }
        let Some(decoded) = startup::decode_startup(inbound.unread(), &snapshot.limits.wire)?
        else {
            inbound.settle();
            let chunk = receive(&mut transport, deadline).await?;
            inbound.push(chunk);
            continue;
        };
        let length = decoded.wire.len();
        match decoded.message {
            StartupPacket::SslRequest => {
                if std::mem::replace(&mut asked.tls, true) {
                    return Err(GreetError::EncryptionAskedTwice);
                }
                inbound.advance(length);
                // CVE-2021-23214: what came in clear must never be read as if it came by TLS. The
                // handshake refuses to begin when anything is unread.
                let unread = inbound.unread().len();
                inbound = Inbound::default();
                transport.append(&[ENCRYPTION_ACCEPTED]);
                flush(&mut transport, deadline).await?;
                let opening = transport::Opening::Requested { unread };
                transport = secure(transport, tls(), opening, &turn, deadline).await?;
            }
            StartupPacket::GssEncRequest => {
                if std::mem::replace(&mut asked.gss, true) || asked.tls {
                    return Err(GreetError::EncryptionAskedTwice);
                }
                inbound.advance(length);
                transport.append(&[ENCRYPTION_REFUSED]);
                flush(&mut transport, deadline).await?;
            }
            StartupPacket::CancelRequest(cancel) => {
                let key = CancelKey {
                    process_id: cancel.process_id,
                    secret: cancel.secret.to_vec(),
                };
                return Ok(Opening::Cancel(key, transport));
            }
            StartupPacket::Startup(message) => {
                let version = message.version.negotiated();
                let mut scratch = Vec::new();
                if message.needs_negotiation() {
                    let unknown: Vec<&str> = message.extensions().map(|(name, _)| name).collect();
                    backend::encode_negotiate_protocol_version(&mut scratch, version, unknown)?;
                    transport.append(&scratch);
                    scratch.clear();
                }
                let wishes = settings::read(&message);
                inbound.advance(length);
                let greeting = Greeting {
                    private: origin.is_local() || transport.is_encrypted(),
                    decoder: FrontendDecoder::new(snapshot.limits.wire),
                    transport,
                    inbound,
                    version,
                    origin,
                    sasl: false,
                    discovery: None,
                    scratch,
                };
                return Ok(Opening::Session(Box::new(greeting), wishes));
            }
        }
    }
}

/// Which kinds of encryption were asked for already.
#[derive(Default, PartialEq, Eq)]
struct Asked {
    tls: bool,
    gss: bool,
}

impl Greeting {
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// The certificate that the peer showed in a handshake that verified it.
    ///
    /// # Errors
    /// A refusal when there was no handshake.
    pub(crate) fn certificate(&self) -> Result<Option<&[u8]>, LoginRefusal> {
        if !self.transport.is_encrypted() {
            return Err(LoginRefusal::NotPrivate);
        }
        let shown = self.transport.peer_certificates().first();
        Ok(shown.map(|certificate| certificate.as_ref()))
    }

    /// Asks for the token and reads it.
    ///
    /// # Errors
    /// A refusal when the claim can not be asked for or has the wrong form; `GreetError` when
    /// the peer breaks the protocol, leaves or is too slow.
    pub(crate) async fn ask(
        &mut self,
        proof: TokenProof,
        discovery: Option<&str>,
        deadline: Instant,
    ) -> Result<Token, Ended> {
        if !self.private {
            return Err(LoginRefusal::NotPrivate.into());
        }
        match proof {
            TokenProof::Password => {
                backend::encode_authentication_cleartext_password(&mut self.scratch)
                    .map_err(GreetError::from)?;
                self.say(deadline).await?;
                self.password(deadline, |password| {
                    password.text().ok().map(<[u8]>::to_vec)
                })
                .await
            }
            TokenProof::OauthBearer => {
                backend::encode_authentication_sasl(&mut self.scratch, &[OAUTHBEARER])
                    .map_err(GreetError::from)?;
                self.say(deadline).await?;
                self.sasl = true;
                self.discovery = discovery.map(str::to_owned);
                self.password(deadline, bearer_token).await
            }
        }
    }

    /// Tells the agent why it does not get a session, as far as that is its business.
    pub(crate) async fn refuse(mut self, refusal: &LoginRefusal, deadline: Instant) {
        // The peer may be gone already; there is nobody else to tell.
        drop(self.try_refuse(refusal, deadline).await);
        close(self.transport, deadline).await;
    }

    async fn try_refuse(&mut self, refusal: &LoginRefusal, deadline: Instant) -> Result<(), Ended> {
        self.scratch.clear();
        if self.sasl && refusal.is_failed_proof() {
            let failure = auth::oauthbearer_failure(self.discovery.as_deref(), None);
            backend::encode_authentication_sasl_continue(&mut self.scratch, failure.as_bytes())
                .map_err(GreetError::from)?;
            self.say(deadline).await?;
            self.password(deadline, |dummy| {
                auth::check_oauthbearer_dummy(dummy.sasl_response())
                    .ok()
                    .map(|()| Vec::new())
            })
            .await?;
        }
        refusal
            .encode(&mut self.scratch)
            .map_err(GreetError::from)?;
        Ok(self.say(deadline).await?)
    }

    /// How many bytes of secret the client's protocol version has room for.
    pub(crate) fn secret_bytes(&self) -> usize {
        if self.version < ProtocolVersion::V3_2 {
            SECRET_BYTES_V3_0
        } else {
            SECRET_BYTES
        }
    }

    /// Says that the session is open, and hands over what the relay needs.
    ///
    /// # Errors
    /// `GreetError` when the welcome can not be written; nothing has been sent then.
    pub(crate) fn welcome<'p>(
        mut self,
        parameters: impl Iterator<Item = (&'p [u8], &'p [u8])>,
        process_id: u32,
        secret: &[u8],
    ) -> Result<(Transport, Inbound, FrontendDecoder), GreetError> {
        let out = &mut self.scratch;
        out.clear();
        backend::encode_authentication_ok(out)?;
        for (name, value) in parameters {
            backend::encode_parameter_status(out, name, value)?;
        }
        backend::encode_backend_key_data(out, process_id, secret)?;
        backend::encode_ready_for_query(out, TransactionStatus::Idle)?;
        self.transport.append(out);
        self.decoder.authenticated();
        Ok((self.transport, self.inbound, self.decoder))
    }

    async fn say(&mut self, deadline: Instant) -> Result<(), GreetError> {
        self.transport.append(&self.scratch);
        self.scratch.clear();
        flush(&mut self.transport, deadline).await
    }

    /// Reads one message of the authentication; `read` says what is in it, if it has the form.
    async fn password(
        &mut self,
        deadline: Instant,
        read: impl Fn(&Password<'_>) -> Option<Vec<u8>>,
    ) -> Result<Token, Ended> {
        loop {
            let piece = self
                .decoder
                .decode(self.inbound.unread())
                .map_err(GreetError::from)?;
            match piece {
                Some(FrontendPiece::Message(Decoded {
                    message: Frontend::Password(body),
                    wire,
                })) => {
                    let token = read(&body).map(Zeroizing::new);
                    let length = wire.len();
                    self.inbound.advance(length);
                    return token.ok_or_else(|| LoginRefusal::MalformedClaim.into());
                }
                // Terminate: the client has no password, or its user gave up.
                Some(_) => return Err(GreetError::Left.into()),
                None => {
                    self.inbound.settle();
                    let chunk = receive(&mut self.transport, deadline).await?;
                    self.inbound.push(chunk);
                }
            }
        }
    }
}

fn bearer_token(password: &Password<'_>) -> Option<Vec<u8>> {
    let initial = password.sasl_initial_response().ok()?;
    if initial.mechanism != OAUTHBEARER.as_bytes() {
        return None;
    }
    match auth::decode_oauthbearer_initial(initial.response?).ok()? {
        BearerClaim::Token(token) => Some(token.to_vec()),
        BearerClaim::Discovery => None,
    }
}

async fn secure<T>(
    transport: Transport,
    tls: Arc<ServerConfig>,
    opening: transport::Opening,
    turn: &impl AsyncFn() -> T,
    deadline: Instant,
) -> Result<Transport, GreetError> {
    match transport {
        Transport::Plain(stream) => {
            Ok(Transport::accept_tls(stream, tls, opening, deadline, turn).await?)
        }
        Transport::Tls(_) => Err(GreetError::EncryptionAskedTwice),
    }
}

async fn receive(transport: &mut Transport, deadline: Instant) -> Result<Chunk, GreetError> {
    transport
        .recv(deadline)
        .await
        .map_err(connection_failed)?
        .ok_or(GreetError::Left)
}

async fn flush(transport: &mut Transport, deadline: Instant) -> Result<(), GreetError> {
    transport.flush(deadline).await.map_err(connection_failed)
}

fn connection_failed(error: std::io::Error) -> GreetError {
    let kind = error.kind();
    if kind == std::io::ErrorKind::TimedOut {
        GreetError::TooSlow
    } else {
        GreetError::Connection(kind)
    }
}
