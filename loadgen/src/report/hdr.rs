//! Latencies in the files of HdrHistogram, for its plotters and readers.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::run::Run;

/// Lines for each halving of the distance to 100 %, as HdrHistogram's own tools have it.
const TICKS_PER_HALF: u32 = 5;

const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;

/// Why an interval log could not be made.
#[derive(Debug, thiserror::Error)]
#[error("a second's latencies do not fit a histogram")]
pub struct LogError;

/// The percentile distribution (`.hgrm`), in milliseconds.
///
/// Spec: `HistogramLogProcessor` and `outputPercentileDistribution` of HdrHistogram for Java,
/// which its plotter reads. Lines with `#` are comments to it.
#[must_use]
pub fn percentile_distribution(histogram: &Histogram<u64>, what: &str) -> String {
    let scale = |nanoseconds: f64| nanoseconds / NANOSECONDS_PER_MILLISECOND;
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut count = 0;
    for value in histogram.iter_quantiles(TICKS_PER_HALF) {
        count += value.count_since_last_iteration();
        let quantile = value.quantile_iterated_to();
        let _ = write!(
            text,
            "{:12.6} {quantile:2.12} {count:10}",
            scale(value.value_iterated_to() as f64),
        );
        if quantile < 1.0 {
            let _ = write!(text, " {:14.2}", 1.0 / (1.0 - quantile));
        }
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.6}, StdDeviation   = {:12.6}]\n\
         #[Max     = {:12.6}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]\n\
         #[Unit    = milliseconds, {}]",
        scale(histogram.mean()),
        scale(histogram.stdev()),
        scale(histogram.max() as f64),
        histogram.len(),
        histogram.buckets(),
        // What the format calls sub-buckets follows from the digits: 2,048 at 3.
        2 * 10_u64
            .pow(u32::from(histogram.sigfig()))
            .next_power_of_two(),
        what.replace(char::is_control, " "),
    );
    text
}

/// The interval log, version 2: a histogram of corrected latency in nanoseconds for each second of
/// the schedule, of one run after the other.
///
/// The largest value of each line, which is for people, is in milliseconds.
///
/// # Errors
/// [`LogError`].
pub fn interval_log(runs: &[Run]) -> Result<Vec<u8>, LogError> {
    let started = runs
        .first()
        .map_or(SystemTime::UNIX_EPOCH, |run| run.started);
    let mut log = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.2]")
        .add_comment("corrected latency in nanoseconds; the largest of each line in milliseconds")
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(NANOSECONDS_PER_MILLISECOND)
        .begin_log_with(&mut log, &mut serializer)
        .map_err(|_| LogError)?;
    for run in runs {
        let mut at = run.started.duration_since(started).unwrap_or_default();
        for second in &run.seconds {
            let mut histogram = Histogram::new(3).map_err(|_| LogError)?;
            for (latency, count) in &second.corrected {
                histogram.record_n(*latency, *count).map_err(|_| LogError)?;
            }
            writer
                .write_histogram(&histogram, at, Duration::from_secs(1), None)
                .map_err(|_| LogError)?;
            at += Duration::from_secs(1);
        }
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::run::Second;

    #[test]
    fn the_distribution_is_as_hdrhistograms_tools_print_it() {
        let mut histogram = Histogram::new(3).unwrap();
        for millisecond in 1..=10 {
            histogram.record(millisecond * 1_000_000).unwrap();
        }
        let text = percentile_distribution(&histogram, "direct\nx");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "       Value     Percentile TotalCount 1/(1-Percentile)",
                "",
                "    1.000447 0.000000000000          1           1.00",
                "    1.000447 0.100000000000          1           1.11",
            ]
        );
        let last = lines.iter().rfind(|line| !line.starts_with('#')).unwrap();
        assert_eq!(*last, "   10.002431 1.000000000000         10");
        let footer: Vec<&&str> = lines.iter().filter(|line| line.starts_with('#')).collect();
        assert_eq!(footer.len(), 4);
        assert!(footer[1].contains("Total count    =           10"));
        assert_eq!(*footer[3], "#[Unit    = milliseconds, direct x]");
    }

    #[test]
    fn half_of_the_values_are_at_the_half() {
        let mut histogram = Histogram::new(3).unwrap();
        histogram.record_n(1_000_000, 50).unwrap();
        histogram.record_n(9_000_000, 50).unwrap();
        let text = percentile_distribution(&histogram, "");
        let half = text.lines().find(|line| line.contains(" 0.500000000000 "));
        assert_eq!(
            half,
            Some("    1.000447 0.500000000000         50           2.00")
        );
    }

    #[test]
    fn the_log_is_read_back_by_its_own_reader() {
        let second = |latencies: &[(u64, u64)]| Second {
            corrected: latencies.to_vec(),
            ..Second::default()
        };
        let mut first = crate::run::tests::empty("direct");
        first.started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        first.seconds = vec![
            second(&[(200_000, 490), (5_000_000, 10)]),
            second(&[]),
            second(&[(61_000_000_000, 1)]),
        ];
        let mut later = first.clone();
        later.started += Duration::from_secs(60);
        later.seconds.truncate(1);
        let log = interval_log(&[first, later]).unwrap();

        let mut intervals = Vec::new();
        for entry in IntervalLogIterator::new(&log) {
            match entry.unwrap() {
                LogEntry::StartTime(at) | LogEntry::BaseTime(at) => {
                    assert_eq!(at.as_secs(), 1_800_000_000);
                }
                LogEntry::Interval(interval) => {
                    let encoded = BASE64.decode(interval.encoded_histogram()).unwrap();
                    let histogram: Histogram<u64> =
                        Deserializer::new().deserialize(&mut &*encoded).unwrap();
                    assert_eq!(interval.duration(), Duration::from_secs(1));
                    intervals.push((interval.start_timestamp().as_secs(), histogram));
                }
            }
        }
        let starts: Vec<u64> = intervals.iter().map(|(start, _)| *start).collect();
        assert_eq!(starts, [0, 1, 2, 60]);
        let histogram = &intervals[0].1;
        assert_eq!(histogram.len(), 500);
        assert_eq!(histogram.count_between(200_000, 200_000), 490);
        assert_eq!(histogram.count_between(5_000_000, 5_000_000), 10);
        assert!(intervals[1].1.is_empty());
        let slow = intervals[2].1.max();
        assert!((61_000_000_000..61_100_000_000).contains(&slow), "{slow}");
    }
}
