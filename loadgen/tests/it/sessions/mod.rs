//! Sessions as the engine has them, against real servers and one that is hostile.

mod authentication;
mod hostile;
mod modes;
mod tls;

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loadgen::protocols::{
    Address, Agent, Answered, Canaries, Dialer, Failed, Outcome, Password, Request, Session,
    Target, Tls,
};

/// Runs `test` on a shard of its own; a panic in it fails the test.
pub(crate) fn on_a_shard<F, Fut>(test: F)
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let config = runtime::ShardsConfig {
        count: NonZeroUsize::new(1),
    };
    let shards = runtime::start_shards(config, move |_| {
        let test = test.clone();
        async move {
            test().await;
            assert_eq!(runtime::panics_contained(), 0);
        }
    });
    shards.unwrap().join().unwrap();
}

/// Long enough for any machine; a test that reaches it has failed.
pub(crate) fn soon() -> Instant {
    runtime::now() + Duration::from_secs(30)
}

pub(crate) fn target(address: &str) -> Target {
    Target {
        address: Address::resolve(address).unwrap(),
        tls: Tls::default(),
        database: "postgres".to_owned(),
        canaries: Arc::new(Canaries::default()),
    }
}

pub(crate) fn on_port(port: u16) -> Target {
    target(&format!("127.0.0.1:{port}"))
}

pub(crate) fn agent(user: &str, password: &str) -> Agent {
    Agent {
        name: user.to_owned(),
        user: user.to_owned(),
        password: Password::new(password.as_bytes()),
    }
}

pub(crate) async fn try_open(target: &Target, agent: &Agent) -> Result<Session, Failed> {
    Dialer::new(Arc::new(target.clone()))
        .open(agent, soon())
        .await
}

pub(crate) async fn open(target: &Target) -> Session {
    try_open(target, &agent("postgres", "")).await.unwrap()
}

pub(crate) async fn ask(session: &mut Session, request: &Request) -> Answered {
    session.exchange(request, soon()).await.unwrap()
}

pub(crate) fn rows(answered: &Answered) -> u64 {
    match answered.outcome {
        Outcome::Rows(rows) => rows,
        Outcome::Refused => panic!("refused"),
        Outcome::Error(sqlstate) => panic!("SQLSTATE {sqlstate}"),
    }
}
