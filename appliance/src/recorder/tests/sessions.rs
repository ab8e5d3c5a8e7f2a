//! What the catalogue says about sessions and refused logins.

use super::*;

fn finished_session(journal: &Rc<Journal>, name: &str, target: &str, is_denied: bool) -> SessionId {
    let mut recorder = Recorder::open(journal, &start_of(name, target)).unwrap();
    let note = if is_denied { refused() } else { permitted() };
    record(&mut recorder, 1, &query("select 1"), &note);
    recorder.count_rows(2);
    record_response(&mut recorder, 1, &complete("SELECT 2"));
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    session
}

#[test]
fn a_finished_session_is_listed_with_its_counts() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let session = finished_session(&journal, "ada", "orders", false);
    thread.handle().flush(DEADLINE).unwrap();
    let entry = place.catalogue().session(session).unwrap().unwrap();
    assert!(entry.started <= entry.ended.unwrap() && entry.started > 1_700_000_000_000_000);
    let expected = SessionEntry {
        session,
        started: entry.started,
        last_seen: entry.last_seen,
        ended: entry.ended,
        state: SessionState::Ended,
        end_reason: Some("finished".to_owned()),
        issuer: Some("https://issuer.test".to_owned()),
        subject: Some("sub-ada".to_owned()),
        name: Some("ada".to_owned()),
        groups: vec!["analysts".to_owned(), "oncall".to_owned()],
        target: Some("orders".to_owned()),
        protocol: Some("postgres".to_owned()),
        user: Some("label".to_owned()),
        application: Some("psql".to_owned()),
        peer: Some("127.0.0.1:4711".to_owned()),
        shard: 3,
        read_only: false,
        // "select 1" as a Query is 14 bytes, "SELECT 2" as a CommandComplete 14.
        counters: Counters {
            commands: 1,
            denials: 0,
            foreshadowed: 0,
            rows: 2,
            bytes_received: 14,
            bytes_sent: 14,
        },
        holds: 0,
    };
    assert_eq!(entry, expected);
    drop(journal);
    thread.stop().unwrap();
    let rings = std::fs::read_dir(place.settings().ring_directory)
        .unwrap()
        .count();
    assert_eq!(rings, 0, "an empty ring was left behind");
}

#[test]
fn a_running_session_is_live_and_its_counts_grow() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    for number in 1..=3 {
        record(&mut recorder, number, &query("select 1"), &permitted());
        thread.handle().flush(DEADLINE).unwrap();
        let entry = place
            .catalogue()
            .session(recorder.session())
            .unwrap()
            .unwrap();
        assert_eq!((entry.state, entry.ended), (SessionState::Live, None));
        assert_eq!(
            (entry.counters.commands, entry.counters.bytes_received),
            (number, 14 * number)
        );
    }
}

#[test]
fn a_dropped_recorder_ends_its_session_as_aborted() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    let session = recorder.session();
    drop(recorder);
    thread.handle().flush(DEADLINE).unwrap();
    let entry = place.catalogue().session(session).unwrap().unwrap();
    assert_eq!(entry.state, SessionState::Ended);
    assert_eq!(entry.end_reason.as_deref(), Some("aborted"));
}

#[test]
fn refused_logins_are_listed_with_and_without_a_principal() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let expired = RefusedLogin {
        peer: "10.0.0.9:50000".to_owned(),
        protocol: "postgres".to_owned(),
        target: Some("orders".to_owned()),
        user: Some("ada".to_owned()),
        application: None,
        reason: "token-expired".to_owned(),
        principal: None,
        shard: 0,
    };
    let not_admitted = RefusedLogin {
        reason: "not-admitted".to_owned(),
        principal: Some(start_of("eve", "orders").principal),
        ..expired.clone()
    };
    let first = journal.refused_login(&expired).unwrap();
    let second = journal.refused_login(&not_admitted).unwrap();
    thread.handle().flush(DEADLINE).unwrap();
    let mut entries = place.catalogue().refused_logins(0, 10).unwrap();
    entries.sort_by_key(|entry| entry.id != first);
    let [expired, not_admitted] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    assert_eq!(
        (expired.id, expired.reason.as_str()),
        (first, "token-expired")
    );
    assert_eq!(
        (expired.subject.as_deref(), expired.user.as_deref()),
        (None, Some("ada"))
    );
    assert_eq!(
        (not_admitted.id, not_admitted.reason.as_str()),
        (second, "not-admitted")
    );
    assert_eq!(not_admitted.subject.as_deref(), Some("sub-eve"));
    assert_eq!(place.catalogue().refused_logins(u64::MAX, 10).unwrap(), []);
    assert_eq!(all_sessions(&place.catalogue()), []);
}

