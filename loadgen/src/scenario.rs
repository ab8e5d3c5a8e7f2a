//! What is asked of a path: settings as they are typed, and the scenario that follows from them.
//!
//! It does not say of whom it is asked, which is what the paths of a comparison differ in.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::protocols::postgres::RequestError;
use crate::protocols::{Request, Statement};
use crate::schedule::{NoSchedule, Schedule, Shape};

/// Connections of one run, of all kinds: as many as a machine has ports towards one address.
pub const CONNECTIONS_MAX: u32 = 60_000;

/// Longest that anything may be waited for. Latencies up to it are held exactly.
pub const PATIENCE_MAX: Duration = Duration::from_secs(3600);

/// Requests in a second for which one generator thread is started.
///
/// A thread that is asked for more spends most of its time; `validity` says when it was too much.
const RATE_OF_A_WORKER: f64 = 15_000.0;

/// Largest file for COPY ... FROM STDIN: it is held in memory, encoded.
const DATA_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What is asked, as it is typed. `run` and `compare` share it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct Asked {
    /// Requests in a second
    #[arg(long, default_value_t = 500.0, value_name = "N")]
    pub rate: f64,
    /// How they arrive
    #[arg(long, value_enum, default_value_t = Arrival::Constant)]
    pub schedule: Arrival,
    /// Rate at which a ramp or the first step starts [default: a tenth of the rate]
    #[arg(long, value_name = "N")]
    pub rate_from: Option<f64>,
    /// Steps of a step schedule
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub steps: u32,
    /// How long requests are counted
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// How long requests are sent before that, at the first rate
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub warm_up: Duration,
    /// Makes arrival and mix another one, or the same one again
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Connections that requests are sent on, one at a time on each
    #[arg(short, long, default_value_t = 16, value_name = "N")]
    pub connections: u32,
    /// Generator threads, each on a CPU [default: by the rate, at most one for each CPU]
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroU16>,
    /// How a request is made
    #[arg(long, value_enum, default_value_t = Mode::Simple)]
    pub mode: Mode,
    /// What is asked for
    #[arg(long, default_value = "SELECT 1", value_name = "SQL")]
    pub statement: String,
    /// A value for the statement's next parameter (extended and prepared)
    #[arg(long = "parameter", value_name = "VALUE")]
    pub parameters: Vec<String>,
    /// What a COPY ... FROM STDIN sends (copy); without it, the statement is COPY ... TO STDOUT
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Share of requests that ask for what policy refuses, such as 5%
    #[arg(long, default_value_t = Share::NONE, value_name = "SHARE")]
    pub denied: Share,
    /// What those ask for
    #[arg(
        long,
        default_value = "DROP TABLE sallyport_loadgen_denied",
        value_name = "SQL"
    )]
    pub denied_statement: String,
    /// Share of requests whose text was never seen before, so that no cache knows it
    #[arg(long, default_value_t = Share::NONE, value_name = "SHARE")]
    pub novel: Share,
    /// Share of requests for which a connection is closed and a new one opened
    #[arg(long, default_value_t = Share::NONE, value_name = "SHARE")]
    pub churn: Share,
    /// Compare no answer with another: for a statement that answers differently each time
    #[arg(long)]
    pub varying: bool,
    /// Silent connections that are open meanwhile
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub idle: u32,
    /// Connections that meanwhile read large answers slowly, in no figure
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub slow_readers: u32,
    /// Bytes in a second that each of those reads
    #[arg(long, default_value = "65536", value_name = "N")]
    pub slow_rate: NonZeroU32,
    /// What those ask for, again and again
    #[arg(long, default_value = SLOW_STATEMENT, value_name = "SQL")]
    pub slow_statement: String,
    /// How long an answer, or a connection, is waited for
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// How long answers are waited for when the schedule is over
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub patience: Duration,
    /// Greatest 99th percentile of the generator's own lag; a run with more is INVALID unless that
    /// is less than a tenth of what the path's took
    #[arg(long, default_value = "1ms", value_parser = humantime::parse_duration)]
    pub lag_max: Duration,
}

