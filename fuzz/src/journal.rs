//! Frames and rings as a crash leaves them: every byte is either in a good frame or in damage.

use std::sync::LazyLock;
use std::{fs, thread};

use runtime::mapped::{
    FRAME_ALIGNMENT, FrameSeed, Frames, MappedRing, Placement, RING_BYTES_MIN, RingSettings,
    encode_frame, recover,
};

const IDENTITY: [u8; 16] = *b"a fuzzed ring id";

/// Where the walked bytes begin in the life of their ring.
const START: u64 = 1 << 20;

/// A run of frames of the lengths that the first bytes say, damaged as the rest says.
///
/// What lies before the first damage is found as it was written; nothing is found twice, out of its
/// place or out of order.
pub fn frames(input: &[u8]) {
    let Some(([count, mode], rest)) = input.split_first_chunk() else {
        return;
    };
    let (lengths, damages) = rest.split_at(usize::from(count % 32).min(rest.len()));
    let seed = FrameSeed::new(&IDENTITY);
    let mut bytes = Vec::new();
    let mut bodies = Vec::new();
    for (index, length) in lengths.iter().enumerate() {
        let body = vec![index.to_le_bytes()[0]; usize::from(*length)];
        let position = START + bytes.len() as u64;
        encode_frame(&mut bytes, position, &body, seed);
        bodies.push((body, bytes.len()));
    }
    let mut intact = bytes.len();
    for damage in damages.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([damage[0], damage[1]])) % (bytes.len() + 1);
        match bytes.get_mut(at) {
            Some(byte) if *byte != damage[2] => {
                *byte = damage[2];
                intact = intact.min(at);
            }
            Some(_) => {}
            None => bytes.truncate(bytes.len() - usize::from(damage[2]).min(bytes.len())),
        }
    }
    intact = intact.min(bytes.len());
    // Any bytes at all, too.
    if mode & 1 == 1 {
        bytes = rest.to_vec();
        intact = 0;
    }
    let placement = if mode & 2 == 0 {
        Placement::Ring { start: START }
    } else {
        Placement::Journal { at_least: START }
    };
    walk(&bytes, placement, seed, &bodies, intact);
}

fn walk(
    bytes: &[u8],
    placement: Placement,
    seed: FrameSeed,
    bodies: &[(Vec<u8>, usize)],
    intact: usize,
) {
    let mut frames = Frames::new(bytes, placement, seed);
    let mut before = 0;
    let mut last_position = None;
    let mut found = 0;
    while let Some(item) = frames.next() {
        assert!(frames.offset() > before && frames.offset() <= bytes.len());
        match item {
            Ok(frame) => {
                let end = frames.offset();
                let start = end - frame.frame_bytes;
                assert!(start >= before && start.is_multiple_of(FRAME_ALIGNMENT));
                if placement == (Placement::Ring { start: START }) {
                    assert_eq!(frame.position, START + start as u64);
                }
                assert!(last_position.is_none_or(|last| last < frame.position));
                last_position = Some(frame.position);
                if end <= intact {
                    assert_eq!(frame.body, Some(bodies[found].0.as_slice()));
                    found += 1;
                }
            }
            Err(damage) => {
                assert!(damage.offset >= before && damage.skipped_bytes > 0);
                assert_eq!(damage.offset + damage.skipped_bytes, frames.offset());
            }
        }
        before = frames.offset();
    }
    let whole = bodies.iter().take_while(|(_, end)| *end <= intact).count();
    assert_eq!(found, whole);
}

/// The file of a ring with a few records in it.
static RING: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("sallyport-ring-{}", std::process::id()));
    let settings = RingSettings {
        ring_bytes: RING_BYTES_MIN,
        identity: IDENTITY,
        label: 3,
    };
    let (mut writer, mut reader) =
        MappedRing::create(&path, &settings, thread::current()).expect("a ring can be made");
    // So much that the end of the ring is passed, and the last records wrap.
    for index in 0..300_usize {
        let body = vec![index.to_le_bytes()[0]; index];
        writer.append(&[body.as_slice()], 0).expect("there is room");
        if index % 100 == 50 {
            let end = reader.pending().expect("the ring is sound").end;
            reader.commit(end);
        }
    }
    let bytes = fs::read(&path).expect("the ring is a file");
    fs::remove_file(&path).expect("the file is ours");
    bytes
});

/// A ring's file in which bytes were changed: recovering it says what is wrong or yields frames.
pub fn ring(input: &[u8]) {
    let mut bytes = RING.clone();
    for patch in input.chunks_exact(4) {
        let at = u32::from_le_bytes([patch[0], patch[1], patch[2], 0]) as usize;
        match bytes.get_mut(at) {
            Some(byte) => *byte = patch[3],
            None => bytes.truncate(bytes.len() - usize::from(patch[3]).min(bytes.len())),
        }
    }
    let path = std::env::temp_dir().join(format!("sallyport-leftover-{}", std::process::id()));
    fs::write(&path, &bytes).expect("a file can be written");
    if let Ok(leftover) = recover(&path) {
        assert!(leftover.bytes().len() <= RING_BYTES_MIN);
        let mut frames = leftover.frames();
        let mut covered = 0;
        while let Some(item) = frames.next() {
            assert!(frames.offset() > covered && frames.offset() <= leftover.bytes().len());
            covered = frames.offset();
            assert!(item.is_ok() || !input.is_empty());
        }
        if input.is_empty() {
            assert!(leftover.frames().all(|frame| frame.is_ok()));
            assert!(leftover.frames().count() > 20);
        }
    }
}
