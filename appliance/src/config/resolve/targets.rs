//! Where agents may be let to: targets with their accounts, TLS and pools.

use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use policy::DatabasePattern;
use toml::Spanned;

use super::reader::Reader;
use crate::config::file::{self, Text, Texts, span_of};
use crate::config::keys;
use crate::config::secret::Secret;
use crate::upstream::{
    Account, Address, Balance, ChannelBinding, ClientCertificate, Databases, Host, PoolSettings,
    Roots, SessionAttrs, TargetSettings, Tls, TlsMode,
};

/// Longest name of a target, in bytes: what PostgreSQL keeps of a database name.
const NAME_BYTES_MAX: usize = 63;

/// Largest file of certificates that is read, in bytes. A copy of the system's bundle fits.
const CERTIFICATES_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// PostgreSQL's port, for an address that names none.
const PORT_DEFAULT: u16 = 5432;

/// Most servers of one target. A connection attempt may have to try them all.
const ADDRESSES_MAX: usize = 16;

/// Most patterns for databases of one target.
const DATABASES_MAX: usize = 64;

const PROTOCOLS: [(&str, ()); 1] = [("postgres", ())];

const TLS_MODES: [(&str, TlsMode); 4] = [
    ("disable", TlsMode::Disable),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

const CHANNEL_BINDINGS: [(&str, ChannelBinding); 2] = [
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];

const SESSION_ATTRS: [(&str, SessionAttrs); 6] = [
    ("any", SessionAttrs::Any),
    ("read-write", SessionAttrs::ReadWrite),
    ("read-only", SessionAttrs::ReadOnly),
    ("primary", SessionAttrs::Primary),
    ("standby", SessionAttrs::Standby),
    ("prefer-standby", SessionAttrs::PreferStandby),
];

const BALANCES: [(&str, Balance); 2] = [("disable", Balance::InOrder), ("random", Balance::Random)];

/// The targets of all files so far.
#[derive(Default)]
pub(super) struct Resolved {
    pub(super) settings: Vec<TargetSettings>,
    /// The system's root certificates, read when the first target needs them.
    system_roots: Option<Roots>,
}

impl Resolved {
    pub(super) fn add(&mut self, reader: &mut Reader<'_>, written: &[file::Target]) {
        for entry in written {
            if self
                .settings
                .iter()
                .any(|other| other.name == *entry.name.get_ref())
            {
                reader.problem(entry.name.span(), "another target has this name");
            }
            let settings = self.target(reader, entry);
            self.settings.extend(settings);
        }
    }

    fn target(&mut self, reader: &mut Reader<'_>, entry: &file::Target) -> Option<TargetSettings> {
        let name = entry.name.get_ref();
        let plain = |c: char| {
            !c.is_control() && !c.is_whitespace() && c != '*' && c != policy::DATABASE_SEPARATOR
        };
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            let message = format!(
                "a target's name has 1 to {NAME_BYTES_MAX} bytes without spaces, stars and slashes"
            );
            reader.problem(entry.name.span(), message);
        }
        reader.choice(Some(&entry.protocol), &keys::TARGET_PROTOCOL, &PROTOCOLS);
        let addresses = addresses(reader, &entry.address);
        let databases = databases(reader, entry);
        let session_attrs = reader.choice(
            entry.target_session_attrs.as_ref(),
            &keys::TARGET_SESSION_ATTRS,
            &SESSION_ATTRS,
        );
        let balance = reader.choice(
            entry.load_balance_hosts.as_ref(),
            &keys::TARGET_LOAD_BALANCE_HOSTS,
            &BALANCES,
        );
        let names_fresh_for =
            reader.duration(entry.dns_max_age.as_ref(), &keys::TARGET_DNS_MAX_AGE);
        let catalogue_refresh = reader.duration(
            entry.catalogue_refresh.as_ref(),
            &keys::TARGET_CATALOGUE_REFRESH,
        );
        let on_socket = addresses.iter().flatten().any(is_socket);
        let tls = self.tls(reader, entry, on_socket);
        let binding = reader.choice(
            entry.channel_binding.as_ref(),
            &keys::TARGET_CHANNEL_BINDING,
            &CHANNEL_BINDINGS,
        );
        let pool = pool(reader, &entry.pool);
        let secrets = secrets(reader, entry);
        let (addresses, tls, binding, secrets) = (addresses?, tls?, binding?, secrets?);

        let account = |user: &Text, password: Option<Secret>| {
            Arc::new(Account::new(
                user.get_ref().clone(),
                password,
                binding,
                tls.clone(),
            ))
        };
        Some(TargetSettings {
            name: name.clone(),
            addresses,
            session_attrs: session_attrs?,
            balance: balance?,
            names_fresh_for,
            catalogue_refresh,
            databases: databases?,
            account: account(&entry.user, secrets.main),
            readonly_account: entry
                .readonly_user
                .as_ref()
                .map(|user| account(user, secrets.readonly)),
            group_accounts: secrets
                .groups
                .into_iter()
                .map(|(group, user, password)| (group, account(user, password)))
                .collect(),
            pool,
        })
    }

    fn tls(
        &mut self,
        reader: &mut Reader<'_>,
        entry: &file::Target,
        on_socket: bool,
    ) -> Option<Tls> {
        let mode = match &entry.tls {
            None if on_socket => TlsMode::Disable,
            None => TlsMode::VerifyFull,
            Some(written) => reader.choice(Some(written), &keys::TARGET_TLS, &TLS_MODES)?,
        };
        let at = span_of(entry.tls.as_ref().or(Some(&entry.name)));
        let certificate = client_certificate(reader, entry)?;
        if mode == TlsMode::Disable {
            for (unused, key) in [
                (&entry.tls_roots, "tls_roots"),
                (&entry.client_certificate, "client_certificate"),
            ] {
                if let Some(unused) = unused {
                    reader.problem(unused.span(), format!("`{key}` has no use without TLS"));
                }
            }
            return Some(Tls::disabled());
        }
        let roots = self.roots(reader, entry, at.clone())?;
        Tls::new(mode, &roots, certificate.as_ref())
            .map_err(|error| reader.error(at, &error))
            .ok()
    }

    fn roots(
        &mut self,
        reader: &mut Reader<'_>,
        entry: &file::Target,
        at: Range<usize>,
    ) -> Option<Roots> {
        if let Some(written) = &entry.tls_roots {
            let path = reader.path(written);
            let pem = reader.contents(&path, written.span(), CERTIFICATES_BYTES_MAX)?;
            return Roots::from_pem(&pem)
                .map_err(|error| {
                    reader.problem(written.span(), format!("{}: {error}", path.display()));
                })
                .ok();
        }
        if self.system_roots.is_none() {
            match Roots::system() {
                Ok(roots) => self.system_roots = Some(roots),
                Err(error) => reader.error(at, &error),
            }
        }
        self.system_roots.clone()
    }
}

