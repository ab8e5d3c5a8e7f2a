//! What the archivist writes: packs, heads, tombstones, and the list of keys, in an order that a
//! crash at any instant cannot confuse.
//!
//! ```text
//! pack written, synced, renamed -> head appended, synced -> index -> journal files removed
//! ```
//!
//! A pack without a head was never sealed: the journal still has its records, and it is written
//! again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::chained::{ChainedError, ChainedFile, Hash, Tip};
use super::head::{self, FileTip, Head, Reason, SealedPack, ShardTip};
use super::index::{Agent, Index, IndexError, Kept};
use super::key::{self, ArchiveKeys, KeyLine, SigningKey};
use super::pack::{self, Pack, PackError, Segment, Subject, Table, shard_link, shard_start};
use super::seal::{SealError, Sealed};
use super::tombstone::{self, Tombstone, Why};
use crate::recorder::SessionId;
use crate::recorder::format::{Record, RecordHeader, unix_micros};

/// Directory of the packs in the archive.
pub(super) const PACKS: &str = "packs";

const LOCK: &str = "lock";

/// How long the lock of a process that is just ending is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Between two tries to take it.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What keeps the archive from being written.
#[derive(Debug, Error)]
pub(super) enum ArchiveError {
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Chained(#[from] ChainedError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("another process seals in {}", path.display())]
    InUse { path: PathBuf },
    #[error("the last line of {} is no head", path.display())]
    LastHead { path: PathBuf },
}

fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError + use<> {
    let path = path.to_owned();
    move |source| ArchiveError::Io {
        operation,
        path,
        source,
    }
}

/// Makes the directories of an archive. Only at start: one that disappears later may be on a file
/// system that is no longer mounted.
pub(super) fn prepare(archive: &Path) -> Result<(), ArchiveError> {
    let packs = archive.join(PACKS);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&packs)
        .map_err(at("make", &packs))
}

/// The archive, open for writing. Per process, on the archivist's thread.
pub(super) struct Store {
    archive: PathBuf,
    packs: PathBuf,
    pub(super) index: Index,
    heads: ChainedFile,
    tombstones: ChainedFile,
    last: Option<Head>,
    /// Number of the newest pack that there is, sealed or not.
    highest_pack: u64,
    /// Number of the newest pack that a head names.
    sealed_pack: u64,
    _lock: File,
}

impl Store {
    pub(super) fn open(archive: &Path) -> Result<Self, ArchiveError> {
        let packs = archive.join(PACKS);
        // Fails where there is none: it is not made again.
        let entries = fs::read_dir(&packs).map_err(at("list", &packs))?;
        let lock = lock(archive)?;
        let heads = ChainedFile::open(&archive.join(head::FILE))?;
        let tombstones = ChainedFile::open(&archive.join(tombstone::FILE))?;
        let last = match heads.last_line() {
            Some(line) => Some(Head::parse(line).ok_or_else(|| ArchiveError::LastHead {
                path: archive.join(head::FILE),
            })?),
            None => None,
        };
        let mut highest_pack = 0;
        for entry in entries {
            let name = entry.map_err(at("list", &packs))?.file_name();
            let number = name.to_str().and_then(pack::number_of);
            highest_pack = number.map_or(highest_pack, |number| highest_pack.max(number));
        }
        let mut store = Self {
            index: Index::open(archive)?,
            archive: archive.to_owned(),
            packs,
            heads,
            tombstones,
            last,
            highest_pack,
            sealed_pack: 0,
            _lock: lock,
        };
        store.catch_up()?;
        Ok(store)
    }

    /// Brings the index to where the heads are.
    fn catch_up(&mut self) -> Result<(), ArchiveError> {
        let known = self.index.last_pack()?;
        let mut behind = Vec::new();
        let mut lines = super::chained::Lines::open(&self.archive.join(head::FILE))?;
        while let Some(line) = lines.next_line()? {
            if let Some(pack) = Head::parse(line).and_then(|head| head.pack) {
                self.sealed_pack = self.sealed_pack.max(pack.number);
                if pack.number > known {
                    behind.push(pack.number);
                }
            }
        }
        for number in behind {
            let path = self.pack_path(number);
            if !path.exists() {
                // Removed by retention, or by somebody; verifying tells.
                continue;
            }
            let pack = Pack::open(&path)?;
            let agents = |session| agent_of(&pack, session);
            self.index.add(&pack.table, &agents)?;
        }
        if self.highest_pack > self.sealed_pack.saturating_add(1) {
            tracing::error!(
                archive = %self.archive.display(),
                packs = self.highest_pack,
                sealed = self.sealed_pack,
                "there are packs that no head names; heads are missing"
            );
        }
        Ok(())
    }

