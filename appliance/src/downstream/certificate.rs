//! The certificate that clients see: the operator's, or one that the appliance makes for itself.
//!
//! It loads and makes; handshakes are `transport`'s.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use ring::digest::{SHA256, digest};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache};
use rustls::{CertificateError as CertificateFault, ServerConfig};

use crate::config::{Audience, Secret, StateDirectory, StateError};
use crate::upstream::{ALPN_POSTGRESQL, check_validity};

/// The own certificate in the state directory, for clients to use as `sslrootcert`.
pub const OWN_CERTIFICATE_FILE: &str = "tls-certificate.pem";

/// Certificate and private key in one private file, so that the two cannot come apart.
const OWN_PAIR_FILE: &str = "tls-own.pem";

/// Spec: RFC 7301; IANA, "TLS Application-Layer Protocol Negotiation Protocol IDs".
const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// TLS sessions of browsers and programs that are remembered, for shorter handshakes.
const SESSIONS_KEPT: usize = 256;

const CERTIFICATE_END: &str = "-----END CERTIFICATE-----\n";

/// Largest certificate file that is read, in bytes.
const CERTIFICATE_BYTES_MAX: u64 = 256 * 1024;

/// A chain and its private key.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is longer than {CERTIFICATE_BYTES_MAX} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("no certificate in PEM in {}", path.display())]
    NoCertificate { path: PathBuf },
    #[error("no private key in PEM in the file of the key")]
    NoKey,
    #[error("the key does not belong to the certificate, or cannot be used")]
    KeyDoesNotFit(#[source] rustls::Error),
    #[error("cannot make a certificate for these names")]
    Names(#[source] rcgen::Error),
    #[error("cannot keep a certificate")]
    State(#[from] StateError),
}

/// SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` prints it.
pub(crate) fn fingerprint_of(certificate: &CertificateDer<'static>) -> String {
    let bytes: Vec<String> = digest(&SHA256, certificate)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    bytes.join(":")
}

impl Certificate {
    /// The operator's chain (PEM, leaf first) and key (PEM).
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should.
    pub fn from_files(certificate: &Path, key: &Secret) -> Result<Self, CertificateError> {
        let pem = read_bounded(certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| CertificateError::NoCertificate {
                path: certificate.to_owned(),
            })?;
        let key =
            PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| CertificateError::NoKey)?;
        Ok(Self { chain, key })
    }

    /// Our own: from the state directory, or made for `names` and kept there.
    ///
    /// Shape: ECDSA P-256, self-signed, not a CA, so that it vouches for itself and nothing else.
    ///
    /// # Errors
    /// The state directory cannot be used, or a name cannot stand in a certificate.
    pub fn own(state: &StateDirectory, names: &[String]) -> Result<Self, CertificateError> {
        let pair = match state.private(OWN_PAIR_FILE)? {
            Some(pair) => pair,
            None => {
                let made = make_pair(names)?;
                state.create(OWN_PAIR_FILE, Audience::Owner, made.expose())?;
                // Of two processes that start at once, the first one's pair is the one in force.
                state.private(OWN_PAIR_FILE)?.unwrap_or(made)
            }
        };
        let path = || state.file(OWN_PAIR_FILE);
        let certificate = CertificateDer::from_pem_slice(pair.expose())
            .map_err(|_| CertificateError::NoCertificate { path: path() })?;
        let key =
            PrivateKeyDer::from_pem_slice(pair.expose()).map_err(|_| CertificateError::NoKey)?;
        publish(state, &pair)?;
        Ok(Self {
            chain: vec![certificate],
            key,
        })
    }

    /// What is wrong with its dates at `now`, since 1970.
    ///
    /// Not an error: a clock that is wrong must not keep the appliance from starting, and clients
    /// decide for themselves.
    pub fn lapse(&self, now: Duration) -> Option<&'static str> {
        let leaf = self.chain.first()?;
        match check_validity(leaf, UnixTime::since_unix_epoch(now)) {
            Err(CertificateFault::Expired) => Some("has expired"),
            Err(CertificateFault::NotValidYet) => Some("is not valid yet"),
            // What cannot be read is found when it is matched with its key.
            Ok(()) | Err(_) => None,
        }
    }

    /// SHA-256 of the leaf, as `openssl x509 -fingerprint -sha256` prints it.
    pub fn fingerprint(&self) -> String {
        self.chain.first().map_or_else(String::new, fingerprint_of)
    }

    /// What handshakes with PostgreSQL clients use: TLS 1.2 and 1.3, no client certificates.
    ///
    /// # Errors
    /// The key does not fit the certificate.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::KeyDoesNotFit)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(CertificateError::KeyDoesNotFit)?;
        config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
        Ok(Arc::new(config))
    }

    /// The same where clients prove who they are by a certificate. One without any gets through the
    /// handshake, so that it can be told; one with another's or an expired one does not.
    ///
    /// # Errors
    /// As `server_config`.
    pub fn verifying_config(
        &self,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<Arc<ServerConfig>, CertificateError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::KeyDoesNotFit)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(CertificateError::KeyDoesNotFit)?;
        config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
        // A session that is resumed has its certificate verified by nobody.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// How the control plane speaks HTTPS with this certificate. No client shows one.
    ///
    /// # Errors
    /// As `server_config`.
    pub fn https_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let mut config = ServerConfig::clone(&*self.server_config()?);
        config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
        // Sessions of agents are resumed by agents' listeners alone.
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_KEPT);
        Ok(Arc::new(config))
    }
}

