//! The settings of a session: what it was started with, and what it has set since.

use std::collections::BTreeMap;

/// What `version()` says; `server_version` is the number in it.
pub(super) const VERSION: &str = "PostgreSQL 15.0 (the built-in upstream of sallyport-loadgen)";

/// What PostgreSQL 15 reports of itself, with its defaults.
const REPORTED: [(&str, &str); 11] = [
    ("application_name", ""),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("server_encoding", "UTF8"),
    ("server_version", "15.0"),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "UTC"),
];

/// Settings that are not reported and that somebody may ask for.
const OTHERS: [(&str, &str); 6] = [
    ("max_identifier_length", "63"),
    ("search_path", "\"$user\", public"),
    ("server_version_num", "150000"),
    ("statement_timeout", "0"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
];

/// Settings that one session may have set.
const SET_MAX: usize = 128;

/// Bytes of one setting's value.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// Per session.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Of the start-up packet: what RESET returns to. Names in lower case.
    started: BTreeMap<String, String>,
    set: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SettingRefused {
    /// Texts are UTF-8 here.
    Encoding,
    TooMuch,
}

impl Settings {
    /// What a client brings along.
    pub(super) fn start(&mut self, name: &str, value: &str) -> Result<(), SettingRefused> {
        let name = name.to_ascii_lowercase();
        check(&self.started, &name, value)?;
        self.started.insert(name, value.to_owned());
        Ok(())
    }

    /// `None` returns to what the session was started with.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), SettingRefused> {
        let name = name.to_ascii_lowercase();
        match value {
            None => {
                self.set.remove(&name);
            }
            Some(value) => {
                check(&self.set, &name, value)?;
                self.set.insert(name, value.to_owned());
            }
        }
        Ok(())
    }

    /// The names that were set are returned, so that what is reported can be.
    pub(super) fn reset(&mut self) -> Vec<String> {
        std::mem::take(&mut self.set).into_keys().collect()
    }

    /// `None` for a setting that there is not.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let lower = name.to_ascii_lowercase();
        let known = || {
            let mut known = REPORTED.iter().chain(&OTHERS);
            known.find(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        self.set
            .get(&lower)
            .or_else(|| self.started.get(&lower))
            .map(String::as_str)
            .or_else(|| known().map(|(_, value)| *value))
    }

    /// The name by which a setting is reported; `None` for those that are not.
    pub(super) fn reported(name: &str) -> Option<&'static str> {
        let found = REPORTED
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(known, _)| *known)
    }

    /// Everything that is reported at the start.
    pub(super) fn all_reported(&self) -> impl Iterator<Item = (&'static str, &str)> {
        REPORTED
            .iter()
            .map(|(name, default)| (*name, self.get(name).unwrap_or(default)))
    }
}

fn check(known: &BTreeMap<String, String>, name: &str, value: &str) -> Result<(), SettingRefused> {
    let is_utf8 = |value: &str| {
        let letters = value.chars().filter(char::is_ascii_alphanumeric);
        letters.collect::<String>().eq_ignore_ascii_case("utf8")
    };
    if name == "client_encoding" && !is_utf8(value) {
        return Err(SettingRefused::Encoding);
    }
    if value.len() > VALUE_BYTES_MAX || (known.len() >= SET_MAX && !known.contains_key(name)) {
        return Err(SettingRefused::TooMuch);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_returns_to_what_the_session_was_started_with() {
        let mut settings = Settings::default();
        settings.start("Application_Name", "psql").unwrap();
        settings.set("application_name", Some("x")).unwrap();
        settings.set("sallyport.subject", Some("corp/ada")).unwrap();
        assert_eq!(settings.get("APPLICATION_NAME"), Some("x"));
        assert_eq!(settings.reset(), ["application_name", "sallyport.subject"]);
        assert_eq!(settings.get("application_name"), Some("psql"));
        assert_eq!(settings.get("sallyport.subject"), None);
        assert_eq!(settings.get("timezone"), Some("UTC"));
    }

    #[test]
    fn another_encoding_is_refused() {
        let mut settings = Settings::default();
        assert_eq!(settings.set("client_encoding", Some("utf-8")), Ok(()));
        assert_eq!(
            settings.set("client_encoding", Some("LATIN1")),
            Err(SettingRefused::Encoding)
        );
    }
}
