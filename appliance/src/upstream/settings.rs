//! What the upstream side needs to know of a target, resolved from the configuration.
//!
//! Plain values, immutable once built and shared by all shards. Reading files, looking up
//! secrets and naming configuration keys belong to `config`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::credentials::{Account, Identity};
use super::databases::Databases;
use super::role::SessionAttrs;

/// One configured destination.
pub struct TargetSettings {
    /// The name that agents ask for, unique among targets.
    pub name: String,
    /// Its servers, in the order in which they are tried; at least one.
    pub addresses: Vec<Address>,
    /// Which of the servers get its sessions.
    pub session_attrs: SessionAttrs,
    pub balance: Balance,
    /// How long an answer of the name server is used. Default 10 s: short enough that a failover
    /// by DNS is followed, long enough that a burst of connections asks once.
    pub names_fresh_for: Duration,
    pub databases: Databases,
    /// Used when no other account fits.
    pub account: Arc<Account>,
    /// Used instead for principals whose rules only allow reads.
    pub readonly_account: Option<Arc<Account>>,
    /// Other accounts by group, in the order of preference.
    pub group_accounts: Vec<(String, Arc<Account>)>,
    /// How often the target is asked whether a database holds something else than before.
    /// Default 5 s: a look takes the server 27 ms where there are a thousand tables.
    pub catalogue_refresh: Duration,
    pub pool: PoolSettings,
}

impl TargetSettings {
    /// The account for a principal: the read-only one for those who may only read, else that of
    /// the first configured group that the principal is in, else the target's own.
    pub fn account_for(&self, read_only: bool, groups: &[String]) -> &Arc<Account> {
        if read_only && let Some(account) = &self.readonly_account {
            return account;
        }
        self.group_accounts
            .iter()
            .find(|(group, _)| groups.contains(group))
            .map_or(&self.account, |(_, account)| account)
    }

    /// Every account that a lease could ask for.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        std::iter::once(&self.account)
            .chain(&self.readonly_account)
            .chain(self.group_accounts.iter().map(|(_, account)| account))
    }

    /// Whether there may be a connection to `address`, to that database, for that account. Pool
    /// sizes and deadlines do not matter for that.
    pub(super) fn describes(&self, address: &Address, database: &str, account: Identity) -> bool {
        self.addresses.contains(address)
            && self.databases.contains(database)
            && self.accounts().any(|known| known.identity() == account)
    }

    /// Whether whatever failed with the settings of `other` would fail with these as well.
    pub(super) fn fails_like(&self, other: &Self) -> bool {
        self.addresses == other.addresses
            && self.session_attrs == other.session_attrs
            && self.databases == other.databases
            && other
                .accounts()
                .all(|old| self.accounts().any(|new| new.identity() == old.identity()))
    }
}

/// Which server of several is tried first; libpq's `load_balance_hosts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// The first that is written; addresses of a name in the order of the answer.
    #[default]
    InOrder,
    /// Any, by chance, for each connection.
    Random,
}

/// Where a server of a target listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp {
        host: Host,
        port: u16,
    },
    /// The socket itself, such as `/run/postgresql/.s.PGSQL.5432`.
    Unix(PathBuf),
}

/// A host as it is verified in a certificate: a name or an address, never one for the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Bounds of one target's pool. Per shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// Connections that may exist at once, leased or not; at least one. Default 16: with two
    /// shards a third of PostgreSQL's default `max_connections`.
    pub connections_max: usize,
    /// The same over all shards, each of which has an equal part of it, and at least one. `None`:
    /// only `connections_max` counts.
    pub connections_total: Option<usize>,
    /// Connections kept ready for each account of the target, with no start-up settings of a
    /// client; at most `connections_max`. Default 2.
    pub warm: usize,
    /// Leases that may wait for a connection; one more is refused at once. Default 256.
    pub queue_max: usize,
    /// How long a lease waits for a connection while all are taken. Default 10 s.
    pub queue_deadline: Duration,
    /// From the first packet of a connection attempt to the end of authentication, all
    /// addresses of a name together. Default 5 s.
    pub connect_deadline: Duration,
    /// Age at which a connection is not used again. Default 1 h.
    pub lifetime: Duration,
    /// Time unused after which a connection beyond `warm` is closed. Default 10 min.
    pub idle: Duration,
}

