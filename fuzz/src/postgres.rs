//! The codecs of PostgreSQL: decoding stays within its input and does not depend on how it is cut.

use codecs::Limits;
use codecs::postgres::auth::{
    BearerClaim, ChannelBinding, SCRAM_NONCE_BYTES, ScramClient, ScramKeys,
    check_oauthbearer_dummy, decode_oauthbearer_initial, oauthbearer_failure,
};
use codecs::postgres::backend::BackendEvent;
use codecs::postgres::frontend::Target;
use codecs::postgres::pipeline::Fate;
use codecs::postgres::startup::{StartupPacket, decode_startup};
use codecs::postgres::{
    Backend, BackendDecoder, BackendPiece, BackendTag, Frontend, FrontendDecoder, FrontendPiece,
    Origin, Pipeline, Reply, Request, TransactionStatus,
};

/// Start-up packets: what decodes lies within the input, a shorter input decodes to the same or to
/// nothing, and the parameters can be walked.
pub fn startup(input: &[u8]) {
    let limits = Limits::default();
    let decoded = decode_startup(input, &limits);
    let Ok(Some(decoded)) = decoded else {
        return;
    };
    let length = decoded.wire.len();
    assert!(length > 0 && length <= input.len());
    assert_eq!(decode_startup(&input[..length], &limits), Ok(Some(decoded)));
    assert!(!matches!(
        decode_startup(&input[..length - 1], &limits),
        Ok(Some(_))
    ));
    match decoded.message {
        StartupPacket::Startup(startup) => {
            let parameters = startup.parameters().count();
            assert!(parameters <= limits.startup_parameters);
            for (name, value) in startup.parameters() {
                assert_eq!(startup.parameter(name), Some(value));
            }
            assert!(startup.extensions().count() <= limits.startup_parameters);
            assert!(startup.version.negotiated() <= startup.version);
        }
        StartupPacket::CancelRequest(cancel) => assert!(cancel.secret.len() <= length),
        StartupPacket::SslRequest | StartupPacket::GssEncRequest => {}
    }
}

/// A piece of a stream: its first byte, its length, and a digest of what was read out of it.
type Seen = Vec<(u8, usize, usize)>;

/// What a stream that arrives in two parts decodes to, and whether it ended in an error.
fn frontend_pieces(input: &[u8], cut: usize, limits: Limits, password_first: bool) -> (Seen, bool) {
    let mut decoder = FrontendDecoder::new(limits);
    if !password_first {
        decoder.authenticated();
    }
    let mut seen = Vec::new();
    let mut taken = 0;
    for end in [cut, input.len()] {
        loop {
            let piece = match decoder.decode(&input[taken..end]) {
                // Longer than any input here.
                Ok(Some(FrontendPiece::Announced(_))) | Err(_) => return (seen, true),
                Ok(Some(piece)) => piece,
                Ok(None) => break,
            };
            let length = piece.wire().len();
            assert!(length > 0 && length <= end - taken);
            let fields = match &piece {
                FrontendPiece::Message(decoded) => frontend_fields(&decoded.message),
                FrontendPiece::Announced(_) | FrontendPiece::Fragment(_) => 0,
            };
            seen.push((input[taken], length, fields));
            taken += length;
            // The first password of a login is its last message before the session.
            decoder.authenticated();
        }
    }
    (seen, false)
}

