"""Lists the outputs that a run gives out, for its privacy statement."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from tfl_research import outputs
from tfl_research.experiment.private.releases import released
from tfl_research.outputs.files import (
    BEST_BY_NOISE,
    BEST_MODEL,
    CLIENTS,
    HELD_OUT_CLIENTS,
    MEMBERSHIP,
)
from tfl_research.privacy.ledger.statements.statement_outputs import (
    OF_EVERY_RUN,
    GivenOut,
)
from tfl_research.program.evaluation import deciding
from tfl_research.program.evaluation.selection import selection_column
from tfl_research.storage import RunFolder
from tfl_research.storage.files import atomic
from tfl_research.storage.metrics import measurements, metrics_log

if TYPE_CHECKING:
    from tfl_research.experiment.configs import Training
    from tfl_research.experiment.setup import Setup


def given_out(setup: Setup, folder: RunFolder) -> GivenOut:
    """Returns the outputs that a run releases, for its statement.

    Args:
      setup: the setup of the run.
      folder: the folder of the run.
    """
    experiment, release = setup.experiment, released.release_of(setup)
    columns = columns_of(folder)
    if setup.task.held_out is None:
        columns = [name for name in columns if not name.startswith("held_out_")]
    measured = measured_of(folder)
    column = released.deciding_column(setup)
    if experiment.release.selection_epsilon is not None:
        column = deciding.PRIVATE_CHOICE
    decided_by = decided(folder, column)
    files = [CLIENTS]
    if setup.task.held_out is not None:
        files.append(HELD_OUT_CLIENTS)
    files += results(experiment.training, decided_by)
    if measured:
        files.append(folder.measurements_path.name)
    if experiment.training.tensorboard:
        files.append("logdir")
    if experiment.audit is not None:
        files += ["audit.json", "canaries.svg", MEMBERSHIP]
    return GivenOut(
        release,
        [*columns, *measured],
        [*files, *further(folder, files)],
        decided_by,
        is_complete=folder.summary_path.exists(),
    )


def columns_of(folder: RunFolder) -> list[str]:
    """Returns the columns of a run's metrics.csv that have values.

    Before the first round, the columns that every metrics.csv has.
    """
    if not folder.metrics_path.exists():
        return list(metrics_log.COLUMNS)
    with folder.metrics_path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file)) or [list(metrics_log.COLUMNS)]
    if not rows:
        return header
    filled = {index for row in rows for index, cell in enumerate(row) if cell}
    return [name for index, name in enumerate(header) if index in filled]


def measured_of(folder: RunFolder) -> list[str]:
    """Returns the names of the vectors and texts in a run's measurements.jsonl."""
    rounds = measurements.read(folder.measurements_path)
    return list(dict.fromkeys(name for each in rounds.values() for name in each))


def decided(folder: RunFolder, column: Optional[str]) -> str:
    """Returns what selects the best model; "" if nothing does, or nothing was selected.

    Args:
      folder: the folder of the run.
      column: the column that the run selects by, `deciding.PRIVATE_CHOICE`, or None.
    """
    if column is None:
        return ""
    if folder.summary_path.exists():
        try:
            summary = json.loads(folder.summary_path.read_text(encoding="utf-8"))
        except ValueError:
            # The file of an earlier end is damaged; this start writes it again.
            summary = None
        if isinstance(summary, dict) and summary.get("best") is None:
            return ""
    return column if column == deciding.PRIVATE_CHOICE else selection_column(column)


def results(
    training: Training, decided_by: str, *, has_model: bool = True
) -> Sequence[str]:
    """Returns the names of the report and of the models that a run writes at its end.

    Args:
      training: the settings that leave reports and models out.
      decided_by: see `decided`.
      has_model: whether the state of the run has a model.
    """
    names = ["report.html"] if training.report else []
    if training.export and has_model:
        names.append("export/final")
        if decided_by == deciding.PRIVATE_CHOICE:
            names.append(BEST_BY_NOISE)
        elif decided_by:
            names.append(BEST_MODEL)
    return names


def further(folder: RunFolder, known: Sequence[str]) -> list[str]:
    """Returns the files in the folder that no list names, such as callbacks' files."""
    heads = {name.split(":")[0].split("/")[0] for name in (*known, *OF_EVERY_RUN)}
    return sorted(
        path.name
        for path in folder.path.iterdir()
        if path.name not in heads
        and outputs.file(path.name).kind not in (outputs.SECRET, outputs.DERIVED)
        and not path.name.startswith(".")
        and not path.name.endswith(atomic.TEMPORARY_SUFFIX)
    )
