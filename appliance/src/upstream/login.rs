//! Authentication at a target, from StartupMessage to AuthenticationOk.
//!
//! Does not decide which account; it proves to the server that we hold that account's secret, and
//! shows the secret itself only where nobody can listen.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::rc::Rc;

use codecs::Limits;
use codecs::postgres::auth::{
    self, AuthError, SCRAM_NONCE_BYTES, ScramAwaitFinal, ScramChallenge, ScramClient, ScramKeys,
    ServerVerified, md5_password,
};
use codecs::postgres::backend::{Authentication, Mechanisms};
use codecs::postgres::{Backend, frontend};
use ring::rand::{SecureRandom, SystemRandom};
use runtime::{run_blocking, with_deadline};
use zeroize::Zeroizing;

use super::conversation::{Conversation, Exchange};
use super::credentials::{Account, ChannelBinding, Identity};
use super::endpoint::tls_server_end_point;
use super::error::{AuthenticationFailure, Phase, UpstreamError, Violation};

/// Accounts whose derived keys are kept; a reload leaves those of withdrawn ones behind.
const KEYS_MAX: usize = 256;

/// Keys derived from passwords, so that only the first connection of an account pays for it.
///
/// Per shard. One entry per account: a hostile server that sends another salt each time gains
/// nothing but the work that it asks for.
#[derive(Default)]
pub(super) struct ScramKeyCache(RefCell<HashMap<Identity, Derived>>);

struct Derived {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    keys: Rc<ScramKeys>,
}

/// What is awaited of the server.
///
/// ```text
/// Request ──cleartext, MD5──▶ Ok ──AuthenticationOk──▶ done
///    │ └──AuthenticationOk (trust, certificate)──▶ done
///    └──SASL──▶ Continue ──▶ Final ──server verified──▶ VerifiedOk ──▶ done
/// ```
///
/// No other transition exists: a second request, an Ok in the middle of SCRAM, and SCRAM messages
/// that nobody asked for end the log-in.
enum Awaiting {
    Request,
    Ok,
    Continue {
        client: ScramClient,
        bound: bool,
    },
    Final {
        scram: ScramAwaitFinal,
        bound: bool,
    },
    VerifiedOk {
        _verified: ServerVerified,
        bound: bool,
    },
}

/// What the log-in does about a message, before the next one is read.
enum Step {
    Send(Zeroizing<Vec<u8>>, Awaiting),
    Derive(ScramChallenge, bool),
    Wait(Awaiting),
    LoggedIn { bound: bool },
}

/// Answers the server's requests until it is satisfied.
pub(super) async fn authenticate(
    conversation: &mut Conversation,
    exchange: Exchange,
    account: &Account,
    cache: &ScramKeyCache,
) -> Result<(), UpstreamError> {
    let login = Login {
        account,
        channel: Channel::of(conversation),
    };
    let mut state = Awaiting::Request;
    let bound = loop {
        let mut current = Some(state);
        let step = conversation
            .read(exchange, |message| match (message, current.take()) {
                (Backend::Authentication(request), Some(current)) => {
                    login.handle(current, request).map(ControlFlow::Break)
                }
                _ => Err(out_of_sequence()),
            })
            .await?;
        state = match step {
            Step::LoggedIn { bound } => break bound,
            Step::Wait(next) => next,
            Step::Send(message, next) => {
                conversation.send(exchange, &message).await?;
                next
            }
            Step::Derive(challenge, bound) => {
                let keys = cache.keys(account, &challenge, exchange).await?;
                let (scram, response) = challenge.answer(&keys);
                let mut message = Zeroizing::new(Vec::new());
                frontend::encode_sasl_response(&mut message, response.as_bytes())
                    .map_err(|_| failed(AuthenticationFailure::Scram))?;
                conversation.send(exchange, &message).await?;
                Awaiting::Final { scram, bound }
            }
        };
    };
    if account.channel_binding() == ChannelBinding::Require && !bound {
        return Err(failed(AuthenticationFailure::ChannelBindingNotOffered));
    }
    Ok(())
}

/// What protects the bytes of the log-in, and from whom.
struct Channel {
    /// Nobody can listen: TLS, or a Unix socket.
    private: bool,
    encrypted: bool,
    /// For SCRAM with channel binding.
    end_point: Option<ring::digest::Digest>,
}

struct Login<'l> {
    account: &'l Account,
    channel: Channel,
}

impl Channel {
    fn of(conversation: &Conversation) -> Self {
        let transport = &conversation.transport;
        let unix = transport.peer_address() == runtime::PeerAddress::Unix;
        Self {
            private: transport.is_encrypted() || unix,
            encrypted: transport.is_encrypted(),
            end_point: transport
                .peer_certificates()
                .first()
                .and_then(|certificate| tls_server_end_point(certificate)),
        }
    }
}

