"""What asyncpg sees of a database: prints the same through the appliance as directly.

Connects by the PG* environment variables. Prints nothing that differs from run to run.
"""

import asyncio
import io

import asyncpg


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
