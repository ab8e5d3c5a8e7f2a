//! The configuration as the operator wrote it.
//!
//! Texts stay texts here and know where they stood; `resolve` turns them into values.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key, Kind};
use super::problem::{Problem, Source, closest};

/// A text and where it stood.
pub(super) type Text = Spanned<String>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) listen: Listen,
    pub(super) runtime: Runtime,
    pub(super) state: State,
    pub(super) tls: Tls,
    pub(super) client_certificates: ClientCertificates,
    pub(super) limits: Limits,
    pub(super) session: Session,
    pub(super) approvals: Approvals,
    pub(super) drain: Drain,
    pub(super) recording: Recording,
    pub(super) console: Console,
    pub(super) archive: Archive,
    pub(super) export: Export,
    pub(super) roles: Roles,
    pub(super) builtin_issuer: Builtin,
    pub(super) issuer: Vec<Issuer>,
    pub(super) target: Vec<Target>,
    pub(super) webhook: Vec<Webhook>,
    pub(super) log: Log,
}

/// What a file in `targets.d` may hold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TargetsFile {
    pub(super) target: Vec<Target>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Listen {
    pub(super) postgres: Option<Spanned<Vec<Spanned<Listener>>>>,
    pub(super) admin: Option<Text>,
    pub(super) console: Option<Text>,
    pub(super) metrics: Option<Text>,
}

