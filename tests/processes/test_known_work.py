"""Clients' computations are traced once for the points of a sweep, and only then."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import aggregators, clients, tasks
from tfl_research.models import known_builders
from tfl_research.processes import build_fed_avg, known_work, round_parts
from tfl_research.tasks import shared

SGD = tff.learning.optimizers.build_sgdm


@pytest.fixture
def traced(monkeypatch):
    """The number of clients' computations that were traced."""
    known_builders.forget()
    count = []
    trace = round_parts._traced
    monkeypatch.setattr(
        round_parts, "_traced", lambda *given: count.append(1) or trace(*given)
    )
    yield count
    known_builders.forget()


def build(task, rate=0.1, **given):
    return build_fed_avg(task, client_optimizer=SGD(rate), **given)


def test_rules_share_the_clients_computation(traced):
    task = tasks.get("heart")
    with shared.within_sweep():
        mean = build(task, server_optimizer=SGD(0.5))
        build(task, server_optimizer=SGD(1.0))
        build(tasks.get("heart"))
        assert len(traced) == 1
        # Each of these is another computation of a client.
        build(task, rate=0.2)
        build(tasks.get("heart", model="mlp"))
        build(task, seed=1)
        build(
            task,
            aggregator=aggregators.StackingFactory(aggregators.CoordinateMedian(), 4),
        )
        proximal = clients.local_training(optimizer=SGD(0.1), proximal_strength=0.5)
        build_fed_avg(task, client_work=proximal)
        assert len(traced) == 6
    alone = build(task, server_optimizer=SGD(0.5))
    assert len(traced) == 7
    assert str(alone.next.type_signature) == str(mean.next.type_signature)


def test_an_aggregation_is_made_once(monkeypatch):
    known_builders.forget()
    made = []
    create = known_work.create_aggregation
    monkeypatch.setattr(
        known_work,
        "create_aggregation",
        lambda *given: made.append(1) or create(*given),
    )
    median = aggregators.StackingFactory(aggregators.CoordinateMedian(), 4)
    task = tasks.get("heart")
    with shared.within_sweep():
        build(task, aggregator=median)
        again = aggregators.StackingFactory(aggregators.CoordinateMedian(), 4)
        build(task, rate=0.3, aggregator=again)
        assert len(made) == 1
        more = aggregators.StackingFactory(aggregators.CoordinateMedian(), 5)
        build(task, aggregator=more)
        build(tasks.get("heart", model="mlp"), aggregator=median)
        trimmed = aggregators.TrimmedMean(byzantine=1)
        build(task, aggregator=aggregators.StackingFactory(trimmed, 4))
        trimmed = aggregators.TrimmedMean(byzantine=0)
        build(task, aggregator=aggregators.StackingFactory(trimmed, 4))
        assert len(made) == 5
    build(task, aggregator=median)
    assert len(made) == 6
    known_builders.forget()


def test_nothing_is_kept_of_a_users_recipes(traced):
    task = tasks.get("heart")

    @dataclasses.dataclass(frozen=True)
    class Own(clients.ClientWork):
        rate: float = 0.1

        def build(self, model, objective):
            return clients.local_training(optimizer=SGD(self.rate)).build(
                model, objective
            )

    own_model = dataclasses.replace(task, build_model=lambda: task.build_model())
    with shared.within_sweep():
        for _ in range(2):
            build_fed_avg(task, client_work=Own())
            build(own_model)
    assert len(traced) == 4


@dataclasses.dataclass
class OfTests:
    value: int = 1


def test_keys_of_recipes():
    key = known_work.recipe_key
    work = clients.local_training(optimizer=SGD(0.1, 0.9), gradient_clip_norm=1.0)
    assert key(work) == key(
        clients.local_training(optimizer=SGD(0.1, 0.9), gradient_clip_norm=1.0)
    )
    others = [
        work,
        clients.local_training(optimizer=SGD(0.1, 0.8), gradient_clip_norm=1.0),
        clients.local_training(optimizer=SGD(0.1), gradient_clip_norm=1.0),
        clients.local_training(optimizer=SGD(0.1, 0.9)),
        *(1, True, 1.0, 0.0, -0.0, "1", None, (1,), [1], {"a": 1}, {"b": 1}),
        collections.OrderedDict(a=1),
        np.float32([1, 2]),
        np.float32([[1, 2]]),
        np.float64([1, 2]),
        np.float32([1, 3]),
        np.float32(1),
    ]
    keys = [key(other) for other in others]
    assert None not in keys
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "unknown",
    [
        object(),
        lambda: 1,
        np.array([object()]),
        OfTests(),
        {1, 2},
        tf.constant(1.0),
        [1, [object()]],
        clients.local_training(optimizer=SGD(0.1), learning_rate_schedule=lambda t: t),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_is_known_of_other_values(unknown):
    assert known_work.recipe_key(unknown) is None


def test_a_dataclass_with_more_than_its_fields_is_unknown():
    work = clients.local_training(optimizer=SGD(0.1))
    object.__setattr__(work, "found", 3)
    assert known_work.recipe_key(work) is None
