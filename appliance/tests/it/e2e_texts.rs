//! Texts that are much alike, and texts that are long.

use crate::appliance::{Appliance, Setup, orders_server};
use crate::wire::{Message, error, terminated};

#[test]
fn texts_that_differ_in_a_literal_keep_their_own_answers_and_records() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    for id in [7, 8, 9] {
        let name = wire.value(&format!("select name from customers where id = {id}"));
        assert_eq!(name, format!("customer {id}"));
    }
    // The server's own words and position, for the text that it was.
    let failed = wire.query("select nam from customers where id = 77777");
    assert_eq!(error(&failed).field('P').as_deref(), Some("8"));
    let failed = wire.query("select name from customers where id = 'eight' and id = 1");
    assert_eq!(error(&failed).field('P').as_deref(), Some("39"));
    let failed = wire.query("select name from customers where id = 'x' and id = 22222");
    assert!(error(&failed).field('M').unwrap().contains("\"x\""));
    let id = appliance.sessions()[0]["id"].as_str().unwrap().to_owned();
    drop(wire);
    let replayed = appliance.cli_text(&["replay", &id]);
    for part in ["id = 7", "id = 8", "id = 9", "77777", "'eight'", "22222"] {
        assert!(replayed.contains(part), "{part:?} is not in: {replayed}");
    }
}

#[test]
fn a_literal_that_decides_is_judged_anew() {
    let server = orders_server();
    server.psql_in(
        "orders",
        "create sequence allowed; create sequence other; grant all on sequence allowed, other to svc",
    );
    let mut setup = Setup::for_server(&server);
    setup.policy = r#"
[[rule]]
name    = "one"
groups  = ["analysts"]
targets = ["orders"]
allow   = { statements = ["select", "update"], tables = ["public.allowed"] }
"#;
    let appliance = Appliance::start(&setup);
    let mut wire = appliance.login("claude", "analysts");
    assert_eq!(wire.value("select nextval('allowed')"), "1");
    let refused = wire.query("select nextval('other')");
    assert_eq!(error(&refused).field('C').as_deref(), Some("42501"));
    assert_eq!(wire.value("select nextval('allowed')"), "2");
}

/// A text of nearly the longest that is parsed, which takes long enough to be overtaken.
fn long_text() -> String {
    let list = vec!["(1+id)"; 120_000].join(",");
    let text = format!("select count(*) from customers where id in ({list})");
    assert!((512 * 1024..1024 * 1024).contains(&text.len()));
    text
}

#[test]
fn a_long_text_does_not_hold_up_other_sessions_of_its_shard() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    let appliance = Appliance::start(&setup);
    let mut slow = appliance.login("slow", "analysts");
    let mut quick = appliance.login("quick", "analysts");
    // The answer to the text does not come before it is read, and this does not wait for it.
    slow.send('Q', &terminated(&long_text()));
    let mut overtook = 0;
    while !slow.has_bytes() {
        assert_eq!(quick.value("select 1"), "1");
        overtook += 1;
    }
    assert!(
        overtook >= 10,
        "{overtook} round trips while a text was read"
    );
    let answer = slow.until_ready();
    assert!(
        answer
            .iter()
            .any(|message| matches!(message.tag, 'C' | 'E'))
    );
}

#[test]
fn what_comes_behind_a_long_text_keeps_its_order() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    let appliance = Appliance::start(&setup);
    let mut wire = appliance.login("claude", "analysts");
    let padding = "a".repeat(300 * 1024);
    for (index, text) in [
        "select 1".to_owned(),
        format!("select 2, '{padding}'"),
        "select 3".to_owned(),
        format!("drop table orders /* {padding} */"),
        format!("selec 4, '{padding}'"),
        "select 5".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        if index % 2 == 0 {
            wire.send('Q', &terminated(text));
        } else {
            wire.parse("", text);
            wire.bind("", "", &[]);
            wire.execute("", 0);
            wire.sync();
        }
    }
    let first = |messages: &[Message]| {
        let row = messages.iter().find(|message| message.tag == 'D');
        row.map(|row| row.columns()[0].clone().unwrap())
    };
    for expected in [Some("1"), Some("2"), Some("3"), None, None, Some("5")] {
        let messages = wire.until_ready();
        assert_eq!(first(&messages).as_deref(), expected);
    }
    assert!(!server.log().contains("drop table orders"));
}
