//! Exports at an interval, by the appliance itself, on a thread of its own.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::{ExportError, ExportSettings, ExportWanted, export};
use crate::recorder::{JournalHandle, RecordingSettings};
use crate::telemetry::chain;

/// How long a run waits for what was recorded just before. Without it, that comes with the next.
const FLUSH_DEADLINE: Duration = Duration::from_secs(10);

/// The running thread. Dropping it lets the thread end after the run that it is in; what that had
/// not completed, the next start takes up.
pub(crate) struct ExportThread {
    _stop: SyncSender<()>,
}

struct Exporter {
    settings: ExportSettings,
    recording: RecordingSettings,
    recorder: JournalHandle,
    stopped: Receiver<()>,
    fails: bool,
}

impl ExportThread {
    /// Starts it, where the settings say where to and how often.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start(
        settings: &ExportSettings,
        recording: &RecordingSettings,
        recorder: &JournalHandle,
    ) -> std::io::Result<Option<Self>> {
        if settings.to.is_none() || settings.interval.is_zero() {
            return Ok(None);
        }
        let (stop, stopped) = sync_channel(0);
        let exporter = Exporter {
            settings: settings.clone(),
            recording: recording.clone(),
            recorder: recorder.clone(),
            stopped,
            fails: false,
        };
        std::thread::Builder::new()
            .name("export".to_owned())
            .spawn(move || exporter.run())?;
        Ok(Some(Self { _stop: stop }))
    }
}

impl Exporter {
    fn run(mut self) {
        loop {
            match self.stopped.recv_timeout(self.settings.interval) {
                Err(RecvTimeoutError::Timeout) => self.export(),
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// One run. Whether it works is said once, until that changes.
    fn export(&mut self) {
        if let Err(error) = self.recorder.flush(FLUSH_DEADLINE) {
            tracing::debug!(%error, "what was recorded last is exported with the next run");
        }
        let outcome = export(&self.settings, &self.recording, &ExportWanted::default());
        match outcome {
            Ok(exported) => {
                if std::mem::replace(&mut self.fails, false) {
                    tracing::info!("recordings are exported again");
                }
                tracing::debug!(
                    units = exported.units,
                    bytes = exported.bytes,
                    "recordings were exported"
                );
            }
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&mut self, error: &ExportError) {
        if !std::mem::replace(&mut self.fails, true) {
            tracing::error!(
                error = chain(error),
                "recordings cannot be exported; they stay where they are, and it is tried again"
            );
        }
    }
}
