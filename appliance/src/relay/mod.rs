//! Bytes both ways between an agent and its leased upstream, until one of the two ends.
//!
//! It has the sockets, keeps time and watches for signals; `flow` moves the bytes. What they mean,
//! and which of them pass, is decided in `protocols`.

pub(crate) mod flow;
mod hold;
pub(crate) mod inbound;
pub(crate) mod link;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use runtime::{Subscription, Timer};

use crate::config::Snapshot;
use crate::protocols::postgres::exchange::{Exchange, Fault};
use crate::revocation::Revocation;
use crate::shard::Shard;
use crate::shard::sessions::{Registration, Signal};
use crate::shard::turnstile::Turnstile;
use crate::telemetry::metrics::Phase;
use crate::upstream::{Lease, Outcome};
use runtime::transport::Transport;

use flow::Flow;
use hold::Hold;
use inbound::Inbound;

/// Turns of the pump before other connections of the shard get theirs.
const TURNS_MAX: u32 = 32;

/// How long the last words to an agent may take to leave.
const FAREWELL: Duration = Duration::from_secs(5);

/// The same where the agent is put out: what it has not read by then it does not get.
const FAREWELL_OF_ENFORCED: Duration = Duration::from_secs(1);

/// How long the server may take to end what a session ran that was put out.
///
/// Its slot of the pool is taken until then. A server that cannot be reached for so long ends the
/// statement when it finds that its client is gone.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// How long after a cancel the next one follows, if what is too slow has not ended.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// How long the clock is trusted to go on as it went, where a rule is about some hours: one that
/// is set forward is noticed after this long.
const CLOCK_TRUSTED: Duration = Duration::from_secs(60);

/// One session's data path. Per connection.
pub(crate) struct Relay {
    agent: Transport,
    lease: Lease,
    flow: Flow,
    registration: Registration,
    lifetime: Timer,
    silence: Option<Silence>,
    stall: Stall,
    /// When a rule may begin or cease to apply.
    windows: Option<Timer>,
    overtime: Overtime,
    hold: Hold,
    /// While it drains: when being at rest ends it.
    rest: Option<Timer>,
    /// Since when something waits to be answered.
    asked_at: Option<Instant>,
    configuration: Subscription<Snapshot>,
    turnstile: Rc<Turnstile>,
}

/// How long a session may take.
pub(crate) struct Times {
    pub(crate) ends: Instant,
    pub(crate) silence: SilenceLimits,
    /// How long bytes may wait for an agent that reads none.
    pub(crate) write_stall: Duration,
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
    #[error("the session was idle for too long in an open transaction")]
    IdleInTransaction,
    #[error("the appliance is stopping")]
    Drained,
    /// Statements did not end by the drain deadline.
    #[error("the session was cut at the drain deadline")]
    Cut,
    #[error("an operator ended the session")]
    Killed,
    #[error("revoked (revocation {})", .0.id)]
    Revoked(Arc<Revocation>),
    /// A new configuration no longer admits the principal.
    #[error("a new configuration withdrew the admission")]
    Withdrawn,
    /// A rule of the protocol was broken, or recording became impossible.
    #[error("{}", crate::telemetry::chain(.0))]
    Fault(Fault),
}

/// How long an agent may say nothing outside of running statements; `None`: as long as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SilenceLimits {
    pub(crate) idle: Option<Duration>,
    /// Of one that waits for notifications, which is nothing else than to be silent.
    pub(crate) listening: Option<Duration>,
    /// Of one with an open transaction.
    pub(crate) in_transaction: Option<Duration>,
}

/// In what state a session is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Quiet {
    listens: bool,
    in_transaction: bool,
}

/// Watches that an agent speaks.
struct Silence {
    timer: Timer,
    limits: SilenceLimits,
    since: Instant,
    /// What the timer is set for.
    quiet: Quiet,
}

