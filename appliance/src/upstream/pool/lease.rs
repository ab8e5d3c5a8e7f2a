//! A connection while it belongs to one session, and its way back.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use codecs::postgres::backend::ParameterStatus;
use runtime::{Timer, now, spawn};

use super::target::{PoolKey, Slot};
use crate::upstream::attribution::Attribution;
use crate::upstream::cancel::{CancelHandle, cancel};
use crate::upstream::catalogue::Connected;
use crate::upstream::conversation::{Conversation, Exchange, Parameters};
use crate::upstream::credentials::Account;
use crate::upstream::dial::{BackendKey, Established, has_forced_settings};
use crate::upstream::error::{Phase, UpstreamError, Violation};
use crate::upstream::resolve::Resolver;
use crate::upstream::role::{Role, SessionAttrs};
use crate::upstream::server::{Endpoint, Server};
use crate::upstream::settings::TargetSettings;
use runtime::transport::Transport;

/// How long the server may take to forget a session. Dropping many temporary tables takes a while.
const RESET_DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection that is closed holds its slot, so that the server has ended the old
/// session before it sees a new one.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Between two requests to cancel what runs on a connection that is stopped: doubled each time, up
/// to the last.
const STOP_PAUSE_FIRST: Duration = Duration::from_millis(50);
const STOP_PAUSE_MAX: Duration = Duration::from_secs(2);

/// A connection of the pool, in whichever state.
pub(super) struct Connection {
    pub(super) conversation: Conversation,
    pub(super) key: Rc<PoolKey>,
    account: Arc<Account>,
    server: Server,
    backend_key: Option<BackendKey>,
    pub(super) retire_at: Instant,
    pub(super) idle_since: Instant,
    slot: Slot,
}

/// How a session left its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing pending, outside a transaction, every message of the server read to its end, and
    /// nothing done that `DISCARD ALL` does not undo: no LOAD, dblink, `setseed`, code in
    /// untrusted languages, or cancel request that may still be on its way.
    Clean,
    /// Anything else.
    Tainted,
}

/// An upstream connection that belongs to one session.
///
/// Dropping it ends the connection: that is always safe, and never the way of an orderly session.
#[must_use]
pub struct Lease(Box<Connection>);

impl Lease {
    pub(super) fn new(connection: Box<Connection>) -> Self {
        Self(connection)
    }

    /// Nothing is unread or unsent: the session starts at a message boundary, outside a
    /// transaction.
    pub fn transport(&mut self) -> &mut Transport {
        &mut self.0.conversation.transport
    }

    /// Bytes for the server that the kernel has not taken yet.
    pub fn queued_bytes(&self) -> usize {
        self.0.conversation.transport.queued_bytes()
    }

    /// What the server last reported, including the `application_name` of the attribution.
    pub fn parameters(&self) -> &Parameters {
        self.0.conversation.parameters()
    }

    /// Keeps the list current: the server does not report again what has not changed since.
    ///
    /// # Errors
    /// `TooManyMessages` when the server reports more settings than any PostgreSQL has;
    /// `UnsafeSettings` when it reads statements in another way from now on than they are judged.
    pub fn handle_parameter_status(
        &mut self,
        status: &ParameterStatus<'_>,
    ) -> Result<(), UpstreamError> {
        let parameters = self.0.conversation.parameters_mut();
        let phase = Phase::Session;
        parameters
            .set(status)
            .ok_or_else(|| UpstreamError::protocol(phase, Violation::TooManyMessages))?;
        if has_forced_settings(parameters) {
            Ok(())
        } else {
            Err(UpstreamError::protocol(phase, Violation::UnsafeSettings))
        }
    }

    /// The server's process, as its log names it; `None` for servers that cannot cancel.
    pub fn process_id(&self) -> Option<u32> {
        self.0.backend_key.as_ref().map(|key| key.process_id)
    }

    /// What [`cancel`](crate::upstream::cancel()) takes, on whichever shard; `None` for servers
    /// that cannot cancel.
    pub fn cancel_handle(&self) -> Option<CancelHandle> {
        let connection = &self.0;
        let key = connection.backend_key.clone()?;
        Some(CancelHandle {
            account: connection.account.clone(),
            server: connection.server.clone(),
            key,
        })
    }

    /// What it is connected to.
    pub(super) fn connected<'l>(&'l self, target: &'l Arc<TargetSettings>) -> Connected<'l> {
        let connection = &self.0;
        Connected {
            target,
            account: &connection.account,
            database: &connection.key.login.database,
            server: &connection.server,
        }
    }

