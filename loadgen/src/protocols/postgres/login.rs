//! From nothing to the first ReadyForQuery: connection, TLS, start-up, authentication.
//!
//! There is no falling back: a target that does not do what was asked for is a failure.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use codecs::Limits;
use codecs::postgres::auth::{
    ChannelBinding, SCRAM_NONCE_BYTES, ScramAwaitFinal, ScramChallenge, ScramClient, ScramKeys,
    ServerVerified, md5_password,
};
use codecs::postgres::backend::{Authentication, Mechanisms};
use codecs::postgres::startup::{
    ENCRYPTION_ACCEPTED, ENCRYPTION_REFUSED, encode_ssl_request, encode_startup,
};
use codecs::postgres::{Backend, BackendPiece, ProtocolVersion, TransactionStatus, frontend};
use ring::rand::{SecureRandom, SystemRandom};
use runtime::transport::{HandshakeError, Transport};
use runtime::{Stream, run_blocking, with_deadline, yield_if_needed};
use rustls::ClientConfig;
use zeroize::Zeroizing;

use super::line::Line;
use super::session::Session;
use crate::protocols::agent::Agent;
use crate::protocols::answer::SqlState;
use crate::protocols::failed::{Failed, Phase};
use crate::protocols::target::{Address, Target};

/// Messages of a log-in. PostgreSQL sends some twenty; an event trigger may add notices.
const MESSAGES_MAX: usize = 1000;

/// Longest message of a log-in: an error or notice, which nobody reads here.
const MESSAGE_BYTES_MAX: u32 = 64 * 1024;

const APPLICATION_NAME: &str = "sallyport-loadgen";

/// Agents whose derived keys are kept: hundreds take part in a run.
const KEYS_MAX: usize = 1024;

/// Opens sessions to one target. Per shard.
#[derive(Debug)]
pub struct Dialer {
    target: Arc<Target>,
    keys: RefCell<HashMap<String, Derived>>,
}

/// Keys of one agent, so that a connection costs the target more than it costs the generator.
#[derive(Debug)]
struct Derived {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    keys: Rc<ScramKeys>,
}

/// What is awaited of the target.
///
/// ```text
/// Request ──cleartext, MD5──▶ Ok ──AuthenticationOk──▶ done
///    │ └──AuthenticationOk──▶ done
///    └──SASL──▶ Continue ──▶ Final ──verified──▶ VerifiedOk ──▶ done
/// ```
enum Awaiting {
    Request,
    Ok,
    Continue(ScramClient),
    Final(ScramAwaitFinal),
    VerifiedOk(ServerVerified),
}

enum Step {
    Send(Zeroizing<Vec<u8>>, Awaiting),
    Derive(ScramChallenge),
    Wait(Awaiting),
    LoggedIn,
}

impl Dialer {
    #[must_use]
    pub fn new(target: Arc<Target>) -> Self {
        Self {
            target,
            keys: RefCell::default(),
        }
    }

    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Opens one session; ready for its first request when it returns.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn open(&self, agent: &Agent, deadline: Instant) -> Result<Session, Failed> {
        let transport = self.connect(deadline).await?;
        let limits = Limits {
            backend_message_bytes: MESSAGE_BYTES_MAX,
            ..Limits::default()
        };
        let mut line = Line::new(transport, limits, deadline);
        line.transport
            .append(&startup(agent, &self.target.database)?);
        self.authenticate(&mut line, agent, deadline).await?;
        read(&mut line, |message| {
            if let Backend::BackendKeyData(_) = message {
                return Ok(ControlFlow::Continue(()));
            }
            if message == Backend::ReadyForQuery(TransactionStatus::Idle) {
                return Ok(ControlFlow::Break(()));
            }
            Err(out_of_sequence())
        })
        .await?;
        Ok(Session::over(line, Arc::clone(&self.target.canaries)))
    }

