//! Keys that an issuer publishes over HTTPS: where they stand, and those that are in force.
//!
//! Nothing here fetches: the control plane does, and publishes what it found.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use ring::digest::{Context, SHA256};
use runtime::{ReplyReceiver, ReplySender, Sender};
use rustls::pki_types::CertificateDer;

use super::KeySet;

/// Questions for newer keys that may wait for the control plane. One login asks once, so with
/// more, logins are coming in faster than they can be answered, and those beyond are refused.
pub const QUESTIONS_MAX: usize = 1024;

/// How long whoever presents a token waits for its issuer's newer keys: as long as one attempt to
/// fetch them may take.
pub const NEWER_KEYS: Duration = Duration::from_secs(10);

/// Where the keys of one issuer are found, and how long they serve. Part of the configuration.
#[derive(Debug, Clone)]
pub struct RemoteSource {
    /// The operator's name for the issuer.
    pub name: String,
    /// The exact `iss` of its tokens.
    pub issuer: String,
    /// Where it publishes.
    pub place: Place,
    /// Roots that its certificate may chain to, besides the system's.
    pub roots: Arc<[CertificateDer<'static>]>,
    /// Least time between two attempts that something other than a failure caused.
    pub refresh_min: Duration,
    /// Keys are fetched again after this long at the latest.
    pub refresh_max: Duration,
    /// From the last success until keys no longer verify.
    pub stale_max: Duration,
}

/// What is fetched first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The discovery document, which says where the keys stand.
    Discovery(Url),
    /// The key set itself.
    Jwks(Url),
}

/// Names a source by all that decides whose keys come from it: keys that were fetched by one
/// configuration never serve another that looks elsewhere or trusts other certificates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId([u8; 16]);

/// A text that is no address of a key set or discovery document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("not an address that begins with https://")]
    Malformed,
    #[error("plain http is for this machine alone (127.0.0.1, [::1], localhost)")]
    NotPrivate,
    #[error("an address here has no user, password or fragment")]
    Decorated,
}

/// Reads an address that keys or documents may be fetched from.
///
/// # Errors
/// Anything but https, or http on a loopback address.
pub fn address(text: &str) -> Result<Url, AddressError> {
    let url = Url::parse(text).map_err(|_| AddressError::Malformed)?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => return Err(AddressError::NotPrivate),
        _ => return Err(AddressError::Malformed),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(AddressError::Decorated);
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare.parse().is_ok_and(|v4: Ipv4Addr| v4.is_loopback())
        || bare.parse().is_ok_and(|v6: Ipv6Addr| v6.is_loopback())
}

impl Place {
    /// Where an issuer's discovery document stands.
    ///
    /// # Errors
    /// The issuer is no address.
    ///
    /// Spec: OpenID Connect Discovery 1.0, "Obtaining OpenID Provider Configuration Information".
    pub fn of_issuer(issuer: &str) -> Result<Self, AddressError> {
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let url = address(&format!("{base}/.well-known/openid-configuration"))?;
        if url.query().is_some() {
            return Err(AddressError::Decorated);
        }
        Ok(Self::Discovery(url))
    }

    /// The address that is fetched first.
    pub fn url(&self) -> &Url {
        match self {
            Self::Discovery(url) | Self::Jwks(url) => url,
        }
    }
}

impl RemoteSource {
    /// What its keys are known by.
    pub fn id(&self) -> SourceId {
        let mut context = Context::new(&SHA256);
        let mut add = |part: &[u8]| {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        };
        add(self.issuer.as_bytes());
        add(self.place.url().as_str().as_bytes());
        for root in self.roots.iter() {
            add(root);
        }
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        SourceId(id)
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where an issuer serves people and programs, as its discovery document says.
///
/// Shape: addresses are https, or http on a loopback address of an issuer that is there itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    pub authorization: Option<Url>,
    pub token: Option<Url>,
    pub device_authorization: Option<Url>,
    pub jwks: Url,
}

/// What is known of one source.
#[derive(Debug, Clone)]
pub struct Known {
    pub id: SourceId,
    /// The operator's name for the issuer.
    pub name: String,
    /// `None` until the first success, and when the last one is too long ago.
    pub keys: Option<Arc<KeySet>>,
    /// Absent where the key set's own address is configured.
    pub endpoints: Option<Arc<Endpoints>>,
    /// When the keys were last fetched, in seconds since 1970.
    pub fetched: Option<u64>,
    /// From when on they do not verify, in seconds since 1970.
    pub usable_until: u64,
    /// Why the last attempt failed, if it did.
    pub trouble: Option<String>,
}

impl Known {
    /// How long ago its keys were fetched, at `now` (seconds since 1970).
    pub fn age(&self, now: u64) -> Option<Duration> {
        let fetched = self.fetched?;
        Some(Duration::from_secs(now.saturating_sub(fetched)))
    }
}

/// The keys of all remote sources that are in force. Immutable; published by the control plane.
#[derive(Debug, Clone, Default)]
pub struct RemoteKeys {
    /// Differs whenever a key came or went.
    pub generation: u64,
    pub sources: Vec<Known>,
}

impl RemoteKeys {
    /// Those of nobody.
    pub fn none() -> Self {
        Self::default()
    }

