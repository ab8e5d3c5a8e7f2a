//! One attempt to fetch an issuer's discovery document and key set.
//!
//! It decides what an answer may be: from whom, how long, how large, and that it says what was
//! asked. When to ask, and what to do with it, is its caller's.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode, Url, header};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;

use crate::identity::remote::{AddressError, Endpoints, NEWER_KEYS, Place, RemoteSource, address};
use crate::identity::{JWKS_BYTES_MAX, KeySet, KeySetError};

/// For a whole attempt, both documents.
const ATTEMPT_DEADLINE: Duration = NEWER_KEYS;

/// To connect, TLS included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Largest discovery document, in bytes. Those of the large providers are below 8 KiB.
const DOCUMENT_BYTES_MAX: u64 = 256 * 1024;

/// Largest answer of a token endpoint, in bytes: three tokens of 16 KiB, escaped.
const TOKENS_BYTES_MAX: u64 = 64 * 1024;

const AGENT: &str = concat!("sallyport/", env!("CARGO_PKG_VERSION"));

/// What an issuer publishes now.
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    /// The key set as it came.
    pub(super) jwks: String,
    pub(super) endpoints: Option<Endpoints>,
    /// How long the issuer lets it be kept, if it says.
    pub(super) max_age: Option<Duration>,
}