/// Reads everything that is read on demand, and says how much that was.
fn frontend_fields(message: &Frontend<'_>) -> usize {
    match message {
        Frontend::Parse(parse) => {
            assert_eq!(
                parse.parameter_types.iter().count(),
                parse.parameter_types.len()
            );
            parse.parameter_types.len()
        }
        Frontend::Bind(bind) => {
            assert_eq!(bind.values.iter().count(), bind.values.len());
            assert_eq!(bind.parameters().count(), bind.values.len());
            assert_eq!(
                bind.result_formats.iter().count(),
                bind.result_formats.len()
            );
            bind.values.len()
        }
        Frontend::FunctionCall(call) => {
            assert_eq!(call.arguments.iter().count(), call.arguments.len());
            call.arguments.len()
        }
        Frontend::Password(password) => {
            let text = password.text().map_or(0, <[u8]>::len);
            let initial = password.sasl_initial_response().ok();
            let response = initial.and_then(|initial| initial.response);
            assert!(text <= password.sasl_response().len());
            assert!(response.unwrap_or_default().len() <= password.sasl_response().len());
            text
        }
        Frontend::Query(query) => query.text.len(),
        Frontend::Describe(describe) => describe.name.len(),
        Frontend::Execute(execute) => execute.portal.len(),
        Frontend::Close(close) => close.name.len(),
        Frontend::CopyData(data) => data.len(),
        Frontend::CopyFail(fail) => fail.reason.len(),
        Frontend::Sync | Frontend::Flush | Frontend::CopyDone | Frontend::Terminate => 0,
    }
}

/// Limits under which nothing is streamed, so that pieces do not depend on the cut, or under which
/// what is longer than a few bytes is.
fn limits(streams: bool) -> Limits {
    Limits {
        stream_above_bytes: if streams { 8 } else { u32::MAX },
        ..Limits::default()
    }
}

/// A client's stream, in the phase and with the cut that the first two bytes say: the same messages
/// whether it comes at once or in two parts.
pub fn frontend(input: &[u8]) {
    let Some(([phase, cut], stream)) = input.split_first_chunk() else {
        return;
    };
    let cut = usize::from(*cut).min(stream.len());
    let password_first = phase & 1 == 1;
    if phase & 2 == 0 {
        let whole = frontend_pieces(stream, stream.len(), limits(false), password_first);
        assert_eq!(
            whole,
            frontend_pieces(stream, cut, limits(false), password_first)
        );
        return;
    }
    // Fragments: the same bytes in the same order, and the same end.
    let (whole, failed) = frontend_pieces(stream, stream.len(), limits(true), password_first);
    let (parts, fails) = frontend_pieces(stream, cut, limits(true), password_first);
    assert_eq!(failed, fails);
    assert_eq!(bytes_of(&whole), bytes_of(&parts));
}

fn bytes_of(seen: &Seen) -> usize {
    seen.iter().map(|(_, length, _)| length).sum()
}

fn backend_pieces(input: &[u8], cut: usize, limits: Limits) -> (Seen, bool) {
    let mut decoder = BackendDecoder::new(limits);
    let mut seen = Vec::new();
    let mut taken = 0;
    for end in [cut, input.len()] {
        loop {
            let piece = match decoder.decode(&input[taken..end]) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(_) => return (seen, true),
            };
            let length = piece.wire().len();
            assert!(length > 0 && length <= end - taken);
            let fields = match &piece {
                BackendPiece::Message(decoded) => backend_fields(&decoded.message, length),
                BackendPiece::Fragment(_) => 0,
            };
            seen.push((piece.tag().byte(), length, fields));
            taken += length;
        }
    }
    (seen, false)
}

fn backend_fields(message: &Backend<'_>, bytes: usize) -> usize {
    match message {
        Backend::DataRow(row) => row.values().map_or(0, |values| {
            assert_eq!(values.iter().count(), values.len());
            values.len()
        }),
        Backend::RowDescription(row) => {
            assert_eq!(row.iter().count(), row.len());
            row.len()
        }
        Backend::ErrorResponse(fields) | Backend::NoticeResponse(fields) => {
            let count = fields.iter().count();
            assert!(count <= bytes);
            for (code, _) in fields.iter() {
                assert!(fields.get(code).is_some());
            }
            count + usize::from(fields.is_fatal())
        }
        Backend::CommandComplete(complete) => complete.rows().is_some().into(),
        Backend::CopyInResponse(copy)
        | Backend::CopyOutResponse(copy)
        | Backend::CopyBothResponse(copy) => {
            assert_eq!(copy.columns.iter().count(), copy.columns.len());
            copy.columns.len()
        }
        _ => 0,
    }
}

