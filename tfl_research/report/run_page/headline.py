"""The tiles at the top of a run's page, and its banners."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping
from typing import Any, Optional

from tfl_research.report import words
from tfl_research.report.run_results import RunResults
from tfl_research.storage.run_record import STOP_REASONS

# A tile shows the metric with the first of these prefixes that a run releases.
_SPLITS = ("eval_", "private_", "held_out_")


@dataclasses.dataclass(frozen=True)
class Tile:
    """A number that the page begins with.

    Attributes:
      label: the name of the number.
      value: the number as text.
      notes: sentences below.
      share: the share of a bar from 0 to 1, of a budget or of rounds; None for no bar.
    """

    label: str
    value: str
    notes: tuple[str, ...] = ()
    share: Optional[float] = None


def _value(cells: Mapping[str, Any], column: str) -> Optional[float]:
    try:
        value = float(cells.get(column, math.nan))
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def headline_column(results: RunResults) -> Optional[str]:
    """Returns the column of the page's first metric; None if no metric is released.

    The metric is an accuracy if the run has an accuracy; otherwise the selection
    metric, or the first metric of an evaluation.
    """
    columns = [c for c in results.metrics if results.values(c)]
    untrained = results.summary.get("untrained") or {}
    columns += [c for c in untrained if _value(untrained, c) is not None]
    for split in _SPLITS:
        if f"{split}accuracy" in columns:
            return f"{split}accuracy"
    if results.selects in columns:
        return results.selects
    found = [c for c in columns if words.beginning(c) in _SPLITS]
    return found[0] if found else None


def _final(results: RunResults) -> tuple[Mapping[str, Any], str]:
    """Returns the final model's cells; of a running run, the last evaluation's."""
    final = results.summary.get("final")
    if results.has_ended and final:
        return final, "final model"
    cells = {c: results.values(c)[-1] for c in results.metrics if results.values(c)}
    return cells, "last evaluation so far"


def _of_models(results: RunResults) -> list[Tile]:
    column = headline_column(results)
    if column is None:
        if not results.has_ended:
            return []
        return [
            Tile("Metrics", "withheld", ("this run gives out no metric of its models",))
        ]
    metric, whose = words.split_column(column)
    name = words.metric_name(metric)
    final, which = _final(results)
    notes = [f"{whose}; {which}" if whose else which]
    untrained = _value(results.summary.get("untrained") or {}, column)
    if untrained is not None:
        notes.append(f"untrained model {words.number(untrained)}")
    tiles = [
        Tile(
            words.capital(name),
            words.number(final.get(column)),
            tuple(notes),
        )
    ]
    best = results.summary.get("best")
    if results.has_ended and best:
        tiles.append(_best(results, best, column))
    return tiles


def _best(results: RunResults, best: Mapping[str, Any], column: str) -> Tile:
    selected = str(best.get("selected_by") or "")
    name = words.metric_name(words.split_column(column)[0])
    chosen = f"selected by {words.column_name(selected)}"
    if selected == "private_choice":
        chosen = "selected by a private choice, which ε covers"
    elif selected != column and _value(best, selected) is not None:
        chosen += f": {words.number(best[selected])}"
    return Tile(
        f"Best {name}",
        words.number(best.get(column)),
        (f"round {words.number(best.get('round'))}", chosen),
    )


def _of_privacy(results: RunResults) -> list[Tile]:
    if not results.is_private:
        return []
    notes = []
    share = None
    if results.limit is not None:
        value, word = results.limit
        share = min(1.0, results.epsilon / value) if value else 1.0
        notes.append(f"of a {word} of {words.bound(value)}")
    if not math.isnan(results.delta):
        notes.append(f"δ = {words.bound(results.delta)}")
    unit = (results.plan or {}).get("unit")
    if unit:
        notes.append(f"unit of privacy: one {unit}")
    tiles = [Tile("Privacy loss ε", words.bound(results.epsilon), tuple(notes), share)]
    bound = results.audit.get("bound")
    if isinstance(bound, dict) and isinstance(bound.get("epsilon"), (int, float)):
        tiles.append(_audited(results, bound))
    return tiles


def rounded_down(bound: Any) -> str:
    """Formats a lower bound with three decimals, rounded down: 0.8169 is "0.816"."""
    if not isinstance(bound, (int, float)) or not math.isfinite(bound):
        return words.number(bound)
    return f"{math.floor(bound * 1000) / 1000:g}"


def _audited(results: RunResults, bound: Mapping[str, Any]) -> Tile:
    confidence = f"{float(bound.get('confidence', 0)):.0%}"
    verdict = "it does not contradict the account"
    if results.audit.get("contradicts"):
        verdict = "it CONTRADICTS the account"
    return Tile(
        "Audit: ε is at least",
        rounded_down(bound["epsilon"]),
        (f"{confidence} confidence, {bound.get('canaries')} canaries", verdict),
    )


def _of_rounds(results: RunResults) -> list[Tile]:
    planned = results.planned
    notes = []
    reason = results.summary.get("stop_reason")
    if results.has_ended and reason in STOP_REASONS:
        notes.append(STOP_REASONS[reason])
    elif not results.has_ended:
        notes.append("running, or cut off")
    value = words.number(results.completed)
    share = None
    if planned:
        value += f" of {words.number(planned)}"
        share = min(1.0, results.completed / planned)
    tiles = [Tile("Rounds", value, tuple(notes), share)]
    seconds = results.values("round_seconds")
    if seconds:
        middle = words.duration(statistics.median(seconds))
        first = words.duration(seconds[0])
        tiles.append(
            Tile(
                "Time of the rounds",
                words.duration(sum(seconds)),
                (f"{middle} a round (median)", f"the first, which compiles, {first}"),
            )
        )
    simulated = results.values("simulated_seconds")
    if simulated:
        tiles.append(
            Tile("Simulated time", words.duration(simulated[-1]), ("of the devices",))
        )
    return tiles


def _of_clients(results: RunResults) -> list[Tile]:
    given = results.hparams.get("num_train_clients", results.hparams.get("num_clients"))
    notes = []
    task = results.hparams.get("task")
    if task:
        notes.append(f"of the task {task}")
    expected = results.hparams.get("expected_cohort_size")
    if isinstance(expected, (int, float)):
        notes.append(f"{words.number(expected)} expected in a round")
    excluded = sum(results.values("excluded_clients"))
    if excluded:
        notes.append(f"updates excluded, not finite: {words.number(excluded)}")
    tiles = []
    if isinstance(given, int):
        tiles.append(Tile("Clients", words.number(given), tuple(notes)))
    down, up = (sum(results.values(f"bytes_{way}")) for way in ("down", "up"))
    if down + up > 0:
        each = f"{words.size(down)} to clients, {words.size(up)} from them"
        tiles.append(Tile("Traffic", words.size(down + up), (each,)))
    return tiles


def _of_personal(results: RunResults) -> list[Tile]:
    personal = results.summary.get("personal") or {}
    means = [n for n in personal if n.startswith("personal_client_mean_")]
    names = [n[len("personal_client_mean_") :] for n in means]
    if not names:
        return []
    metric = "accuracy" if "accuracy" in names else names[0]
    shared = personal.get(f"global_client_mean_{metric}")
    gain = _value(personal, f"gain_share_{metric}")
    notes = [f"mean of clients; the global model has {words.number(shared)}"]
    if gain is not None:
        notes.append(f"better at {gain:.0%} of the clients")
    name = words.metric_name(metric)
    value = words.number(personal.get(f"personal_client_mean_{metric}"))
    return [Tile(f"Personal models: {name}", value, tuple(notes))]


def tiles(results: RunResults) -> list[Tile]:
    """Makes the tiles, the most important first."""
    return [
        *_of_models(results),
        *_of_privacy(results),
        *_of_personal(results),
        *_of_rounds(results),
        *_of_clients(results),
    ]


def banners(results: RunResults) -> list[str]:
    """Returns sentences that readers must see before any number."""
    lines = []
    if results.is_sabotaged:
        lines.append(
            "The mechanism was broken on purpose to test the audit: nothing of this "
            "run is private."
        )
    if results.summary.get("stop_reason") == "diverged":
        lines.append(
            "This run diverged: the aggregated model was no longer finite. The final "
            "model is the last one that was."
        )
    if results.audit.get("contradicts"):
        lines.append("The audit contradicts the account of privacy.")
    attack = results.hparams.get("attack")
    if attack not in (None, "none"):
        malicious = results.hparams.get("malicious_clients")
        count = (
            f"{len(malicious)} clients" if isinstance(malicious, list) else "Clients"
        )
        lines.append(f"{count} attack this run on purpose: {attack}.")
    return lines
