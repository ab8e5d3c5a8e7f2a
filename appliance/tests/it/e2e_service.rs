//! The appliance as a service: what its manager hears, and what of it outlives a restart.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::appliance::{Appliance, BINARY, Setup, orders_server, wait_until};
use crate::postgres::Server;
use crate::service_manager::{AS_MAIN_PROCESS, ServiceManager};
use crate::wire::{
    PATIENCE, PROTOCOL_3_0, Silence, Wire, error, message, status, tags, terminated,
};

/// Clients that connect, ask one thing and leave, again and again.
const CLIENTS: usize = 4;

struct World {
    server: Server,
    appliance: Appliance,
    manager: ServiceManager,
}

impl World {
    fn laid_out(change: impl FnOnce(&mut Setup<'_>)) -> Self {
        let server = orders_server();
        server.psql_in(
            "orders",
            "create table marks (n int); alter table marks owner to svc",
        );
        let mut setup = Setup::for_server(&server);
        setup.wrapper = AS_MAIN_PROCESS.map(str::to_owned).to_vec();
        setup.tables = "[drain]\ndeadline = \"60s\"\n".into();
        change(&mut setup);
        Self {
            appliance: Appliance::laid_out(&setup),
            server,
            manager: ServiceManager::new(),
        }
    }

    fn start(change: impl FnOnce(&mut Setup<'_>)) -> Self {
        let mut world = Self::laid_out(change);
        world.manager.start(&mut world.appliance);
        world
    }

    /// Replaces a text in the configuration.
    fn reconfigure(&self, from: &str, to: &str) {
        let path = self.appliance.configuration_path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Tells it to stop, and waits until its sessions were told.
    fn begin_to_stop(&mut self) {
        self.appliance.send_signal(Signal::TERM);
        self.manager.wait_for("STOPPING=1");
    }

    fn marks(&self) -> usize {
        let marks = self.server.psql_in("orders", "select count(*) from marks");
        marks.parse().unwrap()
    }
}

/// A connection that nobody has accepted yet, with the start of a login.
fn knock(address: SocketAddr) -> Wire {
    let mut wire = Wire::open(address);
    wire.send_startup(PROTOCOL_3_0, &[("user", "claude"), ("database", "orders")]);
    wire
}

/// Brings that login to its end and asks something.
fn come_in(mut wire: Wire, token: &str) {
    assert_eq!(wire.receive().expect("asked for a password").tag, 'R');
    wire.send('p', &terminated(token));
    wire.until_ready();
    assert_eq!(wire.value("select count(*) from orders"), "1000");
}

/// Connects, inserts, and leaves until it is told to stop. Returns how many inserts were answered.
///
/// Each connection has to be accepted and let in; a statement may be preceded by an orderly goodbye,
/// and is answered otherwise.
fn come_and_go(address: SocketAddr, token: &str, stop: &AtomicBool) -> usize {
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut wire = Wire::login(address, "claude", "orders", token);
        wire.send('Q', &terminated("insert into marks values (1)"));
        loop {
            let message = wire.receive().expect("an answer or a goodbye");
            match message.tag {
                'C' => answered += 1,
                'Z' => break,
                'E' => {
                    assert_eq!(message.sqlstate(), "57P01");
                    break;
                }
                _ => {}
            }
        }
    }
    answered
}

#[test]
fn over_a_restart_nobody_is_refused_or_reset_and_no_statement_is_cut() {
    let mut world = World::start(|_| {});
    let (address, token) = (
        world.appliance.address(),
        world.appliance.token("claude", "analysts"),
    );
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| come_and_go(address, &token, &stop)))
            .collect();
        // As many shards, more, fewer, and one.
        for (before, shards) in [(2, 2), (2, 3), (3, 2), (2, 1)] {
            let marks = world.marks();
            wait_until("clients to be served", || {
                world.marks() > marks + 2 * CLIENTS
            });
            let mut transaction = Wire::login(address, "claude", "orders", &token);
            transaction.query("begin; insert into marks values (2)");
            world.reconfigure(&format!("shards = {before}"), &format!("shards = {shards}"));
            world.begin_to_stop();
            let committed = transaction.query("commit");
            assert_eq!(tags(&committed), "CZ");
            assert_eq!(error(&transaction.until_closed()).sqlstate(), "57P01");
            assert!(world.appliance.wait().success());
            // Nobody runs who could accept them.
            let waiting: Vec<Wire> = (0..12).map(|_| knock(address)).collect();
            world.manager.start(&mut world.appliance);
            for wire in waiting {
                come_in(wire, &token);
            }
            // A socket for each shard, and those that there were before.
            let kept = world.manager.kept_names().len();
            assert_eq!(kept, if before == 2 && shards == 2 { 2 } else { 3 });
        }
        let marks = world.marks();
        wait_until("clients to be served", || {
            world.marks() > marks + 2 * CLIENTS
        });
        stop.store(true, Ordering::Relaxed);
        let answered: usize = clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum();
        // What was committed was answered, and what was answered committed.
        assert_eq!(world.marks(), answered + 4);
    });
}

