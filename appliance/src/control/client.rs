//! The other end of the admin socket: how the command line asks the running appliance.

use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use super::api::{Refused, paths};
use super::recordings::{SessionLine, SessionsWanted, media_type};
use crate::config::Secret;
use crate::recorder::replay::ReplayForm;

/// How long the appliance may take to answer. A reload reads every file and compiles all rules.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// Longest answer that is held whole, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Asks the appliance that listens at one socket. Blocking.
pub struct AdminClient {
    socket: PathBuf,
    runtime: Runtime,
    /// Of the person who asks; without one it is the operator alone.
    token: Option<Secret>,
}

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
            socket: socket.to_owned(),
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

    /// `DELETE`, answered in JSON.
    ///
    /// # Errors
    /// As the variants say.
    pub fn delete<A: DeserializeOwned>(&self, path: &str) -> Result<A, AdminError> {
        self.ask(Method::DELETE, path, Bytes::new())
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
    ) -> Result<hyper::Response<hyper::body::Incoming>, AdminError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|e| self.not_connected(e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its errors reach the sender too.
        tokio::spawn(connection);
        let request = match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, bearer(token)?),
            None => request,
        };
        let request = request
            .header(header::HOST, "sallyport")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|_| AdminError::Answer)?;
        Ok(sender.send_request(request).await?)
    }

    fn not_connected(&self, source: io::Error) -> AdminError {
        let socket = self.socket.clone();
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
