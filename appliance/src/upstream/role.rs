//! Whether a server is of the kind that a target's sessions need: primary, standby, writable.
//!
//! Goes by what the server reports of itself, as libpq does from PostgreSQL 14 on. What an older
//! one would have to be asked is not asked: it has no role.

use super::conversation::Parameters;

/// Which servers of a target get its sessions; libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionAttrs {
    /// Whichever answers.
    #[default]
    Any,
    /// No standby, and no `default_transaction_read_only`.
    ReadWrite,
    /// The opposite of `ReadWrite`.
    ReadOnly,
    /// No standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby, or whichever answers when there is none.
    PreferStandby,
}

/// What a server reports of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Role {
    in_hot_standby: bool,
    read_only_by_default: bool,
}

impl Role {
    /// `None` when the server does not say, which those before PostgreSQL 14 do not.
    pub(super) fn of(parameters: &Parameters) -> Option<Self> {
        let is_on = |name| parameters.get(name).map(|value| value == b"on");
        Some(Self {
            in_hot_standby: is_on("in_hot_standby")?,
            read_only_by_default: is_on("default_transaction_read_only")?,
        })
    }

    /// With the default of `before`: this one was reported after we set it ourselves.
    pub(super) fn with_default_of(self, before: Self) -> Self {
        Self {
            read_only_by_default: before.read_only_by_default,
            ..self
        }
    }
}

impl SessionAttrs {
    /// Whether a session may be on a server of this role.
    pub(super) fn accepts(self, role: Option<Role>) -> bool {
        let Some(role) = role else {
            return matches!(self, Self::Any | Self::PreferStandby);
        };
        let read_only = role.in_hot_standby || role.read_only_by_default;
        match self {
            Self::Any | Self::PreferStandby => true,
            Self::ReadWrite => !read_only,
            Self::ReadOnly => read_only,
            Self::Primary => !role.in_hot_standby,
            Self::Standby => role.in_hot_standby,
        }
    }

    /// Whether to look no further once a server of this role was found.
    pub(super) fn is_met_by(self, role: Option<Role>) -> bool {
        match self {
            Self::PreferStandby => Self::Standby.accepts(role),
            Self::Any | Self::ReadWrite | Self::ReadOnly | Self::Primary | Self::Standby => {
                self.accepts(role)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_that_each_attribute_accepts() {
        let role = |in_hot_standby, read_only_by_default| {
            Some(Role {
                in_hot_standby,
                read_only_by_default,
            })
        };
        let roles = [
            role(false, false),
            role(false, true),
            role(true, false),
            None,
        ];
        // As the table in libpq's manual: writable primary, read-only primary, standby, unknown.
        let cases = [
            (SessionAttrs::Any, [true, true, true, true]),
            (SessionAttrs::ReadWrite, [true, false, false, false]),
            (SessionAttrs::ReadOnly, [false, true, true, false]),
            (SessionAttrs::Primary, [true, true, false, false]),
            (SessionAttrs::Standby, [false, false, true, false]),
            (SessionAttrs::PreferStandby, [true, true, true, true]),
        ];
        for (attrs, accepted) in cases {
            assert_eq!(roles.map(|role| attrs.accepts(role)), accepted, "{attrs:?}");
        }
        let preferred = roles.map(|role| SessionAttrs::PreferStandby.is_met_by(role));
        assert_eq!(preferred, [false, false, true, false]);
    }
}
