//! Who may say, by the PROXY protocol, for whom it connects.
//!
//! It reads no header; `origin` does.

use std::net::IpAddr;
use std::str::FromStr;

use runtime::PeerAddress;

/// The word for the peers of a Unix socket in a list of networks.
const UNIX: &str = "unix";

/// The load balancers of one listener. Per process, immutable.
///
/// A peer that is none of them connects as everywhere else, and a header from it is what it is
/// without this list: not PostgreSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<TrustedProxy>);

/// One entry of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrustedProxy {
    /// All whose address begins with the first `bits` of this one.
    Network { address: IpAddr, bits: u8 },
    /// Whoever may open the listener's Unix socket.
    Unix,
}

/// Why a text is no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("expected a network such as `10.0.0.0/8` or `2001:db8::/32`, an address, or `unix`")]
    Unreadable,
    #[error("the network has bits set behind its length of {bits}")]
    HostBits { bits: u8 },
}

impl TrustedProxies {
    pub(crate) fn new(proxies: Vec<TrustedProxy>) -> Self {
        Self(proxies)
    }

    /// Whether what `sender` says of its client counts.
    pub(crate) fn trust(&self, sender: PeerAddress) -> bool {
        self.0.iter().any(|proxy| proxy.is(sender))
    }
}

impl TrustedProxy {
    /// Whether some peer of such a listener could be meant.
    pub(crate) fn fits_unix(self) -> bool {
        self == Self::Unix
    }

    fn is(self, sender: PeerAddress) -> bool {
        match (self, sender) {
            (Self::Unix, PeerAddress::Unix) => true,
            (Self::Network { address, bits }, PeerAddress::Tcp(sender)) => {
                match (address, sender.ip().to_canonical()) {
                    (IpAddr::V4(network), IpAddr::V4(sender)) => {
                        let kept = u32::MAX.checked_shl(u32::from(32 - bits)).unwrap_or(0);
                        network.to_bits() == sender.to_bits() & kept
                    }
                    (IpAddr::V6(network), IpAddr::V6(sender)) => {
                        let kept = u128::MAX.checked_shl(u32::from(128 - bits)).unwrap_or(0);
                        network.to_bits() == sender.to_bits() & kept
                    }
                    (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
                }
            }
            (Self::Unix, PeerAddress::Tcp(_)) | (Self::Network { .. }, PeerAddress::Unix) => false,
        }
    }
}

impl FromStr for TrustedProxy {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if text == UNIX {
            return Ok(Self::Unix);
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Unreadable)?;
        // A peer's address is compared in its shortest form, so one written so would match nobody.
        if address.to_canonical() != address {
            return Err(NetworkError::Unreadable);
        }
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let bits = match length {
            None => longest,
            Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => length
                .parse()
                .ok()
                .filter(|bits| *bits <= longest)
                .ok_or(NetworkError::Unreadable)?,
            Some(_) => return Err(NetworkError::Unreadable),
        };
        let network = Self::Network { address, bits };
        // Otherwise the operator meant another network, or one address.
        if network.is(PeerAddress::Tcp((address, 0).into())) {
            Ok(network)
        } else {
            Err(NetworkError::HostBits { bits })
        }
    }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(text.parse::<TrustedProxy>(), Err(expected), "{text}");
        }
    }
}
