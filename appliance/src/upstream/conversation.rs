//! The appliance's own exchanges with a server: log-in, attribution, reset.
//!
//! Not on the hot path: once a connection is leased, the relay reads and writes its transport.
//!
//! What may come at any time (notices, notifications, changed parameters) is dealt with here, an
//! ErrorResponse ends the exchange, and everything is bounded, since the server may be hostile.

use std::io;
use std::ops::ControlFlow;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use codecs::Limits;
use codecs::postgres::backend::ParameterStatus;
use codecs::postgres::{Backend, BackendDecoder, BackendPiece, TransactionStatus};

use runtime::{now, yield_if_needed};

use super::error::{Phase, UpstreamError, Violation};
use runtime::transport::Transport;

/// Messages of one exchange. A log-in has some twenty; an event trigger may add notices.
const EXCHANGE_MESSAGES_MAX: usize = 1000;

/// Longest message in an exchange: an error or notice, which nobody reads here.
const MESSAGE_BYTES_MAX: u32 = 64 * 1024;

/// The message Terminate: tag, and a length that counts only itself.
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// Settings that a server reports. PostgreSQL 18 has 16 of them.
const PARAMETERS_MAX: usize = 64;

/// A server connection while the appliance itself speaks on it.
pub(super) struct Conversation {
    pub(super) transport: Transport,
    decoder: BackendDecoder,
    /// Messages of one exchange.
    messages_max: usize,
    /// What arrived and was not decoded yet: less than a message, except inside `read`.
    unread: Vec<u8>,
    parameters: Parameters,
    goodbye: Goodbye,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    Unsaid,
    Said,
}

/// What the server reported of its settings, as bytes in `client_encoding`. Per connection.
#[derive(Debug, Clone, Default)]
pub struct Parameters(Vec<Parameter>);

