//! Bound values as people read them: PostgreSQL's binary formats of the common built-in types.
//!
//! For a person's eyes alone; what runs is the value's bytes. What is not known here is shown in
//! hexadecimal.
//!
//! Spec: PostgreSQL source, the `*recv` functions of `src/backend/utils/adt`.

use std::time::{Duration, UNIX_EPOCH};

/// From 1970 to 2000, where PostgreSQL counts from. Seconds.
const EPOCH_OFFSET: i64 = 946_684_800;

const DAY_SECONDS: i64 = 86_400;

/// How PostgreSQL writes a type's values in binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Text,
    Jsonb,
    Uuid,
    Numeric,
    Date,
    Timestamp,
    Bytes,
}

/// Object id, name and form; spec: `pg_type.dat`.
const TYPES: &[(u32, &str, Form)] = &[
    (16, "boolean", Form::Bool),
    (17, "bytea", Form::Bytes),
    (18, "\"char\"", Form::Text),
    (19, "name", Form::Text),
    (20, "bigint", Form::Int8),
    (21, "smallint", Form::Int2),
    (23, "integer", Form::Int4),
    (25, "text", Form::Text),
    (26, "oid", Form::Oid),
    (114, "json", Form::Text),
    (142, "xml", Form::Text),
    (700, "real", Form::Float4),
    (701, "double precision", Form::Float8),
    (1042, "character", Form::Text),
    (1043, "character varying", Form::Text),
    (1082, "date", Form::Date),
    (1083, "time", Form::Bytes),
    (1114, "timestamp", Form::Timestamp),
    (1184, "timestamp with time zone", Form::Timestamp),
    (1186, "interval", Form::Bytes),
    (1700, "numeric", Form::Numeric),
    (2950, "uuid", Form::Uuid),
    (3802, "jsonb", Form::Jsonb),
];

fn known(oid: u32) -> Option<(&'static str, Form)> {
    let entry = TYPES.iter().find(|(known, _, _)| *known == oid)?;
    Some((entry.1, entry.2))
}

/// The name of a built-in type, `unknown` where the server infers it, else the object id.
pub(super) fn type_name(oid: u32) -> String {
    match known(oid) {
        Some((name, _)) => name.to_owned(),
        None if oid == 0 => "unknown".to_owned(),
        None => format!("type {oid}"),
    }
}

