//! The configuration as the program uses it.
//!
//! Nothing here is a text that could have been a type, and nothing here changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::{Keepalive, ListenAddress, SocketFile};
use rustls::ServerConfig;

use super::console_url::ConsoleUrl;
use super::mask_key::MaskKey;
use super::secret::Secret;
use super::state::StateDirectory;
use super::webhook::WebhookSettings;
use crate::archive::{ArchiveKeys, ArchiveSettings};
use crate::control::{ExportSettings, Roles};
use crate::downstream::proxies::TrustedProxies;
use crate::identity::{Authenticators, BuiltinIssuer, ClientCertificates, SessionLifetime};
use crate::recorder::RecordingSettings;
use crate::relay::SilenceLimits;
use crate::upstream::TargetSettings;

/// What the shards serve by. Per process; a reload publishes another one.
pub struct Snapshot {
    /// Differs from that of every other snapshot of this process, and grows.
    pub generation: u64,
    /// When it was found right.
    pub in_force_since: Instant,
    pub limits: Limits,
    pub tls: Arc<ServerConfig>,
    /// Where client certificates are the proof.
    pub client_certificates: Option<ClientAuthentication>,
    /// The same certificate for `listen.console`.
    pub console_tls: Arc<ServerConfig>,
    /// Where people reach the console, if the operator said so.
    pub console_url: Option<ConsoleUrl>,
    /// How people sign in to the console, if not by links alone.
    pub console_login: Option<ConsoleLogin>,
    pub authenticators: Authenticators,
    pub targets: Targets,
    pub policy: Arc<policy::Policy>,
    pub session: SessionSettings,
    /// Who may do what with the appliance itself.
    pub roles: Roles,
    /// Of masks with `hash`.
    pub mask_key: MaskKey,
    /// As at start: listeners change with a restart only.
    pub listeners: Vec<ListenerSettings>,
    pub approvals: ApprovalSettings,
    pub webhooks: Vec<Arc<WebhookSettings>>,
    /// From the order to stop until the last connection is closed.
    pub drain_deadline: Duration,
}

impl Snapshot {
    /// How handshakes go at a listener with that proof.
    pub(crate) fn tls_for(&self, proof: ListenerProof) -> &Arc<ServerConfig> {
        match (proof, &self.client_certificates) {
            (ListenerProof::Certificate, Some(clients)) => &clients.tls,
            // Nobody is asked for a certificate then, and so nobody proves anything.
            (ListenerProof::Certificate, None)
            | (ListenerProof::Password | ListenerProof::OauthBearer, _) => &self.tls,
        }
    }
}

/// The console as a client of an issuer. No `Debug`: it holds a secret.
#[derive(Clone)]
pub struct ConsoleLogin {
    /// The operator's name for the issuer.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Option<Secret>,
    /// With `openid`.
    pub scopes: Vec<String>,
}

/// Bounds on peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What a connection's codecs go by.
    pub wire: codecs::limits::Limits,
    /// Connections of one shard whose peer has proven nothing yet.
    pub unauthenticated: usize,
    /// The same, for one peer address.
    pub unauthenticated_per_address: usize,
    /// Sessions of one shard.
    pub sessions: usize,
    /// From accept until the peer has proven who it is.
    pub login_deadline: Duration,
    /// How long bytes may wait for a peer that reads none.
    pub write_deadline: Duration,
    /// How a peer that is gone without a word is noticed.
    pub keepalive: Keepalive,
}

/// How long sessions last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSettings {
    pub lifetime: SessionLifetime,
    pub(crate) silence: SilenceLimits,
    /// The longest that a statement may run.
    pub statement_timeout: Option<Duration>,
}

/// How sessions wait for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApprovalSettings {
    /// Longest wait while a transaction is open.
    pub in_transaction: Duration,
    /// Between two notices that it still waits.
    pub notice_interval: Duration,
    pub limits: policy::approval::Limits,
    /// How long what is over is kept.
    pub kept: Duration,
}

/// One place where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    pub address: ListenAddress,
    pub proof: ListenerProof,
    /// Who says for whom it connects, and has to.
    pub proxy_protocol: TrustedProxies,
    /// What its file is like, for a Unix socket.
    pub file: SocketFile,
}

