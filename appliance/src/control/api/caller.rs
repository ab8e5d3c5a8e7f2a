//! Who asks: the operator by socket, a person by token or console session, or nobody.
//!
//! Found out once for each request, before any route is looked at. What somebody may do is the
//! table's business.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Extension, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use codecs::postgres::auth::same_secret;
use policy::Principal;

use super::super::listener::neighbourhood;
use super::super::peer::Peer;
use super::super::rates::TooMany;
use super::super::roles::{Role, RoleSet};
use super::Shared;
use super::error::{refused, too_many, unproven};
use super::routes::Access;
use crate::identity::remote::NEWER_KEYS;
use crate::identity::{Claim, ProofFailure, Proven, prove_anew};

/// Said by the console's script when a page asks by itself for what it shows: nobody stays signed
/// in by that.
const BY_ITSELF_HEADER: &str = "sallyport-refresh";

/// Longest reason that is passed on, in bytes. Without it the status alone says what is wrong.
const REFUSAL_BYTES_MAX: usize = 4096;

/// Carries the token against forged requests of a console session.
pub(in crate::control) const CSRF_HEADER: &str = "x-csrf-token";

/// How a request came in. Put on it by whoever accepted its connection.
#[derive(Debug, Clone, Copy)]
pub(in crate::control) enum Door {
    /// The admin socket.
    Socket(Peer),
    /// `listen.console`.
    Network {
        peer: SocketAddr,
        local: SocketAddr,
        tls: bool,
    },
}

impl Door {
    /// The cookie of a console session: bound to this very host where there is TLS.
    pub(in crate::control) fn session_cookie(self) -> &'static str {
        if self.is_tls() {
            "__Host-sallyport"
        } else {
            "sallyport"
        }
    }

    pub(in crate::control) fn is_tls(self) -> bool {
        match self {
            Self::Socket(_) => false,
            Self::Network { tls, .. } => tls,
        }
    }

    /// Whose rates count; none for the admin socket.
    fn neighbourhood(self) -> Option<IpAddr> {
        match self {
            Self::Socket(_) => None,
            Self::Network { peer, .. } => Some(neighbourhood(peer.ip())),
        }
    }
}

/// Who asks. Either, both or none of the two.
#[derive(Debug, Clone, Default)]
pub(in crate::control) struct Caller {
    operator: Option<Operator>,
    person: Option<Person>,
    /// Set for a console session: what a request that changes something must carry.
    csrf: Option<Arc<str>>,
}

/// The operator: root, or the user that runs the appliance, as the kernel says.
#[derive(Debug, Clone, Copy)]
pub(in crate::control) struct Operator {
    uid: u32,
    at_socket: bool,
}

/// A person who was proven, with their roles under the configuration in force.
#[derive(Debug, Clone)]
pub(in crate::control) struct Person {
    proven: Proven,
    roles: RoleSet,
}

/// A login at the console.
#[derive(Debug, Clone)]
pub(in crate::control) struct CookieSession {
    pub(in crate::control) of: SessionOf,
    /// What a request that changes something must carry.
    pub(in crate::control) csrf: Arc<str>,
}

/// Who logged in at the console.
#[derive(Debug, Clone)]
pub(in crate::control) enum SessionOf {
    /// With a token of theirs.
    Person(Proven),
    /// With a link that the operator of this user id made at the socket. It sees and does what the
    /// operator may, but mints nothing, and stands for no person.
    Operator { uid: u32 },
}

/// The console's sessions, as the API asks for them.
pub(in crate::control) trait CookieSessions: Send + Sync {
    /// The session that a cookie's value names, while it lasts; `is_used` by a person and not by an
    /// open page alone. `now` is in seconds since 1970.
    fn find(&self, cookie: &str, is_used: bool, now: u64) -> Option<CookieSession>;
}

impl Caller {
    /// The person, if one asks.
    pub(in crate::control) fn person(&self) -> Option<&Person> {
        self.person.as_ref()
    }

    /// Who it is, for what is kept of what they did.
    pub(in crate::control) fn named(&self) -> String {
        match (&self.person, self.operator) {
            (Some(person), _) => {
                let principal = person.principal();
                format!("{} of {}", principal.subject, principal.issuer)
            }
            (None, Some(operator)) => format!("uid {}", operator.uid),
            (None, None) => "nobody".to_owned(),
        }
    }

    /// The operator, if it is one: at the socket, or by a link made there.
    pub(in crate::control) fn operator(&self) -> Option<Operator> {
        self.operator
    }

    /// What the forms of the caller's console session bring back.
    pub(in crate::control) fn csrf(&self) -> Option<&str> {
        self.csrf.as_deref()
    }

