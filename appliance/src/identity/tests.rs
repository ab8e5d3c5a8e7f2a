//! Tokens against issuers, with real keys of every kind that is accepted.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use super::*;
use crate::config::{StateDirectory, Writing};

const NOW: u64 = 1_800_000_000;
const CORP: &str = "https://idp.example/";
const PARTNER: &str = "https://partner.example/";

const RSA_A: &[u8] = include_bytes!("../../tests/data/identity/rsa-a.pem");
const RSA_B: &[u8] = include_bytes!("../../tests/data/identity/rsa-b.pem");

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
    /// What an attacker has who only knows a public key.
    Hmac(Vec<u8>),
    Nothing,
}

impl Key {
    fn rsa(pem: &[u8]) -> Self {
        let der = PrivateKeyDer::from_pem_slice(pem).unwrap();
        Self::Rsa(RsaKeyPair::from_pkcs8(der.secret_der()).unwrap())
    }

    fn ec(algorithm: &'static EcdsaSigningAlgorithm, curve: &'static str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        Self::Ec(pair, curve)
    }

    fn p256() -> Self {
        Self::ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")
    }

    fn p384() -> Self {
        Self::ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384")
    }

    fn ed() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    fn modulus(&self) -> Vec<u8> {
        let Self::Rsa(pair) = self else {
            panic!("no RSA key")
        };
        PublicKeyComponents::<Vec<u8>>::from(pair.public()).n
    }

    fn jwk(&self, id: &str) -> Value {
        let mut jwk = match self {
            Self::Rsa(pair) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "n": base64url(public.n), "e": base64url(public.e)})
            }
            Self::Ec(pair, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)})
            }
            Self::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key())})
            }
            Self::Hmac(_) | Self::Nothing => panic!("no public key"),
        };
        jwk["kid"] = json!(id);
        jwk
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match algorithm {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Self::Ec(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Hmac(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Self::Nothing => Vec::new(),
        }
    }
}

struct World {
    rsa: Key,
    p256: Key,
    p384: Key,
    ed: Key,
    spare: Key,
    partner: Key,
    authenticators: Authenticators,
}

fn issuer(name: &str, iss: &str, keys: &[Value], algorithms: &[Algorithm]) -> Issuer {
    let jwks = json!({ "keys": keys }).to_string();
    Issuer {
        name: name.to_owned(),
        issuer: iss.to_owned(),
        alias: None,
        audience: vec!["sallyport".to_owned(), "sallyport-eu".to_owned()],
        algorithms: algorithms.to_vec(),
        keys: IssuerKeys::Fixed(KeySet::from_jwks(jwks.as_bytes()).unwrap()),
        mapping: ClaimMapping {
            groups: ClaimPath::parse("groups").unwrap(),
            group_prefix: format!("{name}:"),
            group_map: BTreeMap::new(),
            name: ClaimPath::parse("name").unwrap(),
        },
    }
}

impl World {
    fn new() -> Self {
        let (rsa, p256, p384, ed) = (Key::rsa(RSA_A), Key::p256(), Key::p384(), Key::ed());
        let (spare, partner) = (Key::p256(), Key::ed());
        let all: Vec<Algorithm> = ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect();
        let mut only_rs256 = Key::rsa(RSA_B).jwk("rs256-only");
        only_rs256["alg"] = json!("RS256");
        let corp = [
            rsa.jwk("rsa"),
            p256.jwk("p256"),
            p384.jwk("p384"),
            ed.jwk("ed"),
            spare.jwk("spare"),
            only_rs256,
        ];
        let issuers = vec![
            issuer("corp", CORP, &corp, &all),
            issuer(
                "partner",
                PARTNER,
                &[partner.jwk("ed")],
                &[Algorithm::EdDSA],
            ),
        ];
        let authenticators = Authenticators::new(1, issuers);
        Self {
            rsa,
            p256,
            p384,
            ed,
            spare,
            partner,
            authenticators,
        }
    }

    fn prove(&self, token: &str) -> Result<Proven, ProofFailure> {
        prove(
            &self.authenticators,
            &RemoteKeys::none(),
            &TokenCache::new(),
            Claim::Password(token.as_bytes()),
            NOW,
        )
    }
}

fn claims() -> Value {
    json!({
        "iss": CORP, "sub": "agent-7", "aud": "sallyport", "exp": NOW + 600, "jti": "t-1",
        "groups": ["analysts"], "name": "Agent Seven",
    })
}

fn with(mut value: Value, changes: Value) -> Value {
    for (name, change) in changes.as_object().unwrap() {
        if change == "<absent>" {
            value.as_object_mut().unwrap().remove(name);
        } else {
            value[name] = change.clone();
        }
    }
    value
}

fn sign(header: &str, payload: &str, key: &Key, algorithm: &str) -> String {
    let message = format!("{}.{}", base64url(header), base64url(payload));
    let signature = key.sign(algorithm, message.as_bytes());
    format!("{message}.{}", base64url(signature))
}

