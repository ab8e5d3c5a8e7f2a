"""libpq 18 speaks OAUTHBEARER; where the token comes from is this program's, by libpq's hook.

    libpq_oauth.py LIBPQ CONNINFO CA

The libpq of the tests is built without its own device flow (libpq-oauth), so this does the same against
the issuer that the server names: it prints where somebody has to confirm, waits, and then what the
server says of the session.
"""

import ctypes
import json
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

library, conninfo, ca = sys.argv[1:]
tls = ssl.create_default_context(cafile=ca)


class BearerRequest(ctypes.Structure):
    _fields_ = [
        ("openid_configuration", ctypes.c_char_p),
        ("scope", ctypes.c_char_p),
        ("run", ctypes.c_void_p),
        ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_char_p),
        ("user", ctypes.c_void_p),
    ]


def ask(url, form=None):
    data = urllib.parse.urlencode(form).encode() if form else None
    try:
        with urllib.request.urlopen(url, data, 20, context=tls) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        return json.load(refused)


def device_flow(discovery):
    document = ask(discovery)
    meant = {"client_id": "cli", "scope": "openid", "resource": "urn:sallyport:test"}
    device = ask(document["device_authorization_endpoint"], meant)
    print(f"open {device['verification_uri_complete']}", flush=True)
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": device["device_code"],
        "client_id": "cli",
    }
    deadline = time.monotonic() + device["expires_in"]
    while time.monotonic() < deadline:
        time.sleep(device.get("interval", 5))
        granted = ask(document["token_endpoint"], form)
        if "access_token" in granted:
            return granted["access_token"]
        if granted["error"] != "authorization_pending":
            break
    raise SystemExit("nobody confirmed")


kept = []


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def hook(kind, _connection, data):
    if kind != 1:  # PQAUTHDATA_OAUTH_BEARER_TOKEN
        return 0
    request = ctypes.cast(data, ctypes.POINTER(BearerRequest)).contents
    discovery = request.openid_configuration.decode()
    print(f"discovery {discovery}", flush=True)
    # libpq reads it until the request is over.
    kept.append(device_flow(discovery).encode())
    request.token = kept[-1]
    return 1


libpq = ctypes.CDLL(library)
libpq.PQsetAuthDataHook(hook)
libpq.PQconnectdb.restype = ctypes.c_void_p
libpq.PQexec.restype = ctypes.c_void_p
for name in ("PQerrorMessage", "PQstatus", "PQexec", "PQfinish", "PQresultErrorMessage"):
    getattr(libpq, name).argtypes = [ctypes.c_void_p]
libpq.PQexec.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
libpq.PQgetvalue.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
libpq.PQgetvalue.restype = ctypes.c_char_p
libpq.PQerrorMessage.restype = ctypes.c_char_p

connection = libpq.PQconnectdb(conninfo.encode())
if libpq.PQstatus(connection) != 0:
    print(f"error {libpq.PQerrorMessage(connection).decode().strip()}", flush=True)
    sys.exit(1)
result = libpq.PQexec(connection, b"show sallyport.subject")
print(f"subject {libpq.PQgetvalue(result, 0, 0).decode()}", flush=True)
libpq.PQfinish(connection)
