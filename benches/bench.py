#!/usr/bin/env python3
"""What carrying PostgreSQL through Sallyport costs, beside going directly, a bare relay, PgBouncer and HAProxy.

Every round runs each combination once, in an order that rotates, so that drift of the machine hits all alike; ratios are taken
within a round. Prints tables of medians with the lowest and the highest, and the goals with what was reached.

Starts everything privately on loopback and stops it. `make bench` runs it; `make bench BENCH="--quick"` takes about two
minutes and is good for seeing that it works, not for figures.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import measures
import report
from stage import Stage

README = Path(__file__).resolve().parent / "README.md"


def main():
    options = arguments()
    with Stage(options) as stage:
        results = run(stage, options)
        text = report.everything(results, stage, options, command())
    print(text)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    if options.write:
        report.write_results(README, text)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--rounds", type=int, default=5, help="how often each combination runs (default 5)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one pgbench run (default 3)")
    parser.add_argument("--clients", type=numbers, default=[1, 16, 64], help="connections (default 1,16,64)")
    parser.add_argument("--modes", type=words, default=["simple", "prepared"], help="pgbench -M (default simple,prepared)")
    parser.add_argument("--measures", type=words, default=list(measures.ALL), help=f"which of {','.join(measures.ALL)} (default all)")
    parser.add_argument("--paths", type=words, help="only these paths")
    parser.add_argument("--scale", type=int, default=10, help="pgbench -s (default 10)")
    parser.add_argument("--bulk-megabytes", type=int, default=1024, help="size of a large result (default 1024)")
    parser.add_argument("--idle-sessions", type=numbers, default=[2000, 10000], help="idle sessions; descriptors may allow fewer (default 2000,10000)")
    parser.add_argument("--json", metavar="FILE", help="write every single run")
    parser.add_argument("--write", action="store_true", help=f"put the results into {README.parent.name}/{README.name}")
    options = parser.parse_args()
    unknown = set(options.measures) - set(measures.ALL)
    if unknown:
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")
    if options.quick:
        options.rounds, options.seconds, options.clients, options.bulk_megabytes, options.idle_sessions = 1, 1, [1, 64], 64, [500]
    for name in ("sallyport", "relay", "mask", "judge"):
        setattr(options, name, Path(os.environ.get(name.upper()) or sys.exit(f"set {name.upper()} to the binary, or run make bench")).resolve())
    return options


def numbers(text):
    return [int(part) for part in text.split(",")]


def words(text):
    return text.split(",")


def run(stage, options):
    results = []
    for round_number in range(options.rounds):
        for name in options.measures:
            for result in measures.ALL[name](stage, options, round_number):
                results.append(result | {"measure": name, "round": round_number})
                progress(f"round {round_number + 1} of {options.rounds}, {name}: {result['path']}")
    progress("")
    return results


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr)


def command():
    return f'make bench BENCH="{" ".join(sys.argv[1:])}"' if len(sys.argv) > 1 else "make bench"


if __name__ == "__main__":
    main()
