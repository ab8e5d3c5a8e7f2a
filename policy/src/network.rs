//! Where a client is, and networks that it may be in.

use core::net::IpAddr;
use std::str::FromStr;

/// The word for the peers of a Unix socket in a list of networks.
const UNIX: &str = "unix";

/// Where a client connects from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Address(IpAddr),
    /// By a Unix socket of this machine.
    Unix,
}

/// Some of the places that a client may connect from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// All whose address begins with the first `bits` of this one.
    Addresses { first: IpAddr, bits: u8 },
    /// Whoever may open a listener's Unix socket.
    Unix,
}

/// Why a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("expected a network such as `10.0.0.0/8` or `2001:db8::/32`, an address, or `unix`")]
    Unreadable,
    #[error("the network has bits set behind its length of {bits}")]
    HostBits { bits: u8 },
}

impl Network {
    #[must_use]
    pub fn contains(self, client: Client) -> bool {
        match (self, client) {
            (Self::Unix, Client::Unix) => true,
            (Self::Addresses { first, bits }, Client::Address(address)) => {
                match (first, address.to_canonical()) {
                    (IpAddr::V4(first), IpAddr::V4(address)) => {
                        let kept = u32::MAX.checked_shl(u32::from(32 - bits)).unwrap_or(0);
                        first.to_bits() == address.to_bits() & kept
                    }
                    (IpAddr::V6(first), IpAddr::V6(address)) => {
                        let kept = u128::MAX.checked_shl(u32::from(128 - bits)).unwrap_or(0);
                        first.to_bits() == address.to_bits() & kept
                    }
                    (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
                }
            }
            (Self::Unix, Client::Address(_)) | (Self::Addresses { .. }, Client::Unix) => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if text == UNIX {
            return Ok(Self::Unix);
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| NetworkError::Unreadable)?;
        // A client's address is compared in its shortest form, so one written so would match nobody.
        if first.to_canonical() != first {
            return Err(NetworkError::Unreadable);
        }
        let longest = if first.is_ipv4() { 32 } else { 128 };
        let bits = match length {
            None => longest,
            Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => length
                .parse()
                .ok()
                .filter(|bits| *bits <= longest)
                .ok_or(NetworkError::Unreadable)?,
            Some(_) => return Err(NetworkError::Unreadable),
        };
        let network = Self::Addresses { first, bits };
        // Otherwise the operator meant another network, or one address.
        if network.contains(Client::Address(first)) {
            Ok(network)
        } else {
            Err(NetworkError::HostBits { bits })
        }
    }
}
