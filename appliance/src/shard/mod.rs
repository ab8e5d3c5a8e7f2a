//! One shard: what it owns, how it accepts, and how it stops.
//!
//! A shard owns its listeners, sessions, pools, caches and journal outright;
//! nothing of it is shared with another shard but immutable snapshots and mailboxes.

pub(crate) mod entrance;
pub(crate) mod gate;
mod listening;
pub mod mailbox;
pub(crate) mod sessions;
pub(crate) mod turnstile;

pub use listening::BindError;
pub use sessions::{LiveSession, LiveState};

use std::cell::Cell;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use runtime::{Listener, Published, ShardId};

use crate::approvals::Approvals;
use crate::budgets::Ledger;
use crate::config::{ListenerSettings, Snapshot};
use crate::connection::{self, Closed};
use crate::downstream::origin::Origin;
use crate::identity::{KeyRefresh, RemoteKeys, SourceId, TokenCache};
use crate::protocols::postgres::classify::Classifier;
use crate::protocols::postgres::greet::{CancelKey, GreetError};
use crate::recorder::{Journal, JournalHandle, OpenJournalError, SessionId};
use crate::revocation::{Revocation, RevocationSet};
use crate::telemetry::metrics::{PoolObservation, ShardMetrics, ShardObservation};
use crate::upstream::{self, CancelHandle, Pools, ShardPart};

use entrance::Entrance;
use gate::{Arrivals, Arriving, Gate};
use mailbox::{Directory, Seat, Seats, ToShard};
use sessions::{About, Registration, Session, Sessions, Signal};
use turnstile::Turnstile;

/// How long sessions get to say goodbye after they were cut at the drain deadline.
const LAST_WORDS: Duration = Duration::from_secs(6);

/// How long logins that had begun before a drain get to come to an end. A client that means it takes
/// milliseconds; a stranger that says nothing must not hold up a restart.
const LAST_LOGINS: Duration = Duration::from_secs(3);

/// How often broken-off logins get a line in the log.
const FAILURES_EVERY: Duration = Duration::from_secs(10);

/// Per shard.
pub(crate) struct Shard {
    id: ShardId,
    published: Published<Snapshot>,
    revocations: Published<RevocationSet>,
    journal: Rc<Journal>,
    pools: Pools,
    keys: Published<RemoteKeys>,
    key_refresh: KeyRefresh,
    tokens: TokenCache,
    classifier: Rc<Classifier>,
    sessions: Rc<Sessions>,
    entrance: Rc<Entrance>,
    arrivals: Rc<Arrivals>,
    turnstile: Rc<Turnstile>,
    ledger: Arc<Ledger>,
    metrics: Rc<ShardMetrics>,
    approvals: Approvals,
    directory: Directory,
    random: SystemRandom,
    /// Since when, and how many peers broke off without a line of their own.
    failed_greetings: Cell<(Instant, u64)>,
}

/// What every shard is started with.
#[derive(Clone)]
pub struct Environment {
    pub published: Published<Snapshot>,
    pub revocations: Published<RevocationSet>,
    pub keys: Published<RemoteKeys>,
    pub key_refresh: KeyRefresh,
    pub recorder: JournalHandle,
    pub seats: Arc<Seats>,
    pub directory: Directory,
    pub ledger: Arc<Ledger>,
    pub approvals: Approvals,
}

