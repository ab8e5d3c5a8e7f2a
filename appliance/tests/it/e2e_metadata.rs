//! What database tools ask of the catalogue, directly and through the appliance: the answers are equal.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::appliance::{Appliance, Setup, orders_server_with};
use crate::postgres::{Options, Server, binary};
use crate::wire::{Message, Wire, status};

/// Everything for one group, looking for another, and looking at the server too for a third: the
/// rules of `docs/tools.md`.
const RULES: &str = r#"
[[rule]]
name    = "anything"
groups  = ["analysts"]
targets = ["orders"]
allow   = { statements = ["*", "unknown"] }

[[rule]]
name    = "looking"
groups  = ["readers", "watchers"]
targets = ["orders"]
allow   = { statements = ["read", "session"] }

[[rule]]
name    = "watching"
groups  = ["watchers"]
targets = ["orders"]
allow   = { statements = ["admin"], tables = [
    "pg_catalog.pg_stat_activity", "pg_catalog.pg_locks", "pg_catalog.pg_prepared_xacts",
    "pg_catalog.pg_stat_gssapi", "pg_catalog.pg_stat_replication", "pg_catalog.pg_replication_slots",
] }

[[rule]]
name    = "watching-who-waits-for-whom"
groups  = ["watchers"]
targets = ["orders"]
allow   = { statements = ["admin"], functions = ["pg_catalog.pg_blocking_pids"] }
"#;

/// One of everything that tools look for.
pub const OBJECTS: &str = "
    create type order_state as enum ('open', 'paid', 'sent');
    create domain positive as int check (value > 0);
    create type parcel as (weight numeric, label text);
    create table items (
        id serial primary key, order_id int not null references orders on delete cascade,
        count positive default 1, state order_state, tags text[], twice int generated always as (count * 2) stored
    );
    create index items_state on items (state) where state <> 'sent';
    create unique index items_upper on items (upper(tags[1]), order_id desc);
    create table events (id bigint generated always as identity, at date not null) partition by range (at);
    create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01');
    create table archived () inherits (items);
    create view big_orders as select id, total from orders where total > 1000;
    create materialized view totals as select customer, sum(total) from orders group by customer;
    create function double(number int) returns int language sql immutable return number * 2;
    create procedure nothing() language sql as '';
    create function touch() returns trigger language plpgsql as 'begin return new; end';
    create trigger touched before update on orders for each row execute function touch();
    create rule quiet as on delete to big_orders do instead nothing;
    create policy own on orders using (id > 0);
    create statistics order_stats on customer, total from orders;
    comment on table orders is 'what was ordered';
    comment on column orders.total is 'without tax';
    comment on schema public is 'all of it';
    grant select (id, name) on customers to public;
    alter table orders replica identity full;
";

/// An appliance under some rules, in front of a database with all of [`OBJECTS`].
pub struct World {
    pub server: Server,
    pub appliance: Appliance,
}

impl World {
    /// `schema` is made before the objects.
    pub fn new(policy: &str, schema: &str) -> Self {
        // The appliance's own account, so that both ways see the same through the same eyes.
        let server = orders_server_with(Options {
            hba: vec!["host all all 127.0.0.1/32 trust".into()],
            ..Options::default()
        });
        server.psql_in("orders", &format!("set role svc; {schema}; {OBJECTS}"));
        server.psql_in("orders", "analyze");
        let setup = Setup {
            policy,
            ..Setup::for_server(&server)
        };
        Self {
            appliance: Appliance::start(&setup),
            server,
        }
    }

    pub fn directly(&self) -> Wire {
        let address = SocketAddr::from(([127, 0, 0, 1], self.server.port()));
        Wire::login(address, "svc", "orders", "")
    }

    /// The environment of a libpq or JDBC client.
    fn environment(&self, group: Option<&str>) -> Vec<(&'static str, String)> {
        let (port, user, password) = match group {
            None => (self.server.port(), "svc", String::new()),
            Some(group) => (
                self.appliance.address().port(),
                "agent",
                self.appliance.token("claude", group),
            ),
        };
        vec![
            ("PGHOST", "127.0.0.1".into()),
            ("PGPORT", port.to_string()),
            ("PGUSER", user.into()),
            ("PGDATABASE", "orders".into()),
            ("PGPASSWORD", password),
            ("PGSSLMODE", "disable".into()),
        ]
    }
}

/// What stands below one `-- NAME` line.
pub struct Section {
    pub name: String,
    /// Only the columns of its answer are the same from moment to moment.
    volatile: bool,
    /// The class that a reader lacks for it.
    pub refused: Option<String>,
    /// What the extended protocol binds.
    pub values: Vec<String>,
    pub body: String,
}

/// The sections of a file in `tests/data`.
pub fn sections(file: &str) -> Vec<Section> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(file);
    let text = fs::read_to_string(path).unwrap();
    let sections = text.split("-- ").skip(1).map(|section| {
        let (title, body) = section.split_once('\n').unwrap();
        let reader = title.split_once("[reader: ").map(|(_, rest)| rest);
        let values = title.split_once("[values: ").map(|(_, rest)| rest);
        let values = values.map_or("", |rest| rest.split(']').next().unwrap());
        Section {
            values: values
                .split(", ")
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
                .collect(),
            name: title.split(" [").next().unwrap().to_owned(),
            volatile: title.contains("[volatile]"),
            refused: reader.map(|rest| rest.split(']').next().unwrap().to_owned()),
            body: body.trim().to_owned(),
        }
    });
    let sections: Vec<Section> = sections.collect();
    assert!(sections.len() >= 10, "{file}");
    sections
}

