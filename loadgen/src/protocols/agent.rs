//! Who asks: a name, and what proves it.

use zeroize::Zeroizing;

/// One agent. Shared by the shards of a run.
#[derive(Debug, Clone)]
pub struct Agent {
    /// What reports call it; never shown to the target.
    pub name: String,
    /// The user of its start-up packets.
    pub user: String,
    pub password: Password,
}

/// A password or a token; wiped on drop, and not shown by `Debug`.
#[derive(Clone, Default)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(Zeroizing::new(secret.to_vec()))
    }

    /// The secret itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}
