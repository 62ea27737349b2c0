"""Rows are added to the stack without a copy of it where XLA does not see to that."""

from __future__ import annotations

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import processes, runtime
from tfl_research.aggregators import MeanRule, StackingFactory
from tfl_research.aggregators.stack import Layout, stack_computations
from tfl_research.runtime.tracing import imports
from tfl_research.runtime.tracing.graph import Graph
from tfl_research.runtime.tracing.imports import Use

SGD = tff.learning.optimizers.build_sgdm
REUSING = "ScatterNdNonAliasingAdd"


def operations(traced):
    definition = traced.graph.as_graph_def()
    found = collections.Counter(node.op for node in definition.node)
    for function in definition.library.function:
        found.update(node.op for node in function.node_def)
    return found


@pytest.fixture(scope="module")
def accumulate():
    vector = tff.TensorType(np.float32, [5])
    weight = tff.TensorType(np.float32)
    return Graph(stack_computations(4, Layout.of(vector), vector, weight)[1])


def test_an_accumulated_client_is_the_same_and_the_operation_another(accumulate):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(4, 5)).astype(np.float32)
    values[2:] = 0
    stack = (values, np.float32([1, 2, 0, 0]), 2, 3, 1, 0)
    client = (np.arange(5, dtype=np.float32), np.float32(0.5))
    arguments = [tf.constant(a) for a in (*stack, *client)]
    found = {}
    for in_place in (False, True):
        traced = tf.function(
            lambda *a, in_place=in_place: accumulate.trace(
                *a, use=Use(in_place=in_place)
            )
        ).get_concrete_function(*(tf.TensorSpec(a.shape, a.dtype) for a in arguments))
        counts = operations(traced)
        # The rows and their weights.
        assert counts[REUSING] == (2 if in_place else 0)
        assert counts["TensorScatterAdd"] == (0 if in_place else 2)
        found[in_place] = [np.asarray(leaf) for leaf in traced(*arguments)]
    for copied, reused in zip(found[False], found[True]):
        np.testing.assert_array_equal(copied, reused)
    np.testing.assert_array_equal(found[True][0][2], np.arange(5))
    # Arguments that somebody else holds stay as they were.
    np.testing.assert_array_equal(arguments[0], values)


def test_rounds_are_the_same_and_only_graphs_reuse(make_linear_task, monkeypatch):
    generator = np.random.default_rng(1)
    clients = {
        f"client{i}": (generator.normal(size=(3, 2)), generator.normal(size=3))
        for i in range(5)
    }
    task = make_linear_task(clients)
    process = processes.build_fed_avg(
        task,
        client_optimizer=SGD(0.1),
        # Six rows, which no other test has: programs are shared.
        aggregator=StackingFactory(MeanRule(on_breakdown="skip"), capacity=6),
        client_weighting=processes.uniform(),
    )
    replaced: list[int] = []

    def counting(graph_def, original=imports.reuse_buffers):
        replaced.append(original(graph_def))
        return replaced[-1]

    monkeypatch.setattr(imports, "reuse_buffers", counting)
    final = {}
    for compiler in ("xla", "graph"):
        replaced.clear()
        mode = runtime.Mode("folded", compiler)
        with runtime.in_process(process, mode=mode, chunk_size=2) as engine:
            state = engine.initialize()
            for round_number in (1, 2):
                cohort = task.train.cohort(
                    task.train.client_ids, seed=0, round_number=round_number
                )
                state, _ = engine.next(state, cohort)
        assert replaced == ([2] if compiler == "graph" else [])
        weights = state.global_model_weights.trainable
        final[compiler] = np.concatenate([np.ravel(w) for w in weights])
    np.testing.assert_allclose(final["graph"], final["xla"], rtol=1e-6, atol=1e-7)
    assert np.abs(final["graph"] - [0.5, -0.25, 0.1]).max() > 0.01
