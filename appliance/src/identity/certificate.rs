//! Client certificates: from one that TLS has verified to a `Principal`.
//!
//! That its chain leads to `tls.client_roots`, that its holder has the key and that it is not
//! revoked by a CRL is the handshake's to find out. Here it is read whom it names.
//!
//! Spec: RFC 5280, "Subject Alternative Name"; SPIFFE, "The X.509 SPIFFE Verifiable Identity
//! Document" and "The SPIFFE Identity and Verifiable Identity Document".

use std::sync::Arc;

use policy::{Principal, Proof};
use ring::digest::{SHA256, digest};

use super::Proven;
use super::claims::is_name;
use crate::upstream::der::{
    BIT_STRING, BOOLEAN, CONTEXT_0, CONTEXT_3, Der, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING,
    PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING,
};
use crate::upstream::validity;

/// What the issuer of principals with certificates is called, as `name` of a configured issuer.
pub const CERTIFICATE_ISSUER: &str = "certificate";

/// `id-at-commonName`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// `id-ce-subjectAltName`.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// `dNSName` and `uniformResourceIdentifier` of a `GeneralName`.
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
/// The tags of unique ids, which nobody issues.
const UNIQUE_IDS: [u8; 2] = [0x81, 0x82];

const SPIFFE: &str = "spiffe://";

/// How principals are read from certificates. Part of the configuration snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    pub subject: CertificateSubject,
    /// Subjects and the groups that they are in; a `*` at the end stands for any rest.
    pub groups: Vec<(String, Vec<String>)>,
}

/// Where the subject stands in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSubject {
    /// The only URI of the subject alternative names, a SPIFFE id of this trust domain.
    Spiffe { trust_domain: String },
    /// The only common name; `issuer` is that of the principals.
    CommonName { issuer: String },
    /// The only DNS name of the subject alternative names.
    DnsName { issuer: String },
}

/// Why a certificate proves nothing. For the operator's log; nothing of the certificate is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFailure {
    #[error("no client certificate was shown")]
    Missing,
    #[error("not a certificate as RFC 5280 has it")]
    Malformed,
    #[error("expired")]
    Expired,
    #[error("has {count} {what}, and exactly one is needed")]
    NotOne { what: &'static str, count: usize },
    #[error("its {what} is not one that can name somebody")]
    NotAName { what: &'static str },
    #[error("not a SPIFFE id")]
    NotSpiffe,
    #[error("of another trust domain")]
    OtherTrustDomain,
}

/// Proves who showed `chain`, its own certificate first, in a handshake that verified it.
///
/// # Errors
/// It proves nothing, for the reason given.
pub fn prove_certificate(
    settings: &ClientCertificates,
    leaf: Option<&[u8]>,
    now: u64,
) -> Result<Proven, CertificateFailure> {
    let leaf = leaf.ok_or(CertificateFailure::Missing)?;
    let named = Named::read(leaf).ok_or(CertificateFailure::Malformed)?;
    // The handshake looked at it, unless this is long after.
    if now > named.expires {
        return Err(CertificateFailure::Expired);
    }
    let subject = settings.subject.of(&named)?;
    let fingerprint = digest(&SHA256, leaf);
    let token_id = fingerprint
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"));
    Ok(Proven {
        principal: Arc::new(Principal {
            groups: settings.groups_of(&subject),
            name: subject.clone(),
            issuer: settings.issuer(),
            subject,
            delegation: Vec::new(),
            token_id: Some(token_id.collect()),
            expires: named.expires,
            proof: Proof::Certificate,
        }),
    })
}

impl ClientCertificates {
    /// The issuer of the principals.
    #[must_use]
    pub fn issuer(&self) -> String {
        match &self.subject {
            CertificateSubject::Spiffe { trust_domain } => format!("{SPIFFE}{trust_domain}"),
            CertificateSubject::CommonName { issuer } | CertificateSubject::DnsName { issuer } => {
                issuer.clone()
            }
        }
    }

    fn groups_of(&self, subject: &str) -> Vec<String> {
        let mut groups = Vec::new();
        for (pattern, of_pattern) in &self.groups {
            let matches = match pattern.strip_suffix('*') {
                Some(front) => subject.starts_with(front),
                None => subject == pattern,
            };
            if !matches {
                continue;
            }
            for group in of_pattern {
                if !groups.contains(group) {
                    groups.push(group.clone());
                }
            }
        }
        groups
    }
}

impl CertificateSubject {
    /// Whom a certificate names.
    fn of(&self, named: &Named<'_>) -> Result<String, CertificateFailure> {
        match self {
            Self::Spiffe { trust_domain } => {
                let id = only("URIs", &named.uris)?;
                let found = spiffe_trust_domain(id).ok_or(CertificateFailure::NotSpiffe)?;
                if found != trust_domain {
                    return Err(CertificateFailure::OtherTrustDomain);
                }
                Ok(id.to_owned())
            }
            Self::CommonName { .. } => Ok(only("common names", &named.common_names)?.to_owned()),
            Self::DnsName { .. } => {
                let name = only("DNS names", &named.dns_names)?;
                let is_host = name.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte)
                });
                if !is_host {
                    return Err(CertificateFailure::NotAName { what: "DNS name" });
                }
                Ok(name.to_owned())
            }
        }
    }
}

