//! `sallyport env` and `connect`: what a PostgreSQL client needs to connect as whoever is logged in.
//!
//! The token goes into the environment of the client and never into its arguments, which every user
//! of the machine can read.

use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;
use zeroize::Zeroizing;

use super::PersonError;
use super::login::fresh;
use super::settings::Settings;
use crate::cli::{Failure, ProcessEnvironment, print};

/// The label that is sent as user where none is set. The appliance records it and trusts nothing
/// of it.
const USER: &str = "agent";

#[derive(Debug, Args)]
struct Where {
    /// The issuer, by its name in client.toml [default: the first there]
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// The appliance [default: `server` in client.toml]
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Env {
    /// The database to ask for
    target: String,
    #[command(flatten)]
    place: Where,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Connect {
    /// The database to ask for
    target: String,
    #[command(flatten)]
    place: Where,
    /// What to run [default: psql]
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<std::ffi::OsString>,
}

impl Env {
    pub(in crate::cli) fn run(self, process: &ProcessEnvironment) -> Result<(), Failure> {
        let variables = variables(process, &self.place, &self.target)?;
        let mut text = Zeroizing::new(String::new());
        if self.json {
            let members = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.as_str().into()));
            let object: serde_json::Map<String, serde_json::Value> = members.collect();
            text.push_str(&serde_json::Value::Object(object).to_string());
            text.push('\n');
        } else {
            for (name, value) in &variables {
                text.push_str(&format!("export {name}={}\n", quoted(value)));
            }
        }
        print(&text)?;
        Ok(())
    }
}

impl Connect {
    /// Becomes the program, so that its exit status and signals are its own.
    pub(in crate::cli) fn run(self, process: &ProcessEnvironment) -> Result<(), Failure> {
        let variables = variables(process, &self.place, &self.target)?;
        let mut words = self.program.into_iter();
        let program = words.next().unwrap_or_else(|| "psql".into());
        let mut command = Command::new(&program);
        command.args(words);
        command.envs(variables.iter().map(|(name, value)| (name, value.as_str())));
        let source = command.exec();
        Err(PersonError::Run {
            program: program.to_string_lossy().into_owned(),
            source,
        }
        .into())
    }
}

type Variables = Vec<(&'static str, Zeroizing<String>)>;

/// What libpq and those who read its variables go by.
fn variables(
    process: &ProcessEnvironment,
    place: &Where,
    target: &str,
) -> Result<Variables, PersonError> {
    if target.is_empty() || target.chars().any(char::is_control) {
        return Err(PersonError::Target);
    }
    let settings = Settings::read(process)?;
    let issuer = settings.issuer(place.issuer.as_deref())?;
    let server = place.server.as_deref().or(settings.server.as_deref());
    let server = server.ok_or_else(|| PersonError::NoServer {
        file: settings.file.display().to_string(),
    })?;
    let (host, port) = host_and_port(server)?;
    let ca = settings.server_ca.as_ref();
    let ca = ca.map(|path| path.display().to_string());
    let mode = match ca {
        None if is_local(host) => "prefer",
        Some(_) | None => "verify-full",
    };
    let tokens = fresh(process, issuer)?;
    let text = |text: &str| Zeroizing::new(text.to_owned());
    let mut variables = vec![
        ("PGHOST", text(host)),
        ("PGPORT", text(port)),
        ("PGDATABASE", text(target)),
        ("PGUSER", text(settings.user.as_deref().unwrap_or(USER))),
        ("PGPASSWORD", tokens.access_token),
        ("PGSSLMODE", text(mode)),
    ];
    if mode == "verify-full" {
        // `system` is libpq's word for the system's roots, from version 16 on.
        variables.push(("PGSSLROOTCERT", text(ca.as_deref().unwrap_or("system"))));
    }
    Ok(variables)
}

/// `HOST:PORT`, `[ADDRESS]:PORT` or `unix:DIRECTORY:PORT`, as libpq wants both.
fn host_and_port(server: &str) -> Result<(&str, &str), PersonError> {
    let (host, port) = server.rsplit_once(':').ok_or(PersonError::Server)?;
    if port.parse::<u16>().is_err() {
        return Err(PersonError::Server);
    }
    let host = match host.strip_prefix("unix:") {
        Some(directory) if directory.starts_with('/') => directory,
        Some(_) => return Err(PersonError::Server),
        None => host.trim_start_matches('[').trim_end_matches(']'),
    };
    if host.is_empty() || host.chars().any(char::is_control) {
        return Err(PersonError::Server);
    }
    Ok((host, port))
}

/// Whether what is sent there stays on this machine.
fn is_local(host: &str) -> bool {
    host.starts_with('/')
        || host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// A word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_libpq_wants_them() {
        let read = |server| host_and_port(server).ok();
        assert_eq!(read("db.example:6432"), Some(("db.example", "6432")));
        assert_eq!(read("[::1]:6432"), Some(("::1", "6432")));
        assert_eq!(
            read("unix:/run/sallyport:6432"),
            Some(("/run/sallyport", "6432"))
        );
        for wrong in ["db", "db:x", ":1", "unix:run:1", "db:65536", "a\nb:1"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        for local in ["/run", "localhost", "127.0.0.1", "::1"] {
            assert!(is_local(local), "{local}");
        }
        for remote in ["10.0.0.1", "localhost.example", "127.0.0.1.example"] {
            assert!(!is_local(remote), "{remote}");
        }
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("a b$c"), "'a b$c'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
