//! Files in a directory, resolved.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::identity::SessionLifetime;
use crate::recorder::Durability;
use crate::upstream::{Address, Balance, ChannelBinding, Host, SessionAttrs, TlsMode};

const TARGET: &str = r#"
[[target]]
name = "orders"
protocol = "postgres"
address = "10.0.0.5:5433"
user = "svc_orders"
tls = "disable"
"#;

const JWKS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new(main: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("sallyport.toml", main);
        place
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn environment(&self) -> Environment {
        Environment {
            file: self.0.path().join("sallyport.toml"),
            file_named: true,
            state_directory: self.0.path().join("state"),
            runtime_directory: self.0.path().join("run"),
            credentials_directory: Some(self.0.path().join("credentials")),
            policy_directory: None,
            drafts: Vec::new(),
            variable: |name| (name == "PGSECRET").then(|| OsString::from("from-env")),
        }
    }

    fn load(&self) -> Result<Loaded, Vec<Problem>> {
        load(&self.environment(), Writing::Never, 7)
    }

    fn loaded(&self) -> Loaded {
        self.load()
            .unwrap_or_else(|problems| panic!("{}", self.show(&problems)))
    }

    /// Problems one to a line, without the directory.
    fn show(&self, problems: &[Problem]) -> String {
        let directory = format!("{}/", self.0.path().display());
        let lines: Vec<String> = problems
            .iter()
            .map(|p| p.to_string().replace(&directory, ""))
            .collect();
        lines.join("\n")
    }

    fn problems(&self) -> String {
        match self.load() {
            Ok(_) => String::new(),
            Err(problems) => self.show(&problems),
        }
    }
}

fn loaded(main: &str) -> Loaded {
    Place::new(main).loaded()
}

fn problems(main: &str) -> String {
    Place::new(main).problems()
}

fn tcp(address: &str) -> ListenAddress {
    ListenAddress::Tcp(address.parse().unwrap())
}

#[test]
fn without_a_file_the_defaults_hold() {
    let place = Place::new("");
    fs::remove_file(place.environment().file).unwrap();
    let environment = Environment {
        file_named: false,
        ..place.environment()
    };
    let loaded = load(&environment, Writing::Never, 7).ok().unwrap();
    let snapshot = &loaded.snapshot;
    assert_eq!(snapshot.generation, 7);
    let listener = ListenerSettings {
        address: tcp("127.0.0.1:6432"),
        proof: ListenerProof::Password,
        proxy_protocol: TrustedProxies::default(),
        file: SocketFile {
            mode: 0o777,
            group: None,
        },
    };
    assert_eq!(snapshot.listeners, [listener]);
    assert_eq!(
        snapshot.limits,
        Limits {
            wire: codecs::limits::Limits::default(),
            unauthenticated: 1024,
            unauthenticated_per_address: 128,
            sessions: 8192,
            login_deadline: Duration::from_secs(15),
            write_deadline: Duration::from_secs(60),
            keepalive: Keepalive {
                idle: Duration::from_secs(60),
                interval: Duration::from_secs(15),
                probes: 4,
            },
        }
    );
    let lifetime = SessionLifetime::AtMost(Duration::from_secs(8 * 3600));
    assert_eq!(
        snapshot.session,
        SessionSettings {
            lifetime,
            silence: SilenceLimits {
                idle: None,
                listening: None,
                in_transaction: None,
            },
            statement_timeout: None,
        }
    );
    assert_eq!(snapshot.approvals.in_transaction, Duration::from_secs(30));
    assert_eq!(snapshot.approvals.notice_interval, Duration::from_secs(15));
    assert_eq!(snapshot.drain_deadline, Duration::from_secs(30));
    assert_eq!(snapshot.targets.iter().count(), 0);
    let issuers: Vec<&str> = snapshot
        .authenticators
        .issuers()
        .iter()
        .map(|issuer| issuer.name.as_str())
        .collect();
    assert_eq!(issuers, ["builtin"]);
    let startup = &loaded.startup;
    assert_eq!(startup.shards, None);
    let console = ConsoleListener::ByDefault("127.0.0.1:7070".parse().unwrap());
    assert_eq!(startup.console, console);
    assert_eq!(startup.admin_socket, place.0.path().join("run/admin.sock"));
    assert_eq!(
        startup.log,
        LogSettings {
            format: LogFormat::Text,
            level: Level::INFO
        }
    );
    let recordings = place.0.path().join("state/recordings");
    let expected = RecordingSettings::under(&place.0.path().join("run"), &recordings);
    assert_eq!(startup.recording, expected);
    assert_eq!(loaded.warnings, []);
    assert!(
        !place.0.path().join("state").exists(),
        "a check writes nothing"
    );
}

