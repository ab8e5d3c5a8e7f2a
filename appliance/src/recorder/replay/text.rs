//! A replay as text for a terminal: a line per message, everything recorded escaped.

use std::fmt::Write as _;

use super::escape::{LineFeeds, escape, hex};
use super::json::rfc3339;
use super::transcript::{Fact, Reply, Said, ShownValue, Told};
use crate::recorder::format::{RecordedDecision, SessionEnd, SessionStart, Verdict};

/// Stands in front of further lines of a recorded text.
const INDENT: &str = "                              | ";

/// Bytes that are shown of something that is not text.
const HEX_BYTES_MAX: usize = 256;

/// Writes lines with their times. Per replay.
pub(super) struct Timeline;

impl Timeline {
    pub(super) fn tell(&self, told: &Told, out: &mut String) {
        if let Some(line) = line(told) {
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(out, "{} {line}", rfc3339(told.at));
        }
    }
}

/// One message; `None` for those that only a program wants to see.
fn line(told: &Told) -> Option<String> {
    let mut line = String::new();
    match &told.fact {
        Fact::Started(start) => started(&mut line, start),
        Fact::Command {
            decision,
            cuts,
            said,
            ..
        } => {
            line.push_str("> ");
            self::said(&mut line, said)?;
            decided(&mut line, decision, *cuts);
        }
        Fact::Reply(reply) => {
            line.push_str("< ");
            self::reply(&mut line, reply)?;
        }
        Fact::Ended(end) => ended(&mut line, end),
        Fact::Approval(note) => super::approval::write_line(&mut line, note),
        Fact::Interrupted => {
            line.push_str("= interrupted: the record ends here, and the session never ended");
        }
        Fact::Missing { records } => {
            let _ = write!(line, "= {records} records are missing here");
        }
        Fact::Unreadable { kind, reason } => {
            let _ = write!(line, "= a record of kind {kind} cannot be read");
            if let Some(reason) = reason {
                let _ = write!(line, ": {reason}");
            }
        }
    }
    Some(line)
}

pub(super) fn started(line: &mut String, start: &SessionStart) {
    line.push_str("= ");
    one_line(line, &start.principal.name);
    line.push_str(" (");
    one_line(line, &start.principal.subject);
    line.push_str(" of ");
    one_line(line, &start.principal.issuer);
    line.push_str("), groups ");
    one_line(line, &start.principal.groups.join(", "));
    line.push_str(", on ");
    one_line(line, &start.target);
    line.push_str(" from ");
    one_line(line, &start.peer);
    if let Some(application) = &start.application {
        line.push_str(" with ");
        one_line(line, application);
    }
    if start.read_only {
        line.push_str(", read-only");
    }
    for actor in &start.principal.actors {
        line.push_str(", acting: ");
        one_line(line, &actor.subject);
    }
}

pub(super) fn ended(line: &mut String, end: &SessionEnd) {
    totals(line, end);
    if end.counters.foreshadowed > 0 {
        let _ = write!(
            line,
            ", {} otherwise by rules in shadow",
            end.counters.foreshadowed
        );
    }
}

fn totals(line: &mut String, end: &SessionEnd) {
    let counters = end.counters;
    let _ = write!(
        line,
        "= {}: {} commands, {} refused, {} rows, {} bytes received, {} bytes sent",
        end.reason.name(),
        counters.commands,
        counters.denials,
        counters.rows,
        counters.bytes_received,
        counters.bytes_sent,
    );
}

fn decided(line: &mut String, decision: &RecordedDecision, cuts: u64) {
    if decision.verdict == Verdict::Refused {
        line.push_str("   [refused by ");
        one_line(
            line,
            decision
                .rule
                .as_deref()
                .unwrap_or("default: no rule allows it"),
        );
        line.push(']');
    }
    if decision.verdict == Verdict::Held {
        line.push_str("   [held by ");
        one_line(line, decision.rule.as_deref().unwrap_or_default());
        line.push_str(", and approved]");
    }
    if let Some(foreshadowed) = &decision.foreshadowed {
        line.push_str("   [in shadow: ");
        one_line(line, foreshadowed.verdict.name());
        if let Some(rule) = &foreshadowed.rule {
            line.push_str(" by ");
            one_line(line, rule);
        }
        line.push(']');
    }
    if cuts > 0 {
        let _ = write!(line, "   [{cuts} secrets cut]");
    }
}

