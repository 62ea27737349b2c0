"""Per-example losses, and metrics as sums that clients can add up.

`objective` has the type. `classification` and `regression` have the toolkit's own
objectives. `from_keras` makes an objective from a Keras loss and Keras metrics
(`keras_losses`, `keras_heads`, `keras_metrics`, `by_row`, `tracing`). `rules` says
which labels and outputs a loss takes. `of_tff_models` imports TFF and reads the loss of
a TFF model.
"""

from tfl_research.tasks.objectives.classification import (
    binary as binary,
    multi_label as multi_label,
    multiclass as multiclass,
    next_token as next_token,
)
from tfl_research.tasks.objectives.from_keras import from_keras as from_keras
from tfl_research.tasks.objectives.objective import (
    Objective as Objective,
    Part as Part,
    labels_of as labels_of,
)
from tfl_research.tasks.objectives.regression import regression as regression
from tfl_research.tasks.objectives.tracing import (
    required_arguments as required_arguments,
)
