//! TLS towards a target: which of its certificates are accepted.
//!
//! Does not perform handshakes; `transport` does.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::credentials::Identity;
use super::validity::check_validity;
use crate::config::Secret;

/// The protocol name of PostgreSQL in TLS (ALPN), so that a certificate shared with another
/// service cannot be used to pass that service's bytes off as a database.
pub const ALPN_POSTGRESQL: &[u8] = b"postgresql";

/// What TLS must prove about a target before anything secret is sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS is asked for.
    Disable,
    /// Encrypted, but to whom is not verified: protects from listening, not from somebody in the
    /// middle (except by SCRAM with channel binding).
    Require,
    /// The certificate chains to a configured root; its names are not looked at. For a root that
    /// signs nothing but the databases one is willing to send this account's password to.
    VerifyCa,
    /// The certificate chains to a configured root and its subject alternative names contain the
    /// target's host, as a DNS name or as an IP address, whichever the target is configured by.
    /// A common name does not count.
    VerifyFull,
}

/// Certificates that a chain may end in.
#[derive(Clone)]
pub struct Roots {
    store: Arc<RootCertStore>,
    /// Certificates that a server may show as its own: those of a file, which may be self-signed,
    /// as PostgreSQL's manual makes them; not the system's.
    listed: Arc<[CertificateDer<'static>]>,
    identity: Identity,
}

/// A certificate that the appliance shows to a target.
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    identity: Identity,
}

/// TLS as one account uses it. Immutable; shared by all shards.
#[derive(Clone)]
pub struct Tls {
    mode: TlsMode,
    client: Option<Arc<ClientConfig>>,
    identity: Identity,
}

/// The configured certificates cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsSetupError {
    #[error("no certificate found in the system's root store")]
    NoSystemRoots,
    #[error("no certificate found in the PEM text")]
    NoCertificate,
    #[error("malformed PEM text")]
    MalformedPem,
    #[error("certificate number {number} cannot be used as a root")]
    UnusableRoot { number: usize },
    #[error("no private key found in the PEM text")]
    NoPrivateKey,
    #[error("the private key cannot be used, or belongs to another certificate")]
    UnusableKey,
    #[error("a client certificate needs a TLS mode other than `disable`")]
    CertificateWithoutTls,
}

impl Roots {
    /// The certificates that the operating system trusts.
    ///
    /// Blocking: reads some hundred kilobytes. For start-up and reload only.
    pub fn system() -> Result<Self, TlsSetupError> {
        let mut store = RootCertStore::empty();
        // The system's bundle is not ours to correct: unreadable members are left out.
        let found = rustls_native_certs::load_native_certs().certs;
        let (added, _) = store.add_parsable_certificates(found.iter().cloned());
        if added == 0 {
            return Err(TlsSetupError::NoSystemRoots);
        }
        let identity = Identity::over(found.iter().map(AsRef::as_ref));
        Ok(Self {
            store: Arc::new(store),
            listed: Arc::default(),
            identity,
        })
    }

    /// The certificates of a PEM file, all of which must be usable.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsSetupError> {
        let certificates = certificates(pem)?;
        let mut store = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            store
                .add(certificate.clone())
                .map_err(|_| TlsSetupError::UnusableRoot { number: index + 1 })?;
        }
        let identity = Identity::over(certificates.iter().map(AsRef::as_ref));
        Ok(Self {
            store: Arc::new(store),
            listed: certificates.into(),
            identity,
        })
    }
}

impl ClientCertificate {
    /// A chain, leaf first, and the leaf's private key (PKCS#8, PKCS#1 or SEC1).
    pub fn from_pem(chain: &[u8], key: &Secret) -> Result<Self, TlsSetupError> {
        let chain = certificates(chain)?;
        let key =
            PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| TlsSetupError::NoPrivateKey)?;
        let identity = Identity::over(
            chain
                .iter()
                .map(AsRef::as_ref)
                .chain(std::iter::once(key.secret_der())),
        );
        Ok(Self {
            chain,
            key,
            identity,
        })
    }
}

impl Tls {
    pub fn disabled() -> Self {
        Self {
            mode: TlsMode::Disable,
            client: None,
            identity: Identity::over([&[TlsMode::Disable.number()][..]]),
        }
    }

    /// `roots` are looked at in the verifying modes only.
    pub fn new(
        mode: TlsMode,
        roots: &Roots,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Self, TlsSetupError> {
        if mode == TlsMode::Disable {
            return match certificate {
                Some(_) => Err(TlsSetupError::CertificateWithoutTls),
                None => Ok(Self::disabled()),
            };
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = TargetVerifier {
            mode,
            roots: roots.clone(),
            algorithms: provider.signature_verification_algorithms,
        };
        let mut client = client_config(provider, verifier, certificate)?;
        client.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
        // Each connection verifies the certificate it was shown, also for channel binding.
        client.resumption = Resumption::disabled();

        let identity = Identity::over([
            &[mode.number()][..],
            roots.identity.as_bytes(),
            certificate.map_or(&[][..], |certificate| certificate.identity.as_bytes()),
        ]);
        Ok(Self {
            mode,
            client: Some(Arc::new(client)),
            identity,
        })
    }

    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// `None` exactly when the mode is `Disable`.
    pub fn client(&self) -> Option<&Arc<ClientConfig>> {
        self.client.as_ref()
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl TlsMode {
    /// Whether the certificate of the peer was verified in any way.
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }

    fn number(self) -> u8 {
        match self {
            Self::Disable => 0,
            Self::Require => 1,
            Self::VerifyCa => 2,
            Self::VerifyFull => 3,
        }
    }
}

fn client_config(
    provider: Arc<CryptoProvider>,
    verifier: TargetVerifier,
    certificate: Option<&ClientCertificate>,
) -> Result<ClientConfig, TlsSetupError> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsSetupError::UnusableKey)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match certificate {
        None => Ok(builder.with_no_client_auth()),
        Some(certificate) => builder
            .with_client_auth_cert(certificate.chain.clone(), certificate.key.clone_key())
            .map_err(|_| TlsSetupError::UnusableKey),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsSetupError::MalformedPem)?;
    if certificates.is_empty() {
        return Err(TlsSetupError::NoCertificate);
    }
    Ok(certificates)
}

/// The check of a target's certificate in all modes.
///
/// Possession of the certificate's key is verified in every mode.
struct TargetVerifier {
    mode: TlsMode,
    roots: Roots,
    algorithms: WebPkiSupportedAlgorithms,
}

impl std::fmt::Debug for TargetVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TargetVerifier")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for TargetVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.mode.verifies() {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            // A certificate that the operator listed needs no signature of another. A chain of one
            // would fail: rustls takes no certificate of an authority for that of a server.
            if self.roots.listed.contains(end_entity) {
                check_validity(end_entity, now)?;
            } else {
                verify_server_cert_signed_by_trust_anchor(
                    &certificate,
                    &self.roots.store,
                    intermediates,
                    now,
                    self.algorithms.all,
                )?;
            }
            if self.mode == TlsMode::VerifyFull {
                verify_server_name(&certificate, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
