//! Tokens and key sets: nothing proves a principal but a good signature over sound claims.

use std::sync::LazyLock;

use appliance::identity::{
    Authenticators, Claim, ClaimMapping, ClaimPath, Issuer, IssuerKeys, KeySet, RemoteKeys,
    TokenCache, prove,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

const NOW: u64 = 2_000_000_000;
const ISSUER: &str = "https://issuer.example";

static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any seed is a key"));

static AUTHENTICATORS: LazyLock<Authenticators> = LazyLock::new(|| {
    let x = URL_SAFE_NO_PAD.encode(KEY.public_key().as_ref());
    let keys = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{x}"}}]}}"#);
    let path = |text| ClaimPath::parse(text).expect("a good path");
    let issuer = Issuer {
        name: "corp".to_owned(),
        issuer: ISSUER.to_owned(),
        alias: None,
        audience: vec!["sallyport".to_owned()],
        algorithms: appliance::identity::ALGORITHMS
            .iter()
            .map(|(_, algorithm)| *algorithm)
            .collect(),
        keys: IssuerKeys::Fixed(KeySet::from_jwks(keys.as_bytes()).expect("a good key set")),
        mapping: ClaimMapping {
            groups: path("realm_access.roles"),
            group_prefix: String::new(),
            group_map: std::collections::BTreeMap::new(),
            name: path("name"),
        },
    };
    Authenticators::new(1, vec![issuer])
});

fn check(token: &[u8], is_signed: bool) {
    let cache = TokenCache::new();
    if let Ok(proven) = prove(
        &AUTHENTICATORS,
        &RemoteKeys::none(),
        &cache,
        Claim::Password(token),
        NOW,
    ) {
        assert!(is_signed);
        let principal = proven.principal();
        assert_eq!(principal.issuer, ISSUER);
        assert!(!principal.subject.is_empty() && principal.expires + 30 >= NOW);
    }
}

/// A token as it comes, or its header and claims (divided by a line end) under a good signature.
pub fn token(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    if choice & 1 == 0 {
        check(rest, false);
        return;
    }
    let at = rest.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (header, claims) = rest.split_at(at);
    let header = if header.is_empty() {
        br#"{"alg":"EdDSA","kid":"k"}"#
    } else {
        header
    };
    let claims = claims.strip_prefix(b"\n").unwrap_or(claims);
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = URL_SAFE_NO_PAD.encode(KEY.sign(signed.as_bytes()));
    check(format!("{signed}.{signature}").as_bytes(), true);
}

/// A key set, and the path to a claim.
pub fn jwks(input: &[u8]) {
    if KeySet::from_jwks(input).is_ok() {
        assert!(serde_json::from_slice::<serde_json::Value>(input).is_ok());
    }
    if let Ok(text) = std::str::from_utf8(input)
        && ClaimPath::parse(text).is_ok()
    {
        assert!(!text.is_empty());
    }
}