#[derive(Debug, Clone)]
struct Parameter {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// One exchange: what it is for, and until when.
#[derive(Clone, Copy)]
pub(super) struct Exchange {
    pub(super) phase: Phase,
    pub(super) deadline: Instant,
}

impl Conversation {
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            transport,
            decoder: decoder(MESSAGE_BYTES_MAX),
            messages_max: EXCHANGE_MESSAGES_MAX,
            unread: Vec::new(),
            parameters: Parameters::default(),
            goodbye: Goodbye::Unsaid,
        }
    }

    /// From here on exchanges may have so many messages of such a length: answers with rows.
    pub(super) fn expect_rows(&mut self, message_bytes: u32, messages: usize) {
        self.decoder = decoder(message_bytes);
        self.messages_max = messages;
    }

    /// Ends the session, and waits for the server to have ended it.
    pub(super) async fn close(mut self, deadline: Instant) {
        self.say_goodbye();
        if self.transport.flush(deadline).await.is_ok() {
            // Whatever else it has to say, nobody is left to hear it.
            while let Ok(Some(_)) = self.transport.recv(deadline).await {}
        }
    }

    /// Closes the connection without a goodbye: what is queued does not leave any more.
    pub(super) fn break_off(mut self) {
        self.goodbye = Goodbye::Said;
    }

    /// Whether the server has ended the session by then. Whatever it says is not listened to.
    pub(super) async fn has_ended(&mut self, until: Instant) -> bool {
        let is_timeout = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
        if let Err(error) = self.transport.flush(until).await {
            return !is_timeout(&error);
        }
        while now() < until {
            match self.transport.recv(until).await {
                Ok(Some(_)) => yield_if_needed().await,
                Ok(None) => return true,
                Err(error) => return !is_timeout(&error),
            }
        }
        false
    }

    pub(super) fn say_goodbye(&mut self) {
        if self.goodbye == Goodbye::Unsaid {
            self.goodbye = Goodbye::Said;
            self.transport.append(&TERMINATE);
            self.transport.close_send();
        }
    }

    pub(super) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub(super) fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    pub(super) async fn send(
        &mut self,
        exchange: Exchange,
        message: &[u8],
    ) -> Result<(), UpstreamError> {
        self.transport.append(message);
        self.transport
            .flush(exchange.deadline)
            .await
            .map_err(|error| UpstreamError::from_io(exchange.phase, &error))
    }

    /// Shows `handle` each message until it breaks with a value.
    ///
    /// # Errors
    /// What `handle` says, `Refused` for an ErrorResponse, and whatever ends the connection.
    pub(super) async fn read<T>(
        &mut self,
        exchange: Exchange,
        mut handle: impl FnMut(Backend<'_>) -> Result<ControlFlow<T>, UpstreamError>,
    ) -> Result<T, UpstreamError> {
        let mut messages_left = self.messages_max;
        loop {
            if let Some(value) = self.decode(exchange.phase, &mut messages_left, &mut handle)? {
                return Ok(value);
            }
            match self.transport.recv(exchange.deadline).await {
                Ok(Some(chunk)) => self.unread.extend_from_slice(&chunk),
                Ok(None) => {
                    return Err(UpstreamError::Lost {
                        phase: exchange.phase,
                    });
                }
                Err(error) => return Err(UpstreamError::from_io(exchange.phase, &error)),
            }
        }
    }

    /// Sends a simple Query and reads to the ReadyForQuery that answers it.
    ///
    /// # Errors
    /// As [`read`](Self::read); also unless exactly `completions` statements completed and the
    /// session is left outside a transaction.
    pub(super) async fn query(
        &mut self,
        exchange: Exchange,
        sql: &str,
        completions: usize,
    ) -> Result<(), UpstreamError> {
        let mut message = Vec::new();
        let out_of_sequence = UpstreamError::protocol(exchange.phase, Violation::OutOfSequence);
        codecs::postgres::frontend::encode_query(&mut message, sql.as_bytes())
            .map_err(|_| UpstreamError::protocol(exchange.phase, Violation::TooLong))?;
        self.send(exchange, &message).await?;
        let mut completed = 0;
        self.read(exchange, |message| {
            if let Backend::CommandComplete(_) = message {
                completed += 1;
                return Ok(ControlFlow::Continue(()));
            }
            let ready = message == Backend::ReadyForQuery(TransactionStatus::Idle);
            if ready && completed == completions {
                return Ok(ControlFlow::Break(()));
            }
            Err(out_of_sequence.clone())
        })
        .await?;
        self.settle(exchange).await
    }

    /// Reads on while a message has arrived in part, so that whoever takes over the transport
    /// starts at the beginning of one.
    pub(super) async fn settle(&mut self, exchange: Exchange) -> Result<(), UpstreamError> {
        let mut messages_left = self.messages_max;
        loop {
            let unasked = UpstreamError::protocol(exchange.phase, Violation::OutOfSequence);
            self.decode::<()>(exchange.phase, &mut messages_left, &mut |_| {
                Err(unasked.clone())
            })?;
            if self.unread.is_empty() {
                return Ok(());
            }
            match self.transport.recv(exchange.deadline).await {
                Ok(Some(chunk)) => self.unread.extend_from_slice(&chunk),
                Ok(None) => {
                    return Err(UpstreamError::Lost {
                        phase: exchange.phase,
                    });
                }
                Err(error) => return Err(UpstreamError::from_io(exchange.phase, &error)),
            }
        }
    }

    /// Looks at a connection that nobody uses: what has arrived on it, or that it ended. The
    /// context's task is woken when there is something to look at again.
    ///
    /// # Errors
    /// When the connection cannot be used any more.
    pub(super) fn check_idle(
        &mut self,
        phase: Phase,
        cx: &mut Context<'_>,
    ) -> Result<(), UpstreamError> {
        let mut messages_left = self.messages_max;
        let unasked = UpstreamError::protocol(phase, Violation::OutOfSequence);
        loop {
            match self.transport.poll_recv(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(Some(chunk))) => {
                    self.unread.extend_from_slice(&chunk);
                    self.decode::<()>(phase, &mut messages_left, &mut |_| Err(unasked.clone()))?;
                }
                Poll::Ready(Ok(None)) => return Err(UpstreamError::Lost { phase }),
                Poll::Ready(Err(error)) => return Err(UpstreamError::from_io(phase, &error)),
            }
        }
    }

    /// Decodes what is there; `None` when more has to arrive.
    fn decode<T>(
        &mut self,
        phase: Phase,
        messages_left: &mut usize,
        handle: &mut dyn FnMut(Backend<'_>) -> Result<ControlFlow<T>, UpstreamError>,
    ) -> Result<Option<T>, UpstreamError> {
        let mut taken = 0;
        let mut value = None;
        while value.is_none() {
            let input = self.unread.get(taken..).unwrap_or_default();
            let piece = self
                .decoder
                .decode(input)
                .map_err(|error| UpstreamError::from_decode(phase, &error))?;
            let Some(piece) = piece else { break };
            let BackendPiece::Message(decoded) = piece else {
                return Err(UpstreamError::protocol(phase, Violation::TooLong));
            };
            taken += decoded.wire.len();
            *messages_left = messages_left
                .checked_sub(1)
                .ok_or_else(|| UpstreamError::protocol(phase, Violation::TooManyMessages))?;
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "all others are the exchange's own"
            )]
            match decoded.message {
                Backend::NoticeResponse(_) | Backend::NotificationResponse(_) => {}
                Backend::ParameterStatus(status) => self
                    .parameters
                    .set(&status)
                    .ok_or_else(|| UpstreamError::protocol(phase, Violation::TooManyMessages))?,
                Backend::ErrorResponse(fields) => {
                    return Err(UpstreamError::from_response(phase, &fields));
                }
                message => {
                    if let ControlFlow::Break(broke) = handle(message)? {
                        value = Some(broke);
                    }
                }
            }
        }
        self.unread.drain(..taken);
        if self.unread.is_empty() {
            // An idle connection holds no buffer.
            self.unread = Vec::new();
        }
        Ok(value)
    }
}

fn decoder(message_bytes: u32) -> BackendDecoder {
    BackendDecoder::new(Limits {
        backend_message_bytes: message_bytes,
        stream_above_bytes: message_bytes,
        ..Limits::default()
    })
}

impl Drop for Conversation {
    /// Says goodbye if that needs no waiting: the server would otherwise log a lost connection.
    fn drop(&mut self) {
        if self.goodbye == Goodbye::Unsaid {
            self.say_goodbye();
            let mut cx = Context::from_waker(Waker::noop());
            // What cannot be sent now is not missed: the connection ends all the same.
            let _ = self.transport.poll_flush(&mut cx);
        }
    }
}

impl Parameters {
    /// Names and values in the order of their first report.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0
            .iter()
            .map(|parameter| (&*parameter.name, &*parameter.value))
    }

    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|(known, _)| *known == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// `None` when the server reports more settings than any PostgreSQL has.
    pub(super) fn set(&mut self, status: &ParameterStatus<'_>) -> Option<()> {
        let known = self.0.len();
        match self
            .0
            .iter_mut()
            .find(|parameter| *parameter.name == *status.name)
        {
            Some(parameter) => parameter.value = status.value.into(),
            None if known < PARAMETERS_MAX => {
                self.0.push(Parameter {
                    name: status.name.into(),
                    value: status.value.into(),
                });
            }
            None => return None,
        }
        Some(())
    }
}
