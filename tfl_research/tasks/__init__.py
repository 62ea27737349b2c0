"""Federated tasks: data by client, a Keras model builder, an objective, a card.

One module per task and a registry of them; algorithms and privacy live elsewhere,
and only models and objectives import TensorFlow.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy
from tfl_research.tasks.registry import (
    get as get,
    names as names,
    options as options,
    parse_options as parse_options,
    register as register,
    unregister as unregister,
)
from tfl_research.tasks.task import (
    Card as Card,
    Task as Task,
)

if TYPE_CHECKING:
    from tfl_research.tasks import objectives as objectives
    from tfl_research.tasks.objectives import Objective as Objective
__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
