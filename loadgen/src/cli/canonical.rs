//! Without a command: what the appliance on this machine adds to a request, in half a minute.
//!
//! It changes nothing of the appliance's configuration: where something is missing it says what,
//! and the command that adds it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::compare::{Ready, measure_all};
use super::output::{Outputs, say};
use super::paths::DIRECT;
use super::{Failure, ProcessEnvironment};
use crate::agents::{self, ADMIN_SOCKET, AgentsError};
use crate::compare::Comparison;
use crate::process::{self, is_local};
use crate::protocols::{Address, AddressError, Agent, Canaries, Password, Target, Tls};
use crate::report::{Environment, Report, headline};
use crate::run::Run;
use crate::scenario::Asked;

/// The target, and the group of the agents.
const NAME: &str = "loadgen";

/// What is asked: as somebody would type it, so that it can be repeated with `compare`.
///
/// 1,000 requests a second are what a service with a few hundred users sends, far below what
/// either path can do: latency at capacity measures queues. Two seconds of them are the fewest
/// in which a p99 has answers enough beyond it.
const SETTINGS: &[&str] = &[
    "--rate=1000",
    "--schedule=poisson",
    "--duration=2s",
    "--warm-up=300ms",
    "--connections=16",
    "--mode=extended",
    "--statement=SELECT id, name, balance FROM accounts WHERE id = $1",
    "--parameter=42",
];

/// As many agents as connections: each proves itself with a token of its own.
const AGENTS: usize = 16;

/// The fewest that an interval is made from.
const ROUNDS: NonZeroU32 = NonZeroU32::new(6).unwrap();

/// How long tokens are needed.
const WHOLE: Duration = Duration::from_secs(60);

/// Adds the target, and the rule that lets its agents in.
const ADD: &str = "sallyport targets add loadgen --address 127.0.0.1:6439 --tls disable \
                   --allow-read loadgen --no-check";

const ALLOW: &str = "sallyport targets allow loadgen --read loadgen";

#[derive(Debug, Args)]
pub(super) struct CanonicalOptions {
    /// The appliance's admin socket
    #[arg(long, value_name = "PATH", default_value = ADMIN_SOCKET)]
    admin_socket: PathBuf,
    #[command(flatten)]
    outputs: Outputs,
}

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    asked: Asked,
}

