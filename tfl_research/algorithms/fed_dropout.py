"""Federated dropout: clients train a smaller model than the server's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfl_research import autograph, clients, models, stateless_random
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.clients.local_training import result_of
from tfl_research.processes.server_work import (
    AVERAGING,
    Aggregated,
    OptimizerStep,
    ReportedStep,
)
from tfl_research.tasks.objectives import Objective

# Separates the draws of units from the client's other random draws.
_STREAM = 0x64726F70
_FLOAT_BYTES = 4


@dataclasses.dataclass(frozen=True)
class SubModels:
    """The sub-models of a sequence of dense and convolutional layers.

    A sub-model has `ceil(share * n)` of the n units (filters) of every layer except the
    last, and the weights between these units. The other units are left out, as if
    their output were 0. The output of the kept units is scaled by n over their number,
    as in dropout. So the whole model, which is not scaled, has the same output in
    expectation.

    Attributes:
      share: share of the units that are kept, above 0 and at most 1.

    Raises:
      ValueError: the share is out of range.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share}")

    def check(self, specs: Sequence[tf.TensorSpec]) -> None:
        """Checks that the weights are kernels, each followed by its bias.

        Raises:
          ValueError: the weights are not such a sequence, or a kernel does not take a
            whole number of values from each unit of the layer before.
        """
        shapes = [spec.shape.as_list() for spec in specs]
        kernels, biases = shapes[::2], shapes[1::2]
        fits = len(kernels) == len(biases) and all(
            len(kernel) in (2, 4) and bias == kernel[-1:]
            for kernel, bias in zip(kernels, biases)
        )
        fits = fits and all(
            after[-2] % before[-1] == 0 for before, after in zip(kernels, kernels[1:])
        )
        if not fits:
            raise ValueError(
                "sub-models need a sequence of dense and convolutional layers with "
                f"biases, got weights of shapes {shapes}"
            )

    def kept(self, units: int) -> int:
        """Returns how many of a layer's units are kept."""
        # In floating point, 0.1 * 30 is slightly above 3.
        return max(1, math.ceil(self.share * units - 1e-9))

    def factors(
        self, specs: Sequence[tf.TensorSpec], seed: tf.Tensor
    ) -> list[tf.Tensor]:
        """Returns a factor for each weight: 0 if it is left out, otherwise its scale.

        Args:
          specs: specs of the whole model's weights.
          seed: int32 `[2]`, decides which units are kept.
        """
        factors: list[tf.Tensor] = []
        inputs = tf.ones([specs[0].shape[-2]])
        layers = list(self._layers(specs))
        draws = stateless_random.uniforms([spec.shape[-1:] for spec, _ in layers], seed)
        for (spec, kept), drawn in zip(layers, draws):
            units = int(spec.shape[-1])
            places = tf.math.top_k(drawn, kept).indices
            present = tf.reduce_sum(tf.one_hot(places, units), axis=0)
            # Flattened images have channels last, so a unit's values are not adjacent.
            fan = tf.tile(inputs, [int(spec.shape[-2]) // inputs.shape[0]])
            kernel = fan[:, None] * present[None, :]
            factors += [tf.broadcast_to(kernel, spec.shape), present]
            inputs = present * (units / kept)
        return factors

    def size(self, specs: Sequence[tf.TensorSpec]) -> int:
        """Returns the bytes of a sub-model's weights."""
        total, units, present = 0, int(specs[0].shape[-2]), int(specs[0].shape[-2])
        for spec, kept in self._layers(specs):
            window = math.prod(spec.shape.as_list()[:-2])
            fan = int(spec.shape[-2]) // units * present
            total += (window * fan + 1) * kept * _FLOAT_BYTES
            units, present = int(spec.shape[-1]), kept
        return total

    def _layers(
        self, specs: Sequence[tf.TensorSpec]
    ) -> list[tuple[tf.TensorSpec, int]]:
        """Returns each layer's kernel, and how many of the layer's units are kept."""
        kernels = list(specs[::2])
        kept = [self.kept(int(kernel.shape[-1])) for kernel in kernels[:-1]]
        return list(zip(kernels, [*kept, int(kernels[-1].shape[-1])]))


@dataclasses.dataclass(frozen=True)
class FedDropoutClient(clients.ClientWork):
    """Trains the sub-model that the server sends, and sends the sub-model's update
    (Caldas et al. 2018, arXiv 1812.07210, section 3.2).

    The units of the sub-model are drawn for each client and round from a seed that the
    server knows. So only weights of the sub-model are sent. In this simulation the
    client also reports which weights it has. A server could compute this report itself,
    so that the report counts no bytes.

    Attributes:
      steps: local steps on the sub-model.
      sub_models: size of the sub-models.
    """

    steps: clients.LocalSteps
    sub_models: SubModels

    def encoded_bytes(self, model: models.FunctionalModel) -> int:
        """Bytes of an update."""
        return self.sub_models.size(model.weight_specs)

    def received_bytes(self, model: models.FunctionalModel) -> int:
        """Bytes that the server sends to a client."""
        return self.sub_models.size(model.weight_specs)

    def reported_bytes(self, model: models.FunctionalModel) -> int:
        """0 bytes: the server draws the units from the same seed."""
        return 0

    def build(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.ClientFunction:
        self.sub_models.check(model.weight_specs)

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
        ) -> clients.ClientResult:
            seed = stateless_random.fold_in(batches["seed"], _STREAM)
            factors = self.sub_models.factors(model.weight_specs, seed)

            def forward(
                weights: Sequence[tf.Tensor],
                state: Sequence[tf.Tensor],
                x: Any,
                training: bool,
                random_seed: tf.Tensor,
            ) -> models.Forward:
                left = [f * w for f, w in zip(factors, weights)]
                return model.forward(left, state, x, training, random_seed)

            # A weight that is left out has gradient zero, so its steps are zero.
            smaller = dataclasses.replace(model, forward=forward)
            start = list(server_weights)
            run = self.steps.loop(smaller, objective).run(start, batches, round_number)
            had_weight = [tf.cast(f > 0, tf.float32) for f in factors]
            return result_of(run, start, batches, report=had_weight)

        return client_function


@dataclasses.dataclass(frozen=True)
class FedDropoutServer(ReportedStep):
    """Takes the mean of each weight's update over the clients that had the weight.

    This mean, and the scale of `SubModels`, are choices of this toolkit. A weight that
    no client of the cohort had does not change, except by the server optimizer's
    momentum.
    """

    def corrected(self, round_mean: Aggregated) -> Sequence[tf.Tensor]:
        return [
            tf.math.divide_no_nan(u, share_of_clients)
            for u, share_of_clients in zip(round_mean.update, round_mean.report)
        ]


def build_fed_dropout(
    steps: clients.LocalSteps, *, share: float = 0.5, server: OptimizerStep = AVERAGING
) -> Algorithm:
    """Builds federated dropout: each client trains a random part of every layer.

    Messages are shorter in both directions (Caldas et al. 2018, arXiv 1812.07210,
    section 3.2). `SubModels` says which models have such parts.

    Args:
      steps: the local steps of each client in a round.
      share: the share of a layer's units that a client trains, above 0 and at most 1.
      server: the server's optimizer; it takes the mean update for a step by default.
    """
    return Algorithm(
        FedDropoutClient(steps, SubModels(share)),
        FedDropoutServer(server),
        needs_mean=True,
    )
