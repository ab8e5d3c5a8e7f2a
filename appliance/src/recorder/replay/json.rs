//! A replay as JSON, one object per line and event.
//!
//! *Shape*: every object has `session`, `at` (RFC 3339, microseconds, UTC), `sequence`, `number`
//! and `event`; what else it has depends on `event`. A value is a string when it is UTF-8 without
//! NUL, `null` when it is NULL, else `{"hex": "..."}`. Documented in `docs/recording.md`.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::escape::hex;
use super::transcript::{Fact, Reply, Said, ShownColumn, ShownValue, Told};
use crate::recorder::catalogue::RefusedEntry;
use crate::recorder::format::{PrincipalNote, RecordedDecision, SessionEnd, SessionStart};
use crate::recorder::session_id::SessionId;

/// Writes lines. Per replay.
pub(super) struct JsonLines {
    session: String,
}

impl JsonLines {
    pub(super) fn new(session: SessionId) -> Self {
        Self {
            session: session.to_string(),
        }
    }

    pub(super) fn tell(&self, told: &Told, out: &mut String) {
        out.push_str(&object(&self.session, told).to_string());
        out.push('\n');
    }
}

/// What is told of one event of `session`, as one object.
pub(super) fn object(session: &str, told: &Told) -> Value {
    let mut object = Map::new();
    object.insert("session".to_owned(), json!(session));
    object.insert("at".to_owned(), json!(rfc3339(told.at)));
    object.insert("sequence".to_owned(), json!(told.sequence));
    object.insert("number".to_owned(), json!(told.number));
    let (event, details) = fact(&told.fact);
    object.insert("event".to_owned(), json!(event));
    if let Value::Object(details) = details {
        object.extend(details);
    }
    Value::Object(object)
}

/// Seconds since 1970 as people and programs read time.
pub(crate) fn rfc3339_seconds(unix_time: u64) -> String {
    let whole = rfc3339(unix_time.saturating_mul(1_000_000));
    // Whole seconds have a fraction of zeros.
    format!("{}Z", whole.split('.').next().unwrap_or_default())
}

/// Microseconds since 1970 as people and programs read time.
pub(super) fn rfc3339(unix_micros: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_micros(unix_micros));
    // Beyond the year 9999, which only damage can say, the form has no words.
    let last = Duration::from_secs(253_402_300_799);
    let time = time
        .filter(|_| Duration::from_micros(unix_micros) <= last)
        .unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_micros(time).to_string()
}

fn fact(fact: &Fact) -> (&'static str, Value) {
    match fact {
        Fact::Started(start) => ("session-start", started(start)),
        Fact::Command {
            kind,
            decision,
            cuts,
            said,
        } => {
            let (mut details, message) = decided(decision);
            details.insert("kind".to_owned(), json!(kind.name()));
            details.insert("cuts".to_owned(), json!(cuts));
            let (name, said) = self::said(said);
            details.insert("message".to_owned(), json!(name));
            if let Value::Object(said) = said {
                details.extend(said);
            }
            (message, Value::Object(details))
        }
        Fact::Reply(reply) => self::reply(reply),
        Fact::Ended(end) => ("session-end", ended(end)),
        Fact::Approval(note) => ("approval", super::approval::object(note)),
        Fact::Interrupted => ("interrupted", Value::Null),
        Fact::Missing { records } => ("missing", json!({ "records": records })),
        Fact::Unreadable { kind, reason } => {
            let reason = reason.map(|reason| reason.to_string());
            ("unreadable", json!({ "kind": kind, "reason": reason }))
        }
    }
}

/// A login that came to nothing; with its line end.
pub(crate) fn refused_login(entry: &RefusedEntry) -> String {
    let line = json!({
        "session": entry.id.to_string(),
        "at": rfc3339(entry.at),
        "sequence": 0,
        "number": 0,
        "event": "refused-login",
        "reason": entry.reason,
        "peer": entry.peer,
        "protocol": entry.protocol,
        "target": entry.target,
        "user": entry.user,
        "application": entry.application,
        "issuer": entry.issuer,
        "subject": entry.subject,
        "name": entry.name,
    });
    format!("{line}\n")
}

fn started(start: &SessionStart) -> Value {
    json!({
        "principal": principal(&start.principal),
        "target": start.target,
        "protocol": start.protocol,
        "user": start.user,
        "application": start.application,
        "peer": start.peer,
        "shard": start.shard,
        "read_only": start.read_only,
        "policy": start.policy,
    })
}

fn principal(note: &PrincipalNote) -> Value {
    let actors = note
        .actors
        .iter()
        .map(|actor| json!({ "issuer": actor.issuer, "subject": actor.subject }));
    json!({
        "issuer": note.issuer,
        "subject": note.subject,
        "name": note.name,
        "groups": note.groups,
        "actors": actors.collect::<Vec<_>>(),
        "token_id": note.token_id,
        "expires": note.expires,
    })
}

