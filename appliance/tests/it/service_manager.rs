//! A service manager of a test's own: what systemd does for a service, with nothing else around it.
//!
//! It receives what the appliance says, keeps the descriptors that it is given, and passes them to the
//! next process. `packaging` has the same with a real systemd.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;

use crate::appliance::Appliance;
use crate::wire::PATIENCE;

/// Has the process that `exec` leaves name itself as the one that is meant.
pub const AS_MAIN_PROCESS: [&str; 4] = [
    "sh",
    "-c",
    r#"export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$@""#,
    "sh",
];

/// Ends the thread that reads.
const END: &[u8] = b"end";

pub struct ServiceManager {
    directory: TempDir,
    messages: Receiver<Message>,
    /// What the next process is passed, with its names.
    pub kept: Vec<(String, OwnedFd)>,
    /// What comes besides: the sockets of a socket unit.
    pub units: Vec<(String, OwnedFd)>,
    pub watchdog: Option<Duration>,
}

/// One datagram.
#[derive(Debug)]
struct Message {
    text: String,
    descriptors: Vec<OwnedFd>,
}

impl ServiceManager {
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(message) = receive(&socket) {
                // Nobody waits any more: the test is over.
                if message.text.as_bytes() == END || sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self {
            directory,
            messages,
            kept: Vec::new(),
            units: Vec::new(),
            watchdog: None,
        }
    }

    fn socket_path(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    /// Starts the appliance with what is kept. What it says when it is ready.
    pub fn start(&mut self, appliance: &mut Appliance) -> String {
        while let Ok(message) = self.messages.try_recv() {
            self.obey(message);
        }
        let passed: Vec<(String, OwnedFd)> = self
            .units
            .iter()
            .chain(&self.kept)
            .map(|(name, descriptor)| (name.clone(), descriptor.try_clone().unwrap()))
            .collect();
        let socket = self.socket_path();
        let watchdog = self.watchdog;
        appliance.resume_as(|command: &mut Command| {
            command.env("NOTIFY_SOCKET", socket);
            if let Some(within) = watchdog {
                command.env("WATCHDOG_USEC", within.as_micros().to_string());
            }
            let names: Vec<&str> = passed.iter().map(|(name, _)| name.as_str()).collect();
            command.env("LISTEN_FDS", names.len().to_string());
            command.env("LISTEN_FDNAMES", names.join(":"));
            let mappings = passed.into_iter().zip(3..);
            let mappings = mappings.map(|((_, parent_fd), child_fd)| FdMapping {
                parent_fd,
                child_fd,
            });
            command.fd_mappings(mappings.collect()).unwrap();
        });
        self.wait_for("READY=1")
    }

    /// The next message, which has to come.
    pub fn next(&mut self) -> String {
        let message = self.messages.recv_timeout(PATIENCE);
        self.obey(message.expect("something is said"))
    }

    /// The next message that has this line.
    pub fn wait_for(&mut self, line: &str) -> String {
        let (_, found) = self.until(|message| message.lines().any(|found| found == line));
        found
    }

    /// The first message that is right, and those before it.
    pub fn until(&mut self, is_right: impl Fn(&str) -> bool) -> (Vec<String>, String) {
        let deadline = Instant::now() + PATIENCE;
        let mut before = Vec::new();
        loop {
            assert!(Instant::now() < deadline, "not said: {before:#?}");
            let message = self.next();
            if is_right(&message) {
                return (before, message);
            }
            before.push(message);
        }
    }

    pub fn kept_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.kept.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn obey(&mut self, message: Message) -> String {
        let Message { text, descriptors } = message;
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
        if text.lines().any(|line| line == "FDSTORE=1") {
            assert_eq!(descriptors.len(), 1, "{text}");
            let name = name.expect("a name");
            // systemd would take no other.
            assert!(name.len() <= 255 && !name.contains(':'), "{name}");
            // As systemd: what is kept already, by whatever name, is kept once.
            let is_known = |kept: &OwnedFd| is_same(kept, &descriptors[0]);
            if !self.kept.iter().any(|(_, kept)| is_known(kept)) {
                let descriptor = descriptors.into_iter().next().unwrap();
                self.kept.push((name.to_owned(), descriptor));
            }
        } else if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
            let name = name.expect("a name");
            self.kept.retain(|(kept, _)| kept != name);
        }
        text
    }
}

/// Sockets are the same if their inode is.
fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let inode = |descriptor| rustix::fs::fstat(descriptor).unwrap().st_ino;
    inode(one) == inode(other)
}

fn receive(socket: &UnixDatagram) -> io::Result<Message> {
    let mut bytes = vec![0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    bytes.truncate(received.bytes);
    Ok(Message {
        text: String::from_utf8(bytes).expect("text"),
        descriptors,
    })
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        let farewell = UnixDatagram::unbound().unwrap();
        // Fails when the thread has ended already.
        let _ = farewell.send_to(END, self.socket_path());
    }
}
