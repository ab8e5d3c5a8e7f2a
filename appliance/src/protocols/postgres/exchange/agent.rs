//! The agent's messages: classify, judge, record, and only then forward.

use std::ops::Range;
use std::rc::Rc;

use codecs::postgres::frontend::{
    self, Announced, Bind, Close, Describe, Execute, Frontend, FrontendPiece, FrontendTag,
    FunctionCall, Head, Parse, Target,
};
use codecs::postgres::pipeline::Fate;
use codecs::postgres::{DecodeError, Origin, Request, TransactionStatus};
use policy::sql::{NamedStatementEffect, StatementProfile};
use policy::{Decision, HeldRule, Operation};
use runtime::mapped::Position;

use super::aside::{Aside, READ_ON_SHARD_MAX};
use super::held::{Clearance, Next, Purpose, judged_refused};
use super::unit::{self, Source};
use super::{
    Exchange, Expected, Fault, LongMessage, NAMES_MAX, Named, Note, NoteKind, PIPELINE_MAX, PartOf,
    Path, Pause, Recording, Sides, Taken,
};
use crate::protocols::postgres::classify::{Judged, Statement, leaves_traces, session_context};
use crate::protocols::postgres::masking::Stretch;
use crate::protocols::postgres::names::{Change, Meaning, NAME_BYTES_MAX, Name, Step};
use crate::protocols::postgres::refuse::{self, HeldRefusal, Refused};
use crate::protocols::postgres::rewrite;
use crate::recorder::{CommandKind, NoRoom, Note as DecisionNote, Recorded};
use crate::relay::link::Outbound;

/// How deep an EXECUTE may run a prepared EXECUTE. Legitimate use is one.
pub(super) const EXECUTE_DEPTH_MAX: usize = 4;

/// Capacity above which the buffer for a rewritten text is given back to the allocator.
///
/// Bytes. One long text must not leave its buffer behind for the rest of an idle session.
pub(super) const SCRATCH_KEPT: usize = 1024;

/// What became of one message.
enum Outcome {
    Taken,
    /// Not taken: nothing was changed, show it again when this is over.
    Wait(Pause),
    /// The same, for the journal.
    NoRoom(NoRoom),
    /// The same, for people; or for the rest of what they are asked about.
    Held,
}

/// A message as it is recorded, and refused if it comes to that.
struct Message<'m> {
    kind: CommandKind,
    /// Empty for a message that is not held.
    wire: &'m [u8],
    /// Bytes of a message that is not held.
    announced: Option<usize>,
    /// Where passwords stand in `wire`.
    cuts: Vec<Range<usize>>,
    /// Failing, it takes the unnamed statement with it.
    drops_unnamed: bool,
}

impl<'m> Message<'m> {
    fn new(kind: CommandKind, wire: &'m [u8]) -> Self {
        Self {
            kind,
            wire,
            announced: None,
            cuts: Vec::new(),
            drops_unnamed: false,
        }
    }

    fn announced(kind: CommandKind, announced: &Announced<'_>) -> Self {
        Self {
            announced: Some(announced.wire_bytes),
            ..Self::new(kind, &[])
        }
    }
}

/// What stands in for a refused message.
#[derive(Clone, Copy)]
enum Probe {
    Simple,
    Extended,
}

impl Exchange {
    /// Takes as many whole messages of `bytes` as can go now.
    pub(crate) fn take_from_agent(
        &mut self,
        bytes: &[u8],
        sides: &mut Sides<'_, impl Outbound, impl Outbound>,
    ) -> Result<Taken, Fault> {
        let mut taken = 0;
        loop {
            if self.recording == Recording::Target {
                return Ok(Taken {
                    bytes: taken,
                    pause: Some(Pause::OtherSide),
                });
            }
            let rest = bytes.get(taken..).unwrap_or_default();
            if self.arrival.is_awaited && !self.arrival.is_complete(rest) {
                return Ok(Taken {
                    bytes: taken,
                    pause: None,
                });
            }
            if self.pipeline.len() >= PIPELINE_MAX {
                return Ok(Taken {
                    bytes: taken,
                    pause: Some(Pause::ShorterPipeline),
                });
            }
            if let Some(stretch) = self.agent_fragment {
                let length = stretch.bytes;
                let bytes = rest.get(..length).unwrap_or_default();
                match self.record_part(bytes, stretch) {
                    Ok(position) => self.last_recorded = Some(position),
                    Err(no_room) => return Ok(self.pause_agent(taken, no_room)),
                }
                if self.long.fate == Fate::Forward {
                    sides.target.append(bytes);
                }
                self.agent_fragment = None;
                taken += length;
                continue;
            }
            // Some clients send a COPY's data before they know that it is wanted.
            if begins_copy_message(rest) && self.pipeline.awaits_copy() {
                return Ok(Taken {
                    bytes: taken,
                    pause: Some(Pause::CopyAnswer),
                });
            }
            let Some(piece) = self.frontend.decode(rest).map_err(Fault::Agent)? else {
                return Ok(Taken {
                    bytes: taken,
                    pause: None,
                });
            };
            let outcome = match &piece {
                FrontendPiece::Message(decoded) => {
                    self.agent_message(&decoded.message, decoded.wire, sides.target)?
                }
                FrontendPiece::Announced(announced) => {
                    let outcome = self.announced(announced, sides.target)?;
                    if matches!(outcome, Outcome::Taken) {
                        self.frontend.take_announced();
                    }
                    outcome
                }
                FrontendPiece::Fragment(fragment) => {
                    if fragment.first && fragment.tag == FrontendTag::CopyData {
                        let fate = self.expect(Request::CopyData, Origin::Client)?.fate;
                        let part_of = PartOf::CopyData;
                        self.long = LongMessage { part_of, fate };
                    }
                    // The decoder has moved on: from here on the fragment is kept until recorded.
                    self.agent_fragment = Some(Stretch {
                        bytes: fragment.wire.len(),
                        is_headed: fragment.first,
                        is_last: fragment.last,
                    });
                    continue;
                }
            };
            if self.pipeline.has_discarded() {
                self.dismiss_discarded();
            }
            match outcome {
                Outcome::Taken => {
                    taken += piece.wire().len();
                    self.unit_taken(piece.wire().len());
                    self.aside = None;
                    self.budgets.message_taken();
                }
                Outcome::NoRoom(no_room) => return Ok(self.pause_agent(taken, no_room)),
                Outcome::Wait(pause) => {
                    return Ok(Taken {
                        bytes: taken,
                        pause: Some(pause),
                    });
                }
                Outcome::Held => {
                    let pause = match self.hold(rest, sides.target)? {
                        Next::Again => continue,
                        Next::MoreBytes => None,
                        Next::Wait(pause) => Some(pause),
                        Next::NoRoom(no_room) => return Ok(self.pause_agent(taken, no_room)),
                    };
                    return Ok(Taken {
                        bytes: taken,
                        pause,
                    });
                }
            }
        }
    }

