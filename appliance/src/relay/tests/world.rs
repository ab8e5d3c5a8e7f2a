//! One simulated session: who acts when, what breaks, and how it ends.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use codecs::postgres::FrontendDecoder;
use runtime::ShardId;
use runtime::mapped::{MappedRing, RingSettings};

use super::links::{AgentLink, Break, Random, SimLink, TargetLink, Witness};
use super::peers::{Agent, TargetServer};
use crate::budgets::{Budgets, Ledger};
use crate::config::{Environment, Snapshot, Writing, load};
use crate::identity::{Claim, Proven, RemoteKeys, TokenCache, TokenRequest, prove};
use crate::protocols::postgres::classify::Classifier;
use crate::protocols::postgres::exchange::{Exchange, Opened};
use crate::recorder::{
    COMMIT_INTERVAL_DEFAULT, Durability, Journal, RING_BYTES_MIN, Recorder, SessionStart,
};
use crate::relay::End;
use crate::relay::flow::Flow;
use crate::relay::inbound::Inbound;
use crate::upstream::Attribution;

/// Turns without a pause that no session needs.
const TURNS_MAX: usize = 1_000_000;

/// Acts of everybody that change nothing, after which somebody is found to wait for good.
const IDLE_ACTS: usize = 3;

const RESERVED: &str = "sallyport_reserved";

/// How a seed went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The target went back to its pool.
    pub(super) is_clean: bool,
    /// Somebody broke off before the agent was done.
    pub(super) is_broken: bool,
    pub(super) refusals: u64,
    /// When it ended, on the virtual clock.
    pub(super) at: u64,
}

/// Whoever does something by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    /// The agent reads and speaks.
    Agent,
    /// Bytes of the agent arrive.
    FromAgent,
    /// Bytes for the agent leave.
    ToAgent,
    /// The target reads and answers.
    Target,
    FromTarget,
    ToTarget,
    Journal,
}

const ACTORS: [Actor; 7] = [
    Actor::Agent,
    Actor::FromAgent,
    Actor::ToAgent,
    Actor::Target,
    Actor::FromTarget,
    Actor::ToTarget,
    Actor::Journal,
];

/// What breaks off a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Agent(Break),
    Target(Break),
    /// Revoked, out of time, drained: the relay decides by itself.
    Relay(usize),
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(super) struct World {
    random: Random,
    clock: u64,
    /// When each acts next, and how long it takes between two acts on average.
    next: [u64; ACTORS.len()],
    pace: [usize; ACTORS.len()],
    flow: Flow,
    woken: Arc<Woken>,
    agent_link: AgentLink,
    target_link: TargetLink,
    agent: Agent,
    target: TargetServer,
    witness: Rc<RefCell<Witness>>,
    trouble: Option<(u64, Trouble)>,
    is_broken: bool,
    has_left: bool,
}

/// What all sessions share: a configuration with one policy, and who the agent is.
struct Stage {
    snapshot: Arc<Snapshot>,
    token: Vec<u8>,
    now: u64,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let write = |name: &str, text: &str| {
        let path = place.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "sallyport.toml",
        "[[target]]\nname = \"orders\"\nprotocol = \"postgres\"\naddress = \"127.0.0.1:5432\"\n\
         user = \"svc\"\ntls = \"disable\"\n",
    );
    write(
        "policy.d/sim.toml",
        "[[rule]]\nname = \"all\"\ngroups = [\"a\"]\ntargets = [\"*\"]\n\
         allow = { statements = [\"*\"] }\n\
         [[rule]]\nname = \"no-drop\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n\
         deny = { statements = [\"drop\"] }\n",
    );
    let environment = Environment {
        file: place.join("sallyport.toml"),
        file_named: true,
        state_directory: place.join("state"),
        runtime_directory: place.join("run"),
        credentials_directory: None,
        policy_directory: None,
        drafts: Vec::new(),
        variable: |_| None,
    };
    let loaded = load(&environment, Writing::Never, 1).ok().unwrap();
    let now = runtime::unix_time().as_secs();
    let request = TokenRequest {
        agent: "ada".to_owned(),
        groups: vec!["a".to_owned()],
        lifetime: Duration::from_secs(3600),
    };
    let token = loaded
        .builtin_issuer
        .unwrap()
        .mint(&request, now)
        .ok()
        .unwrap();
    Stage {
        snapshot: Arc::new(loaded.snapshot),
        token: token.text.expose().to_vec(),
        now,
    }
});

