//! Recordings copied to where others read them: a directory, or a bucket of S3-compatible storage.
//!
//! What is copied comes in units: a session that has ended, or an hour of refused logins or of what
//! people and the operator did. Each is written as objects named by their content, and is done when
//! the object `complete.json` says so; one that was broken off is taken up again by the next run,
//! which writes what is missing. Nothing is ever overwritten with something else.
//!
//! It decides nothing about who may export: whoever may read the recordings may.

mod destination;
mod thread;
mod units;

use std::path::Path;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::archive::TrailError;
use crate::recorder::replay::{ReplayError, ReplayForm};
use crate::recorder::{CatalogueError, RecordingSettings, SessionId};

pub(crate) use destination::NotATarget;
pub use destination::{S3Keys, S3Settings, Target};
pub(crate) use thread::ExportThread;

use destination::{Destination, DestinationError};
use units::{Unit, Units};

/// Size from which an object is written, in bytes. One is held in memory at a time.
const OBJECT_BYTES: usize = 8 << 20;

/// Sessions younger than this may still get records of an earlier time, from another shard.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// What says that a unit is whole. Written last.
const COMPLETE: &str = "complete.json";

/// How far everything was exported.
const CURSOR: &str = "cursor.json";

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportForm {
    /// In the shape of the Open Cybersecurity Schema Framework.
    Ocsf,
    /// As `sallyport replay --json`, rows included.
    Jsonl,
}

impl ExportForm {
    /// The word in the configuration, on the command line and in names of objects.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ocsf => "ocsf",
            Self::Jsonl => "jsonl",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Ocsf => "ndjson",
            Self::Jsonl => "jsonl",
        }
    }

    fn replay_form(self) -> ReplayForm {
        match self {
            Self::Ocsf => ReplayForm::Ocsf,
            Self::Jsonl => ReplayForm::Json,
        }
    }
}

/// Where exports go, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportSettings {
    pub to: Option<Target>,
    pub form: ExportForm,
    /// Between two runs of the appliance itself; zero for none.
    pub interval: Duration,
    pub s3: S3Settings,
}

/// What one run exports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportWanted {
    /// Microseconds since 1970; from where the last run stopped when not set.
    pub since: Option<u64>,
    pub until: Option<u64>,
    /// Only this session.
    pub session: Option<SessionId>,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Units that are complete since this run.
    pub units: u64,
    /// Units that were complete before.
    pub known: u64,
    /// Sessions that have not ended, and come with a later run.
    pub live: u64,
    pub objects: u64,
    pub bytes: u64,
}

