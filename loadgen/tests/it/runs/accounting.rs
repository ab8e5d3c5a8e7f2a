//! Every request that was due is counted once, whatever the server does.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use loadgen::engine::{Engine, Interrupt, NoRun};
use loadgen::progress::Event;
use loadgen::run::Run;

use super::scripted::{Question, Say, Server};
use super::{check_books, one, plan, run, run_heard, try_run};

const AT_ONCE: Duration = Duration::ZERO;

/// 100 requests in half a second, on 4 connections.
const HUNDRED: &str = "--rate 200 --duration 500ms --warm-up 0s --connections 4";

fn check(
    settings: &str,
    script: impl Fn(&Question<'_>) -> (Duration, Say) + Send + Sync + 'static,
) -> Run {
    let server = Server::start(script);
    run(&server.address(), &format!("{HUNDRED} {settings}"))
}

fn failed(run: &Run) -> BTreeMap<&str, u64> {
    let failed = run.counts.failed.iter();
    failed.map(|(label, count)| (&**label, *count)).collect()
}

#[test]
fn answers_are_counted() {
    let run = check("", |_| (AT_ONCE, Say::Row));
    assert_eq!(run.counts.due, 100);
    assert_eq!(run.counts.answered, 100);
    assert_eq!(run.verification.checked, 100);
    assert_eq!(run.verification.mismatches, 0);
    assert!(!run.interrupted);
}

#[test]
fn errors_are_counted_by_their_code() {
    let run = check("", |question| match question.number % 4 {
        0 => (AT_ONCE, Say::Error("57014")),
        1 => (AT_ONCE, Say::Error("42501")),
        _ => (AT_ONCE, Say::Row),
    });
    assert_eq!(run.counts.answered, 50);
    assert_eq!(
        failed(&run),
        [("sqlstate 42501", 25), ("sqlstate 57014", 25)].into()
    );
}

#[test]
fn a_closed_connection_fails_its_request_and_is_opened_again() {
    let server = Server::start(|question| match question.of_connection {
        9 => (AT_ONCE, Say::Close),
        _ => (AT_ONCE, Say::Row),
    });
    let run = run(&server.address(), HUNDRED);
    // Of the 100, one in 10 on each connection.
    let closed = failed(&run)["closed"];
    assert!((7..=10).contains(&closed), "{:?}", run.counts);
    assert_eq!(run.counts.answered, 100 - closed);
    assert!(server.connections() >= closed, "{}", server.connections());
    assert!(!run.latencies.connect.is_empty());
}

#[test]
fn a_request_that_is_never_answered_times_out() {
    let server = Server::start(|question| match question.number % 10 {
        0 => (AT_ONCE, Say::Nothing),
        _ => (AT_ONCE, Say::Row),
    });
    let settings = "--rate 200 --duration 500ms --warm-up 0s --connections 50 --timeout 2s";
    let run = run(&server.address(), settings);
    assert_eq!(run.counts.answered, 90);
    assert_eq!(failed(&run), [("timeout", 10)].into());
    assert!(run.latencies.corrected.max() >= 2_000_000_000);
    assert!(run.generator.notes[0].starts_with("10 requests were given up"));
}

#[test]
fn what_patience_did_not_wait_for_is_unfinished() {
    let run = check("--patience 100ms", |_| (AT_ONCE, Say::Nothing));
    // Four are under way and the others were never sent.
    assert_eq!(run.counts.unfinished, 100);
    assert_eq!(run.latencies.corrected.len(), 100);
    // The first was due 600 ms before the end, the last 105 ms.
    assert!(run.latencies.corrected.max() >= 600_000_000);
    assert!(run.latencies.corrected.min() >= 100_000_000);
    assert!(run.latencies.uncorrected.is_empty());
}

#[test]
fn a_target_that_is_not_there_is_no_run() {
    let mut server = Server::start(|_| (AT_ONCE, Say::Row));
    server.close_listener();
    let none = try_run(plan(&server.address(), HUNDRED)).unwrap_err();
    let NoRun::Connect { number, count, .. } = none else {
        panic!("{none:?}");
    };
    assert_eq!((number, count), (1, 4));
}

#[test]
fn connections_that_are_refused_later_are_failures_of_the_requests_that_needed_them() {
    let is_closed = Arc::new((Mutex::new(false), Condvar::new()));
    let (asks, asked) = std::sync::mpsc::channel();
    let asks = Mutex::new(asks);
    let closed = Arc::clone(&is_closed);
    let mut server = Server::start(move |question| {
        // Nobody listens to a second question.
        let _ = asks.lock().unwrap().send(());
        if question.of_connection < 5 {
            return (AT_ONCE, Say::Row);
        }
        let (is_closed, changed) = &*closed;
        let is_open = |closed: &mut bool| !*closed;
        drop(
            changed
                .wait_while(is_closed.lock().unwrap(), is_open)
                .unwrap(),
        );
        (AT_ONCE, Say::Close)
    });
    let address = server.address();
    let closing = std::thread::spawn(move || {
        asked.recv().unwrap();
        server.close_listener();
        *is_closed.0.lock().unwrap() = true;
        is_closed.1.notify_all();
        server
    });
    let run = run(&address, HUNDRED);
    drop(closing.join().unwrap());
    let failed = failed(&run);
    assert_eq!(run.counts.due, 100);
    assert_eq!(failed.values().sum::<u64>() + run.counts.answered, 100);
    assert_eq!(run.counts.answered, 20);
    assert_eq!(failed, [("closed", 4), ("connect", 76)].into());
}

#[test]
fn what_should_be_refused_is_counted_apart() {
    let denied = |question: &Question<'_>| question.text.starts_with("DROP TABLE");
    let refuses = move |question: &Question<'_>| match denied(question) {
        true => (AT_ONCE, Say::Error("42501")),
        false => (AT_ONCE, Say::Row),
    };
    let run = check("--denied 50%", refuses);
    assert!((30..70).contains(&run.counts.refused), "{:?}", run.counts);
    assert_eq!(run.counts.answered + run.counts.refused, 100);
    assert_eq!(run.verification.checked, run.counts.answered);

    let run = check("--denied 50%", |_| (AT_ONCE, Say::Row));
    assert!(failed(&run)["not refused"] >= 30);
    let run = check("--denied 100%", |_| (AT_ONCE, Say::Error("42P01")));
    assert_eq!(failed(&run), [("sqlstate 42P01", 100)].into());
}

