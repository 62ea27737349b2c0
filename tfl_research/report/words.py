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
# Prefixes of columns, the longest first, and the text that says whose metric it is.
_WHOSE = (
    ("eval_client_worst_decile_", "worst tenth of clients"),
    ("eval_client_worst_", "worst client"),
    ("eval_client_mean_", "mean of clients"),
    ("held_out_client_worst_decile_", "worst tenth of held-out clients"),
    ("held_out_client_worst_", "worst held-out client"),
    ("held_out_client_mean_", "mean of held-out clients"),
    ("held_out_", "held-out clients"),
    ("private_", "test examples, with noise"),
    ("train_", "cohort, during training"),
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
    """Returns a metric's name for readers: "pr_auc" is "PR AUC"."""
    return _METRICS.get(metric, metric.replace("_", " "))


def beginning(column: str) -> str:
    """Returns the prefix of a column that says whose metric it is, or ""."""
    for start, _ in _WHOSE:
        if column.startswith(start) and column != start:
            return start
    return ""


def split_column(column: str) -> tuple[str, str]:
    """Splits a column into the metric and whose metric it is; "" for other columns.

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
    """Returns the name for readers of a column of metrics.csv."""
    if column in _COLUMNS:
        return _COLUMNS[column]
    metric, whose = split_column(column)
    return f"{metric_name(metric)}, {whose}" if whose else metric_name(metric)


def lower_is_better(metric: str) -> bool:
    """Whether lower values of a metric are better, by its name."""
    return metric.rpartition("_")[2] in _LOWER_IS_BETTER


def number(value: Any, column: str = "") -> str:
    """Formats a cell: four digits, a dash for no value, ε and δ rounded up."""
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
    """Formats ε or δ rounded up, "∞" for infinity; the text is equal on all pages."""
    return "∞" if math.isinf(value) else rounded_up(value, DIGITS)


def of_picture(value: float, *, is_bound: bool) -> str:
    """Formats a value of a picture: ε by `bound`, other values by `number`."""
    return bound(value) if is_bound else number(value)


def unit_of(count: float) -> tuple[str, float]:
    """Returns the unit for a number of bytes, and the unit's size in bytes."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return unit, scale
    return "bytes", 1.0


def size(count: float) -> str:
    """Formats a number of bytes, such as "1.2 MB"."""
    unit, scale = unit_of(count)
    return f"{count / scale:.3g} {unit}"


def duration(seconds: float) -> str:
    """Formats a time: "35 ms", "2.1 s", "4 min 10 s", "3 h 5 min"."""
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
    """Returns the text with a capital first letter."""
    return text[:1].upper() + text[1:]


def counted(count: int, thing: str) -> str:
    """Formats a count of things: "1 client", "3 clients"."""
    return f"{number(count)} {thing}{'' if count == 1 else 's'}"