fn token(header: &Value, claims: &Value, key: &Key) -> String {
    let algorithm = header["alg"].as_str().unwrap_or_default();
    sign(&header.to_string(), &claims.to_string(), key, algorithm)
}

#[test]
fn every_algorithm_proves_a_principal() {
    let world = World::new();
    let cases: [(&str, &str, &Key); 9] = [
        ("RS256", "rsa", &world.rsa),
        ("RS384", "rsa", &world.rsa),
        ("RS512", "rsa", &world.rsa),
        ("PS256", "rsa", &world.rsa),
        ("PS384", "rsa", &world.rsa),
        ("PS512", "rsa", &world.rsa),
        ("ES256", "p256", &world.p256),
        ("ES384", "p384", &world.p384),
        ("EdDSA", "ed", &world.ed),
    ];
    for (algorithm, id, key) in cases {
        let token = token(&json!({"alg": algorithm, "kid": id}), &claims(), key);
        let proven = world
            .prove(&token)
            .unwrap_or_else(|failure| panic!("{algorithm}: {failure}"));
        let expected = Principal {
            issuer: CORP.into(),
            subject: "agent-7".into(),
            name: "Agent Seven".into(),
            groups: vec!["corp:analysts".into()],
            delegation: vec![],
            token_id: Some("t-1".into()),
            expires: NOW + 600,
            proof: Proof::Password,
        };
        assert_eq!(proven.principal(), &expected, "{algorithm}");
    }
}

#[test]
fn an_id_token_proves_whoever_began_this_login_and_nobody_elsewhere() {
    let world = World::new();
    let header = json!({"alg": "EdDSA", "kid": "ed"});
    let id_token = with(claims(), json!({"aud": "console", "nonce": "n-1"}));
    let login = Login {
        issuer: CORP,
        client_id: "console",
        nonce: "n-1",
    };
    let prove = |token: &str, login: &Login<'_>| {
        let remote = RemoteKeys::none();
        let proven = prove_login(&world.authenticators, &remote, login, token.as_bytes(), NOW);
        proven.map(|proven| proven.principal().subject.clone())
    };
    let good = token(&header, &id_token, &world.ed);
    assert_eq!(prove(&good, &login).as_deref(), Ok("agent-7"));
    assert_eq!(world.prove(&good).unwrap_err(), ProofFailure::WrongAudience);

    let cases = [
        (json!({"nonce": "n-2"}), ProofFailure::WrongNonce),
        (json!({"nonce": "<absent>"}), ProofFailure::WrongNonce),
        (json!({"aud": "sallyport"}), ProofFailure::WrongAudience),
        (
            json!({"aud": ["console", "other"], "azp": "other"}),
            ProofFailure::WrongAudience,
        ),
        (json!({"iss": PARTNER}), ProofFailure::UnknownIssuer),
        (
            json!({"exp": NOW - 31}),
            ProofFailure::Expired { seconds: 31 },
        ),
    ];
    for (changes, failure) in cases {
        let changed = token(&header, &with(id_token.clone(), changes.clone()), &world.ed);
        assert_eq!(prove(&changed, &login), Err(failure), "{changes}");
    }
    let by_another = token(&header, &id_token, &world.partner);
    assert_eq!(prove(&by_another, &login), Err(ProofFailure::BadSignature));
    let elsewhere = Login {
        issuer: PARTNER,
        ..login
    };
    assert_eq!(prove(&good, &elsewhere), Err(ProofFailure::UnknownIssuer));
}

#[test]
fn claims_alone_name_somebody_and_prove_nothing() {
    let world = World::new();
    let suppose = |text: &str| suppose(&world.authenticators, text.as_bytes());
    let supposed = suppose(&claims().to_string()).unwrap();
    assert_eq!(supposed.subject, "agent-7");
    assert_eq!(supposed.groups, ["corp:analysts"]);
    let expired = with(claims(), json!({"exp": 1, "aud": "another"}));
    let unsigned = sign("{}", &expired.to_string(), &Key::Nothing, "");
    assert_eq!(suppose(&unsigned).unwrap().subject, "agent-7");
    assert_eq!(
        suppose(&with(claims(), json!({"iss": "<absent>"})).to_string()),
        Err(ProofFailure::MissingClaim { claim: "iss" }),
        "there are two issuers"
    );
    assert_eq!(suppose("nobody"), Err(ProofFailure::NotAToken));
    assert_eq!(
        suppose(&"x".repeat(TOKEN_BYTES_MAX + 1)),
        Err(ProofFailure::TokenTooLong {
            bytes: TOKEN_BYTES_MAX + 1
        })
    );
}

