//! What is run up to the end of a unit: read ahead of what is taken, so that people can be asked
//! about all of it at once.
//!
//! Nothing is changed by looking: the messages are taken later, one by one, as if nobody had.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use codecs::postgres::frontend::{
    Bind, Format, Frontend, FrontendDecoder, FrontendPiece, FrontendTag, Target,
};
use policy::class::Class;
use policy::sql::{CopyStream, NamedStatementEffect, StatementProfile};
use policy::{Decision, HeldRule, Operation, Refusal, Version};

use super::agent::EXECUTE_DEPTH_MAX;
use super::held::Purpose;
use super::{Exchange, Named, Pause};
use crate::approvals::{HeldCommand, HeldText, Parameter, REQUEST_BYTES_MAX};
use crate::protocols::postgres::classify::{REMEMBERED_TEXT_MAX, Statement, session_context};
use crate::protocols::postgres::names::Meaning;
use crate::protocols::postgres::refuse::HeldRefusal;
use crate::upstream::Plannable;

/// Longest unit that people are asked about.
///
/// Bytes. Its messages stay where they came in while it is decided, so it bounds what a session that
/// waits has in memory. As much as a request may have, and the framing of its messages besides.
pub(crate) const UNIT_BYTES_MAX: usize = 2 * REQUEST_BYTES_MAX;

/// Portals of a session whose values are kept, since their statements are held.
///
/// Count. Each keeps up to [`REQUEST_BYTES_MAX`]; a driver has one or a few.
const BOUND_MAX: usize = 16;

/// What stands for the text of a statement that was prepared before any rule held.
const NOT_KEPT: &str = "-- a statement that was prepared earlier, and needs no approval";

/// What looking ahead came to.
pub(super) enum Look {
    /// The end of the unit has not arrived.
    MoreBytes,
    Wait(Pause),
    /// It is refused, whoever would approve it.
    Refused(HeldRefusal),
    Unit(Unit),
}

/// All that is run by messages that follow each other.
pub(super) struct Unit {
    pub(super) bytes: usize,
    /// In the order of execution.
    pub(super) commands: Vec<HeldCommand>,
    /// Which of them the target may be asked to plan.
    plannable: Vec<bool>,
    /// Every rule that holds some of it; none, where nothing that is held is run.
    pub(super) rules: Vec<HeldRule>,
}

impl Unit {
    /// What the target may be asked to plan, for each command.
    pub(super) fn plannable(&self) -> Vec<Option<Plannable>> {
        let commands = self.commands.iter().zip(&self.plannable);
        let each = commands.map(|(command, is_plannable)| {
            let values = command.parameters.iter();
            is_plannable.then(|| Plannable {
                text: command.text.bytes.clone(),
                types: values.clone().map(|it| it.type_oid).collect(),
                values: values
                    .map(|it| {
                        (
                            it.is_binary,
                            it.value.as_ref().map(|value| value.bytes.clone()),
                        )
                    })
                    .collect(),
            })
        });
        each.collect()
    }
}

/// How far a unit at the front of what the agent sent has arrived.
///
/// Messages are stepped over once each, by their headers: an agent that sends them one by one, or
/// byte by byte, costs no more than one that sends them at once.
#[derive(Default)]
pub(super) struct Arrival {
    walked: usize,
    /// More bytes are needed before anything at the front is looked at again.
    pub(super) is_awaited: bool,
}

impl Arrival {
    /// Whether the unit at the front of `bytes` is there whole, or will be refused, or goes on to what
    /// ends the session.
    pub(super) fn is_complete(&mut self, bytes: &[u8]) -> bool {
        let is_complete = self.walk(bytes);
        if is_complete {
            *self = Self::default();
        } else {
            self.is_awaited = true;
        }
        is_complete
    }

