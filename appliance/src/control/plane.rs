//! The control plane's one task: it owns what changes, and everything reaches it as a message.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use runtime::{Published, Receiver};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use super::api::{Asked, IssuerStatus, NoToken, ReloadReport, Shared, Status, TokenAsker};
use super::clients::TokenClients;
use super::console::{self, Console};
use super::issuer::Card;
use super::issuers::Keeper;
use super::listener::{self, HttpListener};
use super::observe::Observer;
use super::rates::Rates;
use super::revocations::Revocations;
use super::server::Closing;
use super::socket::AdminSocket;
use super::supervision::{LastReload, Supervision};
use super::webhooks::{self, Heads};
use super::{api, probes, server, site, trail};
use crate::approvals::{Broker, Desk, Inbox, Panel};
use crate::archive::{Action, Actor, ArchivistHandle, Holds, Trail, Verb};
use crate::config::{self, Environment, Problem, Snapshot, Startup};
use crate::identity::remote::RefreshWanted;
use crate::identity::{BuiltinIssuer, KeyRefresh, MintedToken, RemoteKeys, TokenRequest};
use crate::recorder::JournalHandle;
use crate::shard::mailbox::Directory;
use crate::telemetry::chain;

/// Questions that may wait for the control plane; handlers beyond wait before they ask.
const QUESTIONS_MAX: usize = 64;

/// Between two attempts to tell shards whose mailboxes were full.
const TELL_AGAIN: Duration = Duration::from_millis(50);

/// How often shards with full mailboxes are told: for one second.
const TELL_ATTEMPTS: usize = 20;

/// How often revocations that are over are forgotten. They hold no longer in any case.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// How long answers that are on their way at the end may take.
const CLOSING_DEADLINE: Duration = Duration::from_secs(2);

/// What may follow the drain: goodbyes of sessions that were cut, the journal's last commit and the
/// archivist's last packs. The service manager waits for that much longer.
const STOPPED_AFTER_DRAIN: Duration = Duration::from_secs(30);

/// What the control plane starts with.
pub struct Plane {
    pub environment: Environment,
    pub startup: Startup,
    pub socket: AdminSocket,
    /// `listen.console`, bound.
    pub console: Option<HttpListener>,
    /// `listen.metrics`, bound.
    pub metrics: Option<HttpListener>,
    pub snapshot: Published<Snapshot>,
    /// Where the keys of remote issuers are published.
    pub keys: Published<RemoteKeys>,
    pub key_refresh: KeyRefresh,
    pub builtin_issuer: Option<Arc<BuiltinIssuer>>,
    pub certificate_fingerprint: String,
    /// As bound, with the ports that the kernel chose.
    pub listeners: Vec<String>,
    /// How the shards are reached.
    pub directory: Directory,
    /// The URL of `console`.
    pub console_address: Option<String>,
    /// The URL of `metrics`.
    pub metrics_address: Option<String>,
    pub recorder: JournalHandle,
    pub revocations: Arc<Revocations>,
    pub trail: Trail,
    /// Of the built-in issuer.
    pub clients: Arc<TokenClients>,
    pub holds: Holds,
    pub archivist: ArchivistHandle,
    /// For the webhooks; taken once.
    pub heads: Option<Heads>,
    pub supervision: Supervision,
}

impl Plane {
    /// A console that nobody configured is for whoever is on this machine, not for links.
    fn console_for_links(&self) -> Option<&str> {
        let is_written = self.startup.console.is_written();
        self.console_address.as_deref().filter(|_| is_written)
    }

    /// What approvals go by.
    fn panel(&self) -> Panel {
        Panel::of(
            &self.snapshot.load(),
            self.builtin_issuer.as_deref(),
            self.console_for_links(),
        )
    }
}

/// What shards ask the control plane.
pub struct FromShards {
    /// What is to be approved, and the desk that keeps it.
    pub approvals: (Desk, Inbox),
    /// Logins that met a key which their issuer had not published before.
    pub keys: Receiver<RefreshWanted>,
}

/// The running control thread.
pub struct ControlThread {
    started: Option<oneshot::Sender<()>>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl ControlThread {
    /// The shards were started: once they answer, the service manager hears that it is ready.
    pub fn shards_started(&mut self) {
        if let Some(started) = self.started.take() {
            // Nobody hears it where no service manager is to be told.
            let _ = started.send(());
        }
    }

    /// Ends it, and takes the admin socket away.
    pub fn stop(self) {
        // Fails when the thread has ended already.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the control thread panicked");
        }
    }
}

