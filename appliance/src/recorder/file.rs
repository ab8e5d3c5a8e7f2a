//! Journal files: append-only, one run of frames of one ring each.
//!
//! It does not know what the frames say. A file is never changed once the next one is begun, and
//! never appended to by another process than the one that made it.
//!
//! ```text
//! offset  bytes  field
//! 0       8      magic
//! 8       4      version, 1
//! 12      4      CRC-32 of the 48 bytes that follow
//! 16      16     identity of the ring
//! 32      8      position of the first frame, at least
//! 40      8      microseconds since 1970 when the file was begun
//! 48      4      which file of this ring, from 0
//! 52      2      shard
//! 54      10     zero
//! 64      ...    frames, as they were in the ring, without fillers
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use runtime::mapped::{
    FRAME_ALIGNMENT, FRAME_HEADER_BYTES, Frame, FrameError, FrameSeed, Frames, Placement,
    decode_frame,
};
use thiserror::Error;

use super::trouble::JournalUnavailable;
use super::writer::RECORD_FRAME_BYTES_MAX;

/// How journal files are recognised in their directory.
const EXTENSION: &str = "journal";

/// Bytes before the first frame.
pub(super) const FILE_HEADER_BYTES: usize = 64;

/// Longest journal file that is read back. Files are closed at the rotation size, and at most one
/// ring longer than that.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// Bytes that a cursor holds at a time.
///
/// 2 MiB: seven of the longest frames, so that little is read twice where a window ends in a
/// frame.
const WINDOW_BYTES: usize = 2 << 20;

// A window that ends in damage is followed by one that starts up to a frame earlier; it must be
// further on than the start of the one before.
const _: () = assert!(WINDOW_BYTES > 2 * RECORD_FRAME_BYTES_MAX);

const MAGIC: [u8; 8] = *b"SPORTJNL";
const VERSION: u32 = 1;

/// Mode of journal files: what they hold is for their owner only.
const FILE_MODE: u32 = 0o600;

/// An operation on the journal's files failed.
#[derive(Debug, Error)]
#[error("cannot {operation} {}", path.display())]
pub struct JournalError {
    pub operation: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl JournalError {
    pub(super) fn at(
        operation: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self {
            operation,
            path,
            source,
        }
    }

    /// What this means for those who want to record.
    pub(super) fn trouble(&self) -> JournalUnavailable {
        JournalUnavailable::from_io(&self.source)
    }
}

/// The fixed part of a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    /// Identity of the ring that the frames were in; seeds their checksums.
    pub(crate) identity: [u8; 16],
    /// No frame of this file has a lower position.
    pub(crate) first_position: u64,
    pub(crate) unix_micros: u64,
    /// Which file of this ring, from 0.
    pub(crate) sequence: u32,
    pub(crate) shard: u16,
}

impl FileHeader {
    fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut fields = [0; 48];
        let values: [&[u8]; 5] = [
            &self.identity,
            &self.first_position.to_le_bytes(),
            &self.unix_micros.to_le_bytes(),
            &self.sequence.to_le_bytes(),
            &self.shard.to_le_bytes(),
        ];
        for (place, byte) in fields.iter_mut().zip(values.into_iter().flatten()) {
            *place = *byte;
        }
        let mut bytes = [0; FILE_HEADER_BYTES];
        let checksum = runtime::mapped::checksum(&fields);
        let parts: [&[u8]; 4] = [
            &MAGIC,
            &VERSION.to_le_bytes(),
            &checksum.to_le_bytes(),
            &fields,
        ];
        for (place, byte) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *place = *byte;
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let is_ours = bytes.get(..8)? == MAGIC
            && u32::from_le_bytes(read_array(bytes, 8)?) == VERSION
            && u32::from_le_bytes(read_array(bytes, 12)?)
                == runtime::mapped::checksum(bytes.get(16..FILE_HEADER_BYTES)?);
        is_ours.then_some(Self {
            identity: read_array(bytes, 16)?,
            first_position: u64::from_le_bytes(read_array(bytes, 32)?),
            unix_micros: u64::from_le_bytes(read_array(bytes, 40)?),
            sequence: u32::from_le_bytes(read_array(bytes, 48)?),
            shard: u16::from_le_bytes(read_array(bytes, 52)?),
        })
    }

    fn file_name(&self) -> String {
        let Self {
            unix_micros,
            shard,
            sequence,
            ..
        } = self;
        format!("{unix_micros:016}-{shard:03}-{sequence:06}.{EXTENSION}")
    }

    pub(super) fn seed(&self) -> FrameSeed {
        FrameSeed::new(&self.identity)
    }
}