    fn walk(&mut self, bytes: &[u8]) -> bool {
        loop {
            let rest = bytes.get(self.walked..).unwrap_or_default();
            let Some((tag, length)) = frame(rest) else {
                return bytes.len() >= UNIT_BYTES_MAX;
            };
            let after = self.walked.saturating_add(length);
            if after > UNIT_BYTES_MAX {
                return true;
            }
            let ends = match tag {
                Some(FrontendTag::Sync | FrontendTag::Flush) => bytes.len() >= after,
                Some(
                    FrontendTag::Parse
                    | FrontendTag::Bind
                    | FrontendTag::Describe
                    | FrontendTag::Execute
                    | FrontendTag::Close,
                ) => false,
                // One by itself at the front, or what the unit ends before.
                Some(FrontendTag::Query | FrontendTag::FunctionCall) => {
                    self.walked > 0 || bytes.len() >= after
                }
                Some(
                    FrontendTag::CopyData
                    | FrontendTag::CopyDone
                    | FrontendTag::CopyFail
                    | FrontendTag::Password
                    | FrontendTag::Terminate,
                )
                | None => true,
            };
            if ends {
                return true;
            }
            if bytes.len() < after {
                return false;
            }
            self.walked = after;
        }
    }
}

/// The tag of a message, and the bytes that it has with its header; `None` before these are there.
fn frame(bytes: &[u8]) -> Option<(Option<FrontendTag>, usize)> {
    let (tag, rest) = bytes.split_first()?;
    let length = u32::from_be_bytes(*rest.first_chunk()?);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Some((FrontendTag::from_byte(*tag), length.saturating_add(1)))
}

/// The text of a prepared statement as it was sent, kept where a rule may hold it.
pub(super) struct Source {
    text: HeldText,
    types: Box<[u32]>,
}

/// The values of a portal whose statement is held.
pub(super) struct Bound {
    parameters: Vec<Parameter>,
    /// Its first Execute was approved under this policy, so going on with it is.
    pub(super) approved: Cell<Option<Version>>,
    /// One of [`BOUND_MAX`].
    _counted: Rc<()>,
}

/// Why looking stops.
enum Stop {
    /// The server will fail there and skip the rest.
    Fails,
    Look(Look),
}

/// What is known of a unit so far.
#[derive(Default)]
struct Ahead {
    statements: HashMap<Vec<u8>, Option<Named>>,
    portals: HashMap<Vec<u8>, Option<Portal>>,
    commands: Vec<HeldCommand>,
    plannable: Vec<bool>,
    rules: Vec<HeldRule>,
}

#[derive(Clone)]
struct Portal {
    named: Named,
    /// It is among the commands.
    is_listed: bool,
}

impl Exchange {
    /// What is run from the front of `bytes` to the end of the unit.
    pub(super) fn look_ahead(&mut self, bytes: &[u8]) -> Look {
        let mut ahead = Ahead::default();
        let mut decoder = FrontendDecoder::new(self.snapshot.limits.wire);
        decoder.authenticated();
        let mut at = 0;
        let mut fails = false;
        while !fails {
            let rest = bytes.get(at..).unwrap_or_default();
            let decoded = match decoder.decode(rest) {
                Ok(Some(FrontendPiece::Message(decoded))) => decoded,
                Ok(None) if bytes.len() < UNIT_BYTES_MAX => return Look::MoreBytes,
                Ok(None) => return Look::Refused(too_long()),
                Err(error) if error.is_limit() => return Look::Refused(too_long()),
                // What is no message here ends the session when it is taken.
                Ok(Some(_)) | Err(_) => break,
            };
            let is_first = at == 0;
            let after = at.saturating_add(decoded.wire.len());
            let step = match &decoded.message {
                Frontend::Query(query) if is_first => {
                    at = after;
                    match self.look_at_query(query.text, &mut ahead) {
                        Ok(()) => {}
                        Err(Stop::Fails) => fails = true,
                        Err(Stop::Look(look)) => return look,
                    }
                    break;
                }
                Frontend::FunctionCall(call) if is_first => {
                    at = after;
                    self.look_at_function(call, &mut ahead);
                    break;
                }
                Frontend::Sync | Frontend::Flush => {
                    at = after;
                    break;
                }
                Frontend::Query(_)
                | Frontend::FunctionCall(_)
                | Frontend::Terminate
                | Frontend::CopyData(_)
                | Frontend::CopyDone
                | Frontend::CopyFail(_)
                | Frontend::Password(_) => break,
                Frontend::Parse(parse) => {
                    let types = parse.parameter_types.iter().collect();
                    self.look_at_parse(parse.statement, parse.text, types, &mut ahead)
                }
                Frontend::Bind(bind) => self.look_at_bind(bind, &mut ahead),
                Frontend::Execute(execute) => self.look_at_execute(execute.portal, &mut ahead),
                Frontend::Close(close) => {
                    match close.target {
                        Target::Statement => {
                            ahead.statements.insert(close.name.to_vec(), None);
                        }
                        Target::Portal => {
                            ahead.portals.insert(close.name.to_vec(), None);
                        }
                    }
                    Ok(())
                }
                Frontend::Describe(_) => Ok(()),
            };
            match step {
                Ok(()) => {}
                // What comes behind is looked at by itself, if the server does not skip it.
                Err(Stop::Fails) => {
                    fails = true;
                    continue;
                }
                Err(Stop::Look(look)) => return look,
            }
            at = after;
            if at > UNIT_BYTES_MAX {
                return Look::Refused(too_long());
            }
        }
        let Ahead {
            commands,
            plannable,
            rules,
            ..
        } = ahead;
        if fails && (at == 0 || !rules.is_empty()) {
            return Look::Refused(fails_anyway());
        }
        let bytes: usize = commands.iter().map(HeldCommand::bytes).sum();
        if !rules.is_empty() && bytes > REQUEST_BYTES_MAX {
            return Look::Refused(too_long());
        }
        Look::Unit(Unit {
            bytes: at,
            commands,
            plannable,
            rules,
        })
    }

