//! Checks an archive against its heads, offline, and names what is wrong.
//!
//! It believes nothing but public keys and heads that were kept elsewhere. The archive's own index
//! is asked only for names of what is missing, and is said to be the source where it is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::chained::{ChainedError, Hash, Lines, Tip};
use super::head::{self, FileTip, Head, SealedPack, ShardTip};
use super::index::{Index, Place};
use super::key::{self, KeyLine, PublicKey};
use super::pack::{
    self, Pack, PackError, Segment, Subject, Table, file_name, is_blank, number_of, record_link,
    unpack,
};
use super::store::{PACKS, advance};
use super::tombstone::{self, Tombstone};
use super::trail;
use crate::recorder::format::RecordHeader;

/// Most findings that are kept. An archive that is wrong in more places is wrong.
const FINDINGS_MAX: usize = 1000;

/// Longest file of anchored heads or of keys that is read, in bytes.
pub const ANCHOR_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Bytes are not those that were sealed.
    Changed,
    /// Records of a session are not there.
    MissingRecord,
    /// A file ends before its end.
    Truncated,
    /// A session, or a part of one, is not there.
    MissingSession,
    /// A head, or a line of the trail or of the tombstones, is not there.
    MissingLine,
    /// What was written later stands earlier.
    Reordered,
    /// There are two continuations of one head.
    Forked,
    /// The archive ends before a head that was kept elsewhere.
    RolledBack,
    /// A head is signed by a key that is not known, or not the one whose turn it was.
    WrongKey,
}

impl Kind {
    /// The word in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::MissingRecord => "missing-record",
            Self::Truncated => "truncated",
            Self::MissingSession => "missing-session",
            Self::MissingLine => "missing-line",
            Self::Reordered => "reordered",
            Self::Forked => "forked",
            Self::RolledBack => "rolled-back",
            Self::WrongKey => "wrong-key",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub kind: Kind,
    /// Name of the file in the archive.
    pub file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The first and last sequence of the session that it touches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequences: Option<(u64, u64)>,
    /// Where in the file it begins, in bytes; for files of lines, the number of the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.file)?;
        if let Some(position) = self.position {
            write!(f, " at {position}")?;
        }
        if let Some(session) = &self.session {
            write!(f, ": session {session}")?;
        }
        if let Some((first, last)) = self.sequences {
            write!(f, ", records {first} to {last}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What was checked, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub heads: u64,
    pub packs: u64,
    pub segments: u64,
    pub records: u64,
    /// Lines of the trail that a head seals.
    pub actions: u64,
    /// Segments that retention removed, each by a tombstone that a head signs.
    pub removed: u64,
    /// Heads that were kept elsewhere and fit.
    pub anchors: u64,
    /// What is not wrong and should be known.
    pub notes: Vec<String>,
    pub findings: Vec<Finding>,
    /// More was wrong than is listed.
    pub is_cut: bool,
    /// Number and time (microseconds since 1970) of the newest head.
    pub newest: Option<(u64, u64)>,
}

impl Report {
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.heads > 0
    }
}

/// What to check and against what.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// The archive, or the directory of recordings that it is in.
    pub directory: PathBuf,
    /// Only what was sealed since, in microseconds since 1970. Heads are checked all the same.
    pub since: Option<u64>,
    /// Heads that were kept elsewhere.
    pub anchors: Vec<Head>,
    /// Public keys that were kept elsewhere; without them the archive's own list is believed.
    pub keys: Option<Vec<KeyLine>>,
}

/// Why nothing could be checked.
#[derive(Debug, Error)]
pub enum VerifyError {
    #[error(transparent)]
    File(#[from] ChainedError),
    #[error("there is no archive in {}", path.display())]
    NoArchive { path: PathBuf },
}

/// The heads in what somebody kept: one in each line.
///
/// # Errors
/// The number of the first line that holds none.
pub fn anchored(text: &[u8]) -> Result<Vec<Head>, usize> {
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(number, line)| Head::find(line.trim_ascii()).ok_or(number + 1))
        .collect()
}

