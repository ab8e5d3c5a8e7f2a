//! One HTTP/1.1 exchange over a socket that is closed afterwards.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::wire::PATIENCE;

/// A connection from an address of this machine's loopback network.
pub fn connect(from: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::from((from, 0));
    socket.bind(&from.into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: String::new(),
        }
    }

    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: &str, body: &str) -> Self {
        Self {
            body: body.to_owned(),
            ..Self::new("POST", path).header("content-type", "application/json")
        }
    }

    pub fn form(path: &str, body: &str) -> Self {
        Self {
            body: body.to_owned(),
            ..Self::new("POST", path).header("content-type", "application/x-www-form-urlencoded")
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// As it goes over the wire.
    pub fn text(&self) -> String {
        let named = |name: &str| self.headers.iter().any(|(given, _)| given == name);
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !named("host") {
            text.push_str("host: localhost\r\n");
        }
        text.push_str(&format!(
            "connection: close\r\ncontent-length: {}\r\n",
            self.body.len()
        ));
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text + "\r\n" + &self.body
    }

    pub fn tcp(&self, address: SocketAddr) -> Answer {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.over(stream)
    }

    pub fn unix(&self, socket: &Path) -> Answer {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.over(stream)
    }

    /// The same from an address of this machine's loopback network, and only the head of the answer.
    pub fn status_from(&self, from: [u8; 4], address: SocketAddr) -> u16 {
        let stream = connect(from, address);
        self.status_over(stream)
    }

    /// The status alone, of an answer that may go on for ever.
    pub fn status_over(&self, mut stream: impl Read + Write) -> u16 {
        stream.write_all(self.text().as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1);
        status
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("{line:?}"))
    }

    pub fn over(&self, mut stream: impl Read + Write) -> Answer {
        stream.write_all(self.text().as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::read(&String::from_utf8_lossy(&bytes))
    }
}

impl Answer {
    pub fn read(text: &str) -> Self {
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.filter_map(|line| line.split_once(": "));
        Self {
            status: status.and_then(|status| status.parse().ok()).unwrap(),
            headers: headers
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(given, _)| given == name);
        found.next().map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}
