//! The life of a connection, from accept to close.
//!
//! Every step yields the value that the next one requires, so no step can be
//! skipped: no `Proven` without a token that verified, no `Permit` without
//! policy, no upstream without a recording that is open.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::sql::postgres::{ProfileLimits, profile};
use policy::{Decision, Occasion, Operation, Permit, SearchPath, SessionContext};
use runtime::Stream;

use crate::budgets::Budgets;
use crate::config::{Destination, ListenerProof, ListenerSettings, Snapshot};
use crate::downstream::origin::{self, Origin};
use crate::downstream::proxies;
use crate::identity::remote::NEWER_KEYS;
use crate::identity::{self, CERTIFICATE_ISSUER, Claim, ProofFailure, Proven};
use crate::protocols::postgres::exchange::{Exchange, Opened};
use crate::protocols::postgres::greet::{self, GreetError, Greeting, Opening, TokenProof};
use crate::protocols::postgres::refuse::LoginRefusal;
use crate::protocols::postgres::settings::{WishRefused, Wishes};
use crate::recorder::{EndReason, PrincipalNote, Recorder, RefusedLogin, SessionStart};
use crate::relay::inbound::Inbound;
use crate::relay::{End, Relay};
use crate::shard::Shard;
use crate::shard::entrance::{Place, Source};
use crate::shard::gate::Arriving;
use crate::shard::sessions::About;
use crate::shard::turnstile::Step;
use crate::telemetry::metrics::Phase;
use crate::upstream::{Attribution, Lease, LeaseRequest, Outcome, SessionSettings, Watch};

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Closed {
    /// It carried a `CancelRequest`.
    Cancel,
    /// The peer left before it asked for anything.
    Left,
    /// It was turned away with words for the agent.
    Refused(LoginRefusal),
    Session(End),
}

/// Why a login came to nothing.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The peer is told why, as far as that is its business.
    Refused(LoginRefusal),
    /// The peer broke the protocol, was too slow or left: nobody is there to be told.
    Failed(GreetError),
}

/// Who got as far as where; what the record of a refused login says.
#[derive(Default)]
struct Progress {
    target: Option<String>,
    user: Option<String>,
    application: Option<String>,
    principal: Option<PrincipalNote>,
    /// A session was opened, and its own recording says how it ended.
    recorded: bool,
}

/// A connection of which it is known where it comes from.
pub(crate) struct Arrival {
    snapshot: Arc<Snapshot>,
    origin: Origin,
    socket: Stream,
    inbound: Inbound,
    place: Place,
    /// Until its session has begun.
    arriving: Arriving,
    arrived: Instant,
    /// For all that comes before the session.
    deadline: Instant,
}

impl Arrival {
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }
}

/// Finds out where a connection comes from; `None` when the peer leaves before it says.
///
/// # Errors
/// `GreetError` when a load balancer does not say for whom it connects, or when too many connect
/// from there.
pub(crate) async fn arrive(
    shard: &Shard,
    listener: &ListenerSettings,
    mut socket: Stream,
    mut place: Place,
    arriving: Arriving,
) -> Result<Option<Arrival>, GreetError> {
    let snapshot = shard.snapshot();
    let arrived = runtime::now();
    let deadline = arrived + snapshot.limits.login_deadline;
    let mut inbound = Inbound::default();
    let found = origin::find(
        &mut socket,
        &mut inbound,
        &listener.proxy_protocol,
        &snapshot.limits.wire,
        deadline,
    );
    let Some(origin) = found.await? else {
        return Ok(None);
    };
    place.belongs_to(origin.client(), snapshot.limits.unauthenticated_per_address)?;
    Ok(Some(Arrival {
        snapshot,
        origin,
        socket,
        inbound,
        place,
        arriving,
        arrived,
        deadline,
    }))
}

