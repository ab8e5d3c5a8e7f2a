//! Makes a connection to a target: addresses, TLS, start-up, log-in.
//!
//! A server that does not do as the account demands (TLS, authentication) is refused; there is no
//! falling back to less.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codecs::postgres::startup::{
    ENCRYPTION_ACCEPTED, ENCRYPTION_REFUSED, encode_ssl_request, encode_startup,
};
use codecs::postgres::{Backend, ProtocolVersion, TransactionStatus};
use runtime::{Keepalive, Stream, now};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use super::conversation::{Conversation, Exchange, Parameters};
use super::credentials::Account;
use super::error::{Phase, TlsFailure, UpstreamError, Violation};
use super::login::{ScramKeyCache, authenticate};
use super::resolve::Resolver;
use super::session::SessionSettings;
use super::settings::{Address, Host, TargetSettings};
use crate::transport::{HandshakeError, Transport};

/// `application_name` of a connection while no session has it.
const IDLE_APPLICATION_NAME: &str = "sallyport";

/// Start-up settings that make texts mean to the server what they mean to the policy. As start-up
/// settings they win over those of the role and the database, and RESET returns to them.
const FORCED_SETTINGS: [(&str, &str); 2] = [
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
];

/// Finds a server that is gone without a word after a minute and a half, also under an idle
/// connection, whose loss the next lease would otherwise pay for.
const KEEPALIVE: Keepalive = Keepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(10),
    probes: 3,
};

/// What dialling keeps between connections. Per shard.
#[derive(Default)]
pub(super) struct Dialer {
    resolver: Resolver,
    keys: ScramKeyCache,
}

/// A server connection that is ready for its first statement.
pub(super) struct Established {
    pub(super) conversation: Conversation,
    pub(super) key: Option<BackendKey>,
    pub(super) server: ServerAddress,
}

/// One address that a connection was made to; a host name may have several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What cancels the statements of one server session.
#[derive(Clone)]
pub(super) struct BackendKey {
    pub(super) process_id: u32,
    pub(super) secret: Zeroizing<Vec<u8>>,
}

impl Dialer {
    /// # Errors
    /// As [`UpstreamError`] says; `TimedOut` says in which phase the deadline passed.
    pub(super) async fn dial(
        &self,
        target: &TargetSettings,
        account: &Account,
        settings: &SessionSettings,
        deadline: Instant,
    ) -> Result<Established, UpstreamError> {
        let (stream, server) = self.connect(&target.address, deadline).await?;
        let transport = secure(stream, account, &target.address, deadline).await?;
        let mut conversation = Conversation::new(transport);

        let exchange = Exchange {
            phase: Phase::Authentication,
            deadline,
        };
        conversation
            .send(exchange, &startup(target, account, settings)?)
            .await?;
        authenticate(&mut conversation, exchange, account, &self.keys).await?;
        let exchange = Exchange {
            phase: Phase::Startup,
            deadline,
        };
        let key = ready(&mut conversation, exchange).await?;
        Ok(Established {
            conversation,
            key,
            server,
        })
    }

