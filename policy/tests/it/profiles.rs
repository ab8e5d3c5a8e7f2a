//! What a profile says besides effects: spans, settings, names, secrets, transactions.

use policy::class::{Class, ClassSet};
use policy::sql::{
    By, Change, CopyLayout, CopyStream, Handling, NODES, NamedStatementEffect, Scope,
    StatementProfile, TransactionControl,
};

use crate::support::batch;

fn only(text: &str) -> StatementProfile {
    let mut statements = batch(text).statements;
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0)
}

#[test]
fn spans_hold_each_statement_without_its_semicolon() {
    for (text, expected) in [
        ("SELECT 1", vec!["SELECT 1"]),
        ("SELECT 1;", vec!["SELECT 1"]),
        ("SELECT 1; SELECT 2 ;", vec!["SELECT 1", "SELECT 2 "]),
        (
            "/* ; */ SELECT 1;;\n-- ;\nSELECT 2",
            vec!["SELECT 1", "SELECT 2"],
        ),
        (
            "SELECT '\u{e9};'; SELECT 2",
            vec!["SELECT '\u{e9};'", "SELECT 2"],
        ),
    ] {
        let batch = batch(text);
        let spans: Vec<_> = batch
            .statements
            .iter()
            .map(|statement| &text[statement.span.clone()])
            .collect();
        assert_eq!(spans, expected, "{text}");
    }
}

