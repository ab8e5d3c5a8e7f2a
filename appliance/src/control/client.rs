//! The other end of the admin socket: how the command line asks the running appliance.

use std::future::Future;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use super::api::{ApprovalsWanted, Refused, paths};
use super::checked::AccountChecked;
use super::recordings::{
    RefusedLoginLine, RefusedLoginsWanted, SessionLine, SessionsWanted, media_type,
};
use crate::approvals::Shown;
use crate::config::Secret;
use crate::recorder::replay::ReplayForm;

/// How long the appliance may take to answer. A reload reads every file and compiles all rules.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// Longest answer that is held whole, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Asks one appliance. Blocking.
pub struct AdminClient {
    place: Place,
    runtime: Runtime,
    /// Of the person who asks; without one it is the operator alone.
    token: Option<Secret>,
}

/// Where the appliance answers.
enum Place {
    Socket(PathBuf),
    Server {
        address: String,
        client: reqwest::Client,
    },
}

type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("no appliance answers at {}; is it running?", socket.display())]
    NotRunning { socket: PathBuf },
    #[error("no permission to use {}; run as root or as the user of the appliance",
        socket.display())]
    Permission { socket: PathBuf },
    #[error("cannot connect to {}", socket.display())]
    Connect { socket: PathBuf, source: io::Error },
    #[error("the appliance did not answer in {} s", ANSWER_DEADLINE.as_secs())]
    TimedOut,
    #[error("the connection to the appliance broke")]
    Broken(#[from] hyper::Error),
    #[error("the answer of the appliance is longer than {ANSWER_BYTES_MAX} bytes or broke off")]
    Answer,
    #[error("the answer of the appliance ({status}) is not understood; is it another version?")]
    NotUnderstood { status: StatusCode },
    #[error("{}", refused.error)]
    Refused {
        status: StatusCode,
        refused: Refused,
    },
    #[error("what was given as a token is none")]
    NotAToken,
    #[error("an address of an appliance begins with https:// (http:// on this machine alone)")]
    NotAnAddress,
    #[error("what was given as certificates is none")]
    NotCertificates,
    #[error("cannot ask the appliance at that address")]
    Remote(#[from] reqwest::Error),
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
    #[error("this process could not start a client")]
    Local(#[source] io::Error),
}

impl AdminClient {
    /// A client for the socket at that path; it connects with each question.
    ///
    /// # Errors
    /// This process has no resources for it.
    pub fn new(socket: &Path) -> Result<Self, AdminError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AdminError::Local)?;
        Ok(Self {
            place: Place::Socket(socket.to_owned()),
            runtime,
            token: None,
        })
    }

    /// A client for an appliance elsewhere, by the address of its console. It trusts the system's
    /// certificates and those in `roots`, as PEM.
    ///
    /// # Errors
    /// The address or the certificates are none, or this process has no resources.
    pub fn remote(server: &str, roots: &[u8]) -> Result<Self, AdminError> {
        let address = server.trim_end_matches('/');
        let url = reqwest::Url::parse(address).map_err(|_| AdminError::NotAnAddress)?;
        let local = url.host_str().is_some_and(|host| {
            let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        });
        // A token crosses only TLS or this machine.
        if url.scheme() != "https" && !(url.scheme() == "http" && local) {
            return Err(AdminError::NotAnAddress);
        }
        let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(roots).collect();
        let roots = roots.map_err(|_| AdminError::NotCertificates)?;
        let client = super::issuers::client(&roots).map_err(|_| AdminError::NotCertificates)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AdminError::Local)?;
        let address = address.to_owned();
        Ok(Self {
            place: Place::Server { address, client },
            runtime,
            token: None,
        })
    }

    /// The same, asking as the person whom `token` proves.
    #[must_use]
    pub fn with_token(mut self, token: Secret) -> Self {
        self.token = Some(token);
        self
    }

    /// `GET`, answered in JSON.
    ///
    /// # Errors
    /// As the variants say.
    pub fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, AdminError> {
        self.ask(Method::GET, path, Bytes::new())
    }

    /// `GET` of one thing by a name that a person typed, which takes the place of `{id}`.
    ///
    /// # Errors
    /// As the variants say.
    pub fn get_named<A: DeserializeOwned>(&self, path: &str, id: &str) -> Result<A, AdminError> {
        self.get(&path.replace("{id}", &percent_encoded(id)))
    }

    /// Requests for approval.
    ///
    /// # Errors
    /// As the variants say.
    pub fn approvals(&self, wanted: &ApprovalsWanted) -> Result<Vec<Shown>, AdminError> {
        let (open, limit) = (
            wanted.open.map(|open| open.to_string()),
            wanted.limit.map(|limit| limit.to_string()),
        );
        let conditions = [
            ("open", open.as_deref()),
            ("state", wanted.state.as_deref()),
            ("requester", wanted.requester.as_deref()),
            ("target", wanted.target.as_deref()),
            ("before", wanted.before.as_deref()),
            ("limit", limit.as_deref()),
        ];
        let query: Vec<String> = conditions
            .iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", percent_encoded((*value)?))))
            .collect();
        self.get(&format!("{}?{}", paths::APPROVALS, query.join("&")))
    }

    /// What happens to requests for approval: `on` gets the kind of each event and its JSON.
    ///
    /// # Errors
    /// The stream broke, the appliance is silent, or `on` says that it wants no more.
    pub fn follow_approvals(
        &self,
        on: &mut dyn FnMut(&str, &str) -> io::Result<()>,
    ) -> Result<(), AdminError> {
        self.runtime.block_on(async {
            let request = Request::get(paths::APPROVAL_EVENTS);
            let response = in_time(self.send(request, Bytes::new())).await?;
            let status = response.status();
            let mut body = response.into_body();
            if !status.is_success() {
                return Err(refusal(status, &collect(body).await?));
            }
            let mut events = EventStream::default();
            // The appliance says every few seconds that it is there.
            while let Some(frame) = in_time(async { Ok(body.frame().await) }).await? {
                if let Ok(piece) = frame.map_err(|_| AdminError::Answer)?.into_data() {
                    events.feed(&piece, on)?;
                }
            }
            Ok(())
        })
    }

    /// Recorded sessions.
    ///
    /// # Errors
    /// As the variants say.
    pub fn sessions(&self, wanted: &SessionsWanted) -> Result<Vec<SessionLine>, AdminError> {
        let limit = wanted.limit.map(|limit| limit.to_string());
        let conditions = [
            ("agent", wanted.agent.as_deref()),
            ("target", wanted.target.as_deref()),
            ("state", wanted.state.as_deref()),
            ("since", wanted.since.as_deref()),
            ("until", wanted.until.as_deref()),
            ("class", wanted.class.as_deref()),
            ("table", wanted.table.as_deref()),
            ("denied", wanted.denied.then_some("true")),
            ("held", wanted.held.then_some("true")),
            ("ended", wanted.ended.as_deref()),
            ("before", wanted.before.as_deref()),
            ("limit", limit.as_deref()),
        ];
        let query: Vec<String> = conditions
            .iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", percent_encoded((*value)?))))
            .collect();
        self.get(&format!("{}?{}", paths::SESSIONS, query.join("&")))
    }

    /// Refused logins.
    ///
    /// # Errors
    /// As the variants say.
    pub fn refused_logins(
        &self,
        wanted: &RefusedLoginsWanted,
    ) -> Result<Vec<RefusedLoginLine>, AdminError> {
        let limit = wanted.limit.map(|limit| limit.to_string());
        let conditions = [
            ("since", wanted.since.as_deref()),
            ("limit", limit.as_deref()),
        ];
        let query: Vec<String> = conditions
            .iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", percent_encoded((*value)?))))
            .collect();
        self.get(&format!("{}?{}", paths::REFUSED_LOGINS, query.join("&")))
    }

    /// `POST` of a JSON body, answered in JSON.
    ///
    /// # Errors
    /// As the variants say.
    pub fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<A, AdminError> {
        let body = serde_json::to_vec(body).map_err(|_| AdminError::Answer)?;
        self.ask(Method::POST, path, Bytes::from(body))
    }

    /// Logs in to a target with each of its accounts.
    ///
    /// # Errors
    /// As the variants say.
    pub fn check_target(&self, name: &str) -> Result<Vec<AccountChecked>, AdminError> {
        let path = paths::TARGET_CHECK.replace("{id}", &percent_encoded(name));
        self.post(&path, &())
    }

    /// `DELETE`, answered in JSON.
    ///
    /// # Errors
    /// As the variants say.
    pub fn delete<A: DeserializeOwned>(&self, path: &str) -> Result<A, AdminError> {
        self.ask(Method::DELETE, path, Bytes::new())
    }

    /// Removes a client of the built-in issuer.
    ///
    /// # Errors
    /// As the variants say.
    pub fn remove_token_client(&self, id: &str) -> Result<(), AdminError> {
        self.delete(&paths::TOKEN_CLIENT.replace("{id}", &percent_encoded(id)))
    }

    /// The replay of a session, copied to `out` as it arrives.
    ///
    /// # Errors
    /// As the variants say; what arrived before is in `out` then.
    pub fn replay(
        &self,
        id: &str,
        form: ReplayForm,
        out: &mut dyn Write,
    ) -> Result<(), AdminError> {
        let path = paths::EVENTS.replace("{id}", &percent_encoded(id));
        let accept = media_type(form);
        self.runtime.block_on(async {
            let request = Request::get(path).header(header::ACCEPT, accept);
            let response = in_time(self.send(request, Bytes::new())).await?;
            let status = response.status();
            let mut body = response.into_body();
            if !status.is_success() {
                return Err(refusal(status, &collect(body).await?));
            }
            while let Some(frame) = in_time(async { Ok(body.frame().await) }).await? {
                if let Ok(piece) = frame.map_err(|_| AdminError::Answer)?.into_data() {
                    out.write_all(&piece).map_err(AdminError::Output)?;
                }
            }
            Ok(())
        })
    }

    fn ask<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<A, AdminError> {
        let exchange = async {
            let request = Request::builder().method(method).uri(path);
            let response = self.send(request, body).await?;
            let status = response.status();
            let body = collect(response.into_body()).await?;
            if status.is_success() {
                serde_json::from_slice(&body).map_err(|_| AdminError::NotUnderstood { status })
            } else {
                Err(refusal(status, &body))
            }
        };
        self.runtime.block_on(in_time(exchange))
    }

    async fn send(
        &self,
        request: axum::http::request::Builder,
        body: Bytes,
    ) -> Result<hyper::Response<AnswerBody>, AdminError> {
        let request = match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, bearer(token)?),
            None => request,
        };
        let request = request
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|_| AdminError::Answer)?;
        match &self.place {
            Place::Socket(socket) => send_to_socket(socket, request).await,
            Place::Server { address, client } => send_to_server(address, client, request).await,
        }
    }
}

