//! Certificates for tests, signed by an authority of their own.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// An authority that a test trusts, or does not.
pub struct Authority {
    pub certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, both PEM.
pub struct Certified {
    pub chain_pem: String,
    pub key_pem: String,
}

impl Authority {
    /// Signs by ECDSA with SHA-256.
    pub fn new(name: &str) -> Self {
        Self::with_key(name, KeyPair::generate().unwrap())
    }

    /// The kind of key decides how certificates are signed.
    pub fn with_key(name: &str, key: KeyPair) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = parameters.self_signed(&key).unwrap().pem();
        Self {
            certificate_pem,
            issuer: Issuer::new(parameters, key),
        }
    }

    /// For a server: `names` are DNS names or IP addresses.
    pub fn server(&self, names: &[&str]) -> Certified {
        self.issue(server(names))
    }

    pub fn expired_server(&self, names: &[&str]) -> Certified {
        let mut parameters = server(names);
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(2021, 1, 1);
        self.issue(parameters)
    }

    /// For a server that is named in the way that browsers gave up in 2017.
    pub fn server_with_common_name(&self, name: &str) -> Certified {
        let mut parameters = server(&[]);
        parameters.distinguished_name.push(DnType::CommonName, name);
        self.issue(parameters)
    }

    /// Names that look like addresses stay names.
    pub fn server_with_dns_names(&self, names: &[&str]) -> Certified {
        let mut parameters = server(&[]);
        let names = names
            .iter()
            .map(|&name| SanType::DnsName(name.try_into().unwrap()));
        parameters.subject_alt_names = names.collect();
        self.issue(parameters)
    }

    /// For a client whose common name is `name`.
    pub fn client(&self, name: &str) -> Certified {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(parameters)
    }

    /// A server that is its own authority, as `openssl req -x509` makes them.
    pub fn self_signed_server(names: &[&str], expired: bool) -> Certified {
        let mut parameters = server(names);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if expired {
            parameters.not_before = date_time_ymd(2020, 1, 1);
            parameters.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Certified {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    fn issue(&self, parameters: CertificateParams) -> Certified {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Certified {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

fn server(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "server");
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters
}
