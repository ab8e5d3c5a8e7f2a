//! A generator that does not get the CPU that it needs says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

use super::scripted::{Say, Server};
use super::{run, undisturbed};

/// Threads that never sleep, on the CPU of the first worker, until it is dropped.
struct Crowd {
    ends: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Crowd {
    fn of(count: usize) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let cpu = runtime::allowed_cpus().unwrap()[0];
        let spin = |ends: Arc<AtomicBool>| {
            move || {
                let mut set = CpuSet::new();
                set.set(cpu);
                sched_setaffinity(None, &set).unwrap();
                while !ends.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let threads = (0..count)
            .map(|_| std::thread::spawn(spin(Arc::clone(&ends))))
            .collect();
        Self { ends, threads }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.threads
            .drain(..)
            .for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn a_generator_without_enough_cpu_makes_the_run_invalid() {
    let _alone = undisturbed();
    let server = Server::start(|_| (Duration::ZERO, Say::Row));
    // Far more than a fifth of a CPU can send, on so many connections that it never waits for the
    // server.
    let settings = "--rate 300000 --duration 1s --warm-up 0s --patience 200ms --connections 200 \
                    --workers 1";
    let run = {
        let _crowd = Crowd::of(4);
        run(&server.address(), settings)
    };
    assert_eq!(run.counts.due, 300_000);
    assert!(run.counts.unfinished > 0);
    let reasons = run.generator.invalid.join("\n");
    assert!(
        reasons.contains("ran or waited for a CPU") || reasons.contains("was late by"),
        "{reasons}"
    );
}