#[test]
fn sessions_are_found_by_agent_target_state_denial_and_page() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let ada = finished_session(&journal, "ada", "orders", false);
    let eve = finished_session(&journal, "eve", "orders", true);
    let bob = finished_session(&journal, "bob", "billing", false);
    let live = Recorder::open(&journal, &start_of("ada", "billing")).unwrap();
    thread.handle().flush(DEADLINE).unwrap();
    let catalogue = place.catalogue();
    let check_found = |filter: SessionFilter, expected: &[SessionId]| {
        let mut found: Vec<_> = catalogue
            .sessions(&filter)
            .unwrap()
            .iter()
            .map(|entry| entry.session)
            .collect();
        let mut expected = expected.to_vec();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{filter:?}");
    };
    let any = SessionFilter::default;
    check_found(any(), &[ada, eve, bob, live.session()]);
    check_found(
        SessionFilter {
            agent: Some("ada".into()),
            ..any()
        },
        &[ada, live.session()],
    );
    check_found(
        SessionFilter {
            agent: Some("sub-eve".into()),
            ..any()
        },
        &[eve],
    );
    check_found(
        SessionFilter {
            target: Some("billing".into()),
            ..any()
        },
        &[bob, live.session()],
    );
    let ada_on_billing = SessionFilter {
        agent: Some("ada".into()),
        target: Some("billing".into()),
        ..any()
    };
    check_found(ada_on_billing, &[live.session()]);
    check_found(
        SessionFilter {
            state: Some(SessionState::Live),
            ..any()
        },
        &[live.session()],
    );
    check_found(
        SessionFilter {
            denied: true,
            ..any()
        },
        &[eve],
    );
    check_found(
        SessionFilter {
            since: Some(u64::MAX),
            ..any()
        },
        &[],
    );
    check_found(
        SessionFilter {
            agent: Some("' OR 1=1 --".into()),
            ..any()
        },
        &[],
    );

    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let filter = SessionFilter {
            limit: Some(3),
            before,
            ..any()
        };
        let page = catalogue.sessions(&filter).unwrap();
        pages.push(page.len());
        let Some(last) = page.last() else { break };
        before = Some(last.session);
    }
    assert_eq!(pages, [3, 1, 0]);
}

#[test]
fn a_prefix_finds_a_session_or_says_that_it_is_not_enough() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let ada = finished_session(&journal, "ada", "orders", false);
    finished_session(&journal, "eve", "orders", false);
    thread.handle().flush(DEADLINE).unwrap();
    let catalogue = place.catalogue();
    let id = ada.to_string();
    let named = |prefix: &str| {
        let entries = catalogue.sessions_named(prefix).unwrap();
        entries
            .iter()
            .map(|entry| entry.session)
            .collect::<Vec<_>>()
    };
    assert_eq!(named(&id), [ada]);
    assert_eq!(named(&id.to_lowercase()[..25]), [ada]);
    assert_eq!(named("0").len(), 2);
    assert_eq!(named(""), []);
    assert_eq!(named("%"), []);
    assert_eq!(named(&format!("{id}0")), []);
}

