"""The measurement that chooses how clients are executed."""

import types

import numpy as np
import pytest

from tfl_research.runtime import Mode
from tfl_research.runtime.compiler import choice, chunks

XLA, GRAPH = Mode("folded", "xla"), Mode("folded", "graph")


class Programs:
    """Programs whose executions take the given seconds, one after another."""

    vectorises = False

    def __init__(self, seconds):
        self.now = 0.0
        self.executed = []
        self._seconds = {mode: iter(given) for mode, given in seconds.items()}

    def start(self, mode):
        return lambda state: state

    def chunk(self, mode):
        def execute(*_):
            self.executed.append(mode)
            self.now += next(self._seconds[mode])

        return execute


@pytest.fixture
def measured(monkeypatch):
    def measure(seconds):
        programs = Programs(seconds)
        clock = types.SimpleNamespace(perf_counter=lambda: programs.now)
        monkeypatch.setattr(choice, "time", clock)
        chunk = chunks.Chunk([np.zeros([8, 1], np.float32)], 8, ["c"] * 8)
        best, _ = choice._measured(programs, [], chunk, [XLA, GRAPH])
        return best, programs.executed

    return measure


@pytest.mark.parametrize("slow", [1, 2])
def test_one_slow_execution_does_not_choose(measured, slow):
    """The compilation is the first execution, and does not count."""
    xla = [2.0, 0.1, 0.1, 0.1]
    xla[slow] = 0.9
    best, executed = measured({XLA: xla, GRAPH: [0.5, 0.2, 0.2, 0.2]})
    assert best == XLA
    assert executed[2:] == [XLA, GRAPH] * 2


def test_short_executions_are_repeated_three_times(measured):
    best, executed = measured({XLA: [2.0, *[0.02] * 3], GRAPH: [0.1, *[0.01] * 3]})
    assert best == GRAPH
    assert executed == [XLA, GRAPH] * 4


def test_very_long_executions_are_not_repeated(measured):
    best, executed = measured({XLA: [9.0, 5.0], GRAPH: [9.0, 4.0]})
    assert best == GRAPH
    assert executed == [XLA, GRAPH] * 2
