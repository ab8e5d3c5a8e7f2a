"""What is measured. Each measure yields one result for each path; what it reads off the proxy is CPU time and memory.

CPU time is the sum over the proxy's threads of /proc/PID/task/*/schedstat. Nothing here starts a server of the stage, but for the
idle measure, whose servers end with it.
"""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import clients
from stage import DATABASE, TRUSTED, free_port, listens, wait_for

SILENT_SERVER = Path(__file__).resolve().parent / "silent_server.py"
SLOW_READ = {"bytes": 256 * 1024, "every": 0.05, "seconds": 4}


def query(stage, options, round_number):
    """pgbench -S on standing connections."""
    for mode in options.modes:
        for count in options.clients:
            names = ["direct", "relay", "sallyport", "pgbouncer", "pgbouncer-transaction", "haproxy"]
            if count > 1:
                names += ["relay-2", "sallyport-2"]
            for endpoint in rotated(stage.take(names), round_number):
                if mode in endpoint.modes:
                    yield pgbench(stage, options, endpoint, count, ["-M", mode]) | {"mode": mode}


def connect(stage, options, round_number):
    """One connection for each query: log in, ask, log out."""
    names = ["direct", "direct-trust", "relay", "sallyport", "pgbouncer", "haproxy"]
    for count in options.clients:
        for endpoint in rotated(stage.take(names), round_number):
            # Whatever a first connection finds cold (pools, caches of tokens, relation cache files) is warm then.
            pgbench(stage, options, endpoint, count, ["-C"], seconds=1)
            yield pgbench(stage, options, endpoint, count, ["-C"])


