//! What hostile texts cost: at each limit and one past it.

use policy::class::Class;
use policy::sql::postgres::{ProfileLimits, profile};
use policy::sql::{Object, Reason};

use crate::support::batch;

/// The reasons for which parts of the text are not known.
fn reasons(text: &str, limits: &ProfileLimits) -> Vec<Reason> {
    profile(text, limits)
        .statements
        .iter()
        .flat_map(|statement| &statement.effects)
        .filter_map(|effect| {
            let Object::Unread(reason) = effect.object else {
                return None;
            };
            assert_eq!(effect.class, Class::Unknown);
            Some(reason)
        })
        .collect()
}

fn check(text: &str, expected: &[Reason]) {
    let start = text.get(..60).unwrap_or(text);
    assert_eq!(
        reasons(text, &ProfileLimits::default()),
        expected,
        "{start}"
    );
}

#[test]
fn a_text_of_the_limit_is_read_and_one_byte_more_is_not() {
    let limits = ProfileLimits {
        text_bytes: 8,
        statements: 10,
    };
    assert_eq!(reasons("SELECT 1", &limits), []);
    assert_eq!(
        reasons("SELECT 12", &limits),
        [Reason::TooLong { limit: 8 }]
    );
}

#[test]
fn a_batch_of_the_limit_is_read_and_one_statement_more_is_not() {
    let limits = ProfileLimits {
        text_bytes: 1000,
        statements: 3,
    };
    assert_eq!(reasons("SELECT 1;SELECT 1;SELECT 1", &limits), []);
    assert_eq!(
        reasons("SELECT 1;SELECT 1;SELECT 1;SELECT 1", &limits),
        [Reason::TooManyStatements { limit: 3 }]
    );
}

#[test]
fn nesting_beyond_the_parsers_bounds_is_unknown() {
    for (open, close) in [
        ("SELECT (", ")"),
        ("SELECT * FROM (", ") x"),
        ("SELECT NOT ", ""),
        ("SELECT ~ ", ""),
    ] {
        let nested = |depth: usize| {
            format!("{}SELECT 1{}", open.repeat(depth), close.repeat(depth))
                .replace("NOT SELECT", "NOT")
                .replace("~ SELECT", "~")
        };
        assert_eq!(reasons(&nested(5), &ProfileLimits::default()), [], "{open}");
        check(&nested(500), &[Reason::TooDeep]);
    }
    // The tree's decoder stops at 100 levels; how many of them a construct takes differs by a
    // few between builds, so these stay clear of the exact number.
    let sum = |terms: usize| format!("SELECT 1{}", " + 1".repeat(terms));
    check(&sum(40), &[]);
    check(&sum(60), &[Reason::TooDeep]);
    check(&sum(5000), &[Reason::TooDeep]);
    let union = |arms: usize| format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(arms));
    check(&union(80), &[]);
    check(&union(120), &[Reason::TooDeep]);
    // Whether the parser runs out of depth or of grammar first depends on its stack.
    for text in [
        format!("SELECT {}1{}", "(".repeat(200_000), ")".repeat(200_000)),
        format!("SELECT {}", "(".repeat(200_000)),
        format!("SELECT a{}", "[1".repeat(100_000)),
    ] {
        let reasons = reasons(&text, &ProfileLimits::default());
        assert!(
            matches!(reasons.as_slice(), [Reason::TooDeep | Reason::NotParsed]),
            "{reasons:?}"
        );
    }
}

/// PostgreSQL's scanner reads `/*/*/*` and `+-+-+-` to their end for each two characters of them.
#[test]
fn runs_of_operator_characters_are_read_up_to_what_they_cost() {
    let comment = |bytes: usize| format!("SELECT 1 /*{}*/", "*".repeat(bytes - 4));
    check(&comment(4096), &[]);
    check(&comment(4097), &[Reason::OperatorRuns]);
    let lines = |count: usize| format!("SELECT 1{}", format!("\n{}", "-".repeat(64)).repeat(count));
    check(&lines(4096), &[]);
    check(&lines(4097), &[Reason::OperatorRuns]);
    for hours in [
        format!("{}{}", "/*".repeat(250_000), "*/".repeat(250_000)),
        format!("SELECT 1 {}1", "+-".repeat(500_000)),
        format!(
            "SELECT query_to_xml('{}', true, true, '')",
            "/*".repeat(100_000)
        ),
    ] {
        check(&hours, &[Reason::OperatorRuns]);
    }
}

#[test]
fn text_within_text_is_followed_two_levels() {
    let wrap = |inner: &str| {
        format!(
            "SELECT query_to_xml('{}', true, true, '')",
            inner.replace('\'', "''")
        )
    };
    let one = wrap("SELECT 1");
    check(&one, &[]);
    check(&wrap(&one), &[]);
    check(&wrap(&wrap(&one)), &[Reason::TooDeep]);
}

#[test]
fn a_statement_with_too_many_objects_is_unknown() {
    let tables = |count: usize| {
        let list: Vec<_> = (0..count).map(|index| format!("t{index}")).collect();
        format!("LOCK {}", list.join(", "))
    };
    check(&tables(2000), &[]);
    check(&tables(2001), &[Reason::TooManyEffects { limit: 2000 }]);
}

#[test]
fn long_flat_texts_are_read() {
    let list = vec!["1"; 100_000].join(", ");
    check(&format!("SELECT * FROM a WHERE id IN ({list})"), &[]);
    check(
        &format!(
            "SELECT * FROM a WHERE {}",
            vec!["x = 1"; 5000].join(" AND ")
        ),
        &[],
    );
    check(
        &format!(
            "INSERT INTO a VALUES {}",
            vec!["(1, 'x')"; 20_000].join(", ")
        ),
        &[],
    );
    let block = "DELETE FROM a WHERE id = 1; ".repeat(2000);
    let code = batch(&format!("DO $$ BEGIN {block} END $$"));
    // do, delete and unknown.
    assert_eq!(code.statements.first().unwrap().effects.len(), 3);
    let arms: Vec<_> = (0..5000)
        .map(|index| format!("x{index} = y{index} OR z = {index} AND NOT u > v"))
        .collect();
    check(&format!("DELETE FROM a WHERE {}", arms.join(" OR ")), &[]);
    let columns: Vec<_> = (0..20_000).map(|index| format!("x{index}")).collect();
    let (columns, reversed) = (columns.join(", "), columns.join(" , "));
    check(
        &format!("DELETE FROM a WHERE ({columns}) > ({reversed})"),
        &[],
    );
    let tables: Vec<_> = (0..2000)
        .map(|index| format!("x{index} AS (SELECT 1)"))
        .collect();
    check(&format!("WITH {} SELECT * FROM x0", tables.join(", ")), &[]);
    assert_eq!(batch(&";".repeat(100_000)).statements.len(), 0);
}

#[test]
fn a_text_with_a_nul_is_not_read() {
    check("SELECT 1\0; DROP TABLE x", &[Reason::NotParsed]);
}
