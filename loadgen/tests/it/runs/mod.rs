//! Runs of the engine against a server whose every answer is scripted.

mod accounting;
mod command;
mod latency;
pub(crate) mod scripted;
mod starved;

use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Parser;
use loadgen::engine::{Engine, Interrupt, NoRun, Plan};
use loadgen::progress::Event;
use loadgen::protocols::{Address, Agent, Canaries, Password, Target, Tls};
use loadgen::run::Run;
use loadgen::scenario::Asked;

/// Settings as somebody types them.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    asked: Asked,
}

/// What is asked of `address`, as it would be typed.
pub(crate) fn plan(address: &str, settings: &str) -> Plan {
    let words = std::iter::once("x").chain(settings.split_whitespace());
    let asked = Line::try_parse_from(words).unwrap_or_else(|usage| panic!("{usage}"));
    let asked = asked.asked;
    Plan {
        path: "direct".to_owned(),
        target: Arc::new(Target {
            address: Address::resolve(address).unwrap(),
            tls: Tls::default(),
            database: "test".to_owned(),
            canaries: Arc::new(Canaries::default()),
        }),
        agents: Arc::new([Agent {
            name: "agent".to_owned(),
            user: "agent".to_owned(),
            password: Password::default(),
        }]),
        scenario: Arc::new(asked.resolve(1).unwrap()),
        policed: true,
        reference: None,
    }
}

pub(crate) fn try_run(plan: Plan) -> Result<Run, NoRun> {
    run_heard(plan, &Interrupt::default(), &mut |_| {})
}

pub(crate) fn run_heard(
    plan: Plan,
    interrupt: &Interrupt,
    on: &mut dyn FnMut(Event),
) -> Result<Run, NoRun> {
    let workers = plan.scenario.workers;
    let mut engine = Engine::start(workers, interrupt)?;
    engine.run(plan, on)
}

/// Runs `settings` against `address`, and checks what holds for every run.
pub(crate) fn run(address: &str, settings: &str) -> Run {
    let run = try_run(plan(address, settings)).unwrap();
    check_books(&run);
    run
}

/// Each request that was due ended up in exactly one count.
pub(crate) fn check_books(run: &Run) {
    let counts = &run.counts;
    assert_eq!(counts.settled(), counts.due, "{counts:?}");
    let seconds = &run.seconds;
    let due: u64 = seconds.iter().map(|second| second.due).sum();
    let failed: u64 = seconds.iter().map(|second| second.failed).sum();
    let unfinished: u64 = seconds.iter().map(|second| second.unfinished).sum();
    assert_eq!(due, counts.due);
    assert_eq!(failed, counts.failed.values().sum::<u64>());
    assert_eq!(unfinished, counts.unfinished);
    let latencies = &run.latencies;
    assert_eq!(
        latencies.uncorrected.len(),
        counts.answered + counts.refused
    );
    assert_eq!(latencies.first_byte.len(), counts.answered + counts.refused);
    let timed_out = counts.failed.get("timeout").copied().unwrap_or(0);
    let given_up = timed_out + counts.unfinished;
    assert_eq!(
        latencies.corrected.len(),
        counts.answered + counts.refused + given_up
    );
    let lost = |reason: &&String| reason.contains("lost track") || reason.contains("panic");
    assert_eq!(run.generator.invalid.iter().find(lost), None);
}

/// Tests that measure time, or take a CPU away, run one at a time.
pub(crate) fn undisturbed() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn one() -> NonZeroU16 {
    NonZeroU16::MIN
}