/// Starts the control thread.
///
/// # Errors
/// The thread or its runtime cannot be made.
pub fn start(plane: Plane, asked: FromShards) -> io::Result<ControlThread> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let signals = {
        let _guard = runtime.enter();
        Signals::listen()?
    };
    let listener = plane.socket.listener()?;
    // Before any shard runs: keys that an earlier run kept serve from the first login on.
    let keeper = Keeper::new(
        plane.keys.clone(),
        plane.startup.state.clone(),
        &plane.snapshot.load().authenticators,
    );
    let (started, starting) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let span = Span { starting, stopped };
    let thread = std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            runtime.block_on(serve(plane, asked, listener, keeper, signals, span));
        })?;
    Ok(ControlThread {
        started: Some(started),
        stop,
        thread,
    })
}

/// When the shards run, and when the control plane ends.
struct Span {
    starting: oneshot::Receiver<()>,
    stopped: oneshot::Receiver<()>,
}

/// Forgets revocations that are over.
async fn sweep(revocations: Arc<Revocations>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        let revocations = Arc::clone(&revocations);
        let now = runtime::unix_time().as_secs();
        match tokio::task::spawn_blocking(move || revocations.sweep(now)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => tracing::info!(count, "revocations that are over were forgotten"),
            Ok(Err(error)) => {
                tracing::warn!(
                    error = chain(&error),
                    "revocations that are over stay for now"
                );
            }
            // The runtime ends.
            Err(_) => return,
        }
    }
}

