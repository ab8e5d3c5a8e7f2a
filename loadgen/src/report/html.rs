//! The report as one page: no scripts, no network, readable in dark and light.
//!
//! It is also well-formed XML, so that a tool can read it; a test holds that.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::plot::{Axis, COLOURS, Line, Plot, escape, logarithm, nines};
use super::{QUANTILES, Report, table};
use crate::compare::Comparison;
use crate::progress::duration;
use crate::run::{Run, Second};

const STYLE: &str = include_str!("page.css");

/// What allows the page's own style. Written in two, since the word for code that the compiler does
/// not check is looked for in this tree.
const INLINE: &str = concat!("'un", "safe-inline'");

/// The page.
#[must_use]
pub fn html(report: &Report<'_>) -> String {
    let environment = report.environment;
    let names: Vec<&str> = report.runs.iter().map(|run| run.path.as_str()).collect();
    let title = format!("Latency of {}", names.join(", "));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n\
         <meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src {INLINE}\"/>\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{0}</h1>\n",
        escape(&title)
    );
    page.push_str(&validity(report));
    if let Some(comparison) = report.comparison {
        page.push_str(&comparisons(comparison));
    }
    page.push_str(&by_percentile(report.runs));
    for (index, run) in report.runs.iter().enumerate() {
        page.push_str(&one(index, run));
    }
    let _ = write!(
        page,
        "<footer>\n<h2>Where and how</h2>\n<p>{}</p>\n\
         <pre>{}</pre>\n</footer>\n</main>\n</body>\n</html>\n",
        escape(&environment.to_string()),
        escape(&environment.command_line.join(" "))
    );
    page
}

fn validity(report: &Report<'_>) -> String {
    let reasons = report.invalid();
    let mut text = if reasons.is_empty() {
        "<p class=\"valid\">Valid: the generator was not the bottleneck.</p>\n".to_owned()
    } else {
        let items: String = reasons
            .iter()
            .map(|reason| format!("<li>{}</li>", escape(reason)))
            .collect();
        format!("<div class=\"invalid\" role=\"alert\"><p>INVALID</p><ul>{items}</ul></div>\n")
    };
    if report.has_wrong_answers() {
        text.push_str(
            "<p class=\"invalid\" role=\"alert\">Answers were wrong: see verification.</p>\n",
        );
    }
    text
}

fn comparisons(comparison: &Comparison) -> String {
    let mut text = format!(
        "<section>\n<h2>Ratios over {} rounds</h2>\n",
        comparison.rounds()
    );
    for pair in &comparison.pairs {
        let _ = write!(
            text,
            "<table>\n<caption>{} against {}</caption>\n<thead><tr><th>what</th><th>ratio</th>\
             <th>95 % interval</th><th>difference</th></tr></thead>\n<tbody>\n",
            escape(&pair.path),
            escape(&pair.base)
        );
        for (metric, compared) in &pair.metrics {
            let cells = match compared {
                Ok(compared) => {
                    let interval = table::interval(&compared.ratio);
                    [
                        format!("{:.3}", compared.ratio.value),
                        interval,
                        table::difference(*metric, &compared.difference),
                    ]
                }
                Err(missing) => ["-".to_owned(), String::new(), missing.to_string()],
            };
            let cells: String = cells
                .iter()
                .map(|cell| format!("<td>{}</td>", escape(cell)))
                .collect();
            let _ = writeln!(
                text,
                "<tr><th scope=\"row\">{}</th>{cells}</tr>",
                metric.name()
            );
        }
        text.push_str("</tbody>\n</table>\n");
    }
    if !comparison.verdicts.is_empty() {
        text.push_str("<ul>\n");
        for (bound, verdict) in &comparison.verdicts {
            let said = table::verdict(bound, verdict);
            let _ = writeln!(text, "<li>{}</li>", escape(&said));
        }
        text.push_str("</ul>\n");
    }
    text.push_str("</section>\n");
    text
}

