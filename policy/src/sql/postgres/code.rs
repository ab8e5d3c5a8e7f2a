//! What the bodies of functions and DO blocks say in plain sight.
//!
//! Code can do more than it shows (EXECUTE of a text that it puts together), so a block stays
//! `unknown`; but what it shows are effects like any other's, which rules can name. Statements are
//! found in the tokens of PostgreSQL's own scanner, without an understanding of PL/pgSQL: from a
//! keyword that begins a statement up to where it must end. A part that is no statement does not
//! parse, and says nothing.

use std::ops::Range;

use pg_query::Node;
use pg_query::NodeEnum;
use pg_query::protobuf::{self as p, ScanToken, Token};

use super::walker::string_of;

/// Longest body that is looked into.
///
/// Bytes. Bodies are read statement by statement, each by the parser, which costs more than reading
/// one text of the same length.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Most statements of a body that are looked at.
const STATEMENTS_MAX: usize = 500;

/// The language and the body that options of DO or CREATE FUNCTION name.
pub(super) fn body(options: &[Node]) -> Option<(&str, &str)> {
    // DO has it as default; a function without one is refused by the server.
    let mut language = "plpgsql";
    let mut body = None;
    for option in options {
        let Some(NodeEnum::DefElem(option)) = &option.node else {
            continue;
        };
        let value = option.arg.as_deref();
        match option.defname.as_str() {
            "language" => language = value.and_then(string_of)?,
            "as" => {
                body = match value.and_then(|value| value.node.as_ref()) {
                    Some(NodeEnum::String(text)) => Some(text.sval.as_str()),
                    Some(NodeEnum::List(p::List { items })) => match items.as_slice() {
                        [text] => string_of(text),
                        _ => None,
                    },
                    _ => None,
                }
            }
            _ => {}
        }
    }
    Some((language, body.filter(|body| body.len() <= BODY_BYTES_MAX)?))
}

/// The SQL texts that a body shows.
pub(super) fn statements(language: &str, body: &str) -> Vec<String> {
    if language.eq_ignore_ascii_case("sql") {
        return vec![body.to_owned()];
    }
    if !language.eq_ignore_ascii_case("plpgsql") || !super::scan::is_linear(body) {
        return Vec::new();
    }
    let Ok(scan) = pg_query::scan(body) else {
        return Vec::new();
    };
    let words: Vec<Word<'_>> = scan
        .tokens
        .iter()
        .filter_map(|token| Word::of(token, body))
        .collect();
    let mut found = Vec::new();
    let mut rest = words.as_slice();
    while let [first, after @ ..] = rest {
        if found.len() >= STATEMENTS_MAX {
            break;
        }
        rest = after;
        if first.is("execute") {
            // A text that is run, where it is a literal.
            if let [
                Word {
                    token: Token::Sconst,
                    text,
                    ..
                },
                ..,
            ] = after
                && let Some(text) = literal(text)
            {
                found.push(text);
            }
        } else if STARTS.iter().any(|start| first.is(start)) {
            let length = extent(after);
            let (statement, others) = after.split_at_checked(length).unwrap_or((after, &[]));
            rest = others;
            found.push(written(body, first, statement));
        }
    }
    found
}

/// Words that begin a statement. What begins or ends transactions and blocks is none.
const STARTS: &[&str] = &[
    "select", "insert", "update", "delete", "merge", "with", "values", "perform", "call",
    "truncate", "drop", "create", "alter", "grant", "revoke", "copy", "set", "reset", "lock",
    "notify", "listen", "refresh", "vacuum", "analyze", "reindex", "cluster", "comment", "do",
    "import", "reassign", "security",
];

struct Word<'t> {
    token: Token,
    text: &'t str,
    range: Range<usize>,
}

impl<'t> Word<'t> {
    fn of(token: &ScanToken, body: &'t str) -> Option<Self> {
        let range = usize::try_from(token.start).ok()?..usize::try_from(token.end).ok()?;
        let kind = token.token();
        if matches!(kind, Token::SqlComment | Token::CComment) {
            return None;
        }
        Some(Self {
            token: kind,
            text: body.get(range.clone())?,
            range,
        })
    }

    fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }
}

/// How many words from here on may belong to the statement that the word before began.
fn extent(words: &[Word<'_>]) -> usize {
    let mut parentheses = 0_usize;
    let mut cases = 0_usize;
    for (index, word) in words.iter().enumerate() {
        match word.text {
            "(" => parentheses += 1,
            ")" if parentheses == 0 => return index,
            ")" => parentheses -= 1,
            ";" => return index,
            _ if word.is("case") => cases += 1,
            _ if word.is("end") => cases = cases.saturating_sub(1),
            _ if cases == 0 && (word.is("loop") || word.is("then")) => return index,
            _ => {}
        }
    }
    words.len()
}

/// A statement as SQL: without the INTO of PL/pgSQL, which names variables.
fn written(body: &str, first: &Word<'_>, words: &[Word<'_>]) -> String {
    let begin = if first.is("perform") {
        "select"
    } else {
        first.text
    };
    let mut out = begin.to_owned();
    let keeps_into = first.is("insert") || first.is("merge") || first.is("import");
    let (mut copied, mut index) = (first.range.end, 0);
    let mut before = first;
    let mut is_first_into = true;
    while let Some(word) = words.get(index) {
        let is_into = word.is("into") && word.token == Token::Into;
        let is_kept = (keeps_into && is_first_into) || before.is("insert") || before.is("merge");
        if is_into && !is_kept {
            out.push_str(body.get(copied..word.range.start).unwrap_or_default());
            index += 1 + targets(words.get(index + 1..).unwrap_or_default());
            copied = words
                .get(index)
                .map_or_else(|| end_of(words, first), |word| word.range.start);
            out.push(' ');
        } else {
            is_first_into &= !is_into;
            index += 1;
        }
        before = word;
    }
    out.push_str(body.get(copied..end_of(words, first)).unwrap_or_default());
    out
}

fn end_of(words: &[Word<'_>], first: &Word<'_>) -> usize {
    words.last().map_or(first.range.end, |word| word.range.end)
}

/// How many words name the variables behind INTO: `STRICT a.b, c[1]`.
fn targets(words: &[Word<'_>]) -> usize {
    let mut taken = usize::from(words.first().is_some_and(|word| word.is("strict")));
    let mut expects_name = true;
    while let Some(word) = words.get(taken) {
        let joins = matches!(word.text, "," | ".");
        if !joins && !expects_name {
            break;
        }
        expects_name = joins;
        taken += 1;
    }
    taken
}

/// What a plain string literal says.
fn literal(text: &str) -> Option<String> {
    let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
    Some(inner.replace("''", "'"))
}
