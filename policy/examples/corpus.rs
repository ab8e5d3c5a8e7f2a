//! How much of a pile of SQL is classified: `make corpus` says so of PostgreSQL's own tests.
//!
//! Arguments are `NAME=PATH`, a file or a folder of `.sql` files for psql: its commands and COPY data
//! are left out, its variables become names. `sections:NAME=PATH` is for files in which a line
//! `-- TITLE` begins each statement. Prints a line for each, as Markdown, and why the rest is
//! not classified.

#![allow(clippy::print_stdout, reason = "what it prints is its result")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use policy::class::Class;
use policy::sql::postgres::{ProfileLimits, profile};
use policy::sql::{Object, StatementProfile};

#[derive(Default)]
struct Count {
    statements: usize,
    /// PostgreSQL 18's grammar refuses them: the tests hold errors on purpose.
    unparsed: usize,
    classified: usize,
    /// Classified but for calls of functions or operators that are not built in, which a rule can name.
    by_name: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    println!("| corpus | statements | not SQL | classified | user functions | unknown |");
    println!("|---|---|---|---|---|---|");
    for argument in std::env::args().skip(1) {
        let (name, path) = argument.split_once('=').ok_or("NAME=PATH")?;
        let (name, in_sections) = match name.strip_prefix("sections:") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let mut count = Count::default();
        for file in files(Path::new(path))? {
            let text = String::from_utf8_lossy(&fs::read(&file)?).into_owned();
            let text = if in_sections {
                text.replace("\n-- ", "\n;\n-- ")
            } else {
                text
            };
            for statement in statements(&text) {
                judge(&statement, &mut count, &mut reasons);
            }
        }
        let parsed = count.statements - count.unparsed;
        let unknown = parsed - count.classified - count.by_name;
        let share = |part: usize| 100.0 * part as f64 / parsed.max(1) as f64;
        println!(
            "| {name} | {} | {} | {:.1} % | {:.1} % | {:.1} % |",
            count.statements,
            count.unparsed,
            share(count.classified),
            share(count.by_name),
            share(unknown),
        );
    }
    println!();
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (reason, count) in reasons {
        println!("- {count} times: {reason}");
    }
    Ok(())
}

fn judge(statement: &str, count: &mut Count, reasons: &mut BTreeMap<String, usize>) {
    let batch = profile(statement, &ProfileLimits::default());
    for profile in batch.statements {
        count.statements += 1;
        let why = unknown(&profile);
        if profile.parse_error.is_some() {
            count.unparsed += 1;
        } else if let Some(why) = why {
            *reasons.entry(why).or_insert(0) += 1;
        } else if profile
            .effects
            .iter()
            .any(|effect| is_by_name(&effect.object))
        {
            count.by_name += 1;
        } else {
            count.classified += 1;
        }
    }
}

/// Why a statement is not classified.
fn unknown(profile: &StatementProfile) -> Option<String> {
    let mut effects = profile.effects.iter();
    let effect = effects.find(|effect| effect.class == Class::Unknown)?;
    Some(effect.object.to_string())
}

fn is_by_name(object: &Object) -> bool {
    matches!(object, Object::Function(function) if function.opaque)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The statements of a script for psql.
fn statements(script: &str) -> Vec<String> {
    let mut sql = String::new();
    let mut in_data = false;
    for line in script.lines() {
        if in_data {
            in_data = line != "\\.";
            continue;
        }
        // \gset, \gexec and the like end the statement before them.
        let (line, command) = match line.find('\\') {
            Some(at) if line.get(at + 1..).is_some_and(is_command) => {
                (line.get(..at).unwrap_or_default(), true)
            }
            _ => (line, false),
        };
        sql.push_str(line);
        sql.push_str(if command { ";\n" } else { "\n" });
        let lower = line.to_ascii_lowercase();
        in_data = lower.contains("from stdin") && lower.trim_end().ends_with(';');
    }
    let sql = with_names_for_variables(&sql);
    match pg_query::split_with_scanner(&sql) {
        Ok(statements) => statements.into_iter().map(str::to_owned).collect(),
        Err(_) => sql.split(";\n").map(str::to_owned).collect(),
    }
}

fn is_command(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c == '!' || c == '?' || c == ';')
}

/// `:name`, `:'name'` and `:"name"` become names and literals.
fn with_names_for_variables(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut before = ' ';
    let mut rest = sql.chars().peekable();
    while let Some(c) = rest.next() {
        let begins_variable = rest
            .peek()
            .is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, '\'' | '"'));
        let is_variable =
            c == ':' && before != ':' && before != '[' && !before.is_ascii_alphanumeric();
        if !(is_variable && begins_variable) {
            out.push(c);
        }
        before = c;
    }
    out
}
