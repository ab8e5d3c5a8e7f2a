//! The archivist behind a journal: what is sealed is read as before, whatever happens to it.

use crate::archive::{
    self, Archive, ArchiveKeys, ArchiveSettings, Archivist, Bell, Check, Held, Hold, Holds, Kind,
    Trail, Verb,
};
use crate::archive::{Action, Actor};
use crate::config::{Secret, StateDirectory, Writing};

use super::*;

/// A journal and its archivist.
struct Running {
    journal: JournalThread,
    archivist: Archivist,
    trail: Trail,
    holds: Holds,
}

/// How an archivist differs from one that seals when it is asked to.
#[derive(Default)]
struct Wanted {
    settings: ArchiveSettings,
    rotate_bytes: Option<u64>,
    signing_key: Option<&'static str>,
    previous_key: Option<&'static str>,
}

fn seldom() -> ArchiveSettings {
    ArchiveSettings {
        head_interval: Duration::from_secs(3600),
        ..ArchiveSettings::default()
    }
}

fn start(place: &Place, wanted: &Wanted) -> Running {
    let settings = RecordingSettings {
        rotate_bytes: wanted.rotate_bytes.unwrap_or(u64::MAX),
        ..place.settings()
    };
    start_in(settings, place.path(), wanted)
}

fn start_in(settings: RecordingSettings, root: &Path, wanted: &Wanted) -> Running {
    let bell = Bell::new();
    let journal = start_journal(&settings, &bell);
    let trail = Trail::open_with(&settings.archive_directory, bell.clone()).unwrap();
    let holds = Holds::open(&settings.archive_directory).unwrap();
    let state = StateDirectory::new(root.join("keys"), Writing::Create);
    let secret = |pem: Option<&str>| pem.map(|pem| Secret::new(pem.as_bytes().to_vec()));
    let (signing, previous) = (secret(wanted.signing_key), secret(wanted.previous_key));
    let keys = ArchiveKeys::of(&state, signing.as_ref(), previous.as_ref()).unwrap();
    let archive = Archive {
        recording: settings,
        settings: wanted.settings.clone(),
        keys: Arc::new(keys),
        trail: trail.clone(),
        holds: holds.clone(),
        journal: journal.handle().clone(),
        announce: Box::new(|_| {}),
    };
    Running {
        journal,
        archivist: Archivist::start(archive, bell).unwrap(),
        trail,
        holds,
    }
}

fn start_journal(settings: &RecordingSettings, bell: &Bell) -> JournalThread {
    use runtime::mapped::RingError::Busy;
    let deadline = runtime::now() + DEADLINE;
    loop {
        match JournalThread::start_with(settings.clone(), bell.clone()) {
            Err(StartError::Recovery(
                RecoveryError::InUse { .. } | RecoveryError::Ring(Busy { .. }),
            )) if runtime::now() < deadline => std::thread::yield_now(),
            outcome => return outcome.unwrap(),
        }
    }
}

impl Running {
    fn seal(&self) {
        self.journal.handle().flush(DEADLINE).unwrap();
        assert!(self.archivist.handle().seal(DEADLINE));
    }

    fn stop(self) {
        self.journal.stop().unwrap();
        assert!(self.archivist.stop());
    }
}

/// A session that has ended.
fn session(journal: &Rc<Journal>, name: &str, commands: u64) -> SessionId {
    let start = start_of(name, "orders");
    let mut recorder = loop {
        match Recorder::open(journal, &start) {
            Err(OpenError::NoRoom(NoRoom { bytes })) => {
                wait(|cx| journal.poll_room(cx, bytes)).unwrap();
            }
            opened => break opened.unwrap(),
        }
    };
    for number in 1..=commands {
        let text = format!("select {number}, '{name}', '{}'", "x".repeat(300));
        record(&mut recorder, number, &query(&text), &permitted());
        recorder.count_rows(1);
        record_response(&mut recorder, number, &row(&[Some(b"value")]));
    }
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    session
}

fn check(place: &Place) -> archive::Report {
    let check = Check {
        directory: place.settings().archive_directory,
        ..Check::default()
    };
    archive::verify(&check).unwrap()
}

fn journal_files(place: &Place) -> Vec<String> {
    let files = std::fs::read_dir(place.settings().journal_directory).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".journal")).collect()
}

