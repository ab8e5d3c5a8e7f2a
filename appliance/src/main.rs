//! The program `sallyport`: reads its environment, and leaves the rest to the command line.

#![forbid(unsafe_code)]

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use appliance::cli::{self, ProcessEnvironment};
use appliance::service;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    runtime::install_panic_hook();
    let environment = ProcessEnvironment {
        config: path("SALLYPORT_CONFIG"),
        state_directory: first_path("STATE_DIRECTORY"),
        runtime_directory: first_path("RUNTIME_DIRECTORY"),
        credentials_directory: path("CREDENTIALS_DIRECTORY"),
        service: service::Variables {
            notify_socket: env::var_os("NOTIFY_SOCKET"),
            watchdog_usec: env::var_os("WATCHDOG_USEC"),
            watchdog_pid: env::var_os("WATCHDOG_PID"),
            listen_pid: env::var_os("LISTEN_PID"),
            listen_fds: env::var_os("LISTEN_FDS"),
            listen_fdnames: env::var_os("LISTEN_FDNAMES"),
        },
        variable: |name| env::var_os(name),
    };
    cli::run(env::args_os(), &environment)
}

fn path(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// systemd separates several directories by colons; the first is the main one.
fn first_path(variable: &str) -> Option<PathBuf> {
    let all = env::var_os(variable)?;
    env::split_paths(&all).find(|path| !path.as_os_str().is_empty())
}
