//! What the process says about itself while it runs: log lines on standard error, and metrics.
//!
//! Standard error, because that is where systemd's journal and a person at a terminal both read.
//! It does not decide what is logged, and nothing here may be given values that came from a peer.

mod log;
pub mod metrics;

use std::io;

use tracing_subscriber::fmt;

pub use log::LogGuard;

use crate::config::{LogFormat, LogSettings};

/// Sends log lines of this process to standard error from now on, until the guard is dropped. Call
/// once.
///
/// # Errors
/// Another receiver of log lines was installed before, or there is no thread for it.
pub fn init(settings: LogSettings) -> Result<LogGuard, LogError> {
    let lines = log::Lines::start(io::stderr()).map_err(LogError::Thread)?;
    let guard = lines.guard();
    let builder = fmt().with_max_level(settings.level).with_writer(lines);
    let installed = match settings.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_target(false).with_ansi(false).try_init(),
    };
    installed.map_err(|_| LogError::AlreadyInstalled)?;
    Ok(guard)
}

/// An error and all its causes in one line, outermost first.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Why nothing can be logged.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log lines go somewhere already")]
    AlreadyInstalled,
    #[error("no thread can be started for it")]
    Thread(#[source] io::Error),
}
