//! What sessions carry: two-phase commit, types of extensions, values of up to a gigabyte.

use std::fs;

use crate::appliance::{Appliance, Setup, login_directly, orders_server, orders_server_with};
use crate::postgres::Options;
use crate::wire::{Message, Wire, error, tags, terminated};

#[test]
fn a_transaction_is_prepared_in_one_session_and_ended_in_another() {
    let server = orders_server_with(Options {
        configuration: vec![("max_prepared_transactions", "5".into())],
        ..Options::default()
    });
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    let appliance = Appliance::start(&setup);
    for (number, end, rows) in [(2001, "commit", "1"), (2002, "rollback", "0")] {
        let gid = format!("it's \\ {number}");
        let literal = gid.replace('\'', "''");
        let mut first = appliance.login("claude", "analysts");
        first.query("begin");
        first.query(&format!(
            "insert into customers values ({number}, 'two-phase')"
        ));
        let prepared = first.query(&format!("prepare transaction '{literal}'"));
        assert_eq!(tags(&prepared), "CZ", "{prepared:?}");
        assert_eq!(prepared.last().unwrap().status(), 'I');
        first.send('X', &[]);
        drop(first);

        let mut second = appliance.login("claude", "analysts");
        let open = "select gid from pg_prepared_xacts";
        assert_eq!(second.value(open), gid);
        let count = format!("select count(*) from customers where id = {number}");
        assert_eq!(second.value(&count), "0");
        let ended = second.query(&format!("{end} prepared '{literal}'"));
        assert_eq!(tags(&ended), "CZ", "{ended:?}");
        assert_eq!(second.value(&count), rows);
        let again = second.query(&format!("{end} prepared '{literal}'"));
        assert_eq!(error(&again).sqlstate(), "42704");
    }
}

const TYPES: &str = r#"
create extension hstore; create extension ltree; create extension citext; create extension cube;
create extension isn; create extension seg; create extension intarray;
create type mood as enum ('sad', 'o''k', 'happy');
create domain positive as int check (value > 0);
create type pair as (a positive, b text, c mood[]);
create type span as range (subtype = float8);
create table typed (
    h hstore, l ltree, q lquery, c citext, k cube, i isbn13, s seg, m mood, d positive, p pair,
    r span, mr span_multirange, ms mood[], ps pair[], hs hstore[], n numeric, j jsonb, t tsvector,
    g point[], b bit varying, x xml, u uuid, net inet, mac macaddr8, iv interval, lsn pg_lsn,
    id int generated always as identity
);
insert into typed values (
    'a=>1, "b c"=>NULL', 'Top.Science', 'Top.*{1,2}.x', 'CaSe', '(1,2),(3,4)', '978-0-393-04002-9',
    '1.0 .. 2', 'o''k', 7, row(3, 'text, "quoted"', '{happy,sad}'), '[1.5,2.5)', '{[1,2),[3,4)}',
    '{sad,NULL}', array[row(1, NULL, NULL)::pair], array['x=>y'::hstore], 'NaN', '{"k": [1, null]}',
    'a fat cat'::tsvector, '{"(1,2)","(3,4)"}', '101', '<a>b</a>', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    '::1/64', '08:00:2b:01:02:03:04:05', '1 mon -2 days 03:04:05.6', '16/B374D848'
);
insert into typed (h) values (null);
grant all on typed to svc; grant usage on type mood, positive, pair, span to svc;
"#;

/// Reads a column of `typed` in both formats, and sends what came back in binary as a parameter.
fn conversation(wire: &mut Wire, column: &str) -> Vec<Message> {
    let mut said = wire.query(&format!("select {column} from typed order by id"));
    wire.parse("", &format!("select {column} from typed order by id"));
    bind_binary(wire, &[]);
    wire.describe_portal("");
    wire.execute("", 0);
    wire.sync();
    let binary = wire.until_ready();
    let value = binary.iter().find(|m| m.tag == 'D');
    let value = value.map(|row| row.body[6..].to_vec());
    said.extend(binary);
    if let Some(value) = value {
        wire.parse(
            "",
            &format!("update typed set {column} = $1 where id = 1 returning {column}"),
        );
        bind_binary(wire, &[&value]);
        wire.execute("", 0);
        wire.sync();
        said.extend(wire.until_ready());
    }
    said
}

/// All values and results in binary.
fn bind_binary(wire: &mut Wire, values: &[&[u8]]) {
    let mut body = [terminated(""), terminated("")].concat();
    body.extend([0, 1, 0, 1]);
    body.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        body.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(*value);
    }
    body.extend([0, 1, 0, 1]);
    wire.send('B', &body);
}