    async fn connect(&self, deadline: Instant) -> Result<Transport, Failed> {
        let connected = match &self.target.address {
            Address::Tcp { socket, .. } => Stream::connect(socket, deadline).await,
            Address::Unix(path) => Stream::connect_unix(path, deadline).await,
        };
        let stream = connected.map_err(|error| Failed::from_io(Phase::Connect, &error))?;
        match self.target.tls.client() {
            None => Ok(Transport::Plain(stream)),
            Some(client) => request_tls(stream, client, &self.target.address, deadline).await,
        }
    }

    async fn authenticate(
        &self,
        line: &mut Line,
        agent: &Agent,
        deadline: Instant,
    ) -> Result<(), Failed> {
        let private = line.transport.is_encrypted() || line.transport.is_loopback_or_unix();
        let mut state = Awaiting::Request;
        loop {
            let mut current = Some(state);
            let step = read(line, |message| match (message, current.take()) {
                (Backend::NegotiateProtocolVersion(_), Some(unchanged @ Awaiting::Request)) => {
                    current = Some(unchanged);
                    Ok(ControlFlow::Continue(()))
                }
                (Backend::Authentication(request), Some(current)) => {
                    handle(current, request, agent, private).map(ControlFlow::Break)
                }
                _ => Err(out_of_sequence()),
            })
            .await?;
            state = match step {
                Step::LoggedIn => return Ok(()),
                Step::Wait(next) => next,
                Step::Send(message, next) => {
                    line.transport.append(&message);
                    next
                }
                Step::Derive(challenge) => {
                    let keys = self.keys(agent, &challenge, deadline).await?;
                    let (scram, response) = challenge.answer(&keys);
                    let mut message = Zeroizing::new(Vec::new());
                    frontend::encode_sasl_response(&mut message, response.as_bytes())
                        .map_err(|_| Failed::NotEncodable)?;
                    line.transport.append(&message);
                    Awaiting::Final(scram)
                }
            };
        }
    }

    async fn keys(
        &self,
        agent: &Agent,
        challenge: &ScramChallenge,
        deadline: Instant,
    ) -> Result<Rc<ScramKeys>, Failed> {
        let (salt, iterations) = (challenge.salt().to_vec(), challenge.iterations());
        if let Some(derived) = self.keys.borrow().get(&agent.name)
            && derived.salt == salt
            && derived.iterations == iterations
        {
            return Ok(Rc::clone(&derived.keys));
        }
        let password = Zeroizing::new(agent.password.expose().to_vec());
        let deriving = {
            let salt = salt.clone();
            run_blocking(move || ScramKeys::derive(&password, &salt, iterations))
        };
        let phase = Phase::Authentication;
        let keys = with_deadline(deadline, deriving)
            .await
            .map_err(|_| Failed::TimedOut { phase })?
            .map_err(|_| Failed::NotEncodable)?;
        let keys = Rc::new(keys);
        let mut cache = self.keys.borrow_mut();
        if cache.len() >= KEYS_MAX {
            cache.clear();
        }
        let derived = Derived {
            salt,
            iterations,
            keys: Rc::clone(&keys),
        };
        cache.insert(agent.name.clone(), derived);
        Ok(keys)
    }
}

async fn request_tls(
    mut stream: Stream,
    client: &Arc<ClientConfig>,
    address: &Address,
    deadline: Instant,
) -> Result<Transport, Failed> {
    let name = address.server_name().ok_or(Failed::TlsName)?;
    let phase = Phase::Tls;
    let mut request = Vec::new();
    encode_ssl_request(&mut request).map_err(|_| Failed::NotEncodable)?;
    stream.append(&request);
    let lost = |error: std::io::Error| Failed::from_io(phase, &error);
    stream.flush(deadline).await.map_err(lost)?;
    let answer = stream.recv(deadline).await.map_err(lost)?;
    match answer.as_deref() {
        None => Err(Failed::Closed { phase }),
        Some([ENCRYPTION_ACCEPTED]) => {
            Ok(Transport::connect_tls(stream, Arc::clone(client), name, deadline).await?)
        }
        // What follows would be read as if it had come through TLS.
        Some([ENCRYPTION_ACCEPTED, early @ ..]) => {
            Err(HandshakeError::EarlyBytes { count: early.len() }.into())
        }
        Some([ENCRYPTION_REFUSED]) => Err(Failed::TlsNotOffered),
        Some(_) => Err(Failed::OutOfSequence { phase }),
    }
}

