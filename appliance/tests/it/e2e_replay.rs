//! Recorded sessions found and replayed by the shipped binary.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use appliance::recorder::{
    CommandKind, DecisionNote, EndReason, Journal, JournalThread, NoRoom, Note, PrincipalNote,
    Recorder, RecordingSettings, SessionStart, Verdict,
};
use runtime::ShardId;
use tempfile::TempDir;

use crate::appliance::{Appliance, Setup, json_lines, orders_server};
use crate::process;

/// Bytes of rows in the long session, in MiB; `SALLYPORT_REPLAY_MIB` asks for another size.
const SESSION_MIB: usize = 256;

/// What the replaying process may have in memory, in bytes, its own program included: a fraction of
/// the session.
const MEMORY_BYTES: usize = 64 << 20;

/// Rows between two looks at the memory.
const ROWS_PER_LOOK: usize = 1000;

const ROW_BYTES: usize = 4096;
const ROWS_PER_COMMAND: usize = 64;

/// Records a session of that many commands below `root`, as a shard would.
fn record(root: &Path, commands: usize) -> String {
    let settings = RecordingSettings::under(&root.join("run"), &root.join("state/recordings"));
    let thread = JournalThread::start(settings).unwrap();
    let journal = Journal::open(thread.handle(), ShardId(0)).unwrap();
    let start = SessionStart {
        principal: PrincipalNote {
            name: "ada".to_owned(),
            ..PrincipalNote::default()
        },
        target: "orders".to_owned(),
        protocol: "postgres".to_owned(),
        ..SessionStart::default()
    };
    let mut recorder = Recorder::open(&journal, &start).unwrap();
    let note = Note::new(&DecisionNote {
        verdict: Verdict::Permitted,
        rule: None,
        policy: 1,
        effects: &[],
        search_path: None,
        foreshadowed: None,
    });
    let replies = replies();
    for number in 1..=u64::try_from(commands).unwrap() {
        let query = message('Q', format!("select {number}\0").as_bytes());
        let drained = || thread.handle().flush(Duration::from_secs(60)).unwrap();
        while let Err(NoRoom { .. }) = recorder
            .command(number, CommandKind::Query, &query, &[], &note)
            .map(|recorded| assert_eq!(recorded.number(), number))
        {
            drained();
        }
        for piece in replies.chunks(64 << 10) {
            while recorder.response(number, piece).is_err() {
                drained();
            }
        }
    }
    let session = recorder.session().to_string();
    recorder.end(EndReason::Finished);
    drop(journal);
    thread.stop().unwrap();
    session
}

fn message(tag: char, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[u8::try_from(tag).unwrap()], length.as_slice(), body].concat()
}

fn replies() -> Vec<u8> {
    let mut column = b"\0\x01text\0".to_vec();
    column.extend([
        0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ]);
    let mut row = b"\0\x01".to_vec();
    row.extend(u32::try_from(ROW_BYTES).unwrap().to_be_bytes());
    row.extend(b"y".repeat(ROW_BYTES));
    let mut wire = message('T', &column);
    for _ in 0..ROWS_PER_COMMAND {
        wire.extend(message('D', &row));
    }
    wire.extend(message('C', b"SELECT 64\0"));
    wire.extend(message('Z', b"I"));
    wire
}

/// What a replay put out, and the most memory that it took.
#[derive(Debug, Default)]
struct Replayed {
    rows: usize,
    completions: usize,
    peak_bytes: usize,
}

fn replay(root: &Path, session: &str, form: &[&str]) -> Replayed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sallyport"));
    command
        .args(["--config", "/dev/null", "--state-directory"])
        .arg(root.join("state"))
        .arg("--runtime-directory")
        .arg(root.join("run"))
        .args(["replay", session])
        .args(form)
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::with_capacity(1 << 20, child.stdout.take().unwrap());
    let mut replayed = Replayed::default();
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).unwrap() > 0 {
        if line.len() > ROW_BYTES {
            replayed.rows += 1;
            if replayed.rows.is_multiple_of(ROWS_PER_LOOK) {
                let peak_bytes = process::peak_resident_bytes(child.id());
                replayed.peak_bytes = replayed.peak_bytes.max(peak_bytes);
            }
        } else {
            replayed.completions +=
                usize::from(String::from_utf8_lossy(&line).contains("SELECT 64"));
        }
        line.clear();
    }
    assert!(child.wait().unwrap().success());
    replayed
}

