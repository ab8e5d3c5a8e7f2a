//! When requests are due, computed ahead: no answer, and no lateness, moves a due time.
//!
//! It knows no clock and no request. The same settings and seed give the same due times, so every
//! path of a comparison is asked at the very same moments.

use std::time::Duration;

use fastrand::Rng;

/// Requests in a second that a schedule may ask for.
///
/// Due times are nanoseconds. At a million in a second they are still a thousand apart, far past
/// what one machine generates.
pub const RATE_MAX: f64 = 1e6;

/// Longest schedule, warm-up included: four hours. Every second of it is kept until the report, with
/// each latency that it had.
pub const DURATION_MAX: Duration = Duration::from_secs(4 * 3600);

/// How arrival goes over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Evenly spaced.
    Constant,
    /// At the same mean rate, each request independent of the others, as from many users.
    Poisson,
    /// Evenly spaced, the rate rising (or falling) in a straight line from `from`.
    Ramp { from: f64 },
    /// Evenly spaced, in so many steps of equal length, from `from` up to the rate.
    Step { from: f64, steps: u32 },
}

/// Due times as they are asked for; [`Schedule::due`] computes them.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    spacing: Spacing,
    /// Of the warm-up first, then of the shape.
    segments: Vec<Segment>,
    warm_up: Duration,
    duration: Duration,
    seed: u64,
}

/// Why there is no such schedule.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum NoSchedule {
    #[error("a rate is above 0 and at most {RATE_MAX} requests in a second, {rate} is not")]
    Rate { rate: f64 },
    #[error("a schedule lasts from 1ms to four hours with its warm-up")]
    Duration,
    #[error("a schedule has from 1 to 1000 steps")]
    Steps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spacing {
    Even,
    Poisson,
}

/// A stretch in which the rate changes in a straight line.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Segment {
    seconds: f64,
    /// Requests in a second where it begins.
    from: f64,
    /// And where it ends.
    to: f64,
}

/// One request's place in a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Counted from 0 over the whole schedule, whichever worker asks it.
    pub number: u64,
    /// Since the schedule's start, the warm-up included.
    pub offset: Duration,
}

impl Schedule {
    /// # Errors
    /// [`NoSchedule`], about settings that no schedule follows from.
    pub fn new(
        shape: Shape,
        rate: f64,
        warm_up: Duration,
        duration: Duration,
        seed: u64,
    ) -> Result<Self, NoSchedule> {
        let whole = warm_up.saturating_add(duration);
        if duration < Duration::from_millis(1) || whole > DURATION_MAX {
            return Err(NoSchedule::Duration);
        }
        let seconds = duration.as_secs_f64();
        check_rate(rate)?;
        let (spacing, shaped) = match shape {
            Shape::Constant => (Spacing::Even, vec![Segment::flat(seconds, rate)]),
            Shape::Poisson => (Spacing::Poisson, vec![Segment::flat(seconds, rate)]),
            Shape::Ramp { from } => {
                check_rate(from)?;
                let to = rate;
                (Spacing::Even, vec![Segment { seconds, from, to }])
            }
            Shape::Step { from, steps } => {
                check_rate(from)?;
                (Spacing::Even, stairs(seconds, from, rate, steps)?)
            }
        };
        let first = shaped.first().map_or(rate, |segment| segment.from);
        let mut segments = vec![Segment::flat(warm_up.as_secs_f64(), first)];
        segments.extend(shaped);
        Ok(Self {
            spacing,
            segments,
            warm_up,
            duration,
            seed,
        })
    }

    /// Before it, requests are asked like any other and are in no figure.
    #[must_use]
    pub fn warm_up(&self) -> Duration {
        self.warm_up
    }

    /// Without the warm-up.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// The due times of one of `workers`, ascending: between them they have each request once.
    ///
    /// Each computes the whole schedule, so it is the same one for any number of workers.
    pub fn due(&self, worker: u64, workers: u64) -> impl Iterator<Item = Due> + use<> {
        (0_u64..)
            .zip(self.offsets())
            .map(|(number, offset)| Due { number, offset })
            .filter(move |due| due.number % workers.max(1) == worker)
    }

    /// Every due time.
    fn offsets(&self) -> Offsets {
        let mut rng = Rng::with_seed(self.seed);
        let next = match self.spacing {
            Spacing::Even => 0.0,
            Spacing::Poisson => exponential(&mut rng),
        };
        Offsets {
            segments: self.segments.clone().into_iter(),
            current: None,
            passed_seconds: 0.0,
            passed_requests: 0.0,
            spacing: self.spacing,
            rng,
            next,
            whole: self.warm_up.saturating_add(self.duration),
        }
    }
}

