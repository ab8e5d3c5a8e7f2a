//! From records in journal files to the bytes of a pack.
//!
//! It reads what was committed and writes nothing: the same records give a pack again when a crash
//! came between.

use std::collections::HashMap;

use super::chained::Hash;
use super::index::{Agent, Index, IndexError};
use super::pack::{
    Header, SEGMENT_PLAIN_BYTES, SEGMENTS_MAX, SOURCES_MAX, Segment, Source, Subject, Table,
    record_link, record_prefix,
};
use crate::recorder::format::{Record, RecordHeader, RecordKind};
use crate::recorder::{Found, JournalError, SessionId, StoredFile};

/// Bytes of records that one pack is made of. It bounds the memory of the archivist: this much, the
/// same packed, and one record.
pub(super) const PACK_PLAIN_BYTES: usize = 32 * 1024 * 1024;

/// How hard bodies are packed: recordings get hardly shorter by more, and cost twice as much at 3.
/// benches/README.md has the figures.
const ZSTD_LEVEL: i32 = 1;

/// Buffers of closed segments that wait for the next: sessions are open beside each other, and a
/// few that are busy fill most of a pack.
const SPARE_MAX: usize = 4;

/// A journal file that may hold what is not sealed.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) file: StoredFile,
    /// Bytes of it that were committed.
    pub(super) committed: u64,
    /// Where reading goes on.
    pub(super) next_offset: u64,
    /// Nothing more will be appended.
    pub(super) is_closed: bool,
    /// Bytes in the middle of it are no records.
    pub(super) is_damaged: bool,
}

impl Input {
    pub(super) fn is_read(&self) -> bool {
        self.next_offset >= self.committed
    }
}

/// Why nothing could be sealed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SealError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("a body cannot be packed")]
    Packing(#[source] std::io::Error),
}

/// A pack that is being put together.
#[derive(Default)]
pub(super) struct Batch {
    open: HashMap<Subject, Open>,
    plain_bytes: usize,
    segments: Vec<Segment>,
    bodies: Vec<u8>,
    packer: Packer,
    /// Empty, with the room that segments had.
    spare: Vec<Vec<u8>>,
    sources: Vec<Source>,
    pub(super) agents: HashMap<SessionId, Agent>,
    chains: HashMap<Subject, (Hash, u64)>,
    highest: HashMap<[u8; 16], u64>,
}

/// Packs one body after the other, in the same memory: new pages for each would cost more than
/// the packing.
#[derive(Default)]
struct Packer {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    packed: Vec<u8>,
}

impl Packer {
    fn pack(&mut self, plain: &[u8]) -> std::io::Result<&[u8]> {
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        };
        self.packed.clear();
        self.packed
            .reserve(zstd::zstd_safe::compress_bound(plain.len()));
        compressor.compress_to_buffer(plain, &mut self.packed)?;
        Ok(&self.packed)
    }
}

/// A segment that is not closed.
struct Open {
    plain: Vec<u8>,
    segment: Segment,
}