#[test]
fn the_console_is_where_it_was_written_or_nowhere() {
    let console = |written: &str| {
        loaded(&format!("listen.console = \"{written}\""))
            .startup
            .console
    };
    assert_eq!(console("off"), ConsoleListener::Off);
    let default = "127.0.0.1:7070";
    let address = default.parse().unwrap();
    assert_eq!(console(default), ConsoleListener::At(address));
    assert_eq!(
        problems("listen.console = \"on\""),
        "sallyport.toml:1:18: expected `ADDRESS:PORT` such as `127.0.0.1:7070`; names are not \
         looked up"
    );
}

#[test]
fn a_file_that_was_named_must_exist() {
    let place = Place::new("");
    fs::remove_file(place.environment().file).unwrap();
    let text = place.problems();
    assert!(
        text.starts_with("sallyport.toml: cannot be read: No such file"),
        "{text}"
    );
}

#[test]
fn every_setting_changes_what_it_names() {
    let loaded = loaded(
        r#"
        listen.postgres = [
            "[::]:6432",
            { address = "unix:/run/pg", proof = "oauthbearer", mode = "0660", group = "4711" },
            { address = "[::]:6433", proxy_protocol = ["10.0.0.0/8", "2001:db8::1"] },
        ]
        listen.admin = "admin/sock"
        runtime.shards = 3
        state.directory = "var"
        builtin_issuer.enabled = false
        [limits]
        unauthenticated = 5
        unauthenticated_per_address = 4
        sessions = 3
        login_deadline = "2s"
        write_deadline = "1500ms"
        message_bytes = "1MiB"
        keepalive_idle = "2m"
        keepalive_interval = "3s"
        keepalive_probes = 2
        [session]
        lifetime = "0s"
        idle = "30m"
        idle_listening = "24h"
        idle_in_transaction = "5m"
        statement_timeout = "10m"
        [approvals]
        in_transaction = "5s"
        notice_interval = "1m"
        open = 20
        open_per_principal = 2
        kept = "7d"
        [[webhook]]
        url = "http://127.0.0.1:9/hook"
        secret = "env:PGSECRET"
        form = "json"
        [drain]
        deadline = "1s"
        [recording]
        directory = "/rec"
        ring_bytes = "2MiB"
        durability = "strict"
        [log]
        format = "json"
        level = "debug"
        "#,
    );
    let snapshot = &loaded.snapshot;
    let by_default = ListenerSettings {
        address: tcp("[::]:6432"),
        proof: ListenerProof::Password,
        proxy_protocol: TrustedProxies::default(),
        file: SocketFile {
            mode: 0o777,
            group: None,
        },
    };
    let unix = ListenerSettings {
        address: ListenAddress::Unix("/run/pg".into()),
        proof: ListenerProof::OauthBearer,
        file: SocketFile {
            mode: 0o660,
            group: Some(4711),
        },
        ..by_default.clone()
    };
    let networks = ["10.0.0.0/8", "2001:db8::1"];
    let proxied = ListenerSettings {
        address: tcp("[::]:6433"),
        proxy_protocol: TrustedProxies::new(networks.map(|n| n.parse().unwrap()).to_vec()),
        ..by_default.clone()
    };
    assert_eq!(snapshot.listeners, [by_default, unix, proxied]);
    assert!(loaded.startup.admin_socket.ends_with("admin/sock"));
    assert!(loaded.startup.admin_socket.is_absolute(), "beside the file");
    assert_eq!(loaded.startup.shards.map(NonZero::get), Some(3));
    assert!(loaded.startup.state.path().ends_with("var"));
    assert!(snapshot.authenticators.issuers().is_empty());
    assert!(loaded.builtin_issuer.is_none());
    let wire = codecs::limits::Limits {
        frontend_message_bytes: 1 << 20,
        ..codecs::limits::Limits::default()
    };
    assert_eq!(
        snapshot.limits,
        Limits {
            wire,
            unauthenticated: 5,
            unauthenticated_per_address: 4,
            sessions: 3,
            login_deadline: Duration::from_secs(2),
            write_deadline: Duration::from_millis(1500),
            keepalive: Keepalive {
                idle: Duration::from_secs(120),
                interval: Duration::from_secs(3),
                probes: 2,
            },
        }
    );
    let silence = SilenceLimits {
        idle: Some(Duration::from_secs(1800)),
        listening: Some(Duration::from_secs(24 * 3600)),
        in_transaction: Some(Duration::from_secs(300)),
    };
    let lifetime = SessionLifetime::UntilTokenExpires;
    let session = SessionSettings {
        lifetime,
        silence,
        statement_timeout: Some(Duration::from_secs(600)),
    };
    assert_eq!(snapshot.session, session);
    assert_eq!(snapshot.approvals.in_transaction, Duration::from_secs(5));
    assert_eq!(snapshot.approvals.notice_interval, Duration::from_secs(60));
    assert_eq!(
        snapshot.approvals.limits,
        policy::approval::Limits {
            open: 20,
            open_per_requester: 2,
        }
    );
    assert_eq!(snapshot.approvals.kept, Duration::from_secs(7 * 86_400));
    let [webhook] = snapshot.webhooks.as_slice() else {
        panic!("one webhook");
    };
    assert_eq!(webhook.url().unwrap().as_str(), "http://127.0.0.1:9/hook");
    assert_eq!(webhook.secret.expose(), b"from-env");
    assert_eq!(webhook.form, WebhookForm::Json);
    assert_eq!(snapshot.drain_deadline, Duration::from_secs(1));
    let recording = &loaded.startup.recording;
    assert_eq!(recording.journal_directory, Path::new("/rec/journal"));
    assert_eq!(
        (recording.ring_bytes, recording.durability),
        (2 << 20, Durability::Strict)
    );
    assert_eq!(
        loaded.startup.log,
        LogSettings {
            format: LogFormat::Json,
            level: Level::DEBUG
        }
    );
}

