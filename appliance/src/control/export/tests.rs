//! Which units there are, and how far the cursor goes. What is in them is tested end to end.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use runtime::ShardId;
use tempfile::TempDir;

use super::*;
use crate::archive::{Action, Actor, Trail, Verb};
use crate::recorder::{EndReason, Journal, JournalThread, Recorder, RefusedLogin, SessionStart};

const HOUR: Duration = Duration::from_secs(3600);

struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
        }
    }

    fn recording(&self) -> RecordingSettings {
        let root = self.directory.path();
        RecordingSettings::under(&root.join("run"), &root.join("state"))
    }

    fn settings(&self) -> ExportSettings {
        ExportSettings {
            to: Some(Target::Directory(self.directory.path().join("to"))),
            form: ExportForm::Jsonl,
            interval: Duration::ZERO,
            s3: S3Settings {
                endpoint: None,
                region: "us-east-1".to_owned(),
                keys: None,
            },
        }
    }

    fn export(&self, now: Duration) -> Exported {
        let wanted = ExportWanted::default();
        export_at(&self.settings(), &self.recording(), &wanted, now).unwrap()
    }

    /// The units that are complete, without their days.
    fn complete(&self) -> BTreeSet<String> {
        fn collect(folder: &Path, found: &mut BTreeSet<String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    collect(&path, found);
                } else if path.ends_with(COMPLETE) {
                    let text = folder.to_string_lossy().into_owned();
                    let kind = text.split("/jsonl/").nth(1).unwrap();
                    found.insert(kind.split('/').next().unwrap().to_owned());
                }
            }
        }
        let mut found = BTreeSet::new();
        collect(&self.directory.path().join("to"), &mut found);
        found
    }
}

#[test]
fn hours_are_exported_when_they_are_over_and_the_cursor_waits_for_live_sessions() {
    let place = Place::new();
    let thread = JournalThread::start(place.recording()).unwrap();
    let journal = Journal::open(thread.handle(), ShardId(0)).unwrap();
    let open = || Recorder::open(&journal, &SessionStart::default()).unwrap();
    let live = open();
    open().end(EndReason::Finished);
    for reason in ["token-expired", "no-such-target"] {
        let refused = RefusedLogin {
            reason: reason.to_owned(),
            ..RefusedLogin::default()
        };
        journal.refused_login(&refused).unwrap();
    }
    let trail = Trail::open(&place.recording().archive_directory).unwrap();
    let action = Action::new(Actor::Operator { uid: 7 }, Verb::Revoked, "agent:x");
    trail.record(&action).unwrap();
    thread.handle().flush(HOUR).unwrap();

    // At the beginning of this hour nothing of it is over.
    let now = runtime::unix_time();
    let this_hour = Duration::from_secs(now.as_secs() / 3600 * 3600);
    let first = place.export(this_hour);
    assert_eq!((first.units, first.live), (1, 1));
    assert_eq!(place.complete(), BTreeSet::from(["sessions".to_owned()]));

    let later = this_hour + 3 * HOUR;
    let second = place.export(later);
    assert_eq!((second.units, second.known, second.live), (2, 1, 1));
    let all = ["actions", "refused-logins", "sessions"];
    assert_eq!(place.complete(), all.map(str::to_owned).into());

    // The session that was live is older than what was exported meanwhile.
    live.end(EndReason::Finished);
    thread.handle().flush(HOUR).unwrap();
    let third = place.export(later);
    // What ended first is behind the cursor where its id, of the same millisecond, is the lower one.
    assert_eq!((third.units, third.live), (1, 0));
    let fourth = place.export(later);
    assert_eq!((fourth.units, fourth.known, fourth.live), (0, 0, 0));
}

#[test]
fn a_cursor_that_is_not_ours_is_refused() {
    let place = Place::new();
    JournalThread::start(place.recording())
        .unwrap()
        .stop()
        .unwrap();
    let folder = place.directory.path().join("to/jsonl");
    fs::create_dir_all(&folder).unwrap();
    for text in ["", "{}", r#"{"version":2,"session":null,"hour":0}"#] {
        fs::write(folder.join(CURSOR), text).unwrap();
        let wanted = ExportWanted::default();
        let outcome = export(&place.settings(), &place.recording(), &wanted);
        assert!(
            matches!(outcome, Err(ExportError::NotOurs { .. })),
            "{text}"
        );
    }
}
