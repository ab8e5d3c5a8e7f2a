//! Recording from tasks of a real shard: their wakers are called by the journal thread.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::sync::mpsc;

use runtime::{ShardsConfig, start_shards};

use super::*;

const SESSIONS: u64 = 8;
const COMMANDS: u64 = 200;

/// Eight sessions record 8 MB through a ring of 256 KiB.
fn check_recorded_on_a_shard(durability: Durability) {
    let place = Place::new();
    let thread = start_with(RecordingSettings {
        durability,
        ..place.settings()
    });
    let (done, finished) = mpsc::sync_channel(64);
    let handle = thread.handle().clone();
    let main = move |shard| {
        let (handle, done) = (handle.clone(), done.clone());
        async move {
            let journal = Journal::open(&handle, shard).unwrap();
            for _ in 0..SESSIONS {
                let (journal, done) = (Rc::clone(&journal), done.clone());
                runtime::spawn(async move {
                    done.send(run_session(&journal).await).unwrap();
                });
            }
            // The tasks own the rest; the shard stays until they are done.
            while Rc::strong_count(&journal) > 1 {
                runtime::yield_if_needed().await;
                let at = runtime::now() + Duration::from_millis(1);
                let mut timer = runtime::Timer::at(at);
                poll_fn(|cx| timer.poll_expired(cx)).await;
            }
        }
    };
    let config = ShardsConfig {
        count: NonZeroUsize::new(1),
    };
    let running = start_shards(config, main).unwrap();
    let sessions: Vec<SessionId> = (0..SESSIONS)
        .map(|_| finished.recv_timeout(DEADLINE).unwrap())
        .collect();
    running.join().unwrap();
    thread.handle().flush(DEADLINE).unwrap();
    for session in sessions {
        let expected: Vec<_> = (1..=COMMANDS)
            .map(|number| (number, command_of(number)))
            .collect();
        assert!(commands(&place.events(session)) == expected, "{session}");
    }
    thread.stop().unwrap();
}

fn command_of(number: u64) -> Vec<u8> {
    query(&format!("select {number}, '{}'", "z".repeat(5000)))
}

async fn run_session(journal: &Rc<Journal>) -> SessionId {
    let mut recorder = loop {
        match Recorder::open(journal, &start_of("ada", "orders")) {
            Ok(recorder) => break recorder,
            Err(OpenError::NoRoom(NoRoom { bytes })) => {
                poll_fn(|cx| journal.poll_room(cx, bytes)).await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    };
    for number in 1..=COMMANDS {
        let wire = command_of(number);
        let recorded = loop {
            match recorder.command(number, CommandKind::Query, &wire, &[], &permitted()) {
                Ok(recorded) => break recorded,
                Err(NoRoom { bytes }) => {
                    poll_fn(|cx| journal.poll_room(cx, bytes)).await.unwrap();
                }
            }
        };
        poll_fn(|cx| journal.poll_committed(cx, recorded.position()))
            .await
            .unwrap();
        runtime::yield_if_needed().await;
    }
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    session
}

#[test]
fn tasks_that_wait_for_room_are_woken() {
    check_recorded_on_a_shard(Durability::Bounded(COMMIT_INTERVAL_MAX));
}

#[test]
fn tasks_that_wait_for_a_commit_are_woken() {
    check_recorded_on_a_shard(Durability::Strict);
}
