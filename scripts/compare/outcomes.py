"""What a framework's result says: medians, the same work, resumption."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from typing import Any

# The same work: after the first round, the model is the reference's but for rounding;
# after the last, within this share of the whole movement, since rounding adds up.
SAME_FIRST = 1e-4
SAME_LAST = 1e-2
# A run that was killed ends at the same model, if not at the same bits.
SAME_RESULT = 1e-5


def runs_of(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The whole runs of a result."""
    return [value for name, value in result.items() if re.fullmatch(r"run\d+", name)]


def medians(result: Mapping[str, Any]) -> dict[str, float]:
    """Medians over whole runs; nothing where there are none."""
    runs = runs_of(result)
    if not runs:
        return {}
    seconds = [value for run in runs for value in run["round_seconds"]]
    return {
        "round_seconds": statistics.median(seconds),
        **{
            name: statistics.median(run[name] for run in runs)
            for name in (
                "start_seconds",
                "cpu_seconds",
                "peak_bytes",
                "processes",
                "accuracy",
            )
        },
    }


def absence(result: Mapping[str, Any]) -> str:
    """Why the program was not run, or not as often as it should; empty where it was."""
    return str(result.get("absent") or result.get("unavailable", ""))


def is_same_work(result: Mapping[str, Any]) -> bool:
    """Whether each run's models are the reference's, after the first and last round."""
    return all(
        run["first_distance"] <= SAME_FIRST * run["update_norm"]
        and run["last_distance"] <= SAME_LAST * run["movement"]
        for run in runs_of(result)
    )


def resumption(result: Mapping[str, Any]) -> str:
    """What became of the run that was killed."""
    kill = result.get("kill")
    if kill is None:
        return ""
    if "error" in kill:
        return f"no: {kill['error']}"
    if kill["first_round_after"] == 1:
        return "no: starts again at round 1"
    if kill["same_bits"]:
        return "yes, to the same bits"
    if kill["distance"] <= SAME_RESULT:
        return "yes, to the same model"
    return f"goes on, but ends {kill['distance']:.1%} away"
