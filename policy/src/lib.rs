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

mod principal;
mod target;

pub mod class;
mod operation;
pub mod pattern;

pub mod catalogue;

mod rule;

mod compile;

mod decide;
mod decision;
mod guard;

pub mod sql;

pub mod mask;

pub use compile::{Compiled, Policy, Version};
pub use decide::{Applies, ConsideredRule, ExplainedEffect, ExplainedStatement, Explanation};
pub use decision::{Decision, Permit, Refusal, RefusalKind, RulesKey};
pub use guard::{GUARDS, Guard};
pub use operation::{Operation, SearchPath, SessionContext};
pub use principal::{Actor, Principal, Proof};
pub use rule::{KEYS, Key, Problem, Source, Within};
pub use target::{DATABASE_SEPARATOR, DatabasePattern, KnownTarget, Target};
