//! Certificates for tests, signed by an authority of their own.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
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
    pub fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate_pem = parameters.self_signed(&key).unwrap().pem();
        Self {
            certificate_pem,
            issuer: Issuer::new(parameters, key),
        }
    }

    /// For a server: `names` are DNS names or IP addresses.
    pub fn server(&self, names: &[&str]) -> Certified {
        self.issue(
            names,
            "server",
            ExtendedKeyUsagePurpose::ServerAuth,
            &KeyPair::generate().unwrap(),
        )
    }

    /// For a server with a key of the kind that has no hash for channel binding of its own.
    pub fn server_with_key(&self, names: &[&str], key: &KeyPair) -> Certified {
        self.issue(names, "server", ExtendedKeyUsagePurpose::ServerAuth, key)
    }

    /// For a client whose common name is `name`.
    pub fn client(&self, name: &str) -> Certified {
        self.issue(
            &[],
            name,
            ExtendedKeyUsagePurpose::ClientAuth,
            &KeyPair::generate().unwrap(),
        )
    }

    fn issue(
        &self,
        names: &[&str],
        common_name: &str,
        purpose: ExtendedKeyUsagePurpose,
        key: &KeyPair,
    ) -> Certified {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters
            .distinguished_name
            .push(DnType::CommonName, common_name);
        parameters.extended_key_usages = vec![purpose];
        let certificate = parameters.signed_by(key, &self.issuer).unwrap();
        Certified {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}
