//! Lines in a frame with axes, as SVG: no scripts, no fonts, no network.
//!
//! Colours are classes; the page that holds the picture gives them, for light and dark.

use std::fmt::Write;

use crate::progress::duration;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 16.0;

/// Bottom of the frame; names of the axis and the legend come below.
const FLOOR: f64 = 320.0;

/// Lines of the legend.
const LEGEND_FROM: f64 = FLOOR + 56.0;
const LEGEND_LINE: f64 = 20.0;

/// Width of a character of the legend, roughly: entries may stand wider apart than needed.
const CHARACTER: f64 = 7.4;

/// Colours that the page has; further lines begin again.
pub(super) const COLOURS: usize = 6;

pub(super) struct Plot<'a> {
    /// Unique on its page; letters and digits.
    pub id: &'a str,
    pub title: &'a str,
    /// What can be seen, for who does not see it.
    pub description: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
    /// Positions on the x axis where something failed.
    pub failures: Vec<f64>,
}

/// Positions are in the unit of the scale: a logarithm, where it is one.
pub(super) struct Axis {
    pub title: &'static str,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

pub(super) struct Line {
    pub name: String,
    /// Below [`COLOURS`].
    pub colour: usize,
    pub dashed: bool,
    pub points: Vec<(f64, f64)>,
}

impl Axis {
    /// Nanoseconds on a logarithmic scale, around `values`.
    pub(super) fn nanoseconds(values: impl Iterator<Item = u64>) -> Self {
        let positions = values.map(logarithm);
        let (low, high) = positions.fold((f64::MAX, f64::MIN), |(low, high), at| {
            (low.min(at), high.max(at))
        });
        let (low, high) = if low <= high { (low, high) } else { (3.0, 6.0) };
        // Room above and below, and no scale so fine that noise looks like news.
        let (from, to) = (low - 0.05, (high + 0.05).max(low + 0.5));
        let steps: &[u64] = if to - from < 2.5 { &[1, 2, 5] } else { &[1] };
        let ticks = (0..=13_u32)
            .flat_map(|decade| steps.iter().map(move |step| step * 10_u64.pow(decade)))
            .map(|value| (logarithm(value), duration(value)))
            .filter(|(at, _)| (from..=to).contains(at))
            .map(|(at, label)| (at, label.replace(".00", "").replace(".0", "")))
            .collect();
        Self {
            title: "latency",
            from,
            to,
            ticks,
        }
    }

    /// Percentiles, each further nine as wide as the one before, as far as `samples` show any.
    pub(super) fn nines(samples: u64) -> Self {
        let to = logarithm(samples).max(1.0);
        let mut ticks = vec![(0.0, "0%".to_owned()), (nines(0.5), "50%".to_owned())];
        for (at, label) in [
            (1.0, "90%"),
            (2.0, "99%"),
            (3.0, "99.9%"),
            (4.0, "99.99%"),
            (5.0, "99.999%"),
            (6.0, "99.9999%"),
            (7.0, "99.99999%"),
        ] {
            if at <= to {
                ticks.push((at, label.to_owned()));
            }
        }
        Self {
            title: "percentile",
            from: 0.0,
            to,
            ticks,
        }
    }

    /// Seconds from 0.
    pub(super) fn seconds(count: usize) -> Self {
        let to = (count as f64).max(1.0);
        let steps = [
            1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 21_600.0, 86_400.0,
        ];
        let step = steps
            .into_iter()
            .find(|step| to / step <= 12.0)
            .unwrap_or(to / 10.0);
        let ticks = (0..=12)
            .map(|index| f64::from(index) * step)
            .filter(|at| *at <= to)
            .map(|at| (at, format!("{at:.0} s")))
            .collect();
        Self {
            title: "time",
            from: 0.0,
            to,
            ticks,
        }
    }

