//! Tokens as the common providers document them, each with the configuration that it needs.
//!
//! The claims are those of the providers' documentation, signed by keys of the test; the
//! configurations are those of `docs/identity.md`.

use std::fs;
use std::path::Path;

use appliance::config::{Environment, Writing, load};
use appliance::identity::{Claim, RemoteKeys, TokenCache, prove};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

const NOW: u64 = 1_764_160_000;

struct Shape {
    provider: &'static str,
    /// As in the documentation.
    configuration: &'static str,
    header: Value,
    claims: Value,
    subject: &'static str,
    name: &'static str,
    groups: &'static [&'static str],
    token_id: Option<&'static str>,
}

/// The keys of every provider here: their kinds are what differs.
struct Keys {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
}

impl Keys {
    fn new() -> Self {
        let pem = include_bytes!("../data/identity/rsa-a.pem");
        let der = PrivateKeyDer::from_pem_slice(pem).unwrap();
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self {
            rsa: RsaKeyPair::from_pkcs8(der.secret_der()).unwrap(),
            p256: EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap(),
        }
    }

    /// Both keys under the names that a token's header has, with what a SPIFFE bundle says of its.
    fn jwks(&self) -> String {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let rsa = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let (x, y) = self.p256.public_key().as_ref()[1..].split_at(32);
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "n": encode(&rsa.n), "e": encode(&rsa.e)},
            {"kty": "EC", "kid": "p256", "use": "jwt-svid", "crv": "P-256",
             "x": encode(x), "y": encode(y)},
        ]})
        .to_string()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let random = SystemRandom::new();
        let signature = if header["alg"] == "ES256" {
            self.p256
                .sign(&random, message.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec()
        } else {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa
                .sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    message.as_bytes(),
                    &mut signature,
                )
                .unwrap();
            signature
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[expect(clippy::too_many_lines, reason = "a table of tokens")]
fn shapes() -> Vec<Shape> {
    let (issued, expires) = (NOW - 60, NOW + 3540);
    vec![
        Shape {
            provider: "Okta",
            configuration: r#"
[[issuer]]
name         = "okta"
issuer       = "https://dev-123456.okta.com/oauth2/default"
audience     = ["api://sallyport"]
groups       = "groups"
display_name = "sub"
group_prefix = "okta:""#,
            header: json!({"kid": "rsa", "alg": "RS256"}),
            claims: json!({
                "ver": 1, "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
                "iss": "https://dev-123456.okta.com/oauth2/default", "aud": "api://sallyport",
                "iat": issued, "exp": expires, "cid": "0oabucvyc38HLL1ef0h7",
                "uid": "00u5t60iloOHN9pBi0h7", "scp": ["openid", "offline_access"],
                "auth_time": issued, "sub": "ada@example.com", "groups": ["Everyone", "analysts"],
            }),
            subject: "ada@example.com",
            name: "ada@example.com",
            groups: &["okta:Everyone", "okta:analysts"],
            token_id: Some("AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE"),
        },
        Shape {
            provider: "Entra ID",
            configuration: r#"
[[issuer]]
name         = "entra"
issuer       = "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0"
audience     = ["6e74172b-be56-4843-9ff4-e66a39bb12e3"]
groups       = "groups"
display_name = "preferred_username"
group_prefix = "entra:"
group_map    = { "c8b6a6d9-9d4b-4f0a-8b7e-2f1d5a3c9e10" = "entra:analysts" }"#,
            header: json!({"typ": "JWT", "alg": "RS256", "kid": "rsa"}),
            claims: json!({
                "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3",
                "iss": "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0",
                "iat": issued, "nbf": issued, "exp": expires,
                "aio": "AXQAi/8IAAAAtAaZLo3ChMif6KOnttRB7eBq4/DccQzjcJGxPYy/", "azpacr": "0",
                "azp": "6e74172b-be56-4843-9ff4-e66a39bb12e3", "name": "Ada Lovelace",
                "groups": ["c8b6a6d9-9d4b-4f0a-8b7e-2f1d5a3c9e10",
                           "0f1b8d50-7c3e-4b6a-9a2d-1e5c7f9b3d42"],
                "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
                "preferred_username": "ada@example.com", "rh": "I", "scp": "access_as_user",
                "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
                "tid": "72f988bf-86f1-41af-91ab-2d7cd011db47", "uti": "fqiBqXLPj0eQa82S-IYFAA",
                "ver": "2.0",
            }),
            subject: "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
            name: "ada@example.com",
            groups: &[
                "entra:analysts",
                "entra:0f1b8d50-7c3e-4b6a-9a2d-1e5c7f9b3d42",
            ],
            token_id: None,
        },
        Shape {
            provider: "Google",
            configuration: r#"
[[issuer]]
name         = "google"
issuer       = "https://accounts.google.com"
audience     = ["https://sallyport.example.com"]
groups       = "email"
display_name = "email"
group_prefix = "google:"
group_map    = { "reporter@my-project.iam.gserviceaccount.com" = "google:analysts" }"#,
            header: json!({"alg": "RS256", "kid": "rsa", "typ": "JWT"}),
            claims: json!({
                "aud": "https://sallyport.example.com", "azp": "113774264463038321964",
                "email": "reporter@my-project.iam.gserviceaccount.com", "email_verified": true,
                "exp": expires, "iat": issued, "iss": "https://accounts.google.com",
                "sub": "113774264463038321964",
            }),
            subject: "113774264463038321964",
            name: "reporter@my-project.iam.gserviceaccount.com",
            groups: &["google:analysts"],
            token_id: None,
        },
        Shape {
            provider: "Keycloak",
            configuration: r#"
[[issuer]]
name         = "keycloak"
issuer       = "https://keycloak.example.com/realms/corp"
audience     = ["sallyport"]
groups       = "realm_access.roles"
display_name = "preferred_username"
group_prefix = "keycloak:""#,
            header: json!({"alg": "RS256", "typ": "JWT", "kid": "rsa"}),
            claims: json!({
                "exp": expires, "iat": issued, "jti": "4b1c9f6a-2f0e-4a57-9b8f-8d1f7a0a51c2",
                "iss": "https://keycloak.example.com/realms/corp", "aud": ["sallyport", "account"],
                "sub": "f0e3c1d4-53a1-4c8e-9a7e-3a1d6c2b5e90", "typ": "Bearer", "azp": "agents",
                "acr": "1", "realm_access": {"roles": ["offline_access", "analysts"]},
                "resource_access": {"account": {"roles": ["view-profile"]}},
                "scope": "profile email", "clientHost": "10.0.0.4", "email_verified": false,
                "preferred_username": "service-account-agents", "clientAddress": "10.0.0.4",
                "client_id": "agents",
            }),
            subject: "f0e3c1d4-53a1-4c8e-9a7e-3a1d6c2b5e90",
            name: "service-account-agents",
            groups: &["keycloak:offline_access", "keycloak:analysts"],
            token_id: Some("4b1c9f6a-2f0e-4a57-9b8f-8d1f7a0a51c2"),
        },
        Shape {
            provider: "Auth0",
            configuration: r#"
[[issuer]]
name         = "auth0"
issuer       = "https://corp.eu.auth0.com/"
audience     = ["https://sallyport.example.com"]
groups       = '"https://example.com/groups"'
display_name = "azp"
group_prefix = "auth0:""#,
            header: json!({"alg": "RS256", "typ": "at+jwt", "kid": "rsa"}),
            claims: json!({
                "https://example.com/groups": ["analysts"], "iss": "https://corp.eu.auth0.com/",
                "sub": "Bw3gk1ZbYp1dC6f2@clients", "aud": "https://sallyport.example.com",
                "iat": issued, "exp": expires, "gty": "client-credentials",
                "azp": "Bw3gk1ZbYp1dC6f2", "permissions": [],
            }),
            subject: "Bw3gk1ZbYp1dC6f2@clients",
            name: "Bw3gk1ZbYp1dC6f2",
            groups: &["auth0:analysts"],
            token_id: None,
        },
        Shape {
            provider: "GitHub Actions",
            configuration: r#"
[[issuer]]
name         = "github"
issuer       = "https://token.actions.githubusercontent.com"
audience     = ["sallyport"]
groups       = "repository"
display_name = "job_workflow_ref"
group_prefix = "github:"
group_map    = { "octo-org/octo-repo" = "github:deployers" }"#,
            header: json!({"typ": "JWT", "alg": "RS256", "x5t": "example-thumbprint", "kid": "rsa"}),
            claims: json!({
                "jti": "example-id", "sub": "repo:octo-org/octo-repo:environment:prod",
                "environment": "prod", "aud": "sallyport", "ref": "refs/heads/main",
                "sha": "example-sha", "repository": "octo-org/octo-repo",
                "repository_owner": "octo-org", "actor_id": "12", "repository_visibility": "private",
                "repository_id": "74", "repository_owner_id": "65", "run_id": "example-run-id",
                "run_number": "10", "run_attempt": "2", "runner_environment": "github-hosted",
                "actor": "octocat", "workflow": "example-workflow", "head_ref": "", "base_ref": "",
                "event_name": "workflow_dispatch", "ref_type": "branch",
                "job_workflow_ref":
                    "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
                "iss": "https://token.actions.githubusercontent.com", "nbf": issued, "exp": expires,
                "iat": issued,
            }),
            subject: "repo:octo-org/octo-repo:environment:prod",
            name: "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
            groups: &["github:deployers"],
            token_id: Some("example-id"),
        },
        Shape {
            provider: "Kubernetes",
            configuration: r#"
[[issuer]]
name         = "cluster"
issuer       = "https://kubernetes.default.svc.cluster.local"
audience     = ["sallyport"]
groups       = '"kubernetes.io".namespace'
display_name = '"kubernetes.io".serviceaccount.name'
group_prefix = "namespace:""#,
            header: json!({"alg": "RS256", "kid": "rsa"}),
            claims: json!({
                "aud": ["sallyport"], "exp": expires, "iat": issued,
                "iss": "https://kubernetes.default.svc.cluster.local",
                "jti": "aed34954-b33a-4142-b1ec-389d6bbb4936",
                "kubernetes.io": {
                    "namespace": "agents",
                    "node": {"name": "node-1", "uid": "646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1"},
                    "pod": {"name": "reporter-0", "uid": "5e0bd49b-f040-43b0-99b7-22765a53f7f3"},
                    "serviceaccount": {"name": "reporter",
                                       "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
                },
                "nbf": issued, "sub": "system:serviceaccount:agents:reporter",
            }),
            subject: "system:serviceaccount:agents:reporter",
            name: "reporter",
            groups: &["namespace:agents"],
            token_id: Some("aed34954-b33a-4142-b1ec-389d6bbb4936"),
        },
        Shape {
            provider: "SPIFFE",
            configuration: r#"
[[issuer]]
name         = "spiffe"
issuer       = "https://spire.example.org"
audience     = ["sallyport"]
groups       = "sub"
display_name = "sub"
group_prefix = "spiffe:"
group_map    = { "spiffe://example.org/agent/reporter" = "spiffe:analysts" }"#,
            header: json!({"alg": "ES256", "kid": "p256", "typ": "JWT"}),
            claims: json!({
                "aud": ["sallyport"], "exp": expires, "iat": issued,
                "iss": "https://spire.example.org", "sub": "spiffe://example.org/agent/reporter",
            }),
            subject: "spiffe://example.org/agent/reporter",
            name: "spiffe://example.org/agent/reporter",
            groups: &["spiffe:analysts"],
            token_id: None,
        },
    ]
}

/// An appliance's configuration of this one issuer, whose keys stand in a file for the test.
fn environment(directory: &Path, configuration: &str, jwks: &str) -> Environment {
    fs::write(directory.join("keys.jwks"), jwks).unwrap();
    let text =
        format!("builtin_issuer.enabled = false\n{configuration}\njwks = \"file:keys.jwks\"\n");
    fs::write(directory.join("sallyport.toml"), text).unwrap();
    Environment {
        file: directory.join("sallyport.toml"),
        file_named: true,
        state_directory: directory.join("state"),
        runtime_directory: directory.join("run"),
        credentials_directory: None,
        policy_directory: None,
        drafts: Vec::new(),
        variable: |_| None,
    }
}

#[test]
fn the_tokens_of_each_provider_are_understood_with_the_documented_configuration() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/identity.md");
    let document = fs::read_to_string(document).unwrap();
    let keys = Keys::new();
    for shape in shapes() {
        let provider = shape.provider;
        assert!(
            document.contains(shape.configuration.trim()),
            "docs/identity.md lacks the configuration for {provider}"
        );
        let directory = tempfile::tempdir().unwrap();
        let environment = environment(directory.path(), shape.configuration, &keys.jwks());
        let loaded = load(&environment, Writing::Never, 1).unwrap_or_else(|problems| {
            panic!(
                "{provider}: {}",
                problems.iter().map(ToString::to_string).collect::<String>()
            )
        });
        let authenticators = &loaded.snapshot.authenticators;
        let verdict = |claims: &Value| {
            let token = keys.sign(&shape.header, claims);
            let claim = Claim::Password(token.as_bytes());
            prove(
                authenticators,
                &RemoteKeys::none(),
                &TokenCache::new(),
                claim,
                NOW,
            )
        };
        let proven = verdict(&shape.claims).unwrap_or_else(|e| panic!("{provider}: {e}"));
        let principal = proven.principal();
        assert_eq!(principal.subject, shape.subject, "{provider}");
        assert_eq!(principal.name, shape.name, "{provider}");
        assert_eq!(principal.groups, shape.groups, "{provider}");
        assert_eq!(principal.token_id.as_deref(), shape.token_id, "{provider}");
        // The same provider's token for somebody else's service, or of another tenant.
        for claim in ["aud", "iss"] {
            let mut other = shape.claims.clone();
            other[claim] = json!("https://other.example");
            assert!(verdict(&other).is_err(), "{provider}: {claim}");
        }
        // Keys are found by discovery when there is no file.
        let discovered = format!("builtin_issuer.enabled = false\n{}\n", shape.configuration);
        fs::write(&environment.file, discovered).unwrap();
        let loaded = load(&environment, Writing::Never, 1);
        let loaded = loaded.unwrap_or_else(|_| panic!("{provider}: no discovery"));
        assert_eq!(loaded.snapshot.authenticators.remote_sources().count(), 1);
    }
}
