//! What a browser carries while it is away at the identity provider.
//!
//! It is sealed in a cookie of that browser: somebody who begins a thousand logins makes the
//! appliance hold nothing, and an answer of the provider fits only the browser that asked.
//!
//! Spec: OpenID Connect Core 1.0, "Authentication using the Authorization Code Flow"; RFC 7636
//! (PKCE); RFC 9700 (security of OAuth 2.0).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use codecs::postgres::auth::same_secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::control::console::back::own_page;
use crate::control::console::visits::secret;
use crate::recorder::NoRandomness;

/// How long somebody may take to sign in at the provider. Seconds.
pub(super) const AWAY_SECONDS_MAX: u64 = 10 * 60;

/// Longest sealed departure that is opened, in bytes.
const SEALED_BYTES_MAX: usize = 2048;

/// One login that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Departure {
    /// Comes back in the answer: it belongs to this browser.
    state: String,
    /// Comes back in the token: it was made for this login.
    pub(super) nonce: String,
    /// Shown with the code: whoever took the code on its way cannot use it.
    pub(super) verifier: String,
    /// The page of the console that asked for the login.
    pub(super) back: String,
    expires: u64,
}

impl Departure {
    /// A login that begins at `now` and comes back to the page `back`.
    ///
    /// # Errors
    /// No randomness.
    pub(super) fn new(back: &str, now: u64) -> Result<Self, NoRandomness> {
        Ok(Self {
            state: secret()?,
            nonce: secret()?,
            verifier: secret()?,
            back: own_page(back).to_owned(),
            expires: now.saturating_add(AWAY_SECONDS_MAX),
        })
    }

    pub(super) fn state(&self) -> &str {
        &self.state
    }

    /// SHA-256 of the verifier (`S256`).
    pub(super) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.verifier.as_bytes()))
    }

    /// Whether an answer with this state is the answer to it, and in time.
    pub(super) fn is_answered_by(&self, state: &str, now: u64) -> bool {
        now < self.expires && same_secret(self.state.as_bytes(), state.as_bytes())
    }
}

/// Seals departures. Per process: after a restart nobody comes back.
pub(in crate::control::console) struct Seal {
    key: LessSafeKey,
}

impl Seal {
    /// One with a new key.
    ///
    /// # Errors
    /// No randomness.
    pub(in crate::control::console) fn new() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| NoRandomness)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| NoRandomness)?;
        Ok(Self {
            key: LessSafeKey::new(key),
        })
    }

    /// The value of the cookie.
    ///
    /// # Errors
    /// No randomness.
    pub(super) fn close(&self, departure: &Departure) -> Result<String, NoRandomness> {
        // Random nonces of 96 bits do not meet in the logins of one process.
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| NoRandomness)?;
        let mut sealed = serde_json::to_vec(departure).map_err(|_| NoRandomness)?;
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(unique, Aad::empty(), &mut sealed)
            .map_err(|_| NoRandomness)?;
        let mut bytes = nonce.to_vec();
        bytes.append(&mut sealed);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What a browser brought back, if this process sealed it.
    pub(super) fn open(&self, cookie: &str) -> Option<Departure> {
        if cookie.len() > SEALED_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let plain = self
            .key
            .open_in_place(nonce, Aad::empty(), &mut sealed)
            .ok()?;
        serde_json::from_slice(plain).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_800_000_000;

    #[test]
    fn only_the_process_that_sealed_a_departure_opens_it() {
        let seal = Seal::new().unwrap();
        let departure = Departure::new("/approvals/7", NOON).unwrap();
        let cookie = seal.close(&departure).unwrap();
        assert_eq!(seal.open(&cookie), Some(departure.clone()));
        assert!(cookie.len() < 1024, "browsers keep 4096 bytes");
        assert_eq!(Seal::new().unwrap().open(&cookie), None);
        assert_eq!(seal.open(""), None);
        assert_eq!(seal.open(&"A".repeat(SEALED_BYTES_MAX + 1)), None);
        let mut touched = cookie.into_bytes();
        touched[40] = if touched[40] == b'A' { b'B' } else { b'A' };
        assert_eq!(seal.open(std::str::from_utf8(&touched).unwrap()), None);
    }

    #[test]
    fn an_answer_fits_its_own_departure_in_time() {
        let one = Departure::new("/", NOON).unwrap();
        let other = Departure::new("/", NOON).unwrap();
        assert!(one.is_answered_by(one.state(), NOON + AWAY_SECONDS_MAX - 1));
        assert!(!one.is_answered_by(one.state(), NOON + AWAY_SECONDS_MAX));
        assert!(!one.is_answered_by(other.state(), NOON));
        assert!(!one.is_answered_by("", NOON));
        assert_ne!(one.nonce, other.nonce);
        assert_ne!(one.verifier, other.verifier);
    }

    #[test]
    fn the_challenge_is_the_one_of_the_standard() {
        // RFC 7636, Appendix B.
        let departure = Departure {
            verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned(),
            ..Departure::new("/", NOON).unwrap()
        };
        assert_eq!(
            departure.challenge(),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }
}
