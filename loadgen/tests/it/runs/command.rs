//! `run` as somebody types it.

use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::scripted::{Say, Server};

/// Long enough for any machine; a test that reaches it has failed.
const SOON: Duration = Duration::from_secs(60);

/// Answers everything, and says so.
fn server() -> (Server, Receiver<()>) {
    let (asks, asked) = channel();
    let asks = Mutex::new(asks);
    let server = Server::start(move |_| {
        // Most tests do not listen.
        let _ = asks.lock().unwrap().send(());
        (Duration::ZERO, Say::Row)
    });
    (server, asked)
}

fn start(to: &str, settings: &str) -> Child {
    // A busy machine is no reason for this test to say INVALID.
    Command::new(env!("CARGO_BIN_EXE_sallyport-loadgen"))
        .args(["run", "--to", to, "--lag-max", "1h"])
        .args(settings.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn report(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    })
}

#[test]
fn a_run_is_reported() {
    let (server, _) = server();
    let settings = "--rate 200 --duration 500ms --warm-up 0s --mode simple --json -";
    let output = start(&server.address(), settings)
        .wait_with_output()
        .unwrap();
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    let run = &report["runs"][0];
    assert_eq!(run["path"], server.address());
    assert_eq!(run["counts"]["answered"], 100);
    assert_eq!(run["interrupted"], false);
    let asked = run["asked"].as_str().unwrap();
    assert!(asked.starts_with("constant 200/s for 500ms after 0s of warm-up"));
}

#[test]
fn ctrl_c_ends_a_run_with_what_there_is() {
    for signal in [Signal::INT, Signal::TERM] {
        let (server, asked) = server();
        let settings = "--rate 100 --duration 1h --warm-up 0s --json -";
        let child = start(&server.address(), settings);
        for _ in 0..50 {
            asked.recv_timeout(SOON).unwrap();
        }
        let process = Pid::from_raw(child.id().cast_signed()).unwrap();
        kill_process(process, signal).unwrap();
        let output = child.wait_with_output().unwrap();
        let report = report(&output);
        assert_eq!(output.status.code(), Some(0), "{report:#}");
        let run = &report["runs"][0];
        assert_eq!(run["interrupted"], true);
        assert!(run["counts"]["answered"].as_u64().unwrap() >= 49);
        assert!(run["counts"]["due"].as_u64().unwrap() < 360_000);
        let notes = run["generator"]["notes"].to_string();
        assert!(notes.contains("it was interrupted"), "{notes}");
    }
}

#[test]
fn a_target_that_is_not_there_is_said_and_nothing_is_reported() {
    let (mut server, _) = server();
    server.close_listener();
    let to = format!("{},user=somebody", server.address());
    let output = start(&to, "--duration 1s").wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("connection 1 of 16 could not be opened"),
        "{said}"
    );
}

#[test]
fn what_is_not_refused_although_it_should_be_is_a_failure_of_the_request() {
    let (server, _) = server();
    let settings = "--rate 200 --duration 500ms --warm-up 0s --denied 50% --json -";
    let output = start(&server.address(), settings)
        .wait_with_output()
        .unwrap();
    let report = report(&output);
    let failed = &report["runs"][0]["counts"]["failed"]["not refused"];
    assert!(failed.as_u64().unwrap() >= 30, "{report:#}");
}

/// Runs `run` in a shell that allows it so many open files.
fn run_with_files(limit: &str, to: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_sallyport-loadgen");
    let settings = "--lag-max 1h --rate 200 --duration 500ms --warm-up 0s --connections 100";
    Command::new("sh")
        .arg("-c")
        .arg(format!(
            "ulimit {limit} && exec {program} run --to {to} {settings}"
        ))
        .output()
        .unwrap()
}

#[test]
fn connections_may_be_more_than_the_soft_limit_of_files_and_not_than_the_hard_one() {
    let (server, _) = server();
    let output = run_with_files("-Sn 90", &server.address());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(server.connections(), 100);

    let output = run_with_files("-n 90", &server.address());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let needed = "164 open files are needed and 90 allowed";
    assert!(said.contains(needed), "{said}");
    assert_eq!(server.connections(), 100);
}
