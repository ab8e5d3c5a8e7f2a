//! Starts one pinned executor per shard.
//!
//! It does not own sockets or timers; it starts the driver that serves them.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};
use rustix::process::{Resource, getrlimit};

use crate::driver::Driver;
use crate::panics::{Panicked, catch, contain};
use crate::seat::{Doorbell, Seat};
use crate::{sockets, workers};

/// The executor's own preemption timer, set beyond any run; `turn.rs` says why and what stands in
/// for it.
const PREEMPT_AFTER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Bytes that the executor registers for its own file buffers.
///
/// The least it accepts. They are pinned on three rings, and the data path does not use them.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// Locked memory that one executor needs; accounted per user, and given back late.
pub const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Worker threads that the executor insists on. They have nothing to do: `workers` has our own.
const BLOCKING_THREADS: usize = 1;

/// Oldest kernel with everything that the socket ring needs.
pub const KERNEL_OLDEST: (u32, u32) = (6, 1);

const EPERM: i32 = rustix::io::Errno::PERM.raw_os_error();
const ENOSYS: i32 = rustix::io::Errno::NOSYS.raw_os_error();

/// Which shard of this process, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl std::fmt::Display for ShardId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How many shards to start.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShardsConfig {
    /// Shards; `None` is one per CPU that this process may use. With more shards than CPUs, CPUs
    /// are shared in turn.
    pub count: Option<NonZeroUsize>,
}

/// Why the shards did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("Linux {major}.{minor} is too old: 6.1 or newer is needed")]
    KernelTooOld { major: u32, minor: u32 },
    #[error(
        "io_uring is disabled (kernel.io_uring_disabled = {sysctl}): set it to 0, or to 1 with \
         kernel.io_uring_group naming a group of this process"
    )]
    IoUringDisabled { sysctl: u8 },
    #[error(
        "io_uring is refused by a seccomp filter or security module: allow io_uring_setup, \
         io_uring_enter and io_uring_register for this process"
    )]
    IoUringRefused,
    #[error(
        "the limit of locked memory is {limit} bytes and at least {needed} bytes are needed: \
         set LimitMEMLOCK=infinity in the unit"
    )]
    MemoryLock { limit: u64, needed: u64 },
    #[error("{requested} shards requested, at most {limit} are possible")]
    TooManyShards { requested: usize, limit: usize },
    #[error("the CPUs that this process may use are not known")]
    Affinity(#[source] io::Error),
    #[error("shard {shard}: its thread could not be started")]
    Thread {
        shard: ShardId,
        #[source]
        source: io::Error,
    },
    #[error("shard {shard}: its executor could not be started")]
    Executor {
        shard: ShardId,
        #[source]
        source: io::Error,
    },
    #[error("shard {shard}: ended while it started")]
    Died { shard: ShardId },
}

/// A shard ended otherwise than by its `main` returning.
#[derive(Debug, thiserror::Error)]
pub enum ShardDied {
    #[error("shard {shard}: {panicked}")]
    Panicked { shard: ShardId, panicked: Panicked },
    #[error("shard {shard}: waiting for sockets is no longer possible")]
    Sockets {
        shard: ShardId,
        #[source]
        source: io::Error,
    },
}

/// Shards that are running. Dropping it leaves them running.
#[derive(Debug)]
pub struct RunningShards {
    threads: Vec<JoinHandle<()>>,
    ends: mpsc::Receiver<Result<(), ShardDied>>,
}

impl RunningShards {
    #[must_use]
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Blocks until every shard's `main` returned, or the first shard died.
    ///
    /// # Errors
    /// [`ShardDied`] as soon as one dies. The others still run: the caller ends the process, since
    /// connections of the dead shard are gone and its listeners answer nobody.
    pub fn join(self) -> Result<(), ShardDied> {
        for _ in 0..self.threads.len() {
            match self.ends.recv() {
                Ok(end) => end?,
                // Every sender is gone: each shard reported already.
                Err(mpsc::RecvError) => break,
            }
        }
        for thread in self.threads {
            // The thread's outcome came through `ends`; its body catches every panic.
            let _ = thread.join();
        }
        Ok(())
    }
}

/// CPUs that this process may use, in ascending order.
///
/// # Errors
/// When the kernel does not tell.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// Starts the shards; `main` runs once on each, and its return ends that shard with every task that
/// still runs there.
///
/// Threads are named `shard-N` and pinned to one CPU each.
///
/// # Errors
/// [`StartError`]; what it says is for the operator. Shards that had started keep running, so the
/// caller ends the process.
pub fn start_shards<F, Fut>(config: ShardsConfig, main: F) -> Result<RunningShards, StartError>
where
    F: Fn(ShardId) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    check_system()?;
    let cpus = allowed_cpus().map_err(StartError::Affinity)?;
    let count = config.count.map_or(cpus.len(), NonZeroUsize::get);
    if u16::try_from(count).is_err() {
        return Err(StartError::TooManyShards {
            requested: count,
            limit: usize::from(u16::MAX),
        });
    }

    let (ends, ended) = mpsc::channel();
    let mut threads = Vec::with_capacity(count);
    let mut starts = Vec::with_capacity(count);
    for (shard, cpu) in (0u16..)
        .map(ShardId)
        .zip(cpus.iter().copied().cycle())
        .take(count)
    {
        let (started, start) = mpsc::sync_channel(1);
        let main = main.clone();
        let ends = ends.clone();
        let thread = std::thread::Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || {
                let end = catch(|| run_shard(shard, cpu, &started, main))
                    .unwrap_or_else(|panicked| Err(ShardDied::Panicked { shard, panicked }));
                // Nobody listens when `RunningShards` was dropped.
                let _ = ends.send(end);
            })
            .map_err(|source| StartError::Thread { shard, source })?;
        threads.push(thread);
        starts.push((shard, start));
    }
    for (shard, start) in starts {
        start.recv().unwrap_or(Err(StartError::Died { shard }))?;
    }
    Ok(RunningShards {
        threads,
        ends: ended,
    })
}