/// Serves until it is told to stop, and then lets answers that are on their way arrive.
async fn serve(
    mut plane: Plane,
    asked: FromShards,
    listener: UnixListener,
    keeper: Keeper,
    signals: Signals,
    span: Span,
) {
    let (asking, questions) = mpsc::channel(QUESTIONS_MAX);
    let (close, closing) = Closing::new();
    let console = match Console::new(plane.console_address.clone()) {
        Ok(console) => Arc::new(console),
        Err(error) => {
            tracing::error!(%error, "the control plane cannot start");
            return;
        }
    };
    let (desk, inbox) = asked.approvals;
    let broker = Broker::start(desk, inbox);
    let shared = Shared {
        asking,
        approvals: broker.clone(),
        snapshot: plane.snapshot.clone(),
        keys: plane.keys.clone(),
        key_refresh: plane.key_refresh.clone(),
        recorder: plane.recorder.clone(),
        observer: Observer {
            approvals: broker.clone(),
            revocations: plane.revocations.published().clone(),
            keys: plane.keys.clone(),
            directory: plane.directory.clone(),
            snapshot: plane.snapshot.clone(),
            recorder: plane.recorder.clone(),
            started: runtime::now(),
        },
        recording: Arc::new(plane.startup.recording.clone()),
        cookies: console.clone(),
        console,
        trail: plane.trail.clone(),
        holds: plane.holds.clone(),
        archivist: plane.archivist.clone(),
        revocations: Arc::clone(&plane.revocations),
        directory: plane.directory.clone(),
        clients: Arc::clone(&plane.clients),
        rates: Arc::new(Rates::new()),
    };
    let (last_reload, reloaded) = watch::channel(None);
    let supervision = plane.supervision.clone();
    let (observer, recording) = (shared.observer.clone(), Arc::clone(&shared.recording));
    tokio::spawn(supervision.attend(observer, recording, span.starting, reloaded));
    tokio::spawn(console::attend(shared.clone()));
    tokio::spawn(webhooks::attend(
        broker.follow(),
        plane.heads.take(),
        plane.snapshot.clone(),
    ));
    if let Some(console) = plane.console.take() {
        let router = api::router(site::pages(), site::open(), shared.clone());
        let (snapshot, closing) = (plane.snapshot.clone(), closing.clone());
        tokio::spawn(listener::serve(console, router, snapshot, closing));
    }
    if let Some(metrics) = plane.metrics.take() {
        let router = probes::router(shared.observer.clone());
        let (snapshot, closing) = (plane.snapshot.clone(), closing.clone());
        tokio::spawn(listener::serve(metrics, router, snapshot, closing));
    }
    let router = api::router(Router::new(), Router::new(), shared);
    tokio::spawn(async move {
        if let Err(error) = server::serve(listener, router, closing).await {
            tracing::error!(%error, "the admin socket is not served");
        }
    });
    tokio::spawn(sweep(Arc::clone(&plane.revocations)));
    tokio::spawn(keeper.run(plane.snapshot.clone(), asked.keys));
    tokio::select! {
        () = Running::new(plane, broker, last_reload).run(questions, signals) => {}
        // An error says that nobody is left to stop it: the process ends.
        _ = span.stopped => {}
    }
    // Nobody hears it when there is no connection.
    let _ = close.send(true);
    // Each connection holds a receiver until it has ended.
    let _ = tokio::time::timeout(CLOSING_DEADLINE, close.closed()).await;
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

struct Running {
    plane: Plane,
    approvals: Broker,
    last_reload: watch::Sender<LastReload>,
    started: u64,
    draining: bool,
}

impl Running {
    fn new(plane: Plane, approvals: Broker, last_reload: watch::Sender<LastReload>) -> Self {
        Self {
            plane,
            approvals,
            last_reload,
            started: runtime::unix_time().as_secs(),
            draining: false,
        }
    }

    async fn run(mut self, mut questions: mpsc::Receiver<Asked>, mut signals: Signals) {
        loop {
            tokio::select! {
                question = questions.recv() => match question {
                    Some(question) => self.answer(question).await,
                    None => return,
                },
                _ = signals.hangup.recv() => {
                    // What came of it is in the log already.
                    let _ = self.reload(Actor::Appliance).await;
                }
                _ = signals.terminate.recv() => self.drain().await,
                _ = signals.interrupt.recv() => self.drain().await,
            }
        }
    }

    /// Answers. An answer that nobody waits for any more is dropped.
    async fn answer(&mut self, question: Asked) {
        match question {
            Asked::Token { wanted, by, reply } => {
                drop(reply.send(self.make_token(&wanted, &by).await));
            }
            Asked::MayMint {
                agent,
                groups,
                reply,
            } => drop(reply.send(self.may_mint(&agent, &groups).map(drop))),
            Asked::Issuer { reply } => drop(reply.send(self.issuer())),
            Asked::Reload { by, reply } => drop(reply.send(self.reload(by).await)),
            Asked::Status { reply } => drop(reply.send(self.status())),
        }
    }

    /// The issuer, if tokens with this agent and these groups are made at all.
    fn may_mint(&self, agent: &str, groups: &[String]) -> Result<&BuiltinIssuer, NoToken> {
        let issuer = self.plane.builtin_issuer.as_deref();
        let issuer = issuer.ok_or(NoToken::SwitchedOff)?;
        let snapshot = self.plane.snapshot.load();
        if let Some(group) = issuer.role_group(groups, &snapshot.roles) {
            return Err(NoToken::GroupWithRole { group });
        }
        BuiltinIssuer::check_names(agent, groups)?;
        Ok(issuer)
    }

    async fn make_token(
        &self,
        wanted: &TokenRequest,
        by: &TokenAsker,
    ) -> Result<MintedToken, NoToken> {
        let issuer = self.may_mint(&wanted.agent, &wanted.groups)?;
        let made = issuer.mint(wanted, runtime::unix_time().as_secs())?;
        let (actor, client) = match by {
            TokenAsker::Operator { uid } => (Actor::Operator { uid: *uid }, None),
            TokenAsker::Client { id } => (Actor::Appliance, Some(id.as_str())),
        };
        let mut issued = Action::new(actor, Verb::TokenIssued, &made.id)
            .with("agent", &wanted.agent)
            .with("groups", wanted.groups.join(","))
            .with("expires", made.expires.to_string());
        if let Some(client) = client {
            issued = issued.with("client", client);
        }
        trail::record(&self.plane.trail, issued).await?;
        tracing::info!(
            token_id = made.id,
            agent = wanted.agent,
            groups = wanted.groups.join(","),
            expires = made.expires,
            ?by,
            "a token was issued"
        );
        Ok(made)
    }

    /// What the built-in issuer says of itself, if it is there.
    fn issuer(&self) -> Option<Card> {
        let issuer = self.plane.builtin_issuer.as_ref()?;
        Some(Card {
            iss: issuer.iss().to_owned(),
            jwks: issuer.jwks(),
            lifetime_max: issuer.lifetime_max(),
        })
    }

    /// Reloads, and has the service manager know.
    async fn reload(&mut self, by: Actor) -> Result<ReloadReport, Vec<String>> {
        self.plane.supervision.notifier.reloading();
        let reloaded = self.reload_by(by).await;
        let refused = reloaded.as_ref().err().map(|problems| {
            let first = problems.first().cloned().unwrap_or_default();
            match problems.len() {
                0 | 1 => first,
                count => format!("{first} ({count} problems)"),
            }
        });
        // Also where nothing has changed: it says that the reload is over.
        self.last_reload.send_replace(refused);
        reloaded
    }

    /// Reads the configuration again, and publishes it if all of it is right.
    async fn reload_by(&mut self, by: Actor) -> Result<ReloadReport, Vec<String>> {
        let environment = self.plane.environment.clone();
        let startup = self.plane.startup.clone();
        let generation = self.plane.snapshot.load().generation + 1;
        let loading =
            tokio::task::spawn_blocking(move || config::reload(&environment, startup, generation));
        let loaded = match loading.await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(problems)) => return Err(report(&problems)),
            Err(_) => return Err(vec!["reading the configuration panicked".to_owned()]),
        };
        let warnings: Vec<String> = loaded.warnings.iter().map(Problem::to_string).collect();
        for warning in &warnings {
            tracing::warn!(warning, "configuration");
        }
        let reloaded = Action::new(by, Verb::Reloaded, generation.to_string());
        if let Err(error) = trail::record(&self.plane.trail, reloaded).await {
            return Err(vec![format!("it cannot be recorded: {}", chain(&error))]);
        }
        self.plane.builtin_issuer = loaded.builtin_issuer;
        self.plane.certificate_fingerprint = loaded.certificate_fingerprint;
        self.plane.snapshot.publish(Arc::new(loaded.snapshot));
        self.approvals.reconfigure(self.plane.panel()).await;
        tracing::info!(generation, "a new configuration is in force");
        Ok(ReloadReport {
            generation,
            warnings,
        })
    }

    /// Tells every shard to stop. Told again, the process ends at once: what is recorded stays in
    /// the rings, as it does when it is killed.
    async fn drain(&mut self) {
        if self.draining {
            tracing::warn!("told to stop a second time; ending at once");
            std::process::exit(1);
        }
        self.draining = true;
        let wait = self.plane.snapshot.load().drain_deadline;
        tracing::info!(
            seconds = wait.as_secs(),
            "stopping; running statements may end"
        );
        let notifier = &self.plane.supervision.notifier;
        notifier.stopping(wait + STOPPED_AFTER_DRAIN, "stopping");
        let deadline = runtime::now() + wait;
        for _ in 0..TELL_ATTEMPTS {
            if self.plane.directory.drain(deadline) == 0 {
                return;
            }
            tokio::time::sleep(TELL_AGAIN).await;
        }
        tracing::error!("a shard could not be told to stop");
    }

    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started,
            generation: self.plane.snapshot.load().generation,
            shards: self.plane.directory.shards(),
            listeners: self.plane.listeners.clone(),
            console: self.plane.console_address.clone(),
            metrics: self.plane.metrics_address.clone(),
            state_directory: self.plane.startup.state.path().to_owned(),
            certificate_fingerprint: self.plane.certificate_fingerprint.clone(),
            draining: self.draining,
            issuers: self.issuers(),
            next_step: None,
        }
    }

    fn issuers(&self) -> Vec<IssuerStatus> {
        let now = runtime::unix_time().as_secs();
        let keys = self.plane.keys.load();
        keys.sources
            .iter()
            .map(|known| IssuerStatus {
                name: known.name.clone(),
                accepted: known.keys.is_some(),
                keys_age_seconds: known.age(now).map(|age| age.as_secs()),
                trouble: known.trouble.clone(),
            })
            .collect()
    }
}

fn report(problems: &[Problem]) -> Vec<String> {
    let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
    for problem in &problems {
        tracing::error!(problem, "the configuration was not taken");
    }
    problems
}
