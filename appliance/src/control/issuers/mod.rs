//! Keeps the keys of issuers that publish them over HTTPS.
//!
//! One task: it fetches them ahead of their expiry and when a login meets a key that it does not
//! know, publishes them to the shards, and withdraws those that are too old. It proves nothing.
//!
//! ```text
//! Due ──attempt──▶ Fetching ──success──▶ Resting (refresh_min at least) ──▶ Due
//!                      └─────failure──▶ Resting (1 s, doubled up to 60 s) ─▶ Due
//! ```

mod cache;
mod fetch;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use runtime::{Published, Receiver, ReplySender};
use tokio::time::Instant;

pub(super) use self::fetch::post_form;
pub use self::fetch::{FetchError, IssuerLook, client, discover, look};

use self::cache::Kept;
use self::fetch::{Fetched, fetch};
use crate::config::{Snapshot, StateDirectory};
use crate::identity::remote::{Known, RefreshWanted};
use crate::identity::{Authenticators, KeySet, RemoteKeys, RemoteSource, SourceId};
use crate::telemetry::chain;

/// After a failure; doubled with each that follows, up to the second.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// The task's furthest look ahead, where nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// The keys that a running appliance has kept on disk, for commands that do not ask one.
pub fn kept(state: &StateDirectory, authenticators: &Authenticators) -> Arc<RemoteKeys> {
    let published = Published::new(Arc::new(RemoteKeys::none()));
    Keeper::new(published.clone(), state.clone(), authenticators);
    published.load()
}

type Attempt = Pin<Box<dyn Future<Output = (SourceId, Result<Fetched, FetchError>)> + Send>>;

/// Owns what is known of every remote source. Per process.
pub(super) struct Keeper {
    published: Published<RemoteKeys>,
    state: StateDirectory,
    sources: BTreeMap<SourceId, Source>,
    attempts: FuturesUnordered<Attempt>,
}

struct Source {
    settings: Arc<RemoteSource>,
    kept: Option<Kept>,
    progress: Progress,
    failures: u32,
    trouble: Option<String>,
    /// The log has been told that its tokens are refused.
    lapsed: bool,
}

enum Progress {
    /// The next attempt comes at `due`, or from `earliest` on when a login asks for it.
    Resting { earliest: Instant, due: Instant },
    /// Logins wait for it. The limits on peers that have proven nothing bound their number.
    Fetching { waiting: Vec<ReplySender<()>> },
}

impl Keeper {
    /// Begins with what the last run kept. Blocking: reads one file for each source.
    pub(super) fn new(
        published: Published<RemoteKeys>,
        state: StateDirectory,
        authenticators: &Authenticators,
    ) -> Self {
        let mut keeper = Self {
            published,
            state,
            sources: BTreeMap::new(),
            attempts: FuturesUnordered::new(),
        };
        keeper.follow(authenticators);
        keeper
    }

    /// Runs until nobody can ask any more.
    pub(super) async fn run(
        mut self,
        snapshots: Published<Snapshot>,
        mut questions: Receiver<RefreshWanted>,
    ) {
        let mut configuration = snapshots.subscribe();
        cache::sweep(&self.state, self.sources.keys().copied());
        loop {
            self.start_due();
            let next = self.next_event();
            tokio::select! {
                snapshot = configuration.changed() => {
                    self.follow(&snapshot.authenticators);
                    cache::sweep(&self.state, self.sources.keys().copied());
                }
                question = questions.recv() => match question {
                    Some(question) => self.wanted(question),
                    None => return,
                },
                Some((id, outcome)) = self.attempts.next() => self.over(id, outcome).await,
                () = tokio::time::sleep_until(next) => self.publish(),
            }
        }
    }

