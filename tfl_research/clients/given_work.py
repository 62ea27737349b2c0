"""Client work that other software does; the cohort has the trained weights."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from tfl_research.clients.client_work import ClientFunction, ClientResult, ClientWork
from tfl_research.models.functional_model import FunctionalModel
from tfl_research.tasks.objectives import Objective

EXAMPLES = "given_examples"


def weight_name(position: int) -> str:
    """Names the cohort's member that has a trained weight."""
    return f"given_weight_{position}"


def sum_name(name: str) -> str:
    """Names the cohort's member that has one of the objective's sums."""
    return f"given_sum_{name}"


@dataclasses.dataclass(frozen=True)
class GivenWork(ClientWork):
    """Client work that takes weights which other software has trained.

    The local steps are not used. The members `given_weight_0` and so on are the weights
    after training, `given_examples` float32 `[]` is the number of examples, and
    `given_sum_NAME` are the objective's sums; see `Cohort.with_members`.

    Attributes:
      weights: specs of the model's trainable weights.
      sums: specs of the objective's sums, by name, in their order.
    """

    weights: tuple[tf.TensorSpec, ...]
    sums: Mapping[str, tf.TensorSpec]

    @property
    def client_members(self) -> Mapping[str, tf.TensorSpec]:
        """Specs of the given weights, number of examples and sums."""
        members = {weight_name(n): spec for n, spec in enumerate(self.weights)}
        members[EXAMPLES] = tf.TensorSpec([], tf.float32)
        members.update({sum_name(name): spec for name, spec in self.sums.items()})
        return members

    def build(self, model: FunctionalModel, objective: Objective) -> ClientFunction:
        """Builds the function: the update is given weights minus the server's."""
        del model, objective

        def client_function(server_weights, batches, round_number):  # type: ignore[no-untyped-def]
            del round_number
            return ClientResult(
                update=[
                    batches[weight_name(n)] - weight
                    for n, weight in enumerate(server_weights)
                ],
                num_examples=batches[EXAMPLES],
                sums=collections.OrderedDict(
                    (name, batches[sum_name(name)]) for name in self.sums
                ),
            )

        return client_function
