//! What a process of this machine uses while it is measured: CPU and memory, from `/proc`.
//!
//! It looks; it does not signal, trace or limit the process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::run::ProcessUse;

/// How often the process is looked at between begin and end. What a thread used after the last
/// look at it is lost when it ends, and a look costs about 20 µs for each thread.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Length of a tick in `/proc/PID/stat`, which Linux has fixed at 100 a second for user space.
const TICK_NANOSECONDS: u64 = 10_000_000;

/// Why a process cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("nothing of this machine listens on {0}")]
    NobodyListens(String),
    #[error(
        "the process that listens on {0} belongs to another user: run as that user or root, or \
         name it by --process"
    )]
    Hidden(String),
    #[error(
        "processes {} listen on {place}: name one by --process",
        list(processes)
    )]
    Several { place: String, processes: Vec<u32> },
    #[error("process {0} is not running, or may not be looked at")]
    Gone(u32),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

fn list(processes: &[u32]) -> String {
    let numbers: Vec<String> = processes.iter().map(u32::to_string).collect();
    numbers.join(", ")
}

/// Whether an address belongs to this machine.
#[must_use]
pub fn is_local(address: IpAddr) -> bool {
    // The kernel lets nobody bind an address that is not its own.
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

/// Whether anybody listens on a TCP address of this machine.
#[must_use]
pub fn is_taken(address: SocketAddr) -> bool {
    !listeners(address).is_empty()
}

/// The process that listens on a TCP address of this machine.
///
/// # Errors
/// When there is none, it cannot be told, or several share the address.
pub fn listening_on(address: SocketAddr) -> Result<u32, ProcessError> {
    owner(&listeners(address), address.to_string())
}

/// Inodes of the sockets that listen there.
fn listeners(address: SocketAddr) -> Vec<u64> {
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // A kernel without IPv6 has no table of it.
        if let Ok(text) = fs::read_to_string(table) {
            sockets.extend(text.lines().filter_map(|line| listener(line, address)));
        }
    }
    sockets
}

/// The process that listens on a Unix socket.
///
/// # Errors
/// As [`listening_on`].
pub fn listening_at(socket: &Path) -> Result<u32, ProcessError> {
    let place = socket.display().to_string();
    let table = Path::new("/proc/net/unix");
    let text = fs::read_to_string(table).map_err(|source| ProcessError::Read {
        path: table.to_owned(),
        source,
    })?;
    // Num RefCount Protocol Flags Type St Inode Path; flag 0x10000 is "accepts connections".
    let sockets: Vec<u64> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
            let inode = fields.nth(2)?.parse().ok()?;
            (flags & 0x1_0000 != 0 && fields.next() == Some(place.as_str())).then_some(inode)
        })
        .collect();
    owner(&sockets, place)
}

/// The inode of a line of `/proc/net/tcp` that listens on `address`, or on its port everywhere.
fn listener(line: &str, address: SocketAddr) -> Option<u64> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace();
    let (ip, port) = fields.nth(1)?.split_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = kernel_address(ip)?;
    let same = ip.is_unspecified() || ip.to_canonical() == address.ip().to_canonical();
    (state == LISTEN && port == address.port() && same).then_some(inode)
}

