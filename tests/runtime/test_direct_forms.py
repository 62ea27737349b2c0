"""Forms that are taken from building blocks: the same numbers as TFF's forms."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from toy_processes import OURS, cohorts_of_one_shape, make_task, rounds_of

from tfl_research import processes, runtime
from tfl_research.errors import UserError
from tfl_research.runtime.conversion import direct_forms
from tfl_research.runtime.conversion.round_values import Unknown

NUMBER = tff.FederatedType(np.float32, tff.CLIENTS)
AT_SERVER = tff.FederatedType(np.float32, tff.SERVER)


def by_tff(monkeypatch):
    monkeypatch.setattr(direct_forms, "form_of", unknown)
    monkeypatch.setattr(direct_forms, "initial_state", unknown)


def unknown(*_):
    raise Unknown


def bits(value):
    return [np.asarray(leaf).tobytes() for leaf in tf.nest.flatten(value)]


# Their rounds are compared under XLA too. The forms do not depend on the compiler.
UNDER_XLA = ("fed_adam", "adaptive_gaussian")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "compiler"),
    [
        *((name, "graph") for name in OURS),
        *(
            pytest.param(
                name, "xla", marks=() if name in UNDER_XLA else pytest.mark.campaign
            )
            for name in OURS
        ),
    ],
)
def test_rounds_have_the_bits_of_tffs_form(name, compiler, monkeypatch):
    task = make_task()
    cohorts = cohorts_of_one_shape(task)
    mode = runtime.Mode("folded", compiler)

    def ran(process):
        return rounds_of(runtime.in_process(process, mode=mode), cohorts)

    def built():
        return processes.build_fed_avg(task, **OURS[name])

    process = built()
    # It is not left to TFF, so that two forms are compared.
    direct_forms.form_of(process.next)
    ours = ran(process)
    by_tff(monkeypatch)
    # Another object, since a process' form is kept.
    theirs = ran(built())
    assert bits(ours) == bits(theirs)


def process(next_round, first=0.0):
    @tff.federated_computation
    def initialize():
        return tff.federated_value(np.float32(first), tff.SERVER)

    made = tff.federated_computation(next_round, AT_SERVER, NUMBER)
    return tff.templates.IterativeProcess(initialize, made)


@tff.tensorflow.computation(np.float32, np.float32)
def plus(a, b):
    return a + b


@tff.tensorflow.computation(np.float32)
def half(a):
    return a / 2.0


def executed(made, clients=(1.0, 2.0, 4.0)):
    with runtime.in_process(made) as engine:
        return engine.next(engine.initialize(), list(clients))


def test_a_sum_and_what_is_computed_around_it():
    def next_round(state, x):
        sent = tff.federated_broadcast(tff.federated_map(half, state))
        total = tff.federated_sum(tff.federated_map(plus, (x, sent)))
        return tff.federated_map(plus, (state, total)), tff.federated_zip(
            (total, state)
        )

    made = process(next_round, first=6.0)
    form = direct_forms.form_of(made.next)
    # Half of the state is sent, and nothing else.
    assert str(form.prepare.result_type) == "<float32>"
    assert str(form.work.parameter_type) == "<float32,float32>"
    state, metrics = executed(made)
    assert float(state) == 6 + 7 + 3 * 3
    assert list(map(float, tf.nest.flatten(metrics))) == [7 + 3 * 3, 6]


def test_an_aggregate_whose_functions_are_lambdas():
    @tff.tensorflow.computation
    def zero():
        return np.float32(0), np.int32(0)

    accumulator = zero.type_signature.result

    @tff.tensorflow.computation(accumulator, np.float32)
    def counted(total, value):
        return total[0] + value, total[1] + 1

    @tff.tensorflow.computation(accumulator, accumulator)
    def merged(a, b):
        return a[0] + b[0], a[1] + b[1]

    @tff.federated_computation(accumulator)
    def swapped(total):
        return total[1], half(total[0])

    def next_round(state, x):
        found = tff.federated_aggregate(x, zero(), counted, merged, swapped)
        return state, found

    made = process(next_round)
    direct_forms.form_of(made.next)
    _, (count, total) = executed(made)
    assert (int(count), float(total)) == (3, 7 / 2)


def test_equal_calls_are_one_and_unneeded_ones_none():
    def next_round(state, x):
        first, again = (tff.federated_map(half, x) for _ in range(2))
        tff.federated_map(half, tff.federated_map(half, x))
        return state, tff.federated_sum(tff.federated_map(plus, (first, again)))

    form = direct_forms.form_of(process(next_round).next)
    divisions = [n for n in form.work.graph_def.node if n.op == "RealDiv"]
    assert len(divisions) == 1
    assert float(executed(process(next_round))[1]) == 7


def test_functions_of_one_name_are_kept_apart():
    """Graphs of two Python processes can name different functions alike."""

    def calling(factor):
        @tf.function(autograph=False)
        def inner(x):
            return x * factor

        @tff.tensorflow.computation(np.float32)
        def outer(x):
            return inner(x)

        message = tff.framework.serialize_computation(outer)
        graph_def = tf.compat.v1.GraphDef()
        message.tensorflow.graph_def.Unpack(graph_def)
        (function,) = graph_def.library.function
        text = graph_def.SerializeToString()
        old = function.signature.name.encode()
        new = b"f" * len(old)
        message.tensorflow.graph_def.value = text.replace(old, new)
        return tff.framework.deserialize_computation(message)

    by_3, by_5 = calling(3.0), calling(5.0)

    def next_round(state, x):
        by_15 = tff.federated_map(by_5, tff.federated_map(by_3, x))
        return state, tff.federated_sum(by_15)

    made = process(next_round)
    names = [
        function.signature.name
        for function in direct_forms.form_of(made.next).work.graph_def.library.function
    ]
    assert len(set(names)) == 2
    assert float(executed(made)[1]) == 15 * 7


@pytest.mark.parametrize(
    ("intrinsic", "part"),
    [
        (lambda v: tff.federated_secure_sum_bitwidth(v, 4), "secure_sum_bitwidth"),
        (lambda v: tff.federated_secure_sum(v, 9), "secure_sum_max_input"),
        (
            lambda v: tff.backends.mapreduce.federated_secure_modular_sum(v, 5),
            "secure_modular_sum_modulus",
        ),
    ],
)
def test_secure_sums_of_a_structure(intrinsic, part):
    @tff.tensorflow.computation(np.float32)
    def integers(x):
        return tf.cast(x, tf.int32), tf.cast(2 * x, tf.int32)

    def next_round(state, x):
        return state, intrinsic(tff.federated_map(integers, x))

    made = process(next_round)
    form = direct_forms.form_of(made.next)
    # A bound for each tensor.
    assert len(getattr(form, part).outputs) == 2
    found = list(map(int, executed(made)[1]))
    assert found == ([2, 4] if "modular" in part else [7, 14])


def drawing():
    @tff.tensorflow.computation(np.float32)
    def noisy(x):
        return x + tf.random.normal([])

    return noisy


def widening():
    @tff.tensorflow.computation
    def zero():
        return tf.zeros([0], tf.float32)

    total = tff.TensorType(np.float32, [None])
    joined = tff.tensorflow.computation(
        lambda a, b: tf.concat([a, [b]], 0), total, np.float32
    )
    merged = tff.tensorflow.computation(lambda a, b: tf.concat([a, b], 0), total, total)
    summed = tff.tensorflow.computation(lambda a: tf.reduce_sum(a), total)
    return lambda state, x: (
        state,
        tff.federated_aggregate(x, zero(), joined, merged, summed),
    )


def with_noise(state, x):
    return state, tff.federated_sum(tff.federated_map(drawing(), x))


def with_two_sums(state, x):
    """The second one depends on the first one."""
    sent = tff.federated_broadcast(tff.federated_sum(x))
    return state, tff.federated_sum(tff.federated_map(plus, (x, sent)))


@pytest.mark.parametrize(
    ("next_round", "match"),
    [
        (lambda s, x: (s, tff.federated_mean(x)), "federated_mean"),
        (with_noise, "RandomStandardNormal"),
        (widening(), "several types"),
        (lambda s, x: (s, x), "placements"),
        (lambda s, x: (s, tff.federated_value(1.0, tff.CLIENTS)), "placements"),
        (lambda s, x: (s, s, tff.federated_sum(x)), "two values"),
        (with_two_sums, "Aggregate"),
    ],
)
def test_what_is_left_to_tff(next_round, match):
    with pytest.raises(Unknown, match=match):
        direct_forms.form_of(process(next_round).next)


def test_datasets_are_left_to_tff():
    members = tff.FederatedType(tff.SequenceType(np.float32), tff.CLIENTS)

    @tff.tensorflow.computation(members.member)
    def total(values):
        return values.reduce(np.float32(0), lambda a, b: a + b)

    @tff.federated_computation(AT_SERVER, members)
    def next_round(state, x):
        return state, tff.federated_sum(tff.federated_map(total, x))

    with pytest.raises(Unknown):
        direct_forms.form_of(next_round)


def test_assertions_stop_a_round():
    @tff.tensorflow.computation(np.float32)
    def checked(x):
        with tf.control_dependencies([tf.debugging.assert_less(x, 3.0)]):
            return tf.identity(x)

    def next_round(state, x):
        return state, tff.federated_sum(tff.federated_map(checked, x))

    made = process(next_round)
    direct_forms.form_of(made.next)
    assert float(executed(made, [1.0, 2.0])[1]) == 3
    with pytest.raises(UserError, match="client 1 of the cohort"):
        executed(made, [1.0, 4.0])
