//! The life of a request for approval: who may vote, what votes come to, and that an approval is
//! used once.
//!
//! Time is an argument, as time since the Unix epoch. Who waits where, and what is kept on a disk,
//! is not known here; neither is what was asked, but for its digest.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::principal::Principal;

/// Somebody, whatever token proved it.
///
/// An issuer names its subjects; the same subject of another issuer is somebody else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    pub issuer: String,
    pub subject: String,
}

/// One rule that holds, and whose approval it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub rule: String,
    /// Groups whose members may approve; membership in one of them is enough.
    pub approvers: Vec<String>,
    /// How many different people it takes. At least one.
    pub approvals: u32,
}

/// A person's yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    pub by: Approver,
    pub at: Duration,
    /// The groups it counts for: those of the voter that some rule names.
    pub groups: Vec<String>,
}

/// Who voted, and what people call them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approver {
    pub identity: Identity,
    pub name: String,
}

/// Where a request stands.
///
/// ```text
///   ask                                                 take
///    │        last vote that was missing                (by the one who waits)
///    ▼      ┌──────────────────────────▶ Approved ───────────────▶ Used
/// Pending ──┤                               │
///    │      └── vote ──▶ Pending            │
///    │                                      │
///    ├──── deny ───────▶ Denied ◀───────────┤
///    ├──── deadline ───▶ Expired ◀──────────┤
///    ├──── withdraw ───▶ Withdrawn ◀────────┤
///    ├──── policy ─────▶ PolicyChanged ◀────┤
///    └──── restart ────▶ Restarted ◀────────┘
/// ```
///
/// `Pending` and `Approved` are open; from every other state nothing leads on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Votes are missing.
    Pending,
    /// All votes are there, and what was asked has not run.
    Approved,
    /// What was asked was let through, once.
    Used,
    Denied {
        by: Approver,
        reason: String,
    },
    Expired,
    Withdrawn(Withdrawal),
    /// Another policy is in force: what was asked is judged by that.
    PolicyChanged,
    /// The appliance was started anew while it was open.
    Restarted,
}

/// Why a requester no longer wants what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Withdrawal {
    /// Ctrl-C, or another cancel.
    Cancelled,
    /// The connection ended inside a transaction, which is gone with it.
    Disconnected,
    /// The token, agent, session or target was revoked.
    Revoked,
    /// The session was ended: a drain, a kill, the end of its lifetime.
    SessionEnded,
}

/// What a requester asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub requester: Identity,
    /// On whose behalf it acts, and through whom.
    pub chain: Vec<Identity>,
    pub digest: Digest,
    pub requirements: Vec<Requirement>,
    /// From then on nothing comes of it.
    pub expires: Duration,
    /// Who leaves without a word may come back for it; inside a transaction nobody can.
    pub may_return: bool,
}

/// SHA-256 of all that an approval holds for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// Whether the requester is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seat {
    Occupied,
    /// It left, and may come back.
    Vacant,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    question: Question,
    votes: Vec<Vote>,
    state: State,
    seat: Seat,
}

/// Bounds on open requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub open: usize,
    pub open_per_requester: usize,
}

/// All open requests.
///
/// Invariant: every request in it is `Pending` or `Approved`; one that is over is handed out.
#[derive(Debug, Clone)]
pub struct Register<Id> {
    open: BTreeMap<Id, Request>,
    limits: Limits,
}

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission<Id> {
    /// A request of its own.
    New(Id),
    /// It is the requester's earlier one, which is pending.
    Attached(Id),
    /// It is the requester's earlier one, and that was approved meanwhile.
    Granted(Id),
}

/// Why nothing was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    #[error("{limit} requests of this principal are open already")]
    OfRequester { limit: usize },
    #[error("{limit} requests are open already")]
    Overall { limit: usize },
}

/// What a vote came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many people are missing, if nobody counts for two rules.
    Missing(u32),
    Approved,
    Denied,
}

/// Why a vote does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCounted {
    #[error("no such request is open")]
    NotOpen,
    #[error("nobody decides about a request of their own, or made on their behalf")]
    OwnRequest,
    #[error("a token that an operator made stands for no person")]
    Minted,
    #[error("whoever acts for somebody else does not decide in their place")]
    Delegated,
    #[error("none of your groups may decide about it: it takes {}", approvers.join(", "))]
    NotAnApprover { approvers: Vec<String> },
    #[error("you have approved it already")]
    Repeated,
    #[error("it has all the approvals that it takes")]
    Approved,
}

impl Identity {
    #[must_use]
    pub fn of(principal: &Principal) -> Self {
        Self {
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
        }
    }

