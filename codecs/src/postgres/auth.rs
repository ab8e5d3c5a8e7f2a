//! Cleartext, MD5, SCRAM and OAUTHBEARER exchanges as functions and state machines.
//!
//! Upstream we are the client of SCRAM and MD5; downstream we are the server of OAUTHBEARER. The
//! nonce and the channel binding are arguments. Nothing here decides whether a token is good.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use ring::{digest, hmac, pbkdf2};
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use crate::Limits;

use super::backend::Mechanisms;

pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";
pub const OAUTHBEARER: &str = "OAUTHBEARER";

/// Random bytes that a SCRAM nonce is made of, as many as libpq takes.
pub const SCRAM_NONCE_BYTES: usize = 18;

const KEY_BYTES: usize = digest::SHA256_OUTPUT_LEN;

/// Why an exchange did not succeed. Nothing of the exchange is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AuthError {
    #[error("{message} is malformed")]
    Malformed { message: &'static str },
    /// The server answered another client than us.
    #[error("the server's nonce does not continue ours")]
    NonceMismatch,
    #[error("the server asks for {announced} iterations, outside of {min} to {max}")]
    Iterations { announced: u32, min: u32, max: u32 },
    /// The server says that the proof is wrong, which in PostgreSQL is an ErrorResponse.
    #[error("the server refuses the exchange")]
    Refused,
    /// The server does not know the password either.
    #[error("the server's signature is wrong")]
    ServerSignature,
    /// The client asks for an identity other than that of its token, or for a binding that
    /// OAUTHBEARER does not have.
    #[error("{message} asks for what is not supported")]
    Unsupported { message: &'static str },
}

/// Compares two secrets in a time that depends on their lengths alone.
pub fn same_secret(left: &[u8], right: &[u8]) -> bool {
    let difference = left
        .iter()
        .zip(right)
        .fold(0_u8, |difference, (l, r)| difference | (l ^ r));
    left.len() == right.len() && std::hint::black_box(difference) == 0
}

/// The answer to AuthenticationMD5Password, without its NUL.
pub fn md5_password(user: &[u8], password: &[u8], salt: [u8; 4]) -> Zeroizing<String> {
    let stored = md5_hex(&[password, user]);
    let answer = md5_hex(&[stored.as_bytes(), &salt]);
    Zeroizing::new(format!("md5{}", *answer))
}

fn md5_hex(parts: &[&[u8]]) -> Zeroizing<String> {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    Zeroizing::new(format!("{:x}", hash.finalize()))
}

/// What SCRAM binds the exchange to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding<'c> {
    /// No TLS, or a certificate whose hash `tls-server-end-point` does not define.
    None,
    /// TLS, but the server offers no binding. Said in the exchange, so that a server that did offer
    /// one notices that it was taken out on the way.
    NotOffered,
    /// The hash of the server's certificate (RFC 5929), with SCRAM-SHA-256-PLUS.
    TlsServerEndPoint(&'c [u8]),
}

impl<'c> ChannelBinding<'c> {
    /// The strongest binding that both sides can do; `None` if the server offers no SCRAM.
    ///
    /// `end_point` is the certificate's hash, or `None` without TLS.
    pub fn choose(offered: &Mechanisms<'_>, end_point: Option<&'c [u8]>) -> Option<Self> {
        match end_point {
            Some(hash) if offered.contains(SCRAM_SHA_256_PLUS) => {
                Some(Self::TlsServerEndPoint(hash))
            }
            Some(_) if offered.contains(SCRAM_SHA_256) => Some(Self::NotOffered),
            None if offered.contains(SCRAM_SHA_256) => Some(Self::None),
            Some(_) | None => None,
        }
    }

    pub const fn mechanism(&self) -> &'static str {
        match self {
            Self::TlsServerEndPoint(_) => SCRAM_SHA_256_PLUS,
            Self::None | Self::NotOffered => SCRAM_SHA_256,
        }
    }

    const fn gs2_header(&self) -> &'static str {
        match self {
            Self::None => "n,,",
            Self::NotOffered => "y,,",
            Self::TlsServerEndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// The attribute `c`: header and binding, encoded.
    fn attribute(&self) -> String {
        let mut bound = self.gs2_header().as_bytes().to_vec();
        if let Self::TlsServerEndPoint(hash) = self {
            bound.extend_from_slice(hash);
        }
        STANDARD.encode(bound)
    }
}

/// The client of a SCRAM-SHA-256 exchange, awaiting the server's first message.
///
/// ```text
/// ScramClient ──server-first──▶ ScramChallenge ──keys──▶ ScramAwaitFinal ──server-final──▶ ServerVerified
/// ```
///
/// The user name in the exchange is empty: PostgreSQL takes it from the StartupMessage.
/// Scope: one login.
///
/// Spec: RFC 5802, RFC 7677; PostgreSQL manual, "SASL Authentication".
#[derive(Debug)]
pub struct ScramClient {
    nonce: String,
    binding: String,
    gs2_header: &'static str,
}

impl ScramClient {
    /// `nonce` must be fresh from a secure source of randomness.
    pub fn new(nonce: [u8; SCRAM_NONCE_BYTES], binding: ChannelBinding<'_>) -> Self {
        Self {
            nonce: STANDARD.encode(nonce),
            binding: binding.attribute(),
            gs2_header: binding.gs2_header(),
        }
    }

    /// What goes into SASLInitialResponse.
    pub fn client_first(&self) -> String {
        format!("{}{}", self.gs2_header, self.client_first_bare())
    }

    fn client_first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Takes what came in AuthenticationSASLContinue.
    ///
    /// # Errors
    /// For a message that RFC 5802 does not have, extensions included; for a nonce that is not
    /// ours; for an iteration count out of `limits`.
    pub fn handle_server_first(
        self,
        message: &[u8],
        limits: &Limits,
    ) -> Result<ScramChallenge, AuthError> {
        const MALFORMED: AuthError = AuthError::Malformed {
            message: "server-first-message",
        };

        let text = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
        let mut attributes = text.split(',');
        let mut take = |name: &str| attributes.next().and_then(|part| part.strip_prefix(name));
        let nonce = take("r=").ok_or(MALFORMED)?;
        let salt = take("s=").ok_or(MALFORMED)?;
        let iterations = take("i=").ok_or(MALFORMED)?;
        if attributes.next().is_some() {
            return Err(MALFORMED);
        }
        let added = nonce.strip_prefix(&self.nonce).unwrap_or_default();
        if added.is_empty() || !added.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AuthError::NonceMismatch);
        }
        let salt = STANDARD.decode(salt).map_err(|_| MALFORMED)?;
        if salt.is_empty() {
            return Err(MALFORMED);
        }
        let iterations = decimal(iterations).ok_or(MALFORMED)?;
        let (min, max) = (limits.scram_iterations_min, limits.scram_iterations_max);
        if iterations.get() < min || iterations.get() > max {
            return Err(AuthError::Iterations {
                announced: iterations.get(),
                min,
                max,
            });
        }
        let without_proof = format!("c={},r={nonce}", self.binding);
        let auth_message = format!("{},{text},{without_proof}", self.client_first_bare());
        Ok(ScramChallenge {
            salt,
            iterations,
            without_proof,
            auth_message,
        })
    }
}

