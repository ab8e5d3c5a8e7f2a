//! The dialogue of tokio-postgres.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt, future, stream};
use tokio::sync::mpsc;
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::error::DbError;
use tokio_postgres::types::{Json, PgLsn, ToSql, Type};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, Error, IsolationLevel, NoTls, Row, SimpleQueryMessage,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{env, title};

pub async fn run() {
    println!("# tokio-postgres {}", version());
    let (mut client, mut told) = connect().await;
    simple(&client).await;
    extended(&client).await;
    types(&client).await;
    failures(&client, &mut told).await;
    transactions(&mut client).await;
    copies(&client).await;
    portals(&mut client).await;
    pipelines(&client).await;
    notifications(&client, &mut told).await;
    changes(&client).await;
    cancel(&client).await;
}

fn version() -> &'static str {
    env!("TOKIO_POSTGRES_VERSION")
}

fn configuration() -> Config {
    let mut config = Config::new();
    config
        .host(env("PGHOST"))
        .port(env("PGPORT").parse().expect("a port"))
        .user(env("PGUSER"))
        .dbname(env("PGDATABASE"))
        .password(env("PGPASSWORD"))
        .options("-c work_mem=5MB")
        .application_name("tokio");
    config
}

fn tls() -> Option<MakeRustlsConnect> {
    let path = std::env::var("PGSSLROOTCERT").ok()?;
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(path).expect("a readable certificate");
    for certificate in rustls::pki_types::pem::PemObject::pem_slice_iter(&pem) {
        let certificate: rustls::pki_types::CertificateDer<'_> =
            certificate.expect("a certificate");
        roots.add(certificate).expect("an authority");
    }
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Some(MakeRustlsConnect::new(config))
}

async fn connect() -> (Client, mpsc::UnboundedReceiver<AsyncMessage>) {
    let mut config = configuration();
    match tls() {
        Some(tls) => {
            config.ssl_mode(tokio_postgres::config::SslMode::Require);
            let (client, connection) = config.connect(tls).await.expect("a session");
            (client, follow(connection))
        }
        None => {
            let (client, connection) = config.connect(NoTls).await.expect("a session");
            (client, follow(connection))
        }
    }
}

fn follow<S, T>(mut connection: Connection<S, T>) -> mpsc::UnboundedReceiver<AsyncMessage>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = pin!(stream::poll_fn(
            move |context| connection.poll_message(context)
        ));
        while let Some(Ok(message)) = messages.next().await {
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    told
}

fn fields(error: &DbError) -> String {
    format!(
        "{} {} {:?} detail={:?} hint={:?} position={:?} where={:?} schema={:?} table={:?} column={:?} datatype={:?} constraint={:?} file={:?} line={:?} routine={:?}",
        error.severity(),
        error.code().code(),
        error.message(),
        error.detail(),
        error.hint(),
        error.position(),
        error.where_(),
        error.schema(),
        error.table(),
        error.column(),
        error.datatype(),
        error.constraint(),
        error.file(),
        error.line(),
        error.routine(),
    )
}

fn said<T: std::fmt::Debug>(result: Result<T, Error>) {
    match result {
        Ok(value) => println!("{value:?}"),
        Err(error) => match error.as_db_error() {
            Some(error) => println!("{}", fields(error)),
            None => println!("{error}"),
        },
    }
}

fn shown(row: &Row) {
    for (index, column) in row.columns().iter().enumerate() {
        let raw = row.try_get::<_, Raw>(index).map(|raw| raw.0);
        println!(
            "  {} {} {} table={:?} attribute={:?} {raw:?}",
            column.name(),
            column.type_().oid(),
            column.type_(),
            column.table_oid(),
            column.column_id(),
        );
    }
}

/// A value as it came, in binary.
struct Raw(Option<Vec<u8>>);

impl<'a> tokio_postgres::types::FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw.to_vec())))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

