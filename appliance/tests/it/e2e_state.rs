//! Nothing of one session is visible to the next on the same pooled connection.
//!
//! Each case leaves something behind, sees that it is there, ends the session in one of several
//! ways, and looks for it from the session that comes next: on the same server process, or, where
//! no reset clears it, on another one.

use std::net::SocketAddr;

use crate::appliance::{Appliance, Setup, orders_server_with, wait_until};
use crate::postgres::{Options, Server};
use crate::wire::{Wire, cancel_packet, error, message, status, tags, terminated};

/// One connection for each target, so that the next session gets the one that the last has left.
const POOL: &str = "pool = { connections = 1, warm = 1 }";

/// Everything is allowed, and the functions that the tests define by name.
const POLICY: &str = r#"
[[rule]]
name    = "all"
groups  = ["analysts"]
targets = ["*"]
allow   = { statements = ["*"] }

[[rule]]
name    = "listed"
groups  = ["analysts"]
targets = ["*"]
allow   = { statements = ["do"] }

[[rule]]
name    = "called-by-number"
groups  = ["analysts"]
targets = ["*"]
allow   = { statements = ["unknown"] }

[[rule]]
name    = "functions"
groups  = ["analysts"]
targets = ["*"]
allow   = { statements = ["function"], functions = ["public.remember", "public.remember_in_perl", "public.recall_from_perl", "public.remember_while_planned", "public.dblink_connect", "public.dblink_get_connections"] }
"#;

/// What the next session finds itself on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    SameProcess,
    AnotherProcess,
}

