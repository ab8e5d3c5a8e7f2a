//! The scanner against libpg_query's, on chosen texts and on generated ones.

use pg_query::protobuf::Token;
use proptest::prelude::*;

use super::*;

/// Kind and place of every literal, by PostgreSQL's own scanner; `None` for a text it refuses or
/// that has a literal of a kind that no shape leaves out.
fn literals_by_postgres(text: &str) -> Option<Vec<(u8, Range<usize>)>> {
    let scanned = pg_query::scan(text).ok()?;
    let mut found = Vec::new();
    for token in &scanned.tokens {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others are no literals")]
        let mark = match token.token() {
            Token::Iconst => INTEGER,
            Token::Fconst => NUMBER,
            Token::Sconst => STRING,
            Token::Bconst
            | Token::Xconst
            | Token::Usconst
            | Token::Uident
            | Token::SqlComment
            | Token::CComment => return None,
            _ => continue,
        };
        let start = usize::try_from(token.start).unwrap();
        found.push((mark, start..usize::try_from(token.end).unwrap()));
    }
    Some(found)
}

fn literals_by_us(text: &str) -> Option<Vec<(u8, Range<usize>)>> {
    let mut found = Vec::new();
    scan(text.as_bytes(), |literal| {
        found.push((literal.kind.mark(), literal.range));
    })?;
    Some(found)
}

/// What a text that has a shape must satisfy, and whether it has one.
fn agrees(text: &str) -> bool {
    let Some(ours) = literals_by_us(text) else {
        return false;
    };
    match literals_by_postgres(text) {
        Some(theirs) => assert_eq!(ours, theirs, "{text:?}"),
        // Both sides of one shape are refused then: see `only_values_are_left_out`.
        None => assert!(pg_query::scan(text).is_err(), "{text:?}"),
    }
    true
}

/// The tokens, with their text where it is not a literal's.
fn tokens(text: &str) -> Result<Vec<(i32, String)>, ()> {
    let scanned = pg_query::scan(text).map_err(|_| ())?;
    let tokens = scanned.tokens.iter().map(|token| {
        let is_literal = matches!(token.token(), Token::Iconst | Token::Fconst | Token::Sconst);
        let start = usize::try_from(token.start).unwrap();
        let end = usize::try_from(token.end).unwrap();
        let text = if is_literal { "" } else { &text[start..end] };
        (token.token, text.to_owned())
    });
    Ok(tokens.collect())
}

/// Another literal of the same kind for each of the text, by turns from the list.
fn with_other_literals(text: &str, turn: usize) -> Option<String> {
    let integers = ["0", "7", "2147483647", "0042", "1"];
    let numbers = [
        "2147483648",
        "0.0",
        "99999999999999999999999",
        "1.5",
        "0.10",
    ];
    let strings = [
        "''", "' '", "'--'", "'/*'", "'\"'", "'$$'", "'a;b'", "'é\n'",
    ];
    let mut out = String::new();
    let mut copied = 0;
    for (index, (mark, range)) in literals_by_us(text)?.into_iter().enumerate() {
        out.push_str(&text[copied..range.start]);
        out.push_str(match mark {
            INTEGER => integers[(index + turn) % integers.len()],
            NUMBER => numbers[(index + turn) % numbers.len()],
            _ => strings[(index + turn) % strings.len()],
        });
        copied = range.end;
    }
    out.push_str(&text[copied..]);
    Some(out)
}

fn shape_of(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    write_shape(text, &mut out).map(|_| out)
}

#[test]
fn literals_are_where_postgresql_finds_them() {
    for text in [
        "",
        "SELECT 1",
        "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;",
        "select 'a', 1.5, 2147483647, 2147483648, 007, -5, - 5, +5, 1-1, a-1",
        "SELECT a.b, \"C d\".\"é\", $1, $22 FROM t WHERE x='é' AND y IN (1,2,'3')",
        "SELECT a[1], a[1:2], b::text, '1'::int, x@>'{}', y||'z', z->'a'->>'b'",
        "SELECT 10/2, 10%3, 2^3, 1<2, 1<=2, 1<>2, !1, @-1, a~'b', a!~'b', a?'b', a&1, a&-1",
        "INSERT INTO t (a,b) VALUES (1,'a'),(2,'b c')",
        "SELECT f(a=>1), '', ''",
    ] {
        assert!(agrees(text), "{text:?} has no shape");
    }
}

