"""What client work may declare, and what work around other work passes on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import attacks, clients, processes
from tfl_research.aggregators import UpdateAggregator

MODEL = object()
MEMBERS = {"staleness": tf.TensorSpec([], tf.int32)}


class Plain(clients.ClientWork):
    """Declares nothing."""

    def build(self, model, objective):
        return clients.local_training(
            optimizer=tff.learning.optimizers.build_sgdm(0.1)
        ).build(model, objective)


@dataclasses.dataclass(frozen=True)
class Declaring(Plain):
    """Declares something else everywhere."""

    plan: object = None
    client_members = MEMBERS

    def initial_client_state(self, model):
        return np.float32([1, 2])

    def build_personal(self, model, objective):
        return model, objective

    def encoded_bytes(self, model):
        return 11

    def received_bytes(self, model):
        return 12

    def reported_bytes(self, model):
        return 13


def declared(work):
    """Everything that a work declares."""
    state = work.initial_client_state(MODEL)
    return {
        "keeps_what_it_sends": work.keeps_what_it_sends,
        "client_members": dict(work.client_members),
        "plan": work.plan,
        "state": None if state is None else state.tolist(),
        "personal": work.build_personal(MODEL, "objective"),
        "bytes": (
            work.encoded_bytes(MODEL),
            work.received_bytes(MODEL),
            work.reported_bytes(MODEL),
        ),
    }


DEFAULTS = {
    "keeps_what_it_sends": False,
    "client_members": {},
    "plan": None,
    "state": None,
    "personal": None,
    "bytes": (None, None, None),
}


def wrappers():
    sign_flip = attacks.UpdateAttack("sign_flip")
    return {
        "attack": lambda work: attacks.AttackedClientWork(work, sign_flip),
        "canary": lambda work: clients.CanaryWork(work, seed=0, norm=1.0),
    }


def test_work_that_declares_nothing_has_defaults():
    assert declared(Plain()) == DEFAULTS


@pytest.mark.parametrize("name", wrappers())
def test_what_wraps_work_declares_the_same(name):
    wrap, plan = wrappers()[name], object()
    assert declared(wrap(Plain())) == DEFAULTS
    found = declared(wrap(Declaring(plan)))
    assert found == declared(Declaring(plan))
    assert found["plan"] is plan
    assert found["bytes"] == (11, 12, 13)
    assert found["personal"] == (MODEL, "objective")


def test_a_code_without_feedback_declares_all_but_the_bytes_of_an_update(task):
    plan, model = object(), task.functional_model()
    coded = clients.CompressedWork(Declaring(plan), clients.Quantized(8))
    assert coded.plan is plan
    assert coded.initial_client_state(model).tolist() == [1, 2]
    assert (coded.received_bytes(model), coded.reported_bytes(model)) == (12, 13)
    # Three weights of one byte, and a scale for each of two tensors.
    assert coded.encoded_bytes(model) == 3 + 2 * 4


def test_work_without_a_build_is_none():
    class Nothing(clients.ClientWork):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Nothing()


@pytest.fixture(scope="module")
def task(make_linear_task, two_clients):
    return make_linear_task(two_clients)


@dataclasses.dataclass(frozen=True)
class PlannedMean(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
    """A mean that was built from a privacy plan."""

    plan: object = None

    def create(self, value_type, weight_type):
        return tff.aggregators.MeanFactory(no_nan_division=True).create(
            value_type, weight_type
        )


@dataclasses.dataclass(frozen=True)
class PlannedWork(Plain):
    """Client work that was built from a privacy plan."""

    plan: object = None


def test_a_process_has_the_plan_of_its_parts(task):
    def plan_of(work, aggregator=None):
        return processes.build_fed_avg(
            task, client_work=work, aggregator=aggregator
        ).plan

    assert plan_of(Plain()) is None
    assert plan_of(Plain(), tff.aggregators.MeanFactory()) is None
    assert plan_of(PlannedWork("record"), PlannedMean()) == "record"
    assert plan_of(Plain(), PlannedMean("user")) == "user"
    assert plan_of(PlannedWork("one"), PlannedMean("one")) == "one"
    coded = clients.CompressedWork(PlannedWork("record"), clients.Quantized(8))
    assert plan_of(coded) == "record"
    with pytest.raises(ValueError, match="two privacy plans, record and user"):
        plan_of(PlannedWork("record"), PlannedMean("user"))


def test_something_that_is_no_client_work(task):
    class Lookalike:
        def build(self, model, objective):
            return None

    with pytest.raises(ValueError, match=r"must be a clients\.ClientWork, got <"):
        processes.build_fed_avg(task, client_work=Lookalike())
