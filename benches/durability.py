#!/usr/bin/env python3
"""What each durability of the recording costs: latency and CPU of a query, and group commits.

Every round runs each durability once, in an order that rotates; ratios to `process` are taken within a round. Recordings are on the
disk of /var/tmp (or TMPDIR): `strict` waits for it. Starts everything privately on loopback and stops it. `make bench-durability`.
"""

import argparse
import os
import re
import socket
import statistics
import sys
import tempfile
from pathlib import Path

import measures
from stage import Stage

DURABILITIES = ("process", "bounded:50ms", "strict")


class Durabilities(Stage):
    """PostgreSQL behind one appliance for each durability."""

    def start_paths(self):
        for durability in DURABILITIES:
            recordings = Path(tempfile.mkdtemp(prefix="sallyport-bench.", dir=os.environ.get("TMPDIR", "/var/tmp")))
            self.folders.append(recordings)
            tables = f'[recording]\ndirectory = "{recordings}"\ndurability = "{durability}"\n'
            self.add(self.start_sallyport(durability, f"127.0.0.1:{self.postgres_port}", 1, tables=tables))


def main():
    options = arguments()
    results = []
    with Durabilities(options) as stage:
        for round_number in range(options.rounds):
            for count in options.clients:
                for endpoint in measures.rotated(stage.take(DURABILITIES), round_number):
                    before = commits(stage, endpoint)
                    result = measures.pgbench(stage, options, endpoint, count, ["-M", "prepared"])
                    result["commits"] = commits(stage, endpoint) - before
                    results.append(result | {"round": round_number})
        print(table(results, options, stage))


def commits(stage, endpoint):
    """Group commits so far; with `bounded` and `strict` each is one fdatasync of the shard's file."""
    text = (stage.folder / endpoint.path / "sallyport.toml").read_text()
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(re.search(r'admin = "(.*)"', text).group(1))
        admin.sendall(b"GET /v1/metrics HTTP/1.1\r\nHost: sallyport\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := admin.recv(65536):
            answer += piece
    return int(float(re.search(r"^sallyport_journal_commits(?:_total)? (\S+)", answer.decode(), re.MULTILINE).group(1)))


def table(results, options, stage):
    lines = [
        f"{', '.join(stage.versions)}; pgbench -S -M prepared, {options.rounds} rounds of {options.seconds} s, medians (lowest to highest); one shard.",
        "",
        "| clients | durability | latency, ms | ratio to `process` | CPU of shard, us a query | CPU beside it | commits per 1000 queries |",
        "|---|---|---|---|---|---|---|",
    ]
    for count in options.clients:
        runs = {name: [it for it in results if it["path"] == name and it["clients"] == count] for name in DURABILITIES}
        base = {it["round"]: it["latency_ms"] for it in runs["process"]}
        for name in DURABILITIES:
            values = runs[name]
            ratios = [it["latency_ms"] / base[it["round"]] for it in values]
            shard = [it["cpu_us"] - it["cpu_us_beside"] for it in values]
            beside = [it["cpu_us_beside"] for it in values]
            made = [it["commits"] / it["queries"] * 1000 for it in values]
            cells = [spread([it["latency_ms"] for it in values], 3), spread(ratios, 2), spread(shard, 1), spread(beside, 1), spread(made, 2)]
            lines.append(f"| {count} | `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each combination runs (default 5)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one pgbench run (default 3)")
    parser.add_argument("--clients", type=lambda text: [int(part) for part in text.split(",")], default=[1, 16, 64], help="connections (default 1,16,64)")
    parser.add_argument("--scale", type=int, default=10, help="pgbench -s (default 10)")
    options = parser.parse_args()
    options.paths = None
    options.sallyport = Path(os.environ.get("SALLYPORT") or sys.exit("set SALLYPORT to the binary, or run make bench-durability")).resolve()
    return options


if __name__ == "__main__":
    main()
