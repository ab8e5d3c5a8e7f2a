//! How a token is had from an issuer: by a code for another device, by a browser on this one, by a
//! secret, or by what the last login left.
//!
//! Spec: RFC 8628 (device flow), RFC 8252 and RFC 7636 (native apps, PKCE), RFC 6749.

use std::io::{self, Write};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use codecs::postgres::auth::same_secret;
use reqwest::{Client, Url};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use zeroize::Zeroizing;

use super::PersonError;
use super::settings::{IssuerSettings, SettingsError, read_text};
use super::tokens::Tokens;
use crate::cli::table::escaped;
use crate::control::{FetchError, discover, http_client};
use crate::identity::remote::{Endpoints, Place};

/// How long one answer of the issuer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Longest answer, in bytes: three tokens of 16 KiB and some.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// How long a person may take in the browser.
const BROWSER_DEADLINE: Duration = Duration::from_secs(300);

/// Longest a device code is asked about, whatever the issuer says.
const DEVICE_DEADLINE: Duration = Duration::from_secs(1800);

/// Between two questions about a device code, if the issuer does not say.
const DEVICE_INTERVAL: Duration = Duration::from_secs(5);

/// How much longer the interval becomes when the issuer finds it too short.
const SLOW_DOWN: Duration = Duration::from_secs(5);

/// A token that is assumed to be valid this long, where the issuer does not say.
const LIFETIME: u64 = 300;

