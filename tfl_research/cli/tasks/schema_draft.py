"""Compares a folder's files, and drafts a schema.json that a person completes."""

from __future__ import annotations

import json
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

from tfl_research.storage.files import user_paths

if TYPE_CHECKING:
    from tfl_research.data.tables.comparison.finding import Finding
    from tfl_research.data.tables.comparison.table import Table

# Facts that a person must know before using a draft.
ADVICE = (
    "fill in each minimum and maximum from what is known without the files, put one of "
    "the choices in the place of each list of choices, and remove each category and "
    "class that is not known: a private run takes all of them to be public"
)
_WIDTH = 80
_INDENT = 20


def compared(task_options: Mapping[str, Any]) -> tuple[Table, list[Finding]]:
    """Returns the files of the task csv, and the findings of their comparison.

    Args:
      task_options: the options of the task csv.

    Raises:
      ValueError: files or columns do not fit.
    """
    # This import needs pandas.
    from tfl_research.data.tables.comparison import (
        columns,
        copies,
        table as files_table,
    )

    dropped = str(task_options.get("drop_columns", "")).split(",")
    table = files_table.read(
        user_paths.expanded(task_options["data_dir"]),
        task_options["label_column"],
        [name.strip() for name in dropped if name.strip()],
        task_options.get("delimiter", ","),
        task_options.get("label_type", "classes"),
    )
    if table.declared is None:
        found = columns.features(table.silos, table.names)
        found += copies.of_files(table.silos, [*table.names, *table.label_columns])
    else:
        found = columns.declared(table.silos, table.declared, table.names)
    if not table.label_is_declared:
        found += columns.label(table.silos, table.label_columns, table.label_kind)
    return table, found


def text(table: Table, found: Sequence[Finding]) -> str:
    """Describes the findings of the comparison, a paragraph for each finding."""
    files = "1 file" if len(table.silos) == 1 else f"{len(table.silos)} files"
    refused = sum(finding.fate == "refused" for finding in found)
    summary = f"{files}; {len(found)} findings, {refused} of them refused"
    lines = [f"{'silos compared':<{_INDENT}}{summary}"]
    for finding in found:
        lines.append(_entry(f"  {finding.fate}", finding.text))
        lines += [_entry("", f"- {choice}") for choice in finding.choices]
        if finding.choices and finding.is_feature:
            lines.append(_entry("", f"- drop_columns={finding.column}"))
    return "\n".join(lines)


def _entry(name: str, words: str) -> str:
    return textwrap.fill(
        words,
        _WIDTH,
        initial_indent=f"{name:<{_INDENT}}",
        subsequent_indent=" " * _INDENT,
        break_on_hyphens=False,
        break_long_words=False,
    )


def refusal(found: Sequence[Finding]) -> Optional[str]:
    """Returns the line that ends the command if something is refused, or None."""
    columns = list(dict.fromkeys(f.column for f in found if f.fate == "refused"))
    if not columns:
        return None
    return (
        f"{', '.join(columns)}: can be read in several ways, see above; correct the "
        "files, or declare the columns in schema.json (--write_schema=FILE drafts it)"
    )


def write(path: pathlib.Path, task_options: Mapping[str, Any]) -> str:
    """Writes a draft with the columns, categories and classes of the files.

    Ranges are left open (null), since ranges read off the files would disclose data. A
    column that can be read in several ways gets a list of choices. A schema with open
    ranges or choices is refused until a person completes it.

    Args:
      path: the path of the draft; no file may exist there.
      task_options: the options of the task csv.

    Returns:
      The findings of the comparison of the files, see `text`.

    Raises:
      ValueError: there is a file at the path, the files already have a schema.json, or
        the files do not fit.
    """
    from tfl_research.data.tables import schema_file  # Needs pandas.
    from tfl_research.data.tables.comparison import draft

    folder = user_paths.expanded(task_options["data_dir"])
    if (folder / schema_file.SCHEMA_FILE).exists():
        raise ValueError(
            f"--write_schema={path}: {folder} already has a "
            f"{schema_file.SCHEMA_FILE}; complete that file, or move it away"
        )
    if path.exists():
        raise ValueError(
            f"--write_schema={path}: the file exists already; give another path"
        )
    table, found = compared(task_options)
    content = draft.content(table, found)
    try:
        path.write_text(
            json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    except OSError as error:
        raise ValueError(
            f"--write_schema={path}: cannot be written ({error.strerror}); give "
            "another path"
        ) from None
    return text(table, found)
