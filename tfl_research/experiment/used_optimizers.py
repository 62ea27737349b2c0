"""Checks that a user's own algorithm uses the optimizers that the record names."""

from __future__ import annotations

from typing import Any

import tensorflow_federated as tff

from tfl_research.algorithms import AlgorithmSettings
from tfl_research.errors import SettingError


class Watched(tff.learning.optimizers.Optimizer):
    """An optimizer that knows whether anything has used it.

    Attributes:
      optimizer: the optimizer that computes everything.
      used: whether a state or a step was asked for.
    """

    def __init__(self, optimizer: tff.learning.optimizers.Optimizer):
        self.optimizer = optimizer
        self.used = False

    def initialize(self, specs: Any) -> Any:
        self.used = True
        return self.optimizer.initialize(specs)

    def next(self, state: Any, weights: Any, gradients: Any) -> Any:
        self.used = True
        return self.optimizer.next(state, weights, gradients)

    def get_hparams(self, state: Any) -> Any:
        return self.optimizer.get_hparams(state)

    def set_hparams(self, state: Any, hparams: Any) -> Any:
        return self.optimizer.set_hparams(state, hparams)


def check(algorithm: AlgorithmSettings, client: Watched, server: Watched) -> None:
    """Checks what an algorithm's class says about optimizers of its own.

    Args:
      algorithm: the algorithm, whose process has been built.
      client: the client optimizer that the algorithm's builder got.
      server: the server optimizer that the algorithm's builder got.

    Raises:
      SettingError: the algorithm uses an optimizer that it says to replace, or does not
        use one that the run's record names.
    """
    kind = type(algorithm).__name__
    for who, attribute, replaced, watched, given in (
        (
            "clients",
            "OWN_CLIENT_STEP",
            algorithm.OWN_CLIENT_STEP,
            client,
            "context.steps.optimizer",
        ),
        (
            "server",
            "OWN_SERVER_STEP",
            algorithm.OWN_SERVER_STEP,
            server,
            "context.server",
        ),
    ):
        if watched.used != replaced:
            continue
        uses = "uses" if replaced else "does not use"
        then = "does not name" if replaced else "names"
        raise SettingError(
            f"--algorithm={algorithm.NAME}: {uses} {given}, the optimizer of the "
            f"{who}, which the run's record {then}; set {attribute} = {not replaced} "
            f"in {kind}"
        )
