//! The life of a request for approval: who may decide, what votes come to, and that an approval is
//! one execution, whatever the order of asking, leaving, deciding and coming back.

use std::collections::BTreeMap;
use std::time::Duration;

use policy::approval::{
    Admission, Digest, Identity, Limits, NotCounted, Progress, Question, Register, Requirement,
    Seat, State, TooMany, Withdrawal,
};
use policy::{Actor, Principal};
use proptest::prelude::*;

use crate::support::principal;

const NOW: Duration = Duration::from_secs(1000);
const EXPIRES: Duration = Duration::from_secs(1600);
const LIMITS: Limits = Limits {
    open: 8,
    open_per_requester: 3,
};

fn person(subject: &str, groups: &[&str]) -> Principal {
    Principal {
        subject: subject.to_owned(),
        name: subject.to_owned(),
        ..principal(groups)
    }
}

fn requirement(rule: &str, approvers: &[&str], approvals: u32) -> Requirement {
    Requirement {
        rule: rule.to_owned(),
        approvers: approvers.iter().map(|group| (*group).to_owned()).collect(),
        approvals,
    }
}

/// A question of agent-7 that one on call answers.
fn question() -> Question {
    Question {
        requester: Identity::of(&principal(&[])),
        chain: Vec::new(),
        digest: Digest([7; 32]),
        requirements: vec![requirement("writes", &["oncall"], 1)],
        expires: EXPIRES,
        may_return: true,
    }
}

fn asked(question: Question) -> Register<u32> {
    let mut register = Register::new(LIMITS);
    assert_eq!(register.ask(1, question, NOW), Ok(Admission::New(1)));
    register
}

#[test]
fn one_in_a_group_of_the_rule_is_enough() {
    let mut register = asked(question());
    let progress = register.approve(1, &person("ada", &["dev", "oncall"]), NOW);
    assert_eq!(progress, Ok(Progress::Approved));
    let used = register.take(1).unwrap();
    assert_eq!(*used.state(), State::Used);
    assert_eq!(used.votes()[0].by.identity.subject, "ada");
    assert_eq!(used.votes()[0].groups, ["oncall"]);
    assert!(register.take(1).is_none(), "an approval is used once");
}

#[test]
fn nothing_runs_before_it_is_approved() {
    let mut register = asked(question());
    assert!(register.take(1).is_none());
    assert!(register.get(1).is_some());
}

#[test]
fn n_of_m_are_different_people() {
    let two = Question {
        requirements: vec![requirement("writes", &["oncall"], 2)],
        ..question()
    };
    let mut register = asked(two);
    let ada = person("ada", &["oncall"]);
    assert_eq!(register.approve(1, &ada, NOW), Ok(Progress::Missing(1)));
    assert_eq!(register.approve(1, &ada, NOW), Err(NotCounted::Repeated));
    // Her next token is still her, under whatever name.
    let renamed = Principal {
        name: "ada the second".to_owned(),
        token_id: Some("another".to_owned()),
        ..ada
    };
    assert_eq!(
        register.approve(1, &renamed, NOW),
        Err(NotCounted::Repeated)
    );
    assert!(register.take(1).is_none());
    let bob = person("bob", &["oncall"]);
    assert_eq!(register.approve(1, &bob, NOW), Ok(Progress::Approved));
    assert!(register.take(1).is_some());
}

#[test]
fn each_rule_needs_its_own_approvals() {
    let two_rules = Question {
        requirements: vec![
            requirement("writes", &["oncall"], 1),
            requirement("money", &["finance", "board"], 1),
        ],
        ..question()
    };
    let mut register = asked(two_rules.clone());
    let oncall = |subject| person(subject, &["oncall"]);
    assert_eq!(
        register.approve(1, &oncall("ada"), NOW),
        Ok(Progress::Missing(1))
    );
    // More of the same do not stand in for the other rule.
    assert_eq!(
        register.approve(1, &oncall("bob"), NOW),
        Ok(Progress::Missing(1))
    );
    let board = person("eve", &["board"]);
    assert_eq!(register.approve(1, &board, NOW), Ok(Progress::Approved));

    let mut register = asked(two_rules);
    let both = person("dan", &["finance", "oncall"]);
    assert_eq!(register.approve(1, &both, NOW), Ok(Progress::Approved));
}

#[test]
fn nobody_decides_about_a_request_of_their_own() {
    let on_behalf = Question {
        chain: vec![Identity {
            issuer: "https://issuer.example".to_owned(),
            subject: "ada".to_owned(),
        }],
        ..question()
    };
    let mut register = asked(on_behalf);
    let groups = ["oncall", "admin"];
    for subject in ["agent-7", "ada"] {
        let own = person(subject, &groups);
        let refused = Err(NotCounted::OwnRequest);
        assert_eq!(register.approve(1, &own, NOW), refused);
        let denied = register.deny(1, &own, "no", NOW);
        assert_eq!(denied.err(), Some(NotCounted::OwnRequest));
    }
    // The same subject of another issuer is somebody else.
    let namesake = Principal {
        issuer: "https://other.example".to_owned(),
        ..person("ada", &groups)
    };
    assert_eq!(register.approve(1, &namesake, NOW), Ok(Progress::Approved));
}

