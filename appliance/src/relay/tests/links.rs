//! Links that split, delay and break; what passes them is held against the journal.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use codecs::Limits;
use codecs::postgres::backend::ParameterStatus;
use codecs::postgres::{Frontend, FrontendDecoder, FrontendPiece};
use runtime::Chunk;
use runtime::mapped::{Frames, Placement, Position, RingReader};

use crate::recorder::Verdict;
use crate::recorder::format::{Record, RecordHeader};
use crate::relay::link::{Link, Outbound, Upstream};
use crate::upstream::UpstreamError;

/// Numbers that a seed decides (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Another one that goes its own way.
    pub(super) fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

/// What stands in the journal.
pub(super) struct Witness {
    reader: RingReader,
    /// What was read of the ring so far.
    read: u64,
    committed: Position,
    commands: Vec<Command>,
    /// What the agent was to receive.
    pub(super) responses: Vec<u8>,
    pub(super) has_ended: bool,
}

struct Command {
    verdict: Verdict,
    total_bytes: u64,
    wire: Vec<u8>,
    /// Behind its last piece.
    position: Position,
}

impl Command {
    fn is_whole(&self) -> bool {
        u64::try_from(self.wire.len()).unwrap() == self.total_bytes
    }
}

impl Witness {
    pub(super) fn new(reader: RingReader) -> Self {
        Self {
            reader,
            read: 0,
            committed: Position(0),
            commands: Vec::new(),
            responses: Vec::new(),
            has_ended: false,
        }
    }

