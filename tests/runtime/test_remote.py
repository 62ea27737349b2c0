"""Rounds on two TFF workers that listen on this machine."""

import os
import signal
import threading

import numpy as np
import pytest
import tensorflow_federated as tff
from toy_processes import (
    OURS,
    assert_same,
    client_datasets,
    cohorts_of,
    leaves,
    make_task,
    rounds_of,
    sgd,
    slow_process,
    summing_process,
    tff_processes,
)

from tfl_research import aggregators, processes, runtime
from tfl_research.aggregators import CoordinateMedian, Krum, StackingFactory
from tfl_research.runtime import Mode
from tfl_research.runtime.workers import session
from tfl_research.runtime.workers.pool import consecutive

GRAPH = Mode("folded", "graph")


@pytest.fixture(scope="module")
def addresses(workers):
    return [worker.address for worker in workers]


def robust(rule, capacity=7):
    return {
        "client_optimizer": sgd(),
        "client_weighting": processes.uniform(),
        "aggregator": StackingFactory(rule, capacity=capacity),
    }


PROCESSES = {
    **{name: OURS[name] for name in ("fed_avg", "secure", "adaptive_gaussian")},
    "median": robust(CoordinateMedian(on_breakdown="skip")),
    "krum": robust(Krum(byzantine=1, on_breakdown="skip")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_rounds_are_those_of_the_other_runtimes(addresses, name):
    task = make_task()
    process = processes.build_fed_avg(task, **PROCESSES[name])
    cohorts = cohorts_of(task)
    expected = rounds_of(runtime.in_process(process, mode=GRAPH), cohorts)
    engine = runtime.remote(process, addresses, mode=GRAPH)
    assert_same(rounds_of(engine, cohorts), expected)


@pytest.mark.slow
def test_stacks_of_two_workers_that_do_not_fit_into_one(addresses):
    task = make_task()
    arguments = robust(CoordinateMedian(on_breakdown="skip"), capacity=4)
    process = processes.build_fed_avg(task, **arguments)
    # Six clients have examples, three of them in each part.
    engine = runtime.remote(process, addresses, mode=GRAPH)
    _, history = rounds_of(engine, cohorts_of(task)[:1])
    measured = history[0]["aggregator"]
    assert (int(measured["stacked"]), int(measured["dropped"])) == (4, 2)


@pytest.mark.slow
def test_datasets_of_tffs_own_processes(addresses):
    process = tff_processes()["weighted_fed_avg"]()
    values = client_datasets()
    rounds = [values, values[:1], values[1:]]
    assert_same(
        rounds_of(runtime.remote(process, addresses), rounds),
        rounds_of(runtime.in_process(process), rounds),
    )


class TestSums:
    """A process that only adds its clients' numbers."""

    @pytest.fixture(scope="class")
    def process(self):
        return summing_process(tff.federated_sum)

    @pytest.mark.parametrize("values", [[], [5], [1, 2], [1, 2, 3, 4, 5]], ids=len)
    def test_cohorts_of_any_size(self, addresses, process, values):
        with runtime.remote(process, addresses) as engine:
            state, total = engine.next(engine.initialize(), values)
        assert int(total) == int(state) == sum(values)

    def test_secure_sums_are_sums(self, addresses):
        process = summing_process(lambda v: tff.federated_secure_sum(v, 9))
        with runtime.remote(process, addresses) as engine:
            _, total = engine.next(engine.initialize(), [1, 2, 9])
        assert int(total) == 12

    def test_more_workers_than_answer(self, addresses, process):
        said = []
        away = f"localhost:{_unused_port()}"
        with runtime.remote(
            process, [away, *addresses], connect_seconds=1.0, on_change=said.append
        ) as engine:
            state, _ = engine.next(engine.initialize(), [1, 2, 3, 4])
            _, total = engine.next(state, [5, 6])
        assert int(total) == 11
        assert said == [
            f"no TFF worker answers at {away}; other workers compute its part"
        ]

    def test_nobody_answers(self, process):
        away = [f"localhost:{_unused_port()}" for _ in range(2)]
        with (
            runtime.remote(process, away, connect_seconds=0.5) as engine,
            pytest.raises(runtime.WorkerUnavailable) as raised,
        ):
            engine.initialize()
        assert all(address in str(raised.value) for address in away)


def _unused_port():
    import portpicker

    return portpicker.pick_unused_port()


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_computes_and_comes_back(addresses):
    said = []
    lost = runtime.Worker(port=0)
    lost.stub()
    port = int(lost.address.rpartition(":")[2])
    # Only the round in which the worker is killed takes long.
    slow, quick = [200_000, 300_000, 400_000], [200, 300, 400]
    with runtime.remote(
        slow_process(),
        [lost.address, addresses[0]],
        mode=GRAPH,
        connect_seconds=2.0,
        on_change=said.append,
    ) as engine:
        state = engine.initialize()
        # Both have the program then.
        engine.next(state, [1, 1])
        killer = threading.Timer(0.05, os.kill, (lost.pid, signal.SIGKILL))
        killer.start()
        expected = 0
        for values in (slow, quick, quick):
            state, total = engine.next(state, values)
            assert int(total) == sum(values)
            expected += sum(values)
            assert int(state) == expected
        killer.join()
        lost.close()
        assert said == [
            f"no TFF worker answers at 127.0.0.1:{port}; other workers compute its part"
        ]
        again = runtime.Worker(port)
        again.stub()
        try:
            for _ in range(200):
                state, total = engine.next(state, [1, 2])
                assert int(total) == 3
                if len(said) == 2:
                    break
        finally:
            again.close()
    assert said[1:] == [f"the TFF worker at 127.0.0.1:{port} is back"]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["value", "apply", "fetched"])
@pytest.mark.parametrize("round_number", [1, 2])
def test_a_worker_that_is_started_again_within_a_job_changes_no_bit(
    monkeypatch, caplog, step, round_number
):
    """The worker answers again at once, so that only its executors are missing."""
    task = make_task()
    process = processes.build_fed_avg(task, **OURS["fed_avg"])
    cohorts = cohorts_of(task)[:2]
    xla = Mode("folded", "xla")
    workers = [runtime.Worker(port=0)]
    workers[0].stub()
    address = workers[0].address
    expected = rounds_of(runtime.remote(process, [address], mode=xla), cohorts)
    plain, calls = getattr(session.Call, step), []

    def restarted(call, *arguments):
        calls.append(step)
        # Each job sends two values.
        per_round = 2 if step == "value" else 1
        if len(calls) == round_number * per_round:
            workers[0].close()
            workers.append(runtime.Worker(int(address.rpartition(":")[2])))
            workers[1].stub()
        return plain(call, *arguments)

    monkeypatch.setattr(session.Call, step, restarted)
    try:
        found = rounds_of(runtime.remote(process, [address], mode=xla), cohorts)
    finally:
        for worker in workers:
            worker.close()
    assert len(workers) == 2
    for one, other in zip(leaves(found), leaves(expected)):
        np.testing.assert_array_equal(one, other)
    assert "executes such clients" not in caplog.text


@pytest.mark.slow
def test_results_depend_on_the_parts_and_not_on_the_workers(addresses):
    task = make_task()
    process = processes.build_fed_avg(task, client_optimizer=sgd())
    cohorts = cohorts_of(task)

    def run(workers, parts):
        engine = runtime.remote(process, workers, parts=parts, mode=GRAPH)
        return leaves(rounds_of(engine, cohorts))

    alone = run(addresses[:1], 3)
    for other in (run(addresses, 3), run(addresses[::-1], 3)):
        for a, b in zip(alone, other):
            np.testing.assert_array_equal(a, b)


def test_refuses_what_it_cannot_divide():
    task = make_task()
    process = processes.build_fed_avg(
        task,
        client_optimizer=sgd(),
        aggregator=aggregators.RepeatedMeanFactory(steps=2),
    )
    with pytest.raises(runtime.UnsupportedProcess, match=r"runtime\.tff_local"):
        runtime.remote(process, ["localhost:1"])
    values = tff.FederatedType(np.int32, tff.CLIENTS)

    @tff.federated_computation(tff.FederatedType(np.int32, tff.SERVER), values)
    def stays(state, clients):
        return state, clients

    @tff.federated_computation
    def zero():
        return tff.federated_value(0, tff.SERVER)

    at_clients = tff.templates.IterativeProcess(zero, stays)
    with pytest.raises(runtime.UnsupportedProcess, match="stay at clients"):
        runtime.remote(at_clients, ["localhost:1"])


def test_refuses_bad_arguments():
    process = summing_process(tff.federated_sum)
    for addresses, parts, message in (
        ([], None, "at least one worker"),
        (["a:1", "b:1", "a:1"], None, r"\['a:1'\] again"),
        (["a:1"], 0, "parts must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            runtime.remote(process, addresses, parts=parts)


@pytest.mark.parametrize(
    ("count", "parts", "expected"),
    [
        (0, 2, [[]]),
        (1, 2, [[0]]),
        (5, 2, [[0, 1, 2], [3, 4]]),
        (7, 3, [[0, 1, 2], [3, 4], [5, 6]]),
        (3, 1, [[0, 1, 2]]),
    ],
)
def test_consecutive_parts(count, parts, expected):
    assert consecutive(range(count), parts) == expected
