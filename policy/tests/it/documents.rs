//! The documentation says what the tables in the code say.

use std::fs;
use std::path::PathBuf;

use policy::GUARDS;

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
fn the_tables_of_keys_are_the_documented_ones() {
    const BEGIN: &str = "<!-- keys: generated from policy/src/rule/keys.rs -->\n";
    const END: &str = "<!-- end of keys -->\n";
    let path = document("policy.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (keys, after) = rest.split_once(END).unwrap();
    let expected = format!("\n{}", policy::key_documentation());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(keys, expected);
}

#[test]
fn every_guard_is_documented_as_the_code_has_it() {
    let text = fs::read_to_string(document("policy.md")).unwrap();
    let guards = GUARDS
        .iter()
        .map(|guard| format!("| `{}` | {} |", guard.name(), guard.meaning()));
    let missing: Vec<String> = guards.filter(|row| !text.contains(row)).collect();
    assert!(
        missing.is_empty(),
        "docs/policy.md lacks:\n{}",
        missing.join("\n")
    );
}
