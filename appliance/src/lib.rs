//! The appliance, module by module in reading order.

#![forbid(unsafe_code)]

pub mod config;
pub mod downstream;
pub mod identity;
pub mod recorder;
pub mod transport;
pub mod upstream;
