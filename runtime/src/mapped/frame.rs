//! Frames: how a record lies in a mapped ring, and byte for byte the same in a journal file.
//!
//! A frame says nothing about what its body means.
//!
//! ```text
//! offset  bytes  field
//! 0       4      CRC-32 of the frame with this field as zero, seeded by the identity of the ring
//! 4       4      length of the body; the top bit marks a filler, which has no body to read
//! 8       8      position: where the frame starts, counted from the birth of the ring
//! 16      n      body
//! 16 + n  0-15   zeroes, up to a multiple of 16
//! ```
//!
//! All integers are little-endian. The checksum of a filler covers its header alone. The whole
//! frame is one run of a multiple of 16 bytes, which is what checksums are fast at. The seed is secret to the process and its files: a peer that
//! gets its own bytes recorded cannot make them pass for a frame.

use thiserror::Error;

/// Frames start and end at multiples of this many bytes, so that a header never wraps.
pub const FRAME_ALIGNMENT: usize = 16;

/// Bytes before the body.
pub const FRAME_HEADER_BYTES: usize = 16;

/// Longest body that a frame can announce, in bytes. Rings set a smaller limit of their own.
pub const FRAME_BODY_BYTES_MAX: usize = 1 << 30;

const FILLER: u32 = 1 << 31;

/// Bytes of the checksum, at the start of the header.
const CHECKSUM_BYTES: usize = 4;

/// How many bytes of wrong candidates [`Frames`] checks after damage, as a multiple of its input.
///
/// Recorded bytes may look like many headers that each announce a long body; without a bound the
/// search for the next good frame would be quadratic.
const RESYNC_WORK_FACTOR: usize = 4;

/// What seeds the checksums of one ring and of the journal files written from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSeed(u32);

impl FrameSeed {
    /// Derives the seed from 16 random bytes.
    #[must_use]
    pub fn new(identity: &[u8; 16]) -> Self {
        Self(crc32fast::hash(identity))
    }
}

/// One frame, borrowed from the bytes it was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    /// Where the frame starts, counted from the birth of its ring.
    pub position: u64,
    /// `None` for a filler, which only closes the gap before a ring's end.
    pub body: Option<&'b [u8]>,
    /// Bytes from the start of the header to the start of the next frame.
    pub frame_bytes: usize,
}

impl Frame<'_> {
    /// The position just behind this frame.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position.saturating_add(widen(self.frame_bytes))
    }
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("frame is cut off: {have} of {need} bytes")]
    Truncated { have: usize, need: usize },
    #[error("frame announces {announced} bytes, more than {limit}")]
    TooLong { announced: usize, limit: usize },
    #[error("frame checksum does not match")]
    Checksum,
    #[error("frame says position {found}, expected {expected}")]
    Misplaced { found: u64, expected: u64 },
}

/// The checksum of headers of files that hold frames.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Bytes that a body of `body_bytes` takes as a frame.
#[must_use]
pub const fn frame_bytes(body_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + body_bytes).next_multiple_of(FRAME_ALIGNMENT)
}

/// Takes the frame off the start of `bytes`.
///
/// # Errors
/// `Truncated` when `bytes` ends inside the frame; anything else is damage.
pub fn decode_frame(bytes: &[u8], seed: FrameSeed) -> Result<Frame<'_>, FrameError> {
    let header = FrameHeader::read(bytes)?;
    let frame = header.frame(bytes)?;
    let covered = if frame.body.is_some() {
        frame.frame_bytes
    } else {
        FRAME_HEADER_BYTES
    };
    let mut checksum = Checksum::start(seed);
    checksum.add(&header_bytes(header.position, header.length_field));
    checksum.add(bytes.get(FRAME_HEADER_BYTES..covered).unwrap_or_default());
    if checksum.finish() != header.checksum {
        return Err(FrameError::Checksum);
    }
    Ok(frame)
}