#[test]
fn a_catalogue_that_is_lost_or_damaged_is_made_again_from_the_journal() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    finished_session(&journal, "ada", "orders", false);
    finished_session(&journal, "eve", "billing", true);
    drop(Recorder::open(&journal, &start_of("bob", "orders")).unwrap());
    journal
        .refused_login(&RefusedLogin {
            reason: "token-expired".into(),
            ..RefusedLogin::default()
        })
        .unwrap();
    drop(journal);
    thread.stop().unwrap();
    let expected = all_sessions(&place.catalogue());
    assert_eq!(expected.len(), 3);
    let refused = place.catalogue().refused_logins(0, 10).unwrap();
    assert_eq!(refused.len(), 1);

    let path = place.settings().catalogue;
    std::fs::remove_file(&path).unwrap();
    place.start().stop().unwrap();
    assert_eq!(all_sessions(&place.catalogue()), expected);

    std::fs::write(
        &path,
        b"this is no database, and long enough to be taken for a damaged one",
    )
    .unwrap();
    place.start().stop().unwrap();
    assert_eq!(all_sessions(&place.catalogue()), expected);
    assert_eq!(place.catalogue().refused_logins(0, 10).unwrap(), refused);

    place.start().stop().unwrap();
    assert_eq!(
        all_sessions(&place.catalogue()),
        expected,
        "a start without news changes nothing"
    );
}

#[test]
fn a_session_that_spans_many_files_is_counted_and_replayed_whole() {
    let place = Place::new();
    let settings = RecordingSettings {
        rotate_bytes: 20_000,
        ..place.settings()
    };
    let thread = start_with(settings.clone());
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    let mut other = Recorder::open(&journal, &start_of("eve", "orders")).unwrap();
    for number in 1..=100 {
        record(
            &mut recorder,
            number,
            &query(&format!("select {number}")),
            &permitted(),
        );
        record(&mut other, number, &query(&"x".repeat(1000)), &permitted());
        if number % 10 == 0 {
            thread.handle().flush(DEADLINE).unwrap();
        }
    }
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    thread.handle().flush(DEADLINE).unwrap();
    let files = std::fs::read_dir(&settings.journal_directory)
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|it| it == "journal")
        })
        .count();
    assert!(files >= 5, "{files} files");
    let expected: Vec<_> = (1..=100)
        .map(|number| (number, query(&format!("select {number}"))))
        .collect();
    assert_eq!(commands(&place.events(session)), expected);
    let entry = place.catalogue().session(session).unwrap().unwrap();
    assert_eq!(entry.counters.commands, 100);
}

#[test]
fn a_second_process_on_the_same_directories_is_refused() {
    let place = Place::new();
    let thread = place.start();
    let second = JournalThread::start(place.settings());
    assert!(matches!(
        second,
        Err(StartError::Recovery(RecoveryError::InUse { .. }))
    ));
    thread.stop().unwrap();
    place.start().stop().unwrap();
}

#[test]
fn rings_of_a_possible_size_are_made_and_others_refused() {
    let place = Place::new();
    for ring_bytes in [0, RING_BYTES_MIN - 1, RING_BYTES_MAX + 1] {
        let refused = JournalThread::start(RecordingSettings {
            ring_bytes,
            ..place.settings()
        });
        assert!(
            matches!(refused, Err(StartError::RingSize { .. })),
            "{ring_bytes}"
        );
    }
    for ring_bytes in [RING_BYTES_MIN, RING_BYTES_MIN + 1, 10_000_000] {
        let thread = start_with(RecordingSettings {
            ring_bytes,
            ..place.settings()
        });
        let journal = open_journal(&thread);
        finished_session(&journal, "ada", "orders", false);
        drop(journal);
        thread.stop().unwrap();
    }
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    finished_session(&journal, "ada", "orders", false);
    thread.handle().flush(DEADLINE).unwrap();
    let settings = place.settings();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o077;
    let mut checked = 0;
    for directory in [&settings.ring_directory, &settings.journal_directory] {
        assert_eq!(mode(directory), 0, "{}", directory.display());
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            assert!(
                mode(&path) == 0 || path.ends_with("lock"),
                "{}",
                path.display()
            );
            checked += 1;
        }
    }
    assert!(checked >= 3, "{checked} files");
    assert_eq!(mode(&settings.catalogue), 0);
}