#[test]
fn what_is_sealed_is_listed_and_replayed_as_before_and_its_journal_files_go() {
    let place = Place::new();
    let wanted = Wanted {
        settings: seldom(),
        rotate_bytes: Some(40_000),
        ..Wanted::default()
    };
    let running = start(&place, &wanted);
    let journal = open_journal(&running.journal);
    let mut open = Recorder::open(&journal, &start_of("open", "orders")).unwrap();
    record(&mut open, 1, &query("select 'before'"), &permitted());
    let sessions = [100, 60, 70].map(|commands| {
        let session = session(&journal, "ada", commands);
        // Files are closed behind a commit.
        running.journal.handle().flush(DEADLINE).unwrap();
        session
    });
    let before = sessions.map(|session| place.events(session));
    let count = journal_files(&place).len();
    assert!(count >= 2, "{count}");
    running.seal();
    eventually("only the file that is being written is left", || {
        // The catalogue has to have read a file first.
        running.journal.handle().flush(DEADLINE).unwrap();
        running.seal();
        journal_files(&place).len() <= 1
    });
    assert_eq!(sessions.map(|session| place.events(session)), before);
    record(&mut open, 2, &query("select 'behind'"), &permitted());
    running.journal.handle().flush(DEADLINE).unwrap();
    let expected = [(1, query("select 'before'")), (2, query("select 'behind'"))];
    assert_eq!(commands(&place.events(open.session())), expected);
    let open = {
        let session = open.session();
        open.end(EndReason::Finished);
        session
    };
    drop(journal);
    running.stop();
    let listed = all_sessions(&place.catalogue());

    // A catalogue that is lost is made again, from the archive too.
    std::fs::remove_file(place.settings().catalogue).unwrap();
    let running = start(&place, &wanted);
    assert_eq!(all_sessions(&place.catalogue()), listed);
    assert_eq!(sessions.map(|session| place.events(session)), before);
    assert_eq!(commands(&place.events(open)), expected);
    running.stop();
    let report = check(&place);
    assert!(report.is_sound(), "{report:?}");
}

#[test]
fn a_session_of_many_segments_is_whole_and_memory_holds_one() {
    let place = Place::new();
    let wanted = Wanted {
        settings: seldom(),
        ..Wanted::default()
    };
    let running = start(&place, &wanted);
    let journal = open_journal(&running.journal);
    let mut recorder = Recorder::open(&journal, &start_of("ada", "orders")).unwrap();
    // 5 MB that hardly pack: several segments, over three packs.
    let mut state = 7_u32;
    for number in 1..=30_u64 {
        let noise: String = (0..170_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                char::from(b'a' + u8::try_from(state >> 24 & 15).unwrap())
            })
            .collect();
        record(&mut recorder, number, &query(&noise), &permitted());
        if number % 10 == 0 {
            running.seal();
        }
    }
    let session = recorder.session();
    recorder.end(EndReason::Finished);
    running.seal();
    let numbers: Vec<u64> = commands(&place.events(session))
        .iter()
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(numbers, (1..=30).collect::<Vec<u64>>());
    let report = check(&place);
    assert!(report.is_sound() && report.segments > 6, "{report:?}");
    drop(journal);
    running.stop();
}

#[test]
fn an_archive_that_is_gone_is_one_alarm_and_is_written_again_when_it_is_back() {
    let place = Place::new();
    let wanted = Wanted {
        settings: seldom(),
        rotate_bytes: Some(20_000),
        ..Wanted::default()
    };
    let running = start(&place, &wanted);
    let journal = open_journal(&running.journal);
    let first = session(&journal, "ada", 20);
    running.seal();
    let archive = place.settings().archive_directory;
    let aside = archive.with_extension("aside");
    std::fs::rename(&archive, &aside).unwrap();
    let second = session(&journal, "grace", 20);
    running.journal.handle().flush(DEADLINE).unwrap();
    for _ in 0..3 {
        assert!(!running.archivist.handle().seal(DEADLINE));
    }
    assert!(running.archivist.handle().status().is_failing);
    assert!(
        !archive.exists(),
        "it may be a file system that is not mounted"
    );
    let action = Action::new(Actor::Appliance, Verb::Revoked, "token:1");
    assert!(running.trail.record(&action).is_err());
    // Nothing of what is not sealed went from the journal.
    assert_eq!(place.events(second).len(), 42);
    std::fs::rename(&aside, &archive).unwrap();
    running.seal();
    assert!(!running.archivist.handle().status().is_failing);
    running.trail.record(&action).unwrap();
    assert_eq!(place.events(first).len(), 42);
    assert_eq!(place.events(second).len(), 42);
    drop(journal);
    running.stop();
    let report = check(&place);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.records, 84, "{report:?}");
}

