//! Targets that log in like a PostgreSQL and break the protocol afterwards, shape by shape.
//!
//! What they do before a session is there is in `upstream/hostile.rs` and `e2e_upstream.rs`. The
//! shapes are numbered in `docs/protocols/postgres-hostile.md`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::postgres::Server;
use crate::process::{open_sockets, resident_bytes};
use crate::wire::{Message, Silence, Wire, error, message, status, tags};

/// What the hostile target's account sees at most; also what the agent may leave unread.
const QUICK: &str = "[limits]\nwrite_deadline = \"1s\"\n";

const MIB: usize = 1 << 20;

/// A connection to a target that behaves until it is told to play a shape.
struct Actor(TcpStream);

impl Actor {
    /// Reads a packet without a tag; `None` at the end of the stream.
    fn packet(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).ok()?;
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).ok()? - 4];
        self.0.read_exact(&mut body).ok()?;
        Some(body)
    }

    fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut tag = [0];
        self.0.read_exact(&mut tag).ok()?;
        Some((tag[0], self.packet()?))
    }

    /// Whether all of it was taken: whoever we lie to may hang up before we are done.
    fn raw(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    fn say(&mut self, tag: char, body: &[u8]) -> bool {
        self.raw(&message(tag, body))
    }

    fn header(&mut self, tag: u8, length: i32) {
        self.raw(&[&[tag][..], &length.to_be_bytes()].concat());
    }

    fn log_in(&mut self) -> Option<()> {
        let startup = self.packet()?;
        if startup.get(..2) != Some(&[0, 3]) {
            // A CancelRequest: nothing to cancel.
            return None;
        }
        self.say('R', &[0; 4]);
        for pair in [
            "client_encoding\0UTF8\0",
            "standard_conforming_strings\0on\0",
        ] {
            self.say('S', pair.as_bytes());
        }
        self.say('K', &[0, 0, 0, 1, 1, 2, 3, 4]);
        self.ready();
        Some(())
    }

    fn ready(&mut self) {
        self.say('Z', b"I");
    }

    fn description(&mut self) {
        let column = [
            &b"\0\x01a\0"[..],
            &[0; 6],
            &25i32.to_be_bytes(),
            &(-1i16).to_be_bytes(),
            &[0; 6],
        ]
        .concat();
        self.say('T', &column);
    }

    fn row(&mut self, value: &[u8]) {
        let length = i32::try_from(value.len()).unwrap().to_be_bytes();
        self.say('D', &[&b"\0\x01"[..], &length, value].concat());
    }

    fn complete(&mut self, tag: &str) {
        self.say('C', &[tag.as_bytes(), b"\0"].concat());
    }

    fn answer(&mut self, value: &[u8]) {
        self.description();
        self.row(value);
        self.complete("SELECT 1");
        self.ready();
    }

    /// A session as the appliance needs it, up to the query that names a shape.
    fn serve(mut self) {
        if self.log_in().is_none() {
            return;
        }
        while let Some((tag, body)) = self.receive() {
            let text = String::from_utf8_lossy(&body).into_owned();
            match tag {
                b'Q' if text.starts_with("SET application_name") => {
                    self.complete("SET");
                    self.complete("SET");
                    self.ready();
                }
                b'Q' if text.starts_with("DISCARD ALL") => {
                    self.complete("DISCARD ALL");
                    self.ready();
                }
                // The catalogue: there is none.
                b'Q' if text.starts_with("BEGIN ISOLATION") => return,
                b'Q' if text.contains("current_schemas") => self.answer(b"[\"public\"]"),
                b'Q' if text.starts_with("!refused") => {
                    // What a refused statement is replaced by, and must fail.
                    self.answer(b"it ran");
                }
                b'Q' if text.contains("flood T42") => {
                    let notice = message('N', b"SNOTICE\0VNOTICE\0C00000\0Mx\0\0");
                    let many = notice.repeat(1000);
                    while self.raw(&many) {}
                }
                b'Q' if text.contains("flood T43") => {
                    let many = message('S', b"TimeZone\0UTC\0").repeat(1000);
                    while self.raw(&many) {}
                }
                b'Q' if text.contains("flood T44") => {
                    self.description();
                    self.header(b'D', 1 << 30);
                    while self.raw(&[b'x'; 65536]) {}
                }
                b'Q' if text.contains("silence T45") => {
                    self.description();
                    self.raw(&[b'D', 0, 0, 0, 100, 0, 1]);
                    self.wait_for_end();
                }
                b'Q' if text.contains("deaf T46") => {
                    LET_GO.wait();
                    return;
                }
                b'Q' => match SHAPES.iter().find(|shape| text.contains(shape.name)) {
                    Some(shape) => (shape.play)(&mut self),
                    None => self.answer(b"1"),
                },
                b'X' => return,
                _ => {}
            }
        }
    }

    /// Stays until the other side ends the connection.
    fn wait_for_end(&mut self) {
        let mut rest = [0; 4096];
        while !matches!(self.0.read(&mut rest), Ok(0) | Err(_)) {}
    }
}

