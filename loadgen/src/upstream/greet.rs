//! From accept to the first ReadyForQuery: TLS, start-up, authentication.

use std::rc::Rc;
use std::time::{Duration, Instant};

use codecs::Limits;
use codecs::postgres::auth::SCRAM_SHA_256;
use codecs::postgres::backend::{
    Report, SqlState, encode_authentication_ok, encode_authentication_sasl,
    encode_authentication_sasl_continue, encode_authentication_sasl_final, encode_backend_key_data,
    encode_negotiate_protocol_version, encode_parameter_status, encode_ready_for_query,
};
use codecs::postgres::startup::{
    ENCRYPTION_ACCEPTED, ENCRYPTION_REFUSED, Startup, StartupPacket, decode_startup,
};
use codecs::postgres::{
    Frontend, FrontendDecoder, FrontendPiece, ProtocolVersion, TransactionStatus,
};
use runtime::transport::{Opening, Transport};
use runtime::{Stream, now};

use super::Shard;
use super::cancel::Key;
use super::outgoing::{Gone, Outgoing};
use super::scram::Secret;
use super::settings::Settings;

/// How long a client may take to log in, as PostgreSQL's `authentication_timeout`.
const LOGIN_DEADLINE: Duration = Duration::from_secs(60);

/// Requests for encryption before the start-up packet: one for TLS, one for GSSAPI.
const ENCRYPTION_REQUESTS_MAX: usize = 2;

const INVALID_PASSWORD: SqlState = SqlState::new(b"28P01");

/// Start-up parameters that are no settings.
const NO_SETTINGS: [&str; 4] = ["user", "database", "options", "replication"];

/// A client that is logged in.
pub(super) struct Greeted {
    pub(super) outgoing: Outgoing,
    pub(super) decoder: FrontendDecoder,
    /// What arrived behind the log-in.
    pub(super) unread: Vec<u8>,
    pub(super) key: Key,
    pub(super) settings: Settings,
    pub(super) user: String,
    pub(super) database: String,
}

/// `None` for a connection that asked for something else than a session, and got it.
pub(super) async fn greet(shard: &Rc<Shard>, stream: Stream) -> Result<Option<Greeted>, Gone> {
    let deadline = now() + LOGIN_DEADLINE;
    let limits = Limits::default();
    let mut transport = Transport::Plain(stream);
    let mut unread = Vec::new();
    let mut requests = 0;
    loop {
        let Some(decoded) = decode_startup(&unread, &limits).map_err(|_| Gone)? else {
            match transport.recv(deadline).await? {
                Some(chunk) => unread.extend_from_slice(&chunk),
                None => return Err(Gone),
            }
            continue;
        };
        let taken = decoded.wire.len();
        match decoded.message {
            StartupPacket::SslRequest | StartupPacket::GssEncRequest
                if requests >= ENCRYPTION_REQUESTS_MAX =>
            {
                return Err(Gone);
            }
            StartupPacket::SslRequest => {
                requests += 1;
                unread.drain(..taken);
                transport = encrypt(shard, transport, unread.len(), deadline).await?;
            }
            StartupPacket::GssEncRequest => {
                requests += 1;
                unread.drain(..taken);
                answer(&mut transport, ENCRYPTION_REFUSED, deadline).await?;
            }
            StartupPacket::CancelRequest(request) => {
                shard.cancels.ask(request.process_id, request.secret);
                return Ok(None);
            }
            StartupPacket::Startup(startup) => {
                let mut greeted = begin(shard, &startup, transport, deadline)?;
                greeted.unread = unread.split_off(taken);
                log_in(shard, &mut greeted, deadline).await?;
                return Ok(Some(greeted));
            }
        }
    }
}

async fn encrypt(
    shard: &Shard,
    mut transport: Transport,
    unread: usize,
    deadline: Instant,
) -> Result<Transport, Gone> {
    match (&shard.settings.tls, transport) {
        (Some(config), Transport::Plain(stream)) => {
            let mut plain = Transport::Plain(stream);
            answer(&mut plain, ENCRYPTION_ACCEPTED, deadline).await?;
            let Transport::Plain(stream) = plain else {
                return Err(Gone);
            };
            let opening = Opening::Requested { unread };
            Transport::accept_tls(stream, config.clone(), opening, deadline, async || ())
                .await
                .map_err(|_| Gone)
        }
        (_, unchanged) => {
            transport = unchanged;
            answer(&mut transport, ENCRYPTION_REFUSED, deadline).await?;
            Ok(transport)
        }
    }
}

