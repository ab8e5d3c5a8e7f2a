"""A TCP proxy that writes down what it carries, one file for each connection."""

import os
import selectors
import socket
import threading


class Tap:
    """Listens on a port of its own. `stop` returns the connections in the order they were opened."""

    def __init__(self, host, port):
        self.upstream = (host, port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = []
        self.threads = []
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()

    def accept(self):
        while True:
            try:
                downstream, _ = self.listener.accept()
            except OSError:
                return
            chunks = []
            self.connections.append(chunks)
            carrier = threading.Thread(target=self.carry, args=(downstream, chunks), daemon=True)
            carrier.start()
            self.threads.append(carrier)

    def carry(self, downstream, chunks):
        upstream = socket.create_connection(self.upstream)
        selector = selectors.DefaultSelector()
        selector.register(downstream, selectors.EVENT_READ, (">", upstream))
        selector.register(upstream, selectors.EVENT_READ, ("<", downstream))
        open_ends = 2
        while open_ends:
            for key, _ in selector.select():
                direction, other = key.data
                try:
                    arrived = key.fileobj.recv(65536)
                except ConnectionResetError:
                    arrived = b""
                if arrived:
                    chunks.append((direction, arrived))
                    try:
                        other.sendall(arrived)
                    except OSError:
                        pass
                else:
                    selector.unregister(key.fileobj)
                    open_ends -= 1
                    try:
                        other.shutdown(socket.SHUT_WR)
                    except OSError:
                        pass

    def stop(self):
        self.listener.close()
        for thread in self.threads:
            thread.join(10)
        return self.connections


def write(path, header, chunks):
    """The transcript: header lines, then a line for each chunk, `>` from the client, `<` to it."""
    with open(path, "w") as file:
        for name, value in header.items():
            file.write(f"# {name}: {value}\n")
        for direction, data in chunks:
            file.write(f"{direction} {data.hex()}\n")
    os.chmod(path, 0o644)
