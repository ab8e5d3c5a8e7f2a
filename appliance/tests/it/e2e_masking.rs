//! What comes back is masked before the agent sees it and before it is recorded, in whatever way it
//! comes.

use std::process::Command;

use crate::appliance::{Appliance, Setup, orders_server};
use crate::e2e_values::Measured;
use crate::postgres::{Server, binary};
use crate::wire::{Message, Wire, error, tags, terminated};

/// A test number of the scheme, which is no one's.
const CARD: &str = "4111111111111111";

/// The same with a wrong check digit: an order id.
const ORDER: &str = "4111111111111112";

const REDACTED: &str = "[redacted]";

/// Analysts see no cards, whatever column they are in.
const DETECTING: &str = r#"
[[rule]]
name    = "analysts-work"
groups  = ["analysts", "auditors"]
targets = ["orders"]
allow   = { statements = ["*"] }

[[rule]]
name    = "no-drop"
groups  = ["*"]
targets = ["*"]
deny    = { statements = ["drop"] }

[[mask]]
name    = "cards-anywhere"
targets = ["orders"]
except_groups = ["auditors"]
detect  = ["payment-card", "email"]
with    = "redact"
"#;

const NOTES: &str = "
create table notes (
    id int primary key, note text, doc jsonb, amount numeric, tags text[], raw bytea, big int8);
insert into notes values
    (1, 'order 4111111111111112 shipped', '{\"n\": 1}', 1.5, '{a,b}', 'clean', 7),
    (2, 'card 4111111111111111 on file', '{\"pan\": \"4111111111111111\", \"n\": 4111111111111111}',
     4111111111111111, '{x,\"4111 1111 1111 1111\"}', 'x 4111111111111111 y', 4111111111111111),
    (3, 'mail ada@example.com', 'null', 2, null, '', 8);
alter table notes owner to svc;
";

fn server() -> Server {
    let server = orders_server();
    server.psql_in("orders", NOTES);
    server
}

fn appliance(server: &Server, policy: &str) -> Appliance {
    let mut setup = Setup::for_server(server);
    setup.policy = policy;
    Appliance::start(&setup)
}

fn rows(messages: &[Message]) -> Vec<Vec<Option<String>>> {
    let rows = messages.iter().filter(|message| message.tag == 'D');
    rows.map(Message::columns).collect()
}

/// Whether any message shows a card: as digits, or as the bytes of a number in binary.
fn shows_a_card(messages: &[Message]) -> bool {
    let number: i64 = CARD.parse().unwrap();
    // Base 10,000, as numeric has it.
    let numeric: Vec<u8> = CARD
        .as_bytes()
        .chunks(4)
        .flat_map(|digits| {
            let digits: u16 = std::str::from_utf8(digits).unwrap().parse().unwrap();
            digits.to_be_bytes()
        })
        .collect();
    let hex: String = CARD.bytes().map(|byte| format!("{byte:02x}")).collect();
    let shapes = [
        CARD.as_bytes(),
        b"4111 1111 1111 1111",
        hex.as_bytes(),
        &number.to_be_bytes(),
        &numeric,
    ];
    messages.iter().any(|message| {
        shapes
            .iter()
            .any(|shape| message.body.windows(shape.len()).any(|part| part == *shape))
    })
}

#[test]
fn values_are_redacted_in_rows_and_in_the_recording() {
    let server = server();
    let appliance = appliance(&server, DETECTING);
    let mut wire = appliance.login("claude", "analysts");
    let heard = wire.query("select note, doc, amount, tags, big from notes order by id");
    assert_eq!(tags(&heard), "TDDDCZ");
    assert!(!shows_a_card(&heard));
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        rows(&heard),
        [
            vec![
                text(&format!("order {ORDER} shipped")),
                text("{\"n\": 1}"),
                text("1.5"),
                text("{a,b}"),
                text("7"),
            ],
            vec![
                text(&format!("card {REDACTED} on file")),
                text(&format!("{{\"n\": null, \"pan\": \"{REDACTED}\"}}")),
                None,
                text(&format!("{{x,{REDACTED}}}"))
                    .map(|tags| tags.replace(REDACTED, "\"[redacted]\"")),
                None,
            ],
            vec![
                text(&format!("mail {REDACTED}")),
                text("null"),
                text("2"),
                None,
                text("8"),
            ],
        ]
    );
    drop(wire);
    let recorded = appliance.everything_recorded();
    assert!(recorded.contains(ORDER) && recorded.contains(REDACTED));
    assert!(!recorded.contains(CARD) && !recorded.contains("ada@example.com"));

    // Somebody whom the mask is not about.
    let mut wire = appliance.login("eve", "auditors");
    let heard = wire.query("select note from notes where id = 2");
    assert_eq!(rows(&heard)[0][0], text(&format!("card {CARD} on file")));
}

