//! The page of outcomes, as users read it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::postgres::{Version, binary_of};
use crate::{Found, Outcome, VERSIONS};

const HEAD: &str = "\
# Compatibility

Each cell of the table ran twice: a program with a stock client held a fixed dialogue with a real PostgreSQL, once directly and once through
Sallyport under a policy that allows everything. Both transcripts were compared line by line: rows with their types and formats, every field of
errors and notices, command tags, transaction states, reported settings and notifications. What may differ, and why, is in
[PostgreSQL](protocols/postgres.md#different-on-purpose); the comparison knows of nothing else (`normalised` in `appliance/tests/it/clients.rs`).

`wire` is no driver: it sends scripted messages and compares all that comes back, field by field. The programs are under `appliance/tests/clients`.

This page is written by `make test-matrix`. `make test` runs most of the clients with one server.

";

/// Writes `docs/compatibility.md`.
pub fn write(outcomes: &[Outcome]) {
    let mut page = HEAD.to_owned();
    let commit = said(
        "git",
        &["describe", "--always", "--dirty", "--exclude", "*"],
    );
    let date = said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]);
    // Writing to a String does not fail.
    writeln!(page, "Last run: {date}, commit {commit}.").unwrap();
    let servers = VERSIONS.map(|version| full_version(version)).join(", ");
    writeln!(page, "Servers: {servers}.\n").unwrap();

    let titles = VERSIONS.map(|version| format!(" {version} |")).concat();
    writeln!(page, "| client |{titles}").unwrap();
    writeln!(page, "|---|{}", "---|".repeat(VERSIONS.len())).unwrap();
    let mut names: Vec<String> = Vec::new();
    for outcome in outcomes {
        let name = outcome.cell.client.name();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort();
    for name in names {
        let of_client: Vec<&Outcome> = outcomes
            .iter()
            .filter(|outcome| outcome.cell.client.name() == name)
            .collect();
        let version = of_client.iter().map(|outcome| outcome.version.as_str());
        let version = version.max_by_key(|version| version.len());
        let title = version.filter(|version| !version.is_empty());
        let cells = VERSIONS.map(|server| {
            let outcome = of_client
                .iter()
                .find(|outcome| outcome.cell.server == server);
            match outcome.map(|outcome| &outcome.found) {
                None => " |".to_owned(),
                Some(Found::Same { lines }) => format!(" same ({lines}) |"),
                Some(Found::Differs) => " **differs** |".to_owned(),
                Some(Found::Failed) => " **failed** |".to_owned(),
            }
        });
        writeln!(page, "| {} |{}", title.unwrap_or(&name), cells.concat()).unwrap();
    }
    page.push_str("\nIn parentheses: lines compared. An empty cell was not run: a program of PostgreSQL goes with its own server, the newest with every.\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    fs::write(path, page).unwrap();
}

fn full_version(version: Version) -> String {
    let postgres = binary_of(version, "postgres");
    let line = said(&postgres.display().to_string(), &["--version"]);
    let words: Vec<&str> = line.split_whitespace().collect();
    words.get(2).copied().unwrap_or_default().to_owned()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
