//! What several tests share: a principal, a target, a short way to write effects.

use policy::sql::postgres::{ProfileLimits, profile};
use policy::sql::{Batch, Object};
use policy::{Client, Known, KnownIssuer, KnownTarget, Occasion, Principal, Proof};

pub(crate) fn batch(text: &str) -> Batch {
    profile(text, &ProfileLimits::default())
}

/// The effects of all statements as `class object`, in order; functions end in `()`.
pub(crate) fn effects(text: &str) -> Vec<String> {
    batch(text)
        .statements
        .iter()
        .flat_map(|statement| &statement.effects)
        .map(|effect| {
            if effect.object == Object::Nothing {
                effect.class.to_string()
            } else {
                format!("{} {}", effect.class, effect.object)
            }
        })
        .collect()
}

pub(crate) fn principal(groups: &[&str]) -> Principal {
    Principal {
        issuer: "https://issuer.example".to_owned(),
        subject: "agent-7".to_owned(),
        name: "agent 7".to_owned(),
        groups: groups
            .iter()
            .filter(|group| !group.is_empty())
            .map(|group| (*group).to_owned())
            .collect(),
        delegation: Vec::new(),
        token_id: None,
        expires: 0,
        proof: Proof::Password,
    }
}

/// Two targets with one database each, and the issuer of [`principal`].
pub(crate) fn known_targets() -> Known<'static> {
    Known {
        targets: &[
            KnownTarget {
                name: "orders",
                databases: &[],
            },
            KnownTarget {
                name: "billing",
                databases: &[],
            },
        ],
        issuers: &[
            KnownIssuer {
                name: "corp",
                issuer: "https://issuer.example",
                group_prefix: "",
                groups: &[],
            },
            KnownIssuer {
                name: "ci",
                issuer: "https://ci.example",
                group_prefix: "ci:",
                groups: &["deploy"],
            },
        ],
    }
}

/// A client of this network that a rule may name.
pub(crate) fn occasion() -> Occasion {
    Occasion {
        client: Some(Client::Address([192, 0, 2, 7].into())),
        unix_time: 1_795_689_000,
    }
}
