//! People who decide about held commands: tokens of a second issuer, and their answers over the
//! admin socket.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::appliance::{Appliance, Setup};
use crate::http::Request;

/// The file of its keys, beside the configuration.
const JWKS: &str = "people.jwks";

const ISSUER: &str = "https://people.example/";

/// An issuer whose subjects are people.
pub struct People {
    key: Ed25519KeyPair,
}

impl People {
    pub fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self {
            key: Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap(),
        }
    }

    /// Makes the issuer known to an appliance.
    pub fn introduce(&self, setup: &mut Setup<'_>) {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref());
        let jwks = json!({"keys": [{
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "k1", "x": x,
        }]});
        setup.files.push((JWKS, jwks.to_string()));
        setup.tables.push_str(&format!(
            "\n[builtin_issuer]\ngroup_prefix = \"local:\"\n[[issuer]]\nname = \"people\"\n\
             issuer = \"{ISSUER}\"\naudience = [\"sallyport\"]\njwks = \"file:{JWKS}\"\n\
             group_prefix = \"people:\"\n"
        ));
    }

    /// A token of somebody in these groups, which policy knows as `people:GROUP`.
    pub fn token(&self, subject: &str, groups: &[&str]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1"});
        let claims = json!({
            "iss": ISSUER, "sub": subject, "aud": "sallyport", "name": subject,
            "exp": now.as_secs() + 3600, "iat": now.as_secs(), "groups": groups,
        });
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// Approves as somebody on call; the status of the answer and what it says.
    pub fn approve(&self, appliance: &Appliance, id: &str) -> (u16, Value) {
        self.approve_as(appliance, id, "olga", &["oncall"])
    }

    pub fn approve_as(
        &self,
        appliance: &Appliance,
        id: &str,
        subject: &str,
        groups: &[&str],
    ) -> (u16, Value) {
        let token = self.token(subject, groups);
        let path = format!("/v1/approvals/{id}/approve");
        ask(appliance, "POST", &path, Some(&token), None)
    }

    /// The approval of somebody on call, to be sent from any thread.
    pub fn approval(&self, appliance: &Appliance, id: &str) -> impl Fn() -> u16 + Send + use<> {
        let token = self.token("olga", &["oncall"]);
        let path = format!("/v1/approvals/{id}/approve");
        let socket = socket(appliance);
        move || ask_at(&socket, "POST", &path, Some(&token), None).0
    }

    pub fn deny(&self, appliance: &Appliance, id: &str, reason: &str) -> (u16, Value) {
        let token = self.token("olga", &["oncall"]);
        let path = format!("/v1/approvals/{id}/deny");
        ask(
            appliance,
            "POST",
            &path,
            Some(&token),
            Some(json!({ "reason": reason })),
        )
    }

    /// A request as whoever decides sees it.
    pub fn shown(&self, appliance: &Appliance, id: &str) -> Value {
        let token = self.token("olga", &["oncall"]);
        let path = format!("/v1/approvals/{id}");
        let (status, shown) = ask(appliance, "GET", &path, Some(&token), None);
        assert_eq!(status, 200, "{shown}");
        shown
    }
}

/// The requests that are open, as the operator sees them.
pub fn open_requests(appliance: &Appliance) -> Vec<Value> {
    let (status, listed) = ask(appliance, "GET", "/v1/approvals?open=true", None, None);
    assert_eq!(status, 200, "{listed}");
    listed.as_array().unwrap().clone()
}

/// One question to the admin socket.
pub fn ask(
    appliance: &Appliance,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> (u16, Value) {
    ask_at(&socket(appliance), method, path, token, body)
}

fn socket(appliance: &Appliance) -> PathBuf {
    appliance.directory().join("run/admin.sock")
}

fn ask_at(
    socket: &Path,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> (u16, Value) {
    let mut request = match body {
        Some(body) => Request::post(path, &body.to_string()),
        None => Request::new(method, path),
    };
    if let Some(token) = token {
        request = request.bearer(token);
    }
    let answer = request.unix(socket);
    (answer.status, answer.json())
}