    fn look_at_query(&self, text: &[u8], ahead: &mut Ahead) -> Result<(), Stop> {
        let text = std::str::from_utf8(text).map_err(|_| Stop::Fails)?;
        // It is judged as held already, so it was read.
        let read = self.aside.as_ref().and_then(|aside| aside.statement(text));
        let statement = read
            .cloned()
            .unwrap_or_else(|| self.classifier.classify(text));
        let held = self.held_text(text.as_bytes(), &statement.profiles);
        self.run(&statement, held, Vec::new(), ahead)
    }

    fn look_at_function(
        &self,
        call: &codecs::postgres::frontend::FunctionCall<'_>,
        ahead: &mut Ahead,
    ) {
        let judged = self.judge_function(call.function);
        let profile = policy::sql::postgres::function_call(call.function);
        if let Decision::Hold(held) = &judged.decision {
            ahead.add_rules(&held.rules);
        }
        let values = call.arguments.iter().enumerate();
        ahead.plannable.push(false);
        ahead.commands.push(HeldCommand {
            text: HeldText::plain(format!("-- a call of the function {}", call.function)),
            parameters: values
                .map(|(index, value)| self.parameter(0, call.formats.of(index), value))
                .collect(),
            effects: effects(std::slice::from_ref(&profile)),
            estimate: None,
        });
    }

    fn look_at_parse(
        &mut self,
        name: &[u8],
        text: &[u8],
        types: Vec<u32>,
        ahead: &mut Ahead,
    ) -> Result<(), Stop> {
        let text = std::str::from_utf8(text).map_err(|_| Stop::Fails)?;
        if text.len() > REMEMBERED_TEXT_MAX {
            return Err(Stop::Look(Look::Refused(too_long())));
        }
        let statement = match self.classify(text.as_bytes()) {
            Ok(Some(statement)) => statement,
            Ok(None) => return Err(Stop::Look(Look::Wait(Pause::Reading))),
            Err(_) => return Err(Stop::Fails),
        };
        self.look_at_refusal(&statement)?;
        let source = self.source(text.as_bytes(), types, &statement);
        let named = Named {
            source,
            ..self.prepared(statement)
        };
        ahead.statements.insert(name.to_vec(), Some(named));
        Ok(())
    }

    fn look_at_bind(&self, bind: &Bind<'_>, ahead: &mut Ahead) -> Result<(), Stop> {
        let known = ahead.statements.get(bind.statement);
        let prepared = match known {
            Some(known) => known.clone().ok_or(Stop::Fails)?,
            None => match self.statements.meaning(bind.statement) {
                Meaning::Known(named) => named,
                Meaning::Absent => return Err(Stop::Fails),
                Meaning::Unsettled => return Err(Stop::Look(Look::Wait(Pause::Answers))),
            },
        };
        let bound = self.bound(&prepared, Some(bind));
        let mut portal = Portal {
            named: Named { bound, ..prepared },
            is_listed: false,
        };
        // Planning runs functions that are declared immutable.
        if portal.named.statement.taints {
            self.run_portal(&mut portal, ahead)?;
        }
        ahead.portals.insert(bind.portal.to_vec(), Some(portal));
        Ok(())
    }

