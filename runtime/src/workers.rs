//! Threads for work that would hold a shard: name resolution, big parses.
//!
//! The executor's own pool wakes it through rings in which this shard does not sleep.

use std::cell::RefCell;
use std::io;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::thread::CpuSet;

use crate::clock::now;
use crate::mailbox::reply;
use crate::panics::{Panicked, catch, count};
use crate::timer::Timer;

/// Threads per shard, started when first needed.
///
/// More than one, so that a name server that does not answer cannot hold up a parse.
const THREADS: usize = 4;

/// Threads per shard for work that takes much memory: its peak is that of one.
const THREADS_ALONE: usize = 1;

/// Work that may wait for a thread; behind it, whoever asks waits outside.
const WAITING_MAX: usize = 1024;

/// Pause before work that found no room is offered again.
const FULL_PAUSE: Duration = Duration::from_millis(1);

type Work = Box<dyn FnOnce() + Send>;

thread_local! {
    static WORKERS: RefCell<Option<Workers>> = const { RefCell::new(None) };
}

/// Per shard.
struct Workers {
    cpus: CpuSet,
    beside: Option<SyncSender<Work>>,
    alone: Option<SyncSender<Work>>,
}

/// Which threads do it.
#[derive(Clone, Copy)]
enum Lane {
    Beside,
    Alone,
}

/// Remembers which CPUs the workers of this thread may use. Call before the thread is pinned.
pub(crate) fn install() -> io::Result<()> {
    let cpus = rustix::thread::sched_getaffinity(None)?;
    let workers = Workers {
        cpus,
        beside: None,
        alone: None,
    };
    WORKERS.with(|known| *known.borrow_mut() = Some(workers));
    Ok(())
}

/// Runs `work` on one of the shard's worker threads: name resolution, big parses.
///
/// Waits while too much work is queued. Dropping the future does not stop work that has begun.
///
/// # Errors
/// [`Panicked`] when `work` panicked, and outside a shard.
pub async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    run_in(Lane::Beside, work).await
}

/// The same for work that takes much memory: one at a time per shard.
///
/// # Errors
/// As [`run_blocking`].
pub async fn run_blocking_alone<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    run_in(Lane::Alone, work).await
}

async fn run_in<T: Send + 'static>(
    lane: Lane,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    let (sender, result) = reply();
    let mut work: Work = Box::new(move || {
        // Nobody waits any more: the result is of no use.
        drop(sender.send(catch(work)));
    });
    while let Some(refused) = WORKERS.with(|workers| offer(workers, lane, work)) {
        work = refused;
        Timer::at(now() + FULL_PAUSE).expired().await;
    }
    // Without an answer there is no worker to give one.
    let result = result.await.unwrap_or(Err(Panicked { location: None }));
    result.inspect_err(|_| count())
}

/// Gives `work` to the workers; it comes back when there is no room.
fn offer(workers: &RefCell<Option<Workers>>, lane: Lane, work: Work) -> Option<Work> {
    let mut workers = workers.borrow_mut();
    let Workers {
        cpus,
        beside,
        alone,
    } = workers.as_mut()?;
    let queue = match lane {
        Lane::Beside => beside.get_or_insert_with(|| start(cpus, "worker", THREADS)),
        Lane::Alone => alone.get_or_insert_with(|| start(cpus, "worker-alone", THREADS_ALONE)),
    };
    match queue.try_send(work) {
        Ok(()) | Err(TrySendError::Disconnected(_)) => None,
        Err(TrySendError::Full(work)) => Some(work),
    }
}

fn start(cpus: &CpuSet, name: &str, threads: usize) -> SyncSender<Work> {
    let (queue, waiting) = sync_channel::<Work>(WAITING_MAX);
    let waiting = Arc::new(Mutex::new(waiting));
    for number in 0..threads {
        let waiting = Arc::clone(&waiting);
        let cpus = *cpus;
        let started = std::thread::Builder::new()
            .name(format!("{name}-{number}"))
            .spawn(move || {
                // On the shard's own CPU it would work too, only more slowly.
                let _ = rustix::thread::sched_setaffinity(None, &cpus);
                while let Ok(work) = next(&waiting) {
                    work();
                }
            });
        if let Err(error) = started {
            tracing::error!(%error, "a worker thread could not be started");
        }
    }
    queue
}

/// Held while waiting: whoever is next gets the next work.
fn next(waiting: &Mutex<Receiver<Work>>) -> Result<Work, RecvError> {
    waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .recv()
}