/// Why there is nothing new.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("it did not answer in {} s", ATTEMPT_DEADLINE.as_secs())]
    TimedOut,
    #[error("no client can be made")]
    Client(#[source] reqwest::Error),
    #[error("no client can be made: the TLS settings are not accepted")]
    Tls(#[source] rustls::Error),
    #[error("it cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("its {document} broke off")]
    BrokeOff {
        document: &'static str,
        source: reqwest::Error,
    },
    #[error("its {document} is not there: status {status}")]
    Status {
        document: &'static str,
        status: StatusCode,
    },
    #[error("its {document} is somewhere else: redirects are not followed")]
    Redirected { document: &'static str },
    #[error("its {document} is longer than {limit} bytes")]
    TooLong { document: &'static str, limit: u64 },
    #[error("its discovery document is not the JSON that it should be")]
    MalformedDocument,
    #[error("its discovery document is of another issuer")]
    OtherIssuer,
    #[error("its discovery document names no usable place of keys")]
    KeysPlace(#[source] AddressError),
    #[error("its key set is not accepted")]
    Keys(#[from] KeySetError),
    #[error("the attempt was given up")]
    GivenUp,
}

const DISCOVERY: &str = "discovery document";
const KEY_SET: &str = "key set";
const TOKENS: &str = "answer to the code";

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
}

/// Fetches what `source` publishes.
pub(super) async fn fetch(source: Arc<RemoteSource>) -> Result<Fetched, FetchError> {
    let attempt = async {
        let roots = Arc::clone(&source.roots);
        // Reads the system's certificates.
        let client = tokio::task::spawn_blocking(move || client(&roots)).await;
        let client = client.map_err(|_| FetchError::GivenUp)??;
        let (jwks_url, endpoints) = match &source.place {
            Place::Jwks(url) => (url.clone(), None),
            Place::Discovery(url) => {
                let endpoints = discover(&client, &source.issuer, url).await?;
                (endpoints.jwks.clone(), Some(endpoints))
            }
        };
        let (bytes, max_age) = get(&client, &jwks_url, KEY_SET, JWKS_BYTES_MAX).await?;
        let keys = KeySet::from_jwks(&bytes)?;
        let jwks = String::from_utf8(bytes).map_err(|_| KeySetError::Malformed)?;
        Ok(Fetched {
            keys,
            jwks,
            endpoints,
            max_age,
        })
    };
    let attempt = tokio::time::timeout(ATTEMPT_DEADLINE, attempt);
    attempt.await.unwrap_or(Err(FetchError::TimedOut))
}

/// What an issuer is like from here, for a person who looks once.
pub struct IssuerLook {
    /// Its keys can be had.
    pub keys: Result<(), FetchError>,
    /// `Date` of its answer, as sent.
    pub date: Option<String>,
}

/// Fetches what `source` publishes once, and keeps nothing. Blocking.
///
/// # Errors
/// This process has no resources for it.
pub fn look(source: &Arc<RemoteSource>) -> std::io::Result<IssuerLook> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(async {
        let keys = fetch(Arc::clone(source)).await.map(drop);
        let date = match &keys {
            Ok(()) => date(source).await,
            Err(_) => None,
        };
        IssuerLook { keys, date }
    }))
}

async fn date(source: &RemoteSource) -> Option<String> {
    let (Place::Jwks(url) | Place::Discovery(url)) = &source.place;
    let client = client(&source.roots).ok()?;
    let sent = client.get(url.clone()).timeout(ATTEMPT_DEADLINE).send();
    let response = sent.await.ok()?;
    let date = response.headers().get(header::DATE)?;
    date.to_str().ok().map(str::to_owned)
}

/// What the token endpoint of an issuer answers to a form; `basic` is the id and secret of a client
/// that has one.
///
/// Spec: RFC 6749, "Access Token Request".
pub(in crate::control) async fn post_form(
    source: &RemoteSource,
    endpoint: Url,
    form: &[(&str, &str)],
    basic: Option<(String, String)>,
) -> Result<Vec<u8>, FetchError> {
    let roots = Arc::clone(&source.roots);
    let attempt = async {
        let client = tokio::task::spawn_blocking(move || client(&roots)).await;
        let client = client.map_err(|_| FetchError::GivenUp)??;
        let request = client
            .post(endpoint)
            .header(header::ACCEPT, "application/json")
            .form(form);
        let request = match basic {
            Some((id, secret)) => request.basic_auth(id, Some(secret)),
            None => request,
        };
        let (body, _) = answer(request, TOKENS, TOKENS_BYTES_MAX).await?;
        Ok(body)
    };
    let attempt = tokio::time::timeout(ATTEMPT_DEADLINE, attempt);
    attempt.await.unwrap_or(Err(FetchError::TimedOut))
}

/// What the discovery document of `issuer` at `url` says.
///
/// # Errors
/// There is none, or it is of another issuer.
pub async fn discover(client: &Client, issuer: &str, url: &Url) -> Result<Endpoints, FetchError> {
    let (bytes, _) = get(client, url, DISCOVERY, DOCUMENT_BYTES_MAX).await?;
    endpoints(issuer, url, &bytes)
}

/// A client that trusts the system's roots and these, and asks nobody but whom it is told to.
/// Blocking: reads the system's certificates.
///
/// # Errors
/// This process has no resources for it.
pub fn client(roots: &[CertificateDer<'static>]) -> Result<Client, FetchError> {
    let mut store = RootCertStore::empty();
    // The system's bundle is not ours to correct: unreadable members are left out.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store.add_parsable_certificates(roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(FetchError::Tls)?
        .with_root_certificates(store)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .connect_timeout(CONNECT_DEADLINE)
        .user_agent(AGENT)
        .no_proxy()
        .build()
        .map_err(FetchError::Client)
}

/// The body that stands at `url`, of `limit` bytes at most, and how long it may be kept.
async fn get(
    client: &Client,
    url: &Url,
    document: &'static str,
    limit: u64,
) -> Result<(Vec<u8>, Option<Duration>), FetchError> {
    let request = client
        .get(url.clone())
        .header(header::ACCEPT, "application/json");
    answer(request, document, limit).await
}

/// What is answered, of `limit` bytes at most, and how long it may be kept.
async fn answer(
    request: RequestBuilder,
    document: &'static str,
    limit: u64,
) -> Result<(Vec<u8>, Option<Duration>), FetchError> {
    let sent = request.send().await;
    let mut response = sent.map_err(|error| FetchError::Unreachable(error.without_url()))?;
    let status = response.status();
    if status.is_redirection() {
        return Err(FetchError::Redirected { document });
    }
    if status != StatusCode::OK {
        return Err(FetchError::Status { document, status });
    }
    let too_long = || FetchError::TooLong { document, limit };
    if response
        .content_length()
        .is_some_and(|announced| announced > limit)
    {
        return Err(too_long());
    }
    let max_age = response
        .headers()
        .get(header::CACHE_CONTROL)
        .and_then(|value| max_age(value.to_str().ok()?));
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| {
        let source = error.without_url();
        FetchError::BrokeOff { document, source }
    })? {
        if u64::try_from(body.len() + piece.len()).map_or(true, |length| length > limit) {
            return Err(too_long());
        }
        body.extend_from_slice(&piece);
    }
    Ok((body, max_age))
}

/// What a `Cache-Control` says about keeping, if it says anything that is understood.
///
/// Spec: RFC 9111, "Cache-Control".
fn max_age(value: &str) -> Option<Duration> {
    let mut found = None;
    for directive in value.split(',').map(str::trim) {
        let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => found = argument.trim_matches('"').parse().ok(),
            _ => {}
        }
    }
    found.map(Duration::from_secs)
}

fn endpoints(issuer: &str, from: &Url, bytes: &[u8]) -> Result<Endpoints, FetchError> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|_| FetchError::MalformedDocument)?;
    if document.issuer != issuer {
        return Err(FetchError::OtherIssuer);
    }
    // Who is reached by https names nothing that is not.
    let usable = |text: &str| match address(text) {
        Ok(url) if url.scheme() == "http" && from.scheme() != "http" => {
            Err(AddressError::NotPrivate)
        }
        other => other,
    };
    let optional = |text: &Option<String>| text.as_deref().and_then(|text| usable(text).ok());
    Ok(Endpoints {
        authorization: optional(&document.authorization_endpoint),
        token: optional(&document.token_endpoint),
        device_authorization: optional(&document.device_authorization_endpoint),
        jwks: usable(&document.jwks_uri).map_err(FetchError::KeysPlace)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(issuer: &str, document: &str) -> Result<Endpoints, FetchError> {
        let place = Place::of_issuer(issuer).unwrap();
        endpoints(issuer, place.url(), document.as_bytes())
    }

    #[test]
    fn keys_may_be_kept_as_long_as_their_issuer_says() {
        let seconds = |value| max_age(value).map(|age| age.as_secs());
        assert_eq!(seconds("public, max-age=300"), Some(300));
        assert_eq!(seconds("Max-Age=\"60\", must-revalidate"), Some(60));
        assert_eq!(seconds("max-age=300, no-store"), Some(0));
        assert_eq!(seconds("no-cache"), Some(0));
        assert_eq!(seconds("public"), None);
        assert_eq!(seconds("max-age=soon"), None);
        assert_eq!(seconds("max-age=-1"), None);
        assert_eq!(seconds("s-maxage=5"), None);
    }

    #[test]
    fn a_document_is_of_exactly_this_issuer() {
        let document = |issuer: &str| {
            format!(r#"{{"issuer": "{issuer}", "jwks_uri": "https://keys.example/jwks"}}"#)
        };
        let found = read("https://a.example", &document("https://a.example")).unwrap();
        assert_eq!(found.jwks.as_str(), "https://keys.example/jwks");
        assert_eq!(found.token, None);
        for other in [
            "https://a.example/",
            "https://A.example",
            "",
            "https://b.example",
        ] {
            let outcome = read("https://a.example", &document(other));
            assert!(matches!(outcome, Err(FetchError::OtherIssuer)), "{other}");
        }
        let outcome = read("https://a.example", "[]");
        assert!(matches!(outcome, Err(FetchError::MalformedDocument)));
    }

    #[test]
    fn a_document_names_https_alone_unless_it_is_of_this_machine() {
        let document = |issuer: &str, scheme: &str| {
            format!(
                r#"{{"issuer": "{issuer}", "jwks_uri": "{scheme}://127.0.0.1/jwks",
                     "token_endpoint": "{scheme}://127.0.0.1/token",
                     "authorization_endpoint": "javascript:alert(1)"}}"#
            )
        };
        let remote = "https://a.example";
        let outcome = read(remote, &document(remote, "http"));
        assert!(matches!(
            outcome,
            Err(FetchError::KeysPlace(AddressError::NotPrivate))
        ));
        let outcome = read(remote, &document(remote, "file"));
        assert!(matches!(outcome, Err(FetchError::KeysPlace(_))));
        let local = "http://127.0.0.1:9";
        let found = read(local, &document(local, "http")).unwrap();
        assert_eq!(found.token.unwrap().as_str(), "http://127.0.0.1/token");
        assert_eq!(found.authorization, None);
    }
}
