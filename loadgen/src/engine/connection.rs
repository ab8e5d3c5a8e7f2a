//! One connection that requests are sent on, one at a time.
//!
//! It knows no schedule but through the desk. A connection that was lost is opened again when a
//! request needs it, as a client would, and not before.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use runtime::now;

use super::desk::{Desk, Job, Work};
use super::measure::{End, Measure, Sent};
use super::{Plan, opening};
use crate::protocols::{Dialer, Failed, Request, Session};
use crate::scenario::Kind;

/// How long a goodbye may take. Nobody waits for it but the end of the run.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the connections of one worker share. Per run.
pub(super) struct Shared {
    pub(super) plan: Rc<Plan>,
    pub(super) dialer: Rc<Dialer>,
    pub(super) desk: Desk,
    pub(super) measure: RefCell<Measure>,
    /// Makes the texts of this run unlike those of any other.
    pub(super) novelty: u64,
}

/// Per connection.
pub(super) struct Connection {
    pub(super) shared: Rc<Shared>,
    pub(super) seat: usize,
    /// Over all workers.
    pub(super) number: usize,
    pub(super) session: Option<Session>,
}

impl Connection {
    /// Sends requests for as long as there are any.
    pub(super) async fn serve(mut self) {
        let shared = Rc::clone(&self.shared);
        let mut freed = now();
        while let Some(work) = shared.desk.next(self.seat, freed).await {
            freed = self.carry_out(&work).await;
        }
        shared.desk.leave();
        if let Some(session) = self.session.take() {
            session.close(now() + GOODBYE).await;
        }
    }

    /// Returns when the connection was free again.
    async fn carry_out(&mut self, work: &Work) -> Instant {
        let shared = Rc::clone(&self.shared);
        let requests = &shared.plan.scenario.requests;
        let novel = match work.job.part.kind {
            Kind::Novel => requests.novel(shared.novelty, work.job.due.number).ok(),
            Kind::Plain | Kind::Denied => None,
        };
        let request = match (work.job.part.kind, &novel) {
            (Kind::Denied, _) => &requests.denied,
            // The text fitted a message without its comment, and nearly always does with it.
            (Kind::Novel | Kind::Plain, None) => &requests.plain,
            (Kind::Novel | Kind::Plain, Some(novel)) => novel,
        };
        let begun = now();
        let end = {
            let seat = self.seat;
            let mut ask = pin!(self.ask(&work.job, request, begun));
            poll_fn(|cx| match ask.as_mut().poll(cx) {
                Poll::Ready(end) => Poll::Ready(end),
                Poll::Pending => shared.desk.poll_over(seat, cx).map(|()| End::Unfinished),
            })
            .await
        };
        let ended = match &end {
            End::Answered(answered) => answered.last_byte,
            End::Failed(_) | End::Unfinished => now(),
        };
        let sent = Sent {
            could: work.could,
            begun,
        };
        let mut measure = shared.measure.borrow_mut();
        measure.settle(&work.job, sent, &end, ended);
        ended
    }

    async fn ask(&mut self, job: &Job, request: &Request, begun: Instant) -> End {
        let deadline = begun + self.shared.plan.scenario.timeout;
        if let Err(failed) = self.prepare(job, begun, deadline).await {
            return End::Failed(failed);
        }
        let Some(session) = &mut self.session else {
            return End::Unfinished;
        };
        match session.exchange(request, deadline).await {
            Ok(answered) => End::Answered(answered),
            Err(failed) => End::Failed(failed),
        }
    }

    /// Sees to it that there is a session, and a new one where the request asks for that.
    async fn prepare(
        &mut self,
        job: &Job,
        begun: Instant,
        deadline: Instant,
    ) -> Result<(), Failed> {
        self.session.take_if(|session| !session.is_usable());
        if job.part.fresh
            && let Some(session) = self.session.take()
        {
            // One for each new connection, and it ends by its deadline.
            runtime::spawn(session.close(begun + GOODBYE));
        }
        if self.session.is_some() {
            return Ok(());
        }
        let shared = &self.shared;
        // Plans without agents are refused before anything is started.
        let Some(agent) = opening::agent(&shared.plan, self.number) else {
            return Ok(());
        };
        self.session = Some(shared.dialer.open(agent, deadline).await?);
        let mut measure = shared.measure.borrow_mut();
        measure.connected(job.due.offset, begun, now());
        Ok(())
    }
}
