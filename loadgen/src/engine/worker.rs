//! One generator thread: what it does with each order, from the first connection to its report.
//!
//! It merges nothing: parts of several workers meet where the order came from.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use runtime::{ReplyReceiver, Timer, now};

use super::company::Host;
use super::connection::{Connection, Shared};
use super::desk::Desk;
use super::measure::{Glimpse, Measure, Measured};
use super::opening::{self, Opened};
use super::usage::Reading;
use super::{Interrupt, PATIENCE_INTERRUPTED, Plan};
use crate::protocols::{Dialer, Failed, Reference};

/// How early or late the kernel may end a sleep, to end several at once.
///
/// 50 us unless asked otherwise, which a request that is due would be late by.
const TIMER_SLACK: NonZeroU64 = NonZeroU64::MIN;

/// What a worker is asked to do.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) plan: Arc<Plan>,
    /// What answers are compared with: the plan's, or the first answer that a worker gets.
    pub(super) reference: Arc<OnceLock<Reference>>,
    pub(super) novelty: u64,
    pub(super) opening_ends: Instant,
    /// When the schedule starts; dropped when it does not.
    pub(super) begins: ReplyReceiver<Instant>,
}

/// What a worker says to the thread that asked.
#[derive(Debug)]
pub(super) enum Report {
    Ready(Ready),
    Glimpse(Glimpse),
    Done(Box<Measured>),
}

/// The connections of a worker are open, or one could not be opened.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) opened: u32,
    pub(super) failed: Option<Failed>,
}

/// Carries out orders until nobody gives any.
pub(super) async fn work(
    worker: u16,
    workers: u16,
    mut orders: runtime::Receiver<Order>,
    reports: SyncSender<Report>,
    interrupt: Interrupt,
) {
    // Refused by a security module at most: then the lag says what it costs.
    let _ = rustix::thread::set_current_timer_slack(Some(TIMER_SLACK));
    while let Some(order) = orders.recv().await {
        carry_out(worker, workers, order, &reports, &interrupt).await;
    }
}

async fn carry_out(
    worker: u16,
    workers: u16,
    order: Order,
    reports: &SyncSender<Report>,
    interrupt: &Interrupt,
) {
    let plan = Rc::new(Plan::clone(&order.plan));
    let dialer = Rc::new(Dialer::new(Arc::clone(&plan.target)));
    let connections = opening::connections(&plan, worker, workers);
    let ends = order.opening_ends;
    let mut opened = opening::open(&plan, &dialer, connections, ends, interrupt).await;
    let count = opened.requests.len() + opened.idle.len() + opened.slow.len();
    let ready = Ready {
        opened: u32::try_from(count).unwrap_or(u32::MAX),
        failed: opened.failed.take(),
    };
    // Whoever does not listen any more has dropped `begins` too. There is room for one report of
    // each worker.
    let _ = reports.try_send(Report::Ready(ready));
    let Some(start) = order.begins.await else {
        return;
    };

    let scenario = &plan.scenario;
    let mix = scenario.mix;
    let due = scenario.schedule.due(u64::from(worker), u64::from(workers));
    let measure = Measure::new(&plan, order.reference, start);
    let shared = Rc::new(Shared {
        desk: Desk::new(
            start,
            opened.requests.len(),
            due,
            move |number| mix.part(number),
            scenario.schedule.warm_up(),
        ),
        plan: Rc::clone(&plan),
        dialer,
        measure: RefCell::new(measure),
        novelty: order.novelty,
    });
    let whole = scenario.schedule.warm_up() + scenario.schedule.duration();
    let host = Rc::new(Host::default());
    let Opened {
        requests,
        idle,
        slow,
        failed: _,
    } = opened;
    // Silence is watched for as long as anything can happen.
    let ends = start + whole + scenario.patience + Duration::from_secs(1);
    host.receive(&plan, idle, slow, ends);

    let (at_work, mut all_done) = runtime::mailbox::<()>(1);
    for (seat, (number, session)) in requests.into_iter().enumerate() {
        let at_work = at_work.clone();
        let connection = Connection {
            shared: Rc::clone(&shared),
            seat,
            number,
            session: Some(session),
        };
        runtime::spawn(async move {
            connection.serve().await;
            drop(at_work);
        });
    }
    drop(at_work);
    let mut dispatch = Dispatch {
        shared: Rc::clone(&shared),
        closes: start + whole,
        gives_up: start + whole + scenario.patience,
        cut: None,
        opens: None,
        closed: None,
        glimpsed: start,
    };
    dispatch.run(start, reports, interrupt).await;
    let company = host.dismiss();
    // As in `opening`; goodbyes have a deadline.
    while all_done.recv().await.is_some() {}

    let mut measured = {
        let mut measure = shared.measure.borrow_mut();
        let nothing = Measured::new(Duration::ZERO);
        std::mem::replace(&mut measure.measured, nothing)
    };
    measured.taken = shared.desk.taken();
    measured.company = company;
    measured.cut = dispatch.cut;
    measured.usage = dispatch.usage();
    // Blocks for as long as the thread that asked writes progress: the run is over.
    let _ = reports.send(Report::Done(Box::new(measured)));
}

