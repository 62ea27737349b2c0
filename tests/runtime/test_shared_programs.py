"""Processes that differ in some graphs share the programs of the other graphs."""

from __future__ import annotations

import collections
import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from toy_processes import leaves, make_task, sgd

from tfl_research import attacks, clients, processes, runtime
from tfl_research.aggregators import CoordinateMedian, StackingFactory, TrimmedMean
from tfl_research.attacks import simulation
from tfl_research.runtime import Mode
from tfl_research.runtime.compiler import families, shared_programs
from tfl_research.runtime.tracing.graph import Graph

XLA = Mode("folded", "xla")


@pytest.fixture
def compiled(monkeypatch):
    """The names of the programs for XLA that are built, in order."""
    names = []
    build = shared_programs.SharedPrograms._built

    def counted(self, trace, signature, by_xla, graphs, places):
        if by_xla:
            names.append("xla")
        return build(self, trace, signature, by_xla, graphs, places)

    families.forget()
    monkeypatch.setattr(shared_programs.SharedPrograms, "_built", counted)
    return names


def task_of(with_roles=True):
    task = make_task()
    if not with_roles:
        return task
    roles = {task.train.client_ids[1]: attacks.MALICIOUS}
    return dataclasses.replace(task, train=task.train.with_roles(roles))


def trained(task, work=None, **settings):
    """The leaves of two rounds' states and metrics."""
    process = processes.build_fed_avg(
        task,
        client_work=work or clients.local_training(optimizer=sgd()),
        client_weighting=processes.uniform(),
        **settings,
    )
    found = []
    with runtime.in_process(process, mode=XLA) as engine:
        state = engine.initialize()
        for number in (1, 2):
            cohort = task.train.cohort(
                task.train.client_ids, seed=3, round_number=number
            )
            state, metrics = engine.next(state, cohort)
            found += leaves((state, metrics))
    return found


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for ours, alone in zip(found, expected):
        np.testing.assert_array_equal(ours, alone)


def attacked(name, scale=None):
    return simulation.AttackedClientWork(
        clients.local_training(optimizer=sgd()), simulation.UpdateAttack(name, scale)
    )


def test_points_of_a_grid_share_the_clients_program_and_alone_give_the_same(compiled):
    """Rules that stack updates, and attacks on data, have the same client program."""
    rules = CoordinateMedian(on_breakdown="skip"), TrimmedMean(trim=1)
    median, trimmed = (StackingFactory(rule, capacity=7) for rule in rules)
    grid = [
        (with_roles, rule) for rule in (median, trimmed) for with_roles in (False, True)
    ]
    found = [trained(task_of(roles), aggregator=rule) for roles, rule in grid]
    assert compiled == ["xla"]
    # The rules are not the same program.
    assert any((a != b).any() for a, b in zip(found[0], found[2]))
    families.forget()
    assert_equal(found[3], trained(task_of(), aggregator=trimmed))
    assert_equal(found[2], found[3])


def test_server_optimizers_share_the_clients_program(compiled):
    adam = tff.learning.optimizers.build_adam(0.1)
    _, found = [trained(task_of(), server_optimizer=own) for own in (sgd(1.0), adam)]
    assert compiled == ["xla"]
    families.forget()
    assert_equal(found, trained(task_of(), server_optimizer=adam))


def test_attacks_of_other_scales_share_the_clients_program(compiled):
    points = [("sign_flip", None), ("scaled", None), ("sign_flip", 1.0)]
    found = [trained(task_of(), attacked(*point)) for point in points]
    assert compiled == ["xla"]
    for point, ours in zip(points[1:], found[1:]):
        families.forget()
        assert_equal(ours, trained(task_of(), attacked(*point)))


def test_a_program_must_name_its_graphs():
    @tff.tensorflow.computation(np.float32)
    def doubled(x):
        return 2.0 * x

    graph = Graph(doubled)
    shared = shared_programs.SharedPrograms()

    def trace(x):
        return graph.trace(x, lifted=shared.lifted_in(graph))

    signature = [tf.TensorSpec([], tf.float32)]
    with pytest.raises(ValueError, match=r"results of type float32.* one of the 0"):
        shared.program("unnamed", trace, signature, False, [])
    program = shared.program("named", trace, signature, False, [graph])
    assert float(program(tf.constant(3.0))[0]) == 6.0


MEMBERS = collections.OrderedDict(
    first=tff.TensorType(np.float32, [2]),
    middle=tff.TensorType(np.int32),
    last=tff.TensorType(np.float32),
)


def computation(members, read):
    """x + y for the members, by a function that takes them all."""

    @tf.function
    def inner(given):
        return {name: given[name] + tf.cast(1, given[name].dtype) for name in read}

    @tff.tensorflow.computation(collections.OrderedDict(members), np.float32)
    def whole(given, factor):
        values = inner(given)
        return [factor * tf.cast(values[name], tf.float32) for name in read]

    return whole


@pytest.mark.parametrize("compiler", ["graph", "xla"])
def test_one_variable_by_two_handles_is_not_two_variables(compiler):
    def work(names, client):
        first, second = (
            tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name=name)
            for name in names
        )
        assign, read = tf.raw_ops.AssignVariableOp, tf.raw_ops.ReadVariableOp
        with tf.control_dependencies([assign(resource=first, value=client["a"])]):
            again = assign(resource=second, value=client["b"])
        with tf.control_dependencies([again]):
            return read(resource=first, dtype=tf.float32) * 2.0

    families.forget()
    values = [collections.OrderedDict(a=np.float32(1), b=np.float32(10), c=0.0)]
    for names, expected in {"vv": 20.0, "vw": 2.0, "ww": 20.0}.items():
        process = reading(THREE, functools.partial(work, names))
        assert sum_of(process, values, Mode("folded", compiler)) == expected


