//! What each spelling of a statement does.

use crate::support::effects;

/// One case a line: `text => effect; effect`. The order of effects does not matter.
#[test]
fn statements_have_the_effects_of_the_table() {
    let mut wrong = Vec::new();
    for line in include_str!("../data/effects.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (text, expected) = line.rsplit_once(" => ").unwrap();
        let text = text.replace("\\n", "\n");
        let mut got = effects(&text);
        got.sort();
        let mut want: Vec<_> = expected.split("; ").map(str::to_owned).collect();
        want.sort();
        if got != want {
            wrong.push(format!(
                "{text}\n   got {}\n  want {}",
                got.join("; "),
                want.join("; ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