fn startup(agent: &Agent, database: &str) -> Result<Vec<u8>, Failed> {
    let mut message = Vec::new();
    let parameters = [
        ("user", &*agent.user),
        ("database", database),
        ("application_name", APPLICATION_NAME),
        ("client_encoding", "UTF8"),
    ];
    encode_startup(&mut message, ProtocolVersion::V3_0, parameters)
        .map_err(|_| Failed::NotEncodable)?;
    Ok(message)
}

fn handle(
    awaiting: Awaiting,
    request: Authentication<'_>,
    agent: &Agent,
    private: bool,
) -> Result<Step, Failed> {
    match (awaiting, request) {
        (Awaiting::Request | Awaiting::Ok | Awaiting::VerifiedOk(_), Authentication::Ok) => {
            Ok(Step::LoggedIn)
        }
        (Awaiting::Request, Authentication::CleartextPassword) => {
            if !private {
                return Err(Failed::PasswordInClear);
            }
            password_message(password(agent)?)
        }
        (Awaiting::Request, Authentication::Md5Password { salt }) => {
            let answer = md5_password(agent.user.as_bytes(), password(agent)?, salt);
            password_message(answer.as_bytes())
        }
        (Awaiting::Request, Authentication::Sasl(offered)) => scram(agent, &offered),
        (Awaiting::Request, Authentication::Unsupported { .. }) => {
            Err(Failed::UnsupportedAuthentication)
        }
        (Awaiting::Continue(client), Authentication::SaslContinue(message)) => {
            let challenge = client.handle_server_first(message, &Limits::default())?;
            Ok(Step::Derive(challenge))
        }
        (Awaiting::Final(scram), Authentication::SaslFinal(message)) => {
            let verified = scram.handle_server_final(message)?;
            Ok(Step::Wait(Awaiting::VerifiedOk(verified)))
        }
        (
            Awaiting::Request
            | Awaiting::Ok
            | Awaiting::Continue(_)
            | Awaiting::Final(_)
            | Awaiting::VerifiedOk(_),
            _,
        ) => Err(out_of_sequence()),
    }
}

/// Without channel binding, also inside TLS: it proves something about who is there, which is not
/// what is measured.
fn scram(agent: &Agent, offered: &Mechanisms<'_>) -> Result<Step, Failed> {
    let binding = ChannelBinding::choose(offered, None).ok_or(Failed::UnsupportedAuthentication)?;
    password(agent)?;
    let mut nonce = [0; SCRAM_NONCE_BYTES];
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| Failed::NoRandomness)?;
    let client = ScramClient::new(nonce, binding);
    let mut message = Zeroizing::new(Vec::new());
    frontend::encode_sasl_initial_response(
        &mut message,
        binding.mechanism().as_bytes(),
        Some(client.client_first().as_bytes()),
    )
    .map_err(|_| Failed::NotEncodable)?;
    Ok(Step::Send(message, Awaiting::Continue(client)))
}

fn password(agent: &Agent) -> Result<&[u8], Failed> {
    match agent.password.is_empty() {
        true => Err(Failed::NoPassword),
        false => Ok(agent.password.expose()),
    }
}

fn password_message(answer: &[u8]) -> Result<Step, Failed> {
    let mut message = Zeroizing::new(Vec::new());
    frontend::encode_password(&mut message, answer).map_err(|_| Failed::NotEncodable)?;
    Ok(Step::Send(message, Awaiting::Ok))
}

