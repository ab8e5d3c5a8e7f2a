//! The table of built-in functions against a real server; `make test-matrix` asks every version.

use crate::functions::missing;
use crate::postgres::Version;

#[test]
fn every_built_in_function_is_in_the_table() {
    let missing = missing(Version::newest());
    assert!(missing.is_empty(), "policy/tools/functions.py: {missing:?}");
}
