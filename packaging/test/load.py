#!/usr/bin/env python3
"""Writes rows through Sallyport until it is stopped, and says what became of each: `load.py TOKEN LOG`.

Half of the clients connect for each statement, half keep their session as long as it lasts. Lines of LOG:
`written ID` (acknowledged), `refused ID SQLSTATE` (the answer was a refusal: 57P01 where the session had ended before
the statement came), `lost ID WHY` (no answer), `unconnected WHY` (no session).
On SIGTERM it lets what is under way finish.
"""

import signal
import sys
import threading

import psycopg2

CLIENTS = 6
stopping = threading.Event()


def connect(token):
    return psycopg2.connect(
        host="localhost", hostaddr="127.0.0.1", port=6432, dbname="orders", user="load", password=token,
        sslmode="verify-full", sslrootcert="/opt/t/certificate.pem", connect_timeout=60,
    )


def client(number, token, log):
    session, count = None, 0
    while not stopping.is_set():
        if session is None:
            try:
                session = connect(token)
                session.autocommit = True
            except psycopg2.Error as error:
                log(f"unconnected {' '.join(str(error).split())}")
                stopping.wait(0.1)
                continue
        count += 1
        name = f"{number}-{count}"
        try:
            with session.cursor() as cursor:
                cursor.execute("insert into written values (%s)", (name,))
            log(f"written {name}")
        except psycopg2.Error as error:
            log(f"refused {name} {error.pgcode}" if error.pgcode else f"lost {name} {' '.join(str(error).split())}")
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
