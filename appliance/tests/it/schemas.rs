//! The JSON Schemas that are kept in `docs/schema`, by a validator of others.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use crate::appliance::POLICY;
use crate::clients::python;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What the validator says against a file, as TOML; nothing where it fits.
fn misfits(schema: &str, toml: &str) -> String {
    let mut child = python("python", "fits_schema.py")
        .arg(root().join("docs/schema").join(schema))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(toml.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!said.is_empty())));
    said
}

#[test]
fn the_examples_fit_their_schemas() {
    let default = fs::read_to_string(root().join("packaging/config/sallyport.toml")).unwrap();
    let is_prose = |line: &&str| line.starts_with("# ") || *line == "#";
    let keys = default.lines().filter(|line| !is_prose(line));
    let uncommented: Vec<&str> = keys.map(|l| l.strip_prefix('#').unwrap_or(l)).collect();
    assert_eq!(misfits("configuration.json", &uncommented.join("\n")), "");
    let document = fs::read_to_string(root().join("docs/policy.md")).unwrap();
    let example = document.split("```toml\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    assert_eq!(misfits("policy.json", example), "");
    assert_eq!(misfits("policy.json", POLICY), "");
}

#[test]
fn mistakes_of_shape_do_not_fit() {
    let rule = "[[rule]]\nname = \"r\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n";
    for (rest, said) in [
        (
            "allow = { statements = [\"selct\"] }",
            "'selct' is not one of",
        ),
        (
            "alow = { statements = [\"select\"] }",
            "'alow' was unexpected",
        ),
        (
            "allow = { statements = [\"read\"] }\ndeny = { statements = [\"read\"] }",
            "valid under each of",
        ),
        (
            "hold = { statements = [\"read\"] }",
            "'approvers' is a dependency",
        ),
        ("", "not valid under any of"),
    ] {
        let found = misfits("policy.json", &format!("{rule}{rest}\n"));
        assert!(found.contains(said), "{rest}: {found}");
    }
    for (text, said) in [
        ("[limits]\nsessions = 0", "less than the minimum"),
        (
            "[[target]]\nname = \"a\"",
            "'address' is a required property",
        ),
        ("[log]\nformat = \"xml\"", "'xml' is not one of"),
        ("[nothing]\n", "'nothing' was unexpected"),
    ] {
        let found = misfits("configuration.json", text);
        assert!(found.contains(said), "{text}: {found}");
    }
}
