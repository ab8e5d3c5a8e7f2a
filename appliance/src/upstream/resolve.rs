//! The addresses of host names, without waiting for a name server on the shard.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use runtime::{now, run_blocking, spawn, with_deadline};

use super::error::{Phase, UpstreamError};

/// How long an answer stands in for one that cannot be had.
const STALE_FOR: Duration = Duration::from_secs(3600);

/// Names that are remembered. A few per target is the need; more come and go with reloads.
const NAMES_MAX: usize = 1024;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// A host name and the port to connect to there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Answers of the system's resolver (`getaddrinfo`, so `/etc/hosts` and `nsswitch.conf` count).
/// Per shard.
///
/// A name is looked up once at a time, on a thread of its own, however many ask: a name server
/// that is silent holds one thread for each name, until the system's resolver gives up.
#[derive(Clone, Default)]
pub(super) struct Resolver(Rc<RefCell<HashMap<Name, Entry>>>);

#[derive(Default)]
struct Entry {
    answer: Option<Answer>,
    lookup: Option<Rc<Lookup>>,
}

#[derive(Clone)]
struct Answer {
    addresses: Vec<SocketAddr>,
    at: Instant,
    /// A server at one of them could not be reached since.
    doubted: bool,
}

/// A look-up that is under way, or over.
#[derive(Default)]
struct Lookup(RefCell<LookupState>);

#[derive(Default)]
struct LookupState {
    is_over: bool,
    waiting: Vec<Waker>,
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    /// At least one, in the order in which they should be tried.
    pub(super) list: Vec<SocketAddr>,
    /// Whether somebody asked for them before, so that they may have changed.
    pub(super) remembered: bool,
}

impl Resolver {
    /// An answer that is not older than `fresh_for` and not in doubt, else a new one, else an old
    /// one.
    ///
    /// # Errors
    /// `Unresolved`, or `TimedOut` when neither the name server nor an earlier answer serves.
    pub(super) async fn resolve(
        &self,
        name: &Name,
        fresh_for: Duration,
        deadline: Instant,
    ) -> Result<Addresses, UpstreamError> {
        if let Some(list) = self.fresh(name, fresh_for) {
            return Ok(Addresses {
                list,
                remembered: true,
            });
        }
        let asked_at = now();
        let lookup = self.look_up(name);
        let in_time = with_deadline(deadline, lookup.over()).await.is_ok();
        let names = self.0.borrow();
        let answer = names.get(name).and_then(|entry| entry.answer.as_ref());
        match answer {
            Some(answer) if now().duration_since(answer.at) < STALE_FOR => Ok(Addresses {
                list: answer.addresses.clone(),
                remembered: answer.at < asked_at,
            }),
            Some(_) | None if in_time => Err(UpstreamError::Unresolved),
            Some(_) | None => Err(UpstreamError::TimedOut {
                phase: Phase::Resolve,
            }),
        }
    }

    /// Has the next [`resolve`](Self::resolve) ask again, since an address did not serve.
    pub(super) fn doubt(&self, name: &Name) {
        if let Some(entry) = self.0.borrow_mut().get_mut(name)
            && let Some(answer) = &mut entry.answer
        {
            answer.doubted = true;
        }
    }

    /// Starts looking `name` up again if its answer is older than `fresh_for`.
    pub(super) fn refresh(&self, name: &Name, fresh_for: Duration) {
        if self.fresh(name, fresh_for).is_none() {
            // Nobody waits; the answer is there for whoever asks next.
            let _ = self.look_up(name);
        }
    }

    /// Whether the newest answer for `name` lacks `address`.
    pub(super) fn has_left(&self, name: &Name, address: SocketAddr) -> bool {
        let names = self.0.borrow();
        let answer = names.get(name).and_then(|entry| entry.answer.as_ref());
        answer.is_some_and(|answer| !answer.addresses.contains(&address))
    }

    fn fresh(&self, name: &Name, fresh_for: Duration) -> Option<Vec<SocketAddr>> {
        let names = self.0.borrow();
        let answer = names.get(name)?.answer.as_ref()?;
        let fresh = !answer.doubted && now().duration_since(answer.at) < fresh_for;
        fresh.then(|| answer.addresses.clone())
    }

    /// The look-up of `name` that is under way, or a new one.
    fn look_up(&self, name: &Name) -> Rc<Lookup> {
        let mut names = self.0.borrow_mut();
        if names.len() >= NAMES_MAX && !names.contains_key(name) {
            names.clear();
        }
        let entry = names.entry(name.clone()).or_default();
        if let Some(lookup) = &entry.lookup {
            return lookup.clone();
        }
        let lookup = Rc::new(Lookup::default());
        entry.lookup = Some(lookup.clone());
        // A task runs for the first time where it is spawned, and may get its answer there.
        drop(names);
        let (resolver, name, running) = (self.clone(), name.clone(), lookup.clone());
        spawn(async move {
            let addresses = ask(&name).await;
            let mut names = resolver.0.borrow_mut();
            let entry = names.entry(name).or_default();
            entry.lookup = None;
            // An answer that cannot be had does not take the place of an earlier one.
            if !addresses.is_empty() {
                entry.answer = Some(Answer {
                    addresses,
                    at: now(),
                    doubted: false,
                });
            }
            drop(names);
            running.end();
        });
        lookup
    }
}

impl Lookup {
    async fn over(&self) {
        poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            if state.is_over {
                return Poll::Ready(());
            }
            if !state
                .waiting
                .iter()
                .any(|waker| waker.will_wake(cx.waker()))
            {
                state.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn end(&self) {
        let mut state = self.0.borrow_mut();
        state.is_over = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// No address at all when the name is unknown.
async fn ask(name: &Name) -> Vec<SocketAddr> {
    let (host, port) = (name.host.clone(), name.port);
    run_blocking(move || match (host.as_str(), port).to_socket_addrs() {
        Ok(addresses) => addresses.take(ADDRESSES_MAX).collect(),
        Err(_) => Vec::new(),
    })
    .await
    .unwrap_or_default()
}
