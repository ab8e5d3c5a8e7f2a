//! The desk and its shards together: what waiters are told, what is kept, what an approval serves.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use policy::class::Class;
use policy::{Actor, Known, Policy, Principal, Proof, Source, Target, Version};

use super::desk::Desk;
use super::waiting::ToDesk;
use super::*;
use crate::archive::{Trail, entries};
use crate::control::{DATABASE, Database};
use crate::recorder::SessionId;

const NOW: Duration = Duration::from_secs(1_000_000);
const LASTS: Duration = Duration::from_secs(600);
const ISSUER: &str = "https://login.example";

fn version(of: &str) -> Version {
    let source = Source {
        file: "rules.toml".to_owned(),
        text: format!("# {of}\n"),
    };
    let known = Known {
        targets: &[],
        issuers: &[],
    };
    let compiled = Policy::compile(&[source], &known).unwrap();
    compiled.policy.version()
}

fn panel() -> Panel {
    Panel {
        limits: Limits {
            open: 8,
            open_per_requester: 4,
        },
        policy: version("in force"),
        people: vec![People {
            group_prefix: String::new(),
            groups: Vec::new(),
        }],
        builtin_issuer: Some("sallyport".to_owned()),
        console: Some("https://console.example".to_owned()),
        kept: Duration::from_secs(1000),
    }
}

fn principal(subject: &str, groups: &[&str]) -> Principal {
    Principal {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        name: subject.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        delegation: Vec::new(),
        token_id: None,
        expires: 0,
        proof: Proof::Password,
    }
}

fn oncall(subject: &str) -> Principal {
    principal(subject, &["oncall"])
}

fn rule(name: &str, approvals: u32) -> HoldingRule {
    HoldingRule {
        name: name.to_owned(),
        approvers: vec!["oncall".to_owned()],
        approvals,
    }
}

fn parameter(value: Option<&str>) -> Parameter {
    Parameter {
        type_oid: 25,
        is_binary: false,
        value: value.map(HeldText::plain),
    }
}

fn held() -> HoldRequest {
    HoldRequest {
        session: SessionId::from_bytes([1; 16]),
        principal: principal("agent-7", &["analysts"]),
        target: Target::named("orders"),
        policy: version("in force"),
        rules: vec![rule("writes", 1)],
        lasts: LASTS,
        in_transaction: false,
        role: None,
        search_path: Some(vec!["public".to_owned()]),
        commands: vec![HeldCommand {
            text: HeldText::plain("update orders set total = $1"),
            parameters: vec![parameter(Some("7"))],
            effects: vec![(Class::Update, "orders".to_owned())],
            estimate: Some(Estimate { rows: 12 }),
        }],
    }
}

/// A desk, and shards that reach it.
struct World {
    desk: Desk,
    approvals: Approvals,
    inbox: Inbox,
    now: Duration,
    trail: tempfile::TempDir,
    _store: Option<tempfile::TempDir>,
}

fn store_at(directory: &Path) -> Box<SqliteStore> {
    let database = Database::open(directory.join(DATABASE)).unwrap();
    Box::new(SqliteStore::new(&database).unwrap())
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut world = Self::over(store_at(directory.path()));
        world._store = Some(directory);
        world
    }

    fn over(store: Box<dyn Store>) -> Self {
        let (approvals, inbox) = channel();
        let directory = tempfile::tempdir().unwrap();
        let trail = Trail::open(directory.path()).unwrap();
        Self {
            desk: Desk::open(panel(), store, trail, NOW).unwrap(),
            approvals,
            inbox,
            now: NOW,
            trail: directory,
            _store: None,
        }
    }

    /// Lets the desk read what shards have sent.
    fn turn(&mut self) {
        while let Some(message) = self.inbox.0.try_recv() {
            match message {
                ToDesk::Ask(held, chair) => self.desk.ask(*held, chair, self.now),
                ToDesk::Estimated(id, estimates) => self.desk.estimated(id, &estimates),
                ToDesk::Look => self.desk.look(self.now),
            }
        }
    }

    fn ask(&mut self, held: HoldRequest) -> Waiting {
        let waiting = self.approvals.request(held).unwrap();
        self.turn();
        waiting
    }

    /// Asks, and reads that it was asked.
    fn asked(&mut self, held: HoldRequest) -> (RequestId, Waiting) {
        let mut waiting = self.ask(held);
        let id = asked_as(&mut waiting);
        (id, waiting)
    }

    fn answer(&mut self, id: RequestId, voter: &Principal, answer: &Answer) -> String {
        match self.desk.answer(id, voter, answer, self.now) {
            Ok(progress) => format!("{progress:?}"),
            Err(error) => error.to_string(),
        }
    }

    fn approve(&mut self, id: RequestId, voter: &Principal) -> String {
        self.answer(id, voter, &Answer::Approve)
    }

    fn state(&mut self, id: RequestId) -> String {
        let found = self.desk.find(&id.to_string(), Audience::Others, self.now);
        found.unwrap().unwrap().state
    }
}

