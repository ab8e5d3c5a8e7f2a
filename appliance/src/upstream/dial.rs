//! Makes a connection to a target: one of its servers, TLS, start-up, log-in.
//!
//! A server that does not do as the account demands (TLS, authentication) is refused; there is no
//! falling back to less.

use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use codecs::postgres::startup::{
    ENCRYPTION_ACCEPTED, ENCRYPTION_REFUSED, encode_ssl_request, encode_startup,
};
use codecs::postgres::{Backend, ProtocolVersion, TransactionStatus};
use runtime::{Stream, now};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use super::candidates::Candidates;
use super::conversation::{Conversation, Exchange, Parameters};
use super::credentials::Account;
use super::error::{Phase, TlsFailure, UpstreamError, Violation};
use super::login::{ScramKeyCache, authenticate};
use super::resolve::Resolver;
use super::role::Role;
use super::server::Server;
use super::session::SessionSettings;
use super::settings::{Address, Host, TargetSettings};
use super::standing::Standings;
use runtime::transport::{HandshakeError, Transport};

/// `application_name` of a connection while no session has it.
pub(super) const IDLE_APPLICATION_NAME: &str = "sallyport";

/// Start-up settings that make texts mean to the server what they mean to the policy. As start-up
/// settings they win over those of the role and the database, and RESET returns to them.
const FORCED_SETTINGS: [(&str, &str); 2] = [
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
];

/// What dialling keeps between connections. Per shard.
#[derive(Default)]
pub(super) struct Dialer {
    resolver: Resolver,
    standings: Standings,
    keys: ScramKeyCache,
}

/// What a connection is made for.
#[derive(Clone, Copy)]
pub(super) struct Login<'l> {
    pub(super) target: &'l TargetSettings,
    pub(super) account: &'l Account,
    pub(super) database: &'l str,
    pub(super) settings: &'l SessionSettings,
    /// Its `application_name` while no session has it.
    pub(super) name: &'static str,
}

/// A server connection that is ready for its first statement.
pub(super) struct Established {
    pub(super) conversation: Conversation,
    pub(super) key: Option<BackendKey>,
    pub(super) server: Server,
}

/// What cancels the statements of one server session.
#[derive(Clone)]
pub(super) struct BackendKey {
    pub(super) process_id: u32,
    pub(super) secret: Zeroizing<Vec<u8>>,
}

impl Dialer {
    pub(super) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Tries other servers first for a while, since this one turned out to be away, or to be of
    /// another role than it was.
    pub(super) fn handle_loss(&self, server: &Server) {
        self.standings.handle_failure(server, now());
        if let Err(name) = server.address.endpoint() {
            self.resolver.doubt(&name);
        }
    }

    /// Tries the target's servers until one serves.
    ///
    /// # Errors
    /// As [`UpstreamError`] says; `TimedOut` says in which phase the deadline passed. Of several
    /// servers it is what the last one failed with, a wrong role only when all had one.
    pub(super) async fn dial(
        &self,
        login: Login<'_>,
        deadline: Instant,
    ) -> Result<Established, UpstreamError> {
        let attrs = login.target.session_attrs;
        let mut candidates = Candidates::new(&self.resolver, &self.standings, login.target);
        let (mut second_best, mut failure) = (None, None);
        loop {
            let server = match candidates.next(deadline).await {
                Ok(Some(server)) => server,
                Ok(None) => break,
                Err(error) => {
                    failure = Some(error);
                    continue;
                }
            };
            // A silent server must not take the time that the others need.
            let left = candidates.left_with_this_one();
            let share = deadline.saturating_duration_since(now()) / left;
            match self.log_in(login, server.clone(), now() + share).await {
                Ok(established) => {
                    let role = Role::of(established.conversation.parameters());
                    if attrs.is_met_by(role) {
                        self.standings.handle_success(&server);
                        return Ok(established);
                    }
                    self.standings.handle_failure(&server, now());
                    if second_best.is_none() && attrs.accepts(role) {
                        second_best = Some(established);
                    }
                }
                Err(error) if error.concerns_target() => {
                    self.handle_loss(&server);
                    failure = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        second_best.ok_or_else(|| failure.unwrap_or(UpstreamError::WrongRole))
    }

    /// Makes a connection to this server and no other.
    ///
    /// # Errors
    /// As [`UpstreamError`] says.
    pub(super) async fn log_in(
        &self,
        login: Login<'_>,
        server: Server,
        deadline: Instant,
    ) -> Result<Established, UpstreamError> {
        let Login { account, .. } = login;
        let stream = server.connect(deadline).await?;
        let transport = secure(stream, account, &server.address, deadline).await?;
        let mut conversation = Conversation::new(transport);

        let exchange = Exchange {
            phase: Phase::Authentication,
            deadline,
        };
        conversation.send(exchange, &startup(login)?).await?;
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

fn startup(login: Login<'_>) -> Result<Vec<u8>, UpstreamError> {
    let mut message = Vec::new();
    let parameters = [
        ("user", login.account.user()),
        ("database", login.database),
        ("application_name", login.name),
    ];
    encode_startup(
        &mut message,
        ProtocolVersion::V3_0,
        parameters
            .into_iter()
            .chain(FORCED_SETTINGS)
            .chain(login.settings.iter()),
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
