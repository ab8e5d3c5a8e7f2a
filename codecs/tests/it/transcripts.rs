//! What real clients and servers said to each other decodes and pairs as expected, wherever the
//! stream is cut.
//!
//! `tests/data/record/README.md` says how transcripts and expectations came to be.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use codecs::Limits;
use codecs::postgres::backend::{Authentication, Column, ErrorFields, Rows, field};
use codecs::postgres::frontend::{Format, Formats, Oids, Target, Values};
use codecs::postgres::pipeline::Fate;
use codecs::postgres::startup::{
    ENCRYPTION_ACCEPTED, ENCRYPTION_REFUSED, StartupPacket, decode_startup,
};
use codecs::postgres::{
    Backend, BackendDecoder, BackendPiece, BackendTag, Frontend, FrontendDecoder, FrontendPiece,
    Origin, Pipeline, Reply, Request, SequenceError,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Client,
    Server,
}

struct Transcript {
    name: String,
    pairs: bool,
    chunks: Vec<(Side, Vec<u8>)>,
    expected: Vec<String>,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/postgres")
}

fn read(path: &Path) -> Transcript {
    let text = fs::read_to_string(path).unwrap();
    let mut pairs = None;
    let mut chunks = Vec::new();
    for line in text.lines() {
        let (mark, rest) = line.split_once(' ').unwrap();
        match mark {
            "#" => {
                if let Some(value) = rest.strip_prefix("pairs: ") {
                    pairs = Some(value == "yes");
                }
            }
            ">" => chunks.push((Side::Client, unhex(rest))),
            "<" => chunks.push((Side::Server, unhex(rest))),
            other => panic!("{other} in {path:?}"),
        }
    }
    let expected = fs::read_to_string(path.with_extension("expected")).unwrap();
    Transcript {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        pairs: pairs.unwrap(),
        chunks,
        expected: expected.lines().map(str::to_owned).collect(),
    }
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn transcripts() -> Vec<Transcript> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn transcript(name: &str) -> Transcript {
    read(&directory().join(name).with_extension("txt"))
}

/// One connection, seen from the middle.
struct Replay {
    limits: Limits,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    started: bool,
    encryption_asked: bool,
    ready: bool,
    frontend: FrontendDecoder,
    backend: BackendDecoder,
    /// What has come of a message that is not held.
    streamed: Vec<u8>,
    streamed_from_client: Vec<u8>,
    authentication: String,
    number: u32,
    pipeline: Option<Pipeline<u32>>,
    /// From the first message on that waits for a COPY to begin.
    held: VecDeque<(Request, u32)>,
    outcome: Result<(), SequenceError>,
    lines: Vec<String>,
}

impl Replay {
    fn new(limits: Limits, pairs: bool) -> Self {
        Self {
            limits,
            from_client: Vec::new(),
            from_server: Vec::new(),
            started: false,
            encryption_asked: false,
            ready: false,
            frontend: FrontendDecoder::new(limits),
            backend: BackendDecoder::new(limits),
            streamed: Vec::new(),
            streamed_from_client: Vec::new(),
            authentication: String::new(),
            number: 0,
            pipeline: pairs.then(|| Pipeline::new(codecs::postgres::TransactionStatus::Idle)),
            held: VecDeque::new(),
            outcome: Ok(()),
            lines: Vec::new(),
        }
    }

    fn feed(&mut self, side: Side, bytes: &[u8]) {
        match side {
            Side::Client => {
                self.from_client.extend_from_slice(bytes);
                while self.outcome.is_ok() && self.take_from_client() {}
            }
            Side::Server => {
                self.from_server.extend_from_slice(bytes);
                while self.outcome.is_ok() && self.take_from_server() {}
            }
        }
    }

    fn take_from_client(&mut self) -> bool {
        let input = std::mem::take(&mut self.from_client);
        let taken = if self.started {
            self.message(&input)
        } else {
            self.startup(&input)
        };
        self.from_client = input[taken..].to_vec();
        taken > 0
    }

    fn startup(&mut self, input: &[u8]) -> usize {
        let Some(decoded) = decode_startup(input, &self.limits).unwrap() else {
            return 0;
        };
        let line = match decoded.message {
            StartupPacket::SslRequest => "SSLRequest".to_owned(),
            StartupPacket::GssEncRequest => "GSSENCRequest".to_owned(),
            StartupPacket::CancelRequest(request) => {
                format!("CancelRequest {} bytes", request.secret.len())
            }
            StartupPacket::Startup(startup) => {
                self.started = true;
                let version = startup.version;
                let mut line = format!("StartupMessage {}.{}", version.major, version.minor);
                for (name, value) in startup.parameters() {
                    write!(line, " {name}={}", quote(value.as_bytes())).unwrap();
                }
                line
            }
        };
        self.encryption_asked = line == "SSLRequest" || line == "GSSENCRequest";
        self.lines.push(format!("> {line}"));
        decoded.wire.len()
    }

    fn message(&mut self, input: &[u8]) -> usize {
        let Some(piece) = self.frontend.decode(input).unwrap() else {
            return 0;
        };
        let taken = piece.wire().len();
        match piece {
            FrontendPiece::Message(decoded) => self.request(&decoded.message),
            FrontendPiece::Announced(_) => panic!("nobody asked for it"),
            FrontendPiece::Fragment(fragment) => {
                self.streamed_from_client
                    .extend_from_slice(fragment.payload);
                if fragment.last {
                    let data = std::mem::take(&mut self.streamed_from_client);
                    assert_eq!(data.len(), usize::try_from(fragment.total_bytes).unwrap());
                    self.request(&Frontend::CopyData(&data));
                }
            }
        }
        taken
    }

    fn request(&mut self, message: &Frontend<'_>) {
        let line = self.describe_frontend(message);
        if !self.ready {
            self.lines.push(format!("> {line}"));
            return;
        }
        self.number += 1;
        self.lines.push(format!("> {} {line}", self.number));
        self.held
            .push_back((message.request().unwrap(), self.number));
        self.send();
    }

    /// Tells the pipeline what need not wait.
    fn send(&mut self) {
        let Some(pipeline) = &mut self.pipeline else {
            self.held.clear();
            return;
        };
        while let Some((request, number)) = self.held.front().copied() {
            let copies = matches!(
                request,
                Request::CopyData | Request::CopyDone | Request::CopyFail
            );
            if copies && pipeline.awaits_copy() {
                return;
            }
            self.held.pop_front();
            if let Err(error) = pipeline.handle_frontend(request, Origin::Client, number) {
                self.outcome = Err(error);
            }
            pipeline.drain_discarded().for_each(drop);
        }
    }

    fn take_from_server(&mut self) -> bool {
        let input = std::mem::take(&mut self.from_server);
        let taken = if self.encryption_asked {
            self.answer(&input)
        } else {
            self.reply(&input)
        };
        self.from_server = input[taken..].to_vec();
        taken > 0
    }

    fn answer(&mut self, input: &[u8]) -> usize {
        let Some(answer) = input.first() else {
            return 0;
        };
        assert!([ENCRYPTION_ACCEPTED, ENCRYPTION_REFUSED].contains(answer));
        self.encryption_asked = false;
        self.lines.push(format!("< {}", char::from(*answer)));
        1
    }

    fn reply(&mut self, input: &[u8]) -> usize {
        if self.streamed.is_empty() {
            check_whole_rows(self.limits, input);
        }
        let Some(piece) = self.backend.decode(input).unwrap() else {
            return 0;
        };
        let taken = piece.wire().len();
        match piece {
            BackendPiece::Message(decoded) => self.backend_message(&decoded.message),
            BackendPiece::Fragment(fragment) => {
                self.streamed.extend_from_slice(fragment.wire);
                if fragment.last {
                    let wire = std::mem::take(&mut self.streamed);
                    let limits = Limits::default();
                    let piece = BackendDecoder::new(limits).decode(&wire).unwrap().unwrap();
                    let BackendPiece::Message(decoded) = piece else {
                        panic!("not held")
                    };
                    assert_eq!(decoded.wire.len(), wire.len());
                    self.backend_message(&decoded.message);
                }
            }
        }
        taken
    }

    fn backend_message(&mut self, message: &Backend<'_>) {
        let mut line = describe_backend(message);
        if let Backend::Authentication(authentication) = message {
            self.authentication = line.split(' ').next().unwrap().to_owned();
            if *authentication == Authentication::Ok {
                self.frontend.authenticated();
            }
        }
        if self.ready
            && let Some(pipeline) = &mut self.pipeline
        {
            match pipeline.handle_backend(message.event()) {
                Ok(Reply::Answer(answer)) => write!(line, " [{}]", answer.tag).unwrap(),
                Ok(Reply::Fatal(_)) => line.push_str(" fatal"),
                Ok(Reply::Asynchronous) => {}
                Err(error) => {
                    self.outcome = Err(error);
                    return;
                }
            }
            pipeline.drain_discarded().for_each(drop);
        }
        self.send();
        self.ready |= matches!(message, Backend::ReadyForQuery(_));
        self.lines.push(format!("< {line}"));
    }

    fn describe_frontend(&self, message: &Frontend<'_>) -> String {
        match message {
            Frontend::Query(query) => format!("Query {}", quote(query.text)),
            Frontend::Parse(parse) => format!(
                "Parse {} {} {}",
                quote(parse.statement),
                quote(parse.text),
                oids(parse.parameter_types)
            ),
            Frontend::Bind(bind) => format!(
                "Bind {} {} {}{} {}",
                quote(bind.portal),
                quote(bind.statement),
                formats(bind.formats),
                values(bind.values),
                formats(bind.result_formats)
            ),
            Frontend::Describe(describe) => {
                format!(
                    "Describe {} {}",
                    target(describe.target),
                    quote(describe.name)
                )
            }
            Frontend::Close(close) => {
                format!("Close {} {}", target(close.target), quote(close.name))
            }
            Frontend::Execute(execute) => {
                format!("Execute {} {}", quote(execute.portal), execute.row_limit)
            }
            Frontend::FunctionCall(call) => format!(
                "FunctionCall {} {}{} {}",
                call.function,
                formats(call.formats),
                values(call.arguments),
                format_letter(call.result_format)
            ),
            Frontend::Sync => "Sync".into(),
            Frontend::Flush => "Flush".into(),
            Frontend::CopyData(data) => format!("CopyData {}", value(Some(data))),
            Frontend::CopyDone => "CopyDone".into(),
            Frontend::CopyFail(fail) => format!("CopyFail {}", quote(fail.reason)),
            Frontend::Terminate => "Terminate".into(),
            Frontend::Password(password) => {
                let bytes = password.sasl_response().len();
                format!("Password {bytes} bytes for {}", self.authentication)
            }
        }
    }
}

fn describe_backend(message: &Backend<'_>) -> String {
    let name = message.tag().name();
    match message {
        Backend::Authentication(authentication) => match authentication {
            Authentication::Sasl(mechanisms) => {
                let names: Vec<_> = mechanisms
                    .iter()
                    .map(|name| String::from_utf8_lossy(name))
                    .collect();
                format!("{authentication:?} {}", names.join(","))
            }
            Authentication::Ok
            | Authentication::CleartextPassword
            | Authentication::Md5Password { .. }
            | Authentication::SaslContinue(_)
            | Authentication::SaslFinal(_)
            | Authentication::Unsupported { .. } => format!("{authentication:?}"),
        },
        Backend::BackendKeyData(key) => format!("{name} {} bytes", key.secret.len()),
        Backend::CommandComplete(complete) => format!("{name} {}", quote(complete.tag)),
        Backend::CopyBothResponse(copy)
        | Backend::CopyInResponse(copy)
        | Backend::CopyOutResponse(copy) => {
            format!(
                "{name} {} {}",
                format_letter(copy.format),
                formats(copy.columns)
            )
        }
        Backend::CopyData(data) => format!("{name} {}", value(Some(data))),
        Backend::DataRow(row) => format!("{name}{}", values(row.values().unwrap())),
        Backend::ErrorResponse(fields) | Backend::NoticeResponse(fields) => report(name, fields),
        Backend::FunctionCallResponse(result) => format!("{name} {}", value(*result)),
        Backend::NegotiateProtocolVersion(negotiate) => {
            let mut line = format!(
                "{name} {}.{}",
                negotiate.newest.major, negotiate.newest.minor
            );
            for extension in negotiate.unknown_extensions() {
                write!(line, " {}", String::from_utf8_lossy(extension)).unwrap();
            }
            line
        }
        Backend::NotificationResponse(notification) => format!(
            "{name} {} {}",
            quote(notification.channel),
            quote(notification.payload)
        ),
        Backend::ParameterDescription(types) => format!("{name} {}", oids(*types)),
        Backend::ParameterStatus(status) => {
            format!("{name} {} {}", quote(status.name), quote(status.value))
        }
        Backend::ReadyForQuery(status) => format!("{name} {}", char::from(status.byte())),
        Backend::RowDescription(columns) => columns.iter().fold(name.to_owned(), |line, column| {
            line + " " + &describe(column)
        }),
        Backend::BindComplete
        | Backend::CloseComplete
        | Backend::CopyDone
        | Backend::EmptyQueryResponse
        | Backend::NoData
        | Backend::ParseComplete
        | Backend::PortalSuspended => name.to_owned(),
    }
}

fn describe(column: Column<'_>) -> String {
    let Column {
        name,
        table,
        attribute,
        type_oid,
        type_size,
        type_modifier,
        format,
    } = column;
    let format = format_letter(format);
    let name = quote(name);
    format!("{name}:{table}.{attribute}:{type_oid}:{type_size}:{type_modifier}:{format}")
}

fn report(name: &str, fields: &ErrorFields<'_>) -> String {
    let text = |code| String::from_utf8_lossy(fields.get(code).unwrap()).into_owned();
    format!(
        "{name} {} {} {}",
        text(field::SEVERITY_NONLOCALIZED),
        text(field::SQLSTATE),
        quote(fields.message().unwrap())
    )
}

fn quote(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn value(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".into(),
        Some(bytes) if bytes.len() <= 40 => quote(bytes),
        Some(bytes) => format!("{} bytes", bytes.len()),
    }
}

fn values(values: Values<'_>) -> String {
    values
        .iter()
        .fold(String::new(), |line, item| line + " " + &value(item))
}

fn oids(oids: Oids<'_>) -> String {
    let list: Vec<String> = oids.iter().map(|oid| oid.to_string()).collect();
    if list.is_empty() {
        "-".into()
    } else {
        list.join(",")
    }
}

fn format_letter(format: Format) -> char {
    match format {
        Format::Text => 't',
        Format::Binary => 'b',
    }
}

fn formats(formats: Formats<'_>) -> String {
    if formats.is_empty() {
        "-".into()
    } else {
        formats.iter().map(format_letter).collect()
    }
}

fn target(target: Target) -> &'static str {
    match target {
        Target::Statement => "statement",
        Target::Portal => "portal",
    }
}

