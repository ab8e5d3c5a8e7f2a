//! Recordings exported by the shipped binary: to a directory, and to real S3-compatible storage that
//! cannot always be reached.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::appliance::{Appliance, Setup, json_lines, orders_server, wait_until};
use crate::postgres::{cache, free_port};
use crate::wire::Wire;

const REQUIRED: &str = include_str!("../data/ocsf/required.json");

const ACCESS_KEY: &str = "sallyport-test";
const SECRET_KEY: &str = "the-storages-own-secret-51c0";

/// Every file below `root`, by its path there.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, &path, found);
            } else {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    if root.exists() {
        collect(root, root, &mut found);
    }
    found
}

fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The lines of the units that are complete; fails when an object is not what `complete.json` says.
fn complete_lines(found: &BTreeMap<String, Vec<u8>>) -> Vec<Value> {
    let mut lines = Vec::new();
    for (name, text) in found {
        let Some(folder) = name.strip_suffix("/complete.json") else {
            continue;
        };
        let complete: Value = serde_json::from_slice(text).unwrap();
        for object in complete["objects"].as_array().unwrap() {
            let name = format!("{folder}/{}", object["name"].as_str().unwrap());
            let bytes = &found[&name];
            assert_eq!(object["sha256"], sha256(bytes), "{name}");
            let text = std::str::from_utf8(bytes).unwrap();
            assert!(text.ends_with('\n'));
            let read = json_lines(text);
            assert_eq!(object["lines"], read.len(), "{name}");
            lines.extend(read);
        }
    }
    lines
}

/// Fails unless `event` has what OCSF requires of its class.
fn check_ocsf(event: &Value) {
    let schema: Value = serde_json::from_str(REQUIRED).unwrap();
    let class = &schema["classes"][event["class_uid"].to_string()];
    assert!(class.is_object(), "no class of ours: {event}");
    check_object(&schema, event, &schema["event"], event);
    check_object(&schema, event, class, event);
    let activities = class["activities"].as_array().unwrap();
    assert!(activities.contains(&event["activity_id"]), "{event}");
    let number = |name: &str| event[name].as_u64().unwrap();
    assert_eq!(
        number("type_uid"),
        number("class_uid") * 100 + number("activity_id")
    );
    assert_eq!(number("category_uid"), number("class_uid") / 1000);
    assert_eq!(event["metadata"]["version"], schema["version"]);
    // Milliseconds: this century.
    assert!(
        (1_700_000_000_000..4_000_000_000_000).contains(&number("time")),
        "{event}"
    );
}