/// An address as the kernel prints it: words of 32 bits, each in the byte order of the machine.
fn kernel_address(hex: &str) -> Option<IpAddr> {
    let mut octets = Vec::with_capacity(16);
    for at in (0..hex.len()).step_by(8) {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        octets.extend(word.to_ne_bytes());
    }
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The one process that holds one of the sockets. The service manager may hold it as well.
fn owner(sockets: &[u64], place: String) -> Result<u32, ProcessError> {
    if sockets.is_empty() {
        return Err(ProcessError::NobodyListens(place));
    }
    let links: Vec<PathBuf> = sockets
        .iter()
        .map(|inode| PathBuf::from(format!("socket:[{inode}]")))
        .collect();
    let holds = |process: &u32| {
        let folder = format!("/proc/{process}/fd");
        // Processes end while one looks, and others' descriptors may not be read.
        let Ok(descriptors) = fs::read_dir(folder) else {
            return false;
        };
        descriptors
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .any(|link| links.contains(&link))
    };
    let processes = fs::read_dir("/proc").map_err(|source| ProcessError::Read {
        path: PathBuf::from("/proc"),
        source,
    })?;
    let mut owners: Vec<u32> = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(holds)
        .collect();
    if owners.len() > 1 {
        owners.retain(|process| *process != 1);
    }
    match owners.as_slice() {
        [] => Err(ProcessError::Hidden(place)),
        [process] => Ok(*process),
        _ => Err(ProcessError::Several {
            place,
            processes: owners,
        }),
    }
}

/// Looks at a process from [`Watch::begin`] to [`Watch::end`], on a thread of its own.
#[derive(Debug)]
pub struct Watch {
    process: u32,
    resident_before: u64,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Looks>,
}

impl Watch {
    /// Notes the process's memory before anything is asked of it.
    ///
    /// # Errors
    /// When it is not running.
    pub fn new(process: u32) -> Result<Self, ProcessError> {
        let resident_before = resident(process).ok_or(ProcessError::Gone(process))?;
        Ok(Self {
            process,
            resident_before,
            running: None,
        })
    }

    /// Counts from here on.
    ///
    /// # Errors
    /// When the process is gone, or no thread can be started.
    pub fn begin(&mut self) -> Result<(), ProcessError> {
        let mut looks = Looks::begin(self.process)?;
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("process-watch".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                    looks.look();
                }
                looks.look();
                looks
            })
            .map_err(ProcessError::Thread)?;
        self.running = Some(Running { stop, thread });
        Ok(())
    }

    /// What was used since [`Watch::begin`].
    ///
    /// # Errors
    /// When the process ended meanwhile, or nothing was begun.
    pub fn end(&mut self) -> Result<ProcessUse, ProcessError> {
        let gone = ProcessError::Gone(self.process);
        let Some(running) = self.running.take() else {
            return Err(gone);
        };
        drop(running.stop);
        let Ok(looks) = running.thread.join() else {
            return Err(gone);
        };
        if Stat::of(self.process).map(|stat| stat.started) != Some(looks.at_begin.started) {
            return Err(gone);
        }
        Ok(ProcessUse {
            process_id: self.process,
            cpu: looks.cpu(),
            resident_before: self.resident_before,
            resident_peak: looks.resident_peak,
            proportional: proportional(self.process),
        })
    }
}

/// What was seen of a process so far.
#[derive(Debug)]
struct Looks {
    process: u32,
    at_begin: Stat,
    at_last: Stat,
    threads: BTreeMap<u32, Thread>,
    /// Of threads whose number was taken by a new one.
    replaced: u64,
    resident_peak: u64,
}

/// Nanoseconds on a CPU.
#[derive(Debug, Clone, Copy)]
struct Thread {
    at_begin: u64,
    at_last: u64,
}

impl Looks {
    fn begin(process: u32) -> Result<Self, ProcessError> {
        let stat = Stat::of(process).ok_or(ProcessError::Gone(process))?;
        let mut looks = Self {
            process,
            at_begin: stat,
            at_last: stat,
            threads: BTreeMap::new(),
            replaced: 0,
            resident_peak: 0,
        };
        looks.look();
        for thread in looks.threads.values_mut() {
            thread.at_begin = thread.at_last;
        }
        Ok(looks)
    }

    fn look(&mut self) {
        for (id, cpu) in threads(self.process) {
            let thread = self.threads.entry(id).or_insert(Thread {
                at_begin: 0,
                at_last: cpu,
            });
            if cpu < thread.at_last {
                self.replaced += thread.at_last - thread.at_begin;
                thread.at_begin = 0;
            }
            thread.at_last = cpu;
        }
        self.at_last = Stat::of(self.process).unwrap_or(self.at_last);
        let resident = resident(self.process).unwrap_or(0);
        self.resident_peak = self.resident_peak.max(resident);
    }

