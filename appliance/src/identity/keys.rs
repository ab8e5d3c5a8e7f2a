//! The public keys of an issuer, as read from a JWK set.
//!
//! A set is immutable; when keys change a new one is published. It fetches nothing: bytes come from
//! a file, or from the control plane.
//!
//! Spec: RFC 7517 (JSON Web Key), RFC 7518 section "Cryptographic Algorithms for Keys", RFC 8037.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

/// Most keys that one set may hold. Large providers publish below ten; a set of thousands would
/// be an attack on our memory.
const KEYS_MAX: usize = 64;

/// Shortest RSA modulus that verifies, in bytes (2048 bits; ring refuses shorter ones too).
const RSA_MODULUS_BYTES_MIN: usize = 256;

/// Largest JWK set that is read, in bytes. 64 RSA keys with their certificate chains fit.
pub const JWKS_BYTES_MAX: u64 = 1024 * 1024;

/// Which algorithms a key can verify. One key type serves one family, so that a token's `alg`
/// never chooses how a key is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyType {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl KeyType {
    fn fits(self, algorithm: Algorithm) -> bool {
        match self {
            Self::Rsa => matches!(
                algorithm,
                Algorithm::RS256
                    | Algorithm::RS384
                    | Algorithm::RS512
                    | Algorithm::PS256
                    | Algorithm::PS384
                    | Algorithm::PS512
            ),
            Self::P256 => algorithm == Algorithm::ES256,
            Self::P384 => algorithm == Algorithm::ES384,
            Self::Ed25519 => algorithm == Algorithm::EdDSA,
        }
    }
}

/// One public key.
#[derive(Debug, Clone)]
pub(super) struct VerificationKey {
    id: Option<String>,
    kind: KeyType,
    /// What the set says the key is for; nothing else is accepted from it then.
    only: Option<Algorithm>,
    key: DecodingKey,
}

impl VerificationKey {
    pub(super) fn decoding_key(&self) -> &DecodingKey {
        &self.key
    }

    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        self.kind.fits(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }
}

/// The keys of one issuer.
#[derive(Debug, Clone)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
}

/// Why a JWK set was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("not a JWK set: expected a JSON object with a list \"keys\"")]
    Malformed,
    #[error("it holds {count} keys, more than {KEYS_MAX}")]
    TooManyKeys { count: usize },
    #[error("key {position} is a shared secret (\"oct\"); only public keys may verify tokens")]
    SharedSecret { position: usize },
    #[error("key {position} contains a private key; publish only the public half")]
    PrivateKey { position: usize },
    #[error("key {position} is malformed")]
    MalformedKey { position: usize },
    #[error("key {position} has the id of one before it")]
    RepeatedId { position: usize },
    #[error("no key in it can verify a token (RSA of 2048 bits or more, P-256, P-384, Ed25519)")]
    NothingUsable,
}

/// Why no key was chosen for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKey {
    UnknownId,
    Ambiguous,
    WrongType,
}