/// Largest head of a request to the redirect address, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long a browser may take to send one.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// An issuer that has been found.
pub(super) struct Found<'s> {
    settings: &'s IssuerSettings,
    client: Client,
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Device {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// What an issuer answers that gives no token. Spec: RFC 6749, "Error Response".
#[derive(Deserialize)]
struct NotGranted {
    error: String,
}

enum Answer<T> {
    Given(T),
    Not(NotGranted),
}

impl<'s> Found<'s> {
    /// Reads the issuer's discovery document.
    pub(super) async fn find(settings: &'s IssuerSettings) -> Result<Self, PersonError> {
        let roots = match &settings.ca {
            None => Vec::new(),
            Some(path) => roots(path)?,
        };
        let client = http_client(&roots)?;
        let place = Place::of_issuer(&settings.issuer).map_err(FetchError::KeysPlace)?;
        let asked = timeout(
            ANSWER_DEADLINE,
            discover(&client, &settings.issuer, place.url()),
        );
        let endpoints = asked.await.unwrap_or(Err(FetchError::TimedOut))?;
        Ok(Self {
            settings,
            client,
            endpoints,
        })
    }

    /// Whether a login by a code for another device is offered.
    pub(super) fn has_device_flow(&self) -> bool {
        self.endpoints.device_authorization.is_some()
    }

    /// Says on standard error what to do, and waits until somebody has done it.
    pub(super) async fn by_device(&self) -> Result<Tokens, PersonError> {
        let url = self.endpoints.device_authorization.as_ref();
        let url = url.ok_or(PersonError::NotOffered {
            what: "device flow",
        })?;
        let mut form = vec![("scope", self.settings.scope.as_str())];
        form.extend(self.meant_for());
        let device: Device = given(self.ask(url, &form).await?)?;
        tell(&format!(
            "Open {} and enter the code {}\n",
            escaped(&device.verification_uri),
            escaped(&device.user_code)
        ));
        if let Some(complete) = &device.verification_uri_complete {
            tell(&format!("or open {}\n", escaped(complete)));
        }
        let lasts = Duration::from_secs(device.expires_in).min(DEVICE_DEADLINE);
        let deadline = Instant::now() + lasts;
        let mut interval = device.interval.map_or(DEVICE_INTERVAL, Duration::from_secs);
        loop {
            if Instant::now() + interval > deadline {
                return Err(PersonError::TimedOut);
            }
            sleep(interval).await;
            let form = [
                ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
                ("device_code", device.device_code.as_str()),
            ];
            match self.ask(self.token_endpoint()?, &form).await? {
                Answer::Given(granted) => return Ok(self.tokens(granted)),
                Answer::Not(NotGranted { error }) => match error.as_str() {
                    "authorization_pending" => {}
                    "slow_down" => interval += SLOW_DOWN,
                    _ => return Err(refused(&error)),
                },
            }
        }
    }

    /// Has a browser on this machine come back with a code.
    pub(super) async fn by_browser(&self) -> Result<Tokens, PersonError> {
        let url = self.endpoints.authorization.clone();
        let mut url = url.ok_or(PersonError::NotOffered {
            what: "authorization endpoint",
        })?;
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .map_err(PersonError::Local)?;
        let port = listener.local_addr().map_err(PersonError::Local)?.port();
        let redirect = format!("http://127.0.0.1:{port}/callback");
        let (state, verifier) = (random()?, random()?);
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", &redirect)
            .append_pair("scope", &self.settings.scope)
            .append_pair("state", &state)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .extend_pairs(self.meant_for());
        tell(&format!("Open {}\n", escaped(url.as_str())));
        let waiting = self.code(&listener, &state);
        let code = timeout(BROWSER_DEADLINE, waiting).await;
        let code = code.map_err(|_| PersonError::TimedOut)??;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", &redirect),
            ("code_verifier", &verifier),
        ];
        let granted = given(self.ask(self.token_endpoint()?, &form).await?)?;
        Ok(self.tokens(granted))
    }

    /// By the secret of a program: nobody is asked.
    pub(super) async fn by_secret(&self, secret: &str) -> Result<Tokens, PersonError> {
        let mut form = vec![("grant_type", "client_credentials")];
        if self.settings.scope != super::settings::scope() {
            form.push(("scope", self.settings.scope.as_str()));
        }
        form.extend(self.meant_for());
        let request = self
            .client
            .post(self.token_endpoint()?.clone())
            .basic_auth(&self.settings.client_id, Some(secret))
            .form(&form);
        let granted = given(answer(request).await?)?;
        Ok(self.tokens(granted))
    }

    /// By what an earlier login left. `None`: the issuer does not take it any more.
    pub(super) async fn by_refresh(&self, refresh: &str) -> Result<Option<Tokens>, PersonError> {
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh)];
        form.extend(self.meant_for());
        match self.ask(self.token_endpoint()?, &form).await? {
            Answer::Given(granted) => {
                let mut tokens = self.tokens(granted);
                // An issuer that does not rotate it sends none.
                let kept = || Zeroizing::new(refresh.to_owned());
                tokens.refresh_token.get_or_insert_with(kept);
                Ok(Some(tokens))
            }
            Answer::Not(NotGranted { error }) if error == "invalid_grant" => Ok(None),
            Answer::Not(NotGranted { error }) => Err(refused(&error)),
        }
    }

    fn token_endpoint(&self) -> Result<&Url, PersonError> {
        let url = self.endpoints.token.as_ref();
        url.ok_or(PersonError::NotOffered {
            what: "token endpoint",
        })
    }

    fn meant_for(&self) -> impl Iterator<Item = (&'static str, &'s str)> {
        let resource = self.settings.resource.as_deref();
        let audience = self.settings.audience.as_deref();
        resource
            .map(|resource| ("resource", resource))
            .into_iter()
            .chain(audience.map(|audience| ("audience", audience)))
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        url: &Url,
        form: &[(&str, &str)],
    ) -> Result<Answer<T>, PersonError> {
        let mut form = form.to_vec();
        form.push(("client_id", &self.settings.client_id));
        answer(self.client.post(url.clone()).form(&form)).await
    }

    fn tokens(&self, granted: Granted) -> Tokens {
        let lifetime = granted.expires_in.unwrap_or(LIFETIME);
        Tokens {
            issuer: self.settings.issuer.clone(),
            client_id: self.settings.client_id.clone(),
            access_token: Zeroizing::new(granted.access_token),
            refresh_token: granted.refresh_token.map(Zeroizing::new),
            expires: runtime::unix_time().as_secs().saturating_add(lifetime),
        }
    }

    /// The code that the browser brings. Whatever else connects is told that it is wrong here.
    async fn code(
        &self,
        listener: &TcpListener,
        state: &str,
    ) -> Result<Zeroizing<String>, PersonError> {
        loop {
            let (mut stream, _) = listener.accept().await.map_err(PersonError::Local)?;
            let Some(query) = callback(&mut stream).await else {
                respond(&mut stream, "404 Not Found", "Nothing is here.").await;
                continue;
            };
            let named = |name: &str| {
                let mut all = query.iter().filter(|(given, _)| given == name);
                match (all.next(), all.next()) {
                    (Some((_, value)), None) => Some(value.as_str()),
                    _ => None,
                }
            };
            let ours = named("state").is_some_and(|given| {
                let (given, state) = (given.as_bytes(), state.as_bytes());
                same_secret(given, state)
            });
            // Spec: RFC 9207.
            let of_issuer = named("iss").is_none_or(|issuer| issuer == self.settings.issuer);
            if !ours || !of_issuer {
                respond(&mut stream, "400 Bad Request", "This is another login.").await;
                return Err(PersonError::OtherLogin);
            }
            if let Some(error) = named("error") {
                respond(&mut stream, "200 OK", "The login was refused.").await;
                return Err(refused(error));
            }
            let Some(code) = named("code") else {
                respond(&mut stream, "400 Bad Request", "The code is missing.").await;
                return Err(PersonError::NotUnderstood);
            };
            let code = Zeroizing::new(code.to_owned());
            respond(&mut stream, "200 OK", "You are logged in. Close this page.").await;
            return Ok(code);
        }
    }
}

