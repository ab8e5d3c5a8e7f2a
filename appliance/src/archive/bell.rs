//! How the archivist learns that there is something to seal, without anybody waiting for it.
//!
//! Whoever rings only takes note in memory. What is noted is bounded by the number of journal
//! files.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::recorder::FileHeader;

/// Bytes that are committed and not sealed at which sealing begins before its time.
const SEAL_BYTES: u64 = 16 * 1024 * 1024;

/// Requests that may wait for an answer at once.
const ASKED_MAX: usize = 64;

/// How far a journal file is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) header: FileHeader,
    pub(super) committed: u64,
    pub(super) is_closed: bool,
}

/// Who waits until everything is sealed, and hears whether it was.
pub(super) type Asked = SyncSender<bool>;

#[derive(Default)]
struct Waiting {
    files: HashMap<String, Noted>,
    bytes: u64,
    has_news: bool,
    asked: Vec<Asked>,
    stop: bool,
    /// The archivist sleeps until there is any news.
    is_idle: bool,
}

/// What there is to do.
pub(super) struct Rung {
    pub(super) files: HashMap<String, Noted>,
    pub(super) asked: Vec<Asked>,
    pub(super) has_news: bool,
    pub(super) is_much: bool,
    pub(super) stop: bool,
}

/// One per process. Rung by the journal thread and by whoever writes the trail.
#[derive(Clone, Default)]
pub struct Bell(Arc<(Mutex<Waiting>, Condvar)>);

impl Bell {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `committed` bytes of the journal file `name` will stay as they are; `bytes` are new.
    pub(crate) fn committed(
        &self,
        name: &str,
        header: FileHeader,
        committed: u64,
        bytes: u64,
        is_closed: bool,
    ) {
        let mut waiting = self.waiting();
        let noted = Noted {
            header,
            committed,
            is_closed,
        };
        waiting.files.insert(name.to_owned(), noted);
        let was_much = waiting.bytes >= SEAL_BYTES;
        waiting.bytes = waiting.bytes.saturating_add(bytes);
        let is_much = waiting.bytes >= SEAL_BYTES;
        self.news(waiting, is_much && !was_much);
    }

    /// The trail grew.
    pub(super) fn ring(&self) {
        self.news(self.waiting(), false);
    }

    fn news(&self, mut waiting: MutexGuard<'_, Waiting>, is_urgent: bool) {
        waiting.has_news = true;
        if waiting.is_idle || is_urgent {
            self.0.1.notify_one();
        }
    }

    /// Asks for everything to be sealed now. `false` when too many ask.
    pub(super) fn ask(&self, asked: Asked) -> bool {
        let mut waiting = self.waiting();
        if waiting.asked.len() >= ASKED_MAX {
            return false;
        }
        waiting.asked.push(asked);
        self.0.1.notify_one();
        true
    }

    pub(super) fn stop(&self) {
        self.waiting().stop = true;
        self.0.1.notify_one();
    }

    /// Sleeps until there is much to do, somebody asks, or `until` is reached; with `any_news` until
    /// there is any.
    pub(super) fn wait(&self, until: Option<Instant>, any_news: bool) -> Rung {
        let mut waiting = self.waiting();
        waiting.is_idle = any_news;
        loop {
            let is_much = waiting.bytes >= SEAL_BYTES;
            let is_asked = waiting.stop || !waiting.asked.is_empty();
            let left = until.map(|until| until.saturating_duration_since(runtime::now()));
            let is_over = left.is_some_and(|left| left.is_zero()) || any_news && waiting.has_news;
            if is_much || is_asked || is_over {
                waiting.bytes = 0;
                return Rung {
                    files: std::mem::take(&mut waiting.files),
                    asked: std::mem::take(&mut waiting.asked),
                    has_news: std::mem::take(&mut waiting.has_news),
                    is_much,
                    stop: waiting.stop,
                };
            }
            waiting = match left {
                Some(left) => {
                    let woken = self.0.1.wait_timeout(waiting, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let woken = self.0.1.wait(waiting);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn any_news_wakes_who_waits_for_any_whatever_else_is_due_later() {
        let bell = Bell::new();
        bell.ring();
        let rung = bell.wait(Some(runtime::now() + LONG), true);
        assert!(rung.has_news && !rung.is_much && !rung.stop);
        // It was taken: the next look ends with its time.
        let rung = bell.wait(Some(runtime::now()), true);
        assert!(!rung.has_news);
    }

    #[test]
    fn news_gathers_for_who_waits_for_a_time_until_it_is_much() {
        let bell = Bell::new();
        let header = FileHeader {
            identity: [7; 16],
            first_position: 0,
            unix_micros: 0,
            sequence: 0,
            shard: 0,
        };
        bell.committed("a", header, 100, 100, false);
        bell.committed("a", header, 200, 100, true);
        let rung = bell.wait(Some(runtime::now()), false);
        assert!(rung.has_news && !rung.is_much);
        let noted = Noted {
            header,
            committed: 200,
            is_closed: true,
        };
        assert_eq!(rung.files.get("a"), Some(&noted));
        bell.committed("b", header, SEAL_BYTES, SEAL_BYTES, false);
        assert!(bell.wait(Some(runtime::now() + LONG), false).is_much);
    }
}
