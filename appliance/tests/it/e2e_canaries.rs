//! What goes over the wire stays in the recording: nothing of it in logs, metrics, health or status.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::wire::{Wire, cancel_packet, tags};

/// Begins every canary. What follows says where it was planted.
const CANARY: &str = "cnry";

/// Names of things, which the catalogue may hold: it says who asked for what, and which objects
/// were touched.
const NAMES: [&str; 9] = [
    "cnry_user",
    "cnry_application",
    "cnry_database",
    "cnry_table",
    "cnry_dropped",
    "cnry_setting",
    "cnry_channel",
    "cnry_prepared",
    "cnry_cursor",
];

/// Says everything that an agent can say, and hears what a server can.
fn plant(appliance: &Appliance, token: &str) {
    let parameters = [
        ("user", "cnry_user"),
        ("database", "orders"),
        ("application_name", "cnry_application"),
    ];
    let mut wire = Wire::try_login(appliance.address(), &parameters, token).unwrap();
    let long = format!("select '{}'", "cnry-long ".repeat(2000));
    let deep = format!("select {}1 /* cnry-deep */", "(".repeat(20_000));
    let statements = [
        "select 'cnry-text'",
        "select 1 as \"cnry-column\"",
        "selekt 'cnry-syntax'",
        "select 'cnry-unterminated",
        "drop table cnry_dropped",
        "select 'cnry-batch'; drop table cnry_dropped; select 2",
        // A notice that names it.
        "create table if not exists cnry_table (id int)",
        "insert into cnry_table values (1, 'cnry-inserted')",
        "select * from cnry_table",
        "select cast('cnry-error' as int)",
        "select cnry_column from cnry_table",
        "set application_name = 'cnry-application-set'",
        "set cnry_setting.name = 'cnry-setting-value'",
        "set search_path = cnry_setting",
        "reset search_path",
        "listen cnry_channel",
        "notify cnry_channel, 'cnry-payload'",
        "prepare cnry_prepared as select $1::text",
        "execute cnry_prepared('cnry-executed')",
        "begin; declare cnry_cursor cursor for select 'cnry-fetched'; fetch 1 from cnry_cursor; end",
        "do $$ begin raise notice 'cnry-do'; end $$",
        "select set_config('search_path', 'cnry-config', false)",
        "alter role cnry_user password 'cnry-role-password'",
        "explain select 'cnry-explained'",
        "copy public.cnry_table to stdout",
        &long,
        &deep,
    ];
    for statement in statements {
        wire.query(statement);
    }
    begin_copy(&mut wire);
    wire.send('d', b"2\tcnry-copied\n");
    wire.send('d', b"three\tcnry-copied-badly\n");
    wire.send('c', b"");
    assert!(tags(&wire.until_ready()).contains('E'));
    begin_copy(&mut wire);
    wire.send('f', b"cnry-copy-fails\0");
    wire.until_ready();

    wire.parse("cnry-statement", "select $1, $2 -- cnry-parsed");
    wire.bind("cnry-portal", "cnry-statement", &[Some("cnry-bound"), None]);
    wire.describe_portal("cnry-portal");
    wire.execute("cnry-portal", 0);
    wire.sync();
    wire.until_ready();
    wire.bind("", "cnry-nobody", &[Some("cnry-bound-to-nothing")]);
    wire.sync();
    wire.until_ready();
    wire.send('F', b"cnry-function-call");
    wire.until_closed();

    let mut lost = Wire::login(appliance.address(), "cnry_user", "orders", token);
    lost.send('~', b"cnry-unknown-message");
    lost.until_closed();
    let mut cut = Wire::login(appliance.address(), "cnry_user", "orders", token);
    cut.send_raw(b"Q\0\0\0\xffcnry-cut-off");
    cut.reset();
}

fn begin_copy(wire: &mut Wire) {
    wire.send('Q', b"copy public.cnry_table from stdin\0");
    let mut message = wire.receive().unwrap();
    // What was notified before may come first.
    while message.tag == 'A' {
        message = wire.receive().unwrap();
    }
    assert_eq!(message.tag, 'G', "{message:?}");
}

