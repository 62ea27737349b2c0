"""Seeds of the noise that clients add."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import stateless_random


def seeded_weight_type() -> tff.StructWithPythonType:
    """The type of weights of aggregators with `client_members` ("seed",).

    `weight` float32 `[]`, and `seed` int32 `[2]`, which differs between the clients
    of a round (`Cohort.seeds`); it need not be secret.
    """
    return tff.StructWithPythonType(
        [
            ("weight", tff.TensorType(np.float32)),
            ("seed", tff.TensorType(np.int32, [2])),
        ],
        collections.OrderedDict,
    )


def check_types(value_type: tff.Type, weight_type: tff.Type) -> None:
    """Raises ValueError unless values are float32 and weights carry a seed."""

    def is_not_float32(part: tff.Type) -> bool:
        return isinstance(part, tff.TensorType) and part.dtype != np.float32

    if tff.types.count(value_type, is_not_float32):
        raise ValueError(f"values must be float32 tensors, got {value_type}")
    if not seeded_weight_type().is_assignable_from(weight_type):
        raise ValueError(
            "clients that add their own noise need seeds of their own: weights must "
            f"be {seeded_weight_type()}, got {weight_type}; "
            "processes.build_fed_avg gives aggregators with client_members such"
        )


def round_seeds(noise_seed: tf.Tensor, round_number: Any) -> tuple[Any, Any]:
    """(common, private) seeds of a round: int64 `[2]` each.

    The common seed may be public; the private seed must stay secret. Two seeds that
    are folded from one differ by a known number, so that the common seed is folded
    once more: the private seed cannot be told from that without inverting Philox.
    """
    fold = stateless_random.fold_in
    seed = fold(noise_seed, round_number)
    return fold(fold(seed, 0), 0), fold(seed, 1)


def client_seed(private: tf.Tensor, client: tf.Tensor) -> tf.Tensor:
    """A client's secret seed in a round: int64 `[2]`.

    Args:
      private: of the round.
      client: the client's own int32 `[2]` seed of the round.
    """
    fold = stateless_random.fold_in
    return fold(fold(private, client[0]), client[1])
