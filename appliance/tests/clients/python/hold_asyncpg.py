"""What asyncpg sees of held commands: prints notices as they come, and what became of each statement.

Connects by the PG* environment variables; the statements are its arguments.
"""

import asyncio
import sys

import asyncpg


async def run(connection, statement):
    try:
        print("result", await connection.execute(statement, "7"), flush=True)
    except asyncpg.PostgresError as error:
        print("error", error.sqlstate, error, flush=True)


async def main():
    connection = await asyncpg.connect()
    connection.add_log_listener(lambda _, it: print("notice", it.sqlstate, it.message, flush=True))
    for statement in sys.argv[1:]:
        await run(connection, statement)
    await connection.close()


asyncio.run(main())