    async fn connect(
        &self,
        address: &Address,
        deadline: Instant,
    ) -> Result<(Stream, ServerAddress), UpstreamError> {
        let (host, port) = match address {
            Address::Tcp { host, port } => (host, *port),
            Address::Unix(path) => {
                let server = ServerAddress::Unix(path.clone());
                return Ok((server.connect(deadline).await?, server));
            }
        };
        let addresses = self.resolver.resolve(host, port, deadline).await?;
        let mut untried = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut last = UpstreamError::Unresolved;
        for address in addresses {
            let server = ServerAddress::Tcp(address);
            // A silent address must not take the time that the others need.
            let share = deadline.saturating_duration_since(now()) / untried;
            untried = untried.saturating_sub(1).max(1);
            match server.connect(now() + share).await {
                Ok(stream) => return Ok((stream, server)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl ServerAddress {
    pub(super) async fn connect(&self, deadline: Instant) -> Result<Stream, UpstreamError> {
        let connected = match self {
            Self::Tcp(address) => Stream::connect(address, deadline).await,
            Self::Unix(path) => Stream::connect_unix(path, deadline).await,
        };
        connected
            .and_then(|stream| stream.set_keepalive(&KEEPALIVE).map(|()| stream))
            .map_err(|error| {
                if error.kind() == io::ErrorKind::TimedOut {
                    return UpstreamError::TimedOut {
                        phase: Phase::Connect,
                    };
                }
                UpstreamError::Unreachable { kind: error.kind() }
            })
    }
}

/// Puts TLS over the stream if the account has it.
pub(super) async fn secure(
    stream: Stream,
    account: &Account,
    address: &Address,
    deadline: Instant,
) -> Result<Transport, UpstreamError> {
    match account.tls().client() {
        None => Ok(Transport::Plain(stream)),
        Some(client) => request_tls(stream, client.clone(), address, deadline).await,
    }
}

async fn request_tls(
    mut stream: Stream,
    client: Arc<ClientConfig>,
    address: &Address,
    deadline: Instant,
) -> Result<Transport, UpstreamError> {
    let name = server_name(address)?;
    let lost = |error: io::Error| UpstreamError::from_io(Phase::Tls, &error);
    let mut request = Vec::new();
    encode_ssl_request(&mut request).map_err(|_| malformed(Phase::Tls))?;
    stream.append(&request);
    stream.flush(deadline).await.map_err(lost)?;

    let answer = stream.recv(deadline).await.map_err(lost)?;
    match answer.as_deref() {
        None => Err(UpstreamError::Lost { phase: Phase::Tls }),
        Some([ENCRYPTION_ACCEPTED]) => Transport::connect_tls(stream, client, name, deadline)
            .await
            .map_err(UpstreamError::from_handshake),
        // What follows would be read as if it had come through TLS.
        Some([ENCRYPTION_ACCEPTED, early @ ..]) => {
            let error = HandshakeError::EarlyBytes { count: early.len() };
            Err(UpstreamError::from_handshake(error))
        }
        Some([ENCRYPTION_REFUSED]) => Err(UpstreamError::Tls(TlsFailure::NotOffered)),
        // An ErrorResponse here came in clear from anybody (CVE-2024-10977).
        Some(_) => Err(UpstreamError::protocol(
            Phase::Tls,
            Violation::OutOfSequence,
        )),
    }
}

/// The name that certificates are checked for.
fn server_name(address: &Address) -> Result<ServerName<'static>, UpstreamError> {
    let name = match address {
        Address::Tcp {
            host: Host::Ip(ip), ..
        } => Ok(ServerName::from(*ip)),
        Address::Tcp {
            host: Host::Name(name),
            ..
        } if name.parse::<IpAddr>().is_err() => ServerName::try_from(name.clone()).map_err(|_| ()),
        Address::Tcp { .. } => Err(()),
        Address::Unix(_) => ServerName::try_from("localhost").map_err(|_| ()),
    };
    name.map_err(|()| UpstreamError::Tls(TlsFailure::HostNotVerifiable))
}

fn startup(
    target: &TargetSettings,
    account: &Account,
    settings: &SessionSettings,
) -> Result<Vec<u8>, UpstreamError> {
    let mut message = Vec::new();
    let parameters = [
        ("user", account.user()),
        ("database", target.database.as_str()),
        ("application_name", IDLE_APPLICATION_NAME),
    ];
    encode_startup(
        &mut message,
        ProtocolVersion::V3_0,
        parameters
            .into_iter()
            .chain(FORCED_SETTINGS)
            .chain(settings.iter()),
    )
    .map_err(|_| malformed(Phase::Startup))?;
    Ok(message)
}

/// Reads what follows AuthenticationOk, up to the first ReadyForQuery.
async fn ready(
    conversation: &mut Conversation,
    exchange: Exchange,
) -> Result<Option<BackendKey>, UpstreamError> {
    let mut key = None;
    conversation
        .read(exchange, |message| {
            if let Backend::BackendKeyData(data) = message
                && key.is_none()
            {
                let secret = Zeroizing::new(data.secret.to_vec());
                key = Some(BackendKey {
                    process_id: data.process_id,
                    secret,
                });
                return Ok(ControlFlow::Continue(()));
            }
            if message == Backend::ReadyForQuery(TransactionStatus::Idle) {
                return Ok(ControlFlow::Break(()));
            }
            Err(UpstreamError::protocol(
                exchange.phase,
                Violation::OutOfSequence,
            ))
        })
        .await?;
    conversation.settle(exchange).await?;
    if !has_forced_settings(conversation.parameters()) {
        return Err(UpstreamError::protocol(
            exchange.phase,
            Violation::UnsafeSettings,
        ));
    }
    Ok(key)
}

pub(super) fn has_forced_settings(parameters: &Parameters) -> bool {
    FORCED_SETTINGS
        .iter()
        .all(|(name, value)| parameters.get(name) == Some(value.as_bytes()))
}

fn malformed(phase: Phase) -> UpstreamError {
    UpstreamError::protocol(phase, Violation::Malformed)
}
