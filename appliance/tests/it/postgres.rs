//! A private PostgreSQL server for one test: own data directory, free port, stopped on drop.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use crate::appliance::wait_until;

/// The superuser of every test server; it may connect by the Unix socket without a password.
pub const SUPERUSER: &str = "postgres";

/// Where Debian keeps each version's programs.
const DEBIAN: &str = "/usr/lib/postgresql";

const START_DEADLINE: Duration = Duration::from_secs(20);

/// `nobody` and `nogroup` of Debian: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// How a server differs from one that trusts everybody on loopback.
#[derive(Default)]
pub struct Options {
    /// `None`: the newest that Debian has installed.
    pub version: Option<Version>,
    /// Lines of `pg_hba.conf` for TCP, first match wins; empty means trust on loopback.
    pub hba: Vec<String>,
    /// Lines of `pg_ident.conf`.
    pub ident: Vec<String>,
    /// Settings by name, after the defaults of the harness.
    pub configuration: Vec<(&'static str, String)>,
    pub tls: Option<ServerTls>,
    /// The port, where two servers of different addresses need the same one.
    pub port: Option<u16>,
    /// Run by the superuser in database `postgres` once the server is up.
    pub setup: String,
}

pub struct ServerTls {
    pub chain_pem: String,
    pub key_pem: String,
    /// Roots of the client certificates that the server accepts.
    pub client_roots_pem: Option<String>,
}

pub struct Server {
    version: Version,
    directory: TempDir,
    port: u16,
    process: Option<Process>,
    configuration: Vec<OsString>,
}

struct Process {
    child: Child,
    log_lines: Receiver<String>,
}

impl Server {
    pub fn start(options: Options) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("sallyport-pg.")
            .tempdir()
            .unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut server = Self {
            version: options.version.unwrap_or_else(Version::newest),
            directory,
            port: options.port.unwrap_or_else(free_port),
            process: None,
            configuration: Vec::new(),
        };
        run(Command::new("cp")
            .arg("-a")
            .arg(template(server.version))
            .arg(server.data()));
        server.lay_out(&options);
        server.resume();
        if !options.setup.is_empty() {
            server.psql(&options.setup);
        }
        server
    }

