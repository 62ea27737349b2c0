"""The measurement that chooses how clients are executed."""

import signal
import types

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import interrupts
from tfl_research.runtime import Mode
from tfl_research.runtime.compiler import chunks, measurement

XLA, GRAPH = Mode("folded", "xla"), Mode("folded", "graph")
AT_ONCE = Mode("vectorised", "xla")


class Programs:
    """Programs whose executions take the given seconds, one after another."""

    vectorises = False
    step_bound = 0

    def __init__(self, seconds, sizes, cores):
        self.work = types.SimpleNamespace(sizes=sizes)
        self.now = self.cpu = 0.0
        self._cores = cores
        self.executed = []
        self.clients = []
        self._seconds = {mode: iter(given) for mode, given in seconds.items()}

    def start(self, mode):
        return lambda state: state

    def chunk(self, mode):
        def execute(context, leaves, count):
            self.executed.append(mode)
            self.clients.append(int(count))
            taken = next(self._seconds[mode])
            if isinstance(taken, Exception):
                raise taken
            self.now += taken
            self.cpu += taken * self._cores.get(mode, 1)

        return execute


@pytest.fixture
def measured(monkeypatch):
    def measure(seconds, sizes=(100, 100), cores=None, fills_cores=False, clients=0):
        programs = Programs(seconds, sizes, cores or {})
        programs.vectorises = clients > 0
        clock = types.SimpleNamespace(
            perf_counter=lambda: programs.now, process_time=lambda: programs.cpu
        )
        monkeypatch.setattr(measurement, "time", clock)
        chunk = chunks.Chunk([np.full([8], 4, np.int32)], 8, ["c"] * 8)
        best, measure.reason = measurement.measured(
            programs,
            [],
            chunk,
            [XLA, GRAPH],
            fills_cores=fills_cores,
            cohort_size=clients,
        )
        return best, programs.executed, programs.clients

    return measure


@pytest.mark.parametrize("slow", [1, 2])
def test_one_slow_execution_does_not_choose(measured, slow):
    """The compilation is the first execution, and does not count."""
    xla = [2.0, 0.1, 0.1, 0.1]
    xla[slow] = 0.9
    best, executed, _ = measured({XLA: xla, GRAPH: [0.5, 0.2, 0.2, 0.2]})
    assert best == XLA
    assert executed[2:] == [XLA, GRAPH] * 2


def test_short_executions_are_repeated_three_times(measured):
    """The programs are compiled, and tried, on one client."""
    best, executed, clients = measured(
        {XLA: [2.0, *[0.02] * 4], GRAPH: [0.1, *[0.01] * 4]}
    )
    assert best == GRAPH
    assert executed == [XLA, GRAPH] * 5
    assert clients == [1] * 4 + [8] * 6


def test_the_first_turn_does_not_choose_where_others_follow(measured):
    """A program that is slow on several clients, but not on one."""
    best, _, _ = measured({XLA: [2.0, 0.01, *[0.09] * 3], GRAPH: [0.1, *[0.04] * 4]})
    assert best == GRAPH


@pytest.mark.parametrize("client_seconds", [0.0001, 0.0003])
@pytest.mark.parametrize("clients", [8, 900, 1100])
def test_clients_at_once_are_tried_for_many_short_clients(
    measured, client_seconds, clients
):
    """A vectorised program compiles for seconds, which a few clients never win back."""
    # A chunk of eight is measured.
    both = [0.1, *[8 * client_seconds] * 9]
    best, executed, _ = measured(
        {
            XLA: both,
            GRAPH: [0.1, *[0.01] * 9],
            AT_ONCE: [6.0, *[4 * client_seconds] * 4],
        },
        clients=clients,
    )
    tried = client_seconds < 0.0002 and clients > 1000
    assert (AT_ONCE in executed) == tried
    assert best == (AT_ONCE if tried else XLA)


def test_a_signal_is_not_taken_for_a_mode_that_cannot(measured):
    """TensorFlow turns the exception of a signal into others."""
    error = RuntimeError("ORIGINAL InvalidArgumentError REPLACED BY Interrupt")
    signals = interrupts.Signals()
    signals.number = signal.SIGTERM
    for xla in ([error], [2.0, 0.01, error]):
        with interrupts.raised_on_signals(signals), pytest.raises(interrupts.Interrupt):
            measured({XLA: xla, GRAPH: [0.1] * 9})


