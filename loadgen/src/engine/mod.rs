//! Sends what is due when it is due, and keeps what became of each request.
//!
//! Open loop: a request is due when the schedule says so, whatever became of earlier ones. It goes
//! out on a connection that is free then; while none is, it waits, oldest first, and its latency
//! counts on. What waits needs no queue: due times are computed as they are taken, so the schedule
//! itself is the queue, and ends.
//!
//! ```text
//!   the thread that asked          one shard for each worker
//!   Engine::run ──── Order ───────▶ opening
//!        ◀──────────── Ready ──────    │
//!        ───── the start's moment ───▶ dispatch ──▶ connections ──▶ measure
//!        ◀─────────── Glimpse ─────    │  each second
//!        ◀──────────── Done ───────    ▼
//! ```
//!
//! It speaks no protocol, that is `protocols`; and it judges nothing, that is `validity`.

mod company;
mod connection;
mod desk;
mod files;
mod measure;
mod opening;
mod usage;
mod worker;

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use runtime::{RunningShards, ShardsConfig, StartError, now, unix_time};

use crate::progress::{Event, Snapshot};
use crate::protocols::{Agent, Failed, Reference, Target};
use crate::run::{Generator, Run};
use crate::scenario::Scenario;
use crate::validity::{self, Facts};
pub use files::TooFewFiles;
use measure::{Glimpse, Measured};
use worker::{Order, Report};

/// From when every connection is open until the schedule starts, so that no worker learns of it
/// too late.
const LEAD: Duration = Duration::from_millis(20);

/// How long connections are opened for, all together.
const OPENING_MAX: Duration = Duration::from_secs(120);

/// What a worker may need beyond its deadlines before it is taken for dead.
const GRACE: Duration = Duration::from_secs(30);

/// How long after an interruption answers are still waited for, if patience allows.
const PATIENCE_INTERRUPTED: Duration = Duration::from_secs(1);

/// How often the thread that asked looks whether it was interrupted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Reports of one worker that may wait: a second's glimpses that nobody took yet.
const REPORTS_WAITING: usize = 4;