    fn look_at_execute(&self, name: &[u8], ahead: &mut Ahead) -> Result<(), Stop> {
        let mut portal = match ahead.portals.get(name) {
            Some(known) => known.clone().ok_or(Stop::Fails)?,
            None => match self.portals.meaning(name) {
                Meaning::Known(named) => Portal {
                    named,
                    is_listed: false,
                },
                Meaning::Absent => return Err(Stop::Fails),
                Meaning::Unsettled => return Err(Stop::Look(Look::Wait(Pause::Answers))),
            },
        };
        self.run_portal(&mut portal, ahead)?;
        ahead.portals.insert(name.to_vec(), Some(portal));
        Ok(())
    }

    fn run_portal(&self, portal: &mut Portal, ahead: &mut Ahead) -> Result<(), Stop> {
        let policy = self.snapshot.policy.version();
        let bound = portal.named.bound.as_deref();
        let is_approved = bound.is_some_and(|bound| bound.approved.get() == Some(policy));
        if portal.is_listed || is_approved {
            return Ok(());
        }
        portal.is_listed = true;
        let Named {
            statement, source, ..
        } = &portal.named;
        let is_held = self.decide(statement).decision.held().is_some();
        let (text, parameters) = match (source, bound) {
            (Some(source), Some(bound)) => (source.text.clone(), bound.parameters.clone()),
            (Some(source), None) if !is_held => (source.text.clone(), Vec::new()),
            (_, _) if is_held => return Err(Stop::Look(Look::Refused(not_kept()))),
            (_, _) => (HeldText::plain(NOT_KEPT), Vec::new()),
        };
        self.run(statement, text, parameters, ahead)
    }

    /// Notes that a statement is run.
    fn run(
        &self,
        statement: &Statement,
        text: HeldText,
        parameters: Vec<Parameter>,
        ahead: &mut Ahead,
    ) -> Result<(), Stop> {
        self.look_at_refusal(statement)?;
        ahead.add_rules(&self.holding_rules(statement, 0));
        ahead.commands.push(HeldCommand {
            text,
            parameters,
            effects: effects(&statement.profiles),
            estimate: None,
        });
        ahead.plannable.push(self.may_be_planned(statement));
        let mut prepared = Vec::new();
        self.executed_sources(statement, 0, &mut prepared);
        ahead.plannable.extend(prepared.iter().map(|_| false));
        ahead.commands.append(&mut prepared);
        Ok(())
    }

    /// Whether planning it runs no code but what is built in.
    fn may_be_planned(&self, statement: &Statement) -> bool {
        let [profile] = statement.profiles.as_slice() else {
            return false;
        };
        let is_planned = matches!(
            profile.kind,
            "SelectStmt" | "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt"
        );
        let operation = Operation::Sql {
            statements: &statement.profiles,
            session: session_context(&self.situation),
        };
        is_planned && operation.is_of_rows_alone()
    }

    /// Nobody is asked to approve what is refused all the same.
    fn look_at_refusal(&self, statement: &Statement) -> Result<(), Stop> {
        let judged = self.decide(statement);
        match judged.decision.refusal() {
            Some(refusal) => Err(Stop::Look(Look::Refused(refused_later(refusal)))),
            None => Ok(()),
        }
    }

    /// Every rule that holds the statement, or one that it runs by EXECUTE.
    pub(super) fn holding_rules(&self, statement: &Statement, depth: usize) -> Vec<HeldRule> {
        let judged = self.decide(statement);
        let mut rules = match &judged.decision {
            Decision::Hold(held) => held.rules.to_vec(),
            Decision::Allow | Decision::Deny(_) => Vec::new(),
        };
        if depth <= EXECUTE_DEPTH_MAX {
            for named in self.executed_by_name(statement) {
                for rule in self.holding_rules(&named.statement, depth + 1) {
                    add_rule(&mut rules, &rule);
                }
            }
        }
        rules
    }

