"""From single runs to tables, and to goals reached or missed."""

import os
import platform
import statistics
import subprocess
from datetime import datetime, timezone

ORDER = [
    "direct", "direct-trust", "relay", "sallyport", "pgbouncer", "pgbouncer-transaction", "haproxy", "relay-2", "sallyport-2",
]
AGAINST = "pgbouncer"
RESULTS_HEADING = "## Results"


def everything(results, stage, options, command):
    parts = [header(stage, options, command)]
    for name, section in SECTIONS.items():
        chosen = [result for result in results if result["measure"] == name]
        if chosen:
            parts.append(section(chosen))
    parts.append(goals(results))
    return "\n\n".join(parts)


def write_results(path, text):
    """Replaces what stands under the heading, up to the next of its rank or the end."""
    before, heading, behind = path.read_text().partition(RESULTS_HEADING)
    _, next_heading, rest = behind.partition("\n## ")
    path.write_text(f"{before}{RESULTS_HEADING}\n\n{text.strip()}\n{next_heading}{rest}")


def header(stage, options, command):
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return "\n".join([
        f"    {command}    # {day}, commit {commit}",
        "",
        f"{os.cpu_count()} x {cpu}, Linux {platform.release()}. {', '.join(stage.versions)}.",
        f"{options.rounds} round(s), pgbench -S -s {options.scale} for {options.seconds} s each, loopback without TLS. Median (lowest to highest).",
        "`sallyport`: identity, policy and recording on, one shard; `relay`: the same runtime without looking at a byte; `-2`: two shards.",
        f"CPU is the proxy's; its ratio is to {AGAINST}'s in the same round: below 1 is cheaper.",
    ])


def query(results):
    return table(
        "### Standing connections", results, ["mode", "clients", "path"],
        {
            "queries/s": ("tps", 0), "latency ms": ("latency_ms", 3), "CPU us/query": ("cpu_us", 1),
            "of that beside the shards": ("cpu_us_beside", 1), "CPU ratio": (ratio, 2),
        },
    )


def connect(results):
    return table(
        "### One connection for each query", results, ["clients", "path"],
        {"connections/s": ("tps", 0), "ms each": ("latency_ms", 3), "CPU us each": ("cpu_us", 1), "CPU ratio": (ratio, 2)},
    )


def bulk(results):
    return table(
        "### A large result, read as fast as possible", results, ["mode", "path"],
        {"MB/s": ("mb_per_s", 0), "CPU us/MB": ("cpu_us", 0), "CPU ratio": (ratio, 2)},
    )


def slow(results):
    return table(
        "### A large result, read at 5 MB/s: the proxy's memory", results, ["path"],
        {"grows by KiB": (lambda run, _: run["grown_bytes"] / 1024, 0), "to MiB": (lambda run, _: run["peak_bytes"] / 1024 ** 2, 1)},
    )


def idle(results):
    return table(
        "### Silent sessions", results, ["sessions", "path"],
        {
            "KiB each": (lambda run, _: run["bytes"] / 1024, 1),
            "CPU ms/s with all of them": (lambda run, _: run["idle_cpu"] * 1e3, 1),
        },
    )


def speeds(results):
    return table("### Without any socket, CPU time of one core", results, ["mode"], {"GB/s": ("gb_per_s", 2), "ns": ("ns", 0)})


SECTIONS = {"query": query, "connect": connect, "slow": slow, "bulk": bulk, "idle": idle, "speeds": speeds}


def table(heading, results, keys, columns):
    lines = [heading, "", "| " + " | ".join([*keys, *columns]) + " |", "|" + "---|" * (len(keys) + len(columns))]
    rows = {}
    for result in results:
        rows.setdefault(tuple(result[key] for key in keys), []).append(result)
    for key in sorted(rows, key=lambda key: [ORDER.index(part) if part in ORDER else part for part in key]):
        cells = [spread([value(run, column, results) for run in rows[key]], digits) for column, digits in columns.values()]
        lines.append("| " + " | ".join([*map(str, key), *cells]) + " |")
    return "\n".join(lines)


def value(run, column, results):
    return column(run, results) if callable(column) else run.get(column)


def ratio(run, results, against=AGAINST):
    """Of the CPU of two proxies in the same round, doing the same."""
    alike = ("measure", "round", "mode", "clients")
    other = next((r for r in results if r["path"] == against and all(r.get(key) == run.get(key) for key in alike)), None)
    if other is None or "cpu_us" not in run or run["path"] == against:
        return None
    return run["cpu_us"] / other["cpu_us"]


def spread(values, digits):
    values = [value for value in values if value is not None]
    if not values:
        return ""
    low, middle, high = min(values), statistics.median(values), max(values)
    if len(values) == 1:
        return f"{middle:.{digits}f}"
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


# What the project promises itself: a figure of a path in some runs, and what it may be at most.


def goals(results):
    lines = []
    for mode in ("prepared", "simple"):
        for clients in (1, 16, 64):
            lines.append(cpu_goal(results, f"bare relay, {mode}, {clients} client(s), CPU against {AGAINST}", "relay", mode, clients, 1.3 if clients == 1 else 1.0))
        lines.append(cpu_goal(results, f"with policy and recording, {mode}, 64 clients, CPU against {AGAINST}", "sallyport", mode, 64, 1.15))
        lines.append(cpu_goal(results, f"two shards against one, {mode}, 64 clients, CPU", "sallyport-2", mode, 64, 1.1, "sallyport"))
    for clients in (1, 16, 64):
        direct = {run["round"]: run["tps"] for run in chosen(results, "connect", "direct", clients=clients)}
        runs = chosen(results, "connect", "sallyport", clients=clients)
        quotients = [direct[run["round"]] / run["tps"] for run in runs if run["round"] in direct]
        lines.append(goal(f"connect, ask and close, {clients} client(s), time against going directly", quotients, 1.0))
    for sessions in sorted({run["sessions"] for run in results if run["measure"] == "idle"}):
        sizes = [run["bytes"] / 1024 for run in chosen(results, "idle", "sallyport", sessions=sessions)]
        lines.append(goal(f"memory of a silent session among {sessions}, KiB", sizes, 16))
    for mode, least in (("rows, clean: scan, pii", 2), ("rows, 1 % with a value: scan, pii", 1)):
        lines.append(goal(f"{mode}, GB/s", [run["gb_per_s"] for run in chosen(results, "speeds", "sallyport", mode=mode)], least, at_least=True))
    for mode, most in (("known", 100), ("new, 200 bytes", 15_000)):
        mode = f"verdict on a statement: {mode}"
        lines.append(goal(f"{mode}, ns", [run["ns"] for run in chosen(results, "speeds", "sallyport", mode=mode)], most))
    return "\n".join(["### Goals", "", "| goal | bound | reached | |", "|---|---|---|---|", *filter(None, lines)])


def cpu_goal(results, words, path, mode, clients, most, against=AGAINST):
    quotients = [ratio(run, results, against) for run in chosen(results, "query", path, mode=mode, clients=clients)]
    return goal(words, [quotient for quotient in quotients if quotient is not None], most)


def chosen(results, measure, path, **conditions):
    wanted = {"measure": measure, "path": path} | conditions
    return [run for run in results if all(run.get(key) == value for key, value in wanted.items())]


def goal(words, values, bound, at_least=False):
    if not values:
        return ""
    reached = statistics.median(values)
    met = reached >= bound if at_least else reached <= bound
    return f"| {words} | {'at least' if at_least else 'at most'} {bound:g} | {spread(values, 2)} | {'met' if met else 'missed'} |"