fn replay(transcript: &Transcript, limits: Limits, cut: usize) -> Replay {
    let mut replay = Replay::new(limits, transcript.pairs);
    for (side, bytes) in &transcript.chunks {
        for part in bytes.chunks(cut) {
            replay.feed(*side, part);
        }
    }
    replay
}

fn check(transcript: &Transcript, limits: Limits, cut: usize) {
    let Transcript { name, .. } = transcript;
    let replay = replay(transcript, limits, cut);
    for (found, expected) in replay.lines.iter().zip(&transcript.expected) {
        assert_eq!(found, expected, "{name} in pieces of {cut}");
    }
    assert_eq!(replay.outcome, Ok(()), "{name} in pieces of {cut}");
    assert_eq!(
        replay.lines.len(),
        transcript.expected.len(),
        "{name} in pieces of {cut}"
    );
    assert!(replay.held.is_empty(), "{name}");
    assert!(
        replay.from_client.is_empty() && replay.from_server.is_empty(),
        "{name}"
    );
}

#[test]
fn there_are_transcripts_of_every_client() {
    let names: Vec<String> = transcripts().into_iter().map(|t| t.name).collect();
    for client in ["psql", "psycopg", "asyncpg", "pgjdbc", "node", "raw"] {
        assert!(
            names.iter().filter(|name| name.starts_with(client)).count() >= 5,
            "{client}"
        );
    }
}

