//! The journal thread: drains all shards' rings to disk, and keeps the catalogue.
//!
//! One per process. It sleeps while there is nothing to do; while there is, it commits once per
//! interval, or sooner when a ring is half full or somebody waits. When it cannot commit it keeps
//! trying, and says so once; the rings fill meanwhile and hold the traffic.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use runtime::ShardId;
use runtime::mapped::{MappedRing, RingError, RingReader, RingSettings, RingWriter};
use thiserror::Error;

use crate::archive::Bell;

use super::drain::{Recovered, RingDrain};
use super::index::{CatalogueError, Index};
use super::recovery::{self, JournalLock, RecoveryError};
use super::session_id::{NoRandomness, SessionId};
use super::settings::{
    COMMIT_INTERVAL_DEFAULT, Durability, RING_BYTES_MAX, RING_BYTES_MIN, RING_BYTES_STEP,
    RecordingSettings,
};
use super::trouble::JournalUnavailable;

/// Requests that may wait for the thread: more than there are shards.
const REQUESTS_MAX: usize = 4096;

/// How long the thread sleeps when nothing happens. It is woken by whatever does.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

/// Pause before a failed commit is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// How often counters of running sessions reach the catalogue.
const CATALOGUE_INTERVAL: Duration = Duration::from_secs(5);