/// Carries one connection from its arrival to its close.
///
/// # Errors
/// `GreetError` when the peer broke the protocol, was silent or vanished before its session.
pub(crate) async fn serve(
    shard: &Rc<Shard>,
    proof: ListenerProof,
    arrival: Arrival,
) -> Result<Closed, GreetError> {
    // In a box of its own: what only a login needs takes several times the memory of a session,
    // and is given back before the session begins.
    match Box::pin(enter(shard, proof, arrival)).await? {
        Entered::Session(relay) => Ok(Closed::Session(relay.run(shard).await)),
        Entered::Closed(closed) => Ok(closed),
    }
}

/// What became of a login.
enum Entered {
    Session(Box<Relay>),
    Closed(Closed),
}

async fn enter(
    shard: &Rc<Shard>,
    proof: ListenerProof,
    arrival: Arrival,
) -> Result<Entered, GreetError> {
    let Arrival {
        snapshot,
        origin,
        socket,
        inbound,
        place,
        // A drain waits for it as long as this function does.
        arriving: _arriving,
        arrived,
        deadline,
    } = arrival;
    let opening = greet::open(
        socket,
        inbound,
        origin,
        &snapshot,
        proof,
        shard.turnstile(),
        deadline,
    )
    .await?;
    let (mut greeting, wishes) = match opening {
        Opening::Session(greeting, wishes) => (greeting, wishes),
        Opening::Left => return Ok(Entered::Closed(Closed::Left)),
        Opening::Cancel(key, transport) => {
            shard.route_cancel(key, deadline).await;
            greet::close(transport, deadline).await;
            return Ok(Entered::Closed(Closed::Cancel));
        }
    };
    let mut progress = Progress::default();
    match login(
        shard,
        snapshot,
        proof,
        &mut greeting,
        wishes,
        place,
        deadline,
        &mut progress,
    )
    .await
    {
        Ok(session) => {
            let took = runtime::now().saturating_duration_since(arrived);
            shard.metrics().took(Phase::Login, took);
            session.begin(shard, *greeting).await
        }
        Err(Ended::Failed(error)) => Err(error),
        Err(Ended::Refused(refusal)) => {
            if !progress.recorded {
                record_refusal(shard, &greeting, progress, &refusal);
            }
            greeting.refuse(&refusal, deadline).await;
            Ok(Entered::Closed(Closed::Refused(refusal)))
        }
    }
}

/// A login that succeeded: everything its session needs.
struct Session {
    snapshot: Arc<Snapshot>,
    proven: Proven,
    permit: Permit,
    budgets: Budgets,
    attribution: Attribution,
    recorder: Recorder,
    lease: Lease,
    catalogue: Watch,
    sought: policy::Target,
    occasion: Occasion,
    login_unix: u64,
}

