"""Aggregators with noise at the clients, as processes for any engine."""

from __future__ import annotations

import collections
import math

import numpy as np
import tensorflow_federated as tff

from tfl_research import runtime
from tfl_research.privacy.mechanisms.noise import client_seeds

SHAPES = ((3, 4), (2,))
DIMENSION = 14
MODE = runtime.Mode("folded", "graph")


def value_type(shapes=SHAPES):
    return tff.StructWithPythonType(
        [(None, tff.TensorType(np.float32, shape)) for shape in shapes], tuple
    )


def as_process(aggregator, shapes=SHAPES):
    """The aggregator as a process whose clients hold value, weight and seed."""
    aggregation = aggregator.create(
        value_type(shapes), client_seeds.seeded_weight_type()
    )
    client_type = tff.StructWithPythonType(
        [("value", value_type(shapes)), ("weight", client_seeds.seeded_weight_type())],
        collections.OrderedDict,
    )

    @tff.federated_computation(
        aggregation.initialize.type_signature.result,
        tff.FederatedType(client_type, tff.CLIENTS),
    )
    def next_sum(state, clients):
        output = aggregation.next(state, clients["value"], clients["weight"])
        return output.state, tff.federated_zip((output.result, output.measurements))

    return tff.templates.IterativeProcess(aggregation.initialize, next_sum)


def client(vector, number, weight=1.0, shapes=SHAPES):
    sizes = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    vector = np.asarray(vector, np.float32)
    parts = [p.reshape(s) for p, s in zip(np.split(vector, sizes), shapes)]
    return collections.OrderedDict(
        value=tuple(parts),
        weight=collections.OrderedDict(
            weight=np.float32(weight), seed=np.array([number, 5], np.int32)
        ),
    )


def step(engine, state, clients):
    """One round: (state, aggregate as one vector, measurements)."""
    new_state, (result, measured) = engine.next(state, clients)
    flat = np.concatenate([np.ravel(part) for part in result])
    return new_state, flat, {k: np.asarray(v).item() for k, v in measured.items()}


def vectors(count, seed=0, size=DIMENSION):
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
