//! The hash of a server's certificate that SCRAM binds a login to.
//!
//! Reads only the outermost structure of the certificate; whether to trust it is decided by `tls`.
//!
//! Spec: RFC 5929, "The 'tls-server-end-point' Channel Binding Type"; RFC 5280, "Certificate".

use ring::digest;

use super::der::{CONTEXT_0, Der, OBJECT_IDENTIFIER, SEQUENCE};

/// Contents of object identifiers by the hash they stand for. MD5 and SHA-1 are replaced by
/// SHA-256, as the RFC says.
const SIGNATURES: &[(&[u8], &digest::Algorithm)] = &[
    // 1.2.840.113549.1.1.{4,5,11,12,13}: RSA with MD5, SHA-1, SHA-256, SHA-384, SHA-512
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04],
        &digest::SHA256,
    ),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05],
        &digest::SHA256,
    ),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b],
        &digest::SHA256,
    ),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c],
        &digest::SHA384,
    ),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d],
        &digest::SHA512,
    ),
    // 1.2.840.10045.4.1 and .3.{2,3,4}: ECDSA with SHA-1, SHA-256, SHA-384, SHA-512
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], &digest::SHA256),
    (
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
        &digest::SHA256,
    ),
    (
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03],
        &digest::SHA384,
    ),
    (
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04],
        &digest::SHA512,
    ),
];

/// 1.2.840.113549.1.1.10
const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];

/// The hashes that RSASSA-PSS may name.
const HASHES: &[(&[u8], &digest::Algorithm)] = &[
    // 1.3.14.3.2.26: SHA-1
    (&[0x2b, 0x0e, 0x03, 0x02, 0x1a], &digest::SHA256),
    // 2.16.840.1.101.3.4.2.{1,2,3}: SHA-256, SHA-384, SHA-512
    (
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
        &digest::SHA256,
    ),
    (
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02],
        &digest::SHA384,
    ),
    (
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03],
        &digest::SHA512,
    ),
];

/// The data of the channel binding `tls-server-end-point` for a certificate in DER.
///
/// `None` when its signature algorithm names no single hash, such as Ed25519: nobody has defined
/// the binding for those, and libpq refuses them as well.
pub(super) fn tls_server_end_point(certificate: &[u8]) -> Option<digest::Digest> {
    let mut outer = Der(certificate);
    let mut certificate_fields = Der(outer.take(SEQUENCE)?);
    certificate_fields.take(SEQUENCE)?;
    let mut algorithm = Der(certificate_fields.take(SEQUENCE)?);
    let hash = signature_hash(&mut algorithm)?;
    Some(digest::digest(hash, certificate))
}

fn signature_hash(algorithm: &mut Der<'_>) -> Option<&'static digest::Algorithm> {
    let identifier = algorithm.take(OBJECT_IDENTIFIER)?;
    if identifier != RSASSA_PSS {
        return lookup(SIGNATURES, identifier);
    }
    let mut parameters = Der(algorithm.take(SEQUENCE)?);
    if !parameters.begins_with(CONTEXT_0) {
        // The default of the field is SHA-1.
        return Some(&digest::SHA256);
    }
    let mut hash = Der(Der(parameters.take(CONTEXT_0)?).take(SEQUENCE)?);
    lookup(HASHES, hash.take(OBJECT_IDENTIFIER)?)
}

fn lookup(
    table: &[(&[u8], &'static digest::Algorithm)],
    identifier: &[u8],
) -> Option<&'static digest::Algorithm> {
    table
        .iter()
        .find(|(known, _)| *known == identifier)
        .map(|(_, hash)| *hash)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn check(pem: &[u8], expected: Option<&str>) {
        let certificate = CertificateDer::from_pem_slice(pem).unwrap();
        let hash = tls_server_end_point(&certificate).map(|digest| {
            digest
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        });
        assert_eq!(hash.as_deref(), expected);
        for end in 0..certificate.len() {
            // A truncated certificate has no hash, and does not panic.
            assert!(tls_server_end_point(&certificate[..end]).is_none(), "{end}");
        }
    }

    // Certificates by openssl 3.0 `req -x509`, hashes by `openssl x509 -outform der | openssl dgst`.
    macro_rules! certificate {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/data/certificates/", $name, ".pem"))
        };
    }

    #[test]
    fn ecdsa_with_sha512() {
        check(
            certificate!("ec-sha512"),
            Some(
                "20fcacce31f3b947514d0709b0f1d7ca8b70875c7c03bb2411731a83b83163f0\
                 5517a083de88c0d57a0caadbb4b22af266dcd76ea4205d18fce29e158f212ff2",
            ),
        );
    }

    #[test]
    fn rsa_pss_with_its_default_of_sha1_is_hashed_by_sha256() {
        check(
            certificate!("pss-sha1"),
            Some("983c84726aba1e5bb37babf59447bc52e7842daff11ab21a5e20c14c5feafef6"),
        );
    }

    #[test]
    fn rsa_pss_with_sha384() {
        check(
            certificate!("pss-sha384"),
            Some(
                "d733949f4b66f0877a8afc9812ee5bc4cb8ff6138339396730e79c8e561cd28f\
                 5c345dab6d2e48346303451c2c834d38",
            ),
        );
    }

    #[test]
    fn md5_is_replaced_by_sha256() {
        check(
            certificate!("rsa-md5"),
            Some("790972848924ce645b27a30a21b691fea4b03239100af5f9bffc4202b45b4003"),
        );
    }

    #[test]
    fn sha1_is_replaced_by_sha256() {
        check(
            certificate!("rsa-sha1"),
            Some("44368a4f4f49dda9d5cba0ff642b32e92a52dc7aa890e27ac7248679166e033d"),
        );
    }

    #[test]
    fn ed25519_has_no_hash() {
        check(certificate!("ed25519"), None);
    }
}