#[test]
fn what_a_token_presented_by_oauthbearer_proves_says_so() {
    let world = World::new();
    let token = token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(), &world.ed);
    let claim = Claim::OauthBearer(token.as_bytes());
    let proven = prove(
        &world.authenticators,
        &RemoteKeys::none(),
        &TokenCache::new(),
        claim,
        NOW,
    )
    .unwrap();
    assert_eq!(proven.principal().proof, Proof::OauthBearer);
}

/// Claims that are right or wrong in a token that is otherwise right.
#[test]
fn claims_decide() {
    use ProofFailure as F;
    let missing = |claim| Some(F::MissingClaim { claim });
    let malformed = |claim| Some(F::MalformedClaim { claim });
    let cases = [
        (json!({}), None),
        // Times, with 30 s of skew.
        (json!({"exp": NOW - 29}), None),
        (json!({"exp": NOW - 30}), Some(F::Expired { seconds: 30 })),
        (json!({"exp": 0}), Some(F::Expired { seconds: NOW })),
        (json!({"exp": NOW as f64 + 0.5}), None),
        (json!({"exp": u64::MAX}), None),
        (json!({"exp": "<absent>"}), missing("exp")),
        (json!({"exp": null}), malformed("exp")),
        (json!({"exp": -1}), malformed("exp")),
        (json!({"exp": 1e300}), malformed("exp")),
        (json!({"exp": (NOW + 600).to_string()}), malformed("exp")),
        (json!({"nbf": NOW + 30}), None),
        (
            json!({"nbf": NOW + 31}),
            Some(F::NotYetValid { seconds: 31 }),
        ),
        (json!({"nbf": "now"}), malformed("nbf")),
        // Audience.
        (json!({"aud": "sallyport-eu"}), None),
        (json!({"aud": ["other", "sallyport"]}), None),
        (json!({"aud": "Sallyport"}), Some(F::WrongAudience)),
        (json!({"aud": "sallyport "}), Some(F::WrongAudience)),
        (json!({"aud": ["other"]}), Some(F::WrongAudience)),
        (json!({"aud": []}), Some(F::WrongAudience)),
        (json!({"aud": ["sallyport", 5]}), malformed("aud")),
        (json!({"aud": {"sallyport": true}}), malformed("aud")),
        (json!({"aud": null}), malformed("aud")),
        (json!({"aud": "<absent>"}), missing("aud")),
        // Issuer.
        (
            json!({"iss": "https://idp.example"}),
            Some(F::UnknownIssuer),
        ),
        (
            json!({"iss": "https://IDP.example/"}),
            Some(F::UnknownIssuer),
        ),
        (json!({"iss": [CORP]}), malformed("iss")),
        (json!({"iss": "<absent>"}), missing("iss")),
        (json!({"iss": PARTNER}), Some(F::BadSignature)),
        // Subject, token id, name, groups, delegation.
        (json!({"sub": "<absent>"}), missing("sub")),
        (json!({"sub": ""}), malformed("sub")),
        (json!({"sub": 7}), malformed("sub")),
        (json!({"sub": "a\u{0}b"}), malformed("sub")),
        (json!({"sub": "a\nb"}), malformed("sub")),
        (json!({"sub": "s".repeat(512)}), None),
        (json!({"sub": "s".repeat(513)}), malformed("sub")),
        (json!({"jti": 5}), malformed("jti")),
        (json!({"name": {"first": "A"}}), None),
        (json!({"groups": {"a": 1}}), malformed("groups")),
        (
            json!({"_claim_names": {"groups": "src1"}}),
            Some(F::GroupsLeftOut),
        ),
        (json!({"act": {"sub": "tool"}}), None),
        (json!({"act": {"client": "tool"}}), malformed("act")),
    ];
    let world = World::new();
    for (changes, expected) in cases {
        let token = token(
            &json!({"alg": "EdDSA", "kid": "ed"}),
            &with(claims(), changes.clone()),
            &world.ed,
        );
        assert_eq!(world.prove(&token).err(), expected, "{changes}");
    }
}