#[test]
fn groups_have_the_roles_that_the_files_give_them() {
    let place = Place::new(
        "roles = { viewer = ['staff'], approver = ['leads'], admin = ['security'] }\n\
         builtin_issuer.enabled = false",
    );
    place.write(
        "policy.d/hold.toml",
        "[[rule]]\nname = 'h'\ngroups = ['x']\ntargets = ['*']\napprovers = ['oncall']\n\
         hold = { statements = ['insert'] }",
    );
    let expected = Roles::default()
        .with(Role::Viewer, ["staff".to_owned()])
        .with(Role::Approver, ["leads".to_owned(), "oncall".to_owned()])
        .with(Role::Admin, ["security".to_owned()]);
    assert_eq!(place.loaded().snapshot.roles, expected);
}

#[test]
fn mistakes_are_named_with_their_place() {
    let cases = [
        ("a = = 1", "sallyport.toml:1:5: "),
        ("[listen\n", "sallyport.toml:1:8: "),
        (
            "\n[listen]\npostgers = []",
            "sallyport.toml:3:1: unknown key `postgers` (did you mean `postgres`?)",
        ),
        (
            "[limit]\nsessions = 1",
            "sallyport.toml:1:2: unknown key `limit` (did you mean `limits`?)",
        ),
        ("[zzz]", "sallyport.toml:1:2: unknown key `zzz`"),
        (
            "roles.admin = ['x', '*']",
            "sallyport.toml:1:21: a role takes the names of groups",
        ),
        (
            "[[target]]\nname = 'a'\npool = { wram = 1 }",
            "sallyport.toml:3:10: unknown key `wram` (did you mean `warm`?)",
        ),
        (
            "listen.postgres = [{ adress = 'x' }]",
            "sallyport.toml:1:22: unknown key `adress` (did you mean `address`?)",
        ),
        (
            "[[target]]\nname = 'a'",
            "sallyport.toml:1:1: missing field `protocol`",
        ),
        (
            "limits.sessions = '5'",
            "sallyport.toml:1:19: invalid type: string \"5\", expected u64",
        ),
        (
            "limits.sessions = 0",
            "sallyport.toml:1:19: `sessions` lies between 1 and 1000000",
        ),
        (
            "limits.sessions = 1000001",
            "sallyport.toml:1:19: `sessions` lies between 1 and 1000000",
        ),
        (
            "limits.login_deadline = '99ms'",
            "sallyport.toml:1:25: `login_deadline` lies between 100ms and 10m",
        ),
        (
            "limits.login_deadline = '15'",
            "sallyport.toml:1:25: expected a duration such as `90s`, `10m` or `8h`",
        ),
        (
            "limits.message_bytes = '65535B'",
            "sallyport.toml:1:24: `message_bytes` lies between 64KiB and 1023MiB",
        ),
        (
            "limits.message_bytes = '16MB'",
            "sallyport.toml:1:24: expected a size such as `64KiB` or `16MiB`",
        ),
        (
            "listen.postgres = []",
            "sallyport.toml:1:19: without a listener nobody can connect",
        ),
        (
            "listen.postgres = ['[::]:1', '[::]:1']",
            "sallyport.toml:1:30: this address is in the list twice",
        ),
        (
            "listen.postgres = ['localhost:1']",
            "sallyport.toml:1:20: expected `ADDRESS:PORT` such as",
        ),
        (
            "listen.postgres = [{ address = '[::]:1', mode = '0660' }]",
            "sallyport.toml:1:49: only a Unix socket has a file",
        ),
        (
            "listen.postgres = [{ address = '[::]:1', group = 'root' }]",
            "sallyport.toml:1:50: only a Unix socket has a file",
        ),
        (
            "listen.postgres = [{ address = 'unix:/x', mode = '66' }]",
            "sallyport.toml:1:50: expected permissions in octal such as `0660`",
        ),
        (
            "listen.postgres = [{ address = 'unix:/x', group = 'no-such-group' }]",
            "sallyport.toml:1:51: no such group on this machine",
        ),
        (
            "listen.postgres = [{ address = '[::]:1', proxy_protocol = ['10.0.0.1/8'] }]",
            "sallyport.toml:1:60: the network has bits set behind its length of 8",
        ),
        (
            "listen.postgres = [{ address = '[::]:1', proxy_protocol = ['10.0.0.0/8', 'lb'] }]",
            "sallyport.toml:1:74: expected a network such as",
        ),
        (
            "listen.postgres = [{ address = '[::]:1', proxy_protocol = ['unix'] }]",
            "sallyport.toml:1:60: no peer of this listener is `unix`",
        ),
        (
            "listen.postgres = [{ address = 'unix:/x', proxy_protocol = ['10.0.0.0/8'] }]",
            "sallyport.toml:1:61: peers of a Unix socket are `unix`",
        ),
        (
            "listen.postgres = [{ address = '[::]:1', proxy_protocol = [] }]",
            "sallyport.toml:1:59: an empty list trusts nobody",
        ),
        (
            "listen.postgres = ['unix:x']",
            "sallyport.toml:1:20: the path of a socket starts with `/`",
        ),
        (
            "log.level = 'inof'",
            "sallyport.toml:1:13: `level` is one of error, warn, info, debug, trace (did you mean `info`?)",
        ),
        (
            "recording.ring_bytes = '1048577B'",
            "sallyport.toml:1:24: `ring_bytes` is a multiple of 4KiB",
        ),
        (
            "recording.ring_bytes = '1025MiB'",
            "sallyport.toml:1:24: `ring_bytes` lies between 1MiB and 1GiB",
        ),
        (
            "recording.durability = 'never'",
            "sallyport.toml:1:24: expected \"process\", \"strict\" or \"bounded:\"",
        ),
        (
            "tls.certificate = 'x'",
            "sallyport.toml:1:19: `tls.certificate` needs `tls.key`",
        ),
        (
            "tls.key = 'env:X'",
            "sallyport.toml:1:11: `tls.key` needs `tls.certificate`",
        ),
        (
            "tls = { certificate = 'x', key = 'hunter2' }",
            "sallyport.toml:1:34: a secret is given as credential:NAME",
        ),
        (
            "tls = { certificate = 'x', key = 'env:PGSECRET' }",
            "sallyport.toml:1:23: cannot read x",
        ),
        (
            "tls.names = ['a\u{e9}']",
            "sallyport.toml:1:13: cannot make a certificate for these names",
        ),
    ];
    for (text, expected) in cases {
        let found = problems(text);
        assert!(
            found.starts_with(expected),
            "{text}\n  found    {found}\n  expected {expected}"
        );
        assert_eq!(found.lines().count(), 1, "{text}: {found}");
    }
}

