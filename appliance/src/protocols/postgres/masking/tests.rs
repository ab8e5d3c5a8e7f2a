//! Answers of a target, message by message, some of which no PostgreSQL would give.

use std::sync::Arc;

use codecs::Limits;
use codecs::postgres::backend::{
    Column, Report, SqlState, encode_bind_complete, encode_command_complete, encode_data_row,
    encode_no_data, encode_ready_for_query, encode_row_description,
};
use codecs::postgres::frontend::{Format, Target};
use codecs::postgres::{BackendDecoder, Origin, Pipeline, Reply};
use policy::mask::{MaskedColumns, Outputs, Transform};

use super::*;
use crate::protocols::postgres::classify::{Classifier, Statement};

/// A masked session and its target.
struct Session {
    masking: Masking,
    pipeline: Pipeline<u64>,
    requests: u64,
}

impl Session {
    fn new() -> Self {
        Self {
            masking: *Masking::new(Rc::default(), Rc::default()),
            pipeline: Pipeline::new(TransactionStatus::Idle),
            requests: 0,
        }
    }

    fn request(&mut self, request: Request) -> u64 {
        self.requests += 1;
        let origin = Origin::Client;
        self.pipeline
            .handle_frontend(request, origin, self.requests)
            .unwrap();
        self.requests
    }

    /// A simple query, each statement of which has its plan.
    fn query(&mut self, text: &str, plans: &[Rc<MaskPlan>]) {
        let number = self.request(Request::Query);
        let of = Of::Query {
            statement: statement(text),
            plans: Some(plans.into()),
            executed: Vec::new(),
        };
        let withholds = plans.iter().any(|plan| plan.withholds_texts);
        self.masking.expect(number, of, withholds);
    }

    fn execute(&mut self, text: &str, portal: &Rc<Described>, plan: &Rc<MaskPlan>) {
        let number = self.request(Request::Execute);
        let of = Of::Execute {
            statement: statement(text),
            index: 0,
            portal: Rc::clone(portal),
            planned: Planned::Plan(Rc::clone(plan)),
        };
        self.masking.expect(number, of, plan.withholds_texts);
    }

    /// What the agent gets of what the target says.
    fn hear(&mut self, said: &[u8]) -> Result<Vec<u8>, Unmaskable> {
        let mut decoder = BackendDecoder::new(Limits::default());
        let (mut rest, mut seen) = (said, Vec::new());
        while let Some(piece) = decoder.decode(rest).unwrap() {
            let unread = rest;
            rest = &rest[piece.wire().len()..];
            let mut out = Vec::new();
            let reply = piece.event().map(|event| {
                let reply = self.pipeline.handle_backend(event).unwrap();
                if let codecs::postgres::backend::BackendEvent::ReadyForQuery(status) = event {
                    self.masking.ready(status);
                }
                reply
            });
            let fate = match reply {
                Some(Reply::Answer(answer)) => {
                    let (masking, statement) = (&mut self.masking, answer.statement);
                    masking.answer(&piece, unread, &answer, statement, &mut out)?
                }
                Some(_) | None => Seen::AsItIs,
            };
            self.masking.taken(piece.wire().len());
            match fate {
                Seen::AsItIs => seen.extend_from_slice(piece.wire()),
                Seen::Rewritten => seen.extend_from_slice(&out),
            }
        }
        Ok(seen)
    }
}

fn statement(text: &str) -> Rc<Statement> {
    Classifier::new().classify(text)
}

fn plan(outputs: Outputs) -> Rc<MaskPlan> {
    Rc::new(MaskPlan {
        outputs,
        withholds_texts: false,
        columns: Arc::new(MaskedColumns::default()),
    })
}

fn each(masks: &[Option<Transform>]) -> Rc<MaskPlan> {
    plan(Outputs::Each(masks.to_vec()))
}

