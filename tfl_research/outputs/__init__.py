"""The table of all outputs of a run, and the filter that reads the table.

`columns` has the columns of metrics.csv. The printed lines, callbacks, TensorBoard,
MLflow, summary.json and the report are made from these columns. `files` has the files
of a run's folder. `release.Release` decides for one run which outputs are released.
An output that is not in the table counts as exact, so ε does not cover it.
"""

from tfl_research.outputs.columns import (
    COLUMNS as COLUMNS,
    column as column,
    is_column_of_table as is_column_of_table,
)
from tfl_research.outputs.files import (
    FILES as FILES,
    file as file,
    is_of_table as is_of_table,
)
from tfl_research.outputs.output import (
    CLASSES as CLASSES,
    DERIVED as DERIVED,
    EXACT as EXACT,
    HELD_OUT as HELD_OUT,
    NOBODY as NOBODY,
    PRIVATE as PRIVATE,
    PUBLIC as PUBLIC,
    SECRET as SECRET,
    TRAINING as TRAINING,
    Output as Output,
)
from tfl_research.outputs.release import Release as Release
