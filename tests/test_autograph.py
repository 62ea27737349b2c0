"""Our functions are traced as they are; code of a user's own is converted."""

from __future__ import annotations

import collections
import functools
import importlib
import linecache
import os
import sys
import types
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import autograph, models, processes, runtime, stateless_random
from tfl_research.data.arrays import structures
from tfl_research.models.optimizers import SGD
from tfl_research.tasks.objectives import (
    Objective,
    from_keras,
    multiclass,
    regression,
)

CONVERTED = "__autograph_generated_file_"


def converted():
    return sum(name.startswith(CONVERTED) for name in sys.modules)


def halved_where_large(x):
    """Control flow over a tensor, which fails unless AutoGraph converts it."""
    if tf.reduce_sum(x) > 10:
        return x / 2
    return x


def ours(function):
    """A function as if a module of the package had defined it."""
    function.__module__ = "tfl_research.stateless_random"
    return function


class Unasked(types.ModuleType):
    """A module that must not be asked for its file."""

    @property
    def __file__(self):
        raise AssertionError("all modules are searched")


def test_a_source_in_a_file_is_not_looked_for_in_all_modules(monkeypatch):
    monkeypatch.setitem(sys.modules, "unasked", Unasked("unasked"))

    def plain(x):
        return halved_where_large(x)

    # Unconverted, a graph has no `if` over a tensor.
    assert float(tf.function(plain)(tf.constant([12.0]))[0]) == 6


def test_a_file_that_changes_is_read_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "changing_source.py"
    for factor, blank in ((2.0, ""), (3.0, "\n\n")):
        path.write_text(f"{blank}def scaled(x):\n    return x * {factor}\n")
        os.utime(path, (factor, factor))
        sys.modules.pop("changing_source", None)
        module = importlib.import_module("changing_source")
        found = tf.autograph.to_graph(module.scaled)(tf.constant(5.0))
        assert float(found) == 5 * factor
    monkeypatch.delitem(sys.modules, "changing_source")


def test_a_source_in_an_archive_is_found(tmp_path, monkeypatch):
    """Of a function that says it is of another module."""
    archive = tmp_path / "sources.zip"
    with zipfile.ZipFile(archive, "w") as file:
        source = "def scaled(x):\n    return x * 2.0\n"
        file.writestr("archived_source.py", source)
    monkeypatch.syspath_prepend(archive)
    scaled = importlib.import_module("archived_source").scaled
    scaled.__module__ = "functools"
    linecache.cache.pop(scaled.__code__.co_filename, None)
    assert float(tf.autograph.to_graph(scaled)(tf.constant(5.0))) == 10
    monkeypatch.delitem(sys.modules, "archived_source")


class Held:
    """An object of a user's."""


class Slotted:
    __module__ = "tfl_research.stateless_random"
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held


def closure_over(value):
    return ours(lambda x: (value, x))


class LargeHalved(tf.keras.layers.Layer):
    """A layer of a user's with a branch and a loop over tensors."""

    def call(self, x):
        x = halved_where_large(x)
        for _ in tf.range(tf.shape(x)[1]):
            x += 1.0
        return x


class TwiceTheError(tf.keras.losses.Loss):
    """A loss of a user's, added up by a loop over a tensor; errors above 10 are cut."""

    def call(self, y, predictions):
        error = tf.abs(y - predictions)
        if tf.reduce_max(error) > 10:
            error = tf.minimum(error, 10.0)
        total = tf.zeros_like(error)
        for _ in tf.range(2):
            total += error
        return tf.reduce_mean(total, axis=-1)


class CutError(tf.keras.metrics.Metric):
    """A user's metric: the mean error, where errors above 10 count as 10."""

    def __init__(self, **options):
        super().__init__(**options)
        self.total = self.add_weight("total", initializer="zeros")
        self.count = self.add_weight("count", initializer="zeros")

    def update_state(self, y, predictions, sample_weight=None):
        error = tf.abs(y - predictions)
        if tf.reduce_max(error) > 10:
            error = tf.minimum(error, 10.0)
        self.total.assign_add(tf.reduce_sum(error))
        self.count.assign_add(tf.cast(tf.size(error), tf.float32))

    def result(self):
        return self.total / self.count


