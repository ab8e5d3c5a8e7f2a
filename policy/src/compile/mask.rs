//! One mask: from words to columns, detectors and whom it hides from.

use super::Known;
use super::rule::patterns;
use super::scope::Scope;
use crate::mask::detect::{DetectError, DetectorSet, Kind, Wanted};
use crate::mask::{Detect, MaskRule, OnLost, Transform};
use crate::pattern::{ColumnPattern, Pattern};
use crate::rule::{REDACT, Reporter, Table, Words};

/// Keys that speak about columns, and have no meaning without any.
const OF_COLUMNS: [&str; 3] = ["deny_predicates", "clear_functions", "on_lost"];

/// A mask and whom it is about.
#[derive(Debug)]
pub(crate) struct Mask {
    pub(crate) rule: MaskRule,
    pub(crate) scope: Scope,
}

impl Mask {
    pub(super) fn compile(
        table: &Table,
        known: &Known<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Option<Self> {
        let before = reporter.problems.len();
        let scope = Scope::compile(table, known, reporter);
        let columns = patterns(table.words("columns"), reporter, ColumnPattern::parse);
        let clear_functions = patterns(table.words("clear_functions"), reporter, Pattern::parse);
        let detect = detect(table, reporter);
        let with = transform(table, reporter);
        check_hides_something(table, reporter);
        if reporter.problems.len() > before {
            return None;
        }
        Some(Self {
            rule: MaskRule {
                name: table.text("name")?.value.clone(),
                columns: columns.unwrap_or_default(),
                detect,
                with: with?,
                deny_predicates: table.flag("deny_predicates"),
                clear_functions: clear_functions.unwrap_or_default(),
                on_lost: match table.text("on_lost") {
                    Some(word) if word.value == REDACT => OnLost::Redact,
                    Some(_) | None => OnLost::Deny,
                },
            },
            scope: scope?,
        })
    }
}

fn transform(table: &Table, reporter: &mut Reporter<'_>) -> Option<Transform> {
    let word = table.text("with")?;
    match Transform::parse(&word.value) {
        Ok(transform) => Some(transform),
        Err(problem) => {
            let closest = problem.closest().map(str::to_owned);
            reporter.report_with(&word.span, format!("`{}`: {problem}", word.value), closest);
            None
        }
    }
}

fn detect(table: &Table, reporter: &mut Reporter<'_>) -> Detect {
    let mut names = Vec::new();
    for word in table.words("detect").iter().flat_map(|list| &list.value) {
        if Kind::of_name(&word.value).is_some() {
            names.push(word.value.clone());
        } else {
            reporter.report_word(
                &word.span,
                format!("no detector is called `{}`", word.value),
                &word.value,
                Kind::names(),
            );
        }
    }
    let mut texts = |key: &str, wanted: fn(&[&str]) -> Result<DetectorSet, Vec<DetectError>>| {
        let list: Option<&Words> = table.words(key);
        let mut texts = Vec::new();
        for word in list.iter().flat_map(|list| &list.value) {
            let problem = wanted(&[&word.value]).err();
            let problem = problem.and_then(|problems| problems.into_iter().next());
            if word.value.is_empty() {
                reporter.report(&word.span, format!("an empty entry in `{key}`"));
            } else if let Some(problem) = problem {
                reporter.report(&word.span, format!("`{}`: {problem}", word.value));
            } else {
                texts.push(word.value.clone());
            }
        }
        texts
    };
    Detect {
        names,
        patterns: texts("patterns", |patterns| {
            DetectorSet::compile(&[Wanted {
                patterns,
                ..Wanted::default()
            }])
        }),
        words: texts("words", |words| {
            DetectorSet::compile(&[Wanted {
                words,
                ..Wanted::default()
            }])
        }),
    }
}

fn check_hides_something(table: &Table, reporter: &mut Reporter<'_>) {
    let lists = ["columns", "detect", "patterns", "words"];
    for list in lists.iter().filter_map(|key| table.words(key)) {
        if list.value.is_empty() {
            reporter.report(&list.span, "an empty list hides nothing".to_owned());
        }
    }
    if !lists.iter().any(|key| table.key_span(key).is_some()) {
        let message = "the mask hides nothing: give `columns`, `detect`, `patterns` or `words`";
        reporter.report(&table.span, message.to_owned());
    }
    if table.key_span("columns").is_none() {
        for key in OF_COLUMNS {
            if let Some(span) = table.key_span(key) {
                reporter.report(&span, format!("`{key}` has no effect without `columns`"));
            }
        }
    }
}
