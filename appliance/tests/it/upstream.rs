//! The upstream side against a real PostgreSQL and against scripted hostile servers.

use crate::certificates::Authority;
use crate::postgres::{Options, Server, ServerTls};

#[test]
fn the_test_server_serves_sql_over_tls() {
    let authority = Authority::new("test");
    let certified = authority.server(&["localhost"]);
    let mut server = Server::start(Options {
        tls: Some(ServerTls {
            chain_pem: certified.chain_pem,
            key_pem: certified.key_pem,
            client_roots_pem: None,
        }),
        setup: "create table t (a int); insert into t values (7)".into(),
        ..Options::default()
    });
    assert_eq!(server.psql("select a from t"), "7");
    assert_eq!(server.psql("show ssl"), "on");
    server.stop_fast();
    server.resume();
    assert_eq!(server.psql("select a from t"), "7");
}