/// One path under one scenario.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How reports call it.
    pub path: String,
    pub target: Arc<Target>,
    /// Connections are theirs in turn.
    pub agents: Arc<[Agent]>,
    pub scenario: Arc<Scenario>,
    /// Something on the path refuses what the scenario says is denied, and hides canaries. Without
    /// it such a request is answered, whatever the answer, and canaries are no leak.
    pub policed: bool,
    /// What answers are compared with; `None`: with the first one.
    pub reference: Option<Reference>,
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum NoRun {
    #[error("the generator's threads cannot be started")]
    Start(#[from] StartError),
    #[error("a plan has no agent")]
    NoAgent,
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    #[error("{path}: connection {number} of {count} could not be opened")]
    Connect {
        path: String,
        number: u32,
        count: u32,
        source: Failed,
    },
    #[error("{path}: only {opened} of {count} connections could be opened in time")]
    OpeningTooLong {
        path: String,
        opened: u32,
        count: u32,
    },
    #[error("interrupted before anything was measured")]
    Interrupted,
    #[error("a thread of the generator has ended")]
    WorkerDied,
}

/// Asks a run to end early. Any thread, any number of clones.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// The run ends with what there is; later runs do not start.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The generator's threads, for any number of runs one after the other.
///
/// Shards lock memory that the kernel gives back late, so they are not started anew for each run.
#[derive(Debug)]
pub struct Engine {
    orders: Vec<runtime::Sender<Order>>,
    reports: mpsc::Receiver<Report>,
    interrupt: Interrupt,
    _shards: RunningShards,
}

impl Engine {
    /// # Errors
    /// [`NoRun::Start`].
    pub fn start(workers: NonZeroU16, interrupt: &Interrupt) -> Result<Self, NoRun> {
        let count = usize::from(workers.get());
        let (reporter, reports) = mpsc::sync_channel(count.saturating_mul(REPORTS_WAITING));
        let (orders, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| runtime::mailbox(1)).unzip();
        // Taken from once by each shard as it starts.
        let inboxes: Vec<_> = inboxes.into_iter().map(Some).collect();
        let inboxes = Arc::new(Mutex::new(inboxes));
        let stop = interrupt.clone();
        let config = ShardsConfig {
            count: NonZeroUsize::new(count),
        };
        let shards = runtime::start_shards(config, move |shard| {
            let inbox = inboxes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_mut(usize::from(shard.0))
                .and_then(Option::take);
            let (reporter, stop) = (reporter.clone(), stop.clone());
            async move {
                if let Some(inbox) = inbox {
                    worker::work(shard.0, workers.get(), inbox, reporter, stop).await;
                }
            }
        })?;
        Ok(Self {
            orders,
            reports,
            interrupt: interrupt.clone(),
            _shards: shards,
        })
    }

    /// Runs `plan` to its end; `on` hears how it goes, on this thread.
    ///
    /// The scenario's number of workers is not looked at: it has those that were started.
    ///
    /// # Errors
    /// [`NoRun`]; a path that fails while it is measured is no error but a result.
    pub fn run(&mut self, plan: Plan, on: &mut dyn FnMut(Event)) -> Result<Run, NoRun> {
        if plan.agents.is_empty() {
            return Err(NoRun::NoAgent);
        }
        files::allow(plan.scenario.all_connections(), self.orders.len())?;
        let plan = Arc::new(plan);
        let begins = self.order(&plan)?;
        self.wait_until_open(&plan)?;
        let start = now() + LEAD;
        let started = UNIX_EPOCH + unix_time() + LEAD;
        for begin in begins {
            begin.send(start).map_err(|_| NoRun::WorkerDied)?;
        }
        let mut watch = Watch::new(&plan.scenario, start);
        let measured = self.watch(&mut watch, on)?;
        Ok(conclude(&plan, started, measured, watch.panics_before))
    }

    fn order(&self, plan: &Arc<Plan>) -> Result<Vec<runtime::ReplySender<Instant>>, NoRun> {
        let reference = Arc::new(plan.reference.map(Into::into).unwrap_or_default());
        // Texts of this run are like those of no other, also after a restart.
        let novelty = u64::try_from(unix_time().as_micros()).unwrap_or(u64::MAX);
        let opening_ends = now() + OPENING_MAX;
        let send = |orders: &runtime::Sender<Order>| {
            let (begin, begins) = runtime::reply();
            let order = Order {
                plan: Arc::clone(plan),
                reference: Arc::clone(&reference),
                novelty,
                opening_ends,
                begins,
            };
            orders.try_send(order).map_err(|_| NoRun::WorkerDied)?;
            Ok(begin)
        };
        self.orders.iter().map(send).collect()
    }

    fn wait_until_open(&self, plan: &Plan) -> Result<(), NoRun> {
        let deadline = now() + OPENING_MAX + plan.scenario.timeout + GRACE;
        let count = plan.scenario.all_connections();
        let (mut opened, mut first_failure) = (0, None);
        let mut waiting = self.orders.len();
        while waiting > 0 {
            match self.reports.recv_timeout(LOOK_EVERY) {
                Ok(Report::Ready(ready)) => {
                    waiting -= 1;
                    opened += ready.opened;
                    first_failure = first_failure.or(ready.failed);
                }
                // Left over from a run that was given up.
                Ok(Report::Glimpse(_) | Report::Done(_)) => {}
                Err(RecvTimeoutError::Timeout) if now() < deadline => {}
                Err(_) => return Err(NoRun::WorkerDied),
            }
        }
        if self.interrupt.is_requested() {
            return Err(NoRun::Interrupted);
        }
        let path = plan.path.clone();
        match first_failure {
            Some(source) => Err(NoRun::Connect {
                path,
                number: opened + 1,
                count,
                source,
            }),
            None if opened < count => Err(NoRun::OpeningTooLong {
                path,
                opened,
                count,
            }),
            None => Ok(()),
        }
    }

    fn watch(&self, watch: &mut Watch, on: &mut dyn FnMut(Event)) -> Result<Vec<Measured>, NoRun> {
        let mut measured = Vec::with_capacity(self.orders.len());
        on(Event::Warming);
        while measured.len() < self.orders.len() {
            watch.tell(on);
            match self.reports.recv_timeout(watch.wait()) {
                Ok(Report::Glimpse(glimpse)) => watch.glimpse.add(&glimpse),
                Ok(Report::Done(done)) => measured.push(*done),
                Ok(Report::Ready(_)) => {}
                Err(RecvTimeoutError::Timeout) if now() < watch.deadline => {}
                Err(_) => return Err(NoRun::WorkerDied),
            }
        }
        on(Event::Ended);
        Ok(measured)
    }
}

/// A run as the thread that asked for it sees it.
struct Watch {
    /// Of what counts.
    begin: Instant,
    duration: Duration,
    deadline: Instant,
    /// Seconds of `duration` that were told.
    told: Option<u32>,
    glimpse: Glimpse,
    panics_before: u64,
}

impl Watch {
    fn new(scenario: &Scenario, start: Instant) -> Self {
        let begin = start + scenario.schedule.warm_up();
        let duration = scenario.schedule.duration();
        Self {
            begin,
            duration,
            deadline: begin + duration + scenario.patience + GRACE,
            told: None,
            glimpse: Glimpse::default(),
            panics_before: runtime::panics_contained(),
        }
    }

    fn tell(&mut self, on: &mut dyn FnMut(Event)) {
        let Some(elapsed) = now().checked_duration_since(self.begin) else {
            return;
        };
        let elapsed = elapsed.min(self.duration);
        if self.told.is_none() {
            on(Event::Measuring);
        }
        let seconds = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX);
        if self.told.unwrap_or(0) < seconds {
            on(Event::Second(self.glimpse.snapshot(elapsed, self.duration)));
        }
        self.told = Some(seconds);
    }

    /// Until there is something to tell.
    fn wait(&self) -> Duration {
        let next = match self.told {
            None => self.begin,
            Some(told) => self.begin + Duration::from_secs(u64::from(told) + 1),
        };
        next.saturating_duration_since(now()).min(LOOK_EVERY)
    }
}

