"""A PostgreSQL client of single messages, for exchanges that no driver makes on request."""

import socket
import struct


def message(tag: bytes, body: bytes = b"") -> bytes:
    return tag + struct.pack("!I", len(body) + 4) + body


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def startup(minor: int = 0, **parameters: str) -> bytes:
    body = struct.pack("!HH", 3, minor)
    for name, value in parameters.items():
        body += text(name) + text(value)
    body += b"\0"
    return struct.pack("!I", len(body) + 4) + body


def query(sql): return message(b"Q", text(sql))
def parse(sql, name=""): return message(b"P", text(name) + text(sql) + struct.pack("!H", 0))
def describe(kind, name=""): return message(b"D", kind + text(name))
def execute(portal="", rows=0): return message(b"E", text(portal) + struct.pack("!I", rows))
def close(kind, name=""): return message(b"C", kind + text(name))
def copy_data(data): return message(b"d", data)
def copy_fail(reason): return message(b"f", text(reason))


def bind(portal="", statement="", values=()):
    body = text(portal) + text(statement) + struct.pack("!HH", 0, len(values))
    for value in values:
        body += struct.pack("!I", len(value)) + value
    return message(b"B", body + struct.pack("!H", 0))


def function_call(oid, arguments):
    body = struct.pack("!IHHH", oid, 1, 1, len(arguments))
    for argument in arguments:
        body += struct.pack("!I", len(argument)) + argument
    return message(b"F", body + struct.pack("!H", 1))


SYNC = message(b"S")
FLUSH = message(b"H")
COPY_DONE = message(b"c")
TERMINATE = message(b"X")


class Session:
    """A connection whose replies are read until a tag, or until the server is silent or gone."""

    def __init__(self, host, port, minor=0, **parameters):
        self.socket = socket.create_connection((host, port))
        self.buffer = b""
        self.socket.sendall(startup(minor, **parameters))
        self.greeting = self.until(b"Z")

    def send(self, *messages):
        self.socket.sendall(b"".join(messages))

    def next(self, timeout):
        self.socket.settimeout(timeout)
        while True:
            if len(self.buffer) >= 5:
                length = struct.unpack("!I", self.buffer[1:5])[0] + 1
                if len(self.buffer) >= length:
                    found, self.buffer = self.buffer[:length], self.buffer[length:]
                    return found
            try:
                arrived = self.socket.recv(65536)
            except TimeoutError:
                return None
            except ConnectionResetError:
                return b""
            if not arrived:
                return b""
            self.buffer += arrived

    def until(self, tag, times=1, timeout=10):
        """Replies up to and with the `times`th of `tag`, as tags; `$` for the end of the stream."""
        tags = ""
        while times:
            found = self.next(timeout)
            if found is None:
                raise TimeoutError(f"awaiting {tag!r} after {tags}")
            if found == b"":
                return tags + "$"
            tags += chr(found[0])
            times -= found[:1] == tag
        return tags

    def quiet(self, seconds=0.3):
        """All replies until the server has been silent for so long."""
        tags = ""
        while True:
            found = self.next(seconds)
            if not found:
                return tags + ("$" if found == b"" else "")
            tags += chr(found[0])

    def close(self):
        self.send(TERMINATE)
        self.quiet(5)
        self.socket.close()
