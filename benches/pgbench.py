#!/usr/bin/env python3
"""pgbench -S direct, through Sallyport and through PgBouncer (session mode), interleaved.

Every round runs each combination once, in an order that rotates, so that drift of the machine hits all alike. Prints the
median and the range over the rounds of rate, latency and the proxy's CPU time per query. Client, proxy and server share the
cores: CPU per query is the figure to trust; rates only compare within one run.

Starts everything privately on loopback and stops it. `make bench` runs it; `make bench BENCH="--rounds 9"` passes options.
"""

import argparse
import json
import os
import platform
import pwd
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE = 30  # seconds that a server may take to start


def main():
    options = arguments()
    sallyport = os.environ.get("SALLYPORT") or sys.exit("set SALLYPORT to the binary, or run make bench")
    with Stage(sallyport, options) as stage:
        results = measure(stage, options)
    print(header(sallyport, stage, options))
    print(report(results))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each combination runs (default 5)")
    parser.add_argument("--seconds", type=int, default=4, help="length of one run (default 4)")
    parser.add_argument("--clients", type=numbers, default=[1, 16, 64], help="connections (default 1,16,64)")
    parser.add_argument("--modes", type=lambda text: text.split(","), default=["simple", "prepared", "connect"], help="pgbench -M, or connect for one connection per query (default simple,prepared,connect)")
    parser.add_argument("--shards", type=int, default=1, help="shards of Sallyport (default 1: PgBouncer has one thread)")
    parser.add_argument("--scale", type=int, default=10, help="pgbench -s (default 10)")
    parser.add_argument("--json", metavar="FILE", help="write every single run")
    return parser.parse_args()


def numbers(text):
    return [int(part) for part in text.split(",")]


