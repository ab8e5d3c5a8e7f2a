//! From SQL text to what its statements do.
//!
//! Judges nothing; that is `decide`. PostgreSQL only, by PostgreSQL's own grammar.

mod children;
mod functions;
pub mod lineage;
mod nodes;
pub mod postgres;
mod profile;

pub(crate) use functions::{is_catalogue_relation, is_harmless};
pub use nodes::{Handling, NODES};
pub(crate) use postgres::Shape;
pub use profile::{
    Batch, By, Change, ColumnUse, CopyLayout, CopyStream, Effect, FunctionName, Name,
    NamedStatementEffect, Object, Reason, RelyingOn, Schema, Scope, SettingChange,
    StatementProfile, Through, TransactionControl,
};
