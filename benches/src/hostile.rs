//! Texts that an agent could send to keep a shard busy, of any length.

use std::fmt::Write;

/// Builds a text of about so many bytes.
type Build = fn(usize) -> String;

/// By name: each is long in a way of its own.
pub(crate) const TEXTS: &[(&str, Build)] = &[
    ("parentheses", |bytes| nested(bytes, "(", "1", ")")),
    ("subqueries", |bytes| {
        nested(bytes, "SELECT * FROM (", "SELECT 1", ") x")
    }),
    ("comments", |bytes| {
        format!("SELECT {} 1", nested(bytes, "/*", "", "*/"))
    }),
    ("operators", |bytes| {
        format!("SELECT 1 {} 1", "+-".repeat(bytes / 2))
    }),
    ("statements", |bytes| {
        repeated(bytes, "", ";", |n| format!("SELECT {n}"))
    }),
    ("list", |bytes| {
        let list = repeated(bytes, "", ",", |n| n.to_string());
        format!("SELECT a FROM t WHERE a IN ({list})")
    }),
    ("rows", |bytes| {
        repeated(bytes, "INSERT INTO t VALUES ", ",", |n| {
            format!("({n}, 'x{n}')")
        })
    }),
    ("literal", |bytes| format!("SELECT '{}'", "x".repeat(bytes))),
    ("tables", |bytes| {
        repeated(bytes, "SELECT 1 FROM ", ",", |n| format!("t{n}"))
    }),
    ("columns", |bytes| {
        let columns = repeated(bytes, "SELECT ", ",", |n| format!("c{n}"));
        format!("{columns} FROM t")
    }),
    ("conditions", |bytes| {
        repeated(bytes, "SELECT 1 FROM t WHERE ", " AND ", |n| {
            format!("a = {n}")
        })
    }),
    ("unions", |bytes| {
        repeated(bytes, "", " UNION ALL ", |n| format!("SELECT {n}"))
    }),
    ("names", |bytes| {
        repeated(bytes, "WITH ", ",", |n| format!("n{n} AS (SELECT 1)")) + " SELECT 1"
    }),
];

fn nested(bytes: usize, open: &str, inside: &str, close: &str) -> String {
    let depth = bytes / (open.len() + close.len());
    let nested = format!("{}{inside}{}", open.repeat(depth), close.repeat(depth));
    if open == "(" {
        format!("SELECT {nested}")
    } else {
        nested
    }
}

fn repeated(bytes: usize, start: &str, between: &str, part: impl Fn(usize) -> String) -> String {
    let mut text = String::with_capacity(bytes + 64);
    text.push_str(start);
    for number in 0.. {
        if number > 0 {
            text.push_str(between);
        }
        // Writing to a `String` does not fail.
        let _ = write!(text, "{}", part(number));
        if text.len() >= bytes {
            break;
        }
    }
    text
}
