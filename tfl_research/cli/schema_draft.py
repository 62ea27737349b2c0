"""Drafts of a schema.json for a folder of files, which a person completes."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

# What a person has to know before a draft is of use.
ADVICE = (
    "fill in each minimum and maximum from what is known without the files, and remove "
    "each category and class that is not: a private run takes all of them to be public"
)


def write(path: pathlib.Path, task_options: Mapping[str, Any]) -> None:
    """Writes a draft with the columns, categories and classes of the files.

    Ranges are left open (null), and a schema with an open range is refused: numbers
    read off the files would tell what is in them.

    Args:
      path: of the draft, no file yet.
      task_options: of the task csv.

    Raises:
      ValueError: a file at the path, files that already have a schema.json, or files
        that do not fit.
    """
    from tfl_research.data.tables import schema_file, silos  # Needs pandas.

    folder = pathlib.Path(task_options["data_dir"]).expanduser()
    if (folder / schema_file.SCHEMA_FILE).exists():
        raise ValueError(
            f"--write_schema={path}: {folder} has a {schema_file.SCHEMA_FILE}; "
            "complete it, or move it away"
        )
    if path.exists():
        raise ValueError(f"--write_schema={path}: there is a file; give another path")
    dropped = str(task_options.get("drop_columns", "")).split(",")
    data = silos.load(
        folder,
        label_column=task_options["label_column"],
        drop_columns=[name.strip() for name in dropped if name.strip()],
        delimiter=task_options.get("delimiter", ","),
        # So that a category is found wherever it stands.
        test_fraction=0.0,
    )
    try:
        path.write_text(
            json.dumps(schema_file.draft(data.schema), indent=2, ensure_ascii=False)
            + "\n",
            encoding="utf-8",
        )
    except OSError as error:
        raise ValueError(f"--write_schema={path}: {error.strerror}") from None
