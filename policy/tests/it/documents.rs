//! The documentation says what the tables in the code say.

use std::fs;
use std::path::PathBuf;

use policy::{GUARDS, KEYS};

fn document(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

#[test]
fn the_table_of_classes_is_the_documented_one() {
    let path = document("policy-classes.md");
    let expected = policy::class::documentation();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap(), expected);
}

#[test]
fn every_key_and_guard_is_documented_as_the_code_has_it() {
    let text = fs::read_to_string(document("policy.md")).unwrap();
    let keys = KEYS
        .iter()
        .map(|key| format!("| `{}` | {} | {} |", key.name, key.value, key.meaning));
    let guards = GUARDS
        .iter()
        .map(|guard| format!("| `{}` | {} |", guard.name(), guard.meaning()));
    let missing: Vec<String> = keys
        .chain(guards)
        .filter(|row| !text.contains(row))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/policy.md lacks:\n{}",
        missing.join("\n")
    );
}