#[test]
fn a_setting_is_reported_with_its_literal_scope_and_way() {
    let set = |values: &[&str]| Change::Set(values.iter().map(|v| (*v).to_owned()).collect());
    for (text, name, change, scope, by) in [
        (
            "SET application_name = 'a'",
            "application_name",
            set(&["a"]),
            Scope::Session,
            By::Statement,
        ),
        (
            "set session \"Application_Name\" to A",
            "application_name",
            set(&["a"]),
            Scope::Session,
            By::Statement,
        ),
        (
            "SET LOCAL application_name TO 'a''b'",
            "application_name",
            set(&["a'b"]),
            Scope::Local,
            By::Statement,
        ),
        (
            "SET application_name TO DEFAULT",
            "application_name",
            Change::Default,
            Scope::Session,
            By::Statement,
        ),
        (
            "RESET application_name",
            "application_name",
            Change::Reset,
            Scope::Session,
            By::Statement,
        ),
        (
            "RESET ALL",
            "",
            Change::ResetAll,
            Scope::Session,
            By::Statement,
        ),
        (
            "DISCARD ALL",
            "",
            Change::DiscardAll,
            Scope::Session,
            By::Statement,
        ),
        (
            "SET x.y = 1.5",
            "x.y",
            set(&["1.5"]),
            Scope::Session,
            By::Statement,
        ),
        (
            "SET TIME ZONE 'UTC'",
            "timezone",
            set(&["UTC"]),
            Scope::Session,
            By::Statement,
        ),
        (
            "SET TIME ZONE INTERVAL '1' HOUR",
            "timezone",
            Change::Opaque,
            Scope::Session,
            By::Statement,
        ),
        (
            "SET NAMES 'utf8'",
            "client_encoding",
            set(&["utf8"]),
            Scope::Session,
            By::Statement,
        ),
        (
            "SET SCHEMA 'a'",
            "search_path",
            set(&["a"]),
            Scope::Session,
            By::Statement,
        ),
        (
            "SET search_path = a, \"B\"",
            "search_path",
            set(&["a", "B"]),
            Scope::Session,
            By::Statement,
        ),
        (
            "SET ROLE x",
            "role",
            set(&["x"]),
            Scope::Session,
            By::Statement,
        ),
        (
            "BEGIN READ WRITE",
            "transaction_read_only",
            set(&["off"]),
            Scope::Transaction,
            By::Statement,
        ),
        (
            "SET TRANSACTION READ ONLY",
            "transaction_read_only",
            set(&["on"]),
            Scope::Transaction,
            By::Statement,
        ),
        (
            "ALTER ROLE r SET work_mem = 1",
            "work_mem",
            set(&["1"]),
            Scope::Stored,
            By::Statement,
        ),
        (
            "ALTER SYSTEM RESET work_mem",
            "work_mem",
            Change::Reset,
            Scope::Stored,
            By::Statement,
        ),
        (
            "SELECT set_config('Work_Mem', '1', true)",
            "work_mem",
            set(&["1"]),
            Scope::Local,
            By::Function,
        ),
        (
            "SELECT set_config('work_mem', $1, false)",
            "work_mem",
            Change::Opaque,
            Scope::Session,
            By::Function,
        ),
        (
            "SELECT set_config($1, '1', false)",
            "",
            Change::Opaque,
            Scope::Session,
            By::Function,
        ),
        // As pg_dump does it where the server has the setting.
        (
            "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings \
             WHERE name = 'restrict_nonsystem_relation_kind'",
            "restrict_nonsystem_relation_kind",
            set(&["view, foreign-table"]),
            Scope::Session,
            By::Function,
        ),
        (
            "SELECT set_config(name, 'x', false) FROM pg_catalog.pg_settings WHERE name = 'Role'",
            "role",
            set(&["x"]),
            Scope::Session,
            By::Function,
        ),
        (
            "SELECT set_config(name, '1', false) FROM pg_settings WHERE name <> 'work_mem'",
            "",
            Change::Opaque,
            Scope::Session,
            By::Function,
        ),
        (
            "SELECT set_config(name, '1', false) FROM pg_settings WHERE name = 'a' OR true",
            "",
            Change::Opaque,
            Scope::Session,
            By::Function,
        ),
        (
            "SELECT set_config(name, '1', false) FROM pg_settings, a WHERE name = 'work_mem'",
            "",
            Change::Opaque,
            Scope::Session,
            By::Function,
        ),
        (
            "SELECT set_config(s.name, '1', false) FROM pg_settings s WHERE name = 'work_mem'",
            "",
            Change::Opaque,
            Scope::Session,
            By::Function,
        ),
        (
            "SELECT set_config(name, '1', false) FROM a WHERE name = 'work_mem'",
            "",
            Change::Opaque,
            Scope::Session,
            By::Function,
        ),
        (
            "SELECT set_config(name, '1', false) FROM x.pg_settings WHERE name = 'work_mem'",
            "",
            Change::Opaque,
            Scope::Session,
            By::Function,
        ),
        (
            "WITH pg_settings AS (SELECT 'role' COLLATE x AS name) \
             SELECT set_config(name, '1', false) FROM pg_settings WHERE name = 'work_mem'",
            "",
            Change::Opaque,
            Scope::Session,
            By::Function,
        ),
        // Each query has columns of its own.
        (
            "SELECT (SELECT set_config(name, '1', false) FROM a) FROM pg_settings \
             WHERE name = 'work_mem'",
            "",
            Change::Opaque,
            Scope::Session,
            By::Function,
        ),
        // A cast that could change the text is not a literal.
        (
            "SELECT set_config('work_mem'::char(4), '1', false)",
            "",
            Change::Opaque,
            Scope::Session,
            By::Function,
        ),
    ] {
        let profile = only(text);
        let [found] = profile.settings.as_slice() else {
            panic!("{text}: {:?}", profile.settings);
        };
        assert_eq!(found.name, name, "{text}");
        assert_eq!(found.change, change, "{text}");
        assert_eq!(found.scope, scope, "{text}");
        assert_eq!(found.by, by, "{text}");
    }
}