def test_long_clients_are_measured_alone(measured):
    best, executed, clients = measured({XLA: [9.0, 0.8, 0.8], GRAPH: [9.0, 0.9, 0.7]})
    assert best == GRAPH
    assert executed == [XLA, GRAPH] * 3
    assert set(clients) == {1}


def test_very_long_executions_are_not_repeated(measured):
    best, executed, _ = measured({XLA: [9.0, 5.0], GRAPH: [9.0, 4.0]})
    assert best == GRAPH
    assert executed == [XLA, GRAPH] * 2


def test_a_program_that_fails_on_several_clients_is_not_chosen(measured):
    full = tf.errors.ResourceExhaustedError(None, None, "no memory")
    best, executed, _ = measured({XLA: [2.0, 0.01, full], GRAPH: [0.5, *[0.05] * 4]})
    assert best == GRAPH
    assert executed.count(XLA) == 3
    bad = tf.errors.InvalidArgumentError(None, None, "a label is out of range")
    with pytest.raises(tf.errors.InvalidArgumentError, match="out of range"):
        measured({XLA: [2.0, *[0.01] * 4], GRAPH: [0.5, 0.05, bad]})


ALONE = {XLA: [9.0, *[0.3] * 3], GRAPH: [9.0, *[0.2] * 3]}


class TestCores:
    """A chunk alone can use several cores; a round with many chunks needs them all."""

    def test_the_time_of_all_cores_counts_where_a_round_fills_them(self, measured):
        best, *_ = measured(ALONE, cores={GRAPH: 2}, fills_cores=True)
        assert best == XLA
        assert "on all cores together" in measured.reason
        assert "300.00 ms" in measured.reason
        assert "400.00 ms" in measured.reason

    def test_the_chunk_s_own_time_counts_otherwise(self, measured):
        best, *_ = measured(ALONE, cores={GRAPH: 2})
        assert best == GRAPH
        assert "200.00 ms" in measured.reason

    def test_short_times_of_cores_are_not_known(self, measured):
        seconds = {XLA: [2.0, *[0.016] * 4], GRAPH: [0.1, *[0.012] * 4]}
        best, *_ = measured(seconds, cores={GRAPH: 2}, fills_cores=True)
        assert best == GRAPH

    def test_a_program_that_fails_is_not_chosen(self, measured):
        full = tf.errors.ResourceExhaustedError(None, None, "no memory")
        seconds = {XLA: [2.0, 0.01, full], GRAPH: [0.5, *[0.5] * 4]}
        best, *_ = measured(seconds, cores={GRAPH: 2}, fills_cores=True)
        assert best == GRAPH


class TestManyOperations:
    """XLA takes long to compile them. A client executes 1000 + 4 x 1500."""

    def test_long_ones_are_not_compiled(self, measured):
        best, executed, clients = measured(
            {GRAPH: [9.0, 0.16, 0.15]}, sizes=[1000, 1500]
        )
        assert best == GRAPH
        assert executed == [GRAPH] * 3
        assert set(clients) == {1}

    def test_short_ones_are_measured_under_both_compilers(self, measured):
        """The first of two equal modes is chosen, as ever."""
        best, executed, _ = measured(
            {XLA: [9.0, *[0.11] * 3], GRAPH: [9.0, *[0.11] * 4]}, sizes=[1000, 1500]
        )
        assert best == XLA
        assert executed == [GRAPH, GRAPH, XLA, *[XLA, GRAPH] * 3]

    def test_one_slow_moment_does_not_decide(self, measured):
        best, executed, _ = measured(
            {XLA: [9.0, *[0.05] * 3], GRAPH: [9.0, 0.9, *[0.11] * 4]},
            sizes=[1000, 1500],
        )
        assert best == XLA
        assert executed[:4] == [GRAPH, GRAPH, GRAPH, XLA]

    def test_nobody_knows_how_often_inner_loops_are_executed(self, measured):
        best, executed, _ = measured(
            {XLA: [9.0, 0.8, 0.8], GRAPH: [9.0, 0.9, 0.9]}, sizes=[1000, 1500, 1]
        )
        assert best == XLA
        assert executed == [XLA, GRAPH] * 3

    def test_a_program_that_cannot_be_built_decides_nothing(self, measured):
        best, *_ = measured(
            {XLA: [9.0, 0.8, 0.8], GRAPH: [NotImplementedError()]},
            sizes=[1000, 1500],
        )
        assert best == XLA
