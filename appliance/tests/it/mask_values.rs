//! What values become, as a real server reads it: each type, each action, in text and in binary.

use std::net::SocketAddr;

use codecs::postgres::copy::{CopyFields, CopyFormat, CopyRewriter};
use codecs::postgres::frontend::Format;
use codecs::postgres::value::{
    Action, Edited, Kind, Rewritten, Scratch, Shape, TextEditor, Unit, ValueType, rewrite,
};

use crate::postgres::{Options, SUPERUSER, Server};
use crate::wire::{Message, Wire, terminated};

const CARD: &str = "4111111111111111";

/// Stands for detectors: hides the word and the card.
struct Finder;

impl TextEditor for Finder {
    fn edit(&mut self, text: &[u8], out: &mut Vec<u8>) -> Edited {
        // What is not UTF-8 is searched where it is.
        let clear: String = text.iter().copied().map(char::from).collect();
        let hidden = clear.replace("secret", "[x]").replace(CARD, "[y]");
        if hidden == clear {
            return Edited::Unchanged;
        }
        out.extend(hidden.chars().map(|c| u8::try_from(u32::from(c)).unwrap()));
        Edited::Changed
    }
}

/// Stands for what replaces the whole of a text.
struct Stars;

impl TextEditor for Stars {
    fn edit(&mut self, text: &[u8], out: &mut Vec<u8>) -> Edited {
        out.resize(out.len() + text.len(), b'*');
        Edited::Changed
    }
}

fn digest(bytes: &[u8]) -> [u8; 16] {
    let mut digest = [0x5a; 16];
    for (position, byte) in bytes.iter().enumerate() {
        digest[position % 16] ^= byte;
    }
    digest
}

const TYPES: &str = r"
    create type mood as enum ('sad', 'secret', 'happy');
    create type inner_pair as (a int8, b text);
    create type pair as (a int8, b text, c text[], d inner_pair);
";

