//! The built-in issuer: tokens for agents where no identity provider is at hand.
//!
//! It signs; its tokens are verified like those of any other issuer. Who may ask it for one is
//! decided at the admin socket.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;

use super::claims::is_name;
use super::{ClaimMapping, ClaimPath, Issuer, IssuerKeys, KeySet, crypto};
use crate::config::{Audience, Secret, StateDirectory, StateError};
use crate::control::Roles;

/// The audience of its tokens.
const AUDIENCE: &str = "sallyport";

/// The private key in the state directory: PKCS#8, PEM.
/// What it is called among the issuers of the configuration.
pub const BUILTIN_ISSUER: &str = "builtin";

const KEY_FILE: &str = "issuer-key.pem";

/// This installation's identifier in the state directory. Apart from the key, so that a new key
/// does not make every agent a new identity.
const INSTANCE_FILE: &str = "instance-id";

/// Most groups that one minted token may carry; keeps it far below the token limit.
const GROUPS_MAX: usize = 64;

/// Longest agent or group name that is minted, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// The key and name that built-in tokens are signed with. Per process, kept over restarts.
pub struct BuiltinIssuer {
    issuer: String,
    /// Where it is served, if the operator said so: the `iss` of new tokens then.
    url: Option<String>,
    key_id: String,
    signing: EncodingKey,
    public_key: Vec<u8>,
    lifetime_max: Duration,
    group_prefix: String,
}

/// What a token shall say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The agent: subject of the token.
    pub agent: String,
    /// Groups, without the issuer's prefix.
    pub groups: Vec<String>,
    /// From now until it expires.
    pub lifetime: Duration,
}

/// A signed token. The text is a credential: it goes to whoever asked and nowhere else.
pub struct MintedToken {
    /// The JWT in compact form.
    pub text: Secret,
    /// Its `jti`.
    pub id: String,
    /// Seconds since 1970.
    pub expires: u64,
}

/// Why the issuer could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BuiltinIssuerError {
    #[error("the built-in issuer's {file}")]
    State {
        file: &'static str,
        source: StateError,
    },
    #[error("{KEY_FILE} in the state directory is not an Ed25519 private key in PKCS#8 PEM")]
    Key,
    #[error("{INSTANCE_FILE} in the state directory does not hold 32 hexadecimal digits")]
    Instance,
    #[error("the system gave no random numbers")]
    Random,
}

/// Why a token was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    #[error(
        "an agent or group name has 1 to {NAME_BYTES_MAX} bytes, none of them a space, a comma, \
         a star or a control character"
    )]
    Name,
    #[error("a token may carry {GROUPS_MAX} groups at most")]
    TooManyGroups,
    #[error(
        "a token lives from one second up to builtin_issuer.token_lifetime_max ({} s)",
        max.as_secs()
    )]
    Lifetime { max: Duration },
    #[error("the token could not be signed")]
    Signing,
}

#[derive(Serialize)]
struct Claims<'r> {
    iss: &'r str,
    sub: &'r str,
    aud: &'r str,
    exp: u64,
    iat: u64,
    jti: &'r str,
    groups: &'r [String],
}

