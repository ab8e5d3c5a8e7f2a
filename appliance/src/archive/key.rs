//! Keys that heads are signed with, and the list of public ones.
//!
//! Private keys come from the configuration; a key that is made here stays in the state directory.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::chained::{ChainedError, Lines};
use crate::config::{Audience, Secret, StateDirectory, StateError};

/// Name of the private key in the state directory: PKCS#8, PEM.
const OWN_KEY: &str = "archive-key.pem";

/// Name of the list of public keys in the archive.
pub(super) const FILE: &str = "keys.ndjson";

/// Bytes of the digest of a public key that name it.
const ID_BYTES: usize = 8;

/// Most public keys that are read from a list.
const KEYS_MAX: usize = 4096;

/// Why there is no key to sign with.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("`{OWN_KEY}`")]
    State(#[from] StateError),
    #[error("it is not an Ed25519 private key in PKCS#8 PEM")]
    NotAKey,
    #[error("no key could be made")]
    NotMade,
}

/// A public key and what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PublicKey(pub(super) [u8; 32]);

impl PublicKey {
    /// The first bytes of its SHA-256, in hexadecimal.
    pub(super) fn id(&self) -> String {
        let digest = super::chained::Hash::of(&[&self.0]);
        digest
            .0
            .iter()
            .take(ID_BYTES)
            .fold(String::new(), |mut id, byte| {
                // Writing to a String does not fail.
                let _ = write!(id, "{byte:02x}");
                id
            })
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }

    pub(super) fn to_base64(self) -> String {
        STANDARD.encode(self.0)
    }

    pub(super) fn from_base64(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

/// A key that signs heads. It has no `Debug`.
pub(super) struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    fn from_pem(pem: &Secret) -> Result<Self, KeyError> {
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(pem.expose()).map_err(|_| KeyError::NotAKey)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map_err(|_| KeyError::NotAKey)?;
        let public = pair.public_key().as_ref().first_chunk().copied();
        Ok(Self {
            public: PublicKey(public.ok_or(KeyError::NotAKey)?),
            pair,
        })
    }

    pub(super) fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

/// The keys of this process: one that signs, and those that may introduce it.
pub struct ArchiveKeys {
    pub(super) signing: SigningKey,
    /// Used once, to introduce the signing key where another one signed last.
    pub(super) previous: Vec<SigningKey>,
}

impl ArchiveKeys {
    /// The keys that the configuration names; without `signing` the one in the state directory,
    /// which is made on first start.
    ///
    /// # Errors
    /// What is named is no key, or the state directory cannot be read or written.
    pub fn of(
        state: &StateDirectory,
        signing: Option<&Secret>,
        previous: Option<&Secret>,
    ) -> Result<Self, KeyError> {
        let mut older: Vec<SigningKey> = Vec::new();
        if let Some(previous) = previous {
            older.push(SigningKey::from_pem(previous)?);
        }
        let signing = match signing {
            Some(pem) => {
                // The appliance's own key signed before another one was configured.
                if let Some(own) = state.private(OWN_KEY)? {
                    older.push(SigningKey::from_pem(&own)?);
                }
                SigningKey::from_pem(pem)?
            }
            None => own_key(state)?,
        };
        Ok(Self {
            signing,
            previous: older,
        })
    }
}

fn own_key(state: &StateDirectory) -> Result<SigningKey, KeyError> {
    if let Some(found) = state.private(OWN_KEY)? {
        return SigningKey::from_pem(&found);
    }
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(|_| KeyError::NotMade)?;
    let made = Secret::new(pair.serialize_pem().into_bytes());
    state.create(OWN_KEY, Audience::Owner, made.expose())?;
    // Another process may have been first; its file is the one that counts.
    SigningKey::from_pem(&state.private(OWN_KEY)?.unwrap_or(made))
}

/// A line of the list of public keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLine {
    pub id: String,
    /// Ed25519, 32 bytes in base64.
    pub public: String,
    /// When it was first used, in microseconds since 1970.
    #[serde(default)]
    pub since: u64,
}

impl KeyLine {
    pub(super) fn of(key: PublicKey, since: u64) -> Self {
        Self {
            id: key.id(),
            public: key.to_base64(),
            since,
        }
    }

    /// The key, if the line names it rightly.
    pub(super) fn key(&self) -> Option<PublicKey> {
        PublicKey::from_base64(&self.public).filter(|key| key.id() == self.id)
    }
}

/// The lines of a list of public keys.
///
/// # Errors
/// When the file cannot be read. What is no key is left out.
pub(super) fn listed(path: &Path) -> Result<Vec<KeyLine>, ChainedError> {
    let mut lines = Lines::open(path)?;
    let mut found = Vec::new();
    while let Some(line) = lines.next_line()? {
        let line: Option<KeyLine> = serde_json::from_slice(line).ok();
        found.extend(line.filter(|line| line.key().is_some()));
        if found.len() >= KEYS_MAX {
            break;
        }
    }
    Ok(found)
}
