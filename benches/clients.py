"""The little of PostgreSQL's client side that measuring needs: log in, ask, count bytes. Only cleartext passwords and trust."""

import contextlib
import select
import socket
import struct

READY = b"Z\0\0\0\5I"  # ReadyForQuery outside of a transaction
PATIENCE = 60  # seconds that an answer may take
LOGINS_AT_ONCE = 64


@contextlib.contextmanager
def connect(endpoint, database):
    session = Session(endpoint, database)
    try:
        session.wait_until_ready()
        yield session
    finally:
        session.socket.close()


@contextlib.contextmanager
def crowd(endpoint, database, count):
    """So many sessions, each of which has asked once, so that a pool has given each a connection."""
    sessions = []
    try:
        while len(sessions) < count:
            batch = [Session(endpoint, database) for _ in range(min(LOGINS_AT_ONCE, count - len(sessions)))]
            sessions += batch
            for session in batch:
                session.wait_until_ready()
            for session in batch:
                session.ask("select 1")
            for session in batch:
                session.wait_until_ready()
        yield sessions
    finally:
        for session in sessions:
            session.socket.close()


class Session:
    """A connection whose start-up packet is sent."""

    def __init__(self, endpoint, database):
        self.socket = socket.create_connection(("127.0.0.1", endpoint.port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.password = endpoint.password
        self.tail = b""
        parameters = b"".join(text.encode() + b"\0" for text in ("user", endpoint.user, "database", database))
        self.socket.sendall(struct.pack("!ii", len(parameters) + 9, 196608) + parameters + b"\0")

    def wait_until_ready(self):
        """Answers a request for a password, and fails at an error."""
        while True:
            tag, body = self.message()
            if tag == b"E":
                raise SystemExit(f"refused: {body!r}")
            if tag == b"R" and body == b"\0\0\0\3":
                self.send(b"p", self.password.encode() + b"\0")
            elif tag == b"Z":
                return

    def ask(self, text):
        self.send(b"Q", text.encode() + b"\0")

    def read_answer(self):
        """Reads up to ReadyForQuery and returns the number of bytes. Rows that look like one would end it early."""
        buffer = bytearray(1024 * 1024)
        total, tail = 0, b""
        while tail != READY:
            count = self.socket.recv_into(buffer)
            if count == 0:
                raise SystemExit("closed in the middle of an answer")
            total += count
            tail = (tail + bytes(buffer[max(count - len(READY), 0):count]))[-len(READY):]
        return total

    def read_some(self, most):
        if select.select([self.socket], [], [], PATIENCE)[0]:
            self.socket.recv(most)

    def send(self, tag, body):
        self.socket.sendall(tag + struct.pack("!i", len(body) + 4) + body)

    def message(self):
        tag, length = struct.unpack("!ci", self.exactly(5))
        return tag, self.exactly(length - 4)

    def exactly(self, count):
        while len(self.tail) < count:
            received = self.socket.recv(65536)
            if not received:
                raise SystemExit("closed during login")
            self.tail += received
        taken, self.tail = self.tail[:count], self.tail[count:]
        return taken
