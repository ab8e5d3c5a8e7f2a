//! Values of one file, read with their position at hand.
//!
//! A mistake is noted and a stand-in given back, so that the next mistake is found too; with any
//! mistake noted the configuration is refused, so a stand-in is never used.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::Environment;
use crate::config::file::{Text, span_of};
use crate::config::keys::{Absent, Key, Kind};
use crate::config::problem::{Problem, Source, closest, of_file};
use crate::config::secret::{Secret, SecretError, SecretReference, SecretSources};
use crate::config::values;
use crate::telemetry::chain;

pub(super) struct Reader<'s> {
    pub(super) source: &'s Source,
    pub(super) problems: Vec<Problem>,
    secrets: SecretSources,
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: &'s Source, environment: &Environment) -> Self {
        let base_directory = source.file.parent().map(Path::to_owned).unwrap_or_default();
        let secrets = SecretSources {
            credentials_directory: environment.credentials_directory.clone(),
            base_directory,
            environment: environment.variable,
        };
        Self {
            source,
            problems: Vec::new(),
            secrets,
        }
    }

    pub(super) fn problem(&mut self, at: Range<usize>, message: impl Into<String>) {
        let problem = self.source.problem(at, message);
        self.problems.push(problem);
    }

    /// Notes an error with its causes.
    pub(super) fn error(&mut self, at: Range<usize>, error: &dyn std::error::Error) {
        self.problem(at, chain(error));
    }

    pub(super) fn duration(&mut self, value: Option<&Text>, key: &Key) -> Duration {
        let Some(duration) = self.parse(value, key, values::duration) else {
            return Duration::ZERO;
        };
        if let Kind::Duration { min_ms, max_ms } = key.kind {
            let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
            if value.is_some() && !(min..=max).contains(&duration) {
                let (min, max) = (
                    humantime::format_duration(min),
                    humantime::format_duration(max),
                );
                let message = format!("`{}` lies between {min} and {max}", last(key));
                self.problem(span_of(value), message);
            }
        }
        duration
    }

    pub(super) fn bytes(&mut self, value: Option<&Text>, key: &Key) -> u64 {
        let Some(bytes) = self.parse(value, key, values::bytes) else {
            return 0;
        };
        if let Kind::Bytes { min, max } = key.kind
            && value.is_some()
            && !(min..=max).contains(&bytes)
        {
            let (min, max) = (values::show_bytes(min), values::show_bytes(max));
            let message = format!("`{}` lies between {min} and {max}", last(key));
            self.problem(span_of(value), message);
        }
        bytes
    }

    pub(super) fn count(&mut self, value: Option<&Spanned<u64>>, key: &Key) -> usize {
        let count = match (value, key.default) {
            (Some(value), _) => *value.get_ref(),
            (None, Absent::Value(default)) => default.parse().unwrap_or_default(),
            (None, Absent::Required | Absent::Described(_)) => 0,
        };
        if let Kind::Count { min, max } = key.kind
            && value.is_some()
            && !(min..=max).contains(&count)
        {
            let message = format!("`{}` lies between {min} and {max}", last(key));
            self.problem(span_of(value), message);
        }
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Permission bits of a file.
    pub(super) fn mode(&mut self, value: Option<&Text>, key: &Key) -> u32 {
        self.parse(value, key, values::mode).unwrap_or_default()
    }

    /// A group of this machine, by name or number.
    pub(super) fn group(&mut self, value: &Text) -> Option<u32> {
        match values::group(value.get_ref()) {
            Ok(group) => Some(group),
            Err(error) => {
                self.error(value.span(), &error);
                None
            }
        }
    }

    /// The value or the key's default, which must be in `table`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        value: Option<&Text>,
        key: &Key,
        table: &[(&str, T)],
    ) -> Option<T> {
        let word = match (value, key.default) {
            (Some(value), _) => value.get_ref().as_str(),
            (None, Absent::Value(default)) => default,
            (None, Absent::Required | Absent::Described(_)) => return None,
        };
        self.one_of(span_of(value), word, &format!("`{}`", last(key)), table)
    }

    /// The meaning of `word`, or a note that lists what it may be.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        at: Range<usize>,
        word: &str,
        what: &str,
        table: &[(&str, T)],
    ) -> Option<T> {
        let found = table.iter().find(|(name, _)| *name == word);
        if found.is_none() {
            let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
            let message = format!("{what} is one of {}", names.join(", "));
            let mut problem = self.source.problem(at, message);
            problem.suggestion = closest(word, names);
            self.problems.push(problem);
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// A path; a relative one starts at the directory of this file.
    pub(super) fn path(&self, text: &Text) -> PathBuf {
        self.secrets.base_directory.join(text.get_ref())
    }

    pub(super) fn secret(&mut self, text: &Text) -> Option<Secret> {
        match SecretReference::parse(text.get_ref()) {
            Ok(reference) => match reference.read(&self.secrets) {
                Ok(secret) => return Some(secret),
                Err(error) => {
                    let mut problem = self.source.problem(text.span(), chain(&error));
                    if let SecretError::NoCredentials { name } = error {
                        problem.credential = Some(name);
                    }
                    self.problems.push(problem);
                }
            },
            Err(error) => self.error(text.span(), &error),
        }
        None
    }

    /// A secret that is used as it is. Nothing stands in for one that only the unit is given, but it
    /// keeps no other mistake from being found.
    pub(super) fn password(&mut self, text: &Text) -> Option<Secret> {
        let before = self.mistakes();
        let secret = self.secret(text);
        let only_withheld = secret.is_none() && self.mistakes() == before;
        secret.or_else(|| only_withheld.then(|| Secret::new(Vec::new())))
    }

    /// Problems so far, but for credentials that only the unit is given.
    pub(super) fn mistakes(&self) -> usize {
        let mistakes = self.problems.iter().filter(|p| p.credential.is_none());
        mistakes.count()
    }

    /// The contents of a file that the configuration names.
    pub(super) fn contents(
        &mut self,
        path: &Path,
        at: Range<usize>,
        limit: u64,
    ) -> Option<Vec<u8>> {
        match read_bounded(path, limit) {
            Ok(bytes) => Some(bytes),
            Err(problem) => {
                self.problem(at, format!("{} {}", path.display(), problem.message));
                None
            }
        }
    }

    fn parse<T>(
        &mut self,
        value: Option<&Text>,
        key: &Key,
        read: fn(&str) -> Result<T, values::ValueError>,
    ) -> Option<T> {
        let text = match (value, key.default) {
            (Some(value), _) => value.get_ref().as_str(),
            (None, Absent::Value(default)) => default,
            (None, Absent::Required | Absent::Described(_)) => return None,
        };
        match read(text) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.error(span_of(value), &error);
                None
            }
        }
    }
}

/// The text, or the default of its key.
pub(super) fn text_or_default<'v>(value: Option<&'v Text>, key: &Key) -> &'v str {
    match (value, key.default) {
        (Some(value), _) => value.get_ref(),
        (None, Absent::Value(default)) => default,
        (None, Absent::Required | Absent::Described(_)) => "",
    }
}

pub(super) fn read_source(file: &Path, limit: u64) -> Result<Source, Problem> {
    let bytes = read_bounded(file, limit)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source {
            file: file.to_owned(),
            text,
        }),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let source = Source {
                file: file.to_owned(),
                text,
            };
            Err(source.problem(at..at, "this is not UTF-8"))
        }
    }
}

fn read_bounded(file: &Path, limit: u64) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    fs::File::open(file)
        .and_then(|opened| opened.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| of_file(file, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > limit {
        return Err(of_file(
            file,
            format!("is larger than {}", values::show_bytes(limit)),
        ));
    }
    Ok(bytes)
}

/// The key's own name, without the tables around it.
fn last(key: &Key) -> &'static str {
    key.path.rsplit('.').next().unwrap_or(key.path)
}