/// Asks in the extended protocol for everything in binary, or text; the agent does not describe.
fn execute(wire: &mut Wire, sql: &str, format: u8) -> Vec<Message> {
    wire.parse("", sql);
    wire.send(
        'B',
        &[
            &terminated("")[..],
            &terminated(""),
            &[0, 0, 0, 0, 0, 1, 0, format],
        ]
        .concat(),
    );
    wire.execute("", 0);
    wire.sync();
    wire.until_ready()
}

#[test]
fn values_are_redacted_in_both_formats_and_undescribed() {
    let server = server();
    let appliance = appliance(&server, DETECTING);
    let mut wire = appliance.login("claude", "analysts");
    let sql = "select note, doc, amount, tags, raw, big, notes from notes order by id";
    for format in [0, 1] {
        let heard = execute(&mut wire, sql, format);
        assert_eq!(tags(&heard), "12DDDCZ", "{heard:?}");
        assert!(!shows_a_card(&heard), "format {format}");
    }
    // A clean row is the server's own, byte for byte.
    let mut direct = crate::appliance::login_directly(&server);
    let sql = "select * from notes where id = 1";
    for format in [0, 1] {
        let (expected, found) = (
            execute(&mut direct, sql, format),
            execute(&mut wire, sql, format),
        );
        assert_eq!(found, expected);
    }
    // In parts, and prepared once for several.
    wire.parse("s", "select note from notes order by id");
    for _ in 0..2 {
        wire.bind("p", "s", &[]);
        for _ in 0..3 {
            wire.execute("p", 1);
        }
        wire.sync();
    }
    let heard = [wire.until_ready(), wire.until_ready()].concat();
    assert_eq!(tags(&heard), "12DsDsDsZ2DsDsDsZ");
    assert!(!shows_a_card(&heard));
}

#[test]
fn a_failed_bind_and_a_portal_that_is_gone_are_answered_as_directly() {
    let server = server();
    let appliance = appliance(&server, DETECTING);
    let mut found = appliance.login("claude", "analysts");
    let mut expected = crate::appliance::login_directly(&server);
    let mut answers = Vec::new();
    for wire in [&mut expected, &mut found] {
        wire.parse("", "select $1::int");
        wire.bind("", "", &[Some("x")]);
        wire.execute("", 0);
        wire.sync();
        let failed = wire.until_ready();
        wire.parse("", "select 1");
        wire.bind("p", "", &[]);
        wire.sync();
        let bound = wire.until_ready();
        // The transaction is over, and the portal with it.
        wire.execute("p", 0);
        wire.sync();
        let gone = wire.until_ready();
        let states = [&failed, &gone].map(|answer| error(answer).sqlstate());
        let seen = [&failed, &bound, &gone].map(|answer| tags(answer));
        answers.push((states, seen, wire.value("select 1")));
    }
    assert_eq!(answers[1], answers[0]);
}

#[test]
fn values_are_redacted_in_errors_notices_and_notifications() {
    let server = server();
    let appliance = appliance(&server, DETECTING);
    let mut wire = appliance.login("claude", "analysts");
    let heard = wire.query("select note::int from notes where id = 2");
    assert_eq!(error(&heard).sqlstate(), "22P02");
    let message = error(&heard).field('M').unwrap();
    assert!(message.contains("card [redacted] on file"), "{message}");

    let create = format!("create table if not exists \"t {CARD}\" (a int)");
    wire.query(&create);
    let heard = wire.query(&create);
    let notice = heard.iter().find(|message| message.tag == 'N').unwrap();
    assert!(notice.field('M').unwrap().contains("t [redacted]"));

    wire.query("listen c");
    server.psql_in("orders", &format!("notify c, 'paid by {CARD}'"));
    let heard = wire.query("select 1");
    let notified = heard.iter().find(|message| message.tag == 'A');
    let notified = notified.cloned().unwrap_or_else(|| wire.receive().unwrap());
    let texts = notified.body[4..].to_vec();
    assert_eq!(texts, b"c\0paid by [redacted]\0");
}