#[test]
fn retention_removes_old_sessions_with_a_tombstone_and_leaves_what_is_held() {
    let place = Place::new();
    let wanted = Wanted {
        settings: seldom(),
        ..Wanted::default()
    };
    let running = start(&place, &wanted);
    let journal = open_journal(&running.journal);
    let gone = session(&journal, "gone", 5);
    let held = session(&journal, "held", 5);
    let of_agent = session(&journal, "agent", 5);
    running.seal();
    for what in [
        Held::Session(held.to_string()),
        Held::Agent("agent".to_owned()),
    ] {
        let hold = Hold {
            held: what.clone(),
            reason: "a case".to_owned(),
            by: Actor::Operator { uid: 0 },
            at: 1,
        };
        running.holds.place(hold.clone()).unwrap();
        assert!(running.holds.place(hold).is_err(), "held already");
    }
    drop(journal);
    running.stop();

    // A length of time that has passed for what is there.
    let keeping = Wanted {
        settings: ArchiveSettings {
            keep: Some(Duration::from_micros(1)),
            ..seldom()
        },
        ..Wanted::default()
    };
    let running = start(&place, &keeping);
    eventually("the old session is gone", || {
        running.seal();
        place.catalogue().session(gone).unwrap().is_none()
    });
    let report = check(&place);
    assert!(report.is_sound() && report.removed >= 1, "{report:?}");
    assert_eq!(commands(&place.events(held)).len(), 5);
    assert_eq!(commands(&place.events(of_agent)).len(), 5);

    // A body that is removed without a tombstone is missing.
    let copy = place.path().join("copy");
    copy_directory(&place.settings().archive_directory, &copy);
    std::fs::remove_file(copy.join("tombstones.ndjson")).unwrap();
    let without = archive::verify(&Check {
        directory: copy,
        ..Check::default()
    });
    let found: Vec<(Kind, Option<String>)> = without
        .unwrap()
        .findings
        .into_iter()
        .map(|finding| (finding.kind, finding.session))
        .collect();
    assert!(
        found.contains(&(Kind::MissingSession, Some(gone.to_string()))),
        "{found:?}"
    );
    assert!(found.contains(&(Kind::Truncated, None)), "{found:?}");

    running
        .holds
        .release(&Held::Session(held.to_string()))
        .unwrap();
    running.stop();
    let running = start(&place, &keeping);
    eventually("what was released is gone", || {
        running.seal();
        place.catalogue().session(held).unwrap().is_none()
    });
    assert_eq!(commands(&place.events(of_agent)).len(), 5);
    running.stop();
    assert!(check(&place).is_sound());
    // Holds outlive the process.
    let holds = Holds::open(&place.settings().archive_directory).unwrap();
    assert_eq!(holds.list().len(), 1);
}

#[test]
fn retention_by_size_removes_the_oldest_first_and_whole_packs_with_them() {
    let place = Place::new();
    let running = start(
        &place,
        &Wanted {
            settings: seldom(),
            ..Wanted::default()
        },
    );
    let journal = open_journal(&running.journal);
    let mut sessions = Vec::new();
    for name in ["one", "two", "three"] {
        sessions.push(session(&journal, name, 40));
        running.seal();
    }
    drop(journal);
    running.stop();
    let packs = place.settings().archive_directory.join("packs");
    let count = || std::fs::read_dir(&packs).unwrap().count();
    assert_eq!(count(), 3);
    let keeping = Wanted {
        settings: ArchiveSettings {
            keep_bytes: Some(1),
            ..seldom()
        },
        ..Wanted::default()
    };
    let running = start(&place, &keeping);
    eventually("all but what fits is gone", || {
        running.seal();
        count() == 0
    });
    running.stop();
    let report = check(&place);
    assert!(report.is_sound() && report.removed == 3, "{report:?}");
    assert_eq!(all_sessions(&place.catalogue()), []);
}

/// Made with `openssl genpkey -algorithm ed25519` for this test.
const KEYS: [&str; 2] = [
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEILlpYLZvK9iUv1g0otbABfMUPlzLHtygivhkq+vhmTO4\n-----END PRIVATE KEY-----\n",
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIDF9pl7FuMVfagJSh1rSmV1B4IuXQJwSihlJXxuNyMWn\n-----END PRIVATE KEY-----\n",
];

