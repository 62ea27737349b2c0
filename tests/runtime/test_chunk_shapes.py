"""Padded shapes of chunks, and modes that chunks of about one shape share."""

import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.runtime import Mode
from tfl_research.runtime.compiler import choice, chunks, families, measurement
from tfl_research.runtime.tracing.graph import Graph

SMALL, LARGE = 100, 2**22


def test_the_first_shapes_have_no_padding():
    shapes = chunks.Shapes()
    assert shapes.padded(5, 7, LARGE) == (5, 7)
    assert shapes.padded(11, 3, LARGE) == (11, 3)
    assert shapes.padded(5, 7, LARGE) == (5, 7)
    assert shapes.padded(13, 5, LARGE) == (16, 6)


def test_a_small_chunk_takes_a_longer_shape_that_was_there():
    shapes = chunks.Shapes()
    assert shapes.padded(6, 20, SMALL) == (6, 20)
    assert shapes.padded(5, 2, SMALL) == (6, 20)
    # The padding would be larger than the chunk.
    assert shapes.padded(5, 2, LARGE) == (5, 2)


def test_padding_clients_are_few_also_in_a_small_chunk():
    """A program for all clients at once computes for padding clients too."""
    shapes = chunks.Shapes()
    assert shapes.padded(10, 20, SMALL) == (10, 20)
    assert shapes.padded(4, 20, SMALL) == (4, 20)


def test_a_small_chunk_has_room_where_clients_are_executed_one_by_one():
    """Cohorts of any size, and clients that are longer, need one shape."""
    shapes = chunks.Shapes(one_by_one=True)
    room = shapes.padded(2, 10, SMALL)
    assert room == (50, 24)
    for clients, steps in ((1, 1), (50, 24), (7, 21)):
        assert shapes.padded(clients, steps, SMALL) == room
    # More clients than a chunk has by default, and longer ones.
    assert shapes.padded(60, 10, SMALL) == (60, 24)
    assert shapes.padded(2, 25, SMALL) == (40, 64)


def test_a_chunk_has_room_within_some_bytes():
    def padded(clients, steps):
        return chunks.Shapes(one_by_one=True).padded(clients, steps, 8 * 2**10)

    assert padded(2, 2) == (8, 4)
    assert padded(1, 5) == (2, 12)
    # With a shape of twice as many steps, this chunk would be too large.
    assert padded(3, 5) == (5, 6)
    assert padded(2, 20) == (2, 20)
    assert padded(40, 1) == (40, 1)


def test_a_chunk_takes_a_roomy_shape_of_another_engine_if_little_is_padding():
    known = {(50, 12)}
    assert chunks.Shapes(known, one_by_one=True).padded(2, 10, SMALL) == (50, 12)
    # Its programs may be for all clients at once.
    assert chunks.Shapes(known).padded(2, 10, SMALL) == (2, 12)


def test_further_values_of_a_client_count():
    def padded(client_bytes):
        shapes = chunks.Shapes({(50, 12)}, one_by_one=True)
        return shapes.padded(2, 10, SMALL, client_bytes=client_bytes)

    assert padded(0) == padded(1_000) == (50, 12)
    # 48 further clients would have half a mebibyte and more: a smaller shape is made.
    assert padded(20 * 2**10) == (11, 24)
    # A loader reads arrays of an unknown size.
    assert padded(None) == (2, 12)


def test_a_new_shape_is_as_long_as_the_longest():
    shapes = chunks.Shapes()
    assert shapes.padded(10, 20, SMALL) == (10, 20)
    assert shapes.padded(3, 2, SMALL) == (3, 20)


def test_engines_that_share_programs_share_shapes():
    known = set()
    first, second = chunks.Shapes(known), chunks.Shapes(known)
    for clients in (5, 7, 9, 11):
        first.padded(clients, 4, LARGE)
    assert known == {(5, 4), (7, 4), (12, 4)}
    for clients in (5, 7, 9, 10, 12):
        second.padded(clients, 4, LARGE)
    assert known == {(5, 4), (7, 4), (12, 4)}
    # Another cohort of a fixed size is no larger for that.
    assert second.padded(100, 4, LARGE) == (100, 4)