/// Appends `body` as a frame. For tests and for files that are not written from a ring.
pub fn encode_frame(out: &mut Vec<u8>, position: u64, body: &[u8], seed: FrameSeed) {
    let Ok(length) = u32::try_from(body.len()) else {
        return;
    };
    let mut frame = header_bytes(position, length).to_vec();
    frame.extend_from_slice(body);
    frame.resize(frame_bytes(body.len()), 0);
    let mut checksum = Checksum::start(seed);
    checksum.add(&frame);
    out.extend_from_slice(&checksum.finish().to_le_bytes());
    out.extend_from_slice(frame.get(CHECKSUM_BYTES..).unwrap_or_default());
}

/// The header of a filler that closes a gap of `gap_bytes`, itself included.
pub(super) fn filler_header(
    position: u64,
    gap_bytes: usize,
    seed: FrameSeed,
) -> [u8; FRAME_HEADER_BYTES] {
    let skipped = u32::try_from(gap_bytes.saturating_sub(FRAME_HEADER_BYTES)).unwrap_or(0);
    let header = header_bytes(position, skipped | FILLER);
    let mut checksum = Checksum::start(seed);
    checksum.add(&header);
    (u128::from_le_bytes(header) | u128::from(checksum.finish())).to_le_bytes()
}

/// A header whose checksum is still zero.
pub(super) fn header_bytes(position: u64, length_field: u32) -> [u8; FRAME_HEADER_BYTES] {
    (u128::from(length_field) << 32 | u128::from(position) << 64).to_le_bytes()
}

/// The checksum of a frame while it is being written. One that was started is cheaper to clone than
/// to start: that asks what the processor can do.
#[derive(Clone)]
pub(super) struct Checksum(crc32fast::Hasher);

impl Checksum {
    pub(super) fn start(seed: FrameSeed) -> Self {
        Self(crc32fast::Hasher::new_with_initial(seed.0))
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> u32 {
        self.0.finalize()
    }
}

#[derive(Clone, Copy)]
struct FrameHeader {
    position: u64,
    length_field: u32,
    checksum: u32,
}

impl FrameHeader {
    fn read(bytes: &[u8]) -> Result<Self, FrameError> {
        let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Err(FrameError::Truncated {
                have: bytes.len(),
                need: FRAME_HEADER_BYTES,
            });
        };
        let [
            c0,
            c1,
            c2,
            c3,
            l0,
            l1,
            l2,
            l3,
            p0,
            p1,
            p2,
            p3,
            p4,
            p5,
            p6,
            p7,
        ] = *header;
        Ok(Self {
            position: u64::from_le_bytes([p0, p1, p2, p3, p4, p5, p6, p7]),
            length_field: u32::from_le_bytes([l0, l1, l2, l3]),
            checksum: u32::from_le_bytes([c0, c1, c2, c3]),
        })
    }

    /// The frame that this header announces, its checksum not yet compared.
    fn frame<'b>(&self, bytes: &'b [u8]) -> Result<Frame<'b>, FrameError> {
        let is_filler = self.length_field & FILLER != 0;
        let announced = usize::try_from(self.length_field & !FILLER).unwrap_or(usize::MAX);
        if announced > FRAME_BODY_BYTES_MAX {
            return Err(FrameError::TooLong {
                announced,
                limit: FRAME_BODY_BYTES_MAX,
            });
        }
        let need = frame_bytes(announced);
        let truncated = FrameError::Truncated {
            have: bytes.len(),
            need,
        };
        if bytes.len() < need {
            return Err(truncated);
        }
        let body_end = FRAME_HEADER_BYTES + announced;
        let body = bytes.get(FRAME_HEADER_BYTES..body_end).ok_or(truncated)?;
        Ok(Frame {
            position: self.position,
            body: (!is_filler).then_some(body),
            frame_bytes: need,
        })
    }
}

/// Where the frames of a run of bytes must lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The bytes are a ring laid out straight: the first byte is at this position.
    Ring { start: u64 },
    /// The bytes come from a journal file, which leaves fillers out: positions only ascend, the
    /// first is at least this.
    Journal { at_least: u64 },
}