#[test]
fn a_new_key_is_introduced_by_the_old_one_and_old_heads_stay_verifiable() {
    let place = Place::new();
    let run = |signing_key, previous_key| {
        let running = start(
            &place,
            &Wanted {
                settings: seldom(),
                signing_key,
                previous_key,
                ..Wanted::default()
            },
        );
        let journal = open_journal(&running.journal);
        session(&journal, "ada", 3);
        running.seal();
        drop(journal);
        running.stop();
    };
    // The appliance's own, then a configured one, then another.
    run(None, None);
    let own = archive::public_keys(&place.settings().archive_directory).unwrap();
    run(Some(KEYS[0]), None);
    run(Some(KEYS[1]), Some(KEYS[0]));
    let report = check(&place);
    assert!(report.is_sound(), "{report:?}");
    let keys = archive::public_keys(&place.settings().archive_directory).unwrap();
    assert_eq!(keys.len(), 3);
    // Who kept the first key alone can follow.
    let verify = |keys| {
        let check = Check {
            directory: place.settings().archive_directory,
            keys: Some(keys),
            ..Check::default()
        };
        archive::verify(&check).unwrap()
    };
    assert!(verify(own).is_sound());
    assert!(
        !verify(keys[1..2].to_vec()).is_sound(),
        "the first heads are of another key"
    );
    // A key that nobody introduced.
    run(Some(KEYS[0]), None);
    let kinds: Vec<Kind> = check(&place)
        .findings
        .iter()
        .map(|finding| finding.kind)
        .collect();
    assert!(
        !kinds.is_empty() && kinds.iter().all(|kind| *kind == Kind::WrongKey),
        "{kinds:?}"
    );
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Where a child finds its directories.
const CHILD_ROOT: &str = "SALLYPORT_TEST_ARCHIVE_ROOT";

/// What a child puts before the id of a session that has ended; what else it says is trouble.
const RECORDED: &str = "recorded ";

/// The sessions that a child says it has recorded.
///
/// Panics with all that it said when that is anything else: it failed, and was not killed.
fn recorded(said: &str) -> Vec<SessionId> {
    let session = |line: &str| line.strip_prefix(RECORDED)?.parse().ok();
    let sessions: Option<Vec<SessionId>> = said.lines().map(session).collect();
    sessions.unwrap_or_else(|| panic!("the child said:\n{said}"))
}

/// Not a test of its own: the process that the next one kills.
#[test]
fn child_that_records_and_seals_until_it_is_killed() {
    let Some(root) = std::env::var_os(CHILD_ROOT) else {
        return;
    };
    let root = Path::new(&root);
    let settings = RecordingSettings {
        durability: Durability::Bounded(Duration::from_millis(1)),
        rotate_bytes: 60_000,
        ..settings_under(root)
    };
    let wanted = Wanted {
        settings: ArchiveSettings {
            head_interval: Duration::from_millis(2),
            ..ArchiveSettings::default()
        },
        ..Wanted::default()
    };
    let running = start_in(settings, root, &wanted);
    let journal = open_journal(&running.journal);
    let mut out = std::io::stderr();
    for number in 0.. {
        let session = session(&journal, &format!("agent-{number}"), 1 + number % 30);
        let line = format!("{RECORDED}{session}\n");
        std::io::Write::write_all(&mut out, line.as_bytes()).unwrap();
        if number % 5 == 0 {
            let action = Action::new(Actor::Appliance, Verb::Revoked, number.to_string());
            running.trail.record(&action).unwrap();
        }
    }
}

#[test]
fn killed_at_any_instant_nothing_is_lost_doubled_or_unsealed_for_good() {
    let place = Place::new();
    let name = "recorder::tests::archive::child_that_records_and_seals_until_it_is_killed";
    let mut random = std::process::id();
    let mut sessions = Vec::new();
    for _ in 0..12 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD_ROOT, place.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let count = 5 + usize::try_from(random >> 16).unwrap() % 120;
        let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        for _ in 0..count {
            std::io::BufRead::read_line(&mut stderr, &mut said).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it recorded until the kill is as safe as what it was killed for.
        std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
        let of_child = recorded(&said);
        assert!(of_child.len() >= count, "{count}: {said}");
        sessions.extend(of_child);
    }
    let running = start(
        &place,
        &Wanted {
            settings: seldom(),
            ..Wanted::default()
        },
    );
    running.seal();
    running.stop();
    let report = check(&place);
    assert!(report.is_sound(), "{report:?}");
    // Everything that ended before a kill is sealed whole, once.
    let listed = all_sessions(&place.catalogue());
    let listed: std::collections::HashMap<SessionId, &SessionEntry> =
        listed.iter().map(|entry| (entry.session, entry)).collect();
    for session in &sessions {
        let entry = listed[session];
        let events = place.events(*session);
        assert_eq!(entry.counters.commands, commands(&events).len() as u64);
        assert!(
            matches!(events.last().unwrap().what, EventKind::Ended(_)),
            "{session}"
        );
        let is_whole = events
            .iter()
            .all(|event| !matches!(event.what, EventKind::Missing { .. }));
        assert!(is_whole, "{session}");
    }
    // Without the catalogue the archive says the same.
    std::fs::remove_file(place.settings().catalogue).unwrap();
    let thread = start_with(place.settings());
    thread.stop().unwrap();
    let again = all_sessions(&place.catalogue());
    for entry in &again {
        if let Some(before) = listed.get(&entry.session) {
            assert_eq!(entry.counters, before.counters, "{}", entry.session);
        }
    }
    assert_eq!(again.len(), listed.len());
}
