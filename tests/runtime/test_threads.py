"""Engines in threads beside each other, and inside a running event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context as tf_context
from toy_processes import OURS, assert_same, cohorts_of, leaves, make_task, rounds_of

from tfl_research import _tff_compat, processes, runtime
from tfl_research.runtime import Mode
from tfl_research.runtime.compiler import families

GRAPH = Mode("folded", "graph")


def trained(name="gaussian", make=lambda p: runtime.in_process(p, mode=GRAPH)):
    """Three rounds of a process that is built for them."""
    task = make_task()
    process = processes.build_fed_avg(task, **OURS[name])
    return rounds_of(make(process), cohorts_of(task))


@pytest.fixture(scope="module")
def expected():
    return {name: trained(name) for name in ("gaussian", "fed_avg")}


def assert_identical(one, other):
    for a, b in zip(leaves(one), leaves(other)):
        np.testing.assert_array_equal(a, b)


def test_in_process_inside_a_running_event_loop(expected):
    async def main():
        ticks = asyncio.create_task(asyncio.sleep(0))
        result = trained()
        await ticks
        return result

    assert_identical(asyncio.run(main()), expected["gaussian"])


@pytest.mark.slow
def test_tff_local_inside_a_running_event_loop(expected):
    async def main():
        return trained(make=runtime.tff_local)

    assert_same(asyncio.run(main()), expected["gaussian"])


def test_digests_inside_a_running_event_loop():
    process = processes.build_fed_avg(make_task(), **OURS["fed_avg"])

    async def main():
        return runtime.computation_digests(process)

    again = processes.build_fed_avg(make_task(), **OURS["fed_avg"])
    assert asyncio.run(main()) == runtime.computation_digests(again)


def test_threads_that_compile_at_once_do_not_disturb_each_other(expected):
    """Two equal processes, which share programs, and one of another kind."""
    families.forget()
    names = ("gaussian", "gaussian", "fed_avg")
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        for name, result in zip(names, pool.map(trained, names)):
            assert_identical(result, expected[name])


def test_one_process_in_two_engines_at_once(expected):
    task = make_task()
    process = processes.build_fed_avg(task, **OURS["gaussian"])

    def go(_):
        return rounds_of(runtime.in_process(process, mode=GRAPH), cohorts_of(task))

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for result in pool.map(go, range(2)):
            assert_identical(result, expected["gaussian"])


@pytest.mark.slow
def test_tff_local_in_a_thread_beside_the_main_thread(expected):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        beside = pool.submit(trained, "gaussian", runtime.tff_local)
        here = trained("fed_avg", runtime.tff_local)
        assert_same(beside.result(), expected["gaussian"])
    assert_same(here, expected["fed_avg"])


def test_calls_keep_the_callers_other_options():
    """The executor, and TensorFlow's settings; also where a call fails."""
    options = tf_context.FunctionCallOptions("SINGLE_THREADED_EXECUTOR")
    context, seen = tf_context.context(), []

    class Function:
        def _inference_function(self, value):
            seen.append(context.function_call_options)
            return [1 / value]

    before, call = context.function_call_options, _tff_compat.flat_call(Function())
    context.function_call_options = options
    try:
        assert call(2) == [0.5]
        with pytest.raises(ZeroDivisionError):
            call(0)
        assert context.function_call_options is options
    finally:
        context.function_call_options = before
    assert [used.executor_type for used in seen] == ["SINGLE_THREADED_EXECUTOR"] * 2
    for used in seen:
        config = tf.compat.v1.ConfigProto.FromString(used.config_proto_serialized)
        assert config.graph_options.rewrite_options.memory_optimization == 1


@pytest.mark.slow
def test_sums_of_large_tensors_in_two_threads():
    """TensorFlow's memory optimizer would give both the same temporary variable.

    It takes 256 MB for the memory of a CPU, and changes functions that need most of it.
    """

    def body(step, value):
        terms = [tf.sin(value + float(k)) for k in range(12)]
        return step + 1, tf.add_n(terms) / 12.0

    @tf.function(input_signature=[tf.TensorSpec([5_000_000])], autograph=False)
    def summed(start):
        return tf.while_loop(lambda step, _: step < 3, body, (0, start))[1]

    call = _tff_compat.flat_call(summed.get_concrete_function())
    start = tf.fill([5_000_000], 0.5)
    alone = call(start)[0][:2].numpy()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = pool.map(lambda _: call(start)[0][:2].numpy(), range(4))
        assert [list(each) for each in both] == [list(alone)] * 4
