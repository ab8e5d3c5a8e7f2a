//! Values that were sent in PostgreSQL's binary format, as the text that the server would show.
//!
//! Only single values of common types. What is not known here is shown as bytes, never guessed.

use std::fmt::Write;

use codecs::postgres::value::{Kind, Shape, ValueType};

/// Days from 0000-03-01 to 2000-01-01, where PostgreSQL counts from.
const EPOCH_DAYS: i64 = 730_425;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// Most base-10000 digits of a `numeric`: PostgreSQL has 131,072 decimal digits before the point
/// and 16,383 behind it.
const NUMERIC_GROUPS_MAX: usize = (131_072 + 16_384) / 4 + 1;

/// The text of a binary value; `None` when its type or its bytes are not known.
pub(super) fn text_of(type_oid: u32, bytes: &[u8]) -> Option<String> {
    let ValueType { kind, shape, .. } = ValueType::of(type_oid);
    if shape != Shape::Scalar {
        return None;
    }
    match kind {
        Kind::Bool => match bytes {
            [0] => Some("f".to_owned()),
            [1] => Some("t".to_owned()),
            _ => None,
        },
        Kind::Int2 => fixed(bytes).map(|it| i16::from_be_bytes(it).to_string()),
        Kind::Int4 => fixed(bytes).map(|it| i32::from_be_bytes(it).to_string()),
        Kind::Int8 => fixed(bytes).map(|it| i64::from_be_bytes(it).to_string()),
        Kind::Oid => fixed(bytes).map(|it| u32::from_be_bytes(it).to_string()),
        Kind::Float4 => fixed(bytes).map(|it| f32::from_be_bytes(it).to_string()),
        Kind::Float8 => fixed(bytes).map(|it| f64::from_be_bytes(it).to_string()),
        Kind::Numeric => numeric(bytes),
        Kind::Uuid => uuid(bytes),
        Kind::Date => date(i32::from_be_bytes(fixed(bytes)?)),
        Kind::Time => time(i64::from_be_bytes(fixed(bytes)?)),
        Kind::Timestamp => timestamp(i64::from_be_bytes(fixed(bytes)?), ""),
        Kind::TimestampTz => timestamp(i64::from_be_bytes(fixed(bytes)?), "+00"),
        Kind::Bytea => Some(format!("\\x{}", super::escape::hex(bytes))),
        Kind::Jsonb => match bytes.split_first() {
            Some((1, text)) => text_in(text),
            Some(_) | None => None,
        },
        Kind::Text
        | Kind::VarChar
        | Kind::BpChar
        | Kind::Name
        | Kind::Char
        | Kind::Enum
        | Kind::Json
        | Kind::Xml => text_in(bytes),
        Kind::JsonPath
        | Kind::Money
        | Kind::TimeTz
        | Kind::Interval
        | Kind::Inet
        | Kind::Cidr
        | Kind::MacAddr
        | Kind::Bit
        | Kind::TsVector
        | Kind::Record
        | Kind::Opaque => None,
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn text_in(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then(|| text.to_owned())
}

fn uuid(bytes: &[u8]) -> Option<String> {
    let number = u128::from_be_bytes(fixed(bytes)?);
    let digits = format!("{number:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    let parts: Vec<&str> = parts.into_iter().filter_map(|it| digits.get(it)).collect();
    Some(parts.join("-"))
}

fn date(days: i32) -> Option<String> {
    match days {
        i32::MAX => Some("infinity".to_owned()),
        i32::MIN => Some("-infinity".to_owned()),
        days => civil(i64::from(days)),
    }
}

fn timestamp(micros: i64, zone: &str) -> Option<String> {
    match micros {
        i64::MAX => Some("infinity".to_owned()),
        i64::MIN => Some("-infinity".to_owned()),
        micros => {
            let day = civil(micros.div_euclid(MICROS_PER_DAY))?;
            let time = time(micros.rem_euclid(MICROS_PER_DAY))?;
            Some(format!("{day} {time}{zone}"))
        }
    }
}

fn time(micros: i64) -> Option<String> {
    if !(0..=MICROS_PER_DAY).contains(&micros) {
        return None;
    }
    let seconds = micros / MICROS_PER_SECOND;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{hours:02}:{minutes:02}:{seconds:02}");
    let fraction = micros % MICROS_PER_SECOND;
    if fraction > 0 {
        let digits = format!("{fraction:06}");
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, ".{}", digits.trim_end_matches('0'));
    }
    Some(text)
}

/// A day of the Gregorian calendar, counted from 2000-01-01. Years before 1 are not known here.
///
/// Counts in years that begin in March, so that the leap day is the last: Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms".
fn civil(days: i64) -> Option<String> {
    let days = days.checked_add(EPOCH_DAYS)?;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year >= 1).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

/// Groups of four decimal digits with a weight, a sign and how many digits to show behind the
/// point.
fn numeric(bytes: &[u8]) -> Option<String> {
    let (head, groups) = bytes.split_first_chunk::<8>()?;
    let [c0, c1, w0, w1, s0, s1, d0, d1] = *head;
    let count = usize::from(u16::from_be_bytes([c0, c1]));
    let weight = i64::from(i16::from_be_bytes([w0, w1]));
    let scale = usize::from(u16::from_be_bytes([d0, d1]));
    let sign = match u16::from_be_bytes([s0, s1]) {
        0x0000 => "",
        0x4000 => "-",
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    if groups.len() != count.checked_mul(2)? || count > NUMERIC_GROUPS_MAX || scale > 16_384 {
        return None;
    }
    let group = |place: i64| -> Option<u16> {
        let index = usize::try_from(weight.checked_sub(place)?).unwrap_or(usize::MAX);
        let pair = groups.chunks_exact(2).nth(index);
        let value = pair.map_or(0, |pair| match *pair {
            [high, low] => u16::from_be_bytes([high, low]),
            _ => 0,
        });
        (value < 10_000).then_some(value)
    };
    let mut text = sign.to_owned();
    let mut integer = String::new();
    for place in (0..=weight.max(0)).rev() {
        let _ = write!(integer, "{:04}", group(place)?);
    }
    let integer = integer.trim_start_matches('0');
    text.push_str(if integer.is_empty() { "0" } else { integer });
    if scale > 0 {
        let mut fraction = String::new();
        let mut place = -1;
        while fraction.len() < scale {
            let _ = write!(fraction, "{:04}", group(place)?);
            place -= 1;
        }
        fraction.truncate(scale);
        text.push('.');
        text.push_str(&fraction);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(type_oid: u32, bytes: &[u8], expected: Option<&str>) {
        assert_eq!(
            text_of(type_oid, bytes).as_deref(),
            expected,
            "{type_oid} {bytes:?}"
        );
    }

    // Expected texts are PostgreSQL 15's own: `select typesend(value::type), value::type`.
    #[test]
    fn binary_values_read_as_the_server_writes_them() {
        check_text(16, b"\x01", Some("t"));
        check_text(21, b"\xff\xfe", Some("-2"));
        check_text(23, b"\x00\x00\x00\x07", Some("7"));
        check_text(20, b"\xff\xff\xff\xff\xff\xff\xff\xff", Some("-1"));
        check_text(26, b"\xff\xff\xff\xff", Some("4294967295"));
        check_text(701, b"\x3f\xf8\x00\x00\x00\x00\x00\x00", Some("1.5"));
        check_text(25, "grüße".as_bytes(), Some("grüße"));
        check_text(17, b"\x00\xff", Some("\\x00ff"));
        check_text(3802, b"\x01{\"a\": 1}", Some("{\"a\": 1}"));
        check_text(
            2950,
            b"\x12\x34\x56\x78\x9a\xbc\xde\xf0\x12\x34\x56\x78\x9a\xbc\xde\xf0",
            Some("12345678-9abc-def0-1234-56789abcdef0"),
        );
    }

    #[test]
    fn binary_dates_and_times_read_as_the_server_writes_them() {
        check_text(1082, &0_i32.to_be_bytes(), Some("2000-01-01"));
        check_text(1082, &(-1_i32).to_be_bytes(), Some("1999-12-31"));
        check_text(1082, &59_i32.to_be_bytes(), Some("2000-02-29"));
        check_text(1082, &9826_i32.to_be_bytes(), Some("2026-11-26"));
        check_text(1082, &i32::MAX.to_be_bytes(), Some("infinity"));
        check_text(1082, &(-730_485_i32).to_be_bytes(), None);
        check_text(1114, &0_i64.to_be_bytes(), Some("2000-01-01 00:00:00"));
        check_text(
            1184,
            &(-1_500_000_i64).to_be_bytes(),
            Some("1999-12-31 23:59:58.5+00"),
        );
        check_text(
            1083,
            &86_399_000_001_i64.to_be_bytes(),
            Some("23:59:59.000001"),
        );
    }

    #[test]
    fn binary_numerics_read_as_the_server_writes_them() {
        // 12345.678: groups 1, 2345, 6780; weight 1; three digits behind the point.
        check_text(
            1700,
            b"\x00\x03\x00\x01\x00\x00\x00\x03\x00\x01\x09\x29\x1a\x7c",
            Some("12345.678"),
        );
        check_text(1700, b"\x00\x00\x00\x00\x00\x00\x00\x00", Some("0"));
        check_text(1700, b"\x00\x00\x00\x00\x00\x00\x00\x02", Some("0.00"));
        // -0.0001 and 10000.
        check_text(
            1700,
            b"\x00\x01\xff\xff\x40\x00\x00\x04\x00\x01",
            Some("-0.0001"),
        );
        check_text(
            1700,
            b"\x00\x01\x00\x01\x00\x00\x00\x00\x00\x01",
            Some("10000"),
        );
        check_text(1700, b"\x00\x00\x00\x00\xc0\x00\x00\x00", Some("NaN"));
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        check_text(23, b"\x00\x07", None);
        check_text(16, b"\x02", None);
        check_text(25, b"\xff", None);
        check_text(25, b"a\0b", None);
        check_text(1007, b"\x00\x00\x00\x01", None);
        check_text(999_999, b"\x00", None);
        check_text(3802, b"\x02{}", None);
        check_text(1700, b"\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01", None);
        check_text(1700, b"\x00\x01\x00\x00\x00\x00\x00\x00\x27\x10", None);
        check_text(1083, &(-1_i64).to_be_bytes(), None);
    }
}
