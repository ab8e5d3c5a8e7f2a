//! Packs: what was sealed at one time, a segment for each session.
//!
//! A pack is written once and never changed, but for bodies that retention blanks. The table in front
//! holds all that proofs need, so that a body can go and the rest stays provable.
//!
//! ```text
//! offset  bytes  field
//! 0       8      magic, "SPORTPCK"
//! 8       4      version, 1
//! 12      4      number of sources
//! 16      8      number of the pack, from 1
//! 24      8      microseconds since 1970 when it was sealed
//! 32      4      number of segments
//! 36      28     zero
//! 64      48 n   sources: ring (16), from position (8), to position (8), records (8), shard (2),
//!                zero (6)
//! ...     208 n  segments, see `Segment`
//! ...            bodies, in the order of the segments, without gaps
//! ```
//!
//! Integers are little-endian. A body is one zstd frame of records: position (8), length (4), then
//! as many bytes, which are a record as in a journal file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::chained::Hash;
use crate::recorder::SessionId;

pub(super) const MAGIC: [u8; 8] = *b"SPORTPCK";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 64;
pub(super) const SOURCE_BYTES: usize = 48;
pub(super) const SEGMENT_BYTES: usize = 208;

/// Bytes before a record in a body.
pub(super) const RECORD_PREFIX_BYTES: usize = 12;

/// A segment is closed once its records are as long as this, in bytes.
pub(super) const SEGMENT_PLAIN_BYTES: usize = 1024 * 1024;

/// Longest body that is unpacked, in bytes: the size at which segments are closed, and one record
/// more. Whatever a file announces, a reader takes no more memory than this.
pub(super) const SEGMENT_PLAIN_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Longest body as it is stored: zstd makes what it cannot compress longer by less than this.
const SEGMENT_STORED_BYTES_MAX: u64 = 2 * SEGMENT_PLAIN_BYTES_MAX as u64;

/// Most segments of a pack. Their table takes 14 MB.
pub(super) const SEGMENTS_MAX: usize = 65_536;

/// Most sources of a pack: journal files that one seal reads from.
pub(super) const SOURCES_MAX: usize = 4096;

/// What a segment is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Subject {
    Session(SessionId),
    /// All refused logins of one ring, by its identity: each alone would be a segment of its own.
    Refused([u8; 16]),
}

impl Subject {
    pub(super) fn kind(self) -> u8 {
        match self {
            Self::Session(_) => 1,
            Self::Refused(_) => 2,
        }
    }

    pub(super) fn id(self) -> [u8; 16] {
        match self {
            Self::Session(session) => session.to_bytes(),
            Self::Refused(ring) => ring,
        }
    }

    pub(super) fn of(kind: u8, id: [u8; 16]) -> Option<Self> {
        match kind {
            1 => Some(Self::Session(SessionId::from_bytes(id))),
            2 => Some(Self::Refused(id)),
            _ => None,
        }
    }

    /// Where its chain begins.
    pub(super) fn chain_start(self) -> Hash {
        Hash::of(&[b"sallyport session 1\n", &[self.kind()], &self.id()])
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session(session) => write!(f, "session {session}"),
            Self::Refused(ring) => {
                write!(f, "refused logins of ring {}", super::chained::hex(ring))
            }
        }
    }
}

/// What stands before a record in a body, and goes into its chain with it.
pub(super) fn record_prefix(position: u64, body: &[u8]) -> [u8; RECORD_PREFIX_BYTES] {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut prefix = [0; RECORD_PREFIX_BYTES];
    let fields = position
        .to_le_bytes()
        .into_iter()
        .chain(length.to_le_bytes());
    prefix
        .iter_mut()
        .zip(fields)
        .for_each(|(place, byte)| *place = byte);
    prefix
}

/// Where a chain of records is once `body` stands at its end.
pub(super) fn record_link(chain: Hash, position: u64, body: &[u8]) -> Hash {
    Hash::of(&[&chain.0, &record_prefix(position, body), body])
}

/// Where the chain of a shard begins.
pub(super) fn shard_start(shard: u16) -> Hash {
    Hash::of(&[b"sallyport shard 1\n", &shard.to_le_bytes()])
}

