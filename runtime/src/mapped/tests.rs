//! Tests of rings and frames: against a model, against damage, and against SIGKILL.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const RING_BYTES: usize = RING_BYTES_MIN;
const BODY_BYTES_MAX: usize = RING_BYTES / 2 - FRAME_HEADER_BYTES;
const IDENTITY: [u8; 16] = *b"identity of ring";

fn make(directory: &TempDir) -> (RingWriter, RingReader, PathBuf) {
    let path = directory.path().join("a.ring");
    let settings = RingSettings {
        ring_bytes: RING_BYTES,
        identity: IDENTITY,
        label: 7,
    };
    let (writer, reader) = MappedRing::create(&path, &settings, std::thread::current()).unwrap();
    (writer, reader, path)
}

fn append(writer: &mut RingWriter, body: &[u8]) -> Result<Position, AppendError> {
    writer.append(&[body], 0)
}

/// Recovers a ring whose halves were dropped by this process.
///
/// Another test may be forking: until its child has executed, that holds the lock too.
fn recover_own(path: &Path) -> Result<Leftover, RingError> {
    let deadline = crate::now() + Duration::from_secs(20);
    loop {
        match recover(path) {
            Err(RingError::Busy { .. }) if crate::now() < deadline => std::thread::yield_now(),
            outcome => return outcome,
        }
    }
}

fn bodies(reader: &RingReader) -> Vec<Vec<u8>> {
    let pending = reader.pending().unwrap();
    let Position(start) = pending.start;
    let second_start = start + widen(pending.first.len());
    [(pending.first, start), (pending.second, second_start)]
        .into_iter()
        .flat_map(|(run, start)| Frames::new(run, Placement::Ring { start }, reader.seed()))
        .map(|frame| frame.unwrap().body.unwrap().to_vec())
        .collect()
}

fn recovered(leftover: &Leftover) -> Vec<Vec<u8>> {
    leftover
        .frames()
        .map(|frame| frame.unwrap().body.unwrap().to_vec())
        .collect()
}

/// A body that tells its number and is wrong if any byte of it is.
fn numbered(number: u64, body_bytes: usize) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.extend((8..body_bytes.max(8)).map(|index| {
        number
            .wrapping_mul(31)
            .wrapping_add(widen(index))
            .to_le_bytes()[0]
    }));
    body
}

