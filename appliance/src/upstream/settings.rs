//! What the upstream side needs to know of a target, resolved from the configuration.
//!
//! Plain values, immutable once built and shared by all shards. Reading files, looking up
//! secrets and naming configuration keys belong to `config`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::credentials::Account;

/// One configured destination.
pub struct TargetSettings {
    /// The name that agents ask for, unique among targets.
    pub name: String,
    pub address: Address,
    pub database: String,
    /// Used when no other account fits.
    pub account: Arc<Account>,
    /// Used instead for principals whose rules only allow reads.
    pub readonly_account: Option<Arc<Account>>,
    /// Other accounts by group, in the order of preference.
    pub group_accounts: Vec<(String, Arc<Account>)>,
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

    /// Whether a connection that `other` describes, made for `account`, is one that these
    /// settings describe as well. Pool sizes and deadlines do not matter for that.
    pub fn still_describes(&self, other: &Self, account: &Account) -> bool {
        self.address == other.address
            && self.database == other.database
            && self
                .accounts()
                .any(|known| known.identity() == account.identity())
    }
}

/// Where a target listens.
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

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            connections_max: 16,
            warm: 2,
            queue_max: 256,
            queue_deadline: Duration::from_secs(10),
            connect_deadline: Duration::from_secs(5),
            lifetime: Duration::from_secs(3600),
            idle: Duration::from_secs(600),
        }
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
            address: Address::Unix("/run/postgresql/.s.PGSQL.5432".into()),
            database: "orders".into(),
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
        let old = target();
        let check = |new: &TargetSettings, user: &str| new.still_describes(&old, &account(user));
        let pool = PoolSettings {
            warm: 7,
            ..PoolSettings::default()
        };
        assert!(check(&TargetSettings { pool, ..target() }, "dev"));
        assert!(!check(&target(), "gone"));
        assert!(!check(
            &TargetSettings {
                database: "other".into(),
                ..target()
            },
            "dev"
        ));
        let address = Address::Unix("/tmp/.s.PGSQL.5432".into());
        assert!(!check(
            &TargetSettings {
                address,
                ..target()
            },
            "dev"
        ));
    }
}
