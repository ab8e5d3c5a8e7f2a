//! From the configuration as written to the values that the program uses.
//!
//! It goes on after a mistake, so that as many as possible are found at once; with any mistake
//! the whole configuration is refused.

mod clients;
mod console_login;
mod issuers;
mod reader;
mod targets;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime::{Keepalive, ListenAddress, SocketFile};
use rustls::ServerConfig;
use toml::Spanned;
use tracing::Level;

use self::clients::Clients;
use self::reader::{Reader, read_source};
use super::console_url::ConsoleUrl;
use super::file::{self, File, Listener, ListenerTable, Text, span_of};
use super::keys;
use super::mask_key::MaskKey;
use super::problem::{Problem, Source, of_file};
use super::secret::{Secret, SecretReference};
use super::snapshot::{
    ApprovalSettings, ClientAuthentication, ConsoleListener, Limits, ListenerProof,
    ListenerSettings, Loaded, LogFormat, LogSettings, SessionSettings, Snapshot, Startup, Targets,
};
use super::state::{StateDirectory, Writing};
use super::webhook::{WebhookForm, WebhookSettings};
use crate::archive::{ArchiveKeys, ArchiveSettings};
use crate::control::{
    ExportForm, ExportSettings, ExportTarget as Target, Role, Roles, S3Keys, S3Settings,
};
use crate::downstream::certificate::Certificate;
use crate::downstream::proxies::TrustedProxies;
use crate::identity::{
    Authenticators, BuiltinIssuer, CERTIFICATE_ISSUER, ClientCertificates, Issuer, SessionLifetime,
};
use crate::recorder::{Durability, RecordingSettings};
use crate::relay::SilenceLimits;
use crate::upstream::TargetSettings;

/// Largest configuration or policy file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Rings are mapped, so they are made of whole pages.
const PAGE_BYTES: u64 = 4096;

/// Most files that are read from `targets.d` and `policy.d` each.
const FILES_MAX: usize = 4096;

/// Folders beside the main file.
const TARGETS_DIRECTORY: &str = "targets.d";
const POLICY_DIRECTORY: &str = "policy.d";

/// What the process was started with. Only `main` looks at arguments and environment.
#[derive(Debug, Clone)]
pub struct Environment {
    pub file: PathBuf,
    /// Whether the operator named the file: one that nobody named may be absent.
    pub file_named: bool,
    pub state_directory: PathBuf,
    pub runtime_directory: PathBuf,
    pub credentials_directory: Option<PathBuf>,
    /// Read in place of `policy.d` beside the file: a policy that is tried out.
    pub policy_directory: Option<PathBuf>,
    /// Files of `targets.d` and `policy.d` that are not there yet, or not as they are to be.
    pub drafts: Vec<Draft>,
    /// Looks up an environment variable, for `env:` secrets.
    pub variable: fn(&str) -> Option<OsString>,
}

/// A file as it is to be, looked at before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub file: PathBuf,
    /// `None`: it is to be removed.
    pub text: Option<String>,
}

/// Reads, resolves and compiles the whole configuration.
///
/// Blocking. `generation` must differ from that of every snapshot of this process.
///
/// # Errors
/// Everything that is wrong with it, as far as each mistake lets the next be seen.
pub fn load(
    environment: &Environment,
    writing: Writing,
    generation: u64,
) -> Result<Loaded, Vec<Problem>> {
    resolve(environment, writing, generation, None)
}

/// Reads the configuration again. What changes with a restart only stays as `running` has it, with
/// a warning where the files say otherwise.
///
/// # Errors
/// As `load`.
pub fn reload(
    environment: &Environment,
    running: Startup,
    generation: u64,
) -> Result<Loaded, Vec<Problem>> {
    resolve(environment, Writing::Create, generation, Some(running))
}

/// Where the admin socket is, without resolving anything else: for commands that only talk to it.
///
/// # Errors
/// The main file cannot be read as a configuration.
pub fn admin_socket(environment: &Environment) -> Result<PathBuf, Vec<Problem>> {
    let main = main_source(environment)?;
    let written = file::read(&main)?;
    let reader = Reader::new(&main, environment);
    Ok(admin_path(
        &reader,
        &written,
        &runtime_directory(&reader, &written, environment),
    ))
}

/// Where recordings are, without resolving anything else.
///
/// # Errors
/// The main file cannot be read as a configuration, or says nonsense about recordings.
pub fn recordings(environment: &Environment) -> Result<RecordingSettings, Vec<Problem>> {
    let main = main_source(environment)?;
    let written = file::read(&main)?;
    let mut reader = Reader::new(&main, environment);
    let runtime_directory = runtime_directory(&reader, &written, environment);
    let state_directory = state_directory(&reader, &written, environment);
    let settings = recording(&mut reader, &written, &runtime_directory, &state_directory);
    if reader.problems.is_empty() {
        Ok(settings)
    } else {
        Err(reader.problems)
    }
}

/// Where exports go, without resolving anything else.
///
/// # Errors
/// The main file cannot be read as a configuration, or says nonsense about exports.
pub fn exports(environment: &Environment) -> Result<ExportSettings, Vec<Problem>> {
    let main = main_source(environment)?;
    let written = file::read(&main)?;
    let mut reader = Reader::new(&main, environment);
    let settings = export(&mut reader, &written, environment);
    if reader.problems.is_empty() {
        Ok(settings)
    } else {
        Err(reader.problems)
    }
}