#[test]
fn a_session_longer_than_the_memory_is_replayed_whole() {
    let mib = std::env::var("SALLYPORT_REPLAY_MIB").map_or(SESSION_MIB, |it| it.parse().unwrap());
    let commands = (mib << 20) / (ROW_BYTES * ROWS_PER_COMMAND);
    let directory = TempDir::new().unwrap();
    std::fs::create_dir(directory.path().join("state")).unwrap();
    let session = record(directory.path(), commands);
    // As text it holds nothing from one line to the next.
    for form in [["--sql"], ["--json"]] {
        let begun = Instant::now();
        let replayed = replay(directory.path(), &session, &form);
        let seconds = begun.elapsed().as_secs_f64();
        println!("{mib} MiB as {form:?}: {seconds:.1} s, {replayed:?}");
        assert_eq!(replayed.rows, commands * ROWS_PER_COMMAND);
        assert_eq!(replayed.completions, commands);
        assert!((1..MEMORY_BYTES).contains(&replayed.peak_bytes));
    }
}

#[test]
fn a_session_is_replayed_at_its_own_pace_and_faster() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    assert_eq!(wire.value("select 'first' from pg_sleep(0)"), "first");
    assert_eq!(wire.value("select 'second' from pg_sleep(1.5)"), "second");
    drop(wire);
    let sessions = json_lines(&appliance.cli_text(&["sessions", "--json"]));
    let id = sessions[0]["id"].as_str().unwrap();
    let timed = |options: &[&str]| {
        let begun = Instant::now();
        let text = appliance.cli_text(&[&["replay", id], options].concat());
        assert!(text.contains("'second'"), "{text}");
        begun.elapsed()
    };
    // A pause that is taken is never shorter than it says.
    assert!(timed(&["--speed", "1"]) >= Duration::from_millis(1500));
    assert!(timed(&["--speed", "1", "--sql", "--max-pause", "1s"]) >= Duration::from_secs(1));
    timed(&["--speed", "1000"]);
    timed(&["--speed", "instant"]);
    for wrong in [
        ["--speed", "fast"],
        ["--speed", "-1"],
        ["--max-pause", "long"],
    ] {
        let output = appliance.cli(&[["replay", id].as_slice(), &wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_prepared_statement_of_a_stock_client_is_shown_with_its_values() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    wire.parse("", "select name, null, id from customers where id = $1");
    wire.bind("", "", &[Some("3")]);
    wire.execute("", 0);
    wire.sync();
    while wire.receive().unwrap().tag != 'Z' {}
    wire.send('Q', b"drop table customers\0");
    while wire.receive().unwrap().tag != 'Z' {}
    drop(wire);
    let id = appliance.sessions()[0]["id"].as_str().unwrap().to_owned();
    let text = appliance.cli_text(&["replay", &id, "--sql"]);
    let expected = "-- $1 = '3'\n\
                    select name, null, id from customers where id = $1;\n \
                    customer 3 | NULL | 3\n\
                    (1 row)\n\
                    -- SELECT 1\n";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("refused by no-destruction\ndrop table customers;\n-- ERROR 42501: "));
}

#[test]
fn sessions_are_found_by_what_was_done_in_them() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let statements = [
        ("reader", "select count(*) from customers"),
        ("writer", "update orders set total = 1 where id = 1"),
        ("vandal", "drop table customers"),
    ];
    for (agent, statement) in statements {
        let mut wire = appliance.login(agent, "analysts");
        wire.send('Q', format!("{statement}\0").as_bytes());
        while wire.receive().unwrap().tag != 'Z' {}
    }
    let check = |conditions: &[&str], expected: &[&str]| {
        let listed = appliance.cli_text(&[&["sessions", "--json"], conditions].concat());
        let listed = json_lines(&listed);
        let mut agents: Vec<&str> = listed
            .iter()
            .map(|session| session["name"].as_str().unwrap())
            .collect();
        agents.sort_unstable();
        assert_eq!(agents, expected, "{conditions:?}");
    };
    check(&["--class", "drop"], &["vandal"]);
    check(&["--class", "update,select"], &["reader", "writer"]);
    check(&["--class", "write"], &["writer"]);
    check(&["--table", "customers"], &["reader", "vandal"]);
    check(&["--table", "public.ord*"], &["writer"]);
    check(&["--table", "customers", "--denied"], &["vandal"]);
    check(&["--since", "1h"], &["reader", "vandal", "writer"]);
    check(&["--until", "1h"], &[]);
    check(&["--since", "2999-01-01"], &[]);
    check(&["--held"], &[]);
    check(&["--ended", "revoked"], &[]);
    for wrong in [
        ["--class", "destroy"],
        ["--table", "a.b.c.d"],
        ["--since", "yesterday"],
        ["--ended", "somehow"],
    ] {
        let output = appliance.cli(&[["sessions"].as_slice(), &wrong].concat());
        assert_eq!(output.status.code(), Some(1), "{wrong:?}");
    }
}
