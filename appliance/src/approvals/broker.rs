//! The task that owns the desk, and how the control plane reaches it.
//!
//! Everything that happens at the desk may wait for the disk, so it happens on a thread that may
//! block; the task hands the desk there and gets it back.

use std::time::Duration;

use policy::Principal;
use policy::approval::Progress;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::desk::{Answer, AnswerError, Desk, News, Panel};
use super::request::RequestId;
use super::shown::{Audience, Shown};
use super::store::{Filter, StoreError};
use super::waiting::{Inbox, ToDesk};

/// Questions of the control plane that may wait for the desk; who asks beyond that waits.
const QUESTIONS_MAX: usize = 64;

/// News that a follower may be behind; a slower one misses some, and is told so.
const NEWS_MAX: usize = 256;

/// How often the desk looks for seats that were left, while requests are open.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How the control plane reaches the desk. Clones reach the same.
#[derive(Clone)]
pub struct Broker {
    asking: mpsc::Sender<Step>,
    news: broadcast::Sender<News>,
}

/// Something to be done at the desk.
type Step = Box<dyn FnOnce(&mut Desk) + Send>;

/// Why there is no answer about requests.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("approvals are not available")]
    Unavailable,
}

/// The desk is gone: the appliance is stopping, or it panicked.
struct Gone;

impl From<Gone> for AnswerError {
    fn from(Gone: Gone) -> Self {
        Self::Unavailable
    }
}

impl From<Gone> for LookError {
    fn from(Gone: Gone) -> Self {
        Self::Unavailable
    }
}

impl Broker {
    /// Starts the task. To be called inside the control plane's runtime.
    pub(crate) fn start(desk: Desk, inbox: Inbox) -> Self {
        let (asking, questions) = mpsc::channel(QUESTIONS_MAX);
        let (news, _) = broadcast::channel(NEWS_MAX);
        let followers = news.clone();
        tokio::spawn(async move {
            if let Err(error) = attend(desk, inbox, questions, followers).await {
                tracing::error!(%error, "approvals ended: what is held is refused from now on");
            }
        });
        Self { asking, news }
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
        let answered = self.ask(move |desk| desk.answer(id, &voter, &answer, runtime::unix_time()));
        answered.await?
    }

    /// How many requests are open.
    ///
    /// # Errors
    /// The desk is gone.
    pub async fn count(&self) -> Result<usize, LookError> {
        Ok(self.ask(|desk| desk.count()).await?)
    }

    /// Requests, the latest first.
    ///
    /// # Errors
    /// The store cannot be read, or the desk is gone.
    pub async fn list(&self, filter: Filter, audience: Audience) -> Result<Vec<Shown>, LookError> {
        let listed = self.ask(move |desk| desk.list(&filter, audience, runtime::unix_time()));
        Ok(listed.await??)
    }

    /// The request of that id, or of that beginning of it if only one that is open has it.
    ///
    /// # Errors
    /// The store cannot be read, or the desk is gone.
    pub async fn find(&self, name: &str, audience: Audience) -> Result<Option<Shown>, LookError> {
        let name = name.to_owned();
        let found = self.ask(move |desk| desk.find(&name, audience, runtime::unix_time()));
        Ok(found.await??)
    }

    /// What happens to requests from now on.
    pub fn follow(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Goes by another configuration. What another policy held is over with that.
    pub(crate) async fn reconfigure(&self, panel: Panel) {
        let reconfigure = move |desk: &mut Desk| desk.reconfigure(panel, runtime::unix_time());
        if let Err(Gone) = self.ask(reconfigure).await {
            tracing::warn!("approvals did not take the configuration: they have ended");
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Desk) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        let step: Step = Box::new(move |desk| {
            // Whoever asked may have given up.
            drop(reply.send(question(desk)));
        });
        self.asking.send(step).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}

/// Serves shards and the control plane, until nobody can ask any more.
async fn attend(
    mut desk: Desk,
    mut inbox: Inbox,
    mut questions: mpsc::Receiver<Step>,
    followers: broadcast::Sender<News>,
) -> Result<(), tokio::task::JoinError> {
    loop {
        let wait = desk.next_due().map(|due| {
            let wait = due.saturating_sub(runtime::unix_time());
            // A clock that was set, and a message that was lost, cost no more than this.
            wait.clamp(Duration::from_millis(1), LOOK_EVERY)
        });
        let due = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let step: Step = tokio::select! {
            message = inbox.0.recv() => match message {
                Some(ToDesk::Ask(held, chair)) => {
                    Box::new(move |desk| desk.ask(*held, chair, runtime::unix_time()))
                }
                Some(ToDesk::Estimated(id, estimates)) => {
                    Box::new(move |desk| desk.estimated(id, &estimates))
                }
                Some(ToDesk::Look) => Box::new(|desk| desk.look(runtime::unix_time())),
                None => return Ok(()),
            },
            question = questions.recv() => match question {
                Some(question) => question,
                None => return Ok(()),
            },
            () = due => Box::new(|desk| desk.look(runtime::unix_time())),
        };
        desk = tokio::task::spawn_blocking(move || {
            step(&mut desk);
            desk
        })
        .await?;
        for news in desk.take_news() {
            // Nobody may follow.
            drop(followers.send(news));
        }
    }
}