    /// Takes up the sources of a configuration. One that is as before goes on as it was.
    fn follow(&mut self, authenticators: &Authenticators) {
        let now = runtime::unix_time().as_secs();
        let configured: BTreeMap<SourceId, Arc<RemoteSource>> = authenticators
            .remote_sources()
            .map(|(id, settings)| (id, Arc::clone(settings)))
            .collect();
        self.sources.retain(|id, _| configured.contains_key(id));
        for (id, settings) in configured {
            if let Some(source) = self.sources.get_mut(&id) {
                source.settings = settings;
                continue;
            }
            let at = Instant::now();
            let source = Source {
                kept: cache::read(&self.state, id, now),
                settings,
                progress: Progress::Resting {
                    earliest: at,
                    due: at,
                },
                failures: 0,
                trouble: None,
                lapsed: false,
            };
            self.sources.insert(id, source);
        }
        self.publish();
    }

    /// Begins the attempts that are due.
    fn start_due(&mut self) {
        let now = Instant::now();
        let due: Vec<SourceId> = self
            .sources
            .iter()
            .filter(|(_, source)| {
                matches!(source.progress, Progress::Resting { due, .. } if due <= now)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.start(id, Vec::new());
        }
    }

    fn start(&mut self, id: SourceId, waiting: Vec<ReplySender<()>>) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.progress = Progress::Fetching { waiting };
            let settings = Arc::clone(&source.settings);
            let attempt = async move { (id, fetch(settings).await) };
            self.attempts.push(Box::pin(attempt));
        }
    }

    /// A login met a key that it does not know. An answer that is dropped says that there is
    /// nothing to wait for.
    fn wanted(&mut self, question: RefreshWanted) {
        let Some(source) = self.sources.get_mut(&question.source) else {
            return;
        };
        match &mut source.progress {
            Progress::Fetching { waiting } => waiting.push(question.done),
            Progress::Resting { earliest, .. } if *earliest <= Instant::now() => {
                self.start(question.source, vec![question.done]);
            }
            Progress::Resting { .. } => {}
        }
    }

    async fn over(&mut self, id: SourceId, outcome: Result<Fetched, FetchError>) {
        // The configuration may have dropped it meanwhile.
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        let waiting = source.settle(outcome);
        self.publish();
        for login in waiting {
            // It may have given up.
            let _ = login.send(());
        }
        self.write(id).await;
    }

    /// Keeps what was fetched on disk. Without it a restart begins with nothing.
    async fn write(&mut self, id: SourceId) {
        let Some(kept) = self.sources.get_mut(&id).and_then(|source| {
            let fresh = source.failures == 0;
            fresh.then(|| source.kept.take()).flatten()
        }) else {
            return;
        };
        let state = self.state.clone();
        let writing = tokio::task::spawn_blocking(move || {
            if let Err(error) = cache::write(&state, id, &kept) {
                tracing::warn!(
                    error = chain(&error),
                    "an issuer's keys are not kept on disk"
                );
            }
            kept
        });
        if let (Ok(kept), Some(source)) = (writing.await, self.sources.get_mut(&id)) {
            source.kept = Some(kept);
        }
    }

    /// Publishes what is in force now, and tells the log of what no longer is.
    fn publish(&mut self) {
        let now = runtime::unix_time().as_secs();
        let before = self.published.load();
        let sources: Vec<Known> = self
            .sources
            .iter_mut()
            .map(|(id, source)| source.known(*id, now))
            .collect();
        let keys = |sources: &[Known]| -> Vec<(SourceId, Option<*const KeySet>)> {
            let keys = sources
                .iter()
                .map(|known| (known.id, known.keys.as_ref().map(Arc::as_ptr)));
            keys.collect()
        };
        let generation = if keys(&before.sources) == keys(&sources) {
            before.generation
        } else {
            before.generation + 1
        };
        self.published.publish(Arc::new(RemoteKeys {
            generation,
            sources,
        }));
    }

    /// When something is due or becomes too old.
    fn next_event(&self) -> Instant {
        let now = Instant::now();
        let unix = runtime::unix_time().as_secs();
        let mut next = now + IDLE;
        for source in self.sources.values() {
            if let Progress::Resting { due, .. } = source.progress {
                next = next.min(due);
            }
            if !source.lapsed
                && let Some(kept) = &source.kept
            {
                let left = source.usable_until(kept).saturating_sub(unix);
                next = next.min(now + Duration::from_secs(left));
            }
        }
        next
    }
}