/// A server's stream, with the mode and the cut that the first two bytes say.
pub fn backend(input: &[u8]) {
    let Some(([mode, cut], stream)) = input.split_first_chunk() else {
        return;
    };
    let cut = usize::from(*cut).min(stream.len());
    let streams = mode & 1 == 1;
    let (whole, failed) = backend_pieces(stream, stream.len(), limits(streams));
    let (parts, fails) = backend_pieces(stream, cut, limits(streams));
    assert_eq!(failed, fails);
    if streams {
        assert_eq!(bytes_of(&whole), bytes_of(&parts));
    } else {
        assert_eq!(whole, parts);
    }
}

/// Two messages of a server to a SCRAM client, and the first one of an OAUTHBEARER client; the first
/// byte says which, and where the second message begins.
pub fn sasl(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    if choice & 1 == 0 {
        bearer(rest);
        return;
    }
    // Few iterations, so that deriving keys does not eat the time.
    let limits = Limits {
        scram_iterations_min: 1,
        scram_iterations_max: 4,
        ..Limits::default()
    };
    let at = usize::from(choice >> 1).min(rest.len());
    let (first, last) = rest.split_at(at);
    let binding = match choice % 3 {
        0 => ChannelBinding::None,
        1 => ChannelBinding::NotOffered,
        _ => ChannelBinding::TlsServerEndPoint(b"hash"),
    };
    let client = ScramClient::new([0; SCRAM_NONCE_BYTES], binding);
    assert!(client.client_first().is_ascii());
    let Ok(challenge) = client.handle_server_first(first, &limits) else {
        return;
    };
    assert!(!challenge.salt().is_empty() && challenge.salt().len() <= first.len());
    assert!((1..=4).contains(&challenge.iterations().get()));
    let keys = ScramKeys::derive(b"pencil", challenge.salt(), challenge.iterations());
    let (awaited, answer) = challenge.answer(&keys);
    assert!(answer.starts_with("c=") && !answer.contains(",p=,"));
    // A proof of the server's that 44 characters of input hit by chance does not exist.
    assert!(awaited.handle_server_final(last).is_err());
}

fn bearer(input: &[u8]) {
    if let Ok(BearerClaim::Token(token)) = decode_oauthbearer_initial(input) {
        assert!(!token.is_empty() && token.is_ascii() && token.len() < input.len());
        assert!(!token.contains(&b' ') && !token.contains(&1));
    }
    assert_eq!(check_oauthbearer_dummy(input).is_ok(), input == [1]);
    if let Ok(text) = std::str::from_utf8(input) {
        let json = oauthbearer_failure(Some(text), None);
        assert!(!json.contains(|character: char| character < ' '));
    }
}

const REQUESTS: [Request; 14] = [
    Request::Query,
    Request::Parse,
    Request::Bind,
    Request::Describe(Target::Statement),
    Request::Describe(Target::Portal),
    Request::Execute,
    Request::Close,
    Request::Sync,
    Request::Flush,
    Request::FunctionCall,
    Request::CopyData,
    Request::CopyDone,
    Request::CopyFail,
    Request::Terminate,
];

const STATUSES: [TransactionStatus; 3] = [
    TransactionStatus::Idle,
    TransactionStatus::InTransaction,
    TransactionStatus::Failed,
];

/// What may answer a request, and what goes wrong with it.
fn plausible(request: Option<Request>, choice: usize) -> BackendEvent {
    use BackendTag as B;
    let tags: &[B] = match request {
        Some(Request::Query) => &[
            B::CommandComplete,
            B::RowDescription,
            B::DataRow,
            B::ReadyForQuery,
            B::CopyInResponse,
            B::CopyOutResponse,
            B::CopyBothResponse,
            B::CopyData,
            B::CopyDone,
            B::EmptyQueryResponse,
        ],
        Some(Request::Execute) => &[
            B::CommandComplete,
            B::DataRow,
            B::PortalSuspended,
            B::CopyInResponse,
            B::CopyOutResponse,
            B::CopyData,
            B::CopyDone,
            B::EmptyQueryResponse,
        ],
        Some(Request::Parse) => &[B::ParseComplete],
        Some(Request::Bind) => &[B::BindComplete],
        Some(Request::Close) => &[B::CloseComplete],
        Some(Request::Describe(_)) => &[B::ParameterDescription, B::RowDescription, B::NoData],
        Some(Request::FunctionCall) => &[B::FunctionCallResponse, B::ReadyForQuery],
        _ => &[B::ReadyForQuery],
    };
    match choice % 8 {
        6 => BackendEvent::Tagged(B::ErrorResponse),
        7 => BackendEvent::InterruptErrorResponse,
        _ => match tags[choice / 8 % tags.len()] {
            B::ReadyForQuery => BackendEvent::ReadyForQuery(STATUSES[choice % 3]),
            tag => BackendEvent::Tagged(tag),
        },
    }
}

