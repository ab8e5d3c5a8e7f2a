//! Texts that differ only in literals: which may share a profile, and that those which may have it.

use policy::sql::postgres::write_shape;
use policy::sql::{Batch, StatementProfile};

use crate::support::batch;

fn shape(text: &str) -> Option<Vec<u8>> {
    let mut shape = Vec::new();
    write_shape(text, &mut shape).map(|_| shape)
}

/// The profiles without what is allowed to differ.
fn without_spans(batch: Batch) -> Vec<StatementProfile> {
    let statements = batch.statements.into_iter();
    statements
        .map(|statement| StatementProfile {
            span: 0..0,
            ..statement
        })
        .collect()
}

#[test]
fn ordinary_statements_share() {
    for text in [
        "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;",
        "SELECT * FROM t WHERE a = 1 AND b = 'x' AND c IN (1, 2, 3) AND d BETWEEN 1.5 AND 2.5",
        "SELECT a, 5, 'x' AS y FROM t WHERE NOT (a < -5 OR b LIKE 'x%') ORDER BY a LIMIT 10 OFFSET 20",
        "SELECT count(*), max(b) FROM t WHERE lower(c) = 'x' GROUP BY a HAVING count(*) > 3",
        "SELECT coalesce(a, 0), CASE WHEN b = 1 THEN 'x' ELSE 'y' END FROM t",
        "SELECT * FROM t WHERE at > now() - '1 day'::interval AND d = date '2026-01-01'",
        "SELECT * FROM t WHERE tags @> '{a}' AND doc->>'k' = 'v' AND a = ANY (ARRAY[1, 2])",
        "SELECT * FROM a JOIN b ON a.x = b.x AND b.y = 2 WHERE EXISTS (SELECT 1 FROM c WHERE z = 3)",
        "SELECT extract(year FROM at), at AT TIME ZONE 'UTC' FROM t WHERE id = 1",
        "SELECT * FROM t WHERE id = 7 FOR UPDATE",
        "WITH x AS (SELECT * FROM t WHERE id = 7) SELECT * FROM x WHERE a > 1",
        "INSERT INTO t (a, b) VALUES (1, 'x'), (2, DEFAULT) RETURNING id",
        "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 'x'",
        "UPDATE pgbench_accounts SET abalance = abalance + -417 WHERE aid = 1;",
        "DELETE FROM \"T\" WHERE \"Id\" = 7",
        "DELETE FROM t WHERE a = 1 OR a = 2 OR b > 3 AND c IN (4, 5)",
        "DELETE FROM t WHERE a > 1 OR a < 2",
        "SELECT f('x'), s.g(1)",
        "SELECT generate_series(1, 10)",
    ] {
        assert!(!batch(text).literals_decide, "{text}");
        assert!(shape(text).is_some(), "{text}");
    }
}