/// The passwords of a target's accounts. Read all together, so that one that is missing does not
/// hide the next.
struct Secrets<'w> {
    main: Option<Secret>,
    readonly: Option<Secret>,
    groups: Vec<(String, &'w Text, Option<Secret>)>,
}

fn secrets<'w>(reader: &mut Reader<'_>, entry: &'w file::Target) -> Option<Secrets<'w>> {
    let before = reader.mistakes();
    let mut read = |text: Option<&Text>| text.and_then(|text| reader.password(text));
    let main = read(entry.password.as_ref());
    let readonly = read(entry.readonly_password.as_ref());
    // In the order in which they are written: the first group that fits decides.
    let mut written: Vec<_> = entry.groups.iter().collect();
    written.sort_by_key(|(group, _)| group.span().start);
    let groups = written
        .into_iter()
        .map(|(group, account)| {
            (
                group.get_ref().clone(),
                &account.user,
                read(account.password.as_ref()),
            )
        })
        .collect();
    let users = [Some(&entry.user), entry.readonly_user.as_ref()];
    let users = users
        .into_iter()
        .flatten()
        .chain(entry.groups.values().map(|a| &a.user));
    for user in users.filter(|user| user.get_ref().is_empty()) {
        reader.problem(user.span(), "this must not be empty");
    }
    if let (Some(password), None) = (&entry.readonly_password, &entry.readonly_user) {
        reader.problem(password.span(), "`readonly_password` needs `readonly_user`");
    }
    (reader.mistakes() == before).then_some(Secrets {
        main,
        readonly,
        groups,
    })
}

