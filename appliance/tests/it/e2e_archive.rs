//! The archive that the real binary makes: sound as it is, and every damage to a copy is named.
//!
//! Packs are read here by a reader of its own, written from docs/recording.md.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::appliance::{Appliance, Setup, json_lines, orders_server, wait_until};
use crate::postgres::Server;

const HEADER_BYTES: usize = 64;
const SOURCE_BYTES: usize = 48;
const SEGMENT_BYTES: usize = 208;

/// A pack, as docs/recording.md describes it.
struct Pack {
    header: Vec<u8>,
    sources: Vec<u8>,
    segments: Vec<(Vec<u8>, Vec<u8>)>,
}

fn number(bytes: &[u8], offset: usize, length: usize) -> u64 {
    let bytes = &bytes[offset..offset + length];
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn put(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

fn at(count: u64) -> usize {
    usize::try_from(count).unwrap()
}

impl Pack {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        assert_eq!(&bytes[..8], b"SPORTPCK");
        let (sources, count) = (at(number(&bytes, 12, 4)), at(number(&bytes, 32, 4)));
        let table = HEADER_BYTES + sources * SOURCE_BYTES;
        let segments = (0..count).map(|place| {
            let start = table + place * SEGMENT_BYTES;
            let entry = bytes[start..start + SEGMENT_BYTES].to_vec();
            let (offset, length) = (at(number(&entry, 88, 8)), at(number(&entry, 96, 8)));
            (entry, bytes[offset..offset + length].to_vec())
        });
        Self {
            header: bytes[..HEADER_BYTES].to_vec(),
            sources: bytes[HEADER_BYTES..table].to_vec(),
            segments: segments.collect(),
        }
    }

    /// Writes it with lengths, offsets and hashes that fit what it holds now.
    fn write(mut self, path: &Path) {
        let count = self.segments.len();
        self.header[32..36].copy_from_slice(&u32::try_from(count).unwrap().to_le_bytes());
        let mut offset = HEADER_BYTES + self.sources.len() + count * SEGMENT_BYTES;
        let (mut table, mut bodies) = (Vec::new(), Vec::new());
        for (mut entry, body) in self.segments {
            put(&mut entry, 88, offset as u64);
            put(&mut entry, 96, body.len() as u64);
            entry[176..208].copy_from_slice(digest(&SHA256, &body).as_ref());
            offset += body.len();
            table.extend(entry);
            bodies.extend(body);
        }
        fs::write(path, [self.header, self.sources, table, bodies].concat()).unwrap();
    }
}

/// The session in an entry, as its id is printed; `None` for refused logins.
fn session_of(entry: &[u8]) -> Option<String> {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    if entry[0] != 1 {
        return None;
    }
    let id = u128::from_be_bytes(entry[8..24].try_into().unwrap());
    let digit = |index: u32| char::from(ALPHABET[usize::try_from(id >> (index * 5) & 31).unwrap()]);
    Some((0..26).rev().map(digit).collect())
}

/// The records of a body: position, and what follows it.
fn records(body: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let plain = zstd::bulk::decompress(body, 2 << 20).unwrap();
    let mut rest = plain.as_slice();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (position, length) = (number(rest, 0, 8), at(number(rest, 8, 4)));
        found.push((position, rest[12..12 + length].to_vec()));
        rest = &rest[12 + length..];
    }
    found
}

/// A body of these records, and its length unpacked.
fn body(records: &[(u64, Vec<u8>)]) -> (Vec<u8>, u64) {
    let mut plain = Vec::new();
    for (position, record) in records {
        plain.extend(position.to_le_bytes());
        plain.extend(u32::try_from(record.len()).unwrap().to_le_bytes());
        plain.extend(record);
    }
    let packed = zstd::bulk::compress(&plain, 1).unwrap();
    (packed, plain.len() as u64)
}

fn put_body(segment: &mut (Vec<u8>, Vec<u8>), records: &[(u64, Vec<u8>)]) {
    let (packed, plain) = body(records);
    put(&mut segment.0, 104, plain);
    let count = u32::try_from(records.len()).unwrap();
    segment.0[4..8].copy_from_slice(&count.to_le_bytes());
    segment.1 = packed;
}