#[test]
fn an_agent_does_not_decide_in_the_place_of_a_person() {
    let mut register = asked(question());
    let through_an_agent = Principal {
        delegation: vec![Actor {
            issuer: "https://issuer.example".to_owned(),
            subject: "assistant".to_owned(),
        }],
        ..person("ada", &["oncall"])
    };
    assert_eq!(
        register.approve(1, &through_an_agent, NOW),
        Err(NotCounted::Delegated)
    );
    let denied = register.deny(1, &through_an_agent, "no", NOW);
    assert_eq!(denied.err(), Some(NotCounted::Delegated));
}

#[test]
fn whoever_is_in_none_of_the_groups_has_no_say() {
    let mut register = asked(question());
    let refused = NotCounted::NotAnApprover {
        approvers: vec!["oncall".to_owned()],
    };
    for groups in [&[][..], &["admin"], &["Oncall"], &["oncall-eu"]] {
        let outsider = person("bob", groups);
        assert_eq!(register.approve(1, &outsider, NOW), Err(refused.clone()));
        let denied = register.deny(1, &outsider, "no", NOW);
        assert_eq!(denied.err(), Some(refused.clone()));
    }
}

#[test]
fn a_request_without_rules_is_approved_by_nobody() {
    let nothing = Question {
        requirements: Vec::new(),
        ..question()
    };
    let mut register = asked(nothing);
    assert!(
        register
            .approve(1, &person("ada", &["oncall"]), NOW)
            .is_err()
    );
    assert!(register.take(1).is_none());
}

#[test]
fn one_denial_ends_it_also_after_an_approval() {
    let mut register = asked(question());
    register
        .approve(1, &person("ada", &["oncall"]), NOW)
        .unwrap();
    let denied = register.deny(1, &person("bob", &["oncall"]), "not now", NOW);
    let denied = denied.unwrap();
    assert!(matches!(denied.state(), State::Denied { by, reason }
        if by.identity.subject == "bob" && reason == "not now"));
    assert!(register.take(1).is_none());
    let late = register.approve(1, &person("eve", &["oncall"]), NOW);
    assert_eq!(late, Err(NotCounted::NotOpen));
}

#[test]
fn nothing_counts_from_the_moment_it_expires() {
    let ada = person("ada", &["oncall"]);
    let before = EXPIRES - Duration::from_nanos(1);
    let mut register = asked(question());
    assert!(register.expire(1, before).is_none());
    let late = register.approve(1, &ada, EXPIRES);
    assert_eq!(late, Err(NotCounted::NotOpen));
    let denied = register.deny(1, &ada, "no", EXPIRES);
    assert_eq!(denied.err(), Some(NotCounted::NotOpen));
    assert_eq!(register.approve(1, &ada, before), Ok(Progress::Approved));
    let over = register.expire(1, EXPIRES).unwrap();
    assert_eq!(*over.state(), State::Expired);
    assert!(register.take(1).is_none());
}

#[test]
fn whoever_comes_back_with_the_same_is_at_the_same_request() {
    let mut register = asked(question());
    assert!(register.leave(1).is_none());
    let back = register.ask(2, question(), NOW);
    assert_eq!(back, Ok(Admission::Attached(1)));
    assert_eq!(register.get(1).unwrap().seat(), Seat::Occupied);
}

#[test]
fn an_approval_given_while_nobody_waited_is_used_once() {
    let mut register = asked(question());
    register.leave(1);
    let progress = register.approve(1, &person("ada", &["oncall"]), NOW);
    assert_eq!(progress, Ok(Progress::Approved));
    assert!(register.take(1).is_none(), "nobody is there to use it");
    let back = register.ask(2, question(), NOW);
    assert_eq!(back, Ok(Admission::Granted(1)));
    // A second one at the same moment has to ask for itself.
    assert_eq!(register.ask(3, question(), NOW), Ok(Admission::New(3)));
    assert!(register.take(1).is_some());
    assert!(register.take(3).is_none());
    assert_eq!(register.ask(4, question(), NOW), Ok(Admission::New(4)));
}