/// How client certificates are asked for, and read.
#[derive(Clone)]
pub struct ClientAuthentication {
    pub tls: Arc<ServerConfig>,
    pub certificates: ClientCertificates,
}

/// How clients of a listener prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerProof {
    /// A token as cleartext password.
    Password,
    /// SASL OAUTHBEARER.
    OauthBearer,
    /// A client certificate.
    Certificate,
}

/// The configured destinations.
#[derive(Default)]
pub struct Targets {
    by_name: BTreeMap<String, Arc<TargetSettings>>,
    /// Those with patterns, in the order in which they are written.
    with_patterns: Vec<Arc<TargetSettings>>,
}

/// Where an agent is let to: a target, and one of its databases.
#[derive(Clone)]
pub struct Destination {
    pub target: Arc<TargetSettings>,
    /// The name at the server.
    pub database: String,
    /// As policy and recordings name it.
    pub sought: policy::Target,
}

impl Targets {
    /// Those of one configuration; a later one of the same name replaces the earlier.
    pub fn new(targets: impl IntoIterator<Item = TargetSettings>) -> Self {
        let mut found = Self::default();
        for target in targets.into_iter().map(Arc::new) {
            if !target.databases.patterns.is_empty() {
                found.with_patterns.push(Arc::clone(&target));
            }
            found.by_name.insert(target.name.clone(), target);
        }
        found
    }

    /// What an agent means that asks for the database `asked`: the target of exactly that name,
    /// else the first with a pattern that matches.
    pub fn find(&self, asked: &str) -> Option<Destination> {
        if let Some(target) = self.by_name.get(asked)
            && let Some(database) = &target.databases.own
        {
            return Some(Destination {
                target: Arc::clone(target),
                database: database.clone(),
                sought: policy::Target::named(&target.name),
            });
        }
        let mut targets = self.with_patterns.iter();
        let target = targets.find(|target| target.databases.matches(asked))?;
        Some(Destination {
            target: Arc::clone(target),
            database: asked.to_owned(),
            sought: policy::Target::named(&target.name).database(asked),
        })
    }

    /// Whether what a session was let in to is still there.
    pub fn contains(&self, sought: &policy::Target) -> bool {
        let target = self.by_name.get(&sought.name);
        target.is_some_and(|target| match &sought.database {
            None => target.databases.own.is_some(),
            Some(database) => target.databases.matches(database),
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TargetSettings>> {
        self.by_name.values()
    }
}

/// What a process fixes when it starts.
#[derive(Debug, Clone)]
pub struct Startup {
    /// `None`: one for each allowed CPU.
    pub shards: Option<NonZero<usize>>,
    pub admin_socket: PathBuf,
    pub console: ConsoleListener,
    /// `listen.metrics`.
    pub metrics: Option<SocketAddr>,
    pub runtime_directory: PathBuf,
    pub state: StateDirectory,
    pub listeners: Vec<ListenerSettings>,
    pub recording: RecordingSettings,
    pub archive: ArchiveSettings,
    pub export: ExportSettings,
    pub log: LogSettings,
}

/// `listen.console`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleListener {
    Off,
    /// Nobody wrote where: when the address is taken the appliance does without.
    ByDefault(SocketAddr),
    At(SocketAddr),
}

impl ConsoleListener {
    /// Whether the operator wrote where it is, and so knows how people reach it.
    pub(crate) fn is_written(self) -> bool {
        match self {
            Self::At(_) => true,
            Self::Off | Self::ByDefault(_) => false,
        }
    }
}

/// How the process logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    pub format: LogFormat,
    pub level: tracing::Level,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// A configuration that was found right, whole.
pub struct Loaded {
    pub snapshot: Snapshot,
    pub startup: Startup,
    /// Makes tokens; the control plane's alone.
    pub builtin_issuer: Option<Arc<BuiltinIssuer>>,
    /// Sign heads of the archive. Used at start; a reload changes nothing about them.
    pub archive_keys: Arc<ArchiveKeys>,
    /// SHA-256 of the certificate that clients see.
    pub certificate_fingerprint: String,
    /// Mistakes that do not keep it from being used.
    pub warnings: Vec<super::Problem>,
}