fn proven() -> Proven {
    let claim = Claim::Password(&STAGE.token);
    let cache = TokenCache::new();
    prove(
        &STAGE.snapshot.authenticators,
        &RemoteKeys::none(),
        &cache,
        claim,
        STAGE.now,
    )
    .unwrap()
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        static RINGS: AtomicU64 = AtomicU64::new(0);
        let mut random = Random::new(seed);
        let ring = RINGS.fetch_add(1, Ordering::Relaxed);
        let name = format!("sallyport-sim-{}-{ring}", std::process::id());
        let settings = RingSettings {
            ring_bytes: RING_BYTES_MIN,
            identity: *b"a simulated ring",
            label: 0,
        };
        let path = std::env::temp_dir().join(name);
        let reader = std::thread::current();
        let (writer, reader) = MappedRing::create(&path, &settings, reader).unwrap();
        let witness = Rc::new(RefCell::new(Witness::new(reader)));
        let is_strict = random.chance(30);
        let is_large = random.chance(8);
        let durability = if is_strict {
            Durability::Strict
        } else {
            Durability::Bounded(COMMIT_INTERVAL_DEFAULT)
        };
        let journal = Journal::over(writer, ShardId(0), durability);

        let flow = Flow::new(exchange(&journal), Inbound::default());
        let agent_link = AgentLink::new(SimLink::new(random.fork(), is_large), Rc::clone(&witness));
        let target_link = TargetLink::new(
            SimLink::new(random.fork(), is_large),
            Rc::clone(&witness),
            is_strict,
            RESERVED,
        );
        let agent = Agent::new(random.fork(), is_large);
        let target = TargetServer::new(random.fork(), is_large);
        let trouble = random.chance(50).then(|| {
            let at = u64::try_from(random.below(30_000)).unwrap();
            let how = random.pick(&[Break::End, Break::Reset]);
            let trouble = match random.below(3) {
                0 => Trouble::Agent(how),
                1 => Trouble::Target(how),
                _ => Trouble::Relay(random.below(4)),
            };
            (at, trouble)
        });
        Self {
            pace: ACTORS.map(|_| random.pick(&[1, 10, 10, 100, 1000])),
            random,
            clock: 0,
            next: [0; ACTORS.len()],
            flow,
            woken: Arc::new(Woken(AtomicBool::new(true))),
            agent_link,
            target_link,
            agent,
            target,
            witness,
            trouble,
            is_broken: false,
            has_left: false,
        }
    }

    /// Lets everybody act until the session ends, and looks at how it did.
    pub(super) fn run(mut self) -> Outcome {
        let mut idle = [0; ACTORS.len()];
        let end = loop {
            if let Some(end) = self.turn() {
                break end;
            }
            if let Some(end) = self.cause_trouble() {
                break end;
            }
            let (index, changes) = self.act();
            idle[index] += 1;
            if changes {
                idle = [0; ACTORS.len()];
            }
            let is_stuck = idle.iter().all(|acts| *acts > IDLE_ACTS);
            assert!(!is_stuck, "nothing happens any more: {}", self.agent);
        };
        self.close(&end)
    }

    /// Lets the flow move on while it is woken.
    fn turn(&mut self) -> Option<End> {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut context = Context::from_waker(&waker);
        for _ in 0..TURNS_MAX {
            if !self.woken.0.swap(false, Ordering::SeqCst) {
                return None;
            }
            loop {
                let turned =
                    self.flow
                        .turn(&mut self.agent_link, &mut self.target_link, &mut context);
                match turned {
                    Err(end) => return Some(end),
                    Ok(turned) if turned.moved => {}
                    Ok(_) => break,
                }
            }
        }
        panic!("it wakes itself without an end");
    }

    /// The next in time acts: who that is, and whether it changed anything.
    fn act(&mut self) -> (usize, bool) {
        let (index, at) = self
            .next
            .into_iter()
            .enumerate()
            .min_by_key(|(_, at)| *at)
            .unwrap();
        self.clock = at;
        let delay = 1 + self.random.below(2 * self.pace[index]);
        self.next[index] = at + u64::try_from(delay).unwrap();
        let changes = match ACTORS[index] {
            Actor::Agent => self.agent_acts(),
            Actor::FromAgent => self.agent_link.link.arrive(),
            Actor::ToAgent => self.agent_link.link.make_room(),
            Actor::Target => {
                let link = &mut self.target_link.link;
                let has_read = !link.sent.is_empty();
                self.target.serve(&mut link.sent, &mut link.in_flight);
                has_read
            }
            Actor::FromTarget => self.target_link.link.arrive(),
            Actor::ToTarget => self.target_link.link.make_room(),
            Actor::Journal => self.witness.borrow_mut().commit(),
        };
        (index, changes)
    }

    fn agent_acts(&mut self) -> bool {
        let link = &mut self.agent_link.link;
        let has_heard = !link.sent.is_empty();
        self.agent.hear(&mut link.sent);
        let said = self.agent.speak();
        link.in_flight.extend(&said);
        if self.agent.is_done() && !self.has_left {
            // Messages at any time may still be on their way; they are not waited for.
            self.has_left = true;
            if self.random.chance(50) {
                link.in_flight.extend(b"X\0\0\0\x04");
            } else {
                link.break_off(Break::End);
            }
            return true;
        }
        has_heard || !said.is_empty()
    }

    fn cause_trouble(&mut self) -> Option<End> {
        let (_, trouble) = self.trouble.take_if(|(at, _)| *at <= self.clock)?;
        self.is_broken = !self.has_left;
        match trouble {
            Trouble::Agent(how) => self.agent_link.link.break_off(how),
            Trouble::Target(how) => self.target_link.link.break_off(how),
            Trouble::Relay(0) => return Some(End::Cut),
            Trouble::Relay(1) => return Some(End::Lifetime),
            Trouble::Relay(2) => return Some(End::Withdrawn),
            Trouble::Relay(_) if self.flow.exchange().at_rest() => return Some(End::Drained),
            Trouble::Relay(_) => self.is_broken = false,
        }
        None
    }

    /// What [`Relay::run`](crate::relay::Relay::run) does behind the end.
    fn close(mut self, end: &End) -> Outcome {
        assert!(self.is_broken || self.has_left, "it ended by itself: {end}");
        assert!(!matches!(end, End::Fault(_)), "{end}");
        if !self.flow.exchange().agent_is_mid_message() {
            self.agent_link.hears_farewell = true;
            self.flow
                .exchange_mut()
                .say_farewell(end, &mut self.agent_link);
        }
        let is_clean = self.flow.leaves_target_clean(end, &self.target_link);
        self.flow.record_end(end);

        if is_clean {
            let link = &mut self.target_link.link;
            self.target.serve(&mut link.sent, &mut link.in_flight);
            assert!(
                self.target.is_at_rest(),
                "the target is given back in the middle of something"
            );
        }
        // The target may break off when the agent has left and before that is noticed.
        let is_usable = end.leaves_target_usable() && self.target_link.link.is_drained();
        if !self.is_broken && self.agent.is_at_rest() && is_usable {
            assert!(is_clean, "a target is closed for nothing: {end}");
        }
        if !self.is_broken {
            assert!(self.agent.is_done());
        }
        // What was queued for the agent ends with a whole message or in the middle of the last.
        self.agent_link.link.flush_all();
        self.agent.hear(&mut self.agent_link.link.sent);
        assert!(self.agent.asynchronous <= self.target.asynchronous);

        self.witness.borrow_mut().look();
        let witness = Rc::into_inner({
            drop(self.agent_link);
            drop(self.target_link);
            self.witness
        });
        let witness = witness.unwrap().into_inner();
        assert!(witness.has_ended, "the recording has no end");
        let outcome = Outcome {
            is_clean,
            is_broken: self.is_broken,
            refusals: witness.refusals(),
            at: self.clock,
        };
        witness.remove();
        outcome
    }
}

fn exchange(journal: &Rc<Journal>) -> Exchange {
    let snapshot = Arc::clone(&STAGE.snapshot);
    let proven = proven();
    let sought = policy::Target {
        name: "orders".to_owned(),
        database: None,
    };
    let permit = snapshot
        .policy
        .admit(proven.principal(), &sought, policy::Occasion::default())
        .unwrap();
    let start = SessionStart {
        protocol: "postgres".to_owned(),
        ..SessionStart::default()
    };
    let budgets = Budgets::open(
        &Ledger::new(),
        &snapshot.policy,
        &permit,
        proven.principal(),
        0,
    )
    .unwrap();
    let mut frontend = FrontendDecoder::new(snapshot.limits.wire);
    frontend.authenticated();
    Exchange::new(Opened {
        attribution: Attribution::new("builtin", "ada", None, permit.read_only()).unwrap(),
        snapshot,
        proven,
        permit,
        budgets,
        sought,
        occasion: policy::Occasion::default(),
        classifier: Classifier::new(),
        frontend,
        reserved: RESERVED.to_owned(),
        metrics: Rc::default(),
        recorder: Recorder::open(journal, &start).unwrap(),
        catalogue: None,
    })
}
