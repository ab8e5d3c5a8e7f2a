//! The agent, who follows a script, and the target, which is the model of PostgreSQL with bytes.

use std::collections::VecDeque;
use std::fmt;

use codecs::postgres::backend::{self, BackendEvent, Report, SqlState};
use codecs::postgres::frontend::{Format, Target};
use codecs::postgres::{
    Backend, BackendDecoder, BackendPiece, BackendTag, Decoded, Frontend, FrontendDecoder,
    FrontendPiece, TransactionStatus,
};

use super::links::{Random, whole};
use super::server::{Message, Said, Server, Sql};

/// What an agent does next.
#[derive(Debug)]
enum Step {
    Say(Message),
    /// Waits for everything that it has coming.
    Await,
}

/// What it still waits for.
impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the agent said {:?}, has {} of {:?}, and has {:?} to say",
            self.history, self.answers, self.expected, self.script
        )
    }
}

/// Says what its script says, and knows what the target would answer directly.
pub(super) struct Agent {
    random: Random,
    /// It sends long CopyData.
    is_large: bool,
    script: VecDeque<Step>,
    ideal: Server,
    history: Vec<Message>,
    expected: Vec<BackendTag>,
    statuses: Vec<TransactionStatus>,
    /// What came, up to a message that is not whole.
    unread: Vec<u8>,
    decoder: BackendDecoder,
    answers: usize,
    readies: usize,
    pub(super) asynchronous: usize,
    pub(super) has_farewell: bool,
}

impl Agent {
    pub(super) fn new(mut random: Random, is_large: bool) -> Self {
        Self {
            is_large,
            script: script(&mut random),
            random,
            ideal: Server::new(),
            history: Vec::new(),
            expected: Vec::new(),
            statuses: Vec::new(),
            unread: Vec::new(),
            decoder: BackendDecoder::new(limits()),
            answers: 0,
            readies: 0,
            asynchronous: 0,
            has_farewell: false,
        }
    }

    /// The bytes of the next message, unless it waits or is done.
    pub(super) fn speak(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.script.pop_front() {
            None => {}
            Some(Step::Await) if self.has_all() => {}
            Some(Step::Await) => self.script.push_front(Step::Await),
            Some(Step::Say(message)) => {
                self.encode(&message, &mut out);
                for said in self.ideal.handle(self.history.len(), &message) {
                    match said.event {
                        BackendEvent::Tagged(tag) => self.expected.push(tag),
                        BackendEvent::ReadyForQuery(status) => {
                            self.expected.push(BackendTag::ReadyForQuery);
                            self.statuses.push(status);
                        }
                        other => panic!("{other:?} in an agent's good order"),
                    }
                }
                self.history.push(message);
            }
        }
        out
    }

    fn encode(&mut self, message: &Message, out: &mut Vec<u8>) {
        match message {
            // Denied by a rule rather than by the grammar: the same to the agent.
            Message::Query(list) if list.contains(&Sql::SyntaxError) && self.random.chance(70) => {
                codecs::postgres::frontend::encode_query(out, b"SELECT 1; DROP TABLE lines")
                    .unwrap();
            }
            Message::Parse(name, Sql::SyntaxError) if self.random.chance(70) => {
                let name = name.as_bytes();
                codecs::postgres::frontend::encode_parse(out, name, b"DROP TABLE lines", &[])
                    .unwrap();
            }
            Message::CopyData { good: true } => {
                let most = if self.is_large { 60_000 } else { 10 };
                let lines = 1 + self.random.below(most);
                codecs::postgres::frontend::encode_copy_data(out, &b"1\n".repeat(lines)).unwrap();
            }
            message => message.encode(out),
        }
    }

    pub(super) fn has_all(&self) -> bool {
        self.answers == self.expected.len()
    }

    pub(super) fn is_done(&self) -> bool {
        self.script.is_empty() && self.has_all()
    }

    /// Whether the session, ended now, ends outside of everything, and the appliance can know it: a
    /// Sync that a COPY may have swallowed leaves a doubt until something else is answered.
    pub(super) fn is_at_rest(&self) -> bool {
        if self.history.last() != Some(&Message::Query(vec![Sql::Rollback])) {
            return false;
        }
        self.ideal.status() == TransactionStatus::Idle
            && self
                .expected
                .last()
                .is_none_or(|last| *last == BackendTag::ReadyForQuery)
    }

