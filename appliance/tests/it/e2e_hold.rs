//! Held commands wait on the wire for a person: what runs, what does not, and what the agent reads.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::people::{People, open_requests};
use crate::postgres::Server;
use crate::wire::{Message, Silence, Wire, error, first_column, message, status, tags, terminated};

/// Agents may do anything, and what changes `orders` or reads `customers` takes a person.
const POLICY: &str = r#"
[[rule]]
name    = "agents-work"
groups  = ["*"]
targets = ["*"]
allow   = { statements = ["*"] }

[[rule]]
name      = "changes-need-a-person"
groups    = ["*"]
targets   = ["*"]
hold      = { statements = ["insert", "update", "delete"], tables = ["public.orders"] }
approvers = ["people:oncall"]
message   = "Changes of orders are looked at."

[[rule]]
name      = "customers-need-a-person"
groups    = ["*"]
targets   = ["*"]
hold      = { statements = ["select", "copy-from"], tables = ["public.customers"] }
approvers = ["people:oncall"]

[[mask]]
name    = "cards"
targets = ["*"]
columns = ["customers.card_number"]
with    = "last4"
"#;

pub struct World {
    pub server: Server,
    pub appliance: Appliance,
    pub people: People,
}

impl World {
    pub fn new() -> Self {
        Self::with(POLICY, "")
    }

    /// With these rules, and these tables in the configuration.
    pub fn with(policy: &str, tables: &str) -> Self {
        let server = orders_server();
        let people = People::new();
        let mut setup = Setup::for_server(&server);
        setup.policy = policy;
        setup.tables.push_str(tables);
        people.introduce(&mut setup);
        let appliance = Appliance::start(&setup);
        Self {
            server,
            appliance,
            people,
        }
    }

    pub fn login(&self) -> Wire {
        self.appliance.login("claude", "agents")
    }

    pub fn approve(&self, id: &str) {
        let (status, answer) = self.people.approve(&self.appliance, id);
        assert_eq!(status, 200, "{answer}");
    }

    pub fn deny(&self, id: &str, reason: &str) {
        let (status, answer) = self.people.deny(&self.appliance, id, reason);
        assert_eq!(status, 200, "{answer}");
    }

    /// Straight from the server.
    fn count(&self, table_and_condition: &str) -> String {
        let text = format!("select count(*) from {table_and_condition}");
        self.server.psql_in("orders", &text)
    }

    /// Waits until so many requests are open.
    fn wait_for_open(&self, count: usize) -> Vec<Value> {
        let mut open = Vec::new();
        wait_until("requests to come and go", || {
            open = open_requests(&self.appliance);
            open.len() == count
        });
        open
    }

    fn reload(&self, policy: &str) {
        self.appliance.write_policy(policy);
        self.appliance.cli_text(&["reload"]);
    }

    /// The steps of approvals in the recording of the one session, once it has ended.
    fn steps(&self, sessions: usize) -> Vec<String> {
        let mut steps = Vec::new();
        wait_until("the sessions are recorded to their ends", || {
            let known = self.appliance.sessions();
            let events: Vec<Value> = known
                .iter()
                .rev()
                .flat_map(|session| self.appliance.replay(session["id"].as_str().unwrap()))
                .collect();
            let ends = events.iter().filter(|it| it["event"] == "session-end");
            let has_ended = ends.count() == sessions;
            let of_approvals = events.iter().filter(|it| it["event"] == "approval");
            steps = of_approvals
                .map(|it| it["step"].as_str().unwrap().to_owned())
                .collect();
            has_ended
        });
        steps
    }
}

/// The first notice: with whose id people decide.
pub fn notice(wire: &mut Wire) -> (String, Message) {
    loop {
        let message = match wire.receive() {
            Ok(message) => message,
            Err(silence) => panic!("{silence:?} in place of a notice"),
        };
        if message.tag != 'N' {
            panic!("{message:?} in place of a notice");
        }
        if let Some(id) = request_id(&message.field('M').unwrap()) {
            return (id, message);
        }
    }
}

/// The id in a text of ours.
pub fn request_id(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("(request ")?;
    Some(rest.split_once(')')?.0.to_owned())
}

fn begin_query(wire: &mut Wire, text: &str) {
    wire.send('Q', &terminated(text));
}

