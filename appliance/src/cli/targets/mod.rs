//! `sallyport targets`: what is behind the appliance, from nothing to the first session.
//!
//! It writes files of `targets.d` and `policy.d` that the whole configuration was found right with,
//! has the running appliance take them, and takes them back when it does not.

mod changes;
mod check;
mod options;

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, Subcommand};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use self::changes::{Changes, Readers};
use self::options::TargetKeys;
use super::table::{escaped, table};
use super::{Failure, client, print, warn};
use crate::config::{
    self, Draft, Environment, NewTarget, Problem, Writing, WrittenTarget, starter_groups,
    starter_rule,
};
use crate::control::{AdminError, Health, ReloadReport, Status, TargetShown, lets_in, paths};
use crate::downstream::certificate::{OWN_CERTIFICATE_FILE, fingerprint_of};

/// Longest password that is read, in bytes: what a secret may have.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

/// Holds the passwords that were given on standard input, beside the configuration.
const SECRETS_DIRECTORY: &str = "secrets";

#[derive(Debug, Subcommand)]
pub(super) enum Targets {
    /// Add a target, let the running appliance take it, and log in to it once
    Add(Box<Add>),
    /// Let groups read at a target
    Allow(Allow),
    /// List the targets of the configuration, and what the running appliance has of them
    List(List),
    /// Remove a target that `targets add` has written
    Remove(Named),
    /// Log in to targets with each of their accounts, and say what is in the way
    Check(check::Check),
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// The database name that agents will ask for
    name: String,
    #[command(flatten)]
    keys: TargetKeys,
    /// Read the password from standard input, and keep it in a file that only root and the appliance
    /// can read
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
    /// Groups that may read there: writes a first rule to policy.d
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',')]
    allow_read: Vec<String>,
    /// Replace the target of this name that was added before
    #[arg(long)]
    replace: bool,
    /// Do not log in to it
    #[arg(long)]
    no_check: bool,
}

#[derive(Debug, Args)]
pub(super) struct Allow {
    /// The target
    name: String,
    /// Groups that may read there
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',', required = true)]
    read: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// The target
    name: String,
}

/// Why a target is not as was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetsError {
    #[error("a target's name cannot be a file's name when it begins with a dot or is empty")]
    Name,
    #[error("{} is there already; --replace puts another in its place", file.display())]
    Exists { file: PathBuf },
    #[error("no target is called {name} in the configuration")]
    Missing { name: String },
    #[error(
        "{name} stands in {}, not in a file of its own: take it out there, then `sallyport reload`",
        file.display()
    )]
    Elsewhere { name: String, file: PathBuf },
    #[error(
        "{} holds rules that somebody wrote: let the groups in there, then `sallyport reload`",
        file.display()
    )]
    RulesOfYours { file: PathBuf },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read the password from standard input")]
    Password(#[source] io::Error),
    #[error("no password came from standard input")]
    NoPassword,
    #[error("the password is longer than {PASSWORD_BYTES_MAX} bytes")]
    PasswordTooLong,
    #[error("not every account of the target can log in; what helps is above")]
    Refused,
    #[error("a shard to look from cannot be started; `sallyport doctor` says why")]
    Shard(#[from] runtime::StartError),
    #[error("the shard that looked died")]
    Died(#[from] runtime::ShardDied),
}

impl Targets {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Add(add) => add.run(environment),
            Self::Allow(allow) => allow.run(environment),
            Self::List(list) => list.run(environment),
            Self::Remove(named) => remove(&named.name, environment),
            Self::Check(check) => check.run(environment),
        }
    }
}

impl Add {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let stem = stem(&self.name)?;
        let file = config::target_path(environment, &stem);
        if file.exists() && !self.replace {
            return Err(TargetsError::Exists { file }.into());
        }
        let mut changes = Changes::new(environment);
        let values = if self.password_stdin {
            let path = secret_path(environment, &stem);
            let password = password()?;
            changes.put(&path, &password, Readers::Service)?;
            let mode = Changes::mode_of(&path);
            print(&format!("wrote {} ({mode})\n", path.display()))?;
            self.keys.with_password(format!("file:{}", path.display()))
        } else {
            self.keys.into_values()
        };
        let target = NewTarget {
            name: self.name.clone(),
            values,
        };
        let target = Draft {
            file,
            text: Some(target.text()),
        };
        let made = (|| {
            let rule = rule(environment, &target, &self.name, &stem, &self.allow_read)?;
            put(environment, &mut changes, [Some(target), rule])
        })();
        let running = settle(environment, changes, made)?;
        if !self.no_check {
            check::one(environment, &self.name, running.is_some())?;
        }
        next(environment, &self.name, self.allow_read.first(), running)
    }
}