/// Where a request stands, as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Open,
    Dropped,
    Discarded,
    Complete,
}

/// The pairing of replies and requests, fed with a sequence of both.
///
/// Whatever comes: a reply belongs to a request that is open, requests are answered in their order,
/// the queue is no longer than what was sent, and nothing is open when the pipeline says that it is
/// at rest.
pub fn pipeline(input: &[u8]) {
    let mut pipeline = Pipeline::new(TransactionStatus::Idle);
    let mut standing: Vec<Standing> = Vec::new();
    let mut sent: Vec<Request> = Vec::new();
    let mut newest_answered = 0;
    for byte in input {
        let choice = usize::from(byte >> 2);
        if byte & 1 == 0 {
            let request = REQUESTS[choice % REQUESTS.len()];
            let origin = match byte & 2 {
                0 => Origin::Client,
                _ => [Origin::Client, Origin::Hidden, Origin::Refused][choice / 14 % 3],
            };
            let tag = standing.len();
            let Ok(fate) = pipeline.handle_frontend(request, origin, tag) else {
                return;
            };
            sent.push(request);
            standing.push(match fate {
                Fate::Forward => Standing::Open,
                Fate::Drop => Standing::Dropped,
            });
        } else {
            let oldest = pipeline.oldest().map(|oldest| oldest.request);
            let event = match byte & 2 {
                0 => plausible(oldest, choice),
                _ => match choice {
                    0 => BackendEvent::FatalErrorResponse,
                    1..=3 => BackendEvent::ReadyForQuery(STATUSES[choice - 1]),
                    other => BackendEvent::Tagged(BackendTag::ALL[other % BackendTag::ALL.len()]),
                },
            };
            match pipeline.handle_backend(event) {
                Ok(Reply::Answer(answer)) => {
                    assert_eq!(standing[answer.tag], Standing::Open, "{answer:?}");
                    assert_eq!(sent[answer.tag], answer.request);
                    assert!(
                        answer.tag >= newest_answered,
                        "{answer:?} after {newest_answered}"
                    );
                    newest_answered = answer.tag;
                    if answer.completes_request {
                        standing[answer.tag] = Standing::Complete;
                    }
                }
                Ok(Reply::Asynchronous | Reply::Fatal(_)) => {}
                Err(_) => return,
            }
        }
        for discarded in pipeline.drain_discarded() {
            let standing = &mut standing[discarded.tag];
            // What is not even sent is among the discarded as well.
            assert!(
                matches!(*standing, Standing::Open | Standing::Dropped),
                "{discarded:?}"
            );
            *standing = Standing::Discarded;
        }
        check_rest(&pipeline, &sent, &standing);
    }
}

fn check_rest(pipeline: &Pipeline<usize>, sent: &[Request], standing: &[Standing]) {
    assert!(pipeline.len() <= sent.len());
    assert!(pipeline.pending().count() <= pipeline.len());
    if !pipeline.is_at_rest() {
        return;
    }
    assert!(pipeline.is_quiescent() && !pipeline.is_doubtful() && !pipeline.is_discarding());
    assert!(!pipeline.in_copy_in() && !pipeline.awaits_copy());
    for (request, standing) in sent.iter().zip(standing) {
        let has_reply = !matches!(
            request,
            Request::Flush
                | Request::CopyData
                | Request::CopyDone
                | Request::CopyFail
                | Request::Terminate
        );
        assert!(
            !has_reply || *standing != Standing::Open,
            "{request:?} is open at rest"
        );
    }
}
