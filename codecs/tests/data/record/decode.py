"""Says what a transcript holds, message by message: the `.expected` beside it.

Written from the manual ("Message Formats", "Message Flow") and not from the Rust code, which is
checked against what this says. It trusts its input.
"""

import struct

BACKEND = {
    "K": "BackendKeyData", "2": "BindComplete", "3": "CloseComplete", "C": "CommandComplete",
    "W": "CopyBothResponse", "d": "CopyData", "c": "CopyDone", "G": "CopyInResponse",
    "H": "CopyOutResponse", "D": "DataRow", "I": "EmptyQueryResponse", "E": "ErrorResponse",
    "V": "FunctionCallResponse", "v": "NegotiateProtocolVersion", "n": "NoData",
    "N": "NoticeResponse", "A": "NotificationResponse", "t": "ParameterDescription",
    "S": "ParameterStatus", "1": "ParseComplete", "s": "PortalSuspended", "Z": "ReadyForQuery",
    "T": "RowDescription",
}
AUTHENTICATION = {
    0: "AuthenticationOk", 3: "AuthenticationCleartextPassword", 5: "AuthenticationMD5Password",
    10: "AuthenticationSASL", 11: "AuthenticationSASLContinue", 12: "AuthenticationSASLFinal",
}


def quote(data):
    text = ""
    for byte in data:
        plain = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 39: "\\'", 92: "\\\\"}.get(byte)
        text += plain or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}")
    return f'"{text}"'


def value(data):
    if data is None:
        return "null"
    return quote(data) if len(data) <= 40 else f"{len(data)} bytes"


class Fields:
    def __init__(self, body):
        self.body = body

    def take(self, layout):
        size = struct.calcsize("!" + layout)
        found = struct.unpack("!" + layout, self.body[:size])
        self.body = self.body[size:]
        return found[0] if len(found) == 1 else found

    def bytes(self, count):
        found, self.body = self.body[:count], self.body[count:]
        return found

    def string(self):
        found, _, self.body = self.body.partition(b"\0")
        return found

    def nullable(self):
        length = self.take("i")
        return None if length == -1 else self.bytes(length)

    def formats(self):
        return "".join("tb"[self.take("H")] for _ in range(self.take("H"))) or "-"


def target(kind):
    return {b"S": "statement", b"P": "portal"}[kind]


def frontend(tag, body, authentication):
    f = Fields(body)
    if tag == "Q":
        return f"Query {quote(f.string())}"
    if tag == "P":
        name, text = f.string(), f.string()
        types = [str(f.take("I")) for _ in range(f.take("H"))]
        return f"Parse {quote(name)} {quote(text)} {','.join(types) or '-'}"
    if tag == "B":
        portal, statement, formats = f.string(), f.string(), f.formats()
        values = [value(f.nullable()) for _ in range(f.take("H"))]
        return " ".join(["Bind", quote(portal), quote(statement), formats, *values, f.formats()])
    if tag in "DC":
        kind = target(f.bytes(1))
        return f"{'Describe' if tag == 'D' else 'Close'} {kind} {quote(f.string())}"
    if tag == "E":
        return f"Execute {quote(f.string())} {f.take('i')}"
    if tag == "F":
        oid, formats = f.take("I"), f.formats()
        values = [value(f.nullable()) for _ in range(f.take("H"))]
        return " ".join(["FunctionCall", str(oid), formats, *values, "tb"[f.take("H")]])
    if tag == "d":
        return f"CopyData {value(body)}"
    if tag == "f":
        return f"CopyFail {quote(f.string())}"
    if tag == "p":
        return f"Password {len(body)} bytes for {authentication}"
    return {"S": "Sync", "H": "Flush", "c": "CopyDone", "X": "Terminate"}[tag]


def backend(tag, body):
    f = Fields(body)
    if tag == "R":
        name = AUTHENTICATION[f.take("I")]
        if name == "AuthenticationSASL":
            name += " " + ",".join(m.decode() for m in f.body.split(b"\0") if m)
        return name
    name = BACKEND[tag]
    if tag == "K":
        f.take("I")
        return f"{name} {len(f.body)} bytes"
    if tag == "C":
        return f"{name} {quote(f.string())}"
    if tag in "GHW":
        return f"{name} {'tb'[f.take('B')]} {f.formats()}"
    if tag == "d":
        return f"{name} {value(body)}"
    if tag == "D":
        return " ".join([name, *(value(f.nullable()) for _ in range(f.take("H")))])
    if tag in "EN":
        fields = {}
        while (code := f.bytes(1)) != b"\0":
            fields[code] = f.string()
        return f"{name} {fields[b'V'].decode()} {fields[b'C'].decode()} {quote(fields[b'M'])}"
    if tag == "V":
        return f"{name} {value(f.nullable())}"
    if tag == "v":
        major, minor, count = f.take("HHI")
        return " ".join([name, f"{major}.{minor}", *(f.string().decode() for _ in range(count))])
    if tag == "A":
        f.take("I")
        return f"{name} {quote(f.string())} {quote(f.string())}"
    if tag == "t":
        types = [str(f.take("I")) for _ in range(f.take("H"))]
        return f"{name} {','.join(types) or '-'}"
    if tag == "S":
        return f"{name} {quote(f.string())} {quote(f.string())}"
    if tag == "Z":
        return f"{name} {chr(f.take('B'))}"
    if tag == "T":
        columns = []
        for _ in range(f.take("H")):
            column = f.string()
            table, attribute, oid, size, modifier, format = f.take("IhIhiH")
            columns.append(f"{quote(column)}:{table}.{attribute}:{oid}:{size}:{modifier}:{'tb'[format]}")
        return " ".join([name, *columns])
    return name