fn number_of(body: &[u8]) -> u64 {
    let number = u64::from_le_bytes(body[..8].try_into().unwrap());
    assert_eq!(
        body,
        numbered(number, body.len()),
        "record {number} is torn"
    );
    number
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Drain,
    /// Commits only part of what is pending.
    DrainSome(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_usize..600).prop_map(Step::Append),
        2 => (0_usize..=BODY_BYTES_MAX).prop_map(Step::Append),
        1 => Just(Step::Drain),
        1 => (0_usize..20).prop_map(Step::DrainSome),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_ring_holds_what_a_queue_would(steps in prop::collection::vec(step(), 1..200)) {
        let directory = TempDir::new().unwrap();
        let (mut writer, mut reader, path) = make(&directory);
        let mut model: VecDeque<(Vec<u8>, Position)> = VecDeque::new();
        let mut number = 0;
        for step in steps {
            match step {
                Step::Append(body_bytes) => {
                    let body = numbered(number, body_bytes);
                    let had_room = writer.has_room(body.len(), 0);
                    let appended = append(&mut writer, &body);
                    prop_assert_eq!(appended.is_ok(), had_room);
                    if let Ok(position) = appended {
                        model.push_back((body, position));
                        number += 1;
                    } else {
                        prop_assert_eq!(appended, Err(AppendError::Full));
                        prop_assert!(!model.is_empty(), "an empty ring refused a record that fits");
                    }
                }
                Step::Drain => {
                    let end = reader.pending().unwrap().end;
                    reader.commit(end);
                    model.clear();
                }
                Step::DrainSome(count) => {
                    let count = count.min(model.len());
                    if let Some((_, end)) = model.drain(..count).next_back() {
                        reader.commit(end);
                    }
                }
            }
            let expected: Vec<_> = model.iter().map(|(body, _)| body.clone()).collect();
            prop_assert_eq!(bodies(&reader), expected);
        }
        let expected: Vec<_> = model.iter().map(|(body, _)| body.clone()).collect();
        drop((writer, reader));
        prop_assert_eq!(recovered(&recover_own(&path).unwrap()), expected);
    }

    #[test]
    fn recovery_of_a_damaged_ring_yields_only_records_that_were_written(
        flips in prop::collection::vec((0_usize..HEADER_BYTES + RING_BYTES, 1_u8..=255), 1..40),
        cut in prop::option::of(0_usize..HEADER_BYTES + RING_BYTES),
    ) {
        let directory = TempDir::new().unwrap();
        let path = filled_ring(&directory);
        let mut bytes = fs::read(&path).unwrap();
        for (offset, flip) in flips {
            bytes[offset] ^= flip;
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        fs::write(&path, &bytes).unwrap();
        if let Ok(leftover) = recover_own(&path) {
            let mut last = None;
            for frame in leftover.frames().flatten() {
                let number = number_of(frame.body.unwrap());
                prop_assert!(last < Some(number), "records came back out of order");
                last = Some(number);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_decode_to_no_frame_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let seed = FrameSeed::new(&IDENTITY);
        prop_assert!(decode_frame(&bytes, seed).is_err());
        let frames = Frames::new(&bytes, Placement::Journal { at_least: 0 }, seed);
        prop_assert_eq!(frames.flatten().count(), 0);
    }
}

/// A ring whose records wrap, left behind with the numbers 40 to 79.
fn filled_ring(directory: &TempDir) -> PathBuf {
    let (mut writer, mut reader, path) = make(directory);
    let mut position = Position(0);
    for number in 0..80 {
        if number == 40 {
            position = writer.head();
        }
        let body = numbered(number, 1000);
        if append(&mut writer, &body).is_err() {
            reader.commit(position);
            append(&mut writer, &body).unwrap();
        }
    }
    reader.commit(position);
    path
}

#[test]
fn a_record_of_the_largest_size_fits_and_one_byte_more_is_refused() {
    let directory = TempDir::new().unwrap();
    let (mut writer, reader, _) = make(&directory);
    assert_eq!(writer.body_bytes_max(), BODY_BYTES_MAX);
    let too_long = AppendError::TooLong {
        body_bytes: BODY_BYTES_MAX + 1,
        limit: BODY_BYTES_MAX,
    };
    assert_eq!(
        append(&mut writer, &vec![1; BODY_BYTES_MAX + 1]),
        Err(too_long)
    );
    assert_eq!(bodies(&reader), Vec::<Vec<u8>>::new());
    append(&mut writer, &vec![1; BODY_BYTES_MAX]).unwrap();
    assert_eq!(bodies(&reader), [vec![1; BODY_BYTES_MAX]]);
}

#[test]
fn the_last_byte_of_the_ring_can_be_used_and_not_one_more() {
    let directory = TempDir::new().unwrap();
    let (mut writer, mut reader, _) = make(&directory);
    append(&mut writer, &vec![1; BODY_BYTES_MAX]).unwrap();
    append(&mut writer, &vec![2; BODY_BYTES_MAX - FRAME_ALIGNMENT]).unwrap();
    assert!(writer.has_room(0, 0));
    append(&mut writer, b"").unwrap();
    assert_eq!(append(&mut writer, b""), Err(AppendError::Full));
    let first_end = Position(widen(frame_bytes(BODY_BYTES_MAX)));
    reader.commit(first_end);
    append(&mut writer, &vec![3; BODY_BYTES_MAX]).unwrap();
    assert_eq!(append(&mut writer, b""), Err(AppendError::Full));
    let lengths: Vec<_> = bodies(&reader).iter().map(Vec::len).collect();
    assert_eq!(
        lengths,
        [BODY_BYTES_MAX - FRAME_ALIGNMENT, 0, BODY_BYTES_MAX]
    );
}

#[test]
fn what_is_to_stay_free_stays_free() {
    let directory = TempDir::new().unwrap();
    let (mut writer, _reader, _) = make(&directory);
    let reserve = 4 * FRAME_ALIGNMENT;
    while writer.append(&[b"0123456789"], reserve).is_ok() {}
    let frame = frame_bytes(10);
    let free = RING_BYTES - usize::try_from(writer.head().0).unwrap();
    assert!(
        (reserve..reserve + frame).contains(&free),
        "{free} bytes are free"
    );
    append(&mut writer, b"0123456789").unwrap();
}

#[test]
fn parts_become_one_record() {
    let directory = TempDir::new().unwrap();
    let (mut writer, reader, _) = make(&directory);
    writer.append(&[b"ab", b"", b"c", b"defg"], 0).unwrap();
    assert_eq!(bodies(&reader), [b"abcdefg"]);
}

#[test]
fn a_ring_that_lives_is_not_recovered_and_not_replaced() {
    let directory = TempDir::new().unwrap();
    let (mut writer, reader, path) = make(&directory);
    append(&mut writer, b"mine").unwrap();
    assert!(matches!(recover(&path), Err(RingError::Busy { .. })));
    let settings = RingSettings {
        ring_bytes: RING_BYTES,
        identity: IDENTITY,
        label: 7,
    };
    let replaced = MappedRing::create(&path, &settings, std::thread::current());
    assert!(matches!(replaced, Err(RingError::Exists { .. })));
    drop(writer);
    assert!(matches!(recover(&path), Err(RingError::Busy { .. })));
    drop(reader);
    let leftover = recover_own(&path).unwrap();
    assert_eq!((leftover.identity(), leftover.label()), (IDENTITY, 7));
    assert_eq!(recovered(&leftover), [b"mine"]);
    assert!(
        matches!(recover(&path), Err(RingError::Busy { .. })),
        "recovery holds the lock"
    );
    leftover.remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn sizes_outside_the_range_are_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.ring");
    let refused = [
        0,
        RING_BYTES_MIN - 4096,
        RING_BYTES_MIN + 1,
        RING_BYTES_MAX + 4096,
    ];
    for ring_bytes in refused {
        let settings = RingSettings {
            ring_bytes,
            identity: IDENTITY,
            label: 0,
        };
        let made = MappedRing::create(&path, &settings, std::thread::current());
        assert!(matches!(made, Err(RingError::Size { .. })), "{ring_bytes}");
    }
    assert!(!path.exists());
}

#[test]
fn a_flipped_byte_costs_one_record_and_the_rest_is_found() {
    let directory = TempDir::new().unwrap();
    let path = filled_ring(&directory);
    let whole = recover_own(&path).unwrap();
    let third = whole.frames().nth(2).unwrap().unwrap();
    let (position, frame_bytes) = (third.position, third.frame_bytes);
    let Position(start) = whole.start();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let place = (position + 100) % widen(RING_BYTES);
    file.write_all_at(b"X", widen(HEADER_BYTES) + place)
        .unwrap();
    drop(whole);
    let leftover = recover_own(&path).unwrap();
    let mut damage = Vec::new();
    let mut numbers = Vec::new();
    for frame in leftover.frames() {
        match frame {
            Ok(frame) => numbers.push(number_of(frame.body.unwrap())),
            Err(found) => damage.push(found),
        }
    }
    let expected: Vec<u64> = (40..42).chain(43..80).collect();
    assert_eq!(numbers, expected);
    let offset = usize::try_from(position - start).unwrap();
    let expected = Damage {
        offset,
        skipped_bytes: frame_bytes,
        reason: FrameError::Checksum,
    };
    assert_eq!(damage, [expected]);
}

#[test]
fn each_kind_of_bad_header_is_named() {
    let directory = TempDir::new().unwrap();
    let good = fs::read(filled_ring(&directory)).unwrap();
    let path = directory.path().join("bad.ring");
    let check_damaged = |bytes: &[u8], is_expected: fn(&HeaderDamage) -> bool| {
        fs::write(&path, bytes).unwrap();
        match recover(&path).map(|leftover| leftover.bytes().len()) {
            Err(RingError::Header { reason, .. }) => assert!(is_expected(&reason), "{reason}"),
            other => panic!("{other:?}"),
        }
    };
    let with = |offset: usize, bytes: &[u8]| {
        let mut damaged = good.clone();
        damaged[offset..offset + bytes.len()].copy_from_slice(bytes);
        damaged
    };
    check_damaged(b"", |reason| *reason == HeaderDamage::Short);
    check_damaged(&good[..HEADER_BYTES - 1], |reason| {
        *reason == HeaderDamage::Short
    });
    check_damaged(&with(0, b"X"), |reason| *reason == HeaderDamage::Magic);
    check_damaged(&with(8, &[9]), |reason| {
        *reason == HeaderDamage::Version { found: 9 }
    });
    check_damaged(&with(20, &[1]), |reason| *reason == HeaderDamage::Checksum);
    let shorter = &good[..good.len() - 1];
    check_damaged(shorter, |reason| {
        matches!(reason, HeaderDamage::Capacity { .. })
    });
    check_damaged(&good[..HEADER_BYTES], |reason| {
        matches!(reason, HeaderDamage::Capacity { .. })
    });
    let longer = [good.as_slice(), b"x"].concat();
    check_damaged(&longer, |reason| {
        matches!(reason, HeaderDamage::Capacity { .. })
    });
    let is_bounds = |reason: &HeaderDamage| matches!(reason, HeaderDamage::Bounds { .. });
    check_damaged(&with(128, &[0xff; 8]), is_bounds);
    check_damaged(&with(128, &1_u64.to_le_bytes()), is_bounds);
    check_damaged(&with(256, &[0xff; 8]), is_bounds);
}

#[test]
fn bytes_that_imitate_frames_do_not_pass_for_them() {
    let seed = FrameSeed::new(&IDENTITY);
    let other_seed = FrameSeed::new(b"another identity");
    let mut forged = Vec::new();
    encode_frame(&mut forged, 64, b"forged", other_seed);
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, 0, &forged, seed);
    bytes[3] ^= 1;
    let found: Vec<_> = Frames::new(&bytes, Placement::Journal { at_least: 0 }, seed).collect();
    assert!(matches!(found.as_slice(), [Err(_)]), "{found:?}");
}

#[test]
fn the_search_behind_damage_is_bounded_whatever_the_bytes_imitate() {
    // Headers that each announce all that follows: checking each would be quadratic.
    let count = 40_000_u32;
    let header = |index: u32| {
        let rest = (count - index - 1) * 16 - 16;
        header_bytes(u64::from(index), rest)
    };
    let bytes: Vec<u8> = (0..count - 2).flat_map(header).chain([0; 32]).collect();
    let mut frames = Frames::new(
        &bytes,
        Placement::Journal { at_least: 0 },
        FrameSeed::new(&IDENTITY),
    );
    let damage = frames.next().unwrap().unwrap_err();
    assert_eq!((damage.offset, damage.skipped_bytes), (0, bytes.len()));
    assert_eq!(frames.next(), None);
}

struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl CountWakes {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(0)))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn whoever_waits_for_room_is_woken_once_by_a_commit() {
    let directory = TempDir::new().unwrap();
    let (mut writer, mut reader, _) = make(&directory);
    while append(&mut writer, &[0; 1000]).is_ok() {}
    let wakes = CountWakes::new();
    let waker = Waker::from(Arc::clone(&wakes));
    let mut cx = Context::from_waker(&waker);
    for _ in 0..3 {
        assert!(writer.poll_room(&mut cx, 1000, 0).is_pending());
    }
    let end = reader.pending().unwrap().end;
    reader.commit(end);
    assert_eq!(wakes.count(), 1);
    assert_eq!(writer.poll_room(&mut cx, 1000, 0), Poll::Ready(Ok(())));
    append(&mut writer, &[0; 1000]).unwrap();
    let end = reader.pending().unwrap().end;
    reader.commit(end);
    assert_eq!(wakes.count(), 1, "nobody waited any more");
}

#[test]
fn a_position_is_committed_when_the_tail_passed_it() {
    let directory = TempDir::new().unwrap();
    let (mut writer, mut reader, _) = make(&directory);
    let first = append(&mut writer, b"first").unwrap();
    let second = append(&mut writer, b"second").unwrap();
    let wakes = CountWakes::new();
    let waker = Waker::from(Arc::clone(&wakes));
    let mut cx = Context::from_waker(&waker);
    assert!(writer.poll_committed(&mut cx, second).is_pending());
    reader.commit(first);
    assert_eq!(wakes.count(), 1);
    assert_eq!(writer.poll_committed(&mut cx, first), Poll::Ready(Ok(())));
    assert!(writer.poll_committed(&mut cx, second).is_pending());
    reader.commit(Position(second.0 + 16));
    assert!(
        writer.poll_committed(&mut cx, second).is_pending(),
        "a position from nowhere"
    );
    reader.commit(second);
    assert_eq!(writer.poll_committed(&mut cx, second), Poll::Ready(Ok(())));
}

#[test]
fn when_the_reader_is_gone_whoever_waits_learns_it() {
    let directory = TempDir::new().unwrap();
    let (mut writer, reader, _) = make(&directory);
    while append(&mut writer, &[0; 1000]).is_ok() {}
    let wakes = CountWakes::new();
    let waker = Waker::from(Arc::clone(&wakes));
    let mut cx = Context::from_waker(&waker);
    assert!(writer.poll_room(&mut cx, 1000, 0).is_pending());
    drop(reader);
    assert_eq!(wakes.count(), 1);
    assert_eq!(
        writer.poll_room(&mut cx, 1000, 0),
        Poll::Ready(Err(ReaderGone))
    );
    let head = writer.head();
    assert_eq!(
        writer.poll_committed(&mut cx, head),
        Poll::Ready(Err(ReaderGone))
    );
}

#[test]
fn the_reader_does_not_sleep_over_what_is_there_or_demanded() {
    let directory = TempDir::new().unwrap();
    let (mut writer, mut reader, _) = make(&directory);
    assert!(reader.arm(1));
    append(&mut writer, b"x").unwrap();
    assert!(!reader.arm(1), "something is pending");
    assert!(reader.arm(1000), "less than asked for is pending");
    let head = writer.head();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(writer.poll_committed(&mut cx, head).is_pending());
    assert!(!reader.arm(1000), "a commit is demanded");
    reader.disarm();
    assert!(!reader.arm(1000), "the demand stands until it is taken");
    assert!(reader.take_demand());
    assert!(reader.arm(1000), "the demand was taken");
    reader.commit(head);
    assert!(!reader.take_demand());
}

/// Everything that is appended arrives, although the reader sleeps whenever it may.
#[test]
fn a_sleeping_reader_is_woken_by_what_it_waits_for() {
    let directory = TempDir::new().unwrap();
    let (mut writer, mut reader, _) = make(&directory);
    let total = 20_000;
    let appender = std::thread::spawn(move || {
        let mut waiting = 0_u64;
        for number in 0..total {
            let body = numbered(number, 8 + usize::try_from(number % 300).unwrap());
            while append(&mut writer, &body).is_err() {
                waiting += 1;
                std::thread::yield_now();
            }
        }
        waiting
    });
    let mut expected = 0;
    while expected < total {
        if reader.arm(1) {
            // No timeout to speak of: a lost wake fails the test by its time limit.
            park(Duration::from_secs(60));
        }
        reader.disarm();
        reader.take_demand();
        for body in bodies(&reader) {
            assert_eq!(number_of(&body), expected);
            expected += 1;
        }
        commit_counted(&mut reader, expected);
    }
    appender.join().unwrap();
}

/// Commits behind the last record whose number is below `expected`.
fn commit_counted(reader: &mut RingReader, expected: u64) {
    let pending = reader.pending().unwrap();
    let Position(start) = pending.start;
    let second_start = start + widen(pending.first.len());
    let end = [(pending.first, start), (pending.second, second_start)]
        .into_iter()
        .flat_map(|(run, start)| Frames::new(run, Placement::Ring { start }, reader.seed()))
        .map(Result::unwrap)
        .take_while(|frame| number_of(frame.body.unwrap()) < expected)
        .map(|frame| frame.end())
        .last();
    if let Some(end) = end {
        reader.commit(Position(end));
    }
}

/// Where the child of the crash test finds its ring.
const CHILD_RING: &str = "SALLYPORT_TEST_CHILD_RING";

/// Not a test of its own: the process that `no_acknowledged_record_is_lost_to_sigkill` kills.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD_RING) else {
        return;
    };
    let settings = RingSettings {
        ring_bytes: RING_BYTES,
        identity: IDENTITY,
        label: 1,
    };
    let (mut writer, mut reader) =
        MappedRing::create(Path::new(&path), &settings, std::thread::current()).unwrap();
    let mut acknowledgements = io::stderr();
    for number in 0.. {
        let body = numbered(number, 8 + usize::try_from(number * 7919 % 3000).unwrap());
        while append(&mut writer, &body).is_err() {
            let end = reader.pending().unwrap().end;
            reader.commit(end);
        }
        acknowledgements.write_all(&number.to_le_bytes()).unwrap();
    }
}

