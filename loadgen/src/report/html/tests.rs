//! The page and the JSON of a run with hostile names.

use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;

use super::*;
use crate::compare::Path;
use crate::report::{Environment, json};
use crate::run::Second;
use crate::run::tests::empty;

const HOSTILE: &str = "</title></style><script>alert(1)</script><b a=\"'&\u{1b}\u{202e}";

fn run(path: &str) -> Run {
    let mut corrected = Histogram::new(3).unwrap();
    let mut uncorrected = Histogram::new(3).unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    for index in 0..20_000_u64 {
        let latency = 200_000 + rng.u64(..100_000);
        uncorrected.record(latency).unwrap();
        corrected
            .record(if index % 200 == 0 {
                latency * 40
            } else {
                latency
            })
            .unwrap();
    }
    let seconds = (1..=30).map(|at| Second {
        due: 500,
        failed: u64::from(at == 12),
        unfinished: 0,
        corrected: vec![(200_000 + at * 1_000, 490), (900_000 * (1 + at % 5), 10)],
    });
    let mut run = empty(path);
    run.asked = format!("constant {HOSTILE}");
    run.started = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    run.interrupted = true;
    run.latencies.first_byte = uncorrected.clone();
    run.latencies.corrected = corrected;
    run.latencies.uncorrected = uncorrected;
    run.counts.due = 20_001;
    run.counts.answered = 20_000;
    let kind = format!("sqlstate {HOSTILE}");
    run.counts.failed.insert(kind, 1);
    run.seconds = seconds.collect();
    run.generator.cpu = vec![1_000_000_000];
    run.generator.without_connection = 3;
    run.generator.invalid = vec![format!("lag {HOSTILE}")];
    run.generator.notes = vec![HOSTILE.to_owned()];
    run
}

fn environment() -> Environment {
    Environment {
        version: "0.1.0".to_owned(),
        optimised: true,
        kernel: "6.18".to_owned(),
        cpu: HOSTILE.to_owned(),
        cores: 2,
        governor: None,
        io_uring_disabled: Some(0),
        load_before: Some(0.5),
        command_line: vec!["sallyport-loadgen".to_owned(), HOSTILE.to_owned()],
    }
}

/// Every element is closed by its own end, attributes are quoted, and no `<` or `&` stands alone.
fn check_well_formed(page: &str) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    let mut elements = Vec::new();
    let body = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
    let mut rest = body;
    while let Some(at) = rest.find('<') {
        check_text(&rest[..at]);
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        assert!(!tag.contains('<'), "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let (name, attributes) = tag.split_once([' ', '\n']).unwrap_or((tag, ""));
        let name = name.trim_end_matches('/');
        assert!(
            name.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{name}"
        );
        assert_eq!(attributes.matches('"').count() % 2, 0, "{tag}");
        elements.push(name.to_owned());
        if !tag.ends_with('/') {
            open.push(name.to_owned());
        }
    }
    check_text(rest);
    assert!(open.is_empty(), "{open:?}");
    elements
}

fn check_text(text: &str) {
    for (at, _) in text.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        assert!(
            known.iter().any(|name| text[at..].starts_with(name)),
            "{text}"
        );
    }
}

fn page() -> String {
    render(html)
}