/// Why a run ended early. What it completed stays, and the next goes on behind it.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("nowhere to export to: give `--to`, or set `export.to`")]
    Nowhere,
    #[error(transparent)]
    Destination(#[from] DestinationError),
    #[error("the catalogue cannot be read")]
    Catalogue(#[from] CatalogueError),
    #[error("a recording cannot be read")]
    Replay(#[from] ReplayError),
    #[error("the trail cannot be read")]
    Trail(#[from] TrailError),
    #[error("{name} at the destination is not ours, or of another version")]
    NotOurs { name: String },
}

/// How far everything was exported, as it stands at the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    version: u32,
    /// Sessions up to this one.
    session: Option<String>,
    /// Hours before this one, counted from 1970.
    hour: u64,
}

/// What a unit consists of, as `complete.json` says.
#[derive(Serialize)]
struct Complete<'u> {
    version: u32,
    unit: &'u str,
    objects: Vec<Object>,
}

#[derive(Serialize)]
struct Object {
    name: String,
    bytes: usize,
    lines: u64,
    sha256: String,
}

const VERSION: u32 = 1;

/// Exports what is wanted. Blocking; with no runtime of tokio on this thread.
///
/// # Errors
/// The first thing that does not work. What is complete then stays so.
pub fn export(
    settings: &ExportSettings,
    recording: &RecordingSettings,
    wanted: &ExportWanted,
) -> Result<Exported, ExportError> {
    export_at(settings, recording, wanted, runtime::unix_time())
}

fn export_at(
    settings: &ExportSettings,
    recording: &RecordingSettings,
    wanted: &ExportWanted,
    now: Duration,
) -> Result<Exported, ExportError> {
    let target = settings.to.as_ref().ok_or(ExportError::Nowhere)?;
    let destination = Destination::open(target, &settings.s3)?;
    let mut run = Run {
        destination,
        form: settings.form,
        exported: Exported::default(),
    };
    run.everything(recording, wanted, now)?;
    Ok(run.exported)
}

struct Run {
    destination: Destination,
    form: ExportForm,
    exported: Exported,
}

impl Run {
    fn everything(
        &mut self,
        recording: &RecordingSettings,
        wanted: &ExportWanted,
        now: Duration,
    ) -> Result<(), ExportError> {
        let is_whole = wanted.since.is_none() && wanted.session.is_none();
        let mut cursor = if is_whole {
            self.cursor()?
        } else {
            Cursor::default()
        };
        let units = Units::find(recording, wanted, &cursor, now)?;
        self.exported.live = units.live;
        for unit in &units.found {
            self.unit(recording, unit)?;
        }
        if is_whole && units.advance(&mut cursor) {
            let text = serde_json::to_vec(&cursor).unwrap_or_default();
            self.destination.replace(&self.name(CURSOR), text)?;
        }
        Ok(())
    }

    fn cursor(&self) -> Result<Cursor, ExportError> {
        let name = self.name(CURSOR);
        let Some(text) = self.destination.read(&name)? else {
            return Ok(Cursor {
                version: VERSION,
                ..Cursor::default()
            });
        };
        serde_json::from_slice(&text)
            .ok()
            .filter(|cursor: &Cursor| cursor.version == VERSION)
            .ok_or(ExportError::NotOurs { name })
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.form.name())
    }

    fn unit(&mut self, recording: &RecordingSettings, unit: &Unit) -> Result<(), ExportError> {
        let folder = self.name(&unit.folder());
        let complete = format!("{folder}/{COMPLETE}");
        if self.destination.holds(&complete)? {
            self.exported.known += 1;
            return Ok(());
        }
        let mut part = Part::default();
        let mut objects = Vec::new();
        let mut lines = unit.lines(recording, self.form)?;
        while let Some(text) = lines.next()? {
            part.push(&text);
            if part.text.len() >= OBJECT_BYTES {
                objects.push(self.object(&folder, objects.len(), &mut part)?);
            }
        }
        if !part.text.is_empty() {
            objects.push(self.object(&folder, objects.len(), &mut part)?);
        }
        let complete_of = Complete {
            version: VERSION,
            unit: &folder,
            objects,
        };
        let text = serde_json::to_vec(&complete_of).unwrap_or_default();
        self.destination.put(&complete, text)?;
        self.exported.units += 1;
        Ok(())
    }

    /// Writes a part under the name of its content, unless it is there from a run that broke off.
    fn object(
        &mut self,
        folder: &str,
        index: usize,
        part: &mut Part,
    ) -> Result<Object, ExportError> {
        let Part { text, lines } = std::mem::take(part);
        let sha256 = hex(digest(&SHA256, &text).as_ref());
        let short = sha256.get(..16).unwrap_or_default();
        let extension = self.form.extension();
        let name = format!("{:06}-{short}.{extension}", index + 1);
        let bytes = text.len();
        let path = format!("{folder}/{name}");
        if !self.destination.holds(&path)? {
            self.destination.put(&path, text)?;
            self.exported.objects += 1;
            self.exported.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        }
        Ok(Object {
            name,
            bytes,
            lines,
            sha256,
        })
    }
}

/// Lines that go into one object.
#[derive(Default)]
struct Part {
    text: Vec<u8>,
    lines: u64,
}

impl Part {
    fn push(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
        let lines = text.bytes().filter(|byte| *byte == b'\n').count();
        self.lines += u64::try_from(lines).unwrap_or(u64::MAX);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the archive of a recording is, for the trail.
fn trail_directory(recording: &RecordingSettings) -> &Path {
    &recording.archive_directory
}

#[cfg(test)]
mod tests;
