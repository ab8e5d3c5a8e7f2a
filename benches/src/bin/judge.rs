//! How long the verdict on a statement takes: on one that was seen before, and on one that was not.
//!
//! The rules are those of the appliance's own bench (`appliance::bench`). A literal that was not seen
//! is no new statement; these differ in their names.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

use std::hint::black_box;
use std::process::ExitCode;

use appliance::bench::Classified;
use benches::timing::nanoseconds;

/// As the shipped binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KNOWN: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;";

/// Length of a new statement, in bytes.
const NEW_BYTES: usize = 200;

fn main() -> ExitCode {
    match run() {
        Some(()) => ExitCode::SUCCESS,
        None => {
            eprintln!("a statement was refused that is allowed");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Option<()> {
    let directory = tempfile::tempdir().ok()?;
    let classified = Classified::new(directory.path())?;
    let known = nanoseconds(|| classified.allows(black_box(KNOWN)).then_some(()))?;
    let mut number = 0_u64;
    let new = nanoseconds(|| {
        number += 1;
        classified.allows(black_box(&unseen(number))).then_some(())
    })?;
    println!("| statement | ns |");
    println!("|---|---|");
    println!("| known | {known:.0} |");
    println!("| new, {NEW_BYTES} bytes | {new:.0} |");
    Some(())
}

/// A statement like none before it: a join with conditions and an order, as programs send it.
fn unseen(number: u64) -> String {
    let text = format!(
        "SELECT o.id, o.state_{number:08}, c.name, o.total FROM orders o JOIN customers c ON c.id = o.customer_id \
         WHERE o.state = 'open' AND o.total > 100 AND c.region = 'eu' ORDER BY o.created_at DESC LIMIT 50"
    );
    format!("{text:NEW_BYTES$}")
}
