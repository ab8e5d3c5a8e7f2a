//! The dialogue of sqlx.

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::postgres::{
    PgConnectOptions, PgConnection, PgDatabaseError, PgListener, PgPoolOptions, PgRow, PgSslMode,
};
use sqlx::types::{Decimal, Json, Uuid};
use sqlx::{Column, Connection, Executor, PgPool, Row, SqlStr, Statement, TypeInfo};

use crate::{env, title};

#[derive(Debug, sqlx::Type)]
#[sqlx(type_name = "mood", rename_all = "lowercase")]
enum Mood {
    Sad,
    Happy,
}

#[derive(Debug, sqlx::Type)]
#[sqlx(type_name = "spot")]
struct Spot {
    x: i32,
    m: Mood,
}

#[derive(Debug, sqlx::FromRow)]
struct Customer {
    id: i32,
    name: String,
}

pub async fn run() {
    println!("# sqlx {}", env!("SQLX_VERSION"));
    let options = options();
    let mut connection = PgConnection::connect_with(&options)
        .await
        .expect("a session");
    queries(&mut connection).await;
    types(&mut connection).await;
    failures(&mut connection).await;
    transactions(&mut connection).await;
    copies(&mut connection).await;
    changes(&mut connection).await;
    connection.close().await.expect("closed");
    let pool = PgPoolOptions::new()
        .max_connections(4)
        .connect_with(options)
        .await
        .expect("a pool");
    pools(&pool).await;
    notifications(&pool).await;
}

fn options() -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        .host(&env("PGHOST"))
        .port(env("PGPORT").parse().expect("a port"))
        .username(&env("PGUSER"))
        .password(&env("PGPASSWORD"))
        .database(&env("PGDATABASE"))
        .application_name("sqlx")
        .options([("work_mem", "5MB"), ("statement_timeout", "30s")]);
    match std::env::var("PGSSLROOTCERT") {
        Ok(path) => options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(path),
        Err(_) => options.ssl_mode(PgSslMode::Disable),
    }
}

fn said<T: std::fmt::Debug>(result: Result<T, sqlx::Error>) {
    match result {
        Ok(value) => println!("{value:?}"),
        Err(sqlx::Error::Database(error)) => {
            let error = error.downcast_ref::<PgDatabaseError>();
            println!(
                "{:?} {} {:?} detail={:?} hint={:?} position={:?} where={:?} schema={:?} table={:?} column={:?} datatype={:?} constraint={:?} file={:?} line={:?} routine={:?}",
                error.severity(),
                error.code(),
                error.message(),
                error.detail(),
                error.hint(),
                error.position(),
                error.r#where(),
                error.schema(),
                error.table(),
                error.column(),
                error.data_type(),
                error.constraint(),
                error.file(),
                error.line(),
                error.routine(),
            );
        }
        Err(error) => println!("{error}"),
    }
}

async fn queries(connection: &mut PgConnection) {
    title("queries");
    said(
        sqlx::raw_sql("select 1; select 2")
            .fetch_all(&mut *connection)
            .await
            .map(|rows| rows.len()),
    );
    said(
        sqlx::query_as::<_, Customer>("select id, name from customers where id < $1 order by id")
            .bind(4)
            .fetch_all(&mut *connection)
            .await
            .map(|all| {
                all.iter()
                    .map(|customer| format!("{} {}", customer.id, customer.name))
                    .collect::<Vec<_>>()
            }),
    );
    for id in 1..8 {
        said(
            sqlx::query_scalar::<_, String>("select name from customers where id = $1")
                .bind(id)
                .fetch_one(&mut *connection)
                .await,
        );
    }
    said(
        sqlx::query("create temp table made (a int, b text)")
            .execute(&mut *connection)
            .await
            .map(|done| done.rows_affected()),
    );
    said(
        sqlx::query("insert into made select n, 'x' from generate_series(1, $1) n")
            .bind(100)
            .execute(&mut *connection)
            .await
            .map(|done| done.rows_affected()),
    );
    said(
        sqlx::query("select 1")
            .persistent(false)
            .fetch_optional(&mut *connection)
            .await
            .map(|row| row.is_some()),
    );
    let mut rows = sqlx::query("select id from orders order by id").fetch(&mut *connection);
    let mut total = 0;
    while let Some(row) = rows.try_next().await.expect("a row") {
        total += i64::from(row.get::<i32, _>(0));
    }
    drop(rows);
    println!("{total}");
    // Given up after one row: the connection reads the rest before its next use.
    let mut rows = sqlx::query("select id from orders order by id").fetch(&mut *connection);
    println!("{}", rows.try_next().await.expect("a row").is_some());
    drop(rows);
    let statement = connection
        .prepare(SqlStr::from_static(
            "select id, name || $1 as greeting from customers where id = $2",
        ))
        .await
        .expect("prepared");
    println!(
        "{:?} {:?}",
        statement.parameters(),
        statement
            .columns()
            .iter()
            .map(|column| (column.name(), column.type_info().name()))
            .collect::<Vec<_>>()
    );
    let statement = connection
        .prepare(SqlStr::from_static("select $1::int8"))
        .await
        .expect("prepared");
    said(
        statement
            .query_scalar::<i64>()
            .bind(7i64)
            .fetch_one(&mut *connection)
            .await,
    );
    connection.clear_cached_statements().await.expect("cleared");
    said(connection.ping().await);
}

