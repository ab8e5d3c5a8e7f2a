//! The records of one session, in order, from wherever they are by now.
//!
//! Records begin in journal files and move to the archive. Who reads a session needs to know
//! neither: each record comes once, and what is missing shows as a gap in the sequence.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::catalogue::{Catalogue, ExtentEntry};
use super::file::{Found, FrameCursor, JournalError, StoredFile};
use super::format::RecordHeader;
use super::index::CatalogueError;
use super::session_id::SessionId;
use super::settings::RecordingSettings;
use crate::archive::{SealedError, SealedRecords};

/// Why the records of a session cannot be read on.
#[derive(Debug, Error)]
pub enum RecordsError {
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Sealed(#[from] Box<SealedError>),
    #[error("journal file {} has no header that can be read", path.display())]
    NotAJournal { path: PathBuf },
}

/// Walks the records of a session, holding a segment or a window of one file at a time.
///
/// Sequences ascend. Damage shows as sequences that are not there.
pub struct SessionRecords {
    session: SessionId,
    journal_directory: PathBuf,
    archive_directory: PathBuf,
    sealed: Option<SealedRecords>,
    extents: VecDeque<ExtentEntry>,
    run: Option<Run>,
    next_sequence: u64,
}

/// A stretch of a journal file, to the start of the session's last record in it.
struct Run {
    cursor: FrameCursor,
    last: u64,
}

impl SessionRecords {
    /// Looks up where the records are. What was recorded after the last flush is not seen; a
    /// session that nobody knows has none.
    ///
    /// # Errors
    /// When the catalogue or the archive's index cannot be read.
    pub fn open(
        catalogue: &Catalogue,
        settings: &RecordingSettings,
        session: SessionId,
    ) -> Result<Self, RecordsError> {
        // In this order: what is sealed meanwhile is found in both.
        let extents = catalogue.extents(session)?.into();
        let sealed =
            SealedRecords::of(&settings.archive_directory, session, 0).map_err(Box::new)?;
        Ok(Self {
            session,
            journal_directory: settings.journal_directory.clone(),
            archive_directory: settings.archive_directory.clone(),
            sealed: Some(sealed),
            extents,
            run: None,
            next_sequence: 0,
        })
    }

    /// Puts the next record into `body`, header and all. `false` behind the last.
    ///
    /// # Errors
    /// When a file cannot be read. There is nothing to be had behind it.
    pub fn next(&mut self, body: &mut Vec<u8>) -> Result<bool, RecordsError> {
        loop {
            if self.find_sealed(body)? || self.find_in_run(body)? {
                return Ok(true);
            }
            let Some(extent) = self.extents.pop_front() else {
                return Ok(false);
            };
            self.run = open_run(&self.journal_directory, &extent)?;
            if self.run.is_none() {
                // The file went since it was looked up: all its records are sealed.
                let sealed =
                    SealedRecords::of(&self.archive_directory, self.session, self.next_sequence)
                        .map_err(Box::new)?;
                self.sealed = Some(sealed);
            }
        }
    }

    fn find_sealed(&mut self, body: &mut Vec<u8>) -> Result<bool, RecordsError> {
        while let Some(sealed) = &mut self.sealed {
            if !sealed.next(body).map_err(Box::new)? {
                self.sealed = None;
            } else if self.is_next(body) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes to the next record of the session in the present run. `false` when the run is over.
    fn find_in_run(&mut self, body: &mut Vec<u8>) -> Result<bool, RecordsError> {
        let Some(mut run) = self.run.take() else {
            return Ok(false);
        };
        while run.cursor.offset() <= run.last {
            let Some(found) = run.cursor.next()? else {
                break;
            };
            if let Found::Frame { body: found, .. } = found
                && self.is_next(found)
            {
                body.clear();
                body.extend_from_slice(found);
                self.run = Some(run);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a record is one of the session that was not handed out yet: one may be sealed and
    /// in the journal still, or in two files since a crash.
    fn is_next(&mut self, body: &[u8]) -> bool {
        let Ok((header, _)) = RecordHeader::decode(body) else {
            return false;
        };
        let is_next = header.session == self.session && header.sequence >= self.next_sequence;
        if is_next {
            self.next_sequence = header.sequence.saturating_add(1);
        }
        is_next
    }

    /// Hands out nothing more.
    pub(super) fn end(&mut self) {
        self.sealed = None;
        self.extents.clear();
        self.run = None;
    }
}

/// `None` when there is no such file any more.
fn open_run(directory: &Path, extent: &ExtentEntry) -> Result<Option<Run>, RecordsError> {
    let path = directory.join(&extent.file);
    let open = || {
        let file = StoredFile::open(directory, &extent.file)?;
        let file = file.ok_or(RecordsError::NotAJournal { path })?;
        let cursor = file.cursor(extent.first, u64::MAX)?;
        Ok(Run {
            cursor,
            last: extent.last,
        })
    };
    match open() {
        Ok(run) => Ok(Some(run)),
        Err(RecordsError::Journal(error))
            if error.source.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
