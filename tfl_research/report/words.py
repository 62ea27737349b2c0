"""Words and numbers of pages: names of metrics, amounts of bytes, times, ε."""

from __future__ import annotations

import math
from typing import Any

from tfl_research.privacy.accounting.rounding import rounded_up

# Significant digits of ε and δ, on every page and in every picture.
DIGITS = 4
NONE = "–"

_METRICS = {
    "epsilon": "ε",
    "auc": "AUC",
    "pr_auc": "PR AUC",
    "mse": "MSE",
    "mae": "MAE",
}
_LOWER_IS_BETTER = ("loss", "error", "mse", "mae", "perplexity")
# Beginnings of columns, the longest first, and whose metric the column has.
_WHOSE = (
    ("eval_client_worst_decile_", "worst tenth of clients"),
    ("eval_client_worst_", "worst client"),
    ("eval_client_mean_", "mean of clients"),
    ("held_out_client_worst_decile_", "worst tenth of held-out clients"),
    ("held_out_client_worst_", "worst held-out client"),
    ("held_out_client_mean_", "mean of held-out clients"),
    ("held_out_", "held-out clients"),
    ("private_", "test examples, with noise"),
    ("train_", "cohort, while it trains"),
    ("eval_", "test examples"),
)
_COLUMNS = {
    "abandoned": "round abandoned",
    "bytes_down": "bytes to clients",
    "bytes_up": "bytes from clients",
    "clip_norm": "clip",
    "cohort_size": "clients that took part",
    "delta": "δ",
    "dropped_out": "clients that did not report",
    "epsilon": "ε",
    "examples": "training examples",
    "excluded_clients": "clients excluded: update not finite",
    "late": "clients that reported too late",
    "round_seconds": "seconds of the round",
    "selected": "clients asked",
    "shared_epsilon": "ε of all runs of the shared ledger",
}


def metric_name(metric: str) -> str:
    """A metric in words: "pr_auc" is "PR AUC"."""
    return _METRICS.get(metric, metric.replace("_", " "))


def beginning(column: str) -> str:
    """The part of a column's name that says whose metric it is; else empty."""
    for start, _ in _WHOSE:
        if column.startswith(start) and column != start:
            return start
    return ""


def split_column(column: str) -> tuple[str, str]:
    """A column's metric, and whose metric it is; the latter is empty for other columns.

    Example:
      >>> from tfl_research.report import words
      >>> words.split_column("eval_client_mean_pr_auc")
      ('pr_auc', 'mean of clients')
      >>> words.split_column("round")
      ('round', '')
    """
    start = beginning(column)
    return column[len(start) :], dict(_WHOSE).get(start, "")


def column_name(column: str) -> str:
    """A column of metrics.csv in words."""
    if column in _COLUMNS:
        return _COLUMNS[column]
    metric, whose = split_column(column)
    return f"{metric_name(metric)}, {whose}" if whose else metric_name(metric)


def lower_is_better(metric: str) -> bool:
    """Whether a metric's name says that less is better."""
    return metric.rpartition("_")[2] in _LOWER_IS_BETTER


def number(value: Any, column: str = "") -> str:
    """A cell as text: four digits, a dash for no value, ε and δ rounded up."""
    if value is None or value == "":
        return NONE
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if column.endswith(("epsilon", "delta")):
        return bound(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e9):
        return f"{int(value):,}" if abs(value) >= 10_000 else f"{int(value)}"
    return f"{value:.4g}"


def bound(value: float) -> str:
    """ε or δ as text, rounded up, "∞" for infinity; the same on every page."""
    return "∞" if math.isinf(value) else rounded_up(value, DIGITS)


def of_picture(value: float, *, is_bound: bool) -> str:
    """A value of a picture: ε as `bound`, any other as `number`."""
    return bound(value) if is_bound else number(value)


def unit_of(count: float) -> tuple[str, float]:
    """The unit in which to write a number of bytes, and the unit's number of bytes."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return unit, scale
    return "bytes", 1.0


def size(count: float) -> str:
    """An amount of bytes: "1.2 MB"."""
    unit, scale = unit_of(count)
    return f"{count / scale:.3g} {unit}"


def duration(seconds: float) -> str:
    """A time: "35 ms", "2.1 s", "4 min 10 s", "3 h 5 min"."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 99.5:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days"


def capital(text: str) -> str:
    """The text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def counted(count: int, thing: str) -> str:
    """ "1 client", "3 clients"."""
    return f"{number(count)} {thing}{'' if count == 1 else 's'}"
