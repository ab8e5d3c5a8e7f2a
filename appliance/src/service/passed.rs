//! Listening sockets that a service manager passed: those of the run before, and those of a socket
//! unit. What each claims to be is compared with what the kernel says.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;

use runtime::{ListenAddress, Listening};

/// Longest name that systemd takes (`fdname_is_valid`), in bytes.
const NAME_BYTES_MAX: usize = 255;

/// What a socket of ours is kept as: the seat that accepts from it, and the address as configured.
///
/// Shape: `SEAT@ADDRESS`, and `SEAT@PATH@DEVICE-INODE` for a Unix socket with the identity of its
/// file, such as `0@127.0.0.1%3A6432`; `%` and two hexadecimal digits stand for bytes that a name may
/// not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketName {
    pub seat: u16,
    pub address: ListenAddress,
    /// Device and inode of a Unix socket's file.
    pub file: Option<(u64, u64)>,
}

/// A listening socket that was passed.
#[derive(Debug)]
pub struct PassedSocket {
    pub descriptor: OwnedFd,
    /// As it was passed.
    pub label: String,
    /// `None`: it is of a socket unit.
    pub name: Option<SocketName>,
    /// What the kernel says of it.
    pub listening: Listening,
}

/// All that were passed and not taken yet. Per process.
#[derive(Debug, Default)]
pub struct PassedSockets {
    sockets: Vec<PassedSocket>,
    /// Names under which something is kept that is of no use.
    useless: Vec<String>,
}

impl PassedSockets {
    /// Looks at what was passed. `names` are in the order of `descriptors`.
    pub(super) fn new<'n>(
        descriptors: Vec<Option<OwnedFd>>,
        names: impl Iterator<Item = &'n str>,
    ) -> Self {
        let mut passed = Self::default();
        let names = names.chain(std::iter::repeat(""));
        for (descriptor, label) in descriptors.into_iter().zip(names) {
            let Some(descriptor) = descriptor else {
                continue;
            };
            let listening = match runtime::listening(descriptor.as_fd()) {
                Ok(listening) => listening,
                Err(error) => {
                    tracing::warn!(label, %error, "what was passed is no listening socket");
                    passed.useless.push(label.to_owned());
                    continue;
                }
            };
            passed.sockets.push(PassedSocket {
                descriptor,
                label: label.to_owned(),
                name: label.parse().ok(),
                listening,
            });
        }
        passed
    }

    /// Takes those for an address as it is configured, in the order of their seats; those of socket
    /// units come last.
    pub fn take(&mut self, configured: &ListenAddress) -> Vec<PassedSocket> {
        let mut taken: Vec<PassedSocket> = self
            .sockets
            .extract_if(.., |socket| socket.is_for(configured))
            .collect();
        taken.sort_by_key(|socket| socket.name.as_ref().map_or(u16::MAX, |name| name.seat));
        taken
    }

    /// Closes what nobody took. Returns the labels under which it may be kept.
    #[must_use]
    pub fn discard(self) -> Vec<String> {
        let mut labels = self.useless;
        for socket in self.sockets {
            let address = &socket.listening.address;
            tracing::warn!(
                label = socket.label,
                %address,
                "a socket was passed that `listen.postgres` does not name; it is closed"
            );
            labels.push(socket.label);
        }
        labels
    }
}

impl PassedSocket {
    fn is_for(&self, configured: &ListenAddress) -> bool {
        let address = &self.listening.address;
        let Some(name) = &self.name else {
            return address == configured;
        };
        name.address == *configured
            && match (address, configured) {
                // Port 0 stands for the one that the kernel chose in another run.
                (ListenAddress::Tcp(found), ListenAddress::Tcp(wanted)) => {
                    let is_port = wanted.port() == 0 || found.port() == wanted.port();
                    found.ip() == wanted.ip() && is_port && self.listening.is_shared
                }
                (ListenAddress::Unix(found), ListenAddress::Unix(wanted)) => found == wanted,
                (ListenAddress::Tcp(_) | ListenAddress::Unix(_), _) => false,
            }
    }
}

impl SocketName {
    /// Whether systemd takes it: a path of strange letters may come out too long.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.to_string().len() <= NAME_BYTES_MAX
    }
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.seat)?;
        for byte in self.address.to_string().bytes() {
            if byte.is_ascii_graphic() && !matches!(byte, b':' | b'@' | b'%') {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        match self.file {
            Some((device, inode)) => write!(f, "@{device}-{inode}"),
            None => Ok(()),
        }
    }
}

/// The label is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no name that the appliance gives")]
pub struct NotAName;

