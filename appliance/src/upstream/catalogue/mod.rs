//! What the databases of targets hold, read from them and kept right. Per shard.
//!
//! ```text
//! watch ─▶ dial ─▶ read all ─▶ (wait ─▶ fingerprint ─▶ another? read all)* ─▶ unused: close
//!                    ▲  a failure: dial again after a pause  │
//!                    └──────────────────────────────────────┘
//! ```
//!
//! One connection for each database and server that sessions of the shard use. It is not one of
//! the pool: sessions may hold all of those for hours, and a catalogue that cannot be looked at
//! would stop them all.
//!
//! Decides nothing: what a statement means with it is `policy`'s.

mod build;
mod load;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use policy::catalogue::Catalogue;
use runtime::{Timer, now, run_blocking, spawn};

use super::conversation::{Conversation, Exchange};
use super::credentials::{Account, Identity};
use super::dial::{Dialer, Login};
use super::error::{Phase, UpstreamError, Violation};
use super::server::Server;
use super::session::SessionSettings;
use super::settings::{ShardPart, TargetSettings};
use load::Answers;

/// What the server calls the connections.
const APPLICATION_NAME: &str = "sallyport catalogue";

/// How long reading a whole catalogue may take; a statement that needs it waits as long.
const LOAD_DEADLINE: Duration = Duration::from_secs(30);

/// How long the server may take to say whether the catalogue is still the same.
const CHECK_DEADLINE: Duration = Duration::from_secs(5);

/// How long a catalogue is used that cannot be looked at again, after the last time that it could.
/// Long enough for a server that restarts, too short to be waited for by somebody who wants to use
/// what has changed.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(20);

/// Time between two looks that names ask for which are not found: an agent that makes up names
/// makes the server work no more than this.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a catalogue is looked after that no session uses: logins one after the other find it
/// as it is.
const LOOKED_AFTER: Duration = Duration::from_secs(5);

/// How long a catalogue is kept that no session uses. The next login has it looked at again, which
/// is a fraction of reading it.
const KEPT: Duration = Duration::from_secs(600);

/// How often a catalogue is read again that changed while it was read.
const READS_MAX: usize = 3;

/// The catalogues of one shard.
pub(super) struct Catalogues {
    part: ShardPart,
    made: Cell<u64>,
    sources: RefCell<HashMap<Key, Rc<Source>>>,
}

/// What has one catalogue.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    target: String,
    account: Identity,
    database: Rc<str>,
    server: Server,
}

/// One catalogue, as it is looked after.
struct Source {
    key: Key,
    target: RefCell<Option<Arc<TargetSettings>>>,
    account: Arc<Account>,
    /// Another after everything that sessions have to look at.
    revision: Cell<u64>,
    sessions: Cell<usize>,
    state: RefCell<State>,
}

struct State {
    current: Option<Rc<Catalogue>>,
    fingerprint: Box<str>,
    /// Looks that were asked for, the last of them that everybody waits for, and the last that
    /// was done. A look covers what was asked for before it began.
    asked: u64,
    binding: u64,
    done: u64,
    /// The last look that was tried; it may have failed.
    tried: u64,
    confirmed_at: Instant,
    /// Of the last attempt; `None` when it succeeded.
    failure: Option<UpstreamError>,
    waiting: Vec<Waker>,
    /// The task that looks, while it waits.
    keeper: Option<Waker>,
}

/// A session's view of the catalogue of its database.
///
/// While one exists the catalogue is looked after.
pub(crate) struct Watch(Rc<Source>);

/// What there is of a catalogue at this moment.
pub(crate) enum View {
    Ready(Rc<Catalogue>),
    /// It is being read, or looked at again.
    Pending,
    Unavailable(UpstreamError),
}

/// A look that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Look(u64);

/// What a session is connected to.
pub(super) struct Connected<'c> {
    pub(super) target: &'c Arc<TargetSettings>,
    pub(super) account: &'c Arc<Account>,
    pub(super) database: &'c Rc<str>,
    pub(super) server: &'c Server,
}

/// The same, kept.
pub(super) struct Seen {
    pub(super) target: Arc<TargetSettings>,
    pub(super) account: Arc<Account>,
    pub(super) database: Rc<str>,
    pub(super) server: Server,
}

impl Catalogues {
    pub(super) fn new(part: ShardPart) -> Self {
        Self {
            part,
            made: Cell::new(0),
            sources: RefCell::default(),
        }
    }

    /// A number that no other catalogue of the process has.
    fn next_generation(&self) -> u64 {
        let number = self.made.get() + 1;
        self.made.set(number);
        let shards = u64::try_from(self.part.shards).unwrap_or(u64::MAX);
        let shard = u64::try_from(self.part.shard).unwrap_or(u64::MAX);
        number.saturating_mul(shards).saturating_add(shard)
    }

