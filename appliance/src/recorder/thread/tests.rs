//! Tests of the whole way: recorder, ring, journal thread, files, catalogue.

use std::time::Duration;

use runtime::ShardId;
use tempfile::TempDir;

use super::*;
use crate::recorder::{
    CommandKind, DecisionNote, EffectNote, EndReason, Journal, Note, PrincipalNote, Recorder,
    SessionStart, Verdict,
};

const DEADLINE: Duration = Duration::from_secs(20);

fn settings(directory: &TempDir) -> RecordingSettings {
    let root = directory.path();
    let settings = RecordingSettings::under(&root.join("run"), &root.join("state"));
    RecordingSettings {
        ring_bytes: RING_BYTES_MIN,
        ..settings
    }
}

fn start_of(name: &str) -> SessionStart {
    SessionStart {
        principal: PrincipalNote {
            issuer: "https://issuer.test".to_owned(),
            subject: format!("sub-{name}"),
            name: name.to_owned(),
            groups: vec!["analysts".to_owned(), "oncall".to_owned()],
            ..PrincipalNote::default()
        },
        target: "orders".to_owned(),
        protocol: "postgres".to_owned(),
        peer: "127.0.0.1:4711".to_owned(),
        ..SessionStart::default()
    }
}

#[test]
fn a_session_is_in_the_catalogue_with_its_counts_after_a_flush() {
    let directory = TempDir::new().unwrap();
    let settings = settings(&directory);
    let thread = JournalThread::start(settings.clone()).unwrap();
    let journal = Journal::open(thread.handle(), ShardId(3)).unwrap();
    let mut recorder = Recorder::open(&journal, &start_of("ada")).unwrap();
    let permitted = Note::new(&DecisionNote {
        verdict: Verdict::Permitted,
        rule: Some("analysts-read"),
        policy: 7,
        effects: &[EffectNote {
            class: "select",
            object: Some("public.orders"),
        }],
        search_path: None,
    });
    let recorded = recorder
        .command(
            1,
            CommandKind::Query,
            b"Q\0\0\0\x0eselect 1;\0",
            &[],
            &permitted,
        )
        .unwrap();
    assert_eq!(
        (recorded.number(), recorded.verdict()),
        (1, Verdict::Permitted)
    );
    recorder.count_rows(1);
    recorder.response(1, b"some reply").unwrap();
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    thread.handle().flush(DEADLINE).unwrap();

    let connection = rusqlite::Connection::open(&settings.catalogue).unwrap();
    let row: (String, String, String, i64, i64, i64, i64) = connection
        .query_row(
            "SELECT id, state, end_reason, commands, rows, bytes_received, bytes_sent FROM sessions",
            [],
            |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                    row.get(6)?,
                ))
            },
        )
        .unwrap();
    let expected = (
        session.to_string(),
        "ended".to_owned(),
        "finished".to_owned(),
        1,
        1,
        15,
        10,
    );
    assert_eq!(row, expected);
    drop(journal);
    thread.stop().unwrap();
    let rings = std::fs::read_dir(&settings.ring_directory).unwrap().count();
    assert_eq!(rings, 0, "an empty ring was left behind");
}
