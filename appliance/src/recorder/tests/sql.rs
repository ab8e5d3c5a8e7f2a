//! What a replay as SQL shows.

use codecs::postgres::backend::{Report, Severity, SqlState};
use codecs::postgres::frontend::{Format, Target};

use super::super::replay::{ReplayForm, write};
use super::*;

const INT4: u32 = 23;
const TEXT: u32 = 25;

/// Records what `script` does, and compares the replay, without times and the lines of the start.
fn check_sql(script: impl FnOnce(&mut Recorder), expected: &str) {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    script(&mut recorder);
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    thread.handle().flush(DEADLINE).unwrap();
    let mut replay = Replay::open(&place.catalogue(), &place.settings(), session).unwrap();
    let mut out = Vec::new();
    write(&mut replay, ReplayForm::Sql, &mut out).unwrap();
    let shown = String::from_utf8(out).unwrap();
    let mut lines: Vec<String> = shown.lines().map(without_time).collect();
    assert_eq!(lines.remove(0), format!("-- session {session}"));
    assert!(lines.remove(0).starts_with("-- = ada (sub-ada of "));
    assert!(lines.pop().unwrap().starts_with("-- T = finished: "));
    assert_eq!(lines.join("\n").trim_start_matches('\n'), expected);
}

fn without_time(line: &str) -> String {
    let rest = line
        .strip_prefix("-- 20")
        .and_then(|rest| rest.split_once(' '));
    rest.map_or_else(|| line.to_owned(), |(_, rest)| format!("-- T {rest}"))
}

fn columns(columns: &[(&str, u32, Format)]) -> Vec<u8> {
    let mut wire = vec![b'T', 0, 0, 0, 0];
    wire.extend(u16::try_from(columns.len()).unwrap().to_be_bytes());
    for (name, type_oid, format) in columns {
        wire.extend(name.as_bytes());
        wire.push(0);
        wire.extend([0; 6]);
        wire.extend(type_oid.to_be_bytes());
        wire.extend([0xff; 6]);
        wire.extend([0, u8::from(*format == Format::Binary)]);
    }
    let length = u32::try_from(wire.len() - 1).unwrap();
    wire[1..5].copy_from_slice(&length.to_be_bytes());
    wire
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag], length.as_slice(), body].concat()
}

