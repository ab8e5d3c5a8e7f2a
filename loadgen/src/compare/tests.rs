//! Ratios from runs whose answer is known, and the language of `--fail-if`.

use hdrhistogram::Histogram;

use super::*;
use crate::run::ProcessUse;
use crate::run::tests::empty;

/// A round of 20,000 answers, spread evenly up to `slowest` nanoseconds.
fn round(path: &str, slowest: u64, cpu: Option<u64>) -> Run {
    let mut corrected = Histogram::new(4).unwrap();
    for index in 1..=20_000 {
        corrected.record(slowest * index / 20_000).unwrap();
    }
    let mut run = empty(path);
    run.latencies.uncorrected = corrected.clone();
    run.latencies.corrected = corrected;
    run.counts.due = 20_000;
    run.counts.answered = 20_000;
    run.process = cpu.map(|cpu| ProcessUse {
        process_id: 1,
        cpu,
        resident_before: 0,
        resident_peak: 1 << 20,
        proportional: None,
    });
    run
}

fn path(name: &str, slowest: &[u64], cpu: Option<u64>) -> Path {
    Path {
        name: name.to_owned(),
        rounds: slowest
            .iter()
            .map(|slowest| round(name, *slowest, cpu))
            .collect(),
    }
}

const DIRECT: [u64; 6] = [
    1_000_000, 2_000_000, 1_000_000, 3_000_000, 1_000_000, 1_500_000,
];

/// Between 1.2 and 1.3 of `DIRECT` in each round, though the machine drifts threefold.
const PROXY: [u64; 6] = [
    1_200_000, 2_600_000, 1_250_000, 3_700_000, 1_250_000, 1_900_000,
];

fn bound(text: &str) -> Bound {
    text.parse().unwrap()
}

fn compare(bounds: &[&str]) -> Comparison {
    let bounds: Vec<Bound> = bounds.iter().map(|text| bound(text)).collect();
    let paths = vec![
        path("direct", &DIRECT, None),
        path("sallyport", &PROXY, Some(400_000_000)),
        path("pgbouncer", &PROXY, Some(200_000_000)),
    ];
    Comparison::of(paths, &bounds, 1)
}

fn metric(comparison: &Comparison, path: &str, base: &str, metric: Metric) -> Compared {
    let of = |pair: &&Pair| pair.path == path && pair.base == base;
    let pair = comparison.pairs.iter().find(of).unwrap();
    let (_, compared) = pair.metrics.iter().find(|(of, _)| *of == metric).unwrap();
    compared.unwrap()
}

#[test]
fn a_drift_of_the_machine_is_gone_from_the_ratio() {
    let comparison = compare(&[]);
    let p99 = metric(&comparison, "sallyport", "direct", Metric::P99).ratio;
    let (low, high) = p99.interval.unwrap();
    assert!((1.24..1.26).contains(&p99.value), "{p99:?}");
    assert!(1.19 < low && high < 1.31, "{p99:?}");
    let throughput = metric(&comparison, "sallyport", "direct", Metric::Throughput).ratio;
    assert_eq!(throughput.value, 1.0);
}

#[test]
fn what_is_added_is_the_mean_difference() {
    let p50 = metric(&compare(&[]), "sallyport", "direct", Metric::P50).difference;
    // Half of 0.2, 0.6, 0.25, 0.7, 0.25 and 0.4 ms, on average.
    assert!((p50.value - 200_000.0).abs() < 300.0, "{p50:?}");
}

#[test]
fn proxies_are_compared_with_each_other_by_cpu() {
    let comparison = compare(&[]);
    let cpu = metric(&comparison, "sallyport", "pgbouncer", Metric::Cpu);
    assert!((cpu.ratio.value - 2.0).abs() < 1e-9);
    assert!((cpu.difference.value - 10_000.0).abs() < 1e-6);
    let direct = comparison.pairs.first().unwrap();
    assert_eq!(
        direct.metrics.last(),
        Some(&(Metric::Memory, Err(Missing::NoProcess)))
    );
}

#[test]
fn a_percentile_with_too_few_answers_beyond_it_is_not_compared() {
    let mut run = round("a", 1_000_000, None);
    assert!(Metric::P999.of(&run).is_ok());
    run.latencies.corrected = Histogram::new(3).unwrap();
    run.latencies.corrected.record_n(5, 9_999).unwrap();
    assert_eq!(Metric::P999.of(&run), Err(Missing::TooFew));
    run.latencies.corrected.record(5).unwrap();
    assert_eq!(Metric::P999.of(&run), Ok(5.0));
}