/// Headers that are right or wrong over claims that are right.
#[test]
fn headers_decide() {
    use ProofFailure as F;
    let world = World::new();
    let secret = Key::Hmac(world.rsa.modulus());
    let cases: [(Value, &Key, Option<F>); 27] = [
        (
            json!({"alg": "EdDSA", "kid": "ed", "typ": "JWT"}),
            &world.ed,
            None,
        ),
        (
            json!({"alg": "EdDSA", "kid": "ed", "typ": "at+jwt"}),
            &world.ed,
            None,
        ),
        (
            json!({"alg": "EdDSA", "kid": "ed", "typ": "application/at+JWT"}),
            &world.ed,
            None,
        ),
        (json!({"alg": "EdDSA"}), &world.ed, None),
        (
            json!({"alg": "RS256", "kid": "rsa", "jku": "https://evil.example"}),
            &world.rsa,
            None,
        ),
        // Algorithms that are none of ours.
        (
            json!({"alg": "none"}),
            &Key::Nothing,
            Some(F::AlgorithmNotAllowed),
        ),
        (
            json!({"alg": "None"}),
            &Key::Nothing,
            Some(F::AlgorithmNotAllowed),
        ),
        (
            json!({"alg": ""}),
            &Key::Nothing,
            Some(F::AlgorithmNotAllowed),
        ),
        (
            json!({"alg": "HS256", "kid": "rsa"}),
            &secret,
            Some(F::AlgorithmNotAllowed),
        ),
        (
            json!({"alg": "HS512"}),
            &secret,
            Some(F::AlgorithmNotAllowed),
        ),
        (
            json!({"alg": "ES512", "kid": "p256"}),
            &world.p256,
            Some(F::AlgorithmNotAllowed),
        ),
        (
            json!({"alg": "eddsa", "kid": "ed"}),
            &world.ed,
            Some(F::AlgorithmNotAllowed),
        ),
        (json!({"kid": "ed"}), &world.ed, Some(F::NotAToken)),
        (
            json!({"alg": 5, "kid": "ed"}),
            &world.ed,
            Some(F::NotAToken),
        ),
        // Algorithms on keys of another kind.
        (
            json!({"alg": "ES256", "kid": "rsa"}),
            &world.p256,
            Some(F::KeyDoesNotFit),
        ),
        (
            json!({"alg": "RS256", "kid": "p256"}),
            &world.rsa,
            Some(F::KeyDoesNotFit),
        ),
        (
            json!({"alg": "ES384", "kid": "p256"}),
            &world.p256,
            Some(F::KeyDoesNotFit),
        ),
        (
            json!({"alg": "EdDSA", "kid": "p256"}),
            &world.ed,
            Some(F::KeyDoesNotFit),
        ),
        (
            json!({"alg": "PS256", "kid": "rs256-only"}),
            &world.rsa,
            Some(F::KeyDoesNotFit),
        ),
        // Keys.
        (
            json!({"alg": "EdDSA", "kid": "gone"}),
            &world.ed,
            Some(F::UnknownKey),
        ),
        (
            json!({"alg": "EdDSA", "kid": 5}),
            &world.ed,
            Some(F::MalformedClaim { claim: "kid" }),
        ),
        (json!({"alg": "ES256"}), &world.p256, Some(F::KeyNotNamed)),
        (
            json!({"alg": "ES256", "kid": "spare"}),
            &world.p256,
            Some(F::BadSignature),
        ),
        (
            json!({"alg": "EdDSA", "kid": "ed"}),
            &world.partner,
            Some(F::BadSignature),
        ),
        (
            json!({"alg": "EdDSA", "kid": "ed", "jwk": world.partner.jwk("ed")}),
            &world.partner,
            Some(F::BadSignature),
        ),
        // Extensions and other kinds of token.
        (
            json!({"alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": false}),
            &world.ed,
            Some(F::CriticalExtension),
        ),
        (
            json!({"alg": "EdDSA", "kid": "ed", "typ": "logout+jwt"}),
            &world.ed,
            Some(F::NotAnAccessToken),
        ),
    ];
    for (header, key, expected) in cases {
        let token = token(&header, &claims(), key);
        assert_eq!(world.prove(&token).err(), expected, "{header}");
    }
    assert!(
        world
            .prove(&token(
                &json!({"alg": "ES256", "kid": "spare"}),
                &claims(),
                &world.spare
            ))
            .is_ok()
    );
}

#[test]
fn an_algorithm_outside_the_issuers_list_is_refused() {
    let rsa = Key::rsa(RSA_A);
    let only_eddsa = issuer("corp", CORP, &[rsa.jwk("rsa")], &[Algorithm::EdDSA]);
    let authenticators = Authenticators::new(1, vec![only_eddsa]);
    let token = token(&json!({"alg": "RS256", "kid": "rsa"}), &claims(), &rsa);
    let claim = Claim::Password(token.as_bytes());
    let outcome = prove(
        &authenticators,
        &RemoteKeys::none(),
        &TokenCache::new(),
        claim,
        NOW,
    );
    assert_eq!(outcome.err(), Some(ProofFailure::AlgorithmNotAllowed));
}

