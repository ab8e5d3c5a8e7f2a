//! Repository checks that neither the compiler nor the lints can make; `docs/architecture.md` lists the invariants they hold.
//!
//! Reads the source tree as text. It does not build, run or parse anything, so a rule here is a line that may or may not
//! occur in a place: each check names the file and line, and the reason.

#![expect(
    clippy::expect_used,
    reason = "a check that cannot read the tree fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Largest file that belongs in git: transcripts and lock files stay far below.
const FILE_BYTES_MAX: u64 = 512 * 1024;

/// Words that claim without showing.
const FILLER: &[&str] = &[
    "robust",
    "seamless",
    "comprehensive",
    "blazing",
    "cutting-edge",
    "world-class",
    "effortless",
    "state-of-the-art",
    "production-ready",
    "battle-tested",
];

/// Hands each shard its listeners, once, before any traffic: the one lock near the data path.
const SEATS: &str = "appliance/src/shard/mailbox.rs";

/// Crates whose code may hold `unsafe` and name the executor.
const RUNTIME: &str = "runtime/";

/// One line of a source file, without what follows `//`.
struct Line<'a> {
    number: usize,
    code: &'a str,
    text: &'a str,
}

struct Source {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The lines before the file's unit tests: what ships.
    fn shipped(&self) -> impl Iterator<Item = Line<'_>> {
        self.lines()
            .take_while(|line| line.text.trim() != "#[cfg(test)]")
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.text.lines().enumerate().map(|(index, text)| Line {
            number: index + 1,
            code: text.find("//").map_or(text, |comment| &text[..comment]),
            text,
        })
    }

    /// Code that ends up in a crate, as against tests, benches and build scripts.
    fn ships(&self) -> bool {
        self.path.contains("/src/") && !self.is_test_module()
    }

    fn is_test_module(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
            || self.path.contains("_tests.rs")
    }

    fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("appliance is a member")
        .to_owned()
}

/// Every file that git tracks or would add, found by walking, since a source archive has no git.
fn files() -> Vec<PathBuf> {
    let skipped = [
        "target",
        ".git",
        "node_modules",
        "corpus",
        "artifacts",
        "__pycache__",
    ];
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let entry = entry.expect("a readable entry");
            let kind = entry.file_type().expect("a file type");
            let name = entry.file_name().into_string().expect("a UTF-8 file name");
            if kind.is_dir() && !skipped.contains(&name.as_str()) {
                folders.push(entry.path());
            } else if kind.is_file() && name != ".git" {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root())
        .expect("inside the repository")
        .to_str()
        .expect("UTF-8")
        .to_owned()
}

fn sources() -> Vec<Source> {
    texts("rs")
}

fn texts(extension: &str) -> Vec<Source> {
    files()
        .iter()
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| Source {
            path: relative(path),
            text: fs::read_to_string(path).expect("UTF-8 text"),
        })
        .collect()
}

fn check(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Fails for each shipped line that holds one of `words` in a file outside `allowed`.
fn check_absent(words: &[&str], allowed: &[&str], reason: &str) {
    check_absent_in(
        sources()
            .iter()
            .filter(|source| source.ships() && !source.is_under(allowed)),
        words,
        reason,
    );
}

fn check_absent_in<'a>(sources: impl Iterator<Item = &'a Source>, words: &[&str], reason: &str) {
    let mut problems = Vec::new();
    for source in sources {
        for line in source.shipped() {
            for word in words.iter().filter(|word| holds_word(line.code, word)) {
                problems.push(format!(
                    "{}:{}: `{word}`: {reason}",
                    source.path, line.number
                ));
            }
        }
    }
    check(problems);
}

/// Whether `code` holds `word` with no identifier character directly around it.
fn holds_word(code: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let joined_before = word.starts_with(part_of_name) && before.is_some_and(part_of_name);
        let joined_after = word.ends_with(part_of_name) && after.is_some_and(part_of_name);
        !joined_before && !joined_after
    })
}

#[test]
fn every_file_says_what_it_is() {
    let mut first_lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut problems = Vec::new();
    for source in sources() {
        match source
            .text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("//! "))
        {
            Some(line) => first_lines
                .entry(line.to_owned())
                .or_default()
                .push(source.path),
            None => problems.push(format!("{}: does not open with `//!`", source.path)),
        }
    }
    for (line, paths) in first_lines.into_iter().filter(|(_, paths)| paths.len() > 1) {
        problems.push(format!("{}: the same first line: {line}", paths.join(", ")));
    }
    check(problems);
}