/// Where the chain of a shard is once a segment stands at its end.
pub(super) fn shard_link(chain: Hash, leaf: Hash) -> Hash {
    Hash::of(&[&chain.0, &leaf.0])
}

/// A leaf of the Merkle tree (RFC 6962, 2.1).
pub(super) fn leaf(bytes: &[&[u8]]) -> Hash {
    let mut parts: Vec<&[u8]> = vec![&[0]];
    parts.extend(bytes);
    Hash::of(&parts)
}

/// The root of the Merkle tree over `leaves` (RFC 6962, 2.1).
pub(super) fn merkle_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of(&[]),
        [only] => *only,
        _ => {
            // The largest power of two that is smaller than the number of leaves.
            let half = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(half);
            Hash::of(&[&[1], &merkle_root(left).0, &merkle_root(right).0])
        }
    }
}

/// The fixed part of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) at: u64,
    pub(super) sources: u32,
    pub(super) segments: u32,
}

/// A part of a ring that a pack holds the records of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) ring: [u8; 16],
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) records: u64,
    pub(super) shard: u16,
}

/// A run of records of one subject: its entry in the table.
///
/// ```text
/// offset  bytes  field
/// 0       1      kind: 1 a session, 2 refused logins
/// 1       1      1 when the session's end is in it, else 0
/// 2       2      shard
/// 4       4      records
/// 8       16     id of the session, or of the ring
/// 24      16     identity of the ring
/// 40      8      sequence of the first record; for refused logins, which one of the ring it is
/// 48      8      sequence of the last
/// 56      8      position of the first record in the ring
/// 64      8      position of the last
/// 72      8      time of the first record, microseconds since 1970
/// 80      8      time of the last
/// 88      8      where in the file the body starts
/// 96      8      bytes of the body as it is stored
/// 104     8      bytes of the body unpacked
/// 112     32     chain of the subject before the first record
/// 144     32     the same behind the last
/// 176     32     SHA-256 of the body as it is stored
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) subject: Subject,
    pub(super) is_end: bool,
    pub(super) shard: u16,
    pub(super) records: u32,
    pub(super) ring: [u8; 16],
    pub(super) first_sequence: u64,
    pub(super) last_sequence: u64,
    pub(super) first_position: u64,
    pub(super) last_position: u64,
    pub(super) first_at: u64,
    pub(super) last_at: u64,
    pub(super) offset: u64,
    pub(super) stored_bytes: u64,
    pub(super) plain_bytes: u64,
    pub(super) chain_before: Hash,
    pub(super) chain_after: Hash,
    pub(super) body_hash: Hash,
}

/// Bytes of a table that do not say what a table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Malformed(pub(super) &'static str);

impl Malformed {
    /// The bytes may be right as far as they go.
    pub(super) fn is_cut_off(self) -> bool {
        self == CUT_OFF || self == TABLE_CUT_OFF
    }
}

const CUT_OFF: Malformed = Malformed("it is cut off");
const TABLE_CUT_OFF: Malformed = Malformed("its table is cut off");

struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }

    fn zeroes<const N: usize>(&mut self) -> Result<(), Malformed> {
        if self.take::<N>()? == [0; N] {
            Ok(())
        } else {
            Err(Malformed("bytes that are zero are not"))
        }
    }
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let fields: [&[u8]; 6] = [
            &MAGIC,
            &VERSION.to_le_bytes(),
            &self.sources.to_le_bytes(),
            &self.number.to_le_bytes(),
            &self.at.to_le_bytes(),
            &self.segments.to_le_bytes(),
        ];
        let fields = fields.into_iter().flatten();
        bytes
            .iter_mut()
            .zip(fields)
            .for_each(|(place, byte)| *place = *byte);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(bytes);
        if fields.take()? != MAGIC {
            return Err(Malformed("it does not begin as a pack does"));
        }
        if fields.u32()? != VERSION {
            return Err(Malformed("its version is not 1"));
        }
        let sources = fields.u32()?;
        let number = fields.u64()?;
        let at = fields.u64()?;
        let segments = fields.u32()?;
        fields.zeroes::<28>()?;
        let fits = |count: u32, most: usize| usize::try_from(count).is_ok_and(|n| n <= most);
        if !fits(sources, SOURCES_MAX) || !fits(segments, SEGMENTS_MAX) {
            return Err(Malformed("its table is longer than a table can be"));
        }
        Ok(Self {
            number,
            at,
            sources,
            segments,
        })
    }

    /// Bytes of header and table.
    pub(super) fn table_bytes(&self) -> usize {
        let bytes = |count: u32, each: usize| {
            usize::try_from(count)
                .unwrap_or(usize::MAX)
                .saturating_mul(each)
        };
        HEADER_BYTES
            .saturating_add(bytes(self.sources, SOURCE_BYTES))
            .saturating_add(bytes(self.segments, SEGMENT_BYTES))
    }
}