/// A number without sign or leading zero.
fn decimal(text: &str) -> Option<NonZeroU32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

/// The server's challenge, awaiting the keys that answer it.
#[derive(Debug)]
pub struct ScramChallenge {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    without_proof: String,
    auth_message: String,
}

impl ScramChallenge {
    /// With [`iterations`](Self::iterations), what [`ScramKeys`] depend on beside the password.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Within the limits.
    pub fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// Answers the challenge; the text goes into SASLResponse.
    pub fn answer(self, keys: &ScramKeys) -> (ScramAwaitFinal, String) {
        let stored_key = digest::digest(&digest::SHA256, &*keys.client_key);
        let signature = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, stored_key.as_ref()),
            self.auth_message.as_bytes(),
        );
        let mut proof = keys.client_key.clone();
        for (byte, mask) in proof.iter_mut().zip(signature.as_ref()) {
            *byte ^= mask;
        }
        let client_final = format!("{},p={}", self.without_proof, STANDARD.encode(*proof));
        let awaited = ScramAwaitFinal {
            server_key: hmac::Key::new(hmac::HMAC_SHA256, &*keys.server_key),
            auth_message: self.auth_message,
        };
        (awaited, client_final)
    }
}

/// What a password, a salt and an iteration count come to.
///
/// Deriving costs milliseconds of CPU, so it belongs on a worker thread; all connections of one
/// account on one server share salt and count, so the keys can be kept for the next. They are as
/// good as the password. Wiped on drop.
pub struct ScramKeys {
    client_key: Zeroizing<[u8; KEY_BYTES]>,
    server_key: Zeroizing<[u8; KEY_BYTES]>,
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramKeys").finish_non_exhaustive()
    }
}