impl FromStr for SocketName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let mut parts = text.split('@');
        let (seat, address) = (parts.next(), parts.next());
        let (seat, address) = seat.zip(address).ok_or(NotAName)?;
        let seat = seat.parse().map_err(|_| NotAName)?;
        let address = plain(address).ok_or(NotAName)?;
        let address = match address.parse() {
            Ok(address) => ListenAddress::Tcp(address),
            Err(_) if address.starts_with('/') => ListenAddress::Unix(PathBuf::from(address)),
            Err(_) => return Err(NotAName),
        };
        let file = match parts.next() {
            None => None,
            Some(file) => {
                let (device, inode) = file.split_once('-').ok_or(NotAName)?;
                let number = |text: &str| text.parse().map_err(|_| NotAName);
                Some((number(device)?, number(inode)?))
            }
        };
        let is_whole = parts.next().is_none();
        let is_unix = matches!(address, ListenAddress::Unix(_));
        if !is_whole || is_unix != file.is_some() {
            return Err(NotAName);
        }
        Ok(Self {
            seat,
            address,
            file,
        })
    }
}

/// Undoes the `%` of a name.
fn plain(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let value = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> ListenAddress {
        ListenAddress::Tcp(address.parse().unwrap())
    }

    fn unix(path: &str) -> ListenAddress {
        ListenAddress::Unix(path.into())
    }

    #[test]
    fn names_are_read_back_and_have_no_letter_that_systemd_refuses() {
        let names = [
            (0, tcp("127.0.0.1:6432"), None, "0@127.0.0.1%3A6432"),
            (7, tcp("[::]:0"), None, "7@[%3A%3A]%3A0"),
            (
                1,
                unix("/run/a b/ü@:%"),
                Some((26, 4711)),
                "1@/run/a%20b/%C3%BC%40%3A%25@26-4711",
            ),
        ];
        for (seat, address, file, written) in names {
            let name = SocketName {
                seat,
                address,
                file,
            };
            assert_eq!(name.to_string(), written);
            assert_eq!(written.parse(), Ok(name));
        }
    }

    #[test]
    fn other_labels_are_no_names() {
        for label in [
            "",
            "postgres",
            "sallyport.socket",
            "unknown",
            "@127.0.0.1%3A6432",
            "0@relative@1-2",
            "0@/run/s",
            "0@/run/s@1",
            "0@127.0.0.1%3A6432@1-2",
            "0@127.0.0.1%3A6432@1-2@",
            "0@127.0.0.1%3",
            "0@127.0.0.1%3G6432",
            "70000@127.0.0.1%3A6432",
        ] {
            assert_eq!(label.parse::<SocketName>(), Err(NotAName), "{label}");
        }
    }

    fn passed(sockets: Vec<OwnedFd>, names: &[&str]) -> PassedSockets {
        let descriptors = sockets.into_iter().map(Some).collect();
        PassedSockets::new(descriptors, names.iter().copied())
    }

    #[test]
    fn a_socket_is_taken_for_what_it_is_and_not_for_what_it_is_called() {
        let (here, elsewhere) = (tcp("127.0.0.1:0"), tcp("127.0.0.2:0"));
        let shared = || runtime::listen_socket(&here).unwrap();
        let alone: OwnedFd = std::net::TcpListener::bind("127.0.0.1:0").unwrap().into();
        let connected: OwnedFd = std::os::unix::net::UnixStream::pair().unwrap().0.into();
        let mut sockets = passed(
            vec![shared(), alone, connected, shared(), shared()],
            &[
                "1@127.0.0.1%3A0",
                "2@127.0.0.1%3A0",
                "3@127.0.0.1%3A0",
                "4@127.0.0.2%3A0",
                "0@127.0.0.1%3A0",
            ],
        );
        assert!(sockets.take(&elsewhere).is_empty());
        let taken = sockets.take(&here);
        let seats: Vec<u16> = taken
            .iter()
            .map(|socket| socket.name.as_ref().unwrap().seat)
            .collect();
        assert_eq!(seats, [0, 1]);
        let mut left = sockets.discard();
        left.sort();
        assert_eq!(
            left,
            ["2@127.0.0.1%3A0", "3@127.0.0.1%3A0", "4@127.0.0.2%3A0"]
        );
    }

    #[test]
    fn a_socket_units_socket_is_taken_by_its_address() {
        let socket = runtime::listen_socket(&tcp("127.0.0.1:0")).unwrap();
        let listening = runtime::listening(socket.as_fd()).unwrap();
        let mut sockets = passed(vec![socket], &["postgres"]);
        assert!(sockets.take(&tcp("127.0.0.1:0")).is_empty());
        assert_eq!(sockets.take(&listening.address).len(), 1);
        assert!(sockets.discard().is_empty());
    }
}