const SLOW_STATEMENT: &str = "SELECT repeat('x', 1000) FROM generate_series(1, 10000)";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arrival {
    /// Evenly spaced
    Constant,
    /// Independent of each other, as from many users
    Poisson,
    /// Evenly spaced, from one rate to another in a straight line
    Ramp,
    /// Evenly spaced, from one rate to another in steps
    Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The simple protocol
    Simple,
    /// Parse, Bind, Execute, Sync
    Extended,
    /// Bind, Execute, Sync: the statement is parsed once on each connection
    Prepared,
    /// COPY
    Copy,
}

/// A part of all requests, `0.05` or `5%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(f64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a share is from 0 to 1, or from 0% to 100%")]
pub struct NotAShare;

/// What is asked, ready to be sent. Shared by the workers and the paths.
#[derive(Debug)]
pub struct Scenario {
    pub schedule: Schedule,
    /// In a line, for readers.
    pub asked: String,
    pub workers: NonZeroU16,
    pub connections: u32,
    pub mix: Mix,
    pub requests: Requests,
    /// Answers are compared with each other.
    pub verifies: bool,
    pub idle: u32,
    pub slow_readers: u32,
    pub timeout: Duration,
    pub patience: Duration,
    pub lag_max: Duration,
}

/// Which request is of which kind. A request is of the same kind on every path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    seed: u64,
    denied: Share,
    novel: Share,
    churn: Share,
}

/// What one request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// What policy refuses.
    Denied,
    /// A text never seen before.
    Novel,
}

/// One request's part in the mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub kind: Kind,
    /// On a connection that is opened for it.
    pub fresh: bool,
}

/// Encoded ahead.
#[derive(Debug)]
pub struct Requests {
    pub plain: Request,
    pub denied: Request,
    pub slow: Request,
    mode: Mode,
    statement: String,
    parameters: Vec<String>,
}