fn columns(types: &[u32]) -> Vec<u8> {
    let columns: Vec<Column<'_>> = types
        .iter()
        .map(|oid| Column {
            name: b"c",
            table: 0,
            attribute: 0,
            type_oid: *oid,
            type_size: -1,
            type_modifier: -1,
            format: Format::Text,
        })
        .collect();
    let mut out = Vec::new();
    encode_row_description(&mut out, &columns).unwrap();
    out
}

fn row(values: &[&str]) -> Vec<u8> {
    let values: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
    let mut out = Vec::new();
    encode_data_row(&mut out, &values).unwrap();
    out
}

fn complete() -> Vec<u8> {
    let mut out = Vec::new();
    encode_command_complete(&mut out, b"SELECT 1").unwrap();
    out
}

fn ready(status: TransactionStatus) -> Vec<u8> {
    let mut out = Vec::new();
    encode_ready_for_query(&mut out, status).unwrap();
    out
}

fn error() -> Vec<u8> {
    let mut out = Vec::new();
    Report::error(
        SqlState::new(b"22P02"),
        "invalid input: \"planted-in-message\"",
    )
    .detail("planted-in-detail")
    .column("card")
    .encode_error(&mut out)
    .unwrap();
    out
}

const TEXT: u32 = 25;
const REDACT: Option<Transform> = Some(Transform::Redact);

#[test]
fn a_masked_column_is_replaced_and_the_others_stay() {
    let mut session = Session::new();
    session.query("select a, b, c", &[each(&[None, REDACT, None])]);
    let said = [columns(&[TEXT; 3]), row(&["one", "two", "three"])].concat();
    let expected = [columns(&[TEXT; 3]), row(&["one", "[redacted]", "three"])].concat();
    assert_eq!(session.hear(&said).unwrap(), expected);
}

#[test]
fn a_row_that_nothing_is_done_to_passes_byte_for_byte() {
    let mut session = Session::new();
    session.query("select a", &[each(&[None])]);
    let said = [columns(&[TEXT]), row(&["one"]), complete()].concat();
    assert_eq!(session.hear(&said).unwrap(), said);
}

#[test]
fn each_statement_of_a_batch_has_its_own_plan() {
    let mut session = Session::new();
    session.query("select a; select b", &[each(&[None]), each(&[REDACT])]);
    let first = [columns(&[TEXT]), row(&["one"]), complete()].concat();
    assert_eq!(session.hear(&first).unwrap(), first);
    let second = [columns(&[TEXT]), row(&["one"])].concat();
    let expected = [columns(&[TEXT]), row(&["[redacted]"])].concat();
    assert_eq!(session.hear(&second).unwrap(), expected);
}

#[test]
fn an_answer_of_another_number_of_columns_is_redacted_whole() {
    let mut session = Session::new();
    session.query("select a, b", &[each(&[None, None])]);
    let said = [columns(&[TEXT; 3]), row(&["one", "two", "three"])].concat();
    let expected = [
        columns(&[TEXT; 3]),
        row(&["[redacted]", "[redacted]", "[redacted]"]),
    ]
    .concat();
    assert_eq!(session.hear(&said).unwrap(), expected);
}

#[test]
fn a_second_result_of_one_statement_is_redacted_whole() {
    let mut session = Session::new();
    session.query("insert into t values (1) returning a", &[each(&[None])]);
    let said = [columns(&[TEXT]), row(&["one"])].concat();
    assert_eq!(session.hear(&said).unwrap(), said);
    let expected = [columns(&[TEXT]), row(&["[redacted]"])].concat();
    assert_eq!(session.hear(&said).unwrap(), expected);
}

#[test]
fn a_row_of_another_number_of_values_ends_the_session() {
    for values in [&["one"][..], &["one", "two", "three"]] {
        let mut session = Session::new();
        session.query("select a, b", &[each(&[None, REDACT])]);
        let said = [columns(&[TEXT; 2]), row(values)].concat();
        let heard = session.hear(&said);
        assert!(matches!(heard, Err(Unmaskable::Miscounted)), "{heard:?}");
    }
}

