//! What every request passes before anybody asks who sent it: rates, the host it means, the page
//! that sent it, and its body in time; and what every answer says to a browser.
//!
//! At the admin socket only the body counts: no browser gets there.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http_body_util::BodyExt;

use super::api::{Door, Refused, Shared, is_safe, too_many};
use super::listener::neighbourhood;
use crate::config::ConsoleUrl;

/// Largest request body, in bytes. A token request with all its groups stays below 8 KiB.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

/// How much of a longer one is read and thrown away, in bytes: a sender that is cut off while it
/// sends does not see the answer.
const THROWN_AWAY_MAX: usize = 1024 * 1024;

/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Scripts, styles and connections of our own origin only, nothing inline, and no frame around us.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// A year: a console that was reached by TLS once is reached by nothing else.
const STRICT_TRANSPORT_SECURITY: &str = "max-age=31536000";

/// On every answer, unless its handler said otherwise.
const HEADERS: [(HeaderName, &str); 8] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
];

/// Why a request is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfit {
    /// No host, or more than one.
    NoHost,
    /// A host that is not ours: a name that somebody has pointed at us, perhaps.
    OtherHost,
    /// It changes something, and another site's page sent it.
    OtherOrigin,
    BodyTooLong,
    BodyTooLate,
    BodyBroken,
}

impl IntoResponse for Unfit {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::NoHost => (StatusCode::BAD_REQUEST, "a request names one host"),
            Self::OtherHost => (
                StatusCode::MISDIRECTED_REQUEST,
                "this is not the host of the console; `console.url` in the configuration names it",
            ),
            Self::OtherOrigin => (
                StatusCode::FORBIDDEN,
                "pages of other sites change nothing here",
            ),
            Self::BodyTooLong => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is longer than 64 KiB",
            ),
            Self::BodyTooLate => (
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            ),
            Self::BodyBroken => (StatusCode::BAD_REQUEST, "the body broke off"),
        };
        let body = Refused {
            error: error.to_owned(),
            problems: Vec::new(),
        };
        (status, Json(body)).into_response()
    }
}

/// Looks at a request before anybody asks who sent it.
pub(super) async fn look(
    State(shared): State<Shared>,
    Extension(door): Extension<Door>,
    request: Request,
    next: Next,
) -> Response {
    if let Door::Network { peer, local, .. } = door {
        let address = neighbourhood(peer.ip());
        if let Err(refused) = shared.rates.address(address, runtime::now()) {
            return too_many(refused);
        }
        let snapshot = shared.snapshot.load();
        let fit = check_host(&request, local, snapshot.console_url.as_ref())
            .and_then(|host| check_origin(&request, &host, snapshot.console_url.as_ref()));
        if let Err(unfit) = fit {
            tracing::warn!(%peer, ?unfit, "a request to listen.console was refused");
            return unfit.into_response();
        }
    }
    match with_body(request).await {
        Ok(request) => next.run(request).await,
        Err(unfit) => unfit.into_response(),
    }
}

/// The host that a request names, if it is ours.
fn check_host(
    request: &Request,
    local: SocketAddr,
    url: Option<&ConsoleUrl>,
) -> Result<Authority, Unfit> {
    let named = one(request.headers(), &header::HOST)?.ok_or(Unfit::NoHost)?;
    let host: Authority = named.parse().map_err(|_| Unfit::NoHost)?;
    // The target of a request may name a host too; two that differ are a smuggler's.
    let agrees = |other: &Authority| *other == host;
    if !request.uri().authority().is_none_or(agrees) {
        return Err(Unfit::OtherHost);
    }
    if is_ours(host.host(), local, url) {
        Ok(host)
    } else {
        Err(Unfit::OtherHost)
    }
}

/// Whether a host is that of `console.url`, a loopback name, or the address that was connected to.
///
/// Ports do not matter: what is kept out are names that somebody else has pointed at our address.
fn is_ours(host: &str, local: SocketAddr, url: Option<&ConsoleUrl>) -> bool {
    if url.is_some_and(|url| url.host().eq_ignore_ascii_case(host)) {
        return true;
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => {
            let address = address.to_canonical();
            address.is_loopback() || address == local.ip().to_canonical()
        }
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Refuses a change that a page of another site asks for.
///
/// Programs send neither header. Spec: Fetch, "Origin header"; Fetch Metadata, "Sec-Fetch-Site".
fn check_origin(
    request: &Request,
    host: &Authority,
    url: Option<&ConsoleUrl>,
) -> Result<(), Unfit> {
    if is_safe(request.method()) {
        return Ok(());
    }
    let headers = request.headers();
    let site = HeaderName::from_static("sec-fetch-site");
    if let Some(site) = one(headers, &site).map_err(|_| Unfit::OtherOrigin)?
        && !matches!(site, "same-origin" | "none")
    {
        return Err(Unfit::OtherOrigin);
    }
    let Some(origin) = one(headers, &header::ORIGIN).map_err(|_| Unfit::OtherOrigin)? else {
        return Ok(());
    };
    // `null` is no URI with an authority, and so never ours.
    let named: Option<Authority> = origin
        .parse::<Uri>()
        .ok()
        .and_then(|origin| origin.authority().cloned());
    let is_same = named.is_some_and(|named| named == *host);
    if is_same || url.is_some_and(|url| url.origin().eq_ignore_ascii_case(origin)) {
        Ok(())
    } else {
        Err(Unfit::OtherOrigin)
    }
}

/// The value of a header that is there once; none if it is absent.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Unfit> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Unfit::NoHost),
        (Some(_), Some(_)) => Err(Unfit::NoHost),
    }
}

