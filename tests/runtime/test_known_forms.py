"""Forms of processes that differ in constants: equal to those that TFF compiles."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from toy_processes import OURS, make_task, mechanism, sgd

from tfl_research import processes
from tfl_research.runtime.compiler import forms
from tfl_research.runtime.conversion import direct_forms, known_forms, process_forms
from tfl_research.runtime.conversion.round_values import Unknown
from tfl_research.runtime.graphs import open_constants


def unknown(*_):
    """In the place of what knows most of the forms of this file without TFF."""
    raise Unknown


@pytest.fixture(autouse=True)
def _by_tff(monkeypatch):
    monkeypatch.setattr(direct_forms, "form_of", unknown)


@pytest.fixture
def compiled(monkeypatch):
    """What TFF compiles; no form is known at first."""
    found = []
    compile_form = tff.backends.mapreduce.get_map_reduce_form_for_computation

    def counted(*arguments, **named):
        found.append(arguments)
        return compile_form(*arguments, **named)

    monkeypatch.setattr(
        tff.backends.mapreduce, "get_map_reduce_form_for_computation", counted
    )
    known_forms.forget()
    yield found
    known_forms.forget()


def digests(process):
    return forms._form_digests(forms.MapReduce(process))


def fed_avg(**arguments):
    return processes.build_fed_avg(
        make_task(), **{"client_optimizer": sgd(0.1), **arguments}
    )


class TestOfProcesses:
    @pytest.mark.parametrize(
        "points",
        [
            [{"client_optimizer": sgd(rate)} for rate in (0.1, 0.25, 1.0)],
            [{"client_optimizer": sgd(0.1, momentum)} for momentum in (0.9, 0.5)],
            [{"seed": seed} for seed in (1, 2)],
            [
                {**OURS["gaussian"], "aggregator": mechanism(noise_multiplier=z)}
                for z in (0.5, 1.0)
            ],
        ],
        ids=["rates", "momenta", "seeds", "noise"],
    )
    def test_one_form_serves_all_with_their_own_constants(self, points, compiled):
        known = [digests(fed_avg(**point)) for point in points]
        assert len(compiled) == 1
        # The first one's form is what TFF has compiled.
        for point, found in zip(points[1:], known[1:]):
            known_forms.forget()
            assert digests(fed_avg(**point)) == found

    def test_another_structure_is_compiled(self, compiled):
        digests(fed_avg())
        digests(fed_avg(client_optimizer=sgd(0.1, 0.9)))
        assert len(compiled) == 2

    def test_few_forms_are_kept(self, compiled, monkeypatch):
        monkeypatch.setattr(known_forms, "_MOST", 1)
        for momentum in (None, 0.9, None):
            digests(fed_avg(client_optimizer=sgd(0.1, momentum)))
        assert len(compiled) == 3
        assert len(known_forms._known) == 1


def summed(work):
    """A process that adds up what `work` makes of each client's number."""

    @tff.federated_computation
    def initialize():
        return tff.federated_value(np.float32(0.0), tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(np.float32, tff.SERVER),
        tff.FederatedType(np.float32, tff.CLIENTS),
    )
    def next_round(state, x):
        return state, tff.federated_sum(tff.federated_map(work, x))

    return tff.templates.IterativeProcess(initialize, next_round)


def counting(limit):
    @tff.tensorflow.computation(np.float32)
    def work(x):
        # The shape of the range is known from the constants alone.
        return x + tf.cast(tf.size(tf.range(0.0, limit)), tf.float32)

    return summed(work)


def scaling(first, second):
    def times(factor):
        return tff.tensorflow.computation(lambda x: factor * x, np.float32)

    inner, outer = times(np.float32(first)), times(np.float32(second))

    @tff.federated_computation(np.float32)
    def work(x):
        return outer(inner(x))

    return summed(work)


def test_constants_that_decide_a_shape_count(compiled):
    assert len({digests(counting(n))["client_computation"] for n in (3.0, 5.0)}) == 2
    assert len(compiled) == 2


def test_computations_that_are_equal_count_as_another_structure(compiled):
    """TFF may treat two equal computations as the same one."""
    pairs = ((2.0, 3.0), (5.0, 7.0), (4.0, 4.0))
    found = [digests(scaling(*pair)) for pair in pairs]
    assert len(compiled) == 2
    for pair, known in zip(pairs, found):
        known_forms.forget()
        assert digests(scaling(*pair)) == known


def test_constants_keep_their_order(compiled):
    """The form of 2 and 3 is taken for 5 and 7: neither is in the other's place."""
    scaling(2.0, 3.0)
    process_forms.map_reduce_form(scaling(2.0, 3.0))
    _, form = process_forms.map_reduce_form(scaling(5.0, 7.0))
    constants = list(
        filter(open_constants.is_float, open_constants.in_order(form.work.graph_def))
    )
    values = [float(tf.make_ndarray(n.attr["value"].tensor)) for n in constants]
    assert sorted(values)[-2:] == [5.0, 7.0]
    assert not any(known_forms._NUMBER in node.attr for node in constants)
    assert len(compiled) == 1


@pytest.mark.parametrize(
    ("make", "decide"),
    [
        (lambda: tf.constant(2.0) * tf.compat.v1.placeholder(tf.float32), False),
        (lambda: tf.fill([3], 2.0), False),
        (lambda: tf.range(0.0, 3.0), True),
        (lambda: tf.cast(tf.constant(2.5), tf.int32), True),
        (lambda: tf.cast(tf.constant(2.5), tf.float64), False),
        (lambda: tf.constant(2.0) < tf.constant(3.0), True),
        (lambda: tf.cast(tf.constant(2), tf.float32) + 1.5, False),
        (lambda: tf.range(0, 3), False),
    ],
)
def test_what_may_decide_a_shape(make, decide):
    with tf.Graph().as_default() as graph:
        make()
    assert open_constants.decide_nothing(graph.as_graph_def()) is not decide
