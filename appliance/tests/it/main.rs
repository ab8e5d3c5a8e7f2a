//! Tests of the appliance against real servers and scripted peers, in one binary.

#![allow(unreachable_pub, reason = "modules of a test binary have no outside")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a failed expectation ends the test"
)]
#![allow(
    dead_code,
    reason = "the harness offers what the next test module needs"
)]

mod admin;
mod api;
mod appliance;
mod browser;
mod certificates;
mod clients;
mod e2e_approvals;
mod e2e_archive;
mod e2e_attack;
mod e2e_bad_input;
mod e2e_benign;
mod e2e_built_in_upstream;
mod e2e_builtin_issuer;
mod e2e_canaries;
mod e2e_cancel;
mod e2e_catalogue;
mod e2e_certificates;
mod e2e_client_certificates;
mod e2e_clients;
mod e2e_console;
mod e2e_control;
mod e2e_crash;
mod e2e_crash_people;
mod e2e_denial;
mod e2e_disk;
mod e2e_doctor;
mod e2e_ends;
mod e2e_export;
mod e2e_failure;
mod e2e_first_session;
mod e2e_functions;
mod e2e_hold;
mod e2e_hold_clients;
mod e2e_hostile_agent;
mod e2e_hostile_target;
mod e2e_issuers;
mod e2e_leak;
mod e2e_listeners;
mod e2e_login;
mod e2e_masking;
mod e2e_metadata;
mod e2e_negotiation;
mod e2e_oauthbearer;
mod e2e_observe;
mod e2e_path;
mod e2e_person;
mod e2e_proxy_protocol;
mod e2e_recording;
mod e2e_replay;
mod e2e_revocation;
mod e2e_rules;
mod e2e_secrets;
mod e2e_service;
mod e2e_silence;
mod e2e_state;
mod e2e_targets;
mod e2e_texts;
mod e2e_transforms;
mod e2e_upstream;
mod e2e_values;
mod functions;
mod http;
mod lineage;
mod machine;
mod mask_values;
mod people;
mod postgres;
mod postgres_model;
mod process;
mod provider;
mod schemas;
mod seeds;
mod service_manager;
mod shard;
mod token_shapes;
mod transport;
mod units;
mod upstream;
mod wire;
