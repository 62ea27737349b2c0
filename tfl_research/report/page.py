"""report.html: a page about a run."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Union

from tfl_research import outputs
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.report import run_results
from tfl_research.report.run_results import RunResults
from tfl_research.storage import atomic
from tfl_research.storage.run_record import STOP_REASONS

# Clients shown for each model and split; clients.csv has all clients.
_MAX_CLIENTS = 200


class ReportUnavailableError(ImportError):
    """matplotlib or jinja2 is not installed (extra `plots`)."""


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.5g}"
    return str(value)


def _model_table(
    summary: Mapping[str, Any], classes: Mapping[str, str]
) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and a row for each metric with the models' values.

    The last column has the classes of the metrics, where there are any.
    """
    models = {n: summary[n] for n in ("untrained", "final", "best") if summary.get(n)}
    skipped = ("selected_by", "value")
    metrics = dict.fromkeys(m for cells in models.values() for m in cells)
    # The round comes first; the other metrics keep their order.
    ordered = sorted(
        (m for m in metrics if m not in skipped), key=lambda m: m != "round"
    )
    rows = [[m, *(_shown(c.get(m)) for c in models.values())] for m in ordered]
    if not classes or not models:
        return list(models), rows
    return [*models, "class"], [[*row, classes.get(row[0], "–")] for row in rows]


def _classes(results: RunResults) -> dict[str, str]:
    """The classes of the columns of a private run, in words."""
    return {
        name: f"{column['class']}: {outputs.CLASSES[column['class']]}"
        for name, column in results.columns.items()
    }


def _clients_title(table: Mapping[str, Any], *, is_private: bool) -> str:
    """What a table of clients shows, and in a private run that ε does not cover it."""
    split = {
        "held_out": "held-out clients",
        "eval_backdoor": "triggered test examples",
    }.get(table["split"], "clients' test splits")
    title = f"{table['model']} model, {split} ({table['total']} clients)"
    exact = is_private and table["split"] != "held_out"
    return f"{title}; exact, outside of ε" if exact else title


def _clients(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    tables: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        tables.setdefault((row["model"], row["split"]), []).append(row)
    result = []
    for (model, split), clients in tables.items():
        columns = [
            name
            for name in clients[0]
            if name not in ("model", "split") and any(c[name] for c in clients)
        ]
        ordered = sorted(clients, key=lambda c: -int(c["examples"]))
        result.append(
            {
                "model": model,
                "split": split,
                "columns": columns,
                "rows": [[c[n] for n in columns] for c in ordered[:_MAX_CLIENTS]],
                "total": len(clients),
            }
        )
    return result


def _last_value(results: RunResults, column: str) -> float:
    values = results.metrics.get(column, ())
    return values[-1] if values else math.nan


def _spent(results: RunResults) -> tuple[float, float]:
    """ε and δ of the run so far; a private run without rounds has spent nothing.

    ε is that of the last row, unless the summary has one that covers more: the choice
    of the best model, or a round that diverged, which has no row.
    """
    plan = results.record.get("privacy_plan")
    unspent = math.inf if plan is None else 0.0
    rows = results.metrics.get("epsilon", ())
    epsilon = rows[-1] if rows else unspent
    # JSON has no infinity: summary.json holds "inf".
    epsilon = float(results.summary.get("epsilon", epsilon))
    delta = _last_value(results, "delta")
    if math.isnan(delta) and plan is not None:
        # Under record-level privacy each client has its own, in the statement.
        delta = plan.get("delta", math.nan)
    return epsilon, delta


def _render(results: RunResults) -> str:
    try:
        import jinja2

        from tfl_research.report import curves
    except ImportError as error:
        raise ReportUnavailableError(
            f"{error.name} is not installed; install the extra 'plots' "
            "(pip install 'tfl_research[plots]')"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfl_research", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    summary = results.summary
    epsilon, delta = _spent(results)
    is_private = math.isfinite(epsilon)
    classes = _classes(results) if is_private else {}
    models, model_rows = _model_table(summary, classes)
    clients = _clients(results.clients)
    for table in clients:
        table["title"] = _clients_title(table, is_private=is_private)
    best = summary.get("best") or {}
    return environment.get_template("report.html").render(
        title=results.record.get("experiment") or results.name,
        name=results.name,
        completed=len(results.metrics.get("round", ())),
        diverged=summary.get("stop_reason") == "diverged",
        stop_reason=STOP_REASONS.get(summary.get("stop_reason", ""), ""),
        epsilon=rounded_up(epsilon, 5),
        delta="" if math.isnan(delta) else rounded_up(delta, 5),
        is_private=is_private,
        privacy=results.privacy,
        curves=curves.draw(results.metrics),
        models=models,
        model_rows=model_rows,
        selected_by=best.get("selected_by"),
        selected_value=best.get("value"),
        clients=clients,
        excluded=summary.get("excluded", ()),
        classes=classes,
        columns=results.columns,
        hparams=sorted(results.record.get("hparams", {}).items()),
        code={
            "git revision": results.record.get("git_revision"),
            "run seed": results.record.get("run_seed"),
            **results.record.get("versions", {}),
        },
    )


def write(folder: Union[str, os.PathLike[str]]) -> pathlib.Path:
    """Writes `report.html` of the run in `folder`, and returns its path.

    The page is a single file without external resources, made from the run's files. The
    run need not have ended.

    Raises:
      ValueError: the folder holds no run, or one of its files is damaged.
      ReportUnavailableError: matplotlib or jinja2 is not installed.
    """
    results = run_results.read(folder)
    try:
        content = _render(results)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder}: hparams.json, summary.json, columns.json or clients.csv is "
            f"damaged ({type(error).__name__}: {error}); the command of the run writes "
            "them again"
        ) from error
    path = pathlib.Path(folder) / "report.html"
    atomic.write(path, content.encode())
    return path
