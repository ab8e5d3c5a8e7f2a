//! Dialogues with a model of PostgreSQL: whatever is sent and however the two directions interleave,
//! the pipeline knows which answer belongs to which request.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "what a message is not need not be named"
)]

pub(crate) mod server;

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};

use codecs::postgres::backend::BackendEvent;
use codecs::postgres::frontend::Target;
use codecs::postgres::pipeline::Fate;
use codecs::postgres::{Origin, Pipeline, Reply, Request, SequenceError, TransactionStatus};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use server::{Message, Said, Server, Sql};

/// A client, a pipeline and a server.
///
/// What the server says depends on the order of what it reads and on nothing else, so it reads at
/// once; its answers arrive when the test says so.
#[derive(Debug)]
struct Dialogue {
    pipeline: Pipeline<usize>,
    server: Server,
    to_client: VecDeque<Said>,
    messages: Vec<(Message, Origin)>,
    /// What the server skipped or swallowed and the pipeline has not given back yet.
    discarded: BTreeSet<usize>,
    /// Where the pipeline ended it.
    ended: Option<SequenceError>,
    interrupts: bool,
}

impl Dialogue {
    fn new() -> Self {
        Self {
            pipeline: Pipeline::new(TransactionStatus::Idle),
            server: Server::new(),
            to_client: VecDeque::new(),
            messages: Vec::new(),
            discarded: BTreeSet::new(),
            ended: None,
            interrupts: false,
        }
    }

    /// The client says something. It waits where it must know whether a COPY has begun.
    fn send(&mut self, message: &Message, origin: Origin, is_interrupted: bool) {
        if message.is_copy() && self.pipeline.awaits_copy() {
            self.settle();
            assert!(
                self.ended.is_some() || !self.pipeline.awaits_copy(),
                "it would wait for good: {self:#?}"
            );
        }
        if self.ended.is_some() {
            return;
        }
        let id = self.messages.len();
        match self.pipeline.handle_frontend(message.request(), origin, id) {
            Ok(fate) => {
                self.messages.push((message.clone(), origin));
                match fate {
                    Fate::Forward => self.serve(id, message, is_interrupted),
                    Fate::Drop => self.drop(id, message),
                }
            }
            Err(error) => self.refused(message, error),
        }
        self.take_discarded();
    }

    /// The pipeline may end the connection only where PostgreSQL would, or where nobody can know.
    fn refused(&mut self, message: &Message, error: SequenceError) {
        let request = message.request();
        match error {
            SequenceError::OutOfSequence { got, .. } => {
                assert_eq!(got, request);
                let began_copy = self.messages.iter().any(|(message, _)| match message {
                    Message::Query(list) => list.iter().any(|sql| begins_copy(*sql)),
                    Message::Execute(..) => true,
                    _ => false,
                });
                assert!(began_copy && request != Request::Sync && request != Request::Flush);
            }
            SequenceError::Ambiguous { .. } => assert!(self.is_uncertain(), "{self:#?}"),
            SequenceError::Unexplained { .. }
            | SequenceError::ProbeAccepted { .. }
            | SequenceError::Ended => assert!(self.server.is_dead(), "{error:?} in {self:#?}"),
        }
        self.ended = Some(error);
    }

    /// Whether something was sent whose fate depends on when the server did what.
    fn is_uncertain(&self) -> bool {
        let mut copied = false;
        self.interrupts
            || self.messages.iter().any(|(message, _)| {
                let syncs_behind_copy = copied && *message == Message::Sync;
                copied |= matches!(message, Message::Execute(..) | Message::Query(_));
                syncs_behind_copy
            })
    }

    /// The server reads a message.
    fn serve(&mut self, id: usize, message: &Message, is_interrupted: bool) {
        let interrupted = is_interrupted
            .then(|| self.server.handle_interrupted(id, message))
            .flatten();
        self.interrupts |= interrupted.is_some();
        let said = interrupted.unwrap_or_else(|| self.server.handle(id, message));
        self.to_client.extend(said);
        self.discarded.extend(self.server.take_discarded());
    }

