//! Both directions of one session: what is read, shown to the exchange, and sent on.
//!
//! It has neither sockets nor a clock of its own; who has them calls [`Flow::turn`].

use std::task::{Context, Poll};

use super::End;
use super::inbound::Inbound;
use super::link::{Link, Upstream};
use crate::protocols::postgres::exchange::{Exchange, Pause, Sides, Taken, UNIT_BYTES_MAX};

/// Bytes queued towards one side at which the other side is no longer read.
///
/// Back-pressure reaches the sender by its own socket buffer. 256 KiB keeps a
/// fast link busy for a round trip and bounds what one slow reader costs.
const CONGESTED: usize = 256 * 1024;

/// Unread bytes of an agent at which it is not watched any more while people decide about what it
/// sent.
///
/// The longest unit that is held, and a read of the largest size of what comes behind it. An agent
/// that sends more than it may have waiting is not seen to leave before the decision.
const WATCHED_BYTES_MAX: usize = UNIT_BYTES_MAX + 64 * 1024;

/// Per connection.
pub(crate) struct Flow {
    from_agent: Inbound,
    agent_waits: Waits,
    from_target: Inbound,
    target_waits: Waits,
    exchange: Exchange,
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turned {
    /// Something was moved, so that the next turn may move more. Otherwise nothing can be until
    /// somebody wakes the task.
    pub(crate) moved: bool,
    /// Bytes came from the agent.
    pub(crate) agent_spoke: bool,
}

/// What a direction needs before it can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// More bytes from its peer.
    Bytes,
    /// Something that the other direction or the journal brings about.
    For(Pause),
}

/// Which sides have so much queued that the other one is not read.
struct Congested {
    agent: bool,
    target: bool,
}

impl Congested {
    fn look(agent: &impl Link, target: &impl Link) -> Self {
        Self {
            agent: agent.queued_bytes() >= CONGESTED,
            target: target.queued_bytes() >= CONGESTED,
        }
    }
}

impl Flow {
    /// `from_agent` is what came behind the login.
    pub(crate) fn new(exchange: Exchange, from_agent: Inbound) -> Self {
        // What came behind the login is waiting to be taken.
        let agent_waits = if from_agent.unread().is_empty() {
            Waits::Bytes
        } else {
            Waits::For(Pause::Quiescence)
        };
        Self {
            from_agent,
            agent_waits,
            from_target: Inbound::default(),
            target_waits: Waits::Bytes,
            exchange,
        }
    }

    pub(crate) fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    pub(crate) fn exchange_mut(&mut self) -> &mut Exchange {
        &mut self.exchange
    }

    /// Moves what can be moved.
    ///
    /// # Errors
    /// Why the session ends.
    pub(crate) fn turn(
        &mut self,
        agent: &mut impl Link,
        target: &mut impl Upstream,
        context: &mut Context<'_>,
    ) -> Result<Turned, End> {
        let before = Congested::look(agent, target);
        let answered = self.turn_target(agent, target, context)?;
        let (asked, agent_spoke) = self.turn_agent(agent, target, context)?;
        if let Poll::Ready(Err(error)) = agent.poll_flush(context) {
            return Err(End::AgentUnreachable(error));
        }
        if let Poll::Ready(committed) = self.exchange.poll_committed(context) {
            committed.map_err(End::Fault)?;
            // A target that stopped reading may still have said why; its words are read first.
            if let Poll::Ready(Err(error)) = target.poll_flush(context)
                && !answered
            {
                return Err(End::TargetLost(error));
            }
        }
        // A side that was not read for congestion registered for nothing: read it now.
        let after = Congested::look(agent, target);
        let eased = (before.agent && !after.agent) || (before.target && !after.target);
        Ok(Turned {
            moved: answered || asked || eased,
            agent_spoke,
        })
    }

    /// Whether the session, having ended so, leaves its target as it found it: nothing running or
    /// unread, no transaction open, nothing done that a reset does not undo.
    pub(crate) fn leaves_target_clean(&self, end: &End, target: &impl Link) -> bool {
        end.leaves_target_usable()
            && self.from_target.unread().is_empty()
            && target.queued_bytes() == 0
            && self.exchange.at_rest()
            && self.exchange.is_reusable()
    }