async fn simple(client: &Client) {
    title("simple");
    for text in [
        "select 1 as a, null as b; select 'x'",
        "",
        "select 1; selekt",
        "create temp table made (a int, b text); insert into made values (1, 'x'); select * from made",
        "select 1/0",
        "set timezone = 'Asia/Tokyo'; show timezone; reset timezone",
    ] {
        match client.simple_query(text).await {
            Ok(messages) => {
                for message in messages {
                    match message {
                        SimpleQueryMessage::Row(row) => {
                            let values: Vec<_> =
                                (0..row.len()).map(|index| row.get(index)).collect();
                            println!("row {values:?}");
                        }
                        SimpleQueryMessage::CommandComplete(rows) => println!("complete {rows}"),
                        SimpleQueryMessage::RowDescription(columns) => {
                            println!(
                                "columns {:?}",
                                columns.iter().map(|c| c.name()).collect::<Vec<_>>()
                            );
                        }
                        _ => println!("something else"),
                    }
                }
            }
            Err(error) => said::<()>(Err(error)),
        }
    }
    said(
        client
            .batch_execute("create temp table other (a int); drop table other")
            .await,
    );
}

async fn extended(client: &Client) {
    title("extended");
    let statement = client
        .prepare("select id, name, $2::text from customers where id = $1")
        .await
        .expect("prepared");
    println!("{:?} {:?}", statement.params(), statement.columns());
    for id in [1, 2, 1000] {
        for row in client
            .query(&statement, &[&id, &"it's"])
            .await
            .expect("rows")
        {
            shown(&row);
        }
    }
    said(
        client
            .execute("insert into made values ($1, $2)", &[&7, &None::<String>])
            .await,
    );
    said(client.execute("update made set b = 'y'", &[]).await);
    said(
        client
            .query_typed(
                "select $1 + $2",
                &[(&1i32, Type::INT4), (&2i32, Type::INT4)],
            )
            .await
            .map(|rows| rows.len()),
    );
    said(
        client
            .query_one("select 1 where false", &[])
            .await
            .map(|_| ()),
    );
    said(
        client
            .query_opt("select 1 where false", &[])
            .await
            .map(|row| row.is_some()),
    );
    drop(statement);
    said(
        client
            .query("select count(*) from pg_prepared_statements", &[])
            .await
            .map(|rows| rows.len()),
    );
}

async fn types(client: &Client) {
    title("types");
    said(client.batch_execute("create type mood as enum ('sad', 'happy'); create type spot as (x int, m mood); create domain small as int; create type spans as range (subtype = float8)").await);
    let text = "select true, 1::int2, 2::int4, 3::int8, 1.5::float4, 'NaN'::float8, 1.50::numeric, 'x'::text, 'y'::char(3), '\\x00ff'::bytea, date '2026-11-26', date 'infinity',
        time '12:34:56', timetz '12:34:56+02', timestamptz '2026-11-26 12:00+00', interval '1 year 2 days', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '{1,null}'::int[], '{\"a\": 1}'::jsonb,
        '(1,2)'::point, '[1,5)'::int4range, row(1, 'x'), '10.0.0.1/8'::inet, null::int, b'101', '12.34'::money, 'a b'::tsvector, '16/B374D848'::pg_lsn,
        'sad'::mood, row(1, 'happy')::spot, 5::small, '[1.5,2.5]'::spans, array[row(1, 'sad')::spot]";
    let row = client.query_one(text, &[]).await.expect("a row");
    shown(&row);
    println!(
        "{:?} {:?}",
        row.columns()[29].type_().kind(),
        row.columns()[31].type_().kind()
    );
    let values: [(&str, &(dyn ToSql + Sync)); 8] = [
        ("bytea", &vec![7u8; 100_000]),
        ("jsonb", &Json(serde_json::json!({"a": [1, null]}))),
        ("uuid", &uuid::Uuid::from_u128(7)),
        (
            "timestamptz",
            &time::macros::datetime!(2026-11-26 12:00 UTC),
        ),
        ("int[]", &vec![Some(1), None]),
        ("pg_lsn", &PgLsn::from(42)),
        ("text", &"\u{e9}\u{4e16}\u{1f600}"),
        ("float8", &f64::NEG_INFINITY),
    ];
    for (name, value) in values {
        let row = client
            .query_one(
                &format!("select md5($1::{name}::text), pg_typeof($1)::text"),
                &[value],
            )
            .await
            .expect("a row");
        println!(
            "{name} {} {}",
            row.get::<_, String>(0),
            row.get::<_, String>(1)
        );
    }
}