impl Source {
    /// Takes in what came of an attempt; who waited for it is given back.
    fn settle(&mut self, outcome: Result<Fetched, FetchError>) -> Vec<ReplySender<()>> {
        let now = Instant::now();
        let rest = match outcome {
            Ok(fetched) => self.succeeded(fetched),
            Err(error) => self.failed(&error),
        };
        let resting = Progress::Resting {
            earliest: now + rest.least,
            due: now + rest.most,
        };
        match std::mem::replace(&mut self.progress, resting) {
            Progress::Fetching { waiting } => waiting,
            Progress::Resting { .. } => Vec::new(),
        }
    }

    fn succeeded(&mut self, fetched: Fetched) -> Rest {
        let name = &self.settings.name;
        let same = self
            .kept
            .take()
            .filter(|kept| kept.jwks == fetched.jwks)
            .map(|kept| kept.keys);
        if self.failures > 0 || self.lapsed {
            tracing::info!(issuer = name, "an issuer's keys could be fetched again");
        } else if same.is_none() {
            tracing::info!(issuer = name, "an issuer's keys were fetched");
        }
        self.failures = 0;
        self.trouble = None;
        self.lapsed = false;
        self.kept = Some(Kept {
            // The same allocation: what did not change leaves verified tokens verified.
            keys: same.unwrap_or_else(|| Arc::new(fetched.keys)),
            jwks: fetched.jwks,
            endpoints: fetched.endpoints.map(Arc::new),
            fetched: runtime::unix_time().as_secs(),
        });
        let (min, max) = (self.settings.refresh_min, self.settings.refresh_max);
        let fresh = fetched.max_age.unwrap_or(max).clamp(min, max);
        Rest {
            least: min,
            // Ahead of the expiry.
            most: (fresh / 5 * 4).max(min),
        }
    }

    fn failed(&mut self, error: &FetchError) -> Rest {
        let trouble = chain(error);
        if self.failures == 0 {
            tracing::warn!(
                issuer = self.settings.name,
                error = trouble,
                "an issuer's keys could not be fetched"
            );
        }
        self.failures = self.failures.saturating_add(1);
        self.trouble = Some(trouble);
        let doublings = (self.failures - 1).min(16);
        let wait = (RETRY_FIRST * 2_u32.pow(doublings)).min(RETRY_LAST);
        Rest {
            least: wait,
            most: wait,
        }
    }

    fn usable_until(&self, kept: &Kept) -> u64 {
        kept.fetched
            .saturating_add(self.settings.stale_max.as_secs())
    }

    /// What is published of it at `now`.
    fn known(&mut self, id: SourceId, now: u64) -> Known {
        let usable_until = self.kept.as_ref().map(|kept| self.usable_until(kept));
        let usable = usable_until.is_some_and(|until| now < until);
        if self.kept.is_some() && !usable && !self.lapsed {
            self.lapsed = true;
            tracing::error!(
                issuer = self.settings.name,
                "an issuer could not be reached for longer than stale_max: its tokens are refused"
            );
        }
        let kept = self.kept.as_ref();
        Known {
            id,
            name: self.settings.name.clone(),
            keys: kept.filter(|_| usable).map(|kept| Arc::clone(&kept.keys)),
            endpoints: kept.and_then(|kept| kept.endpoints.clone()),
            fetched: kept.map(|kept| kept.fetched),
            usable_until: usable_until.unwrap_or_default(),
            trouble: self.trouble.clone(),
        }
    }
}

/// How long a source is left alone.
struct Rest {
    /// Even when a login asks.
    least: Duration,
    most: Duration,
}
