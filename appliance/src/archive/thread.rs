//! The archivist: a thread of its own that seals what the journal thread has committed.
//!
//! It sleeps while there is nothing to do, and nobody ever waits for it. When it cannot write it
//! says so once and tries again; the journal keeps its files until they are sealed.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bell::{Bell, Noted, Rung};
use super::head::{Head, Reason};
use super::holds::Holds;
use super::key::ArchiveKeys;
use super::seal::{Batch, Input};
use super::store::{self, ArchiveError, Store};
use super::tombstone::Why;
use super::trail::{Action, Actor, Trail, Verb};
use crate::recorder::format::unix_micros;
use crate::recorder::{JournalHandle, RecordingSettings, StoredFile};
use crate::telemetry::chain;

/// How often heads are made while there is something to seal.
const HEAD_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);

/// Pause before a failed attempt is repeated.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// How long a sealed journal file waits for the catalogue to have read it.
const REMOVAL_PAUSE: Duration = Duration::from_secs(10);

/// How often retention looks for what is due, where it is set.
const RETENTION_PAUSE: Duration = Duration::from_secs(60);

/// Sessions that one look of retention removes at most: its lines and its head come first, and
/// sealing waits meanwhile.
const REMOVED_MAX: usize = 1000;

/// Sessions that one look of retention reads at a time.
const KEPT_PAGE: u32 = 1000;

/// A journal file that is still being written is closed when it is older than this and all of it is
/// sealed, so that what it holds does not outlive its time.
const FILE_AGE: Duration = Duration::from_secs(600);

/// How long the end of the process waits for what is not sealed; the next start seals the rest.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// What the archivist is started with, besides where recordings are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveSettings {
    pub head_interval: Duration,
    /// How long recordings are kept; `None` for ever.
    pub keep: Option<Duration>,
    /// How long all sealed recordings may be together, in bytes; `None` for as long as they are.
    pub keep_bytes: Option<u64>,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self {
            head_interval: HEAD_INTERVAL_DEFAULT,
            keep: None,
            keep_bytes: None,
        }
    }
}

/// Hears of each head as it is made.
pub type Announce = Box<dyn Fn(&Head) + Send>;

/// What the archivist works with.
pub struct Archive {
    pub recording: RecordingSettings,
    pub settings: ArchiveSettings,
    pub keys: Arc<ArchiveKeys>,
    pub trail: Trail,
    pub holds: Holds,
    pub journal: JournalHandle,
    pub announce: Announce,
}

/// How the archivist is doing, for status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveStatus {
    /// It cannot write at this moment.
    pub is_failing: bool,
    /// Number of the newest head.
    pub head: u64,
    /// When that was made, in microseconds since 1970.
    pub head_at: u64,
    /// Records that were sealed since the start.
    pub sealed_records: u64,
    /// Bytes of packs that were written since the start.
    pub written_bytes: u64,
}

#[derive(Default)]
struct StatusCells {
    is_failing: AtomicBool,
    head: AtomicU64,
    head_at: AtomicU64,
    sealed_records: AtomicU64,
    written_bytes: AtomicU64,
}

/// Reaches the running archivist. Any thread.
#[derive(Clone)]
pub struct ArchivistHandle {
    bell: Bell,
    status: Arc<StatusCells>,
}

impl ArchivistHandle {
    /// Waits until everything that was committed before the call is sealed. Blocks; not for shards.
    /// `false` when it cannot be, or not in time.
    #[must_use]
    pub fn seal(&self, timeout: Duration) -> bool {
        let (reply, answer) = sync_channel(1);
        self.bell.ask(reply) && answer.recv_timeout(timeout) == Ok(true)
    }

    #[must_use]
    pub fn status(&self) -> ArchiveStatus {
        let cells = &self.status;
        ArchiveStatus {
            is_failing: cells.is_failing.load(Ordering::Relaxed),
            head: cells.head.load(Ordering::Relaxed),
            head_at: cells.head_at.load(Ordering::Relaxed),
            sealed_records: cells.sealed_records.load(Ordering::Relaxed),
            written_bytes: cells.written_bytes.load(Ordering::Relaxed),
        }
    }
}

/// The running thread.
pub struct Archivist {
    handle: ArchivistHandle,
    thread: JoinHandle<()>,
}