#[test]
fn connections_wait_for_the_successor_of_a_killed_appliance() {
    let mut world = World::start(|_| {});
    let token = world.appliance.token("claude", "analysts");
    world.appliance.kill();
    let waiting: Vec<Wire> = (0..8).map(|_| knock(world.appliance.address())).collect();
    world.manager.start(&mut world.appliance);
    for wire in waiting {
        come_in(wire, &token);
    }
}

#[test]
fn a_unix_socket_is_kept_and_one_whose_file_is_gone_is_made_anew() {
    let mut world = World::laid_out(|_| {});
    let path = world.appliance.directory().join("run/.s.PGSQL.6432");
    let address = world.appliance.address();
    world.reconfigure(
        &format!("\"{address}\""),
        &format!(
            "\"{address}\", {{ address = \"unix:{}\", mode = \"0700\" }}",
            path.display()
        ),
    );
    world.manager.start(&mut world.appliance);
    assert_eq!(world.manager.kept.len(), 3);
    assert!(world.appliance.terminate().success());

    // The request for TLS of a client that came while nobody was there.
    let mut waiting = UnixStream::connect(&path).unwrap();
    waiting.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    world.manager.start(&mut world.appliance);
    let mut answer = [0];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [b'S']);
    assert_eq!(world.manager.kept.len(), 3);
    assert!(world.appliance.terminate().success());

    fs::remove_file(&path).unwrap();
    world.manager.start(&mut world.appliance);
    let mut late = UnixStream::connect(&path).unwrap();
    late.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    late.read_exact(&mut answer).unwrap();
    assert_eq!(world.manager.kept.len(), 3);
}

#[test]
fn what_is_not_configured_any_more_is_closed_and_no_longer_kept() {
    let mut world = World::laid_out(|_| {});
    let address = world.appliance.address();
    let other = SocketAddr::from(([127, 0, 0, 1], crate::postgres::free_port()));
    let both = format!("\"{address}\", \"{other}\"");
    world.reconfigure(&format!("\"{address}\""), &both);
    world.manager.start(&mut world.appliance);
    assert_eq!(world.manager.kept.len(), 4);
    assert!(world.appliance.terminate().success());

    world.reconfigure(&both, &format!("\"{address}\""));
    // Something that is no listener at all, and a file under the name of one.
    let pair = UnixStream::pair().unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    world.manager.kept.push(("stray".into(), pair.0.into()));
    let name = "7@".to_owned() + &address.to_string().replace(':', "%3A");
    world.manager.kept.push((name, file.into()));
    world.manager.start(&mut world.appliance);
    world.appliance.login("claude", "analysts");
    let names = world.manager.kept_names();
    assert_eq!(names.len(), 2, "{names:?}");
    let port = address.port().to_string();
    assert!(names.iter().all(|name| name.ends_with(&port)), "{names:?}");
    assert!(TcpStream::connect(other).is_err());
}

