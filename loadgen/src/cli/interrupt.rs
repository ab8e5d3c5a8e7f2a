//! Ctrl-C: once ends a measurement with what there is, twice ends the program.
//!
//! Signals are waited for by a thread of their own, so that nothing runs inside a handler.

use std::io;

use nix::sys::signal::{SigSet, Signal};

use super::output::say;
use crate::engine::Interrupt;

/// As shells report a program that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// What the signals INT and TERM of this process ask for from now on.
///
/// Called before any other thread is started: threads block the signals that their starter did.
///
/// # Errors
/// What the kernel says.
pub(super) fn on_signals() -> io::Result<Interrupt> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let interrupt = Interrupt::default();
    let asked = interrupt.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            while signals.wait().is_ok() {
                if asked.is_requested() {
                    std::process::exit(EXIT_INTERRUPTED);
                }
                asked.request();
                say("ends early, with what there is; once more ends it at once");
            }
        })?;
    Ok(interrupt)
}
