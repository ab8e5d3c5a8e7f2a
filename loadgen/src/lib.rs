//! Sallyport's load generator: what somebody wants to know before a proxy stands in front of production.
//!
//! Arrival is open-loop: when a request is due is computed ahead and does not depend on answers,
//! and latency counts from when it was due. It decides nothing about what is good; it measures.

#![forbid(unsafe_code)]

pub mod cli;

pub mod scenario;
pub mod schedule;

pub mod agents;
pub mod protocols;
pub mod upstream;

pub mod engine;
pub mod process;
pub mod run;
pub mod validity;

pub mod compare;
pub mod statistics;

pub mod progress;
pub mod report;