#[test]
fn what_may_change_the_search_path_says_so_and_what_it_becomes() {
    for (text, changes, after) in [
        ("SET search_path = a, b", true, Some(vec!["a", "b"])),
        ("SET search_path = 'a, b'", true, Some(vec!["a, b"])),
        ("SET search_path TO ''", true, Some(vec![""])),
        (
            "SELECT set_config('search_path', 'A, \"B\"', false)",
            true,
            Some(vec!["a", "B"]),
        ),
        (
            "SELECT pg_catalog.set_config('search_path', '', false)",
            true,
            Some(vec![]),
        ),
        (
            "SELECT set_config('search_path', 'a,,b', false)",
            true,
            None,
        ),
        (
            "SELECT set_config('search_path', x, false) FROM a",
            true,
            None,
        ),
        (
            "SELECT set_config('search_path', 'a', false), f()",
            true,
            None,
        ),
        ("SET search_path TO DEFAULT", true, None),
        ("RESET ALL", true, None),
        ("DISCARD ALL", true, None),
        ("SET ROLE x", true, None),
        ("ROLLBACK", true, None),
        ("DO $$ $$", true, None),
        ("SELEC", true, None),
        ("ALTER ROLE r SET search_path = a", false, None),
        ("SET work_mem = 1", false, None),
        ("SELECT 1", false, None),
    ] {
        let profile = only(text);
        assert_eq!(profile.changes_search_path, changes, "{text}");
        let after = after.map(|path| path.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(profile.search_path_after(), after, "{text}");
    }
}

#[test]
fn prepared_statements_are_followed_by_name() {
    use NamedStatementEffect as N;
    for (text, expected) in [
        ("PREPARE \"P\" AS SELECT 1", N::Prepares("P".to_owned())),
        ("EXECUTE p(1)", N::Executes("p".to_owned())),
        ("EXPLAIN EXECUTE p", N::Executes("p".to_owned())),
        ("CREATE TABLE a AS EXECUTE p", N::Executes("p".to_owned())),
        ("DEALLOCATE p", N::Deallocates("p".to_owned())),
        ("DEALLOCATE ALL", N::DeallocatesAll),
        ("DISCARD ALL", N::DeallocatesAll),
        ("DISCARD PLANS", N::None),
        ("SELECT 1", N::None),
    ] {
        assert_eq!(only(text).names, expected, "{text}");
    }
}

#[test]
fn secrets_are_found_by_the_servers_own_scanner() {
    for (text, secrets) in [
        (
            "CREATE ROLE x LOGIN PASSWORD 'geheim' VALID UNTIL '2030-01-01'",
            vec!["'geheim'"],
        ),
        (
            "ALTER ROLE x ENCRYPTED PASSWORD $a$geheim$a$",
            vec!["$a$geheim$a$"],
        ),
        (
            "ALTER USER x PASSWORD U&'gehe\\0069m' CONNECTION LIMIT 1",
            vec!["U&'gehe\\0069m'"],
        ),
        (
            "ALTER ROLE x PASSWORD /* '1' */ E'ge\\'heim'",
            vec!["E'ge\\'heim'"],
        ),
        (
            "ALTER ROLE x PASSWORD NULL VALID UNTIL '2030-01-01'",
            vec![],
        ),
        (
            "CREATE USER MAPPING FOR x SERVER s OPTIONS (user 'u', password 'geheim')",
            vec!["'u'", "'geheim'"],
        ),
        (
            "CREATE SERVER s FOREIGN DATA WRAPPER f OPTIONS (host 'h', passwordx 'geheim')",
            vec!["'geheim'"],
        ),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'password=geheim' PUBLICATION p",
            vec!["'password=geheim'"],
        ),
        (
            "ALTER SUBSCRIPTION s CONNECTION 'password=geheim'",
            vec!["'password=geheim'"],
        ),
        (
            "ALTER SYSTEM SET primary_conninfo = 'password=geheim'",
            vec!["'password=geheim'"],
        ),
        ("SET x.secret = 'geheim'", vec!["'geheim'"]),
        ("SELECT 'geheim'", vec![]),
    ] {
        let found: Vec<_> = only(text)
            .secrets
            .iter()
            .map(|secret| &text[secret.clone()])
            .collect();
        assert_eq!(found, secrets, "{text}");
    }
    let text = "SELECT 'x'; ALTER ROLE x PASSWORD 'geheim'; SELECT 'y'";
    let found: Vec<_> = batch(text)
        .statements
        .iter()
        .flat_map(|statement| statement.secrets.clone())
        .map(|secret| &text[secret])
        .collect();
    assert_eq!(found, ["'geheim'"]);
}

fn text(delimiter: u8, null: &str, header: bool) -> CopyLayout {
    CopyLayout::Text {
        delimiter,
        null: null.to_owned(),
        header,
    }
}

#[test]
fn the_layout_of_copied_data_is_known() {
    let csv = |delimiter: u8, quote: u8, escape: u8, header: bool| CopyLayout::Csv {
        delimiter,
        quote,
        escape,
        null: String::new(),
        header,
    };
    let cases = [
        ("", Some(text(b'\t', "\\N", false))),
        (
            "(delimiter '|', null 'x', header)",
            Some(text(b'|', "x", true)),
        ),
        ("with delimiter '|' null 'x'", Some(text(b'|', "x", false))),
        ("csv", Some(csv(b',', b'"', b'"', false))),
        ("csv header", Some(csv(b',', b'"', b'"', true))),
        (
            "(format csv, quote '''', header false)",
            Some(csv(b',', b'\'', b'\'', false)),
        ),
        (
            r"(format 'csv', delimiter e'\t', escape '\', header on, force_quote *)",
            Some(csv(b'\t', b'"', b'\\', true)),
        ),
        ("(format binary)", Some(CopyLayout::Binary)),
        ("(encoding 'UTF8')", Some(text(b'\t', "\\N", false))),
        ("(encoding 'SJIS')", None),
        ("(format parquet)", None),
        ("(delimiter '||')", None),
        ("(unheard_of)", None),
    ];
    for (options, expected) in cases {
        let copy = only(&format!("COPY t TO STDOUT {options}")).copy;
        assert_eq!(copy, Some(CopyStream::ToStdout(expected)), "{options}");
    }
}

