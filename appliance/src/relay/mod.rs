//! Bytes both ways between an agent and its leased upstream, until one of the two ends.
//!
//! It moves bytes, keeps time and watches for signals. What the bytes mean, and
//! which of them pass, is decided in `protocols`.

pub(crate) mod inbound;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use runtime::{Subscription, Timer};

use crate::config::Snapshot;
use crate::protocols::postgres::exchange::{Exchange, Fault, Pause, Sides, Taken};
use crate::shard::Shard;
use crate::shard::sessions::{Registration, Signal};
use crate::transport::Transport;
use crate::upstream::{Lease, Outcome};

use inbound::Inbound;

/// Bytes queued towards one side at which the other side is no longer read.
///
/// Back-pressure reaches the sender by its own socket buffer. 256 KiB keeps a
/// fast link busy for a round trip and bounds what one slow reader costs.
const CONGESTED: usize = 256 * 1024;

/// Turns of the pump before other connections of the shard get theirs.
const TURNS_MAX: u32 = 32;

/// How long the last words to an agent may take to leave.
const FAREWELL: Duration = Duration::from_secs(5);

/// One session's data path. Per connection.
pub(crate) struct Relay {
    agent: Transport,
    from_agent: Inbound,
    agent_waits: Waits,
    lease: Lease,
    from_target: Inbound,
    target_waits: Waits,
    exchange: Exchange,
    registration: Registration,
    lifetime: Timer,
    idle: Option<Silence>,
    stall: Stall,
    configuration: Subscription<Snapshot>,
}

/// How long a session may take.
pub(crate) struct Times {
    pub(crate) ends: Instant,
    /// Silence of the agent outside of running statements; `None`: as long as it likes.
    pub(crate) idle: Option<Duration>,
    /// How long bytes may wait for an agent that reads none.
    pub(crate) write_stall: Duration,
}

/// What a direction needs before it can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// More bytes from its peer.
    Bytes,
    /// Something that the other direction or the journal brings about.
    For(Pause),
}

/// Why a session ended. Each has words of its own for the agent and for the record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The agent said goodbye, or closed its socket.
    #[error("the agent left")]
    AgentLeft,
    #[error("the agent's connection failed: {}", .0.kind())]
    AgentUnreachable(io::Error),
    /// The agent read nothing for the configured time while bytes were waiting for it.
    #[error("the agent stopped reading")]
    AgentStalled,
    /// The target said goodbye itself; its words were passed on.
    #[error("the target ended the session")]
    TargetEnded,
    #[error("the target closed the connection")]
    TargetClosed,
    #[error("the target's connection failed: {}", .0.kind())]
    TargetLost(io::Error),
    #[error("the session reached its lifetime")]
    Lifetime,
    /// It was silent for longer than sessions may be.
    #[error("the session was idle for too long")]
    Idle,
    #[error("the appliance is stopping")]
    Drained,
    #[error("the session was cut")]
    Cut,
    /// A new configuration no longer admits the principal.
    #[error("a new configuration withdrew the admission")]
    Withdrawn,
    /// A rule of the protocol was broken, or recording became impossible.
    #[error("{}", crate::telemetry::chain(.0))]
    Fault(Fault),
}

/// Which sides have so much queued that the other one is not read.
struct Congested {
    agent: bool,
    target: bool,
}

/// Watches that an agent speaks.
struct Silence {
    timer: Timer,
    limit: Duration,
}

/// Watches that a reader reads.
struct Stall {
    timer: Timer,
    limit: Duration,
    queued: usize,
}

