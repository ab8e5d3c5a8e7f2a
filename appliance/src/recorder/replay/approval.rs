//! A step of a request for approval, as a line of text and as JSON.

use serde_json::{Value, json};

use super::escape::{LineFeeds, escape};
use super::json::rfc3339;
use crate::recorder::format::ApprovalNote;

pub(super) fn write_line(line: &mut String, note: &ApprovalNote) {
    let mut put = |text: &str| escape(line, text, LineFeeds::Escaped);
    put("= approval");
    if let Some(request) = &note.request {
        put(" ");
        put(request);
    }
    put(": ");
    put(note.step.name());
    for (index, by) in note.by.iter().enumerate() {
        put(if index == 0 { " by " } else { ", " });
        put(&by.name);
        put(" (");
        put(&by.subject);
        put(" of ");
        put(&by.issuer);
        put(")");
    }
    if let Some(reason) = &note.reason {
        put(": ");
        put(reason);
    }
    if !note.rules.is_empty() {
        put("   [held by ");
        put(&note.rules.join(", "));
        put("]");
    }
}

pub(super) fn object(note: &ApprovalNote) -> Value {
    let by = note
        .by
        .iter()
        .map(|by| json!({ "issuer": by.issuer, "subject": by.subject, "name": by.name }));
    json!({
        "step": note.step.name(),
        "request": note.request,
        "digest": note.digest,
        "rules": note.rules,
        "by": by.collect::<Vec<_>>(),
        "reason": note.reason,
        "expires": (note.expires > 0).then(|| rfc3339(note.expires.saturating_mul(1_000_000))),
    })
}
