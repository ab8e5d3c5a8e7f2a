//! What replays show: exactly what was recorded, readable, and harmless to a terminal.

use codecs::postgres::backend::{Report, Severity, SqlState};

use super::super::replay::{ReplayForm, write};
use super::*;

/// Records what `script` does, and returns the replay as text and as JSON, without times and ids.
fn check_replay(script: impl FnOnce(&mut Recorder), text: &str, json: &[&str]) {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    script(&mut recorder);
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    thread.handle().flush(DEADLINE).unwrap();
    let open = || Replay::open(&place.catalogue(), &place.settings(), session).unwrap();
    let mut out = Vec::new();
    write(&mut open(), ReplayForm::Text, &mut out).unwrap();
    let shown = String::from_utf8(out).unwrap();
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some(format!("session {session}").as_str()));
    let start = lines.next().unwrap();
    let expected_start = "= ada (sub-ada of https://issuer.test), groups analysts, oncall, \
                          on orders from 127.0.0.1:4711 with psql, acting: orchestrator";
    assert_eq!(&start[28..], expected_start);
    let body: Vec<&str> = lines
        .map(|line| {
            if line.starts_with("20") {
                &line[28..]
            } else {
                line.trim_start()
            }
        })
        .collect();
    assert_eq!(body.join("\n"), text);

    let mut out = Vec::new();
    write(&mut open(), ReplayForm::Json, &mut out).unwrap();
    let shown = String::from_utf8(out).unwrap();
    let objects: Vec<serde_json::Value> = shown
        .lines()
        .map(|line| {
            let mut object: serde_json::Value = serde_json::from_str(line).unwrap();
            let fields = object.as_object_mut().unwrap();
            assert_eq!(fields.remove("session").unwrap(), session.to_string());
            let at = fields.remove("at").unwrap();
            assert!(at.as_str().unwrap().ends_with('Z'), "{at}");
            fields.remove("sequence").unwrap();
            object
        })
        .collect();
    let [first, middle @ .., last] = objects.as_slice() else {
        panic!("{objects:?}")
    };
    assert_eq!(
        (&first["event"], &first["target"]),
        (&"session-start".into(), &"orders".into())
    );
    assert_eq!(first["principal"]["actors"][0]["subject"], "orchestrator");
    assert_eq!(
        (&last["event"], &last["reason"]),
        (&"session-end".into(), &"finished".into())
    );
    let expected: Vec<serde_json::Value> = json
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(middle, expected);
}

fn columns(names: &[&str]) -> Vec<u8> {
    let mut wire = vec![b'T', 0, 0, 0, 0];
    wire.extend(u16::try_from(names.len()).unwrap().to_be_bytes());
    for name in names {
        wire.extend(name.as_bytes());
        wire.push(0);
        wire.extend([
            0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0,
        ]);
    }
    let length = u32::try_from(wire.len() - 1).unwrap();
    wire[1..5].copy_from_slice(&length.to_be_bytes());
    wire
}

fn ready() -> Vec<u8> {
    b"Z\0\0\0\x05I".to_vec()
}

#[test]
fn a_query_its_rows_and_its_completion() {
    let replies = [
        columns(&["id", "name"]),
        row(&[Some(b"1"), Some("gr\u{fc}\u{df}e".as_bytes())]),
        row(&[Some(b"2"), None]),
        complete("SELECT 2"),
        ready(),
    ]
    .concat();
    check_replay(
        |recorder| {
            record(
                recorder,
                1,
                &query("select id, name\nfrom orders"),
                &permitted(),
            );
            recorder.count_rows(2);
            // Cut anywhere: a message does not end where a record does.
            for piece in replies.chunks(11) {
                record_response(recorder, 1, piece);
            }
        },
        "> select id, name\n\
         | from orders\n\
         < columns ('id', 'name')\n\
         < row ('1', 'grüße')\n\
         < row ('2', NULL)\n\
         < SELECT 2\n\
         = finished: 1 commands, 0 refused, 2 rows, 33 bytes received, 110 bytes sent",
        &[
            r#"{"number":1,"event":"command","kind":"query","message":"Query","text":"select id, name\nfrom orders",
                "verdict":"permitted","rule":"analysts-read","policy":7,"cuts":0,"search_path":["public"],
                "effects":[{"class":"select","object":"public.orders"}]}"#,
            r#"{"number":1,"event":"columns","columns":[{"name":"id","type":25,"table":0,"attribute":0},
                {"name":"name","type":25,"table":0,"attribute":0}]}"#,
            r#"{"number":1,"event":"row","values":["1","grüße"]}"#,
            r#"{"number":1,"event":"row","values":["2",null]}"#,
            r#"{"number":1,"event":"complete","tag":"SELECT 2"}"#,
            r#"{"number":1,"event":"ready","status":"idle"}"#,
        ],
    );
}