@pytest.fixture
def chosen(monkeypatch):
    """Chooses a mode for chunks of some sizes; returns how many were measured."""
    counted = []

    def measured(*_, **__):
        counted.append(1)
        return Mode("folded", "graph"), "measured"

    monkeypatch.setattr(measurement, "measured", measured)
    monkeypatch.setattr(choice.choice_cache, "recall", lambda _: None)
    monkeypatch.setattr(choice.choice_cache, "remember", lambda *_: None)
    work = types.SimpleNamespace(op_types=set(), fingerprint="work")
    programs = types.SimpleNamespace(
        work=work,
        not_for_xla=[],
        vectorises=True,
        measured={},
        measured_alike={},
    )

    def choose(*sizes, hardware="", cohort_size=4):
        for clients, steps in sizes:
            chunk = chunks.Chunk([np.zeros([clients, steps, 3])], clients)
            jobs = iter([lambda chunk=chunk: chunk])
            found = choice.choose(
                programs, [tf.zeros([])], jobs, hardware, cohort_size=cohort_size
            )
            assert found.mode == Mode("folded", "graph")
        return len(counted)

    choose.programs = programs
    return choose


def test_chunks_of_about_one_shape_are_measured_once(chosen):
    assert chosen((2, 10), (3, 10), (8, 3), (2, 10)) == 1


def test_chunks_of_other_shapes_and_machines_are_measured(chosen):
    assert chosen((2, 10), (9, 10), (2, 41)) == 3
    assert chosen((2, 10), hardware="gpu") == 4


def test_a_choice_for_a_few_clients_is_none_for_many(chosen):
    """Chunks have the same shapes, and a vectorised program is tried for many alone."""
    counts = {4: 1, 400: 1, 600: 2, 1_900: 2, 2_100: 3, 30_000: 4, 100: 4, 700: 4}
    for cohort_size, count in counts.items():
        assert chosen((50, 10), cohort_size=cohort_size) == count, cohort_size


def test_the_number_of_clients_decides_nothing_where_none_is_vectorised(chosen):
    chosen.programs.vectorises = False
    assert chosen((50, 10), cohort_size=4) == 1
    assert chosen((50, 10), cohort_size=40_000) == 1
    chosen.programs.vectorises = True
    # GPUs try a vectorised program for any number.
    assert chosen((50, 10), cohort_size=4, hardware="gpu") == 2
    assert chosen((50, 10), cohort_size=40_000, hardware="gpu") == 2


def test_another_number_of_threads_is_measured(chosen, monkeypatch):
    keys = []
    monkeypatch.setattr(choice.choice_cache, "recall", keys.append)
    for number, threads in enumerate([3, 5, 3]):
        monkeypatch.setattr(choice.cores, "operation_threads", lambda n=threads: n)
        assert chosen((2, 10)) == min(number + 1, 2)
    assert keys[0] != keys[1]
    assert keys[0] == keys[2]


def test_modes_are_not_passed_on_from_chunk_to_chunk(chosen):
    """The third chunk is near the second, but not near the measured first."""
    assert chosen((2, 10), (2, 30), (2, 90)) == 2


def test_the_nearest_measured_chunk_counts_and_is_kept(chosen, monkeypatch):
    kept = {}
    monkeypatch.setattr(choice.choice_cache, "remember", kept.__setitem__)
    measured = iter(["first", "second"])
    monkeypatch.setattr(
        measurement,
        "measured",
        lambda *_, **__: (Mode("folded", "graph"), next(measured)),
    )
    chosen((2, 10), (2, 100), (2, 30))
    # 30 is 3 times 10, and 100 is 3.3 times 30.
    assert [found[2] for found in kept.values()] == [
        "first",
        "second",
        "first (a chunk of other sizes, in the same process)",
    ]


