//! The command line: what can be asked of the program, and how it answers.
//!
//! Each command stands in its own file. Standard output carries the answer and nothing else;
//! mistakes and warnings go to standard error.

mod approvals;
mod asker;
mod audit;
mod check;
mod console;
mod doctor;
mod explain;
mod export;
mod generate;
mod person;
mod policy;
mod revoke;
mod running;
mod schema;
mod serve;
mod sessions;
mod table;
mod targets;
mod token;
mod top;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Environment, Problem};
use crate::control::{
    AdminClient, AdminError, ExportError, NotATarget, RecordingsError, time_named,
};
use crate::service;
use crate::telemetry::chain;

const CONFIG_DIRECTORY: &str = "/etc/sallyport";
const CONFIG_FILE: &str = "sallyport.toml";
const STATE_DEFAULT: &str = "/var/lib/sallyport";
const RUNTIME_DEFAULT: &str = "/run/sallyport";

/// Exit status for a configuration that is wrong: EX_CONFIG of sysexits.h, so that a unit can say
/// that trying again is useless.
const EXIT_CONFIGURATION: u8 = 78;

/// What of the process environment counts. Only `main` reads it.
#[derive(Debug, Clone)]
pub struct ProcessEnvironment {
    /// `$SALLYPORT_CONFIG`
    pub config: Option<PathBuf>,
    /// `$STATE_DIRECTORY`, from systemd.
    pub state_directory: Option<PathBuf>,
    /// `$RUNTIME_DIRECTORY`, from systemd.
    pub runtime_directory: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`, from systemd.
    pub credentials_directory: Option<PathBuf>,
    /// Of systemd's protocol for services.
    pub service: service::Variables,
    /// Looks up any other, for `env:` secrets.
    pub variable: fn(&str) -> Option<OsString>,
}

/// A proxy between autonomous agents and the systems they use.
#[derive(Debug, Parser)]
#[command(name = "sallyport", version, about, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Places {
    /// Which of several on this machine, as in the unit sallyport@NAME: its file is
    /// /etc/sallyport-NAME/sallyport.toml, and its directories are named alike
    #[arg(long, global = true, value_name = "NAME", value_parser = instance_name)]
    instance: Option<String>,
    /// Configuration file [default: $SALLYPORT_CONFIG or /etc/sallyport/sallyport.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where state is kept [default: $STATE_DIRECTORY or /var/lib/sallyport]
    #[arg(long, global = true, value_name = "DIR")]
    state_directory: Option<PathBuf>,
    /// Where the admin socket and the journal rings are [default: $RUNTIME_DIRECTORY or
    /// /run/sallyport]
    #[arg(long, global = true, value_name = "DIR")]
    runtime_directory: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the appliance
    Serve(serve::Serve),
    /// Say what is wrong with the configuration, and start nothing
    Check(check::Check),
    /// Say what the policy decides about a statement, and why
    Explain(explain::Explain),
    /// Try a policy out
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Print the JSON Schema of the policy or configuration files, or the OpenAPI document of the API
    Schema(schema::Schema),
    /// Add, check, list and remove what is behind the appliance
    #[command(subcommand)]
    Targets(targets::Targets),
    /// Make tokens for agents, by the built-in issuer of the running appliance
    #[command(subcommand)]
    Token(token::Token),
    /// Cut off a token, subject, agent, session or target at once
    #[command(subcommand)]
    Revoke(revoke::Revoke),
    /// See what waits for a person, and answer it
    #[command(subcommand)]
    Approvals(approvals::Approvals),
    /// Log in at an issuer, as a person or a program
    Login(person::Login),
    /// Forget the tokens of a login
    Logout(person::Logout),
    /// Print what a PostgreSQL client needs to connect, for a shell
    Env(person::Env),
    /// Run a PostgreSQL client that connects as whoever is logged in
    Connect(person::Connect),
    /// Read the configuration again; refused whole if anything is wrong with it
    Reload,
    /// List recorded sessions, the latest first
    Sessions(sessions::Sessions),
    /// Show a recorded session, each command and its response
    Replay(sessions::Replay),
    /// Prove what was recorded, and keep it
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Print a link that signs a browser in to the console, once, within a minute
    Console(console::Console),
    /// Copy recordings to a directory or to S3-compatible storage
    Export(export::Export),
    /// Say what is in the way, and what helps; nothing is changed
    Doctor(doctor::Doctor),
    /// Show what the running appliance is doing
    Status(running::StatusOptions),
    /// Show how the running appliance does, again and again
    Top(top::Top),
    /// Write the manual pages or the shell completions of this program
    #[command(hide = true)]
    Generate(generate::Generate),
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the configuration is wrong")]
    Configuration(Vec<Problem>),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Serve(#[from] serve::ServeError),
    #[error(transparent)]
    Explain(#[from] explain::ExplainError),
    #[error(transparent)]
    PolicyReplay(#[from] policy::PolicyReplayError),
    #[error(transparent)]
    Recordings(#[from] RecordingsError),
    #[error(transparent)]
    Person(#[from] person::PersonError),
    #[error(transparent)]
    InTheWay(#[from] doctor::InTheWay),
    #[error(transparent)]
    Targets(#[from] targets::TargetsError),
    #[error("cannot read {}", path.display())]
    Input { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Audit(#[from] audit::AuditError),
    #[error("`--to`: {0}")]
    ExportTo(#[from] NotATarget),
    #[error("the export broke off; what is complete stays, and the next run goes on")]
    Export(#[from] ExportError),
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
}

impl From<Vec<Problem>> for Failure {
    fn from(problems: Vec<Problem>) -> Self {
        Self::Configuration(problems)
    }
}

/// Runs the command that `arguments` name (the program's own name first).
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    process: &ProcessEnvironment,
) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(usage) => {
            // Nothing is left to say it to when this fails.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let environment = environment(arguments.places, process);
    let outcome = match arguments.command {
        Command::Serve(serve) => serve.run(environment, &process.service),
        Command::Check(check) => check.run(environment),
        Command::Explain(explain) => explain.run(&environment),
        Command::Policy(command) => command.run(&environment),
        Command::Schema(schema) => schema.run(),
        Command::Doctor(doctor) => doctor.run(&environment),
        Command::Targets(targets) => targets.run(&environment),
        Command::Token(token) => token.run(&environment),
        Command::Revoke(revoke) => revoke.run(&environment),
        Command::Approvals(command) => command.run(&environment, process),
        Command::Audit(audit) => audit.run(&environment),
        Command::Login(login) => login.run(process),
        Command::Logout(logout) => logout.run(process),
        Command::Env(env) => env.run(process),
        Command::Connect(connect) => connect.run(process),
        Command::Reload => running::reload(&environment),
        Command::Sessions(sessions) => sessions.run(&environment),
        Command::Replay(replay) => replay.run(&environment),
        Command::Console(console) => console.run(&environment),
        Command::Export(export) => export.run(&environment),
        Command::Status(options) => running::status(&environment, &options),
        Command::Top(top) => top.run(&environment),
        Command::Generate(generate) => generate.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => report(&failure),
    }
}

/// What a unit may be called after the `@`, as far as it is a name for directories too.
fn instance_name(text: &str) -> Result<String, String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    if text.is_empty() || !text.chars().all(is_plain) {
        return Err("a name of letters, digits, `-` and `_` is expected".to_owned());
    }
    Ok(text.to_owned())
}

fn environment(places: Places, process: &ProcessEnvironment) -> Environment {
    let of_instance = |of_one: &str| {
        let instance = places.instance.as_ref()?;
        Some(PathBuf::from(format!("{of_one}-{instance}")))
    };
    let named = places
        .config
        .or_else(|| Some(of_instance(CONFIG_DIRECTORY)?.join(CONFIG_FILE)))
        .or_else(|| process.config.clone());
    let or = |given: Option<PathBuf>, systemd: &Option<PathBuf>, default: &str| {
        given
            .or_else(|| of_instance(default))
            .or_else(|| systemd.clone())
            .unwrap_or_else(|| PathBuf::from(default))
    };
    Environment {
        file_named: named.is_some(),
        file: named.unwrap_or_else(|| Path::new(CONFIG_DIRECTORY).join(CONFIG_FILE)),
        state_directory: or(
            places.state_directory,
            &process.state_directory,
            STATE_DEFAULT,
        ),
        runtime_directory: or(
            places.runtime_directory,
            &process.runtime_directory,
            RUNTIME_DEFAULT,
        ),
        credentials_directory: process.credentials_directory.clone(),
        policy_directory: None,
        drafts: Vec::new(),
        variable: process.variable,
    }
}

fn report(failure: &Failure) -> ExitCode {
    let mut text = String::new();
    let code = match failure {
        Failure::Configuration(problems) => {
            for problem in problems {
                text.push_str(&format!(
                    "error: {}\n",
                    table::escaped(&problem.to_string())
                ));
            }
            ExitCode::from(EXIT_CONFIGURATION)
        }
        Failure::Admin(AdminError::Refused { refused, .. }) => {
            text.push_str(&format!("sallyport: {}\n", table::escaped(&refused.error)));
            for problem in &refused.problems {
                text.push_str(&format!("error: {}\n", table::escaped(problem)));
            }
            ExitCode::FAILURE
        }
        Failure::Admin(_)
        | Failure::Serve(_)
        | Failure::Explain(_)
        | Failure::PolicyReplay(_)
        | Failure::Recordings(_)
        | Failure::Person(_)
        | Failure::InTheWay(_)
        | Failure::Targets(_)
        | Failure::Input { .. }
        | Failure::Audit(_)
        | Failure::ExportTo(_)
        | Failure::Export(_)
        | Failure::Output(_) => {
            text.push_str(&format!("sallyport: {}\n", table::escaped(&chain(failure))));
            ExitCode::FAILURE
        }
    };
    // Standard error is the last place to say anything.
    let _ = io::stderr().write_all(text.as_bytes());
    code
}

/// Writes an answer to standard output.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a warning to standard error.
fn warn(text: &str) {
    // A warning that cannot be written changes nothing about the answer.
    let _ = writeln!(io::stderr(), "warning: {}", table::escaped(text));
}

/// A time as people write it, in UTC.
fn time(unix_seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(unix_seconds));
    // A time that the form cannot express only comes from a damaged clock.
    let last = std::time::Duration::from_secs(253_402_300_799);
    match time {
        Some(time) if std::time::Duration::from_secs(unix_seconds) <= last => {
            humantime::format_rfc3339_seconds(time).to_string()
        }
        _ => unix_seconds.to_string(),
    }
}

/// A moment as people write it, in microseconds since 1970: a time, a day, or how long ago it was.
fn moment(text: &str) -> Result<u64, String> {
    time_named(text).map_err(|error| error.to_string())
}

fn client(environment: &Environment) -> Result<AdminClient, Failure> {
    Ok(AdminClient::new(&config::admin_socket(environment)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(arguments: &[&str]) -> Result<Environment, clap::Error> {
        let process = ProcessEnvironment {
            config: Some("/srv/other.toml".into()),
            state_directory: None,
            runtime_directory: None,
            credentials_directory: None,
            service: service::Variables::default(),
            variable: |_| None,
        };
        let words = ["sallyport"].into_iter().chain(arguments.iter().copied());
        Arguments::try_parse_from(words).map(|arguments| environment(arguments.places, &process))
    }

    #[test]
    fn an_instance_has_its_own_places_and_what_is_named_comes_first() {
        let blue = places(&["status", "--instance", "blue"]).unwrap();
        assert_eq!(blue.file, Path::new("/etc/sallyport-blue/sallyport.toml"));
        assert!(blue.file_named);
        assert_eq!(blue.state_directory, Path::new("/var/lib/sallyport-blue"));
        assert_eq!(blue.runtime_directory, Path::new("/run/sallyport-blue"));

        let named = ["--instance", "blue", "--config", "/x.toml", "status"];
        assert_eq!(places(&named).unwrap().file, Path::new("/x.toml"));
        let only = places(&["status"]).unwrap();
        assert_eq!(only.file, Path::new("/srv/other.toml"));
        assert_eq!(only.state_directory, Path::new(STATE_DEFAULT));
        for name in ["", "../x", "a b", "a.b"] {
            assert!(places(&["--instance", name, "status"]).is_err(), "{name}");
        }
    }
}
