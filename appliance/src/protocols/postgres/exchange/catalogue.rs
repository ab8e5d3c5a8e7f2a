//! What one session knows of the database that it is connected to.
//!
//! The shard looks after the catalogue; here is which one the session judges by, and when it has
//! to wait for another.

use std::rc::Rc;
use std::task::{Context, Poll};

use policy::catalogue::Catalogue;

use super::Pause;
use crate::protocols::postgres::classify::Redefines;
use crate::upstream::{Look, UpstreamError, View, Watch};

/// Per connection.
pub(super) struct Known {
    watch: Option<Watch>,
    /// Judged by; `None` before the first statement that needs it.
    in_force: Option<Rc<Catalogue>>,
    /// Of [`Watch::revision`], when [`Self::in_force`] was taken.
    seen: u64,
    /// Of [`Watch::schemas`], at that time.
    schemas: Box<str>,
    /// The schemas are others than they were, which may change the search path.
    has_other_schemas: bool,
    /// What this session asked to be looked at again, until that is done.
    look: Option<Look>,
    /// The database was looked at again for a name of the message that is judged.
    pub(super) has_looked: bool,
    /// What statements that were forwarded may have changed, until their end is known.
    changing: Redefines,
}

impl Known {
    pub(super) fn new(watch: Option<Watch>) -> Self {
        Self {
            watch,
            in_force: None,
            seen: 0,
            schemas: Box::default(),
            has_other_schemas: false,
            look: None,
            has_looked: false,
            changing: Redefines::Nothing,
        }
    }

    pub(super) fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    pub(super) fn in_force(&self) -> Option<Rc<Catalogue>> {
        self.in_force.clone()
    }

    /// The session has changed the database in a way that the catalogue does not say.
    pub(super) fn is_unsettled(&self) -> bool {
        self.changing == Redefines::Certainly
    }

    /// There may be another catalogue than the one in force.
    pub(super) fn is_behind(&self) -> bool {
        let latest = self.watch.as_ref().map_or(0, Watch::revision);
        latest != self.seen || self.look.is_some()
    }

    /// Takes the catalogue that there is; says what has to be waited for before there is one.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn catch_up(&mut self) -> Result<Option<Pause>, UpstreamError> {
        let Some(watch) = &self.watch else {
            return Ok(None);
        };
        let revision = watch.revision();
        match watch.view(self.look) {
            View::Pending => Ok(Some(Pause::Catalogue)),
            // It may have come back since.
            View::Unavailable(_) if self.look.is_none() => {
                self.look = Some(watch.ask());
                Ok(Some(Pause::Catalogue))
            }
            View::Unavailable(error) => {
                self.look = None;
                Err(error)
            }
            View::Ready(catalogue) => {
                let schemas = watch.schemas();
                self.take(catalogue, schemas);
                self.seen = revision;
                self.look = None;
                Ok(None)
            }
        }
    }

    /// Whether the search path has to be asked for again.
    pub(super) fn takes_other_schemas(&mut self) -> bool {
        std::mem::take(&mut self.has_other_schemas)
    }

    fn take(&mut self, catalogue: Rc<Catalogue>, schemas: Box<str>) {
        self.has_other_schemas |= self.in_force.is_some() && schemas != self.schemas;
        self.schemas = schemas;
        self.in_force = Some(catalogue);
    }

    /// Takes what was last found right, where a session that holds locks may go on by it while
    /// somebody else's change is looked at: the look may be waiting for those locks.
    pub(super) fn outlasts_look(&mut self) -> bool {
        let latest = self.watch.as_ref().filter(|_| self.look.is_none());
        let Some((catalogue, schemas)) = latest.and_then(Watch::latest_confirmed) else {
            return false;
        };
        self.take(catalogue, schemas);
        true
    }

    /// Has the database looked at again, since the message at hand has a name that is not in the
    /// catalogue in force; false when that was done for it.
    pub(super) fn look_once(&mut self) -> bool {
        if self.has_looked {
            return false;
        }
        self.look = self.watch.as_ref().map(Watch::ask);
        self.has_looked = self.look.is_some();
        self.has_looked
    }

    /// The server answered from a table that the catalogue does not have.
    pub(super) fn is_outdated(&self) {
        if let Some(watch) = &self.watch {
            watch.ask();
        }
    }

    pub(super) fn poll_known(&self, context: &mut Context<'_>) -> Poll<()> {
        match &self.watch {
            Some(watch) => watch.poll_view(self.look, context),
            None => Poll::Ready(()),
        }
    }

    /// A statement was forwarded. Returns whether what is judged by changes with that.
    pub(super) fn redefined(&mut self, redefines: Redefines) -> bool {
        let before = self.is_unsettled();
        self.changing = self.changing.max(redefines);
        self.is_unsettled() != before
    }

    /// No transaction is open, and `at_rest` nothing that was forwarded is without its answer.
    /// Returns whether what is judged by changes with that.
    pub(super) fn committed(&mut self, at_rest: bool) -> bool {
        let before = self.is_unsettled();
        self.tell();
        if at_rest {
            self.changing = Redefines::Nothing;
        }
        self.is_unsettled() != before
    }

    /// Has the shard look at what may have changed.
    fn tell(&self) {
        match (self.changing, &self.watch) {
            (Redefines::Nothing, _) | (_, None) => {}
            (Redefines::Perhaps, Some(watch)) => {
                watch.ask();
            }
            (Redefines::Certainly, Some(watch)) => watch.doubt(),
        }
    }
}

impl Drop for Known {
    /// The session ends before it learns whether its change was committed.
    fn drop(&mut self) {
        self.tell();
    }
}
