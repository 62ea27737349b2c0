"""Federated tasks: data by client, a Keras model builder, an objective, a card.

`registry` has tasks by name, and `built_in` has the tasks of the toolkit. `arrays`,
`tables` (DataFrames, Parquet, Hugging Face) and `datasets` (tf.data, TFF) make tasks
from your own data. `own_data` has their shared code, and `fit_checks` checks them. Only
models and objectives import TensorFlow, when they are built, and only `tables` needs
pandas.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy
from tfl_research.tasks.arrays import from_arrays as from_arrays
from tfl_research.tasks.pooled import Pooled as Pooled
from tfl_research.tasks.registry import (
    blueprint as blueprint,
    from_recipe as from_recipe,
    get as get,
    names as names,
    options as options,
    origin as origin,
    parse_options as parse_options,
    register as register,
    unregister as unregister,
)
from tfl_research.tasks.task import (
    Card as Card,
    Task as Task,
    TaskRecipe as TaskRecipe,
    content_digest as content_digest,
)

if TYPE_CHECKING:
    from tfl_research.data.arrays.sequences import Sequences as Sequences
    from tfl_research.tasks import objectives as objectives
    from tfl_research.tasks.datasets import from_datasets as from_datasets
    from tfl_research.tasks.objectives import Objective as Objective
    from tfl_research.tasks.tables import (
        from_dataframe as from_dataframe,
        from_huggingface as from_huggingface,
        from_parquet as from_parquet,
    )
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