    /// Until the journal has room, the other direction must not record: this message has begun to be.
    fn pause_agent(&mut self, taken: usize, no_room: NoRoom) -> Taken {
        self.recording = Recording::Agent;
        Taken {
            bytes: taken,
            pause: Some(Pause::Room(no_room.bytes)),
        }
    }
}

impl Exchange {
    fn agent_message(
        &mut self,
        message: &Frontend<'_>,
        wire: &[u8],
        target: &mut impl Outbound,
    ) -> Result<Outcome, Fault> {
        if let Some(kind) = too_long_name(message) {
            return self.refuse(&Message::new(kind, wire), Refused::name_too_long(), target);
        }
        match message {
            Frontend::Query(query) => self.query(query.text, wire, target),
            Frontend::Parse(parse) => self.parse(parse, wire, target),
            Frontend::Bind(bind) => {
                let mut message = Message::new(CommandKind::Bind, wire);
                if let Some(masking) = &self.masking {
                    let values = bind.values.iter().flatten();
                    values.for_each(|value| masking.conceal(wire, value, &mut message.cuts));
                }
                self.bind(bind.portal, bind.statement, Some(bind), &message, target)
            }
            Frontend::Execute(execute) => self.execute(execute, wire, target),
            Frontend::FunctionCall(call) => self.function_call(call, wire, target),
            Frontend::Close(close) => self.close(close, wire, target),
            Frontend::Sync => self.sync(wire, target),
            Frontend::Describe(describe) => self.describe(describe, wire, target),
            Frontend::Flush => self.pass(Request::Flush, wire, target),
            Frontend::CopyData(_) => {
                self.copy(Request::CopyData, CommandKind::CopyData, wire, target)
            }
            Frontend::CopyDone => self.copy(Request::CopyDone, CommandKind::Control, wire, target),
            Frontend::CopyFail(_) => {
                self.copy(Request::CopyFail, CommandKind::Control, wire, target)
            }
            Frontend::Terminate => Ok(Outcome::Wait(Pause::Goodbye)),
            // Invariant: the decoder left the authentication phase before the relay began.
            Frontend::Password(_) => Err(Fault::Agent(DecodeError::OutOfPhase {
                message: "Password",
            })),
        }
    }

