"""Threads of an operation, and jobs on all cores."""

from __future__ import annotations

import io
import json
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tfl_research as tfl
from tfl_research import runtime
from tfl_research.errors import UserError
from tfl_research.experiment import setup as setups
from tfl_research.experiment.running import engines, execution
from tfl_research.runtime import Mode, cores, placement
from tfl_research.runtime.kept_execution import (
    Execution,
    KeptExecution,
    operation_threads,
)

CONFIG = tf.config.threading
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def has_started():
    """TensorFlow has executed an operation in this process."""
    tf.constant(1.0) + 1.0


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(cores, "available", lambda: 4)
    monkeypatch.delenv(cores.VARIABLE, raising=False)
    monkeypatch.setattr(CONFIG, "get_intra_op_parallelism_threads", lambda: 0)


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("clients", "threads"), [(4, 1), (4.5, 1), (100, 1), (3.9, None), (1, None)]
)
def test_one_thread_if_each_core_has_a_client(clients, threads):
    assert cores.threads_for_rounds(clients) == threads


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("given", "threads"), [("3", 3), ("0", 4), ("", 4), ("many", 4), ("-1", 4)]
)
def test_the_environment_decides_first(monkeypatch, given, threads):
    monkeypatch.setenv(cores.VARIABLE, given)
    assert cores.operation_threads() == threads
    assert cores.threads_for_rounds(100) == (None if given == "3" else 1)


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(("threads", "jobs"), [(1, 4), (2, 2), (3, 1), (4, 1), (9, 1)])
def test_jobs_fill_the_cores(monkeypatch, threads, jobs):
    monkeypatch.setattr(CONFIG, "get_intra_op_parallelism_threads", lambda: threads)
    assert cores.jobs_at_once() == jobs
    monkeypatch.setattr(tf.config, "functions_run_eagerly", lambda: True)
    assert cores.jobs_at_once() == 1


@pytest.mark.usefixtures("has_started")
def test_the_number_stays_once_tensorflow_has_started():
    now = cores.operation_threads()
    assert cores.set_operation_threads(now)
    assert not cores.set_operation_threads(now + 1)
    assert cores.operation_threads() == now
    with pytest.raises(UserError, match=f"threads={now + 1}: .* started with {now} "):
        runtime.prepare(operation_threads=now + 1)
    with pytest.raises(ValueError, match="at least one thread, got 0"):
        runtime.prepare(operation_threads=0)


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_results_come_in_order(monkeypatch, at_once):
    monkeypatch.setattr(cores, "jobs_at_once", lambda: at_once)
    taken, running, lock = [], [], threading.Lock()
    most = 0
    last = threading.Event()

    def call(number):
        nonlocal most
        with lock:
            running.append(number)
            most = max(most, len(running))
        if number == 0 and at_once > 1:
            # Later jobs are computed before the first one is done.
            assert last.wait(60)
        if number == at_once - 1:
            last.set()
        with lock:
            running.remove(number)
        return number * number

    def calls():
        for number in range(7):
            taken.append(number)
            yield lambda number=number: call(number)

    results = cores.on_all_cores(calls())
    assert next(results) == 0
    assert len(taken) == (1 if at_once == 1 else at_once + 1)
    assert list(results) == [1, 4, 9, 16, 25, 36]
    assert most <= at_once
    assert list(cores.on_all_cores(iter([]))) == []


def test_an_error_of_a_job_is_raised_in_its_place(monkeypatch):
    monkeypatch.setattr(cores, "jobs_at_once", lambda: 2)
    results = cores.on_all_cores(iter([lambda: 1, lambda: 1 // 0, lambda: 3]))
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_another_number_does_not_go_on(tmp_path):
    path = tmp_path / "runtime.json"
    keep = KeptExecution(path, b"key")
    keep.write(Execution(Mode(), 2, "given", "none", 3))
    kept = keep.read()
    assert kept == Execution(Mode(), 2, "given", "none", 3)
    assert operation_threads(path) == 3
    keep.check(kept, "none", 3)
    with pytest.raises(UserError, match=r"3 threads .* 1 thread .*THREADS=3"):
        keep.check(kept, "none", 1)


def test_files_of_earlier_versions_go_on_with_any_number(tmp_path):
    path = tmp_path / "runtime.json"
    path.write_text('{"clients": "folded", "compiler": "xla", "parallel": 2}')
    keep = KeptExecution(path, b"")
    assert keep.read().operation_threads is None
    assert operation_threads(path) is None
    keep.check(keep.read(), "none", 7)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", '{"operation_threads": "x"}', '{"operation_threads": 0}'),
        *('{"operation_threads": -3}', '{"operation_threads": 1000000}', "1", "null"),
    ],
)
def test_a_damaged_file_sets_nothing(tmp_path, text):
    path = tmp_path / "runtime.json"
    path.write_text(text)
    assert operation_threads(path) is None
    assert operation_threads(tmp_path / "missing.json") is None


@pytest.mark.skipif(not 2 <= cores.available() <= 4, reason="needs 2 to 4 cores")
@pytest.mark.usefixtures("has_started")
def test_a_command_line_takes_one_thread_and_its_run_keeps_it(tmp_path):
    folder = tmp_path / "run"
    flags = {
        "task": "heart",
        "cohort_size": "4",
        "rounds": "2",
        "client_execution": "folded_graph",
        "output_dir": str(folder),
    }
    command = [sys.executable, str(ROOT / "experiments" / "fed_avg.py")]
    command += [f"--{name}={value}" for name, value in flags.items()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "runtime.json").read_text())["operation_threads"] == 1
    before = {
        path: path.read_bytes()
        for path in folder.rglob("*")
        # A lock has the number of the last process.
        if path.is_file() and not path.name.endswith("lock")
    }
    experiment = tfl.Experiment.from_flat({**_PARSED, "rounds": 3}, name="fed_avg")
    # TensorFlow has started in this process, with another number.
    with pytest.raises(UserError, match="with 1 thread for each operation"):
        experiment.run(folder)
    for path, content in before.items():
        assert path.read_bytes() == content
    here = experiment.run(tmp_path / "here")
    losses = pd.read_csv(folder / "metrics.csv")["train_loss"]
    np.testing.assert_allclose(here.metrics["train_loss"][:2], losses, rtol=1e-5)