impl Archivist {
    /// Starts the thread. Call it before anything is recorded, with the bell of the journal thread.
    ///
    /// # Errors
    /// When there can be no thread. An archive that cannot be written is an alarm, not an error:
    /// the journal keeps what is not sealed.
    pub fn start(archive: Archive, bell: Bell) -> std::io::Result<Self> {
        let status = Arc::new(StatusCells::default());
        let handle = ArchivistHandle {
            bell: bell.clone(),
            status: Arc::clone(&status),
        };
        let mut worker = Worker {
            archive,
            bell,
            status,
            store: None,
            inputs: BTreeMap::new(),
            live_rings: HashSet::new(),
            trouble: None,
            is_introduced: false,
            next_seal: Some(runtime::now()),
            next_removal: None,
            next_retention: None,
        };
        worker.find_files();
        if let Err(error) = store::prepare(&worker.archive.recording.archive_directory) {
            worker.fail(&error);
        }
        let thread = std::thread::Builder::new()
            .name("archivist".to_owned())
            .spawn(move || worker.run())?;
        Ok(Self { handle, thread })
    }

    #[must_use]
    pub fn handle(&self) -> &ArchivistHandle {
        &self.handle
    }

    /// Seals what is left, signs a last head and ends the thread. Call it when the journal thread
    /// has ended. `false` when not everything was sealed; the next start goes on.
    pub fn stop(self) -> bool {
        self.handle.bell.stop();
        self.thread.join().is_ok() && !self.handle.status().is_failing
    }
}

/// Journal files in the order in which they were begun.
type FileKey = (u64, u16, u32, String);

struct Worker {
    archive: Archive,
    bell: Bell,
    status: Arc<StatusCells>,
    /// `None` until it could be opened, and after trouble.
    store: Option<Store>,
    inputs: BTreeMap<FileKey, Input>,
    /// Rings of this process: their sessions may still live.
    live_rings: HashSet<[u8; 16]>,
    trouble: Option<String>,
    /// The key that signs is the one that the last head names.
    is_introduced: bool,
    next_seal: Option<Instant>,
    next_removal: Option<Instant>,
    next_retention: Option<Instant>,
}

impl Worker {
    fn run(mut self) {
        if self.has_retention() {
            self.next_retention = Some(runtime::now());
        }
        loop {
            let times = [self.next_seal, self.next_removal, self.next_retention];
            let until = times.into_iter().flatten().min();
            // The first news begins the interval in which it has to be sealed.
            let rung = self.bell.wait(until, self.next_seal.is_none());
            let Rung {
                files,
                asked,
                has_news,
                is_much,
                stop,
            } = rung;
            self.note(files);
            let now = runtime::now();
            let is_asked = stop || !asked.is_empty();
            let is_due = is_asked || is_much || self.next_seal.is_some_and(|due| due <= now);
            let mut is_sealed = true;
            if is_due {
                is_sealed = self.seal_all(stop);
            } else if has_news && self.next_seal.is_none() {
                self.next_seal = Some(now + self.archive.settings.head_interval);
            }
            for reply in asked {
                // Whoever asked may have given up.
                let _ = reply.try_send(is_sealed);
            }
            if stop {
                return;
            }
            if is_due || self.next_removal.is_some_and(|due| due <= now) {
                self.remove_files();
            }
            if self.next_retention.is_some_and(|due| due <= now) {
                self.retain();
            }
        }
    }

