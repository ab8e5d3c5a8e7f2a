"""What psycopg 3 sees of a database: prints the same through the appliance as directly.

Connects by the PG* environment variables. Prints nothing that differs from run to run.
"""

import logging
import threading
import time

import psycopg
from psycopg import pq

# Whether a warning about an aborted pipeline is logged depends on when its error arrives, and the
# warning holds an address in memory.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)


print(f"# psycopg {psycopg.__version__}, libpq {pq.version()}")


def title(text):
    print(f"== {text}")


def failure(what, run):
    try:
        run()
        print(what, "succeeded")
    except psycopg.Error as error:
        print(what, error.sqlstate, error.diag.message_primary)


title("simple")
connection = psycopg.connect(autocommit=True)
print(connection.execute("select 1, 'text', null, 1.50::numeric, date '2026-11-22', array[1,2]").fetchall())
print(connection.execute("select id, name from customers order by id limit 3").fetchall())
failure("division", lambda: connection.execute("select 1/0"))
print(connection.info.encoding, connection.info.transaction_status.name)

title("parameters and prepared")
for number in range(8):
    row = connection.execute("select name from customers where id = %s", (number + 1,), prepare=True).fetchone()
    print(row)
print(connection.execute("select %b::int4 + 1, %b::bytea, %b::text", (41, b"\x00\xff", "text")).fetchone())
print(connection.cursor(binary=True).execute("select 7::int8, '\\x00ff'::bytea, true").fetchall())
failure("type", lambda: connection.execute("select %s::int", ("x",)))

title("executemany and pipeline")
connection.execute("create temp table made (a int, b text)")
with connection.cursor() as cursor:
    cursor.executemany("insert into made values (%s, %s)", [(n, f"row {n}") for n in range(50)])
    print(cursor.rowcount)
with connection.pipeline():
    results = [connection.execute("select count(*) + %s from made", (n,)) for n in range(10)]
    print([result.fetchone() for result in results])
try:
    with connection.pipeline():
        connection.execute("select 1")
        connection.execute("select 1/0")
        connection.execute("select 2")
except psycopg.Error as error:
    print("pipeline", error.sqlstate)
print(connection.execute("select 3").fetchone())

title("copy")
with connection.cursor() as cursor:
    with cursor.copy("copy made from stdin") as copy:
        for number in range(1000):
            copy.write_row((number, "x" * 100))
    print(cursor.rowcount)
    with cursor.copy("copy (select a from made order by a, b limit 5) to stdout") as copy:
        print([row for row in copy.rows()])
    with cursor.copy("copy made to stdout (format binary)") as copy:
        print(sum(len(block) for block in copy))
try:
    with connection.cursor().copy("copy made from stdin") as copy:
        copy.write("not a number\tx\n")
except psycopg.Error as error:
    print("copy", error.sqlstate)
try:
    with connection.cursor().copy("copy made from stdin") as copy:
        copy.write("1\tx\n")
        raise KeyError("given up by the client")
except KeyError:
    print("given up", connection.info.transaction_status.name)
print(connection.execute("select count(*) from made").fetchone())

title("transactions")
connection.execute("create temp table moved (a int)")
try:
    with connection.transaction():
        connection.execute("insert into moved values (1)")
        try:
            with connection.transaction():
                connection.execute("insert into moved values (2)")
                raise KeyError
        except KeyError:
            pass
        connection.execute("insert into moved values (3)")
    with connection.transaction():
        connection.execute("insert into moved values (4)")
        connection.execute("select 1/0")
except psycopg.Error as error:
    print("transaction", error.sqlstate)
print(connection.execute("select a from moved order by a").fetchall())

title("cursors")
with connection.transaction():
    with connection.cursor("named") as cursor:
        cursor.itersize = 7
        cursor.execute("select id from orders order by id limit 100")
        print(sum(row[0] for row in cursor))
    with connection.cursor("scrolled", scrollable=True) as cursor:
        cursor.execute("select id from orders order by id")
        cursor.scroll(10)
        print(cursor.fetchone(), cursor.fetchmany(2))
print(len(connection.cursor().stream("select 1").__class__.__name__) > 0)
print(sum(row[0] for row in connection.cursor().stream("select id from orders")))