#[test]
fn every_transcript_is_read_as_expected() {
    for transcript in transcripts() {
        check(&transcript, Limits::default(), usize::MAX);
    }
}

#[test]
fn every_transcript_is_read_the_same_cut_at_every_byte() {
    for transcript in transcripts() {
        for cut in [1, 2, 3, 5, 64] {
            check(&transcript, Limits::default(), cut);
        }
    }
}

#[test]
fn every_transcript_is_read_the_same_when_long_messages_are_streamed() {
    // 4 is the length of a message without a body: everything that can be streamed is.
    for stream_above_bytes in [4, 40] {
        let limits = Limits {
            stream_above_bytes,
            ..Limits::default()
        };
        for transcript in transcripts() {
            for cut in [1, 7, usize::MAX] {
                check(&transcript, limits, cut);
            }
        }
    }
}

/// Rows taken in a run are those that are decoded one by one.
fn check_whole_rows(limits: Limits, input: &[u8]) {
    for tag in [BackendTag::DataRow, BackendTag::CopyData] {
        let mut decoder = BackendDecoder::new(limits);
        let rows = decoder.whole_rows(tag, input);
        let (mut bytes, mut count) = (0, 0);
        while let Ok(Some(BackendPiece::Message(decoded))) = decoder.decode(&input[bytes..])
            && decoded.message.tag() == tag
        {
            bytes += decoded.wire.len();
            count += 1;
        }
        assert_eq!(rows, Rows { bytes, count });
    }
}