#[test]
fn every_file_is_reached_by_a_mod_line() {
    let sources = sources();
    let mut problems = Vec::new();
    for source in sources.iter().filter(|source| !is_root(&source.path)) {
        let path = Path::new(&source.path);
        let (name, folder) = match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod") => (
                path.parent().and_then(Path::file_name),
                path.parent().and_then(Path::parent),
            ),
            _ => (path.file_stem(), path.parent()),
        };
        let name = name.and_then(|name| name.to_str()).expect("a module name");
        let folder = folder.and_then(Path::to_str).expect("a folder");
        let declared = sources
            .iter()
            .filter(|parent| parent.path != source.path && is_parent(&parent.path, folder))
            .any(|parent| parent.lines().any(|line| declares(line.code, name)));
        if !declared {
            problems.push(format!("{}: no `mod {name}` line reaches it", source.path));
        }
    }
    check(problems);
}

/// Whether a file can hold the `mod` line of a module that lives in `folder`.
fn is_parent(path: &str, folder: &str) -> bool {
    let beside = format!("{folder}.rs");
    path == beside
        || ["mod", "lib", "main"].iter().any(|name| path == format!("{folder}/{name}.rs"))
        // The root of a test binary, `tests/NAME.rs`, declares modules beside itself.
        || (folder.ends_with("/tests") && Path::new(path).parent() == Some(Path::new(folder)))
}

fn declares(code: &str, name: &str) -> bool {
    let mut words = code.trim().trim_end_matches(';').split_whitespace();
    words.any(|word| word == "mod") && words.next() == Some(name)
}

/// Files that cargo finds by itself.
fn is_root(path: &str) -> bool {
    let path = Path::new(path);
    let folder = path
        .parent()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str());
    let name = path.file_name().and_then(|name| name.to_str());
    matches!(name, Some("lib.rs" | "main.rs" | "build.rs"))
        || matches!(
            folder,
            Some("tests" | "benches" | "examples" | "bin" | "fuzz_targets")
        )
}

#[test]
fn only_runtime_holds_unsafe_code() {
    check_absent(&["unsafe"], &[RUNTIME], "unsafe code belongs in runtime");
    let mut problems = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.ships() && !source.is_under(&[RUNTIME]))
    {
        let crate_root =
            source.path.ends_with("src/lib.rs") || source.path.ends_with("src/main.rs");
        if crate_root && !source.text.contains("#![forbid(unsafe_code)]") {
            problems.push(format!("{}: lacks #![forbid(unsafe_code)]", source.path));
        }
    }
    check(problems);
}

#[test]
fn only_runtime_names_the_executor() {
    check_absent(
        &["glommio", "io_uring"],
        &[RUNTIME],
        "nothing of glommio shows through runtime",
    );
}

#[test]
fn tokio_stays_in_the_control_plane_and_in_mailboxes() {
    check_absent(
        &["tokio"],
        &[
            "appliance/src/control/",
            "appliance/src/cli/",
            "appliance/src/main.rs",
            // Runs on the control thread.
            "appliance/src/approvals/broker.rs",
            RUNTIME,
        ],
        "a shard does not wait for tokio",
    );
    let runtime = sources();
    check_absent_in(
        runtime
            .iter()
            .filter(|source| source.ships() && source.is_under(&[RUNTIME])),
        &[
            "tokio::net",
            "tokio::runtime",
            "tokio::spawn",
            "tokio::time",
            "tokio::fs",
        ],
        "runtime uses tokio's channels only",
    );
}

#[test]
fn codecs_and_policy_do_no_io() {
    let sources = sources();
    check_absent_in(
        sources
            .iter()
            .filter(|source| source.ships() && source.is_under(&["codecs/", "policy/"])),
        &[
            "std::net",
            "std::fs",
            "std::io",
            "std::env",
            "std::thread",
            "std::process",
            "std::os",
            "Instant",
            "SystemTime",
            "tracing",
            "println!",
            "eprintln!",
            "Mutex",
            "RwLock",
            "Arc<Mutex",
        ],
        "leaves take bytes and values, and return values",
    );
}

