"""Tables as client data: one encoder, its schemas, and files with one client in each.

`cells` reads single cells, `column` and `columns` have the kinds of columns, and
`schema` is the encoder. `dataframes` makes client data of DataFrames. `notation` says
how a schema declares the writing of cells, and `label` how it declares the label;
`written` says what a cell is written like. `schema_file` reads a schema.json of
`schema_entries`, and `derived_schema` makes a schema of training rows. `comparison`
finds what files without a schema leave open. `agreement` makes a schema.json of drafts
that sites publish, without their rows. `files` reads CSV and Parquet files, `labels`
their labels, and `silos` a whole folder. Which rows are held out is decided in
`data.hold_out`; the tables of the built-in tasks, and their downloads, are in `tasks`.

Needs pandas, which is why `tfl_research.data` does not import this package.
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
