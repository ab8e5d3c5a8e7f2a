"""What asyncpg sees of a database: prints the same through the appliance as directly.

Connects by the PG* environment variables. Prints nothing that differs from run to run.
"""

import asyncio
import datetime
import decimal
import io

import asyncpg


print(f"# asyncpg {asyncpg.__version__}")

FIELDS = ["severity", "severity_en", "sqlstate", "message", "detail", "hint", "position", "internal_position", "internal_query", "context", "schema_name",
          "table_name", "column_name", "data_type_name", "constraint_name", "server_source_filename", "server_source_line", "server_source_function"]


def fields(error):
    return {name: getattr(error, name) for name in FIELDS if getattr(error, name, None) is not None}


async def every_field(connection, *statement):
    try:
        print(await connection.fetch(*statement))
    except asyncpg.PostgresError as error:
        print(type(error).__name__, fields(error))


async def failure(what, awaitable):
    try:
        await awaitable
        print(what, "succeeded")
    except asyncpg.PostgresError as error:
        print(what, error.sqlstate, error.message)


async def main():
    connection = await asyncpg.connect()
    print("== simple")
    print(await connection.execute("select 1; select 2"))
    print([tuple(row) for row in await connection.fetch("select id, name from customers order by id limit 3")])
    await failure("division", connection.fetch("select 1/0"))
    print(connection.get_settings().server_encoding, connection.get_settings().client_encoding)

    print("== parameters and prepared")
    statement = await connection.prepare("select name, $2::text from customers where id = $1")
    print([kind.name for kind in statement.get_parameters()], [a.name for a in statement.get_attributes()])
    print([tuple(await statement.fetchrow(n, f"p{n}")) for n in range(1, 6)])
    print(await connection.fetchval("select $1::bytea", b"\x00\xff"))
    print(await connection.fetchval("select $1::int[]", [1, 2, None]))
    print(await connection.fetchval("select $1::jsonb", '{"a": 1}'))
    print(await connection.fetchval("select $1::numeric", 3))
    print(tuple(await connection.fetchval("select row(1, 'x'::text)")))
    await failure("type", connection.fetchval("select 'x'::text::int"))

    print("== executemany")
    await connection.execute("create temp table made (a int, b text)")
    await connection.executemany("insert into made values ($1, $2)", [(n, f"row {n}") for n in range(200)])
    print(await connection.fetchval("select count(*) from made"))
    await failure("executemany", connection.executemany("select 1 / $1::int", [(1,), (0,), (2,)]))

    print("== copy")
    print(await connection.copy_records_to_table("made", records=[(n, "copied") for n in range(500)]))
    print(await connection.copy_to_table("made", source=io.BytesIO(b"7\tseven\n8\teight\n")))
    sink = io.BytesIO()
    print(await connection.copy_from_query("select a from made where b in ('seven', 'eight') order by a", output=sink))
    print(sink.getvalue())
    await failure("copy", connection.copy_to_table("made", source=io.BytesIO(b"x\ty\n")))

    print("== transactions")
    try:
        async with connection.transaction():
            await connection.execute("insert into made values (1000, 'rolled back')")
            async with connection.transaction():
                await connection.execute("insert into made values (1001, 'inner')")
            raise KeyError
    except KeyError:
        print(await connection.fetchval("select count(*) from made where a >= 1000"))
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await failure("read only", connection.execute("insert into customers values (999, 'x')"))

    print("== cursors")
    async with connection.transaction():
        total = 0
        async for row in connection.cursor("select id from orders order by id", prefetch=13):
            total += row["id"]
        print(total)
        cursor = await connection.cursor("select id from orders order by id")
        print([row["id"] for row in await cursor.fetch(3)], await cursor.forward(5), tuple(await cursor.fetchrow()))

    print("== notifications")
    arrived = asyncio.get_running_loop().create_future()
    await connection.add_listener("news", lambda *told: arrived.set_result(told[2:]))
    await connection.execute("notify news, 'payload'")
    print(await asyncio.wait_for(arrived, 10))

    print("== every field")
    connection.add_log_listener(lambda _, notice: print("notice", fields(notice)))
    for text in ["select 1/0", "selekt", "insert into orders values (1, 1, 1)", "insert into orders values (70001, 70001, 1)", "select no_such_column from customers",
                 "do $$ begin raise exception 'm' using detail = 'd', hint = 'h', errcode = 'P0042', column = 'c', constraint = 'n', datatype = 't', table = 'b', schema = 's'; end $$",
                 "do $$ begin raise warning 'w' using hint = 'h'; raise notice 'n'; execute 'select 1/0'; end $$"]:
        await every_field(connection, text)

    print("== types")
    await connection.execute("create type mood as enum ('sad', 'happy'); create type spot as (x int, m mood); create domain small as int check (value < 10); create type spans as range (subtype = float8)")
    statement = await connection.prepare("""select true, 1::int2, 2::int4, 3::int8, 1.5::float4, 'NaN'::float8, 1.50::numeric, 'NaN'::numeric, 'x'::text, 'y'::char(3), '\\x00ff'::bytea,
        date '2026-11-26', date 'infinity', time '12:34:56', timetz '12:34:56+02', timestamp '2026-11-26 12:00:00.123456', timestamptz '2026-11-26 12:00+00', interval '1 year 2 days',
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '{1,null}'::int[], '{a,b}'::text[], '{"a": 1}'::jsonb, '{"a": 1}'::json, '<a/>'::xml, '(1,2)'::point, '[1,5)'::int4range, '{[1,2],[4,5]}'::int4multirange,
        row(1, 'x'), '10.0.0.1/8'::inet, 7::oid, null::int, b'101', '12.34'::money, '<(1,2),3>'::circle, '08:00:2b:01:02:03'::macaddr, 'a b'::tsvector,
        'sad'::mood, row(1, 'happy')::spot, 5::small, '[1.5,2.5]'::spans, array[row(1, 'sad')::spot], '1 2'::int2vector, 'customers'::regclass > 0""")
    for attribute in statement.get_attributes():
        print(attribute.name, attribute.type.name, attribute.type.kind, attribute.type.schema)
    for value in await statement.fetchrow():
        print(repr(value))
    print(await connection.fetchval("select $1::spot", (1, "happy")), await connection.fetchval("select $1::mood[]", ["sad", None]), await connection.fetchval("select $1::spans", asyncpg.Range(1.0, 2.0)))
    await failure("domain", connection.fetchval("select $1::small", 11))
    print(len(await connection.fetchval("select $1::bytea", bytes(1_000_000))))

    print("== changes under prepared statements")
    await connection.execute("create table changing (a int); insert into changing values (1)")
    kept = await connection.prepare("select * from changing")
    print([tuple(row) for row in await kept.fetch()])
    await connection.execute("alter table changing add b text")
    await failure("kept", kept.fetch())
    print([tuple(row) for row in await connection.fetch("select * from changing")])
    await connection.execute("alter table changing alter a type text")
    print([tuple(row) for row in await connection.fetch("select * from changing")])
    await connection.execute("deallocate all")
    await failure("deallocated", kept.fetch())
    await failure("cached", connection.fetch("select * from changing"))
    await connection.reload_schema_state()
    print([tuple(row) for row in await connection.fetch("select * from changing")])

    print("== copy in binary")
    await connection.execute("create temp table copied (a int, b numeric, c date, d text[])")
    print(await connection.copy_records_to_table("copied", records=[(1, decimal.Decimal("1.50"), datetime.date(2026, 11, 26), ["x", None]), (None, None, None, None)]))
    sink = io.BytesIO()
    print(await connection.copy_from_table("copied", output=sink, format="binary"), sink.getvalue())
    sink = io.BytesIO()
    print(await connection.copy_from_query("select * from copied where a = $1", 1, output=sink, format="csv", header=True), sink.getvalue())

    async def broken():
        yield b"1\t1\t2026-01-01\t{}\n"
        raise KeyError("given up by the client")

    try:
        await connection.copy_to_table("copied", source=broken())
    except KeyError:
        print("given up", connection.is_in_transaction())
    print(await connection.fetchval("select count(*) from copied"))

    print("== whose notifications")
    heard = asyncio.Queue()
    await connection.add_listener("whose", lambda _, pid, channel, payload: heard.put_nowait((pid == connection.get_server_pid(), payload)))
    other = await asyncpg.connect(server_settings={"application_name": "other", "work_mem": "5MB"})
    await connection.execute("notify whose, 'own'")
    await other.execute("notify whose, 'other'")
    print(await asyncio.wait_for(heard.get(), 20), await asyncio.wait_for(heard.get(), 20))
    print(await other.fetchval("show work_mem"), other.get_server_version(), other.get_settings().is_superuser, other.get_settings().session_authorization)
    await other.close()

    print("== cancel")
    try:
        await asyncio.wait_for(connection.fetch("select pg_sleep(60)"), 0.5)
    except asyncio.TimeoutError:
        print("cancelled")
    print(await connection.fetchval("select 4"))
    await failure("statement timeout", connection.execute("set statement_timeout = 100; select pg_sleep(60)"))
    await connection.reset()
    print(await connection.fetchval("show statement_timeout"))
    await connection.close()

    print("== pool")
    async with asyncpg.create_pool(min_size=2, max_size=4) as pool:
        print(sorted(await asyncio.gather(*(pool.fetchval("select $1::int", n) for n in range(20)))))


asyncio.run(main())
