//! PostgreSQL's built-in functions, operators and catalogue relations by what using them does.
//!
//! The knowledge is `functions.txt`; this file reads it. Functions of users are not here.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a call of a built-in function does beside reading its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Call {
    /// Nothing.
    Read,
    SetConfig,
    SetSeed,
    SequenceUpdate,
    RelationSelect,
    SchemaSelect,
    DatabaseSelect,
    /// Runs the SQL text in the first argument.
    TextFirst,
    /// Runs the SQL text in the second argument, when there are two.
    TextSecond,
    /// Reads the text in the first argument as a value of the type that the second names.
    TypedInput,
    Cursor,
    LargeObjectSelect,
    LargeObjectInsert,
    LargeObjectUpdate,
    LargeObjectDelete,
    LargeObjectImport,
    LargeObjectExport,
    Notify,
    Transaction,
    Lock,
    Maintenance,
    File,
    Replication,
    Admin,
}

/// What reading a catalogue relation shows beside its own rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shows {
    /// Other sessions, secrets or the server's configuration.
    Server,
    /// Values of other tables.
    Data,
}

/// The built-in function of that name, in `pg_catalog` or `information_schema`.
pub(super) fn built_in(name: &str) -> Option<Call> {
    TABLE.functions.get(name).copied()
}

/// Whether a call of the built-in function of that name only reads its arguments.
pub(crate) fn is_harmless(name: &str) -> bool {
    built_in(name) == Some(Call::Read)
}

pub(super) fn is_operator(name: &str) -> bool {
    TABLE.operators.contains_key(name)
}

pub(super) fn shows(relation: &str) -> Option<Shows> {
    TABLE.shows.get(relation).copied()
}

/// `pg_catalog` has a relation of this name on every server.
pub(crate) fn is_catalogue_relation(name: &str) -> bool {
    TABLE.relations.contains_key(name)
}

#[derive(Default)]
struct Table {
    functions: HashMap<&'static str, Call>,
    operators: HashMap<&'static str, ()>,
    relations: HashMap<&'static str, ()>,
    shows: HashMap<&'static str, Shows>,
}

/// Scope: per process, made at first use from a constant, never changed.
static TABLE: LazyLock<Table> = LazyLock::new(|| read(include_str!("functions.txt")));

/// The meaning of a section's title.
enum Section {
    Functions(Call),
    Relations(Shows),
    Operators,
    Catalogue,
}

fn section(title: &str) -> Option<Section> {
    Some(match title {
        "read" | "read-volatile" => Section::Functions(Call::Read),
        "set-config" => Section::Functions(Call::SetConfig),
        "set-seed" => Section::Functions(Call::SetSeed),
        "sequence-update" => Section::Functions(Call::SequenceUpdate),
        "relation-select" => Section::Functions(Call::RelationSelect),
        "schema-select" => Section::Functions(Call::SchemaSelect),
        "database-select" => Section::Functions(Call::DatabaseSelect),
        "text-first" => Section::Functions(Call::TextFirst),
        "text-second" => Section::Functions(Call::TextSecond),
        "typed-input" => Section::Functions(Call::TypedInput),
        "cursor" => Section::Functions(Call::Cursor),
        "large-object-select" => Section::Functions(Call::LargeObjectSelect),
        "large-object-insert" => Section::Functions(Call::LargeObjectInsert),
        "large-object-update" => Section::Functions(Call::LargeObjectUpdate),
        "large-object-delete" => Section::Functions(Call::LargeObjectDelete),
        "large-object-import" => Section::Functions(Call::LargeObjectImport),
        "large-object-export" => Section::Functions(Call::LargeObjectExport),
        "notify" => Section::Functions(Call::Notify),
        "transaction" => Section::Functions(Call::Transaction),
        "lock" => Section::Functions(Call::Lock),
        "maintenance" => Section::Functions(Call::Maintenance),
        "file" => Section::Functions(Call::File),
        "replication" => Section::Functions(Call::Replication),
        "admin" => Section::Functions(Call::Admin),
        "admin-relations" => Section::Relations(Shows::Server),
        "data-relations" => Section::Relations(Shows::Data),
        "operators" => Section::Operators,
        "relations" => Section::Catalogue,
        _ => return None,
    })
}

/// Words under a title that is not known are left out, so a call of one is not a built-in's; a
/// test holds that there is no such title.
fn read(text: &'static str) -> Table {
    let mut table = Table::default();
    let mut current = None;
    for line in text.lines().filter(|line| !line.starts_with(';')) {
        if let Some(title) = line.strip_prefix('[') {
            current = section(title.trim_end_matches(']'));
            continue;
        }
        for word in line.split_whitespace() {
            match current {
                Some(Section::Functions(call)) => {
                    table.functions.insert(word, call);
                }
                Some(Section::Relations(shows)) => {
                    table.shows.insert(word, shows);
                }
                Some(Section::Operators) => {
                    table.operators.insert(word, ());
                }
                Some(Section::Catalogue) => {
                    table.relations.insert(word, ());
                }
                None => {}
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_title_is_known_and_no_function_is_in_two_sections() {
        let mut seen = HashMap::new();
        let mut title = "";
        for line in include_str!("functions.txt").lines() {
            if line.starts_with(';') {
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                title = rest.trim_end_matches(']');
                assert!(section(title).is_some(), "{title}");
                continue;
            }
            if !matches!(section(title), Some(Section::Functions(_))) {
                continue;
            }
            for word in line.split_whitespace() {
                assert_eq!(seen.insert(word, title), None, "{word}");
            }
        }
        assert!(seen.len() > 2500);
    }

    #[test]
    fn what_reaches_out_is_not_a_read() {
        for (name, call) in [
            ("pg_terminate_backend", Call::Admin),
            ("pg_read_file", Call::File),
            ("pg_advisory_lock", Call::Lock),
            ("query_to_xml", Call::TextFirst),
            ("ts_rewrite", Call::TextSecond),
            ("domain_in", Call::TypedInput),
            ("set_config", Call::SetConfig),
            ("nextval", Call::SequenceUpdate),
            ("lo_export", Call::LargeObjectExport),
            ("lower", Call::Read),
            ("count", Call::Read),
            ("pg_sleep", Call::Read),
            ("_pg_expandarray", Call::Read),
        ] {
            assert_eq!(built_in(name), Some(call), "{name}");
        }
        assert_eq!(built_in("dblink"), None);
        assert!(is_operator("#>>") && is_operator("#") && !is_operator("<=>"));
        assert!(is_catalogue_relation("pg_class") && !is_catalogue_relation("orders"));
    }
}
