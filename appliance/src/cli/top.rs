//! `sallyport top`: what the running appliance is doing, again and again.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::table::table;
use super::{Failure, client};
use crate::config::Environment;
use crate::control::{Health, paths};

/// Moves to the corner and clears what is below: no flicker, no scrolling.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

#[derive(Debug, Args)]
pub(super) struct Top {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Looks before it ends [default: until it is interrupted]
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
}

impl Top {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let client = client(environment)?;
        let pause = Duration::from_secs(self.interval);
        let is_terminal = io::stdout().is_terminal();
        let mut before: Option<(Instant, Health)> = None;
        let mut looks = 0;
        loop {
            let now = Instant::now();
            let health: Health = client.get(paths::HEALTH)?;
            let elapsed = before.as_ref().map(|(then, _)| now.duration_since(*then));
            let rates = before
                .as_ref()
                .zip(elapsed)
                .map(|((_, earlier), elapsed)| Rates { earlier, elapsed });
            let mut text = if is_terminal {
                CLEAR.to_owned()
            } else {
                String::new()
            };
            text.push_str(&page(&health, rates.as_ref()));
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()?;
            drop(out);
            before = Some((now, health));
            looks += 1;
            if self.count.is_some_and(|count| looks >= count) {
                return Ok(());
            }
            thread::park_timeout(pause);
        }
    }
}

/// What to subtract for what happened since the last look.
struct Rates<'h> {
    earlier: &'h Health,
    elapsed: Duration,
}

impl Rates<'_> {
    fn per_second(&self, now: u64, earlier: u64) -> String {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let rate = now.saturating_sub(earlier) as f64 / self.elapsed.as_secs_f64().max(0.001);
        format!("{rate:.1}")
    }
}

fn page(health: &Health, rates: Option<&Rates<'_>>) -> String {
    let state = if health.ready {
        "ready".to_owned()
    } else {
        format!("not ready: {}", health.problems.join("; "))
    };
    let up = humantime::format_duration(Duration::from_secs(health.uptime_seconds));
    let (sessions, lag) = (health.sessions(), health.journal_lag_bytes());
    let mut text = format!(
        "{state}; up {up}; {sessions} sessions on {} shards; journal lag {lag} bytes\n\n",
        health.shards.len()
    );
    let rate = |now: u64, earlier: &dyn Fn(&Health) -> u64| {
        rates.map_or_else(
            || "-".to_owned(),
            |rates| rates.per_second(now, earlier(rates.earlier)),
        )
    };

    let commands: Vec<Vec<String>> = health
        .commands
        .iter()
        .map(|command| {
            let same = |health: &Health| {
                let all = health.commands.iter();
                let mut same = all
                    .filter(|other| other.kind == command.kind && other.verdict == command.verdict);
                same.next().map_or(0, |other| other.count)
            };
            vec![
                command.kind.clone(),
                command.verdict.clone(),
                rate(command.count, &same),
                command.count.to_string(),
            ]
        })
        .collect();
    text.push_str(&table(
        &["command", "verdict", "per second", "all"],
        &commands,
    ));

    if !health.refusals.is_empty() {
        let refusals: Vec<Vec<String>> = health
            .refusals
            .iter()
            .map(|refusal| {
                let rule = refusal.rule.clone().unwrap_or_else(|| "-".to_owned());
                vec![refusal.reason.clone(), rule, refusal.count.to_string()]
            })
            .collect();
        text.push('\n');
        text.push_str(&table(&["refused", "rule", "all"], &refusals));
    }

    let seconds =
        |bound: Option<f64>| bound.map_or_else(|| "-".to_owned(), |bound| format!("{bound} s"));
    let phases: Vec<Vec<String>> = health
        .phases
        .iter()
        .filter(|phase| phase.count > 0)
        .map(|phase| {
            vec![
                phase.phase.clone(),
                phase.count.to_string(),
                seconds(phase.p50_seconds),
                seconds(phase.p99_seconds),
            ]
        })
        .collect();
    text.push('\n');
    text.push_str(&table(
        &["phase", "all", "p50 within", "p99 within"],
        &phases,
    ));

    let pools: Vec<Vec<String>> = health
        .pools
        .iter()
        .map(|pool| {
            vec![
                pool.target.clone(),
                pool.open.to_string(),
                pool.idle.to_string(),
                pool.waiting.to_string(),
                if pool.failing { "failing" } else { "" }.to_owned(),
            ]
        })
        .collect();
    text.push('\n');
    text.push_str(&table(&["target", "open", "idle", "waiting", ""], &pools));
    text
}
