//! How long something takes, in CPU time of this thread: the machine may do something else meanwhile.

use std::fs;

/// CPU time that one measure takes, in nanoseconds.
const SPENT: u64 = 400_000_000;

/// Measures of each, of which the best counts.
const ROUNDS: u64 = 3;

/// Nanoseconds that `work` takes once; `None` when it failed.
pub fn nanoseconds(mut work: impl FnMut() -> Option<()>) -> Option<f64> {
    work()?;
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = cpu_nanoseconds()?;
        let mut count = 0_u64;
        let mut batch = 1;
        let spent = loop {
            for _ in 0..batch {
                work()?;
            }
            count += batch;
            let spent = cpu_nanoseconds()? - start;
            if spent > SPENT / ROUNDS {
                break spent;
            }
            // Looking at the clock takes microseconds.
            batch *= 2;
        };
        best = best.min(quotient(spent, count)?);
    }
    Some(best)
}

/// Gigabytes a second of something that takes `bytes` at once.
pub fn gigabytes_per_second(bytes: usize, work: impl FnMut() -> Option<()>) -> Option<f64> {
    let taken = nanoseconds(work)?;
    Some(f64::from(u32::try_from(bytes).ok()?) / taken)
}

/// Both far below 2^52.
fn quotient(spent: u64, count: u64) -> Option<f64> {
    let [spent, count] = [spent, count].map(|it| u32::try_from(it).map(f64::from));
    Some(spent.ok()? / count.ok()?)
}

fn cpu_nanoseconds() -> Option<u64> {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    schedstat.split(' ').next()?.parse().ok()
}
