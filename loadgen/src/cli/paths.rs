//! A path as it is typed: where it is, and who goes it.
//!
//! `NAME=ADDRESS[,KEY=VALUE]...`; the direct path has no name of its own.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::ProcessEnvironment;
use crate::agents::{ADMIN_SOCKET, AgentOptions, AgentsError};
use crate::protocols::{
    Address, AddressError, Agent, Canaries, Target, Tls, TlsMode, TlsSetupError,
};

/// How the path without a proxy is called.
pub(super) const DIRECT: &str = "direct";

/// Longest name: it is in tables, and part of files' names.
const NAME_BYTES_MAX: usize = 40;

/// Keys and what they mean, for the help.
pub(super) const KEYS: &str = "\
Keys of a path, after its address and a comma:
  database=NAME        [default: --database]
  user=NAME            [default: postgres, or the agent's name]
  password-file=FILE   instead of PGPASSWORD
  agents=N             how many agents, with tokens that the appliance on this machine makes
  group=NAME           of these agents; several are allowed
  agents-file=FILE     agents from a file, a name and a token a line
  admin-socket=PATH    of the appliance that makes the tokens
  tls=MODE             disable, require or verify-full [default: disable]
  ca=FILE              roots for verify-full [default: the system's]
  masked=yes           answers differ from the direct ones, since something masks values";

/// A path that was typed.
#[derive(Debug, Clone)]
pub(super) struct PathOptions {
    pub(super) name: String,
    pub(super) address: Address,
    database: Option<String>,
    tls: TlsMode,
    roots: Option<PathBuf>,
    agents: AgentOptions,
    /// Its answers are compared among themselves alone.
    pub(super) masked: bool,
}

/// Why a path could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum PathError {
    #[error("a path is NAME=ADDRESS")]
    NoName,
    #[error(
        "a name has letters, digits, `-`, `_` and `.`, at most {NAME_BYTES_MAX}, and `{DIRECT}` is taken"
    )]
    Name,
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("`{0}` is not KEY=VALUE")]
    NoValue(String),
    #[error("`{0}` is no key of a path")]
    UnknownKey(String),
    #[error("`{value}` is no value of `{key}`")]
    Value { key: String, value: String },
    #[error("`agents`, `agents-file` and `password-file` exclude each other")]
    Proofs,
    #[error("`group` is for `agents`")]
    Groups,
}

/// Why a path cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum NoPath {
    #[error("{path}: cannot read {}", file.display())]
    Read {
        path: String,
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}")]
    Tls { path: String, source: TlsSetupError },
    #[error("{path}")]
    Agents { path: String, source: AgentsError },
}

impl PathOptions {
    /// The path without a proxy: an address and keys.
    pub(super) fn direct(text: &str) -> Result<Self, PathError> {
        Self::read(DIRECT, text)
    }

