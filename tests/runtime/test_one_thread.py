"""The parts of programs that one thread computes."""

import os

import numpy as np
import pytest
import tensorflow as tf

from tfl_research.runtime.compiler import families, xla
from tfl_research.runtime.compiler.shared_programs import SharedPrograms
from tfl_research.runtime.tracing.one_thread import on_one_thread


def test_it_gives_what_the_part_gives():
    outside = tf.constant([10.0, 20.0])

    @tf.function
    def whole(pair, scale):
        def part(given, factor):
            return [given[0] * factor + outside, given[1], tf.constant(True)]

        return on_one_thread(part)(pair, scale)

    first, second, third = whole([tf.ones([2]), tf.constant(7)], tf.constant(3.0))
    np.testing.assert_array_equal(first, [13.0, 23.0])
    assert int(second) == 7
    assert bool(third)


def test_a_failure_is_the_failure_of_the_part():
    @tf.function
    def whole(x):
        return on_one_thread(lambda y: [tf.debugging.check_numerics(y, "bad")])(x)

    with pytest.raises(tf.errors.InvalidArgumentError, match="bad"):
        whole(tf.constant(np.nan))


def test_one_thread_is_all_that_the_part_may_take():
    compiled = tf.function(lambda x: [tf.matmul(x, x)], jit_compile=True)
    whole = tf.function(on_one_thread(compiled), autograph=False)
    graph = whole.get_concrete_function(tf.ones([8, 8])).graph
    maps = [op for op in graph.get_operations() if op.type == "MapDefun"]
    assert [op.get_attr("max_intra_op_parallelism") for op in maps] == [1]
    assert not [op for op in graph.get_operations() if "Call" in op.type]


@pytest.mark.parametrize("flags", ["", "--xla_cpu_multi_thread_eigen=false"])
def test_engines_leave_xla_the_products_of_a_pool(monkeypatch, flags):
    monkeypatch.setenv("XLA_FLAGS", flags)
    xla.set_flags()
    own = "--xla_cpu_enable_fast_min_max=false"
    assert os.environ["XLA_FLAGS"] == f"{flags} {own}".strip()


@pytest.mark.parametrize("compiled", [True, False])
def test_a_program_that_xla_compiles_has_one_thread(compiled):
    shared = SharedPrograms()
    signature, key = [tf.TensorSpec([], tf.float32)], ("test_one_thread", compiled)
    program = shared.program(key, lambda x: [x + 1.0], signature, compiled, [])
    assert float(program(tf.constant(2.0))[0]) == 3.0
    traced = families.known((key, compiled, (), repr(signature), ())).whole(()).function
    kinds = {op.type for op in traced.graph.get_operations()}
    assert ("MapDefun" in kinds) == compiled