/// Of each pair one does something that the other does not: whatever the first was judged as must
/// not be taken for the second.
#[test]
fn texts_whose_literals_decide_do_not_share() {
    for (one, other) in [
        ("SELECT nextval('a')", "SELECT nextval('b')"),
        // Which column decides.
        (
            "SELECT a, b FROM t ORDER BY 1",
            "SELECT a, b FROM t ORDER BY 2",
        ),
        (
            "SELECT a, b FROM t GROUP BY 1, 2",
            "SELECT a, b FROM t GROUP BY 2, 1",
        ),
        (
            "SELECT DISTINCT ON (1) a, b FROM t",
            "SELECT DISTINCT ON (2) a, b FROM t",
        ),
        (
            "SELECT a, b FROM t GROUP BY ROLLUP (1)",
            "SELECT a, b FROM t GROUP BY ROLLUP (2)",
        ),
        ("SELECT setval('a', 1)", "SELECT setval('pg_catalog.b', 1)"),
        (
            "SELECT set_config('work_mem', '1', false)",
            "SELECT set_config('role', '1', false)",
        ),
        (
            "SELECT set_config('application_name', 'a', false)",
            "SELECT set_config('search_path', 'a', false)",
        ),
        (
            "SELECT * FROM a WHERE set_config('x.y', 'a', true) = 'b'",
            "SELECT * FROM a WHERE set_config('sallyport.subject', 'a', true) = 'b'",
        ),
        (
            "SELECT query_to_xml('SELECT 1', true, true, 'x')",
            "SELECT query_to_xml('DROP TABLE x', true, true, 'x')",
        ),
        (
            "SELECT ts_stat('SELECT a')",
            "SELECT ts_stat('DELETE FROM a')",
        ),
        (
            "SELECT table_to_xml('a', true, true, 'x')",
            "SELECT table_to_xml('b', true, true, 'x')",
        ),
        (
            "SELECT pg_input_is_valid('1', 'integer')",
            "SELECT pg_input_is_valid('1', 'mine')",
        ),
        ("SELECT pg_notify('a', 'x')", "SELECT pg_notify('b', 'x')"),
        (
            "SELECT pg_read_file('a')",
            "SELECT pg_read_file('/etc/passwd')",
        ),
        ("SELECT lo_export(1, 'a')", "SELECT lo_export(1, 'b')"),
        (
            "SELECT pg_sleep(1), nextval('a')",
            "SELECT pg_sleep(1), nextval('b')",
        ),
        (
            "SELECT (SELECT nextval('a'))",
            "SELECT (SELECT nextval('b'))",
        ),
        (
            "SELECT x FROM a ORDER BY nextval('a')",
            "SELECT x FROM a ORDER BY nextval('b')",
        ),
        (
            "INSERT INTO t VALUES (nextval('a'))",
            "INSERT INTO t VALUES (nextval('b'))",
        ),
        (
            "UPDATE t SET x = nextval('a') WHERE y = 1",
            "UPDATE t SET x = nextval('b') WHERE y = 1",
        ),
        (
            "SELECT nextval('a'::regclass)",
            "SELECT nextval('b'::regclass)",
        ),
        (
            "SELECT nextval(regclass 'a')",
            "SELECT nextval(regclass 'b')",
        ),
        (
            "SELECT lower(nextval('a')::text)",
            "SELECT lower(nextval('b')::text)",
        ),
        ("SET work_mem = '1MB'", "SET work_mem = '2MB'"),
        ("SET application_name = 'a'", "SET application_name = 'b'"),
        ("SET search_path = 'a'", "SET search_path = 'b'"),
        ("SET ROLE 'a'", "SET ROLE 'b'"),
        (
            "SET SESSION AUTHORIZATION 'a'",
            "SET SESSION AUTHORIZATION 'b'",
        ),
        (
            "SET client_encoding = 'UTF8'",
            "SET client_encoding = 'SJIS'",
        ),
        (
            "SET default_transaction_read_only = 1",
            "SET default_transaction_read_only = 0",
        ),
        ("ALTER SYSTEM SET x = 'a'", "ALTER SYSTEM SET x = 'b'"),
        ("CREATE USER u PASSWORD 'a'", "CREATE USER u PASSWORD 'bcd'"),
        (
            "ALTER USER u VALID UNTIL '2020-01-01'",
            "ALTER USER u VALID UNTIL '2030-01-01'",
        ),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'a' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION 'b' PUBLICATION p",
        ),
        ("COPY a TO 'x'", "COPY a TO 'y'"),
        ("COPY a TO PROGRAM 'x'", "COPY a TO PROGRAM 'rm'"),
        (
            "COPY a FROM STDIN (FORMAT 'csv')",
            "COPY a FROM STDIN (FORMAT 'text')",
        ),
        (
            "EXPLAIN (ANALYZE 0) DELETE FROM a",
            "EXPLAIN (ANALYZE 1) DELETE FROM a",
        ),
        (
            "EXPLAIN (ANALYZE 'off') DELETE FROM a",
            "EXPLAIN (ANALYZE 'on') DELETE FROM a",
        ),
        ("EXECUTE p(1)", "EXECUTE p(2)"),
        ("PREPARE p AS SELECT 1", "PREPARE p AS SELECT 2"),
        (
            "DECLARE c CURSOR FOR SELECT 1",
            "DECLARE c CURSOR FOR SELECT 2",
        ),
        ("FETCH 1 FROM c", "FETCH 2 FROM c"),
        ("NOTIFY a, 'x'", "NOTIFY a, 'y'"),
        ("PREPARE TRANSACTION 'a'", "PREPARE TRANSACTION 'b'"),
        ("DO 'a'", "DO 'b'"),
        ("CALL p('a')", "CALL p('b')"),
        ("LOAD 'a'", "LOAD 'b'"),
        ("COMMENT ON TABLE a IS 'x'", "COMMENT ON TABLE a IS 'y'"),
        (
            "CREATE TABLE a (x int DEFAULT 1)",
            "CREATE TABLE a (x int DEFAULT 2)",
        ),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'DROP'",
        ),
        (
            "MERGE INTO a USING b ON a.x = 1 WHEN MATCHED THEN DELETE",
            "MERGE INTO a USING b ON a.x = 2 WHEN MATCHED THEN DELETE",
        ),
        (
            "DELETE FROM a WHERE x LIKE 'b%'",
            "DELETE FROM a WHERE x LIKE '%'",
        ),
        (
            "UPDATE a SET y = 1 WHERE x ~ 'b'",
            "UPDATE a SET y = 1 WHERE x ~ '.*'",
        ),
        (
            "DELETE FROM a WHERE x * 2 = 0",
            "DELETE FROM a WHERE x * 0 = 0",
        ),
        (
            "DELETE FROM a WHERE x % 2 = 0",
            "DELETE FROM a WHERE x % 1 = 0",
        ),
        (
            "DELETE FROM a WHERE id IN (SELECT id FROM a WHERE x & 8 = 0)",
            "DELETE FROM a WHERE id IN (SELECT id FROM a WHERE x & 0 = 0)",
        ),
        // The precision picks the type.
        ("SELECT x::float(24) FROM a", "SELECT x::float(25) FROM a"),
        ("SELECT x::varchar(1) FROM a", "SELECT x::varchar(2) FROM a"),
        (
            "SELECT x::numeric(1, 2) FROM a",
            "SELECT x::numeric(3, 4) FROM a",
        ),
        ("SELECT interval(3) '1 day'", "SELECT interval(4) '1 day'"),
        (
            "SELECT * FROM a TABLESAMPLE system (1)",
            "SELECT * FROM a TABLESAMPLE system (2)",
        ),
        (
            "SELECT * FROM f(1) AS x(y varchar(1))",
            "SELECT * FROM f(1) AS x(y varchar(2))",
        ),
        (
            "SELECT xmlroot(x, version '1.0') FROM a",
            "SELECT xmlroot(x, version '1.1') FROM a",
        ),
        // More than one statement, and what is none.
        ("SELECT 1; SELECT 2", "SELECT 2; SELECT 1"),
        ("BEGIN; SELECT 1", "BEGIN; SELECT 2"),
        ("SELEC 1", "SELEC 2"),
        ("1", "2"),
    ] {
        for text in [one, other] {
            assert!(batch(text).literals_decide, "{text}");
        }
        assert_eq!(shape(one), shape(other), "{one} and {other}: not a pair");
    }
}

