//! What the appliance and a service manager tell each other: systemd's protocol, spoken by ourselves.
//!
//! It says when the appliance is ready and that it is alive, keeps listening sockets over a restart,
//! and takes those that were passed at the start. It decides nothing about shards or sessions.
//!
//! Spec: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).

mod notify;
mod passed;

pub use notify::{Notifier, NotifyError};
pub use passed::{PassedSocket, PassedSockets, SocketName};

use std::ffi::OsString;
use std::time::Duration;

/// What systemd puts into the environment, as it stands there. Only `main` looks.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// `$NOTIFY_SOCKET`
    pub notify_socket: Option<OsString>,
    /// `$WATCHDOG_USEC`
    pub watchdog_usec: Option<OsString>,
    /// `$WATCHDOG_PID`
    pub watchdog_pid: Option<OsString>,
    /// `$LISTEN_PID`
    pub listen_pid: Option<OsString>,
    /// `$LISTEN_FDS`
    pub listen_fds: Option<OsString>,
    /// `$LISTEN_FDNAMES`
    pub listen_fdnames: Option<OsString>,
}

impl Variables {
    /// Within what time the appliance has to say that it is alive, again and again; `None` when
    /// nobody waits for that.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        let of_us = match &self.watchdog_pid {
            Some(pid) => is_ours(Some(pid)),
            None => true,
        };
        let usec = number(self.watchdog_usec.as_ref())?;
        (of_us && usec > 0).then(|| Duration::from_micros(usec))
    }

    /// The sockets that were passed to this process. Later calls get none.
    #[must_use]
    pub fn take_sockets(&self) -> PassedSockets {
        if !is_ours(self.listen_pid.as_ref()) {
            return PassedSockets::default();
        }
        let count = number(self.listen_fds.as_ref()).unwrap_or(0);
        // A number beyond the type cannot be what a service manager passes.
        let descriptors = runtime::take_passed(u16::try_from(count).unwrap_or(0));
        let names = self
            .listen_fdnames
            .as_ref()
            .and_then(|names| names.to_str());
        let names = names.unwrap_or_default().split(':');
        PassedSockets::new(descriptors, names)
    }
}

/// Whether a process id is that of this process: a child of what it was meant for inherits the
/// environment too.
fn is_ours(pid: Option<&OsString>) -> bool {
    number(pid) == Some(u64::from(std::process::id()))
}

fn number(text: Option<&OsString>) -> Option<u64> {
    text?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_for_the_process_that_it_names() {
        let variables = |usec: &str, pid: Option<u32>| Variables {
            watchdog_usec: Some(usec.into()),
            watchdog_pid: pid.map(|pid| pid.to_string().into()),
            ..Variables::default()
        };
        let own = std::process::id();
        let second = Some(Duration::from_secs(1));
        assert_eq!(variables("1000000", Some(own)).watchdog(), second);
        assert_eq!(variables("1000000", None).watchdog(), second);
        assert_eq!(variables("1000000", Some(own + 1)).watchdog(), None);
        assert_eq!(variables("0", Some(own)).watchdog(), None);
        assert_eq!(variables("soon", Some(own)).watchdog(), None);
        assert_eq!(Variables::default().watchdog(), None);
    }
}