/// The gate: claim, proof, admission, recording, upstream, in this order.
#[expect(
    clippy::too_many_arguments,
    reason = "each is one fact of the connection"
)]
async fn login(
    shard: &Rc<Shard>,
    snapshot: Arc<Snapshot>,
    proof: ListenerProof,
    greeting: &mut Greeting,
    wishes: Result<Wishes, WishRefused>,
    place: Place,
    deadline: Instant,
    progress: &mut Progress,
) -> Result<Session, Ended> {
    let wishes = wishes?;
    progress.target = Some(wishes.database.clone());
    progress.user = Some(wishes.user.clone());
    progress.application.clone_from(&wishes.application);

    let proven = match proof {
        ListenerProof::Password => {
            prove_token(shard, &snapshot, TokenProof::Password, greeting, deadline).await?
        }
        ListenerProof::OauthBearer => {
            prove_token(
                shard,
                &snapshot,
                TokenProof::OauthBearer,
                greeting,
                deadline,
            )
            .await?
        }
        ListenerProof::Certificate => prove_certificate(&snapshot, greeting)?,
    };
    let login_unix = runtime::unix_time().as_secs();
    drop(place);
    progress.principal = Some(principal_note(&proven));
    let revocations = shard.revocations();
    if let Some(revocation) = revocations.find_principal(proven.principal(), login_unix) {
        return Err(LoginRefusal::Revoked(Arc::clone(revocation)).into());
    }

    let Destination {
        target,
        database,
        sought,
    } = snapshot
        .targets
        .find(&wishes.database)
        .ok_or(LoginRefusal::NoTarget)?;
    let occasion = Occasion {
        client: greeting.origin().known_client().map(proxies::client),
        unix_time: login_unix,
    };
    let admitted = snapshot.policy.admit(proven.principal(), &sought, occasion);
    let permit = admitted.map_err(LoginRefusal::NotAdmitted)?;
    if let Some(revocation) = revocations.find_target(&sought, login_unix) {
        return Err(LoginRefusal::Revoked(Arc::clone(revocation)).into());
    }
    drop(revocations);
    let budgets = Budgets::open(
        shard.ledger(),
        &snapshot.policy,
        &permit,
        proven.principal(),
        login_unix,
    );
    let budgets = budgets.map_err(LoginRefusal::OverBudget)?;
    let settings = allowed_settings(&snapshot, &permit, &wishes)?;

    let principal = proven.principal();
    let attribution = Attribution::new(
        issuer_name(&snapshot, &principal.issuer),
        &principal.subject,
        wishes.application.as_deref(),
        permit.read_only(),
    )
    .and_then(|attribution| {
        attribution.through(principal.delegation.iter().map(|actor| {
            let issuer = issuer_name(&snapshot, &actor.issuer);
            (issuer, actor.subject.as_str())
        }))
    })
    .map_err(LoginRefusal::NotAttributable)?;

    let recorder = Recorder::open(
        shard.journal(),
        &SessionStart {
            principal: principal_note(&proven),
            target: sought.to_string(),
            protocol: "postgres".to_owned(),
            user: Some(wishes.user),
            application: wishes.application,
            peer: greeting.origin().client().to_string(),
            shard: shard.id().0,
            read_only: permit.read_only(),
            policy: snapshot.policy.version().number(),
        },
    )
    .map_err(LoginRefusal::NotRecorded)?;
    progress.recorded = true;

    let leasing = runtime::now();
    let account = target.account_for(permit.read_only(), &principal.groups);
    let request = LeaseRequest {
        target: &target,
        account,
        database: &database,
        settings: &settings,
        attribution: &attribution,
        deadline: runtime::now() + (target.pool.queue_deadline + target.pool.connect_deadline),
    };
    let lease = match shard.pools().lease(&request).await {
        Ok(lease) => lease,
        Err(error) => {
            recorder.end(EndReason::UpstreamUnavailable);
            let refusal = match sought.database {
                Some(_) if error.is_missing_database() => LoginRefusal::NoDatabase,
                Some(_) | None => LoginRefusal::NoUpstream(error),
            };
            return Err(refusal.into());
        }
    };
    shard.metrics().took(
        Phase::Lease,
        runtime::now().saturating_duration_since(leasing),
    );
    let catalogue = shard.pools().watch(&lease, &target);
    Ok(Session {
        snapshot,
        proven,
        permit,
        budgets,
        attribution,
        recorder,
        lease,
        catalogue,
        sought,
        occasion,
        login_unix,
    })
}

/// Proves a claim by the keys in force now, when it is this peer's turn.
async fn prove_token(
    shard: &Rc<Shard>,
    snapshot: &Snapshot,
    proof: TokenProof,
    greeting: &mut Greeting,
    deadline: Instant,
) -> Result<Proven, Ended> {
    let discovery = snapshot.authenticators.discovery();
    let token = greeting.ask(proof, discovery, deadline).await?;
    let claim = match proof {
        TokenProof::Password => Claim::Password(&token),
        TokenProof::OauthBearer => Claim::OauthBearer(&token),
    };
    let proving = runtime::now();
    let source = Source::of(greeting.origin().client());
    let mut proven = prove(shard, snapshot, claim, source, deadline).await?;
    if let Err(failure) = &proven
        && let Some(issuer) = failure.newer_keys_of()
    {
        // Half of what is left, so that there is time to say no.
        let now = runtime::now();
        let patience = NEWER_KEYS.min(deadline.saturating_duration_since(now) / 2);
        shard.seek_newer_keys(issuer, now + patience).await;
        proven = prove(shard, snapshot, claim, source, deadline).await?;
    }
    let proven = proven.map_err(LoginRefusal::NotProven)?;
    shard.metrics().took(
        Phase::Proof,
        runtime::now().saturating_duration_since(proving),
    );
    Ok(proven)
}

