//! From PostgreSQL's parse tree to effects, by a walk of our own.
//!
//! Judges nothing and resolves no names: that needs the session, and is done in `decide`.

mod code;
mod condition;
mod copy;
mod definition;
mod lineage;
mod literals;
mod scan;
mod setting;
mod shape;
mod walker;

use pg_query::protobuf::{RawStmt, Token};

use super::profile::{Batch, NamedStatementEffect, Object, Reason, RelyingOn, StatementProfile};
use crate::class::Class;
pub(crate) use lineage::Shape;
pub use lineage::lineage;
pub use shape::write_shape;
use walker::Walker;
pub(super) use walker::split_identifiers;

/// Bounds on what one text may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileLimits {
    /// Longest text that is parsed.
    ///
    /// Bytes. Default 1 MiB: parsing takes about 100 ns a byte, so a longer text would hold its
    /// shard up for more than a tenth of a second. A longer one is `unknown`.
    pub text_bytes: usize,
    /// Most statements in one text. Default 1,000; a text with more is `unknown`.
    pub statements: usize,
}

impl Default for ProfileLimits {
    fn default() -> Self {
        Self {
            text_bytes: 1 << 20,
            statements: 1000,
        }
    }
}

/// A call by number has no text.
const NO_TEXT: ProfileLimits = ProfileLimits {
    text_bytes: 0,
    statements: 0,
};

/// How many texts deep a text may hold a text that the server runs (`query_to_xml`).
const TEXT_DEPTH_MAX: u8 = 2;

/// What each statement of `text` does.
///
/// Never fails: what cannot be read is class [`Class::Unknown`], with the reason as its object.
/// The result depends on `text` and `limits` alone.
///
/// `text` must be what the server will read: UTF-8 without NUL, under
/// `standard_conforming_strings = on`.
#[must_use]
pub fn profile(text: &str, limits: &ProfileLimits) -> Batch {
    profile_within(text, limits, 0)
}

fn profile_within(text: &str, limits: &ProfileLimits, text_depth: u8) -> Batch {
    let tree = match parsed(text, limits, text_depth) {
        Ok(tree) => tree,
        Err(failure) => {
            let mut batch = unread(text, failure.reason);
            if let [statement] = batch.statements.as_mut_slice() {
                statement.parse_error = failure.message;
            }
            return batch;
        }
    };
    let mut looked_at_literal = false;
    let statements: Vec<_> = tree
        .stmts
        .iter()
        .map(|statement| {
            let (profile, looked) = statement_profile(text, statement, limits, text_depth);
            looked_at_literal |= looked;
            profile
        })
        .collect();
    let literals_decide = match (tree.stmts.as_slice(), statements.as_slice()) {
        ([statement], [profile]) if !looked_at_literal => {
            literals::decide(text, statement.stmt.as_deref(), profile)
        }
        _ => true,
    };
    Batch {
        statements,
        literals_decide,
    }
}

/// Why a text has no tree.
struct Unparsed {
    reason: Reason,
    /// What the parser says; quotes the text.
    message: Option<String>,
}

/// The tree of a text that is within its bounds.
fn parsed(
    text: &str,
    limits: &ProfileLimits,
    text_depth: u8,
) -> Result<pg_query::protobuf::ParseResult, Unparsed> {
    let refused = |reason| {
        let message = None;
        Err(Unparsed { reason, message })
    };
    if text.len() > limits.text_bytes {
        let limit = limits.text_bytes;
        return refused(Reason::TooLong { limit });
    }
    if text_depth > TEXT_DEPTH_MAX {
        return refused(Reason::TooDeep);
    }
    if !scan::is_linear(text) {
        return refused(Reason::OperatorRuns);
    }
    let tree = match pg_query::parse(text, 0) {
        Ok(parsed) => parsed.protobuf,
        Err(error) => {
            let reason = reason_of(&error);
            let message = match error {
                pg_query::Error::Parse(message) => Some(message),
                pg_query::Error::Decode(_)
                | pg_query::Error::Conversion(_)
                | pg_query::Error::InvalidJson(_)
                | pg_query::Error::InvalidPointer
                | pg_query::Error::Scan(_)
                | pg_query::Error::IsUtility(_)
                | pg_query::Error::Split(_) => None,
            };
            return Err(Unparsed { reason, message });
        }
    };
    if tree.stmts.len() > limits.statements {
        let limit = limits.statements;
        return refused(Reason::TooManyStatements { limit });
    }
    Ok(tree)
}

