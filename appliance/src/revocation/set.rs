//! The revocations in force, as shards look them up: by digest, without a copy of any name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use policy::{Principal, Target};
use ring::digest::{Context, SHA256};

use super::{Revocation, Revoked};
use crate::recorder::SessionId;

/// What stands for one revocable thing: SHA-256 over its kind, issuer and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mark([u8; 32]);

impl Mark {
    fn of(kind: &str, issuer: &str, name: &str) -> Self {
        let mut digest = Context::new(&SHA256);
        for part in [kind, issuer, name] {
            // With its length, so that no two triples run together to the same bytes.
            digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let mut mark = [0; 32];
        mark.copy_from_slice(digest.finish().as_ref());
        Self(mark)
    }

    fn revoked(revoked: &Revoked) -> Self {
        Self::of(
            revoked.kind(),
            revoked.issuer().unwrap_or_default(),
            revoked.name(),
        )
    }

    fn target(target: &Target) -> Self {
        Self::of("target", "", &target.name)
    }
}

/// Everything about one session that a revocation can name. Per session.
#[derive(Debug)]
pub struct Revocable(Box<[Mark]>);

impl Revocable {
    #[must_use]
    pub fn of(principal: &Principal, session: SessionId, target: &Target) -> Self {
        let session = Mark::of("session", "", &session.to_string());
        let place = [session, Mark::target(target)];
        Self(marks(principal).chain(place).collect())
    }
}

/// Everything about a principal that a revocation can name.
fn marks(principal: &Principal) -> impl Iterator<Item = Mark> {
    let Principal {
        issuer,
        subject,
        delegation,
        token_id,
        ..
    } = principal;
    let token = token_id
        .as_ref()
        .map(|token_id| Mark::of("token", issuer, token_id));
    let own = [
        Mark::of("subject", issuer, subject),
        Mark::of("agent", issuer, subject),
    ];
    let actors = delegation
        .iter()
        .map(|actor| Mark::of("agent", &actor.issuer, &actor.subject));
    token.into_iter().chain(own).chain(actors)
}

/// The revocations in force. Immutable; another one is published with each change.
#[derive(Debug, Default)]
pub struct RevocationSet {
    all: BTreeMap<i64, Arc<Revocation>>,
    /// Of several for one thing, the one that holds longest.
    by_mark: HashMap<Mark, Arc<Revocation>>,
}

impl RevocationSet {
    /// All of `revocations`.
    pub fn new(revocations: impl IntoIterator<Item = Arc<Revocation>>) -> Self {
        let mut set = Self::default();
        for revocation in revocations {
            let mark = Mark::revoked(&revocation.revoked);
            let known = set.by_mark.get(&mark);
            if known.is_none_or(|known| revocation.outlasts(known)) {
                set.by_mark.insert(mark, Arc::clone(&revocation));
            }
            set.all.insert(revocation.id, revocation);
        }
        set
    }

    /// What cuts off a principal wherever it wants to go; `now` in seconds since 1970.
    #[must_use]
    pub fn find_principal(&self, principal: &Principal, now: u64) -> Option<&Arc<Revocation>> {
        if self.by_mark.is_empty() {
            return None;
        }
        marks(principal).find_map(|mark| self.holding(mark, now))
    }

    /// What cuts off everybody from a target.
    #[must_use]
    pub fn find_target(&self, target: &Target, now: u64) -> Option<&Arc<Revocation>> {
        if self.by_mark.is_empty() {
            return None;
        }
        self.holding(Mark::target(target), now)
    }

    /// What ends a session.
    #[must_use]
    pub fn find(&self, revocable: &Revocable, now: u64) -> Option<&Arc<Revocation>> {
        if self.by_mark.is_empty() {
            return None;
        }
        let mut marks = revocable.0.iter();
        marks.find_map(|mark| self.holding(*mark, now))
    }

    /// All of them, the latest last.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Revocation>> {
        self.all.values()
    }

