"""Client work with compressed updates, with or without error feedback."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from tfl_research import autograph, stateless_random
from tfl_research.clients.client_work import (
    ClientFunction,
    ClientResult,
    ClientWork,
    WrappedWork,
)
from tfl_research.clients.compressors import Compressor, decoded, encoded_bytes
from tfl_research.clients.vectors import all_finite, from_vector, size_of, to_vector
from tfl_research.models.functional_model import FunctionalModel
from tfl_research.tasks.objectives import Objective

# Separates the draws of the code from the client's other random draws.
_STREAM = 0x636F6465


@dataclasses.dataclass(frozen=True)
class CompressedWork(WrappedWork):
    """Compresses the updates of the base work: returns the decoded updates.

    With error feedback (Karimireddy et al. 2019, arXiv 1901.09847, Algorithm 2) the
    client keeps what the code lost and adds it to its next update:
    p = update + e, sent C(p), e <- p - C(p).

    Without error feedback, clients keep the state of the base work.

    Attributes:
      base: the client work.
      compressor: the code C.
      error_feedback: whether clients keep the difference that the code lost.

    Raises:
      ValueError: `keeps_what_it_sends` of the base is true. `build` also raises it for
        error feedback if the clients of the base keep a state.
    """

    base: ClientWork
    compressor: Compressor
    error_feedback: bool = False

    def __post_init__(self) -> None:
        if self.base.keeps_what_it_sends:
            raise ValueError(
                f"updates of {type(self.base).__name__} cannot be compressed: its "
                "clients keep what they sent, and the server has to add up the same "
                "values"
            )

    def initial_client_state(self, model: FunctionalModel) -> Optional[np.ndarray]:
        """Zeros with error feedback; the state of the base without.

        Raises:
          ValueError: there is error feedback, and clients of the base keep a state.
        """
        state = self.base.initial_client_state(model)
        if not self.error_feedback:
            return state
        if state is not None:
            raise ValueError(
                f"error feedback cannot be used with {type(self.base).__name__}: its "
                "clients keep a state of their own; give error_feedback=False"
            )
        return np.zeros(size_of(model.weight_specs), np.float32)

    def encoded_bytes(self, model: FunctionalModel) -> int:
        """Bytes of an update as it is sent."""
        return encoded_bytes(self.compressor, model.weight_specs)

    def build(self, model: FunctionalModel, objective: Objective) -> ClientFunction:
        self.initial_client_state(model)
        base, specs = self.base.build(model, objective), model.weight_specs

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
            *shared: Any,
        ) -> ClientResult:
            result = base(server_weights, batches, round_number, *shared)
            update = list(result.update)
            if self.error_feedback:
                lost = from_vector(batches["client_state"], specs)
                update = [u + e for u, e in zip(update, lost)]
            seed = stateless_random.fold_in(batches["seed"], _STREAM)
            sent = decoded(self.compressor, update, seed)
            # A code could lose the NaN because of which the server excludes a client.
            finite = all_finite(update)
            sent = [tf.where(finite, s, math.nan) for s in sent]
            # A client without examples sends nothing.
            sends = result.num_examples > 0
            sent = [tf.where(sends, s, tf.zeros_like(s)) for s in sent]
            result = result._replace(update=sent)
            if not self.error_feedback:
                return result
            left = [u - s for u, s in zip(update, sent)]
            return result._replace(client_state=to_vector(left))

        return client_function
