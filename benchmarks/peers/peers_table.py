#!/usr/bin/python3 -B
"""peers_table.py RUN_DIR [--crashworthy PROGRAM]: results/published/peers.md from the histories of a run of
benchmarks/experiments/peers.json, on standard output. The same histories give the same text."""

import argparse
import collections
import hashlib
import json
import pathlib
import struct
import subprocess
import sys

BLOCK = struct.Struct("<IIII")  # docs/results-format.md, items.bin
RECORD = struct.Struct("<qQIIiIIHHq")
FILE_HEAD = 8
PUBLISHED = 64
CLASSES = ("ok", "corrupt", "failed", "lost", "unfinished")
UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "us"))


def published(path):
    """How often each item's output appeared, up to the first block that is not whole."""
    counts = collections.Counter()
    data = path.read_bytes()
    at = FILE_HEAD
    while at + BLOCK.size <= len(data):
        _, records, _, _ = BLOCK.unpack_from(data, at)
        at += BLOCK.size
        if at + records * RECORD.size > len(data):
            break
        for record in RECORD.iter_unpack(data[at : at + records * RECORD.size]):
            if record[7] == PUBLISHED:
                counts[record[1]] += 1
        at += records * RECORD.size
    return counts


def repeated_of(run, plan):
    """Outputs that appeared again, by cell: a sum over its trials."""
    repeated = collections.Counter()
    for trial in plan["trials"]:
        path = run / "trials" / f"{trial['trial']:04}" / "items.bin"
        if path.exists():
            counts = published(path)
            repeated[trial["arm"], trial["fault"]] += sum(counts.values()) - len(counts)
    return repeated


def duration(value):
    for size, unit in UNITS:
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} ns"


class Notes:
    """Reasons, each with its mark."""

    def __init__(self):
        self.reasons = []

    def mark(self, reason):
        if reason not in self.reasons:
            self.reasons.append(reason)
        return f"({chr(ord('a') + self.reasons.index(reason))})"

    def lines(self):
        return [f"{self.mark(reason)} {reason}  " for reason in self.reasons]


def interval(measure, show, notes):
    """"estimate [low, high]"; what is not known is `null` with its reason."""
    if measure is None:
        return "null"
    estimate, low, high = (measure.get(key) for key in ("estimate", "low", "high"))
    mark = " " + notes.mark(measure["reason"]) if measure.get("reason") else ""
    if estimate is None:
        return ("never" if measure.get("censored") else "null") + mark
    if low is None or high is None:
        return show(estimate) + mark
    return f"{show(estimate)} [{show(low)}, {show(high)}]"


def recovered(cell):
    of = cell["trials"] if cell["fault"] == "none" else cell["confirmed"]
    share = cell["recovered_share"]
    return f"{cell['recovered']} of {of} [{share['low']:.0%}, {share['high']:.0%}]"


def fault_table(cells, repeated, notes):
    lines = [
        "| arm | recovered | items ok | corrupt | failed | lost | unfinished | repeated | first good | outage gap |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        items = cell["items"]
        counts = [f"{items['ok']} of {items['offered']}"] + [str(items[name]) for name in CLASSES[1:]]
        columns = [cell["arm"], recovered(cell), *counts, str(repeated[cell["arm"], cell["fault"]])]
        for name in ("first_good", "outage_gap"):
            columns.append(interval(cell["measures"].get(name), duration, notes))
        lines.append("| " + " | ".join(columns) + " |")
    return lines


def cost_table(cells, notes):
    lines = [
        "| arm | makespan | ratio to bare | recovered | repeated |",
        "|---|---|---|---|---|",
    ]
    for cell, repeated in cells:
        measures = cell["measures"]
        ratio = interval(measures.get("protection_cost"), lambda cost: f"{1 + cost:.3g}", notes)
        makespan = interval(measures.get("makespan"), duration, notes)
        lines.append(f"| {cell['arm']} | {makespan} | {ratio} | {recovered(cell)} | {repeated} |")
    return lines


def digest(paths, run):
    """What `sha256sum FILES | sha256sum` prints in the run directory."""
    total = hashlib.sha256()
    for path in paths:
        one = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{one}  {path.relative_to(run)}\n".encode())
    return total.hexdigest()


def origin(run, plan, summary):
    histories = sorted(run.glob("trials/*/history.jsonl")) + sorted(run.glob("trials/*/items.bin"))
    machine = plan["fingerprint_fields"]
    return [
        "```sh",
        f"crashworthy run --blocks {plan['blocks']} --seed {plan['seed']} --out peers"
        " benchmarks/experiments/peers.json",
        "benchmarks/peers/peers_table.py peers > results/published/peers.md",
        "```",
        "",
        f"Run {plan['run']} of {plan['started']}, crashworthy {plan['version']}, verdict {summary['verdict']}.  ",
        f"Machine: {json.dumps(machine, sort_keys=True)}.  ",
        f"sha256 of experiment.json: `{hashlib.sha256((run / 'experiment.json').read_bytes()).hexdigest()}`  ",
        f"sha256 of plan.json: `{hashlib.sha256((run / 'plan.json').read_bytes()).hexdigest()}`  ",
        f"of the {len(histories)} files of histories: `{digest(histories, run)}`, as",
        "",
        "```sh",
        "cd peers && sha256sum trials/*/history.jsonl trials/*/items.bin | sha256sum",
        "```",
    ]


def page(run, plan, summary):
    repeated = repeated_of(run, plan)
    notes = Notes()
    by_fault = collections.defaultdict(list)
    for cell in summary["cells"]:
        by_fault[cell["fault"]].append(cell)
    lines = ["# Peers under the same faults", ""]
    lines += ["Written by `benchmarks/peers/peers_table.py`; `benchmarks/peers/README.md` says what the",
              "arms are. *recovered*: every item was delivered with the right content, with Wilson's 95 %",
              "interval; *repeated*: outputs that appeared again after they had been whole; items are sums",
              "over the trials; times are medians with 95 % intervals.", ""]  # fmt: skip
    lines += origin(run, plan, summary)
    lines += ["", "## Without a fault", ""]
    lines += cost_table([(c, repeated[c["arm"], "none"]) for c in by_fault.pop("none", [])], notes)
    for fault, cells in by_fault.items():
        lines += ["", f"## {fault}", ""] + fault_table(cells, repeated, notes)
    if summary["skipped_arms"]:
        lines += ["", "## Skipped arms", ""]
        lines += [f"- {arm['arm']}: {arm['reason']}" for arm in summary["skipped_arms"]]
    if notes.reasons:
        lines += [""] + notes.lines()
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--crashworthy", default="crashworthy", help="the program; default: the one in PATH")
    arguments = parser.parse_args()
    try:
        report = subprocess.run([arguments.crashworthy, "report", "--json", str(arguments.run)],
                                stdout=subprocess.PIPE, check=False)  # fmt: skip
        summary = json.loads(report.stdout)
        plan = json.loads((arguments.run / "plan.json").read_text())
    except (OSError, ValueError) as failure:
        sys.exit(f"peers_table.py: unable to read the run '{arguments.run}': {failure}")
    sys.stdout.write(page(arguments.run, plan, summary))


if __name__ == "__main__":
    main()
