//! What the masks of a session need to know of its requests.

use std::rc::Rc;

use codecs::postgres::backend::ParameterStatus;
use codecs::postgres::frontend::{self, Bind, Describe, FunctionCall, Target};
use codecs::postgres::pipeline::{self, Answer};
use codecs::postgres::{Backend, BackendPiece, Origin, Request};
use policy::Permit;
use policy::sql::{NamedStatementEffect, StatementProfile};

use super::agent::EXECUTE_DEPTH_MAX;
use super::target::Fate;
use super::unit::Source;
use super::{Exchange, Fault, Named};
use crate::config::Snapshot;
use crate::protocols::postgres::classify::{Classifier, Judged, Statement};
use crate::protocols::postgres::masking::{Described, Of, Planned, Plans, Seen, SessionMasks};
use crate::protocols::postgres::names::Meaning;
use crate::relay::link::Outbound;

impl Exchange {
    /// Notes what the answer to a simple query is masked by.
    pub(super) fn mask_query(&mut self, number: u64, statement: &Rc<Statement>, judged: &Judged) {
        let Some(masking) = &self.masking else { return };
        let executed = self.executed(statement, judged.masking.as_ref());
        let plans = judged.masking.clone();
        let withholds = masking.withholds(plans.as_ref())
            || executed.iter().any(|(_, planned)| planned.withholds());
        let of = Of::Query {
            statement: Rc::clone(statement),
            plans,
            executed,
        };
        if let Some(masking) = &mut self.masking {
            masking.expect(number, of, withholds);
        }
    }

    /// What becomes known of the rows of a statement that is prepared by Parse.
    pub(super) fn prepared(&self, statement: Rc<Statement>) -> Named {
        let masking = self.masking.as_ref();
        let described = masking.map(|_| Described::statement(has_fixed_columns(&statement)));
        Named {
            statement,
            index: 0,
            described,
            source: None,
            bound: None,
        }
    }

    /// The same for one that SQL's PREPARE makes: Bind can name it too.
    pub(super) fn prepared_by_sql(
        &self,
        statement: &Rc<Statement>,
        index: usize,
        source: Option<Rc<Source>>,
    ) -> Named {
        Named {
            source,
            bound: None,
            statement: Rc::clone(statement),
            index,
            described: self.masking.as_ref().map(|_| Described::statement(false)),
        }
    }

    /// The same for a portal.
    pub(super) fn portal(&self, prepared: Named, bind: Option<&Bind<'_>>) -> Named {
        let described = prepared.described.as_ref();
        let formats = bind.map(|bind| &bind.result_formats);
        Named {
            described: described.map(|described| Described::portal(described, formats)),
            bound: self.bound(&prepared, bind),
            ..prepared
        }
    }

    /// Notes that a portal is made.
    pub(super) fn mask_bind(&mut self, number: u64, portal: &[u8], statement: Option<&Statement>) {
        // Binding plans, and planning computes what is constant.
        let judged = statement.map(|statement| self.decide(statement));
        let Some(masking) = &mut self.masking else {
            return;
        };
        let withholds = judged.is_some_and(|judged| masking.withholds(judged.masking.as_ref()));
        if withholds || !portal.is_empty() {
            masking.expect(number, Of::Bind(portal.into()), withholds);
        }
    }

    /// Notes that the agent asks for the columns of a statement or portal.
    pub(super) fn mask_describe(&mut self, number: u64, describe: &Describe<'_>) {
        let names = match describe.target {
            Target::Statement => &self.statements,
            Target::Portal => &self.portals,
        };
        let epoch = names.epoch();
        let Some(masking) = &mut self.masking else {
            return;
        };
        if let Meaning::Known(Named {
            described: Some(described),
            ..
        }) = names.meaning(describe.name)
        {
            described.asked(epoch);
            masking.expect(number, Of::Describe(described), false);
        }
    }