/// A target as it stands in the files, resolved or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenTarget {
    pub name: String,
    pub addresses: Vec<String>,
    /// Databases that agents ask for: that of the name, and patterns.
    pub databases: Vec<String>,
    pub user: String,
    pub file: PathBuf,
    /// Targets in that file.
    pub in_file: usize,
}

/// The targets of all files, without resolving anything.
///
/// # Errors
/// A file cannot be read as a configuration.
pub fn written_targets(environment: &Environment) -> Result<Vec<WrittenTarget>, Vec<Problem>> {
    let main = main_source(environment)?;
    let mut found = file::read(&main)?.target;
    let mut targets = as_written(&main.file, &mut found);
    let mut problems = Vec::new();
    let directory = beside(&environment.file, TARGETS_DIRECTORY);
    for source in sources(&directory, &environment.drafts, &mut problems) {
        match file::read_targets(&source) {
            Ok(mut written) => targets.append(&mut as_written(&source.file, &mut written.target)),
            Err(mut found) => problems.append(&mut found),
        }
    }
    if problems.is_empty() {
        Ok(targets)
    } else {
        Err(problems)
    }
}

fn as_written(file: &Path, targets: &mut Vec<file::Target>) -> Vec<WrittenTarget> {
    let in_file = targets.len();
    let written = targets.drain(..).map(|target| {
        let text = |text: Text| text.into_inner();
        let own = match (target.database, &target.databases) {
            (None, Some(_)) => None,
            (None, None) => Some(target.name.get_ref().clone()),
            (Some(database), _) => Some(text(database)),
        };
        let patterns = target.databases.into_iter();
        let patterns = patterns.flat_map(|patterns| patterns.into_inner().into_iter().map(text));
        WrittenTarget {
            name: text(target.name),
            addresses: match target.address.into_inner() {
                file::Texts::One(address) => vec![address],
                file::Texts::List(list) => list.into_iter().map(text).collect(),
            },
            databases: own.into_iter().chain(patterns).collect(),
            user: text(target.user),
            file: file.to_owned(),
            in_file,
        }
    });
    written.collect()
}

/// Where the file of a target of that name belongs.
#[must_use]
pub fn target_path(environment: &Environment, stem: &str) -> PathBuf {
    beside(&environment.file, TARGETS_DIRECTORY).join(format!("{stem}.toml"))
}

/// Where a file of rules belongs.
#[must_use]
pub fn policy_path(environment: &Environment, stem: &str) -> PathBuf {
    let directory = environment.policy_directory.clone();
    let directory = directory.unwrap_or_else(|| beside(&environment.file, POLICY_DIRECTORY));
    directory.join(format!("{stem}.toml"))
}

fn state_directory(reader: &Reader<'_>, written: &File, environment: &Environment) -> PathBuf {
    match &written.state.directory {
        Some(directory) => reader.path(directory),
        None => environment.state_directory.clone(),
    }
}

fn main_source(environment: &Environment) -> Result<Source, Vec<Problem>> {
    if environment.file_named || environment.file.exists() {
        return read_source(&environment.file, FILE_BYTES_MAX).map_err(|problem| vec![problem]);
    }
    Ok(Source {
        file: environment.file.clone(),
        text: String::new(),
    })
}

fn runtime_directory(reader: &Reader<'_>, written: &File, environment: &Environment) -> PathBuf {
    match &written.runtime.directory {
        Some(directory) => reader.path(directory),
        None => environment.runtime_directory.clone(),
    }
}

fn admin_path(reader: &Reader<'_>, written: &File, runtime_directory: &Path) -> PathBuf {
    match &written.listen.admin {
        Some(path) => reader.path(path),
        None => runtime_directory.join("admin.sock"),
    }
}

/// What there is to be said of a configuration, right or wrong.
pub struct Examined {
    /// What it comes to, if everything that it names is there: a credential that only the unit is
    /// given may be missing where nothing but a log-in at a target needs it.
    pub loaded: Option<Loaded>,
    /// As far as it could be read.
    pub startup: Option<Startup>,
    pub problems: Vec<Problem>,
}

/// Looks at the configuration for whoever has to say what is wrong with it. Nothing is written, and
/// nothing of it may be served by.
#[must_use]
pub fn examine(environment: &Environment) -> Examined {
    let startup = main_source(environment).and_then(|main| {
        let written = file::read(&main)?;
        let mut reader = Reader::new(&main, environment);
        Ok(startup(&mut reader, &written, environment, Writing::Never))
    });
    let (loaded, problems) = match resolve_all(environment, Writing::Never, 0, None) {
        Ok(found) => found,
        Err(problems) => (None, problems),
    };
    Examined {
        loaded,
        startup: startup.ok(),
        problems,
    }
}

fn resolve(
    environment: &Environment,
    writing: Writing,
    generation: u64,
    running: Option<Startup>,
) -> Result<Loaded, Vec<Problem>> {
    match resolve_all(environment, writing, generation, running)? {
        (Some(loaded), problems) if problems.is_empty() => Ok(loaded),
        (_, problems) => Err(problems),
    }
}

