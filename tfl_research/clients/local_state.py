"""Client work whose clients keep the model's non-trainable weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from tfl_research import autograph
from tfl_research.clients.client_work import (
    MODEL_STATE,
    ClientFunction,
    ClientResult,
    ClientWork,
    PersonalFunction,
    WrappedWork,
    model_state_of,
)
from tfl_research.clients.vectors import from_vector, size_of, to_vector
from tfl_research.models.functional_model import FunctionalModel
from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class LocalState(WrappedWork):
    """Keeps at each client the non-trainable weights that training changes.

    So each client has its own running statistics of batch normalization, as in SiloBN
    (Andreux et al. 2020, arXiv 2008.07424). FedBN (Li et al. 2021, arXiv 2102.07623)
    also keeps the scales and offsets. These are trainable weights, and are sent here. A
    client's state is the state of the base work, followed by the statistics.

    Attributes:
      base: the client work.
    """

    base: ClientWork

    @classmethod
    def around(cls, base: ClientWork, model: FunctionalModel) -> ClientWork:
        """Returns the base itself if clients keep nothing of the model."""
        return cls(base) if model.local else base

    def initial_client_state(self, model: FunctionalModel) -> np.ndarray:
        """The base's state, and the model's initial statistics, float32 `[d]`."""
        own = self.base.initial_client_state(model)
        parts = [] if own is None else [own]
        parts += [np.ravel(model.initial_state[index]) for index in model.local]
        return np.concatenate(parts).astype(np.float32)

    def build(self, model: FunctionalModel, objective: Objective) -> ClientFunction:
        base = self.base.build(model, objective)

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
            *shared: Any,
        ) -> ClientResult:
            own = _own(model, batches)
            result = base(server_weights, own, round_number, *shared)
            state = result.model_state or own[MODEL_STATE]
            kept = [tf.cast(state[index], tf.float32) for index in model.local]
            if result.client_state is not None:
                kept.insert(0, result.client_state)
            return result._replace(client_state=to_vector(kept))

        return client_function

    def build_personal(
        self, model: FunctionalModel, objective: Objective
    ) -> Optional[PersonalFunction]:
        """The base's personal model, which begins with the client's own statistics."""
        base = self.base.build_personal(model, objective)
        return None if base is None else with_own_statistics(base, model)


def with_own_statistics(
    base: PersonalFunction, model: FunctionalModel
) -> PersonalFunction:
    """Makes personal models begin with the client's own statistics.

    Returns the same function if clients keep nothing of the model.
    """
    if not model.local:
        return base

    def personal_function(
        server_weights: Sequence[tf.Tensor],
        batches: Mapping[str, tf.Tensor],
        round_number: tf.Tensor,
        *shared: Any,
    ) -> Any:
        return base(server_weights, _own(model, batches), round_number, *shared)

    return personal_function


def _own(model: FunctionalModel, batches: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the local steps with the base's state, and the client's statistics."""
    vector = batches["client_state"]
    split = vector.shape[0] - size_of([model.state_specs[i] for i in model.local])
    state = own_state(model, vector, model_state_of(model, batches))
    own = {**batches, MODEL_STATE: state}
    del own["client_state"]
    if split:
        own["client_state"] = vector[:split]
    return own


def own_state(
    model: FunctionalModel, vector: Any, common: Sequence[Any]
) -> tuple[Any, ...]:
    """Returns a client's non-trainable weights: its own if kept, else the server's.

    Args:
      model: a model with non-trainable weights that clients keep.
      vector: float32 `[d]`, the client's state of `LocalState`.
      common: the server's non-trainable weights.
    """
    specs = [model.state_specs[index] for index in model.local]
    values = from_vector(tf.convert_to_tensor(vector)[-size_of(specs) :], specs)
    state = list(common)
    for index, value, spec in zip(model.local, values, specs):
        state[index] = tf.cast(value, spec.dtype)
    return tuple(state)
