//! Each type in both formats: what an action makes of a value, typed in here.

use super::*;

/// Hides each `secret`, and each number of the card that is used here.
struct Finder;

const CARD: &str = "4111111111111111";

impl TextEditor for Finder {
    fn edit(&mut self, text: &[u8], out: &mut Vec<u8>) -> Edited {
        let start = out.len();
        let mut edited = Edited::Unchanged;
        let mut rest = text;
        while let Some((first, behind)) = rest.split_first() {
            let found = [&b"secret"[..], CARD.as_bytes()]
                .into_iter()
                .find_map(|word| rest.strip_prefix(word));
            rest = if let Some(behind) = found {
                out.extend_from_slice(b"[hidden]");
                edited = Edited::Changed;
                behind
            } else {
                out.push(*first);
                behind
            };
        }
        if edited == Edited::Unchanged {
            out.truncate(start);
        }
        edited
    }

    fn edit_member(&mut self, key: &[u8], text: &[u8], out: &mut Vec<u8>) -> Edited {
        if key == b"password" {
            out.extend_from_slice(b"[hidden]");
            return Edited::Changed;
        }
        self.edit(text, out)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Same,
    Null,
    Value(Vec<u8>),
    Error,
}

fn seen(value: &[u8], type_: ValueType, format: Format, action: &mut Action<'_>) -> Seen {
    let mut scratch = Scratch::default();
    let mut out = b"before".to_vec();
    let rewritten = rewrite(value, type_, format, action, &mut scratch, &mut out);
    let appended = out.strip_prefix(b"before").unwrap().to_vec();
    match rewritten {
        Ok(Rewritten::Value) => return Seen::Value(appended),
        Ok(Rewritten::Unchanged) => assert!(appended.is_empty()),
        Ok(Rewritten::Null) => assert!(appended.is_empty()),
        Err(_) => assert!(appended.is_empty()),
    }
    match rewritten {
        Ok(Rewritten::Null) => Seen::Null,
        Ok(_) => Seen::Same,
        Err(_) => Seen::Error,
    }
}

fn value(bytes: impl AsRef<[u8]>) -> Seen {
    Seen::Value(bytes.as_ref().to_vec())
}

fn edited(input: impl AsRef<[u8]>, type_: ValueType, format: Format) -> Seen {
    seen(
        input.as_ref(),
        type_,
        format,
        &mut Action::Edit(&mut Finder),
    )
}

fn scalar(kind: Kind) -> ValueType {
    ValueType::scalar(kind)
}

const BOTH: [Format; 2] = [Format::Text, Format::Binary];

#[test]
fn redacted_values_are_constants_of_text_and_null_of_the_rest() {
    let text = [
        (scalar(Kind::Text), "[redacted]"),
        (scalar(Kind::VarChar), "[redacted]"),
        (scalar(Kind::VarChar).with_modifier(4 + 10), "[redacted]"),
        (scalar(Kind::VarChar).with_modifier(4 + 9), "*********"),
        (scalar(Kind::BpChar).with_modifier(4 + 12), "[redacted]  "),
        (scalar(Kind::BpChar).with_modifier(4 + 1), "*"),
        (scalar(Kind::Name), "[redacted]"),
        (scalar(Kind::Char), "*"),
        (scalar(Kind::Json), r#""[redacted]""#),
        (scalar(Kind::Xml), "<redacted/>"),
    ];
    for (type_, expected) in text {
        for format in BOTH {
            let found = seen(b"secret", type_, format, &mut Action::Redact);
            assert_eq!(found, value(expected), "{type_:?}");
        }
    }
    let redacted = |kind, format| seen(b"x", scalar(kind), format, &mut Action::Redact);
    assert_eq!(
        redacted(Kind::Jsonb, Format::Text),
        value(r#""[redacted]""#)
    );
    assert_eq!(
        redacted(Kind::Jsonb, Format::Binary),
        value("\u{1}\"[redacted]\"")
    );
    assert_eq!(
        redacted(Kind::Bytea, Format::Text),
        value(r"\x5b72656461637465645d")
    );
    assert_eq!(redacted(Kind::Bytea, Format::Binary), value("[redacted]"));
    for kind in [
        Kind::Int2,
        Kind::Int4,
        Kind::Int8,
        Kind::Oid,
        Kind::Numeric,
        Kind::Float4,
        Kind::Float8,
        Kind::Money,
        Kind::Bool,
        Kind::Uuid,
        Kind::Date,
        Kind::Time,
        Kind::TimeTz,
        Kind::Timestamp,
        Kind::TimestampTz,
        Kind::Interval,
        Kind::Inet,
        Kind::Cidr,
        Kind::MacAddr,
        Kind::Bit,
        Kind::TsVector,
        Kind::JsonPath,
        Kind::Enum,
        Kind::Record,
        Kind::Opaque,
    ] {
        for format in BOTH {
            assert_eq!(redacted(kind, format), Seen::Null, "{kind:?}");
        }
    }
    for shape in [Shape::Array, Shape::Range, Shape::Multirange] {
        let type_ = ValueType {
            shape,
            ..scalar(Kind::Text)
        };
        let found = seen(b"x", type_, Format::Text, &mut Action::Redact);
        assert_eq!(found, Seen::Null);
    }
}

#[test]
fn null_is_null_of_every_type() {
    for kind in [Kind::Text, Kind::Int4, Kind::Record] {
        let found = seen(b"x", scalar(kind), Format::Binary, &mut Action::Null);
        assert_eq!(found, Seen::Null);
    }
}

#[test]
fn a_fixed_text_is_read_as_a_value_of_the_type() {
    let cases: &[(Kind, &str, &str, &[u8])] = &[
        (Kind::Text, "n/a", "n/a", b"n/a"),
        (Kind::Int2, "-2", "-2", &[0xff, 0xfe]),
        (Kind::Int4, "7", "7", &[0, 0, 0, 7]),
        (Kind::Int8, "7", "7", &[0, 0, 0, 0, 0, 0, 0, 7]),
        (
            Kind::Oid,
            "4294967295",
            "4294967295",
            &[0xff, 0xff, 0xff, 0xff],
        ),
        (
            Kind::Numeric,
            "-12345.60",
            "-12345.60",
            &[0, 3, 0, 1, 0x40, 0, 0, 2, 0, 1, 0x09, 0x29, 0x17, 0x70],
        ),
        (Kind::Numeric, "0.00", "0.00", &[0, 0, 0, 0, 0, 0, 0, 2]),
        (
            Kind::Numeric,
            "0.00004",
            "0.00004",
            &[0, 1, 0xff, 0xfe, 0, 0, 0, 5, 0x0f, 0xa0],
        ),
        (Kind::Float4, "0.5", "0.5", &[0x3f, 0, 0, 0]),
        (Kind::Float8, "1", "1", &[0x3f, 0xf0, 0, 0, 0, 0, 0, 0]),
        (Kind::Bool, "false", "f", &[0]),
        (Kind::Bool, "t", "t", &[1]),
        (
            Kind::Uuid,
            "00000000-0000-0000-0000-0000000000FF",
            "00000000-0000-0000-0000-0000000000ff",
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff],
        ),
        (Kind::Date, "2000-01-02", "2000-01-02", &[0, 0, 0, 1]),
        (
            Kind::Timestamp,
            "2000-01-01 00:00:00.5",
            "2000-01-01 00:00:00.500000",
            &[0, 0, 0, 0, 0, 0x07, 0xa1, 0x20],
        ),
        (
            Kind::TimestampTz,
            "2000-01-01",
            "2000-01-01 00:00:00+00",
            &[0; 8],
        ),
        (
            Kind::Inet,
            "0.0.0.0/8",
            "0.0.0.0/8",
            &[2, 8, 0, 4, 0, 0, 0, 0],
        ),
        (
            Kind::Inet,
            "::",
            "::",
            &[
                3, 128, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
        ),
        (Kind::Enum, "other", "other", b"other"),
        (Kind::Json, "a\"b", r#""a\"b""#, br#""a\"b""#),
        (Kind::Jsonb, "{}", r#""{}""#, b"\x01\"{}\""),
        (Kind::Bytea, "ab", r"\x6162", b"ab"),
    ];
    for (kind, fixed, text, binary) in cases {
        for (format, expected) in [(Format::Text, text.as_bytes()), (Format::Binary, binary)] {
            let found = seen(b"", scalar(*kind), format, &mut Action::Fixed(fixed));
            assert_eq!(found, value(expected), "{kind:?} {fixed}");
        }
    }
}

#[test]
fn a_fixed_text_that_is_no_value_of_the_type_redacts() {
    let cases = [
        (Kind::Int2, "32768"),
        (Kind::Int4, "n/a"),
        (Kind::Oid, "-1"),
        (Kind::Numeric, "1e5"),
        (Kind::Numeric, "-"),
        (Kind::Float8, "one"),
        (Kind::Bool, "yes"),
        (Kind::Uuid, "0"),
        (Kind::Date, "2023-02-29"),
        (Kind::Date, "01.02.2023"),
        (Kind::Timestamp, "2023-01-01 00:00:00+00"),
        (Kind::Inet, "1.2.3.4/33"),
        (Kind::Interval, "1 day"),
    ];
    for (kind, fixed) in cases {
        for format in BOTH {
            let mut action = Action::Fixed(fixed);
            assert!(!action.suits(scalar(kind)), "{kind:?} {fixed}");
            let found = seen(b"", scalar(kind), format, &mut action);
            assert_eq!(found, Seen::Null, "{kind:?} {fixed}");
        }
    }
    let short = scalar(Kind::VarChar).with_modifier(4 + 3);
    let found = seen(b"", short, Format::Text, &mut Action::Fixed("äöüß"));
    assert_eq!(found, value("äöü"));
}

#[test]
fn a_replacement_suits_text_alone() {
    let replaced = |kind| {
        let mut finder = Finder;
        let mut action = Action::Replace(&mut finder);
        seen(b"a secret", scalar(kind), Format::Text, &mut action)
    };
    assert_eq!(replaced(Kind::Text), value("a [hidden]"));
    assert_eq!(replaced(Kind::Json), value(r#""[redacted]""#));
    assert_eq!(replaced(Kind::Int8), Seen::Null);
    // Security: an editor that has nothing to say about a masked value does not show it.
    let mut finder = Finder;
    let mut action = Action::Replace(&mut finder);
    let found = seen(b"plain", scalar(Kind::Text), Format::Text, &mut action);
    assert_eq!(found, value("[redacted]"));
}

#[test]
fn a_digest_is_the_same_in_both_formats_and_without_padding() {
    let digest = |bytes: &[u8]| {
        let mut digest = [0xab; 16];
        digest[0] = u8::try_from(bytes.len()).unwrap();
        digest[1] = bytes.iter().fold(0, |sum, byte| sum ^ byte);
        digest
    };
    let of = |input: &[u8], type_, format| seen(input, type_, format, &mut Action::Digest(&digest));
    let rest = "ab".repeat(14);
    let hex = format!("0203{rest}");
    for format in BOTH {
        assert_eq!(of(b"ab", scalar(Kind::Text), format), value(&hex));
        let padded = scalar(Kind::BpChar).with_modifier(4 + 6);
        assert_eq!(of(b"ab    ", padded, format), value("0203ab"));
        assert_eq!(of(b"5", scalar(Kind::Int4), format), Seen::Null);
    }
    let json = format!("\"{hex}\"");
    assert_eq!(of(b"ab", scalar(Kind::Jsonb), Format::Text), value(&json));
    let versioned = format!("\u{1}{json}");
    let binary = of(b"\x01ab", scalar(Kind::Jsonb), Format::Binary);
    assert_eq!(binary, value(versioned));
    let bytea = of(br"\x6162", scalar(Kind::Bytea), Format::Text);
    assert_eq!(bytea, value(format!("\\x{hex}")));
    let escaped = of(br"a\142", scalar(Kind::Bytea), Format::Text);
    assert_eq!(escaped, bytea);
    let uuid = "00000000-0000-0000-0000-0000000000ff";
    let expected = "10ffabab-abab-8bab-abab-abababababab";
    let text = of(uuid.as_bytes(), scalar(Kind::Uuid), Format::Text);
    assert_eq!(text, value(expected));
}

#[test]
fn numbers_are_rounded_to_the_nearest_multiple() {
    let cases = [
        (Kind::Int4, 0, "1234", "1234"),
        (Kind::Int4, 2, "1234", "1200"),
        (Kind::Int4, 2, "1250", "1300"),
        (Kind::Int4, 2, "-1250", "-1300"),
        (Kind::Int4, 2, "-49", "0"),
        (Kind::Int2, 1, "32767", "32760"),
        (Kind::Int2, 4, "-32768", "-30000"),
        (Kind::Int2, 18, "32767", "0"),
        (Kind::Int8, 18, "9223372036854775807", "9000000000000000000"),
        (Kind::Numeric, 2, "1234.56", "1200"),
        (Kind::Numeric, 0, "1234.5", "1235"),
        (Kind::Numeric, 0, "-0.4", "0"),
        (Kind::Numeric, 1, "99.99", "100"),
        (Kind::Numeric, 2, "50", "100"),
        (Kind::Numeric, 2, "-49.9", "0"),
        (Kind::Numeric, 3, "49.9", "0"),
        (
            Kind::Numeric,
            4,
            "99999999999999999999995000",
            "100000000000000000000000000",
        ),
        (Kind::Float8, 2, "1234.5", "1200"),
        (Kind::Float8, 2, "-3", "0"),
        (Kind::Float8, 3, "1e+300", "1e300"),
        (Kind::Float4, 1, "123.4", "120"),
    ];
    for (kind, exponent, input, expected) in cases {
        let mut action = Action::Round { exponent };
        let found = seen(input.as_bytes(), scalar(kind), Format::Text, &mut action);
        assert_eq!(found, value(expected), "{kind:?} {input}");
    }
    for (kind, same) in [
        (Kind::Numeric, "NaN"),
        (Kind::Numeric, "-Infinity"),
        (Kind::Float8, "NaN"),
        (Kind::Float8, "Infinity"),
    ] {
        let mut action = Action::Round { exponent: 2 };
        let found = seen(same.as_bytes(), scalar(kind), Format::Text, &mut action);
        assert_eq!(found, Seen::Same);
    }
    let mut action = Action::Round { exponent: 2 };
    let found = seen(b"1234", scalar(Kind::Text), Format::Text, &mut action);
    assert_eq!(found, value("[redacted]"));
    // 1234.56 and 1200.
    let numeric = [0, 2, 0, 0, 0, 0, 0, 2, 0x04, 0xd2, 0x15, 0xe0];
    let found = seen(&numeric, scalar(Kind::Numeric), Format::Binary, &mut action);
    assert_eq!(found, value([0, 1, 0, 0, 0, 0, 0, 0, 0x04, 0xb0]));
    let found = seen(
        &[0, 0, 4, 0xd2],
        scalar(Kind::Int4),
        Format::Binary,
        &mut action,
    );
    assert_eq!(found, value([0, 0, 4, 0xb0]));
}

#[test]
fn times_are_cut_to_the_begin_of_the_unit() {
    let cases = [
        (Kind::Date, Unit::Year, "2024-05-06", "2024-01-01"),
        (Kind::Date, Unit::Month, "2024-05-06", "2024-05-01"),
        (Kind::Date, Unit::Month, "0044-03-15 BC", "0044-03-01 BC"),
        (Kind::Date, Unit::Year, "4714-12-24 BC", "4714-11-24 BC"),
        (Kind::Date, Unit::Year, "12345-05-06", "12345-01-01"),
        (
            Kind::Timestamp,
            Unit::Hour,
            "2024-02-29 23:59:59.999999",
            "2024-02-29 23:00:00",
        ),
        (
            Kind::Timestamp,
            Unit::Day,
            "1999-12-31 23:59:59.9",
            "1999-12-31 00:00:00",
        ),
        (
            Kind::TimestampTz,
            Unit::Hour,
            "2024-05-06 07:08:09+02",
            "2024-05-06 05:00:00+00",
        ),
        // In UTC it is the year before.
        (
            Kind::TimestampTz,
            Unit::Year,
            "2024-01-01 01:00:00+02",
            "2023-01-01 00:00:00+00",
        ),
        (
            Kind::TimestampTz,
            Unit::Hour,
            "2024-05-06 07:08:09-03:30",
            "2024-05-06 10:00:00+00",
        ),
        (
            Kind::TimestampTz,
            Unit::Hour,
            "1890-05-06 07:08:09+00:53:28",
            "1890-05-06 06:00:00+00",
        ),
    ];
    for (kind, unit, input, expected) in cases {
        let mut action = Action::Truncate(unit);
        let found = seen(input.as_bytes(), scalar(kind), Format::Text, &mut action);
        assert_eq!(found, value(expected), "{input}");
    }
    let found = |kind, format, input: &[u8], unit| {
        seen(input, scalar(kind), format, &mut Action::Truncate(unit))
    };
    // A day is all that a date is.
    let day = found(Kind::Date, Format::Text, b"2024-05-06", Unit::Day);
    assert_eq!(day, Seen::Null);
    for other_style in ["06.05.2024", "05/06/2024", "2024-13-01", "2024-02-30", ""] {
        let other = found(Kind::Date, Format::Text, other_style.as_bytes(), Unit::Year);
        assert_eq!(other, Seen::Null, "{other_style}");
    }
    let infinite = found(Kind::Date, Format::Text, b"-infinity", Unit::Year);
    assert_eq!(infinite, Seen::Same);
    let infinite = found(
        Kind::Timestamp,
        Format::Binary,
        &i64::MAX.to_be_bytes(),
        Unit::Year,
    );
    assert_eq!(infinite, Seen::Same);
    // 2000-02-03 is day 33, and its month begins on day 31.
    let date = found(Kind::Date, Format::Binary, &[0, 0, 0, 33], Unit::Month);
    assert_eq!(date, value([0, 0, 0, 31]));
    let before = found(
        Kind::Timestamp,
        Format::Binary,
        &(-1_i64).to_be_bytes(),
        Unit::Hour,
    );
    assert_eq!(before, value((-3_600_000_000_i64).to_be_bytes()));
}

#[test]
fn texts_inside_are_edited_in_place() {
    let cases: &[(ValueType, &str, &str)] = &[
        (scalar(Kind::Text), "a secret.", "a [hidden]."),
        (
            scalar(Kind::VarChar).with_modifier(4 + 6),
            "secret",
            "[hidde",
        ),
        (scalar(Kind::Xml), "<a>secret</a>", "<a>[hidden]</a>"),
        (
            scalar(Kind::Json),
            r#"{"secret": ["a\tsecret", 4111111111111111, 1e5, true], "password": {"x": "y"}}"#,
            r#"{"[hidden]": ["a\u0009[hidden]", "[hidden]", 1e5, true], "password": {"x": "y"}}"#,
        ),
        (
            scalar(Kind::Json),
            r#"{"a":"s\u0065cret\\\"","password" : ["x", 5]}"#,
            r#"{"a":"[hidden]\\\"","password" : ["[hidden]", "[hidden]"]}"#,
        ),
        (
            scalar(Kind::Bytea),
            r"\x736563726574",
            r"\x5b68696464656e5d",
        ),
        (
            ValueType::array(Kind::Text),
            r#"{a,secret,"b \"secret\"",NULL,"NULL"}"#,
            r#"{a,"[hidden]","b \"[hidden]\"",NULL,"NULL"}"#,
        ),
        (
            ValueType::array(Kind::Text),
            "[0:1][1:1]={{secret},{x}}",
            r#"[0:1][1:1]={{"[hidden]"},{x}}"#,
        ),
        (
            ValueType::array(Kind::Int8),
            "{1,4111111111111111}",
            "{1,NULL}",
        ),
        (
            ValueType::array(Kind::Record),
            r#"{"(1,\"a, secret\")","(2,b)"}"#,
            r#"{"(1,\"a, [hidden]\")","(2,b)"}"#,
        ),
        (
            scalar(Kind::Record),
            r#"(secret,,"x ""secret""",4111111111111111,"\\")"#,
            r#"("[hidden]",,"x ""[hidden]""",,"\\")"#,
        ),
        (scalar(Kind::Record), "(,secret)", r#"(,"[hidden]")"#),
    ];
    for (type_, input, expected) in cases {
        let found = edited(input, *type_, Format::Text);
        assert_eq!(found, value(expected), "{input}");
    }
}

#[test]
fn what_is_no_text_and_would_change_is_null() {
    let cases: &[(ValueType, Format, &[u8])] = &[
        (scalar(Kind::Int8), Format::Text, CARD.as_bytes()),
        (
            scalar(Kind::Int8),
            Format::Binary,
            &4_111_111_111_111_111_i64.to_be_bytes(),
        ),
        (
            scalar(Kind::Float8),
            Format::Binary,
            &4_111_111_111_111_111_f64.to_be_bytes(),
        ),
        (scalar(Kind::Float8), Format::Text, b"4.111111111111111e+15"),
        (
            scalar(Kind::Numeric),
            Format::Binary,
            &[
                0, 4, 0, 3, 0, 0, 0, 0, 0x10, 0x0f, 0x04, 0x57, 0x04, 0x57, 0x04, 0x57,
            ],
        ),
        (scalar(Kind::TsVector), Format::Text, b"'secret':1"),
        (
            scalar(Kind::TsVector),
            Format::Binary,
            b"\0\0\0\x02a\0\0\0secret\0\0\x01\0\x01",
        ),
        (scalar(Kind::Opaque), Format::Text, b"secret"),
        (scalar(Kind::Opaque), Format::Binary, b"\0secret\xff"),
        (scalar(Kind::Enum), Format::Text, b"secret"),
        (scalar(Kind::JsonPath), Format::Binary, b"\x01$.secret"),
    ];
    for (type_, format, input) in cases {
        assert_eq!(edited(input, *type_, *format), Seen::Null, "{type_:?}");
    }
    let mut range = vec![0x02, 0, 0, 0, 8];
    range.extend(4_111_111_111_111_111_i64.to_be_bytes());
    range.extend([0, 0, 0, 8, 0x7f, 0, 0, 0, 0, 0, 0, 0]);
    let type_ = ValueType::of(3926);
    assert_eq!(edited(&range, type_, Format::Binary), Seen::Null);
    let mut multirange = vec![0, 0, 0, 1, 0, 0, 0, 25];
    multirange.extend(&range);
    let type_ = ValueType::of(4536);
    assert_eq!(edited(&multirange, type_, Format::Binary), Seen::Null);
}

#[test]
fn what_is_clean_stays_as_it_is() {
    let cases: &[(ValueType, Format, &[u8])] = &[
        (scalar(Kind::Text), Format::Text, b"plain"),
        (
            scalar(Kind::Json),
            Format::Text,
            br#"{"a": ["b\n", -1.5e3]}"#,
        ),
        (scalar(Kind::Jsonb), Format::Binary, b"\x01{\"a\": 1}"),
        (scalar(Kind::Bytea), Format::Text, br"\x00ff"),
        (scalar(Kind::Int4), Format::Binary, &[0, 0, 0, 1]),
        (scalar(Kind::Numeric), Format::Text, b"NaN"),
        (scalar(Kind::Float4), Format::Text, b"-Infinity"),
        (scalar(Kind::Date), Format::Binary, &[0, 0, 0, 1]),
        (ValueType::array(Kind::Text), Format::Text, b"{}"),
        (
            ValueType::array(Kind::Text),
            Format::Text,
            b"{{a,b},{c,\"d,\"}}",
        ),
        (
            ValueType::array(Kind::Text),
            Format::Binary,
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25],
        ),
        (ValueType::array(Kind::Text), Format::Text, b"{(a,b)}"),
        (scalar(Kind::Record), Format::Text, b"(1,{},{a})"),
        (scalar(Kind::Record), Format::Text, b"()"),
        (scalar(Kind::Record), Format::Text, b"(,)"),
        (scalar(Kind::Record), Format::Text, b"(1,\"(2,\"\"x\"\")\")"),
        (scalar(Kind::Record), Format::Binary, &[0, 0, 0, 0]),
        (ValueType::of(3904), Format::Binary, &[1]),
    ];
    for (type_, format, input) in cases {
        assert_eq!(edited(input, *type_, *format), Seen::Same, "{type_:?}");
    }
}

/// A one-dimensional array of text.
fn array_of(elements: &[Option<&[u8]>], has_null: u8, oid: u8) -> Vec<u8> {
    let mut array = vec![0, 0, 0, 1, 0, 0, 0, has_null, 0, 0, 0, oid, 0, 0, 0];
    array.push(u8::try_from(elements.len()).unwrap());
    array.extend([0, 0, 0, 1]);
    for element in elements {
        match element {
            Some(element) => {
                array.extend(u32::try_from(element.len()).unwrap().to_be_bytes());
                array.extend(*element);
            }
            None => array.extend([0xff; 4]),
        }
    }
    array
}

#[test]
fn lengths_inside_are_written_anew() {
    let array = array_of(&[Some(b"a"), None, Some(b"secrets")], 1, 25);
    let expected = array_of(&[Some(b"a"), None, Some(b"[hidden]s")], 1, 25);
    let type_ = ValueType::array(Kind::Text);
    assert_eq!(edited(array, type_, Format::Binary), value(expected));

    let card = 4_111_111_111_111_111_i64.to_be_bytes();
    let array = array_of(&[Some(&card)], 0, 20);
    let type_ = ValueType::array(Kind::Int8);
    let expected = array_of(&[None], 1, 20);
    assert_eq!(edited(array, type_, Format::Binary), value(expected));

    let record = b"\0\0\0\x02\0\0\0\x19\0\0\0\x06secret\0\0\0\x14\xff\xff\xff\xff";
    let expected = b"\0\0\0\x02\0\0\0\x19\0\0\0\x08[hidden]\0\0\0\x14\xff\xff\xff\xff";
    let found = edited(record, scalar(Kind::Record), Format::Binary);
    assert_eq!(found, value(expected));
}

#[test]
fn values_of_a_hostile_target_are_errors() {
    let cases: &[(ValueType, Format, &[u8])] = &[
        (scalar(Kind::Jsonb), Format::Binary, b""),
        (scalar(Kind::Jsonb), Format::Binary, b"\x02{}"),
        (scalar(Kind::Json), Format::Text, b"{\"a"),
        (scalar(Kind::Json), Format::Text, b"\"\\"),
        (scalar(Kind::Json), Format::Text, b"\"\\u12\""),
        (scalar(Kind::Json), Format::Text, b"\"\\x\""),
        (scalar(Kind::Bytea), Format::Text, b"\\x123"),
        (scalar(Kind::Bytea), Format::Text, b"\\xzz"),
        (scalar(Kind::Bytea), Format::Text, b"\\9"),
        (scalar(Kind::Int4), Format::Binary, &[0, 0, 1]),
        (scalar(Kind::Int4), Format::Binary, &[0, 0, 0, 0, 1]),
        (scalar(Kind::Float8), Format::Text, b"x"),
        (
            scalar(Kind::Numeric),
            Format::Binary,
            &[0, 1, 0, 0, 0, 0, 0, 0],
        ),
        // A digit of 10,000, a sign and a scale that do not exist, a byte too many.
        (
            scalar(Kind::Numeric),
            Format::Binary,
            &[0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10],
        ),
        (
            scalar(Kind::Numeric),
            Format::Binary,
            &[0, 0, 0, 0, 1, 0, 0, 0],
        ),
        (
            scalar(Kind::Numeric),
            Format::Binary,
            &[0, 0, 0, 0, 0, 0, 0x40, 0],
        ),
        (
            scalar(Kind::Numeric),
            Format::Binary,
            &[0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            scalar(Kind::Inet),
            Format::Binary,
            &[2, 32, 0, 16, 1, 2, 3, 4],
        ),
        (
            scalar(Kind::Inet),
            Format::Binary,
            &[9, 32, 0, 4, 1, 2, 3, 4],
        ),
        (
            scalar(Kind::TsVector),
            Format::Binary,
            b"\xff\xff\xff\xffa\0\0\0",
        ),
        (ValueType::array(Kind::Text), Format::Text, b"a"),
        (ValueType::array(Kind::Text), Format::Text, b"{a"),
        (ValueType::array(Kind::Text), Format::Text, b"{a}}"),
        (ValueType::array(Kind::Text), Format::Text, b"{\"a"),
        (ValueType::array(Kind::Text), Format::Text, b"{\"a\"b}"),
        (ValueType::array(Kind::Text), Format::Text, b"{a\\b}"),
        (
            ValueType::array(Kind::Text),
            Format::Text,
            b"{{{{{{{a}}}}}}}",
        ),
        // Seven dimensions; two of 65,536; one element that is not there; a byte too many.
        (
            ValueType::array(Kind::Text),
            Format::Binary,
            &[0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 25],
        ),
        (
            ValueType::array(Kind::Text),
            Format::Binary,
            &[
                0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 25, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1,
            ],
        ),
        (
            ValueType::array(Kind::Text),
            Format::Binary,
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0, 1],
        ),
        (
            ValueType::array(Kind::Text),
            Format::Binary,
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0],
        ),
        (scalar(Kind::Record), Format::Text, b"("),
        (scalar(Kind::Record), Format::Text, b"(\"a)"),
        (scalar(Kind::Record), Format::Text, b"(a)b)"),
        (scalar(Kind::Record), Format::Binary, b"\xff\xff\xff\xff"),
        (
            scalar(Kind::Record),
            Format::Binary,
            b"\0\0\0\x01\0\0\0\x19\0\0\0\x02a",
        ),
        (
            ValueType::of(3904),
            Format::Binary,
            &[0, 0xff, 0xff, 0xff, 0xff],
        ),
        (ValueType::of(3904), Format::Binary, &[1, 0]),
        (ValueType::of(4451), Format::Binary, &[0, 0, 0, 1]),
    ];
    for (type_, format, input) in cases {
        let found = edited(input, *type_, *format);
        assert_eq!(found, Seen::Error, "{type_:?} {input:?}");
    }
}

#[test]
fn nesting_is_followed_so_far_and_no_further() {
    let nested = |levels: usize| {
        let mut value = b"\0\0\0\0".to_vec();
        for _ in 0..levels {
            let mut outer = b"\0\0\0\x01\0\0\x08\xc9".to_vec();
            outer.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            outer.extend(value);
            value = outer;
        }
        value
    };
    let of = |levels| edited(nested(levels), scalar(Kind::Record), Format::Binary);
    assert_eq!(of(NESTING_MAX), Seen::Same);
    assert_eq!(of(NESTING_MAX + 1), Seen::Error);
}

#[test]
fn buffers_are_used_again() {
    let mut scratch = Scratch::default();
    let mut out = Vec::new();
    let json = br#"{"a": "b\nsecret"}"#;
    let mut capacities = Vec::new();
    for _ in 0..3 {
        let rewritten = rewrite(
            json,
            scalar(Kind::Json),
            Format::Text,
            &mut Action::Edit(&mut Finder),
            &mut scratch,
            &mut out,
        );
        assert_eq!(rewritten, Ok(Rewritten::Value));
        capacities.push(scratch.capacity());
    }
    assert_eq!(capacities[1], capacities[2]);
    scratch.shrink(0);
    assert_eq!(scratch.capacity(), 0);
}