title("notices and notifications")
connection.add_notice_handler(lambda notice: print("notice", notice.message_primary))
connection.execute("do $$ begin raise notice 'hello'; end $$")
connection.execute("listen news")
connection.execute("notify news, 'payload'")
print([(n.channel, n.payload) for n in connection.notifies(timeout=5, stop_after=1)])

title("large values")
print(len(connection.execute("select repeat('y', 5000000)").fetchone()[0]))
print(connection.execute("select length(%s::text)", ("z" * 3_000_000,)).fetchone())

title("every field")
FIELDS = [field for field in pq.DiagnosticField]


def every_field(result):
    return {field.name: value.decode() for field in FIELDS if (value := result.error_field(field)) is not None}


def shown(result):
    print(pq.ExecStatus(result.status).name, result.command_status, result.command_tuples, result.oid_value, result.nparams, result.binary_tuples)
    for column in range(result.nfields):
        print(" ", result.fname(column), result.ftable(column), result.ftablecol(column), result.ftype(column),
              result.fsize(column), result.fmod(column), result.fformat(column))
    for row in range(min(result.ntuples, 5)):
        print(" ", [result.get_value(row, column) for column in range(result.nfields)])
    if result.status == pq.ExecStatus.FATAL_ERROR:
        print(" ", every_field(result))


low = connection.pgconn
low.notice_handler = lambda result: print("notice", every_field(result))
for text in [b"", b"select 1 as a, 'x' as b, null as c", b"select", b"select 1/0", b"select * from orders limit 3", b"selekt 1; select 2",
             b"do $$ begin raise exception 'a' using detail = 'b', hint = 'c', errcode = 'P0042', column = 'd', constraint = 'e', datatype = 'f', table = 'g', schema = 'h'; end $$",
             b"do $$ begin raise warning 'w' using detail = 'd'; execute 'select 1/0'; end $$", b"insert into orders values (1, 1, 1)", b"insert into orders values (7001, 7001, 1)",
             b"create temp table with_default (a int default 7, b domain_of) ", b"insert into made values (1, 'x') returning *"]:
    shown(low.exec_(text))
for values, types, formats, result_format in [([b"1", b"x"], None, None, 0), ([b"\0\0\0\1", None], [23, 25], [1, 0], 1), ([b"x", b"y"], [23, 25], None, 0)]:
    shown(low.exec_params(b"select $1::int as a, $2::text as b", values, types, formats, result_format))
shown(low.prepare(b"by_name", b"select id, name from customers where id = $1"))
shown(low.describe_prepared(b"by_name"))
shown(low.exec_prepared(b"by_name", [b"3"], None, 1))
shown(low.exec_prepared(b"nothing", []))
shown(low.describe_portal(b"nothing"))
shown(low.exec_(b"begin; declare described cursor for select id, total from orders"))
shown(low.describe_portal(b"described"))
shown(low.exec_(b"rollback"))
shown(low.close_prepared(b"by_name") if hasattr(low, "close_prepared") and pq.version() >= 170000 else low.exec_(b"deallocate by_name"))
for name in [b"server_version", b"server_encoding", b"client_encoding", b"is_superuser", b"session_authorization", b"DateStyle", b"IntervalStyle", b"TimeZone", b"integer_datetimes",
             b"standard_conforming_strings", b"application_name", b"default_transaction_read_only", b"in_hot_standby", b"scram_iterations", b"search_path"]:
    print(name.decode(), low.parameter_status(name))
print(low.protocol_version, low.server_version, connection.info.transaction_status.name, connection.info.user, connection.info.dbname)

title("pipelines by hand")
low.enter_pipeline_mode()
low.send_query_params(b"select $1::int", [b"1"])
low.send_query_params(b"select 1/$1::int", [b"0"])
low.send_query_params(b"select $1::int", [b"3"])
low.pipeline_sync()
low.send_prepare(b"in_pipeline", b"select $1::int * 2")
low.send_query_prepared(b"in_pipeline", [b"21"])
low.send_describe_prepared(b"in_pipeline")
low.pipeline_sync()
low.send_query_params(b"select 5", None)
low.send_flush_request()
low.flush()
syncs = 0
while syncs < 2:
    result = low.get_result()
    if result is None:
        print("--")
        continue
    shown(result)
    syncs += result.status == pq.ExecStatus.PIPELINE_SYNC
