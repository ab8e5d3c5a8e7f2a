//! The sessions alive on one shard, and how to reach one from outside its task.
//!
//! A session is found by what its client got in `BackendKeyData`: the process id is that of the
//! server's own process, as `pg_backend_pid()` and notifications have it, and the secret, which
//! is ours, also says which shard the session is on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use codecs::postgres::auth::same_secret;
use policy::Principal;
use runtime::{DeadlinePassed, ShardId};

use crate::recorder::SessionId;
use crate::revocation::{Revocable, Revocation, RevocationSet};
use crate::upstream::CancelHandle;

/// Bytes at the front of a secret whose remainder by the number of shards is the shard.
///
/// It costs a secret of protocol 3.0, which has four bytes, the logarithm of that number in bits.
const SHARD_BYTES: usize = 4;

/// How long a session is left alone by a drain after its login.
///
/// 500 ms: a client that connects to ask one thing asks within a round trip or two. Whoever keeps
/// connections open is older, and goes at once.
const FIRST_WORDS: Duration = Duration::from_millis(500);

/// Where a session is kept: two targets may have processes of the same number.
type Place = (u32, u64);

/// Per shard.
#[derive(Default)]
pub(crate) struct Sessions {
    alive: RefCell<BTreeMap<Place, Rc<Session>>>,
    registered: Cell<u64>,
    /// Also for sessions that begin from here on.
    draining: Cell<bool>,
    /// Woken when the last session leaves.
    emptied: RefCell<Option<Waker>>,
}

/// One live session as others see it.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    secret: Vec<u8>,
    about: About,
    commands: Cell<u64>,
    revocable: Revocable,
    /// What cut it off, once that is signalled.
    revocation: RefCell<Option<Arc<Revocation>>>,
    /// `None`: the target knows no cancel.
    cancel: Option<CancelHandle>,
    signal: Cell<Option<Signal>>,
    began: Instant,
    waker: RefCell<Option<Waker>>,
    /// Set while a statement is running upstream; a cancel outside of it does nothing.
    running: Cell<bool>,
    /// Set while people decide about what it sent; a cancel withdraws that.
    held: Cell<bool>,
    /// Somebody cancelled meanwhile.
    cancels_held: Cell<bool>,
    /// Set once a cancel went upstream: the connection may be hit late, so no pool takes it back.
    cancelled: Cell<bool>,
}

/// Whose session it is, and where. For those who look on.
pub(crate) struct About {
    pub(crate) principal: Arc<Principal>,
    pub(crate) target: policy::Target,
    /// In seconds since 1970.
    pub(crate) since: u64,
}

/// One live session, as it is listed.
#[derive(Debug, Clone)]
pub struct LiveSession {
    pub id: SessionId,
    pub principal: Arc<Principal>,
    pub target: policy::Target,
    /// When it began, in seconds since 1970.
    pub since: u64,
    pub state: LiveState,
    /// Commands that it has sent so far.
    pub commands: u64,
}

/// What a live session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveState {
    /// Every request has its answer.
    Idle,
    /// The target works for it.
    Running,
    /// What it sent waits for people.
    Held,
}

impl LiveState {
    /// As the API has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Held => "held",
        }
    }
}

/// What somebody outside asks of a session; a later, stronger one replaces an earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    /// End at the next moment without a running statement or open transaction.
    Drain,
    /// End now: the time to come to rest is over.
    Cut,
    /// End now: an operator says so.
    Kill,
    /// End now: the principal, the session or the target is revoked.
    Revoke,
}

/// The registration of a session; leaving happens on drop.
#[must_use]
pub(crate) struct Registration {
    sessions: Rc<Sessions>,
    place: Place,
    pub(crate) session: Rc<Session>,
}

impl Sessions {
    /// Registers a session. `process_id` is that of the server's process.
    pub(crate) fn register(
        self: &Rc<Self>,
        id: SessionId,
        process_id: u32,
        secret: Vec<u8>,
        cancel: Option<CancelHandle>,
        about: About,
    ) -> Registration {
        let session = Rc::new(Session {
            id,
            secret,
            revocable: Revocable::of(&about.principal, id, &about.target),
            about,
            commands: Cell::new(0),
            revocation: RefCell::new(None),
            cancel,
            signal: Cell::new(self.draining.get().then_some(Signal::Drain)),
            began: runtime::now(),
            waker: RefCell::new(None),
            running: Cell::new(false),
            held: Cell::new(false),
            cancels_held: Cell::new(false),
            cancelled: Cell::new(false),
        });
        let place = (process_id, self.registered.get());
        self.registered.set(self.registered.get() + 1);
        self.alive.borrow_mut().insert(place, Rc::clone(&session));
        Registration {
            sessions: Rc::clone(self),
            place,
            session,
        }
    }