/// Checks an archive.
///
/// # Errors
/// When there is none, or it cannot be read at all. What is wrong with it is in the report.
pub fn verify(check: &Check) -> Result<Report, VerifyError> {
    let nested = check.directory.join("archive");
    let archive = if nested.join(head::FILE).exists() {
        nested
    } else {
        check.directory.clone()
    };
    if !archive.join(head::FILE).exists() && !archive.join(PACKS).exists() {
        return Err(VerifyError::NoArchive { path: archive });
    }
    let mut verifier = Verifier {
        // The index proves nothing; without it names are missing from the report.
        index: Index::read(&archive).ok().flatten(),
        archive,
        report: Report::default(),
        keys: Vec::new(),
        removed: HashSet::new(),
        subjects: HashMap::new(),
        shards: BTreeMap::new(),
    };
    verifier.run(check)?;
    Ok(verifier.report)
}

struct Verifier {
    archive: PathBuf,
    index: Option<Index>,
    report: Report,
    /// Keys that heads may be signed with: those that were given, and those that were introduced.
    keys: Vec<PublicKey>,
    /// Pack and place of each segment that a signed tombstone names.
    removed: HashSet<(u64, u64)>,
    /// Where the chains of sessions are that have not ended.
    subjects: HashMap<Subject, (Hash, u64)>,
    shards: BTreeMap<u16, ShardTip>,
}

/// A finding about a segment, or about none.
struct About<'s> {
    kind: Kind,
    file: &'s str,
    subject: Option<Subject>,
    sequences: Option<(u64, u64)>,
    position: Option<u64>,
}

impl<'s> About<'s> {
    fn file(kind: Kind, file: &'s str) -> Self {
        Self {
            kind,
            file,
            subject: None,
            sequences: None,
            position: None,
        }
    }

    fn line(kind: Kind, file: &'s str, number: u64) -> Self {
        Self {
            position: Some(number),
            ..Self::file(kind, file)
        }
    }

    fn segment(kind: Kind, file: &'s str, segment: &Segment) -> Self {
        Self {
            kind,
            file,
            subject: Some(segment.subject),
            sequences: Some((segment.first_sequence, segment.last_sequence)),
            position: Some(segment.offset),
        }
    }
}

impl Verifier {
    fn find(&mut self, about: About<'_>, what: impl Into<String>) {
        if self.report.findings.len() >= FINDINGS_MAX {
            self.report.is_cut = true;
            return;
        }
        let mut what = what.into();
        let session = match about.subject {
            Some(Subject::Session(session)) => Some(session.to_string()),
            Some(refused @ Subject::Refused(_)) => {
                what = format!("{refused}: {what}");
                None
            }
            None => None,
        };
        self.report.findings.push(Finding {
            kind: about.kind,
            file: about.file.to_owned(),
            session,
            sequences: about.sequences,
            position: about.position,
            what,
        });
    }

    fn note(&mut self, note: impl Into<String>) {
        self.report.notes.push(note.into());
    }

    fn run(&mut self, check: &Check) -> Result<(), VerifyError> {
        self.take_keys(check)?;
        let heads = self.heads(check.keys.is_some())?;
        self.report.heads = widen(heads.len());
        self.report.newest = heads.last().map(|head| (head.number, head.at));
        if heads.is_empty() {
            self.find(
                About::file(Kind::MissingLine, head::FILE),
                "there is no head that could be checked",
            );
        }
        self.anchors(&heads, &check.anchors);
        self.chained_files(&heads)?;
        self.packs(&heads, check.since);
        Ok(())
    }

    fn take_keys(&mut self, check: &Check) -> Result<(), VerifyError> {
        let own;
        let lines = match &check.keys {
            Some(given) => given,
            None => {
                let path = self.archive.join(key::FILE);
                own = if path.exists() {
                    key::listed(&path)?
                } else {
                    Vec::new()
                };
                self.note(
                    "the keys are the archive's own: whoever can write there could have put \
                     others; give the ones that you kept with --keys",
                );
                &own
            }
        };
        self.keys = lines.iter().filter_map(KeyLine::key).collect();
        Ok(())
    }