    /// Nanoseconds of all threads, those that ended among them.
    ///
    /// The kernel keeps those exactly for living threads, and in ticks for the whole process. A
    /// process that used more by the ticks than their rounding explains had threads that came and
    /// went between two looks.
    fn cpu(&self) -> u64 {
        let seen = self.threads.values();
        let seen: u64 = seen.map(|thread| thread.at_last - thread.at_begin).sum();
        let seen = seen + self.replaced;
        let ticks = self.at_last.ticks.saturating_sub(self.at_begin.ticks);
        let rounded = ticks * TICK_NANOSECONDS;
        if rounded > seen + 4 * TICK_NANOSECONDS {
            rounded
        } else {
            seen
        }
    }
}

/// Nanoseconds on a CPU of each living thread.
fn threads(process: u32) -> Vec<(u32, u64)> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    tasks
        .filter_map(|task| {
            let task = task.ok()?;
            let id = task.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((id, text.split_whitespace().next()?.parse().ok()?))
        })
        .collect()
}

/// What `/proc/PID/stat` says of a whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    /// CPU in user and kernel mode, ended threads among it.
    ticks: u64,
    /// Tells processes apart that had the same number.
    started: u64,
}

impl Stat {
    fn of(process: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
    }

    /// Spec: proc_pid_stat(5): fields 14, 15 and 22. The name, field 2, may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, after_name) = text.rsplit_once(") ")?;
        let mut fields = after_name.split(' ').skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(Self {
            ticks: user + system,
            started: fields.nth(6)?.parse().ok()?,
        })
    }
}

fn resident(process: u32) -> Option<u64> {
    kibibytes(&format!("/proc/{process}/status"), "VmRSS:")
}

fn proportional(process: u32) -> Option<u64> {
    kibibytes(&format!("/proc/{process}/smaps_rollup"), "Pss:")
}

/// A line of the form `NAME   123 kB`, in bytes.
fn kibibytes(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let count: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(count * 1024)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_listening_socket_leads_to_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(listening_on(address).unwrap(), std::process::id());
        assert!(is_taken(address));
        drop(listener);
        assert!(!is_taken(address));
        assert!(matches!(
            listening_on(address),
            Err(ProcessError::NobodyListens(_))
        ));
    }

    #[test]
    fn a_socket_that_listens_everywhere_is_found_by_one_address() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(listening_on(address).unwrap(), std::process::id());
    }

    #[test]
    fn a_unix_socket_leads_to_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listening_at(&path).unwrap(), std::process::id());
        assert!(matches!(
            listening_at(&folder.path().join("other")),
            Err(ProcessError::NobodyListens(_))
        ));
    }

    #[test]
    fn loopback_is_local_and_a_documentation_address_is_not() {
        assert!(is_local([127, 0, 0, 1].into()));
        assert!(!is_local([192, 0, 2, 1].into()));
    }

    #[test]
    fn the_kernels_table_is_read() {
        let line = "   1: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000 \
                    33 0 4711 1 0000000000000000 100 0 0 10 0";
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        if cfg!(target_endian = "little") {
            assert_eq!(listener(line, at("127.0.0.1:5432")), Some(4711));
            assert_eq!(listener(line, at("[::ffff:127.0.0.1]:5432")), Some(4711));
        }
        assert_eq!(listener(line, at("127.0.0.1:5433")), None);
        assert_eq!(listener(line, at("127.0.0.2:5432")), None);
        let connected = line.replace(" 0A ", " 01 ");
        assert_eq!(listener(&connected, at("127.0.0.1:5432")), None);
    }

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_move_the_fields() {
        let text = "42 (a) b) (c) S 1 42 42 0 -1 4194304 1 2 3 4 70 30 0 0 20 0 1 0 987 1 2";
        assert_eq!(
            Stat::parse(text),
            Some(Stat {
                ticks: 100,
                started: 987
            })
        );
    }

    #[test]
    fn a_process_that_does_not_run_is_no_measurement() {
        // Above the largest process number of any kernel.
        assert!(matches!(
            Watch::new(u32::MAX),
            Err(ProcessError::Gone(u32::MAX))
        ));
    }
}