    #[must_use]
    pub fn get(&self, id: i64) -> Option<&Arc<Revocation>> {
        self.all.get(&id)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn holding(&self, mark: Mark, now: u64) -> Option<&Arc<Revocation>> {
        let found = self.by_mark.get(&mark)?;
        found.holds(now).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use policy::{Actor, Proof};

    use super::*;

    const NOW: u64 = 1_000;

    fn principal() -> Principal {
        Principal {
            issuer: "https://idp".into(),
            subject: "alice".into(),
            name: "Alice".into(),
            groups: vec!["analysts".into()],
            delegation: vec![
                Actor {
                    issuer: "https://idp".into(),
                    subject: "claude".into(),
                },
                Actor {
                    issuer: "https://tools".into(),
                    subject: "runner".into(),
                },
            ],
            token_id: Some("t-1".into()),
            expires: 2_000,
            proof: Proof::Password,
        }
    }

    fn session() -> SessionId {
        SessionId::from_bytes([7; 16])
    }

    fn revocation(id: i64, revoked: Revoked, until: Option<u64>) -> Arc<Revocation> {
        Arc::new(Revocation {
            id,
            revoked,
            reason: None,
            message: None,
            by: "uid 0".into(),
            at: 900,
            until,
        })
    }

    fn agent(issuer: &str, subject: &str) -> Revoked {
        Revoked::Agent {
            issuer: issuer.into(),
            subject: subject.into(),
        }
    }

    fn subject(issuer: &str, subject: &str) -> Revoked {
        Revoked::Subject {
            issuer: issuer.into(),
            subject: subject.into(),
        }
    }

    fn token(issuer: &str, id: &str) -> Revoked {
        Revoked::Token {
            issuer: issuer.into(),
            id: id.into(),
        }
    }

    #[test]
    fn each_kind_finds_what_it_names_and_nothing_else() {
        let target = Target::named("orders").database("orders_eu");
        let name = |name: &str| Revoked::Target { name: name.into() };
        let of_session = |id: SessionId| Revoked::Session { id: id.to_string() };
        let cases = [
            (token("https://idp", "t-1"), true),
            (token("https://other", "t-1"), false),
            (token("https://idp", "t-2"), false),
            (token("https://idpt", "-1"), false),
            (subject("https://idp", "alice"), true),
            (subject("https://idp", "claude"), false),
            (subject("https://other", "alice"), false),
            (agent("https://idp", "alice"), true),
            (agent("https://idp", "claude"), true),
            (agent("https://tools", "runner"), true),
            (agent("https://idp", "runner"), false),
            (agent("https://idp", "t-1"), false),
            (of_session(session()), true),
            (of_session(SessionId::from_bytes([8; 16])), false),
            (name("orders"), true),
            (name("orders_eu"), false),
            (name("alice"), false),
        ];
        for (revoked, expected) in cases {
            let set = RevocationSet::new([revocation(1, revoked.clone(), None)]);
            let revocable = Revocable::of(&principal(), session(), &target);
            let found = set.find(&revocable, NOW).is_some();
            assert_eq!(found, expected, "{revoked:?}");
            let at_login = set.find_principal(&principal(), NOW).is_some();
            let is_of_principal = revoked.issuer().is_some();
            assert_eq!(at_login, expected && is_of_principal, "{revoked:?}");
            let is_of_target = matches!(revoked, Revoked::Target { .. });
            let at_target = set.find_target(&target, NOW).is_some();
            assert_eq!(at_target, expected && is_of_target, "{revoked:?}");
        }
    }

    #[test]
    fn of_two_for_one_thing_the_longer_one_holds() {
        let alice = || subject("https://idp", "alice");
        for untils in [
            [Some(NOW), None],
            [None, Some(NOW)],
            [Some(NOW), Some(NOW + 1)],
            [Some(NOW + 1), Some(NOW)],
        ] {
            let both = RevocationSet::new([
                revocation(1, alice(), untils[0]),
                revocation(2, alice(), untils[1]),
            ]);
            assert!(both.find_principal(&principal(), NOW).is_some());
            assert_eq!(both.len(), 2);
        }
        let over = RevocationSet::new([revocation(1, alice(), Some(NOW))]);
        assert!(over.find_principal(&principal(), NOW).is_none());
        assert!(over.find_principal(&principal(), NOW - 1).is_some());
    }
}