/// A type by its name, what it is, and values of it.
type Sample = (&'static str, ValueType, &'static [&'static str]);

const fn scalar(kind: Kind) -> ValueType {
    ValueType::scalar(kind)
}

const fn array(kind: Kind) -> ValueType {
    ValueType::array(kind)
}

const fn shaped(kind: Kind, shape: Shape) -> ValueType {
    ValueType {
        kind,
        shape,
        modifier: -1,
    }
}

const SAMPLES: &[Sample] = &[
    (
        "text",
        scalar(Kind::Text),
        &["", "a secret", "żółw\t\"\\", CARD],
    ),
    (
        "varchar(20)",
        scalar(Kind::VarChar).with_modifier(24),
        &["", "a secret", "secretsecretsecretxx"],
    ),
    ("varchar", scalar(Kind::VarChar), &["a secret"]),
    (
        "char(12)",
        scalar(Kind::BpChar).with_modifier(16),
        &["a secret", "żółw"],
    ),
    (
        "char(3)",
        scalar(Kind::BpChar).with_modifier(7),
        &["a", "abc"],
    ),
    ("name", scalar(Kind::Name), &["secret"]),
    ("\"char\"", scalar(Kind::Char), &["a"]),
    (
        "json",
        scalar(Kind::Json),
        &[
            r#"{"secret": [4111111111111111, "a\nsecret\u0041", 1e5], "a":null}"#,
            r#""s\u0065cret""#,
            "4111111111111111",
            "[]",
        ],
    ),
    (
        "jsonb",
        scalar(Kind::Jsonb),
        &[
            r#"{"secret": [4111111111111111, "a\nsecret\"", 1e5], "a": null}"#,
            "4111111111111111",
            "{}",
        ],
    ),
    ("jsonpath", scalar(Kind::JsonPath), &["$.secret", "$.a"]),
    ("xml", scalar(Kind::Xml), &["<a>secret</a>", "text"]),
    (
        "bytea",
        scalar(Kind::Bytea),
        &["", "a secret", r"\x00ff41", r"\000secret"],
    ),
    ("int2", scalar(Kind::Int2), &["0", "-32768", "32767", "45"]),
    (
        "int4",
        scalar(Kind::Int4),
        &["0", "-2147483648", "2147483647", "1250"],
    ),
    (
        "int8",
        scalar(Kind::Int8),
        &["0", "-9223372036854775808", "9223372036854775807", CARD],
    ),
    ("oid", scalar(Kind::Oid), &["0", "4294967295"]),
    (
        "numeric",
        scalar(Kind::Numeric),
        &[
            "0",
            "NaN",
            "Infinity",
            "-Infinity",
            CARD,
            "-12345.678",
            "0.00004",
            "99999999.5",
            "-0.5",
            "1e30",
            "1e-30",
            "4999.9999",
            "100000000",
            "12345678901234567890.123456789",
        ],
    ),
    (
        "numeric(12,2)",
        scalar(Kind::Numeric),
        &["1234.50", "-0.01"],
    ),
    (
        "float4",
        scalar(Kind::Float4),
        &["0", "1.5", "-1e30", "NaN", "Infinity", "3.4e38"],
    ),
    (
        "float8",
        scalar(Kind::Float8),
        &[
            "0",
            "1.5",
            "1e300",
            "-12345.678",
            "NaN",
            "-Infinity",
            CARD,
            "1e-300",
        ],
    ),
    ("money", scalar(Kind::Money), &["12.34"]),
    ("bool", scalar(Kind::Bool), &["t", "f"]),
    (
        "uuid",
        scalar(Kind::Uuid),
        &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    ),
    (
        "date",
        scalar(Kind::Date),
        &[
            "2024-02-29",
            "1999-12-31",
            "0044-03-15 BC",
            "4714-11-24 BC",
            "infinity",
            "-infinity",
            "12345-06-07",
            "0001-01-01 BC",
            "0001-01-01",
        ],
    ),
    ("time", scalar(Kind::Time), &["12:34:56.789"]),
    ("timetz", scalar(Kind::TimeTz), &["12:34:56.789+02"]),
    (
        "timestamp",
        scalar(Kind::Timestamp),
        &[
            "2024-02-29 23:59:59.999999",
            "1999-12-31 00:00:00",
            "0044-03-15 12:00:00.5 BC",
            "infinity",
            "294276-12-31 23:59:59.999999",
            "4714-11-24 00:00:00 BC",
        ],
    ),
    (
        "timestamptz",
        scalar(Kind::TimestampTz),
        &[
            "2024-07-01 00:30:00+02",
            "2024-01-01 00:30:00+02",
            "1890-01-01 00:00:00+00",
            "-infinity",
            "1999-12-31 23:59:59.9-03:30",
        ],
    ),
    (
        "interval",
        scalar(Kind::Interval),
        &["1 mon -2 days 03:04:05.6"],
    ),
    (
        "inet",
        scalar(Kind::Inet),
        &["10.1.2.3", "10.1.2.3/8", "::1", "2001:db8::/32"],
    ),
    ("cidr", scalar(Kind::Cidr), &["10.0.0.0/8", "2001:db8::/32"]),
    ("macaddr", scalar(Kind::MacAddr), &["08:00:2b:01:02:03"]),
    (
        "macaddr8",
        scalar(Kind::MacAddr),
        &["08:00:2b:01:02:03:04:05"],
    ),
    ("bit(3)", scalar(Kind::Bit), &["101"]),
    ("varbit", scalar(Kind::Bit), &["10101"]),
    (
        "tsvector",
        scalar(Kind::TsVector),
        &["'secret':1A 'x':2,3", "'a'"],
    ),
    ("mood", scalar(Kind::Enum), &["sad", "secret"]),
    ("point", scalar(Kind::Opaque), &["(1,2)"]),
    ("pg_lsn", scalar(Kind::Opaque), &["16/B374D848"]),
    (
        "text[]",
        array(Kind::Text),
        &[
            "{}",
            "{a,NULL}",
            r#"{secret,"a \"secret\"","NULL","",NULL,"\\","{,}"}"#,
            "{{a,secret},{c,d}}",
            "[-1:0]={secret,x}",
        ],
    ),
    (
        "varchar(8)[]",
        array(Kind::VarChar).with_modifier(12),
        &["{secret,xxsecret}"],
    ),
    (
        "int8[]",
        array(Kind::Int8),
        &["{1,4111111111111111,NULL}", "{1}"],
    ),
    (
        "numeric[]",
        array(Kind::Numeric),
        &["{1.5,4111111111111111,NaN}"],
    ),
    (
        "bytea[]",
        array(Kind::Bytea),
        &[r#"{"\\x736563726574","\\x00"}"#],
    ),
    (
        "jsonb[]",
        array(Kind::Jsonb),
        &[r#"{"{\"a\": \"secret\"}","1"}"#],
    ),
    ("date[]", array(Kind::Date), &["{2024-01-02,NULL}"]),
    ("mood[]", array(Kind::Enum), &["{sad,secret}"]),
    (
        "pair",
        scalar(Kind::Record),
        &[
            r#"(1,"a, ""secret""","{secret,x}","(2,secret)")"#,
            "(4111111111111111,,,)",
            r#"(1,"\\",{},)"#,
        ],
    ),
    (
        "pair[]",
        array(Kind::Record),
        &[r#"{"(1,secret,,)",NULL,"(2,\"x y\",,)"}"#],
    ),
    (
        "int8range",
        shaped(Kind::Int8, Shape::Range),
        &["[1,5)", "empty", "(,)", "[1,4111111111111111)"],
    ),
    (
        "daterange",
        shaped(Kind::Date, Shape::Range),
        &["[2024-01-02,)"],
    ),
    (
        "int8multirange",
        shaped(Kind::Int8, Shape::Multirange),
        &["{}", "{[1,5),[7,8)}", "{[1,2),[5,4111111111111111)}"],
    ),
];

/// What one action made of a value.
#[derive(Debug, PartialEq)]
enum Made {
    Same,
    Null,
    Bytes(Vec<u8>),
}

fn made(value: &[u8], type_: ValueType, format: Format, action: &mut Action<'_>) -> Made {
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    match rewrite(value, type_, format, action, &mut scratch, &mut out) {
        Ok(Rewritten::Unchanged) => Made::Same,
        Ok(Rewritten::Null) => Made::Null,
        Ok(Rewritten::Value) => Made::Bytes(out),
        Err(error) => panic!("{type_:?}, {format:?}: {error}"),
    }
}

/// A session at a server that knows the types.
struct Reader {
    wire: Wire,
    _server: Server,
}

impl Reader {
    fn new() -> Self {
        let server = Server::start(Options {
            setup: TYPES.into(),
            ..Options::default()
        });
        let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
        let wire = Wire::login(address, SUPERUSER, "postgres", "");
        Self {
            wire,
            _server: server,
        }
    }

    /// The first value of the answer, with one parameter.
    fn ask(
        &mut self,
        sql: &str,
        parameter: (Format, &[u8]),
        result: Format,
    ) -> Result<Vec<u8>, Vec<Message>> {
        let code = |format| u16::from(format == Format::Binary).to_be_bytes();
        self.wire.parse("", sql);
        let mut body = vec![0, 0, 0, 1];
        body.extend(code(parameter.0));
        body.extend([0, 1]);
        body.extend(u32::try_from(parameter.1.len()).unwrap().to_be_bytes());
        body.extend(parameter.1);
        body.extend([0, 1]);
        body.extend(code(result));
        self.wire.send('B', &body);
        self.wire.execute("", 0);
        self.wire.sync();
        let messages = self.wire.until_ready();
        match messages.iter().find(|m| m.tag == 'D') {
            Some(row) => Ok(row.body[6..].to_vec()),
            None => Err(messages),
        }
    }

    /// What the server reads a value as.
    fn reads(&mut self, name: &str, format: Format, value: &[u8]) -> String {
        let sql = format!("select $1::{name}::text");
        let sql = if format == Format::Text {
            format!("select $1::text::{name}::text")
        } else {
            sql
        };
        let read = self.ask(&sql, (format, value), Format::Text);
        let read = read.unwrap_or_else(|messages| {
            panic!("{name} {format:?} {:?}: {messages:?}", value.escape_ascii())
        });
        String::from_utf8(read).unwrap()
    }
}

/// Names of actions, and how each is done.
const ACTIONS: &[&str] = &[
    "redact",
    "fixed:7",
    "fixed:2024-01-02",
    "fixed:happy",
    "stars",
    "hash",
    "round:0",
    "round:2",
    "round:5",
    "year",
    "month",
    "day",
    "hour",
    "edit",
];

fn act(name: &str, value: &[u8], type_: ValueType, format: Format) -> Made {
    let mut action = match name {
        "redact" => Action::Redact,
        "stars" => Action::Replace(&mut Stars),
        "hash" => Action::Digest(&digest),
        "year" => Action::Truncate(Unit::Year),
        "month" => Action::Truncate(Unit::Month),
        "day" => Action::Truncate(Unit::Day),
        "hour" => Action::Truncate(Unit::Hour),
        "edit" => Action::Edit(&mut Finder),
        other => match other.split_once(':').unwrap() {
            ("fixed", text) => Action::Fixed(text),
            (_, exponent) => Action::Round {
                exponent: exponent.parse().unwrap(),
            },
        },
    };
    made(value, type_, format, &mut action)
}

/// Whether the texts of an array or a row mean the same to the server is for it to say; only the
/// formats may differ in how a value is left out.
fn check(reader: &mut Reader, sample: &Sample, clear: &str) -> usize {
    let (name, type_, _) = sample;
    let sql = format!("select $1::text::{name}");
    let mut of = |format| {
        reader
            .ask(&sql, (Format::Text, clear.as_bytes()), format)
            .unwrap()
    };
    let (text, binary) = (of(Format::Text), of(Format::Binary));
    let mut written = 0;
    for action in ACTIONS {
        let context = format!("{action} of {name} {clear}");
        // What the labels of an enum are is not known here.
        if type_.kind == Kind::Enum && action.starts_with("fixed") && *action != "fixed:happy" {
            continue;
        }
        let in_text = act(action, &text, *type_, Format::Text);
        let in_binary = act(action, &binary, *type_, Format::Binary);
        match (&in_text, &in_binary) {
            (Made::Bytes(text), Made::Bytes(binary)) => {
                let text = reader.reads(name, Format::Text, text);
                let binary = reader.reads(name, Format::Binary, binary);
                // The types of a row's fields are in its binary format alone, so that there an
                // array's element is edited and in text the array's text.
                if type_.kind != Kind::Record {
                    assert_eq!(text, binary, "{context}");
                }
                if *action == "edit" || *action == "redact" {
                    for read in [&text, &binary] {
                        assert!(!read.contains("secret"), "{context}: {read}");
                        assert!(!read.contains(CARD), "{context}: {read}");
                    }
                }
                written += 1;
            }
            (in_text, in_binary) => assert_eq!(in_text, in_binary, "{context}"),
        }
        if in_text == Made::Same {
            let is_clean = *action == "edit" && !clear.contains("secret") && !clear.contains(CARD);
            let is_infinite = ["NaN", "Infinity", "infinity"]
                .iter()
                .any(|word| clear.ends_with(word));
            assert!(is_clean || is_infinite, "{context} shows it");
        }
    }
    written
}

#[test]
fn both_formats_of_what_a_value_becomes_are_the_same_to_the_server() {
    let mut reader = Reader::new();
    let mut written = 0;
    for sample in SAMPLES {
        for clear in sample.2 {
            written += check(&mut reader, sample, clear);
        }
    }
    assert!(written > 300, "{written} values were written");
}

#[test]
fn a_type_is_what_the_catalogue_says() {
    let mut reader = Reader::new();
    let kinds: Vec<(&str, Kind)> = vec![
        ("text", Kind::Text),
        ("unknown", Kind::Text),
        ("refcursor", Kind::Text),
        ("varchar", Kind::VarChar),
        ("bpchar", Kind::BpChar),
        ("name", Kind::Name),
        ("char", Kind::Char),
        ("json", Kind::Json),
        ("jsonb", Kind::Jsonb),
        ("jsonpath", Kind::JsonPath),
        ("xml", Kind::Xml),
        ("bytea", Kind::Bytea),
        ("int2", Kind::Int2),
        ("int4", Kind::Int4),
        ("int8", Kind::Int8),
        ("oid", Kind::Oid),
        ("numeric", Kind::Numeric),
        ("float4", Kind::Float4),
        ("float8", Kind::Float8),
        ("money", Kind::Money),
        ("bool", Kind::Bool),
        ("uuid", Kind::Uuid),
        ("date", Kind::Date),
        ("time", Kind::Time),
        ("timetz", Kind::TimeTz),
        ("timestamp", Kind::Timestamp),
        ("timestamptz", Kind::TimestampTz),
        ("interval", Kind::Interval),
        ("inet", Kind::Inet),
        ("cidr", Kind::Cidr),
        ("macaddr", Kind::MacAddr),
        ("macaddr8", Kind::MacAddr),
        ("bit", Kind::Bit),
        ("varbit", Kind::Bit),
        ("tsvector", Kind::TsVector),
        ("record", Kind::Record),
    ];
    let kind_of = |name: &str| {
        let known = kinds.iter().find(|(known, _)| *known == name);
        known.map_or(Kind::Opaque, |(_, kind)| *kind)
    };
    let catalogue = reader.wire.query(
        "select t.oid, t.typname, coalesce(s.typname, ''),
           case when t.typcategory = 'A' and t.typelem <> 0 and t.typlen = -1
                     and t.typsubscript::text = 'array_subscript_handler' then 'array'
                when t.typtype = 'r' then 'range' when t.typtype = 'm' then 'multirange'
                else 'scalar' end
         from pg_type t
         left join pg_range r on t.oid in (r.rngtypid, r.rngmultitypid)
         left join pg_type s on s.oid = coalesce(r.rngsubtype, t.typelem)
         where t.typnamespace = 'pg_catalog'::regnamespace and t.oid < 10000",
    );
    let mut known = 0;
    for row in catalogue.iter().filter(|m| m.tag == 'D') {
        let row: Vec<String> = row.columns().into_iter().flatten().collect();
        let [oid, name, inner, shape] = row.as_slice() else {
            panic!("{row:?}");
        };
        let found = ValueType::of(oid.parse().unwrap());
        let (kind, expected_shape) = match shape.as_str() {
            // What the array is of may be no type of ours, and so is the array.
            "array" => (kind_of(inner), Shape::Array),
            "range" => (kind_of(inner), Shape::Range),
            "multirange" => (kind_of(inner), Shape::Multirange),
            // A pseudo-type, which is no array to the catalogue.
            _ if name == "_record" => (Kind::Record, Shape::Array),
            _ => (kind_of(name), Shape::Scalar),
        };
        if found.kind == Kind::Opaque {
            let is_rare =
                kind == Kind::Opaque || ["int2vector", "oidvector"].contains(&name.as_str());
            assert!(is_rare, "{name} is {kind:?}");
            continue;
        }
        assert_eq!((found.kind, found.shape), (kind, expected_shape), "{name}");
        known += 1;
    }
    assert!(known > 75, "{known} types are known");
}

/// Asks the server for values, and for what it makes of each itself.
fn check_against_the_server(
    reader: &mut Reader,
    values: &str,
    name: &str,
    expected: &str,
    action: &str,
) {
    let kind = ValueType::of(
        reader
            .wire
            .value(&format!("select '{name}'::regtype::oid"))
            .parse()
            .unwrap(),
    );
    let sql = format!("select v::{name}, ({expected})::{name} from ({values}) as t(v)");
    let rows = reader.wire.query(&sql);
    let rows: Vec<&Message> = rows.iter().filter(|m| m.tag == 'D').collect();
    assert!(rows.len() > 100, "{} rows", rows.len());
    for row in rows {
        let columns: Vec<String> = row.columns().into_iter().flatten().collect();
        let Made::Bytes(found) = act(action, columns[0].as_bytes(), kind, Format::Text) else {
            panic!("{action} of {} {name}", columns[0]);
        };
        let found = String::from_utf8(found).unwrap();
        let same = format!("select $1::text::{name} = '{}'::{name}", columns[1]);
        let same = reader.ask(&same, (Format::Text, found.as_bytes()), Format::Text);
        assert_eq!(
            same.unwrap(),
            b"t",
            "{action} of {} {name}: {found}, and the server says {}",
            columns[0],
            columns[1]
        );
    }
}

#[test]
fn rounding_and_truncation_are_the_servers_own() {
    let mut reader = Reader::new();
    reader.wire.query("select setseed(0.25)");
    let integers = "select (random() * 2000000000 - 1000000000)::int8 from generate_series(1, 150)";
    let numerics = "select ((random() - 0.5) * 10 ^ (random() * 12))::numeric \
                    from generate_series(1, 150)";
    for exponent in [0, 1, 4] {
        let expected = format!("round(v::numeric, -{exponent})");
        let action = format!("round:{exponent}");
        check_against_the_server(&mut reader, integers, "int8", &expected, &action);
        check_against_the_server(&mut reader, integers, "int4", &expected, &action);
        check_against_the_server(&mut reader, numerics, "numeric", &expected, &action);
    }
    let times = "select '2000-01-01'::timestamptz + (random() - 0.5) * '4000 years'::interval \
                 from generate_series(1, 150)";
    for zone in ["UTC", "America/St_Johns", "Europe/Amsterdam"] {
        reader.wire.query(&format!("set timezone = '{zone}'"));
        for unit in ["year", "month", "day", "hour"] {
            let in_zone = format!("date_trunc('{unit}', v, 'UTC')");
            check_against_the_server(&mut reader, times, "timestamptz", &in_zone, unit);
            let plain = format!("date_trunc('{unit}', v::timestamp)");
            check_against_the_server(&mut reader, times, "timestamp", &plain, unit);
        }
        let month = "date_trunc('month', v::date::timestamp)";
        check_against_the_server(&mut reader, times, "date", month, "month");
    }
    // Another style is no ISO 8601, and nothing is shown of it.
    let value = reader
        .wire
        .query("set datestyle = 'SQL, DMY'; select '2024-05-06'::date");
    let row = value.iter().find(|m| m.tag == 'D').unwrap();
    let value = row.columns()[0].clone().unwrap();
    assert_eq!(value, "06/05/2024");
    let date = scalar(Kind::Date);
    assert_eq!(
        act("year", value.as_bytes(), date, Format::Text),
        Made::Null
    );
}

/// Edits the texts of both columns that are looked at; the first passes.
struct Masked(Format);

impl CopyFields for Masked {
    fn looks_at(&self, column: usize) -> bool {
        column > 0
    }

    fn field(&mut self, column: usize, value: &[u8], out: &mut Vec<u8>) -> Rewritten {
        let type_ = [scalar(Kind::Int4), scalar(Kind::Text), scalar(Kind::Int8)][column];
        let mut finder = Finder;
        let mut action = Action::Edit(&mut finder);
        let mut scratch = Scratch::default();
        rewrite(value, type_, self.0, &mut action, &mut scratch, out).unwrap()
    }
}

#[test]
fn rewritten_copy_data_is_read_back_by_the_server() {
    let mut reader = Reader::new();
    let wire = &mut reader.wire;
    wire.query(
        "create table clear (id int4, t text, n int8);
         insert into clear values (1, 'plain', 1), (2, 'a secret', 4111111111111111),
           (3, E'tab\\t secret\\nline \\\\ \\b\\f\\r\\v \"q\" ''s'' , ; |', null), (4, null, 4),
           (5, '', 5), (6, E'\\\\N', 6), (7, 'NULL', 7), (8, E'\\\\.', 8), (9, 'żółw secret', 9);
         create table expected as select id, replace(t, 'secret', '[x]') as t,
           nullif(n, 4111111111111111) as n from clear;
         create table masked (like clear)",
    );
    let csv = |delimiter, quote, escape, null: &[u8], header| CopyFormat::Csv {
        delimiter,
        quote,
        escape,
        null: null.into(),
        header,
    };
    let cases = [
        ("", CopyFormat::text()),
        (
            "(delimiter '|', null 'NIL', header)",
            CopyFormat::Text {
                delimiter: b'|',
                null: (*b"NIL").into(),
                header: true,
            },
        ),
        ("(format csv)", CopyFormat::csv()),
        (
            "(format csv, delimiter ';', quote '''', escape '\\', null 'NULL', header)",
            csv(b';', b'\'', b'\\', b"NULL", true),
        ),
        (
            "(format csv, force_quote *)",
            csv(b',', b'"', b'"', b"", false),
        ),
        (
            "(format csv, delimiter E'\\t', escape '$')",
            csv(b'\t', b'"', b'$', b"", false),
        ),
        ("(format binary)", CopyFormat::Binary),
    ];
    for (options, format) in cases {
        let back = options.replace(", force_quote *", "");
        let sent = wire.query(&format!("copy clear to stdout {options}"));
        let mut fields = Masked(if format == CopyFormat::Binary {
            Format::Binary
        } else {
            Format::Text
        });
        let mut rewriter = CopyRewriter::new(format, 3, 1 << 20);
        wire.send('Q', &terminated(&format!("copy masked from stdin {back}")));
        let mut messages = 0;
        for data in sent.iter().filter(|m| m.tag == 'd') {
            let mut out = Vec::new();
            rewriter.rewrite(&data.body, &mut fields, &mut out).unwrap();
            assert!(!out.is_empty(), "{options}: a row stays a message");
            wire.send('d', &out);
            messages += 1;
        }
        rewriter.finish().unwrap();
        assert!(messages >= 9, "{options}: {messages}");
        wire.send('c', &[]);
        let outcome = wire.until_ready();
        assert!(
            outcome.iter().all(|m| m.tag != 'E'),
            "{options}: {outcome:?}"
        );
        let different = "select count(*) from (
            (table masked except table expected) union all (table expected except table masked)) d";
        assert_eq!(wire.value(different), "0", "{options}");
        assert_eq!(wire.value("select count(*) from masked"), "9", "{options}");
        wire.query("truncate masked");
    }
}