/// Why recording could not start. The appliance must not accept anything then.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("ring of {ring_bytes} bytes: {RING_BYTES_MIN} to {RING_BYTES_MAX} are possible")]
    RingSize { ring_bytes: usize },
    #[error("cannot recover what the last run left")]
    Recovery(#[from] RecoveryError),
    #[error("cannot open the catalogue")]
    Catalogue(#[from] CatalogueError),
    #[error("cannot start the journal thread")]
    Thread(#[source] std::io::Error),
}

/// Why a shard got no ring.
#[derive(Debug, Error)]
pub enum OpenJournalError {
    #[error("cannot make the ring of a shard")]
    Ring(#[from] RingError),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    #[error(transparent)]
    Unavailable(#[from] JournalUnavailable),
}

/// Why [`JournalThread::stop`] or [`JournalHandle::flush`] did not do all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FlushError {
    /// What is in the rings stays there, and is recovered at the next start.
    #[error(transparent)]
    Unavailable(#[from] JournalUnavailable),
    #[error("the journal thread did not answer in time")]
    TimedOut,
}

/// How the journal thread is doing, for status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStatus {
    /// What keeps it from committing at this moment.
    pub trouble: Option<JournalUnavailable>,
    /// How many times trouble began, or became another one. Each was logged once.
    pub alarms: u64,
    /// Group commits that had something to commit.
    pub commits: u64,
    /// Bytes of records that were committed since the start.
    pub committed_bytes: u64,
}

#[derive(Default)]
struct StatusCells {
    trouble: AtomicU8,
    alarms: AtomicU64,
    commits: AtomicU64,
    committed_bytes: AtomicU64,
}

enum Request {
    Drain {
        reader: RingReader,
        identity: [u8; 16],
        shard: u16,
    },
    Flush(SyncSender<Result<(), JournalUnavailable>>),
    /// No more into this file.
    Close(String),
    /// These files are gone.
    ForgetFiles(Vec<String>),
    /// Retention removed these sessions.
    ForgetSessions(Vec<SessionId>),
    Stop,
}

/// The running thread. Dropping it without [`Self::stop`] leaves it running to the end of the
/// process.
pub struct JournalThread {
    handle: JournalHandle,
    thread: JoinHandle<Result<(), JournalUnavailable>>,
    recovered: Recovered,
}

/// How shards and the control plane reach the journal thread. Any thread.
#[derive(Clone)]
pub struct JournalHandle {
    requests: SyncSender<Request>,
    thread: Thread,
    settings: Arc<RecordingSettings>,
    status: Arc<StatusCells>,
}

impl JournalThread {
    /// Recovers what the last run left, brings the catalogue up to date, then starts the thread.
    ///
    /// Blocks until all of that is done: nothing may be accepted before.
    ///
    /// # Errors
    /// When another process records here, or what was left cannot be made durable (a full disk,
    /// say): it is kept where it is.
    pub fn start(settings: RecordingSettings) -> Result<Self, StartError> {
        Self::start_with(settings, Bell::new())
    }

    /// The same, with an archivist that hears by `bell` how far files are committed.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(settings: RecordingSettings, bell: Bell) -> Result<Self, StartError> {
        let ring_bytes = settings.ring_bytes;
        if !(RING_BYTES_MIN..=RING_BYTES_MAX).contains(&ring_bytes) {
            return Err(StartError::RingSize { ring_bytes });
        }
        let lock = recovery::prepare_directories(&settings)?;
        let recovered = recovery::recover_all(&settings)?;
        let mut index = Index::open(&settings.catalogue)?;
        index.catch_up(&settings.journal_directory, &settings.archive_directory)?;
        let settings = Arc::new(settings);
        let (requests, incoming) = sync_channel(REQUESTS_MAX);
        let status = Arc::new(StatusCells::default());
        let worker = Worker {
            settings: Arc::clone(&settings),
            status: Arc::clone(&status),
            incoming,
            rings: Vec::new(),
            index,
            flushes: Vec::new(),
            bell,
            is_stopping: false,
            trouble: None,
            catalogue_written: runtime::now(),
            catalogue_fails: false,
            _lock: lock,
        };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || worker.run())
            .map_err(StartError::Thread)?;
        let handle = JournalHandle {
            requests,
            thread: thread.thread().clone(),
            settings,
            status,
        };
        Ok(Self {
            handle,
            thread,
            recovered,
        })
    }

    #[must_use]
    pub fn handle(&self) -> &JournalHandle {
        &self.handle
    }

    /// What the start found in the rings of the run before.
    #[must_use]
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Drains what is left and ends the thread. Call it when the shards are gone.
    ///
    /// # Errors
    /// When not everything could be committed; it stays in the rings.
    pub fn stop(self) -> Result<(), FlushError> {
        let gone = FlushError::Unavailable(JournalUnavailable::ThreadGone);
        // A thread that is gone already is found by the join.
        let _ = self.handle.send(Request::Stop);
        self.thread
            .join()
            .map_err(|_| gone)?
            .map_err(FlushError::Unavailable)
    }
}

impl JournalHandle {
    pub(super) fn durability(&self) -> Durability {
        self.settings.durability
    }

    pub(super) fn make_ring(&self, shard: ShardId) -> Result<RingWriter, OpenJournalError> {
        let mut identity = [0; 16];
        SystemRandom::new()
            .fill(&mut identity)
            .map_err(|_| NoRandomness)?;
        let path = self.ring_path(shard, identity);
        let settings = RingSettings {
            ring_bytes: self.settings.ring_bytes.next_multiple_of(RING_BYTES_STEP),
            identity,
            label: shard.0,
        };
        let (writer, reader) = MappedRing::create(&path, &settings, self.thread.clone())?;
        self.send(Request::Drain {
            reader,
            identity,
            shard: shard.0,
        })?;
        Ok(writer)
    }

    /// Every ring of every run has a name of its own.
    fn ring_path(&self, shard: ShardId, identity: [u8; 16]) -> PathBuf {
        let identity = u128::from_be_bytes(identity);
        let name = format!(
            "shard-{:03}-{identity:032x}.{}",
            shard.0,
            recovery::RING_EXTENSION
        );
        self.settings.ring_directory.join(name)
    }

    /// Waits until everything recorded before the call is committed and in the catalogue.
    ///
    /// Blocks; not for shards.
    ///
    /// # Errors
    /// What keeps it from being so.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        let (reply, answer) = sync_channel(1);
        self.send(Request::Flush(reply))?;
        match answer.recv_timeout(timeout) {
            Ok(outcome) => outcome.map_err(FlushError::Unavailable),
            Err(RecvTimeoutError::Timeout) => Err(FlushError::TimedOut),
            Err(RecvTimeoutError::Disconnected) => Err(JournalUnavailable::ThreadGone.into()),
        }
    }

    /// Asks for nothing more to be appended to a journal file. Does nothing when too much is asked.
    pub(crate) fn close_file(&self, name: &str) {
        // Asked again with the next look.
        let _ = self.send(Request::Close(name.to_owned()));
    }

    /// Tells that journal files were removed. What is not heard is found out at the next start.
    pub(crate) fn forget_files(&self, names: Vec<String>) {
        // As it says above.
        let _ = self.send(Request::ForgetFiles(names));
    }

    /// Tells that sessions were removed for good.
    pub(crate) fn forget_sessions(&self, sessions: Vec<SessionId>) {
        if self.send(Request::ForgetSessions(sessions)).is_err() {
            tracing::warn!("sessions that retention removed stay in the catalogue");
        }
    }

    /// How the thread is doing.
    #[must_use]
    pub fn status(&self) -> JournalStatus {
        let cells = &self.status;
        JournalStatus {
            trouble: JournalUnavailable::from_code(cells.trouble.load(Ordering::Relaxed)),
            alarms: cells.alarms.load(Ordering::Relaxed),
            commits: cells.commits.load(Ordering::Relaxed),
            committed_bytes: cells.committed_bytes.load(Ordering::Relaxed),
        }
    }

    fn send(&self, request: Request) -> Result<(), JournalUnavailable> {
        self.requests
            .try_send(request)
            .map_err(|_| JournalUnavailable::ThreadGone)?;
        self.thread.unpark();
        Ok(())
    }
}