async fn failures(client: &Client, told: &mut mpsc::UnboundedReceiver<AsyncMessage>) {
    title("failures");
    for text in [
        "select 1/0",
        "selekt",
        "insert into orders values (1, 1, 1)",
        "insert into orders values (70001, 70001, 1)",
        "select no_such_column from customers",
        "do $$ begin raise exception 'm' using detail = 'd', hint = 'h', errcode = 'P0042', column = 'c', constraint = 'n', datatype = 't', table = 'b', schema = 's'; end $$",
        "do $$ begin raise warning 'w' using hint = 'h'; execute 'select 1/0'; end $$",
        "select 1; select 2",
    ] {
        said(client.execute(text, &[]).await);
    }
    said(client.query("select $1::int", &[&"text"]).await.map(|_| ()));
    while let Ok(message) = told.try_recv() {
        asynchronous(&message);
    }
}

fn asynchronous(message: &AsyncMessage) {
    match message {
        AsyncMessage::Notice(notice) => println!("notice {}", fields(notice)),
        AsyncMessage::Notification(notification) => println!(
            "notification {} {:?}",
            notification.channel(),
            notification.payload()
        ),
        _ => println!("another message"),
    }
}

async fn transactions(client: &mut Client) {
    title("transactions");
    let mut transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::Serializable)
        .start()
        .await
        .expect("begun");
    said(
        transaction
            .execute("insert into made values (100, 'kept')", &[])
            .await,
    );
    {
        let inner = transaction.savepoint("s").await.expect("a savepoint");
        said(inner.execute("select 1/0", &[]).await);
        said(inner.execute("select 1", &[]).await);
        said(inner.rollback().await);
    }
    said(
        transaction
            .query_one("show transaction_isolation", &[])
            .await
            .map(|row| row.get::<_, String>(0)),
    );
    said(transaction.commit().await);
    {
        let abandoned = client.transaction().await.expect("begun");
        said(
            abandoned
                .execute("insert into made values (101, 'gone')", &[])
                .await,
        );
    }
    said(
        client
            .query_one("select count(*) from made where a >= 100", &[])
            .await
            .map(|row| row.get::<_, i64>(0)),
    );
    let read_only = client
        .build_transaction()
        .read_only(true)
        .deferrable(true)
        .start()
        .await
        .expect("begun");
    said(
        read_only
            .execute("insert into orders values (1, 1, 1)", &[])
            .await,
    );
}

async fn copies(client: &Client) {
    title("copy");
    let mut sink = pin!(
        client
            .copy_in::<_, Bytes>("copy made from stdin")
            .await
            .expect("a sink")
    );
    for number in 1000..2000 {
        sink.send(Bytes::from(format!("{number}\trow\n")))
            .await
            .expect("taken");
    }
    said(sink.finish().await);
    let mut sink = pin!(
        client
            .copy_in::<_, Bytes>("copy made from stdin")
            .await
            .expect("a sink")
    );
    sink.send(Bytes::from_static(b"x\ty\n"))
        .await
        .expect("taken");
    said(sink.finish().await);
    {
        let mut dropped = pin!(
            client
                .copy_in::<_, Bytes>("copy made from stdin")
                .await
                .expect("a sink")
        );
        dropped
            .send(Bytes::from_static(b"1\tdropped\n"))
            .await
            .expect("taken");
    }
    let out: Vec<Bytes> = client
        .copy_out("copy (select a, b from made order by a, b limit 5) to stdout (format csv)")
        .await
        .expect("a stream")
        .try_collect()
        .await
        .expect("all");
    println!("{out:?}");
    let writer = BinaryCopyInWriter::new(
        client
            .copy_in("copy made from stdin binary")
            .await
            .expect("a sink"),
        &[Type::INT4, Type::TEXT],
    );
    let mut writer = pin!(writer);
    writer
        .as_mut()
        .write(&[&5000, &"binary"])
        .await
        .expect("taken");
    writer
        .as_mut()
        .write(&[&5001, &None::<&str>])
        .await
        .expect("taken");
    said(writer.finish().await);
    let reader = BinaryCopyOutStream::new(
        client
            .copy_out("copy (select a, b from made where a >= 5000) to stdout binary")
            .await
            .expect("a stream"),
        &[Type::INT4, Type::TEXT],
    );
    let rows: Vec<_> = reader
        .map_ok(|row| (row.get::<i32>(0), row.get::<Option<String>>(1)))
        .try_collect()
        .await
        .expect("all");
    println!("{rows:?}");
    said(
        client
            .query_one("select count(*) from made", &[])
            .await
            .map(|row| row.get::<_, i64>(0)),
    );
}