/// `None` when something is wrong, `Some(None)` when none is wanted.
#[expect(clippy::option_option, reason = "the outer one says whether to go on")]
fn client_certificate(
    reader: &mut Reader<'_>,
    entry: &file::Target,
) -> Option<Option<ClientCertificate>> {
    match (&entry.client_certificate, &entry.client_key) {
        (None, None) => Some(None),
        (Some(certificate), Some(key)) => {
            let key = reader.secret(key);
            let path = reader.path(certificate);
            let chain = reader.contents(&path, certificate.span(), CERTIFICATES_BYTES_MAX);
            ClientCertificate::from_pem(&chain?, &key?)
                .map(Some)
                .map_err(|error| reader.error(certificate.span(), &error))
                .ok()
        }
        (Some(alone), None) => {
            reader.problem(alone.span(), "`client_certificate` needs `client_key`");
            None
        }
        (None, Some(alone)) => {
            reader.problem(alone.span(), "`client_key` needs `client_certificate`");
            None
        }
    }
}

fn pool(reader: &mut Reader<'_>, written: &file::Pool) -> PoolSettings {
    let pool = PoolSettings {
        connections_max: reader.count(written.connections.as_ref(), &keys::TARGET_POOL_CONNECTIONS),
        connections_total: written
            .connections_total
            .as_ref()
            .map(|total| reader.count(Some(total), &keys::TARGET_POOL_CONNECTIONS_TOTAL)),
        warm: reader.count(written.warm.as_ref(), &keys::TARGET_POOL_WARM),
        queue_max: reader.count(written.queue.as_ref(), &keys::TARGET_POOL_QUEUE),
        queue_deadline: reader.duration(
            written.queue_deadline.as_ref(),
            &keys::TARGET_POOL_QUEUE_DEADLINE,
        ),
        connect_deadline: reader.duration(
            written.connect_deadline.as_ref(),
            &keys::TARGET_POOL_CONNECT_DEADLINE,
        ),
        lifetime: reader.duration(written.lifetime.as_ref(), &keys::TARGET_POOL_LIFETIME),
        idle: reader.duration(written.idle.as_ref(), &keys::TARGET_POOL_IDLE),
    };
    if let Some(warm) = &written.warm
        && pool.warm > pool.connections_max
    {
        reader.problem(warm.span(), "`warm` must not exceed `connections`");
    }
    PoolSettings {
        warm: pool.warm.min(pool.connections_max),
        ..pool
    }
}

/// The database that the target's name stands for, and patterns for others.
fn databases(reader: &mut Reader<'_>, entry: &file::Target) -> Option<Databases> {
    let before = reader.problems.len();
    let mut patterns = Vec::new();
    for written in entry.databases.iter().flat_map(|list| list.get_ref()) {
        match DatabasePattern::new(written.get_ref()) {
            Some(pattern) => patterns.push(pattern),
            None => {
                let message = format!(
                    "a database's name has 1 to {NAME_BYTES_MAX} bytes without control characters"
                );
                reader.problem(written.span(), message);
            }
        }
    }
    if let Some(list) = &entry.databases {
        if patterns.len() > DATABASES_MAX {
            let message = format!("at most {DATABASES_MAX} patterns");
            reader.problem(list.span(), message);
        }
        if list.get_ref().is_empty() {
            reader.problem(
                list.span(),
                "without a pattern no database can be asked for",
            );
        }
    }
    let own = match (&entry.database, &entry.databases) {
        (Some(database), _) => Some(database.get_ref().clone()),
        (None, None) => Some(entry.name.get_ref().clone()),
        (None, Some(_)) => None,
    };
    (reader.problems.len() == before).then_some(Databases { own, patterns })
}

