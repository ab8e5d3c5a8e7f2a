//! Budgets on the way of a session: statements that have none left, answers that are cut short.
//!
//! What is left is known to `budgets`; who cancels at the target is the relay.

use std::rc::Rc;
use std::time::Duration;

use codecs::postgres::pipeline::Answer;
use codecs::postgres::{Backend, BackendPiece, BackendTag, Decoded, Origin};
use policy::class::Class;
use policy::sql::StatementProfile;
use policy::{Decision, Refusal, RefusalKind};

use super::target::Fate;
use super::{Exchange, Fault};
use crate::budgets::Spent;
use crate::protocols::postgres::classify::Judged;
use crate::protocols::postgres::refuse::Refused;

/// What is being cut short.
#[derive(Default)]
pub(super) struct Cuts {
    /// The agent has had its error: nothing more up to `ReadyForQuery`.
    pub(super) is_silent: bool,
    /// The request that was cancelled since it ran too long.
    too_slow: Option<u64>,
    /// The target is to be told to stop.
    cancels: bool,
}

impl Exchange {
    /// Tells the time, where anything depends on it.
    pub(crate) fn set_time(&mut self, unix_time: impl FnOnce() -> u64) {
        if !self.budgets.is_empty() {
            self.budgets.set_time(unix_time());
        }
    }

    /// The request that the target works on, and how long it may.
    pub(crate) fn timed_request(&self) -> Option<(u64, Duration)> {
        let (limit, _) = self.statement_time()?;
        let oldest = self.pipeline.oldest()?;
        Some((oldest.tag, limit))
    }

    /// The longest that a statement may run, and the budget that says so; none: the configuration.
    fn statement_time(&self) -> Option<(Duration, Option<&str>)> {
        let budget = self.budgets.statement_time();
        let budget = budget.map(|(limit, name)| (limit, Some(name)));
        let session = self.snapshot.session.statement_timeout;
        let limits = budget.into_iter().chain(session.map(|limit| (limit, None)));
        limits.min_by_key(|(limit, _)| *limit)
    }

    /// The request ran for as long as it may.
    pub(crate) fn time_is_up(&mut self, request: u64) {
        self.cuts.too_slow = Some(request);
        self.cuts.cancels = true;
    }

    /// Whether what runs at the target is to be cancelled; says so once.
    pub(crate) fn takes_cancel(&mut self) -> bool {
        std::mem::take(&mut self.cuts.cancels)
    }

    /// Counts a statement that is about to run.
    ///
    /// To end a transaction is always possible: else an agent could not give up what it holds.
    pub(super) fn charge(&mut self, profiles: &[StatementProfile]) -> Result<(), Refused> {
        if self.budgets.is_empty() {
            return Ok(());
        }
        let ends_transaction = profiles
            .iter()
            .flat_map(|profile| &profile.effects)
            .all(|effect| effect.class == Class::Transaction);
        if ends_transaction {
            return Ok(());
        }
        self.budgets
            .count_statement()
            .map_err(|spent| self.over_budget(&spent, profiles))
    }

    fn over_budget(&self, spent: &Spent, profiles: &[StatementProfile]) -> Refused {
        let refusal = Refusal {
            kind: RefusalKind::OverBudget,
            rule: Some(spent.budget.clone()),
            message: spent.to_string(),
            hint: spent.hint(),
            class: None,
            object: String::new(),
            statement: 0,
        };
        let decision = Decision::Deny(refusal.clone());
        let judged = Judged::new(decision, None, &self.situation, profiles);
        Refused::by_policy(&refusal, Rc::new(judged))
    }

    /// Counts an answer on its way to the agent, and cuts it short where nothing is left.
    ///
    /// `rewritten` is where what was put in its place begins in [`Exchange::scratch_for_agent`].
    pub(super) fn meter(
        &mut self,
        piece: &BackendPiece<'_>,
        answer: &Answer<u64>,
        fate: Fate,
        rewritten: usize,
    ) -> Result<Fate, Fault> {
        let is_metered =
            self.cuts.is_silent || self.cuts.too_slow.is_some() || !self.budgets.is_empty();
        if !is_metered || answer.origin == Origin::Hidden {
            return Ok(fate);
        }
        if self.cuts.is_silent {
            if piece.tag() == BackendTag::ReadyForQuery {
                self.cuts.is_silent = false;
                return Ok(fate);
            }
            self.scratch_for_agent.truncate(rewritten);
            return Ok(Fate::Swallow);
        }
        if answer.fails && self.cuts.too_slow == Some(answer.tag) && is_cancelled(piece) {
            let (limit, budget) = self.statement_time().unwrap_or_default();
            let refused = Refused::too_slow(budget, limit);
            self.scratch_for_agent.truncate(rewritten);
            refused.encode(&mut self.scratch_for_agent)?;
            return Ok(Fate::Replace);
        }
        let is_row = matches!(piece.tag(), BackendTag::DataRow | BackendTag::CopyData);
        if !is_row || self.budgets.is_empty() {
            return Ok(fate);
        }
        let bytes = u64::try_from(piece.wire().len()).unwrap_or(u64::MAX);
        let Err(spent) = self.budgets.count_answer(1, bytes) else {
            return Ok(fate);
        };
        let refused = self.over_budget(&spent, &[]);
        self.scratch_for_agent.truncate(rewritten);
        refused.encode(&mut self.scratch_for_agent)?;
        self.cuts.is_silent = true;
        self.cuts.cancels = true;
        Ok(Fate::Replace)
    }

    /// Counts the rest of a long message, of which the agent has had the beginning.
    pub(super) fn meter_rest(&self, piece: &BackendPiece<'_>) {
        if !self.budgets.is_empty() {
            let bytes = u64::try_from(piece.wire().len()).unwrap_or(u64::MAX);
            // What is left is looked at before the next message.
            let _ = self.budgets.count_answer(0, bytes);
        }
    }
}

/// Whether it is the server's word for a statement that somebody cancelled.
fn is_cancelled(piece: &BackendPiece<'_>) -> bool {
    matches!(piece, BackendPiece::Message(Decoded { message: Backend::ErrorResponse(fields), .. })
        if fields.sqlstate().is_some_and(|code| code == b"57014"))
}