def pgbench(stage, options, endpoint, count, arguments, seconds=None):
    command = [
        stage.binaries / "pgbench", "-S", "-n", *arguments, "-c", str(count), "-j", str(min(count, 2)), "-T", str(seconds or options.seconds),
        "-h", "127.0.0.1", "-p", str(endpoint.port), "-U", endpoint.user, DATABASE,
    ]
    environment = os.environ | {"PGPASSWORD": endpoint.password, "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}
    before = cpu_seconds(endpoint.process)
    finished = subprocess.run(command, capture_output=True, text=True, env=environment)
    after = cpu_seconds(endpoint.process)
    if finished.returncode != 0:
        sys.exit(f"{endpoint.path}: pgbench failed\n{finished.stderr}")
    queries = int(found(r"number of transactions actually processed: (\d+)", finished.stdout))
    result = {
        "path": endpoint.path, "clients": count, "queries": queries,
        "tps": float(found(r"tps = ([\d.]+) \((?:without initial|including reconnection)", finished.stdout)),
        "latency_ms": float(found(r"latency average = ([\d.]+) ms", finished.stdout)),
    }
    if endpoint.process is not None:
        result["cpu_us"] = (after["all"] - before["all"]) / queries * 1e6
        if endpoint.path.startswith("sallyport"):
            # Its journal, archivist and control threads, beside its shards.
            result["cpu_us_beside"] = (after["beside"] - before["beside"]) / queries * 1e6
    return result


def bulk(stage, options, round_number):
    """A large result to a fast reader, as COPY and as rows."""
    rows = options.bulk_megabytes * 1024
    statements = {
        "COPY": f"copy (select repeat('x', 1023) from generate_series(1, {rows})) to stdout",
        "SELECT": f"select repeat('x', 1013) from generate_series(1, {rows})",
    }
    names = ["direct-trust", "relay", "sallyport", "pgbouncer", "haproxy"]
    for kind, statement in statements.items():
        for endpoint in rotated(stage.take(names), round_number):
            with clients.connect(endpoint, DATABASE) as session:
                before = cpu_seconds(endpoint.process)
                started = time.monotonic()
                session.ask(statement)
                megabytes = session.read_answer() / 1e6
                took = time.monotonic() - started
                after = cpu_seconds(endpoint.process)
            result = {"path": endpoint.path, "mode": kind, "mb_per_s": megabytes / took}
            if endpoint.process is not None:
                result["cpu_us"] = (after["all"] - before["all"]) / megabytes * 1e6
            yield result


def slow(stage, options, round_number):
    """How much a proxy's memory grows while a large result waits for a slow reader."""
    statement = f"copy (select repeat('x', 1023) from generate_series(1, {options.bulk_megabytes * 1024})) to stdout"
    for endpoint in rotated(stage.take(["relay", "sallyport", "pgbouncer", "haproxy"]), round_number):
        with clients.connect(endpoint, DATABASE) as session:
            before = resident_bytes(endpoint.process)
            most = before
            session.ask(statement)
            ends = time.monotonic() + (1 if options.quick else SLOW_READ["seconds"])
            while time.monotonic() < ends:
                session.read_some(SLOW_READ["bytes"])
                time.sleep(SLOW_READ["every"])
                most = max(most, resident_bytes(endpoint.process))
        yield {"path": endpoint.path, "grown_bytes": most - before, "peak_bytes": most}


def idle(stage, options, round_number):
    """Memory of a session that is logged in and silent, over a few and over as many as descriptors allow. Once is enough: it does not vary."""
    if round_number > 0:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port = free_port()
    upstream = stage.start("silent-server", [sys.executable, SILENT_SERVER, str(port)])
    try:
        wait_for("the silent server", lambda: listens(port))
        # A proxy needs two descriptors for each session, and some for itself.
        for wanted in options.idle_sessions:
            yield from crowds(stage, port, min(wanted, (hard - 400) // 2))
    finally:
        upstream.send_signal(signal.SIGTERM)
        stage.stop(upstream)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def crowds(stage, port, count):
    target = f"127.0.0.1:{port}"
    starts = {
        "relay": lambda name: stage.start_relay(name, target, 1),
        "sallyport": lambda name: stage.start_sallyport(name, target, 1, account=TRUSTED, connections=min(count + 8, 10_000)),
        "pgbouncer": lambda name: stage.start_pgbouncer(name, "session", port, TRUSTED, count + 8),
        "haproxy": lambda name: stage.start_haproxy(name, target),
    }
    for path, start in starts.items():
        if path not in stage.endpoints:
            continue
        endpoint = start(f"{path}-idle-{count}")
        before = resident_bytes(endpoint.process)
        with clients.crowd(endpoint, DATABASE, count):
            settled = settled_bytes(endpoint.process)
            spent = cpu_seconds(endpoint.process)["all"]
            time.sleep(1)
            spent = cpu_seconds(endpoint.process)["all"] - spent
        yield {"path": path, "sessions": count, "bytes": (settled - before) / count, "idle_cpu": spent}
        stage.stop(endpoint.process)


def speeds(stage, options, round_number):
    """What needs no other process: the scan of rows for values, and the verdict on a statement."""
    for what, measure, gigabytes in rows_of(subprocess.run([options.mask, "rows"], check=True, capture_output=True, text=True).stdout, 3):
        yield {"path": "sallyport", "mode": f"{what}: {measure}", "gb_per_s": float(gigabytes)}
    for what, nanoseconds in rows_of(subprocess.run([options.judge], check=True, capture_output=True, text=True).stdout, 2):
        yield {"path": "sallyport", "mode": f"verdict on a statement: {what}", "ns": float(nanoseconds)}


def rows_of(table, columns):
    """The first columns of a table in Markdown, without its heading."""
    for line in table.splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")][:columns]


# The slow reader goes before the fast one: memory that was grown into already would not show.
ALL = {"query": query, "connect": connect, "slow": slow, "bulk": bulk, "idle": idle, "speeds": speeds}


def rotated(endpoints, turn):
    turn %= max(len(endpoints), 1)
    return endpoints[turn:] + endpoints[:turn]


def cpu_seconds(process):
    """CPU time of all threads of a process, and of those of Sallyport that carry no traffic."""
    spent = {"all": 0.0, "beside": 0.0}
    if process is None:
        return spent
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        try:
            seconds = int((thread / "schedstat").read_text().split()[0]) / 1e9
            name = (thread / "comm").read_text().strip()
        except FileNotFoundError:
            continue
        spent["all"] += seconds
        if not name.startswith("shard"):
            spent["beside"] += seconds
    return spent


def resident_bytes(process):
    return int(found(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())) * 1024


def settled_bytes(process):
    """Once it has not changed for a second."""
    last, since = resident_bytes(process), time.monotonic()
    while time.monotonic() - since < 1:
        time.sleep(0.1)
        now = resident_bytes(process)
        if now != last:
            last, since = now, time.monotonic()
    return last


def found(pattern, text):
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"no {pattern} in:\n{text}")
    return match.group(1)