class TestUnreadArguments:
    def test_they_do_not_count_where_they_are_optional(self):
        fewer = {name: MEMBERS[name] for name in ("first", "last")}
        whole = Graph(computation(MEMBERS, ["first", "last"]), optional=3)
        small = Graph(computation(fewer, ["first", "last"]), optional=2)
        assert whole.read == [0, 2, 3]
        assert small.read == [0, 1, 2]
        assert whole.fingerprint == small.fingerprint
        assert Graph(computation(MEMBERS, ["first", "last"])).read == [0, 1, 2, 3]

    def test_what_is_read_counts(self):
        ways = [["first", "last"], ["last"], ["middle", "last"], list(MEMBERS)]
        graphs = [Graph(computation(MEMBERS, way), optional=3) for way in ways]
        assert [graph.read for graph in graphs] == [
            [0, 2, 3],
            [2, 3],
            [1, 2, 3],
            [0, 1, 2, 3],
        ]
        assert len({graph.fingerprint for graph in graphs}) == 4

    @pytest.mark.parametrize("by_xla", [False, True])
    def test_any_value_may_stand_in_their_place(self, by_xla):
        graph = Graph(computation(MEMBERS, ["first", "last"]), optional=3)
        program = tf.function(
            lambda first, last, factor: graph.trace(first, None, last, factor),
            jit_compile=by_xla,
        )
        first, last = program(tf.constant([1.0, 2.0]), tf.constant(5.0), 3.0)
        np.testing.assert_array_equal(first, [6.0, 9.0])
        assert float(last) == 18.0

    def test_what_a_call_executes_for_an_unread_argument_stays(self):
        """TFF's runtime also fails on a client whose value the check refuses."""

        @tff.tensorflow.computation(np.float32, np.float32)
        def checked(x, y):
            count = tf.Variable(0.0)

            @tf.function
            def doubled(first, second):
                count.assign_add(1.0)
                return first * 2.0

            with tf.control_dependencies([tf.debugging.Assert(y > 0.0, ["low", y])]):
                positive = tf.identity(y)
            return doubled(x, positive)

        graph = Graph(checked, optional=2)
        assert graph.read == [0, 1]
        assert float(graph.run(tf.constant(3.0), tf.constant(4.0))[0]) == 6.0
        with pytest.raises(tf.errors.InvalidArgumentError, match="low"):
            graph.run(tf.constant(3.0), tf.constant(-4.0))

    def test_a_function_of_two_callers_stays_whole(self):
        @tf.function
        def inner(first, second):
            return first * 2.0

        @tff.tensorflow.computation(np.float32, np.float32)
        def twice(x, y):
            return inner(x, y) + inner(y, x)

        graph = Graph(twice, optional=2)
        assert graph.read == [0, 1]
        assert float(graph.run(tf.constant(3.0), tf.constant(4.0))[0]) == 14.0


MODES = [
    Mode(way, compiler)
    for way in ("folded", "vectorised", "separate")
    for compiler in ("graph", "xla")
]


@tff.tensorflow.computation
def nothing():
    return np.float32(0)


@tff.tensorflow.computation(np.float32, np.float32)
def added(a, b):
    return a + b


def reading(client_type, work):
    """A process whose clients report a number, which is summed."""
    number = tff.FederatedType(np.float32, tff.SERVER)
    report = tff.tensorflow.computation(lambda client: work(client), client_type)

    @tff.federated_computation
    def initialize():
        return tff.federated_eval(nothing, tff.SERVER)

    @tff.federated_computation(number, tff.FederatedType(client_type, tff.CLIENTS))
    def next_round(state, values):
        total = tff.federated_sum(tff.federated_map(report, values))
        return tff.federated_map(added, (state, total)), total

    return tff.templates.IterativeProcess(initialize, next_round)


def sum_of(process, values, mode):
    with runtime.in_process(process, mode=mode) as engine:
        _, total = engine.next(engine.initialize(), values)
    return float(total)


def tripled(name, client):
    return 3.0 * client[name]


THREE = collections.OrderedDict(a=np.float32, b=np.float32, c=np.float32)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_work_that_reads_other_members_finds_its_own(mode):
    """Graphs that read one of three numbers are equal, whichever number it is."""
    families.forget()
    values = [
        collections.OrderedDict(a=np.float32(i), b=np.float32(10 * i), c=np.float32(i))
        for i in (1, 2, 3)
    ]
    for name, expected in {"b": 180.0, "a": 18.0, "c": 18.0}.items():
        process = reading(THREE, functools.partial(tripled, name))
        assert sum_of(process, values, mode) == expected


@pytest.mark.parametrize("mode", MODES[:4], ids=str)
def test_only_the_number_of_steps_is_common_to_clients(mode):
    """Members before it can have several leaves."""
    number = np.int32
    kinds = collections.OrderedDict(
        x=collections.OrderedDict(p=number, q=number),
        y=number,
        mask=number,
        num_steps=number,
        num_examples=number,
        seed=number,
    )
    values = [
        tf.nest.map_structure(lambda kind, i=i: kind(i), kinds) for i in (1, 2, 3)
    ]
    process = reading(kinds, lambda client: tf.cast(client["mask"], tf.float32))
    families.forget()
    assert sum_of(process, values, mode) == 6.0


def test_a_program_for_xla_is_not_taken_for_another():
    families.forget()
    signature, traced = [tf.TensorSpec([], tf.float32)], []

    def trace(x):
        traced.append(x)
        return [x + 1.0]

    for compiled in (False, True, False):
        shared = shared_programs.SharedPrograms()
        program = shared.program("equal", trace, signature, compiled, [])
        assert float(program(tf.constant(2.0))[0]) == 3.0
    assert len(traced) == 2