/// What it comes to, and everything that is wrong with it.
fn resolve_all(
    environment: &Environment,
    writing: Writing,
    generation: u64,
    running: Option<Startup>,
) -> Result<(Option<Loaded>, Vec<Problem>), Vec<Problem>> {
    let main = main_source(environment)?;
    let written = file::read(&main)?;
    let mut reader = Reader::new(&main, environment);

    let written_startup = startup(&mut reader, &written, environment, writing);
    let mut warnings = Vec::new();
    let startup = match running {
        None => written_startup,
        Some(running) => {
            warnings = needs_restart(&environment.file, &running, &written_startup);
            running
        }
    };
    let limits = limits(&mut reader, &written);
    let session = session(&mut reader, &written);
    let drain_deadline = reader.duration(written.drain.deadline.as_ref(), &keys::DRAIN_DEADLINE);
    let approvals = approvals(&mut reader, &written);
    let webhooks = webhooks(&mut reader, &written);
    let clients = clients::resolve(&mut reader, &written, &startup.listeners);
    let served = tls(
        &mut reader,
        &written,
        &startup.state,
        clients.as_ref(),
        &mut warnings,
    );
    let console_url = console_url(&mut reader, &written);
    let issuers = issuers::resolve(&mut reader, &written, &startup.state, console_url.as_ref());
    let archive_keys = archive_keys(&mut reader, &written, &startup.state);
    let mask_key = MaskKey::kept(&startup.state);
    let mask_key = mask_key
        .map_err(|error| reader.error(span_of(written.state.directory.as_ref()), &error))
        .ok();
    let accepted = issuers
        .as_ref()
        .map_or(&[][..], |issuers| &issuers.accepted);
    let console_login = console_login::resolve(&mut reader, &written, accepted);
    check_roles(&mut reader, &written);
    let mut problems = Vec::new();
    let targets = all_targets(&mut reader, &written, environment, &mut problems);
    reader.problems.sort_by_key(Problem::position);
    problems.splice(0..0, reader.problems);
    let policy = compile_policy(
        environment,
        &targets,
        issuers.as_ref().map_or(&[], |issuers| &issuers.accepted),
        clients.as_ref().map(|clients| &clients.certificates),
        &mut problems,
        &mut warnings,
    );

    let is_mistaken = problems.iter().any(|problem| problem.credential.is_none());
    let (Some(served), Some(issuers), Some(policy), Some(mask_key), Some(archive_keys), false) =
        (served, issuers, policy, mask_key, archive_keys, is_mistaken)
    else {
        return Ok((None, problems));
    };
    let roles = roles(&written, &policy, issuers.builtin.as_ref());
    let snapshot = Snapshot {
        generation,
        in_force_since: runtime::now(),
        limits,
        tls: served.tls,
        client_certificates: served.clients,
        console_tls: served.console_tls,
        console_url,
        console_login,
        authenticators: Authenticators::new(generation, issuers.accepted),
        targets: Targets::new(targets),
        policy,
        session,
        roles,
        mask_key,
        listeners: startup.listeners.clone(),
        approvals,
        webhooks,
        drain_deadline,
    };
    let builtin_issuer = issuers.builtin.map(Arc::new);
    let loaded = Loaded {
        snapshot,
        startup,
        builtin_issuer,
        archive_keys,
        certificate_fingerprint: served.fingerprint,
        warnings,
    };
    Ok((Some(loaded), problems))
}

/// A file or a credential that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// As in the table of keys.
    pub key: &'static str,
    /// The configuration file that names it.
    pub by: PathBuf,
    pub place: NamedPlace,
}

/// Where something stands that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedPlace {
    File(PathBuf),
    /// Given to the unit by systemd.
    Credential(String),
}

/// Every file and credential that the configuration names, as far as it can be read.
#[must_use]
pub fn named_files(environment: &Environment) -> Vec<NamedFile> {
    // What cannot be read is a problem of `examine`.
    let mut problems = Vec::new();
    let directory = beside(&environment.file, TARGETS_DIRECTORY);
    let main = main_source(environment).into_iter();
    let all = main.chain(sources(&directory, &environment.drafts, &mut problems));
    all.flat_map(|source| {
        let named = file::named(&source);
        let base = source.file.parent().map(Path::to_owned).unwrap_or_default();
        let by = source.file;
        let named: Vec<NamedFile> = named
            .into_iter()
            .filter_map(|(key, text)| {
                let place = match (key.kind, SecretReference::parse(&text)) {
                    (keys::Kind::Secret, Ok(SecretReference::Credential(name))) => {
                        NamedPlace::Credential(name)
                    }
                    (keys::Kind::Secret, Ok(SecretReference::File(path))) => {
                        NamedPlace::File(base.join(path))
                    }
                    (keys::Kind::Secret, _) => return None,
                    _ => NamedPlace::File(base.join(text)),
                };
                Some(NamedFile {
                    key: key.path,
                    by: by.clone(),
                    place,
                })
            })
            .collect();
        named
    })
    .collect()
}

