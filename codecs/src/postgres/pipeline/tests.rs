//! Dialogues with the pipeline, as scripts.
//!
//! A line is a message and what the pipeline must say of it. `>` goes to the server: a request (as in
//! [`request`]; `!` before it is a probe, `~` a hidden request), then nothing if it is forwarded, `drop`,
//! or the name of an error. Requests are numbered from 1. `<` comes from the server: a letter of
//! PostgreSQL's (`X` for a fatal error, `Ei` for an interrupt, `Zi`, `Zt`, `Ze` for the status), then the request it belongs
//! to as letter and number, how many statements of it were complete before, and what it does:
//! `statement`, `request`, `fails`. `-` is a list of requests given back as discarded, and `?` a property.

use super::*;

fn request(word: &str) -> Request {
    match word {
        "Q" => Request::Query,
        "P" => Request::Parse,
        "B" => Request::Bind,
        "Ds" => Request::Describe(Target::Statement),
        "Dp" => Request::Describe(Target::Portal),
        "E" => Request::Execute,
        "C" => Request::Close,
        "S" => Request::Sync,
        "H" => Request::Flush,
        "F" => Request::FunctionCall,
        "d" => Request::CopyData,
        "c" => Request::CopyDone,
        "f" => Request::CopyFail,
        "X" => Request::Terminate,
        other => panic!("no request {other}"),
    }
}

fn letter(request: Request) -> &'static str {
    match request {
        Request::Query => "Q",
        Request::Parse => "P",
        Request::Bind => "B",
        Request::Describe(Target::Statement) => "Ds",
        Request::Describe(Target::Portal) => "Dp",
        Request::Execute => "E",
        Request::Close => "C",
        Request::Sync => "S",
        Request::Flush => "H",
        Request::FunctionCall => "F",
        Request::CopyData => "d",
        Request::CopyDone => "c",
        Request::CopyFail => "f",
        Request::Terminate => "X",
    }
}

fn event(word: &str) -> BackendEvent {
    match word {
        "Z" | "Zi" => BackendEvent::ReadyForQuery(TransactionStatus::Idle),
        "Zt" => BackendEvent::ReadyForQuery(TransactionStatus::InTransaction),
        "Ze" => BackendEvent::ReadyForQuery(TransactionStatus::Failed),
        "X" => BackendEvent::FatalErrorResponse,
        "Ei" => BackendEvent::InterruptErrorResponse,
        tag => BackendEvent::Tagged(BackendTag::from_byte(tag.as_bytes()[0]).unwrap()),
    }
}

fn error(error: SequenceError) -> &'static str {
    match error {
        SequenceError::Unexplained { .. } => "unexplained",
        SequenceError::OutOfSequence { .. } => "out of sequence",
        SequenceError::ProbeAccepted { .. } => "probe accepted",
        SequenceError::Ambiguous { .. } => "ambiguous",
        SequenceError::Ended => "ended",
    }
}

fn name(pending: Pending<u32>) -> String {
    let origin = match pending.origin {
        Origin::Client => "",
        Origin::Hidden => "~",
        Origin::Refused => "!",
    };
    format!("{origin}{}{}", letter(pending.request), pending.tag)
}

fn describe(reply: Result<Reply<u32>, SequenceError>) -> String {
    match reply {
        Err(unexpected) => error(unexpected).into(),
        Ok(Reply::Asynchronous) => "asynchronous".into(),
        Ok(Reply::Fatal(None)) => "fatal".into(),
        Ok(Reply::Fatal(Some(pending))) => format!("fatal in {}", name(pending)),
        Ok(Reply::Answer(answer)) => {
            let Answer {
                tag,
                request,
                origin,
                ..
            } = answer;
            let mut text = name(Pending {
                request,
                origin,
                tag,
            });
            if answer.statement > 0 {
                text += &format!(" {}", answer.statement);
            }
            for (holds, word) in [
                (answer.completes_statement, "statement"),
                (answer.completes_request, "request"),
                (answer.fails, "fails"),
            ] {
                if holds {
                    text += " ";
                    text += word;
                }
            }
            text
        }
    }
}