    /// On whose behalf `principal` acts, and through whom.
    #[must_use]
    pub fn chain_of(principal: &Principal) -> Vec<Self> {
        let actors = principal.delegation.iter();
        actors
            .map(|actor| Self {
                issuer: actor.issuer.clone(),
                subject: actor.subject.clone(),
            })
            .collect()
    }
}

impl Approver {
    #[must_use]
    pub fn of(voter: &Principal) -> Self {
        Self {
            identity: Identity::of(voter),
            name: voter.name.clone(),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Withdrawal {
    pub const ALL: [Self; 4] = [
        Self::Cancelled,
        Self::Disconnected,
        Self::Revoked,
        Self::SessionEnded,
    ];

    /// A stable word for recordings and the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Disconnected => "disconnected",
            Self::Revoked => "revoked",
            Self::SessionEnded => "session-ended",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.name() == name)
    }
}

impl State {
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Pending | Self::Approved)
    }

    /// A stable word for recordings, the store and the API.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Used => "used",
            Self::Denied { .. } => "denied",
            Self::Expired => "expired",
            Self::Withdrawn(_) => "withdrawn",
            Self::PolicyChanged => "policy-changed",
            Self::Restarted => "restarted",
        }
    }
}

impl Request {
    fn new(question: Question) -> Self {
        Self {
            question,
            votes: Vec::new(),
            state: State::Pending,
            seat: Seat::Occupied,
        }
    }

    #[must_use]
    pub fn question(&self) -> &Question {
        &self.question
    }

    #[must_use]
    pub fn votes(&self) -> &[Vote] {
        &self.votes
    }

    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    #[must_use]
    pub fn seat(&self) -> Seat {
        self.seat
    }

    /// Why `voter` has no say in this request, whatever the request's state.
    ///
    /// # Errors
    /// As the variants say; only those about the voter.
    pub fn may_decide(&self, voter: &Principal) -> Result<(), NotCounted> {
        let Question {
            requester, chain, ..
        } = &self.question;
        let identity = Identity::of(voter);
        // Administrators are no exception.
        if identity == *requester || chain.contains(&identity) {
            return Err(NotCounted::OwnRequest);
        }
        if !voter.delegation.is_empty() {
            return Err(NotCounted::Delegated);
        }
        if self.groups_that_count(voter).is_empty() {
            let mut approvers = self.approver_groups();
            approvers.sort_unstable();
            approvers.dedup();
            return Err(NotCounted::NotAnApprover {
                approvers: approvers.into_iter().map(str::to_owned).collect(),
            });
        }
        Ok(())
    }

    fn approver_groups(&self) -> Vec<&str> {
        let requirements = self.question.requirements.iter();
        requirements
            .flat_map(|requirement| &requirement.approvers)
            .map(String::as_str)
            .collect()
    }

    fn groups_that_count(&self, voter: &Principal) -> Vec<String> {
        let named = self.approver_groups();
        let groups = voter.groups.iter();
        groups
            .filter(|group| named.contains(&group.as_str()))
            .cloned()
            .collect()
    }

    fn approve(&mut self, voter: &Principal, now: Duration) -> Result<Progress, NotCounted> {
        self.may_decide(voter)?;
        let identity = Identity::of(voter);
        if self.votes.iter().any(|vote| vote.by.identity == identity) {
            return Err(NotCounted::Repeated);
        }
        if self.state == State::Approved {
            return Err(NotCounted::Approved);
        }
        self.votes.push(Vote {
            by: Approver::of(voter),
            at: now,
            groups: self.groups_that_count(voter),
        });
        Ok(match self.missing() {
            0 => {
                self.state = State::Approved;
                Progress::Approved
            }
            missing => Progress::Missing(missing),
        })
    }

    /// How many more people it takes, if nobody counts for two rules.
    #[must_use]
    pub fn missing(&self) -> u32 {
        let requirements = self.question.requirements.iter();
        let missing = |requirement: &Requirement| {
            let votes = self.votes_for(requirement);
            // A rule that asks for nobody would be one that holds nothing.
            requirement.approvals.max(1).saturating_sub(votes)
        };
        if self.question.requirements.is_empty() {
            // Nobody was named, so that nobody's approval is enough.
            return u32::MAX;
        }
        requirements.map(missing).fold(0, u32::saturating_add)
    }

    /// The people who have approved by what one rule says.
    #[must_use]
    pub fn votes_for(&self, requirement: &Requirement) -> u32 {
        let counts = |vote: &&Vote| {
            let mut groups = vote.groups.iter();
            groups.any(|group| requirement.approvers.contains(group))
        };
        u32::try_from(self.votes.iter().filter(counts).count()).unwrap_or(u32::MAX)
    }
}

