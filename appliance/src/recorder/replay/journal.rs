//! The records of one session, out of the journal files, a window at a time.
//!
//! The catalogue says in which stretches of which files they are; nothing else is read. What is
//! damaged is stepped over: the sequence of the records shows whether it was this session's.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use runtime::mapped::{Damage, FRAME_ALIGNMENT, FrameError, frame_bytes};

use super::ReplayError;
use crate::recorder::catalogue::ExtentEntry;
use crate::recorder::file::{StoredFile, StoredReader, StoredRun, widen};
use crate::recorder::format::{NOTE_BYTES_MAX, OVERHEAD_BYTES_MAX, RecordHeader};
use crate::recorder::session_id::SessionId;
use crate::recorder::writer::PIECE_BYTES_MAX;

/// Longest frame that a recorder writes: what is read behind the start of a session's last record.
const RECORD_FRAME_BYTES_MAX: usize =
    frame_bytes(PIECE_BYTES_MAX + NOTE_BYTES_MAX + 2 * OVERHEAD_BYTES_MAX);

/// Bytes of a journal file that are held in memory at a time.
///
/// 2 MiB: seven of the longest frames, so that little is read twice where a window ends in a
/// frame.
const WINDOW_BYTES: usize = 2 << 20;

// A window that ends in damage is followed by one that starts up to a frame earlier; it must be
// further on than the start of the one before.
const _: () = assert!(WINDOW_BYTES > 2 * RECORD_FRAME_BYTES_MAX);

/// Hands out the records of one session in their order. Per replay.
pub(super) struct JournalRecords {
    session: SessionId,
    directory: PathBuf,
    extents: VecDeque<ExtentEntry>,
    stretch: Option<Stretch>,
}

/// A part of a file, being read.
struct Stretch {
    reader: StoredReader,
    window: StoredRun,
    /// Where in the window the next frame is.
    next: usize,
    /// Everything below this position was seen.
    at_least: u64,
    /// Where in the file the session's last record starts.
    last: u64,
}

impl JournalRecords {
    pub(super) fn new(session: SessionId, directory: &Path, extents: Vec<ExtentEntry>) -> Self {
        Self {
            session,
            directory: directory.to_owned(),
            extents: extents.into(),
            stretch: None,
        }
    }

    /// Puts the next record into `body`. `false` when there is none.
    pub(super) fn next(&mut self, body: &mut Vec<u8>) -> Result<bool, ReplayError> {
        loop {
            if let Some(stretch) = &mut self.stretch {
                if stretch.next(self.session, body)? {
                    return Ok(true);
                }
                self.stretch = None;
            }
            let Some(extent) = self.extents.pop_front() else {
                return Ok(false);
            };
            self.stretch = Some(Stretch::open(&self.directory, &extent)?);
        }
    }

    /// Hands out nothing more.
    pub(super) fn end(&mut self) {
        self.extents.clear();
        self.stretch = None;
    }
}

impl Stretch {
    fn open(directory: &Path, extent: &ExtentEntry) -> Result<Self, ReplayError> {
        let path = directory.join(&extent.file);
        let stored =
            StoredFile::open(directory, &extent.file)?.ok_or(ReplayError::NotAJournal { path })?;
        let reader = stored.reader()?;
        let window = window(&reader, extent.first, extent.last)?;
        Ok(Self {
            reader,
            window,
            next: 0,
            at_least: stored.header.first_position,
            last: extent.last,
        })
    }

    fn next(&mut self, session: SessionId, body: &mut Vec<u8>) -> Result<bool, ReplayError> {
        loop {
            if self.next_in_window(session, body) {
                return Ok(true);
            }
            let start = self.window.offset().saturating_add(widen(self.next));
            if start > self.last || self.is_last_window() {
                return Ok(false);
            }
            self.window = window(&self.reader, start, self.last)?;
            self.next = 0;
        }
    }

    /// `false` when nothing more of the session is in the window. What comes next starts at
    /// `self.next` then.
    fn next_in_window(&mut self, session: SessionId, body: &mut Vec<u8>) -> bool {
        let mut frames = self.window.frames_from(self.next, self.at_least);
        loop {
            self.next = frames.offset();
            if self.window.offset().saturating_add(widen(self.next)) > self.last {
                return false;
            }
            match frames.next() {
                None => return false,
                Some(Ok(frame)) => {
                    self.next = frames.offset();
                    self.at_least = frame.end();
                    let record = frame.body.unwrap_or_default();
                    let is_wanted = RecordHeader::decode(record)
                        .is_ok_and(|(header, _)| header.session == session);
                    if is_wanted {
                        body.clear();
                        body.extend_from_slice(record);
                        return true;
                    }
                }
                Some(Err(damage)) => {
                    self.next = frames.offset();
                    if self.next >= self.window.length() {
                        if !self.is_last_window() {
                            self.next = behind_damage(&damage, self.window.length());
                        }
                        return false;
                    }
                }
            }
        }
    }

    /// Whether nothing that could be of the session lies behind the window.
    fn is_last_window(&self) -> bool {
        let end = self
            .window
            .offset()
            .saturating_add(widen(self.window.length()));
        end >= self.reader.file_bytes().min(end_of(self.last))
    }
}

fn window(reader: &StoredReader, start: u64, last: u64) -> Result<StoredRun, ReplayError> {
    let end = start.saturating_add(widen(WINDOW_BYTES)).min(end_of(last));
    Ok(reader.read(start, end)?)
}

/// Where the record that starts at `last` has ended, however long it is.
fn end_of(last: u64) -> u64 {
    last.saturating_add(widen(RECORD_FRAME_BYTES_MAX))
}

/// Where the next window starts when this one of `length` bytes ends in what is no frame, or in
/// one that it cut off.
fn behind_damage(damage: &Damage, length: usize) -> usize {
    let is_cut_off = matches!(damage.reason, FrameError::Truncated { .. });
    if is_cut_off && damage.offset > 0 {
        return damage.offset;
    }
    // A good frame may begin in the damage and end behind the window.
    let earliest = length.saturating_sub(RECORD_FRAME_BYTES_MAX);
    damage
        .offset
        .saturating_add(FRAME_ALIGNMENT)
        .max(earliest.next_multiple_of(FRAME_ALIGNMENT))
}