    /// Closes the recording.
    pub(crate) fn record_end(self, end: &End) {
        self.exchange.record_end(end);
    }

    fn turn_target(
        &mut self,
        agent: &mut impl Link,
        target: &mut impl Upstream,
        context: &mut Context<'_>,
    ) -> Result<bool, End> {
        if agent.queued_bytes() >= CONGESTED || !self.may_go_on(self.target_waits, context)? {
            return Ok(false);
        }
        if self.target_waits == Waits::Bytes || self.from_target.unread().is_empty() {
            match target.poll_recv(context) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(Some(chunk))) => self.from_target.push(chunk),
                Poll::Ready(Ok(None)) if self.exchange.target_said_goodbye() => {
                    return Err(End::TargetEnded);
                }
                Poll::Ready(Ok(None)) => return Err(End::TargetClosed),
                Poll::Ready(Err(error)) => return Err(End::TargetLost(error)),
            }
        }
        let mut sides = Sides { agent, target };
        let taken = self
            .exchange
            .take_from_target(self.from_target.unread(), &mut sides);
        self.target_waits = settle(&mut self.from_target, taken.map_err(End::Fault)?);
        // FATAL is a server's last word, whether or not it closes the connection then.
        if self.target_waits == Waits::Bytes && self.exchange.target_said_goodbye() {
            return Err(End::TargetEnded);
        }
        Ok(true)
    }

    /// Whether the exchange was shown anything, and whether the agent said something.
    fn turn_agent(
        &mut self,
        agent: &mut impl Link,
        target: &mut impl Upstream,
        context: &mut Context<'_>,
    ) -> Result<(bool, bool), End> {
        if target.queued_bytes() >= CONGESTED {
            return Ok((false, false));
        }
        if !self.may_go_on(self.agent_waits, context)? {
            return Ok((self.watch_agent(agent, context)?, false));
        }
        let reads = self.agent_waits == Waits::Bytes || self.from_agent.unread().is_empty();
        if reads {
            match agent.poll_recv(context) {
                Poll::Pending => return Ok((false, false)),
                Poll::Ready(Ok(Some(chunk))) => self.from_agent.push(chunk),
                Poll::Ready(Ok(None)) => return Err(End::AgentLeft),
                Poll::Ready(Err(error)) => return Err(End::AgentUnreachable(error)),
            }
        }
        let mut sides = Sides { agent, target };
        let taken = self
            .exchange
            .take_from_agent(self.from_agent.unread(), &mut sides);
        let taken = taken.map_err(End::Fault)?;
        if taken.pause == Some(Pause::Goodbye) {
            return Err(End::AgentLeft);
        }
        self.agent_waits = settle(&mut self.from_agent, taken);
        // Also when nothing was taken: the next turn registers for what it waits for.
        Ok((true, reads))
    }

    /// Reads on while people decide, which takes so long that an agent must be seen to leave.
    fn watch_agent(
        &mut self,
        agent: &mut impl Link,
        context: &mut Context<'_>,
    ) -> Result<bool, End> {
        let waits = self.agent_waits == Waits::For(Pause::Approval);
        if !waits || self.from_agent.unread().len() >= WATCHED_BYTES_MAX {
            return Ok(false);
        }
        match agent.poll_recv(context) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(Some(chunk))) => {
                self.from_agent.push(chunk);
                Ok(true)
            }
            Poll::Ready(Ok(None)) => Err(End::AgentLeft),
            Poll::Ready(Err(error)) => Err(End::AgentUnreachable(error)),
        }
    }

    fn may_go_on(&mut self, waits: Waits, context: &mut Context<'_>) -> Result<bool, End> {
        match waits {
            Waits::Bytes => Ok(true),
            Waits::For(pause) => self
                .exchange
                .poll_pause_over(pause, context)
                .map_err(End::Fault),
        }
    }
}

/// Drops what was taken and says what the direction needs next.
fn settle(inbound: &mut Inbound, taken: Taken) -> Waits {
    inbound.advance(taken.bytes);
    match taken.pause {
        None => {
            inbound.settle();
            Waits::Bytes
        }
        Some(pause) => Waits::For(pause),
    }
}
