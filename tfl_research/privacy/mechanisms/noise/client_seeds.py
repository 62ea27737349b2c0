"""Seeds of the noise that clients add."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import data, stateless_random


def seeded_weight_type(*, secret: bool = False) -> tff.StructWithPythonType:
    """Returns the type of weights of aggregators whose clients add noise.

    The members are `weight`, float32 `[]`, and `member(secret)`. That is `seed`, int32
    `[2]`, which differs between the clients of a round (`Cohort.seeds`) and need not be
    secret. Or it is `client_secret`, int64 `[2]`, which only the client knows
    (`data.client_secrets`).

    Args:
      secret: whether clients have secrets.
    """
    seed = (data.CLIENT_SECRET, tff.TensorType(np.int64, [2]))
    if not secret:
        seed = ("seed", tff.TensorType(np.int32, [2]))
    return tff.StructWithPythonType(
        [("weight", tff.TensorType(np.float32)), seed], collections.OrderedDict
    )


def member(secret: bool) -> str:
    """Names the member of a client's value from which the noise is drawn."""
    return data.CLIENT_SECRET if secret else "seed"


def check_types(
    value_type: tff.Type, weight_type: tff.Type, *, secret: bool = False
) -> None:
    """Checks that values are float32, and that weights have a seed.

    Raises:
      ValueError: the values or the weights have another type.
    """

    def is_not_float32(part: tff.Type) -> bool:
        return isinstance(part, tff.TensorType) and part.dtype != np.float32

    if tff.types.count(value_type, is_not_float32):
        raise ValueError(f"values must be float32 tensors, got {value_type}")
    expected = seeded_weight_type(secret=secret)
    if not expected.is_assignable_from(weight_type):
        raise ValueError(
            "clients that add their own noise need seeds of their own: weights must "
            f"be {expected}, got {weight_type}; processes.build_fed_avg gives such "
            "weights to aggregators with client_members"
        )


def round_seeds(noise_seed: tf.Tensor, round_number: Any) -> tuple[Any, Any]:
    """Returns the common and the private seed of a round, each int64 `[2]`.

    The common seed may be public; the private seed must stay secret. Two seeds that are
    folded from the same seed differ by a known number. So the common seed is folded
    once more: nobody can compute the private seed from it without inverting Philox.
    """
    fold = stateless_random.fold_in
    seed = fold(noise_seed, round_number)
    return fold(fold(seed, 0), 0), fold(seed, 1)


def noise_seed(private: tf.Tensor, weight: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Returns the seed of a client's noise in a round, int64 `[2]`.

    With a `client_secret`, the seed depends on the secret: whoever knows the server's
    seed but not the client's secret knows nothing about the noise. The server's seed is
    mixed in, so that a new seed of the server (--recharge) gives the clients new noise.

    Args:
      private: the server's seed of the round.
      weight: a value of the type `seeded_weight_type`.
    """
    if data.CLIENT_SECRET not in weight:
        return client_seed(private, weight["seed"])
    fold = stateless_random.fold_in
    return fold(fold(weight[data.CLIENT_SECRET], private[0]), private[1])


def client_seed(private: tf.Tensor, client: tf.Tensor) -> tf.Tensor:
    """Returns a client's secret seed in a round, int64 `[2]`.

    Args:
      private: the server's private seed of the round.
      client: the client's own int32 `[2]` seed of the round.
    """
    fold = stateless_random.fold_in
    return fold(fold(private, client[0]), client[1])