/// Why no scenario follows from the settings.
#[derive(Debug, thiserror::Error)]
pub enum NoScenario {
    #[error(transparent)]
    Schedule(#[from] NoSchedule),
    #[error("from 1 to {CONNECTIONS_MAX} connections, idle ones and slow readers included")]
    Connections,
    #[error("a worker without a connection has nothing to do")]
    Workers,
    #[error("a timeout, and the patience at the end, last at most an hour")]
    Patience,
    #[error("the shares of denied and of novel requests are more than all")]
    Shares,
    #[error("a statement cannot be sent")]
    Statement(#[from] RequestError),
    #[error("only extended and prepared requests have parameters")]
    Parameters,
    #[error("only a COPY sends data")]
    NoCopy,
    #[error("the text of a COPY with data cannot be a novel one")]
    NovelCopy,
    #[error("more data than {DATA_BYTES_MAX} bytes")]
    DataTooLong,
    #[error("cannot read {}", path.display())]
    Data {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl Asked {
    /// Reads the file that a COPY sends, and encodes what can be encoded ahead. `cpus` is how many
    /// this process may use.
    ///
    /// # Errors
    /// [`NoScenario`], for the one who typed it.
    pub fn resolve(&self, cpus: usize) -> Result<Scenario, NoScenario> {
        let schedule = self.resolve_schedule()?;
        let all = [self.connections, self.idle, self.slow_readers]
            .into_iter()
            .try_fold(0_u32, u32::checked_add);
        if self.connections == 0 || all.is_none_or(|all| all > CONNECTIONS_MAX) {
            return Err(NoScenario::Connections);
        }
        let workers = self.workers.unwrap_or_else(|| self.workers_for(cpus));
        if u32::from(workers.get()) > self.connections {
            return Err(NoScenario::Workers);
        }
        if self.timeout > PATIENCE_MAX || self.patience > PATIENCE_MAX {
            return Err(NoScenario::Patience);
        }
        if self.denied.0 + self.novel.0 > 1.0 {
            return Err(NoScenario::Shares);
        }
        Ok(Scenario {
            asked: self.to_string(),
            schedule,
            workers,
            connections: self.connections,
            mix: Mix {
                seed: self.seed,
                denied: self.denied,
                novel: self.novel,
                churn: self.churn,
            },
            requests: self.requests()?,
            verifies: !self.varying,
            idle: self.idle,
            slow_readers: self.slow_readers,
            timeout: self.timeout,
            patience: self.patience,
            lag_max: self.lag_max,
        })
    }

    fn resolve_schedule(&self) -> Result<Schedule, NoSchedule> {
        let from = self.rate_from.unwrap_or(self.rate / 10.0);
        let shape = match self.schedule {
            Arrival::Constant => Shape::Constant,
            Arrival::Poisson => Shape::Poisson,
            Arrival::Ramp => Shape::Ramp { from },
            Arrival::Step => Shape::Step {
                from,
                steps: self.steps,
            },
        };
        Schedule::new(shape, self.rate, self.warm_up, self.duration, self.seed)
    }

    /// A connection belongs to one worker, so there are no more workers than connections.
    fn workers_for(&self, cpus: usize) -> NonZeroU16 {
        let most = cpus.min(usize::try_from(self.connections).unwrap_or(usize::MAX));
        let most = u16::try_from(most).unwrap_or(u16::MAX);
        (1..=most)
            .find(|workers| f64::from(*workers) * RATE_OF_A_WORKER >= self.rate)
            .or(Some(most))
            .and_then(NonZeroU16::new)
            .unwrap_or(NonZeroU16::MIN)
    }

    fn requests(&self) -> Result<Requests, NoScenario> {
        let has_parameters = matches!(self.mode, Mode::Extended | Mode::Prepared);
        if !self.parameters.is_empty() && !has_parameters {
            return Err(NoScenario::Parameters);
        }
        let parameters: Vec<Option<&str>> =
            self.parameters.iter().map(|text| Some(&**text)).collect();
        let plain = match (self.mode, &self.data) {
            (Mode::Copy, Some(_)) if self.novel != Share::NONE => {
                return Err(NoScenario::NovelCopy);
            }
            (Mode::Copy, Some(path)) => Request::copy_in(&self.statement, &read_data(path)?)?,
            (_, Some(_)) => return Err(NoScenario::NoCopy),
            (Mode::Copy, None) => Request::copy_out(&self.statement)?,
            (Mode::Simple, None) => Request::simple(&self.statement)?,
            (Mode::Extended, None) => Request::extended(&self.statement, &parameters)?,
            (Mode::Prepared, None) => {
                Request::prepared(&Statement::new(0, &self.statement)?, &parameters)?
            }
        };
        Ok(Requests {
            plain,
            denied: match self.mode {
                Mode::Simple | Mode::Copy => Request::simple(&self.denied_statement)?,
                Mode::Extended | Mode::Prepared => Request::extended(&self.denied_statement, &[])?,
            },
            slow: Request::simple(&self.slow_statement)?.read_slowly(self.slow_rate),
            mode: self.mode,
            statement: self.statement.clone(),
            parameters: self.parameters.clone(),
        })
    }
}

fn read_data(path: &PathBuf) -> Result<Vec<u8>, NoScenario> {
    let read = || {
        let length = std::fs::metadata(path)?.len();
        match length <= DATA_BYTES_MAX {
            true => std::fs::read(path).map(Some),
            false => Ok(None),
        }
    };
    let data = read().map_err(|source| NoScenario::Data {
        path: path.clone(),
        source,
    })?;
    data.ok_or(NoScenario::DataTooLong)
}

/// In a line: what was asked, without what is not.
impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = |value: Option<clap::builder::PossibleValue>| {
            value.map_or_else(String::new, |value| value.get_name().to_owned())
        };
        write!(
            f,
            "{} {}/s for {} after {} of warm-up, {} connections, {}, seed {}",
            named(self.schedule.to_possible_value()),
            self.rate,
            humantime::format_duration(self.duration),
            humantime::format_duration(self.warm_up),
            self.connections,
            named(self.mode.to_possible_value()),
            self.seed,
        )?;
        for (share, name) in [
            (self.denied, "denied"),
            (self.novel, "novel"),
            (self.churn, "on new connections"),
        ] {
            if share != Share::NONE {
                write!(f, ", {share} {name}")?;
            }
        }
        for (count, name) in [(self.idle, "idle"), (self.slow_readers, "slow readers")] {
            if count > 0 {
                write!(f, ", {count} {name}")?;
            }
        }
        Ok(())
    }
}

impl Scenario {
    /// Of every purpose; at most [`CONNECTIONS_MAX`].
    #[must_use]
    pub fn all_connections(&self) -> u32 {
        self.connections + self.idle + self.slow_readers
    }
}

impl Requests {
    /// A request whose text differs from every other by `run` and `number`, in a comment: the
    /// database answers the same, and whoever remembers texts has not seen it.
    ///
    /// A prepared statement is asked for by the extended protocol here, since a text is prepared to
    /// be used again.
    ///
    /// # Errors
    /// When the text does not fit a message.
    pub fn novel(&self, run: u64, number: u64) -> Result<Request, RequestError> {
        let text = format!("{} /* {run:016x}{number:08x} */", self.statement);
        match self.mode {
            Mode::Simple => Request::simple(&text),
            Mode::Copy => Request::copy_out(&text),
            Mode::Extended | Mode::Prepared => {
                let parameters: Vec<Option<&str>> =
                    self.parameters.iter().map(|text| Some(&**text)).collect();
                Request::extended(&text, &parameters)
            }
        }
    }
}

impl Mix {
    /// The part of the request `number`, by its number and the seed alone.
    #[must_use]
    pub fn part(&self, number: u64) -> Part {
        if (self.denied, self.novel, self.churn) == (Share::NONE, Share::NONE, Share::NONE) {
            let kind = Kind::Plain;
            return Part { kind, fresh: false };
        }
        // The generator's seeds are mixed well enough for neighbours to be independent.
        let mut rng = fastrand::Rng::with_seed(mixed(self.seed ^ mixed(number)));
        let (drawn, fresh) = (rng.f64(), rng.f64());
        let kind = if drawn < self.denied.0 {
            Kind::Denied
        } else if drawn < self.denied.0 + self.novel.0 {
            Kind::Novel
        } else {
            Kind::Plain
        };
        Part {
            kind,
            fresh: fresh < self.churn.0,
        }
    }
}

/// Each bit of the result depends on each bit of `value`: the finalizer of `SplitMix64`.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Share {
    pub const NONE: Self = Self(0.0);
}

impl FromStr for Share {
    type Err = NotAShare;