    /// A message is not sent, since the server would ignore it.
    fn drop(&mut self, id: usize, message: &Message) {
        assert!(
            self.server.would_ignore(message),
            "{message:?} was heeded: {self:#?}"
        );
        if message.has_reply() {
            self.discarded.insert(id);
        }
    }

    /// The pipeline sees one message of the server.
    fn deliver(&mut self) {
        let Some(said) = self.to_client.pop_front() else {
            return;
        };
        if matches!(
            self.ended,
            Some(SequenceError::Ambiguous { .. } | SequenceError::Ended)
        ) {
            return;
        }
        let was_doubtful = self.pipeline.is_doubtful();
        let reply = match self.pipeline.handle_backend(said.event) {
            Ok(reply) => reply,
            Err(error @ SequenceError::Ambiguous { .. }) => {
                assert!(self.is_uncertain(), "{said:?}: {self:#?}");
                self.ended = Some(error);
                return;
            }
            Err(error) => panic!("{said:?}: {error}: {self:#?}"),
        };
        match reply {
            Reply::Answer(answer) => {
                let (message, origin) = &self.messages[answer.tag];
                assert_eq!(
                    (message.request(), *origin),
                    (answer.request, answer.origin)
                );
                if self.may_differ(&said, answer.tag, was_doubtful) {
                    // The same to the client, and the rest is settled by what comes next.
                    self.discarded.remove(&answer.tag);
                    self.discarded.insert(said.answers);
                    self.discarded.retain(|id| self.messages[*id].0.has_reply());
                } else {
                    let paired = Said {
                        event: said.event,
                        answers: answer.tag,
                        statement: answer.statement,
                        completes_statement: answer.completes_statement,
                        completes_request: answer.completes_request,
                        fails: answer.fails,
                    };
                    assert_eq!(paired, said, "{self:#?}");
                }
            }
            Reply::Fatal(_) => {
                assert_eq!(said.event, BackendEvent::FatalErrorResponse);
                self.ended = Some(SequenceError::Ended);
            }
            Reply::Asynchronous => panic!("{said:?} answers something"),
        }
        if let BackendEvent::ReadyForQuery(status) = said.event {
            assert_eq!(self.pipeline.transaction_status(), status);
        }
        self.take_discarded();
    }

    /// Whether the pipeline may name another request than the model does.
    fn may_differ(&self, said: &Said, tag: usize, was_doubtful: bool) -> bool {
        let (named, _) = &self.messages[tag];
        let (answered, _) = &self.messages[said.answers];
        // One of several Syncs of the client, of which the COPY swallowed the first.
        let syncs = was_doubtful
            && *named == Message::Sync
            && *answered == Message::Sync
            && tag < said.answers;
        // An interrupt is raised on a Flush or on what is behind it: all the same.
        let flush = *answered == Message::Flush
            && said.event == BackendEvent::InterruptErrorResponse
            && tag > said.answers;
        syncs || flush
    }

    fn take_discarded(&mut self) {
        for given_back in self.pipeline.drain_discarded() {
            if !self.discarded.remove(&given_back.tag) {
                // The server has yet to read it, or to be seen not to answer it.
                self.discarded.insert(given_back.tag);
            }
        }
    }

    fn settle(&mut self) {
        while !self.to_client.is_empty() {
            self.deliver();
        }
    }

    /// The client ends what is open, in good order; then nothing may be left.
    fn finish(mut self) -> Option<SequenceError> {
        self.settle();
        if self.ended.is_none() && self.pipeline.in_copy_in() {
            self.send(&Message::CopyDone, Origin::Client, false);
        }
        for message in [Message::Sync, Message::Query(vec![Sql::Select])] {
            self.settle();
            self.send(&message, Origin::Client, false);
        }
        self.settle();
        if self.ended.is_none() {
            assert!(
                self.pipeline.is_at_rest() && self.pipeline.is_empty(),
                "{self:#?}"
            );
            assert_eq!(self.pipeline.transaction_status(), self.server.status());
            // What either side alone calls discarded.
            assert_eq!(self.discarded, BTreeSet::new(), "{self:#?}");
        }
        self.ended
    }
}

fn begins_copy(sql: Sql) -> bool {
    matches!(sql, Sql::CopyIn | Sql::CopyInEarly | Sql::CopyInLate)
}

