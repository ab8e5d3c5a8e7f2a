//! The connections of one target on one shard: how many there are, who gets the next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use runtime::now;

use super::LeaseRequest;
use super::ground::Ground;
use super::lease::Connection;
use super::setback::{LoginKey, Setbacks};
use super::ticket::{Granted, Ticket};
use crate::upstream::credentials::Account;
use crate::upstream::dial::{IDLE_APPLICATION_NAME, Login};
use crate::upstream::error::UpstreamError;
use crate::upstream::session::SessionSettings;
use crate::upstream::settings::TargetSettings;

/// Distinct sets of account, database and session settings that one target remembers. The one that
/// was not used for longest makes room for a new one, and its idle connections are closed.
const KEYS_MAX: usize = 64;

/// What makes two connections of a target interchangeable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PoolKey {
    pub(super) login: LoginKey,
    pub(super) settings: SessionSettings,
}

/// The connections of one target.
pub(super) struct TargetPool {
    ground: Rc<Ground>,
    state: RefCell<State>,
    draining: Cell<bool>,
    /// Whether a task makes connections ahead of need: one at a time, to be gentle with a server
    /// that has just come back.
    warming: Cell<bool>,
}

struct State {
    /// `None` once the configuration has no such target any more.
    target: Option<Arc<TargetSettings>>,
    /// Slots that exist: connections in whichever state, and those being made.
    open: usize,
    keys: Vec<KeyState>,
    queue: VecDeque<Rc<Ticket>>,
    setbacks: Setbacks,
    /// Connections made so far.
    made: u32,
}

/// Connections of one key that nobody uses.
type Idle = Vec<Box<Connection>>;

struct KeyState {
    key: Rc<PoolKey>,
    /// The one that came back last is last, and goes first: the others grow old and are closed.
    idle: Idle,
    leased_at: Instant,
    /// A connection was made: only then are others made ahead of need.
    has_served: bool,
}

/// The right to have one connection. Dropping it lets the next in the queue have one.
pub(super) struct Slot(Weak<TargetPool>);

pub(super) enum Acquired {
    Used(Box<Connection>),
    New(Box<Connection>),
}

/// A connection that is to be made.
pub(super) struct Opening {
    pub(super) slot: Slot,
    pub(super) key: Rc<PoolKey>,
    pub(super) target: Arc<TargetSettings>,
    pub(super) account: Arc<Account>,
}

/// What there is to say about one target's pool. Per shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetStatus {
    pub name: String,
    /// Connections in whichever state, and those being made.
    pub open: usize,
    pub idle: usize,
    /// Leases in the queue.
    pub waiting: usize,
    /// What the last attempt to connect failed with, until one succeeds.
    pub setback: Option<UpstreamError>,
}