fn decided(decision: &RecordedDecision) -> (Map<String, Value>, &'static str) {
    let mut details = Map::new();
    details.insert("verdict".to_owned(), json!(decision.verdict.name()));
    details.insert("rule".to_owned(), json!(decision.rule));
    details.insert("policy".to_owned(), json!(decision.policy));
    details.insert("effects".to_owned(), effects(decision));
    if decision.effects_left_out > 0 {
        details.insert(
            "effects_left_out".to_owned(),
            json!(decision.effects_left_out),
        );
    }
    details.insert("search_path".to_owned(), json!(decision.search_path));
    if let Some(foreshadowed) = &decision.foreshadowed {
        details.insert(
            "foreshadowed".to_owned(),
            json!({ "verdict": foreshadowed.verdict.name(), "rule": foreshadowed.rule }),
        );
    }
    (details, "command")
}

pub(super) fn effects(decision: &RecordedDecision) -> Value {
    let effects = decision.effects.iter();
    effects
        .map(|effect| json!({ "class": effect.class, "object": effect.object }))
        .collect()
}

fn said(said: &Said) -> (&'static str, Value) {
    match said {
        Said::Query { text } => ("Query", json!({ "text": value(text) })),
        Said::Parse {
            statement,
            text,
            parameter_types,
        } => (
            "Parse",
            json!({
                "statement": value(statement),
                "text": value(text),
                "parameter_types": parameter_types,
            }),
        ),
        Said::Bind {
            portal,
            statement,
            values: bound,
            ..
        } => (
            "Bind",
            json!({
                "portal": value(portal),
                "statement": value(statement),
                "values": values(bound),
            }),
        ),
        Said::Describe { statement, name } => ("Describe", named(*statement, name)),
        Said::Execute { portal, row_limit } => (
            "Execute",
            json!({ "portal": value(portal), "row_limit": row_limit }),
        ),
        Said::Close { statement, name } => ("Close", named(*statement, name)),
        Said::FunctionCall {
            function,
            arguments,
        } => (
            "FunctionCall",
            json!({ "function": function, "values": values(arguments) }),
        ),
        Said::CopyData(data) => ("CopyData", json!({ "data": value(data) })),
        Said::CopyFail { reason } => ("CopyFail", json!({ "reason": value(reason) })),
        Said::Plain(name) => (name, Value::Null),
        Said::Incomplete { bytes, total_bytes } => (
            "incomplete",
            json!({ "hex": hex(bytes), "total_bytes": total_bytes }),
        ),
        Said::Raw(bytes) => ("bytes", json!({ "hex": hex(bytes) })),
    }
}

fn named(is_statement: bool, name: &ShownValue) -> Value {
    let key = if is_statement { "statement" } else { "portal" };
    json!({ key: value(name) })
}

fn reply(reply: &Reply) -> (&'static str, Value) {
    match reply {
        Reply::Columns(columns) => {
            let columns: Vec<Value> = columns.iter().map(column).collect();
            ("columns", json!({ "columns": columns }))
        }
        Reply::Row(row) => ("row", json!({ "values": values(row) })),
        Reply::RowPart { bytes, total_bytes } => (
            "row-part",
            json!({ "hex": hex(bytes), "total_bytes": total_bytes }),
        ),
        Reply::Complete { tag } => ("complete", json!({ "tag": value(tag) })),
        Reply::Error(fields) => ("error", error(fields)),
        Reply::Notice(fields) => ("notice", error(fields)),
        Reply::Notification { channel, payload } => (
            "notification",
            json!({ "channel": value(channel), "payload": value(payload) }),
        ),
        Reply::Parameter {
            name,
            value: setting,
        } => (
            "parameter",
            json!({ "name": value(name), "value": value(setting) }),
        ),
        Reply::ParameterTypes(types) => ("parameter-types", json!({ "types": types })),
        Reply::CopyData(data) => ("copy-data", json!({ "data": value(data) })),
        Reply::FunctionResult(result) => ("function-result", json!({ "value": value(result) })),
        Reply::Ready { status } => ("ready", json!({ "status": status })),
        Reply::Plain(name) => ("reply", json!({ "message": name })),
        Reply::Raw(bytes) => ("bytes", json!({ "hex": hex(bytes) })),
    }
}

fn column(column: &ShownColumn) -> Value {
    json!({
        "name": value(&column.name),
        "type": column.type_oid,
        "table": column.table,
        "attribute": column.attribute,
    })
}

fn error(fields: &[(&'static str, ShownValue)]) -> Value {
    fields
        .iter()
        .map(|(name, field)| ((*name).to_owned(), value(field)))
        .collect::<Map<_, _>>()
        .into()
}

pub(super) fn ended(end: &SessionEnd) -> Value {
    json!({
        "reason": end.reason.name(),
        "commands": end.counters.commands,
        "denials": end.counters.denials,
        "foreshadowed": end.counters.foreshadowed,
        "rows": end.counters.rows,
        "bytes_received": end.counters.bytes_received,
        "bytes_sent": end.counters.bytes_sent,
    })
}

fn values(values: &[ShownValue]) -> Vec<Value> {
    values.iter().map(value).collect()
}

fn value(shown: &ShownValue) -> Value {
    match shown {
        ShownValue::Null => Value::Null,
        ShownValue::Text(text) => Value::String(text.clone()),
        ShownValue::Bytes(bytes) => json!({ "hex": hex(bytes) }),
    }
}