/// An appliance whose archive is sealed, and what was kept of it elsewhere.
struct World {
    appliance: Appliance,
    _server: Server,
    /// The sessions that were recorded, the oldest first.
    sessions: Vec<String>,
    head: String,
}

/// Nothing is sealed but when a test asks for it.
const INTERVAL: &str = "[archive]\nhead_interval = \"1h\"\n";

/// A session, over and recorded when this returns.
fn session(appliance: &Appliance, agent: &str, statements: usize) {
    let mut wire = appliance.login(agent, "analysts");
    for statement in 0..statements {
        wire.query(&format!(
            "select {statement}, 'of {agent}', repeat('x', 200)"
        ));
    }
    wire.send('X', b"");
    wire.until_closed();
    wait_until("the session's end", || {
        let sessions = appliance.sessions();
        sessions.iter().all(|session| session["state"] != "live")
    });
}

impl World {
    /// Three sessions and two refused logins in one pack, then two more sessions in another.
    fn new(tables: &str) -> Self {
        let server = orders_server();
        let mut setup = Setup::for_server(&server);
        setup.tables = tables.to_owned();
        setup.shards = 1;
        let appliance = Appliance::start(&setup);
        for agent in ["ada", "grace", "edsger"] {
            session(&appliance, agent, 5);
        }
        for _ in 0..2 {
            assert!(appliance.try_login("orders", "no token").is_err());
        }
        seal(&appliance);
        session(&appliance, "barbara", 3);
        session(&appliance, "tony", 3);
        let head = seal(&appliance);
        let mut sessions: Vec<String> = appliance
            .sessions()
            .iter()
            .map(|session| session["id"].as_str().unwrap().to_owned())
            .collect();
        sessions.sort();
        assert_eq!(sessions.len(), 5);
        Self {
            appliance,
            _server: server,
            sessions,
            head,
        }
    }

    fn archive(&self) -> PathBuf {
        self.appliance.recordings_path().join("archive")
    }

    /// A copy of the archive, and what was kept elsewhere.
    fn copy(&self, name: &str) -> Copy<'_> {
        let path = self.appliance.directory().join(name);
        let output = Command::new("cp")
            .arg("-a")
            .arg(self.archive())
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let head = self.appliance.directory().join("kept-head");
        fs::write(&head, &self.head).unwrap();
        let keys = self.appliance.directory().join("kept-keys");
        if !keys.exists() {
            fs::write(&keys, self.appliance.cli_text(&["audit", "keys"])).unwrap();
        }
        Copy {
            appliance: &self.appliance,
            path,
            head,
            keys,
        }
    }
}

/// Seals what was recorded until now; the line of the newest head.
fn seal(appliance: &Appliance) -> String {
    appliance.cli_text(&["audit", "head", "--seal"])
}

struct Copy<'w> {
    appliance: &'w Appliance,
    path: PathBuf,
    head: PathBuf,
    keys: PathBuf,
}

impl Copy<'_> {
    fn pack(&self, number: u64) -> PathBuf {
        self.path.join(format!("packs/{number:012}.pack"))
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path.join(file)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn write_lines(&self, file: &str, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.path.join(file), text).unwrap();
    }

    /// Changes a pack as somebody would who wants it to look right.
    fn edit(&self, number: u64, edit: impl FnOnce(&mut Vec<(Vec<u8>, Vec<u8>)>)) {
        let path = self.pack(number);
        let mut pack = Pack::read(&path);
        edit(&mut pack.segments);
        pack.write(&path);
    }

    /// The report, with the exit status that belongs to it.
    fn report(&self, more: &[&str]) -> Value {
        let (path, head, keys) = (text(&self.path), text(&self.head), text(&self.keys));
        let mut arguments = vec!["audit", "verify", "--json", "--directory", path];
        arguments.extend(["--head", head, "--keys", keys]);
        arguments.extend(more);
        verify(self.appliance, &arguments)
    }

    /// What is named: kind and session of each finding.
    fn named(&self) -> Vec<(String, Option<String>)> {
        named(&self.report(&[]))
    }
}

fn verify(appliance: &Appliance, arguments: &[&str]) -> Value {
    let output = appliance.cli(arguments);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("{}", String::from_utf8_lossy(&output.stderr));
    });
    let is_sound = report["findings"].as_array().unwrap().is_empty();
    assert_eq!(output.status.success(), is_sound, "{report}");
    report
}