/// The only one of `names`, as a text that can be logged and shown.
fn only<'n>(what: &'static str, names: &[&'n [u8]]) -> Result<&'n str, CertificateFailure> {
    let &[name] = names else {
        let count = names.len();
        return Err(CertificateFailure::NotOne { what, count });
    };
    let text = std::str::from_utf8(name).ok().filter(|text| is_name(text));
    text.ok_or(CertificateFailure::NotAName { what })
}

/// The trust domain of a SPIFFE id that names a workload; `None` for whatever else.
fn spiffe_trust_domain(id: &str) -> Option<&str> {
    let (trust_domain, path) = id.strip_prefix(SPIFFE)?.split_once('/')?;
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    (is_trust_domain(trust_domain) && path.split('/').all(is_segment)).then_some(trust_domain)
}

/// Whether a text has the form of a trust domain.
#[must_use]
pub fn is_trust_domain(text: &str) -> bool {
    let is_legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(is_legal)
}

/// What a certificate names, as bytes of the certificate.
#[derive(Debug, Default)]
struct Named<'c> {
    /// Last second of its validity, since 1970.
    expires: u64,
    common_names: Vec<&'c [u8]>,
    dns_names: Vec<&'c [u8]>,
    uris: Vec<&'c [u8]>,
}

impl<'c> Named<'c> {
    fn read(certificate: &'c [u8]) -> Option<Self> {
        let (_, expires) = validity(certificate)?;
        let mut named = Self {
            expires: u64::try_from(expires).ok()?,
            ..Self::default()
        };
        let mut outer = Der(certificate);
        let mut signed = Der(outer.take(SEQUENCE)?);
        let mut fields = Der(signed.take(SEQUENCE)?);
        signed.take(SEQUENCE)?;
        signed.take(BIT_STRING)?;
        if !outer.is_empty() || !signed.is_empty() {
            return None;
        }
        if fields.begins_with(CONTEXT_0) {
            fields.take(CONTEXT_0)?;
        }
        fields.take(INTEGER)?;
        for _signature_issuer_validity in 0..3 {
            fields.take(SEQUENCE)?;
        }
        named.read_subject(Der(fields.take(SEQUENCE)?))?;
        let _key = fields.take(SEQUENCE)?;
        for tag in UNIQUE_IDS {
            if fields.begins_with(tag) {
                fields.take(tag)?;
            }
        }
        if fields.begins_with(CONTEXT_3) {
            let mut extensions = Der(fields.take(CONTEXT_3)?);
            named.read_extensions(Der(extensions.take(SEQUENCE)?))?;
        }
        fields.is_empty().then_some(named)
    }

    fn read_subject(&mut self, mut name: Der<'c>) -> Option<()> {
        while !name.is_empty() {
            let mut set = Der(name.take(SET)?);
            while !set.is_empty() {
                let mut attribute = Der(set.take(SEQUENCE)?);
                let kind = attribute.take(OBJECT_IDENTIFIER)?;
                let (tag, value) = attribute.next()?;
                if kind == COMMON_NAME {
                    // Other kinds of text are not read as UTF-8 by everybody.
                    if !matches!(tag, UTF8_STRING | PRINTABLE_STRING) {
                        return None;
                    }
                    self.common_names.push(value);
                }
            }
        }
        Some(())
    }

