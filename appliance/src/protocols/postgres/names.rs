//! What a name stands for on the server: prepared statements and portals.
//!
//! A definition counts from the moment the server confirms it. Until then it is
//! pending, and whether a later message may rely on it depends on the *epoch*:
//! inside one epoch (up to `Sync`, `Query` or `FunctionCall`) a failure makes
//! the server discard everything that follows, so assuming success is exact;
//! across epochs it is not, and the caller waits for the answer.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};

/// Per connection; one for statements, one for portals. `V` is cheap to clone.
pub(crate) struct Names<V> {
    /// What the empty name stands for: the one that most messages use.
    unnamed: Option<V>,
    settled: HashMap<Name, V>,
    pending: VecDeque<Pending<V>>,
    epoch: u64,
}

/// What a name stands for, as far as it can be known before the server answers.
#[derive(Debug, PartialEq)]
pub(crate) enum Meaning<V> {
    /// The server holds this, or will when it comes to the message in question.
    Known(V),
    /// The server holds nothing under this name that came through here.
    Absent,
    /// An earlier epoch's answer decides; ask again when it has arrived.
    Unsettled,
}

struct Pending<V> {
    request: Step,
    epoch: u64,
    change: Change<V>,
}

/// A request by its number, and the statement inside it (0 but for a batch).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Step {
    pub(crate) request: u64,
    pub(crate) statement: u32,
}

impl Step {
    /// A request that is one step by itself.
    pub(crate) fn whole(request: u64) -> Self {
        Self {
            request,
            statement: 0,
        }
    }
}

/// What a request does to the names once it succeeds.
#[derive(Clone, Debug)]
pub(crate) enum Change<V> {
    Define(Name, V),
    Remove(Name),
    RemoveAll,
}

/// Longest name of a statement or portal: PostgreSQL's `NAMEDATALEN`, less the terminator.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// A name, held in place: one is noted with every Bind.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    length: u8,
    bytes: [u8; NAME_BYTES_MAX],
}

impl Name {
    /// `None` for a name that the server would cut.
    pub(crate) fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self {
            length: u8::try_from(name.len()).ok()?,
            bytes,
        })
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The agent's own word.
        write!(f, "Name({} bytes)", self.length)
    }
}

impl<V> Default for Names<V> {
    fn default() -> Self {
        Self {
            unnamed: None,
            settled: HashMap::new(),
            pending: VecDeque::new(),
            epoch: 0,
        }
    }
}

impl<V: Clone> Names<V> {
    /// Notes that `request` makes `change` if the server carries it out.
    pub(crate) fn expect(&mut self, request: Step, change: Change<V>) {
        self.pending.push_back(Pending {
            request,
            epoch: self.epoch,
            change,
        });
    }

    /// Ends an epoch: what follows does not depend on the success of what came before.
    pub(crate) fn end_epoch(&mut self) {
        self.epoch += 1;
    }

    /// What `name` stands for when a message sent now reaches the server.
    pub(crate) fn meaning(&self, name: &[u8]) -> Meaning<V> {
        for pending in self.pending.iter().rev() {
            let outcome = match &pending.change {
                Change::Define(defined, value) if defined.as_bytes() == name => {
                    Meaning::Known(value.clone())
                }
                Change::Remove(removed) if removed.as_bytes() == name => Meaning::Absent,
                Change::RemoveAll => Meaning::Absent,
                Change::Define(..) | Change::Remove(_) => continue,
            };
            return if pending.epoch == self.epoch {
                outcome
            } else {
                Meaning::Unsettled
            };
        }
        let settled = if name.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.settled.get(name)
        };
        settled.map_or(Meaning::Absent, |value| Meaning::Known(value.clone()))
    }

    /// The server confirmed `request`.
    pub(crate) fn confirm(&mut self, request: Step) {
        while let Some(pending) = self
            .pending
            .pop_front_if(|pending| pending.request <= request)
        {
            if pending.request != request {
                continue;
            }
            match pending.change {
                Change::Define(name, value) if name.as_bytes().is_empty() => {
                    self.unnamed = Some(value);
                }
                Change::Define(name, value) => {
                    self.settled.insert(name, value);
                }
                Change::Remove(name) if name.as_bytes().is_empty() => self.unnamed = None,
                Change::Remove(name) => {
                    self.settled.remove(&name);
                }
                Change::RemoveAll => self.forget_settled(),
            }
        }
    }

    /// The server refused `request` or discarded it: nothing of it up to `statement` is left pending.
    pub(crate) fn dismiss(&mut self, request: u64) {
        while self
            .pending
            .pop_front_if(|pending| pending.request.request <= request)
            .is_some()
        {}
    }

    /// Forgets every confirmed name (portals, when their transaction ends).
    pub(crate) fn forget_settled(&mut self) {
        self.unnamed = None;
        if !self.settled.is_empty() {
            self.settled.clear();
        }
    }

    /// The epoch in which a message sent now reaches the server.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether an answer is outstanding that decides what a name means across epochs.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.pending
            .front()
            .is_some_and(|pending| pending.epoch != self.epoch)
    }

    /// How many names are held, for the caller's bound.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.unnamed.is_some()) + self.settled.len() + self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(request: u64) -> Step {
        Step {
            request,
            statement: 0,
        }
    }

    fn define(names: &mut Names<&'static str>, request: u64, name: &str, value: &'static str) {
        names.expect(
            step(request),
            Change::Define(Name::new(name.as_bytes()).unwrap(), value),
        );
    }

    #[test]
    fn a_definition_serves_its_own_epoch_before_it_is_confirmed() {
        let mut names = Names::default();
        define(&mut names, 1, "s", "select 1");
        assert_eq!(names.meaning(b"s"), Meaning::Known("select 1"));
        assert_eq!(names.meaning(b"t"), Meaning::Absent);
    }

    #[test]
    fn a_later_epoch_waits_for_the_answer() {
        let mut names = Names::default();
        define(&mut names, 1, "s", "select 1");
        names.confirm(step(1));
        names.end_epoch();
        define(&mut names, 2, "s", "select 2");
        names.end_epoch();
        assert_eq!(names.meaning(b"s"), Meaning::Unsettled);
        names.dismiss(2);
        assert_eq!(names.meaning(b"s"), Meaning::Known("select 1"));
    }

    #[test]
    fn a_batch_keeps_what_ran_before_its_error() {
        let mut names = Names::default();
        names.expect(
            Step {
                request: 7,
                statement: 0,
            },
            Change::Define(Name::new(b"a").unwrap(), "one"),
        );
        names.expect(
            Step {
                request: 7,
                statement: 1,
            },
            Change::Define(Name::new(b"b").unwrap(), "two"),
        );
        names.end_epoch();
        names.confirm(Step {
            request: 7,
            statement: 0,
        });
        names.dismiss(7);
        assert_eq!(names.meaning(b"a"), Meaning::Known("one"));
        assert_eq!(names.meaning(b"b"), Meaning::Absent);
    }

    #[test]
    fn removing_all_hides_what_was_confirmed() {
        let mut names = Names::default();
        define(&mut names, 1, "s", "select 1");
        names.confirm(step(1));
        names.expect(step(2), Change::RemoveAll);
        assert_eq!(names.meaning(b"s"), Meaning::Absent);
        names.confirm(step(2));
        assert_eq!(names.len(), 0);
    }
}
