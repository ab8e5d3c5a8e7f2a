"""What psycopg 3 sees of a database: prints the same through the appliance as directly.

Connects by the PG* environment variables. Prints nothing that differs from run to run.
"""

import logging
import threading
import time

import psycopg

# Whether a warning about an aborted pipeline is logged depends on when its error arrives, and the
# warning holds an address in memory.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)


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

title("cancel")
timer = threading.Timer(0.5, connection.cancel_safe)
timer.start()
begun = time.monotonic()
failure("cancelled", lambda: connection.execute("select pg_sleep(60)"))
timer.join()
print(time.monotonic() - begun < 30, connection.execute("select 4").fetchone())
connection.close()
