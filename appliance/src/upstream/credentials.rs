//! The accounts that the appliance uses at targets.
//!
//! Does not read secrets: `config` does, from their references.

use super::tls::Tls;
use crate::config::Secret;
use ring::digest;

/// How the appliance logs in at a target: user, secret and TLS, with or without a certificate.
pub struct Account {
    user: String,
    password: Option<Secret>,
    channel_binding: ChannelBinding,
    tls: Tls,
    identity: Identity,
}

/// Digest over everything that makes two connections of one target interchangeable.
///
/// Includes the password, so a connection made with a withdrawn one is not handed out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity([u8; digest::SHA256_OUTPUT_LEN]);

/// Whether SCRAM has to be bound to the TLS channel.
///
/// Bound authentication proves that nobody stands between us and the server, even where
/// `tls = "require"` verifies no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelBinding {
    /// Whenever the server offers it.
    #[default]
    Prefer,
    /// Any other way to authenticate is refused.
    Require,
}

impl Account {
    pub fn new(
        user: String,
        password: Option<Secret>,
        channel_binding: ChannelBinding,
        tls: Tls,
    ) -> Self {
        let identity = Identity::over([
            user.as_bytes(),
            &[u8::from(password.is_some())],
            password.as_ref().map_or(&[][..], Secret::expose),
            &[u8::from(channel_binding == ChannelBinding::Require)],
            tls.identity().as_bytes(),
        ]);
        Self {
            user,
            password,
            channel_binding,
            tls,
            identity,
        }
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    pub fn channel_binding(&self) -> ChannelBinding {
        self.channel_binding
    }

    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }
}

impl Identity {
    /// Digests `parts` so that moving a byte from one part to the next changes the result.
    pub(super) fn over<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut identity = [0; digest::SHA256_OUTPUT_LEN];
        identity.copy_from_slice(context.finish().as_ref());
        Self(identity)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(user: &str, password: Option<&str>) -> Identity {
        let password = password.map(|text| Secret::new(text.into()));
        Account::new(
            user.into(),
            password,
            ChannelBinding::Prefer,
            Tls::disabled(),
        )
        .identity()
    }

    #[test]
    fn an_identity_changes_with_user_password_and_the_absence_of_one() {
        let same = account("svc", Some("secret"));
        assert_eq!(same, account("svc", Some("secret")));
        assert_ne!(same, account("svc", Some("rotated")));
        assert_ne!(same, account("svcs", Some("ecret")));
        assert_ne!(account("svc", Some("")), account("svc", None));
    }
}