#[test]
fn nobody_comes_back_for_what_is_not_the_same() {
    let others = [
        Question {
            digest: Digest([8; 32]),
            ..question()
        },
        Question {
            requester: Identity::of(&person("agent-8", &[])),
            ..question()
        },
        Question {
            chain: vec![Identity::of(&person("ada", &[]))],
            ..question()
        },
        Question {
            requirements: vec![requirement("writes", &["oncall"], 2)],
            ..question()
        },
        Question {
            may_return: false,
            ..question()
        },
    ];
    for other in others {
        let mut register = asked(question());
        register.leave(1);
        assert_eq!(register.ask(2, other, NOW), Ok(Admission::New(2)));
    }
    // Nor for what has expired.
    let mut register = asked(question());
    register.leave(1);
    let later = Question {
        expires: EXPIRES + EXPIRES,
        ..question()
    };
    assert_eq!(register.ask(2, later, EXPIRES), Ok(Admission::New(2)));
}

#[test]
fn whoever_leaves_inside_a_transaction_has_withdrawn() {
    let inside = Question {
        may_return: false,
        ..question()
    };
    let mut register = asked(inside);
    let over = register.leave(1).unwrap();
    assert_eq!(*over.state(), State::Withdrawn(Withdrawal::Disconnected));
    assert!(register.get(1).is_none());
}

#[test]
fn open_requests_are_bounded_for_each_requester_and_overall() {
    let mut register: Register<u32> = Register::new(LIMITS);
    let of = |subject: &str| Question {
        requester: Identity::of(&person(subject, &[])),
        ..question()
    };
    for id in 1..=3 {
        assert_eq!(register.ask(id, of("a"), NOW), Ok(Admission::New(id)));
    }
    let refused = Err(TooMany::OfRequester { limit: 3 });
    assert_eq!(register.ask(4, of("a"), NOW), refused);
    for (id, subject) in [(4, "b"), (5, "b"), (6, "b"), (7, "c"), (8, "c")] {
        assert_eq!(register.ask(id, of(subject), NOW), Ok(Admission::New(id)));
    }
    let refused = Err(TooMany::Overall { limit: 8 });
    assert_eq!(register.ask(9, of("c"), NOW), refused);
    // An approval that nobody has used yet takes its place.
    register.leave(1);
    register
        .approve(1, &person("ada", &["oncall"]), NOW)
        .unwrap();
    let refused = Err(TooMany::OfRequester { limit: 3 });
    let other = Question {
        digest: Digest([9; 32]),
        ..of("a")
    };
    assert_eq!(register.ask(9, other, NOW), refused);
    // Coming back takes none.
    assert_eq!(register.ask(9, of("a"), NOW), Ok(Admission::Granted(1)));
}

