//! What is reported is what the server did, by the server's own log.
//!
//! Delays are long against what a machine adds, and what it adds to a delay is in the server's log
//! too. What it adds on the way cannot make an answer faster: that side is checked exactly, the
//! other with what a [`Probe`] saw of the machine meanwhile.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use loadgen::run::Run;

use super::scripted::{Say, Server};
use super::{run, undisturbed};

/// What a machine may add to most answers on their way, beyond what it did to a probe.
const NOISE: Duration = Duration::from_millis(20);

/// Threads that have to wake for an answer: server, generator twice, and one to spare.
const WAKES: u32 = 4;

/// Percent of the answers to which it may add more.
const DISTURBED: usize = 3;

/// Three digits of a histogram.
const RESOLUTION: f64 = 0.001;

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

/// A thread that sleeps for a millisecond again and again, to see how long it does.
struct Probe {
    ends: Sender<()>,
    thread: JoinHandle<Duration>,
}

impl Probe {
    fn start() -> Self {
        let (ends, ended) = channel();
        let nap = MILLIS(1);
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            let mut began = runtime::now();
            while ended.recv_timeout(nap) == Err(RecvTimeoutError::Timeout) {
                let woken = runtime::now();
                longest = longest.max(woken - began);
                began = woken;
            }
            longest
        });
        Self { ends, thread }
    }

    /// What may have been added to most answers meanwhile.
    fn noise(self) -> Duration {
        drop(self.ends);
        self.thread.join().unwrap() * WAKES + NOISE
    }
}

/// Checks the quantiles of `reported` against what the server held, and so both distributions.
fn check_quantiles(reported: &Histogram<u64>, held: &[Duration], noise: Duration, what: &str) {
    assert_eq!(reported.len(), held.len() as u64);
    let held_at = |percent: usize| {
        let rank = (percent * held.len()).div_ceil(100);
        held[rank.clamp(1, held.len()) - 1]
    };
    for percent in [10, 25, 50, 75, 90, 95, 100] {
        let value = reported.value_at_quantile(percent as f64 / 100.0);
        let value = Duration::from_nanos(value);
        // Between the server's two times of an answer it was certainly under way.
        let least = held_at(percent).mul_f64(1.0 - RESOLUTION);
        assert!(
            value >= least,
            "{what}: p{percent} {value:?}, {least:?} held"
        );
        if percent < 100 {
            let most = held_at(percent + DISTURBED).mul_f64(1.0 + RESOLUTION) + noise;
            assert!(
                value <= most,
                "{what}: p{percent} {value:?}, {most:?} at most"
            );
        }
    }
}

fn check_distribution(what: &str, delay: impl Fn(u64) -> Duration + Send + Sync + 'static) -> Run {
    let _alone = undisturbed();
    let server = Server::start(move |question| (delay(question.number), Say::Row));
    // Some 20 of the connections are busy at a time, so that no request waits for one.
    let settings = "--rate 200 --schedule poisson --duration 3s --warm-up 0s --connections 100";
    let probe = Probe::start();
    let run = run(&server.address(), settings);
    let noise = probe.noise();
    assert_eq!(run.counts.answered, run.counts.due);
    let held = server.held();
    for (name, reported) in [
        ("uncorrected", &run.latencies.uncorrected),
        ("corrected", &run.latencies.corrected),
        ("first byte", &run.latencies.first_byte),
    ] {
        check_quantiles(reported, &held, noise, &format!("{what}, {name}"));
    }
    run
}

#[test]
fn a_fixed_delay_is_reported() {
    let run = check_distribution("fixed", |_| MILLIS(100));
    assert!(run.latencies.corrected.min() >= 99_900_000);
}

#[test]
fn two_kinds_of_answers_are_told_apart() {
    let delay = |number| if number % 5 == 0 { 300 } else { 20 };
    let run = check_distribution("bimodal", move |number| MILLIS(delay(number)));
    let p90 = run.latencies.corrected.value_at_quantile(0.9);
    assert!(Duration::from_nanos(p90) >= MILLIS(300).mul_f64(1.0 - RESOLUTION));
}

#[test]
fn an_exponential_distribution_is_reported() {
    check_distribution("exponential", |number| {
        let mut rng = fastrand::Rng::with_seed(number);
        let exponential: f64 = -(1.0 - rng.f64()).ln();
        MILLIS(60).mul_f64(exponential.min(8.0))
    });
}

#[test]
fn a_stall_is_in_the_corrected_figures_and_not_in_the_uncorrected_ones() {
    let _alone = undisturbed();
    const STALL: Duration = Duration::from_millis(1500);
    let begins = MILLIS(1000);
    let ends = begins + STALL;
    let server = Server::start(move |question| {
        let is_stalled = (begins..ends).contains(&question.since);
        let delay = match is_stalled {
            true => ends - question.since,
            false => Duration::ZERO,
        };
        (delay, Say::Row)
    });
    let settings = "--rate 200 --duration 5s --warm-up 0s --connections 4";
    let probe = Probe::start();
    let run = run(&server.address(), settings);
    let noise = probe.noise();
    assert_eq!(run.counts.answered, 1000);
    let Run {
        latencies,
        generator,
        ..
    } = &run;

    // 300 requests were due while it stalled. Those of its last 100 ms waited for less than that,
    // give or take what the machine is late by.
    let hundred_millis = 100_000_000;
    let late = latencies.corrected.count_between(hundred_millis, u64::MAX);
    let more = noise.as_secs_f64() * 200.0;
    assert!(late >= 260, "{late} were late");
    assert!(late as f64 <= 320.0 + more, "{late} were late");
    // The last percent of 1,000 are the first 10 of them, due in the first 50 ms of the stall.
    let p99 = Duration::from_nanos(latencies.corrected.value_at_quantile(0.99));
    assert!(p99 >= MILLIS(1350), "p99 {p99:?}");
    assert!(p99 <= MILLIS(1500) + noise, "p99 {p99:?}");
    // One request on each connection met the stall: 0.4 %. Without the due times, that is all.
    let seen = latencies.uncorrected.value_at_quantile(0.99);
    assert!(Duration::from_nanos(seen) < p99 / 4, "uncorrected {seen}");

    // They waited for a connection, which is not the generator's lag.
    assert!(generator.without_connection >= 250);
    let lag = Duration::from_nanos(generator.lag.value_at_quantile(0.95));
    assert!(lag < p99 / 4, "lag {lag:?}");
    assert!(generator.notes[0].contains("waited for a connection"));

    // And it is where it was: in the seconds 1 and 2, and in no other.
    let p90 = |second: usize| run.seconds[second].quantile(0.9).unwrap();
    assert!(p90(1) > 5 * hundred_millis);
    assert!(p90(4) < p90(1) / 2);
}

#[test]
fn a_run_on_several_workers_is_one_run() {
    let _alone = undisturbed();
    let server = Server::start(|_| (MILLIS(100), Say::Row));
    let settings = "--rate 200 --duration 2s --warm-up 500ms --connections 64 --workers 2";
    let run = run(&server.address(), settings);
    assert_eq!(run.counts.answered, 400);
    assert_eq!(run.generator.cpu.len(), 2);
    assert_eq!(run.seconds.len(), 2);
    assert_eq!(run.seconds[0].due, 200);
    assert!(run.latencies.corrected.min() >= 99_900_000);
    // 100 requests of the warm-up were sent and are in nothing.
    assert_eq!(server.log().len(), 500);
}