impl Source {
    pub(super) fn encode(&self) -> [u8; SOURCE_BYTES] {
        let mut bytes = [0; SOURCE_BYTES];
        let fields: [&[u8]; 5] = [
            &self.ring,
            &self.from.to_le_bytes(),
            &self.to.to_le_bytes(),
            &self.records.to_le_bytes(),
            &self.shard.to_le_bytes(),
        ];
        let fields = fields.into_iter().flatten();
        bytes
            .iter_mut()
            .zip(fields)
            .for_each(|(place, byte)| *place = *byte);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(bytes);
        let source = Self {
            ring: fields.take()?,
            from: fields.u64()?,
            to: fields.u64()?,
            records: fields.u64()?,
            shard: fields.u16()?,
        };
        fields.zeroes::<6>()?;
        Ok(source)
    }
}

impl Segment {
    pub(super) fn encode(&self) -> [u8; SEGMENT_BYTES] {
        let mut bytes = [0; SEGMENT_BYTES];
        let numbers = [
            self.first_sequence,
            self.last_sequence,
            self.first_position,
            self.last_position,
            self.first_at,
            self.last_at,
            self.offset,
            self.stored_bytes,
            self.plain_bytes,
        ];
        let hashes = [self.chain_before, self.chain_after, self.body_hash];
        let fields = [self.subject.kind(), u8::from(self.is_end)]
            .into_iter()
            .chain(self.shard.to_le_bytes())
            .chain(self.records.to_le_bytes())
            .chain(self.subject.id())
            .chain(self.ring)
            .chain(numbers.into_iter().flat_map(u64::to_le_bytes))
            .chain(hashes.into_iter().flat_map(|hash| hash.0));
        bytes
            .iter_mut()
            .zip(fields)
            .for_each(|(place, byte)| *place = byte);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(bytes);
        let [kind, is_end] = fields.take()?;
        let (shard, records) = (fields.u16()?, fields.u32()?);
        let subject = Subject::of(kind, fields.take()?).ok_or(Malformed("a segment's kind"))?;
        Ok(Self {
            subject,
            is_end: match is_end {
                0 => false,
                1 => true,
                _ => return Err(Malformed("a segment's end is neither 0 nor 1")),
            },
            shard,
            records,
            ring: fields.take()?,
            first_sequence: fields.u64()?,
            last_sequence: fields.u64()?,
            first_position: fields.u64()?,
            last_position: fields.u64()?,
            first_at: fields.u64()?,
            last_at: fields.u64()?,
            offset: fields.u64()?,
            stored_bytes: fields.u64()?,
            plain_bytes: fields.u64()?,
            chain_before: Hash(fields.take()?),
            chain_after: Hash(fields.take()?),
            body_hash: Hash(fields.take()?),
        })
    }

    pub(super) fn leaf(&self) -> Hash {
        leaf(&[&self.encode()])
    }
}

/// The table of a pack, read and not yet believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) header: Header,
    pub(super) sources: Vec<Source>,
    pub(super) segments: Vec<Segment>,
}