fn property(pipeline: &Pipeline<u32>, name: &str) -> bool {
    let repeats = |tag| pipeline.repeats().is_some_and(|(name, _)| name == tag);
    match name {
        "quiescent" => pipeline.is_quiescent(),
        "busy" => !pipeline.is_quiescent(),
        "at rest" => pipeline.is_at_rest(),
        "not at rest" => !pipeline.is_at_rest(),
        "awaits copy" => pipeline.awaits_copy(),
        "decided" => !pipeline.awaits_copy(),
        "in copy" => pipeline.in_copy_in(),
        "not in copy" => !pipeline.in_copy_in(),
        "discarding" => pipeline.is_discarding(),
        "doubtful" => pipeline.is_doubtful(),
        "certain" => !pipeline.is_doubtful(),
        "idle" => pipeline.transaction_status() == TransactionStatus::Idle,
        "in transaction" => pipeline.transaction_status() == TransactionStatus::InTransaction,
        "rows" => repeats(BackendTag::DataRow),
        "data" => repeats(BackendTag::CopyData),
        "no rows" => pipeline.repeats().is_none(),
        "failed" => pipeline.transaction_status() == TransactionStatus::Failed,
        other => panic!("no property {other}"),
    }
}

/// What is said to change nothing changes nothing.
fn check_repeats(pipeline: &Pipeline<u32>) {
    let Some((tag, of)) = pipeline.repeats() else {
        return;
    };
    let mut after = pipeline.clone();
    let reply = after.handle_backend(BackendEvent::Tagged(tag));
    let Ok(Reply::Answer(answer)) = reply else {
        panic!("{reply:?} to {tag:?}");
    };
    assert_eq!((answer.tag, answer.request), (of.tag, of.request));
    assert_eq!(answer.origin, of.origin);
    assert!(!answer.completes_statement && !answer.completes_request && !answer.fails);
    assert_eq!(format!("{after:?}"), format!("{pipeline:?}"));
}

fn check(script: &str) {
    let mut pipeline = Pipeline::new(TransactionStatus::Idle);
    let mut tag = 0_u32;
    for (number, line) in script.lines().map(str::trim).enumerate() {
        let Some((direction, rest)) = line.split_once(' ') else {
            continue;
        };
        let (word, expected) = rest.split_once(' ').unwrap_or((rest, ""));
        let found = match direction {
            ">" => {
                tag += 1;
                let (origin, word) = match word.split_at(1) {
                    ("!", word) => (Origin::Refused, word),
                    ("~", word) => (Origin::Hidden, word),
                    _ => (Origin::Client, word),
                };
                match pipeline.handle_frontend(request(word), origin, tag) {
                    Ok(Fate::Forward) => "",
                    Ok(Fate::Drop) => "drop",
                    Err(unexpected) => error(unexpected),
                }
                .to_owned()
            }
            "<" => describe(pipeline.handle_backend(event(word))),
            "-" => {
                let discarded: Vec<String> = pipeline.drain_discarded().map(name).collect();
                assert_eq!(discarded.join(" "), rest, "line {number}: {line}");
                continue;
            }
            "?" => {
                assert!(property(&pipeline, rest), "line {number}: {line}");
                continue;
            }
            other => panic!("no direction {other}"),
        };
        assert_eq!(found, expected.trim(), "line {number}: {line}");
        check_repeats(&pipeline);
    }
    assert_eq!(
        pipeline.drain_discarded().count(),
        0,
        "discarded and not listed"
    );
}

#[test]
fn a_query_is_answered_up_to_ready() {
    check(
        "> Q
         ? busy
         < T Q1
         < D Q1
         < D Q1
         < C Q1 statement
         ? busy
         < Zt Q1 1 request
         ? at rest
         ? in transaction",
    );
}