/// Where a trace shows.
enum Look {
    Nowhere,
    /// In the session itself: a query of one value, or the SQLSTATE that it fails with.
    Inside(&'static str),
    /// To everybody: the same, asked by the superuser.
    Outside(&'static str),
}

enum Leave {
    Sql(&'static str),
    Said(fn(&mut Wire)),
}

struct Trace {
    name: &'static str,
    target: &'static str,
    leave: Leave,
    look: Look,
    /// What the session that left it sees.
    seen: &'static str,
    /// What the next one sees.
    gone: &'static str,
}

impl Trace {
    const fn sql(name: &'static str, sql: &'static str) -> Self {
        Self {
            name,
            target: "orders",
            leave: Leave::Sql(sql),
            look: Look::Nowhere,
            seen: "",
            gone: "",
        }
    }

    const fn said(name: &'static str, say: fn(&mut Wire)) -> Self {
        Self {
            leave: Leave::Said(say),
            ..Self::sql(name, "")
        }
    }

    const fn inside(self, sql: &'static str, seen: &'static str, gone: &'static str) -> Self {
        Self {
            look: Look::Inside(sql),
            seen,
            gone,
            ..self
        }
    }

    const fn outside(self, sql: &'static str, seen: &'static str, gone: &'static str) -> Self {
        Self {
            look: Look::Outside(sql),
            seen,
            gone,
            ..self
        }
    }

    /// Needs rights that a target's account should not have.
    const fn by_root(self) -> Self {
        Self {
            target: "root",
            ..self
        }
    }
}

/// How the session that leaves something ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Terminate,
    Close,
    Reset,
    /// The beginning of a message, and then the end of the stream.
    MidMessage,
}

const ENDS: [End; 4] = [End::Terminate, End::Close, End::Reset, End::MidMessage];

impl End {
    fn end(self, mut wire: Wire) {
        match self {
            Self::Terminate => wire.send('X', b""),
            Self::Close => {}
            Self::Reset => wire.reset(),
            Self::MidMessage => wire.send_raw(&message('Q', b"select 'cut short'\0")[..9]),
        }
    }
}

/// A server with what the traces need, and an appliance with one shard before it.
struct World {
    server: Server,
    appliance: Appliance,
    token: String,
}

impl World {
    fn new(tables: &str) -> Self {
        let server = orders_server_with(Options {
            hba: vec![
                "host all svc 127.0.0.1/32 scram-sha-256".into(),
                "host all root 127.0.0.1/32 trust".into(),
            ],
            ..Options::default()
        });
        server.psql("create role root superuser login; grant pg_read_all_data to svc");
        server.psql("select pg_replication_origin_create('leftover')");
        server.psql_in(
            "orders",
            "create extension dblink;
             create extension plperl;
             create function remember_in_perl() returns text language plperl as
                 $$ $_SHARED{mark} = 'kept'; return 'done'; $$;
             create function recall_from_perl() returns text language plperl as
                 $$ return $_SHARED{mark} || 'none'; $$;
             create function remember() returns text language plpgsql as
                 $$ begin perform setseed(0.5); return 'done'; end $$;
             create function remember_while_planned() returns int immutable language plpgsql as
                 $$ begin perform set_config('leftover.mark', 'kept', false); return 1; end $$;
             create sequence numbers; alter sequence numbers owner to svc;
             select lo_create(4711); alter large object 4711 owner to svc",
        );
        let mut setup = Setup::for_server(&server);
        setup.shards = 1;
        setup.policy = POLICY;
        setup.target_keys = POOL.into();
        setup.tables = format!(
            "{tables}\n[[target]]\nname = \"root\"\nprotocol = \"postgres\"\n\
             address = \"127.0.0.1:{}\"\ndatabase = \"orders\"\nuser = \"root\"\n\
             tls = \"disable\"\n{POOL}\n",
            server.port()
        );
        let appliance = Appliance::start(&setup);
        let token = appliance.token("claude", "analysts");
        Self {
            server,
            appliance,
            token,
        }
    }

    fn login(&self, target: &str) -> Wire {
        Wire::login(self.appliance.address(), "claude", target, &self.token)
    }

    fn address(&self) -> SocketAddr {
        self.appliance.address()
    }

    fn check(&self, trace: &Trace, end: End, expected: Next) {
        let case = format!("{}, {end:?}", trace.name);
        let mut first = self.login(trace.target);
        let process = first.value("select pg_backend_pid()");
        match trace.leave {
            Leave::Sql(sql) => {
                let answers = first.query(sql);
                let refused = answers.iter().any(|answer| answer.tag == 'E');
                assert!(!refused, "{case}: {answers:?}");
            }
            Leave::Said(say) => say(&mut first),
        }
        assert_eq!(self.look(&mut first, trace), trace.seen, "{case}: not left");
        end.end(first);
        let mut second = self.login(trace.target);
        let next = if second.value("select pg_backend_pid()") == process {
            Next::SameProcess
        } else {
            Next::AnotherProcess
        };
        assert_eq!(next, expected, "{case}");
        assert_eq!(self.look(&mut second, trace), trace.gone, "{case}");
        second.send('X', b"");
    }

    fn look(&self, wire: &mut Wire, trace: &Trace) -> String {
        match trace.look {
            Look::Nowhere => String::new(),
            Look::Inside(sql) => ask(wire, sql),
            Look::Outside(sql) => self.server.psql_in("orders", sql),
        }
    }
}

/// The first value of the first row, or the SQLSTATE; empty for NULL and for no row.
fn ask(wire: &mut Wire, sql: &str) -> String {
    let answers = wire.query(sql);
    let telling = answers
        .iter()
        .find(|answer| matches!(answer.tag, 'D' | 'E'));
    match telling {
        None => String::new(),
        Some(answer) if answer.tag == 'E' => answer.sqlstate(),
        Some(row) => row.columns().remove(0).unwrap_or_default(),
    }
}

const PREPARED: &str = "select count(*) from pg_prepared_statements";
const CURSORS: &str = "select count(*) from pg_cursors";
const ADVISORY: &str = "select count(*) from pg_locks where locktype = 'advisory'";
const MARK: &str = "select coalesce(current_setting('leftover.mark', true), 'none')";

/// What `DISCARD ALL` clears: the connection is used again.
const CLEARED: &[Trace] = &[
    Trace::sql("SET", "set work_mem = '7MB'").inside("show work_mem", "7MB", "4MB"),
    Trace::sql("set_config", "select set_config('work_mem', '8MB', false)").inside(
        "show work_mem",
        "8MB",
        "4MB",
    ),
    Trace::sql(
        "SET in a transaction",
        "begin; set work_mem = '9MB'; commit",
    )
    .inside("show work_mem", "9MB", "4MB"),
    Trace::sql("statement_timeout", "set statement_timeout = 12345").inside(
        "show statement_timeout",
        "12345ms",
        "0",
    ),
    Trace::sql("idle_session_timeout", "set idle_session_timeout = 123456").inside(
        "show idle_session_timeout",
        "123456ms",
        "0",
    ),
    Trace::sql("search_path", "set search_path = pg_catalog").inside(
        "show search_path",
        "pg_catalog",
        "\"$user\", public",
    ),
    Trace::sql("plan_cache_mode", "set plan_cache_mode = force_custom_plan").inside(
        "show plan_cache_mode",
        "force_custom_plan",
        "auto",
    ),
    Trace::sql("level of notices", "set client_min_messages = error").inside(
        "show client_min_messages",
        "error",
        "notice",
    ),
    Trace::sql("a reported setting", "set datestyle = 'German'").inside(
        "select date '2026-11-26'",
        "26.11.2026",
        "2026-11-26",
    ),
    Trace::sql("time zone", "set time zone 'Asia/Tokyo'").inside(
        "select extract(timezone_hour from now())",
        "9",
        "0",
    ),
    Trace::sql(
        "characteristics of transactions",
        "set session characteristics as transaction isolation level serializable, read only",
    )
    .inside(
        "select current_setting('transaction_isolation') || current_setting('transaction_read_only')",
        "serializableon",
        "read committedoff",
    ),
    Trace::sql(
        "SET TRANSACTION, committed",
        "begin; set transaction isolation level serializable; commit; set work_mem = '5MB'",
    )
    .inside("show work_mem", "5MB", "4MB"),
    Trace::sql("role", "set role pg_read_all_data").inside(
        "select current_user",
        "pg_read_all_data",
        "svc",
    ),
    Trace::sql("session authorization", "set session authorization direct")
        .inside("select session_user", "direct", "root")
        .by_root(),
    Trace::sql(
        "session_replication_role",
        "set session_replication_role = replica",
    )
    .inside("show session_replication_role", "replica", "origin")
    .by_root(),
    Trace::sql(
        "application_name",
        "set application_name = 'the first of the two'",
    )
    .inside(
        "show application_name",
        "builtin/claude the first of the two",
        "builtin/claude",
    ),
    Trace::sql("temporary table", "create temp table leftover (a int)").inside(
        "select to_regclass('pg_temp.leftover')",
        "leftover",
        "",
    ),
    Trace::sql("temporary view", "create temp view leftover as select 1").inside(
        "select to_regclass('pg_temp.leftover')",
        "leftover",
        "",
    ),
    Trace::sql("temporary sequence", "create temp sequence leftover").inside(
        "select to_regclass('pg_temp.leftover')",
        "leftover",
        "",
    ),
    Trace::sql(
        "temporary function",
        "create function pg_temp.leftover() returns int language sql as 'select 1'",
    )
    .inside(
        "select count(*) from pg_proc where proname = 'leftover'",
        "1",
        "0",
    ),
    Trace::sql(
        "temporary type",
        "create type pg_temp.leftover_type as enum ('a')",
    )
    .inside(
        "select count(*) from pg_type where typname = 'leftover_type'",
        "1",
        "0",
    ),
    Trace::sql("PREPARE", "prepare leftover as select 1").inside(PREPARED, "1", "0"),
    Trace::said("Parse", |wire| {
        wire.parse("leftover", "select 1");
        wire.sync();
        wire.until_ready();
    })
    .inside(PREPARED, "1", "0"),
    Trace::sql(
        "cursor WITH HOLD",
        "declare leftover cursor with hold for select 1",
    )
    .inside(CURSORS, "1", "0"),
    Trace::sql("advisory lock", "select pg_advisory_lock(7)").outside(ADVISORY, "1", "0"),
    Trace::sql(
        "shared advisory locks, twice",
        "select pg_advisory_lock_shared(8), pg_advisory_lock_shared(8)",
    )
    .outside(ADVISORY, "1", "0"),
    Trace::sql("LISTEN", "listen leftover").inside(
        "select count(*) from pg_listening_channels()",
        "1",
        "0",
    ),
    Trace::sql("currval", "select nextval('numbers')").inside(
        "select currval('numbers') > 0",
        "t",
        "55000",
    ),
    Trace::sql("lastval", "select nextval('numbers')").inside(
        "select lastval() > 0",
        "t",
        "55000",
    ),
    Trace::sql("text of the last query", "select 'a-secret-of-the-first'").outside(
        "select count(*) from pg_stat_activity where query like '%a-secret' || '-of%' and pid <> pg_backend_pid()",
        "1",
        "0",
    ),
    Trace::said("unnamed statement", |wire| {
        wire.parse("", "select 'of the first'");
        wire.sync();
        wire.until_ready();
    }),
];

/// What no reset clears: the connection is closed.
const CLOSED: &[Trace] = &[
    Trace::sql("random seed", "select setseed(0.5)"),
    Trace::sql("random seed, SET", "set seed = 0.5"),
    Trace::sql(
        "random seed, set_config",
        "select set_config('seed', '0.5', false)",
    ),
    // A name that was set once is known from then on: '' instead of NULL.
    Trace::sql("custom setting", "set leftover.mark = 'kept'").inside(MARK, "kept", "none"),
    Trace::sql(
        "custom setting, local",
        "begin; set local leftover.mark = 'kept'; commit",
    )
    .inside(MARK, "", "none"),
    Trace::sql(
        "custom setting, set_config",
        "select set_config('leftover.mark', 'kept', true)",
    )
    .inside(MARK, "", "none"),
    Trace::sql("code", "do 'begin perform setseed(0.5); end'"),
    Trace::sql(
        "a function that is not built in",
        "select public.remember()",
    ),
    Trace::sql("a variable of PL/Perl", "select public.remember_in_perl()").inside(
        "select public.recall_from_perl()",
        "kept",
        "none",
    ),
    Trace::said("a function called by its number", |wire| {
        // setseed('0.5'), as text.
        let call = [
            &1599u32.to_be_bytes()[..],
            &[0, 0, 0, 1, 0, 0, 0, 3],
            b"0.5",
            &[0, 0],
        ];
        wire.send('F', &call.concat());
        let answers = wire.until_ready();
        assert_eq!(tags(&answers), "VZ", "{answers:?}");
    }),
    Trace::said("a function that ran while it was planned", |wire| {
        wire.parse("", "select public.remember_while_planned()");
        wire.bind("", "", &[]);
        wire.sync();
        wire.until_ready();
    })
    .inside(MARK, "kept", "none"),
    Trace::sql("LOAD", "load 'auto_explain'")
        .inside(
            "select coalesce(current_setting('auto_explain.log_analyze', true), 'none')",
            "off",
            "none",
        )
        .by_root(),
    Trace::sql(
        "dblink",
        "select public.dblink_connect('leftover', 'dbname=orders user=root host=127.0.0.1 port=' || current_setting('port'))",
    )
    .inside(
        "select array_to_string(public.dblink_get_connections(), ',')",
        "leftover",
        "",
    )
    .by_root(),
    Trace::sql("backup mode", "select pg_backup_start('leftover', true)")
        .inside(
            "select pg_backup_start('again', true) is not null",
            "55000",
            "t",
        )
        .by_root(),
    Trace::sql(
        "temporary replication slot",
        "select pg_create_physical_replication_slot('leftover', false, true)",
    )
    .outside("select count(*) from pg_replication_slots", "1", "0")
    .by_root(),
    Trace::sql(
        "replication origin",
        "select pg_replication_origin_session_setup('leftover')",
    )
    .inside("select pg_replication_origin_session_is_setup()", "t", "f")
    .by_root(),
    Trace::sql("open transaction", "begin; set local work_mem = '7MB'").inside(
        "show work_mem",
        "7MB",
        "4MB",
    ),
    Trace::sql(
        "SET TRANSACTION",
        "begin; set transaction isolation level serializable",
    )
    .inside("show transaction_isolation", "serializable", "read committed"),
    Trace::sql(
        "descriptor of a large object",
        "begin; select lo_open(4711, 131072)",
    )
    .inside("select lo_tell(0)", "0", "42704"),
    Trace::said("failed transaction", |wire| {
        assert_eq!(status(&wire.query("begin; select 1/0")), 'E');
    })
    .inside("select 1", "25P02", "1"),
    Trace::said("portal in a transaction", |wire| {
        wire.query("begin");
        wire.parse("", "select generate_series(1, 10)");
        wire.bind("leftover", "", &[]);
        wire.execute("leftover", 1);
        wire.sync();
        wire.until_ready();
    })
    .inside("select count(*) from pg_cursors where name = 'leftover'", "1", "0"),
];

#[test]
fn what_a_reset_clears_is_not_there_for_the_next_session_of_the_connection() {
    let world = World::new("");
    for trace in CLEARED {
        for end in ENDS {
            world.check(trace, end, Next::SameProcess);
        }
    }
}

#[test]
fn what_no_reset_clears_ends_with_its_connection() {
    let world = World::new("");
    for trace in CLOSED {
        for end in ENDS {
            world.check(trace, end, Next::AnotherProcess);
        }
    }
}

#[test]
fn the_unnamed_statement_and_portal_of_the_last_session_are_not_there() {
    let world = World::new("");
    let mut first = world.login("orders");
    let process = first.value("select pg_backend_pid()");
    first.parse("", "select 'of the first'");
    first.bind("", "", &[]);
    first.sync();
    first.until_ready();
    End::Terminate.end(first);
    let mut second = world.login("orders");
    second.bind("", "", &[]);
    second.sync();
    assert_eq!(error(&second.until_ready()).sqlstate(), "26000");
    second.execute("", 0);
    second.sync();
    assert_eq!(error(&second.until_ready()).sqlstate(), "34000");
    assert_eq!(second.value("select pg_backend_pid()"), process);
}

#[test]
fn notifications_for_the_last_session_do_not_reach_the_next() {
    let world = World::new("");
    for end in ENDS {
        let mut first = world.login("orders");
        let process = first.value("select pg_backend_pid()");
        first.query("listen leftover");
        // Inside a transaction the server keeps them back until it ends.
        first.query("begin");
        world.server.psql_in("orders", "notify leftover, 'unread'");
        first.query("commit");
        world.server.psql_in("orders", "notify leftover, 'unread'");
        end.end(first);
        let mut second = world.login("orders");
        world.server.psql_in("orders", "notify leftover, 'late'");
        for _ in 0..3 {
            let answers = second.query("select 1");
            assert!(
                answers.iter().all(|answer| answer.tag != 'A'),
                "{answers:?}"
            );
        }
        assert_eq!(second.value("select pg_backend_pid()"), process, "{end:?}");
        second.send('X', b"");
    }
}

#[test]
fn settings_of_a_start_up_are_not_those_of_the_next_session() {
    let world = World::new("");
    let parameters = [
        ("user", "claude"),
        ("database", "orders"),
        (
            "options",
            "-c statement_timeout=54321 -c leftover.mark=kept",
        ),
        ("TimeZone", "Asia/Tokyo"),
    ];
    let mut first = Wire::try_login(world.address(), &parameters, &world.token).unwrap();
    assert_eq!(first.value("show statement_timeout"), "54321ms");
    assert_eq!(ask(&mut first, MARK), "kept");
    let process = first.value("select pg_backend_pid()");
    End::Terminate.end(first);
    let mut second = world.login("orders");
    assert_ne!(second.value("select pg_backend_pid()"), process);
    assert_eq!(second.value("show statement_timeout"), "0");
    assert_eq!(ask(&mut second, MARK), "none");
    assert_ne!(second.parameter("TimeZone"), Some("Asia/Tokyo"));
    assert_eq!(
        error(&second.query("set client_encoding = 'LATIN1'")).sqlstate(),
        "42501"
    );
    End::Terminate.end(second);
    let third = world.login("orders");
    assert_eq!(third.parameter("client_encoding"), Some("UTF8"));
}

/// Gets a session into the middle of something.
type Begin = fn(&World, &mut Wire);

/// Sessions that end in the middle of something: what they did is undone, their connection ends.
const MIDDLES: &[(&str, Begin)] = &[
    ("a running statement", |world, wire| {
        wire.send('Q', b"select pg_sleep(60)\0");
        wait_until("the statement to run", || sleeping(&world.server) == "1");
    }),
    ("a result half read", |_, wire| {
        wire.send(
            'Q',
            b"select repeat('x', 1000) from generate_series(1, 1000000)\0",
        );
        while wire.receive().unwrap().tag != 'D' {}
    }),
    ("a COPY half read", |_, wire| {
        wire.send(
            'Q',
            b"copy (select generate_series(1, 10000000)) to stdout\0",
        );
        while wire.receive().unwrap().tag != 'd' {}
    }),
    ("a COPY half written", |_, wire| {
        wire.send('Q', b"copy customers (id, name) from stdin\0");
        assert_eq!(wire.receive().unwrap().tag, 'G');
        wire.send('d', b"7001\twhole\n7002\tha");
    }),
    ("a COPY ended and not answered", |_, wire| {
        wire.send('Q', b"begin; copy customers (id, name) from stdin\0");
        while wire.receive().unwrap().tag != 'G' {}
        wire.send('d', b"7001\twhole\n");
        wire.send('c', b"");
    }),
    ("a message of a COPY cut short", |_, wire| {
        wire.send('Q', b"copy customers (id, name) from stdin\0");
        assert_eq!(wire.receive().unwrap().tag, 'G');
        wire.send_raw(&message('d', &[b'7'; 300_000])[..200_000]);
    }),
    ("a pipeline without its Sync", |_, wire| {
        wire.parse("", "insert into customers (id, name) values ($1, 'piped')");
        for id in 7001..7100 {
            wire.bind("", "", &[Some(&id.to_string())]);
            wire.execute("", 0);
        }
        wire.send('H', b"");
        assert_eq!(wire.receive().unwrap().tag, '1');
    }),
    ("a transaction with locks", |_, wire| {
        wire.query("begin; lock table customers in access exclusive mode; delete from orders");
    }),
    ("a cancelled statement", |world, wire| {
        wire.send('Q', b"select pg_sleep(60)\0");
        wait_until("the statement to run", || sleeping(&world.server) == "1");
        send_cancel(world.address(), wire);
        assert_eq!(error(&wire.until_ready()).sqlstate(), "57014");
    }),
    ("a cancel on its way", |world, wire| {
        wire.send('Q', b"select pg_sleep(60)\0");
        wait_until("the statement to run", || sleeping(&world.server) == "1");
        send_cancel(world.address(), wire);
    }),
];

const SLEEPING: &str =
    "select count(*) from pg_stat_activity where usename = 'svc' and wait_event = 'PgSleep'";

fn sleeping(server: &Server) -> String {
    server.psql(SLEEPING)
}

/// Sends a CancelRequest and does not wait for its effect.
fn send_cancel(address: SocketAddr, wire: &Wire) {
    let (process, secret) = wire.key.clone().expect("a key");
    Wire::open(address).send_raw(&cancel_packet(process, &secret));
}

#[test]
fn a_connection_that_ends_in_the_middle_never_returns_to_the_pool() {
    let world = World::new("");
    for (middle, leave) in MIDDLES {
        for end in ENDS {
            let case = format!("{middle}, {end:?}");
            let mut first = world.login("orders");
            let process = first.value("select pg_backend_pid()");
            leave(&world, &mut first);
            end.end(first);
            let mut second = world.login("orders");
            assert_ne!(second.value("select pg_backend_pid()"), process, "{case}");
            // What was written is undone; a COPY that the server had whole is committed by nobody.
            assert_eq!(
                second.value("select count(*) from customers"),
                "100",
                "{case}"
            );
            assert_eq!(
                second.value("select count(*) from orders"),
                "1000",
                "{case}"
            );
            second.send('X', b"");
            let gone = format!("select count(*) from pg_stat_activity where pid = {process}");
            wait_until("the process to end", || world.server.psql(&gone) == "0");
        }
    }
}

#[test]
fn a_connection_that_dies_in_the_middle_of_a_statement_never_returns_to_the_pool() {
    let world = World::new("");
    for round in 0..10 {
        let mut first = world.login("orders");
        let process = first.value("select pg_backend_pid()");
        first.send('Q', b"select pg_sleep(60)\0");
        wait_until("the statement to run", || sleeping(&world.server) == "1");
        world
            .server
            .psql(&format!("select pg_terminate_backend({process})"));
        assert_eq!(error(&first.until_closed()).sqlstate(), "57P01");
        let mut second = world.login("orders");
        assert_ne!(second.value("select pg_backend_pid()"), process, "{round}");
        second.send('X', b"");
    }
}

/// Leaves one trace of each kind that matters: a setting, a table, a lock.
fn leave_some(wire: &mut Wire) {
    wire.query("set work_mem = '7MB'; create temp table leftover (a int)");
    assert_eq!(wire.value("select pg_advisory_lock(7) is null"), "f");
}

fn check_nothing_left(server: &Server, wire: &mut Wire) {
    assert_eq!(wire.value("show work_mem"), "4MB");
    assert_eq!(ask(wire, "select to_regclass('pg_temp.leftover')"), "");
    assert_eq!(server.psql_in("orders", ADVISORY), "0");
}

#[test]
fn sessions_that_are_cut_for_idleness_or_age_leave_nothing() {
    for (limit, sqlstate) in [("idle", "57P05"), ("lifetime", "57P01")] {
        let world = World::new(&format!("[session]\n{limit} = \"1s\"\n"));
        let mut first = world.login("orders");
        leave_some(&mut first);
        assert_eq!(error(&first.until_closed()).sqlstate(), sqlstate);
        check_nothing_left(&world.server, &mut world.login("orders"));
    }
}

#[test]
fn sessions_that_are_no_longer_admitted_or_break_the_protocol_leave_nothing() {
    let world = World::new("");
    let mut first = world.login("orders");
    leave_some(&mut first);
    first.send('~', b"what is this");
    assert_eq!(error(&first.until_closed()).sqlstate(), "08P01");
    let mut second = world.login("orders");
    check_nothing_left(&world.server, &mut second);
    leave_some(&mut second);
    world
        .appliance
        .write_policy(&POLICY.replace("analysts", "others"));
    world.appliance.cli_text(&["reload"]);
    assert_eq!(error(&second.until_closed()).sqlstate(), "57P01");
    let token = world.appliance.token("someone", "others");
    let mut third = Wire::login(world.address(), "someone", "orders", &token);
    check_nothing_left(&world.server, &mut third);
}

#[test]
fn a_drain_leaves_no_session_and_no_statement_on_the_target() {
    let mut world = World::new("[drain]\ndeadline = \"1s\"\n");
    let mut idle = world.login("orders");
    leave_some(&mut idle);
    let mut busy = world.login("root");
    busy.send('Q', b"begin; select pg_sleep(60)\0");
    let asleep =
        "select count(*) from pg_stat_activity where usename = 'root' and wait_event = 'PgSleep'";
    wait_until("the statement to run", || world.server.psql(asleep) == "1");
    assert!(world.appliance.terminate().success());
    assert_eq!(error(&idle.until_closed()).sqlstate(), "57P01");
    assert_eq!(error(&busy.until_closed()).sqlstate(), "57P01");
    let left = "select count(*) from pg_stat_activity where usename in ('svc', 'root')";
    wait_until("the server to be rid of all", || {
        world.server.psql(left) == "0"
    });
    world.appliance.resume();
    check_nothing_left(&world.server, &mut world.login("orders"));
}

#[test]
fn a_killed_appliance_leaves_no_session_on_the_target() {
    let mut world = World::new("");
    let mut idle = world.login("orders");
    leave_some(&mut idle);
    world.appliance.kill();
    assert!(idle.until_closed().is_empty());
    let left = "select count(*) from pg_stat_activity where usename = 'svc'";
    wait_until("the server to be rid of all", || {
        world.server.psql(left) == "0"
    });
    world.appliance.resume();
    check_nothing_left(&world.server, &mut world.login("orders"));
}

#[test]
fn a_statement_of_a_session_is_not_shown_in_the_next_ones_name() {
    let world = World::new("");
    let mut first = world.login("orders");
    let process = first.value("select pg_backend_pid()");
    End::Terminate.end(first);
    let token = world.appliance.token("second", "analysts");
    let mut second = Wire::login(world.address(), "second", "orders", &token);
    assert_eq!(second.value("select pg_backend_pid()"), process);
    assert_eq!(second.value("show sallyport.subject"), "builtin/second");
    second.send('Q', &terminated("select pg_sleep(60)"));
    wait_until("the statement to run", || sleeping(&world.server) == "1");
    let name = format!("select application_name from pg_stat_activity where pid = {process}");
    assert_eq!(world.server.psql(&name), "builtin/second");
}