    /// Takes what the appliance sent.
    pub(super) fn hear(&mut self, bytes: &mut VecDeque<u8>) {
        self.unread.extend(bytes.drain(..));
        let unread = std::mem::take(&mut self.unread);
        let mut rest = unread.as_slice();
        let mut decoder = std::mem::replace(&mut self.decoder, BackendDecoder::new(limits()));
        while let Some(piece) = decoder.decode(rest).unwrap() {
            self.answer(&piece);
            rest = rest.get(piece.wire().len()..).unwrap();
        }
        self.unread = rest.to_vec();
        self.decoder = decoder;
    }

    fn answer(&mut self, piece: &BackendPiece<'_>) {
        let BackendPiece::Message(Decoded { message, .. }) = piece else {
            panic!("an answer in parts");
        };
        let tag = piece.tag();
        if matches!(
            tag,
            BackendTag::NoticeResponse
                | BackendTag::NotificationResponse
                | BackendTag::ParameterStatus
        ) {
            self.asynchronous += 1;
            return;
        }
        if message.event() == BackendEvent::FatalErrorResponse {
            assert!(!self.has_farewell, "two farewells");
            self.has_farewell = true;
            return;
        }
        let expected = self.expected.get(self.answers);
        assert_eq!(
            Some(&tag),
            expected,
            "answer {} of {:?}",
            self.answers,
            self.expected
        );
        self.answers += 1;
        if let Backend::ReadyForQuery(status) = message {
            assert_eq!(
                self.statuses.get(self.readies),
                Some(status),
                "status {}",
                self.readies
            );
            self.readies += 1;
        }
    }
}

fn limits() -> codecs::Limits {
    codecs::Limits {
        backend_message_bytes: 1 << 30,
        ..whole()
    }
}

fn script(random: &mut Random) -> VecDeque<Step> {
    let mut script = VecDeque::new();
    for _ in 0..=random.below(12) {
        phrase(random, &mut script);
        if random.chance(40) {
            wait(&mut script);
        }
    }
    // In good order: what is open is closed.
    script.push_back(Step::Say(Message::Sync));
    if random.chance(80) {
        script.push_back(Step::Say(Message::Query(vec![Sql::Rollback])));
    }
    script
}

/// Waits for all answers, and sees to it that they come: without Flush the target may keep them.
fn wait(script: &mut VecDeque<Step>) {
    script.push_back(Step::Say(Message::Flush));
    script.push_back(Step::Await);
}

fn phrase(random: &mut Random, script: &mut VecDeque<Step>) {
    let choice = random.below(10);
    let mut say = |message| script.push_back(Step::Say(message));
    match choice {
        0..=3 => {
            let list: Vec<Sql> = (0..=random.below(3)).map(|_| sql(random)).collect();
            let copies = list.iter().any(|sql| is_copy(*sql));
            let is_one = list.len() == 1;
            if copies {
                // Behind an unanswered Execute its data would be refused.
                wait(script);
            }
            script.push_back(Step::Say(Message::Query(list)));
            if copies && (is_one || random.chance(50)) {
                // Some clients do not wait until the data are wanted.
                copy_data(random, script);
            }
            if copies {
                // Every COPY of the text wants an end.
                for _ in 0..3 {
                    script.push_back(Step::Say(Message::CopyDone));
                }
                script.push_back(Step::Await);
            }
        }
        4..=7 => {
            let sql = sql(random);
            say(Message::Parse("", sql));
            say(Message::Bind("", ""));
            if random.chance(50) {
                say(Message::Describe(Target::Portal, ""));
            }
            say(Message::Execute(
                "",
                u32::try_from(random.below(4)).unwrap(),
            ));
            if is_copy(sql) {
                // The answer to an Execute could wait for a Sync behind the data.
                if random.chance(50) {
                    say(Message::Sync);
                } else {
                    say(Message::Flush);
                }
                script.push_back(Step::Await);
                copy_data(random, script);
                script.push_back(Step::Say(Message::Sync));
                script.push_back(Step::Await);
            } else if random.chance(80) {
                say(Message::Sync);
            }
        }
        8 => {
            say(Message::Parse(
                "s",
                random.pick(&[Sql::Select, Sql::Rows, Sql::SyntaxError]),
            ));
            say(Message::Describe(Target::Statement, "s"));
            say(Message::Sync);
            for _ in 0..random.below(3) {
                say(Message::Bind("", "s"));
                say(Message::Execute("", 0));
                say(Message::Sync);
            }
            say(Message::Close(Target::Statement, "s"));
            say(Message::Sync);
        }
        _ => say(Message::FunctionCall { exists: false }),
    }
}