#[test]
fn statements_of_a_batch_are_counted() {
    check(
        "> Q
         < C Q1 statement
         < T Q1 1
         < D Q1 1
         < C Q1 1 statement
         < E Q1 2 fails
         < Ze Q1 2 request
         ? failed",
    );
}

#[test]
fn an_empty_query_is_one_statement() {
    check(
        "> Q
         < I Q1 statement
         < Z Q1 1 request",
    );
}

#[test]
fn a_rule_may_add_results_to_one_statement() {
    check(
        "> Q
         < T Q1
         < D Q1
         < T Q1
         < D Q1
         < C Q1 statement
         < Z Q1 1 request",
    );
}

#[test]
fn a_query_is_not_ready_before_it_said_anything() {
    for tags in [
        "Z", "T Z", "D", "n", "1", "s", "V", "c", "d", "E E", "E C", "I I", "C I",
    ] {
        let mut pipeline = Pipeline::new(TransactionStatus::Idle);
        pipeline
            .handle_frontend(Request::Query, Origin::Client, 1)
            .unwrap();
        let mut tags: Vec<_> = tags.split(' ').map(event).collect();
        let last = tags.pop().unwrap();
        for tag in tags {
            pipeline.handle_backend(tag).unwrap();
        }
        let outcome = pipeline.handle_backend(last);
        assert!(
            matches!(outcome, Err(SequenceError::Unexplained { .. })),
            "{last:?}"
        );
    }
}

#[test]
fn an_extended_sequence_is_paired_one_by_one() {
    check(
        "> P
         > B
         > Dp
         > E
         > C
         > S
         < 1 P1 request
         ? not at rest
         < 2 B2 request
         < T Dp3 request
         < D E4
         < C E4 statement request
         < 3 C5 request
         < Z S6 request
         ? at rest",
    );
}

#[test]
fn a_described_statement_has_two_replies() {
    check(
        "> Ds
         > Ds
         > Dp
         > S
         < t Ds1
         < T Ds1 request
         < t Ds2
         < n Ds2 request
         < n Dp3 request
         < Z S4 request",
    );
}

#[test]
fn every_reply_but_the_awaited_is_unexplained() {
    // For each request, after each legal prefix: what may come next.
    let legal: &[(&str, &str, &str)] = &[
        ("P", "", "1E"),
        ("B", "", "2E"),
        ("C", "", "3E"),
        ("Ds", "", "tE"),
        ("Ds", "t", "TnE"),
        ("Dp", "", "TnE"),
        ("E", "", "DCIGHE"),
        ("E", "D", "DCsE"),
        ("E", "G", "E"),
        ("E", "H", "dcE"),
        ("E", "Hd", "dcE"),
        ("E", "Hdc", "CE"),
        ("S", "", "ZE"),
        ("S", "E", "Z"),
        ("F", "", "VE"),
        ("F", "V", "ZE"),
        ("F", "E", "Z"),
        ("Q", "", "TCIGHWE"),
        ("Q", "T", "TDCE"),
        ("Q", "TD", "TDCE"),
        ("Q", "C", "TCGHWZE"),
        ("Q", "I", "TCGHWZE"),
        ("Q", "G", "E"),
        ("Q", "H", "dcE"),
        ("Q", "Hc", "CE"),
        ("Q", "HcC", "TCGHWZE"),
        ("Q", "W", "dcE"),
        ("Q", "Wc", "TCIGHWE"),
        ("Q", "TE", "Z"),
    ];
    for (word, prefix, allowed) in legal {
        for tag in BackendTag::ALL {
            let byte = char::from(tag.byte());
            let mut pipeline = Pipeline::new(TransactionStatus::Idle);
            pipeline
                .handle_frontend(request(word), Origin::Client, 1)
                .unwrap();
            for tag in prefix.chars() {
                pipeline.handle_backend(event(&tag.to_string())).unwrap();
            }
            let outcome = pipeline.handle_backend(event(&byte.to_string()));
            let state = format!("{word} after {prefix:?}, then {byte}: {outcome:?}");
            match byte {
                'N' | 'A' | 'S' => assert_eq!(outcome, Ok(Reply::Asynchronous), "{state}"),
                _ if allowed.contains(byte) => assert!(outcome.is_ok(), "{state}"),
                _ => assert!(
                    matches!(outcome, Err(SequenceError::Unexplained { .. })),
                    "{state}"
                ),
            }
        }
    }
}

