//! Lets strangers one at a time do what costs them little and the shard much.
//!
//! A TLS handshake or the signature of a token takes the shard as long as ten statements, and
//! whoever floods it has a thousand of them ready at once. Here one passes per turn of the executor,
//! so that a session never waits behind more than one; and while sessions have work, handshakes get a
//! quarter of the time. Sources take turns, so that a flood from a few addresses stands in its own way
//! and not in that of others' logins. How many may wait is `entrance`'s to bound, for how long the
//! login deadline's.
//!
//! ```text
//! Open ──pass──▶ Occupied ──dropped──▶ Resting ──a turn, or three times as long──▶ Open
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use runtime::Timer;

use super::entrance::Source;

/// What sessions that have work get for each unit of time that a handshake took.
const SESSIONS_SHARE: u32 = 3;

/// Per shard.
#[derive(Default)]
pub(crate) struct Turnstile {
    state: Cell<State>,
    queue: RefCell<Queue>,
    /// Steps that sessions made.
    steps: Cell<u64>,
    attendant: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Open,
    Occupied,
    Resting(Rest),
}

#[derive(Clone, Copy)]
struct Rest {
    /// How long the last one took, as far as sessions are to be made up for it.
    took: Duration,
    /// What sessions had done when it began.
    steps: u64,
}

/// Who waits, by rounds: a source has one place in each.
#[derive(Default)]
struct Queue {
    waiting: BTreeMap<Ticket, Waker>,
    /// The round of the one who passed last.
    round: u64,
    /// The last round that each source has taken a place in, as far as it is still to come.
    taken: HashMap<Source, u64>,
    number: u64,
}

/// A place in the queue, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    round: u64,
    number: u64,
}

/// What a stranger is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Handshake,
    /// Of a token. It is cheaper and comes once per connection, in a flood behind a handshake; on a
    /// busy shard a rest after it would delay logins more than it spares sessions.
    Proof,
}

/// The leave to go on, given back when it is dropped. Not to be held while waiting for a peer.
#[must_use]
pub(crate) struct Passage {
    turnstile: Rc<Turnstile>,
    step: Step,
    began: Instant,
    steps: u64,
}

struct Waiting<'t> {
    turnstile: &'t Rc<Turnstile>,
    source: Source,
    step: Step,
    ticket: Option<Ticket>,
}

impl Turnstile {
    /// One that is attended to for as long as it exists.
    pub(crate) fn attended() -> Rc<Self> {
        let turnstile = Rc::new(Self::default());
        runtime::spawn(attend(Rc::downgrade(&turnstile)));
        turnstile
    }

    /// Waits for its turn.
    pub(crate) async fn pass(self: &Rc<Self>, source: Source, step: Step) -> Passage {
        let mut waiting = Waiting {
            turnstile: self,
            source,
            step,
            ticket: None,
        };
        poll_fn(|context| waiting.poll_passed(context)).await
    }

    /// A session has moved something.
    pub(crate) fn session_stepped(&self) {
        self.steps.set(self.steps.get().wrapping_add(1));
    }

    fn open(&self) {
        self.state.set(State::Open);
        self.call_next();
    }

    fn call_next(&self) {
        if let Some((_, waker)) = self.queue.borrow().waiting.first_key_value() {
            waker.wake_by_ref();
        }
    }

