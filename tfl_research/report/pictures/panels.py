"""Decides which columns of metrics.csv a picture shows together, on which axis."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from tfl_research.report import words

# The axis of a share, such as an accuracy, is at least this long, so that a small
# change looks small.
_LEAST_SPAN = 0.2
# The axis is logarithmic if the largest value is more than this many medians.
_FAR = 50.0
# With at most so many clients, the worst tenth is one client.
TENTH = 10

# Prefixes of a metric's columns, in the order of the legend.
_WHOSE = (
    "eval_",
    "private_",
    "held_out_",
    "train_",
    "eval_client_worst_decile_",
    "eval_client_worst_",
)
# The prefixes of metrics of the model itself; such a metric has a panel.
_MODELS = ("eval_", "private_", "held_out_", "train_")
# Panels of other columns: title, and columns with their labels.
_FURTHER: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Clients of a round",
        (
            ("selected", "asked"),
            ("cohort_size", "took part"),
            ("dropped_out", "did not report"),
            ("late", "reported too late"),
            ("excluded_clients", "excluded: update not finite"),
        ),
    ),
    ("Clip and noise", (("clip_norm", "clip"), ("noise_multiplier", "noise / clip"))),
    (
        "Learning rates",
        (("client_learning_rate", "clients"), ("server_learning_rate", "server")),
    ),
    ("Staleness, server steps", (("mean_staleness", "mean of the clients"),)),
)


@dataclasses.dataclass(frozen=True)
class Series:
    """A curve: its label, rounds and finite values."""

    label: str
    rounds: tuple[float, ...]
    values: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Panel:
    """Curves with a common axis.

    Attributes:
      title: the title of the picture.
      series: the curves, at least one; each has a finite value.
      low, high: ends of the axis.
      is_logarithmic: whether the axis is logarithmic.
      limit: a horizontal line, such as a budget, and its label; None for no line.
      bound: whether the values are ε, which are shown rounded up.
      begins_untrained: whether values at round 0 belong to the untrained model.
    """

    title: str
    series: tuple[Series, ...]
    low: float
    high: float
    is_logarithmic: bool = False
    limit: tuple[float, str] | None = None
    bound: bool = False
    begins_untrained: bool = False


def _series(
    label: str, rounds: Sequence[float], values: Sequence[float], first: float | None
) -> Series | None:
    """Makes a curve of the finite values, with the untrained value at round 0."""
    pairs = [(r, v) for r, v in zip(rounds, values) if math.isfinite(v)]
    if pairs and first is not None and math.isfinite(first) and pairs[0][0] > 0:
        pairs.insert(0, (0.0, first))
    if not pairs:
        return None
    return Series(label, tuple(r for r, _ in pairs), tuple(v for _, v in pairs))


def _is_share(metric: str, values: Sequence[float]) -> bool:
    return not words.lower_is_better(metric) and all(0 <= v <= 1 for v in values)


def axis(metric: str, values: Sequence[float]) -> tuple[float, float, bool]:
    """Computes the ends of a metric's axis, and whether the axis is logarithmic.

    The axis of a share (all values from 0 to 1, and not a loss) has a length of at
    least 0.2, so that a change from 0.809 to 0.804 looks small. The axis of other
    values that are not negative begins at 0. If values are far apart, the axis is
    logarithmic.
    """
    low, high = min(values), max(values)
    if _is_share(metric, values):
        margin = max(0.04 * (high - low), (_LEAST_SPAN - (high - low)) / 2)
        low, high = low - margin, high + margin
        low, high = low - max(0.0, high - 1), high - min(0.0, low)
        return max(0.0, low), min(1.0, high), False
    median = sorted(values)[len(values) // 2]
    if low > 0 and high > _FAR * median:
        return low / 1.2, high * 1.2, True
    if low >= 0:
        return 0.0, high * 1.06 or 1.0, False
    margin = 0.06 * (high - low) or 0.1 * abs(high)
    return low - margin, high + margin, False


def metrics_of(columns: Sequence[str]) -> list[str]:
    """Returns the metrics of a run's columns, loss and accuracy first."""
    found = dict.fromkeys(
        words.split_column(column)[0]
        for column in columns
        if words.beginning(column) in _MODELS
    )
    return sorted(found, key=lambda m: {"accuracy": 0, "loss": 1}.get(m, 2))