/// Why a shard could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    #[error("the shard was started twice")]
    SeatTaken,
    #[error("the journal ring can not be opened")]
    Journal(#[source] OpenJournalError),
    #[error("a listener is unusable")]
    Listener(#[source] std::io::Error),
}

/// Runs one shard until it is drained.
///
/// # Errors
/// `ShardError` when it can not start; sessions' failures stay with their sessions.
pub async fn run(id: ShardId, environment: Environment) -> Result<(), ShardError> {
    let Seat {
        listeners,
        mut mailbox,
    } = environment.seats.take(id).ok_or(ShardError::SeatTaken)?;
    let journal = Journal::open(&environment.recorder, id).map_err(ShardError::Journal)?;
    let part = ShardPart {
        shard: id.0.into(),
        shards: environment.directory.shards(),
    };
    let shard = Rc::new(Shard {
        id,
        pools: Pools::new(part),
        published: environment.published,
        revocations: environment.revocations,
        keys: environment.keys,
        key_refresh: environment.key_refresh,
        journal,
        tokens: TokenCache::new(),
        classifier: Classifier::new(),
        sessions: Rc::new(Sessions::default()),
        entrance: Entrance::new(),
        arrivals: Rc::default(),
        turnstile: Turnstile::attended(),
        ledger: environment.ledger,
        metrics: Rc::default(),
        approvals: environment.approvals,
        directory: environment.directory,
        random: SystemRandom::new(),
        failed_greetings: Cell::new((runtime::now(), 0)),
    });
    follow_targets(&shard);
    follow_revocations(&shard);
    let gate = Rc::new(Gate::default());
    for (socket, settings) in listeners {
        let settings = Rc::new(settings);
        let listener = Listener::from_fd(socket).map_err(ShardError::Listener)?;
        let shard = Rc::clone(&shard);
        let gate = Rc::clone(&gate);
        runtime::spawn(async move {
            // It may let somebody in while the gate closes.
            let accepting = shard.arrivals.begin();
            accept(&shard, listener, &settings, &gate).await;
            drop(accepting);
        });
    }
    let deadline = loop {
        match mailbox.recv().await {
            Some(ToShard::Drain { deadline }) => break deadline,
            Some(message) => answer(&shard, message),
            // The control plane is gone; so is everybody who could ask for anything.
            None => break runtime::now(),
        }
    };
    gate.close();
    let mut drained = pin!(shard.drain(deadline));
    poll_fn(|context| {
        // What is asked meanwhile is answered until the last session has left.
        while let Poll::Ready(Some(message)) = mailbox.poll_recv(context) {
            answer(&shard, message);
        }
        drained.as_mut().poll(context)
    })
    .await;
    Ok(())
}

/// Does what a message asks, but for a drain, which begins once.
fn answer(shard: &Rc<Shard>, message: ToShard) {
    match message {
        ToShard::Cancel {
            process_id,
            secret,
            done,
        } => {
            let shard = Rc::clone(shard);
            runtime::spawn(async move {
                let deadline = runtime::now() + shard.snapshot().limits.login_deadline;
                shard.cancel(process_id, &secret, deadline).await;
                // Whoever asked may have given up.
                let _ = done.send(());
            });
        }
        ToShard::Observe { reply } => {
            // Whoever asked may have given up.
            let _ = reply.send(shard.observe());
        }
        ToShard::List { reply } => {
            // Whoever asked may have given up.
            let _ = reply.send(shard.sessions.list());
        }
        ToShard::Check { target, reply } => {
            runtime::spawn(async move {
                // Whoever asked may have given up.
                let _ = reply.send(upstream::check(&target).await);
            });
        }
        ToShard::Kill { session, done } => {
            // Whoever asked may have given up.
            let _ = done.send(shard.sessions.kill(session));
        }
        ToShard::Drain { .. } => {}
    }
}

/// Keeps the pools to the targets of the configuration in force.
fn follow_targets(shard: &Rc<Shard>) {
    let mut configuration = shard.published.subscribe();
    shard.pools.retarget(configuration.current().targets.iter());
    let shard = Rc::downgrade(shard);
    runtime::spawn(async move {
        loop {
            let snapshot = configuration.changed().await;
            let Some(shard) = shard.upgrade() else {
                return;
            };
            shard.pools.retarget(snapshot.targets.iter());
        }
    });
}

/// Ends the sessions that a change of the revocations is about.
///
/// One task looks for all of them: a revocation wakes nobody else.
fn follow_revocations(shard: &Rc<Shard>) {
    let mut revocations = shard.revocations.subscribe();
    let shard = Rc::downgrade(shard);
    runtime::spawn(async move {
        loop {
            let set = revocations.changed().await;
            let Some(shard) = shard.upgrade() else {
                return;
            };
            shard.sessions.revoke(&set, runtime::unix_time().as_secs());
        }
    });
}

/// Accepts until the gate is closed. A handshake never keeps it from the next connection.
async fn accept(
    shard: &Rc<Shard>,
    mut listener: Listener,
    settings: &Rc<ListenerSettings>,
    gate: &Gate,
) {
    while let Some(accepted) = gate.accept(&mut listener).await {
        let socket = match accepted {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%error, "a listener is unusable");
                return;
            }
        };
        // Turning a thousand away must not take all of a turn.
        runtime::yield_if_needed().await;
        let peer = socket.peer_address();
        let limits = shard.snapshot().limits;
        let mut entered = shard.entrance.enter(limits.unauthenticated);
        if !settings.proxy_protocol.trust(peer) {
            entered = entered.and_then(|mut place| {
                place.belongs_to(peer, limits.unauthenticated_per_address)?;
                Ok(place)
            });
        }
        // Turned away without a word: words would cost what the bound saves.
        let Ok(place) = entered else {
            continue;
        };
        // Without keepalive a half-open peer is noticed later, by the write deadline.
        drop(socket.set_keepalive(&limits.keepalive));
        let shard = Rc::clone(shard);
        let settings = Rc::clone(settings);
        let arriving = shard.begin_arrival();
        runtime::spawn(async move {
            let arrival = match connection::arrive(&shard, &settings, socket, place, arriving).await
            {
                Ok(Some(arrival)) => arrival,
                Ok(None) => return,
                Err(error) => {
                    shard.note_failed_greeting(Origin::direct(peer), &error);
                    return;
                }
            };
            let peer = arrival.origin();
            match connection::serve(&shard, settings.proof, arrival).await {
                Ok(Closed::Cancel | Closed::Left) => {}
                Ok(Closed::Refused(refusal)) => {
                    shard.metrics.refused_login(refusal.word());
                    tracing::warn!(%peer, reason = %refusal, "login refused");
                }
                Ok(Closed::Session(end)) => {
                    tracing::info!(%peer, reason = %end, "session ended");
                }
                Err(error) => shard.note_failed_greeting(peer, &error),
            }
        });
    }
}