impl<Id: Ord + Copy> Register<Id> {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            open: BTreeMap::new(),
            limits,
        }
    }

    /// Bounds for whoever asks from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    #[must_use]
    pub fn get(&self, id: Id) -> Option<&Request> {
        self.open.get(&id)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Request)> {
        self.open.iter().map(|(id, request)| (*id, request))
    }

    /// Asks: again for what the same requester has left open, or anew under the id `fresh`.
    ///
    /// Whoever asks the same while the first is still there gets a request of its own: one
    /// approval is one execution.
    ///
    /// # Errors
    /// [`TooMany`]; what is open stays.
    pub fn ask(
        &mut self,
        fresh: Id,
        question: Question,
        now: Duration,
    ) -> Result<Admission<Id>, TooMany> {
        let returns = |request: &Request| {
            let left = &request.question;
            request.seat == Seat::Vacant
                && left.may_return
                && question.may_return
                && left.expires > now
                && left.requester == question.requester
                && left.chain == question.chain
                && left.digest == question.digest
                && left.requirements == question.requirements
        };
        if let Some((id, request)) = self.open.iter_mut().find(|(_, request)| returns(request)) {
            request.seat = Seat::Occupied;
            let is_approved = request.state == State::Approved;
            return Ok(if is_approved {
                Admission::Granted(*id)
            } else {
                Admission::Attached(*id)
            });
        }
        let Limits {
            open,
            open_per_requester,
        } = self.limits;
        let requests = self.open.values();
        let own = requests.filter(|request| request.question.requester == question.requester);
        if own.count() >= open_per_requester {
            let limit = open_per_requester;
            return Err(TooMany::OfRequester { limit });
        }
        if self.open.len() >= open {
            return Err(TooMany::Overall { limit: open });
        }
        self.open.insert(fresh, Request::new(question));
        Ok(Admission::New(fresh))
    }

    /// The requester left without a word. Hands the request out when it is over with that.
    pub fn leave(&mut self, id: Id) -> Option<Request> {
        let request = self.open.get_mut(&id)?;
        if request.question.may_return {
            request.seat = Seat::Vacant;
            return None;
        }
        self.finish(id, State::Withdrawn(Withdrawal::Disconnected))
    }

    /// The requester, who is there, runs what was approved. Hands the request out; `None` says that
    /// nothing may run.
    #[must_use]
    pub fn take(&mut self, id: Id) -> Option<Request> {
        let request = self.open.get(&id)?;
        let takes = request.state == State::Approved && request.seat == Seat::Occupied;
        takes.then(|| self.finish(id, State::Used)).flatten()
    }

    /// A person's yes at `now`.
    ///
    /// # Errors
    /// [`NotCounted`]; nothing has changed.
    pub fn approve(
        &mut self,
        id: Id,
        voter: &Principal,
        now: Duration,
    ) -> Result<Progress, NotCounted> {
        let request = self.open.get_mut(&id).ok_or(NotCounted::NotOpen)?;
        if request.question.expires <= now {
            return Err(NotCounted::NotOpen);
        }
        request.approve(voter, now)
    }

    /// A person's no at `now`: one is enough, also after others have approved. Hands the request
    /// out.
    ///
    /// # Errors
    /// [`NotCounted`]; nothing has changed.
    pub fn deny(
        &mut self,
        id: Id,
        voter: &Principal,
        reason: &str,
        now: Duration,
    ) -> Result<Request, NotCounted> {
        let request = self.open.get(&id).ok_or(NotCounted::NotOpen)?;
        if request.question.expires <= now {
            return Err(NotCounted::NotOpen);
        }
        request.may_decide(voter)?;
        let state = State::Denied {
            by: Approver::of(voter),
            reason: reason.to_owned(),
        };
        self.finish(id, state).ok_or(NotCounted::NotOpen)
    }

    /// The requester no longer wants it. Hands the request out.
    pub fn withdraw(&mut self, id: Id, why: Withdrawal) -> Option<Request> {
        self.finish(id, State::Withdrawn(why))
    }

    /// Another policy is in force than the one that held it. Hands the request out.
    pub fn change_policy(&mut self, id: Id) -> Option<Request> {
        self.finish(id, State::PolicyChanged)
    }

    /// Ends it if its time is over at `now`. Hands the request out.
    pub fn expire(&mut self, id: Id, now: Duration) -> Option<Request> {
        let request = self.open.get(&id)?;
        (request.question.expires <= now)
            .then(|| self.finish(id, State::Expired))
            .flatten()
    }

    /// When the next request expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        let requests = self.open.values();
        requests.map(|request| request.question.expires).min()
    }

    fn finish(&mut self, id: Id, state: State) -> Option<Request> {
        let mut request = self.open.remove(&id)?;
        request.state = state;
        Some(request)
    }
}