/// What the files say of values that change with a restart only, where it is not what runs.
fn needs_restart(file: &Path, running: &Startup, written: &Startup) -> Vec<Problem> {
    let changes = [
        ("listen.postgres", running.listeners != written.listeners),
        ("listen.console", running.console != written.console),
        ("listen.metrics", running.metrics != written.metrics),
        ("listen.admin", running.admin_socket != written.admin_socket),
        ("runtime.shards", running.shards != written.shards),
        (
            "runtime.directory",
            running.runtime_directory != written.runtime_directory,
        ),
        (
            "state.directory",
            running.state.path() != written.state.path(),
        ),
        ("recording", running.recording != written.recording),
        ("archive", running.archive != written.archive),
        ("export", running.export != written.export),
        ("log", running.log != written.log),
    ];
    changes
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| of_file(file, format!("`{key}` has changed and needs a restart")))
        .collect()
}

fn startup(
    reader: &mut Reader<'_>,
    written: &File,
    environment: &Environment,
    writing: Writing,
) -> Startup {
    let runtime_directory = runtime_directory(reader, written, environment);
    let state_directory = state_directory(reader, written, environment);
    let shards = written.runtime.shards.as_ref();
    let shards = shards.map(|_| reader.count(shards, &keys::RUNTIME_SHARDS));
    Startup {
        shards: shards.and_then(NonZero::new),
        admin_socket: admin_path(reader, written, &runtime_directory),
        console: console_listener(reader, written.listen.console.as_ref()),
        metrics: http_address(reader, written.listen.metrics.as_ref()),
        listeners: listeners(reader, written),
        recording: recording(reader, written, &runtime_directory, &state_directory),
        archive: archive(reader, written),
        export: export(reader, written, environment),
        log: log(reader, written),
        state: StateDirectory::new(state_directory, writing),
        runtime_directory,
    }
}

fn recording(
    reader: &mut Reader<'_>,
    written: &File,
    runtime_directory: &Path,
    state_directory: &Path,
) -> RecordingSettings {
    let recording = &written.recording;
    let directory = match &recording.directory {
        Some(directory) => reader.path(directory),
        None => state_directory.join("recordings"),
    };
    let ring_bytes = reader.bytes(recording.ring_bytes.as_ref(), &keys::RECORDING_RING_BYTES);
    if !ring_bytes.is_multiple_of(PAGE_BYTES) {
        let at = span_of(recording.ring_bytes.as_ref());
        reader.problem(at, "`ring_bytes` is a multiple of 4KiB");
    }
    let durability =
        reader::text_or_default(recording.durability.as_ref(), &keys::RECORDING_DURABILITY);
    let durability = durability.parse().unwrap_or_else(|error| {
        reader.error(span_of(recording.durability.as_ref()), &error);
        Durability::Strict
    });
    RecordingSettings {
        // A size beyond the address space fails to map, with the ring's own message.
        ring_bytes: usize::try_from(ring_bytes).unwrap_or(usize::MAX),
        durability,
        ..RecordingSettings::under(runtime_directory, &directory)
    }
}

fn archive(reader: &mut Reader<'_>, written: &File) -> ArchiveSettings {
    let archive = &written.archive;
    let keep = reader.duration(archive.keep.as_ref(), &keys::ARCHIVE_KEEP);
    let keep_bytes = reader.bytes(archive.keep_bytes.as_ref(), &keys::ARCHIVE_KEEP_BYTES);
    let interval = archive.head_interval.as_ref();
    ArchiveSettings {
        head_interval: reader.duration(interval, &keys::ARCHIVE_HEAD_INTERVAL),
        keep: (!keep.is_zero()).then_some(keep),
        keep_bytes: (keep_bytes > 0).then_some(keep_bytes),
    }
}

fn archive_keys(
    reader: &mut Reader<'_>,
    written: &File,
    state: &StateDirectory,
) -> Option<Arc<ArchiveKeys>> {
    let archive = &written.archive;
    let written_at = archive.signing_key.as_ref();
    // A reference that leads nowhere is a problem of its own.
    let mut read = |text: Option<&Text>| match text {
        Some(text) => reader.secret(text).map(Some),
        None => Some(None),
    };
    let signing = read(archive.signing_key.as_ref());
    let previous = read(archive.previous_signing_key.as_ref());
    let (signing, previous) = (signing?, previous?);
    match ArchiveKeys::of(state, signing.as_ref(), previous.as_ref()) {
        Ok(keys) => Some(Arc::new(keys)),
        Err(error) => {
            let at = written_at.or(archive.previous_signing_key.as_ref());
            reader.error(span_of(at), &error);
            None
        }
    }
}

const EXPORT_FORMS: [(&str, ExportForm); 2] =
    [("ocsf", ExportForm::Ocsf), ("jsonl", ExportForm::Jsonl)];