impl Shard {
    pub(crate) fn id(&self) -> ShardId {
        self.id
    }

    /// The configuration in force at this moment.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.published.load()
    }

    pub(crate) fn published(&self) -> &Published<Snapshot> {
        &self.published
    }

    pub(crate) fn journal(&self) -> &Rc<Journal> {
        &self.journal
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.pools
    }

    /// The keys of remote issuers that are in force at this moment.
    pub(crate) fn remote_keys(&self) -> Arc<RemoteKeys> {
        self.keys.load()
    }

    /// Has the control plane look for newer keys of an issuer, and waits until it has, or until the
    /// deadline. Which keys are in force afterwards is what counts.
    pub(crate) async fn seek_newer_keys(&self, source: SourceId, deadline: Instant) {
        if let Some(answer) = self.key_refresh.ask(source) {
            // Both a late and an absent answer leave the keys as they are.
            let _ = runtime::with_deadline(deadline, answer).await;
        }
    }

    pub(crate) fn tokens(&self) -> &TokenCache {
        &self.tokens
    }

    /// One more connection is on the way to its session.
    pub(crate) fn begin_arrival(&self) -> Arriving {
        self.arrivals.begin()
    }

    pub(crate) fn turnstile(&self) -> &Rc<Turnstile> {
        &self.turnstile
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    pub(crate) fn metrics(&self) -> &Rc<ShardMetrics> {
        &self.metrics
    }

    /// What there is to say about it at this moment.
    fn observe(&self) -> ShardObservation {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (masked_columns, masked_values) = self.classifier.masked_values();
        let (ring_used, ring_bytes) = self.journal.fill();
        let pools = self.pools.status().into_iter().map(|pool| PoolObservation {
            target: pool.name,
            open: count(pool.open),
            idle: count(pool.idle),
            waiting: count(pool.waiting),
            failing: pool.setback.is_some(),
        });
        ShardObservation {
            counts: self.metrics.counts(),
            sessions: count(self.sessions.alive()),
            panics: runtime::panics_contained(),
            masked_columns,
            masked_values,
            ring_used,
            ring_bytes,
            pools: pools.collect(),
        }
    }

    /// Where people are asked about held commands.
    pub(crate) fn approvals(&self) -> &Approvals {
        &self.approvals
    }

    pub(crate) fn classifier(&self) -> &Rc<Classifier> {
        &self.classifier
    }

    /// The revocations in force at this moment.
    pub(crate) fn revocations(&self) -> Arc<RevocationSet> {
        self.revocations.load()
    }

    /// What cut off a session that has just been registered.
    ///
    /// What is published later reaches it as a signal, since it is registered.
    pub(crate) fn revoked_meanwhile(&self, session: &Session) -> Option<Arc<Revocation>> {
        let now = runtime::unix_time().as_secs();
        let set = self.revocations();
        set.find(session.revocable(), now).cloned()
    }

    /// Registers a session; `None` when the shard holds as many as it may.
    pub(crate) fn register(
        &self,
        id: SessionId,
        process_id: u32,
        secret: Vec<u8>,
        cancel: Option<CancelHandle>,
        about: About,
    ) -> Option<Registration> {
        let is_full = self.sessions.alive() >= self.snapshot().limits.sessions;
        (!is_full).then(|| {
            self.sessions
                .register(id, process_id, secret, cancel, about)
        })
    }

    /// The secret of a session on this shard, for `BackendKeyData`.
    ///
    /// # Errors
    /// As [`Self::random_bytes`].
    pub(crate) fn session_secret(&self, bytes: usize) -> Result<Vec<u8>, NoRandomness> {
        let mut secret = self.random_bytes(bytes)?;
        sessions::mark_secret(&mut secret, self.id, self.directory.shards());
        Ok(secret)
    }

    /// Bytes that nobody can guess.
    ///
    /// # Errors
    /// When the kernel gives none; then there is no session.
    pub(crate) fn random_bytes(&self, count: usize) -> Result<Vec<u8>, NoRandomness> {
        let mut bytes = vec![0; count];
        self.random.fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(bytes)
    }

    /// A statement name of ours that no agent can guess.
    ///
    /// # Errors
    /// As [`Self::random_bytes`].
    pub(crate) fn random_name(&self) -> Result<String, NoRandomness> {
        let mut name = String::from("sallyport.");
        for byte in self.random_bytes(16)? {
            // Writing to a String does not fail.
            _ = write!(name, "{byte:02x}");
        }
        Ok(name)
    }

    /// Carries a `CancelRequest` to the shard whose session it names, and waits until it is done.
    pub(crate) async fn route_cancel(&self, key: CancelKey, deadline: Instant) {
        match sessions::shard_of(&key.secret, self.directory.shards()) {
            Some(owner) if owner == self.id => {
                self.cancel(key.process_id, &key.secret, deadline).await;
            }
            Some(owner) => {
                let (done, answered) = runtime::reply();
                let message = ToShard::Cancel {
                    process_id: key.process_id,
                    secret: key.secret,
                    done,
                };
                // A shard that can not be told leaves the statement running, as a lost packet would.
                if self.directory.send(owner, message).is_ok() {
                    // The peer is closed when it is done, or at the deadline: it learns neither.
                    let _ = runtime::with_deadline(deadline, answered).await;
                }
            }
            None => {}
        }
    }

    /// Cancels what the session runs, if the secret is its own.
    async fn cancel(&self, process_id: u32, secret: &[u8], deadline: Instant) {
        let session = self.sessions.cancellable(process_id, secret);
        if let Some(session) = session {
            self.cancel_running(&session, deadline).await;
        }
    }

    /// Cancels what the session runs, and waits until the target was told.
    pub(crate) async fn cancel_running(&self, session: &Session, deadline: Instant) {
        if let Some(target) = session.begin_cancel() {
            tell_target(session.id, target, deadline).await;
        }
    }

    /// Cancels a statement without waiting: nobody reads its answer to the end.
    pub(crate) fn cancel_abandoned(&self, session: &Rc<Session>) {
        if session.begin_cancel().is_none() {
            return;
        }
        let session = Rc::clone(session);
        let deadline = runtime::now() + self.snapshot().limits.login_deadline;
        runtime::spawn(async move {
            if let Some(target) = session.cancel_handle() {
                tell_target(session.id, target, deadline).await;
            }
        });
    }

    /// One line for the first of many peers that broke off during login, and for their number.
    fn note_failed_greeting(&self, peer: Origin, error: &GreetError) {
        let (since, count) = self.failed_greetings.get();
        let now = runtime::now();
        if count == 0 || now.duration_since(since) >= FAILURES_EVERY {
            self.failed_greetings.set((now, 1));
            tracing::warn!(%peer, %error, also = count.saturating_sub(1), "login failed");
        } else {
            self.failed_greetings.set((since, count + 1));
        }
    }

    async fn drain(&self, deadline: Instant) {
        self.sessions.drain();
        let logins = deadline.min(runtime::now() + LAST_LOGINS);
        // Who does not log in by then is ended with the process.
        let _ = self.arrivals.settled(logins).await;
        if self.sessions.emptied(deadline).await.is_err() {
            self.sessions.signal_all(Signal::Cut);
            // Whoever does not leave now is ended with the process.
            let _ = self.sessions.emptied(deadline + LAST_WORDS).await;
        }
        self.pools.drain();
    }
}

async fn tell_target(session: SessionId, target: &CancelHandle, deadline: Instant) {
    if let Err(error) = upstream::cancel(target, deadline).await {
        tracing::warn!(%session, %error, "a cancel did not reach the target");
    }
}

/// The kernel gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel gave no random bytes")]
pub(crate) struct NoRandomness;