#[test]
fn rows_in_a_run_end_where_decoding_one_by_one_would_say_more() {
    let limits = Limits {
        stream_above_bytes: 8,
        ..Limits::default()
    };
    let row = b"D\0\0\0\x08abcd";
    let rest: [&[u8]; 7] = [
        b"",
        b"D\0\0\0\x08abc",
        b"D\0\0\0\x09abcde",
        b"D\0\0\0\x03",
        b"D\xff\xff\xff\xff",
        b"d\0\0\0\x05a",
        b"?\0\0\0\x04",
    ];
    for rest in rest {
        let input = [row, &row[..], rest].concat();
        let rows = BackendDecoder::new(limits).whole_rows(BackendTag::DataRow, &input);
        let bytes = 2 * row.len();
        assert_eq!(rows, Rows { bytes, count: 2 }, "{rest:?}");
        check_whole_rows(limits, &input);
        check_whole_rows(limits, rest);
    }
    // Inside of a long one, what looks like a row is its body.
    let mut decoder = BackendDecoder::new(limits);
    let long = b"D\0\0\0\x20";
    assert!(matches!(
        decoder.decode(long),
        Ok(Some(BackendPiece::Fragment(_)))
    ));
    let rows = decoder.whole_rows(BackendTag::DataRow, row);
    assert_eq!(rows, Rows { bytes: 0, count: 0 });
}

