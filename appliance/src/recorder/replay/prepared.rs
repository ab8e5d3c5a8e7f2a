//! What an agent prepared and bound, so that an Execute can be shown with its text and values.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use codecs::postgres::frontend::Format;

use super::transcript::{Said, ShownValue};
use crate::recorder::format::{RecordedDecision, Verdict};

/// Bytes of prepared statements and portals that are remembered; beyond, the oldest are shown by
/// their names alone. An agent may prepare as many as it likes in one session.
const REMEMBERED_BYTES_MAX: usize = 8 << 20;

/// Prepared statements and portals of one session. Per replay.
#[derive(Default)]
pub(super) struct Prepared {
    statements: Remembered<Rc<Statement>>,
    portals: Remembered<Portal>,
}

pub(super) struct Statement {
    pub(super) text: ShownValue,
    pub(super) types: Vec<u32>,
    decision: RecordedDecision,
}

/// A statement with values.
#[derive(Clone)]
pub(super) struct Portal {
    /// `None` when it was forgotten, or prepared where the recording has a hole.
    pub(super) statement: Option<Rc<Statement>>,
    /// The statement's name.
    pub(super) name: ShownValue,
    pub(super) values: Vec<ShownValue>,
    pub(super) formats: Vec<Format>,
    pub(super) result_formats: Vec<Format>,
    /// How many times it was executed.
    pub(super) runs: u64,
}

impl Portal {
    /// What was said where it takes effect; else what was said of the text.
    pub(super) fn decision<'d>(&'d self, executed: &'d RecordedDecision) -> &'d RecordedDecision {
        match (executed.verdict, &self.statement) {
            (Verdict::NotJudged, Some(statement)) => &statement.decision,
            _ => executed,
        }
    }

    /// The type of a value; 0 where the agent left it to the server.
    pub(super) fn type_of(&self, index: usize) -> u32 {
        let types = self.statement.as_ref().map(|it| it.types.as_slice());
        types.and_then(|it| it.get(index)).copied().unwrap_or(0)
    }
}

impl Prepared {
    /// Takes note of a message of the agent, before it is shown.
    pub(super) fn note(&mut self, decision: &RecordedDecision, said: &Said) {
        match said {
            Said::Parse {
                statement,
                text,
                parameter_types,
            } => {
                let kept = Statement {
                    text: text.clone(),
                    types: parameter_types.clone(),
                    decision: decision.clone(),
                };
                let bytes = text.as_bytes().len();
                self.statements
                    .insert(statement.as_bytes(), Rc::new(kept), bytes);
            }
            Said::Bind {
                portal,
                statement,
                values,
                formats,
                result_formats,
            } => {
                let bound = Portal {
                    statement: self.statements.get(statement.as_bytes()).cloned(),
                    name: statement.clone(),
                    values: values.clone(),
                    formats: formats.clone(),
                    result_formats: result_formats.clone(),
                    runs: 0,
                };
                let bytes = values.iter().map(|value| value.as_bytes().len()).sum();
                self.portals.insert(portal.as_bytes(), bound, bytes);
            }
            Said::Execute { portal, .. } => {
                if let Some(portal) = self.portals.get_mut(portal.as_bytes()) {
                    portal.runs = portal.runs.saturating_add(1);
                }
            }
            Said::Close { statement, name } => {
                if *statement {
                    self.statements.remove(name.as_bytes());
                } else {
                    self.portals.remove(name.as_bytes());
                }
            }
            Said::Query { .. }
            | Said::Describe { .. }
            | Said::FunctionCall { .. }
            | Said::CopyData(_)
            | Said::CopyFail { .. }
            | Said::Plain(_)
            | Said::Incomplete { .. }
            | Said::Raw(_) => {}
        }
    }

    pub(super) fn portal(&self, name: &ShownValue) -> Option<&Portal> {
        self.portals.get(name.as_bytes())
    }
}

/// The format of a value, of a list of formats: none (all are text), one for all, or one for each.
pub(super) fn format_of(formats: &[Format], index: usize) -> Format {
    match formats {
        [] => Format::Text,
        [all] => *all,
        each => each.get(index).copied().unwrap_or(Format::Text),
    }
}

/// Values by name, up to so many bytes; the oldest are forgotten.
pub(super) struct Remembered<T> {
    entries: HashMap<Vec<u8>, (T, usize, u64)>,
    order: VecDeque<(Vec<u8>, u64)>,
    bytes: usize,
    stamp: u64,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            stamp: 0,
        }
    }
}

impl<T> Remembered<T> {
    pub(super) fn insert(&mut self, name: &[u8], value: T, bytes: usize) {
        // Each takes some room of its own, however short it is.
        let bytes = bytes.saturating_add(name.len()).saturating_add(256);
        self.remove(name);
        self.stamp = self.stamp.saturating_add(1);
        self.entries
            .insert(name.to_owned(), (value, bytes, self.stamp));
        self.order.push_back((name.to_owned(), self.stamp));
        self.bytes = self.bytes.saturating_add(bytes);
        while self.bytes > REMEMBERED_BYTES_MAX || self.order.len() > 2 * self.entries.len() + 64 {
            let Some((oldest, stamp)) = self.order.pop_front() else {
                break;
            };
            let is_same = self
                .entries
                .get(&oldest)
                .is_some_and(|(_, _, known)| *known == stamp);
            if is_same && self.bytes > REMEMBERED_BYTES_MAX {
                self.remove(&oldest);
            } else if is_same {
                self.order.push_back((oldest, stamp));
            }
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        if let Some((_, bytes, _)) = self.entries.remove(name) {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&T> {
        self.entries.get(name).map(|(value, _, _)| value)
    }

    pub(super) fn get_mut(&mut self, name: &[u8]) -> Option<&mut T> {
        self.entries.get_mut(name).map(|(value, _, _)| value)
    }
}
