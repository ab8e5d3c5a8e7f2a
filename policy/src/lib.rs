//! Who may do what to which target: one door, [`Policy::admit`] and [`Policy::judge`].
//!
//! Pure: no wire types, sockets, files, clock or randomness. A caller compiles policy files into a
//! [`Policy`], admits a [`Principal`] to a [`Target`], profiles the text that it sends
//! ([`sql::postgres::profile`]) and has each [`Operation`] judged.
//!
//! A decision depends on nothing but these, so the key of a cache of decisions holds all of them:
//! [`Policy::version`], [`Permit::rules_key`], the whole [`SessionContext`], the bytes of the text
//! and the [`sql::postgres::ProfileLimits`]. In place of the text its shape will do
//! ([`sql::postgres::write_shape`]), unless its profile says that [literals
//! decide](sql::Batch::literals_decide).

#![forbid(unsafe_code)]

mod network;
mod principal;
mod target;

pub mod class;
mod operation;
pub mod pattern;
pub mod quantity;

pub mod catalogue;

mod resolve;

mod budget;
mod rule;
mod window;

mod compile;

pub mod approval;

mod decide;
mod decision;
mod explain;
mod guard;
mod outline;

pub mod sql;

pub mod mask;

pub use budget::{BudgetRule, Per};
pub use compile::{Action, Compiled, Hold, Known, KnownIssuer, Policy, Version};
pub use decision::{Decision, Held, HeldEffect, HeldRule, Permit, Refusal, RefusalKind, RulesKey};
pub use explain::{
    Applies, ConsideredRule, ExplainedEffect, ExplainedMask, ExplainedStatement, Explanation,
};
pub use guard::{GUARDS, Guard};
pub use network::{Client, Network, NetworkError};
pub use operation::{Occasion, Operation, SearchPath, SessionContext};
pub use outline::{About, Outline, OutlinedItem, OutlinedRule};
pub use principal::{Actor, Principal, Proof};
pub use resolve::column_uses;
pub use rule::{
    KEYS, Key, Problem, Source, TABLES, Value, Within, documentation as key_documentation,
};
pub use target::{DATABASE_SEPARATOR, DatabasePattern, KnownTarget, Target};
