//! Disks that fill, disappear and become read-only: nothing is lost, nothing new starts, and it
//! goes on by itself. The tests mount small file systems, so they must run as root.

use std::path::PathBuf;
use std::process::Command;

use super::*;

/// A tmpfs of its own, unmounted with the test.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path, size: &str) -> Self {
        std::fs::create_dir_all(path).unwrap();
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size}"),
                "tmpfs",
                text(path),
            ],
        );
        Self {
            path: path.to_owned(),
        }
    }

    fn remount(&self, options: &str) {
        run(
            "mount",
            &["-o", &format!("remount,{options}"), text(&self.path)],
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["-l", text(&self.path)]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "`{program} {}` failed; this test mounts a file system and must run as root: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Records until the ring is full; returns the number of the first command that had no room.
fn fill(recorder: &mut Recorder, first: u64) -> u64 {
    let mut number = first;
    loop {
        let wire = numbered_query(number);
        match recorder.command(number, CommandKind::Query, &wire, &[], &permitted()) {
            Ok(recorded) => assert_eq!(recorded.number(), number),
            Err(NoRoom { .. }) => return number,
        }
        number += 1;
    }
}

fn numbered_query(number: u64) -> Vec<u8> {
    query(&format!("select {number:010}, '{}'", "x".repeat(900)))
}

fn check_all_recorded(place: &Place, session: SessionId, count: u64) {
    let expected: Vec<_> = (1..=count)
        .map(|number| (number, numbered_query(number)))
        .collect();
    let found = commands(&place.events(session));
    assert_eq!(found.len(), expected.len());
    assert!(found == expected, "records differ");
}

/// Fills the journal's disk through `begin`, and checks what holds until `end` mends it.
fn check_outage(
    place: &Place,
    thread: &JournalThread,
    reason: JournalUnavailable,
    begin: impl FnOnce(),
    end: impl FnOnce(),
) {
    let journal = open_journal(thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    let session = recorder.session();
    record(&mut recorder, 1, &numbered_query(1), &permitted());
    thread.handle().flush(DEADLINE).unwrap();
    let alarms = thread.handle().status().alarms;

    begin();
    let mut full_at = fill(&mut recorder, 2);
    eventually("the trouble is noticed", || {
        full_at = fill(&mut recorder, full_at);
        journal.health() == Err(reason)
    });
    full_at = fill(&mut recorder, full_at);
    let refused = Recorder::open(&journal, &start_of("eve", "orders"));
    let refused = refused.map(|recorder| recorder.session());
    assert!(matches!(refused, Err(OpenError::Unavailable(found)) if found == reason));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        journal.poll_room(&mut cx, 1000).is_pending(),
        "traffic is held"
    );
    assert_eq!(
        thread.handle().flush(DEADLINE),
        Err(FlushError::Unavailable(reason))
    );
    let status = thread.handle().status();
    assert_eq!(
        (status.trouble, status.alarms),
        (Some(reason), alarms + 1),
        "one alarm"
    );

    end();
    // Woken by the first commit, not by looking.
    record(
        &mut recorder,
        full_at,
        &numbered_query(full_at),
        &permitted(),
    );
    eventually("the trouble is over", || journal.health().is_ok());
    let eve = Recorder::open(&journal, &start_of("eve", "orders")).unwrap();
    eve.end(EndReason::Finished);
    recorder.end(EndReason::Finished);
    thread.handle().flush(DEADLINE).unwrap();
    assert_eq!(thread.handle().status().alarms, alarms + 1);
    check_all_recorded(place, session, full_at);
    let entry = place.catalogue().session(session).unwrap().unwrap();
    assert_eq!(
        (entry.state, entry.counters.commands),
        (SessionState::Ended, full_at)
    );
}

#[test]
fn a_full_disk_holds_traffic_refuses_sessions_and_loses_nothing_as_root() {
    let place = Place::new();
    let disk = SmallDisk::mount(&place.settings().journal_directory, "300k");
    let thread = place.start();
    check_outage(
        &place,
        &thread,
        JournalUnavailable::DiskFull,
        || {},
        || disk.remount("size=16m"),
    );
    thread.stop().unwrap();
}

#[test]
fn a_read_only_disk_is_an_outage_and_no_more_as_root() {
    let place = Place::new();
    let settings = place.settings();
    let disk = SmallDisk::mount(&settings.journal_directory, "16m");
    // A file that is open for writing forbids the remount: every batch begins a new file.
    let settings = RecordingSettings {
        rotate_bytes: 1,
        ..settings
    };
    let thread = start_with(settings.clone());
    // So does the lock; it stays held by whoever has the file open, under another name.
    let begin = || {
        let journal = text(&settings.journal_directory).to_owned();
        run("mount", &["--bind", "-o", "ro", &journal, &journal]);
    };
    let end = || run("umount", &[text(&settings.journal_directory)]);
    check_outage(&place, &thread, JournalUnavailable::ReadOnly, begin, end);
    thread.stop().unwrap();
    drop(disk);
}

#[test]
fn a_journal_directory_that_is_moved_away_is_an_outage_until_it_is_back() {
    let place = Place::new();
    let directory = place.settings().journal_directory;
    let aside = directory.with_extension("aside");
    let thread = place.start();
    let begin = || std::fs::rename(&directory, &aside).unwrap();
    let end = || std::fs::rename(&aside, &directory).unwrap();
    check_outage(
        &place,
        &thread,
        JournalUnavailable::DirectoryGone,
        begin,
        end,
    );
    thread.stop().unwrap();
    // The file that was moved away and back holds a batch that a later file has again.
    let expected = all_sessions(&place.catalogue());
    std::fs::remove_file(place.settings().catalogue).unwrap();
    place.start().stop().unwrap();
    assert_eq!(all_sessions(&place.catalogue()), expected);
}

#[test]
fn a_journal_directory_that_was_removed_takes_only_what_was_in_it() {
    let place = Place::new();
    let directory = place.settings().journal_directory;
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    record(&mut recorder, 1, &numbered_query(1), &permitted());
    thread.handle().flush(DEADLINE).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    record(&mut recorder, 2, &numbered_query(2), &permitted());
    let gone = Err(JournalUnavailable::DirectoryGone);
    eventually("the removal is noticed", || journal.health() == gone);
    assert!(
        !directory.exists(),
        "what was mounted there may be missing: it is not made again"
    );
    std::fs::create_dir(&directory).unwrap();
    eventually("the trouble is over", || journal.health().is_ok());
    thread.handle().flush(DEADLINE).unwrap();
    drop(recorder);
    drop(journal);
    thread.stop().unwrap();
    // The first extent names a file that no longer exists; a new catalogue knows only what does.
    std::fs::remove_file(place.settings().catalogue).unwrap();
    place.start().stop().unwrap();
    let [session] = all_sessions(&place.catalogue()).try_into().unwrap();
    let events = place.events(session.session);
    assert_eq!(commands(&events), [(2, numbered_query(2))]);
    assert!(matches!(events[0].what, EventKind::Missing { records: 2 }));
}

#[test]
fn a_full_run_directory_is_found_when_the_ring_is_made_as_root() {
    let place = Place::new();
    let disk = SmallDisk::mount(&place.settings().ring_directory, "200k");
    let thread = place.start();
    let refused = Journal::open(thread.handle(), ShardId(0)).map(|_| ());
    let Err(OpenJournalError::Ring(runtime::mapped::RingError::Io { source, .. })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    disk.remount("size=1m");
    Journal::open(thread.handle(), ShardId(0)).unwrap();
    thread.stop().unwrap();
}

#[test]
fn every_open_session_can_end_when_the_ring_is_full() {
    let place = Place::new();
    let directory = place.settings().journal_directory;
    let aside = directory.with_extension("aside");
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorders = Vec::new();
    let limit = loop {
        match Recorder::open(&journal, &start_of("ada", "orders")) {
            Ok(recorder) => recorders.push(recorder),
            Err(OpenError::TooManySessions { limit }) => break limit,
            Err(OpenError::NoRoom(NoRoom { bytes })) => {
                wait(|cx| journal.poll_room(cx, bytes)).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(recorders.len(), limit);
    // 256 KiB / 4 / 160 bytes, less one.
    assert_eq!(limit, 408);
    thread.handle().flush(DEADLINE).unwrap();
    std::fs::rename(&directory, &aside).unwrap();
    fill(recorders.last_mut().unwrap(), 1);
    let sessions: Vec<_> = recorders.iter().map(Recorder::session).collect();
    recorders
        .into_iter()
        .for_each(|recorder| recorder.end(EndReason::Drained));
    std::fs::rename(&aside, &directory).unwrap();
    thread
        .handle()
        .flush(DEADLINE)
        .or_else(|_| thread.handle().flush(DEADLINE))
        .unwrap();
    let catalogue = place.catalogue();
    for session in sessions {
        let entry = catalogue.session(session).unwrap().unwrap();
        assert_eq!(entry.end_reason.as_deref(), Some("drained"));
    }
}

#[test]
fn when_the_journal_thread_is_gone_nothing_is_recorded_and_nobody_waits() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    let handle = thread.handle().clone();
    thread.stop().unwrap();
    let gone = JournalUnavailable::ThreadGone;
    assert_eq!(journal.health(), Err(gone));
    let refused = Recorder::open(&journal, &start_of("eve", "orders")).map(|_| ());
    assert!(matches!(
        refused,
        Err(OpenError::Unavailable(JournalUnavailable::ThreadGone))
    ));
    fill(&mut recorder, 1);
    assert_eq!(wait(|cx| journal.poll_room(cx, 1000)), Err(gone));
    assert_eq!(handle.flush(DEADLINE), Err(FlushError::Unavailable(gone)));
    drop(recorder);
    drop(journal);
    // What was recorded nevertheless is found by the next start.
    let thread = place.start();
    assert!(thread.recovered().records > 200, "{:?}", thread.recovered());
    thread.stop().unwrap();
}
