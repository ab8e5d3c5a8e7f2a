//! Every client with every server, directly and through the appliance: `make test-matrix`.
//!
//! `cargo test --package appliance --test matrix` runs it; it is no part of `make test`, which runs
//! most clients with one server (`tests/it/e2e_clients.rs`). With arguments it runs the cells whose
//! names hold all of them (`-- psql 18`), or with `functions` the table of built-in functions against
//! every version. Without, it writes `docs/compatibility.md`.

#![allow(unreachable_pub, reason = "modules of a test binary have no outside")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed expectation ends the cell; what it found is printed"
)]
#![allow(dead_code, reason = "the harness is that of another test binary too")]

#[path = "../it/appliance.rs"]
mod appliance;
#[path = "../it/clients.rs"]
mod clients;
#[path = "../it/functions.rs"]
mod functions;
#[path = "../it/postgres.rs"]
mod postgres;
mod report;
#[path = "../it/wire.rs"]
mod wire;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use clients::{Client, transcripts};
use postgres::Version;

const VERSIONS: [Version; 5] = [
    Version(14),
    Version(15),
    Version(16),
    Version(17),
    Version(18),
];

/// The newest, whose programs are used with every server.
const NEWEST: Version = Version(18);

/// How many cells run at once. Each waits more than it works.
const AT_ONCE: usize = 3;

/// One client with one server.
#[derive(Clone, Copy)]
struct Cell {
    client: Client,
    server: Version,
}

/// What became of it.
struct Outcome {
    cell: Cell,
    /// What the client calls itself.
    version: String,
    found: Found,
}

enum Found {
    Same {
        lines: usize,
    },
    Differs,
    /// The program did not come to its end, or a server did not start.
    Failed,
}

impl Cell {
    fn name(self) -> String {
        format!("{} with PostgreSQL {}", self.client.name(), self.server)
    }

    fn all() -> Vec<Self> {
        let mut clients = vec![Client::Wire];
        clients.extend(VERSIONS.map(Client::Psql));
        clients.extend(VERSIONS.map(Client::Pgbench));
        clients.extend(VERSIONS.map(Client::PgDump));
        clients.extend([
            Client::Psycopg,
            Client::Asyncpg,
            Client::SqlAlchemy,
            Client::Django,
            Client::NodePostgres,
            Client::Pgjdbc,
            Client::TokioPostgres,
            Client::Sqlx,
        ]);
        let cells = clients
            .into_iter()
            .flat_map(|client| VERSIONS.map(|server| Self { client, server }));
        cells.filter(|cell| cell.is_of_use()).collect()
    }

    /// psql is used with any server. pg_dump refuses a newer one, and what it and pgbench do
    /// between does not change with theirs: each with its own, and the newest with all.
    fn is_of_use(self) -> bool {
        match self.client {
            Client::Pgbench(version) | Client::PgDump(version) => {
                version == self.server || version == NEWEST
            }
            Client::Wire
            | Client::Psql(_)
            | Client::Psycopg
            | Client::Asyncpg
            | Client::SqlAlchemy
            | Client::Django
            | Client::NodePostgres
            | Client::Pgjdbc
            | Client::TokioPostgres
            | Client::Sqlx => true,
        }
    }

    fn run(self) -> Outcome {
        let begun = Instant::now();
        let name = self.name();
        let outcome = |version, found| Outcome {
            cell: self,
            version,
            found,
        };
        // The panic has been printed.
        let Ok(transcripts) =
            catch_unwind(AssertUnwindSafe(|| transcripts(self.client, self.server)))
        else {
            println!("{name}: FAILED");
            return outcome(String::new(), Found::Failed);
        };
        let seconds = begun.elapsed().as_secs();
        let lines = transcripts.lines();
        let difference = transcripts.difference();
        match &difference {
            None => println!("{name}: the same, {lines} lines, {seconds} s"),
            Some(difference) => println!("{name}: DIFFERS\n{difference}"),
        }
        let found = if difference.is_none() {
            Found::Same { lines }
        } else {
            Found::Differs
        };
        outcome(transcripts.version, found)
    }
}

/// Whether the table of built-in functions has those of every version.
fn functions_are_known() -> bool {
    let missing = VERSIONS.map(|version| (version, functions::missing(version)));
    for (version, missing) in &missing {
        println!(
            "PostgreSQL {version}: {} functions, operators or relations unknown {missing:?}",
            missing.len()
        );
    }
    missing.iter().all(|(_, missing)| missing.is_empty())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let staged = tempfile::Builder::new()
        .prefix("sallyport-postgres.")
        .tempdir()
        .unwrap();
    postgres::stage_others(staged.path());

    let asks_functions = words.is_empty() || words == ["functions"];
    if asks_functions && !functions_are_known() {
        return ExitCode::FAILURE;
    }
    if words == ["functions"] {
        return ExitCode::SUCCESS;
    }
    let cells = Cell::all().into_iter();
    let cells: Vec<Cell> = cells
        .filter(|cell| words.iter().all(|word| cell.name().contains(word.as_str())))
        .collect();
    let waiting = Mutex::new(cells.iter().copied().collect::<VecDeque<_>>());
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(cell) = waiting.lock().unwrap().pop_front() else {
                        return;
                    };
                    let outcome = cell.run();
                    outcomes.lock().unwrap().push(outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    let same = outcomes
        .iter()
        .filter(|outcome| matches!(outcome.found, Found::Same { .. }))
        .count();
    println!("{same} of {} cells are the same", outcomes.len());
    if words.is_empty() {
        report::write(&outcomes);
    }
    if same == outcomes.len() && same > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