/// Fails to log in, in every way that has a word of the peer in it.
fn plant_before_login(appliance: &Appliance, token: &str) {
    let refused = |parameters: &[(&str, &str)], password: &str| {
        let refusal = Wire::try_login(appliance.address(), parameters, password).err();
        assert!(refusal.is_some(), "{parameters:?}");
    };
    let user = ("user", "cnry_user");
    refused(&[user, ("database", "orders")], "cnry-password");
    refused(
        &[user, ("database", "orders")],
        &format!("{token}cnry-tail"),
    );
    refused(&[user, ("database", "cnry_database")], token);
    let options = ("options", "-c cnry.option=cnry-options");
    // Whether it is taken or not.
    drop(Wire::try_login(
        appliance.address(),
        &[user, ("database", "orders"), options],
        token,
    ));
    let claims = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJjbnJ5In0.cnry-signature";
    refused(&[user, ("database", "orders")], claims);
    let mut http = Wire::open(appliance.address());
    http.send_raw(b"GET /cnry-http HTTP/1.1\r\nCookie: cnry-cookie\r\n\r\n");
    http.until_closed_raw();
    let mut odd = Wire::open(appliance.address());
    odd.send_startup(196_608, &[("cnry-parameter", "cnry-value"), user]);
    let mut cancel = Wire::open(appliance.address());
    cancel.send_raw(&cancel_packet(0x636e_7279, b"cnry"));
    cancel.until_closed_raw();
}

/// The answer to a GET at the admin socket, whole.
fn ask(appliance: &Appliance, path: &str) -> String {
    let socket = appliance.directory().join("run/admin.sock");
    let mut stream = UnixStream::connect(socket).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: sallyport\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer
}

/// The canaries in `bytes`, each with what surrounds it, but for those that may be there.
fn found(bytes: &[u8], allowed: &[&str]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let places = text.match_indices(CANARY).filter(|(at, _)| {
        let rest = text.get(*at..).unwrap_or_default();
        !allowed.iter().any(|name| rest.starts_with(name))
    });
    places
        .map(|(at, _)| {
            let start = text.floor_char_boundary(at.saturating_sub(200));
            let end = text.floor_char_boundary((at + 60).min(text.len()));
            text[start..end].to_owned()
        })
        .collect()
}

fn databases(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(databases(&path));
        } else if path.to_string_lossy().contains(".sqlite") {
            found.push(path);
        }
    }
    found
}

#[test]
fn canaries_leave_by_no_way_but_the_recording() {
    for format in ["json", "text"] {
        let server = orders_server();
        server.psql_in(
            "orders",
            "create table cnry_table (id int, name text); alter table cnry_table owner to svc",
        );
        let mut setup = Setup::for_server(&server);
        setup.tables = format!("[log]\nlevel = \"trace\"\nformat = \"{format}\"\n");
        let appliance = Appliance::start(&setup);
        let token = appliance.token("claude", "analysts");
        plant_before_login(&appliance, &token);
        plant(&appliance, &token);
        wait_until("the sessions to end", || {
            let sessions = appliance.sessions();
            sessions.len() >= 3 && sessions.iter().all(|session| session["state"] != "live")
        });
        // They were said, heard and recorded.
        let recorded = appliance.everything_recorded();
        for canary in [
            "cnry-text",
            "cnry-copied",
            "cnry-bound",
            "cnry-inserted",
            "cnry-payload",
            "cnry-copy-fails",
        ] {
            assert!(recorded.contains(canary), "{canary} was not planted");
        }
        assert!(!recorded.contains("cnry-role-password"));

        for path in [
            "/v1/metrics",
            "/v1/health",
            "/v1/status",
            "/v1/openapi.json",
        ] {
            assert_eq!(
                found(ask(&appliance, path).as_bytes(), &[]),
                [""; 0],
                "{path}"
            );
        }
        let files = databases(appliance.directory());
        assert!(!files.is_empty());
        for path in files {
            let is_catalogue = path.to_string_lossy().contains("catalogue.sqlite");
            let allowed = if is_catalogue { NAMES.as_slice() } else { &[] };
            let leaked = found(&fs::read(&path).unwrap(), allowed);
            assert_eq!(leaked, [""; 0], "{}", path.display());
        }
        let log = appliance.log();
        assert!(log.lines().count() > 10, "nothing was logged: {log}");
        assert_eq!(
            found(log.as_bytes(), &[]),
            [""; 0],
            "in the log as {format}"
        );
    }
}

/// Whether this machine writes core files at all, so that the test below can tell.
fn machine_writes_cores() -> bool {
    let directory = tempfile::TempDir::new().unwrap();
    let status = Command::new("prlimit")
        .args(["--core=unlimited", "--", "sh", "-c", "kill -ABRT $$"])
        .current_dir(directory.path())
        .status()
        .unwrap();
    status.core_dumped()
}

#[test]
fn a_crash_leaves_no_core_with_secrets_in_it() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.wrapper = vec!["prlimit".into(), "--core=unlimited".into(), "--".into()];
    let mut appliance = Appliance::start(&setup);
    appliance.send_signal(Signal::ABORT);
    let status = appliance.wait();
    assert_eq!(status.signal(), Some(6));
    if machine_writes_cores() {
        assert!(!status.core_dumped());
    }
}
