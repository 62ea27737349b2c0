"""CPU seconds of a sweep's points beside their rounds, by phase.

The points of a sweep share a process and what is compiled in it. The table divides the
points: the first one, later ones whose clients' program no earlier point had, and later
ones whose clients' program was compiled before.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.contender import ContenderFailed, last_error
from benchmark.sweep_points import PHASES, PROGRAMS

_ROOT = pathlib.Path(__file__).resolve().parents[2]


def measure(
    names: Sequence[str], folder: pathlib.Path
) -> dict[str, list[dict[str, float]]]:
    """CPU seconds by phase of each point, by the name of the sweep.

    Args:
      names: of `sweep_points.SWEEPS`.
      folder: an empty folder.

    Raises:
      ContenderFailed: a sweep failed.
    """
    results = {}
    for name in names:
        print(f"sweep: {name}", file=sys.stderr, flush=True)
        own = folder / f"sweep_{name}"
        own.mkdir()
        ended = subprocess.run(
            [sys.executable, "-m", "benchmark.sweep_points", name, str(own)],
            capture_output=True,
            text=True,
            cwd=_ROOT,
            env={**os.environ, "XDG_CACHE_HOME": str(own / "cache")},
            check=False,
        )
        if ended.returncode:
            raise ContenderFailed(f"sweep {name}: {last_error(ended.stderr)}")
        results[name] = json.loads(ended.stdout)
    return results


def table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A Markdown table: of each sweep the first point, and means over later points.

    "beside" is all but the rounds.
    """
    lines = [
        "",
        f"| CPU seconds of a point | {' | '.join(PHASES)} | beside |",
        "|---" * (len(PHASES) + 2) + "|",
    ]
    for name, points in results.items():
        later = points[1:]
        rows = {
            "first": points[:1],
            "later, new program": [p for p in later if p[PROGRAMS]],
            "later, known program": [p for p in later if not p[PROGRAMS]],
        }
        for kind, some in rows.items():
            if not some:
                continue
            means = [sum(p[phase] for p in some) / len(some) for phase in PHASES]
            beside = sum(means) - means[PHASES.index("rounds")]
            cells = " | ".join(f"{value:.2f}" for value in (*means, beside))
            lines.append(f"| {name}, {kind} ({len(some)}) | {cells} |")
    return "\n".join(lines)