#[test]
fn sockets_of_a_socket_unit_are_accepted_from_by_all_shards_and_never_kept() {
    let mut world = World::laid_out(|setup| setup.shards = 3);
    let address = world.appliance.address();
    // It belongs to the manager: nobody may share its port.
    let unit = TcpListener::bind(address).unwrap();
    world.manager.units = vec![("postgres".into(), OwnedFd::from(unit))];
    for _ in 0..2 {
        let waiting: Vec<Wire> = (0..8).map(|_| knock(address)).collect();
        world.manager.start(&mut world.appliance);
        let token = world.appliance.token("claude", "analysts");
        for wire in waiting {
            come_in(wire, &token);
        }
        assert!(world.manager.kept.is_empty());
        assert!(world.appliance.terminate().success());
    }
}

#[test]
fn what_was_passed_to_another_process_is_left_alone() {
    let mut world = World::laid_out(|setup| {
        setup.wrapper = vec![
            "sh".into(),
            "-c".into(),
            "LISTEN_PID=1 exec \"$@\"".into(),
            "sh".into(),
        ];
    });
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = elsewhere.local_addr().unwrap();
    world.manager.kept = vec![("not-ours".into(), elsewhere.into())];
    world.manager.start(&mut world.appliance);
    // Taken, it would have been closed and given up.
    assert!(world.manager.kept_names().contains(&"not-ours"));
    TcpStream::connect(address).unwrap();
}

/// Stops one thread of a process, as a loop without end would; it goes on when this is dropped.
struct Stuck(Child);

