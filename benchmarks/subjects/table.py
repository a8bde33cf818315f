"""docs/subjects.md from runs of these experiments: table.py CRASHWORTHY RUN_DIR... > subjects.md

CRASHWORTHY is the program that reads the histories. Everything in the tables is computed from them;
notes.json has the remarks.
"""
import collections
import hashlib
import json
import os
import subprocess
import sys

FAULTS = ["kill_worker", "kill_main", "stop_worker", "disk_full", "truncated_input", "write_error"]
TITLES = {"kill_worker": "kill of a worker", "kill_main": "kill of the main process",
          "stop_worker": "SIGSTOP of a worker", "disk_full": "disk full",
          "truncated_input": "truncated input", "write_error": "EIO at the N-th write"}
CLASSES = ["ok", "corrupt", "failed", "lost", "unfinished"]


class Trial:
    """What one history says."""

    def __init__(self, header):
        self.fault = header["fault"]
        self.items = header["items"]
        self.classes = collections.Counter()
        self.beside = collections.Counter()
        self.hit = "none"
        self.reason = ""
        self.end = {}

    def add(self, event):
        kind = event["event"] if event.get("type") == "item" else event.get("type")
        if kind == "judged":
            self.classes[CLASSES[event["value"]]] += 1
        elif kind in ("torn", "empty", "misplaced") and event["type"] == "item":
            self.beside[kind] += 1
        elif kind == "duplicated":
            self.beside[kind] += event["value"]
        elif kind == "extra_output":
            self.beside[event.get("kind", "extra")] += 1
        elif kind == "injection_result":
            self.hit = event["outcome"]
            self.reason = event.get("reason", "")
        elif kind == "end":
            self.end = event

    def how_it_ended(self):
        stall = self.end.get("stall")
        if stall:
            return "hung" if stall["kind"] == "hang" else stall["kind"]
        return self.end.get("ended", "unknown")


def trials_of(program, run):
    dump = subprocess.run([program, "report", run, "--dump"], check=True, stdout=subprocess.PIPE)
    trials = []
    for line in dump.stdout.splitlines():
        event = json.loads(line)
        if event.get("type") == "trial":
            trials.append(Trial(event))
        elif trials:
            trials[-1].add(event)
    return [trial for trial in trials if trial.end]


def span(values):
    return str(min(values)) if min(values) == max(values) else "%d-%d" % (min(values), max(values))


def cell(trials):
    """The distribution of outcomes, most frequent first."""
    hit = [trial for trial in trials if trial.hit == "confirmed"]
    parts = []
    groups = collections.defaultdict(list)
    for trial in hit:
        groups[trial.how_it_ended()].append(trial)
    for ended, group in sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        text = "%dx %s, %s/%d ok" % (len(group), ended, span([t.classes["ok"] for t in group]),
                                     group[0].items)
        for name in CLASSES[1:]:
            counts = [t.classes[name] for t in group]
            if max(counts) > 0:
                text += ", %s %s" % (span(counts), name)
        for name in ("torn", "empty", "misplaced", "duplicated", "extra", "stale_temporary"):
            counts = [t.beside[name] for t in group]
            if max(counts) > 0:
                text += ", %s %s" % (span(counts), name.replace("_", " "))
        late = [t.end.get("late_publications") or 0 for t in group]
        if max(late) > 0:
            text += ", %s written after its end" % span(late)
        parts.append(text)
    missed = collections.Counter(t.hit for t in trials if t.hit != "confirmed")
    for outcome, count in sorted(missed.items()):
        parts.append("%dx not hit (%s)" % (count, outcome))
    return "; ".join(parts) or "not tried"


def digest(run):
    """SHA-256 over the histories of a run, in order of their names."""
    total = hashlib.sha256()
    for directory, folders, files in sorted(os.walk(os.path.join(run, "trials"))):
        folders.sort()
        for name in sorted(files):
            if name in ("history.jsonl", "items.bin"):
                with open(os.path.join(directory, name), "rb") as file:
                    total.update(hashlib.sha256(file.read()).digest())
    return total.hexdigest()[:16]


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: table.py CRASHWORTHY RUN_DIR...")
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "notes.json")) as file:
        notes = json.load(file)
    print("\n".join(notes["head"]))
    digests = []
    for run in sys.argv[2:]:
        with open(os.path.join(run, "experiment.json")) as file:
            experiment = json.load(file)
        with open(os.path.join(run, "plan.json")) as file:
            plan = json.load(file)
        name = experiment["experiment"]
        words = " ".join(experiment["subject"]["command"])
        trials = trials_of(sys.argv[1], run)
        print("\n## %s" % experiment["title"])
        print("`%s`\n" % (words if len(words) < 120 else words[:117] + "..."))
        print("| fault | what became of it |\n|---|---|")
        for fault in ["none"] + FAULTS:
            group = [trial for trial in trials if trial.fault == fault]
            if fault == "none":
                for trial in group:
                    trial.hit = "confirmed"  # There is nothing to hit.
            print("| %s | %s |" % (TITLES.get(fault, "none"), cell(group)))
        for note in notes.get(name, []):
            print("\n" + note)
        digests.append("| %s | %d | %s | `%s` |" % (name, plan["seed"], plan["run"], digest(run)))
    print("\n## The runs\n\n| program | seed | run | digest of the histories |\n|---|---|---|---|")
    print("\n".join(digests))


if __name__ == "__main__":
    main()
