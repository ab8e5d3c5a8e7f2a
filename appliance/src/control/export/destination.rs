//! Where exports go: objects by name, each there whole or not at all.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpClient, HttpConnector};
use object_store::path::Path as ObjectPath;
use object_store::{ClientOptions, ObjectStoreExt, RetryConfig};
use reqwest::redirect::Policy;
use rustls::RootCertStore;
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};

use crate::config::Secret;

/// How long one request to the storage may take. An object of 8 MiB takes 10 s at 1 MB/s.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long, and how often, a request that failed for a reason that passes is tried again.
const RETRY_DEADLINE: Duration = Duration::from_secs(120);
const RETRIES_MAX: usize = 5;

/// Longest object that is read back: a cursor.
const READ_BYTES_MAX: u64 = 64 * 1024;

/// A place, as the operator names it: a directory, or `s3://BUCKET/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Directory(PathBuf),
    Bucket(Bucket),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub name: String,
    /// Without slashes at its ends; may be empty.
    pub prefix: String,
}

/// The text names no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum NotATarget {
    #[error("the name of the bucket is missing: write s3://BUCKET/PREFIX")]
    NoBucket,
    #[error("neither a directory nor s3://BUCKET/PREFIX")]
    Scheme,
}

impl Target {
    /// A relative directory starts at `base`.
    pub(crate) fn parse(text: &str, base: &Path) -> Result<Self, NotATarget> {
        let Some(rest) = text.strip_prefix("s3://") else {
            return if text.contains("://") || text.is_empty() {
                Err(NotATarget::Scheme)
            } else {
                Ok(Self::Directory(base.join(text)))
            };
        };
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() {
            return Err(NotATarget::NoBucket);
        }
        Ok(Self::Bucket(Bucket {
            name: name.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
        }))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Bucket(Bucket { name, prefix }) => write!(f, "s3://{name}/{prefix}"),
        }
    }
}

/// How S3-compatible storage is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// `None`: that of the region, at Amazon.
    pub endpoint: Option<String>,
    pub region: String,
    pub keys: Option<S3Keys>,
}

/// An access key with its secret.
#[derive(Clone)]
pub struct S3Keys {
    pub access: Secret,
    pub secret: Secret,
}

impl fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Keys")
    }
}

impl PartialEq for S3Keys {
    fn eq(&self, other: &Self) -> bool {
        self.access.same_as(&other.access) && self.secret.same_as(&other.secret)
    }
}

impl Eq for S3Keys {}

/// Why something could not be written or read there.
#[derive(Debug, Error)]
pub enum DestinationError {
    #[error("cannot {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot {operation} {name} in the bucket")]
    Object {
        operation: &'static str,
        name: String,
        #[source]
        source: Box<object_store::Error>,
    },
    #[error("the storage cannot be used as configured")]
    Settings(#[source] Box<object_store::Error>),
    #[error("`export.s3.access_key` and `export.s3.secret_key` are missing")]
    NoKeys,
    #[error("a key of the storage is not text")]
    KeyNotText,
    #[error("the storage is asked over http only on this machine; write https")]
    Clear,
    #[error("this process could not start a client")]
    Local(#[source] io::Error),
    #[error("no client of HTTPS could be made")]
    Client(#[source] reqwest::Error),
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// An opened place.
pub(super) enum Destination {
    Directory(PathBuf),
    Bucket(Box<OpenBucket>),
}

pub(super) struct OpenBucket {
    store: AmazonS3,
    prefix: String,
    runtime: Runtime,
}

impl Destination {
    pub(super) fn open(target: &Target, s3: &S3Settings) -> Result<Self, DestinationError> {
        match target {
            Target::Directory(path) => Ok(Self::Directory(path.clone())),
            Target::Bucket(bucket) => Ok(Self::Bucket(Box::new(OpenBucket::open(bucket, s3)?))),
        }
    }

    /// Whether there is an object of that name.
    pub(super) fn holds(&self, name: &str) -> Result<bool, DestinationError> {
        match self {
            Self::Directory(root) => {
                let path = root.join(name);
                path.try_exists()
                    .map_err(|source| file_error("look for", &path, source))
            }
            Self::Bucket(bucket) => bucket.holds(name),
        }
    }

    /// Writes an object that nobody sees before it is whole.
    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), DestinationError> {
        match self {
            Self::Directory(root) => put_file(&root.join(name), &bytes),
            Self::Bucket(bucket) => bucket.put(name, bytes),
        }
    }

    /// The same for one whose content changes.
    pub(super) fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), DestinationError> {
        self.put(name, bytes)
    }

    /// A small object; `None` when there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, DestinationError> {
        match self {
            Self::Directory(root) => {
                let path = root.join(name);
                match fs::read(&path) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(file_error("read", &path, source)),
                }
            }
            Self::Bucket(bucket) => bucket.read(name),
        }
    }
}