    /// Walks the heads, and returns those that stand in one unbroken chain.
    fn heads(&mut self, keys_were_given: bool) -> Result<Vec<Head>, VerifyError> {
        let path = self.archive.join(head::FILE);
        let mut heads: Vec<Head> = Vec::new();
        if !path.exists() {
            return Ok(heads);
        }
        let mut current: Option<PublicKey> = None;
        let mut lines = Lines::open(&path)?;
        let mut number = 0;
        while let Some(line) = lines.next_line()? {
            number += 1;
            let parsed = Head::parse(line);
            let Some(head) = parsed else {
                let about = About::line(Kind::Changed, head::FILE, number);
                self.find(about, "this line is no head");
                continue;
            };
            self.signature(&head, number, &mut current, keys_were_given);
            self.place(&head, heads.last(), number);
            if let Some(next) = head.next_key.as_deref().and_then(PublicKey::from_base64) {
                if !self.keys.contains(&next) {
                    self.keys.push(next);
                }
                current = Some(next);
            }
            heads.push(head);
        }
        if lines.is_cut_off()? {
            let about = About::line(Kind::Truncated, head::FILE, number + 1);
            self.find(about, "the last line has no end");
        }
        Ok(heads)
    }

    fn signature(
        &mut self,
        head: &Head,
        line: u64,
        current: &mut Option<PublicKey>,
        keys_were_given: bool,
    ) {
        let known = self.keys.iter().find(|key| key.id() == head.key).copied();
        let Some(key) = known else {
            let about = About::line(Kind::WrongKey, head::FILE, line);
            let what = format!(
                "head {} is signed with key {}, which is not in the list",
                head.number, head.key
            );
            self.find(about, what);
            return;
        };
        if !head.is_signed_by(&key) {
            let about = About::line(Kind::Changed, head::FILE, line);
            let what = format!("the signature of head {} does not fit it", head.number);
            self.find(about, what);
            return;
        }
        if let Some(expected) = current
            && *expected != key
        {
            if keys_were_given {
                let note = format!(
                    "head {} is signed with key {}, which no head introduced; it is in your list",
                    head.number, head.key
                );
                self.note(note);
            } else {
                let about = About::line(Kind::WrongKey, head::FILE, line);
                let what = format!(
                    "head {} is signed with key {}, where {} signed before and introduced no other",
                    head.number,
                    head.key,
                    expected.id()
                );
                self.find(about, what);
            }
        }
        *current = Some(key);
    }

    /// Whether a head follows the one before it.
    fn place(&mut self, head: &Head, before: Option<&Head>, line: u64) {
        let (number, hash) = match before {
            Some(before) => (before.number, before.hash()),
            None => (0, Hash::default()),
        };
        let expected = number.saturating_add(1);
        let names_before = head.previous == hash.to_hex();
        if head.number == expected && names_before {
            return;
        }
        let found = head.number;
        let (kind, what) = if found > expected {
            let what = format!("head {found} follows head {number}: {expected} is missing");
            (Kind::MissingLine, what)
        } else if found == expected {
            let what = format!("head {found} does not continue the head {number} before it");
            (Kind::Forked, what)
        } else if found == number {
            (Kind::Forked, format!("there are two heads {found}"))
        } else {
            (
                Kind::Reordered,
                format!("head {found} stands behind head {number}"),
            )
        };
        self.find(About::line(kind, head::FILE, line), what);
    }

    /// Compares the archive with heads that were kept elsewhere.
    fn anchors(&mut self, heads: &[Head], anchors: &[Head]) {
        let newest = heads.iter().map(|head| head.number).max().unwrap_or(0);
        for anchor in anchors {
            let number = anchor.number;
            let about = |kind| About::file(kind, head::FILE);
            if !self.keys.iter().any(|key| anchor.is_signed_by(key)) {
                let what = format!(
                    "the head {number} that you kept is not signed with any key of the list (it \
                     names key {})",
                    anchor.key
                );
                self.find(about(Kind::WrongKey), what);
                continue;
            }
            if number > newest {
                let what = format!("the archive ends at head {newest}; you kept head {number}");
                self.find(about(Kind::RolledBack), what);
                continue;
            }
            let mut same_number = heads.iter().filter(|head| head.number == number).peekable();
            if same_number.peek().is_none() {
                let what = format!("head {number}, which you kept, is not there");
                self.find(about(Kind::MissingLine), what);
            } else if same_number.any(|head| head.hash() == anchor.hash()) {
                self.report.anchors += 1;
            } else {
                let what = format!("head {number} is not the one that you kept");
                self.find(about(Kind::Forked), what);
            }
        }
    }

