//! The shard's side: asking, and waiting for what comes of it.
//!
//! Whether an approval was delivered is one atomic that both sides move ([`Seat`]), since what was
//! approved must run once: neither a message that is lost nor a session that goes at the same
//! moment may make it two executions, or lose the approval.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use policy::approval::{Approver, TooMany, Withdrawal};
use runtime::{Receiver, Sender, TrySendError};

use super::request::{Estimate, HoldRequest, REQUEST_BYTES_MAX, RequestId};

/// Messages that may wait for the desk.
///
/// Count. A request on its way is up to [`REQUEST_BYTES_MAX`] long; a desk that is this far behind
/// is stuck, and whoever asks is refused.
const MAILBOX_BOUND: usize = 256;

/// Events that one waiter may have unread: it was asked, it is approved, that was taken back.
const EVENTS_MAX: usize = 4;

/// How a shard reaches the desk. Per process, cloned into each shard.
#[derive(Clone)]
pub struct Approvals {
    desk: Sender<ToDesk>,
}

/// Where the desk finds what shards ask.
pub struct Inbox(pub(super) Receiver<ToDesk>);

/// A message of a shard.
pub(super) enum ToDesk {
    Ask(Box<HoldRequest>, Chair),
    /// What the planner expects of each command. Lost when the mailbox is full: there is no estimate
    /// then.
    Estimated(RequestId, Vec<Option<Estimate>>),
    /// Some seat was left, or an approval was taken. Lost when the mailbox is full: the desk looks
    /// by itself before whatever it does, and from time to time.
    Look,
}

/// Why nothing was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    #[error("{bytes} bytes of texts and values, more than the {REQUEST_BYTES_MAX} to be approved")]
    TooLarge { bytes: usize },
    #[error("nobody can be asked at the moment")]
    Unavailable,
}

/// What happens to a request, as its waiter sees it.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// People can be asked from now on: it is stored.
    Asked {
        id: RequestId,
        /// Where a person decides about it, in a browser.
        link: Option<String>,
        /// Since the Unix epoch.
        expires: Duration,
    },
    Over(Outcome),
}

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Approved(Approved),
    Denied {
        by: Approver,
        /// In the words of whoever denied it.
        reason: String,
    },
    Expired,
    /// No issuer that is configured has people in a group that this rule names.
    NobodyMayApprove {
        rule: String,
    },
    Withdrawn {
        why: Withdrawal,
    },
    /// Another policy is in force: to be judged by that, and asked anew if it holds it too.
    PolicyChanged,
    /// It was not asked: as many are open as may be.
    TooMany(TooMany),
    /// It cannot be kept, or the control thread is gone.
    Unavailable,
}

/// That a person approved, and that nobody else has used it: what waited may run, once.
///
/// Made by [`Waiting::poll`] alone.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Approved {
    id: RequestId,
    by: Vec<Approver>,
}

impl Approved {
    /// The request.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Everybody who approved, in order.
    pub fn by(&self) -> &[Approver] {
        &self.by
    }
}

/// A request of a shard, until it is over. Per held command.
///
/// Dropped, it was left without a word: outside of a transaction it stays open, for the same
/// principal to come back to.
#[must_use]
pub struct Waiting {
    seat: Arc<Seat>,
    events: Receiver<Event>,
    desk: Sender<ToDesk>,
}

/// The desk's side of a [`Waiting`].
pub(super) struct Chair {
    seat: Arc<Seat>,
    events: Sender<Event>,
}

/// Where one waiter stands.
///
/// ```text
/// Waiting ──desk──▶ Approved ──shard──▶ Taken
///    │ │               │ │
///    │ └─────desk──────┼─┴────────────▶ Over
///    └───────shard─────┴──────────────▶ Gone or Withdrawn
/// ```
struct Seat(AtomicU8);

const WAITING: u8 = 0;
const APPROVED: u8 = 1;
const TAKEN: u8 = 2;
const OVER: u8 = 3;
const GONE: u8 = 4;
/// And the place of the reason in [`Withdrawal::ALL`] on top.
const WITHDRAWN: u8 = 16;

/// What the desk finds on looking at a chair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sitting {
    Waits,
    /// Told that it is approved; it has not been back to its senses since.
    Approved,
    Taken,
    Gone,
    Withdrawn(Withdrawal),
    Over,
}

impl Seat {
    fn load(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }

    fn step(&self, from: u8, to: u8) -> bool {
        let step = self
            .0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        step.is_ok()
    }