def test_a_later_process_needs_the_longest_shape_alone():
    shapes = chunks.Shapes()
    for steps in (3, 5, 4, 3):
        shapes.padded(6, steps, SMALL)
    assert shapes.padded(6, 3, SMALL) == shapes.padded(6, 5, SMALL) == (6, 5)
    assert shapes.padded(6, 3, LARGE) == (6, 3)


def test_processes_share_what_depends_on_the_clients_steps():
    families.forget()
    first = families.family(("mean",), "steps", "sum")
    other = families.family(("attacked mean",), "steps", "sum")
    median = families.family(("median",), "steps", "stack")
    assert families.family(("mean",), "steps", "sum") is first is not other
    assert first.shapes is other.shapes is median.shapes
    assert first.alike is other.alike is not median.alike
    assert first.measured is not other.measured
    longer = families.family(("longer",), "more steps", "sum")
    assert longer.shapes is not first.shapes
    assert longer.alike is not first.alike
    without, loops = families.family(("a",)), families.family(("b",))
    assert without.shapes is not loops.shapes
    assert without.alike is not loops.alike


def test_a_mode_is_taken_from_a_process_whose_clients_take_the_same_steps(
    chosen, monkeypatch
):
    kept = {}
    monkeypatch.setattr(choice.choice_cache, "remember", kept.__setitem__)
    assert chosen((2, 10)) == 1
    chosen.programs.measured = {}
    chosen.programs.work.fingerprint = "attacked"
    assert chosen((3, 10)) == 1
    assert chosen((3, 100)) == 2
    # A choice that was taken is not passed on.
    assert list(chosen.programs.measured) == [(((3, 100, 3),), "")]
    assert [found[2] for found in kept.values()] == [
        "measured",
        "measured (a process whose clients take the same steps)",
        "measured",
    ]


def test_a_mode_that_an_earlier_start_kept_serves_the_same_steps_too(
    chosen, monkeypatch
):
    stored = "folded", "graph", "measured before"
    monkeypatch.setattr(choice.choice_cache, "recall", lambda _: stored)
    assert chosen((2, 10)) == 0
    monkeypatch.setattr(choice.choice_cache, "recall", lambda _: None)
    chosen.programs.measured = {}
    chosen.programs.work.fingerprint = "attacked"
    assert chosen((3, 10)) == 0
    assert chosen((3, 100)) == 1


def test_a_number_for_each_client_does_not_count():
    steps = (5, 6, 20)
    assert choice._ratio([steps, (5,), (5,)], [steps, (5,)]) == 1.0
    assert choice._ratio([steps, (5,)], [(5, 12, 20)]) == 2.0
    assert choice._ratio([(5,), (5,)], [(5,)]) == float("inf")
    assert choice._ratio([(5,)], [(15,)]) == 3.0


def test_the_loops_of_a_graph_do_not_depend_on_what_is_around_them():
    def graph(*, factor, after):
        @tff.tensorflow.computation(np.float32)
        def work(x):
            _, total = tf.while_loop(
                lambda i, _: i < 3,
                lambda i, total: (i + 1, factor(total)),
                (tf.constant(0), x),
            )
            return after(total)

        return Graph(work)

    plain = graph(factor=lambda t: t * 2.5, after=lambda t: t)
    attacked = graph(factor=lambda t: t * 2.5, after=lambda t: -t)
    faster = graph(factor=lambda t: t * 1.5, after=lambda t: t)
    other = graph(factor=lambda t: t + 2.5, after=lambda t: t)
    assert plain.fingerprint != attacked.fingerprint
    assert plain.loops == attacked.loops == faster.loops != other.loops != ""
    no_loop = tff.tensorflow.computation(lambda x: x + 1, np.float32)
    assert Graph(no_loop).loops == ""