    fn query(
        &mut self,
        text: &[u8],
        wire: &[u8],
        target: &mut impl Outbound,
    ) -> Result<Outcome, Fault> {
        let statement = match self.classify(text) {
            Ok(Some(statement)) => statement,
            Ok(None) => return Ok(Outcome::Wait(Pause::Reading)),
            Err(refused) => {
                return self.refuse(&Message::new(CommandKind::Query, wire), refused, target);
            }
        };
        if let Some(pause) = self.settle_path(&statement, target)? {
            return Ok(Outcome::Wait(pause));
        }
        let mut message = Message::new(CommandKind::Query, wire);
        message.cuts = cuts(&statement, wire, text);
        let judged = match self.judge_to_run(&statement, Purpose::Run) {
            Verdict::Wait(pause) => return Ok(Outcome::Wait(pause)),
            Verdict::Held => return Ok(Outcome::Held),
            Verdict::Refused(refused) => {
                return self.refuse(&message, refused, target);
            }
            Verdict::Allowed(judged) => judged,
        };
        let recorded = match self.record(&message, &judged.note) {
            Ok(recorded) => recorded,
            Err(no_room) => return Ok(Outcome::NoRoom(no_room)),
        };
        let expected = self.expect(Request::Query, Origin::Client)?;
        self.mask_query(expected.number, &statement, &judged);
        let plan = rewrite::plan(&statement, &self.attribution);
        let source = statement
            .names_statements
            .then(|| self.source(text, Vec::new(), &statement))
            .flatten();
        self.note_effects(&statement, source.as_ref(), expected.number);
        match &plan.text {
            None => self.forward(target, recorded, &expected, wire),
            Some(text) => {
                self.scratch.clear();
                frontend::encode_query(&mut self.scratch, text.as_bytes())?;
                self.forward_scratch(target, recorded, &expected);
            }
        }
        if !plan.spliced.is_empty() {
            let kind = NoteKind::Spliced(plan.spliced);
            self.notes.push_back(Note {
                request: expected.number,
                kind,
            });
        }
        self.end_epoch();
        if plan.restore_after {
            self.restore_simple(target)?;
        }
        Ok(Outcome::Taken)
    }
}

/// What judging came to.
enum Verdict {
    Allowed(Rc<Judged>),
    /// It needs an approval that it does not have yet.
    Held,
    Refused(Refused),
    Wait(Pause),
}

/// What stands against an EXECUTE.
enum Objection {
    Refused(Refused),
    Wait(Pause),
}

impl Exchange {
    fn parse(
        &mut self,
        parse: &Parse<'_>,
        wire: &[u8],
        target: &mut impl Outbound,
    ) -> Result<Outcome, Fault> {
        let kind = CommandKind::Prepare;
        let mut message = Message::new(kind, wire);
        let Some(name) = Name::new(parse.statement) else {
            return self.refuse(&message, Refused::name_too_long(), target);
        };
        message.drops_unnamed = parse.statement.is_empty();
        let statement = match self.classify(parse.text) {
            Ok(Some(statement)) => statement,
            Ok(None) => return Ok(Outcome::Wait(Pause::Reading)),
            Err(refused) => return self.refuse(&message, refused, target),
        };
        if let Some(pause) = self.settle_path(&statement, target)? {
            return Ok(Outcome::Wait(pause));
        }
        message.cuts = cuts(&statement, wire, parse.text);
        let judged = match self.judge_informed(&statement, Purpose::Prepare) {
            Verdict::Wait(pause) => return Ok(Outcome::Wait(pause)),
            Verdict::Held => return Ok(Outcome::Held),
            Verdict::Refused(refused) => return self.refuse(&message, refused, target),
            Verdict::Allowed(_) if self.statements.len() >= NAMES_MAX => {
                let refused = Refused::too_many("prepared statements", NAMES_MAX);
                return self.refuse(&message, refused, target);
            }
            Verdict::Allowed(judged) => judged,
        };
        let recorded = match self.record(&message, &judged.note) {
            Ok(recorded) => recorded,
            Err(no_room) => return Ok(Outcome::NoRoom(no_room)),
        };
        let expected = self.expect(Request::Parse, Origin::Client)?;
        // Planning runs functions that are declared immutable: Bind is enough, without an Execute.
        self.tainted |= statement.taints;
        match rewrite::prepared_text(&statement, &self.attribution) {
            None => self.forward(target, recorded, &expected, wire),
            Some(text) => {
                self.scratch.clear();
                let types: Vec<u32> = parse.parameter_types.iter().collect();
                frontend::encode_parse(
                    &mut self.scratch,
                    parse.statement,
                    text.as_bytes(),
                    &types,
                )?;
                self.forward_scratch(target, recorded, &expected);
            }
        }
        let step = Step::whole(expected.number);
        let source = self.source(
            parse.text,
            parse.parameter_types.iter().collect(),
            &statement,
        );
        let prepared = Named {
            source,
            ..self.prepared(statement)
        };
        self.statements.expect(step, Change::Define(name, prepared));
        Ok(Outcome::Taken)
    }

    /// A message that is too long to be held: bound values pass in stretches, texts are refused,
    /// and their stretches are recorded and dropped.
    fn announced(
        &mut self,
        announced: &Announced<'_>,
        target: &mut impl Outbound,
    ) -> Result<Outcome, Fault> {
        let too_long = announced.exceeds.map(Refused::too_long);
        let (kind, drops_unnamed) = match announced.head {
            Head::Bind { portal, statement } => {
                let message = Message::announced(CommandKind::Bind, announced);
                let is_long = |name: &[u8]| name.len() > NAME_BYTES_MAX;
                let has_long = is_long(portal) || is_long(statement);
                return match too_long.or_else(|| has_long.then(Refused::name_too_long)) {
                    Some(refused) => self.refuse(&message, refused, target),
                    None => self.bind(portal, statement, None, &message, target),
                };
            }
            Head::Parse { statement } => (CommandKind::Prepare, statement.is_empty()),
            Head::Query => (CommandKind::Query, false),
            Head::FunctionCall => (CommandKind::FunctionCall, false),
        };
        let mut message = Message::announced(kind, announced);
        message.drops_unnamed = drops_unnamed;
        // Invariant: a text is announced only when it is over its limit.
        let refused = too_long.unwrap_or_else(|| Refused::too_long(0));
        self.refuse(&message, refused, target)
    }