fn start_child(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "mapped::tests::child_that_appends_until_it_is_killed",
            "--nocapture",
        ])
        .env(CHILD_RING, path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn no_acknowledged_record_is_lost_to_sigkill() {
    let directory = TempDir::new().unwrap();
    for round in 0..60_u64 {
        let path = directory.path().join(format!("{round}.ring"));
        let mut child = start_child(&path);
        let mut pipe = child.stderr.take().unwrap();
        // Reading this many acknowledgements, then killing at once, meets the child anywhere.
        let mut last = 0;
        for _ in 0..(round * 7919 % 2000 + 1) {
            let mut number = [0; 8];
            pipe.read_exact(&mut number).unwrap();
            last = u64::from_le_bytes(number);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = Vec::new();
        pipe.read_to_end(&mut rest).unwrap();
        if let Some(number) = rest.chunks_exact(8).last() {
            last = u64::from_le_bytes(number.try_into().unwrap());
        }
        let leftover = recover(&path).unwrap();
        let numbers: Vec<u64> = recovered(&leftover)
            .iter()
            .map(|body| number_of(body))
            .collect();
        let first = numbers.first().copied().unwrap_or(last + 1);
        let contiguous: Vec<u64> = (first..first + widen(numbers.len())).collect();
        assert_eq!(numbers, contiguous, "round {round}");
        // A commit may have taken all up to the last; then nothing at all may be left.
        assert!(
            first + widen(numbers.len()) > last,
            "round {round}: record {last} is lost"
        );
        leftover.remove().unwrap();
    }
}