#[test]
fn a_reply_to_nothing_is_unexplained() {
    for tag in ["1", "C", "D", "E", "Z", "R", "K", "v", "d"] {
        check(&format!("< {tag} unexplained"));
    }
    check(
        "< N asynchronous
         < A asynchronous
         < S asynchronous",
    );
}

#[test]
fn after_an_error_everything_to_sync_is_discarded() {
    check(
        "> P
         > B
         > E
         > Q
         > F
         > S
         > P
         > S
         < 1 P1 request
         < E B2 request fails
         - E3 Q4 F5
         < Z S6 request
         < 1 P7 request
         < Z S8 request",
    );
}

#[test]
fn what_follows_an_error_is_dropped_until_sync() {
    check(
        "> P
         < E P1 request fails
         ? discarding
         ? not at rest
         > B drop
         > Q drop
         > H drop
         > d drop
         > c drop
         - B2 Q3
         > S
         > Q
         < Z S7 request
         < C Q8 statement
         < Z Q8 1 request
         ? at rest",
    );
}

#[test]
fn a_query_may_follow_extended_requests_without_sync() {
    check(
        "> P
         > B
         > E
         > Q
         < 1 P1 request
         < 2 B2 request
         < C E3 statement request
         < C Q4 statement
         < Z Q4 1 request
         ? at rest",
    );
}

#[test]
fn sync_may_fail_and_is_ready_all_the_same() {
    check(
        "> E
         > S
         < C E1 statement request
         < E S2 fails
         < Z S2 request
         ? at rest",
    );
}

#[test]
fn a_portal_is_suspended_and_resumed() {
    check(
        "> E
         > E
         > S
         < D E1
         < s E1 request
         < D E2
         < C E2 statement request
         < Z S3 request",
    );
}

#[test]
fn a_function_is_answered_and_ready() {
    check(
        "> F
         > F
         < V F1
         < Z F1 request
         < E F2 fails
         < Z F2 request",
    );
    // A deferred constraint that fails at the end of its transaction.
    check(
        "> F
         < V F1
         < E F1 fails
         < Z F1 request",
    );
}

#[test]
fn copy_in_by_query() {
    check(
        "> Q
         < G Q1
         ? in copy
         > d
         > H drop
         > S
         > d
         > c
         ? not in copy
         > Q
         < C Q1 statement
         - S4
         < Z Q1 1 request
         < C Q7 statement
         < Z Q7 1 request
         ? at rest",
    );
}

#[test]
fn several_copies_in_one_query() {
    check(
        "> Q
         < G Q1
         > d
         > c
         < C Q1 statement
         < T Q1 1
         < C Q1 1 statement
         < G Q1 2
         ? in copy
         > c
         < C Q1 2 statement
         < Z Q1 3 request",
    );
}

#[test]
fn copy_in_that_fails_by_query_ignores_the_rest_of_its_data() {
    check(
        "> Q
         < G Q1
         > d
         < E Q1 fails
         ? not in copy
         > d drop
         > c drop
         < Z Q1 request
         > f drop
         ? at rest",
    );
    check(
        "> Q
         < G Q1
         > f
         < E Q1 fails
         < Z Q1 request
         ? at rest",
    );
}

#[test]
fn copy_is_not_complete_without_its_end() {
    check(
        "> Q
         < G Q1
         > d
         < C unexplained",
    );
    check(
        "> Q
         < G Q1
         > f
         < C unexplained",
    );
}