#[test]
fn a_text_that_is_unknown_for_what_a_literal_holds_has_no_shape() {
    let text = |literal: &str| format!("SELECT * FROM a WHERE b = '{literal}'");
    let (short, long) = (text("x"), text(&"=".repeat(5000)));
    assert!(!batch(&short).literals_decide);
    assert!(batch(&long).literals_decide);
    assert_eq!(shape(&long), None);
}

#[test]
fn texts_of_different_tokens_differ_in_shape() {
    for (one, other) in [
        ("SELECT 1", "SELECT '1'"),
        ("SELECT 1", "SELECT -1"),
        ("SELECT 2147483647", "SELECT 2147483648"),
        ("SELECT 'a'", "SELECT 'a''; DROP TABLE x; --'"),
        ("SELECT 'a'", "SELECT 'a'; DROP TABLE x; --'"),
        ("SELECT 'a'", "SELECT E'a'"),
        ("SELECT 'a', 'b'", "SELECT 'a''b'"),
        ("SELECT 'a'", "SELECT 'a'\n'b'"),
        (
            "SELECT a FROM b WHERE c = 1",
            "SELECT a FROM b WHERE c = 1 OR 1 = 1",
        ),
        ("SELECT a", "SELECT \"a\""),
        ("SELECT 1", "SELECT 1e9"),
        ("SELECT 1", "SELECT 0x1"),
    ] {
        let (one_shape, other_shape) = (shape(one), shape(other));
        assert!(
            one_shape != other_shape || one_shape.is_none(),
            "{one} and {other}"
        );
    }
}

/// Literals that mean something where a literal means something.
const INTEGERS: &[&str] = &["0", "1", "2147483647", "26"];
const NUMBERS: &[&str] = &["0.0", "1.5", "2147483648"];
const STRINGS: &[&str] = &[
    "''",
    "'on'",
    "'a.b'",
    "'pg_authid'",
    "'search_path'",
    "'sallyport.subject'",
    "'DROP TABLE x'",
    "'/etc/passwd'",
    "'-- '",
];

/// `text` with its literals replaced, by libpg_query's own scanner.
fn with_other_literals(text: &str, turn: usize) -> Option<String> {
    use pg_query::protobuf::Token;
    let mut out = String::new();
    let mut copied = 0;
    for (index, token) in pg_query::scan(text).ok()?.tokens.iter().enumerate() {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others are no literals")]
        let choices = match token.token() {
            Token::Iconst => INTEGERS,
            Token::Fconst => NUMBERS,
            Token::Sconst => STRINGS,
            _ => continue,
        };
        out.push_str(text.get(copied..usize::try_from(token.start).ok()?)?);
        out.push_str(choices.get((index + turn) % choices.len())?);
        copied = usize::try_from(token.end).ok()?;
    }
    out.push_str(text.get(copied..)?);
    Some(out)
}

/// Every text of the tables, with other literals, has the profile that it would be given.
#[test]
fn what_shares_a_shape_has_the_same_profile() {
    let effects = include_str!("../data/effects.txt");
    let kinds = include_str!("../data/kinds.txt");
    let texts = effects
        .lines()
        .filter_map(|line| line.split_once(" => "))
        .map(|(text, _)| text)
        .chain(kinds.lines());
    let mut shared = 0;
    for text in texts.filter(|text| shape(text).is_some()) {
        let profile = batch(text);
        if profile.literals_decide {
            continue;
        }
        let expected = without_spans(profile);
        for turn in 0..STRINGS.len() {
            let other = with_other_literals(text, turn).unwrap();
            assert_eq!(shape(&other), shape(text), "{other}");
            assert_eq!(without_spans(batch(&other)), expected, "{other}");
            shared += usize::from(other != text);
        }
    }
    assert!(shared > 200, "only {shared} texts were tried");
}
