//! Log lines on their way to standard error, without anybody waiting for its reader.
//!
//! Standard error is a pipe or a socket to somebody who may be slow: journald, a terminal that is
//! scrolled back. A shard that wrote there itself would stop with them. So one thread writes, and
//! lines that it cannot take are dropped and counted: a log that stops the traffic would be worse.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait. About 1 MiB at 250 bytes a line.
const LINES_MAX: usize = 4096;

/// How long the end of the process waits for its last lines to be written.
const LAST_LINES_DEADLINE: Duration = Duration::from_secs(1);

enum Entry {
    Line(Vec<u8>),
    /// Answered when all lines before it are written.
    Flush(SyncSender<()>),
}

/// The sending end. Any thread.
#[derive(Clone)]
pub(super) struct Lines {
    entries: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

/// Keeps the last lines from being lost: dropping it waits until they are written, for a second at
/// most.
#[must_use]
pub struct LogGuard(Lines);

impl Lines {
    /// Starts the thread that writes to `out`.
    pub(super) fn start(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (entries, waiting) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lines = Self {
            entries,
            dropped: Arc::clone(&dropped),
        };
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&mut out, &waiting, &dropped))?;
        Ok(lines)
    }

    pub(super) fn guard(&self) -> LogGuard {
        LogGuard(self.clone())
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (written, wait) = sync_channel(1);
        // A full queue or a stuck reader: the last lines are lost, the process still ends.
        if self.0.entries.try_send(Entry::Flush(written)).is_ok() {
            // Too late is as good as never: the process ends now.
            let _ = wait.recv_timeout(LAST_LINES_DEADLINE);
        }
    }
}

fn write_all(out: &mut impl Write, waiting: &Receiver<Entry>, dropped: &AtomicU64) {
    for entry in waiting {
        match entry {
            // Nobody is left to be told when standard error fails.
            Entry::Line(line) => drop(out.write_all(&line)),
            Entry::Flush(written) => drop(written.send(())),
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            // By the same way as every line, so that it has their form.
            tracing::warn!(
                lines = lost,
                "log lines were dropped: standard error did not take them"
            );
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            bytes: Vec::new(),
            lines: self,
        }
    }
}

/// One line being written; sent when dropped.
pub(super) struct Line<'a> {
    bytes: Vec<u8>,
    lines: &'a Lines,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.bytes);
        if !line.is_empty() && self.lines.entries.try_send(Entry::Line(line)).is_err() {
            self.lines.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Hands every write over and then waits for leave to go on.
    struct Reader {
        seen: Sender<Vec<u8>>,
        leave: Receiver<()>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.seen.send(bytes.to_vec()).unwrap();
            // The test has ended when nobody gives leave any more.
            let _ = self.leave.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines() -> (Lines, Receiver<Vec<u8>>, Sender<()>) {
        let (seen, written) = channel();
        let (go, leave) = channel();
        (Lines::start(Reader { seen, leave }).unwrap(), written, go)
    }

    fn log(lines: &Lines, text: &str) {
        lines.make_writer().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_line_is_written_whole() {
        let (lines, written, go) = lines();
        let mut line = lines.make_writer();
        line.write_all(b"one ").unwrap();
        line.write_all(b"line\n").unwrap();
        drop(line);
        assert_eq!(written.recv().unwrap(), b"one line\n");
        drop(go);
    }

    #[test]
    fn a_reader_that_takes_nothing_stops_nobody_and_what_is_lost_is_counted() {
        let (lines, written, go) = lines();
        log(&lines, "first");
        assert_eq!(written.recv().unwrap(), b"first");
        for _ in 0..LINES_MAX {
            log(&lines, "fits");
        }
        assert_eq!(lines.dropped.load(Ordering::Relaxed), 0);
        log(&lines, "too much");
        assert_eq!(lines.dropped.load(Ordering::Relaxed), 1);
        drop(lines.guard());
        drop(go);
    }

    #[test]
    fn the_guard_waits_for_the_last_line() {
        let (lines, written, go) = lines();
        log(&lines, "last");
        go.send(()).unwrap();
        drop(lines.guard());
        assert_eq!(written.try_recv().unwrap(), b"last");
    }
}