fn complete(messages: &[Message]) -> Vec<String> {
    let complete = messages.iter().filter(|message| message.tag == 'C');
    complete.map(|message| message.texts()[0].clone()).collect()
}

#[test]
fn a_held_query_runs_when_a_person_approves_and_not_before() {
    let world = World::new();
    let mut wire = world.login();
    begin_query(&mut wire, "delete from orders where id = 7");
    let (id, notice) = notice(&mut wire);
    assert_eq!(notice.sqlstate(), "01000");
    let detail = notice.field('D').unwrap();
    assert!(detail.contains("changes-need-a-person"), "{detail}");
    assert!(
        detail.contains("Changes of orders are looked at."),
        "{detail}"
    );
    assert!(notice.field('H').unwrap().contains(&id));
    assert!(!format!("{notice:?}").contains("delete"));
    assert_eq!(world.count("orders where id = 7"), "1");

    let shown = world.people.shown(&world.appliance, &id).to_string();
    assert!(shown.contains("delete from orders where id = 7"), "{shown}");
    assert!(shown.contains("claude"), "{shown}");
    world.approve(&id);
    let messages = wire.until_ready();
    assert_eq!(complete(&messages), ["DELETE 1"]);
    assert_eq!(status(&messages), 'I');
    assert_eq!(world.count("orders where id = 7"), "0");
    assert_eq!(wire.value("select 1"), "1");

    drop(wire);
    assert_eq!(world.steps(1), ["asked", "approved"]);
    let events = world.appliance.everything_recorded();
    for expected in [id.as_str(), "olga", "\"held\""] {
        assert!(events.contains(expected), "{expected}");
    }
}

#[test]
fn what_is_denied_does_not_run_and_the_agent_reads_why() {
    let world = World::new();
    let mut wire = world.login();
    begin_query(&mut wire, "delete from orders where id = 7");
    let (id, _) = notice(&mut wire);
    world.deny(&id, "not on a Friday");
    let messages = wire.until_ready();
    assert_eq!(tags(&messages), "EZ");
    let refusal = error(&messages);
    assert_eq!(refusal.sqlstate(), "42501");
    assert!(refusal.field('M').unwrap().contains("not on a Friday"));
    let detail = refusal.field('D').unwrap();
    assert!(detail.contains(&id) && detail.contains("olga"), "{detail}");
    assert_eq!(status(&messages), 'I');
    assert_eq!(wire.value("select count(*) from orders"), "1000");
    drop(wire);
    assert_eq!(world.steps(1), ["asked", "denied"]);
}

#[test]
fn a_request_expires_and_a_client_is_told_that_it_waits() {
    let policy = POLICY.replace("message   =", "expires = \"3s\"\nmessage   =");
    let world = World::with(&policy, "[approvals]\nnotice_interval = \"1s\"\n");
    let mut wire = world.login();
    begin_query(&mut wire, "delete from orders where id = 7");
    let (id, _) = notice(&mut wire);
    let messages = wire.until_ready();
    let reminders = messages.iter().filter(|message| message.tag == 'N');
    let reminders: Vec<String> = reminders.map(|it| it.field('M').unwrap()).collect();
    assert!(!reminders.is_empty());
    for reminder in &reminders {
        assert_eq!(request_id(reminder), Some(id.clone()), "{reminder}");
    }
    assert_eq!(tags(&messages), "EZ");
    assert_eq!(error(&messages).sqlstate(), "42501");
    assert!(error(&messages).field('D').unwrap().contains(&id));
    assert_eq!(wire.value("select count(*) from orders"), "1000");
    let (status, _) = world.people.approve(&world.appliance, &id);
    assert_eq!(status, 409);
}

#[test]
fn a_batch_is_one_request_and_runs_whole() {
    let world = World::new();
    let mut wire = world.login();
    let batch = "update orders set total = 1 where id = 1; select 'between'; \
                 delete from orders where id = 2";
    begin_query(&mut wire, batch);
    let (id, _) = notice(&mut wire);
    assert_eq!(world.wait_for_open(1).len(), 1);
    world.approve(&id);
    let messages = wire.until_ready();
    assert_eq!(complete(&messages), ["UPDATE 1", "SELECT 1", "DELETE 1"]);
    // A denied member refuses it all, and nobody is asked.
    let refused = wire.query("delete from orders where id = 3; select no_such_function(1)");
    assert_eq!(tags(&refused), "EZ");
    assert_eq!(world.count("orders where id = 3"), "1");
    assert!(open_requests(&world.appliance).is_empty());
}