/// The certificate was verified by the handshake; here is read whom it names.
fn prove_certificate(snapshot: &Snapshot, greeting: &Greeting) -> Result<Proven, LoginRefusal> {
    let certificate = greeting.certificate()?;
    // Without settings nobody was asked for one.
    let clients = snapshot.client_certificates.as_ref();
    let clients = clients.ok_or(LoginRefusal::NoCertificate)?;
    let now = runtime::unix_time().as_secs();
    if certificate.is_none() {
        return Err(LoginRefusal::NoCertificate);
    }
    identity::prove_certificate(&clients.certificates, certificate, now)
        .map_err(LoginRefusal::BadCertificate)
}

async fn prove(
    shard: &Rc<Shard>,
    snapshot: &Snapshot,
    claim: Claim<'_>,
    source: Source,
    deadline: Instant,
) -> Result<Result<Proven, ProofFailure>, GreetError> {
    let turn = runtime::with_deadline(deadline, shard.turnstile().pass(source, Step::Proof)).await;
    let _turn = turn.map_err(|_| GreetError::TooSlow)?;
    Ok(identity::prove(
        &snapshot.authenticators,
        &shard.remote_keys(),
        shard.tokens(),
        claim,
        runtime::unix_time().as_secs(),
    ))
}

impl Session {
    /// Welcomes the agent.
    async fn begin(self, shard: &Rc<Shard>, greeting: Greeting) -> Result<Entered, GreetError> {
        let Self {
            snapshot,
            proven,
            permit,
            budgets,
            attribution,
            recorder,
            lease,
            catalogue,
            sought,
            occasion,
            login_unix,
        } = self;
        let secret = shard.session_secret(greeting.secret_bytes())?;
        let reserved = shard.random_name()?;
        // A server without cancel names no process; its clients are told 0.
        let process_id = lease.process_id().unwrap_or(0);
        let registration = shard.register(
            recorder.session(),
            process_id,
            secret.clone(),
            lease.cancel_handle(),
            About {
                principal: proven.shared(),
                target: sought.clone(),
                since: login_unix,
            },
        );
        let Some(registration) = registration else {
            recorder.end(EndReason::UpstreamUnavailable);
            lease.finish(Outcome::Clean);
            let deadline = runtime::now() + snapshot.limits.login_deadline;
            greeting.refuse(&LoginRefusal::ShardFull, deadline).await;
            return Ok(Entered::Closed(Closed::Session(End::Drained)));
        };
        if let Some(revocation) = shard.revoked_meanwhile(&registration.session) {
            recorder.end(EndReason::Revoked);
            lease.finish(Outcome::Clean);
            let deadline = runtime::now() + snapshot.limits.login_deadline;
            let refusal = LoginRefusal::Revoked(revocation);
            greeting.refuse(&refusal, deadline).await;
            return Ok(Entered::Closed(Closed::Refused(refusal)));
        }
        shard.metrics().session_begun();
        tracing::info!(
            session = %recorder.session(),
            issuer = proven.principal().issuer,
            subject = proven.principal().subject,
            target = %sought,
            "session opened",
        );
        let parameters = lease.parameters().iter();
        let (agent, inbound, frontend) = greeting.welcome(parameters, process_id, &secret)?;
        let lifetime = proven.session_deadline(login_unix, snapshot.session.lifetime);
        let left = lifetime.saturating_sub(login_unix);
        let times = crate::relay::Times {
            ends: runtime::now() + Duration::from_secs(left),
            silence: snapshot.session.silence,
            write_stall: snapshot.limits.write_deadline,
        };
        let exchange = Exchange::new(Opened {
            snapshot,
            proven,
            permit,
            budgets,
            sought,
            occasion,
            classifier: Rc::clone(shard.classifier()),
            frontend,
            attribution,
            reserved,
            metrics: Rc::clone(shard.metrics()),
            recorder,
            catalogue: Some(catalogue),
        });
        let relay = Relay::new(
            shard,
            (agent, inbound),
            lease,
            exchange,
            registration,
            &times,
        );
        Ok(Entered::Session(Box::new(relay)))
    }
}

