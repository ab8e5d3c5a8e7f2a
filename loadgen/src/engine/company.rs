//! Connections that keep the measured ones company: silent ones, and ones that read slowly.
//!
//! They are in no latency. That one of them is lost is counted, and it is not opened again.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use runtime::{next_turn, now};

use super::Plan;
use crate::protocols::{Outcome, Session};
use crate::run::Company;
use crate::scenario::PATIENCE_MAX;

/// Holds connections until it is told that the run is over. Per worker, per run.
#[derive(Default)]
pub(super) struct Host {
    counts: RefCell<Company>,
    is_over: Cell<bool>,
    /// One for each connection.
    waiting: RefCell<Vec<Waker>>,
}

impl Host {
    /// Keeps `idle` silent and lets `slow` read, until [`dismiss`](Self::dismiss).
    pub(super) fn receive(
        self: &Rc<Self>,
        plan: &Rc<Plan>,
        idle: Vec<Session>,
        slow: Vec<Session>,
        ends: Instant,
    ) {
        for session in idle {
            self.counts.borrow_mut().idle += 1;
            runtime::spawn(Rc::clone(self).keep(session, ends));
        }
        for session in slow {
            self.counts.borrow_mut().slow += 1;
            runtime::spawn(Rc::clone(self).feed(Rc::clone(plan), session));
        }
    }

    /// Lets all of them go, and says how they were.
    pub(super) fn dismiss(&self) -> Company {
        self.is_over.set(true);
        for waker in self.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
        self.counts.borrow().clone()
    }

    async fn keep(self: Rc<Self>, mut session: Session, ends: Instant) {
        if let Some(Some(_)) = self.until_over(session.watch(ends)).await {
            self.counts.borrow_mut().idle_lost += 1;
        }
    }

    async fn feed(self: Rc<Self>, plan: Rc<Plan>, mut session: Session) {
        let request = &plan.scenario.requests.slow;
        let reading = async {
            loop {
                // What ends an answer that takes longer is the end of the run.
                let answer = session.exchange(request, now() + PATIENCE_MAX).await;
                match answer.map(|answer| answer.outcome) {
                    Ok(Outcome::Rows(_)) => self.counts.borrow_mut().slow_answers += 1,
                    Ok(Outcome::Refused | Outcome::Error(_)) | Err(_) => break,
                }
                next_turn().await;
            }
        };
        if self.until_over(reading).await.is_some() {
            self.counts.borrow_mut().slow_lost += 1;
        }
    }

    /// `None` when the run was over before.
    async fn until_over<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut is_waiting = false;
        poll_fn(|cx| {
            if self.is_over.get() {
                return Poll::Ready(None);
            }
            if !is_waiting {
                is_waiting = true;
                self.waiting.borrow_mut().push(cx.waker().clone());
            }
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }
}