/// Passed by the target of T46, and by the test when it has seen enough.
static LET_GO: Barrier = Barrier::new(2);

/// What the agent gets.
enum Expected {
    /// An answer up to ReadyForQuery of these tags; the session goes on.
    Answer(&'static str),
    /// FATAL with this SQLSTATE, and the end.
    Fatal(&'static str),
    /// Part of a message, and the end: nothing can be said inside it.
    End,
}

struct Shape {
    /// Part of the query that asks for it. The number is that of the document.
    name: &'static str,
    play: fn(&mut Actor),
    expected: Expected,
}

const fn broken(name: &'static str, play: fn(&mut Actor)) -> Shape {
    Shape {
        name,
        play,
        expected: Expected::Fatal("08P01"),
    }
}

const fn passed(name: &'static str, tags: &'static str, play: fn(&mut Actor)) -> Shape {
    Shape {
        name,
        play,
        expected: Expected::Answer(tags),
    }
}

/// The rows of the answer to `select 1`, then what `more` says.
fn answer_and(actor: &mut Actor, more: impl FnOnce(&mut Actor)) {
    actor.answer(b"1");
    more(actor);
    actor.wait_for_end();
}

fn instead(actor: &mut Actor, say: impl FnOnce(&mut Actor)) {
    say(actor);
    actor.wait_for_end();
}

const SHAPES: &[Shape] = &[
    broken("T01: ReadyForQuery twice", |actor| {
        instead(actor, |actor| {
            actor.complete("SELECT 0");
            actor.ready();
            actor.ready();
        });
    }),
    broken("T02: a row that nobody asked for", |actor| {
        answer_and(actor, |actor| actor.row(b"unasked"));
    }),
    broken("T03: a completion that nobody asked for", |actor| {
        answer_and(actor, |actor| actor.complete("DROP TABLE"));
    }),
    broken("T04: a row without its description", |actor| {
        instead(actor, |actor| actor.row(b"first"));
    }),
    broken("T05: BackendKeyData in a session", |actor| {
        instead(actor, |actor| {
            actor.say('K', &[0, 0, 0, 9, 9, 9, 9, 9]);
        });
    }),
    broken(
        "T06: AuthenticationCleartextPassword in a session",
        |actor| {
            instead(actor, |actor| {
                actor.say('R', &[0, 0, 0, 3]);
            });
        },
    ),
    broken("T07: AuthenticationOk in a session", |actor| {
        instead(actor, |actor| {
            actor.say('R', &[0; 4]);
        });
    }),
    broken("T08: NegotiateProtocolVersion in a session", |actor| {
        instead(actor, |actor| {
            actor.say('v', &[0; 8]);
        });
    }),
    broken("T09: an unknown tag", |actor| {
        instead(actor, |actor| {
            actor.say('~', b"x");
        });
    }),
    broken("T10: a tag of the other side", |actor| {
        instead(actor, |actor| {
            actor.say('Q', b"select 1\0");
        });
    }),
    broken("T11: length zero", |actor| {
        instead(actor, |actor| actor.header(b'C', 0))
    }),
    broken("T12: length three", |actor| {
        instead(actor, |actor| actor.header(b'T', 3))
    }),
    broken("T13: a negative length", |actor| {
        instead(actor, |actor| actor.header(b'D', -1));
    }),
    broken("T14: the lowest length", |actor| {
        instead(actor, |actor| actor.header(b'E', i32::MIN));
    }),
    broken("T15: a row of over a gigabyte", |actor| {
        instead(actor, |actor| {
            actor.description();
            actor.header(b'D', i32::MAX);
        });
    }),
    broken("T16: a description of a gigabyte", |actor| {
        instead(actor, |actor| actor.header(b'T', 1 << 30));
    }),
    broken("T17: a command tag of a megabyte", |actor| {
        instead(actor, |actor| actor.header(b'C', 1 << 20));
    }),
    broken("T18: a completion without its terminator", |actor| {
        instead(actor, |actor| {
            actor.say('C', b"SELECT 1");
        });
    }),
    broken("T19: an error without its terminator", |actor| {
        instead(actor, |actor| {
            actor.say('E', b"SERROR\0C22012\0");
        });
    }),
    broken("T20: ReadyForQuery with a status of its own", |actor| {
        instead(actor, |actor| {
            actor.complete("SELECT 0");
            actor.say('Z', b"X");
        });
    }),
    broken("T21: ReadyForQuery before the answer", |actor| {
        instead(actor, Actor::ready)
    }),
    broken("T22: ParseComplete for a simple query", |actor| {
        instead(actor, |actor| {
            actor.say('1', b"");
        });
    }),
    broken("T23: PortalSuspended for a simple query", |actor| {
        instead(actor, |actor| {
            actor.description();
            actor.say('s', b"");
        });
    }),
    broken("T24: FunctionCallResponse unasked", |actor| {
        instead(actor, |actor| {
            actor.say('V', &(-1i32).to_be_bytes());
        });
    }),
    broken("T25: CopyData outside of a COPY", |actor| {
        instead(actor, |actor| {
            actor.say('d', b"1\n");
        });
    }),
    broken("T26: CopyBothResponse", |actor| {
        instead(actor, |actor| {
            actor.say('W', &[0; 3]);
        });
    }),
    broken("T27: more settings than any server has", |actor| {
        instead(actor, |actor| {
            for number in 0..100 {
                actor.say('S', format!("s{number}\0x\0").as_bytes());
            }
        });
    }),
    broken("T28: statements are read in another encoding", |actor| {
        instead(actor, |actor| {
            actor.say('S', b"client_encoding\0SJIS\0");
            actor.answer(b"1");
        });
    }),
    broken("T29: backslashes are escapes from now on", |actor| {
        instead(actor, |actor| {
            actor.say('S', b"standard_conforming_strings\0off\0");
            actor.answer(b"1");
        });
    }),
    broken("T30: a notification without its fields", |actor| {
        instead(actor, |actor| {
            actor.say('A', &[0, 0, 0, 1]);
        });
    }),
    broken(
        "T31: a description of one column more than there are",
        |actor| {
            instead(actor, |actor| {
                actor.say('T', b"\0\x02a\0");
            });
        },
    ),
    passed(
        "T32: a row whose value is longer than it",
        "TDCZ",
        |actor| {
            actor.description();
            actor.say('D', &[0, 1, 0, 0, 1, 0, b'x']);
            actor.complete("SELECT 1");
            actor.ready();
        },
    ),
    Shape {
        name: "T33: a close between messages",
        play: |actor| {
            actor.description();
            actor.row(b"1");
            let _ = actor.0.shutdown(Shutdown::Both);
        },
        expected: Expected::Fatal("08006"),
    },
    Shape {
        name: "T34: a close in the middle of a message",
        play: |actor| {
            actor.description();
            actor.raw(&[b'D', 0, 0, 0, 100, 0, 1, 0, 0]);
            let _ = actor.0.shutdown(Shutdown::Both);
        },
        expected: Expected::Fatal("08006"),
    },
    Shape {
        name: "T35: a reset in the middle of a message",
        play: |actor| {
            actor.description();
            actor.raw(&[b'D', 0, 0, 0, 100, 0, 1, 0, 0]);
            let _ = SockRef::from(&actor.0).set_linger(Some(Duration::ZERO));
            let _ = actor.0.shutdown(Shutdown::Read);
        },
        expected: Expected::Fatal("08006"),
    },
    Shape {
        name: "T36: a close in the middle of a long row",
        play: |actor| {
            actor.description();
            actor.header(b'D', 500_000_000);
            actor.raw(&[b'x'; 300_000]);
            let _ = actor.0.shutdown(Shutdown::Both);
        },
        expected: Expected::End,
    },
    Shape {
        name: "T37: FATAL and no end of the connection",
        play: |actor| {
            instead(actor, |actor| {
                actor.say('E', b"SFATAL\0VFATAL\0C57P01\0Mgoodbye\0\0");
            });
        },
        expected: Expected::Fatal("57P01"),
    },
    passed("T38: one byte after the other", "TDCZ", |actor| {
        let _ = actor.0.set_nodelay(true);
        for byte in whole_answer() {
            actor.raw(&[byte]);
        }
    }),
    passed(
        "T39: a row with more values than columns",
        "TDCZ",
        |actor| {
            actor.description();
            actor.say('D', b"\0\x02\0\0\0\x011\0\0\0\x012");
            actor.complete("SELECT 1");
            actor.ready();
        },
    ),
    passed("T40: an error without a SQLSTATE", "EZ", |actor| {
        actor.say('E', b"SERROR\0Mnothing else\0\0");
        actor.ready();
    }),
    passed(
        "T41: an answer that leaves a transaction open",
        "TDCZ",
        |actor| {
            actor.description();
            actor.row(b"1");
            actor.complete("SELECT 1");
            actor.say('Z', b"T");
        },
    ),
];

fn whole_answer() -> Vec<u8> {
    let description = [
        &b"\0\x01a\0"[..],
        &[0; 6],
        &25i32.to_be_bytes(),
        &(-1i16).to_be_bytes(),
        &[0; 6],
    ]
    .concat();
    [
        message('T', &description),
        message('D', b"\0\x01\0\0\0\x011"),
        message('C', b"SELECT 1\0"),
        message('Z', b"I"),
    ]
    .concat()
}

/// A hostile target, an honest one with a bystander, and the appliance before both.
struct World {
    appliance: Appliance,
    token: String,
    bystander: Wire,
    /// Connections that the hostile target has open.
    connected: Arc<AtomicUsize>,
    _server: Server,
}

impl World {
    fn new() -> Self {
        let server = orders_server();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hostile = listener.local_addr().unwrap();
        let connected = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connected);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let count = Arc::clone(&count);
                count.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    Actor(stream).serve();
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let mut setup = Setup::for_server(&server);
        setup.shards = 1;
        // No connections that come and go by themselves: sockets are counted.
        setup.target_keys = "pool = { warm = 0 }".into();
        setup.tables = format!(
            "{QUICK}\n[[target]]\nname = \"hostile\"\nprotocol = \"postgres\"\n\
             address = \"{hostile}\"\nuser = \"svc\"\ntls = \"disable\"\n\
             pool = {{ connections = 2, warm = 0 }}\n"
        );
        let policy = crate::appliance::POLICY.replace(r#"["orders"]"#, r#"["orders", "hostile"]"#);
        setup.policy = &policy;
        let appliance = Appliance::start(&setup);
        let token = appliance.token("claude", "analysts");
        let bystander = Wire::login(appliance.address(), "claude", "orders", &token);
        Self {
            appliance,
            token,
            bystander,
            connected,
            _server: server,
        }
    }

    fn login(&self) -> Wire {
        Wire::login(self.appliance.address(), "claude", "hostile", &self.token)
    }

    /// Others work, and what the shape used is given back.
    fn check_unharmed(&mut self, shape: &str, before: usize) {
        assert_eq!(self.bystander.value("select 1"), "1", "after {shape}");
        wait_until("the sockets of the shape to be closed", || {
            open_sockets(self.appliance.process_id()) <= before
        });
        assert!(!self.appliance.log().contains("panic"), "{shape}");
    }
}

fn check_never_asked_for_a_password(shape: &str, answers: &[Message]) {
    assert!(
        answers.iter().all(|answer| !"RKv".contains(answer.tag)),
        "{shape}: {answers:?}"
    );
}

#[test]
fn a_target_that_breaks_the_protocol_ends_its_session_and_no_other() {
    let mut world = World::new();
    // The pool keeps two connections at most; a session is two sockets.
    world.login().value("select 1");
    wait_until("the session to end", || {
        open_sockets(world.appliance.process_id()) < 20
    });
    let before = open_sockets(world.appliance.process_id()) + 2;
    let memory = resident_bytes(world.appliance.process_id());
    for shape in SHAPES {
        let mut wire = world.login();
        assert_eq!(wire.value("select 1"), "1", "{}", shape.name);
        wire.send('Q', format!("select '{}'\0", shape.name).as_bytes());
        match shape.expected {
            Expected::Answer(expected) => {
                let answers = wire.until_ready();
                assert_eq!(tags(&answers), expected, "{}", shape.name);
                assert_eq!(wire.value("select 1"), "1", "{}", shape.name);
            }
            Expected::Fatal(sqlstate) => {
                let answers = wire.until_closed();
                check_never_asked_for_a_password(shape.name, &answers);
                let last = answers.last().unwrap_or_else(|| panic!("{}", shape.name));
                assert_eq!(last.tag, 'E', "{}: {answers:?}", shape.name);
                assert_eq!(last.sqlstate(), sqlstate, "{}: {answers:?}", shape.name);
                assert_eq!(last.field('S').as_deref(), Some("FATAL"));
            }
            Expected::End => {
                wire.until_closed_raw();
            }
        }
        drop(wire);
        world.check_unharmed(shape.name, before);
    }
    let grown = resident_bytes(world.appliance.process_id()).saturating_sub(memory);
    assert!(grown < 32 * MIB, "grew by {grown} bytes");
}

#[test]
fn a_connection_that_a_shape_left_in_a_transaction_is_not_used_again() {
    let world = World::new();
    let mut wire = world.login();
    let answers = wire.query("select 'T41: an answer that leaves a transaction open'");
    assert_eq!(status(&answers), 'T');
    assert!(world.connected.load(Ordering::SeqCst) >= 1);
    wire.send('X', b"");
    drop(wire);
    wait_until("the connection to be closed", || {
        // Attempts to read the catalogue come and go.
        world.connected.load(Ordering::SeqCst) == 0
    });
}

#[test]
fn a_target_that_runs_what_was_refused_is_not_believed() {
    let world = World::new();
    let mut wire = world.login();
    wire.send('Q', b"drop table orders\0");
    let answers = wire.until_closed();
    assert_eq!(error(&answers).sqlstate(), "08P01", "{answers:?}");
    assert!(!format!("{answers:?}").contains("it ran"), "{answers:?}");
}

/// T42, T43, T44: without end, to an agent that reads nothing.
#[test]
fn messages_without_end_do_not_fill_the_memory() {
    let mut world = World::new();
    for flood in ["T42", "T43", "T44"] {
        let mut wire = world.login();
        let memory = resident_bytes(world.appliance.process_id());
        wire.send('Q', format!("select 'flood {flood}'\0").as_bytes());
        // The agent does not read: it is given up, and its target with it.
        wait_until("the session to end", || {
            assert_eq!(world.bystander.value("select 1"), "1", "{flood}");
            let grown = resident_bytes(world.appliance.process_id()).saturating_sub(memory);
            assert!(grown < 32 * MIB, "{flood}: grew by {grown} bytes");
            world.connected.load(Ordering::SeqCst) == 0
        });
        while !matches!(wire.receive(), Err(Silence::Closed)) {}
    }
}

/// T45: the agent of a target that stops in the middle of a message is not kept from leaving.
#[test]
fn silence_in_the_middle_of_a_message_holds_nobody() {
    let mut world = World::new();
    let mut wire = world.login();
    wire.send('Q', b"select 'silence T45'\0");
    assert_eq!(wire.receive().unwrap().tag, 'T');
    assert_eq!(world.bystander.value("select 1"), "1");
    drop(wire);
    wait_until("the connection to be closed", || {
        world.connected.load(Ordering::SeqCst) == 0
    });
}

/// T46: statements pile up in front of a target that takes none.
#[test]
fn a_target_that_stops_reading_stops_its_agent_and_does_not_fill_the_memory() {
    let mut world = World::new();
    let before = open_sockets(world.appliance.process_id());
    let mut wire = world.login();
    let memory = resident_bytes(world.appliance.process_id());
    wire.send('Q', b"select 'deaf T46'\0");
    wire.write_timeout(Duration::from_millis(500));
    let statement = message('Q', &[&vec![b' '; MIB][..], b"\0"].concat());
    let mut sent = 0;
    while sent < 200 * MIB && wire.try_send_raw(&statement) {
        sent += statement.len();
    }
    assert!(sent < 64 * MIB, "{sent} bytes were taken");
    let grown = resident_bytes(world.appliance.process_id()).saturating_sub(memory);
    assert!(grown < 64 * MIB, "grew by {grown} bytes after {sent}");
    assert_eq!(world.bystander.value("select 1"), "1");
    LET_GO.wait();
    wire.until_closed_raw();
    wait_until("the sockets to be closed", || {
        open_sockets(world.appliance.process_id()) <= before
    });
}