/// Watches that a statement takes no longer than it may.
#[derive(Default)]
struct Overtime {
    /// The request that runs, and when its time is up.
    running: Option<(u64, Timer)>,
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
        let windows = next_window(&exchange);
        Self {
            agent,
            lease,
            flow: Flow::new(exchange, from_agent),
            registration,
            lifetime: Timer::at(times.ends),
            silence: Silence::watch(times.silence, now),
            stall: Stall {
                timer: Timer::at(now + times.write_stall),
                limit: times.write_stall,
                queued: 0,
            },
            windows,
            overtime: Overtime::default(),
            hold: Hold::default(),
            rest: None,
            asked_at: None,
            configuration: shard.published().subscribe(),
            turnstile: Rc::clone(shard.turnstile()),
        }
    }

    /// Runs until the session ends, says goodbye, and gives the upstream back.
    pub(crate) async fn run(mut self: Box<Self>, shard: &Rc<Shard>) -> End {
        let end = poll_fn(|context| self.poll(shard, context)).await;
        let leaves_running = !self.flow.exchange().is_quiescent();
        if end.leaves_target_usable() && leaves_running {
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
        let exchange = self.flow.exchange_mut();
        self.hold.end(&end, exchange);
        if !exchange.agent_is_mid_message() {
            exchange.say_farewell(&end, &mut self.agent);
        }
        self.agent.close_send();
        if !matches!(end, End::AgentStalled | End::AgentUnreachable(_)) {
            // The agent may be gone or stuck; the session ends either way.
            let farewell = if end.is_enforced() {
                FAREWELL_OF_ENFORCED
            } else {
                FAREWELL
            };
            drop(self.agent.flush(runtime::now() + farewell).await);
        }
        let is_clean = self.flow.leaves_target_clean(&end, &self.lease)
            && !self.registration.session.was_cancelled();
        self.flow.record_end(&end);
        if end.is_enforced() && leaves_running {
            // The agent has its answer; the registration is kept, so that a drain waits for this.
            drop(self.agent);
            self.lease.stop(runtime::now() + STOPPED_WITHIN).await;
        } else {
            self.lease.finish(if is_clean {
                Outcome::Clean
            } else {
                Outcome::Tainted
            });
        }
        end
    }

    fn poll(&mut self, shard: &Shard, context: &mut Context<'_>) -> Poll<End> {
        if self.lifetime.poll_expired(context).is_ready() {
            return Poll::Ready(End::Lifetime);
        }
        if self.poll_admission(context) {
            return Poll::Ready(End::Withdrawn);
        }
        for _ in 0..TURNS_MAX {
            let draining = match self.registration.session.poll_signal(context) {
                Poll::Ready(Signal::Cut) => return Poll::Ready(End::Cut),
                Poll::Ready(Signal::Kill) => return Poll::Ready(End::Killed),
                Poll::Ready(Signal::Revoke) => {
                    let revocation = self.registration.session.revocation();
                    return Poll::Ready(revocation.map_or(End::Killed, End::Revoked));
                }
                Poll::Ready(Signal::Drain) => true,
                Poll::Pending => false,
            };
            match self.turn(shard, context) {
                Err(end) => return Poll::Ready(end),
                Ok(true) => {}
                Ok(false) if draining && self.poll_rest(context).is_ready() => {
                    return Poll::Ready(End::Drained);
                }
                Ok(false) => return self.poll_silence(context),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the admission is withdrawn: by a new configuration, or since a time window of the
    /// policy opened or closed.
    fn poll_admission(&mut self, context: &mut Context<'_>) -> bool {
        let exchange = self.flow.exchange_mut();
        let withdrawn = if let Poll::Ready(snapshot) = self.configuration.poll_changed(context) {
            exchange.adopt(snapshot, runtime::unix_time().as_secs())
        } else if let Some(windows) = &mut self.windows
            && windows.poll_expired(context).is_ready()
        {
            exchange.admit_anew(runtime::unix_time().as_secs())
        } else {
            return false;
        };
        self.windows = next_window(exchange);
        if let Some(windows) = &mut self.windows
            && windows.poll_expired(context).is_ready()
        {
            context.waker().wake_by_ref();
        }
        withdrawn
    }

    /// Moves what can be moved; `Ok(false)` when nothing can until somebody wakes us.
    fn turn(&mut self, shard: &Shard, context: &mut Context<'_>) -> Result<bool, End> {
        let exchange = self.flow.exchange_mut();
        exchange.set_time(|| runtime::unix_time().as_secs());
        let turned = self.flow.turn(&mut self.agent, &mut self.lease, context)?;
        let is_running = !self.flow.exchange().is_quiescent();
        let session = &self.registration.session;
        session.set_running(is_running);
        session.set_commands(self.flow.exchange().commands());
        match (is_running, self.asked_at) {
            (true, None) => self.asked_at = Some(runtime::now()),
            (false, Some(asked_at)) => {
                let took = runtime::now().saturating_duration_since(asked_at);
                shard.metrics().took(Phase::Answer, took);
                self.asked_at = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
        let moved = turned.moved | self.turn_hold(shard, context)?;
        if !self.hold.is_pending() {
            self.overtime.watch(self.flow.exchange_mut(), context);
        }
        if self.flow.exchange_mut().takes_cancel() {
            shard.cancel_abandoned(&self.registration.session);
        }
        if turned.agent_spoke
            && let Some(silence) = &mut self.silence
        {
            silence.broken(quiet(self.flow.exchange()));
        }
        if moved {
            self.turnstile.session_stepped();
        }
        Ok(moved)
    }

    /// Asks people and hears from them; whether that lets something be moved.
    fn turn_hold(&mut self, shard: &Shard, context: &mut Context<'_>) -> Result<bool, End> {
        let exchange = self.flow.exchange_mut();
        if !exchange.is_held() && !self.hold.is_pending() {
            return Ok(false);
        }
        let session = &self.registration.session;
        if session.takes_cancel_of_held() {
            self.hold.cancel();
        }
        let ended = self
            .hold
            .poll(shard, exchange, &mut self.agent, context)
            .map_err(End::Fault)?;
        if let Some(took) = ended {
            shard.metrics().took(Phase::Hold, took);
        }
        session.set_held(self.hold.is_pending());
        // What it was told.
        if let Poll::Ready(Err(error)) = self.agent.poll_flush(context) {
            return Err(End::AgentUnreachable(error));
        }
        Ok(ended.is_some())
    }

    /// Whether a drain may end it: no statement runs, no transaction is open, and the client has had
    /// the time to say why it came.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // What waits for people is not running, and nobody knows for how long it would.
        if self.hold.is_pending() {
            return Poll::Ready(());
        }
        if !self.flow.exchange().at_rest() {
            return Poll::Pending;
        }
        let from = self.registration.session.may_rest_from();
        let timer = self.rest.get_or_insert_with(|| Timer::at(from));
        timer.poll_expired(context)
    }

    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if let Some(silence) = &mut self.silence {
            let quiet = quiet(self.flow.exchange());
            if !self.flow.exchange().is_quiescent() || self.hold.is_pending() {
                silence.broken(quiet);
            }
            if silence.poll_too_long(quiet, context).is_ready() {
                return Poll::Ready(silence.limits.end(quiet));
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

/// When to look at the time again; `None` where no rule is about some hours.
fn next_window(exchange: &Exchange) -> Option<Timer> {
    let change = Duration::from_secs(exchange.policy_changes()?);
    let wait = change.saturating_sub(runtime::unix_time());
    Some(Timer::at(runtime::now() + wait.min(CLOCK_TRUSTED)))
}

impl Overtime {
    fn watch(&mut self, exchange: &mut Exchange, context: &mut Context<'_>) {
        let Some((request, limit)) = exchange.timed_request() else {
            self.running = None;
            return;
        };
        let is_known = self
            .running
            .as_ref()
            .is_some_and(|(known, _)| *known == request);
        if !is_known {
            self.running = Some((request, Timer::at(runtime::now() + limit)));
        }
        if let Some((_, timer)) = &mut self.running
            && timer.poll_expired(context).is_ready()
        {
            // A cancel that comes before the server has begun, or between two statements, does
            // nothing: it is told again until the request has its answer.
            timer.reset(runtime::now() + TELL_AGAIN);
            // Not ready yet: asked so that it wakes us.
            let _ = timer.poll_expired(context);
            exchange.time_is_up(request);
        }
    }
}

fn quiet(exchange: &Exchange) -> Quiet {
    Quiet {
        listens: exchange.listens(),
        in_transaction: exchange.has_open_transaction(),
    }
}

impl SilenceLimits {
    fn limit(&self, quiet: Quiet) -> Option<Duration> {
        let idle = if quiet.listens {
            self.listening
        } else {
            self.idle
        };
        let in_transaction = self.in_transaction.filter(|_| quiet.in_transaction);
        idle.into_iter().chain(in_transaction).min()
    }

    /// As what a silence that was too long ends a session.
    fn end(&self, quiet: Quiet) -> End {
        if quiet.in_transaction && self.limit(quiet) == self.in_transaction {
            End::IdleInTransaction
        } else {
            End::Idle
        }
    }
}

impl Silence {
    /// `None` when no silence is too long.
    fn watch(limits: SilenceLimits, now: Instant) -> Option<Self> {
        let first = limits.idle.or(limits.listening).or(limits.in_transaction)?;
        Some(Self {
            timer: Timer::at(now + first),
            limits,
            since: now,
            quiet: Quiet {
                listens: false,
                in_transaction: false,
            },
        })
    }

    /// The agent speaks, or waits for an answer.
    fn broken(&mut self, quiet: Quiet) {
        self.since = runtime::now();
        self.set_for(quiet);
    }

    fn set_for(&mut self, quiet: Quiet) {
        self.quiet = quiet;
        if let Some(limit) = self.limits.limit(quiet) {
            self.timer.reset(self.since + limit);
        }
    }

    fn poll_too_long(&mut self, quiet: Quiet, context: &mut Context<'_>) -> Poll<()> {
        if quiet != self.quiet {
            self.set_for(quiet);
        }
        match self.limits.limit(quiet) {
            Some(_) => self.timer.poll_expired(context),
            None => Poll::Pending,
        }
    }
}

impl End {
    /// Whether it is forced on an agent that may no longer do anything.
    fn is_enforced(&self) -> bool {
        matches!(
            self,
            Self::Killed | Self::Revoked(_) | Self::Withdrawn | Self::Lifetime
        )
    }

    /// Whether the upstream may still be in order. The exchange knows the rest.
    fn leaves_target_usable(&self) -> bool {
        match self {
            Self::AgentLeft
            | Self::AgentUnreachable(_)
            | Self::AgentStalled
            | Self::Lifetime
            | Self::Idle
            | Self::IdleInTransaction
            | Self::Drained
            | Self::Cut
            | Self::Killed
            | Self::Revoked(_)
            | Self::Withdrawn => true,
            Self::TargetEnded | Self::TargetClosed | Self::TargetLost(_) | Self::Fault(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
