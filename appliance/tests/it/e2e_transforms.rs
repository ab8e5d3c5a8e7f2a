//! Every transform through the appliance, in both formats, by the type of its column.

use crate::appliance::{Appliance, Setup, login_directly, orders_server};
use crate::wire::{Message, Wire, terminated};

const POLICY: &str = r#"
[[rule]]
name    = "analysts-read"
groups  = ["analysts"]
targets = ["orders"]
allow   = { statements = ["read", "session", "copy-to"] }

[[mask]]
name    = "numbers-end"
targets = ["orders"]
columns = ["people.card", "people.small"]
with    = "last4"

[[mask]]
name    = "names-begin"
targets = ["orders"]
columns = ["people.name", "people.code"]
with    = "first:1"

[[mask]]
name    = "joinable"
targets = ["orders"]
columns = ["people.login", "people.id", "logins.login"]
with    = "hash"

[[mask]]
name    = "rough-numbers"
targets = ["orders"]
columns = ["people.salary", "people.points", "people.card"]
with    = "round:1000"

[[mask]]
name    = "rough-times"
targets = ["orders"]
columns = ["people.born", "people.seen"]
with    = "truncate:year"

[[mask]]
name    = "nothing"
targets = ["orders"]
columns = ["people.doc", "people.raw", "people.grade", "people.tags", "people.mood", "people.short"]
with    = "redact"

[[mask]]
name    = "other"
targets = ["orders"]
columns = ["people.level", "people.note"]
with    = "fixed:0"

[[mask]]
name    = "missing"
targets = ["orders"]
columns = ["people.gone"]
with    = "null"
"#;

const PEOPLE: &str = "
create type mood as enum ('sad', 'happy');
create table people (
    n int primary key, small text, card text, name varchar(12), code char(6), login text, id uuid,
    salary numeric(10, 2), points int8, born date, seen timestamptz, doc jsonb, raw bytea,
    grade int4, tags text[], mood mood, short varchar(4), level int4, note text, gone text);
insert into people values (
    1, '4711', '4111-1111-1111-1234', 'Margaret', 'AB12', 'margaret', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    54321.99, -1499, '1984-05-06', '2024-07-01 00:30:00+02', '{\"a\": 1}', 'secret', 3, '{a,b}',
    'sad', 'abcd', 7, 'secret', 'secret');
create table logins (n int, login varchar(40));
insert into logins values (1, 'margaret'), (2, 'other');
alter table people owner to svc; alter table logins owner to svc;
";

/// What stands for each column to which a mask shows something, or nothing; `None` for NULL.
const EXPECTED: &[(&str, &str, Option<&str>)] = &[
    ("n", "int4", Some("1")),
    ("small", "text", Some("**11")),
    // Two masks: what each hides, both together could tell.
    ("card", "text", Some("[redacted]")),
    ("name", "varchar", Some("M*******")),
    ("code", "bpchar", Some("A***  ")),
    ("salary", "numeric", Some("54000")),
    ("points", "int8", Some("-1000")),
    ("born", "date", Some("1984-01-01")),
    ("seen", "timestamptz", Some("2024-01-01 00:00:00+00")),
    ("doc", "jsonb", Some("\"[redacted]\"")),
    ("raw", "bytea", Some("\\x5b72656461637465645d")),
    ("grade", "int4", None),
    ("tags", "text[]", None),
    ("mood", "text", None),
    ("short", "varchar", Some("****")),
    ("level", "int4", Some("0")),
    ("note", "text", Some("0")),
    ("gone", "text", None),
];

/// The values of the first row, as they came.
fn row(messages: &[Message]) -> Vec<Option<Vec<u8>>> {
    let row = messages.iter().find(|message| message.tag == 'D');
    let mut rest = &row.unwrap_or_else(|| panic!("{messages:?}")).body[2..];
    let mut values = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        values.push(length.map(|length| behind[..length].to_vec()));
        rest = &behind[length.unwrap_or(0)..];
    }
    values
}

fn ask_binary(wire: &mut Wire, sql: &str) -> Vec<Option<Vec<u8>>> {
    wire.parse("", sql);
    wire.send('B', b"\0\0\0\0\0\0\0\x01\0\x01");
    wire.execute("", 0);
    wire.sync();
    row(&wire.until_ready())
}

