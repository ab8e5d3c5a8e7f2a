//! The PROXY protocol, version 2: what a load balancer says of the client that it forwards.
//!
//! Does not decide who may say it, nor what follows from it, and does not read the text form of
//! version 1: its end is found by a search, and its numbers have more than one spelling.
//!
//! ```text
//! signature (12) │ version, command (1) │ family, transport (1) │ length (2) │ addresses │ TLVs
//! ```
//!
//! Spec: "The PROXY protocol, Versions 1 & 2" (HAProxy, `doc/proxy-protocol.txt`), sections "Binary
//! header format (version 2)" and "Type-Length-Value (TLV vectors)".

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use crate::Limits;
use crate::wire::{Malformed, Reader};

/// What every header begins with. No protocol that we speak can begin so.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes before the addresses.
const PREFIX_BYTES: usize = 16;

const VERSION: u8 = 2;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;

const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

/// Bytes of the two paths of a Unix connection.
const UNIX_ADDRESSES_BYTES: usize = 2 * 108;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The sender speaks for itself: a health check.
    Local,
    /// The sender speaks for this client.
    Proxied(Client),
}

/// The client of a forwarded connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// An IPv4 address that was written as an IPv6 one is given as IPv4.
    Tcp(SocketAddr),
    /// A Unix socket of the sender's machine.
    Unix,
    /// The sender does not say.
    Unspecified,
}

/// A header and the bytes it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded<'b> {
    pub header: Header,
    pub wire: &'b [u8],
}

/// Why bytes are not a header that is taken. Final for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Where a header has to be, something else begins.
    #[error("no PROXY header of version 2")]
    Missing,
    #[error("PROXY header of version {version}")]
    Version { version: u8 },
    #[error("PROXY header with the undefined command {command}")]
    Command { command: u8 },
    /// Datagrams, and what the specification does not name.
    #[error("PROXY header of the family {family} and the transport {transport}")]
    Family { family: u8, transport: u8 },
    #[error("PROXY header of {announced} bytes, over the limit of {limit}")]
    TooLong { announced: u32, limit: u32 },
    #[error("PROXY header {0}")]
    Malformed(#[from] Malformed),
}

/// Takes the header off `input`, where there must be one.
///
/// `Ok(None)` means that it has not arrived in full. Of the TLVs behind the addresses only the
/// framing is read: nothing that they say is used, a checksum neither.
///
/// # Errors
/// At the first byte that differs from a header, and as soon as the length field exceeds
/// `limits.proxy_header_bytes`, before the rest has arrived.
pub fn decode_header<'b>(
    input: &'b [u8],
    limits: &Limits,
) -> Result<Option<Decoded<'b>>, HeaderError> {
    if input.iter().zip(&SIGNATURE).any(|(is, must)| is != must) {
        return Err(HeaderError::Missing);
    }
    let Some((prefix, _)) = input.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let mut reader = Reader::new(prefix);
    reader.bytes(SIGNATURE.len())?;
    let (version, command) = nibbles(reader.u8()?);
    let family_and_transport = reader.u8()?;
    let length = reader.u16()?;
    if version != VERSION {
        return Err(HeaderError::Version { version });
    }
    let whole = PREFIX_BYTES.saturating_add(usize::from(length));
    // Both are far below 4 GiB.
    let announced = u32::try_from(whole).unwrap_or(u32::MAX);
    if announced > limits.proxy_header_bytes {
        let limit = limits.proxy_header_bytes;
        return Err(HeaderError::TooLong { announced, limit });
    }
    let Some(wire) = input.get(..whole) else {
        return Ok(None);
    };
    let rest = wire.get(PREFIX_BYTES..).unwrap_or_default();
    let header = match command {
        // What stands behind it "must be discarded", whatever family it claims.
        LOCAL => Header::Local,
        PROXY => Header::Proxied(client(family_and_transport, rest)?),
        command => return Err(HeaderError::Command { command }),
    };
    Ok(Some(Decoded { header, wire }))
}

