//! Who calls: from a claim to a `Principal`, and the evidence that it was proven.
//!
//! `prove`, `prove_anew`, `prove_login` and `prove_certificate` are the only ways to a `Proven`. They decide who somebody is, never what they may do.

mod builtin;
mod cache;
mod certificate;
mod claims;
mod crypto;
mod json;
mod keys;
pub mod remote;
mod token;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use policy::{Principal, Proof};

pub use builtin::{
    BUILTIN_ISSUER, BuiltinIssuer, BuiltinIssuerError, MintError, MintedToken, TokenRequest,
};
pub use cache::TokenCache;
pub use certificate::{
    CERTIFICATE_ISSUER, CertificateFailure, CertificateSubject, ClientCertificates,
    is_trust_domain, prove_certificate,
};
pub use claims::{ClaimMapping, ClaimPath, ClaimPathError};
pub use keys::{JWKS_BYTES_MAX, KeySet, KeySetError};
pub use remote::{KeyRefresh, RemoteKeys, RemoteSource, SourceId};
pub use token::TOKEN_BYTES_MAX;

/// How far the clocks of an issuer and this machine may differ. Design: 30 s.
const CLOCK_SKEW_SECONDS: u64 = 30;

/// The algorithms a token may be signed with, by the names of RFC 7518 and RFC 8037.
pub const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// One issuer whose tokens are accepted, with the keys in force.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The operator's name for it.
    pub name: String,
    /// The exact `iss` of its tokens, and the issuer of the principals that they prove.
    pub issuer: String,
    /// Another `iss` of its tokens, which proves the same principals.
    pub alias: Option<String>,
    /// A token must be meant for one of these.
    pub audience: Vec<String>,
    /// A token must be signed with one of these.
    pub algorithms: Vec<Algorithm>,
    /// Its public keys.
    pub keys: IssuerKeys,
    /// How its claims are read.
    pub mapping: ClaimMapping,
}

impl Issuer {
    /// Whether a token with this `iss` is of this issuer.
    pub fn answers_to(&self, iss: &str) -> bool {
        self.issuer == iss || self.alias.as_deref() == Some(iss)
    }
}

/// Where the keys of an issuer come from.
#[derive(Debug, Clone)]
pub enum IssuerKeys {
    /// They are part of the configuration.
    Fixed(KeySet),
    /// The control plane fetches them.
    Remote(SourceId, Arc<RemoteSource>),
}

impl IssuerKeys {
    /// Those of a source that is fetched.
    pub fn remote(source: RemoteSource) -> Self {
        Self::Remote(source.id(), Arc::new(source))
    }
}

/// Everything that can prove a claim. Immutable; part of the configuration snapshot.
#[derive(Debug, Clone)]
pub struct Authenticators {
    generation: u64,
    issuers: Vec<Issuer>,
}

impl Authenticators {
    /// The issuers of one snapshot; `generation` differs from that of every other snapshot of this
    /// process. No two issuers may have the same `iss`: the configuration sees to that.
    pub fn new(generation: u64, issuers: Vec<Issuer>) -> Self {
        crypto::install();
        Self {
            generation,
            issuers,
        }
    }

    /// Those in force.
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// Where keys have to be fetched from.
    pub fn remote_sources(&self) -> impl Iterator<Item = (SourceId, &Arc<RemoteSource>)> {
        self.issuers.iter().filter_map(|issuer| match &issuer.keys {
            IssuerKeys::Fixed(_) => None,
            IssuerKeys::Remote(id, source) => Some((*id, source)),
        })
    }

