//! One JWT against the configured issuers.
//!
//! Every check stands here, in the order it is made. It keeps nothing: caching is `cache`.
//!
//! Spec: RFC 7515 (JWS), RFC 7519 (JWT), RFC 8725 (JWT Best Current Practices).

use std::str;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use policy::{Principal, Proof};
use serde_json::{Map, Value};

use super::keys::NoKey;
use super::{
    Authenticators, CLOCK_SKEW_SECONDS, Issuer, IssuerKeys, Login, ProofFailure, RemoteKeys,
    claims, json,
};

/// Longest token that is looked at.
///
/// Bytes. The largest that Entra ID makes, 200 groups, is below 10 KiB; 16 KiB leaves room, and a
/// peer that is not known yet makes us hold no more.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Verifies `token`, presented as `proof` says, at most `TOKEN_BYTES_MAX` long, at `now` (seconds since 1970).
pub(super) fn verify(
    authenticators: &Authenticators,
    remote: &RemoteKeys,
    token: &[u8],
    proof: Proof,
    now: u64,
) -> Result<Principal, ProofFailure> {
    let parts = Parts::split(token)?;
    let header = Header::read(&parts)?;
    let members = parts.object(parts.payload)?;

    // The issuer named by a token that nobody has verified yet chooses the keys, nothing else.
    let named = members
        .get("iss")
        .ok_or(ProofFailure::MissingClaim { claim: "iss" })?;
    let named = named
        .as_str()
        .ok_or(ProofFailure::MalformedClaim { claim: "iss" })?;
    let issuer = authenticators
        .issuer(named)
        .ok_or(ProofFailure::UnknownIssuer)?;

    check_signature(issuer, remote, &header, &parts, now)?;
    let expires = check_times(&members, now)?;
    check_audience(&issuer.audience, &members)?;
    principal(issuer, &members, expires, proof)
}

/// Verifies an ID token that was made for `login`, at most `TOKEN_BYTES_MAX` long, at `now`.
///
/// Spec: OpenID Connect Core 1.0, "ID Token Validation".
pub(super) fn verify_login(
    authenticators: &Authenticators,
    remote: &RemoteKeys,
    login: &Login<'_>,
    token: &[u8],
    now: u64,
) -> Result<Principal, ProofFailure> {
    let parts = Parts::split(token)?;
    let header = Header::read(&parts)?;
    let members = parts.object(parts.payload)?;
    let named = claims::text(&members, "iss")?;
    let named = named.ok_or(ProofFailure::MissingClaim { claim: "iss" })?;
    let issuer = login.issuer;
    if named != issuer {
        return Err(ProofFailure::UnknownIssuer);
    }
    let issuer = authenticators
        .issuer(issuer)
        .ok_or(ProofFailure::UnknownIssuer)?;

    check_signature(issuer, remote, &header, &parts, now)?;
    let expires = check_times(&members, now)?;
    let client = [login.client_id.to_owned()];
    check_audience(&client, &members)?;
    // Made for another client that lets this one read along.
    let party = claims::text(&members, "azp")?;
    if party.is_some_and(|party| party != login.client_id) {
        return Err(ProofFailure::WrongAudience);
    }
    if claims::text(&members, "nonce")?.as_deref() != Some(login.nonce) {
        return Err(ProofFailure::WrongNonce);
    }
    principal(issuer, &members, expires, Proof::OauthBearer)
}

/// The principal of a token with these claims, were it genuine: a JSON object, or a token whose
/// signature and times nobody looks at. The only issuer is taken for one that is not named.
pub(super) fn suppose(
    authenticators: &Authenticators,
    text: &[u8],
) -> Result<Principal, ProofFailure> {
    let text = text.trim_ascii();
    let members = match json::object(text) {
        Some(members) => members,
        None => {
            let parts = Parts::split(text)?;
            parts.object(parts.payload)?
        }
    };
    let named = claims::text(&members, "iss")?;
    let issuer = match (&named, authenticators.issuers()) {
        (Some(named), _) => authenticators.issuer(named),
        (None, [only]) => Some(only),
        (None, _) => return Err(ProofFailure::MissingClaim { claim: "iss" }),
    };
    let issuer = issuer.ok_or(ProofFailure::UnknownIssuer)?;
    principal(issuer, &members, u64::MAX, Proof::Password)
}

/// The three parts as they arrived, still encoded.
struct Parts<'t> {
    header: &'t str,
    payload: &'t str,
    signature: &'t str,
    /// What the signature covers: header, dot, payload.
    signed: &'t str,
}

impl<'t> Parts<'t> {
    fn split(token: &'t [u8]) -> Result<Self, ProofFailure> {
        let token = str::from_utf8(token).map_err(|_| ProofFailure::NotAToken)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(ProofFailure::NotAToken)?;
        let (header, payload) = signed.split_once('.').ok_or(ProofFailure::NotAToken)?;
        if payload.contains('.') {
            return Err(ProofFailure::NotAToken);
        }
        Ok(Self {
            header,
            payload,
            signature,
            signed,
        })
    }

    fn object(&self, part: &str) -> Result<Map<String, Value>, ProofFailure> {
        let bytes = URL_SAFE_NO_PAD
            .decode(part)
            .map_err(|_| ProofFailure::NotAToken)?;
        json::object(&bytes).ok_or(ProofFailure::NotAToken)
    }
}

struct Header {
    algorithm: Algorithm,
    key_id: Option<String>,
}