impl BuiltinIssuer {
    /// Takes key and name from the state directory, and makes them on first start. With a `url` new
    /// tokens have that as `iss`; those of before stay valid, and all of them prove the same
    /// principals.
    ///
    /// # Errors
    /// State that cannot be read or written, or that is not what we once wrote.
    pub fn open(
        state: &StateDirectory,
        lifetime_max: Duration,
        group_prefix: &str,
        url: Option<String>,
    ) -> Result<Self, BuiltinIssuerError> {
        crypto::install();
        let instance = kept(state, INSTANCE_FILE, new_instance)?;
        let instance = std::str::from_utf8(instance.expose())
            .ok()
            .filter(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))
            .ok_or(BuiltinIssuerError::Instance)?
            .to_owned();
        let pem = kept(state, KEY_FILE, new_key)?;
        let pem = std::str::from_utf8(pem.expose()).map_err(|_| BuiltinIssuerError::Key)?;
        let pair = rcgen::KeyPair::from_pem(pem).map_err(|_| BuiltinIssuerError::Key)?;
        if pair.algorithm() != &rcgen::PKCS_ED25519 {
            return Err(BuiltinIssuerError::Key);
        }
        let public_key = pair.public_key_raw().to_vec();
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, &public_key).as_ref());
        Ok(Self {
            issuer: format!("sallyport:{instance}"),
            url,
            key_id: thumbprint.chars().take(16).collect(),
            signing: EncodingKey::from_ed_der(pair.serialized_der()),
            public_key,
            lifetime_max,
            group_prefix: group_prefix.to_owned(),
        })
    }

    /// The issuer of the principals that its tokens prove.
    pub fn name(&self) -> &str {
        &self.issuer
    }

    /// The `iss` of the tokens that it makes now.
    pub fn iss(&self) -> &str {
        self.url.as_deref().unwrap_or(&self.issuer)
    }

    /// Its public keys, as a JWK set.
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({ "keys": [{
            "kty": "OKP",
            "crv": "Ed25519",
            "use": "sig",
            "alg": "EdDSA",
            "kid": self.key_id,
            "x": URL_SAFE_NO_PAD.encode(&self.public_key),
        }]})
    }

    /// Longest life of a token.
    pub fn lifetime_max(&self) -> Duration {
        self.lifetime_max
    }

    /// What verifies its tokens.
    pub fn as_issuer(&self) -> Issuer {
        let member = |name: &str| ClaimPath::of_name(name);
        Issuer {
            name: BUILTIN_ISSUER.to_owned(),
            issuer: self.issuer.clone(),
            alias: self.url.clone(),
            audience: vec![AUDIENCE.to_owned()],
            algorithms: vec![Algorithm::EdDSA],
            keys: IssuerKeys::Fixed(KeySet::of_ed25519(&self.key_id, &self.public_key)),
            mapping: ClaimMapping {
                groups: member("groups"),
                group_prefix: self.group_prefix.clone(),
                group_map: BTreeMap::new(),
                name: member("name"),
            },
        }
    }

    /// The first of these groups of a token that has a role in the appliance, as it is written or
    /// as the token's principal would carry it.
    pub fn role_group(&self, groups: &[String], roles: &Roles) -> Option<String> {
        let prefixed = |group: &String| format!("{}{group}", self.group_prefix);
        let found = groups.iter().find(|group| roles.names(group));
        found.cloned().or_else(|| {
            let mut prefixed = groups.iter().map(prefixed);
            prefixed.find(|group| roles.names(group))
        })
    }

    /// Whether tokens may name this agent and these groups.
    ///
    /// # Errors
    /// A name out of bounds, or too many of them.
    pub fn check_names(agent: &str, groups: &[String]) -> Result<(), MintError> {
        if groups.len() > GROUPS_MAX {
            return Err(MintError::TooManyGroups);
        }
        let mut names = groups.iter().map(String::as_str).chain([agent]);
        if !names.all(is_minted_name) {
            return Err(MintError::Name);
        }
        Ok(())
    }

    /// Signs a token that is valid from `now` (seconds since 1970).
    ///
    /// # Errors
    /// Names or a lifetime out of bounds.
    pub fn mint(&self, request: &TokenRequest, now: u64) -> Result<MintedToken, MintError> {
        Self::check_names(&request.agent, &request.groups)?;
        let lifetime = request.lifetime.as_secs();
        if lifetime == 0 || request.lifetime > self.lifetime_max {
            return Err(MintError::Lifetime {
                max: self.lifetime_max,
            });
        }
        let id = random_hex().map_err(|_| MintError::Signing)?;
        let claims = Claims {
            iss: self.iss(),
            sub: &request.agent,
            aud: AUDIENCE,
            exp: now.saturating_add(lifetime),
            iat: now,
            jti: &id,
            groups: &request.groups,
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.key_id.clone());
        let text = jsonwebtoken::encode(&header, &claims, &self.signing)
            .map_err(|_| MintError::Signing)?;
        Ok(MintedToken {
            text: Secret::new(text.into_bytes()),
            expires: claims.exp,
            id,
        })
    }
}

fn is_minted_name(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, ',' | '*');
    is_name(name) && name.len() <= NAME_BYTES_MAX && name.chars().all(plain)
}

/// The file's contents, made and kept first when there is no such file.
fn kept(
    state: &StateDirectory,
    file: &'static str,
    make: fn() -> Result<Vec<u8>, BuiltinIssuerError>,
) -> Result<Secret, BuiltinIssuerError> {
    let failed = |source| BuiltinIssuerError::State { file, source };
    if let Some(found) = state.private(file).map_err(failed)? {
        return Ok(found);
    }
    let made = Secret::new(make()?);
    state
        .create(file, Audience::Owner, made.expose())
        .map_err(failed)?;
    // Another process may have been first; its file is the one that counts.
    Ok(state.private(file).map_err(failed)?.unwrap_or(made))
}

fn new_instance() -> Result<Vec<u8>, BuiltinIssuerError> {
    random_hex().map(String::into_bytes)
}

fn new_key() -> Result<Vec<u8>, BuiltinIssuerError> {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)
        .map_err(|_| BuiltinIssuerError::Random)?;
    Ok(pair.serialize_pem().into_bytes())
}

/// 128 random bits as 32 hexadecimal digits.
fn random_hex() -> Result<String, BuiltinIssuerError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| BuiltinIssuerError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