impl PoolSettings {
    /// Connections that may exist on one shard, at least one.
    pub(super) fn connections_on(&self, part: ShardPart) -> usize {
        let most = self.connections_max.max(1);
        match self.connections_total {
            None => most,
            Some(total) => most.min(part.of(total)).max(1),
        }
    }
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            connections_max: 16,
            connections_total: None,
            warm: 2,
            queue_max: 256,
            queue_deadline: Duration::from_secs(10),
            connect_deadline: Duration::from_secs(5),
            lifetime: Duration::from_secs(3600),
            idle: Duration::from_secs(600),
        }
    }
}

/// Which shard of how many, for what all of them have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardPart {
    /// From 0.
    pub shard: usize,
    pub shards: usize,
}

impl ShardPart {
    /// Of a process with one shard.
    pub const ALL: Self = Self {
        shard: 0,
        shards: 1,
    };

    /// This shard's part of `total`: the remainder goes to the first shards.
    fn of(self, total: usize) -> usize {
        let shards = self.shards.max(1);
        total / shards + usize::from(self.shard < total % shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{ChannelBinding, Tls};

    fn account(user: &str) -> Arc<Account> {
        Arc::new(Account::new(
            user.into(),
            None,
            ChannelBinding::Prefer,
            Tls::disabled(),
        ))
    }

    fn target() -> TargetSettings {
        TargetSettings {
            name: "orders".into(),
            addresses: vec![Address::Unix("/run/postgresql/.s.PGSQL.5432".into())],
            session_attrs: SessionAttrs::Any,
            balance: Balance::InOrder,
            names_fresh_for: Duration::from_secs(10),
            catalogue_refresh: Duration::from_secs(5),
            databases: Databases::one("orders"),
            account: account("svc"),
            readonly_account: Some(account("reader")),
            group_accounts: vec![
                ("dba".into(), account("dba")),
                ("dev".into(), account("dev")),
            ],
            pool: PoolSettings::default(),
        }
    }

    #[test]
    fn readers_come_before_groups_and_groups_in_their_order() {
        let user = |target: &TargetSettings, read_only, groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|&group| group.into()).collect();
            target.account_for(read_only, &groups).user().to_owned()
        };
        let mut target = target();
        assert_eq!(user(&target, false, &[]), "svc");
        assert_eq!(user(&target, false, &["other"]), "svc");
        assert_eq!(user(&target, false, &["dev", "dba"]), "dba");
        assert_eq!(user(&target, true, &["dba"]), "reader");
        target.readonly_account = None;
        assert_eq!(user(&target, true, &["dba"]), "dba");
        assert_eq!(user(&target, true, &[]), "svc");
    }

    #[test]
    fn a_connection_is_described_by_its_server_database_and_account() {
        let target = target();
        let here = &target.addresses[0];
        let describes = |address: &Address, database: &str, user: &str| {
            target.describes(address, database, account(user).identity())
        };
        assert!(describes(here, "orders", "dev"));
        assert!(!describes(here, "orders", "gone"));
        assert!(!describes(here, "other", "dev"));
        let elsewhere = Address::Unix("/tmp/.s.PGSQL.5432".into());
        assert!(!describes(&elsewhere, "orders", "dev"));
    }

    #[test]
    fn failures_count_until_something_changes_that_they_may_have_come_from() {
        let old = target();
        let pool = PoolSettings {
            warm: 7,
            ..PoolSettings::default()
        };
        assert!(TargetSettings { pool, ..target() }.fails_like(&old));
        let addresses = vec![Address::Unix("/tmp/.s.PGSQL.5432".into())];
        assert!(
            !TargetSettings {
                addresses,
                ..target()
            }
            .fails_like(&old)
        );
        let account = account("rotated");
        assert!(
            !TargetSettings {
                account,
                ..target()
            }
            .fails_like(&old)
        );
    }

    #[test]
    fn shards_divide_a_total_and_none_is_left_without() {
        let pool = |connections_total| PoolSettings {
            connections_max: 10,
            connections_total,
            ..PoolSettings::default()
        };
        let parts = |connections_total, shards| {
            let part = |shard| ShardPart { shard, shards };
            (0..shards)
                .map(|shard| pool(connections_total).connections_on(part(shard)))
                .collect::<Vec<_>>()
        };
        assert_eq!(parts(None, 2), [10, 10]);
        assert_eq!(parts(Some(11), 3), [4, 4, 3]);
        assert_eq!(
            parts(Some(100), 2),
            [10, 10],
            "the cap of a shard counts as well"
        );
        assert_eq!(parts(Some(2), 3), [1, 1, 1]);
    }
}
