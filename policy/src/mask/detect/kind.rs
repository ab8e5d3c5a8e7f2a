//! The kinds of value that are known by their form, and the names that policy files call them by.

use std::fmt;

/// A kind of sensitive value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    PaymentCard,
    UsSsn,
    Email,
    Iban,
    Phone,
    Ipv4,
    Ipv6,
    Jwt,
    PrivateKey,
    ApiKey,
    Credential,
    /// Matched by a regular expression of the policy.
    Pattern,
    /// Contains a word of the policy.
    Word,
}

/// A kind that a policy can name.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    pub kind: Kind,
    pub name: &'static str,
    /// What it finds, for the documentation.
    pub finds: &'static str,
}

/// Every kind that a policy can name. Documentation is generated from this table.
pub const KINDS: &[Named] = &[
    Named {
        kind: Kind::PaymentCard,
        name: "payment-card",
        finds: "card numbers of every major scheme (prefix, length, check digit), alone or in groups",
    },
    Named {
        kind: Kind::UsSsn,
        name: "us-ssn",
        finds: "US social security numbers in groups of 3-2-4; nine digits next to a word that says so",
    },
    Named {
        kind: Kind::Email,
        name: "email",
        finds: "e-mail addresses",
    },
    Named {
        kind: Kind::Iban,
        name: "iban",
        finds: "bank accounts (country, its length, check digits), alone or in groups of four",
    },
    Named {
        kind: Kind::Phone,
        name: "phone",
        finds: "telephone numbers: E.164, North American, and national forms with a leading zero",
    },
    Named {
        kind: Kind::Ipv4,
        name: "ipv4",
        finds: "IPv4 addresses",
    },
    Named {
        kind: Kind::Ipv6,
        name: "ipv6",
        finds: "IPv6 addresses",
    },
    Named {
        kind: Kind::Jwt,
        name: "jwt",
        finds: "JSON web tokens, signed or encrypted",
    },
    Named {
        kind: Kind::PrivateKey,
        name: "private-key",
        finds: "private keys in PEM, from their first line on, whole or cut off",
    },
    Named {
        kind: Kind::ApiKey,
        name: "api-key",
        finds: "keys of AWS, GCP, Azure, GitHub, GitLab, Slack, Stripe and others, by their form",
    },
    Named {
        kind: Kind::Credential,
        name: "credential",
        finds: "what stands next to a telling key (password, secret, token, API key), in URLs too",
    },
];

/// Names that stand for several kinds.
pub const GROUPS: &[(&str, &[Kind])] = &[
    ("ip", &[Kind::Ipv4, Kind::Ipv6]),
    (
        "secret",
        &[Kind::Jwt, Kind::PrivateKey, Kind::ApiKey, Kind::Credential],
    ),
];

impl Kind {
    /// The kinds that `name` stands for, as written in a policy.
    #[must_use]
    pub fn of_name(name: &str) -> Option<KindSet> {
        if let Some(named) = KINDS.iter().find(|named| named.name == name) {
            return Some(KindSet::of(&[named.kind]));
        }
        let (_, kinds) = GROUPS.iter().find(|(group, _)| *group == name)?;
        Some(KindSet::of(kinds))
    }

    /// Every name of a kind or group, for the suggestion to an operator who mistyped one.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let kinds = KINDS.iter().map(|named| named.name);
        kinds.chain(GROUPS.iter().map(|(group, _)| *group))
    }

    /// What it is called in policies, records and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PaymentCard => "payment-card",
            Self::UsSsn => "us-ssn",
            Self::Email => "email",
            Self::Iban => "iban",
            Self::Phone => "phone",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Jwt => "jwt",
            Self::PrivateKey => "private-key",
            Self::ApiKey => "api-key",
            Self::Credential => "credential",
            Self::Pattern => "pattern",
            Self::Word => "word",
        }
    }

    /// How many kinds there are.
    pub(super) const COUNT: usize = Self::Word as usize + 1;

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    const fn bit(self) -> u16 {
        1 << (self as u8)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Some kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct KindSet(u16);

impl KindSet {
    #[must_use]
    pub fn of(kinds: &[Kind]) -> Self {
        Self(kinds.iter().fold(0, |bits, kind| bits | kind.bit()))
    }

    #[must_use]
    pub fn contains(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// More than one kind: what was found is not one value of one form.
    #[must_use]
    pub fn is_mixed(self) -> bool {
        self.0.count_ones() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name() {
        for named in KINDS {
            assert_eq!(Kind::of_name(named.name), Some(KindSet::of(&[named.kind])));
            assert_eq!(named.kind.name(), named.name);
        }
    }

    #[test]
    fn a_group_stands_for_its_kinds() {
        let secret = Kind::of_name("secret").expect("a group");
        assert!(secret.contains(Kind::Jwt) && secret.contains(Kind::Credential));
        assert!(!secret.contains(Kind::Email));
        assert!(secret.is_mixed());
    }

    #[test]
    fn every_name_is_known_and_stands_once() {
        let mut names = Kind::names().collect::<Vec<_>>();
        assert!(names.iter().all(|name| Kind::of_name(name).is_some()));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KINDS.len() + GROUPS.len());
        assert_eq!(Kind::of_name("emails"), None);
    }
}