#[test]
fn one_request_covers_all_that_is_executed_up_to_sync() {
    let world = World::new();
    let mut wire = world.login();
    wire.parse("", "select 'first'");
    wire.bind("", "", &[]);
    wire.execute("", 0);
    wire.parse("d", "delete from orders where id = $1");
    for value in ["11", "12", "13"] {
        wire.bind("", "d", &[Some(value)]);
        wire.execute("", 0);
    }
    wire.parse("", "update orders set total = 0 where id = 14");
    wire.bind("", "", &[]);
    wire.execute("", 0);
    wire.sync();
    let (id, _) = notice(&mut wire);
    let shown = world.people.shown(&world.appliance, &id);
    let text = shown.to_string();
    for expected in [
        "delete from orders where id = $1",
        "11",
        "12",
        "13",
        "id = 14",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!(world.count("orders where id in (11, 12, 13)"), "3");
    world.approve(&id);
    let messages = wire.until_ready();
    assert_eq!(
        complete(&messages),
        ["SELECT 1", "DELETE 1", "DELETE 1", "DELETE 1", "UPDATE 1"]
    );
    assert_eq!(tags(&messages), "12DC12C2C2C12CZ");
    assert_eq!(world.count("orders where id in (11, 12, 13)"), "0");
}

#[test]
fn a_denied_unit_undoes_what_came_before_it_up_to_the_last_sync() {
    let world = World::new();
    let mut wire = world.login();
    wire.query("create table notes (id int)");
    wire.parse("", "insert into notes values (1)");
    wire.bind("", "", &[]);
    wire.execute("", 0);
    wire.parse("", "delete from orders where id = 1");
    wire.bind("", "", &[]);
    wire.execute("", 0);
    wire.parse("", "insert into notes values (2)");
    wire.bind("", "", &[]);
    wire.execute("", 0);
    wire.sync();
    wire.parse("", "select 'next'");
    wire.bind("", "", &[]);
    wire.execute("", 0);
    wire.sync();
    let (id, _) = notice(&mut wire);
    world.deny(&id, "no");
    let messages = wire.until_ready();
    assert_eq!(tags(&messages), "12CEZ");
    let messages = wire.until_ready();
    assert_eq!(first_column(&messages), [Some("next".to_owned())]);
    assert_eq!(wire.value("select count(*) from notes"), "0");
}

#[test]
fn preparing_and_describing_asks_nobody() {
    let world = World::new();
    let mut wire = world.login();
    wire.parse("d", "delete from orders where id = $1");
    wire.send('D', b"Sd\0");
    wire.send('H', b"");
    let mut seen = String::new();
    while seen.len() < 3 {
        seen.push(wire.receive().unwrap().tag);
    }
    assert_eq!(seen, "1tn");
    // The transaction that Parse opened is still open.
    wire.bind("", "d", &[Some("5")]);
    wire.execute("", 0);
    wire.sync();
    let (id, _) = notice(&mut wire);
    assert_eq!(open_requests(&world.appliance).len(), 1);
    world.approve(&id);
    assert_eq!(complete(&wire.until_ready()), ["DELETE 1"]);
    assert_eq!(world.count("orders where id = 5"), "0");
}

#[test]
fn going_on_with_a_portal_needs_no_further_approval_and_other_values_do() {
    let world = World::new();
    let mut wire = world.login();
    wire.query("begin");
    wire.parse("s", "select id from customers where id > $1 order by id");
    wire.bind("p", "s", &[Some("90")]);
    wire.execute("p", 3);
    wire.sync();
    let (id, _) = notice(&mut wire);
    world.approve(&id);
    let messages = wire.until_ready();
    assert_eq!(first_column(&messages).len(), 3);
    assert!(tags(&messages).ends_with("sZ"), "{}", tags(&messages));
    wire.execute("p", 3);
    wire.sync();
    let messages = wire.until_ready();
    assert!(
        messages.iter().all(|message| message.tag != 'N'),
        "{messages:?}"
    );
    assert_eq!(
        first_column(&messages),
        ["94", "95", "96"].map(|id| Some(id.to_owned()))
    );
    // The same name with other values is another portal.
    wire.send('C', b"Pp\0");
    wire.bind("p", "s", &[Some("0")]);
    wire.execute("p", 3);
    wire.sync();
    assert_eq!(wire.receive().unwrap().tag, '3');
    let (other, _) = notice(&mut wire);
    assert_ne!(id, other);
    world.deny(&other, "no");
    let messages = wire.until_ready();
    assert_eq!(error(&messages).sqlstate(), "42501");
    assert!(first_column(&messages).is_empty());
    assert_eq!(status(&messages), 'E');
}

#[test]
fn approved_rows_are_masked_as_any() {
    let world = World::new();
    let mut wire = world.login();
    begin_query(&mut wire, "select card_number from customers where id = 7");
    let (id, _) = notice(&mut wire);
    world.approve(&id);
    let rows = first_column(&wire.until_ready());
    let [Some(card)] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    assert!(card.ends_with("0007") && !card.contains("4000"), "{card}");
    // What masks refuse is refused at once.
    let refused = wire.query("create table stolen as select card_number from customers");
    assert_eq!(tags(&refused), "EZ");
    assert!(refused.iter().all(|message| message.tag != 'N'));
    assert!(open_requests(&world.appliance).is_empty());
}

#[test]
fn copy_from_stdin_is_refused_and_what_copies_out_is_held() {
    let world = World::new();
    let mut wire = world.login();
    let messages = wire.query("copy customers from stdin");
    assert_eq!(tags(&messages), "EZ");
    assert!(
        error(&messages)
            .field('M')
            .unwrap()
            .contains("COPY FROM STDIN")
    );
    begin_query(
        &mut wire,
        "copy (select id from customers where id < 3) to stdout",
    );
    let (id, _) = notice(&mut wire);
    world.approve(&id);
    assert_eq!(complete(&wire.until_ready()), ["COPY 2"]);
}

#[test]
fn prepared_statements_of_sql_are_held_by_what_they_do() {
    let world = World::new();
    let mut wire = world.login();
    begin_query(
        &mut wire,
        "prepare gone(int) as delete from orders where id = $1",
    );
    let (id, _) = notice(&mut wire);
    world.approve(&id);
    assert_eq!(complete(&wire.until_ready()), ["PREPARE"]);
    begin_query(&mut wire, "execute gone(21)");
    let (id, _) = notice(&mut wire);
    let shown = world.people.shown(&world.appliance, &id).to_string();
    assert!(shown.contains("execute gone(21)"), "{shown}");
    assert!(
        shown.contains("delete from orders where id = $1"),
        "{shown}"
    );
    world.approve(&id);
    assert_eq!(complete(&wire.until_ready()), ["DELETE 1"]);
    wire.query("begin");
    begin_query(
        &mut wire,
        "declare c cursor for select id from customers order by id",
    );
    let (id, _) = notice(&mut wire);
    world.approve(&id);
    assert_eq!(complete(&wire.until_ready()), ["DECLARE CURSOR"]);
    // Reading the cursor is class `cursor`, which no rule holds.
    assert_eq!(first_column(&wire.query("fetch 2 from c")).len(), 2);
}

#[test]
fn a_statement_that_was_prepared_before_a_rule_held_it_is_prepared_anew() {
    let allow = POLICY
        .split("[[rule]]\nname      = \"changes")
        .next()
        .unwrap()
        .to_owned();
    let world = World::with(&allow, "");
    let mut wire = world.login();
    wire.parse("d", "delete from orders where id = 1 and total >= 0");
    wire.sync();
    wire.until_ready();
    world.reload(POLICY);
    wire.bind("", "d", &[]);
    wire.execute("", 0);
    wire.sync();
    let messages = wire.until_ready();
    assert_eq!(error(&messages).sqlstate(), "42501");
    assert!(
        error(&messages)
            .field('H')
            .unwrap()
            .contains("Prepare it again")
    );
    assert_eq!(world.count("orders where id = 1"), "1");
}

#[test]
fn ctrl_c_withdraws_the_request_and_the_session_goes_on() {
    let world = World::new();
    let mut wire = world.login();
    for in_transaction in [false, true] {
        if in_transaction {
            wire.query("begin");
        }
        begin_query(&mut wire, "delete from orders where id = 7");
        let (id, _) = notice(&mut wire);
        let mut other = Wire::open(world.appliance.address());
        other.send_raw(&wire.cancel_packet());
        assert_eq!(other.until_closed_raw(), b"");
        let messages = wire.until_ready();
        assert_eq!(error(&messages).sqlstate(), "57014");
        assert_eq!(status(&messages), if in_transaction { 'E' } else { 'I' });
        world.wait_for_open(0);
        let (status, _) = world.people.approve(&world.appliance, &id);
        assert_eq!(status, 409);
    }
    wire.query("rollback");
    assert_eq!(wire.value("select count(*) from orders"), "1000");
    drop(wire);
    assert_eq!(world.steps(1), ["asked", "withdrawn", "asked", "withdrawn"]);
}

#[test]
fn whoever_comes_back_outside_of_a_transaction_finds_the_request() {
    let world = World::new();
    let statement = "delete from orders where id = 7";
    let mut wire = world.login();
    begin_query(&mut wire, statement);
    let (id, _) = notice(&mut wire);
    drop(wire);
    wait_until("the session is gone", || {
        world.steps(1) == ["asked", "left"]
    });
    // It attaches.
    let mut wire = world.login();
    begin_query(&mut wire, statement);
    let (again, _) = notice(&mut wire);
    assert_eq!(again, id);
    drop(wire);
    world.steps(2);
    // It is approved while nobody is there, and serves once.
    world.approve(&id);
    assert_eq!(world.count("orders where id = 7"), "1");
    let mut wire = world.login();
    begin_query(&mut wire, statement);
    let (again, _) = notice(&mut wire);
    assert_eq!(again, id);
    assert_eq!(complete(&wire.until_ready()), ["DELETE 1"]);
    begin_query(&mut wire, statement);
    let (other, _) = notice(&mut wire);
    assert_ne!(other, id);
    world.deny(&other, "once is enough");
    wire.until_ready();
}

#[test]
fn an_approval_serves_nothing_else() {
    let world = World::new();
    world.server.psql_in(
        "orders",
        "create role other; grant other to svc; grant all on orders to other",
    );
    let ask = |wire: &mut Wire, statement: &str, value: &str| {
        wire.parse("", statement);
        wire.bind("", "", &[Some(value)]);
        wire.execute("", 0);
        wire.sync();
        notice(wire).0
    };
    let statement = "delete from orders where id = $1";
    let mut wire = world.login();
    let id = ask(&mut wire, statement, "7");
    drop(wire);
    world.steps(1);
    world.approve(&id);
    let mut mutants: Vec<(Wire, &str, &str)> = vec![
        (world.appliance.login("other", "agents"), statement, "7"),
        (world.login(), "delete from orders where id = $1 ", "7"),
        (world.login(), statement, "8"),
        (world.login(), statement, "07"),
    ];
    for setting in [
        "set role other",
        "set search_path = public, pg_catalog",
        "begin",
    ] {
        let mut wire = world.login();
        wire.query(setting);
        mutants.push((wire, statement, "7"));
    }
    for (mut wire, statement, value) in mutants {
        let other = ask(&mut wire, statement, value);
        assert_ne!(other, id, "{statement} {value}");
        world.deny(&other, "no");
        assert_eq!(error(&wire.until_ready()).sqlstate(), "42501");
    }
    // A simple query of the same text is another one too.
    let mut wire = world.login();
    assert_eq!(world.count("orders where id = 7"), "1");
    assert_eq!(ask(&mut wire, statement, "7"), id);
    assert_eq!(complete(&wire.until_ready()), ["DELETE 1"]);
}

#[test]
fn a_disconnect_inside_a_transaction_withdraws() {
    let world = World::new();
    let mut wire = world.login();
    wire.query("begin");
    begin_query(&mut wire, "delete from orders where id = 7");
    let (id, _) = notice(&mut wire);
    drop(wire);
    world.wait_for_open(0);
    let (status, _) = world.people.approve(&world.appliance, &id);
    assert_eq!(status, 409);
    assert_eq!(world.steps(1), ["asked", "withdrawn"]);
    assert_eq!(world.count("orders where id = 7"), "1");
}

#[test]
fn inside_a_transaction_the_wait_is_short() {
    let world = World::with(POLICY, "[approvals]\nin_transaction = \"1s\"\n");
    let mut wire = world.login();
    wire.query("begin");
    begin_query(&mut wire, "delete from orders where id = 7");
    notice(&mut wire);
    let messages = wire.until_ready();
    assert_eq!(error(&messages).sqlstate(), "42501");
    assert_eq!(status(&messages), 'E');
    assert_eq!(status(&wire.query("rollback")), 'I');
}

#[test]
fn another_policy_judges_what_waits_again() {
    let world = World::new();
    let mut wire = world.login();
    let statement = "delete from orders where id = 7";
    begin_query(&mut wire, statement);
    let (first, _) = notice(&mut wire);
    // It holds it too: people are asked anew, since they may be others.
    let renamed = POLICY.replace("changes-need-a-person", "changes-need-somebody");
    world.reload(&renamed);
    let (second, _) = notice(&mut wire);
    assert_ne!(first, second);
    // It denies.
    world.reload(&format!(
        "{POLICY}\n[[rule]]\nname = \"never\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n\
         deny = {{ statements = [\"delete\"] }}\n"
    ));
    let messages = wire.until_ready();
    assert!(error(&messages).field('D').unwrap().contains("never"));
    // It allows.
    world.reload(POLICY);
    begin_query(&mut wire, statement);
    notice(&mut wire);
    let allow = POLICY
        .split("[[rule]]\nname      = \"changes")
        .next()
        .unwrap();
    world.reload(allow);
    assert_eq!(complete(&wire.until_ready()), ["DELETE 1"]);
    world.wait_for_open(0);
}

#[test]
fn a_session_that_is_killed_or_drained_takes_its_request_along() {
    let mut world = World::new();
    let mut wire = world.login();
    begin_query(&mut wire, "delete from orders where id = 7");
    notice(&mut wire);
    let drained = thread::scope(|scope| {
        let appliance = &mut world.appliance;
        let stopped = scope.spawn(move || appliance.terminate());
        let messages = wire.until_closed();
        assert_eq!(error(&messages).sqlstate(), "57P01");
        stopped.join().unwrap()
    });
    assert!(drained.success());
    assert_eq!(world.count("orders where id = 7"), "1");
    // A restart runs nothing of it.
    world.appliance.resume();
    assert!(open_requests(&world.appliance).is_empty());
    assert_eq!(world.count("orders where id = 7"), "1");
}

#[test]
fn a_unit_that_nobody_could_read_is_refused() {
    // Masks refuse texts that long by themselves.
    let world = World::with(POLICY.split("[[mask]]").next().unwrap(), "");
    let mut wire = world.login();
    let long = format!(
        "delete from orders where id = 1 /* {} */",
        "x".repeat(300_000)
    );
    let messages = wire.query(&long);
    assert_eq!(error(&messages).sqlstate(), "54000", "{messages:?}");
    wire.parse("d", "delete from orders where id = $1 and $2 <> ''");
    for _ in 0..10 {
        wire.bind("", "d", &[Some("1"), Some(&"x".repeat(60_000))]);
        wire.execute("", 0);
    }
    wire.sync();
    let messages = wire.until_ready();
    assert_eq!(error(&messages).sqlstate(), "54000");
    assert_eq!(status(&messages), 'I');
    assert_eq!(world.count("orders where id = 1"), "1");
    assert_eq!(wire.value("select 1"), "1");
}

#[test]
fn a_unit_that_would_fail_asks_nobody() {
    let world = World::new();
    let mut wire = world.login();
    wire.parse("", "delete from orders where id = 1");
    wire.bind("", "", &[]);
    wire.execute("", 0);
    wire.bind("", "no such statement", &[]);
    wire.execute("", 0);
    wire.sync();
    let messages = wire.until_ready();
    assert_eq!(tags(&messages), "EZ");
    assert!(messages.iter().all(|message| message.tag != 'N'));
    assert_eq!(world.count("orders where id = 1"), "1");
}

#[test]
fn messages_that_come_in_pieces_are_one_unit() {
    let world = World::new();
    let mut wire = world.login();
    let parse = [&b"\0delete from orders where id = $1\0"[..], &[0, 0]].concat();
    let bind = [&b"\0\0"[..], &[0, 0, 0, 1, 0, 0, 0, 2], b"31", &[0, 0]].concat();
    let bytes = [
        message('P', &parse),
        message('B', &bind),
        message('E', &[0, 0, 0, 0, 0]),
        message('S', &[]),
    ]
    .concat();
    for piece in bytes.chunks(7) {
        wire.send_raw(piece);
        assert_eq!(world.server.psql("select 1"), "1");
    }
    let (id, _) = notice(&mut wire);
    assert_eq!(open_requests(&world.appliance).len(), 1);
    world.approve(&id);
    assert_eq!(complete(&wire.until_ready()), ["DELETE 1"]);
}

#[test]
fn an_idle_limit_does_not_hit_who_waits_for_people() {
    let world = World::with(POLICY, "[session]\nidle = \"1s\"\n");
    let mut wire = world.login();
    begin_query(&mut wire, "delete from orders where id = 7");
    let (id, _) = notice(&mut wire);
    let mut other = world.login();
    // Another session is idle for as long, and longer.
    assert_eq!(error(&other.until_closed()).sqlstate(), "57P05");
    world.approve(&id);
    assert_eq!(complete(&wire.until_ready()), ["DELETE 1"]);
}

/// xorshift: what happens first, and how long before the other.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Waits for up to a few milliseconds.
    fn pause(&mut self) {
        let (_sender, never) = mpsc::channel::<()>();
        let micros = self.next() % 3000;
        // Times out: a pause.
        let _ = never.recv_timeout(Duration::from_micros(micros));
    }
}

