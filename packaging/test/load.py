#!/usr/bin/env python3
"""Writes rows through Sallyport until it is stopped, and says what became of each: `load.py TOKEN LOG`.

Half of the clients connect for each statement, half keep their session as long as it lasts. Lines of LOG:
`written ID` (acknowledged), `ended ID` (the session had ended before the statement came, with the words of a stop),
`lost ID WHY` (no answer), `unconnected WHY` (no session).
On SIGTERM it lets what is under way finish.
"""

import signal
import sys
import threading

import psycopg

CLIENTS = 6
stopping = threading.Event()


def connect(token):
    return psycopg.connect(
        host="localhost", hostaddr="127.0.0.1", port=6432, dbname="orders", user="load", password=token,
        sslmode="verify-full", sslrootcert="/opt/t/certificate.pem", connect_timeout=60, autocommit=True,
    )


def client(number, token, log):
    session, count = None, 0
    while not stopping.is_set():
        if session is None:
            try:
                session = connect(token)
            except psycopg.Error as error:
                log(f"unconnected {' '.join(str(error).split())}")
                stopping.wait(0.1)
                continue
        count += 1
        name = f"{number}-{count}"
        try:
            session.execute(f"insert into written values ('{name}')")
            log(f"written {name}")
        except psycopg.Error as error:
            # libpq reads the FATAL and the end of the connection at once, and keeps the words of it, not the SQLSTATE.
            said = "the appliance is stopping" in str(error)
            log(f"ended {name}" if said else f"lost {name} {' '.join(str(error).split())}")
            session.close()
            session = None
            continue
        if number % 2 == 0:
            session.close()
            session = None
        stopping.wait(0.01)


def main():
    token, path = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    lock = threading.Lock()
    with open(path, "w", encoding="utf-8", buffering=1) as file:
        def log(line):
            with lock:
                file.write(line + "\n")

        threads = [threading.Thread(target=client, args=(number, token, log)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            stopping.wait(0.2) if not stopping.is_set() else [thread.join(60) for thread in threads]


if __name__ == "__main__":
    main()