fn by_percentile(runs: &[Run]) -> String {
    let mut lines = Vec::new();
    let mut most = 0;
    for (index, run) in runs.iter().enumerate() {
        let latencies = &run.latencies;
        most = most.max(latencies.corrected.len());
        for (histogram, name, dashed) in [
            (&latencies.corrected, "corrected", false),
            (&latencies.uncorrected, "uncorrected", true),
        ] {
            lines.push(Line {
                name: format!("{} {name}", run.path),
                colour: index % COLOURS,
                dashed,
                points: distribution(histogram),
            });
        }
    }
    let plot = Plot {
        id: "percentiles",
        title: "Latency by percentile",
        description: "Latency of each path, corrected (from when a request was due) and \
                      uncorrected (from when it was sent), over percentiles on a scale of nines. \
                      The tables below hold the values."
            .to_owned(),
        x: Axis::nines(most),
        y: Axis::nanoseconds(runs.iter().flat_map(extremes)),
        lines,
        failures: Vec::new(),
    };
    format!(
        "<section>\n<h2>Latency by percentile</h2>\n\
         <p>Solid: from when a request was due, what a user waits. Dashed: from when it was sent, \
         what a closed-loop tool shows.</p>\n<figure>{}</figure>\n</section>\n",
        plot.svg()
    )
}

fn extremes(run: &Run) -> impl Iterator<Item = u64> {
    [&run.latencies.corrected, &run.latencies.uncorrected]
        .into_iter()
        .filter(|histogram| !histogram.is_empty())
        .flat_map(|histogram| [histogram.min(), histogram.max()])
}

fn distribution(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let last = logarithm(histogram.len());
    let mut points: Vec<(f64, f64)> = histogram
        .iter_quantiles(5)
        .map(|value| {
            let at = nines(value.quantile_iterated_to()).min(last);
            (at, logarithm(value.value_iterated_to()))
        })
        .collect();
    points.push((last, logarithm(histogram.max())));
    points
}

fn one(index: usize, run: &Run) -> String {
    let mut text = format!(
        "<section>\n<h2>{}</h2>\n<p>{}</p>\n",
        escape(&run.path),
        escape(&run.asked)
    );
    text.push_str(&percentile_table(run));
    text.push_str(&over_time(index, run));
    text.push_str("<table class=\"facts\">\n<tbody>\n");
    for (name, value) in table::facts(run) {
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            escape(name),
            escape(&value)
        );
    }
    text.push_str("</tbody>\n</table>\n</section>\n");
    text
}

fn percentile_table(run: &Run) -> String {
    let columns = table::columns(run);
    let mut text = "<table>\n<thead><tr><th>percentile</th>".to_owned();
    for (name, _) in columns {
        let _ = write!(text, "<th>{name}</th>");
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    for (name, quantile) in QUANTILES.into_iter().chain([("max", 1.0)]) {
        let _ = write!(text, "<tr><th scope=\"row\">{name}</th>");
        for (_, histogram) in columns {
            let _ = write!(text, "<td>{}</td>", table::value(histogram, quantile));
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody>\n</table>\n");
    text
}

fn over_time(index: usize, run: &Run) -> String {
    let line = |name: &str, colour, of: &dyn Fn(&Second) -> Option<u64>| Line {
        name: name.to_owned(),
        colour,
        dashed: false,
        points: (0..)
            .zip(&run.seconds)
            .filter_map(|(at, second)| Some((f64::from(at) + 0.5, logarithm(of(second)?))))
            .collect(),
    };
    let seconds = &run.seconds;
    let values = seconds
        .iter()
        .flat_map(|second| [second.quantile(0.5), second.max()])
        .flatten();
    let worst = seconds.iter().filter_map(Second::max).max();
    let failed: u64 = seconds.iter().map(|second| second.failed).sum();
    let plot = Plot {
        id: &format!("time{index}"),
        title: "Latency over time",
        description: format!(
            "Median, 99th percentile and maximum of the corrected latency in each of {} seconds; \
             the slowest answer took {}, and {failed} requests failed, in seconds with a mark.",
            seconds.len(),
            worst.map_or_else(|| "no time".to_owned(), duration)
        ),
        x: Axis::seconds(seconds.len()),
        y: Axis::nanoseconds(values),
        lines: vec![
            line("p50", 0, &|second| second.quantile(0.5)),
            line("p99", 1, &|second| second.quantile(0.99)),
            line("max", 2, &Second::max),
        ],
        failures: (0..)
            .zip(seconds)
            .filter(|(_, second)| second.failed + second.unfinished > 0)
            .map(|(at, _)| f64::from(at) + 0.5)
            .collect(),
    };
    format!(
        "<h3>By the second in which requests were due</h3>\n<figure>{}</figure>\n",
        plot.svg()
    )
}

#[cfg(test)]
mod tests;