    /// Journal files of earlier runs.
    fn find_files(&mut self) {
        let directory = &self.archive.recording.journal_directory;
        match crate::recorder::stored_files(directory) {
            Ok(files) => {
                for file in files {
                    let committed = file.file_bytes;
                    self.input(file, committed, true);
                }
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "journal files of earlier runs are sealed at the next start");
            }
        }
    }

    fn input(&mut self, file: StoredFile, committed: u64, is_closed: bool) {
        let header = file.header;
        let key = (
            header.unix_micros,
            header.shard,
            header.sequence,
            file.name.clone(),
        );
        let input = self.inputs.entry(key).or_insert_with(|| Input {
            file,
            committed,
            next_offset: 0,
            is_closed,
            is_damaged: false,
        });
        input.committed = committed;
        input.is_closed = is_closed;
    }

    fn note(&mut self, files: std::collections::HashMap<String, Noted>) {
        for (name, noted) in files {
            self.live_rings.insert(noted.header.identity);
            let directory = &self.archive.recording.journal_directory;
            let file = StoredFile {
                path: directory.join(&name),
                name,
                header: noted.header,
                file_bytes: noted.committed,
            };
            self.input(file, noted.committed, noted.is_closed);
        }
    }

    /// Seals everything that is committed, pack by pack. `false` when that fails.
    fn seal_all(&mut self, stop: bool) -> bool {
        let deadline = runtime::now() + STOP_DEADLINE;
        loop {
            match self.seal_some(stop) {
                Ok(true) if stop && runtime::now() >= deadline => {
                    tracing::warn!("not everything is sealed; the next start goes on");
                    return false;
                }
                Ok(true) => {}
                Ok(false) => {
                    self.next_seal = None;
                    self.recover();
                    return true;
                }
                Err(error) => {
                    self.fail(&error);
                    return false;
                }
            }
        }
    }

    /// Seals one pack, if there are records for one, or signs a head, if there is news for one.
    /// Whether more may wait.
    fn seal_some(&mut self, stop: bool) -> Result<bool, ArchiveError> {
        let keys = Arc::clone(&self.archive.keys);
        if !self.is_introduced {
            self.introduce()?;
        }
        let store = match &mut self.store {
            Some(store) => store,
            none => none.insert(Store::open(&self.archive.recording.archive_directory)?),
        };
        let mut batch = Batch::default();
        let mut read = Vec::new();
        for (key, input) in &self.inputs {
            let mut input = input.clone();
            batch.take(&mut input, &store.index)?;
            read.push((key.clone(), input));
            if batch.is_full() {
                break;
            }
        }
        let is_full = batch.is_full();
        let trail = self.archive.trail.tip();
        let reason = if stop { Reason::Stop } else { Reason::Sealed };
        let head = if batch.is_empty() {
            if !store.is_behind(trail) {
                self.inputs.extend(read);
                return Ok(false);
            }
            store.head(None, trail, &keys.signing, reason, None)?
        } else {
            let at = unix_micros(runtime::unix_time());
            let sealed = batch.finish(store.next_pack(), at)?;
            let head = store.seal(&sealed, trail, &keys.signing, reason)?;
            let records = sealed.table.records();
            let bytes = u64::try_from(sealed.bodies.len()).unwrap_or(u64::MAX);
            let cells = &self.status;
            cells.sealed_records.fetch_add(records, Ordering::Relaxed);
            cells.written_bytes.fetch_add(bytes, Ordering::Relaxed);
            head
        };
        // Only now are the records where a reader finds them in the archive.
        self.inputs.extend(read);
        self.announce(&head);
        Ok(is_full)
    }

    /// Lets the key that signed last introduce the one that signs now.
    fn introduce(&mut self) -> Result<(), ArchiveError> {
        let keys = Arc::clone(&self.archive.keys);
        let store = match &mut self.store {
            Some(store) => store,
            none => none.insert(Store::open(&self.archive.recording.archive_directory)?),
        };
        if let Some(last) = store.last_head().cloned() {
            // A crash may have come before it was heard of.
            self.announce(&last);
        }
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let trail = self.archive.trail.tip();
        if let Some(head) = store.introduce(&keys, trail)? {
            let rotated = Action::new(
                Actor::Appliance,
                Verb::KeyRotated,
                keys.signing.public().id(),
            );
            if let Err(error) = self.archive.trail.record(&rotated) {
                tracing::error!(error = %chain(&error), "a new key is not in the trail");
            }
            self.announce(&head);
        }
        self.is_introduced = true;
        Ok(())
    }

    fn announce(&self, head: &Head) {
        self.status.head.store(head.number, Ordering::Relaxed);
        self.status.head_at.store(head.at, Ordering::Relaxed);
        tracing::info!(target: "head", number = head.number, head = head.to_line(), "archive head");
        (self.archive.announce)(head);
    }

    /// Says that it cannot write, once, and tries again later.
    fn fail(&mut self, error: &ArchiveError) {
        let text = chain(error);
        if self.trouble.as_ref() != Some(&text) {
            tracing::error!(
                archive = %self.archive.recording.archive_directory.display(),
                error = text,
                "recordings cannot be sealed; the journal keeps them until they can"
            );
        }
        self.trouble = Some(text);
        self.status.is_failing.store(true, Ordering::Relaxed);
        // What is open may be on a file system that is gone, and half of something may be written.
        self.store = None;
        for input in self.inputs.values_mut() {
            input.next_offset = 0;
        }
        self.next_seal = Some(runtime::now() + RETRY_PAUSE);
    }

    fn recover(&mut self) {
        if self.trouble.take().is_some() {
            self.status.is_failing.store(false, Ordering::Relaxed);
            tracing::info!("recordings are sealed again");
        }
    }

    /// Removes journal files whose records are all sealed and listed, and closes old ones.
    fn remove_files(&mut self) {
        self.next_removal = None;
        if self.trouble.is_some() {
            return;
        }
        let now = unix_micros(runtime::unix_time());
        let is_old = |input: &Input| {
            let age = now.saturating_sub(input.file.header.unix_micros);
            u128::from(age) >= FILE_AGE.as_micros()
        };
        let catalogue = &self.archive.recording.catalogue;
        let mut removed = Vec::new();
        let mut waits = false;
        for (key, input) in &self.inputs {
            if !input.is_read() || input.is_damaged {
                continue;
            }
            if !input.is_closed {
                if is_old(input) {
                    self.archive.journal.close_file(&input.file.name);
                }
                continue;
            }
            if !crate::recorder::is_indexed(catalogue, &input.file.name, input.committed) {
                waits = true;
                continue;
            }
            match std::fs::remove_file(&input.file.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(file = input.file.name, %error, "a journal file that is sealed cannot be removed");
                    waits = true;
                }
                Ok(()) | Err(_) => removed.push(key.clone()),
            }
        }
        for key in &removed {
            self.inputs.remove(key);
        }
        let names: Vec<String> = removed.into_iter().map(|(_, _, _, name)| name).collect();
        if !names.is_empty() {
            self.archive.journal.forget_files(names);
        }
        if waits {
            self.next_removal = Some(runtime::now() + REMOVAL_PAUSE);
        }
    }

    fn has_retention(&self) -> bool {
        let ArchiveSettings {
            keep, keep_bytes, ..
        } = &self.archive.settings;
        keep.is_some() || keep_bytes.is_some()
    }

    /// Removes what is due, if anything is.
    fn retain(&mut self) {
        self.next_retention = Some(runtime::now() + RETENTION_PAUSE);
        match self.remove_some() {
            Ok(removed) if removed >= REMOVED_MAX => self.next_retention = Some(runtime::now()),
            Ok(_) => {}
            Err(error) => self.fail(&error),
        }
    }

    fn remove_some(&mut self) -> Result<usize, ArchiveError> {
        let Some(store) = &mut self.store else {
            return Ok(0);
        };
        let settings = &self.archive.settings;
        let now = unix_micros(runtime::unix_time());
        let oldest = settings.keep.map(|keep| {
            let keep = u64::try_from(keep.as_micros()).unwrap_or(u64::MAX);
            now.saturating_sub(keep)
        });
        let mut bytes = store.index.kept_bytes()?;
        let mut victims = Vec::new();
        let mut skip = 0;
        'looking: loop {
            let page = store.index.kept(KEPT_PAGE, skip)?;
            for kept in &page {
                let is_old = oldest.is_some_and(|oldest| kept.last_at < oldest);
                let is_much = settings.keep_bytes.is_some_and(|most| bytes > most);
                if victims.len() >= REMOVED_MAX || !(is_old || is_much) {
                    break 'looking;
                }
                let may_live = !kept.is_ended && self.live_rings.contains(&kept.ring);
                if may_live || self.archive.holds.cover(kept) {
                    continue;
                }
                bytes = bytes.saturating_sub(kept.stored_bytes);
                let why = if is_old { Why::Age } else { Why::Size };
                victims.push((kept.clone(), why));
            }
            if page.len() < usize::try_from(KEPT_PAGE).unwrap_or(usize::MAX) {
                break;
            }
            skip += KEPT_PAGE;
        }
        if victims.is_empty() {
            return Ok(0);
        }
        let graves = store.bury(&victims)?;
        let trail = self.archive.trail.tip();
        let key = &self.archive.keys.signing;
        let head = store.head(None, trail, key, Reason::Retention, None)?;
        store.remove(&graves)?;
        let sessions: Vec<_> = victims
            .iter()
            .filter_map(|(kept, _)| match kept.subject {
                super::pack::Subject::Session(session) => Some(session),
                super::pack::Subject::Refused(_) => None,
            })
            .collect();
        tracing::info!(sessions = sessions.len(), "retention removed sessions");
        self.archive.journal.forget_sessions(sessions);
        self.announce(&head);
        Ok(victims.len())
    }
}

/// The newest head of an archive.
///
/// # Errors
/// When it cannot be read.
pub fn newest_head(archive_directory: &Path) -> Result<Option<Head>, super::ChainedError> {
    let path: PathBuf = archive_directory.join(super::head::FILE);
    if !path.exists() {
        return Ok(None);
    }
    let mut lines = super::chained::Lines::open(&path)?;
    let mut newest = None;
    while let Some(line) = lines.next_line()? {
        newest = Some(line.to_vec());
    }
    Ok(newest.and_then(|line| Head::parse(&line)))
}