def of_metrics(
    metrics: Mapping[str, Sequence[float]],
    untrained: Mapping[str, float],
    *,
    clients: int | None,
    first: str | None = None,
) -> list[Panel]:
    """Makes a panel for each metric.

    A panel has curves for test examples, held-out clients, the cohort, and the worst
    clients.

    Args:
      metrics: metrics.csv by column, NaN where there is no value.
      untrained: the untrained model's values by column; they are drawn at round 0.
      clients: number of evaluated clients; None if unknown. With at most ten
        clients, the panel shows the worst client instead of the worst tenth.
      first: the metric that selects the best model; its panel comes first.
    """
    rounds = metrics.get("round", ())
    panels = []
    names = metrics_of(list(metrics))
    few = clients is not None and clients <= TENTH
    skipped = "eval_client_worst_decile_" if few else "eval_client_worst_"
    for metric in sorted(names, key=lambda name: name != first):
        found = []
        for beginning in _WHOSE:
            column = beginning + metric
            if beginning == skipped or column not in metrics:
                continue
            label = words.split_column(column)[1]
            one = _series(label, rounds, metrics[column], untrained.get(column))
            if one is not None:
                found.append(one)
        if found:
            values = [v for one in found for v in one.values]
            title = words.capital(words.metric_name(metric))
            ends = axis(metric, values)
            panels.append(Panel(title, tuple(found), *ends, begins_untrained=True))
    return panels


def of_privacy(
    metrics: Mapping[str, Sequence[float]], limit: tuple[float, str] | None
) -> list[Panel]:
    """Makes the panel of ε by rounds; no panel for a run without privacy.

    Args:
      metrics: see `of_metrics`.
      limit: ε of a budget or target, and the word "budget" or "target".
    """
    rounds = metrics.get("round", ())
    found = []
    for column, label, before in (
        ("epsilon", "this run", 0.0),
        # The files of this run do not say what other runs have spent before.
        ("shared_epsilon", "all runs of the shared ledger", None),
    ):
        one = _series(label, rounds, metrics.get(column, ()), before)
        if one is not None:
            found.append(one)
    if not found:
        return []
    if len(found) == 2 and found[0].values[1:] == found[1].values:
        # The ledger has no other run.
        del found[1]
    highest = max(v for one in found for v in one.values)
    line = None
    if limit is not None:
        line = limit[0], f"{limit[1]} {words.bound(limit[0])}"
        highest = max(highest, limit[0])
    top = 1.2 * highest or 1.0
    return [Panel("Privacy loss ε", tuple(found), 0.0, top, limit=line, bound=True)]


def of_rounds(metrics: Mapping[str, Sequence[float]]) -> list[Panel]:
    """Makes panels of traffic, clients, clip and learning rates by rounds.

    A quantity that is the same in all rounds is left out. Excluded clients are shown if
    a round excluded clients.
    """
    rounds = metrics.get("round", ())
    panels = _traffic(metrics)
    for title, columns in _FURTHER:
        found = []
        for column, label in columns:
            one = _series(label, rounds, metrics.get(column, ()), None)
            if one is not None:
                found.append(one)
        if title == "Clients of a round":
            found = [one for one in found if any(one.values)]
        if any(len(set(one.values)) > 1 for one in found):
            values = [v for one in found for v in one.values]
            panels.append(Panel(title, tuple(found), *axis("count_loss", values)))
    return panels


def _traffic(metrics: Mapping[str, Sequence[float]]) -> list[Panel]:
    """Makes curves of the bytes sent so far; none if a private run withholds them."""
    sums: dict[str, list[float]] = {}
    for column, label in (("bytes_down", "to clients"), ("bytes_up", "from clients")):
        total, so_far = 0.0, []
        for value in metrics.get(column, ()):
            total += value if math.isfinite(value) else 0.0
            so_far.append(total)
        if total > 0:
            sums[label] = so_far
    if not sums:
        return []
    highest = max(so_far[-1] for so_far in sums.values())
    unit, scale = words.unit_of(highest)
    found = []
    for label, so_far in sums.items():
        values = [value / scale for value in so_far]
        one = _series(label, metrics.get("round", ()), values, 0.0)
        if one is not None:
            found.append(one)
    return [Panel(f"Traffic so far, {unit}", tuple(found), 0.0, 1.06 * highest / scale)]
