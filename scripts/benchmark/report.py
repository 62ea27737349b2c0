"""Results of contenders: medians and ratios, a table, a plot."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from benchmark.contender import Contender

# Kinds of seconds that are not a contender's median.
_OTHER_SECONDS = "_start_seconds"


def summary(
    running: Mapping[str, Contender], absent: Mapping[str, str]
) -> dict[str, Any]:
    """Medians, ratios, start-up and memory, by the names that readers rely on.

    Args:
      running: contenders by name, with the rounds they ran.
      absent: why others have none.
    """
    result: dict[str, Any] = {}
    for name, contender in running.items():
        ordered = sorted(contender.rounds)
        result[f"{name}_seconds"] = statistics.median(ordered)
        result[f"{name}_seconds_range"] = [ordered[0], ordered[-1]]
        result[f"{name}_rounds"] = len(ordered)
        result[f"{name}_start_seconds"] = contender.start_seconds
        result[f"{name}_peak_bytes"] = contender.peak_bytes
        if contender.update_norm is not None:
            result[f"{name}_update_norm"] = contender.update_norm
    ours: Optional[float] = result.get("in_process_seconds")
    if ours is not None:
        for name in running:
            if name != "in_process":
                key = {"plain_tff": "speedup", "limit": "over_limit"}.get(
                    name, f"speedup_over_{name}"
                )
                ratio = result[f"{name}_seconds"] / ours
                result[key] = 1 / ratio if name == "limit" else ratio
    if absent:
        result["absent"] = dict(absent)
    return result


def contenders_of(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the contenders that have seconds in any workload, in their order."""
    return list(
        dict.fromkeys(
            key[: -len("_seconds")]
            for result in results.values()
            for key in result
            if key.endswith("_seconds") and not key.endswith(_OTHER_SECONDS)
        )
    )


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Seconds a round as a Markdown table, a row per workload.

    Beside each contender's seconds stands, in brackets, how many times longer than
    the in-process runtime it takes.
    """
    names = contenders_of(results)
    lines = [
        "| workload | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for workload, result in results.items():
        ours = result.get("in_process_seconds")
        cells = []
        for name in names:
            seconds = result.get(f"{name}_seconds")
            if seconds is None:
                cells.append("")
            elif ours is None or name == "in_process":
                cells.append(f"{seconds:.4f}")
            else:
                cells.append(f"{seconds:.4f} ({seconds / ours:.2f})")
        lines.append(f"| {workload} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sums_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Secure sums against plain sums as a Markdown table, a row per measurement.

    Args:
      rows: what `secure_sums.measure` gives.
    """
    lines = [
        "",
        "| parties | integers | drop out | a party sends, bytes | plain | "
        "a party receives, bytes | a party, s | server, s | plain, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    counts = ("parties", "integers", "lost", "sent_bytes", "plain_sent_bytes")
    seconds = ("party_seconds", "server_seconds", "plain_seconds")
    for row in rows:
        cells = [f"{row[name]:,}" for name in (*counts, "received_bytes")]
        cells += [f"{row[name]:.4f}" for name in seconds]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(results: Mapping[str, Mapping[str, Any]], path: pathlib.Path) -> None:
    """Bars of seconds a round, by workload and contender."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = contenders_of(results)
    width = 0.8 / max(1, len(names))
    inches = 1.5 + max(1.6, 0.25 * len(names)) * len(results)
    figure, axes = pyplot.subplots(figsize=(inches, 3.5))
    for index, name in enumerate(names):
        heights = [r.get(f"{name}_seconds", float("nan")) for r in results.values()]
        places = [i + index * width for i in range(len(results))]
        axes.bar(places, heights, width, label=name)
    axes.set_yscale("log")
    axes.set_ylabel("seconds a round")
    axes.set_xticks([i + 0.4 - width / 2 for i in range(len(results))], list(results))
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, bbox_inches="tight")
    pyplot.close(figure)