    fn from_str(text: &str) -> Result<Self, NotAShare> {
        let (digits, unit) = match text.strip_suffix('%') {
            Some(percent) => (percent, 100.0),
            None => (text, 1.0),
        };
        let share = digits.parse::<f64>().map_err(|_| NotAShare)? / unit;
        match (0.0..=1.0).contains(&share) {
            true => Ok(Self(share)),
            false => Err(NotAShare),
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        asked: Asked,
    }

    fn asked(line: &str) -> Asked {
        Line::parse_from(std::iter::once("x").chain(line.split_whitespace())).asked
    }

    #[test]
    fn shares_are_parts_or_percentages() {
        let share = |text: &str| text.parse::<Share>().map(|share| share.0);
        assert_eq!(share("0.25"), Ok(0.25));
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("100%"), Ok(1.0));
        for wrong in ["1.01", "-0.1", "101%", "NaN", "%", "half"] {
            assert_eq!(share(wrong), Err(NotAShare), "{wrong}");
        }
    }

    #[test]
    fn the_mix_has_the_shares_that_were_asked_for() {
        let mix = asked("--denied 10% --novel 20% --churn 5%")
            .resolve(1)
            .unwrap()
            .mix;
        let parts: Vec<Part> = (0..100_000).map(|number| mix.part(number)).collect();
        let share = |wanted: &dyn Fn(&Part) -> bool| {
            parts.iter().filter(|part| wanted(part)).count() as f64 / 100_000.0
        };
        let denied = |part: &Part| part.kind == Kind::Denied;
        // Five standard deviations of the widest are 0.0063.
        assert!((share(&denied) - 0.1).abs() < 0.0063);
        assert!((share(&|part| part.kind == Kind::Novel) - 0.2).abs() < 0.0063);
        assert!((share(&|part| part.fresh) - 0.05).abs() < 0.0063);
        // Connections are new for denied requests as for others.
        assert!((share(&|part| denied(part) && part.fresh) - 0.005).abs() < 0.0063);
    }

