"""Runs in threads beside each other, inside an event loop, and interleaved."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import io
import signal
import threading

import fake_experiment as fake
import pytest
from test_loop import same_state

from tfl_research import program
from tfl_research.interrupts import raised_on_signals


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole")
    return path, fake.run(path)


def test_two_runs_at_once_are_those_of_one_after_the_other(tmp_path, whole, capsys):
    path, expected = whole
    barrier = threading.Barrier(2, timeout=30)

    class InStep(fake.Engine):
        """Rounds of the two runs take turns."""

        def next(self, state, cohort):
            barrier.wait()
            return super().next(state, cohort)

    streams = [io.StringIO(), io.StringIO()]

    def go(index):
        return fake.run(tmp_path / str(index), engine=InStep(7), stream=streams[index])

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        beside = pool.submit(go, 1)
        results = [go(0), beside.result()]
    for index, result in enumerate(results):
        same_state(result.state, expected.state)
        assert fake.without_seconds(tmp_path / str(index)) == fake.without_seconds(path)
        text = streams[index].getvalue()
        assert text.count("round 6/6") == 1
        assert str(tmp_path / str(1 - index)) not in text
    # Everything went to the streams that were given.
    assert capsys.readouterr().out == ""


def test_a_run_in_a_thread_leaves_signals_alone(tmp_path):
    seen = []

    class Watching(fake.Engine):
        def next(self, state, cohort):
            seen.append(signal.getsignal(signal.SIGINT))
            return super().next(state, cohort)

    before = signal.getsignal(signal.SIGINT)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(fake.run, tmp_path, engine=Watching(7)).result()
    assert seen == [before] * 6


def test_runs_inside_a_running_event_loop(tmp_path, whole):
    path, expected = whole
    ticks = []

    async def main():
        async def tick():
            while True:
                ticks.append(1)
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        result = fake.run(tmp_path / "run")
        with fake.arguments(tmp_path / "rounds") as given:
            for _ in program.rounds(**given):
                # Other tasks go on between the rounds.
                await asyncio.sleep(0)
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
        return result

    same_state(asyncio.run(main()).state, expected.state)
    for name in ("run", "rounds"):
        assert fake.without_seconds(tmp_path / name) == fake.without_seconds(path)
    assert len(ticks) >= 5


def test_rounds_of_two_runs_in_turns(tmp_path, whole):
    path, _ = whole
    with contextlib.ExitStack() as stack:
        runs = [
            program.rounds(**stack.enter_context(fake.arguments(tmp_path / name)))
            for name in "ab"
        ]
        pairs = [(a.round_number, b.round_number) for a, b in zip(*runs)]
        # zip leaves the second generator before its end.
        runs[1].close()
    assert pairs == [(n, n) for n in range(1, 7)]
    for name in "ab":
        assert fake.without_seconds(tmp_path / name) == fake.without_seconds(path)


def test_a_handler_that_python_cannot_set_again_stays(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    with raised_on_signals():
        monkeypatch.undo()
        assert signal.getsignal(signal.SIGTERM) is before
