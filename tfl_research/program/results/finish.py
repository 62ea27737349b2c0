"""The files that a run writes at its end: exports, summary, clients' table, report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from tfl_research.outputs.columns import EVALUATED
from tfl_research.program.evaluation.client_metrics import Evaluation, client_table
from tfl_research.program.reports import RunResult
from tfl_research.storage import run_record
from tfl_research.storage.files import atomic
from tfl_research.storage.run_folder import RunFolder

_SHOWN_EXCLUDED = 5


def _model_cells(rows: Sequence[Mapping[str, str]], round_number: int) -> dict:
    """Returns the last evaluation up to a round and the round's ε and δ, as numbers."""
    cells: dict[str, Any] = {"round": round_number}
    for row in rows:
        if int(row["round"]) > round_number:
            break
        cells.update(
            (name, float(cell))
            for name, cell in row.items()
            if name.startswith(EVALUATED)
        )
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
    no_best: str,
    epsilon: Optional[float] = None,
) -> dict[str, Any]:
    """Returns the content of summary.json, made from the rows of metrics.csv.

    `no_best` says why there is no best model; None if there is a best model. `epsilon`
    is ε of the run, with charges that are in addition to the rows: the choice of
    the best model, or a round that diverged; None if the last row has it.
    """
    summary: dict[str, Any] = {
        "completed_rounds": completed_rounds,
        "planned_rounds": planned_rounds,
        "stop_reason": stop_reason,
        "untrained": dict(untrained),
        "final": _model_cells(rows, completed_rounds),
        "best": None,
    }
    if epsilon is not None:
        summary["epsilon"] = epsilon
    if stop_message is not None:
        summary["stop_message"] = stop_message
    if best_round is None:
        summary["no_best"] = no_best
    else:
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
    write_models: bool = True,
    write_report: bool,
    write_statement: Optional[Callable[[], None]] = None,
    say: Callable[[str], None],
) -> None:
    """Writes exports, summary.json, clients.csv, the statement and report.html.

    Args:
      folder: the run's folder.
      summary: the content of summary.json.
      weights: `{"final": weights, "best": weights}`; "best" may be missing.
      evaluations: `{(model, split): evaluation}`.
      exporter: (weights, path) -> None, writes a model.
      write_models: whether models are written. If not, the models of an earlier end of
        the run are removed, because the other files are about later rounds.
      write_report: whether report.html is written. If not, an earlier file is removed.
      write_statement: writes the privacy statement, which the report repeats.
      say: prints a line.
    """
    written = weights if write_models else {}
    for name, model_weights in written.items():
        exporter(model_weights, folder.export_path / name)
    for name in ("final", "best"):
        if name not in written:
            # This export is of an earlier end of the run, after fewer rounds.
            atomic.remove(folder.export_path / name)
    if evaluations:
        atomic.write(folder.clients_path, client_table(evaluations))
    else:
        folder.clients_path.unlink(missing_ok=True)
    content = json.dumps(run_record.plain("summary", summary), indent=2) + "\n"
    atomic.write(folder.summary_path, content.encode())
    if write_statement is not None:
        write_statement()
    if not write_report:
        folder.report_path.unlink(missing_ok=True)
        return
    write_page(folder.path, say)


def write_page(path: Path, say: Callable[[str], None]) -> None:
    """Writes report.html from a run's folder, or says why it cannot be written.

    Args:
      path: the run's folder.
      say: prints a line.
    """
    # The report's modules are slow to import; a start must reach round 1 quickly.
    from tfl_research import report

    try:
        report.write(path)
    except report.ReportUnavailableError as error:
        say(f"no report.html: {error}")


def excluded_line(excluded: Sequence[Mapping[str, Any]], *, covered: bool) -> str:
    """Makes a line about the excluded clients.

    Args:
      excluded: the result of `exclusions.totals`.
      covered: whether ε covers the exclusions; True if there is no ε.
    """
    parts = [
        f"{one['client']} in {one['rounds']} rounds ({one['reason']})"
        for one in excluded[:_SHOWN_EXCLUDED]
    ]
    more = len(excluded) - len(parts)
    if more:
        parts.append(f"{more} more, see summary.json")
    return (
        f"warning: updates that were not finite did not count: {'; '.join(parts)}"
        + ("" if covered else " (not covered by ε)")
    )


def closing_lines(
    result: RunResult, decided_by: str, covered: bool, folder: RunFolder
) -> list[str]:
    """Makes lines that say why the run ended, the best model, and the result files.

    Args:
      result: the result of the run.
      decided_by: the column that picked the best model, `PRIVATE_CHOICE`, or "".
      covered: whether ε covers this column; True if there is no ε.
      folder: the folder of the run.
    """
    reason = run_record.STOP_REASONS[result.stop_reason]
    if result.stop_message is not None:
        reason += f" ({result.stop_message})"
    best = ""
    if result.best_value is not None:
        best = (
            f"; best {decided_by} {result.best_value:.4g} in round {result.best_round}"
        )
        best += "" if covered else " (not covered by ε)"
    elif result.best_round is not None:
        best = f"; best model of round {result.best_round}, by {decided_by}"
    shown = [
        folder.metrics_path,
        folder.measurements_path,
        folder.export_path,
        folder.report_path,
    ]
    return [
        f"complete after round {result.completed_rounds}: {reason}{best}",
        f"results: {'  '.join(str(path) for path in shown if path.exists())}",
    ]