_PARSED = {"task": "heart", "cohort_size": 4.0, "client_execution": "folded_graph"}


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("is_ours", "parts", "clients", "kept", "asked"),
    [
        (True, {}, 4, None, 1),
        (True, {}, 3, None, None),
        # Known only later, as for a process of the user's own.
        (True, {}, None, None, None),
        (False, {}, 4, None, None),
        (True, {"accelerator": "gpu"}, 4, None, None),
        (True, {"client_execution": "separate_xla"}, 4, None, None),
        (True, {"runtime": "tff"}, 4, None, None),
        (True, {"operation_threads": 3}, 4, None, 3),
        # A run's earlier rounds decide.
        (True, {}, 3, 1, 1),
        (True, {}, 4, 7, 7),
        (False, {}, 4, 7, 7),
        (False, {"client_execution": "separate_xla"}, None, 7, 7),
        (True, {"runtime": "tff"}, 4, 7, None),
        # Of an earlier version, which did not keep the number.
        (True, {}, 4, "none", None),
    ],
)
def test_who_chooses_the_number(
    monkeypatch, tmp_path, is_ours, parts, clients, kept, asked
):
    ours = threading.Event()
    if is_ours:
        ours.set()
    monkeypatch.setattr(engines, "_is_ours", ours)
    monkeypatch.setattr(engines.progress, "stage", lambda *_: None)
    monkeypatch.setattr(runtime, "prepare", _prepare_without_gpus)
    found = []
    monkeypatch.setattr(
        cores, "set_operation_threads", lambda number: found.append(number) or True
    )
    if kept is not None:
        KeptExecution(tmp_path / "runtime.json", b"").write(
            Execution(Mode(), 4, "given", "none", None if kept == "none" else kept)
        )
    engines.use_devices(tfl.Runtime(**parts), io.StringIO(), tmp_path, clients)
    assert found == ([] if asked is None else [asked])


@pytest.mark.parametrize(
    ("parts", "clients"),
    [
        ({}, 3.0),
        ({"aggregator": "clipping"}, 3.0),
        ({"aggregator": "coordinate_median"}, None),
        ({"attack": tfl.Attack("sign_flip")}, None),
        ({"aggregator": tff.aggregators.MeanFactory()}, None),
        ({"privacy": tfl.UserLevelPrivacy(noise_multiplier=1.0)}, None),
    ],
)
def test_servers_that_do_more_than_add_keep_all_cores(parts, clients):
    experiment = tfl.Experiment(
        "heart", cohorts=tfl.Cohorts("fixed", cohort_size=3), **parts
    )
    assert execution._clients_alone(setups.prepare(experiment)) == clients


def _prepare_without_gpus(accelerator, *, operation_threads):
    return placement.prepare(operation_threads=operation_threads)


@pytest.mark.usefixtures("has_started")
def test_a_number_that_is_given_too_late_is_refused(tmp_path):
    experiment = tfl.Experiment("heart", runtime=tfl.Runtime(operation_threads=77))
    with pytest.raises(UserError, match="operation_threads=77: TensorFlow has started"):
        experiment.run(tmp_path / "run")


@pytest.mark.parametrize("kind", ["tff", "remote", "federation"])
def test_the_number_goes_with_in_process_alone(kind):
    more = {"remote": {"workers": "a:1"}, "federation": {"federation": "x.toml"}}
    with pytest.raises(tfl.SettingError, match="operation_threads"):
        tfl.Runtime(kind, operation_threads=1, **more.get(kind, {})).check()
