//! Sessions found by what they did: the answers, and the indexes behind them.

use policy::pattern::Pattern;
use rusqlite::types::Value;

use super::*;

fn note(verdict: Verdict, effects: &[(&str, &str)]) -> Note {
    let effects: Vec<EffectNote<'_>> = effects
        .iter()
        .map(|(class, object)| EffectNote {
            class,
            object: Some(object),
        })
        .collect();
    Note::new(&DecisionNote {
        verdict,
        rule: None,
        policy: 7,
        effects: &effects,
        search_path: None,
        foreshadowed: None,
    })
}

fn session_of(journal: &Rc<Journal>, effects: &[(&str, &str)]) -> SessionId {
    let mut recorder = Recorder::open(journal, &start_of("ada", "orders")).unwrap();
    let note = note(Verdict::Permitted, effects);
    for number in 1..=3 {
        record(&mut recorder, number, &query("select 1"), &note);
    }
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    session
}

fn found(catalogue: &Catalogue, filter: &SessionFilter) -> Vec<SessionId> {
    let entries = catalogue.sessions(filter).unwrap();
    entries.iter().map(|entry| entry.session).collect()
}

fn of_table(pattern: &str) -> SessionFilter {
    SessionFilter {
        table: Some(Pattern::parse(pattern).unwrap()),
        ..SessionFilter::default()
    }
}

#[test]
fn sessions_are_found_by_class_and_by_table() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let reads = session_of(
        &journal,
        &[("select", "public.orders"), ("select", "lower()")],
    );
    let drops = session_of(&journal, &[("drop", "sales.orders_2025")]);
    let path = session_of(&journal, &[("insert", "orders"), ("set", "setting orders")]);
    let any = session_of(&journal, &[("truncate", "any table")]);
    let point = session_of(&journal, &[("select", "odd.sche.ma")]);
    thread.handle().flush(DEADLINE).unwrap();
    let catalogue = place.catalogue();
    let check = |filter: SessionFilter, expected: &[SessionId]| {
        let mut found = found(&catalogue, &filter);
        let mut expected = expected.to_vec();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{filter:?}");
    };
    let of_class = |classes: &[&str]| SessionFilter {
        classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        ..SessionFilter::default()
    };
    check(of_class(&["select"]), &[reads, point]);
    check(of_class(&["drop", "insert"]), &[drops, path]);
    check(of_class(&["grant"]), &[]);
    check(of_table("orders"), &[reads, path, any]);
    check(of_table("public.orders"), &[reads, path, any]);
    check(of_table("sales.*"), &[drops, path, any]);
    check(of_table("sales.orders_20*"), &[drops, any]);
    check(of_table("lower"), &[any]);
    check(of_table("odd.\"sche.ma\""), &[point, any]);
    check(of_table("\"odd.sche\".ma"), &[point, any]);
    let both = SessionFilter {
        classes: vec!["select".to_owned()],
        ..of_table("orders")
    };
    check(both, &[reads]);
}

#[test]
fn a_session_with_more_tables_than_are_kept_is_found_by_any_name() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let few = session_of(&journal, &[("select", "public.orders")]);
    let mut recorder = Recorder::open(&journal, &start_of("eve", "orders")).unwrap();
    for number in 1..=1100 {
        let table = format!("public.table_{number}");
        let note = note(Verdict::Permitted, &[("select", &table)]);
        record(&mut recorder, number, &query("select 1"), &note);
        if number % 500 == 0 {
            thread.handle().flush(DEADLINE).unwrap();
        }
    }
    let many = recorder.session();
    recorder.end(EndReason::Finished);
    thread.handle().flush(DEADLINE).unwrap();
    let catalogue = place.catalogue();
    assert_eq!(found(&catalogue, &of_table("table_17")), [many]);
    assert_eq!(found(&catalogue, &of_table("nowhere")), [many]);
    assert_eq!(found(&catalogue, &of_table("orders")).len(), 2);
    assert!(found(&catalogue, &of_table("orders")).contains(&few));
    let rows = rusqlite::Connection::open(place.settings().catalogue)
        .unwrap()
        .query_row("SELECT count(*) FROM session_objects", [], |row| row.get(0));
    assert_eq!(rows, Ok(1001));
}

#[test]
fn sessions_are_found_by_hold_by_end_and_by_time() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    let step = |step| ApprovalNote {
        step,
        request: Some("request-1".to_owned()),
        digest: None,
        rules: vec!["writes-need-a-person".to_owned()],
        by: Vec::new(),
        reason: None,
        expires: 0,
    };
    for asked in [ApprovalStep::Asked, ApprovalStep::Denied] {
        assert!(recorder.approval(1, &step(asked)).is_ok());
    }
    let held = recorder.session();
    recorder.end(EndReason::Revoked);
    let plain = session_of(&journal, &[]);
    thread.handle().flush(DEADLINE).unwrap();
    let catalogue = place.catalogue();
    let any = SessionFilter::default;
    let entry = catalogue.session(held).unwrap().unwrap();
    assert_eq!(entry.holds, 1);
    let is_held = SessionFilter {
        held: true,
        ..any()
    };
    assert_eq!(found(&catalogue, &is_held), [held]);
    for (ended, expected) in [(EndReason::Revoked, held), (EndReason::Finished, plain)] {
        let filter = SessionFilter {
            ended: Some(ended),
            ..any()
        };
        assert_eq!(found(&catalogue, &filter), [expected]);
    }
    let started = entry.started;
    for (since, until, is_found) in [
        (started, started + 1, true),
        (started + 1, u64::MAX, false),
        (0, started, false),
        (0, u64::MAX, true),
    ] {
        let filter = SessionFilter {
            since: Some(since),
            until: Some(until),
            ..is_held.clone()
        };
        assert_eq!(
            found(&catalogue, &filter).len(),
            usize::from(is_found),
            "{since} {until}"
        );
    }
}