fn copy_data(random: &mut Random, script: &mut VecDeque<Step>) {
    for _ in 0..random.below(4) {
        let good = random.chance(85);
        script.push_back(Step::Say(Message::CopyData { good }));
    }
    let end = if random.chance(80) {
        Message::CopyDone
    } else {
        Message::CopyFail
    };
    script.push_back(Step::Say(end));
}

fn is_copy(sql: Sql) -> bool {
    matches!(
        sql,
        Sql::CopyIn | Sql::CopyInEarly | Sql::CopyInLate | Sql::CopyInNowhere
    )
}

fn sql(random: &mut Random) -> Sql {
    random.pick(&Sql::ALL)
}

/// PostgreSQL, as its model with bytes.
pub(super) struct TargetServer {
    random: Random,
    model: Server,
    decoder: FrontendDecoder,
    unread: Vec<u8>,
    read: usize,
    /// Said and not sent: PostgreSQL holds answers back until it must not.
    held: Vec<u8>,
    row_bytes: usize,
    /// Messages at any time that were sent.
    pub(super) asynchronous: usize,
}

impl TargetServer {
    pub(super) fn new(random: Random, is_large: bool) -> Self {
        let mut decoder = FrontendDecoder::new(whole());
        decoder.authenticated();
        Self {
            row_bytes: if is_large { 200_000 } else { 100 },
            random,
            model: Server::new(),
            decoder,
            unread: Vec::new(),
            read: 0,
            held: Vec::new(),
            asynchronous: 0,
        }
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.model.status() == TransactionStatus::Idle
            && !self.model.in_copy_in()
            && !self.model.would_ignore(&Message::Query(Vec::new()))
            && self.held.is_empty()
            && self.unread.is_empty()
    }

    /// Reads what was sent, and says what there is to say.
    pub(super) fn serve(&mut self, sent: &mut VecDeque<u8>, out: &mut VecDeque<u8>) {
        self.unread.extend(sent.drain(..));
        let unread = std::mem::take(&mut self.unread);
        let mut rest = unread.as_slice();
        let mut decoder = std::mem::replace(&mut self.decoder, FrontendDecoder::new(whole()));
        while let Some(piece) = decoder.decode(rest).unwrap() {
            let FrontendPiece::Message(decoded) = &piece else {
                panic!("a message in parts");
            };
            let is_path = matches!(&decoded.message, Frontend::Query(query)
                if query.text.starts_with(b"SELECT pg_catalog.array_to_json"));
            let message = read(&decoded.message);
            rest = rest.get(decoded.wire.len()..).unwrap();
            self.handle(&message, is_path, out);
        }
        self.unread = rest.to_vec();
        self.decoder = decoder;
    }

    fn handle(&mut self, message: &Message, is_path: bool, out: &mut VecDeque<u8>) {
        let said = self.model.handle(self.read, message);
        self.read += 1;
        let mut flushes = *message == Message::Flush;
        for said in said {
            if self.random.chance(3) {
                let status = backend::encode_parameter_status(&mut self.held, b"TimeZone", b"UTC");
                status.unwrap();
                self.asynchronous += 1;
            }
            self.say(&said, is_path);
            flushes |= said.fails
                || matches!(
                    said.event,
                    BackendEvent::ReadyForQuery(_)
                        | BackendEvent::Tagged(BackendTag::CopyInResponse)
                );
        }
        if flushes || self.held.len() > 8192 {
            out.extend(self.held.drain(..));
        }
    }

