//! A PostgreSQL client that says exactly what a test tells it to, legal or not.
//!
//! Written without `codecs`, so that a mistake there is not repeated here. It knows how to frame
//! messages and how to log in; it checks nothing.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

/// Longest silence of a server before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const PROTOCOL_3_0: i32 = 196_608;
pub const SSL_REQUEST: i32 = 80_877_103;
pub const GSSENC_REQUEST: i32 = 80_877_104;
pub const CANCEL_REQUEST: i32 = 80_877_102;

/// One connection.
pub struct Wire {
    stream: TcpStream,
    /// Of BackendKeyData, once logged in.
    pub key: Option<(u32, Vec<u8>)>,
    /// What ParameterStatus said last, in order of arrival.
    pub parameters: Vec<(String, String)>,
}

/// One message of the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub tag: char,
    pub body: Vec<u8>,
}

/// Why there is no next message.
#[derive(Debug, PartialEq, Eq)]
pub enum Silence {
    /// The server closed or reset the connection.
    Closed,
    /// Nothing came for the time that was given.
    TimedOut,
}

impl Wire {
    pub fn open(address: SocketAddr) -> Self {
        Self::with_stream(TcpStream::connect(address).unwrap())
    }

    /// Connects from another loopback address, to be another peer.
    pub fn open_from(local: [u8; 4], address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((local, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::with_stream(socket.into())
    }

    pub fn peer_address(&self) -> SocketAddr {
        self.stream.peer_addr().unwrap()
    }

    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    fn with_stream(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            key: None,
            parameters: Vec::new(),
        }
    }

    /// Logs in and waits for ReadyForQuery.
    pub fn login(address: SocketAddr, user: &str, database: &str, password: &str) -> Self {
        Self::try_login(address, &[("user", user), ("database", database)], password)
            .unwrap_or_else(|refusal| panic!("login as {user} refused: {refusal:?}"))
    }

    /// Logs in; what the server refuses with is the error.
    pub fn try_login(
        address: SocketAddr,
        parameters: &[(&str, &str)],
        password: &str,
    ) -> Result<Self, Message> {
        Self::open(address).authenticate(parameters, password)
    }

    /// Start-up, cleartext password if asked, up to ReadyForQuery.
    pub fn authenticate(
        mut self,
        parameters: &[(&str, &str)],
        password: &str,
    ) -> Result<Self, Message> {
        self.send_startup(PROTOCOL_3_0, parameters);
        loop {
            let message = match self.receive() {
                Ok(message) => message,
                Err(silence) => panic!("no answer to login: {silence:?}"),
            };
            match message.tag {
                'R' if message.authentication() == 3 => self.send('p', &terminated(password)),
                'R' if message.authentication() == 0 => {}
                'R' => panic!("unexpected authentication {}", message.authentication()),
                'Z' => return Ok(self),
                'E' => return Err(message),
                'K' | 'S' | 'N' => {}
                _ => panic!("unexpected {message:?}"),
            }
        }
    }

    pub fn send_startup(&mut self, version: i32, parameters: &[(&str, &str)]) {
        self.send_raw(&startup_packet(version, parameters));
    }

    /// Asks for TLS or GSS; the server's one-byte answer.
    pub fn ask(&mut self, request: i32) -> u8 {
        self.send_raw(&untyped(&request.to_be_bytes()));
        let mut answer = [0];
        self.stream.read_exact(&mut answer).unwrap();
        answer[0]
    }

    pub fn send(&mut self, tag: char, body: &[u8]) {
        self.send_raw(&message(tag, body));
    }

    /// Sends bytes as they are. That the server has closed meanwhile is for the reader to see.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(e) => panic!("cannot send: {e}"),
        }
    }

    /// Sends what can be sent within the write timeout; whether it was all.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub fn write_timeout(&self, time: Duration) {
        self.stream.set_write_timeout(Some(time)).unwrap();
    }

    /// Makes the end of the connection a reset, whatever is unread.
    pub fn reset(&self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    pub fn shutdown_send(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends a simple query and returns everything up to and including ReadyForQuery.
    pub fn query(&mut self, sql: &str) -> Vec<Message> {
        self.send('Q', &terminated(sql));
        self.until_ready()
    }

    /// One value of one row; panics when the query does anything else.
    pub fn value(&mut self, sql: &str) -> String {
        let messages = self.query(sql);
        let row = messages
            .iter()
            .find(|m| m.tag == 'D')
            .unwrap_or_else(|| panic!("{messages:?}"));
        row.columns()[0].clone().expect("not NULL")
    }

    pub fn parse(&mut self, name: &str, sql: &str) {
        let body = [&terminated(name)[..], &terminated(sql), &0u16.to_be_bytes()].concat();
        self.send('P', &body);
    }

    /// Binds text values.
    pub fn bind(&mut self, portal: &str, statement: &str, values: &[Option<&str>]) {
        let mut body = [terminated(portal), terminated(statement), vec![0, 0]].concat();
        body.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
        for value in values {
            match value {
                None => body.extend((-1i32).to_be_bytes()),
                Some(value) => {
                    body.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                    body.extend(value.as_bytes());
                }
            }
        }
        body.extend([0, 0]);
        self.send('B', &body);
    }

    pub fn describe_portal(&mut self, portal: &str) {
        self.send('D', &[b"P", &terminated(portal)[..]].concat());
    }

    pub fn execute(&mut self, portal: &str, rows: i32) {
        self.send(
            'E',
            &[&terminated(portal)[..], &rows.to_be_bytes()].concat(),
        );
    }

    pub fn sync(&mut self) {
        self.send('S', &[]);
    }

    /// The next message, keeping key and parameters.
    pub fn receive(&mut self) -> Result<Message, Silence> {
        let mut head = [0; 5];
        self.read(&mut head)?;
        let length = i32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; usize::try_from(length - 4).unwrap()];
        self.read(&mut body)?;
        let message = Message {
            tag: char::from(head[0]),
            body,
        };
        match message.tag {
            'K' => {
                let process = u32::from_be_bytes(message.body[..4].try_into().unwrap());
                self.key = Some((process, message.body[4..].to_vec()));
            }
            'S' => {
                let mut texts = message.texts();
                let (name, value) = (texts.remove(0), texts.remove(0));
                self.parameters.retain(|(known, _)| *known != name);
                self.parameters.push((name, value));
            }
            _ => {}
        }
        Ok(message)
    }

    /// The tag of the next message and how often its body holds `byte`; the body is not kept.
    pub fn receive_counting(&mut self, byte: u8) -> (char, usize) {
        let (tag, counts) = self.receive_counting_all(&[byte]);
        (tag, counts[0])
    }

    /// The same for several bytes.
    pub fn receive_counting_all(&mut self, bytes: &[u8]) -> (char, Vec<usize>) {
        let mut head = [0; 5];
        self.read(&mut head).unwrap();
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut left = usize::try_from(length - 4).unwrap();
        let (mut part, mut counts) = (vec![0; 1 << 20], vec![0; bytes.len()]);
        while left > 0 {
            let end = left.min(part.len());
            self.read(&mut part[..end]).unwrap();
            for (count, byte) in counts.iter_mut().zip(bytes) {
                *count += part[..end].iter().filter(|b| *b == byte).count();
            }
            left -= end;
        }
        (char::from(head[0]), counts)
    }

    /// Sends one message with `fill` so many times between `head` and `tail`, in pieces.
    pub fn send_large(&mut self, tag: char, head: &[u8], fill: u8, count: usize, tail: &[u8]) {
        let length = u32::try_from(4 + head.len() + count + tail.len()).unwrap();
        let start = [
            &[u8::try_from(tag).unwrap()],
            &length.to_be_bytes()[..],
            head,
        ]
        .concat();
        self.send_raw(&start);
        let part = vec![fill; 1 << 20];
        let mut left = count;
        while left > 0 {
            let end = left.min(part.len());
            self.send_raw(&part[..end]);
            left -= end;
        }
        self.send_raw(tail);
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), Silence> {
        match self.stream.read_exact(into) {
            Ok(()) => Ok(()),
            Err(e) if is_timeout(&e) => Err(Silence::TimedOut),
            Err(_) => Err(Silence::Closed),
        }
    }

    /// Everything up to and including ReadyForQuery.
    pub fn until_ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            match self.receive() {
                Ok(message) => {
                    let last = message.tag == 'Z';
                    messages.push(message);
                    if last {
                        return messages;
                    }
                }
                Err(silence) => panic!("{silence:?} after {messages:?}"),
            }
        }
    }

    /// Everything up to the end of the connection, which must come within [`PATIENCE`].
    pub fn until_closed(&mut self) -> Vec<Message> {
        let deadline = Instant::now() + PATIENCE;
        let mut messages = Vec::new();
        while Instant::now() < deadline {
            match self.receive() {
                Ok(message) => messages.push(message),
                Err(Silence::Closed) => return messages,
                Err(Silence::TimedOut) => break,
            }
        }
        panic!("still open after {messages:?}");
    }

    /// Bytes up to the end of the connection, whatever they are: a TLS alert, for one.
    pub fn until_closed_raw(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        while Instant::now() < deadline {
            match self.stream.read(&mut part) {
                Ok(0) => return bytes,
                Ok(count) => bytes.extend(&part[..count]),
                Err(e) if is_timeout(&e) => break,
                Err(_) => return bytes,
            }
        }
        panic!("still open after {bytes:?}");
    }

    /// Whether nothing arrives for `time`, the end of the connection included.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let silent = matches!(self.stream.peek(&mut [0]), Err(e) if is_timeout(&e));
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }

    /// Whether something can be read now.
    pub fn has_bytes(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let waiting = !matches!(self.stream.peek(&mut [0]), Err(e) if is_timeout(&e));
        self.stream.set_nonblocking(false).unwrap();
        waiting
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// A CancelRequest for this connection.
    pub fn cancel_packet(&self) -> Vec<u8> {
        let (process, secret) = self.key.as_ref().expect("logged in");
        cancel_packet(*process, secret)
    }
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse: `C` is the SQLSTATE, `M` the message.
    pub fn field(&self, code: char) -> Option<String> {
        assert!(matches!(self.tag, 'E' | 'N'), "{self:?} has no fields");
        self.texts()
            .into_iter()
            .find(|text| text.starts_with(code))
            .map(|text| text[1..].to_owned())
    }

    pub fn sqlstate(&self) -> String {
        self.field('C').expect("a SQLSTATE")
    }

    /// The transaction status of a ReadyForQuery.
    pub fn status(&self) -> char {
        assert_eq!(self.tag, 'Z', "{self:?}");
        char::from(self.body[0])
    }

    /// The values of a DataRow.
    pub fn columns(&self) -> Vec<Option<String>> {
        assert_eq!(self.tag, 'D', "{self:?}");
        let mut rest = &self.body[2..];
        let mut columns = Vec::new();
        while !rest.is_empty() {
            let length = i32::from_be_bytes(rest[..4].try_into().unwrap());
            rest = &rest[4..];
            columns.push(usize::try_from(length).ok().map(|length| {
                let value = String::from_utf8(rest[..length].to_vec()).unwrap();
                rest = &rest[length..];
                value
            }));
        }
        columns
    }

    /// The zero-terminated texts of the body.
    pub fn texts(&self) -> Vec<String> {
        let texts = self.body.split(|byte| *byte == 0);
        texts
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect()
    }

    fn authentication(&self) -> i32 {
        i32::from_be_bytes(self.body[..4].try_into().unwrap())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(200)];
        write!(f, "{}({})", self.tag, shown.escape_ascii())
    }
}