/// A listener, written as an address or as a table.
#[derive(Debug)]
pub(super) enum Listener {
    Address(String),
    Table(ListenerTable),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerTable {
    pub(super) address: Text,
    pub(super) proof: Option<Text>,
    pub(super) proxy_protocol: Option<Spanned<Vec<Text>>>,
    pub(super) mode: Option<Text>,
    pub(super) group: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Runtime {
    pub(super) shards: Option<Spanned<u64>>,
    pub(super) directory: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct State {
    pub(super) directory: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    pub(super) certificate: Option<Text>,
    pub(super) key: Option<Text>,
    pub(super) names: Option<Spanned<Vec<Text>>>,
    pub(super) client_roots: Option<Text>,
    pub(super) client_crl: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ClientCertificates {
    pub(super) subject: Option<Text>,
    pub(super) trust_domain: Option<Text>,
    pub(super) issuer: Option<Text>,
    pub(super) groups: BTreeMap<String, Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) unauthenticated: Option<Spanned<u64>>,
    pub(super) unauthenticated_per_address: Option<Spanned<u64>>,
    pub(super) sessions: Option<Spanned<u64>>,
    pub(super) login_deadline: Option<Text>,
    pub(super) write_deadline: Option<Text>,
    pub(super) message_bytes: Option<Text>,
    pub(super) bind_bytes: Option<Text>,
    pub(super) keepalive_idle: Option<Text>,
    pub(super) keepalive_interval: Option<Text>,
    pub(super) keepalive_probes: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Session {
    pub(super) lifetime: Option<Text>,
    pub(super) idle: Option<Text>,
    pub(super) idle_listening: Option<Text>,
    pub(super) idle_in_transaction: Option<Text>,
    pub(super) statement_timeout: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Approvals {
    pub(super) in_transaction: Option<Text>,
    pub(super) notice_interval: Option<Text>,
    pub(super) open: Option<Spanned<u64>>,
    pub(super) open_per_principal: Option<Spanned<u64>>,
    pub(super) kept: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Webhook {
    pub(super) url: Text,
    pub(super) secret: Text,
    pub(super) form: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Drain {
    pub(super) deadline: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Recording {
    pub(super) directory: Option<Text>,
    pub(super) ring_bytes: Option<Text>,
    pub(super) durability: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Console {
    pub(super) url: Option<Text>,
    pub(super) issuer: Option<Text>,
    pub(super) client_id: Option<Text>,
    pub(super) client_secret: Option<Text>,
    pub(super) scopes: Option<Spanned<Vec<Text>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Export {
    pub(super) to: Option<Text>,
    pub(super) format: Option<Text>,
    pub(super) interval: Option<Text>,
    pub(super) s3: S3,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct S3 {
    pub(super) endpoint: Option<Text>,
    pub(super) region: Option<Text>,
    pub(super) access_key: Option<Text>,
    pub(super) secret_key: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Roles {
    pub(super) viewer: Vec<Text>,
    pub(super) approver: Vec<Text>,
    pub(super) admin: Vec<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Archive {
    pub(super) head_interval: Option<Text>,
    pub(super) signing_key: Option<Text>,
    pub(super) previous_signing_key: Option<Text>,
    pub(super) keep: Option<Text>,
    pub(super) keep_bytes: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Builtin {
    pub(super) enabled: Option<bool>,
    pub(super) token_lifetime_max: Option<Text>,
    pub(super) group_prefix: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    pub(super) name: Text,
    pub(super) issuer: Text,
    pub(super) audience: Spanned<Vec<Text>>,
    pub(super) jwks: Option<Text>,
    pub(super) ca: Option<Text>,
    pub(super) refresh_min: Option<Text>,
    pub(super) refresh_max: Option<Text>,
    pub(super) stale_max: Option<Text>,
    pub(super) algorithms: Option<Spanned<Vec<Text>>>,
    pub(super) groups: Option<Text>,
    pub(super) group_prefix: Option<Text>,
    #[serde(default)]
    pub(super) group_map: BTreeMap<String, Text>,
    pub(super) display_name: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub(super) name: Text,
    pub(super) protocol: Text,
    pub(super) address: Spanned<Texts>,
    pub(super) target_session_attrs: Option<Text>,
    pub(super) load_balance_hosts: Option<Text>,
    pub(super) dns_max_age: Option<Text>,
    pub(super) catalogue_refresh: Option<Text>,
    pub(super) database: Option<Text>,
    pub(super) databases: Option<Spanned<Vec<Text>>>,
    pub(super) user: Text,
    pub(super) password: Option<Text>,
    pub(super) readonly_user: Option<Text>,
    pub(super) readonly_password: Option<Text>,
    #[serde(default)]
    pub(super) groups: BTreeMap<Spanned<String>, GroupAccount>,
    pub(super) tls: Option<Text>,
    pub(super) tls_roots: Option<Text>,
    pub(super) client_certificate: Option<Text>,
    pub(super) client_key: Option<Text>,
    pub(super) channel_binding: Option<Text>,
    #[serde(default)]
    pub(super) pool: Pool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupAccount {
    pub(super) user: Text,
    pub(super) password: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Pool {
    pub(super) connections: Option<Spanned<u64>>,
    pub(super) connections_total: Option<Spanned<u64>>,
    pub(super) warm: Option<Spanned<u64>>,
    pub(super) queue: Option<Spanned<u64>>,
    pub(super) queue_deadline: Option<Text>,
    pub(super) connect_deadline: Option<Text>,
    pub(super) lifetime: Option<Text>,
    pub(super) idle: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) format: Option<Text>,
    pub(super) level: Option<Text>,
}

impl<'de> Deserialize<'de> for Listener {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListenerVisitor)
    }
}

/// By hand, since serde's untagged enums lose the positions inside.
struct ListenerVisitor;

impl<'de> Visitor<'de> for ListenerVisitor {
    type Value = Listener;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an address or a table with `address`")
    }

    fn visit_str<E>(self, address: &str) -> Result<Listener, E> {
        Ok(Listener::Address(address.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Listener, A::Error> {
        ListenerTable::deserialize(MapAccessDeserializer::new(members)).map(Listener::Table)
    }
}

/// A text, or a list of them.
#[derive(Debug)]
pub(super) enum Texts {
    One(String),
    List(Vec<Text>),
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

/// By hand for the same reason.
struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text or a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Texts, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(elements)).map(Texts::List)
    }
}

/// Reads the main file. All unknown keys are reported at once, other mistakes one at a time.
pub(super) fn read(source: &Source) -> Result<File, Vec<Problem>> {
    parse(source, |_| true)
}

/// Reads a file of `targets.d`.
pub(super) fn read_targets(source: &Source) -> Result<TargetsFile, Vec<Problem>> {
    parse(source, |key| key.path.starts_with("target[]"))
}

fn parse<'s, T: Deserialize<'s>>(
    source: &'s Source,
    allowed: fn(&Key) -> bool,
) -> Result<T, Vec<Problem>> {
    let problem = |error: toml::de::Error| {
        vec![source.problem(error.span().unwrap_or(0..0), error.message())]
    };
    let table = DeTable::parse(&source.text).map_err(problem)?;
    let mut problems = Vec::new();
    let known: Vec<Vec<&str>> = keys::ALL
        .iter()
        .filter(|key| allowed(key))
        .map(|key| segments(key.path))
        .collect();
    find_unknown(source, table.get_ref(), &known, &mut problems);
    if !problems.is_empty() {
        problems.sort_by_key(Problem::position);
        return Err(problems);
    }
    T::deserialize(toml::de::Deserializer::from(table)).map_err(problem)
}

fn segments(path: &'static str) -> Vec<&'static str> {
    path.split('.')
        .map(|segment| segment.strip_suffix("[]").unwrap_or(segment))
        .collect()
}

/// Reports the keys of `table` that no path in `known` begins with.
///
/// Depth is that of the longest key path, whatever the file holds.
fn find_unknown(
    source: &Source,
    table: &DeTable<'_>,
    known: &[Vec<&str>],
    problems: &mut Vec<Problem>,
) {
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let below: Vec<Vec<&str>> = known
            .iter()
            .filter_map(|path| path.split_first())
            .filter(|(first, _)| **first == name || **first == "*")
            .map(|(_, rest)| rest.to_vec())
            .collect();
        if below.is_empty() {
            let mut problem = source.problem(key.span(), format!("unknown key `{name}`"));
            problem.suggestion = closest(name, known.iter().filter_map(|p| p.first().copied()));
            problems.push(problem);
            continue;
        }
        if below.iter().all(Vec::is_empty) {
            continue;
        }
        match value.get_ref() {
            DeValue::Table(inner) => find_unknown(source, inner, &below, problems),
            DeValue::Array(elements) => {
                for element in elements.iter() {
                    if let DeValue::Table(inner) = element.get_ref() {
                        find_unknown(source, inner, &below, problems);
                    }
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
}

/// Files and secrets that are named, each with its key. Directories and what is made are left out.
pub(super) fn named(source: &Source) -> Vec<(&'static Key, String)> {
    let Ok(table) = source.text.parse::<toml::Table>() else {
        return Vec::new();
    };
    let is_named = |key: &&Key| match key.kind {
        Kind::Secret => true,
        Kind::Path => !key.path.ends_with(".directory") && key.path != keys::LISTEN_ADMIN.path,
        Kind::Text
        | Kind::TextList
        | Kind::TextOrList
        | Kind::TextMap
        | Kind::Switch
        | Kind::Choice(_)
        | Kind::Count { .. }
        | Kind::Duration { .. }
        | Kind::Bytes { .. }
        | Kind::Listeners => false,
    };
    let mut found = Vec::new();
    for key in keys::ALL.iter().filter(is_named) {
        find_values(
            &toml::Value::Table(table.clone()),
            &segments(key.path),
            &mut |text| {
                found.push((key, text.to_owned()));
            },
        );
    }
    found
}

/// Every text at a path of names, in whatever tables of a list.
///
/// Depth is that of the path.
fn find_values(value: &toml::Value, path: &[&str], on: &mut dyn FnMut(&str)) {
    if let toml::Value::Array(elements) = value {
        for element in elements.iter().filter(|element| element.is_table()) {
            find_values(element, path, on);
        }
        return;
    }
    let Some((first, rest)) = path.split_first() else {
        if let Some(text) = value.as_str() {
            on(text);
        }
        return;
    };
    let inner = value.as_table().into_iter().flatten();
    for (_, inner) in inner.filter(|(name, _)| *first == "*" || name == first) {
        find_values(inner, rest, on);
    }
}

/// Where a value stood; the start of the file for one that was not written.
pub(super) fn span_of<T>(value: Option<&Spanned<T>>) -> Range<usize> {
    value.map_or(0..0, Spanned::span)
}