#[test]
fn of_a_cancel_and_an_approval_at_once_one_counts() {
    let world = World::new();
    world.server.psql_in("orders", "truncate orders");
    let mut chance = Chance(0x5a11_9097);
    let mut wire = world.login();
    let (mut ran, mut cancelled) = (0, 0);
    for round in 0..60 {
        begin_query(&mut wire, &format!("insert into orders values ({round})"));
        let (id, _) = notice(&mut wire);
        let packet = wire.cancel_packet();
        let address = world.appliance.address();
        let approve = world.people.approval(&world.appliance, &id);
        let mut other = Chance(chance.next() | 1);
        thread::scope(|scope| {
            scope.spawn(|| {
                chance.pause();
                // It may come too late.
                approve();
            });
            scope.spawn(|| {
                other.pause();
                let mut wire = Wire::open(address);
                wire.send_raw(&packet);
                wire.until_closed_raw();
            });
        });
        let messages = wire.until_ready();
        if tags(&messages).starts_with('E') {
            assert_eq!(error(&messages).sqlstate(), "57014");
            cancelled += 1;
        } else {
            assert_eq!(complete(&messages), ["INSERT 0 1"]);
            ran += 1;
        }
        let rows = world.count(&format!("orders where id = {round}"));
        assert_eq!(
            rows == "1",
            tags(&messages).starts_with('C'),
            "round {round}"
        );
    }
    assert!(
        ran > 0 && cancelled > 0,
        "{ran} ran, {cancelled} were cancelled"
    );
}