fn read_array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// A journal file that is being written. Per ring, on the journal thread.
pub(super) struct JournalFile {
    file: File,
    path: PathBuf,
    header: FileHeader,
    /// Bytes that were written in whole batches; what a failed write left behind them is
    /// overwritten by the next.
    length: u64,
}

impl JournalFile {
    /// Begins a file: its header and its name are on disk when this returns.
    pub(super) fn create(directory: &Path, header: FileHeader) -> Result<Self, JournalError> {
        let path = directory.join(header.file_name());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(JournalError::at("create", &path))?;
        let begun = file
            .write_all_at(&header.encode(), 0)
            .and_then(|()| file.sync_all())
            .map_err(JournalError::at("begin", &path))
            .and_then(|()| sync_directory(directory));
        if let Err(error) = begun {
            // An empty file with a good name would be read as damage. If it cannot be removed
            // either, it is that: the error that led here says more than a second one.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self {
            file,
            path,
            header,
            length: widen(FILE_HEADER_BYTES),
        })
    }

    pub(super) fn header(&self) -> &FileHeader {
        &self.header
    }

    pub(super) fn name(&self) -> &str {
        self.path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
    }

    /// Where the next frame will be in the file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Writes `runs` behind what is there. Nothing of them counts unless this succeeds.
    pub(super) fn append(&mut self, runs: &[&[u8]]) -> Result<(), JournalError> {
        let mut length = self.length;
        for run in runs {
            self.file
                .write_all_at(run, length)
                .map_err(JournalError::at("write to", &self.path))?;
            length = length.saturating_add(widen(run.len()));
        }
        self.length = length;
        Ok(())
    }

    /// Takes back what was appended since the file had `length` bytes.
    pub(super) fn retreat(&mut self, length: u64) {
        self.length = self.length.min(length);
    }

    /// Makes what was appended durable.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.file
            .sync_data()
            .map_err(JournalError::at("sync", &self.path))
    }

    /// Fails unless the file is still the one that its name leads to.
    ///
    /// A directory that was removed, renamed or mounted over takes writes without complaint, and
    /// nobody would find them.
    pub(super) fn check_in_place(&self) -> Result<(), JournalError> {
        let check = || {
            let open = self.file.metadata()?;
            let named = fs::metadata(&self.path)?;
            let is_same = (open.dev(), open.ino()) == (named.dev(), named.ino());
            if is_same {
                Ok(())
            } else {
                Err(rustix::io::Errno::NOENT.into())
            }
        };
        check().map_err(|error| JournalError::at("find", &self.path)(error))
    }
}

/// Makes the names in `directory` durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), JournalError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(JournalError::at("sync", directory))
}

/// A journal file that was found in the directory.
#[derive(Clone, Debug)]
pub(crate) struct StoredFile {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) header: FileHeader,
    pub(crate) file_bytes: u64,
}

/// Walks the frames of a part of a journal file in bounded memory, over damage where there is any.
pub(crate) struct FrameCursor {
    file: File,
    path: PathBuf,
    seed: FrameSeed,
    /// Positions only ascend.
    at_least: u64,
    /// Bytes of the file that count.
    end: u64,
    window: Vec<u8>,
    window_start: u64,
    /// Where in the window the next frame starts.
    at: usize,
    /// Where in the window the body of the frame before it is.
    body: Range<usize>,
}