/// An answer as far as it is the same each time.
pub fn lasting(messages: &[Message], section: &Section) -> Vec<Message> {
    let is_lasting = |message: &&Message| match message.tag {
        // The rows, and their number.
        'D' | 'C' => !section.volatile,
        // Reports of settings come in any order of their own.
        'S' => false,
        _ => true,
    };
    messages.iter().filter(is_lasting).cloned().collect()
}

fn check_file(file: &str) {
    let world = World::new(RULES, "");
    let mut direct = world.directly();
    let mut through = world.appliance.login("claude", "analysts");
    let mut reader = world.appliance.login("rita", "readers");
    let mut watcher = world.appliance.login("walter", "watchers");
    let mut problems = Vec::new();
    for section in sections(&format!("metadata/{file}")) {
        let expected = direct.query(&section.body);
        assert_eq!(status(&expected), 'I', "{}: {expected:?}", section.name);
        assert!(
            expected.iter().all(|message| message.tag != 'E'),
            "{} fails without the appliance too: {expected:?}",
            section.name
        );
        let seen = through.query(&section.body);
        if lasting(&seen, &section) != lasting(&expected, &section) {
            problems.push(format!("{}: {expected:?}\nbut {seen:?}", section.name));
        }
        let seen = watcher.query(&section.body);
        if lasting(&seen, &section) != lasting(&expected, &section) {
            problems.push(format!(
                "{}: {expected:?}\na watcher {seen:?}",
                section.name
            ));
        }
        let seen = reader.query(&section.body);
        let refusal = seen.iter().find(|message| message.tag == 'E');
        match (&section.refused, refusal) {
            (None, None) => {
                if lasting(&seen, &section) != lasting(&expected, &section) {
                    problems.push(format!("{}: {expected:?}\na reader {seen:?}", section.name));
                }
            }
            (Some(class), Some(refusal)) => {
                let said = format!("{} {:?}", refusal.field('M').unwrap(), refusal.field('D'));
                if refusal.sqlstate() != "42501" || !said.contains(class.as_str()) {
                    problems.push(format!(
                        "{}: a reader lacks another class: {said}",
                        section.name
                    ));
                }
            }
            (None, Some(refusal)) => {
                problems.push(format!(
                    "{}: a reader is refused: {refusal:?}",
                    section.name
                ));
            }
            (Some(_), None) => problems.push(format!("{}: a reader is let do it", section.name)),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn dbeaver_finds_the_same() {
    check_file("dbeaver.sql");
}

#[test]
fn pgadmin_finds_the_same() {
    check_file("pgadmin.sql");
}

#[test]
fn metabase_finds_the_same() {
    check_file("metabase.sql");
}

#[test]
fn drivers_and_frameworks_find_the_same() {
    check_file("drivers.sql");
}

/// What a client printed, in the sections that its own lines `== NAME` begin.
fn printed(mut command: Command, environment: Vec<(&str, String)>) -> Vec<(String, String)> {
    for name in ["PGOPTIONS", "PGAPPNAME", "PGSERVICE", "PGPASSFILE"] {
        command.env_remove(name);
    }
    let output = command.envs(environment).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let sections = text.split("== ").skip(1);
    sections
        .map(|section| {
            let (name, body) = section.split_once('\n').unwrap();
            (name.to_owned(), body.to_owned())
        })
        .collect()
}

/// Compares what a client printed the three ways; `refused` are the sections that a reader lacks.
fn check_client(world: &World, client: impl Fn() -> Command, refused: &[String]) {
    let expected = printed(client(), world.environment(None));
    assert!(expected.len() >= 10, "{expected:?}");
    let through = printed(client(), world.environment(Some("analysts")));
    let reader = printed(client(), world.environment(Some("readers")));
    let mut problems = Vec::new();
    for ((expected, through), reader) in expected.iter().zip(&through).zip(&reader) {
        let (name, text) = expected;
        assert!(!text.contains("ERROR"), "{name} fails directly: {text}");
        if through != expected {
            problems.push(format!("{name}: {text}\nbut {}", through.1));
        }
        let is_refused = reader.1.contains("42501");
        if is_refused != refused.contains(name) || (!is_refused && reader != expected) {
            problems.push(format!("{name}: {text}\na reader {}", reader.1));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(
        (expected.len(), through.len()),
        (reader.len(), reader.len())
    );
}

#[test]
fn psql_describes_the_same() {
    let world = World::new(RULES, "");
    let sections = sections("metadata/psql.sql");
    let mut script = "\\set VERBOSITY sqlstate\n\\pset pager off\n".to_owned();
    for section in &sections {
        script.push_str(&format!(
            "\\qecho '== {}'\n{}\n",
            section.name, section.body
        ));
    }
    let file = world.appliance.directory().join("describe.sql");
    fs::write(&file, script).unwrap();
    let refused: Vec<String> = sections
        .into_iter()
        .filter_map(|section| section.refused.map(|_| section.name))
        .collect();
    let client = || {
        // Errors in their place among the answers.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" -X -f \"$1\" 2>&1"])
            .arg(binary("psql"))
            .arg(&file);
        command
    };
    check_client(&world, client, &refused);
}

#[test]
fn jdbcs_metadata_is_the_same() {
    let world = World::new(RULES, "");
    let driver = "/usr/share/java/postgresql.jar";
    assert!(
        fs::exists(driver).unwrap(),
        "{driver} is missing: run .ci/prepare test"
    );
    let program: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/java/Metadata.java");
    let client = || {
        let mut command = Command::new("java");
        command.args(["-cp", driver]).arg(&program);
        command
    };
    check_client(&world, client, &[]);
}