#[test]
fn whatever_the_order_of_disconnect_approval_and_retry_it_runs_once() {
    let world = World::new();
    world.server.psql_in(
        "orders",
        "alter table orders drop constraint orders_pkey; truncate orders",
    );
    let mut chance = Chance(0xb07_4a2d);
    let mut left_first = 0;
    let token = world.appliance.token("claude", "agents");
    let address = world.appliance.address();
    for round in 0..40 {
        let statement = format!("insert into orders values ({round})");
        let mut wire = world.login();
        begin_query(&mut wire, &statement);
        let (id, _) = notice(&mut wire);
        let approve = world.people.approval(&world.appliance, &id);
        let mut other = Chance(chance.next() | 1);
        let retried = thread::scope(|scope| {
            scope.spawn(|| {
                chance.pause();
                assert_eq!(approve(), 200);
            });
            scope
                .spawn(|| {
                    other.pause();
                    drop(wire);
                    other.pause();
                    let mut wire = Wire::login(address, "claude", "orders", &token);
                    begin_query(&mut wire, &statement);
                    let (again, _) = notice(&mut wire);
                    (wire, again)
                })
                .join()
                .unwrap()
        });
        let (mut wire, again) = retried;
        if again == id {
            assert_eq!(
                complete(&wire.until_ready()),
                ["INSERT 0 1"],
                "round {round}"
            );
            left_first += 1;
        } else {
            // The first session had used the approval: this is a request of its own.
            world.deny(&again, "it ran");
            assert_eq!(error(&wire.until_ready()).sqlstate(), "42501");
        }
        let rows = world.count(&format!("orders where id = {round}"));
        assert_eq!(rows, "1", "round {round}");
    }
    assert!(left_first > 0);
}

