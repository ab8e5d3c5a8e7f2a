//! A server that speaks as much PostgreSQL as it takes to answer after known delays.
//!
//! One thread for each connection. It logs when it had a question and when it sent the answer, on
//! the clock that the generator reads.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A query as the script sees it.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// Over all connections, in the order of arrival.
    pub(crate) number: u64,
    /// On its connection.
    pub(crate) of_connection: u64,
    pub(crate) text: &'a str,
    /// Since the first question.
    pub(crate) since: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Say {
    /// One row.
    Row,
    Error(&'static str),
    /// Nothing more on this connection, which ends.
    Close,
    /// Nothing, and the connection stays.
    Nothing,
}

/// What the server knows of one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logged {
    pub(crate) arrived: Instant,
    pub(crate) sent: Instant,
}

type Script = dyn Fn(&Question<'_>) -> (Duration, Say) + Send + Sync;

pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    script: Box<Script>,
    log: Mutex<Vec<Logged>>,
    texts: Mutex<Vec<String>>,
    first: Mutex<Option<Instant>>,
    questions: AtomicU64,
    connections: AtomicU64,
    stops: AtomicBool,
}

impl Server {
    /// Answers each question as `script` says, after the delay that it says.
    pub(crate) fn start(
        script: impl Fn(&Question<'_>) -> (Duration, Say) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            log: Mutex::default(),
            texts: Mutex::default(),
            first: Mutex::default(),
            questions: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            stops: AtomicBool::new(false),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// How long it held each question that it answered, ascending.
    pub(crate) fn held(&self) -> Vec<Duration> {
        let mut held: Vec<Duration> = self
            .log()
            .iter()
            .map(|answer| answer.sent - answer.arrived)
            .collect();
        held.sort();
        held
    }

    pub(crate) fn log(&self) -> Vec<Logged> {
        self.shared.log.lock().unwrap().clone()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.shared.texts.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// From here on nobody listens at the address.
    pub(crate) fn close_listener(&mut self) {
        self.shared.stops.store(true, Ordering::SeqCst);
        // Ends its wait.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close_listener();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stops.load(Ordering::SeqCst) {
            return;
        }
        let stream = stream.unwrap();
        let shared = Arc::clone(shared);
        shared.connections.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            // The generator may end a connection at any moment.
            let _ = serve(&stream, &shared);
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

fn serve(mut stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    body(&mut stream)?;
    stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")?;
    for of_connection in 0.. {
        let mut tag = [0];
        stream.read_exact(&mut tag)?;
        let text = body(&mut stream)?;
        if tag == *b"X" {
            break;
        }
        let arrived = runtime::now();
        let text = String::from_utf8(text).unwrap();
        let first = *shared.first.lock().unwrap().get_or_insert(arrived);
        shared.texts.lock().unwrap().push(text.clone());
        let question = Question {
            number: shared.questions.fetch_add(1, Ordering::SeqCst),
            of_connection,
            text: &text,
            since: arrived - first,
        };
        let (delay, say) = (shared.script)(&question);
        wait_until(arrived + delay);
        let answer = match say {
            Say::Row => row(),
            Say::Error(state) => error(state),
            Say::Close => break,
            Say::Nothing => continue,
        };
        let sent = runtime::now();
        stream.write_all(&answer)?;
        shared.log.lock().unwrap().push(Logged { arrived, sent });
    }
    Ok(())
}

/// The body of the next message.
fn body(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// A delay is what this server is for.
fn wait_until(moment: Instant) {
    let (_nobody, never) = std::sync::mpsc::channel::<()>();
    let delay = moment.saturating_duration_since(runtime::now());
    // Reports that it waited that long.
    let _ = never.recv_timeout(delay);
}

fn row() -> Vec<u8> {
    let mut bytes = Vec::new();
    message(
        &mut bytes,
        b'T',
        b"\0\x01one\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0",
    );
    message(&mut bytes, b'D', b"\0\x01\0\0\0\x011");
    message(&mut bytes, b'C', b"SELECT 1\0");
    message(&mut bytes, b'Z', b"I");
    bytes
}

fn error(state: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let fields = format!("SERROR\0VERROR\0C{state}\0Mscripted\0\0");
    message(&mut bytes, b'E', fields.as_bytes());
    message(&mut bytes, b'Z', b"I");
    bytes
}

fn message(bytes: &mut Vec<u8>, tag: u8, body: &[u8]) {
    bytes.push(tag);
    let length = u32::try_from(body.len() + 4).unwrap();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(body);
}