impl Table {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = Header::decode(bytes)?;
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let behind = bytes.get(HEADER_BYTES..header.table_bytes());
        let behind = behind.ok_or(TABLE_CUT_OFF)?;
        let (sources, segments) = behind
            .split_at_checked(count(header.sources).saturating_mul(SOURCE_BYTES))
            .ok_or(TABLE_CUT_OFF)?;
        Ok(Self {
            header,
            sources: sources
                .chunks_exact(SOURCE_BYTES)
                .map(Source::decode)
                .collect::<Result<_, _>>()?,
            segments: segments
                .chunks_exact(SEGMENT_BYTES)
                .map(Segment::decode)
                .collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header.encode().to_vec();
        self.sources
            .iter()
            .for_each(|source| bytes.extend(source.encode()));
        self.segments
            .iter()
            .for_each(|segment| bytes.extend(segment.encode()));
        bytes
    }

    /// The leaves of the Merkle tree: header and sources together, then each segment.
    pub(super) fn leaves(&self) -> Vec<Hash> {
        let mut first = self.header.encode().to_vec();
        self.sources
            .iter()
            .for_each(|source| first.extend(source.encode()));
        let segments = self.segments.iter().map(Segment::leaf);
        std::iter::once(leaf(&[&first])).chain(segments).collect()
    }

    pub(super) fn root(&self) -> Hash {
        merkle_root(&self.leaves())
    }

    pub(super) fn records(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| u64::from(segment.records))
            .sum()
    }
}

/// Why a pack, or a body of one, cannot be read.
#[derive(Debug, Error)]
pub enum PackError {
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is damaged: {problem}", path.display())]
    Malformed { path: PathBuf, problem: Malformed },
    #[error("the body of a segment in {} was removed", path.display())]
    Blank { path: PathBuf },
}

/// A pack that is open for reading.
pub(super) struct Pack {
    path: PathBuf,
    file: File,
    pub(super) table: Table,
}

/// The name of a pack's file in the directory of packs.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:012}.pack")
}

/// The number in the name of a pack's file.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".pack")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

impl Pack {
    pub(super) fn open(path: &Path) -> Result<Self, PackError> {
        let io = |operation| {
            move |source| PackError::Io {
                operation,
                path: path.to_owned(),
                source,
            }
        };
        let malformed = |problem| PackError::Malformed {
            path: path.to_owned(),
            problem,
        };
        let file = File::open(path).map_err(io("open"))?;
        let mut bytes = read_at(&file, 0, HEADER_BYTES).map_err(io("read"))?;
        let header = Header::decode(&bytes).map_err(malformed)?;
        let rest = header.table_bytes().saturating_sub(HEADER_BYTES);
        let offset = u64::try_from(HEADER_BYTES).unwrap_or_default();
        bytes.extend(read_at(&file, offset, rest).map_err(io("read"))?);
        Ok(Self {
            table: Table::decode(&bytes).map_err(malformed)?,
            path: path.to_owned(),
            file,
        })
    }

    pub(super) fn file_bytes(&self) -> Result<u64, PackError> {
        self.file
            .metadata()
            .map(|metadata| metadata.len())
            .map_err(|source| PackError::Io {
                operation: "measure",
                path: self.path.clone(),
                source,
            })
    }

    /// The body of a segment as it is stored; shorter when the file ends before.
    pub(super) fn stored(&self, segment: &Segment) -> Result<Vec<u8>, PackError> {
        stored(&self.file, &self.path, segment.offset, segment.stored_bytes)
    }

    /// The records of a segment.
    pub(super) fn records(&self, segment: &Segment) -> Result<Records, PackError> {
        unpacked(self.stored(segment)?, &self.path, segment.plain_bytes)
    }
}

/// The records of the body at `offset` of the pack at `path`, without a look at its table.
pub(super) fn read_records(
    path: &Path,
    offset: u64,
    stored_bytes: u64,
    plain_bytes: u64,
) -> Result<Records, PackError> {
    let file = File::open(path).map_err(|source| PackError::Io {
        operation: "open",
        path: path.to_owned(),
        source,
    })?;
    unpacked(
        stored(&file, path, offset, stored_bytes)?,
        path,
        plain_bytes,
    )
}