/// The tags of messages as one word: `1 2 T D D C Z` is `"12TDDCZ"`. Asynchronous ones are left out.
pub fn tags(messages: &[Message]) -> String {
    messages
        .iter()
        .map(|message| message.tag)
        .filter(|tag| !"NSA".contains(*tag))
        .collect()
}

/// The first ErrorResponse.
pub fn error(messages: &[Message]) -> &Message {
    messages
        .iter()
        .find(|m| m.tag == 'E')
        .unwrap_or_else(|| panic!("no error in {messages:?}"))
}

/// The status of the last ReadyForQuery.
pub fn status(messages: &[Message]) -> char {
    messages.last().expect("messages").status()
}

/// First column of each row.
pub fn first_column(messages: &[Message]) -> Vec<Option<String>> {
    messages
        .iter()
        .filter(|m| m.tag == 'D')
        .map(|m| m.columns().remove(0))
        .collect()
}

pub fn message(tag: char, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(tag).unwrap()];
    bytes.extend(untyped(body));
    bytes
}

/// A length, counting itself, and a body.
pub fn untyped(body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).unwrap();
    [&length.to_be_bytes()[..], body].concat()
}

pub fn startup_packet(version: i32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(terminated(name));
        body.extend(terminated(value));
    }
    body.push(0);
    untyped(&body)
}

pub fn cancel_packet(process: u32, secret: &[u8]) -> Vec<u8> {
    let body = [
        &CANCEL_REQUEST.to_be_bytes()[..],
        &process.to_be_bytes(),
        secret,
    ]
    .concat();
    untyped(&body)
}

pub fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
