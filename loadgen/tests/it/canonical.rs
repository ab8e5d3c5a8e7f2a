//! Without a command: the appliance itself is measured, and what is missing is said.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::appliance::wait_until;
use crate::runs::undisturbed;

const LOADGEN: &str = env!("CARGO_BIN_EXE_sallyport-loadgen");

/// The program `sallyport`, which the tests of the workspace build beside this one.
fn sallyport() -> PathBuf {
    let program = Path::new(LOADGEN).with_file_name("sallyport");
    assert!(program.exists(), "first: cargo build -p appliance");
    program
}

/// A configuration without targets, and the appliance once it was started.
struct Appliance {
    directory: TempDir,
    running: Option<Child>,
}

impl Appliance {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let text = "[listen]\npostgres = [\"127.0.0.1:0\"]\nconsole = \"off\"\n";
        std::fs::write(directory.path().join("sallyport.toml"), text).unwrap();
        Self {
            directory,
            running: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(sallyport())
            .arg("--config")
            .arg(self.path("sallyport.toml"))
            .arg("--state-directory")
            .arg(self.path("state"))
            .arg("--runtime-directory")
            .arg(self.path("run"));
        command
    }

    fn start(&mut self) {
        let running = self
            .command()
            .arg("serve")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.running = Some(running);
        let socket = self.socket();
        wait_until("the admin socket", || UnixStream::connect(&socket).is_ok());
    }

    fn socket(&self) -> PathBuf {
        self.path("run").join("admin.sock")
    }

    fn measure(&self) -> Command {
        let mut command = Command::new(LOADGEN);
        command.arg("--admin-socket").arg(self.socket());
        command
    }

    /// Runs `sallyport ...` as it was printed, at another port.
    fn follow(&self, printed: &str, port: u16) {
        let printed = printed.replace(":6439", &format!(":{port}"));
        let mut words = printed.split_whitespace();
        assert_eq!(words.next(), Some("sallyport"), "{printed}");
        let done = self.command().args(words).output().unwrap();
        assert!(done.status.success(), "{printed}: {done:?}");
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            running.kill().unwrap();
            running.wait().unwrap();
        }
    }
}

/// The sentence and the command of a run that could not be made.
fn obstacle(output: &Output) -> (String, String) {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let (sentence, command) = said.trim_end().split_once("\n  ").unwrap();
    (sentence.to_owned(), command.to_owned())
}

#[test]
fn what_is_missing_is_said_with_the_command_that_adds_it_until_it_measures() {
    let _one = undisturbed();
    let mut appliance = Appliance::new();
    let (sentence, command) = obstacle(&appliance.measure().output().unwrap());
    assert!(sentence.contains("no appliance answers at"), "{sentence}");
    assert_eq!(command, "systemctl start sallyport");

    appliance.start();
    let (sentence, add) = obstacle(&appliance.measure().output().unwrap());
    assert!(sentence.contains("no target called loadgen"), "{sentence}");
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    // The rule comes separately, to see it missed.
    appliance.follow(&add.replace("--allow-read loadgen", ""), port);
    let (sentence, allow) = obstacle(&appliance.measure().output().unwrap());
    assert!(sentence.contains("policy does not let"), "{sentence}");
    appliance.follow(&allow, port);

    let report = first_round(&appliance);
    let runs = report["runs"].as_array().unwrap();
    let names: Vec<&str> = runs
        .iter()
        .map(|run| run["path"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["direct", "sallyport"]);
    for run in runs {
        let counts = &run["counts"];
        assert!(counts["due"].as_u64() > Some(1_500), "{counts}");
        assert_eq!(counts["failed"], serde_json::json!({}));
        assert_eq!(counts["answered"], counts["due"]);
        assert_eq!(run["verification"]["mismatches"], 0);
    }
    let process = &runs[1]["process"];
    let pid = appliance.running.as_ref().unwrap().id();
    assert_eq!(process["process_id"], pid);
    assert!(
        process["cpu_ns_per_request"].as_f64() > Some(1_000.0),
        "{process}"
    );
    let added = &report["comparison"]["pairs"][0]["metrics"]["p50"]["difference"]["value"];
    assert!(added.as_f64() > Some(1_000.0), "{added}");
}

/// The report of a run that is interrupted when both paths were measured once.
fn first_round(appliance: &Appliance) -> serde_json::Value {
    let mut run = appliance
        .measure()
        .args(["--json", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(run.stderr.take().unwrap());
    let mut said = Vec::new();
    for line in stderr.lines() {
        let line = line.unwrap();
        if line.starts_with("sallyport 1/6") {
            let pid = Pid::from_raw(run.id().try_into().unwrap()).unwrap();
            kill_process(pid, Signal::INT).unwrap();
        }
        said.push(line);
    }
    let output = run.wait_with_output().unwrap();
    // On a machine that is busy the figures are INVALID, and there.
    assert!(matches!(output.status.code(), Some(0 | 4)), "{said:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}