    /// Makes sure that the columns of a portal are known before its rows come.
    ///
    /// Where the agent does not ask for them, we do. If the portal is not there any more, the server
    /// says so to us, in the words in which it would answer the Execute, which it then discards.
    pub(super) fn learn_columns(
        &mut self,
        portal: &[u8],
        named: &Named,
        target: &mut impl Outbound,
    ) -> Result<Option<Rc<Described>>, Fault> {
        if self.masking.is_none() {
            return Ok(None);
        }
        let described = match &named.described {
            Some(described) => Rc::clone(described),
            // It was made before anything was masked for the principal.
            None => Described::statement(false),
        };
        let epoch = self.portals.epoch();
        if described.is_known(epoch) {
            return Ok(Some(described));
        }
        let expected = self.expect(Request::Describe(Target::Portal), Origin::Hidden)?;
        if expected.fate == pipeline::Fate::Forward {
            self.scratch.clear();
            frontend::encode_describe(&mut self.scratch, Target::Portal, portal)?;
            target.append(&self.scratch);
        }
        described.asked(epoch);
        if let Some(masking) = &mut self.masking {
            let of = Of::Learning(Rc::clone(&described));
            masking.expect(expected.number, of, false);
        }
        Ok(Some(described))
    }

    /// Notes what the rows of a portal are masked by.
    pub(super) fn mask_execute(
        &mut self,
        number: u64,
        portal: Option<Rc<Described>>,
        named: &Named,
        judged: &Judged,
    ) {
        let Some(portal) = portal else { return };
        let Named {
            statement, index, ..
        } = named;
        let plans = judged.masking.as_ref();
        let planned = match statement.profiles.get(*index).and_then(executes) {
            Some(name) => self.planned_by(name, statement, plans, *index, 0),
            None => Planned::of(statement, plans, *index),
        };
        let masking = self.masking.as_ref();
        let withholds =
            masking.is_some_and(|masking| masking.withholds(plans)) || planned.withholds();
        let of = Of::Execute {
            statement: Rc::clone(statement),
            index: *index,
            portal,
            planned,
        };
        if let Some(masking) = &mut self.masking {
            masking.expect(number, of, withholds);
        }
    }

    /// Notes that a function is called by its number.
    pub(super) fn mask_function(&mut self, number: u64, call: &FunctionCall<'_>) {
        if let Some(masking) = &mut self.masking {
            // Large objects hold what was put there, and columns that are masked can not be.
            let profile = policy::sql::postgres::function_call(call.function);
            let is_known = !profile.opaque;
            masking.expect(number, Of::Function { is_known }, !is_known);
        }
    }

    /// What the EXECUTEs of a text answer with, by their index.
    fn executed(&self, statement: &Statement, plans: Option<&Plans>) -> Vec<(usize, Planned)> {
        if plans.is_none() || !statement.names_statements {
            return Vec::new();
        }
        let profiles = statement.profiles.iter().enumerate();
        profiles
            .filter_map(|(index, profile)| {
                let name = executes(profile)?;
                Some((index, self.planned_by(name, statement, plans, index, 0)))
            })
            .collect()
    }

    /// What the statement is masked by that EXECUTE `name` runs as part `index` of a text.
    fn planned_by(
        &self,
        name: &str,
        statement: &Statement,
        plans: Option<&Plans>,
        index: usize,
        depth: usize,
    ) -> Planned {
        let earlier = statement.profiles.get(..index).unwrap_or_default();
        if let Some(index) = earlier.iter().rposition(|profile| prepares(profile, name)) {
            return Planned::of(statement, plans, index);
        }
        let Meaning::Known(prepared) = self.statements.meaning(name.as_bytes()) else {
            return Planned::Unknown;
        };
        let Named {
            statement, index, ..
        } = prepared;
        let judged = self.decide(&statement);
        let plans = judged.masking.as_ref();
        // What Parse prepared may be an EXECUTE in turn.
        match statement.profiles.get(index).and_then(executes) {
            Some(_) if depth >= EXECUTE_DEPTH_MAX => Planned::Unknown,
            Some(name) => self.planned_by(name, &statement, plans, index, depth + 1),
            None => Planned::of(&statement, plans, index),
        }
    }
}

impl Exchange {
    /// What the agent gets of an answer to its own request. `statement` is the index of its own
    /// statement.
    pub(super) fn mask_answer(
        &mut self,
        piece: &BackendPiece<'_>,
        unread: &[u8],
        answer: &Answer<u64>,
        statement: u32,
    ) -> Result<Fate, Fault> {
        let Some(masking) = &mut self.masking else {
            return Ok(Fate::Pass);
        };
        let out = &mut self.scratch_for_agent;
        let seen = masking.answer(piece, unread, answer, statement, out)?;
        if masking.takes_missed_relations() {
            self.catalogue.is_outdated();
        }
        Ok(seen.into())
    }