    /// Checks trail and tombstones, and takes note of what was removed.
    fn chained_files(&mut self, heads: &[Head]) -> Result<(), VerifyError> {
        let trail: Vec<(u64, FileTip)> = heads
            .iter()
            .map(|head| (head.number, head.trail.clone()))
            .collect();
        self.report.actions = trail.last().map_or(0, |(_, tip)| tip.count);
        self.chained_file(trail::FILE, &trail, &mut |_| Vec::new())?;
        let tombstones: Vec<(u64, FileTip)> = heads
            .iter()
            .map(|head| (head.number, head.tombstones.clone()))
            .collect();
        let removed = self.chained_file(tombstone::FILE, &tombstones, &mut |line| {
            let tombstone: Option<Tombstone> = serde_json::from_slice(line).ok();
            tombstone.map_or_else(Vec::new, |tombstone| tombstone.segments)
        })?;
        self.removed = removed.into_iter().collect();
        Ok(())
    }

    /// Checks that the lines are chained and reach where the heads say. Returns what `read` finds in
    /// those that a head signs.
    fn chained_file(
        &mut self,
        file: &str,
        tips: &[(u64, FileTip)],
        read: &mut impl FnMut(&[u8]) -> Vec<(u64, u64)>,
    ) -> Result<Vec<(u64, u64)>, VerifyError> {
        #[derive(serde::Deserialize)]
        struct Chained {
            number: u64,
            previous: String,
        }
        let sealed = tips.last().map_or(0, |(_, tip)| tip.count);
        let mut hashes = vec![Hash::default()];
        let mut found = Vec::new();
        let path = self.archive.join(file);
        if path.exists() {
            let mut lines = Lines::open(&path)?;
            let mut tip = Tip::default();
            let mut line_number = 0;
            let mut last_number = 0;
            while let Some(line) = lines.next_line()? {
                line_number += 1;
                let chained: Option<Chained> = serde_json::from_slice(line).ok();
                let before = tip;
                tip = tip.after(line);
                hashes.push(tip.hash);
                if line_number <= sealed {
                    found.extend(read(line));
                }
                let Some(Chained { number, previous }) = chained else {
                    let about = About::line(Kind::Changed, file, line_number);
                    self.find(about, "this line is not what it was");
                    last_number = line_number;
                    continue;
                };
                let expected = last_number + 1;
                if number > expected {
                    let about = About::line(Kind::MissingLine, file, line_number);
                    self.find(about, format!("line {expected} is missing"));
                } else if number < expected {
                    let about = About::line(Kind::Reordered, file, line_number);
                    self.find(about, format!("line {number} stands behind {last_number}"));
                } else if previous != before.hash.to_hex() {
                    let about = About::line(Kind::Changed, file, line_number.saturating_sub(1));
                    self.find(about, "the line behind it names another one");
                }
                last_number = number;
            }
            if lines.is_cut_off()? {
                let about = About::line(Kind::Truncated, file, line_number + 1);
                self.find(about, "the last line has no end");
            }
        }
        let there = widen(hashes.len()).saturating_sub(1);
        let beyond = tips.iter().find(|(_, tip)| tip.count > there);
        if let Some((head, tip)) = beyond {
            let about = About::line(Kind::Truncated, file, there + 1);
            let what = format!("head {head} signs {} lines, there are {there}", tip.count);
            self.find(about, what);
        }
        let differs = tips.iter().find(|(_, tip)| {
            let place = usize::try_from(tip.count).unwrap_or(usize::MAX);
            hashes
                .get(place)
                .is_some_and(|hash| hash.to_hex() != tip.hash)
        });
        let is_named = self
            .report
            .findings
            .iter()
            .any(|finding| finding.file == file);
        if let (Some((head, tip)), false) = (differs, is_named) {
            let about = About::line(Kind::Changed, file, tip.count);
            self.find(about, format!("head {head} signs another line"));
        }
        if there > sealed {
            let unsealed = there - sealed;
            self.note(format!(
                "{unsealed} lines of {file} are newer than the newest head"
            ));
        }
        Ok(found)
    }

    fn packs(&mut self, heads: &[Head], since: Option<u64>) {
        let mut known = HashSet::new();
        for head in heads {
            let is_old = since.is_some_and(|since| head.at < since);
            let sealed = head.pack.as_ref();
            known.extend(sealed.map(|sealed| sealed.number));
            match sealed {
                Some(sealed) if !is_old => self.pack(head, sealed),
                Some(_) | None => {}
            }
            // What was skipped, missing or wrong is named once; the next pack is checked from where
            // its own head says.
            self.shards = head
                .shards
                .iter()
                .map(|tip| (tip.shard, tip.clone()))
                .collect();
        }
        self.strays(&known);
    }