    #[test]
    fn a_request_is_of_the_same_kind_again_and_of_another_with_another_seed() {
        let parts = |line: &str| {
            let mix = asked(line).resolve(1).unwrap().mix;
            (0..1000).map(|number| mix.part(number)).collect::<Vec<_>>()
        };
        assert_eq!(
            parts("--denied 50% --seed 4"),
            parts("--denied 50% --seed 4")
        );
        assert_ne!(
            parts("--denied 50% --seed 4"),
            parts("--denied 50% --seed 5")
        );
    }

    #[test]
    fn workers_follow_the_rate_and_not_beyond_cpus_and_connections() {
        let workers = |line: &str, cpus| asked(line).resolve(cpus).unwrap().workers.get();
        assert_eq!(workers("--rate 500", 8), 1);
        assert_eq!(workers("--rate 15000", 8), 1);
        assert_eq!(workers("--rate 15001", 8), 2);
        assert_eq!(workers("--rate 500000", 8), 8);
        assert_eq!(workers("--rate 500000 --connections 3", 8), 3);
        assert_eq!(workers("--rate 500 --workers 5", 2), 5);
    }

    #[test]
    fn a_line_says_what_was_asked_and_not_what_was_not() {
        assert_eq!(
            asked("").to_string(),
            "constant 500/s for 10s after 2s of warm-up, 16 connections, simple, seed 1"
        );
        let line = "--schedule poisson --mode prepared --novel 0.5 --idle 100 --warm-up 0s";
        assert_eq!(
            asked(line).to_string(),
            "poisson 500/s for 10s after 0s of warm-up, 16 connections, prepared, seed 1, 50% novel, \
             100 idle"
        );
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let refused = |line: &str| asked(line).resolve(1).unwrap_err();
        assert!(matches!(
            refused("--connections 0"),
            NoScenario::Connections
        ));
        let most = "--connections 30000 --idle 29000 --slow-readers";
        assert!(asked(&format!("{most} 1000")).resolve(1).is_ok());
        assert!(matches!(
            refused(&format!("{most} 1001")),
            NoScenario::Connections
        ));
        assert!(matches!(
            refused("--denied 60% --novel 41%"),
            NoScenario::Shares
        ));
        assert!(matches!(refused("--workers 17"), NoScenario::Workers));
        assert!(asked("--workers 16").resolve(1).is_ok());
        assert!(matches!(refused("--timeout 3601s"), NoScenario::Patience));
        assert!(matches!(refused("--parameter 1"), NoScenario::Parameters));
        assert!(asked("--parameter 1 --mode extended").resolve(1).is_ok());
        assert!(matches!(refused("--data /dev/null"), NoScenario::NoCopy));
        let copy = "--mode copy --data /dev/null";
        assert!(asked(copy).resolve(1).is_ok());
        assert!(matches!(
            refused(&format!("{copy} --novel 1%")),
            NoScenario::NovelCopy
        ));
    }
}
