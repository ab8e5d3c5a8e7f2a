//! Who asks: plain values of a principal that was proven elsewhere.
//!
//! Nothing here proves anything; the appliance's `identity` makes the evidence.

/// A caller as its token says.
///
/// Scope: per session. Identity is (issuer, subject); `name` is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub issuer: String,
    pub subject: String,
    pub name: String,
    /// As mapped from the token's claims; compared with a rule's `groups` byte for byte.
    pub groups: Vec<String>,
    /// Who acts for whom, outermost actor first (RFC 8693 `act`).
    pub delegation: Vec<Actor>,
    pub token_id: Option<String>,
    /// Seconds since the Unix epoch.
    pub expires: u64,
    pub proof: Proof,
}

/// One link of a delegation chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub issuer: String,
    pub subject: String,
}

/// How the principal was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// A token in place of a password.
    Password,
    /// A token by SASL OAUTHBEARER.
    OauthBearer,
    /// A client certificate.
    Certificate,
}