impl TargetPool {
    pub(super) fn new(target: Arc<TargetSettings>, ground: Rc<Ground>) -> Self {
        let state = State {
            target: Some(target),
            open: 0,
            keys: Vec::new(),
            queue: VecDeque::new(),
            setbacks: Setbacks::default(),
            made: 0,
        };
        Self {
            ground,
            state: RefCell::new(state),
            draining: Cell::default(),
            warming: Cell::default(),
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    pub(super) fn warming(&self) -> &Cell<bool> {
        &self.warming
    }

    /// A connection for the request: an idle one, a new one, or whichever comes after waiting.
    pub(super) async fn acquire(
        self: &Rc<Self>,
        request: &LeaseRequest<'_>,
    ) -> Result<Acquired, UpstreamError> {
        let key = self.remember(request);
        if let Some(connection) = self.take_idle(&key) {
            return Ok(Acquired::Used(connection));
        }
        self.refuse_in_pause(&key.login)?;
        let slot = match self.take_slot(request.target) {
            Some(slot) => slot,
            None => match self.wait(&key, request).await? {
                Granted::Used(connection) => return Ok(Acquired::Used(connection)),
                Granted::Room(slot) => slot,
                Granted::Refused(error) => return Err(error),
            },
        };
        let (target, account) = (request.target.clone(), request.account.clone());
        let opening = Opening {
            slot,
            key,
            target,
            account,
        };
        self.open(opening, request.deadline)
            .await
            .map(Acquired::New)
    }

    /// Makes a connection, unless the target has just turned one down.
    pub(super) async fn open(
        &self,
        opening: Opening,
        deadline: Instant,
    ) -> Result<Box<Connection>, UpstreamError> {
        let Opening {
            slot,
            key,
            target,
            account,
        } = opening;
        self.refuse_in_pause(&key.login)?;
        let connect_deadline = now() + target.pool.connect_deadline;
        let login = Login {
            target: &target,
            account: &account,
            database: &key.login.database,
            settings: &key.settings,
            name: IDLE_APPLICATION_NAME,
        };
        let dialer = &self.ground.dialer;
        let dialled = dialer.dial(login, deadline.min(connect_deadline)).await;
        // Invariant: `slot` outlives the borrow, since dropping it borrows again.
        let mut state = self.state.borrow_mut();
        match dialled {
            Ok(established) => {
                state.setbacks.handle_success(&key.login);
                state.mark_served(&key);
                state.made = state.made.wrapping_add(1);
                let retire_at = now() + spread(target.pool.lifetime, state.made);
                Ok(Connection::new(established, key, account, retire_at, slot))
            }
            Err(error) => {
                // That a session could not wait says nothing about the target.
                let impatient =
                    matches!(error, UpstreamError::TimedOut { .. }) && deadline < connect_deadline;
                if !impatient {
                    state.setbacks.handle_failure(&key.login, &error, now());
                }
                state.forget_unserved(&key);
                Err(error)
            }
        }
    }

    /// Takes a connection that was reset, or made ahead of need, and gives it to whoever waits.
    pub(super) fn take_back(&self, mut connection: Box<Connection>) {
        let mut state = self.state.borrow_mut();
        let usable = state.can_use(&mut connection, &self.ground, &self.ground.watcher());
        let surplus = state.open > state.connections_max(&self.ground);
        if self.draining.get() || !usable || surplus {
            drop(state);
            return connection.close();
        }
        match state.first_waiting() {
            Some(ticket) if ticket.key == connection.key => {
                state.queue.pop_front();
                drop(state);
                ticket.grant(Granted::Used(connection));
            }
            // Who waited longest needs another kind of connection, and gets the slot.
            Some(_) => {
                drop(state);
                connection.close();
            }
            None => {
                if let Err(connection) = state.keep(connection) {
                    drop(state);
                    connection.close();
                }
            }
        }
    }

    /// Takes new settings, or none when the target is gone.
    pub(super) fn retarget(self: &Rc<Self>, target: Option<&Arc<TargetSettings>>) {
        let mut state = self.state.borrow_mut();
        let same = match (&state.target, target) {
            (Some(old), Some(new)) => new.fails_like(old),
            (Some(_), None) | (None, Some(_)) | (None, None) => false,
        };
        if !same {
            state.setbacks = Setbacks::default();
        }
        state.target = target.cloned();
        let unusable = state.take_unusable(&self.ground);
        drop(state);
        unusable.into_iter().for_each(Connection::close);
        self.serve_queue();
    }

    /// Closes all that is idle and sends away who waits.
    pub(super) fn drain(&self) {
        self.draining.set(true);
        let mut state = self.state.borrow_mut();
        let keys = std::mem::take(&mut state.keys);
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        keys.into_iter()
            .flat_map(|key| key.idle)
            .for_each(Connection::close);
        for ticket in queue.into_iter().filter(|ticket| ticket.is_waiting()) {
            ticket.grant(Granted::Refused(UpstreamError::Draining));
        }
    }

    /// Closes what is dead, old, or idle for too long and not to be kept warm.
    pub(super) fn sweep(&self) {
        let now = now();
        let mut state = self.state.borrow_mut();
        let (idle_max, warm) = state.target.as_ref().map_or((Duration::ZERO, 0), |target| {
            (target.pool.idle, target.pool.warm)
        });
        let mut closing = state.take_unusable(&self.ground);
        for key in &mut state.keys {
            let spare = key.idle.len().saturating_sub(warm);
            // Those that were not used for longest stand first.
            let unused = key.idle.iter().take(spare);
            let unused = unused
                .take_while(|connection| now.duration_since(connection.idle_since) >= idle_max)
                .count();
            closing.extend(key.idle.drain(..unused));
        }
        state
            .keys
            .retain(|key| !key.idle.is_empty() || now.duration_since(key.leased_at) < idle_max);
        drop(state);
        closing.into_iter().for_each(Connection::close);
    }

    /// Sees to it that the answers of the name server are not older than the target allows, while
    /// there are connections that may have to follow them.
    pub(super) fn refresh_names(&self) {
        let state = self.state.borrow();
        let Some(target) = state.target.as_ref().filter(|_| state.open > 0) else {
            return;
        };
        let resolver = self.ground.dialer.resolver();
        for name in target.addresses.iter().filter_map(|a| a.endpoint().err()) {
            resolver.refresh(&name, target.names_fresh_for);
        }
    }

    /// Closes a connection that turned out not to serve when it was leased, and the idle ones that
    /// can be expected not to.
    pub(super) fn handle_loss(&self, connection: Box<Connection>, error: &UpstreamError) {
        if matches!(error, UpstreamError::Lost { .. }) {
            // The others say themselves whether they are lost as well.
            return connection.close();
        }
        let server = connection.server();
        self.ground.dialer.handle_loss(server);
        let mut state = self.state.borrow_mut();
        let mut closing = Vec::new();
        for key in &mut state.keys {
            let there = |other: &mut Box<Connection>| other.server() == server;
            closing.extend(key.idle.extract_if(.., there));
        }
        drop(state);
        closing.push(connection);
        closing.into_iter().for_each(Connection::close);
    }

    /// Makes no connections ahead of need any more, and closes those that come back.
    pub(super) fn end_upkeep(&self) {
        self.draining.set(true);
    }

    /// The next connection to be made ahead of need, if one is missing and there is room for it:
    /// for the target's own account and database always, for others while they are in use.
    pub(super) fn next_to_warm(self: &Rc<Self>) -> Option<Opening> {
        if self.draining.get() {
            return None;
        }
        let target = self.state.borrow().target.clone()?;
        let (account, login) = self.state.borrow().lacking_warm(&target)?;
        self.refuse_in_pause(&login).ok()?;
        let slot = self.take_slot(&target)?;
        let key = Rc::new(PoolKey {
            login,
            settings: SessionSettings::default(),
        });
        let key = self.state.borrow_mut().intern(&key);
        Some(Opening {
            slot,
            key,
            target,
            account,
        })
    }

    /// Whether nothing is left of a target that is gone.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state.borrow();
        state.target.is_none() && state.open == 0
    }

    pub(super) fn status(&self, name: &str) -> TargetStatus {
        let state = self.state.borrow();
        TargetStatus {
            name: name.to_owned(),
            open: state.open,
            idle: state.keys.iter().map(|key| key.idle.len()).sum(),
            waiting: state
                .queue
                .iter()
                .filter(|ticket| ticket.is_waiting())
                .count(),
            setback: state.setbacks.target_error().cloned(),
        }
    }

    fn remember(&self, request: &LeaseRequest<'_>) -> Rc<PoolKey> {
        let key = PoolKey {
            login: LoginKey {
                account: request.account.identity(),
                database: request.database.into(),
            },
            settings: request.settings.clone(),
        };
        let mut state = self.state.borrow_mut();
        let key = state.intern(&Rc::new(key));
        let evicted = state.evict_key();
        drop(state);
        evicted.into_iter().for_each(Connection::close);
        key
    }

    fn take_idle(&self, key: &PoolKey) -> Option<Box<Connection>> {
        loop {
            let mut state = self.state.borrow_mut();
            let known = state.keys.iter_mut().find(|known| *known.key == *key)?;
            let mut connection = known.idle.pop()?;
            // Whoever leases it waits for it in a task of its own.
            let usable = state.can_use(&mut connection, &self.ground, Waker::noop());
            drop(state);
            if usable {
                return Some(connection);
            }
            connection.close();
        }
    }

    fn refuse_in_pause(&self, login: &LoginKey) -> Result<(), UpstreamError> {
        match self.state.borrow().setbacks.in_force(login, now()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn take_slot(self: &Rc<Self>, target: &TargetSettings) -> Option<Slot> {
        let most = target.pool.connections_on(self.ground.part);
        let mut state = self.state.borrow_mut();
        (state.open < most).then(|| {
            state.open += 1;
            Slot(Rc::downgrade(self))
        })
    }

    async fn wait(
        &self,
        key: &Rc<PoolKey>,
        request: &LeaseRequest<'_>,
    ) -> Result<Granted, UpstreamError> {
        let pool = &request.target.pool;
        let ticket = self.join_queue(key, pool.queue_max)?;
        let deadline = request.deadline.min(now() + pool.queue_deadline);
        match ticket.wait(deadline).await {
            Some(granted) => Ok(granted),
            None => {
                self.refuse_in_pause(&key.login)?;
                Err(UpstreamError::QueueTimedOut)
            }
        }
    }

    fn join_queue(&self, key: &Rc<PoolKey>, queue_max: usize) -> Result<Rc<Ticket>, UpstreamError> {
        let ticket = Ticket::new(key.clone());
        let mut state = self.state.borrow_mut();
        state.queue.retain(|ticket| ticket.is_waiting());
        if state.queue.len() >= queue_max {
            return Err(UpstreamError::QueueFull);
        }
        state.queue.push_back(ticket.clone());
        let in_the_way = state.longest_idle();
        drop(state);
        // It serves another key; its slot comes when it is closed.
        if let Some(connection) = in_the_way {
            connection.close();
        }
        Ok(ticket)
    }

    /// Lets those who wait have the room that a larger cap made.
    fn serve_queue(self: &Rc<Self>) {
        loop {
            let mut state = self.state.borrow_mut();
            if state.open >= state.connections_max(&self.ground) {
                return;
            }
            let Some(ticket) = state.first_waiting() else {
                return;
            };
            state.queue.pop_front();
            state.open += 1;
            drop(state);
            ticket.grant(Granted::Room(Slot(Rc::downgrade(self))));
        }
    }
}

impl State {
    fn connections_max(&self, ground: &Ground) -> usize {
        self.target
            .as_ref()
            .map_or(usize::MAX, |target| target.pool.connections_on(ground.part))
    }

    /// Whether the connection may be handed out, as far as can be seen without a round trip. When
    /// that may have changed, `watcher` is woken.
    fn can_use(&self, connection: &mut Connection, ground: &Ground, watcher: &Waker) -> bool {
        let Some(target) = &self.target else {
            return false;
        };
        connection.is_of(target)
            && !connection.has_moved(ground.dialer.resolver())
            && connection.is_usable(target.session_attrs, watcher)
    }

    /// Takes out what is idle and cannot be used.
    fn take_unusable(&mut self, ground: &Ground) -> Idle {
        let watcher = ground.watcher();
        let mut unusable = Vec::new();
        let mut keys = std::mem::take(&mut self.keys);
        for key in &mut keys {
            let unfit =
                |connection: &mut Box<Connection>| !self.can_use(connection, ground, &watcher);
            unusable.extend(key.idle.extract_if(.., unfit));
        }
        self.keys = keys;
        unusable
    }

    /// Which login has fewer connections ready than it should.
    fn lacking_warm(&self, target: &TargetSettings) -> Option<(Arc<Account>, LoginKey)> {
        let own = target.databases.own.as_deref().map(|database| LoginKey {
            account: target.account.identity(),
            database: database.into(),
        });
        let in_use = self.keys.iter().filter(|key| key.has_served);
        let in_use = in_use.filter(|key| key.key.settings.is_empty());
        let logins = own
            .into_iter()
            .chain(in_use.map(|key| key.key.login.clone()));
        logins
            .filter(|login| self.warm(login) < target.pool.warm)
            .find_map(|login| {
                let mut accounts = target.accounts();
                let account = accounts.find(|account| account.identity() == login.account)?;
                Some((account.clone(), login))
            })
    }

    /// Connections that are ready for the login, without settings of a client.
    fn warm(&self, login: &LoginKey) -> usize {
        self.keys
            .iter()
            .find(|known| known.key.login == *login && known.key.settings.is_empty())
            .map_or(0, |known| known.idle.len())
    }

    fn mark_served(&mut self, key: &PoolKey) {
        if let Some(known) = self.keys.iter_mut().find(|known| *known.key == *key) {
            known.has_served = true;
        }
    }

    /// A key that never led anywhere, such as a database that does not exist, takes no place.
    fn forget_unserved(&mut self, key: &PoolKey) {
        self.keys
            .retain(|known| known.has_served || *known.key != *key);
    }

    /// The ticket at the head of the queue, after those that were given up.
    fn first_waiting(&mut self) -> Option<Rc<Ticket>> {
        while let Some(ticket) = self.queue.front() {
            if ticket.is_waiting() {
                return Some(ticket.clone());
            }
            self.queue.pop_front();
        }
        None
    }

    fn intern(&mut self, key: &Rc<PoolKey>) -> Rc<PoolKey> {
        let leased_at = now();
        if let Some(known) = self.keys.iter_mut().find(|known| known.key == *key) {
            known.leased_at = leased_at;
            return known.key.clone();
        }
        let idle = Vec::new();
        self.keys.push(KeyState {
            key: key.clone(),
            idle,
            leased_at,
            has_served: false,
        });
        key.clone()
    }

    /// Forgets the key that was not used for longest, when there is one too many.
    fn evict_key(&mut self) -> Idle {
        if self.keys.len() <= KEYS_MAX {
            return Vec::new();
        }
        let oldest = self
            .keys
            .iter()
            .enumerate()
            .min_by_key(|(_, key)| key.leased_at);
        match oldest.map(|(index, _)| index) {
            Some(index) => self.keys.swap_remove(index).idle,
            None => Vec::new(),
        }
    }

    /// Makes a connection idle; gives it back when its key was forgotten meanwhile.
    fn keep(&mut self, connection: Box<Connection>) -> Result<(), Box<Connection>> {
        match self
            .keys
            .iter_mut()
            .find(|known| known.key == connection.key)
        {
            Some(known) => {
                known.idle.push(connection);
                Ok(())
            }
            None => Err(connection),
        }
    }

    fn longest_idle(&mut self) -> Option<Box<Connection>> {
        let key = self
            .keys
            .iter_mut()
            .filter(|key| !key.idle.is_empty())
            .min_by_key(|key| key.idle.first().map(|connection| connection.idle_since))?;
        Some(key.idle.remove(0))
    }
}

impl Slot {
    /// `None` when the shard's pools are gone.
    pub(super) fn pool(&self) -> Option<Rc<TargetPool>> {
        self.0.upgrade()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(pool) = self.0.upgrade() else { return };
        let mut state = pool.state.borrow_mut();
        state.open = state.open.saturating_sub(1);
        drop(state);
        pool.serve_queue();
    }
}

/// A lifetime that differs by up to an eighth between connections, so that those that were made
/// together are not made again together.
fn spread(lifetime: Duration, number: u32) -> Duration {
    lifetime.saturating_sub(lifetime / 64 * (number % 8))
}
