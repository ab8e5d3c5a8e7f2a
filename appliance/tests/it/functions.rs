//! Whether `policy/src/sql/functions.txt` has what a server has.

use std::collections::HashSet;

use crate::postgres::{Options, Server, Version};

const TABLE: &str = include_str!("../../../policy/src/sql/functions.txt");

/// Begins the part that no person has reviewed name by name.
const TAKEN: &str = "; --- taken from servers";

/// Everything that a server of this version has and the table lacks.
pub fn missing(version: Version) -> Vec<String> {
    let server = Server::start(Options {
        version: Some(version),
        ..Options::default()
    });
    let (reviewed, _) = TABLE.split_once(TAKEN).unwrap();
    let (reviewed, all) = (words(reviewed), words(TABLE));
    assert!(all.len() > 3000 && reviewed.len() > 200);
    let functions = server.psql(
        "select distinct proname, provolatile from pg_proc
         where pronamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)",
    );
    let operators = server.psql("select distinct oprname from pg_operator");
    let relations = server.psql(
        "select relname from pg_class where relnamespace = 'pg_catalog'::regnamespace and relkind in ('r', 'v')",
    );
    assert!(functions.lines().count() > 2500);
    let functions = functions.lines().filter_map(|line| {
        let (name, volatility) = line.split_once('|').unwrap();
        // What a volatile function does is said by a person.
        let is_there = if volatility == "v" {
            reviewed.contains(name)
        } else {
            all.contains(name)
        };
        (!is_there).then(|| format!("function {name}"))
    });
    let others = operators
        .lines()
        .chain(relations.lines())
        .filter(|name| !all.contains(name));
    functions.chain(others.map(str::to_owned)).collect()
}

fn words(text: &str) -> HashSet<&str> {
    text.lines()
        .filter(|line| !line.starts_with([';', '[']))
        .flat_map(str::split_whitespace)
        .collect()
}