/// What the thread owns.
struct Worker {
    settings: Arc<RecordingSettings>,
    status: Arc<StatusCells>,
    incoming: Receiver<Request>,
    rings: Vec<RingDrain>,
    index: Index,
    flushes: Vec<SyncSender<Result<(), JournalUnavailable>>>,
    bell: Bell,
    is_stopping: bool,
    trouble: Option<JournalUnavailable>,
    catalogue_written: Instant,
    catalogue_fails: bool,
    _lock: JournalLock,
}

impl Worker {
    fn run(mut self) -> Result<(), JournalUnavailable> {
        loop {
            self.take_requests();
            if self.is_stopping {
                return self.finish();
            }
            if self.trouble.is_some() || self.rings.iter().any(RingDrain::has_pending) {
                self.gather();
            } else if self.flushes.is_empty() && !self.is_catalogue_due() {
                self.idle();
                continue;
            }
            // Whoever asked until now is served by this round.
            self.take_requests();
            self.drain();
            self.keep_catalogue();
            self.answer_flushes();
            self.forget_finished();
            if self.trouble.is_some() {
                self.rest();
            }
        }
    }

    fn take_requests(&mut self) {
        loop {
            match self.incoming.try_recv() {
                Ok(Request::Drain {
                    reader,
                    identity,
                    shard,
                }) => {
                    let ring = RingDrain::new(reader, identity, shard);
                    ring.set_trouble(self.trouble);
                    self.rings.push(ring);
                }
                Ok(Request::Flush(reply)) => self.flushes.push(reply),
                Ok(Request::Close(name)) => self.close(&name),
                Ok(Request::ForgetFiles(names)) => {
                    let forgotten = self.index.forget_files(&names);
                    self.report_catalogue(forgotten);
                }
                Ok(Request::ForgetSessions(sessions)) => {
                    let forgotten = self.index.forget_sessions(&sessions);
                    self.report_catalogue(forgotten);
                }
                Ok(Request::Stop) => self.is_stopping = true,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    fn close(&mut self, name: &str) {
        let closed = self.rings.iter_mut().find_map(|ring| ring.close(name));
        if let Some((header, length)) = closed {
            self.index.close_file(name);
            self.bell.committed(name, header, length, 0, true);
        }
    }

    fn is_urgent(&mut self) -> bool {
        self.take_requests();
        self.is_stopping || !self.flushes.is_empty()
    }

    /// Sleeps until something is appended, demanded or requested.
    fn idle(&mut self) {
        let may_sleep = self.rings.iter().all(|ring| ring.arm(1));
        if may_sleep && !self.is_urgent() {
            runtime::mapped::park(self.idle_wait());
        }
        self.disarm();
        self.forget_finished();
    }

    fn idle_wait(&self) -> Duration {
        if self.index.has_changes() {
            CATALOGUE_INTERVAL
        } else {
            IDLE_WAIT
        }
    }

    /// Lets records gather for one commit: until the interval is over, a ring is half full, or
    /// somebody waits.
    fn gather(&mut self) {
        let interval = match self.settings.durability {
            Durability::Bounded(interval) => interval,
            Durability::Process | Durability::Strict => COMMIT_INTERVAL_DEFAULT,
        };
        let deadline = runtime::now() + interval;
        while !self.is_urgent() {
            let left = deadline.saturating_duration_since(runtime::now());
            if left.is_zero() || !self.rings.iter().all(RingDrain::arm_at_half) {
                break;
            }
            runtime::mapped::park(left);
        }
        self.disarm();
    }

    /// Waits before the next try, but not for a request.
    fn rest(&mut self) {
        let deadline = runtime::now() + RETRY_PAUSE;
        while !self.is_urgent() {
            let left = deadline.saturating_duration_since(runtime::now());
            if left.is_zero() {
                break;
            }
            runtime::mapped::park(left);
        }
    }

    fn disarm(&self) {
        self.rings.iter().for_each(RingDrain::disarm);
    }

    /// One group commit: all rings are written, then all files synced, then all room given back.
    fn drain(&mut self) {
        self.rings.iter().for_each(RingDrain::take_demand);
        if self.index.is_overfull() {
            self.set_trouble(
                Some(JournalUnavailable::CatalogueFails),
                "too much waits for it",
            );
            return;
        }
        let settings = Arc::clone(&self.settings);
        let mut failure = None;
        for ring in &mut self.rings {
            failure = ring.write(&settings).err().or(failure);
        }
        let mut committed_bytes = 0;
        for ring in &mut self.rings {
            match ring.sync(settings.durability) {
                Ok(()) => {
                    if let Some(batch) = ring.commit(settings.rotate_bytes) {
                        committed_bytes += batch.bytes;
                        let place = batch.place();
                        self.bell.committed(
                            &place.name,
                            place.header,
                            batch.file_length,
                            batch.bytes,
                            batch.closes_file,
                        );
                        self.index.apply(batch);
                    }
                }
                Err(error) => {
                    ring.abandon();
                    failure = Some(error);
                }
            }
        }
        if committed_bytes > 0 {
            self.status.commits.fetch_add(1, Ordering::Relaxed);
            self.status
                .committed_bytes
                .fetch_add(committed_bytes, Ordering::Relaxed);
        }
        match failure {
            Some(error) => self.set_trouble(Some(error.trouble()), &chain(&error)),
            None => self.set_trouble(None, ""),
        }
    }

    /// Tells the shards, and the operator when it is news.
    fn set_trouble(&mut self, trouble: Option<JournalUnavailable>, error: &str) {
        if self.trouble != trouble {
            let directory = self.settings.journal_directory.display();
            if let Some(reason) = trouble {
                self.status.alarms.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    %directory, %reason, error,
                    "nothing can be recorded: new work is refused, traffic is held when the ring is full"
                );
            } else {
                tracing::info!(%directory, "recording goes on");
            }
            self.trouble = trouble;
            let code = trouble.map_or(0, JournalUnavailable::code);
            self.status.trouble.store(code, Ordering::Relaxed);
        }
        self.rings.iter().for_each(|ring| ring.set_trouble(trouble));
    }

    fn is_catalogue_due(&self) -> bool {
        let age = runtime::now().saturating_duration_since(self.catalogue_written);
        self.index.has_changes() && age >= CATALOGUE_INTERVAL
    }

    fn keep_catalogue(&mut self) {
        let everything = self.is_catalogue_due() || !self.flushes.is_empty() || self.is_stopping;
        let written = if everything {
            self.catalogue_written = runtime::now();
            self.index.write_all()
        } else if self.index.has_news() {
            self.index.write_news()
        } else {
            return;
        };
        self.report_catalogue(written);
    }

    fn report_catalogue(&mut self, written: Result<(), CatalogueError>) {
        match written {
            Ok(()) => self.catalogue_fails = false,
            Err(error) => {
                if !std::mem::replace(&mut self.catalogue_fails, true) {
                    tracing::error!(
                        error = %chain(&error),
                        "the catalogue cannot be written; records are kept, and listed later"
                    );
                }
            }
        }
    }

    fn outcome(&self) -> Result<(), JournalUnavailable> {
        let catalogue = self
            .catalogue_fails
            .then_some(JournalUnavailable::CatalogueFails);
        self.trouble.or(catalogue).map_or(Ok(()), Err)
    }

    fn answer_flushes(&mut self) {
        let outcome = self.outcome();
        for reply in self.flushes.drain(..) {
            // Whoever asked may have given up.
            let _ = reply.try_send(outcome);
        }
    }

    /// Lets go of rings whose shard is gone and which are empty.
    fn forget_finished(&mut self) {
        let (finished, rings) = std::mem::take(&mut self.rings)
            .into_iter()
            .partition(RingDrain::is_finished);
        self.rings = rings;
        let finished: Vec<RingDrain> = finished;
        for ring in finished {
            if let Err(error) = ring.remove() {
                tracing::warn!(error = %chain(&error), "an empty ring is left behind");
            }
        }
    }

    fn finish(mut self) -> Result<(), JournalUnavailable> {
        self.drain();
        self.keep_catalogue();
        self.answer_flushes();
        self.forget_finished();
        self.outcome()
    }
}

/// An error with its sources, for a log line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