async fn send_to_socket(
    socket: &Path,
    request: Request<Bytes>,
) -> Result<hyper::Response<AnswerBody>, AdminError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| not_connected(socket, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors reach the sender too.
    tokio::spawn(connection);
    let mut request = request.map(Full::new);
    let host = HeaderValue::from_static("sallyport");
    request.headers_mut().insert(header::HOST, host);
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

async fn send_to_server(
    address: &str,
    client: &reqwest::Client,
    request: Request<Bytes>,
) -> Result<hyper::Response<AnswerBody>, AdminError> {
    let (parts, body) = request.into_parts();
    let url = format!("{address}{}", parts.uri);
    let sent = client
        .request(parts.method, url)
        .headers(parts.headers)
        .body(body);
    let response = sent.send().await.map_err(reqwest::Error::without_url)?;
    let response = hyper::Response::from(response);
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

fn not_connected(socket: &Path, source: io::Error) -> AdminError {
    let socket = socket.to_owned();
    let kind = source.kind();
    if matches!(
        kind,
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    ) {
        AdminError::NotRunning { socket }
    } else if kind == io::ErrorKind::PermissionDenied {
        AdminError::Permission { socket }
    } else {
        AdminError::Connect { socket, source }
    }
}

/// Server-sent events, cut into lines as they come. Spec: HTML, "Server-sent events".
#[derive(Default)]
struct EventStream {
    line: Vec<u8>,
    kind: String,
    data: String,
}

impl EventStream {
    fn feed(
        &mut self,
        bytes: &[u8],
        on: &mut dyn FnMut(&str, &str) -> io::Result<()>,
    ) -> Result<(), AdminError> {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > ANSWER_BYTES_MAX {
                    return Err(AdminError::Answer);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = std::str::from_utf8(&line).map_err(|_| AdminError::Answer)?;
            match line.split_once(": ") {
                Some(("event", kind)) => kind.clone_into(&mut self.kind),
                Some(("data", data)) => data.clone_into(&mut self.data),
                None if line.is_empty() && !self.kind.is_empty() => {
                    on(&self.kind, &self.data).map_err(AdminError::Output)?;
                    self.kind.clear();
                    self.data.clear();
                }
                // A sign of life.
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

/// The header's value; nothing prints it.
fn bearer(token: &Secret) -> Result<HeaderValue, AdminError> {
    let text = [b"Bearer ", token.expose().trim_ascii()].concat();
    let mut value = HeaderValue::from_bytes(&text).map_err(|_| AdminError::NotAToken)?;
    value.set_sensitive(true);
    Ok(value)
}

async fn in_time<T>(answer: impl Future<Output = Result<T, AdminError>>) -> Result<T, AdminError> {
    tokio::time::timeout(ANSWER_DEADLINE, answer)
        .await
        .unwrap_or(Err(AdminError::TimedOut))
}

/// A text as part of a path or query: everything but unreserved characters is written out.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

async fn collect<B>(body: B) -> Result<Bytes, AdminError>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    Ok(body.map_err(|_| AdminError::Answer)?.to_bytes())
}

fn refusal(status: StatusCode, body: &[u8]) -> AdminError {
    match serde_json::from_slice(body) {
        Ok(refused) => AdminError::Refused { status, refused },
        Err(_) => AdminError::NotUnderstood { status },
    }
}
