//! The agents of a run: read from a file, made by the local appliance, or one with a password.
//!
//! Blocking, bounded in time, and done before a run starts.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use runtime::now;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::protocols::{Agent, Password};

/// Most agents of one run: tokens are kept in memory and verified by every shard of the target.
const AGENTS_MAX: usize = 10_000;

/// Longest file of agents: [`AGENTS_MAX`] tokens of 2 KiB with their names.
const FILE_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// Longest answer of the appliance: a list of thousands of targets.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// How long the appliance may take to say one thing.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// How long making all tokens may take: some milliseconds each, on a machine that is busy.
const MAKING_DEADLINE: Duration = Duration::from_secs(60);

/// Tokens are valid for this much longer than the run was meant to take.
const VALID_BEYOND: Duration = Duration::from_secs(600);

/// Where the appliance's packages put it.
pub(crate) const ADMIN_SOCKET: &str = "/run/sallyport/admin.sock";

/// Who asks, as it is typed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Agents")]
pub struct AgentOptions {
    /// How many agents, each with a token of its own, made by the appliance on this machine; with
    /// --agents-file, how many of those
    #[arg(long, value_name = "N")]
    pub agents: Option<usize>,
    /// Groups of the agents that are made
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',')]
    pub groups: Vec<String>,
    /// Read the agents from a file: a name and a token on each line
    #[arg(long, value_name = "FILE", conflicts_with = "groups")]
    pub agents_file: Option<PathBuf>,
    /// The appliance's admin socket, where tokens are made
    #[arg(long, value_name = "PATH", default_value = ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
    /// The user of the session, where it is not the agent's name
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Read the password of the one user from a file, when there are no agents; otherwise PGPASSWORD
    /// is used
    #[arg(long, value_name = "FILE", conflicts_with_all = ["agents", "agents_file"])]
    pub password_file: Option<PathBuf>,
}

/// Why there are no agents. No token and no line of a file is in it.
#[derive(Debug, thiserror::Error)]
pub enum AgentsError {
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is longer than {FILE_BYTES_MAX} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("{}, line {line}: {mistake}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        mistake: Mistake,
    },
    #[error("{} has {found} agents, and {wanted} are asked for", path.display())]
    TooFew {
        path: PathBuf,
        found: usize,
        wanted: usize,
    },
    #[error("{wanted} agents: between 1 and {AGENTS_MAX} can be asked for")]
    Count { wanted: usize },
    #[error("{} cannot be reached: does the appliance run, and may you use its socket?", path.display())]
    Unreachable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the appliance makes no tokens for these agents (HTTP {status}){}", refusal.as_deref().map(|refusal| format!(": {refusal}")).unwrap_or_default())]
    Refused {
        status: u16,
        /// Its own words.
        refusal: Option<String>,
    },
    #[error("the appliance's answer is not understood")]
    NotUnderstood,
    #[error("making the tokens took longer than {} s", MAKING_DEADLINE.as_secs())]
    TimedOut,
}

/// What is wrong with a line of a file of agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    #[error("not a name and a token, with a space between them")]
    Malformed,
    #[error("a name that an earlier line has")]
    Duplicate,
    #[error("more than {AGENTS_MAX} agents")]
    TooMany,
}

impl AgentOptions {
    /// The agents that were asked for; `password` is used where there is one user without a file.
    ///
    /// # Errors
    /// [`AgentsError`].
    pub fn resolve(
        &self,
        run: Duration,
        password: Option<&[u8]>,
    ) -> Result<Arc<[Agent]>, AgentsError> {
        let user = self.user.as_deref();
        let agents = match (&self.agents_file, self.agents) {
            (Some(path), wanted) => from_file(path, wanted, user)?,
            (None, Some(wanted)) => {
                let valid = run.saturating_add(VALID_BEYOND);
                mint(&self.admin_socket, wanted, &self.groups, valid, user)?
            }
            (None, None) => vec![self.one(password)?],
        };
        Ok(agents.into())
    }

    fn one(&self, password: Option<&[u8]>) -> Result<Agent, AgentsError> {
        let user = self.user.as_deref().unwrap_or("postgres");
        let password = match &self.password_file {
            None => Password::new(password.unwrap_or_default()),
            Some(path) => {
                let text = read(path)?;
                Password::new(text.trim_end_matches(['\r', '\n']).as_bytes())
            }
        };
        Ok(Agent {
            name: user.to_owned(),
            user: user.to_owned(),
            password,
        })
    }
}

