//! The admin API at both its doors: who is answered, and what is turned away before.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::process::{Signal, geteuid};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::admin::{MAIN, NOBODY, PATIENCE, Place, request_as};
use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::certificates::Authority;
use crate::e2e_login::{ISSUER, Provider, now};
use crate::http::{Answer, Request, connect};
use crate::wire::terminated;

const ROLES: &str = "\
[[issuer]]
name = \"corp\"
issuer = \"https://login.example.com/\"
audience = [\"sallyport\"]
jwks = \"file:corp.jwks\"
group_prefix = \"corp:\"
[roles]
viewer = [\"corp:staff\"]
admin = [\"corp:security\"]
[builtin_issuer]
group_prefix = \"local:\"
";

const HOLD: &str = "
[[rule]]
name = \"writes-wait\"
groups = [\"analysts\"]
targets = [\"orders\"]
hold = { statements = [\"insert\"] }
approvers = [\"corp:oncall\"]
";

/// An appliance with `listen.console`, and an identity provider for people.
struct World {
    place: Place,
    provider: Provider,
    console: SocketAddr,
}

impl World {
    fn new() -> Self {
        Self::at("127.0.0.1:0")
    }

    fn at(address: &str) -> Self {
        let mut place = Place::new();
        let provider = Provider::new();
        let main = MAIN.replace("\"off\"", &format!("\"{address}\""));
        place.write("sallyport.toml", &(main + ROLES));
        place.write("corp.jwks", &provider.jwks().to_string());
        place.write("policy.d/hold.toml", HOLD);
        place.serve();
        let status: Value = serde_json::from_str(&place.text(&["status", "--json"])).unwrap();
        let url = status["status"]["console"].as_str().unwrap();
        let (_, console) = url.split_once("://").unwrap();
        let console = console.parse().unwrap();
        Self {
            place,
            provider,
            console,
        }
    }

    fn claims(&self, groups: &[&str]) -> Value {
        json!({
            "iss": ISSUER, "sub": "alice", "aud": "sallyport", "exp": now() + 600,
            "groups": groups,
        })
    }

    fn token(&self, groups: &[&str]) -> String {
        self.provider.sign(&self.claims(groups))
    }

    fn status(&self, request: &Request) -> u16 {
        request.tcp(self.console).status
    }
}

#[test]
fn roles_come_from_groups_and_whoami_shows_them() {
    let world = World::new();
    let roles = |groups: &[&str]| {
        let answer = Request::get("/v1/whoami").bearer(&world.token(groups));
        answer.tcp(world.console).json()["person"]["roles"].clone()
    };
    assert_eq!(roles(&["staff"]), json!(["viewer"]));
    assert_eq!(roles(&["oncall"]), json!(["viewer", "approver"]));
    assert_eq!(roles(&["security"]), json!(["viewer", "admin"]));
    assert_eq!(roles(&["corp:oncall", "analysts"]), json!([]));

    // The socket's operator and a person's token at once are both.
    let both = Request::get("/v1/whoami").bearer(&world.token(&["oncall"]));
    let both = both.unix(&world.place.path("run/admin.sock")).json();
    assert!(both["operator_uid"].is_u64(), "{both}");
    assert_eq!(both["person"]["subject"], "alice");
    // A wrong token is not overlooked because the socket would do.
    let wrong = Request::get("/v1/whoami").bearer("x.y.z");
    assert_eq!(wrong.unix(&world.place.path("run/admin.sock")).status, 401);
}

#[test]
fn no_token_is_minted_with_a_group_that_has_a_role() {
    let place = Place::new();
    let written = MAIN.to_owned() + "[roles]\nviewer = [\"staff\"]\nadmin = [\"security\"]\n";
    place.write("sallyport.toml", &written);
    place.write("policy.d/hold.toml", HOLD);
    let mut place = place;
    place.serve();
    for group in ["staff", "security", "corp:oncall"] {
        let arguments = ["token", "issue", "--agent", "a", "--groups", group];
        let (code, out, errors) = place.outcome(&arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{group}");
        let expected = format!("sallyport: the group `{group}` has a role in the appliance");
        assert!(errors.starts_with(&expected), "{errors}");
    }
    place.text(&["token", "issue", "--agent", "a", "--groups", "analysts"]);
}

#[test]
fn a_reload_changes_what_a_token_may_do() {
    let world = World::new();
    let ask = || world.status(&Request::get("/v1/status").bearer(&world.token(&["staff"])));
    assert_eq!(ask(), 200);
    let written = fs::read_to_string(world.place.path("sallyport.toml")).unwrap();
    let fewer = written.replace("viewer = [\"corp:staff\"]\n", "");
    world.place.write("sallyport.toml", &fewer);
    world.place.text(&["reload"]);
    assert_eq!(ask(), 403);
}

#[test]
fn browsers_are_told_what_they_must_not_do() {
    let world = World::new();
    for request in [
        Request::get("/v1/status").bearer(&world.token(&["staff"])),
        Request::get("/v1/status"),
        Request::get("/nowhere").header("host", "evil.example"),
    ] {
        let answer = request.tcp(world.console);
        for (name, part) in [
            (
                "content-security-policy",
                "default-src 'none'; script-src 'self';",
            ),
            ("content-security-policy", "frame-ancestors 'none'"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            let found = answer.header(name).unwrap_or_default();
            assert!(found.contains(part), "{name}: {answer:?}");
        }
        let policy = answer.header("content-security-policy").unwrap();
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("strict-transport-security"), None);
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[test]
fn other_hosts_and_other_sites_pages_are_refused_at_the_console_alone() {
    let world = World::new();
    let admin = world.token(&["security"]);
    let reload = || Request::post("/v1/reload", "{}").bearer(&admin);
    let rebound = reload().header("host", "evil.example");
    assert_eq!(world.status(&rebound), 421);
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        assert_eq!(world.status(&reload().header(name, value)), 403, "{value}");
    }
    let generation = |place: &Place| {
        let status: Value = serde_json::from_str(&place.text(&["status", "--json"])).unwrap();
        status["status"]["generation"].clone()
    };
    assert_eq!(generation(&world.place), 1);
    let own = format!("http://localhost:{}", world.console.port());
    let host = format!("localhost:{}", world.console.port());
    let same = reload().header("origin", &own).header("host", &host);
    assert_eq!(world.status(&same), 200);
    assert_eq!(generation(&world.place), 2);
    // No browser is at the socket.
    let socket = world.place.path("run/admin.sock");
    assert_eq!(rebound.unix(&socket).status, 200);
}

#[test]
fn wrong_tokens_are_counted_against_their_address() {
    let world = World::new();
    let wrong = Request::get("/v1/status").bearer("x.y.z");
    let refused: Vec<Answer> = (0..200)
        .map(|_| wrong.tcp(world.console))
        .skip_while(|answer| answer.status == 401)
        .take(1)
        .collect();
    assert_eq!(refused[0].status, 429);
    let after = refused[0].header("retry-after").unwrap();
    assert!(after.parse::<u64>().unwrap() >= 1);
    // Not even a right token is looked at then; what needs none is answered.
    let right = Request::get("/v1/status").bearer(&world.token(&["staff"]));
    let statuses: Vec<u16> = (0..3).map(|_| world.status(&right)).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(world.status(&Request::get("/v1/status")), 401);
    let socket = world.place.path("run/admin.sock");
    assert_eq!(right.unix(&socket).status, 200, "the socket has no address");
}

/// A TLS connection that trusts a certificate, in PEM.
fn encrypted(address: SocketAddr, pem: &[u8]) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", address.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(connection, stream)
}

#[test]
fn an_address_that_others_reach_takes_tls_and_nothing_else() {
    let world = World::at("0.0.0.0:0");
    let request = Request::get("/v1/status").bearer(&world.token(&["staff"]));
    let own = fs::read(world.place.path("state/tls-certificate.pem")).unwrap();
    let answer = request.over(encrypted(world.console, &own));
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("strict-transport-security")
            .unwrap()
            .contains("max-age=31536000")
    );
    let plain = TcpStream::connect(("127.0.0.1", world.console.port())).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    let bytes = {
        let mut plain = plain;
        plain.write_all(request.text().as_bytes()).unwrap();
        let mut bytes = Vec::new();
        // A reset is an answer too.
        let _ = plain.read_to_end(&mut bytes);
        bytes
    };
    assert!(!bytes.starts_with(b"HTTP/"), "{bytes:?}");
}

#[test]
fn bodies_that_are_too_long_never_reach_a_handler() {
    let world = World::new();
    let admin = world.token(&["security"]);
    let long = "x".repeat(64 * 1024 + 1);
    assert_eq!(
        world.status(&Request::post("/v1/reload", &long).bearer(&admin)),
        413
    );
    let most = "x".repeat(64 * 1024);
    assert_eq!(
        world.status(&Request::post("/v1/reload", &most).bearer(&admin)),
        200
    );
    // Without a length, in chunks.
    let chunked = format!(
        "POST /v1/reload HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         authorization: Bearer {admin}\r\ntransfer-encoding: chunked\r\n\r\n10001\r\n{long}\r\n0\r\n\r\n"
    );
    let answer = {
        let mut stream = TcpStream::connect(world.console).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(chunked.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::read(&String::from_utf8_lossy(&bytes))
    };
    assert_eq!(answer.status, 413);
}

/// One line of `access.txt`.
struct Line {
    request: Request,
    what: String,
    expected: Vec<(String, u16)>,
}

/// Every route with the statuses that are expected of it.
fn access() -> Vec<Line> {
    let text = include_str!("access.txt");
    let mut lines = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('|'));
    let (header, _) = lines.next().unwrap();
    let callers: Vec<&str> = header.split_whitespace().skip(2).collect();
    let read = |(line, body): (&str, &str)| {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words.len(), callers.len() + 2, "{line}");
        let path = words[1].replace("{id}", "0000");
        let mut request = Request::new(words[0], &path);
        if !body.trim().is_empty() {
            request = request
                .header("content-type", "application/json")
                .body(body.trim());
        }
        let expected = callers.iter().zip(&words[2..]);
        Line {
            request,
            what: format!("{} {}", words[0], words[1]),
            expected: expected
                .map(|(caller, status)| ((*caller).to_owned(), status.parse().unwrap()))
                .collect(),
        }
    };
    lines.map(read).collect()
}

/// A console session of the operator: its cookie, and its token against forged requests.
fn console_session(world: &World) -> (String, String) {
    let socket = world.place.path("run/admin.sock");
    let link = Request::post("/v1/console/links", "{}")
        .unix(&socket)
        .json();
    let (_, token) = link["link"].as_str().unwrap().split_once('=').unwrap();
    let follow = Request::new("POST", "/login/link")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(&format!("token={token}"));
    let answer = follow.tcp(world.console);
    let cookie = answer.header("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let page = Request::get("/")
        .header("cookie", &cookie)
        .tcp(world.console);
    let (_, rest) = page
        .body
        .split_once("name=\"csrf_token\" value=\"")
        .unwrap();
    let (token, _) = rest.split_once('"').unwrap();
    (cookie, token.to_owned())
}

#[test]
fn every_route_answers_every_kind_of_caller_as_it_is_written_down() {
    let world = World::new();
    let socket = world.place.path("run/admin.sock");
    let everything = ["staff", "oncall", "security"];
    let with = |groups: &[&str], name: &str, value: Value| {
        let mut claims = world.claims(groups);
        claims[name] = value;
        world.provider.sign(&claims)
    };
    let expired = with(&everything, "exp", json!(now() - 60));
    let revoked = with(&everything, "sub", json!("mallory"));
    let delegated = with(&everything, "act", json!({"sub": "agent-7"}));
    let mallory = json!({"kind": "subject", "issuer": "corp", "name": "mallory"}).to_string();
    assert_eq!(
        Request::post("/v1/revocations", &mallory)
            .unix(&socket)
            .status,
        200
    );
    let minted = world
        .place
        .text(&["token", "issue", "--agent", "a", "--groups", "analysts"]);
    let (cookie, form) = console_session(&world);
    let tokens = [
        ("wrong", "x.y.z".to_owned()),
        ("expired", expired),
        ("revoked", revoked),
        ("none", world.token(&["analysts"])),
        ("viewer", world.token(&["staff"])),
        ("approver", world.token(&["oncall"])),
        ("admin", world.token(&["security"])),
        ("minted", minted.trim().to_owned()),
        ("delegated", delegated),
    ];
    let token_of = |caller: &str| {
        let mut tokens = tokens.iter();
        tokens
            .find(|(name, _)| *name == caller)
            .map(|(_, token)| token)
    };
    let mut wrong = Vec::new();
    for (number, line) in access().into_iter().enumerate() {
        // An address for each, so that what is wrong on purpose is not too much for one.
        let from = [127, 0, 1, u8::try_from(number + 1).unwrap()];
        for (caller, expected) in line.expected {
            let request = line.request.clone();
            let status = match caller.as_str() {
                "nobody" => request.status_from(from, world.console),
                "socket" => request.status_over(UnixStream::connect(&socket).unwrap()),
                "other" if !geteuid().is_root() => continue,
                "other" => status_as_nobody(&world.place, &request),
                "both" => request
                    .bearer(token_of("approver").unwrap())
                    .status_over(UnixStream::connect(&socket).unwrap()),
                "cookie" => request
                    .header("cookie", &cookie)
                    .status_from(from, world.console),
                "form" => request
                    .header("cookie", &cookie)
                    .header("x-csrf-token", &form)
                    .status_from(from, world.console),
                other => request
                    .bearer(token_of(other).unwrap())
                    .status_from(from, world.console),
            };
            if status != expected {
                wrong.push(format!(
                    "{} as {caller}: {status}, not {expected}",
                    line.what
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Of another user of the machine, for whom the modes of the files are no obstacle.
fn status_as_nobody(place: &Place, request: &Request) -> u16 {
    let socket = place.path("run/admin.sock");
    for open in [place.path(""), place.path("run"), socket.clone()] {
        fs::set_permissions(open, Permissions::from_mode(0o777)).unwrap();
    }
    Answer::read(&request_as(NOBODY, &socket, &request.text())).status
}

#[test]
fn no_answer_holds_a_secret_of_the_configuration() {
    let mut world = World::new();
    let written = fs::read_to_string(world.place.path("sallyport.toml")).unwrap();
    let secrets = [
        "the-svc-password-41",
        "the-ro-password-42",
        "the-dba-password-43",
    ];
    for (name, secret) in ["svc", "ro", "dba"].into_iter().zip(secrets) {
        let file = format!("{name}-password");
        world.place.write(&file, secret);
        fs::set_permissions(world.place.path(&file), Permissions::from_mode(0o600)).unwrap();
    }
    let accounts = "user = \"svc\"\npassword = \"file:svc-password\"\n\
                    readonly_user = \"ro\"\nreadonly_password = \"file:ro-password\"\n\
                    groups = { dba = { user = \"dba\", password = \"file:dba-password\" } }\n";
    let planted = written.replace("user = \"svc\"\n", accounts);
    assert_ne!(planted, written);
    world.place.write("sallyport.toml", &planted);
    world.place.text(&["reload"]);

    let mut secrets: Vec<String> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
    // Keys that the appliance made for itself: each line that is long enough to be one.
    for entry in fs::read_dir(world.place.path("state")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !path.is_file()
            || name.contains("certificate")
            || name.contains("sqlite")
            || name == "instance-id"
        {
            continue;
        }
        // A certificate in the same file as its key is public.
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let private = text.rsplit("-----END CERTIFICATE-----").next().unwrap();
        let lines = private
            .lines()
            .filter(|line| line.len() >= 24 && !line.starts_with("---"));
        secrets.extend(lines.map(str::to_owned));
    }
    assert!(
        secrets.len() > 6,
        "the keys were not found: {}",
        secrets.len()
    );

    let socket = world.place.path("run/admin.sock");
    let admin = world.token(&["security", "oncall"]);
    let mut looked_at = 0;
    for line in access() {
        // It goes on for ever.
        if line.what == "GET /v1/approvals/events" {
            continue;
        }
        let request = || line.request.clone();
        for answer in [
            request().unix(&socket),
            request().bearer(&admin).tcp(world.console),
            request().tcp(world.console),
        ] {
            let text = format!("{answer:?}");
            let found = secrets.iter().find(|secret| text.contains(secret.as_str()));
            assert_eq!(found, None, "{}", line.what);
            looked_at += text.len();
        }
    }
    assert!(looked_at > 10_000, "there was nothing to look at");
    for path in [
        "/",
        "/sessions",
        "/health",
        "/explain",
        "/login",
        "/nowhere",
    ] {
        let (cookie, _) = console_session(&world);
        let page = Request::get(path)
            .header("cookie", &cookie)
            .tcp(world.console);
        let text = format!("{page:?}");
        assert!(
            !secrets.iter().any(|secret| text.contains(secret.as_str())),
            "{path}"
        );
    }
    world.place.signal(Signal::TERM);
    world.place.wait();
}

#[test]
fn explanations_are_those_of_the_command_line() {
    let world = World::new();
    let viewer = world.token(&["staff"]);
    let ask = |body: Value| {
        let request = Request::post("/v1/explain", &body.to_string()).bearer(&viewer);
        request.tcp(world.console)
    };
    let sql = "insert into t values (1)";
    let asked = ask(json!({"groups": ["analysts"], "target": "orders", "sql": sql}));
    let arguments = [
        "explain", "--json", "--groups", "analysts", "--target", "orders", sql,
    ];
    let printed: Value = serde_json::from_str(&world.place.text(&arguments)).unwrap();
    assert_eq!(asked.json(), printed);
    assert_eq!(printed["decision"]["verdict"], "hold");

    let claims = json!({"iss": ISSUER, "sub": "x", "groups": ["analysts"]});
    let mapped = ask(json!({"claims": claims, "target": "orders", "sql": sql})).json();
    assert_eq!(mapped["principal"]["groups"], json!(["corp:analysts"]));
    for wrong in [
        json!({"claims": claims, "groups": ["a"], "target": "orders", "sql": sql}),
        json!({"claims": {"iss": "https://other"}, "target": "orders", "sql": sql}),
        json!({"target": "orders", "sql": sql, "from": "nowhere"}),
        json!({"target": "orders"}),
        json!({"target": "orders", "sql": sql, "colour": "red"}),
    ] {
        assert_eq!(ask(wrong.clone()).status, 422, "{wrong}");
    }
}

#[test]
fn the_policy_and_targets_in_force_are_shown_without_accounts() {
    let world = World::new();
    let viewer = world.token(&["staff"]);
    let get = |path: &str| Request::get(path).bearer(&viewer).tcp(world.console).json();
    assert_eq!(
        get("/v1/targets"),
        json!([{
            "name": "orders", "protocol": "postgres", "addresses": ["127.0.0.1:1"],
            "database": "orders", "databases": [],
        }])
    );
    let policy = get("/v1/policy");
    assert_eq!(policy["generation"], 1);
    assert_eq!(
        policy["rules"],
        json!([
            {
                "name": "writes-wait", "action": "hold", "message": null, "shadow": false,
                "groups": ["analysts"], "except_groups": [], "targets": ["orders"],
                "conditional": false, "classes": ["insert"], "narrowed_by": [],
                "approvers": ["corp:oncall"], "approvals": 1, "expires_seconds": 600,
            },
            {
                "name": "analysts-read", "action": "allow", "message": null, "shadow": false,
                "groups": ["analysts"], "except_groups": [], "targets": ["orders"],
                "conditional": false, "classes": policy["rules"][1]["classes"], "narrowed_by": [],
                "approvers": [], "approvals": null, "expires_seconds": null,
            },
        ])
    );
    assert!(
        policy["rules"][1]["classes"]
            .as_array()
            .unwrap()
            .contains(&json!("select"))
    );
}

#[test]
fn what_runs_is_listed_over_all_shards() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let socket = appliance.directory().join("run/admin.sock");
    let live = || Request::get("/v1/sessions/live").unix(&socket).json();
    assert_eq!(live(), json!({"sessions": [], "silent_shards": []}));

    let began = now();
    let mut busy = appliance.login("busy", "analysts");
    let mut idle = appliance.login("idle", "readers");
    idle.query("select 1");
    idle.query("select 2");
    busy.send('Q', &terminated("select pg_sleep(60)"));
    let of = |name: &str| {
        let sessions = live()["sessions"].clone();
        let mut sessions = sessions.as_array().unwrap().clone().into_iter();
        sessions.find(|session| session["subject"] == name).unwrap()
    };
    wait_until("the statement runs", || of("busy")["state"] == "running");
    let session = of("idle");
    assert_eq!(session["state"], "idle");
    assert_eq!(session["statements"], 2);
    assert_eq!(session["target"], "orders");
    assert_eq!(session["groups"], json!(["readers"]));
    assert!((began..=now()).contains(&session["since"].as_u64().unwrap()));
    assert!(session["shard"].as_u64().unwrap() < 2);
    let recorded = appliance.sessions();
    assert!(
        recorded
            .iter()
            .any(|recorded| recorded["id"] == session["id"])
    );
    drop(idle);
    wait_until("the session is gone", || {
        live()["sessions"].as_array().unwrap().len() == 1
    });
}

#[test]
fn a_reload_changes_the_certificate_of_the_console() {
    let world = World::at("0.0.0.0:0");
    let request = Request::get("/v1/status").bearer(&world.token(&["staff"]));
    let authority = Authority::new("site");
    let certified = authority.server(&["localhost"]);
    world.place.write("chain.pem", &certified.chain_pem);
    world.place.write("key.pem", &certified.key_pem);
    let key = world.place.path("key.pem");
    fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
    let written = fs::read_to_string(world.place.path("sallyport.toml")).unwrap();
    let tls = "[tls]\ncertificate = \"chain.pem\"\nkey = \"file:key.pem\"\n";
    world.place.write("sallyport.toml", &(written + tls));
    world.place.text(&["reload"]);
    let trusted = authority.certificate_pem.as_bytes();
    assert_eq!(request.over(encrypted(world.console, trusted)).status, 200);
}

#[test]
fn who_opens_more_connections_than_an_address_may_have_is_cut_off_alone() {
    let world = World::new();
    let idle: Vec<TcpStream> = (0..128)
        .map(|_| connect([127, 0, 0, 1], world.console))
        .collect();
    let mut beyond = connect([127, 0, 0, 1], world.console);
    let mut nothing = Vec::new();
    beyond.read_to_end(&mut nothing).unwrap();
    assert!(nothing.is_empty());
    let request = Request::get("/v1/status");
    assert_eq!(request.status_from([127, 0, 0, 2], world.console), 401);
    drop(idle);
    wait_until("the places are free again", || {
        let mut stream = connect([127, 0, 0, 1], world.console);
        let text = request.text();
        let mut answer = Vec::new();
        // A connection that was closed at once may be reset.
        let asked = stream.write_all(text.as_bytes());
        asked.is_ok()
            && stream.read_to_end(&mut answer).is_ok()
            && answer.starts_with(b"HTTP/1.1 401")
    });
}

#[test]
fn peers_that_do_not_finish_what_they_began_are_let_go() {
    let world = World::new();
    let admin = world.token(&["security"]);
    let body_missing = format!(
        "POST /v1/reload HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {admin}\r\n\
         connection: close\r\ncontent-length: 10\r\n\r\n{{"
    );
    let mut waiting: Vec<TcpStream> = ["", "GET /v1/status HTTP/1.1\r\nhost: ", &body_missing]
        .iter()
        .map(|begun| {
            let mut stream = connect([127, 0, 0, 1], world.console);
            stream.write_all(begun.as_bytes()).unwrap();
            stream
        })
        .collect();
    let answers: Vec<String> = waiting
        .iter_mut()
        .map(|stream| {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            String::from_utf8(answer).unwrap()
        })
        .collect();
    assert_eq!(answers[0], "");
    assert!(!answers[1].contains("200"), "{}", answers[1]);
    assert_eq!(Answer::read(&answers[2]).status, 408);
}

#[test]
fn a_request_that_is_not_understood_is_refused_in_json() {
    let world = World::new();
    let socket = world.place.path("run/admin.sock");
    for (request, status) in [
        (Request::get("/v1/sessions?limit=x"), 400),
        (Request::post("/v1/tokens", "{"), 400),
        (Request::post("/v1/tokens", "{}"), 422),
        (Request::new("POST", "/v1/tokens").body("{}"), 415),
        (Request::new("DELETE", "/v1/status"), 405),
        (Request::get("/nowhere"), 404),
    ] {
        let answer = request.unix(&socket);
        assert_eq!(answer.status, status, "{request:?}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(!error.is_empty(), "{request:?}");
    }
}

#[test]
fn the_document_that_is_served_is_the_one_that_is_printed() {
    let world = World::new();
    let served = Request::get("/v1/openapi.json").bearer(&world.token(&["staff"]));
    let served = served.tcp(world.console).json();
    let printed: Value = serde_json::from_str(&world.place.text(&["schema", "openapi"])).unwrap();
    assert_eq!(served, printed);
    let approve = &printed["paths"]["/v1/approvals/{id}/approve"]["post"];
    assert_eq!(approve["security"], json!([{"bearer": ["approver"]}]));
    let tokens = &printed["paths"]["/v1/tokens"]["post"];
    assert_eq!(tokens["security"], json!([{"admin_socket": []}]));
    for refusal in ["401", "403", "429", "503"] {
        let body = &tokens["responses"][refusal]["content"]["application/json"]["schema"];
        assert_eq!(body["$ref"], "#/components/schemas/Refused", "{refusal}");
    }
}
