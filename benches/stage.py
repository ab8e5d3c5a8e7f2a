"""PostgreSQL and everything that is put in front of it, started privately on loopback.

Proxies with one worker are pinned to the first CPU that this process may use, those with two to the first two. PostgreSQL and the
clients run anywhere. Nothing here measures.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 30  # seconds that a server may take to start
DATABASE = "bench"
ACCOUNT = "svc"  # logs in by SCRAM, as an account should
TRUSTED = "trusted"  # the same without proof, for clients of ours that know no SCRAM

POLICY = """
[[rule]]
name    = "benchmark-reads"
groups  = ["bench"]
targets = ["*"]
allow   = { statements = ["read", "transaction", "session", "cursor", "prepare"] }

[[rule]]
name    = "no-destruction"
groups  = ["*"]
targets = ["*"]
deny    = { statements = ["drop", "truncate", "alter", "grant", "copy-program", "delete-without-where", "update-without-where"] }
"""


@dataclass
class Endpoint:
    """Where clients connect to take one of the paths."""

    path: str
    port: int
    user: str = ACCOUNT
    password: str = ""
    process: subprocess.Popen = None  # the proxy, if there is one
    modes: tuple = ("simple", "prepared")
    versions: list = field(default_factory=list)


class Stage:
    def __init__(self, options):
        self.options = options
        folders = Path("/usr/lib/postgresql").glob("*/bin")
        self.binaries = max(folders, key=lambda folder: int(folder.parent.name), default=None)
        if self.binaries is None:
            sys.exit("PostgreSQL is missing: apt install postgresql")
        self.cpus = sorted(os.sched_getaffinity(0))
        self.processes = []
        self.folders = []
        self.password = secrets.token_hex(12)
        self.versions = []
        self.endpoints = {}

    def __enter__(self):
        self.folder = self.temporary("/tmp")
        try:
            self.start_postgres()
            self.start_paths()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            self.stop(process)
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)

    def start_paths(self):
        direct = Endpoint("direct", self.postgres_port, password=self.password)
        trusted = Endpoint("direct-trust", self.postgres_port, TRUSTED)
        target = f"127.0.0.1:{self.postgres_port}"
        self.add(direct)
        self.add(trusted)
        self.add(self.start_relay("relay", target, 1))
        self.add(self.start_sallyport("sallyport", target, 1))
        self.add(self.start_pgbouncer("pgbouncer", "session", self.postgres_port))
        self.add(self.start_pgbouncer("pgbouncer-transaction", "transaction", self.postgres_port))
        self.add(self.start_haproxy("haproxy", target))
        if len(self.cpus) > 1:
            self.add(self.start_relay("relay-2", target, 2))
            self.add(self.start_sallyport("sallyport-2", target, 2))

    def add(self, endpoint):
        wanted = self.options.paths
        if wanted is None or endpoint.path in wanted:
            self.endpoints[endpoint.path] = endpoint

    def take(self, names):
        """The endpoints of these paths, of those that were asked for."""
        return [self.endpoints[name] for name in names if name in self.endpoints]

    # Processes and places

    def temporary(self, parent):
        folder = Path(tempfile.mkdtemp(prefix="sallyport-bench.", dir=parent))
        folder.chmod(0o755)
        self.folders.append(folder)
        return folder

    def start(self, name, command, workers=None):
        if workers is not None:
            chosen = ",".join(str(cpu) for cpu in self.cpus[:workers])
            command = ["taskset", "--cpu-list", chosen, *command]
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        process.name = name
        self.processes.append(process)
        return process

    def stop(self, process):
        process.send_signal(signal.SIGINT if process.name == "postgres" else signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process in self.processes:
            self.processes.remove(process)

    # PostgreSQL

    def start_postgres(self):
        folder = owned(self.folder / "postgres")
        data = folder / "data"
        initdb = [self.binaries / "initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "-D", data]
        subprocess.run(unprivileged() + initdb, check=True, stdout=subprocess.DEVNULL)
        hba = f"local all all trust\nhost all {ACCOUNT} 127.0.0.1/32 scram-sha-256\nhost all {TRUSTED} 127.0.0.1/32 trust\n"
        (data / "pg_hba.conf").write_text(hba)
        self.postgres_port = free_port()
        settings = {
            "port": self.postgres_port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder,
            "fsync": "off", "shared_buffers": "256MB", "max_connections": "900",
        }
        command = unprivileged() + [self.binaries / "postgres", "-D", data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self.start("postgres", command)
        self.psql = [self.binaries / "psql", "-X", "-q", "-A", "-t", "-h", folder, "-p", str(self.postgres_port), "-U", "postgres"]
        wait_for("PostgreSQL", lambda: subprocess.run(self.psql + ["-d", "postgres", "-c", "select 1"], capture_output=True).returncode == 0)
        roles = (f"create role {ACCOUNT} login password '{self.password}'", f"create role {TRUSTED} login in role {ACCOUNT}", f"create database {DATABASE} owner {ACCOUNT}")
        for statement in roles:
            subprocess.run(self.psql + ["-d", "postgres", "-c", statement], check=True)
        pgbench = [self.binaries / "pgbench", "-i", "-q", "-s", str(self.options.scale), "-h", folder, "-p", str(self.postgres_port), "-U", ACCOUNT, DATABASE]
        subprocess.run(pgbench, check=True, capture_output=True)
        subprocess.run(self.psql + ["-d", DATABASE, "-c", "vacuum analyze"], check=True)
        version = subprocess.run(self.psql + ["-d", "postgres", "-c", "show server_version"], check=True, capture_output=True, text=True)
        self.versions.append(f"PostgreSQL {version.stdout.split()[0]}")

    # What is put in front of it. `target` is the address of any server; `database` the one that clients ask for.

    def start_relay(self, name, target, workers):
        port = free_port()
        process = self.start(name, [self.options.relay, f"127.0.0.1:{port}", target, str(workers)], workers)
        wait_for(name, lambda: listens(port))
        return Endpoint(name, port, TRUSTED, process=process)

    def start_sallyport(self, name, target, workers, account=ACCOUNT, connections=250, tables=""):
        folder = self.folder / name
        for part in ("state", "policy.d"):
            (folder / part).mkdir(parents=True)
        # The journal's rings belong on tmpfs.
        run = self.temporary("/dev/shm") if Path("/dev/shm").is_dir() else owned(folder / "run")
        password = folder / "password"
        password.write_text(self.password)
        password.chmod(0o600)
        (folder / "policy.d/rules.toml").write_text(POLICY)
        configuration = folder / "sallyport.toml"
        port = free_port()
        configuration.write_text(f"""
