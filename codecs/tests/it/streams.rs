//! The recorded transcripts as two byte streams each, cut off behind the login.

use std::fs;
use std::path::Path;

use codecs::Limits;
use codecs::postgres::startup::{StartupPacket, decode_startup};

use crate::transcripts::unhex;

/// What one side sent after the login.
pub(crate) struct Streams {
    pub(crate) name: String,
    pub(crate) client: Vec<u8>,
    pub(crate) server: Vec<u8>,
}

/// Every transcript that has a session in it; those of cancels have none.
pub(crate) fn all() -> Vec<Streams> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/postgres");
    let mut streams: Vec<Streams> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter_map(|path| read(&path))
        .collect();
    streams.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(streams.len() > 20, "{} transcripts", streams.len());
    streams
}

fn read(path: &Path) -> Option<Streams> {
    let (mut client, mut server) = (Vec::new(), Vec::new());
    for line in fs::read_to_string(path).unwrap().lines() {
        match line.split_once(' ').unwrap() {
            (">", hex) => client.extend(unhex(hex)),
            ("<", hex) => server.extend(unhex(hex)),
            _ => {}
        }
    }
    let mut taken = 0;
    let mut answers = 0;
    loop {
        let rest = client.get(taken..).filter(|rest| !rest.is_empty())?;
        let decoded = decode_startup(rest, &Limits::default()).unwrap()?;
        taken += decoded.wire.len();
        match decoded.message {
            StartupPacket::SslRequest | StartupPacket::GssEncRequest => answers += 1,
            StartupPacket::CancelRequest(_) => return None,
            StartupPacket::Startup(_) => break,
        }
    }
    // Passwords and SASL messages come before anything else of a session.
    while client.get(taken) == Some(&b'p') {
        let length = client.get(taken + 1..taken + 5).unwrap();
        taken += 1 + usize::try_from(u32::from_be_bytes(length.try_into().unwrap())).unwrap();
    }
    Some(Streams {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        client: client.split_off(taken),
        server: server.split_off(answers),
    })
}