    /// What is known of a source.
    pub fn find(&self, id: SourceId) -> Option<&Known> {
        self.sources.iter().find(|known| known.id == id)
    }

    /// What is known of the issuer that the operator calls `name`.
    pub fn named(&self, name: &str) -> Option<&Known> {
        self.sources.iter().find(|known| known.name == name)
    }

    /// Its keys, unless they are too old at `now` (seconds since 1970).
    pub(super) fn keys(&self, id: SourceId, now: u64) -> Option<&KeySet> {
        let known = self.find(id)?;
        (now < known.usable_until)
            .then_some(known.keys.as_deref())
            .flatten()
    }
}

/// A question for newer keys of one source.
#[derive(Debug)]
pub struct RefreshWanted {
    pub source: SourceId,
    /// Told when the attempt is over; dropped when none will be made now.
    pub done: ReplySender<()>,
}

/// Asks the control plane for newer keys. Any thread, any number of clones.
#[derive(Debug, Clone)]
pub struct KeyRefresh(Sender<RefreshWanted>);

impl KeyRefresh {
    /// One that asks through this mailbox.
    pub fn new(mailbox: Sender<RefreshWanted>) -> Self {
        Self(mailbox)
    }

    /// Ready when an attempt is over, or none will be made now. `None`: nobody can be asked, since
    /// the mailbox is full or the control plane is gone.
    pub fn ask(&self, source: SourceId) -> Option<ReplyReceiver<()>> {
        let (done, answer) = runtime::reply();
        self.0.try_send(RefreshWanted { source, done }).ok()?;
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_https_or_this_machine() {
        let cases = [
            ("https://idp.example/keys", Ok(())),
            ("http://127.0.0.1:8080/keys", Ok(())),
            ("http://[::1]:8080/keys", Ok(())),
            ("http://localhost/keys", Ok(())),
            ("http://idp.example/keys", Err(AddressError::NotPrivate)),
            ("http://127.0.0.1.example/", Err(AddressError::NotPrivate)),
            ("http://localhost.example/", Err(AddressError::NotPrivate)),
            ("http://10.0.0.1/", Err(AddressError::NotPrivate)),
            ("file:///etc/passwd", Err(AddressError::Malformed)),
            ("ftp://127.0.0.1/", Err(AddressError::Malformed)),
            ("idp.example", Err(AddressError::Malformed)),
            ("https://a:b@idp.example/", Err(AddressError::Decorated)),
            ("https://idp.example/#x", Err(AddressError::Decorated)),
        ];
        for (text, expected) in cases {
            assert_eq!(address(text).map(|_| ()), expected, "{text}");
        }
    }

    #[test]
    fn the_document_stands_below_the_issuer() {
        let found = |issuer| Place::of_issuer(issuer).map(|place| place.url().to_string());
        let at = |text: &str| Ok(text.to_owned());
        assert_eq!(
            found("https://idp.example"),
            at("https://idp.example/.well-known/openid-configuration")
        );
        assert_eq!(
            found("https://idp.example/realms/a/"),
            at("https://idp.example/realms/a/.well-known/openid-configuration")
        );
        assert_eq!(
            found("https://idp.example/?a=b"),
            Err(AddressError::Decorated)
        );
        assert_eq!(found("sallyport:12"), Err(AddressError::Malformed));
    }

    #[test]
    fn a_source_that_looks_elsewhere_or_trusts_others_is_another() {
        let source = |issuer: &str, roots: &[&[u8]]| RemoteSource {
            name: "corp".into(),
            issuer: issuer.into(),
            place: Place::of_issuer(issuer).unwrap(),
            roots: roots
                .iter()
                .map(|root| CertificateDer::from(root.to_vec()))
                .collect(),
            refresh_min: Duration::ZERO,
            refresh_max: Duration::ZERO,
            stale_max: Duration::ZERO,
        };
        let here = source("https://a.example", &[b"root"]);
        assert_eq!(here.id(), source("https://a.example", &[b"root"]).id());
        for other in [
            source("https://b.example", &[b"root"]),
            source("https://a.example/", &[b"root"]),
            source("https://a.example", &[]),
            source("https://a.example", &[b"ro", b"ot"]),
            RemoteSource {
                place: Place::Jwks(address("https://a.example/keys").unwrap()),
                ..here.clone()
            },
        ] {
            assert_ne!(here.id(), other.id(), "{other:?}");
        }
    }
}
