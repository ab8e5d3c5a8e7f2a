//! Moves one ring's records to its journal files: write, sync, and only then give room back.
//!
//! It does not decide when; that is `thread`. A batch is everything that was in the ring when its
//! turn came. If any step fails the batch stays in the ring and is written again, to the same
//! place.

use std::path::Path;

use runtime::mapped::{Frames, Placement, Position, RingError, RingReader};

use super::file::{FileHeader, JournalError, JournalFile};
use super::format::unix_micros;
use super::index::{Batch, FilePlace};
use super::settings::{Durability, RecordingSettings};
use super::trouble::JournalUnavailable;

/// One ring and the file that it is drained to. On the journal thread.
pub(super) struct RingDrain {
    reader: RingReader,
    identity: [u8; 16],
    shard: u16,
    file: Option<JournalFile>,
    next_sequence: u32,
    written: Option<Written>,
}

/// A batch that is in the file and not yet committed.
struct Written {
    /// Length of the file before it.
    file_length: u64,
    end: Position,
    batch: Batch,
}

impl RingDrain {
    pub(super) fn new(reader: RingReader, identity: [u8; 16], shard: u16) -> Self {
        Self {
            reader,
            identity,
            shard,
            file: None,
            next_sequence: 0,
            written: None,
        }
    }

    /// Whether the ring holds anything. A damaged ring does, so that it is looked at.
    pub(super) fn has_pending(&self) -> bool {
        self.reader
            .pending()
            .map_or(true, |pending| pending.start != pending.end)
    }

    /// Writes what is pending to the file, which is begun if there is none.
    pub(super) fn write(&mut self, settings: &RecordingSettings) -> Result<(), DrainError> {
        let pending = self.reader.pending().map_err(|_| DrainError::RingDamaged)?;
        if pending.start == pending.end {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let header = FileHeader {
                    identity: self.identity,
                    first_position: pending.start.0,
                    unix_micros: unix_micros(runtime::unix_time()),
                    sequence: self.next_sequence,
                    shard: self.shard,
                };
                let begun = JournalFile::create(&settings.journal_directory, header)?;
                self.next_sequence = self.next_sequence.saturating_add(1);
                none.insert(begun)
            }
        };
        let file_length = file.length();
        let place = FilePlace {
            name: file.name().to_owned(),
            header: *file.header(),
        };
        let mut batch = Batch::new(place);
        let seed = self.reader.seed();
        let first_start = pending.start.0;
        let second_start = first_start.saturating_add(super::file::widen(pending.first.len()));
        let first = keep_frames(pending.first, first_start, seed, file_length, &mut batch)?;
        let second_offset = file_length.saturating_add(super::file::widen(first.len()));
        let second = keep_frames(
            pending.second,
            second_start,
            seed,
            second_offset,
            &mut batch,
        )?;
        let end = pending.end;
        file.append(&[first, second])?;
        self.written = Some(Written {
            file_length,
            end,
            batch,
        });
        Ok(())
    }

    /// Makes what [`Self::write`] wrote as durable as the setting demands.
    pub(super) fn sync(&self, durability: Durability) -> Result<(), DrainError> {
        let (Some(file), Some(_)) = (&self.file, &self.written) else {
            return Ok(());
        };
        match durability {
            Durability::Process => {}
            Durability::Bounded(_) | Durability::Strict => file.sync()?,
        }
        file.check_in_place()?;
        Ok(())
    }

    /// Gives the room back to the writer. Returns what was committed.
    pub(super) fn commit(&mut self, rotate_bytes: u64) -> Option<Batch> {
        let mut written = self.written.take()?;
        self.reader.commit(written.end);
        let length = self.file.as_ref().map_or(0, JournalFile::length);
        written.batch.bytes = length.saturating_sub(written.file_length);
        written.batch.file_length = length;
        written.batch.end_position = written.end.0;
        if length >= rotate_bytes {
            written.batch.closes_file = true;
            self.file = None;
        }
        Some(written.batch)
    }

    /// Takes a batch back that could not be made durable, so that it is written again.
    ///
    /// The file is left for a new one when it is not where its name leads.
    pub(super) fn abandon(&mut self) {
        let Some(written) = self.written.take() else {
            return;
        };
        if let Some(file) = &mut self.file {
            file.retreat(written.file_length);
            if file.check_in_place().is_err() {
                self.file = None;
            }
        }
    }

    /// Closes the file called `name`, if it is this ring's and nothing is on its way into it.
    /// Returns how far it goes.
    pub(super) fn close(&mut self, name: &str) -> Option<(FileHeader, u64)> {
        let is_it = self.file.as_ref().is_some_and(|file| file.name() == name);
        if !is_it || self.written.is_some() {
            return None;
        }
        let file = self.file.take()?;
        Some((*file.header(), file.length()))
    }

    pub(super) fn set_trouble(&self, trouble: Option<JournalUnavailable>) {
        self.reader
            .set_health(trouble.map_or(0, JournalUnavailable::code));
    }

    /// Whether it is right to sleep: less than `bytes` are pending and nobody waits for a commit.
    pub(super) fn arm(&self, bytes: usize) -> bool {
        self.reader.arm(bytes)
    }

    pub(super) fn arm_at_half(&self) -> bool {
        self.reader.arm(self.reader.capacity() / 2)
    }

    pub(super) fn disarm(&self) {
        self.reader.disarm();
    }

    pub(super) fn take_demand(&self) {
        self.reader.take_demand();
    }

    /// Whether nothing more can come: the shard dropped its half, and all it wrote is committed.
    pub(super) fn is_finished(&self) -> bool {
        // In this order: what the writer appended last, it appended before it left.
        self.reader.is_writer_gone() && !self.has_pending()
    }

    /// Removes the file of a finished ring.
    pub(super) fn remove(self) -> Result<(), RingError> {
        self.reader.remove()
    }
}

