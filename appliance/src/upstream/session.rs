//! The settings that a client's start-up brings along, as far as they reach the server.
//!
//! Which settings a client may bring is the caller's decision; here only those are refused that
//! the appliance itself depends on.

/// Settings of one start-up. More are refused; drivers send three or four.
const SETTINGS_MAX: usize = 32;

/// Bytes of all names and values together: each distinct set is a pool of its own.
const SETTINGS_BYTES_MAX: usize = 4096;

/// Never taken from a client: what identifies it, what the appliance sets itself, and what would
/// change the protocol.
const RESERVED: &[&str] = &[
    "user",
    "database",
    "replication",
    "options",
    "application_name",
    "client_encoding",
    "standard_conforming_strings",
    "default_transaction_read_only",
    "transaction_read_only",
    "session_authorization",
    "role",
];

/// Start-up settings in a canonical order: equal sets are equal values.
///
/// They go into the upstream StartupMessage, so that RESET returns to them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SessionSettings(Vec<(String, String)>);

/// Settings that cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("a setting that the appliance keeps for itself")]
    Reserved,
    #[error("a setting is given twice")]
    Duplicate,
    #[error("a setting without a name, or with a NUL in it")]
    Malformed,
    #[error("more than {SETTINGS_MAX} settings or {SETTINGS_BYTES_MAX} bytes of them")]
    TooMany,
}

impl SessionSettings {
    /// Names are compared as the server does, without case.
    ///
    /// # Errors
    /// As [`SettingsError`] says.
    pub fn new(
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let mut sorted = Vec::new();
        let mut bytes: usize = 0;
        for (mut name, value) in settings {
            name.make_ascii_lowercase();
            if name.is_empty() || name.contains('\0') || value.contains('\0') {
                return Err(SettingsError::Malformed);
            }
            let reserved = RESERVED.contains(&name.as_str())
                || name.starts_with("sallyport.")
                || name.starts_with("_pq_.");
            if reserved {
                return Err(SettingsError::Reserved);
            }
            bytes = bytes.saturating_add(name.len()).saturating_add(value.len());
            if sorted.len() == SETTINGS_MAX || bytes > SETTINGS_BYTES_MAX {
                return Err(SettingsError::TooMany);
            }
            sorted.push((name, value));
        }
        sorted.sort();
        let twice = sorted.windows(2).any(|pair| match pair {
            [(first, _), (second, _)] => first == second,
            _ => false,
        });
        if twice {
            return Err(SettingsError::Duplicate);
        }
        Ok(Self(sorted))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<SessionSettings, SettingsError> {
        SessionSettings::new(
            pairs
                .iter()
                .map(|&(name, value)| (name.into(), value.into())),
        )
    }

    #[test]
    fn order_and_case_of_names_do_not_matter() {
        let one = settings(&[("TimeZone", "UTC"), ("DateStyle", "ISO")]).unwrap();
        assert_eq!(
            one,
            settings(&[("datestyle", "ISO"), ("timezone", "UTC")]).unwrap()
        );
        assert_ne!(
            one,
            settings(&[("datestyle", "iso"), ("timezone", "UTC")]).unwrap()
        );
        assert_eq!(one.iter().next(), Some(("datestyle", "ISO")));
    }

    #[test]
    fn what_the_appliance_depends_on_is_refused() {
        for name in [
            "user",
            "Client_Encoding",
            "options",
            "SALLYPORT.subject",
            "_pq_.x",
            "Role",
        ] {
            assert_eq!(
                settings(&[(name, "x")]),
                Err(SettingsError::Reserved),
                "{name}"
            );
        }
        assert_eq!(
            settings(&[("a", "1"), ("A", "2")]),
            Err(SettingsError::Duplicate)
        );
        assert_eq!(settings(&[("", "1")]), Err(SettingsError::Malformed));
        assert_eq!(settings(&[("a", "1\0")]), Err(SettingsError::Malformed));
    }

    #[test]
    fn number_and_bytes_are_bounded() {
        let many = |count: usize| {
            SessionSettings::new((0..count).map(|number| (format!("s{number}"), "x".into())))
        };
        assert!(many(32).is_ok());
        assert_eq!(many(33), Err(SettingsError::TooMany));
        assert!(settings(&[("a", &"x".repeat(4095))]).is_ok());
        assert_eq!(
            settings(&[("a", &"x".repeat(4096))]),
            Err(SettingsError::TooMany)
        );
    }
}