/// What a cursor comes upon.
pub(crate) enum Found<'w> {
    Frame {
        position: u64,
        body: &'w [u8],
    },
    /// Bytes that are no frame. A long run of them is reported in parts.
    Damage {
        offset: u64,
        bytes: u64,
    },
}

impl FrameCursor {
    /// Where in the file the next frame starts.
    pub(crate) fn offset(&self) -> u64 {
        self.window_start.saturating_add(widen(self.at))
    }

    /// The next frame, or the damage before it. `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Found<'_>>, JournalError> {
        loop {
            let offset = self.offset();
            if offset >= self.end {
                return Ok(None);
            }
            let reaches_end = self.window_end() >= self.end;
            match self.decode() {
                Ok((position, frame_bytes, body_bytes)) => {
                    self.at = self.at.saturating_add(frame_bytes);
                    self.at_least = position.saturating_add(widen(frame_bytes));
                    let Some(body_bytes) = body_bytes else {
                        continue;
                    };
                    let start = self.at.saturating_sub(frame_bytes) + FRAME_HEADER_BYTES;
                    self.body = start..start.saturating_add(body_bytes);
                    return Ok(Some(Found::Frame {
                        position,
                        body: self.body(),
                    }));
                }
                Err(FrameError::Truncated { need, .. })
                    if !reaches_end && need <= RECORD_FRAME_BYTES_MAX =>
                {
                    self.fill(offset)?;
                }
                Err(_) => {
                    let bytes = self.skip_damage()?;
                    return Ok(Some(Found::Damage { offset, bytes }));
                }
            }
        }
    }

    /// The body of the frame that was found last.
    pub(crate) fn body(&self) -> &[u8] {
        self.window.get(self.body.clone()).unwrap_or_default()
    }

    fn window_end(&self) -> u64 {
        self.window_start.saturating_add(widen(self.window.len()))
    }

    fn rest(&self) -> &[u8] {
        self.window.get(self.at..).unwrap_or_default()
    }

    /// Position and length of the frame that starts here, and the length of its body.
    fn decode(&self) -> Result<(u64, usize, Option<usize>), FrameError> {
        let Frame {
            position,
            body,
            frame_bytes,
        } = decode_frame(self.rest(), self.seed)?;
        if position < self.at_least {
            return Err(FrameError::Misplaced {
                found: position,
                expected: self.at_least,
            });
        }
        Ok((position, frame_bytes, body.map(<[u8]>::len)))
    }

    /// Goes to the next good frame; returns how many bytes were stepped over.
    fn skip_damage(&mut self) -> Result<u64, JournalError> {
        let start = self.offset();
        let placement = Placement::Journal {
            at_least: self.at_least,
        };
        let mut frames = Frames::new(self.rest(), placement, self.seed);
        // It starts with the damage that led here, or with nothing.
        let skipped = match frames.next() {
            Some(Err(damage)) => damage.skipped_bytes,
            Some(Ok(_)) | None => FRAME_ALIGNMENT,
        };
        self.at = self.at.saturating_add(skipped);
        if self.offset() >= self.window_end() && self.window_end() < self.end {
            // The next good frame may begin in this window and end in the next.
            let overlap = widen(RECORD_FRAME_BYTES_MAX.next_multiple_of(FRAME_ALIGNMENT));
            let next = self.window_end().saturating_sub(overlap);
            self.fill(next.max(start.saturating_add(widen(FRAME_ALIGNMENT))))?;
        }
        Ok(self.offset().min(self.end).saturating_sub(start))
    }

    /// Makes the window start at `offset` of the file.
    fn fill(&mut self, offset: u64) -> Result<(), JournalError> {
        let wanted = self.end.saturating_sub(offset).min(widen(WINDOW_BYTES));
        self.window
            .resize(usize::try_from(wanted).unwrap_or(WINDOW_BYTES), 0);
        self.window_start = offset;
        self.at = 0;
        self.body = 0..0;
        self.file
            .read_exact_at(&mut self.window, offset)
            .map_err(JournalError::at("read", &self.path))
    }
}

