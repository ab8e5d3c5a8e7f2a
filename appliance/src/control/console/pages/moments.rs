//! A recorded session as a page shows it: what the agent said, what it was answered, what was
//! decided.
//!
//! Nothing here is cut short silently, and nothing is left out but what only a program reads.

use std::fmt::Write as _;

use crate::control::console::marked::Marked;
use crate::recorder::replay::{Fact, Reply, Said, ShownValue, Told};
use crate::recorder::{ApprovalNote, RecordedDecision, SessionEnd, SessionStart, Verdict};

/// Bytes that are shown of something that is not text.
const HEX_BYTES_MAX: usize = 256;

/// One line of the transcript.
pub(super) struct Moment {
    pub(super) at: String,
    pub(super) what: What,
}

/// What there is to see.
pub(super) enum What {
    /// The agent's message, and what was decided about it.
    Said {
        text: Marked,
        verdict: Option<Marked>,
        refused: bool,
    },
    Reply {
        text: Marked,
    },
    /// What is about the session itself.
    Fact {
        text: Marked,
    },
}

impl Moment {
    /// `None` for what only a program wants to see.
    pub(super) fn of(told: &Told) -> Option<Self> {
        let what = match &told.fact {
            Fact::Command {
                decision,
                cuts,
                said,
                ..
            } => What::Said {
                text: Marked::of(&self::said(said)?),
                verdict: verdict(decision, *cuts).map(|text| Marked::of(&text)),
                refused: decision.verdict == Verdict::Refused,
            },
            Fact::Reply(reply) => What::Reply {
                text: Marked::of(&self::reply(reply)?),
            },
            Fact::Started(start) => fact(&started(start)),
            Fact::Ended(end) => fact(&ended(end)),
            Fact::Approval(note) => fact(&approval(note)),
            Fact::Interrupted => {
                fact("interrupted: the record ends here, and the session never ended")
            }
            Fact::Missing { records } => fact(&format!("{records} records are missing here")),
            Fact::Unreadable { kind, reason } => fact(&match reason {
                Some(reason) => format!("a record of kind {kind} cannot be read: {reason}"),
                None => format!("a record of kind {kind} cannot be read"),
            }),
        };
        Some(Self {
            at: super::clock(told.at),
            what,
        })
    }
}

fn fact(text: &str) -> What {
    What::Fact {
        text: Marked::of(text),
    }
}

fn started(start: &SessionStart) -> String {
    let mut text = format!(
        "{} begins on {} from {}",
        start.principal.name, start.target, start.peer
    );
    if start.read_only {
        text.push_str(", read-only");
    }
    for actor in &start.principal.actors {
        text.push_str(", acting: ");
        text.push_str(&actor.subject);
    }
    text
}

fn ended(end: &SessionEnd) -> String {
    let counters = end.counters;
    format!(
        "{}: {} commands, {} refused, {} rows",
        end.reason.name(),
        counters.commands,
        counters.denials,
        counters.rows,
    )
}

fn approval(note: &ApprovalNote) -> String {
    let mut text = format!("approval {}", note.step.name());
    if let Some(request) = &note.request {
        text.push_str(", request ");
        text.push_str(request);
    }
    if !note.rules.is_empty() {
        text.push_str(", held by ");
        text.push_str(&note.rules.join(", "));
    }
    let by: Vec<&str> = note.by.iter().map(|person| person.name.as_str()).collect();
    if !by.is_empty() {
        text.push_str(", by ");
        text.push_str(&by.join(", "));
    }
    if let Some(reason) = &note.reason {
        text.push_str(": ");
        text.push_str(reason);
    }
    text
}

