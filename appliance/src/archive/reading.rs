//! The sealed records of one session, in order.
//!
//! It reads what it finds and proves nothing; `verify` does that.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::index::{Index, IndexError, Place};
use super::pack::{PackError, Records, Subject, file_name, read_records};
use super::store::PACKS;
use crate::recorder::SessionId;

/// Why sealed records cannot be read.
#[derive(Debug, Error)]
pub enum SealedError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Pack(#[from] PackError),
}

/// Walks the sealed records of a session, holding one segment at a time.
pub(crate) struct SealedRecords {
    packs: PathBuf,
    places: VecDeque<Place>,
    records: Option<Records>,
}

impl SealedRecords {
    /// Looks up the segments with records from `sequence` on. There need be none, and no archive.
    pub(crate) fn of(
        archive_directory: &Path,
        session: SessionId,
        sequence: u64,
    ) -> Result<Self, SealedError> {
        let places = match Index::read(archive_directory)? {
            Some(index) => index.segments(Subject::Session(session), sequence)?,
            None => Vec::new(),
        };
        Ok(Self {
            packs: archive_directory.join(PACKS),
            places: places.into(),
            records: None,
        })
    }

    /// Puts the next record into `body`. `false` when there is none. What retention removed is
    /// stepped over, and shows as sequences that are not there.
    pub(crate) fn next(&mut self, body: &mut Vec<u8>) -> Result<bool, SealedError> {
        loop {
            if let Some(records) = &mut self.records {
                if let Some(record) = records.next_record() {
                    let (_, record) = record.map_err(|problem| PackError::Malformed {
                        path: self.packs.clone(),
                        problem,
                    })?;
                    body.clear();
                    body.extend_from_slice(record);
                    return Ok(true);
                }
                self.records = None;
            }
            let Some(place) = self.places.pop_front() else {
                return Ok(false);
            };
            if !place.removed {
                let path = self.packs.join(file_name(place.pack));
                match read_records(&path, place.offset, place.stored_bytes, place.plain_bytes) {
                    Ok(records) => self.records = Some(records),
                    // Removed just now.
                    Err(PackError::Blank { .. }) => {}
                    Err(PackError::Io { source, .. })
                        if source.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

/// All records of the archive, pack by pack, for whoever makes something again from them.
///
/// `take` gets the ring's identity, the shard and the record. Returns how far each ring is sealed.
pub(crate) fn all_records(
    archive_directory: &Path,
    take: &mut impl FnMut([u8; 16], u16, &[u8]),
) -> Result<HashMap<[u8; 16], u64>, SealedError> {
    let packs = archive_directory.join(PACKS);
    let mut sealed = HashMap::new();
    let Ok(entries) = std::fs::read_dir(&packs) else {
        return Ok(sealed);
    };
    let mut numbers: Vec<u64> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().and_then(super::pack::number_of))
        .collect();
    numbers.sort_unstable();
    for number in numbers {
        let pack = super::pack::Pack::open(&packs.join(file_name(number)))?;
        for segment in &pack.table.segments {
            let mut records = match pack.records(segment) {
                Ok(records) => records,
                Err(PackError::Blank { .. }) => continue,
                Err(error) => {
                    tracing::error!(%error, "a sealed segment cannot be read");
                    continue;
                }
            };
            while let Some(Ok((_, body))) = records.next_record() {
                take(segment.ring, segment.shard, body);
            }
        }
        for source in &pack.table.sources {
            let position: &mut u64 = sealed.entry(source.ring).or_default();
            *position = (*position).max(source.to);
        }
    }
    Ok(sealed)
}
