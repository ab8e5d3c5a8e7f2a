//! Hostile and damaged bytes: in records, in journal files, in rings.

use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::super::format::{
    FORMAT_VERSION, NOTE_BYTES_MAX, RECORD_HEADER_BYTES, Record, RecordError, RecordHeader,
    RecordKind,
};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0_u8..9) {
        let mut body = vec![FORMAT_VERSION, kind, 44, 0];
        body.extend(bytes);
        if let Ok((header, fields)) = RecordHeader::decode(&body)
            && let Ok(Record::Command(command)) = Record::decode(&header, fields)
        {
            // Whether it is one does not matter here.
            let _ = command.decision();
        }
    }

    #[test]
    fn a_session_start_survives_encoding(
        names in prop::collection::vec(".{0,40}", 6),
        groups in prop::collection::vec(".{0,20}", 0..8),
        token_id in prop::option::of(".{0,20}"),
        numbers in any::<(u64, u16, bool, u64)>(),
    ) {
        let (expires, shard, read_only, policy) = numbers;
        let start = SessionStart {
            principal: PrincipalNote {
                issuer: names[0].clone(),
                subject: names[1].clone(),
                name: names[2].clone(),
                groups,
                actors: vec![ActorNote { issuer: names[3].clone(), subject: names[4].clone() }],
                token_id,
                expires,
            },
            target: names[5].clone(),
            protocol: "postgres".to_owned(),
            user: None,
            application: Some(String::new()),
            peer: "unix".to_owned(),
            shard,
            read_only,
            policy,
        };
        let header = header(RecordKind::SessionStart);
        let encoded = start.encode();
        prop_assert_eq!(Record::decode(&header, &encoded), Ok(Record::SessionStart(start)));
    }
}

fn header(kind: RecordKind) -> RecordHeader {
    RecordHeader {
        kind: kind.code(),
        session: SessionId::from_bytes(*b"sixteen byte id!"),
        sequence: 3,
        number: 9,
        unix_micros: 1_763_800_000_000_000,
    }
}

