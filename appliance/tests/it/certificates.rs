//! Certificates for tests, signed by an authority of their own.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
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

    /// For a client with these alternative names.
    pub fn client_named(&self, common_name: &str, names: Vec<SanType>) -> Certified {
        self.issue(client(common_name, names))
    }

    pub fn expired_client(&self, names: Vec<SanType>) -> Certified {
        let mut parameters = client("expired", names);
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(2021, 1, 1);
        self.issue(parameters)
    }

    /// One that ends so many seconds from now.
    pub fn short_lived_client(&self, names: Vec<SanType>, seconds: u64) -> Certified {
        let mut parameters = client("short-lived", names);
        let end = std::time::SystemTime::now() + std::time::Duration::from_secs(seconds);
        parameters.not_after = end.into();
        self.issue(parameters)
    }

    /// A list that revokes the certificate of that serial number, PEM.
    pub fn revocation_list(&self, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    pub fn client_with_serial(&self, names: Vec<SanType>, serial: u64) -> Certified {
        let mut parameters = client("numbered", names);
        parameters.serial_number = Some(SerialNumber::from(serial));
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

fn client(common_name: &str, names: Vec<SanType>) -> CertificateParams {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    parameters.subject_alt_names = names;
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    parameters
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
