//! `listen.console` and `listen.metrics`: where browsers and programs reach the control plane.
//!
//! The console is plain HTTP on loopback addresses, where the bytes stay on this machine, and has TLS
//! with the appliance's certificate everywhere else. Metrics, which hold no secret and take none, are
//! plain everywhere.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use runtime::Published;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::api::Door;
use super::server::{self, ACCEPT_PAUSE, Closing};
use crate::config::Snapshot;

/// Connections served at once. One more is closed: browsers and programs try again.
const CONNECTIONS_MAX: usize = 512;

/// The same for one IPv4 address or IPv6 network of 64 bits. A reverse proxy on this machine is
/// one address, and a browser opens six connections.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 128;

/// From accept until the TLS handshake is done.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// What is served at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Console,
    Metrics,
}

impl Service {
    fn key(self) -> &'static str {
        match self {
            Self::Console => "listen.console",
            Self::Metrics => "listen.metrics",
        }
    }
}

/// A bound listener.
#[derive(Debug)]
pub struct HttpListener {
    service: Service,
    socket: StdListener,
    address: SocketAddr,
}

/// It could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({})", service.key())]
pub struct HttpListenError {
    pub service: Service,
    pub address: SocketAddr,
    pub source: io::Error,
}

impl HttpListener {
    /// Listens at `address`.
    ///
    /// # Errors
    /// The address can not be had.
    pub fn bind(service: Service, address: SocketAddr) -> Result<Self, HttpListenError> {
        let bound = || -> io::Result<Self> {
            let socket = StdListener::bind(address)?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            Ok(Self {
                service,
                socket,
                address,
            })
        };
        bound().map_err(|source| HttpListenError {
            service,
            address,
            source,
        })
    }

    /// Its URL as far as the address says: with the port that the kernel chose.
    pub fn url(&self) -> String {
        let scheme = if self.is_plain() { "http" } else { "https" };
        format!("{scheme}://{}", self.address)
    }

    fn is_plain(&self) -> bool {
        let is_loopback = self.address.ip().to_canonical().is_loopback();
        is_loopback || self.service == Service::Metrics
    }
}

/// Serves until it is told to close.
pub(super) async fn serve(
    listener: HttpListener,
    router: Router,
    snapshot: Published<Snapshot>,
    mut closing: Closing,
) {
    let (is_plain, key) = (listener.is_plain(), listener.service.key());
    let listener = match TcpListener::from_std(listener.socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "{key} is not served");
            return;
        }
    };
    let places = Places::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.told() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting at {key} failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = places.take(peer.ip()) else {
            tracing::debug!(%peer, "too many connections at {key}");
            continue;
        };
        // The certificate in force when the connection begins.
        let tls = (!is_plain).then(|| Arc::clone(&snapshot.load().console_tls));
        let (router, closing) = (router.clone(), closing.clone());
        tokio::spawn(async move {
            match tls {
                None => plain(stream, peer, router, closing).await,
                Some(tls) => encrypted(stream, peer, TlsAcceptor::from(tls), router, closing).await,
            }
            drop(place);
        });
    }
}

async fn plain(stream: TcpStream, peer: SocketAddr, router: Router, closing: Closing) {
    if let Ok(door) = door(&stream, peer, false) {
        server::connection(stream, door, router, closing).await;
    }
}

async fn encrypted(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    router: Router,
    closing: Closing,
) {
    // Fails when the peer has gone already.
    let Ok(door) = door(&stream, peer, true) else {
        return;
    };
    match timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => server::connection(stream, door, router, closing).await,
        Ok(Err(error)) => tracing::debug!(%error, %peer, "a handshake at listen.console failed"),
        Err(_) => tracing::debug!(%peer, "a handshake at listen.console took too long"),
    }
}

fn door(stream: &TcpStream, peer: SocketAddr, tls: bool) -> io::Result<Door> {
    stream.set_nodelay(true)?;
    Ok(Door::Network {
        peer,
        local: stream.local_addr()?,
        tls,
    })
}

/// What counts as one peer: an IPv4 address, or an IPv6 network of 64 bits.
pub(super) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

/// Who has how many connections.
#[derive(Default)]
struct Places {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection's place; free again on drop.
struct Place {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Places {
    fn take(&self, address: IpAddr) -> Option<Place> {
        let address = neighbourhood(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&address).copied().unwrap_or(0);
        if all >= CONNECTIONS_MAX || own >= CONNECTIONS_PER_ADDRESS_MAX {
            return None;
        }
        taken.insert(address, own + 1);
        Some(Place {
            taken: Arc::clone(&self.taken),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_neighbourhood_and_for_all() {
        let places = Places::default();
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let beside: IpAddr = "2001:db8::2".parse().unwrap();
        let mut kept: Vec<Place> = (0..128).map(|_| places.take(one).unwrap()).collect();
        assert!(places.take(beside).is_none());
        drop(kept.pop());
        kept.push(places.take(beside).unwrap());
        for third in 0..3_u8 {
            let address = IpAddr::from([10, 0, 0, third]);
            kept.extend((0..128).map(|_| places.take(address).unwrap()));
        }
        assert!(places.take(IpAddr::from([10, 0, 1, 0])).is_none());
        kept.clear();
        assert!(places.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn a_mapped_address_is_the_address_that_it_maps() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(neighbourhood(mapped), IpAddr::from([10, 0, 0, 1]));
    }
}