#[test]
fn a_row_whose_lengths_do_not_fill_it_ends_the_session() {
    let good = row(&["one", "two"]);
    // The second length: past the end, short of it, and negative.
    for length in [4_i32, 2, -2] {
        let mut bad = good.clone();
        bad[14..18].copy_from_slice(&length.to_be_bytes());
        let mut session = Session::new();
        session.query("select a, b", &[each(&[REDACT, None])]);
        let heard = session.hear(&[columns(&[TEXT; 2]), bad].concat());
        assert!(matches!(heard, Err(Unmaskable::Malformed(_))), "{heard:?}");
    }
}

#[test]
fn what_a_cursor_brings_is_masked_as_its_query() {
    let mut session = Session::new();
    let declare = "declare c cursor for select b from t";
    session.query(declare, &[each(&[REDACT])]);
    let done = [complete(), ready(TransactionStatus::InTransaction)].concat();
    session.hear(&done).unwrap();
    let rows = [columns(&[TEXT]), row(&["one"])].concat();
    let masked = [columns(&[TEXT]), row(&["[redacted]"])].concat();

    session.query("fetch all from c", &[each(&[])]);
    assert_eq!(session.hear(&rows).unwrap(), masked);
    session.hear(&done).unwrap();
    // Of this one nobody knows anything.
    session.query("fetch all from d", &[each(&[])]);
    assert_eq!(session.hear(&rows).unwrap(), masked);
    session.hear(&done).unwrap();

    session.query(
        "close c; declare c cursor for select a from t",
        &[each(&[]), each(&[None])],
    );
    session.hear(&[complete(), done.clone()].concat()).unwrap();
    session.query("fetch all from c", &[each(&[])]);
    assert_eq!(session.hear(&rows).unwrap(), rows);
    session.hear(&done).unwrap();

    // A portal takes the name.
    let number = session.request(Request::Bind);
    session
        .masking
        .expect(number, Of::Bind(b"c"[..].into()), false);
    let mut bound = Vec::new();
    encode_bind_complete(&mut bound).unwrap();
    session.hear(&bound).unwrap();
    session.query("fetch all from c", &[each(&[])]);
    assert_eq!(session.hear(&rows).unwrap(), masked);
}

#[test]
fn a_portal_is_masked_by_the_columns_that_were_described() {
    let prepared = Described::statement(true);
    let portal = Described::portal(&prepared, None);
    assert!(!portal.is_known(1));
    let mut session = Session::new();
    let number = session.request(Request::Describe(Target::Portal));
    let of = Of::Learning(Rc::clone(&portal));
    session.masking.expect(number, of, false);
    assert!(session.masking.learns_by(number));
    session.execute("select a, b", &portal, &each(&[None, REDACT]));
    session.hear(&columns(&[TEXT; 2])).unwrap();
    assert!(portal.is_known(2));
    let heard = session.hear(&row(&["one", "two"])).unwrap();
    assert_eq!(heard, row(&["one", "[redacted]"]));
}

#[test]
fn rows_of_a_portal_that_nobody_described_end_the_session() {
    let portal = Described::portal(&Described::statement(true), None);
    let mut session = Session::new();
    session.execute("select a", &portal, &each(&[None]));
    let heard = session.hear(&row(&["one"]));
    assert!(matches!(heard, Err(Unmaskable::Undescribed)), "{heard:?}");
}

#[test]
fn a_portal_whose_meaning_changes_while_it_is_read_is_redacted() {
    let portal = Described::portal(&Described::statement(false), None);
    let mut session = Session::new();
    let number = session.request(Request::Describe(Target::Portal));
    let of = Of::Learning(Rc::clone(&portal));
    session.masking.expect(number, of, false);
    session.hear(&columns(&[TEXT])).unwrap();
    for expected in ["one", "[redacted]"] {
        session.execute("execute p", &portal, &each(&[None]));
        let heard = session.hear(&row(&["one"])).unwrap();
        assert_eq!(heard, row(&[expected]));
        session.hear(&complete()).unwrap();
    }
}