    fn say(&mut self, said: &Said, is_path: bool) {
        let row = vec![b'x'; 1 + self.random.below(self.row_bytes)];
        let out = &mut self.held;
        let column = backend::Column {
            name: b"column",
            table: 0,
            attribute: 0,
            type_oid: 25,
            type_size: -1,
            type_modifier: -1,
            format: Format::Text,
        };
        let tag = match said.event {
            BackendEvent::Tagged(tag) => tag,
            BackendEvent::ReadyForQuery(status) => {
                return backend::encode_ready_for_query(out, status).unwrap();
            }
            other => panic!("{other:?}"),
        };
        match tag {
            BackendTag::ParseComplete => backend::encode_parse_complete(out),
            BackendTag::BindComplete => backend::encode_bind_complete(out),
            BackendTag::CloseComplete => backend::encode_close_complete(out),
            BackendTag::NoData => backend::encode_no_data(out),
            BackendTag::EmptyQueryResponse => backend::encode_empty_query_response(out),
            BackendTag::PortalSuspended => backend::encode_portal_suspended(out),
            BackendTag::CopyDone => backend::encode_copy_done(out),
            BackendTag::CopyData => backend::encode_copy_data(out, &row),
            BackendTag::CommandComplete => backend::encode_command_complete(out, b"SELECT 1"),
            BackendTag::ParameterDescription => backend::encode_parameter_description(out, &[]),
            BackendTag::RowDescription => backend::encode_row_description(out, &[column]),
            BackendTag::FunctionCallResponse => {
                backend::encode_function_call_response(out, Some(b"3"))
            }
            BackendTag::DataRow => {
                let value: &[u8] = if is_path { br#"["public"]"# } else { &row };
                backend::encode_data_row(out, &[Some(value)])
            }
            BackendTag::CopyInResponse => backend::encode_copy_response(
                out,
                backend::CopyDirection::In,
                Format::Text,
                &[Format::Text],
            ),
            BackendTag::CopyOutResponse => backend::encode_copy_response(
                out,
                backend::CopyDirection::Out,
                Format::Text,
                &[Format::Text],
            ),
            BackendTag::ErrorResponse => {
                Report::error(SqlState::new(b"42601"), "no").encode_error(out)
            }
            other => panic!("{other:?} is never said"),
        }
        .unwrap();
    }
}

/// What bytes mean to the model.
fn read(message: &Frontend<'_>) -> Message {
    match message {
        Frontend::Query(query) => Message::Query(statements(query.text)),
        Frontend::Parse(parse) => {
            let list = statements(parse.text);
            let sql = match list.as_slice() {
                [] => Sql::Empty,
                [one] => *one,
                _ => Sql::SyntaxError,
            };
            Message::Parse(name(parse.statement), sql)
        }
        Frontend::Bind(bind) => Message::Bind(name(bind.portal), name(bind.statement)),
        Frontend::Describe(describe) => Message::Describe(describe.target, name(describe.name)),
        Frontend::Execute(execute) => Message::Execute(name(execute.portal), execute.row_limit),
        Frontend::Close(close) => Message::Close(close.target, name(close.name)),
        Frontend::Sync => Message::Sync,
        Frontend::Flush => Message::Flush,
        Frontend::FunctionCall(call) => Message::FunctionCall {
            exists: call.function == 177,
        },
        Frontend::CopyData(data) => Message::CopyData {
            good: !data.contains(&b'x'),
        },
        Frontend::CopyDone => Message::CopyDone,
        Frontend::CopyFail(_) => Message::CopyFail,
        Frontend::Terminate | Frontend::Password(_) => panic!("{message:?}"),
    }
}

fn name(bytes: &[u8]) -> &'static str {
    match bytes {
        b"" => "",
        b"s" => "s",
        b"p" => "p",
        _ => "reserved",
    }
}

fn statements(text: &[u8]) -> Vec<Sql> {
    let text = std::str::from_utf8(text).unwrap();
    if text.starts_with("SELECT pg_catalog.") {
        return vec![Sql::Select];
    }
    let known = |text: &str| Sql::ALL.into_iter().find(|sql| sql.text() == text);
    text.split("; ")
        .map(|text| known(text).unwrap_or(Sql::SyntaxError))
        .collect()
}