/// Reads `name token` lines; empty ones and those with `#` in front say nothing.
///
/// # Errors
/// For a file that is not that, or has fewer agents than `wanted`.
pub fn from_file(
    path: &Path,
    wanted: Option<usize>,
    user: Option<&str>,
) -> Result<Vec<Agent>, AgentsError> {
    let text = read(path)?;
    let mut agents = Vec::new();
    let mut names = HashSet::new();
    let lines = text.lines().enumerate();
    for (index, line) in lines.filter(|(_, line)| !is_comment(line)) {
        let mistake = |mistake| AgentsError::Line {
            path: path.to_owned(),
            line: index + 1,
            mistake,
        };
        let mut words = line.split_whitespace();
        let (Some(name), Some(token), None) = (words.next(), words.next(), words.next()) else {
            return Err(mistake(Mistake::Malformed));
        };
        if !names.insert(name) {
            return Err(mistake(Mistake::Duplicate));
        }
        if agents.len() == AGENTS_MAX {
            return Err(mistake(Mistake::TooMany));
        }
        agents.push(Agent {
            name: name.to_owned(),
            user: user.unwrap_or(name).to_owned(),
            password: Password::new(token.as_bytes()),
        });
    }
    let found = agents.len();
    let wanted = wanted.unwrap_or_else(|| found.max(1));
    if wanted == 0 {
        return Err(AgentsError::Count { wanted });
    }
    if found < wanted {
        return Err(AgentsError::TooFew {
            path: path.to_owned(),
            found,
            wanted,
        });
    }
    agents.truncate(wanted);
    Ok(agents)
}

fn is_comment(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

fn read(path: &Path) -> Result<Zeroizing<String>, AgentsError> {
    let unreadable = |source| AgentsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut text = Zeroizing::new(String::new());
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(unreadable)?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes <= FILE_BYTES_MAX) {
        Ok(text)
    } else {
        Err(AgentsError::TooLong {
            path: path.to_owned(),
        })
    }
}

/// What is asked of `POST /v1/tokens`.
#[derive(Serialize)]
struct TokenWanted<'a> {
    agent: &'a str,
    groups: &'a [String],
    ttl_seconds: u64,
}

/// What of its answer is looked at.
#[derive(Deserialize)]
struct TokenMade<'a> {
    /// A compact JWT has nothing that JSON escapes.
    token: &'a str,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// Has the appliance behind `socket` make tokens for `wanted` agents, `loadgen-0` and up.
///
/// By its HTTP API and not by its command line: the API is described and versioned, needs no program
/// to be found, and says in an answer of its own why a token is not made.
///
/// # Errors
/// When it cannot be reached, does not make them, or takes too long.
pub fn mint(
    socket: &Path,
    wanted: usize,
    groups: &[String],
    valid: Duration,
    user: Option<&str>,
) -> Result<Vec<Agent>, AgentsError> {
    if wanted == 0 || wanted > AGENTS_MAX {
        return Err(AgentsError::Count { wanted });
    }
    let deadline = now() + MAKING_DEADLINE;
    let mut agents = Vec::new();
    for number in 0..wanted {
        let name = format!("loadgen-{number}");
        let body = serde_json::to_vec(&TokenWanted {
            agent: &name,
            groups,
            ttl_seconds: valid.as_secs(),
        })
        .map_err(|_| AgentsError::NotUnderstood)?;
        let answer = request(socket, "POST", "/v1/tokens", &body, deadline)?;
        let made: TokenMade<'_> =
            serde_json::from_slice(&answer).map_err(|_| AgentsError::NotUnderstood)?;
        agents.push(Agent {
            user: user.unwrap_or(&name).to_owned(),
            name,
            password: Password::new(made.token.as_bytes()),
        });
    }
    Ok(agents)
}

/// What the appliance behind `socket` answers at `path`.
///
/// # Errors
/// When it cannot be reached, does not say, or takes too long.
pub(crate) fn get(socket: &Path, path: &str) -> Result<Zeroizing<Vec<u8>>, AgentsError> {
    request(socket, "GET", path, b"", now() + ANSWER_DEADLINE)
}

/// The same, for what has to be told first.
///
/// # Errors
/// As [`get`].
pub(crate) fn post(
    socket: &Path,
    path: &str,
    body: &[u8],
) -> Result<Zeroizing<Vec<u8>>, AgentsError> {
    request(socket, "POST", path, body, now() + ANSWER_DEADLINE)
}