def measure(stage, options):
    paths = ["direct", "sallyport", "pgbouncer"]
    results = []
    combinations = [(mode, clients) for mode in options.modes for clients in options.clients]
    total = options.rounds * len(combinations) * len(paths)
    for round_number in range(options.rounds):
        for mode, clients in combinations:
            turn = round_number % len(paths)
            for path in paths[turn:] + paths[:turn]:
                results.append(stage.run(path, mode, clients, round_number))
                if sys.stderr.isatty():
                    print(f"\r{len(results)}/{total}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    return results


class Stage:
    """PostgreSQL, Sallyport and PgBouncer, started privately."""

    def __init__(self, sallyport, options):
        self.sallyport = Path(sallyport).resolve()
        self.options = options
        folders = Path("/usr/lib/postgresql").glob("*/bin")
        self.binaries = max(folders, key=lambda folder: int(folder.parent.name), default=None)
        if self.binaries is None:
            sys.exit("PostgreSQL is missing: apt install postgresql")
        self.processes = []
        self.run_folder = None
        self.password = secrets.token_hex(12)
        self.ports = dict(zip(["direct", "sallyport", "pgbouncer"], free_ports(3)))

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="sallyport-bench."))
        self.folder.chmod(0o755)
        try:
            self.start_postgres()
            self.start_pgbouncer()
            self.start_sallyport()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM if process is not self.processes[0] else signal.SIGINT)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
        for folder in (self.folder, self.run_folder):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def unprivileged(self):
        """PostgreSQL and PgBouncer refuse to run as root."""
        return ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"] if os.getuid() == 0 else []

    def start(self, name, command):
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def own_folder(self, name):
        folder = self.folder / name
        folder.mkdir()
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        return folder

    def start_postgres(self):
        folder = self.own_folder("postgres")
        initdb = [self.binaries / "initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "-D", folder / "data"]
        subprocess.run(self.unprivileged() + initdb, check=True, stdout=subprocess.DEVNULL)
        settings = {
            "port": self.ports["direct"], "listen_addresses": "127.0.0.1", "unix_socket_directories": folder,
            "fsync": "off", "shared_buffers": "256MB", "max_connections": "300",
        }
        command = self.unprivileged() + [self.binaries / "postgres", "-D", folder / "data"]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self.start("postgres", command)
        self.psql = [self.binaries / "psql", "-X", "-q", "-A", "-t", "-h", folder, "-p", str(self.ports["direct"]), "-U", "postgres"]
        wait_for("PostgreSQL", lambda: subprocess.run(self.psql + ["-d", "postgres", "-c", "select 1"], capture_output=True).returncode == 0)
        for statement in (f"create role svc login password '{self.password}'", "create database bench owner svc"):
            subprocess.run(self.psql + ["-d", "postgres", "-c", statement], check=True)
        pgbench = [self.binaries / "pgbench", "-i", "-q", "-s", str(self.options.scale), "-h", "127.0.0.1", "-p", str(self.ports["direct"]), "-U", "svc", "bench"]
        subprocess.run(pgbench, check=True, capture_output=True, env=os.environ | {"PGPASSWORD": self.password})
        subprocess.run(self.psql + ["-d", "bench", "-c", "vacuum analyze"], check=True)
        self.versions = [subprocess.run(self.psql + ["-d", "postgres", "-c", "show server_version"], check=True, capture_output=True, text=True).stdout.strip()]

    def start_pgbouncer(self):
        binary = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        (self.folder / "users.txt").write_text(f'"svc" "{self.password}"\n')
        (self.folder / "pgbouncer.ini").write_text(f"""
[databases]
bench = host=127.0.0.1 port={self.ports["direct"]} user=svc password={self.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.ports["pgbouncer"]}
unix_socket_dir =
auth_type = plain
auth_file = {self.folder}/users.txt
pool_mode = session
default_pool_size = 200
max_client_conn = 300
log_connections = 0
log_disconnections = 0
""")
        self.pgbouncer = self.start("pgbouncer", self.unprivileged() + [binary, self.folder / "pgbouncer.ini"])
        wait_for("PgBouncer", lambda: listens(self.ports["pgbouncer"]))
        version = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.splitlines()
        self.versions.append(version[0] if version else "PgBouncer")

    def start_sallyport(self):
        folder = self.folder
        for name in ("run", "state", "policy.d"):
            (folder / name).mkdir()
        # The rings belong on tmpfs.
        run = Path(tempfile.mkdtemp(prefix="sallyport-bench.", dir="/dev/shm")) if Path("/dev/shm").is_dir() else folder / "run"
        self.run_folder = run
        password = folder / "password"
        password.write_text(self.password)
        password.chmod(0o600)
        (folder / "policy.d/rules.toml").write_text("""
[[rule]]
name    = "benchmark-reads"
groups  = ["bench"]
targets = ["bench"]
allow   = { statements = ["read", "transaction", "session", "cursor", "prepare"] }

[[rule]]
name    = "no-destruction"
groups  = ["*"]
targets = ["*"]
deny    = { statements = ["drop", "truncate", "alter", "grant", "copy-program", "delete-without-where", "update-without-where"] }
""")
        (folder / "sallyport.toml").write_text(f"""
[listen]
postgres = ["127.0.0.1:{self.ports["sallyport"]}"]
admin = "{run}/admin.sock"
[runtime]
shards = {self.options.shards}
directory = "{run}"
[state]
directory = "{folder}/state"
[[target]]
name = "bench"
protocol = "postgres"
address = "127.0.0.1:{self.ports["direct"]}"
database = "bench"
user = "svc"
password = "file:{password}"
tls = "disable"
pool = {{ connections = 200, warm = 4 }}
""")
        command = [self.sallyport, "--config", folder / "sallyport.toml"]
        self.appliance = self.start("sallyport", command + ["serve"])
        wait_for("Sallyport", lambda: subprocess.run(command + ["status"], capture_output=True).returncode == 0)
        issue = ["token", "issue", "--agent", "pgbench", "--groups", "bench", "--ttl", "8h"]
        self.token = subprocess.run(command + issue, check=True, capture_output=True, text=True).stdout.strip()
        self.versions.append(subprocess.run([self.sallyport, "--version"], capture_output=True, text=True).stdout.strip())

    def run(self, path, mode, clients, round_number):
        proxy = {"sallyport": self.appliance, "pgbouncer": self.pgbouncer}.get(path)
        environment = os.environ | {
            "PGPASSWORD": self.token if path == "sallyport" else self.password,
            "PGSSLMODE": "disable", "PGGSSENCMODE": "disable",
        }
        command = [
            self.binaries / "pgbench", "-S", "-n", *(["-C"] if mode == "connect" else ["-M", mode]), "-c", str(clients), "-j", str(min(clients, 2)),
            "-T", str(self.options.seconds), "-h", "127.0.0.1", "-p", str(self.ports[path]), "-U", "svc", "bench",
        ]
        before = cpu_seconds(proxy)
        finished = subprocess.run(command, capture_output=True, text=True, env=environment)
        after = cpu_seconds(proxy)
        if finished.returncode != 0:
            sys.exit(f"{path}: pgbench failed\n{finished.stderr}")
        queries = int(found(r"number of transactions actually processed: (\d+)", finished.stdout))
        result = {
            "path": path, "mode": mode, "clients": clients, "round": round_number, "queries": queries,
            "tps": float(found(r"tps = ([\d.]+) \((?:without initial|including reconnection)", finished.stdout)),
            "latency_ms": float(found(r"latency average = ([\d.]+) ms", finished.stdout)),
        }
        if proxy is not None:
            spent = {kind: after[kind] - before[kind] for kind in after}
            result["cpu_us"] = sum(spent.values()) / queries * 1e6
            # Sallyport's journal and control threads, beside its shards.
            result["cpu_us_beside"] = spent["beside"] / queries * 1e6
        return result


def cpu_seconds(process):
    """CPU time of all threads of a process: of those that carry traffic, and of the others."""
    spent = {"traffic": 0.0, "beside": 0.0}
    if process is None:
        return spent
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        try:
            nanoseconds = int((thread / "schedstat").read_text().split()[0])
            name = (thread / "comm").read_text().strip()
        except FileNotFoundError:
            continue
        beside = any(word in name for word in ("journal", "control", "tokio", "blocking"))
        spent["beside" if beside else "traffic"] += nanoseconds / 1e9
    return spent


def free_ports(count):
    """Ports that nobody listened on a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what, ready):
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not start")
        time.sleep(0.05)


def found(pattern, text):
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"pgbench printed no {pattern}:\n{text}")
    return match.group(1)


def header(sallyport, stage, options):
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return "\n".join([
        f"{os.cpu_count()} x {cpu}, Linux {platform.release()}, PostgreSQL {stage.versions[0]}, {stage.versions[1]}, {stage.versions[2]} at {commit}",
        f"pgbench -S -s {options.scale}, {options.rounds} rounds of {options.seconds} s, {options.shards} shard(s), loopback without TLS; median (lowest to highest)",
        "",
    ])


def report(results):
    lines = ["| mode | clients | path | tps | latency ms | proxy CPU us/query | of that beside the shards | CPU against PgBouncer |", "|---|---|---|---|---|---|---|---|"]
    keys = list(dict.fromkeys((r["mode"], r["clients"], r["path"]) for r in results))
    keys.sort(key=lambda key: (key[0], key[1], ["direct", "pgbouncer", "sallyport"].index(key[2])))
    for mode, clients, path in keys:
        runs = [r for r in results if (r["mode"], r["clients"], r["path"]) == (mode, clients, path)]
        cells = [mode, str(clients), path, spread([r["tps"] for r in runs], 0), spread([r["latency_ms"] for r in runs], 3)]
        if path == "direct":
            cells += ["", "", ""]
        else:
            cells.append(spread([r["cpu_us"] for r in runs], 1))
            cells.append(spread([r["cpu_us_beside"] for r in runs], 1) if path == "sallyport" else "")
            cells.append(ratio(results, runs) if path == "sallyport" else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(results, runs):
    """Of the two proxies in the same round: above 1 means cheaper than PgBouncer."""
    quotients = []
    for run in runs:
        other = next(r for r in results if r["path"] == "pgbouncer" and all(r[k] == run[k] for k in ("mode", "clients", "round")))
        quotients.append(other["cpu_us"] / run["cpu_us"])
    return spread(quotients, 2)


def spread(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