fn file_error(operation: &'static str, path: &Path, source: io::Error) -> DestinationError {
    DestinationError::File {
        operation,
        path: path.to_owned(),
        source,
    }
}

/// Under another name first: what a crash leaves there is written again by the next run.
fn put_file(path: &Path, bytes: &[u8]) -> Result<(), DestinationError> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    // What agents saw is for its owner only, here as in the recordings.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| file_error("make", directory, source))?;
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        File::open(directory)?.sync_all()
    };
    written().map_err(|source| file_error("write", path, source))
}

impl OpenBucket {
    fn open(bucket: &Bucket, s3: &S3Settings) -> Result<Self, DestinationError> {
        let keys = s3.keys.as_ref().ok_or(DestinationError::NoKeys)?;
        let text = |secret: &Secret| {
            let text = std::str::from_utf8(secret.expose());
            text.map(|text| text.trim_end().to_owned())
                .map_err(|_| DestinationError::KeyNotText)
        };
        let is_clear = s3
            .endpoint
            .as_deref()
            .is_some_and(|endpoint| endpoint.starts_with("http://"));
        if is_clear && !s3.endpoint.as_deref().is_some_and(is_loopback) {
            return Err(DestinationError::Clear);
        }
        let client = client()?;
        let retry = RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_DEADLINE,
            ..RetryConfig::default()
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.name)
            .with_region(&s3.region)
            .with_access_key_id(text(&keys.access)?)
            .with_secret_access_key(text(&keys.secret)?)
            .with_allow_http(is_clear)
            .with_http_connector(Connector(client))
            .with_retry(retry);
        if let Some(endpoint) = &s3.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder
            .build()
            .map_err(|source| DestinationError::Settings(Box::new(source)))?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DestinationError::Local)?;
        Ok(Self {
            store,
            prefix: bucket.prefix.clone(),
            runtime,
        })
    }

    fn path(&self, name: &str) -> ObjectPath {
        ObjectPath::from(format!("{}/{name}", self.prefix))
    }

    fn error(operation: &'static str, name: &str, source: object_store::Error) -> DestinationError {
        DestinationError::Object {
            operation,
            name: name.to_owned(),
            source: Box::new(source),
        }
    }

    fn holds(&self, name: &str) -> Result<bool, DestinationError> {
        match self.runtime.block_on(self.store.head(&self.path(name))) {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(Self::error("look for", name, source)),
        }
    }

    fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), DestinationError> {
        let path = self.path(name);
        let put = self.store.put(&path, bytes.into());
        self.runtime
            .block_on(put)
            .map(|_| ())
            .map_err(|source| Self::error("write", name, source))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, DestinationError> {
        let path = self.path(name);
        let read = async {
            let object = self.store.get(&path).await?;
            if object.meta.size > READ_BYTES_MAX {
                return Ok(Vec::new());
            }
            Ok(object.bytes().await?.to_vec())
        };
        match self.runtime.block_on(read) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Self::error("read", name, source)),
        }
    }
}

/// Hands our client to the library, which would make one of its own.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// A client that trusts the system's roots, and asks nobody but whom it is told to.
fn client() -> Result<reqwest::Client, DestinationError> {
    let mut roots = RootCertStore::empty();
    // The system's bundle is not ours to correct: unreadable members are left out.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(DestinationError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(REQUEST_DEADLINE)
        .no_proxy()
        .build()
        .map_err(DestinationError::Client)
}

/// Whether an endpoint is on this machine.
fn is_loopback(endpoint: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(endpoint) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_or_a_bucket() {
        let parse = |text: &str| Target::parse(text, Path::new("/etc/sallyport"));
        let bucket = |name: &str, prefix: &str| {
            Ok(Target::Bucket(Bucket {
                name: name.to_owned(),
                prefix: prefix.to_owned(),
            }))
        };
        let directory = |path: &str| Ok(Target::Directory(PathBuf::from(path)));
        assert_eq!(parse("/var/export"), directory("/var/export"));
        assert_eq!(parse("export"), directory("/etc/sallyport/export"));
        assert_eq!(parse("s3://evidence"), bucket("evidence", ""));
        assert_eq!(parse("s3://evidence/a/b/"), bucket("evidence", "a/b"));
        assert_eq!(parse("s3:///a"), Err(NotATarget::NoBucket));
        assert_eq!(parse("gs://bucket"), Err(NotATarget::Scheme));
        assert_eq!(parse(""), Err(NotATarget::Scheme));
    }

    #[test]
    fn only_this_machine_is_asked_in_clear() {
        for (endpoint, expected) in [
            ("http://127.0.0.1:8333", true),
            ("http://[::1]:8333", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
            ("http://127.0.0.1.evil.example", false),
            ("http://localhost@evil.example", false),
        ] {
            assert_eq!(is_loopback(endpoint), expected, "{endpoint}");
        }
    }
}
