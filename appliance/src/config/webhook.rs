//! One webhook of the configuration: where it is, and what signs what it is sent.

use std::net::IpAddr;

use reqwest::Url;

use super::secret::Secret;

/// Where people are told about requests for approval. Part of the configuration snapshot.
pub struct WebhookSettings {
    /// May be a secret itself, as those of chats are.
    url: Secret,
    host: String,
    pub secret: Secret,
    pub form: WebhookForm,
}

/// What a webhook is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookForm {
    /// A `text` in mrkdwn, as Slack and many others take it.
    Slack,
    /// The event and the request, with the same text.
    Json,
}

/// Why an address is not taken. Never holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    #[error("the address of a webhook is a URL that begins with https://")]
    NotAnAddress,
    #[error("a webhook is told over https://, or over http:// on this machine")]
    InTheClear,
}

impl WebhookSettings {
    /// # Errors
    /// The address is none, or crosses a network in the clear.
    pub fn new(url: Secret, secret: Secret, form: WebhookForm) -> Result<Self, WebhookError> {
        let text = std::str::from_utf8(url.expose().trim_ascii());
        let parsed = text.ok().and_then(|text| Url::parse(text).ok());
        let parsed = parsed.ok_or(WebhookError::NotAnAddress)?;
        let host = parsed.host_str().ok_or(WebhookError::NotAnAddress)?;
        let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let is_local = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
        match parsed.scheme() {
            "https" => {}
            "http" if is_local => {}
            "http" => return Err(WebhookError::InTheClear),
            _ => return Err(WebhookError::NotAnAddress),
        }
        let host = host.to_owned();
        Ok(Self {
            url: Secret::new(parsed.as_str().as_bytes().to_vec()),
            host,
            secret,
            form,
        })
    }

    /// Where it is, for the one place that asks it.
    pub fn url(&self) -> Option<Url> {
        let text = std::str::from_utf8(self.url.expose()).ok()?;
        Url::parse(text).ok()
    }

    /// What of the address may be in a log.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether both say the same.
    pub fn same_as(&self, other: &Self) -> bool {
        self.form == other.form
            && self.url.same_as(&other.url)
            && self.secret.same_as(&other.secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(url: &str) -> Result<String, WebhookError> {
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        let settings = WebhookSettings::new(secret(url), secret("s"), WebhookForm::Slack)?;
        Ok(settings.host().to_owned())
    }

    #[test]
    fn a_webhook_is_told_over_tls_or_on_this_machine() {
        for (url, expected) in [
            ("https://hooks.example/services/T0/B0", "hooks.example"),
            ("http://127.0.0.1:8080/x\n", "127.0.0.1"),
            ("http://[::1]:8080", "[::1]"),
            ("http://localhost", "localhost"),
        ] {
            assert_eq!(host(url).as_deref(), Ok(expected));
        }
        assert_eq!(host("http://hooks.example"), Err(WebhookError::InTheClear));
        for url in ["", "hooks.example", "ftp://hooks.example", "file:///x"] {
            assert_eq!(host(url), Err(WebhookError::NotAnAddress), "{url}");
        }
    }
}