fn sql() -> impl Strategy<Value = Sql> {
    prop_oneof![
        2 => prop::sample::select(Sql::ALL.to_vec()),
        1 => prop::sample::select(vec![Sql::CopyIn, Sql::CopyInEarly, Sql::CopyInLate]),
        1 => Just(Sql::Select),
    ]
}

fn statement() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", "s"])
}

fn portal() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", "p"])
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        prop::collection::vec(sql(), 1..4).prop_map(Message::Query),
        (statement(), sql()).prop_map(|(name, sql)| Message::Parse(name, sql)),
        (portal(), statement()).prop_map(|(portal, statement)| Message::Bind(portal, statement)),
        statement().prop_map(|name| Message::Describe(Target::Statement, name)),
        portal().prop_map(|name| Message::Describe(Target::Portal, name)),
        (portal(), 0..5_u32).prop_map(|(portal, limit)| Message::Execute(portal, limit)),
        statement().prop_map(|name| Message::Close(Target::Statement, name)),
        portal().prop_map(|name| Message::Close(Target::Portal, name)),
        Just(Message::Sync),
        Just(Message::Flush),
        any::<bool>().prop_map(|exists| Message::FunctionCall { exists }),
        any::<bool>().prop_map(|good| Message::CopyData { good }),
        Just(Message::CopyDone),
        Just(Message::CopyFail),
    ]
}

/// What clients say in one breath.
fn phrase() -> impl Strategy<Value = Vec<Message>> {
    let copies = || {
        let data = prop::collection::vec(prop::bool::weighted(0.8), 0..3);
        (data, prop::bool::weighted(0.8)).prop_map(|(data, done)| {
            let end = if done {
                Message::CopyDone
            } else {
                Message::CopyFail
            };
            let data = data.into_iter().map(|good| Message::CopyData { good });
            data.chain([end]).collect::<Vec<_>>()
        })
    };
    let extended = || {
        (sql(), any::<bool>(), 0..4_u32).prop_map(|(sql, describes, limit)| {
            let mut said = vec![Message::Parse("", sql), Message::Bind("", "")];
            if describes {
                said.push(Message::Describe(Target::Portal, ""));
            }
            said.push(Message::Execute("", limit));
            said
        })
    };
    let end = prop::sample::select(vec![vec![Message::Sync], vec![Message::Flush], vec![]]);
    prop_oneof![
        4 => any_message().prop_map(|message| vec![message]),
        2 => (prop::collection::vec(sql(), 1..3), copies()).prop_map(|(list, data)| {
            [vec![Message::Query(list)], data].concat()
        }),
        4 => (extended(), copies(), end, any::<bool>()).prop_map(|(said, data, end, copies)| {
            [said, if copies { data } else { vec![] }, end].concat()
        }),
        1 => copies(),
    ]
}

/// A message, who it is from, and how much of what is under way arrives behind it.
#[derive(Clone, Debug)]
struct Act {
    message: Message,
    origin: Origin,
    is_interrupted: bool,
    delivered: usize,
}

/// What arrives behind a message: mostly everything or nothing.
fn arriving() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 2 => 1..4_usize, 2 => Just(usize::MAX)]
}

fn acts(interrupts: f64) -> impl Strategy<Value = Vec<Act>> {
    let act = move |message: Message| {
        let turn = (0..8_u8, prop::bool::weighted(interrupts), arriving());
        turn.prop_map(move |(origin, is_interrupted, delivered)| Act {
            origin: origin_of(&message, origin),
            message: message.clone(),
            is_interrupted,
            delivered,
        })
    };
    prop::collection::vec(phrase(), 1..8)
        .prop_flat_map(move |phrases| phrases.concat().into_iter().map(act).collect::<Vec<_>>())
}

/// A probe is what the server refuses; what the proxy asks for itself is a query.
fn origin_of(message: &Message, choice: u8) -> Origin {
    match message {
        Message::Parse(_, Sql::SyntaxError) if choice < 4 => Origin::Refused,
        Message::Query(list) if list.contains(&Sql::SyntaxError) && choice < 4 => Origin::Refused,
        Message::Query(list) if *list == [Sql::Select] && choice < 4 => Origin::Hidden,
        _ => Origin::Client,
    }
}