fn verdict(decision: &RecordedDecision, cuts: u64) -> Option<String> {
    let mut parts = Vec::new();
    match (decision.verdict, &decision.rule) {
        (Verdict::Refused, Some(rule)) => parts.push(format!("refused by {rule}")),
        (Verdict::Refused, None) => parts.push("refused: no rule allows it".to_owned()),
        (_, Some(rule)) => parts.push(format!("{} by {rule}", decision.verdict.name())),
        (_, None) => {}
    }
    let effects = decision.effects.iter().map(|effect| match &effect.object {
        Some(object) => format!("{} {object}", effect.class),
        None => effect.class.clone(),
    });
    let effects: Vec<String> = effects.collect();
    if !effects.is_empty() {
        parts.push(effects.join(", "));
    }
    if let Some(shadow) = &decision.foreshadowed {
        parts.push(match &shadow.rule {
            Some(rule) => format!("in shadow: {} by {rule}", shadow.verdict.name()),
            None => format!("in shadow: {}", shadow.verdict.name()),
        });
    }
    if cuts > 0 {
        parts.push(format!("{cuts} secrets cut"));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn said(said: &Said) -> Option<String> {
    Some(match said {
        Said::Query { text } => shown(text),
        Said::Parse {
            statement, text, ..
        } => format!("prepare {}: {}", name(statement), shown(text)),
        Said::Bind {
            statement, values, ..
        } => format!("bind {} {}", name(statement), row(values)),
        Said::Execute { portal, row_limit } if *row_limit > 0 => {
            format!("execute {} up to {row_limit} rows", name(portal))
        }
        Said::Execute { portal, .. } => format!("execute {}", name(portal)),
        Said::FunctionCall {
            function,
            arguments,
        } => format!("call function {function} {}", row(arguments)),
        Said::CopyData(data) => format!("copy data {}", shown(data)),
        Said::CopyFail { reason } => format!("copy fails: {}", shown(reason)),
        Said::Incomplete { bytes, total_bytes } => {
            format!("incomplete message, {} of {total_bytes} bytes", bytes.len())
        }
        Said::Raw(bytes) => hex(bytes),
        Said::Describe { .. } | Said::Close { .. } | Said::Plain(_) => return None,
    })
}

fn reply(reply: &Reply) -> Option<String> {
    Some(match reply {
        Reply::Columns(columns) => {
            let names: Vec<String> = columns.iter().map(|column| shown(&column.name)).collect();
            format!("columns ({})", names.join(", "))
        }
        Reply::Row(values) => row(values),
        Reply::RowPart { bytes, total_bytes } => {
            format!("row, {} of {total_bytes} bytes", bytes.len())
        }
        Reply::Complete { tag } => shown(tag),
        Reply::Error(fields) | Reply::Notice(fields) => message(fields),
        Reply::Notification { channel, payload } => {
            format!("notification {}: {}", shown(channel), shown(payload))
        }
        Reply::CopyData(data) => format!("copy data {}", shown(data)),
        Reply::FunctionResult(result) => format!("result {}", shown(result)),
        Reply::Raw(bytes) => hex(bytes),
        Reply::Parameter { .. }
        | Reply::ParameterTypes(_)
        | Reply::Ready { .. }
        | Reply::Plain(_) => return None,
    })
}

/// An error or a notice: severity, code, message, and what helps.
fn message(fields: &[(&'static str, ShownValue)]) -> String {
    let field = |wanted| {
        let mut found = fields.iter().filter(|(name, _)| *name == wanted);
        found.next().map(|(_, value)| shown(value))
    };
    let mut text = String::new();
    for (name, before, after) in [
        ("severity", "", " "),
        ("sqlstate", "", ": "),
        ("message", "", ""),
        ("detail", "\nDETAIL: ", ""),
        ("hint", "\nHINT: ", ""),
    ] {
        if let Some(value) = field(name) {
            text.push_str(before);
            text.push_str(&value);
            text.push_str(after);
        }
    }
    text
}

fn name(value: &ShownValue) -> String {
    match value {
        ShownValue::Text(text) if text.is_empty() => "(unnamed)".to_owned(),
        ShownValue::Text(_) | ShownValue::Null | ShownValue::Bytes(_) => shown(value),
    }
}

fn row(values: &[ShownValue]) -> String {
    let values: Vec<String> = values
        .iter()
        .map(|value| match value {
            ShownValue::Text(text) => format!("'{}'", text.replace('\'', "''")),
            ShownValue::Null | ShownValue::Bytes(_) => shown(value),
        })
        .collect();
    format!("({})", values.join(", "))
}

fn shown(value: &ShownValue) -> String {
    match value {
        ShownValue::Null => "NULL".to_owned(),
        ShownValue::Text(text) => text.clone(),
        ShownValue::Bytes(bytes) => hex(bytes),
    }
}

/// Bytes as PostgreSQL writes them; of many, the first.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("\\x");
    for byte in bytes.iter().take(HEX_BYTES_MAX) {
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, "{byte:02x}");
    }
    if bytes.len() > HEX_BYTES_MAX {
        let _ = write!(text, "... ({} bytes)", bytes.len());
    }
    text
}