    /// Takes the targets of a new configuration: a catalogue of one that has changed is kept for
    /// the sessions that use it, and no longer.
    pub(super) fn retarget(&self, described: &HashMap<&str, &Arc<TargetSettings>>) {
        for source in self.sources.borrow().values() {
            let key = &source.key;
            let target = described
                .get(key.target.as_str())
                .filter(|target| target.describes(&key.server.address, &key.database, key.account));
            source.target.replace(target.copied().cloned());
            source.wake_keeper();
        }
    }

    /// Looks after nothing any more.
    pub(super) fn drain(&self) {
        for source in self.sources.take().into_values() {
            source.target.replace(None);
            source.wake_keeper();
        }
    }
}

/// The catalogue of what a session is connected to, which is read now unless it is there.
pub(super) fn watch(
    catalogues: &Rc<Catalogues>,
    dialer: impl Fn() -> Option<Rc<Dialer>> + 'static,
    connected: &Connected<'_>,
) -> Watch {
    let key = Key {
        target: connected.target.name.clone(),
        account: connected.account.identity(),
        database: connected.database.clone(),
        server: connected.server.clone(),
    };
    let known = catalogues.sources.borrow().get(&key).cloned();
    let source = known.unwrap_or_else(|| {
        let source = Rc::new(Source::new(key.clone(), connected));
        catalogues.sources.borrow_mut().insert(key, source.clone());
        spawn(keep(Rc::downgrade(catalogues), source.clone(), dialer));
        source
    });
    source.target.replace(Some(connected.target.clone()));
    let others = source.sessions.get();
    source.sessions.set(others + 1);
    let watch = Watch(source);
    if others == 0 && watch.0.is_outdated() {
        watch.doubt();
    }
    watch
}

impl Watch {
    /// What is looked at; `None` when the configuration no longer describes it.
    pub(super) fn seen(&self) -> Option<Seen> {
        let source = &self.0;
        Some(Seen {
            target: source.target.borrow().clone()?,
            account: source.account.clone(),
            database: source.key.database.clone(),
            server: source.key.server.clone(),
        })
    }

    /// Changes whenever [`view`](Self::view) may say something else.
    pub(crate) fn revision(&self) -> u64 {
        self.0.revision.get()
    }

    /// What tells the schemas that there are, with who may use them, from others.
    pub(crate) fn schemas(&self) -> Box<str> {
        let state = self.0.state.borrow();
        // The second sum of the fingerprint, behind the version.
        state
            .fingerprint
            .split(',')
            .nth(1)
            .unwrap_or_default()
            .into()
    }

    /// What was found right at the last look that came through, and its [`schemas`](Self::schemas);
    /// `None` when that is too long ago to be used.
    pub(crate) fn latest_confirmed(&self) -> Option<(Rc<Catalogue>, Box<str>)> {
        let state = self.0.state.borrow();
        let current = state.current.clone().filter(|_| state.is_recent())?;
        drop(state);
        Some((current, self.schemas()))
    }

    /// What may be judged by, once the look `since` is done.
    pub(crate) fn view(&self, since: Option<Look>) -> View {
        self.0.state.borrow().view(since)
    }

