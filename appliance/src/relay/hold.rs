//! The wait of a session for people: asking them, telling the agent, and hearing what came of it.
//!
//! It keeps time and talks to the desk; what is held and what that means on the wire is in
//! `protocols::postgres::exchange`.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use runtime::{Timer, now};

use super::End;
use super::link::Outbound;
use crate::approvals::{Estimate, Event, NotAsked, Outcome, RequestId, Waiting, Withdrawal};
use crate::protocols::postgres::exchange::{Ending, Exchange, Fault};
use crate::shard::Shard;

/// How long after its time a request is given up that nobody ended: the desk is stuck.
const OVERDUE: Duration = Duration::from_secs(10);

/// Between two tries while desk and shard go by different policies, which a reload makes them do
/// for a moment.
const POLICY_PAUSE: Duration = Duration::from_millis(50);

/// Tries in a row. Together with [`POLICY_PAUSE`] they last longer than any reload takes to reach
/// everybody.
const POLICY_TRIES: u32 = 100;

/// Per connection.
#[derive(Default)]
pub(super) struct Hold {
    pending: Option<Box<Pending>>,
    /// How often in a row another policy was in force at the desk.
    policy_tries: u32,
}

/// One request, from asking to its end.
struct Pending {
    asked_at: Instant,
    waiting: Option<Waiting>,
    /// What happened, until the exchange has taken it.
    heard: Option<Heard>,
    reminder: Timer,
    overdue: Timer,
}

enum Heard {
    Event(Event),
    NotAsked(NotAsked),
    Cancelled,
    /// The policy at the desk is another: not to be told before this.
    OtherPolicy(Timer),
}

impl Hold {
    /// Whether people are being asked.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Asks what is to be asked, and tells the exchange and the agent what happened.
    ///
    /// Returns how long the wait was when one has ended.
    pub(super) fn poll(
        &mut self,
        shard: &Shard,
        exchange: &mut Exchange,
        agent: &mut impl Outbound,
        context: &mut Context<'_>,
    ) -> Result<Option<Duration>, Fault> {
        if let Some(request) = exchange.takes_request() {
            let asked_at = now();
            let overdue = Timer::at(asked_at + request.lasts + OVERDUE);
            let (waiting, heard) = match shard.approvals().request(*request) {
                Ok(waiting) => (Some(waiting), None),
                Err(not_asked) => (None, Some(Heard::NotAsked(not_asked))),
            };
            self.pending = Some(Box::new(Pending {
                asked_at,
                waiting,
                heard,
                reminder: Timer::at(asked_at + exchange.notice_interval()),
                overdue,
            }));
        }
        let Some(pending) = &mut self.pending else {
            return Ok(None);
        };
        while let Poll::Ready(is_over) = pending.poll(shard, exchange, agent, context)? {
            if !is_over {
                continue;
            }
            let met_other_policy = matches!(pending.heard, Some(Heard::OtherPolicy(_)));
            self.policy_tries = if met_other_policy {
                self.policy_tries + 1
            } else {
                0
            };
            let took = now().saturating_duration_since(pending.asked_at);
            self.pending = None;
            return Ok(Some(took));
        }
        if self.policy_tries > POLICY_TRIES
            && let Some(Heard::OtherPolicy(_)) = &pending.heard
        {
            pending.heard = Some(Heard::NotAsked(NotAsked::Unavailable));
            context.waker().wake_by_ref();
        }
        Ok(None)
    }

    /// The agent cancelled what it waits for.
    pub(super) fn cancel(&mut self) {
        let Some(pending) = &mut self.pending else {
            return;
        };
        // What was decided before stays decided.
        if pending.heard.is_none()
            && let Some(waiting) = pending.waiting.take()
        {
            waiting.withdraw(Withdrawal::Cancelled);
            pending.heard = Some(Heard::Cancelled);
        }
    }

