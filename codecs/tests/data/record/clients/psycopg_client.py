"""Scenarios with psycopg 3; the first argument names one."""

import os
import sys
import threading

import psycopg

URL = f"host=127.0.0.1 port={os.environ['PGPORT']} user=tester dbname=postgres"


def simple(c):
    with c.cursor() as cursor:
        cursor.execute("SELECT 1 AS one, 'two' AS two, NULL")
        cursor.fetchall()
        try:
            cursor.execute("SELECT no_such_column")
        except psycopg.Error:
            c.rollback()
        cursor.execute("INSERT INTO things VALUES (7, 'psycopg')")
        c.commit()


def prepared(c):
    with c.cursor() as cursor:
        for number in range(7):
            cursor.execute("SELECT %s::int4 + 1, %s::text", (number, "x"), prepare=True)
            cursor.fetchall()
        cursor.execute("SELECT %b::int8", (5,), binary=True)
        cursor.fetchall()


def pipelining(c):
    with c.pipeline():
        one = c.execute("SELECT %s::int4", (1,))
        c.execute("INSERT INTO things VALUES (%s, %s)", (8, "pipelined"))
        assert one.fetchone() == (1,)
        try:
            c.execute("SELECT 1 / %s::int4", (0,))
            c.execute("SELECT %s::int4", (2,))
            with c.pipeline() as inner:
                inner.sync()
        except psycopg.Error:
            pass
    c.rollback()


def copy(c):
    with c.cursor() as cursor:
        with cursor.copy("COPY things FROM STDIN") as copy:
            copy.write_row((100, "a\tb"))
            copy.write_row((101, None))
        with cursor.copy("COPY things (number) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4"])
            copy.write_row((102,))
        with cursor.copy("COPY (SELECT * FROM things WHERE number > %s) TO STDOUT", (99,)) as copy:
            for _ in copy.rows():
                pass
        c.commit()
        try:
            with cursor.copy("COPY things FROM STDIN") as copy:
                copy.write(b"not a number\tx\n")
        except psycopg.Error:
            c.rollback()
        try:
            with cursor.copy("COPY things FROM STDIN") as copy:
                copy.write(b"1\tx\n")
                raise RuntimeError("the client gives up")
        except (psycopg.Error, RuntimeError):
            c.rollback()


def cursors(c):
    with c.cursor(name="of_the_server") as cursor:
        cursor.itersize = 3
        cursor.execute("SELECT generate_series(1, 10)")
        cursor.fetchmany(4)
        cursor.fetchall()
    c.commit()


def notify(c):
    c.autocommit = True
    c.execute("LISTEN news")
    c.execute("SELECT pg_notify('news', 'of the day')")
    for _ in c.notifies(timeout=2, stop_after=1):
        pass
    c.execute("DO $$ BEGIN RAISE NOTICE 'a notice'; RAISE WARNING 'a warning'; END $$")


def cancel(c):
    timer = threading.Timer(0.3, c.cancel)
    timer.start()
    try:
        c.execute("SELECT pg_sleep(%s)", (30,))
    except psycopg.errors.QueryCanceled:
        c.rollback()
    c.execute("SELECT 1")


with psycopg.connect(URL) as connection:
    globals()[sys.argv[1]](connection)
