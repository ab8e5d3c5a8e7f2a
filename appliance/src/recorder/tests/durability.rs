//! What a record has survived before its command is forwarded.

use super::*;

fn is_on_disk(settings: &RecordingSettings, needle: &[u8]) -> bool {
    let files = std::fs::read_dir(&settings.journal_directory).unwrap();
    files.into_iter().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

#[test]
fn strict_waits_until_the_record_is_in_the_journal_file() {
    let place = Place::new();
    let settings = RecordingSettings {
        durability: Durability::Strict,
        ..place.settings()
    };
    let thread = start_with(settings.clone());
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    for number in 1..=50 {
        let text = format!("select 'number {number:05}'");
        let position = record(&mut recorder, number, &query(&text), &permitted());
        wait(|cx| journal.poll_committed(cx, position)).unwrap();
        assert!(is_on_disk(&settings, text.as_bytes()), "{text}");
    }
}

/// One commit each, without waiting for the interval: 20 of them take far less than 20 intervals.
#[test]
fn strict_does_not_wait_for_the_interval() {
    let place = Place::new();
    let settings = RecordingSettings {
        durability: Durability::Strict,
        ..place.settings()
    };
    let thread = start_with(settings);
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    let before = thread.handle().status().commits;
    let started = runtime::now();
    for number in 1..=20 {
        let position = record(&mut recorder, number, &query("select 1"), &permitted());
        wait(|cx| journal.poll_committed(cx, position)).unwrap();
    }
    let took = started.elapsed();
    // The count follows the wake; a flush follows both.
    thread.handle().flush(DEADLINE).unwrap();
    let commits = thread.handle().status().commits - before;
    assert!(commits >= 20, "{commits} commits");
    assert!(took < 20 * COMMIT_INTERVAL_DEFAULT, "{took:?}");
}

#[test]
fn the_other_settings_do_not_wait_at_all() {
    for durability in [
        Durability::Process,
        Durability::Bounded(COMMIT_INTERVAL_MAX),
    ] {
        let place = Place::new();
        let settings = RecordingSettings {
            durability,
            ..place.settings()
        };
        let thread = start_with(settings);
        let journal = open_journal(&thread);
        let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
        let position = record(&mut recorder, 1, &query("select 1"), &permitted());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(
            journal.poll_committed(&mut cx, position),
            Poll::Ready(Ok(()))
        );
    }
}

#[test]
fn bounded_commits_without_being_asked() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    record(&mut recorder, 1, &query("select 'by itself'"), &permitted());
    eventually("the record is on disk", || {
        is_on_disk(&place.settings(), b"by itself")
    });
}

#[test]
fn a_ring_that_fills_is_drained_before_the_interval_is_over() {
    let place = Place::new();
    let durability = Durability::Bounded(COMMIT_INTERVAL_MAX);
    let settings = RecordingSettings {
        durability,
        ..place.settings()
    };
    let thread = start_with(settings);
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    for number in 1..=1000 {
        record(
            &mut recorder,
            number,
            &query(&"x".repeat(5000)),
            &permitted(),
        );
    }
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    thread.handle().flush(DEADLINE).unwrap();
    assert_eq!(commands(&place.events(session)).len(), 1000);
}