fn named(report: &Value) -> Vec<(String, Option<String>)> {
    let word = |finding: &Value, field: &str| finding[field].as_str().map(str::to_owned);
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|finding| (word(finding, "kind").unwrap(), word(finding, "session")))
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn one(kind: &str, session: Option<&String>) -> Vec<(String, Option<String>)> {
    vec![(kind.to_owned(), session.cloned())]
}

fn finding(report: &Value) -> &Value {
    &report["findings"][0]
}

#[test]
fn an_untouched_copy_is_sound_and_each_damage_is_named() {
    let world = World::new(INTERVAL);
    let sessions = &world.sessions;

    let copy = world.copy("untouched");
    let report = copy.report(&[]);
    assert_eq!(named(&report), [], "{report}");
    assert_eq!(report["anchors"], 1, "{report}");
    let packs: Vec<Pack> = [1, 2].map(|n| Pack::read(&copy.pack(n))).into();
    let sealed: Vec<String> = packs
        .iter()
        .flat_map(|pack| {
            pack.segments
                .iter()
                .filter_map(|(entry, _)| session_of(entry))
        })
        .collect();
    assert_eq!(&sealed, sessions);
    let count: usize = packs
        .iter()
        .flat_map(|pack| &pack.segments)
        .map(|(_, body)| records(body).len())
        .sum();
    assert_eq!(report["records"], count, "{report}");

    let copy = world.copy("flipped");
    let path = copy.pack(1);
    let mut bytes = fs::read(&path).unwrap();
    let place = packs[0]
        .segments
        .iter()
        .position(|(entry, _)| session_of(entry).as_ref() == Some(&sessions[1]));
    let offset = number(&packs[0].segments[place.unwrap()].0, 88, 8);
    bytes[at(offset) + 20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let report = copy.report(&[]);
    assert_eq!(
        named(&report),
        one("changed", Some(&sessions[1])),
        "{report}"
    );
    assert_eq!(finding(&report)["file"], "packs/000000000001.pack");
    assert_eq!(finding(&report)["position"], offset);

    let copy = world.copy("flipped-table");
    let path = copy.pack(2);
    let mut bytes = fs::read(&path).unwrap();
    bytes[HEADER_BYTES + SOURCE_BYTES + 150] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    let found = copy.named();
    assert!(found.iter().all(|(kind, _)| kind == "changed"), "{found:?}");
    assert!(!found.is_empty());

    let copy = world.copy("missing-record");
    copy.edit(1, |segments| {
        let mut kept = records(&segments[0].1);
        kept.remove(4);
        put_body(&mut segments[0], &kept);
    });
    let report = copy.report(&[]);
    let found = named(&report);
    let expected = ("missing-record".to_owned(), Some(sessions[0].clone()));
    assert!(found.contains(&expected), "{report}");
    assert_eq!(finding(&report)["sequences"], json!([4, 4]), "{report}");

    let copy = world.copy("reordered-records");
    copy.edit(1, |segments| {
        let mut kept = records(&segments[0].1);
        kept.swap(3, 4);
        put_body(&mut segments[0], &kept);
    });
    let found = copy.named();
    let is_reordered = |(kind, session): &(String, Option<String>)| {
        kind == "missing-record" || (kind == "reordered" && session.as_ref() == Some(&sessions[0]))
    };
    assert!(found.iter().any(is_reordered), "{found:?}");

    let copy = world.copy("record-off-the-end");
    copy.edit(2, |segments| {
        let mut kept = records(&segments[0].1);
        kept.pop();
        put_body(&mut segments[0], &kept);
        let last = number(&segments[0].0, 48, 8);
        put(&mut segments[0].0, 48, last - 1);
    });
    let report = copy.report(&[]);
    let expected = ("missing-record".to_owned(), Some(sessions[3].clone()));
    assert!(named(&report).contains(&expected), "{report}");

    let copy = world.copy("truncated");
    let path = copy.pack(2);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    assert_eq!(copy.named(), one("truncated", Some(&sessions[4])));

    let copy = world.copy("truncated-table");
    let path = copy.pack(2);
    fs::write(&path, &bytes[..HEADER_BYTES + 100]).unwrap();
    let found = copy.named();
    assert_eq!(found[0], ("truncated".to_owned(), None), "{found:?}");

    let copy = world.copy("missing-session");
    copy.edit(1, |segments| {
        segments.retain(|(entry, _)| session_of(entry).as_ref() != Some(&sessions[2]));
    });
    let found = copy.named();
    let expected = ("missing-session".to_owned(), Some(sessions[2].clone()));
    assert!(found.contains(&expected), "{found:?}");
    fs::remove_file(copy.path.join("index.sqlite")).unwrap();
    let found = copy.named();
    assert_eq!(found[0], ("missing-session".to_owned(), None), "{found:?}");

    let copy = world.copy("missing-refused-login");
    copy.edit(1, |segments| {
        let refused = segments
            .iter_mut()
            .find(|(entry, _)| entry[0] == 2)
            .unwrap();
        let mut kept = records(&refused.1);
        assert_eq!(kept.len(), 2);
        kept.pop();
        put_body(refused, &kept);
        put(&mut refused.0, 48, 0);
    });
    let report = copy.report(&[]);
    assert_eq!(named(&report)[0].0, "missing-record", "{report}");
    assert!(
        finding(&report)["what"]
            .as_str()
            .unwrap()
            .contains("refused logins")
    );

    let copy = world.copy("missing-pack");
    fs::remove_file(copy.pack(2)).unwrap();
    let found = copy.named();
    for session in &sessions[3..] {
        let expected = ("missing-session".to_owned(), Some(session.clone()));
        assert!(found.contains(&expected), "{found:?}");
    }

    let copy = world.copy("swapped-packs");
    fs::rename(copy.pack(1), copy.path.join("aside")).unwrap();
    fs::rename(copy.pack(2), copy.pack(1)).unwrap();
    fs::rename(copy.path.join("aside"), copy.pack(2)).unwrap();
    let found = copy.named();
    assert_eq!(found[0], ("reordered".to_owned(), None), "{found:?}");

    let copy = world.copy("swapped-segments");
    copy.edit(1, |segments| segments.swap(0, 1));
    let found = copy.named();
    assert!(found.contains(&("reordered".to_owned(), None)), "{found:?}");

    let copy = world.copy("swapped-heads");
    let mut heads = copy.lines("heads.ndjson");
    heads.swap(1, 2);
    copy.write_lines("heads.ndjson", &heads);
    let kinds: Vec<String> = copy.named().into_iter().map(|(kind, _)| kind).collect();
    assert!(kinds.contains(&"reordered".to_owned()), "{kinds:?}");

    let copy = world.copy("changed-head");
    let mut heads = copy.lines("heads.ndjson");
    heads[1] = heads[1].replace("\"records\":", "\"records\":1");
    copy.write_lines("heads.ndjson", &heads);
    let report = copy.report(&[]);
    assert_eq!(finding(&report)["kind"], "changed", "{report}");
    assert_eq!(finding(&report)["position"], 2, "{report}");

    let copy = world.copy("missing-head");
    let mut heads = copy.lines("heads.ndjson");
    heads.remove(1);
    copy.write_lines("heads.ndjson", &heads);
    assert_eq!(copy.named()[0].0, "missing-line");

    let copy = world.copy("cut-head");
    let whole = fs::read(copy.path.join("heads.ndjson")).unwrap();
    fs::write(copy.path.join("heads.ndjson"), &whole[..whole.len() - 30]).unwrap();
    let kinds: Vec<String> = copy.named().into_iter().map(|(kind, _)| kind).collect();
    assert!(kinds.contains(&"truncated".to_owned()), "{kinds:?}");
    assert!(kinds.contains(&"rolled-back".to_owned()), "{kinds:?}");

    let copy = world.copy("trail");
    let trail = copy.lines("trail.ndjson");
    let mut changed = trail.clone();
    changed[1] = changed[1]
        .replace("token-issued", "token-issuec")
        .replace("ada", "eve");
    copy.write_lines("trail.ndjson", &changed);
    let report = copy.report(&[]);
    assert_eq!(finding(&report)["kind"], "changed", "{report}");
    assert_eq!(finding(&report)["file"], "trail.ndjson", "{report}");
    assert_eq!(finding(&report)["position"], 2, "{report}");
    let mut missing = trail.clone();
    missing.remove(1);
    copy.write_lines("trail.ndjson", &missing);
    assert_eq!(copy.named()[0].0, "missing-line");
    copy.write_lines("trail.ndjson", &trail[..2]);
    assert_eq!(copy.named(), one("truncated", None));
}

#[test]
fn an_older_state_and_a_second_continuation_do_not_pass_for_the_one_that_was_kept() {
    let mut world = World::new(INTERVAL);
    world.appliance.terminate();
    let root = world.appliance.directory().to_owned();
    let state = |name: &str| root.join(name);
    let copy_of = |from: &str, to: &str| {
        let output = Command::new("cp")
            .arg("-a")
            .arg(state(from))
            .arg(state(to))
            .output();
        assert!(output.unwrap().status.success());
    };
    copy_of("state", "older");
    world.appliance.resume();
    session(&world.appliance, "ada", 1);
    let kept = seal(&world.appliance);
    world.appliance.terminate();
    fs::write(root.join("kept-later"), &kept).unwrap();
    let check = |appliance: &Appliance, directory: &str| {
        let directory = state(directory).join("recordings");
        let head = state("kept-later");
        let arguments = ["audit", "verify", "--json", "--directory", text(&directory)];
        let output = [&arguments[..], &["--head", text(&head)]].concat();
        named(&verify(appliance, &output))
    };
    assert_eq!(check(&world.appliance, "state"), []);
    assert_eq!(check(&world.appliance, "older"), one("rolled-back", None));

    // The same appliance goes on from the older state: other heads with the same numbers.
    fs::rename(state("state"), state("first")).unwrap();
    copy_of("older", "state");
    world.appliance.resume();
    for agent in ["grace", "edsger", "tony"] {
        session(&world.appliance, agent, 1);
        seal(&world.appliance);
    }
    world.appliance.terminate();
    assert_eq!(check(&world.appliance, "state"), one("forked", None));
    assert_eq!(check(&world.appliance, "first"), []);
}

#[test]
fn heads_of_another_key_are_named_whatever_the_archive_says_of_its_keys() {
    let world = World::new(INTERVAL);
    let copy = world.copy("resigned");
    let pem = Command::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-outform", "DER"])
        .output()
        .unwrap();
    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pem.stdout).unwrap();
    let public = key.public_key().as_ref();
    let id: String = digest(&SHA256, public).as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut previous = "0".repeat(64);
    let heads: Vec<String> = copy
        .lines("heads.ndjson")
        .iter()
        .map(|line| {
            let mut head: Value = serde_json::from_str(line).unwrap();
            head["key"] = json!(id);
            head["previous"] = json!(previous);
            let signed = signed_text(&head);
            head["signature"] = json!(STANDARD.encode(key.sign(signed.as_bytes())));
            previous = digest(&SHA256, signed.as_bytes())
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            head.to_string()
        })
        .collect();
    copy.write_lines("heads.ndjson", &heads);
    let listed = json!({ "id": id, "public": STANDARD.encode(public), "since": 0 });
    copy.write_lines("keys.ndjson", &[listed.to_string()]);
    // With the keys that were kept.
    let found = copy.named();
    assert!(
        found
            .iter()
            .all(|(kind, _)| kind == "wrong-key" || kind == "forked"),
        "{found:?}"
    );
    assert_eq!(found[0].0, "wrong-key", "{found:?}");
    // With nothing but a head that was kept.
    let arguments = ["audit", "verify", "--json", "--directory", text(&copy.path)];
    let anchored = [&arguments[..], &["--head", text(&copy.head)]].concat();
    let found = named(&verify(&world.appliance, &anchored));
    assert_eq!(found, one("wrong-key", None));
    // Nothing that was kept: it all fits. This is what anchors are for.
    assert_eq!(named(&verify(&world.appliance, &arguments)), []);
}

