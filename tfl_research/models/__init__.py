"""Keras models as pure functions of their weights, and optimizers.

`execution` turns a model with variables into a pure function. `layers` has our own
operations and gradients for some Keras layers. `architectures` has the models of the
built-in tasks. `tasks` combines models with data and objectives.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.models.adapters import lora as lora
    from tfl_research.models.functional_model import (
        Forward as Forward,
        FunctionalModel as FunctionalModel,
    )
    from tfl_research.models.keras_model import (
        built_model as built_model,
        from_keras as from_keras,
        initialized as initialized,
    )
    from tfl_research.models.optimizers import (
        SGD as SGD,
        Adagrad as Adagrad,
        Adam as Adam,
        ClientOptimizer as ClientOptimizer,
        Optimizer as Optimizer,
        ServerOptimizer as ServerOptimizer,
        Yogi as Yogi,
    )
    from tfl_research.models.tff_models import as_functional as as_functional
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
