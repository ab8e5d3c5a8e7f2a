//! The task that owns the desk, and how the control plane reaches it.
//!
//! Everything that happens at the desk may wait for the disk, so it happens on a thread that may
//! block; the task hands the desk there and gets it back.

use std::time::Duration;

use policy::Principal;
use policy::approval::{NotCounted, Progress};
use tokio::sync::{mpsc, oneshot};

use super::desk::{Answer, Desk, Panel};
use super::request::RequestId;
use super::waiting::{Inbox, ToDesk};

/// Questions of the control plane that may wait for the desk; who asks beyond that waits.
const QUESTIONS_MAX: usize = 64;

/// How often the desk looks for seats that were left, while requests are open.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How the control plane reaches the desk. Clones reach the same.
#[derive(Clone)]
pub struct Broker {
    asking: mpsc::Sender<Question>,
}

type Question = Box<dyn FnOnce(&mut Desk) + Send>;

/// The desk is gone: the appliance is stopping, or it panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("approvals are not available")]
pub struct Unavailable;

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    NotCounted(#[from] NotCounted),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Broker {
    /// Starts the task. To be called inside the control plane's runtime.
    pub fn start(desk: Desk, inbox: Inbox) -> Self {
        let (asking, questions) = mpsc::channel(QUESTIONS_MAX);
        tokio::spawn(async move {
            if attend(desk, inbox, questions).await.is_err() {
                tracing::error!("approvals ended: what is held is refused from now on");
            }
        });
        Self { asking }
    }

    /// A person's answer to a request.
    ///
    /// # Errors
    /// Why it does not count.
    pub async fn answer(
        &self,
        id: RequestId,
        voter: Principal,
        answer: Answer,
    ) -> Result<Progress, AnswerError> {
        let answered = self.ask(move |desk| desk.answer(id, &voter, answer, runtime::unix_time()));
        Ok(answered.await??)
    }

    /// Goes by another configuration.
    ///
    /// # Errors
    /// The desk is gone, and with it everything that was open.
    pub async fn reconfigure(&self, panel: Panel) -> Result<(), Unavailable> {
        let reconfigure = move |desk: &mut Desk| desk.reconfigure(panel, runtime::unix_time());
        self.ask(reconfigure).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Desk) -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |desk| {
            // Whoever asked may have given up.
            let _ = reply.send(question(desk));
        });
        self.asking.send(question).await.map_err(|_| Unavailable)?;
        answer.await.map_err(|_| Unavailable)
    }
}

/// Serves shards and the control plane, until nobody can ask any more.
async fn attend(
    mut desk: Desk,
    mut inbox: Inbox,
    mut questions: mpsc::Receiver<Question>,
) -> Result<(), tokio::task::JoinError> {
    loop {
        let due = desk.next_due().map(|due| {
            let wait = due.saturating_sub(runtime::unix_time());
            tokio::time::sleep(wait.min(LOOK_EVERY))
        });
        let has_due = due.is_some();
        let step: Question = tokio::select! {
            message = inbox.0.recv() => match message {
                Some(ToDesk::Ask(request, chair)) => {
                    Box::new(move |desk| desk.ask(*request, chair, runtime::unix_time()))
                }
                Some(ToDesk::Look) => Box::new(|desk| desk.look(runtime::unix_time())),
                None => return Ok(()),
            },
            question = questions.recv() => match question {
                Some(question) => question,
                None => return Ok(()),
            },
            () = async { if let Some(due) = due { due.await } }, if has_due => {
                Box::new(|desk| desk.look(runtime::unix_time()))
            }
        };
        desk = tokio::task::spawn_blocking(move || {
            step(&mut desk);
            desk
        })
        .await?;
    }
}