fn stored(file: &File, path: &Path, offset: u64, stored_bytes: u64) -> Result<Vec<u8>, PackError> {
    if stored_bytes > SEGMENT_STORED_BYTES_MAX {
        return Err(PackError::Malformed {
            path: path.to_owned(),
            problem: Malformed("a body is longer than a body can be"),
        });
    }
    let length = usize::try_from(stored_bytes).unwrap_or(usize::MAX);
    read_at(file, offset, length).map_err(|source| PackError::Io {
        operation: "read",
        path: path.to_owned(),
        source,
    })
}

/// Whether a body was removed: what zstd makes never begins with a zero.
pub(super) fn is_blank(stored: &[u8]) -> bool {
    !stored.is_empty() && stored.iter().all(|byte| *byte == 0)
}

fn unpacked(stored: Vec<u8>, path: &Path, plain_bytes: u64) -> Result<Records, PackError> {
    if is_blank(&stored) {
        return Err(PackError::Blank {
            path: path.to_owned(),
        });
    }
    let plain = unpack(&stored, plain_bytes);
    plain
        .map(Records::new)
        .map_err(|problem| PackError::Malformed {
            path: path.to_owned(),
            problem,
        })
}

/// Reads `length` bytes at `offset`, or what there is.
fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        let at = offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
        match file.read_at(room, at) {
            Ok(0) => break,
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Unpacks a body of `plain_bytes`, never taking more memory than the longest body has.
pub(super) fn unpack(stored: &[u8], plain_bytes: u64) -> Result<Vec<u8>, Malformed> {
    let capacity = usize::try_from(plain_bytes)
        .ok()
        .filter(|bytes| *bytes <= SEGMENT_PLAIN_BYTES_MAX)
        .ok_or(Malformed("a body is longer than a body can be"))?;
    let plain = zstd::bulk::decompress(stored, capacity)
        .map_err(|_| Malformed("a body cannot be unpacked"))?;
    if plain.len() == capacity {
        Ok(plain)
    } else {
        Err(Malformed("a body has another length than its entry says"))
    }
}

/// The records in an unpacked body.
pub(super) struct Records {
    plain: Vec<u8>,
    at: usize,
}

impl Records {
    pub(super) fn new(plain: Vec<u8>) -> Self {
        Self { plain, at: 0 }
    }

    /// Position and body of the next record.
    pub(super) fn next_record(&mut self) -> Option<Result<(u64, &[u8]), Malformed>> {
        let rest = self.plain.get(self.at..).filter(|rest| !rest.is_empty())?;
        let mut fields = Fields(rest);
        let (Ok(position), Ok(length)) = (fields.u64(), fields.u32()) else {
            self.at = self.plain.len();
            return Some(Err(Malformed("a record is cut off")));
        };
        let start = self.at.saturating_add(RECORD_PREFIX_BYTES);
        let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        self.at = end;
        match self.plain.get(start..end) {
            Some(body) => Some(Ok((position, body))),
            None => {
                self.at = self.plain.len();
                Some(Err(Malformed("a record is cut off")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn segment(subject: Subject, offset: u64, body: &[u8]) -> Segment {
        Segment {
            subject,
            is_end: true,
            shard: 3,
            records: 2,
            ring: [7; 16],
            first_sequence: 4,
            last_sequence: 5,
            first_position: 160,
            last_position: 320,
            first_at: 1,
            last_at: 2,
            offset,
            stored_bytes: body.len() as u64,
            plain_bytes: 64,
            chain_before: Hash([1; 32]),
            chain_after: Hash([2; 32]),
            body_hash: Hash::of(&[body]),
        }
    }

    fn table() -> Table {
        let subjects = [
            Subject::Session(SessionId::from_bytes([9; 16])),
            Subject::Refused([7; 16]),
        ];
        Table {
            header: Header {
                number: 12,
                at: 34,
                sources: 1,
                segments: 2,
            },
            sources: vec![Source {
                ring: [7; 16],
                from: 0,
                to: 480,
                records: 4,
                shard: 3,
            }],
            segments: subjects
                .map(|subject| segment(subject, 528, b"body"))
                .into(),
        }
    }

    fn open(bytes: &[u8]) -> Result<Pack, PackError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(file_name(12));
        std::fs::write(&path, bytes).unwrap();
        Pack::open(&path)
    }

    #[test]
    fn a_table_is_read_as_it_is_written_and_each_bit_of_it_counts() {
        let table = table();
        let bytes = table.encode();
        assert_eq!(bytes.len(), 64 + 48 + 2 * 208);
        assert_eq!(Table::decode(&bytes), Ok(table.clone()));
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0x40;
            let is_noticed = match Table::decode(&changed) {
                Ok(decoded) => decoded.root() != table.root(),
                Err(_) => true,
            };
            assert!(is_noticed, "byte {place}");
        }
    }

    #[test]
    fn the_merkle_tree_is_that_of_its_rfc() {
        // RFC 6962 in the words of its section 2.1, for trees of every shape up to 40 leaves.
        fn root(leaves: &[Hash]) -> Hash {
            if leaves.len() == 1 {
                return leaves[0];
            }
            let mut half = 1;
            while half * 2 < leaves.len() {
                half *= 2;
            }
            let (left, right) = (root(&leaves[..half]), root(&leaves[half..]));
            Hash::of(&[&[1], &left.0, &right.0])
        }
        let leaves: Vec<Hash> = (0..40_u8).map(|n| leaf(&[&[n]])).collect();
        for count in 1..=leaves.len() {
            assert_eq!(
                merkle_root(&leaves[..count]),
                root(&leaves[..count]),
                "{count}"
            );
        }
        assert_ne!(
            merkle_root(&leaves[..2]),
            merkle_root(&[leaves[1], leaves[0]])
        );
        // The root of no leaves: the hash of nothing.
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(merkle_root(&[]).to_hex(), nothing);
    }

    #[test]
    fn what_a_file_announces_takes_no_more_memory_than_a_body_can_have() {
        // A table that is longer than a table can be, announced by 64 bytes.
        let mut header = table().header;
        header.segments = u32::MAX;
        assert!(matches!(
            open(&header.encode()),
            Err(PackError::Malformed { .. })
        ));
        // A body that is.
        let mut table = table();
        table.segments[0].stored_bytes = u64::MAX;
        let pack = open(&table.encode()).unwrap();
        assert!(pack.records(&table.segments[0]).is_err());
        // 1 GiB of zeroes in a few bytes, whatever length is claimed for it.
        let mut bomb = zstd::stream::Encoder::new(Vec::new(), 19).unwrap();
        let zeroes = vec![0; 1 << 20];
        for _ in 0..1024 {
            bomb.write_all(&zeroes).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        assert!(bomb.len() < 200_000);
        for claimed in [64, SEGMENT_PLAIN_BYTES_MAX as u64, 1 << 30, u64::MAX] {
            assert!(unpack(&bomb, claimed).is_err(), "{claimed}");
        }
    }

    #[test]
    fn a_record_that_reaches_behind_its_body_is_the_last() {
        let mut plain = record_prefix(16, b"whole").to_vec();
        plain.extend(b"whole");
        plain.extend(record_prefix(64, &[0; 100]));
        plain.extend([0; 99]);
        let mut records = Records::new(plain);
        assert_eq!(records.next_record(), Some(Ok((16, b"whole".as_slice()))));
        assert!(matches!(records.next_record(), Some(Err(_))));
        assert_eq!(records.next_record(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            starts_well in any::<bool>(),
            counts in any::<(u8, u8)>(),
        ) {
            if starts_well && bytes.len() >= HEADER_BYTES {
                let header = Header {
                    number: 12,
                    at: 1,
                    sources: u32::from(counts.0 % 4),
                    segments: u32::from(counts.1 % 6),
                };
                bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
            }
            if let Ok(pack) = open(&bytes) {
                for segment in &pack.table.segments {
                    let _ = pack.records(segment);
                }
                let _ = pack.table.root();
            }
            let mut records = Records::new(bytes.clone());
            while records.next_record().is_some() {}
            let _ = unpack(&bytes, 100_000);
        }
    }
}