#[test]
fn anything_but_three_parts_of_clean_base64url_json_is_refused() {
    let world = World::new();
    let right = token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(), &world.ed);
    let (signed, signature) = right.rsplit_once('.').unwrap();
    let header = r#"{"alg":"EdDSA","kid":"ed"}"#;
    let twice = format!(r#"{{"aud":"other",{}"#, &claims().to_string()[1..]);
    let kid_twice = r#"{"alg":"EdDSA","kid":"gone","kid":"ed"}"#;
    let deep = format!(
        r#"{{"a":{}1{},{}"#,
        "[".repeat(200),
        "]".repeat(200),
        &claims().to_string()[1..]
    );
    let cases = [
        String::new(),
        ".".into(),
        "..".into(),
        signed.into(),
        format!("{right}."),
        format!("{right}.{signature}"),
        format!(" {right}"),
        format!("{right}="),
        format!("{signed}=.{signature}"),
        right.replacen('.', "=.", 1),
        right.replacen('.', "..", 1),
        "correct horse battery staple".into(),
        sign("[]", &claims().to_string(), &world.ed, "EdDSA"),
        sign(header, "[]", &world.ed, "EdDSA"),
        sign(header, "{}{}", &world.ed, "EdDSA"),
        sign(header, &twice, &world.ed, "EdDSA"),
        sign(kid_twice, &claims().to_string(), &world.ed, "EdDSA"),
        sign(header, &deep, &world.ed, "EdDSA"),
    ];
    for case in cases {
        // Padding after the signature leaves three parts, so it is the signature that is wrong.
        let expected = if case == format!("{right}=") {
            ProofFailure::BadSignature
        } else {
            ProofFailure::NotAToken
        };
        assert_eq!(world.prove(&case).err(), Some(expected), "{case}");
    }
    let newline = format!("{right}\n");
    assert_eq!(
        world.prove(&newline).err(),
        Some(ProofFailure::BadSignature)
    );
    let binary = Claim::Password(b"\xff\xfe.a.b");
    let outcome = prove(
        &world.authenticators,
        &RemoteKeys::none(),
        &TokenCache::new(),
        binary,
        NOW,
    );
    assert_eq!(outcome.err(), Some(ProofFailure::NotAToken));
}