    /// The session that a `CancelRequest` names, if the secret is right.
    pub(crate) fn cancellable(&self, process_id: u32, secret: &[u8]) -> Option<Rc<Session>> {
        let alive = self.alive.borrow();
        let mut named = alive.range((process_id, 0)..=(process_id, u64::MAX));
        let (_, session) = named.find(|(_, session)| same_secret(&session.secret, secret))?;
        Some(Rc::clone(session))
    }

    /// Signals every session.
    pub(crate) fn signal_all(&self, signal: Signal) {
        // Copied out: a woken session may end and leave while we go through them.
        let sessions: Vec<Rc<Session>> = self.alive.borrow().values().cloned().collect();
        for session in sessions {
            session.signal(signal);
        }
    }

    /// Has every session end at its next rest, those that begin from here on too.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        self.signal_all(Signal::Drain);
    }

    /// Signals the session of that id, if it is here.
    pub(crate) fn kill(&self, id: SessionId) -> bool {
        // Looked for one by one: operators end few sessions by hand.
        let found = {
            let alive = self.alive.borrow();
            alive.values().find(|session| session.id == id).cloned()
        };
        if let Some(session) = &found {
            session.signal(Signal::Kill);
        }
        found.is_some()
    }

    /// Signals every session that is revoked at `now`, in seconds since 1970.
    pub(crate) fn revoke(&self, set: &RevocationSet, now: u64) {
        // Copied out, as for `signal_all`.
        let revoked: Vec<_> = {
            let alive = self.alive.borrow();
            let sessions = alive.values();
            sessions
                .filter_map(|session| {
                    let revocation = set.find(&session.revocable, now)?;
                    Some((Rc::clone(session), Arc::clone(revocation)))
                })
                .collect()
        };
        for (session, revocation) in revoked {
            session.revocation.replace(Some(revocation));
            session.signal(Signal::Revoke);
        }
    }

    /// Waits until no session is alive.
    ///
    /// # Errors
    /// `DeadlinePassed` while some are.
    pub(crate) async fn emptied(&self, deadline: Instant) -> Result<(), DeadlinePassed> {
        let empty = poll_fn(|context| {
            if self.alive.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.emptied.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        });
        runtime::with_deadline(deadline, empty).await
    }

    /// All of them.
    pub(crate) fn list(&self) -> Vec<LiveSession> {
        let alive = self.alive.borrow();
        alive.values().map(|session| session.listed()).collect()
    }

    /// How many sessions are alive.
    pub(crate) fn alive(&self) -> usize {
        self.alive.borrow().len()
    }
}

/// Makes `secret` say that its session is on `shard`, one of `shards`.
pub(crate) fn mark_secret(secret: &mut [u8], shard: ShardId, shards: usize) {
    let Some(front) = secret.first_chunk_mut::<SHARD_BYTES>() else {
        return;
    };
    let (Ok(shards), shard) = (u32::try_from(shards), u32::from(shard.0)) else {
        return;
    };
    let number = u32::from_be_bytes(*front);
    let multiple = number - number.checked_rem(shards).unwrap_or(0);
    let marked = multiple.checked_add(shard);
    // The last multiple may have no room for every shard behind it.
    *front = marked
        .unwrap_or_else(|| multiple - shards + shard)
        .to_be_bytes();
}

/// The shard that handed out `secret`, if any of `shards` did.
pub(crate) fn shard_of(secret: &[u8], shards: usize) -> Option<ShardId> {
    let front = secret.first_chunk::<SHARD_BYTES>()?;
    let shard = u32::from_be_bytes(*front).checked_rem(u32::try_from(shards).ok()?)?;
    u16::try_from(shard).ok().map(ShardId)
}