impl Allow {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let stem = stem(&self.name)?;
        found(environment, &self.name)?;
        let mut changes = Changes::new(environment);
        let nothing = Draft {
            file: PathBuf::new(),
            text: None,
        };
        let rule = rule(environment, &nothing, &self.name, &stem, &self.read)?;
        let made = put(environment, &mut changes, [rule, None]);
        let running = settle(environment, changes, made)?;
        next(environment, &self.name, self.read.first(), running)
    }
}

/// Takes a target away, with what was written along with it and nobody changed since.
fn remove(name: &str, environment: &Environment) -> Result<(), Failure> {
    let stem = stem(name)?;
    let written = found(environment, name)?;
    let is_main = written.file == environment.file;
    if is_main || written.in_file != 1 {
        let (name, file) = (written.name, written.file);
        return Err(TargetsError::Elsewhere { name, file }.into());
    }
    let secret = secret_path(environment, &stem);
    let text = fs::read_to_string(&written.file).unwrap_or_default();
    let rules = config::policy_path(environment, &stem);
    let is_starter =
        fs::read_to_string(&rules).is_ok_and(|text| starter_groups(name, &text).is_some());
    let gone = |file| Draft { file, text: None };
    let rules = is_starter.then(|| gone(rules));
    let mut changes = Changes::new(environment);
    let mut made = put(environment, &mut changes, [Some(gone(written.file)), rules]);
    if made.is_ok() && secret.exists() && text.contains(&format!("file:{}", secret.display())) {
        made = changes
            .remove(&secret, Readers::Service)
            .map_err(Failure::from)
            .and_then(|()| Ok(print(&format!("removed {}\n", secret.display()))?));
    }
    settle(environment, changes, made)?;
    Ok(())
}

/// The target as it stands in the files.
fn found(environment: &Environment, name: &str) -> Result<WrittenTarget, Failure> {
    let written = config::written_targets(environment)?;
    let found = written.into_iter().find(|target| target.name == name);
    found.ok_or_else(|| {
        let name = name.to_owned();
        TargetsError::Missing { name }.into()
    })
}

/// The name of a file without its ending, from that of a target.
fn stem(name: &str) -> Result<String, TargetsError> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let stem: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '-' })
        .collect();
    if stem.is_empty() || stem.starts_with('.') {
        return Err(TargetsError::Name);
    }
    Ok(stem)
}

fn secret_path(environment: &Environment, stem: &str) -> PathBuf {
    let main = std::path::absolute(&environment.file);
    let main = main.unwrap_or_else(|_| environment.file.clone());
    let directory = main.parent().unwrap_or_else(|| Path::new("/"));
    directory
        .join(SECRETS_DIRECTORY)
        .join(format!("{stem}-password"))
}

/// One line of standard input. A terminal does not show what is typed.
fn password() -> Result<Zeroizing<Vec<u8>>, TargetsError> {
    let echo = |argument: &str| {
        let stty = Command::new("stty")
            .arg(argument)
            .stdin(Stdio::inherit())
            .status();
        stty.is_ok_and(|status| status.success())
    };
    let is_terminal = io::stdin().is_terminal();
    if is_terminal {
        // A prompt that cannot be written changes nothing about the answer.
        let _ = io::Write::write_all(&mut io::stderr(), b"Password: ");
        if !echo("-echo") {
            warn("this terminal shows what is typed");
        }
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let read = if is_terminal {
        let mut line = Zeroizing::new(String::new());
        let read = io::stdin().read_line(&mut line);
        bytes.extend_from_slice(line.as_bytes());
        read
    } else {
        io::stdin()
            .take(PASSWORD_BYTES_MAX + 2)
            .read_to_end(&mut bytes)
    };
    if is_terminal {
        echo("echo");
        // As above.
        let _ = io::Write::write_all(&mut io::stderr(), b"\n");
    }
    read.map_err(TargetsError::Password)?;
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(TargetsError::NoPassword);
    }
    if u64::try_from(bytes.len()).map_or(true, |length| length > PASSWORD_BYTES_MAX) {
        return Err(TargetsError::PasswordTooLong);
    }
    Ok(bytes)
}

