//! Tests of the whole way: recorder, ring, journal thread, files, catalogue, replay.

mod archive;
mod crash;
mod damage;
mod durability;
mod replay;
mod search;
mod sessions;
mod shard;
mod sql;
mod trouble;
mod windows;

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use codecs::postgres::{backend, frontend};
use runtime::ShardId;
use runtime::mapped::Position;
use tempfile::TempDir;

use super::replay::{Event, EventKind, Replay};
use super::*;

/// What no wait in a test may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// A state directory and a run directory, gone with the test.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn settings(&self) -> RecordingSettings {
        settings_under(self.path())
    }

    fn start(&self) -> JournalThread {
        start_with(self.settings())
    }

    fn catalogue(&self) -> Catalogue {
        Catalogue::open(&self.settings().catalogue).unwrap()
    }

    fn events(&self, session: SessionId) -> Vec<Event> {
        let replay = Replay::open(&self.catalogue(), &self.settings(), session).unwrap();
        replay.map(Result::unwrap).collect()
    }
}

fn settings_under(root: &Path) -> RecordingSettings {
    let settings = RecordingSettings::under(&root.join("run"), &root.join("state"));
    RecordingSettings {
        ring_bytes: RING_BYTES_MIN,
        ..settings
    }
}

/// Starts the thread where another one of this process may just have ended.
///
/// Other tests fork: until the new process has executed, it holds the locks of all files too.
fn start_with(settings: RecordingSettings) -> JournalThread {
    use runtime::mapped::RingError::Busy;
    let deadline = runtime::now() + DEADLINE;
    loop {
        match JournalThread::start(settings.clone()) {
            Err(StartError::Recovery(
                RecoveryError::InUse { .. } | RecoveryError::Ring(Busy { .. }),
            )) if runtime::now() < deadline => std::thread::yield_now(),
            outcome => return outcome.unwrap(),
        }
    }
}

fn open_journal(thread: &JournalThread) -> Rc<Journal> {
    Journal::open(thread.handle(), ShardId(3)).unwrap()
}

fn start_of(name: &str, target: &str) -> SessionStart {
    SessionStart {
        principal: PrincipalNote {
            issuer: "https://issuer.test".to_owned(),
            subject: format!("sub-{name}"),
            name: name.to_owned(),
            groups: vec!["analysts".to_owned(), "oncall".to_owned()],
            actors: vec![ActorNote {
                issuer: "https://issuer.test".to_owned(),
                subject: "orchestrator".to_owned(),
            }],
            token_id: Some("token-1".to_owned()),
            expires: 1_900_000_000,
        },
        target: target.to_owned(),
        protocol: "postgres".to_owned(),
        user: Some("label".to_owned()),
        application: Some("psql".to_owned()),
        peer: "127.0.0.1:4711".to_owned(),
        shard: 0,
        read_only: false,
        policy: 7,
    }
}

fn permitted() -> Note {
    Note::new(&DecisionNote {
        verdict: Verdict::Permitted,
        rule: Some("analysts-read"),
        policy: 7,
        effects: &[EffectNote {
            class: "select",
            object: Some("public.orders"),
        }],
        search_path: Some(&["public".to_owned()]),
        foreshadowed: None,
    })
}

fn refused() -> Note {
    Note::new(&DecisionNote {
        verdict: Verdict::Refused,
        rule: Some("no-destruction"),
        policy: 7,
        effects: &[EffectNote {
            class: "drop",
            object: Some("public.orders"),
        }],
        search_path: None,
        foreshadowed: None,
    })
}

fn query(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    frontend::encode_query(&mut wire, text.as_bytes()).unwrap();
    wire
}

fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut wire = Vec::new();
    backend::encode_data_row(&mut wire, values).unwrap();
    wire
}

fn complete(tag: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    backend::encode_command_complete(&mut wire, tag.as_bytes()).unwrap();
    wire
}

/// Blocks until `poll` is ready, as an executor would: woken, never by looking again and again.
fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let deadline = runtime::now() + DEADLINE;
    loop {
        if let Poll::Ready(value) = poll(&mut cx) {
            return value;
        }
        let left = deadline.saturating_duration_since(runtime::now());
        assert!(!left.is_zero(), "not woken in {DEADLINE:?}");
        std::thread::park_timeout(left);
    }
}

/// Looks at something that another thread changes without telling, until it is as expected.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = runtime::now() + DEADLINE;
    while !is_so() {
        assert!(runtime::now() < deadline, "{what}: not in {DEADLINE:?}");
        std::thread::yield_now();
    }
}

/// Records a command as the relay does: waits for room and comes back with the same arguments.
fn record(recorder: &mut Recorder, number: u64, wire: &[u8], note: &Note) -> Position {
    loop {
        match recorder.command(number, CommandKind::Query, wire, &[], note) {
            Ok(recorded) => {
                assert_eq!(recorded.number(), number);
                return recorded.position();
            }
            Err(NoRoom { bytes }) => {
                wait(|cx| recorder.journal().poll_room(cx, bytes)).unwrap();
            }
        }
    }
}

fn record_response(recorder: &mut Recorder, number: u64, wire: &[u8]) {
    while let Err(NoRoom { bytes }) = recorder.response(number, wire) {
        wait(|cx| recorder.journal().poll_room(cx, bytes)).unwrap();
    }
}

fn commands(events: &[Event]) -> Vec<(u64, Vec<u8>)> {
    events
        .iter()
        .filter_map(|event| {
            let EventKind::Command(command) = &event.what else {
                return None;
            };
            Some((event.number, command.wire.clone()))
        })
        .collect()
}

/// What the catalogue says of all sessions, without what the clock decides.
fn all_sessions(catalogue: &Catalogue) -> Vec<SessionEntry> {
    let filter = SessionFilter {
        limit: Some(ROWS_MAX),
        ..SessionFilter::default()
    };
    catalogue.sessions(&filter).unwrap()
}
