"""Records the transcripts in ../postgres: see README.md."""

import datetime
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import decode
import tap

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "postgres")
CLIENTS = os.path.join(HERE, "clients")
NOBODY = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
PASSWORD = "throw-away"

FIXTURE = """
CREATE TABLE things (number int4 UNIQUE, text text);
INSERT INTO things VALUES (1, 'one'), (2, NULL);
SET password_encryption = 'scram-sha-256';
CREATE ROLE by_scram LOGIN PASSWORD 'throw-away';
CREATE ROLE by_cleartext LOGIN PASSWORD 'throw-away';
SET password_encryption = 'md5';
CREATE ROLE by_md5 LOGIN PASSWORD 'throw-away';
"""
ACCESS = """
host all by_scram 127.0.0.1/32 scram-sha-256
host all by_cleartext 127.0.0.1/32 password
host all by_md5 127.0.0.1/32 md5
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
"""
PSQL_SIMPLE = r"""
SELECT 1 AS one, NULL AS nothing, 'a''b' AS text;
SELECT 1 \; SELECT 2 \; INSERT INTO things VALUES (3, 'three');
BEGIN;
SELECT no_such_column;
SELECT 1;
ROLLBACK;
;
DO $$ BEGIN RAISE NOTICE 'a notice'; RAISE WARNING 'a warning'; END $$;
LISTEN news;
NOTIFY news, 'of the day';
SET application_name = 'another';
"""
PSQL_COPY = r"""
COPY things FROM STDIN;
10	ten
11	\N
\.
COPY things FROM STDIN;
not a number	x
\.
SELECT 1 \; COPY things TO STDOUT \; SELECT 2;
\copy (SELECT 1) to /dev/null
"""
PSQL_EXTENDED = r"""
SELECT $1::int4 + $2, $3::text \bind 1 2 three \g
SELECT $1 \parse named
\bind_named named four \g
\close_prepared named
SELECT 1 / $1 \bind 0 \g
\set FETCH_COUNT 3
SELECT generate_series(1, 7);
"""
PSQL_PIPELINE = r"""
\startpipeline
SELECT $1::int4 \bind 1 \sendpipeline
SELECT $1::int4 \bind 2 \sendpipeline
\flushrequest
\getresults
SELECT 1 / $1 \bind 0 \sendpipeline
SELECT $1::int4 \bind 3 \sendpipeline
\syncpipeline
SELECT $1::int4 \bind 4 \sendpipeline
\endpipeline
SELECT 5;
"""


class Server:
    def __init__(self, binaries, root):
        self.binaries = binaries
        self.root = root
        os.chmod(root, 0o777)
        data = os.path.join(root, "data")
        self.run("initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C")
        with open(os.path.join(data, "pg_hba.conf"), "w") as file:
            file.write(ACCESS)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            NOBODY + [os.path.join(binaries, "postgres"), "-D", data, "-p", str(self.port),
                      "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
                      "-c", f"unix_socket_directories={root}"],
            stderr=open(os.path.join(root, "log"), "w"))
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the server does not start"
        self.version = self.ask("SHOW server_version").split()[0]

    def run(self, program, *arguments):
        subprocess.run(NOBODY + [os.path.join(self.binaries, program), *arguments], check=True,
                       stdout=subprocess.DEVNULL)

    def ask(self, sql):
        for _ in range(50):
            done = subprocess.run(
                [os.path.join(self.binaries, "psql"), "-X", "-h", "127.0.0.1", "-p", str(self.port),
                 "-U", "tester", "-d", "postgres", "-Atq", "-c", sql],
                capture_output=True, text=True)
            if done.returncode == 0:
                return done.stdout.strip()
            time.sleep(0.1)
        raise RuntimeError(done.stderr)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)


def record(server, name, client, command, pairs=True, stdin="", interrupt=False, environment=None):
    server.ask("DROP TABLE IF EXISTS things; DROP ROLE IF EXISTS by_scram, by_md5, by_cleartext;"
               + FIXTURE)
    carried = tap.Tap("127.0.0.1", server.port)
    environment = os.environ | {"PGPORT": str(carried.port)} | (environment or {})
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if interrupt:
        time.sleep(0.7)
        process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(stdin, 60)
    major = server.version.split(".")[0]
    for number, chunks in enumerate(carried.stop(), 1):
        suffix = "" if number == 1 else f".{number}"
        path = os.path.join(OUT, f"{name}-{major}{suffix}")
        words = [os.path.basename(command[0])] + [os.path.basename(w) for w in command[1:]]
        tap.write(path + ".txt", {
            "server": f"PostgreSQL {server.version}",
            "client": client,
            "command": " ".join(words).replace(str(carried.port), "PORT"),
            "date": datetime.date.today().isoformat(),
            "pairs": "yes" if pairs else "no",
        }, chunks)
        lines = decode.describe(chunks, pairs)
        with open(path + ".expected", "w") as file:
            file.write("\n".join(lines) + "\n")
    print(f"{name}-{major}: exit {process.returncode}", complaints.strip().split("\n")[-1][:100])