    /// The same for the rest of a message that is too long to be held.
    pub(super) fn mask_rest(&mut self, piece: &BackendPiece<'_>) -> Result<Fate, Fault> {
        let (Some(masking), BackendPiece::Fragment(fragment)) = (&mut self.masking, piece) else {
            return Ok(Fate::Pass);
        };
        Ok(masking
            .goes_on(fragment, &mut self.scratch_for_agent)?
            .into())
    }

    /// The same for what answers no request.
    pub(super) fn mask_words(&mut self, piece: &BackendPiece<'_>) -> Result<Fate, Fault> {
        let (Some(masking), BackendPiece::Message(decoded)) = (&self.masking, piece) else {
            return Ok(Fate::Pass);
        };
        let out = &mut self.scratch_for_agent;
        let message = &decoded.message;
        if let Backend::ErrorResponse(fields) | Backend::NoticeResponse(fields) = message {
            return Ok(masking.says(piece.tag(), fields, out)?.into());
        }
        if let Backend::NotificationResponse(notification) = message {
            return Ok(masking.notified(notification, out)?.into());
        }
        Ok(Fate::Pass)
    }

    /// The same for a setting that is not one of the attribution.
    pub(super) fn mask_setting(&mut self, status: &ParameterStatus<'_>) -> Result<Fate, Fault> {
        let Some(masking) = &self.masking else {
            return Ok(Fate::Pass);
        };
        let out = &mut self.scratch_for_agent;
        Ok(masking.reported(status, out)?.into())
    }

    /// Whether an answer is one to [`Self::learn_columns`].
    pub(super) fn asks_for_columns(&self, answer: &Answer<u64>) -> bool {
        let masking = self.masking.as_ref();
        masking.is_some_and(|masking| masking.learns_by(answer.tag))
    }

    /// The columns of a portal, which the agent did not ask for.
    pub(super) fn columns_answered(
        &mut self,
        piece: &BackendPiece<'_>,
        unread: &[u8],
        answer: &Answer<u64>,
    ) -> Result<Fate, Fault> {
        let fate = self.mask_answer(piece, unread, answer, 0)?;
        Ok(if answer.fails { fate } else { Fate::Swallow })
    }
}

impl Exchange {
    /// The masks that apply to the session, if any do.
    ///
    /// Security: masks that can not be applied hide everything.
    pub(super) fn masks_of(
        classifier: &Classifier,
        snapshot: &Snapshot,
        permit: &Permit,
        sought: &policy::Target,
    ) -> Option<Rc<SessionMasks>> {
        let key = || snapshot.mask_key.for_target(&sought.name).ok();
        let sets = classifier
            .mask_sets
            .of(&snapshot.policy, permit, &sought.name, key);
        sets.unwrap_or_else(|_| Some(Rc::new(SessionMasks::of_everything())))
    }
}

impl From<Seen> for Fate {
    fn from(seen: Seen) -> Self {
        match seen {
            Seen::AsItIs => Self::Pass,
            Seen::Rewritten => Self::Replace,
        }
    }
}

/// Whether the server would rather fail than answer with other columns than it described: what
/// SQL's EXECUTE and FETCH bring depends on what their names stand for by then.
fn has_fixed_columns(statement: &Statement) -> bool {
    let mut profiles = statement.profiles.iter();
    profiles.all(|profile| {
        matches!(
            profile.kind,
            "SelectStmt" | "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt"
        )
    })
}

fn executes(profile: &StatementProfile) -> Option<&str> {
    match &profile.names {
        NamedStatementEffect::Executes(name) if profile.kind == "ExecuteStmt" => Some(name),
        NamedStatementEffect::Executes(_)
        | NamedStatementEffect::None
        | NamedStatementEffect::Prepares(_)
        | NamedStatementEffect::Deallocates(_)
        | NamedStatementEffect::DeallocatesAll => None,
    }
}

fn prepares(profile: &StatementProfile, name: &str) -> bool {
    matches!(&profile.names, NamedStatementEffect::Prepares(prepared) if prepared == name)
}