#[test]
fn no_single_changed_character_is_accepted() {
    let world = World::new();
    let right = token(
        &json!({"alg": "ES256", "kid": "p256"}),
        &claims(),
        &world.p256,
    );
    assert!(world.prove(&right).is_ok());
    for at in 0..right.len() {
        let mut changed = right.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(world.prove(&changed).is_err(), "character {at}");
    }
    for cut in 0..right.len() {
        assert!(world.prove(&right[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_token_at_the_limit_is_read_and_one_byte_more_is_not() {
    let world = World::new();
    let header = json!({"alg": "EdDSA", "kid": "ed"});
    let sized = |pad: usize| {
        token(
            &header,
            &with(claims(), json!({"pad": "x".repeat(pad)})),
            &world.ed,
        )
    };
    // Base64 grows in steps of 4 to 3, so some padding hits the limit exactly.
    let exact = (0..16_384)
        .map(|i| 12_000 + i)
        .map(sized)
        .find(|token| token.len() >= 16_383);
    let exact = exact.unwrap();
    assert!(exact.len() <= 16_384, "{}", exact.len());
    assert!(world.prove(&exact).is_ok());
    let long = "x".repeat(16_385);
    assert_eq!(
        world.prove(&long).err(),
        Some(ProofFailure::TokenTooLong { bytes: 16_385 })
    );
    assert_eq!(
        world.prove(&long[..16_384]).err(),
        Some(ProofFailure::NotAToken)
    );
}

#[test]
fn failures_say_nothing_that_the_token_said() {
    let world = World::new();
    let header = json!({"alg": "EdDSA", "kid": "planted-kid"});
    let planted = with(
        claims(),
        json!({"sub": "planted-sub\n", "aud": "planted-aud"}),
    );
    for token in [
        token(&header, &planted, &world.ed),
        token(&json!({"alg": "planted-alg"}), &planted, &world.ed),
        token(&json!({"alg": "EdDSA"}), &planted, &world.ed),
        token(
            &json!({"alg": "EdDSA"}),
            &with(planted, json!({"iss": "planted-iss"})),
            &world.ed,
        ),
        "planted-password".to_owned(),
    ] {
        let failure = world.prove(&token).unwrap_err();
        assert!(
            !format!("{failure} {failure:?}").contains("planted"),
            "{failure:?}"
        );
    }
}

#[test]
fn a_proven_token_is_remembered_until_it_expires_or_the_keys_change() {
    let world = World::new();
    let cache = TokenCache::new();
    let token = token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(), &world.ed);
    let claim = Claim::Password(token.as_bytes());
    assert!(
        prove(
            &world.authenticators,
            &RemoteKeys::none(),
            &cache,
            claim,
            NOW
        )
        .is_ok()
    );
    assert_eq!(cache.len(), 1);

    // The same generation without any key: only the cache can answer.
    let empty = Authenticators::new(1, vec![]);
    assert!(prove(&empty, &RemoteKeys::none(), &cache, claim, NOW + 629).is_ok());
    assert!(
        prove(&empty, &RemoteKeys::none(), &cache, claim, NOW + 630).is_err(),
        "expired"
    );

    assert!(
        prove(
            &world.authenticators,
            &RemoteKeys::none(),
            &cache,
            claim,
            NOW
        )
        .is_ok()
    );
    let next = Authenticators::new(2, vec![]);
    assert_eq!(
        prove(&next, &RemoteKeys::none(), &cache, claim, NOW).err(),
        Some(ProofFailure::UnknownIssuer)
    );
    assert!(cache.is_empty());
}

#[test]
fn failed_proofs_are_not_remembered() {
    let world = World::new();
    let cache = TokenCache::new();
    let expired = with(claims(), json!({"exp": NOW - 100}));
    let token = token(&json!({"alg": "EdDSA", "kid": "ed"}), &expired, &world.ed);
    let claim = Claim::Password(token.as_bytes());
    assert!(
        prove(
            &world.authenticators,
            &RemoteKeys::none(),
            &cache,
            claim,
            NOW
        )
        .is_err()
    );
    assert!(cache.is_empty());
}

#[test]
fn key_sets_are_refused_whole_when_something_in_them_is_wrong() {
    let ed = Key::ed();
    let read = |keys: Value| KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes());
    let with_member = |name: &str, value: Value| with(ed.jwk("a"), json!({ name: value }));
    let short = json!({"kty": "RSA", "kid": "short", "e": "AQAB", "n": base64url([0xff; 255])});
    let long_enough = json!({"kty": "RSA", "kid": "ok", "e": "AQAB", "n": base64url([0xff; 256])});
    let leading_zeros = json!({
        "kty": "RSA", "kid": "short", "e": "AQAB",
        "n": base64url([vec![0; 200], vec![0xff; 100]].concat()),
    });
    let many = |count: usize| {
        (0..count)
            .map(|i| ed.jwk(&i.to_string()))
            .collect::<Vec<_>>()
    };
    let cases = [
        (json!([ed.jwk("a"), Key::p256().jwk("b")]), None),
        // What newer clients use is no reason to lose the rest.
        (
            json!([{"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "x"}, ed.jwk("a"),
                {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k"},
                {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "kid": "pq"}]),
            None,
        ),
        (json!(many(64)), None),
        (
            json!(many(65)),
            Some(KeySetError::TooManyKeys { count: 65 }),
        ),
        (
            json!([ed.jwk("a"), Key::ed().jwk("a")]),
            Some(KeySetError::RepeatedId { position: 2 }),
        ),
        (
            json!([ed.jwk("a"), {"kty": "oct", "k": base64url(b"secret"), "kid": "b"}]),
            Some(KeySetError::SharedSecret { position: 2 }),
        ),
        (
            json!([with_member("d", json!("AAAA"))]),
            Some(KeySetError::PrivateKey { position: 1 }),
        ),
        (
            json!([with_member("use", json!("enc"))]),
            Some(KeySetError::NothingUsable),
        ),
        (json!([with_member("use", json!("sig"))]), None),
        (json!([with_member("use", json!("jwt-svid"))]), None),
        (
            json!([with_member("use", json!("x509-svid"))]),
            Some(KeySetError::NothingUsable),
        ),
        (json!([with_member("key_ops", json!(["verify"]))]), None),
        (
            json!([with_member("key_ops", json!(["deriveKey"]))]),
            Some(KeySetError::NothingUsable),
        ),
        (
            json!([with_member("alg", json!("RS256"))]),
            Some(KeySetError::NothingUsable),
        ),
        (
            json!([with_member("crv", json!("Ed448"))]),
            Some(KeySetError::NothingUsable),
        ),
        (
            json!([with_member("x", json!("not base64!"))]),
            Some(KeySetError::MalformedKey { position: 1 }),
        ),
        (json!([short]), Some(KeySetError::NothingUsable)),
        (json!([leading_zeros]), Some(KeySetError::NothingUsable)),
        (json!([long_enough]), None),
        (json!([]), Some(KeySetError::NothingUsable)),
        (json!([5]), Some(KeySetError::MalformedKey { position: 1 })),
        (json!("keys"), Some(KeySetError::Malformed)),
    ];
    for (keys, expected) in cases {
        assert_eq!(read(keys.clone()).err(), expected, "{keys}");
    }
    for text in ["", "[]", "{}", r#"{"keys":[],"keys":[]}"#] {
        assert_eq!(
            KeySet::from_jwks(text.as_bytes()).err(),
            Some(KeySetError::Malformed),
            "{text}"
        );
    }
}

fn builtin(state: &StateDirectory) -> BuiltinIssuer {
    BuiltinIssuer::open(state, Duration::from_secs(3600), "local:", None).unwrap()
}

fn wanted() -> TokenRequest {
    TokenRequest {
        agent: "agent-7".into(),
        groups: vec!["analysts".into(), "oncall".into()],
        lifetime: Duration::from_secs(600),
    }
}

#[test]
fn a_minted_token_proves_its_agent() {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDirectory::new(directory.path().join("state"), Writing::Create);
    let issuer = builtin(&state);
    let made = issuer.mint(&wanted(), NOW).unwrap();
    let authenticators = Authenticators::new(1, vec![issuer.as_issuer()]);
    let prove_at = |now| {
        prove(
            &authenticators,
            &RemoteKeys::none(),
            &TokenCache::new(),
            Claim::Password(made.text.expose()),
            now,
        )
    };
    let proven = prove_at(NOW).unwrap();
    let principal = proven.principal();
    assert_eq!(principal.issuer, issuer.name());
    assert_eq!(
        (principal.subject.as_str(), principal.name.as_str()),
        ("agent-7", "agent-7")
    );
    assert_eq!(principal.groups, ["local:analysts", "local:oncall"]);
    assert_eq!(principal.token_id.as_deref(), Some(made.id.as_str()));
    assert_eq!((principal.expires, made.expires), (NOW + 600, NOW + 600));
    assert!(prove_at(NOW + 629).is_ok());
    assert_eq!(
        prove_at(NOW + 630).err(),
        Some(ProofFailure::Expired { seconds: 30 })
    );
    assert_ne!(issuer.mint(&wanted(), NOW).unwrap().id, made.id);
}

#[test]
fn key_and_name_of_the_builtin_issuer_outlive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDirectory::new(directory.path().join("state"), Writing::Create);
    let made = builtin(&state).mint(&wanted(), NOW).unwrap();
    let again = builtin(&state);
    let authenticators = Authenticators::new(1, vec![again.as_issuer()]);
    let claim = Claim::Password(made.text.expose());
    assert!(
        prove(
            &authenticators,
            &RemoteKeys::none(),
            &TokenCache::new(),
            claim,
            NOW
        )
        .is_ok()
    );
    let mode = std::fs::metadata(state.file("issuer-key.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let other = StateDirectory::new(directory.path().join("other"), Writing::Create);
    let stranger = Authenticators::new(1, vec![builtin(&other).as_issuer()]);
    let outcome = prove(
        &stranger,
        &RemoteKeys::none(),
        &TokenCache::new(),
        claim,
        NOW,
    );
    assert_eq!(outcome.err(), Some(ProofFailure::UnknownIssuer));

    // A new key under the same name: the old tokens are of a key that is gone.
    std::fs::remove_file(state.file("issuer-key.pem")).unwrap();
    let renewed = Authenticators::new(2, vec![builtin(&state).as_issuer()]);
    let outcome = prove(
        &renewed,
        &RemoteKeys::none(),
        &TokenCache::new(),
        claim,
        NOW,
    );
    assert_eq!(outcome.err(), Some(ProofFailure::UnknownKey));
}

#[test]
fn state_of_the_builtin_issuer_that_we_did_not_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDirectory::new(directory.path().to_owned(), Writing::Create);
    drop(builtin(&state));
    let open = || BuiltinIssuer::open(&state, Duration::from_secs(1), "", None).err();
    let overwrite = |name: &str, bytes: &[u8]| std::fs::write(state.file(name), bytes).unwrap();
    let instance = std::fs::read(state.file("instance-id")).unwrap();
    overwrite("instance-id", b"somebody");
    assert!(matches!(open(), Some(BuiltinIssuerError::Instance)));
    overwrite("instance-id", &instance);
    for wrong in [b"nonsense".as_slice(), RSA_A] {
        overwrite("issuer-key.pem", wrong);
        assert!(matches!(open(), Some(BuiltinIssuerError::Key)));
    }
}

#[test]
fn minting_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let issuer = builtin(&StateDirectory::new(
        directory.path().to_owned(),
        Writing::Create,
    ));
    let mint = |change: fn(&mut TokenRequest)| {
        let mut request = wanted();
        change(&mut request);
        issuer.mint(&request, NOW).err()
    };
    let lifetime = Some(MintError::Lifetime {
        max: Duration::from_secs(3600),
    });
    assert_eq!(mint(|r| r.lifetime = Duration::from_secs(3600)), None);
    assert_eq!(mint(|r| r.lifetime = Duration::from_secs(3601)), lifetime);
    assert_eq!(mint(|r| r.lifetime = Duration::ZERO), lifetime);
    assert_eq!(mint(|r| r.agent = "a".repeat(100)), None);
    assert_eq!(mint(|r| r.agent = "a".repeat(101)), Some(MintError::Name));
    assert_eq!(mint(|r| r.agent = String::new()), Some(MintError::Name));
    assert_eq!(mint(|r| r.agent = "a b".into()), Some(MintError::Name));
    assert_eq!(mint(|r| r.agent = "a\u{7}".into()), Some(MintError::Name));
    assert_eq!(mint(|r| r.groups = vec![]), None);
    assert_eq!(mint(|r| r.groups = vec!["*".into()]), Some(MintError::Name));
    assert_eq!(
        mint(|r| r.groups = vec!["a,b".into()]),
        Some(MintError::Name)
    );
    assert_eq!(
        mint(|r| r.groups = (0..64).map(|i| i.to_string()).collect()),
        None
    );
    assert_eq!(
        mint(|r| r.groups = (0..65).map(|i| i.to_string()).collect()),
        Some(MintError::TooManyGroups)
    );
    // The longest token that can be minted is one that can be presented.
    let mut longest = wanted();
    longest.agent = "a".repeat(100);
    longest.groups = (0..64).map(|i| format!("{i:0>100}")).collect();
    assert!(issuer.mint(&longest, NOW).unwrap().text.expose().len() <= TOKEN_BYTES_MAX);
}

#[test]
fn a_session_ends_by_its_lifetime_or_with_its_token() {
    let world = World::new();
    let token = token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(), &world.ed);
    let proven = world.prove(&token).unwrap();
    let hours = SessionLifetime::AtMost(Duration::from_secs(8 * 3600));
    assert_eq!(proven.session_deadline(NOW, hours), NOW + 8 * 3600);
    assert_eq!(
        proven.session_deadline(NOW, SessionLifetime::UntilTokenExpires),
        NOW + 630
    );
}

/// An issuer whose keys are fetched, what was fetched of it last, and a token of it.
fn remote_world(key: &Key) -> (Authenticators, RemoteKeys, String) {
    let source = RemoteSource {
        name: "corp".into(),
        issuer: CORP.into(),
        place: remote::Place::of_issuer(CORP).unwrap(),
        roots: Arc::default(),
        refresh_min: Duration::from_secs(30),
        refresh_max: Duration::from_secs(3600),
        stale_max: Duration::from_secs(86_400),
    };
    let id = source.id();
    let mut issuer = issuer("corp", CORP, &[key.jwk("ed")], &[Algorithm::EdDSA]);
    let IssuerKeys::Fixed(keys) = std::mem::replace(&mut issuer.keys, IssuerKeys::remote(source))
    else {
        panic!("not fixed")
    };
    let known = remote::Known {
        id,
        name: "corp".into(),
        keys: Some(Arc::new(keys)),
        endpoints: None,
        fetched: Some(NOW - 100),
        usable_until: NOW + 100,
        trouble: None,
    };
    let fetched = RemoteKeys {
        generation: 1,
        sources: vec![known],
    };
    let token = token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(), key);
    (Authenticators::new(1, vec![issuer]), fetched, token)
}

#[test]
fn fetched_keys_verify_until_they_are_too_old_even_what_they_verified_before() {
    let key = Key::ed();
    let (authenticators, fetched, token) = remote_world(&key);
    let claim = Claim::Password(token.as_bytes());
    let cache = TokenCache::new();
    let (source_id, _) = authenticators.remote_sources().next().unwrap();
    let prove = |keys: &RemoteKeys, now| prove(&authenticators, keys, &cache, claim, now).err();
    let none = Some(ProofFailure::NoKeys { source_id });
    assert_eq!(prove(&RemoteKeys::none(), NOW), none);
    assert_eq!(prove(&fetched, NOW + 99), None);
    assert_eq!(cache.len(), 1);
    assert_eq!(prove(&fetched, NOW + 100), none, "the cache does not help");
    let mut withdrawn = fetched.clone();
    withdrawn.sources[0].keys = None;
    assert_eq!(prove(&withdrawn, NOW), none);
    // Keys of one source serve no other.
    let mut elsewhere = fetched.clone();
    elsewhere.sources[0].id = RemoteSource {
        issuer: PARTNER.into(),
        ..RemoteSource::clone(authenticators.remote_sources().next().unwrap().1)
    }
    .id();
    assert_eq!(prove(&elsewhere, NOW), none);
}

#[test]
fn a_key_that_was_taken_back_verifies_no_more_not_even_from_the_cache() {
    let (old, new) = (Key::ed(), Key::ed());
    let (authenticators, fetched, token) = remote_world(&old);
    let claim = Claim::Password(token.as_bytes());
    let cache = TokenCache::new();
    let (source_id, _) = authenticators.remote_sources().next().unwrap();
    assert!(prove(&authenticators, &fetched, &cache, claim, NOW).is_ok());
    let mut rotated = fetched.clone();
    let jwks = json!({"keys": [new.jwk("ed-2")]}).to_string();
    rotated.generation = 2;
    rotated.sources[0].keys = Some(Arc::new(KeySet::from_jwks(jwks.as_bytes()).unwrap()));
    let failure = prove(&authenticators, &rotated, &cache, claim, NOW).err();
    assert_eq!(failure, Some(ProofFailure::KeyNotFetched { source_id }));
    assert_eq!(failure.unwrap().newer_keys_of(), Some(source_id));
    assert_eq!(ProofFailure::UnknownKey.newer_keys_of(), None);
}

#[test]
fn an_empty_map_of_claims_is_refused_for_what_is_missing_first() {
    let world = World::new();
    let nothing = token(
        &json!({"alg": "EdDSA", "kid": "ed"}),
        &Value::Object(Map::new()),
        &world.ed,
    );
    assert_eq!(
        world.prove(&nothing).err(),
        Some(ProofFailure::MissingClaim { claim: "iss" })
    );
}