fn check_rate(rate: f64) -> Result<(), NoSchedule> {
    if rate > 0.0 && rate <= RATE_MAX {
        Ok(())
    } else {
        Err(NoSchedule::Rate { rate })
    }
}

fn stairs(seconds: f64, from: f64, to: f64, steps: u32) -> Result<Vec<Segment>, NoSchedule> {
    if !(1..=1000).contains(&steps) {
        return Err(NoSchedule::Steps);
    }
    let rise = (to - from) / f64::from(steps.saturating_sub(1).max(1));
    let of_each = seconds / f64::from(steps);
    let rates = (0..steps).map(|step| match steps {
        1 => to,
        _ => from + rise * f64::from(step),
    });
    Ok(rates.map(|rate| Segment::flat(of_each, rate)).collect())
}

impl Segment {
    fn flat(seconds: f64, rate: f64) -> Self {
        Self {
            seconds,
            from: rate,
            to: rate,
        }
    }

    /// Requests in it.
    fn requests(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.seconds
    }

    /// Seconds from its start until `requests` have become due.
    fn seconds_until(&self, requests: f64) -> f64 {
        // With the rate r0 + a t, r0 t + a t^2 / 2 have become due at t. Solved for t in the form
        // that also holds for a = 0.
        let a = (self.to - self.from) / self.seconds;
        let root = (2.0_f64.mul_add(a * requests, self.from * self.from)).max(0.0);
        let sum = self.from + root.sqrt();
        if sum > 0.0 { 2.0 * requests / sum } else { 0.0 }
    }
}

/// Ascending. Requests are counted as the area below the rate: an even schedule has one where a
/// whole number of them has passed, a Poisson one where exponential gaps end.
struct Offsets {
    segments: std::vec::IntoIter<Segment>,
    current: Option<Segment>,
    /// Before the current segment.
    passed_seconds: f64,
    passed_requests: f64,
    spacing: Spacing,
    rng: Rng,
    /// The next request, counted so.
    next: f64,
    whole: Duration,
}

impl Iterator for Offsets {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let segment = loop {
            if let Some(segment) = self.current {
                let requests = segment.requests();
                if self.next < self.passed_requests + requests {
                    break segment;
                }
                self.passed_requests += requests;
                self.passed_seconds += segment.seconds;
            }
            self.current = Some(self.segments.next()?);
        };
        let seconds = self.passed_seconds + segment.seconds_until(self.next - self.passed_requests);
        self.next += match self.spacing {
            Spacing::Even => 1.0,
            Spacing::Poisson => exponential(&mut self.rng),
        };
        // Rounding alone can reach past the end.
        Some(Duration::try_from_secs_f64(seconds).map_or(self.whole, |at| at.min(self.whole)))
    }
}