    fn bind(
        &mut self,
        portal: &[u8],
        statement: &[u8],
        bind: Option<&Bind<'_>>,
        message: &Message<'_>,
        target: &mut impl Outbound,
    ) -> Result<Outcome, Fault> {
        let Some(name) = Name::new(portal) else {
            return self.refuse(message, Refused::name_too_long(), target);
        };
        let change = match self.statements.meaning(statement) {
            Meaning::Unsettled => return Ok(Outcome::Wait(Pause::Answers)),
            Meaning::Known(prepared) => {
                // Execute comes too late to ask, so what it will be judged by is settled here.
                if let Some(pause) = self.settle_path(&prepared.statement, target)? {
                    return Ok(Outcome::Wait(pause));
                }
                match self.judge_bound(&prepared, bind.is_some()) {
                    Ok(true) => {}
                    Ok(false) => return Ok(Outcome::Held),
                    Err(refused) => return self.refuse(message, refused, target),
                }
                Change::Define(name, self.portal(prepared, bind))
            }
            // The server will say that it knows no such statement. If it does know one that
            // did not come through here, its portal has no meaning and is never executed.
            Meaning::Absent => Change::Remove(name),
        };
        if self.portals.len() >= NAMES_MAX {
            let refused = Refused::too_many("portals", NAMES_MAX);
            return self.refuse(message, refused, target);
        }
        let recorded = match self.record(message, &DecisionNote::not_judged()) {
            Ok(recorded) => recorded,
            Err(no_room) => return Ok(Outcome::NoRoom(no_room)),
        };
        let expected = self.expect(Request::Bind, Origin::Client)?;
        if self.masking.is_some() {
            let bound = match &change {
                Change::Define(_, bound) => Some(Rc::clone(&bound.statement)),
                Change::Remove(_) | Change::RemoveAll => None,
            };
            self.mask_bind(expected.number, portal, bound.as_deref());
        }
        self.portals.expect(Step::whole(expected.number), change);
        self.long = LongMessage {
            part_of: PartOf::Command(expected.number),
            fate: expected.fate,
        };
        self.forward(target, recorded, &expected, message.wire);
        Ok(Outcome::Taken)
    }

    fn execute(
        &mut self,
        execute: &Execute<'_>,
        wire: &[u8],
        target: &mut impl Outbound,
    ) -> Result<Outcome, Fault> {
        let kind = CommandKind::Execute;
        let named = match self.portals.meaning(execute.portal) {
            Meaning::Known(named) => named,
            Meaning::Unsettled => return Ok(Outcome::Wait(Pause::Answers)),
            Meaning::Absent => {
                let refused = Refused::no_portal(execute.portal);
                return self.refuse(&Message::new(kind, wire), refused, target);
            }
        };
        let statement = &named.statement;
        let judged = match self.judge_to_run(statement, Self::purpose_of(&named)) {
            Verdict::Wait(pause) => return Ok(Outcome::Wait(pause)),
            Verdict::Held => return Ok(Outcome::Held),
            Verdict::Refused(refused) => {
                return self.refuse(&Message::new(kind, wire), refused, target);
            }
            Verdict::Allowed(judged) => judged,
        };
        let described = self.learn_columns(execute.portal, &named, target)?;
        let recorded = match self.record(&Message::new(kind, wire), &judged.note) {
            Ok(recorded) => recorded,
            Err(no_room) => return Ok(Outcome::NoRoom(no_room)),
        };
        let expected = self.expect(Request::Execute, Origin::Client)?;
        self.mask_execute(expected.number, described, &named, &judged);
        self.forward(target, recorded, &expected, wire);
        self.note_effects(statement, named.source.as_ref(), expected.number);
        if let Some(bound) = &named.bound
            && self.is_granted()
        {
            bound.approved.set(Some(self.snapshot.policy.version()));
        }
        if rewrite::clears_attribution(statement) {
            self.restore_extended(target)?;
        }
        Ok(Outcome::Taken)
    }

    fn function_call(
        &mut self,
        call: &FunctionCall<'_>,
        wire: &[u8],
        target: &mut impl Outbound,
    ) -> Result<Outcome, Fault> {
        let kind = CommandKind::FunctionCall;
        let judged = Rc::new(self.judge_function(call.function));
        if let Decision::Deny(refusal) = &judged.decision {
            let refused = Refused::by_policy(refusal, Rc::clone(&judged));
            return self.refuse(&Message::new(kind, wire), refused, target);
        }
        if let Decision::Hold(held) = &judged.decision {
            match self.clearance(&held.rules, Purpose::Run) {
                Clearance::Runs => {}
                Clearance::Ask => return Ok(Outcome::Held),
                Clearance::Refused(refusal) => {
                    let refused = self.held_refused(refusal, &held.rules, &[]);
                    return self.refuse(&Message::new(kind, wire), refused, target);
                }
            }
        }
        let profile = policy::sql::postgres::function_call(call.function);
        if let Err(refused) = self.charge(std::slice::from_ref(&profile)) {
            return self.refuse(&Message::new(kind, wire), refused, target);
        }
        let recorded = match self.record(&Message::new(kind, wire), &judged.note) {
            Ok(recorded) => recorded,
            Err(no_room) => return Ok(Outcome::NoRoom(no_room)),
        };
        let expected = self.expect(Request::FunctionCall, Origin::Client)?;
        self.mask_function(expected.number, call);
        self.tainted |= profile.effects.iter().any(leaves_traces);
        self.end_epoch();
        self.forward(target, recorded, &expected, wire);
        Ok(Outcome::Taken)
    }