fn check_object(schema: &Value, object: &Value, shape: &Value, event: &Value) {
    let names = |list: &Value| -> Vec<String> {
        let names = list.as_array().unwrap().iter();
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let has = |name: &String| object.get(name).is_some_and(|value| !value.is_null());
    for name in names(&shape["required"]) {
        assert!(has(&name), "{name} is missing in {event}");
    }
    if let Some(sets) = shape.get("at_least_one").and_then(Value::as_array) {
        for set in sets {
            assert!(names(set).iter().any(has), "none of {set} is in {event}");
        }
    }
    for (name, kind) in shape["objects"].as_object().unwrap() {
        if let Some(inner) = object.get(name) {
            let kind = kind.as_str().unwrap();
            check_object(schema, inner, &schema["objects"][kind], event);
        }
    }
}

/// Sessions of every kind, the last one alive. Returns it.
fn sessions(appliance: &Appliance) -> Wire {
    let mut reader = appliance.login("reader", "readers");
    reader.parse("", "select name, null, id from customers where id = $1");
    reader.bind("", "", &[Some("3")]);
    reader.execute("", 0);
    reader.sync();
    reader.until_ready();
    drop(reader);
    let mut vandal = appliance.login("vandal", "analysts");
    for statement in [
        "drop table customers",
        "select 1/0",
        "update orders set total = 2 where id = 7",
        "insert into orders values (5000, 1, 1)",
        "delete from orders where id = 5000",
        "set search_path = public",
        "select count(*) from customers, orders",
    ] {
        vandal.query(statement);
    }
    drop(vandal);
    let mut live = appliance.login("live", "analysts");
    live.query("select 1");
    wait_until("two sessions to end", || {
        let sessions = appliance.sessions();
        sessions.iter().filter(|it| it["state"] == "ended").count() == 2
    });
    live
}

#[test]
fn sessions_are_exported_to_a_directory_as_ocsf_once() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let live = sessions(&appliance);
    let place = TempDir::new().unwrap();
    let to = place.path().to_str().unwrap();
    let export = |options: &[&str]| -> Value {
        let text = appliance.cli_text(&[&["export", "--to", to, "--json"], options].concat());
        serde_json::from_str(&text).unwrap()
    };
    let first = export(&[]);
    assert_eq!((&first["units"], &first["live"]), (&json!(2), &json!(1)));
    let found = files(place.path());
    assert!(
        found.keys().all(|name| name.starts_with("ocsf/")),
        "{:?}",
        found.keys()
    );
    let events = complete_lines(&found);
    events.iter().for_each(check_ocsf);

    let of = |class: u64, activity: u64| -> Vec<&Value> {
        let of_kind = |it: &&Value| it["class_uid"] == class && it["activity_id"] == activity;
        events.iter().filter(of_kind).collect()
    };
    assert_eq!((of(3002, 1).len(), of(3002, 2).len()), (2, 2));
    let deleted = of(6005, 7);
    assert_eq!(deleted.len(), 2, "a drop and a delete: {deleted:#?}");
    let refused: Vec<_> = events
        .iter()
        .filter(|it| it["action"] == "Denied")
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(
        refused[0]["query_info"]["query_string"],
        "drop table customers"
    );
    assert_eq!(refused[0]["policy"]["name"], "no-destruction");
    assert_eq!(
        (&refused[0]["status_id"], &refused[0]["status_code"]),
        (&json!(2), &json!("42501"))
    );
    assert_eq!(refused[0]["table"]["name"], "customers");
    let failed: Vec<_> = events
        .iter()
        .filter(|it| it["status_code"] == "22012")
        .collect();
    assert_eq!(failed[0]["query_info"]["query_string"], "select 1/0");
    assert_eq!(failed[0]["action"], "Allowed");
    let queries = of(6005, 4);
    let bound = queries
        .iter()
        .find(|it| it["unmapped"]["values"] == json!(["'3'"]));
    let bound = bound.expect("the prepared statement");
    assert_eq!(
        (&bound["unmapped"]["rows"], &bound["status_id"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(bound["actor"]["user"]["name"], "reader");
    assert_eq!(bound["src_endpoint"]["ip"], "127.0.0.1");

    let again = export(&[]);
    assert_eq!((&again["units"], &again["objects"]), (&json!(0), &json!(0)));
    // Without the cursor it is found that everything is there.
    let since = export(&["--since", "1h"]);
    assert_eq!(
        (&since["units"], &since["known"], &since["objects"]),
        (&json!(0), &json!(2), &json!(0))
    );
    assert_eq!(files(place.path()), found, "nothing was written twice");
    drop(live);
    wait_until("the third session to be exported", || {
        export(&[])["units"] == 1
    });
    assert_eq!(
        complete_lines(&files(place.path()))
            .iter()
            .filter(|it| it["class_uid"] == 3002)
            .count(),
        6
    );

    // What was not completed is made whole.
    let mut found = files(place.path());
    let (broken, _) = found
        .iter()
        .find(|(name, _)| name.ends_with("complete.json"))
        .unwrap();
    fs::remove_file(place.path().join(broken)).unwrap();
    assert_eq!(export(&["--since", "1h"])["units"], 1);
    found.retain(|name, _| !name.ends_with("cursor.json"));
    let mut now = files(place.path());
    now.retain(|name, _| !name.ends_with("cursor.json"));
    assert_eq!(now, found);
}

#[test]
fn every_event_is_exported_as_replay_prints_it() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    let place = TempDir::new().unwrap();
    let to = place.path().join("evidence");
    setup.tables = format!(
        "[export]\nto = \"{}\"\nformat = \"jsonl\"\ninterval = \"1s\"\n",
        to.display()
    );
    let appliance = Appliance::start(&setup);
    let live = sessions(&appliance);
    // By itself, at its interval.
    wait_until("two sessions to be exported", || {
        let names = files(&to);
        let complete = names.keys().filter(|name| name.ends_with("complete.json"));
        complete.count() == 2
    });
    drop(live);
    let vandal = appliance.sessions();
    let vandal = vandal.iter().find(|it| it["name"] == "vandal").unwrap();
    let id = vandal["id"].as_str().unwrap();
    let found = files(&to);
    let (_, exported) = found
        .iter()
        .find(|(name, _)| name.contains(id) && name.ends_with(".jsonl"))
        .unwrap();
    let replayed = appliance.cli_text(&["replay", id, "--json"]);
    assert_eq!(std::str::from_utf8(exported).unwrap(), replayed);
    // Everything is for its owner only.
    for name in found.keys() {
        let mode = fs::metadata(to.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}

/// SeaweedFS with one bucket, `evidence`, and one key.
struct Storage {
    child: Child,
    _directory: TempDir,
    endpoint: SocketAddr,
    filer: SocketAddr,
}

fn weed() -> Command {
    let binary = cache().join("clients/seaweedfs/weed");
    let hint = "`.ci/prepare test` installs it";
    assert!(binary.exists(), "{} is missing: {hint}", binary.display());
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(binary);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

impl Storage {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let root = directory.path();
        let identities = json!({ "identities": [{
            "name": "test",
            "credentials": [{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }],
            "actions": ["Admin", "Read", "Write", "List"],
        }]});
        fs::write(root.join("s3.json"), identities.to_string()).unwrap();
        let ports: Vec<u16> = (0..8).map(|_| free_port()).collect();
        let mut command = weed();
        command
            .arg("server")
            .arg(format!("-dir={}", root.display()));
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]);
        command.args(["-master.volumeSizeLimitMB=64", "-volume.max=100"]);
        command.arg(format!("-s3.config={}", root.join("s3.json").display()));
        let names = [
            "s3.port",
            "s3.port.grpc",
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
        ];
        for (name, port) in names.iter().zip(&ports) {
            command.arg(format!("-{name}={port}"));
        }
        let child = command.spawn().unwrap();
        let storage = Self {
            child,
            _directory: directory,
            endpoint: SocketAddr::from(([127, 0, 0, 1], ports[0])),
            filer: SocketAddr::from(([127, 0, 0, 1], ports[6])),
        };
        wait_until("the storage", || {
            TcpStream::connect(storage.endpoint).is_ok()
                && storage
                    .ask("POST", "/buckets/evidence/")
                    .starts_with(b"HTTP/1.0 201")
        });
        storage
    }

    /// The answer of the filer, which stands behind the S3 interface, head included.
    fn ask(&self, method: &str, path: &str) -> Vec<u8> {
        let mut answer = Vec::new();
        let Ok(mut stream) = TcpStream::connect(self.filer) else {
            return answer;
        };
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: filer\r\nAccept: application/json\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    fn content(&self, path: &str) -> Vec<u8> {
        let answer = self.ask("GET", path);
        assert!(answer.starts_with(b"HTTP/1.0 200"), "{path}");
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        answer[end + 4..].to_vec()
    }

    /// Every object in the bucket.
    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec!["/buckets/evidence".to_owned()];
        while let Some(folder) = folders.pop() {
            let listing: Value =
                serde_json::from_slice(&self.content(&format!("{folder}/?limit=10000"))).unwrap();
            for entry in listing["Entries"].as_array().unwrap_or(&Vec::new()) {
                let path = entry["FullPath"].as_str().unwrap().to_owned();
                // The mode of a folder has Go's bit for it.
                if entry["Mode"].as_u64().unwrap() & (1 << 31) == 0 {
                    let name = path.strip_prefix("/buckets/evidence/").unwrap().to_owned();
                    found.insert(name, self.content(&path));
                } else {
                    folders.push(path);
                }
            }
        }
        found
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // Its processes end with it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Forwards to the storage until so many bytes have gone there, then breaks every connection off.
struct Cutter {
    address: SocketAddr,
    left: Arc<AtomicI64>,
}

impl Cutter {
    fn start(to: SocketAddr, bytes: i64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(AtomicI64::new(bytes));
        let shared = Arc::clone(&left);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.load(Ordering::Relaxed) <= 0 {
                    continue;
                }
                let Ok(server) = TcpStream::connect(to) else {
                    continue;
                };
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let left = Arc::clone(&shared);
                thread::spawn(move || forward(client, server, Some(&left)));
                thread::spawn(move || forward(back.0, back.1, None));
            }
        });
        Self { address, left }
    }

    fn is_cut(&self) -> bool {
        self.left.load(Ordering::Relaxed) <= 0
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, left: Option<&AtomicI64>) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let cost = i64::try_from(count).unwrap();
        let is_cut = left.is_some_and(|left| left.fetch_sub(cost, Ordering::Relaxed) <= cost);
        if is_cut || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    drop(from.shutdown(std::net::Shutdown::Both));
    drop(to.shutdown(std::net::Shutdown::Both));
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing_half_and_is_taken_up_again() {
    let storage = Storage::start();
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    let keys = TempDir::new().unwrap();
    let keep = |name: &str, key: &str| {
        let path = keys.path().join(name);
        fs::write(&path, format!("{key}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let access_key = keep("access-key", ACCESS_KEY);
    let secret_key = keep("secret-key", SECRET_KEY);
    // The third object of 8 MiB is cut.
    let cutter = Cutter::start(storage.endpoint, 20 << 20);
    setup.tables = format!(
        "[export]\nto = \"s3://evidence/some/where\"\nformat = \"jsonl\"\n\
         [export.s3]\nendpoint = \"http://{}\"\n\
         access_key = \"file:{access_key}\"\nsecret_key = \"file:{secret_key}\"\n",
        cutter.address
    );
    let appliance = Appliance::start(&setup);
    let mut long = appliance.login("long", "analysts");
    long.query("select repeat('x', 4000) from generate_series(1, 8000)");
    drop(long);
    wait_until("the session to end", || {
        appliance.sessions().iter().all(|it| it["state"] == "ended")
    });

    let broken = appliance.cli(&["export"]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(cutter.is_cut());
    let errors = String::from_utf8(broken.stderr).unwrap();
    assert!(errors.contains("the next run goes on"), "{errors}");
    let left = storage.objects();
    assert!(!left.is_empty(), "nothing was uploaded before the cut");
    for (name, bytes) in &left {
        // Each is whole: its name has the hash of its content.
        let file = name.rsplit('/').next().unwrap();
        let hash = &file["000001-".len()..file.len() - ".jsonl".len()];
        assert!(sha256(bytes).starts_with(hash), "{name}");
    }

    // The storage can be reached again.
    let configuration = fs::read_to_string(appliance.configuration_path()).unwrap();
    let direct = storage.endpoint.to_string();
    let mended = configuration.replace(&cutter.address.to_string(), &direct);
    fs::write(appliance.configuration_path(), mended).unwrap();
    let resumed: Value = serde_json::from_str(&appliance.cli_text(&["export", "--json"])).unwrap();
    let found = storage.objects();
    assert_eq!(resumed["units"], 1);
    // But for two that are about the rest.
    assert_eq!(resumed["objects"], found.len() - 2 - left.len());
    assert!(
        left.iter()
            .all(|(name, bytes)| found.get(name) == Some(bytes))
    );
    let lines = complete_lines(&found);
    let id = appliance.sessions()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(lines, appliance.replay(&id));
    assert!(
        found
            .keys()
            .all(|name| name.starts_with("some/where/jsonl/"))
    );
    let again: Value = serde_json::from_str(&appliance.cli_text(&["export", "--json"])).unwrap();
    assert_eq!((&again["units"], &again["objects"]), (&json!(0), &json!(0)));

    for text in [errors, appliance.log(), format!("{found:?}")] {
        assert!(!text.contains(SECRET_KEY));
    }
    // Another key is refused, and that is said without it.
    keep("secret-key", "another-secret-77aa");
    let refused = appliance.cli(&["export", "--since", "1h"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(!String::from_utf8(refused.stderr).unwrap().contains("77aa"));
}
