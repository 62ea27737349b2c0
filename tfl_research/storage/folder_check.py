"""Checks a run's folder before it is opened: its path, its files, and its record."""

from __future__ import annotations

import os
import pathlib
from typing import Any, Optional

from tfl_research.errors import UserError
from tfl_research.storage import run_record
from tfl_research.storage.files import atomic, file_kinds, folder_lock
from tfl_research.storage.metrics import kept_rows

# Names in a run's folder that a start reads, replaces or extends.
_FILES = (
    *("hparams.json", "run_seed", "metrics.csv", "measurements.jsonl", "columns.json"),
    *("clients.csv", "personal_clients.csv", "summary.json", "ledger.jsonl"),
    *("ledger.jsonl.head", "privacy.txt", "computation.json", "client_states.sqlite"),
    *(
        kept_rows.COPY,
        "runtime.json",
        "report.html",
        "client_epsilon.csv",
        "mlflow.json",
        "run_id",
    ),
    folder_lock.FILE,
)
# Characters that TensorFlow reads as a pattern of names.
_PATTERN = ("[", "]", "*", "?")
_FOLDERS = ("checkpoints", "logdir", "export")


def check_path(path: object) -> None:
    """Checks that a value can be the path of a run's folder.

    Raises:
      UserError: the value has another type, or the path is empty.
    """
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise UserError(
            f"--output_dir={path!r}: must be the path of the run's folder, as "
            "'results/mine'"
        )
    text = os.fspath(path)
    pattern = [c for c in _PATTERN if c in text]
    if pattern and not os.path.lexists(os.path.join(text, "hparams.json")):
        raise UserError(
            f"--output_dir={text}: TensorFlow reads {pattern[0]} in a path as a "
            "pattern, so nobody could load the exported models; give a path without "
            f"{' '.join(_PATTERN)}"
        )


def unwritable(folder: pathlib.Path, error: OSError) -> UserError:
    """Makes the error for a folder that cannot be written."""
    reason = error.strerror or str(error)
    return UserError(
        f"cannot write to {folder} ({reason}); choose another --output_dir"
    )


def read_record(folder: pathlib.Path) -> Optional[dict[str, Any]]:
    """Reads hparams.json; returns None for a folder without a run."""
    path = folder / "hparams.json"
    _check_kinds(folder)
    if not folder.exists():
        return None
    if not path.exists():
        begun = {folder_lock.FILE, "run_seed", "run_seed.tmp", "hparams.json.tmp"}
        foreign = sorted(set(os.listdir(folder)) - begun)
        if foreign:
            raise UserError(
                f"{folder} holds other files ({', '.join(foreign[:3])}"
                f"{', …' if len(foreign) > 3 else ''}) and no hparams.json; choose an "
                "empty or new --output_dir"
            )
        return None
    return run_record.read(path)


def _check_kinds(folder: pathlib.Path) -> None:
    """Checks that the names of files and folders in a run's folder have their kind.

    Raises:
      UserError: a name has another kind; the message names the found kind.
    """
    wrong = file_kinds.problem(folder, file_kinds.FOLDER)
    if wrong is not None:
        raise UserError(
            f"cannot write to {folder}: {wrong}; choose another --output_dir"
        )
    for names, wanted in (
        (_FILES, file_kinds.FILE),
        ([f"{name}{atomic.TEMPORARY_SUFFIX}" for name in _FILES], file_kinds.FILE),
        (_FOLDERS, file_kinds.FOLDER),
    ):
        for name in names:
            wrong = file_kinds.problem(folder / name, wanted)
            if wrong is not None:
                raise UserError(
                    f"{wrong}; restore it or move it away, or choose another "
                    "--output_dir"
                )
