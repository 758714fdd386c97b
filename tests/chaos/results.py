"""Results of trials: a line of JSON each, and the tables made of them."""
import collections
import json
import re

import phases

BEGIN, END = "<!-- tests/chaos/run -->", "<!-- end of tests/chaos/run -->"


class Results:
    """The file of all trials. A row's trial of a seed is in it once."""

    def __init__(self, path, anew=False):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if anew:
            path.unlink(missing_ok=True)
        self.entries = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the writer was killed
            self.entries[self.key(entry)] = entry

    @staticmethod
    def key(entry):
        return entry["row"], entry["trial"], entry["seed"]

    def has(self, row, trial, seed):
        return (row, trial, seed) in self.entries

    def add(self, entry):
        self.entries[self.key(entry)] = entry
        with open(self.path, "a") as file:
            file.write(json.dumps(entry) + "\n")

    def rows(self):
        """Entries by row, in order of their numbers."""
        found = collections.defaultdict(list)
        for entry in self.entries.values():
            found[entry["row"]].append(entry)
        return dict(sorted(found.items(),
                           key=lambda item: int(item[0].lstrip("G"))))


def quantile(values, share):
    """Nearest rank."""
    ordered = sorted(values)
    at = max(0, -(-len(ordered) * share // 100) - 1)
    return ordered[int(at)]


def timer(entries, name):
    """ "p50 / p95" of the trials that have it."""
    values = [entry["timers"][name] for entry in entries
              if name in entry["timers"]]
    if not values:
        return ""
    return f"{quantile(values, 50):.2f} / {quantile(values, 95):.2f}"


def bound(count):
    """Of the rate of failures, at 95 %, after trials without any."""
    return f"{min(1, 3 / count):.1%}" if count else ""


def table(results, what):
    """Markdown. `what`: text by name of row."""
    lines = ["| row | injected | trials | hit | failures | bound, 95 % | "
             "detect | stop | first step |",
             "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for row, entries in results.rows().items():
        held = [entry for entry in entries if "skipped" not in entry]
        if not held:
            continue
        failed = sum(bool(entry["failures"]) for entry in held)
        lines.append(
            f"| {row} | {what.get(row, '')} | {len(held)} | "
            f"{sum(entry['hit'] for entry in held)} | {failed} | "
            f"{'' if failed else bound(len(held))} | "
            f"{timer(held, 'detect')} | {timer(held, 'stop')} | "
            f"{timer(held, 'first')} |")
    return "\n".join(lines)


def counts(results):
    """How often each kind and phase was drawn."""
    lines = ["| row | kinds | phases |", "| --- | --- | --- |"]
    for row, entries in results.rows().items():
        held = [entry for entry in entries if "skipped" not in entry]
        if not held:
            continue
        parts = []
        for name in ("kind", "phase"):
            drawn = collections.Counter(str(entry[name]) for entry in held)
            parts.append(", ".join(f"{key} {count}" for key, count
                                   in sorted(drawn.items()) if key))
        lines.append(f"| {row} | {parts[0]} | {parts[1]} |")
    return "\n".join(lines)


def troubles(results):
    """Every failure, and every reason for which trials were not held."""
    lines = []
    for row, entries in results.rows().items():
        for entry in entries:
            for text in entry["failures"]:
                lines.append(f"- {row}, trial {entry['trial']} of seed "
                             f"{entry['seed']} ({entry['kind']}, "
                             f"{entry['phase']}): {text}")
        reasons = {entry["skipped"] for entry in entries if "skipped" in entry}
        lines += [f"- {row} SKIPPED: {reason}" for reason in sorted(reasons)]
    return "\n".join(lines) or "Nothing failed, nothing was skipped."


def phase_shares(entries):
    """How often each phase was hit where chance chose it: a tenth at least is
    wanted of each."""
    drawn = [entry for entry in entries if entry.get("drawn")]
    hits = collections.Counter(entry["phase"] for entry in drawn
                               if entry["hit"])
    if not hits:
        return ""
    rows = sorted({entry["row"] for entry in drawn},
                  key=lambda name: int(name[1:]))
    text = ", ".join(f"{phase} {hits[phase]} ({hits[phase] / len(drawn):.0%})"
                     for phase in phases.NAMES)
    few = [phase for phase in phases.NAMES if hits[phase] < len(drawn) / 10]
    return (f"Phases hit, of the {len(drawn)} trials of {', '.join(rows)}, "
            f"whose phase was drawn: {text}. Below a tenth: "
            f"{', '.join(few) or 'none'}.")


def by_kind(entries, row, fact):
    """Entries of a row that have the fact, by kind."""
    found = collections.defaultdict(list)
    for entry in entries:
        if entry["row"] == row and fact in entry["facts"]:
            found[entry["kind"]].append(entry)
    return sorted(found.items())


def total(entries, fact):
    return sum(entry["facts"][fact] for entry in entries)


def slow_ranks(entries):
    """How often it was known which rank is slow."""
    text = ", ".join(
        f"{kind}: {total(of_kind, 'named')} of {total(of_kind, 'looks')}"
        for kind, of_kind in by_kind(entries, "G9", "named"))
    return text and ("G9: how often the slow rank had the highest "
                     f"catena_straggler_score_ratio. {text}.")


def strangers(entries):
    """G18, kind by kind."""
    lines = []
    for kind, of_kind in by_kind(entries, "G18", "connections"):
        ratios = [entry["facts"]["step time ratio"] for entry in of_kind]
        grown = max(entry["facts"]["grown KiB"] for entry in of_kind)
        lines.append(f"| {kind} | {total(of_kind, 'connections')} | "
                     f"{grown / 1024:.1f} | {quantile(ratios, 50):.2f} / "
                     f"{quantile(ratios, 95):.2f} |")
    return "\n".join([
        "| G18: strangers | connections | launcher grew by, most, MiB | step "
        "time over that before, p50 / p95 |",
        "| --- | ---: | ---: | ---: |", *lines]) if lines else ""


def document(results, what):
    entries = [entry for of_row in results.rows().values()
               for entry in of_row if "skipped" not in entry]
    return "\n\n".join(filter(None, (
        table(results, what), counts(results), phase_shares(entries),
        slow_ranks(entries), strangers(entries), troubles(results))))


def put_into(path, text):
    """Replaces what stands between the two marks."""
    old = path.read_text()
    new, count = re.subn(
        re.escape(BEGIN) + ".*" + re.escape(END),
        lambda _: f"{BEGIN}\n\n{text}\n\n{END}", old, flags=re.S)
    if count != 1:
        raise SystemExit(f"{path}: no lines {BEGIN} and {END}")
    path.write_text(new)
