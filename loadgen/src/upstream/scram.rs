//! The server's side of SCRAM-SHA-256, for one password that every user has.
//!
//! Spec: RFC 5802, RFC 7677; PostgreSQL manual, "SASL Authentication".

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

const KEY_BYTES: usize = digest::SHA256_OUTPUT_LEN;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 18;

/// PostgreSQL's own default.
const ITERATIONS: u32 = 4096;

/// Longest message of a client: its nonce is its own choice, and echoed.
const MESSAGE_BYTES_MAX: usize = 1024;

/// What is stored of the password: it proves knowledge without being the password.
pub struct Secret {
    salt: [u8; SALT_BYTES],
    stored_key: [u8; KEY_BYTES],
    server_key: hmac::Key,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

/// A client that has spoken first, and awaits the challenge.
pub(super) struct Challenge {
    /// What is sent.
    pub(super) server_first: String,
    client_first_bare: String,
    gs2_header: String,
    nonce: String,
}

impl Secret {
    /// `None` when there is no randomness for a salt.
    pub fn new(password: &[u8]) -> Option<Self> {
        let mut salt = [0; SALT_BYTES];
        SystemRandom::new().fill(&mut salt).ok()?;
        let mut salted = Zeroizing::new([0; KEY_BYTES]);
        let iterations = NonZeroU32::new(ITERATIONS)?;
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            &salt,
            password,
            &mut *salted,
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*salted);
        let client_key = hmac::sign(&key, b"Client Key");
        let server_key = hmac::sign(&key, b"Server Key");
        Some(Self {
            salt,
            stored_key: sha256(client_key.as_ref()),
            server_key: hmac::Key::new(hmac::HMAC_SHA256, server_key.as_ref()),
        })
    }

    /// Answers client-first; `None` for what is not acceptable.
    pub(super) fn challenge(&self, client_first: &[u8]) -> Option<Challenge> {
        if client_first.len() > MESSAGE_BYTES_MAX {
            return None;
        }
        let text = std::str::from_utf8(client_first).ok()?;
        // No channel binding is offered, so none may be asked for.
        let header = ["n,,", "y,,"].into_iter().find(|it| text.starts_with(it))?;
        let bare = text.strip_prefix(header)?;
        let client_nonce = bare.split(',').nth(1)?.strip_prefix("r=")?;
        if client_nonce.is_empty() || !bare.starts_with("n=") {
            return None;
        }
        let mut random = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut random).ok()?;
        let nonce = format!("{client_nonce}{}", STANDARD.encode(random));
        Some(Challenge {
            server_first: format!("r={nonce},s={},i={ITERATIONS}", STANDARD.encode(self.salt)),
            client_first_bare: bare.to_owned(),
            gs2_header: header.to_owned(),
            nonce,
        })
    }

    /// Checks client-final; what is sent in AuthenticationSASLFinal, or `None` for a wrong proof.
    pub(super) fn verify(&self, challenge: &Challenge, client_final: &[u8]) -> Option<String> {
        if client_final.len() > MESSAGE_BYTES_MAX * 2 {
            return None;
        }
        let text = std::str::from_utf8(client_final).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let expected = format!(
            "c={},r={}",
            STANDARD.encode(&challenge.gs2_header),
            challenge.nonce
        );
        if without_proof != expected {
            return None;
        }
        let auth_message = format!(
            "{},{},{without_proof}",
            challenge.client_first_bare, challenge.server_first
        );
        let stored = hmac::Key::new(hmac::HMAC_SHA256, &self.stored_key);
        let signature = hmac::sign(&stored, auth_message.as_bytes());
        let mut client_key = STANDARD.decode(proof).ok()?;
        for (byte, mask) in client_key.iter_mut().zip(signature.as_ref()) {
            *byte ^= mask;
        }
        let proven = codecs::postgres::auth::same_secret(&sha256(&client_key), &self.stored_key);
        let signature = hmac::sign(&self.server_key, auth_message.as_bytes());
        proven.then(|| format!("v={}", STANDARD.encode(signature)))
    }
}

fn sha256(bytes: &[u8]) -> [u8; KEY_BYTES] {
    let mut out = [0; KEY_BYTES];
    for (to, from) in out
        .iter_mut()
        .zip(digest::digest(&digest::SHA256, bytes).as_ref())
    {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::Limits;
    use codecs::postgres::auth::{ChannelBinding, SCRAM_NONCE_BYTES, ScramClient, ScramKeys};

    /// Whether a client with `password` is let in, and believes the server.
    fn exchange(secret: &Secret, password: &[u8]) -> Option<bool> {
        let client = ScramClient::new([7; SCRAM_NONCE_BYTES], ChannelBinding::None);
        let challenge = secret.challenge(client.client_first().as_bytes())?;
        let answered = client
            .handle_server_first(challenge.server_first.as_bytes(), &Limits::default())
            .unwrap();
        let keys = ScramKeys::derive(password, answered.salt(), answered.iterations());
        let (awaited, client_final) = answered.answer(&keys);
        let server_final = secret.verify(&challenge, client_final.as_bytes())?;
        Some(awaited.handle_server_final(server_final.as_bytes()).is_ok())
    }

    #[test]
    fn the_right_password_alone_passes_and_both_sides_prove_it() {
        let secret = Secret::new(b"pencil").unwrap();
        assert_eq!(exchange(&secret, b"pencil"), Some(true));
        assert_eq!(exchange(&secret, b"pencils"), None);
        assert_eq!(exchange(&secret, b""), None);
    }

    #[test]
    fn what_is_no_first_message_is_refused() {
        let secret = Secret::new(b"pencil").unwrap();
        for wrong in [
            &b""[..],
            b"n,,",
            b"n,,n=,r=",
            b"p=tls-server-end-point,,n=,r=x",
            b"n,,r=x",
            b"\xff",
        ] {
            assert!(secret.challenge(wrong).is_none(), "{wrong:?}");
        }
        let long = format!("n,,n=,r={}", "x".repeat(MESSAGE_BYTES_MAX));
        assert!(secret.challenge(long.as_bytes()).is_none());
    }
}