    fn close(
        &mut self,
        close: &Close<'_>,
        wire: &[u8],
        target: &mut impl Outbound,
    ) -> Result<Outcome, Fault> {
        let Some(name) = Name::new(close.name) else {
            let message = Message::new(CommandKind::Control, wire);
            return self.refuse(&message, Refused::name_too_long(), target);
        };
        let expected = self.expect(Request::Close, Origin::Client)?;
        let step = Step::whole(expected.number);
        let change = Change::Remove(name);
        match close.target {
            Target::Statement => self.statements.expect(step, change),
            Target::Portal => self.portals.expect(step, change),
        }
        pass_on(target, &expected, wire);
        Ok(Outcome::Taken)
    }

    fn sync(&mut self, wire: &[u8], target: &mut impl Outbound) -> Result<Outcome, Fault> {
        let expected = self.expect(Request::Sync, Origin::Client)?;
        self.end_epoch();
        pass_on(target, &expected, wire);
        Ok(Outcome::Taken)
    }

    fn describe(
        &mut self,
        describe: &Describe<'_>,
        wire: &[u8],
        target: &mut impl Outbound,
    ) -> Result<Outcome, Fault> {
        let request = Request::Describe(describe.target);
        let expected = self.expect(request, Origin::Client)?;
        self.mask_describe(expected.number, describe);
        pass_on(target, &expected, wire);
        Ok(Outcome::Taken)
    }

    /// Forwards a message that carries out nothing by itself.
    fn pass(
        &mut self,
        request: Request,
        wire: &[u8],
        target: &mut impl Outbound,
    ) -> Result<Outcome, Fault> {
        let expected = self.expect(request, Origin::Client)?;
        pass_on(target, &expected, wire);
        Ok(Outcome::Taken)
    }

    fn copy(
        &mut self,
        request: Request,
        kind: CommandKind,
        wire: &[u8],
        target: &mut impl Outbound,
    ) -> Result<Outcome, Fault> {
        let recorded = match self.record_unjudged(kind, wire) {
            Ok(recorded) => recorded,
            Err(no_room) => return Ok(Outcome::NoRoom(no_room)),
        };
        let expected = self.expect(request, Origin::Client)?;
        self.forward(target, recorded, &expected, wire);
        Ok(Outcome::Taken)
    }

    /// Records the refusal and puts a probe in the place of the command.
    fn refuse(
        &mut self,
        message: &Message<'_>,
        refused: Refused,
        target: &mut impl Outbound,
    ) -> Result<Outcome, Fault> {
        let recorded = match self.record(message, &refused.note()) {
            Ok(recorded) => recorded,
            Err(no_room) => return Ok(Outcome::NoRoom(no_room)),
        };
        let (reason, rule) = refused.cause();
        self.metrics.refused(reason, rule);
        let probe = Probe::of(message.kind);
        let request = match probe {
            Probe::Simple => Request::Query,
            Probe::Extended => Request::Parse,
        };
        let expected = self.expect(request, Origin::Refused)?;
        self.long = LongMessage {
            part_of: PartOf::Command(expected.number),
            fate: Fate::Drop,
        };
        let kind = NoteKind::Refused(Box::new(refused));
        self.notes.push_back(Note {
            request: expected.number,
            kind,
        });
        self.scratch.clear();
        match probe {
            Probe::Simple => {
                self.end_epoch();
                refuse::encode_simple_probe(&mut self.scratch)?;
            }
            Probe::Extended => {
                let name = if message.drops_unnamed {
                    b""
                } else {
                    self.reserved.as_bytes()
                };
                refuse::encode_extended_probe(&mut self.scratch, name)?;
            }
        }
        self.forward_scratch(target, recorded, &expected);
        Ok(Outcome::Taken)
    }

    /// What a text does; `None` while a worker reads it.
    pub(super) fn classify(&mut self, text: &[u8]) -> Result<Option<Rc<Statement>>, Refused> {
        let text = std::str::from_utf8(text).map_err(|_| Refused::not_utf8())?;
        if text.len() <= READ_ON_SHARD_MAX {
            return Ok(Some(self.classifier.classify(text)));
        }
        let read = self.aside.as_ref().and_then(|aside| aside.statement(text));
        let known = read.cloned().or_else(|| self.classifier.known(text));
        if known.is_none() {
            self.aside = Some(Aside::begin(text));
        }
        Ok(known)
    }