/// A run of frames read back from a journal file.
pub(super) struct StoredRun {
    bytes: Vec<u8>,
    /// Where in the file the run starts.
    offset: u64,
    header: FileHeader,
}

impl StoredFile {
    /// Opens the file called `name`; `None` when it has no header of ours.
    pub(super) fn open(directory: &Path, name: &str) -> Result<Option<Self>, JournalError> {
        let path = directory.join(name);
        let mut header = Vec::with_capacity(FILE_HEADER_BYTES);
        let file = File::open(&path).map_err(JournalError::at("open", &path))?;
        let file_bytes = file
            .metadata()
            .map_err(JournalError::at("measure", &path))?
            .len();
        file.take(widen(FILE_HEADER_BYTES))
            .read_to_end(&mut header)
            .map_err(JournalError::at("read", &path))?;
        Ok(FileHeader::decode(&header).map(|header| Self {
            path,
            name: name.to_owned(),
            header,
            file_bytes: file_bytes.min(FILE_BYTES_MAX),
        }))
    }

    /// Reads the bytes from `start` to `end`, or to the end of the file if that comes first.
    ///
    /// Memory is bounded by the rotation size, not by what is asked for.
    pub(super) fn read(&self, start: u64, end: u64) -> Result<StoredRun, JournalError> {
        let start = start.max(widen(FILE_HEADER_BYTES));
        let length = end.min(self.file_bytes).saturating_sub(start);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let file = File::open(&self.path).map_err(JournalError::at("open", &self.path))?;
        let mut filled = 0;
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            match file.read_at(room, start.saturating_add(widen(filled))) {
                Ok(0) => break,
                Ok(count) => filled = filled.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(JournalError::at("read", &self.path)(error)),
            }
        }
        bytes.truncate(filled);
        Ok(StoredRun {
            bytes,
            offset: start,
            header: self.header,
        })
    }

    /// Walks the frames from `start` on, holding one window of them; what `end` cuts is left out.
    ///
    /// The file is held open: it can be read on when its name is gone.
    pub(crate) fn cursor(&self, start: u64, end: u64) -> Result<FrameCursor, JournalError> {
        Ok(FrameCursor {
            file: File::open(&self.path).map_err(JournalError::at("open", &self.path))?,
            path: self.path.clone(),
            seed: self.header.seed(),
            at_least: self.header.first_position,
            end: end.min(self.file_bytes),
            window: Vec::new(),
            window_start: start.max(widen(FILE_HEADER_BYTES)),
            at: 0,
            body: 0..0,
        })
    }

    /// Reads all frames.
    pub(super) fn read_all(&self) -> Result<StoredRun, JournalError> {
        self.read(0, u64::MAX)
    }
}

impl StoredRun {
    /// The frames, and the damage between them.
    pub(super) fn frames(&self) -> Frames<'_> {
        let placement = Placement::Journal {
            at_least: self.header.first_position,
        };
        Frames::new(&self.bytes, placement, self.header.seed())
    }

    /// Where in the file the run starts; offsets of frames count from here.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The position behind the last good frame.
    pub(super) fn end_position(&self) -> u64 {
        self.frames()
            .flatten()
            .last()
            .map_or(self.header.first_position, |frame| frame.end())
    }
}

/// The journal files in `directory` that have a good header, oldest first.
///
/// A file whose header a power failure tore holds no committed record and is left out.
pub(crate) fn stored_files(directory: &Path) -> Result<Vec<StoredFile>, JournalError> {
    let read = JournalError::at("list", directory);
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut files = Vec::new();
    for entry in entries.map_err(read)? {
        let name = entry.file_name();
        let name = Path::new(&name);
        let is_ours = name
            .extension()
            .is_some_and(|extension| extension == EXTENSION);
        if let (true, Some(name)) = (is_ours, name.to_str()) {
            files.extend(StoredFile::open(directory, name)?);
        }
    }
    files.sort_by_key(|file| {
        (
            file.header.unix_micros,
            file.header.shard,
            file.header.sequence,
        )
    });
    Ok(files)
}

pub(super) fn widen(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