#[test]
fn an_agent_that_leaves_is_seen_at_once() {
    let world = World::new();
    let mut wire = world.login();
    wire.query("begin");
    begin_query(&mut wire, "delete from orders where id = 7");
    notice(&mut wire);
    // Behind what waits, it sends more; and a goodbye.
    begin_query(&mut wire, "select 1");
    wire.send('X', b"");
    wire.shutdown_send();
    world.wait_for_open(0);
    assert!(matches!(wire.receive(), Err(Silence::Closed)));
}

#[test]
fn a_revocation_ends_what_waits() {
    let world = World::new();
    let mut wire = world.login();
    begin_query(&mut wire, "delete from orders where id = 7");
    let (id, _) = notice(&mut wire);
    world.appliance.cli_text(&["revoke", "agent", "claude"]);
    let messages = wire.until_closed();
    assert_eq!(error(&messages).field('M').unwrap(), "access is revoked");
    world.wait_for_open(0);
    let (status, _) = world.people.approve(&world.appliance, &id);
    assert_eq!(status, 409);
    assert_eq!(world.steps(1), ["asked", "withdrawn"]);
    assert_eq!(world.count("orders where id = 7"), "1");
}

#[test]
fn whoever_decides_sees_what_the_planner_expects_unless_planning_runs_code() {
    // A mask refuses what may show anything.
    let policy = POLICY.split("[[mask]]").next().unwrap();
    let policy = format!(
        "{policy}\n[[rule]]\nname = \"vouched\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n\
         allow = {{ statements = [\"function\"], functions = [\"public.planted\"] }}\n"
    );
    let world = World::with(&policy, "");
    world.server.psql_in(
        "orders",
        "analyze orders;
         create function planted(int) returns int language plpgsql immutable as
             $$begin raise log 'planted at planning'; return $1; end$$;
         grant all on schema public to svc",
    );
    let estimated = |id: &str| {
        let shown = world.people.shown(&world.appliance, id);
        shown["commands"][0]["estimated_rows"].as_u64()
    };
    let mut wire = world.login();
    wire.parse("", "delete from orders where id <= $1");
    wire.bind("", "", &[Some("100")]);
    wire.execute("", 0);
    wire.sync();
    let (id, _) = notice(&mut wire);
    let mut rows = None;
    wait_until("an estimate", || {
        rows = estimated(&id);
        rows.is_some()
    });
    assert!(
        rows.is_some_and(|rows| (90..=110).contains(&rows)),
        "{rows:?}"
    );
    world.deny(&id, "no");
    wire.until_ready();

    begin_query(&mut wire, "delete from orders where id <= planted(100)");
    let (opaque, _) = notice(&mut wire);
    let mut other = world.login();
    begin_query(&mut other, "update orders set total = 1 where id = 1");
    let (id, _) = notice(&mut other);
    // What was asked for later is there.
    wait_until("an estimate", || estimated(&id) == Some(1));
    assert_eq!(estimated(&opaque), None);
    assert!(!world.server.log().contains("LOG:  planted at planning"));
    world.approve(&opaque);
    assert_eq!(complete(&wire.until_ready()), ["DELETE 100"]);
    assert!(world.server.log().contains("LOG:  planted at planning"));
}

#[test]
fn a_bind_alone_waits_too_where_planning_runs_code() {
    // A mask refuses what may show anything.
    let policy = POLICY.split("[[mask]]").next().unwrap();
    let policy = format!(
        "{policy}\n[[rule]]\nname = \"code\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n\
         hold = {{ statements = [\"function\"], functions = [\"public.planted\"] }}\n\
         approvers = [\"people:oncall\"]\n"
    );
    let world = World::with(&policy, "");
    world.server.psql_in(
        "orders",
        "create function planted(int) returns int language plpgsql immutable as
             $$begin raise log 'planted at planning'; return $1; end$$",
    );
    let mut wire = world.login();
    wire.parse("", "select planted(1)");
    wire.bind("", "", &[]);
    wire.describe_portal("");
    wire.sync();
    let (id, _) = notice(&mut wire);
    assert!(!world.server.log().contains("LOG:  planted at planning"));
    world.deny(&id, "no");
    assert_eq!(error(&wire.until_ready()).sqlstate(), "42501");
    assert!(!world.server.log().contains("LOG:  planted at planning"));
}