#[test]
fn a_refused_command_and_the_error_that_the_agent_got() {
    let mut error = Vec::new();
    Report::new(Severity::Error, SqlState::new(b"42501"), "not allowed")
        .detail("rule no-destruction")
        .hint("Ask #data-platform.")
        .encode_error(&mut error)
        .unwrap();
    check_replay(
        |recorder| {
            record(recorder, 1, &query("drop table orders"), &refused());
            record_response(recorder, 1, &error);
        },
        "> drop table orders   [refused by no-destruction]\n\
         < ERROR 42501: not allowed DETAIL: rule no-destruction HINT: Ask #data-platform.\n\
         = finished: 1 commands, 1 refused, 0 rows, 23 bytes received, 82 bytes sent",
        &[
            r#"{"number":1,"event":"command","kind":"query","message":"Query","text":"drop table orders",
                "verdict":"refused","rule":"no-destruction","policy":7,"cuts":0,"search_path":null,
                "effects":[{"class":"drop","object":"public.orders"}]}"#,
            r#"{"number":1,"event":"error","severity":"ERROR","sqlstate":"42501","message":"not allowed",
                "detail":"rule no-destruction","hint":"Ask #data-platform."}"#,
        ],
    );
}

#[test]
fn a_prepared_statement_with_its_values() {
    let mut parse = Vec::new();
    frontend::encode_parse(&mut parse, b"s1", b"select $1, $2, $3", &[23]).unwrap();
    let mut bind = Vec::new();
    let values: [Option<&[u8]>; 3] = [Some(b"7"), None, Some(b"\xff\x00")];
    frontend::encode_bind(&mut bind, b"", b"s1", &[], &values, &[]).unwrap();
    let mut execute = Vec::new();
    frontend::encode_execute(&mut execute, b"", 50).unwrap();
    let mut sync = Vec::new();
    frontend::encode_sync(&mut sync).unwrap();
    let not_judged = Note::not_judged();
    check_replay(
        |recorder| {
            let messages = [
                (CommandKind::Prepare, &parse),
                (CommandKind::Bind, &bind),
                (CommandKind::Execute, &execute),
                (CommandKind::Control, &sync),
            ];
            for (number, (kind, wire)) in (1..).zip(messages) {
                let recorded = recorder
                    .command(number, kind, wire, &[], &not_judged)
                    .unwrap();
                assert_eq!(recorded.verdict(), Verdict::NotJudged);
            }
        },
        "> prepare s1: select $1, $2, $3\n\
         > bind s1('7', NULL, \\xff00)\n\
         > execute (unnamed) up to 50 rows\n\
         = finished: 1 commands, 0 refused, 0 rows, 77 bytes received, 0 bytes sent",
        &[
            r#"{"number":1,"event":"command","kind":"prepare","message":"Parse","statement":"s1",
                "text":"select $1, $2, $3","parameter_types":[23],
                "verdict":"not-judged","rule":null,"policy":0,"cuts":0,"search_path":null,"effects":[]}"#,
            r#"{"number":2,"event":"command","kind":"bind","message":"Bind","portal":"","statement":"s1",
                "values":["7",null,{"hex":"ff00"}],
                "verdict":"not-judged","rule":null,"policy":0,"cuts":0,"search_path":null,"effects":[]}"#,
            r#"{"number":3,"event":"command","kind":"execute","message":"Execute","portal":"","row_limit":50,
                "verdict":"not-judged","rule":null,"policy":0,"cuts":0,"search_path":null,"effects":[]}"#,
            r#"{"number":4,"event":"command","kind":"control","message":"Sync",
                "verdict":"not-judged","rule":null,"policy":0,"cuts":0,"search_path":null,"effects":[]}"#,
        ],
    );
}