#[test]
fn values_are_redacted_in_copied_data() {
    let server = server();
    let appliance = appliance(&server, DETECTING);
    let mut wire = appliance.login("claude", "analysts");
    let copied = |wire: &mut Wire, options: &str| {
        let heard = wire.query(&format!(
            "copy (select id, note, tags from notes order by id) to stdout {options}"
        ));
        assert!(!shows_a_card(&heard), "{options}");
        assert_eq!(
            tags(&heard).replace('d', ""),
            "HcCZ",
            "{options}: {heard:?}"
        );
        let data = heard.iter().filter(|message| message.tag == 'd');
        data.flat_map(|message| message.body.clone())
            .collect::<Vec<u8>>()
    };
    let text = String::from_utf8(copied(&mut wire, "")).unwrap();
    assert_eq!(
        text,
        format!(
            "1\torder {ORDER} shipped\t{{a,b}}\n2\tcard [redacted] on file\t{{x,\"[redacted]\"}}\n\
             3\tmail [redacted]\t\\N\n"
        )
    );
    let csv = String::from_utf8(copied(&mut wire, "(format csv, header)")).unwrap();
    assert!(csv.starts_with("id,note,tags\n1,order"), "{csv}");
    assert!(csv.contains("2,\"card [redacted] on file\","), "{csv}");
    let binary = copied(&mut wire, "(format binary)");
    let shown = String::from_utf8_lossy(&binary).into_owned();
    assert!(shown.contains("card **************** on file"), "{shown}");
}

#[test]
fn what_the_agent_says_is_recorded_without_values_and_runs_with_them() {
    let server = server();
    let appliance = appliance(&server, DETECTING);
    let mut wire = appliance.login("claude", "analysts");
    let found = wire.query(&format!("select id from notes where note like '%{CARD}%'"));
    assert_eq!(rows(&found), [[Some("2".to_owned())]]);
    wire.parse(
        "",
        "select id from notes where note = 'card ' || $1 || ' on file'",
    );
    wire.bind("", "", &[Some(CARD)]);
    wire.execute("", 0);
    wire.sync();
    assert_eq!(tags(&wire.until_ready()), "12DCZ");
    wire.query("create temp table t (v text)");
    wire.send('Q', &terminated("copy t from stdin"));
    assert_eq!(wire.receive().unwrap().tag, 'G');
    wire.send('d', format!("{CARD}\n").as_bytes());
    // Too long to be held, with a value at the end.
    let (fill, tail) = (3_000_000, format!(" {CARD}\n"));
    wire.send_large('d', b"", b'x', fill, tail.as_bytes());
    wire.send('c', &[]);
    assert_eq!(tags(&wire.until_ready()), "CZ");
    let count = format!("select count(*) from t where v like '%{CARD}'");
    assert_eq!(wire.value(&count), "2");
    let refused = wire.query(&format!("drop table notes; select '{CARD}'"));
    assert_eq!(tags(&refused), "EZ");
    drop(wire);
    let recorded = appliance.everything_recorded();
    assert!(recorded.contains("where note like '%***%'"));
    assert!(!recorded.contains(CARD));
    let hex: String = CARD.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(!recorded.contains(&hex));
}

