//! What fuzzing found worth keeping, given to every target by the ordinary compiler.
//!
//! A seed that once broke something stays here for good.

#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[test]
fn every_seed_keeps_the_property_of_its_target() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let mut files: BTreeSet<String> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut broken = Vec::new();
    for (name, property) in fuzz::TARGETS {
        let file = format!("{name}.txt");
        assert!(files.remove(&file), "{file} is missing");
        let seeds = fs::read_to_string(directory.join(&file)).unwrap();
        assert!(seeds.lines().count() > 3, "{file} is all but empty");
        for (index, line) in seeds.lines().enumerate() {
            let seed = STANDARD.decode(line).unwrap();
            if catch_unwind(|| property(&seed)).is_err() {
                broken.push(format!("{file}:{}", index + 1));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
    assert_eq!(files, BTreeSet::new(), "seeds of no target");
}