    pub(in crate::control) fn is_nobody(&self) -> bool {
        self.operator.is_none() && self.person.is_none()
    }

    /// That answer, or 401 for nobody.
    pub(super) fn known_or(&self, answer: Response) -> Response {
        if self.is_nobody() {
            unproven("this takes a token")
        } else {
            answer
        }
    }

    /// Whether the caller may use a route of that access.
    pub(in crate::control) fn may(&self, access: Access) -> bool {
        let holds = |role: Role| {
            let person = self.person.as_ref();
            person.is_some_and(|person| person.roles.holds(role))
        };
        match access {
            Access::Open => true,
            Access::Known => !self.is_nobody(),
            Access::Role(role) => self.operator.is_some() || holds(role),
            Access::Person(role) => holds(role),
            Access::Operator => self.operator.is_some_and(|operator| operator.at_socket),
        }
    }
}

impl Operator {
    pub(in crate::control) fn uid(self) -> u32 {
        self.uid
    }
}

impl Person {
    /// The evidence.
    pub(in crate::control) fn proven(&self) -> &Proven {
        &self.proven
    }

    /// Who it is.
    pub(in crate::control) fn principal(&self) -> &Principal {
        self.proven.principal()
    }

    pub(in crate::control) fn roles(&self) -> RoleSet {
        self.roles
    }
}

/// Why a request reaches no route.
#[derive(Debug, Clone, Copy)]
enum TurnedAway {
    WrongToken,
    Revoked,
    OtherUser,
    TooMany(TooMany),
}

impl IntoResponse for TurnedAway {
    fn into_response(self) -> Response {
        match self {
            Self::TooMany(limit) => too_many(limit),
            Self::WrongToken => unproven("the token proves nothing"),
            Self::Revoked => refused(StatusCode::FORBIDDEN, "access is revoked"),
            Self::OtherUser => refused(
                StatusCode::FORBIDDEN,
                "only root and the user that runs the appliance are answered",
            ),
        }
    }
}

/// Finds out who asks, and turns away whoever claims to be somebody and is not.
pub(super) async fn identify(
    State(shared): State<Shared>,
    Extension(door): Extension<Door>,
    mut request: Request,
    next: Next,
) -> Response {
    match caller(&shared, door, request.headers()).await {
        Ok(caller) => {
            if let Some(person) = &caller.person
                && let Err(limit) = shared.rates.person(person.principal(), runtime::now())
            {
                return too_many(limit);
            }
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(turned_away) => turned_away.into_response(),
    }
}

async fn caller(shared: &Shared, door: Door, headers: &HeaderMap) -> Result<Caller, TurnedAway> {
    let mut caller = Caller::default();
    if let Door::Socket(peer) = door
        && peer.is_operator()
    {
        caller.operator = Some(Operator {
            uid: peer.uid(),
            at_socket: true,
        });
    }
    if headers.contains_key(header::AUTHORIZATION) {
        if let Some(address) = door.neighbourhood() {
            let may = shared.rates.may_prove(address, runtime::now());
            may.map_err(TurnedAway::TooMany)?;
        }
        // A wrong token is never overlooked, whoever else the caller may be.
        let proven = bearer(shared, headers).await.map_err(|why| {
            tracing::warn!(%why, ?door, "a token was refused by the admin API");
            if let Some(address) = door.neighbourhood() {
                shared.rates.failed(address, runtime::now());
            }
            TurnedAway::WrongToken
        })?;
        caller.person = Some(person(shared, proven)?);
    } else if let Door::Network { .. } = door
        && let Some(cookie) = cookie(headers, door.session_cookie())
        && let Some(session) = shared.cookies.find(cookie, !is_by_itself(headers), now())
    {
        caller.csrf = Some(session.csrf);
        match session.of {
            SessionOf::Person(proven) => caller.person = Some(person(shared, proven)?),
            SessionOf::Operator { uid } => {
                let at_socket = false;
                caller.operator = Some(Operator { uid, at_socket });
            }
        }
    }
    match door {
        Door::Socket(peer) if caller.is_nobody() => {
            tracing::warn!(
                uid = peer.uid(),
                "a user who is not the operator was refused at the admin socket"
            );
            Err(TurnedAway::OtherUser)
        }
        Door::Socket(_) | Door::Network { .. } => Ok(caller),
    }
}

fn now() -> u64 {
    runtime::unix_time().as_secs()
}

/// The principal that the bearer token proves.
async fn bearer(shared: &Shared, headers: &HeaderMap) -> Result<Proven, ProofFailure> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let token = match (given.next(), given.next()) {
        (Some(one), None) => after_scheme(one.as_bytes()),
        _ => None,
    };
    let token = token.ok_or(ProofFailure::NotAToken)?;
    let proven = prove(shared, token);
    let Some(issuer) = proven.as_ref().err().and_then(ProofFailure::newer_keys_of) else {
        return proven;
    };
    let Some(answer) = shared.key_refresh.ask(issuer) else {
        return proven;
    };
    // Which keys are in force afterwards is what counts.
    let _ = tokio::time::timeout(NEWER_KEYS, answer).await;
    prove(shared, token)
}