fn next(waiting: &mut Waiting) -> Option<Event> {
    match waiting.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(event) => Some(event),
        Poll::Pending => None,
    }
}

fn asked_as(waiting: &mut Waiting) -> RequestId {
    match next(waiting) {
        Some(Event::Asked { id, .. }) => id,
        other => panic!("{other:?}"),
    }
}

fn outcome(waiting: &mut Waiting) -> Outcome {
    match next(waiting) {
        Some(Event::Over(outcome)) => outcome,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check_approved(waiting: &mut Waiting, by: &[&str]) {
    let Outcome::Approved(approved) = outcome(waiting) else {
        panic!("it was not approved");
    };
    let people = approved.by().iter();
    let people: Vec<&str> = people.map(|it| it.identity.subject.as_str()).collect();
    assert_eq!(people, by);
}

#[test]
fn what_a_person_approves_runs_once() {
    let mut world = World::new();
    let mut waiting = world.ask(held());
    let Some(Event::Asked { id, link, expires }) = next(&mut waiting) else {
        panic!("it was not asked");
    };
    assert_eq!(
        link,
        Some(format!("https://console.example/approvals/{id}"))
    );
    assert_eq!(expires, NOW + LASTS);
    assert_eq!(next(&mut waiting), None);
    assert_eq!(world.approve(id, &oncall("ada")), "Approved");
    check_approved(&mut waiting, &["ada"]);
    assert_eq!(next(&mut waiting), None, "it is over once");
    drop(waiting);
    world.turn();
    assert_eq!(world.state(id), "used");
    // The same again is another request.
    let (another, mut again) = world.asked(held());
    assert_ne!(another, id);
    assert_eq!(next(&mut again), None);
}

#[test]
fn what_a_person_denies_does_not_run_and_says_why() {
    let mut world = World::new();
    let (id, mut waiting) = world.asked(held());
    let deny = Answer::Deny {
        reason: "not on a Friday".to_owned(),
    };
    assert_eq!(world.answer(id, &oncall("ada"), &deny), "Denied");
    let Outcome::Denied { by, reason } = outcome(&mut waiting) else {
        panic!("it was not denied");
    };
    assert_eq!(
        (by.name.as_str(), reason.as_str()),
        ("ada", "not on a Friday")
    );
    assert_eq!(world.state(id), "denied");
    assert_eq!(world.approve(id, &oncall("bob")), "no such request is open");
}

#[test]
fn nobody_decides_for_an_agent_but_a_person_of_the_rule() {
    let mut world = World::new();
    let delegated = HoldRequest {
        principal: Principal {
            delegation: vec![Actor {
                issuer: ISSUER.to_owned(),
                subject: "boss".to_owned(),
            }],
            ..principal("agent-7", &["analysts"])
        },
        ..held()
    };
    let (id, mut waiting) = world.asked(delegated);
    let minted = Principal {
        issuer: "sallyport".to_owned(),
        ..oncall("ada")
    };
    for (voter, refused) in [
        (
            principal("bob", &["admin"]),
            "none of your groups may decide about it: it takes oncall",
        ),
        (
            oncall("agent-7"),
            "nobody decides about a request of their own, or made on their behalf",
        ),
        (
            oncall("boss"),
            "nobody decides about a request of their own, or made on their behalf",
        ),
        (minted, "a token that an operator made stands for no person"),
    ] {
        assert_eq!(world.approve(id, &voter), refused);
        let deny = Answer::Deny {
            reason: "no".to_owned(),
        };
        assert_eq!(world.answer(id, &voter, &deny), refused);
    }
    assert_eq!(next(&mut waiting), None);
    assert_eq!(world.state(id), "pending");
}

#[test]
fn what_nobody_answers_expires_at_its_time() {
    let mut world = World::new();
    let (id, mut waiting) = world.asked(held());
    assert_eq!(world.desk.next_due(), Some(NOW + LASTS));
    world.desk.look(NOW + LASTS - Duration::from_nanos(1));
    assert_eq!(next(&mut waiting), None);
    world.now = NOW + LASTS;
    world.desk.look(world.now);
    assert_eq!(outcome(&mut waiting), Outcome::Expired);
    assert_eq!(world.state(id), "expired");
    assert_eq!(world.desk.next_due(), None);
}

#[test]
fn an_approval_that_expired_before_it_was_taken_does_not_run() {
    let mut world = World::new();
    let (id, mut waiting) = world.asked(held());
    assert_eq!(world.approve(id, &oncall("ada")), "Approved");
    // Its shard does not come to poll in time.
    world.now = NOW + LASTS;
    world.desk.look(world.now);
    assert_eq!(outcome(&mut waiting), Outcome::Expired);
    assert_eq!(next(&mut waiting), None);
    assert_eq!(world.state(id), "expired");
}

#[test]
fn an_approval_can_be_taken_back_until_it_is_used() {
    let deny = Answer::Deny {
        reason: "wrong one".to_owned(),
    };
    let mut world = World::new();
    let (id, mut waiting) = world.asked(held());
    world.approve(id, &oncall("ada"));
    assert_eq!(world.answer(id, &oncall("ada"), &deny), "Denied");
    assert!(matches!(outcome(&mut waiting), Outcome::Denied { .. }));

    let (id, mut waiting) = world.asked(held());
    world.approve(id, &oncall("ada"));
    check_approved(&mut waiting, &["ada"]);
    assert_eq!(
        world.answer(id, &oncall("ada"), &deny),
        "no such request is open"
    );
    assert_eq!(world.state(id), "used");
}

#[test]
fn whoever_was_cut_off_comes_back_to_the_same_request() {
    let mut world = World::new();
    let (id, waiting) = world.asked(held());
    drop(waiting);
    world.turn();
    let again = HoldRequest {
        session: SessionId::from_bytes([2; 16]),
        principal: Principal {
            token_id: Some("another token".to_owned()),
            ..held().principal
        },
        ..held()
    };
    let (same, mut waiting) = world.asked(again);
    assert_eq!(same, id);
    assert_eq!(world.approve(id, &oncall("ada")), "Approved");
    check_approved(&mut waiting, &["ada"]);
}

#[test]
fn an_approval_given_meanwhile_serves_whoever_comes_back_once() {
    let mut world = World::new();
    let (id, waiting) = world.asked(held());
    drop(waiting);
    world.turn();
    assert_eq!(world.approve(id, &oncall("ada")), "Approved");
    assert_eq!(world.state(id), "approved");
    let mut back = world.ask(held());
    let mut second = world.ask(held());
    assert_eq!(asked_as(&mut back), id);
    check_approved(&mut back, &["ada"]);
    let another = asked_as(&mut second);
    assert_ne!(another, id);
    assert_eq!(next(&mut second), None);
    world.turn();
    assert_eq!(world.state(id), "used");
    let (third, mut waiting) = world.asked(held());
    assert_ne!(third, id);
    assert_eq!(next(&mut waiting), None);
}

#[test]
fn an_approval_that_nobody_took_is_there_for_whoever_comes_back() {
    let mut world = World::new();
    let (id, waiting) = world.asked(held());
    assert_eq!(world.approve(id, &oncall("ada")), "Approved");
    // Delivered, and the session went at that moment.
    drop(waiting);
    world.turn();
    assert_eq!(world.state(id), "approved");
    let mut back = world.ask(held());
    assert_eq!(asked_as(&mut back), id);
    check_approved(&mut back, &["ada"]);
}

#[test]
fn whoever_leaves_inside_a_transaction_or_withdraws_does_not_come_back() {
    let mut world = World::new();
    let inside = HoldRequest {
        in_transaction: true,
        ..held()
    };
    let (id, waiting) = world.asked(inside.clone());
    drop(waiting);
    world.turn();
    assert_eq!(world.state(id), "withdrawn");
    for why in Withdrawal::ALL {
        let (id, waiting) = world.asked(held());
        waiting.withdraw(why);
        world.turn();
        let shown = world.desk.find(&id.to_string(), Audience::Others, NOW);
        let shown = shown.unwrap().unwrap();
        assert_eq!(shown.state, "withdrawn");
        assert_eq!(shown.reason.as_deref(), Some(why.name()));
        assert_eq!(world.approve(id, &oncall("ada")), "no such request is open");
    }
    let (other, _waiting) = world.asked(inside);
    assert_ne!(other, id);
}

#[test]
fn a_message_that_was_lost_is_made_up_for_by_looking() {
    let mut world = World::new();
    let (id, waiting) = world.asked(held());
    drop(waiting);
    while world.inbox.0.try_recv().is_some() {}
    // Nothing told the desk that the seat is empty.
    let (same, _waiting) = world.asked(held());
    assert_eq!(same, id);
}

#[test]
fn another_policy_ends_what_the_one_before_held() {
    let mut world = World::new();
    let (id, mut waiting) = world.asked(held());
    let (approved, mut late) = world.asked(held());
    world.approve(approved, &oncall("ada"));
    // The same files again change nothing.
    world.desk.reconfigure(panel(), NOW);
    assert_eq!(next(&mut waiting), None);
    let other = Panel {
        policy: version("another"),
        ..panel()
    };
    world.desk.reconfigure(other, NOW);
    assert_eq!(outcome(&mut waiting), Outcome::PolicyChanged);
    assert_eq!(outcome(&mut late), Outcome::PolicyChanged);
    assert_eq!(world.state(id), "policy-changed");
    // A shard that has not seen it yet is told to judge again.
    let mut stale = world.ask(held());
    assert_eq!(outcome(&mut stale), Outcome::PolicyChanged);
}

#[test]
fn a_rule_whose_groups_nobody_can_be_in_is_said_at_once() {
    let mut world = World::new();
    for (people, refused) in [
        (Vec::new(), true),
        (vec![("corp:", vec![])], true),
        (vec![("corp:", vec!["oncall"])], false),
        (vec![("on", vec![])], false),
    ] {
        let people = people
            .into_iter()
            .map(|(prefix, groups): (&str, Vec<&str>)| People {
                group_prefix: prefix.to_owned(),
                groups: groups.into_iter().map(str::to_owned).collect(),
            });
        let panel = Panel {
            people: people.collect(),
            ..panel()
        };
        world.desk.reconfigure(panel, NOW);
        let mut waiting = world.ask(held());
        if refused {
            let rule = "writes".to_owned();
            assert_eq!(outcome(&mut waiting), Outcome::NobodyMayApprove { rule });
        } else {
            asked_as(&mut waiting);
        }
    }
}

#[test]
fn more_than_a_principal_may_have_open_is_refused() {
    let mut world = World::new();
    let _open: Vec<Waiting> = (0..4).map(|_| world.asked(held()).1).collect();
    let mut fifth = world.ask(held());
    let refused = TooMany::OfRequester { limit: 4 };
    assert_eq!(outcome(&mut fifth), Outcome::TooMany(refused));
}

#[test]
fn a_request_that_nobody_could_read_is_not_asked() {
    let world = World::new();
    let long = |bytes: usize| {
        let mut request = held();
        request.commands[0].parameters[0] = parameter(Some(&"x".repeat(bytes)));
        request
    };
    let text = held().commands[0].text.bytes.len();
    let fits = long(REQUEST_BYTES_MAX - text);
    assert!(world.approvals.request(fits).is_ok());
    let refused = world.approvals.request(long(REQUEST_BYTES_MAX - text + 1));
    let bytes = REQUEST_BYTES_MAX + 1;
    assert_eq!(refused.err(), Some(NotAsked::TooLarge { bytes }));
}

#[test]
fn a_desk_that_is_gone_or_does_not_keep_up_refuses() {
    let mut world = World::new();
    let (_, mut waiting) = world.asked(held());
    let filled = std::iter::from_fn(|| world.approvals.request(held()).ok());
    let filled: Vec<Waiting> = filled.take(10_000).collect();
    assert!(filled.len() < 10_000, "the mailbox has no bound");
    let refused = world.approvals.request(held());
    assert_eq!(refused.err(), Some(NotAsked::Unavailable));
    let World {
        desk,
        inbox,
        approvals,
        ..
    } = world;
    drop((desk, inbox));
    assert_eq!(outcome(&mut waiting), Outcome::Unavailable);
    for mut waiting in filled {
        assert_eq!(outcome(&mut waiting), Outcome::Unavailable);
    }
    let refused = approvals.request(held());
    assert_eq!(refused.err(), Some(NotAsked::Unavailable));
}

#[test]
fn a_restart_refuses_everything_that_was_open() {
    let directory = tempfile::tempdir().unwrap();
    let (pending, approved, done, waiting);
    {
        let mut world = World::over(store_at(directory.path()));
        (pending, waiting) = world.asked(held());
        let (id, left) = world.asked(held());
        approved = id;
        drop(left);
        world.approve(approved, &oncall("ada"));
        let (id, mut taken) = world.asked(HoldRequest {
            target: Target::named("billing"),
            ..held()
        });
        done = id;
        world.approve(done, &oncall("ada"));
        check_approved(&mut taken, &["ada"]);
        world.desk.look(NOW);
        assert_eq!(world.state(approved), "approved");
        // As when it is killed: nobody says goodbye.
        std::mem::forget(world);
    }
    drop(waiting);
    let mut world = World::over(store_at(directory.path()));
    assert_eq!(world.state(pending), "restarted");
    assert_eq!(world.state(approved), "restarted");
    assert_eq!(world.state(done), "used");
    assert_eq!(
        world.approve(pending, &oncall("ada")),
        "no such request is open"
    );
    let (id, mut back) = world.asked(held());
    assert!(id != pending && id != approved);
    assert_eq!(next(&mut back), None);
}

/// Takes nothing while told so, as a disk that is full.
struct Full {
    inner: Box<SqliteStore>,
    left: Arc<AtomicUsize>,
}

impl Full {
    fn check(&self) -> Result<(), StoreError> {
        let spend = |left: usize| left.checked_sub(1);
        let spent = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend);
        spent.map(drop).map_err(|_| StoreError::Database {
            operation: "keep",
            source: rusqlite::Error::InvalidQuery,
        })
    }
}

impl Store for Full {
    fn keep(&mut self, shown: &Shown) -> Result<(), StoreError> {
        self.check()?;
        self.inner.keep(shown)
    }

    fn restart(&mut self, now: Duration) -> Result<usize, StoreError> {
        self.inner.restart(now)
    }

    fn find(&self, id: &str) -> Result<Option<Shown>, StoreError> {
        self.inner.find(id)
    }

    fn list(&self, filter: &Filter) -> Result<Vec<Shown>, StoreError> {
        self.inner.list(filter)
    }

    fn forget(&mut self, until: Duration) -> Result<usize, StoreError> {
        self.inner.forget(until)
    }
}

/// Keeps in memory, for tests that ask often.
#[derive(Default)]
struct Forgetful(std::collections::BTreeMap<String, Shown>);

impl Store for Forgetful {
    fn keep(&mut self, shown: &Shown) -> Result<(), StoreError> {
        self.0.insert(shown.id.clone(), shown.clone());
        Ok(())
    }

    fn restart(&mut self, _: Duration) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn find(&self, id: &str) -> Result<Option<Shown>, StoreError> {
        Ok(self.0.get(id).cloned())
    }

    fn list(&self, _: &Filter) -> Result<Vec<Shown>, StoreError> {
        Ok(self.0.values().cloned().collect())
    }

    fn forget(&mut self, _: Duration) -> Result<usize, StoreError> {
        Ok(0)
    }
}

#[test]
fn what_cannot_be_kept_is_not_asked_and_not_approved() {
    let directory = tempfile::tempdir().unwrap();
    let left = Arc::new(AtomicUsize::new(0));
    let mut world = World::over(Box::new(Full {
        inner: store_at(directory.path()),
        left: Arc::clone(&left),
    }));
    let mut refused = world.ask(held());
    assert_eq!(outcome(&mut refused), Outcome::Unavailable);

    left.store(1, Ordering::SeqCst);
    let (id, mut waiting) = world.asked(held());
    let not_kept = "the answer cannot be kept, so that it does not count";
    assert_eq!(world.approve(id, &oncall("ada")), not_kept);
    assert_eq!(next(&mut waiting), None);
    assert_eq!(world.state(id), "pending");
    // With room again the same person is counted.
    left.store(1, Ordering::SeqCst);
    assert_eq!(world.approve(id, &oncall("ada")), "Approved");
    check_approved(&mut waiting, &["ada"]);

    // How it ended is kept as soon as there is room.
    world.turn();
    assert_eq!(world.state(id), "approved", "as the store has it");
    assert_eq!(world.desk.next_due(), Some(Duration::ZERO));
    left.store(10, Ordering::SeqCst);
    world.desk.look(NOW);
    assert_eq!(world.state(id), "used");
    assert_eq!(world.desk.next_due(), None);
}

#[test]
fn a_refusal_counts_also_when_it_cannot_be_kept() {
    let directory = tempfile::tempdir().unwrap();
    let left = Arc::new(AtomicUsize::new(1));
    let mut world = World::over(Box::new(Full {
        inner: store_at(directory.path()),
        left,
    }));
    let (id, mut waiting) = world.asked(held());
    let deny = Answer::Deny {
        reason: "no".to_owned(),
    };
    assert_eq!(world.answer(id, &oncall("ada"), &deny), "Denied");
    assert!(matches!(outcome(&mut waiting), Outcome::Denied { .. }));
}

#[test]
fn what_is_over_is_found_until_it_is_forgotten() {
    let mut world = World::new();
    let (first, mut waiting) = world.asked(held());
    world.approve(first, &oncall("ada"));
    check_approved(&mut waiting, &["ada"]);
    let (second, _waiting) = world.asked(HoldRequest {
        target: Target::named("billing"),
        ..held()
    });
    let mut listed = |filter: Filter, now| {
        let listed = world.desk.list(&filter, Audience::Others, now).unwrap();
        listed.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    let (first, second) = (first.to_string(), second.to_string());
    let all = listed(Filter::default(), NOW);
    assert_eq!(all.len(), 2);
    assert!(all.contains(&first) && all.contains(&second));
    let open = |is_open| Filter {
        is_open: Some(is_open),
        ..Filter::default()
    };
    assert_eq!(listed(open(true), NOW), [second.as_str()]);
    assert_eq!(listed(open(false), NOW), [first.as_str()]);
    let of = |requester: &str| Filter {
        requester: Some(requester.to_owned()),
        target: Some("orders".to_owned()),
        ..Filter::default()
    };
    assert_eq!(listed(of("agent-7"), NOW), [first.as_str()]);
    assert!(listed(of("agent-8"), NOW).is_empty());
    // Kept for 1000 s from its end, and looked at once an hour.
    let later = NOW + Duration::from_secs(2 * 3600);
    assert!(!listed(Filter::default(), later).contains(&first));
}

type Mutate = fn(&mut HoldRequest);

/// Each part of what is approved, changed by itself: the approval of `held` does not serve it.
fn mutations() -> Vec<(&'static str, Mutate)> {
    vec![
        ("issuer", |it| it.principal.issuer.push('x')),
        ("subject", |it| it.principal.subject.push('x')),
        ("chain", |it| {
            it.principal.delegation.push(Actor {
                issuer: ISSUER.to_owned(),
                subject: "boss".to_owned(),
            });
        }),
        ("target", |it| it.target.name.push('x')),
        ("database", |it| {
            it.target.database = Some(String::new());
        }),
        ("rules", |it| it.rules.push(rule("more", 1))),
        ("rule", |it| it.rules[0].name.push('x')),
        ("approvers", |it| {
            it.rules[0].approvers = vec!["on".to_owned(), "call".to_owned()];
        }),
        ("approvals", |it| it.rules[0].approvals = 2),
        ("role", |it| it.role = Some(String::new())),
        ("search path", |it| {
            it.search_path = Some(vec!["pub".to_owned(), "lic".to_owned()]);
        }),
        ("no search path", |it| {
            it.search_path = Some(Vec::new());
        }),
        ("unknown search path", |it| it.search_path = None),
        ("text", |it| {
            it.commands[0].text = HeldText::plain("update orders set total = $1 ");
        }),
        ("type", |it| it.commands[0].parameters[0].type_oid = 1043),
        ("format", |it| {
            it.commands[0].parameters[0].is_binary = true;
        }),
        ("value", |it| {
            it.commands[0].parameters[0] = parameter(Some("8"));
        }),
        ("no value", |it| {
            it.commands[0].parameters[0] = parameter(None);
        }),
        ("empty value", |it| {
            it.commands[0].parameters[0] = parameter(Some(""));
        }),
        ("one more value", |it| {
            it.commands[0].parameters.push(parameter(None));
        }),
        ("one less value", |it| it.commands[0].parameters.clear()),
        ("one more command", |it| {
            it.commands.push(it.commands[0].clone());
        }),
    ]
}

#[test]
fn an_approval_serves_nothing_but_what_was_approved() {
    for (part, mutate) in mutations() {
        let mut world = World::new();
        let (id, waiting) = world.asked(held());
        drop(waiting);
        world.turn();
        assert_eq!(world.approve(id, &oncall("ada")), "Approved");
        let mut other = held();
        mutate(&mut other);
        assert_ne!(other.digest(), held().digest(), "{part}");
        let mut waiting = world.ask(other);
        assert_ne!(asked_as(&mut waiting), id, "{part}");
        assert_eq!(next(&mut waiting), None, "{part}");
        // The one that was approved is served still.
        let mut back = world.ask(held());
        assert_eq!(asked_as(&mut back), id);
        check_approved(&mut back, &["ada"]);
    }
}

#[test]
fn whether_it_is_inside_a_transaction_and_by_which_policy_is_part_of_the_digest() {
    let inside = HoldRequest {
        in_transaction: true,
        ..held()
    };
    assert_ne!(inside.digest(), held().digest());
    let other = HoldRequest {
        policy: version("another"),
        ..held()
    };
    assert_ne!(other.digest(), held().digest());
}

#[test]
fn the_order_of_commands_and_values_is_part_of_the_digest() {
    let command = |text: &str, values: &[&str]| HeldCommand {
        text: HeldText::plain(text),
        parameters: values.iter().map(|it| parameter(Some(it))).collect(),
        effects: Vec::new(),
        estimate: None,
    };
    let of = |commands: Vec<HeldCommand>| {
        let commands = HoldRequest { commands, ..held() };
        commands.digest()
    };
    let forms = [
        of(vec![command("a", &["1", "2"]), command("b", &[])]),
        of(vec![command("a", &["2", "1"]), command("b", &[])]),
        of(vec![command("b", &[]), command("a", &["1", "2"])]),
        of(vec![command("a", &["1"]), command("b", &["2"])]),
        of(vec![command("a", &["12"]), command("b", &[])]),
        of(vec![command("ab", &["1", "2"])]),
    ];
    for (index, form) in forms.iter().enumerate() {
        assert!(!forms[index + 1..].contains(form), "{index}");
    }
}

#[test]
fn which_token_session_or_estimate_it_was_is_no_part_of_the_digest() {
    let mut other = held();
    other.session = SessionId::from_bytes([9; 16]);
    other.principal.token_id = Some("another".to_owned());
    other.principal.name = "Agent Seven".to_owned();
    other.principal.expires = 77;
    other.lasts = Duration::from_secs(1);
    other.commands[0].estimate = None;
    other.commands[0].text.secrets.push(0..3);
    assert_eq!(other.digest(), held().digest());
}

/// The desk approves, or takes an approval back, while the shard takes or leaves it: whatever the
/// order, what one side believes is what the other side does.
#[test]
fn an_approval_and_a_departure_at_the_same_moment_agree() {
    for round in 0..500 {
        let mut world = World::over(Box::<Forgetful>::default());
        let (id, mut waiting) = world.asked(held());
        let ran = std::thread::scope(|scope| {
            let shard = scope.spawn(move || {
                for _ in 0..round % 50 {
                    std::hint::spin_loop();
                }
                let ran = matches!(next(&mut waiting), Some(Event::Over(Outcome::Approved(_))));
                drop(waiting);
                ran
            });
            world.approve(id, &oncall("ada"));
            if round % 2 == 0 {
                world.now = NOW + LASTS;
            }
            world.desk.look(world.now);
            shard.join().unwrap()
        });
        world.desk.look(world.now);
        let state = world.state(id);
        let expected: &[&str] = match (ran, round % 2 == 0) {
            (true, _) => &["used"],
            (false, true) => &["expired"],
            (false, false) => &["approved"],
        };
        assert!(expected.contains(&state.as_str()), "{state}, ran: {ran}");
        if state == "approved" {
            let mut back = world.ask(held());
            assert_eq!(asked_as(&mut back), id);
            check_approved(&mut back, &["ada"]);
        }
    }
}

#[test]
fn the_approver_sees_what_will_run_and_nobody_else_sees_what_was_detected() {
    let mut world = World::new();
    let text = "alter role ada password 'hunter2'; insert into cards values ('4111')";
    let range = |part: &str| {
        let start = text.find(part).unwrap();
        start..start + part.len()
    };
    let request = HoldRequest {
        commands: vec![HeldCommand {
            text: HeldText {
                bytes: text.into(),
                secrets: vec![range("'hunter2'")],
                detected: vec![range("4111")],
            },
            parameters: vec![
                parameter(None),
                parameter(Some("")),
                Parameter {
                    type_oid: 23,
                    is_binary: true,
                    value: Some(HeldText::plain([0, 0, 1, 0])),
                },
                Parameter {
                    type_oid: 25,
                    is_binary: false,
                    value: Some(HeldText {
                        bytes: "4111 1111".into(),
                        secrets: Vec::new(),
                        detected: std::iter::once(0..9).collect(),
                    }),
                },
            ],
            effects: vec![(Class::Insert, "cards".to_owned())],
            estimate: None,
        }],
        ..held()
    };
    let (id, _waiting) = world.asked(request);
    let mut shown = |audience| {
        let found = world.desk.find(&id.to_string(), audience, NOW);
        let command = found.unwrap().unwrap().commands.remove(0);
        let values = command.parameters.iter();
        let values: Vec<_> = values
            .map(|it| it.value.as_ref().map(|value| value.text.clone()))
            .collect();
        (command.text.text, values)
    };
    let some = |text: &str| Some(text.to_owned());
    let (text, values) = shown(Audience::Approver);
    assert_eq!(
        text,
        "alter role ada password [hidden]; insert into cards values ('4111')"
    );
    assert_eq!(values, [None, some(""), some("256"), some("4111 1111")]);
    let (text, values) = shown(Audience::Others);
    assert_eq!(
        text,
        "alter role ada password [hidden]; insert into cards values ('[hidden]')"
    );
    assert_eq!(values, [None, some(""), some("256"), some("[hidden]")]);
    // What is on the disk is what others see.
    let kept = world.desk.list(&Filter::default(), Audience::Others, NOW);
    let kept = serde_json::to_string(&kept.unwrap()).unwrap();
    assert!(!kept.contains("hunter2") && !kept.contains("4111"));
}

#[test]
fn what_does_not_read_as_it_is_is_marked() {
    for (text, expected) in [
        ("delete from orders", "delete from orders"),
        ("a\n\tb", "a\n\tb"),
        ("select 1 --\u{202e}x", "select 1 --{U+202E}x"),
        ("p\u{430}yments", "p{U+0430, not a}yments"),
        ("a\u{200b}\u{1b}[2J", "a{U+200B}{U+001B}[2J"),
    ] {
        assert_eq!(marked(text), expected);
    }
    let mut world = World::new();
    let mut request = held();
    request.commands[0].text = HeldText::plain(b"select '\xff' from p\xd0\xb0y".to_vec());
    let (id, _waiting) = world.asked(request);
    let shown = world.desk.find(&id.to_string(), Audience::Approver, NOW);
    let shown = shown.unwrap().unwrap();
    assert!(shown.is_deceptive());
    let text = &shown.commands[0].text;
    assert_eq!(text.readable(), "select '\\xff' from p{U+0430, not a}y");
}

#[test]
fn every_answer_that_counts_is_in_the_trail() {
    let mut world = World::new();
    let (approved, _waiting) = world.asked(held());
    world.approve(approved, &principal("bob", &["dev"]));
    world.approve(approved, &oncall("ada"));
    let (denied, _waiting) = world.asked(held());
    let deny = Answer::Deny {
        reason: "not on a Friday".to_owned(),
    };
    world.answer(denied, &oncall("eve"), &deny);
    let entries = entries(world.trail.path(), 0).unwrap();
    let entries = serde_json::to_string(&entries).unwrap();
    assert!(!entries.contains("bob"), "{entries}");
    for expected in [
        "request-approved",
        &approved.to_string(),
        "ada",
        "request-denied",
        &denied.to_string(),
        "eve",
        "not on a Friday",
    ] {
        assert!(entries.contains(expected), "{expected} in {entries}");
    }
}

#[test]
fn whoever_follows_is_told_of_each_step() {
    let mut world = World::new();
    let mut request = held();
    request.rules = vec![rule("writes", 2)];
    let (id, mut waiting) = world.asked(request);
    world.approve(id, &oncall("ada"));
    world.approve(id, &oncall("bob"));
    check_approved(&mut waiting, &["ada", "bob"]);
    world.turn();
    let news = world.desk.take_news();
    let told: Vec<(NewsKind, &str, usize)> = news
        .iter()
        .map(|it| (it.kind, it.shown.state.as_str(), it.shown.approvals.len()))
        .collect();
    assert_eq!(
        told,
        [
            (NewsKind::Asked, "pending", 0),
            (NewsKind::Changed, "pending", 1),
            (NewsKind::Changed, "approved", 2),
            (NewsKind::Over, "used", 2),
        ]
    );
}

#[test]
fn an_estimate_that_comes_later_is_shown_and_changes_nothing_else() {
    let mut world = World::new();
    let mut held = held();
    held.commands[0].estimate = None;
    let (id, mut waiting) = world.asked(held);
    let estimates = vec![Some(Estimate { rows: 3 }), None];
    world.approvals.estimated(id, estimates);
    world.turn();
    let found = world
        .desk
        .find(&id.to_string(), Audience::Others, world.now);
    let shown = found.unwrap().unwrap();
    assert_eq!(shown.commands[0].estimated_rows, Some(3));
    assert_eq!(shown.state, "pending");
    assert_eq!(next(&mut waiting), None);
    assert_eq!(world.approve(id, &oncall("ada")), "Approved");
    check_approved(&mut waiting, &["ada"]);
    // One that comes too late is of no use.
    drop(waiting);
    let estimates = vec![Some(Estimate { rows: 4 })];
    world.approvals.estimated(id, estimates);
    world.turn();
    assert_eq!(world.state(id), "used");
}
