//! SIGKILL at random instants, while recording and while recovering: no acknowledged command is
//! lost, torn, doubled or out of order.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use super::*;

/// Where a child finds its directories, and what it is to do there.
const CHILD_ROOT: &str = "SALLYPORT_TEST_RECORDER_ROOT";
const CHILD_ROLE: &str = "SALLYPORT_TEST_RECORDER_ROLE";

/// An acknowledgement: session id and the number of a command that may be forwarded.
const ACKNOWLEDGEMENT_BYTES: usize = 16 + 8;

/// Not a test of its own: the process that the others kill.
#[test]
fn child_that_records_or_recovers_until_it_is_killed() {
    let Some(root) = std::env::var_os(CHILD_ROOT) else {
        return;
    };
    let settings = RecordingSettings {
        durability: Durability::Bounded(Duration::from_millis(2)),
        rotate_bytes: 200_000,
        ..settings_under(Path::new(&root))
    };
    let mut pipe = std::io::stderr();
    let thread = start_with(settings);
    if std::env::var_os(CHILD_ROLE).is_some_and(|role| role == "recover") {
        pipe.write_all(b"recovered").unwrap();
        return;
    }
    let journal = open_journal(&thread);
    for start in 0.. {
        let name = format!("agent-{start}");
        let mut recorder = match Recorder::open(&journal, &start_of(&name, "orders")) {
            Ok(recorder) => recorder,
            Err(OpenError::NoRoom(NoRoom { bytes })) => {
                wait(|cx| journal.poll_room(cx, bytes)).unwrap();
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        for number in 1..=40 {
            record(&mut recorder, number, &command_of(number), &permitted());
            let mut acknowledgement = recorder.session().to_bytes().to_vec();
            acknowledgement.extend(number.to_le_bytes());
            pipe.write_all(&acknowledgement).unwrap();
            recorder.count_rows(1);
            record_response(&mut recorder, number, &row(&[Some(b"value")]));
        }
        if start % 3 > 0 {
            recorder.end(EndReason::Finished);
        }
    }
}

fn command_of(number: u64) -> Vec<u8> {
    query(&format!(
        "select {number}, '{}'",
        "y".repeat(usize::try_from(number * 37 % 700).unwrap())
    ))
}

fn start_child(root: &Path, role: &str) -> Child {
    let name = "recorder::tests::crash::child_that_records_or_recovers_until_it_is_killed";
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD_ROOT, root)
        .env(CHILD_ROLE, role)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a recording child until it has acknowledged `count` commands, kills it, and returns the
/// last acknowledged number of each session.
fn record_and_kill(root: &Path, count: usize) -> BTreeMap<[u8; 16], u64> {
    let mut child = start_child(root, "record");
    let mut pipe = child.stderr.take().unwrap();
    let mut bytes = vec![0; count * ACKNOWLEDGEMENT_BYTES];
    pipe.read_exact(&mut bytes).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    pipe.read_to_end(&mut bytes).unwrap();
    let mut last = BTreeMap::new();
    for acknowledgement in bytes.chunks_exact(ACKNOWLEDGEMENT_BYTES) {
        let (session, number) = acknowledgement.split_at(16);
        let number = u64::from_le_bytes(number.try_into().unwrap());
        last.insert(session.try_into().unwrap(), number);
    }
    last
}

/// Lets a child recover and kills it at a moment that differs from round to round: after so many
/// of its files have appeared, or not at all.
fn recover_and_kill(root: &Path, spins: u64) {
    let mut child = start_child(root, "recover");
    let directory = settings_under(root).journal_directory;
    let files = || std::fs::read_dir(&directory).map_or(0, Iterator::count);
    let before = files();
    let deadline = runtime::now() + DEADLINE;
    while files() == before && child.try_wait().unwrap().is_none() {
        assert!(
            runtime::now() < deadline,
            "the child neither recovered nor ended"
        );
    }
    for _ in 0..spins {
        std::thread::yield_now();
    }
    // It may be gone already.
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn no_acknowledged_command_is_lost_to_sigkill_while_recording_or_recovering() {
    let place = Place::new();
    let mut acknowledged = BTreeMap::new();
    for round in 0..25_u64 {
        let count = usize::try_from(round * 7919 % 900 + 1).unwrap();
        acknowledged.extend(record_and_kill(place.path(), count));
        for attempt in 0..round % 3 {
            recover_and_kill(place.path(), (round * 31 + attempt * 17) % 200);
        }
    }
    let thread = place.start();
    let entries: BTreeMap<_, _> = all_sessions(&place.catalogue())
        .into_iter()
        .map(|entry| (entry.session.to_bytes(), entry))
        .collect();
    for (session, last) in &acknowledged {
        let session = SessionId::from_bytes(*session);
        let events = place.events(session);
        let sequences: Vec<u64> = events
            .iter()
            .filter(|event| event.what != EventKind::Interrupted)
            .map(|event| event.sequence)
            .collect();
        let contiguous: Vec<u64> = (0..sequences.len() as u64).collect();
        assert_eq!(sequences, contiguous, "{session}");
        let recorded = commands(&events);
        let expected: Vec<_> = (1..=recorded.len() as u64)
            .map(|number| (number, command_of(number)))
            .collect();
        assert!(recorded == expected, "{session}: commands differ");
        assert!(
            recorded.len() as u64 >= *last,
            "{session}: command {last} is lost"
        );

        let entry = &entries[&session.to_bytes()];
        let has_end = matches!(events.last().unwrap().what, EventKind::Ended(_));
        let state = if has_end {
            SessionState::Ended
        } else {
            SessionState::Interrupted
        };
        assert_eq!(entry.state, state);
        assert_eq!(
            entry.counters.commands,
            recorded.len() as u64,
            "{session}: counted wrongly"
        );
    }
    thread.stop().unwrap();
    let expected = all_sessions(&place.catalogue());
    assert!(
        expected
            .iter()
            .any(|entry| entry.state == SessionState::Interrupted)
    );
    std::fs::remove_file(place.settings().catalogue).unwrap();
    place.start().stop().unwrap();
    assert_eq!(
        all_sessions(&place.catalogue()),
        expected,
        "the journal tells another story"
    );
    let rings = std::fs::read_dir(place.settings().ring_directory)
        .unwrap()
        .count();
    assert_eq!(rings, 0, "a ring was left behind");
}

/// A recovery that died after its commit and before it removed the ring is done again.
#[test]
fn a_ring_that_was_recovered_already_adds_nothing() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    record(&mut recorder, 1, &query("select 1"), &permitted());
    thread.handle().flush(DEADLINE).unwrap();
    thread.stop().unwrap();
    record(&mut recorder, 2, &query("select 2"), &permitted());
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    drop(journal);

    let rings = place.settings().ring_directory;
    let ring = std::fs::read_dir(&rings)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let left = std::fs::read(&ring).unwrap();
    let thread = place.start();
    let expected = Recovered {
        records: 2,
        known_records: 0,
        damaged_bytes: 0,
    };
    assert_eq!(thread.recovered(), expected);
    thread.stop().unwrap();
    let sessions = all_sessions(&place.catalogue());
    let events = place.events(session);
    assert_eq!(
        commands(&events),
        [(1, query("select 1")), (2, query("select 2"))]
    );

    for _ in 0..2 {
        std::fs::write(&ring, &left).unwrap();
        let thread = place.start();
        let expected = Recovered {
            records: 0,
            known_records: 2,
            damaged_bytes: 0,
        };
        assert_eq!(thread.recovered(), expected);
        thread.stop().unwrap();
        assert_eq!(all_sessions(&place.catalogue()), sessions);
        assert_eq!(place.events(session), events);
    }
}