impl KeySet {
    /// Reads a JWK set. Keys for encryption and of types that no accepted algorithm uses are left
    /// out.
    ///
    /// # Errors
    /// The set is malformed, holds secrets, repeats an id, or has no usable key.
    pub fn from_jwks(bytes: &[u8]) -> Result<Self, KeySetError> {
        let mut set = super::json::object(bytes).ok_or(KeySetError::Malformed)?;
        let Some(serde_json::Value::Array(entries)) = set.remove("keys") else {
            return Err(KeySetError::Malformed);
        };
        if entries.len() > KEYS_MAX {
            return Err(KeySetError::TooManyKeys {
                count: entries.len(),
            });
        }
        let mut keys: Vec<VerificationKey> = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let position = index + 1;
            if entry.get("kty").and_then(|kty| kty.as_str()) == Some("oct") {
                return Err(KeySetError::SharedSecret { position });
            }
            if entry.get("d").is_some() {
                return Err(KeySetError::PrivateKey { position });
            }
            if !has_known_curve(&entry) {
                continue;
            }
            let jwk: Jwk = serde_json::from_value(entry)
                .map_err(|_| KeySetError::MalformedKey { position })?;
            if let Some(key) = verification_key(&jwk, position)? {
                if key.id.is_some() && keys.iter().any(|other| other.id == key.id) {
                    return Err(KeySetError::RepeatedId { position });
                }
                keys.push(key);
            }
        }
        if keys.is_empty() {
            Err(KeySetError::NothingUsable)
        } else {
            Ok(Self { keys })
        }
    }

    /// The set of one Ed25519 key, for the built-in issuer.
    pub(super) fn of_ed25519(id: &str, public_key: &[u8]) -> Self {
        let key = VerificationKey {
            id: Some(id.to_owned()),
            kind: KeyType::Ed25519,
            only: Some(Algorithm::EdDSA),
            key: DecodingKey::from_ed_der(public_key),
        };
        Self { keys: vec![key] }
    }

    /// The key for a token with this header.
    ///
    /// A named key is that key or nothing. Without a name there must be exactly one key that fits.
    pub(super) fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&VerificationKey, NoKey> {
        if let Some(id) = id {
            let named = self.keys.iter().find(|key| key.id.as_deref() == Some(id));
            let key = named.ok_or(NoKey::UnknownId)?;
            return if key.fits(algorithm) {
                Ok(key)
            } else {
                Err(NoKey::WrongType)
            };
        }
        let mut fitting = self.keys.iter().filter(|key| key.fits(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(NoKey::Ambiguous),
            (None, _) => Err(NoKey::WrongType),
        }
    }
}

/// Whether the key is on a curve that a reader of key sets must know, or on none. Others are left
/// out: a provider that adds a key for newer clients must not lose those it has.
///
/// Spec: RFC 7517, "JWK Set Format".
fn has_known_curve(entry: &serde_json::Value) -> bool {
    let curve = entry.get("crv").and_then(|curve| curve.as_str());
    curve.is_none_or(|curve| matches!(curve, "P-256" | "P-384" | "P-521" | "Ed25519"))
}

/// Whether the set means the key for signatures, as far as it says. `jwt-svid` is what SPIFFE says.
fn may_verify(jwk: &Jwk) -> bool {
    let usage = match &jwk.common.public_key_use {
        None | Some(PublicKeyUse::Signature) => true,
        Some(PublicKeyUse::Other(usage)) => usage == "jwt-svid",
        Some(PublicKeyUse::Encryption) => false,
    };
    let operations = jwk.common.key_operations.as_ref();
    usage && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}

/// Length of a modulus without leading zeros.
fn modulus_bytes(text: &str) -> Option<usize> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    Some(bytes.iter().skip_while(|byte| **byte == 0).count())
}

fn verification_key(jwk: &Jwk, position: usize) -> Result<Option<VerificationKey>, KeySetError> {
    if !may_verify(jwk) {
        return Ok(None);
    }
    let kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => match modulus_bytes(&rsa.n) {
            Some(length) if length >= RSA_MODULUS_BYTES_MIN => KeyType::Rsa,
            Some(_) => return Ok(None),
            None => return Err(KeySetError::MalformedKey { position }),
        },
        AlgorithmParameters::EllipticCurve(point) => match point.curve {
            EllipticCurve::P256 => KeyType::P256,
            EllipticCurve::P384 => KeyType::P384,
            EllipticCurve::P521 | EllipticCurve::Ed25519 | _ => return Ok(None),
        },
        AlgorithmParameters::OctetKeyPair(pair) => match pair.curve {
            EllipticCurve::Ed25519 => KeyType::Ed25519,
            EllipticCurve::P256 | EllipticCurve::P384 | EllipticCurve::P521 | _ => return Ok(None),
        },
        AlgorithmParameters::OctetKey(_) => return Err(KeySetError::SharedSecret { position }),
        AlgorithmParameters::Other(_) | _ => return Ok(None),
    };
    let only = match jwk.common.key_algorithm {
        None => None,
        Some(named) => match Algorithm::try_from(named) {
            Ok(algorithm) if kind.fits(algorithm) => Some(algorithm),
            // Made for an algorithm that is not accepted, RSA-OAEP for example.
            Ok(_) | Err(_) => return Ok(None),
        },
    };
    let key = DecodingKey::from_jwk(jwk).map_err(|_| KeySetError::MalformedKey { position })?;
    Ok(Some(VerificationKey {
        id: jwk.common.key_id.clone(),
        kind,
        only,
        key,
    }))
}
