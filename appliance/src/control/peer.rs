//! Who is at the other end of the admin socket, as the kernel says.

use std::io;

use tokio::net::UnixStream;

/// A user of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    uid: u32,
}

impl Peer {
    /// The process that connected, at the time it did (`SO_PEERCRED`).
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        Ok(Self {
            uid: stream.peer_cred()?.uid(),
        })
    }

    pub(super) fn uid(self) -> u32 {
        self.uid
    }

    /// Root, or the user that runs the appliance.
    pub(super) fn is_operator(self) -> bool {
        self.uid == 0 || self.uid == rustix::process::geteuid().as_raw()
    }
}
