//! Stock clients hold the same dialogue directly and through the appliance: what they see is equal.
//!
//! With the server that Debian has; `make test-matrix` does it with every other as well.

use crate::clients::{Client, transcripts};
use crate::postgres::Version;

fn check_same(client: Client) {
    let transcripts = transcripts(client, Version::newest());
    if let Some(difference) = transcripts.difference() {
        panic!("{}: {difference}", client.name());
    }
}

#[test]
fn every_message_of_the_protocol_comes_back_the_same() {
    check_same(Client::Wire);
}

#[test]
fn psql_sees_the_same() {
    check_same(Client::Psql(Version::newest()));
}

#[test]
fn psycopg_sees_the_same() {
    check_same(Client::Psycopg);
}

#[test]
fn asyncpg_sees_the_same() {
    check_same(Client::Asyncpg);
}

#[test]
fn node_postgres_sees_the_same() {
    check_same(Client::NodePostgres);
}

#[test]
fn pgjdbc_sees_the_same() {
    check_same(Client::Pgjdbc);
}

#[test]
fn pgbench_sees_the_same() {
    check_same(Client::Pgbench(Version::newest()));
}

#[test]
fn pg_dump_and_pg_restore_see_the_same() {
    check_same(Client::PgDump(Version::newest()));
}
