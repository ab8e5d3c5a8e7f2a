//! Replays of files that are longer than what is held in memory at a time.

use std::os::unix::fs::FileExt;

use super::*;

/// Enough for several windows.
const SESSION_BYTES: usize = 7 << 20;

/// Two sessions that take turns in one file; the first one's commands in full.
fn long_file(place: &Place) -> (SessionId, Vec<(u64, Vec<u8>)>, std::path::PathBuf) {
    let settings = RecordingSettings {
        rotate_bytes: 1 << 30,
        ..place.settings()
    };
    let directory = settings.journal_directory.clone();
    let thread = start_with(settings);
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    let mut other = Recorder::open(&journal, &start_of("eve", "orders")).unwrap();
    let mut sent = Vec::new();
    let mut sent_bytes = 0;
    let mut length = 17;
    for number in 1.. {
        // Lengths of every remainder, some close to the longest.
        length = (length * 7 + 13) % 40_000;
        let wire = query(&format!("{number}{}", "x".repeat(length)));
        sent_bytes += wire.len();
        record(&mut recorder, number, &wire, &permitted());
        sent.push((number, wire));
        record(&mut other, number, &query("select 'other'"), &permitted());
        if sent_bytes > SESSION_BYTES {
            break;
        }
    }
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    other.end(EndReason::Finished);
    drop(journal);
    thread.stop().unwrap();
    let files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "journal"))
        .collect();
    assert_eq!(files.len(), 1);
    (session, sent, files[0].clone())
}

#[test]
fn a_session_longer_than_a_window_is_replayed_whole() {
    let place = Place::new();
    let (session, sent, _) = long_file(&place);
    let events = place.events(session);
    assert!(commands(&events) == sent, "the commands differ");
    let is_whole = !events
        .iter()
        .any(|event| matches!(event.what, EventKind::Missing { .. }));
    assert!(is_whole);
}

#[test]
fn damage_where_a_window_ends_takes_the_records_that_it_hit_and_no_others() {
    let place = Place::new();
    let (session, sent, path) = long_file(&place);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let window = 2_u64 << 20;
    for end in [window, 2 * window, 3 * window] {
        for distance in [-300_000_i64, -40_000, -17, -16, -9, -1, 0, 1, 20, 30_000] {
            let at = end.checked_add_signed(distance).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
            let events = place.events(session);
            file.write_all_at(&byte, at).unwrap();
            let found = commands(&events);
            let lost: Vec<u64> = sent
                .iter()
                .filter(|command| !found.contains(command))
                .map(|(number, _)| *number)
                .collect();
            assert!(lost.len() <= 1, "a byte at {at} took {lost:?}");
            let missing: u64 = events
                .iter()
                .filter_map(|event| {
                    let EventKind::Missing { records } = event.what else {
                        return None;
                    };
                    Some(records)
                })
                .sum();
            assert_eq!(missing, lost.len() as u64, "at {at}");
        }
    }
}