impl Relay {
    pub(crate) fn new(
        shard: &Shard,
        agent: (Transport, Inbound),
        lease: Lease,
        exchange: Exchange,
        registration: Registration,
        times: &Times,
    ) -> Self {
        let now = runtime::now();
        let (agent, from_agent) = agent;
        // What came behind the login is waiting to be taken.
        let agent_waits = if from_agent.unread().is_empty() {
            Waits::Bytes
        } else {
            Waits::For(Pause::Quiescence)
        };
        Self {
            agent,
            from_agent,
            agent_waits,
            lease,
            from_target: Inbound::default(),
            target_waits: Waits::Bytes,
            exchange,
            registration,
            lifetime: Timer::at(times.ends),
            idle: times.idle.map(|limit| Silence {
                timer: Timer::at(now + limit),
                limit,
            }),
            stall: Stall {
                timer: Timer::at(now + times.write_stall),
                limit: times.write_stall,
                queued: 0,
            },
            configuration: shard.published().subscribe(),
        }
    }

    /// Runs until the session ends, says goodbye, and gives the upstream back.
    pub(crate) async fn run(mut self, shard: &Rc<Shard>) -> End {
        let end = poll_fn(|context| self.poll(context)).await;
        if end.leaves_target_usable() && !self.exchange.is_quiescent() {
            // Nobody will read the answer of what still runs.
            if matches!(end, End::Cut) {
                // The shard may end with its last session, and a task of its own with it.
                let deadline = runtime::now() + FAREWELL;
                shard
                    .cancel_running(&self.registration.session, deadline)
                    .await;
            } else {
                shard.cancel_abandoned(&self.registration.session);
            }
        }
        self.registration.session.set_running(false);
        let may_speak = !self.exchange.agent_is_mid_message();
        if may_speak {
            self.exchange.say_farewell(&end, &mut self.agent);
        }
        self.agent.close_send();
        if !matches!(end, End::AgentStalled | End::AgentUnreachable(_)) {
            // The agent may be gone or stuck; the session ends either way.
            drop(self.agent.flush(runtime::now() + FAREWELL).await);
        }
        let is_clean = end.leaves_target_usable()
            && self.from_target.unread().is_empty()
            && self.lease.transport().queued_bytes() == 0
            && self.exchange.at_rest()
            && self.exchange.is_reusable()
            && !self.registration.session.was_cancelled();
        self.exchange.record_end(&end);
        self.lease.finish(if is_clean {
            Outcome::Clean
        } else {
            Outcome::Tainted
        });
        end
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if self.lifetime.poll_expired(context).is_ready() {
            return Poll::Ready(End::Lifetime);
        }
        if let Poll::Ready(snapshot) = self.configuration.poll_changed(context)
            && self.exchange.adopt(snapshot)
        {
            return Poll::Ready(End::Withdrawn);
        }
        for _ in 0..TURNS_MAX {
            let draining = match self.registration.session.poll_signal(context) {
                Poll::Ready(Signal::Cut) => return Poll::Ready(End::Cut),
                Poll::Ready(Signal::Drain) => true,
                Poll::Pending => false,
            };
            match self.turn(context) {
                Err(end) => return Poll::Ready(end),
                Ok(true) => {}
                Ok(false) if draining && self.exchange.at_rest() => {
                    return Poll::Ready(End::Drained);
                }
                Ok(false) => return self.poll_silence(context),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Moves what can be moved; `Ok(false)` when nothing can until somebody wakes us.
    fn turn(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let before = self.congested();
        let answered = self.turn_target(context)?;
        let asked = self.turn_agent(context)?;
        self.registration
            .session
            .set_running(!self.exchange.is_quiescent());
        if let Poll::Ready(Err(error)) = self.agent.poll_flush(context) {
            return Err(End::AgentUnreachable(error));
        }
        if let Poll::Ready(committed) = self.exchange.poll_committed(context) {
            committed.map_err(End::Fault)?;
            // A target that stopped reading may still have said why; its words are read first.
            if let Poll::Ready(Err(error)) = self.lease.transport().poll_flush(context)
                && !answered
            {
                return Err(End::TargetLost(error));
            }
        }
        // A side that was not read for congestion registered for nothing: read it now.
        let after = self.congested();
        let eased = (before.agent && !after.agent) || (before.target && !after.target);
        Ok(answered || asked || eased)
    }

    fn congested(&mut self) -> Congested {
        Congested {
            agent: self.agent.queued_bytes() >= CONGESTED,
            target: self.lease.transport().queued_bytes() >= CONGESTED,
        }
    }

    fn turn_target(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        if self.agent.queued_bytes() >= CONGESTED || !self.may_go_on(self.target_waits, context)? {
            return Ok(false);
        }
        if self.target_waits == Waits::Bytes || self.from_target.unread().is_empty() {
            match self.lease.transport().poll_recv(context) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(Some(chunk))) => self.from_target.push(chunk),
                Poll::Ready(Ok(None)) if self.exchange.target_said_goodbye() => {
                    return Err(End::TargetEnded);
                }
                Poll::Ready(Ok(None)) => return Err(End::TargetClosed),
                Poll::Ready(Err(error)) => return Err(End::TargetLost(error)),
            }
        }
        let mut sides = Sides {
            agent: &mut self.agent,
            lease: &mut self.lease,
        };
        let taken = self
            .exchange
            .take_from_target(self.from_target.unread(), &mut sides);
        self.target_waits = settle(&mut self.from_target, taken.map_err(End::Fault)?);
        Ok(true)
    }

    fn turn_agent(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        if self.lease.transport().queued_bytes() >= CONGESTED
            || !self.may_go_on(self.agent_waits, context)?
        {
            return Ok(false);
        }
        if self.agent_waits == Waits::Bytes || self.from_agent.unread().is_empty() {
            match self.agent.poll_recv(context) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(Some(chunk))) => {
                    if let Some(idle) = &mut self.idle {
                        idle.timer.reset(runtime::now() + idle.limit);
                    }
                    self.from_agent.push(chunk);
                }
                Poll::Ready(Ok(None)) => return Err(End::AgentLeft),
                Poll::Ready(Err(error)) => return Err(End::AgentUnreachable(error)),
            }
        }
        let mut sides = Sides {
            agent: &mut self.agent,
            lease: &mut self.lease,
        };
        let taken = self
            .exchange
            .take_from_agent(self.from_agent.unread(), &mut sides);
        let taken = taken.map_err(End::Fault)?;
        if taken.pause == Some(Pause::Goodbye) {
            return Err(End::AgentLeft);
        }
        self.agent_waits = settle(&mut self.from_agent, taken);
        // Also when nothing was taken: the next turn registers for what it waits for.
        Ok(true)
    }

    fn may_go_on(&self, waits: Waits, context: &mut Context<'_>) -> Result<bool, End> {
        match waits {
            Waits::Bytes => Ok(true),
            Waits::For(pause) => self
                .exchange
                .poll_pause_over(pause, context)
                .map_err(End::Fault),
        }
    }

    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if let Some(idle) = &mut self.idle {
            if !self.exchange.is_quiescent() {
                idle.timer.reset(runtime::now() + idle.limit);
            }
            if idle.timer.poll_expired(context).is_ready() {
                return Poll::Ready(End::Idle);
            }
        }
        self.poll_stall(context)
    }

    fn poll_stall(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let queued = self.agent.queued_bytes();
        if queued == 0 {
            self.stall.queued = 0;
            return Poll::Pending;
        }
        if queued != self.stall.queued {
            self.stall.queued = queued;
            self.stall.timer.reset(runtime::now() + self.stall.limit);
        }
        self.stall
            .timer
            .poll_expired(context)
            .map(|()| End::AgentStalled)
    }
}

impl End {
    /// Whether the upstream may still be in order. The exchange knows the rest.
    fn leaves_target_usable(&self) -> bool {
        match self {
            Self::AgentLeft
            | Self::AgentUnreachable(_)
            | Self::AgentStalled
            | Self::Lifetime
            | Self::Idle
            | Self::Drained
            | Self::Cut
            | Self::Withdrawn => true,
            Self::TargetEnded | Self::TargetClosed | Self::TargetLost(_) | Self::Fault(_) => false,
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
