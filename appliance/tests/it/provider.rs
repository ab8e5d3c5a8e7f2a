//! A certified OpenID provider on HTTPS, with a certificate of the test's own authority.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::postgres::cache;
use crate::wire::PATIENCE;

/// Ends with its standard input, and so with this value.
pub struct Provider {
    directory: TempDir,
    port: u16,
    input: ChildStdin,
    answers: Receiver<Value>,
}

impl Provider {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("an authority of the provider's own");
        let certified = authority.server(&["127.0.0.1"]);
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        file("ca.pem", &authority.certificate_pem);
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/oidc/provider.mjs");
        let mut command = Command::new("node");
        command
            .arg(program)
            .arg(file("certificate.pem", &certified.chain_pem))
            .arg(file("key.pem", &certified.key_pem))
            .env("SALLYPORT_CLIENTS", cache().join("clients"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("node runs");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let answer = serde_json::from_str(&line).expect("an answer in JSON");
                // A test that has ended asks nothing more.
                let _ = sender.send(answer);
            }
            child.wait().unwrap();
        });
        let mut provider = Self {
            directory,
            port: 0,
            input,
            answers,
        };
        let port = provider.answer()["port"].as_u64().expect("a port");
        provider.port = u16::try_from(port).unwrap();
        provider
    }

    pub fn issuer(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// An `[[issuer]]` for it, with more keys as TOML lines.
    pub fn configuration(&self, keys: &str) -> String {
        format!(
            r#"
[builtin_issuer]
group_prefix = "local:"

[[issuer]]
name = "corp"
issuer = "{}"
audience = ["sallyport"]
ca = "{}"
group_prefix = "corp:"
{keys}
"#,
            self.issuer(),
            self.ca().display()
        )
    }

    /// Has it do something, and waits until it has.
    pub fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.input, "{question}").unwrap();
        let answer = self.answer();
        assert!(answer.get("error").is_none(), "{question}: {answer}");
        answer
    }

    fn answer(&self) -> Value {
        let answer = self.answers.recv_timeout(PATIENCE);
        answer.expect("the provider answers")
    }

    /// A token by client credentials, of the group `analysts`.
    pub fn token(&mut self) -> String {
        let answer = self.ask(&json!({"command": "token"}));
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    /// From now on it misbehaves in this way; `{}` ends that.
    pub fn misbehave(&mut self, mode: &Value) {
        self.ask(&json!({"command": "mode", "mode": mode}));
    }

    pub fn down(&mut self) {
        self.ask(&json!({"command": "down"}));
    }

    pub fn up(&mut self) {
        self.ask(&json!({"command": "up"}));
    }

    /// What it was asked since it was last asked this.
    pub fn requests(&mut self) -> Vec<String> {
        let answer = self.ask(&json!({"command": "requests"}));
        let requests = answer["requests"].as_array().expect("a list").iter();
        requests
            .map(|request| request.as_str().expect("a text").to_owned())
            .collect()
    }

    /// Does what `login` does in a browser that begins at `url`: where it ends, and what stands
    /// there.
    pub fn browse(&mut self, url: &str, login: &str) -> Value {
        self.ask(&json!({"command": "browse", "url": url, "login": login}))
    }
}
