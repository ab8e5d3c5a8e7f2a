"""Exchanges that no driver makes on request; the first argument names one."""

import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from raw import (COPY_DONE, FLUSH, SYNC, Session, bind, close, copy_data, copy_fail, describe,
                 execute, function_call, parse, query)


def session(**parameters):
    return Session("127.0.0.1", int(os.environ["PGPORT"]), user="tester",
                   **({"database": "postgres"} | parameters))


def extended(s):
    """Sequences with and without errors, a Query among them, and what is discarded."""
    s.send(parse("SELECT 1"), bind(), describe(b"P"), execute(), query("SELECT 2"), SYNC)
    s.until(b"Z", 2)
    s.send(parse("SELEC"), bind(), query("SELECT 1"), function_call(2026, []), close(b"S"), SYNC)
    s.until(b"Z")
    s.send(parse("INSERT INTO things VALUES (1, 'twice')"), bind(), execute(), bind(), SYNC)
    s.until(b"Z")
    s.send(parse(""), describe(b"S"), bind(), describe(b"P"), execute(), close(b"P"), SYNC)
    s.until(b"Z")


def suspended(s):
    s.send(parse("SELECT generate_series(1, 5)"), bind("portal"), execute("portal", 2), FLUSH)
    s.until(b"s")
    s.send(execute("portal", 2), FLUSH)
    s.until(b"s")
    s.send(execute("portal"), SYNC)
    s.until(b"Z")


def deferred(s):
    """A constraint that fails at Sync, and in a FunctionCall after its result."""
    s.send(query("CREATE TEMP TABLE later (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    s.until(b"Z")
    s.send(parse("INSERT INTO later VALUES (1), (1)"), bind(), execute(), SYNC)
    s.until(b"Z")
    s.send(query("CREATE FUNCTION pg_temp.twice() RETURNS void LANGUAGE sql AS"
                 " 'INSERT INTO later VALUES (1), (1)'; SELECT 'pg_temp.twice'::regproc::oid"))
    s.socket.settimeout(5)
    oid = None
    while (found := s.next(5))[:1] != b"Z":
        if found[:1] == b"D":
            oid = int(found[11:])
    s.send(function_call(oid, []))
    s.until(b"Z")


def rules(s):
    """One statement with several results."""
    s.send(query("CREATE TEMP TABLE r (a int); CREATE RULE more AS ON INSERT TO r"
                 " DO ALSO (SELECT 1 AS b; SELECT 2 AS c)"))
    s.until(b"Z")
    s.send(query("INSERT INTO r VALUES (1)"))
    s.until(b"Z")
    s.send(parse("INSERT INTO r VALUES (1)"), bind(), describe(b"P"), execute(), SYNC)
    s.until(b"Z")


def copies(s):
    """COPY in a batch, by the extended protocol, and failing in both."""
    s.send(query("COPY things FROM STDIN; SELECT 1; COPY things FROM STDIN"))
    s.until(b"G")
    s.send(copy_data(b"200\tx\n"), COPY_DONE)
    s.until(b"G")
    s.send(FLUSH, SYNC, copy_data(b"201\ty\n"), SYNC, COPY_DONE)
    s.until(b"Z")
    s.send(parse("COPY things FROM STDIN"), bind(), describe(b"P"), execute(), SYNC)
    s.until(b"G")
    s.send(copy_data(b"202\tz\n"), COPY_DONE, SYNC)
    s.until(b"Z")
    s.send(query("COPY things FROM STDIN; SELECT 1"))
    s.until(b"G")
    s.send(copy_data(b"203\tx\n"), copy_fail("the client gives up"))
    s.until(b"Z")
    s.send(parse("COPY things FROM STDIN"), bind(), execute(), FLUSH)
    s.until(b"G")
    s.send(copy_data(b"x\n"), copy_data(b"x\n"), COPY_DONE, SYNC)
    s.until(b"Z")
    s.send(query("COPY (SELECT * FROM things) TO STDOUT (FORMAT BINARY); SELECT 1"))
    s.until(b"Z")
    s.send(parse("COPY (SELECT 1) TO STDOUT"), bind(), execute(), SYNC)
    s.until(b"Z")


def doubtful(s):
    """Two failing COPYs with a Sync behind them: one was not read, the other was."""
    s.send(query("CREATE TEMP VIEW v AS SELECT 1 AS a"))
    s.until(b"Z")
    s.send(parse("COPY v FROM STDIN"), bind(), execute(), SYNC)
    s.until(b"Z")
    s.send(copy_data(b"1\n"), COPY_DONE, SYNC)
    s.until(b"Z")
    s.send(parse("COPY things FROM STDIN"), bind(), execute(), SYNC)
    s.until(b"G")
    s.send(copy_data(b"x\n"), COPY_DONE, SYNC)
    s.until(b"Z")
    s.send(query("SELECT 1"))
    s.until(b"Z")


def doomed(s):
    """A command inside a COPY."""
    s.send(query("COPY things FROM STDIN"), query("SELECT 1"))
    s.until(b"$")


def timeout(s):
    """CopyData while an interrupt is held: ErrorResponse and ReadyForQuery to no request."""
    s.send(query("SET statement_timeout = 200"))
    s.until(b"Z")
    s.send(parse("SELECT 1"), FLUSH)
    s.until(b"1")
    s.quiet(1)
    s.send(copy_data(b"x"), parse("SELECT 1"), bind(), execute(), SYNC)
    s.until(b"Z", 2)


def timeout_flush(s):
    """The same on Flush and on Sync."""
    s.send(query("SET statement_timeout = 200"))
    s.until(b"Z")
    s.send(parse("SELECT 1"), FLUSH)
    s.until(b"1")
    s.quiet(1)
    s.send(parse("SELECT 2"), FLUSH)
    s.until(b"E")
    s.send(bind(), SYNC)
    s.until(b"Z")
    s.send(parse("SELECT 1"), bind(), FLUSH)
    s.until(b"2")
    s.quiet(1)
    s.send(SYNC)
    s.until(b"Z")


def timeout_query(s):
    """The same on Query: had Flush failed, the Query would have been discarded."""
    s.send(query("SET statement_timeout = 200"))
    s.until(b"Z")
    s.send(parse("SELECT 1"), FLUSH)
    s.until(b"1")
    s.quiet(1)
    s.send(query("SELECT 1"))
    s.until(b"Z")


def large(s):
    """Rows and CopyData that do not fit one read."""
    s.send(query("SELECT repeat('x', 3000), repeat('y', 100); COPY (SELECT repeat('z', 3000)) TO STDOUT"))
    s.until(b"Z")
    s.send(query("COPY things FROM STDIN"))
    s.until(b"G")
    s.send(copy_data(b"300\t" + b"x" * 3000 + b"\n"), COPY_DONE)
    s.until(b"Z")


def copy_both(_):
    s = session(replication="true")
    s.send(query("IDENTIFY_SYSTEM"))
    position = None
    while (found := s.next(5))[:1] != b"Z":
        if found[:1] == b"D":
            position = re.search(rb"[0-9A-F]+/[0-9A-F]+", found)[0].decode()
    s.send(query(f"START_REPLICATION PHYSICAL {position}"))
    s.until(b"W")
    s.send(COPY_DONE)
    s.until(b"Z")
    s.close()


first = None if sys.argv[1] == "copy_both" else session()
globals()[sys.argv[1]](first)
if first:
    first.close()
