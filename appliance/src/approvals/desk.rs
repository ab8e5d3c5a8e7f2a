//! Where requests are kept from asking to their end: the control thread's side.
//!
//! Synchronous, with time as an argument. One task owns it ([`super::broker`]), so that whatever
//! people and shards do at once happens one after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use policy::approval::{
    Admission, Approver, Identity, Limits, NotCounted, Progress, Question, Register, Request,
};
use policy::{Principal, Version};
use ring::rand::SystemRandom;

use crate::config::Snapshot;
use crate::identity::BuiltinIssuer;

use super::request::{HoldRequest, HoldingRule, RequestId};
use super::waiting::{Chair, Outcome, Sitting};

const LIMITS: Limits = Limits {
    open: 256,
    open_per_requester: 8,
};

/// What of the configuration in force counts here.
#[derive(Debug, Clone)]
pub struct Panel {
    pub limits: Limits,
    pub policy: Version,
    /// The issuers that have people.
    pub people: Vec<People>,
    /// The issuer of tokens that the operator makes, which stand for no person.
    pub builtin_issuer: Option<String>,
    /// Where the console is, for links.
    pub console: Option<String>,
}

/// What groups an issuer may give its subjects.
#[derive(Debug, Clone)]
pub struct People {
    /// Before every group but those in `groups`.
    pub group_prefix: String,
    pub groups: Vec<String>,
}

impl Panel {
    /// As the configuration says.
    pub fn of(snapshot: &Snapshot, builtin: Option<&BuiltinIssuer>) -> Self {
        let builtin_issuer = builtin.map(|issuer| issuer.name().to_owned());
        let issuers = snapshot.authenticators.issuers().iter();
        let people = issuers
            .filter(|issuer| builtin_issuer.as_ref() != Some(&issuer.issuer))
            .map(|issuer| People {
                group_prefix: issuer.mapping.group_prefix.clone(),
                groups: issuer.mapping.group_map.values().cloned().collect(),
            });
        Self {
            limits: LIMITS,
            policy: snapshot.policy.version(),
            people: people.collect(),
            builtin_issuer,
            console: None,
        }
    }
}

impl People {
    fn may_be_in(&self, group: &str) -> bool {
        let mapped = self.groups.iter().any(|mapped| mapped == group);
        mapped || group.starts_with(&self.group_prefix)
    }
}

/// A person's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Approve,
    Deny { reason: String },
}

/// What is open. Per process.
pub struct Desk {
    register: Register<RequestId>,
    papers: BTreeMap<RequestId, Paper>,
    panel: Panel,
    random: SystemRandom,
}

/// What the desk has of an open request besides its place in the register.
struct Paper {
    request: HoldRequest,
    /// Whoever waits for it; gone ones are noticed on looking.
    chair: Option<Chair>,
}

impl Desk {
    pub fn new(panel: Panel) -> Self {
        Self {
            register: Register::new(panel.limits),
            papers: BTreeMap::new(),
            panel,
            random: SystemRandom::new(),
        }
    }

    /// A shard asks.
    pub(super) fn ask(&mut self, request: HoldRequest, chair: Chair, now: Duration) {
        self.look(now);
        if request.policy != self.panel.policy {
            chair.end(Outcome::PolicyChanged);
            return;
        }
        if let Some(rule) = self.rule_without_people(&request) {
            chair.end(Outcome::NobodyMayApprove { rule });
            return;
        }
        let Ok(fresh) = RequestId::generate(&self.random, now) else {
            chair.end(Outcome::Unavailable);
            return;
        };
        let question = question(&request, now);
        match self.register.ask(fresh, question, now) {
            Err(too_many) => {
                chair.end(Outcome::TooMany(too_many));
            }
            Ok(Admission::New(id)) => {
                self.announce(id, &chair);
                let chair = Some(chair);
                self.papers.insert(id, Paper { request, chair });
            }
            Ok(Admission::Attached(id)) => {
                self.announce(id, &chair);
                self.sit(id, chair);
            }
            Ok(Admission::Granted(id)) => {
                self.announce(id, &chair);
                self.sit(id, chair);
                self.deliver(id);
            }
        }
    }

