//! `sallyport serve`: from a configuration to running shards, and back down in order.

use std::io::Write;
use std::num::NonZero;
use std::sync::{Arc, mpsc};

use clap::Args;
use runtime::{Published, ShardId, ShardsConfig};

use super::{Failure, warn};
use crate::approvals::{self, Desk, Panel, SqliteStore};
use crate::archive::{
    Action, Actor, Archive, Archivist, Bell, HoldError, Holds, Trail, TrailError, Verb,
};
use crate::budgets::Ledger;
use crate::config::{self, ConsoleListener, Environment, Writing};
use crate::control::{
    self, AdminSocket, DATABASE, Database, ExportThread, FromShards, HttpListener, NextStep, Plane,
    Revocations, Service, Supervision, TokenClients,
};
use crate::identity::remote::QUESTIONS_MAX;
use crate::identity::{KeyRefresh, RemoteKeys};
use crate::recorder::JournalThread;
use crate::revocation::RevocationStore;
use crate::service::{self, Notifier, NotifyError, PassedSockets};
use crate::shard::{self, Environment as Shared, mailbox::Seats};
use crate::telemetry;

#[derive(Debug, Args)]
pub(super) struct Serve {}

/// Why the appliance did not start, or stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("the log cannot be set up")]
    Log(#[from] telemetry::LogError),
    #[error("the admin socket cannot be opened")]
    Admin(#[from] control::AdminSocketError),
    #[error("core files of this process cannot be ruled out")]
    Dumpable(#[source] rustix::io::Errno),
    #[error(transparent)]
    Http(#[from] control::HttpListenError),
    #[error("the clients of the built-in issuer cannot be read")]
    Clients(#[from] control::ClientsError),
    #[error("the recording cannot be opened")]
    Journal(#[from] crate::recorder::StartError),
    #[error("the database of the control plane cannot be used")]
    Database(#[from] control::DatabaseError),
    #[error("the revocations cannot be read")]
    Revocations(#[from] crate::revocation::StoreError),
    #[error("the legal holds cannot be read")]
    Holds(#[from] HoldError),
    #[error("the archivist cannot be started")]
    Archivist(#[source] std::io::Error),
    #[error("the trail cannot be written")]
    Trail(#[from] TrailError),
    #[error(transparent)]
    Bind(#[from] shard::BindError),
    #[error(transparent)]
    Notify(#[from] NotifyError),
    #[error("the requests for approval of the last run cannot be ended")]
    Approvals(#[from] approvals::StoreError),
    #[error("the control thread cannot be started")]
    Control(#[source] std::io::Error),
    #[error("the export thread cannot be started")]
    Export(#[source] std::io::Error),
    #[error("the shards cannot be started")]
    Shards(#[from] runtime::StartError),
    #[error("the number of CPUs cannot be had")]
    Affinity(#[source] std::io::Error),
    #[error("a shard cannot run")]
    Shard(#[source] shard::ShardError),
    #[error("a shard died")]
    Died(#[from] runtime::ShardDied),
    #[error("what was recorded last is not on the disk yet; the next start recovers it")]
    Flush(#[from] crate::recorder::FlushError),
    #[error("cannot say that it is ready")]
    Ready(#[source] std::io::Error),
}

impl Serve {
    pub(super) fn run(
        self,
        environment: Environment,
        service: &service::Variables,
    ) -> Result<(), Failure> {
        let passed = service.take_sockets();
        let notifier = Notifier::connect(service.notify_socket.as_deref());
        let notifier = notifier.map_err(ServeError::from)?;
        let loaded = config::load(&environment, Writing::Create, 1).inspect_err(|problems| {
            let first = problems.first().map(ToString::to_string);
            let first = first.unwrap_or_default();
            notifier.status(&format!("the configuration is wrong: {first}"));
        })?;
        for warning in &loaded.warnings {
            warn(&warning.to_string());
        }
        let supervision = Supervision {
            notifier: notifier.clone(),
            watchdog: service.watchdog(),
        };
        let served = serve(environment, loaded, passed, supervision);
        served.inspect_err(|error| notifier.status(&telemetry::chain(error)))?;
        Ok(())
    }
}

fn serve(
    environment: Environment,
    loaded: config::Loaded,
    passed: PassedSockets,
    supervision: Supervision,
) -> Result<(), ServeError> {
    let config::Loaded {
        snapshot,
        startup,
        builtin_issuer,
        archive_keys,
        certificate_fingerprint,
        ..
    } = loaded;
    // Security: a core file would hold the targets' passwords and what agents saw. Neither a file
    // nor a handler gets one then, whatever limits the process was started with.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(ServeError::Dumpable)?;
    let _last_lines = telemetry::init(startup.log)?;
    let socket = AdminSocket::bind(&startup.admin_socket)?;
    let console = console(startup.console)?;
    let console_address = console.as_ref().map(HttpListener::url);
    let metrics = startup
        .metrics
        .map(|address| HttpListener::bind(Service::Metrics, address))
        .transpose()?;
    let metrics_address = metrics.as_ref().map(HttpListener::url);

    // Whoever was cut off stays so: without the revocations nobody is let in.
    let database = Database::open(startup.state.file(DATABASE))?;
    let revocations = RevocationStore::open(&database)?;
    let now = runtime::unix_time().as_secs();
    let revocations = Arc::new(Revocations::open(revocations, now)?);
    let clients = Arc::new(TokenClients::open(&database)?);

    let bell = Bell::new();
    // What a run before left behind is safe on disk before anything new is accepted.
    let journal = JournalThread::start_with(startup.recording.clone(), bell.clone())?;
    let recovered = journal.recovered();
    if recovered.records > 0 || recovered.damaged_bytes > 0 {
        tracing::warn!(
            records = recovered.records,
            damaged_bytes = recovered.damaged_bytes,
            "recovered what the last run had not written"
        );
    }

    let trail = Trail::open_with(&startup.recording.archive_directory, bell.clone())
        .map_err(TrailError::from)?;
    let version = env!("CARGO_PKG_VERSION");
    trail.record(&Action::new(Actor::Appliance, Verb::Started, version))?;

    // What was held in another life never runs.
    let requests = Box::new(SqliteStore::new(&database)?);
    let panel = Panel::of(
        &snapshot,
        builtin_issuer.as_deref(),
        console_address
            .as_deref()
            .filter(|_| startup.console.is_written()),
    );
    let desk = Desk::open(panel, requests, trail.clone(), runtime::unix_time())?;

    let holds = Holds::open(&startup.recording.archive_directory)?;
    let (announce, heads) = control::heads();
    let archive = Archive {
        recording: startup.recording.clone(),
        settings: startup.archive.clone(),
        keys: archive_keys,
        trail: trail.clone(),
        holds: holds.clone(),
        journal: journal.handle().clone(),
        announce,
    };
    let archivist = Archivist::start(archive, bell).map_err(ServeError::Archivist)?;

    let shards = match startup.shards {
        Some(shards) => shards.get(),
        None => runtime::allowed_cpus().map_err(ServeError::Affinity)?.len(),
    };
    let notifier = supervision.notifier.clone();
    let (seats, directory) = Seats::prepare(shards, &startup.listeners, passed, &notifier)?;
    let listeners: Vec<String> = seats.addresses().iter().map(ToString::to_string).collect();
    let next_step = control::next_step_of(&snapshot, &startup.recording);
    let published = Published::new(Arc::new(snapshot));
    let keys = Published::new(Arc::new(RemoteKeys::none()));
    let (key_refresh, key_questions) = runtime::mailbox(QUESTIONS_MAX);
    let key_refresh = KeyRefresh::new(key_refresh);
    let (approvals, inbox) = approvals::channel();
    let plane = Plane {
        environment,
        startup: startup.clone(),
        socket,
        console,
        console_address: console_address.clone(),
        metrics,
        metrics_address: metrics_address.clone(),
        snapshot: published.clone(),
        keys: keys.clone(),
        key_refresh: key_refresh.clone(),
        builtin_issuer,
        certificate_fingerprint: certificate_fingerprint.clone(),
        listeners: listeners.clone(),
        directory: directory.clone(),
        recorder: journal.handle().clone(),
        revocations: Arc::clone(&revocations),
        trail: trail.clone(),
        clients,
        holds,
        archivist: archivist.handle().clone(),
        heads: Some(heads),
        supervision,
    };
    let asked = FromShards {
        approvals: (desk, inbox),
        keys: key_questions,
    };
    let mut control = control::start(plane, asked).map_err(ServeError::Control)?;

    let exporting = ExportThread::start(&startup.export, &startup.recording, journal.handle());
    let _exporting = exporting.map_err(ServeError::Export)?;

    let shared = Shared {
        published,
        revocations: revocations.published().clone(),
        keys,
        key_refresh,
        recorder: journal.handle().clone(),
        seats: Arc::new(seats),
        directory,
        ledger: Ledger::new(),
        approvals,
    };
    let ended = run_shards(shards, shared, || {
        ready(
            &listeners,
            &certificate_fingerprint,
            console_address.as_deref(),
            metrics_address.as_deref(),
            next_step.as_ref(),
        )?;
        control.shards_started();
        Ok(())
    });
    control.stop();
    // What ended is on record even where the trail is not writable any more.
    let stopped = trail.record(&Action::new(Actor::Appliance, Verb::Stopped, version));
    let flushed = journal.stop();
    if !archivist.stop() {
        tracing::warn!("not everything that was recorded is sealed; the next start goes on");
    }
    flushed?;
    ended.and_then(|()| Ok(stopped?))
}

/// Opens the console. One that nobody asked for is not worth a failed start.
fn console(wanted: ConsoleListener) -> Result<Option<HttpListener>, control::HttpListenError> {
    match wanted {
        ConsoleListener::Off => Ok(None),
        ConsoleListener::At(address) => HttpListener::bind(Service::Console, address).map(Some),
        ConsoleListener::ByDefault(address) => {
            let bound = HttpListener::bind(Service::Console, address);
            let bound = bound.inspect_err(|error| {
                tracing::warn!(
                    error = telemetry::chain(error),
                    "there is no console; `listen.console` says where else it may be, or `off`"
                );
            });
            Ok(bound.ok())
        }
    }
}

/// Runs the shards until they are drained.
///
/// A shard that cannot run takes the others with it, since its listeners answer nobody; sessions of
/// the others have the drain deadline.
fn run_shards(
    count: usize,
    shared: Shared,
    ready: impl FnOnce() -> std::io::Result<()>,
) -> Result<(), ServeError> {
    let (failures, failed) = mpsc::channel();
    let config = ShardsConfig {
        count: NonZero::new(count),
    };
    let running = runtime::start_shards(config, move |id: ShardId| {
        let (shared, failures) = (shared.clone(), failures.clone());
        async move {
            let Shared {
                published,
                directory,
                ..
            } = shared.clone();
            if let Err(error) = shard::run(id, shared).await {
                tracing::error!(shard = %id, error = telemetry::chain(&error), "a shard cannot run");
                // The receiver lives until every shard has ended.
                drop(failures.send(error));
                directory.drain(runtime::now() + published.load().drain_deadline);
            }
        }
    })?;
    ready().map_err(ServeError::Ready)?;
    running.join()?;
    match failed.try_recv() {
        Ok(error) => Err(ServeError::Shard(error)),
        Err(_) => Ok(()),
    }
}

/// The line that says that agents can connect, and where.
fn ready(
    listeners: &[String],
    fingerprint: &str,
    console: Option<&str>,
    metrics: Option<&str>,
    next_step: Option<&NextStep>,
) -> std::io::Result<()> {
    tracing::info!(certificate_sha256 = fingerprint, console, metrics, "ready");
    if let Some(step) = next_step {
        tracing::warn!("{step}");
    }
    let mut out = std::io::stdout().lock();
    let on = |what: &str, url: Option<&str>| {
        url.map_or_else(String::new, |url| format!("; {what} on {url}"))
    };
    let mut said = format!(
        "sallyport: ready; postgres on {}; certificate SHA-256 {fingerprint}{}{}\n",
        listeners.join(", "),
        on("console", console),
        on("metrics", metrics),
    );
    if let Some(step) = next_step {
        said.push_str(&format!("sallyport: {step}\n"));
    }
    // Whole: who reads only the first line may be gone before the second.
    out.write_all(said.as_bytes())?;
    out.flush()
}