impl Session {
    /// Raises `signal` and wakes the session's task.
    pub(crate) fn signal(&self, signal: Signal) {
        self.signal.set(self.signal.get().max(Some(signal)));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The strongest signal raised so far; registers the task to be woken by the next.
    pub(crate) fn poll_signal(&self, context: &mut Context<'_>) -> Poll<Signal> {
        // Also with a signal at hand: a stronger one may follow it.
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
        self.signal.get().map_or(Poll::Pending, Poll::Ready)
    }

    /// When a drain may end it for being at rest.
    pub(crate) fn may_rest_from(&self) -> Instant {
        self.began + FIRST_WORDS
    }

    /// What cut it off; `None` while nothing has.
    pub(crate) fn revocation(&self) -> Option<Arc<Revocation>> {
        self.revocation.borrow().clone()
    }

    /// Everything about it that a revocation can name.
    pub(crate) fn revocable(&self) -> &Revocable {
        &self.revocable
    }

    /// Where a cancel for the running statement goes; `None` when nothing runs.
    pub(crate) fn begin_cancel(&self) -> Option<&CancelHandle> {
        if self.held.get() {
            self.cancels_held.set(true);
            self.wake();
        }
        if !self.running.get() {
            return None;
        }
        self.cancelled.set(true);
        self.cancel.as_ref()
    }

    /// Where cancels for this session go.
    pub(crate) fn cancel_handle(&self) -> Option<&CancelHandle> {
        self.cancel.as_ref()
    }

    fn listed(&self) -> LiveSession {
        let state = match (self.held.get(), self.running.get()) {
            (true, _) => LiveState::Held,
            (false, true) => LiveState::Running,
            (false, false) => LiveState::Idle,
        };
        LiveSession {
            id: self.id,
            principal: Arc::clone(&self.about.principal),
            target: self.about.target.clone(),
            since: self.about.since,
            state,
            commands: self.commands.get(),
        }
    }

    pub(crate) fn set_running(&self, running: bool) {
        self.running.set(running);
    }

    /// How many commands it has sent so far.
    pub(crate) fn set_commands(&self, commands: u64) {
        self.commands.set(commands);
    }

    /// People decide about what it sent, or have done so.
    pub(crate) fn set_held(&self, held: bool) {
        self.held.set(held);
        self.cancels_held.set(self.cancels_held.get() && held);
    }

    /// Whether what is held was cancelled; says so once.
    pub(crate) fn takes_cancel_of_held(&self) -> bool {
        self.cancels_held.take()
    }

    /// Whether a cancel was ever sent for this session's upstream.
    pub(crate) fn was_cancelled(&self) -> bool {
        self.cancelled.get()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut alive = self.sessions.alive.borrow_mut();
        alive.remove(&self.place);
        if alive.is_empty()
            && let Some(waker) = self.sessions.emptied.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        let principal = Principal {
            issuer: "https://idp".into(),
            subject: "alice".into(),
            name: "Alice".into(),
            groups: Vec::new(),
            delegation: Vec::new(),
            token_id: None,
            expires: 0,
            proof: policy::Proof::Password,
        };
        About {
            principal: Arc::new(principal),
            target: policy::Target::named("orders"),
            since: 1,
        }
    }

    #[test]
    fn a_secret_says_which_shard_it_is_of() {
        for secret in [[0; 4], [1, 2, 3, 4], [255; 4], [255, 255, 255, 250]] {
            for shards in [1, 2, 3, 7, 512] {
                for shard in 0..shards {
                    let shard = ShardId(u16::try_from(shard).unwrap());
                    let mut marked = secret;
                    mark_secret(&mut marked, shard, shards);
                    assert_eq!(
                        shard_of(&marked, shards),
                        Some(shard),
                        "{secret:?} {shards}"
                    );
                }
            }
        }
        assert_eq!(shard_of(&[1, 2, 3], 2), None);
        assert_eq!(shard_of(&[1, 2, 3, 4], 0), None);
    }

    #[test]
    fn of_two_sessions_with_processes_of_one_number_the_secret_tells() {
        let sessions = Rc::new(Sessions::default());
        let register = |process_id, secret: &[u8]| {
            sessions.register(
                SessionId::from_bytes([0; 16]),
                process_id,
                secret.to_vec(),
                None,
                about(),
            )
        };
        let one = register(7, b"one!");
        let other = register(7, b"two!");
        let _neighbour = register(8, b"one!");
        let found = |process_id, secret: &[u8]| sessions.cancellable(process_id, secret);
        assert!(Rc::ptr_eq(&found(7, b"one!").unwrap(), &one.session));
        assert!(Rc::ptr_eq(&found(7, b"two!").unwrap(), &other.session));
        assert!(found(8, b"two!").is_none());
        assert!(found(9, b"one!").is_none());
        drop(one);
        assert!(found(7, b"one!").is_none());
        assert_eq!(sessions.alive(), 2);
    }
}