#[test]
fn nothing_is_expected_to_refuse_on_a_path_without_policy() {
    let server = Server::start(|_| (AT_ONCE, Say::Error("42P01")));
    let mut plan = plan(&server.address(), &format!("{HUNDRED} --denied 100%"));
    plan.policed = false;
    let run = try_run(plan).unwrap();
    check_books(&run);
    assert_eq!(run.counts.answered, 100);
}

#[test]
fn novel_texts_are_seen_once_and_the_others_again() {
    let server = Server::start(|_| (AT_ONCE, Say::Row));
    let settings = format!("{HUNDRED} --novel 50%");
    let texts = || {
        let texts = server.texts();
        let all = texts.len();
        let distinct: HashSet<String> = texts.into_iter().collect();
        (all, distinct.len())
    };
    run(&server.address(), &settings);
    let (all, first) = texts();
    assert_eq!(all, 100);
    assert!((30..70).contains(&first), "{first}");
    // Also in another run with the same seed.
    run(&server.address(), &settings);
    let (all, second) = texts();
    assert_eq!(all, 200);
    assert_eq!(second, 2 * first - 1);
}

#[test]
fn churn_opens_connections() {
    let server = Server::start(|_| (AT_ONCE, Say::Row));
    let run = run(&server.address(), &format!("{HUNDRED} --churn 100%"));
    assert_eq!(run.counts.answered, 100);
    assert_eq!(server.connections(), 104);
    assert_eq!(run.latencies.connect.len(), 100);
}