#[test]
fn copy_data_waits_for_copy_in_response() {
    check(
        "> Q
         ? awaits copy
         < T Q1
         ? awaits copy
         < C Q1 statement
         ? awaits copy
         < G Q1 1
         ? decided
         > d
         > c
         ? awaits copy
         < C Q1 1 statement
         ? awaits copy
         < Z Q1 2 request
         ? decided
         > d drop",
    );
    check(
        "> Q
         ? awaits copy
         < E Q1 fails
         ? decided
         > d drop",
    );
    check(
        "? decided
         > Q
         > E
         ? decided
         > d out of sequence",
    );
    check(
        "> Q
         > d out of sequence",
    );
    check(
        "> P
         > B
         > E
         > c out of sequence",
    );
    check(
        "> Q
         < G Q1
         > c
         > d out of sequence",
    );
}

#[test]
fn copy_data_outside_of_a_copy_is_never_sent() {
    // With an interrupt held, PostgreSQL answers CopyData with an ErrorResponse and a ReadyForQuery
    // of its own; tests/data/postgres/raw-timeout-15.txt shows it for messages that are sent.
    check(
        "> d drop
         > P
         > H
         > d drop
         < 1 P2 request
         > c drop
         > f drop",
    );
}

#[test]
fn commands_inside_a_copy_are_refused() {
    for word in ["Q", "P", "B", "Ds", "Dp", "E", "C", "F"] {
        check(&format!(
            "> Q
             < G Q1
             > {word} out of sequence"
        ));
        check(&format!(
            "> Q
             < W Q1
             > {word} out of sequence"
        ));
    }
    check(
        "> Q
         < W Q1
         > S out of sequence",
    );
    check(
        "> Q
         < G Q1
         > X
         < E Q1 fails
         < X fatal in Q1",
    );
}

#[test]
fn copy_in_extended_swallows_the_sync_behind_it() {
    check(
        "> P
         > B
         > E
         > S
         < 1 P1 request
         < 2 B2 request
         < G E3
         > d
         > c
         > S
         < C E3 statement request
         - S4
         < Z S7 request
         ? at rest",
    );
}

#[test]
fn copy_in_extended_that_failed_before_it_read_the_sync() {
    // As PostgreSQL does for COPY into a view: CopyInResponse, and the error before it reads.
    check(
        "> E
         > S
         < G E1
         > d
         > c
         > S
         < E E1 request fails
         ? doubtful
         ? busy
         < Z S2 request
         ? doubtful
         ? quiescent
         ? not at rest
         < Z S5 request
         ? certain
         ? at rest",
    );
}

#[test]
fn copy_in_extended_that_failed_after_it_read_the_sync() {
    check(
        "> E
         > S
         < G E1
         > d
         > c
         > S
         < E E1 request fails
         < Z S2 request
         > Q
         < T Q6
         - S5
         ? certain
         < C Q6 statement
         < Z Q6 1 request
         ? at rest",
    );
    check(
        "> E
         > S
         < G E1
         > d
         > c
         > S
         > P
         > S
         < E E1 request fails
         < Z S2 request
         < 1 P6 request
         - S5
         < Z S7 request
         ? at rest",
    );
}

#[test]
fn copy_in_by_query_with_a_sync_behind_it() {
    // Swallowed.
    check(
        "> Q
         > S
         < G Q1
         > c
         < C Q1 statement
         - S2
         < Z Q1 1 request
         ? at rest",
    );
    // Not read before the error, or read: both are settled by what comes next.
    check(
        "> Q
         > S
         < G Q1
         > d
         < E Q1 fails
         < Z Q1 request
         ? doubtful
         < Z S2 request
         ? at rest",
    );
    check(
        "> Q
         > S
         < G Q1
         > d
         < E Q1 fails
         < Z Q1 request
         > Q
         < C Q4 statement
         - S2
         < Z Q4 1 request
         ? at rest",
    );
}

