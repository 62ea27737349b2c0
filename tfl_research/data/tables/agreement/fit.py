"""Finds the cells of a site's files that do not fit a schema."""

from __future__ import annotations

from collections.abc import Sequence

from tfl_research.data.tables import labels
from tfl_research.data.tables.comparison import table as files_table
from tfl_research.data.tables.files import Silo
from tfl_research.data.tables.schema import Schema


def misfits(
    silos: Sequence[Silo], schema: Schema, label_column: str, dropped: Sequence[str]
) -> list[str]:
    """Finds the first cell that does not fit, for each column of each file.

    Args:
      silos: the site's files.
      schema: the schema that the sites agreed on.
      label_column: the column of the label.
      dropped: columns that are no features; a file may have them.

    Returns:
      A line for each column of a file that does not fit, which names the file, the
      line or row, and the column; empty if all files fit.
    """
    lines = []
    columns = [c for c in schema.columns if c.column not in dropped]
    names = [column.column for column in columns]
    for silo in silos:
        present = list(silo.frame.columns)
        for name in [*names, label_column]:
            if name not in present:
                lines.append(
                    f"{silo.path}: column {name!r} of the schema is missing; the file "
                    f"has {', '.join(present)}"
                )
        lines += [
            f"{silo.path}: extra column {name!r} that the schema does not have; remove "
            f"it, or give --drop_columns={name}"
            for name in present
            if name not in (*names, label_column, *dropped)
        ]
        for column in columns:
            if column.column in present:
                try:
                    alone = Schema((column,))
                    alone.encode(files_table.readable(silo, alone), silo.at)
                except ValueError as error:
                    lines.append(str(error))
        if label_column in present:
            try:
                labels.classes([silo], label_column, schema.classes, schema.label)
            except ValueError as error:
                lines.append(str(error))
    return lines
