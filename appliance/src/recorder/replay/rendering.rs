//! A replay written down, piece by piece, each with the time at which it was recorded.

use std::borrow::BorrowMut;
use std::collections::VecDeque;
use std::io::Write;

use super::json::JsonLines;
use super::ocsf::OcsfLines;
use super::sql::SqlSheet;
use super::text::Timeline;
use super::transcript::{Told, Transcript};
use super::{Replay, ReplayError};
use crate::recorder::catalogue::SessionEntry;

/// How a replay is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayForm {
    /// A line per message with its time; everything recorded is escaped, for a terminal.
    Text,
    /// Each statement with its values and the verdict, then its rows as a table; escaped as well.
    Sql,
    /// One JSON object a line.
    Json,
    /// One event of the Open Cybersecurity Schema Framework a line.
    Ocsf,
}

/// A piece of a written replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// When it was recorded, in microseconds since 1970.
    pub at: u64,
    /// Whole lines.
    pub text: String,
}

/// Iterates over the pieces of one replay. It holds what one statement needs, never the session.
pub struct Rendering<R: BorrowMut<Replay>> {
    replay: R,
    transcript: Transcript,
    sheet: Sheet,
    ready: VecDeque<Shown>,
    /// When the last event was recorded.
    at: u64,
    is_over: bool,
}

/// What writes in one form.
enum Sheet {
    Text(Timeline),
    Sql(Box<SqlSheet>),
    Json(JsonLines),
    Ocsf(Box<OcsfLines>),
}

impl Sheet {
    fn new(form: ReplayForm, entry: &SessionEntry) -> Self {
        match form {
            ReplayForm::Text => Self::Text(Timeline),
            ReplayForm::Sql => Self::Sql(Box::default()),
            ReplayForm::Json => Self::Json(JsonLines::new(entry.session)),
            ReplayForm::Ocsf => Self::Ocsf(Box::new(OcsfLines::new(entry.session))),
        }
    }

    fn title(&self, entry: &SessionEntry) -> String {
        match self {
            Self::Text(_) => format!("session {}\n", entry.session),
            Self::Sql(_) => format!("-- session {}\n", entry.session),
            Self::Json(_) | Self::Ocsf(_) => String::new(),
        }
    }

    /// Appends what there is to say now.
    fn tell(&mut self, told: &Told, out: &mut String) {
        match self {
            Self::Text(timeline) => timeline.tell(told, out),
            Self::Sql(sheet) => sheet.tell(told, out),
            Self::Json(lines) => lines.tell(told, out),
            Self::Ocsf(lines) => lines.tell(told, out),
        }
    }

    /// Appends what the end of the recording leaves unsaid.
    fn finish(&mut self, out: &mut String) {
        match self {
            Self::Text(_) | Self::Json(_) => {}
            Self::Sql(sheet) => sheet.finish(out),
            Self::Ocsf(lines) => lines.finish(out),
        }
    }
}

impl<R: BorrowMut<Replay>> Rendering<R> {
    pub fn new(replay: R, form: ReplayForm) -> Self {
        let entry = replay.borrow().entry();
        let sheet = Sheet::new(form, entry);
        let at = entry.started;
        let text = sheet.title(entry);
        Self {
            replay,
            transcript: Transcript::new(),
            sheet,
            ready: VecDeque::from([Shown { at, text }]),
            at,
            is_over: false,
        }
    }

    fn advance(&mut self) -> Result<(), ReplayError> {
        while self.ready.is_empty() && !self.is_over {
            let Some(event) = self.replay.borrow_mut().next() else {
                self.is_over = true;
                let mut text = String::new();
                self.sheet.finish(&mut text);
                self.keep(text);
                break;
            };
            for told in self.transcript.tell(event?) {
                self.at = told.at;
                let mut text = String::new();
                self.sheet.tell(&told, &mut text);
                self.keep(text);
            }
        }
        Ok(())
    }

    fn keep(&mut self, text: String) {
        if !text.is_empty() {
            let at = self.at;
            self.ready.push_back(Shown { at, text });
        }
    }
}

impl<R: BorrowMut<Replay>> Iterator for Rendering<R> {
    type Item = Result<Shown, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.advance() {
            self.is_over = true;
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}

/// Writes a replay whole.
///
/// # Errors
/// When the session cannot be read on, or `out` does not take more.
pub fn write(
    replay: &mut Replay,
    form: ReplayForm,
    out: &mut dyn Write,
) -> Result<(), ReplayError> {
    for shown in Rendering::new(replay, form) {
        out.write_all(shown?.text.as_bytes())
            .map_err(ReplayError::Output)?;
    }
    Ok(())
}