#[test]
fn what_is_not_understood_has_no_shape() {
    for text in [
        // Strings that are more than a string.
        "SELECT E'a'",
        "SELECT e'\\''",
        "SELECT b'1'",
        "SELECT X'1F'",
        "SELECT N'a'",
        "SELECT U&'a'",
        "SELECT u&\"a\"",
        "SELECT 'a''b'",
        "SELECT 'a\\'",
        "SELECT 'a",
        "SELECT 'a'\n'b'",
        "SELECT 'a' \r\n 'b'",
        "SELECT 'a' 'b'",
        "SELECT 'a'b",
        "SELECT 'a'1",
        "SELECT $$a$$",
        "SELECT $x$a$x$",
        "SELECT a$1",
        "SELECT $a",
        "SELECT $1a",
        "SELECT $1.5",
        // Numbers that some version reads in another way.
        "SELECT 1e5",
        "SELECT 1.5e5",
        "SELECT 0x1F",
        "SELECT 1_000",
        "SELECT 1.",
        "SELECT .5",
        "SELECT 1..2",
        "SELECT 1.2.3",
        "SELECT 1a",
        "SELECT 1$2",
        "SELECT 1'a'",
        "SELECT a.1",
        "SELECT a.'b'",
        // Names that are more than a name.
        "SELECT \"a\"\"b\"",
        "SELECT \"\"",
        "SELECT \"a",
        "SELECT é",
        // Comments, and what only newer versions take for space.
        "SELECT 1 -- 2",
        "SELECT 1--2",
        "SELECT /* 1 */ 2",
        "SELECT a/*'*/",
        "SELECT\x0b1",
        "SELECT \u{a0}1",
        "SELECT \\x",
        "SELECT {}",
        "SELECT 1\0",
        "SELECT 'a\0'",
        "SELECT \x01",
    ] {
        assert_eq!(shape_of(text), None, "{text:?}");
    }
}

#[test]
fn kinds_of_literals_are_told_apart() {
    let integer = shape_of("SELECT 2147483647");
    assert_eq!(integer, shape_of("SELECT 00000000000000000000000000001"));
    assert_ne!(integer, shape_of("SELECT 2147483648"));
    assert_ne!(integer, shape_of("SELECT '1'"));
    assert_ne!(integer, shape_of("SELECT 1.0"));
    assert_ne!(integer, shape_of("SELECT -1"));
    assert_ne!(integer, shape_of("SELECT  1"));
    assert_ne!(integer, shape_of("SELECT $1"));
}

#[test]
fn no_text_is_the_shape_of_another() {
    let shape = shape_of("SELECT 1, 'a', 1.5").unwrap();
    assert!(std::str::from_utf8(&shape).is_err());
}

/// Pieces that tokens begin, end or change with; those that mostly have no shape are rarer.
fn pieces() -> impl Strategy<Value = String> {
    let plain = prop::sample::select(vec![
        "SELECT ",
        " FROM ",
        "a",
        "b",
        " c ",
        "x",
        "_",
        "1",
        "22",
        "0",
        "2147483647",
        "2147483648",
        "1.5",
        "'a'",
        "'é'",
        "''",
        " 'b' ",
        "\n'b'",
        "'a'\n",
        " 7 ",
        "\"a\"",
        "$1",
        "-",
        "/",
        "*",
        "+",
        "&",
        "|",
        "=",
        "<",
        "@",
        "~",
        "!",
        "?",
        "::",
        "(",
        ")",
        "[",
        "]",
        ",",
        ";",
        " ",
        "\n",
        "\r",
        ".",
    ]);
    let odd = prop::sample::select(vec![
        "E", "e", "U&", "N", "B", "X", "0x1", "..", "e5", "'", "'a\\'", "\\", "\"", "\"\"", "$",
        "$$", "$a$", "--", "/*", "*/", "#", "%", "^", "`", ":", ":=", "\t", "\x0b", "\x0c", "\0",
        "é", "\u{a0}", "{", "\x7f", "_1", ">",
    ]);
    let piece = prop_oneof![5 => plain, 1 => odd];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whatever_has_a_shape_has_postgresqls_literals(text in pieces()) {
        agrees(&text);
    }

    /// Two texts of one shape are the same tokens, or both of them none.
    #[test]
    fn only_values_are_left_out(text in pieces(), turn in 0_usize..40) {
        if let Some(other) = with_other_literals(&text, turn) {
            prop_assert_eq!(shape_of(&text), shape_of(&other), "{:?} and {:?}", &text, &other);
            prop_assert_eq!(tokens(&text), tokens(&other), "{:?} and {:?}", &text, &other);
        }
    }
}