/// Feeds a transcript and drops what the pipeline says to drop, as the server would have seen it.
fn pair(transcript: &Transcript) -> (Vec<Fate>, Result<(), SequenceError>, Pipeline<u32>) {
    let mut pipeline = Pipeline::new(codecs::postgres::TransactionStatus::Idle);
    let mut replay = Replay::new(Limits::default(), false);
    let mut fates = Vec::new();
    let mut outcome = Ok(());
    for (side, bytes) in &transcript.chunks {
        let before = replay.lines.len();
        let was_ready = replay.ready;
        replay.feed(*side, bytes);
        if !was_ready {
            continue;
        }
        for line in &replay.lines[before..] {
            let words: Vec<&str> = line.split(' ').collect();
            let step = match *side {
                Side::Client => {
                    let number = words[1].parse().unwrap();
                    pipeline
                        .handle_frontend(request(words[2], words.get(3)), Origin::Client, number)
                        .map(|fate| fates.push(fate))
                }
                Side::Server => pipeline.handle_backend(event(&words)).map(|_| ()),
            };
            outcome = outcome.and(step);
        }
    }
    (fates, outcome, pipeline)
}

fn request(name: &str, target: Option<&&str>) -> Request {
    match (name, target) {
        ("Query", _) => Request::Query,
        ("Parse", _) => Request::Parse,
        ("Bind", _) => Request::Bind,
        ("Describe", Some(&"portal")) => Request::Describe(Target::Portal),
        ("Describe", _) => Request::Describe(Target::Statement),
        ("Execute", _) => Request::Execute,
        ("Sync", _) => Request::Sync,
        ("Flush", _) => Request::Flush,
        ("CopyData", _) => Request::CopyData,
        ("CopyDone", _) => Request::CopyDone,
        ("Terminate", _) => Request::Terminate,
        other => panic!("{other:?}"),
    }
}