/// Why a batch was not drained.
#[derive(Debug, thiserror::Error)]
pub(super) enum DrainError {
    #[error("the ring is damaged")]
    RingDamaged,
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl DrainError {
    pub(super) fn trouble(&self) -> JournalUnavailable {
        match self {
            Self::RingDamaged => JournalUnavailable::RingDamaged,
            Self::Journal(error) => error.trouble(),
        }
    }
}

/// Notes the records of `run` in `batch`, and returns the run without the filler at its end.
///
/// Checksums are compared here, before anything is written: what is damaged in memory must not
/// become a damaged file while its ring is given back.
fn keep_frames<'r>(
    run: &'r [u8],
    start: u64,
    seed: runtime::mapped::FrameSeed,
    file_offset: u64,
    batch: &mut Batch,
) -> Result<&'r [u8], DrainError> {
    let mut frames = Frames::new(run, Placement::Ring { start }, seed);
    let mut kept_bytes = 0;
    while let Some(frame) = frames.next() {
        let frame = frame.map_err(|_| DrainError::RingDamaged)?;
        let offset = file_offset.saturating_add(super::file::widen(kept_bytes));
        batch.note(frame.body.unwrap_or_default(), offset);
        kept_bytes = frames.offset();
    }
    run.get(..kept_bytes).ok_or(DrainError::RingDamaged)
}

/// Appends the records of a leftover that are not in the journal yet to a file of their own.
///
/// Returns how many bytes were written, and how many were damaged.
pub(super) fn drain_leftover(
    leftover: &runtime::mapped::Leftover,
    journal_directory: &Path,
    durable_position: Option<(u64, u32)>,
) -> Result<Recovered, JournalError> {
    let mut recovered = Recovered::default();
    let mut kept = Vec::new();
    let Position(left_at) = leftover.start();
    let start = durable_position.map_or(left_at, |(position, _)| position);
    for frame in leftover.frames() {
        match frame {
            Ok(frame) if frame.position < start => recovered.known_records += 1,
            Ok(frame) => {
                let offset = frame.position.saturating_sub(left_at);
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                let end = offset.saturating_add(frame.frame_bytes);
                kept.extend_from_slice(leftover.bytes().get(offset..end).unwrap_or_default());
                recovered.records += 1;
            }
            Err(damage) => {
                recovered.damaged_bytes =
                    recovered.damaged_bytes.saturating_add(damage.skipped_bytes);
            }
        }
    }
    if kept.is_empty() {
        return Ok(recovered);
    }
    let header = FileHeader {
        identity: leftover.identity(),
        first_position: start,
        unix_micros: unix_micros(runtime::unix_time()),
        sequence: durable_position.map_or(0, |(_, sequence)| sequence.saturating_add(1)),
        shard: leftover.label(),
    };
    let mut file = JournalFile::create(journal_directory, header)?;
    file.append(&[&kept])?;
    file.sync()?;
    Ok(recovered)
}

/// What was found in a leftover ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records that were moved to the journal.
    pub records: u64,
    /// Records that the journal had already.
    pub known_records: u64,
    /// Bytes that no record could be read from.
    pub damaged_bytes: usize,
}

impl Recovered {
    pub(super) fn add(&mut self, other: Self) {
        self.records = self.records.saturating_add(other.records);
        self.known_records = self.known_records.saturating_add(other.known_records);
        self.damaged_bytes = self.damaged_bytes.saturating_add(other.damaged_bytes);
    }
}