    /// From either state in which somebody waits.
    fn leave(&self, to: u8) -> bool {
        // Approved may follow upon waiting in between, and nothing goes back.
        self.step(WAITING, to) || self.step(APPROVED, to)
    }
}

/// The two ends of the mailbox between shards and the desk.
#[must_use]
pub fn channel() -> (Approvals, Inbox) {
    let (desk, inbox) = runtime::mailbox(MAILBOX_BOUND);
    (Approvals { desk }, Inbox(inbox))
}

impl Approvals {
    /// Asks people, and goes on at once.
    ///
    /// # Errors
    /// [`NotAsked`]: the command is to be refused.
    pub fn request(&self, request: HoldRequest) -> Result<Waiting, NotAsked> {
        let bytes = request.bytes();
        if bytes > REQUEST_BYTES_MAX {
            return Err(NotAsked::TooLarge { bytes });
        }
        let seat = Arc::new(Seat(AtomicU8::new(WAITING)));
        let (events, unread) = runtime::mailbox(EVENTS_MAX);
        let chair = Chair {
            seat: Arc::clone(&seat),
            events,
        };
        self.desk
            .try_send(ToDesk::Ask(Box::new(request), chair))
            .map_err(|error| match error {
                TrySendError::Full(_) | TrySendError::Closed(_) => NotAsked::Unavailable,
            })?;
        Ok(Waiting {
            seat,
            events: unread,
            desk: self.desk.clone(),
        })
    }
}

impl Approvals {
    /// Adds what the target's planner expects of each command, if the request is still open.
    pub fn estimated(&self, id: RequestId, estimates: Vec<Option<Estimate>>) {
        drop(self.desk.try_send(ToDesk::Estimated(id, estimates)));
    }
}

impl Waiting {
    /// What has happened: `Asked` at most once, and then one `Over`, which may also come without.
    /// Nothing after that.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        loop {
            let event = match self.events.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                // The desk is gone, and with it whatever it might have decided.
                Poll::Ready(None) if self.seat.leave(OVER) => Event::Over(Outcome::Unavailable),
                Poll::Ready(None) => return Poll::Pending,
                Poll::Ready(Some(event)) => event,
            };
            if matches!(event, Event::Over(Outcome::Approved(_))) {
                if !self.seat.step(APPROVED, TAKEN) {
                    // It was taken back before it was used; why follows.
                    continue;
                }
                self.look();
            }
            return Poll::Ready(event);
        }
    }

    /// Ends the request: nobody will come back for it.
    pub fn withdraw(self, why: Withdrawal) {
        let place = Withdrawal::ALL.iter().position(|known| *known == why);
        let reason = place.and_then(|place| u8::try_from(place).ok());
        // Dropping it finds a seat that was left, and tells the desk.
        let _ = self.seat.leave(WITHDRAWN + reason.unwrap_or_default());
        self.look();
    }

    fn look(&self) {
        // It looks by itself sooner or later.
        let _ = self.desk.try_send(ToDesk::Look);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.seat.leave(GONE) {
            self.look();
        }
    }
}

impl Chair {
    pub(super) fn sitting(&self) -> Sitting {
        match self.seat.load() {
            WAITING => Sitting::Waits,
            APPROVED => Sitting::Approved,
            TAKEN => Sitting::Taken,
            OVER => Sitting::Over,
            GONE => Sitting::Gone,
            withdrawn => {
                let place = usize::from(withdrawn.saturating_sub(WITHDRAWN));
                let why = Withdrawal::ALL.get(place).copied();
                Sitting::Withdrawn(why.unwrap_or(Withdrawal::SessionEnded))
            }
        }
    }

    pub(super) fn asked(&self, id: RequestId, link: Option<String>, expires: Duration) {
        self.tell(Event::Asked { id, link, expires });
    }

    /// Hands the approval over; false when nobody waits any more.
    pub(super) fn approve(&self, id: RequestId, by: Vec<Approver>) -> bool {
        let stays = self.seat.step(WAITING, APPROVED);
        if stays {
            self.tell(Event::Over(Outcome::Approved(Approved { id, by })));
        }
        stays
    }

    /// Ends the wait, and takes an approval back that was not used yet. False when there is nothing
    /// to end: it was taken, or nobody is there.
    pub(super) fn end(&self, outcome: Outcome) -> bool {
        let ends = self.seat.leave(OVER);
        if ends {
            self.tell(Event::Over(outcome));
        }
        ends
    }

    fn tell(&self, event: Event) {
        // There is room for all that one waiter is ever told; gone, it needs to know nothing.
        let _ = self.events.try_send(event);
    }
}
