//! Room for a descriptor for each connection.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of a worker besides its connections: rings, event descriptors, and connections that
/// are being closed while the ones that follow them are opened.
const BESIDES: u64 = 64;

/// More descriptors are needed than this process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{needed} open files are needed and {limit} allowed: raise the hard limit (ulimit -Hn)")]
pub struct TooFewFiles {
    needed: u64,
    limit: u64,
}

/// Raises this process's limit as far as it may, and says whether that is enough.
///
/// Shells set the soft limit to 1,024 for the sake of programs that use `select`.
///
/// # Errors
/// When the hard limit is below what is needed.
pub(super) fn allow(connections: u32, workers: usize) -> Result<(), TooFewFiles> {
    let workers = u64::try_from(workers).unwrap_or(u64::MAX);
    let needed = u64::from(connections).saturating_add(workers.saturating_mul(BESIDES));
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| maximum.is_none_or(|maximum| current < maximum)) {
        let most = Rlimit {
            current: maximum,
            maximum,
        };
        // Up to the hard limit nobody is refused; if this one is, the check below has the old one.
        let _ = setrlimit(Resource::Nofile, most);
    }
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => Err(TooFewFiles { needed, limit }),
        Some(_) | None => Ok(()),
    }
}
