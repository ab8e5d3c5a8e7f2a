//! The built-in upstream as stock clients and the generator's own sessions meet it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU32;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use loadgen::protocols::{Canaries, Failed, Outcome, Request, Statement, Tls, TlsMode};
use tempfile::TempDir;

use crate::servers::certificates::Authority;
use crate::servers::postgres::binary;
use crate::sessions::{agent, ask, on_a_shard, on_port, open, rows, soon, target, try_open};

pub(crate) struct Upstream {
    child: Child,
    pub(crate) port: u16,
    directory: TempDir,
}

impl Upstream {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::with_files(&[], arguments)
    }

    /// `{}` in an argument is the directory where the files are.
    pub(crate) fn with_files(files: &[(&str, &str)], arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let path = directory.path().to_str().unwrap();
        let arguments = arguments
            .iter()
            .map(|argument| argument.replace("{}", path));
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(env!("CARGO_BIN_EXE_sallyport-loadgen"))
            .args(["upstream", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").unwrap();
        let address: SocketAddr = address.parse().unwrap();
        Self {
            child,
            port: address.port(),
            directory,
        }
    }

    fn psql(&self, arguments: &[&str]) -> Output {
        Command::new(binary("psql"))
            .args([
                "-X",
                "-A",
                "-t",
                "-q",
                "-h",
                "127.0.0.1",
                "-U",
                "ada",
                "-d",
                "test",
            ])
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .env("PGPASSWORD", "secret")
            .env("PGCONNECT_TIMEOUT", "20")
            .output()
            .unwrap()
    }

    fn psql_text(&self, arguments: &[&str]) -> String {
        let output = self.psql(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

const SECOND: &str = "2|account 2|holder.2@canary.example|4111111111111111|74|cdefghijkl\n";

#[test]
fn psql_finds_rows_settings_and_errors() {
    let upstream = Upstream::start(&["--rows", "30", "--row-bytes", "10"]);
    let ask = |sql: &str| upstream.psql_text(&["-c", sql]);
    assert_eq!(ask("SELECT * FROM accounts WHERE id = 2"), SECOND);
    assert_eq!(ask("SELECT id FROM accounts LIMIT 2"), "1\n2\n");
    assert_eq!(ask("SELECT id FROM accounts WHERE id = 31"), "");
    assert_eq!(ask("SELECT 7, 'x', current_user, NULL"), "7|x|ada|\n");
    assert_eq!(
        ask("SELECT repeat('x', 3), i FROM generate_series(2, 3) AS i"),
        "xxx|2\nxxx|3\n"
    );
    assert_eq!(ask("SHOW server_version"), "15.0\n");
    assert_eq!(ask("SET our.own = 'a;b'; SHOW our.own"), "a;b\n");
    assert_eq!(ask("INSERT INTO accounts VALUES (1), (2)"), "");
    let copied = ask("COPY (SELECT * FROM accounts WHERE id BETWEEN 2 AND 3) TO STDOUT");
    assert_eq!(
        copied.lines().next().unwrap().replace('\t', "|"),
        SECOND.trim_end()
    );
    assert_eq!(copied.lines().count(), 2);

    let several = [
        "-c",
        "BEGIN",
        "-c",
        "SELECT nothing",
        "-c",
        "SELECT 1",
        "-c",
        "ROLLBACK",
    ];
    let output = upstream.psql(&several);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("does not know this"), "{errors}");
    assert!(
        errors.contains("current transaction is aborted"),
        "{errors}"
    );
    let output = upstream.psql(&["-v", "VERBOSITY=verbose", "-c", "SELECT * FROM other"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("42P01"));
}

#[test]
fn psql_copies_into_it() {
    let upstream = Upstream::start(&[]);
    let lines = upstream.directory.path().join("lines");
    fs::write(&lines, "1\tx\n".repeat(100_000)).unwrap();
    let command = format!("\\copy accounts (id, name) from '{}'", lines.display());
    let output = Command::new(binary("psql"))
        .args(["-X", "-h", "127.0.0.1", "-U", "ada", "-d", "test"])
        .args(["-p", &upstream.port.to_string(), "-c", &command])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "COPY 100000\n");
}

#[test]
fn a_password_is_asked_for_where_there_is_one() {
    let upstream = Upstream::with_files(
        &[("password", "secret\n")],
        &["--password-file", "{}/password"],
    );
    assert_eq!(upstream.psql_text(&["-c", "SELECT 1"]), "1\n");
    let port = upstream.port;
    on_a_shard(move || async move {
        assert!(
            try_open(&on_port(port), &agent("ada", "secret"))
                .await
                .is_ok()
        );
        let failed = try_open(&on_port(port), &agent("ada", "guessed"))
            .await
            .err();
        assert_eq!(failed.unwrap().label(), "sqlstate 28P01");
    });
}

#[test]
fn tls_is_offered_with_a_certificate() {
    let authority = Authority::new("ours");
    let certified = authority.server(&["localhost"]);
    let upstream = Upstream::with_files(
        &[
            ("chain", &certified.chain_pem),
            ("key", &certified.key_pem),
            ("roots", &authority.certificate_pem),
        ],
        &["--tls-certificate", "{}/chain", "--tls-key", "{}/key"],
    );
    let roots = upstream.directory.path().join("roots");
    let string = format!(
        "host=localhost port={} user=ada dbname=test sslmode=verify-full sslrootcert={}",
        upstream.port,
        roots.display()
    );
    let output = Command::new(binary("psql"))
        .args(["-X", "-A", "-t", &string, "-c", "SELECT 1"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n", "{output:?}");

    let pem = authority.certificate_pem;
    let port = upstream.port;
    on_a_shard(move || {
        let mut target = target(&format!("localhost:{port}"));
        target.tls = Tls::new(TlsMode::VerifyFull, Some(pem.as_bytes())).unwrap();
        async move {
            let mut session = open(&target).await;
            let request = Request::simple("SELECT * FROM accounts").unwrap();
            assert_eq!(rows(&ask(&mut session, &request).await), 1000);
        }
    });
}

#[test]
fn every_way_to_ask_has_the_same_rows() {
    let upstream = Upstream::start(&["--shards", "2"]);
    let port = upstream.port;
    on_a_shard(move || async move {
        let mut target = on_port(port);
        target.canaries = Arc::new(Canaries::new(&[loadgen::upstream::CANARY]).unwrap());
        let mut session = open(&target).await;
        let statement = Statement::new(0, "SELECT * FROM accounts WHERE id <= $1").unwrap();
        let prepared = Request::prepared(&statement, &[Some("300")]).unwrap();
        let requests = [
            Request::simple("SELECT * FROM accounts WHERE id <= 300").unwrap(),
            Request::extended("SELECT * FROM accounts WHERE id <= $1", &[Some("300")]).unwrap(),
            prepared.clone(),
            prepared.clone(),
        ];
        let mut checksums = Vec::new();
        for request in &requests {
            let answered = ask(&mut session, request).await;
            assert_eq!(rows(&answered), 300);
            assert_eq!(answered.canaries, 300);
            checksums.push(answered.checksum);
        }
        assert_eq!(checksums, [checksums[0]; 4]);
        let pipeline = prepared.pipeline(20).unwrap();
        assert_eq!(rows(&ask(&mut session, &pipeline).await), 6000);
        let out = Request::copy_out("COPY accounts TO STDOUT").unwrap();
        let answered = ask(&mut session, &out).await;
        assert_eq!((rows(&answered), answered.canaries), (1000, 1000));
        let into = Request::copy_in("COPY accounts FROM STDIN", &b"1\tx\n".repeat(100_000));
        assert_eq!(rows(&ask(&mut session, &into.unwrap()).await), 100_000);

        let one = async |session: &mut _, key: &str| {
            let statement = Statement::new(1, "SELECT * FROM accounts WHERE id = $1").unwrap();
            let request = Request::prepared(&statement, &[Some(key)]).unwrap();
            ask(session, &request).await.checksum
        };
        let (first, second) = (one(&mut session, "1").await, one(&mut session, "2").await);
        assert_ne!(first, second, "another's row is noticed");
        let discard = Request::simple("DISCARD ALL").unwrap();
        ask(&mut session, &discard).await;
        let gone = ask(&mut session, &prepared).await;
        let Outcome::Error(sqlstate) = gone.outcome else {
            panic!("{gone:?}")
        };
        assert_eq!(sqlstate.to_string(), "26000");
    });
}

#[test]
fn a_large_result_is_not_made_ahead_of_a_slow_reader() {
    let upstream = Upstream::start(&["--rows", "1000000", "--row-bytes", "1000"]);
    let (port, process) = (upstream.port, upstream.child.id());
    on_a_shard(move || async move {
        let mut session = open(&on_port(port)).await;
        let all = Request::simple("SELECT * FROM accounts").unwrap();
        let slowly = all.read_slowly(NonZeroU32::new(1_000_000).unwrap());
        let deadline = runtime::now() + Duration::from_secs(1);
        let failed = session.exchange(&slowly, deadline).await.unwrap_err();
        assert_eq!(failed.label(), "timeout");
        // A gigabyte was asked for.
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes: u64 = peak
            .unwrap()
            .trim()
            .strip_suffix(" kB")
            .unwrap()
            .parse()
            .unwrap();
        assert!(kilobytes < 60_000, "{kilobytes} kB");
    });
}

#[test]
fn a_cancel_ends_what_is_under_way_and_nothing_else() {
    let upstream = Upstream::start(&["--shards", "2"]);
    let mut psql = Command::new(binary("psql"))
        .args(["-X", "-A", "-t", "-v", "VERBOSITY=verbose"])
        .args(["-h", "127.0.0.1", "-U", "ada", "-d", "test"])
        .args(["-p", &upstream.port.to_string()])
        .args(["-c", "SELECT 'begun'", "-c", "SELECT pg_sleep(600)"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(psql.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "begun\n");
    // One that comes before psql has asked for the sleep is for nothing.
    let process = rustix::process::Pid::from_child(&psql);
    crate::appliance::wait_until("the sleep to be cancelled", || {
        rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
        psql.try_wait().unwrap().is_some()
    });
    let output = psql.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("57014"), "{errors}");
    assert_eq!(upstream.psql_text(&["-c", "SELECT 1"]), "1\n");
}

#[test]
fn answers_are_as_late_as_asked_for() {
    let upstream = Upstream::start(&["--delay", "150ms"]);
    let port = upstream.port;
    on_a_shard(move || async move {
        let mut session = open(&on_port(port)).await;
        let request = Request::simple("SELECT id FROM accounts WHERE id = 1").unwrap();
        let answered = ask(&mut session, &request).await;
        let took = answered.last_byte - answered.sent;
        assert!(took >= Duration::from_millis(150), "{took:?}");
    });
}

#[test]
fn what_is_not_postgresql_gets_no_session() {
    use std::io::{Read, Write};
    let upstream = Upstream::start(&[]);
    let mut stream = TcpStream::connect(("127.0.0.1", upstream.port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // An orderly end or a reset.
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    let failed = |port| async move {
        let mut session = open(&on_port(port)).await;
        let request = Request::simple("SELECT 1").unwrap();
        session.exchange(&request, soon()).await
    };
    let port = upstream.port;
    on_a_shard(move || async move {
        let answered: Result<_, Failed> = failed(port).await;
        assert!(answered.is_ok(), "the next one is served");
    });
}
