//! One run as a command makes it: with progress, and a look at the proxy's process.

use super::output::say;
use crate::engine::{Engine, NoRun, Plan};
use crate::process::{self, Watch};
use crate::progress::{Event, Progress};
use crate::protocols::Address;
use crate::run::Run;

/// Runs `plan`; what the process used is in the run where it could be looked at to the end.
pub(super) fn measure(
    engine: &mut Engine,
    plan: Plan,
    process: Option<u32>,
    mut progress: Progress,
) -> Result<Run, NoRun> {
    let path = plan.path.clone();
    let mut watch = process.and_then(|process| complain(&path, Watch::new(process)));
    let mut used = None;
    let mut run = engine.run(plan, &mut |event| {
        match event {
            Event::Measuring => {
                let begun = watch.as_mut().map(Watch::begin);
                if begun.is_some_and(|begun| complain(&path, begun).is_none()) {
                    watch = None;
                }
            }
            Event::Ended => {
                let ended = watch.take().map(|mut watch| watch.end());
                used = ended.and_then(|used| complain(&path, used));
            }
            Event::Warming | Event::Second(_) => {}
        }
        progress.on(event);
    })?;
    run.process = used;
    Ok(run)
}

/// The process that listens on an address of this machine; none elsewhere.
pub(super) fn process_at(path: &str, address: &Address) -> Option<u32> {
    match address {
        Address::Tcp { socket, .. } if process::is_local(socket.ip()) => {
            complain(path, process::listening_on(*socket))
        }
        Address::Tcp { .. } => None,
        Address::Unix(socket) => complain(path, process::listening_at(socket)),
    }
}

/// Figures of a process are an addition: what stands in the way is said and no failure.
fn complain<T>(path: &str, result: Result<T, process::ProcessError>) -> Option<T> {
    result
        .inspect_err(|error| {
            say(&format!(
                "{path}: no CPU and memory figures: {}",
                super::chain(error)
            ));
        })
        .ok()
}
