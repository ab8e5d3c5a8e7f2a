//! Names mean what the target's catalogue says at that moment: views, triggers, rules, cascades and
//! functions that somebody makes, changes or drops while sessions are open.

use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::postgres::Server;
use crate::wire::{Message, Wire, error};

const POLICY: &str = r#"
[[rule]]
name    = "work"
groups  = ["agents"]
targets = ["orders"]
allow   = { statements = ["*"] }

[[rule]]
name    = "listed-functions"
groups  = ["agents"]
targets = ["orders"]
allow   = { statements = ["function"], functions = ["public.listed"] }

[[rule]]
name    = "no-secret"
groups  = ["*"]
targets = ["*"]
deny    = { statements = ["*"], tables = ["public.secret"] }
"#;

struct World {
    appliance: Appliance,
    server: Server,
}

fn world() -> World {
    world_with("")
}

/// Words of `secret` are masked for agents.
fn masked_world() -> World {
    world_under(MASKED, "")
}

/// One shard: what one session changes is known to the others at once.
fn world_with(target_keys: &str) -> World {
    world_under(POLICY, target_keys)
}

fn world_under(policy: &'static str, target_keys: &str) -> World {
    let server = orders_server();
    server.psql_in(
        "orders",
        "create table secret (id int primary key, word text);
         insert into secret values (1, 'hidden');
         create table plain (id int primary key, word text);
         insert into plain values (1, 'shown');
         create schema agent authorization svc;
         grant all on schema public, agent to svc;
         grant all on all tables in schema public to svc;
         alter default privileges grant all on tables to svc;",
    );
    let mut setup = Setup::for_server(&server);
    setup.policy = policy;
    setup.shards = 1;
    setup.target_keys = target_keys.to_owned();
    let appliance = Appliance::start(&setup);
    World { appliance, server }
}

impl World {
    fn login(&self) -> Wire {
        self.appliance.login("claude", "agents")
    }

    /// By somebody who does not come through the appliance.
    fn admin(&self, sql: &str) {
        self.server.psql_in("orders", sql);
    }
}

/// The SQLSTATE and the rule or the words of the refusal; what the statement did otherwise.
fn outcome(wire: &mut Wire, sql: &str) -> String {
    let answers = wire.query(sql);
    match answers.iter().find(|message| message.tag == 'E') {
        None => "done".to_owned(),
        Some(refusal) => words(refusal),
    }
}

fn words(refusal: &Message) -> String {
    let detail = refusal.field('D').unwrap_or_default();
    let message = refusal.field('M').unwrap_or_default();
    format!("{} {} {}", refusal.sqlstate(), message, detail)
}

#[track_caller]
fn refused(wire: &mut Wire, sql: &str, why: &str) {
    let outcome = outcome(wire, sql);
    assert!(
        outcome.starts_with("42501") && outcome.contains(why),
        "{sql}: {outcome}"
    );
}

#[test]
fn a_view_that_somebody_makes_is_looked_through_at_once() {
    let world = world();
    let mut wire = world.login();
    assert_eq!(wire.value("select word from plain"), "shown");
    refused(&mut wire, "select * from secret", "no-secret");
    world.admin("create view peek as select * from secret");
    // A name that is not known is looked for before it is judged.
    refused(&mut wire, "select * from peek", "no-secret");
    refused(
        &mut wire,
        "select (select max(word) from public.peek)",
        "no-secret",
    );
    refused(&mut wire, "insert into peek values (2, 'x')", "no-secret");
    world.admin(
        "create materialized view stored as select * from peek;
         create view harmless as select * from plain",
    );
    refused(&mut wire, "select * from stored", "no-secret");
    assert_eq!(wire.value("select word from harmless"), "shown");
    assert_eq!(
        world
            .server
            .psql_in("orders", "select count(*) from secret"),
        "1"
    );
}