impl Batch {
    /// Takes records off `input` until it is read or the batch is full.
    pub(super) fn take(&mut self, input: &mut Input, index: &Index) -> Result<(), SealError> {
        if self.is_full() || input.is_read() {
            return Ok(());
        }
        let header = input.file.header;
        let ring = header.identity;
        let sealed = match self.highest.get(&ring) {
            Some(position) => *position,
            None => index.sealed_position(ring)?.unwrap_or(0),
        };
        let mut source = Source {
            ring,
            from: sealed.max(header.first_position),
            to: sealed.max(header.first_position),
            records: 0,
            shard: header.shard,
        };
        input.file.file_bytes = input.committed;
        let mut cursor = input.file.cursor(input.next_offset, input.committed)?;
        while !self.is_full() {
            let Some(found) = cursor.next()? else {
                break;
            };
            match found {
                Found::Frame { position, body, .. } if position >= sealed => {
                    self.add(&source, position, body, index)?;
                    source.records += 1;
                    source.to =
                        position.saturating_add(widen(runtime::mapped::frame_bytes(body.len())));
                }
                Found::Frame { .. } => {}
                Found::Damage { offset, bytes } => {
                    // What a crash cut off at the end of a file is in the ring, or in the next one.
                    let is_tail = offset.saturating_add(bytes) >= input.committed;
                    if !is_tail || !input.is_closed {
                        input.is_damaged = true;
                        tracing::error!(
                            file = input.file.name,
                            offset,
                            bytes,
                            "a journal file has bytes that are no record; it is kept for a person to look at"
                        );
                    }
                }
            }
        }
        input.next_offset = cursor.offset();
        if source.records > 0 {
            self.highest.insert(ring, source.to);
            self.sources.push(source);
        }
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        self.plain_bytes >= PACK_PLAIN_BYTES
            || self.segments.len().saturating_add(self.open.len()) >= SEGMENTS_MAX
            || self.sources.len() >= SOURCES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    fn add(
        &mut self,
        source: &Source,
        position: u64,
        body: &[u8],
        index: &Index,
    ) -> Result<(), SealError> {
        let decoded = RecordHeader::decode(body);
        let (subject, header) = match &decoded {
            Ok((header, _)) if header.kind != RecordKind::RefusedLogin.code() => {
                (Subject::Session(header.session), Some(*header))
            }
            // A record that cannot be read belongs to no session; it is kept all the same.
            Ok((header, _)) => (Subject::Refused(source.ring), Some(*header)),
            Err(_) => (Subject::Refused(source.ring), None),
        };
        let (chain, next) = match self.chains.get(&subject) {
            Some(known) => *known,
            None => index
                .chain(subject)?
                .unwrap_or_else(|| (subject.chain_start(), 0)),
        };
        let sequence = match (subject, header) {
            (Subject::Session(_), Some(header)) => header.sequence,
            (Subject::Session(_) | Subject::Refused(_), _) => next,
        };
        // A record that a crash left in two files is the same record.
        if sequence < next {
            return Ok(());
        }
        if sequence > next {
            // What is missing shows between two segments, never inside one.
            self.close(subject)?;
        }
        let at = header.map_or(0, |header| header.unix_micros);
        let link = record_link(chain, position, body);
        let spare = &mut self.spare;
        let open = self.open.entry(subject).or_insert_with(|| Open {
            plain: spare.pop().unwrap_or_default(),
            segment: Segment {
                subject,
                is_end: false,
                shard: source.shard,
                records: 0,
                ring: source.ring,
                first_sequence: sequence,
                last_sequence: sequence,
                first_position: position,
                last_position: position,
                first_at: at,
                last_at: at,
                offset: 0,
                stored_bytes: 0,
                plain_bytes: 0,
                chain_before: chain,
                chain_after: chain,
                body_hash: Hash::default(),
            },
        });
        open.plain.extend(record_prefix(position, body));
        open.plain.extend_from_slice(body);
        let segment = &mut open.segment;
        segment.records += 1;
        segment.last_sequence = sequence;
        segment.last_position = position;
        segment.last_at = segment.last_at.max(at);
        segment.chain_after = link;
        let is_end = header.is_some_and(|header| header.kind == RecordKind::SessionEnd.code());
        segment.is_end |= is_end && matches!(subject, Subject::Session(_));
        let is_long = open.plain.len() >= SEGMENT_PLAIN_BYTES;
        self.plain_bytes = self.plain_bytes.saturating_add(body.len());
        self.chains
            .insert(subject, (link, sequence.saturating_add(1)));
        if let Ok((header, fields)) = &decoded
            && header.kind == RecordKind::SessionStart.code()
            && let Ok(Record::SessionStart(start)) = Record::decode(header, fields)
        {
            let agent = Agent {
                subject: start.principal.subject,
                name: start.principal.name,
            };
            self.agents.insert(header.session, agent);
        }
        if is_long {
            self.close(subject)?;
        }
        Ok(())
    }

    /// Packs the open segment of a subject, if there is one.
    fn close(&mut self, subject: Subject) -> Result<(), SealError> {
        let Some(Open {
            mut plain,
            mut segment,
        }) = self.open.remove(&subject)
        else {
            return Ok(());
        };
        let stored = self.packer.pack(&plain).map_err(SealError::Packing)?;
        // Counted from the first body; the table in front of it is not known yet.
        segment.offset = widen(self.bodies.len());
        segment.stored_bytes = widen(stored.len());
        segment.plain_bytes = widen(plain.len());
        segment.body_hash = Hash::of(&[stored]);
        self.bodies.extend_from_slice(stored);
        self.segments.push(segment);
        if self.spare.len() < SPARE_MAX {
            plain.clear();
            self.spare.push(plain);
        }
        Ok(())
    }

    /// Closes everything: the table, and the bodies that follow it.
    pub(super) fn finish(mut self, number: u64, at: u64) -> Result<Sealed, SealError> {
        let mut subjects: Vec<Subject> = self.open.keys().copied().collect();
        subjects.sort_unstable();
        for subject in subjects {
            self.close(subject)?;
        }
        let header = Header {
            number,
            at,
            sources: u32::try_from(self.sources.len()).unwrap_or(u32::MAX),
            segments: u32::try_from(self.segments.len()).unwrap_or(u32::MAX),
        };
        let table_bytes = widen(header.table_bytes());
        for segment in &mut self.segments {
            segment.offset = segment.offset.saturating_add(table_bytes);
        }
        Ok(Sealed {
            table: Table {
                header,
                sources: self.sources,
                segments: self.segments,
            },
            bodies: self.bodies,
            agents: self.agents,
        })
    }
}

/// A pack that is to be written.
pub(super) struct Sealed {
    pub(super) table: Table,
    pub(super) bodies: Vec<u8>,
    pub(super) agents: HashMap<SessionId, Agent>,
}

fn widen(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