async fn types(connection: &mut PgConnection) {
    title("types");
    said(
        sqlx::raw_sql(
            "create type mood as enum ('sad', 'happy'); create type spot as (x int, m mood)",
        )
        .execute(&mut *connection)
        .await
        .map(|_| ()),
    );
    let row: PgRow = sqlx::query("select true, 1::int2, 2::int4, 3::int8, 1.5::float4, 'NaN'::float8, 1.50::numeric, 'x'::text, '\\x00ff'::bytea, date '2026-11-26', timestamptz '2026-11-26 12:00+00', interval '1 year 2 days',
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '{1,null}'::int[], '{\"a\": 1}'::jsonb, '[1,5)'::int4range, null::int, '12.34'::money, 'sad'::mood, row(1, 'happy')::spot").fetch_one(&mut *connection).await.expect("a row");
    for column in row.columns() {
        let value = row.try_get_raw(column.ordinal()).expect("a value");
        println!(
            "{} {} {:?} {:?}",
            column.name(),
            column.type_info(),
            value.format() as u8,
            value.as_bytes().ok()
        );
    }
    said(
        sqlx::query_scalar::<_, Spot>("select $1")
            .bind(Spot {
                x: 1,
                m: Mood::Happy,
            })
            .fetch_one(&mut *connection)
            .await,
    );
    said(
        sqlx::query_scalar::<_, Vec<Mood>>("select $1")
            .bind(vec![Mood::Sad])
            .fetch_one(&mut *connection)
            .await,
    );
    said(
        sqlx::query_scalar::<_, Decimal>("select $1")
            .bind(Decimal::new(-12345, 3))
            .fetch_one(&mut *connection)
            .await,
    );
    said(
        sqlx::query_scalar::<_, Json<serde_json::Value>>("select $1")
            .bind(Json(serde_json::json!({"a": null})))
            .fetch_one(&mut *connection)
            .await,
    );
    said(
        sqlx::query_scalar::<_, Uuid>("select $1")
            .bind(Uuid::from_u128(7))
            .fetch_one(&mut *connection)
            .await,
    );
    said(
        sqlx::query_scalar::<_, i32>("select length($1::bytea)")
            .bind(vec![1u8; 1_000_000])
            .fetch_one(&mut *connection)
            .await,
    );
    said(
        sqlx::query_scalar::<_, Vec<Option<i32>>>("select $1")
            .bind(vec![Some(1), None])
            .fetch_one(&mut *connection)
            .await,
    );
}

async fn failures(connection: &mut PgConnection) {
    title("failures");
    for text in [
        "select 1/0",
        "selekt",
        "insert into orders values (1, 1, 1)",
        "insert into orders values (70001, 70001, 1)",
        "select no_such_column from customers",
        "do $$ begin raise exception 'm' using detail = 'd', hint = 'h', errcode = 'P0042', column = 'c', constraint = 'n', datatype = 't', table = 'b', schema = 's'; end $$",
        "do $$ begin raise warning 'w' using hint = 'h'; execute 'select 1/0'; end $$",
    ] {
        said(
            sqlx::query(text)
                .execute(&mut *connection)
                .await
                .map(|done| done.rows_affected()),
        );
        said(
            sqlx::raw_sql(text)
                .execute(&mut *connection)
                .await
                .map(|done| done.rows_affected()),
        );
    }
    said(
        sqlx::query("select $1::int")
            .bind("x")
            .execute(&mut *connection)
            .await
            .map(|_| ()),
    );
}

async fn transactions(connection: &mut PgConnection) {
    title("transactions");
    let mut transaction = connection.begin().await.expect("begun");
    said(
        sqlx::query("insert into made values (1000, 'kept')")
            .execute(&mut *transaction)
            .await
            .map(|done| done.rows_affected()),
    );
    {
        let mut inner = transaction.begin().await.expect("a savepoint");
        said(
            sqlx::query("select 1/0")
                .execute(&mut *inner)
                .await
                .map(|_| ()),
        );
        said(inner.rollback().await);
    }
    said(transaction.commit().await);
    {
        let mut dropped = connection.begin().await.expect("begun");
        said(
            sqlx::query("insert into made values (1001, 'gone')")
                .execute(&mut *dropped)
                .await
                .map(|done| done.rows_affected()),
        );
    }
    said(
        sqlx::query_scalar::<_, i64>("select count(*) from made where a >= 1000")
            .fetch_one(&mut *connection)
            .await,
    );
    let mut serializable = connection
        .begin_with("begin isolation level serializable read only")
        .await
        .expect("begun");
    said(
        sqlx::query("insert into orders values (1, 1, 1)")
            .execute(&mut *serializable)
            .await
            .map(|_| ()),
    );
}

async fn copies(connection: &mut PgConnection) {
    title("copy");
    let mut copy = connection
        .copy_in_raw("copy made from stdin")
        .await
        .expect("a sink");
    copy.send(b"2000\ta\n2001\t".as_slice())
        .await
        .expect("taken")
        .send(b"b\n".as_slice())
        .await
        .expect("taken");
    said(copy.finish().await);
    let mut copy = connection
        .copy_in_raw("copy made from stdin")
        .await
        .expect("a sink");
    copy.send(b"x\ty\n".as_slice()).await.expect("taken");
    said(copy.finish().await);
    let copy = connection
        .copy_in_raw("copy made from stdin")
        .await
        .expect("a sink");
    said(copy.abort("given up").await);
    let blocks: Vec<_> = connection
        .copy_out_raw("copy (select * from made where a >= 1000 order by a) to stdout (format csv)")
        .await
        .expect("a stream")
        .try_collect()
        .await
        .expect("all");
    println!("{blocks:?}");
}

async fn changes(connection: &mut PgConnection) {
    title("changes under prepared statements");
    let query = || sqlx::query("select * from changing");
    said(
        sqlx::raw_sql("create table changing (a int); insert into changing values (1)")
            .execute(&mut *connection)
            .await
            .map(|_| ()),
    );
    said(
        query()
            .fetch_one(&mut *connection)
            .await
            .map(|row| row.len()),
    );
    said(
        sqlx::raw_sql("alter table changing add b text")
            .execute(&mut *connection)
            .await
            .map(|_| ()),
    );
    said(
        query()
            .fetch_one(&mut *connection)
            .await
            .map(|row| row.len()),
    );
    said(
        sqlx::raw_sql("deallocate all")
            .execute(&mut *connection)
            .await
            .map(|_| ()),
    );
    said(
        query()
            .fetch_one(&mut *connection)
            .await
            .map(|row| row.len()),
    );
}

async fn pools(pool: &PgPool) {
    title("pool");
    let answers = futures_util::future::join_all((0..20).map(|n| {
        sqlx::query_scalar::<_, i32>("select $1")
            .bind(n)
            .fetch_one(pool)
    }));
    println!(
        "{:?}",
        answers
            .await
            .into_iter()
            .map(|answer| answer.unwrap_or(-1))
            .collect::<Vec<_>>()
    );
    said(
        sqlx::query_scalar::<_, String>(
            "select current_setting('work_mem') || current_setting('statement_timeout')",
        )
        .fetch_one(pool)
        .await,
    );
}

async fn notifications(pool: &PgPool) {
    title("notifications");
    let mut listener = PgListener::connect_with(pool).await.expect("a listener");
    listener
        .listen_all(["news", "more"])
        .await
        .expect("listening");
    said(
        sqlx::query("select pg_notify('news', 'payload')")
            .execute(pool)
            .await
            .map(|_| ()),
    );
    said(sqlx::query("notify more").execute(pool).await.map(|_| ()));
    for _ in 0..2 {
        let heard = tokio::time::timeout(Duration::from_secs(20), listener.recv())
            .await
            .expect("in time")
            .expect("heard");
        println!("{} {:?}", heard.channel(), heard.payload());
    }
    listener.unlisten("news").await.expect("not listening");
}