def version(command):
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def main():
    binaries_15, binaries_18, python, node_modules = sys.argv[1:5]
    os.makedirs(OUT, exist_ok=True)
    for old in glob.glob(os.path.join(OUT, "*.txt")) + glob.glob(os.path.join(OUT, "*.expected")):
        os.remove(old)
    with tempfile.TemporaryDirectory() as root_15, tempfile.TemporaryDirectory() as root_18, \
            tempfile.TemporaryDirectory() as classes:
        old, new = Server(binaries_15, root_15), Server(binaries_18, root_18)
        try:
            record_all(old, new, python, node_modules, classes)
        finally:
            old.stop()
            new.stop()


def record_all(old, new, python, node_modules, classes):
    def psql(server, conninfo=""):
        return [os.path.join(server.binaries, "psql"), "-X", "-d",
                f"host=127.0.0.1 dbname=postgres user=tester {conninfo}".strip()]

    def with_password(user):
        return {"PGUSER": user, "PGPASSWORD": PASSWORD}

    psql_15, psql_18 = version([psql(old)[0], "-V"]), version([psql(new)[0], "-V"])
    psycopg = "psycopg " + version([python, "-c", "import psycopg; print(psycopg.__version__)"])
    asyncpg = "asyncpg " + version([python, "-c", "import asyncpg; print(asyncpg.__version__)"])
    jar = "/usr/share/java/postgresql.jar"
    jdbc = "pgjdbc " + os.path.basename(os.path.realpath(jar)).removeprefix("postgresql-").removesuffix(".jar")
    node = {"NODE_PATH": node_modules}
    pg = "node-postgres " + version(
        ["node", "-p", f"require('{node_modules}/pg/package.json').version"])

    for server in (old, new):
        record(server, "psql-simple", psql_15, psql(old), stdin=PSQL_SIMPLE)
        record(server, "psql-copy", psql_15, psql(old), stdin=PSQL_COPY)
        for user in ("by_scram", "by_md5", "by_cleartext"):
            name = "psql-login-" + user.removeprefix("by_")
            command = psql(old)
            command[-1] = command[-1].replace("tester", user)
            record(server, name, psql_15, command + ["-c", "SELECT 1"],
                   environment=with_password(user))
    command = psql(old)
    command[-1] = command[-1].replace("tester", "by_scram")
    record(old, "psql-login-refused", psql_15, command + ["-c", "SELECT 1"],
           environment={"PGPASSWORD": "wrong"})
    record(old, "psql-cancel", psql_15, psql(old) + ["-c", "SELECT pg_sleep(30)", "-c", "SELECT 1"],
           interrupt=True)
    record(new, "psql-cancel-3.2", psql_18,
           psql(new, "max_protocol_version=3.2") + ["-c", "SELECT pg_sleep(30)", "-c", "SELECT 1"],
           interrupt=True)
    record(new, "psql-3.2", psql_18, psql(new, "max_protocol_version=3.2"), stdin=PSQL_SIMPLE)
    record(old, "psql-3.2", psql_18, psql(new, "max_protocol_version=3.2"), stdin=PSQL_SIMPLE)
    record(new, "psql-extended", psql_18, psql(new), stdin=PSQL_EXTENDED)
    record(new, "psql-pipeline", psql_18, psql(new), stdin=PSQL_PIPELINE)

    for scenario in ("simple", "prepared", "pipelining", "copy", "cursors", "notify", "cancel"):
        script = os.path.join(CLIENTS, "psycopg_client.py")
        record(old, f"psycopg-{scenario}", psycopg, [python, script, scenario])
    for scenario in ("simple", "prepared", "cursors", "copy", "notify", "cancel"):
        script = os.path.join(CLIENTS, "asyncpg_client.py")
        record(old, f"asyncpg-{scenario}", asyncpg, [python, script, scenario])
    subprocess.run(["javac", "-cp", jar, "-d", classes, os.path.join(CLIENTS, "Jdbc.java")],
                   check=True)
    for scenario in ("prepared", "batch", "cursors", "copy", "large_object", "cancel"):
        record(old, f"pgjdbc-{scenario}", jdbc,
               ["java", "-cp", f"{jar}:{classes}", "Jdbc", scenario])
    for scenario in ("simple", "prepared", "cursors", "copy", "notify"):
        script = os.path.join(CLIENTS, "node_client.js")
        record(old, f"node-{scenario}", pg, ["node", script, scenario], environment=node)
    for scenario in ("extended", "suspended", "deferred", "rules", "copies", "large",
                     "timeout_flush", "copy_both"):
        script = os.path.join(CLIENTS, "raw_client.py")
        record(old, f"raw-{scenario}", "raw.py", [sys.executable, script, scenario])
        record(new, f"raw-{scenario}", "raw.py", [sys.executable, script, scenario])
    for scenario in ("doubtful", "doomed", "timeout", "timeout_query"):
        script = os.path.join(CLIENTS, "raw_client.py")
        record(old, f"raw-{scenario}", "raw.py", [sys.executable, script, scenario], pairs=False)


main()
