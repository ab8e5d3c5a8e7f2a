//! What of an allowed statement is changed so that the target's log keeps naming the agent.
//!
//! A client may give itself an application name: it becomes a suffix of ours.
//! A statement that resets settings is followed by one that sets ours again.

use std::fmt::Write as _;

use policy::sql::{By, Change, Scope, SettingChange, StatementProfile};

use super::classify::Statement;
use crate::upstream::Attribution;

/// What goes upstream in place of a simple query's text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// `None`: the text as it came.
    pub(super) text: Option<String>,
    /// Statements of ours in that text, counted as the server counts them, ascending.
    pub(super) spliced: Vec<u32>,
    /// The attribution is to be set again by a request of its own.
    pub(super) restore_after: bool,
}

/// Whether a statement's settings touch what attributes the session.
pub(super) fn touches_attribution(statement: &StatementProfile) -> bool {
    statement
        .settings
        .iter()
        .any(|change| change.by == By::Statement && (names_application(change) || clears(change)))
}

/// Plans the text of a simple query.
pub(super) fn plan(statement: &Statement, attribution: &Attribution) -> Plan {
    let mut plan = Plan::default();
    if !statement.touches_attribution {
        return plan;
    }
    let alone = statement.profiles.len() == 1;
    let mut text = String::new();
    let mut copied = 0;
    let mut on_server = 0;
    for profile in &statement.profiles {
        if let Some(renamed) = renamed(profile, attribution) {
            text.push_str(
                statement
                    .text
                    .get(copied..profile.span.start)
                    .unwrap_or_default(),
            );
            text.push_str(&renamed);
            copied = profile.span.end;
        }
        on_server += 1;
        if profile.settings.iter().any(clears) {
            // DISCARD ALL refuses to run beside others, so alone it stays alone.
            if alone {
                plan.restore_after = true;
                continue;
            }
            text.push_str(
                statement
                    .text
                    .get(copied..profile.span.end)
                    .unwrap_or_default(),
            );
            copied = profile.span.end;
            text.push_str("; ");
            text.push_str(&restore(attribution));
            plan.spliced.push(on_server);
            on_server += 1;
        }
    }
    if copied > 0 {
        text.push_str(statement.text.get(copied..).unwrap_or_default());
        plan.text = Some(text);
    }
    plan
}

/// The text to prepare in place of the agent's, if it sets an application name.
pub(super) fn prepared_text(statement: &Statement, attribution: &Attribution) -> Option<String> {
    let [profile] = statement.profiles.as_slice() else {
        return None;
    };
    statement
        .touches_attribution
        .then(|| renamed(profile, attribution))
        .flatten()
}

/// Whether running the statement leaves the session without its attribution.
pub(super) fn clears_attribution(statement: &Statement) -> bool {
    statement.touches_attribution
        && statement
            .profiles
            .iter()
            .any(|profile| profile.settings.iter().any(clears))
}

/// The statement that sets a session's attribution again.
pub(super) fn restore(attribution: &Attribution) -> String {
    let mut text = String::from("SELECT ");
    let settings = attribution.settings();
    for (index, (name, value)) in settings.enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        // Writing to a String does not fail.
        _ = write!(
            text,
            "{separator}pg_catalog.set_config({}, {}, false)",
            literal(name),
            literal(value)
        );
    }
    text
}

fn renamed(profile: &StatementProfile, attribution: &Attribution) -> Option<String> {
    let [change] = profile.settings.as_slice() else {
        return None;
    };
    let Change::Set(value) = &change.change else {
        return None;
    };
    if !names_application(change) {
        return None;
    }
    let scope = match change.scope {
        Scope::Session => "SESSION",
        Scope::Local => "LOCAL",
        Scope::Transaction | Scope::Stored => return None,
    };
    let [value] = value.as_slice() else {
        return None;
    };
    Some(format!(
        "SET {scope} application_name = {}",
        attribution.rewritten(value)
    ))
}

fn names_application(change: &SettingChange) -> bool {
    change.name == "application_name"
}

fn clears(change: &SettingChange) -> bool {
    match change.change {
        Change::ResetAll | Change::DiscardAll => true,
        Change::Reset | Change::Default => names_application(change),
        Change::Set(_) | Change::Opaque => false,
    }
}

/// A string constant for a session with `standard_conforming_strings = on`.
fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribution() -> Attribution {
        Attribution::new("corp", "bot", Some("psql"), false).unwrap()
    }

    fn check(text: &str, expected: Option<&str>, spliced: &[u32], restore_after: bool) {
        let batch = policy::sql::postgres::profile(text, &Default::default());
        let planned = plan(&Statement::new(text, "", batch.statements), &attribution());
        assert_eq!(planned.text.as_deref(), expected, "{text}");
        assert_eq!(planned.spliced, spliced, "{text}");
        assert_eq!(planned.restore_after, restore_after, "{text}");
    }

    const RESTORE: &str = "SELECT pg_catalog.set_config('application_name', 'corp/bot psql', false), \
                           pg_catalog.set_config('sallyport.subject', 'corp/bot', false)";

    #[test]
    fn what_does_not_touch_the_attribution_goes_as_it_came() {
        check(
            "select 1; reset search_path; set timezone = 'UTC'",
            None,
            &[],
            false,
        );
        check("", None, &[], false);
    }

    #[test]
    fn a_name_that_a_client_gives_itself_becomes_a_suffix() {
        check(
            "SET application_name = 'it''s me'",
            Some("SET SESSION application_name = 'corp/bot it?s me'"),
            &[],
            false,
        );
        check(
            "select 1; set local application_name to x; select 2",
            Some("select 1; SET LOCAL application_name = 'corp/bot x'; select 2"),
            &[],
            false,
        );
    }

    #[test]
    fn a_reset_that_stands_alone_is_followed_by_a_request_of_ours() {
        for text in [
            "RESET ALL",
            "discard all;",
            "reset application_name",
            "set application_name to default",
            "/* x */ reset all -- y",
        ] {
            check(text, None, &[], true);
        }
    }

    #[test]
    fn a_reset_inside_a_batch_is_followed_by_a_statement_of_ours() {
        check(
            "reset all; select 1",
            Some(&format!("reset all; {RESTORE}; select 1")),
            &[1],
            false,
        );
        check(
            "select 1; reset application_name; reset all",
            Some(&format!(
                "select 1; reset application_name; {RESTORE}; reset all; {RESTORE}"
            )),
            &[2, 4],
            false,
        );
    }

    #[test]
    fn the_read_only_lock_is_restored_with_the_name() {
        let locked = Attribution::new("corp", "bot", None, true).unwrap();
        assert!(
            restore(&locked).ends_with("set_config('default_transaction_read_only', 'on', false)")
        );
    }
}