/// What is missing, and the command that helps.
#[derive(Debug, thiserror::Error)]
pub enum NoCanonical {
    #[error("no appliance answers at {}: start it\n  systemctl start sallyport", socket.display())]
    NotRunning { socket: PathBuf },
    #[error("only root and the appliance's user may use {}: try again as root\n  sudo sallyport-loadgen", socket.display())]
    NotAllowed { socket: PathBuf },
    #[error(
        "the appliance is draining: wait for its end, and start it again\n  systemctl start sallyport"
    )]
    Draining,
    #[error(
        "the appliance has no target called {NAME}, behind which the load generator's own server stands: add it\n  {ADD}"
    )]
    NoTarget,
    #[error(
        "the target {NAME} is at {address}, where the load generator cannot be its server: put it on this machine\n  {ADD} --replace"
    )]
    Elsewhere { address: String },
    #[error(
        "the policy does not let the group {NAME} read at the target {NAME}: let it in\n  {ALLOW}"
    )]
    NotAdmitted,
    #[error(
        "the appliance has no listener that is reached from this machine, but {listeners}: add one to `listen.postgres`\n  sallyport check"
    )]
    NoListener { listeners: String },
    #[error("the load generator's own server does not start at {address}")]
    Server {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the load generator's own server does not start at {address}; what it says is above")]
    ServerEnded { address: SocketAddr },
    #[error("the appliance's answer is not understood: is it of the same version?")]
    NotUnderstood,
    #[error("the appliance does not say what is needed")]
    Admin(#[from] AgentsError),
    #[error("the appliance's listener")]
    Listener(#[from] AddressError),
}

/// What is looked at of `GET /v1/status`.
#[derive(Deserialize)]
struct Status {
    version: String,
    pid: u32,
    listeners: Vec<String>,
    draining: bool,
}

/// And of each of `GET /v1/targets`.
#[derive(Deserialize)]
struct TargetShown {
    name: String,
    addresses: Vec<String>,
}

/// And of `POST /v1/explain`.
#[derive(Deserialize)]
struct Explanation {
    decision: Decision,
}

#[derive(Deserialize)]
struct Decision {
    verdict: String,
}

impl CanonicalOptions {
    pub(super) fn run(
        self,
        arguments: &[OsString],
        _process: &ProcessEnvironment,
    ) -> Result<ExitCode, Failure> {
        let environment = Environment::read(arguments);
        let Settings { asked } = settings()?;
        let appliance = Appliance::find(&self.admin_socket, &asked.statement)?;
        let server = Server::start(appliance.server)?;
        let ready = appliance.paths(&self.admin_socket)?;
        if !self.outputs.quiet {
            let whole = (asked.warm_up + asked.duration) * 2 * ROUNDS.get();
            say(&format!(
                "{ROUNDS} rounds directly and through the appliance at {}: about {} s",
                appliance.listener,
                whole.as_secs()
            ));
        }
        let paths = measure_all(&asked, &ready, ROUNDS.get(), self.outputs.quiet);
        drop(server);
        let comparison = Comparison::of(paths?, &[], asked.seed);
        let pooled: Vec<Run> = comparison
            .paths
            .iter()
            .filter_map(|path| Run::pooled(&path.rounds))
            .collect();
        let report = Report {
            environment: &environment,
            runs: &pooled,
            comparison: Some(&comparison),
        };
        let text = headline(&report, &appliance.measured(&asked));
        self.outputs.write_as(&report, &text)
    }
}

fn settings() -> Result<Settings, Failure> {
    let words = std::iter::once(NAME).chain(SETTINGS.iter().copied());
    Settings::try_parse_from(words).map_err(|_| Failure::Absent("the canonical run"))
}

/// The appliance that is measured.
struct Appliance {
    version: String,
    process: u32,
    listener: Address,
    /// Where its target is.
    server: SocketAddr,
}

impl Appliance {
    /// Looks whether everything is there that a run needs, in the order in which it is missed.
    fn find(socket: &Path, statement: &str) -> Result<Self, NoCanonical> {
        let status: Status = ask(socket, "/v1/status")?;
        if status.draining {
            return Err(NoCanonical::Draining);
        }
        let targets: Vec<TargetShown> = ask(socket, "/v1/targets")?;
        let target = targets.iter().find(|target| target.name == NAME);
        let addresses = &target.ok_or(NoCanonical::NoTarget)?.addresses;
        let server = match addresses.as_slice() {
            [address] => address.parse().ok(),
            _ => None,
        };
        let server: Option<SocketAddr> = server;
        let server = server
            .filter(|server| is_local(server.ip()) && server.port() != 0)
            .ok_or_else(|| NoCanonical::Elsewhere {
                address: addresses.join(", "),
            })?;
        admitted(socket, statement)?;
        Ok(Self {
            version: status.version,
            process: status.pid,
            listener: listener(&status.listeners)?,
            server,
        })
    }

    fn paths(&self, socket: &Path) -> Result<[Ready; 2], NoCanonical> {
        let groups = [NAME.to_owned()];
        let agents = agents::mint(socket, AGENTS, &groups, WHOLE, None)?;
        let nobody = Agent {
            name: NAME.to_owned(),
            user: NAME.to_owned(),
            password: Password::default(),
        };
        let target = |address: Address| {
            Arc::new(Target {
                address,
                tls: Tls::default(),
                database: NAME.to_owned(),
                canaries: Arc::new(Canaries::default()),
            })
        };
        let direct = Ready {
            name: DIRECT.to_owned(),
            target: target(Address::resolve(&self.server.to_string())?),
            agents: Arc::new([nobody]),
            policed: false,
            alone: false,
            process: None,
        };
        let through = Ready {
            name: "sallyport".to_owned(),
            target: target(self.listener.clone()),
            agents: agents.into(),
            policed: true,
            alone: false,
            process: Some(self.process),
        };
        Ok([direct, through])
    }

    fn measured(&self, asked: &Asked) -> String {
        format!(
            "Measured: {} to the load generator's own server, directly and through sallyport {} at \
             {} (identity, policy and recording on, no TLS), by turns in {ROUNDS} rounds; in \
             brackets 95 % intervals. CPU is of all that the appliance did meanwhile.",
            asked, self.version, self.listener
        )
    }
}

fn ask<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, NoCanonical> {
    let answer = agents::get(socket, path).map_err(|error| missing(socket, error))?;
    serde_json::from_slice(&answer).map_err(|_| NoCanonical::NotUnderstood)
}

fn missing(socket: &Path, error: AgentsError) -> NoCanonical {
    use std::io::ErrorKind;
    let socket = socket.to_owned();
    let kind = match &error {
        AgentsError::Unreachable { source, .. } => Some(source.kind()),
        AgentsError::Refused { status: 403, .. } => Some(ErrorKind::PermissionDenied),
        AgentsError::Refused { .. }
        | AgentsError::Unreadable { .. }
        | AgentsError::TooLong { .. }
        | AgentsError::Line { .. }
        | AgentsError::TooFew { .. }
        | AgentsError::Count { .. }
        | AgentsError::NotUnderstood
        | AgentsError::TimedOut => None,
    };
    if kind == Some(ErrorKind::PermissionDenied) {
        NoCanonical::NotAllowed { socket }
    } else if matches!(
        kind,
        Some(ErrorKind::NotFound | ErrorKind::ConnectionRefused)
    ) {
        NoCanonical::NotRunning { socket }
    } else {
        error.into()
    }
}

/// Asks the policy in force, so that no session of ours is refused and recorded as such.
fn admitted(socket: &Path, statement: &str) -> Result<(), NoCanonical> {
    let question = serde_json::json!({
        "groups": [NAME],
        "target": NAME,
        "sql": statement,
    });
    let answer = agents::post(socket, "/v1/explain", question.to_string().as_bytes());
    let answer = answer.map_err(|error| missing(socket, error))?;
    let explanation: Explanation =
        serde_json::from_slice(&answer).map_err(|_| NoCanonical::NotUnderstood)?;
    match explanation.decision.verdict.as_str() {
        "allow" => Ok(()),
        _ => Err(NoCanonical::NotAdmitted),
    }
}

/// The first listener that this machine reaches: TCP before a Unix socket, as agents connect.
fn listener(listeners: &[String]) -> Result<Address, NoCanonical> {
    let tcp = listeners.iter().filter_map(|text| text.parse().ok());
    let reached = tcp.map(reached).find(|address| is_local(address.ip()));
    if let Some(address) = reached {
        return Ok(Address::resolve(&address.to_string())?);
    }
    let unix = listeners.iter().find(|text| text.starts_with('/'));
    unix.map_or_else(
        || {
            Err(NoCanonical::NoListener {
                listeners: listeners.join(", "),
            })
        },
        |path| Ok(Address::Unix(path.into())),
    )
}

/// Where a client of this machine finds who listens everywhere.
fn reached(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The built-in upstream, as a process of its own that ends with this one; `None` where somebody
/// listens already.
struct Server(Option<Child>);

impl Server {
    fn start(address: SocketAddr) -> Result<Self, NoCanonical> {
        if process::is_taken(address) {
            return Ok(Self(None));
        }
        let failed = |source| NoCanonical::Server { address, source };
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .args([
                "upstream",
                "--with-parent",
                "--listen",
                &address.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let said = child.stdout.take();
        let server = Self(Some(child));
        // It says that it listens, or ends.
        let mut line = String::new();
        if let Some(said) = said {
            BufReader::new(said).read_line(&mut line).map_err(failed)?;
        }
        if line.is_empty() {
            return Err(NoCanonical::ServerEnded { address });
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_ones_that_can_be_typed() {
        let asked = settings().unwrap().asked;
        let scenario = asked.resolve(2).unwrap();
        assert_eq!(usize::try_from(scenario.connections), Ok(AGENTS));
        // At least ten answers of a round lie beyond its p99.
        assert!(asked.rate * asked.duration.as_secs_f64() * 0.01 >= 10.0);
        let each = asked.warm_up + asked.duration;
        assert!(each * 2 * ROUNDS.get() <= Duration::from_secs(30));
    }

    #[test]
    fn a_listener_is_found_as_a_client_of_this_machine_would() {
        let found = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            listener(&texts).map(|address| address.to_string())
        };
        let unix = "/run/sallyport/.s.PGSQL.6432";
        assert_eq!(found(&[unix, "0.0.0.0:6432"]).unwrap(), "127.0.0.1:6432");
        assert_eq!(
            found(&["192.0.2.1:1", "127.0.0.1:2"]).unwrap(),
            "127.0.0.1:2"
        );
        assert_eq!(found(&[unix]).unwrap(), unix);
        assert!(matches!(
            found(&["192.0.2.1:1"]),
            Err(NoCanonical::NoListener { .. })
        ));
    }

    #[test]
    fn each_obstacle_comes_with_the_command_that_helps() {
        let socket = PathBuf::from("/run/x");
        let cases = [
            (
                NoCanonical::NotRunning {
                    socket: socket.clone(),
                },
                "systemctl start sallyport",
            ),
            (NoCanonical::NotAllowed { socket }, "sudo sallyport-loadgen"),
            (NoCanonical::NoTarget, ADD),
            (NoCanonical::NotAdmitted, ALLOW),
        ];
        for (obstacle, command) in cases {
            let text = obstacle.to_string();
            let (sentence, helps) = text.split_once("\n  ").unwrap();
            assert!(!sentence.contains('\n'), "{text}");
            assert_eq!(helps, command);
        }
    }
}
