//! Stock clients whose commands are held: they wait, show the notice, and get what was decided.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::appliance::wait_until;
use crate::clients::{libraries, programs, python, through};
use crate::e2e_hold::{World, request_id};
use crate::people::open_requests;
use crate::postgres::binary;
use crate::wire::PATIENCE;

const POLICY: &str = r#"
[[rule]]
name    = "work"
groups  = ["*"]
targets = ["*"]
allow   = { statements = ["*"] }

[[rule]]
name      = "orders"
groups    = ["*"]
targets   = ["*"]
hold      = { statements = ["write"], tables = ["public.orders"] }
approvers = ["people:oncall"]

[[rule]]
name      = "fleeting"
groups    = ["*"]
targets   = ["*"]
hold      = { statements = ["write"], tables = ["public.fleeting"] }
approvers = ["people:oncall"]
expires   = "1s"

[[rule]]
name      = "lost"
groups    = ["*"]
targets   = ["*"]
hold      = { statements = ["write"], tables = ["public.lost"] }
approvers = ["elsewhere:oncall"]
"#;

/// Approved, denied, left to expire, and one that nobody may approve. The parameter is `7`.
const STATEMENTS: [&str; 4] = [
    "delete from orders where id::text = $1",
    "update orders set total = 0 where id::text = $1",
    "delete from fleeting where id::text = $1",
    "delete from lost where id::text = $1",
];

/// Whether a client shows notices while it waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    AtOnce,
    Afterwards,
}

fn check_client(mut command: Command, shows: Shows, result: &str) {
    let world = World::with(POLICY, "");
    world.server.psql_in(
        "orders",
        "create table fleeting (id int); create table lost (id int);
         grant all on fleeting, lost to svc; insert into fleeting values (7);
         insert into lost values (7)",
    );
    for name in ["PGOPTIONS", "PGAPPNAME", "PGSERVICE", "PGPASSFILE"] {
        command.env_remove(name);
    }
    command.envs(through(&world.appliance));
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (sender, lines) = mpsc::channel();
    follow(child.stdout.take().unwrap(), sender.clone());
    follow(child.stderr.take().unwrap(), sender);
    let mut seen = Vec::new();

    let approved = next_request(&world, shows, None, &lines, &mut seen);
    assert_eq!(
        world
            .server
            .psql_in("orders", "select count(*) from orders where id = 7"),
        "1"
    );
    world.approve(&approved);
    let denied = next_request(&world, shows, Some(&approved), &lines, &mut seen);
    world.deny(&denied, "the books are closed");
    assert!(child.wait().unwrap().code().is_some());
    seen.extend(lines.iter());

    let all = seen.join("\n");
    let expected = [
        &format!("(request {approved})"),
        result,
        &format!("(request {denied})"),
        "approval denied: the books are closed",
        "nobody approved it in time",
        "approval required by the rule lost, and nobody may give it",
    ];
    let mut at = 0;
    for words in expected {
        let found = all[at..].find(words);
        at += found.unwrap_or_else(|| panic!("{words:?} is not where it belongs in\n{all}"));
    }
    let left = "select (select count(*) from orders where id = 7 and total = 0)
                     || ' ' || (select count(*) from fleeting) || ' ' || (select count(*) from lost)";
    assert_eq!(world.server.psql_in("orders", left), "0 1 1");
}

fn follow(pipe: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // The test may have failed.
            let _ = lines.send(line);
        }
    });
}

/// The request that is open, once the client has shown it.
fn next_request(
    world: &World,
    shows: Shows,
    last: Option<&str>,
    lines: &Receiver<String>,
    seen: &mut Vec<String>,
) -> String {
    let mut id = String::new();
    wait_until("a request", || {
        let open = open_requests(&world.appliance);
        let mut other = open.iter().filter_map(|it| it["id"].as_str());
        id = other
            .find(|it| Some(*it) != last)
            .unwrap_or_default()
            .to_owned();
        !id.is_empty()
    });
    let is_shown = |line: &String| request_id(line).as_ref() == Some(&id);
    while shows == Shows::AtOnce && !seen.iter().any(is_shown) {
        let line = lines
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("no notice while it waits: {seen:#?}"));
        seen.push(line);
    }
    id
}

#[test]
fn psql_waits() {
    let mut command = Command::new(binary("psql"));
    command.arg("-X");
    for statement in STATEMENTS {
        command.args(["-c", &statement.replace("$1", "'7'")]);
    }
    check_client(command, Shows::AtOnce, "DELETE 1");
}

#[test]
fn psycopg_waits() {
    let mut command = python("python", "hold_psycopg.py");
    command.args(STATEMENTS);
    check_client(command, Shows::AtOnce, "result DELETE 1");
}

#[test]
fn asyncpg_waits() {
    let mut command = python("python", "hold_asyncpg.py");
    command.args(STATEMENTS);
    check_client(command, Shows::AtOnce, "result DELETE 1");
}

#[test]
fn node_postgres_waits() {
    let mut command = Command::new("node");
    command.arg(programs().join("node/hold.js"));
    command.env("NODE_NO_WARNINGS", "1");
    command.env(
        "SALLYPORT_NODE_MODULES",
        libraries().join("node/node_modules"),
    );
    command.args(STATEMENTS);
    check_client(command, Shows::AtOnce, "result DELETE 1");
}

#[test]
fn pgjdbc_waits() {
    let mut command = Command::new("java");
    // Its start is most of its time.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    command.args(["-cp", "/usr/share/java/postgresql.jar"]);
    command.arg(programs().join("java/Hold.java"));
    command.args(STATEMENTS);
    check_client(command, Shows::Afterwards, "result 1");
}