fn hold(acts: &[Act]) -> Option<SequenceError> {
    let mut dialogue = Dialogue::new();
    for act in acts {
        dialogue.send(&act.message, act.origin, act.is_interrupted);
        for _ in 0..act.delivered.min(dialogue.to_client.len()) {
            dialogue.deliver();
        }
    }
    dialogue.finish()
}

/// Cases of each property; more by `PROPTEST_CASES`.
fn configuration() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: default.cases.max(20_000),
        max_shrink_iters: 20_000,
        ..default
    }
}

/// Holds many dialogues; most of them must be held to their end.
fn hold_many(interrupts: f64) {
    let whole = Cell::new(0);
    let configuration = configuration();
    let cases = configuration.cases;
    let held = TestRunner::new(configuration).run(&acts(interrupts), |acts| {
        if hold(&acts).is_none() {
            whole.set(whole.get() + 1);
        }
        Ok(())
    });
    held.unwrap_or_else(|failure| panic!("{failure}"));
    let whole = whole.get();
    assert!(
        whole > cases / 2,
        "{whole} of {cases} dialogues came to their end"
    );
}

#[test]
fn answers_are_paired_with_their_requests() {
    hold_many(0.0);
}

#[test]
fn answers_are_paired_with_their_requests_under_interrupts() {
    hold_many(0.1);
}

/// Every way in which the two directions of a short dialogue can interleave.
fn hold_every_way(script: &[Message]) -> usize {
    // How many answers arrive behind each message, as an odometer.
    let mut arriving = vec![0; script.len()];
    let mut ways = 0;
    loop {
        let mut dialogue = Dialogue::new();
        let mut limits = Vec::new();
        for (message, count) in script.iter().zip(&arriving) {
            dialogue.send(message, Origin::Client, false);
            limits.push(dialogue.to_client.len());
            for _ in 0..*count {
                dialogue.deliver();
            }
        }
        dialogue.finish();
        ways += 1;
        let Some(last) = (0..script.len())
            .rev()
            .find(|at| arriving[*at] < limits[*at])
        else {
            return ways;
        };
        arriving[last] += 1;
        arriving[last + 1..].fill(0);
    }
}

#[test]
fn the_end_of_a_copy_that_failed_before_a_command_is_paired() {
    for sql in [Sql::CopyIn, Sql::CopyInEarly, Sql::CopyInLate] {
        let script = [
            Message::Query(vec![sql]),
            Message::Bind("", ""),
            Message::Flush,
            Message::CopyDone,
        ];
        assert!(hold_every_way(&script) > 10);
    }
}

#[test]
fn a_copy_that_fails_behind_a_sync_it_read_is_paired() {
    for sql in [Sql::CopyIn, Sql::CopyInEarly, Sql::CopyInLate] {
        let script = [
            Message::Parse("", sql),
            Message::Bind("", ""),
            Message::Execute("", 0),
            Message::Sync,
            Message::CopyDone,
            Message::Flush,
            Message::Sync,
            Message::Query(vec![Sql::Select]),
        ];
        assert!(hold_every_way(&script) > 10);
    }
}

#[test]
fn a_sync_behind_a_copy_that_has_failed_is_answered() {
    let script = [
        Message::Parse("", Sql::CopyInEarly),
        Message::Bind("", ""),
        Message::Execute("", 0),
        Message::Sync,
    ];
    assert!(hold_every_way(&script) > 10);
}

#[test]
fn an_interrupt_of_a_sync_behind_the_one_that_a_failed_copy_may_have_swallowed() {
    let act = |message: Message, is_interrupted: bool| Act {
        message,
        origin: Origin::Client,
        is_interrupted,
        delivered: 0,
    };
    hold(&[
        act(Message::Parse("", Sql::CopyInEarly), false),
        act(Message::Bind("", ""), false),
        act(Message::Describe(Target::Portal, ""), false),
        act(Message::Execute("", 2), false),
        act(Message::Sync, false),
        act(Message::Sync, true),
        act(Message::CopyData { good: true }, false),
        act(Message::CopyDone, false),
    ]);
}