#[test]
fn a_catalogue_of_another_version_is_made_again() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let session = session_of(&journal, &[("drop", "public.orders")]);
    drop(journal);
    thread.stop().unwrap();
    let path = place.settings().catalogue;
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch("DROP TABLE session_objects; PRAGMA user_version = 1")
        .unwrap();
    drop(old);
    let refused = Catalogue::open(&path).map(|_| ());
    assert!(matches!(refused, Err(CatalogueError::Version { found: 1 })));
    place.start().stop().unwrap();
    assert_eq!(found(&place.catalogue(), &of_table("orders")), [session]);
}

/// What SQLite does to answer, with so many sessions in the catalogue.
#[test]
fn no_search_looks_at_all_of_100_000_sessions() {
    let place = Place::new();
    place.start().stop().unwrap();
    let path = place.settings().catalogue;
    let writing = rusqlite::Connection::open(&path).unwrap();
    writing
        .execute_batch(
            "BEGIN;
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
             INSERT INTO sessions (id, started, last_seen, state, end_reason, subject, name, target,
                                   shard, denials, holds)
             SELECT printf('%026d', i), i, i, 'ended', iif(i % 1000 = 0, 'revoked', 'finished'),
                    'sub-' || (i % 500), 'name-' || (i % 500), 'target-' || (i % 20), 0,
                    i % 100 = 0, i % 200 = 0 FROM n;
             INSERT INTO session_classes SELECT id, 'select' FROM sessions;
             INSERT INTO session_classes SELECT id, 'drop' FROM sessions WHERE started % 777 = 0;
             INSERT INTO objects (id, name) VALUES (1, 'public.orders'), (2, 'public.rare');
             INSERT INTO session_objects SELECT id, 1 FROM sessions;
             INSERT INTO session_objects SELECT id, 2 FROM sessions WHERE started % 999 = 0;
             COMMIT;",
        )
        .unwrap();
    let catalogue = place.catalogue();
    let any = SessionFilter::default;
    let drops = SessionFilter {
        classes: vec!["drop".to_owned()],
        ..any()
    };
    let cases = [
        (any(), 100_000),
        (
            SessionFilter {
                agent: Some("sub-3".into()),
                ..any()
            },
            200,
        ),
        (
            SessionFilter {
                target: Some("target-3".into()),
                ..any()
            },
            5000,
        ),
        (
            SessionFilter {
                state: Some(SessionState::Live),
                ..any()
            },
            0,
        ),
        (
            SessionFilter {
                denied: true,
                ..any()
            },
            1000,
        ),
        (
            SessionFilter {
                held: true,
                ..any()
            },
            500,
        ),
        (
            SessionFilter {
                ended: Some(EndReason::Revoked),
                ..any()
            },
            100,
        ),
        (drops.clone(), 128),
        (of_table("rare"), 100),
        (
            SessionFilter {
                agent: Some("name-0".into()),
                ..drops.clone()
            },
            0,
        ),
        (
            SessionFilter {
                denied: true,
                ..drops.clone()
            },
            1,
        ),
        (
            SessionFilter {
                target: Some("target-0".into()),
                ..of_table("public.r*")
            },
            5,
        ),
    ];
    for (filter, expected) in cases {
        let filter = SessionFilter {
            limit: Some(ROWS_MAX),
            ..filter
        };
        let expected = expected.min(ROWS_MAX as usize);
        assert_eq!(
            catalogue.sessions(&filter).unwrap().len(),
            expected,
            "{filter:?}"
        );
        let (question, values) = catalogue.search(&filter).unwrap();
        let plan = plan(&writing, &question, &values);
        // Without a condition, the newest are read off the primary key, and no more.
        let is_all = filter
            == SessionFilter {
                limit: Some(ROWS_MAX),
                ..any()
            };
        let scans = plan
            .iter()
            .any(|step| step.starts_with("SCAN sessions") && !step.contains("INDEX"));
        assert_eq!(scans, is_all, "{filter:?}: {plan:#?}");
        let searches = plan
            .iter()
            .filter(|step| step.starts_with("SEARCH"))
            .count();
        let reads_partial = plan
            .iter()
            .any(|step| step.starts_with("SCAN sessions USING INDEX"));
        assert!(
            is_all || searches > 0 || reads_partial,
            "{filter:?}: {plan:#?}"
        );
        let reads_all_deeds = plan.iter().any(|step| {
            step.starts_with("SCAN session_classes") || step.starts_with("SCAN session_objects")
        });
        assert!(!reads_all_deeds, "{filter:?}: {plan:#?}");
    }
}

fn plan(connection: &rusqlite::Connection, question: &str, values: &[Value]) -> Vec<String> {
    let mut statement = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {question}"))
        .unwrap();
    let steps = statement
        .query_map(rusqlite::params_from_iter(values), |row| row.get("detail"))
        .unwrap();
    steps.map(Result::unwrap).collect()
}