    /// Packs that no head names.
    fn strays(&mut self, known: &HashSet<u64>) {
        let Ok(entries) = std::fs::read_dir(self.archive.join(PACKS)) else {
            if !known.is_empty() {
                self.find(
                    About::file(Kind::MissingSession, PACKS),
                    "the directory of the packs is not there",
                );
            }
            return;
        };
        let newest = known.iter().max().copied().unwrap_or(0);
        let remembered = self
            .index
            .as_ref()
            .and_then(|index| index.last_pack().ok())
            .unwrap_or(0);
        let mut numbers: Vec<u64> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().and_then(number_of))
            .filter(|number| !known.contains(number))
            .collect();
        numbers.sort_unstable();
        for number in numbers {
            let file = pack_name(number);
            if number == newest + 1 && remembered < number {
                self.note(format!(
                    "{file} is sealed by no head: the appliance was interrupted and will seal it \
                     again, or the newest head was removed"
                ));
            } else {
                let about = About::file(Kind::MissingLine, &file);
                self.find(about, "no head names this pack: heads were removed");
            }
        }
        if remembered > newest {
            self.find(
                About::file(Kind::RolledBack, head::FILE),
                format!(
                    "the index knows pack {remembered}, the newest head names {newest}: heads were \
                     removed"
                ),
            );
        }
    }

    fn pack(&mut self, head: &Head, sealed: &SealedPack) {
        let number = sealed.number;
        let file = pack_name(number);
        let path = self.archive.join(PACKS).join(file_name(number));
        if !path.exists() {
            self.absent_pack(sealed, &file);
            return;
        }
        self.report.packs += 1;
        let pack = match Pack::open(&path) {
            Ok(pack) => pack,
            Err(error) => {
                let kind = match &error {
                    PackError::Malformed { problem, .. } if problem.is_cut_off() => Kind::Truncated,
                    PackError::Malformed { .. }
                    | PackError::Io { .. }
                    | PackError::Blank { .. } => Kind::Changed,
                };
                self.find(About::file(kind, &file), crate::telemetry::chain(&error));
                self.absent_sessions(number, &file, &HashSet::new());
                return;
            }
        };
        let table = &pack.table;
        let is_authentic = table.root().to_hex() == sealed.root && table.header.number == number;
        let named_before = self.report.findings.len();
        if !is_authentic {
            self.wrong_table(table, sealed, &file);
        }
        let length = pack.file_bytes().unwrap_or(0);
        for (place, segment) in table.segments.iter().enumerate() {
            self.report.segments += 1;
            self.report.records += u64::from(segment.records);
            self.chain(segment, &file);
            self.body(&pack, segment, (number, widen(place)), length, &file);
        }
        let end = table.segments.last().map_or_else(
            || widen(table.header.table_bytes()),
            |last| last.offset.saturating_add(last.stored_bytes),
        );
        if is_authentic && length > end {
            let about = About {
                position: Some(end),
                ..About::file(Kind::Changed, &file)
            };
            self.find(about, "bytes stand behind the last body");
        }
        if !is_authentic && self.report.findings.len() == named_before {
            let what = format!("its table is not the one that head {} signs", head.number);
            self.find(About::file(Kind::Changed, &file), what);
        }
        let mut shards = std::mem::take(&mut self.shards);
        advance(&mut shards, table);
        let is_continued = shards.values().eq(head.shards.iter());
        if is_authentic && !is_continued {
            let what = format!(
                "the chains of the shards do not lead to head {}",
                head.number
            );
            self.find(About::file(Kind::Forked, &file), what);
        }
    }

    /// Says what is wrong with a table whose root is not the one that the head signs, as far as the
    /// index remembers it.
    fn wrong_table(&mut self, table: &Table, sealed: &SealedPack, file: &str) {
        let number = sealed.number;
        if table.header.number != number {
            let what = format!("this is pack {}", table.header.number);
            self.find(About::file(Kind::Reordered, file), what);
            return;
        }
        let there: HashSet<(Subject, u64)> = table
            .segments
            .iter()
            .map(|segment| (segment.subject, segment.first_sequence))
            .collect();
        let remembered = self.remembered(number);
        let was: HashSet<(Subject, u64)> = remembered
            .iter()
            .map(|(subject, place)| (*subject, place.first_sequence))
            .collect();
        if was == there {
            let order: Vec<(Subject, u64)> = remembered
                .iter()
                .map(|(subject, place)| (*subject, place.first_sequence))
                .collect();
            let is_order = table
                .segments
                .iter()
                .map(|segment| (segment.subject, segment.first_sequence))
                .eq(order);
            if !is_order {
                let about = About::file(Kind::Reordered, file);
                self.find(
                    about,
                    "its segments stand in another order than they were sealed in",
                );
                return;
            }
            for ((_, place), segment) in remembered.iter().zip(&table.segments) {
                if place.last_sequence != segment.last_sequence {
                    let about = About {
                        sequences: Some((
                            place
                                .first_sequence
                                .max(segment.last_sequence.saturating_add(1)),
                            place.last_sequence,
                        )),
                        ..About::segment(Kind::MissingRecord, file, segment)
                    };
                    self.find(about, "records of it were sealed that are not there");
                }
            }
            return;
        }
        self.absent_sessions(number, file, &there);
        let segments = widen(table.segments.len());
        if segments != sealed.segments {
            let what = format!(
                "{} segments with {} records were sealed; there are {segments} with {}",
                sealed.segments,
                sealed.records,
                table.records()
            );
            self.find(About::file(Kind::MissingSession, file), what);
        }
    }

    fn remembered(&self, pack: u64) -> Vec<(Subject, Place)> {
        self.index
            .as_ref()
            .and_then(|index| index.subjects_in(pack).ok())
            .unwrap_or_default()
    }

    /// Names the sessions that the index remembers in a pack, and that are not in it.
    fn absent_sessions(&mut self, pack: u64, file: &str, there: &HashSet<(Subject, u64)>) {
        for (subject, place) in self.remembered(pack) {
            let is_removed = self.removed.contains(&(pack, place.place));
            if is_removed || there.contains(&(subject, place.first_sequence)) {
                continue;
            }
            let about = About {
                kind: Kind::MissingSession,
                file,
                subject: Some(subject),
                sequences: Some((place.first_sequence, place.last_sequence)),
                position: Some(place.offset),
            };
            self.find(
                about,
                "it was sealed here and is not there (the index remembers it)",
            );
            self.subjects.remove(&subject);
        }
    }

    /// A pack that is not there: removed by retention whole, or missing.
    fn absent_pack(&mut self, sealed: &SealedPack, file: &str) {
        let number = sealed.number;
        let removed = (0..sealed.segments)
            .filter(|place| self.removed.contains(&(number, *place)))
            .count();
        let removed = widen(removed);
        self.report.removed += removed;
        if removed == sealed.segments {
            for (subject, _) in self.remembered(number) {
                self.subjects.remove(&subject);
            }
            return;
        }
        let what = format!(
            "the pack is missing: {} segments with {} records",
            sealed.segments, sealed.records
        );
        self.find(About::file(Kind::MissingSession, file), what);
        self.absent_sessions(number, file, &HashSet::new());
    }

    /// Whether a segment continues the chain of its session.
    fn chain(&mut self, segment: &Segment, file: &str) {
        let known = self.subjects.get(&segment.subject).copied();
        let known = match known {
            None if segment.first_sequence == 0 => Some((segment.subject.chain_start(), 0)),
            known => known,
        };
        if let Some((chain, next)) = known {
            let missing = (segment.first_sequence > next)
                .then(|| (next, segment.first_sequence.saturating_sub(1)));
            let about = |kind| About {
                sequences: missing.or(Some((segment.first_sequence, segment.last_sequence))),
                ..About::segment(kind, file, segment)
            };
            if segment.first_sequence < next {
                let what = format!("it stands behind record {}", next.saturating_sub(1));
                self.find(about(Kind::Reordered), what);
            } else if segment.chain_before != chain {
                let (kind, what) = match missing {
                    Some(_) => (
                        Kind::MissingRecord,
                        "records before this segment are not there",
                    ),
                    None => (Kind::Forked, "it does not continue the records before it"),
                };
                self.find(about(kind), what);
            } else if missing.is_some() {
                self.find(
                    about(Kind::MissingRecord),
                    "records were missing already when this was sealed",
                );
            }
        }
        if segment.is_end {
            self.subjects.remove(&segment.subject);
        } else {
            let next = segment.last_sequence.saturating_add(1);
            self.subjects
                .insert(segment.subject, (segment.chain_after, next));
        }
    }

    /// Whether a body is the one that was sealed.
    fn body(&mut self, pack: &Pack, segment: &Segment, at: (u64, u64), length: u64, file: &str) {
        let end = segment.offset.saturating_add(segment.stored_bytes);
        let about = |kind| About::segment(kind, file, segment);
        let is_removed = self.removed.contains(&at);
        if end > length {
            let what = format!("the file ends at {length}, its body at {end}");
            self.find(about(Kind::Truncated), what);
            return;
        }
        let stored = match pack.stored(segment) {
            Ok(stored) => stored,
            Err(error) => {
                self.find(about(Kind::Changed), crate::telemetry::chain(&error));
                return;
            }
        };
        if is_blank(&stored) {
            if is_removed {
                self.report.removed += 1;
            } else {
                let what = "its body was removed, and no tombstone that a head signs says why";
                self.find(about(Kind::MissingSession), what);
            }
            return;
        }
        let is_stored = Hash::of(&[&stored]) == segment.body_hash;
        match walk(&stored, segment) {
            Ok(()) if is_stored => {}
            Ok(()) => self.find(about(Kind::Changed), "its body is packed in another way"),
            Err(Broken {
                kind,
                what,
                sequences,
            }) => {
                let about = About {
                    sequences: sequences.or(Some((segment.first_sequence, segment.last_sequence))),
                    ..about(kind)
                };
                self.find(about, what);
            }
        }
    }
}