    /// The texts of the prepared statements that it runs by EXECUTE.
    fn executed_sources(
        &self,
        statement: &Statement,
        depth: usize,
        commands: &mut Vec<HeldCommand>,
    ) {
        if depth > EXECUTE_DEPTH_MAX {
            return;
        }
        for named in self.executed_by_name(statement) {
            let source = named.source.as_deref();
            commands.push(HeldCommand {
                text: source
                    .map_or_else(|| HeldText::plain(NOT_KEPT), |source| source.text.clone()),
                parameters: Vec::new(),
                effects: effects(&named.statement.profiles),
                estimate: None,
            });
            self.executed_sources(&named.statement, depth + 1, commands);
        }
    }

    fn executed_by_name(&self, statement: &Statement) -> Vec<Named> {
        if !statement.names_statements {
            return Vec::new();
        }
        let names = statement.profiles.iter().filter_map(|it| match &it.names {
            NamedStatementEffect::Executes(name) => Some(name),
            NamedStatementEffect::None
            | NamedStatementEffect::Prepares(_)
            | NamedStatementEffect::Deallocates(_)
            | NamedStatementEffect::DeallocatesAll => None,
        });
        let known = names.filter_map(|name| match self.statements.meaning(name.as_bytes()) {
            Meaning::Known(named) => Some(named),
            // Judged as a part of this text, or refused when it is taken.
            Meaning::Absent | Meaning::Unsettled => None,
        });
        known.collect()
    }
}

impl Exchange {
    /// What is kept of the text of a prepared statement.
    pub(super) fn source(
        &self,
        text: &[u8],
        types: Vec<u32>,
        statement: &Statement,
    ) -> Option<Rc<Source>> {
        (self.may_hold && text.len() <= REQUEST_BYTES_MAX).then(|| {
            Rc::new(Source {
                text: self.held_text(text, &statement.profiles),
                types: types.into(),
            })
        })
    }

    /// What is kept of the values of a portal: nothing, where nothing holds its statement.
    pub(super) fn bound(&self, prepared: &Named, bind: Option<&Bind<'_>>) -> Option<Rc<Bound>> {
        let is_wanted = self.may_hold && Rc::strong_count(&self.bound_portals) <= BOUND_MAX;
        let (Some(source), Some(bind), true) = (&prepared.source, bind, is_wanted) else {
            return None;
        };
        if self.holding_rules(&prepared.statement, 0).is_empty() {
            return None;
        }
        let values = bind.values.iter().enumerate();
        let parameters: Vec<Parameter> = values
            .map(|(index, value)| {
                let type_oid = source.types.get(index).copied().unwrap_or(0);
                self.parameter(type_oid, bind.formats.of(index), value)
            })
            .collect();
        let bytes: usize = parameters
            .iter()
            .filter_map(|parameter| parameter.value.as_ref())
            .map(|value| value.bytes.len())
            .sum();
        (bytes <= REQUEST_BYTES_MAX).then(|| {
            Rc::new(Bound {
                parameters,
                approved: Cell::new(None),
                _counted: Rc::clone(&self.bound_portals),
            })
        })
    }

    /// For what an Execute of the portal is judged.
    pub(super) fn purpose_of(portal: &Named) -> Purpose {
        let approved = portal.bound.as_ref().and_then(|bound| bound.approved.get());
        approved.map_or(Purpose::Run, Purpose::Resume)
    }

    fn parameter(&self, type_oid: u32, format: Option<Format>, value: Option<&[u8]>) -> Parameter {
        Parameter {
            type_oid,
            is_binary: format == Some(Format::Binary),
            value: value.map(|value| self.held_text(value, &[])),
        }
    }

    fn held_text(&self, bytes: &[u8], profiles: &[StatementProfile]) -> HeldText {
        let secrets = profiles.iter().flat_map(|profile| &profile.secrets);
        let mut detected = Vec::new();
        if let Some(masking) = &self.masking {
            masking.conceal(bytes, bytes, &mut detected);
        }
        HeldText {
            bytes: bytes.to_vec(),
            secrets: secrets.cloned().collect(),
            detected,
        }
    }
}

impl Ahead {
    fn add_rules(&mut self, rules: &[HeldRule]) {
        for rule in rules {
            add_rule(&mut self.rules, rule);
        }
    }
}

fn add_rule(rules: &mut Vec<HeldRule>, rule: &HeldRule) {
    if !rules.iter().any(|known| known.name == rule.name) {
        rules.push(rule.clone());
    }
}