/// The query of a request for `/callback`.
async fn callback(stream: &mut TcpStream) -> Option<Vec<(String, String)>> {
    let deadline = Instant::now() + HEAD_DEADLINE;
    let mut head = Vec::new();
    let mut piece = [0; 2048];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = timeout_at(deadline, stream.read(&mut piece)).await;
        let read = read.ok()?.ok().filter(|read| *read > 0)?;
        head.extend_from_slice(piece.get(..read)?);
        if head.len() > HEAD_BYTES_MAX {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?;
    let path = head.lines().next()?.strip_prefix("GET ")?;
    let (path, _) = path.split_once(' ')?;
    let url = Url::parse("http://127.0.0.1").ok()?.join(path).ok()?;
    let pairs = url.query_pairs().into_owned().collect();
    (url.path() == "/callback").then_some(pairs)
}

async fn respond(stream: &mut TcpStream, status: &str, text: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{text}",
        text.len()
    );
    let said = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    // A browser that is gone reads nothing.
    let _ = timeout(HEAD_DEADLINE, said).await;
}

async fn answer<T: serde::de::DeserializeOwned>(
    request: reqwest::RequestBuilder,
) -> Result<Answer<T>, PersonError> {
    // The error would name the address, which may hold what was sent.
    let asking = |error: reqwest::Error| PersonError::Asking(error.without_url());
    let exchange = async {
        let mut response = request.send().await.map_err(asking)?;
        let good = response.status().is_success();
        let mut body = Zeroizing::new(Vec::new());
        while let Some(piece) = response.chunk().await.map_err(asking)? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(PersonError::NotUnderstood);
            }
            body.extend_from_slice(&piece);
        }
        let understood = if good {
            serde_json::from_slice(&body).map(Answer::Given)
        } else {
            serde_json::from_slice(&body).map(Answer::Not)
        };
        understood.map_err(|_| PersonError::NotUnderstood)
    };
    let exchange = timeout(ANSWER_DEADLINE, exchange);
    exchange.await.unwrap_or(Err(PersonError::TimedOut))
}

fn given<T>(answer: Answer<T>) -> Result<T, PersonError> {
    match answer {
        Answer::Given(given) => Ok(given),
        Answer::Not(NotGranted { error }) => Err(refused(&error)),
    }
}

/// An error code of the issuer, made fit for a terminal.
fn refused(error: &str) -> PersonError {
    PersonError::Refused {
        error: error.chars().take(64).collect(),
    }
}

fn roots(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, PersonError> {
    let read = |source| SettingsError::Read {
        path: path.to_owned(),
        source,
    };
    let text = read_text(path).map_err(read)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        Ok(_) | Err(_) => Err(read(io::ErrorKind::InvalidData.into()).into()),
    }
}

/// 256 random bits, in characters that need no escape.
fn random() -> Result<Zeroizing<String>, PersonError> {
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(bytes.as_mut())
        .map_err(|_| PersonError::Local(io::ErrorKind::Other.into()))?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

/// Standard output is for answers; this is for the person.
fn tell(text: &str) {
    // Without anybody to read it the login times out.
    let _ = io::stderr().write_all(text.as_bytes());
}