    /// Reads what was recorded since the last look.
    pub(super) fn look(&mut self) {
        let pending = self.reader.pending().unwrap();
        let seed = self.reader.seed();
        let behind = pending.start.0 + u64::try_from(pending.first.len()).unwrap();
        for (bytes, start) in [(pending.first, pending.start.0), (pending.second, behind)] {
            let read = usize::try_from(self.read.saturating_sub(start)).unwrap();
            let frames = Frames::new(bytes, Placement::Ring { start }, seed);
            for frame in frames.starting_at(read.min(bytes.len())) {
                let frame = frame.unwrap();
                let end = Position(frame.end());
                let (header, fields) = RecordHeader::decode(frame.body.unwrap()).unwrap();
                match Record::decode(&header, fields).unwrap() {
                    Record::Command(command) => self.commands.push(Command {
                        verdict: command.verdict,
                        total_bytes: command.total_bytes,
                        wire: command.wire.to_vec(),
                        position: end,
                    }),
                    Record::CommandRest { wire } => {
                        let command = self.commands.last_mut().unwrap();
                        command.wire.extend_from_slice(wire);
                        command.position = end;
                    }
                    Record::Response { wire, .. } => self.responses.extend_from_slice(wire),
                    Record::SessionEnd(_) => self.has_ended = true,
                    Record::SessionStart(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        self.read = pending.end.0;
    }

    /// Gives the ring's bytes back; whoever waits for them is woken.
    pub(super) fn commit(&mut self) -> bool {
        self.look();
        let end = self.reader.pending().unwrap().end;
        let moves = end > self.committed;
        self.reader.commit(end);
        self.committed = end;
        moves
    }

    pub(super) fn refusals(&self) -> u64 {
        let refused = self
            .commands
            .iter()
            .filter(|command| command.verdict == Verdict::Refused);
        u64::try_from(refused.count()).unwrap()
    }

    pub(super) fn remove(self) {
        self.reader.remove().unwrap();
    }
}

/// How a direction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// In good order, behind what was sent.
    End,
    /// At once, with an error.
    Reset,
}

/// A connection as its owner sees it, and the network and peer behind it.
pub(super) struct SimLink {
    random: Random,
    /// From the peer: under way, and arrived.
    pub(super) in_flight: VecDeque<u8>,
    arrived: VecDeque<u8>,
    broken: Option<Break>,
    /// To the peer: queued by the owner, and taken by the kernel.
    queued: VecDeque<u8>,
    pub(super) sent: VecDeque<u8>,
    /// What the kernel would still take.
    room: usize,
    /// Longest piece that one read yields.
    chunk_bytes: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl SimLink {
    /// With long messages the pieces are long too: byte by byte would take too long.
    pub(super) fn new(mut random: Random, is_large: bool) -> Self {
        let chunk_bytes = if is_large {
            random.pick(&[4096, 16_384, 65_536])
        } else {
            random.pick(&[1, 7, 100, 4096])
        };
        let room = random.pick(&[0, 1, 1000, 100_000]);
        Self {
            random,
            in_flight: VecDeque::new(),
            arrived: VecDeque::new(),
            broken: None,
            queued: VecDeque::new(),
            sent: VecDeque::new(),
            room,
            chunk_bytes,
            reader: None,
            writer: None,
        }
    }

    /// Some of what is under way arrives.
    pub(super) fn arrive(&mut self) -> bool {
        let whole = self.random.chance(50);
        let count = if whole {
            self.in_flight.len()
        } else {
            self.random
                .below(self.in_flight.len() + 1)
                .max(1)
                .min(self.in_flight.len())
        };
        self.arrived.extend(self.in_flight.drain(..count));
        if count > 0 {
            wake(&mut self.reader);
        }
        count > 0
    }

    /// The kernel can take more; whether anything waits for that.
    pub(super) fn make_room(&mut self) -> bool {
        let most = self.random.pick(&[1, 100, 10_000, 1_000_000]);
        self.room = (self.room + 1 + self.random.below(most)).min(1 << 21);
        wake(&mut self.writer);
        !self.queued.is_empty()
    }

    pub(super) fn break_off(&mut self, how: Break) {
        self.broken = Some(how);
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    /// The kernel sends what is left.
    pub(super) fn flush_all(&mut self) {
        self.sent.extend(self.queued.drain(..));
    }

    pub(super) fn is_drained(&self) -> bool {
        self.in_flight.is_empty() && self.arrived.is_empty()
    }

    fn error() -> io::Error {
        ErrorKind::ConnectionReset.into()
    }

    fn recv(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        if self.broken == Some(Break::Reset) {
            return Poll::Ready(Err(Self::error()));
        }
        if self.arrived.is_empty() {
            if self.broken == Some(Break::End) && self.in_flight.is_empty() {
                return Poll::Ready(Ok(None));
            }
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = (1 + self.random.below(self.chunk_bytes)).min(self.arrived.len());
        let bytes: Vec<u8> = self.arrived.drain(..count).collect();
        Poll::Ready(Ok(Some(Chunk::from_slice(&bytes))))
    }

    /// Moves what the kernel takes; says how much that is.
    fn flush(&mut self, context: &mut Context<'_>) -> (usize, Poll<io::Result<()>>) {
        if self.broken == Some(Break::Reset) {
            return (0, Poll::Ready(Err(Self::error())));
        }
        let count = self.room.min(self.queued.len());
        self.room -= count;
        self.sent.extend(self.queued.drain(..count));
        if self.queued.is_empty() {
            return (count, Poll::Ready(Ok(())));
        }
        self.writer = Some(context.waker().clone());
        (count, Poll::Pending)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// The appliance's end towards the agent.
pub(super) struct AgentLink {
    pub(super) link: SimLink,
    witness: Rc<RefCell<Witness>>,
    appended: usize,
    /// Last words are said even if the journal has no room for them.
    pub(super) hears_farewell: bool,
}

impl AgentLink {
    pub(super) fn new(link: SimLink, witness: Rc<RefCell<Witness>>) -> Self {
        Self {
            link,
            witness,
            appended: 0,
            hears_farewell: false,
        }
    }
}

impl Outbound for AgentLink {
    fn append(&mut self, bytes: &[u8]) {
        let mut witness = self.witness.borrow_mut();
        witness.look();
        let end = self.appended + bytes.len();
        let recorded = witness.responses.get(self.appended..end);
        assert!(
            self.hears_farewell || recorded == Some(bytes),
            "bytes for the agent that are not in the journal"
        );
        self.appended = end;
        self.link.queued.extend(bytes);
    }
}

impl Link for AgentLink {
    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        self.link.recv(context)
    }

    fn queued_bytes(&self) -> usize {
        self.link.queued.len()
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.flush(context).1
    }
}

/// The appliance's end towards the target.
pub(super) struct TargetLink {
    pub(super) link: SimLink,
    witness: Rc<RefCell<Witness>>,
    is_strict: bool,
    reserved: Vec<u8>,
    decoder: FrontendDecoder,
    /// What was queued of a message that is not whole yet.
    partial: Vec<u8>,
    /// The first command in the journal that may be the next one forwarded.
    next_command: usize,
    /// Where in the stream messages end that stand in the journal, and where there.
    recorded: VecDeque<(usize, Position)>,
    appended: usize,
    left: usize,
}

impl TargetLink {
    pub(super) fn new(
        link: SimLink,
        witness: Rc<RefCell<Witness>>,
        is_strict: bool,
        reserved: &str,
    ) -> Self {
        let mut decoder = FrontendDecoder::new(whole());
        decoder.authenticated();
        Self {
            link,
            witness,
            is_strict,
            reserved: reserved.as_bytes().to_vec(),
            decoder,
            partial: Vec::new(),
            next_command: 0,
            recorded: VecDeque::new(),
            appended: 0,
            left: 0,
        }
    }

    /// Finds the message in the journal, behind the one before it.
    fn check(&mut self, wire: &[u8]) -> Position {
        let mut witness = self.witness.borrow_mut();
        witness.look();
        let behind = witness
            .commands
            .get(self.next_command..)
            .unwrap_or_default();
        let found = (0..behind.len()).find_map(|first| {
            let commands = says(&behind[first..], wire)?;
            Some(first + commands)
        });
        let next = found.unwrap_or_else(|| {
            let text = String::from_utf8_lossy(wire);
            panic!("{text:?} is forwarded and not in the journal as permitted")
        });
        self.next_command += next;
        behind[next - 1].position
    }

    fn is_ours(&self, message: &Frontend<'_>) -> bool {
        match message {
            Frontend::Query(query) => is_our_text(query.text),
            Frontend::Parse(parse) => is_our_text(parse.text) || parse.statement == self.reserved,
            Frontend::Bind(bind) => bind.statement == self.reserved,
            Frontend::Execute(execute) => execute.portal == self.reserved,
            _ => false,
        }
    }
}

/// How many commands say `wire` together: one, or several for a long CopyData, which is recorded in
/// the stretches that it came in.
fn says(commands: &[Command], mut wire: &[u8]) -> Option<usize> {
    let is_copy_data = wire.first() == Some(&b'd');
    for (index, command) in commands.iter().enumerate() {
        if !command.is_whole() || command.verdict == Verdict::Refused {
            return None;
        }
        wire = wire.strip_prefix(command.wire.as_slice())?;
        if wire.is_empty() {
            return Some(index + 1);
        }
        if !is_copy_data {
            return None;
        }
    }
    None
}

/// A probe, or what the appliance asks for itself.
fn is_our_text(text: &[u8]) -> bool {
    let ours: [&[u8]; 3] = [
        b"!",
        b"SELECT pg_catalog.array_to_json",
        b"SELECT pg_catalog.set_config",
    ];
    ours.iter().any(|beginning| text.starts_with(beginning))
}

/// Limits under which no message comes in parts.
pub(super) fn whole() -> Limits {
    Limits {
        stream_above_bytes: u32::MAX,
        ..Limits::default()
    }
}

impl Outbound for TargetLink {
    fn append(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        self.appended += bytes.len();
        let partial = std::mem::take(&mut self.partial);
        let mut rest = partial.as_slice();
        let mut decoder = std::mem::replace(&mut self.decoder, FrontendDecoder::new(whole()));
        while let Some(piece) = decoder.decode(rest).unwrap() {
            let FrontendPiece::Message(decoded) = &piece else {
                panic!("a message in parts");
            };
            let is_recorded = !matches!(
                decoded.message,
                Frontend::Sync | Frontend::Flush | Frontend::Describe(_) | Frontend::Close(_)
            ) && !self.is_ours(&decoded.message);
            assert!(
                !contains(decoded.wire, b"DROP"),
                "a denied statement is forwarded"
            );
            rest = rest.get(decoded.wire.len()..).unwrap();
            if is_recorded {
                let position = self.check(decoded.wire);
                self.recorded
                    .push_back((self.appended - rest.len(), position));
            }
        }
        self.partial = rest.to_vec();
        self.decoder = decoder;
        self.link.queued.extend(bytes);
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

impl Link for TargetLink {
    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        self.link.recv(context)
    }

    fn queued_bytes(&self) -> usize {
        self.link.queued.len()
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (count, flushed) = self.link.flush(context);
        self.left += count;
        let committed = self.witness.borrow().committed;
        while let Some((end, position)) = self.recorded.pop_front_if(|(end, _)| *end <= self.left) {
            assert!(
                !self.is_strict || position <= committed,
                "what ends at byte {end} leaves before it is committed"
            );
        }
        flushed
    }
}

impl Upstream for TargetLink {
    fn handle_parameter_status(&mut self, _: &ParameterStatus<'_>) -> Result<(), UpstreamError> {
        Ok(())
    }
}
