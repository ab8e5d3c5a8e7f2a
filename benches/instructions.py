#!/usr/bin/env python3
"""Instructions per operation of the data path's layers, counted by valgrind.

Each case runs twice, with different repetitions; the difference over the repetitions is the cost of one, without what
starting costs. `make bench-instructions` builds and runs it; `--profile CASE` prints where the instructions go, and
`--hostile` what texts that mean to be dear cost, per byte and in memory, at three lengths.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FEW = 200
MANY = 1200
HOSTILE_BYTES = (64 << 10, 256 << 10, (1 << 20) - 64)


def main():
    options = arguments()
    binary = Path(os.environ.get("INSTRUCTIONS") or sys.exit("run make bench-instructions"))
    known = subprocess.run([binary], capture_output=True, text=True).stderr.split()
    if options.profile:
        return profile(binary, options.profile)
    print(f"commit {commit()}, {machine()}, {valgrind_version()}\n")
    if options.hostile:
        return hostile(binary)
    print("| operation | instructions |\n|---|---|")
    for case in options.cases or known:
        few, many = (count(binary, case, repetitions) for repetitions in (FEW, MANY))
        print(f"| {case} | {round((many - few) / (MANY - FEW)):,} |", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help="which to count (default all)")
    parser.add_argument("--profile", metavar="CASE", help="print the functions that a case spends its instructions in")
    parser.add_argument("--hostile", action="store_true", help="count texts that mean to be dear")
    return parser.parse_args()


def hostile(binary):
    print("| text | instructions per byte at " + ", ".join(f"{size >> 10} KiB" for size in HOSTILE_BYTES) + " | MiB at the last | read |")
    print("|---|---|---|---|")
    none = count(binary, "hostile", 0, also=["literal"])
    for name in subprocess.run([binary, "hostile"], capture_output=True, text=True).stderr.split():
        each = [(count(binary, "hostile", size, also=[name]) - none) / size for size in HOSTILE_BYTES]
        memory, is_read = peak([binary, "hostile", str(HOSTILE_BYTES[-1]), name])
        print(f"| {name} | {', '.join(f'{cost:,.0f}' for cost in each)} | {memory:.0f} | {is_read} |", flush=True)


def peak(command):
    """Peak memory of a process in MiB, measured in a child of our own, and whether the text was read."""
    code = "import resource,subprocess,sys;r=subprocess.run(sys.argv[1:],capture_output=True,text=True);print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,r.stderr)"
    words = subprocess.run([sys.executable, "-c", code, *map(str, command)], check=True, capture_output=True, text=True).stdout.split()
    return int(words[0]) / 1024, "yes" if words[1] == "read=true" else "no"


def count(binary, case, repetitions, out="/dev/null", also=()):
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", binary, case, str(repetitions), *also]
    finished = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", finished.stderr)
    if finished.returncode or not found:
        sys.exit(finished.stderr)
    return int(found.group(1))


def profile(binary, case):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        count(binary, case, 10 * MANY, out)
        annotated = subprocess.run(["callgrind_annotate", "--auto=no", "--threshold=95", out], check=True, capture_output=True, text=True)
        print(annotated.stdout)


def commit():
    return subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()


def machine():
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return models[0] if models else "unknown CPU"


def valgrind_version():
    return subprocess.run(["valgrind", "--version"], capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
