//! The data path between two peers that are buffers, for counting what it costs.
//!
//! Built for `benches` alone (feature `bench`); nothing of the product uses it.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use codecs::postgres::backend::{self, ParameterStatus};
use codecs::postgres::{FrontendDecoder, TransactionStatus, frontend};
use runtime::mapped::{MappedRing, RingReader, RingSettings};
use runtime::{Chunk, ShardId};

use crate::budgets::{Budgets, Ledger};
use crate::config::{Environment, Snapshot, Writing, load};
use crate::identity::{Claim, Proven, RemoteKeys, TokenCache, TokenRequest, prove};
use crate::protocols::postgres::classify::Classifier;
use crate::protocols::postgres::exchange::{Exchange, Opened};
use crate::recorder::{
    COMMIT_INTERVAL_DEFAULT, CommandKind, DecisionNote, Durability, EffectNote, Journal, Note,
    Recorder, SessionStart, Verdict,
};
use crate::relay::flow::Flow;
use crate::relay::inbound::Inbound;
use crate::relay::link::{Link, Outbound, Upstream};
use crate::upstream::{Attribution, UpstreamError};

/// As the shipped default is, per shard.
const RING_BYTES: usize = 16 * 1024 * 1024;

const CONFIGURATION: &str = r#"
[[target]]
name     = "orders"
protocol = "postgres"
address  = "127.0.0.1:5432"
user     = "svc"
tls      = "disable"
"#;

const POLICY: &str = r#"
[[rule]]
name    = "analysts"
groups  = ["analysts"]
targets = ["orders"]
allow   = { statements = ["read", "write", "transaction", "session"] }

[[rule]]
name    = "no-destruction"
groups  = ["*"]
targets = ["*"]
deny    = { statements = ["drop", "truncate"] }
"#;

/// One session, with policy and recording on.
pub struct Session {
    flow: Flow,
    agent: Buffer,
    target: Buffer,
    journal: RingReader,
}

/// The judging of texts, alone.
pub struct Classified(Exchange);

/// The recording of a command and its answer, alone.
pub struct Recorded {
    recorder: Recorder,
    note: Note,
    journal: RingReader,
}

/// A peer: what it sends is put in, what it gets is thrown away.
#[derive(Default)]
struct Buffer {
    arriving: Option<Chunk>,
    queue: Vec<u8>,
    queued: usize,
}

impl Session {
    /// `None` when the directory cannot hold what it takes.
    #[must_use]
    pub fn new(directory: &Path) -> Option<Self> {
        let (exchange, journal) = exchange(directory)?;
        let mut session = Self {
            flow: Flow::new(exchange, Inbound::default()),
            agent: Buffer::default(),
            target: Buffer::default(),
            journal,
        };
        session.settle_path()?;
        Some(session)
    }

    /// The agent says `asked`, the target `answered`; returns how many bytes passed.
    ///
    /// `None` when they do not pass as they are.
    pub fn round_trip(&mut self, asked: &[u8], answered: &[u8]) -> Option<usize> {
        self.agent.arriving = Some(Chunk::from_slice(asked));
        self.turn()?;
        (self.target.take_sent() == asked.len()).then_some(())?;
        self.target.arriving = Some(Chunk::from_slice(answered));
        self.turn()?;
        (self.agent.take_sent() == answered.len()).then_some(())?;
        drain(&mut self.journal);
        Some(asked.len() + answered.len())
    }