fn client(family_and_transport: u8, rest: &[u8]) -> Result<Client, HeaderError> {
    let mut reader = Reader::new(rest);
    let client = match family_and_transport {
        // What stands behind it has no shape: the address block of a family nobody named.
        UNSPECIFIED => return Ok(Client::Unspecified),
        TCP_OVER_IPV4 => {
            let source = Ipv4Addr::from_bits(reader.u32()?);
            let _destination = reader.u32()?;
            tcp(IpAddr::V4(source), &mut reader)?
        }
        TCP_OVER_IPV6 => {
            let source = ipv6(&mut reader)?;
            let _destination = ipv6(&mut reader)?;
            tcp(IpAddr::V6(source), &mut reader)?
        }
        UNIX_STREAM => {
            reader.bytes(UNIX_ADDRESSES_BYTES)?;
            Client::Unix
        }
        other => {
            let (family, transport) = nibbles(other);
            return Err(HeaderError::Family { family, transport });
        }
    };
    skip_tlvs(reader)?;
    Ok(client)
}

fn ipv6(reader: &mut Reader<'_>) -> Result<Ipv6Addr, Malformed> {
    reader.array::<16>().map(Ipv6Addr::from)
}

fn tcp(source: IpAddr, reader: &mut Reader<'_>) -> Result<Client, Malformed> {
    let port = reader.u16()?;
    let _destination = reader.u16()?;
    Ok(Client::Tcp(SocketAddr::new(source.to_canonical(), port)))
}

fn skip_tlvs(mut reader: Reader<'_>) -> Result<(), Malformed> {
    while !reader.is_empty() {
        let _kind = reader.u8()?;
        let length = reader.u16()?;
        reader.bytes(usize::from(length))?;
    }
    Ok(())
}