    /// Where a position is, from 0 to 1.
    fn share(&self, at: f64) -> f64 {
        ((at - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

/// Position of nanoseconds, or of a count.
pub(super) fn logarithm(value: u64) -> f64 {
    (value.max(1) as f64).log10()
}

/// Position of a quantile below 1.
pub(super) fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).max(f64::MIN_POSITIVE).log10()
}

impl Plot<'_> {
    /// The picture; names in it are escaped here.
    pub(super) fn svg(&self) -> String {
        let id = self.id;
        let (legend, height) = self.legend();
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" \
             aria-labelledby=\"{id}-title {id}-description\">\n\
             <title id=\"{id}-title\">{}</title>\n\
             <desc id=\"{id}-description\">{}</desc>\n",
            escape(self.title),
            escape(&self.description)
        );
        self.frame(&mut svg);
        for at in &self.failures {
            let _ = writeln!(
                svg,
                "<path class=\"failure\" d=\"M{:.1} {FLOOR}v-12\"/>",
                self.x(*at)
            );
        }
        for line in &self.lines {
            self.line(&mut svg, line);
        }
        svg.push_str(&legend);
        svg.push_str("</svg>\n");
        svg
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + self.x.share(at) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, at: f64) -> f64 {
        FLOOR - self.y.share(at) * (FLOOR - TOP)
    }

    fn frame(&self, svg: &mut String) {
        let right = WIDTH - RIGHT;
        for (at, label) in &self.y.ticks {
            let y = self.y(*at);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                escape(label)
            );
        }
        for (at, label) in &self.x.ticks {
            let x = self.x(*at);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{FLOOR}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                FLOOR + 18.0,
                escape(label)
            );
        }
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {TOP}V{FLOOR}H{right}\"/>\
             <text class=\"name\" x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            FLOOR + 36.0,
            self.x.title,
            LEFT + 6.0,
            TOP + 10.0,
            self.y.title
        );
    }

    fn line(&self, svg: &mut String, line: &Line) {
        let mut path = String::new();
        for (index, (x, y)) in line.points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.x(*x), self.y(*y));
        }
        if !path.is_empty() {
            let _ = writeln!(svg, "<path class=\"{}\" d=\"{path}\"/>", line.class());
        }
    }

    /// The legend, and the height of a picture that it fits in.
    fn legend(&self) -> (String, f64) {
        let mut svg = String::new();
        let (mut x, mut y) = (LEFT, LEGEND_FROM);
        let failures = (!self.failures.is_empty()).then(|| ("failure".to_owned(), "failures"));
        let lines = self.lines.iter();
        let entries = lines.map(|line| (line.class(), line.name.as_str()));
        for (class, name) in entries.chain(failures) {
            let width = 52.0 + name.chars().count() as f64 * CHARACTER;
            if x > LEFT && x + width > WIDTH - RIGHT {
                (x, y) = (LEFT, y + LEGEND_LINE);
            }
            let _ = writeln!(
                svg,
                "<path class=\"{class}\" d=\"M{x:.1} {:.1}h28\"/>\
                 <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                y - 4.0,
                x + 34.0,
                escape(name)
            );
            x += width;
        }
        (svg, y + LEGEND_LINE)
    }
}

impl Line {
    fn class(&self) -> String {
        let dashed = if self.dashed { " dashed" } else { "" };
        format!("line c{}{dashed}", self.colour % COLOURS)
    }
}

/// Text that markup cannot come out of, in an element or in an attribute; control characters,
/// which XML has no way to write, are shown as such.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nines_are_evenly_spaced() {
        for (quantile, position) in [(0.0, 0.0), (0.9, 1.0), (0.99, 2.0), (0.999, 3.0)] {
            assert!((nines(quantile) - position).abs() < 1e-9, "{quantile}");
        }
    }

    #[test]
    fn an_axis_shows_the_nines_that_there_are_samples_for() {
        let labels = |samples| {
            let axis = Axis::nines(samples);
            axis.ticks
                .into_iter()
                .map(|(_, label)| label)
                .collect::<Vec<_>>()
        };
        assert_eq!(labels(999), ["0%", "50%", "90%", "99%"]);
        assert_eq!(labels(1_000), ["0%", "50%", "90%", "99%", "99.9%"]);
        assert_eq!(labels(0), ["0%", "50%", "90%"]);
    }

    #[test]
    fn latencies_have_round_ticks() {
        let axis = Axis::nanoseconds([150_000, 4_000_000].into_iter());
        let labels: Vec<&str> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["200 µs", "500 µs", "1 ms", "2 ms"]);
        let axis = Axis::nanoseconds([0, 60_000_000_000].into_iter());
        assert!(axis.ticks.iter().any(|(_, label)| label == "10 s"));
        assert!(!Axis::nanoseconds(std::iter::empty()).ticks.is_empty());
    }

    #[test]
    fn nothing_of_a_name_is_markup() {
        assert_eq!(
            escape("<a href='x'>&\"\u{1b}[2J"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{fffd}[2J"
        );
    }
}