#[test]
fn transactions_copies_and_opaque_code_are_reported() {
    for (text, expected) in [
        ("BEGIN", TransactionControl::Begin),
        ("START TRANSACTION", TransactionControl::Begin),
        ("END", TransactionControl::Commit),
        ("ABORT", TransactionControl::Rollback),
        ("SAVEPOINT s", TransactionControl::Savepoint),
        ("RELEASE s", TransactionControl::Release),
        ("ROLLBACK TO s", TransactionControl::RollbackTo),
        ("PREPARE TRANSACTION 'x'", TransactionControl::Prepare),
        ("COMMIT PREPARED 'x'", TransactionControl::CommitPrepared),
        (
            "ROLLBACK PREPARED 'x'",
            TransactionControl::RollbackPrepared,
        ),
    ] {
        assert_eq!(only(text).transaction, Some(expected), "{text}");
    }
    assert_eq!(only("COPY a FROM STDIN").copy, Some(CopyStream::FromStdin));
    assert_eq!(
        only("COPY (SELECT 1) TO STDOUT").copy,
        Some(CopyStream::ToStdout(Some(text(b'\t', "\\N", false))))
    );
    assert_eq!(only("COPY a FROM '/x'").copy, None);
    for (text, opaque) in [
        ("DO $$ $$", true),
        ("CALL p()", true),
        ("SELECT f()", true),
        ("SELECT a <=> b FROM c", true),
        ("SELEC", true),
        ("SELECT lower('x') || 'y'", false),
    ] {
        assert_eq!(only(text).opaque, opaque, "{text}");
    }
}

#[test]
fn what_the_parser_says_is_kept_for_the_client() {
    let profile = only("SELEC 1");
    assert_eq!(
        profile.parse_error.as_deref(),
        Some("syntax error at or near \"SELEC\"")
    );
    assert_eq!(only("SELECT 1").parse_error, None);
}

#[test]
fn every_statement_kind_of_the_grammar_is_judged() {
    let statements: Vec<_> = NODES
        .iter()
        .filter(|(name, _)| name.ends_with("Stmt"))
        .collect();
    assert!(statements.len() > 110);
    for (name, handling) in statements {
        let expected = match *name {
            // Wrappers around a statement.
            "RawStmt" | "ReturnStmt" => Handling::Through,
            // Part of ALTER TABLE.
            "ReplicaIdentityStmt" => Handling::Through,
            "SetOperationStmt" | "PlassignStmt" => Handling::Unexpected,
            _ => Handling::Judged,
        };
        assert_eq!(*handling, expected, "{name}");
    }
    let mut names: Vec<_> = NODES.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), NODES.len(), "a node kind twice");
    assert_eq!(NODES.len(), 271);
}

/// One statement of each kind that the grammar can make; none of them ends as a part that is not
/// judged, which is where a kind without code of its own goes.
#[test]
fn no_statement_kind_is_left_without_code_of_its_own() {
    let mut kinds = std::collections::BTreeSet::new();
    for line in include_str!("../data/kinds.txt").lines() {
        let profile = only(line);
        assert!(
            !profile.classes().contains(Class::Unknown) || line.starts_with("DO "),
            "{line}: {:?}",
            profile.effects
        );
        assert_ne!(profile.classes(), ClassSet::EMPTY);
        kinds.insert(profile.kind);
    }
    let inside_others = [
        "RawStmt",
        "ReturnStmt",
        "ReplicaIdentityStmt",
        "SetOperationStmt",
        "PlassignStmt",
    ];
    let missing: Vec<_> = NODES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| name.ends_with("Stmt") && !inside_others.contains(name))
        .filter(|name| !kinds.contains(name))
        .collect();
    assert_eq!(missing, [""; 0]);
}
