"""The table of the models' metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfl_research import outputs
from tfl_research.report import words
from tfl_research.report.pictures import panels
from tfl_research.report.run_results import RunResults

_NO_METRICS = ("selected_by", "value", "round")


def classes(results: RunResults) -> dict[str, str]:
    """Describes the classes of a private run's columns; empty without privacy."""
    if not results.is_private:
        return {}
    return {
        name: f"{column['class']}: {outputs.CLASSES[column['class']]}"
        for name, column in results.columns.items()
        if column.get("class") in outputs.CLASSES
    }


def described(results: RunResults) -> list[tuple[str, str, str, str]]:
    """Returns name, class, whose data, and meaning of a private run's columns."""
    return [
        (
            name,
            text,
            results.columns[name].get("depends_on", words.NONE),
            results.columns[name].get("what", words.NONE),
        )
        for name, text in classes(results).items()
    ]


def number_of_clients(results: RunResults) -> int | None:
    """Returns the number of evaluated clients; None if no file has the number."""
    rows = [(row["model"], row["split"]) for row in results.clients]
    if ("final", "eval") in rows:
        return rows.count(("final", "eval"))
    found = results.hparams.get("num_train_clients")
    return found if isinstance(found, int) else None


def table(results: RunResults) -> dict[str, Any] | None:
    """Returns the models, and a row for each metric; None before the first summary.

    With at most ten clients, the worst tenth is left out: it is the worst client.
    """
    summary = results.summary
    models: dict[str, Mapping[str, Any]] = {
        name: summary[name]
        for name in ("untrained", "final", "best")
        if summary.get(name)
    }
    if not models:
        return None
    found = dict.fromkeys(m for cells in models.values() for m in cells)
    number = number_of_clients(results)
    few = number is not None and number <= panels.TENTH
    private = results.is_private
    of_columns = classes(results)
    rows: list[dict[str, Any]] = []
    of_clients: list[dict[str, Any]] = []
    for column in found:
        if column in _NO_METRICS or (few and "worst_decile" in column):
            continue
        if column in ("epsilon", "delta") and not private:
            continue
        cells = [words.number(c.get(column), column) for c in models.values()]
        over = words.beginning(column)
        (of_clients if "client" in over else rows).append(
            {
                "name": words.column_name(column),
                "column": column,
                "cells": cells,
                "class": of_columns.get(column, words.NONE),
            }
        )
    rounds = [words.number(cells.get("round")) for cells in models.values()]
    best = summary.get("best") or {}
    return {
        "models": list(models),
        "rounds": rounds,
        "rows": rows,
        "of_clients": of_clients,
        "has_classes": bool(of_columns),
        "few": few,
        "selected_by": words.column_name(best["selected_by"])
        if best.get("selected_by")
        else None,
        "is_optimistic": best.get("value") is not None,
        "no_best": summary.get("no_best"),
    }


def personal(results: RunResults) -> list[list[str]]:
    """Returns rows of the personal models: metric, global, personal, gain."""
    found = results.summary.get("personal") or {}
    rows = []
    for name, value in found.items():
        if not name.startswith("personal_client_mean_"):
            continue
        metric = name[len("personal_client_mean_") :]
        gain = found.get(f"gain_share_{metric}")
        share = f"{gain:.0%}" if isinstance(gain, (int, float)) else words.NONE
        shared = words.number(found.get(f"global_client_mean_{metric}"))
        rows.append([words.metric_name(metric), shared, words.number(value), share])
    return rows