/// Crossed, kept, undecided or unmeasured, for each path that it is for.
fn check_verdicts(text: &str, expected: &[(&str, char)]) {
    let comparison = compare(&[text]);
    let said: Vec<(String, char)> = comparison
        .verdicts
        .iter()
        .map(|(bound, verdict)| {
            let letter = match verdict {
                Verdict::Crossed(_) => 'c',
                Verdict::Kept(_) => 'k',
                Verdict::Undecided(_) => 'u',
                Verdict::Unmeasured(_) => 'm',
            };
            (bound.to_string(), letter)
        })
        .collect();
    let said: Vec<(&str, char)> = said.iter().map(|(text, at)| (text.as_str(), *at)).collect();
    assert_eq!(said, expected);
}

#[test]
fn a_bound_is_crossed_when_the_whole_interval_is_beyond_it() {
    check_verdicts("sallyport: p99 > 1.1", &[("sallyport: p99 > 1.1", 'c')]);
    check_verdicts("sallyport: p99 > 1.25", &[("sallyport: p99 > 1.25", 'u')]);
    check_verdicts("sallyport: p99 > 1.4", &[("sallyport: p99 > 1.4", 'k')]);
    check_verdicts("sallyport: p99 < 1.4", &[("sallyport: p99 < 1.4", 'c')]);
    check_verdicts(
        "throughput < 0.99",
        &[
            ("sallyport: throughput < 0.99", 'k'),
            ("pgbouncer: throughput < 0.99", 'k'),
        ],
    );
    check_verdicts(
        "sallyport/pgbouncer: cpu >= 2",
        &[("sallyport/pgbouncer: cpu >= 2", 'c')],
    );
    check_verdicts(
        "sallyport/pgbouncer: cpu > 2",
        &[("sallyport/pgbouncer: cpu > 2", 'k')],
    );
    check_verdicts(
        "pgbouncer/sallyport: cpu < 0.6",
        &[("pgbouncer/sallyport: cpu < 0.6", 'c')],
    );
    check_verdicts("sallyport: cpu > 2", &[("sallyport: cpu > 2", 'm')]);
}

#[test]
fn what_cannot_be_judged_makes_the_comparison_invalid() {
    assert_eq!(compare(&["sallyport: p99 > 1.1"]).invalid(), [""; 0]);
    let reasons = compare(&["sallyport: cpu > 2"]).invalid();
    assert_eq!(
        reasons,
        ["`sallyport: cpu > 2` cannot be judged: the process of one of the two was not looked at"]
    );
}

#[test]
fn a_path_that_fails_is_not_compared_by_the_latency_of_the_rest() {
    let mut proxy = path("p", &PROXY, None);
    let first = proxy.rounds.first_mut().unwrap();
    first.counts.failed.insert("timeout".to_owned(), 1_200);
    let paths = |proxy| vec![path("direct", &DIRECT, None), proxy];
    // 1,200 of 120,000 are as many as may fail.
    assert_eq!(Comparison::of(paths(proxy), &[], 1).invalid(), [""; 0]);
    let mut proxy = path("p", &PROXY, None);
    let first = proxy.rounds.first_mut().unwrap();
    first.counts.failed.insert("timeout".to_owned(), 1_200);
    first.counts.unfinished = 1;
    assert_eq!(
        Comparison::of(paths(proxy), &[], 1).invalid(),
        ["p: 1201 of 120000 requests have no expected answer, and the others' latency flatters it"]
    );
}

#[test]
fn bounds_are_read_as_they_are_written() {
    for text in [
        "p99 > 1.2",
        "sallyport: p99.9 >= 2",
        "a/b: throughput < 0.9",
        "a: memory <= 3",
    ] {
        assert_eq!(bound(text).to_string(), text);
    }
    assert_eq!(bound(" a / b :p50>1 ").to_string(), "a/b: p50 > 1");
    let refused = [
        ("p99", BoundError::NoRelation),
        ("p99 = 2", BoundError::NoRelation),
        ("p98 > 2", BoundError::UnknownMetric("p98".to_owned())),
        ("> 2", BoundError::UnknownMetric(String::new())),
        ("p99 > fast", BoundError::NoNumber("fast".to_owned())),
        ("p99 > 0", BoundError::NoNumber("0".to_owned())),
        ("p99 > inf", BoundError::NoNumber("inf".to_owned())),
        ("p99 > 1 > 2", BoundError::NoNumber("1 > 2".to_owned())),
        (": p99 > 1", BoundError::NoPath),
        ("a/: p99 > 1", BoundError::NoPath),
    ];
    for (text, error) in refused {
        assert_eq!(text.parse::<Bound>(), Err(error), "{text}");
    }
}