#[test]
fn all_mistakes_are_found_at_once_in_the_order_of_the_files() {
    let place = Place::new(&format!(
        "limits.sessions = 0\nsession.idle = 'x'\n{TARGET}password = 'hunter2'\nreadonly_password = 'env:NO'\n"
    ));
    place.write("targets.d/b.toml", TARGET);
    place.write("targets.d/a.toml", "[[target]]\nname = 'x'");
    place.write("policy.d/p.toml", "not rules");
    let found = place.problems();
    assert!(!found.contains("hunter2"), "{found}");
    let heads: Vec<&str> = found
        .lines()
        .map(|l| l.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        heads[..6],
        [
            "sallyport.toml:1:19",
            "sallyport.toml:2:16",
            "sallyport.toml:10:12",
            "sallyport.toml:11:21",
            "sallyport.toml:11:21",
            "targets.d/a.toml:1:1",
        ]
    );
    assert!(
        heads
            .iter()
            .any(|head| head.starts_with("policy.d/p.toml:")),
        "{found}"
    );
}

#[test]
fn a_target_is_resolved_with_its_accounts_in_the_order_written() {
    let place = Place::new(
        r#"
        [[target]]
        name = "orders"
        protocol = "postgres"
        address = "[::1]:5433"
        database = "orders_prod"
        user = "svc"
        password = "credential:orders"
        readonly_user = "svc_ro"
        readonly_password = "file:secrets/ro"
        tls = "require"
        tls_roots = "roots.pem"
        channel_binding = "require"
        [target.groups]
        zebra = { user = "svc_zebra", password = "env:PGSECRET" }
        dba = { user = "svc_dba" }
        [target.pool]
        connections = 3
        warm = 1
        queue = 9
        queue_deadline = "1s"
        connect_deadline = "2s"
        lifetime = "3s"
        idle = "4s"
        "#,
    );
    place.write("credentials/orders", "main\n");
    place.write("secrets/ro", "ro");
    let key = rcgen::KeyPair::generate().unwrap();
    let root = rcgen::CertificateParams::new(vec!["db".into()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    place.write("roots.pem", root.pem());
    let loaded = place.loaded();
    let destination = loaded.snapshot.targets.find("orders").unwrap();
    assert_eq!(destination.database, "orders_prod");
    assert_eq!(destination.sought.to_string(), "orders");
    let target = destination.target;
    let address = Address::Tcp {
        host: Host::Ip("::1".parse().unwrap()),
        port: 5433,
    };
    assert_eq!(target.addresses, [address]);
    let account = |read_only, groups: &[&str]| {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        let account = target.account_for(read_only, &groups);
        let password = account.password().map(|secret| secret.expose().to_vec());
        (account.user().to_owned(), password)
    };
    let with = |user: &str, password: &str| (user.to_owned(), Some(password.as_bytes().to_vec()));
    assert_eq!(account(false, &[]), with("svc", "main"));
    assert_eq!(account(true, &["dba"]), with("svc_ro", "ro"));
    assert_eq!(account(false, &["dba"]), ("svc_dba".to_owned(), None));
    assert_eq!(
        account(false, &["dba", "zebra"]),
        with("svc_zebra", "from-env")
    );
    assert_eq!(target.account.tls().mode(), TlsMode::Require);
    assert_eq!(target.account.channel_binding(), ChannelBinding::Require);
    let pool = &target.pool;
    assert_eq!((pool.connections_max, pool.warm, pool.queue_max), (3, 1, 9));
    let seconds = [
        pool.queue_deadline,
        pool.connect_deadline,
        pool.lifetime,
        pool.idle,
    ]
    .map(|d| d.as_secs());
    assert_eq!(seconds, [1, 2, 3, 4]);
}

#[test]
fn tls_of_a_target_is_verified_unless_said_otherwise() {
    let with = |lines: &str| {
        TARGET
            .replace("tls = \"disable\"\n", lines)
            .replace("10.0.0.5:5433", "unix:/run/.s.PGSQL.1")
    };
    let mode = |text: &str| {
        let loaded = loaded(text);
        loaded
            .snapshot
            .targets
            .find("orders")
            .unwrap()
            .target
            .account
            .tls()
            .mode()
    };
    assert_eq!(mode(&with("")), TlsMode::Disable, "a Unix socket");
    assert_eq!(
        mode(&TARGET.replace("tls = \"disable\"\n", "")),
        TlsMode::VerifyFull
    );
    assert_eq!(mode(TARGET), TlsMode::Disable);
    let unused = format!("{TARGET}tls_roots = 'x'");
    assert!(problems(&unused).contains("`tls_roots` has no use without TLS"));
}

#[test]
fn mistakes_in_targets() {
    let add = |line: &str| format!("{TARGET}{line}");
    let cases = [
        (
            TARGET.replace("orders\"", "or ders\""),
            "3:8: a target's name has 1 to 63 bytes",
        ),
        (
            TARGET.replace("postgres\"", "mysql\""),
            "4:12: `protocol` is one of postgres",
        ),
        (
            TARGET.replace("10.0.0.5:5433", "10.0.0.500"),
            "5:11: expected `HOST:PORT`",
        ),
        (
            TARGET.replace("svc_orders", ""),
            "6:8: this must not be empty",
        ),
        (TARGET.replace("disable", "verify"), "7:7: `tls` is one of"),
        (
            add("password = 'env:NOPE'"),
            "8:12: environment variable NOPE is not set",
        ),
        (add("password = 'credential:no'"), "8:12: cannot read"),
        (
            add("client_certificate = 'x'"),
            "8:22: `client_certificate` needs `client_key`",
        ),
        (
            add("pool = { connections = 2, warm = 3 }"),
            "8:34: `warm` must not exceed `connections`",
        ),
        (
            add("pool = { connections = 0 }"),
            "8:24: `connections` lies between 1 and 10000",
        ),
        (
            format!("{TARGET}{TARGET}"),
            "10:8: another target has this name",
        ),
    ];
    for (text, expected) in cases {
        let found = problems(&text);
        assert!(
            found.contains(&format!("sallyport.toml:{expected}")),
            "{found}\n{expected}"
        );
    }
}

#[test]
fn a_default_of_warm_connections_does_not_exceed_a_small_pool() {
    let loaded = loaded(&format!("{TARGET}pool.connections = 1"));
    let destination = loaded.snapshot.targets.find("orders").unwrap();
    assert_eq!(destination.target.pool.warm, 1);
}

#[test]
fn a_target_may_have_several_servers_of_one_kind() {
    let several = |addresses: &str| {
        TARGET.replace("\"10.0.0.5:5433\"", addresses).replace(
            "tls =",
            "target_session_attrs = \"read-write\"\ndns_max_age = \"3s\"\ntls =",
        )
    };
    let loaded = loaded(&several(r#"["db-a", "db-b:5433"]"#));
    let target = loaded.snapshot.targets.find("orders").unwrap().target;
    let host = |name: &str, port| Address::Tcp {
        host: Host::Name(name.to_owned()),
        port,
    };
    assert_eq!(target.addresses, [host("db-a", 5432), host("db-b", 5433)]);
    assert_eq!(target.session_attrs, SessionAttrs::ReadWrite);
    assert_eq!(target.balance, Balance::InOrder);
    assert_eq!(target.names_fresh_for.as_secs(), 3);

    for (addresses, problem) in [
        ("[]", "a target has 1 to 16 addresses"),
        (
            r#"["db-a", "db-a:5432"]"#,
            "this address is in the list twice",
        ),
        (
            r#"["db-a", "unix:/run/.s.PGSQL.1"]"#,
            "a target's addresses are all hosts or all Unix sockets",
        ),
        (r#"["db-a", "db:x"]"#, "expected `HOST:PORT`"),
    ] {
        let found = problems(&several(addresses));
        assert!(found.contains(problem), "{found}");
    }
}

#[test]
fn a_database_is_found_by_the_name_of_a_target_and_then_by_pattern() {
    let many = TARGET
        .replace("\"orders\"", "\"apps\"")
        .replace("tls =", "databases = [\"app_*\", \"orders\"]\ntls =");
    let all = TARGET.replace("\"orders\"", "\"rest\"").replace(
        "tls =",
        "database = \"postgres\"\ndatabases = [\"*\"]\ntls =",
    );
    let loaded = loaded(&format!("{TARGET}\n{many}\n{all}"));
    let find = |asked: &str| {
        let found = loaded.snapshot.targets.find(asked);
        found.map(|found| (found.sought.to_string(), found.database))
    };
    let expect = |sought: &str, database: &str| Some((sought.to_owned(), database.to_owned()));
    assert_eq!(find("orders"), expect("orders", "orders"));
    assert_eq!(find("app_eu"), expect("apps/app_eu", "app_eu"));
    assert_eq!(find("other"), expect("rest/other", "other"));
    assert_eq!(find("rest"), expect("rest", "postgres"));
    assert_eq!(
        find("apps"),
        expect("rest/apps", "apps"),
        "it has no database of its own"
    );
    assert_eq!(find(&"x".repeat(64)), None);

    let found = problems(&TARGET.replace("tls =", "databases = [\"a\\nb\"]\ntls ="));
    assert!(found.contains("without control characters"), "{found}");
    let found = problems(&TARGET.replace("\"orders\"", "\"ord/ers\""));
    assert!(found.contains("stars and slashes"), "{found}");
}

#[test]
fn files_of_targets_are_read_and_hidden_and_other_files_are_not() {
    let place = Place::new(TARGET);
    place.write("targets.d/b.toml", TARGET.replace("orders\"", "b\""));
    place.write("targets.d/.b.toml.swp.toml", "garbage");
    place.write("targets.d/README", "garbage");
    let loaded = place.loaded();
    let names: Vec<&str> = loaded
        .snapshot
        .targets
        .iter()
        .map(|t| t.name.as_str())
        .collect();
    assert_eq!(names, ["b", "orders"]);
    place.write("targets.d/c.toml", "[listen]\nadmin = 'x'");
    assert_eq!(
        place.problems(),
        "targets.d/c.toml:1:2: unknown key `listen`"
    );
}

fn corp(extra: &str) -> String {
    format!(
        "[[issuer]]\nname = 'corp'\nissuer = 'https://idp.example/'\naudience = ['sallyport']\n\
         jwks = 'file:corp.jwks'\n{extra}\n"
    )
}

#[test]
fn an_issuer_is_resolved_with_its_keys_and_mapping() {
    let place = Place::new(&format!(
        "builtin_issuer.enabled = false\n{}",
        corp("groups = 'realm_access.roles'\nalgorithms = ['EdDSA']\ngroup_map = { a = 'b' }")
    ));
    place.write("corp.jwks", JWKS);
    let loaded = place.loaded();
    let [issuer] = loaded.snapshot.authenticators.issuers() else {
        panic!("not one issuer")
    };
    assert_eq!(
        (issuer.name.as_str(), issuer.issuer.as_str()),
        ("corp", "https://idp.example/")
    );
    assert_eq!(issuer.algorithms, [jsonwebtoken::Algorithm::EdDSA]);
    assert_eq!(
        issuer.mapping.groups,
        crate::identity::ClaimPath::parse("realm_access.roles").unwrap()
    );
    assert_eq!(issuer.mapping.group_map["a"], "b");
}

#[test]
fn keys_without_a_file_are_fetched_and_nothing_is_fetched_to_find_that_out() {
    let place = Place::new(&format!(
        "builtin_issuer.enabled = false\n{}",
        corp("stale_max = '2h'").replace("jwks = 'file:corp.jwks'", "")
    ));
    let loaded = place.loaded();
    let sources: Vec<_> = loaded.snapshot.authenticators.remote_sources().collect();
    let [(_, source)] = sources.as_slice() else {
        panic!("not one source")
    };
    assert_eq!(
        source.place.url().as_str(),
        "https://idp.example/.well-known/openid-configuration"
    );
    let seconds = [source.refresh_min, source.refresh_max, source.stale_max].map(|d| d.as_secs());
    assert_eq!(seconds, [30, 3600, 7200]);
}

#[test]
fn mistakes_in_issuers() {
    let alone = |extra: &str| format!("builtin_issuer.enabled = false\n{}", corp(extra));
    let fetched = |extra: &str| alone(extra).replace("jwks = 'file:corp.jwks'", "");
    let cases = [
        (
            alone("algorithms = ['HS256']"),
            "7:15: an algorithm is one of RS256",
        ),
        (
            alone("algorithms = ['none']"),
            "7:15: an algorithm is one of RS256",
        ),
        (
            alone("algorithms = []"),
            "7:14: without an algorithm no token is accepted",
        ),
        (
            alone("groups = 'a..b'"),
            "7:10: a claim path has an empty name",
        ),
        (
            alone("").replace("['sallyport']", "[]"),
            "5:12: without an audience no token is accepted",
        ),
        (
            alone("").replace("file:corp.jwks", "ftp://x"),
            "6:8: a key set is given as `file:PATH` or `https://...`: not an address that begins",
        ),
        (
            alone("").replace("file:corp.jwks", "http://idp.example/keys"),
            "6:8: a key set is given as `file:PATH` or `https://...`: plain http is for this",
        ),
        (
            alone("")
                .replace("jwks = 'file:corp.jwks'", "")
                .replace("https://idp", "urn:idp"),
            "4:10: without `jwks`, keys are found from here: not an address",
        ),
        (
            alone("stale_max = '2h'"),
            "7:13: this is for keys that are fetched, not for a file",
        ),
        (
            fetched("stale_max = '1h'"),
            "7:13: `stale_max` must be longer than `refresh_max`",
        ),
        (
            fetched("refresh_min = '2h'"),
            "7:15: `refresh_min` is longer than `refresh_max`",
        ),
        (fetched("ca = 'bad.jwks'"), "7:6: "),
        (alone("").replace("corp.jwks", "none.jwks"), "6:8: "),
        (alone("").replace("corp.jwks", "bad.jwks"), "6:8: "),
        (
            format!(
                "{}{}",
                alone("group_prefix = 'a:'"),
                corp("group_prefix = 'b:'")
            ),
            "9:8: another issuer has this name",
        ),
        (
            format!(
                "{}{}",
                alone("group_prefix = 'a:'"),
                corp("group_prefix = 'b:'")
            ),
            "10:10: another issuer has this `issuer`",
        ),
        // Whose groups are these?
        (
            corp("group_prefix = 'corp:'"),
            ": with several issuers each needs its own `builtin_issuer.group_prefix`",
        ),
        (
            format!("builtin_issuer.group_prefix = 'local:'\n{}", corp("")),
            "3:8: with several issuers each needs its own `group_prefix`",
        ),
        (
            format!(
                "builtin_issuer.group_prefix = 'a:'\n{}",
                corp("group_prefix = 'a:b:'")
            ),
            "1:31: groups of issuer `corp` could begin like those of `builtin`",
        ),
    ];
    for (text, expected) in cases {
        let place = Place::new(&text);
        place.write("corp.jwks", JWKS);
        place.write("bad.jwks", "{}");
        let found = place.problems();
        assert!(
            found.contains(&format!("sallyport.toml:{expected}"))
                || expected.starts_with(':') && found.contains(expected),
            "{found}\n{expected}"
        );
    }
    let right = format!(
        "builtin_issuer.group_prefix = 'local:'\n{}",
        corp("group_prefix = 'corp:'")
    );
    let place = Place::new(&right);
    place.write("corp.jwks", JWKS);
    assert_eq!(place.problems(), "");
}

#[test]
fn files_that_are_not_text_or_too_large_are_refused() {
    let place = Place::new("");
    place.write("sallyport.toml", b"log.level = '\xff'");
    assert_eq!(place.problems(), "sallyport.toml:1:14: this is not UTF-8");
    place.write("sallyport.toml", vec![b'\n'; 4 * 1024 * 1024]);
    assert_eq!(place.problems(), "");
    place.write("sallyport.toml", vec![b'\n'; 4 * 1024 * 1024 + 1]);
    assert_eq!(place.problems(), "sallyport.toml: is larger than 4MiB");
}

#[test]
fn a_reload_keeps_what_needs_a_restart_and_says_so() {
    let place = Place::new("listen.postgres = ['127.0.0.1:1']\nlimits.sessions = 5");
    let running = place.loaded().startup;
    let again = |generation| reload(&place.environment(), running.clone(), generation);

    place.write(
        "sallyport.toml",
        "listen.postgres = ['127.0.0.1:2']\nlimits.sessions = 6\nlog.level = 'warn'",
    );
    let loaded = again(8).ok().unwrap();
    assert_eq!(loaded.snapshot.generation, 8);
    assert_eq!(loaded.snapshot.limits.sessions, 6);
    assert_eq!(loaded.snapshot.listeners, running.listeners);
    assert_eq!(
        place.show(&loaded.warnings),
        "sallyport.toml: `listen.postgres` has changed and needs a restart\n\
         sallyport.toml: `log` has changed and needs a restart"
    );

    place.write("sallyport.toml", "limits.sessions = 0");
    assert!(again(9).is_err());
}

#[test]
fn the_admin_socket_is_found_without_resolving_the_rest() {
    let place = Place::new(&format!(
        "runtime.directory = 'r'\n{TARGET}password = 'env:NOPE'"
    ));
    let path = admin_socket(&place.environment()).ok().unwrap();
    assert_eq!(path, place.0.path().join("r/admin.sock"));
}
