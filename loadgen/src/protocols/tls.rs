//! TLS towards a target: what its certificate has to prove.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// The protocol name of PostgreSQL in TLS.
const ALPN_POSTGRESQL: &[u8] = b"postgresql";

/// As libpq calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    #[default]
    Disable,
    /// Encrypted; to whom is not verified.
    Require,
    /// The certificate chains to a root and is for the target's host.
    VerifyFull,
}

/// TLS of one target; `None` is none. Shared by the shards of a run.
#[derive(Debug, Clone, Default)]
pub struct Tls(Option<Arc<ClientConfig>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsSetupError {
    #[error("no certificate found in the root file")]
    NoCertificate,
    #[error("the root file is not PEM")]
    MalformedPem,
    #[error("certificate number {number} of the root file cannot be used as a root")]
    UnusableRoot { number: usize },
    #[error("no certificate found in the system's root store")]
    NoSystemRoots,
    #[error("TLS cannot be set up")]
    Unusable,
}

impl Tls {
    /// `roots` is the text of a PEM file, looked at with `VerifyFull` alone; `None` stands for what
    /// the system trusts.
    ///
    /// # Errors
    /// When the roots cannot be used.
    pub fn new(mode: TlsMode, roots: Option<&[u8]>) -> Result<Self, TlsSetupError> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match mode {
            TlsMode::Disable => return Ok(Self(None)),
            TlsMode::Require => Arc::new(Anybody(provider.signature_verification_algorithms)),
            TlsMode::VerifyFull => {
                let store = roots.map_or_else(system_roots, listed_roots)?;
                WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider))
                    .build()
                    .map_err(|_| TlsSetupError::Unusable)?
            }
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsSetupError::Unusable)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
        // A connection costs what a first connection costs.
        config.resumption = Resumption::disabled();
        Ok(Self(Some(Arc::new(config))))
    }

    pub(super) fn client(&self) -> Option<&Arc<ClientConfig>> {
        self.0.as_ref()
    }
}

fn system_roots() -> Result<RootCertStore, TlsSetupError> {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs().certs;
    let (added, _) = store.add_parsable_certificates(found);
    if added == 0 {
        return Err(TlsSetupError::NoSystemRoots);
    }
    Ok(store)
}

fn listed_roots(pem: &[u8]) -> Result<RootCertStore, TlsSetupError> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let certificate = certificate.map_err(|_| TlsSetupError::MalformedPem)?;
        store
            .add(certificate)
            .map_err(|_| TlsSetupError::UnusableRoot { number: index + 1 })?;
    }
    if store.is_empty() {
        return Err(TlsSetupError::NoCertificate);
    }
    Ok(store)
}

/// Accepts every certificate whose key the peer holds.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