impl Glimpse {
    fn snapshot(&self, elapsed: Duration, duration: Duration) -> Snapshot {
        Snapshot {
            elapsed,
            duration,
            due: self.due,
            answered: self.answered,
            failed: self.failed,
            p50: self.corrected.value_at_quantile(0.5),
            p99: self.corrected.value_at_quantile(0.99),
        }
    }
}

/// Puts together what the workers measured.
fn conclude(
    plan: &Plan,
    started: std::time::SystemTime,
    measured: Vec<Measured>,
    panics_before: u64,
) -> Run {
    let scenario = &plan.scenario;
    let whole = scenario.schedule.duration();
    let mut all = Measured::new(whole);
    let mut threads = Vec::with_capacity(measured.len());
    let mut cut = None;
    for part in measured {
        threads.push(part.usage);
        cut = cut.max(part.cut);
        all.add(part);
    }
    // Due times count from the schedule's start; each second from the warm-up's end.
    let duration = cut.map_or(whole, |cut| {
        cut.saturating_sub(scenario.schedule.warm_up()).min(whole)
    });
    let verdict = validity::judge(&Facts {
        lag_max: scenario.lag_max,
        lag: &all.lag,
        corrected: &all.latencies.corrected,
        counts: &all.counts,
        taken: all.taken,
        without_connection: all.without_connection,
        threads: &threads,
        panics: runtime::panics_contained().saturating_sub(panics_before),
        interrupted: cut.is_some(),
    });
    Run {
        path: plan.path.clone(),
        asked: scenario.asked.clone(),
        started,
        duration,
        interrupted: cut.is_some(),
        seconds: all.seconds(duration),
        latencies: all.latencies,
        counts: all.counts,
        verification: all.verification,
        company: all.company,
        generator: Generator {
            lag: all.lag,
            cpu: threads.iter().map(|thread| thread.cpu).collect(),
            waited: threads.iter().map(|thread| thread.waited).collect(),
            without_connection: all.without_connection,
            invalid: verdict.invalid,
            notes: verdict.notes,
        },
        process: None,
    }
}
