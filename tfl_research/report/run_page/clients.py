"""Tables of clients, and pictures of a metric over them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfl_research.report import words
from tfl_research.report.run_results import Rows, RunResults

# Number of clients shown for each model and split; the CSV file has all clients.
MAX_CLIENTS = 200


def _metrics(columns: Sequence[str]) -> list[str]:
    return [c for c in columns if c not in ("client_id", "examples", "train_examples")]


def _title(model: str, split: str, total: int, *, is_private: bool) -> str:
    """Makes a table's title; it says if ε of a private run does not cover the table."""
    whose = {
        "eval": "clients' test splits",
        "held_out": "held-out clients",
        "eval_backdoor": "triggered test examples",
    }.get(split, f"split {split}")
    title = f"{words.capital(model)} model, {whose} ({words.counted(total, 'client')})"
    exact = is_private and split != "held_out"
    return f"{title}; exact, not covered by ε" if exact else title


def _examples(row: Mapping[str, str]) -> int:
    try:
        return int(row.get("examples") or 0)
    except ValueError:
        return 0


def _table(title: str, rows: Rows, columns: Sequence[str], file: str) -> dict[str, Any]:
    """Makes a table of clients; clients with the most examples come first."""
    ordered = sorted(rows, key=lambda row: -_examples(row))
    return {
        "title": title,
        "columns": [
            {"client_id": "client", "examples": "examples"}.get(c, words.column_name(c))
            for c in columns
        ],
        "rows": [
            [row[c] if c == "client_id" else words.number(row[c], c) for c in columns]
            for row in ordered[:MAX_CLIENTS]
        ],
        "total": len(rows),
        "file": file,
    }


def tables(results: RunResults) -> list[dict[str, Any]]:
    """Makes the clients' tables for each model and split, and for personal models."""
    split: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in results.clients:
        split.setdefault((row["model"], row["split"]), []).append(row)
    found = []
    for (model, of_split), rows in split.items():
        columns = [
            name
            for name in rows[0]
            if name not in ("model", "split") and any(row[name] for row in rows)
        ]
        title = _title(model, of_split, len(rows), is_private=results.is_private)
        found.append(_table(title, rows, columns, "clients.csv"))
    if results.personal:
        columns = [
            n for n in results.personal[0] if any(r[n] for r in results.personal)
        ]
        total = words.counted(len(results.personal), "client")
        title = f"Global and personal models, clients' test splits ({total})"
        if results.is_private:
            title += "; exact, not covered by ε"
        found.append(_table(title, results.personal, columns, "personal_clients.csv"))
    if results.spent:
        columns = [n for n in results.spent[0] if n != "round"]
        title = f"ε of each client's records after round {results.spent[0]['round']}"
        found.append(_table(title, results.spent, columns, "client_epsilon.csv"))
    return found


def excluded(results: RunResults) -> list[list[str]]:
    """Returns client, rounds, last round and reason for each excluded client.

    summary.json has these rows if the run releases them.
    """
    found = results.summary.get("excluded") or ()
    return [
        [words.number(one.get(name)) for name in ("client", "rounds", "last_round")]
        + [str(one.get("reason") or words.NONE)]
        for one in found
    ]


def _finite(row: Mapping[str, str], column: str) -> float | None:
    try:
        value = float(row.get(column) or math.nan)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def values(results: RunResults, metric: str) -> dict[str, dict[str, float]]:
    """Returns a metric on test splits by model (final, best, personal) and client."""
    found: dict[str, dict[str, float]] = {}
    for row in results.clients:
        value = _finite(row, metric)
        if row["split"] == "eval" and value is not None:
            of_model = found.setdefault(f"{row['model']} model", {})
            of_model[row["client_id"]] = value
    for row in results.personal:
        value = _finite(row, f"personal_{metric}")
        if value is not None:
            of_model = found.setdefault("personal model", {})
            of_model[row["client_id"]] = value
    best, final = found.get("best model"), found.get("final model")
    if best is not None and best == final:
        # The best round is the last one.
        del found["best model"]
        found = {"final and best model": found.pop("final model"), **found}
    return found


def held_out_values(results: RunResults, metric: str) -> list[float]:
    """Returns a metric of the final model at each held-out client."""
    rows = [r for r in results.clients if r["split"] == "held_out"]
    found = [_finite(row, metric) for row in rows if row["model"] == "final"]
    return [value for value in found if value is not None]


def metric_shown(results: RunResults, preferred: str | None) -> str | None:
    """Returns the picture's metric: the preferred metric, or the table's first."""
    for rows in (results.clients, results.personal):
        if rows:
            names = _metrics([n for n in rows[0] if n not in ("model", "split")])
            metrics = [n.partition("personal_")[2] or n for n in names]
            if preferred in metrics:
                return preferred
            return metrics[0] if metrics else None
    return None