fn export(reader: &mut Reader<'_>, written: &File, environment: &Environment) -> ExportSettings {
    let export = &written.export;
    let base = environment.file.parent().unwrap_or_else(|| Path::new("/"));
    let to = export.to.as_ref().and_then(|to| {
        Target::parse(to.get_ref(), base)
            .map_err(|error| reader.error(to.span(), &error))
            .ok()
    });
    let form = reader.choice(export.format.as_ref(), &keys::EXPORT_FORMAT, &EXPORT_FORMS);
    let interval = reader.duration(export.interval.as_ref(), &keys::EXPORT_INTERVAL);
    let s3 = &export.s3;
    let access = s3.access_key.as_ref().and_then(|text| reader.secret(text));
    let secret = s3.secret_key.as_ref().and_then(|text| reader.secret(text));
    if s3.access_key.is_some() != s3.secret_key.is_some() {
        let at = span_of(s3.access_key.as_ref().or(s3.secret_key.as_ref()));
        reader.problem(at, "`access_key` and `secret_key` belong together");
    }
    ExportSettings {
        to,
        // A word that is none has been reported.
        form: form.unwrap_or(ExportForm::Ocsf),
        interval,
        s3: S3Settings {
            endpoint: s3.endpoint.as_ref().map(|text| text.get_ref().clone()),
            region: reader::text_or_default(s3.region.as_ref(), &keys::EXPORT_S3_REGION).to_owned(),
            keys: access
                .zip(secret)
                .map(|(access, secret)| S3Keys { access, secret }),
        },
    }
}

const PROOFS: [(&str, ListenerProof); 3] = [
    ("password", ListenerProof::Password),
    ("oauthbearer", ListenerProof::OauthBearer),
    ("certificate", ListenerProof::Certificate),
];

fn listeners(reader: &mut Reader<'_>, written: &File) -> Vec<ListenerSettings> {
    let Some(list) = &written.listen.postgres else {
        let default = reader::text_or_default(None, &keys::LISTEN_POSTGRES);
        let address = listen_address(reader, default, 0..0);
        return address
            .and_then(|address| listener(reader, address, None))
            .into_iter()
            .collect();
    };
    let mut listeners: Vec<ListenerSettings> = Vec::new();
    for entry in list.get_ref() {
        let (address, table, at) = match entry.get_ref() {
            Listener::Address(address) => (address, None, entry.span()),
            Listener::Table(table) => (table.address.get_ref(), Some(table), table.address.span()),
        };
        let Some(settings) = listen_address(reader, address, at.clone())
            .and_then(|address| listener(reader, address, table))
        else {
            continue;
        };
        let any_port =
            matches!(&settings.address, ListenAddress::Tcp(address) if address.port() == 0);
        let is_taken = |other: &ListenerSettings| other.address == settings.address;
        if !any_port && listeners.iter().any(is_taken) {
            reader.problem(at, "this address is in the list twice");
        }
        listeners.push(settings);
    }
    if list.get_ref().is_empty() {
        reader.problem(list.span(), "without a listener nobody can connect");
    }
    listeners
}

/// A listener with what its table says, if it is written as one.
fn listener(
    reader: &mut Reader<'_>,
    address: ListenAddress,
    table: Option<&ListenerTable>,
) -> Option<ListenerSettings> {
    let is_unix = matches!(address, ListenAddress::Unix(_));
    let proof = table.and_then(|table| table.proof.as_ref());
    let proof = reader.choice(proof, &keys::LISTEN_POSTGRES_PROOF, &PROOFS)?;
    let proxies = table.and_then(|table| table.proxy_protocol.as_ref());
    let mode = table.and_then(|table| table.mode.as_ref());
    let group = table.and_then(|table| table.group.as_ref());
    for of_unix in [mode, group].into_iter().flatten().filter(|_| !is_unix) {
        reader.problem(of_unix.span(), "only a Unix socket has a file");
    }
    Some(ListenerSettings {
        address,
        proof,
        proxy_protocol: trusted_proxies(reader, proxies, is_unix),
        file: SocketFile {
            mode: reader.mode(mode, &keys::LISTEN_POSTGRES_MODE),
            group: group.and_then(|group| reader.group(group)),
        },
    })
}

fn trusted_proxies(
    reader: &mut Reader<'_>,
    written: Option<&Spanned<Vec<Text>>>,
    is_unix: bool,
) -> TrustedProxies {
    let mut proxies = Vec::new();
    for text in written.map(Spanned::get_ref).into_iter().flatten() {
        match text.get_ref().parse::<policy::Network>() {
            Ok(proxy) if (proxy == policy::Network::Unix) == is_unix => proxies.push(proxy),
            Ok(_) if is_unix => reader.problem(text.span(), "peers of a Unix socket are `unix`"),
            Ok(_) => reader.problem(text.span(), "no peer of this listener is `unix`"),
            Err(error) => reader.error(text.span(), &error),
        }
    }
    if let Some(written) = written.filter(|written| written.get_ref().is_empty()) {
        let message = "an empty list trusts nobody; leave `proxy_protocol` out";
        reader.problem(written.span(), message);
    }
    TrustedProxies::new(proxies)
}

fn listen_address(
    reader: &mut Reader<'_>,
    text: &str,
    at: std::ops::Range<usize>,
) -> Option<ListenAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        if !path.starts_with('/') {
            reader.problem(at, "the path of a socket starts with `/`");
            return None;
        }
        return Some(ListenAddress::Unix(PathBuf::from(path)));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) => Some(ListenAddress::Tcp(address)),
        Err(_) => {
            let message = "expected `ADDRESS:PORT` such as `127.0.0.1:6432` or `[::]:6432`, or \
                           `unix:PATH`; names are not looked up";
            reader.problem(at, message);
            None
        }
    }
}

/// In place of an address: no console.
const CONSOLE_OFF: &str = "off";