fn said(line: &mut String, said: &Said) -> Option<()> {
    match said {
        Said::Query { text } => statement(line, text),
        Said::Parse {
            statement: name,
            text,
            ..
        } => {
            line.push_str("prepare ");
            name_of(line, name);
            line.push_str(": ");
            statement(line, text);
        }
        Said::Bind {
            statement: name,
            values,
            ..
        } => {
            line.push_str("bind ");
            name_of(line, name);
            row(line, values);
        }
        Said::Execute { portal, row_limit } => {
            line.push_str("execute ");
            name_of(line, portal);
            if *row_limit > 0 {
                let _ = write!(line, " up to {row_limit} rows");
            }
        }
        Said::FunctionCall {
            function,
            arguments,
        } => {
            let _ = write!(line, "call function {function} ");
            row(line, arguments);
        }
        Said::CopyData(data) => {
            line.push_str("copy data ");
            value(line, data);
        }
        Said::CopyFail { reason } => {
            line.push_str("copy fails: ");
            value(line, reason);
        }
        Said::Incomplete { bytes, total_bytes } => {
            let _ = write!(
                line,
                "incomplete message, {} of {total_bytes} bytes",
                bytes.len()
            );
        }
        Said::Raw(bytes) => raw(line, bytes),
        Said::Describe { .. } | Said::Close { .. } | Said::Plain(_) => return None,
    }
    Some(())
}

fn reply(line: &mut String, reply: &Reply) -> Option<()> {
    match reply {
        Reply::Columns(columns) => {
            line.push_str("columns ");
            let names: Vec<ShownValue> = columns.iter().map(|column| column.name.clone()).collect();
            row(line, &names);
        }
        Reply::Row(values) => {
            line.push_str("row ");
            row(line, values);
        }
        Reply::RowPart { bytes, total_bytes } => {
            let _ = write!(line, "row, {} of {total_bytes} bytes", bytes.len());
        }
        Reply::Complete { tag } => value(line, tag),
        Reply::Error(fields) => error(line, fields),
        Reply::Notice(fields) => error(line, fields),
        Reply::Notification { channel, payload } => {
            line.push_str("notification ");
            value(line, channel);
            line.push_str(": ");
            value(line, payload);
        }
        Reply::CopyData(data) => {
            line.push_str("copy data ");
            value(line, data);
        }
        Reply::FunctionResult(result) => {
            line.push_str("result ");
            value(line, result);
        }
        Reply::Raw(bytes) => raw(line, bytes),
        Reply::Parameter { .. }
        | Reply::ParameterTypes(_)
        | Reply::Ready { .. }
        | Reply::Plain(_) => return None,
    }
    Some(())
}

pub(super) fn error(line: &mut String, fields: &[(&'static str, ShownValue)]) {
    let field = |wanted| {
        fields
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value)
    };
    if let Some(severity) = field("severity") {
        value(line, severity);
        line.push(' ');
    }
    if let Some(sqlstate) = field("sqlstate") {
        value(line, sqlstate);
        line.push_str(": ");
    }
    for (name, label) in [
        ("message", ""),
        ("detail", " DETAIL: "),
        ("hint", " HINT: "),
    ] {
        if let Some(text) = field(name) {
            line.push_str(label);
            value(line, text);
        }
    }
}

fn statement(line: &mut String, text: &ShownValue) {
    match text {
        ShownValue::Text(text) => escape(line, text, LineFeeds::Indented(INDENT)),
        ShownValue::Null | ShownValue::Bytes(_) => value(line, text),
    }
}

fn name_of(line: &mut String, name: &ShownValue) {
    match name {
        ShownValue::Text(name) if name.is_empty() => line.push_str("(unnamed)"),
        ShownValue::Text(_) | ShownValue::Null | ShownValue::Bytes(_) => value(line, name),
    }
}

/// Values as psql's users know them from `COPY`: NULL is bare, text is quoted where it must be.
fn row(line: &mut String, values: &[ShownValue]) {
    line.push('(');
    for (index, shown) in values.iter().enumerate() {
        if index > 0 {
            line.push_str(", ");
        }
        match shown {
            ShownValue::Text(text) => {
                line.push('\'');
                one_line(line, &text.replace('\'', "''"));
                line.push('\'');
            }
            ShownValue::Null | ShownValue::Bytes(_) => value(line, shown),
        }
    }
    line.push(')');
}

fn value(line: &mut String, shown: &ShownValue) {
    match shown {
        ShownValue::Null => line.push_str("NULL"),
        ShownValue::Text(text) => one_line(line, text),
        ShownValue::Bytes(bytes) => raw(line, bytes),
    }
}

fn raw(line: &mut String, bytes: &[u8]) {
    let shown = bytes
        .get(..bytes.len().min(HEX_BYTES_MAX))
        .unwrap_or_default();
    let _ = write!(line, "\\x{}", hex(shown));
    if shown.len() < bytes.len() {
        let _ = write!(line, "... ({} bytes)", bytes.len());
    }
}

pub(super) fn one_line(line: &mut String, text: &str) {
    escape(line, text, LineFeeds::Escaped);
}
