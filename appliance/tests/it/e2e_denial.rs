//! Refusals in the protocol: what the client sees, in which order, and what stays as it was.
//!
//! The model is PostgreSQL itself: a refused statement must look like one with a syntax error in
//! the same place, except for the fields of the error.

use crate::appliance::{Appliance, Setup, login_directly, orders_server};
use crate::postgres::Server;
use crate::wire::{Message, Wire, error, first_column, status, tags};

const DENIED: &str = "drop table orders";

struct World {
    appliance: Appliance,
    server: Server,
}

fn world() -> World {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    World { appliance, server }
}

/// Tags, transaction states and rows: everything but names, keys and error texts.
fn outline(messages: &[Message]) -> String {
    let kept = messages
        .iter()
        .filter(|message| !"NSAK".contains(message.tag));
    let shown = kept.map(|message| match message.tag {
        'Z' => format!("Z{}", message.status()),
        'D' => format!("D{:?}", message.columns()),
        'C' => format!("C{:?}", message.texts()[0]),
        tag => tag.to_string(),
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// Runs a conversation with the refused statement through the appliance, and directly with a
/// syntax error in its place; both must have the same outline.
fn check_like_a_syntax_error(world: &World, talk: impl Fn(&mut Wire, &str) -> Vec<Message>) {
    let mut through = world.appliance.login("claude", "analysts");
    let refused = talk(&mut through, DENIED);
    let model = talk(&mut login_directly(&world.server), "drop tabel orders");
    assert_eq!(outline(&refused), outline(&model));
    let refusals: Vec<_> = refused
        .iter()
        .filter(|m| m.tag == 'E')
        .map(Message::sqlstate)
        .collect();
    assert!(refusals.contains(&"42501".to_owned()), "{refusals:?}");
    assert_eq!(
        through.value("select count(*) from orders"),
        "1000",
        "the session goes on"
    );
}

#[test]
fn a_refusal_says_which_rule_and_what_to_do() {
    let world = world();
    let mut wire = world.appliance.login("claude", "analysts");
    let messages = wire.query(DENIED);
    assert_eq!(tags(&messages), "EZ");
    let refusal = error(&messages);
    assert_eq!(refusal.field('S').as_deref(), Some("ERROR"));
    assert_eq!(refusal.sqlstate(), "42501");
    assert!(
        refusal
            .field('D')
            .expect("a DETAIL")
            .contains("no-destruction"),
        "{refusal:?}"
    );
    assert!(refusal.field('H').is_some(), "{refusal:?}");
    let said = format!("{refusal:?}");
    assert!(
        said.contains("#data-platform"),
        "the rule's own message: {said}"
    );
    assert_eq!(status(&messages), 'I');
}

#[test]
fn outside_a_transaction_nothing_changes() {
    check_like_a_syntax_error(&world(), |wire, denied| {
        let mut all = wire.query("select 1");
        all.extend(wire.query(denied));
        all.extend(wire.query("select 2"));
        all
    });
}

#[test]
fn inside_a_transaction_it_fails_until_rollback() {
    check_like_a_syntax_error(&world(), |wire, denied| {
        let mut all = wire.query("begin");
        all.extend(wire.query("insert into customers values (9001, 'gone')"));
        all.extend(wire.query(denied));
        all.extend(wire.query("select 1"));
        all.extend(wire.query(denied));
        all.extend(wire.query("commit"));
        all.extend(wire.query("select count(*) from customers where id = 9001"));
        all
    });
}

#[test]
fn after_a_savepoint_it_can_be_rolled_back_to() {
    check_like_a_syntax_error(&world(), |wire, denied| {
        let mut all = wire.query("begin; insert into customers values (9002, 'kept'); savepoint a");
        all.extend(wire.query(denied));
        all.extend(wire.query("rollback to a"));
        all.extend(wire.query("commit"));
        all.extend(wire.query("delete from customers where id = 9002"));
        all
    });
}

#[test]
fn a_batch_with_one_refused_member_runs_nothing() {
    let world = world();
    check_like_a_syntax_error(&world, |wire, denied| {
        let mut all = wire.query(&format!(
            "insert into customers values (9003, 'x'); {denied}; select 3"
        ));
        all.extend(wire.query("select count(*) from customers where id = 9003"));
        all
    });
    assert!(!world.server.log().contains("9003, 'x'); drop table orders"));
}

#[test]
fn a_batch_inside_a_transaction_fails_the_transaction() {
    check_like_a_syntax_error(&world(), |wire, denied| {
        let mut all = wire.query("begin");
        all.extend(wire.query(&format!("select 1; {denied}")));
        all.extend(wire.query("rollback"));
        all
    });
}

#[test]
fn in_a_pipeline_it_comes_behind_earlier_answers_and_ahead_of_later_ones() {
    check_like_a_syntax_error(&world(), |wire, denied| {
        wire.parse("", "select 1");
        wire.bind("", "", &[]);
        wire.execute("", 0);
        wire.parse("", denied);
        wire.bind("", "", &[]);
        wire.execute("", 0);
        wire.parse("", "select 2");
        wire.bind("", "", &[]);
        wire.execute("", 0);
        wire.sync();
        wire.parse("", "select 3");
        wire.bind("", "", &[]);
        wire.describe_portal("");
        wire.execute("", 0);
        wire.sync();
        let mut all = wire.until_ready();
        all.extend(wire.until_ready());
        all
    });
}

#[test]
fn in_a_pipeline_it_undoes_what_came_before_up_to_the_last_sync() {
    check_like_a_syntax_error(&world(), |wire, denied| {
        wire.parse("", "insert into customers values (9004, 'undone')");
        wire.bind("", "", &[]);
        wire.execute("", 0);
        wire.parse("", denied);
        wire.sync();
        let mut all = wire.until_ready();
        all.extend(wire.query("select count(*) from customers where id = 9004"));
        all
    });
}

#[test]
fn a_pipeline_over_a_transaction_block_keeps_its_state() {
    check_like_a_syntax_error(&world(), |wire, denied| {
        for sql in ["begin", "select 1", denied, "select 2"] {
            wire.parse("", sql);
            wire.bind("", "", &[]);
            wire.execute("", 0);
            wire.sync();
        }
        wire.parse("", "rollback");
        wire.bind("", "", &[]);
        wire.execute("", 0);
        wire.sync();
        let mut all = Vec::new();
        for _ in 0..5 {
            all.extend(wire.until_ready());
        }
        all
    });
}

#[test]
fn a_simple_query_behind_a_refused_parse_waits_for_its_sync() {
    check_like_a_syntax_error(&world(), |wire, denied| {
        wire.parse("", denied);
        wire.send('Q', b"select 1\0");
        wire.sync();
        wire.send('Q', b"select 2\0");
        let mut all = wire.until_ready();
        all.extend(wire.until_ready());
        all
    });
}

#[test]
fn a_refused_parse_makes_no_statement() {
    check_like_a_syntax_error(&world(), |wire, denied| {
        wire.parse("named", denied);
        wire.sync();
        let mut all = wire.until_ready();
        wire.bind("", "named", &[]);
        wire.execute("", 0);
        wire.sync();
        all.extend(wire.until_ready());
        wire.parse("named", "select 7");
        wire.bind("", "named", &[]);
        wire.execute("", 0);
        wire.sync();
        all.extend(wire.until_ready());
        all
    });
}

#[test]
fn many_refusals_in_a_row_leave_the_session_usable() {
    let world = world();
    let mut wire = world.appliance.login("claude", "analysts");
    for _ in 0..200 {
        wire.send('Q', b"drop table orders\0");
    }
    for _ in 0..200 {
        assert_eq!(tags(&wire.until_ready()), "EZ");
    }
    assert_eq!(wire.value("select 5"), "5");
}

#[test]
fn the_upstream_connection_is_used_again_after_a_refusal() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    setup.target_keys = "pool = { connections = 1, warm = 1 }".into();
    let appliance = Appliance::start(&setup);
    let mut first = appliance.login("first", "analysts");
    let backend = first.value("select pg_backend_pid()");
    first.query(DENIED);
    first.send('X', &[]);
    drop(first);
    assert_eq!(
        appliance
            .login("second", "analysts")
            .value("select pg_backend_pid()"),
        backend
    );
}

/// Other ways to say what the rule denies.
#[test]
fn no_spelling_of_a_denied_statement_passes() {
    let world = world();
    let mut wire = world.appliance.login("claude", "analysts");
    for sql in [
        "DROP TABLE orders",
        "/* select */ drop table orders",
        "drop -- a comment\n table orders",
        "select 1; drop table orders",
        ";;;drop table orders",
        "do $$ begin drop table orders; end $$",
        "do 'begin execute ''drop table orders''; end'",
        "explain analyze create table x as select 1; drop table orders",
        "prepare p as select 1; drop table orders",
        "truncate orders",
        "copy orders to program 'cat'",
        "copy (select 1) to program 'cat'",
        "\u{feff}drop table orders",
        "begin; drop table orders; commit",
        "create schema s; drop schema s",
    ] {
        let messages = wire.query(sql);
        let code = error(&messages).sqlstate();
        assert!(
            ["42501", "42601"].contains(&code.as_str()),
            "{sql}: {messages:?}"
        );
        assert_eq!(first_column(&messages), [], "{sql}: part of it ran");
        wire.query("rollback");
    }
    assert_eq!(wire.value("select count(*) from orders"), "1000");
    let log = world.server.log().to_lowercase();
    assert!(
        !log.contains("drop ") && !log.contains("truncate ") && !log.contains("program"),
        "{log}"
    );
}

#[test]
fn readers_cannot_write_nor_leave_the_read_only_session() {
    let world = world();
    let mut wire = world.appliance.login("rita", "readers");
    assert_eq!(wire.value("select count(*) from orders"), "1000");
    assert_eq!(wire.value("show default_transaction_read_only"), "on");
    for sql in [
        "insert into customers values (9005, 'x')",
        "with x as (delete from orders returning id) select * from x",
        "select id into copied from orders",
        "select * from orders for update",
        "set default_transaction_read_only = off",
        "set transaction_read_only = off",
        "begin read write",
        "start transaction read write",
        "set transaction read write",
        "set session characteristics as transaction read write",
        "select set_config('default_transaction_read_only', 'off', false)",
        "select set_config('transaction_' || 'read_only', 'off', false)",
        "update pg_settings set setting = 'off' where name = 'default_transaction_read_only'",
        "set role postgres; insert into customers values (9005, 'x')",
        "explain analyze insert into customers values (9005, 'x')",
        "prepare p as insert into customers values (9005, 'x')",
        "copy customers from stdin",
        "select lo_create(0)",
        "call nothing()",
        "vacuum orders",
        "create table t (a int)",
    ] {
        let messages = wire.query(sql);
        assert_eq!(error(&messages).sqlstate(), "42501", "{sql}: {messages:?}");
        wire.query("rollback");
        assert_eq!(wire.value("show transaction_read_only"), "on", "{sql}");
    }
    for allowed in [
        "reset all",
        "discard all",
        "reset default_transaction_read_only",
    ] {
        wire.query(allowed);
        assert_eq!(
            wire.value("show default_transaction_read_only"),
            "on",
            "{allowed}"
        );
    }
}

#[test]
fn the_agents_name_in_the_targets_log_cannot_be_changed() {
    let world = world();
    let mut wire = world.appliance.login("claude", "analysts");
    for sql in [
        "set sallyport.subject = 'root'",
        "set session sallyport.subject = 'root'",
        "set local sallyport.subject to 'root'",
        "reset sallyport.subject",
        "select set_config('sallyport.subject', 'root', false)",
        "select set_config('sallyport' || '.subject', 'root', false)",
        "select set_config('application_name', 'root', false)",
        "update pg_settings set setting = 'root' where name = 'application_name'",
        "set \"sallyport.subject\" = 'root'",
        "SET SALLYPORT.SUBJECT = 'root'",
    ] {
        let messages = wire.query(sql);
        assert_eq!(error(&messages).sqlstate(), "42501", "{sql}: {messages:?}");
        wire.query("rollback");
    }
    // A client's own application_name is answered, and kept behind the agent's name.
    assert_eq!(
        tags(&wire.query("set application_name = 'my report'")),
        "CZ"
    );
    let both = wire.value("show application_name");
    assert!(
        both.contains("claude") && both.contains("my report"),
        "{both}"
    );
    for sql in [
        "reset all",
        "discard all",
        "reset application_name",
        "set application_name to default",
    ] {
        assert_eq!(tags(&wire.query(sql)), "CZ", "{sql}");
        assert!(
            wire.value("show application_name").contains("claude"),
            "{sql}"
        );
        assert!(
            wire.value("show sallyport.subject").contains("claude"),
            "{sql}"
        );
    }
    wire.query("begin; set application_name = 'inside'");
    wire.query("rollback");
    assert!(wire.value("show application_name").contains("claude"));
}

#[test]
fn encodings_that_shift_meaning_are_refused_and_what_is_so_already_is_answered() {
    let world = world();
    let mut wire = world.appliance.login("claude", "analysts");
    for sql in [
        "set client_encoding = 'SJIS'",
        "set names 'LATIN1'",
        "set standard_conforming_strings = off",
    ] {
        assert_eq!(error(&wire.query(sql)).sqlstate(), "42501", "{sql}");
    }
    for sql in [
        "set client_encoding = 'UTF8'",
        "set names 'utf-8'",
        "set standard_conforming_strings = on",
    ] {
        assert_eq!(tags(&wire.query(sql)), "CZ", "{sql}");
    }
    let token = world.appliance.token("claude", "analysts");
    for parameter in [
        ("client_encoding", "SJIS"),
        ("options", "-c standard_conforming_strings=off"),
        ("options", "-c client_encoding=BIG5"),
        ("options", "-c sallyport.subject=root"),
        ("sallyport.subject", "root"),
        ("role", "postgres"),
    ] {
        let parameters = [("user", "agent"), ("database", "orders"), parameter];
        if let Ok(mut wire) = Wire::try_login(world.appliance.address(), &parameters, &token) {
            assert_eq!(wire.value("show client_encoding"), "UTF8", "{parameter:?}");
            assert_eq!(
                wire.value("show standard_conforming_strings"),
                "on",
                "{parameter:?}"
            );
            assert!(
                wire.value("show sallyport.subject").contains("claude"),
                "{parameter:?}"
            );
            assert_eq!(wire.value("select current_user"), "svc", "{parameter:?}");
        }
    }
}

#[test]
fn a_prepared_statement_is_judged_where_it_takes_effect() {
    let world = world();
    let mut wire = world.appliance.login("claude", "analysts");
    assert_eq!(
        tags(&wire.query("prepare fine as select name from customers where id = $1")),
        "CZ"
    );
    assert_eq!(tags(&wire.query("execute fine(3)")), "TDCZ");
    assert_eq!(tags(&wire.query("deallocate fine")), "CZ");
    assert_eq!(error(&wire.query("execute fine(3)")).sqlstate(), "26000");
}

#[test]
fn function_calls_of_the_protocol_are_refused_like_statements() {
    let world = world();
    let mut wire = world.appliance.login("rita", "readers");
    // lo_creat(-1), by its OID 957.
    let body = [
        &957u32.to_be_bytes()[..],
        &0u16.to_be_bytes(),
        &1u16.to_be_bytes(),
        &2i32.to_be_bytes(),
        b"-1",
        &0u16.to_be_bytes(),
    ]
    .concat();
    wire.send('F', &body);
    let messages = wire.until_ready();
    assert_eq!(error(&messages).sqlstate(), "42501");
    assert_eq!(wire.value("select 1"), "1");
}
