"""Results of contenders: medians and ratios, a table, a plot."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from benchmark.contender import Contender
from benchmark.images import NORM_TOLERANCE
from benchmark.specs import ROOFLINE_FLOPS

# Kinds of seconds that are not a contender's median.
_OTHER_SECONDS = ("_start_seconds", "_cpu_seconds")
# Contenders that only multiply matrices.
_PRODUCTS = ("roofline", "products")


def summary(
    running: Mapping[str, Contender],
    absent: Mapping[str, str],
    flops: Optional[float] = None,
    norm_tolerance: float = NORM_TOLERANCE,
) -> dict[str, Any]:
    """Medians, ratios, start-up and memory, by the names that readers rely on.

    Args:
      running: contenders by name, with the rounds they ran.
      absent: why others have none.
      flops: of a round's matrix products; what the contender "roofline" needs for as
        many counts as its seconds.
      norm_tolerance: relative difference of the first updates' norms, above which the
        work is not the same.

    A contender whose first update has another norm than the in-process runtime's did
    other work: it is listed in `other_update`, and has no ratio.
    """
    result: dict[str, Any] = {}
    norms = {n: c.update_norm for n, c in running.items() if c.update_norm is not None}
    other = _other_updates(norms, norm_tolerance)
    for name, contender in running.items():
        scale = 1.0
        if name == "roofline" and flops is not None:
            scale = flops / ROOFLINE_FLOPS
        ordered = sorted(scale * seconds for seconds in contender.rounds)
        result[f"{name}_seconds"] = statistics.median(ordered)
        result[f"{name}_seconds_range"] = [ordered[0], ordered[-1]]
        result[f"{name}_rounds"] = len(ordered)
        result[f"{name}_cpu_seconds"] = scale * statistics.median(contender.all_cpu)
        result[f"{name}_start_seconds"] = contender.start_seconds
        result[f"{name}_peak_bytes"] = contender.peak_bytes
        if contender.update_norm is not None:
            result[f"{name}_update_norm"] = contender.update_norm
    ours: Optional[float] = result.get("in_process_seconds")
    if ours is not None:
        for name in running:
            if name in _PRODUCTS:
                result[f"of_{name}"] = result[f"{name}_seconds"] / ours
            elif name != "in_process" and name not in other:
                key = {"plain_tff": "speedup", "limit": "over_limit"}.get(
                    name, f"speedup_over_{name}"
                )
                ratio = result[f"{name}_seconds"] / ours
                result[key] = 1 / ratio if name == "limit" else ratio
    if flops is not None:
        result["model_gflop"] = flops / 1e9
        if "roofline" in running:
            rate = result["model_gflop"] / result["roofline_seconds"]
            result["matmul_gflop_per_second"] = rate
    if other:
        result["other_update"] = other
    if absent:
        result["absent"] = dict(absent)
    return result


def _other_updates(norms: Mapping[str, float], tolerance: float) -> list[str]:
    """Contenders whose first update has another norm than the in-process runtime's."""
    ours = norms.get("in_process")
    if ours is None:
        return []
    return [n for n, norm in norms.items() if abs(norm / ours - 1) > tolerance]


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


def columns_of(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the contenders with seconds, then of those that failed everywhere."""
    absent = [name for result in results.values() for name in result.get("absent", ())]
    return list(dict.fromkeys([*contenders_of(results), *absent]))


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Seconds a round as a Markdown table, a row per workload.

    Beside each contender's seconds stands, in brackets, how many times longer than
    the in-process runtime it takes. A contender that failed has "none"; `remarks` gives
    the reason.
    """
    names = columns_of(results)
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
                cells.append("none" if name in result.get("absent", ()) else "")
            elif name in result.get("other_update", ()):
                cells.append(f"{seconds:.4f} (other update)")
            elif ours is None or name == "in_process":
                cells.append(f"{seconds:.4f}")
            else:
                cells.append(f"{seconds:.4f} ({seconds / ours:.2f})")
        lines.append(f"| {workload} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def remarks(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Rates, CPU seconds, peak memory and norms of each workload, a line each.

    Also why a contender is absent.
    """
    lines = []
    for workload, result in results.items():
        if "matmul_gflop_per_second" in result:
            line = (
                f"{workload}: {result['model_gflop']:.1f} GFLOP a round; matrix "
                f"products run at {result['matmul_gflop_per_second']:.1f} GFLOP/s"
            )
            if "of_roofline" in result:
                line += f", in_process at {result['of_roofline']:.0%} of that"
            lines.append(line)
        if "of_products" in result:
            lines.append(
                f"{workload}: the model's own products take "
                f"{result['of_products']:.0%} of in_process' round"
            )
        for what, key, scale, unit in (
            ("rounds that count", "rounds", 1, ""),
            ("CPU seconds a round", "cpu_seconds", 1.0, ""),
            ("peak memory", "peak_bytes", 1e-6, " MB"),
            ("norm of the first update", "update_norm", 1.0, ""),
        ):
            found = {
                name: result[f"{name}_{key}"] * scale
                for name in contenders_of({workload: result})
                if f"{name}_{key}" in result
            }
            values = [f"{name} {value:.5g}{unit}" for name, value in found.items()]
            if values:
                lines.append(f"{workload}, {what}: {', '.join(values)}")
        for name, reason in result.get("absent", {}).items():
            lines.append(f"{workload}, no {name}: {reason}")
    return lines


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