#[test]
fn while_a_sync_is_doubtful_nothing_of_ours_may_be_mistaken_for_it() {
    let failed = "> Q
         > S
         < G Q1
         < E Q1 fails
         < Z Q1 request";
    check(&format!("{failed}\n> ~S ambiguous"));
    check(&format!("{failed}\n> !S ambiguous"));
    check(&format!(
        "{failed}
         > ~Q
         < Z S2 request
         < C ~Q3 statement
         < Z ~Q3 1 request"
    ));
    check(&format!(
        "{failed}
         > !Q
         < E !Q3 fails
         - S2
         < Z !Q3 request
         ? at rest"
    ));
    check(
        "> Q
         > ~S
         < G Q1
         < E ambiguous",
    );
}

#[test]
fn a_request_that_may_or_may_not_be_discarded_is_refused() {
    let failed = "> E
         > S
         < G E1
         > d
         < E E1 request fails";
    for word in ["Q", "P", "B", "Ds", "E", "C", "F"] {
        check(&format!("{failed}\n? discarding\n> {word} ambiguous"));
    }
    // Sync ends the discarding in both cases, and a ReadyForQuery shows which it was.
    check(&format!(
        "{failed}
         > S
         > Q
         < Z S2 request
         < T Q5
         - S4
         < C Q5 statement
         < Z Q5 1 request"
    ));
    check(&format!(
        "{failed}
         < Z S2 request
         > Q
         < C Q4 statement
         < Z Q4 1 request"
    ));
    check(
        "> E
         > S
         < G E1
         > c
         > P
         < E ambiguous",
    );
}

#[test]
fn a_certain_sync_is_not_skipped() {
    check(
        "> E
         > S
         < G E1
         > c
         > S
         > Q
         < E E1 request fails
         < T unexplained",
    );
}

#[test]
fn a_command_behind_a_copy_dooms_it_or_was_not_read() {
    // PostgreSQL 15: "unexpected message type 0x51 during COPY from stdin", then FATAL.
    check(
        "> Q
         > Q
         < G Q1
         < E Q1 fails
         < X fatal in Q1
         < Z ended
         > Q ended",
    );
    check(
        "> E
         > S
         > P
         > S
         < G E1
         < E ambiguous",
    );
    check(
        "> Q
         > S
         > Q
         < G Q1
         < E Q1 fails
         < Z Q1 request
         ? doubtful
         < T Q3
         - S2
         < C Q3 statement
         < Z Q3 1 request",
    );
    for word in ["d", "c", "f"] {
        check(&format!(
            "> Q
             > B
             < G Q1
             > {word} out of sequence"
        ));
    }
    check(
        "> Q
         > Q
         < G Q1
         < C unexplained",
    );
}

#[test]
fn copy_out_by_both_ways() {
    check(
        "> Q
         > E
         > S
         < H Q1
         < d Q1
         < c Q1
         < C Q1 statement
         < Z Q1 1 request
         < H E2
         < d E2
         < d E2
         < c E2
         < C E2 statement request
         < Z S3 request
         ? at rest",
    );
}

#[test]
fn rows_come_in_runs_behind_the_first_that_says_so() {
    check(
        "> Q
         > E
         > ~Q
         ? no rows
         < T Q1
         ? rows
         < D Q1
         ? rows
         < C Q1 statement
         ? no rows
         < H Q1 1
         ? data
         < c Q1 1
         ? no rows
         < C Q1 1 statement
         < Z Q1 2 request
         ? no rows
         < D E2
         ? rows
         < C E2 statement request
         < T ~Q3
         ? rows",
    );
    // The next message is not a row, since the server must refuse it.
    check(
        "> !Q
         ? no rows
         < E !Q1 fails
         ? no rows",
    );
}

#[test]
fn copy_both_ends_from_both_sides() {
    check(
        "> Q
         < W Q1
         < d Q1
         > d
         > f out of sequence",
    );
    check(
        "> Q
         < W Q1
         > d
         < d Q1
         > c
         < c Q1
         < C Q1 statement
         < Z Q1 1 request
         ? at rest",
    );
}