#[test]
fn other_rows_than_before_are_mismatches() {
    let server = Server::start(|_| (AT_ONCE, Say::Row));
    let first = try_run(plan(&server.address(), HUNDRED)).unwrap();
    let mut reference = first.verification.reference.unwrap();
    reference.checksum ^= 1;
    let mut plan = plan(&server.address(), HUNDRED);
    plan.reference = Some(reference);
    let second = try_run(plan).unwrap();
    assert_eq!(second.counts.answered, 100);
    assert_eq!(second.verification.checked, 100);
    assert_eq!(second.verification.mismatches, 100);
}

#[test]
fn company_is_kept_and_its_losses_are_counted() {
    let server = Server::start(
        |question| match question.text.starts_with("SELECT repeat") {
            true => (Duration::from_millis(50), Say::Row),
            false => (AT_ONCE, Say::Row),
        },
    );
    let mut plan = plan(
        &server.address(),
        &format!("{HUNDRED} --idle 20 --slow-readers 3"),
    );
    let run = try_run(plan.clone()).unwrap();
    check_books(&run);
    assert_eq!(server.connections(), 27);
    assert_eq!((run.company.idle, run.company.idle_lost), (20, 0));
    assert_eq!((run.company.slow, run.company.slow_lost), (3, 0));
    assert!(run.company.slow_answers >= 3);
    assert_eq!(run.counts.answered, 100);

    let closes = Server::start(
        |question| match question.text.starts_with("SELECT repeat") {
            true => (AT_ONCE, Say::Close),
            false => (AT_ONCE, Say::Row),
        },
    );
    plan.target = super::plan(&closes.address(), "").target;
    let run = try_run(plan).unwrap();
    assert_eq!((run.company.slow, run.company.slow_lost), (3, 3));
}

#[test]
fn an_interrupted_run_reports_what_there_was() {
    let server = Server::start(|_| (AT_ONCE, Say::Row));
    let interrupt = Interrupt::default();
    let plan = plan(&server.address(), "--rate 100 --duration 1h --warm-up 0s");
    let mut seconds = 0;
    let run = run_heard(plan, &interrupt, &mut |event| {
        if let Event::Second(_) = event {
            seconds += 1;
            interrupt.request();
        }
    });
    let run = run.unwrap();
    check_books(&run);
    assert!(seconds >= 1);
    assert!(run.interrupted);
    assert!(run.counts.due >= 100, "{:?}", run.counts);
    assert!(run.duration >= Duration::from_secs(1));
    assert!(run.duration < Duration::from_secs(60));
    assert_eq!(run.seconds.len() as u64, run.duration.as_secs() + 1);
    assert!(run.counts.due < 6000);
}

#[test]
fn an_engine_runs_again_and_a_seed_gives_the_same_requests() {
    let server = Server::start(|_| (AT_ONCE, Say::Row));
    let settings = "--rate 200 --schedule poisson --duration 500ms --warm-up 0s --churn 10%";
    let mut engine = Engine::start(one(), &Interrupt::default()).unwrap();
    let mut due = Vec::new();
    for _ in 0..3 {
        let run = engine
            .run(plan(&server.address(), settings), &mut |_| {})
            .unwrap();
        check_books(&run);
        due.push((run.counts.due, run.latencies.connect.len()));
    }
    assert_eq!(due[0], due[1]);
    assert_eq!(due[0], due[2]);
}

#[test]
fn progress_is_told_once_a_second() {
    let server = Server::start(|_| (AT_ONCE, Say::Row));
    let plan = plan(
        &server.address(),
        "--rate 100 --duration 3s --warm-up 300ms",
    );
    let mut heard = Vec::new();
    let mut answered = 0;
    run_heard(plan, &Interrupt::default(), &mut |event| {
        if let Event::Second(now) = &event {
            answered = now.answered;
        }
        heard.push(
            format!("{event:?}")
                .split(['(', ' '])
                .next()
                .unwrap()
                .to_owned(),
        );
    })
    .unwrap();
    assert_eq!(heard.first().unwrap(), "Warming");
    assert_eq!(heard[1], "Measuring");
    assert_eq!(heard.last().unwrap(), "Ended");
    let seconds = heard.iter().filter(|event| *event == "Second").count();
    assert!((1..=3).contains(&seconds), "{heard:?}");
    assert!(answered > 0);
}
