//! Where recordings are kept, and how durable a record is before its command runs.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// Smallest ring of a shard, in bytes: a quarter of it holds the largest decision note.
pub const RING_BYTES_MIN: usize = 256 * 1024;

/// Largest ring of a shard, in bytes: recovery reads one whole.
pub const RING_BYTES_MAX: usize = runtime::mapped::RING_BYTES_MAX;

/// Rings are made of whole pages; a size between two is rounded up.
pub(super) const RING_BYTES_STEP: usize = 4096;

/// Default size of a shard's ring, in bytes.
///
/// Holds 50 ms of 300 MB/s, and the ends of 26,000 sessions. Its memory is pinned.
pub const RING_BYTES_DEFAULT: usize = 16 * 1024 * 1024;

/// Default size at which a journal file is closed and the next one begun, in bytes.
pub const ROTATE_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

/// Default of the commit interval: what a power failure may take.
pub const COMMIT_INTERVAL_DEFAULT: Duration = Duration::from_millis(50);

/// Longest commit interval that is accepted.
pub const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// What a command's record has survived before the command is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process. Files are written, and reach the disk when the kernel likes.
    Process,
    /// The same; and what is older than this, a power failure too.
    Bounded(Duration),
    /// A power failure: the command waits for the commit of its record.
    Strict,
}

impl Default for Durability {
    fn default() -> Self {
        Self::Bounded(COMMIT_INTERVAL_DEFAULT)
    }
}

/// The text is not a durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected \"process\", \"strict\" or \"bounded:\" and a duration from 1ms to 60s")]
pub struct NotADurability;

impl FromStr for Durability {
    type Err = NotADurability;

    fn from_str(text: &str) -> Result<Self, NotADurability> {
        match text {
            "process" => Ok(Self::Process),
            "strict" => Ok(Self::Strict),
            _ => text
                .strip_prefix("bounded:")
                .and_then(|duration| humantime::parse_duration(duration).ok())
                .filter(|interval| {
                    (Duration::from_millis(1)..=COMMIT_INTERVAL_MAX).contains(interval)
                })
                .map(Self::Bounded)
                .ok_or(NotADurability),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => f.write_str("process"),
            Self::Bounded(interval) => {
                write!(f, "bounded:{}", humantime::format_duration(*interval))
            }
            Self::Strict => f.write_str("strict"),
        }
    }
}

/// What the journal thread is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingSettings {
    /// On tmpfs: the rings of the shards. Kept over a stop.
    pub ring_directory: PathBuf,
    /// On disk: the journal files.
    pub journal_directory: PathBuf,
    /// On disk: what was sealed, and what proves it.
    pub archive_directory: PathBuf,
    /// The SQLite file of the catalogue.
    pub catalogue: PathBuf,
    /// Size of each shard's ring, in bytes.
    pub ring_bytes: usize,
    /// Size at which the next journal file is begun, in bytes.
    pub rotate_bytes: u64,
    pub durability: Durability,
}

impl RecordingSettings {
    /// Defaults below a run directory (tmpfs) and a state directory (disk).
    #[must_use]
    pub fn under(run_directory: &std::path::Path, state_directory: &std::path::Path) -> Self {
        Self {
            ring_directory: run_directory.join("journal"),
            journal_directory: state_directory.join("journal"),
            archive_directory: state_directory.join("archive"),
            catalogue: state_directory.join("catalogue.sqlite"),
            ring_bytes: RING_BYTES_DEFAULT,
            rotate_bytes: ROTATE_BYTES_DEFAULT,
            durability: Durability::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durabilities_are_read_as_they_are_printed() {
        let cases = [
            ("process", Durability::Process),
            ("strict", Durability::Strict),
            (
                "bounded:50ms",
                Durability::Bounded(Duration::from_millis(50)),
            ),
            ("bounded:1ms", Durability::Bounded(Duration::from_millis(1))),
            ("bounded:1m", Durability::Bounded(Duration::from_secs(60))),
        ];
        for (text, durability) in cases {
            assert_eq!(text.parse(), Ok(durability));
            assert_eq!(durability.to_string(), text);
        }
    }

    #[test]
    fn intervals_outside_their_range_are_refused() {
        for text in [
            "bounded:0ms",
            "bounded:61s",
            "bounded:",
            "bounded",
            "Strict",
            "",
            "50ms",
        ] {
            assert_eq!(text.parse::<Durability>(), Err(NotADurability), "{text}");
        }
    }
}