/// What is wrong with the records of a body.
struct Broken {
    kind: Kind,
    what: String,
    sequences: Option<(u64, u64)>,
}

/// Walks the records of a body, and compares them with the entry.
fn walk(stored: &[u8], segment: &Segment) -> Result<(), Broken> {
    let changed = |what: String| Broken {
        kind: Kind::Changed,
        what,
        sequences: None,
    };
    let plain = unpack(stored, segment.plain_bytes).map_err(|problem| {
        changed(format!(
            "its body of {} bytes is not the one that was sealed: {problem}",
            segment.stored_bytes
        ))
    })?;
    let mut records = pack::Records::new(plain);
    let mut chain = segment.chain_before;
    let mut expected = segment.first_sequence;
    let mut count: u32 = 0;
    while let Some(record) = records.next_record() {
        let (position, body) = record.map_err(|problem| changed(problem.to_string()))?;
        chain = record_link(chain, position, body);
        count = count.saturating_add(1);
        if let (Subject::Session(session), Ok((header, _))) =
            (segment.subject, RecordHeader::decode(body))
        {
            if header.session != session {
                return Err(changed(format!(
                    "record {expected} is of session {}",
                    header.session
                )));
            }
            if header.sequence > expected {
                return Err(Broken {
                    kind: Kind::MissingRecord,
                    what: "records were taken out of its body".to_owned(),
                    sequences: Some((expected, header.sequence.saturating_sub(1))),
                });
            }
            if header.sequence < expected {
                return Err(Broken {
                    kind: Kind::Reordered,
                    what: "records stand in another order than they were sealed in".to_owned(),
                    sequences: Some((header.sequence, expected)),
                });
            }
        }
        expected = expected.saturating_add(1);
    }
    if count < segment.records {
        return Err(Broken {
            kind: Kind::MissingRecord,
            what: "records were taken off the end of its body".to_owned(),
            sequences: Some((expected, segment.last_sequence)),
        });
    }
    if chain == segment.chain_after {
        Ok(())
    } else {
        Err(changed(
            "a record in it is not the one that was sealed".to_owned(),
        ))
    }
}

/// The name of a pack's file as the report has it.
fn pack_name(number: u64) -> String {
    format!("{PACKS}/{}", file_name(number))
}

fn widen(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The public keys of an archive, or in a file that was kept elsewhere.
///
/// # Errors
/// When they cannot be read.
pub fn public_keys(path: &Path) -> Result<Vec<KeyLine>, ChainedError> {
    let in_archive = path.join(key::FILE);
    if in_archive.exists() {
        key::listed(&in_archive)
    } else {
        key::listed(path)
    }
}