#[test]
fn a_view_that_becomes_another_is_noticed_within_the_refresh() {
    let world = world_with("catalogue_refresh = \"1s\"");
    let mut wire = world.login();
    world.admin("create view pane as select id, word from plain");
    assert_eq!(wire.value("select word from pane"), "shown");
    world.admin("create or replace view pane as select id, word from secret");
    wait_until("the change to be noticed", || {
        outcome(&mut wire, "select word from pane").contains("no-secret")
    });
    // And back.
    world.admin("create or replace view pane as select id, word from plain");
    wait_until("the change back to be noticed", || {
        outcome(&mut wire, "select word from pane") == "done"
    });
    // The table beneath is another one, of the same name.
    world.admin(
        "drop table plain cascade; create view plain as select * from secret;
         create view pane as select id, word from plain",
    );
    wait_until("the other table to be noticed", || {
        outcome(&mut wire, "select word from plain").contains("no-secret")
    });
    refused(&mut wire, "select word from pane", "no-secret");
}

#[test]
fn what_a_session_changes_counts_for_every_session_of_the_shard() {
    let world = world_with("catalogue_refresh = \"1h\"");
    let (mut one, mut other) = (world.login(), world.login());
    assert_eq!(other.value("select word from plain"), "shown");
    assert_eq!(
        outcome(&mut one, "create view agent.v as select * from plain"),
        "done"
    );
    assert_eq!(other.value("select word from agent.v"), "shown");
    world.admin("create view mirror as select * from secret");
    // A view over a view is made; what it is made of is not denied by its own name.
    refused(
        &mut one,
        "create view agent.w as select * from mirror",
        "no-secret",
    );
    // Somebody else replaces it, and only a change of ours makes the shard look.
    world.admin("create or replace view agent.v as select * from secret");
    assert_eq!(outcome(&mut one, "create table agent.t (id int)"), "done");
    refused(&mut other, "select word from agent.v", "no-secret");
}

#[test]
fn triggers_need_their_function_listed() {
    let world = world();
    world.admin(
        "create function sneaky() returns trigger language plpgsql as
            $$ begin update secret set word = new.word; return new; end $$;
         create function listed() returns trigger language plpgsql as
            $$ begin return new; end $$;
         create trigger t before insert on plain for each row execute function sneaky();
         create table noted (id int);
         create trigger t before insert on noted for each row execute function listed();",
    );
    let mut wire = world.login();
    refused(
        &mut wire,
        "insert into plain values (2, 'x')",
        "public.sneaky()",
    );
    refused(
        &mut wire,
        "insert into plain values (2, 'x')",
        "a trigger of public.plain",
    );
    refused(&mut wire, "copy plain from stdin", "public.sneaky()");
    assert_eq!(outcome(&mut wire, "insert into noted values (1)"), "done");
    assert_eq!(
        outcome(&mut wire, "update plain set word = 'y' where id = 1"),
        "done"
    );
    assert_eq!(
        world.server.psql_in("orders", "select word from secret"),
        "hidden"
    );
}

#[test]
fn rules_cascades_and_defaults_are_followed() {
    let world = world();
    world.admin(
        "create table ruled (id int, word text);
         create rule r as on insert to ruled do also insert into secret values (new.id, new.word);
         create table parent (id int primary key);
         alter table secret add column parent int references parent on delete cascade;
         create table defaulted (id int, word text default (current_setting('x', true)));
         create table whole (id int, word text) partition by list (id);
         alter table whole attach partition plain default;",
    );
    let mut wire = world.login();
    refused(&mut wire, "insert into ruled values (3, 'x')", "no-secret");
    assert_eq!(outcome(&mut wire, "select * from ruled"), "done");
    refused(&mut wire, "delete from parent where id = 1", "no-secret");
    assert_eq!(outcome(&mut wire, "insert into parent values (1)"), "done");
    assert_eq!(
        outcome(&mut wire, "insert into defaulted values (1)"),
        "done"
    );
    assert_eq!(outcome(&mut wire, "select * from whole"), "done");
    world.admin(
        "alter table secret drop column parent; delete from secret;
         alter table whole attach partition secret for values in (7)",
    );
    assert_eq!(
        outcome(&mut wire, "create table agent.look (id int)"),
        "done"
    );
    refused(&mut wire, "select * from whole", "no-secret");
}

