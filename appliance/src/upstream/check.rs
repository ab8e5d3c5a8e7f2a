//! Whether a target takes the appliance's accounts: each is logged in with once, and asked for its
//! version.
//!
//! What an operator asks for, and no session: a connection of its own, no pool, no policy.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use codecs::postgres::{Backend, TransactionStatus};
use runtime::now;

use super::conversation::{Conversation, Exchange};
use super::dial::{Dialer, IDLE_APPLICATION_NAME, Login};
use super::error::{Phase, UpstreamError, Violation};
use super::session::SessionSettings;
use super::settings::{Address, Host, TargetSettings};

/// Asked for where a target names no database of its own; every server has it.
const COMMON_DATABASE: &str = "postgres";

/// Most bytes of a version that are kept: it is for people to read.
const VERSION_BYTES_MAX: usize = 200;

/// Goodbyes are short.
const GOODBYE: Duration = Duration::from_secs(1);

/// What came of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountCheck {
    pub user: String,
    pub database: String,
    pub outcome: Result<Reached, UpstreamError>,
}

/// A log-in that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// What the server says of itself; text from the target.
    pub version: String,
    pub tls: bool,
}

/// Logs in with every account of the target, the target's own first. Once the target itself is found
/// to be away, the others are not tried.
///
/// Each has the target's `connect_deadline`.
pub async fn check(target: &TargetSettings) -> Vec<AccountCheck> {
    let own = target.databases.own.as_deref();
    let database = own.unwrap_or(COMMON_DATABASE);
    let dialer = Dialer::default();
    let mut checks = Vec::new();
    for account in target.accounts() {
        let login = Login {
            target,
            account,
            database,
            settings: &SessionSettings::default(),
            name: IDLE_APPLICATION_NAME,
        };
        let outcome = log_in(&dialer, login).await;
        let is_away = outcome.as_ref().is_err_and(UpstreamError::concerns_target);
        checks.push(AccountCheck {
            user: account.user().to_owned(),
            database: database.to_owned(),
            outcome,
        });
        if is_away {
            break;
        }
    }
    checks
}

/// Whether something accepts connections at an address, and no more. Blocking, for commands.
///
/// # Errors
/// Nothing does, or the name is not known.
pub fn answers(address: &Address, within: Duration) -> io::Result<()> {
    let (host, port) = match address {
        Address::Unix(path) => return UnixStream::connect(path).map(drop),
        Address::Tcp { host, port } => match host {
            Host::Ip(ip) => (ip.to_string(), *port),
            Host::Name(name) => (name.clone(), *port),
        },
    };
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (host.as_str(), port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, within) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn log_in(dialer: &Dialer, login: Login<'_>) -> Result<Reached, UpstreamError> {
    let deadline = now() + login.target.pool.connect_deadline;
    let mut conversation = dialer.dial(login, deadline).await?.conversation;
    let exchange = Exchange {
        phase: Phase::Session,
        deadline,
    };
    let version = version(&mut conversation, exchange).await?;
    conversation.close(now() + GOODBYE).await;
    Ok(Reached {
        version,
        tls: login.account.tls().client().is_some(),
    })
}

async fn version(
    conversation: &mut Conversation,
    exchange: Exchange,
) -> Result<String, UpstreamError> {
    let violated = |violation| UpstreamError::protocol(exchange.phase, violation);
    let mut message = Vec::new();
    codecs::postgres::frontend::encode_query(&mut message, b"select version()")
        .map_err(|_| violated(Violation::TooLong))?;
    conversation.send(exchange, &message).await?;
    let mut version = None;
    let version = conversation
        .read(exchange, |message| {
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "nothing else answers a query"
            )]
            match message {
                Backend::RowDescription(_) | Backend::CommandComplete(_) => {}
                Backend::DataRow(row) => {
                    let values = row.values().map_err(|_| violated(Violation::Malformed))?;
                    let value = values.iter().next().flatten().unwrap_or_default();
                    let value = value.get(..VERSION_BYTES_MAX).unwrap_or(value);
                    version = Some(String::from_utf8_lossy(value).into_owned());
                }
                Backend::ReadyForQuery(TransactionStatus::Idle) => {
                    let found = version.take();
                    return Ok(ControlFlow::Break(
                        found.ok_or_else(|| violated(Violation::OutOfSequence))?,
                    ));
                }
                _ => return Err(violated(Violation::OutOfSequence)),
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    conversation.settle(exchange).await?;
    Ok(version)
}
