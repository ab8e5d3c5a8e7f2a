//! The real servers that tests run against: the appliance's own harness for PostgreSQL, and PgBouncer.

#[path = "../../../appliance/tests/it/postgres.rs"]
pub(crate) mod postgres;

#[path = "../../../appliance/tests/it/certificates.rs"]
pub(crate) mod certificates;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use postgres::free_port;

/// PgBouncer in front of one server, in session mode, with the users of `userlist`.
pub(crate) struct PgBouncer {
    child: Child,
    pub(crate) port: u16,
    _directory: TempDir,
}

/// `nobody` of Debian: PgBouncer refuses to run as root.
const NOBODY: u32 = 65534;

impl PgBouncer {
    /// `auth` is its `auth_type`.
    pub(crate) fn before(server: u16, auth: &str, userlist: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let path = |name: &str| directory.path().join(name);
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = {auth}\nauth_file = {}\n\
             pool_mode = session\n",
            path("users").display()
        );
        fs::write(path("pgbouncer.ini"), settings).unwrap();
        fs::write(path("users"), userlist).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]);
        if rustix::process::getuid().is_root() {
            for file in ["pgbouncer.ini", "users"] {
                chown(path(file), Some(NOBODY), Some(NOBODY)).unwrap();
            }
            command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
        }
        let log = fs::File::create(path("log")).unwrap();
        let child = command
            .args(["--", "/usr/sbin/pgbouncer"])
            .arg(path("pgbouncer.ini"))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        crate::appliance::wait_until("PgBouncer to listen", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            child,
            port,
            _directory: directory,
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
