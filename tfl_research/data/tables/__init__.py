"""Tables as client data: one encoder, its schemas, and files of one client each.

`columns` has the kinds of columns, `schema` the encoder, `schema_file` and
`derived_schema` the schemas of files, `files` and `labels` the reading, `silos` all of
it for a folder. Which rows are held out is decided in `data.hold_out`; the tables of
the built-in tasks, and their downloads, are in `tasks`.

Needs pandas, which is why `tfl_research.data` does not import this package.
"""

from tfl_research.data.tables.columns import (
    Binned,
    Categorical,
    Column,
    Numeric,
    Standardised,
)
from tfl_research.data.tables.schema import Schema, by_client

__all__ = [
    "Binned",
    "Categorical",
    "Column",
    "Numeric",
    "Schema",
    "Standardised",
    "by_client",
]