    /// What policy says of `text`, with nothing around it.
    #[cfg(feature = "bench")]
    pub(crate) fn allows(&self, text: &str) -> bool {
        let statement = self.classifier.classify(text);
        self.decide(&statement).decision == Decision::Allow
    }

    /// Makes sure that the search path is known where a verdict depends on it, as far as possible.
    ///
    /// Inside a sequence of extended requests it can not be asked for, and in a failed transaction
    /// there is no answer: the verdict is then that of an unknown path, which allows less.
    fn settle_path(
        &mut self,
        statement: &Statement,
        target: &mut impl Outbound,
    ) -> Result<Option<Pause>, Fault> {
        if matches!(self.path, Path::Unknown) && statement.needs_path && self.at_boundary {
            self.read_path(target)?;
            return Ok(Some(Pause::Quiescence));
        }
        let is_asked = matches!(
            self.notes.back(),
            Some(Note {
                kind: NoteKind::ReadPath,
                ..
            })
        );
        Ok(is_asked.then_some(Pause::Quiescence))
    }

    /// The verdict on the database as it is, once that is known.
    fn judge_informed(&mut self, statement: &Statement, purpose: Purpose) -> Verdict {
        let masks_columns = self
            .masking
            .as_ref()
            .is_some_and(|masking| masking.masks_columns());
        let holds_locks = self.pipeline.transaction_status() == TransactionStatus::InTransaction;
        if (statement.needs_catalogue || masks_columns) && self.catalogue.is_behind() {
            let caught_up = match self.catalogue.catch_up() {
                // The look may wait for what this session has locked.
                Ok(Some(_)) | Err(_) if holds_locks && self.catalogue.outlasts_look() => Ok(None),
                caught_up => caught_up,
            };
            match caught_up {
                Ok(None) => {
                    self.resituate();
                    // A schema that was made, dropped or granted is on the path, or no longer.
                    if self.catalogue.takes_other_schemas() && matches!(self.path, Path::Known(_)) {
                        self.set_path(Path::Unknown);
                        if statement.needs_path && self.at_boundary {
                            return Verdict::Wait(Pause::Quiescence);
                        }
                    }
                }
                Ok(Some(pause)) => return Verdict::Wait(pause),
                Err(error) if statement.needs_catalogue => {
                    return Verdict::Refused(Refused::no_catalogue(&error));
                }
                // It names nothing, so it may run; what it answers is redacted.
                Err(_) => {}
            }
        }
        let judged = self.decide(statement);
        if judged.misses_names.get() {
            if self.catalogue.look_once() {
                return Verdict::Wait(Pause::Catalogue);
            }
            judged.misses_names.set(false);
        }
        self.catalogue.has_looked = false;
        self.judge(statement, judged, purpose)
    }

    fn judge(&self, statement: &Statement, judged: Rc<Judged>, purpose: Purpose) -> Verdict {
        if let Decision::Deny(refusal) = &judged.decision {
            return Verdict::Refused(Refused::by_policy(refusal, Rc::clone(&judged)));
        }
        if statement.names_statements {
            match self.judge_named(statement, 0) {
                None => {}
                Some(Objection::Refused(refused)) => return Verdict::Refused(refused),
                Some(Objection::Wait(pause)) => return Verdict::Wait(pause),
            }
        }
        if !self.may_hold {
            return Verdict::Allowed(judged);
        }
        match self.judge_held(statement, purpose) {
            Ok(true) => Verdict::Allowed(judged),
            Ok(false) => Verdict::Held,
            Err(refused) => Verdict::Refused(refused),
        }
    }

    /// Whether a statement runs that nothing denies; false where it needs an approval first.
    fn judge_held(&self, statement: &Statement, purpose: Purpose) -> Result<bool, Refused> {
        let rules = self.holding_rules(statement, 0);
        if rules.is_empty() {
            return Ok(true);
        }
        let clearance = if unit::reads_stdin(statement) {
            Clearance::Refused(unit::stdin())
        } else {
            self.clearance(&rules, purpose)
        };
        match clearance {
            Clearance::Runs => Ok(true),
            Clearance::Ask => Ok(false),
            Clearance::Refused(refusal) => {
                Err(self.held_refused(refusal, &rules, &statement.profiles))
            }
        }
    }

    /// The same for a Bind: planning runs functions that are declared immutable.
    fn judge_bound(&self, prepared: &Named, is_kept: bool) -> Result<bool, Refused> {
        if !self.may_hold {
            return Ok(true);
        }
        let statement = &prepared.statement;
        let purpose = if statement.taints {
            Purpose::Run
        } else {
            Purpose::Prepare
        };
        let rules = self.holding_rules(statement, 0);
        if !is_kept && !rules.is_empty() {
            return Err(self.held_refused(unit::too_long(), &rules, &statement.profiles));
        }
        self.judge_held(statement, purpose)
    }

    fn held_refused(
        &self,
        refusal: HeldRefusal,
        rules: &[HeldRule],
        profiles: &[StatementProfile],
    ) -> Refused {
        let judged = judged_refused(&refusal, rules, |refusal| {
            let decision = Decision::Deny(refusal.clone());
            Judged::new(decision, None, &self.situation, profiles)
        });
        Refused::held(refusal, Rc::new(judged))
    }