#[test]
fn what_a_terminal_would_obey_is_escaped() {
    check_replay(
        |recorder| {
            record(
                recorder,
                1,
                &query("select '\u{1b}]0;owned\u{7}'\n= forged: line"),
                &permitted(),
            );
            record_response(
                recorder,
                1,
                &row(&[Some(b"a\x1b[2J\nb"), Some("\u{202e}evil".as_bytes())]),
            );
        },
        "> select '\\u{001b}]0;owned\\u{0007}'\n\
         | = forged: line\n\
         < row ('a\\u{001b}[2J\\nb', '\\u{202e}evil')\n\
         = finished: 1 commands, 0 refused, 0 rows, 40 bytes received, 29 bytes sent",
        &[
            r#"{"number":1,"event":"command","kind":"query","message":"Query",
                "text":"select '\u001b]0;owned\u0007'\n= forged: line",
                "verdict":"permitted","rule":"analysts-read","policy":7,"cuts":0,"search_path":["public"],
                "effects":[{"class":"select","object":"public.orders"}]}"#,
            r#"{"number":1,"event":"row","values":["a\u001b[2J\nb","\u202eevil"]}"#,
        ],
    );
}

#[test]
fn bytes_that_are_no_message_are_shown_as_bytes() {
    check_replay(
        |recorder| {
            record(recorder, 1, b"?what", &permitted());
            record_response(recorder, 1, &complete("SELECT 1"));
            record_response(recorder, 1, b"\x01\x02\x03");
            record_response(recorder, 1, &complete("SELECT 1"));
        },
        "> \\x3f77686174\n\
         < SELECT 1\n\
         < \\x010203\n\
         < \\x430000000d53454c454354203100\n\
         = finished: 1 commands, 0 refused, 0 rows, 5 bytes received, 31 bytes sent",
        &[
            r#"{"number":1,"event":"command","kind":"query","message":"bytes","hex":"3f77686174",
                "verdict":"permitted","rule":"analysts-read","policy":7,"cuts":0,"search_path":["public"],
                "effects":[{"class":"select","object":"public.orders"}]}"#,
            r#"{"number":1,"event":"complete","tag":"SELECT 1"}"#,
            r#"{"number":1,"event":"bytes","hex":"010203"}"#,
            r#"{"number":1,"event":"bytes","hex":"430000000d53454c454354203100"}"#,
        ],
    );
}

#[test]
fn a_reply_that_the_end_cuts_off_is_shown_as_bytes() {
    check_replay(
        |recorder| record_response(recorder, 0, b"D\0\0\0\x20half a row"),
        "< \\x440000002068616c66206120726f77\n\
         = finished: 0 commands, 0 refused, 0 rows, 0 bytes received, 15 bytes sent",
        &[r#"{"number":0,"event":"bytes","hex":"440000002068616c66206120726f77"}"#],
    );
}

const SECRET: &str = "hunter2-canary";

/// Every file below the place, rings included.
fn all_bytes(place: &Place) -> Vec<u8> {
    fn collect(directory: &Path, bytes: &mut Vec<u8>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, bytes);
            } else {
                bytes.extend(std::fs::read(&path).unwrap());
            }
        }
    }
    let mut bytes = Vec::new();
    collect(place.path(), &mut bytes);
    bytes
}

#[test]
fn secrets_are_cut_before_they_reach_the_ring() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    let text = format!("alter role a password '{SECRET}'; alter role b password '{SECRET}'");
    let wire = query(&text);
    let cuts: Vec<_> = text
        .match_indices(SECRET)
        .map(|(at, _)| 5 + at..5 + at + SECRET.len())
        .collect();
    assert_eq!(cuts.len(), 2);
    let reversed = [cuts[1].clone(), cuts[0].clone()];
    let overlapping = [
        cuts[0].start..cuts[0].end - 3,
        cuts[0].start + 2..cuts[0].end,
        cuts[1].clone(),
    ];
    for (number, cuts) in (1..).zip([cuts.as_slice(), &reversed, &overlapping]) {
        let recorded = recorder
            .command(number, CommandKind::Query, &wire, cuts, &permitted())
            .unwrap();
        assert_eq!(recorded.number(), number);
    }
    // In a Bind lengths stand before values, so the length stays.
    let mut bind = Vec::new();
    let value = SECRET.as_bytes();
    frontend::encode_bind(&mut bind, b"", b"", &[], &[Some(value)], &[]).unwrap();
    let at = bind
        .windows(value.len())
        .position(|window| window == value)
        .unwrap();
    let cut = std::iter::once(at..at + value.len()).collect::<Vec<_>>();
    let recorded = recorder
        .command(4, CommandKind::Bind, &bind, &cut, &permitted())
        .unwrap();
    assert_eq!(recorded.number(), 4);
    // A range beyond the message cuts what there is of it.
    let beyond = std::iter::once(5 + text.find(SECRET).unwrap()..usize::MAX).collect::<Vec<_>>();
    let recorded = recorder
        .command(5, CommandKind::Query, &wire, &beyond, &permitted())
        .unwrap();
    assert_eq!(recorded.number(), 5);

    let contains = |bytes: &[u8]| {
        bytes
            .windows(SECRET.len())
            .any(|window| window == SECRET.as_bytes())
    };
    assert!(!contains(&all_bytes(&place)), "a secret reached the ring");
    thread.handle().flush(DEADLINE).unwrap();
    assert!(!contains(&all_bytes(&place)), "a secret reached the disk");

    let session = recorder.session();
    let mut replay = Replay::open(&place.catalogue(), &place.settings(), session).unwrap();
    let mut out = Vec::new();
    write(&mut replay, ReplayForm::Text, &mut out).unwrap();
    let shown = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = shown.lines().skip(2).map(|line| &line[28..]).collect();
    let expected = [
        "> alter role a password '***'; alter role b password '***'   [2 secrets cut]",
        "> alter role a password '***'; alter role b password '***'   [2 secrets cut]",
        "> alter role a password '******'; alter role b password '***'   [3 secrets cut]",
        "> bind (unnamed)('**************')   [1 secrets cut]",
    ];
    assert_eq!(lines[..4], expected);
    // The terminator was cut with the rest: no message any more, and shown as what it is.
    assert!(lines[4].starts_with("> \\x51"), "{}", lines[4]);
}