#[test]
fn values_of_extension_and_user_defined_types_pass_unharmed() {
    let server = orders_server();
    server.psql_in("orders", TYPES);
    let appliance = Appliance::start(&Setup::for_server(&server));
    let (mut direct, mut through) = (
        login_directly(&server),
        appliance.login("claude", "analysts"),
    );
    let columns = direct.value(
        "select string_agg(attname, ' ' order by attnum) from pg_attribute
         where attrelid = 'typed'::regclass and attnum > 0 and attname <> 'id'",
    );
    let mut written = 0;
    for column in columns.split(' ') {
        let (expected, found) = (
            conversation(&mut direct, column),
            conversation(&mut through, column),
        );
        assert_eq!(found, expected, "{column}");
        written += usize::from(
            expected
                .iter()
                .any(|m| m.tag == 'C' && m.body == b"UPDATE 1\0"),
        );
    }
    // A few of the types have no binary form, and say so in the same way.
    assert!(written > 18, "{written}");
}

/// Bytes of the large values below. `SALLYPORT_LONG=1` takes what PostgreSQL has at most.
fn large() -> usize {
    match std::env::var_os("SALLYPORT_LONG") {
        Some(_) => 1_000_000_000,
        None => 150_000_000,
    }
}

/// Bytes by which memory may grow for any value: buffers of both directions, not the value.
const GROWTH_MAX: usize = 64 << 20;

/// An appliance of which the most memory that it ever had is known.
pub struct Measured {
    pub appliance: Appliance,
    before: usize,
}

impl Measured {
    pub fn new(appliance: Appliance) -> Self {
        // What sessions need in any case is there by now.
        appliance.login("claude", "analysts").value("select 1");
        let before = peak(&appliance);
        Self { appliance, before }
    }

    pub fn check(&self) {
        let growth = peak(&self.appliance) - self.before;
        assert!(growth < GROWTH_MAX, "memory grew by {growth} bytes");
    }
}

fn peak(appliance: &Appliance) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", appliance.process_id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Reads to ReadyForQuery: the tags, and the bytes of the longest message, all `x` but its head.
fn read_large(wire: &mut Wire) -> (String, usize) {
    let (mut tags, mut longest) = (String::new(), 0);
    loop {
        let (tag, bytes) = wire.receive_counting(b'x');
        if !"NSA".contains(tag) {
            tags.push(tag);
        }
        longest = longest.max(bytes);
        if tag == 'Z' {
            return (tags, longest);
        }
    }
}

#[test]
fn a_large_value_is_read_in_flat_memory() {
    let server = orders_server();
    let measured = Measured::new(Appliance::start(&Setup::for_server(&server)));
    let mut wire = measured.appliance.login("claude", "analysts");
    let large = large();
    wire.send('Q', &terminated(&format!("select repeat('x', {large})")));
    assert_eq!(read_large(&mut wire), ("TDCZ".to_owned(), large));
    let copy = format!("copy (select repeat('x', {large})) to stdout");
    wire.send('Q', &terminated(&copy));
    assert_eq!(read_large(&mut wire), ("HdcCZ".to_owned(), large));
    assert_eq!(wire.value("select 1"), "1");
    measured.check();
}

#[test]
fn a_large_value_is_written_in_flat_memory() {
    let server = orders_server();
    let measured = Measured::new(Appliance::start(&Setup::for_server(&server)));
    let mut wire = measured.appliance.login("claude", "analysts");
    wire.query("create table large (v text)");
    let large = large();
    let stored = "select length(v) || ' ' || (v = repeat('x', length(v))) from large";

    // One message of CopyData for all of it.
    wire.send('Q', &terminated("copy large from stdin"));
    assert_eq!(wire.receive().unwrap().tag, 'G');
    wire.send_large('d', b"", b'x', large, b"\n");
    wire.send('c', &[]);
    assert_eq!(tags(&wire.until_ready()), "CZ");
    assert_eq!(wire.value(stored), format!("{large} true"));
    measured.check();

    // One Bind.
    wire.query("delete from large");
    wire.parse("", "insert into large values ($1)");
    let length = i32::try_from(large).unwrap();
    let head = [&b"\0\0\0\0\0\x01"[..], &length.to_be_bytes()].concat();
    wire.send_large('B', &head, b'x', large, &[0, 0]);
    wire.execute("", 0);
    wire.sync();
    assert_eq!(tags(&wire.until_ready()), "12CZ");
    assert_eq!(wire.value(stored), format!("{large} true"));
    measured.check();
}