/// Exponentially distributed with mean 1.
fn exponential(rng: &mut Rng) -> f64 {
    // `f64` is below 1, so this is never the logarithm of 0.
    -(1.0 - rng.f64()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_WARM_UP: Duration = Duration::ZERO;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn offsets(shape: Shape, rate: f64, duration: Duration, seed: u64) -> Vec<Duration> {
        let schedule = Schedule::new(shape, rate, NO_WARM_UP, duration, seed).unwrap();
        schedule.due(0, 1).map(|due| due.offset).collect()
    }

    fn due_in(offsets: &[Duration], from: f64, to: f64) -> usize {
        let inside = |offset: &&Duration| (from..to).contains(&offset.as_secs_f64());
        offsets.iter().filter(inside).count()
    }

    #[test]
    fn a_constant_schedule_is_evenly_spaced() {
        let offsets = offsets(Shape::Constant, 4.0, seconds(2), 1);
        let millis: Vec<u128> = offsets.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [0, 250, 500, 750, 1000, 1250, 1500, 1750]);
    }

    #[test]
    fn a_constant_schedule_does_not_drift() {
        let offsets = offsets(Shape::Constant, 3000.0, seconds(360), 1);
        assert_eq!(offsets.len(), 1_080_000);
        let last = offsets.last().unwrap().as_secs_f64();
        assert!((last - (360.0 - 1.0 / 3000.0)).abs() < 1e-6, "{last}");
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let rate = 1000.0;
        let offsets = offsets(Shape::Poisson, rate, seconds(200), 7);
        let count = offsets.len() as f64;
        // 200,000 expected with a standard deviation of 447.
        assert!((count - 200_000.0).abs() < 5.0 * 447.0, "{count}");
        let gaps: Vec<f64> = offsets
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64() * rate)
            .collect();
        // Kolmogorov and Smirnov: the greatest distance from the distribution function. 1.63
        // standard widths hold for 99 of 100 seeds, and this seed is one.
        let mut sorted = gaps.clone();
        sorted.sort_by(f64::total_cmp);
        let distance = sorted
            .iter()
            .enumerate()
            .map(|(rank, gap)| (rank as f64 / count - (1.0 - (-gap).exp())).abs())
            .fold(0.0, f64::max);
        assert!(distance < 1.63 / count.sqrt(), "{distance}");
        // Neighbours are independent: their correlation is 0 within its error.
        let products: f64 = gaps.windows(2).map(|p| (p[0] - 1.0) * (p[1] - 1.0)).sum();
        assert!((products / count).abs() < 4.0 / count.sqrt());
    }

    #[test]
    fn a_ramp_goes_from_rate_to_rate_in_a_straight_line() {
        let offsets = offsets(Shape::Ramp { from: 0.5 }, 99.5, seconds(100), 1);
        assert_eq!(offsets.len(), 5000);
        // The mean rate of each ten seconds.
        for (tenth, rate) in [(0, 5.45), (4, 45.05), (9, 94.55)] {
            let from = f64::from(tenth) * 10.0;
            let seen = due_in(&offsets, from, from + 10.0) as f64;
            assert!((seen - rate * 10.0).abs() <= 1.0, "{tenth}: {seen}");
        }
    }

    #[test]
    fn a_ramp_may_fall() {
        let offsets = offsets(Shape::Ramp { from: 100.0 }, 1.0, seconds(10), 1);
        assert_eq!(offsets.len(), 505);
        assert!(due_in(&offsets, 0.0, 5.0) > 350);
        assert!(offsets.is_sorted());
    }

    #[test]
    fn steps_are_flat_and_end_at_the_rate() {
        let shape = Shape::Step {
            from: 10.0,
            steps: 3,
        };
        let offsets = offsets(shape, 30.0, seconds(6), 1);
        for (step, count) in [(0.0, 20), (1.0, 40), (2.0, 60)] {
            assert_eq!(due_in(&offsets, step * 2.0, step * 2.0 + 1.0), count / 2);
            assert_eq!(due_in(&offsets, step * 2.0, step * 2.0 + 2.0), count);
        }
    }

    #[test]
    fn a_seed_gives_the_same_schedule_and_another_seed_another() {
        let first = offsets(Shape::Poisson, 500.0, seconds(10), 3);
        assert_eq!(first, offsets(Shape::Poisson, 500.0, seconds(10), 3));
        assert_ne!(first, offsets(Shape::Poisson, 500.0, seconds(10), 4));
    }

    #[test]
    fn workers_share_one_schedule() {
        let shape = Shape::Poisson;
        let schedule = Schedule::new(shape, 700.0, seconds(1), seconds(5), 9).unwrap();
        let whole: Vec<Due> = schedule.due(0, 1).collect();
        let mut shared: Vec<Due> = (0..3).flat_map(|worker| schedule.due(worker, 3)).collect();
        shared.sort_by_key(|due| due.number);
        assert_eq!(whole, shared);
    }

    #[test]
    fn the_warm_up_comes_before_the_duration_at_the_first_rate() {
        let shape = Shape::Ramp { from: 10.0 };
        let schedule = Schedule::new(shape, 30.0, seconds(3), seconds(2), 1).unwrap();
        let offsets: Vec<Duration> = schedule.due(0, 1).map(|due| due.offset).collect();
        assert_eq!(due_in(&offsets, 0.0, 3.0), 30);
        assert_eq!(due_in(&offsets, 3.0, 5.0), 40);
    }

    #[test]
    fn impossible_schedules_are_refused() {
        let new = |shape, rate, duration| Schedule::new(shape, rate, NO_WARM_UP, duration, 1);
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, RATE_MAX * 1.001] {
            let refused = new(Shape::Constant, rate, seconds(1));
            assert!(matches!(refused, Err(NoSchedule::Rate { .. })), "{rate}");
        }
        assert!(new(Shape::Constant, RATE_MAX, seconds(1)).is_ok());
        let from_nothing = new(Shape::Ramp { from: 0.0 }, 1.0, seconds(1));
        assert_eq!(from_nothing, Err(NoSchedule::Rate { rate: 0.0 }));
        let step = |steps| new(Shape::Step { from: 1.0, steps }, 2.0, seconds(1));
        assert_eq!(step(0), Err(NoSchedule::Steps));
        assert!(step(1).is_ok());
        assert!(step(1000).is_ok());
        assert_eq!(step(1001), Err(NoSchedule::Steps));
        let lasting = |duration| new(Shape::Constant, 1.0, duration);
        assert_eq!(lasting(Duration::ZERO), Err(NoSchedule::Duration));
        assert!(lasting(DURATION_MAX).is_ok());
        let longer = DURATION_MAX + Duration::from_nanos(1);
        assert_eq!(lasting(longer), Err(NoSchedule::Duration));
    }
}