/// Puts the certificate without its key where it can be given to clients.
fn publish(state: &StateDirectory, pair: &Secret) -> Result<(), StateError> {
    let end = CERTIFICATE_END.len();
    let pem = pair
        .expose()
        .windows(end)
        .position(|window| window == CERTIFICATE_END.as_bytes());
    let certificate = pem
        .and_then(|start| pair.expose().get(..start + end))
        .unwrap_or(&[]);
    state.replace(OWN_CERTIFICATE_FILE, Audience::Everyone, certificate)
}

/// A new certificate and its key, in this order.
fn make_pair(names: &[String]) -> Result<Secret, CertificateError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CertificateError::Names)?;
    let mut params = CertificateParams::new(names).map_err(CertificateError::Names)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Sallyport");
    params.is_ca = IsCa::NoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // No end date but that of rcgen (the year 4096): clients hold this very certificate as their
    // root, so an end would only be an outage with a date.
    let certificate = params.self_signed(&key).map_err(CertificateError::Names)?;
    let mut pair = certificate.pem().replace("\r\n", "\n").into_bytes();
    pair.extend_from_slice(key.serialize_pem().as_bytes());
    Ok(Secret::new(pair))
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let unreadable = |source| CertificateError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(CERTIFICATE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > CERTIFICATE_BYTES_MAX {
        return Err(CertificateError::TooLong {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Writing;

    fn names() -> Vec<String> {
        vec!["localhost".into(), "127.0.0.1".into(), "::1".into()]
    }

    #[test]
    fn the_own_certificate_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().join("state"), Writing::Create);
        let first = Certificate::own(&state, &names()).unwrap();
        let second = Certificate::own(&state, &["other.example".into()]).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_eq!(first.fingerprint().len(), 32 * 3 - 1);
        assert!(first.server_config().is_ok());
        let mode =
            |name: &str| fs::metadata(state.file(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(OWN_PAIR_FILE), 0o600);
        assert_eq!(mode(OWN_CERTIFICATE_FILE), 0o644);
        let public = fs::read_to_string(state.file(OWN_CERTIFICATE_FILE)).unwrap();
        assert!(public.ends_with(CERTIFICATE_END), "{public}");
        assert!(!public.contains("PRIVATE"), "{public}");
    }

    #[test]
    fn without_the_pair_a_new_one_is_made_and_published() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().to_owned(), Writing::Create);
        let first = Certificate::own(&state, &names()).unwrap();
        let published = fs::read(state.file(OWN_CERTIFICATE_FILE)).unwrap();
        fs::remove_file(state.file(OWN_PAIR_FILE)).unwrap();
        let second = Certificate::own(&state, &names()).unwrap();
        assert_ne!(first.fingerprint(), second.fingerprint());
        assert_ne!(
            published,
            fs::read(state.file(OWN_CERTIFICATE_FILE)).unwrap()
        );
    }

    #[test]
    fn a_check_makes_one_in_memory_and_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().join("state"), Writing::Never);
        assert!(Certificate::own(&state, &names()).is_ok());
        assert!(!state.path().exists());
    }

    #[test]
    fn operator_files_are_checked_against_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chain.pem");
        let pair = make_pair(&names()).unwrap();
        let other = make_pair(&names()).unwrap();
        fs::write(&path, pair.expose()).unwrap();
        let config = |key: &Secret| Certificate::from_files(&path, key)?.server_config();
        assert!(config(&pair).is_ok());
        assert!(matches!(
            config(&other).err(),
            Some(CertificateError::KeyDoesNotFit(_))
        ));
        let nothing = Secret::new(b"nothing".to_vec());
        assert!(matches!(
            config(&nothing).err(),
            Some(CertificateError::NoKey)
        ));
        fs::write(&path, b"nothing").unwrap();
        assert!(matches!(
            config(&pair).err(),
            Some(CertificateError::NoCertificate { .. })
        ));
        fs::write(&path, vec![b'x'; 256 * 1024 + 1]).unwrap();
        assert!(matches!(
            config(&pair).err(),
            Some(CertificateError::TooLong { .. })
        ));
    }
}