    /// Ready when there is a catalogue to judge by, or none to be had.
    pub(crate) fn poll_view(&self, since: Option<Look>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.state.borrow_mut();
        if !matches!(state.view(since), View::Pending) {
            return Poll::Ready(());
        }
        if !state
            .waiting
            .iter()
            .any(|waker| waker.will_wake(context.waker()))
        {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// The database may have changed: nobody goes on by what was known of it.
    pub(crate) fn doubt(&self) {
        let look = self.ask();
        self.0.state.borrow_mut().binding = look.0;
        self.0.change();
    }

    /// Somebody has reason to have it looked at again; nobody else waits for that.
    pub(crate) fn ask(&self) -> Look {
        let mut state = self.0.state.borrow_mut();
        state.asked += 1;
        let look = Look(state.asked);
        drop(state);
        self.0.wake_keeper();
        look
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.sessions.set(self.0.sessions.get().saturating_sub(1));
        if self.0.sessions.get() == 0 {
            self.0.wake_keeper();
        }
    }
}

impl State {
    fn view(&self, since: Option<Look>) -> View {
        let needed = self.binding.max(since.map_or(0, |look| look.0));
        let is_done = self.done >= needed;
        match (&self.current, &self.failure) {
            (Some(current), None) if is_done => View::Ready(current.clone()),
            (Some(current), Some(_)) if is_done && self.is_recent() => View::Ready(current.clone()),
            (_, Some(failure)) if since.is_none_or(|look| self.tried >= look.0) => {
                View::Unavailable(failure.clone())
            }
            (_, Some(_)) => View::Pending,
            (_, None) => View::Pending,
        }
    }

    fn is_recent(&self) -> bool {
        now().duration_since(self.confirmed_at) < UNCONFIRMED_MAX
    }
}

impl Source {
    fn new(key: Key, connected: &Connected<'_>) -> Self {
        Self {
            key,
            target: RefCell::new(Some(connected.target.clone())),
            account: connected.account.clone(),
            revision: Cell::new(1),
            sessions: Cell::new(0),
            state: RefCell::new(State {
                current: None,
                fingerprint: Box::default(),
                asked: 0,
                binding: 0,
                done: 0,
                tried: 0,
                confirmed_at: now(),
                failure: None,
                waiting: Vec::new(),
                keeper: None,
            }),
        }
    }

    /// Nobody has looked at it for longer than sessions may go without.
    fn is_outdated(&self) -> bool {
        let target = self.target.borrow();
        let refresh = target
            .as_ref()
            .map_or(Duration::ZERO, |target| target.catalogue_refresh);
        now().duration_since(self.state.borrow().confirmed_at) > refresh
    }

    fn change(&self) {
        self.revision.set(self.revision.get() + 1);
        let waiting = std::mem::take(&mut self.state.borrow_mut().waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn wake_keeper(&self) {
        let keeper = self.state.borrow_mut().keeper.take();
        if let Some(keeper) = keeper {
            keeper.wake();
        }
    }

    /// Waits until there is something to do.
    async fn wait(&self, looked_at: Instant, unused_since: &mut Option<Instant>) -> Wanted {
        let mut timer = Timer::at(looked_at);
        std::future::poll_fn(|context| {
            let wanted = self.wanted(looked_at, unused_since);
            let due = match wanted {
                Ok(wanted) => return Poll::Ready(wanted),
                Err(due) => due,
            };
            self.state.borrow_mut().keeper = Some(context.waker().clone());
            timer.reset(due);
            match timer.poll_expired(context) {
                Poll::Ready(()) => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// What is to be done now, or when to ask again.
    fn wanted(
        &self,
        looked_at: Instant,
        unused_since: &mut Option<Instant>,
    ) -> Result<Wanted, Instant> {
        let time = now();
        let target = self.target.borrow();
        if self.sessions.get() == 0 {
            let since = *unused_since.get_or_insert(time);
            let is_kept = target.is_some() && time < since + KEPT;
            return match is_kept {
                false => Ok(Wanted::End),
                true if time >= since + LOOKED_AFTER => Ok(Wanted::Rest(since + KEPT)),
                true => Err(since + LOOKED_AFTER),
            };
        }
        *unused_since = None;
        let state = self.state.borrow();
        let pause = if state.failure.is_some() {
            let is_asked = state.asked > state.tried;
            if is_asked { LOOKS_EVERY } else { PAUSE }
        } else if state.binding > state.done {
            Duration::ZERO
        } else if state.asked > state.done {
            LOOKS_EVERY
        } else {
            // Without a target only sessions are left that it no longer describes.
            target
                .as_ref()
                .map_or(UNCONFIRMED_MAX / 4, |target| target.catalogue_refresh)
        };
        let due = looked_at + pause;
        if time >= due {
            Ok(Wanted::Look)
        } else {
            Err(due)
        }
    }

    /// Waits, without a connection, for a session or the end.
    async fn rest(&self, end: Instant) {
        let mut timer = Timer::at(end);
        std::future::poll_fn(|context| {
            if self.sessions.get() > 0 || self.target.borrow().is_none() {
                return Poll::Ready(());
            }
            self.state.borrow_mut().keeper = Some(context.waker().clone());
            timer.poll_expired(context)
        })
        .await;
    }

    /// Takes what a look that covers `asked` has found.
    fn settle(&self, asked: u64, found: Result<Found, UpstreamError>) {
        let mut state = self.state.borrow_mut();
        let before = (state.done, state.tried, state.failure.is_some());
        let mut is_new = false;
        state.tried = asked;
        match found {
            Ok(found) => {
                state.done = asked;
                state.failure = None;
                state.confirmed_at = now();
                if let Found::Another(catalogue, fingerprint) = found {
                    state.current = Some(catalogue);
                    state.fingerprint = fingerprint;
                    is_new = true;
                }
            }
            Err(error) => {
                if state.failure.is_none() {
                    tracing::warn!(
                        target_name = self.key.target,
                        database = &*self.key.database,
                        %error,
                        "the catalogue of a target can not be read",
                    );
                }
                state.failure = Some(error);
            }
        }
        let after = (state.done, state.tried, state.failure.is_some());
        let failing = state.failure.is_some();
        drop(state);
        if is_new || before != after || failing {
            self.change();
        }
    }
}

enum Wanted {
    Look,
    /// Nothing, until it is used again or this moment.
    Rest(Instant),
    End,
}

/// What a look came to.
enum Found {
    Same,
    Another(Rc<Catalogue>, Box<str>),
}

/// Looks after one catalogue for as long as it is of use.
async fn keep(
    catalogues: std::rc::Weak<Catalogues>,
    source: Rc<Source>,
    dialer: impl Fn() -> Option<Rc<Dialer>>,
) {
    let mut conversation = None;
    let mut unused_since = None;
    let mut wanted = Wanted::Look;
    loop {
        match wanted {
            Wanted::Look => {
                let Some(dialer) = dialer() else { return };
                let asked = source.state.borrow().asked;
                let generation = || catalogues.upgrade().map(|all| all.next_generation());
                let found = look(&source, &dialer, &mut conversation, generation).await;
                if found.is_err() {
                    conversation = None;
                }
                source.settle(asked, found);
            }
            Wanted::Rest(end) => {
                if let Some(conversation) = conversation.take() {
                    conversation.close(now() + CHECK_DEADLINE).await;
                }
                source.rest(end).await;
            }
            Wanted::End => break,
        }
        wanted = source.wait(now(), &mut unused_since).await;
    }
    if let Some(catalogues) = catalogues.upgrade() {
        let mut sources = catalogues.sources.borrow_mut();
        if sources
            .get(&source.key)
            .is_some_and(|known| Rc::ptr_eq(known, &source))
        {
            sources.remove(&source.key);
        }
    }
    if let Some(conversation) = conversation {
        conversation.close(now() + CHECK_DEADLINE).await;
    }
}

/// Looks once whether the catalogue is another, and reads it if it is.
async fn look(
    source: &Source,
    dialer: &Dialer,
    conversation: &mut Option<Conversation>,
    generation: impl Fn() -> Option<u64>,
) -> Result<Found, UpstreamError> {
    let begun = now();
    let exchange = |limit| Exchange {
        phase: Phase::Catalogue,
        deadline: begun + limit,
    };
    let talk = match conversation {
        Some(talk) => talk,
        None => conversation.insert(dial(source, dialer, begun + LOAD_DEADLINE).await?),
    };
    let is_first = source.state.borrow().current.is_none();
    if !is_first {
        let answers = load::fingerprint(talk, exchange(CHECK_DEADLINE)).await?;
        let fingerprint = fingerprint_of(&answers)?;
        if fingerprint == source.state.borrow().fingerprint {
            return Ok(Found::Same);
        }
    }
    let mut failure = None;
    for _ in 0..READS_MAX {
        match load::read(talk, exchange(LOAD_DEADLINE)).await {
            Ok(answers) => {
                let Some(generation) = generation() else {
                    return Err(UpstreamError::Draining);
                };
                let fingerprint = fingerprint_of(&answers)?;
                let built = run_blocking(move || build::build(generation, &answers)).await;
                let catalogue = built.ok().and_then(Result::ok).ok_or_else(malformed)?;
                return Ok(Found::Another(Rc::new(catalogue), fingerprint));
            }
            // Something was dropped while it was being described.
            Err(error @ UpstreamError::Refused { .. }) if now() < begun + LOAD_DEADLINE => {
                failure = Some(error);
                *talk = dial(source, dialer, begun + LOAD_DEADLINE).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(failure.unwrap_or_else(malformed))
}

async fn dial(
    source: &Source,
    dialer: &Dialer,
    deadline: Instant,
) -> Result<Conversation, UpstreamError> {
    let target = source.target.borrow().clone();
    let target = target.ok_or(UpstreamError::Draining)?;
    let settings = SessionSettings::default();
    let login = Login {
        target: &target,
        account: &source.account,
        database: &source.key.database,
        settings: &settings,
        name: APPLICATION_NAME,
    };
    let deadline = deadline.min(now() + target.pool.connect_deadline);
    let server = source.key.server.clone();
    let mut conversation = dialer.log_in(login, server, deadline).await?.conversation;
    load::prepare(&mut conversation);
    Ok(conversation)
}

fn fingerprint_of(answers: &Answers) -> Result<Box<str>, UpstreamError> {
    answers.fingerprint().ok_or_else(malformed)
}

fn malformed() -> UpstreamError {
    UpstreamError::protocol(Phase::Catalogue, Violation::Malformed)
}