#[test]
fn a_message_longer_than_the_ring_is_recorded_in_pieces_and_replayed_whole() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    let long: String = (0..200_000).map(|number| format!("{number:06} ")).collect();
    assert!(long.len() > 5 * RING_BYTES_MIN);
    let wire = query(&long);
    record(&mut recorder, 1, &wire, &permitted());
    let reply = row(&[Some(long.as_bytes())]);
    record_response(&mut recorder, 1, &reply);
    record(&mut recorder, 2, &query("select 2"), &permitted());
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    thread.handle().flush(DEADLINE).unwrap();
    let events = place.events(session);
    assert_eq!(
        commands(&events),
        [(1, wire.clone()), (2, query("select 2"))]
    );
    let replies: Vec<u8> = events
        .iter()
        .filter_map(|event| {
            let EventKind::Response { wire, .. } = &event.what else {
                return None;
            };
            Some(wire.as_slice())
        })
        .flatten()
        .copied()
        .collect();
    assert!(replies == reply, "the reply differs");
    let counters = place
        .catalogue()
        .session(session)
        .unwrap()
        .unwrap()
        .counters;
    assert_eq!(counters.commands, 2);
    assert_eq!(
        counters.bytes_received,
        (wire.len() + query("select 2").len()) as u64
    );
    assert_eq!(counters.bytes_sent, reply.len() as u64);
}

#[test]
fn a_message_that_was_given_up_in_the_middle_is_shown_as_incomplete() {
    let place = Place::new();
    let directory = place.settings().journal_directory;
    let aside = directory.with_extension("aside");
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    thread.handle().flush(DEADLINE).unwrap();
    std::fs::rename(&directory, &aside).unwrap();
    let long = query(&"x".repeat(2 * RING_BYTES_MIN));
    let refused = recorder.command(1, CommandKind::Query, &long, &[], &permitted());
    assert!(refused.is_err());
    let session = recorder.session();
    recorder.end(EndReason::NotRecordable);
    std::fs::rename(&aside, &directory).unwrap();
    eventually("the journal goes on", || {
        thread.handle().flush(DEADLINE).is_ok()
    });
    let events = place.events(session);
    let EventKind::Command(command) = &events[1].what else {
        panic!("{events:?}")
    };
    assert!(!command.is_whole() && !command.wire.is_empty());
    assert_eq!(command.total_bytes, long.len() as u64);
    let counters = place
        .catalogue()
        .session(session)
        .unwrap()
        .unwrap()
        .counters;
    assert_eq!(
        counters.commands, 1,
        "what the agent asked for is counted, whole or not"
    );
}

#[test]
fn a_session_that_nobody_knows_is_not_replayed() {
    let place = Place::new();
    let thread = place.start();
    let unknown = SessionId::from_bytes([7; 16]);
    let replay = Replay::open(&place.catalogue(), &place.settings(), unknown);
    let is_unknown = matches!(
        replay.map(|_| ()),
        Err(super::super::replay::ReplayError::NoSuchSession { session }) if session == unknown
    );
    assert!(is_unknown);
    thread.stop().unwrap();
}
