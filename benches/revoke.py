#!/usr/bin/env python3
"""How long a revocation takes to put out live sessions: from its request at the admin socket to the end of each connection.

`revoke.py --sallyport BINARY`. The target is silent_server.py: what a session is cut off from does not matter here.
"""

import argparse
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from stage import DATABASE, Stage, free_port, listens, wait_for

SILENT_SERVER = Path(__file__).resolve().parent / "silent_server.py"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sallyport", required=True, help="the binary")
    parser.add_argument("--sessions", type=int, default=1000, help="live at once (default 1000)")
    parser.add_argument("--single", type=int, default=200, help="revocations of one session among all (default 200)")
    parser.add_argument("--rounds", type=int, default=5, help="revocations of all sessions at once (default 5)")
    options = parser.parse_args()
    options.paths = None
    stage = Stage(options)
    stage.folder = stage.temporary("/tmp")
    try:
        measure(stage, options)
    finally:
        stage.__exit__()


def measure(stage, options):
    port = free_port()
    stage.start("silent-server", [sys.executable, SILENT_SERVER, str(port)])
    wait_for("the silent server", lambda: listens(port))
    shards = min(2, len(stage.cpus))
    endpoint = stage.start_sallyport("sallyport", f"127.0.0.1:{port}", shards, connections=options.sessions + 50)
    command = [options.sallyport, "--config", stage.folder / "sallyport/sallyport.toml"]
    admin = Admin(json.loads(subprocess.run(command + ["status", "--json"], check=True, capture_output=True).stdout), stage)
    load = os.getloadavg()[0]
    print(f"{options.sessions} sessions on {shards} shard(s); load average at the start {load:.1f}; {stage.versions[0]}")
    crowd = Crowd(endpoint, options.sessions)

    first, acknowledged = [], []
    for _ in range(options.single):
        listed = subprocess.run(command + ["sessions", "--state", "live", "--limit", "1", "--json"], check=True, capture_output=True)
        session = json.loads(listed.stdout.splitlines()[0])["id"]
        ends, answer, _ = crowd.revoke(admin, {"kind": "session", "name": session}, 1)
        first += ends
        acknowledged.append(answer)
        crowd.fill()
    report(f"one of {options.sessions}: end of its connection", first)
    report("acknowledged (on the disk, published)", acknowledged)

    all_ends, last, acknowledged = [], [], []
    for _ in range(options.rounds):
        ends, answer, made = crowd.revoke(admin, {"kind": "agent", "name": "pgbench"}, options.sessions)
        all_ends += ends
        last.append(max(ends))
        acknowledged.append(answer)
        admin.ask("DELETE", f"/v1/revocations/{made['id']}", None)
        crowd.fill()
    report(f"all {options.sessions} at once: end of each connection", all_ends)
    report("the last of them", last)
    report("acknowledged", acknowledged)


def report(name, seconds):
    seconds = sorted(seconds)
    at = lambda share: seconds[min(len(seconds) - 1, int(share * len(seconds)))] * 1000
    print(f"{name}: p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms, longest {seconds[-1] * 1000:.1f} ms ({len(seconds)})")


class Admin:
    """The admin socket, over one connection."""

    def __init__(self, status, stage):
        self.path = next(folder / "admin.sock" for folder in stage.folders if (folder / "admin.sock").exists())
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(self.path))

    def send(self, method, path, body):
        body = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: sallyport\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)

    def receive(self):
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.socket.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        while len(body) < length:
            body += self.socket.recv(65536)
        if not head.startswith(b"HTTP/1.1 200"):
            sys.exit(body.decode())
        return json.loads(body)

    def ask(self, method, path, body):
        self.send(method, path, body)
        return self.receive()


class Crowd:
    """So many sessions of one agent."""

    def __init__(self, endpoint, count):
        self.endpoint, self.count = endpoint, count
        self.sockets = {}
        self.poll = select.epoll()
        self.fill()

    def fill(self):
        while len(self.sockets) < self.count:
            connection = login(self.endpoint)
            self.sockets[connection.fileno()] = connection
            self.poll.register(connection, select.EPOLLIN)

    def revoke(self, admin, wanted, expected):
        """When each connection ended and when it was acknowledged, in seconds from the request; and what was made."""
        ends, answer, made = [], None, None
        self.poll.register(admin.socket, select.EPOLLIN)
        begun = time.perf_counter()
        admin.send("POST", "/v1/revocations", wanted)
        while len(ends) < expected or answer is None:
            ready = self.poll.poll(20)
            if not ready:
                sys.exit(f"{len(ends)} of {expected} sessions ended in 20 s")
            for number, _ in ready:
                if number == admin.socket.fileno():
                    made = admin.receive()
                    answer = time.perf_counter() - begun
                elif self.has_ended(number):
                    ends.append(time.perf_counter() - begun)
        self.poll.unregister(admin.socket)
        return ends, answer, made

    def has_ended(self, number):
        connection = self.sockets[number]
        connection.setblocking(False)
        try:
            while connection.recv(65536):
                pass
        except BlockingIOError:
            return False
        except ConnectionError:
            pass
        self.poll.unregister(connection)
        del self.sockets[number]
        connection.close()
        return True


def login(endpoint):
    connection = socket.create_connection(("127.0.0.1", endpoint.port), 30)
    parameters = b"user\0agent\0database\0" + DATABASE.encode() + b"\0\0"
    connection.sendall(struct.pack("!ii", len(parameters) + 8, 196608) + parameters)
    stream = connection.makefile("rb")
    while True:
        tag = stream.read(1)
        (length,) = struct.unpack("!i", stream.read(4))
        body = stream.read(length - 4)
        if tag == b"R" and body[:4] == struct.pack("!i", 3):
            token = endpoint.password.encode() + b"\0"
            connection.sendall(b"p" + struct.pack("!i", len(token) + 4) + token)
        elif tag == b"Z":
            return connection
        elif tag not in (b"R", b"S", b"K", b"N"):
            sys.exit(f"no login: {tag} {body}")


if __name__ == "__main__":
    main()