#[test]
fn functions_that_take_the_place_of_built_in_ones_are_refused() {
    let world = world();
    let steal = "language plpgsql as $$ begin return (select word from secret); end $$";
    world.admin(&format!(
        "create function public.lower(varchar) returns text {steal};
         create function agent.md5(int) returns text {steal};
         create function public.cheat(int, int) returns bool language plpgsql as
            $$ begin return true; end $$;
         create operator public.<= (leftarg = int, rightarg = int, function = public.cheat);
         create function public.word_of(plain) returns text {steal};",
    ));
    let mut wire = world.login();
    refused(&mut wire, "select lower('X'::varchar)", "public.lower()");
    assert_eq!(wire.value("select pg_catalog.lower('X')"), "x");
    assert_eq!(wire.value("select upper('x')"), "X");
    refused(&mut wire, "select 1 <= 2", "public.<=()");
    refused(&mut wire, "select 1 between 0 and 2", "public.<=()");
    refused(
        &mut wire,
        "select plain.word_of from plain",
        "public.word_of()",
    );
    refused(
        &mut wire,
        "select (p).word_of from plain p",
        "public.word_of()",
    );
    // Not on the path, and then on it.
    assert_eq!(outcome(&mut wire, "select md5('x')"), "done");
    assert_eq!(
        outcome(&mut wire, "set search_path = agent, public"),
        "done"
    );
    refused(&mut wire, "select md5('x')", "agent.md5()");
    assert_eq!(outcome(&mut wire, "reset search_path"), "done");
    assert_eq!(outcome(&mut wire, "select md5('x')"), "done");
}

/// A table of the same name in two schemas, of which one is denied.
fn world_of_two() -> World {
    let world = world();
    world.admin(
        "create table agent.secret (id int, word text); insert into agent.secret values (1, 'own');
         alter table agent.secret owner to svc;",
    );
    world
}

#[test]
fn every_way_to_change_the_search_path_is_followed() {
    let world = world_of_two();
    let mut wire = world.login();
    let read = "select word from secret";
    refused(&mut wire, read, "no-secret");
    for (change, undo) in [
        ("set search_path = agent, public", "reset search_path"),
        ("set schema 'agent'", "set search_path to default"),
        (
            "select set_config('search_path', 'agent', false)",
            "discard all",
        ),
        ("set session search_path to agent", "reset all"),
    ] {
        assert_eq!(outcome(&mut wire, change), "done", "{change}");
        assert_eq!(wire.value(read), "own", "{change}");
        assert_eq!(outcome(&mut wire, undo), "done", "{undo}");
        refused(&mut wire, read, "no-secret");
    }
    for (inside, end) in [
        ("set local search_path = agent", "commit"),
        ("set search_path = agent", "rollback"),
        ("savepoint s; set search_path = agent", "rollback to s"),
        ("select set_config('search_path', 'agent', true)", "commit"),
        (
            "set transaction isolation level serializable; set local schema 'agent'",
            "rollback",
        ),
    ] {
        assert_eq!(outcome(&mut wire, "begin"), "done");
        assert_eq!(outcome(&mut wire, inside), "done", "{inside}");
        assert_eq!(wire.value(read), "own", "{inside}");
        assert_eq!(outcome(&mut wire, end), "done", "{end}");
        refused(&mut wire, read, "no-secret");
        let _ended = wire.query("rollback");
    }
    assert_eq!(
        outcome(
            &mut wire,
            "begin; set local search_path = agent; select 1; commit"
        ),
        "done"
    );
    refused(&mut wire, read, "no-secret");
}

#[test]
fn a_schema_that_somebody_makes_is_on_the_path_at_once() {
    let world = world();
    world
        .admin("create table public.diary (word text); insert into public.diary values ('public')");
    let mut wire = world.login();
    assert_eq!(wire.value("select word from diary"), "public");
    // The account's own schema comes before `public` on the default path.
    world.admin(
        "create schema svc authorization svc; create view svc.diary as select word from secret;
         alter view svc.diary owner to svc;",
    );
    assert_eq!(
        outcome(&mut wire, "create table agent.look (id int)"),
        "done"
    );
    refused(&mut wire, "select word from diary", "no-secret");
    world.admin("drop schema svc cascade");
    assert_eq!(
        outcome(&mut wire, "create table agent.again (id int)"),
        "done"
    );
    assert_eq!(wire.value("select word from diary"), "public");
}