    /// The one that the operator calls `name`.
    pub fn named(&self, name: &str) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| issuer.name == name)
    }

    fn issuer(&self, iss: &str) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| issuer.answers_to(iss))
    }

    /// The discovery document of the issuer where agents get their tokens, if there is one and no
    /// other: a client that has none yet can be sent to one place only.
    pub fn discovery(&self) -> Option<&str> {
        let mut found = self
            .remote_sources()
            .filter_map(|(_, source)| match &source.place {
                remote::Place::Discovery(url) => Some(url.as_str()),
                remote::Place::Jwks(_) => None,
            });
        match (found.next(), found.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// Whether tokens of this issuer were verified by keys that have become too old since.
    fn has_lapsed(&self, iss: &str, remote: &RemoteKeys, now: u64) -> bool {
        self.issuer(iss).is_some_and(|issuer| match &issuer.keys {
            IssuerKeys::Fixed(_) => false,
            IssuerKeys::Remote(id, _) => remote.keys(*id, now).is_none(),
        })
    }
}

/// What a caller presents, before proof.
#[derive(Clone, Copy)]
pub enum Claim<'a> {
    /// A JWT in compact form, in place of a password.
    Password(&'a [u8]),
    /// A JWT in compact form, by SASL OAUTHBEARER.
    OauthBearer(&'a [u8]),
}

/// Evidence that a principal was proven.
///
/// Made by `prove`, `prove_anew`, `prove_login` and `prove_certificate` alone. Per connection, or per request to the control plane.
#[must_use]
#[derive(Debug, Clone)]
pub struct Proven {
    principal: Arc<Principal>,
}

impl Proven {
    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Who it is, for those who list sessions.
    pub fn shared(&self) -> Arc<Principal> {
        Arc::clone(&self.principal)
    }

    /// When a session that began at `login` must end; both in seconds since 1970.
    pub fn session_deadline(&self, login: u64, lifetime: SessionLifetime) -> u64 {
        match lifetime {
            SessionLifetime::AtMost(lifetime) => login.saturating_add(lifetime.as_secs()),
            SessionLifetime::UntilTokenExpires => {
                let skew = match self.principal.proof {
                    // The skew that let the token in also keeps its session.
                    Proof::Password | Proof::OauthBearer => CLOCK_SKEW_SECONDS,
                    // No handshake grants any.
                    Proof::Certificate => 0,
                };
                self.principal.expires.saturating_add(skew)
            }
        }
    }
}

/// How long a session may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionLifetime {
    /// This long from login, also past the token's expiry.
    AtMost(Duration),
    /// As long as the token.
    UntilTokenExpires,
}

/// Why a claim was not proven.
///
/// For the operator's log: it says what is wrong, and holds no part of the token. A caller that
/// failed is told nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFailure {
    #[error("token of {bytes} bytes, longer than {TOKEN_BYTES_MAX}")]
    TokenTooLong { bytes: usize },
    #[error("not a signed JWT in compact form")]
    NotAToken,
    #[error("the header demands an extension (crit)")]
    CriticalExtension,
    #[error("the header says that it is not an access token (typ)")]
    NotAnAccessToken,
    #[error("signed with an algorithm that its issuer is not allowed")]
    AlgorithmNotAllowed,
    #[error("from an issuer that is not configured")]
    UnknownIssuer,
    #[error("signed with a key that its issuer's key set does not hold (kid)")]
    UnknownKey,
    #[error("signed with a key that its issuer did not publish when last asked (kid)")]
    KeyNotFetched { source_id: SourceId },
    #[error("the keys of its issuer could not be fetched, or not for too long")]
    NoKeys { source_id: SourceId },
    #[error("names no key, and its issuer has several")]
    KeyNotNamed,
    #[error("its algorithm does not fit its key")]
    KeyDoesNotFit,
    #[error("the signature is wrong")]
    BadSignature,
    #[error("has no claim {claim}")]
    MissingClaim { claim: &'static str },
    #[error("claim {claim} is malformed")]
    MalformedClaim { claim: &'static str },
    #[error("expired {seconds} s ago")]
    Expired { seconds: u64 },
    #[error("not valid until {seconds} s from now")]
    NotYetValid { seconds: u64 },
    #[error("meant for another audience")]
    WrongAudience,
    #[error("made for another login (nonce)")]
    WrongNonce,
    #[error("the issuer left the groups out because there are too many (_claim_names)")]
    GroupsLeftOut,
    #[error("{count} groups are too many")]
    TooManyGroups { count: usize },
    #[error("the delegation chain is too long")]
    DelegationTooDeep,
}

impl ProofFailure {
    /// Whose newer keys could prove the claim after all.
    pub fn newer_keys_of(&self) -> Option<SourceId> {
        match self {
            Self::KeyNotFetched { source_id } | Self::NoKeys { source_id } => Some(*source_id),
            Self::TokenTooLong { .. }
            | Self::NotAToken
            | Self::CriticalExtension
            | Self::NotAnAccessToken
            | Self::AlgorithmNotAllowed
            | Self::UnknownIssuer
            | Self::UnknownKey
            | Self::KeyNotNamed
            | Self::KeyDoesNotFit
            | Self::BadSignature
            | Self::MissingClaim { .. }
            | Self::MalformedClaim { .. }
            | Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::WrongAudience
            | Self::WrongNonce
            | Self::GroupsLeftOut
            | Self::TooManyGroups { .. }
            | Self::DelegationTooDeep => None,
        }
    }
}

/// Proves a claim at `now` (seconds since 1970), with the remote keys that are in force.
///
/// # Errors
/// The claim proves nothing, for the reason given.
pub fn prove(
    authenticators: &Authenticators,
    remote: &RemoteKeys,
    cache: &TokenCache,
    claim: Claim<'_>,
    now: u64,
) -> Result<Proven, ProofFailure> {
    let (token, proof) = presented(claim)?;
    let key = cache::key_of(token, proof);
    let generation = (authenticators.generation, remote.generation);
    if let Some(principal) = cache.find(&key, generation, now)
        && !authenticators.has_lapsed(&principal.issuer, remote, now)
    {
        return Ok(Proven { principal });
    }
    let principal = Arc::new(token::verify(authenticators, remote, token, proof, now)?);
    cache.keep(key, generation, &principal);
    Ok(Proven { principal })
}

/// Proves a claim at `now` (seconds since 1970) by its signature, whatever was verified before: for
/// callers of the control plane, who are few and on no shard.
///
/// # Errors
/// As `prove`.
pub fn prove_anew(
    authenticators: &Authenticators,
    remote: &RemoteKeys,
    claim: Claim<'_>,
    now: u64,
) -> Result<Proven, ProofFailure> {
    let (token, proof) = presented(claim)?;
    let principal = Arc::new(token::verify(authenticators, remote, token, proof, now)?);
    Ok(Proven { principal })
}

/// A login at the console: what an ID token must have been made for.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The exact `iss`.
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
}

/// Proves an ID token that its issuer gave for `login`, at `now` (seconds since 1970).
///
/// It is meant for the client, and not for this service as an access token is: it proves nothing
/// anywhere else.
///
/// # Errors
/// As `prove`.
pub fn prove_login(
    authenticators: &Authenticators,
    remote: &RemoteKeys,
    login: &Login<'_>,
    token: &[u8],
    now: u64,
) -> Result<Proven, ProofFailure> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(ProofFailure::TokenTooLong { bytes: token.len() });
    }
    let principal = token::verify_login(authenticators, remote, login, token, now)?;
    Ok(Proven {
        principal: Arc::new(principal),
    })
}

/// The principal of a token with these claims, were it genuine: for explanations. It proves nothing,
/// and so it is no `Proven`.
///
/// # Errors
/// The text is neither a JSON object nor a token, or its claims name nobody.
pub fn suppose(authenticators: &Authenticators, claims: &[u8]) -> Result<Principal, ProofFailure> {
    if claims.len() > TOKEN_BYTES_MAX {
        let bytes = claims.len();
        return Err(ProofFailure::TokenTooLong { bytes });
    }
    token::suppose(authenticators, claims)
}

/// The token of a claim that is short enough to be looked at, and how it came.
fn presented(claim: Claim<'_>) -> Result<(&[u8], Proof), ProofFailure> {
    let (token, proof) = match claim {
        Claim::Password(token) => (token, Proof::Password),
        Claim::OauthBearer(token) => (token, Proof::OauthBearer),
    };
    if token.len() > TOKEN_BYTES_MAX {
        return Err(ProofFailure::TokenTooLong { bytes: token.len() });
    }
    Ok((token, proof))
}