fn send(recorder: &mut Recorder, number: u64, kind: CommandKind, wire: &[u8], note: &Note) {
    let recorded = recorder.command(number, kind, wire, &[], note).unwrap();
    assert_eq!(recorded.number(), number);
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

#[test]
fn a_statement_its_rows_and_what_looks_like_null() {
    check_sql(
        |recorder| {
            record(
                recorder,
                1,
                &query("select id, name\nfrom orders"),
                &permitted(),
            );
            let replies = [
                columns(&[("id", INT4, Format::Text), ("na\nme", TEXT, Format::Text)]),
                row(&[Some(b"1"), Some("gr\u{fc}\u{df}e".as_bytes())]),
                row(&[Some(b"20"), None]),
                row(&[Some(b"3"), Some(b"NULL")]),
                row(&[Some(b"4"), Some(b"")]),
                row(&[Some(b"5"), Some(b"'a'\x1b[2J")]),
                row(&[Some(b"6"), Some(b"\xff\x00")]),
                complete("SELECT 6"),
                ready(),
            ];
            // Cut anywhere: a message does not end where a record does.
            for piece in replies.concat().chunks(11) {
                record_response(recorder, 1, piece);
            }
        },
        "-- T #1 permitted by analysts-read\n\
         select id, name\n    from orders;\n \
         id | na\\nme\n\
         ----+--------------------\n \
         1  | grüße\n \
         20 | NULL\n \
         3  | 'NULL'\n \
         4  |\n \
         5  | '''a''\\u{001b}[2J'\n \
         6  | \\xff00\n\
         (6 rows)\n\
         -- SELECT 6",
    );
}

#[test]
fn a_refused_statement_and_a_statement_that_ends_in_a_comment() {
    let mut error = Vec::new();
    Report::new(Severity::Error, SqlState::new(b"42501"), "not allowed")
        .encode_error(&mut error)
        .unwrap();
    check_sql(
        |recorder| {
            record(recorder, 1, &query("drop table orders -- now"), &refused());
            record_response(recorder, 1, &[error, ready()].concat());
        },
        "-- T #1 refused by no-destruction\n\
         drop table orders -- now\n    ;\n\
         -- ERROR 42501: not allowed",
    );
}

#[test]
fn values_are_literals_and_binary_ones_are_read_by_their_type() {
    let mut wire = Vec::new();
    let types = [INT4, TEXT, TEXT, 0, 17, INT4];
    frontend::encode_parse(&mut wire, b"s1", b"select $1", &types).unwrap();
    let parse = std::mem::take(&mut wire);
    frontend::encode_describe(&mut wire, Target::Statement, b"s1").unwrap();
    let describe = std::mem::take(&mut wire);
    let values: [Option<&[u8]>; 6] = [
        Some(b"\x00\x00\x00\x07"),
        Some("it's\n\\ \u{202e}".as_bytes()),
        None,
        Some(b"\x00\x01"),
        Some(b"\xff"),
        Some(b"\x00\x07"),
    ];
    let (binary, text) = (Format::Binary, Format::Text);
    let formats = [binary, text, text, binary, binary, binary];
    frontend::encode_bind(&mut wire, b"", b"s1", &formats, &values, &[binary]).unwrap();
    let bind = std::mem::take(&mut wire);
    frontend::encode_execute(&mut wire, b"", 50).unwrap();
    let execute = std::mem::take(&mut wire);
    frontend::encode_sync(&mut wire).unwrap();
    let sync = wire;
    check_sql(
        |recorder| {
            let not_judged = Note::not_judged();
            send(recorder, 1, CommandKind::Prepare, &parse, &permitted());
            send(recorder, 2, CommandKind::Control, &describe, &not_judged);
            send(recorder, 3, CommandKind::Control, &sync, &not_judged);
            let described = [
                message(b'1', b""),
                message(b't', &[0, 0]),
                columns(&[("id", INT4, text)]),
                ready(),
            ];
            record_response(recorder, 3, &described.concat());
            send(recorder, 4, CommandKind::Bind, &bind, &not_judged);
            send(recorder, 5, CommandKind::Execute, &execute, &not_judged);
            send(recorder, 6, CommandKind::Control, &sync, &not_judged);
            let answers = [
                message(b'2', b""),
                row(&[Some(b"\x00\x00\x00\x2a")]),
                message(b's', b""),
                ready(),
            ];
            record_response(recorder, 6, &answers.concat());
        },
        "-- T #5 permitted by analysts-read\n\
         -- $1 = 7\n\
         -- $2 = E'it''s\\n\\\\ \\U0000202e'\n\
         -- $3 = NULL\n\
         -- $4 = '\\x0001'\n\
         -- $5 = E'\\\\xff'\n\
         -- $6 = '\\x0007'\n\
         select $1;\n\
         -- up to 50 rows\n \
         id\n\
         ----\n \
         42\n\
         (1 row)\n\
         -- more rows are left",
    );
}

#[test]
fn answers_to_what_was_sent_ahead_are_told_apart() {
    check_sql(
        |recorder| {
            let mut wire = Vec::new();
            for (number, text) in [(1, "select 1"), (2, "select 2")] {
                record(recorder, number, &query(text), &permitted());
                wire.extend(columns(&[("n", INT4, Format::Text)]));
                wire.extend(row(&[Some(number.to_string().as_bytes())]));
                wire.extend(complete("SELECT 1"));
                wire.extend(ready());
            }
            record_response(recorder, 2, &wire);
        },
        "-- T #1 permitted by analysts-read\n\
         select 1;\n\
         \n\
         -- T #2 permitted by analysts-read\n\
         select 2;\n\
         -- answer to #1\n \
         n\n\
         ---\n \
         1\n\
         (1 row)\n\
         -- SELECT 1\n\
         -- answer to #2\n \
         n\n\
         ---\n \
         2\n\
         (1 row)\n\
         -- SELECT 1",
    );
}

#[test]
fn many_rows_are_written_in_parts_under_one_header() {
    let place = Place::new();
    let thread = place.start();
    let journal = open_journal(&thread);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    record(&mut recorder, 1, &query("select n"), &permitted());
    record_response(&mut recorder, 1, &columns(&[("n", INT4, Format::Text)]));
    for number in 1..=1001 {
        record_response(
            &mut recorder,
            1,
            &row(&[Some(number.to_string().as_bytes())]),
        );
    }
    record_response(&mut recorder, 1, &complete("SELECT 1001"));
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    thread.handle().flush(DEADLINE).unwrap();
    let mut replay = Replay::open(&place.catalogue(), &place.settings(), session).unwrap();
    let mut out = Vec::new();
    write(&mut replay, ReplayForm::Sql, &mut out).unwrap();
    let shown = String::from_utf8(out).unwrap();
    let rows = shown
        .lines()
        .filter(|line| line.trim().parse::<u32>().is_ok())
        .count();
    assert_eq!(rows, 1001);
    assert_eq!(shown.matches("\n n\n").count(), 1);
    assert!(shown.contains("(1001 rows)\n-- SELECT 1001\n"));
}
