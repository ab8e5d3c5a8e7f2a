//! What a person may do with the appliance itself, by the groups of their token.
//!
//! It says nothing about targets: that is policy.

use std::collections::BTreeSet;

use policy::Principal;

/// What a person may do with the appliance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees sessions, recordings, requests, targets and rules. Part of the two others.
    Viewer,
    /// Answers requests for approval; which ones, the rules say.
    Approver,
    /// Changes what runs: revokes, ends sessions, reloads. Does not approve.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Approver, Self::Admin];

    /// As written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

/// Which groups have which role. Part of the configuration snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    viewers: BTreeSet<String>,
    approvers: BTreeSet<String>,
    admins: BTreeSet<String>,
    minted_by: Option<String>,
}

/// The roles of one person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoleSet {
    viewer: bool,
    approver: bool,
    admin: bool,
}

impl Roles {
    /// Gives `role` to the members of `groups`, beside those that have it already.
    #[must_use]
    pub fn with(mut self, role: Role, groups: impl IntoIterator<Item = String>) -> Self {
        let members = match role {
            Role::Viewer => &mut self.viewers,
            Role::Approver => &mut self.approvers,
            Role::Admin => &mut self.admins,
        };
        members.extend(groups);
        self
    }

    /// Gives no role to tokens of the issuer `iss`: whoever reaches the admin socket mints them.
    #[must_use]
    pub fn none_for_tokens_of(mut self, iss: &str) -> Self {
        self.minted_by = Some(iss.to_owned());
        self
    }

    /// The roles of a proven principal.
    ///
    /// A token with a delegation chain has none: it is an agent that speaks for a person, and no
    /// person.
    pub fn of(&self, principal: &Principal) -> RoleSet {
        let is_minted = self.minted_by.as_ref() == Some(&principal.issuer);
        if is_minted || !principal.delegation.is_empty() {
            return RoleSet::default();
        }
        let any = |members: &BTreeSet<String>| {
            let mut groups = principal.groups.iter();
            groups.any(|group| members.contains(group))
        };
        RoleSet {
            viewer: any(&self.viewers),
            approver: any(&self.approvers),
            admin: any(&self.admins),
        }
    }

    /// Whether members of `group` have any role.
    pub fn names(&self, group: &str) -> bool {
        [&self.viewers, &self.approvers, &self.admins]
            .iter()
            .any(|members| members.contains(group))
    }
}

impl RoleSet {
    /// Whether the person has the role, or one that it is part of.
    pub fn holds(self, role: Role) -> bool {
        match role {
            Role::Viewer => self.viewer || self.approver || self.admin,
            Role::Approver => self.approver,
            Role::Admin => self.admin,
        }
    }

    /// The roles held.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.holds(*role))
    }
}

#[cfg(test)]
mod tests {
    use policy::{Actor, Proof};

    use super::*;

    fn principal(issuer: &str, groups: &[&str]) -> Principal {
        Principal {
            issuer: issuer.into(),
            subject: "alice".into(),
            name: "alice".into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            delegation: vec![],
            token_id: None,
            expires: 0,
            proof: Proof::OauthBearer,
        }
    }

    fn roles() -> Roles {
        let one = |group: &str| [group.to_owned()];
        Roles::default()
            .with(Role::Viewer, one("staff"))
            .with(Role::Approver, one("oncall"))
            .with(Role::Admin, one("security"))
            .none_for_tokens_of("sallyport:1")
    }

    fn held(principal: &Principal) -> Vec<Role> {
        roles().of(principal).iter().collect()
    }

    #[test]
    fn groups_give_roles_and_every_role_sees() {
        use Role::{Admin, Approver, Viewer};
        let cases: [(&[&str], &[Role]); 6] = [
            (&[], &[]),
            (&["Staff", "oncall "], &[]),
            (&["staff"], &[Viewer]),
            (&["oncall"], &[Viewer, Approver]),
            (&["security"], &[Viewer, Admin]),
            (&["x", "oncall", "security"], &[Viewer, Approver, Admin]),
        ];
        for (groups, expected) in cases {
            assert_eq!(held(&principal("https://idp", groups)), expected);
        }
    }

    #[test]
    fn minted_and_delegated_tokens_have_no_role() {
        assert_eq!(held(&principal("sallyport:1", &["security", "oncall"])), []);
        let mut delegated = principal("https://idp", &["security", "oncall"]);
        delegated.delegation.push(Actor {
            issuer: "https://idp".into(),
            subject: "agent".into(),
        });
        assert_eq!(held(&delegated), []);
    }
}