    /// Ends the connection with all that runs on it, and waits until `deadline` for the server to
    /// have done so.
    ///
    /// What is queued and has not left does not leave any more. The server is asked to cancel over
    /// and over: a request that reaches it before it has begun with a statement, or between two,
    /// does nothing.
    pub async fn stop(self, deadline: Instant) {
        let handle = self.cancel_handle();
        let Connection {
            mut conversation,
            slot,
            ..
        } = *self.0;
        let mut open = None;
        if conversation.transport.queued_bytes() == 0 {
            conversation.say_goodbye();
            open = Some(conversation);
        } else {
            conversation.break_off();
        }
        let mut pause = STOP_PAUSE_FIRST;
        loop {
            let until = deadline.min(now() + pause);
            let has_ended = match &mut open {
                Some(conversation) => conversation.has_ended(until).await,
                None => {
                    Timer::at(until).expired().await;
                    // Nothing tells: the server is asked until the pause is longest.
                    pause == STOP_PAUSE_MAX
                }
            };
            if has_ended || now() >= deadline {
                break;
            }
            let Some(handle) = &handle else { break };
            // One that does not get through is followed by another.
            if let Err(error) = cancel(handle, deadline.min(now() + STOP_PAUSE_MAX)).await {
                tracing::warn!(%error, "a cancel did not reach the target");
            }
            pause = (pause * 2).min(STOP_PAUSE_MAX);
        }
        drop(open);
        drop(slot);
    }

    /// Gives the connection back. The reset goes on in the background.
    pub fn finish(self, outcome: Outcome) {
        match outcome {
            Outcome::Clean => spawn(reset(self.0)),
            Outcome::Tainted => self.0.close(),
        }
    }
}

impl Connection {
    pub(super) fn new(
        established: Established,
        key: Rc<PoolKey>,
        account: Arc<Account>,
        retire_at: Instant,
        slot: Slot,
    ) -> Box<Self> {
        let Established {
            conversation,
            key: backend_key,
            server,
        } = established;
        Box::new(Self {
            conversation,
            key,
            account,
            server,
            backend_key,
            retire_at,
            idle_since: now(),
            slot,
        })
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Whether the target, as it is now, would have such a connection made.
    pub(super) fn is_of(&self, target: &TargetSettings) -> bool {
        let login = &self.key.login;
        target.describes(&self.server.address, &login.database, login.account)
    }

    /// Whether its server is no longer among those that the host's name stands for.
    pub(super) fn has_moved(&self, resolver: &Resolver) -> bool {
        match (self.server.address.endpoint(), &self.server.endpoint) {
            (Err(name), Endpoint::Tcp(address)) => resolver.has_left(&name, *address),
            (Ok(_) | Err(_), Endpoint::Tcp(_) | Endpoint::Unix(_)) => false,
        }
    }

    /// Names the agent to the server, which at the same time says whether its role is still the
    /// one that is asked for: a standby that became a primary reports so with its next answer.
    pub(super) async fn attribute(
        &mut self,
        attribution: &Attribution,
        attrs: SessionAttrs,
        deadline: Instant,
    ) -> Result<(), UpstreamError> {
        let before = Role::of(self.conversation.parameters());
        let statements = attribution.statements();
        let exchange = Exchange {
            phase: Phase::Attribution,
            deadline,
        };
        self.conversation
            .query(exchange, &statements.sql, statements.count)
            .await?;
        let mut role = Role::of(self.conversation.parameters());
        if attribution.is_read_only()
            && let (Some(now), Some(before)) = (role, before)
        {
            role = Some(now.with_default_of(before));
        }
        if attrs.accepts(role) {
            Ok(())
        } else {
            Err(UpstreamError::WrongRole)
        }
    }

    /// Whether the connection is neither too old nor dead nor to a server of the wrong role, as
    /// far as can be seen without a round trip.
    pub(super) fn is_usable(&mut self, attrs: SessionAttrs, watcher: &Waker) -> bool {
        let mut cx = Context::from_waker(watcher);
        now() < self.retire_at
            && self.conversation.check_idle(Phase::Reset, &mut cx).is_ok()
            && attrs.accepts(Role::of(self.conversation.parameters()))
    }

    /// Says goodbye to the server in the background.
    pub(super) fn close(self: Box<Self>) {
        let Self {
            conversation, slot, ..
        } = *self;
        spawn(async move {
            conversation.close(now() + CLOSE_DEADLINE).await;
            drop(slot);
        });
    }
}

/// Brings a connection back to the state after log-in, or closes it.
async fn reset(mut connection: Box<Connection>) {
    let Some(pool) = connection.slot.pool() else {
        return;
    };
    if pool.is_draining() || now() >= connection.retire_at {
        return connection.close();
    }
    let exchange = Exchange {
        phase: Phase::Reset,
        deadline: now() + RESET_DEADLINE,
    };
    let discarded = connection
        .conversation
        .query(exchange, "DISCARD ALL", 1)
        .await;
    if discarded.is_ok() && has_forced_settings(connection.conversation.parameters()) {
        connection.idle_since = now();
        pool.take_back(connection);
    } else {
        connection.close();
    }
}