#[test]
fn a_prepared_statement_is_judged_by_the_path_of_its_execution() {
    let world = world_of_two();
    let mut wire = world.login();
    assert_eq!(
        outcome(&mut wire, "set search_path = agent, public"),
        "done"
    );
    wire.parse("s", "select word from secret");
    wire.sync();
    wire.until_ready();
    wire.bind("", "s", &[]);
    wire.execute("", 0);
    wire.sync();
    assert!(wire.until_ready().iter().any(|message| message.tag == 'D'));
    assert_eq!(outcome(&mut wire, "set search_path = public"), "done");
    wire.bind("", "s", &[]);
    wire.execute("", 0);
    wire.sync();
    let answers = wire.until_ready();
    assert!(words(error(&answers)).contains("no-secret"), "{answers:?}");
    assert_eq!(outcome(&mut wire, "reset search_path"), "done");
    assert_eq!(
        outcome(&mut wire, "prepare p as select word from plain"),
        "done"
    );
    world.admin("create view agent.plain as select * from secret");
    assert_eq!(
        outcome(&mut wire, "set search_path = agent, public"),
        "done"
    );
    assert_eq!(
        outcome(&mut wire, "create table agent.look (id int)"),
        "done"
    );
    refused(&mut wire, "execute p", "no-secret");
}

#[test]
fn temporary_tables_are_the_sessions_own() {
    let world = world();
    let mut wire = world.login();
    assert_eq!(
        outcome(&mut wire, "create temp table mine as select * from plain"),
        "done"
    );
    assert_eq!(wire.value("select word from mine"), "shown");
    refused(
        &mut wire,
        "create temp view v as select * from secret",
        "no-secret",
    );
    assert_eq!(
        outcome(&mut wire, "create temp table plain (word text)"),
        "done"
    );
    assert_eq!(outcome(&mut wire, "select word from plain"), "done");
}

#[test]
fn without_a_catalogue_nothing_that_needs_one_runs() {
    let server = orders_server();
    // One that may not be read: the functions that print definitions are not the account's.
    server.psql_in(
        "orders",
        "revoke execute on function pg_get_viewdef(oid) from public;",
    );
    let mut setup = Setup::for_server(&server);
    setup.policy = POLICY;
    let appliance = Appliance::start(&setup);
    let mut wire = appliance.login("claude", "agents");
    assert_eq!(outcome(&mut wire, "begin"), "done");
    assert_eq!(outcome(&mut wire, "rollback"), "done");
    let refused = outcome(&mut wire, "select * from orders");
    assert!(
        refused.starts_with("58000 the catalogue of the target"),
        "{refused}"
    );
    server.psql_in(
        "orders",
        "grant execute on function pg_get_viewdef(oid) to public;",
    );
    wait_until("the catalogue to be readable", || {
        outcome(&mut wire, "select * from orders") == "done"
    });
}

const MASKED: &str = r#"
[[rule]]
name    = "work"
groups  = ["agents", "staff"]
targets = ["orders"]
allow   = { statements = ["*"] }

[[mask]]
name    = "words"
targets = ["orders"]
except_groups = ["staff"]
columns = ["public.secret.word"]
with    = "last4"
deny_predicates = true
"#;

/// The first column of the first row.
fn shown(wire: &mut Wire, sql: &str) -> String {
    let answers = wire.query(sql);
    match answers.iter().find(|message| message.tag == 'D') {
        Some(row) => row.columns().first().cloned().flatten().unwrap_or_default(),
        None => outcome(wire, sql),
    }
}

#[test]
fn columns_are_masked_by_what_a_statement_shows_of_them() {
    let world = masked_world();
    world.admin(
        "update secret set word = 'a-hidden-word-7391';
         create view peek as select id, word as renamed from secret;",
    );
    let mut staff = world.appliance.login("ada", "staff");
    let mut wire = world.login();
    assert_eq!(
        shown(&mut staff, "select word from secret"),
        "a-hidden-word-7391"
    );
    for revealing in [
        "select word from secret where id = 1",
        "select s.word as id from secret s",
        "select renamed from peek",
        "with w as (select * from peek) select renamed from w order by id",
    ] {
        let value = shown(&mut wire, revealing);
        assert!(
            value.ends_with("7391") && !value.contains("hidden"),
            "{revealing}: {value}"
        );
    }
    for derived in [
        "select upper(word) from secret",
        "select row_to_json(s) from secret s",
        "select s from secret s",
        "select word || 'x' from secret",
        "select array_agg(word) from secret",
        "select md5(renamed) from peek",
        "select renamed from peek union select 'a-hidden-word-7391'",
        "select (select max(word) from secret)",
    ] {
        let answers = wire.query(derived);
        let text = format!("{answers:?}").to_lowercase();
        assert!(
            !text.contains("7391") && !text.contains("hidden"),
            "{derived}: {text}"
        );
    }
    for refused_text in [
        "select id from secret where word like 'a%'",
        "select id from secret order by word",
        "select id, word from secret order by 2",
        "create table agent.copy as select word from secret",
        "select id from peek where renamed > 'b'",
    ] {
        refused(&mut wire, refused_text, "public.secret.word");
    }
    assert_eq!(
        shown(&mut wire, "select id, word from secret order by 1"),
        "1"
    );
}

