"""The files that a run writes at its end: exports, summary, clients' table, report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from tfl_research import report
from tfl_research.program.evaluation.client_metrics import Evaluation, client_table
from tfl_research.program.reports import RunResult
from tfl_research.storage import atomic, run_record
from tfl_research.storage.run_folder import RunFolder


def _model_cells(rows: Sequence[Mapping[str, str]], round_number: int) -> dict:
    """Returns the last evaluation up to a round and the round's ε and δ, as numbers."""
    cells: dict[str, Any] = {"round": round_number}
    for row in rows:
        if int(row["round"]) > round_number:
            break
        if any(name.startswith(("eval_", "held_out_")) for name in row):
            evaluation = {
                name: float(cell)
                for name, cell in row.items()
                if name.startswith(("eval_", "held_out_"))
            }
            cells.update(evaluation)
        if int(row["round"]) == round_number:
            cells["epsilon"] = float(row["epsilon"])
            cells["delta"] = float(row["delta"]) if "delta" in row else None
    return cells


def summarize(
    rows: Sequence[Mapping[str, str]],
    *,
    completed_rounds: int,
    planned_rounds: int,
    stop_reason: str,
    stop_message: Optional[str] = None,
    untrained: Mapping[str, float],
    selection_column: str,
    best_round: Optional[int],
    best_value: Optional[float],
) -> dict[str, Any]:
    """Returns the content of summary.json, made from the rows of metrics.csv."""
    summary: dict[str, Any] = {
        "completed_rounds": completed_rounds,
        "planned_rounds": planned_rounds,
        "stop_reason": stop_reason,
        "untrained": dict(untrained),
        "final": _model_cells(rows, completed_rounds),
        "best": None,
    }
    if stop_message is not None:
        summary["stop_message"] = stop_message
    if best_round is not None:
        summary["best"] = {
            **_model_cells(rows, best_round),
            "selected_by": selection_column,
            "value": best_value,
        }
    return summary


def write_outputs(
    folder: RunFolder,
    summary: Mapping[str, Any],
    weights: Mapping[str, Any],
    evaluations: Mapping[tuple[str, str], Evaluation],
    exporter: Callable[[Any, Path], None],
    *,
    write_report: bool,
    say: Callable[[str], None],
) -> None:
    """Writes exports, summary.json, clients.csv and report.html.

    Args:
      folder: the run's folder.
      summary: the content of summary.json.
      weights: `{"final": weights, "best": weights}`; "best" may be missing.
      evaluations: `{(model, split): evaluation}`.
      exporter: (weights, path) -> None, writes a model.
      write_report: whether report.html is written.
      say: prints a line.
    """
    for name, model_weights in weights.items():
        exporter(model_weights, folder.export_path / name)
    atomic.write(folder.clients_path, client_table(evaluations))
    content = json.dumps(run_record.plain("summary", summary), indent=2) + "\n"
    atomic.write(folder.summary_path, content.encode())
    if not write_report:
        return
    try:
        report.write(folder.path)
    except report.ReportUnavailableError as error:
        say(f"no report.html: {error}")


def closing_lines(
    result: RunResult, selection_column: str, folder: RunFolder
) -> list[str]:
    """Lines that say why the run ended, the best model, and the result files."""
    reason = run_record.STOP_REASONS[result.stop_reason]
    if result.stop_message is not None:
        reason += f" ({result.stop_message})"
    best = ""
    if result.best_value is not None:
        best = (
            f"; best {selection_column} {result.best_value:.4g} in round "
            f"{result.best_round}"
        )
    shown = [folder.metrics_path, folder.export_path, folder.report_path]
    return [
        f"complete after round {result.completed_rounds}: {reason}{best}",
        f"results: {'  '.join(str(path) for path in shown if path.exists())}",
    ]