/// Shows `handle` each message of the log-in until it breaks with a value.
async fn read<T>(
    line: &mut Line,
    mut handle: impl FnMut(Backend<'_>) -> Result<ControlFlow<T>, Failed>,
) -> Result<T, Failed> {
    let mut left = MESSAGES_MAX;
    loop {
        if let Some(value) = decode(line, &mut left, &mut handle)? {
            return Ok(value);
        }
        let chunk = line.arrival(Phase::Authentication).await?;
        line.unread.extend_from_slice(&chunk);
        yield_if_needed().await;
    }
}

/// Decodes what is there; `None` when more has to arrive.
fn decode<T>(
    line: &mut Line,
    left: &mut usize,
    handle: &mut dyn FnMut(Backend<'_>) -> Result<ControlFlow<T>, Failed>,
) -> Result<Option<T>, Failed> {
    let mut taken = 0;
    let mut value = None;
    while value.is_none() {
        let input = line.unread.get(taken..).unwrap_or_default();
        let Some(piece) = line.decoder.decode(input)? else {
            break;
        };
        // A row, which has no place here, long or short.
        let BackendPiece::Message(decoded) = piece else {
            return Err(out_of_sequence());
        };
        taken += decoded.wire.len();
        *left = left.checked_sub(1).ok_or(Failed::TooManyMessages {
            limit: MESSAGES_MAX,
        })?;
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "all others are the log-in's own"
        )]
        match decoded.message {
            Backend::NoticeResponse(_)
            | Backend::NotificationResponse(_)
            | Backend::ParameterStatus(_) => {}
            Backend::ErrorResponse(fields) => {
                let sqlstate = fields.sqlstate().and_then(SqlState::from_wire);
                return Err(Failed::Refused {
                    phase: Phase::Authentication,
                    sqlstate: sqlstate.unwrap_or(SqlState::UNKNOWN),
                });
            }
            message => {
                if let ControlFlow::Break(broke) = handle(message)? {
                    value = Some(broke);
                }
            }
        }
    }
    line.unread.drain(..taken);
    Ok(value)
}

fn out_of_sequence() -> Failed {
    Failed::OutOfSequence {
        phase: Phase::Authentication,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::Password;

    fn agent(password: &[u8]) -> Agent {
        Agent {
            name: "first".into(),
            user: "app".into(),
            password: Password::new(password),
        }
    }

    fn failure(awaiting: Awaiting, request: Authentication<'_>, private: bool) -> Option<Failed> {
        handle(awaiting, request, &agent(b"secret"), private).err()
    }

    #[test]
    fn a_password_is_not_shown_where_others_listen() {
        let asked = Authentication::CleartextPassword;
        assert_eq!(failure(Awaiting::Request, asked, true), None);
        assert_eq!(
            failure(Awaiting::Request, asked, false),
            Some(Failed::PasswordInClear)
        );
    }

    #[test]
    fn a_target_may_not_skip_its_own_proof() {
        let client = ScramClient::new([7; SCRAM_NONCE_BYTES], ChannelBinding::None);
        assert_eq!(
            failure(Awaiting::Continue(client), Authentication::Ok, true),
            Some(out_of_sequence())
        );
        assert_eq!(
            failure(Awaiting::Ok, Authentication::CleartextPassword, true),
            Some(out_of_sequence()),
            "a second request"
        );
    }

    #[test]
    fn an_agent_without_a_password_fails_only_where_one_is_asked_for() {
        let asked = |request| handle(Awaiting::Request, request, &agent(b""), true).err();
        assert_eq!(asked(Authentication::Ok), None);
        assert_eq!(
            asked(Authentication::CleartextPassword),
            Some(Failed::NoPassword)
        );
        assert_eq!(
            asked(Authentication::Md5Password { salt: [0; 4] }),
            Some(Failed::NoPassword)
        );
    }
}
