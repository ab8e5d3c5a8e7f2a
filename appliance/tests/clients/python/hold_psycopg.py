"""What psycopg sees of held commands: prints notices as they come, and what became of each statement.

Connects by the PG* environment variables; the statements are its arguments.
"""

import sys

import psycopg


def run(connection, statement):
    try:
        cursor = connection.execute(statement, ("7",))
        print("result", cursor.statusmessage, cursor.fetchall() if cursor.description else "", flush=True)
    except psycopg.Error as error:
        print("error", error.sqlstate, error, flush=True)


def main():
    with psycopg.connect(autocommit=True) as connection:
        connection.add_notice_handler(lambda it: print("notice", it.sqlstate, it.message_primary, flush=True))
        for statement in sys.argv[1:]:
            run(connection, statement.replace("$1", "%s"))


main()