/// One request on a connection of its own; the body of an answer 200.
fn request(
    socket: &Path,
    method: &str,
    path: &str,
    body: &[u8],
    deadline: Instant,
) -> Result<Zeroizing<Vec<u8>>, AgentsError> {
    let unreachable = |source: io::Error| match is_timeout(&source) {
        true => AgentsError::TimedOut,
        false => AgentsError::Unreachable {
            path: socket.to_owned(),
            source,
        },
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: sallyport\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
    let left = deadline.saturating_duration_since(now());
    if left.is_zero() {
        return Err(AgentsError::TimedOut);
    }
    let asked = stream
        .set_write_timeout(Some(left))
        .and_then(|()| stream.write_all(&[head.as_bytes(), body].concat()));
    asked.map_err(unreachable)?;
    let answer = read_to_end(&mut stream, deadline)?;
    let (status, body) = split(&answer).ok_or(AgentsError::NotUnderstood)?;
    if status == 200 {
        return Ok(Zeroizing::new(body.to_vec()));
    }
    let refusal: Option<Refusal> = serde_json::from_slice(body).ok();
    Err(AgentsError::Refused {
        status,
        refusal: refusal.map(|refusal| printable(&refusal.error)),
    })
}

fn read_to_end(
    stream: &mut UnixStream,
    deadline: Instant,
) -> Result<Zeroizing<Vec<u8>>, AgentsError> {
    let mut answer = Zeroizing::new(Vec::new());
    let mut room = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(now());
        if left.is_zero() {
            return Err(AgentsError::TimedOut);
        }
        let received = stream
            .set_read_timeout(Some(left))
            .and_then(|()| stream.read(&mut room));
        match received {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend_from_slice(room.get(..count).unwrap_or_default()),
            Err(error) if is_timeout(&error) => return Err(AgentsError::TimedOut),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(AgentsError::NotUnderstood),
        }
        if u64::try_from(answer.len()).is_ok_and(|bytes| bytes > ANSWER_BYTES_MAX) {
            return Err(AgentsError::NotUnderstood);
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Status and body of an answer that ends with its connection and comes in one piece.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let (head, rest) = answer.split_at_checked(end)?;
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let body = rest.get(4..)?;
    // A body that is cut short, or comes in chunks, is none.
    let mut lengths = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim())
    });
    let length: usize = lengths.next()?.parse().ok()?;
    (body.len() == length).then_some((status.parse().ok()?, body))
}

/// What the appliance says, without what a terminal would take for a command.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c.is_control() {
            true => '?',
            false => c,
        })
        .take(500)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn read_agents(text: &str, wanted: Option<usize>) -> Result<Vec<Agent>, AgentsError> {
        from_file(file(text).path(), wanted, None)
    }

    #[test]
    fn names_and_tokens_are_read() {
        let agents = read_agents("# agents\nada  e.1.x\n\n  bot\te.2.y\n", None).unwrap();
        let read: Vec<_> = agents
            .iter()
            .map(|agent| (&*agent.name, &*agent.user, agent.password.expose()))
            .collect();
        assert_eq!(
            read,
            [("ada", "ada", &b"e.1.x"[..]), ("bot", "bot", b"e.2.y")]
        );
        assert_eq!(read_agents("a t\nb t\n", Some(1)).unwrap().len(), 1);
    }

    #[test]
    fn a_mistake_names_its_line_and_not_the_token() {
        for (text, expected) in [
            ("ada secret\nalone\n", Mistake::Malformed),
            ("ada secret\nbob secret more\n", Mistake::Malformed),
            ("ada secret\nada secret\n", Mistake::Duplicate),
        ] {
            let error = read_agents(text, None).unwrap_err();
            let AgentsError::Line { line, mistake, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!((*line, *mistake), (2, expected), "{text}");
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }

    #[test]
    fn fewer_agents_than_asked_for_are_an_error() {
        for (text, wanted) in [("", None), ("a t\n", Some(2))] {
            let error = read_agents(text, wanted).unwrap_err();
            assert!(matches!(error, AgentsError::TooFew { .. }), "{error}");
        }
        assert!(matches!(
            read_agents("a t\n", Some(0)),
            Err(AgentsError::Count { wanted: 0 })
        ));
    }

    #[test]
    fn only_a_whole_answer_is_one() {
        let answer = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{body}");
        assert_eq!(split(answer("body").as_bytes()), Some((200, &b"body"[..])));
        assert_eq!(split(answer("bod").as_bytes()), None);
        assert_eq!(split(answer("bodys").as_bytes()), None);
        assert_eq!(split(b"HTTP/1.1 200 OK\r\n\r\nbody"), None);
        assert_eq!(split(b"SSH-2.0\r\n\r\n"), None);
    }

    #[test]
    fn no_socket_is_said_with_its_path() {
        let groups = ["analysts".to_owned()];
        let error = mint(
            Path::new("/nowhere/admin.sock"),
            1,
            &groups,
            Duration::ZERO,
            None,
        )
        .unwrap_err();
        assert!(
            error.to_string().starts_with("/nowhere/admin.sock"),
            "{error}"
        );
    }
}