#[test]
fn a_record_header_is_these_bytes() {
    let encoded = header(RecordKind::Response).encode();
    let mut expected = vec![1, 5, 44, 0];
    expected.extend(b"sixteen byte id!");
    expected.extend([3, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([9, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([0x00, 0x70, 0x74, 0xb0, 0x2a, 0x44, 0x06, 0x00]);
    assert_eq!(encoded.as_slice(), expected);
    let decoded = RecordHeader::decode(&encoded).unwrap();
    assert_eq!(decoded, (header(RecordKind::Response), [].as_slice()));
}

#[test]
fn a_longer_header_and_unknown_fields_and_kinds_of_a_later_version_are_stepped_over() {
    let mut body = header(RecordKind::Response).encode().to_vec();
    body[2] = 48;
    body.extend(b"more");
    // Field 200 is unknown; 6 is the wire bytes.
    body.extend([200, 2, 0xaa, 0xbb, 6, 3]);
    body.extend(b"abc");
    let (decoded, fields) = RecordHeader::decode(&body).unwrap();
    let response = Record::Response {
        rows: 0,
        wire: b"abc",
    };
    assert_eq!(Record::decode(&decoded, fields), Ok(response));
    let unknown = RecordHeader {
        kind: 99,
        ..decoded
    };
    assert_eq!(
        Record::decode(&unknown, fields),
        Ok(Record::Unknown { kind: 99 })
    );
}

#[test]
fn a_later_format_version_and_a_short_header_are_refused() {
    let mut body = header(RecordKind::Response).encode().to_vec();
    for end in 0..RECORD_HEADER_BYTES {
        let short = Err(RecordError::Short { bytes: end });
        assert_eq!(RecordHeader::decode(&body[..end]), short);
    }
    body[0] = FORMAT_VERSION + 1;
    let newer = Err(RecordError::Version {
        found: FORMAT_VERSION + 1,
    });
    assert_eq!(RecordHeader::decode(&body), newer);
}

#[test]
fn codes_and_names_are_unique_and_lead_back() {
    fn check_table<T: Copy + PartialEq + std::fmt::Debug>(
        all: &[T],
        code: impl Fn(T) -> u8,
        name: impl Fn(T) -> &'static str,
        from_code: impl Fn(u8) -> Option<T>,
        from_name: impl Fn(&str) -> Option<T>,
    ) {
        for value in all {
            assert_eq!(from_code(code(*value)), Some(*value));
            assert_eq!(from_name(name(*value)), Some(*value));
        }
        let known = (0..=u8::MAX)
            .filter(|code| from_code(*code).is_some())
            .count();
        assert_eq!(known, all.len());
    }
    macro_rules! check {
        ($($coded:ident),+) => {$(
            check_table($coded::ALL, $coded::code, $coded::name, $coded::from_code, $coded::from_name);
        )+};
    }
    check!(RecordKind, CommandKind, Verdict, ApprovalStep, EndReason);
}

#[test]
fn the_longest_record_of_an_approval_fits_a_note_and_keeps_its_beginning() {
    let long = "\u{e4}".repeat(10_000);
    let decider = DeciderNote {
        issuer: long.clone(),
        subject: long.clone(),
        name: long.clone(),
    };
    let note = ApprovalNote {
        step: ApprovalStep::Denied,
        request: Some(long.clone()),
        digest: Some(long.clone()),
        rules: vec![long.clone(); 100],
        by: vec![decider; 100],
        reason: Some(long.clone()),
        expires: u64::MAX,
    };
    let encoded = note.encode();
    assert!(encoded.len() < NOTE_BYTES_MAX);
    let decoded = Record::decode(&header(RecordKind::Approval), &encoded);
    let Ok(Record::Approval(kept)) = decoded else {
        panic!("{decoded:?}");
    };
    assert_eq!((kept.step, kept.expires), (note.step, note.expires));
    assert!(long.starts_with(&kept.by[7].subject) && long.starts_with(&kept.rules[7]));
    assert!(
        kept.reason
            .is_some_and(|reason| !reason.is_empty() && long.starts_with(&reason))
    );
}

#[test]
fn a_note_with_too_many_effects_keeps_the_first_and_says_how_many_are_left_out() {
    let object = "o".repeat(100);
    let effects = vec![
        EffectNote {
            class: "select",
            object: Some(&object)
        };
        1000
    ];
    let note = Note::new(&DecisionNote {
        verdict: Verdict::Permitted,
        rule: None,
        policy: 1,
        effects: &effects,
        search_path: None,
        foreshadowed: None,
    });
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    record(&mut recorder, 1, &query("select 1"), &note);
    thread.handle().flush(DEADLINE).unwrap();
    let events = place.events(recorder.session());
    let EventKind::Command(command) = &events[1].what else {
        panic!("{events:?}")
    };
    let kept = command.decision.effects.len();
    assert!(kept > 100 && command.decision.effects_left_out == 1000 - kept as u64);
}

/// Records three commands and stops; returns their session and the one journal file.
fn recorded_place() -> (Place, SessionId, std::path::PathBuf) {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    for number in 1..=3 {
        record(
            &mut recorder,
            number,
            &query(&format!("select {number}")),
            &permitted(),
        );
    }
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    drop(journal);
    thread.stop().unwrap();
    let file = std::fs::read_dir(place.settings().journal_directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "journal")
        })
        .unwrap();
    (place, session, file)
}

#[test]
fn a_flipped_byte_in_a_journal_file_shows_as_a_missing_record() {
    let (place, session, path) = recorded_place();
    let bytes = std::fs::read(&path).unwrap();
    let place_of_second = bytes
        .windows(8)
        .position(|window| window == b"select 2")
        .unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"X", place_of_second as u64).unwrap();
    let events = place.events(session);
    let expected = [(1, query("select 1")), (3, query("select 3"))];
    assert_eq!(commands(&events), expected);
    assert!(
        matches!(events[2].what, EventKind::Missing { records: 1 }),
        "{events:?}"
    );
    assert_eq!(events[2].sequence, 2);
}

#[test]
fn a_journal_file_cut_anywhere_is_read_up_to_there() {
    let (place, session, path) = recorded_place();
    let whole = place.events(session);
    let bytes = std::fs::read(&path).unwrap();
    for length in (64..bytes.len()).step_by(7) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let events = place.events(session);
        assert_eq!(events, whole[..events.len()], "cut at {length}");
        assert!(events.len() < whole.len());
    }
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(place.events(session), whole);
}

#[test]
fn a_torn_file_header_does_not_keep_the_appliance_from_starting() {
    let (place, _, path) = recorded_place();
    let before = all_sessions(&place.catalogue());
    let torn = path.with_file_name("9999999999999999-003-000009.journal");
    std::fs::write(&torn, b"SPORTJNL\x01\0").unwrap();
    place.start().stop().unwrap();
    assert_eq!(all_sessions(&place.catalogue()), before);
}

#[test]
fn a_ring_that_cannot_be_read_is_kept_and_does_not_keep_the_appliance_from_starting() {
    let place = Place::new();
    place.start().stop().unwrap();
    let settings = place.settings();
    let ring = settings.ring_directory.join("shard-000-x.ring");
    std::fs::write(&ring, b"not a ring").unwrap();
    place.start().stop().unwrap();
    assert!(!ring.exists());
    let kept: Vec<_> = std::fs::read_dir(&settings.journal_directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "damaged")
        })
        .collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(std::fs::read(&kept[0]).unwrap(), b"not a ring");
}
