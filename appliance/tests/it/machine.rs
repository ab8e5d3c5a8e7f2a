//! A machine of its own for the appliance as installed: default paths, default ports, nothing there.
//!
//! A network and a mount namespace with an empty `/etc/sallyport`, `/var/lib` and `/run`, so that a
//! test types what a person types.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use crate::appliance::BINARY;

/// `/etc` holds what name look-ups and TLS need; the rest is empty. The holder ends with its
/// standard input, and so with the test.
const SET_UP: &str = r#"
    ip link set lo up
    root=$1
    mkdir "$root/etc" "$root/lib" "$root/run"
    for kept in passwd group nsswitch.conf hosts ld.so.cache ssl alternatives; do
        [ ! -e "/etc/$kept" ] || cp -a "/etc/$kept" "$root/etc/"
    done
    mount --bind "$root/etc" /etc
    mount --bind "$root/lib" /var/lib
    mount -t tmpfs none /run
    echo up
    read -r _ || true
"#;

pub struct Machine {
    directory: TempDir,
    holder: Child,
    _held: ChildStdin,
    running: Vec<Child>,
}

impl Machine {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("sallyport-machine.")
            .tempdir()
            .unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net"]);
        if !getuid().is_root() {
            command.args(["--map-root-user", "--user"]);
        }
        let mut holder = command
            .args(["sh", "-ec", SET_UP, "sh"])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let held = holder.stdin.take().unwrap();
        let mut said = String::new();
        let mut output = BufReader::new(holder.stdout.take().unwrap());
        output.read_line(&mut said).unwrap();
        assert_eq!(said, "up\n");
        Self {
            directory,
            holder,
            _held: held,
            running: Vec::new(),
        }
    }

    /// A command that runs there.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        if !getuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        let holder = self.holder.id().to_string();
        command
            .args(["--mount", "--net", "--target", &holder, "--"])
            .arg(program.as_ref());
        for variable in ["SALLYPORT_CONFIG", "SALLYPORT_TOKEN", "STATE_DIRECTORY"] {
            command.env_remove(variable);
        }
        command
    }

    /// `sallyport ARGUMENTS`, as typed.
    pub fn sallyport(&self, arguments: &[&str]) -> Output {
        self.command(BINARY).args(arguments).output().unwrap()
    }

    /// The same with something at its standard input.
    pub fn sallyport_fed(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(BINARY)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    /// The same, and it must succeed: what it printed.
    pub fn text(&self, arguments: &[&str]) -> String {
        let output = self.sallyport(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "sallyport {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Where a path of the machine is outside: below `/etc` and `/var/lib`.
    pub fn path(&self, path: &str) -> PathBuf {
        let inside = path.strip_prefix("/etc/").map(|rest| ("etc", rest));
        let inside = inside.or_else(|| path.strip_prefix("/var/lib/").map(|rest| ("lib", rest)));
        let (folder, rest) = inside.expect("a path that is kept");
        self.directory.path().join(folder).join(rest)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// `sallyport serve`, until it says that it is ready: all that it said.
    pub fn serve(&mut self, arguments: &[&str]) -> String {
        let log = File::create(self.directory.path().join("log")).unwrap();
        let mut child = self
            .command(BINARY)
            .args(arguments)
            .arg("serve")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        // One write, so it arrives whole.
        let mut said = [0; 4096];
        let length = child.stdout.take().unwrap().read(&mut said).unwrap();
        self.running.push(child);
        let said = String::from_utf8(said[..length].to_vec()).unwrap();
        assert!(said.starts_with("sallyport: ready;"), "{}", self.log());
        said
    }

    /// What the last one that was started has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Ends the last one that was started, as `systemctl stop` does.
    pub fn stop(&mut self) {
        let mut child = self.running.pop().expect("it runs");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in self.running.iter_mut().chain([&mut self.holder]) {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