/// Runs `future` as a task of this shard. A panic in it is contained, counted and reported.
///
/// Outside a shard, and once the shard has ended, `future` is dropped.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    let Some(seat) = Seat::take(contain(future)) else {
        tracing::error!("a task was spawned outside a shard");
        return;
    };
    glommio::spawn_local(async move {
        if let Err(panicked) = seat.await {
            tracing::error!(%panicked, "a task ended by a panic");
        }
    })
    .detach();
}

fn run_shard<F, Fut>(
    shard: ShardId,
    cpu: usize,
    started: &mpsc::SyncSender<Result<(), StartError>>,
    main: F,
) -> Result<(), ShardDied>
where
    F: Fn(ShardId) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let workers = workers::install().map_err(|source| StartError::Executor { shard, source });
    let executor = match workers.and_then(|()| make_executor(shard, cpu)) {
        Ok(executor) => executor,
        Err(error) => {
            // The starter waits for this; when it is gone nobody needs the reason.
            let _ = started.send(Err(error));
            return Ok(());
        }
    };
    let ends = Rc::new(Cell::new(false));
    let outcome = executor.run(async {
        let seated = Driver::install(Rc::clone(&ends)).and_then(|driver| {
            let main = Seat::take(contain(main(shard)));
            Ok((driver, main.ok_or(io::ErrorKind::OutOfMemory)?))
        });
        let (driver, main) = match seated {
            Ok(seated) => seated,
            Err(source) => {
                // As above.
                let _ = started.send(Err(StartError::Executor { shard, source }));
                return Ok(());
            }
        };
        // As above.
        let _ = started.send(Ok(()));

        let main = glommio::spawn_local(async move {
            let end = main.await;
            ends.set(true);
            end
        });
        if let Some(source) = glommio::spawn_local(driver.run()).await {
            return Err(ShardDied::Sockets { shard, source });
        }
        main.await
            .map_err(|panicked| ShardDied::Panicked { shard, panicked })
    });
    // Tasks that are left go first, and with them their sockets.
    drop(executor);
    sockets::remove();
    Doorbell::remove();
    outcome
}

fn make_executor(shard: ShardId, cpu: usize) -> Result<LocalExecutor, StartError> {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT_AFTER)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
        .make()
        .map_err(|error| StartError::Executor {
            shard,
            source: error.into(),
        })
}

/// Why the kernel gives this process no ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingsRefused {
    /// By `kernel.io_uring_disabled`, a filter of system calls or a security module.
    NotPermitted,
    /// The call is unknown: not built in, or a filter says so.
    NotImplemented,
    /// Anything else, such as too little memory.
    Failed { errno: i32 },
}

/// Tries whether this process may make a ring at all: makes one and drops it.
///
/// # Errors
/// What the kernel says to it.
pub fn try_ring() -> Result<(), RingsRefused> {
    let made = io_uring::IoUring::new(2).map(drop);
    made.map_err(|error| match error.raw_os_error() {
        Some(EPERM) => RingsRefused::NotPermitted,
        Some(ENOSYS) => RingsRefused::NotImplemented,
        errno => RingsRefused::Failed {
            errno: errno.unwrap_or_default(),
        },
    })
}

/// Says what is missing before an executor fails in less clear words.
fn check_system() -> Result<(), StartError> {
    let release = rustix::system::uname();
    if let Some((major, minor)) = kernel_version(&release.release().to_string_lossy())
        && (major, minor) < KERNEL_OLDEST
    {
        return Err(StartError::KernelTooOld { major, minor });
    }
    if let Some(limit) = getrlimit(Resource::Memlock).current
        && limit < MEMLOCK_BYTES_MIN
    {
        return Err(StartError::MemoryLock {
            limit,
            needed: MEMLOCK_BYTES_MIN,
        });
    }
    match try_ring() {
        Err(RingsRefused::NotPermitted | RingsRefused::NotImplemented) => {
            Err(match disabled_sysctl() {
                Some(sysctl) if sysctl > 0 => StartError::IoUringDisabled { sysctl },
                _ => StartError::IoUringRefused,
            })
        }
        // Any other failure is met again, with its shard, when the executor starts.
        Ok(()) | Err(RingsRefused::Failed { .. }) => Ok(()),
    }
}

/// `kernel.io_uring_disabled`, where the kernel has it.
fn disabled_sysctl() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// `major.minor` of a release such as `6.1.0-18-amd64`.
#[must_use]
pub fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_of_distributions_are_read() {
        assert_eq!(kernel_version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("5.14.0-427.el9.x86_64"), Some((5, 14)));
        assert_eq!(kernel_version("6.18-rc1"), Some((6, 18)));
        assert_eq!(kernel_version("unknown"), None);
    }
}