    fn poll_left(&self, context: &mut Context<'_>) -> Poll<Rest> {
        if let State::Resting(rest) = self.state.get() {
            return Poll::Ready(rest);
        }
        self.attendant.replace(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Queue {
    fn enter(&mut self, source: Source, waker: Waker) -> Ticket {
        let next = self.round + 1;
        let round = self.taken.get(&source).map_or(next, |taken| taken + 1);
        let round = round.max(next);
        self.taken.insert(source, round);
        let number = self.number;
        self.number += 1;
        let ticket = Ticket { round, number };
        self.waiting.insert(ticket, waker);
        ticket
    }

    /// Whether it is the turn of `ticket`, or of one that comes without.
    fn is_next(&self, ticket: Option<Ticket>) -> bool {
        self.waiting.keys().next() == ticket.as_ref()
    }

    fn leave(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
    }

    fn passed(&mut self, ticket: Ticket) {
        self.leave(ticket);
        self.round = ticket.round;
        // As many as wait could still count; with more, some are past or were given up.
        if self.taken.len() > self.waiting.len() {
            self.taken.retain(|_, taken| *taken > ticket.round);
        }
    }
}

impl Waiting<'_> {
    fn poll_passed(&mut self, context: &mut Context<'_>) -> Poll<Passage> {
        let turnstile = self.turnstile;
        let mut queue = turnstile.queue.borrow_mut();
        if queue.is_next(self.ticket) && matches!(turnstile.state.get(), State::Open) {
            if let Some(ticket) = self.ticket.take() {
                queue.passed(ticket);
            }
            turnstile.state.set(State::Occupied);
            return Poll::Ready(Passage {
                turnstile: Rc::clone(turnstile),
                step: self.step,
                began: runtime::now(),
                steps: turnstile.steps.get(),
            });
        }
        let waker = context.waker().clone();
        match self.ticket {
            Some(ticket) => {
                queue.waiting.insert(ticket, waker);
            }
            None => self.ticket = Some(queue.enter(self.source, waker)),
        }
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else {
            return;
        };
        self.turnstile.queue.borrow_mut().leave(ticket);
        // It may have been the one that was called.
        if matches!(self.turnstile.state.get(), State::Open) {
            self.turnstile.call_next();
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let took = match self.step {
            Step::Handshake => runtime::now().saturating_duration_since(self.began),
            Step::Proof => Duration::ZERO,
        };
        let rest = Rest {
            took,
            steps: self.steps,
        };
        self.turnstile.state.set(State::Resting(rest));
        if let Some(attendant) = self.turnstile.attendant.take() {
            attendant.wake();
        }
    }
}

/// Opens the turnstile again after each passage, when the others have had theirs.
async fn attend(turnstile: Weak<Turnstile>) {
    loop {
        let left = poll_fn(|context| match turnstile.upgrade() {
            Some(turnstile) => turnstile.poll_left(context).map(Some),
            None => Poll::Ready(None),
        });
        let Some(rest) = left.await else {
            return;
        };
        runtime::next_turn().await;
        let have_work = |turnstile: Rc<Turnstile>| turnstile.steps.get() != rest.steps;
        if !rest.took.is_zero() && turnstile.upgrade().is_some_and(have_work) {
            let until = runtime::now() + rest.took * SESSIONS_SHARE;
            Timer::at(until).expired().await;
        }
        let Some(turnstile) = turnstile.upgrade() else {
            return;
        };
        turnstile.open();
    }
}

impl Drop for Turnstile {
    fn drop(&mut self) {
        if let Some(attendant) = self.attendant.take() {
            attendant.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use runtime::{ShardsConfig, start_shards};

    use super::*;

    const STRANGERS: usize = 50;

    fn source(last: u8) -> Source {
        let address = std::net::SocketAddr::from(([192, 0, 2, last], 5000));
        Source::of(runtime::PeerAddress::Tcp(address))
    }

    fn on_shard<F: Future<Output = ()> + 'static>(test: fn() -> F) {
        let config = ShardsConfig {
            count: NonZeroUsize::new(1),
        };
        start_shards(config, move |_| test())
            .unwrap()
            .join()
            .unwrap();
    }

    /// Strangers that write `s` when they pass, and a session that writes `x` in each turn.
    async fn turns(session_steps: bool) -> String {
        let turnstile = Turnstile::attended();
        let log = Rc::new(RefCell::new(String::new()));
        for _ in 0..STRANGERS {
            let (turnstile, log) = (Rc::clone(&turnstile), Rc::clone(&log));
            runtime::spawn(async move {
                let _passage = turnstile.pass(source(1), Step::Handshake).await;
                log.borrow_mut().push('s');
            });
        }
        while log.borrow().matches('s').count() < STRANGERS {
            log.borrow_mut().push('x');
            if session_steps {
                turnstile.session_stepped();
            }
            runtime::next_turn().await;
        }
        log.take()
    }

    #[test]
    fn a_session_has_its_turn_between_any_two_strangers() {
        on_shard(|| async {
            for session_steps in [false, true] {
                let log = turns(session_steps).await;
                assert!(!log.contains("ss"), "{session_steps}: {log}");
            }
        });
    }

    #[test]
    fn whoever_gives_up_waiting_does_not_hold_the_others() {
        on_shard(|| async {
            let turnstile = Turnstile::attended();
            let passage = turnstile.pass(source(1), Step::Handshake).await;
            let mut impatient = Box::pin(turnstile.pass(source(1), Step::Handshake));
            let mut patient = Box::pin(turnstile.pass(source(1), Step::Handshake));
            poll_fn(|context| {
                assert!(impatient.as_mut().poll(context).is_pending());
                assert!(patient.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            drop(passage);
            // Called, and gone before it comes.
            while !matches!(turnstile.state.get(), State::Open) {
                runtime::next_turn().await;
            }
            drop(impatient);
            drop(patient.await);
            assert!(turnstile.queue.borrow().waiting.is_empty());
        });
    }

    /// Lets one stranger of each source wait, in this order; the order in which they pass.
    async fn order(sources: &[u8]) -> Vec<u8> {
        let turnstile = Turnstile::attended();
        let order = Rc::new(RefCell::new(Vec::new()));
        for &last in sources {
            let (turnstile, order) = (Rc::clone(&turnstile), Rc::clone(&order));
            runtime::spawn(async move {
                let _passage = turnstile.pass(source(last), Step::Proof).await;
                order.borrow_mut().push(last);
            });
        }
        while order.borrow().len() < sources.len() {
            runtime::next_turn().await;
        }
        let queue = turnstile.queue.borrow();
        assert!(queue.waiting.is_empty() && queue.taken.is_empty());
        order.take()
    }

    #[test]
    fn sources_take_turns_and_each_is_served_in_its_own_order() {
        on_shard(|| async {
            let flood = [1, 1, 1, 1, 1, 1, 2, 2, 3];
            assert_eq!(order(&flood).await, [1, 1, 2, 3, 1, 2, 1, 1, 1]);
        });
    }
}
