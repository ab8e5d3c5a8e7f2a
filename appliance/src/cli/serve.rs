//! `sallyport serve`: from a configuration to running shards, and back down in order.

use std::io::Write;
use std::sync::Arc;

use clap::Args;
use runtime::{Published, ShardId, ShardsConfig};

use super::{Failure, warn};
use crate::config::{self, Environment, Writing};
use crate::control::{self, AdminSocket, Plane};
use crate::recorder::JournalThread;
use crate::shard::{self, mailbox::Seats};
use crate::telemetry;

#[derive(Debug, Args)]
pub(super) struct Serve {}

/// Why the appliance did not start, or stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("the log cannot be set up")]
    Log(#[from] telemetry::AlreadyInstalled),
    #[error("the admin socket cannot be opened")]
    Admin(#[from] control::AdminSocketError),
    #[error("the recording cannot be opened")]
    Journal(#[from] crate::recorder::StartError),
    #[error(transparent)]
    Bind(#[from] shard::mailbox::BindError),
    #[error("the control thread cannot be started")]
    Control(#[source] std::io::Error),
    #[error("the shards cannot be started")]
    Shards(#[from] runtime::StartError),
    #[error("the number of CPUs cannot be had")]
    Affinity(#[source] std::io::Error),
    #[error("a shard died")]
    Died(#[from] runtime::ShardDied),
    #[error("what was recorded last is not on the disk yet; the next start recovers it")]
    Flush(#[from] crate::recorder::FlushError),
    #[error("cannot say that it is ready")]
    Ready(#[source] std::io::Error),
}

impl Serve {
    pub(super) fn run(self, environment: Environment) -> Result<(), Failure> {
        let loaded = config::load(&environment, Writing::Create, 1)?;
        for warning in &loaded.warnings {
            warn(&warning.to_string());
        }
        Ok(serve(environment, loaded)?)
    }
}

fn serve(environment: Environment, loaded: config::Loaded) -> Result<(), ServeError> {
    let config::Loaded {
        snapshot,
        startup,
        builtin_issuer,
        certificate_fingerprint,
        ..
    } = loaded;
    telemetry::init(startup.log)?;
    let socket = AdminSocket::bind(&startup.admin_socket)?;

    // What a run before left behind is safe on disk before anything new is accepted.
    let journal = JournalThread::start(startup.recording.clone())?;
    let recovered = journal.recovered();
    if recovered.records > 0 || recovered.damaged_bytes > 0 {
        tracing::warn!(
            records = recovered.records,
            damaged_bytes = recovered.damaged_bytes,
            "recovered what the last run had not written"
        );
    }

    let shards = match startup.shards {
        Some(shards) => shards.get(),
        None => runtime::allowed_cpus().map_err(ServeError::Affinity)?.len(),
    };
    let (seats, directory) = Seats::prepare(shards, &startup.listeners)?;
    let listeners: Vec<String> = seats.addresses().iter().map(ToString::to_string).collect();
    let published = Published::new(Arc::new(snapshot));
    let drain = {
        let directory = directory.clone();
        Box::new(move |deadline| directory.drain(deadline))
    };
    let control = control::start(Plane {
        environment,
        startup: startup.clone(),
        socket,
        snapshot: published.clone(),
        builtin_issuer,
        certificate_fingerprint: certificate_fingerprint.clone(),
        listeners: listeners.clone(),
        shards,
        drain,
        recorder: journal.handle().clone(),
    })
    .map_err(ServeError::Control)?;

    let shared = shard::Environment {
        published,
        recorder: journal.handle().clone(),
        seats: Arc::new(seats),
        directory,
    };
    let config = ShardsConfig {
        count: std::num::NonZero::new(shards),
    };
    let running = runtime::start_shards(config, move |id| run_shard(id, shared.clone()))?;
    ready(&listeners, &certificate_fingerprint).map_err(ServeError::Ready)?;

    let ended = running.join();
    control.stop();
    journal.stop()?;
    Ok(ended?)
}

/// Runs a shard. One that can not start takes the process with it: its listeners would answer nobody.
async fn run_shard(id: ShardId, environment: shard::Environment) {
    if let Err(error) = shard::run(id, environment).await {
        tracing::error!(shard = %id, error = telemetry::chain(&error), "a shard cannot run");
        std::process::exit(1);
    }
}

/// The line that says that agents can connect, and where.
fn ready(listeners: &[String], fingerprint: &str) -> std::io::Result<()> {
    tracing::info!(certificate_sha256 = fingerprint, "ready");
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "sallyport: ready; postgres on {}; certificate SHA-256 {fingerprint}",
        listeners.join(", ")
    )?;
    out.flush()
}
