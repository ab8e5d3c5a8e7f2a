//! The appliance, module by module in reading order.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod control;
pub mod downstream;
pub mod identity;
pub mod recorder;
pub mod telemetry;
pub mod transport;
pub mod upstream;