/// What a head's signature covers, from docs/recording.md.
fn signed_text(head: &Value) -> String {
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut text = String::from("sallyport head 1\n");
    for field in ["number", "at", "reason", "previous", "key"] {
        text += &format!("{field} {}\n", word(&head[field]));
    }
    if let Some(pack) = head.get("pack") {
        let fields = ["number", "segments", "records", "root"].map(|field| word(&pack[field]));
        text += &format!("pack {}\n", fields.join(" "));
    }
    for shard in head["shards"].as_array().unwrap() {
        let fields = ["shard", "segments", "chain", "ring", "position"];
        text += &format!(
            "shard {}\n",
            fields.map(|field| word(&shard[field])).join(" ")
        );
    }
    for file in ["trail", "tombstones"] {
        let tip = &head[file];
        text += &format!("{file} {} {}\n", word(&tip["count"]), word(&tip["hash"]));
    }
    if let Some(key) = head.get("next_key") {
        text += &format!("next-key {}\n", word(key));
    }
    text
}

#[test]
fn heads_reach_the_log_and_webhooks_in_a_form_that_can_be_kept() {
    let server = orders_server();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut setup = Setup::for_server(&server);
    setup.tables = format!(
        "{INTERVAL}[log]\nformat = \"json\"\n[[webhook]]\nurl = \"http://{address}/\"\n\
         secret = \"file:orders-password\"\nform = \"json\"\n"
    );
    let appliance = Appliance::start(&setup);
    session(&appliance, "ada", 1);
    let sealed: Value = serde_json::from_str(&seal(&appliance)).unwrap();
    let told = loop {
        let body = request(&listener);
        if body["head"]["number"] == sealed["number"] {
            break body;
        }
    };
    assert_eq!(told["event"], "archive.head");
    assert_eq!(told["head"], sealed);
    appliance.wait_for_log(&format!("\"number\":{}", sealed["number"]));
    let log = appliance.log();
    let line = log
        .lines()
        .rfind(|line| line.contains("\"target\":\"head\""));
    for (name, kept) in [
        ("webhook", told.to_string()),
        ("log", line.unwrap().to_owned()),
    ] {
        let path = appliance.directory().join(name);
        fs::write(&path, kept).unwrap();
        let archive = appliance.recordings_path();
        let arguments = ["audit", "verify", "--json", "--directory", text(&archive)];
        let report = verify(
            &appliance,
            &[&arguments[..], &["--head", text(&path)]].concat(),
        );
        assert_eq!(
            (named(&report), &report["anchors"]),
            (vec![], &json!(1)),
            "{name}: {report}"
        );
    }
}