async fn answer(transport: &mut Transport, byte: u8, deadline: Instant) -> Result<(), Gone> {
    transport.append(&[byte]);
    Ok(transport.flush(deadline).await?)
}

fn begin(
    shard: &Rc<Shard>,
    startup: &Startup<'_>,
    transport: Transport,
    deadline: Instant,
) -> Result<Greeted, Gone> {
    let user = startup.parameter("user").unwrap_or_default();
    let database = startup.parameter("database").unwrap_or(user);
    let mut settings = Settings::default();
    for (name, value) in startup.parameters() {
        if !NO_SETTINGS.contains(&name) {
            settings.start(name, value).map_err(|_| Gone)?;
        }
    }
    let mut outgoing = Outgoing::new(transport, deadline);
    if startup.needs_negotiation() {
        let unknown: Vec<&str> = startup.extensions().map(|(name, _)| name).collect();
        encode_negotiate_protocol_version(&mut outgoing.bytes, ProtocolVersion::V3_0, unknown)?;
    }
    Ok(Greeted {
        outgoing,
        decoder: FrontendDecoder::new(Limits::default()),
        unread: Vec::new(),
        key: shard.cancels.enter().ok_or(Gone)?,
        settings,
        user: user.to_owned(),
        database: database.to_owned(),
    })
}

async fn log_in(shard: &Shard, greeted: &mut Greeted, deadline: Instant) -> Result<(), Gone> {
    if let Some(secret) = &shard.settings.secret {
        authenticate(secret, greeted, deadline).await?;
    }
    greeted.decoder.authenticated();
    let out = &mut greeted.outgoing.bytes;
    encode_authentication_ok(out)?;
    for (name, value) in greeted.settings.all_reported() {
        encode_parameter_status(out, name.as_bytes(), value.as_bytes())?;
    }
    let user = greeted.user.as_bytes();
    encode_parameter_status(out, b"session_authorization", user)?;
    encode_parameter_status(out, b"is_superuser", b"off")?;
    encode_backend_key_data(out, greeted.key.process_id, greeted.key.secret())?;
    encode_ready_for_query(out, TransactionStatus::Idle)?;
    greeted.outgoing.flush().await
}

async fn authenticate(
    secret: &Secret,
    greeted: &mut Greeted,
    deadline: Instant,
) -> Result<(), Gone> {
    encode_authentication_sasl(&mut greeted.outgoing.bytes, &[SCRAM_SHA_256])?;
    let client_first = password(greeted, deadline, |password| {
        let first = password.sasl_initial_response().ok()?;
        let known = first.mechanism == SCRAM_SHA_256.as_bytes();
        first.response.filter(|_| known).map(<[u8]>::to_vec)
    })
    .await?;
    let Some(challenge) = secret.challenge(&client_first) else {
        return refuse(greeted).await;
    };
    encode_authentication_sasl_continue(
        &mut greeted.outgoing.bytes,
        challenge.server_first.as_bytes(),
    )?;
    let client_final = password(greeted, deadline, |password| {
        Some(password.sasl_response().to_vec())
    })
    .await?;
    match secret.verify(&challenge, &client_final) {
        Some(server_final) => {
            let out = &mut greeted.outgoing.bytes;
            Ok(encode_authentication_sasl_final(
                out,
                server_final.as_bytes(),
            )?)
        }
        None => refuse(greeted).await,
    }
}

async fn refuse(greeted: &mut Greeted) -> Result<(), Gone> {
    Report::fatal(INVALID_PASSWORD, "password authentication failed")
        .encode_error(&mut greeted.outgoing.bytes)?;
    greeted.outgoing.flush().await?;
    Err(Gone)
}

/// Sends what was gathered, and reads the client's answer to it.
async fn password(
    greeted: &mut Greeted,
    deadline: Instant,
    take: impl Fn(&codecs::postgres::frontend::Password<'_>) -> Option<Vec<u8>>,
) -> Result<Vec<u8>, Gone> {
    greeted.outgoing.flush().await?;
    loop {
        let decoded = greeted.decoder.decode(&greeted.unread).map_err(|_| Gone)?;
        if let Some(FrontendPiece::Message(decoded)) = decoded {
            let Frontend::Password(password) = decoded.message else {
                return Err(Gone);
            };
            let answer = take(&password).ok_or(Gone)?;
            let taken = decoded.wire.len();
            greeted.unread.drain(..taken);
            return Ok(answer);
        }
        match greeted.outgoing.recv(deadline).await? {
            Some(chunk) => greeted.unread.extend_from_slice(&chunk),
            None => return Err(Gone),
        }
    }
}
