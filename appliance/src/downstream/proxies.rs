//! Who may say, by the PROXY protocol, for whom it connects.
//!
//! It reads no header; `origin` does.

use policy::{Client, Network};
use runtime::PeerAddress;

/// The load balancers of one listener. Per process, immutable.
///
/// A peer that is none of them connects as everywhere else, and a header from it is what it is
/// without this list: not PostgreSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    pub(crate) fn new(proxies: Vec<Network>) -> Self {
        Self(proxies)
    }

    /// Whether what `sender` says of its client counts.
    pub(crate) fn trust(&self, sender: PeerAddress) -> bool {
        let sender = client(sender);
        self.0.iter().any(|proxy| proxy.contains(sender))
    }
}

/// A peer as policy knows it.
pub(crate) fn client(peer: PeerAddress) -> Client {
    match peer {
        PeerAddress::Tcp(address) => Client::Address(address.ip()),
        PeerAddress::Unix => Client::Unix,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use policy::NetworkError;

    use super::*;

    fn peer(text: &str) -> PeerAddress {
        match text {
            "unix" => PeerAddress::Unix,
            address => PeerAddress::Tcp((address.parse::<IpAddr>().unwrap(), 5000).into()),
        }
    }

    #[test]
    fn a_network_has_its_members_and_nobody_else() {
        let cases = [
            ("10.0.0.0/8", "10.0.0.0", true),
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "9.255.255.255", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "unix", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.6/31", "192.0.2.7", true),
            ("192.0.2.6/31", "192.0.2.8", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "203.0.113.9", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("2001:db8::1", "2001:db8::1", true),
            ("2001:db8::1", "2001:db8::2", false),
            ("unix", "unix", true),
            ("unix", "127.0.0.1", false),
        ];
        for (network, sender, expected) in cases {
            let proxies = TrustedProxies::new(vec![network.parse().unwrap()]);
            assert_eq!(proxies.trust(peer(sender)), expected, "{network}: {sender}");
        }
        assert!(!TrustedProxies::default().trust(peer("127.0.0.1")));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        use NetworkError as E;
        let cases = [
            ("", E::Unreadable),
            ("10.0.0.0/33", E::Unreadable),
            ("10.0.0.0/", E::Unreadable),
            ("10.0.0.0/+8", E::Unreadable),
            ("10.0.0.0/8/8", E::Unreadable),
            ("10.0.0/8", E::Unreadable),
            ("2001:db8::/129", E::Unreadable),
            ("::ffff:10.0.0.0/104", E::Unreadable),
            ("10.0.0.1:80", E::Unreadable),
            ("proxy.example.com", E::Unreadable),
            ("10.0.0.5/8", E::HostBits { bits: 8 }),
            ("2001:db8::1/32", E::HostBits { bits: 32 }),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Network>(), Err(expected), "{text}");
        }
    }
}