/// The file of rules that lets these groups read at the target, if it takes one.
fn rule(
    environment: &Environment,
    target: &Draft,
    name: &str,
    stem: &str,
    groups: &[String],
) -> Result<Option<Draft>, Failure> {
    let mut left: Vec<String> = Vec::new();
    let known = loaded_with(environment, vec![target.clone()])?;
    let rules = known.map(|known| known.snapshot.policy.outline().rules);
    for group in groups.iter().filter(|group| !group.is_empty()) {
        let lets_group_in = |rule: &&policy::OutlinedRule| {
            let about = &rule.about;
            let is_about = |groups: &Vec<String>| groups.contains(group);
            lets_in(rule, name)
                && !about.is_conditional
                && !about.except_groups.contains(group)
                && about.groups.as_ref().is_none_or(is_about)
        };
        match rules.iter().flatten().find(lets_group_in) {
            Some(rule) => print(&format!(
                "the rule {} lets the group {group} in already\n",
                escaped(&rule.name)
            ))?,
            None if left.contains(group) => {}
            None => left.push(group.clone()),
        }
    }
    if left.is_empty() {
        return Ok(None);
    }
    let file = config::policy_path(environment, stem);
    match fs::read_to_string(&file) {
        Ok(text) => {
            let Some(mut groups) = starter_groups(name, &text) else {
                return Err(TargetsError::RulesOfYours { file }.into());
            };
            groups.append(&mut left);
            left = groups;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(Failure::Input { path: file, source }),
    }
    let text = Some(starter_rule(name, &left));
    Ok(Some(Draft { file, text }))
}

/// The whole configuration with these drafts; nothing where only credentials of the unit are missing.
fn loaded_with(
    environment: &Environment,
    drafts: Vec<Draft>,
) -> Result<Option<config::Loaded>, Failure> {
    let environment = Environment {
        drafts,
        ..environment.clone()
    };
    match config::load(&environment, Writing::Never, 0) {
        Ok(loaded) => Ok(Some(loaded)),
        Err(problems) => {
            let is_mistake = |problem: &&Problem| problem.credential.is_none();
            let mistakes: Vec<Problem> = problems.iter().filter(is_mistake).cloned().collect();
            if mistakes.is_empty() {
                Ok(None)
            } else {
                Err(mistakes.into())
            }
        }
    }
}

/// Looks at the drafts as `check` would, and puts them in place.
fn put<const N: usize>(
    environment: &Environment,
    changes: &mut Changes,
    drafts: [Option<Draft>; N],
) -> Result<(), Failure> {
    let drafts: Vec<Draft> = drafts.into_iter().flatten().collect();
    loaded_with(environment, drafts.clone())?;
    for draft in drafts {
        let place = draft.file.display();
        match &draft.text {
            Some(text) => {
                changes.put(&draft.file, text.as_bytes(), Readers::Anybody)?;
                print(&format!("wrote {place}\n"))?;
            }
            None => {
                changes.remove(&draft.file, Readers::Anybody)?;
                print(&format!("removed {place}\n"))?;
            }
        }
    }
    Ok(())
}

/// Has the running appliance take what was changed; takes it back where something is wrong.
fn settle(
    environment: &Environment,
    changes: Changes,
    made: Result<(), Failure>,
) -> Result<Option<Status>, Failure> {
    let failure = match made.and_then(|()| take(environment)) {
        Ok(running) => return Ok(running),
        Err(failure) => failure,
    };
    changes.roll_back()?;
    warn("nothing was changed: what was written is taken back");
    Err(failure)
}

/// The appliance that took the new configuration, if one runs and can be asked.
fn take(environment: &Environment) -> Result<Option<Status>, Failure> {
    let client = client(environment)?;
    match client.post::<ReloadReport>(paths::RELOAD, &()) {
        Ok(report) => {
            report.warnings.iter().for_each(|warning| warn(warning));
            print(&format!(
                "configuration {} is in force\n",
                report.generation
            ))?;
            Ok(Some(client.get(paths::STATUS)?))
        }
        Err(AdminError::NotRunning { .. }) => {
            print("no appliance runs; it takes this when it starts: systemctl start sallyport\n")?;
            Ok(None)
        }
        Err(AdminError::Permission { .. }) => {
            print("the running appliance takes this by `sallyport reload`, as root\n")?;
            Ok(None)
        }
        Err(AdminError::Refused { status, refused }) => {
            if refused
                .problems
                .iter()
                .any(|problem| problem.contains("credential"))
            {
                warn(CREDENTIAL_ADVICE);
            }
            Err(AdminError::Refused { status, refused }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// What a unit needs before a target can name a credential.
const CREDENTIAL_ADVICE: &str = "a credential is given to the unit first: `systemctl edit sallyport` \
     with `[Service]` and `LoadCredential=NAME:/etc/credstore/NAME`, then `systemctl restart \
     sallyport`, then this again";

/// Says how an agent connects.
fn next(
    environment: &Environment,
    target: &str,
    group: Option<&String>,
    running: Option<Status>,
) -> Result<(), Failure> {
    let program = if environment.file_named {
        format!("sallyport --config {}", environment.file.display())
    } else {
        "sallyport".to_owned()
    };
    let Some(group) = group else {
        return Ok(print(&format!(
            "next: let somebody in, by rules in policy.d or `{program} targets allow {target} --read \
             GROUP`\n"
        ))?);
    };
    let Some(status) = running else {
        return Ok(());
    };
    let Some((host, port)) = status.listeners.iter().find_map(|place| place_of(place)) else {
        return Ok(());
    };
    let roots = own_certificate(&status);
    let roots = roots.map_or_else(|| "system".to_owned(), |path| path.display().to_string());
    let verified = if host.starts_with('/') {
        String::new()
    } else {
        format!(" sslmode=verify-full sslrootcert={roots}")
    };
    print(&format!(
        "next, a first session:\n  PGPASSWORD=$({program} token issue --agent me --groups {group}) \\\n    \
         psql \"host={host} port={port} dbname={target} user=me{verified}\"\n"
    ))?;
    Ok(())
}

/// Host and port for libpq, of a listener as the appliance shows it.
fn place_of(listener: &str) -> Option<(String, u16)> {
    if let Some(path) = listener.strip_prefix("unix:") {
        let (directory, port) = path.rsplit_once("/.s.PGSQL.")?;
        return Some((directory.to_owned(), port.parse().ok()?));
    }
    let address: SocketAddr = listener.parse().ok()?;
    let host = if address.ip().is_unspecified() {
        "localhost".to_owned()
    } else {
        address.ip().to_string()
    };
    Some((host, address.port()))
}

/// The certificate that the appliance made for itself, if that is the one which clients see.
fn own_certificate(status: &Status) -> Option<PathBuf> {
    let path = status.state_directory.join(OWN_CERTIFICATE_FILE);
    let certificate = CertificateDer::from_pem_file(&path).ok()?;
    (fingerprint_of(&certificate) == status.certificate_fingerprint).then_some(path)
}

impl List {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let written = config::written_targets(environment)?;
        let client = client(environment)?;
        let running = match client.get::<Vec<TargetShown>>(paths::TARGETS) {
            Ok(targets) => Some((targets, client.get::<Health>(paths::HEALTH)?)),
            Err(AdminError::NotRunning { .. } | AdminError::Permission { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let lines = listed(written, running);
        if self.json {
            for line in &lines {
                let line = serde_json::to_string(line).map_err(io::Error::from)?;
                print(&format!("{line}\n"))?;
            }
            return Ok(());
        }
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let rows: Vec<Vec<String>> = lines
            .iter()
            .map(|line| {
                vec![
                    line.name.clone(),
                    line.addresses.join(","),
                    line.databases.join(","),
                    dash(&line.user),
                    line.state.to_owned(),
                    dash(&line.file),
                ]
            })
            .collect();
        let header = ["target", "address", "databases", "user", "state", "file"];
        Ok(print(&table(&header, &rows))?)
    }
}

/// A target of the files, of the running appliance, or of both.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
struct Listed {
    name: String,
    addresses: Vec<String>,
    databases: Vec<String>,
    user: Option<String>,
    file: Option<String>,
    state: &'static str,
}

fn listed(written: Vec<WrittenTarget>, running: Option<(Vec<TargetShown>, Health)>) -> Vec<Listed> {
    let is_running = |name: &str| {
        let (targets, health) = running.as_ref()?;
        let is_failing = |pool: &crate::control::PoolHealth| pool.target == name && pool.failing;
        Some(if !targets.iter().any(|target| target.name == name) {
            "not in force: sallyport reload"
        } else if health.pools.iter().any(is_failing) {
            "failing: sallyport targets check"
        } else {
            "in force"
        })
    };
    let mut lines: Vec<Listed> = written
        .into_iter()
        .map(|target| Listed {
            state: is_running(&target.name).unwrap_or("no appliance was asked"),
            file: Some(target.file.display().to_string()),
            user: Some(target.user),
            name: target.name,
            addresses: target.addresses,
            databases: target.databases,
        })
        .collect();
    let others = running.into_iter().flat_map(|(targets, _)| targets);
    for target in others {
        if lines.iter().all(|line| line.name != target.name) {
            lines.push(Listed {
                name: target.name,
                addresses: target.addresses,
                databases: target
                    .database
                    .into_iter()
                    .chain(target.databases)
                    .collect(),
                user: None,
                file: None,
                state: "in force until the next reload",
            });
        }
    }
    lines.sort_by(|one, other| one.name.cmp(&other.name));
    lines
}