def startup(body):
    f = Fields(body)
    code = f.take("I")
    if code == 80877103:
        return "SSLRequest"
    if code == 80877104:
        return "GSSENCRequest"
    if code == 80877102:
        f.take("I")
        return f"CancelRequest {len(f.body)} bytes"
    pairs = []
    while name := f.string():
        pairs.append(f"{name.decode()}={quote(f.string())}")
    return " ".join([f"StartupMessage {code >> 16}.{code & 65535}", *pairs])


class Pairing:
    """Which request a reply answers: numbers of the client's messages since its login."""

    def __init__(self):
        self.waiting = []
        self.skipping = False
        self.copy = None
        self.copy_ended = 0

    def sent(self, number, tag):
        if tag in "cf" and self.copy == "open":
            self.copy, self.copy_ended = "ended", number
        if tag == "S" and self.copy != "open":
            self.skipping = False
            self.waiting.append((number, tag))
        elif tag in "QPBDECF" and not self.skipping:
            self.waiting.append((number, tag))

    def received(self, tag, body):
        if tag in "NAS":
            return ""
        if tag == "E" and any(part in body for part in (b"VFATAL\0", b"VPANIC\0")):
            return " fatal"
        number, request = self.waiting[0]
        over = tag in {"P": "1", "B": "2", "D": "Tn", "E": "CIs", "C": "3"}.get(request, "Z")
        failed = tag == "E" and request in "PBDEC"
        if tag == "G":
            self.copy = "open"
        elif tag in "CE" and self.copy:
            self.copy = None
            # Sent before the client knew that this is a COPY: ignored while the server read.
            self.waiting[1:] = [w for w in self.waiting[1:] if w[0] > self.copy_ended]
        if over or failed:
            self.waiting.pop(0)
        if failed:
            while self.waiting and self.waiting[0][1] != "S":
                self.waiting.pop(0)
            self.skipping = not self.waiting
        return f" [{number}]"


def describe(chunks, pairs=True):
    """Lines for all messages of a connection, in the order in which they were complete."""
    lines, buffers = [], {">": b"", "<": b""}
    phase, authentication, number, pairing = "startup", "", 0, Pairing()
    encryption_asked, login = False, True
    for direction, data in chunks:
        buffers[direction] += data
        while True:
            buffer = buffers[direction]
            if direction == "<" and encryption_asked and buffer:
                lines.append(f"< {chr(buffer[0])}")
                encryption_asked, buffers["<"] = False, buffer[1:]
                continue
            untyped = direction == ">" and phase == "startup"
            start = 0 if untyped else 1
            if len(buffer) < start + 4:
                break
            length = start + struct.unpack("!I", buffer[start:start + 4])[0]
            if len(buffer) < length:
                break
            body, buffers[direction] = buffer[start + 4:length], buffer[length:]
            tag = chr(buffer[0])
            if untyped:
                line = startup(body)
                encryption_asked = line in ("SSLRequest", "GSSENCRequest")
                phase = "login" if line.startswith("StartupMessage") else phase
                lines.append(f"> {line}")
            elif direction == ">":
                line = frontend(tag, body, authentication)
                if login:
                    lines.append(f"> {line}")
                    continue
                number += 1
                pairing.sent(number, tag)
                lines.append(f"> {number} {line}")
            else:
                line = backend(tag, body)
                if tag == "R":
                    authentication = line.split(" ")[0]
                paired = pairing.received(tag, body) if pairs and not login else ""
                lines.append(f"< {line}{paired}")
                if tag == "Z":
                    login = False
    return lines


def read(path):
    header, chunks = {}, []
    with open(path) as file:
        for line in file:
            mark, rest = line.rstrip("\n").split(" ", 1)
            if mark == "#":
                name, _, text = rest.partition(": ")
                header[name] = text
            else:
                chunks.append((mark, bytes.fromhex(rest)))
    return header, chunks