impl Login<'_> {
    fn handle(
        &self,
        awaiting: Awaiting,
        request: Authentication<'_>,
    ) -> Result<Step, UpstreamError> {
        match (awaiting, request) {
            (Awaiting::Request | Awaiting::Ok, Authentication::Ok) => {
                Ok(Step::LoggedIn { bound: false })
            }
            (Awaiting::VerifiedOk { bound, .. }, Authentication::Ok) => {
                Ok(Step::LoggedIn { bound })
            }
            (Awaiting::Request, Authentication::CleartextPassword) => self.cleartext(),
            (Awaiting::Request, Authentication::Md5Password { salt }) => self.md5(salt),
            (Awaiting::Request, Authentication::Sasl(offered)) => self.scram(&offered),
            (Awaiting::Request, Authentication::Unsupported { .. }) => {
                Err(failed(AuthenticationFailure::UnsupportedMethod))
            }
            (Awaiting::Continue { client, bound }, Authentication::SaslContinue(message)) => {
                let challenge = client
                    .handle_server_first(message, &Limits::default())
                    .map_err(|_| failed(AuthenticationFailure::Scram))?;
                Ok(Step::Derive(challenge, bound))
            }
            (Awaiting::Final { scram, bound }, Authentication::SaslFinal(message)) => {
                let verified = scram.handle_server_final(message).map_err(|error| {
                    if error == AuthError::ServerSignature {
                        return failed(AuthenticationFailure::ServerSignature);
                    }
                    failed(AuthenticationFailure::Scram)
                })?;
                Ok(Step::Wait(Awaiting::VerifiedOk {
                    _verified: verified,
                    bound,
                }))
            }
            (
                Awaiting::Request
                | Awaiting::Ok
                | Awaiting::Continue { .. }
                | Awaiting::Final { .. }
                | Awaiting::VerifiedOk { .. },
                _,
            ) => Err(out_of_sequence()),
        }
    }

    /// The password itself: only where nobody can listen, which a loopback address is not, since
    /// any local user may hold the port while the server is away.
    fn cleartext(&self) -> Result<Step, UpstreamError> {
        self.refuse_unbound()?;
        if !self.channel.private {
            return Err(failed(AuthenticationFailure::CleartextWithoutTls));
        }
        password_message(self.password()?)
    }

    fn md5(&self, salt: [u8; 4]) -> Result<Step, UpstreamError> {
        self.refuse_unbound()?;
        let answer = md5_password(self.account.user().as_bytes(), self.password()?, salt);
        password_message(answer.as_bytes())
    }

    fn scram(&self, offered: &Mechanisms<'_>) -> Result<Step, UpstreamError> {
        let end_point = self.channel.end_point.as_ref().map(AsRef::as_ref);
        // Who stands in the middle of unverified TLS can show a certificate that has no hash, to
        // make us give up a binding that the server does offer.
        if self.channel.encrypted
            && end_point.is_none()
            && offered.contains(auth::SCRAM_SHA_256_PLUS)
            && !self.account.tls().mode().verifies()
        {
            return Err(failed(AuthenticationFailure::ChannelBindingUnavailable));
        }
        let binding = auth::ChannelBinding::choose(offered, end_point)
            .ok_or_else(|| failed(AuthenticationFailure::UnsupportedMethod))?;
        let bound = matches!(binding, auth::ChannelBinding::TlsServerEndPoint(_));
        if !bound {
            self.refuse_unbound()?;
        }
        self.password()?;
        let client = ScramClient::new(nonce()?, binding);
        let mut message = Zeroizing::new(Vec::new());
        frontend::encode_sasl_initial_response(
            &mut message,
            binding.mechanism().as_bytes(),
            Some(client.client_first().as_bytes()),
        )
        .map_err(|_| failed(AuthenticationFailure::Scram))?;
        Ok(Step::Send(message, Awaiting::Continue { client, bound }))
    }

    /// Before anything derived from the password is sent.
    fn refuse_unbound(&self) -> Result<(), UpstreamError> {
        match self.account.channel_binding() {
            ChannelBinding::Prefer => Ok(()),
            ChannelBinding::Require => Err(failed(AuthenticationFailure::ChannelBindingNotOffered)),
        }
    }

    fn password(&self) -> Result<&[u8], UpstreamError> {
        self.account
            .password()
            .map(|password| password.expose())
            .ok_or_else(|| failed(AuthenticationFailure::NoPassword))
    }
}

impl ScramKeyCache {
    async fn keys(
        &self,
        account: &Account,
        challenge: &ScramChallenge,
        exchange: Exchange,
    ) -> Result<Rc<ScramKeys>, UpstreamError> {
        let (salt, iterations) = (challenge.salt().to_vec(), challenge.iterations());
        if let Some(derived) = self.0.borrow().get(&account.identity())
            && derived.salt == salt
            && derived.iterations == iterations
        {
            return Ok(derived.keys.clone());
        }
        let password = account
            .password()
            .map(|password| Zeroizing::new(password.expose().to_vec()))
            .ok_or_else(|| failed(AuthenticationFailure::NoPassword))?;
        let deriving = {
            let salt = salt.clone();
            run_blocking(move || ScramKeys::derive(&password, &salt, iterations))
        };
        let keys = with_deadline(exchange.deadline, deriving)
            .await
            .map_err(|_| UpstreamError::TimedOut {
                phase: exchange.phase,
            })?
            .map_err(|_| failed(AuthenticationFailure::KeyDerivation))?;
        let keys = Rc::new(keys);
        let mut cache = self.0.borrow_mut();
        if cache.len() >= KEYS_MAX {
            cache.clear();
        }
        cache.insert(
            account.identity(),
            Derived {
                salt,
                iterations,
                keys: keys.clone(),
            },
        );
        Ok(keys)
    }
}

fn password_message(answer: &[u8]) -> Result<Step, UpstreamError> {
    let mut message = Zeroizing::new(Vec::new());
    frontend::encode_password(&mut message, answer)
        .map_err(|_| failed(AuthenticationFailure::NoPassword))?;
    Ok(Step::Send(message, Awaiting::Ok))
}

fn nonce() -> Result<[u8; SCRAM_NONCE_BYTES], UpstreamError> {
    let mut nonce = [0; SCRAM_NONCE_BYTES];
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| failed(AuthenticationFailure::Scram))?;
    Ok(nonce)
}

fn failed(reason: AuthenticationFailure) -> UpstreamError {
    UpstreamError::AuthenticationFailed(reason)
}

fn out_of_sequence() -> UpstreamError {
    UpstreamError::protocol(Phase::Authentication, Violation::OutOfSequence)
}