fn event(words: &[&str]) -> codecs::postgres::backend::BackendEvent {
    use codecs::postgres::backend::BackendEvent;
    use codecs::postgres::{BackendTag, TransactionStatus};
    match (words[1], words.get(2)) {
        ("ReadyForQuery", _) => BackendEvent::ReadyForQuery(TransactionStatus::Idle),
        ("ErrorResponse", Some(&"FATAL")) => BackendEvent::FatalErrorResponse,
        ("ErrorResponse", _) if words.get(3) == Some(&"57014") => {
            BackendEvent::InterruptErrorResponse
        }
        (name, _) => BackendEvent::Tagged(
            BackendTag::ALL
                .into_iter()
                .find(|tag| tag.name() == name)
                .unwrap(),
        ),
    }
}

#[test]
fn stray_copy_data_would_have_been_answered_and_is_therefore_dropped() {
    // The server had been sent the CopyData: the pipeline, which says that it must not be, finds
    // replies that answer nothing.
    let (fates, outcome, _) = pair(&transcript("raw-timeout-15"));
    assert_eq!(
        fates[..8],
        [
            Fate::Forward,
            Fate::Forward,
            Fate::Forward,
            Fate::Drop,
            Fate::Forward,
            Fate::Forward,
            Fate::Forward,
            Fate::Forward
        ]
    );
    assert!(matches!(outcome, Err(SequenceError::Unexplained { .. })));
}

#[test]
fn an_interrupt_on_a_query_behind_flush_is_ambiguous() {
    let (_, outcome, _) = pair(&transcript("raw-timeout_query-15"));
    assert_eq!(
        outcome,
        Err(SequenceError::Ambiguous {
            got: Request::Query
        })
    );
}

#[test]
fn syncs_behind_failing_copies_are_settled_by_what_follows() {
    let (_, outcome, pipeline) = pair(&transcript("raw-doubtful-15"));
    assert_eq!(outcome, Ok(()));
    assert!(!pipeline.is_doubtful());
    assert!(pipeline.is_quiescent());
}

#[test]
fn a_command_inside_a_copy_ends_the_session() {
    let doomed = transcript("raw-doomed-15");
    let position = doomed
        .expected
        .iter()
        .position(|line| line == "< CopyInResponse t tt")
        .unwrap();
    assert_eq!(
        doomed.expected[position + 1..position + 3],
        [
            "< ErrorResponse ERROR 08P01 \"unexpected message type 0x51 during COPY from stdin\"",
            "< ErrorResponse FATAL 08P01 \"terminating connection because protocol synchronization was lost\"",
        ]
    );
    let (_, outcome, _) = pair(&doomed);
    // The client's Terminate comes after the end.
    assert_eq!(outcome, Err(SequenceError::Ended));
}