/// The request with its body whole.
async fn with_body(request: Request) -> Result<Request, Unfit> {
    let (parts, body) = request.into_parts();
    let arrived = tokio::time::timeout(BODY_DEADLINE, whole(body)).await;
    let bytes = arrived.map_err(|_| Unfit::BodyTooLate)??;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

async fn whole(mut body: Body) -> Result<Vec<u8>, Unfit> {
    let mut bytes = Vec::new();
    let mut arrived = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Unfit::BodyBroken)?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        arrived = arrived.saturating_add(piece.len());
        if arrived > THROWN_AWAY_MAX {
            break;
        }
        if arrived <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&piece);
        }
    }
    if arrived > BODY_BYTES_MAX {
        return Err(Unfit::BodyTooLong);
    }
    Ok(bytes)
}

/// Adds to every answer what a browser has to know.
pub(super) async fn head(
    Extension(door): Extension<Door>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    if let Door::Network { tls: true, .. } = door {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static(STRICT_TRANSPORT_SECURITY),
        );
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::*;

    fn request(method: Method, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method).uri("/v1/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    fn looked_at(method: Method, headers: &[(&str, &str)]) -> Result<(), Unfit> {
        let url = ConsoleUrl::parse("https://sallyport.example.com").unwrap();
        let local = "10.0.0.7:7070".parse().unwrap();
        let request = request(method, headers);
        let host = check_host(&request, local, Some(&url))?;
        check_origin(&request, &host, Some(&url))
    }

    #[test]
    fn names_that_others_point_at_us_are_not_our_host() {
        let ours = [
            "sallyport.example.com",
            "Sallyport.Example.com:443",
            "localhost:7070",
            "127.0.0.1:7070",
            "127.9.9.9",
            "[::1]:7070",
            "10.0.0.7",
            "[::ffff:10.0.0.7]:1",
        ];
        for host in ours {
            assert_eq!(looked_at(Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
        let others = [
            "evil.example",
            "localhost.evil.example",
            "sallyport.example.com.evil.example",
            "10.0.0.8",
            "0.0.0.0",
        ];
        for host in others {
            let found = looked_at(Method::GET, &[("host", host)]);
            assert_eq!(found, Err(Unfit::OtherHost), "{host}");
        }
        for none in [&[][..], &[("host", "")], &[("host", "a"), ("host", "a")]] {
            assert_eq!(looked_at(Method::GET, none), Err(Unfit::NoHost));
        }
    }

    #[test]
    fn a_target_that_names_another_host_is_refused() {
        let named = |uri: &str| {
            let mut request = request(Method::GET, &[("host", "localhost")]);
            *request.uri_mut() = uri.parse().unwrap();
            check_host(&request, "127.0.0.1:1".parse().unwrap(), None).map(drop)
        };
        assert_eq!(named("http://localhost/v1/status"), Ok(()));
        assert_eq!(
            named("http://evil.example/v1/status"),
            Err(Unfit::OtherHost)
        );
    }

    #[test]
    fn only_our_own_pages_and_programs_change_something() {
        let host = ("host", "localhost:7070");
        let passes: [&[(&str, &str)]; 5] = [
            &[],
            &[("origin", "http://localhost:7070")],
            &[("origin", "https://sallyport.example.com")],
            &[("sec-fetch-site", "same-origin")],
            &[
                ("sec-fetch-site", "none"),
                ("origin", "http://localhost:7070"),
            ],
        ];
        for headers in passes {
            let headers = [&[host], headers].concat();
            assert_eq!(looked_at(Method::POST, &headers), Ok(()), "{headers:?}");
        }
        let refused: [&[(&str, &str)]; 8] = [
            &[("origin", "null")],
            &[("origin", "")],
            &[("origin", "http://localhost:7071")],
            &[("origin", "http://evil.example")],
            &[("origin", "https://sallyport.example.com:444")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[
                ("origin", "http://localhost:7070"),
                ("origin", "http://evil.example"),
            ],
        ];
        for headers in refused {
            let headers = [&[host], headers].concat();
            let found = looked_at(Method::POST, &headers);
            assert_eq!(found, Err(Unfit::OtherOrigin), "{headers:?}");
            assert_eq!(looked_at(Method::GET, &headers), Ok(()), "{headers:?}");
        }
    }
}
