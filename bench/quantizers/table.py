"""Results in Markdown, merged over runs."""
from pathlib import Path


def merge(old, new, order):
    """Results by row, the new ones in place of older ones, in the order of the table of rows."""
    by_row = {result["row"]: result for result in old}
    by_row.update({result["row"]: result for result in new})
    known = [name for name in order if name in by_row]
    return [by_row[name] for name in known]


def text_name(path):
    return Path(path).stem.removeprefix("test-")


def duration(seconds):
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def with_error(value, error):
    """A value and its standard error with as many digits as mean something."""
    digits = 2 if value >= 1 else 3 if value >= 0.1 else 4 if value >= 0.01 else 5 if value >= 0.001 else 7
    return f"{value:.{digits}f} +- {error:.{digits}f}"


def plain(value):
    return with_error(value, 0).split(" ")[0]


def lines(results):
    """A table sorted by bits per weight; rows that compute otherwise with a model come last."""
    if not results:
        return []
    names = [text_name(text["path"]) for text in results[0]["compare"]["texts"]]
    has_answers = any("answers" in result for result in results)
    head = ["by", "method", "bits per weight", "KL", *[f"KL {name}" for name in names], "KL p99", "ppl ratio", "top-1",
            "CPU time", "peak MB", *(["answers kept"] if has_answers else [])]
    table = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]

    def place(result):
        return (bool(result["of"]), result["compare"]["b"]["bits_per_weight"], result["compare"]["total"]["kl_mean"])

    for result in sorted(results, key=place):
        total, effort = result["compare"]["total"], result["effort"]
        kept = result.get("answers")
        cells = [result["engine"], result["method"], f"{result['compare']['b']['bits_per_weight']:.3f}",
                 with_error(total["kl_mean"], total["kl_error"]),
                 *[plain(text["kl_mean"]) for text in result["compare"]["texts"]],
                 plain(total["kl_p99"]), f"{total['ppl_ratio']:.4f}", f"{100 * total['top1_agreement']:.1f} %",
                 duration(effort["cpu_s"]) if effort else "-", f"{effort['peak_mb']:.0f}" if effort else "-"]
        if has_answers:
            cells.append(f"{kept['kept']} of {kept['reference_right']}" if kept else "-")
        if result["engine"] == "mobilellm":
            cells[0] = f"**{cells[0]}**"
        table.append("| " + " | ".join(cells) + " |")
    return table


def other_commits(facts, results):
    """Rows that an earlier program judged, in words."""
    earlier = {}
    for result in results:
        if result.get("commit", facts["commit"]) != facts["commit"]:
            earlier.setdefault(result["commit"], []).append(result["row"])
    return [f"- judged by the program of commit {commit}: {', '.join(rows)}" for commit, rows in earlier.items()]


def document(facts, versions, setting, results):
    total = results[0]["compare"]["total"] if results else {"positions": 0}
    head = [f"# Quality of quantized models, {facts['date']}, {facts['cpu']}", "",
            f"- reference: {setting['reference']}; {total['positions']} positions of {', '.join(setting['texts'])}, chunks of "
            f"512; calibration: {setting['calibration'] or 'none'}; training of dwq: that and "
            f"{setting.get('training') or 'nothing more'}",
            f"- {facts['cores']} cores, {', '.join(facts['isa'])}; {facts['memory_gb']} GB; {facts['system']}",
            f"- commit {facts['commit']}; " + "; ".join(f"{name}: {version}" for name, version in versions.items()),
            "- every model is judged by `mobilellm compare` in f32 arithmetic against the float model: KL in nats with its "
            "standard error, bits per weight of the whole file; CPU time and memory are those of making the model", ""]
    failed = [f"- {result['row']}: {result['error']}" for result in results if "error" in result]
    head[-1:] = [*other_commits(facts, results), ""]
    return "\n".join(head + lines([result for result in results if "error" not in result]) +
                     (["", "Failed:", *failed] if failed else [])) + "\n"
