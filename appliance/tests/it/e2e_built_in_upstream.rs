//! The load generator's built-in upstream behind the appliance: it answers what the appliance asks,
//! so that what is measured is the appliance.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loadgen::agents;
use loadgen::protocols::{
    Address, Agent, Answered, Canaries, Dialer, Outcome, Request, Session, Statement, Target, Tls,
};
use loadgen::upstream::{CANARY, Secret, Settings, Table, start};
use runtime::ListenAddress;

use crate::appliance::{ACCOUNT_PASSWORD, Appliance, Setup};
use crate::shard::on_shard;

const MASKING_POLICY: &str = r#"
[[rule]]
name    = "analysts-work"
groups  = ["analysts"]
targets = ["orders"]
allow   = { statements = ["*"] }

[[rule]]
name    = "no-destruction"
groups  = ["*"]
targets = ["*"]
deny    = { statements = ["drop", "truncate"] }

[[mask]]
name    = "no-addresses"
groups  = ["*"]
targets = ["orders"]
columns = ["public.accounts.email"]
with    = "redact"

[[mask]]
name    = "no-cards"
groups  = ["*"]
targets = ["orders"]
detect  = ["payment-card"]
with    = "redact"
"#;

/// A card number stands in every row too.
const CARD: &str = "4111111111111111";

/// It runs until the process of the tests ends.
fn upstream() -> SocketAddr {
    let running = start(Settings {
        listen: ListenAddress::Tcp(([127, 0, 0, 1], 0).into()),
        shards: NonZeroUsize::MIN,
        table: Table::new(1000, 100),
        delay: Duration::ZERO,
        secret: Secret::new(ACCOUNT_PASSWORD.as_bytes()).map(Arc::new),
        tls: None,
    });
    match running.unwrap().address {
        ListenAddress::Tcp(address) => address,
        ListenAddress::Unix(_) => panic!("a Unix socket"),
    }
}

fn before(upstream: SocketAddr, policy: &str) -> Appliance {
    Appliance::start(&Setup {
        target: upstream.to_string(),
        target_keys: String::new(),
        target_tls: "disable",
        tables: String::new(),
        files: Vec::new(),
        policy,
        shards: 2,
        listeners: Vec::new(),
        console: None,
        metrics: None,
        runtime_directory: None,
        wrapper: Vec::new(),
    })
}

fn target(address: SocketAddr) -> Target {
    Target {
        address: Address::resolve(&address.to_string()).unwrap(),
        tls: Tls::default(),
        database: "orders".to_owned(),
        canaries: Arc::new(Canaries::new(&[CANARY, CARD]).unwrap()),
    }
}

fn soon() -> Instant {
    runtime::now() + Duration::from_secs(60)
}

async fn open(address: SocketAddr, agent: &Agent) -> Session {
    let dialer = Dialer::new(Arc::new(target(address)));
    dialer.open(agent, soon()).await.unwrap()
}

async fn ask(session: &mut Session, request: &Request) -> Answered {
    session.exchange(request, soon()).await.unwrap()
}

fn requests() -> Vec<Request> {
    let statement = Statement::new(0, "SELECT * FROM accounts WHERE id = $1").unwrap();
    let prepared = Request::prepared(&statement, &[Some("7")]).unwrap();
    vec![
        Request::simple("SELECT * FROM accounts WHERE id <= 200").unwrap(),
        Request::extended(
            "SELECT id, email FROM accounts WHERE id <= $1",
            &[Some("20")],
        )
        .unwrap(),
        prepared.clone(),
        prepared.clone(),
        prepared.pipeline(10).unwrap(),
        Request::copy_out("COPY accounts TO STDOUT").unwrap(),
        Request::copy_in(
            "COPY accounts FROM STDIN",
            &b"1\tx\ty\tz\t2\tf\n".repeat(1000),
        )
        .unwrap(),
        Request::simple("BEGIN; SET LOCAL our.own = 'x'; UPDATE accounts SET name = 'x'; COMMIT")
            .unwrap(),
    ]
}

#[test]
fn every_way_to_ask_passes_and_masks_hide_what_the_upstream_shows() {
    let upstream = upstream();
    let appliance = before(upstream, MASKING_POLICY);
    let groups = ["analysts".to_owned()];
    let socket = appliance.directory().join("run/admin.sock");
    let minted = agents::mint(&socket, 3, &groups, Duration::from_secs(600), None).unwrap();
    let address = appliance.address();
    on_shard(move || async move {
        let direct = Agent {
            name: "svc".to_owned(),
            user: "svc".to_owned(),
            password: loadgen::protocols::Password::new(ACCOUNT_PASSWORD.as_bytes()),
        };
        let requests = requests();
        let mut references = Vec::new();
        let mut session = open(upstream, &direct).await;
        for request in &requests {
            references.push(ask(&mut session, request).await.reference().unwrap());
        }
        let shown: u64 = references.iter().map(|reference| reference.canaries).sum();
        assert!(shown > 2000, "{shown}");
        for agent in &minted {
            // The second is on a connection that was reset.
            for _ in 0..2 {
                let mut session = open(address, agent).await;
                for (request, reference) in requests.iter().zip(&references) {
                    let answered = ask(&mut session, request).await;
                    let verdict = reference.check(&answered);
                    let verdict = verdict.unwrap_or_else(|| panic!("{answered:?}: {request:?}"));
                    assert!(verdict.matches, "{answered:?} for {reference:?}");
                    assert_eq!(verdict.canaries_seen, 0, "{request:?}");
                    assert_eq!(verdict.canary_expected, reference.canaries > 0);
                }
                let denied = Request::simple("DROP TABLE accounts").unwrap();
                assert_eq!(ask(&mut session, &denied).await.outcome, Outcome::Refused);
                session.close(soon()).await;
            }
        }
    });
    let log = appliance.log();
    let bad = |line: &&str| line.contains("\"ERROR\"") || line.contains("\"WARN\"");
    let complaints: Vec<&str> = log.lines().filter(bad).collect();
    assert_eq!(complaints, [""; 0]);
}

#[test]
fn without_masks_every_row_passes_as_it_is() {
    let upstream = upstream();
    let appliance = before(
        upstream,
        &MASKING_POLICY.replace("[[mask]]", "[[mask]]\nexcept_groups = [\"analysts\"]"),
    );
    let socket = appliance.directory().join("run/admin.sock");
    let groups = ["analysts".to_owned()];
    let minted = agents::mint(&socket, 1, &groups, Duration::from_secs(600), None).unwrap();
    let refused = agents::mint(&socket, 1, &[], Duration::from_secs(u64::MAX), None).unwrap_err();
    assert!(refused.to_string().contains("makes no tokens"), "{refused}");
    let address = appliance.address();
    on_shard(move || async move {
        let mut session = open(address, &minted[0]).await;
        let all = Request::simple("SELECT * FROM accounts").unwrap();
        let answered = ask(&mut session, &all).await;
        assert_eq!(answered.outcome, Outcome::Rows(1000));
        assert_eq!(answered.canaries, 2000);
    });
}