/// What `render` makes of a comparison of two paths.
fn render<T>(render: impl Fn(&Report<'_>) -> T) -> T {
    let environment = environment();
    let runs = [run("direct"), run(HOSTILE)];
    let path = |name: &str| Path {
        name: name.to_owned(),
        rounds: (0..6).map(|_| run(name)).collect(),
    };
    let bounds = ["p99 > 1.2".parse().unwrap(), "cpu > 2".parse().unwrap()];
    let comparison = Comparison::of(vec![path("direct"), path(HOSTILE)], &bounds, 1);
    render(&Report {
        environment: &environment,
        runs: &runs,
        comparison: Some(&comparison),
    })
}

#[test]
fn the_page_is_well_formed_and_nothing_of_a_name_is_markup() {
    let page = page();
    let elements = check_well_formed(&page);
    for absent in ["script", "b", "img", "link", "iframe", "a"] {
        assert!(
            !elements.iter().any(|element| element == absent),
            "{absent}"
        );
    }
    assert!(page.contains("&lt;script&gt;"));
    assert!(!page.contains('\u{1b}'));
}

#[test]
fn the_page_needs_no_network() {
    let page = page();
    let without_names = page.replace("http://www.w3.org/1999/xhtml", "");
    for absent in ["http:", "https:", "//", "url(", "@import", "src=", "href="] {
        assert!(!without_names.contains(absent), "{absent}");
    }
}

#[test]
fn each_plot_has_a_title_a_description_and_a_line_for_each_distribution() {
    let page = page();
    // One by percentile, and one over time for each path.
    assert_eq!(page.matches("<svg ").count(), 3);
    assert_eq!(page.matches("<title id=").count(), 3);
    assert_eq!(page.matches("<desc id=").count(), 3);
    // Each in the frame and in the legend: two paths corrected and not; p50, p99, max of each.
    assert_eq!(page.matches("class=\"line ").count(), 2 * (4 + 6));
    assert_eq!(page.matches(" dashed\"").count(), 2 * 2);
    // The one second of each path in which something failed, and its place in the legend.
    assert_eq!(page.matches("class=\"failure\"").count(), 2 * 2);
}

#[test]
fn the_page_says_first_that_it_is_invalid() {
    let page = page();
    let invalid = page.find("INVALID").unwrap();
    assert!(invalid < page.find("<table").unwrap());
}

#[test]
fn the_table_begins_with_validity_and_obeys_no_name() {
    let environment = environment();
    let runs = [run(HOSTILE)];
    let text = table(&Report::of(&environment, &runs));
    assert!(text.starts_with("INVALID: "), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']));
    let mut valid = run("direct");
    valid.generator.invalid.clear();
    let runs = [valid];
    assert!(table(&Report::of(&environment, &runs)).starts_with("valid\n"));
}

#[test]
fn the_json_has_the_documented_fields() {
    let environment = environment();
    let runs = [run("direct")];
    let value: serde_json::Value =
        serde_json::from_str(&json(&Report::of(&environment, &runs))).unwrap();
    assert_eq!(value["format"], "sallyport-loadgen/1");
    assert_eq!(value["valid"], false);
    let run = &value["runs"][0];
    assert_eq!(run["path"], "direct");
    assert_eq!(run["started_unix"], 1_800_000_000.0);
    assert_eq!(run["counts"]["due"], 20_001);
    assert_eq!(run["latency_ns"]["corrected"]["count"], 20_000);
    assert_eq!(run["latency_ns"]["connect"], serde_json::Value::Null);
    assert_eq!(run["seconds"].as_array().unwrap().len(), 30);
    assert_eq!(run["seconds"][0]["p50"], 201_000);
    let p50 = run["latency_ns"]["corrected"]["p50"].as_u64().unwrap();
    assert!((240_000..260_000).contains(&p50), "{p50}");
}

/// Names of fields, at any depth.
fn fields(value: &serde_json::Value, names: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (name, value) in object {
                names.push(name.clone());
                fields(value, names);
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| fields(value, names));
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
}

#[test]
fn every_field_of_the_json_is_documented() {
    let value: serde_json::Value = serde_json::from_str(&render(json)).unwrap();
    let mut names = Vec::new();
    fields(&value, &mut names);
    assert!(names.len() > 100);
    let page = include_str!("../../../../docs/loadgen.md");
    // A kind of failure is a name of its own.
    for name in names.iter().filter(|name| !name.starts_with("sqlstate ")) {
        let written = [
            format!("`{name}`"),
            format!(".{name}`"),
            format!(".{name}[]`"),
        ];
        let array = format!("`{name}[]`");
        let found = written.iter().any(|form| page.contains(form)) || page.contains(&array);
        assert!(found, "{name} is not in docs/loadgen.md");
    }
}