async fn portals(client: &mut Client) {
    title("portals");
    let transaction = client.transaction().await.expect("begun");
    let portal = transaction
        .bind("select id from orders order by id", &[])
        .await
        .expect("bound");
    for limit in [3, 5, 0] {
        let rows = transaction
            .query_portal(&portal, limit)
            .await
            .expect("rows");
        println!(
            "{} {}",
            rows.len(),
            rows.iter()
                .map(|row| i64::from(row.get::<_, i32>(0)))
                .sum::<i64>()
        );
    }
    said(transaction.rollback().await);
    let total = client
        .query_raw("select id from orders", std::iter::empty::<i32>())
        .await
        .expect("a stream");
    let total: i64 = total
        .map_ok(|row| i64::from(row.get::<_, i32>(0)))
        .try_fold(0, |sum, id| future::ok(sum + id))
        .await
        .expect("all");
    println!("{total}");
}

async fn pipelines(client: &Client) {
    title("pipelines");
    let statement = client
        .prepare("select 10 / $1::int")
        .await
        .expect("prepared");
    let answers = future::join_all([1, 2, 0, 5].map(|divisor| {
        let statement = statement.clone();
        async move {
            client
                .query_one(&statement, &[&divisor])
                .await
                .map(|row| row.get::<_, i32>(0))
        }
    }));
    for answer in answers.await {
        said(answer);
    }
    let texts = future::join_all((0..50).map(|n| async move {
        client
            .query_one(&format!("select {n}"), &[])
            .await
            .map(|row| row.get::<_, i32>(0))
    }));
    println!(
        "{:?}",
        texts
            .await
            .into_iter()
            .map(|answer| answer.unwrap_or(-1))
            .collect::<Vec<_>>()
    );
}

async fn notifications(client: &Client, told: &mut mpsc::UnboundedReceiver<AsyncMessage>) {
    title("notifications");
    let (other, _) = connect().await;
    said(
        client
            .batch_execute("listen news; notify news, 'own'")
            .await,
    );
    said(other.batch_execute("notify news, 'other'").await);
    for _ in 0..2 {
        let message = tokio::time::timeout(Duration::from_secs(20), told.recv())
            .await
            .expect("in time")
            .expect("told");
        asynchronous(&message);
    }
    said(
        other
            .query_one("select current_setting('work_mem')", &[])
            .await
            .map(|row| row.get::<_, String>(0)),
    );
}

async fn changes(client: &Client) {
    title("changes under prepared statements");
    said(
        client
            .batch_execute("create table changing (a int); insert into changing values (1)")
            .await,
    );
    let statement = client
        .prepare("select * from changing")
        .await
        .expect("prepared");
    said(client.query(&statement, &[]).await.map(|rows| rows.len()));
    said(
        client
            .batch_execute("alter table changing add b text")
            .await,
    );
    said(client.query(&statement, &[]).await.map(|rows| rows.len()));
    said(client.batch_execute("deallocate all").await);
    said(client.query(&statement, &[]).await.map(|rows| rows.len()));
    said(
        client
            .batch_execute("discard all; drop table changing")
            .await,
    );
    said(
        client
            .query_one("select 1", &[])
            .await
            .map(|row| row.get::<_, i32>(0)),
    );
}

async fn cancel(client: &Client) {
    title("cancel");
    let token = client.cancel_token();
    let sleeping = client.batch_execute("select pg_sleep(60)");
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        match tls() {
            Some(tls) => token.cancel_query(tls).await,
            None => token.cancel_query(NoTls).await,
        }
    };
    let (slept, cancelled) = future::join(sleeping, cancelling).await;
    said(slept);
    said(cancelled);
    said(
        client
            .query_one("select 4", &[])
            .await
            .map(|row| row.get::<_, i32>(0)),
    );
}