/// What a server reads a binary value as.
fn read(direct: &mut Wire, type_name: &str, value: &[u8]) -> String {
    direct.parse("", &format!("select $1::{type_name}::text"));
    let mut body = b"\0\0\0\x01\0\x01\0\x01".to_vec();
    body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
    body.extend(value);
    body.extend(b"\0\0");
    direct.send('B', &body);
    direct.execute("", 0);
    direct.sync();
    let read = row(&direct.until_ready());
    String::from_utf8(read[0].clone().unwrap()).unwrap()
}

#[test]
fn each_transform_shows_what_it_says_in_text_and_in_binary() {
    let server = orders_server();
    server.psql_in("orders", PEOPLE);
    let mut setup = Setup::for_server(&server);
    setup.policy = POLICY;
    let appliance = Appliance::start(&setup);
    let mut wire = appliance.login("claude", "analysts");
    let mut direct = login_directly(&server);
    direct.query("set timezone = 'UTC'");
    let columns: Vec<&str> = EXPECTED.iter().map(|(column, _, _)| *column).collect();
    let sql = format!("select {} from people", columns.join(", "));
    let texts = row(&wire.query(&sql));
    let binaries = ask_binary(&mut wire, &sql);
    assert_eq!(texts.len(), EXPECTED.len());
    for (index, (column, type_name, expected)) in EXPECTED.iter().enumerate() {
        let text = texts[index].clone();
        let text = text.map(|text| String::from_utf8(text).unwrap());
        assert_eq!(text.as_deref(), *expected, "{column} in text");
        let binary = binaries[index].clone();
        // The padding of `char(n)` does not survive the cast to text.
        let expected = expected.map(|expected| match *type_name {
            "bpchar" => expected.trim_end(),
            _ => expected,
        });
        let binary = binary.map(|binary| read(&mut direct, type_name, &binary));
        assert_eq!(binary.as_deref(), expected, "{column} in binary");
    }
}

#[test]
fn hashes_join_and_tell_nothing_else() {
    let server = orders_server();
    server.psql_in("orders", PEOPLE);
    let mut setup = Setup::for_server(&server);
    setup.policy = POLICY;
    let mut appliance = Appliance::start(&setup);
    let hashes = |wire: &mut Wire| {
        let one = wire.value("select login from people");
        let two = wire.query("select login from logins order by n");
        let two: Vec<String> = two
            .iter()
            .filter(|message| message.tag == 'D')
            .map(|message| message.columns()[0].clone().unwrap())
            .collect();
        let id = wire.value("select id from people");
        (one, two, id)
    };
    let mut wire = appliance.login("claude", "analysts");
    let (login, logins, id) = hashes(&mut wire);
    assert_eq!(login.len(), 32);
    assert!(login.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(logins[0], login, "text and varchar join");
    assert_ne!(logins[1], login);
    assert_eq!((id.len(), &id[14..15]), (36, "8"));
    let binary = ask_binary(&mut wire, "select login, id from people");
    assert_eq!(binary[0].as_deref(), Some(login.as_bytes()));
    let hex: String = binary[1]
        .iter()
        .flatten()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, id.replace('-', ""));
    // A dictionary of guesses beside them gives no digests to compare with.
    let derived = wire.query("select login from people union all select 'margaret'");
    let derived = format!("{derived:?}");
    assert!(!derived.contains(&login), "{derived}");
    drop(wire);
    appliance.kill();
    appliance.resume();
    let mut wire = appliance.login("claude", "analysts");
    assert_eq!(hashes(&mut wire), (login, logins, id), "over a restart");
}

#[test]
fn what_reveals_is_redacted_where_the_column_is_not_shown_as_it_is() {
    let server = orders_server();
    server.psql_in("orders", PEOPLE);
    let mut setup = Setup::for_server(&server);
    setup.policy = POLICY;
    let appliance = Appliance::start(&setup);
    let mut wire = appliance.login("claude", "analysts");
    for sql in [
        "select left(name, 3) from people",
        "select name || '' from people",
        "select upper(login) from people",
        "select name from people union all select 'x'",
        "select small::varchar from people",
        "select coalesce(name, small) from people",
        "select max(login) from people",
    ] {
        let said = wire.query(sql);
        let values: Vec<String> = said
            .iter()
            .filter(|message| message.tag == 'D')
            .flat_map(|message| message.columns().into_iter().flatten())
            .collect();
        assert!(!values.is_empty(), "{sql}: {said:?}");
        assert!(
            values.iter().all(|value| value == "[redacted]"),
            "{sql}: {said:?}"
        );
    }
    wire.send('Q', &terminated("copy (select name from people) to stdout"));
    let copied = wire.until_ready();
    let shown = format!("{copied:?}");
    assert!(!shown.contains("Margaret"), "{shown}");
}