/// The settings that go upstream with the session, policy willing.
///
/// What drivers send unasked passes; the rest is judged as the `SET` that it amounts to.
fn allowed_settings(
    snapshot: &Snapshot,
    permit: &Permit,
    wishes: &Wishes,
) -> Result<SessionSettings, LoginRefusal> {
    let session = SessionContext {
        search_path: SearchPath::Unknown,
        read_only: permit.read_only(),
        catalogue: None,
        unsettled: false,
    };
    for (name, value) in &wishes.judged {
        let name = name.replace('.', "\".\"");
        let text = format!("SET \"{name}\" TO '{}'", value.replace('\'', "''"));
        let batch = profile(&text, &ProfileLimits::default());
        let operation = Operation::Sql {
            statements: &batch.statements,
            session,
        };
        match snapshot.policy.judge(permit, &operation) {
            Decision::Allow => {}
            // Before there is a session, nobody is told to wait.
            Decision::Hold(held) => {
                let message = format!("the setting needs approval: {held}");
                let hint = "Set it in the session, where it can wait for that.".to_owned();
                return Err(LoginRefusal::Setting(held.refused(message, hint)));
            }
            Decision::Deny(refusal) => return Err(LoginRefusal::Setting(refusal)),
        }
    }
    let settings = wishes.harmless.iter().chain(&wishes.judged).cloned();
    Ok(SessionSettings::new(settings)?)
}

/// What the configuration calls an issuer: short, and unique among those that can prove anything.
fn issuer_name<'s>(snapshot: &'s Snapshot, issuer: &'s str) -> &'s str {
    let clients = snapshot.client_certificates.as_ref();
    if clients.is_some_and(|clients| clients.certificates.issuer() == issuer) {
        return CERTIFICATE_ISSUER;
    }
    let mut issuers = snapshot.authenticators.issuers().iter();
    issuers
        .find(|known| known.issuer == issuer)
        .map_or(issuer, |known| known.name.as_str())
}

fn principal_note(proven: &Proven) -> PrincipalNote {
    let principal = proven.principal();
    PrincipalNote {
        issuer: principal.issuer.clone(),
        subject: principal.subject.clone(),
        name: principal.name.clone(),
        groups: principal.groups.clone(),
        actors: principal
            .delegation
            .iter()
            .map(|actor| crate::recorder::ActorNote {
                issuer: actor.issuer.clone(),
                subject: actor.subject.clone(),
            })
            .collect(),
        token_id: principal.token_id.clone(),
        expires: principal.expires,
    }
}

fn record_refusal(shard: &Shard, greeting: &Greeting, progress: Progress, refusal: &LoginRefusal) {
    let recorded = shard.journal().refused_login(&RefusedLogin {
        peer: greeting.origin().client().to_string(),
        protocol: "postgres".to_owned(),
        target: progress.target,
        user: progress.user,
        application: progress.application,
        reason: refusal.to_string(),
        principal: progress.principal,
        shard: shard.id().0,
    });
    if let Err(error) = recorded {
        tracing::error!(%error, "a refused login could not be recorded");
    }
}

impl From<LoginRefusal> for Ended {
    fn from(refusal: LoginRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<GreetError> for Ended {
    fn from(error: GreetError) -> Self {
        Self::Failed(error)
    }
}

impl From<WishRefused> for Ended {
    fn from(refused: WishRefused) -> Self {
        Self::Refused(LoginRefusal::Wish(refused))
    }
}