/// Gives out what is due, until there is nothing more to wait for. Per worker, per run.
struct Dispatch {
    shared: Rc<Shared>,
    /// The schedule is over.
    closes: Instant,
    /// Patience is over.
    gives_up: Instant,
    /// Where the schedule was cut short.
    cut: Option<Duration>,
    /// The thread's counters when requests began to count, and when the schedule was over.
    opens: Option<Reading>,
    closed: Option<Reading>,
    glimpsed: Instant,
}

impl Dispatch {
    async fn run(&mut self, start: Instant, reports: &SyncSender<Report>, interrupt: &Interrupt) {
        let shared = Rc::clone(&self.shared);
        let counts_from = start + shared.plan.scenario.schedule.warm_up();
        let mut timer = Timer::at(start);
        loop {
            let time = now();
            shared.desk.hand_out(time);
            if self.opens.is_none() && time >= counts_from {
                self.opens = Some(Reading::take());
            }
            if self.cut.is_none() && interrupt.is_requested() {
                self.cut = Some(shared.desk.cut(time));
                self.closes = self.closes.min(time);
                self.gives_up = self.gives_up.min(time + PATIENCE_INTERRUPTED);
            }
            if self.closed.is_none() && time >= self.closes {
                self.closed = Some(Reading::take());
            }
            shared.desk.dismiss();
            if shared.desk.is_left() && time >= self.closes {
                return;
            }
            if time >= self.gives_up {
                break;
            }
            self.glimpse(time, reports);
            let until = match self.closed {
                None => self.closes,
                Some(_) => self.gives_up,
            };
            shared.desk.sleep(&mut timer, until).await;
        }
        let ended = now();
        while let Some(job) = shared.desk.give_up() {
            shared.measure.borrow_mut().unfinished(&job, ended);
        }
    }

    /// Once a second. What there is no room for is part of the next.
    fn glimpse(&mut self, time: Instant, reports: &SyncSender<Report>) {
        if time.saturating_duration_since(self.glimpsed) < Duration::from_secs(1) {
            return;
        }
        self.glimpsed = time;
        let recent = std::mem::take(&mut self.shared.measure.borrow_mut().recent);
        if let Err(TrySendError::Full(Report::Glimpse(recent))) =
            reports.try_send(Report::Glimpse(recent))
        {
            self.shared.measure.borrow_mut().recent = recent;
        }
    }

    fn usage(&self) -> crate::validity::ThreadUse {
        match (&self.opens, &self.closed) {
            (Some(opens), Some(closed)) => opens.until(closed),
            _ => crate::validity::ThreadUse::default(),
        }
    }
}