    /// What stands against running it now, its budgets included.
    fn judge_to_run(&mut self, statement: &Statement, purpose: Purpose) -> Verdict {
        match self.judge_informed(statement, purpose) {
            Verdict::Allowed(judged) => match self.charge(&statement.profiles) {
                Ok(()) => Verdict::Allowed(judged),
                Err(refused) => Verdict::Refused(refused),
            },
            verdict @ (Verdict::Held | Verdict::Refused(_) | Verdict::Wait(_)) => verdict,
        }
    }

    pub(super) fn decide(&self, statement: &Statement) -> Rc<Judged> {
        statement.judge(&self.situation, &self.snapshot.policy, &self.permit)
    }

    /// What stands against the prepared statements that SQL's EXECUTE runs.
    fn judge_named(&self, statement: &Statement, depth: usize) -> Option<Objection> {
        if depth > EXECUTE_DEPTH_MAX {
            let refused = Refused::too_many("nested EXECUTEs", EXECUTE_DEPTH_MAX);
            return Some(Objection::Refused(refused));
        }
        // What earlier statements of the same text prepare or drop; the last word counts.
        let mut inside: Vec<(&str, bool)> = Vec::new();
        for profile in &statement.profiles {
            let name = match &profile.names {
                NamedStatementEffect::None => continue,
                NamedStatementEffect::Prepares(name) => {
                    inside.push((name, true));
                    continue;
                }
                NamedStatementEffect::Deallocates(name) => {
                    inside.push((name, false));
                    continue;
                }
                NamedStatementEffect::DeallocatesAll => {
                    inside.clear();
                    continue;
                }
                NamedStatementEffect::Executes(name) => name,
            };
            match inside.iter().rev().find(|(known, _)| known == name) {
                // Judged with this text, of which it is a part.
                Some((_, true)) => continue,
                Some((_, false)) => return Some(Objection::Refused(Refused::no_statement(name))),
                None => {}
            }
            let prepared = match self.statements.meaning(name.as_bytes()) {
                Meaning::Unsettled => return Some(Objection::Wait(Pause::Answers)),
                Meaning::Absent => return Some(Objection::Refused(Refused::no_statement(name))),
                Meaning::Known(prepared) => prepared.statement,
            };
            let judged = self.decide(&prepared);
            if let Decision::Deny(refusal) = &judged.decision {
                let refused = Refused::by_policy(refusal, Rc::clone(&judged));
                return Some(Objection::Refused(refused));
            }
            // What Parse prepared may be an EXECUTE in turn.
            if prepared.names_statements
                && let Some(objection) = self.judge_named(&prepared, depth + 1)
            {
                return Some(objection);
            }
        }
        None
    }

    pub(super) fn judge_function(&self, oid: u32) -> Judged {
        let session = session_context(&self.situation);
        let operation = Operation::FunctionCall { oid, session };
        let decision = self.snapshot.policy.judge(&self.permit, &operation);
        let policy = &self.snapshot.policy;
        let foreshadowed = policy.foreshadow(&self.permit, &operation, &decision);
        Judged::new(decision, foreshadowed.as_ref(), &self.situation, &[])
    }

    /// Notes what a statement that is about to run changes in the session.
    fn note_effects(
        &mut self,
        statement: &Rc<Statement>,
        source: Option<&Rc<Source>>,
        number: u64,
    ) {
        self.tainted |= statement.taints;
        self.listens |= statement.listens;
        if self.catalogue.redefined(statement.redefines) {
            self.resituate();
        }
        if statement.changes_path {
            self.set_path(Path::Unknown);
            self.path_is_transactional = true;
        } else if statement.ends_transaction && self.path_is_transactional {
            // A rollback may bring an earlier path back.
            self.set_path(Path::Unknown);
        }
        if !statement.names_statements {
            return;
        }
        let profiles = statement.profiles.iter().enumerate();
        for ((at, profile), index) in profiles.zip(0..) {
            let change = match &profile.names {
                NamedStatementEffect::None | NamedStatementEffect::Executes(_) => None,
                NamedStatementEffect::Prepares(name) => Name::new(name.as_bytes()).map(|name| {
                    let prepared = self.prepared_by_sql(statement, at, source.cloned());
                    Change::Define(name, prepared)
                }),
                NamedStatementEffect::Deallocates(name) => {
                    Name::new(name.as_bytes()).map(Change::Remove)
                }
                NamedStatementEffect::DeallocatesAll => Some(Change::RemoveAll),
            };
            // The parser cuts longer names as the server does. One that is not noted is not known,
            // and an EXECUTE of it is refused.
            let Some(change) = change else { continue };
            self.statements.expect(
                Step {
                    request: number,
                    statement: index,
                },
                change,
            );
        }
    }

