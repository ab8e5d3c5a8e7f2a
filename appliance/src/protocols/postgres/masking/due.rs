//! Whose answers are due, and what each is masked by.

use std::rc::Rc;

use policy::mask::MaskPlan;
use policy::sql::{Object, StatementProfile};

use super::{Described, Plans};
use crate::protocols::postgres::classify::Statement;

/// A request whose answer is not complete.
pub(super) struct Due {
    pub(super) request: u64,
    pub(super) of: Of,
    /// What the server says meanwhile may quote what is masked.
    pub(super) withholds: bool,
}

/// What kind of answer it is.
pub(in crate::protocols::postgres) enum Of {
    Query {
        statement: Rc<Statement>,
        plans: Option<Plans>,
        /// What its EXECUTEs answer with, by their index.
        executed: Vec<(usize, Planned)>,
    },
    Execute {
        statement: Rc<Statement>,
        /// Which part of its text it is.
        index: usize,
        portal: Rc<Described>,
        planned: Planned,
    },
    Describe(Rc<Described>),
    /// The same, asked by us: the agent does not see the answer.
    Learning(Rc<Described>),
    /// The portal of this name is made.
    Bind(Box<[u8]>),
    /// A call by number; whether what the function returns derives from no column.
    Function {
        is_known: bool,
    },
}

/// What the rows of one statement are masked by.
#[derive(Clone)]
pub(in crate::protocols::postgres) enum Planned {
    /// No column mask is about the session.
    Clear,
    Plan(Rc<MaskPlan>),
    /// What the query of this cursor is masked by, once its rows come.
    Cursor(Box<str>),
    /// Nobody knows where they come from.
    Unknown,
}

impl Planned {
    /// Whether what the server says meanwhile may quote what is masked.
    pub(in crate::protocols::postgres) fn withholds(&self) -> bool {
        match self {
            Self::Clear => false,
            Self::Plan(plan) => plan.withholds_texts,
            // Its DECLARE was in the same transaction, or its rows are computed already.
            Self::Cursor(_) => false,
            Self::Unknown => true,
        }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Clear, Self::Clear) | (Self::Unknown, Self::Unknown) => true,
            (Self::Plan(one), Self::Plan(two)) => Rc::ptr_eq(one, two),
            (Self::Cursor(one), Self::Cursor(two)) => one == two,
            (Self::Clear | Self::Plan(_) | Self::Cursor(_) | Self::Unknown, _) => false,
        }
    }

    /// What statement `index` of a text with these plans is masked by, but for EXECUTE.
    pub(in crate::protocols::postgres) fn of(
        statement: &Statement,
        plans: Option<&Plans>,
        index: usize,
    ) -> Self {
        let Some(plans) = plans else {
            return Self::Clear;
        };
        match statement.profiles.get(index).map(role) {
            Some(Role::Fetches(cursor)) => Self::Cursor(cursor.into()),
            Some(Role::Declares(_) | Role::Closes(_) | Role::Plain) => {
                let plan = plans.get(index).cloned();
                plan.map_or(Self::Unknown, Self::Plan)
            }
            None => Self::Unknown,
        }
    }
}

impl Of {
    pub(super) fn planned(&self, index: u32) -> Planned {
        match self {
            Self::Query {
                statement,
                plans,
                executed,
            } => {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                let executed = executed.iter().find(|(known, _)| *known == index);
                match executed {
                    Some((_, planned)) => planned.clone(),
                    None => Planned::of(statement, plans.as_ref(), index),
                }
            }
            Self::Execute { planned, .. } => planned.clone(),
            Self::Describe(_) | Self::Learning(_) | Self::Bind(_) | Self::Function { .. } => {
                Planned::Unknown
            }
        }
    }

    pub(super) fn profile(&self, index: u32) -> Option<&StatementProfile> {
        match self {
            Self::Query { statement, .. } => statement.profiles.get(usize::try_from(index).ok()?),
            Self::Execute {
                statement, index, ..
            } => statement.profiles.get(*index),
            Self::Describe(_) | Self::Learning(_) | Self::Bind(_) | Self::Function { .. } => None,
        }
    }
}

/// What a statement has to do with cursors.
pub(super) enum Role<'p> {
    Plain,
    Declares(&'p str),
    Fetches(&'p str),
    /// An empty name is all of them.
    Closes(&'p str),
}

pub(super) fn role(profile: &StatementProfile) -> Role<'_> {
    let cursor = || {
        let objects = profile.effects.iter().map(|effect| &effect.object);
        objects
            .filter_map(|object| match object {
                Object::Other {
                    kind: "cursor",
                    name,
                } => Some(name.as_str()),
                Object::Nothing
                | Object::Table(_)
                | Object::Function(_)
                | Object::Other { .. }
                | Object::Unread(_) => None,
            })
            .next()
            .unwrap_or_default()
    };
    match profile.kind {
        "DeclareCursorStmt" => Role::Declares(cursor()),
        "FetchStmt" => Role::Fetches(cursor()),
        "ClosePortalStmt" => Role::Closes(cursor()),
        _ => Role::Plain,
    }
}
