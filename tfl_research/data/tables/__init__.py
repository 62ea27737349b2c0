"""Tables as client data: one encoder, its schemas, and files with one client in each.

- `cells`: reads single cells.
- `column`, `columns`: the kinds of columns.
- `schema`: the encoder.
- `notation`, `label`: how a schema declares the notation of cells and the label.
- `written`: recognises the notation of a cell.
- `schema_file`, `schema_entries`: a schema.json and its entries.
- `derived_schema`: makes a schema from training rows.
- `dataframes`: makes client data from DataFrames.
- `comparison`: finds what files without a schema leave open.
- `agreement`: makes a schema.json from drafts that sites publish, without their rows.
- `files`, `labels`, `silos`: read CSV and Parquet files, their labels, whole folders.

`data.hold_out` decides which rows are held out. `tasks` has the tables of the built-in
tasks, and downloads them.

This package needs pandas, so `tfl_research.data` does not import it.
"""

from tfl_research.data.tables.column import Column
from tfl_research.data.tables.columns import (
    Binned,
    Categorical,
    Numeric,
    Standardised,
)
from tfl_research.data.tables.notation import Notation
from tfl_research.data.tables.schema import Schema, by_client

__all__ = [
    "Binned",
    "Categorical",
    "Column",
    "Notation",
    "Numeric",
    "Schema",
    "Standardised",
    "by_client",
]
