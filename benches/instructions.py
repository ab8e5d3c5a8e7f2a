#!/usr/bin/env python3
"""Instructions per operation of the data path's layers, counted by valgrind.

Each case runs twice, with different repetitions; the difference over the repetitions is the cost of one, without what
starting costs. `make bench-instructions` builds and runs it; `--profile CASE` prints where the instructions go, and
`--hostile` what texts that mean to be dear cost, per byte and in memory, at three lengths. `make bench-budget` holds
the counts against `budget.toml` and fails where one grew; `--write` puts them there.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUDGET = ROOT / "benches" / "budget.toml"
# Enough that what grows once (tables, buffers) is not counted as a part of each.
FEW = 200
MANY = 1200
# In percent, of the budget. A compiler moves a count by 1 or 2; a change that somebody ought to know of moves it further.
TOLERANCE = 5
# Where the machine has these, valgrind shows programs one and the same processor, whatever else it has: libc and crates
# that choose by processor choose the same.
BASELINE = ("avx2", "bmi1", "bmi2", "abm", "f16c", "rdrand", "rdseed")
HOSTILE_BYTES = (64 << 10, 256 << 10, (1 << 20) - 64)


def main():
    options = arguments()
    binary = Path(os.environ.get("INSTRUCTIONS") or sys.exit("run make bench-instructions"))
    known = subprocess.run([binary], capture_output=True, text=True).stderr.split()
    if options.profile:
        return profile(binary, options.profile)
    print(f"commit {commit()}, {machine()}, {', '.join(toolchain().values())}\n")
    if options.hostile:
        return hostile(binary)
    cases = options.cases or known
    if options.check:
        return check(binary, cases, known)
    print("| operation | instructions |\n|---|---|")
    counted = {}
    for case, counted[case] in count_all(binary, cases):
        print(f"| {case} | {counted[case]:,} |", flush=True)
    if options.write:
        write(counted)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help="which to count (default all)")
    parser.add_argument("--profile", metavar="CASE", help="print the functions that a case spends its instructions in")
    parser.add_argument("--hostile", action="store_true", help="count texts that mean to be dear")
    parser.add_argument("--check", action="store_true", help=f"fail where a count is more than {TOLERANCE} %% over its budget")
    parser.add_argument("--write", action="store_true", help="make the counts the budget")
    return parser.parse_args()


def check(binary, cases, known):
    """Holds each count against its budget; both what has none and what no case is named like is a failure."""
    if not all(flag in cpu_flags() for flag in BASELINE):
        return "not checked: on this machine valgrind shows programs another processor than the one of the budget"
    budget = tomllib.loads(BUDGET.read_text())
    limits, tolerances = budget["instructions"], budget.get("tolerance", {})
    failures = [f"{case}: a budget for what is not counted" for case in {*limits, *tolerances} - {*known}]
    slack = []
    print("| operation | budget | instructions | change |\n|---|---|---|---|")
    for case, counted in count_all(binary, cases):
        limit, tolerance = limits.get(case), tolerances.get(case, TOLERANCE)
        if limit is None:
            failures.append(f"{case}: no budget")
            continue
        change = 100 * (counted - limit) / limit
        print(f"| {case} | {limit:,} | {counted:,} | {change:+.1f} % |", flush=True)
        if change > tolerance:
            failures.append(f"{case}: {counted:,} instructions, {change:.1f} % over its budget of {limit:,}")
        elif change < -tolerance:
            slack.append(case)
    if slack:
        print(f"\ncheaper than its budget by more than the tolerance: {', '.join(slack)}. Keep it: benches/instructions.py --write")
    if not failures:
        return None
    different = [f"{name} is {found}, the budget was counted with {budget[name]}" for name, found in toolchain().items() if found != budget[name]]
    return "\n".join(["", *failures, *different])


def write(counted):
    """Replaces the numbers and leaves the rest of the file, which says why, as it is."""
    text = BUDGET.read_text()
    for name, found in toolchain().items():
        text = re.sub(rf'(?m)^{name} = ".*"$', f'{name} = "{found}"', text)
    # Tolerances are a table of their own behind the counts.
    counts, separator, rest = text.partition("\n[tolerance]")
    for case, instructions in counted.items():
        line = f"{case} = {instructions:_}"
        counts, replaced = re.subn(rf"(?m)^{re.escape(case)} = .*$", line, counts)
        if not replaced:
            counts = f"{counts.rstrip()}\n{line}\n"
    BUDGET.write_text(counts + separator + rest)


def count_all(binary, cases):
    """Each case with its instructions, in order, counted on all processors that we may use."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        counts = [[threads.submit(count, binary, case, repetitions) for repetitions in (MANY, FEW)] for case in cases]
        for case, (many, few) in zip(cases, counts):
            yield case, round((many.result() - few.result()) / (MANY - FEW))


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


def toolchain():
    """What the counts depend on besides the source, under the names that the budget has for it."""
    valgrind = subprocess.run(["valgrind", "--version"], capture_output=True, text=True).stdout.strip()
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.strip()
    return {"valgrind": valgrind, "rustc": rustc}


def cpu_flags():
    return re.findall(r"(?m)^flags\s*: (.*)", Path("/proc/cpuinfo").read_text() + "\nflags : ")[0].split()


def machine():
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return models[0] if models else "unknown CPU"


if __name__ == "__main__":
    sys.exit(main())
