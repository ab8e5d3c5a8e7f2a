//! What the appliance tells the service manager, one datagram for each.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::SocketName;
use crate::telemetry;

/// How long a message may wait for room in the manager's queue.
///
/// systemd reads between two jobs of its own; one that does not for a second is in trouble itself,
/// and the control thread has other things to do.
const SEND_WITHIN: Duration = Duration::from_secs(1);

/// Longest status that is told, in bytes: it is one line for people.
const STATUS_BYTES_MAX: usize = 512;

/// Tells the service manager, or nobody. Per process; clones tell the same one.
#[derive(Debug, Clone)]
pub struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
}

/// `$NOTIFY_SOCKET` names nothing that can be told anything.
#[derive(Debug, thiserror::Error)]
#[error("the service manager's socket ($NOTIFY_SOCKET) cannot be used")]
pub struct NotifyError(#[source] io::Error);

impl Notifier {
    /// Tells whoever listens at `$NOTIFY_SOCKET`; nobody, when it is not set.
    ///
    /// # Errors
    /// It is set, and nobody is there: a manager that waits for us would wait in vain.
    pub fn connect(notify_socket: Option<&OsStr>) -> Result<Self, NotifyError> {
        let Some(name) = notify_socket.filter(|name| !name.is_empty()) else {
            return Ok(Self { socket: None });
        };
        let connected = || -> io::Result<UnixDatagram> {
            let address = match name.as_bytes().split_first() {
                Some((b'@', abstract_name)) => SocketAddr::from_abstract_name(abstract_name)?,
                Some((b'/', _)) => SocketAddr::from_pathname(name)?,
                Some(_) | None => return Err(io::ErrorKind::Unsupported.into()),
            };
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(SEND_WITHIN))?;
            socket.connect_addr(&address)?;
            Ok(socket)
        };
        let socket = connected().map_err(NotifyError)?;
        Ok(Self {
            socket: Some(Arc::new(socket)),
        })
    }

    /// Whether anybody is told: then sockets that are [kept](Self::keep) outlive the process.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.socket.is_some()
    }

    /// Agents can connect, or a reload is over.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// How it is, in a line for people.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}", line(status)));
    }

    /// The configuration is read again; [`ready`](Self::ready) says that this is over.
    pub fn reloading(&self) {
        let now = runtime::since_boot().as_micros();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// It stops, and takes no longer than `within`.
    pub fn stopping(&self, within: Duration, status: &str) {
        let within = within.as_micros();
        self.tell(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={within}\nSTATUS={}",
            line(status)
        ));
    }

    /// All of it is alive.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// Keep a duplicate of `descriptor`, and pass it to the next process under this name.
    ///
    /// One that is kept already stays as it is.
    pub fn keep(&self, name: &SocketName, descriptor: BorrowedFd<'_>) {
        self.send(&format!("FDSTORE=1\nFDNAME={name}"), Some(descriptor));
    }

    /// Keep nothing of this name any more.
    pub fn forget(&self, name: &str) {
        self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    }

    fn tell(&self, message: &str) {
        self.send(message, None);
    }

    /// A message that is lost costs what it was about, and never the appliance.
    fn send(&self, message: &str, descriptor: Option<BorrowedFd<'_>>) {
        let Some(socket) = &self.socket else { return };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        if !descriptors.is_empty() {
            // The space is that of one descriptor.
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let bytes = [IoSlice::new(message.as_bytes())];
        let sent = rustix::net::sendmsg(socket, &bytes, &mut control, SendFlags::NOSIGNAL);
        if let Err(error) = sent {
            let about = message.split('=').next().unwrap_or_default();
            let error = telemetry::chain(&error);
            tracing::warn!(about, error, "the service manager was not told");
        }
    }
}

/// What fits into one line of the protocol.
fn line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if line.len() + letter.len_utf8() > STATUS_BYTES_MAX {
            break;
        }
        line.push(if letter.is_control() { ' ' } else { letter });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_short_line() {
        assert_eq!(line("ready\nREADY=1"), "ready READY=1");
        assert_eq!(line(&"ü".repeat(1000)).len(), STATUS_BYTES_MAX);
    }

    #[test]
    fn a_manager_that_is_not_there_is_an_error() {
        assert!(!Notifier::connect(None).unwrap().is_heard());
        assert!(!Notifier::connect(Some(OsStr::new(""))).unwrap().is_heard());
        for absent in ["/nowhere/notify", "@sallyport-nobody", "vsock:2:1234"] {
            assert!(Notifier::connect(Some(OsStr::new(absent))).is_err());
        }
    }
}