/// Bytes that were skipped since they are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{skipped_bytes} bytes at offset {offset} are damaged")]
pub struct Damage {
    /// Offset into the input.
    pub offset: usize,
    pub skipped_bytes: usize,
    #[source]
    pub reason: FrameError,
}

/// Walks the frames in a run of bytes, over damage as far as that is possible.
///
/// Yields every frame with a body whose checksum and place are right, and one [`Damage`] for each
/// run of bytes that is not. A run of damage that reaches the end of the input, such as a write
/// that a crash cut short, is the last item.
#[derive(Clone, Debug)]
pub struct Frames<'b> {
    input: &'b [u8],
    offset: usize,
    placement: Placement,
    seed: FrameSeed,
    resync_bytes_left: usize,
}

impl<'b> Frames<'b> {
    #[must_use]
    pub fn new(input: &'b [u8], placement: Placement, seed: FrameSeed) -> Self {
        let resync_bytes_left = input.len().saturating_mul(RESYNC_WORK_FACTOR);
        Self {
            input,
            offset: 0,
            placement,
            seed,
            resync_bytes_left,
        }
    }

    /// Goes on at an offset that an earlier walk over the same bytes had.
    #[must_use]
    pub fn starting_at(self, offset: usize) -> Self {
        Self { offset, ..self }
    }

    /// Offset into the input of the next frame, or of the first byte that was not understood.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn rest(&self) -> &'b [u8] {
        self.input.get(self.offset..).unwrap_or_default()
    }

    fn check_place(&self, offset: usize, header: &FrameHeader) -> Result<(), FrameError> {
        let (expected, is_right) = match self.placement {
            Placement::Ring { start } => {
                let expected = start.saturating_add(widen(offset));
                (expected, header.position == expected)
            }
            Placement::Journal { at_least } => (at_least, header.position >= at_least),
        };
        if is_right {
            Ok(())
        } else {
            Err(FrameError::Misplaced {
                found: header.position,
                expected,
            })
        }
    }

    fn decode_at(&self, offset: usize) -> Result<Frame<'b>, FrameError> {
        let bytes = self.input.get(offset..).unwrap_or_default();
        self.check_place(offset, &FrameHeader::read(bytes)?)?;
        decode_frame(bytes, self.seed)
    }

    /// Finds the next good frame behind damage, and says what was skipped.
    fn skip_damage(&mut self, reason: FrameError) -> Damage {
        let start = self.offset;
        let mut candidate = start.saturating_add(FRAME_ALIGNMENT);
        while candidate < self.input.len() && self.resync_bytes_left > 0 {
            let work = match self.decode_at(candidate) {
                Ok(_) => break,
                Err(FrameError::Checksum) => self.announced_at(candidate),
                Err(_) => FRAME_HEADER_BYTES,
            };
            self.resync_bytes_left = self.resync_bytes_left.saturating_sub(work);
            candidate = candidate.saturating_add(FRAME_ALIGNMENT);
        }
        let found = candidate < self.input.len() && self.resync_bytes_left > 0;
        self.offset = if found { candidate } else { self.input.len() };
        Damage {
            offset: start,
            skipped_bytes: self.offset.saturating_sub(start),
            reason,
        }
    }

    fn announced_at(&self, offset: usize) -> usize {
        let bytes = self.input.get(offset..).unwrap_or_default();
        FrameHeader::read(bytes)
            .and_then(|header| header.frame(bytes))
            .map_or(FRAME_HEADER_BYTES, |frame| frame.frame_bytes)
    }
}

impl<'b> Iterator for Frames<'b> {
    type Item = Result<Frame<'b>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest().is_empty() {
            let frame = match self.decode_at(self.offset) {
                Ok(frame) => frame,
                Err(reason) => return Some(Err(self.skip_damage(reason))),
            };
            self.offset = self.offset.saturating_add(frame.frame_bytes);
            if let Placement::Journal { at_least } = &mut self.placement {
                *at_least = frame.end();
            }
            if frame.body.is_some() {
                return Some(Ok(frame));
            }
        }
        None
    }
}

pub(super) fn widen(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