fn prove(shared: &Shared, token: &[u8]) -> Result<Proven, ProofFailure> {
    let snapshot = shared.snapshot.load();
    let remote = shared.keys.load();
    let claim = Claim::OauthBearer(token);
    prove_anew(&snapshot.authenticators, &remote, claim, now())
}

/// What follows `Bearer `. Spec: RFC 6750, "Authorization Request Header Field".
fn after_scheme(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

fn person(shared: &Shared, proven: Proven) -> Result<Person, TurnedAway> {
    let revocations = shared.revocations.published().load();
    if let Some(revocation) = revocations.find_principal(proven.principal(), now()) {
        tracing::warn!(
            revocation = revocation.id,
            "a revoked principal was refused by the admin API"
        );
        return Err(TurnedAway::Revoked);
    }
    let roles = shared.snapshot.load().roles.of(proven.principal());
    Ok(Person { proven, roles })
}

/// Whether a page that is left open asks, and nobody did anything.
fn is_by_itself(headers: &HeaderMap) -> bool {
    let is_stream = headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept == "text/event-stream");
    is_stream || headers.contains_key(BY_ITSELF_HEADER)
}

/// The value of a cookie; none when it is there twice.
pub(in crate::control) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let pairs = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let mut ours = pairs.filter_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then_some(value)
    });
    match (ours.next(), ours.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

/// Lets a request on to its handler when the caller may use a route of that access.
pub(super) async fn allow(
    access: Access,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    if !caller.may(access) {
        let refusal = refused(StatusCode::FORBIDDEN, needed(access));
        return caller.known_or(refusal);
    }
    if !is_safe(request.method()) && is_forged(&caller, request.headers()) {
        return refused(
            StatusCode::FORBIDDEN,
            "a console session changes nothing without its token in x-csrf-token",
        );
    }
    in_json(next.run(request).await).await
}

/// The same refusal in the form of every other, where a request was not understood: the words are
/// the framework's, about what the caller itself has sent.
async fn in_json(response: Response) -> Response {
    let is_text = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !response.status().is_client_error() || !is_text {
        return response;
    }
    let status = response.status();
    let words = to_bytes(response.into_body(), REFUSAL_BYTES_MAX).await;
    let words = words.unwrap_or_default();
    refused(status, &String::from_utf8_lossy(&words))
}

fn needed(access: Access) -> &'static str {
    match access {
        // Only nobody lacks it, and gets 401.
        Access::Open | Access::Known => "this takes a token",
        Access::Operator => "this takes the admin socket",
        Access::Role(Role::Viewer) => "this takes the role viewer",
        Access::Role(Role::Approver) => "this takes the role approver",
        Access::Role(Role::Admin) => "this takes the role admin",
        Access::Person(Role::Viewer) => "this takes a person's own token and the role viewer",
        Access::Person(Role::Approver) => "this takes a person's own token and the role approver",
        Access::Person(Role::Admin) => "this takes a person's own token and the role admin",
    }
}

/// Methods that change nothing. Spec: RFC 9110, "Safe Methods".
pub(in crate::control) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a console session's request lacks the token that another site cannot know.
fn is_forged(caller: &Caller, headers: &HeaderMap) -> bool {
    let Some(expected) = &caller.csrf else {
        return false;
    };
    let given = headers.get(CSRF_HEADER).map(HeaderValue::as_bytes);
    !given.is_some_and(|given| same_secret(given, expected.as_bytes()))
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Nobody, were `identify` ever left out.
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// For handlers behind `Access::Operator`.
impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let caller = parts.extensions.get::<Caller>();
        let operator = caller.and_then(|caller| caller.operator);
        operator.ok_or_else(|| refused(StatusCode::FORBIDDEN, needed(Access::Operator)))
    }
}

/// For handlers behind `Access::Person`.
impl<S: Sync> FromRequestParts<S> for Person {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let caller = parts.extensions.get::<Caller>();
        let person = caller.and_then(|caller| caller.person.clone());
        person.ok_or_else(|| refused(StatusCode::FORBIDDEN, "this takes a person's own token"))
    }
}