impl ScramKeys {
    /// Prepares the password by SASLprep where that is possible, and takes its bytes as they are
    /// where it is not, as PostgreSQL does on both sides.
    pub fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = Zeroizing::new([0_u8; KEY_BYTES]);
        let mut prepared = std::str::from_utf8(password)
            .ok()
            .and_then(|password| stringprep::saslprep(password).ok())
            .map(std::borrow::Cow::into_owned);
        let secret = prepared
            .as_ref()
            .map_or(password, |prepared| prepared.as_bytes());
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            secret,
            &mut *salted,
        );
        prepared.zeroize();

        let key = hmac::Key::new(hmac::HMAC_SHA256, &*salted);
        Self {
            client_key: sign(&key, b"Client Key"),
            server_key: sign(&key, b"Server Key"),
        }
    }
}

fn sign(key: &hmac::Key, message: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut signature = Zeroizing::new([0_u8; KEY_BYTES]);
    for (byte, signed) in signature.iter_mut().zip(hmac::sign(key, message).as_ref()) {
        *byte = *signed;
    }
    signature
}

/// The client has shown its proof, and awaits the server's.
pub struct ScramAwaitFinal {
    server_key: hmac::Key,
    auth_message: String,
}

/// Evidence that the server knows the password (or what is stored of it). Without it an
/// AuthenticationOk must not be believed.
#[derive(Debug)]
#[must_use]
pub struct ServerVerified(());

impl ScramAwaitFinal {
    /// Takes what came in AuthenticationSASLFinal.
    ///
    /// # Errors
    /// [`AuthError::ServerSignature`] when the server did not prove itself: whoever is there is not
    /// the server of this account.
    pub fn handle_server_final(self, message: &[u8]) -> Result<ServerVerified, AuthError> {
        const MALFORMED: AuthError = AuthError::Malformed {
            message: "server-final-message",
        };

        let text = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
        if text.starts_with("e=") {
            return Err(AuthError::Refused);
        }
        let signature = text.strip_prefix("v=").ok_or(MALFORMED)?;
        let signature = STANDARD.decode(signature).map_err(|_| MALFORMED)?;
        hmac::verify(&self.server_key, self.auth_message.as_bytes(), &signature)
            .map_err(|_| AuthError::ServerSignature)?;
        Ok(ServerVerified(()))
    }
}

const KEY_VALUE_SEPARATOR: u8 = 0x01;
const BEARER: &[u8] = b"Bearer ";
const CLIENT_INITIAL: &str = "client initial response";

/// What an OAUTHBEARER client brings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BearerClaim<'b> {
    /// Printable ASCII, not empty; wiped by whoever owns the buffer.
    Token(&'b [u8]),
    /// The client has no token and asks where to get one; the answer is the failure message.
    Discovery,
}

impl std::fmt::Debug for BearerClaim<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::Discovery => "Discovery",
        })
    }
}