    fn read_extensions(&mut self, mut extensions: Der<'c>) -> Option<()> {
        let mut is_read = false;
        while !extensions.is_empty() {
            let mut extension = Der(extensions.take(SEQUENCE)?);
            let kind = extension.take(OBJECT_IDENTIFIER)?;
            if extension.begins_with(BOOLEAN) {
                extension.take(BOOLEAN)?;
            }
            let value = extension.take(OCTET_STRING)?;
            if kind != SUBJECT_ALT_NAME {
                continue;
            }
            // A second one would say something else to somebody.
            if std::mem::replace(&mut is_read, true) {
                return None;
            }
            let mut value = Der(value);
            let mut names = Der(value.take(SEQUENCE)?);
            if !value.is_empty() {
                return None;
            }
            while !names.is_empty() {
                match names.next()? {
                    (DNS_NAME, name) => self.dns_names.push(name),
                    (URI, name) => self.uris.push(name),
                    _ => {}
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn settings(subject: CertificateSubject) -> ClientCertificates {
        let groups = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        ClientCertificates {
            subject,
            groups: vec![
                (
                    "spiffe://example.org/agents/*".into(),
                    groups(&["analysts"]),
                ),
                (
                    "spiffe://example.org/agents/one".into(),
                    groups(&["readers", "analysts"]),
                ),
                ("agent-7".into(), groups(&["analysts"])),
                ("agent-7.example.org".into(), groups(&["analysts"])),
            ],
        }
    }

    fn spiffe() -> ClientCertificates {
        settings(CertificateSubject::Spiffe {
            trust_domain: "example.org".into(),
        })
    }

    fn certificate(common_names: &[&str], names: Vec<SanType>) -> Vec<u8> {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        for name in common_names {
            parameters
                .distinguished_name
                .push(DnType::CommonName, *name);
        }
        parameters.not_after = rcgen::date_time_ymd(2040, 1, 1);
        parameters.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    #[test]
    fn a_spiffe_id_is_issuer_and_subject_and_its_pattern_gives_groups() {
        let der = certificate(
            &["whatever"],
            vec![dns("host"), uri("spiffe://example.org/agents/one")],
        );
        let proven = prove_certificate(&spiffe(), Some(&der), NOW).unwrap();
        let principal = proven.principal();
        assert_eq!(principal.issuer, "spiffe://example.org");
        assert_eq!(principal.subject, "spiffe://example.org/agents/one");
        assert_eq!(principal.groups, ["analysts", "readers"]);
        assert_eq!(principal.proof, Proof::Certificate);
        assert_eq!(principal.expires, 2_208_988_800);
        assert_eq!(principal.token_id.as_ref().unwrap().len(), 64);
        let other = certificate(&[], vec![uri("spiffe://example.org/people/one")]);
        let proven = prove_certificate(&spiffe(), Some(&other), NOW).unwrap();
        assert_eq!(proven.principal().groups, Vec::<String>::new());
        let late = prove_certificate(&spiffe(), Some(&der), 2_208_988_801);
        assert_eq!(late.err(), Some(CertificateFailure::Expired));
        let none = prove_certificate(&spiffe(), None, NOW);
        assert_eq!(none.err(), Some(CertificateFailure::Missing));
    }

    #[test]
    fn what_is_not_exactly_one_spiffe_id_of_the_trust_domain_proves_nothing() {
        use CertificateFailure::{NotAName, NotOne, NotSpiffe, OtherTrustDomain};
        let what = "URIs";
        let cases = [
            (vec![], NotOne { what, count: 0 }),
            (vec![dns("example.org")], NotOne { what, count: 0 }),
            (
                vec![
                    uri("spiffe://example.org/agents/one"),
                    uri("spiffe://example.org/agents/two"),
                ],
                NotOne { what, count: 2 },
            ),
            (
                vec![uri("spiffe://example.org/agents/one"), uri("https://x")],
                NotOne { what, count: 2 },
            ),
            (
                vec![uri("spiffe://example.com/agents/one")],
                OtherTrustDomain,
            ),
            (
                vec![uri("spiffe://example.org.evil/agents/one")],
                OtherTrustDomain,
            ),
            (vec![uri("https://example.org/agents/one")], NotSpiffe),
            (vec![uri("SPIFFE://example.org/agents/one")], NotSpiffe),
            (vec![uri("spiffe://Example.org/agents/one")], NotSpiffe),
            (vec![uri("spiffe://example.org")], NotSpiffe),
            (vec![uri("spiffe://example.org/")], NotSpiffe),
            (vec![uri("spiffe://example.org/agents/one/")], NotSpiffe),
            (vec![uri("spiffe://example.org/agents//one")], NotSpiffe),
            (vec![uri("spiffe://example.org/agents/../one")], NotSpiffe),
            (vec![uri("spiffe://example.org/agents/%6fne")], NotSpiffe),
            (vec![uri("spiffe://example.org:443/agents/one")], NotSpiffe),
            (vec![uri("spiffe://user@example.org/agents/one")], NotSpiffe),
            (vec![uri("spiffe://example.org/agents/one?x")], NotSpiffe),
            (vec![uri("spiffe://example.org/agents/one#x")], NotSpiffe),
            (
                vec![uri("spiffe://example.org/agents/\0one")],
                NotAName { what },
            ),
            (
                vec![uri("spiffe://example.org/agents/one\n")],
                NotAName { what },
            ),
        ];
        for (names, expected) in cases {
            let der = certificate(&["spiffe://example.org/agents/one"], names.clone());
            let failure = prove_certificate(&spiffe(), Some(&der), NOW).err();
            assert_eq!(failure, Some(expected), "{names:?}");
        }
    }

    #[test]
    fn a_common_name_or_dns_name_serves_where_it_is_configured() {
        let issuer = || "corp-pki".to_owned();
        let by_name = settings(CertificateSubject::CommonName { issuer: issuer() });
        let by_dns = settings(CertificateSubject::DnsName { issuer: issuer() });
        let der = certificate(&["agent-7"], vec![dns("agent-7.example.org")]);
        let subject = |settings: &ClientCertificates, der: &[u8]| {
            let proven = prove_certificate(settings, Some(der), NOW)?;
            assert_eq!(proven.principal().issuer, "corp-pki");
            assert_eq!(proven.principal().groups, ["analysts"]);
            Ok::<_, CertificateFailure>(proven.principal().subject.clone())
        };
        assert_eq!(subject(&by_name, &der).unwrap(), "agent-7");
        assert_eq!(subject(&by_dns, &der).unwrap(), "agent-7.example.org");
        for hostile in ["agent-7\0.evil", "agent-7\n", "", "agent\u{85}"] {
            let der = certificate(&[hostile], vec![]);
            assert!(subject(&by_name, &der).is_err(), "{hostile:?}");
        }
        for hostile in [
            "*.example.org",
            "Agent-7.example.org",
            "a b",
            "agent-7.example.org\0x",
        ] {
            let der = certificate(&[], vec![dns(hostile)]);
            assert!(subject(&by_dns, &der).is_err(), "{hostile:?}");
        }
        let two = certificate(&[], vec![dns("agent-7.example.org"), dns("b.example.org")]);
        assert!(subject(&by_dns, &two).is_err());
        assert!(subject(&by_name, &certificate(&[], vec![])).is_err());
    }

    #[test]
    fn a_certificate_cut_or_changed_anywhere_is_read_without_harm() {
        let der = certificate(&["x"], vec![uri("spiffe://example.org/agents/one")]);
        for length in 0..der.len() {
            let proven = prove_certificate(&spiffe(), der.get(..length), NOW);
            assert_eq!(
                proven.err(),
                Some(CertificateFailure::Malformed),
                "{length}"
            );
        }
        for place in 0..der.len() {
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = der.clone();
                changed[place] = value;
                // The handshake refuses it by its signature; to read it must not panic.
                drop(prove_certificate(&spiffe(), Some(&changed), NOW));
            }
        }
        let mut longer = der.clone();
        longer.push(0);
        let proven = prove_certificate(&spiffe(), Some(&longer), NOW);
        assert_eq!(proven.err(), Some(CertificateFailure::Malformed));
    }
}