#[test]
fn flush_is_sent_only_where_it_flushes() {
    check(
        "> H drop
         > Q
         > H drop
         < C Q2 statement
         < Z Q2 1 request
         > P
         > H
         > H drop
         > S
         > H drop
         < 1 P4 request
         < Z S7 request
         ? at rest",
    );
    check(
        "> E
         < G E1
         > c
         > H
         < C E1 statement request
         > S
         < Z S4 request
         ? at rest",
    );
}

#[test]
fn flush_may_fail_for_an_interrupt_that_was_held() {
    check(
        "> P
         > H
         < 1 P1 request
         ? quiescent
         ? not at rest
         < Ei H2 request fails
         ? discarding
         > B drop
         - B3
         > S
         < Z S4 request
         ? at rest",
    );
    check(
        "> P
         > H
         > B
         > E
         > S
         < 1 P1 request
         < E B3 request fails
         - E4
         < Z S5 request
         ? at rest",
    );
    check(
        "> P
         > H
         > S
         < 1 P1 request
         < E S3 fails
         < Z S3 request
         ? at rest",
    );
}

#[test]
fn a_query_straight_behind_flush_must_not_fail_by_an_interrupt() {
    for word in ["Q", "F"] {
        check(&format!(
            "> P
             > H
             < 1 P1 request
             > {word}
             < Ei ambiguous"
        ));
        check(&format!(
            "> P
             > H
             < 1 P1 request
             > {word}
             < E {word}3 fails
             < Z {word}3 request
             ? at rest"
        ));
    }
    check(
        "> P
         > H
         < 1 P1 request
         > Q
         < T Q3
         < Ei Q3 fails
         < Z Q3 request",
    );
    check(
        "> P
         > H
         < 1 P1 request
         < E unexplained",
    );
}

#[test]
fn a_hidden_request_inside_a_sequence() {
    check(
        "> P
         > ~P
         > ~B
         > ~E
         > B
         > S
         < 1 P1 request
         < 1 ~P2 request
         < 2 ~B3 request
         < C ~E4 statement request
         < 2 B5 request
         < Z S6 request",
    );
    check(
        "> ~P
         > B
         > S
         < E ~P1 request fails
         - B2
         < Z S3 request",
    );
}

#[test]
fn a_probe_must_fail() {
    check(
        "> !Q
         < E !Q1 fails
         < Ze !Q1 request
         ? failed",
    );
    check(
        "> P
         > !P
         > B
         > S
         < 1 P1 request
         < E !P2 request fails
         - B3
         < Z S4 request",
    );
    for tag in ["T", "C", "I", "G", "H", "W"] {
        check(&format!("> !Q\n< {tag} probe accepted"));
    }
    check("> !P\n< 1 probe accepted");
}

#[test]
fn a_probe_that_is_discarded_is_given_back() {
    check(
        "> P
         > !P
         > S
         < E P1 request fails
         - !P2
         < Z S3 request",
    );
}

#[test]
fn a_fatal_error_is_not_the_probes() {
    check(
        "> !Q
         < X fatal in !Q1
         < Z ended",
    );
    check("< X fatal\n> S ended");
}

#[test]
fn terminate_lets_the_server_finish() {
    check(
        "> P
         > S
         > X
         > Q ended
         < E P1 request fails
         < Z S2 request
         < Z unexplained",
    );
}

#[test]
fn a_pipeline_stays_as_long_as_what_is_unanswered() {
    let mut pipeline = Pipeline::new(TransactionStatus::Idle);
    for tag in 0..1000_u32 {
        pipeline
            .handle_frontend(Request::Parse, Origin::Client, tag)
            .unwrap();
        pipeline
            .handle_frontend(Request::Flush, Origin::Client, tag)
            .unwrap();
        pipeline
            .handle_frontend(Request::Flush, Origin::Client, tag)
            .unwrap();
        pipeline.handle_backend(event("1")).unwrap();
        assert!(pipeline.len() <= 2);
    }
}
