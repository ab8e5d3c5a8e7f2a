//! What a run that died left in its rings, moved to the journal before anything is accepted.
//!
//! Doing it twice does no harm: a record that the journal has already is known by its position.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use runtime::mapped::{Leftover, RingError};
use thiserror::Error;

use super::drain::{Recovered, drain_leftover};
use super::file::{JournalError, StoredFile, stored_files, sync_directory};
use super::settings::RecordingSettings;

/// How ring files are recognised in their directory.
pub(super) const RING_EXTENSION: &str = "ring";

/// What is added to the name of a ring that cannot be read.
const DAMAGED_SUFFIX: &str = "damaged";

const LOCK_FILE: &str = "lock";

/// Why the leftovers are not safe, so that nothing may be accepted.
#[derive(Debug, Error)]
pub enum RecoveryError {
    #[error("cannot make the directory {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another process records in {}", path.display())]
    InUse { path: PathBuf },
    #[error("cannot read a ring")]
    Ring(#[from] RingError),
    #[error("cannot write the journal")]
    Journal(#[from] JournalError),
}

/// Holds the journal directory for this process.
pub(super) struct JournalLock {
    _file: File,
}

/// Makes the directories that are missing, for their owner only, and takes the journal's lock.
///
/// Only at start: a directory that disappears later is not made again, since what is missing may
/// be the file system that was mounted there.
pub(super) fn prepare_directories(
    settings: &RecordingSettings,
) -> Result<JournalLock, RecoveryError> {
    for path in [&settings.ring_directory, &settings.journal_directory] {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| RecoveryError::Directory {
                path: path.clone(),
                source,
            })?;
    }
    let path = settings.journal_directory.join(LOCK_FILE);
    let file = File::create(&path).map_err(JournalError::at("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(JournalLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(RecoveryError::InUse { path }),
        Err(TryLockError::Error(source)) => Err(JournalError::at("lock", &path)(source).into()),
    }
}

/// Moves the records of all leftover rings to the journal, and removes the rings.
pub(super) fn recover_all(settings: &RecordingSettings) -> Result<Recovered, RecoveryError> {
    let mut total = Recovered::default();
    let rings = leftover_rings(&settings.ring_directory)?;
    if rings.is_empty() {
        return Ok(total);
    }
    let files = stored_files(&settings.journal_directory)?;
    for path in rings {
        match runtime::mapped::recover(&path) {
            Ok(leftover) => total.add(recover_one(leftover, settings, &files)?),
            Err(RingError::Header { path, reason }) => {
                tracing::error!(ring = %path.display(), %reason, "a ring cannot be read; it is kept for a person to look at");
                set_aside(&path, &settings.journal_directory)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(total)
}

fn leftover_rings(directory: &Path) -> Result<Vec<PathBuf>, RecoveryError> {
    let entries = fs::read_dir(directory)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(JournalError::at("list", directory))?;
    let mut rings: Vec<PathBuf> = entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == RING_EXTENSION)
        })
        .collect();
    rings.sort();
    Ok(rings)
}

fn recover_one(
    leftover: Leftover,
    settings: &RecordingSettings,
    files: &[StoredFile],
) -> Result<Recovered, RecoveryError> {
    let known = durable_position(files, leftover.identity())?;
    let recovered = drain_leftover(&leftover, &settings.journal_directory, known)?;
    let shard = leftover.label();
    if recovered.damaged_bytes > 0 {
        tracing::error!(
            shard,
            bytes = recovered.damaged_bytes,
            "a ring of the last run is damaged; what could be read was recovered"
        );
    }
    tracing::info!(
        shard,
        records = recovered.records,
        known = recovered.known_records,
        "recovered the ring of the last run"
    );
    leftover.remove()?;
    Ok(recovered)
}

/// Behind the last record of this ring that the journal has, and the last file's number.
fn durable_position(
    files: &[StoredFile],
    identity: [u8; 16],
) -> Result<Option<(u64, u32)>, RecoveryError> {
    let of_ring = files.iter().filter(|file| file.header.identity == identity);
    let Some(last) = of_ring.max_by_key(|file| file.header.sequence) else {
        return Ok(None);
    };
    Ok(Some((
        last.read_all()?.end_position(),
        last.header.sequence,
    )))
}

/// Moves a ring that cannot be read to the journal, since its own directory is gone after a
/// reboot.
fn set_aside(path: &Path, journal_directory: &Path) -> Result<(), RecoveryError> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("ring");
    let stamp = runtime::unix_time().as_micros();
    let aside = journal_directory.join(format!("{name}.{stamp}.{DAMAGED_SUFFIX}"));
    fs::copy(path, &aside)
        .and_then(|_| File::open(&aside)?.sync_all())
        .map_err(JournalError::at("write", &aside))?;
    sync_directory(journal_directory)?;
    fs::remove_file(path).map_err(JournalError::at("remove", path))?;
    Ok(())
}