/// Reads the first message of an OAUTHBEARER client.
///
/// Strict: an authorization identity and channel binding are refused, as PostgreSQL refuses them;
/// so are a second `auth` and characters that a token cannot have. Other keys (`host`, `port`) are
/// ignored, as RFC 7628 says.
///
/// # Errors
/// [`AuthError::Malformed`] and [`AuthError::Unsupported`].
///
/// Spec: RFC 7628, "Client's Initial Response"; RFC 6750 for the token.
pub fn decode_oauthbearer_initial(response: &[u8]) -> Result<BearerClaim<'_>, AuthError> {
    const MALFORMED: AuthError = AuthError::Malformed {
        message: CLIENT_INITIAL,
    };

    let pairs = match response {
        [b'n' | b'y', b',', b',', KEY_VALUE_SEPARATOR, pairs @ ..] => pairs,
        [b'p', ..] | [b'n' | b'y', b',', b'a', ..] => {
            return Err(AuthError::Unsupported {
                message: CLIENT_INITIAL,
            });
        }
        _ => return Err(MALFORMED),
    };
    let mut pairs = pairs
        .strip_suffix(&[KEY_VALUE_SEPARATOR, KEY_VALUE_SEPARATOR])
        .ok_or(MALFORMED)?
        .split(|byte| *byte == KEY_VALUE_SEPARATOR);
    let mut authorization = None;
    pairs.try_for_each(|pair| {
        let equals = pair
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or(MALFORMED)?;
        let (key, value) = pair.split_at_checked(equals).ok_or(MALFORMED)?;
        let value = value.strip_prefix(b"=").ok_or(MALFORMED)?;
        let legal = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
        if key.is_empty() || !key.iter().all(u8::is_ascii_alphabetic) || !value.iter().all(legal) {
            return Err(MALFORMED);
        }
        if key == b"auth" && authorization.replace(value).is_some() {
            return Err(MALFORMED);
        }
        Ok(())
    })?;
    let authorization = authorization.ok_or(MALFORMED)?;
    if authorization.is_empty() {
        return Ok(BearerClaim::Discovery);
    }
    let (scheme, token) = authorization
        .split_at_checked(BEARER.len())
        .ok_or(MALFORMED)?;
    if !scheme.eq_ignore_ascii_case(BEARER) || !is_b64token(token) {
        return Err(MALFORMED);
    }
    Ok(BearerClaim::Token(token))
}

/// `b64token` of RFC 6750.
fn is_b64token(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = token
        .get(..token.len().saturating_sub(padding))
        .unwrap_or(token);
    let legal = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
    };
    !body.is_empty() && body.iter().all(legal)
}