impl Stuck {
    fn shard(process: u32) -> Self {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let tasks = tasks.map(|task| task.unwrap().path());
        // Its helpers are named after it, and came later.
        let shard = tasks
            .filter(|task| {
                let name = fs::read_to_string(task.join("comm")).unwrap();
                name.starts_with("shard-")
            })
            .filter_map(|task| task.file_name()?.to_str()?.parse::<u32>().ok())
            .min()
            .expect("a thread of a shard");
        let tracer = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
task, seize, interrupt = int(sys.argv[1]), 0x4206, 0x4207
for request in (seize, interrupt):
    if libc.ptrace(request, task, 0, 0) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(task, 0x40000000)
print('stopped', flush=True)
sys.stdin.read()
";
        let mut child = Command::new("python3")
            .args(["-c", tracer])
            .arg(shard.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 8];
        let out = child.stdout.as_mut().unwrap();
        out.read_exact(&mut said).expect("the thread to be stopped");
        assert_eq!(&said, b"stopped\n");
        Self(child)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // It ends at the end of its input, and the kernel lets go of what it traced.
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn the_watchdog_hears_nothing_while_a_shard_is_stuck() {
    let mut world = World::laid_out(|_| {});
    world.manager.watchdog = Some(Duration::from_millis(300));
    world.manager.start(&mut world.appliance);
    for _ in 0..3 {
        world.manager.wait_for("WATCHDOG=1");
    }
    let stuck = Stuck::shard(world.appliance.process_id());
    let (_, said) = world.manager.until(|said| said.contains("does not answer"));
    assert!(said.starts_with("STATUS=ready"), "{said}");
    // The next round of questions comes to its end: what it finds has changed.
    let was = crate::appliance::POLICY;
    world.appliance.write_policy("[[rule]]\n");
    assert!(!world.appliance.cli(&["reload"]).status.success());
    let refused = |said: &str| said.contains("the last reload was refused");
    let (meanwhile, _) = world.manager.until(refused);
    assert_eq!(
        meanwhile
            .iter()
            .filter(|said| *said == "WATCHDOG=1")
            .count(),
        0,
        "{meanwhile:?}"
    );
    assert!(!meanwhile.iter().any(|said| said.starts_with("READY=1")));
    drop(stuck);
    world.manager.wait_for("WATCHDOG=1");
    world.appliance.write_policy(was);
    world.appliance.cli_text(&["reload"]);
    world.manager.wait_for("READY=1");
}

#[test]
fn a_reload_is_told_and_its_failure_too() {
    let mut world = World::start(|_| {});
    let mut session = world.appliance.login("claude", "analysts");
    world.appliance.write_policy("[[rule]]\nname = \"half\"\n");
    let output = world.appliance.cli(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("rules.toml:1:"), "{errors}");
    let reloading = world.manager.wait_for("RELOADING=1");
    let time = reloading
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(time.unwrap().parse::<u64>().unwrap() > 0);
    let ready = world.manager.wait_for("READY=1");
    assert!(ready.contains("the last reload was refused"), "{ready}");
    assert!(ready.contains("rules.toml"), "{ready}");
    // The old one is in force, for who is there and for who comes.
    assert_eq!(session.value("select count(*) from orders"), "1000");
    world.appliance.login("claude", "analysts");

    world.appliance.write_policy(crate::appliance::POLICY);
    world.appliance.cli_text(&["reload"]);
    world.manager.wait_for("RELOADING=1");
    let ready = world.manager.wait_for("READY=1");
    assert!(!ready.contains("refused"), "{ready}");
    // By signal, as without a service manager.
    world.appliance.send_signal(Signal::HUP);
    world.manager.wait_for("RELOADING=1");
    world.manager.wait_for("READY=1");
}

#[test]
fn the_status_says_what_to_do_next_and_how_long_a_stop_may_take() {
    let mut world = World::laid_out(|_| {});
    let path = world.appliance.configuration_path();
    let text = fs::read_to_string(&path).unwrap();
    let (start, rest) = text.split_once("[[target]]").unwrap();
    let rest = &rest[rest.find("[drain]").unwrap()..];
    fs::write(&path, format!("{start}{rest}")).unwrap();
    world.appliance.write_policy("");
    let ready = world.manager.start(&mut world.appliance);
    assert!(
        ready.contains("STATUS=ready: 0 sessions, 0 targets"),
        "{ready}"
    );
    assert!(ready.contains("next: sallyport targets add"), "{ready}");

    fs::write(&path, text).unwrap();
    world.appliance.write_policy(crate::appliance::POLICY);
    world.appliance.cli_text(&["reload"]);
    let ready = world.manager.wait_for("READY=1");
    assert!(
        ready.contains("1 target; nobody has connected yet"),
        "{ready}"
    );

    world.appliance.send_signal(Signal::TERM);
    let stopping = world.manager.wait_for("STOPPING=1");
    let extend = stopping
        .lines()
        .find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
    let extend: u64 = extend.unwrap().parse().unwrap();
    assert!(
        extend > 60_000_000,
        "more than the drain may take: {extend}"
    );
    assert!(world.appliance.wait().success());
}

/// `e2e_hold` has the session that waits for approval.
#[test]
fn a_drain_ends_each_session_at_a_boundary() {
    let mut world = World::start(|_| {});
    let token = world.appliance.token("claude", "analysts");
    let address = world.appliance.address();
    let login = || Wire::login(address, "claude", "orders", &token);
    let server = &world.server;
    let mut lock = crate::appliance::login_directly(server);
    lock.query("begin; select * from orders where id = 1 for update");

    let mut idle = login();
    let mut running = login();
    running.send('Q', &terminated("update orders set total = 7 where id = 1"));
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
    wait_until("the statement to wait", || server.psql(waits) == "1");
    let mut transaction = login();
    assert_eq!(
        status(&transaction.query("begin; insert into marks values (1)")),
        'T'
    );
    let mut failed = login();
    assert_eq!(status(&failed.query("begin; select 1/0")), 'E');
    let mut copying = login();
    copying.send('Q', &terminated("copy marks from stdin"));
    assert_eq!(copying.receive().unwrap().tag, 'G');
    copying.send('d', b"2\n");
    let mut pipelining = login();
    pipelining.parse("", "insert into marks values ($1)");
    pipelining.bind("", "", &[Some("3")]);
    pipelining.execute("", 0);
    pipelining.send('H', b"");
    assert_eq!(pipelining.receive().unwrap().tag, '1');
    // On the way in: asked for its password.
    let mut arriving = knock(address);
    assert_eq!(arriving.receive().unwrap().tag, 'R');

    world.begin_to_stop();
    // It comes in, and what it came for is done.
    let login_and_query = [
        message('p', &terminated(&token)),
        message('Q', &terminated("insert into marks values (4)")),
    ];
    arriving.send_raw(&login_and_query.concat());
    arriving.until_ready();
    assert_eq!(tags(&arriving.until_ready()), "CZ");
    assert_eq!(error(&arriving.until_closed()).sqlstate(), "57P01");

    // The others are still in the middle of something when the idle one goes.
    let goodbye = idle.until_closed();
    assert_eq!(error(&goodbye).sqlstate(), "57P01");
    assert_eq!(tags(&goodbye), "E");
    assert_eq!(
        tags(&transaction.query("insert into marks values (5)")),
        "CZ"
    );
    assert_eq!(status(&transaction.query("commit")), 'I');
    assert_eq!(error(&transaction.until_closed()).sqlstate(), "57P01");
    assert_eq!(status(&failed.query("rollback")), 'I');
    assert_eq!(error(&failed.until_closed()).sqlstate(), "57P01");
    copying.send('d', b"6\n");
    copying.send('c', b"");
    assert_eq!(tags(&copying.until_ready()), "CZ");
    assert_eq!(error(&copying.until_closed()).sqlstate(), "57P01");
    pipelining.sync();
    assert!(tags(&pipelining.until_ready()).ends_with("CZ"));
    assert_eq!(error(&pipelining.until_closed()).sqlstate(), "57P01");
    lock.query("rollback");
    let answer = running.until_closed();
    assert_eq!(tags(&answer), "CZE", "{answer:?}");
    assert_eq!(error(&answer).sqlstate(), "57P01");
    assert!(world.appliance.wait().success());
    assert_eq!(world.marks(), 6);
    let total = world
        .server
        .psql_in("orders", "select total from orders where id = 1");
    assert_eq!(total, "7");
}

/// Wrong from the start: the status says so, and the exit status that trying again is useless.
#[test]
fn a_wrong_configuration_is_told_before_it_ends_with_its_own_status() {
    let world = World::laid_out(|_| {});
    world.reconfigure("shards = 2", "shards = \"two\"");
    let socket = UnixDatagram::bind(world.appliance.directory().join("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let output = Command::new(BINARY)
        .arg("--config")
        .arg(world.appliance.configuration_path())
        .arg("serve")
        .env("NOTIFY_SOCKET", world.appliance.directory().join("notify"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let mut said = [0; 4096];
    let count = socket.recv(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said[..count]);
    assert!(
        said.starts_with("STATUS=the configuration is wrong: "),
        "{said}"
    );
    assert!(said.contains("sallyport.toml:"), "{said}");
}

#[test]
fn after_the_drain_limit_what_runs_is_cancelled() {
    let mut world = World::start(|setup| setup.tables = "[drain]\ndeadline = \"1s\"\n".into());
    let token = world.appliance.token("claude", "analysts");
    let login = || Wire::login(world.appliance.address(), "claude", "orders", &token);
    let mut running = login();
    running.send('Q', &terminated("select pg_sleep(600)"));
    let mut transaction = login();
    transaction.query("begin; insert into marks values (1)");
    let mut silent = knock(world.appliance.address());
    assert_eq!(silent.receive().unwrap().tag, 'R');
    let sleeps = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    wait_until("the statement to run", || world.server.psql(sleeps) == "1");
    assert!(world.appliance.terminate().success());
    for wire in [&mut running, &mut transaction] {
        assert_eq!(error(&wire.until_closed()).sqlstate(), "57P01");
    }
    assert_eq!(silent.receive(), Err(Silence::Closed));
    wait_until("the target to be rid of it", || {
        world.server.psql(sleeps) == "0"
    });
    assert_eq!(world.marks(), 0);
}

#[test]
fn connections_of_the_console_end_and_are_not_reset() {
    let mut world = World::start(|setup| setup.console = Some("127.0.0.1:0"));
    let url = world.appliance.console_url();
    let address: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut first = [0; 9];
    connection.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 ");
    assert!(world.appliance.terminate().success());
    let mut rest = Vec::new();
    connection.read_to_end(&mut rest).expect("an orderly end");
}