[listen]
postgres = ["127.0.0.1:{port}"]
admin = "{run}/admin.sock"
console = "off"
[limits]
sessions = 20000
unauthenticated_per_address = 1024
[runtime]
shards = {workers}
directory = "{run}"
[state]
directory = "{folder}/state"
{tables}
[[target]]
name = "{DATABASE}"
protocol = "postgres"
address = "{target}"
user = "{account}"
password = "file:{password}"
tls = "disable"
pool = {{ connections = {connections}, warm = 4 }}
""")
        command = [self.options.sallyport, "--config", configuration]
        process = self.start(name, command + ["serve"], workers)
        wait_for(name, lambda: subprocess.run(command + ["status"], capture_output=True).returncode == 0)
        issue = ["token", "issue", "--agent", "pgbench", "--groups", "bench", "--ttl", "8h"]
        token = subprocess.run(command + issue, check=True, capture_output=True, text=True).stdout.strip()
        self.note_version([self.options.sallyport, "--version"])
        return Endpoint(name, port, "agent", token, process)

    def start_pgbouncer(self, name, pool_mode, target_port, account=ACCOUNT, connections=200):
        binary = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        folder = owned(self.folder / name)
        (folder / "users.txt").write_text(f'"{ACCOUNT}" "{self.password}"\n')
        port = free_port()
        (folder / "pgbouncer.ini").write_text(f"""
[databases]
{DATABASE} = host=127.0.0.1 port={target_port} user={account} password={self.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users.txt
pool_mode = {pool_mode}
default_pool_size = {connections}
max_client_conn = 20000
log_connections = 0
log_disconnections = 0
""")
        process = self.start(name, unprivileged() + [binary, folder / "pgbouncer.ini"], 1)
        wait_for(name, lambda: listens(port))
        self.note_version([binary, "--version"])
        # Named prepared statements do not survive a change of server connection before PgBouncer 1.21.
        modes = ("simple", "prepared") if pool_mode == "session" else ("simple",)
        return Endpoint(name, port, ACCOUNT, self.password, process, modes)

    def start_haproxy(self, name, target):
        binary = shutil.which("haproxy") or "/usr/sbin/haproxy"
        port = free_port()
        configuration = self.folder / f"{name}.cfg"
        configuration.write_text(f"""
global
    nbthread 1
    maxconn 9900
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen postgres
    bind 127.0.0.1:{port}
    server target {target}
""")
        process = self.start(name, [binary, "-db", "-f", configuration], 1)
        wait_for(name, lambda: listens(port))
        self.note_version([binary, "-v"])
        return Endpoint(name, port, TRUSTED, process=process)

    def note_version(self, command):
        lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        version = lines[0].split(" - ")[0] if lines else str(command[0])
        if version not in self.versions:
            self.versions.append(version)


def unprivileged():
    """PostgreSQL and PgBouncer refuse to run as root."""
    return ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"] if os.getuid() == 0 else []


def owned(folder):
    folder.mkdir()
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return folder


def free_port():
    """A port that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what, ready):
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not start")
        time.sleep(0.05)