/// Takes one request, answers it with 200, and returns its body.
fn request(listener: &std::net::TcpListener) -> Value {
    use std::io::{BufRead, BufReader, Read, Write};
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(answer).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// The arguments of `audit hold`.
fn hold<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["audit", "hold"], arguments].concat()
}

#[test]
fn holds_and_what_was_done_are_listed_and_outlive_a_restart() {
    let mut world = World::new(INTERVAL);
    let id = world.sessions[0].clone();
    world
        .appliance
        .cli_text(&hold(&["add", &id, "--reason", "case 7"]));
    world
        .appliance
        .cli_text(&hold(&["add", "--agent", "grace"]));
    let again = world.appliance.cli(&hold(&["add", &id]));
    assert!(!again.status.success());
    let part = world.appliance.cli(&hold(&["add", &id[..20]]));
    assert!(
        !part.status.success(),
        "the beginning of an id may become another's"
    );
    world
        .appliance
        .cli_text(&hold(&["release", "--agent", "grace"]));
    world.appliance.terminate();
    world.appliance.resume();
    let holds = json_lines(&world.appliance.cli_text(&hold(&["list", "--json"])));
    assert_eq!(holds.len(), 1, "{holds:?}");
    assert_eq!(holds[0]["held"], json!({ "session": id }));
    assert_eq!(holds[0]["reason"], "case 7");
    let trail = json_lines(&world.appliance.cli_text(&["audit", "trail", "--json"]));
    let done: Vec<(&str, &str)> = trail
        .iter()
        .map(|entry| {
            (
                entry["action"].as_str().unwrap(),
                entry["object"].as_str().unwrap(),
            )
        })
        .collect();
    let of_session = format!("session:{id}");
    for expected in [
        ("hold-placed", of_session.as_str()),
        ("hold-placed", "agent:grace"),
        ("hold-released", "agent:grace"),
    ] {
        assert!(done.contains(&expected), "{done:?}");
    }
    let count = |action| done.iter().filter(|(verb, _)| *verb == action).count();
    assert_eq!((count("started"), count("stopped")), (2, 1), "{done:?}");
    assert_eq!(count("token-issued"), 5, "{done:?}");
    let uid = rustix::process::getuid().as_raw();
    let by_us = json!({ "kind": "operator", "uid": uid });
    assert!(trail.iter().any(|entry| entry["by"] == by_us));
}
