//! How client certificates are verified and read, from the configuration.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::reader::{Reader, text_or_default};
use crate::config::file::{File, Text, span_of};
use crate::config::keys;
use crate::config::snapshot::{ListenerProof, ListenerSettings};
use crate::identity::{
    CERTIFICATE_ISSUER, CertificateSubject, ClientCertificates, is_trust_domain,
};

/// Largest file of authorities or revocation lists, in bytes. A list of 100,000 certificates takes 4 MB.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What certificate listeners go by.
pub(super) struct Clients {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    pub(super) certificates: ClientCertificates,
}

/// `None` when no listener asks for certificates, or when something is wrong.
pub(super) fn resolve(
    reader: &mut Reader<'_>,
    written: &File,
    listeners: &[ListenerSettings],
) -> Option<Clients> {
    let asks = |listener: &ListenerSettings| listener.proof == ListenerProof::Certificate;
    if !listeners.iter().any(asks) {
        return None;
    }
    let Some(roots) = &written.tls.client_roots else {
        let at = span_of(written.listen.postgres.as_ref());
        reader.problem(at, "`proof = \"certificate\"` needs `tls.client_roots`");
        return None;
    };
    let verifier = verifier(reader, roots, written.tls.client_crl.as_ref());
    let subject = subject(reader, written);
    let groups = groups(reader, written);
    Some(Clients {
        verifier: verifier?,
        certificates: ClientCertificates {
            subject: subject?,
            groups,
        },
    })
}

fn verifier(
    reader: &mut Reader<'_>,
    roots: &Text,
    crl: Option<&Text>,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let mut store = RootCertStore::empty();
    for root in pem::<CertificateDer<'_>>(reader, roots, "certificate")? {
        if let Err(error) = store.add(root) {
            reader.error(roots.span(), &error);
            return None;
        }
    }
    let provider = Arc::new(default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
    if let Some(crl) = crl {
        let lists = pem::<CertificateRevocationListDer<'_>>(reader, crl, "revocation list")?;
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    match builder.allow_unauthenticated().build() {
        Ok(verifier) => Some(verifier),
        Err(error) => {
            reader.error(crl.unwrap_or(roots).span(), &error);
            None
        }
    }
}

/// Everything of one kind in a file, and there must be something.
fn pem<T: PemObject>(reader: &mut Reader<'_>, file: &Text, what: &str) -> Option<Vec<T>> {
    let path = reader.path(file);
    let bytes = reader.contents(&path, file.span(), FILE_BYTES_MAX)?;
    let found: Result<Vec<T>, _> = T::pem_slice_iter(&bytes).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    if found.is_none() {
        reader.problem(
            file.span(),
            format!("no {what} in PEM in {}", path.display()),
        );
    }
    found
}

fn subject(reader: &mut Reader<'_>, written: &File) -> Option<CertificateSubject> {
    let clients = &written.client_certificates;
    let kind = text_or_default(clients.subject.as_ref(), &keys::CLIENT_CERTIFICATES_SUBJECT);
    if kind == "spiffe" {
        let Some(trust_domain) = &clients.trust_domain else {
            let at = span_of(written.tls.client_roots.as_ref());
            reader.problem(at, "SPIFFE ids need `client_certificates.trust_domain`");
            return None;
        };
        if !is_trust_domain(trust_domain.get_ref()) {
            let at = trust_domain.span();
            reader.problem(
                at,
                "a trust domain is a name such as `example.org`, in lower case",
            );
            return None;
        }
        let trust_domain = trust_domain.get_ref().clone();
        let issuer = format!("spiffe://{trust_domain}");
        is_free(reader, written, &issuer)?;
        return Some(CertificateSubject::Spiffe { trust_domain });
    }
    let Some(issuer) = &clients.issuer else {
        let at = span_of(clients.subject.as_ref());
        reader.problem(
            at,
            "a common or DNS name needs `client_certificates.issuer`",
        );
        return None;
    };
    if issuer.get_ref().is_empty() || issuer.get_ref().contains(char::is_control) {
        reader.problem(issuer.span(), "an issuer has a name");
        return None;
    }
    is_free(reader, written, issuer.get_ref())?;
    let issuer = issuer.get_ref().clone();
    match kind {
        "common-name" => Some(CertificateSubject::CommonName { issuer }),
        "dns" => Some(CertificateSubject::DnsName { issuer }),
        _ => {
            let key = &keys::CLIENT_CERTIFICATES_SUBJECT;
            let kinds = [("spiffe", ()), ("common-name", ()), ("dns", ())];
            reader.choice(clients.subject.as_ref(), key, &kinds);
            None
        }
    }
}

/// Whether no issuer of tokens is what principals with certificates would be taken for.
fn is_free(reader: &mut Reader<'_>, written: &File, issuer: &str) -> Option<()> {
    let mut is_free = Some(());
    for known in &written.issuer {
        if known.issuer.get_ref() == issuer {
            let message = "it is the issuer of principals with client certificates as well";
            reader.problem(known.issuer.span(), message);
            is_free = None;
        }
        if known.name.get_ref() == CERTIFICATE_ISSUER {
            let message = "this is what the issuer of client certificates is called";
            reader.problem(known.name.span(), message);
            is_free = None;
        }
    }
    is_free
}

fn groups(reader: &mut Reader<'_>, written: &File) -> Vec<(String, Vec<String>)> {
    let mut groups = Vec::new();
    for (pattern, names) in &written.client_certificates.groups {
        let (front, rest) = pattern.split_at(pattern.find('*').unwrap_or(pattern.len()));
        if front.is_empty() || !matches!(rest, "" | "*") {
            let message = "a subject, or the beginning of one and a `*`";
            reader.problem(names.span(), message);
        }
        let of_pattern: Vec<String> = names
            .get_ref()
            .split(',')
            .map(|name| name.trim().to_owned())
            .collect();
        let is_name =
            |name: &String| !matches!(name.as_str(), "" | "*") && !name.contains(char::is_control);
        if !of_pattern.iter().all(is_name) {
            reader.problem(names.span(), "names of groups, with commas between them");
        }
        groups.push((pattern.clone(), of_pattern));
    }
    groups
}