fn console_listener(reader: &mut Reader<'_>, written: Option<&Text>) -> ConsoleListener {
    let Some(text) = written else {
        let default = reader::text_or_default(None, &keys::LISTEN_CONSOLE);
        return match default.parse() {
            Ok(address) => ConsoleListener::ByDefault(address),
            // A test reads every default.
            Err(_) => ConsoleListener::Off,
        };
    };
    if text.get_ref() == CONSOLE_OFF {
        return ConsoleListener::Off;
    }
    http_address(reader, written).map_or(ConsoleListener::Off, ConsoleListener::At)
}

fn http_address(reader: &mut Reader<'_>, written: Option<&Text>) -> Option<SocketAddr> {
    let text = written?;
    let address = text.get_ref().parse::<SocketAddr>();
    if address.is_err() {
        let message = "expected `ADDRESS:PORT` such as `127.0.0.1:7070`; names are not looked up";
        reader.problem(text.span(), message);
    }
    address.ok()
}

fn console_url(reader: &mut Reader<'_>, written: &File) -> Option<ConsoleUrl> {
    let text = written.console.url.as_ref()?;
    let url = ConsoleUrl::parse(text.get_ref());
    url.map_err(|error| reader.error(text.span(), &error)).ok()
}

const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

fn log(reader: &mut Reader<'_>, written: &File) -> LogSettings {
    let format = reader.choice(written.log.format.as_ref(), &keys::LOG_FORMAT, &FORMATS);
    let level = reader.choice(written.log.level.as_ref(), &keys::LOG_LEVEL, &LEVELS);
    LogSettings {
        format: format.unwrap_or(LogFormat::Text),
        level: level.unwrap_or(Level::INFO),
    }
}

fn limits(reader: &mut Reader<'_>, written: &File) -> Limits {
    let limits = &written.limits;
    let message_bytes = reader.bytes(limits.message_bytes.as_ref(), &keys::LIMITS_MESSAGE_BYTES);
    let bind_bytes = reader.bytes(limits.bind_bytes.as_ref(), &keys::LIMITS_BIND_BYTES);
    let wire = codecs::limits::Limits {
        // The keys' ranges end below 4 GiB.
        frontend_message_bytes: u32::try_from(message_bytes).unwrap_or(u32::MAX),
        bind_bytes: u32::try_from(bind_bytes).unwrap_or(u32::MAX),
        ..codecs::limits::Limits::default()
    };
    Limits {
        wire,
        unauthenticated: reader.count(
            limits.unauthenticated.as_ref(),
            &keys::LIMITS_UNAUTHENTICATED,
        ),
        unauthenticated_per_address: reader.count(
            limits.unauthenticated_per_address.as_ref(),
            &keys::LIMITS_UNAUTHENTICATED_PER_ADDRESS,
        ),
        sessions: reader.count(limits.sessions.as_ref(), &keys::LIMITS_SESSIONS),
        login_deadline: reader
            .duration(limits.login_deadline.as_ref(), &keys::LIMITS_LOGIN_DEADLINE),
        write_deadline: reader
            .duration(limits.write_deadline.as_ref(), &keys::LIMITS_WRITE_DEADLINE),
        keepalive: keepalive(reader, limits),
    }
}

fn keepalive(reader: &mut Reader<'_>, limits: &file::Limits) -> Keepalive {
    let probes = limits.keepalive_probes.as_ref();
    let probes = reader.count(probes, &keys::LIMITS_KEEPALIVE_PROBES);
    Keepalive {
        idle: reader.duration(limits.keepalive_idle.as_ref(), &keys::LIMITS_KEEPALIVE_IDLE),
        interval: reader.duration(
            limits.keepalive_interval.as_ref(),
            &keys::LIMITS_KEEPALIVE_INTERVAL,
        ),
        // The key's range ends at 127.
        probes: u32::try_from(probes).unwrap_or(u32::MAX),
    }
}

fn session(reader: &mut Reader<'_>, written: &File) -> SessionSettings {
    let lifetime = reader.duration(written.session.lifetime.as_ref(), &keys::SESSION_LIFETIME);
    let idle = reader.duration(written.session.idle.as_ref(), &keys::SESSION_IDLE);
    let listening = written.session.idle_listening.as_ref();
    let listening = reader.duration(listening, &keys::SESSION_IDLE_LISTENING);
    let in_transaction = written.session.idle_in_transaction.as_ref();
    let in_transaction = reader.duration(in_transaction, &keys::SESSION_IDLE_IN_TRANSACTION);
    let statement = written.session.statement_timeout.as_ref();
    let statement = reader.duration(statement, &keys::SESSION_STATEMENT_TIMEOUT);
    let unless_zero = |limit: Duration| (!limit.is_zero()).then_some(limit);
    SessionSettings {
        lifetime: if lifetime.is_zero() {
            SessionLifetime::UntilTokenExpires
        } else {
            SessionLifetime::AtMost(lifetime)
        },
        silence: SilenceLimits {
            idle: unless_zero(idle),
            listening: unless_zero(listening),
            in_transaction: unless_zero(in_transaction),
        },
        statement_timeout: unless_zero(statement),
    }
}