/// The failure message of OAUTHBEARER, for AuthenticationSASLContinue. The client answers it with
/// [`check_oauthbearer_dummy`]'s byte, and only then comes the ErrorResponse.
///
/// Spec: RFC 7628, "Server's Response".
pub fn oauthbearer_failure(openid_configuration: Option<&str>, scope: Option<&str>) -> String {
    let mut json = String::from(r#"{"status":"invalid_token""#);
    for (key, value) in [
        ("openid-configuration", openid_configuration),
        ("scope", scope),
    ] {
        if let Some(value) = value {
            json.push_str(",\"");
            json.push_str(key);
            json.push_str("\":\"");
            value
                .chars()
                .for_each(|character| push_json(&mut json, character));
            json.push('"');
        }
    }
    json.push('}');
    json
}

fn push_json(json: &mut String, character: char) {
    match character {
        '"' => json.push_str("\\\""),
        '\\' => json.push_str("\\\\"),
        control if control < ' ' => {
            json.push_str(&format!("\\u{:04x}", u32::from(control)));
        }
        plain => json.push(plain),
    }
}

/// Checks the byte by which a client accepts that it failed.
///
/// # Errors
/// [`AuthError::Malformed`] for anything else.
pub fn check_oauthbearer_dummy(response: &[u8]) -> Result<(), AuthError> {
    if response == [KEY_VALUE_SEPARATOR] {
        Ok(())
    } else {
        Err(AuthError::Malformed {
            message: "client's answer to a failure",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::backend::{
        Authentication, Backend, BackendDecoder, BackendPiece, encode_authentication_sasl,
    };

    /// The exchange of RFC 7677, "SCRAM-SHA-256 and SCRAM-SHA-256-PLUS", but for the user name.
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

    fn offered<R>(mechanisms: &[&str], check: impl FnOnce(&Mechanisms<'_>) -> R) -> R {
        let mut bytes = Vec::new();
        encode_authentication_sasl(&mut bytes, mechanisms).unwrap();
        let piece = BackendDecoder::new(Limits::default())
            .decode(&bytes)
            .unwrap()
            .unwrap();
        let BackendPiece::Message(decoded) = piece else {
            panic!("a fragment")
        };
        let Backend::Authentication(Authentication::Sasl(mechanisms)) = decoded.message else {
            panic!("not AuthenticationSASL")
        };
        check(&mechanisms)
    }

    fn client(binding: ChannelBinding<'_>) -> ScramClient {
        ScramClient::new([7; SCRAM_NONCE_BYTES], binding)
    }

    /// `client` and a server-first message with its nonce continued.
    fn challenge(salt: &str, iterations: &str) -> Result<ScramChallenge, AuthError> {
        let client = client(ChannelBinding::None);
        let first = format!("r={}server,s={salt},i={iterations}", client.nonce);
        client.handle_server_first(first.as_bytes(), &Limits::default())
    }

    #[test]
    fn md5_answers_as_libpq_does() {
        // select 'md5' || md5(md5('secret' || 'alice') || E'\x01\x02\x03\x04')
        assert_eq!(
            md5_password(b"alice", b"secret", [1, 2, 3, 4]).as_str(),
            "md598a0412b9c31436fc53776e863350083"
        );
    }

    #[test]
    fn secrets_are_equal_only_in_full() {
        assert!(same_secret(b"abcd", b"abcd"));
        assert!(!same_secret(b"abcd", b"abce"));
        assert!(!same_secret(b"abcd", b"abc"));
        assert!(!same_secret(b"", b"a"));
        assert!(same_secret(b"", b""));
    }

    #[test]
    fn keys_are_those_of_rfc_7677() {
        // The RFC's exchange: user "user", password "pencil", i=4096. Its client-final carries
        // p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ= over an AuthMessage with n=user.
        let auth_message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let salt = STANDARD.decode(SALT).unwrap();
        let iterations = NonZeroU32::new(4096).unwrap();
        let keys = ScramKeys::derive(b"pencil", &salt, iterations);
        let challenge = ScramChallenge {
            salt,
            iterations,
            without_proof: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into(),
            auth_message: auth_message.into(),
        };
        let (awaited, answer) = challenge.answer(&keys);
        assert!(answer.ends_with(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
        let signature = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert!(awaited.handle_server_final(signature).is_ok());
    }

    #[test]
    fn a_wrong_server_signature_is_no_server() {
        let challenge = challenge(SALT, "4096").unwrap();
        let keys = ScramKeys::derive(b"pencil", challenge.salt(), challenge.iterations());
        let (awaited, _) = challenge.answer(&keys);
        let outcome =
            awaited.handle_server_final(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(outcome.unwrap_err(), AuthError::ServerSignature);
    }

    #[test]
    fn final_messages_are_read_strictly() {
        for (message, expected) in [
            (&b"e=invalid-proof"[..], AuthError::Refused),
            (
                b"",
                AuthError::Malformed {
                    message: "server-final-message",
                },
            ),
            (b"v=", AuthError::ServerSignature),
            (
                b"v=!!",
                AuthError::Malformed {
                    message: "server-final-message",
                },
            ),
            (
                b"v=AAAA,x=1",
                AuthError::Malformed {
                    message: "server-final-message",
                },
            ),
            (
                b"\xff",
                AuthError::Malformed {
                    message: "server-final-message",
                },
            ),
        ] {
            let challenge = challenge(SALT, "4096").unwrap();
            let keys = ScramKeys::derive(b"", challenge.salt(), challenge.iterations());
            let (awaited, _) = challenge.answer(&keys);
            assert_eq!(awaited.handle_server_final(message).unwrap_err(), expected);
        }
    }

    #[test]
    fn iterations_are_bounded_on_both_sides() {
        let out_of = |announced| AuthError::Iterations {
            announced,
            min: 4096,
            max: 600_000,
        };
        assert!(challenge(SALT, "4096").is_ok());
        assert!(challenge(SALT, "600000").is_ok());
        assert_eq!(challenge(SALT, "4095").unwrap_err(), out_of(4095));
        assert_eq!(challenge(SALT, "600001").unwrap_err(), out_of(600_001));
        let malformed = AuthError::Malformed {
            message: "server-first-message",
        };
        for iterations in [
            "",
            "0",
            "-1",
            "+4096",
            "04096",
            "4096 ",
            "99999999999",
            "4096,x=1",
        ] {
            assert_eq!(
                challenge(SALT, iterations).unwrap_err(),
                malformed,
                "{iterations}"
            );
        }
    }

    #[test]
    fn first_messages_are_read_strictly() {
        let malformed = AuthError::Malformed {
            message: "server-first-message",
        };
        let nonce = client(ChannelBinding::None).nonce;
        for (message, expected) in [
            (
                format!("r={nonce},s={SALT},i=4096"),
                AuthError::NonceMismatch,
            ),
            (
                format!("r={}x,s={SALT},i=4096", nonce.to_lowercase()),
                AuthError::NonceMismatch,
            ),
            (
                format!("r={nonce}x y,s={SALT},i=4096"),
                AuthError::NonceMismatch,
            ),
            (format!("r={nonce}x,s=,i=4096"), malformed),
            (format!("r={nonce}x,s=@,i=4096"), malformed),
            (format!("m=ext,r={nonce}x,s={SALT},i=4096"), malformed),
            (format!("r={nonce}x,i=4096,s={SALT}"), malformed),
            (format!("r={nonce}x,s={SALT}"), malformed),
            (String::new(), malformed),
        ] {
            let client = client(ChannelBinding::None);
            let outcome = client.handle_server_first(message.as_bytes(), &Limits::default());
            assert_eq!(outcome.unwrap_err(), expected, "{message}");
        }
    }

    #[test]
    fn the_strongest_common_binding_is_chosen() {
        let hash = &b"hash"[..];
        let plus = [SCRAM_SHA_256_PLUS, SCRAM_SHA_256];
        let choose = |offer: &[&str], hash| {
            offered(offer, |mechanisms| ChannelBinding::choose(mechanisms, hash))
        };
        assert_eq!(
            choose(&plus, Some(hash)),
            Some(ChannelBinding::TlsServerEndPoint(hash))
        );
        assert_eq!(choose(&plus, None), Some(ChannelBinding::None));
        assert_eq!(
            choose(&[SCRAM_SHA_256], Some(hash)),
            Some(ChannelBinding::NotOffered)
        );
        assert_eq!(choose(&[SCRAM_SHA_256], None), Some(ChannelBinding::None));
        assert_eq!(choose(&[SCRAM_SHA_256_PLUS], None), None);
        assert_eq!(choose(&[OAUTHBEARER], Some(hash)), None);
    }

    #[test]
    fn the_binding_is_in_both_messages_of_the_client() {
        for (binding, header, attribute) in [
            (ChannelBinding::None, "n,,n=,r=", "c=biws,"),
            (ChannelBinding::NotOffered, "y,,n=,r=", "c=eSws,"),
            (
                ChannelBinding::TlsServerEndPoint(b"\x00\xff"),
                "p=tls-server-end-point,,n=,r=",
                "c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAP8=,",
            ),
        ] {
            let client = client(binding);
            assert!(client.client_first().starts_with(header));
            let first = format!("r={}s,s={SALT},i=4096", client.nonce);
            let challenge = client
                .handle_server_first(first.as_bytes(), &Limits::default())
                .unwrap();
            let keys = ScramKeys::derive(b"x", challenge.salt(), challenge.iterations());
            let (_, answer) = challenge.answer(&keys);
            assert!(answer.starts_with(attribute), "{answer}");
        }
    }

    #[test]
    fn passwords_are_prepared_where_that_is_possible() {
        let keys = |password: &[u8]| {
            ScramKeys::derive(password, b"salt", NonZeroU32::new(1).unwrap()).client_key
        };
        // RFC 4013: a soft hyphen maps to nothing, and U+2168 to "IX".
        assert_eq!(*keys("I\u{ad}X".as_bytes()), *keys(b"IX"));
        assert_eq!(*keys("\u{2168}".as_bytes()), *keys(b"IX"));
        // A control character is prohibited and 0xff is no text: both are taken as they are.
        assert_ne!(*keys(b"\x07"), *keys(b""));
        assert_ne!(*keys(b"\xff"), *keys(b""));
    }

    #[test]
    fn a_bearer_token_is_found() {
        for message in [
            &b"n,,\x01auth=Bearer abc.DEF-1_2~3+4/5==\x01\x01"[..],
            b"y,,\x01host=db\x01port=5432\x01auth=bearer abc.DEF-1_2~3+4/5==\x01\x01",
        ] {
            assert_eq!(
                decode_oauthbearer_initial(message),
                Ok(BearerClaim::Token(b"abc.DEF-1_2~3+4/5=="))
            );
        }
        assert_eq!(
            decode_oauthbearer_initial(b"n,,\x01auth=\x01\x01"),
            Ok(BearerClaim::Discovery)
        );
    }

    #[test]
    fn what_postgresql_refuses_in_oauthbearer_is_refused() {
        let malformed = AuthError::Malformed {
            message: CLIENT_INITIAL,
        };
        let unsupported = AuthError::Unsupported {
            message: CLIENT_INITIAL,
        };
        for (message, expected) in [
            (&b""[..], malformed),
            (
                b"p=tls-server-end-point,,\x01auth=Bearer a\x01\x01",
                unsupported,
            ),
            (b"n,a=admin,\x01auth=Bearer a\x01\x01", unsupported),
            (b"n,\x01auth=Bearer a\x01\x01", malformed),
            (b"n,,auth=Bearer a\x01\x01", malformed),
            (b"n,,\x01auth=Bearer a\x01", malformed),
            (b"n,,\x01auth=Bearer a\x01\x01\x01", malformed),
            (b"n,,\x01\x01", malformed),
            (b"n,,\x01\x01\x01", malformed),
            (b"n,,\x01host=a\x01\x01", malformed),
            (b"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01", malformed),
            (b"n,,\x01auth=Bearer \x01\x01", malformed),
            (b"n,,\x01auth=Bearer ==\x01\x01", malformed),
            (b"n,,\x01auth=Bearer a=b\x01\x01", malformed),
            (b"n,,\x01auth=Bearer a b\x01\x01", malformed),
            (b"n,,\x01auth=Basic abc\x01\x01", malformed),
            (b"n,,\x01auth=Bearer a\0\x01\x01", malformed),
            (b"n,,\x01=x\x01auth=Bearer a\x01\x01", malformed),
            (b"n,,\x01h1=x\x01auth=Bearer a\x01\x01", malformed),
            (b"n,,\x01auth\x01\x01", malformed),
        ] {
            assert_eq!(
                decode_oauthbearer_initial(message),
                Err(expected),
                "{message:?}"
            );
        }
    }

    #[test]
    fn a_failure_is_json_whatever_the_operator_wrote() {
        assert_eq!(
            oauthbearer_failure(None, None),
            r#"{"status":"invalid_token"}"#
        );
        assert_eq!(
            oauthbearer_failure(Some("https://a/\"\\\n"), Some("openid")),
            r#"{"status":"invalid_token","openid-configuration":"https://a/\"\\\u000a","scope":"openid"}"#
        );
    }

    #[test]
    fn only_the_dummy_answers_a_failure() {
        assert_eq!(check_oauthbearer_dummy(b"\x01"), Ok(()));
        for response in [&b""[..], b"\x01\x01", b"\x00"] {
            assert!(check_oauthbearer_dummy(response).is_err());
        }
    }
}
