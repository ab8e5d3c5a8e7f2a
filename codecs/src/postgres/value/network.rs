//! Addresses: `inet` and `cidr`.

// Addresses alone: sockets are in `std`.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::text::append;
use crate::postgres::frontend::Format;
use crate::wire::{Malformed, Reader};

/// Families of a binary address: PostgreSQL's own numbers, the same on every platform.
///
/// Spec: PostgreSQL's `inet.h`, `PGSQL_AF_INET` and `PGSQL_AF_INET6`.
const FAMILY_4: u8 = 2;
const FAMILY_6: u8 = 3;

/// Appends the text of an address.
pub(super) fn write_text(value: &[u8], format: Format, out: &mut Vec<u8>) -> Result<(), Malformed> {
    if format == Format::Text {
        out.extend_from_slice(value);
        return Ok(());
    }
    let mut reader = Reader::new(value);
    let family = reader.u8()?;
    let bits = reader.u8()?;
    let _is_cidr = reader.u8()?;
    let length = reader.u8()?;
    let (address, bits_max) = match (family, length) {
        (FAMILY_4, 4) => (IpAddr::from(reader.array::<4>()?), 32),
        (FAMILY_6, 16) => (IpAddr::from(reader.array::<16>()?), 128),
        _ => {
            return Err(Malformed::Undefined {
                value: i32::from(family),
            });
        }
    };
    reader.finish()?;
    if bits == bits_max {
        append(format_args!("{address}"), out);
    } else {
        append(format_args!("{address}/{bits}"), out);
    }
    Ok(())
}

/// Appends an operator's address as `inet`; `None` where it is none.
pub(super) fn write_fixed(text: &str, format: Format, out: &mut Vec<u8>) -> Option<()> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let bits_max = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let bits = bits.unwrap_or(bits_max);
    if bits > bits_max {
        return None;
    }
    if format == Format::Text {
        out.extend_from_slice(text.as_bytes());
        return Some(());
    }
    match address {
        IpAddr::V4(address) => write_binary(FAMILY_4, bits, &Ipv4Addr::octets(&address), out),
        IpAddr::V6(address) => write_binary(FAMILY_6, bits, &Ipv6Addr::octets(&address), out),
    }
    Some(())
}

fn write_binary<const N: usize>(family: u8, bits: u8, octets: &[u8; N], out: &mut Vec<u8>) {
    let length = if N == 4 { 4 } else { 16 };
    out.extend_from_slice(&[family, bits, 0, length]);
    out.extend_from_slice(octets);
}