@pytest.mark.parametrize(
    "value",
    [
        halved_where_large,
        functools.partial(halved_where_large, 1),
        functools.partial(ours(lambda f: f), halved_where_large),
        functools.partial(ours(lambda f: f), f=halved_where_large),
        [(1, {"a": {halved_where_large}})],
        Slotted(halved_where_large),
        Held(),
        Held,
        (each for each in (1, 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_user_wrote_is_found(value):
    assert autograph.reaches_other_code(closure_over(value))
    assert autograph.reaches_other_code(ours(lambda x, default=value: x))


@pytest.mark.parametrize(
    "value",
    [
        None,
        np.ones(3),
        tf.constant(1.0),
        structures.packed,
        multiclass(),
        SGD(0.1).build(),
        tff.learning.optimizers.build_adam(0.1),
        LargeHalved(),
        TwiceTheError(),
        CutError(),
        tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))]),
        stateless_random,
        Slotted(3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_needs_no_conversion(value):
    assert not autograph.reaches_other_code(closure_over(value))


def test_circles_and_cells_without_a_value():
    ring: list = []
    ring.append(ring)
    assert not autograph.reaches_other_code(closure_over(ring))

    def made():
        first = ours(lambda x: later(x))
        found = autograph.reaches_other_code(first)
        later = halved_where_large
        return found, autograph.reaches_other_code(first)

    assert made() == (False, True)


def test_code_that_arrives_after_the_function_was_made():
    steps = [ours(lambda x: x + 1)]
    added = autograph.function(ours(lambda x: steps[0](x)))
    before = converted()
    np.testing.assert_array_equal(added(tf.constant([20.0])), [21.0])
    assert converted() == before
    steps[0] = halved_where_large
    np.testing.assert_array_equal(added(tf.constant([20.0, 2.0])), [10.0, 1.0])
    assert converted() > before


def test_arguments_and_options_are_those_of_tensorflow():
    @autograph.function(reduce_retracing=True)
    @ours
    def added(x, *, y=1):
        return x + y

    assert added(tf.constant(1), y=2).numpy() == 3
    traced = added.get_concrete_function(tf.TensorSpec([None], tf.int32))
    np.testing.assert_array_equal(traced(tf.constant([1, 2])), [2, 3])


class SteppedSGD(tff.learning.optimizers.Optimizer):
    """A user's optimizer, which takes no step along a small gradient."""

    def initialize(self, specs):
        del specs
        return collections.OrderedDict(learning_rate=1.0)

    def next(self, state, weights, gradients):
        if tf.linalg.global_norm(gradients) > 1:
            return state, tuple(w - g for w, g in zip(weights, gradients))
        return state, tuple(weights)


def capped_objective():
    """Half the squared error; its slope is at most 3, by control flow over tensors."""

    def example_losses(y, predictions):
        error = predictions[:, 0] - y
        if tf.reduce_max(tf.abs(error)) > 3:
            return 3.0 * tf.abs(error)
        return 0.5 * error**2

    def example_sums(y, predictions):
        return collections.OrderedDict(
            loss=example_losses(y, predictions), examples=tf.ones_like(y)
        )

    def finalize(sums):
        return collections.OrderedDict(loss=sums["loss"] / sums["examples"])

    return Objective(example_losses, example_sums, finalize)


def test_a_keras_layer_with_control_flow():
    def build():
        dense = tf.keras.layers.Dense(1, kernel_initializer="ones", input_shape=(1,))
        return tf.keras.Sequential([dense, LargeHalved()])

    model = models.from_keras(build, tf.TensorSpec([None, 1], tf.float32))
    for x, expected in ((4.0, 5.0), (20.0, 11.0)):
        found = model.predict(model.initial_weights, (), tf.constant([[x]]))
        np.testing.assert_array_equal(found, [[expected]])


def test_a_loss_and_a_metric_of_keras_with_control_flow():
    """Errors 1, 2 and 30: each example is cut on its own, as in the sums of clients."""
    y, predictions = np.zeros((3, 1)), np.float32([[1.0], [2.0], [30.0]])
    y = y.astype(np.float32)
    objective = from_keras(TwiceTheError(), metrics=[CutError(name="cut")])
    one_by_one = [objective.example_losses(y[[i]], predictions[[i]]) for i in range(3)]
    np.testing.assert_array_equal(np.concatenate(one_by_one), [2.0, 4.0, 20.0])
    sums = objective.example_sums(y, predictions)
    totals = {name: tf.reduce_sum(value, 0) for name, value in sums.items()}
    np.testing.assert_allclose(objective.finalize(totals)["cut"], 13 / 3, rtol=1e-6)


def one_round(task, optimizer):
    process = processes.build_fed_avg(task, client_optimizer=optimizer)
    engine = runtime.in_process(process, mode=runtime.Mode("folded", "graph"))
    cohort = task.train.cohort(tuple(task.train.client_ids), seed=0, round_number=0)
    state, _ = engine.next(engine.initialize(), cohort)
    return [np.asarray(w) for w in state.global_model_weights.trainable]


def test_an_optimizer_and_a_loss_with_control_flow(make_linear_task, monkeypatch):
    """One client, batches of two, x = 1, weight 0.5 and bias 0.

    y = 0.5: no error, and no step. y = 2.5: error -2, so both change by 2.
    y = 12.5: error -10 of the first weights, capped: both change by 3.
    """
    for y, change in ((0.5, 0.0), (2.5, 2.0), (12.5, 3.0)):
        clients = {"a": (np.ones((2, 1)), np.full(2, y))}
        task = make_linear_task(clients, weight=(0.5,), bias=0.0)
        monkeypatch.setitem(vars(task), "build_objective", capped_objective)
        weight, bias = one_round(task, SteppedSGD())
        np.testing.assert_allclose(weight, [[0.5 + change]], rtol=1e-6)
        np.testing.assert_allclose(bias, [change], rtol=1e-6)


def test_a_process_of_ours_is_not_converted(make_linear_task):
    task = make_linear_task({"a": (np.ones((2, 1)), np.ones(2))}, weight=(0.5,))
    vars(task)["build_objective"] = regression
    before = converted()
    one_round(task, SGD(0.1).build())
    assert converted() == before
