#!/usr/bin/env python3
"""A PostgreSQL that lets everybody in and does nothing: `silent_server.py PORT`. For as many connections as descriptors allow.

Every statement of a simple query is answered by its completion, which is enough for what proxies say on a connection of theirs.
"""

import asyncio
import itertools
import resource
import struct
import sys

PARAMETERS = {
    "server_version": "15.0", "server_encoding": "UTF8", "client_encoding": "UTF8", "standard_conforming_strings": "on",
    "integer_datetimes": "on", "DateStyle": "ISO, MDY", "TimeZone": "Etc/UTC", "IntervalStyle": "postgres",
    "application_name": "", "is_superuser": "off", "session_authorization": "trusted",
}
ENCRYPTION_REQUESTS = (80877103, 80877104)

process_ids = itertools.count(1)


def message(tag, body):
    return tag + struct.pack("!i", len(body) + 4) + body


READY = message(b"Z", b"I")
WELCOME = message(b"R", struct.pack("!i", 0)) + b"".join(message(b"S", f"{name}\0{value}\0".encode()) for name, value in PARAMETERS.items())


async def serve(reader, writer):
    try:
        await greet(reader, writer)
        while True:
            tag = await reader.readexactly(1)
            (length,) = struct.unpack("!i", await reader.readexactly(4))
            body = await reader.readexactly(length - 4)
            if tag == b"X":
                return
            if tag == b"Q":
                statements = body.rstrip(b"\0; ").count(b";") + 1
                writer.write(message(b"C", b"SET\0") * statements + READY)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def greet(reader, writer):
    while True:
        length, code = struct.unpack("!ii", await reader.readexactly(8))
        await reader.readexactly(length - 8)
        if code not in ENCRYPTION_REQUESTS:
            break
        writer.write(b"N")
    writer.write(WELCOME + message(b"K", struct.pack("!ii", next(process_ids), 1)) + READY)


async def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
