//! What a target's planner expects of statements, asked on a connection of its own.
//!
//! Nothing is run: EXPLAIN without ANALYZE, in a session that is read-only. Which statements may be
//! planned at all is the caller's to know, since planning runs functions that are declared immutable.

use std::ops::ControlFlow;
use std::time::Duration;

use codecs::postgres::frontend::{Format, encode_bind, encode_execute, encode_parse, encode_sync};
use codecs::postgres::{Backend, TransactionStatus};
use runtime::now;
use serde_json::Value;

use super::catalogue::Seen;
use super::conversation::{Conversation, Exchange};
use super::dial::{Dialer, Login};
use super::error::{Phase, UpstreamError, Violation};
use super::session::SessionSettings;

/// What the server calls the connection.
const APPLICATION_NAME: &str = "sallyport estimate";

/// How long the planner may take for one statement, as the server is told.
const STATEMENT_TIMEOUT: &str = "1s";

/// How long it may take for all of them, with logging in. Somebody is looking at the request already.
const DEADLINE: Duration = Duration::from_secs(5);

/// Longest plan. Bytes; one of a hundred joined tables is a tenth of this.
const PLAN_BYTES_MAX: u32 = 1 << 20;

/// Messages that answer one statement: a plan is one row.
const MESSAGES_MAX: usize = 1000;

/// A statement as it was sent.
pub(crate) struct Plannable {
    pub(crate) text: Vec<u8>,
    pub(crate) types: Vec<u32>,
    /// Whether each is binary, and its bytes.
    pub(crate) values: Vec<(bool, Option<Vec<u8>>)>,
}

/// What is asked.
pub(crate) struct Question {
    /// Where names without a schema are looked up.
    pub(crate) search_path: Option<Vec<String>>,
    /// `None` for what is not to be planned.
    pub(crate) statements: Vec<Option<Plannable>>,
}

/// The rows that the planner expects each statement to read, write or return. Those that it says
/// nothing about, and all behind one that it refuses, are `None`.
pub(super) async fn estimate(
    dialer: &Dialer,
    seen: &Seen,
    question: &Question,
) -> Vec<Option<u64>> {
    let mut estimates = vec![None; question.statements.len()];
    // That there is none is all that anybody can do with a failure.
    let Ok(mut conversation) = open(dialer, seen, question).await else {
        return estimates;
    };
    for (estimate, statement) in estimates.iter_mut().zip(&question.statements) {
        let Some(statement) = statement else { continue };
        match plan(&mut conversation, statement).await {
            Ok(plan) => *estimate = rows(&plan),
            Err(_) => break,
        }
    }
    conversation.close(now() + DEADLINE).await;
    estimates
}

fn exchange() -> Exchange {
    Exchange {
        phase: Phase::Estimate,
        deadline: now() + DEADLINE,
    }
}

async fn open(
    dialer: &Dialer,
    seen: &Seen,
    question: &Question,
) -> Result<Conversation, UpstreamError> {
    let settings = SessionSettings::default();
    let login = Login {
        target: &seen.target,
        account: &seen.account,
        database: &seen.database,
        settings: &settings,
        name: APPLICATION_NAME,
    };
    let server = seen.server.clone();
    let established = dialer.log_in(login, server, now() + DEADLINE).await?;
    let mut conversation = established.conversation;
    let mut settings = format!(
        "SET default_transaction_read_only = on; SET statement_timeout = '{STATEMENT_TIMEOUT}'; \
         SET lock_timeout = '{STATEMENT_TIMEOUT}'"
    );
    let mut count = 3;
    if let Some(schemas) = &question.search_path {
        let quoted = schemas
            .iter()
            .map(|schema| format!("\"{}\"", schema.replace('"', "\"\"")));
        let path: Vec<String> = quoted.collect();
        if !path.is_empty() {
            settings.push_str(&format!("; SET search_path = {}", path.join(", ")));
            count += 1;
        }
    }
    conversation.query(exchange(), &settings, count).await?;
    conversation.expect_rows(PLAN_BYTES_MAX, MESSAGES_MAX);
    Ok(conversation)
}

/// The plan of a statement, as JSON. The server itself takes no more than one in a Parse.
async fn plan(
    conversation: &mut Conversation,
    statement: &Plannable,
) -> Result<Vec<u8>, UpstreamError> {
    let exchange = exchange();
    let violated = |violation| UpstreamError::protocol(Phase::Estimate, violation);
    let text = [b"EXPLAIN (FORMAT JSON) ", statement.text.as_slice()].concat();
    let values = statement.values.iter();
    let formats: Vec<Format> = values
        .clone()
        .map(|(is_binary, _)| {
            if *is_binary {
                Format::Binary
            } else {
                Format::Text
            }
        })
        .collect();
    let values: Vec<Option<&[u8]>> = values.map(|(_, value)| value.as_deref()).collect();
    let mut message = Vec::new();
    encode_parse(&mut message, b"", &text, &statement.types)
        .and_then(|()| encode_bind(&mut message, b"", b"", &formats, &values, &[]))
        .and_then(|()| encode_execute(&mut message, b"", 0))
        .and_then(|()| encode_sync(&mut message))
        .map_err(|_| violated(Violation::TooLong))?;
    conversation.send(exchange, &message).await?;
    let mut plan = Vec::new();
    conversation
        .read(exchange, |message| {
            #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else answers it")]
            match message {
                Backend::ParseComplete | Backend::BindComplete | Backend::CommandComplete(_) => {}
                Backend::DataRow(row) => {
                    let values = row.values().map_err(|_| violated(Violation::Malformed))?;
                    plan.extend_from_slice(values.iter().next().flatten().unwrap_or_default());
                }
                Backend::ReadyForQuery(TransactionStatus::Idle) => {
                    return Ok(ControlFlow::Break(()));
                }
                _ => return Err(violated(Violation::OutOfSequence)),
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    Ok(plan)
}

/// The rows of the topmost node; of what changes a table, those that it gets to change.
fn rows(plan: &[u8]) -> Option<u64> {
    let plan: Value = serde_json::from_slice(plan).ok()?;
    let top = plan.get(0)?.get("Plan")?;
    let of = |node: &Value| node.get("Plan Rows")?.as_u64();
    if top.get("Node Type")?.as_str()? != "ModifyTable" {
        return of(top);
    }
    let beneath = top.get("Plans")?.as_array()?.iter();
    let fed = beneath.filter(|node| {
        let relationship = node.get("Parent Relationship").and_then(Value::as_str);
        matches!(relationship, Some("Outer" | "Member"))
    });
    fed.map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_those_that_are_returned_or_changed() {
        let select = r#"[{"Plan": {"Node Type": "Seq Scan", "Plan Rows": 12}}]"#;
        assert_eq!(rows(select.as_bytes()), Some(12));
        let delete = r#"[{"Plan": {"Node Type": "ModifyTable", "Plan Rows": 0, "Plans": [
            {"Node Type": "Index Scan", "Parent Relationship": "Outer", "Plan Rows": 7},
            {"Node Type": "Seq Scan", "Parent Relationship": "InitPlan", "Plan Rows": 99}]}}]"#;
        assert_eq!(rows(delete.as_bytes()), Some(7));
        for other in [
            "",
            "[]",
            "{}",
            r#"[{"Plan": {"Node Type": "Seq Scan", "Plan Rows": -1}}]"#,
        ] {
            assert_eq!(rows(other.as_bytes()), None, "{other}");
        }
    }
}
