//! The program `sallyport-loadgen`: reads its environment, and leaves the rest to the command line.

#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use loadgen::cli::{self, ProcessEnvironment};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    runtime::install_panic_hook();
    let environment = ProcessEnvironment {
        variable: |name| env::var_os(name),
    };
    cli::run(env::args_os(), &environment)
}