#[test]
fn leaves_list_no_crate_of_ours() {
    let mut problems = Vec::new();
    for leaf in ["codecs", "policy", "runtime"] {
        let manifest =
            fs::read_to_string(root().join(leaf).join("Cargo.toml")).expect("a manifest");
        for ours in ["appliance", "codecs", "policy", "runtime", "loadgen"] {
            if manifest.lines().any(|line| {
                line.starts_with(&format!("{ours}.")) || line.starts_with(&format!("{ours} "))
            }) {
                problems.push(format!("{leaf}/Cargo.toml: depends on {ours}"));
            }
        }
    }
    check(problems);
}

#[test]
fn the_data_path_has_one_clock() {
    check_absent(
        &["Instant::now", "SystemTime::now", "UNIX_EPOCH.elapsed"],
        &[
            RUNTIME,
            "appliance/src/control/",
            "appliance/src/cli/",
            "appliance/src/main.rs",
        ],
        "time comes from runtime::now and runtime::unix_time",
    );
}

#[test]
fn only_upstream_opens_connections() {
    check_absent(
        &[
            "Stream::connect",
            "Stream::connect_unix",
            "UnixStream::connect",
            "TcpStream::connect",
        ],
        &[
            RUNTIME,
            "appliance/src/upstream/",
            "appliance/src/control/client.rs",
            // Another program: it calls what it measures.
            "loadgen/src/agents.rs",
            "loadgen/src/protocols/",
        ],
        "a connection is opened with a Permit, in upstream",
    );
}

#[test]
fn the_data_path_has_no_locks_and_no_unbounded_channels() {
    let sources = sources();
    let places = [
        "appliance/src/connection.rs",
        "appliance/src/relay",
        "appliance/src/protocols",
        "appliance/src/shard",
        "appliance/src/upstream",
    ];
    check_absent_in(
        sources
            .iter()
            .filter(|source| source.ships() && source.is_under(&places) && source.path != SEATS),
        &[
            "Mutex",
            "RwLock",
            "AtomicU64",
            "AtomicUsize",
            "AtomicBool",
            "OnceLock",
            "LazyLock",
        ],
        "a shard owns its state; counters are cells, summed when asked for",
    );
    check_absent(
        &["unbounded_channel", "unbounded"],
        &[],
        "every queue has a bound",
    );
}

#[test]
fn protocols_do_not_import_each_other() {
    let mut problems = Vec::new();
    let folder = "appliance/src/protocols/";
    let sources = sources();
    let protocol_of = |path: &str| -> Option<String> {
        let rest = path.strip_prefix(folder)?;
        let name = rest.split('/').next()?.trim_end_matches(".rs");
        (name != "mod").then(|| name.to_owned())
    };
    let protocols: BTreeSet<String> = sources
        .iter()
        .filter_map(|source| protocol_of(&source.path))
        .collect();
    for source in &sources {
        let Some(own) = protocol_of(&source.path) else {
            continue;
        };
        // Kubernetes is an API over HTTP: the one pair.
        let others = protocols
            .iter()
            .filter(|other| **other != own && !(own == "kubernetes" && *other == "http"));
        for other in others {
            for line in source
                .shipped()
                .filter(|line| holds_word(line.code, &format!("protocols::{other}")))
            {
                problems.push(format!(
                    "{}:{}: {own} imports {other}",
                    source.path, line.number
                ));
            }
        }
    }
    check(problems);
}

#[test]
fn a_lost_result_says_why() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| source.ships()) {
        let mut commented = false;
        for line in source.shipped() {
            let has_comment = line.text.contains("//");
            // Writing to a String cannot fail.
            let lost =
                line.code.trim_start().starts_with("let _ =") && !line.code.contains("write");
            if lost && !commented && !has_comment {
                problems.push(format!(
                    "{}:{}: `let _ =` without a reason",
                    source.path, line.number
                ));
            }
            commented = has_comment;
        }
    }
    check(problems);
}