/// Whether it reads data that is not there yet, so that nobody can look at it.
pub(super) fn reads_stdin(statement: &Statement) -> bool {
    let mut profiles = statement.profiles.iter();
    profiles.any(|profile| matches!(profile.copy, Some(CopyStream::FromStdin)))
}

fn effects(profiles: &[StatementProfile]) -> Vec<(Class, String)> {
    let effects = profiles.iter().flat_map(|profile| &profile.effects);
    effects
        .map(|effect| (effect.class, effect.object.to_string()))
        .collect()
}

pub(super) fn too_long() -> HeldRefusal {
    HeldRefusal {
        sqlstate: b"54000",
        message: format!(
            "what a rule holds for approval is longer than {REQUEST_BYTES_MAX} bytes up to its Sync"
        ),
        detail: "Nobody is asked about it.".to_owned(),
        hint: Some("Send less between two Syncs.".to_owned()),
    }
}

pub(super) fn stdin() -> HeldRefusal {
    HeldRefusal {
        sqlstate: b"42501",
        message: "COPY FROM STDIN can not wait for approval".to_owned(),
        detail: "A rule holds it, and what it would write comes only when it runs.".to_owned(),
        hint: Some("Write the rows by INSERT.".to_owned()),
    }
}

/// Nobody is asked to approve what is undone at once.
fn fails_anyway() -> HeldRefusal {
    HeldRefusal {
        sqlstate: b"42501",
        message: "what a rule holds for approval would fail and be undone".to_owned(),
        detail: "A message up to its Sync names a statement or portal that does not exist, or is no text."
            .to_owned(),
        hint: None,
    }
}

fn not_kept() -> HeldRefusal {
    HeldRefusal {
        sqlstate: b"42501",
        message: "a statement that a rule holds has to be prepared and bound anew".to_owned(),
        detail: "Its text or its values were not kept, so nobody can be asked about them."
            .to_owned(),
        hint: Some("Prepare it again.".to_owned()),
    }
}

fn refused_later(refusal: &Refusal) -> HeldRefusal {
    HeldRefusal {
        sqlstate: b"42501",
        message: format!(
            "a statement of the same unit is refused: {}",
            refusal.message
        ),
        detail: match &refusal.rule {
            Some(rule) => format!("Refused by Sallyport, rule \"{rule}\"."),
            None => "Refused by Sallyport.".to_owned(),
        },
        hint: Some(refusal.hint.clone()).filter(|hint| !hint.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(tags: &[(u8, usize)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (tag, body) in tags {
            bytes.push(*tag);
            bytes.extend(u32::try_from(body + 4).unwrap().to_be_bytes());
            bytes.extend(vec![0; *body]);
        }
        bytes
    }

    /// After how many bytes a unit that arrives byte by byte is there.
    fn complete_after(bytes: &[u8]) -> Option<usize> {
        let mut arrival = Arrival::default();
        (1..=bytes.len()).find(|end| arrival.is_complete(&bytes[..*end]))
    }

    #[test]
    fn a_unit_ends_with_its_sync_and_before_what_is_none_of_it() {
        let unit = [(b'P', 20), (b'B', 9), (b'D', 2), (b'E', 5), (b'S', 0)];
        let bytes = frames(&unit);
        assert_eq!(complete_after(&bytes), Some(bytes.len()));
        assert_eq!(complete_after(&bytes[..bytes.len() - 1]), None);
        for other in [b'Q', b'F', b'X', b'd', b'?'] {
            let bytes = frames(&[(b'P', 20), (other, 7)]);
            // Its header is enough.
            assert_eq!(complete_after(&bytes), Some(25 + 5), "{other}");
        }
        let query = frames(&[(b'Q', 30)]);
        assert_eq!(complete_after(&query), Some(query.len()));
    }

    #[test]
    fn a_unit_that_is_too_long_is_not_waited_for() {
        let announced = frames(&[(b'P', 20), (b'B', UNIT_BYTES_MAX)]);
        assert_eq!(complete_after(&announced[..100]), Some(25 + 5));
        let many = frames(&vec![(b'E', 11); UNIT_BYTES_MAX / 16 + 1]);
        assert!(complete_after(&many).is_some_and(|after| after <= UNIT_BYTES_MAX + 5));
    }
}