    /// A streaming standby of a running `primary`, with the same `pg_hba.conf`.
    pub fn standby_of(primary: &Self, options: &Options) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("sallyport-pg.")
            .tempdir()
            .unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        own(directory.path());
        let mut server = Self {
            version: primary.version,
            directory,
            port: free_port(),
            process: None,
            configuration: Vec::new(),
        };
        run(unprivileged(&binary_of(primary.version, "pg_basebackup"))
            .args(["-R", "-X", "stream", "-c", "fast", "--no-sync"])
            .args(["-U", SUPERUSER, "-p", &primary.port.to_string(), "-h"])
            .arg(primary.directory())
            .arg("-D")
            .arg(server.data())
            .current_dir("/"));
        server.lay_out(options);
        server.resume();
        server
    }

    /// Makes the standby a primary, and waits until it is one.
    pub fn promote(&self) {
        run(unprivileged(&binary_of(self.version, "pg_ctl"))
            .args(["promote", "-w", "-D"])
            .arg(self.data())
            .current_dir("/"));
    }

    /// Stops all processes of the server, as a machine that hangs would look to its clients.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        let child = &self.process.as_ref().expect("the server runs").child;
        let postmaster = Pid::from_child(child);
        // First, so that it starts no further ones meanwhile.
        kill_process(postmaster, signal).unwrap();
        let list = format!("/proc/{0}/task/{0}/children", child.id());
        for backend in fs::read_to_string(list).unwrap().split_whitespace() {
            let backend = backend.parse().ok().and_then(Pid::from_raw).unwrap();
            // It may have ended meanwhile.
            let _ = kill_process(backend, signal);
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Holds `data`, `log` and the Unix socket.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn socket_path(&self) -> PathBuf {
        self.directory().join(format!(".s.PGSQL.{}", self.port))
    }

    /// For libpq, over TCP.
    pub fn connection_string(&self, user: &str, database: &str) -> String {
        format!(
            "host=127.0.0.1 port={} user={user} dbname={database}",
            self.port
        )
    }

    /// Everything that the server logged up to now, over all restarts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap()
    }

    pub fn log_path(&self) -> PathBuf {
        self.directory().join("log")
    }

    /// Runs `sql` as the superuser in database `postgres`; see [`Self::psql_in`].
    pub fn psql(&self, sql: &str) -> String {
        self.psql_in("postgres", sql)
    }

    /// Runs `sql` as the superuser; each row is a line with fields separated by `|`.
    pub fn psql_in(&self, database: &str, sql: &str) -> String {
        let output = Command::new(binary("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(["-d", database])
            .args(["-U", SUPERUSER, "-p", &self.port.to_string(), "-c", sql])
            .arg("-h")
            .arg(self.directory())
            .env_remove("PGOPTIONS")
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "psql: {errors}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// Waits until the server logs a line that contains `text`, looking only at lines that no
    /// earlier call has looked at.
    pub fn wait_for_log(&self, text: &str) {
        self.process
            .as_ref()
            .expect("the server runs")
            .wait_for_log(text);
    }

    /// Ends the server as a crash would look to its clients: connections are reset or closed.
    pub fn stop(&mut self) {
        self.signal(Signal::QUIT);
    }

    /// Ends the server as the kernel does when memory is short; its backends notice by themselves.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        // What shared memory and lock file they have is theirs until then.
        wait_until("its backends to end", || self.is_alone());
    }

    /// Of the postmaster.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("the server runs").child.id()
    }

    /// Whether no process has its data directory as working directory.
    fn is_alone(&self) -> bool {
        let processes = fs::read_dir("/proc").unwrap();
        let mut folders =
            processes.filter_map(|entry| fs::read_link(entry.ok()?.path().join("cwd")).ok());
        !folders.any(|folder| folder == self.data())
    }

    /// Ends the server as `systemctl stop` does: sessions get FATAL 57P01.
    pub fn stop_fast(&mut self) {
        self.signal(Signal::INT);
    }

    /// Starts the stopped server again on the same port and data.
    pub fn resume(&mut self) {
        assert!(self.process.is_none());
        let postgres = binary_of(self.version, "postgres");
        let process = Process::spawn(
            &postgres,
            &self.data(),
            &self.log_path(),
            &self.configuration,
        );
        // Of a standby: "ready to accept read-only connections".
        process.wait_for_log("database system is ready to accept");
        self.process = Some(process);
    }

    fn signal(&mut self, signal: Signal) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        kill_process(Pid::from_child(&process.child), signal).unwrap();
        process.child.wait().unwrap();
    }

    fn data(&self) -> PathBuf {
        self.directory().join("data")
    }

    fn lay_out(&mut self, options: &Options) {
        own(self.directory());
        let mut hba = vec!["local all,replication postgres trust".to_owned()];
        if options.hba.is_empty() {
            hba.push("host all all 127.0.0.1/32 trust".into());
            hba.push("host all all ::1/128 trust".into());
        }
        hba.extend(options.hba.iter().cloned());
        self.write("pg_hba.conf", &hba.join("\n"));
        self.write("pg_ident.conf", &options.ident.join("\n"));

        self.set("port", &self.port.to_string());
        self.set("listen_addresses", "127.0.0.1,::1");
        self.set(
            "unix_socket_directories",
            &self.directory().display().to_string(),
        );
        self.set("fsync", "off");
        self.set("shared_buffers", "16MB");
        self.set("log_line_prefix", "%p %u %a ");
        self.set("log_connections", "on");
        self.set("log_disconnections", "on");
        if let Some(tls) = &options.tls {
            self.write("server.crt", &tls.chain_pem);
            self.write("server.key", &tls.key_pem);
            self.set("ssl", "on");
            if let Some(roots) = &tls.client_roots_pem {
                self.write("client-roots.crt", roots);
                self.set("ssl_ca_file", "client-roots.crt");
            }
        }
        for (name, value) in &options.configuration {
            self.set(name, value);
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.configuration
            .extend(["-c".into(), format!("{name}={value}").into()]);
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        fs::write(&path, format!("{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        own(&path);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Process {
    /// The child is started on the thread that follows its log, since the kernel ends it when the
    /// thread that started it ends: a killed test leaves no server behind.
    fn spawn(postgres: &Path, data: &Path, log: &Path, configuration: &[OsString]) -> Self {
        let mut command = unprivileged(postgres);
        command.arg("-D").arg(data).args(configuration);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let (child_sender, child) = mpsc::channel();
        let (line_sender, log_lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut child = command.spawn().unwrap();
            let stderr = child.stderr.take().unwrap();
            child_sender.send(child).unwrap();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writeln!(log, "{line}").unwrap();
                // A test that has ended no longer follows the log.
                let _ = line_sender.send(line);
            }
        });
        Self {
            child: child.recv().unwrap(),
            log_lines,
        }
    }

    fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + START_DEADLINE;
        let mut seen = Vec::new();
        while let Ok(line) = self.log_lines.recv_timeout(deadline - Instant::now()) {
            if line.contains(text) {
                return;
            }
            seen.push(line);
        }
        panic!("no log line contains {text:?}: {seen:#?}");
    }
}

