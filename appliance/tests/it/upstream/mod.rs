//! The upstream side against a real PostgreSQL and against scripted hostile servers.

mod hostile;
mod login;
mod pool;
mod tls;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use appliance::config::Secret;
use appliance::upstream::{
    Account, Address, Attribution, Balance, ChannelBinding, Databases, Host, Lease, LeaseRequest,
    Parameters, PoolSettings, Pools, SessionAttrs, SessionSettings, ShardPart, TargetSettings, Tls,
    UpstreamError,
};
use codecs::Limits;
use codecs::postgres::backend::Backend;
use codecs::postgres::{BackendDecoder, BackendPiece, frontend};
use runtime::Timer;

/// Far above what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn soon() -> Instant {
    runtime::now() + PATIENCE
}

/// Waits for what other tasks of the shard bring about.
async fn until(condition: impl Fn() -> bool) {
    let deadline = soon();
    while !condition() {
        assert!(runtime::now() < deadline, "it does not come about");
        Timer::at(runtime::now() + Duration::from_millis(1))
            .expired()
            .await;
    }
}

fn loopback(port: u16) -> Address {
    Address::Tcp {
        host: Host::Ip(Ipv4Addr::LOCALHOST.into()),
        port,
    }
}

fn named(name: &str, port: u16) -> Address {
    Address::Tcp {
        host: Host::Name(name.into()),
        port,
    }
}

fn unix(path: PathBuf) -> Address {
    Address::Unix(path)
}

fn account(user: &str, password: Option<&str>, tls: Tls) -> Account {
    let password = password.map(|password| Secret::new(password.into()));
    Account::new(user.into(), password, ChannelBinding::Prefer, tls)
}

/// A target with nothing made ahead of need, so that tests count what they cause.
fn target(address: Address, account: Account) -> TargetSettings {
    TargetSettings {
        name: "orders".into(),
        addresses: vec![address],
        session_attrs: SessionAttrs::Any,
        balance: Balance::InOrder,
        names_fresh_for: Duration::from_secs(10),
        catalogue_refresh: Duration::from_secs(5),
        databases: Databases::one("postgres"),
        account: Arc::new(account),
        readonly_account: None,
        group_accounts: Vec::new(),
        pool: PoolSettings {
            warm: 0,
            ..PoolSettings::default()
        },
    }
}

fn attribution() -> Attribution {
    Attribution::new("corp", "reporter", None, false).unwrap()
}

fn settings(pairs: &[(&str, &str)]) -> SessionSettings {
    SessionSettings::new(
        pairs
            .iter()
            .map(|&(name, value)| (name.into(), value.into())),
    )
    .unwrap()
}

async fn lease(pools: &Pools, target: &Arc<TargetSettings>) -> Result<Lease, UpstreamError> {
    lease_with(pools, target, &SessionSettings::default(), soon()).await
}

async fn lease_with(
    pools: &Pools,
    target: &Arc<TargetSettings>,
    settings: &SessionSettings,
    deadline: Instant,
) -> Result<Lease, UpstreamError> {
    let request = LeaseRequest {
        target,
        account: &target.account,
        database: own_database(target),
        settings,
        attribution: &attribution(),
        deadline,
    };
    pools.lease(&request).await
}

/// The pools of the only shard.
fn pools() -> Pools {
    Pools::new(ShardPart::ALL)
}

fn own_database(target: &TargetSettings) -> &str {
    target.databases.own.as_deref().unwrap()
}

/// The reason why there is no lease.
async fn refusal(target: TargetSettings) -> UpstreamError {
    match lease(&pools(), &Arc::new(target)).await {
        Ok(_) => panic!("the lease was given"),
        Err(error) => error,
    }
}

/// Runs one simple Query; each row is a line with fields separated by `|`.
///
/// The error is the SQLSTATE of an ErrorResponse.
async fn query(lease: &mut Lease, sql: &str) -> Result<String, String> {
    let mut message = Vec::new();
    frontend::encode_query(&mut message, sql.as_bytes()).unwrap();
    lease.transport().append(&message);
    lease.transport().flush(soon()).await.unwrap();

    let mut decoder = BackendDecoder::new(Limits::default());
    let (mut unread, mut rows, mut sqlstate) = (Vec::new(), Vec::new(), None);
    loop {
        let chunk = lease.transport().recv(soon()).await.unwrap();
        unread.extend_from_slice(&chunk.expect("the server answers"));
        while let Some(piece) = decoder.decode(&unread).unwrap() {
            let BackendPiece::Message(decoded) = piece else {
                panic!("a fragment")
            };
            let length = decoded.wire.len();
            let mut ready = false;
            match decoded.message {
                Backend::DataRow(row) => {
                    let fields: Vec<_> = row.values().unwrap().iter().map(text).collect();
                    rows.push(fields.join("|"));
                }
                Backend::ErrorResponse(fields) => {
                    sqlstate = Some(String::from_utf8(fields.sqlstate().unwrap().into()).unwrap());
                }
                Backend::ReadyForQuery(_) => ready = true,
                _ => {}
            }
            unread.drain(..length);
            if ready {
                assert!(unread.is_empty());
                return sqlstate.map_or_else(|| Ok(rows.join("\n")), Err);
            }
        }
    }
}

fn text(value: Option<&[u8]>) -> String {
    value.map_or_else(String::new, |bytes| {
        String::from_utf8(bytes.into()).unwrap()
    })
}

fn parameter(parameters: &Parameters, name: &str) -> String {
    text(parameters.get(name))
}