#[test]
fn a_statement_without_rows_is_known_as_well() {
    let prepared = Described::statement(true);
    let mut session = Session::new();
    let number = session.request(Request::Describe(Target::Portal));
    let of = Of::Describe(Rc::clone(&prepared));
    session.masking.expect(number, of, false);
    let mut said = Vec::new();
    encode_no_data(&mut said).unwrap();
    session.hear(&said).unwrap();
    assert!(prepared.is_known(7));
}

#[test]
fn errors_say_nothing_until_the_transaction_ends() {
    let quoting = Rc::new(MaskPlan {
        outputs: Outputs::Each(Vec::new()),
        withholds_texts: true,
        columns: Arc::new(MaskedColumns::default()),
    });
    let shown = |said: &[u8]| String::from_utf8_lossy(said).contains("planted");
    let mut session = Session::new();
    session.query("select 1", &[each(&[])]);
    let failed = [error(), ready(TransactionStatus::InTransaction)].concat();
    assert!(shown(&session.hear(&failed).unwrap()));

    session.query("update t set b = b", &[quoting]);
    let heard = session.hear(&failed).unwrap();
    assert!(!shown(&heard));
    let heard = String::from_utf8_lossy(&heard).into_owned();
    assert!(heard.contains("22P02") && heard.contains("card"), "{heard}");

    session.query("commit", &[each(&[])]);
    let failed = [error(), ready(TransactionStatus::Idle)].concat();
    assert!(!shown(&session.hear(&failed).unwrap()));
    session.query("select 1", &[each(&[])]);
    assert!(shown(&session.hear(&failed).unwrap()));
}

#[test]
fn a_column_of_a_table_that_nobody_knows_is_redacted() {
    let mut session = Session::new();
    session.query("select a, b", &[each(&[None, None])]);
    let mut description = columns(&[TEXT; 2]);
    // The table of the first column, behind its name.
    description[9..13].copy_from_slice(&70_000_u32.to_be_bytes());
    let said = [description.clone(), row(&["one", "two"])].concat();
    let expected = [description, row(&["[redacted]", "two"])].concat();
    assert_eq!(session.hear(&said).unwrap(), expected);
    assert!(session.masking.takes_missed_relations());
    assert!(!session.masking.takes_missed_relations());
}

#[test]
fn values_at_either_end_of_a_field_are_found_whatever_stands_around_it() {
    let mut masks = SessionMasks::default();
    let wanted = policy::mask::detect::Wanted {
        detect: &[
            "payment-card",
            "us-ssn",
            "iban",
            "email",
            "phone",
            "ipv4",
            "secret",
        ],
        ..policy::mask::detect::Wanted::default()
    };
    masks.detectors = policy::mask::detect::DetectorSet::compile(&[wanted]).unwrap();
    let masks = Rc::new(masks);
    let values = [
        "4111111111111111",
        "4012-8888-8888-1881",
        "536-90-4399",
        "DE89 3704 0044 0532 0130 00",
        "ada@example.com",
        "+14155550132",
        "192.168.17.4",
        "AKIAIOSFODNN7EXAMPLE",
    ];
    for value in values {
        // Lengths of which the last byte is a digit or a letter too.
        for padding in [0, 20, 33, 40, 60, 80] {
            let padded = format!("{} {value}", "-".repeat(padding));
            let behind = format!("{value} {}", "-".repeat(padding));
            let mut session = Session::new();
            session.masking = *Masking::new(Rc::clone(&masks), Rc::default());
            session.query("select a", &[each(&[None])]);
            let said = [
                columns(&[TEXT]),
                row(&["clean"]),
                row(&[&padded]),
                row(&[&behind]),
                complete(),
                ready(TransactionStatus::Idle),
            ];
            let heard = session.hear(&said.concat()).unwrap();
            let heard = String::from_utf8_lossy(&heard).into_owned();
            assert!(!heard.contains(value), "{value} after {padding}: {heard:?}");
        }
    }
}