shown(low.get_result())
low.pipeline_sync()
while (result := low.get_result()) is None or result.status != pq.ExecStatus.PIPELINE_SYNC:
    print("--")
low.exit_pipeline_mode()

title("types")
values = [1, -(2**62), 2**100, 1.5, float("nan"), float("inf"), True, None, "text", b"\x00\xff", [1, None, 3], ["a,b", '"', ""], [[1, 2], [3, 4]]]
for value in values:
    for binary in (False, True):
        try:
            cursor = connection.cursor(binary=binary)
            row = cursor.execute("select %s as v, pg_typeof(%s)::text", (value, value)).fetchone()
            print(repr(value), row, cursor.description[0].type_code, cursor.description[0])
        except psycopg.Error as error:
            print(repr(value), every_field(error.pgresult) if error.pgresult else error)
for binary in (False, True):
    cursor = connection.cursor(binary=binary)
    print(cursor.execute("""select 1::int2, 1.50::numeric, 'NaN'::numeric, date '2026-11-26', time '12:00', timetz '12:00+02', timestamp '2026-11-26 12:00',
        timestamptz '2026-11-26 12:00+00', interval '1 day 2 hours', '10.0.0.1/8'::inet, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '{"a": [1]}'::jsonb,
        '[1,5)'::int4range, '{[1,2],[4,5]}'::int4multirange, row(1, 'x'), '(1,2)'::point, 'x'::char(3), '<a/>'::xml, array[date '2026-11-26', null]""").fetchone())
connection.execute("create type colour as enum ('red', 'green'); create type spot as (x int, hue colour)")
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum

register_enum(EnumInfo.fetch(connection, "colour"), connection)
register_composite(CompositeInfo.fetch(connection, "spot"), connection)
print(connection.execute("select row(1, 'red')::spot, array['green'::colour], %s::spot", ("(2,green)",)).fetchone())

title("changes under a prepared statement")
connection.execute("create table changing (a int)")
for step in (None, "alter table changing add b text", "alter table changing alter a type text", "drop table changing"):
    if step:
        connection.execute(step)
    for _ in range(2):
        failure("prepared", lambda: print(connection.execute("select * from changing", prepare=True).description))
connection.execute("deallocate all")
failure("forgotten", lambda: print(connection.execute("select id from customers limit 1", prepare=True).fetchall()))

title("two-phase")
with psycopg.connect() as second:
    second.tpc_begin(second.xid(1, "global", "branch"))
    second.execute("create table two_phase (a int)")
    second.tpc_prepare()
    second.tpc_rollback()
    print([(xid.gtrid, xid.bqual) for xid in second.tpc_recover()])
    second.tpc_begin("plain")
    second.execute("create table two_phase (a int)")
    second.tpc_commit()
    print(second.execute("select count(*) from two_phase").fetchone())

title("whose notifications")
with psycopg.connect(autocommit=True) as second:
    connection.execute("listen whose")
    connection.execute("notify whose, 'own'")
    second.execute("notify whose, 'other'")
    for told in connection.notifies(timeout=10, stop_after=2):
        print(told.payload, told.pid == connection.info.backend_pid)

title("copy of every format")
with connection.cursor() as cursor:
    with cursor.copy("copy (select n, n * 1.5, date '2026-11-26' + n, null::text from generate_series(1, 3) n) to stdout (format binary)") as copy:
        copy.set_types(["int4", "numeric", "date", "text"])
        print(list(copy.rows()))
    with cursor.copy("copy made from stdin (format binary)") as copy:
        copy.set_types(["int4", "text"])
        copy.write_row((1, "one"))
        copy.write_row((2, None))
    with cursor.copy("copy made to stdout (format csv, header)") as copy:
        print(sum(len(bytes(block)) for block in copy))
    failure("server", lambda: list(cursor.copy("copy (select 1/(n-3) from generate_series(1,5) n) to stdout").__enter__()))
print(connection.info.transaction_status.name)

title("cancel")
timer = threading.Timer(0.5, connection.cancel_safe)
timer.start()
begun = time.monotonic()
failure("cancelled", lambda: connection.execute("select pg_sleep(60)"))
timer.join()
print(time.monotonic() - begun < 30, connection.execute("select 4").fetchone())
connection.close()