impl Header {
    fn read(parts: &Parts<'_>) -> Result<Self, ProofFailure> {
        let members = parts.object(parts.header)?;
        // An extension that must be understood is one that we do not understand.
        if members.contains_key("crit") {
            return Err(ProofFailure::CriticalExtension);
        }
        let kind = claims::text(&members, "typ")?;
        if !kind.as_deref().is_none_or(is_access_token) {
            return Err(ProofFailure::NotAnAccessToken);
        }
        let named = members
            .get("alg")
            .and_then(Value::as_str)
            .ok_or(ProofFailure::NotAToken)?;
        let algorithm = named
            .parse()
            .map_err(|_| ProofFailure::AlgorithmNotAllowed)?;
        Ok(Self {
            algorithm,
            key_id: claims::text(&members, "kid")?,
        })
    }
}

/// Types that a token for calling a service has. Others, such as `logout+jwt`, are signed by the
/// same issuer with the same keys for another purpose.
fn is_access_token(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let kind = kind.strip_prefix("application/").unwrap_or(&kind);
    matches!(kind, "jwt" | "at+jwt" | "jose")
}

fn check_signature(
    issuer: &Issuer,
    remote: &RemoteKeys,
    header: &Header,
    parts: &Parts<'_>,
    now: u64,
) -> Result<(), ProofFailure> {
    if !issuer.algorithms.contains(&header.algorithm) {
        return Err(ProofFailure::AlgorithmNotAllowed);
    }
    let (keys, source) = match &issuer.keys {
        IssuerKeys::Fixed(keys) => (keys, None),
        IssuerKeys::Remote(id, _) => {
            let keys = remote.keys(*id, now);
            let keys = keys.ok_or(ProofFailure::NoKeys { source_id: *id })?;
            (keys, Some(*id))
        }
    };
    let key = keys
        .find(header.key_id.as_deref(), header.algorithm)
        .map_err(|no_key| match (no_key, source) {
            (NoKey::UnknownId, Some(source_id)) => ProofFailure::KeyNotFetched { source_id },
            (NoKey::UnknownId, None) => ProofFailure::UnknownKey,
            (NoKey::Ambiguous, _) => ProofFailure::KeyNotNamed,
            (NoKey::WrongType, _) => ProofFailure::KeyDoesNotFit,
        })?;
    let verified = jsonwebtoken::crypto::verify(
        parts.signature,
        parts.signed.as_bytes(),
        key.decoding_key(),
        header.algorithm,
    );
    match verified {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(ProofFailure::BadSignature),
    }
}

/// Checks `exp` and `nbf`, and gives back `exp`.
fn check_times(members: &Map<String, Value>, now: u64) -> Result<u64, ProofFailure> {
    let expires = seconds(members, "exp")?.ok_or(ProofFailure::MissingClaim { claim: "exp" })?;
    if now >= expires.saturating_add(CLOCK_SKEW_SECONDS) {
        return Err(ProofFailure::Expired {
            seconds: now - expires,
        });
    }
    let not_before = seconds(members, "nbf")?.unwrap_or(0);
    if not_before > now.saturating_add(CLOCK_SKEW_SECONDS) {
        return Err(ProofFailure::NotYetValid {
            seconds: not_before - now,
        });
    }
    Ok(expires)
}

/// A NumericDate in whole seconds. Fractions are legal and are cut off.
fn seconds(members: &Map<String, Value>, claim: &'static str) -> Result<Option<u64>, ProofFailure> {
    let malformed = ProofFailure::MalformedClaim { claim };
    match members.get(claim) {
        None => Ok(None),
        Some(Value::Number(number)) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => Ok(Some(whole)),
            (None, Some(fraction)) if (0.0..SECONDS_MAX).contains(&fraction) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the range check above keeps it inside u64"
                )]
                let whole = fraction as u64;
                Ok(Some(whole))
            }
            (None, _) => Err(malformed),
        },
        Some(_) => Err(malformed),
    }
}

/// Largest fractional NumericDate: f64 holds whole seconds exactly up to here.
const SECONDS_MAX: f64 = 9_007_199_254_740_992.0;

fn check_audience(audience: &[String], members: &Map<String, Value>) -> Result<(), ProofFailure> {
    let malformed = ProofFailure::MalformedClaim { claim: "aud" };
    let ours = |meant: &str| audience.iter().any(|own| own == meant);
    let meant = match members.get("aud") {
        None => return Err(ProofFailure::MissingClaim { claim: "aud" }),
        Some(Value::String(one)) => ours(one),
        Some(Value::Array(many)) => {
            let texts: Option<Vec<&str>> = many.iter().map(Value::as_str).collect();
            texts.ok_or(malformed)?.into_iter().any(ours)
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            return Err(malformed);
        }
    };
    if meant {
        Ok(())
    } else {
        Err(ProofFailure::WrongAudience)
    }
}

fn principal(
    issuer: &Issuer,
    members: &Map<String, Value>,
    expires: u64,
    proof: Proof,
) -> Result<Principal, ProofFailure> {
    let subject =
        claims::text(members, "sub")?.ok_or(ProofFailure::MissingClaim { claim: "sub" })?;
    Ok(Principal {
        issuer: issuer.issuer.clone(),
        name: issuer
            .mapping
            .name(members)
            .unwrap_or_else(|| subject.clone()),
        subject,
        groups: issuer.mapping.groups(members)?,
        delegation: claims::delegation(members, &issuer.issuer)?,
        token_id: claims::text(members, "jti")?,
        expires,
        proof,
    })
}
