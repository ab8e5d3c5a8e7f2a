//! A server that speaks enough PostgreSQL to take the target out of a measurement.
//!
//! It has one table of rows that it computes, keeps nothing that is written, and answers faster than
//! a database could. It is for measuring: it decides nothing about who may see what, and whoever
//! reaches it may read its made-up rows.

mod cancel;
mod catalogue;
mod client;
mod greet;
mod outgoing;
mod scram;
mod session;
mod settings;
mod sql;
mod table;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use runtime::{ListenAddress, Listener, RunningShards, ShardsConfig, StartError, spawn};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use cancel::Cancels;
pub use scram::Secret;
pub use table::{CANARY, Table};

/// How the server is to be.
#[derive(Debug, Clone)]
pub struct Settings {
    pub listen: ListenAddress,
    pub shards: NonZeroUsize,
    pub table: Table,
    /// Every request with rows or changes waits this long before it is answered.
    pub delay: Duration,
    /// What every user has to know, by SCRAM-SHA-256; without it everybody is trusted.
    pub secret: Option<Arc<Secret>>,
    /// What TLS is offered with.
    pub tls: Option<Arc<ServerConfig>>,
}

#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("cannot listen on {address}")]
    Listen {
        address: ListenAddress,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the certificate or its key cannot be used")]
    Certificate,
}

/// A server that runs until its process ends.
#[derive(Debug)]
pub struct Running {
    pub shards: RunningShards,
    /// With the port that the kernel chose.
    pub address: ListenAddress,
}

/// What a shard needs to know for each connection.
struct Shard {
    settings: Arc<Settings>,
    cancels: Rc<Cancels>,
}

/// Starts the server; it accepts when this returns.
///
/// # Errors
/// When it cannot listen, or its shards cannot start.
pub fn start(mut settings: Settings) -> Result<Running, UpstreamError> {
    // All of them listen before any shard runs, on one port also where the kernel chose it.
    let asked = settings.listen.clone();
    let failed = |source| UpstreamError::Listen {
        address: asked.clone(),
        source,
    };
    let first = runtime::listen_socket(&asked).map_err(failed)?;
    if let ListenAddress::Tcp(address) = &mut settings.listen {
        let name = rustix::net::getsockname(&first).map_err(io::Error::from);
        let local = name.and_then(|name| {
            SocketAddr::try_from(name).map_err(|_| io::ErrorKind::Unsupported.into())
        });
        *address = local.map_err(failed)?;
    }
    let mut sockets = vec![first];
    while sockets.len() < settings.shards.get() {
        let next = match (&settings.listen, sockets.first()) {
            // A Unix path can be bound once.
            (ListenAddress::Unix(_), Some(first)) => first.try_clone(),
            (address, _) => runtime::listen_socket(address),
        };
        sockets.push(next.map_err(failed)?);
    }
    let address = settings.listen.clone();
    let config = ShardsConfig {
        count: Some(settings.shards),
    };
    let settings = Arc::new(settings);
    let shared = cancel::Shared::new(settings.shards);
    let sockets = Arc::new(sockets);
    let shards = runtime::start_shards(config, move |shard| {
        let (settings, shared) = (Arc::clone(&settings), shared.clone());
        let sockets = Arc::clone(&sockets);
        async move {
            let socket = sockets.get(usize::from(shard.0));
            let listener = socket.and_then(|socket| socket.try_clone().ok());
            // A shard that cannot listen ends, and the process with it: `Running` is waited for.
            if let Some(Ok(listener)) = listener.map(Listener::from_fd) {
                serve(listener, settings, Cancels::new(&shared, shard)).await;
            }
        }
    })?;
    Ok(Running { shards, address })
}

/// TLS with a chain, leaf first, and its key, both PEM.
///
/// # Errors
/// When they cannot be used.
pub fn server_tls(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, UpstreamError> {
    let unusable = |_| UpstreamError::Certificate;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(unusable)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(unusable)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| UpstreamError::Certificate)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|_| UpstreamError::Certificate)?;
    Ok(Arc::new(config))
}

async fn serve(mut listener: Listener, settings: Arc<Settings>, cancels: Rc<Cancels>) {
    spawn(Rc::clone(&cancels).deliver());
    let shard = Rc::new(Shard { settings, cancels });
    // An error means that the listener itself is unusable.
    while let Ok(stream) = listener.accept().await {
        spawn(client::run(Rc::clone(&shard), stream));
    }
}