#[test]
fn stock_clients_decode_what_is_masked() {
    let server = server();
    let appliance = appliance(&server, DETECTING);
    let token = appliance.token("claude", "analysts");
    let output = Command::new(binary("psql"))
        .args(["-X", "-A", "-t", "-c", "select note from notes order by id"])
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", appliance.address().port().to_string())
        .env("PGUSER", "claude")
        .env("PGDATABASE", "orders")
        .env("PGSSLMODE", "prefer")
        .env("PGPASSWORD", &token)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        said,
        format!("order {ORDER} shipped\ncard {REDACTED} on file\nmail {REDACTED}\n"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_value_in_a_field_of_any_length_is_filled_in_flat_memory() {
    let server = server();
    let measured = Measured::new(appliance(&server, DETECTING));
    let mut wire = measured.appliance.login("claude", "analysts");
    // More than the memory that a value may take.
    let half = 35_000_000;
    let sql = format!("select repeat('x', {half}) || ' {CARD} ' || repeat('x', {half}), 'y'");
    for copy in [false, true] {
        let sql = if copy {
            format!("copy ({sql}) to stdout")
        } else {
            sql.clone()
        };
        wire.send('Q', &terminated(&sql));
        let (mut stars, mut filled, mut tags) = (0, 0, String::new());
        loop {
            // Ones are the card's, and stars what stands for it.
            let (tag, ones, others, xs) = receive_counting(&mut wire);
            tags.push(tag);
            if tag == 'D' || tag == 'd' {
                assert_eq!(ones, 0);
                stars += others;
                filled += xs;
            }
            if tag == 'Z' {
                break;
            }
        }
        assert_eq!((stars, filled), (CARD.len(), 2 * half), "{tags}");
    }
    measured.check();
}

/// The tag of the next message, and how many `1`, `*` and `x` its body has.
fn receive_counting(wire: &mut Wire) -> (char, usize, usize, usize) {
    let (tag, counts) = wire.receive_counting_all(b"1*x");
    (tag, counts[0], counts[1], counts[2])
}

/// Analysts see the last digits of cards and nothing of names; they may not search by them.
const BY_COLUMN: &str = r#"
[[rule]]
name    = "analysts-work"
groups  = ["analysts", "auditors"]
targets = ["orders"]
allow   = { statements = ["*"] }

[[mask]]
name    = "cards"
targets = ["orders"]
except_groups = ["auditors"]
columns = ["customers.card_number"]
with    = "last4"
deny_predicates = true

[[mask]]
name    = "names"
targets = ["orders"]
except_groups = ["auditors"]
columns = ["customers.name"]
with    = "redact"

[[mask]]
name    = "misspelt"
targets = ["orders"]
except_groups = ["auditors"]
columns = ["customers.nmae"]
with    = "redact"
"#;

/// The planted values, of which nothing may be seen.
const CANARY: &str = "canaryperson";

fn masked_appliance(server: &Server) -> Appliance {
    server.psql_in(
        "orders",
        "update customers set name = 'canaryperson-' || id;
         create view v as select id, upper(name) as loud, card_number as number from customers;
         alter view v owner to svc;
         create table other (id int, name text);
         insert into other values (1, 'open');
         alter table other owner to svc;",
    );
    appliance(server, BY_COLUMN)
}

/// What is said, in lower case, must not hold the canary.
fn shows_the_canary(messages: &[Message]) -> bool {
    messages.iter().any(|message| {
        let body = String::from_utf8_lossy(&message.body).to_lowercase();
        body.contains(CANARY) || body.contains("4000-0000-0000-0001")
    })
}

#[test]
fn masked_columns_are_masked_in_whatever_shape_they_are_shown() {
    let server = server();
    let appliance = masked_appliance(&server);
    let mut wire = appliance.login("claude", "analysts");
    let heard = wire.query("select * from customers where id = 1");
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        rows(&heard),
        [vec![text("1"), text(REDACTED), text("****-****-****-0001"),]],
        "{heard:?}"
    );
    // Columns of other tables stay.
    assert_eq!(wire.value("select name from other"), "open");
    let shapes = [
        "select name as n from customers where id = 1",
        "select c from customers c where id = 1",
        "select row_to_json(c) from customers c where id = 1",
        "select upper(name) || 'x', left(card_number, 12) from customers where id = 1",
        "with x as (select name n from customers) select n from x",
        "select n from (select name from customers where id = 1) s(n)",
        "select name from customers where id = 1 union all select name from other",
        "select array_agg(name), string_agg(card_number, ',') from customers",
        "select loud, number from v where id = 1",
        "select md5(name), name::bytea, reverse(name) from customers where id = 1",
        "select case when id = 1 then name end from customers where id = 1",
        "select max(name) over () from customers where id = 1",
        "update customers set id = id where id = 1 returning *",
        "table customers",
        "select to_jsonb(c) -> 'name' from customers c where id = 1",
        "prepare p as select name from customers where id = 1; execute p",
        "begin; declare c cursor for select name from customers; fetch 2 from c; commit",
        "copy customers to stdout",
        "copy (select name, card_number from customers) to stdout (format csv, header)",
        "copy customers to stdout (format binary)",
        "select name::int from customers where id = 1",
        "insert into customers (id, name) select 1, 'canaryperson-1'",
        "explain analyze select name from customers where id = 1",
    ];
    for sql in shapes {
        let heard = wire.query(sql);
        assert!(!shows_the_canary(&heard), "{sql}: {heard:?}");
    }
    for sql in &shapes[..15] {
        for format in [0, 1] {
            let heard = execute(&mut wire, sql, format);
            assert!(!shows_the_canary(&heard), "{sql}: {heard:?}");
            assert!(tags(&heard).starts_with("12D"), "{sql}: {heard:?}");
        }
    }
    drop(wire);
    let recorded = appliance.everything_recorded();
    // The agent's own words hold it, and nothing else.
    assert!(!recorded.contains("4000-0000-0000-0001"));
    let mut wire = appliance.login("eve", "auditors");
    let seen = wire.value("select name from customers where id = 2");
    assert_eq!(seen, "canaryperson-2");
}

/// Masks of columns hide these columns and nothing else, from the first statement on and whatever
/// a result is fetched by.
#[test]
fn what_is_not_masked_is_shown_from_the_first_statement_on() {
    let server = server();
    let appliance = masked_appliance(&server);
    let mut wire = appliance.login("claude", "analysts");
    assert_eq!(wire.value("select 1"), "1");
    assert_eq!(wire.value("show standard_conforming_strings"), "on");
    let row = |id: &str| vec![Some(id.to_owned()), Some(REDACTED.to_owned())];
    wire.query("begin");
    wire.query("declare c scroll cursor for select id, name from customers order by id");
    assert_eq!(rows(&wire.query("fetch 1 from c")), [row("1")]);
    assert_eq!(rows(&wire.query("fetch 1 from c")), [row("2")]);
    assert_eq!(tags(&wire.query("move backward 1 in c")), "CZ");
    wire.query("commit");
    wire.query("prepare p (int) as select id, name from customers where id = $1");
    assert_eq!(rows(&wire.query("execute p (2)")), [row("2")]);
    wire.query("deallocate p");
    // The operator hears of a mask that hides nothing.
    let log = appliance.log();
    assert!(
        log.contains("customers.nmae") && log.contains("misspelt"),
        "{log}"
    );
    assert!(!log.contains("customers.name"), "{log}");
}

#[test]
fn what_can_not_be_masked_is_refused_and_the_session_lives() {
    let server = server();
    let appliance = masked_appliance(&server);
    let mut wire = appliance.login("claude", "analysts");
    for sql in [
        "select id from customers where card_number like '4%'",
        "select id from customers order by card_number",
        "select count(*) from customers group by card_number",
        "create table mine as select * from customers",
        "insert into other select id, name from customers",
        "select pg_notify('c', name) from customers",
        "create view w as select name from customers",
    ] {
        let heard = wire.query(sql);
        assert_eq!(tags(&heard), "EZ", "{sql}");
        assert_eq!(error(&heard).sqlstate(), "42501", "{sql}");
    }
    // One name, two columns: the second is masked, and may be asked for by number too.
    let heard = wire.query("select id, card_number from customers order by 1");
    assert!(tags(&heard).starts_with("TD"), "{heard:?}");
    let heard = wire.query("select id, card_number from customers order by 2");
    assert_eq!(error(&heard).sqlstate(), "42501");
    assert_eq!(wire.value("select 1"), "1");
}

#[test]
fn a_long_row_keeps_its_length_or_is_refused() {
    let server = server();
    server.psql_in(
        "orders",
        "alter table customers add column doc text, add column born date;
         update customers set doc = repeat('d', 2000000), born = '1970-01-01' where id = 1",
    );
    let appliance = masked_appliance(&server);
    let mut wire = appliance.login("claude", "analysts");
    let heard = wire.query("select name, doc from customers where id = 1");
    let row = rows(&heard);
    assert_eq!(row[0][0].as_deref(), Some("**************"));
    assert_eq!(row[0][1].as_ref().unwrap().len(), 2_000_000);
    assert_eq!(wire.value("select 1"), "1");
    // What a date would have to become has another length.
    appliance.write_policy(&BY_COLUMN.replace("\"customers.name\"", "\"customers.born\""));
    appliance.cli_text(&["reload"]);
    let mut wire = appliance.login("claude", "analysts");
    wire.send(
        'Q',
        &terminated("select born, doc from customers where id = 1"),
    );
    let heard = wire.until_closed();
    assert!(!heard.iter().any(|message| message.tag == 'D'), "{heard:?}");
    assert_eq!(error(&heard).sqlstate(), "54000");
}