    fn read(name: &str, text: &str) -> Result<Self, PathError> {
        let mut parts = text.split(',');
        let mut path = Self {
            name: name.to_owned(),
            address: Address::resolve(parts.next().unwrap_or_default())?,
            database: None,
            tls: TlsMode::Disable,
            roots: None,
            agents: AgentOptions {
                agents: None,
                groups: Vec::new(),
                agents_file: None,
                admin_socket: PathBuf::from(ADMIN_SOCKET),
                user: None,
                password_file: None,
            },
            masked: false,
        };
        for part in parts {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| PathError::NoValue(part.to_owned()))?;
            path.set(key, value)?;
        }
        let agents = &path.agents;
        let proofs = [
            agents.agents.is_some(),
            agents.agents_file.is_some(),
            agents.password_file.is_some(),
        ];
        if proofs.iter().filter(|given| **given).count() > 1 {
            return Err(PathError::Proofs);
        }
        if !agents.groups.is_empty() && agents.agents.is_none() {
            return Err(PathError::Groups);
        }
        Ok(path)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), PathError> {
        let wrong = || PathError::Value {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        if value.is_empty() {
            return Err(wrong());
        }
        let agents = &mut self.agents;
        match key {
            "database" => self.database = Some(value.to_owned()),
            "user" => agents.user = Some(value.to_owned()),
            "password-file" => agents.password_file = Some(value.into()),
            "agents" => agents.agents = Some(value.parse().map_err(|_| wrong())?),
            "group" => agents.groups.push(value.to_owned()),
            "agents-file" => agents.agents_file = Some(value.into()),
            "admin-socket" => agents.admin_socket = value.into(),
            "ca" => self.roots = Some(value.into()),
            "tls" => {
                self.tls = match value {
                    "disable" => TlsMode::Disable,
                    "require" => TlsMode::Require,
                    "verify-full" => TlsMode::VerifyFull,
                    _ => return Err(wrong()),
                }
            }
            "masked" => {
                self.masked = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(wrong()),
                }
            }
            _ => return Err(PathError::UnknownKey(key.to_owned())),
        }
        Ok(())
    }

    /// Something on it knows agents: it may refuse what they ask, and hide what they see.
    pub(super) fn policed(&self) -> bool {
        self.agents.agents.is_some() || self.agents.agents_file.is_some()
    }

    /// Reads files and has tokens made, valid for as long as `whole` takes.
    pub(super) fn resolve(
        &self,
        database: &str,
        canaries: &Arc<Canaries>,
        whole: Duration,
        process: &ProcessEnvironment,
    ) -> Result<(Target, Arc<[Agent]>), NoPath> {
        let path = || self.name.clone();
        let roots = match &self.roots {
            None => None,
            Some(file) => Some(std::fs::read(file).map_err(|source| NoPath::Read {
                path: path(),
                file: file.clone(),
                source,
            })?),
        };
        let tls = Tls::new(self.tls, roots.as_deref()).map_err(|source| NoPath::Tls {
            path: path(),
            source,
        })?;
        let password = (process.variable)("PGPASSWORD");
        let password = password.as_ref().map(|text| text.as_encoded_bytes());
        let agents = self
            .agents
            .resolve(whole, password)
            .map_err(|source| NoPath::Agents {
                path: path(),
                source,
            })?;
        let target = Target {
            address: self.address.clone(),
            tls,
            database: self.database.as_deref().unwrap_or(database).to_owned(),
            canaries: Arc::clone(canaries),
        };
        Ok((target, agents))
    }
}

impl FromStr for PathOptions {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let (name, rest) = text.split_once('=').ok_or(PathError::NoName)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
        if !fits || !name.bytes().all(plain) || name.starts_with('.') || name == DIRECT {
            return Err(PathError::Name);
        }
        Self::read(name, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_name_an_address_and_keys() {
        let text = "sallyport=127.0.0.1:6432,database=orders,agents=3,group=a,group=b,tls=require";
        let path: PathOptions = text.parse().unwrap();
        assert_eq!(path.name, "sallyport");
        assert_eq!(path.address.to_string(), "127.0.0.1:6432");
        assert_eq!(path.database.as_deref(), Some("orders"));
        assert_eq!(path.agents.agents, Some(3));
        assert_eq!(path.agents.groups, ["a", "b"]);
        assert_eq!(path.tls, TlsMode::Require);
        assert!(path.policed());
        let direct = PathOptions::direct("/run/x.sock,user=me").unwrap();
        assert_eq!(direct.address, Address::Unix("/run/x.sock".into()));
        assert!(!direct.policed());
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |text: &str| text.parse::<PathOptions>().unwrap_err().to_string();
        assert_eq!(refused("127.0.0.1:1"), "a path is NAME=ADDRESS");
        for name in ["", "a/b", "direct", ".x", "a b"] {
            assert!(refused(&format!("{name}=127.0.0.1:1")).starts_with("a name has"));
        }
        assert!(refused(&format!("{}=127.0.0.1:1", "n".repeat(41))).starts_with("a name has"));
        assert_eq!(refused("a=127.0.0.1:1,user"), "`user` is not KEY=VALUE");
        assert_eq!(
            refused("a=127.0.0.1:1,pace=1"),
            "`pace` is no key of a path"
        );
        assert_eq!(refused("a=127.0.0.1:1,tls=on"), "`on` is no value of `tls`");
        assert_eq!(refused("a=127.0.0.1:1,user="), "`` is no value of `user`");
        assert_eq!(refused("a=127.0.0.1:1,group=x"), "`group` is for `agents`");
        assert!(refused("a=127.0.0.1:1,agents=1,agents-file=f").contains("exclude"));
    }
}