    fn record(&mut self, message: &Message<'_>, note: &DecisionNote) -> Result<Recorded, NoRoom> {
        let number = self.last_request + 1;
        let Message { kind, wire, .. } = message;
        let mut concealed;
        let mut cuts = message.cuts.as_slice();
        if let Some(masking) = &self.masking
            && holds_values(*kind)
        {
            concealed = message.cuts.clone();
            masking.conceal_all(wire, &mut concealed);
            cuts = &concealed;
        }
        let recorded = match message.announced {
            None => self.recorder.command(number, *kind, wire, cuts, note)?,
            Some(bytes) => self
                .recorder
                .announced_command(number, *kind, bytes, note)?,
        };
        self.recording = Recording::Neither;
        self.metrics.command(*kind, recorded.verdict());
        Ok(recorded)
    }

    fn record_unjudged(&mut self, kind: CommandKind, wire: &[u8]) -> Result<Recorded, NoRoom> {
        self.record(&Message::new(kind, wire), &DecisionNote::not_judged())
    }

    /// Records a stretch of the message that is arriving.
    fn record_part(&mut self, bytes: &[u8], stretch: Stretch) -> Result<Position, NoRoom> {
        let concealed = match &mut self.masking {
            Some(masking) => masking.conceal_stretch(bytes, stretch),
            None => None,
        };
        let bytes = concealed.unwrap_or(bytes);
        let position = match self.long.part_of {
            PartOf::CopyData => {
                let number = self.last_request + 1;
                let note = DecisionNote::not_judged();
                let kind = CommandKind::CopyData;
                let recorded = self.recorder.command(number, kind, bytes, &[], &note)?;
                recorded.position()
            }
            PartOf::Command(number) => self.recorder.rest_of_command(number, bytes)?,
        };
        if let Some(masking) = &mut self.masking {
            masking.stretch_recorded();
        }
        self.recording = Recording::Neither;
        Ok(position)
    }

    /// Queues what was recorded, or what stands for it, for the target.
    fn forward(
        &mut self,
        target: &mut impl Outbound,
        recorded: Recorded,
        expected: &Expected,
        bytes: &[u8],
    ) {
        self.last_recorded = Some(recorded.position());
        pass_on(target, expected, bytes);
    }

    /// [`Self::forward`] for what was written to [`Self::scratch`].
    fn forward_scratch(
        &mut self,
        target: &mut impl Outbound,
        recorded: Recorded,
        expected: &Expected,
    ) {
        self.last_recorded = Some(recorded.position());
        pass_on(target, expected, &self.scratch);
        if self.scratch.capacity() > SCRATCH_KEPT {
            self.scratch = Vec::new();
        }
    }
}

impl Probe {
    fn of(kind: CommandKind) -> Self {
        match kind {
            CommandKind::Query | CommandKind::FunctionCall => Self::Simple,
            CommandKind::Prepare
            | CommandKind::Bind
            | CommandKind::Execute
            | CommandKind::CopyData
            | CommandKind::Control
            | CommandKind::Cancel => Self::Extended,
        }
    }
}

/// The kind of a message that asks for a statement or portal by more than the server keeps.
fn too_long_name(message: &Frontend<'_>) -> Option<CommandKind> {
    let is_long = |name: &[u8]| name.len() > NAME_BYTES_MAX;
    match message {
        Frontend::Bind(bind) if is_long(bind.statement) => Some(CommandKind::Bind),
        Frontend::Execute(execute) if is_long(execute.portal) => Some(CommandKind::Execute),
        Frontend::Describe(describe) if is_long(describe.name) => Some(CommandKind::Control),
        Frontend::Query(_)
        | Frontend::Parse(_)
        | Frontend::Bind(_)
        | Frontend::Describe(_)
        | Frontend::Execute(_)
        | Frontend::Close(_)
        | Frontend::Sync
        | Frontend::Flush
        | Frontend::FunctionCall(_)
        | Frontend::CopyData(_)
        | Frontend::CopyDone
        | Frontend::CopyFail(_)
        | Frontend::Terminate
        | Frontend::Password(_) => None,
    }
}

/// Whether a message holds values of the agent's that stand nowhere but in its bytes. Those of a Bind
/// are looked at one by one.
fn holds_values(kind: CommandKind) -> bool {
    matches!(
        kind,
        CommandKind::Query
            | CommandKind::Prepare
            | CommandKind::CopyData
            | CommandKind::FunctionCall
    )
}

fn begins_copy_message(bytes: &[u8]) -> bool {
    let tag = bytes.first().copied().and_then(FrontendTag::from_byte);
    matches!(
        tag,
        Some(FrontendTag::CopyData | FrontendTag::CopyDone | FrontendTag::CopyFail)
    )
}

/// Queues a message for the target, unless the target would ignore it.
fn pass_on(target: &mut impl Outbound, expected: &Expected, bytes: &[u8]) {
    if expected.fate == Fate::Forward {
        target.append(bytes);
    }
}

/// Where passwords stand in `wire`, whose text is `text`.
fn cuts(statement: &Statement, wire: &[u8], text: &[u8]) -> Vec<Range<usize>> {
    // The text is a slice of the message.
    let start = text.as_ptr().addr().saturating_sub(wire.as_ptr().addr());
    let secrets = statement
        .profiles
        .iter()
        .flat_map(|profile| &profile.secrets);
    secrets
        .map(|secret| secret.start + start..secret.end + start)
        .collect()
}
