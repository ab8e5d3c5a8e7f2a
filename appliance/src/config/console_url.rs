//! Where people reach the console: what links begin with.

use std::fmt;
use std::net::IpAddr;

use axum::http::Uri;
use axum::http::uri::{Authority, Scheme};

/// `https://HOST[:PORT]`, or the same with `http` for a loopback name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleUrl {
    scheme: Scheme,
    authority: Authority,
}

/// Why a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleUrlError {
    #[error("expected `https://HOST` or `https://HOST:PORT`")]
    Form,
    #[error("links go by `https`; `http` is for loopback names only")]
    Scheme,
}

impl ConsoleUrl {
    /// Reads it. A `/` at the end changes nothing.
    ///
    /// # Errors
    /// As `ConsoleUrlError` says.
    pub fn parse(text: &str) -> Result<Self, ConsoleUrlError> {
        let uri: Uri = text.parse().map_err(|_| ConsoleUrlError::Form)?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(ConsoleUrlError::Form);
        };
        let path = parts
            .path_and_query
            .map_or(String::new(), |path| path.to_string());
        if !matches!(path.as_str(), "" | "/") || authority.as_str().contains('@') {
            return Err(ConsoleUrlError::Form);
        }
        let is_safe =
            scheme == Scheme::HTTPS || (scheme == Scheme::HTTP && is_loopback(authority.host()));
        if !is_safe {
            return Err(ConsoleUrlError::Scheme);
        }
        Ok(Self { scheme, authority })
    }

    /// The host, without the port.
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// As browsers write it in `Origin`.
    pub fn origin(&self) -> String {
        let host = self.authority.host().to_ascii_lowercase();
        let usual = if self.scheme == Scheme::HTTPS {
            443
        } else {
            80
        };
        match self.authority.port_u16() {
            Some(port) if port != usual => format!("{}://{host}:{port}", self.scheme),
            Some(_) | None => format!("{}://{host}", self.scheme),
        }
    }
}

impl fmt::Display for ConsoleUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_origin_and_nothing_more() {
        let cases = [
            ("https://Console.Example.com", "https://console.example.com"),
            (
                "https://console.example.com/",
                "https://console.example.com",
            ),
            (
                "https://console.example.com:443",
                "https://console.example.com",
            ),
            ("https://[2001:db8::1]:7070", "https://[2001:db8::1]:7070"),
            ("http://localhost:7070", "http://localhost:7070"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
        ];
        for (text, expected) in cases {
            assert_eq!(ConsoleUrl::parse(text).unwrap().origin(), expected);
        }
        for text in [
            "",
            "console.example.com",
            "https://",
            "https://a/path",
            "https://a/?q",
            "https://user:pass@a",
            "https://a b",
        ] {
            assert_eq!(
                ConsoleUrl::parse(text),
                Err(ConsoleUrlError::Form),
                "{text}"
            );
        }
        for text in [
            "http://console.example.com",
            "http://10.0.0.1",
            "ftp://localhost",
        ] {
            assert_eq!(
                ConsoleUrl::parse(text),
                Err(ConsoleUrlError::Scheme),
                "{text}"
            );
        }
    }
}