fn approvals(reader: &mut Reader<'_>, written: &File) -> ApprovalSettings {
    let in_transaction = written.approvals.in_transaction.as_ref();
    let notice_interval = written.approvals.notice_interval.as_ref();
    ApprovalSettings {
        in_transaction: reader.duration(in_transaction, &keys::APPROVALS_IN_TRANSACTION),
        notice_interval: reader.duration(notice_interval, &keys::APPROVALS_NOTICE_INTERVAL),
        limits: policy::approval::Limits {
            open: reader.count(written.approvals.open.as_ref(), &keys::APPROVALS_OPEN),
            open_per_requester: reader.count(
                written.approvals.open_per_principal.as_ref(),
                &keys::APPROVALS_OPEN_PER_PRINCIPAL,
            ),
        },
        kept: reader.duration(written.approvals.kept.as_ref(), &keys::APPROVALS_KEPT),
    }
}

fn webhooks(reader: &mut Reader<'_>, written: &File) -> Vec<Arc<WebhookSettings>> {
    let forms = [("slack", WebhookForm::Slack), ("json", WebhookForm::Json)];
    let mut webhooks = Vec::new();
    for entry in &written.webhook {
        let is_reference = ["credential:", "file:", "env:"]
            .iter()
            .any(|kind| entry.url.get_ref().starts_with(kind));
        let url = if is_reference {
            reader.secret(&entry.url)
        } else {
            Some(Secret::new(entry.url.get_ref().clone().into_bytes()))
        };
        let secret = reader.secret(&entry.secret);
        let form = reader.choice(entry.form.as_ref(), &keys::WEBHOOK_FORM, &forms);
        let (Some(url), Some(secret), Some(form)) = (url, secret, form) else {
            continue;
        };
        match WebhookSettings::new(url, secret, form) {
            Ok(settings) => webhooks.push(Arc::new(settings)),
            Err(error) => reader.error(entry.url.span(), &error),
        }
    }
    webhooks
}

fn check_roles(reader: &mut Reader<'_>, written: &File) {
    let written = &written.roles;
    for group in [&written.viewer, &written.approver, &written.admin]
        .into_iter()
        .flatten()
    {
        if matches!(group.get_ref().as_str(), "" | "*") {
            reader.problem(group.span(), "a role takes the names of groups");
        }
    }
}

fn roles(written: &File, policy: &policy::Policy, builtin: Option<&BuiltinIssuer>) -> Roles {
    let groups = |list: &[Text]| -> Vec<String> {
        list.iter().map(|group| group.get_ref().clone()).collect()
    };
    let roles = Roles::default()
        .with(Role::Viewer, groups(&written.roles.viewer))
        .with(Role::Approver, groups(&written.roles.approver))
        .with(Role::Approver, policy.approver_groups().map(str::to_owned))
        .with(Role::Admin, groups(&written.roles.admin));
    match builtin {
        Some(builtin) => roles.none_for_tokens_of(builtin.name()),
        None => roles,
    }
}

/// A character that no group has.
const NO_PREFIX: &str = "\0";

/// How the certificate is served.
struct Served {
    tls: Arc<ServerConfig>,
    clients: Option<ClientAuthentication>,
    console_tls: Arc<ServerConfig>,
    fingerprint: String,
}

fn tls(
    reader: &mut Reader<'_>,
    written: &File,
    state: &StateDirectory,
    clients: Option<&Clients>,
    warnings: &mut Vec<Problem>,
) -> Option<Served> {
    let (certificate, at) = match (&written.tls.certificate, &written.tls.key) {
        (Some(certificate), Some(key)) => {
            let secret = reader.secret(key)?;
            let path = reader.path(certificate);
            (Certificate::from_files(&path, &secret), certificate.span())
        }
        (None, None) => {
            let names = certificate_names(written.tls.names.as_ref());
            (
                Certificate::own(state, &names),
                span_of(written.tls.names.as_ref()),
            )
        }
        (Some(alone), None) => {
            reader.problem(alone.span(), "`tls.certificate` needs `tls.key`");
            return None;
        }
        (None, Some(alone)) => {
            reader.problem(alone.span(), "`tls.key` needs `tls.certificate`");
            return None;
        }
    };
    let served = certificate.and_then(|certificate| {
        if let Some(lapse) = certificate.lapse(runtime::unix_time()) {
            let message = format!("the certificate {lapse}: clients that verify it are not served");
            warnings.push(reader.source.problem(at.clone(), message));
        }
        Ok(Served {
            tls: certificate.server_config()?,
            clients: match clients {
                Some(clients) => Some(ClientAuthentication {
                    tls: certificate.verifying_config(Arc::clone(&clients.verifier))?,
                    certificates: clients.certificates.clone(),
                }),
                None => None,
            },
            console_tls: certificate.https_config()?,
            fingerprint: certificate.fingerprint(),
        })
    });
    served.map_err(|error| reader.error(at, &error)).ok()
}

fn certificate_names(written: Option<&Spanned<Vec<Text>>>) -> Vec<String> {
    if let Some(written) = written {
        return written
            .get_ref()
            .iter()
            .map(|name| name.get_ref().clone())
            .collect();
    }
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    // Not from /proc, which units may hide. A name that is not text is no name for a certificate.
    let system = rustix::system::uname();
    let machine = system.nodename().to_str().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !machine.is_empty() && machine.chars().all(plain) && machine != "localhost" {
        names.push(machine.to_owned());
    }
    names
}

