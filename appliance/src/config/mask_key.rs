//! The key of masks with `hash`: who does not have it can not try values.
//!
//! Made on first start and kept in the state directory, so that equal values stay equal over
//! restarts. It is another for each target: what is joined within one tells nothing about the next.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hkdf;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::secret::Secret;
use super::state::{Audience, StateDirectory, StateError};

/// Name of the file in the state directory. It holds the key in base64: a line break at the end of a
/// secret's file is not part of the secret, and random bytes may end in one.
const FILE: &str = "mask.key";

/// Bytes of the key: the output of SHA-256, more add nothing to HMAC-SHA256.
const KEY_BYTES: usize = 32;

/// Bytes of a digest. Half of SHA-256's: by then no two values of a table are the same by chance.
const DIGEST_BYTES: usize = 16;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum MaskKeyError {
    #[error("`{FILE}`")]
    State(#[from] StateError),
    #[error("`{FILE}` in the state directory does not hold {KEY_BYTES} bytes in base64")]
    Damaged,
    #[error("the system has no random numbers")]
    Random,
}

/// The key of which those of the targets are made. Per process.
#[derive(Debug)]
pub struct MaskKey(hkdf::Prk);

impl MaskKey {
    /// The key that is kept, made first where there is none.
    ///
    /// # Errors
    /// The file can not be read or made, or is not one of ours: a key in its place would quietly
    /// break what was joined by it.
    pub fn kept(state: &StateDirectory) -> Result<Self, MaskKeyError> {
        if let Some(found) = state.private(FILE)? {
            return Self::of(&found);
        }
        let mut made = vec![0; KEY_BYTES];
        SystemRandom::new()
            .fill(&mut made)
            .map_err(|_| MaskKeyError::Random)?;
        let made = Secret::new(made);
        let made = Secret::new(STANDARD.encode(made.expose()).into_bytes());
        state.create(FILE, Audience::Owner, made.expose())?;
        // Another process may have been first; its file is the one that counts.
        Self::of(&state.private(FILE)?.unwrap_or(made))
    }

    fn of(secret: &Secret) -> Result<Self, MaskKeyError> {
        let key = STANDARD.decode(secret.expose());
        let key = Secret::new(key.map_err(|_| MaskKeyError::Damaged)?);
        if key.expose().len() != KEY_BYTES {
            return Err(MaskKeyError::Damaged);
        }
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"sallyport mask");
        Ok(Self(salt.extract(key.expose())))
    }

    /// The key of one target, by its name.
    ///
    /// # Errors
    /// Never with the lengths that are used here; `ring` does not say so in a type.
    pub fn for_target(&self, name: &str) -> Result<TargetMaskKey, MaskKeyError> {
        let info = [name.as_bytes()];
        let expanded = self.0.expand(&info, hmac::HMAC_SHA256);
        let key = expanded.map_err(|_| MaskKeyError::Damaged)?;
        Ok(TargetMaskKey(key.into()))
    }
}

/// The key of one target.
#[derive(Debug, Clone)]
pub struct TargetMaskKey(hmac::Key);

impl TargetMaskKey {
    /// What is shown instead of a value.
    #[must_use]
    pub fn digest(&self, value: &[u8]) -> [u8; DIGEST_BYTES] {
        let tag = hmac::sign(&self.0, value);
        let first = tag.as_ref().first_chunk::<DIGEST_BYTES>();
        // A tag of HMAC-SHA256 has 32 bytes.
        first.copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::state::Writing;

    fn digest(state: &StateDirectory, target: &str, value: &[u8]) -> [u8; DIGEST_BYTES] {
        let key = MaskKey::kept(state).unwrap();
        key.for_target(target).unwrap().digest(value)
    }

    #[test]
    fn equal_values_stay_equal_within_a_target_and_over_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().to_owned(), Writing::Create);
        let first = digest(&state, "orders", b"alice");
        assert_eq!(digest(&state, "orders", b"alice"), first);
        assert_ne!(digest(&state, "orders", b"alicf"), first);
        assert_ne!(digest(&state, "order", b"salice"), first);
        assert_ne!(digest(&state, "billing", b"alice"), first);
    }

    #[test]
    fn another_state_directory_has_another_key() {
        let of = |directory: &tempfile::TempDir| {
            let state = StateDirectory::new(directory.path().to_owned(), Writing::Create);
            digest(&state, "orders", b"alice")
        };
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_ne!(of(&one), of(&two));
    }

    #[test]
    fn a_known_key_gives_known_digests() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().to_owned(), Writing::Create);
        let key = STANDARD.encode([7; KEY_BYTES]);
        state.create(FILE, Audience::Owner, key.as_bytes()).unwrap();
        let digest = digest(&state, "orders", b"alice");
        // HMAC-SHA256 under HKDF-SHA256 (RFC 5869), with Python's hmac and hashlib.
        let expected = "db7b0b9a13804774669213cac72e28d6";
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn a_key_may_end_in_any_byte() {
        for last in [b'\n', b'\r', b' ', 0] {
            let mut key = [7; KEY_BYTES];
            key[KEY_BYTES - 1] = last;
            let directory = tempfile::tempdir().unwrap();
            let state = StateDirectory::new(directory.path().to_owned(), Writing::Create);
            let text = STANDARD.encode(key) + "\n";
            state
                .create(FILE, Audience::Owner, text.as_bytes())
                .unwrap();
            assert!(MaskKey::kept(&state).is_ok());
        }
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().to_owned(), Writing::Create);
        state.create(FILE, Audience::Owner, b"short").unwrap();
        assert!(matches!(MaskKey::kept(&state), Err(MaskKeyError::Damaged)));
        assert_eq!(fs::read(state.file(FILE)).unwrap(), b"short");
    }
}
