//! One budget: from words to limits and whom they are for.

use std::time::Duration;

use super::Known;
use super::scope::Scope;
use crate::budget::{BudgetRule, Per};
use crate::quantity;
use crate::rule::{Reporter, SESSION, Table};

/// The longest `statement_time`. Longer ones are no limit that anybody waits for.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The shortest `statement_time`: below it the way to the server and back decides.
const STATEMENT_TIME_MIN: Duration = Duration::from_millis(10);

const LIMITS: [&str; 5] = [
    "rows",
    "bytes",
    "statements_per_minute",
    "statement_time",
    "sessions",
];

/// A budget and whom it is about.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) rule: BudgetRule,
    pub(crate) scope: Scope,
}

impl Budget {
    pub(super) fn compile(
        table: &Table,
        known: &Known<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Option<Self> {
        let before = reporter.problems.len();
        let scope = Scope::compile(table, known, reporter);
        let bytes = bytes(table, reporter);
        let statement_time = statement_time(table, reporter);
        if !LIMITS.iter().any(|key| table.key_span(key).is_some()) {
            let message = format!(
                "the budget limits nothing: give one of `{}`",
                LIMITS.join("`, `")
            );
            reporter.report(&table.span, message);
        }
        if reporter.problems.len() > before {
            return None;
        }
        let number = |key: &str| table.number(key).map(|number| number.value);
        Some(Self {
            rule: BudgetRule {
                name: table.text("name")?.value.clone(),
                per: match table.text("per") {
                    Some(word) if word.value == SESSION => Per::Session,
                    Some(_) | None => Per::Principal,
                },
                rows: number("rows"),
                bytes,
                statements_per_minute: number("statements_per_minute"),
                statement_time,
                sessions: number("sessions"),
            },
            scope: scope?,
        })
    }
}

fn bytes(table: &Table, reporter: &mut Reporter<'_>) -> Option<u64> {
    let text = table.text("bytes")?;
    let bytes = quantity::bytes(&text.value);
    if bytes.is_none() {
        let message = "`bytes` is a size such as \"256MiB\"";
        reporter.report(&text.span, message.to_owned());
    }
    bytes
}

fn statement_time(table: &Table, reporter: &mut Reporter<'_>) -> Option<Duration> {
    let text = table.text("statement_time")?;
    let time = quantity::duration(&text.value)
        .filter(|time| (STATEMENT_TIME_MIN..=STATEMENT_TIME_MAX).contains(time));
    if time.is_none() {
        let message = "`statement_time` is a duration from 10ms to a day, such as \"30s\"";
        reporter.report(&text.span, message.to_owned());
    }
    time
}