/// A port that nobody listens on, and that no other test of this process is given.
///
/// Below the ephemeral range: otherwise a client's own port could take it before its server does.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 17_000;
    // Apart, so that test processes that start one after the other do not meet: what one of them
    // is given, another one takes until it is listened on.
    const APART: u32 = 61;
    let start = std::process::id().wrapping_mul(APART) % u32::from(COUNT);
    let start = u16::try_from(start).unwrap();
    for _ in 0..COUNT {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(next) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// A major version of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// The newest that Debian has installed.
    pub fn newest() -> Self {
        let versions = fs::read_dir(DEBIAN).expect("the Debian package postgresql is installed");
        versions
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .max()
            .map(Self)
            .expect("the Debian package postgresql is installed")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Path of a program of the newest PostgreSQL that Debian has installed.
pub fn binary(name: &str) -> PathBuf {
    binary_of(Version::newest(), name)
}

/// Path of a program: Debian's, or else what `.ci/prepare test-matrix` put into the cache.
pub fn binary_of(version: Version, name: &str) -> PathBuf {
    let debian = Path::new(DEBIAN).join(version.to_string());
    let folder = if debian.exists() {
        debian
    } else {
        let others = OTHERS.get().cloned();
        let others = others.unwrap_or_else(|| cache().join("postgres"));
        others.join(version.to_string())
    };
    let path = folder.join("bin").join(name);
    assert!(
        path.exists(),
        "{} is missing: run .ci/prepare test-matrix",
        path.display()
    );
    path
}

/// Puts a copy of every version in the cache into `folder`, and has programs run from there.
///
/// The cache is in a home directory, which `nobody` may not enter.
pub fn stage_others(folder: &Path) {
    run(Command::new("cp")
        .arg("-aT")
        .arg(cache().join("postgres"))
        .arg(folder));
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    OTHERS.set(folder.to_owned()).expect("staged once");
}

/// Where the versions are that Debian has not, if not in the cache.
static OTHERS: OnceLock<PathBuf> = OnceLock::new();

/// Where `.ci/prepare` puts what tests need.
pub fn cache() -> PathBuf {
    if let Some(cache) = std::env::var_os("SALLYPORT_CACHE") {
        return cache.into();
    }
    let home = std::env::var_os("HOME").expect("HOME is set");
    let caches = std::env::var_os("XDG_CACHE_HOME");
    caches
        .map_or_else(|| Path::new(&home).join(".cache"), PathBuf::from)
        .join("sallyport")
}

/// A data directory as initdb left it, made once and kept among the build products.
fn template(version: Version) -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{version}-template"));
    if kept.exists() {
        return kept;
    }
    let fresh = tempfile::Builder::new()
        .prefix("sallyport-initdb.")
        .tempdir()
        .unwrap();
    own(fresh.path());
    let data = fresh.path().join("data");
    run(unprivileged(&binary_of(version, "initdb"))
        .args([
            "--no-sync",
            "--no-instructions",
            "--wal-segsize=1",
            "--auth=trust",
        ])
        .args([
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--username",
            SUPERUSER,
            "-D",
        ])
        .arg(&data)
        .current_dir("/"));
    // Named after the directory, which no other thread or process has.
    let unique = fresh.path().extension().expect("a suffix").to_owned();
    let staged = kept.with_extension(unique);
    run(Command::new("cp").arg("-a").arg(&data).arg(&staged));
    if fs::rename(&staged, &kept).is_err() {
        // Another was faster; its template is as good.
        fs::remove_dir_all(&staged).unwrap();
    }
    kept
}

fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if getuid().is_root() {
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
    }
    command.arg("--").arg(program);
    command
}

fn own(path: &Path) {
    if getuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}