    fn pack_path(&self, number: u64) -> PathBuf {
        self.packs.join(pack::file_name(number))
    }

    /// Number of the next pack. One that a crash left without a head is written again.
    pub(super) fn next_pack(&self) -> u64 {
        let next = self.sealed_pack.saturating_add(1);
        if self.highest_pack > next {
            self.highest_pack.saturating_add(1)
        } else {
            next
        }
    }

    pub(super) fn last_head(&self) -> Option<&Head> {
        self.last.as_ref()
    }

    /// Whether a head now would say more than the last one.
    pub(super) fn is_behind(&self, trail: Tip) -> bool {
        match &self.last {
            Some(last) => {
                last.trail != FileTip::of(trail)
                    || last.tombstones != FileTip::of(self.tombstones.tip())
            }
            None => true,
        }
    }

    /// Writes a pack and the head that seals it.
    pub(super) fn seal(
        &mut self,
        sealed: &Sealed,
        trail: Tip,
        key: &SigningKey,
        reason: Reason,
    ) -> Result<Head, ArchiveError> {
        let table = &sealed.table;
        let number = table.header.number;
        let path = self.pack_path(number);
        let unfinished = path.with_extension("unfinished");
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&unfinished)?;
            file.write_all(&table.encode())?;
            file.write_all(&sealed.bodies)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(&self.packs)?.sync_all()
        };
        write().map_err(at("write", &path))?;
        self.highest_pack = self.highest_pack.max(number);
        let summary = SealedPack {
            number,
            segments: u64::from(table.header.segments),
            records: table.records(),
            root: table.root().to_hex(),
        };
        let head = self.head(Some((summary, table)), trail, key, reason, None)?;
        self.sealed_pack = number;
        let agents = |session| sealed.agents.get(&session).cloned();
        self.index.add(table, &agents)?;
        Ok(head)
    }

    /// Signs a head over what is sealed, the trail and the tombstones as they are.
    pub(super) fn head(
        &mut self,
        sealed: Option<(SealedPack, &Table)>,
        trail: Tip,
        key: &SigningKey,
        reason: Reason,
        next_key: Option<String>,
    ) -> Result<Head, ArchiveError> {
        let last = self.last.as_ref();
        let mut shards: BTreeMap<u16, ShardTip> = last
            .into_iter()
            .flat_map(|last| &last.shards)
            .map(|tip| (tip.shard, tip.clone()))
            .collect();
        if let Some((_, table)) = &sealed {
            advance(&mut shards, table);
        }
        let mut head = Head {
            number: last.map_or(1, |last| last.number.saturating_add(1)),
            at: unix_micros(runtime::unix_time()),
            reason,
            previous: last.map_or_else(Hash::default, Head::hash).to_hex(),
            pack: sealed.map(|(summary, _)| summary),
            shards: shards.into_values().collect(),
            trail: FileTip::of(trail),
            tombstones: FileTip::of(self.tombstones.tip()),
            next_key,
            key: String::new(),
            signature: String::new(),
        };
        head.sign(key);
        self.heads.append(&head.to_line())?;
        self.last = Some(head.clone());
        Ok(head)
    }

    /// The head that introduces the signing key where another one signed last, by that one.
    ///
    /// Lists the signing key, too.
    pub(super) fn introduce(
        &mut self,
        keys: &ArchiveKeys,
        trail: Tip,
    ) -> Result<Option<Head>, ArchiveError> {
        let now = unix_micros(runtime::unix_time());
        let public = keys.signing.public();
        let path = self.archive.join(key::FILE);
        let mut list = ChainedFile::open(&path)?;
        let known = key::listed(&path)?;
        if known.iter().all(|line| line.key() != Some(public)) {
            // Texts and a number: nothing in it can fail to become JSON.
            let line = serde_json::to_string(&KeyLine::of(public, now)).unwrap_or_default();
            list.append(&line)?;
        }
        let Some(last) = &self.last else {
            return Ok(None);
        };
        let current = match &last.next_key {
            Some(next) => key::PublicKey::from_base64(next).map(|key| key.id()),
            None => Some(last.key.clone()),
        };
        if current == Some(public.id()) {
            return Ok(None);
        }
        let older = keys
            .previous
            .iter()
            .find(|older| Some(older.public().id()) == current);
        let Some(older) = older else {
            tracing::error!(
                signed_last = last.key,
                signs_now = public.id(),
                "another key signed the last head, and it is not at hand to introduce the new one; \
                 verifying needs both in its list of keys"
            );
            return Ok(None);
        };
        let next = Some(public.to_base64());
        self.head(None, trail, older, Reason::KeyRotation, next)
            .map(Some)
    }

    /// Writes down what is going to be removed. A head has to sign it before it is.
    pub(super) fn bury(&mut self, victims: &[(Kept, Why)]) -> Result<Vec<Grave>, ArchiveError> {
        let now = unix_micros(runtime::unix_time());
        let mut graves = Vec::new();
        for (kept, why) in victims {
            let places = self.index.segments(kept.subject, 0)?;
            let places: Vec<(u64, u64)> = places
                .iter()
                .filter(|place| !place.removed)
                .map(|place| (place.pack, place.place))
                .collect();
            for places in places.chunks(tombstone::PLACES_MAX) {
                let tip = self.tombstones.tip();
                let line = Tombstone::of(kept.subject, *why, places, now, tip).to_line();
                self.tombstones.append(&line)?;
            }
            graves.push(Grave {
                subject: kept.subject,
                places,
            });
        }
        Ok(graves)
    }

    /// Removes the bodies of what was buried, and the packs that hold nothing more.
    pub(super) fn remove(&mut self, graves: &[Grave]) -> Result<(), ArchiveError> {
        let mut by_pack: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (pack, place) in graves.iter().flat_map(|grave| &grave.places) {
            by_pack.entry(*pack).or_default().push(*place);
        }
        for (number, places) in by_pack {
            let path = self.pack_path(number);
            if path.exists() {
                blank(&path, &places)?;
            }
        }
        for grave in graves {
            for number in self.index.remove(grave.subject, &grave.places)? {
                let path = self.pack_path(number);
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(at("remove", &path)(error));
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(())
    }
}

/// What was buried and is to be removed.
pub(super) struct Grave {
    pub(super) subject: Subject,
    /// Packs and places in their tables.
    pub(super) places: Vec<(u64, u64)>,
}

fn lock(archive: &Path) -> Result<File, ArchiveError> {
    let path = archive.join(LOCK);
    let file = File::create(&path).map_err(at("open", &path))?;
    let deadline = runtime::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if runtime::now() < deadline => {
                // Another process tells nobody that it lets go.
                runtime::mapped::park(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Err(ArchiveError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(at("lock", &path)(source)),
        }
    }
}

/// Moves the chains of shards on by the segments of a pack.
pub(super) fn advance(shards: &mut BTreeMap<u16, ShardTip>, table: &Table) {
    let tip_of = |shard| ShardTip {
        shard,
        segments: 0,
        chain: shard_start(shard).to_hex(),
        ring: super::chained::hex(&[0; 16]),
        position: 0,
    };
    for segment in &table.segments {
        let shard = segment.shard;
        let tip = shards.entry(shard).or_insert_with(|| tip_of(shard));
        // Ours, or checked when it was read.
        let chain = Hash::from_hex(&tip.chain).unwrap_or_default();
        tip.chain = shard_link(chain, segment.leaf()).to_hex();
        tip.segments = tip.segments.saturating_add(1);
    }
    for source in &table.sources {
        let shard = source.shard;
        let tip = shards.entry(shard).or_insert_with(|| tip_of(shard));
        tip.ring = super::chained::hex(&source.ring);
        tip.position = source.to;
    }
}

/// Who a session belongs to, if its start is in the pack.
fn agent_of(pack: &Pack, session: SessionId) -> Option<Agent> {
    let is_start = |segment: &&Segment| {
        segment.subject == Subject::Session(session) && segment.first_sequence == 0
    };
    let segment = pack.table.segments.iter().find(is_start)?;
    let mut records = pack.records(segment).ok()?;
    let (_, body) = records.next_record()?.ok()?;
    let (header, fields) = RecordHeader::decode(body).ok()?;
    let Ok(Record::SessionStart(start)) = Record::decode(&header, fields) else {
        return None;
    };
    Some(Agent {
        subject: start.principal.subject,
        name: start.principal.name,
    })
}

/// Makes the bodies at `places` zeroes, and gives their room back where the file system can.
fn blank(path: &Path, places: &[u64]) -> Result<(), ArchiveError> {
    let pack = Pack::open(path)?;
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(at("open", path))?;
    for place in places {
        let place = usize::try_from(*place).unwrap_or(usize::MAX);
        let Some(segment) = pack.table.segments.get(place) else {
            continue;
        };
        let (offset, length) = (segment.offset, segment.stored_bytes);
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        if length > 0 && rustix::fs::fallocate(&file, flags, offset, length).is_err() {
            let zeroes = vec![0; usize::try_from(length).unwrap_or(0)];
            file.write_all_at(&zeroes, offset)
                .map_err(at("blank", path))?;
        }
    }
    file.sync_all().map_err(at("sync", path))
}