/// Every way to go on, from every state that is open; the states that are over are not in the
/// register, so that nothing leads on from them.
#[test]
fn states_lead_where_the_diagram_says_and_nowhere_else() {
    let ada = person("ada", &["oncall"]);
    type Step = (&'static str, fn(&mut Register<u32>) -> Option<State>);
    let steps: [Step; 6] = [
        ("take", |r| r.take(1).map(|it| it.state().clone())),
        ("deny", |r| {
            let bob = person("bob", &["oncall"]);
            r.deny(1, &bob, "no", NOW).ok().map(|it| it.state().clone())
        }),
        ("expire", |r| {
            r.expire(1, EXPIRES).map(|it| it.state().clone())
        }),
        ("withdraw", |r| {
            let over = r.withdraw(1, Withdrawal::Cancelled);
            over.map(|it| it.state().clone())
        }),
        ("policy", |r| {
            r.change_policy(1).map(|it| it.state().clone())
        }),
        ("leave", |r| r.leave(1).map(|it| it.state().clone())),
    ];
    let allowed = BTreeMap::from([
        (("pending", "deny"), "denied"),
        (("pending", "expire"), "expired"),
        (("pending", "withdraw"), "withdrawn"),
        (("pending", "policy"), "policy-changed"),
        (("approved", "take"), "used"),
        (("approved", "deny"), "denied"),
        (("approved", "expire"), "expired"),
        (("approved", "withdraw"), "withdrawn"),
        (("approved", "policy"), "policy-changed"),
    ]);
    for from in ["pending", "approved"] {
        for (name, step) in steps {
            let mut register = asked(question());
            if from == "approved" {
                register.approve(1, &ada, NOW).unwrap();
            }
            let reached = step(&mut register).map(|state| state.name());
            assert_eq!(
                reached,
                allowed.get(&(from, name)).copied(),
                "{from} {name}"
            );
            assert_eq!(register.get(1).is_some(), reached.is_none());
            for (name, step) in steps {
                if reached.is_some() {
                    assert_eq!(step(&mut register), None, "{name} after {reached:?}");
                }
            }
        }
    }
}

/// One thing that somebody does, to the request that stands at a place among those there are.
#[derive(Debug, Clone)]
enum Act {
    Ask { digest: u8 },
    Leave(usize),
    Take(usize),
    Approve { request: usize, voter: u8 },
    Deny { request: usize, voter: u8 },
    Withdraw(usize),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let request = 0..6_usize;
    prop_oneof![
        4 => (0..3_u8).prop_map(|digest| Act::Ask { digest }),
        3 => request.clone().prop_map(Act::Leave),
        4 => request.clone().prop_map(Act::Take),
        5 => (request.clone(), 0..4_u8).prop_map(|(request, voter)| Act::Approve { request, voter }),
        1 => (request.clone(), 0..4_u8).prop_map(|(request, voter)| Act::Deny { request, voter }),
        1 => request.prop_map(Act::Withdraw),
        2 => (0..40_u64).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Held against what the design says, counted by request: it ran at most once, only after two
    /// different people other than the requester said so, only while it was open, and only for
    /// somebody who was there; and once it is approved and there, it can run.
    #[test]
    fn one_approval_is_one_execution_and_none_is_none(acts in prop::collection::vec(act(), 1..60)) {
        let mut register: Register<u32> = Register::new(LIMITS);
        let mut now = NOW;
        let mut fresh = 0;
        let mut ids: Vec<u32> = Vec::new();
        let mut ran: BTreeMap<u32, u32> = BTreeMap::new();
        let mut yes: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut there: BTreeMap<u32, bool> = BTreeMap::new();
        let mut over: BTreeMap<u32, bool> = BTreeMap::new();
        let mut digests: BTreeMap<u32, u8> = BTreeMap::new();
        let mut expires: BTreeMap<u32, Duration> = BTreeMap::new();
        // The requester is among the voters, as number 3.
        let voter = |number: u8| match number {
            3 => person("agent-7", &["oncall"]),
            number => person(&format!("person {number}"), &["oncall"]),
        };
        for act in acts {
            let at = |place: usize| ids.get(place % ids.len().max(1)).copied();
            match act {
                Act::Ask { digest } => {
                    fresh += 1;
                    let question = Question {
                        digest: Digest([digest; 32]),
                        requirements: vec![requirement("writes", &["oncall"], 2)],
                        expires: now + Duration::from_secs(100),
                        ..question()
                    };
                    match register.ask(fresh, question, now) {
                        Ok(Admission::New(id)) => {
                            prop_assert_eq!(id, fresh);
                            ids.push(id);
                            there.insert(id, true);
                            digests.insert(id, digest);
                            expires.insert(id, now + Duration::from_secs(100));
                        }
                        Ok(Admission::Attached(id) | Admission::Granted(id)) => {
                            prop_assert!(!there[&id], "two at one request");
                            prop_assert!(!over.contains_key(&id));
                            prop_assert_eq!(digests[&id], digest);
                            prop_assert!(now < expires[&id]);
                            there.insert(id, true);
                        }
                        Err(TooMany::OfRequester { .. }) => {
                            let open = ids.iter().filter(|id| !over.contains_key(id));
                            prop_assert!(open.count() >= LIMITS.open_per_requester);
                        }
                        Err(TooMany::Overall { .. }) => prop_assert!(false, "one requester"),
                    }
                }
                Act::Leave(place) => if let Some(id) = at(place) {
                    prop_assert!(register.leave(id).is_none());
                    there.insert(id, false);
                },
                Act::Take(place) => if let Some(id) = at(place) {
                    let may = there[&id]
                        && !over.contains_key(&id)
                        && yes.get(&id).is_some_and(|people| people.len() >= 2);
                    let took = register.take(id).is_some();
                    prop_assert_eq!(took, may);
                    if took {
                        *ran.entry(id).or_default() += 1;
                        over.insert(id, true);
                    }
                },
                Act::Approve { request, voter: number } => if let Some(id) = at(request) {
                    let counted = register.approve(id, &voter(number), now).is_ok();
                    if counted {
                        prop_assert!(number != 3, "the requester decided");
                        prop_assert!(!over.contains_key(&id) && now < expires[&id]);
                        let people = yes.entry(id).or_default();
                        prop_assert!(!people.contains(&number), "a person counted twice");
                        people.push(number);
                    }
                },
                Act::Deny { request, voter: number } => if let Some(id) = at(request)
                    && register.deny(id, &voter(number), "no", now).is_ok() {
                    prop_assert!(number != 3);
                    over.insert(id, true);
                },
                Act::Withdraw(place) => if let Some(id) = at(place)
                    && register.withdraw(id, Withdrawal::Cancelled).is_some() {
                    over.insert(id, true);
                },
                Act::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    for id in ids.clone() {
                        if register.expire(id, now).is_some() {
                            prop_assert!(expires[&id] <= now);
                            over.insert(id, true);
                        }
                    }
                }
            }
            prop_assert!(ran.values().all(|times| *times == 1));
            for id in &ids {
                prop_assert_eq!(register.get(*id).is_none(), over.contains_key(id));
            }
        }
    }
}