/// One address, or several of one kind.
fn addresses(reader: &mut Reader<'_>, written: &Spanned<Texts>) -> Option<Vec<Address>> {
    let list = match written.get_ref() {
        Texts::One(text) => return Some(vec![address(reader, text, written.span())?]),
        Texts::List(list) => list,
    };
    if !(1..=ADDRESSES_MAX).contains(&list.len()) {
        let message = format!("a target has 1 to {ADDRESSES_MAX} addresses");
        reader.problem(written.span(), message);
    }
    let before = reader.problems.len();
    let mut addresses: Vec<Address> = Vec::new();
    for text in list {
        let Some(address) = address(reader, text.get_ref(), text.span()) else {
            continue;
        };
        if addresses.contains(&address) {
            reader.problem(text.span(), "this address is in the list twice");
        }
        // What `tls` means, and what it defaults to, is said once for all of them.
        if addresses
            .iter()
            .any(|other| is_socket(other) != is_socket(&address))
        {
            let message = "a target's addresses are all hosts or all Unix sockets";
            reader.problem(text.span(), message);
        }
        addresses.push(address);
    }
    (reader.problems.len() == before && !addresses.is_empty()).then_some(addresses)
}

fn is_socket(address: &Address) -> bool {
    matches!(address, Address::Unix(_))
}

/// `HOST:PORT`, `HOST`, or `unix:PATH`.
fn address(reader: &mut Reader<'_>, text: &str, at: Range<usize>) -> Option<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        if path.starts_with('/') {
            return Some(Address::Unix(PathBuf::from(path)));
        }
        reader.problem(at, "the path of a socket starts with `/`");
        return None;
    }
    let parsed = host_and_port(text);
    if parsed.is_none() {
        let message =
            "expected `HOST:PORT` such as `db.example.com:5432` or `[::1]:5432`, or `unix:PATH`";
        reader.problem(at, message);
    }
    parsed.map(|(host, port)| Address::Tcp { host, port })
}

fn host_and_port(text: &str) -> Option<(Host, u16)> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some((Host::Ip(ip), PORT_DEFAULT));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            let ip = host.parse::<IpAddr>().ok().filter(IpAddr::is_ipv6)?;
            let port = if port.is_empty() {
                "5432"
            } else {
                port.strip_prefix(':')?
            };
            (Host::Ip(ip), port)
        }
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, "5432"));
            match host.parse::<IpAddr>() {
                Ok(ip) => (Host::Ip(ip), port),
                Err(_) => (Host::Name(host_name(host)?), port),
            }
        }
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some((host, port))
}

/// A DNS name: labels of letters, digits, `-` and `_`. Digits alone would be a mistyped address.
fn host_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-')
    };
    let numeric = name.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    (name.len() <= 253 && !numeric && name.split('.').all(label)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_targets() {
        let name = |name: &str, port| Some((Host::Name(name.to_owned()), port));
        let ip = |ip: &str, port| Some((Host::Ip(ip.parse().unwrap()), port));
        let cases = [
            ("db.example.com:5433", name("db.example.com", 5433)),
            ("db.example.com.", name("db.example.com", 5432)),
            ("db", name("db", 5432)),
            ("10.0.0.5:5432", ip("10.0.0.5", 5432)),
            ("10.0.0.5", ip("10.0.0.5", 5432)),
            ("[::1]:5433", ip("::1", 5433)),
            ("[::1]", ip("::1", 5432)),
            ("::1", ip("::1", 5432)),
            ("10.0.0:5432", None),
            ("10.0.0.256", None),
            ("[10.0.0.5]:1", None),
            ("[::1]5432", None),
            ("db:0", None),
            ("db:65536", None),
            ("db:", None),
            (":5432", None),
            ("db..x", None),
            ("-db", None),
            ("db name", None),
            ("postgres://db", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(host_and_port(text), expected, "{text}");
        }
    }
}