/// What a fast-path call of a function by its number does.
///
/// Only the functions of large objects are known by number: libpq and pgjdbc call them so. Any
/// other is `unknown`.
#[must_use]
pub fn function_call(oid: u32) -> StatementProfile {
    let name = match oid {
        952 => "lo_open",
        953 => "lo_close",
        954 => "loread",
        955 => "lowrite",
        956 => "lo_lseek",
        3170 => "lo_lseek64",
        957 => "lo_creat",
        715 => "lo_create",
        958 => "lo_tell",
        3171 => "lo_tell64",
        1004 => "lo_truncate",
        3172 => "lo_truncate64",
        964 => "lo_unlink",
        _ => "",
    };
    let mut walker = Walker::new(&NO_TEXT, 0);
    walker.called_by_number(name);
    walker.finish(0..0)
}

/// libpg_query reports its stack limit as a parse error, and the decoder of its tree allows 100
/// levels of messages.
fn reason_of(error: &pg_query::Error) -> Reason {
    match error {
        pg_query::Error::Decode(_) => Reason::TooDeep,
        pg_query::Error::Parse(message)
            if ["stack depth", "memory exhausted", "nested too deeply"]
                .iter()
                .any(|words| message.contains(words)) =>
        {
            Reason::TooDeep
        }
        pg_query::Error::Parse(_)
        | pg_query::Error::Conversion(_)
        | pg_query::Error::InvalidJson(_)
        | pg_query::Error::InvalidPointer
        | pg_query::Error::Scan(_)
        | pg_query::Error::IsUtility(_)
        | pg_query::Error::Split(_) => Reason::NotParsed,
    }
}

/// One statement over the whole text, of which nothing is known.
fn unread(text: &str, reason: Reason) -> Batch {
    Batch {
        statements: vec![StatementProfile {
            span: 0..text.len(),
            kind: "",
            effects: vec![super::profile::Effect::new(
                Class::Unknown,
                Object::Unread(reason),
            )],
            settings: Vec::new(),
            names: NamedStatementEffect::None,
            secrets: Vec::new(),
            transaction: None,
            changes_search_path: true,
            copy: None,
            opaque: true,
            relies_on: RelyingOn::default(),
            columns: None,
            parse_error: None,
        }],
        literals_decide: true,
    }
}

/// The profile, and whether a literal decided it in a place that [`literals`] takes for one where
/// none does.
fn statement_profile(
    text: &str,
    statement: &RawStmt,
    limits: &ProfileLimits,
    text_depth: u8,
) -> (StatementProfile, bool) {
    let start = usize::try_from(statement.stmt_location).unwrap_or(0);
    let length = usize::try_from(statement.stmt_len).unwrap_or(0);
    // A length of 0 is PostgreSQL's way to say "to the end of the text".
    let end = if length == 0 {
        text.len()
    } else {
        start.saturating_add(length).min(text.len())
    };
    let mut walker = Walker::new(limits, text_depth);
    walker.top(statement.stmt.as_deref());
    let looked_at_literal = walker.looked_at_literal;
    let secrets = std::mem::take(&mut walker.secrets);
    let mut profile = walker.finish(start..end);
    if !secrets.is_empty() {
        profile.secrets = literals_at(text, &secrets);
    }
    (profile, looked_at_literal)
}

/// The string literals that begin at, or are the first after, each of `locations`.
///
/// By PostgreSQL's own scanner. A text that it does not scan was not parsed either.
fn literals_at(text: &str, locations: &[usize]) -> Vec<std::ops::Range<usize>> {
    let Ok(scan) = pg_query::scan(text) else {
        return std::iter::once(0..text.len()).collect();
    };
    let literals: Vec<_> = scan
        .tokens
        .iter()
        .filter(|token| matches!(token.token(), Token::Sconst | Token::Usconst))
        .filter_map(|token| {
            let start = usize::try_from(token.start).ok()?;
            Some(start..usize::try_from(token.end).ok()?)
        })
        .collect();
    let mut found: Vec<_> = locations
        .iter()
        .filter_map(|at| {
            literals
                .iter()
                .find(|literal| literal.start >= *at)
                .cloned()
        })
        .collect();
    found.sort_by_key(|literal| literal.start);
    found.dedup();
    found
}
