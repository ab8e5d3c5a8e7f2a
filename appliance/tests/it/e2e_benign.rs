//! What ordinary tools send, under rules and masks that somebody would really have: all of it passes,
//! and the answers are those of a direct connection.

use std::fs;
use std::path::Path;

use crate::e2e_metadata::{Section, World, lasting, sections};
use crate::wire::{Message, Wire};

/// Reads everywhere, writes to some tables, destroys nothing, and sees no personal data.
const RULES: &str = r#"
[[rule]]
name    = "services-read"
groups  = ["services"]
targets = ["orders"]
allow   = { statements = ["read", "session", "transaction", "cursor", "prepare"] }

[[rule]]
name    = "services-write-their-own"
groups  = ["services"]
targets = ["orders"]
allow   = { statements = ["write", "lock"], tables = [
    "public.django_session", "public.jobs", "public.jobs_id_seq", "public.products", "public.lines",
] }

[[rule]]
name    = "no-destruction"
groups  = ["*"]
targets = ["*"]
deny    = { statements = [
    "drop", "truncate", "alter", "grant", "role", "file", "copy-program", "delete-without-where", "update-without-where",
] }

[[mask]]
name    = "card-numbers"
targets = ["orders"]
columns = ["customers.card_number", "auth_user.password"]
with    = "redact"

[[mask]]
name    = "pii-anywhere"
targets = ["*"]
detect  = ["payment-card", "us-ssn", "email", "iban", "jwt", "private-key"]
with    = "redact"
"#;

/// Questions that are refused under masks of columns: two read a column of a function's rows, which
/// lineage takes for a call, one asks of a relation that it does not name.
const UNTRACED: [&str; 3] = [
    "sequences",
    "who has which privilege",
    "indexes by their columns",
];

fn world() -> World {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/benign/schema.sql");
    World::new(RULES, &fs::read_to_string(path).unwrap())
}

fn through(world: &World) -> Wire {
    world.appliance.login("robot", "services")
}

/// Runs all sections in one session, each message's answer by itself.
fn run(wire: &mut Wire, sections: &[Section], extended: bool) -> Vec<Vec<Message>> {
    let answers = sections.iter().map(|section| {
        if !extended && section.values.is_empty() {
            return wire.query(&section.body);
        }
        let values: Vec<_> = section
            .values
            .iter()
            .map(|value| Some(value.as_str()))
            .collect();
        wire.parse("", &section.body);
        wire.bind("", "", &values);
        wire.describe_portal("");
        wire.execute("", 0);
        wire.sync();
        wire.until_ready()
    });
    answers.collect()
}

/// The sections of which the answers are not those of a direct connection.
fn harmed(world: &World, sections: &[Section], extended: bool) -> Vec<String> {
    // One after the other, since transactions of both would wait for each other.
    let expected = run(&mut world.directly(), sections, extended);
    let seen = run(&mut through(world), sections, extended);
    let mut harmed = Vec::new();
    for ((section, expected), seen) in sections.iter().zip(expected).zip(seen) {
        assert!(
            expected.iter().all(|message| message.tag != 'E'),
            "{} fails directly too: {expected:?}",
            section.name
        );
        let (expected, seen) = (lasting(&expected, section), lasting(&seen, section));
        if expected != seen {
            let differs = |(one, other): &(&Message, &Message)| one != other;
            let first = expected.iter().zip(&seen).find(differs);
            harmed.push(format!("{}: {first:?}", section.name));
        }
    }
    harmed
}

#[test]
fn what_frameworks_and_reports_send_passes_unharmed() {
    let world = world();
    let mut all = 0;
    let mut problems = Vec::new();
    for file in ["benign/frameworks.sql", "benign/reports.sql"] {
        let sections = sections(file);
        all += sections.len();
        for extended in [false, true] {
            problems.extend(harmed(&world, &sections, extended));
        }
    }
    assert!(all >= 100);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn what_tools_ask_of_the_catalogue_passes_unharmed_under_masks() {
    let world = world();
    let files = ["dbeaver", "pgadmin", "metabase", "drivers"];
    let all = files.map(|file| sections(&format!("metadata/{file}.sql")));
    let allowed = all
        .into_iter()
        .flatten()
        .filter(|section| section.refused.is_none() && !UNTRACED.contains(&section.name.as_str()));
    // Settings that a section changes are the next one's too, as in e2e_metadata.
    let problems = harmed(&world, &allowed.collect::<Vec<_>>(), false);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
