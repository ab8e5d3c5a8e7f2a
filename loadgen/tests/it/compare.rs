//! `compare` as somebody runs it, between servers whose delays are known.

use std::process::{Command, Output};
use std::time::Duration;

use crate::runs::scripted::{Say, Server};
use crate::runs::undisturbed;

/// Runs `compare` between two servers: six rounds of 40 requests to each.
///
/// The generator's lag may be anything: the delays are far beyond what a busy machine adds.
fn compare(direct: &Server, slow: &Server, more: &[&str]) -> Output {
    let settings = "--rounds 6 --rate 100 --duration 400ms --warm-up 50ms --connections 16 \
                    --lag-max 1h --quiet";
    Command::new(env!("CARGO_BIN_EXE_sallyport-loadgen"))
        .arg("compare")
        .args(["--direct", &direct.address()])
        .args(["--via", &format!("slow={}", slow.address())])
        .args(settings.split_whitespace())
        .args(more)
        .output()
        .unwrap()
}

fn server(delay_ms: u64, say: Say) -> Server {
    Server::start(move |_| (Duration::from_millis(delay_ms), say))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_path_that_takes_twice_as_long_is_found_and_fails_the_pipeline() {
    let _one = undisturbed();
    let (direct, slow) = (server(60, Say::Row), server(120, Say::Row));
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let bounds = ["slow: p50 > 1.3", "slow: p50 > 4", "slow: throughput < 0.5"];
    let mut more = vec!["--json", "-", "--html", page.to_str().unwrap()];
    more.extend(["--hdr", folder.path().to_str().unwrap()]);
    for bound in bounds {
        more.extend(["--fail-if", bound]);
    }
    let output = compare(&direct, &slow, &more);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));

    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["valid"], true, "{report:#}");
    let comparison = &report["comparison"];
    assert_eq!(comparison["rounds"], 6);
    let verdicts: Vec<(&str, &str)> = comparison["bounds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|said| {
            (
                said["bound"].as_str().unwrap(),
                said["verdict"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        verdicts,
        [
            ("slow: p50 > 1.3", "crossed"),
            ("slow: p50 > 4", "kept"),
            ("slow: throughput < 0.5", "kept")
        ]
    );
    let p50 = &comparison["pairs"][0]["metrics"]["p50"];
    let ratio = p50["ratio"]["value"].as_f64().unwrap();
    assert!((1.5..2.5).contains(&ratio), "{p50}");
    let added = p50["difference"]["value"].as_f64().unwrap();
    assert!((40e6..90e6).contains(&added), "{p50}");
    // Each path had the same requests, in each round.
    for run in report["runs"].as_array().unwrap() {
        assert_eq!(run["counts"]["due"], 240);
        assert_eq!(run["counts"]["answered"], 240);
    }

    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("slow against direct"));
    for file in ["direct.hgrm", "slow.uncorrected.hgrm", "slow.hlog"] {
        assert!(
            folder.path().join(file).metadata().unwrap().len() > 0,
            "{file}"
        );
    }
}

#[test]
fn a_bound_that_is_kept_is_no_failure() {
    let _one = undisturbed();
    let (direct, slow) = (server(30, Say::Row), server(30, Say::Row));
    let output = compare(&direct, &slow, &["--fail-if", "p50 > 3"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.starts_with("valid\n"), "{table}");
    assert!(table.contains("ok    slow: p50 > 3:"), "{table}");
}

#[test]
fn a_path_that_fails_makes_the_comparison_invalid_and_not_fast() {
    let _one = undisturbed();
    let (direct, slow) = (server(30, Say::Row), server(0, Say::Error("53300")));
    let output = compare(&direct, &slow, &["--fail-if", "p50 > 1.2"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(
        table.starts_with("INVALID: slow: 240 of 240 requests"),
        "{table}"
    );
    assert!(table.contains("240 x sqlstate 53300"), "{table}");
}

#[test]
fn what_cannot_be_judged_is_refused_before_anything_is_measured() {
    // Nobody listens there: a connection would fail with another message.
    for (arguments, expected) in [
        ("--rounds 5 --fail-if p99>1", "an interval takes 6 rounds"),
        ("--fail-if cpu>1", "has no process to compare with"),
        ("--fail-if other:p99>1", "no path is called other"),
        ("--fail-if a/a:p99>1", "compared with another one"),
        ("--via a=127.0.0.1:2", "two paths are called a"),
        ("--process b=1", "no path is called b"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_sallyport-loadgen"))
            .args([
                "compare",
                "--direct",
                "127.0.0.1:1",
                "--via",
                "a=127.0.0.1:1",
            ])
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{arguments}: {said}");
    }
}