/// Targets of the main file and of `targets.d` beside it.
fn all_targets(
    reader: &mut Reader<'_>,
    written: &File,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Vec<TargetSettings> {
    let mut targets = targets::Resolved::default();
    targets.add(reader, &written.target);
    let directory = beside(&environment.file, TARGETS_DIRECTORY);
    for source in sources(&directory, &environment.drafts, problems) {
        match file::read_targets(&source) {
            Ok(written) => {
                let mut reader = Reader::new(&source, environment);
                targets.add(&mut reader, &written.target);
                problems.append(&mut reader.problems);
            }
            Err(mut found) => problems.append(&mut found),
        }
    }
    targets.settings
}

fn compile_policy(
    environment: &Environment,
    targets: &[TargetSettings],
    issuers: &[Issuer],
    clients: Option<&ClientCertificates>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Option<Arc<policy::Policy>> {
    let directory = environment.policy_directory.clone();
    let directory = directory.unwrap_or_else(|| beside(&environment.file, POLICY_DIRECTORY));
    let sources: Vec<policy::Source> = sources(&directory, &environment.drafts, problems)
        .into_iter()
        .map(|source| policy::Source {
            file: source.file.display().to_string(),
            text: source.text,
        })
        .collect();
    let mapped: Vec<Vec<&str>> = issuers
        .iter()
        .map(|issuer| {
            issuer
                .mapping
                .group_map
                .values()
                .map(String::as_str)
                .collect()
        })
        .collect();
    let client_issuer = clients.map(ClientCertificates::issuer);
    let client_groups: Vec<&str> = clients.map_or_else(Vec::new, |clients| {
        let groups = clients.groups.iter().flat_map(|(_, groups)| groups);
        groups.map(String::as_str).collect()
    });
    let of_certificates = client_issuer.as_deref().map(|issuer| policy::KnownIssuer {
        // Only what is mapped is a group.
        group_prefix: NO_PREFIX,
        groups: &client_groups,
        name: CERTIFICATE_ISSUER,
        issuer,
    });
    let issuers: Vec<policy::KnownIssuer<'_>> = issuers
        .iter()
        .zip(&mapped)
        .map(|(issuer, mapped)| policy::KnownIssuer {
            group_prefix: &issuer.mapping.group_prefix,
            groups: mapped,
            name: &issuer.name,
            issuer: &issuer.issuer,
        })
        .chain(of_certificates)
        .collect();
    let targets: Vec<policy::KnownTarget<'_>> = targets
        .iter()
        .map(|target| policy::KnownTarget {
            name: &target.name,
            databases: &target.databases.patterns,
        })
        .collect();
    let known = policy::Known {
        targets: &targets,
        issuers: &issuers,
    };
    match policy::Policy::compile(&sources, &known) {
        Ok(compiled) => {
            warnings.extend(compiled.warnings.into_iter().map(Problem::from));
            Some(Arc::new(compiled.policy))
        }
        Err(found) => {
            problems.extend(found.into_iter().map(Problem::from));
            None
        }
    }
}

impl From<policy::Problem> for Problem {
    fn from(problem: policy::Problem) -> Self {
        Self {
            file: PathBuf::from(problem.file),
            line: problem.line,
            column: problem.column,
            message: problem.message,
            suggestion: problem.suggestion,
            credential: None,
        }
    }
}

fn beside(main: &Path, name: &str) -> PathBuf {
    main.parent().unwrap_or_else(|| Path::new("")).join(name)
}

/// The `*.toml` files of a directory in the order of their names, drafts in their places. A directory
/// that is not there has none; hidden files, such as an editor leaves, do not count.
fn sources(directory: &Path, drafts: &[Draft], problems: &mut Vec<Problem>) -> Vec<Source> {
    let unreadable = |error: io::Error| of_file(directory, format!("cannot be read: {error}"));
    let mut files = Vec::new();
    match fs::read_dir(directory) {
        Ok(entries) => {
            for entry in entries {
                match entry {
                    Ok(entry) => files.push(entry.path()),
                    Err(error) => problems.push(unreadable(error)),
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            problems.push(unreadable(error));
            return Vec::new();
        }
    }
    let hidden = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    files.retain(|path| path.extension().is_some_and(|e| e == "toml") && !hidden(path));
    let drafts = drafts.iter();
    let drafts: Vec<&Draft> = drafts
        .filter(|draft| draft.file.parent() == Some(directory))
        .collect();
    files.retain(|file| drafts.iter().all(|draft| draft.file != *file));
    let drafted = drafts.iter().filter(|draft| draft.text.is_some());
    files.extend(drafted.map(|draft| draft.file.clone()));
    files.sort();
    if files.len() > FILES_MAX {
        problems.push(of_file(
            directory,
            format!("holds more than {FILES_MAX} files"),
        ));
        return Vec::new();
    }
    let mut found = Vec::with_capacity(files.len());
    for file in files {
        let draft = drafts.iter().find(|draft| draft.file == file);
        if let Some(text) = draft.and_then(|draft| draft.text.clone()) {
            found.push(Source { file, text });
            continue;
        }
        match read_source(&file, FILE_BYTES_MAX) {
            Ok(source) => found.push(source),
            Err(problem) => problems.push(problem),
        }
    }
    found
}