fn nibbles(byte: u8) -> (u8, u8) {
    (byte >> 4, byte & 0x0f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of this second and third byte, with the length of what follows.
    fn header(version_command: u8, family_transport: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap();
        let mut wire = SIGNATURE.to_vec();
        wire.extend([version_command, family_transport]);
        wire.extend(length.to_be_bytes());
        wire.extend(rest);
        wire
    }

    /// 203.0.113.9:51000 to 192.0.2.1:6432.
    const IPV4: [u8; 12] = [203, 0, 113, 9, 192, 0, 2, 1, 199, 56, 25, 32];

    /// [2001:db8::9]:51000 to [2001:db8::1]:6432.
    const IPV6: [u8; 36] = [
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, //
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, //
        199, 56, 25, 32,
    ];

    /// [::ffff:203.0.113.9]:51000 to [::ffff:192.0.2.1]:6432.
    const MAPPED: [u8; 36] = [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 9, //
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, //
        199, 56, 25, 32,
    ];

    fn with(addresses: &[u8], more: &[u8]) -> Vec<u8> {
        [addresses, more].concat()
    }

    fn tcp(address: &str) -> Header {
        Header::Proxied(Client::Tcp(address.parse().unwrap()))
    }

    #[test]
    fn headers_say_who_the_client_is() {
        let unique_id = [0x05, 0, 3, 1, 2, 3];
        let padding_and_crc = [0x04, 0, 2, 0, 0, 0x03, 0, 4, 1, 2, 3, 4];
        let cases: [(&str, u8, u8, Vec<u8>, Header); 12] = [
            ("local", 0x20, 0x00, vec![], Header::Local),
            (
                "local with addresses",
                0x20,
                0x11,
                IPV4.to_vec(),
                Header::Local,
            ),
            (
                "local with what is no address",
                0x20,
                0x21,
                vec![7; 5],
                Header::Local,
            ),
            ("IPv4", 0x21, 0x11, IPV4.to_vec(), tcp("203.0.113.9:51000")),
            (
                "IPv4 and a TLV",
                0x21,
                0x11,
                with(&IPV4, &unique_id),
                tcp("203.0.113.9:51000"),
            ),
            (
                "IPv4 and two TLVs",
                0x21,
                0x11,
                with(&IPV4, &padding_and_crc),
                tcp("203.0.113.9:51000"),
            ),
            (
                "IPv4 and an empty TLV",
                0x21,
                0x11,
                with(&IPV4, &[4, 0, 0]),
                tcp("203.0.113.9:51000"),
            ),
            (
                "IPv6",
                0x21,
                0x21,
                IPV6.to_vec(),
                tcp("[2001:db8::9]:51000"),
            ),
            (
                "IPv4 in IPv6",
                0x21,
                0x21,
                MAPPED.to_vec(),
                tcp("203.0.113.9:51000"),
            ),
            (
                "Unix",
                0x21,
                0x31,
                vec![b'x'; 216],
                Header::Proxied(Client::Unix),
            ),
            (
                "unspecified",
                0x21,
                0x00,
                vec![],
                Header::Proxied(Client::Unspecified),
            ),
            (
                "unspecified with bytes",
                0x21,
                0x00,
                vec![9; 7],
                Header::Proxied(Client::Unspecified),
            ),
        ];
        for (name, version_command, family, rest, expected) in cases {
            let wire = header(version_command, family, &rest);
            let behind = [&wire[..], b"\0\0\0\x08rest"].concat();
            let decoded = decode_header(&behind, &Limits::default()).unwrap().unwrap();
            assert_eq!(decoded.header, expected, "{name}");
            assert_eq!(decoded.wire, wire, "{name}");
            for cut in 0..wire.len() {
                assert_eq!(
                    decode_header(&wire[..cut], &Limits::default()),
                    Ok(None),
                    "{name} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_header_of_ours_is_refused() {
        use HeaderError as E;
        let truncated = E::Malformed(Malformed::Truncated);
        let family = |family, transport| E::Family { family, transport };
        let cases: [(&str, Vec<u8>, HeaderError); 18] = [
            (
                "version 1 in text",
                b"PROXY TCP4 203.0.113.9".to_vec(),
                E::Missing,
            ),
            ("a start-up packet", b"\0\0\0\x08".to_vec(), E::Missing),
            ("TLS", vec![0x16, 3, 1], E::Missing),
            (
                "almost the signature",
                b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
                E::Missing,
            ),
            (
                "version 1 in binary",
                header(0x11, 0x11, &IPV4),
                E::Version { version: 1 },
            ),
            (
                "version 3",
                header(0x31, 0x11, &IPV4),
                E::Version { version: 3 },
            ),
            (
                "command 2",
                header(0x22, 0x11, &IPV4),
                E::Command { command: 2 },
            ),
            (
                "command 15",
                header(0x2f, 0x11, &IPV4),
                E::Command { command: 15 },
            ),
            ("UDP", header(0x21, 0x12, &IPV4), family(1, 2)),
            (
                "a stream of no family",
                header(0x21, 0x01, &IPV4),
                family(0, 1),
            ),
            (
                "IPv4 of no transport",
                header(0x21, 0x10, &IPV4),
                family(1, 0),
            ),
            (
                "Unix datagrams",
                header(0x21, 0x32, &[0; 216]),
                family(3, 2),
            ),
            ("family 4", header(0x21, 0x41, &IPV4), family(4, 1)),
            ("IPv4 cut short", header(0x21, 0x11, &IPV4[..11]), truncated),
            (
                "IPv6 with the addresses of IPv4",
                header(0x21, 0x21, &IPV4),
                truncated,
            ),
            (
                "Unix with one path",
                header(0x21, 0x31, &[0; 108]),
                truncated,
            ),
            (
                "a TLV without its length",
                header(0x21, 0x11, &with(&IPV4, &[4, 0])),
                truncated,
            ),
            (
                "a TLV longer than the rest",
                header(0x21, 0x11, &with(&IPV4, &[4, 0, 2, 0])),
                truncated,
            ),
        ];
        for (name, wire, expected) in cases {
            assert_eq!(
                decode_header(&wire, &Limits::default()),
                Err(expected),
                "{name}"
            );
        }
    }

    #[test]
    fn a_header_is_as_long_as_its_limit_and_no_longer() {
        let limit = Limits::default().proxy_header_bytes;
        let room = usize::try_from(limit).unwrap() - PREFIX_BYTES;
        let longest = header(0x20, 0x00, &vec![0; room]);
        assert!(
            decode_header(&longest, &Limits::default())
                .unwrap()
                .is_some()
        );
        let longer = header(0x20, 0x00, &vec![0; room + 1]);
        // Refused by its first sixteen bytes.
        assert_eq!(
            decode_header(&longer[..16], &Limits::default()),
            Err(HeaderError::TooLong {
                announced: limit + 1,
                limit
            })
        );
    }
}
