"""Scenarios with asyncpg; the first argument names one."""

import asyncio
import os
import sys

import asyncpg


async def simple(c):
    await c.execute("SELECT 1; INSERT INTO things VALUES (9, 'asyncpg'); SELECT 2")
    try:
        await c.execute("SELECT 1; SELECT 1/0; SELECT 2")
    except asyncpg.PostgresError:
        pass


async def prepared(c):
    statement = await c.prepare("SELECT $1::int4, $2::text[]")
    for number in range(3):
        await statement.fetch(number, ["a", None])
    try:
        await c.fetch("SELECT 1 / $1::int4", 0)
    except asyncpg.PostgresError:
        pass
    await c.executemany("INSERT INTO things VALUES ($1, $2)", [(20, "x"), (21, "y"), (22, None)])


async def cursors(c):
    async with c.transaction():
        cursor = await c.cursor("SELECT generate_series(1, 10)")
        await cursor.fetch(3)
        await cursor.fetch(100)
        async for _ in c.cursor("SELECT generate_series(1, 10)", prefetch=4):
            pass


async def copy(c):
    await c.copy_records_to_table("things", records=[(30, "x"), (31, None)])
    await c.copy_from_query("SELECT * FROM things WHERE number > $1", 29, output=os.devnull)
    try:
        await c.copy_to_table("things", source=_lines())
    except asyncpg.PostgresError:
        pass


async def _lines():
    yield b"not a number\tx\n"
    yield b"2\ty\n"


async def notify(c):
    heard = asyncio.Event()
    await c.add_listener("news", lambda *_: heard.set())
    await c.execute("SELECT pg_notify('news', 'of the day')")
    await asyncio.wait_for(heard.wait(), 5)
    await c.execute("DO $$ BEGIN RAISE NOTICE 'a notice'; END $$")


async def cancel(c):
    try:
        await c.fetch("SELECT pg_sleep($1)", 30, timeout=0.3)
    except asyncio.TimeoutError:
        pass
    await c.fetch("SELECT 1")


async def main():
    connection = await asyncpg.connect(
        host="127.0.0.1", port=int(os.environ["PGPORT"]), user="tester", database="postgres")
    await globals()[sys.argv[1]](connection)
    await connection.close()


asyncio.run(main())