    /// The session ends.
    ///
    /// An agent that leaves outside of a transaction may come back for what it asked; whatever else
    /// ends a session withdraws it.
    pub(super) fn end(&mut self, end: &End, exchange: &mut Exchange) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        let why = match end {
            End::AgentLeft | End::AgentUnreachable(_) | End::AgentStalled => exchange
                .is_held_in_transaction()
                .then_some(Withdrawal::Disconnected),
            End::Revoked(_) | End::Killed | End::Withdrawn => Some(Withdrawal::Revoked),
            End::TargetEnded
            | End::TargetClosed
            | End::TargetLost(_)
            | End::Lifetime
            | End::Idle
            | End::IdleInTransaction
            | End::Drained
            | End::Cut
            | End::Fault(_) => Some(Withdrawal::SessionEnded),
        };
        exchange.record_left(why);
        if let (Some(waiting), Some(why)) = (pending.waiting, why) {
            waiting.withdraw(why);
        }
    }
}

impl Pending {
    /// Ready when something happened; with true when the wait is over.
    fn poll(
        &mut self,
        shard: &Shard,
        exchange: &mut Exchange,
        agent: &mut impl Outbound,
        context: &mut Context<'_>,
    ) -> Result<Poll<bool>, Fault> {
        if self.heard.is_none() {
            self.listen(exchange, agent, context)?;
        }
        let polled = match &mut self.heard {
            None => return Ok(Poll::Pending),
            Some(Heard::Event(Event::Asked { id, link, expires })) => {
                let asked = (*id, link.as_deref(), expires.as_secs());
                let polled = exchange.poll_asked(asked, agent, context);
                if polled.is_ready() {
                    estimate(shard, exchange, *id);
                    self.heard = None;
                }
                polled.map_ok(|()| false)
            }
            Some(Heard::Event(Event::Over(outcome))) => exchange
                .poll_over(&Ending::Outcome(outcome), context)
                .map_ok(|()| true),
            Some(Heard::NotAsked(error)) => exchange
                .poll_over(&Ending::NotAsked(*error), context)
                .map_ok(|()| true),
            Some(Heard::Cancelled) => exchange
                .poll_over(&Ending::Cancelled, context)
                .map_ok(|()| true),
            Some(Heard::OtherPolicy(timer)) => match timer.poll_expired(context) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(()) => exchange
                    .poll_over(&Ending::Outcome(&Outcome::PolicyChanged), context)
                    .map_ok(|()| true),
            },
        };
        match polled {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(is_over)) => Ok(Poll::Ready(is_over)),
            Poll::Ready(Err(fault)) => Err(fault),
        }
    }

    fn listen(
        &mut self,
        exchange: &mut Exchange,
        agent: &mut impl Outbound,
        context: &mut Context<'_>,
    ) -> Result<(), Fault> {
        let Some(waiting) = &mut self.waiting else {
            return Ok(());
        };
        self.heard = match waiting.poll(context) {
            Poll::Ready(Event::Over(Outcome::PolicyChanged)) => {
                Some(Heard::OtherPolicy(Timer::at(now() + POLICY_PAUSE)))
            }
            Poll::Ready(event) => Some(Heard::Event(event)),
            Poll::Pending if self.overdue.poll_expired(context).is_ready() => {
                Some(Heard::NotAsked(NotAsked::Unavailable))
            }
            Poll::Pending => None,
        };
        if self.heard.is_none() && self.reminder.poll_expired(context).is_ready() {
            exchange.remind(runtime::unix_time().as_secs(), agent, context)?;
            self.reminder.reset(now() + exchange.notice_interval());
            // Registers for the next one.
            context.waker().wake_by_ref();
        }
        Ok(())
    }
}

/// Has the target's planner asked what it expects, for whoever decides. Nobody waits for it.
fn estimate(shard: &Shard, exchange: &mut Exchange, id: RequestId) {
    let Some((watch, question)) = exchange.takes_planning() else {
        return;
    };
    let Some(estimate) = shard.pools().estimate(watch, question) else {
        return;
    };
    let approvals = shard.approvals().clone();
    runtime::spawn(async move {
        let rows = estimate.await;
        if rows.iter().any(Option::is_some) {
            let estimates = rows
                .into_iter()
                .map(|rows| rows.map(|rows| Estimate { rows }));
            approvals.estimated(id, estimates.collect());
        }
    });
}