#[test]
fn no_unfinished_work_and_no_empty_test_names() {
    // Spelled in two halves, so that this file passes its own check.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
    ];
    let ignored = concat!("#[ig", "nore");
    let mut problems = Vec::new();
    for source in sources() {
        for line in source.lines() {
            for mark in marks {
                let marked = line
                    .text
                    .match_indices(mark)
                    .any(|(at, _)| !line.text[at..].starts_with(&format!("{mark}(#")));
                if marked && holds_word(line.text, mark) {
                    problems.push(format!(
                        "{}:{}: {mark} without an issue number",
                        source.path, line.number
                    ));
                }
            }
            if line.code.contains(concat!("fn te", "st_")) {
                problems.push(format!(
                    "{}:{}: a test's name is a claim",
                    source.path, line.number
                ));
            }
            if line.code.trim_start().starts_with(ignored) {
                problems.push(format!(
                    "{}:{}: assert today's behaviour instead",
                    source.path, line.number
                ));
            }
        }
    }
    check(problems);
}

#[test]
fn files_in_the_tree_are_small() {
    let problems = files()
        .iter()
        .filter_map(|path| {
            let bytes = fs::metadata(path).expect("metadata").len();
            (bytes > FILE_BYTES_MAX).then(|| format!("{}: {bytes} bytes", relative(path)))
        })
        .collect();
    check(problems);
}

#[test]
fn documents_use_no_filler() {
    let mut problems = Vec::new();
    for document in texts("md") {
        for (index, line) in document.text.lines().enumerate() {
            let lower = line.to_lowercase();
            for word in FILLER.iter().filter(|word| holds_word(&lower, word)) {
                problems.push(format!("{}:{}: {word}", document.path, index + 1));
            }
        }
    }
    check(problems);
}

#[test]
fn relative_links_in_documents_lead_somewhere() {
    let mut problems = Vec::new();
    for document in texts("md") {
        let folder = root()
            .join(&document.path)
            .parent()
            .expect("a folder")
            .to_owned();
        for target in document
            .text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            let outside =
                target.contains("://") || file.is_empty() || file.contains(char::is_whitespace);
            if !outside && !folder.join(file).exists() {
                problems.push(format!("{}: link to {target}", document.path));
            }
        }
    }
    check(problems);
}

#[test]
fn each_promise_of_the_threat_model_names_tests_that_exist() {
    let model = fs::read_to_string(root().join("docs/threat-model.md")).expect("the threat model");
    let promises = model
        .split("\n## Promises")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("promises");
    let tests: BTreeSet<String> = sources()
        .iter()
        .flat_map(|source| names_of_tests(&source.text))
        .collect();
    let mut problems = Vec::new();
    let mut rows = 0;
    for row in promises
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| promise"))
    {
        rows += 1;
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [promise, held_by] = cells.as_slice() else {
            problems.push(format!("not two cells: {row}"));
            continue;
        };
        let named: Vec<&str> = held_by.split('`').skip(1).step_by(2).collect();
        if named.is_empty() && *held_by != "no test yet" {
            problems.push(format!("names no test: {promise}"));
        }
        for name in named
            .iter()
            .filter(|name| !tests.contains(name.rsplit("::").next().unwrap_or_default()))
        {
            problems.push(format!("no test called {name}: {promise}"));
        }
    }
    assert!(rows > 0, "the threat model has no promises");
    check(problems);
}

/// Names of tests are told from other words in code style by their length.
#[test]
fn tests_that_the_protocols_documents_name_exist() {
    let tests: BTreeSet<String> = sources()
        .iter()
        .flat_map(|source| names_of_tests(&source.text))
        .collect();
    let mut problems = Vec::new();
    let mut named = 0;
    for document in texts("md")
        .iter()
        .filter(|document| document.path.starts_with("docs/protocols/"))
    {
        for name in document.text.split('`').skip(1).step_by(2) {
            let is_name = name.matches('_').count() > 3
                && name
                    .bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
            if is_name {
                named += 1;
                if !tests.contains(name) {
                    problems.push(format!("{}: no test called {name}", document.path));
                }
            }
        }
    }
    assert!(named > 0, "the documents name no tests");
    check(problems);
}

fn names_of_tests(text: &str) -> Vec<String> {
    text.split("#[test]")
        .skip(1)
        .filter_map(|rest| rest.split("fn ").nth(1))
        .filter_map(|rest| rest.split('(').next())
        .map(str::to_owned)
        .collect()
}
