//! The model of `PostgresMain` against PostgreSQL itself: the same messages, the same answers.
//!
//! What the codecs' dialogues and the simulation of sessions prove, they prove of the model.

#[path = "../../../codecs/tests/it/dialogues/server.rs"]
mod server;

use std::net::{Ipv4Addr, SocketAddr};

use codecs::postgres::TransactionStatus;
use codecs::postgres::backend::BackendEvent;
use codecs::postgres::frontend::Target;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use server::{Message, Said, Server, Sql};

use crate::postgres::{self, SUPERUSER};
use crate::wire::Wire;

/// Dialogues that are held with the server. Each is a connection of its own.
const DIALOGUES: u32 = 400;

fn sql() -> impl Strategy<Value = Sql> {
    prop::sample::select(Sql::ALL.to_vec())
}

fn message() -> impl Strategy<Value = Message> {
    let statement = || prop::sample::select(vec!["", "", "s"]);
    let portal = || prop::sample::select(vec!["", "", "p"]);
    prop_oneof![
        2 => prop::collection::vec(sql(), 1..4).prop_map(Message::Query),
        3 => (statement(), sql()).prop_map(|(name, sql)| Message::Parse(name, sql)),
        4 => (portal(), statement()).prop_map(|(name, of)| Message::Bind(name, of)),
        1 => statement().prop_map(|name| Message::Describe(Target::Statement, name)),
        1 => portal().prop_map(|name| Message::Describe(Target::Portal, name)),
        4 => (portal(), 0..5_u32).prop_map(|(name, limit)| Message::Execute(name, limit)),
        1 => statement().prop_map(|name| Message::Close(Target::Statement, name)),
        1 => portal().prop_map(|name| Message::Close(Target::Portal, name)),
        3 => Just(Message::Sync),
        1 => Just(Message::Flush),
        1 => any::<bool>().prop_map(|exists| Message::FunctionCall { exists }),
    ]
}

/// A COPY is fed or ended more often than not: what else comes ends the connection.
fn dialogue() -> impl Strategy<Value = Vec<Message>> {
    let data = prop_oneof![
        4 => prop::bool::weighted(0.8).prop_map(|good| Message::CopyData { good }),
        3 => Just(Message::CopyDone),
        1 => Just(Message::CopyFail),
        1 => Just(Message::Flush),
        1 => Just(Message::Sync),
    ];
    let pairs = prop::collection::vec((message(), prop::collection::vec(data, 0..4)), 1..24);
    pairs.prop_map(|pairs| {
        let mut model = Server::new();
        let mut messages = Vec::new();
        for (message, data) in pairs {
            let mut said = vec![message];
            said.extend(data);
            for message in said {
                // Outside of a COPY its messages come only now and then.
                if message.is_copy() && !model.in_copy_in() && messages.len() % 3 != 0 {
                    continue;
                }
                model.handle(messages.len(), &message);
                messages.push(message);
            }
            while model.in_copy_in() {
                model.handle(messages.len(), &Message::CopyDone);
                messages.push(Message::CopyDone);
            }
        }
        messages.push(Message::Sync);
        messages
    })
}

fn letter(said: &Said) -> String {
    match said.event {
        BackendEvent::Tagged(tag) => char::from(tag.byte()).to_string(),
        BackendEvent::ReadyForQuery(status) => match status {
            TransactionStatus::Idle => "Zi".to_owned(),
            TransactionStatus::InTransaction => "Zt".to_owned(),
            TransactionStatus::Failed => "Ze".to_owned(),
        },
        BackendEvent::FatalErrorResponse | BackendEvent::InterruptErrorResponse => "!".to_owned(),
    }
}

#[test]
fn postgresql_answers_as_its_model_does() {
    let server = postgres::Server::start(postgres::Options::default());
    server.psql(server::SETUP);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
    let configuration = ProptestConfig {
        cases: DIALOGUES,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let held = TestRunner::new(configuration).run(&dialogue(), |messages| {
        let mut model = Server::new();
        let mut expected = Vec::new();
        let mut bytes = Vec::new();
        for (id, message) in messages.iter().enumerate() {
            message.encode(&mut bytes);
            expected.extend(model.handle(id, message).iter().map(letter));
        }
        prop_assume!(!model.is_dead());
        let mut wire = Wire::login(address, SUPERUSER, "postgres", "");
        bytes.extend(b"X\0\0\0\x04");
        wire.send_raw(&bytes);
        let heard: Vec<String> = wire
            .until_closed()
            .iter()
            .filter(|message| !matches!(message.tag, 'N' | 'S'))
            .map(|message| match message.tag {
                'Z' => format!("Z{}", char::from(message.body[0]).to_lowercase()),
                tag => tag.to_string(),
            })
            .collect();
        prop_assert_eq!(heard.join(" "), expected.join(" "));
        Ok(())
    });
    held.unwrap_or_else(|failure| panic!("{failure}"));
}
