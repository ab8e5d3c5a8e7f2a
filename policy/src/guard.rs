//! Refusals that no rule can lift: what would blind the appliance or undo its second lock.
//!
//! Rules are judged in `decide`, which asks here first.

use crate::class::Class;
use crate::operation::SessionContext;
use crate::sql::{By, Change, Object, Schema, Scope, SettingChange, StatementProfile};

/// What a guard protects, and the name that it refuses under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guard {
    Attribution,
    Encoding,
    Strings,
    ReadOnly,
    Settings,
}

/// Every guard, for the documentation.
pub const GUARDS: &[Guard] = &[
    Guard::Attribution,
    Guard::Encoding,
    Guard::Strings,
    Guard::ReadOnly,
    Guard::Settings,
];

impl Guard {
    /// As a rule's name. No rule in a file can have a colon in its own.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Attribution => "sallyport:attribution",
            Self::Encoding => "sallyport:encoding",
            Self::Strings => "sallyport:strings",
            Self::ReadOnly => "sallyport:read-only",
            Self::Settings => "sallyport:settings",
        }
    }

    /// What it refuses, for the documentation.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Attribution => {
                "any change of a setting `sallyport.*`; of `application_name` other than by SET or RESET with a literal, which Sallyport answers by keeping the agent's name in front"
            }
            Self::Encoding => "`client_encoding` other than UTF8",
            Self::Strings => "`standard_conforming_strings` other than on",
            Self::ReadOnly => "in a read-only session, any way to make a transaction read-write",
            Self::Settings => {
                "`set_config` whose setting is not a literal; changing rows of `pg_settings`"
            }
        }
    }

    /// What a client reads.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Attribution => "this setting names the agent and cannot be changed this way",
            Self::Encoding => "client_encoding stays UTF8 through Sallyport",
            Self::Strings => "standard_conforming_strings stays on through Sallyport",
            Self::ReadOnly => "this session is read-only",
            Self::Settings => "a setting can be changed only where the statement names it",
        }
    }

    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Attribution => {
                "SET application_name = 'literal' is accepted; the agent's name stays in front of it"
            }
            Self::Encoding => "send UTF8, or convert with convert_to()",
            Self::Strings => "write E'...' where backslashes are escapes",
            Self::ReadOnly => "your rules on this target allow reading only",
            Self::Settings => "use SET, or set_config with the setting's name as a literal",
        }
    }
}

/// The guard that refuses the statement, if one does.
pub(crate) fn refuses(statement: &StatementProfile, session: &SessionContext<'_>) -> Option<Guard> {
    let by_row = statement.effects.iter().any(|effect| {
        let writes = matches!(
            effect.class,
            Class::Insert | Class::Update | Class::Delete | Class::Merge
        );
        writes
            && matches!(&effect.object, Object::Table(name)
            if name.name.as_deref() == Some("pg_settings")
                && match &name.schema {
                    Schema::Named(schema) => schema == "pg_catalog",
                    Schema::Path | Schema::Any => true,
                })
    });
    if by_row {
        return Some(Guard::Settings);
    }
    statement
        .settings
        .iter()
        .find_map(|change| protects(change, session))
}

fn protects(change: &SettingChange, session: &SessionContext<'_>) -> Option<Guard> {
    let restores = matches!(change.change, Change::Default | Change::Reset);
    match change.name.as_str() {
        "" => (change.change == Change::Opaque).then_some(Guard::Settings),
        "application_name" => {
            let literal = matches!(&change.change, Change::Set(values) if values.len() == 1);
            let rewritable = (literal || restores)
                && change.by == By::Statement
                && change.scope != Scope::Stored;
            (!rewritable).then_some(Guard::Attribution)
        }
        "client_encoding" => (!restores && !is_utf8(&change.change)).then_some(Guard::Encoding),
        "standard_conforming_strings" => {
            (!restores && !is_on(&change.change)).then_some(Guard::Strings)
        }
        "transaction_read_only" | "default_transaction_read_only" => {
            (session.read_only && !is_on(&change.change)).then_some(Guard::ReadOnly)
        }
        name if name.starts_with("sallyport.") => Some(Guard::Attribution),
        _ => None,
    }
}

/// PostgreSQL compares encoding names by their letters and digits alone.
fn is_utf8(change: &Change) -> bool {
    let Change::Set(values) = change else {
        return false;
    };
    let [value] = values.as_slice() else {
        return false;
    };
    let letters: String = value
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    letters == "utf8" || letters == "unicode"
}

/// A word that PostgreSQL surely reads as true.
fn is_on(change: &Change) -> bool {
    let Change::Set(values) = change else {
        return false;
    };
    let [value] = values.as_slice() else {
        return false;
    };
    ["on", "true", "yes", "1"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word))
}