/// A value in its type's binary format. `None` where it is none: then it is shown as it is.
pub(super) fn text_of(oid: u32, bytes: &[u8]) -> Option<String> {
    let form = known(oid).map_or(Form::Bytes, |(_, form)| form);
    match form {
        Form::Bool => match bytes {
            [0] => Some("false".to_owned()),
            [1] => Some("true".to_owned()),
            _ => None,
        },
        Form::Int2 => Some(i16::from_be_bytes(bytes.try_into().ok()?).to_string()),
        Form::Int4 => Some(i32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        Form::Int8 => Some(i64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        Form::Oid => Some(u32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        Form::Float4 => Some(f32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        Form::Float8 => Some(f64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        Form::Text => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Form::Jsonb => {
            let (version, text) = bytes.split_first()?;
            (*version == 1)
                .then(|| std::str::from_utf8(text).ok().map(str::to_owned))
                .flatten()
        }
        Form::Uuid => uuid(bytes),
        Form::Numeric => numeric(bytes),
        Form::Date => {
            let days = i64::from(i32::from_be_bytes(bytes.try_into().ok()?));
            let time = time(days.checked_mul(DAY_SECONDS)?, 0)?;
            time.get(..10).map(str::to_owned)
        }
        Form::Timestamp => {
            let micros = i64::from_be_bytes(bytes.try_into().ok()?);
            let fraction = u32::try_from(micros.rem_euclid(1_000_000)).ok()?;
            time(micros.div_euclid(1_000_000), fraction)
        }
        Form::Bytes => Some(hex(bytes)),
    }
}

/// As PostgreSQL writes `bytea`.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("\\x{}", digits.collect::<String>())
}

fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    let mut out = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&format!("{byte:02x}"));
    }
    Some(out)
}

/// Seconds and microseconds since 2000. `None` outside of the years that have a common form.
fn time(seconds: i64, micros: u32) -> Option<String> {
    let since_1970 = u64::try_from(seconds.checked_add(EPOCH_OFFSET)?).ok()?;
    // The end of the year 9999.
    if since_1970 > 253_402_300_799 {
        return None;
    }
    let time = UNIX_EPOCH.checked_add(Duration::new(since_1970, micros.checked_mul(1000)?))?;
    let text = if micros == 0 {
        humantime::format_rfc3339_seconds(time).to_string()
    } else {
        humantime::format_rfc3339_micros(time).to_string()
    };
    Some(text)
}

/// Groups of four decimal digits, the weight of the first, the sign, and the digits to show.
fn numeric(bytes: &[u8]) -> Option<String> {
    let mut words = bytes.chunks_exact(2).map(|pair| match pair {
        [high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    });
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    let count = usize::from(words.next()?);
    let weight = i32::from(i16::from_be_bytes(words.next()?.to_be_bytes()));
    let sign = words.next()?;
    let scale = usize::from(words.next()?);
    let groups: Vec<u16> = words.collect();
    if groups.len() != count || groups.iter().any(|group| *group > 9999) || scale > 16_383 {
        return None;
    }
    let negative = match sign {
        0x0000 => false,
        0x4000 => true,
        0xc000 => return Some("NaN".to_owned()),
        0xd000 => return Some("Infinity".to_owned()),
        0xf000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let group = |place: i32| -> u16 {
        let index = weight
            .checked_sub(place)
            .and_then(|index| usize::try_from(index).ok());
        index
            .and_then(|index| groups.get(index).copied())
            .unwrap_or(0)
    };
    let mut out = String::new();
    if negative {
        out.push('-');
    }
    if weight < 0 {
        out.push('0');
    } else {
        out.push_str(&group(weight).to_string());
        for place in (0..weight).rev() {
            out.push_str(&format!("{:04}", group(place)));
        }
    }
    if scale > 0 {
        let mut fraction = String::with_capacity(scale.saturating_add(4));
        let mut place = -1;
        while fraction.len() < scale {
            fraction.push_str(&format!("{:04}", group(place)));
            place -= 1;
        }
        fraction.truncate(scale);
        out.push('.');
        out.push_str(&fraction);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_value(oid: u32, bytes: &[u8], expected: &str) {
        assert_eq!(text_of(oid, bytes).as_deref(), Some(expected));
    }

    #[test]
    fn values_read_as_the_server_prints_them() {
        check_value(16, &[1], "true");
        check_value(21, &[0xff, 0xfe], "-2");
        check_value(23, &[0, 0, 1, 0], "256");
        check_value(20, &[0xff; 8], "-1");
        check_value(701, &1.5_f64.to_be_bytes(), "1.5");
        check_value(25, "grüße".as_bytes(), "grüße");
        check_value(3802, b"\x01{\"a\": 1}", "{\"a\": 1}");
        check_value(17, &[0xde, 0xad], "\\xdead");
        check_value(
            2950,
            &[
                0x55, 0x0e, 0x84, 0x00, 0xe2, 0x9b, 0x41, 0xd4, 0xa7, 0x16, 0x44, 0x66, 0x55, 0x44,
                0, 0,
            ],
            "550e8400-e29b-41d4-a716-446655440000",
        );
        check_value(1082, &1_i32.to_be_bytes(), "2000-01-02");
        check_value(1082, &(-1_i32).to_be_bytes(), "1999-12-31");
        check_value(
            1184,
            &1_500_000_i64.to_be_bytes(),
            "2000-01-01T00:00:01.500000Z",
        );
        check_value(99_999, &[1], "\\x01");
    }

    #[test]
    fn numbers_of_any_size_read_as_the_server_prints_them() {
        // As `numeric_send` of PostgreSQL 15 writes them.
        let words = |words: &[u16]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_be_bytes()).collect()
        };
        check_value(1700, &words(&[0, 0, 0, 0]), "0");
        check_value(1700, &words(&[2, 0, 0, 2, 12, 3400]), "12.34");
        check_value(1700, &words(&[1, 0xffff, 0x4000, 4, 1]), "-0.0001");
        check_value(1700, &words(&[1, 1, 0, 0, 5]), "50000");
        check_value(1700, &words(&[3, 1, 0, 3, 1, 2345, 6780]), "12345.678");
        check_value(1700, &words(&[0, 0, 0xc000, 0]), "NaN");
    }

    #[test]
    fn what_is_no_value_of_its_type_is_none() {
        for (oid, bytes) in [
            (16, &[2][..]),
            (23, &[0, 1]),
            (25, &[0xff]),
            (2950, &[0; 15]),
            (1700, &[0, 1, 0, 0, 0, 0, 0, 0]),
            (1700, &[0, 0, 0]),
            (3802, b"\x02{}"),
        ] {
            assert_eq!(text_of(oid, bytes), None, "{oid}");
        }
    }

    #[test]
    fn a_type_that_is_not_known_has_its_number() {
        assert_eq!(type_name(23), "integer");
        assert_eq!(type_name(0), "unknown");
        assert_eq!(type_name(16_385), "type 16385");
    }
}
