"""Runs each line of the file that SALLYPORT_STATEMENTS names, and prints everything that comes back.

The argument says with which driver: psycopg or asyncpg. A value that the driver cannot decode is
printed as UNDECODED. Connects by the PG* environment variables.
"""

import asyncio
import os
import sys

import asyncpg
import psycopg

with open(os.environ["SALLYPORT_STATEMENTS"]) as file:
    STATEMENTS = file.read().splitlines()


def show(values):
    print(" | ".join(str(bytes(value) if isinstance(value, memoryview) else value) for value in values))


def over_psycopg(binary):
    connection = None
    for number, statement in enumerate(STATEMENTS):
        if connection is None or connection.closed:
            connection = psycopg.connect(autocommit=True)
            connection.add_notice_handler(lambda notice: print("notice", notice.message_primary, notice.message_detail))
        try:
            cursor = connection.cursor(binary=binary)
            if statement.startswith("copy "):
                with cursor.copy(statement) as copy:
                    for data in copy:
                        print(bytes(data))
                continue
            cursor.execute(statement)
            if cursor.description:
                for row in cursor.fetchall():
                    show(row)
        except psycopg.Error as error:
            said = error.diag
            print("error", error.sqlstate, said.message_primary, said.message_detail, said.message_hint, said.context)
            if error.sqlstate is None and not connection.closed:
                print("UNDECODED", number, type(error).__name__)
        except (ValueError, ArithmeticError, LookupError) as error:
            print("UNDECODED", number, type(error).__name__)


async def over_asyncpg():
    connection = None
    for number, statement in enumerate(STATEMENTS):
        if statement.startswith("copy "):
            continue
        if connection is None or connection.is_closed():
            connection = await asyncpg.connect()
        try:
            for row in await connection.fetch(statement):
                show(row.values())
        except asyncpg.PostgresError as error:
            print("error", error.sqlstate, error.message, error.detail, error.hint)
        except (OSError, asyncpg.ConnectionDoesNotExistError):
            print("lost")
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError, ArithmeticError, LookupError) as error:
            print("UNDECODED", number, type(error).__name__)


if sys.argv[1] == "psycopg":
    over_psycopg(False)
    over_psycopg(True)
else:
    asyncio.run(over_asyncpg())
