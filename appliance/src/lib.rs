//! The appliance, module by module in reading order.
//!
//! `connection` is the one file that reads as the life of a connection, from accept to close.

#![forbid(unsafe_code)]

pub mod shard;

pub mod budgets;
mod connection;
pub mod revocation;

pub mod downstream;
pub mod identity;
pub mod upstream;

mod protocols;
mod relay;

pub mod approvals;

pub mod archive;
pub mod marking;
pub mod recorder;

pub mod config;
pub mod control;

pub mod cli;
pub mod service;
pub mod telemetry;

#[cfg(feature = "bench")]
pub mod bench;
