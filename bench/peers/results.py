"""Medians, ratios, and the table in Markdown."""
import statistics


def better(unit, a, b):
    """How many times better a is than b."""
    return a / b if unit == "tok/s" else b / a


class Result:
    """The runs of one row on one shape: {engine: [{"value", "peak_mb", "others_cores", "wall_s"}, ...]}.

    `ours` are the names that are no peers.
    """

    def __init__(self, row, shape, ours):
        self.row, self.shape, self.ours = row, shape, ours
        self.runs = {}
        self.errors = {}

    def add(self, engine, runs):
        self.runs.setdefault(engine, []).extend(runs)

    def median(self, engine):
        values = [run["value"] for run in self.runs.get(engine, [])]
        return statistics.median(values) if values else None

    def best_of(self, names):
        medians = {name: self.median(name) for name in names}
        if not medians:
            return None
        choose = max if self.row.unit == "tok/s" else min
        return choose(medians, key=medians.get)

    def best_peer(self):
        return self.best_of([name for name in self.runs if name not in self.ours])

    def ratio(self, name):
        """How many times better than the best peer an engine of ours is."""
        peer, own = self.best_peer(), self.median(name)
        return better(self.row.unit, own, self.median(peer)) if peer and own else None

    def spread(self, engine):
        values = [run["value"] for run in self.runs[engine]]
        return (max(values) - min(values)) / statistics.median(values)

    def others(self):
        return max((run["others_cores"] for runs in self.runs.values() for run in runs), default=0)

    @classmethod
    def from_json(cls, entry, row, ours):
        result = cls(row, entry["shape"], ours)
        result.runs, result.errors = entry["runs"], entry["errors"]
        return result

    def as_json(self):
        return {
            "row": self.row.name, "shape": self.shape, "test": self.row.test.name, "bits": self.row.bits,
            "unit": self.row.unit, "target": self.row.target, "threads": self.row.test.threads,
            "medians": {name: self.median(name) for name in self.runs},
            "spread": {name: self.spread(name) for name in self.runs},
            "best_peer": self.best_peer(),
            "ratios": {name: self.ratio(name) for name in self.ours if name in self.runs},
            "runs": self.runs, "errors": self.errors,
        }


def merge(old, new):
    """The results of both, the new ones in place of older ones of the same row and shape."""
    merged = {(result.row.name, result.shape): result for result in old}
    merged.update({(result.row.name, result.shape): result for result in new})
    return list(merged.values())


def number(value, unit):
    if value is None:
        return "-"
    if unit == "s":
        return f"{value:.2f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def table(results, engines):
    """Lines of a Markdown table; bold is the best peer."""
    lines = ["| row | model | test | " + " | ".join(engines) + " | target | others |",
             "|---|---|---|" + "---:|" * len(engines) + "---|---:|"]
    for result in results:
        cells = []
        for engine in engines:
            text = number(result.median(engine), result.row.unit)
            if engine in result.errors and text == "-":
                text = "failed"
            if ratio := result.ratio(engine) if engine in result.ours else None:
                text += f" ({ratio:.2f} x)"
            cells.append(f"**{text}**" if engine == result.best_peer() else text)
        unit = "" if result.row.unit == "tok/s" else f", {result.row.unit}"
        lines.append(f"| {result.row.name} | {result.shape} | {result.row.test.name}{unit} | " + " | ".join(cells) +
                     f" | {result.row.target} | {result.others():.2f} |")
    return lines


def run_counts(results):
    counts = {len(runs) for result in results for runs in result.runs.values()} or {0}
    return str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def document(facts, versions, results, engines):
    limits = facts.get("limits") or {}
    lines = [f"# Side by side, {facts['date']}, {facts['cpu']}", ""]
    lines += [f"- {facts['cores']} cores, family/model {facts['cpu_family_model']}, {', '.join(facts['isa'])}; "
              f"{facts['memory_gb']} GB; {facts['system']}; {facts['compiler']}",
              f"- commit {facts['commit']}; " + "; ".join(f"{name}: {version}" for name, version in versions.items())]
    if limits:
        lines.append(f"- measured limits: read {limits.get('bandwidth_gb_per_s')} GB/s at the model's size, "
                     f"{limits.get('bandwidth_large_gb_per_s')} GB/s at 1 GB; {limits.get('peak_gops')} Gop/s "
                     f"({limits.get('peak_kind')})")
    lines += [f"- medians of {run_counts(results)} runs that took turns; tok/s unless the test names a unit; x: how "
              "many times better than the best peer (bold); others: most cores that other programs held during a run",
              ""]
    return "\n".join(lines + table(results, engines)) + "\n"