#[test]
fn prepared_statements_and_cursors_are_masked_by_what_they_were_made_of() {
    let world = masked_world();
    world.admin("update secret set word = 'a-hidden-word-7391'");
    let mut wire = world.login();
    assert_eq!(
        outcome(&mut wire, "prepare p as select word from secret"),
        "done"
    );
    let value = shown(&mut wire, "execute p");
    assert!(
        value.ends_with("7391") && !value.contains("hidden"),
        "{value}"
    );
    assert_eq!(
        outcome(
            &mut wire,
            "begin; declare c cursor for select word || '' from secret"
        ),
        "done"
    );
    let value = shown(&mut wire, "fetch c");
    assert!(
        !value.contains("7391") && !value.contains("hidden"),
        "{value}"
    );
    assert_eq!(outcome(&mut wire, "commit"), "done");
    // A view that is put over the column while the session is open.
    world.admin("create view late as select word as plain_name from secret");
    let value = shown(&mut wire, "select plain_name from late");
    assert!(
        value.ends_with("7391") && !value.contains("hidden"),
        "{value}"
    );
}

const COLUMNS: &str = r#"
[[rule]]
name    = "work"
groups  = ["agents"]
targets = ["orders"]
allow   = { statements = ["select", "insert", "update", "create"] }

[[rule]]
name    = "no-words"
groups  = ["agents"]
targets = ["orders"]
deny    = { statements = ["select", "update"], columns = ["secret.word"] }
"#;

#[test]
fn rules_about_columns_go_by_the_columns_of_a_statement() {
    let world = world_under(COLUMNS, "");
    world.admin(
        "create view peek as select id, word as renamed from secret;
         create table ruled (id int);
         create rule r as on insert to ruled do also update secret set word = 'x';",
    );
    let mut wire = world.login();
    for passes in [
        "select id from secret",
        "select count(*) from secret",
        "select id from peek",
        "update secret set id = 1 where id = 1",
        "select word from plain",
    ] {
        assert_eq!(outcome(&mut wire, passes), "done", "{passes}");
    }
    for text in [
        "select word from secret",
        "select * from secret",
        "select s from secret s",
        "select renamed from peek",
        "select id from secret where word = 'x'",
        "select id from peek order by renamed",
        "update secret set word = 'y' where id = 1",
        "update secret set id = 1 where id = 1 returning *",
        "insert into ruled values (1)",
        "select (select max(renamed) from peek) from plain",
    ] {
        refused(&mut wire, text, "no-words");
    }
}

const EVERYTHING: &str = r#"
[[rule]]
name    = "work"
groups  = ["agents"]
targets = ["orders"]
allow   = { statements = ["*"] }
"#;

/// Reading how a view is made waits for whoever has locked a table of it.
#[test]
fn a_session_that_holds_locks_does_not_wait_for_a_look_that_waits_for_them() {
    let world = world_under(EVERYTHING, "");
    world.admin("create view over_plain as select * from plain");
    let mut holder = world.login();
    let mut other = world.login();
    assert_eq!(outcome(&mut holder, "select count(*) from plain"), "done");
    assert_eq!(outcome(&mut holder, "begin"), "done");
    let locked = "lock table plain in access exclusive mode";
    assert_eq!(outcome(&mut holder, locked), "done");
    assert_eq!(outcome(&mut other, "create table made (id int)"), "done");
    assert_eq!(outcome(&mut holder, "select count(*) from plain"), "done");
    assert_eq!(outcome(&mut holder, "commit"), "done");
    assert_eq!(outcome(&mut other, "select * from made"), "done");
}
