"""Weights with the role of a client in a simulation."""

from __future__ import annotations

import collections

import numpy as np
import tensorflow_federated as tff


def role_weight_type() -> tff.StructWithPythonType:
    """Returns the weight type of aggregators with `client_members` ("role",).

    Members: `weight` float32 `[]`, and `role` int32 `[]`, see `data.ClientData.roles`.
    """
    return tff.StructWithPythonType(
        [("weight", tff.TensorType(np.float32)), ("role", tff.TensorType(np.int32))],
        collections.OrderedDict,
    )