    /// Answers the question for the search path, which comes before the first statement that
    /// needs it.
    fn settle_path(&mut self) -> Option<()> {
        let mut text = Vec::new();
        frontend::encode_query(&mut text, b"SELECT a FROM b").ok()?;
        self.agent.arriving = Some(Chunk::from_slice(&text));
        self.turn()?;
        self.target.take_sent();
        let mut path = Vec::new();
        backend::encode_row_description(&mut path, &[]).ok()?;
        backend::encode_data_row(&mut path, &[Some(br#"["public"]"#)]).ok()?;
        let mut rest = Vec::new();
        backend::encode_command_complete(&mut rest, b"SELECT 1").ok()?;
        backend::encode_ready_for_query(&mut rest, TransactionStatus::Idle).ok()?;
        self.target.arriving = Some(Chunk::from_slice(&[path, rest.clone()].concat()));
        self.turn()?;
        (self.target.take_sent() == text.len()).then_some(())?;
        self.target.arriving = Some(Chunk::from_slice(&rest));
        self.turn()?;
        self.agent.take_sent();
        Some(())
    }

    /// As the relay does it.
    fn turn(&mut self) -> Option<()> {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let turned = self
                .flow
                .turn(&mut self.agent, &mut self.target, &mut context)
                .ok()?;
            if !turned.moved {
                return Some(());
            }
        }
    }
}

impl Classified {
    /// `None` when the directory cannot hold what it takes.
    #[must_use]
    pub fn new(directory: &Path) -> Option<Self> {
        let (exchange, _) = exchange(directory)?;
        Some(Self(exchange))
    }

    /// Whether policy allows `text`.
    #[must_use]
    pub fn allows(&self, text: &str) -> bool {
        self.0.allows(text)
    }
}

impl Recorded {
    /// `None` when the directory cannot hold what it takes.
    #[must_use]
    pub fn new(directory: &Path) -> Option<Self> {
        let (journal, reader) = journal(directory)?;
        let note = Note::new(&DecisionNote {
            verdict: Verdict::Permitted,
            rule: None,
            policy: 1,
            effects: &[EffectNote {
                class: "select",
                object: Some("pgbench_accounts"),
            }],
            search_path: Some(&["public".to_owned()]),
            foreshadowed: None,
        });
        Some(Self {
            recorder: Recorder::open(&journal, &SessionStart::default()).ok()?,
            note,
            journal: reader,
        })
    }

    /// `None` when the ring has no room, which it has.
    pub fn command_and_response(
        &mut self,
        number: u64,
        asked: &[u8],
        answered: &[u8],
    ) -> Option<()> {
        let recorded = self
            .recorder
            .command(number, CommandKind::Query, asked, &[], &self.note)
            .ok()?;
        self.recorder.response(recorded.number(), answered).ok()?;
        drain(&mut self.journal);
        Some(())
    }
}

impl Buffer {
    fn take_sent(&mut self) -> usize {
        std::mem::take(&mut self.queued)
    }
}

impl Outbound for Buffer {
    fn append(&mut self, bytes: &[u8]) {
        self.queue.extend_from_slice(bytes);
    }
}

impl Link for Buffer {
    fn poll_recv(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        match self.arriving.take() {
            Some(chunk) => Poll::Ready(Ok(Some(chunk))),
            None => Poll::Pending,
        }
    }

    fn queued_bytes(&self) -> usize {
        self.queue.len()
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.queued += self.queue.len();
        self.queue.clear();
        Poll::Ready(Ok(()))
    }
}

impl Upstream for Buffer {
    fn handle_parameter_status(&mut self, _: &ParameterStatus<'_>) -> Result<(), UpstreamError> {
        Ok(())
    }
}

/// Takes what is in the ring, as the journal thread does with its writes left out.
fn drain(journal: &mut RingReader) {
    if let Ok(pending) = journal.pending() {
        let end = pending.end;
        journal.commit(end);
    }
}

fn exchange(directory: &Path) -> Option<(Exchange, RingReader)> {
    let (snapshot, proven) = configured(directory)?;
    let (journal, reader) = journal(directory)?;
    let sought = policy::Target::named("orders");
    let occasion = policy::Occasion::default();
    let permit = snapshot
        .policy
        .admit(proven.principal(), &sought, occasion)
        .ok()?;
    let budgets = Budgets::open(
        &Ledger::new(),
        &snapshot.policy,
        &permit,
        proven.principal(),
        0,
    )
    .ok()?;
    let mut frontend = FrontendDecoder::new(snapshot.limits.wire);
    frontend.authenticated();
    let exchange = Exchange::new(Opened {
        attribution: Attribution::new("builtin", "ada", None, permit.read_only()).ok()?,
        snapshot,
        proven,
        permit,
        budgets,
        sought,
        occasion: policy::Occasion::default(),
        classifier: Classifier::new(),
        frontend,
        reserved: "reserved".to_owned(),
        metrics: Rc::default(),
        recorder: Recorder::open(&journal, &SessionStart::default()).ok()?,
        catalogue: None,
    });
    Some((exchange, reader))
}

fn journal(directory: &Path) -> Option<(Rc<Journal>, RingReader)> {
    let settings = RingSettings {
        ring_bytes: RING_BYTES,
        identity: *b"a measured ring.",
        label: 0,
    };
    let path = directory.join("ring");
    let (writer, reader) = MappedRing::create(&path, &settings, std::thread::current()).ok()?;
    let durability = Durability::Bounded(COMMIT_INTERVAL_DEFAULT);
    Some((Journal::over(writer, ShardId(0), durability), reader))
}

fn configured(directory: &Path) -> Option<(Arc<Snapshot>, Proven)> {
    std::fs::create_dir_all(directory.join("policy.d")).ok()?;
    std::fs::write(directory.join("sallyport.toml"), CONFIGURATION).ok()?;
    std::fs::write(directory.join("policy.d/bench.toml"), POLICY).ok()?;
    let environment = Environment {
        file: directory.join("sallyport.toml"),
        file_named: true,
        state_directory: directory.join("state"),
        runtime_directory: directory.join("run"),
        credentials_directory: None,
        policy_directory: None,
        drafts: Vec::new(),
        variable: |_| None,
    };
    let loaded = load(&environment, Writing::Never, 1).ok()?;
    let now = runtime::unix_time().as_secs();
    let request = TokenRequest {
        agent: "ada".to_owned(),
        groups: vec!["analysts".to_owned()],
        lifetime: Duration::from_secs(3600),
    };
    let token = loaded.builtin_issuer?.mint(&request, now).ok()?;
    let claim = Claim::Password(token.text.expose());
    let cache = TokenCache::new();
    let proven = prove(
        &loaded.snapshot.authenticators,
        &RemoteKeys::none(),
        &cache,
        claim,
        now,
    )
    .ok()?;
    Some((Arc::new(loaded.snapshot), proven))
}
