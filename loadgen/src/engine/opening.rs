//! Opens the connections of one worker before the schedule starts.
//!
//! One failure ends it: what was asked for would not be what is measured.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use runtime::now;

use super::{Interrupt, Plan};
use crate::protocols::{Agent, Dialer, Failed, Session};

/// Connections that one worker opens at the same time.
///
/// Enough that the round trips of a log-in overlap, few enough that a target's queue of new
/// connections holds those of some hundred workers.
const AT_ONCE: usize = 32;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Requests,
    Idle,
    SlowReading,
}

/// Connections of one worker, by purpose.
#[derive(Default)]
pub(super) struct Opened {
    pub(super) requests: Vec<(usize, Session)>,
    pub(super) idle: Vec<Session>,
    pub(super) slow: Vec<Session>,
    /// Why it was ended before all were open.
    pub(super) failed: Option<Failed>,
}

/// The agent of connection `number`, over all workers and purposes.
pub(super) fn agent(plan: &Plan, number: usize) -> Option<&Agent> {
    plan.agents.get(number.checked_rem(plan.agents.len())?)
}

/// What each connection of worker `worker` of `workers` is for, with its number: each number is one
/// worker's.
pub(super) fn connections(
    plan: &Plan,
    worker: u16,
    workers: u16,
) -> impl Iterator<Item = (usize, Purpose)> + use<> {
    let scenario = &plan.scenario;
    let of = |count: u32, purpose| {
        std::iter::repeat_n(purpose, usize::try_from(count).unwrap_or(usize::MAX))
    };
    of(scenario.connections, Purpose::Requests)
        .chain(of(scenario.idle, Purpose::Idle))
        .chain(of(scenario.slow_readers, Purpose::SlowReading))
        .enumerate()
        .skip(usize::from(worker))
        .step_by(usize::from(workers.max(1)))
}

/// Opens them all, until `deadline` or an interruption.
pub(super) async fn open(
    plan: &Rc<Plan>,
    dialer: &Rc<Dialer>,
    connections: impl Iterator<Item = (usize, Purpose)> + 'static,
    deadline: Instant,
    interrupt: &Interrupt,
) -> Opened {
    let opened = Rc::new(RefCell::new(Opened::default()));
    let left = Rc::new(RefCell::new(connections));
    let ends = Rc::new(Cell::new(false));
    let (at_work, mut all_done) = runtime::mailbox::<()>(1);
    for _ in 0..AT_ONCE {
        let (plan, dialer) = (Rc::clone(plan), Rc::clone(dialer));
        let (opened, left, ends) = (Rc::clone(&opened), Rc::clone(&left), Rc::clone(&ends));
        let (at_work, interrupt) = (at_work.clone(), interrupt.clone());
        runtime::spawn(async move {
            while !ends.get() && now() < deadline && !interrupt.is_requested() {
                let next = left.borrow_mut().next();
                let Some((number, purpose)) = next else { break };
                let Some(agent) = agent(&plan, number) else {
                    break;
                };
                let within = deadline.min(now() + plan.scenario.timeout);
                let session = dialer.open(agent, within).await;
                let mut opened = opened.borrow_mut();
                match (session, purpose) {
                    (Ok(session), Purpose::Requests) => opened.requests.push((number, session)),
                    (Ok(session), Purpose::Idle) => opened.idle.push(session),
                    (Ok(session), Purpose::SlowReading) => opened.slow.push(session),
                    (Err(failed), _) => {
                        opened.failed = opened.failed.take().or(Some(failed));
                        ends.set(true);
                    }
                }
            }
            drop(at_work);
        });
    }
    drop(at_work);
    // Nothing is ever sent: it ends when every task has dropped its end, by a panic as well.
    while all_done.recv().await.is_some() {}
    opened.take()
}