    /// A person answers.
    pub fn answer(
        &mut self,
        id: RequestId,
        voter: &Principal,
        answer: Answer,
        now: Duration,
    ) -> Result<Progress, NotCounted> {
        self.look(now);
        let is_minted = self.panel.builtin_issuer.as_ref() == Some(&voter.issuer);
        match answer {
            _ if is_minted => Err(NotCounted::Minted),
            Answer::Approve => {
                let progress = self.register.approve(id, voter, now)?;
                if progress == Progress::Approved {
                    self.deliver(id);
                }
                Ok(progress)
            }
            Answer::Deny { reason } => {
                let request = self.register.get(id).ok_or(NotCounted::NotOpen)?;
                request.may_decide(voter)?;
                let outcome = Outcome::Denied {
                    by: Approver::of(voter),
                    reason: reason.clone(),
                };
                let denied = self.end(id, outcome, |register| {
                    register.deny(id, voter, &reason, now).ok()
                });
                if denied {
                    Ok(Progress::Denied)
                } else {
                    Err(NotCounted::NotOpen)
                }
            }
        }
    }

    /// Finds out who has left, what has been used, and whose time is over.
    pub fn look(&mut self, now: Duration) {
        let open: Vec<RequestId> = self.papers.keys().copied().collect();
        for id in open {
            self.settle(id);
            let expires = self.register.get(id).map(|it| it.question().expires);
            if expires.is_some_and(|expires| expires <= now) {
                self.end(id, Outcome::Expired, |register| register.expire(id, now));
            }
        }
    }

    /// Goes by another configuration. What another policy held is judged again by whoever waits.
    pub fn reconfigure(&mut self, panel: Panel, now: Duration) {
        self.look(now);
        self.register.set_limits(panel.limits);
        self.panel = panel;
        let open: Vec<RequestId> = self.papers.keys().copied().collect();
        for id in open {
            let policy = self.papers.get(&id).map(|paper| paper.request.policy);
            if policy.is_some_and(|policy| policy != self.panel.policy) {
                self.end(id, Outcome::PolicyChanged, |register| {
                    register.change_policy(id)
                });
            }
        }
    }

    /// When something is due, unless something happens before.
    pub fn next_due(&self) -> Option<Duration> {
        self.register.next_expiry()
    }

    /// The first of its rules that nobody can be an approver of.
    fn rule_without_people(&self, request: &HoldRequest) -> Option<String> {
        let has_people = |group: &String| {
            let mut issuers = self.panel.people.iter();
            issuers.any(|people| people.may_be_in(group))
        };
        let mut rules = request.rules.iter();
        let without = rules.find(|rule| !rule.approvers.iter().any(has_people));
        without.map(|rule| rule.name.clone())
    }

    fn announce(&self, id: RequestId, chair: &Chair) {
        let Some(request) = self.register.get(id) else {
            return;
        };
        let console = self.panel.console.as_deref();
        let link = console.map(|console| format!("{console}/approvals/{id}"));
        chair.asked(id, link, request.question().expires);
    }

    fn sit(&mut self, id: RequestId, chair: Chair) {
        if let Some(paper) = self.papers.get_mut(&id) {
            paper.chair = Some(chair);
        }
    }

    /// Tells whoever waits that it is approved.
    fn deliver(&mut self, id: RequestId) {
        let (Some(paper), Some(request)) = (self.papers.get(&id), self.register.get(id)) else {
            return;
        };
        let by = request.votes().iter().map(|vote| vote.by.clone()).collect();
        if let Some(chair) = &paper.chair
            && !chair.approve(id, by)
        {
            self.settle(id);
        }
    }

    /// Takes note of what whoever waited has done since.
    fn settle(&mut self, id: RequestId) {
        let Some(paper) = self.papers.get_mut(&id) else {
            return;
        };
        let Some(chair) = &paper.chair else {
            return;
        };
        let over = match chair.sitting() {
            Sitting::Waits | Sitting::Approved => return,
            Sitting::Taken => self.register.take(id),
            Sitting::Gone | Sitting::Over => {
                paper.chair = None;
                self.register.leave(id)
            }
            Sitting::Withdrawn(why) => self.register.withdraw(id, why),
        };
        if over.is_some() {
            self.papers.remove(&id);
        }
    }

    /// Ends a request and the wait for it; false when it is not open, or was used just before.
    fn end(
        &mut self,
        id: RequestId,
        outcome: Outcome,
        finish: impl FnOnce(&mut Register<RequestId>) -> Option<Request>,
    ) -> bool {
        let chair = self.papers.get(&id).and_then(|paper| paper.chair.as_ref());
        if chair.is_some_and(|chair| !chair.end(outcome)) {
            self.settle(id);
        }
        let over = finish(&mut self.register);
        if over.is_some() {
            self.papers.remove(&id);
        }
        over.is_some()
    }
}

fn question(request: &HoldRequest, now: Duration) -> Question {
    Question {
        requester: Identity::of(&request.principal),
        chain: Identity::chain_of(&request.principal),
        digest: request.digest(),
        requirements: request.rules.iter().map(HoldingRule::requirement).collect(),
        expires: now.saturating_add(request.lasts),
        may_return: !request.in_transaction,
    }
}
